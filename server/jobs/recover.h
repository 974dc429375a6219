/* Recovery: what becomes of jobs that ran when the last daemon ended without order. */
#ifndef SRV_JOBS_RECOVER_H
#define SRV_JOBS_RECOVER_H

#include "base/err.h"

struct srv;

/* Every running job goes back to the queue; one whose cancellation was asked for is cancelled; one
 * that was started max_attempts times is lost. Before the queue starts. Thread: loop. */
int job_recover(struct srv *srv, struct shr_err *err) SHR_MUSTCHECK;

#endif
