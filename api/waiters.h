/* Requests that wait: long polls and event streams, with their deadlines.
 *
 * The HTTP library neither times out suspended connections nor sees them go, so each waiter has a
 * deadline of its own and is woken by it. The order that loses no event: add, look at the state,
 * sleep; an event between add and sleep makes sleep return at once. One lock; never held while the
 * service is called. Thread: any. */
#ifndef API_WAITERS_H
#define API_WAITERS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct api_request;

enum api_wait { API_WAIT_POLL, API_WAIT_STREAM, API_WAIT_COUNT };

struct api_waiter { /* part of a request; all zero = not waiting */
    struct api_waiter *next, *prev;
    struct api_request *req;
    enum api_wait kind;
    char job_id[64]; /* "" = all jobs */
    uint64_t until_ms;
    bool is_listed, is_asleep, has_news;
};

struct api_waiters {
    pthread_mutex_t lock;
    struct api_waiter *first;
    unsigned count[API_WAIT_COUNT], max[API_WAIT_COUNT];
    bool is_stopping;
};

void api_waiters_init(struct api_waiters *waiters, unsigned max_polls, unsigned max_streams);
void api_waiters_destroy(struct api_waiters *waiters); /* nobody waits any more */

/* job_id NULL = all jobs. API_ERR_UNAVAILABLE when the most of its kind wait already. */
int api_waiter_add(struct api_waiters *waiters, struct api_request *req, enum api_wait kind,
                   const char *job_id, struct shr_err *err) SHR_MUSTCHECK;
/* Suspends the request until an event, until_ms or the stop; false when one of them is there
 * already. Thread: http, from the handler or reader of this request. */
bool api_waiter_sleep(struct api_waiters *waiters, struct api_request *req, uint64_t until_ms);
void api_waiter_remove(struct api_waiters *waiters, struct api_request *req); /* may be absent */

void api_waiters_notify(struct api_waiters *waiters, const char *job_id, bool job_is_final);
void api_waiters_tick(struct api_waiters *waiters); /* wakes those whose time has come */
void api_waiters_stop(struct api_waiters *waiters); /* wakes all; nobody sleeps again */
bool api_waiters_stopping(struct api_waiters *waiters);
unsigned api_waiters_count(struct api_waiters *waiters, enum api_wait kind);

#endif
