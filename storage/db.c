/* A connection, its transactions and its statements; see db.h. */
#include "db.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { BUSY_MS = 5000 }; /* for shells and backups that look at the live file */

/* Is a full disk behind an I/O error? SQLite tells ENOSPC by itself, but not a quota or a limit on
 * the size of a file, which are one condition to the caller. The error number is kept by the file
 * that was written: the database, or its journal. */
static bool is_out_of_space(struct store_db *db, int rc)
{
    if (rc == SQLITE_IOERR_SHMSIZE) {
        return true;
    }
    if (rc != SQLITE_IOERR_WRITE && rc != SQLITE_IOERR_FSYNC) {
        return false;
    }
    int numbers[2] = {0, 0};
    sqlite3_file *journal = NULL;
    sqlite3_file_control(db->sqlite, "main", SQLITE_FCNTL_LAST_ERRNO, &numbers[0]);
    sqlite3_file_control(db->sqlite, "main", SQLITE_FCNTL_JOURNAL_POINTER, &journal);
    if (journal != NULL && journal->pMethods != NULL) {
        journal->pMethods->xFileControl(journal, SQLITE_FCNTL_LAST_ERRNO, &numbers[1]);
    }
    for (int i = 0; i < 2; i++) {
        if (numbers[i] == ENOSPC || numbers[i] == EDQUOT || numbers[i] == EFBIG) {
            return true;
        }
    }
    return false;
}

static int code_of(struct store_db *db, int rc)
{
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return SHR_ERR_FULL;
    case SQLITE_IOERR:
        return is_out_of_space(db, rc) ? SHR_ERR_FULL : SHR_ERR_IO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return SHR_ERR_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return SHR_ERR_BUSY;
    case SQLITE_NOMEM:
        return SHR_ERR_NOMEM;
    case SQLITE_TOOBIG:
        return SHR_ERR_LIMIT;
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_PROTOCOL:
        return SHR_ERR_IO;
    default:
        return SHR_ERR_INTERNAL;
    }
}

int store_db_error(struct store_db *db, int rc, struct shr_err *err)
{
    int code = code_of(db, rc);
    if (code == SHR_ERR_FULL) {
        return shr_err_set(err, code, "%s: no space left on the disk", db->name);
    }
    const char *text = db->sqlite != NULL ? sqlite3_errmsg(db->sqlite) : sqlite3_errstr(rc);
    return shr_err_set(err, code, "%s: %s", db->name, text);
}

/* ── Opening ────────────────────────────────────────────────────────────────────────────────── */

static int exec(struct store_db *db, const char *sql, struct shr_err *err)
{
    int rc = sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : store_db_error(db, rc, err);
}

static int take_journal_mode(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    const char *wanted = user;
    const char *got = (const char *)sqlite3_column_text(row, 0);
    if (got == NULL || strcmp(got, wanted) != 0) {
        return shr_err_set(err, SHR_ERR_IO, "journal mode is %s, not %s: the file system lacks it",
                           got != NULL ? got : "unknown", wanted);
    }
    return 0;
}

static int set_journal_mode(struct store_db *db, const char *mode, struct shr_err *err)
{
    bool is_wal = strcmp(mode, "wal") == 0;
    char wanted[16];
    snprintf(wanted, sizeof wanted, "%s", mode);
    int code =
        store_db_query(db, is_wal ? "PRAGMA journal_mode = WAL" : "PRAGMA journal_mode = TRUNCATE",
                       STORE_NO_ARGS, take_journal_mode, wanted, err);
    return code == 0 ? 0 : shr_err_prefix(err, "%s: ", db->name);
}

static int configure(struct store_db *db, const struct store_db_opts *opts, struct shr_err *err)
{
    sqlite3_busy_timeout(db->sqlite, BUSY_MS);
    sqlite3_extended_result_codes(db->sqlite, 1);
    int rc = sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (rc != SQLITE_OK) {
        return store_db_error(db, rc, err);
    }
    int code = exec(db,
                    "PRAGMA trusted_schema = OFF;"
                    "PRAGMA cell_size_check = ON;"
                    "PRAGMA foreign_keys = ON;"
                    "PRAGMA synchronous = FULL",
                    err);
    if (code == 0 && opts->pragmas != NULL) {
        code = exec(db, opts->pragmas, err);
    }
    if (code == 0) {
        store_db_lock(db);
        code = set_journal_mode(db, opts->journal_mode, err);
        store_db_unlock(db);
    }
    if (code != 0) {
        return code;
    }
    if (opts->is_reader) {
        return exec(db, "PRAGMA query_only = ON", err);
    }
    return store_migrate(db, opts->application_id, opts->migrations, opts->n_migrations, err);
}

