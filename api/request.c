/* Requests and replies without the HTTP library: admission, body, building of answers. See http.h.
 * Thread: http. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "context.h"
#include "http.h"
#include "problem.h"
#include "router.h"

/* ── Admission ──────────────────────────────────────────────────────────────────────────────── */

static int uri_split(struct api_request *req, const char *uri, struct shr_err *err)
{
    size_t n = strcspn(uri, "?#");
    req->path = shr_arena_strndup(&req->arena, uri, n);
    if (req->path == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    if (uri[0] != '/') {
        return shr_err_set(err, API_ERR_BAD_REQUEST, "the request target does not begin with /");
    }
    return api_query_parse(&req->arena, uri[n] == '?' ? uri + n + 1 : "", &req->query, err);
}

static bool is_safe(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* A browser that was led here by another site, or by a name that was made to point here. */
static int place_check(struct api_request *req, struct shr_err *err)
{
    const char *host = api_request_header(req, "Host");
    if (req->api->listener.is_loopback && host != NULL &&
        !api_host_is_allowed(host, req->api->settings->host_names)) {
        return shr_err_set(err, API_ERR_MISDIRECTED,
                           "Host: '%.100s' is not a name of this server (see host_names)", host);
    }
    const char *origin = api_request_header(req, "Origin");
    if (!is_safe(req->method) && !api_origin_is_same(origin, host)) {
        return shr_err_set(err, SHR_ERR_DENIED, "Origin: '%.100s' is another site", origin);
    }
    return 0;
}

static int route_find(struct api_request *req, struct shr_err *err)
{
    struct api_match match = {0};
    int rc = api_router_find(api_routes, api_route_count, &req->arena, req->method, req->path,
                             &match, err);
    if (rc != 0) {
        int headed = match.allow == NULL ? 0 : api_reply_header(req, "Allow", match.allow, err);
        return headed != 0 ? headed : rc;
    }
    req->route = match.route;
    memcpy(req->segments, match.segments, sizeof req->segments);
    req->is_head = strcmp(req->method, "HEAD") == 0;
    return 0;
}

static int query_check(const struct api_request *req, struct shr_err *err)
{
    for (size_t i = 0; i < req->query.n; i++) {
        const struct api_param *param = req->route->query;
        while (param != NULL && param->name != NULL &&
               strcmp(param->name, req->query.v[i].name) != 0) {
            param++;
        }
        if (param == NULL || param->name == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "%.100s: not a query parameter of %s %s",
                               req->query.v[i].name, req->route->method, req->route->path);
        }
    }
    return 0;
}

static bool type_is(const char *type, const char *wanted)
{
    size_t n = strlen(wanted);
    return strncasecmp(type, wanted, n) == 0 && (type[n] == 0 || strchr("; \t", type[n]) != NULL);
}

static int body_check(struct api_request *req, struct shr_err *err)
{
    const struct api_route *route = req->route;
    const struct srv_http_settings *settings = req->api->settings;
    const char *type = api_request_header(req, "Content-Type");
    const char *coding = api_request_header(req, "Content-Encoding");
    if (route->body == API_BODY_NONE) {
        return !req->has_body ? 0
                              : shr_err_set(err, API_ERR_BAD_REQUEST, "%s %s takes no body",
                                            route->method, route->path);
    }
    if (coding != NULL && strcasecmp(coding, "identity") != 0) {
        return shr_err_set(err, API_ERR_MEDIA_TYPE, "Content-Encoding: '%.64s' is not supported",
                           coding);
    }
    /* curl -d sends a form's type, whatever the data is */
    if (route->body == API_BODY_JSON && type != NULL && !type_is(type, API_TYPE_JSON) &&
        !type_is(type, "application/x-www-form-urlencoded")) {
        return shr_err_set(err, API_ERR_MEDIA_TYPE, "Content-Type: '%.64s' is not %s", type,
                           API_TYPE_JSON);
    }
    if (route->body == API_BODY_STREAM && type != NULL && type_is(type, "multipart/form-data") &&
        strstr(route->consumes, "multipart/form-data") == NULL) {
        return shr_err_set(err, API_ERR_MEDIA_TYPE, "Content-Type: %s takes the bytes as they are",
                           route->path);
    }
    req->body_max =
        route->body == API_BODY_JSON ? settings->max_json_bytes : settings->max_upload_bytes;
    if (req->has_length && req->length > req->body_max) {
        return shr_err_set(err, SHR_ERR_LIMIT,
                           "Content-Length: %llu is over the limit of %llu bytes",
                           (unsigned long long)req->length, (unsigned long long)req->body_max);
    }
    return 0;
}

int api_request_admit(struct api_request *req, const char *uri, struct shr_err *err)
{
    int rc = uri_split(req, uri, err);
    if (rc == 0) {
        rc = place_check(req, err);
    }
    if (rc == 0) {
        rc = route_find(req, err);
    }
    if (rc == 0 && req->route->auth == API_AUTH_TOKEN &&
        !api_auth_accepts(&req->api->auth, api_request_header(req, "Authorization"))) {
        rc = shr_err_set(err, API_ERR_UNAUTHORIZED, "Authorization: a bearer token is needed");
    }
    if (rc == 0) {
        rc = query_check(req, err);
    }
    if (rc == 0) {
        rc = body_check(req, err);
    }
    if (rc == 0 && req->route->begin != NULL) {
        rc = req->route->begin(req, err);
    }
    return rc;
}

int api_request_take(struct api_request *req, const struct api_chunk *chunk, struct shr_err *err)
{
    if (req->route->body == API_BODY_STREAM) {
        return req->route->chunk(req, chunk, err);
    }
    shr_buf_append(&req->body, chunk->bytes, chunk->n);
    return shr_buf_failed(&req->body) ? shr_err_set(err, SHR_ERR_NOMEM, "body: out of memory") : 0;
}

void api_request_finish(struct api_request *req)
{
    api_waiter_remove(&req->api->waiters, req);
    if (req->state_free != NULL) {
        req->state_free(req->state);
    }
    api_reply_reset(req);
    shr_buf_finish(&req->body);
    shr_arena_finish(&req->arena);
}

/* ── Replies ────────────────────────────────────────────────────────────────────────────────── */

void api_reply_reset(struct api_request *req)
{
    shr_mem_free(req->reply.owned);
    req->reply = (struct api_reply){0};
}

/* The headers stay: they are set before the content is. */
static void reply_set(struct api_request *req, struct api_reply reply)
{
    shr_mem_free(req->reply.owned);
    reply.headers = req->reply.headers;
    reply.must_close = req->reply.must_close;
    req->reply = reply;
}

int api_reply_header(struct api_request *req, const char *name, const char *value,
                     struct shr_err *err)
{
    for (const char *c = value; *c != 0; c++) {
        if ((unsigned char)*c < 32 || *c == 127) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: control byte in a header", name);
        }
    }
    struct api_reply_header *header = shr_arena_new(&req->arena, 1, sizeof *header);
    const char *copy = shr_arena_strdup(&req->arena, value);
    if (header == NULL || copy == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    *header = (struct api_reply_header){name, copy, req->reply.headers};
    req->reply.headers = header;
    return 0;
}

int api_json_append(const char *bytes, size_t n, void *buf)
{
    shr_buf_append(buf, bytes, n);
    return shr_buf_failed(buf) ? -1 : 0;
}

int api_reply_json(struct api_request *req, int status, json_t *take_json, struct shr_err *err)
{
    struct shr_buf text = {0};
    int fault =
        json_dump_callback(take_json, api_json_append, &text, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(take_json);
    if (fault != 0) {
        shr_buf_finish(&text);
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    shr_buf_puts(&text, "\n");
    return api_reply_text(req, status, API_TYPE_JSON, &text, err);
}

int api_reply_text(struct api_request *req, int status, const char *type, struct shr_buf *text,
                   struct shr_err *err)
{
    if (shr_buf_failed(text)) {
        shr_buf_finish(text);
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    int rc = api_reply_header(req, "Content-Type", type, err);
    if (rc != 0) {
        shr_buf_finish(text);
        return rc;
    }
    struct api_reply reply = {.status = status};
    reply.owned = shr_buf_take(text, &reply.n);
    reply.bytes = reply.owned;
    reply_set(req, reply);
    return 0;
}

int api_reply_static(struct api_request *req, int status, const char *type, const void *bytes,
                     size_t n, struct shr_err *err)
{
    int rc = api_reply_header(req, "Content-Type", type, err);
    if (rc == 0) {
        reply_set(req, (struct api_reply){.status = status, .bytes = bytes, .n = n});
    }
    return rc;
}

int api_reply_empty(struct api_request *req, int status)
{
    reply_set(req, (struct api_reply){.status = status});
    return 0;
}

int api_reply_read(struct api_request *req, int status, const char *type, uint64_t size,
                   api_read_fn read, struct shr_err *err)
{
    int rc = api_reply_header(req, "Content-Type", type, err);
    if (rc == 0) {
        reply_set(req, (struct api_reply){.status = status, .read = read, .size = size});
    }
    return rc;
}
