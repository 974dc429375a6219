/* Jobs, their steps and their events. */
#include "fixture.h"

#include <math.h>

#include "base/mem.h"

enum { NO_LIMIT = 1000 };

static void add_job(struct fixture *f, const char *model_name, const char *key,
                    struct store_job *ret)
{
    struct store_item model = {0};
    struct shr_err ignored;
    if (store_item_get(f->store, STORE_MODEL, model_name, 0, &model, &ignored) != 0) {
        add_item(f, STORE_MODEL, model_name, model_name, &model);
    }
    const struct store_job job = {.name = "nightly",
                                  .state = "queued",
                                  .recipe = "{\"pipeline\": []}",
                                  .model_id = model.id,
                                  .model_name = model_name,
                                  .idempotency_key = key,
                                  .request_sha256 = "r"};
    assert_ok(store_job_add(f->store, &job, NO_LIMIT, "{\"state\":\"queued\"}", ret, err));
    store_item_finish(&model);
}

static void new_job_id(struct fixture *f, char id[STORE_ID_SIZE])
{
    struct store_job job;
    add_job(f, "mlp", "", &job);
    snprintf(id, STORE_ID_SIZE, "%s", job.id);
    store_job_finish(&job);
}

/* Claims the oldest, which must be this job, and returns its attempt. */
static int64_t claim(struct fixture *f, const char *id)
{
    struct store_job job;
    assert_ok(store_job_claim(f->store, "queued", "running", &job, err));
    assert_string_equal(job.id, id);
    int64_t attempt = job.attempt;
    store_job_finish(&job);
    return attempt;
}

static void requeue(struct fixture *f, const char *id)
{
    const struct store_move move = {.from = "running", .to = "queued", .attempt = -1};
    assert_ok(store_job_move(f->store, id, &move, NULL, err));
}

/* ── Adding ─────────────────────────────────────────────────────────────────────────────────── */

static void a_job_reads_back_as_it_was_added_also_after_reopening(void **state)
{
    struct fixture *f = *state;
    struct store_job added;
    add_job(f, "mlp", "key-1", &added);
    fixture_reopen(f);
    struct store_job job;
    assert_ok(store_job_get(f->store, added.id, &job, err));
    assert_true(store_id_is("job", job.id));
    assert_string_equal(job.name, "nightly");
    assert_string_equal(job.state, "queued");
    assert_string_equal(job.recipe, "{\"pipeline\": []}");
    assert_string_equal(job.model_name, "mlp");
    assert_string_equal(job.idempotency_key, "key-1");
    assert_string_equal(job.request_sha256, "r");
    assert_string_equal(job.error, "");
    assert_string_equal(job.verdict, "");
    assert_int_equal(job.attempt, 0);
    assert_false(job.cancel_requested);
    assert_true(job.created_us > 1600000000000000);
    assert_int_equal(job.started_us, 0);
    assert_int_equal(job.finished_us, 0);
    store_job_finish(&job);
    store_job_finish(&added);
}

static void a_second_job_with_the_same_key_is_a_conflict_that_returns_the_first(void **state)
{
    struct fixture *f = *state;
    struct store_job first;
    add_job(f, "mlp", "key-1", &first);
    struct store_job again = first;
    again.arena = (struct shr_arena){0};
    struct store_job found = {0};
    char text[128];
    snprintf(text, sizeof text, "idempotency key key-1 belongs to %s", first.id);
    assert_err(store_job_add(f->store, &again, NO_LIMIT, "", &found, err), SHR_ERR_CONFLICT, text);
    assert_string_equal(found.id, first.id);
    int64_t n;
    assert_ok(store_job_count(f->store, "queued", &n, err));
    assert_int_equal(n, 1);
    store_job_finish(&found);
    store_job_finish(&first);
}

static void jobs_without_a_key_do_not_meet(void **state)
{
    char a[STORE_ID_SIZE], b[STORE_ID_SIZE];
    new_job_id(*state, a);
    new_job_id(*state, b);
    assert_string_not_equal(a, b);
}

