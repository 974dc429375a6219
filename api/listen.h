/* The listening socket: opened by us, or judged when systemd hands one over. Thread: loop. */
#ifndef API_LISTEN_H
#define API_LISTEN_H

#include <stdbool.h>

#include "base/err.h"

struct api_listener {
    int fd;        /* -1 = none */
    unsigned port; /* 0 for a Unix socket */
    bool is_unix, is_loopback;
    char address[128];     /* as it is: "127.0.0.1:41234", "unix:/run/shrinkd.sock" */
    char unlink_path[108]; /* of a Unix socket that we made; "" = none */
};

/* "127.0.0.1:8080" | "[::1]:8080" | "localhost:8080" | "unix:/run/shrinkd.sock"; port 0 = any. */
int api_listener_open(const char *where, struct api_listener *ret,
                      struct shr_err *err) SHR_MUSTCHECK;
/* take_fd: bound and listening; closed on failure. */
int api_listener_take(int take_fd, struct api_listener *ret, struct shr_err *err) SHR_MUSTCHECK;
void api_listener_close(struct api_listener *listener);

#endif
