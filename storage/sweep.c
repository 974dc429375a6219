/* Care: what is used, what is garbage, and whether all is whole.
 *
 * A blob is garbage when no part, step or checkpoint names it and it was not touched for a while:
 * an upload comes before the row that names it. The last look and the deletion happen under the
 * writer's transaction on shrinkd.db, and rows that name a blob check under the same one that it is
 * there, so a row always implies its bytes. Thread: any. */
#include <inttypes.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/vec.h"
#include "inner.h"

struct blob_entry {
    int64_t id;
    uint64_t bytes;
    bool finished;
    char sha256[STORE_SHA256_HEX];
};

typedef SHR_VEC(struct blob_entry) blob_list;

static int take_entry(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    blob_list *list = user;
    struct blob_entry *e = SHR_VEC_ADD(list);
    if (e == NULL) {
        return store__oom(SHR_ERR_NOMEM, err);
    }
    e->id = sqlite3_column_int64(row, 0);
    e->bytes = (uint64_t)sqlite3_column_int64(row, 1);
    const char *sha256 = (const char *)sqlite3_column_text(row, 2);
    e->finished = sha256 != NULL;
    strncpy(e->sha256, sha256 != NULL ? sha256 : "", sizeof e->sha256 - 1);
    return 0;
}

static int list_blobs(struct store *store, int64_t before_us, blob_list *list, struct shr_err *err)
{
    store_db_lock(&store->blobs);
    int code =
        store_db_query(&store->blobs, "SELECT id, bytes, sha256 FROM blob WHERE created_us <= ?1",
                       STORE_ARGS(STORE_INT(before_us)), take_entry, list, err);
    store_db_unlock(&store->blobs);
    return code;
}

/* Mutex of db held. */
static int is_named(struct store_db *db, const char *sha256, bool *ret, struct shr_err *err)
{
    int64_t one;
    return store_db_int(db,
                        "SELECT 1 FROM part WHERE sha256 = ?1"
                        " UNION ALL SELECT 1 FROM step WHERE sha256 = ?1"
                        " UNION ALL SELECT 1 FROM checkpoint WHERE sha256 = ?1 LIMIT 1",
                        STORE_ARGS(STORE_TEXT(sha256)), &one, ret, err);
}

/* ── Sweeping ───────────────────────────────────────────────────────────────────────────────── */

static int delete_blob(struct store *store, const struct blob_entry *e, int64_t before_us,
                       uint64_t *bytes, struct shr_err *err)
{
    struct store_db *db = &store->blobs;
    int code = store_db_begin(db, err);
    if (code != 0) {
        return code;
    }
    bool deleted = false;
    if (e->finished || !store__upload_is_live(store, e->id)) {
        code = store_db_run(db, "DELETE FROM blob WHERE id = ?1 AND created_us <= ?2",
                            STORE_ARGS(STORE_INT(e->id), STORE_INT(before_us)), err);
        deleted = code == 0 && store_db_changes(db) != 0;
    }
    code = store__blobs_end(store, code, err);
    if (code == 0 && deleted) {
        *bytes += e->bytes;
    }
    return code;
}

static int sweep_one(struct store *store, const struct blob_entry *e, int64_t before_us,
                     uint64_t *bytes, struct shr_err *err)
{
    bool named = false;
    int code = store_db_begin(&store->main, err); /* keeps new rows out until the blob is gone */
    if (code != 0) {
        return code;
    }
    if (e->finished) {
        code = is_named(&store->main, e->sha256, &named, err);
    }
    if (code == 0 && !named) {
        code = delete_blob(store, e, before_us, bytes, err);
    }
    return store_db_end(&store->main, code, err);
}

static int list_blob(struct store *store, const char *sha256, blob_list *list, struct shr_err *err)
{
    store_db_lock(&store->blobs);
    int code = store_db_query(&store->blobs, "SELECT id, bytes, sha256 FROM blob WHERE sha256 = ?1",
                              STORE_ARGS(STORE_TEXT(sha256)), take_entry, list, err);
    store_db_unlock(&store->blobs);
    return code;
}

