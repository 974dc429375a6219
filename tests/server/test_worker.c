/* Jobs that really run, on the loop and the pool: success, failure, cancellation, limits, and the
 * end of the daemon in the middle of one. */
#include <signal.h>

#include "fixture.h"
#include "inputs.h"
#include "loop.h"

/* What the loop is run for. */
struct scene {
    struct fixture *f;
    char job[STORE_ID_SIZE];
    bool stop_at_start;  /* SIGTERM as soon as the job runs */
    bool cancel_at_tick; /* cancel it at the first tick */
    atomic_bool ended;   /* the signal was sent: once, a second one would be in a hurry */
};

/* Called with each event, from any thread: ends the loop when the job is final. */
static void on_event(void *user, const char *job_id, int64_t event_id, bool job_is_final)
{
    struct scene *scene = user;
    (void)event_id;
    if (strcmp(job_id, scene->job) == 0 && (job_is_final || scene->stop_at_start) &&
        !atomic_exchange(&scene->ended, true)) {
        raise(SIGTERM);
    }
}

static int on_start(void *user, char *ret_status, size_t size, struct shr_err *err)
{
    struct scene *scene = user;
    (void)err;
    snprintf(ret_status, size, "test");
    srv_listen(scene->f->srv, on_event, scene);
    return SHR_OK;
}

static void on_tick(void *user)
{
    struct scene *scene = user;
    json_t *view = NULL;
    if (scene->cancel_at_tick) {
        assert_ok(srv_job_cancel(scene->f->srv, scene->job, &view, err));
        assert_true(json_is_true(json_object_get(view, "cancel_requested")));
        json_decref(view);
    }
}

static void on_stop(void *user, unsigned grace_s)
{
    struct scene *scene = user;
    (void)grace_s;
    srv_listen(scene->f->srv, NULL, NULL);
}

static int on_reload(void *user, struct srv_settings *ret, struct shr_err *err)
{
    (void)user;
    (void)ret;
    return shr_err_set(err, SHR_ERR_INTERNAL, "no reload in this test");
}

/* Submits the job, runs the loop until it is final (or the scene ends it), returns its view. */
static json_t *play(struct scene *scene, const char *body)
{
    const struct srv_hooks hooks = {scene, on_start, on_tick, on_stop, on_reload};
    struct srv *srv = scene->f->srv;
    json_t *view = NULL;
    bool flag = false;
    assert_ok(srv_job_submit(srv, body, strlen(body), NULL, &view, &flag, err));
    snprintf(scene->job, sizeof scene->job, "%s", json_string_value(json_object_get(view, "id")));
    json_decref(view);
    bool is_clean = false;
    assert_ok(srv_loop_run(srv, &hooks, &is_clean, err));
    assert_true(is_clean);
    assert_ok(srv_job_get(srv, scene->job, &view, &flag, err));
    return view;
}

static const char *text_of(const json_t *view, const char *name)
{
    const char *text = json_string_value(json_object_get(view, name));
    return text != NULL ? text : "";
}

static const char *error_of(const json_t *view)
{
    return text_of(json_object_get(view, "error"), "detail");
}

static void put_mlp(struct fixture *f)
{
    struct input mlp = input_model("mlp");
    put_model(f, "mlp", &mlp, NULL);
    input_finish(&mlp);
}

static void put_images(struct fixture *f, const char *name, uint8_t side)
{
    struct input images = input_images(50, side, side);
    struct input labels = input_labels(50, 10);
    put_dataset(f, name, &images, &labels, NULL);
    input_finish(&images);
    input_finish(&labels);
}

static bool blob_holds(struct fixture *f, const char *job, const char *text)
{
    struct srv_blob blob = {0};
    size_t n = 0;
    assert_ok(srv_artifact_blob(f->srv, job, -1, &blob, err));
    char *bytes = malloc(blob.bytes);
    assert_ok(srv_blob_read(f->srv, blob.sha256, 0, bytes, blob.bytes, &n, err));
    assert_int_equal(n, blob.bytes);
    const bool found = memmem(bytes, n, text, strlen(text)) != NULL;
    free(bytes);
    return found;
}

