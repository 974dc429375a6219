/* The running service, as the files of server/ see it. Thread: constant after srv_new, but for the
 * parts that say otherwise. */
#ifndef SRV_SRV_H
#define SRV_SRV_H

#include <uv.h>

#include "jobs/queue.h"
#include "plan.h"
#include "service.h"
#include "settings.h"
#include "storage/store.h"

struct srv {
    struct srv_settings settings;
    struct store *store;
    uint64_t started_ms; /* monotonic */

    uv_mutex_t listen_lock; /* held while the listener runs */
    srv_event_fn listen_fn;
    void *listen_user;

    struct job_queue queue;
    struct srv_plans plans;
};

/* Opens the store and recovers jobs that were running. Takes the settings. */
int srv_new(struct srv_settings *take_settings, struct srv **ret,
            struct shr_err *err) SHR_MUSTCHECK;
void srv_free(struct srv *srv); /* no job may run and no request be open */

#endif
