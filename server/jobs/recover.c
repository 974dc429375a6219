/* Recovery at start, see recover.h. */
#include "jobs/recover.h"

#include <inttypes.h>
#include <stdio.h>

#include "jobs/states.h"
#include "log.h"
#include "srv.h"

static int recover_job(struct srv *srv, const struct store_job *job, struct shr_err *err)
{
    struct job_move move = {.from = JOB_RUNNING, .to = JOB_QUEUED, .attempt = job->attempt};
    char error[256];
    if (job->cancel_requested) {
        move.to = JOB_CANCELLED;
    } else if (job->attempt >= (int64_t)srv->settings.max_attempts) {
        snprintf(error, sizeof error,
                 "{\"code\":\"lost\",\"title\":\"job lost\",\"detail\":\"the daemon ended without "
                 "order during each of %" PRId64 " attempts (max_attempts)\"}",
                 job->attempt);
        move.to = JOB_LOST;
        move.error = error;
    }
    const int code = job_state_move(srv, job->id, &move, err);
    if (code == SHR_OK) {
        srv_log(SRV_LOG_WARNING, job->id,
                "was running when the daemon ended, attempt %" PRId64 ": now %s", job->attempt,
                job_state_name(move.to));
    }
    return code;
}

int job_recover(struct srv *srv, struct shr_err *err)
{
    const struct store_job_query query = {.state = job_state_name(JOB_RUNNING), .limit = 100};
    size_t n = 0;
    do { /* each round empties the first page */
        struct store_jobs page = {0};
        int code = store_job_list(srv->store, &query, &page, err);
        n = page.n;
        for (size_t i = 0; code == SHR_OK && i < page.n; i++) {
            code = recover_job(srv, &page.v[i], err);
        }
        store_jobs_finish(&page);
        if (code != SHR_OK) {
            return code;
        }
    } while (n > 0);
    return SHR_OK;
}
