/* The states of a job and the moves between them, see states.h. */
#include "jobs/states.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "jobs/events.h"
#include "log.h"
#include "srv.h"

#define TO(state) (1u << JOB_##state)

static const struct {
    const char *name;
    unsigned may_become;
    bool is_final;
} states[JOB_STATE_COUNT] = {
    [JOB_QUEUED] = {"queued", TO(RUNNING) | TO(CANCELLED), false},
    [JOB_RUNNING] = {"running", TO(QUEUED) | TO(SUCCEEDED) | TO(FAILED) | TO(CANCELLED) | TO(LOST),
                     false},
    [JOB_SUCCEEDED] = {"succeeded", 0, true},
    [JOB_FAILED] = {"failed", TO(QUEUED), true},
    [JOB_CANCELLED] = {"cancelled", TO(QUEUED), true},
    [JOB_LOST] = {"lost", TO(QUEUED), true},
};

const char *job_state_name(enum job_state state)
{
    return states[state].name;
}

bool job_state_find(const char *name, enum job_state *ret)
{
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        if (strcmp(states[i].name, name) == 0) {
            *ret = (enum job_state)i;
            return true;
        }
    }
    return false;
}

bool job_state_is_final(enum job_state state)
{
    return states[state].is_final;
}

bool job_state_may_move(enum job_state from, enum job_state to)
{
    return (states[from].may_become & 1u << to) != 0;
}

int job_state_move(struct srv *srv, const char *job_id, const struct job_move *move,
                   struct shr_err *err)
{
    const char *from = job_state_name(move->from);
    const char *to = job_state_name(move->to);
    if (!job_state_may_move(move->from, move->to)) {
        return shr_err_set(err, SHR_ERR_INTERNAL, "a job cannot move from %s to %s", from, to);
    }

    char data[160];
    const bool has_verdict = move->verdict != NULL && move->verdict[0] != '\0';
    snprintf(data, sizeof data, "{\"state\":\"%s\",\"from\":\"%s\"%s%s%s}", to, from,
             has_verdict ? ",\"verdict\":\"" : "", has_verdict ? move->verdict : "",
             has_verdict ? "\"" : "");
    const bool is_final = job_state_is_final(move->to);
    int64_t event_id = 0;
    const int code = store_job_move(srv->store, job_id,
                                    &(struct store_move){
                                        .from = from,
                                        .to = to,
                                        .attempt = move->attempt,
                                        .error = move->error,
                                        .verdict = move->verdict,
                                        .is_final = is_final,
                                        .max_queued = srv->settings.queue_max,
                                        .event_data = data,
                                    },
                                    &event_id, err);
    if (code != SHR_OK) {
        return code;
    }
    job_event_tell(srv, job_id, event_id, is_final);
    if (move->to == JOB_QUEUED) {
        job_queue_wake(srv);
    }
    return SHR_OK;
}

int job_state_begin(struct srv *srv, const struct store_job *job, struct store_job *ret,
                    struct shr_err *err)
{
    struct store_job queued = *job;
    queued.state = job_state_name(JOB_QUEUED);
    const int code = store_job_add(srv->store, &queued, srv->settings.queue_max,
                                   "{\"state\":\"queued\"}", ret, err);
    if (code != SHR_OK) {
        return code;
    }
    job_event_tell(srv, ret->id, 0, false);
    job_queue_wake(srv);
    return SHR_OK;
}

int job_state_claim(struct srv *srv, struct store_job *ret, struct shr_err *err)
{
    struct store_job job = {0};
    const int code = store_job_claim(srv->store, job_state_name(JOB_QUEUED),
                                     job_state_name(JOB_RUNNING), &job, err);
    if (code != SHR_OK) {
        return code;
    }
    char data[96];
    snprintf(data, sizeof data,
             "{\"state\":\"running\",\"from\":\"queued\",\"attempt\":%" PRId64 "}", job.attempt);
    struct shr_err ignored = {0};
    if (job_event_add(srv, job.id, "state", data, &ignored) != SHR_OK) {
        /* the claim is committed: the job runs, and who waits for it sees its next event */
        srv_log(SRV_LOG_WARNING, job.id, "event of its start: %s", ignored.msg);
    }
    *ret = job;
    return SHR_OK;
}
