/* The listening socket; see listen.h. */
#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "query.h"

enum { BACKLOG = 511 };

/* Removes a socket that nobody listens on any more; another process's stays. */
static int stale_socket_remove(const struct sockaddr_un *address, struct shr_err *err)
{
    struct stat info;
    if (lstat(address->sun_path, &info) != 0) {
        return 0; /* bind tells what else is wrong */
    }
    if (!S_ISSOCK(info.st_mode)) {
        return shr_err_set(err, SHR_ERR_CONFLICT, "listen: %s is there and not a socket",
                           address->sun_path);
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_alive =
        probe >= 0 && connect(probe, (const struct sockaddr *)address, sizeof *address) == 0;
    if (probe >= 0) {
        close(probe);
    }
    if (is_alive) {
        return shr_err_set(err, SHR_ERR_CONFLICT, "listen: another process serves %s",
                           address->sun_path);
    }
    unlink(address->sun_path);
    return 0;
}

static int unix_open(const char *path, struct api_listener *listener, struct shr_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] != '/' || strlen(path) >= sizeof address.sun_path) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "listen: unix:%s is not an absolute path of less "
                           "than %zu bytes",
                           path, sizeof address.sun_path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int rc = stale_socket_remove(&address, err);
    if (rc != 0) {
        return rc;
    }
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0 ||
        bind(listener->fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        return shr_err_set(err, SHR_ERR_IO, "listen: unix:%s: %s", path, strerror(errno));
    }
    memcpy(listener->unlink_path, address.sun_path, sizeof listener->unlink_path);
    if (chmod(path, 0660) != 0) {
        return shr_err_set(err, SHR_ERR_IO, "listen: unix:%s: %s", path, strerror(errno));
    }
    return 0;
}

static int tcp_open(const char *where, struct api_listener *listener, struct shr_err *err)
{
    const char *colon = strrchr(where, ':');
    char host[64] = "";
    size_t host_n = colon == NULL ? 0 : (size_t)(colon - where);
    if (host_n == 0 || host_n >= sizeof host || colon[1] == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "listen: '%s' is not address:port or unix:/path",
                           where);
    }
    int64_t port;
    int rc = api_int_parse(colon + 1, "listen: port", 0, 65535, &port, err);
    if (rc != 0) {
        return rc;
    }
    bool is_bracketed = where[0] == '[' && where[host_n - 1] == ']';
    memcpy(host, where + is_bracketed, host_n - 2U * is_bracketed);
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fault =
        getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, colon + 1, &hints, &found);
    if (fault != 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "listen: '%s': %s", where, gai_strerror(fault));
    }
    int one = 1;
    listener->fd =
        socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, found->ai_protocol);
    if (listener->fd < 0 ||
        setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(listener->fd, found->ai_addr, found->ai_addrlen) != 0) {
        rc = shr_err_set(err, SHR_ERR_IO, "listen: %s: %s", where, strerror(errno));
    }
    freeaddrinfo(found);
    return rc;
}

/* Fills in what the socket's own address tells. */
static int listener_look(struct api_listener *listener, struct shr_err *err)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    } address = {0};
    socklen_t n = sizeof address;
    if (getsockname(listener->fd, &address.any, &n) != 0) {
        return shr_err_set(err, SHR_ERR_IO, "listen: %s", strerror(errno));
    }
    char *text = listener->address, host[INET6_ADDRSTRLEN];
    if (address.any.sa_family == AF_UNIX) {
        listener->is_unix = true;
        snprintf(text, sizeof listener->address, "unix:%.107s", address.local.sun_path);
    } else if (address.any.sa_family == AF_INET) {
        listener->port = ntohs(address.v4.sin_port);
        listener->is_loopback = ntohl(address.v4.sin_addr.s_addr) >> 24 == 127;
        inet_ntop(AF_INET, &address.v4.sin_addr, host, sizeof host);
        snprintf(text, sizeof listener->address, "%s:%u", host, listener->port);
    } else if (address.any.sa_family == AF_INET6) {
        listener->port = ntohs(address.v6.sin6_port);
        listener->is_loopback = IN6_IS_ADDR_LOOPBACK(&address.v6.sin6_addr);
        inet_ntop(AF_INET6, &address.v6.sin6_addr, host, sizeof host);
        snprintf(text, sizeof listener->address, "[%s]:%u", host, listener->port);
    } else {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "listen: neither an IP nor a Unix socket");
    }
    return 0;
}

int api_listener_open(const char *where, struct api_listener *ret, struct shr_err *err)
{
    struct api_listener listener = {.fd = -1};
    int rc = strncmp(where, "unix:", 5) == 0 ? unix_open(where + 5, &listener, err)
                                             : tcp_open(where, &listener, err);
    if (rc == 0 && listen(listener.fd, BACKLOG) != 0) {
        rc = shr_err_set(err, SHR_ERR_IO, "listen: %s: %s", where, strerror(errno));
    }
    if (rc == 0) {
        rc = listener_look(&listener, err);
    }
    if (rc != 0) {
        api_listener_close(&listener);
        return rc;
    }
    *ret = listener;
    return 0;
}

int api_listener_take(int take_fd, struct api_listener *ret, struct shr_err *err)
{
    struct api_listener listener = {.fd = take_fd};
    int flags = fcntl(take_fd, F_GETFL), rc = 0;
    if (flags < 0 || fcntl(take_fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        rc = shr_err_set(err, SHR_ERR_IO, "listen: socket %d: %s", take_fd, strerror(errno));
    } else {
        rc = listener_look(&listener, err);
    }
    if (rc != 0) {
        api_listener_close(&listener);
        return rc;
    }
    *ret = listener;
    return 0;
}

void api_listener_close(struct api_listener *listener)
{
    if (listener->fd >= 0) {
        close(listener->fd);
        listener->fd = -1;
    }
    if (listener->unlink_path[0] != 0) {
        unlink(listener->unlink_path);
        listener->unlink_path[0] = 0;
    }
}
