/* Blobs: bytes known by their SHA-256, kept as chunk rows in artifacts.db.
 *
 * An upload fills one chunk in memory at a time and hashes as it goes; full chunks become rows of a
 * blob without a hash. Rows of all uploads share one open transaction, committed every
 * COMMIT_BYTES, so that many rows share an fsync. Finishing gives the blob its hash, or drops the
 * rows when a blob with that hash is there, and commits. When a write fails the transaction is
 * rolled back with what other uploads had in it; each finds out by its byte count in the blob row
 * and fails too. Thread: any; an upload belongs to one at a time. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "inner.h"

enum { COMMIT_BYTES = 32 << 20 };

struct store_upload {
    struct store *store;
    struct store_upload *next, *prev; /* among store->live */
    struct store_sha256 hash;
    int64_t blob;          /* 0 = no row yet */
    uint64_t bytes;        /* appended */
    uint64_t in_rows;      /* of them in chunk rows; the rest is in buffer */
    unsigned char *buffer; /* (chunk_bytes), grown on demand */
    size_t held, room;
    int failed; /* the error that ended it, else 0 */
    bool finished;
};

/* ── Uploads ────────────────────────────────────────────────────────────────────────────────── */

int store_upload_new(struct store *store, struct store_upload **ret, struct shr_err *err)
{
    struct store_upload *upload = shr_mem_new(1, sizeof *upload);
    if (upload == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    upload->store = store;
    store_sha256_init(&upload->hash);
    store_db_lock(&store->blobs);
    upload->next = store->live;
    if (store->live != NULL) {
        store->live->prev = upload;
    }
    store->live = upload;
    store_db_unlock(&store->blobs);
    *ret = upload;
    return 0;
}

bool store__upload_is_live(const struct store *store, int64_t blob)
{
    for (const struct store_upload *u = store->live; u != NULL; u = u->next) {
        if (u->blob == blob) {
            return true;
        }
    }
    return false;
}

uint64_t store_upload_bytes(const struct store_upload *upload)
{
    return upload->bytes;
}

int store__blobs_end(struct store *store, int code, struct shr_err *err)
{
    store->uncommitted = 0;
    return store_db_end(&store->blobs, code, err);
}

/* Writes the held bytes as a row, inside the transaction. */
static int write_chunk(struct store_upload *upload, struct shr_err *err)
{
    struct store *store = upload->store;
    int64_t chunk_bytes = (int64_t)store->chunk_bytes;
    int code;
    if (upload->blob == 0) {
        upload->blob = store->next_blob++;
        code = store_db_run(&store->blobs,
                            "INSERT INTO blob (id, bytes, chunk_bytes, created_us)"
                            " VALUES (?1, ?2, ?3, ?4)",
                            STORE_ARGS(STORE_INT(upload->blob), STORE_INT((int64_t)upload->held),
                                       STORE_INT(chunk_bytes), STORE_INT(store__now_us())),
                            err);
    } else {
        code = store_db_run(&store->blobs, "UPDATE blob SET bytes = bytes + ?2 WHERE id = ?1",
                            STORE_ARGS(STORE_INT(upload->blob), STORE_INT((int64_t)upload->held)),
                            err);
    }
    if (code != 0 || upload->held == 0) { /* an empty blob has no chunks */
        return code;
    }
    code = store_db_run(&store->blobs, "INSERT INTO chunk (blob, seq, bytes) VALUES (?1, ?2, ?3)",
                        STORE_ARGS(STORE_INT(upload->blob),
                                   STORE_INT((int64_t)upload->in_rows / chunk_bytes),
                                   STORE_BLOB(upload->buffer, upload->held)),
                        err);
    if (code == 0) {
        upload->in_rows += upload->held;
        store->uncommitted += upload->held;
        upload->held = 0;
    }
    return code;
}

/* Were rows of this upload rolled back by the failure of another write? Mutex held. */
static int check_rows(struct store_upload *upload, struct shr_err *err)
{
    if (upload->blob == 0) {
        return 0;
    }
    struct store_db *db = &upload->store->blobs;
    int64_t bytes = -1;
    bool found = false;
    int code = store_db_int(db, "SELECT bytes FROM blob WHERE id = ?1 AND sha256 IS NULL",
                            STORE_ARGS(STORE_INT(upload->blob)), &bytes, &found, err);
    if (code == 0 && (!found || bytes != (int64_t)upload->in_rows)) {
        code = shr_err_set(err, db->lost, "%s: the upload was rolled back with a write that failed",
                           db->name);
    }
    return code;
}

static int flush(struct store_upload *upload, struct shr_err *err)
{
    struct store *store = upload->store;
    int code = store_db_begin(&store->blobs, err);
    if (code != 0) {
        return code;
    }
    code = check_rows(upload, err);
    if (code != 0) { /* no reason to roll back the others */
        store_db_unlock(&store->blobs);
        return code;
    }
    code = write_chunk(upload, err);
    if (code != 0 || store->uncommitted >= COMMIT_BYTES) {
        return store__blobs_end(store, code, err);
    }
    store_db_unlock(&store->blobs); /* with the transaction open */
    return 0;
}

static int make_room(struct store_upload *upload, size_t n, struct shr_err *err)
{
    size_t wanted = upload->held + n;
    if (wanted <= upload->room) {
        return 0;
    }
    size_t room = upload->room < 4096 ? 4096 : upload->room * 2;
    room = room < wanted ? wanted : room;
    room = room > upload->store->chunk_bytes ? upload->store->chunk_bytes : room;
    unsigned char *buffer = shr_mem_resize(upload->buffer, room, 1);
    if (buffer == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    upload->buffer = buffer;
    upload->room = room;
    return 0;
}

int store_upload_append(struct store_upload *upload, const void *bytes, size_t n,
                        struct shr_err *err)
{
    const unsigned char *in = bytes;
    size_t chunk_bytes = upload->store->chunk_bytes;
    if (upload->failed != 0 || upload->finished) {
        return shr_err_set(err, upload->finished ? SHR_ERR_CONFLICT : upload->failed,
                           "the upload has ended");
    }
    while (n > 0) {
        size_t take = chunk_bytes - upload->held < n ? chunk_bytes - upload->held : n;
        int code = make_room(upload, take, err);
        if (code == 0) {
            memcpy(upload->buffer + upload->held, in, take);
            store_sha256_add(&upload->hash, in, take);
            upload->held += take;
            upload->bytes += take;
            in += take;
            n -= take;
            code = upload->held == chunk_bytes ? flush(upload, err) : 0;
        }
        if (code != 0) {
            upload->failed = code;
            return code;
        }
    }
    return 0;
}

/* Gives the blob its hash, or keeps the one that has it; inside the transaction. */
static int adopt(struct store_upload *upload, const char *sha256, struct shr_err *err)
{
    struct store_db *db = &upload->store->blobs;
    /* Touched, so that the sweeper leaves it alone until a row names it. */
    int code = store_db_run(db, "UPDATE blob SET created_us = ?2 WHERE sha256 = ?1",
                            STORE_ARGS(STORE_TEXT(sha256), STORE_INT(store__now_us())), err);
    if (code != 0) {
        return code;
    }
    if (store_db_changes(db) != 0) {
        return store_db_run(db, "DELETE FROM blob WHERE id = ?1",
                            STORE_ARGS(STORE_INT(upload->blob)), err);
    }
    if (upload->held > 0 || upload->blob == 0) {
        code = write_chunk(upload, err);
    }
    if (code == 0) {
        code = store_db_run(
            db, "UPDATE blob SET sha256 = ?2, created_us = ?3 WHERE id = ?1",
            STORE_ARGS(STORE_INT(upload->blob), STORE_TEXT(sha256), STORE_INT(store__now_us())),
            err);
    }
    return code;
}

int store_upload_finish(struct store_upload *upload, char ret_sha256[STORE_SHA256_HEX],
                        struct shr_err *err)
{
    if (upload->failed != 0 || upload->finished) {
        return shr_err_set(err, upload->finished ? SHR_ERR_CONFLICT : upload->failed,
                           "the upload has ended");
    }
    char sha256[STORE_SHA256_HEX];
    store_sha256_hex(&upload->hash, sha256);
    struct store *store = upload->store;
    int code = store_db_begin(&store->blobs, err);
    if (code == 0) {
        code = check_rows(upload, err);
        if (code == 0) {
            code = store__blobs_end(store, adopt(upload, sha256, err), err);
        } else {
            store_db_unlock(&store->blobs);
        }
    }
    if (code != 0) {
        upload->failed = code;
        return code;
    }
    upload->finished = true;
    memcpy(ret_sha256, sha256, sizeof sha256);
    return 0;
}

/* Drops the rows of an upload that was not finished. When even that fails they stay as garbage for
 * the sweeper, to which the upload is no longer live. */
static void drop_rows(struct store_upload *upload)
{
    struct store *store = upload->store;
    if (store_db_begin(&store->blobs, NULL) != 0) {
        return;
    }
    int code = store_db_run(&store->blobs, "DELETE FROM blob WHERE id = ?1 AND sha256 IS NULL",
                            STORE_ARGS(STORE_INT(upload->blob)), NULL);
    code = store__blobs_end(store, code, NULL);
    (void)code;
}

void store_upload_free(struct store_upload *upload)
{
    if (upload == NULL) {
        return;
    }
    struct store *store = upload->store;
    if (!upload->finished && upload->blob != 0) {
        drop_rows(upload);
    }
    store_db_lock(&store->blobs);
    if (upload->prev != NULL) {
        upload->prev->next = upload->next;
    } else {
        store->live = upload->next;
    }
    if (upload->next != NULL) {
        upload->next->prev = upload->prev;
    }
    store_db_unlock(&store->blobs);
    shr_mem_free(upload->buffer);
    shr_mem_free(upload);
}

int store_blob_put(struct store *store, const void *bytes, size_t n,
                   char ret_sha256[STORE_SHA256_HEX], struct shr_err *err)
{
    struct store_upload *upload = NULL;
    int code = store_upload_new(store, &upload, err);
    if (code != 0) {
        return code;
    }
    code = store_upload_append(upload, bytes, n, err);
    if (code == 0) {
        code = store_upload_finish(upload, ret_sha256, err);
    }
    store_upload_free(upload);
    return code;
}

/* ── Reading ────────────────────────────────────────────────────────────────────────────────── */

struct blob_row {
    int64_t id, bytes, chunk_bytes;
    bool found;
};

static int take_blob(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    (void)err;
    *(struct blob_row *)user = (struct blob_row){.id = sqlite3_column_int64(row, 0),
                                                 .bytes = sqlite3_column_int64(row, 1),
                                                 .chunk_bytes = sqlite3_column_int64(row, 2),
                                                 .found = true};
    return 0;
}

static int find_blob(struct store *store, const char *sha256, struct blob_row *ret,
                     struct shr_err *err)
{
    struct blob_row row = {0};
    int code =
        store_db_query(&store->blobs, "SELECT id, bytes, chunk_bytes FROM blob WHERE sha256 = ?1",
                       STORE_ARGS(STORE_TEXT(sha256)), take_blob, &row, err);
    if (code == 0 && !row.found) {
        code = shr_err_set(err, SHR_ERR_NOT_FOUND, "blob sha256:%s does not exist", sha256);
    }
    if (code == 0) {
        *ret = row;
    }
    return code;
}

int store_blob_size(struct store *store, const char *sha256, uint64_t *ret_bytes,
                    struct shr_err *err)
{
    struct blob_row row;
    store_db_lock(&store->blobs);
    int code = find_blob(store, sha256, &row, err);
    store_db_unlock(&store->blobs);
    if (code == 0) {
        *ret_bytes = (uint64_t)row.bytes;
    }
    return code;
}

int store__blob_expect(struct store *store, const char *sha256, uint64_t bytes, struct shr_err *err)
{
    uint64_t size;
    int code = store_blob_size(store, sha256, &size, err);
    if (code == 0 && size != bytes) {
        code =
            shr_err_set(err, SHR_ERR_CONFLICT, "blob sha256:%s has %" PRIu64 " bytes, not %" PRIu64,
                        sha256, size, bytes);
    }
    return code;
}

struct chunk_read {
    const struct blob_row *blob;
    int64_t seq;
    size_t skip, wanted; /* in the chunk */
    unsigned char *out;
    size_t got;
};

static int take_chunk(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    (void)err;
    struct chunk_read *r = user;
    const unsigned char *bytes = sqlite3_column_blob(row, 0);
    size_t n = (size_t)sqlite3_column_bytes(row, 0);
    if (bytes != NULL && n >= r->skip && n - r->skip >= r->wanted) {
        memcpy(r->out, bytes + r->skip, r->wanted);
        r->got = r->wanted;
    }
    return 0;
}

/* Reads what one chunk has of n bytes from offset, which is before the end. */
static int read_chunk(struct store *store, const struct blob_row *blob, int64_t offset,
                      unsigned char *out, size_t n, size_t *ret_n, struct shr_err *err)
{
    int64_t rest_of_blob = blob->bytes - offset;
    int64_t rest_of_chunk = blob->chunk_bytes - offset % blob->chunk_bytes;
    int64_t rest = rest_of_blob < rest_of_chunk ? rest_of_blob : rest_of_chunk;
    struct chunk_read r = {.blob = blob,
                           .seq = offset / blob->chunk_bytes,
                           .skip = (size_t)(offset % blob->chunk_bytes),
                           .wanted = (uint64_t)rest < n ? (size_t)rest : n,
                           .out = out};
    int code =
        store_db_query(&store->blobs, "SELECT bytes FROM chunk WHERE blob = ?1 AND seq = ?2",
                       STORE_ARGS(STORE_INT(blob->id), STORE_INT(r.seq)), take_chunk, &r, err);
    if (code == 0 && r.got == 0) {
        code =
            shr_err_set(err, SHR_ERR_CORRUPT,
                        "artifacts.db: chunk %" PRId64 " of blob %" PRId64 " is missing or short",
                        r.seq, blob->id);
    }
    if (code == 0) {
        *ret_n = r.got;
    }
    return code;
}

int store_blob_read(struct store *store, const char *sha256, uint64_t offset, void *ret_bytes,
                    size_t n, size_t *ret_n, struct shr_err *err)
{
    struct blob_row blob;
    size_t done = 0;
    store_db_lock(&store->blobs);
    int code = find_blob(store, sha256, &blob, err);
    while (code == 0 && done < n && offset + done < (uint64_t)blob.bytes) {
        size_t got = 0;
        code = read_chunk(store, &blob, (int64_t)(offset + done), (unsigned char *)ret_bytes + done,
                          n - done, &got, err);
        done += got;
    }
    store_db_unlock(&store->blobs);
    if (code == 0) {
        *ret_n = done;
    }
    return code;
}

int store_blob_get(struct store *store, const char *sha256, size_t max_bytes, void **ret_bytes,
                   size_t *ret_n, struct shr_err *err)
{
    uint64_t size;
    int code = store_blob_size(store, sha256, &size, err);
    if (code != 0) {
        return code;
    }
    if (size > max_bytes) {
        return shr_err_set(err, SHR_ERR_LIMIT, "blob sha256:%s has %" PRIu64 " bytes, at most %zu",
                           sha256, size, max_bytes);
    }
    unsigned char *bytes = shr_mem_new((size_t)size, 1);
    if (bytes == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %" PRIu64 " bytes", size);
    }
    size_t done = 0;
    while (code == 0 && done < size) { /* a piece at a time, so that others get the mutex */
        size_t piece = size - done < (1u << 22) ? (size_t)size - done : 1u << 22;
        size_t got = 0;
        code = store_blob_read(store, sha256, done, bytes + done, piece, &got, err);
        done += got;
    }
    if (code != 0) {
        shr_mem_free(bytes);
        return code;
    }
    *ret_bytes = bytes;
    *ret_n = done;
    return 0;
}

int store_upload_get(struct store_upload *upload, void **ret_bytes, size_t *ret_n,
                     struct shr_err *err)
{
    struct store *store = upload->store;
    const struct blob_row rows = {.id = upload->blob,
                                  .bytes = (int64_t)upload->in_rows,
                                  .chunk_bytes = (int64_t)store->chunk_bytes};
    if (upload->failed != 0 || upload->finished) {
        return shr_err_set(err, upload->finished ? SHR_ERR_CONFLICT : upload->failed,
                           "the upload has ended");
    }
    unsigned char *bytes = shr_mem_new((size_t)upload->bytes + 1, 1);
    if (bytes == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %" PRIu64 " bytes",
                           upload->bytes);
    }
    size_t done = 0;
    int code = 0;
    while (code == 0 && done < upload->in_rows) { /* a chunk at a time: others get the mutex */
        size_t got = 0;
        store_db_lock(&store->blobs);
        code = check_rows(upload, err);
        if (code == 0) {
            code = read_chunk(store, &rows, (int64_t)done, bytes + done,
                              (size_t)upload->in_rows - done, &got, err);
        }
        store_db_unlock(&store->blobs);
        done += got;
    }
    if (code != 0) {
        shr_mem_free(bytes);
        return code;
    }
    if (upload->held > 0) {
        memcpy(bytes + done, upload->buffer, upload->held);
    }
    *ret_bytes = bytes;
    *ret_n = (size_t)upload->bytes;
    return 0;
}
