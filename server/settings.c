/* The settings table and its four sources, see settings.h.
 *
 * A row holds all that is known of a setting: name, type, place in struct srv_settings, bounds,
 * default, whether SIGHUP may change it, and a sentence. Parsing, --help, --check-config and the
 * tests all walk the table. */
#include "settings.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "plan.h"
#include "units.h"

enum setting_type {
    TEXT,   /* const char * */
    NUMBER, /* unsigned */
    BYTES,  /* uint64_t */
    CHOICE, /* unsigned */
};

struct setting {
    const char *name;
    enum setting_type type;
    size_t offset;
    uint64_t min, max;
    const char *fallback;
    const char *const *choices; /* of CHOICE, ends with NULL; the value is the index */
    bool reloadable;
    const char *help;
};

static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

#define AT(member) offsetof(struct srv_settings, member)
#define NO_BOUNDS 0, 0

static const struct setting table[] = {
    {"listen", TEXT, AT(http.listen), NO_BOUNDS, "127.0.0.1:8080", NULL, false,
     "Address: host:port, [ipv6]:port or unix:/path; port 0 takes a free one"},
    {"token_file", TEXT, AT(http.token_file), NO_BOUNDS, "", NULL, false,
     "File with the tokens clients must show; needed to listen beyond loopback"},
    {"host_names", TEXT, AT(http.host_names), NO_BOUNDS, "", NULL, false,
     "Names that clients may call the server by when it listens on loopback, beside localhost"},
    {"state_dir", TEXT, AT(state_dir), NO_BOUNDS, "/var/lib/shrinkd", NULL, false,
     "Folder of the databases; the default under systemd is $STATE_DIRECTORY"},
    {"workers", NUMBER, AT(workers), 1, 64, "1", NULL, false,
     "Jobs that run at once; with more than one, jobs disturb each other's latency figures"},
    {"queue_max", NUMBER, AT(queue_max), 1, 1000000, "1000", NULL, false,
     "Jobs that may wait; the next one is refused as too busy"},
    {"max_plans", NUMBER, AT(max_plans), 1, SRV_PLANS_MOST, "2", NULL, false,
     "Plans that are made at once; the next one is refused as too busy"},
    {"max_upload_bytes", BYTES, AT(http.max_upload_bytes), 1, 1ull << 40, "2147483647", NULL, false,
     "Largest body of a model or dataset"},
    {"max_dataset_bytes", BYTES, AT(max_dataset_bytes), 1, 1ull << 40, "4GiB", NULL, false,
     "Largest dataset once it is uncompressed"},
    {"max_json_bytes", BYTES, AT(http.max_json_bytes), 1024, 1ull << 30, "1MiB", NULL, false,
     "Largest JSON body"},
    {"max_connections", NUMBER, AT(http.max_connections), 1, 100000, "512", NULL, false,
     "Open connections"},
    {"max_connections_per_ip", NUMBER, AT(http.max_connections_per_ip), 0, 100000, "0", NULL, false,
     "Open connections of one address; 0 = no limit of its own"},
    {"max_waiters", NUMBER, AT(http.max_waiters), 1, 100000, "256", NULL, false,
     "Requests that wait for a job (?wait=)"},
    {"max_streams", NUMBER, AT(http.max_streams), 1, 100000, "128", NULL, false,
     "Open event streams"},
    {"max_wait_s", NUMBER, AT(http.max_wait_s), 1, 3600, "60", NULL, false,
     "Longest ?wait= in seconds"},
    {"header_timeout_s", NUMBER, AT(http.header_timeout_s), 1, 3600, "10", NULL, false,
     "Seconds a client has to send its request header"},
    {"idle_timeout_s", NUMBER, AT(http.idle_timeout_s), 1, 86400, "60", NULL, false,
     "Seconds a connection may be silent"},
    {"min_body_rate", BYTES, AT(http.min_body_rate), 0, 1ull << 40, "1KiB", NULL, false,
     "Bytes a second a body must come with, after 10 s; 0 = any"},
    {"page_limit", NUMBER, AT(http.page_limit), 1, 10000, "200", NULL, false,
     "Most rows of a page of a list"},
    {"job_max_memory", BYTES, AT(job_max_memory), 0, 1ull << 50, "2GiB", NULL, true,
     "Memory a job may hold beside its models; 0 = no limit"},
    {"job_max_seconds", NUMBER, AT(job_max_seconds), 0, 31536000, "0", NULL, true,
     "Seconds a job may run; 0 = no limit"},
    {"max_threads", NUMBER, AT(max_threads), 1, 1024, "64", NULL, false,
     "Most threads a job may ask for"},
    {"max_attempts", NUMBER, AT(max_attempts), 1, 1000, "3", NULL, false,
     "Starts of a job whose daemon died under it before it is given up as lost"},
    {"checkpoint_s", NUMBER, AT(checkpoint_s), 1, 60, "60", NULL, false,
     "Seconds between checkpoints of a training, which it goes on from when the daemon died"},
    {"sweep_age_s", NUMBER, AT(sweep_age_s), 60, 31536000, "3600", NULL, true,
     "Age in seconds at which bytes that nothing refers to are deleted"},
    {"stop_grace_s", NUMBER, AT(stop_grace_s), 0, 600, "2", NULL, true,
     "Seconds that open requests get to end when the daemon stops"},
    {"stop_timeout_s", NUMBER, AT(stop_timeout_s), 1, 3600, "20", NULL, true,
     "Seconds that running jobs get to stop; they go back to the queue"},
    {"log_level", CHOICE, AT(log_level), NO_BOUNDS, "info", log_levels, true,
     "error, warning, info or debug"},
    {"log_format", CHOICE, AT(log_format), NO_BOUNDS, "text", log_formats, true,
     "text or json, one line a message"},
};

