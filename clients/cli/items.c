/* shrinkctl model … and dataset …: what the server keeps under a name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* "/v1/models/NAME" and more behind it; exits when out of memory. */
static char *path_of(const char *kind, const char *name, const char *rest)
{
    char *escaped = cli_escape(name), *path = NULL;
    if (asprintf(&path, "/v1/%s/%s%s", kind, escaped, rest) < 0) {
        cli_error("out of memory");
        exit(CLI_LOCAL);
    }
    free(escaped);
    return path;
}

static int show(const struct cli *cli, const char *kind, const char *name,
                void (*print)(const json_t *item))
{
    char *path = path_of(kind, name, "");
    json_t *item = NULL;
    int code = cli_http_json(cli, &(struct cli_request){.method = "GET", .path = path}, &item);
    free(path);
    if (code == CLI_OK && cli->json) {
        cli_print_json(item);
    } else if (code == CLI_OK) {
        print(item);
    }
    json_decref(item);
    return code;
}

static int delete (const struct cli *cli, const char *kind, const char *name)
{
    char *path = path_of(kind, name, "");
    int code = cli_http(cli, &(struct cli_request){.method = "DELETE", .path = path}, NULL, NULL);
    free(path);
    if (code == CLI_OK && !cli->json) {
        printf("%s deleted\n", name);
    }
    return code;
}

/* All pages of a list, one row an item. */
static int list(const struct cli *cli, const char *kind, const char *const *head, size_t columns,
                void (*add_row)(struct cli_table *table, const json_t *item))
{
    json_t *all = json_array();
    char *path = NULL;
    int code = asprintf(&path, "/v1/%s", kind) < 0 ? CLI_LOCAL : CLI_OK;
    while (code == CLI_OK) {
        json_t *page = NULL;
        code = cli_http_json(cli, &(struct cli_request){.method = "GET", .path = path}, &page);
        if (code != CLI_OK) {
            break;
        }
        json_array_extend(all, json_object_get(page, "items"));
        const char *next = json_string_value(json_object_get(page, "next_cursor"));
        char *cursor = next == NULL ? NULL : cli_escape(next);
        free(path);
        path = NULL;
        bool more = cursor != NULL && asprintf(&path, "/v1/%s?cursor=%s", kind, cursor) >= 0;
        free(cursor);
        json_decref(page);
        if (!more) {
            break;
        }
    }
    free(path);
    if (code == CLI_OK && cli->json) {
        cli_print_json(all);
    } else if (code == CLI_OK) {
        struct cli_table *table = cli_table_new(columns);
        for (size_t i = 0; i < columns; i++) {
            cli_table_add(table, head[i], false);
        }
        size_t i;
        json_t *item;
        json_array_foreach (all, i, item) {
            add_row(table, item);
        }
        cli_table_print(table, stdout);
        cli_table_free(table);
    }
    json_decref(all);
    return code;
}

/* "float32[batch, 1, 28, 28]" */
static void print_type(const json_t *value)
{
    printf("%s[", cli_json_text(value, "dtype"));
    size_t i;
    json_t *dim;
    json_array_foreach (json_object_get(value, "shape"), i, dim) {
        fputs(i == 0 ? "" : ", ", stdout);
        if (json_is_integer(dim)) {
            printf("%lld", (long long)json_integer_value(dim));
        } else {
            fputs(json_is_string(dim) ? json_string_value(dim) : "?", stdout);
        }
    }
    putchar(']');
}

static void print_values(const char *what, const json_t *values)
{
    size_t i;
    json_t *value;
    json_array_foreach (values, i, value) {
        printf("%-12s%s  ", i == 0 ? what : "", cli_json_text(value, "name"));
        print_type(value);
        putchar('\n');
    }
}

static void print_size(const json_t *item)
{
    char bytes[32];
    printf("%-12s%s, version %.0f\n", "name", cli_json_text(item, "name"),
           cli_json_number(item, "version"));
    printf("%-12s%s\n", "id", cli_json_text(item, "id"));
    printf("%-12s%s\n", "size", cli_bytes(cli_json_number(item, "bytes"), bytes, sizeof bytes));
}

static void print_model(const json_t *item)
{
    char count[32];
    print_size(item);
    printf("%-12s%s\n", "parameters",
           cli_count(cli_json_number(item, "parameters"), count, sizeof count));
    printf("%-12s%.0f, IR version %.0f\n", "opset", cli_json_number(item, "opset"),
           cli_json_number(item, "ir_version"));
    print_values("inputs", json_object_get(item, "inputs"));
    print_values("outputs", json_object_get(item, "outputs"));
    fputs("operators   ", stdout);
    const json_t *ops = json_object_get(item, "ops");
    void *at = json_object_iter((json_t *)(uintptr_t)ops);
    for (bool first = true; at != NULL; first = false) {
        printf("%s%lld %s", first ? "" : ", ",
               (long long)json_integer_value(json_object_iter_value(at)), json_object_iter_key(at));
        at = json_object_iter_next((json_t *)(uintptr_t)ops, at);
    }
    putchar('\n');
    size_t i;
    json_t *op;
    json_array_foreach (json_object_get(item, "unrunnable_ops"), i, op) {
        printf("%-12s%s\n", i == 0 ? "cannot run" : "", json_string_value(op));
    }
}

