/* Opening: an empty folder, an old, newer, foreign or damaged file, a second process. */
#include "fixture.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inner.h"

static int open_again(struct fixture *f, struct store **ret, struct shr_err *err)
{
    const struct store_opts opts = {.dir = f->dir, .chunk_bytes = TEST_CHUNK};
    return store_open(&opts, ret, err);
}

static void close_store(struct fixture *f)
{
    store_close(f->store);
    f->store = NULL;
}

static void damage(const struct fixture *f, const char *file, off_t at, const char *bytes)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->dir, file);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, strlen(bytes), at), strlen(bytes));
    close(fd);
}

struct pragma {
    const char *sql, *value;
};

static int take_text(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    (void)err;
    snprintf(user, 32, "%s", (const char *)sqlite3_column_text(row, 0));
    return 0;
}

static void assert_pragmas(struct store_db *db, const struct pragma *pragmas, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char value[32] = "";
        store_db_lock(db);
        assert_ok(store_db_query(db, pragmas[i].sql, STORE_NO_ARGS, take_text, value, err));
        store_db_unlock(db);
        if (strcmp(value, pragmas[i].value) != 0) {
            fail_msg("%s: %s is %s", db->name, pragmas[i].sql, value);
        }
    }
}

static void connections_are_set_for_durability(void **state)
{
    struct fixture *f = *state;
    static const struct pragma all[] = {
        {"PRAGMA synchronous", "2"},     {"PRAGMA foreign_keys", "1"},
        {"PRAGMA trusted_schema", "0"},  {"PRAGMA cell_size_check", "1"},
        {"PRAGMA busy_timeout", "5000"},
    };
    static const struct pragma main_only[] = {
        {"PRAGMA journal_mode", "wal"},
        {"PRAGMA application_id", "1397248580"},
        {"PRAGMA user_version", "2"},
        {"PRAGMA query_only", "0"},
    };
    static const struct pragma blobs_only[] = {
        {"PRAGMA journal_mode", "truncate"}, {"PRAGMA page_size", "65536"},
        {"PRAGMA secure_delete", "0"},       {"PRAGMA auto_vacuum", "2"},
        {"PRAGMA user_version", "1"},
    };
    static const struct pragma reader_only[] = {{"PRAGMA query_only", "1"}};
    fixture_reopen(f); /* also of a file that was not made just now */
    assert_pragmas(&f->store->main, all, SHR_COUNT_OF(all));
    assert_pragmas(&f->store->reader, all, SHR_COUNT_OF(all));
    assert_pragmas(&f->store->blobs, all, SHR_COUNT_OF(all));
    assert_pragmas(&f->store->main, main_only, SHR_COUNT_OF(main_only));
    assert_pragmas(&f->store->blobs, blobs_only, SHR_COUNT_OF(blobs_only));
    assert_pragmas(&f->store->reader, reader_only, SHR_COUNT_OF(reader_only));
    assert_ok(store_ping(f->store, err));
    assert_ok(store_check(f->store, err));
}

static void the_folder_is_private_and_its_parent_must_exist(void **state)
{
    struct fixture *f = *state;
    char dir[128];
    char text[256];
    struct stat st;
    struct store *store;
    snprintf(dir, sizeof dir, "%s/new", f->dir);
    const struct store_opts opts = {.dir = dir};
    assert_ok(store_open(&opts, &store, err));
    store_close(store);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    snprintf(dir, sizeof dir, "%s/not/there", f->dir);
    snprintf(text, sizeof text, "cannot make %s: No such file or directory", dir);
    assert_err(store_open(&opts, &store, err), SHR_ERR_IO, text);
    const struct store_opts odd = {.dir = f->dir, .chunk_bytes = 1};
    assert_err(store_open(&odd, &store, err), SHR_ERR_INVALID,
               "chunk_bytes: 1 is not in [16, 67108864]");
}

static void a_second_process_is_kept_out_until_the_first_ends(void **state)
{
    struct fixture *f = *state;
    int status;
    close_store(f);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *store;
        char ok = open_again(f, &store, NULL) == 0;
        ok = write(ready[1], &ok, 1) == 1;
        pause();
        _exit(ok);
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_true(ok);
    char text[128];
    struct store *store;
    snprintf(text, sizeof text, "%s is in use by another process", f->dir);
    assert_err(open_again(f, &store, err), SHR_ERR_BUSY, text);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    fixture_open(f);
    close(ready[0]);
    close(ready[1]);
}

