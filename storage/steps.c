/* Steps: the artifacts of a job with their reports and metrics.
 *
 * Written by the attempt that owns the job, and once: its replay changes nothing, and a later
 * attempt that comes to a step replaces it and drops what earlier attempts had behind it.
 * Thread: any. */
#include <inttypes.h>
#include <math.h>

#include "base/vec.h"
#include "inner.h"

static int check_step(const struct store_step *step, struct shr_err *err)
{
    for (size_t i = 0; i < step->n_metrics; i++) {
        if (step->metrics[i].measured && isnan(step->metrics[i].value)) {
            return shr_err_set(err, SHR_ERR_INVALID, "step %" PRId64 ": metric %s is not a number",
                               step->seq, step->metrics[i].name);
        }
    }
    return 0;
}

static int insert(struct store *store, int64_t job, int64_t attempt, const struct store_step *step,
                  struct shr_err *err)
{
    int code = store_db_run(&store->main,
                            "INSERT INTO step (job, seq, attempt, pass, sha256, bytes, report)"
                            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                            STORE_ARGS(STORE_INT(job), STORE_INT(step->seq), STORE_INT(attempt),
                                       STORE_TEXT(step->pass), STORE_TEXT(step->sha256),
                                       STORE_INT((int64_t)step->bytes),
                                       STORE_TEXT(step->report != NULL ? step->report : "")),
                            err);
    for (size_t i = 0; code == 0 && i < step->n_metrics; i++) {
        const struct store_metric *m = &step->metrics[i];
        const struct store_arg no_value = STORE_TEXT(NULL);
        const struct store_arg value = STORE_REAL(m->value);
        code = store_db_run(&store->main,
                            "INSERT INTO metric (job, step, seq, name, value, why)"
                            " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                            STORE_ARGS(STORE_INT(job), STORE_INT(step->seq), STORE_INT((int64_t)i),
                                       STORE_TEXT(m->name), m->measured ? value : no_value,
                                       STORE_TEXT(m->why != NULL ? m->why : "")),
                            err);
    }
    return code;
}

static int add(struct store *store, const char *job_id, int64_t attempt,
               const struct store_step *step, struct shr_err *err)
{
    int64_t job;
    int code = store__job_find(store, job_id, attempt, &job, err);
    if (code != 0) {
        return code;
    }
    code = store_db_run(&store->main,
                        "DELETE FROM step WHERE job = ?1 AND seq >= ?2 AND attempt <> ?3",
                        STORE_ARGS(STORE_INT(job), STORE_INT(step->seq), STORE_INT(attempt)), err);
    if (code != 0) {
        return code;
    }
    int64_t one;
    bool is_replay = false;
    code = store_db_int(&store->main, "SELECT 1 FROM step WHERE job = ?1 AND seq = ?2",
                        STORE_ARGS(STORE_INT(job), STORE_INT(step->seq)), &one, &is_replay, err);
    if (code != 0 || is_replay) {
        return code;
    }
    code = store__blob_expect(store, step->sha256, step->bytes, err);
    if (code == 0) {
        code = insert(store, job, attempt, step, err);
    }
    return code == 0 ? store__checkpoint_drop(store, job, step->seq, err) : code;
}

int store_step_add(struct store *store, const char *job_id, int64_t attempt,
                   const struct store_step *step, struct shr_err *err)
{
    int code = check_step(step, err);
    if (code == 0) {
        code = store_db_begin(&store->main, err);
    }
    if (code != 0) {
        return code;
    }
    code = add(store, job_id, attempt, step, err);
    return store_db_end(&store->main, code, err);
}

/* ── Reading ────────────────────────────────────────────────────────────────────────────────── */

struct step_list {
    struct shr_arena arena;
    SHR_VEC(struct store_step) steps;
    size_t at;                            /* the step that metrics go to */
    SHR_VEC(struct store_metric) metrics; /* of all steps in order */
};

