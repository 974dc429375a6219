/* One request and its answer over libmicrohttpd: headers, body, handler, response.
 *
 * The library calls step first with the headers alone, then with each piece of the body, then once
 * more to ask for the answer, and again after each resume. An answer can be queued only at the
 * first and last of these: an error in the middle of a body is kept while the rest is dropped. An
 * answer at the first step closes the connection, or the body would be read as the next request.
 * Thread: http; the callbacks of one connection never overlap. */
#include "http_exchange.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"
#include "clock.h"
#include "guard.h"
#include "problem.h"

enum {
    PART_BUFFER = 32 << 10, /* of the multipart parser */
    READ_BLOCK = 128 << 10, /* of a content reader */
    DROP_SMALL = 16 << 20,  /* a body of at most this is read in spite of an early error */
    DROP_CHUNKED = 64 << 20 /* bytes of a chunked body that are dropped after an error */
};

struct exchange {
    struct api_request req; /* first */
    const char *uri;
    bool has_begun; /* the headers were seen */
    struct api_slot *slot;
    struct MHD_PostProcessor *multipart;
    char part[64]; /* the name of the multipart field that comes */
    uint64_t dropped;
};

/* ── Begin and end ──────────────────────────────────────────────────────────────────────────── */

/* "req_" and a ULID: 48 bits of time, 80 of chance, in Crockford's base32. */
static void id_make(char ret[32])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    unsigned char chance[16] = {0};
    ssize_t got = getrandom(chance, sizeof chance, GRND_NONBLOCK);
    (void)got; /* without chance the id still holds the time */
    memcpy(ret, "req_", 4);
    for (int i = 0; i < 10; i++) {
        ret[4 + i] = digits[ms >> (45 - 5 * i) & 31];
    }
    for (int i = 0; i < 16; i++) {
        ret[14 + i] = digits[chance[i] & 31];
    }
    ret[30] = 0;
}

void *api_exchange_begin(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct exchange *exchange = shr_mem_new(1, sizeof *exchange);
    if (exchange == NULL) {
        return NULL;
    }
    struct api_request *req = &exchange->req;
    req->api = cls;
    req->srv = req->api->srv;
    req->connection = connection;
    req->method = req->path = "";
    req->started_ms = api_now_ms();
    id_make(req->id);
    exchange->uri = shr_arena_strdup(&req->arena, uri);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    exchange->slot = info == NULL ? NULL : info->socket_context;
    return exchange;
}

static void answer_log(const struct exchange *exchange, bool is_cut)
{
    const struct api_request *req = &exchange->req;
    int status = is_cut ? 0 : req->reply.status;
    size_t row = req->route == NULL ? api_route_count : (size_t)(req->route - api_routes);
    atomic_fetch_add(&req->api->answers[row][status / 100 % 6], 1);

    char level = status >= 500 || status == 0 ? 'w' : 'i';
    if (req->route != NULL && status == 200 && req->route->auth == API_AUTH_OPEN) {
        level = 'd'; /* probes and the dashboard's files */
    }
    srv_log_request(req->id, level, "%s %.256s %s%d, %llu bytes in, %llu ms, from %s",
                    req->method[0] == 0 ? "-" : req->method, req->path,
                    is_cut ? "cut by client " : "", req->reply.status,
                    (unsigned long long)req->body_bytes,
                    (unsigned long long)(api_now_ms() - req->started_ms),
                    exchange->slot == NULL ? "?" : exchange->slot->peer);
}

void api_exchange_end(void *cls, struct MHD_Connection *connection, void **pointer,
                      enum MHD_RequestTerminationCode how)
{
    struct exchange *exchange = *pointer;
    (void)cls;
    (void)connection;
    if (exchange == NULL) {
        return;
    }
    answer_log(exchange, how != MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (exchange->multipart != NULL) {
        MHD_destroy_post_processor(exchange->multipart);
    }
    api_slot_enter(&exchange->req.api->reaper, exchange->slot, API_PHASE_HEADERS);
    api_request_finish(&exchange->req);
    shr_mem_free(exchange);
    *pointer = NULL;
}

const char *api_request_header(struct api_request *req, const char *name)
{
    return MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);
}

void api_request_suspend(struct api_request *req)
{
    MHD_suspend_connection(req->connection);
}

void api_request_resume(struct api_request *req)
{
    MHD_resume_connection(req->connection);
}

/* ── The answer ─────────────────────────────────────────────────────────────────────────────── */

