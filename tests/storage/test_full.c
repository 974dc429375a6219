/* A full disk: the error says so, nothing half-written stays, and space freed is space usable.
 *
 * The kernel's limit on the size of a file stands in for the disk: writes fail in the middle as
 * they do there. Each test runs in a child, as the limit is the process's. */
#include "fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOB = 3 << 20 };

static void set_limit(rlim_t bytes)
{
    const struct rlimit limit = {bytes, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void *some_bytes(unsigned seed)
{
    unsigned char *bytes = malloc(BLOB);
    for (size_t i = 0; i < BLOB; i++) {
        seed = seed * 1103515245u + 12345u;
        bytes[i] = (unsigned char)(seed >> 16);
    }
    return bytes;
}

static void full_artifacts_fail_the_upload_and_keep_what_was_there(void **state)
{
    struct fixture *f = *state;
    void *first = some_bytes(1);
    void *second = some_bytes(2);
    char kept[STORE_SHA256_HEX], lost[STORE_SHA256_HEX];
    struct store_usage usage;
    uint64_t freed;
    assert_ok(store_blob_put(f->store, first, BLOB, kept, err));
    set_limit(5 << 20);
    assert_err(store_blob_put(f->store, second, BLOB, lost, err), SHR_ERR_FULL,
               "artifacts.db: no space left on the disk");
    assert_ok(store_usage(f->store, &usage, err));
    assert_int_equal(usage.blobs, 1);
    assert_int_equal(usage.blob_bytes, BLOB);
    assert_ok(store_check(f->store, err));
    assert_ok(store_ping(f->store, err)); /* the other file still takes writes */
    /* Within the same limit, once the first is swept the second fits. */
    assert_ok(store_sweep(f->store, 0, &freed, err));
    assert_int_equal(freed, BLOB);
    assert_ok(store_blob_put(f->store, second, BLOB, lost, err));
    assert_ok(store_check(f->store, err));
    fixture_reopen(f);
    assert_ok(store_check(f->store, err));
    free(first);
    free(second);
}

static void an_upload_that_was_rolled_back_with_another_says_so(void **state)
{
    struct fixture *f = *state;
    struct store_upload *innocent, *large;
    char sha256[STORE_SHA256_HEX];
    void *bytes = some_bytes(3);
    assert_ok(store_upload_new(f->store, &innocent, err));
    assert_ok(store_upload_new(f->store, &large, err));
    assert_ok(store_upload_append(innocent, bytes, 2 * TEST_CHUNK, err)); /* not committed yet */
    set_limit(2 << 20);
    struct shr_err error = {0};
    int code = store_upload_append(large, bytes, BLOB, &error);
    if (code == 0) { /* all in the cache so far */
        code = store_upload_finish(large, sha256, &error);
    }
    assert_int_equal(code, SHR_ERR_FULL);
    set_limit(RLIM_INFINITY);
    assert_err(store_upload_finish(innocent, sha256, err), SHR_ERR_FULL,
               "artifacts.db: the upload was rolled back with a write that failed");
    store_upload_free(innocent);
    store_upload_free(large);
    struct store_usage usage;
    assert_ok(store_usage(f->store, &usage, err));
    assert_int_equal(usage.blobs, 0);
    assert_int_equal(usage.reclaimable_bytes, 0);
    assert_ok(store_blob_put(f->store, bytes, BLOB, sha256, err));
    assert_ok(store_check(f->store, err));
    free(bytes);
}

static void full_rows_fail_the_change_and_leave_the_last_state(void **state)
{
    struct fixture *f = *state;
    struct store_item model;
    add_item(f, STORE_MODEL, "mlp", "bytes", &model);
    const struct store_job job = {.state = "queued", .model_id = model.id, .model_name = "mlp"};
    struct store_job added;
    assert_ok(store_job_add(f->store, &job, 10, "", &added, err));
    set_limit(256 << 10);
    static char data[20000];
    memset(data, 'x', sizeof data - 1);
    int code = 0;
    int64_t events = 0;
    struct shr_err error = {0};
    while (code == 0 && events < 1000) {
        code = store_event_add(f->store, added.id, "log", data, NULL, &error);
        events += code == 0;
    }
    assert_int_equal(code, SHR_ERR_FULL);
    assert_string_equal(error.msg, "shrinkd.db: no space left on the disk");
    assert_true(events > 0);
    set_limit(RLIM_INFINITY);
    fixture_reopen(f);
    struct store_events list;
    assert_ok(store_event_list(f->store, added.id, 0, 2000, &list, err));
    assert_int_equal(list.n, events + 1);
    store_events_finish(&list);
    assert_ok(store_check(f->store, err));
    store_job_finish(&added);
    store_item_finish(&model);
}

/* Runs a test in a child; its failures are told there and make the parent's fail. */
static void in_child(void **state, void (*test)(void **))
{
    int status;
    fixture_teardown(state); /* the child has a store of its own */
    pid_t child = fork();
    if (child == 0) {
        const struct CMUnitTest tests[] = {store_test(test)};
        dup2(STDERR_FILENO, STDOUT_FILENO); /* one TAP stream, the parent's */
        _exit(cmocka_run_group_tests(tests, NULL, NULL) != 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    fixture_setup(state);
    assert_int_equal(status, 0);
}

#define CHILD_TEST(name)                                                                           \
    static void name##_(void **state)                                                              \
    {                                                                                              \
        in_child(state, name);                                                                     \
    }
CHILD_TEST(full_artifacts_fail_the_upload_and_keep_what_was_there)
CHILD_TEST(an_upload_that_was_rolled_back_with_another_says_so)
CHILD_TEST(full_rows_fail_the_change_and_leave_the_last_state)

int main(void)
{
    const struct CMUnitTest tests[] = {
        store_test(full_artifacts_fail_the_upload_and_keep_what_was_there_),
        store_test(an_upload_that_was_rolled_back_with_another_says_so_),
        store_test(full_rows_fail_the_change_and_leave_the_last_state_),
    };
    return cmocka_run_group_tests_name("storage/full", tests, NULL, NULL);
}