int store_db_open(struct store_db *db, const struct store_db_opts *opts, struct shr_err *err)
{
    *db = (struct store_db){.name = opts->name, .is_reader = opts->is_reader};
    struct shr_arena arena = {0};
    char *path = shr_arena_printf(&arena, "%s/%s", opts->dir, opts->name);
    if (path == NULL) {
        *db = (struct store_db){0};
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    if (pthread_mutex_init(&db->mutex, NULL) != 0) {
        shr_arena_finish(&arena);
        *db = (struct store_db){0};
        return shr_err_set(err, SHR_ERR_NOMEM, "%s: no mutex", opts->name);
    }
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(path, &db->sqlite, flags | (opts->is_reader ? 0 : SQLITE_OPEN_CREATE),
                             NULL);
    int code = rc == SQLITE_OK ? 0 : store_db_error(db, rc, err);
    shr_arena_finish(&arena);
    if (code == 0) {
        code = configure(db, opts, err);
    }
    if (code != 0) {
        store_db_close(db);
    }
    return code;
}

void store_db_close(struct store_db *db)
{
    if (db->name == NULL) {
        return;
    }
    for (size_t i = 0; i < db->n_statements; i++) {
        sqlite3_finalize(db->statements[i].stmt);
    }
    sqlite3_close(db->sqlite);
    pthread_mutex_destroy(&db->mutex);
    *db = (struct store_db){0};
}

/* ── Statements ─────────────────────────────────────────────────────────────────────────────── */

static int prepare(struct store_db *db, const char *sql, sqlite3_stmt **ret, struct shr_err *err)
{
    for (size_t i = 0; i < db->n_statements; i++) {
        if (db->statements[i].sql == sql) {
            *ret = db->statements[i].stmt;
            return 0;
        }
    }
    sqlite3_stmt *stmt;
    int rc = sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL);
    if (rc != SQLITE_OK) {
        return store_db_error(db, rc, err);
    }
    size_t slot = db->n_statements;
    if (slot == STORE_DB_STATEMENTS) {
        slot = db->next_victim;
        /* Never one that is running: a row function may run statements of its own. */
        while (sqlite3_stmt_busy(db->statements[slot].stmt)) {
            slot = (slot + 1) % STORE_DB_STATEMENTS;
        }
        db->next_victim = (slot + 1) % STORE_DB_STATEMENTS;
        sqlite3_finalize(db->statements[slot].stmt);
    } else {
        db->n_statements++;
    }
    db->statements[slot].sql = sql;
    db->statements[slot].stmt = stmt;
    *ret = stmt;
    return 0;
}

static int bind_one(sqlite3_stmt *stmt, int index, const struct store_arg *arg)
{
    switch (arg->kind) {
    case STORE_ARG_INT:
        return sqlite3_bind_int64(stmt, index, arg->i);
    case STORE_ARG_REAL:
        return sqlite3_bind_double(stmt, index, arg->d);
    case STORE_ARG_TEXT:
        return sqlite3_bind_text(stmt, index, arg->p, -1, SQLITE_STATIC);
    default:
        return sqlite3_bind_blob64(stmt, index, arg->p, arg->n, SQLITE_STATIC);
    }
}

int store_db_query(struct store_db *db, const char *sql, const struct store_arg *args,
                   store_row_fn fn, void *user, struct shr_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int code = prepare(db, sql, &stmt, err);
    if (code != 0) {
        return code;
    }
    int rc = SQLITE_OK;
    for (int i = 0; rc == SQLITE_OK && args[i].kind != STORE_ARG_END; i++) {
        rc = bind_one(stmt, i + 1, &args[i]);
    }
    if (rc == SQLITE_OK) {
        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
            code = fn != NULL ? fn(stmt, user, err) : 0;
            if (code != 0) {
                break;
            }
        }
    }
    if (rc != SQLITE_DONE && rc != SQLITE_ROW) {
        code = store_db_error(db, rc, err);
    }
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return code;
}

int store_db_run(struct store_db *db, const char *sql, const struct store_arg *args,
                 struct shr_err *err)
{
    return store_db_query(db, sql, args, NULL, NULL, err);
}

struct int_row {
    int64_t value;
    bool found;
};

static int take_int(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    (void)err;
    struct int_row *r = user;
    r->value = sqlite3_column_int64(row, 0);
    r->found = true;
    return 0;
}

int store_db_int(struct store_db *db, const char *sql, const struct store_arg *args,
                 int64_t *ret_value, bool *ret_found, struct shr_err *err)
{
    struct int_row r = {0};
    int code = store_db_query(db, sql, args, take_int, &r, err);
    if (code == 0) {
        *ret_value = r.value;
        *ret_found = r.found;
    }
    return code;
}

int64_t store_db_changes(const struct store_db *db)
{
    return sqlite3_changes64(db->sqlite);
}

int64_t store_db_last_id(const struct store_db *db)
{
    return sqlite3_last_insert_rowid(db->sqlite);
}

const char *store_row_text(sqlite3_stmt *row, int column, struct shr_arena *arena, int *code)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    if (text == NULL && sqlite3_column_type(row, column) != SQLITE_NULL) {
        *code = SHR_ERR_NOMEM; /* the conversion failed */
        return "";
    }
    const char *copy = shr_arena_strdup(arena, text != NULL ? text : "");
    if (copy == NULL) {
        *code = SHR_ERR_NOMEM;
        return "";
    }
    return copy;
}

/* ── Transactions ───────────────────────────────────────────────────────────────────────────── */

void store_db_lock(struct store_db *db)
{
    pthread_mutex_lock(&db->mutex);
}

void store_db_unlock(struct store_db *db)
{
    pthread_mutex_unlock(&db->mutex);
}

int store_db_begin(struct store_db *db, struct shr_err *err)
{
    store_db_lock(db);
    if (!sqlite3_get_autocommit(db->sqlite)) {
        return 0;
    }
    /* IMMEDIATE: an upgrade from reading to writing would fail at once instead of waiting. */
    int code = store_db_run(db, db->is_reader ? "BEGIN" : "BEGIN IMMEDIATE", STORE_NO_ARGS, err);
    if (code != 0) {
        store_db_unlock(db);
    }
    return code;
}

static void roll_back(struct store_db *db, int code)
{
    db->lost = code;
    /* Some errors have rolled back already. What fails here is undone by the journal. */
    if (!sqlite3_get_autocommit(db->sqlite)) {
        int ignored = store_db_run(db, "ROLLBACK", STORE_NO_ARGS, NULL);
        (void)ignored;
    }
}

int store_db_end(struct store_db *db, int code, struct shr_err *err)
{
    if (code == 0) {
        code = store_db_run(db, "COMMIT", STORE_NO_ARGS, err);
    }
    if (code != 0) {
        roll_back(db, code);
    }
    store_db_unlock(db);
    return code;
}
