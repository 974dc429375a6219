/* The life of a job without its work: states, claims, cancellation, recovery, events. */
#include "fixture.h"
#include "jobs/events.h"
#include "jobs/queue.h"
#include "jobs/states.h"

static const enum job_state Q = JOB_QUEUED, R = JOB_RUNNING, S = JOB_SUCCEEDED, F = JOB_FAILED,
                            C = JOB_CANCELLED, L = JOB_LOST;

/* Every move that the drawing in states.h has; all others are illegal. */
static bool is_drawn(enum job_state from, enum job_state to)
{
    const struct {
        enum job_state from, to;
    } moves[] = {{Q, R}, {Q, C}, {R, Q}, {R, S}, {R, F}, {R, C}, {R, L}, {F, Q}, {C, Q}, {L, Q}};
    for (size_t i = 0; i < SHR_COUNT_OF(moves); i++) {
        if (moves[i].from == from && moves[i].to == to) {
            return true;
        }
    }
    return false;
}

static void only_the_moves_of_the_drawing_are_legal(void **state)
{
    struct fixture *f = *state;
    fixture_model(f, "m", "bytes");
    for (int from = 0; from < JOB_STATE_COUNT; from++) {
        for (int to = 0; to < JOB_STATE_COUNT; to++) {
            const bool legal = is_drawn((enum job_state)from, (enum job_state)to);
            assert_int_equal(job_state_may_move((enum job_state)from, (enum job_state)to), legal);
            if (!legal) {
                const struct job_move move = {(enum job_state)from, (enum job_state)to, -1, NULL,
                                              NULL};
                struct shr_err failure = {0};
                assert_int_equal(job_state_move(f->srv, "job_x", &move, &failure),
                                 SHR_ERR_INTERNAL);
            }
        }
    }
}

static void names_and_states_are_each_others(void **state)
{
    (void)state;
    static const char *const names[] = {"queued", "running",   "succeeded",
                                        "failed", "cancelled", "lost"};
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        enum job_state found = JOB_STATE_COUNT;
        assert_string_equal(job_state_name((enum job_state)i), names[i]);
        assert_true(job_state_find(names[i], &found));
        assert_int_equal(found, i);
        assert_int_equal(job_state_is_final((enum job_state)i), i > JOB_RUNNING);
    }
    enum job_state none = JOB_QUEUED;
    assert_false(job_state_find("paused", &none));
}

static void claim(struct fixture *f, int64_t *ret_attempt)
{
    struct store_job job = {0};
    assert_ok(job_state_claim(f->srv, &job, err));
    *ret_attempt = job.attempt;
    store_job_finish(&job);
}

static void a_job_moves_from_where_it_is(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    int64_t attempt = 0;
    fixture_model(f, "m", "bytes");
    fixture_job(f, "m", "", id);
    assert_state(f, id, "queued");
    claim(f, &attempt);
    assert_int_equal(attempt, 1);
    assert_state(f, id, "running");

    struct shr_err failure = {0};
    const struct job_move stale = {R, S, attempt - 1, NULL, "pass"};
    assert_int_equal(job_state_move(f->srv, id, &stale, &failure), SHR_ERR_CONFLICT);
    const struct job_move elsewhere = {Q, C, -1, NULL, NULL};
    assert_int_equal(job_state_move(f->srv, id, &elsewhere, &failure), SHR_ERR_CONFLICT);
    const struct job_move end = {R, S, attempt, NULL, "pass"};
    assert_ok(job_state_move(f->srv, id, &end, err));
    assert_state(f, id, "succeeded");
    assert_int_equal(job_state_move(f->srv, id, &end, &failure), SHR_ERR_CONFLICT);
}

struct heard {
    unsigned calls;
    unsigned finals;
    char last_job[STORE_ID_SIZE];
};

static void hear(void *user, const char *job_id, int64_t event_id, bool job_is_final)
{
    (void)event_id;
    struct heard *heard = user;
    heard->calls++;
    heard->finals += job_is_final;
    snprintf(heard->last_job, sizeof heard->last_job, "%s", job_id);
}

