/* Jobs: the rows, the queue order, and moves between states.
 *
 * States are the server's words; the store knows only that finished_us = 0 means "not final". A
 * move and its event are one transaction, and a claim raises the attempt, which fences the writes
 * of a worker whose job was given to another. Thread: any. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"
#include "inner.h"

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

#define JOB_COLUMNS                                                                                \
    "seq, id, name, state, recipe, model_id, model_name, datasets, error, verdict,"                \
    " cancel_requested, attempt, created_us, started_us, finished_us, idempotency_key,"            \
    " request_sha256"

struct job_list {
    SHR_VEC(struct store_job) rows;
    int64_t last_seq[2]; /* of the last row but one, and of the last */
};

static int fill_job(sqlite3_stmt *row, struct store_job *job)
{
    int code = 0;
    struct shr_arena *arena = &job->arena;
    job->id = store_row_text(row, 1, arena, &code);
    job->name = store_row_text(row, 2, arena, &code);
    job->state = store_row_text(row, 3, arena, &code);
    job->recipe = store_row_text(row, 4, arena, &code);
    job->model_id = store_row_text(row, 5, arena, &code);
    job->model_name = store_row_text(row, 6, arena, &code);
    job->datasets = store_row_text(row, 7, arena, &code);
    job->error = store_row_text(row, 8, arena, &code);
    job->verdict = store_row_text(row, 9, arena, &code);
    job->cancel_requested = sqlite3_column_int64(row, 10) != 0;
    job->attempt = sqlite3_column_int64(row, 11);
    job->created_us = sqlite3_column_int64(row, 12);
    job->started_us = sqlite3_column_int64(row, 13);
    job->finished_us = sqlite3_column_int64(row, 14);
    job->idempotency_key = store_row_text(row, 15, arena, &code);
    job->request_sha256 = store_row_text(row, 16, arena, &code);
    return code;
}

static int take_job(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    struct job_list *list = user;
    struct store_job *job = SHR_VEC_ADD(&list->rows);
    list->last_seq[0] = list->last_seq[1];
    list->last_seq[1] = sqlite3_column_int64(row, 0);
    return store__oom(job == NULL ? SHR_ERR_NOMEM : fill_job(row, job), err);
}

void store_job_finish(struct store_job *job)
{
    if (job != NULL) {
        shr_arena_finish(&job->arena);
        *job = (struct store_job){0};
    }
}

static void free_list(struct job_list *list)
{
    for (size_t i = 0; i < list->rows.n; i++) {
        store_job_finish(&list->rows.v[i]);
    }
    SHR_VEC_FINISH(&list->rows);
}

/* The only row of a query; *ret_found tells whether there is one. */
static int load_job(struct store_db *db, const char *sql, const struct store_arg *args,
                    struct store_job *ret, bool *ret_found, struct shr_err *err)
{
    struct job_list list = {0};
    int code = store_db_query(db, sql, args, take_job, &list, err);
    if (code == 0) {
        *ret_found = list.rows.n > 0;
        if (list.rows.n > 0) {
            *ret = list.rows.v[0];
            list.rows.v[0] = (struct store_job){0};
        }
    }
    free_list(&list);
    return code;
}

static int not_found(const char *id, struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOT_FOUND, "job %s does not exist", id);
}

int store__job_find(struct store *store, const char *id, int64_t attempt, int64_t *ret_seq,
                    struct shr_err *err)
{
    int64_t seq = 0;
    bool found = false;
    int code = store_db_int(&store->main, "SELECT seq FROM job WHERE id = ?1",
                            STORE_ARGS(STORE_TEXT(id)), &seq, &found, err);
    if (code != 0 || !found) {
        return code != 0 ? code : not_found(id, err);
    }
    if (attempt != -1) {
        int64_t owner = 0;
        code = store_db_int(&store->main, "SELECT attempt FROM job WHERE seq = ?1",
                            STORE_ARGS(STORE_INT(seq)), &owner, &found, err);
        if (code == 0 && owner != attempt) {
            code =
                shr_err_set(err, SHR_ERR_CONFLICT, "job %s is at attempt %" PRId64 ", not %" PRId64,
                            id, owner, attempt);
        }
    }
    if (code == 0) {
        *ret_seq = seq;
    }
    return code;
}

/* ── Adding ─────────────────────────────────────────────────────────────────────────────────── */

static const char *text_or_empty(const char *s)
{
    return s != NULL ? s : "";
}

