/* The HTTP daemon: start, tick, stop. See api.h.
 *
 * A few threads of libmicrohttpd, each with its own epoll, run the handlers; one that waits for the
 * disk holds up only the connections of its thread. Nothing here runs on libuv's pool. The library
 * gets our listening socket and gives it back when it quiesces. */
#include "api.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/mem.h"
#include "clock.h"
#include "http_exchange.h"

enum {
    THREADS = 4,
    CONNECTION_MEMORY = 64 << 10, /* headers, and half of it a piece of the body */
    CONNECTION_GROWTH = 16 << 10,
    STOP_POLL_MS = 10
};

/* ── Callbacks of the library and the service ───────────────────────────────────────────────── */

static void peer_name(struct MHD_Connection *connection, char ret[API_PEER_SIZE])
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info == NULL ? NULL : info->client_addr;
    snprintf(ret, API_PEER_SIZE, "a Unix socket");
    if (address != NULL && address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        inet_ntop(AF_INET, &v4->sin_addr, ret, API_PEER_SIZE);
    } else if (address != NULL && address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        inet_ntop(AF_INET6, &v6->sin6_addr, ret, API_PEER_SIZE);
    }
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct api *api = cls;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        api_slot_free(&api->reaper, *context);
        *context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info != NULL) {
        char peer[API_PEER_SIZE];
        peer_name(connection, peer);
        *context = api_slot_new(&api->reaper, info->connect_fd, peer);
    }
}

static void on_library_log(void *cls, const char *format, va_list args) SHR_PRINTF(2, 0);
static void on_library_log(void *cls, const char *format, va_list args)
{
    char line[256];
    (void)cls;
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\r\n")] = 0;
    srv_log_request("http", 'd', "%s", line);
}

static void on_event(void *user, const char *job_id, int64_t event_id, bool job_is_final)
{
    struct api *api = user;
    (void)event_id;
    api_waiters_notify(&api->waiters, job_id, job_is_final);
}

/* ── Start, tick, stop ──────────────────────────────────────────────────────────────────────── */

static int daemon_start(struct api *api, struct shr_err *err)
{
    const struct srv_http_settings *settings = api->settings;
    unsigned connections =
        settings->max_connections < THREADS ? THREADS : settings->max_connections;
    unsigned per_ip = api->listener.is_unix ? 0 : settings->max_connections_per_ip;
    api->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        api_exchange_step, api, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, api->listener.fd, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS,
        MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_ip,
        MHD_OPTION_CONNECTION_TIMEOUT, settings->idle_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_MEMORY_INCREMENT,
        (size_t)CONNECTION_GROWTH, MHD_OPTION_URI_LOG_CALLBACK, api_exchange_begin, api,
        MHD_OPTION_NOTIFY_COMPLETED, api_exchange_end, api, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, api, MHD_OPTION_END);
    return api->daemon != NULL ? 0 : shr_err_set(err, SHR_ERR_IO, "http: cannot start its threads");
}

/* Sets up what needs no lock; the locks of waiters and reaper exist from here on. */
static int api_prepare(struct api *api, int listen_fd, struct shr_err *err)
{
    const struct srv_http_settings *settings = api->settings;
    api_waiters_init(&api->waiters, settings->max_waiters, settings->max_streams);
    api_reaper_init(&api->reaper, settings->header_timeout_s, settings->idle_timeout_s,
                    settings->min_body_rate);
    api->listener.fd = -1;
    int rc = listen_fd >= 0 ? api_listener_take(listen_fd, &api->listener, err)
                            : api_listener_open(settings->listen, &api->listener, err);
    if (rc == 0) {
        rc = api_auth_init(&api->auth, settings->token_file, err);
    }
    if (rc == 0 && api->auth.n == 0 && !api->listener.is_unix && !api->listener.is_loopback) {
        rc = shr_err_set(err, SHR_ERR_DENIED,
                         "listen: %s can be reached from the network: set token_file, or listen on "
                         "loopback or a Unix socket",
                         listen_fd >= 0 ? "the given socket" : settings->listen);
    }
    return rc;
}

static void api_free(struct api *api)
{
    api_listener_close(&api->listener);
    api_auth_finish(&api->auth);
    api_waiters_destroy(&api->waiters);
    api_reaper_destroy(&api->reaper);
    shr_mem_free(api->answers);
    shr_mem_free(api);
}

int api_start(struct srv *srv, int listen_fd, struct api **ret, struct shr_err *err)
{
    struct api *api = shr_mem_new(1, sizeof *api);
    if (api == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "http: out of memory");
    }
    api->srv = srv;
    api->settings = srv_http_settings(srv);
    int rc = api_prepare(api, listen_fd, err);
    if (rc == 0) {
        api->answers = shr_mem_new(api_route_count + 1, sizeof *api->answers);
        srv_listen(srv, on_event, api); /* before the first request can wait for an event */
        rc = api->answers != NULL ? daemon_start(api, err)
                                  : shr_err_set(err, SHR_ERR_NOMEM, "http: out of memory");
    }
    if (rc != 0) {
        srv_listen(srv, NULL, NULL);
        api_free(api);
        return rc;
    }
    *ret = api;
    return 0;
}

unsigned api_port(const struct api *api)
{
    return api->listener.port;
}

const char *api_address(const struct api *api)
{
    return api->listener.address;
}

void api_tick(struct api *api)
{
    unsigned reaped = api_reaper_sweep(&api->reaper, api_now_ms());
    if (reaped > 0) {
        srv_log_request("http", 'i', "closed %u connections that were too slow", reaped);
    }
    api_waiters_tick(&api->waiters);
}

void api_stop(struct api *api, unsigned grace_s)
{
    if (api == NULL) {
        return;
    }
    atomic_store(&api->is_stopping, true);
    srv_listen(api->srv, NULL, NULL);
    MHD_quiesce_daemon(api->daemon);
    api_listener_close(&api->listener);

    uint64_t until = api_now_ms() + grace_s * UINT64_C(1000);
    api_waiters_stop(&api->waiters); /* the library may not stop with suspended connections */
    while (api_reaper_drain(&api->reaper) > 0 && api_now_ms() < until) {
        nanosleep(&(struct timespec){.tv_nsec = STOP_POLL_MS * 1000000L}, NULL);
    }
    MHD_stop_daemon(api->daemon);
    api_free(api);
}
