/* Probes, metrics, version, storage. Thread: http. */
#include <string.h>

#include "context.h"
#include "handlers.h"
#include "problem.h"

int api_live_get(struct api_request *req, struct shr_err *err)
{
    return api_reply_json(req, 200, json_pack("{s:s}", "status", "live"), err);
}

int api_ready_get(struct api_request *req, struct shr_err *err)
{
    if (atomic_load(&req->api->is_stopping)) {
        return shr_err_set(err, API_ERR_UNAVAILABLE, "the server is stopping");
    }
    if (srv_ready(req->srv, err) != 0) {
        return err->code = API_ERR_UNAVAILABLE; /* whatever is wrong: not ready */
    }
    return api_reply_json(req, 200, json_pack("{s:s}", "status", "ready"), err);
}

/* Requests by route and hundred of the status: the ids in a path never become labels. */
static void answers_print(struct api *api, struct shr_buf *text)
{
    shr_buf_puts(text, "# HELP shrinkd_http_requests_total Answered requests; code 0xx: cut.\n"
                       "# TYPE shrinkd_http_requests_total counter\n");
    for (size_t row = 0; row <= api_route_count; row++) {
        for (int hundred = 0; hundred < 6; hundred++) {
            uint64_t n = atomic_load(&api->answers[row][hundred]);
            if (n > 0) {
                shr_buf_printf(text,
                               "shrinkd_http_requests_total{method=\"%s\",route=\"%s\","
                               "code=\"%dxx\"} %llu\n",
                               row < api_route_count ? api_routes[row].method : "",
                               row < api_route_count ? api_routes[row].path : "", hundred,
                               (unsigned long long)n);
            }
        }
    }
}

static void connections_print(struct api *api, struct shr_buf *text)
{
    unsigned open = 0;
    uint64_t reaped = 0;
    api_reaper_totals(&api->reaper, &open, &reaped);
    shr_buf_printf(text,
                   "# HELP shrinkd_http_connections Open connections.\n"
                   "# TYPE shrinkd_http_connections gauge\n"
                   "shrinkd_http_connections %u\n"
                   "# HELP shrinkd_http_reaped_total Connections closed for being too slow.\n"
                   "# TYPE shrinkd_http_reaped_total counter\n"
                   "shrinkd_http_reaped_total %llu\n"
                   "# HELP shrinkd_http_waiters Requests that wait.\n"
                   "# TYPE shrinkd_http_waiters gauge\n"
                   "shrinkd_http_waiters{kind=\"poll\"} %u\n"
                   "shrinkd_http_waiters{kind=\"stream\"} %u\n",
                   open, (unsigned long long)reaped,
                   api_waiters_count(&api->waiters, API_WAIT_POLL),
                   api_waiters_count(&api->waiters, API_WAIT_STREAM));
}

int api_metrics_get(struct api_request *req, struct shr_err *err)
{
    struct shr_buf text = {0};
    int rc = srv_metrics_text(req->srv, &text, err);
    if (rc != 0) {
        shr_buf_finish(&text);
        return rc;
    }
    answers_print(req->api, &text);
    connections_print(req->api, &text);
    return api_reply_text(req, 200, "text/plain; version=0.0.4; charset=utf-8", &text, err);
}

int api_about_get(struct api_request *req, struct shr_err *err)
{
    return api_reply_json(req, 200, srv_about(req->srv), err);
}

int api_storage_get(struct api_request *req, struct shr_err *err)
{
    json_t *usage = NULL;
    int rc = srv_usage(req->srv, &usage, err);
    return rc != 0 ? rc : api_reply_json(req, 200, usage, err);
}