static void the_listener_hears_each_move_until_it_leaves(void **state)
{
    struct fixture *f = *state;
    struct heard heard = {0};
    char id[STORE_ID_SIZE];
    int64_t attempt = 0;
    fixture_model(f, "m", "bytes");
    srv_listen(f->srv, hear, &heard);
    fixture_job(f, "m", "", id);
    assert_int_equal(heard.calls, 1);
    claim(f, &attempt);
    assert_int_equal(heard.calls, 2);
    assert_int_equal(heard.finals, 0);
    assert_ok(job_state_move(f->srv, id, &(struct job_move){R, F, attempt, "{}", NULL}, err));
    assert_int_equal(heard.calls, 3);
    assert_int_equal(heard.finals, 1);
    assert_string_equal(heard.last_job, id);
    srv_listen(f->srv, NULL, NULL);
    assert_ok(job_state_move(f->srv, id, &(struct job_move){F, Q, attempt, "", ""}, err));
    assert_int_equal(heard.calls, 3);
}

static void a_waiting_job_is_cancelled_at_once_and_a_final_one_left_alone(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char done[STORE_ID_SIZE];
    int64_t attempt = 0;
    fixture_model(f, "m", "bytes");
    fixture_job(f, "m", "", done);
    claim(f, &attempt);
    assert_ok(job_state_move(f->srv, done, &(struct job_move){R, S, attempt, NULL, NULL}, err));
    fixture_job(f, "m", "", id);

    json_t *view = NULL;
    assert_ok(srv_job_cancel(f->srv, id, &view, err));
    assert_string_equal(json_string_value(json_object_get(view, "state")), "cancelled");
    json_decref(view);
    assert_ok(srv_job_cancel(f->srv, done, &view, err));
    assert_string_equal(json_string_value(json_object_get(view, "state")), "succeeded");
    json_decref(view);
    struct shr_err failure = {0};
    assert_int_equal(srv_job_cancel(f->srv, "job_01234567890123456789012345", &view, &failure),
                     SHR_ERR_NOT_FOUND);
}

static void a_retry_takes_what_ended_without_success(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char text[160];
    int64_t attempt = 0;
    json_t *view = NULL;
    fixture_model(f, "m", "bytes");
    fixture_job(f, "m", "", id);
    snprintf(text, sizeof text,
             "job %s is queued: only failed, cancelled and lost jobs can be retried", id);
    assert_err(srv_job_retry(f->srv, id, &view, err), SHR_ERR_CONFLICT, text);
    claim(f, &attempt);
    const struct job_move fail = {R, F, attempt, "{\"code\":\"invalid\",\"detail\":\"d\"}", NULL};
    assert_ok(job_state_move(f->srv, id, &fail, err));
    assert_ok(srv_job_retry(f->srv, id, &view, err));
    assert_string_equal(json_string_value(json_object_get(view, "state")), "queued");
    assert_true(json_is_null(json_object_get(view, "error")));
    json_decref(view);
    claim(f, &attempt);
    assert_int_equal(attempt, 2);
}

static void only_a_final_job_can_be_deleted(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char text[160];
    json_t *view = NULL;
    fixture_model(f, "m", "bytes");
    fixture_job(f, "m", "", id);
    snprintf(text, sizeof text, "job %s has not ended: cancel it first", id);
    assert_err(srv_job_delete(f->srv, id, err), SHR_ERR_CONFLICT, text);
    assert_ok(srv_job_cancel(f->srv, id, &view, err));
    json_decref(view);
    assert_ok(srv_job_delete(f->srv, id, err));
    struct shr_err failure = {0};
    assert_int_equal(srv_job_delete(f->srv, id, &failure), SHR_ERR_NOT_FOUND);
}

static void jobs_that_ran_at_a_crash_wait_again_until_they_are_lost(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    int64_t attempt = 0;
    fixture_model(f, "m", "bytes");
    fixture_job(f, "m", "", id);
    for (int64_t i = 1; i < (int64_t)f->srv->settings.max_attempts; i++) {
        claim(f, &attempt);
        assert_int_equal(attempt, i);
        fixture_reopen(f);
        assert_state(f, id, "queued");
    }
    claim(f, &attempt);
    fixture_reopen(f);
    assert_state(f, id, "lost");

    json_t *view = NULL;
    bool is_final = false;
    assert_ok(srv_job_get(f->srv, id, &view, &is_final, err));
    assert_true(is_final);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(view, "error"), "detail")),
        "the daemon ended without order during each of 3 attempts (max_attempts)");
    json_decref(view);
}

