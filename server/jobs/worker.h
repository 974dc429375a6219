/* The worker: runs one job from its row to its outcome. */
#ifndef SRV_JOBS_WORKER_H
#define SRV_JOBS_WORKER_H

struct job_task;

/* Runs the task's job and leaves the outcome in the task. Every finished step is in the store by
 * then, whatever becomes of a later one. Thread: worker; blocks as long as the job takes. */
void job_worker_run(struct job_task *task);

#endif
