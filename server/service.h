/* The service: all that shrinkd can do for a client, without HTTP. api/ calls this and nothing
 * lower.
 *
 * Requests and answers are JSON values as openapi.json describes them (jansson; a returned json_t
 * is the caller's). Errors carry a code from base/err.def and name the field. Thread: any, for
 * every function, unless told. No call waits for a job. */
#ifndef SRV_SERVICE_H
#define SRV_SERVICE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct srv; /* the running service; made by server/main.c */

/* ── Limits and settings that HTTP needs ────────────────────────────────────────────────────── */

struct srv_http_settings {
    const char *listen;     /* "127.0.0.1:8080" | "[::1]:8080" | "unix:/run/shrinkd.sock" */
    const char *token_file; /* "" = no tokens: loopback or Unix socket only */
    const char *host_names; /* Host names taken on loopback beside localhost, blanks between */
    uint64_t max_upload_bytes, max_json_bytes;
    unsigned max_connections, max_connections_per_ip, max_waiters, max_streams;
    unsigned header_timeout_s, idle_timeout_s, max_wait_s;
    uint64_t min_body_rate; /* bytes a second, averaged over the body, after a grace of 10 s */
    unsigned page_limit;    /* most rows of a page */
};
const struct srv_http_settings *srv_http_settings(const struct srv *srv);

/* ── Models and datasets ────────────────────────────────────────────────────────────────────── */

enum srv_kind { SRV_MODEL, SRV_DATASET };

struct srv_upload; /* a PUT in progress; freed without finish it leaves nothing behind */

int srv_upload_new(struct srv *srv, enum srv_kind kind, const char *name, struct srv_upload **ret,
                   struct shr_err *err) SHR_MUSTCHECK; /* INVALID: the name */
/* Begins a part: "model", "npz", "npy", "images", "labels". */
int srv_upload_part(struct srv_upload *u, const char *part, struct shr_err *err) SHR_MUSTCHECK;
int srv_upload_append(struct srv_upload *u, const void *bytes, size_t n,
                      struct shr_err *err) SHR_MUSTCHECK; /* LIMIT: max_upload_bytes */
/* An option from the query: scale, mean, std, layout (datasets). INVALID: unknown or not a number.
 */
int srv_upload_option(struct srv_upload *u, const char *key, const char *value,
                      struct shr_err *err) SHR_MUSTCHECK;
/* Reads and checks what came, stores it, and returns its summary. *ret_is_new: 201, else 200. */
int srv_upload_finish(struct srv_upload *u, json_t **ret, bool *ret_is_new,
                      struct shr_err *err) SHR_MUSTCHECK;
void srv_upload_free(struct srv_upload *u);

int srv_item_get(struct srv *srv, enum srv_kind kind, const char *name, int64_t version,
                 json_t **ret, struct shr_err *err) SHR_MUSTCHECK; /* version 0 = newest */
int srv_item_list(struct srv *srv, enum srv_kind kind, const char *cursor, size_t limit,
                  json_t **ret, struct shr_err *err) SHR_MUSTCHECK;
int srv_item_delete(struct srv *srv, enum srv_kind kind, const char *name, int64_t version,
                    struct shr_err *err) SHR_MUSTCHECK;

/* ── Blobs ──────────────────────────────────────────────────────────────────────────────────── */

struct srv_blob { /* what a content response needs */
    char sha256[65];
    uint64_t bytes;
    char filename[192]; /* for Content-Disposition */
};
int srv_model_blob(struct srv *srv, const char *name, int64_t version, struct srv_blob *ret,
                   struct shr_err *err) SHR_MUSTCHECK;
int srv_artifact_blob(struct srv *srv, const char *job_id, int64_t step, struct srv_blob *ret,
                      struct shr_err *err) SHR_MUSTCHECK; /* step -1 = the last */
int srv_hash_blob(struct srv *srv, const char *sha256, struct srv_blob *ret,
                  struct shr_err *err) SHR_MUSTCHECK;
int srv_blob_read(struct srv *srv, const char *sha256, uint64_t offset, void *ret_bytes, size_t n,
                  size_t *ret_n, struct shr_err *err) SHR_MUSTCHECK;

/* ── Jobs ───────────────────────────────────────────────────────────────────────────────────── */

/* body: the request as it came. Returns the job; *ret_is_replay when the key was used with the same
 * body before. INVALID, NOT_FOUND (model, dataset), BUSY (queue full), CONFLICT (key reused). */
int srv_job_submit(struct srv *srv, const char *body, size_t n, const char *idempotency_key,
                   json_t **ret, bool *ret_is_replay, struct shr_err *err) SHR_MUSTCHECK;
int srv_job_get(struct srv *srv, const char *id, json_t **ret, bool *ret_is_final,
                struct shr_err *err) SHR_MUSTCHECK;