enum { N_SETTINGS = sizeof table / sizeof table[0] };

/* A dash does for an underscore, as people write flags: --state-dir. */
static bool name_matches(const char *name, const char *given, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (name[i] != (given[i] == '-' ? '_' : given[i])) {
            return false; /* at the latest at the 0 behind name */
        }
    }
    return name[n] == '\0';
}

static const struct setting *setting_find(const char *name, size_t n)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (name_matches(table[i].name, name, n)) {
            return &table[i];
        }
    }
    return NULL;
}

static void *setting_place(const struct setting *row, struct srv_settings *settings)
{
    return (unsigned char *)settings + row->offset;
}

static uint64_t setting_number(const struct setting *row, const struct srv_settings *settings)
{
    const unsigned char *place = (const unsigned char *)settings + row->offset;
    uint64_t wide = 0;
    unsigned narrow = 0;
    if (row->type == BYTES) {
        memcpy(&wide, place, sizeof wide);
        return wide;
    }
    memcpy(&narrow, place, sizeof narrow);
    return narrow;
}

static void setting_store(const struct setting *row, struct srv_settings *settings, uint64_t value)
{
    const unsigned narrow = (unsigned)value;
    if (row->type == BYTES) {
        memcpy(setting_place(row, settings), &value, sizeof value);
    } else {
        memcpy(setting_place(row, settings), &narrow, sizeof narrow);
    }
}

static int set_text(const struct setting *row, struct srv_settings *settings, const char *value,
                    struct shr_err *err)
{
    const char *copy = shr_arena_strdup(&settings->arena, value);
    if (copy == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "%s: out of memory", row->name);
    }
    memcpy(setting_place(row, settings), &copy, sizeof copy);
    return SHR_OK;
}

static int set_choice(const struct setting *row, struct srv_settings *settings, const char *value,
                      struct shr_err *err)
{
    for (size_t i = 0; row->choices[i] != NULL; i++) {
        if (strcmp(row->choices[i], value) == 0) {
            setting_store(row, settings, i);
            return SHR_OK;
        }
    }
    return shr_err_set(err, SHR_ERR_INVALID, "%s: \"%s\" is not one of: %s", row->name, value,
                       row->help);
}

