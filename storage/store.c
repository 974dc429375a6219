/* The life of a store: its folder, its lock, its three connections.
 *
 * A second process is kept out by flock on the file "lock", which the kernel releases however we
 * end. Network file systems are refused: SQLite's WAL needs memory shared between its users, and
 * their locks and fsync cannot be trusted with an acknowledged byte. Thread: any. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "inner.h"

enum { DEFAULT_CHUNK_BYTES = 1 << 20, MIN_CHUNK_BYTES = 16, MAX_CHUNK_BYTES = 64 << 20 };

int store__oom(int code, struct shr_err *err)
{
    return code == 0 ? 0 : shr_err_set(err, code, "out of memory");
}

static int io_error(struct shr_err *err, const char *what, const char *dir)
{
    int code = errno == EACCES || errno == EPERM ? SHR_ERR_DENIED
               : errno == ENOSPC                 ? SHR_ERR_FULL
                                                 : SHR_ERR_IO;
    return shr_err_set(err, code, "%s %s: %s", what, dir, strerror(errno));
}

/* ── The folder ─────────────────────────────────────────────────────────────────────────────── */

struct remote_fs {
    unsigned long magic;
    const char *name;
};

static const struct remote_fs remote_fs[] = {
    /* Values of statfs(2). */
    {0x6969, "nfs"},       {0x517b, "smb"},        {0xfe534d42, "smb2"}, {0xff534d42, "cifs"},
    {0x5346414f, "afs"},   {0x6b414653, "afs"},    {0xc36400, "ceph"},   {0x1021997, "9p"},
    {0xbd00bd0, "lustre"}, {0x19830326, "beegfs"}, {0x73757245, "coda"}, {0x47504653, "gpfs"},
};

static int refuse_remote(int fd, const char *dir, struct shr_err *err)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0) {
        return io_error(err, "cannot examine", dir);
    }
    for (size_t i = 0; i < SHR_COUNT_OF(remote_fs); i++) {
        if (((unsigned long)fs.f_type & 0xffffffffUL) == remote_fs[i].magic) {
            return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                               "%s is on a network file system (%s): the store needs a local one",
                               dir, remote_fs[i].name);
        }
    }
    return 0;
}

/* The folder's own name must survive a power failure as well as what is in it. */
static int sync_parent(int dir_fd, const char *dir, struct shr_err *err)
{
    int fd = openat(dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        int code = io_error(err, "cannot sync the parent of", dir);
        if (fd >= 0) {
            close(fd);
        }
        return code;
    }
    close(fd);
    return 0;
}

static int take_lock(struct store *store, int dir_fd, struct shr_err *err)
{
    store->lock_fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd < 0) {
        return io_error(err, "cannot make the lock file in", store->dir);
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        return 0;
    }
    if (errno == EWOULDBLOCK) {
        return shr_err_set(err, SHR_ERR_BUSY, "%s is in use by another process", store->dir);
    }
    return io_error(err, "cannot lock", store->dir);
}

static int open_folder(struct store *store, struct shr_err *err)
{
    bool is_new = mkdir(store->dir, 0700) == 0;
    if (!is_new && errno != EEXIST) {
        return io_error(err, "cannot make", store->dir);
    }
    int fd = open(store->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return io_error(err, "cannot open", store->dir);
    }
    int code = refuse_remote(fd, store->dir, err);
    if (code == 0 && is_new) {
        code = sync_parent(fd, store->dir, err);
    }
    if (code == 0) {
        code = take_lock(store, fd, err);
    }
    close(fd);
    return code;
}

/* ── The connections ────────────────────────────────────────────────────────────────────────── */

int store__file_bytes(const struct store *store, const char *name, uint64_t *ret,
                      struct shr_err *err)
{
    struct shr_arena arena = {0};
    struct stat st;
    const char *path = shr_arena_printf(&arena, "%s/%s", store->dir, name);
    if (path == NULL) {
        return store__oom(SHR_ERR_NOMEM, err);
    }
    *ret = stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
    shr_arena_finish(&arena);
    return 0;
}

static int take_check(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    const char *text = (const char *)sqlite3_column_text(row, 0);
    if (text != NULL && strcmp(text, "ok") == 0) {
        return 0;
    }
    return shr_err_set(err, SHR_ERR_CORRUPT, "%s: %s", (const char *)user,
                       text != NULL ? text : "check failed");
}