static void a_full_queue_is_a_limit_and_adds_nothing(void **state)
{
    struct fixture *f = *state;
    struct store_job job;
    add_job(f, "mlp", "", &job);
    struct store_job more = job;
    struct store_job ret;
    assert_err(store_job_add(f->store, &more, 1, "", &ret, err), SHR_ERR_LIMIT,
               "1 jobs are queued, at most 1");
    int64_t n;
    assert_ok(store_job_count(f->store, "queued", &n, err));
    assert_int_equal(n, 1);
    store_job_finish(&job);
}

static void a_job_on_a_model_or_dataset_that_is_gone_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store_item model;
    add_item(f, STORE_MODEL, "mlp", "bytes", &model);
    struct store_job ret;
    struct store_job job = {.state = "queued", .model_id = "mdl_x", .model_name = "mlp"};
    assert_err(store_job_add(f->store, &job, NO_LIMIT, "", &ret, err), SHR_ERR_NOT_FOUND,
               "model mdl_x does not exist");
    job.model_id = model.id;
    job.datasets = "dst_x dst_y";
    assert_err(store_job_add(f->store, &job, NO_LIMIT, "", &ret, err), SHR_ERR_NOT_FOUND,
               "dataset dst_x does not exist");
    job.datasets = "mdl_y";
    assert_err(store_job_add(f->store, &job, NO_LIMIT, "", &ret, err), SHR_ERR_NOT_FOUND,
               "model mdl_y does not exist");
    store_item_finish(&model);
}

/* ── The queue ──────────────────────────────────────────────────────────────────────────────── */

static void claims_come_oldest_first_and_raise_the_attempt(void **state)
{
    struct fixture *f = *state;
    char ids[3][STORE_ID_SIZE];
    for (int i = 0; i < 3; i++) {
        new_job_id(f, ids[i]);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(claim(f, ids[i]), 1);
    }
    struct store_job job;
    assert_err(store_job_claim(f->store, "queued", "running", &job, err), SHR_ERR_NOT_FOUND,
               "no job is queued");
    requeue(f, ids[1]);
    assert_int_equal(claim(f, ids[1]), 2);
    assert_ok(store_job_get(f->store, ids[1], &job, err));
    assert_string_equal(job.state, "running");
    assert_true(job.started_us >= job.created_us);
    store_job_finish(&job);
}

static void a_move_sets_state_error_verdict_and_time_and_appends_the_event(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    new_job_id(f, id);
    int64_t attempt = claim(f, id);
    const struct store_move move = {.from = "running",
                                    .to = "failed",
                                    .attempt = attempt,
                                    .error = "{\"code\":\"FULL\"}",
                                    .verdict = "fail",
                                    .is_final = true,
                                    .event_data = "{\"state\":\"failed\"}"};
    int64_t event_id = 0;
    assert_ok(store_job_move(f->store, id, &move, &event_id, err));
    struct store_job job;
    assert_ok(store_job_get(f->store, id, &job, err));
    assert_string_equal(job.state, "failed");
    assert_string_equal(job.error, "{\"code\":\"FULL\"}");
    assert_string_equal(job.verdict, "fail");
    assert_true(job.finished_us >= job.started_us);
    store_job_finish(&job);
    struct store_events events;
    assert_ok(store_event_list(f->store, id, 0, 10, &events, err));
    assert_int_equal(events.n, 2);
    assert_int_equal(events.v[1].id, event_id);
    assert_string_equal(events.v[1].kind, "state");
    assert_string_equal(events.v[1].data, "{\"state\":\"failed\"}");
    store_events_finish(&events);
    int64_t last = 0;
    assert_ok(store_event_last(f->store, &last, err));
    assert_int_equal(last, event_id);
}