static ssize_t content_read(void *cls, uint64_t offset, char *bytes, size_t n)
{
    struct exchange *exchange = cls;
    struct api_request *req = &exchange->req;
    for (;;) {
        req->sleep_until_ms = 0;
        long got = req->reply.read(req, offset, bytes, n);
        if (got == API_READ_END) {
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        if (got < 0) {
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        if (got > 0) {
            return got;
        }
        if (api_waiter_sleep(&req->api->waiters, req, req->sleep_until_ms)) {
            return 0;
        }
    }
}

static struct MHD_Response *response_make(struct exchange *exchange)
{
    const struct api_reply *reply = &exchange->req.reply;
    if (reply->read == NULL) {
        return MHD_create_response_from_buffer(reply->n, (void *)(uintptr_t)reply->bytes,
                                               MHD_RESPMEM_PERSISTENT);
    }
    uint64_t size = reply->size == API_SIZE_UNKNOWN ? MHD_SIZE_UNKNOWN : reply->size;
    return MHD_create_response_from_callback(size, READ_BLOCK, content_read, exchange, NULL);
}

static enum MHD_Result response_head(const struct api_request *req, struct MHD_Response *response)
{
    enum MHD_Result ok = MHD_add_response_header(response, "X-Request-Id", req->id);
    bool has_cache_control = false;
    for (struct api_reply_header *h = req->reply.headers; ok == MHD_YES && h != NULL; h = h->next) {
        ok = MHD_add_response_header(response, h->name, h->value);
        has_cache_control |= strcmp(h->name, "Cache-Control") == 0;
    }
    if (ok == MHD_YES && !has_cache_control) {
        ok = MHD_add_response_header(response, "Cache-Control", "no-store");
    }
    if (ok == MHD_YES) {
        ok = MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    }
    if (ok == MHD_YES && (req->reply.must_close || atomic_load(&req->api->is_stopping))) {
        ok = MHD_add_response_header(response, "Connection", "close");
    }
    return ok;
}

/* MHD_NO closes the connection without an answer: only when there is no memory for one. */
static enum MHD_Result answer(struct exchange *exchange, struct MHD_Connection *connection)
{
    struct api_request *req = &exchange->req;
    api_slot_enter(&req->api->reaper, exchange->slot, API_PHASE_ANSWER);
    struct MHD_Response *response = response_make(exchange);
    if (response == NULL) {
        return MHD_NO;
    }
    enum MHD_Result ok = response_head(req, response);
    if (ok == MHD_YES) {
        ok = MHD_queue_response(connection, (unsigned)req->reply.status, response);
    }
    MHD_destroy_response(response);
    return ok;
}

/* ── Step 1: the headers ────────────────────────────────────────────────────────────────────── */

static enum MHD_Result guard_feed(void *cls, enum MHD_ValueKind kind, const char *name,
                                  size_t name_n, const char *value, size_t value_n)
{
    (void)kind;
    api_guard_header(cls, name, name_n, value, value_n);
    return MHD_YES;
}

static enum MHD_Result part_take(void *cls, enum MHD_ValueKind kind, const char *name,
                                 const char *filename, const char *type, const char *coding,
                                 const char *bytes, uint64_t offset, size_t n)
{
    struct exchange *exchange = cls;
    struct api_request *req = &exchange->req;
    (void)kind;
    (void)filename;
    (void)type;
    if (req->failed.code != 0) {
        return MHD_NO;
    }
    if (name == NULL || strlen(name) >= sizeof exchange->part) {
        shr_err_set(&req->failed, SHR_ERR_INVALID,
                    "multipart: a part without a name, or a long one");
        return MHD_NO;
    }
    if (coding != NULL && strcasecmp(coding, "binary") != 0 && strcasecmp(coding, "8bit") != 0) {
        shr_err_set(&req->failed, API_ERR_MEDIA_TYPE, "%s: Content-Transfer-Encoding '%.32s'", name,
                    coding);
        return MHD_NO;
    }
    snprintf(exchange->part, sizeof exchange->part, "%s", name);
    const struct api_chunk chunk = {exchange->part, offset == 0, bytes, n};
    return api_request_take(req, &chunk, &req->failed) == 0 ? MHD_YES : MHD_NO;
}

static int multipart_begin(struct exchange *exchange, struct MHD_Connection *connection,
                           struct shr_err *err)
{
    const char *type = api_request_header(&exchange->req, "Content-Type");
    if (exchange->req.route->body != API_BODY_STREAM || type == NULL ||
        strncasecmp(type, "multipart/form-data", 19) != 0) {
        return 0;
    }
    exchange->multipart = MHD_create_post_processor(connection, PART_BUFFER, part_take, exchange);
    return exchange->multipart != NULL ? 0
                                       : shr_err_set(err, API_ERR_BAD_REQUEST,
                                                     "Content-Type: multipart without a boundary");
}

static enum MHD_Result headers_take(struct exchange *exchange, struct MHD_Connection *connection,
                                    const char *method, const char *version)
{
    struct api_request *req = &exchange->req;
    struct api_guard guard = {0};
    struct shr_err err = {0};
    api_slot_enter(&req->api->reaper, exchange->slot, API_PHASE_BODY);
    req->method = shr_arena_strdup(&req->arena, method);
    if (req->method == NULL || exchange->uri == NULL) {
        return MHD_NO;
    }

    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, guard_feed, &guard);
    int rc = api_guard_check(&guard, method, version, exchange->uri, &err);
    bool is_sound = rc == 0;
    if (rc == 0) {
        req->has_body = guard.has_body;
        req->has_length = guard.lengths > 0;
        req->length = guard.length;
        rc = api_request_admit(req, exchange->uri, &err);
    }
    if (rc == 0) {
        rc = multipart_begin(exchange, connection, &err);
    }
    if (rc == 0) {
        return MHD_YES;
    }

    /* An answer at this step costs the connection, and many clients look at it only when all is
     * sent: so it waits for the end of a small body, but not for one that asks first. */
    bool is_small = !req->has_body || (req->has_length && req->length <= DROP_SMALL);
    if (is_sound && is_small && api_request_header(req, "Expect") == NULL) {
        req->failed = err;
        return MHD_YES;
    }
    req->reply.must_close = true;
    api_problem_reply(req, &err);
    return answer(exchange, connection);
}

/* ── Step 2: the body ───────────────────────────────────────────────────────────────────────── */

static enum MHD_Result body_drop(struct exchange *exchange, size_t n)
{
    exchange->dropped += n;
    return exchange->req.has_length || exchange->dropped <= DROP_CHUNKED ? MHD_YES : MHD_NO;
}

static enum MHD_Result body_take(struct exchange *exchange, const char *bytes, size_t n)
{
    struct api_request *req = &exchange->req;
    const struct api_chunk chunk = {NULL, req->body_bytes == 0, bytes, n};
    req->body_bytes += n;
    api_slot_count(&req->api->reaper, exchange->slot, req->body_bytes);
    if (req->failed.code != 0) {
        return body_drop(exchange, n);
    }
    if (req->body_bytes > req->body_max) {
        shr_err_set(&req->failed, SHR_ERR_LIMIT, "body: over the limit of %llu bytes",
                    (unsigned long long)req->body_max);
    } else if (exchange->multipart == NULL) {
        int rc = api_request_take(req, &chunk, &req->failed);
        (void)rc; /* the same as failed.code */
    } else if (MHD_post_process(exchange->multipart, bytes, n) != MHD_YES &&
               req->failed.code == 0) {
        shr_err_set(&req->failed, SHR_ERR_PARSE, "multipart: malformed near byte %llu of the body",
                    (unsigned long long)req->body_bytes);
    }
    return MHD_YES;
}

/* ── Step 3: the handler ────────────────────────────────────────────────────────────────────── */

static void multipart_end(struct exchange *exchange)
{
    if (exchange->multipart == NULL) {
        return;
    }
    enum MHD_Result ok = MHD_destroy_post_processor(exchange->multipart);
    exchange->multipart = NULL;
    if (ok != MHD_YES && exchange->req.failed.code == 0) {
        shr_err_set(&exchange->req.failed, SHR_ERR_PARSE,
                    "multipart: the last boundary is missing");
    }
}

static enum MHD_Result handle(struct exchange *exchange, struct MHD_Connection *connection)
{
    struct api_request *req = &exchange->req;
    api_slot_enter(&req->api->reaper, exchange->slot, API_PHASE_ANSWER);
    multipart_end(exchange);
    struct shr_err err = req->failed;
    int rc = err.code;
    while (rc == 0 && req->reply.status == 0) {
        req->sleep_until_ms = 0;
        rc = req->route->handle(req, &err);
        if (rc == 0 && req->reply.status == 0 &&
            api_waiter_sleep(&req->api->waiters, req, req->sleep_until_ms)) {
            return MHD_YES;
        }
    }
    if (rc != 0) {
        api_problem_reply(req, &err);
    }
    return answer(exchange, connection);
}

enum MHD_Result api_exchange_step(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *n, void **pointer)
{
    struct exchange *exchange = *pointer;
    (void)cls;
    (void)url;
    if (exchange == NULL) {
        return MHD_NO; /* there was no memory for it */
    }
    if (!exchange->has_begun) {
        exchange->has_begun = true;
        return headers_take(exchange, connection, method, version);
    }
    if (*n > 0) {
        enum MHD_Result ok = body_take(exchange, bytes, *n);
        *n = 0;
        return ok;
    }
    return handle(exchange, connection);
}
