/* kill -9 at random moments: everything acknowledged is there, once, and all is whole.
 *
 * A child works on the store and writes each acknowledged change to a pipe; the parent kills it,
 * opens the store and compares. */
#include "fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

enum { ROUNDS = 20, MAX_BLOB = 40000 };

struct ack {
    char what; /* b = blob, j = job, e = event */
    char id[STORE_SHA256_HEX];
    int64_t number; /* of blob bytes, or the event's id */
};

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void acknowledge(int fd, char what, const char *id, int64_t number)
{
    struct ack ack = {.what = what, .number = number};
    snprintf(ack.id, sizeof ack.id, "%s", id);
    if (write(fd, &ack, sizeof ack) != sizeof ack) { /* atomic: shorter than PIPE_BUF */
        _exit(1);
    }
}

/* One blob, one job and one event after the other, for ever. */
static void work(const char *dir, int fd, uint64_t seed)
{
    static unsigned char bytes[MAX_BLOB];
    const struct store_opts opts = {.dir = dir, .chunk_bytes = TEST_CHUNK};
    struct store *store;
    struct store_item model;
    if (store_open(&opts, &store, NULL) != 0 ||
        store_item_get(store, STORE_MODEL, "mlp", 0, &model, NULL) != 0) {
        _exit(1);
    }
    for (;;) {
        size_t n = next_random(&seed) % MAX_BLOB;
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (unsigned char)next_random(&seed);
        }
        char sha256[STORE_SHA256_HEX];
        if (store_blob_put(store, bytes, n, sha256, NULL) != 0) {
            _exit(2);
        }
        acknowledge(fd, 'b', sha256, (int64_t)n);
        struct store_job added;
        const struct store_job job = {.state = "queued", .model_id = model.id};
        if (store_job_add(store, &job, SIZE_MAX, "", &added, NULL) != 0) {
            _exit(3);
        }
        acknowledge(fd, 'j', added.id, 0);
        int64_t event;
        if (store_event_add(store, added.id, "log", "x", &event, NULL) != 0) {
            _exit(4);
        }
        acknowledge(fd, 'e', added.id, event);
        store_job_finish(&added);
    }
}

static void check_ack(struct store *store, const struct ack *ack)
{
    if (ack->what == 'b') {
        uint64_t size;
        assert_ok(store_blob_size(store, ack->id, &size, err)); /* its hash: store_check */
        assert_int_equal(size, ack->number);
    } else if (ack->what == 'j') {
        struct store_job job;
        assert_ok(store_job_get(store, ack->id, &job, err));
        store_job_finish(&job);
    } else {
        struct store_events events;
        assert_ok(store_event_list(store, ack->id, ack->number - 1, 10, &events, err));
        assert_int_equal(events.n, 1);
        assert_int_equal(events.v[0].id, ack->number);
        store_events_finish(&events);
    }
}

static size_t run_round(struct fixture *f, uint64_t seed, bool wait_for_first)
{
    int fds[2];
    int status;
    static struct ack acks[4096];
    struct ack ack;
    size_t n = 0;
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        work(f->dir, fds[1], seed);
    }
    close(fds[1]);
    /* Every other round waits until the work goes on; the others also hit the opening. */
    if (wait_for_first) {
        assert_int_equal(read(fds[0], &acks[n++], sizeof *acks), sizeof *acks);
    }
    const struct timespec pause = {.tv_nsec = (long)(next_random(&seed) % 60) * 1000000};
    nanosleep(&pause, NULL);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status)); /* it did not fail on its own */
    while (read(fds[0], &ack, sizeof ack) == sizeof ack) {
        assert_true(n < SHR_COUNT_OF(acks));
        acks[n++] = ack;
    }
    close(fds[0]);
    fixture_open(f);
    for (size_t i = 0; i < n; i++) {
        check_ack(f->store, &acks[i]);
    }
    return n;
}

static void what_was_acknowledged_survives_kill_9(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;
    uint64_t freed;
    add_item(f, STORE_MODEL, "mlp", "bytes", NULL);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        store_close(f->store);
        f->store = NULL;
        n += run_round(f, (uint64_t)time(NULL) * 1000 + round, round % 2 == 0);
    }
    assert_true(n >= ROUNDS / 2);
    assert_ok(store_check(f->store, err));
    assert_ok(store_sweep(f->store, 0, &freed, err)); /* whatever was half-way */
    struct store_usage usage;
    assert_ok(store_usage(f->store, &usage, err));
    assert_int_equal(usage.blobs, 1);
    assert_int_equal(usage.reclaimable_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {store_test(what_was_acknowledged_survives_kill_9)};
    return cmocka_run_group_tests_name("storage/crash", tests, NULL, NULL);
}
