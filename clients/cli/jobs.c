/* shrinkctl job …: submit, look, steer, fetch. Following a job is in follow.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "follow.h"

/* "/v1/jobs/ID" and more behind it; exits when out of memory. */
static char *path_of(const char *id, const char *rest)
{
    char *escaped = cli_escape(id), *path = NULL;
    if (asprintf(&path, "/v1/jobs/%s%s", escaped, rest) < 0) {
        cli_error("out of memory");
        exit(CLI_LOCAL);
    }
    free(escaped);
    return path;
}

/* One request about a job, its answer printed whole or as a line. */
static int act(const struct cli *cli, const char *method, const char *id, const char *rest)
{
    char *path = path_of(id, rest);
    json_t *job = NULL;
    int code = cli_http_json(cli, &(struct cli_request){.method = method, .path = path}, &job);
    free(path);
    if (code == CLI_OK && cli->json) {
        cli_print_json(job);
    } else if (code == CLI_OK) {
        printf("%s %s\n", cli_json_text(job, "id"), cli_json_text(job, "state"));
    }
    json_decref(job);
    return code;
}

/* ── Submit ─────────────────────────────────────────────────────────────────────────────────── */

/* "0.5", "true", "[1]" as JSON, anything else as text. */
static json_t *value_of(const char *text)
{
    json_error_t error;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &error);
    return value != NULL ? value : json_string(text);
}

/* "quantize_static calibration=entropy samples=256" → {"pass": …}. NULL after telling. */
static json_t *pass_of(const char *text)
{
    char *copy = strdup(text), *save = NULL;
    json_t *pass = json_object();
    for (char *word = strtok_r(copy, " \t", &save); word != NULL;
         word = strtok_r(NULL, " \t", &save)) {
        char *equals = strchr(word, '=');
        if (equals == NULL && json_object_size(pass) == 0) {
            json_object_set_new(pass, "pass", json_string(word));
        } else if (equals != NULL) {
            *equals = 0;
            json_object_set_new(pass, word, value_of(equals + 1));
        } else {
            cli_error("--pass '%s': '%s' is not key=value", text, word);
            json_decref(pass);
            pass = NULL;
            break;
        }
    }
    free(copy);
    return pass;
}

static json_t *read_spec(const char *file)
{
    json_error_t error;
    json_t *spec =
        strcmp(file, "-") == 0 ? json_loadf(stdin, 0, &error) : json_load_file(file, 0, &error);
    if (spec == NULL) {
        cli_error("%s:%d:%d: %s", file, error.line, error.column, error.text);
    }
    return spec;
}

enum { MODEL, PASS, CALIBRATE, EVALUATE, TRAIN, ASSERT, SEED, NAME, BATCH, KEY, WAIT, N_OPTIONS };

static void set_text(json_t *object, const char *key, const struct cli_option *option)
{
    if (option->n > 0) {
        json_object_set_new(object, key, json_string(cli_option_get(option)));
    }
}

/* Adds what the options say to the spec; false after telling. */
static bool apply_options(json_t *spec, const struct cli_option *o)
{
    set_text(spec, "model", &o[MODEL]);
    set_text(spec, "name", &o[NAME]);
    if (o[SEED].n > 0) {
        json_object_set_new(spec, "seed", value_of(cli_option_get(&o[SEED])));
    }
    if (o[PASS].n > 0) {
        json_t *pipeline = json_array();
        json_object_set_new(spec, "pipeline", pipeline);
        for (size_t i = 0; i < o[PASS].n; i++) {
            json_t *pass = pass_of(o[PASS].values[i]);
            if (pass == NULL) {
                return false;
            }
            json_array_append_new(pipeline, pass);
        }
    }
    if (o[CALIBRATE].n + o[EVALUATE].n + o[TRAIN].n > 0) {
        json_t *data = json_object();
        json_object_set_new(spec, "data", data);
        set_text(data, "calibrate", &o[CALIBRATE]);
        set_text(data, "evaluate", &o[EVALUATE]);
        set_text(data, "train", &o[TRAIN]);
    }
    if (o[ASSERT].n > 0) {
        json_t *asserts = json_array();
        json_object_set_new(spec, "assert", asserts);
        for (size_t i = 0; i < o[ASSERT].n; i++) {
            json_array_append_new(asserts, json_string(o[ASSERT].values[i]));
        }
    }
    if (o[BATCH].n > 0) {
        json_t *batches = json_array();
        for (size_t i = 0; i < o[BATCH].n; i++) {
            json_array_append_new(batches, value_of(o[BATCH].values[i]));
        }
        json_object_set_new(spec, "evaluate", json_pack("{s:{s:o}}", "latency", "batch", batches));
    }
    return true;
}