static int take_step(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    struct step_list *list = user;
    struct store_step *step = SHR_VEC_ADD(&list->steps);
    if (step == NULL) {
        return store__oom(SHR_ERR_NOMEM, err);
    }
    int code = 0;
    step->seq = sqlite3_column_int64(row, 0);
    step->pass = store_row_text(row, 1, &list->arena, &code);
    step->sha256 = store_row_text(row, 2, &list->arena, &code);
    step->bytes = (uint64_t)sqlite3_column_int64(row, 3);
    step->report = store_row_text(row, 4, &list->arena, &code);
    return store__oom(code, err);
}

static int take_metric(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    struct step_list *list = user;
    struct store_metric *m = SHR_VEC_ADD(&list->metrics);
    if (m == NULL) {
        return store__oom(SHR_ERR_NOMEM, err);
    }
    int code = 0;
    m->name = store_row_text(row, 1, &list->arena, &code);
    m->measured = sqlite3_column_type(row, 2) != SQLITE_NULL;
    m->value = sqlite3_column_double(row, 2);
    m->why = store_row_text(row, 3, &list->arena, &code);
    int64_t seq = sqlite3_column_int64(row, 0);
    while (list->at < list->steps.n && list->steps.v[list->at].seq < seq) {
        list->at++;
    }
    if (list->at == list->steps.n || list->steps.v[list->at].seq != seq) {
        return shr_err_set(err, SHR_ERR_CORRUPT, "metric %s is of no step", m->name);
    }
    list->steps.v[list->at].n_metrics++;
    return store__oom(code, err);
}

/* Moves the metrics into the arena, a run of them to each step. */
static int hand_out(struct step_list *list, struct shr_err *err)
{
    size_t n = list->metrics.n;
    struct store_metric *all = shr_arena_new(&list->arena, n == 0 ? 1 : n, sizeof *all);
    if (all == NULL) {
        return store__oom(SHR_ERR_NOMEM, err);
    }
    for (size_t i = 0; i < n; i++) {
        all[i] = list->metrics.v[i];
    }
    for (size_t i = 0; i < list->steps.n; i++) {
        list->steps.v[i].metrics = all;
        all += list->steps.v[i].n_metrics;
    }
    return 0;
}

static int load(struct store_db *db, const char *job_id, struct step_list *list,
                struct shr_err *err)
{
    const struct store_arg *args = STORE_ARGS(STORE_TEXT(job_id));
    int64_t one;
    bool found = false;
    int code = store_db_int(db, "SELECT 1 FROM job WHERE id = ?1", args, &one, &found, err);
    if (code != 0 || !found) {
        return code != 0 ? code
                         : shr_err_set(err, SHR_ERR_NOT_FOUND, "job %s does not exist", job_id);
    }
    code = store_db_query(db,
                          "SELECT seq, pass, sha256, bytes, report FROM step"
                          " WHERE job = (SELECT seq FROM job WHERE id = ?1) ORDER BY seq",
                          args, take_step, list, err);
    if (code == 0) {
        code = store_db_query(db,
                              "SELECT step, name, value, why FROM metric"
                              " WHERE job = (SELECT seq FROM job WHERE id = ?1) ORDER BY step, seq",
                              args, take_metric, list, err);
    }
    return code == 0 ? hand_out(list, err) : code;
}

int store_step_list(struct store *store, const char *job_id, struct store_steps *ret,
                    struct shr_err *err)
{
    struct step_list list = {0};
    int code = store_db_begin(&store->reader, err);
    if (code == 0) {
        code = load(&store->reader, job_id, &list, err);
        code = store_db_end(&store->reader, code, err);
    }
    SHR_VEC_FINISH(&list.metrics);
    struct store_steps steps = {.arena = list.arena, .n = list.steps.n, .v = list.steps.v};
    if (code != 0) {
        store_steps_finish(&steps);
        return code;
    }
    *ret = steps;
    return 0;
}

void store_steps_finish(struct store_steps *steps)
{
    if (steps != NULL) {
        shr_mem_free(steps->v);
        shr_arena_finish(&steps->arena);
        *steps = (struct store_steps){0};
    }
}
