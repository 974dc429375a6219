/* Bringing a database file up to date; see migrate.h. */
#include "migrate.h"

#include <inttypes.h>
#include <stdio.h>

#include "db.h"

static int exec(struct store_db *db, const char *sql, struct shr_err *err)
{
    int rc = sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : store_db_error(db, rc, err);
}

static int run_one(struct store_db *db, int32_t application_id,
                   const struct store_migration *migration, size_t number, struct shr_err *err)
{
    char marks[96]; /* pragmas take no bound values */
    snprintf(marks, sizeof marks, "PRAGMA application_id = %" PRId32 "; PRAGMA user_version = %zu",
             application_id, number);
    int code = store_db_begin(db, err);
    if (code != 0) {
        return code;
    }
    code = exec(db, migration->sql, err);
    if (code == 0) {
        code = exec(db, marks, err);
    }
    code = store_db_end(db, code, err);
    return code == 0 ? 0 : shr_err_prefix(err, "migration %s: ", migration->name);
}

int store_migrate(struct store_db *db, int32_t application_id, const struct store_migration *list,
                  size_t n, struct shr_err *err)
{
    int64_t version = 0;
    int64_t owner = 0;
    int64_t objects = 0;
    bool found;
    store_db_lock(db);
    int code = store_db_int(db, "PRAGMA user_version", STORE_NO_ARGS, &version, &found, err);
    if (code == 0) {
        code = store_db_int(db, "PRAGMA application_id", STORE_NO_ARGS, &owner, &found, err);
    }
    if (code == 0) {
        code = store_db_int(db, "SELECT count(*) FROM sqlite_schema", STORE_NO_ARGS, &objects,
                            &found, err);
    }
    store_db_unlock(db);
    if (code != 0) {
        return code;
    }
    bool is_empty = owner == 0 && version == 0 && objects == 0;
    if (owner != application_id && !is_empty) {
        return shr_err_set(err, SHR_ERR_CONFLICT, "%s: not a database of shrinkd", db->name);
    }
    if (version < 0 || (uint64_t)version > n) {
        return shr_err_set(err, SHR_ERR_CONFLICT,
                           "%s: has version %" PRId64 ", this shrinkd knows up to %zu", db->name,
                           version, n);
    }
    for (size_t i = (size_t)version; i < n; i++) {
        code = run_one(db, application_id, &list[i], i + 1, err);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}
