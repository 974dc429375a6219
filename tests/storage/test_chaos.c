/* Every allocation fails once: each call ends with NOMEM or succeeds, and leaves the store whole.
 */
#include "fixture.h"

#include "base/mem.h"

/* A whole life on a store that is open; the first error ends it. */
static int live(struct store *store, struct shr_err *err)
{
    static unsigned char bytes[3 * TEST_CHUNK];
    char sha256[STORE_SHA256_HEX];
    struct store_item model = {0};
    struct store_job job = {0}, claimed = {0};
    struct store_steps steps = {0};
    struct store_events events = {0};
    struct store_jobs jobs = {0};
    struct store_page page = {0};
    struct store_usage usage;
    bool is_new;
    uint64_t freed;
    void *back = NULL;
    size_t n;
    int code = store_blob_put(store, bytes, sizeof bytes, sha256, err);
    if (code == 0) {
        const struct store_item item = {
            .name = "mlp", .n_parts = 1, .parts = {{"model", sha256, sizeof bytes}}};
        code = store_item_add(store, STORE_MODEL, &item, &model, &is_new, err);
    }
    if (code == 0) {
        const struct store_job new_job = {.state = "queued", .model_id = model.id};
        code = store_job_add(store, &new_job, SIZE_MAX, "{}", &job, err);
    }
    if (code == 0) {
        code = store_job_claim(store, "queued", "running", &claimed, err);
    }
    if (code == 0) {
        struct store_metric metric = {.name = "accuracy", .measured = true, .value = 0.9};
        const struct store_step step = {.pass = "original",
                                        .sha256 = sha256,
                                        .bytes = sizeof bytes,
                                        .n_metrics = 1,
                                        .metrics = &metric};
        code = store_step_add(store, claimed.id, claimed.attempt, &step, err);
    }
    if (code == 0) {
        code = store_step_list(store, claimed.id, &steps, err);
    }
    if (code == 0) {
        const struct store_move move = {
            .from = "running", .to = "succeeded", .attempt = claimed.attempt, .is_final = true};
        code = store_job_move(store, claimed.id, &move, NULL, err);
    }
    if (code == 0) {
        code = store_event_list(store, NULL, 0, 10, &events, err);
    }
    if (code == 0) {
        code = store_job_list(store, &(struct store_job_query){.limit = 10}, &jobs, err);
    }
    if (code == 0) {
        code = store_item_list(store, STORE_MODEL, NULL, 10, &page, err);
    }
    if (code == 0) {
        code = store_blob_get(store, sha256, sizeof bytes, &back, &n, err);
    }
    if (code == 0) {
        code = store_usage(store, &usage, err);
    }
    if (code == 0) {
        code = store_sweep(store, 0, &freed, err);
    }
    if (code == 0) {
        code = store_check(store, err);
    }
    shr_mem_free(back);
    store_page_finish(&page);
    store_jobs_finish(&jobs);
    store_events_finish(&events);
    store_steps_finish(&steps);
    store_job_finish(&claimed);
    store_job_finish(&job);
    store_item_finish(&model);
    return code;
}

static void every_failed_allocation_is_told_and_undone(void **state)
{
    struct fixture *f = *state;
    uint64_t nth = 0;
    bool hit;
    do {
        struct shr_err told = {0};
        shr_mem_chaos(++nth);
        int code = live(f->store, &told);
        hit = shr_mem_chaos_hit();
        shr_mem_chaos(0);
        if (code != (hit ? SHR_ERR_NOMEM : 0)) {
            fail_msg("allocation %d: %s: %s", (int)nth, shr_err_name(code), told.msg);
        }
        assert_ok(store_check(f->store, err));
        /* What the broken life left in the queue would be claimed by the next. */
        struct store_job left;
        while (store_job_claim(f->store, "queued", "dropped", &left, NULL) == 0) {
            store_job_finish(&left);
        }
    } while (hit);
    assert_true(nth > 25);
}

static void every_failed_allocation_of_opening_is_told(void **state)
{
    struct fixture *f = *state;
    const struct store_opts opts = {.dir = f->dir, .chunk_bytes = TEST_CHUNK};
    uint64_t nth = 0;
    bool hit;
    store_close(f->store);
    do {
        struct shr_err told = {0};
        f->store = NULL;
        shr_mem_chaos(++nth);
        int code = store_open(&opts, &f->store, &told);
        hit = shr_mem_chaos_hit();
        shr_mem_chaos(0);
        if (code != (hit ? SHR_ERR_NOMEM : 0)) {
            fail_msg("allocation %d: %s: %s", (int)nth, shr_err_name(code), told.msg);
        }
    } while (hit);
    assert_true(nth > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        store_test(every_failed_allocation_is_told_and_undone),
        store_test(every_failed_allocation_of_opening_is_told),
    };
    return cmocka_run_group_tests_name("storage/chaos", tests, NULL, NULL);
}
