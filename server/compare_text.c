/* The comparison table for people, as Markdown or in columns for a terminal: headline columns
 * (unless metrics are asked for by name), human units, a speed-up with its interval, and below the
 * table the reason of each cell that has no number. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "compare.h"
#include "errors.h"
#include "jobs/asserts.h"
#include "units.h"

static void value_format(const char *unit, double value, char *text, size_t size)
{
    char number[SRV_NUMBER_SIZE];
    if (strcmp(unit, "B") == 0) {
        srv_bytes_format(value, text, size);
    } else if (strcmp(unit, "%") == 0) {
        snprintf(text, size, "%.2f %%", 100.0 * value);
    } else if (strcmp(unit, "x") == 0) {
        snprintf(text, size, "%.2fx", value);
    } else if (unit[0] != '\0') {
        snprintf(text, size, "%s %s", srv_number_format(value, number, sizeof number), unit);
    } else {
        srv_number_format(value, text, size);
    }
}

/* Where code and data happen to lie in memory moves a timing by this much, whatever the model. */
#define EVEN_MARGIN 0.02

/* The metric that stands for an end of this one's interval: "speedup_b1" has "speedup_low_b1". */
static const struct store_metric *interval_end(const struct srv_table_row *row,
                                               const struct srv_table_column *column,
                                               const char *end)
{
    char name[SRV_CELL_SIZE];
    snprintf(name, sizeof name, "%s_%s%s", column->info->name, end,
             column->name + strlen(column->info->name));
    return srv_table_cell(row, name);
}

static void cell_format(const struct srv_table_row *row, const struct srv_table_column *column,
                        char *text, size_t size)
{
    const struct store_metric *cell = srv_table_cell(row, column->name);
    if (!srv_cell_has(cell)) {
        snprintf(text, size, "–");
        return;
    }
    value_format(column->info->unit, cell->value, text, size);
    const struct store_metric *low = interval_end(row, column, "low");
    const struct store_metric *high = interval_end(row, column, "high");
    if (row->step->seq == 0 || !srv_cell_has(low) || !srv_cell_has(high)) {
        return;
    }
    const size_t n = strlen(text);
    const bool same = low->value <= 1 + EVEN_MARGIN && high->value >= 1 - EVEN_MARGIN;
    snprintf(text + n, size - n, same ? " (%.2f–%.2f: no difference)" : " (%.2f–%.2f)", low->value,
             high->value);
}

/* "static", or "2. prune_unstructured" in a job with several passes. */
static void step_format(const struct srv_table_row *row, char *text, size_t size)
{
    if (row->source->steps.n > 2 && row->step->seq > 0) {
        snprintf(text, size, "%" PRId64 ". %s", row->step->seq, row->step->pass);
    } else {
        snprintf(text, size, "%s", row->step->pass);
    }
}

static void job_format(const struct srv_table_row *row, char *text, size_t size)
{
    const struct store_job *job = &row->source->job;
    snprintf(text, size, "%.80s",
             row->step->seq == 0    ? ""
             : job->name[0] != '\0' ? job->name
                                    : job->id);
}

enum { LEAD_COLUMNS = 3 }; /* model, job, step */

/* Cell (r, c) as text; r 0 = the head. */
static void grid_cell(const struct srv_table *table, size_t r, size_t c, char *text, size_t size)
{
    static const char *const heads[LEAD_COLUMNS] = {"Model", "Job", "Step"};
    const struct srv_table_row *row = r > 0 ? &table->rows.v[r - 1] : NULL;
    if (c >= LEAD_COLUMNS) {
        const struct srv_table_column *column = &table->columns.v[c - LEAD_COLUMNS];
        if (row == NULL) {
            srv_table_title(column, text, size);
        } else {
            cell_format(row, column, text, size);
        }
    } else if (row == NULL) {
        snprintf(text, size, "%s", heads[c]);
    } else if (c == 0) {
        snprintf(text, size, "%.90s", row->source->job.model_name);
    } else if (c == 1) {
        job_format(row, text, size);
    } else {
        step_format(row, text, size);
    }
}

