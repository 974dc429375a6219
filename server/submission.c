/* Submissions, see submission.h. */
#include "submission.h"

#include "base/mem.h"
#include "errors.h"
#include "jsonx.h"

void srv_submission_finish(struct srv_submission *s)
{
    job_recipe_finish(&s->recipe);
    store_item_finish(&s->model);
    json_decref(s->ids);
    shr_mem_free(s->recipe_text);
    shr_buf_finish(&s->datasets);
}

static bool put_id(json_t *ids, const char *role, const struct store_item *item)
{
    return srv_json_put(ids, role, json_string(item->id));
}

/* An item beside the model of the job: must be there, and is kept with it. */
static int resolve_item(struct srv *srv, struct srv_submission *s, enum store_kind kind,
                        const char *name, const char *role, struct shr_err *err)
{
    struct store_item item = {0};
    const int code = store_item_get(srv->store, kind, name, 0, &item, err);
    if (code != SHR_OK) {
        shr_err_prefix(err, "%s: ", role);
        return code;
    }
    shr_buf_printf(&s->datasets, "%s%s", s->datasets.len > 0 ? " " : "", item.id);
    const bool ok = put_id(s->ids, role, &item) && !shr_buf_failed(&s->datasets);
    store_item_finish(&item);
    return ok ? SHR_OK : srv_nomem(err);
}

static int resolve_datasets(struct srv *srv, struct srv_submission *s, struct shr_err *err)
{
    for (int i = 0; i < JOB_DATA_COUNT; i++) {
        if (s->recipe.data[i] != NULL) {
            const int code =
                resolve_item(srv, s, STORE_DATASET, s->recipe.data[i], job_data_names[i], err);
            if (code != SHR_OK) {
                shr_err_prefix(err, "data.");
                return code;
            }
        }
    }
    return SHR_OK;
}

/* Models that passes name, under the path of the field that names them. */
static int resolve_models(struct srv *srv, struct srv_submission *s, struct shr_err *err)
{
    for (size_t i = 0; i < s->recipe.n_passes; i++) {
        const char *name = NULL;
        char path[JOB_PATH];
        if (job_recipe_model(&s->recipe, i, &name, path)) {
            const int code = resolve_item(srv, s, STORE_MODEL, name, path, err);
            if (code != SHR_OK) {
                return code;
            }
        }
    }
    return SHR_OK;
}

/* The named models and datasets must be there; their ids pin the versions. */
static int resolve(struct srv *srv, struct srv_submission *s, struct shr_err *err)
{
    s->ids = json_object();
    int code = store_item_get(srv->store, STORE_MODEL, s->recipe.model, 0, &s->model, err);
    if (code != SHR_OK) {
        shr_err_prefix(err, "model: ");
        return code;
    }
    if (!put_id(s->ids, "model", &s->model)) {
        return srv_nomem(err);
    }
    code = resolve_datasets(srv, s, err);
    return code == SHR_OK ? resolve_models(srv, s, err) : code;
}

int srv_submission_make(struct srv *srv, const char *body, size_t n, struct srv_submission *s,
                        struct shr_err *err)
{
    json_t *request = NULL;
    int code = srv_json_parse(body, n, "body", &request, err);
    if (code == SHR_OK) {
        code = job_recipe_parse(request, (int64_t)srv->settings.max_threads, &s->recipe, err);
    }
    json_decref(request);
    if (code == SHR_OK) {
        code = resolve(srv, s, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    json_t *stored = json_object();
    const bool ok = srv_json_put(stored, "job", job_recipe_json(&s->recipe)) &&
                    srv_json_put(stored, "ids", json_incref(s->ids));
    s->recipe_text = ok ? srv_json_dump(stored) : NULL;
    json_decref(stored);
    return s->recipe_text != NULL ? SHR_OK : srv_nomem(err);
}
