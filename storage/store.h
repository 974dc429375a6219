/* The store: everything that shrinkd must not forget, in two SQLite files.
 *
 *   shrinkd.db    WAL, synchronous=FULL: models, datasets, jobs, steps, metrics, checkpoints,
 * events artifacts.db  rollback journal, 64 KiB pages: blobs, content-addressed by SHA-256, as
 * chunk rows
 *
 * A function that returns 0 after a change has committed it: it survives kill -9 and power loss.
 * Order of commits: bytes first, then the row that names them, so a row implies its bytes; bytes
 * without a row are garbage for store_sweep. Summaries, recipes, reports and event data are opaque
 * text here. One connection writes each file, behind a mutex.
 * Thread: any, for every function; an object (upload, reader, list) belongs to one at a time.
 * Ownership: returned structs own their strings through their arena; end them with their _finish.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/attr.h"
#include "base/err.h"

struct store;

struct store_opts {
    const char *dir;    /* created with mode 0700 when absent; local file systems only */
    size_t chunk_bytes; /* of a blob's chunk row; 0 = 1 MiB */
};

/* Opens, migrates (PRAGMA user_version; a newer file is refused with CONFLICT), checks after an
 * unclean end, and locks the folder: a second process gets BUSY. */
int store_open(const struct store_opts *opts, struct store **ret,
               struct shr_err *err) SHR_MUSTCHECK;
void store_close(struct store *store);

enum { STORE_SHA256_HEX = 65, STORE_ID_SIZE = 32 };

/* ── Ids ────────────────────────────────────────────────────────────────────────────────────── */

/* "job_01J…": prefix, underscore, ULID (26 characters of Crockford's base32, sorts by time). */
void store_id_new(const char *prefix, char ret_id[STORE_ID_SIZE]);
bool store_id_is(const char *prefix, const char *id);

/* SHA-256 (FIPS 180-4), as used for blobs. */
struct store_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    unsigned char block[64];
};
void store_sha256_init(struct store_sha256 *h);
void store_sha256_add(struct store_sha256 *h, const void *bytes, size_t n);
void store_sha256_hex(struct store_sha256 *h, char ret_hex[STORE_SHA256_HEX]); /* ends it */

/* ── Blobs ──────────────────────────────────────────────────────────────────────────────────── */

struct store_upload; /* bytes on their way in; nothing is visible before it is finished */

int store_upload_new(struct store *store, struct store_upload **ret,
                     struct shr_err *err) SHR_MUSTCHECK;
int store_upload_append(struct store_upload *upload, const void *bytes, size_t n,
                        struct shr_err *err) SHR_MUSTCHECK; /* FULL when the disk is */
uint64_t store_upload_bytes(const struct store_upload *upload);
/* All of it so far (shr_mem_free), to look at before it is finished. */
int store_upload_get(struct store_upload *upload, void **ret_bytes, size_t *ret_n,
                     struct shr_err *err) SHR_MUSTCHECK;
/* Commits the bytes; the blob exists afterwards (or did before: the same bytes are kept once). */
int store_upload_finish(struct store_upload *upload, char ret_sha256[STORE_SHA256_HEX],
                        struct shr_err *err) SHR_MUSTCHECK;
void store_upload_free(struct store_upload *upload); /* drops the bytes unless finished */

/* The whole at once: for artifacts made in memory. */
int store_blob_put(struct store *store, const void *bytes, size_t n,
                   char ret_sha256[STORE_SHA256_HEX], struct shr_err *err) SHR_MUSTCHECK;
int store_blob_size(struct store *store, const char *sha256, uint64_t *ret_bytes,
                    struct shr_err *err) SHR_MUSTCHECK; /* NOT_FOUND */
/* Up to n bytes from offset; *ret_n = 0 at the end. Holds no lock between calls. */
int store_blob_read(struct store *store, const char *sha256, uint64_t offset, void *ret_bytes,
                    size_t n, size_t *ret_n, struct shr_err *err) SHR_MUSTCHECK;
/* All of it (shr_mem_free). LIMIT above max_bytes. */
int store_blob_get(struct store *store, const char *sha256, size_t max_bytes, void **ret_bytes,
                   size_t *ret_n, struct shr_err *err) SHR_MUSTCHECK;

/* ── Models and datasets: named, versioned ──────────────────────────────────────────────────── */

enum store_kind { STORE_MODEL, STORE_DATASET };

enum { STORE_MAX_PARTS = 4 };

struct store_part {
    const char *name; /* "model", "npz", "images", "labels" */
    const char *sha256;
    uint64_t bytes;
};