static int submit(const struct cli *cli, json_t *spec, const char *key, bool wait)
{
    char *header = NULL;
    if (key != NULL && asprintf(&header, "Idempotency-Key: %s", key) < 0) {
        return CLI_LOCAL;
    }
    json_t *job = NULL;
    struct cli_request request = {
        .method = "POST", .path = "/v1/jobs", .body = spec, .header = header};
    int code = cli_http_json(cli, &request, &job);
    free(header);
    if (code == CLI_OK && wait) {
        code = cli_follow(cli, cli_json_text(job, "id"));
    } else if (code == CLI_OK && cli->json) {
        cli_print_json(job);
    } else if (code == CLI_OK) {
        printf("%s %s\n", cli_json_text(job, "id"), cli_json_text(job, "state"));
    }
    json_decref(job);
    return code;
}

/* The job that a command line describes: a file's, with what the options say. NULL after telling,
 * and then *ret_code says why. */
static json_t *spec_of(const char *command, int argc, char **argv, struct cli_option *options,
                       int *ret_code)
{
    int words;
    *ret_code = CLI_USAGE;
    if (!cli_options(argc, argv, options, N_OPTIONS, &words) || !cli_no_more(argv, words, 1)) {
        return NULL;
    }
    json_t *spec = words == 1 ? read_spec(argv[0]) : json_object();
    if (spec == NULL) {
        *ret_code = CLI_LOCAL;
    } else if (words == 0 && options[MODEL].n == 0) {
        cli_error("%s: a JSON file, or --model and --pass", command);
    } else if (apply_options(spec, options)) {
        return spec;
    }
    json_decref(spec);
    return NULL;
}

#define SPEC_OPTIONS                                                                               \
    {                                                                                              \
        [MODEL] = {.name = "model"}, [PASS] = {.name = "pass"},                                    \
        [CALIBRATE] = {.name = "calibrate"}, [EVALUATE] = {.name = "evaluate"},                    \
        [TRAIN] = {.name = "train"}, [ASSERT] = {.name = "assert"}, [SEED] = {.name = "seed"},     \
        [NAME] = {.name = "name"}, [BATCH] = {.name = "batch"}, [KEY] = {.name = "key"},           \
        [WAIT] = {.name = "wait", .is_flag = true},                                                \
    }

int cli_job_submit(const struct cli *cli, int argc, char **argv)
{
    struct cli_option options[N_OPTIONS] = SPEC_OPTIONS;
    int code;
    json_t *spec = spec_of("job submit", argc, argv, options, &code);
    if (spec != NULL) {
        code = submit(cli, spec, cli_option_get(&options[KEY]), options[WAIT].n > 0);
    }
    json_decref(spec);
    cli_options_free(options, N_OPTIONS);
    return code;
}

/* ── Plan ───────────────────────────────────────────────────────────────────────────────────── */

