/* The worker: runs one job from its row to its outcome. */
#ifndef SRV_JOBS_WORKER_H
#define SRV_JOBS_WORKER_H

#include <jansson.h>

#include "base/err.h"

struct job_task;

/* Runs the task's job and leaves the outcome in the task. Every finished step is in the store by
 * then, whatever becomes of a later one. Thread: worker; blocks as long as the job takes. */
void job_worker_run(struct job_task *task);

/* What the steps of a job would weigh: its passes on the model, but nothing runs on data and
 * nothing is stored. Of the task only the recipe, the model, the token and the limits count.
 * Thread: any; blocks. CANCELLED when the token is set. */
int job_worker_plan(struct job_task *task, json_t **ret, struct shr_err *err) SHR_MUSTCHECK;

#endif