static void a_move_from_another_state_or_attempt_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char text[128];
    new_job_id(f, id);
    claim(f, id);
    requeue(f, id);
    assert_int_equal(claim(f, id), 2);
    struct store_move move = {.from = "running", .to = "succeeded", .attempt = 1, .is_final = true};
    snprintf(text, sizeof text, "job %s is at attempt 2, not 1", id);
    assert_err(store_job_move(f->store, id, &move, NULL, err), SHR_ERR_CONFLICT, text);
    move = (struct store_move){.from = "queued", .to = "cancelled", .attempt = -1};
    snprintf(text, sizeof text, "job %s is not queued any more", id);
    assert_err(store_job_move(f->store, id, &move, NULL, err), SHR_ERR_CONFLICT, text);
    assert_err(store_job_move(f->store, "job_x", &move, NULL, err), SHR_ERR_NOT_FOUND,
               "job job_x does not exist");
    struct store_job job;
    assert_ok(store_job_get(f->store, id, &job, err));
    assert_string_equal(job.state, "running");
    assert_int_equal(job.finished_us, 0);
    store_job_finish(&job);
    struct store_events events;
    assert_ok(store_event_list(f->store, id, 0, 10, &events, err));
    assert_int_equal(events.n, 2); /* added, requeued */
    store_events_finish(&events);
}

static void a_cancel_request_survives_recovery_but_not_a_retry(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    struct store_job job;
    new_job_id(f, id);
    claim(f, id);
    assert_ok(store_job_request_cancel(f->store, id, err));
    requeue(f, id);
    assert_ok(store_job_get(f->store, id, &job, err));
    assert_true(job.cancel_requested);
    store_job_finish(&job);
    struct store_move move = {.from = "queued", .to = "cancelled", .attempt = -1, .is_final = true};
    assert_ok(store_job_move(f->store, id, &move, NULL, err));
    move = (struct store_move){.from = "cancelled", .to = "queued", .attempt = -1, .max_queued = 1};
    assert_ok(store_job_move(f->store, id, &move, NULL, err));
    assert_ok(store_job_get(f->store, id, &job, err));
    assert_false(job.cancel_requested);
    assert_int_equal(job.finished_us, 0);
    store_job_finish(&job);
    assert_err(store_job_request_cancel(f->store, "job_x", err), SHR_ERR_NOT_FOUND,
               "job job_x does not exist");
}

static void a_retry_needs_a_place_in_the_queue_and_its_model(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char text[128];
    struct store_job job;
    new_job_id(f, id);
    struct store_move move = {.from = "queued", .to = "cancelled", .attempt = -1, .is_final = true};
    assert_ok(store_job_move(f->store, id, &move, NULL, err));
    move = (struct store_move){.from = "cancelled", .to = "queued", .attempt = -1, .max_queued = 1};
    add_job(f, "other", "", &job);
    assert_err(store_job_move(f->store, id, &move, NULL, err), SHR_ERR_LIMIT,
               "1 jobs are queued, at most 1");
    store_job_finish(&job);
    move.max_queued = 2;
    assert_ok(store_job_get(f->store, id, &job, err));
    snprintf(text, sizeof text, "model %s does not exist", job.model_id);
    assert_ok(store_item_delete(f->store, STORE_MODEL, "mlp", 0, err));
    assert_err(store_job_move(f->store, id, &move, NULL, err), SHR_ERR_NOT_FOUND, text);
    store_job_finish(&job);
}

static void a_job_is_found_by_its_key(void **state)
{
    struct fixture *f = *state;
    struct store_job added, job = {0};
    bool found = true;
    add_job(f, "mlp", "key-1", &added);
    assert_ok(store_job_find(f->store, "key-2", &job, &found, err));
    assert_false(found);
    assert_ok(store_job_find(f->store, "key-1", &job, &found, err));
    assert_true(found);
    assert_string_equal(job.id, added.id);
    store_job_finish(&job);
    store_job_finish(&added);
}

/* ── Lists ──────────────────────────────────────────────────────────────────────────────────── */

