/* Jobs for clients: submit, look, cancel, retry, delete, report. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "errors.h"
#include "jobs/recipe.h"
#include "jobs/states.h"
#include "jsonx.h"
#include "srv.h"
#include "views.h"

/* ── Submit ─────────────────────────────────────────────────────────────────────────────────── */

struct submission { /* all zero = empty */
    struct job_recipe recipe;
    struct shr_arena arena;
    struct store_item model;
    json_t *ids;             /* what the names stood for when the job was accepted */
    char *recipe_text;       /* {"job": canonical recipe, "ids": …} */
    struct shr_buf datasets; /* ids of them and of other models, separated by a blank */
};

static void submission_finish(struct submission *s)
{
    job_recipe_finish(&s->recipe);
    store_item_finish(&s->model);
    json_decref(s->ids);
    shr_mem_free(s->recipe_text);
    shr_buf_finish(&s->datasets);
    shr_arena_finish(&s->arena);
}

static bool put_id(json_t *ids, const char *role, const struct store_item *item)
{
    return srv_json_put(ids, role, json_string(item->id));
}

/* An item beside the model of the job: must be there, and is kept with it. */
static int resolve_item(struct srv *srv, struct submission *s, enum store_kind kind,
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

static int resolve_datasets(struct srv *srv, struct submission *s, struct shr_err *err)
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
static int resolve_models(struct srv *srv, struct submission *s, struct shr_err *err)
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
static int resolve(struct srv *srv, struct submission *s, struct shr_err *err)
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

static int prepare(struct srv *srv, const char *body, size_t n, struct submission *s,
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

static int view(struct srv *srv, const struct store_job *job, json_t **ret, struct shr_err *err)
{
    struct store_steps steps = {0};
    const int code = store_step_list(srv->store, job->id, &steps, err);
    if (code != SHR_OK) {
        return code;
    }
    *ret = srv_job_json(srv, job, &steps);
    store_steps_finish(&steps);
    return *ret != NULL ? SHR_OK : srv_nomem(err);
}

static int queue_is_full(const struct srv *srv, struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_BUSY, "%u jobs wait already (queue_max)",
                       srv->settings.queue_max);
}

/* A key that a job has: the answer is that job when the request was the same. */
static int replay(const struct store_job *job, const char *sha256, struct shr_err *err)
{
    return strcmp(job->request_sha256, sha256) == 0
               ? SHR_OK
               : shr_err_set(err, SHR_ERR_CONFLICT,
                             "Idempotency-Key: job %s has it with another body", job->id);
}

int srv_job_submit(struct srv *srv, const char *body, size_t n, const char *idempotency_key,
                   json_t **ret, bool *ret_is_replay, struct shr_err *err)
{
    struct submission s = {0};
    struct store_job added = {0};
    struct store_sha256 hash;
    char sha256[STORE_SHA256_HEX];
    bool is_replay = false;
    store_sha256_init(&hash);
    store_sha256_add(&hash, body, n);
    store_sha256_hex(&hash, sha256);

    /* Before the body is read: a replay stays one when its model or dataset is gone by now. */
    int code = SHR_OK;
    if (idempotency_key != NULL) {
        code = store_job_find(srv->store, idempotency_key, &added, &is_replay, err);
    }
    if (code == SHR_OK && is_replay) {
        code = replay(&added, sha256, err);
        goto answer;
    }
    if (code == SHR_OK) {
        code = prepare(srv, body, n, &s, err);
    }
    if (code != SHR_OK) {
        goto out;
    }
    const struct store_job job = {
        .name = s.recipe.name,
        .recipe = s.recipe_text,
        .model_id = s.model.id,
        .model_name = s.model.name,
        .datasets = shr_buf_str(&s.datasets),
        .error = "",
        .verdict = "",
        .idempotency_key = idempotency_key != NULL ? idempotency_key : "",
        .request_sha256 = sha256,
    };
    code = job_state_begin(srv, &job, &added, err);
    if (code == SHR_ERR_LIMIT) {
        code = queue_is_full(srv, err);
    } else if (code == SHR_ERR_CONFLICT && added.id != NULL) {
        is_replay = true; /* of a request that came at the same time */
        code = replay(&added, sha256, err);
    }

answer:
    if (code == SHR_OK) {
        code = view(srv, &added, ret, err);
    }
    if (code == SHR_OK) {
        *ret_is_replay = is_replay;
    }

out:
    store_job_finish(&added);
    submission_finish(&s);
    return code;
}

/* ── Looking ────────────────────────────────────────────────────────────────────────────────── */

static bool is_final(const struct store_job *job)
{
    enum job_state state = JOB_QUEUED;
    return job_state_find(job->state, &state) && job_state_is_final(state);
}

int srv_job_get(struct srv *srv, const char *id, json_t **ret, bool *ret_is_final,
                struct shr_err *err)
{
    struct store_job job = {0};
    int code = store_job_get(srv->store, id, &job, err);
    if (code != SHR_OK) {
        return code;
    }
    code = view(srv, &job, ret, err);
    if (code == SHR_OK) {
        *ret_is_final = is_final(&job);
    }
    store_job_finish(&job);
    return code;
}

int srv_job_list(struct srv *srv, const struct srv_job_query *query, json_t **ret,
                 struct shr_err *err)
{
    enum job_state state = JOB_QUEUED;
    if (query->state != NULL && !job_state_find(query->state, &state)) {
        return shr_err_set(err, SHR_ERR_INVALID, "state: there is no state \"%.64s\"",
                           query->state);
    }
    const struct store_job_query wanted = {query->state, query->model, query->cursor, query->limit};
    struct store_jobs page = {0};
    const int code = store_job_list(srv->store, &wanted, &page, err);
    if (code != SHR_OK) {
        return code;
    }
    json_t *items = json_array();
    bool ok = items != NULL;
    for (size_t i = 0; ok && i < page.n; i++) {
        ok = json_array_append_new(items, srv_job_line(srv, &page.v[i])) == 0;
    }
    json_t *json = json_object();
    ok = srv_json_put(json, "items", items) && ok;
    ok = ok && srv_json_put(json, "next_cursor",
                            page.next[0] != '\0' ? json_string(page.next) : json_null());
    store_jobs_finish(&page);
    if (!ok) {
        json_decref(json);
        return srv_nomem(err);
    }
    *ret = json;
    return SHR_OK;
}

int srv_job_report(struct srv *srv, const char *id, json_t **ret, struct shr_err *err)
{
    struct store_job job = {0};
    struct store_steps steps = {0};
    int code = store_job_get(srv->store, id, &job, err);
    if (code == SHR_OK) {
        code = store_step_list(srv->store, id, &steps, err);
    }
    if (code == SHR_OK) {
        *ret = srv_report_json(srv, &job, &steps);
        code = *ret != NULL ? SHR_OK : srv_nomem(err);
    }
    store_steps_finish(&steps);
    store_job_finish(&job);
    return code;
}

static json_t *artifact_json(const char *job_id, const struct store_step *step)
{
    return json_pack("{s:I, s:s, s:I, s:s, s:o}", "step", (json_int_t)step->seq, "pass", step->pass,
                     "bytes", (json_int_t)step->bytes, "sha256", step->sha256, "content",
                     json_sprintf("/v1/jobs/%s/artifacts/%" PRId64 "/content", job_id, step->seq));
}

int srv_job_artifacts(struct srv *srv, const char *id, json_t **ret, struct shr_err *err)
{
    struct store_job job = {0};
    struct store_steps steps = {0};
    int code = store_job_get(srv->store, id, &job, err);
    if (code == SHR_OK) {
        code = store_step_list(srv->store, id, &steps, err);
    }
    if (code == SHR_OK) {
        json_t *items = json_array();
        bool ok = items != NULL;
        for (size_t i = 0; ok && i < steps.n; i++) {
            ok = json_array_append_new(items, artifact_json(id, &steps.v[i])) == 0;
        }
        json_t *json = json_object();
        ok = srv_json_put(json, "items", items) && ok;
        if (ok) {
            *ret = json;
        } else {
            json_decref(json);
            code = srv_nomem(err);
        }
    }
    store_steps_finish(&steps);
    store_job_finish(&job);
    return code;
}

/* ── Changing ───────────────────────────────────────────────────────────────────────────────── */

int srv_job_cancel(struct srv *srv, const char *id, json_t **ret, struct shr_err *err)
{
    const int code = job_queue_cancel(srv, id, err);
    bool over = false;
    return code == SHR_OK ? srv_job_get(srv, id, ret, &over, err) : code;
}

int srv_job_retry(struct srv *srv, const char *id, json_t **ret, struct shr_err *err)
{
    struct store_job job = {0};
    int code = store_job_get(srv->store, id, &job, err);
    if (code != SHR_OK) {
        return code;
    }
    enum job_state from = JOB_QUEUED;
    if (!job_state_find(job.state, &from) || !job_state_is_final(from) ||
        !job_state_may_move(from, JOB_QUEUED)) {
        code = shr_err_set(err, SHR_ERR_CONFLICT,
                           "job %s is %s: only failed, cancelled and lost jobs can be retried", id,
                           job.state);
    } else {
        const struct job_move move = {from, JOB_QUEUED, job.attempt, "", ""};
        code = job_state_move(srv, id, &move, err);
        if (code == SHR_ERR_LIMIT) {
            code = queue_is_full(srv, err);
        }
    }
    store_job_finish(&job);
    bool over = false;
    return code == SHR_OK ? srv_job_get(srv, id, ret, &over, err) : code;
}

int srv_job_delete(struct srv *srv, const char *id, struct shr_err *err)
{
    return store_job_delete(srv->store, id, err);
}
