/* The local executor: jobs on libuv's thread pool.
 *
 * The seam between the queue and where a job runs is submit, poll, cancel: here poll is the call of
 * `done` on the loop, and cancel is the task's token. Nothing else may run on the pool; its size is
 * the `workers` setting. Thread: loop. */
#ifndef SRV_EXECUTORS_LOCAL_H
#define SRV_EXECUTORS_LOCAL_H

#include <uv.h>

#include "base/err.h"

struct job_task;
typedef void (*job_done_fn)(struct job_task *task);

/* Sets the size of the pool; before anything has used it. */
int job_local_setup(unsigned workers, struct shr_err *err) SHR_MUSTCHECK;

/* Runs the task on the pool, then done on the loop. Cannot fail. */
void job_local_submit(uv_loop_t *loop, struct job_task *task, job_done_fn done);

#endif
