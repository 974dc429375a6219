/* shrinkd: the composition root, the one file that sees every layer.
 *
 * Settings, store and service, HTTP, loop; then all of it backwards. Exit codes: 0 stopped in
 * order, 1 could not start or run, 2 bad settings or usage. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/api.h"
#include "engine/shrink.h"
#include "log.h"
#include "loop.h"
#include "notify.h"
#include "settings.h"
#include "srv.h"
#include "units.h"

enum { EXIT_ORDER = 0, EXIT_RUN = 1, EXIT_USAGE = 2 };

/* From this size on memory comes from the system and goes back to it when it is freed. Left alone,
 * glibc raises the limit to 32 MiB, and what a dataset took stays with the idle daemon. */
enum { MMAP_BYTES = 1 << 20 };

struct program {
    int argc;
    char **argv;
    struct srv *srv;
    struct api *api;
    int listen_fd; /* handed over by the service manager, or -1 */
    uint64_t started_ms;
};

static int on_start(void *user, char *ret_status, size_t size, struct shr_err *err)
{
    struct program *program = user;
    const int code = api_start(program->srv, program->listen_fd, &program->api, err);
    if (code != SHR_OK) {
        return code;
    }
    snprintf(ret_status, size, "listening on %s", api_address(program->api));
    srv_log(SRV_LOG_INFO, NULL, "shrinkd %s is ready after %llu ms: %s, state in %s", SHR_VERSION,
            (unsigned long long)(srv_clock_ms() - program->started_ms), ret_status,
            program->srv->settings.state_dir);
    return SHR_OK;
}

static void on_tick(void *user)
{
    struct program *program = user;
    api_tick(program->api);
}

static void on_stop(void *user, unsigned grace_s)
{
    struct program *program = user;
    api_stop(program->api, grace_s);
    program->api = NULL;
}

static int on_reload(void *user, struct srv_settings *ret, struct shr_err *err)
{
    struct program *program = user;
    enum srv_command command;
    return srv_settings_load(program->argc, program->argv, environ, ret, &command, err);
}

static int serve(struct program *program, struct srv_settings *take_settings)
{
    const struct srv_hooks hooks = {program, on_start, on_tick, on_stop, on_reload};
    struct shr_err err = {0};
    bool is_clean = false;
    srv_log_setup(take_settings->log_level, take_settings->log_format);

    int code = srv_notify_socket(&program->listen_fd, &err);
    if (code != SHR_OK) {
        srv_settings_finish(take_settings);
    } else {
        code = srv_new(take_settings, &program->srv, &err);
    }
    if (code == SHR_OK) {
        code = srv_loop_run(program->srv, &hooks, &is_clean, &err);
    }
    if (code != SHR_OK) {
        srv_log(SRV_LOG_ERROR, NULL, "%s", err.msg);
        return EXIT_RUN;
    }
    if (!is_clean) {
        _exit(EXIT_ORDER); /* workers still run: nothing of theirs may be freed */
    }
    srv_free(program->srv);
    srv_log(SRV_LOG_INFO, NULL, "stopped");
    return EXIT_ORDER;
}

static int print_and_finish(struct srv_settings *settings, enum srv_command command)
{
    struct shr_buf text = {0};
    if (command == SRV_SHOW_HELP) {
        srv_settings_help(&text);
    } else if (command == SRV_SHOW_VERSION) {
        shr_buf_printf(&text, "shrinkd %s\n", SHR_VERSION);
    } else {
        srv_settings_print(settings, &text);
    }
    fputs(shr_buf_str(&text), stdout);
    const bool failed = shr_buf_failed(&text) || fflush(stdout) != 0;
    shr_buf_finish(&text);
    srv_settings_finish(settings);
    return failed ? EXIT_RUN : EXIT_ORDER;
}

int main(int argc, char **argv)
{
    mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    struct program program = {
        .argc = argc, .argv = argv, .listen_fd = -1, .started_ms = srv_clock_ms()};
    struct srv_settings settings = {0};
    enum srv_command command = SRV_RUN;
    struct shr_err err = {0};
    if (srv_settings_load(argc, argv, environ, &settings, &command, &err) != SHR_OK) {
        fprintf(stderr, "shrinkd: %s\nshrinkd: --help lists the settings\n", err.msg);
        return EXIT_USAGE;
    }
    if (command != SRV_RUN) {
        return print_and_finish(&settings, command);
    }
    return serve(&program, &settings);
}