static void newer_and_foreign_files_are_refused_untouched(void **state)
{
    struct fixture *f = *state;
    struct store *store;
    close_store(f);
    fixture_sql(f, "shrinkd.db", "PRAGMA user_version = 1000");
    assert_err(open_again(f, &store, err), SHR_ERR_CONFLICT,
               "shrinkd.db: has version 1000, this shrinkd knows up to 2");
    fixture_sql(f, "shrinkd.db", "PRAGMA user_version = 2; PRAGMA application_id = 7");
    assert_err(open_again(f, &store, err), SHR_ERR_CONFLICT,
               "shrinkd.db: not a database of shrinkd");
    fixture_sql(f, "shrinkd.db", "PRAGMA application_id = 1397248580");
    fixture_sql(f, "artifacts.db", "PRAGMA user_version = 2");
    assert_err(open_again(f, &store, err), SHR_ERR_CONFLICT,
               "artifacts.db: has version 2, this shrinkd knows up to 1");
    fixture_sql(f, "artifacts.db", "PRAGMA user_version = 1");
    fixture_open(f);
}

static void a_database_of_another_program_with_tables_is_not_taken_over(void **state)
{
    struct fixture *f = *state;
    struct store *store;
    char command[128];
    close_store(f);
    snprintf(command, sizeof command, "rm '%s'/shrinkd.db", f->dir);
    assert_int_equal(system(command), 0);
    fixture_sql(f, "shrinkd.db", "CREATE TABLE theirs (x)");
    assert_err(open_again(f, &store, err), SHR_ERR_CONFLICT,
               "shrinkd.db: not a database of shrinkd");
}

static void damaged_files_are_told(void **state)
{
    struct fixture *f = *state;
    struct store *store;
    close_store(f);
    damage(f, "artifacts.db", 0, "not SQLite");
    assert_err(open_again(f, &store, err), SHR_ERR_CORRUPT, "artifacts.db: file is not a database");
    damage(f, "shrinkd.db", 100, "\xff\xff\xff");
    struct shr_err error = {0};
    assert_int_equal(open_again(f, &store, &error), SHR_ERR_CORRUPT);
    assert_non_null(strstr(error.msg, "shrinkd.db"));
}

/* ── Migrations of any list, on a file of their own ─────────────────────────────────────────── */

static const struct store_migration steps[] = {
    {"001_a.sql", "CREATE TABLE a (x INTEGER NOT NULL) STRICT; INSERT INTO a VALUES (1)"},
    {"002_b.sql", "ALTER TABLE a ADD COLUMN y TEXT NOT NULL DEFAULT 'y'; UPDATE a SET x = x + 1"},
    {"003_c.sql", "UPDATE a SET x = 100; INSERT INTO nowhere VALUES (1)"},
};

static int migrate_to(struct fixture *f, size_t n, struct shr_err *err)
{
    struct store_db db;
    const struct store_db_opts opts = {.dir = f->dir,
                                       .name = "other.db",
                                       .journal_mode = "wal",
                                       .application_id = 77,
                                       .migrations = steps,
                                       .n_migrations = n};
    int code = store_db_open(&db, &opts, err);
    store_db_close(&db);
    return code;
}

static void assert_other(struct fixture *f, const char *sql, int64_t wanted)
{
    struct store_db db;
    const struct store_db_opts opts = {
        .dir = f->dir, .name = "other.db", .journal_mode = "wal", .is_reader = true};
    int64_t value = -1;
    bool found;
    assert_ok(store_db_open(&db, &opts, err));
    store_db_lock(&db);
    assert_ok(store_db_int(&db, sql, STORE_NO_ARGS, &value, &found, err));
    store_db_unlock(&db);
    assert_int_equal(value, wanted);
    store_db_close(&db);
}

static void migrations_run_once_each_from_where_the_file_stands(void **state)
{
    struct fixture *f = *state;
    assert_ok(migrate_to(f, 1, err));
    assert_other(f, "SELECT x FROM a", 1);
    assert_ok(migrate_to(f, 2, err));
    assert_ok(migrate_to(f, 2, err));
    assert_other(f, "SELECT x FROM a WHERE y = 'y'", 2);
    assert_other(f, "PRAGMA user_version", 2);
    assert_other(f, "PRAGMA application_id", 77);
}

static void a_migration_that_fails_leaves_the_file_at_the_one_before(void **state)
{
    struct fixture *f = *state;
    assert_err(migrate_to(f, 3, err), SHR_ERR_INTERNAL,
               "migration 003_c.sql: other.db: no such table: nowhere");
    assert_other(f, "SELECT x FROM a", 2);
    assert_other(f, "PRAGMA user_version", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        store_test(connections_are_set_for_durability),
        store_test(the_folder_is_private_and_its_parent_must_exist),
        store_test(a_second_process_is_kept_out_until_the_first_ends),
        store_test(newer_and_foreign_files_are_refused_untouched),
        store_test(a_database_of_another_program_with_tables_is_not_taken_over),
        store_test(damaged_files_are_told),
        store_test(migrations_run_once_each_from_where_the_file_stands),
        store_test(a_migration_that_fails_leaves_the_file_at_the_one_before),
    };
    return cmocka_run_group_tests_name("storage/open", tests, NULL, NULL);
}