static int set_number(const struct setting *row, struct srv_settings *settings, const char *value,
                      struct shr_err *err)
{
    uint64_t number = 0;
    if (row->type == BYTES) {
        if (!srv_bytes_parse(value, &number)) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: \"%s\" is not a size such as 64MiB",
                               row->name, value);
        }
    } else {
        char *end = NULL;
        errno = 0;
        number = strtoull(value, &end, 10);
        if (!isdigit((unsigned char)value[0]) || *end != '\0' || errno != 0) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: \"%s\" is not a whole number", row->name,
                               value);
        }
    }
    if (number < row->min || number > row->max) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: %s is not in [%llu, %llu]", row->name, value,
                           (unsigned long long)row->min, (unsigned long long)row->max);
    }
    setting_store(row, settings, number);
    return SHR_OK;
}

static int setting_set(const struct setting *row, struct srv_settings *settings, const char *value,
                       struct shr_err *err)
{
    switch (row->type) {
    case TEXT:
        return set_text(row, settings, value, err);
    case CHOICE:
        return set_choice(row, settings, value, err);
    case NUMBER:
    case BYTES:
        break;
    }
    return set_number(row, settings, value, err);
}

/* ── Sources ────────────────────────────────────────────────────────────────────────────────── */

static const char *env_find(char **env, const char *name)
{
    const size_t n = strlen(name);
    for (size_t i = 0; env[i] != NULL; i++) {
        if (strncmp(env[i], name, n) == 0 && env[i][n] == '=') {
            return env[i] + n + 1;
        }
    }
    return NULL;
}

static int load_defaults(struct srv_settings *settings, char **env, struct shr_err *err)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const int code = setting_set(&table[i], settings, table[i].fallback, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    /* systemd may give several folders, separated by colons: the first is ours */
    const char *dir = env_find(env, "STATE_DIRECTORY");
    if (dir == NULL || dir[0] == '\0') {
        return SHR_OK;
    }
    settings->state_dir = shr_arena_strndup(&settings->arena, dir, strcspn(dir, ":"));
    return settings->state_dir != NULL
               ? SHR_OK
               : shr_err_set(err, SHR_ERR_NOMEM, "state_dir: out of memory");
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text)) {
        text++;
    }
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1])) {
        text[--n] = '\0';
    }
    return text;
}

/* One line of the file: "name = value", "# comment" or nothing. */
static int load_line(struct srv_settings *settings, char *line, struct shr_err *err)
{
    char *name = trim(line);
    if (name[0] == '\0' || name[0] == '#') {
        return SHR_OK;
    }
    char *equals = strchr(name, '=');
    if (equals == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "\"%s\" is not \"name = value\"", name);
    }
    *equals = '\0';
    name = trim(name);
    const struct setting *row = setting_find(name, strlen(name));
    if (row == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "unknown setting \"%s\"", name);
    }
    return setting_set(row, settings, trim(equals + 1), err);
}

static int load_file(struct srv_settings *settings, const char *path, struct shr_err *err)
{
    settings->config = shr_arena_strdup(&settings->arena, path);
    FILE *file = fopen(path, "re");
    if (file == NULL || settings->config == NULL) {
        const int code = shr_err_set(err, SHR_ERR_IO, "%s: %s", path, strerror(errno));
        if (file != NULL) {
            fclose(file);
        }
        return code;
    }

    int code = SHR_OK;
    char *line = NULL;
    size_t cap = 0;
    for (unsigned number = 1; code == SHR_OK && getline(&line, &cap, file) >= 0; number++) {
        code = load_line(settings, line, err);
        if (code != SHR_OK) {
            shr_err_prefix(err, "%s:%u: ", path, number);
        }
    }
    if (code == SHR_OK && ferror(file)) {
        code = shr_err_set(err, SHR_ERR_IO, "%s: cannot be read", path);
    }
    free(line);
    fclose(file);
    return code;
}