/* Characters, not bytes: "–" is one. */
static size_t text_width(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

static void pad(struct shr_buf *text, const char *fill, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        shr_buf_puts(text, fill);
    }
}

static void render_rule(struct shr_buf *text, const size_t *widths, size_t n_columns, bool markdown)
{
    for (size_t c = 0; c < n_columns; c++) {
        const bool right = c >= LEAD_COLUMNS;
        if (markdown) {
            shr_buf_puts(text, "|");
            pad(text, "-", widths[c] + (right ? 1 : 2));
            shr_buf_puts(text, right ? ":" : "");
        } else {
            pad(text, "─", widths[c] + (c + 1 < n_columns ? 2 : 0));
        }
    }
    shr_buf_puts(text, markdown ? "|\n" : "\n");
}

/* Numbers stand right, texts left, in both formats. */
static void render_line(struct shr_buf *text, const struct srv_table *table, size_t r,
                        const size_t *widths, size_t n_columns, bool markdown)
{
    for (size_t c = 0; c < n_columns; c++) {
        char cell[SRV_CELL_SIZE];
        grid_cell(table, r, c, cell, sizeof cell);
        const size_t gap = widths[c] - text_width(cell);
        const bool right = c >= LEAD_COLUMNS;
        const bool is_last = c + 1 == n_columns;
        shr_buf_puts(text, markdown ? "| " : "");
        pad(text, " ", right ? gap : 0);
        shr_buf_puts(text, cell);
        pad(text, " ", right || (is_last && !markdown) ? 0 : gap);
        shr_buf_puts(text, markdown ? " " : is_last ? "" : "  ");
    }
    shr_buf_puts(text, markdown ? "|\n" : "\n");
}

/* Was the same said of an earlier cell of this metric? */
static bool is_repeated(const struct srv_table *table, size_t row, size_t column, const char *why)
{
    for (size_t i = 0; i <= row; i++) {
        const size_t end = i == row ? column : table->columns.n;
        for (size_t k = 0; k < end; k++) {
            const struct srv_table_column *c = &table->columns.v[k];
            const struct store_metric *cell = srv_table_cell(&table->rows.v[i], c->name);
            if (c->info == table->columns.v[column].info &&
                srv_cell_needs_reason(&table->rows.v[i], cell) &&
                strcmp(srv_cell_why(&table->rows.v[i], cell), why) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void render_reasons(struct shr_buf *text, const struct srv_table *table, bool markdown)
{
    bool any = false;
    for (size_t i = 0; i < table->rows.n; i++) {
        const struct srv_table_row *row = &table->rows.v[i];
        for (size_t k = 0; k < table->columns.n; k++) {
            const struct srv_table_column *column = &table->columns.v[k];
            const struct store_metric *cell = srv_table_cell(row, column->name);
            if (!srv_cell_needs_reason(row, cell) ||
                is_repeated(table, i, k, srv_cell_why(row, cell))) {
                continue;
            }
            shr_buf_puts(text, any ? "" : markdown ? "\nNot measured:\n\n" : "\nNot measured:\n");
            any = true;
            shr_buf_printf(text, "- %s: %s\n", column->info->title, srv_cell_why(row, cell));
        }
    }
}

int srv_table_grid(const struct srv_table *table, bool markdown, struct shr_buf *text,
                   struct shr_err *err)
{
    const size_t n_columns = LEAD_COLUMNS + table->columns.n;
    size_t *widths = shr_mem_new(n_columns, sizeof *widths);
    if (widths == NULL) {
        return srv_nomem(err);
    }
    for (size_t r = 0; r <= table->rows.n; r++) {
        for (size_t c = 0; c < n_columns; c++) {
            char cell[SRV_CELL_SIZE];
            grid_cell(table, r, c, cell, sizeof cell);
            const size_t width = text_width(cell);
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    render_line(text, table, 0, widths, n_columns, markdown);
    render_rule(text, widths, n_columns, markdown);
    for (size_t r = 1; r <= table->rows.n; r++) {
        render_line(text, table, r, widths, n_columns, markdown);
    }
    render_reasons(text, table, markdown);
    shr_mem_free(widths);
    return SHR_OK;
}