int store__blob_drop(struct store *store, const char *sha256, struct shr_err *err)
{
    blob_list list = {0};
    uint64_t bytes = 0;
    int code = list_blob(store, sha256, &list, err);
    for (size_t i = 0; code == 0 && i < list.n; i++) {
        code = sweep_one(store, &list.v[i], INT64_MAX, &bytes, err);
    }
    SHR_VEC_FINISH(&list);
    return code;
}

/* Gives freed pages back to the file system, some MiB under the mutex at a time. */
static int shrink_file(struct store *store, struct shr_err *err)
{
    struct store_db *db = &store->blobs;
    int64_t pages = INT64_MAX;
    int64_t before;
    int code;
    do {
        bool found;
        before = pages;
        code = store_db_begin(db, err);
        if (code != 0) {
            return code;
        }
        code = store_db_run(db, "PRAGMA incremental_vacuum(256)", STORE_NO_ARGS, err);
        if (code == 0) {
            code = store_db_int(db, "PRAGMA freelist_count", STORE_NO_ARGS, &pages, &found, err);
        }
        code = store__blobs_end(store, code, err);
    } while (code == 0 && pages > 0 && pages < before);
    return code;
}

int store_sweep(struct store *store, int64_t min_age_s, uint64_t *ret_bytes, struct shr_err *err)
{
    blob_list list = {0};
    uint64_t bytes = 0;
    int64_t before_us = store__now_us() - min_age_s * 1000000;
    int code = list_blobs(store, before_us, &list, err);
    for (size_t i = 0; code == 0 && i < list.n; i++) {
        code = sweep_one(store, &list.v[i], before_us, &bytes, err);
    }
    SHR_VEC_FINISH(&list);
    if (code == 0 && bytes > 0) {
        code = shrink_file(store, err);
    }
    if (code == 0) {
        *ret_bytes = bytes;
    }
    return code;
}

/* ── Usage ──────────────────────────────────────────────────────────────────────────────────── */

static int add_up(struct store *store, const blob_list *list, struct store_usage *usage,
                  struct shr_err *err)
{
    int code = store_db_begin(&store->reader, err);
    if (code != 0) {
        return code;
    }
    for (size_t i = 0; code == 0 && i < list->n; i++) {
        bool named = false;
        if (list->v[i].finished) {
            usage->blobs++;
            usage->blob_bytes += list->v[i].bytes;
            code = is_named(&store->reader, list->v[i].sha256, &named, err);
        }
        if (code == 0 && !named) {
            usage->reclaimable_bytes += list->v[i].bytes;
        }
    }
    return store_db_end(&store->reader, code, err);
}

int store_usage(struct store *store, struct store_usage *ret, struct shr_err *err)
{
    static const char *const files[] = {"shrinkd.db", "shrinkd.db-wal", "shrinkd.db-shm",
                                        "artifacts.db", "artifacts.db-journal"};
    struct store_usage usage = {0};
    blob_list list = {0};
    int code = list_blobs(store, INT64_MAX, &list, err);
    if (code == 0) {
        code = add_up(store, &list, &usage, err);
    }
    SHR_VEC_FINISH(&list);
    struct statvfs fs;
    if (code == 0 && statvfs(store->dir, &fs) != 0) {
        code = shr_err_set(err, SHR_ERR_IO, "cannot examine %s", store->dir);
    }
    if (code != 0) {
        return code;
    }
    usage.free_disk_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    for (size_t i = 0; code == 0 && i < SHR_COUNT_OF(files); i++) {
        uint64_t bytes = 0;
        code = store__file_bytes(store, files[i], &bytes, err);
        usage.database_bytes += bytes;
    }
    if (code == 0) {
        *ret = usage;
    }
    return code;
}

