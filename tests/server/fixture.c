/* See fixture.h. */
#include "fixture.h"

#include "jobs/states.h"
#include "log.h"

void fixture_open(struct fixture *f)
{
    char flag[96];
    char name[] = "shrinkd";
    char *argv[] = {name, flag, NULL};
    char *env[] = {NULL};
    struct srv_settings settings = {0};
    enum srv_command command;
    snprintf(flag, sizeof flag, "--state_dir=%s", f->dir);
    srv_log_setup(SRV_LOG_ERROR, SRV_LOG_TEXT);
    assert_ok(srv_settings_load(2, argv, env, &settings, &command, err));
    assert_ok(srv_new(&settings, &f->srv, err));
}

void fixture_reopen(struct fixture *f)
{
    srv_free(f->srv);
    f->srv = NULL;
    fixture_open(f);
}

int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%.40s/srv-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    fixture_open(f);
    *state = f;
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    srv_free(f->srv);
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    const int rc = system(command);
    free(f);
    return rc;
}

void fixture_model(struct fixture *f, const char *name, const char *bytes)
{
    char sha256[STORE_SHA256_HEX];
    struct store_item added = {0};
    bool is_new = false;
    assert_ok(store_blob_put(f->srv->store, bytes, strlen(bytes), sha256, err));
    const struct store_item item = {
        .name = name,
        .format = "onnx",
        .options = "{}",
        .summary = "{}",
        .n_parts = 1,
        .parts = {{"model", sha256, strlen(bytes)}},
    };
    assert_ok(store_item_add(f->srv->store, STORE_MODEL, &item, &added, &is_new, err));
    store_item_finish(&added);
}

void fixture_job(struct fixture *f, const char *model, const char *name, char *ret_id)
{
    struct store_item item = {0};
    struct store_job added = {0};
    assert_ok(store_item_get(f->srv->store, STORE_MODEL, model, 0, &item, err));
    const struct store_job job = {
        .name = name,
        .recipe = "{\"job\":{\"pipeline\":[{\"pass\":\"optimize\"}]},\"ids\":{}}",
        .model_id = item.id,
        .model_name = item.name,
        .datasets = "",
        .error = "",
        .verdict = "",
        .idempotency_key = "",
        .request_sha256 = "",
    };
    assert_ok(job_state_begin(f->srv, &job, &added, err));
    snprintf(ret_id, STORE_ID_SIZE, "%s", added.id);
    store_job_finish(&added);
    store_item_finish(&item);
}

void assert_state(struct fixture *f, const char *id, const char *state)
{
    struct store_job job = {0};
    assert_ok(store_job_get(f->srv->store, id, &job, err));
    assert_string_equal(job.state, state);
    store_job_finish(&job);
}