static int open_main(struct store *store, struct shr_err *err)
{
    /* An orderly close folds the write-ahead log into the file and removes it. */
    uint64_t log_bytes = 0;
    int code = store__file_bytes(store, "shrinkd.db-wal", &log_bytes, err);
    if (code != 0) {
        return code;
    }
    struct store_db_opts opts = {
        .dir = store->dir,
        .name = "shrinkd.db",
        .pragmas = "PRAGMA journal_size_limit = 67108864",
        .journal_mode = "wal",
        .application_id = STORE_SHRINKD_ID,
        .migrations = store_migrations_shrinkd,
        .n_migrations = store_migrations_shrinkd_count,
    };
    code = store_db_open(&store->main, &opts, err);
    if (code == 0 && log_bytes > 0) {
        /* Only this file, which is small: artifacts.db is checked by its hashes. */
        char name[] = "shrinkd.db";
        store_db_lock(&store->main);
        code = store_db_query(&store->main, "PRAGMA quick_check(1)", STORE_NO_ARGS, take_check,
                              name, err);
        store_db_unlock(&store->main);
    }
    if (code != 0) {
        return code;
    }
    opts.is_reader = true;
    return store_db_open(&store->reader, &opts, err);
}

static int open_blobs(struct store *store, struct shr_err *err)
{
    /* Large pages and a rollback journal: new pages at the end are written once, where a WAL would
     * write them twice. What is deleted here needs no overwriting; freed pages can be given back.
     * The cache is counted in these pages: SQLite's default would hold 483 of them, 30 MiB. */
    const struct store_db_opts opts = {
        .dir = store->dir,
        .name = "artifacts.db",
        .pragmas = "PRAGMA page_size = 65536; PRAGMA auto_vacuum = INCREMENTAL;"
                   "PRAGMA cache_size = 32;"
                   "PRAGMA secure_delete = OFF",
        .journal_mode = "truncate",
        .application_id = STORE_ARTIFACTS_ID,
        .migrations = store_migrations_artifacts,
        .n_migrations = store_migrations_artifacts_count,
    };
    int code = store_db_open(&store->blobs, &opts, err);
    if (code != 0) {
        return code;
    }
    int64_t last = 0;
    bool found;
    store_db_lock(&store->blobs);
    code = store_db_int(&store->blobs, "SELECT coalesce(max(id), 0) FROM blob", STORE_NO_ARGS,
                        &last, &found, err);
    store->next_blob = last + 1;
    store_db_unlock(&store->blobs);
    return code;
}

int store_open(const struct store_opts *opts, struct store **ret, struct shr_err *err)
{
    size_t chunk_bytes = opts->chunk_bytes != 0 ? opts->chunk_bytes : DEFAULT_CHUNK_BYTES;
    if (chunk_bytes < MIN_CHUNK_BYTES || chunk_bytes > MAX_CHUNK_BYTES) {
        return shr_err_set(err, SHR_ERR_INVALID, "chunk_bytes: %zu is not in [%d, %d]", chunk_bytes,
                           MIN_CHUNK_BYTES, MAX_CHUNK_BYTES);
    }
    struct store *store = shr_mem_new(1, sizeof *store);
    if (store == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    store->lock_fd = -1;
    store->chunk_bytes = chunk_bytes;
    store->dir = shr_mem_strdup(opts->dir);
    int code = store->dir != NULL ? 0 : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    if (code == 0) {
        code = open_folder(store, err);
    }
    if (code == 0) {
        code = open_main(store, err);
    }
    if (code == 0) {
        code = open_blobs(store, err);
    }
    if (code != 0) {
        store_close(store);
        return code;
    }
    *ret = store;
    return 0;
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    store_db_close(&store->reader); /* before the writer, which then folds the log in */
    store_db_close(&store->main);
    store_db_close(&store->blobs);
    if (store->lock_fd >= 0) {
        close(store->lock_fd);
    }
    shr_mem_free(store->dir);
    shr_mem_free(store);
}

int store_ping(struct store *store, struct shr_err *err)
{
    int code = store_db_begin(&store->main, err);
    if (code != 0) {
        return code;
    }
    code = store_db_run(&store->main, "INSERT OR REPLACE INTO pulse (id, time_us) VALUES (1, ?1)",
                        STORE_ARGS(STORE_INT(store__now_us())), err);
    return store_db_end(&store->main, code, err);
}
