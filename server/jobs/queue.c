/* The queue, see queue.h. The loop decides when a job runs; executors/local.c runs it. */
#include "jobs/queue.h"

#include <malloc.h>
#include <string.h>

#include "base/mem.h"
#include "errors.h"
#include "executors/local.h"
#include "jobs/states.h"
#include "log.h"
#include "srv.h"
#include "units.h"

int job_queue_init(struct job_queue *queue, struct shr_err *err)
{
    if (uv_mutex_init(&queue->lock) != 0) {
        return shr_err_set(err, SHR_ERR_NOMEM, "queue: no lock");
    }
    return SHR_OK;
}

void job_queue_finish(struct job_queue *queue)
{
    uv_mutex_destroy(&queue->lock);
}

static void task_free(struct job_task *task)
{
    if (task != NULL) {
        job_progress_finish(&task->progress);
        store_job_finish(&task->job);
        shr_mem_free(task->error);
        shr_mem_free(task);
    }
}

static int task_new(struct srv *srv, struct job_task **ret, struct shr_err *err)
{
    struct job_task *task = shr_mem_new(1, sizeof *task);
    if (task == NULL) {
        return srv_nomem(err);
    }
    if (job_progress_init(&task->progress) != 0) {
        shr_mem_free(task);
        return srv_nomem(err);
    }
    task->srv = srv;
    task->verdict = "";
    task->started_ms = srv_clock_ms();
    task->max_memory = srv->settings.job_max_memory;
    task->max_seconds = srv->settings.job_max_seconds;
    *ret = task;
    return SHR_OK;
}

/* The task is made before the claim: a claimed job always has one. */
static int claim(struct srv *srv, struct job_task **ret, struct shr_err *err)
{
    struct job_queue *queue = &srv->queue;
    struct job_task *task = NULL;
    int code = task_new(srv, &task, err);
    if (code != SHR_OK) {
        return code;
    }
    uv_mutex_lock(&queue->lock);
    code = job_state_claim(srv, &task->job, err);
    if (code == SHR_OK) {
        task->next = queue->running;
        queue->running = task;
        queue->n_running++;
        if (task->job.cancel_requested) {
            atomic_store(&task->stop, JOB_STOP_USER);
            atomic_store(&task->cancel, true);
        }
    }
    uv_mutex_unlock(&queue->lock);
    if (code != SHR_OK) {
        task_free(task);
        return code;
    }
    *ret = task;
    return SHR_OK;
}

static void dispatch(struct srv *srv);

static void task_remove(struct job_queue *queue, struct job_task *task)
{
    uv_mutex_lock(&queue->lock);
    struct job_task **at = &queue->running;
    while (*at != task) {
        at = &(*at)->next;
    }
    *at = task->next;
    queue->n_running--;
    const bool is_idle = queue->n_running == 0;
    uv_mutex_unlock(&queue->lock);
    task_free(task);
    if (is_idle) {
        malloc_trim(0); /* what the job freed in small pieces goes back to the system */
    }
}

/* Moves a job that has run to its end. CONFLICT: it was taken from us, so nothing is to be done. */
static bool settle(struct job_task *task)
{
    struct srv *srv = task->srv;
    struct shr_err err = {0};
    const struct job_move move = {
        .from = JOB_RUNNING,
        .to = task->outcome,
        .attempt = task->job.attempt,
        .error = task->error,
        .verdict = task->verdict,
    };
    const int code = job_state_move(srv, task->job.id, &move, &err);
    if (code != SHR_OK && code != SHR_ERR_CONFLICT && code != SHR_ERR_NOT_FOUND) {
        srv_log(SRV_LOG_ERROR, task->job.id, "cannot store that it %s, will try again: %s",
                job_state_name(task->outcome), err.msg);
        return false;
    }
    if (code != SHR_OK) {
        srv_log(SRV_LOG_WARNING, task->job.id, "its result was not wanted any more: %s", err.msg);
    } else {
        srv_log(SRV_LOG_INFO, task->job.id, "%s after %.1f s%s%s", job_state_name(task->outcome),
                (double)(srv_clock_ms() - task->started_ms) / 1000.0,
                task->verdict[0] != '\0' ? ", verdict " : "", task->verdict);
    }
    task_remove(&srv->queue, task);
    return true;
}

static void on_done(struct job_task *task)
{
    struct srv *srv = task->srv;
    task->has_run = true;
    if (settle(task)) {
        dispatch(srv);
    }
}

/* Starts waiting jobs while there are free workers. */
static void dispatch(struct srv *srv)
{
    struct job_queue *queue = &srv->queue;
    while (!queue->stopping && queue->n_running < srv->settings.workers) {
        struct shr_err err = {0};
        struct job_task *task = NULL;
        const int code = claim(srv, &task, &err);
        if (code == SHR_ERR_NOT_FOUND) {
            return; /* nothing waits */
        }
        if (code != SHR_OK) {
            srv_log(SRV_LOG_ERROR, NULL, "cannot start the next job: %s", err.msg);
            return; /* the next wake or tick tries again */
        }
        srv_log(SRV_LOG_INFO, task->job.id, "starts: model %s, attempt %lld", task->job.model_name,
                (long long)task->job.attempt);
        job_local_submit(queue->loop, task, on_done);
    }
}

