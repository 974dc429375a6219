/* Events of jobs: stored first, then told to the one listener, and rendered for SSE. Thread: any.
 */
#ifndef SRV_JOBS_EVENTS_H
#define SRV_JOBS_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct srv;

/* Stores an event (kind "progress", "step", "log"; data is a JSON object) and tells of it. */
int job_event_add(struct srv *srv, const char *job_id, const char *kind, const char *data,
                  struct shr_err *err) SHR_MUSTCHECK;

/* Tells the listener of an event that is committed; event_id 0 = one whose number is not known. */
void job_event_tell(struct srv *srv, const char *job_id, int64_t event_id, bool job_is_final);

#endif
