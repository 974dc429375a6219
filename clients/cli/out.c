/* What shrinkctl prints: tables, numbers, errors; and the options of commands. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

struct cell {
    char *text;
    bool right;
};

struct cli_table {
    size_t columns, n, cap;
    struct cell *cells;
};

void cli_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("shrinkctl: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

/* Running out of memory in a command line program leaves nothing sensible to do. */
static void *must_have(void *p)
{
    if (p == NULL) {
        cli_error("out of memory");
        exit(CLI_LOCAL);
    }
    return p;
}

struct cli_table *cli_table_new(size_t columns)
{
    struct cli_table *table = must_have(calloc(1, sizeof *table));
    table->columns = columns;
    return table;
}

void cli_table_add(struct cli_table *table, const char *text, bool right)
{
    if (table->n == table->cap) {
        table->cap = table->cap == 0 ? 64 : table->cap * 2;
        table->cells = must_have(realloc(table->cells, table->cap * sizeof *table->cells));
    }
    table->cells[table->n++] = (struct cell){must_have(strdup(text == NULL ? "–" : text)), right};
}

/* Columns on the screen: bytes that begin a UTF-8 character. */
static size_t width(const char *text)
{
    size_t n = 0;
    for (; *text != 0; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

static void print_cell(const struct cell *cell, size_t wide, bool is_last, FILE *to)
{
    size_t pad = wide - width(cell->text);
    if (cell->right) {
        fprintf(to, "%*s%s", (int)pad, "", cell->text);
    } else {
        fprintf(to, "%s%*s", cell->text, is_last ? 0 : (int)pad, "");
    }
    fputs(is_last ? "\n" : "  ", to);
}

void cli_table_print(const struct cli_table *table, FILE *to)
{
    size_t *wide = must_have(calloc(table->columns, sizeof *wide));
    for (size_t i = 0; i < table->n; i++) {
        size_t w = width(table->cells[i].text);
        if (w > wide[i % table->columns]) {
            wide[i % table->columns] = w;
        }
    }
    for (size_t i = 0; i < table->n; i++) {
        size_t column = i % table->columns;
        struct cell cell = table->cells[i];
        if (i < table->columns && i + table->columns < table->n) {
            cell.right = table->cells[i + table->columns].right; /* the head stands as its column */
        }
        print_cell(&cell, wide[column], column + 1 == table->columns, to);
    }
    free(wide);
}

void cli_table_free(struct cli_table *table)
{
    for (size_t i = 0; i < table->n; i++) {
        free(table->cells[i].text);
    }
    free(table->cells);
    free(table);
}

void cli_print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

const char *cli_bytes(double bytes, char *text, size_t size)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 1000 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1000;
        unit++;
    }
    snprintf(text, size, unit == 0 ? "%.0f %s" : "%.2f %s", bytes, units[unit]);
    return text;
}

const char *cli_count(double n, char *text, size_t size)
{
    char plain[64];
    snprintf(plain, sizeof plain, "%.0f", fabs(n));
    size_t digits = strlen(plain), at = 0;
    if (n < 0 && size > 1) {
        text[at++] = '-';
    }
    for (size_t i = 0; i < digits && at + 2 < size; i++) {
        text[at++] = plain[i];
        if ((digits - i) % 3 == 1 && i + 1 < digits) {
            text[at++] = ',';
        }
    }
    text[at] = 0;
    return text;
}

const char *cli_json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

double cli_json_number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static struct cli_option *find_option(struct cli_option *options, size_t n, const char *name,
                                      size_t length)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(options[i].name) == length && strncmp(options[i].name, name, length) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

bool cli_options(int argc, char **argv, struct cli_option *options, size_t n, int *ret_words)
{
    int words = 0;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (arg[0] != '-' || arg[1] == 0) {
            argv[words++] = argv[i];
            continue;
        }
        const char *name = arg + (arg[1] == '-' ? 2 : 1);
        const char *equals = strchr(name, '=');
        size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
        struct cli_option *option = find_option(options, n, name, length);
        if (option == NULL) {
            cli_error("%s: no such option here", arg);
            return false;
        }
        char *value = argv[i];
        if (!option->is_flag && equals != NULL) {
            value = argv[i] + (equals - arg) + 1;
        } else if (!option->is_flag) {
            if (++i >= argc) {
                cli_error("%s: its value is missing", arg);
                return false;
            }
            value = argv[i];
        }
        option->values =
            must_have(realloc(option->values, (option->n + 1) * sizeof *option->values));
        option->values[option->n++] = value;
    }
    *ret_words = words;
    return true;
}

bool cli_no_more(char **argv, int words, int most)
{
    if (words > most) {
        cli_error("%s: one word too many", argv[most]);
    }
    return words <= most;
}

bool cli_one_word(char **argv, int words)
{
    if (words == 0) {
        cli_error("a name or an id is missing");
    }
    return words > 0 && cli_no_more(argv, words, 1);
}

void cli_options_free(struct cli_option *options, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(options[i].values);
    }
}

const char *cli_option_get(const struct cli_option *option)
{
    return option->n == 0 ? NULL : option->values[option->n - 1];
}

char *cli_query(const char *path, const struct cli_option *options, size_t n)
{
    char *query = must_have(strdup(path));
    char mark = strchr(path, '?') == NULL ? '?' : '&';
    for (size_t i = 0; i < n; i++) {
        if (options[i].n == 0) {
            continue;
        }
        char *value = cli_escape(cli_option_get(&options[i])), *longer = NULL;
        if (asprintf(&longer, "%s%c%s=%s", query, mark, options[i].name, value) < 0) {
            must_have(NULL);
        }
        free(value);
        free(query);
        query = longer;
        mark = '&';
    }
    return query;
}
