/* A request and its reply, as the handlers see them, and the routes that lead to the handlers.
 *
 * One struct api_request lives from the request line to the end of its response; all that belongs
 * to it (arena, body, reply, the handler's own state) is freed with it. A handler runs on one of
 * the HTTP threads, one at a time for a request, and never waits: to wait it returns with
 * req->sleep_until_ms set and is called again (waiters.h). An error it returns becomes a
 * problem+json answer. Only http*.c know the HTTP library. Thread: http, unless told. */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "query.h"
#include "server/service.h"
#include "waiters.h"

struct api;
struct api_request;

/* ── Routes ─────────────────────────────────────────────────────────────────────────────────── */

enum { API_SEGMENT_MAX = 2 }; /* {name} segments of a path */

/* A piece of a streamed body. part: the field's name in a multipart body, NULL in a raw one. */
struct api_chunk {
    const char *part;
    bool is_first; /* of its part */
    const void *bytes;
    size_t n;
};

typedef int (*api_handle_fn)(struct api_request *req, struct shr_err *err);
typedef int (*api_chunk_fn)(struct api_request *req, const struct api_chunk *chunk,
                            struct shr_err *err);

enum api_access { API_AUTH_TOKEN, API_AUTH_OPEN }; /* the first when tokens are configured */
enum api_body { API_BODY_NONE, API_BODY_JSON, API_BODY_STREAM };

struct api_param {                     /* of the query, or a request header worth telling of */
    const char *name, *type, *summary; /* type: a JSON schema type */
};

struct api_route {
    const char *method, *path; /* "/v1/models/{name}" */
    api_handle_fn handle;      /* runs when the body is complete */
    enum api_access auth;
    enum api_body body;
    const char *consumes; /* media types, with blanks between; NULL = no body */
    api_handle_fn begin;  /* API_BODY_STREAM: before the body, for an early answer */
    api_chunk_fn chunk;   /* API_BODY_STREAM */
    const struct api_param *query, *headers; /* up to a row without a name; NULL = none */
    int status;                              /* of a good answer */
    const char *produces;                    /* its media types */
    const char *schema; /* its schema in openapi.json; NULL when it is not JSON */
    const char *summary;
};

extern const struct api_route api_routes[];
extern const size_t api_route_count;

/* ── The request ────────────────────────────────────────────────────────────────────────────── */

typedef void (*api_free_fn)(void *user);
/* Fills up to n bytes from `offset` of the content; 0 with req->sleep_until_ms set = not now.
 * API_READ_END: no more; API_READ_ERROR: cut the connection, so that the client sees it. */
typedef long (*api_read_fn)(struct api_request *req, uint64_t offset, char *ret_bytes, size_t n);
enum { API_READ_END = -1, API_READ_ERROR = -2 };
#define API_SIZE_UNKNOWN UINT64_MAX

struct api_reply_header {
    const char *name, *value;
    struct api_reply_header *next;
};

struct api_reply { /* status 0 = none yet */
    int status;
    bool must_close;
    struct api_reply_header *headers;
    const void *bytes; /* when read is NULL */
    size_t n;
    void *owned; /* bytes, when they are to be freed */
    api_read_fn read;
    uint64_t size; /* with read */
};

struct api_request {
    struct api *api;
    struct srv *srv;
    void *connection; /* the HTTP library's */
    struct shr_arena arena;
    char id[32];        /* "req_" and a ULID */
    const char *method; /* as sent */
    bool is_head;       /* handled as GET */
    const char *path;   /* as sent, without query; never a path of anything else */
    struct api_query query;
    const struct api_route *route;         /* NULL until it is found */
    const char *segments[API_SEGMENT_MAX]; /* the {name}s, decoded, in order */
    uint64_t started_ms;

    bool has_body, has_length; /* as the headers declare */
    uint64_t length;
    struct shr_buf body;   /* API_BODY_JSON: complete when the handler runs */
    uint64_t body_max;     /* more is an error */
    uint64_t body_bytes;   /* that came */
    struct shr_err failed; /* the first error of the body; told when its rest was dropped */

    uint64_t wait_until_ms;  /* the handler's own: when its wait is over */
    uint64_t sleep_until_ms; /* set by a handler or reader that wants to be called again */
    struct api_waiter waiter;
    void *state; /* the handler's, with how to free it */
    api_free_fn state_free;
    struct api_reply reply;
};

const char *api_request_header(struct api_request *req, const char *name); /* NULL when absent */

/* What can be judged before the body: path, Host, Origin, token, route, query, declared length;
 * then the route's begin. An error, or a reply that is there already, is the early answer. */
int api_request_admit(struct api_request *req, const char *uri, struct shr_err *err) SHR_MUSTCHECK;
/* One piece of the body; part NULL = raw. */
int api_request_take(struct api_request *req, const struct api_chunk *chunk,
                     struct shr_err *err) SHR_MUSTCHECK;
void api_request_finish(struct api_request *req); /* frees all but req itself */

/* ── The reply: each sets it whole, before the handler returns 0 ────────────────────────────── */

/* Adds a header; the value is copied. NOMEM, or INVALID for bytes that a header cannot carry. */
int api_reply_header(struct api_request *req, const char *name, const char *value,
                     struct shr_err *err) SHR_MUSTCHECK;
int api_reply_json(struct api_request *req, int status, json_t *take_json,
                   struct shr_err *err) SHR_MUSTCHECK;
/* text's bytes go to the reply; text is empty afterwards, also on failure. */
int api_reply_text(struct api_request *req, int status, const char *type, struct shr_buf *text,
                   struct shr_err *err) SHR_MUSTCHECK;
/* bytes that outlive the request */
int api_reply_static(struct api_request *req, int status, const char *type, const void *bytes,
                     size_t n, struct shr_err *err) SHR_MUSTCHECK;
int api_reply_empty(struct api_request *req, int status); /* always 0, to be returned */
int api_reply_read(struct api_request *req, int status, const char *type, uint64_t size,
                   api_read_fn read, struct shr_err *err) SHR_MUSTCHECK;
void api_reply_reset(struct api_request *req);               /* no reply, no headers */
int api_json_append(const char *bytes, size_t n, void *buf); /* a json_dump_callback_t */

#define API_TYPE_JSON "application/json"
#define API_TYPE_PROBLEM "application/problem+json"

/* Suspends and resumes the connection; for waiters.c, under its lock. Thread: http; any. */
void api_request_suspend(struct api_request *req);
void api_request_resume(struct api_request *req);

#endif