static void print_plan(const json_t *plan)
{
    static const char *const head[] = {"STEP", "PASS", "SIZE", "RATIO", "PARAMETERS"};
    const json_t *steps = json_object_get(plan, "steps");
    struct cli_table *table = cli_table_new(5);
    for (size_t i = 0; i < 5; i++) {
        cli_table_add(table, head[i], i != 1);
    }
    size_t i, k;
    json_t *step, *warning;
    json_array_foreach (steps, i, step) {
        char text[32];
        snprintf(text, sizeof text, "%zu", i);
        cli_table_add(table, text, true);
        cli_table_add(table, cli_json_text(step, "pass"), false);
        cli_table_add(table, cli_bytes(cli_json_number(step, "bytes"), text, sizeof text), true);
        snprintf(text, sizeof text, "%.3f", cli_json_number(step, "size_ratio"));
        cli_table_add(table, text, true);
        cli_table_add(table, cli_count(cli_json_number(step, "parameters"), text, sizeof text),
                      true);
    }
    cli_table_print(table, stdout);
    cli_table_free(table);
    json_array_foreach (steps, i, step) {
        json_array_foreach (json_object_get(step, "warnings"), k, warning) {
            const char *subject = cli_json_text(warning, "subject");
            printf("! step %zu: %s%s%s\n", i, subject, subject[0] == 0 ? "" : ": ",
                   cli_json_text(warning, "text"));
        }
    }
}

int cli_plan(const struct cli *cli, int argc, char **argv)
{
    struct cli_option options[N_OPTIONS] = SPEC_OPTIONS;
    json_t *plan = NULL;
    int code;
    json_t *spec = spec_of("plan", argc, argv, options, &code);
    if (spec != NULL) {
        code = cli_http_json(
            cli, &(struct cli_request){.method = "POST", .path = "/v1/plan", .body = spec}, &plan);
    }
    if (plan != NULL && cli->json) {
        cli_print_json(plan);
    } else if (plan != NULL) {
        print_plan(plan);
    }
    json_decref(plan);
    json_decref(spec);
    cli_options_free(options, N_OPTIONS);
    return code;
}

/* ── Look and steer ─────────────────────────────────────────────────────────────────────────── */

static void print_jobs(const json_t *items)
{
    static const char *const head[] = {"ID",    "STATE",  "ASSERTS", "NAME",
                                       "MODEL", "PASSES", "CREATED"};
    struct cli_table *table = cli_table_new(7);
    for (size_t i = 0; i < 7; i++) {
        cli_table_add(table, head[i], false);
    }
    size_t i;
    json_t *job;
    json_array_foreach (items, i, job) {
        char passes[256] = "";
        size_t k, used = 0;
        json_t *pass;
        json_array_foreach (json_object_get(job, "pipeline"), k, pass) {
            int n = snprintf(passes + used, sizeof passes - used, "%s%s", k == 0 ? "" : " → ",
                             cli_json_text(pass, "pass"));
            used =
                n < 0 || (size_t)n >= sizeof passes - used ? sizeof passes - 1 : used + (size_t)n;
        }
        cli_table_add(table, cli_json_text(job, "id"), false);
        cli_table_add(table, cli_json_text(job, "state"), false);
        cli_table_add(table, json_string_value(json_object_get(job, "verdict")), false);
        cli_table_add(table, cli_json_text(job, "name"), false);
        cli_table_add(table, cli_json_text(job, "model"), false);
        cli_table_add(table, passes, false);
        cli_table_add(table, cli_json_text(job, "created"), false);
    }
    cli_table_print(table, stdout);
    cli_table_free(table);
}

int cli_job_list(const struct cli *cli, int argc, char **argv)
{
    enum { STATE, MODEL_NAME, LIMIT, CURSOR, N };
    struct cli_option options[N] = {
        {.name = "state"}, {.name = "model"}, {.name = "limit"}, {.name = "cursor"}};
    int words, code = CLI_USAGE;
    char *path = NULL;
    if (!cli_options(argc, argv, options, N, &words) || !cli_no_more(argv, words, 0)) {
        goto out;
    }
    path = cli_query("/v1/jobs", options, N);
    json_t *page = NULL;
    code = cli_http_json(cli, &(struct cli_request){.method = "GET", .path = path}, &page);
    if (code == CLI_OK && cli->json) {
        cli_print_json(page);
    } else if (code == CLI_OK) {
        print_jobs(json_object_get(page, "items"));
        const char *next = json_string_value(json_object_get(page, "next_cursor"));
        if (next != NULL) {
            fprintf(stderr, "more: shrinkctl job list --cursor %s\n", next);
        }
    }
    json_decref(page);

out:
    free(path);
    cli_options_free(options, N);
    return code;
}