static void lists_page_from_the_newest_and_filter(void **state)
{
    struct fixture *f = *state;
    struct store_job job;
    for (int i = 0; i < 7; i++) {
        add_job(f, i % 2 == 0 ? "even" : "odd", "", &job);
        store_job_finish(&job);
    }
    char newest[STORE_ID_SIZE];
    new_job_id(f, newest);
    struct store_job_query query = {.limit = 3};
    struct store_jobs page;
    char cursor[64];
    size_t seen = 0;
    do {
        assert_ok(store_job_list(f->store, &query, &page, err));
        if (seen == 0) {
            assert_string_equal(page.v[0].id, newest);
        }
        seen += page.n;
        snprintf(cursor, sizeof cursor, "%s", page.next);
        query.cursor = cursor;
        store_jobs_finish(&page);
    } while (cursor[0] != 0);
    assert_int_equal(seen, 8);
    query = (struct store_job_query){.limit = 8};
    assert_ok(store_job_list(f->store, &query, &page, err));
    assert_int_equal(page.n, 8);
    assert_string_equal(page.next, ""); /* nothing behind a page that is just full */
    store_jobs_finish(&page);
    query = (struct store_job_query){.model_name = "even", .limit = 10};
    assert_ok(store_job_list(f->store, &query, &page, err));
    assert_int_equal(page.n, 4);
    assert_string_equal(page.next, "");
    store_jobs_finish(&page);
    query.state = "running";
    assert_ok(store_job_list(f->store, &query, &page, err));
    assert_int_equal(page.n, 0);
    store_jobs_finish(&page);
    query = (struct store_job_query){.state = "queued", .limit = 100};
    assert_ok(store_job_list(f->store, &query, &page, err));
    assert_int_equal(page.n, 8);
    store_jobs_finish(&page);
    query.cursor = "12; DROP TABLE job";
    assert_err(store_job_list(f->store, &query, &page, err), SHR_ERR_INVALID,
               "cursor: 12; DROP TABLE job is not one of this list");
}

static void a_deleted_job_takes_steps_and_events_along(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char sha256[STORE_SHA256_HEX];
    new_job_id(f, id);
    int64_t attempt = claim(f, id);
    put_text(f, "artifact", sha256);
    const struct store_step step = {.pass = "original", .sha256 = sha256, .bytes = 8};
    assert_ok(store_step_add(f->store, id, attempt, &step, err));
    char text[128];
    snprintf(text, sizeof text, "job %s has not ended: cancel it first", id);
    assert_err(store_job_delete(f->store, id, err), SHR_ERR_CONFLICT, text);
    const struct store_move end = {
        .from = "running", .to = "succeeded", .attempt = attempt, .is_final = true};
    assert_ok(store_job_move(f->store, id, &end, NULL, err));
    assert_ok(store_job_delete(f->store, id, err));
    struct store_events events;
    assert_ok(store_event_list(f->store, NULL, 0, 10, &events, err));
    assert_int_equal(events.n, 0);
    store_events_finish(&events);
    struct store_steps steps;
    snprintf(text, sizeof text, "job %s does not exist", id);
    assert_err(store_step_list(f->store, id, &steps, err), SHR_ERR_NOT_FOUND, text);
    assert_err(store_job_delete(f->store, id, err), SHR_ERR_NOT_FOUND, text);
}

/* ── Steps ──────────────────────────────────────────────────────────────────────────────────── */