struct store_item {
    struct shr_arena arena;
    const char *id; /* "mdl_…" | "dst_…" */
    const char *name;
    int64_t version;     /* 1, 2, … of that name */
    const char *format;  /* "onnx", "npz", "npy", "idx" */
    const char *options; /* opaque text: how it is to be read */
    const char *summary; /* opaque text */
    size_t n_parts;
    struct store_part parts[STORE_MAX_PARTS];
    int64_t created_us; /* since 1970, UTC */
};

/* Adds a version; when the newest version of the name has the same parts and options it is returned
 * instead and *ret_is_new is false. item: name, format, options, summary, parts are read. */
int store_item_add(struct store *store, enum store_kind kind, const struct store_item *item,
                   struct store_item *ret, bool *ret_is_new, struct shr_err *err) SHR_MUSTCHECK;
/* By name (version 0 = the newest) or, when it looks like one, by id. NOT_FOUND names it. */
int store_item_get(struct store *store, enum store_kind kind, const char *name_or_id,
                   int64_t version, struct store_item *ret, struct shr_err *err) SHR_MUSTCHECK;
/* Deletes all versions of a name (version 0) or one. CONFLICT while a queued or running job uses
 * it. */
int store_item_delete(struct store *store, enum store_kind kind, const char *name, int64_t version,
                      struct shr_err *err) SHR_MUSTCHECK;
void store_item_finish(struct store_item *item);

struct store_page { /* of a list, newest version of each name; sorted by name */
    size_t n;
    struct store_item *v;
    char next[160]; /* give it back as cursor; "" = the end */
};
int store_item_list(struct store *store, enum store_kind kind, const char *cursor, size_t limit,
                    struct store_page *ret, struct shr_err *err) SHR_MUSTCHECK;
void store_page_finish(struct store_page *page);

/* ── Jobs ───────────────────────────────────────────────────────────────────────────────────── */

struct store_job {
    struct shr_arena arena;
    const char *id;       /* "job_…" */
    const char *name;     /* "" = none */
    const char *state;    /* the server's word, see server/jobs/states.h */
    const char *recipe;   /* opaque text: the job as accepted, defaults filled in */
    const char *model_id; /* what it works on, and "model name" for lists */
    const char *model_name;
    const char *datasets; /* ids of datasets, and of other models, separated by a blank: what is
                           * kept while the job is not final */
    const char *error;    /* opaque text; "" = none */
    const char *verdict;  /* "", "pass", "fail" */
    bool cancel_requested;
    int64_t attempt; /* fences writes of a worker whose job was taken from it */
    int64_t created_us, started_us, finished_us; /* 0 = not yet */
    const char *idempotency_key;                 /* "" = none; unique */
    const char *request_sha256; /* of the request body, to tell a replay from a misuse */
};

/* Adds in the given state and appends its first event. CONFLICT when the idempotency key exists
 * (ret is then the job that has it). LIMIT when there are max_queued jobs in that state. NOT_FOUND
 * when the model or a dataset is gone: what a job names stays until the job is final. */
int store_job_add(struct store *store, const struct store_job *job, size_t max_queued,
                  const char *event_data, struct store_job *ret, struct shr_err *err) SHR_MUSTCHECK;
int store_job_get(struct store *store, const char *id, struct store_job *ret,
                  struct shr_err *err) SHR_MUSTCHECK;
/* The job that has the idempotency key, if any. */
int store_job_find(struct store *store, const char *key, struct store_job *ret, bool *ret_found,
                   struct shr_err *err) SHR_MUSTCHECK;
/* The oldest job in state `from` moves to `to` with attempt+1. NOT_FOUND: none waits. */
int store_job_claim(struct store *store, const char *from, const char *to, struct store_job *ret,
                    struct shr_err *err) SHR_MUSTCHECK;

struct store_move {
    const char *from, *to;       /* states; CONFLICT when the job is not in `from` */
    int64_t attempt;             /* -1 = any; else CONFLICT when another attempt owns the job */
    const char *error, *verdict; /* NULL = as they are */
    bool is_final;               /* sets finished_us */
    size_t max_queued;           /* as of store_job_add, for a job that leaves a final state */
    const char *event_data;      /* data of the "state" event that the move appends */
};
/* State and event in one transaction. A job that leaves a final state (retry) drops its cancel
 * request; as for a new job, LIMIT when the queue is full and NOT_FOUND when an item is gone.
 * ret_event_id may be NULL. */
int store_job_move(struct store *store, const char *id, const struct store_move *move,
                   int64_t *ret_event_id, struct shr_err *err) SHR_MUSTCHECK;
int store_job_request_cancel(struct store *store, const char *id,
                             struct shr_err *err) SHR_MUSTCHECK;