int cli_job_show(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    char *path = path_of(argv[0], "");
    json_t *job = NULL;
    int code = cli_http_json(cli, &(struct cli_request){.method = "GET", .path = path}, &job);
    free(path);
    if (code == CLI_OK && cli->json) {
        cli_print_json(job);
    } else if (code == CLI_OK) {
        cli_print_job(job, stdout);
    }
    json_decref(job);
    return code;
}

int cli_job_wait(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    return cli_follow(cli, argv[0]);
}

int cli_job_cancel(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    return act(cli, "POST", argv[0], "/cancel");
}

int cli_job_retry(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    return act(cli, "POST", argv[0], "/retry");
}

int cli_job_delete(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    char *path = path_of(argv[0], "");
    int code = cli_http(cli, &(struct cli_request){.method = "DELETE", .path = path}, NULL, NULL);
    free(path);
    if (code == CLI_OK && !cli->json) {
        printf("%s deleted\n", argv[0]);
    }
    return code;
}

static void print_note(const json_t *note)
{
    const char *kind = cli_json_text(note, "kind"), *subject = cli_json_text(note, "subject");
    const char *mark = strcmp(kind, "warning") == 0   ? "!"
                       : strcmp(kind, "skipped") == 0 ? "-"
                                                      : "+";
    printf("  %s %s%s%s", mark, subject, subject[0] == 0 ? "" : ": ", cli_json_text(note, "text"));
    const char *name;
    json_t *figure;
    const char *separator = "  (";
    json_object_foreach (json_object_get(note, "figures"), name, figure) {
        printf("%s%s %g", separator, name, json_number_value(figure));
        separator = ", ";
    }
    puts(separator[0] == ',' ? ")" : "");
}

int cli_job_report(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    char *path = path_of(argv[0], "/report");
    json_t *report = NULL;
    int code = cli_http_json(cli, &(struct cli_request){.method = "GET", .path = path}, &report);
    free(path);
    if (code == CLI_OK && cli->json) {
        cli_print_json(report);
    } else if (code == CLI_OK) {
        size_t i, k;
        json_t *step, *note;
        json_array_foreach (json_object_get(report, "steps"), i, step) {
            printf("step %.0f: %s\n", cli_json_number(step, "step"), cli_json_text(step, "pass"));
            json_array_foreach (json_object_get(step, "notes"), k, note) {
                print_note(note);
            }
            cli_print_ledger(json_object_get(step, "ledger"), stdout);
        }
    }
    json_decref(report);
    return code;
}

int cli_job_fetch(const struct cli *cli, int argc, char **argv)
{
    struct cli_option options[] = {{.name = "o"}, {.name = "step"}};
    int words = 0, code = CLI_USAGE;
    if (cli_options(argc, argv, options, 2, &words) && cli_one_word(argv, words)) {
        const char *step = cli_option_get(&options[1]), *file = cli_option_get(&options[0]);
        char *escaped = cli_escape(step == NULL ? "" : step), *rest = NULL, *fallback = NULL;
        if (asprintf(&rest, "/artifacts%s%s/content", step == NULL ? "" : "/", escaped) < 0 ||
            asprintf(&fallback, "%s-%s.onnx", argv[0], step == NULL ? "last" : step) < 0) {
            cli_error("out of memory");
            exit(CLI_LOCAL);
        }
        char *path = path_of(argv[0], rest);
        code = cli_download(cli, path, file == NULL ? fallback : file);
        free(path);
        free(rest);
        free(fallback);
        free(escaped);
    }
    cli_options_free(options, 2);
    return code;
}
