/* The service manager, see notify.h. */
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_FD = 3 }; /* SD_LISTEN_FDS_START */

void srv_notify(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const size_t n = path != NULL ? strlen(path) : 0;
    if (n == 0 || n >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(to.sun_path, path, n);
    if (path[0] == '@') {
        to.sun_path[0] = '\0'; /* an abstract socket */
    }

    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    const socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    /* a manager that does not listen is not our failure */
    (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to, size);
    close(fd);
}

static bool is_for_us(const char *variable)
{
    const char *pid = getenv(variable);
    return pid != NULL && strtol(pid, NULL, 10) == (long)getpid();
}

bool srv_notify_wants_watchdog(void)
{
    const char *usec = getenv("WATCHDOG_USEC");
    return usec != NULL && strtol(usec, NULL, 10) > 0 &&
           (getenv("WATCHDOG_PID") == NULL || is_for_us("WATCHDOG_PID"));
}

int srv_notify_socket(int *ret_fd, struct shr_err *err)
{
    const char *count = getenv("LISTEN_FDS");
    if (count == NULL || !is_for_us("LISTEN_PID")) {
        *ret_fd = -1;
        return SHR_OK;
    }
    if (strcmp(count, "1") != 0) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "LISTEN_FDS: %s sockets were handed over, one is expected", count);
    }
    int listens = 0;
    socklen_t size = sizeof listens;
    if (getsockopt(FIRST_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || !listens) {
        return shr_err_set(err, SHR_ERR_INVALID, "LISTEN_FDS: descriptor 3 does not listen");
    }
    if (fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC) != 0) {
        return shr_err_set(err, SHR_ERR_IO, "LISTEN_FDS: %s", strerror(errno));
    }
    *ret_fd = FIRST_FD;
    return SHR_OK;
}
