/* Long polls and event streams; see waiters.h. */
#include "waiters.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "http.h"
#include "problem.h"

void api_waiters_init(struct api_waiters *waiters, unsigned max_polls, unsigned max_streams)
{
    *waiters = (struct api_waiters){.max = {max_polls, max_streams}};
    pthread_mutex_init(&waiters->lock, NULL);
}

void api_waiters_destroy(struct api_waiters *waiters)
{
    pthread_mutex_destroy(&waiters->lock);
}

int api_waiter_add(struct api_waiters *waiters, struct api_request *req, enum api_wait kind,
                   const char *job_id, struct shr_err *err)
{
    static const char *const names[API_WAIT_COUNT] = {"long polls", "event streams"};
    struct api_waiter *waiter = &req->waiter;
    int rc = 0;
    pthread_mutex_lock(&waiters->lock);
    if (waiters->is_stopping) {
        rc = shr_err_set(err, API_ERR_UNAVAILABLE, "the server is stopping");
    } else if (waiters->count[kind] >= waiters->max[kind]) {
        rc = shr_err_set(err, API_ERR_UNAVAILABLE, "%u %s are open, which is the limit",
                         waiters->count[kind], names[kind]);
    } else {
        *waiter = (struct api_waiter){.req = req, .kind = kind, .is_listed = true};
        snprintf(waiter->job_id, sizeof waiter->job_id, "%s", job_id == NULL ? "" : job_id);
        waiter->next = waiters->first;
        if (waiters->first != NULL) {
            waiters->first->prev = waiter;
        }
        waiters->first = waiter;
        waiters->count[kind]++;
    }
    pthread_mutex_unlock(&waiters->lock);
    return rc;
}

bool api_waiter_sleep(struct api_waiters *waiters, struct api_request *req, uint64_t until_ms)
{
    struct api_waiter *waiter = &req->waiter;
    pthread_mutex_lock(&waiters->lock);
    bool is_due = waiter->has_news || waiters->is_stopping || api_now_ms() >= until_ms;
    waiter->has_news = false;
    if (!is_due) {
        waiter->until_ms = until_ms;
        waiter->is_asleep = true;
        api_request_suspend(req);
    }
    pthread_mutex_unlock(&waiters->lock);
    return !is_due;
}

void api_waiter_remove(struct api_waiters *waiters, struct api_request *req)
{
    struct api_waiter *waiter = &req->waiter;
    pthread_mutex_lock(&waiters->lock);
    if (waiter->is_listed) {
        if (waiter->next != NULL) {
            waiter->next->prev = waiter->prev;
        }
        *(waiter->prev != NULL ? &waiter->prev->next : &waiters->first) = waiter->next;
        waiters->count[waiter->kind]--;
        waiter->is_listed = false;
    }
    pthread_mutex_unlock(&waiters->lock);
}

static void wake(struct api_waiter *waiter)
{
    if (waiter->is_asleep) {
        waiter->is_asleep = false;
        api_request_resume(waiter->req);
    }
}

void api_waiters_notify(struct api_waiters *waiters, const char *job_id, bool job_is_final)
{
    pthread_mutex_lock(&waiters->lock);
    for (struct api_waiter *waiter = waiters->first; waiter != NULL; waiter = waiter->next) {
        bool is_its_job = waiter->job_id[0] == 0 || strcmp(waiter->job_id, job_id) == 0;
        if (is_its_job && (waiter->kind == API_WAIT_STREAM || job_is_final)) {
            waiter->has_news = !waiter->is_asleep;
            wake(waiter);
        }
    }
    pthread_mutex_unlock(&waiters->lock);
}

void api_waiters_tick(struct api_waiters *waiters)
{
    uint64_t now = api_now_ms();
    pthread_mutex_lock(&waiters->lock);
    for (struct api_waiter *waiter = waiters->first; waiter != NULL; waiter = waiter->next) {
        if (now >= waiter->until_ms) {
            wake(waiter);
        }
    }
    pthread_mutex_unlock(&waiters->lock);
}

void api_waiters_stop(struct api_waiters *waiters)
{
    pthread_mutex_lock(&waiters->lock);
    waiters->is_stopping = true;
    for (struct api_waiter *waiter = waiters->first; waiter != NULL; waiter = waiter->next) {
        wake(waiter);
    }
    pthread_mutex_unlock(&waiters->lock);
}

bool api_waiters_stopping(struct api_waiters *waiters)
{
    pthread_mutex_lock(&waiters->lock);
    bool is_stopping = waiters->is_stopping;
    pthread_mutex_unlock(&waiters->lock);
    return is_stopping;
}

unsigned api_waiters_count(struct api_waiters *waiters, enum api_wait kind)
{
    pthread_mutex_lock(&waiters->lock);
    unsigned count = waiters->count[kind];
    pthread_mutex_unlock(&waiters->lock);
    return count;
}