static void steps_read_back_with_their_metrics(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char sha256[STORE_SHA256_HEX];
    new_job_id(f, id);
    int64_t attempt = claim(f, id);
    put_text(f, "artifact", sha256);
    struct store_metric metrics[] = {
        {.name = "accuracy", .measured = true, .value = 0.8812},
        {.name = "latency_ms_b1", .why = "Loop does not run"},
        {.name = "sqnr_db", .measured = true, .value = INFINITY},
    };
    struct store_step step = {.seq = 1,
                              .pass = "quantize_static",
                              .sha256 = sha256,
                              .bytes = 8,
                              .report = "{}",
                              .n_metrics = 3,
                              .metrics = metrics};
    assert_ok(store_step_add(f->store, id, attempt, &step, err));
    step.seq = 0;
    step.pass = "original";
    step.n_metrics = 0;
    assert_ok(store_step_add(f->store, id, attempt, &step, err));
    struct store_steps steps;
    assert_ok(store_step_list(f->store, id, &steps, err));
    assert_int_equal(steps.n, 2);
    assert_string_equal(steps.v[0].pass, "original");
    assert_int_equal(steps.v[0].n_metrics, 0);
    assert_string_equal(steps.v[1].pass, "quantize_static");
    assert_string_equal(steps.v[1].sha256, sha256);
    assert_int_equal(steps.v[1].bytes, 8);
    assert_int_equal(steps.v[1].n_metrics, 3);
    assert_true(steps.v[1].metrics[0].measured);
    assert_true(steps.v[1].metrics[0].value == 0.8812);
    assert_false(steps.v[1].metrics[1].measured);
    assert_string_equal(steps.v[1].metrics[1].why, "Loop does not run");
    assert_true(isinf(steps.v[1].metrics[2].value));
    store_steps_finish(&steps);
}

static void a_step_is_written_once_and_only_by_the_owner(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char sha256[STORE_SHA256_HEX];
    char text[128];
    new_job_id(f, id);
    claim(f, id);
    put_text(f, "artifact", sha256);
    struct store_metric metric = {.name = "size_bytes", .measured = true, .value = 8};
    struct store_step step = {
        .pass = "original", .sha256 = sha256, .bytes = 8, .n_metrics = 1, .metrics = &metric};
    assert_ok(store_step_add(f->store, id, 1, &step, err));
    metric.value = 9;
    assert_ok(store_step_add(f->store, id, 1, &step, err)); /* a replay changes nothing */
    struct store_steps steps;
    assert_ok(store_step_list(f->store, id, &steps, err));
    assert_int_equal(steps.n, 1);
    assert_true(steps.v[0].metrics[0].value == 8);
    store_steps_finish(&steps);
    requeue(f, id);
    assert_int_equal(claim(f, id), 2);
    snprintf(text, sizeof text, "job %s is at attempt 2, not 1", id);
    assert_err(store_step_add(f->store, id, 1, &step, err), SHR_ERR_CONFLICT, text);
}

static void a_later_attempt_replaces_what_earlier_ones_made(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char sha256[STORE_SHA256_HEX];
    new_job_id(f, id);
    claim(f, id);
    put_text(f, "artifact", sha256);
    struct store_step step = {.pass = "one", .sha256 = sha256, .bytes = 8};
    for (step.seq = 0; step.seq < 3; step.seq++) {
        assert_ok(store_step_add(f->store, id, 1, &step, err));
    }
    requeue(f, id);
    claim(f, id);
    step.seq = 1;
    step.pass = "two";
    assert_ok(store_step_add(f->store, id, 2, &step, err));
    struct store_steps steps;
    assert_ok(store_step_list(f->store, id, &steps, err));
    assert_int_equal(steps.n, 2);
    assert_string_equal(steps.v[0].pass, "one");
    assert_string_equal(steps.v[1].pass, "two");
    store_steps_finish(&steps);
}

static void a_step_without_its_bytes_or_with_nan_is_refused(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char sha256[STORE_SHA256_HEX];
    new_job_id(f, id);
    claim(f, id);
    struct store_step step = {.pass = "original", .sha256 = "beef", .bytes = 8};
    assert_err(store_step_add(f->store, id, 1, &step, err), SHR_ERR_NOT_FOUND,
               "blob sha256:beef does not exist");
    put_text(f, "artifact", sha256);
    struct store_metric metric = {.name = "accuracy", .measured = true, .value = NAN};
    step = (struct store_step){
        .pass = "original", .sha256 = sha256, .bytes = 8, .n_metrics = 1, .metrics = &metric};
    assert_err(store_step_add(f->store, id, 1, &step, err), SHR_ERR_INVALID,
               "step 0: metric accuracy is not a number");
    struct store_steps steps;
    assert_ok(store_step_list(f->store, id, &steps, err));
    assert_int_equal(steps.n, 0);
    store_steps_finish(&steps);
}

