/* Plans: what the steps of a job would weigh, told before it runs.
 *
 * A plan has a thread of its own, so that it waits neither for jobs nor makes HTTP wait; there are
 * at most max_plans. It belongs to its thread and to the request that asked for it, whoever lets go
 * last frees it; a request that goes away cancels. Threads are joined when their slot is needed
 * again and when the service ends. */
#include "plan.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "errors.h"
#include "jobs/events.h"
#include "jobs/worker.h"
#include "srv.h"
#include "submission.h"

struct srv_plan {
    struct srv *srv;
    char id[32]; /* as a listener hears it */
    struct srv_submission submission;
    struct job_task task; /* of no stored job */
    atomic_int readers;
    struct srv_plan_slot *slot;
    /* Under the lock of the plans: */
    bool is_over;
    int code;
    struct shr_err err;
    json_t *answer;
};

static void unref(struct srv_plan *plan)
{
    if (atomic_fetch_sub(&plan->readers, 1) > 1) {
        return;
    }
    json_decref(plan->answer);
    job_progress_finish(&plan->task.progress);
    srv_submission_finish(&plan->submission);
    shr_mem_free(plan);
}

static void run(void *user)
{
    struct srv_plan *plan = user;
    struct srv *srv = plan->srv;
    struct shr_err err = {0};
    json_t *answer = NULL;
    const int code = job_worker_plan(&plan->task, &answer, &err);

    uv_mutex_lock(&srv->plans.lock);
    plan->code = code;
    plan->err = err;
    plan->answer = answer;
    plan->is_over = true;
    plan->slot->plan = NULL;
    plan->slot->is_over = true; /* who joins holds the lock: it is not taken again here */
    uv_mutex_unlock(&srv->plans.lock);
    job_event_tell(srv, plan->id, 0, true);
    unref(plan);
}

/* Under the lock. A slot whose thread has ended, or that never had one; NULL = all are taken. */
static struct srv_plan_slot *free_slot(struct srv *srv)
{
    for (unsigned i = 0; i < srv->settings.max_plans; i++) {
        struct srv_plan_slot *slot = &srv->plans.slots[i];
        if (slot->is_used && slot->is_over) {
            uv_thread_join(&slot->thread);
            *slot = (struct srv_plan_slot){0};
        }
        if (!slot->is_used) {
            return slot;
        }
    }
    return NULL;
}

static int start(struct srv *srv, struct srv_plan *plan, struct shr_err *err)
{
    int code = SHR_OK;
    uv_mutex_lock(&srv->plans.lock);
    struct srv_plan_slot *slot = free_slot(srv);
    if (slot == NULL || srv->plans.is_stopping) {
        code = shr_err_set(err, SHR_ERR_BUSY, "%u plans are being made already (max_plans)",
                           srv->settings.max_plans);
    } else {
        snprintf(plan->id, sizeof plan->id, "plan_%" PRIu64, ++srv->plans.n);
        plan->slot = slot;
        *slot = (struct srv_plan_slot){.plan = plan, .is_used = true};
        if (uv_thread_create(&slot->thread, run, plan) != 0) {
            *slot = (struct srv_plan_slot){0};
            code = srv_nomem(err);
        }
    }
    uv_mutex_unlock(&srv->plans.lock);
    return code;
}

int srv_plan_new(struct srv *srv, const char *body, size_t n, struct srv_plan **ret,
                 struct shr_err *err)
{
    struct srv_plan *plan = shr_mem_new(1, sizeof *plan);
    if (plan == NULL) {
        return srv_nomem(err);
    }
    if (job_progress_init(&plan->task.progress) != 0) {
        shr_mem_free(plan);
        return srv_nomem(err);
    }
    plan->srv = srv;
    atomic_init(&plan->readers, 2); /* the caller and the thread */
    int code = srv_submission_make(srv, body, n, &plan->submission, err);
    if (code == SHR_OK) {
        plan->task.srv = srv;
        plan->task.max_memory = srv->settings.job_max_memory;
        plan->task.job.recipe = plan->submission.recipe_text;
        plan->task.job.model_id = plan->submission.model.id;
        code = start(srv, plan, err);
    }
    if (code != SHR_OK) {
        atomic_store(&plan->readers, 1); /* no thread was made */
        unref(plan);
        return code;
    }
    *ret = plan;
    return SHR_OK;
}

const char *srv_plan_id(const struct srv_plan *plan)
{
    return plan->id;
}

int srv_plan_get(struct srv_plan *plan, json_t **ret, bool *ret_is_over, struct shr_err *err)
{
    uv_mutex_lock(&plan->srv->plans.lock);
    const int code = plan->is_over ? plan->code : SHR_OK;
    *ret_is_over = plan->is_over;
    if (code != SHR_OK) {
        *err = plan->err;
    } else if (plan->is_over) {
        *ret = json_incref(plan->answer);
    }
    uv_mutex_unlock(&plan->srv->plans.lock);
    return code;
}

void srv_plan_free(struct srv_plan *plan)
{
    if (plan != NULL) {
        atomic_store(&plan->task.cancel, true);
        unref(plan);
    }
}

/* ── All of them ────────────────────────────────────────────────────────────────────────────── */

int srv_plans_init(struct srv_plans *plans, struct shr_err *err)
{
    return uv_mutex_init(&plans->lock) == 0 ? SHR_OK : srv_nomem(err);
}

void srv_plans_finish(struct srv_plans *plans)
{
    uv_mutex_lock(&plans->lock);
    plans->is_stopping = true;
    for (size_t i = 0; i < SRV_PLANS_MOST; i++) {
        if (plans->slots[i].plan != NULL) {
            atomic_store(&plans->slots[i].plan->task.cancel, true);
        }
    }
    uv_mutex_unlock(&plans->lock);
    for (size_t i = 0; i < SRV_PLANS_MOST; i++) { /* nobody starts one any more */
        if (plans->slots[i].is_used) {
            uv_thread_join(&plans->slots[i].thread);
        }
    }
    uv_mutex_destroy(&plans->lock);
}
