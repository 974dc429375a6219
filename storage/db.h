/* One SQLite connection behind a mutex, and the one way to run a statement on it.
 *
 * A statement is prepared once, kept, bound, stepped to its end and reset before the call returns:
 * none is ever left open, so a reader never holds back a checkpoint or a commit. The text of a
 * statement must be a literal, as the cache knows it by its address. Thread: any; all but open,
 * close, lock and begin want the mutex held. */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "migrate.h"

enum { STORE_DB_STATEMENTS = 64 };

struct store_db { /* all zero = closed */
    sqlite3 *sqlite;
    pthread_mutex_t mutex;
    const char *name; /* "shrinkd.db", for messages */
    bool is_reader;
    int lost; /* the error that rolled back the last transaction that failed */
    size_t n_statements, next_victim;
    struct {
        const char *sql;
        sqlite3_stmt *stmt;
    } statements[STORE_DB_STATEMENTS];
};

struct store_db_opts {
    const char *dir, *name;
    bool is_reader;           /* of a file that another connection has opened and migrated */
    const char *pragmas;      /* run before anything else touches the file */
    const char *journal_mode; /* "wal", "truncate" */
    int32_t application_id;   /* of a file that we made */
    const struct store_migration *migrations;
    size_t n_migrations;
};

int store_db_open(struct store_db *db, const struct store_db_opts *opts,
                  struct shr_err *err) SHR_MUSTCHECK;
void store_db_close(struct store_db *db);

void store_db_lock(struct store_db *db);
void store_db_unlock(struct store_db *db);

/* Locks and starts a transaction, or goes on with the one that was left open by an unlock without
 * an end. On failure unlocked. */
int store_db_begin(struct store_db *db, struct shr_err *err) SHR_MUSTCHECK;
/* Commits when code is 0, else rolls back; unlocks. Returns code, or the commit's error. */
int store_db_end(struct store_db *db, int code, struct shr_err *err) SHR_MUSTCHECK;

/* ── Statements ─────────────────────────────────────────────────────────────────────────────── */

enum store_arg_kind {
    STORE_ARG_END,
    STORE_ARG_INT,
    STORE_ARG_REAL,
    STORE_ARG_TEXT,
    STORE_ARG_BLOB
};

struct store_arg { /* of ?1, ?2, … */
    enum store_arg_kind kind;
    int64_t i;
    double d;
    const void *p; /* NULL = the SQL NULL */
    size_t n;
};

#define STORE_ARGS(...) ((const struct store_arg[]){__VA_ARGS__, {.kind = STORE_ARG_END}})
#define STORE_NO_ARGS ((const struct store_arg[]){{.kind = STORE_ARG_END}})
#define STORE_INT(x)                                                                               \
    {                                                                                              \
        .kind = STORE_ARG_INT, .i = (x)                                                            \
    }
#define STORE_REAL(x)                                                                              \
    {                                                                                              \
        .kind = STORE_ARG_REAL, .d = (x)                                                           \
    }
#define STORE_TEXT(x)                                                                              \
    {                                                                                              \
        .kind = STORE_ARG_TEXT, .p = (x)                                                           \
    }
#define STORE_BLOB(x, bytes)                                                                       \
    {                                                                                              \
        .kind = STORE_ARG_BLOB, .p = (x), .n = (bytes)                                             \
    }

typedef int (*store_row_fn)(sqlite3_stmt *row, void *user, struct shr_err *err);

/* Runs a statement; each row goes to fn (which may be NULL), whose error ends it. */
int store_db_query(struct store_db *db, const char *sql, const struct store_arg *args,
                   store_row_fn fn, void *user, struct shr_err *err) SHR_MUSTCHECK;
int store_db_run(struct store_db *db, const char *sql, const struct store_arg *args,
                 struct shr_err *err) SHR_MUSTCHECK;
/* The integer in the first column of the only row; *ret_found is false when there is none. */
int store_db_int(struct store_db *db, const char *sql, const struct store_arg *args,
                 int64_t *ret_value, bool *ret_found, struct shr_err *err) SHR_MUSTCHECK;
int64_t store_db_changes(const struct store_db *db); /* rows changed by the last statement */
int64_t store_db_last_id(const struct store_db *db);

/* The text of a column in the arena, "" for NULL; on failure *code is SHR_ERR_NOMEM. */
const char *store_row_text(sqlite3_stmt *row, int column, struct shr_arena *arena, int *code);

/* The error of an SQLite result code on this connection. */
int store_db_error(struct store_db *db, int rc, struct shr_err *err);

#endif