static void a_job_leaves_a_step_for_each_pass_and_a_verdict(void **state)
{
    struct scene scene = {.f = *state};
    put_mlp(scene.f);
    put_images(scene.f, "images", 28);
    json_t *view =
        play(&scene, "{\"model\":\"mlp\",\"name\":\"two\",\"pipeline\":["
                     "{\"pass\":\"prune_unstructured\",\"amount\":0.5},"
                     "{\"pass\":\"quantize_dynamic\"}],"
                     "\"data\":{\"evaluate\":\"images\"},\"evaluate\":{\"latency\":false},"
                     "\"assert\":[\"size_ratio < 0.5\",\"sparsity >= 0.4\"]}");
    assert_string_equal(error_of(view), "");
    assert_string_equal(text_of(view, "state"), "succeeded");
    assert_string_equal(text_of(view, "verdict"), "pass");
    const json_t *steps = json_object_get(view, "steps");
    static const char *const passes[] = {"original", "prune_unstructured", "quantize_dynamic"};
    assert_int_equal(json_array_size(steps), SHR_COUNT_OF(passes));
    for (size_t i = 0; i < SHR_COUNT_OF(passes); i++) {
        const json_t *step = json_array_get(steps, i);
        const json_t *metrics = json_object_get(step, "metrics");
        assert_string_equal(text_of(step, "pass"), passes[i]);
        assert_true(json_is_real(json_object_get(metrics, "accuracy")));
        assert_int_equal(json_integer_value(json_object_get(metrics, "size_bytes")),
                         json_integer_value(json_object_get(step, "bytes")));
    }
    assert_true(blob_holds(scene.f, scene.job, "shrinkd.recipe"));
    assert_true(blob_holds(scene.f, scene.job, text_of(json_array_get(steps, 0), "sha256")));
    json_decref(view);

    assert_ok(srv_job_report(scene.f->srv, scene.job, &view, err));
    const json_t *pruned = json_array_get(json_object_get(view, "steps"), 1);
    assert_true(json_array_size(json_object_get(pruned, "notes")) >= 3);
    json_decref(view);
}

static void a_failed_step_is_named_and_the_steps_before_it_are_kept(void **state)
{
    struct scene scene = {.f = *state};
    put_mlp(scene.f);
    json_t *view = play(&scene, "{\"model\":\"mlp\",\"pipeline\":["
                                "{\"pass\":\"prune_unstructured\"},"
                                "{\"pass\":\"prune_unstructured\",\"amount\":1000000000}],"
                                "\"evaluate\":{\"latency\":false}}");
    assert_string_equal(text_of(view, "state"), "failed");
    const json_t *error = json_object_get(view, "error");
    assert_string_equal(text_of(error, "code"), "invalid");
    assert_int_equal(json_integer_value(json_object_get(error, "step")), 2);
    assert_string_equal(text_of(error, "pass"), "prune_unstructured");
    assert_non_null(strstr(error_of(view), "amount"));
    assert_int_equal(json_array_size(json_object_get(view, "steps")), 2);
    json_decref(view);
}

static void a_dataset_that_does_not_fit_fails_the_job_by_name(void **state)
{
    struct scene scene = {.f = *state};
    put_mlp(scene.f);
    put_images(scene.f, "small", 9);
    json_t *view = play(&scene, "{\"model\":\"mlp\",\"pipeline\":[{\"pass\":\"optimize\"}],"
                                "\"data\":{\"evaluate\":\"small\"}}");
    assert_string_equal(text_of(view, "state"), "failed");
    assert_ptr_equal(strstr(error_of(view), "data.evaluate: "), error_of(view));
    assert_int_equal(json_array_size(json_object_get(view, "steps")), 0);
    json_decref(view);
}

/* Some seconds of timing, so that there is something to interrupt. */
#define LONG_JOB                                                                                   \
    "{\"model\":\"mlp\",\"pipeline\":[{\"pass\":\"prune_unstructured\"}],"                         \
    "\"evaluate\":{\"latency\":{\"batch\":[1],\"seconds\":30}}}"

static void a_running_job_is_cancelled_at_the_next_poll(void **state)
{
    struct scene scene = {.f = *state, .cancel_at_tick = true};
    put_mlp(scene.f);
    json_t *view = play(&scene, LONG_JOB);
    assert_string_equal(text_of(view, "state"), "cancelled");
    json_decref(view);
}