static int load_env(struct srv_settings *settings, char **env, struct shr_err *err)
{
    static const char prefix[] = "SHRINKD_";
    for (size_t i = 0; env[i] != NULL; i++) {
        const char *equals = strchr(env[i], '=');
        if (equals == NULL || strncmp(env[i], prefix, sizeof prefix - 1) != 0) {
            continue;
        }
        char name[64] = {0};
        const char *from = env[i] + sizeof prefix - 1;
        for (size_t k = 0; from + k < equals && k + 1 < sizeof name; k++) {
            name[k] = (char)tolower((unsigned char)from[k]);
        }
        if (strcmp(name, "config") == 0 || strcmp(name, "server") == 0) {
            continue; /* --config's, and the one of the command line client */
        }
        const struct setting *row = setting_find(name, strlen(name));
        if (row == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "environment: unknown setting \"%.*s\"",
                               (int)(equals - env[i]), env[i]);
        }
        const int code = setting_set(row, settings, equals + 1, err);
        if (code != SHR_OK) {
            shr_err_prefix(err, "environment: ");
            return code;
        }
    }
    return SHR_OK;
}

/* A flag and its value, from "--name=value" or "--name value"; *i moves to what was used. */
static int flag_split(int argc, char **argv, int *i, const char **ret_name, size_t *ret_n,
                      const char **ret_value, struct shr_err *err)
{
    const char *arg = argv[*i];
    if (strncmp(arg, "--", 2) != 0 || arg[2] == '\0') {
        return shr_err_set(err, SHR_ERR_INVALID, "unexpected argument \"%s\"", arg);
    }
    *ret_name = arg + 2;
    *ret_n = strcspn(*ret_name, "=");
    *ret_value = (*ret_name)[*ret_n] == '=' ? *ret_name + *ret_n + 1 : NULL;
    if (*ret_value == NULL && *i + 1 < argc) {
        *ret_value = argv[++*i];
    }
    return SHR_OK;
}

static bool command_find(const char *arg, enum srv_command *ret)
{
    static const struct {
        const char *flag;
        enum srv_command command;
    } commands[] = {
        {"--help", SRV_SHOW_HELP},
        {"-h", SRV_SHOW_HELP},
        {"--version", SRV_SHOW_VERSION},
        {"--check-config", SRV_CHECK_CONFIG},
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(arg, commands[i].flag) == 0) {
            *ret = commands[i].command;
            return true;
        }
    }
    return false;
}

/* Walks the flags: with settings NULL only for --config and the commands, else for the settings. */
static int load_flags(int argc, char **argv, struct srv_settings *settings, const char **config,
                      enum srv_command *command, struct shr_err *err)
{
    for (int i = 1; i < argc; i++) {
        if (command_find(argv[i], command)) {
            continue;
        }
        const char *name = NULL;
        const char *value = NULL;
        size_t n = 0;
        int code = flag_split(argc, argv, &i, &name, &n, &value, err);
        if (code != SHR_OK) {
            return code;
        }
        const bool is_config = n == 6 && memcmp(name, "config", 6) == 0;
        const struct setting *row = setting_find(name, n);
        if (row == NULL && !is_config) {
            return shr_err_set(err, SHR_ERR_INVALID, "unknown flag \"--%.*s\"", (int)n, name);
        }
        if (value == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "--%.*s: needs a value", (int)n, name);
        }
        if (is_config) {
            *config = value;
        } else if (settings != NULL) {
            code = setting_set(row, settings, value, err);
            if (code != SHR_OK) {
                shr_err_prefix(err, "--");
                return code;
            }
        }
    }
    return SHR_OK;
}

int srv_settings_load(int argc, char **argv, char **env, struct srv_settings *ret,
                      enum srv_command *ret_command, struct shr_err *err)
{
    struct srv_settings settings = {0};
    enum srv_command command = SRV_RUN;
    const char *config = env_find(env, "SHRINKD_CONFIG");

