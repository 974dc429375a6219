/* The service manager: readiness and watchdog datagrams (the protocol of sd_notify, which is one
 * datagram to $NOTIFY_SOCKET), and listening sockets it hands over. Does nothing without a service
 * manager. Thread: loop. */
#ifndef SRV_NOTIFY_H
#define SRV_NOTIFY_H

#include <stdbool.h>

#include "base/err.h"

/* "READY=1\nSTATUS=…", "STOPPING=1", "WATCHDOG=1". */
void srv_notify(const char *text);

bool srv_notify_wants_watchdog(void);

/* The socket passed by LISTEN_FDS, or -1 when there is none. INVALID when there is more than one or
 * it does not listen. */
int srv_notify_socket(int *ret_fd, struct shr_err *err) SHR_MUSTCHECK;

#endif