static void the_end_of_the_daemon_gives_a_running_job_back(void **state)
{
    struct scene scene = {.f = *state, .stop_at_start = true};
    put_mlp(scene.f);
    json_t *view = play(&scene, LONG_JOB);
    assert_string_equal(text_of(view, "state"), "queued");
    assert_int_equal(json_integer_value(json_object_get(view, "attempt")), 1);
    assert_true(json_is_null(json_object_get(view, "error")));
    json_decref(view);
}

static void a_job_over_its_time_fails(void **state)
{
    struct scene scene = {.f = *state};
    put_mlp(scene.f);
    scene.f->srv->settings.job_max_seconds = 1;
    json_t *view = play(&scene, LONG_JOB);
    assert_string_equal(text_of(view, "state"), "failed");
    assert_string_equal(error_of(view), "the job ran longer than job_max_seconds (1)");
    json_decref(view);
}

static void a_key_repeats_the_answer_and_refuses_another_body(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "{\"model\":\"mlp\",\"pipeline\":[{\"pass\":\"optimize\"}]}";
    static const char other[] =
        "{\"model\":\"mlp\",\"pipeline\":[{\"pass\":\"optimize\"}],\"seed\":2}";
    json_t *first = NULL;
    json_t *second = NULL;
    bool is_replay = true;
    struct shr_err failure = {0};
    put_mlp(f);
    assert_ok(srv_job_submit(f->srv, body, strlen(body), "key", &first, &is_replay, err));
    assert_false(is_replay);
    assert_ok(srv_job_submit(f->srv, body, strlen(body), "key", &second, &is_replay, err));
    assert_true(is_replay);
    assert_string_equal(text_of(first, "id"), text_of(second, "id"));
    assert_int_equal(
        srv_job_submit(f->srv, other, strlen(other), "key", &second, &is_replay, &failure),
        SHR_ERR_CONFLICT);
    json_decref(second);
    assert_ok(srv_job_cancel(f->srv, text_of(first, "id"), &second, err));
    json_decref(second);
    assert_ok(srv_item_delete(f->srv, SRV_MODEL, "mlp", 0, err)); /* a replay needs no model */
    assert_ok(srv_job_submit(f->srv, body, strlen(body), "key", &second, &is_replay, err));
    assert_true(is_replay);
    assert_string_equal(text_of(first, "id"), text_of(second, "id"));
    json_decref(first);
    json_decref(second);
}

static void a_full_queue_and_missing_names_refuse_a_job(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "{\"model\":\"mlp\",\"pipeline\":[{\"pass\":\"optimize\"}]}";
    static const char data[] = "{\"model\":\"mlp\",\"pipeline\":[{\"pass\":\"optimize\"}],"
                               "\"data\":{\"evaluate\":\"none\"}}";
    json_t *view = NULL;
    bool is_replay = false;
    struct shr_err failure = {0};
    assert_int_equal(srv_job_submit(f->srv, body, strlen(body), NULL, &view, &is_replay, &failure),
                     SHR_ERR_NOT_FOUND);
    assert_ptr_equal(strstr(failure.msg, "model: "), failure.msg);
    put_mlp(f);
    assert_int_equal(srv_job_submit(f->srv, data, strlen(data), NULL, &view, &is_replay, &failure),
                     SHR_ERR_NOT_FOUND);
    assert_ptr_equal(strstr(failure.msg, "data.evaluate: "), failure.msg);
    f->srv->settings.queue_max = 1;
    assert_ok(srv_job_submit(f->srv, body, strlen(body), NULL, &view, &is_replay, err));
    json_decref(view);
    assert_err(srv_job_submit(f->srv, body, strlen(body), NULL, &view, &is_replay, err),
               SHR_ERR_BUSY, "1 jobs wait already (queue_max)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        srv_test(a_job_leaves_a_step_for_each_pass_and_a_verdict),
        srv_test(a_failed_step_is_named_and_the_steps_before_it_are_kept),
        srv_test(a_dataset_that_does_not_fit_fails_the_job_by_name),
        srv_test(a_running_job_is_cancelled_at_the_next_poll),
        srv_test(the_end_of_the_daemon_gives_a_running_job_back),
        srv_test(a_job_over_its_time_fails),
        srv_test(a_key_repeats_the_answer_and_refuses_another_body),
        srv_test(a_full_queue_and_missing_names_refuse_a_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
