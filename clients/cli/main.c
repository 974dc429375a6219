/* shrinkctl: the command table, the general options and the help.
 *
 * The table is the truth: help, dispatch and the count of words all come from it. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define CLI_VERSION "0.1.0"

enum { ANY = -1 };

struct command {
    const char *noun, *verb; /* verb NULL: the noun alone is the command */
    const char *words;       /* what follows, for the help */
    const char *help;
    int min_words; /* least number of arguments */
    int max_words; /* most of them; ANY: the command looks at its words and options itself */
    int (*run)(const struct cli *cli, int argc, char **argv);
};

static const struct command commands[] = {
    {"model", "put", "NAME FILE", "Upload an ONNX model", 2, 2, cli_model_put},
    {"model", "list", "", "List models", 0, 0, cli_model_list},
    {"model", "show", "NAME", "Inputs, outputs, operators and sizes", 1, 1, cli_model_show},
    {"model", "get", "NAME [-o FILE]", "Download a model", 1, ANY, cli_model_get},
    {"model", "delete", "NAME", "Delete all versions of a model", 1, 1, cli_model_delete},
    {"dataset", "put", "NAME FILE | NAME --images FILE --labels FILE",
     "Upload npz or npy, or idx files; --scale --mean --std --layout", 1, ANY, cli_dataset_put},
    {"dataset", "list", "", "List datasets", 0, 0, cli_dataset_list},
    {"dataset", "show", "NAME", "Arrays, samples and classes", 1, 1, cli_dataset_show},
    {"dataset", "delete", "NAME", "Delete a dataset", 1, 1, cli_dataset_delete},
    {"job", "submit", "[FILE] [--model M --pass 'NAME key=value …' …]",
     "Submit a job from a JSON file (- = stdin) or from options; --wait follows it", 0, ANY,
     cli_job_submit},
    {"plan", NULL, "[FILE] [--model M --pass 'NAME key=value …' …]",
     "What each step of a job would weigh, told before it runs; takes what job submit takes", 0,
     ANY, cli_plan},
    {"job", "list", "[--state S] [--model M]", "List jobs, newest first", 0, ANY, cli_job_list},
    {"job", "show", "ID", "State, steps and metrics", 1, 1, cli_job_show},
    {"job", "wait", "ID", "Follow a job with a progress bar; the exit code is the job's", 1, 1,
     cli_job_wait},
    {"job", "cancel", "ID", "Cancel a job", 1, 1, cli_job_cancel},
    {"job", "retry", "ID", "Queue a finished job again", 1, 1, cli_job_retry},
    {"job", "delete", "ID", "Delete a finished job and what it made", 1, 1, cli_job_delete},
    {"job", "report", "ID", "What each pass did, tensor by tensor", 1, 1, cli_job_report},
    {"job", "fetch", "ID [--step N] [-o FILE]", "Download an optimized model (the last step's)", 1,
     ANY, cli_job_fetch},
    {"compare", NULL, "ID … [--format text|json|csv|markdown]",
     "One table: the originals and what each step made", 1, ANY, cli_compare},
    {"passes", NULL, "[NAME]", "The passes and their parameters", 0, 1, cli_passes},
    {"run", NULL, "MODEL.onnx [--input FILE.npz|npy] [--output FILE.npz] [--time] [--profile]",
     "Run a model here, without a server; --batch N --dim name=N --const input=N --threads N\n"
     "      --cpu-mask avx2,… --seed N --seconds N --no-fuse",
     1, ANY, cli_run},
    {"graph", NULL, "MODEL.onnx [--groups]",
     "A model as text, or the groups of channels that can be pruned, and what must stay and why", 1,
     ANY, cli_graph},
    {"ops", NULL, "[--missing]", "The operators that run, or those that do not and why", 0, ANY,
     cli_ops},
    {"status", NULL, "", "Version, limits and health of the server", 0, 0, cli_status},
};

static void print_command(const struct command *c, FILE *to)
{
    fprintf(to, "  %s%s%s %s\n      %s\n", c->noun, c->verb == NULL ? "" : " ",
            c->verb == NULL ? "" : c->verb, c->words, c->help);
}

