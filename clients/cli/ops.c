/* shrinkctl ops: the operator table of the engine that this program is linked with. No server. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "engine/shrink.h"

static int compare(const void *a, const void *b)
{
    const struct shr_op_info *x = a, *y = b;
    int order = strcmp(x->domain, y->domain);
    order = order != 0 ? order : strcmp(x->name, y->name);
    return order != 0 ? order : x->since - y->since;
}

static struct shr_op_info *sorted_rows(size_t *ret_n)
{
    size_t n = shr_op_count();
    struct shr_op_info *rows = malloc((n + 1) * sizeof *rows);
    if (rows == NULL) {
        cli_error("out of memory");
        exit(CLI_LOCAL);
    }
    for (size_t i = 0; i < n; i++) {
        rows[i] = shr_op_at(i);
    }
    qsort(rows, n, sizeof *rows, compare);
    *ret_n = n;
    return rows;
}

static const char *domain_of(const struct shr_op_info *row)
{
    return row->domain[0] == '\0' ? "ai.onnx" : row->domain;
}

static void print_rows(void)
{
    size_t n;
    struct shr_op_info *rows = sorted_rows(&n);
    struct cli_table *table = cli_table_new(3);
    cli_table_add(table, "DOMAIN", false);
    cli_table_add(table, "OPERATOR", false);
    cli_table_add(table, "OPSETS", false);
    for (size_t i = 0; i < n; i++) {
        char opsets[32];
        if (rows[i].until == 0) {
            snprintf(opsets, sizeof opsets, "%d and later", rows[i].since);
        } else {
            snprintf(opsets, sizeof opsets, "%d to %d", rows[i].since, rows[i].until);
        }
        cli_table_add(table, domain_of(&rows[i]), false);
        cli_table_add(table, rows[i].name, false);
        cli_table_add(table, opsets, false);
    }
    cli_table_print(table, stdout);
    cli_table_free(table);
    free(rows);
    printf("\n%zu operators of ai.onnx do not run: shrinkctl ops --missing\n",
           shr_op_absent_count());
}

static void print_missing(void)
{
    struct cli_table *table = cli_table_new(2);
    cli_table_add(table, "OPERATOR", false);
    cli_table_add(table, "WHY IT DOES NOT RUN", false);
    for (size_t i = 0; i < shr_op_absent_count(); i++) {
        cli_table_add(table, shr_op_absent_at(i).name, false);
        cli_table_add(table, shr_op_absent_at(i).why, false);
    }
    cli_table_print(table, stdout);
    cli_table_free(table);
}

static json_t *rows_json(void)
{
    size_t n;
    struct shr_op_info *rows = sorted_rows(&n);
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *row = json_pack("{s:s, s:s, s:i}", "domain", domain_of(&rows[i]), "name",
                                rows[i].name, "since", rows[i].since);
        json_object_set_new(row, "until",
                            rows[i].until == 0 ? json_null() : json_integer(rows[i].until));
        json_array_append_new(all, row);
    }
    free(rows);
    return all;
}

static json_t *missing_json(void)
{
    json_t *all = json_array();
    for (size_t i = 0; i < shr_op_absent_count(); i++) {
        json_array_append_new(all, json_pack("{s:s, s:s}", "name", shr_op_absent_at(i).name,
                                             "reason", shr_op_absent_at(i).why));
    }
    return all;
}

int cli_ops(const struct cli *cli, int argc, char **argv)
{
    struct cli_option missing = {.name = "missing", .is_flag = true};
    int words;
    if (!cli_options(argc, argv, &missing, 1, &words) || !cli_no_more(argv, words, 0)) {
        cli_options_free(&missing, 1);
        return CLI_USAGE;
    }
    const bool only_missing = missing.n > 0;
    cli_options_free(&missing, 1);
    if (cli->json) {
        json_t *all = json_object();
        if (!only_missing) {
            json_object_set_new(all, "operators", rows_json());
        }
        json_object_set_new(all, "missing", missing_json());
        cli_print_json(all);
        json_decref(all);
    } else if (only_missing) {
        print_missing();
    } else {
        print_rows();
    }
    return CLI_OK;
}