struct srv_job_query {
    const char *state, *model, *cursor; /* NULL = any, any, the newest */
    size_t limit;
};
int srv_job_list(struct srv *srv, const struct srv_job_query *query, json_t **ret,
                 struct shr_err *err) SHR_MUSTCHECK;
int srv_job_cancel(struct srv *srv, const char *id, json_t **ret,
                   struct shr_err *err) SHR_MUSTCHECK;
int srv_job_retry(struct srv *srv, const char *id, json_t **ret, struct shr_err *err) SHR_MUSTCHECK;
int srv_job_delete(struct srv *srv, const char *id, struct shr_err *err) SHR_MUSTCHECK;
int srv_job_report(struct srv *srv, const char *id, json_t **ret,
                   struct shr_err *err) SHR_MUSTCHECK;
int srv_job_artifacts(struct srv *srv, const char *id, json_t **ret,
                      struct shr_err *err) SHR_MUSTCHECK;

/* ── Plans ──────────────────────────────────────────────────────────────────────────────────── */

struct srv_plan; /* of a job that is not submitted; no job, and nothing of it is stored */

/* Begins to work out what each step of the job would weigh. Errors as of srv_job_submit; BUSY: as
 * many are made as may be. When it is over the listener hears it as the final event of a job that
 * is called like the plan. */
int srv_plan_new(struct srv *srv, const char *body, size_t n, struct srv_plan **ret,
                 struct shr_err *err) SHR_MUSTCHECK;
const char *srv_plan_id(const struct srv_plan *plan); /* valid until it is freed */
/* *ret is set when it is over; errors are those of the step that failed. */
int srv_plan_get(struct srv_plan *plan, json_t **ret, bool *ret_is_over,
                 struct shr_err *err) SHR_MUSTCHECK;
void srv_plan_free(struct srv_plan *plan); /* cancels it; does not wait */

/* ── Events ─────────────────────────────────────────────────────────────────────────────────── */

/* Server-sent events after `after`, rendered as text/event-stream, at most limit of them; job_id
 * NULL = of all jobs. *ret_last = id of the last; *ret_is_over: the job is final and all was sent.
 * after -1 = from now on: no text, and *ret_last is the newest event there is. */
int srv_events_render(struct srv *srv, const char *job_id, int64_t after, size_t limit,
                      struct shr_buf *ret_text, int64_t *ret_last, bool *ret_is_over,
                      struct shr_err *err) SHR_MUSTCHECK;

/* Called after each committed event, from any thread; it must only note and wake. One listener.
 * event_id 0 = an event whose number is not at hand: look. */
typedef void (*srv_event_fn)(void *user, const char *job_id, int64_t event_id, bool job_is_final);
void srv_listen(struct srv *srv, srv_event_fn fn,
                void *user); /* NULL = stop; waits for a running call */

/* ── Tables ─────────────────────────────────────────────────────────────────────────────────── */

/* TEXT: aligned columns for a terminal.
 * JSON: {"columns": [{"name", "title", "unit", "better"}],
 *        "rows": [{"job", "job_name", "model", "step", "pass", "cells": {metric: number | null},
 *                  "why": {metric: reason}}]}  */
enum srv_table_format { SRV_TABLE_JSON, SRV_TABLE_CSV, SRV_TABLE_MARKDOWN, SRV_TABLE_TEXT };

struct srv_compare_query {
    const char *ids;      /* comma-separated job ids; INVALID when empty */
    const char *baseline; /* a job id whose original is the first row; NULL = the first */
    const char *metrics;  /* comma-separated names; NULL = all that occur */
};
/* A row for each original (once for the same bytes) and one for each step of the jobs. */
int srv_compare(struct srv *srv, const struct srv_compare_query *query,
                enum srv_table_format format, struct shr_buf *ret_text,
                struct shr_err *err) SHR_MUSTCHECK;

json_t *srv_passes(void);                 /* the pass table; NULL = out of memory */
json_t *srv_about(const struct srv *srv); /* GET /v1: version, limits, cpu features */
int srv_usage(struct srv *srv, json_t **ret, struct shr_err *err) SHR_MUSTCHECK;
int srv_metrics_text(struct srv *srv, struct shr_buf *ret_text, struct shr_err *err) SHR_MUSTCHECK;

/* Can it take work? INTERNAL/FULL/… with what is wrong. For /readyz. */
int srv_ready(struct srv *srv, struct shr_err *err) SHR_MUSTCHECK;

/* One line in the log, prefixed by the request id. level: 'e' 'w' 'i' 'd'. */
void srv_log_request(const char *request_id, char level, const char *format, ...) SHR_PRINTF(3, 4);

#endif
