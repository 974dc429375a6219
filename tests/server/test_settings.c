/* Settings: where they come from, which source wins, and what is wrong with them. */
#include <unistd.h>

#include "fixture.h"
#include "log.h"
#include "settings.h"
#include "units.h"

enum { MAX_ARGS = 8 };

struct input {
    const char *file;           /* its text, or NULL for none */
    const char *env[MAX_ARGS];  /* NAME=value */
    const char *args[MAX_ARGS]; /* behind the program's name */
};

/* Loads settings from the input; %s in args stands for the path of the file. */
static int load(const struct input *in, struct srv_settings *ret, enum srv_command *command,
                struct shr_err *err)
{
    static char texts[2 * MAX_ARGS + 4][160];
    char path[] = "/tmp/shrinkd-test-XXXXXX";
    char *env[MAX_ARGS + 1] = {NULL};
    char *argv[MAX_ARGS + 4] = {NULL};
    int argc = 0;
    size_t used = 0;

    if (in->file != NULL) {
        const int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, in->file, strlen(in->file)), strlen(in->file));
        close(fd);
    }
    argv[argc++] = strcpy(texts[used++], "shrinkd");
    if (in->file != NULL) {
        argv[argc++] = strcpy(texts[used++], "--config");
        argv[argc++] = strcpy(texts[used++], path);
    }
    for (size_t i = 0; i < MAX_ARGS && in->args[i] != NULL; i++) {
        argv[argc++] = strcpy(texts[used++], in->args[i]);
    }
    for (size_t i = 0; i < MAX_ARGS && in->env[i] != NULL; i++) {
        env[i] = strcpy(texts[used++], in->env[i]);
    }
    const int code = srv_settings_load(argc, argv, env, ret, command, err);
    if (in->file != NULL) {
        unlink(path);
        char *at = strstr(err->msg, path); /* the name differs each time */
        if (at != NULL) {
            memcpy(at, "FILE", 4);
            memmove(at + 4, at + strlen(path), strlen(at + strlen(path)) + 1);
        }
    }
    return code;
}

static void defaults_hold_without_any_source(void **state)
{
    (void)state;
    struct srv_settings s = {0};
    enum srv_command command = SRV_CHECK_CONFIG;
    assert_ok(load(&(struct input){0}, &s, &command, err));
    assert_int_equal(command, SRV_RUN);
    assert_string_equal(s.http.listen, "127.0.0.1:8080");
    assert_string_equal(s.state_dir, "/var/lib/shrinkd");
    assert_int_equal(s.http.max_upload_bytes, 2147483647);
    assert_int_equal(s.http.max_json_bytes, 1 << 20);
    assert_int_equal(s.workers, 1);
    assert_int_equal(s.max_attempts, 3);
    assert_int_equal(s.sweep_age_s, 3600);
    assert_int_equal(s.log_level, SRV_LOG_INFO);
    srv_settings_finish(&s);
}

static void a_later_source_wins(void **state)
{
    (void)state;
    const struct input in = {
        .file = "# all four from the file\n"
                "workers = 2\nqueue_max=3\n  max_attempts = 4  \nlisten = file:1\n\n",
        .env = {"SHRINKD_QUEUE_MAX=5", "SHRINKD_MAX_ATTEMPTS=6", "SHRINKD_LISTEN=env:1",
                "OTHER_WORKERS=99", "SHRINKD_SERVER=http://elsewhere", NULL},
        .args = {"--max-attempts", "7", "--listen=flag:1", NULL},
    };
    struct srv_settings s = {0};
    enum srv_command command;
    assert_ok(load(&in, &s, &command, err));
    assert_int_equal(s.workers, 2);
    assert_int_equal(s.queue_max, 5);
    assert_int_equal(s.max_attempts, 7);
    assert_string_equal(s.http.listen, "flag:1");
    srv_settings_finish(&s);
}

static void the_service_manager_names_the_state_folder(void **state)
{
    (void)state;
    struct srv_settings s = {0};
    enum srv_command command;
    struct input in = {.env = {"STATE_DIRECTORY=/var/lib/one:/var/lib/two", NULL}};
    assert_ok(load(&in, &s, &command, err));
    assert_string_equal(s.state_dir, "/var/lib/one");
    srv_settings_finish(&s);

    in.args[0] = "--state_dir=/elsewhere";
    assert_ok(load(&in, &s, &command, err));
    assert_string_equal(s.state_dir, "/elsewhere");
    srv_settings_finish(&s);
}

