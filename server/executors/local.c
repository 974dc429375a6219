/* The local executor, see local.h. */
#include "executors/local.h"

#include <stdio.h>
#include <stdlib.h>

#include "jobs/queue.h"
#include "jobs/worker.h"

int job_local_setup(unsigned workers, struct shr_err *err)
{
    char text[16];
    snprintf(text, sizeof text, "%u", workers);
    if (setenv("UV_THREADPOOL_SIZE", text, 1) != 0) {
        return shr_err_set(err, SHR_ERR_NOMEM, "workers: out of memory");
    }
    return SHR_OK;
}

static void on_pool(uv_work_t *work)
{
    job_worker_run(work->data);
}

static void on_loop(uv_work_t *work, int status)
{
    (void)status; /* a submitted task is never cancelled in libuv's sense */
    struct job_task *task = work->data;
    task->done(task);
}

void job_local_submit(uv_loop_t *loop, struct job_task *task, job_done_fn done)
{
    task->done = done;
    task->work.data = task;
    /* fails for a missing callback only */
    (void)uv_queue_work(loop, &task->work, on_pool, on_loop);
}
