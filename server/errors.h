/* Errors that more than one file of the server tells. Below the service and the jobs, so that both
 * may use it. Thread: any. */
#ifndef SRV_ERRORS_H
#define SRV_ERRORS_H

#include "base/err.h"

int srv_nomem(struct shr_err *err); /* NOMEM, "out of memory" */

/* Names of models, datasets and jobs: [a-z0-9][a-z0-9._-]{0,127}. what: the field, for the message.
 */
int srv_name_check(const char *what, const char *name, struct shr_err *err) SHR_MUSTCHECK;

#endif
