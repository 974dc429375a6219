/* Error codes as HTTP problems; see problem.h. */
#include "problem.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "http.h"

const struct api_problem api_problems[] = {
    {SHR_ERR_NOMEM, 503, NULL, "Service Unavailable", 5},
    {SHR_ERR_INVALID, 400, NULL, "Bad Request", 0},
    {SHR_ERR_PARSE, 400, NULL, "Bad Request", 0},
    {SHR_ERR_UNSUPPORTED, 422, NULL, "Unprocessable Content", 0},
    {SHR_ERR_LIMIT, 413, NULL, "Content Too Large", 0},
    {SHR_ERR_NOT_FOUND, 404, NULL, "Not Found", 0},
    {SHR_ERR_CONFLICT, 409, NULL, "Conflict", 0},
    {SHR_ERR_CANCELLED, 409, NULL, "Conflict", 0},
    {SHR_ERR_IO, 500, NULL, "Internal Server Error", 0},
    {SHR_ERR_FULL, 507, NULL, "Insufficient Storage", 0},
    {SHR_ERR_CORRUPT, 500, NULL, "Internal Server Error", 0},
    {SHR_ERR_BUSY, 429, NULL, "Too Many Requests", 5},
    {SHR_ERR_DENIED, 403, NULL, "Forbidden", 0},
    {SHR_ERR_TIMEOUT, 504, NULL, "Gateway Timeout", 0},
    {SHR_ERR_INTERNAL, 500, NULL, "Internal Server Error", 0},
    {API_ERR_BAD_REQUEST, 400, "bad_request", "Bad Request", 0},
    {API_ERR_UNAUTHORIZED, 401, "unauthorized", "Unauthorized", 0},
    {API_ERR_METHOD, 405, "method_not_allowed", "Method Not Allowed", 0},
    {API_ERR_NOT_ACCEPTABLE, 406, "not_acceptable", "Not Acceptable", 0},
    {API_ERR_MEDIA_TYPE, 415, "unsupported_media_type", "Unsupported Media Type", 0},
    {API_ERR_RANGE, 416, "range_not_satisfiable", "Range Not Satisfiable", 0},
    {API_ERR_MISDIRECTED, 421, "misdirected", "Misdirected Request", 0},
    {API_ERR_KEY_REUSED, 422, "idempotency_key_reused", "Unprocessable Content", 0},
    {API_ERR_UNAVAILABLE, 503, "unavailable", "Service Unavailable", 5},
};
const size_t api_problem_count = SHR_COUNT_OF(api_problems);

const struct api_problem *api_problem_find(int code)
{
    const struct api_problem *internal = NULL;
    for (size_t i = 0; i < api_problem_count; i++) {
        if (api_problems[i].code == code) {
            return &api_problems[i];
        }
        if (api_problems[i].code == SHR_ERR_INTERNAL) {
            internal = &api_problems[i];
        }
    }
    return internal;
}

const char *api_problem_name(const struct api_problem *problem)
{
    return problem->name != NULL ? problem->name : shr_err_name(problem->code);
}

/* A copy that is UTF-8 whatever a client put into it. */
static const char *text_clean(struct shr_arena *arena, const char *text)
{
    char *copy = shr_arena_strdup(arena, text);
    if (copy != NULL) {
        shr_utf8_clean(copy);
    }
    return copy;
}

static json_t *problem_json(struct api_request *req, const struct api_problem *problem,
                            const char *detail)
{
    const char *clean = text_clean(&req->arena, detail);
    const char *path = text_clean(&req->arena, req->path == NULL ? "" : req->path);
    if (clean == NULL || path == NULL) {
        return NULL;
    }
    return json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s}", "type", "about:blank", "title",
                     problem->title, "status", problem->status, "code", api_problem_name(problem),
                     "detail", clean, "instance", path, "request_id", req->id);
}

void api_problem_reply(struct api_request *req, const struct shr_err *err)
{
    static const char no_memory[] =
        "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"
        "\"code\":\"out_of_memory\",\"detail\":\"out of memory\"}\n";
    const struct api_problem *problem = api_problem_find(err->code);
    int rc = 0;
    if (problem->retry_after_s > 0) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", problem->retry_after_s);
        rc = api_reply_header(req, "Retry-After", seconds, NULL);
    }
    if (problem->code == API_ERR_UNAUTHORIZED && rc == 0) {
        rc = api_reply_header(req, "WWW-Authenticate", "Bearer", NULL);
    }

    json_t *json =
        rc != 0 ? NULL
                : problem_json(req, problem, err->msg[0] != 0 ? err->msg : shr_err_text(err->code));
    struct shr_buf text = {0};
    if (json != NULL && json_dump_callback(json, api_json_append, &text, JSON_COMPACT) == 0) {
        shr_buf_puts(&text, "\n");
        rc = api_reply_text(req, problem->status, API_TYPE_PROBLEM, &text, NULL);
    } else {
        rc = SHR_ERR_NOMEM;
    }
    if (rc != 0) { /* a reply that needs no memory */
        api_reply_reset(req);
        req->reply.status = 503;
        req->reply.bytes = no_memory;
        req->reply.n = sizeof no_memory - 1;
    }
    shr_buf_finish(&text);
    json_decref(json);
}
