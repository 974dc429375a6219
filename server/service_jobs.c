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
#include "submission.h"
#include "views.h"

/* ── Submit ─────────────────────────────────────────────────────────────────────────────────── */

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
    struct srv_submission s = {0};
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
        code = srv_submission_make(srv, body, n, &s, err);
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
    srv_submission_finish(&s);
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
