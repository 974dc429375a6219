/* The loop of the daemon: signals, the tick of each second, the sweep, and the end in order.
 *
 * SIGTERM or SIGINT: no more requests, running jobs are asked to stop and go back to the queue, and
 * the loop ends when they have, or at the deadline; a second signal ends at once. SIGHUP: the
 * settings are read again. Thread: loop. */
#ifndef SRV_LOOP_H
#define SRV_LOOP_H

#include <stdbool.h>

#include "base/err.h"
#include "settings.h"

struct srv;

/* What main knows and the server does not: HTTP, and where settings come from. */
struct srv_hooks {
    void *user;
    /* Begins to serve, once jobs can run; the text after "STATUS=" for the service manager. */
    int (*start)(void *user, char *ret_status, size_t size, struct shr_err *err);
    void (*tick)(void *user);
    void (*stop)(void *user, unsigned grace_s);
    int (*reload)(void *user, struct srv_settings *ret, struct shr_err *err);
};

/* Runs until a signal asks for the end. *ret_is_clean: every job had stopped, so srv may be freed.
 */
int srv_loop_run(struct srv *srv, const struct srv_hooks *hooks, bool *ret_is_clean,
                 struct shr_err *err) SHR_MUSTCHECK;

#endif