/* With all that hangs on it. CONFLICT when it is not final. */
int store_job_delete(struct store *store, const char *id, struct shr_err *err) SHR_MUSTCHECK;
void store_job_finish(struct store_job *job);

struct store_jobs { /* a page, newest first */
    size_t n;
    struct store_job *v;
    char next[64];
};
struct store_job_query {
    const char *state, *model_name; /* NULL = any */
    const char *cursor;             /* NULL = from the newest */
    size_t limit;
};
int store_job_list(struct store *store, const struct store_job_query *query, struct store_jobs *ret,
                   struct shr_err *err) SHR_MUSTCHECK;
int store_job_count(struct store *store, const char *state, int64_t *ret,
                    struct shr_err *err) SHR_MUSTCHECK;
void store_jobs_finish(struct store_jobs *jobs);

/* ── Steps and metrics: what a job made ─────────────────────────────────────────────────────── */

struct store_metric {
    const char *name;
    bool measured;
    double value;
    const char *why; /* when not measured */
};

struct store_step {
    int64_t seq;        /* 0 = the original, then one a pass */
    const char *pass;   /* "original", "quantize_static", … */
    const char *sha256; /* the artifact */
    uint64_t bytes;
    const char *report; /* opaque text */
    size_t n_metrics;
    struct store_metric *metrics;
};

/* Adds a step with its metrics in one transaction, once: a replay of (job, seq) by the same attempt
 * is fine, CONFLICT when another attempt owns the job. A later attempt replaces the step and drops
 * those of earlier attempts behind it. NOT_FOUND when the artifact is not stored. */
int store_step_add(struct store *store, const char *job_id, int64_t attempt,
                   const struct store_step *step, struct shr_err *err) SHR_MUSTCHECK;

struct store_steps {
    struct shr_arena arena;
    size_t n;
    struct store_step *v; /* by seq */
};
int store_step_list(struct store *store, const char *job_id, struct store_steps *ret,
                    struct shr_err *err) SHR_MUSTCHECK;
void store_steps_finish(struct store_steps *steps);

/* ── Checkpoints: where a running step can go on after a crash ──────────────────────────────── */

/* Replaces the job's checkpoint, if it has one, unless that is of a later step. CONFLICT when
 * another attempt owns the job. The end of the step (store_step_add) or of the job drops it. */
int store_checkpoint_put(struct store *store, const char *job_id, int64_t attempt, int64_t step,
                         const void *bytes, size_t n, struct shr_err *err) SHR_MUSTCHECK;
/* Those of the job's checkpoint (shr_mem_free), of whichever attempt; NULL and 0 when it has none
 * of this step. */
int store_checkpoint_get(struct store *store, const char *job_id, int64_t step, void **ret_bytes,
                         size_t *ret_n, struct shr_err *err) SHR_MUSTCHECK;

/* ── Events ─────────────────────────────────────────────────────────────────────────────────── */

struct store_event {
    int64_t id; /* grows over all jobs */
    const char *job_id;
    const char *kind; /* "state", "progress", "step", "log" */
    const char *data; /* opaque text */
    int64_t time_us;
};
struct store_events {
    struct shr_arena arena;
    size_t n;
    struct store_event *v; /* by id */
};
int store_event_add(struct store *store, const char *job_id, const char *kind, const char *data,
                    int64_t *ret_id, struct shr_err *err) SHR_MUSTCHECK;
/* Up to limit events after id; job_id NULL = of all jobs. */
int store_event_list(struct store *store, const char *job_id, int64_t after, size_t limit,
                     struct store_events *ret, struct shr_err *err) SHR_MUSTCHECK;
/* The newest event's id over all jobs; 0 when there is none. */
int store_event_last(struct store *store, int64_t *ret, struct shr_err *err) SHR_MUSTCHECK;
void store_events_finish(struct store_events *events);

/* ── Care ───────────────────────────────────────────────────────────────────────────────────── */

struct store_usage {
    uint64_t blobs, blob_bytes, reclaimable_bytes, database_bytes, free_disk_bytes;
};
int store_usage(struct store *store, struct store_usage *ret, struct shr_err *err) SHR_MUSTCHECK;
/* Deletes blobs and uploads that no row names and that are older than min_age_s. */
int store_sweep(struct store *store, int64_t min_age_s, uint64_t *ret_bytes,
                struct shr_err *err) SHR_MUSTCHECK;
/* Reads everything: database checks and the hash of each blob. CORRUPT names the first damage. */
int store_check(struct store *store, struct shr_err *err) SHR_MUSTCHECK;
int store_ping(struct store *store,
               struct shr_err *err) SHR_MUSTCHECK; /* can it write? for /readyz */

#endif