static void units_and_choices_are_read(void **state)
{
    (void)state;
    const struct input in = {.args = {"--job_max_memory=1.5GiB", "--max_json_bytes", "2MB",
                                      "--log_level", "debug", "--log_format=json",
                                      "--checkpoint_s=7", NULL}};
    struct srv_settings s = {0};
    enum srv_command command;
    assert_ok(load(&in, &s, &command, err));
    assert_int_equal(s.job_max_memory, 1610612736);
    assert_int_equal(s.http.max_json_bytes, 2000000);
    assert_int_equal(s.log_level, SRV_LOG_DEBUG);
    assert_int_equal(s.log_format, SRV_LOG_JSON);
    assert_int_equal(s.checkpoint_s, 7);
    srv_settings_finish(&s);
}

static void errors_say_where_and_what(void **state)
{
    (void)state;
    static const struct {
        struct input in;
        const char *message;
    } cases[] = {
        {{.file = "workers = 2\nwrokers = 2\n"}, "FILE:2: unknown setting \"wrokers\""},
        {{.file = "\nworkers 2\n"}, "FILE:2: \"workers 2\" is not \"name = value\""},
        {{.file = "workers = two\n"}, "FILE:1: workers: \"two\" is not a whole number"},
        {{.file = "workers = 0\n"}, "FILE:1: workers: 0 is not in [1, 64]"},
        {{.file = "workers = -1\n"}, "FILE:1: workers: \"-1\" is not a whole number"},
        {{.file = "workers =\n"}, "FILE:1: workers: \"\" is not a whole number"},
        {{.file = "max_json_bytes = 1 parsec\n"},
         "FILE:1: max_json_bytes: \"1 parsec\" is not a size such as 64MiB"},
        {{.file = "log_level = loud\n"},
         "FILE:1: log_level: \"loud\" is not one of: error, warning, info or debug"},
        {{.env = {"SHRINKD_WORKES=2"}}, "environment: unknown setting \"SHRINKD_WORKES\""},
        {{.env = {"SHRINKD_WORKERS=99999999999999999999"}},
         "environment: workers: \"99999999999999999999\" is not a whole number"},
        {{.args = {"--wrokers=2"}}, "unknown flag \"--wrokers\""},
        {{.args = {"--work"}}, "unknown flag \"--work\""},
        {{.args = {"--workers"}}, "--workers: needs a value"},
        {{.args = {"--workers=65"}}, "--workers: 65 is not in [1, 64]"},
        {{.args = {"workers"}}, "unexpected argument \"workers\""},
        {{.args = {"--config", "/nowhere/at/all"}}, "/nowhere/at/all: No such file or directory"},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct srv_settings s = {0};
        enum srv_command command;
        struct shr_err err = {0};
        assert_int_not_equal(load(&cases[i].in, &s, &command, &err), SHR_OK);
        assert_string_equal(err.msg, cases[i].message);
    }
}

static void flags_ask_for_commands(void **state)
{
    (void)state;
    static const struct {
        const char *flag;
        enum srv_command command;
    } cases[] = {{"--help", SRV_SHOW_HELP},
                 {"-h", SRV_SHOW_HELP},
                 {"--version", SRV_SHOW_VERSION},
                 {"--check-config", SRV_CHECK_CONFIG}};
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct srv_settings s = {0};
        enum srv_command command = SRV_RUN;
        assert_ok(load(&(struct input){.args = {cases[i].flag}}, &s, &command, err));
        assert_int_equal(command, cases[i].command);
        srv_settings_finish(&s);
    }
}

static void what_is_printed_can_be_read_again(void **state)
{
    (void)state;
    const struct input in = {.args = {"--workers=3", "--job_max_memory=7MiB", "--log_format=json",
                                      "--listen=unix:/run/x.sock", NULL}};
    struct srv_settings a = {0};
    struct srv_settings b = {0};
    struct shr_buf text = {0};
    struct shr_buf again = {0};
    enum srv_command command;
    assert_ok(load(&in, &a, &command, err));
    srv_settings_print(&a, &text);
    assert_ok(load(&(struct input){.file = shr_buf_str(&text)}, &b, &command, err));
    srv_settings_print(&b, &again);
    assert_string_equal(shr_buf_str(&text), shr_buf_str(&again));
    assert_non_null(strstr(shr_buf_str(&text), "job_max_memory = 7340032\n"));
    shr_buf_finish(&text);
    shr_buf_finish(&again);
    srv_settings_finish(&a);
    srv_settings_finish(&b);
}

