/* Checkpoints: where a running step can go on after a crash.
 *
 * A job has at most one, of the furthest step that any attempt reached: the next one replaces it,
 * and the end of that step or of the job drops it. An attempt after a crash runs the steps in front
 * again, and neither their checkpoints nor their ends may cost the one that waits behind them. The
 * bytes are a blob; those of a replaced one are deleted at once, since a long job would fill the
 * disk until the next sweep. Thread: any. */
#include "inner.h"

struct found {
    struct shr_arena arena;
    const char *sha256; /* NULL = there is none */
    int64_t step;
};

static int take(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    struct found *found = user;
    int code = 0;
    found->sha256 = store_row_text(row, 0, &found->arena, &code);
    found->step = sqlite3_column_int64(row, 1);
    return store__oom(code, err);
}

/* ret_old: what is garbage then, of the two. */
static int put(struct store *store, const char *job_id, int64_t attempt, int64_t step,
               const char *sha256, uint64_t bytes, struct found *ret_old, struct shr_err *err)
{
    int64_t job;
    int code = store__job_find(store, job_id, attempt, &job, err);
    if (code == 0) {
        code = store__blob_expect(store, sha256, bytes, err);
    }
    if (code == 0) {
        code = store_db_query(&store->main, "SELECT sha256, step FROM checkpoint WHERE job = ?1",
                              STORE_ARGS(STORE_INT(job)), take, ret_old, err);
    }
    if (code != 0) {
        return code;
    }
    if (ret_old->sha256 != NULL && ret_old->step > step) {
        ret_old->sha256 = sha256;
        return 0;
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
    struct found old = {0};
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
    struct found found = {0};
    store_db_lock(&store->reader);
    int code = store_db_query(&store->reader,
                              "SELECT sha256, step FROM checkpoint"
                              " WHERE job = (SELECT seq FROM job WHERE id = ?1) AND step = ?2",
                              STORE_ARGS(STORE_TEXT(job_id), STORE_INT(step)), take, &found, err);
    store_db_unlock(&store->reader);
    if (code == 0 && found.sha256 == NULL) {
        *ret_bytes = NULL;
        *ret_n = 0;
    } else if (code == 0) {
        code = store_blob_get(store, found.sha256, SIZE_MAX, ret_bytes, ret_n, err);
    }
    shr_arena_finish(&found.arena);
    return code;
}

int store__checkpoint_drop(struct store *store, int64_t job, int64_t last, struct shr_err *err)
{
    return store_db_run(&store->main, "DELETE FROM checkpoint WHERE job = ?1 AND step <= ?2",
                        STORE_ARGS(STORE_INT(job), STORE_INT(last)), err);
}
