/* A service in memory for the tests of api/: one model store, jobs whose state the test sets.
 * Thread: any. */
#ifndef FAKE_SERVICE_H
#define FAKE_SERVICE_H

#include "server/service.h"

struct srv *fake_new(void); /* settings are free to be changed until api_start */
void fake_free(struct srv *srv);
struct srv_http_settings *fake_settings(struct srv *srv);

void fake_job_end(struct srv *srv, const char *id); /* "succeeded", with its event */
void fake_event_add(struct srv *srv, const char *job_id, const char *data);
unsigned fake_uploads_open(struct srv *srv);       /* begun and not freed */
void fake_submit_fails(struct srv *srv, int code); /* of the next submits; 0 = none */

#endif