/* ── Events ─────────────────────────────────────────────────────────────────────────────────── */

static void events_are_listed_after_an_id_for_one_job_or_all(void **state)
{
    struct fixture *f = *state;
    char a[STORE_ID_SIZE], b[STORE_ID_SIZE];
    int64_t last = 0;
    new_job_id(f, a);
    new_job_id(f, b);
    for (int i = 0; i < 5; i++) {
        int64_t id;
        char data[16];
        snprintf(data, sizeof data, "%d", i);
        assert_ok(store_event_add(f->store, i % 2 == 0 ? a : b, "progress", data, &id, err));
        assert_true(id > last);
        last = id;
    }
    struct store_events events;
    assert_ok(store_event_list(f->store, NULL, 0, 100, &events, err));
    assert_int_equal(events.n, 7); /* with the two of adding */
    int64_t third = events.v[2].id;
    store_events_finish(&events);
    assert_ok(store_event_list(f->store, a, third, 100, &events, err));
    assert_int_equal(events.n, 2);
    assert_string_equal(events.v[0].data, "2");
    assert_string_equal(events.v[1].data, "4");
    assert_string_equal(events.v[1].job_id, a);
    store_events_finish(&events);
    assert_ok(store_event_list(f->store, NULL, third, 1, &events, err));
    assert_int_equal(events.n, 1);
    assert_string_equal(events.v[0].job_id, b);
    store_events_finish(&events);
    assert_err(store_event_add(f->store, "job_x", "log", "", NULL, err), SHR_ERR_NOT_FOUND,
               "job job_x does not exist");
}

/* ── Checkpoints ────────────────────────────────────────────────────────────────────────────── */

static void expect_checkpoint(struct fixture *f, const char *id, int64_t step, const char *wanted)
{
    void *bytes = NULL;
    size_t n = 77;
    assert_ok(store_checkpoint_get(f->store, id, step, &bytes, &n, err));
    assert_int_equal(n, wanted == NULL ? 0 : strlen(wanted));
    assert_true((bytes == NULL) == (wanted == NULL));
    if (wanted != NULL) {
        assert_memory_equal(bytes, wanted, n);
    }
    shr_mem_free(bytes);
}

static void a_checkpoint_outlives_the_process_and_the_next_takes_its_place(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE], first[STORE_SHA256_HEX];
    uint64_t bytes;
    new_job_id(f, id);
    int64_t attempt = claim(f, id);
    expect_checkpoint(f, id, 1, NULL);
    assert_ok(store_checkpoint_put(f->store, id, attempt, 1, "epoch 1", 7, err));
    put_text(f, "epoch 1", first);
    fixture_reopen(f);
    expect_checkpoint(f, id, 1, "epoch 1");
    expect_checkpoint(f, id, 2, NULL); /* of another step */
    assert_ok(store_sweep(f->store, -10, &bytes, err));
    assert_int_equal(bytes, 0);

    requeue(f, id); /* a crash: the next attempt goes on from it */
    const int64_t next = claim(f, id);
    expect_checkpoint(f, id, 1, "epoch 1");
    struct shr_err refused = {0};
    assert_int_equal(store_checkpoint_put(f->store, id, attempt, 1, "late", 4, &refused),
                     SHR_ERR_CONFLICT);
    assert_ok(store_checkpoint_put(f->store, id, next, 1, "epoch 2", 7, err));
    expect_checkpoint(f, id, 1, "epoch 2");
    assert_int_equal(store_blob_size(f->store, first, &bytes, &refused), SHR_ERR_NOT_FOUND);
    assert_ok(store_checkpoint_put(f->store, id, next, 1, "epoch 2", 7, err)); /* the same bytes */
    expect_checkpoint(f, id, 1, "epoch 2");
}

