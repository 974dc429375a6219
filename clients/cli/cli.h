/* shrinkctl: what its files share. One process, one thread, one server; `run` and `ops` need none.
 *
 * Commands return an exit code (enum cli_exit). Results go to stdout, as JSON with --json; errors,
 * progress and hints go to stderr. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum cli_exit {
    CLI_OK = 0,
    CLI_REFUSED = 1,       /* the server answered with a problem */
    CLI_USAGE = 2,         /* the command line is wrong */
    CLI_UNREACHABLE = 3,   /* no server, or the connection broke */
    CLI_JOB_FAILED = 4,    /* the job failed, was cancelled or got lost */
    CLI_ASSERT_FAILED = 5, /* the job succeeded, an assert of it did not hold */
    CLI_LOCAL = 6,         /* a local file could not be read or written */
};

struct cli {
    const char *server;     /* "http://127.0.0.1:8080" or "unix:/run/shrinkd.sock" */
    const char *token_file; /* NULL = none */
    bool json, quiet;
};

/* ── HTTP (http.c) ──────────────────────────────────────────────────────────────────────────── */

struct cli_part { /* of a multipart upload */
    const char *name, *file;
};

/* Returns true to go on, false to end the transfer. */
typedef bool (*cli_line_fn)(void *user, const char *line);

struct cli_request {
    const char *method, *path; /* path with query, already escaped */
    const char *accept;        /* NULL = application/json */
    json_t *body;              /* JSON body, borrowed; NULL = none */
    const char *upload_file;   /* raw body from a file */
    const struct cli_part *parts;
    size_t n_parts;
    FILE *to;         /* a good answer's body goes here instead of ret_text */
    cli_line_fn line; /* … or line by line here (server-sent events) */
    void *user;
    const char *header; /* one more header, or NULL */
    bool progress;      /* show how much of an upload or download is through */
};

/* Sends and receives. On 2xx returns CLI_OK and, if asked, the body (free) and the status; else
 * tells the user what the server or the network said. */
int cli_http(const struct cli *cli, const struct cli_request *request, char **ret_text,
             long *ret_status);

/* As above for a JSON answer; the caller owns *ret_json. */
int cli_http_json(const struct cli *cli, const struct cli_request *request, json_t **ret_json);

/* Downloads into a file ("-" = stdout), which is touched only when all has come. */
int cli_download(const struct cli *cli, const char *path, const char *file);

/* "a b" → "a%20b"; free with free(). */
char *cli_escape(const char *text);

/* ── Output (out.c) ─────────────────────────────────────────────────────────────────────────── */

struct cli_table;
struct cli_table *cli_table_new(size_t columns);
/* Adds a cell, row after row; right-aligned when it is a number. NULL prints as "–". */
void cli_table_add(struct cli_table *table, const char *text, bool right);
void cli_table_print(const struct cli_table *table, FILE *to); /* the first row is the head */
void cli_table_free(struct cli_table *table);

void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void cli_print_json(const json_t *value);
const char *cli_bytes(double bytes, char *text, size_t size);     /* "1.07 MB" */
const char *cli_count(double n, char *text, size_t size);         /* "266,610" */
const char *cli_json_text(const json_t *object, const char *key); /* "" when absent */
double cli_json_number(const json_t *object, const char *key);    /* 0 when absent */

/* A size ledger (ledger.c): one line for the file, one row for each tensor that changed. */
void cli_print_ledger(const json_t *ledger, FILE *to);

/* ── Commands ───────────────────────────────────────────────────────────────────────────────── */

/* argv[0] is the first word behind the command; ends with NULL. */
int cli_model_put(const struct cli *cli, int argc, char **argv);
int cli_model_list(const struct cli *cli, int argc, char **argv);
int cli_model_show(const struct cli *cli, int argc, char **argv);
int cli_model_get(const struct cli *cli, int argc, char **argv);
int cli_model_delete(const struct cli *cli, int argc, char **argv);
int cli_dataset_put(const struct cli *cli, int argc, char **argv);
int cli_dataset_list(const struct cli *cli, int argc, char **argv);
int cli_dataset_show(const struct cli *cli, int argc, char **argv);
int cli_dataset_delete(const struct cli *cli, int argc, char **argv);
int cli_job_submit(const struct cli *cli, int argc, char **argv);
int cli_job_list(const struct cli *cli, int argc, char **argv);
int cli_job_show(const struct cli *cli, int argc, char **argv);
int cli_job_wait(const struct cli *cli, int argc, char **argv);
int cli_job_cancel(const struct cli *cli, int argc, char **argv);
int cli_job_retry(const struct cli *cli, int argc, char **argv);
int cli_job_delete(const struct cli *cli, int argc, char **argv);
int cli_job_report(const struct cli *cli, int argc, char **argv);
int cli_job_fetch(const struct cli *cli, int argc, char **argv);
int cli_plan(const struct cli *cli, int argc, char **argv);
int cli_compare(const struct cli *cli, int argc, char **argv);
int cli_graph(const struct cli *cli, int argc, char **argv);
int cli_ops(const struct cli *cli, int argc, char **argv);
int cli_run(const struct cli *cli, int argc, char **argv);
int cli_passes(const struct cli *cli, int argc, char **argv);
int cli_status(const struct cli *cli, int argc, char **argv);

/* Options of a command: `--name VALUE` and `--name=VALUE` become options, the rest words. */
struct cli_option {
    const char *name; /* "images" */
    char **values;    /* those given, in order; malloc'd */
    size_t n;
    bool is_flag; /* takes no value */
};
/* Sorts argv out; false (after telling) on an unknown option or a missing value. *ret_words is how
 * many words argv begins with afterwards. */
bool cli_options(int argc, char **argv, struct cli_option *options, size_t n, int *ret_words);
/* Are there at most so many words, or exactly one? Else tells. */
bool cli_no_more(char **argv, int words, int most);
bool cli_one_word(char **argv, int words);
void cli_options_free(struct cli_option *options, size_t n);
/* path with the options that were given as its query, escaped; the caller frees it. */
char *cli_query(const char *path, const struct cli_option *options, size_t n);
const char *cli_option_get(const struct cli_option *option); /* the last value or NULL */

#endif
