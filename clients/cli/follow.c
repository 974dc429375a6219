/* Following a job; see follow.h. Progress comes as server-sent events, and the job as it ended is
 * read once more at the end, so that nothing depends on having seen every event. */
#include "follow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TRIES = 30 }; /* reconnections without an event, a second apart */

struct follow {
    bool bar;         /* a terminal that can redraw a line */
    char last_id[32]; /* of the last event, to go on from there */
    char shown[256];  /* what a plain log showed last */
    bool any;         /* an event came since the connection was made */
    bool is_over;
};

static bool is_final(const char *state)
{
    return state[0] != 0 && strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

static void show_progress(struct follow *f, const json_t *p)
{
    char what[160];
    snprintf(what, sizeof what, "step %.0f %s: %s", cli_json_number(p, "step"),
             cli_json_text(p, "pass"), cli_json_text(p, "stage"));
    if (!f->bar) {
        if (strcmp(what, f->shown) != 0) {
            fprintf(stderr, "  %s\n", what);
            snprintf(f->shown, sizeof f->shown, "%s", what);
        }
        return;
    }

    enum { WIDTH = 24 };
    double percent = cli_json_number(p, "percent");
    int full = (int)(percent / 100 * WIDTH + 0.5);
    fprintf(stderr, "\r\033[K  [");
    for (int i = 0; i < WIDTH; i++) {
        fputs(i < full ? "#" : "·", stderr);
    }
    fprintf(stderr, "] %3.0f %%  %s", percent, what);
    const char *series;
    json_t *value;
    json_object_foreach (json_object_get(p, "figures"), series, value) {
        fprintf(stderr, "  %s %.4g", series, json_number_value(value));
    }
    const json_t *eta = json_object_get(p, "eta_s");
    if (json_is_number(eta)) {
        fprintf(stderr, "  %.0f s left", json_number_value(eta));
    }
    fflush(stderr);
}

static bool on_line(void *user, const char *line)
{
    struct follow *f = user;
    if (strncmp(line, "id:", 3) == 0) {
        snprintf(f->last_id, sizeof f->last_id, "%s", line + 3 + strspn(line + 3, " "));
        f->last_id[strcspn(f->last_id, "\r")] = 0;
        return true;
    }
    if (strncmp(line, "data:", 5) != 0) {
        return true;
    }

    json_error_t error;
    json_t *data = json_loads(line + 5, 0, &error);
    f->any = true;
    if (json_object_get(data, "stage") != NULL) {
        show_progress(f, data);
    }
    f->is_over = is_final(cli_json_text(data, "state"));
    json_decref(data);
    return !f->is_over;
}

static int get_job(const struct cli *cli, const char *id, json_t **ret_job)
{
    char *escaped = cli_escape(id), *path = NULL;
    int code = CLI_LOCAL;
    if (asprintf(&path, "/v1/jobs/%s", escaped) >= 0) {
        code = cli_http_json(cli, &(struct cli_request){.method = "GET", .path = path}, ret_job);
    }
    free(path);
    free(escaped);
    return code;
}

/* Reads events until the job is final or the connection ends. */
static int stream(const struct cli *cli, const char *id, struct follow *f)
{
    char *escaped = cli_escape(id), *path = NULL, header[64];
    snprintf(header, sizeof header, "Last-Event-ID: %s", f->last_id);
    int code = CLI_LOCAL;
    if (asprintf(&path, "/v1/jobs/%s/events", escaped) >= 0) {
        struct cli_request request = {.method = "GET",
                                      .path = path,
                                      .accept = "text/event-stream",
                                      .line = on_line,
                                      .user = f,
                                      .header = f->last_id[0] == 0 ? NULL : header};
        code = cli_http(cli, &request, NULL, NULL);
    }
    free(path);
    free(escaped);
    return code;
}

static int exit_of(const json_t *job)
{
    if (strcmp(cli_json_text(job, "state"), "succeeded") != 0) {
        return CLI_JOB_FAILED;
    }
    return strcmp(cli_json_text(job, "verdict"), "fail") == 0 ? CLI_ASSERT_FAILED : CLI_OK;
}

int cli_follow(const struct cli *cli, const char *id)
{
    struct follow f = {.bar = isatty(STDERR_FILENO) != 0};
    json_t *job = NULL;
    int code = get_job(cli, id, &job);
    for (int tries = 0; code == CLI_OK && !is_final(cli_json_text(job, "state"));) {
        if (!cli->quiet) {
            f.any = false;
            stream(cli, id, &f);
        }
        tries = f.any ? 0 : tries + 1;
        json_decref(job);
        job = NULL;
        code = get_job(cli, id, &job);
        if (code == CLI_UNREACHABLE && tries < TRIES) {
            code = CLI_OK;
            job = json_object(); /* the server may be restarting: ask again */
        }
        if (code == CLI_OK && !is_final(cli_json_text(job, "state"))) {
            nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
        }
    }
    if (f.bar) {
        fputs("\r\033[K", stderr);
    }
    if (code == CLI_OK) {
        code = exit_of(job);
        if (cli->json) {
            cli_print_json(job);
        } else {
            cli_print_job(job, stdout);
        }
    }
    json_decref(job);
    return code;
}

static void add_metric(struct cli_table *table, const json_t *metrics, const char *name,
                       double factor, const char *unit)
{
    char text[64];
    const json_t *value = json_object_get(metrics, name);
    snprintf(text, sizeof text, "%.4g%s", json_number_value(value) * factor, unit);
    cli_table_add(table, json_is_number(value) ? text : NULL, true);
}

static void print_steps(const json_t *steps, FILE *to)
{
    static const char *const head[] = {"STEP",     "PASS",       "SIZE",      "COMPRESSION",
                                       "ACCURACY", "LATENCY B1", "SPEEDUP B1"};
    if (json_array_size(steps) == 0) {
        return;
    }
    struct cli_table *table = cli_table_new(7);
    for (size_t i = 0; i < 7; i++) {
        cli_table_add(table, head[i], false);
    }
    size_t i;
    json_t *step;
    json_array_foreach (steps, i, step) {
        const json_t *m = json_object_get(step, "metrics");
        char text[64];
        snprintf(text, sizeof text, "%.0f", cli_json_number(step, "step"));
        cli_table_add(table, text, true);
        cli_table_add(table, cli_json_text(step, "pass"), false);
        cli_table_add(table, cli_bytes(cli_json_number(step, "bytes"), text, sizeof text), true);
        add_metric(table, m, "compression", 1, "x");
        add_metric(table, m, "accuracy", 100, " %");
        add_metric(table, m, "latency_ms_b1", 1, " ms");
        add_metric(table, m, "speedup_b1", 1, "x");
    }
    cli_table_print(table, to);
    cli_table_free(table);
}

void cli_print_job(const json_t *job, FILE *to)
{
    const char *name = cli_json_text(job, "name"), *verdict = cli_json_text(job, "verdict");
    fprintf(to, "%s%s%s %s", cli_json_text(job, "id"), name[0] == 0 ? "" : " ", name,
            cli_json_text(job, "state"));
    fprintf(to, verdict[0] == 0 ? "\n" : ", asserts: %s\n", verdict);
    const char *detail = cli_json_text(json_object_get(job, "error"), "detail");
    if (detail[0] != 0) {
        fprintf(to, "error: %s\n", detail);
    }
    size_t i;
    json_t *assert_;
    json_array_foreach (json_object_get(job, "asserts"), i, assert_) {
        fprintf(to, "assert %s: %s\n", cli_json_text(assert_, "assert"),
                json_is_true(json_object_get(assert_, "holds")) ? "holds" : "DOES NOT HOLD");
    }
    print_steps(json_object_get(job, "steps"), to);
}
