/* Plans in progress, see plan.c; what clients can do with one is in service.h. */
#ifndef SRV_PLAN_H
#define SRV_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

enum { SRV_PLANS_MOST = 16 };

struct srv_plan;

struct srv_plan_slot { /* all zero = free */
    uv_thread_t thread;
    struct srv_plan *plan; /* while it is made */
    bool is_used, is_over; /* the thread is there; it has nothing left to do */
};

struct srv_plans {
    uv_mutex_t lock;
    struct srv_plan_slot slots[SRV_PLANS_MOST];
    uint64_t n; /* that were begun */
    bool is_stopping;
};

int srv_plans_init(struct srv_plans *plans, struct shr_err *err) SHR_MUSTCHECK;
/* Cancels and waits for those that are being made. No request may be open. */
void srv_plans_finish(struct srv_plans *plans);

#endif