/* A job may name only what is there, as what it names cannot be deleted while it is not final. */
static int check_item(struct store *store, const char *kind, const char *id, struct shr_err *err)
{
    int64_t one;
    bool found = false;
    int code = store_db_int(&store->main, "SELECT 1 FROM item WHERE id = ?1 AND kind = ?2",
                            STORE_ARGS(STORE_TEXT(id), STORE_TEXT(kind)), &one, &found, err);
    if (code == 0 && !found) {
        code = shr_err_set(err, SHR_ERR_NOT_FOUND, "%s %s does not exist", kind, id);
    }
    return code;
}

static int check_items(struct store *store, const struct store_job *job, struct shr_err *err)
{
    int code = check_item(store, "model", job->model_id, err);
    const char *at = text_or_empty(job->datasets);
    while (code == 0 && *at != 0) {
        char id[STORE_ID_SIZE];
        size_t n = strcspn(at, " ");
        if (n >= sizeof id) {
            return shr_err_set(err, SHR_ERR_INVALID, "datasets: %.40s is not an id", at);
        }
        memcpy(id, at, n);
        id[n] = 0;
        const char *kind = strncmp(id, "mdl_", 4) == 0 ? "model" : "dataset";
        code = n == 0 ? 0 : check_item(store, kind, id, err);
        at += n + (at[n] == ' ');
    }
    return code;
}

static int count_state(struct store_db *db, const char *state, int64_t *ret, struct shr_err *err)
{
    bool found;
    return store_db_int(db, "SELECT count(*) FROM job WHERE state = ?1",
                        STORE_ARGS(STORE_TEXT(state)), ret, &found, err);
}

/* May the job, new or retried, begin in this state? */
static int check_entry(struct store *store, const struct store_job *job, const char *state,
                       size_t max, struct shr_err *err)
{
    int64_t waiting = 0;
    int code = count_state(&store->main, state, &waiting, err);
    if (code == 0 && (uint64_t)waiting >= max) {
        code = shr_err_set(err, SHR_ERR_LIMIT, "%" PRId64 " jobs are %s, at most %zu", waiting,
                           state, max);
    }
    return code == 0 ? check_items(store, job, err) : code;
}

static int insert(struct store *store, const struct store_job *job, const char *event_data,
                  struct store_job *ret, struct shr_err *err)
{
    char id[STORE_ID_SIZE];
    store_id_new("job", id);
    const char *key = text_or_empty(job->idempotency_key);
    int code = store_db_run(
        &store->main,
        "INSERT INTO job (id, name, state, recipe, model_id, model_name, datasets, error, verdict,"
        " cancel_requested, attempt, created_us, started_us, finished_us, idempotency_key,"
        " request_sha256)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '', '', 0, 0, ?8, 0, 0, nullif(?9, ''), ?10)",
        STORE_ARGS(STORE_TEXT(id), STORE_TEXT(text_or_empty(job->name)), STORE_TEXT(job->state),
                   STORE_TEXT(text_or_empty(job->recipe)), STORE_TEXT(job->model_id),
                   STORE_TEXT(text_or_empty(job->model_name)),
                   STORE_TEXT(text_or_empty(job->datasets)), STORE_INT(store__now_us()),
                   STORE_TEXT(key), STORE_TEXT(text_or_empty(job->request_sha256))),
        err);
    if (code != 0) {
        return code;
    }
    int64_t event;
    bool found;
    code = store__event_append(store, store_db_last_id(&store->main), "state", event_data, &event,
                               err);
    if (code != 0) {
        return code;
    }
    return load_job(&store->main, "SELECT " JOB_COLUMNS " FROM job WHERE id = ?1",
                    STORE_ARGS(STORE_TEXT(id)), ret, &found, err);
}

/* Inside the transaction. A job that has the key is left in *ret with CONFLICT. */
static int add(struct store *store, const struct store_job *job, size_t max_queued,
               const char *event_data, struct store_job *ret, struct shr_err *err)
{
    const char *key = text_or_empty(job->idempotency_key);
    bool found = false;
    int code = 0;
    if (key[0] != 0) {
        code = load_job(&store->main, "SELECT " JOB_COLUMNS " FROM job WHERE idempotency_key = ?1",
                        STORE_ARGS(STORE_TEXT(key)), ret, &found, err);
    }
    if (code == 0 && found) {
        code = shr_err_set(err, SHR_ERR_CONFLICT, "idempotency key %s belongs to %s", key, ret->id);
    }
    if (code == 0) {
        code = check_entry(store, job, job->state, max_queued, err);
    }
    return code == 0 ? insert(store, job, event_data, ret, err) : code;
}

