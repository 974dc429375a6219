/* The states of a job, and the one function that moves a job between them.
 *
 *            ┌───────────────── retry ──────────────────────────────┐
 *            │◀─stop, recovery─┐                                    │
 *            ▼                 │                                    │
 *     ── queued ──claim──▶ running ──▶ succeeded                    │
 *            │                ├──────▶ failed ─────────────────────▶│
 *            │                ├──────▶ lost (too many attempts) ───▶│
 *            └────cancel──────┴──────▶ cancelled ──────────────────▶┘
 *
 * A claim raises the attempt number, which fences the writes of whoever ran the job before.
 * Cancelling is a flag, not a state. succeeded, failed, cancelled and lost are final. */
#ifndef SRV_JOBS_STATES_H
#define SRV_JOBS_STATES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct srv;
struct store_job;

enum job_state {
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_SUCCEEDED,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_LOST,
    JOB_STATE_COUNT
};

const char *job_state_name(enum job_state state); /* "queued", … */
bool job_state_find(const char *name, enum job_state *ret);
bool job_state_is_final(enum job_state state);
bool job_state_may_move(enum job_state from, enum job_state to);

struct job_move {
    enum job_state from, to;
    int64_t attempt;     /* of the worker that moves; -1 = any */
    const char *error;   /* problem JSON for failed and lost; NULL = as it is */
    const char *verdict; /* "pass", "fail"; NULL = as it is */
};

/* Moves in SQLite (state and event in one transaction), then tells the listeners. INTERNAL for a
 * move that the drawing does not have, CONFLICT when the job is elsewhere by now. Thread: any. */
int job_state_move(struct srv *srv, const char *job_id, const struct job_move *move,
                   struct shr_err *err) SHR_MUSTCHECK;

/* The two moves with no job at hand before them: a new job begins as queued (see store_job_add for
 * ret and the errors), and the oldest queued job runs (NOT_FOUND: none waits). */
int job_state_begin(struct srv *srv, const struct store_job *job, struct store_job *ret,
                    struct shr_err *err) SHR_MUSTCHECK;
int job_state_claim(struct srv *srv, struct store_job *ret, struct shr_err *err) SHR_MUSTCHECK;

#endif
