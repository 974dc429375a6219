/* What the process tells the world: log lines, and datagrams to the service manager. */
#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fixture.h"
#include "log.h"
#include "notify.h"

/* What was written to standard error since begin. */
struct capture {
    int saved, pipe[2];
};

static void capture_begin(struct capture *c)
{
    assert_int_equal(pipe(c->pipe), 0);
    c->saved = dup(STDERR_FILENO);
    assert_true(dup2(c->pipe[1], STDERR_FILENO) >= 0);
}

static void capture_end(struct capture *c, char *text, size_t size)
{
    assert_true(dup2(c->saved, STDERR_FILENO) >= 0);
    close(c->saved);
    close(c->pipe[1]);
    const ssize_t n = read(c->pipe[0], text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    close(c->pipe[0]);
}

static void a_text_line_has_time_level_id_and_no_control_characters(void **state)
{
    (void)state;
    struct capture c;
    char text[512];
    capture_begin(&c);
    srv_log_setup(SRV_LOG_INFO, SRV_LOG_TEXT);
    srv_log(SRV_LOG_WARNING, "job_1", "name \"%s\"", "a\nb\x1b");
    srv_log(SRV_LOG_DEBUG, NULL, "not shown");
    srv_log(SRV_LOG_INFO, NULL, "plain");
    capture_end(&c, text, sizeof text);
    char *second = strchr(text, '\n');
    *second++ = '\0';
    assert_string_equal(text + 24, " warning [job_1] name \"a\\u000ab\\u001b\"");
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[23], 'Z');
    assert_string_equal(second + 24, " info    plain\n");
}

static void a_json_line_is_json_whatever_the_message_holds(void **state)
{
    (void)state;
    struct capture c;
    char text[4096];
    char big[3000];
    memset(big, '"', sizeof big);
    big[sizeof big - 1] = '\0';
    capture_begin(&c);
    srv_log_setup(SRV_LOG_INFO, SRV_LOG_JSON);
    srv_log(SRV_LOG_ERROR, "req_1", "say \"%s\"\\", "\t");
    srv_log(SRV_LOG_ERROR, NULL, "%s", big);
    capture_end(&c, text, sizeof text);
    srv_log_setup(SRV_LOG_ERROR, SRV_LOG_TEXT);

    char *second = strchr(text, '\n');
    *second++ = '\0';
    json_t *line = json_loads(text, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
    assert_string_equal(json_string_value(json_object_get(line, "id")), "req_1");
    assert_string_equal(json_string_value(json_object_get(line, "message")), "say \"\t\"\\");
    json_decref(line);
    line = json_loads(second, 0, NULL);
    assert_non_null(line);
    assert_null(json_object_get(line, "id"));
    json_decref(line);
}

static void the_manager_gets_one_datagram(const struct sockaddr_un *address, socklen_t size,
                                          const char *name)
{
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char text[64] = "";
    assert_int_equal(bind(fd, (const struct sockaddr *)address, size), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    srv_notify("READY=1\nSTATUS=x");
    assert_int_equal(recv(fd, text, sizeof text - 1, MSG_DONTWAIT), 16);
    assert_string_equal(text, "READY=1\nSTATUS=x");
    unsetenv("NOTIFY_SOCKET");
    close(fd);
}

static void readiness_reaches_a_path_and_an_abstract_socket(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    snprintf(name, sizeof name, "/tmp/shrinkd-notify-%ld", (long)getpid());
    snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
    const size_t head = offsetof(struct sockaddr_un, sun_path);
    the_manager_gets_one_datagram(&address, (socklen_t)(head + strlen(name)), name);
    unlink(name);

    name[0] = '@';
    memcpy(address.sun_path, name, strlen(name));
    address.sun_path[0] = '\0';
    the_manager_gets_one_datagram(&address, (socklen_t)(head + strlen(name)), name);
    srv_notify("READY=1"); /* without a manager nothing happens */
}

static void a_handed_over_socket_must_listen_and_be_meant_for_us(void **state)
{
    (void)state;
    int fd = 0;
    char pid[32];
    unsetenv("LISTEN_FDS");
    assert_ok(srv_notify_socket(&fd, err));
    assert_int_equal(fd, -1);

    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_PID", "1", 1); /* another process */
    assert_ok(srv_notify_socket(&fd, err));
    assert_int_equal(fd, -1);

    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    setenv("LISTEN_PID", pid, 1);
    const int saved = fcntl(3, F_DUPFD_CLOEXEC, 10);
    const int plain = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(dup2(plain, 3) == 3);
    assert_err(srv_notify_socket(&fd, err), SHR_ERR_INVALID,
               "LISTEN_FDS: descriptor 3 does not listen");

    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_true(dup2(listener, 3) == 3);
    assert_ok(srv_notify_socket(&fd, err));
    assert_int_equal(fd, 3);
    assert_int_equal(fcntl(3, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);

    setenv("LISTEN_FDS", "2", 1);
    assert_err(srv_notify_socket(&fd, err), SHR_ERR_INVALID,
               "LISTEN_FDS: 2 sockets were handed over, one is expected");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    close(3);
    close(plain);
    close(listener);
    if (saved >= 0) {
        dup2(saved, 3);
        close(saved);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_line_has_time_level_id_and_no_control_characters),
        cmocka_unit_test(a_json_line_is_json_whatever_the_message_holds),
        cmocka_unit_test(readiness_reaches_a_path_and_an_abstract_socket),
        cmocka_unit_test(a_handed_over_socket_must_listen_and_be_meant_for_us),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