static void a_job_whose_cancellation_was_acknowledged_does_not_run_again(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    char waiting[STORE_ID_SIZE];
    int64_t attempt = 0;
    fixture_model(f, "m", "bytes");
    fixture_job(f, "m", "", id);
    fixture_job(f, "m", "", waiting);
    claim(f, &attempt);
    assert_ok(store_job_request_cancel(f->srv->store, id, err));
    fixture_reopen(f);
    assert_state(f, id, "cancelled");
    assert_state(f, waiting, "queued");
}

static void recovery_takes_more_jobs_than_one_page(void **state)
{
    struct fixture *f = *state;
    enum { N = 130 };
    char id[STORE_ID_SIZE];
    int64_t attempt = 0;
    int64_t n = 0;
    fixture_model(f, "m", "bytes");
    for (int i = 0; i < N; i++) {
        fixture_job(f, "m", "", id);
        claim(f, &attempt);
    }
    fixture_reopen(f);
    assert_ok(store_job_count(f->srv->store, "queued", &n, err));
    assert_int_equal(n, N);
}

static void events_are_rendered_with_job_and_time(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    int64_t attempt = 0;
    int64_t last = 0;
    bool is_over = true;
    struct shr_buf text = {0};
    fixture_model(f, "m", "bytes");
    fixture_job(f, "m", "", id);
    claim(f, &attempt);
    assert_ok(job_event_add(f->srv, id, "progress", "{\"stage\":\"load\"}", err));
    assert_ok(srv_events_render(f->srv, id, 0, 100, &text, &last, &is_over, err));
    assert_false(is_over);
    const char *sse = shr_buf_str(&text);
    const char *queued = strstr(sse, "event: state\ndata: {\"state\":\"queued\",\"job\":\"");
    const char *running = strstr(sse, "{\"state\":\"running\",\"from\":\"queued\",\"attempt\":1,");
    const char *progress = strstr(sse, "event: progress\ndata: {\"stage\":\"load\",\"job\":\"");
    assert_non_null(queued);
    assert_true(running > queued);
    assert_true(progress > running);
    assert_non_null(strstr(progress, id));
    assert_non_null(strstr(progress, "\"time\":\"20"));
    assert_string_equal(sse + strlen(sse) - 2, "\n\n");
    shr_buf_finish(&text);

    assert_ok(job_state_move(f->srv, id, &(struct job_move){R, S, attempt, NULL, "fail"}, err));
    const int64_t seen = last;
    assert_ok(srv_events_render(f->srv, id, seen, 100, &text, &last, &is_over, err));
    assert_true(is_over);
    assert_true(last > seen);
    assert_non_null(strstr(shr_buf_str(&text), "\"verdict\":\"fail\""));
    assert_null(strstr(shr_buf_str(&text), "progress"));
    shr_buf_finish(&text);

    assert_ok(srv_events_render(f->srv, NULL, 0, 2, &text, &last, &is_over, err));
    assert_false(is_over); /* a stream of all jobs has no end */
    shr_buf_finish(&text);
    struct shr_err failure = {0};
    assert_int_equal(srv_events_render(f->srv, "job_0", 0, 2, &text, &last, &is_over, &failure),
                     SHR_ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        srv_test(only_the_moves_of_the_drawing_are_legal),
        cmocka_unit_test(names_and_states_are_each_others),
        srv_test(a_job_moves_from_where_it_is),
        srv_test(the_listener_hears_each_move_until_it_leaves),
        srv_test(a_waiting_job_is_cancelled_at_once_and_a_final_one_left_alone),
        srv_test(a_retry_takes_what_ended_without_success),
        srv_test(only_a_final_job_can_be_deleted),
        srv_test(jobs_that_ran_at_a_crash_wait_again_until_they_are_lost),
        srv_test(a_job_whose_cancellation_was_acknowledged_does_not_run_again),
        srv_test(recovery_takes_more_jobs_than_one_page),
        srv_test(events_are_rendered_with_job_and_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
