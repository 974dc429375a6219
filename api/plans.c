/* POST /v1/plan: what a job would make, without running it. A plan is made by a thread of the
 * service; the request sleeps until it is there, as long polls do. Thread: http. */
#include "clock.h"
#include "context.h"
#include "handlers.h"
#include "problem.h"

static void plan_free(void *user)
{
    srv_plan_free(user);
}

static int begin(struct api_request *req, struct shr_err *err)
{
    struct srv_plan *plan = NULL;
    int rc =
        req->body.len == 0 ? shr_err_set(err, SHR_ERR_PARSE, "body: empty, a job is expected") : 0;
    if (rc == 0) {
        rc = srv_plan_new(req->srv, shr_buf_str(&req->body), req->body.len, &plan, err);
    }
    if (rc == 0) {
        req->state = plan;
        req->state_free = plan_free;
        req->wait_until_ms = api_now_ms() + req->api->settings->max_wait_s * UINT64_C(1000);
    }
    return rc;
}

int api_plan_post(struct api_request *req, struct shr_err *err)
{
    int rc = req->state == NULL ? begin(req, err) : 0;
    while (rc == 0) {
        json_t *answer = NULL;
        bool is_over = false;
        rc = srv_plan_get(req->state, &answer, &is_over, err);
        if (rc == 0 && is_over) {
            api_waiter_remove(&req->api->waiters, req);
            return api_reply_json(req, 200, answer, err);
        }
        if (rc == 0 && atomic_load(&req->api->is_stopping)) {
            rc = shr_err_set(err, API_ERR_UNAVAILABLE, "the server is stopping");
        } else if (rc == 0 && api_now_ms() >= req->wait_until_ms) {
            rc = shr_err_set(err, SHR_ERR_TIMEOUT, "the plan took longer than max_wait_s (%u)",
                             req->api->settings->max_wait_s);
        } else if (rc == 0 && req->waiter.is_listed) {
            req->sleep_until_ms = req->wait_until_ms;
            return 0;
        } else if (rc == 0) { /* look again once listed: it may have ended in between */
            rc = api_waiter_add(&req->api->waiters, req, API_WAIT_POLL, srv_plan_id(req->state),
                                err);
        }
    }
    api_waiter_remove(&req->api->waiters, req);
    return rc;
}