    int code = load_flags(argc, argv, NULL, &config, &command, err);
    if (code == SHR_OK) {
        code = load_defaults(&settings, env, err);
    }
    if (code == SHR_OK && config != NULL && config[0] != '\0') {
        code = load_file(&settings, config, err);
    }
    if (code == SHR_OK) {
        code = load_env(&settings, env, err);
    }
    if (code == SHR_OK) {
        code = load_flags(argc, argv, &settings, &config, &command, err);
    }
    if (code != SHR_OK) {
        srv_settings_finish(&settings);
        return code;
    }
    *ret = settings;
    *ret_command = command;
    return SHR_OK;
}

void srv_settings_finish(struct srv_settings *settings)
{
    shr_arena_finish(&settings->arena);
    *settings = (struct srv_settings){0};
}

/* ── Reload and print ───────────────────────────────────────────────────────────────────────── */

static void setting_print(const struct setting *row, const struct srv_settings *settings,
                          struct shr_buf *ret_text)
{
    if (row->type == TEXT) {
        const char *value = NULL;
        memcpy(&value, (const unsigned char *)settings + row->offset, sizeof value);
        shr_buf_puts(ret_text, value);
    } else if (row->type == CHOICE) {
        shr_buf_puts(ret_text, row->choices[setting_number(row, settings)]);
    } else {
        shr_buf_printf(ret_text, "%llu", (unsigned long long)setting_number(row, settings));
    }
}

static bool setting_same(const struct setting *row, const struct srv_settings *a,
                         const struct srv_settings *b)
{
    if (row->type != TEXT) {
        return setting_number(row, a) == setting_number(row, b);
    }
    const char *text_a = NULL;
    const char *text_b = NULL;
    memcpy(&text_a, (const unsigned char *)a + row->offset, sizeof text_a);
    memcpy(&text_b, (const unsigned char *)b + row->offset, sizeof text_b);
    return strcmp(text_a, text_b) == 0;
}

void srv_settings_reload(struct srv_settings *settings, const struct srv_settings *fresh,
                         struct shr_buf *ret_ignored)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *row = &table[i];
        if (setting_same(row, settings, fresh)) {
            continue;
        }
        if (row->reloadable) {
            setting_store(row, settings, setting_number(row, fresh));
        } else {
            shr_buf_printf(ret_ignored, "%s%s", ret_ignored->len > 0 ? ", " : "", row->name);
        }
    }
}

void srv_settings_print(const struct srv_settings *settings, struct shr_buf *ret_text)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        shr_buf_printf(ret_text, "%s = ", table[i].name);
        setting_print(&table[i], settings, ret_text);
        shr_buf_puts(ret_text, "\n");
    }
}

void srv_settings_help(struct shr_buf *ret_text)
{
    shr_buf_puts(
        ret_text,
        "Usage: shrinkd [--config FILE] [--NAME VALUE]...\n"
        "       shrinkd --help | --version | --check-config\n\n"
        "Every setting can stand in FILE as \"name = value\", in the environment as\n"
        "SHRINKD_NAME, or on the command line as --name value; later ones win. A dash does\n"
        "for an underscore.\n"
        "Those with a * change on SIGHUP without a restart.\n\n");
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *row = &table[i];
        shr_buf_printf(ret_text, "  %-23s%c %s\n", row->name, row->reloadable ? '*' : ' ',
                       row->help);
        shr_buf_printf(ret_text, "  %-25sdefault: %s", "",
                       row->fallback[0] != '\0' ? row->fallback : "none");
        if (row->max > 0) {
            shr_buf_printf(ret_text, "; %llu to %llu", (unsigned long long)row->min,
                           (unsigned long long)row->max);
        }
        shr_buf_puts(ret_text, "\n");
    }
    shr_buf_puts(ret_text, "\nExit codes: 0 stopped in order, 1 could not start or run, 2 bad "
                           "settings or usage.\n");
}