static void on_wake(uv_async_t *wake)
{
    dispatch(wake->data);
}

int job_queue_start(struct srv *srv, uv_loop_t *loop, struct shr_err *err)
{
    const int uv = uv_async_init(loop, &srv->queue.wake, on_wake);
    if (uv != 0) {
        return shr_err_set(err, SHR_ERR_IO, "queue: %s", uv_strerror(uv));
    }
    srv->queue.wake.data = srv;
    uv_mutex_lock(&srv->queue.lock);
    srv->queue.loop = loop;
    uv_mutex_unlock(&srv->queue.lock);
    job_queue_wake(srv);
    return SHR_OK;
}

void job_queue_close(struct srv *srv)
{
    uv_mutex_lock(&srv->queue.lock);
    srv->queue.loop = NULL;
    uv_mutex_unlock(&srv->queue.lock);
    uv_close((uv_handle_t *)&srv->queue.wake, NULL);
}

void job_queue_wake(struct srv *srv)
{
    uv_mutex_lock(&srv->queue.lock);
    if (srv->queue.loop != NULL) {
        uv_async_send(&srv->queue.wake);
    }
    uv_mutex_unlock(&srv->queue.lock);
}

/* Under the lock. The first reason stays. */
static void ask_to_stop(struct job_task *task, enum job_stop why)
{
    int none = JOB_STOP_NONE;
    atomic_compare_exchange_strong(&task->stop, &none, (int)why);
    atomic_store(&task->cancel, true);
}

static void settle_all(struct srv *srv)
{
    struct job_task *task = srv->queue.running; /* only the loop changes the list */
    while (task != NULL) {
        struct job_task *next = task->next;
        if (task->has_run) {
            settle(task);
        }
        task = next;
    }
}

void job_queue_tick(struct srv *srv)
{
    const uint64_t now = srv_clock_ms();
    uv_mutex_lock(&srv->queue.lock);
    for (struct job_task *task = srv->queue.running; task != NULL; task = task->next) {
        const uint64_t limit_ms = (uint64_t)task->max_seconds * 1000;
        if (limit_ms > 0 && now - task->started_ms >= limit_ms) {
            ask_to_stop(task, JOB_STOP_TIME);
        }
    }
    uv_mutex_unlock(&srv->queue.lock);
    settle_all(srv);
    dispatch(srv);
}

void job_queue_stop(struct srv *srv)
{
    uv_mutex_lock(&srv->queue.lock);
    srv->queue.stopping = true;
    for (struct job_task *task = srv->queue.running; task != NULL; task = task->next) {
        ask_to_stop(task, JOB_STOP_SHUTDOWN);
    }
    uv_mutex_unlock(&srv->queue.lock);
}

unsigned job_queue_running(struct srv *srv)
{
    uv_mutex_lock(&srv->queue.lock);
    const unsigned n = srv->queue.n_running;
    uv_mutex_unlock(&srv->queue.lock);
    return n;
}

static struct job_task *task_find(struct job_queue *queue, const char *job_id)
{
    struct job_task *task = queue->running;
    while (task != NULL && strcmp(task->job.id, job_id) != 0) {
        task = task->next;
    }
    return task;
}

/* A running job's token and its flag in the store; false when the job does not run here. */
static bool cancel_running(struct srv *srv, const char *job_id, int *ret_code, struct shr_err *err)
{
    uv_mutex_lock(&srv->queue.lock);
    struct job_task *task = task_find(&srv->queue, job_id);
    if (task != NULL) {
        *ret_code = store_job_request_cancel(srv->store, job_id, err);
        if (*ret_code == SHR_OK) {
            ask_to_stop(task, JOB_STOP_USER);
        }
    }
    uv_mutex_unlock(&srv->queue.lock);
    return task != NULL;
}

int job_queue_cancel(struct srv *srv, const char *job_id, struct shr_err *err)
{
    const struct job_move move = {.from = JOB_QUEUED, .to = JOB_CANCELLED, .attempt = -1};
    int code = job_state_move(srv, job_id, &move, err);
    if (code != SHR_ERR_CONFLICT || cancel_running(srv, job_id, &code, err)) {
        return code;
    }
    /* neither waiting nor running: final, unless it went back to the queue in between */
    code = job_state_move(srv, job_id, &move, err);
    return code == SHR_ERR_CONFLICT ? SHR_OK : code;
}

bool job_queue_progress(struct srv *srv, const char *job_id, struct job_progress_view *ret)
{
    uv_mutex_lock(&srv->queue.lock);
    struct job_task *task = task_find(&srv->queue, job_id);
    if (task != NULL) {
        job_progress_get(&task->progress, ret);
    }
    uv_mutex_unlock(&srv->queue.lock);
    return task != NULL;
}