static void a_reload_takes_what_may_change_and_names_the_rest(void **state)
{
    (void)state;
    struct srv_settings s = {0};
    struct srv_settings fresh = {0};
    struct shr_buf ignored = {0};
    enum srv_command command;
    assert_ok(load(&(struct input){0}, &s, &command, err));
    assert_ok(load(&(struct input){.args = {"--log_level=error", "--workers=2", "--sweep_age_s=60",
                                            "--listen=other:1", NULL}},
                   &fresh, &command, err));
    srv_settings_reload(&s, &fresh, &ignored);
    assert_int_equal(s.log_level, SRV_LOG_ERROR);
    assert_int_equal(s.sweep_age_s, 60);
    assert_int_equal(s.workers, 1);
    assert_string_equal(s.http.listen, "127.0.0.1:8080");
    assert_string_equal(shr_buf_str(&ignored), "listen, workers");
    shr_buf_finish(&ignored);
    srv_settings_finish(&s);
    srv_settings_finish(&fresh);
}

static void the_help_names_every_setting(void **state)
{
    (void)state;
    struct srv_settings s = {0};
    struct shr_buf help = {0};
    struct shr_buf printed = {0};
    enum srv_command command;
    assert_ok(load(&(struct input){0}, &s, &command, err));
    srv_settings_help(&help);
    srv_settings_print(&s, &printed);
    size_t n = 0;
    char *rest = NULL;
    char *text = strdup(shr_buf_str(&printed));
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        line[strcspn(line, " ")] = '\0';
        assert_non_null(strstr(shr_buf_str(&help), line));
        n++;
    }
    assert_true(n > 20);
    free(text);
    shr_buf_finish(&help);
    shr_buf_finish(&printed);
    srv_settings_finish(&s);
}

static void sizes_are_parsed_and_shown(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},           {"12", 12},    {"12B", 12}, {"2GiB", 1ull << 31}, {"2 GiB", 1ull << 31},
        {"1.5MB", 1500000}, {"64k", 65536}};
    static const char *const bad[] = {"",    "-1",   "GiB",     "1XB", "nan",
                                      "inf", "1e30", "1 GiB x", " 1"};
    uint64_t bytes = 0;
    for (size_t i = 0; i < SHR_COUNT_OF(good); i++) {
        assert_true(srv_bytes_parse(good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < SHR_COUNT_OF(bad); i++) {
        assert_false(srv_bytes_parse(bad[i], &bytes));
    }
    char text[64];
    assert_string_equal(srv_bytes_format(999, text, sizeof text), "999 B");
    assert_string_equal(srv_bytes_format(1067304, text, sizeof text), "1.07 MB");
    assert_string_equal(srv_bytes_format(272104, text, sizeof text), "272.1 KB");
    assert_string_equal(srv_number_format(266610, text, sizeof text), "266,610");
    assert_string_equal(srv_number_format(-1234567, text, sizeof text), "-1,234,567");
    assert_string_equal(srv_number_format(0.01523, text, sizeof text), "0.0152");
    assert_string_equal(srv_number_format(67234.7, text, sizeof text), "67,235");
    assert_string_equal(srv_time_format(1772366400123456, text, sizeof text),
                        "2026-03-01T12:00:00.123Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_without_any_source),
        cmocka_unit_test(a_later_source_wins),
        cmocka_unit_test(the_service_manager_names_the_state_folder),
        cmocka_unit_test(units_and_choices_are_read),
        cmocka_unit_test(errors_say_where_and_what),
        cmocka_unit_test(flags_ask_for_commands),
        cmocka_unit_test(what_is_printed_can_be_read_again),
        cmocka_unit_test(a_reload_takes_what_may_change_and_names_the_rest),
        cmocka_unit_test(the_help_names_every_setting),
        cmocka_unit_test(sizes_are_parsed_and_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
