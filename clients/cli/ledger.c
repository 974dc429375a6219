/* The size ledger of a pass, for people: where the bytes were and where they are. */
#include <string.h>

#include "cli.h"

static void add_bytes(struct cli_table *table, double bytes)
{
    char text[32];
    cli_table_add(table, cli_bytes(bytes, text, sizeof text), true);
}

static void print_sides(const json_t *before, const json_t *after, FILE *to)
{
    static const struct {
        const char *key, *title;
    } parts[] = {{"file", "file"},
                 {"parameters", "parameters"},
                 {"quantization", "scales and zero points"},
                 {"constants", "other constants"},
                 {"graph", "graph"}};
    struct cli_table *table = cli_table_new(3);
    cli_table_add(table, "  SIZE", false);
    cli_table_add(table, "BEFORE", true);
    cli_table_add(table, "AFTER", true);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char title[48];
        snprintf(title, sizeof title, "  %s", parts[i].title);
        cli_table_add(table, title, false);
        add_bytes(table, cli_json_number(before, parts[i].key));
        add_bytes(table, cli_json_number(after, parts[i].key));
    }
    cli_table_print(table, to);
    cli_table_free(table);
    if (cli_json_number(after, "shared") > 0) {
        char saved[32];
        fprintf(to, "  %.0f shared tensors are stored once, which saves %s\n",
                cli_json_number(after, "shared"),
                cli_bytes(cli_json_number(after, "shared_saved"), saved, sizeof saved));
    }
}

static void print_rows(const json_t *rows, FILE *to)
{
    static const char *const head[] = {"  TENSOR", "WAS",    "BEFORE", "IS",
                                       "AFTER",    "SCALES", "READERS"};
    struct cli_table *table = cli_table_new(7);
    for (size_t i = 0; i < 7; i++) {
        cli_table_add(table, head[i], i == 2 || i > 3);
    }
    size_t i;
    json_t *row;
    json_array_foreach (rows, i, row) {
        char text[256];
        snprintf(text, sizeof text, "  %s", cli_json_text(row, "name"));
        cli_table_add(table, text, false);
        cli_table_add(table, json_string_value(json_object_get(row, "was")), false);
        add_bytes(table, cli_json_number(row, "before"));
        cli_table_add(table, json_string_value(json_object_get(row, "is")), false);
        add_bytes(table, cli_json_number(row, "after"));
        add_bytes(table, cli_json_number(row, "quantization"));
        snprintf(text, sizeof text, "%.0f", cli_json_number(row, "readers"));
        cli_table_add(table, text, true);
    }
    cli_table_print(table, to);
    cli_table_free(table);
}

void cli_print_ledger(const json_t *ledger, FILE *to)
{
    const json_t *rows = json_object_get(ledger, "tensors");
    if (ledger == NULL) {
        return;
    }
    print_sides(json_object_get(ledger, "before"), json_object_get(ledger, "after"), to);
    if (json_array_size(rows) > 0) {
        print_rows(rows, to);
    }
}