/* ── Checking ───────────────────────────────────────────────────────────────────────────────── */

static int take_integrity(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    const struct store_db *db = user;
    const char *text = (const char *)sqlite3_column_text(row, 0);
    if (text != NULL && strcmp(text, "ok") == 0) {
        return 0;
    }
    return shr_err_set(err, SHR_ERR_CORRUPT, "%s: %s", db->name, text != NULL ? text : "damaged");
}

static int take_violation(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    const struct store_db *db = user;
    const char *table = (const char *)sqlite3_column_text(row, 0);
    return shr_err_set(err, SHR_ERR_CORRUPT, "%s: a row of table %s has no parent", db->name,
                       table != NULL ? table : "?");
}

static int check_database(struct store_db *db, struct shr_err *err)
{
    store_db_lock(db);
    int code =
        store_db_query(db, "PRAGMA integrity_check(1)", STORE_NO_ARGS, take_integrity, db, err);
    if (code == 0) {
        code =
            store_db_query(db, "PRAGMA foreign_key_check", STORE_NO_ARGS, take_violation, db, err);
    }
    store_db_unlock(db);
    return code;
}

static int check_hash(struct store *store, const struct blob_entry *e, unsigned char *piece,
                      size_t size, struct shr_err *err)
{
    struct store_sha256 hash;
    char hex[STORE_SHA256_HEX];
    uint64_t done = 0;
    size_t got;
    store_sha256_init(&hash);
    do {
        int code = store_blob_read(store, e->sha256, done, piece, size, &got, err);
        if (code != 0) {
            return code == SHR_ERR_NOT_FOUND ? 0 : code; /* swept meanwhile */
        }
        store_sha256_add(&hash, piece, got);
        done += got;
    } while (got > 0);
    store_sha256_hex(&hash, hex);
    if (strcmp(hex, e->sha256) != 0 || done != e->bytes) {
        return shr_err_set(err, SHR_ERR_CORRUPT, "artifacts.db: blob sha256:%s has other bytes",
                           e->sha256);
    }
    return 0;
}

static int take_name(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    struct store *store = user;
    const char *sha256 = (const char *)sqlite3_column_text(row, 0);
    int code = store__blob_expect(store, sha256 != NULL ? sha256 : "",
                                  (uint64_t)sqlite3_column_int64(row, 1), err);
    return code == SHR_ERR_NOT_FOUND || code == SHR_ERR_CONFLICT
               ? shr_err_set(err, SHR_ERR_CORRUPT, "artifacts.db: blob sha256:%s is named but gone",
                             sha256 != NULL ? sha256 : "")
               : code;
}

/* Does every row's blob exist? Under the writer's lock, so that rows and blobs stand still. */
static int check_names(struct store *store, struct shr_err *err)
{
    store_db_lock(&store->main);
    int code = store_db_query(&store->main,
                              "SELECT sha256, bytes FROM part UNION SELECT sha256, bytes FROM step",
                              STORE_NO_ARGS, take_name, store, err);
    store_db_unlock(&store->main);
    return code;
}

int store_check(struct store *store, struct shr_err *err)
{
    enum { PIECE = 1 << 20 };
    blob_list list = {0};
    unsigned char *piece = shr_mem_new(PIECE, 1);
    if (piece == NULL) {
        return store__oom(SHR_ERR_NOMEM, err);
    }
    int code = check_database(&store->main, err);
    if (code == 0) {
        code = check_database(&store->blobs, err);
    }
    if (code == 0) {
        code = check_names(store, err);
    }
    if (code == 0) {
        code = list_blobs(store, INT64_MAX, &list, err);
    }
    for (size_t i = 0; code == 0 && i < list.n; i++) {
        code = list.v[i].finished ? check_hash(store, &list.v[i], piece, PIECE, err) : 0;
    }
    SHR_VEC_FINISH(&list);
    shr_mem_free(piece);
    return code;
}