static void print_dataset(const json_t *item)
{
    char count[32];
    print_size(item);
    printf("%-12s%s\n", "samples",
           cli_count(cli_json_number(item, "samples"), count, sizeof count));
    print_values("arrays", json_object_get(item, "arrays"));
    if (json_is_integer(json_object_get(item, "classes"))) {
        printf("%-12s%.0f\n", "classes", cli_json_number(item, "classes"));
    }
}

static void add_common(struct cli_table *table, const json_t *item)
{
    char text[32];
    snprintf(text, sizeof text, "%.0f", cli_json_number(item, "version"));
    cli_table_add(table, cli_json_text(item, "name"), false);
    cli_table_add(table, text, true);
    cli_table_add(table, cli_bytes(cli_json_number(item, "bytes"), text, sizeof text), true);
}

static void add_model(struct cli_table *table, const json_t *item)
{
    char text[32];
    add_common(table, item);
    cli_table_add(table, cli_count(cli_json_number(item, "parameters"), text, sizeof text), true);
    cli_table_add(table, cli_json_text(item, "created"), false);
}

static void add_dataset(struct cli_table *table, const json_t *item)
{
    char text[32];
    add_common(table, item);
    cli_table_add(table, cli_count(cli_json_number(item, "samples"), text, sizeof text), true);
    cli_table_add(table, cli_json_text(item, "created"), false);
}

static int put(const struct cli *cli, const char *kind, const char *name, const char *query,
               struct cli_request request, void (*print)(const json_t *item))
{
    char *path = path_of(kind, name, query);
    json_t *item = NULL;
    request.method = "PUT";
    request.path = path;
    request.progress = true;
    int code = cli_http_json(cli, &request, &item);
    free(path);
    if (code == CLI_OK && cli->json) {
        cli_print_json(item);
    } else if (code == CLI_OK) {
        print(item);
    }
    json_decref(item);
    return code;
}

int cli_model_put(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    return put(cli, "models", argv[0], "", (struct cli_request){.upload_file = argv[1]},
               print_model);
}

int cli_model_list(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    static const char *const head[] = {"NAME", "VERSION", "SIZE", "PARAMETERS", "CREATED"};
    return list(cli, "models", head, 5, add_model);
}

int cli_model_show(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    return show(cli, "models", argv[0], print_model);
}

int cli_model_get(const struct cli *cli, int argc, char **argv)
{
    struct cli_option options[] = {{.name = "o"}};
    int words;
    if (!cli_options(argc, argv, options, 1, &words) || !cli_one_word(argv, words)) {
        cli_options_free(options, 1);
        return CLI_USAGE;
    }
    char *fallback = NULL;
    const char *file = cli_option_get(&options[0]);
    if (file == NULL) {
        if (asprintf(&fallback, "%s.onnx", argv[0]) < 0) {
            cli_error("out of memory");
            exit(CLI_LOCAL);
        }
        file = fallback;
    }
    char *path = path_of("models", argv[0], "/content");
    int code = cli_download(cli, path, file);
    free(path);
    free(fallback);
    cli_options_free(options, 1);
    return code;
}

int cli_model_delete(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    return delete (cli, "models", argv[0]);
}

int cli_dataset_put(const struct cli *cli, int argc, char **argv)
{
    enum { IMAGES, LABELS, SCALE, MEAN, STD, LAYOUT, N };
    struct cli_option options[N] = {{.name = "images"}, {.name = "labels"}, {.name = "scale"},
                                    {.name = "mean"},   {.name = "std"},    {.name = "layout"}};
    int words, code = CLI_USAGE;
    char *query = NULL;
    if (!cli_options(argc, argv, options, N, &words)) {
        goto out;
    }
    const char *images = cli_option_get(&options[IMAGES]);
    const char *labels = cli_option_get(&options[LABELS]);
    if (words != (images == NULL ? 2 : 1) || (images == NULL && labels != NULL)) {
        cli_error("dataset put: a name and a file, or a name and --images and --labels");
        goto out;
    }
    query = cli_query("", &options[SCALE], N - SCALE);
    struct cli_part parts[2] = {{"images", images}, {"labels", labels}};
    struct cli_request request = {.upload_file = images == NULL ? argv[1] : NULL, .parts = parts};
    if (images != NULL) {
        request.n_parts = labels == NULL ? 1 : 2;
    }
    code = put(cli, "datasets", argv[0], query, request, print_dataset);

out:
    free(query);
    cli_options_free(options, N);
    return code;
}

int cli_dataset_list(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    static const char *const head[] = {"NAME", "VERSION", "SIZE", "SAMPLES", "CREATED"};
    return list(cli, "datasets", head, 5, add_dataset);
}

int cli_dataset_show(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    return show(cli, "datasets", argv[0], print_dataset);
}

int cli_dataset_delete(const struct cli *cli, int argc, char **argv)
{
    (void)argc;
    return delete (cli, "datasets", argv[0]);
}