int store_job_add(struct store *store, const struct store_job *job, size_t max_queued,
                  const char *event_data, struct store_job *ret, struct shr_err *err)
{
    struct store_job added = {0};
    int code = store_db_begin(&store->main, err);
    if (code == 0) {
        code = add(store, job, max_queued, event_data, &added, err);
        bool is_replay = code == SHR_ERR_CONFLICT;
        code = store_db_end(&store->main, code, err);
        if (code == 0 || is_replay) {
            *ret = added;
            return code;
        }
    }
    store_job_finish(&added);
    return code;
}

/* ── Reading ────────────────────────────────────────────────────────────────────────────────── */

int store_job_get(struct store *store, const char *id, struct store_job *ret, struct shr_err *err)
{
    bool found = false;
    store_db_lock(&store->reader);
    int code = load_job(&store->reader, "SELECT " JOB_COLUMNS " FROM job WHERE id = ?1",
                        STORE_ARGS(STORE_TEXT(id)), ret, &found, err);
    store_db_unlock(&store->reader);
    return code != 0 || found ? code : not_found(id, err);
}

int store_job_find(struct store *store, const char *key, struct store_job *ret, bool *ret_found,
                   struct shr_err *err)
{
    store_db_lock(&store->reader);
    int code =
        load_job(&store->reader, "SELECT " JOB_COLUMNS " FROM job WHERE idempotency_key = ?1",
                 STORE_ARGS(STORE_TEXT(key)), ret, ret_found, err);
    store_db_unlock(&store->reader);
    return code;
}

int store_job_count(struct store *store, const char *state, int64_t *ret, struct shr_err *err)
{
    store_db_lock(&store->reader);
    int code = count_state(&store->reader, state, ret, err);
    store_db_unlock(&store->reader);
    return code;
}

void store_jobs_finish(struct store_jobs *jobs)
{
    if (jobs == NULL) {
        return;
    }
    for (size_t i = 0; i < jobs->n; i++) {
        store_job_finish(&jobs->v[i]);
    }
    shr_mem_free(jobs->v);
    *jobs = (struct store_jobs){0};
}

/* A cursor is the seq of the last job shown: it holds when that job is deleted. */
static int read_cursor(const char *cursor, int64_t *ret, struct shr_err *err)
{
    if (cursor == NULL || cursor[0] == 0) {
        *ret = INT64_MAX;
        return 0;
    }
    size_t n = strspn(cursor, "0123456789");
    if (n == 0 || n > 18 || cursor[n] != 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "cursor: %.40s is not one of this list", cursor);
    }
    *ret = strtoll(cursor, NULL, 10);
    return 0;
}

#define JOB_PAGE(condition)                                                                        \
    "SELECT " JOB_COLUMNS " FROM job WHERE seq < ?1 " condition " ORDER BY seq DESC LIMIT ?2"

static const char *page_query(const struct store_job_query *query)
{
    if (query->state != NULL && query->model_name != NULL) {
        return JOB_PAGE("AND state = ?3 AND model_name = ?4");
    }
    if (query->state != NULL) {
        return JOB_PAGE("AND state = ?3 AND ?4 IS NULL");
    }
    /* Both are bound in all four, and so named. */
    return query->model_name != NULL ? JOB_PAGE("AND ?3 IS NULL AND model_name = ?4")
                                     : JOB_PAGE("AND ?3 IS NULL AND ?4 IS NULL");
}

int store_job_list(struct store *store, const struct store_job_query *query, struct store_jobs *ret,
                   struct shr_err *err)
{
    int64_t before = 0;
    int code = read_cursor(query->cursor, &before, err);
    if (code != 0) {
        return code;
    }
    struct job_list list = {0};
    store_db_lock(&store->reader);
    code = store_db_query(&store->reader, page_query(query),
                          /* one more than asked for tells whether there is a next page */
                          STORE_ARGS(STORE_INT(before), STORE_INT((int64_t)query->limit + 1),
                                     STORE_TEXT(query->state), STORE_TEXT(query->model_name)),
                          take_job, &list, err);
    store_db_unlock(&store->reader);
    if (code != 0) {
        free_list(&list);
        return code;
    }
    struct store_jobs jobs = {.n = list.rows.n, .v = list.rows.v};
    if (jobs.n > query->limit) {
        store_job_finish(&jobs.v[--jobs.n]);
        snprintf(jobs.next, sizeof jobs.next, "%" PRId64, list.last_seq[0]);
    }
    *ret = jobs;
    return 0;
}

/* ── Changing ───────────────────────────────────────────────────────────────────────────────── */

