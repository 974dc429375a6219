/* Checkpoints: where a running step can go on after a crash.
 *
 * A job has at most one, of the step that runs: the next one replaces it, and the end of the step
 * or of the job drops it. Its bytes are a blob; those of a replaced one are deleted at once, since
 * a long job would fill the disk until the next sweep. Thread: any. */
#include "inner.h"

struct row {
    struct shr_arena arena;
    const char *sha256;
    uint64_t bytes;
};

static int take(sqlite3_stmt *stmt, void *user, struct shr_err *err)
{
    struct row *row = user;
    int code = 0;
    row->sha256 = store_row_text(stmt, 0, &row->arena, &code);
    row->bytes = (uint64_t)sqlite3_column_int64(stmt, 1);
    return store__oom(code, err);
}

/* step -1 = whichever it is of. row->sha256 stays NULL when there is none. */
static int find(struct store_db *db, int64_t job, int64_t step, struct row *row,
                struct shr_err *err)
{
    return store_db_query(db,
                          "SELECT sha256, bytes FROM checkpoint WHERE job = ?1"
                          " AND (?2 < 0 OR step = ?2)",
                          STORE_ARGS(STORE_INT(job), STORE_INT(step)), take, row, err);
}

static int put(struct store *store, const char *job_id, int64_t attempt, int64_t step,
               const char *sha256, uint64_t bytes, struct row *old, struct shr_err *err)
{
    int64_t job;
    int code = store__job_find(store, job_id, attempt, &job, err);
    if (code == 0) {
        code = store__blob_expect(store, sha256, bytes, err);
    }
    if (code == 0) {
        code = find(&store->main, job, -1, old, err);
    }
    if (code != 0) {
        return code;
    }
    return store_db_run(
        &store->main,
        "INSERT OR REPLACE INTO checkpoint (job, step, sha256, bytes)"
        " VALUES (?1, ?2, ?3, ?4)",
        STORE_ARGS(STORE_INT(job), STORE_INT(step), STORE_TEXT(sha256), STORE_INT((int64_t)bytes)),
        err);
}

int store_checkpoint_put(struct store *store, const char *job_id, int64_t attempt, int64_t step,
                         const void *bytes, size_t n, struct shr_err *err)
{
    char sha256[STORE_SHA256_HEX];
    struct row old = {0};
    int code = store_blob_put(store, bytes, n, sha256, err);
    if (code == 0) {
        code = store_db_begin(&store->main, err);
    }
    if (code != 0) {
        return code;
    }
    code = put(store, job_id, attempt, step, sha256, n, &old, err);
    code = store_db_end(&store->main, code, err);
    if (code == 0 && old.sha256 != NULL) {
        code = store__blob_drop(store, old.sha256, err);
    }
    shr_arena_finish(&old.arena);
    return code;
}

int store_checkpoint_get(struct store *store, const char *job_id, int64_t step, void **ret_bytes,
                         size_t *ret_n, struct shr_err *err)
{
    struct row row = {0};
    int64_t job;
    int code = store_db_begin(&store->main, err);
    if (code != 0) {
        return code;
    }
    code = store__job_find(store, job_id, -1, &job, err);
    if (code == 0) {
        code = find(&store->main, job, step, &row, err);
    }
    code = store_db_end(&store->main, code, err);
    if (code == 0 && row.sha256 == NULL) {
        *ret_bytes = NULL;
        *ret_n = 0;
    } else if (code == 0) {
        code = store_blob_get(store, row.sha256, SIZE_MAX, ret_bytes, ret_n, err);
    }
    shr_arena_finish(&row.arena);
    return code;
}

int store__checkpoint_drop(struct store *store, int64_t job, struct shr_err *err)
{
    return store_db_run(&store->main, "DELETE FROM checkpoint WHERE job = ?1",
                        STORE_ARGS(STORE_INT(job)), err);
}