static void print_help(FILE *to)
{
    fputs("shrinkctl " CLI_VERSION ": makes neural networks smaller and faster, with shrinkd\n\n"
          "Usage: shrinkctl [OPTION …] COMMAND …\n",
          to);
    const char *noun = "";
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct command *c = &commands[i];
        if (strcmp(noun, c->noun) != 0 && (c->verb != NULL || i == 0 || c[-1].verb != NULL)) {
            fputc('\n', to);
        }
        noun = c->noun;
        print_command(c, to);
    }
    fputs("\nOptions:\n"
          "  --server URL        http://HOST:PORT or unix:PATH (SHRINKD_SERVER; "
          "http://127.0.0.1:8080)\n"
          "  --token-file FILE   bearer token (SHRINKD_TOKEN_FILE)\n"
          "  --json              print what the server answered\n"
          "  --quiet             no progress\n"
          "  --help, --version   --help behind a command tells about it alone\n\n"
          "Exit codes: 0 done, 1 refused by the server, 2 wrong usage, 3 server not reached,\n"
          "4 the job failed or was cancelled, 5 an assert of the job does not hold, 6 a local "
          "file\n\n"
          "Example:\n"
          "  shrinkctl model put lenet lenet.onnx\n"
          "  shrinkctl dataset put digits --images t10k-images-idx3-ubyte.gz "
          "--labels t10k-labels-idx1-ubyte.gz\n"
          "  shrinkctl job submit --model lenet --pass 'quantize_static calibration=entropy' \\\n"
          "      --calibrate digits --evaluate digits --assert 'accuracy_drop <= 0.01' --wait\n",
          to);
}

static const struct command *find_command(int argc, char **argv, int *ret_used)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct command *c = &commands[i];
        if (argc < 1 || strcmp(argv[0], c->noun) != 0) {
            continue;
        }
        if (c->verb == NULL) {
            *ret_used = 1;
            return c;
        }
        if (argc >= 2 && strcmp(argv[1], c->verb) == 0) {
            *ret_used = 2;
            return c;
        }
    }
    return NULL;
}

static void tell_unknown(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (commands[i].verb != NULL && strcmp(argv[0], commands[i].noun) == 0) {
            cli_error("%s %s: no such command; `shrinkctl --help` lists them", argv[0],
                      argc > 1 ? argv[1] : "");
            return;
        }
    }
    cli_error("%s: no such command; `shrinkctl --help` lists them", argv[0]);
}

/* Takes a general option with a value from the front of argv; returns how many words it used. */
static int take_value(int argc, char **argv, const char *name, const char **ret_value)
{
    size_t n = strlen(name);
    if (strncmp(argv[0], name, n) != 0) {
        return 0;
    }
    if (argv[0][n] == '=') {
        *ret_value = argv[0] + n + 1;
        return 1;
    }
    if (argv[0][n] == 0 && argc > 1) {
        *ret_value = argv[1];
        return 2;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *server = getenv("SHRINKD_SERVER");
    struct cli cli = {.server = server != NULL ? server : "http://127.0.0.1:8080",
                      .token_file = getenv("SHRINKD_TOKEN_FILE")};

    argc--, argv++;
    while (argc > 0 && argv[0][0] == '-') {
        int used = take_value(argc, argv, "--server", &cli.server);
        if (used == 0) {
            used = take_value(argc, argv, "--token-file", &cli.token_file);
        }
        if (used == 0 && strcmp(argv[0], "--json") == 0) {
            cli.json = true;
            used = 1;
        } else if (used == 0 && strcmp(argv[0], "--quiet") == 0) {
            cli.quiet = true;
            used = 1;
        } else if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
            print_help(stdout);
            return CLI_OK;
        } else if (strcmp(argv[0], "--version") == 0) {
            puts("shrinkctl " CLI_VERSION);
            return CLI_OK;
        }
        if (used == 0) {
            cli_error("%s: no such option, or its value is missing", argv[0]);
            return CLI_USAGE;
        }
        argc -= used, argv += used;
    }
    if (argc == 0) {
        print_help(stderr);
        return CLI_USAGE;
    }

    int used = 0;
    const struct command *command = find_command(argc, argv, &used);
    if (command == NULL) {
        tell_unknown(argc, argv);
        return CLI_USAGE;
    }
    argc -= used, argv += used;

    /* --json, --quiet and --help read well behind the command too. */
    int kept = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            cli.json = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            cli.quiet = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_command(command, stdout);
            return CLI_OK;
        } else {
            argv[kept++] = argv[i];
        }
    }
    argv[kept] = NULL;
    if (kept < command->min_words || (command->max_words != ANY && kept > command->max_words)) {
        cli_error("usage: shrinkctl %s%s%s %s", command->noun, command->verb == NULL ? "" : " ",
                  command->verb == NULL ? "" : command->verb, command->words);
        return CLI_USAGE;
    }
    return command->run(&cli, kept, argv);
}