int store_job_claim(struct store *store, const char *from, const char *to, struct store_job *ret,
                    struct shr_err *err)
{
    struct store_job claimed = {0};
    bool found = false;
    int code = store_db_begin(&store->main, err);
    if (code != 0) {
        return code;
    }
    code = load_job(&store->main,
                    "UPDATE job SET state = ?2, attempt = attempt + 1, started_us = ?3"
                    " WHERE seq = (SELECT seq FROM job WHERE state = ?1 ORDER BY seq LIMIT 1)"
                    " RETURNING " JOB_COLUMNS,
                    STORE_ARGS(STORE_TEXT(from), STORE_TEXT(to), STORE_INT(store__now_us())),
                    &claimed, &found, err);
    if (code == 0 && !found) {
        code = shr_err_set(err, SHR_ERR_NOT_FOUND, "no job is %s", from);
    }
    code = store_db_end(&store->main, code, err);
    if (code != 0) {
        store_job_finish(&claimed);
        return code;
    }
    *ret = claimed;
    return 0;
}

/* A final job that is to wait again takes a place in the queue and needs its items, as a new one
 * does; nothing kept them meanwhile. */
static int check_retry(struct store *store, int64_t seq, const struct store_move *move,
                       struct shr_err *err)
{
    struct store_job job = {0};
    bool found = false;
    int code = load_job(&store->main, "SELECT " JOB_COLUMNS " FROM job WHERE seq = ?1",
                        STORE_ARGS(STORE_INT(seq)), &job, &found, err);
    if (code == 0 && found && job.finished_us != 0 && !move->is_final) {
        code = check_entry(store, &job, move->to, move->max_queued, err);
    }
    store_job_finish(&job);
    return code;
}

static int move_job(struct store *store, const char *id, const struct store_move *move,
                    int64_t *ret_event_id, struct shr_err *err)
{
    int64_t seq = 0;
    int code = store__job_find(store, id, move->attempt, &seq, err);
    if (code == 0) {
        code = check_retry(store, seq, move, err);
    }
    if (code != 0) {
        return code;
    }
    code = store_db_run(&store->main,
                        "UPDATE job SET state = ?3, error = coalesce(?4, error),"
                        " verdict = coalesce(?5, verdict), finished_us = ?6,"
                        " cancel_requested = cancel_requested AND finished_us = 0"
                        " WHERE seq = ?1 AND state = ?2",
                        STORE_ARGS(STORE_INT(seq), STORE_TEXT(move->from), STORE_TEXT(move->to),
                                   STORE_TEXT(move->error), STORE_TEXT(move->verdict),
                                   STORE_INT(move->is_final ? store__now_us() : 0)),
                        err);
    if (code == 0 && store_db_changes(&store->main) == 0) {
        code = shr_err_set(err, SHR_ERR_CONFLICT, "job %s is not %s any more", id, move->from);
    }
    if (code == 0 && move->is_final) {
        code = store__checkpoint_drop(store, seq, INT64_MAX, err);
    }
    return code == 0 ? store__event_append(store, seq, "state", move->event_data, ret_event_id, err)
                     : code;
}

int store_job_move(struct store *store, const char *id, const struct store_move *move,
                   int64_t *ret_event_id, struct shr_err *err)
{
    int64_t event = 0;
    int code = store_db_begin(&store->main, err);
    if (code == 0) {
        code = store_db_end(&store->main, move_job(store, id, move, &event, err), err);
    }
    if (code == 0 && ret_event_id != NULL) {
        *ret_event_id = event;
    }
    return code;
}

int store_job_request_cancel(struct store *store, const char *id, struct shr_err *err)
{
    int code = store_db_begin(&store->main, err);
    if (code != 0) {
        return code;
    }
    code = store_db_run(&store->main, "UPDATE job SET cancel_requested = 1 WHERE id = ?1",
                        STORE_ARGS(STORE_TEXT(id)), err);
    if (code == 0 && store_db_changes(&store->main) == 0) {
        code = not_found(id, err);
    }
    return store_db_end(&store->main, code, err);
}

static int delete_job(struct store *store, const char *id, struct shr_err *err)
{
    int64_t seq = 0;
    int code = store__job_find(store, id, -1, &seq, err);
    if (code == 0) {
        code = store_db_run(&store->main, "DELETE FROM job WHERE seq = ?1 AND finished_us <> 0",
                            STORE_ARGS(STORE_INT(seq)), err);
    }
    if (code == 0 && store_db_changes(&store->main) == 0) {
        code = shr_err_set(err, SHR_ERR_CONFLICT, "job %s has not ended: cancel it first", id);
    }
    return code;
}

int store_job_delete(struct store *store, const char *id, struct shr_err *err)
{
    int code = store_db_begin(&store->main, err);
    return code != 0 ? code : store_db_end(&store->main, delete_job(store, id, err), err);
}
