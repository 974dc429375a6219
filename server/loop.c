/* The loop, see loop.h. */
#include "loop.h"

#include <signal.h>
#include <stdio.h>
#include <uv.h>

#include "executors/local.h"
#include "log.h"
#include "notify.h"
#include "srv.h"
#include "units.h"

enum { TICK_MS = 1000, SWEEP_MS = 300 * 1000, STOP_POLL_MS = 20 };

enum { ON_TERM, ON_INT, ON_HUP, SIGNAL_COUNT };

struct loop {
    uv_loop_t uv;
    uv_signal_t signals[SIGNAL_COUNT];
    uv_timer_t tick, sweep, stop;
    struct srv *srv;
    const struct srv_hooks *hooks;
    bool wants_watchdog, stopping, is_clean;
    uint64_t stop_by_ms;
};

/* ── The end ────────────────────────────────────────────────────────────────────────────────── */

static void close_all(struct loop *loop)
{
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        uv_close((uv_handle_t *)&loop->signals[i], NULL);
    }
    uv_close((uv_handle_t *)&loop->tick, NULL);
    uv_close((uv_handle_t *)&loop->sweep, NULL);
    uv_close((uv_handle_t *)&loop->stop, NULL);
    job_queue_close(loop->srv);
}

static void on_stop_poll(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    const unsigned running = job_queue_running(loop->srv);
    if (running == 0) {
        loop->is_clean = true;
        close_all(loop);
    } else if (srv_clock_ms() >= loop->stop_by_ms) {
        srv_log(SRV_LOG_WARNING, NULL,
                "%u running jobs did not stop in time; the next start takes them up again",
                running);
        uv_stop(&loop->uv);
    }
}

static void begin_stop(struct loop *loop, int signum)
{
    if (loop->stopping) {
        srv_log(SRV_LOG_WARNING, NULL, "signal %d again: ending at once", signum);
        uv_stop(&loop->uv);
        return;
    }
    loop->stopping = true;
    srv_log(SRV_LOG_INFO, NULL, "signal %d: stopping, %u jobs are running", signum,
            job_queue_running(loop->srv));
    srv_notify("STOPPING=1\nSTATUS=stopping");
    loop->stop_by_ms = srv_clock_ms() + 1000ull * loop->srv->settings.stop_timeout_s;
    job_queue_stop(loop->srv);
    loop->hooks->stop(loop->hooks->user, loop->srv->settings.stop_grace_s);
    uv_timer_start(&loop->stop, on_stop_poll, 0, STOP_POLL_MS);
}

/* ── While it runs ──────────────────────────────────────────────────────────────────────────── */

static void reload(struct loop *loop)
{
    struct srv_settings fresh = {0};
    struct shr_buf ignored = {0};
    struct shr_err err = {0};
    if (loop->hooks->reload(loop->hooks->user, &fresh, &err) != SHR_OK) {
        srv_log(SRV_LOG_ERROR, NULL, "settings stay as they are: %s", err.msg);
        return;
    }
    struct srv_settings *settings = &loop->srv->settings;
    srv_settings_reload(settings, &fresh, &ignored);
    srv_log_setup(settings->log_level, settings->log_format);
    srv_log(SRV_LOG_INFO, NULL, "settings were read again%s%s",
            ignored.len > 0 ? "; a restart is needed for: " : "", shr_buf_str(&ignored));
    shr_buf_finish(&ignored);
    srv_settings_finish(&fresh);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct loop *loop = handle->data;
    if (signum == SIGHUP) {
        reload(loop);
    } else {
        begin_stop(loop, signum);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    job_queue_tick(loop->srv);
    if (!loop->stopping) {
        loop->hooks->tick(loop->hooks->user);
    }
    if (loop->wants_watchdog) {
        srv_notify("WATCHDOG=1");
    }
}

static void on_sweep(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    struct shr_err err = {0};
    uint64_t bytes = 0;
    if (store_sweep(loop->srv->store, (int64_t)loop->srv->settings.sweep_age_s, &bytes, &err) !=
        SHR_OK) {
        srv_log(SRV_LOG_ERROR, NULL, "sweep: %s", err.msg);
    } else if (bytes > 0) {
        srv_log(SRV_LOG_INFO, NULL, "sweep: %llu bytes that nothing referred to are gone",
                (unsigned long long)bytes);
    }
}

/* ── The start ──────────────────────────────────────────────────────────────────────────────── */

static int init_handles(struct loop *loop)
{
    static const int signums[SIGNAL_COUNT] = {SIGTERM, SIGINT, SIGHUP};
    int uv = uv_timer_init(&loop->uv, &loop->tick);
    uv = uv != 0 ? uv : uv_timer_init(&loop->uv, &loop->sweep);
    uv = uv != 0 ? uv : uv_timer_init(&loop->uv, &loop->stop);
    loop->tick.data = loop->sweep.data = loop->stop.data = loop;
    for (int i = 0; uv == 0 && i < SIGNAL_COUNT; i++) {
        uv = uv_signal_init(&loop->uv, &loop->signals[i]);
        loop->signals[i].data = loop;
        uv = uv != 0 ? uv : uv_signal_start(&loop->signals[i], on_signal, signums[i]);
    }
    uv = uv != 0 ? uv : uv_timer_start(&loop->tick, on_tick, TICK_MS, TICK_MS);
    return uv != 0 ? uv : uv_timer_start(&loop->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
}

static int start(struct loop *loop, struct shr_err *err)
{
    char status[128] = "";
    char text[192];
    signal(SIGPIPE, SIG_IGN); /* a client that goes away is no reason to die */
    signal(SIGXFSZ, SIG_IGN); /* nor is a limit on files: the write fails with EFBIG */
    int code = job_local_setup(loop->srv->settings.workers, err);
    if (code != SHR_OK) {
        return code;
    }
    const int uv = init_handles(loop);
    if (uv != 0) {
        return shr_err_set(err, SHR_ERR_IO, "event loop: %s", uv_strerror(uv));
    }
    code = job_queue_start(loop->srv, &loop->uv, err);
    if (code == SHR_OK) {
        code = loop->hooks->start(loop->hooks->user, status, sizeof status, err);
    }
    if (code == SHR_OK) {
        loop->wants_watchdog = srv_notify_wants_watchdog();
        snprintf(text, sizeof text, "READY=1\nSTATUS=%s", status);
        srv_notify(text);
    }
    return code;
}

int srv_loop_run(struct srv *srv, const struct srv_hooks *hooks, bool *ret_is_clean,
                 struct shr_err *err)
{
    struct loop loop = {.srv = srv, .hooks = hooks};
    const int uv = uv_loop_init(&loop.uv);
    if (uv != 0) {
        return shr_err_set(err, SHR_ERR_IO, "event loop: %s", uv_strerror(uv));
    }
    const int code = start(&loop, err);
    if (code != SHR_OK) {
        return code; /* the process ends: its handles go with it */
    }
    uv_run(&loop.uv, UV_RUN_DEFAULT);
    if (loop.is_clean) {
        uv_loop_close(&loop.uv);
    }
    *ret_is_clean = loop.is_clean;
    return SHR_OK;
}
