/* The HTTP side of shrinkd: what server/main.c starts and stops. Everything else in api/ is
 * private. Thread: loop. */
#ifndef API_API_H
#define API_API_H

#include "base/err.h"

struct api;
struct srv;

/* listen_fd: a bound, listening socket handed over by systemd, or -1 to open settings.listen. */
int api_start(struct srv *srv, int listen_fd, struct api **ret, struct shr_err *err) SHR_MUSTCHECK;
unsigned api_port(
    const struct api *api); /* the real port when listen asked for port 0; 0 for a Unix socket */
const char *api_address(const struct api *api); /* "127.0.0.1:41234"; valid until api_stop */
void api_tick(
    struct api *api); /* each second: reaper of slow clients, deadlines of waiters, pings */
/* Stops accepting, answers waiters, lets requests end for grace_s, then closes. Frees api. */
void api_stop(struct api *api, unsigned grace_s);

#endif
