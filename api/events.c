/* Server-sent events: /v1/jobs/{id}/events and /v1/events.
 *
 * The id of an event is its row in the store, so that Last-Event-ID (or ?after=, for a client that
 * cannot set headers) replays what was missed. A job's stream begins with its first event and ends
 * when the job is final and all was sent; the stream of all jobs begins now. A comment each 15 s
 * keeps proxies from closing and shows us who is gone. Thread: http. */
#include <string.h>

#include "base/mem.h"
#include "clock.h"
#include "context.h"
#include "handlers.h"

enum { PING_MS = 15000, EVENTS_AT_ONCE = 64 };
enum { FROM_NOW = -1 }; /* for srv_events_render */

struct stream {
    const char *job_id; /* NULL = all jobs */
    int64_t last;
    uint64_t ping_ms;
    bool is_over;
    struct shr_buf text; /* what goes out next */
    size_t sent;         /* of it */
};

static void stream_free(void *user)
{
    struct stream *stream = user;
    shr_buf_finish(&stream->text);
    shr_mem_free(stream);
}

/* Fills text with what there is to say; it stays empty when there is nothing. */
static int stream_fill(struct api_request *req, struct stream *stream)
{
    struct shr_err err = {0};
    stream->text.len = stream->sent = 0;
    int rc = srv_events_render(req->srv, stream->job_id, stream->last, EVENTS_AT_ONCE,
                               &stream->text, &stream->last, &stream->is_over, &err);
    uint64_t now = api_now_ms();
    if (rc == 0 && stream->text.len == 0 && !stream->is_over && now >= stream->ping_ms) {
        shr_buf_puts(&stream->text, ": ping\n\n");
    }
    if (rc == 0 && shr_buf_failed(&stream->text)) {
        rc = shr_err_set(&err, SHR_ERR_NOMEM, "out of memory");
    }
    if (stream->text.len > 0) {
        stream->ping_ms = now + PING_MS;
    }
    if (rc != 0) {
        srv_log_request(req->id, 'e', "events: %s", err.msg);
    }
    return rc;
}

static long stream_read(struct api_request *req, uint64_t offset, char *ret_bytes, size_t n)
{
    struct stream *stream = req->state;
    (void)offset;
    if (stream->sent == stream->text.len) {
        if (stream->is_over || atomic_load(&req->api->is_stopping)) {
            return API_READ_END;
        }
        if (stream_fill(req, stream) != 0) {
            return API_READ_ERROR;
        }
        if (stream->text.len == 0) {
            req->sleep_until_ms = stream->ping_ms;
            return stream->is_over ? API_READ_END : 0;
        }
    }
    size_t left = stream->text.len - stream->sent;
    n = n < left ? n : left;
    memcpy(ret_bytes, stream->text.data + stream->sent, n);
    stream->sent += n;
    return (long)n;
}

static int stream_last(struct api_request *req, int64_t *ret, struct shr_err *err)
{
    const char *header = api_request_header(req, "Last-Event-ID");
    const char *query = api_query_find(&req->query, "after");
    if (header != NULL && header[0] != 0) { /* of a reconnect, so newer than the query's */
        return api_int_parse(header, "Last-Event-ID", 0, INT64_MAX, ret, err);
    }
    return query == NULL ? 0 : api_int_parse(query, "after", 0, INT64_MAX, ret, err);
}

static int stream_reply(struct api_request *req, const char *job_id, struct shr_err *err)
{
    static const char type[] = "text/event-stream";
    int64_t last = job_id == NULL ? FROM_NOW : 0;
    int rc = stream_last(req, &last, err);
    if (rc == 0) {
        rc = api_reply_header(req, "X-Accel-Buffering", "no", err);
    }
    if (rc != 0 || req->is_head) {
        return rc != 0 ? rc : api_reply_static(req, 200, type, "", 0, err);
    }
    rc = api_waiter_add(&req->api->waiters, req, API_WAIT_STREAM, job_id, err);
    if (rc != 0) {
        return rc;
    }

    struct stream *stream = shr_mem_new(1, sizeof *stream);
    if (stream == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    req->state = stream;
    req->state_free = stream_free;
    *stream = (struct stream){.job_id = job_id, .last = last, .ping_ms = api_now_ms() + PING_MS};
    shr_buf_puts(&stream->text, "retry: 2000\n\n");
    return api_reply_read(req, 200, type, API_SIZE_UNKNOWN, stream_read, err);
}

int api_job_events(struct api_request *req, struct shr_err *err)
{
    json_t *job = NULL;
    bool is_final;
    int rc = srv_job_get(req->srv, req->segments[0], &job, &is_final, err); /* is it there? */
    json_decref(job);
    return rc != 0 ? rc : stream_reply(req, req->segments[0], err);
}

int api_all_events(struct api_request *req, struct shr_err *err)
{
    return stream_reply(req, NULL, err);
}
