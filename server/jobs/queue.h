/* The queue: which job runs next, and which ones run now.
 *
 * Waiting jobs are rows in the store, oldest first; this file claims them, as many as `workers`,
 * and hands them to the executor. Running jobs are struct job_task, kept in a list behind the lock
 * so that a request can cancel one or ask for its progress. Claim and insertion happen under the
 * lock: who holds it and sees a job running in the store, finds its task, too. A job that has run
 * moves to its end on the loop; when that cannot be stored (a full disk), its task stays and each
 * tick tries again. */
#ifndef SRV_JOBS_QUEUE_H
#define SRV_JOBS_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#include "base/err.h"
#include "jobs/progress.h"
#include "jobs/states.h"
#include "storage/store.h"

struct srv;

/* Why a running job is asked to stop; the first reason stays. */
enum job_stop { JOB_STOP_NONE, JOB_STOP_USER, JOB_STOP_TIME, JOB_STOP_SHUTDOWN };

struct job_task { /* a running job; made and freed on the loop */
    struct srv *srv;
    struct store_job job; /* as it was claimed */
    atomic_bool cancel;   /* the token that the engine polls */
    atomic_int stop;      /* enum job_stop */
    uint64_t started_ms;  /* monotonic */
    uint64_t max_memory;  /* the settings at the start of the job */
    unsigned max_seconds;
    struct job_progress progress;
    uv_work_t work;
    void (*done)(struct job_task *task); /* on the loop, when it has run */
    bool has_run;
    enum job_state outcome; /* where the job goes when it has run */
    char *error;            /* problem JSON of a failed job, or NULL; owned */
    const char *verdict;    /* "", "pass", "fail" */
    struct job_task *next;  /* under the queue's lock */
};

struct job_queue {
    uv_mutex_t lock;
    struct job_task *running;
    unsigned n_running;
    bool stopping; /* no more claims */
    uv_loop_t *loop;
    uv_async_t wake;
};

int job_queue_init(struct job_queue *queue, struct shr_err *err) SHR_MUSTCHECK;
void job_queue_finish(struct job_queue *queue);

/* Thread: loop. From here on jobs run; close before the loop ends. */
int job_queue_start(struct srv *srv, uv_loop_t *loop, struct shr_err *err) SHR_MUSTCHECK;
void job_queue_close(struct srv *srv);

/* Thread: any. A job may be waiting: have the loop look. */
void job_queue_wake(struct srv *srv);

/* Thread: loop. Each second: asks jobs over the time limit to stop, retries what failed. */
void job_queue_tick(struct srv *srv);

/* Thread: loop. Claims no more and asks the running jobs to stop; they go back to the queue. */
void job_queue_stop(struct srv *srv);
unsigned job_queue_running(struct srv *srv);

/* Thread: any. Cancels a job, waiting or running: durable on return. A final job is left alone. */
int job_queue_cancel(struct srv *srv, const char *job_id, struct shr_err *err) SHR_MUSTCHECK;

/* Thread: any. A running job's progress; false when it does not run here. */
bool job_queue_progress(struct srv *srv, const char *job_id, struct job_progress_view *ret);

#endif