static void steps_in_front_that_run_again_leave_the_checkpoint(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE], sha256[STORE_SHA256_HEX], early[STORE_SHA256_HEX];
    uint64_t bytes;
    struct shr_err gone = {0};
    new_job_id(f, id);
    const int64_t attempt = claim(f, id);
    assert_ok(store_checkpoint_put(f->store, id, attempt, 2, "of step 2", 9, err));
    requeue(f, id);
    const int64_t next = claim(f, id);
    put_text(f, "artifact", sha256);
    for (int64_t seq = 0; seq < 2; seq++) {
        const struct store_step step = {
            .seq = seq, .pass = "distill", .sha256 = sha256, .bytes = 8};
        put_text(f, "early", early);
        assert_ok(store_checkpoint_put(f->store, id, next, seq, "early", 5, err));
        assert_int_equal(store_blob_size(f->store, early, &bytes, &gone), SHR_ERR_NOT_FOUND);
        assert_ok(store_step_add(f->store, id, next, &step, err));
        expect_checkpoint(f, id, 2, "of step 2");
    }
}

static void the_end_of_a_step_or_of_the_job_drops_the_checkpoint(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE], sha256[STORE_SHA256_HEX];
    new_job_id(f, id);
    const int64_t attempt = claim(f, id);
    assert_ok(store_checkpoint_put(f->store, id, attempt, 1, "half", 4, err));
    put_text(f, "artifact", sha256);
    const struct store_step step = {.seq = 1, .pass = "distill", .sha256 = sha256, .bytes = 8};
    assert_ok(store_step_add(f->store, id, attempt, &step, err));
    expect_checkpoint(f, id, 1, NULL);

    assert_ok(store_checkpoint_put(f->store, id, attempt, 2, "half", 4, err));
    const struct store_move move = {
        .from = "running", .to = "failed", .attempt = attempt, .is_final = true};
    assert_ok(store_job_move(f->store, id, &move, NULL, err));
    expect_checkpoint(f, id, 2, NULL);
    uint64_t swept = 0;
    assert_ok(store_sweep(f->store, -10, &swept, err));
    assert_int_equal(swept, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        store_test(a_job_reads_back_as_it_was_added_also_after_reopening),
        store_test(a_second_job_with_the_same_key_is_a_conflict_that_returns_the_first),
        store_test(jobs_without_a_key_do_not_meet),
        store_test(a_full_queue_is_a_limit_and_adds_nothing),
        store_test(a_job_on_a_model_or_dataset_that_is_gone_is_refused),
        store_test(claims_come_oldest_first_and_raise_the_attempt),
        store_test(a_move_sets_state_error_verdict_and_time_and_appends_the_event),
        store_test(a_move_from_another_state_or_attempt_changes_nothing),
        store_test(a_cancel_request_survives_recovery_but_not_a_retry),
        store_test(a_retry_needs_a_place_in_the_queue_and_its_model),
        store_test(a_job_is_found_by_its_key),
        store_test(lists_page_from_the_newest_and_filter),
        store_test(a_deleted_job_takes_steps_and_events_along),
        store_test(steps_read_back_with_their_metrics),
        store_test(a_step_is_written_once_and_only_by_the_owner),
        store_test(a_later_attempt_replaces_what_earlier_ones_made),
        store_test(a_step_without_its_bytes_or_with_nan_is_refused),
        store_test(events_are_listed_after_an_id_for_one_job_or_all),
        store_test(a_checkpoint_outlives_the_process_and_the_next_takes_its_place),
        store_test(steps_in_front_that_run_again_leave_the_checkpoint),
        store_test(the_end_of_a_step_or_of_the_job_drops_the_checkpoint),
    };
    return cmocka_run_group_tests_name("storage/jobs", tests, NULL, NULL);
}
