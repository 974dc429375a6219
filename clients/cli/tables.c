/* shrinkctl compare, passes and status: the server's own tables. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

int cli_compare(const struct cli *cli, int argc, char **argv)
{
    enum { FORMAT, METRICS, BASELINE, N };
    struct cli_option options[N] = {{.name = "format"}, {.name = "metrics"}, {.name = "baseline"}};
    int words, code = CLI_USAGE;
    char *ids = NULL, *path = NULL, *answer = NULL;
    size_t size = 0;
    FILE *text = NULL;
    if (!cli_options(argc, argv, options, N, &words)) {
        goto out;
    }
    if (words == 0) {
        cli_error("compare: which jobs?");
        goto out;
    }
    const char *format = cli_option_get(&options[FORMAT]);
    if (format == NULL) {
        format = cli->json ? "json" : "text";
    }
    text = open_memstream(&ids, &size);
    if (text == NULL) {
        code = CLI_LOCAL;
        goto out;
    }
    fprintf(text, "/v1/compare?format=%s&ids=", format);
    for (int i = 0; i < words; i++) {
        char *id = cli_escape(argv[i]);
        fprintf(text, "%s%s", i == 0 ? "" : ",", id);
        free(id);
    }
    fclose(text);
    path = cli_query(ids, &options[METRICS], N - METRICS);
    struct cli_request request = {.method = "GET", .path = path, .accept = "*/*"};
    code = cli_http(cli, &request, &answer, NULL);
    if (code == CLI_OK) {
        fputs(answer == NULL ? "" : answer, stdout);
    }

out:
    free(answer);
    free(ids);
    free(path);
    cli_options_free(options, N);
    return code;
}

static void print_pass(const json_t *pass)
{
    printf("%s\n    %s\n", cli_json_text(pass, "name"), cli_json_text(pass, "help"));
    struct cli_table *table = cli_table_new(4);
    size_t i, k;
    json_t *param, *choice;
    json_array_foreach (json_object_get(pass, "parameters"), i, param) {
        char choices[256] = "", name[128];
        const json_t *list = json_object_get(param, "choices");
        size_t used = 0;
        json_array_foreach (list, k, choice) {
            int n = snprintf(choices + used, sizeof choices - used, "%s%s", k == 0 ? "" : "|",
                             json_string_value(choice));
            if (n > 0 && (size_t)n < sizeof choices - used) {
                used += (size_t)n;
            }
        }
        json_t *fallback = json_object_get(param, "default");
        char *text =
            json_is_string(fallback)
                ? strdup(json_string_value(fallback))
                : json_dumps(fallback, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
        snprintf(name, sizeof name, "    %s", cli_json_text(param, "name"));
        cli_table_add(table, name, false);
        cli_table_add(table, choices[0] != 0 ? choices : cli_json_text(param, "type"), false);
        cli_table_add(table, text, false);
        cli_table_add(table, cli_json_text(param, "help"), false);
        free(text);
    }
    cli_table_print(table, stdout);
    cli_table_free(table);
}

int cli_passes(const struct cli *cli, int argc, char **argv)
{
    json_t *answer = NULL;
    int code =
        cli_http_json(cli, &(struct cli_request){.method = "GET", .path = "/v1/passes"}, &answer);
    if (code != CLI_OK) {
        return code;
    }
    const json_t *passes = json_object_get(answer, "items");
    bool found = argc == 0;
    size_t i;
    json_t *pass;
    if (cli->json && argc == 0) {
        cli_print_json(answer);
    } else {
        json_array_foreach (passes, i, pass) {
            if (argc > 0 && strcmp(argv[0], cli_json_text(pass, "name")) != 0) {
                continue;
            }
            found = true;
            if (cli->json) {
                cli_print_json(pass);
            } else {
                fputs(i > 0 && argc == 0 ? "\n" : "", stdout);
                print_pass(pass);
            }
        }
    }
    if (!found) {
        cli_error("%s: no such pass; `shrinkctl passes` lists them", argv[0]);
        code = CLI_USAGE;
    }
    json_decref(answer);
    return code;
}

static void print_about(const struct cli *cli, const json_t *about)
{
    printf("shrinkd %s at %s\n", cli_json_text(about, "version"), cli->server);
    printf("%-20s%s\n", "cpu", cli_json_text(about, "cpu"));
    printf("%-20s%.0f s\n", "up", cli_json_number(about, "uptime_s"));
    const char *name;
    json_t *limit;
    json_object_foreach (json_object_get(about, "limits"), name, limit) {
        char text[32];
        const double n = json_number_value(limit);
        const bool is_size = strstr(name, "bytes") != NULL || strstr(name, "memory") != NULL;
        printf("%-20s%s\n", name,
               is_size ? cli_bytes(n, text, sizeof text) : cli_count(n, text, sizeof text));
    }
}

int cli_status(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    json_t *about = NULL;
    int code = cli_http_json(cli, &(struct cli_request){.method = "GET", .path = "/v1"}, &about);
    if (code == CLI_OK && cli->json) {
        cli_print_json(about);
    } else if (code == CLI_OK) {
        print_about(cli, about);
    }
    json_decref(about);
    if (code == CLI_OK) {
        code = cli_http(cli,
                        &(struct cli_request){.method = "GET", .path = "/readyz", .accept = "*/*"},
                        NULL, NULL);
        if (code == CLI_OK && !cli->json) {
            puts("ready");
        }
    }
    return code;
}
