/* /v1/jobs: submit, list, wait, cancel, retry, delete, report, artifacts. Thread: http. */
#include <string.h>

#include "clock.h"
#include "context.h"
#include "handlers.h"
#include "items.h"
#include "problem.h"

enum { KEY_MAX = 255 };

static int key_check(const char *key, struct shr_err *err)
{
    size_t n = key == NULL ? 1 : strlen(key);
    for (size_t i = 0; key != NULL && i < n; i++) {
        if (key[i] < 33 || key[i] > 126) {
            return shr_err_set(err, SHR_ERR_INVALID, "Idempotency-Key: not printable ASCII");
        }
    }
    return n > 0 && n <= KEY_MAX
               ? 0
               : shr_err_set(err, SHR_ERR_INVALID,
                             "Idempotency-Key: has %zu characters, not 1 to %d", n, KEY_MAX);
}

static int job_location(struct api_request *req, const json_t *job, struct shr_err *err)
{
    const char *id = json_string_value(json_object_get(job, "id"));
    const char *path = shr_arena_printf(&req->arena, "/v1/jobs/%s", id == NULL ? "" : id);
    return path == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory")
                        : api_reply_header(req, "Location", path, err);
}

int api_job_post(struct api_request *req, struct shr_err *err)
{
    const char *key = api_request_header(req, "Idempotency-Key");
    json_t *job = NULL;
    bool is_replay = false;
    int rc = key_check(key, err);
    if (rc == 0 && req->body.len == 0) {
        rc = shr_err_set(err, SHR_ERR_PARSE, "body: empty, a job is expected");
    }
    if (rc == 0) {
        rc = srv_job_submit(req->srv, shr_buf_str(&req->body), req->body.len, key, &job, &is_replay,
                            err);
        if (rc == SHR_ERR_CONFLICT) { /* the only thing that a new job can be at odds with */
            rc = err->code = API_ERR_KEY_REUSED;
        }
    }
    if (rc != 0) {
        return rc;
    }
    rc = job_location(req, job, err);
    if (rc == 0 && is_replay) {
        rc = api_reply_header(req, "Idempotency-Replayed", "true", err);
    }
    if (rc != 0) {
        json_decref(job);
        return rc;
    }
    return api_reply_json(req, is_replay ? 200 : 202, job, err);
}

int api_job_list(struct api_request *req, struct shr_err *err)
{
    struct srv_job_query query = {
        .state = api_query_find(&req->query, "state"),
        .model = api_query_find(&req->query, "model"),
        .cursor = api_query_find(&req->query, "cursor"),
    };
    json_t *list = NULL;
    int rc = api_page_limit(req, &query.limit, err);
    if (rc == 0) {
        rc = srv_job_list(req->srv, &query, &list, err);
    }
    return rc != 0 ? rc : api_reply_json(req, 200, list, err);
}

/* ?wait=: when the wait is over; the server's longest wait caps it. */
static int wait_begin(struct api_request *req, struct shr_err *err)
{
    const char *text = api_query_find(&req->query, "wait");
    uint64_t ms = 0, most = req->api->settings->max_wait_s * UINT64_C(1000);
    int rc = text == NULL ? 0 : api_duration_parse(text, "wait", &ms, err);
    if (rc == 0) {
        req->wait_until_ms = api_now_ms() + (ms < most ? ms : most);
    }
    return rc;
}

int api_job_get(struct api_request *req, struct shr_err *err)
{
    int rc = req->wait_until_ms == 0 ? wait_begin(req, err) : 0;
    while (rc == 0) {
        json_t *job = NULL;
        bool is_final = false;
        rc = srv_job_get(req->srv, req->segments[0], &job, &is_final, err);
        if (rc != 0) {
            break;
        }
        bool is_over =
            is_final || api_now_ms() >= req->wait_until_ms || atomic_load(&req->api->is_stopping);
        if (is_over) { /* whoever has the answer may ask again: its place is free by then */
            api_waiter_remove(&req->api->waiters, req);
            return api_reply_json(req, 200, job, err);
        }
        json_decref(job);
        if (req->waiter.is_listed) {
            req->sleep_until_ms = req->wait_until_ms;
            return 0;
        }
        /* look again once listed: the job may have ended in between */
        rc = api_waiter_add(&req->api->waiters, req, API_WAIT_POLL, req->segments[0], err);
    }
    return rc;
}

int api_job_delete(struct api_request *req, struct shr_err *err)
{
    int rc = srv_job_delete(req->srv, req->segments[0], err);
    return rc != 0 ? rc : api_reply_empty(req, 204);
}

int api_job_cancel(struct api_request *req, struct shr_err *err)
{
    json_t *job = NULL;
    int rc = srv_job_cancel(req->srv, req->segments[0], &job, err);
    return rc != 0 ? rc : api_reply_json(req, 202, job, err);
}

int api_job_retry(struct api_request *req, struct shr_err *err)
{
    json_t *job = NULL;
    int rc = srv_job_retry(req->srv, req->segments[0], &job, err);
    return rc != 0 ? rc : api_reply_json(req, 202, job, err);
}

int api_job_report(struct api_request *req, struct shr_err *err)
{
    json_t *report = NULL;
    int rc = srv_job_report(req->srv, req->segments[0], &report, err);
    return rc != 0 ? rc : api_reply_json(req, 200, report, err);
}

int api_job_artifacts(struct api_request *req, struct shr_err *err)
{
    json_t *list = NULL;
    int rc = srv_job_artifacts(req->srv, req->segments[0], &list, err);
    return rc != 0 ? rc : api_reply_json(req, 200, list, err);
}
