/* The comparison table: what the steps of chosen jobs measured, beside their originals.
 *
 * A row for each original, once for the same bytes, and one for each step. Columns, titles and
 * units are those of the engine's metric table, in its order; a latency has a column for each batch
 * size. JSON and CSV carry all that was measured, as numbers; Markdown and text are for people:
 * headline columns (unless metrics are asked for by name), human units, a speed-up with its
 * interval, and below the table the reason of each cell that has no number. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/vec.h"
#include "engine/shrink.h"
#include "errors.h"
#include "jobs/asserts.h"
#include "jsonx.h"
#include "srv.h"
#include "units.h"
#include "views.h"

enum { MAX_JOBS = 100, CELL_SIZE = 96 };

struct source { /* a job with its steps */
    struct store_job job;
    struct store_steps steps;
};

struct row {
    const struct source *source;
    const struct store_step *step;
};

struct column {
    const char *name; /* of the metric, with its batch */
    const struct shr_metric_info *info;
    size_t rank;   /* of info in the metric table */
    int64_t batch; /* 0 = none */
};

struct table { /* all zero = empty */
    SHR_VEC(struct source) sources;
    SHR_VEC(struct row) rows;
    SHR_VEC(struct column) columns;
};

static void table_finish(struct table *table)
{
    for (size_t i = 0; i < table->sources.n; i++) {
        store_job_finish(&table->sources.v[i].job);
        store_steps_finish(&table->sources.v[i].steps);
    }
    SHR_VEC_FINISH(&table->sources);
    SHR_VEC_FINISH(&table->rows);
    SHR_VEC_FINISH(&table->columns);
}

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

static int add_source(struct srv *srv, struct table *table, const char *id, struct shr_err *err)
{
    for (size_t i = 0; i < table->sources.n; i++) {
        if (strcmp(table->sources.v[i].job.id, id) == 0) {
            return SHR_OK; /* named twice, shown once */
        }
    }
    struct source *source = SHR_VEC_ADD(&table->sources);
    if (source == NULL) {
        return srv_nomem(err);
    }
    int code = store_job_get(srv->store, id, &source->job, err);
    if (code == SHR_OK) {
        code = store_step_list(srv->store, id, &source->steps, err);
    }
    if (code != SHR_OK) {
        shr_err_prefix(err, "ids: ");
    }
    return code;
}

static int add_sources(struct srv *srv, struct table *table, const char *ids, struct shr_err *err)
{
    int code = SHR_OK;
    for (const char *at = ids; code == SHR_OK && *at != '\0';) {
        const size_t n = strcspn(at, ",");
        char id[STORE_ID_SIZE + 1];
        if (n == 0 || n >= sizeof id) {
            return shr_err_set(err, SHR_ERR_INVALID, "ids: \"%.*s\" is not the id of a job",
                               (int)(n < 64 ? n : 64), at);
        }
        if (table->sources.n == MAX_JOBS) {
            return shr_err_set(err, SHR_ERR_INVALID, "ids: more than %d jobs", MAX_JOBS);
        }
        memcpy(id, at, n);
        id[n] = '\0';
        code = add_source(srv, table, id, err);
        at += n + (at[n] == ',');
    }
    return code;
}

static bool has_original(const struct table *table, const char *sha256)
{
    for (size_t i = 0; i < table->rows.n; i++) {
        const struct store_step *step = table->rows.v[i].step;
        if (step->seq == 0 && strcmp(step->sha256, sha256) == 0) {
            return true;
        }
    }
    return false;
}

static int add_row(struct table *table, const struct source *source, const struct store_step *step,
                   struct shr_err *err)
{
    if (step->seq == 0 && has_original(table, step->sha256)) {
        return SHR_OK;
    }
    struct row *row = SHR_VEC_ADD(&table->rows);
    if (row == NULL) {
        return srv_nomem(err);
    }
    *row = (struct row){source, step};
    return SHR_OK;
}

/* The baseline's original first, then each job's original and steps. */
static int add_rows(struct table *table, const char *baseline, struct shr_err *err)
{
    const struct source *first = table->sources.v;
    for (size_t i = 0; baseline != NULL && i < table->sources.n; i++) {
        if (strcmp(table->sources.v[i].job.id, baseline) == 0) {
            first = &table->sources.v[i];
        }
    }
    if (baseline != NULL && strcmp(first->job.id, baseline) != 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "baseline: \"%.64s\" is not among the ids",
                           baseline);
    }
    int code = first->steps.n > 0 ? add_row(table, first, &first->steps.v[0], err) : SHR_OK;
    for (size_t i = 0; i < table->sources.n; i++) {
        const struct source *source = &table->sources.v[i];
        for (size_t k = 0; code == SHR_OK && k < source->steps.n; k++) {
            code = add_row(table, source, &source->steps.v[k], err);
        }
    }
    return code;
}

/* ── Columns ────────────────────────────────────────────────────────────────────────────────── */

static int64_t batch_of(const char *name, const struct shr_metric_info *info)
{
    const char *rest = name + strlen(info->name);
    return rest[0] == '\0' ? 0 : strtoll(rest + 2, NULL, 10);
}

/* Is the name or its stem in the comma-separated list? */
static bool is_listed(const char *list, const struct column *column)
{
    for (const char *at = list; *at != '\0';) {
        const size_t n = strcspn(at, ",");
        if ((strlen(column->name) == n && memcmp(at, column->name, n) == 0) ||
            (strlen(column->info->name) == n && memcmp(at, column->info->name, n) == 0)) {
            return true;
        }
        at += n + (at[n] == ',');
    }
    return false;
}

static int check_metrics(const char *list, struct shr_err *err)
{
    for (const char *at = list; *at != '\0';) {
        const size_t n = strcspn(at, ",");
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        if (job_metric_find(name) == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "metrics: there is no metric \"%s\"", name);
        }
        at += n + (at[n] == ',');
    }
    return SHR_OK;
}

static int add_column(struct table *table, const char *name, const char *wanted, bool for_people,
                      struct shr_err *err)
{
    struct column column = {.name = name, .info = job_metric_find(name)};
    if (column.info == NULL) {
        return SHR_OK; /* a metric of an older version */
    }
    column.batch = batch_of(name, column.info);
    while (shr_metric_at(column.rank) != column.info) {
        column.rank++;
    }
    const bool shown =
        wanted != NULL ? is_listed(wanted, &column) : !for_people || column.info->headline;
    for (size_t i = 0; i < table->columns.n; i++) {
        if (strcmp(table->columns.v[i].name, name) == 0) {
            return SHR_OK;
        }
    }
    struct column *added = shown ? SHR_VEC_ADD(&table->columns) : NULL;
    if (added != NULL) {
        *added = column;
    }
    return shown && added == NULL ? srv_nomem(err) : SHR_OK;
}

static int by_rank(const void *a, const void *b)
{
    const struct column *x = a;
    const struct column *y = b;
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return x->batch < y->batch ? -1 : x->batch > y->batch;
}

static int add_columns(struct table *table, const char *wanted, bool for_people,
                       struct shr_err *err)
{
    int code = wanted != NULL ? check_metrics(wanted, err) : SHR_OK;
    for (size_t i = 0; i < table->rows.n; i++) {
        const struct store_step *step = table->rows.v[i].step;
        for (size_t k = 0; code == SHR_OK && k < step->n_metrics; k++) {
            code = add_column(table, step->metrics[k].name, wanted, for_people, err);
        }
    }
    if (code == SHR_OK && table->columns.n > 0) {
        qsort(table->columns.v, table->columns.n, sizeof *table->columns.v, by_rank);
    }
    return code;
}

static const struct store_metric *cell_find(const struct row *row, const char *name)
{
    for (size_t i = 0; i < row->step->n_metrics; i++) {
        if (strcmp(row->step->metrics[i].name, name) == 0) {
            return &row->step->metrics[i];
        }
    }
    return NULL;
}

static bool cell_has(const struct store_metric *cell)
{
    return cell != NULL && cell->measured && isfinite(cell->value);
}

static const char *cell_why(const struct row *row, const struct store_metric *cell)
{
    if (cell != NULL) {
        return cell->measured ? "the figure is not finite" : cell->why;
    }
    return row->step->seq == 0 ? "the original is what others are compared with"
                               : "the job did not ask for it";
}

/* Figures that an original cannot have need no excuse. */
static bool cell_needs_reason(const struct row *row, const struct store_metric *cell)
{
    return !cell_has(cell) && (cell != NULL || row->step->seq > 0);
}

/* ── JSON ───────────────────────────────────────────────────────────────────────────────────── */

static void title_format(const struct column *column, char *text, size_t size)
{
    if (column->batch > 0) {
        snprintf(text, size, "%s b%" PRId64, column->info->title, column->batch);
    } else {
        snprintf(text, size, "%s", column->info->title);
    }
}

static json_t *column_json(const struct column *column)
{
    char title[CELL_SIZE];
    title_format(column, title, sizeof title);
    return json_pack("{s:s, s:s, s:s, s:i, s:s}", "name", column->name, "title", title, "unit",
                     column->info->unit, "better", column->info->better, "help",
                     column->info->help);
}

static json_t *row_json(const struct table *table, const struct row *row)
{
    json_t *cells = json_object();
    json_t *why = json_object();
    bool ok = cells != NULL && why != NULL;
    for (size_t i = 0; ok && i < table->columns.n; i++) {
        const char *name = table->columns.v[i].name;
        const struct store_metric *cell = cell_find(row, name);
        const bool has = cell_has(cell);
        ok = srv_json_put(cells, name,
                          has ? srv_figure_json(table->columns.v[i].info, cell->value)
                              : json_null()) &&
             (has || srv_json_put(why, name, json_string(cell_why(row, cell))));
    }
    json_t *json = json_object();
    ok = srv_json_put(json, "cells", cells) && ok;
    ok = srv_json_put(json, "why", why) && ok;
    ok = ok && srv_json_put(json, "job", json_string(row->source->job.id)) &&
         srv_json_put(json, "job_name", json_string(row->source->job.name)) &&
         srv_json_put(json, "model", json_string(row->source->job.model_name)) &&
         srv_json_put(json, "step", json_integer((json_int_t)row->step->seq)) &&
         srv_json_put(json, "pass", json_string(row->step->pass)) &&
         srv_json_put(json, "sha256", json_string(row->step->sha256)) &&
         srv_json_put(json, "bytes", json_integer((json_int_t)row->step->bytes));
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static int render_json(const struct table *table, struct shr_buf *text, struct shr_err *err)
{
    json_t *columns = json_array();
    json_t *rows = json_array();
    bool ok = columns != NULL && rows != NULL;
    for (size_t i = 0; ok && i < table->columns.n; i++) {
        ok = json_array_append_new(columns, column_json(&table->columns.v[i])) == 0;
    }
    for (size_t i = 0; ok && i < table->rows.n; i++) {
        ok = json_array_append_new(rows, row_json(table, &table->rows.v[i])) == 0;
    }
    json_t *json = json_object();
    ok = srv_json_put(json, "columns", columns) && ok;
    ok = srv_json_put(json, "rows", rows) && ok;
    char *dump = ok ? srv_json_dump(json) : NULL;
    json_decref(json);
    if (dump == NULL) {
        return srv_nomem(err);
    }
    shr_buf_printf(text, "%s\n", dump);
    shr_mem_free(dump);
    return SHR_OK;
}

/* ── CSV (RFC 4180) ─────────────────────────────────────────────────────────────────────────── */

static void render_csv(const struct table *table, struct shr_buf *text)
{
    /* no field needs quotes: names and ids have neither commas nor quotes nor line ends */
    shr_buf_puts(text, "model,job,job_name,step,pass");
    for (size_t i = 0; i < table->columns.n; i++) {
        shr_buf_printf(text, ",%s", table->columns.v[i].name);
    }
    shr_buf_puts(text, "\r\n");
    for (size_t i = 0; i < table->rows.n; i++) {
        const struct row *row = &table->rows.v[i];
        shr_buf_printf(text, "%s,%s,%s,%" PRId64 ",%s", row->source->job.model_name,
                       row->source->job.id, row->source->job.name, row->step->seq, row->step->pass);
        for (size_t k = 0; k < table->columns.n; k++) {
            const struct store_metric *cell = cell_find(row, table->columns.v[k].name);
            if (cell_has(cell)) {
                shr_buf_printf(text, ",%.12g", cell->value);
            } else {
                shr_buf_puts(text, ",");
            }
        }
        shr_buf_puts(text, "\r\n");
    }
}

/* ── For people ─────────────────────────────────────────────────────────────────────────────── */

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
static const struct store_metric *interval_end(const struct row *row, const struct column *column,
                                               const char *end)
{
    char name[CELL_SIZE];
    snprintf(name, sizeof name, "%s_%s%s", column->info->name, end,
             column->name + strlen(column->info->name));
    return cell_find(row, name);
}

static void cell_format(const struct row *row, const struct column *column, char *text, size_t size)
{
    const struct store_metric *cell = cell_find(row, column->name);
    if (!cell_has(cell)) {
        snprintf(text, size, "–");
        return;
    }
    value_format(column->info->unit, cell->value, text, size);
    const struct store_metric *low = interval_end(row, column, "low");
    const struct store_metric *high = interval_end(row, column, "high");
    if (row->step->seq == 0 || !cell_has(low) || !cell_has(high)) {
        return;
    }
    const size_t n = strlen(text);
    const bool same = low->value <= 1 + EVEN_MARGIN && high->value >= 1 - EVEN_MARGIN;
    snprintf(text + n, size - n, same ? " (%.2f–%.2f: no difference)" : " (%.2f–%.2f)", low->value,
             high->value);
}

/* "static", or "2. prune_unstructured" in a job with several passes. */
static void step_format(const struct row *row, char *text, size_t size)
{
    if (row->source->steps.n > 2 && row->step->seq > 0) {
        snprintf(text, size, "%" PRId64 ". %s", row->step->seq, row->step->pass);
    } else {
        snprintf(text, size, "%s", row->step->pass);
    }
}

static void job_format(const struct row *row, char *text, size_t size)
{
    const struct store_job *job = &row->source->job;
    snprintf(text, size, "%.80s",
             row->step->seq == 0    ? ""
             : job->name[0] != '\0' ? job->name
                                    : job->id);
}

enum { LEAD_COLUMNS = 3 }; /* model, job, step */

/* Cell (r, c) as text; r 0 = the head. */
static void grid_cell(const struct table *table, size_t r, size_t c, char *text, size_t size)
{
    static const char *const heads[LEAD_COLUMNS] = {"Model", "Job", "Step"};
    const struct row *row = r > 0 ? &table->rows.v[r - 1] : NULL;
    if (c >= LEAD_COLUMNS) {
        const struct column *column = &table->columns.v[c - LEAD_COLUMNS];
        if (row == NULL) {
            title_format(column, text, size);
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
static void render_line(struct shr_buf *text, const struct table *table, size_t r,
                        const size_t *widths, size_t n_columns, bool markdown)
{
    for (size_t c = 0; c < n_columns; c++) {
        char cell[CELL_SIZE];
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
static bool is_repeated(const struct table *table, size_t row, size_t column, const char *why)
{
    for (size_t i = 0; i <= row; i++) {
        const size_t end = i == row ? column : table->columns.n;
        for (size_t k = 0; k < end; k++) {
            const struct column *c = &table->columns.v[k];
            const struct store_metric *cell = cell_find(&table->rows.v[i], c->name);
            if (c->info == table->columns.v[column].info &&
                cell_needs_reason(&table->rows.v[i], cell) &&
                strcmp(cell_why(&table->rows.v[i], cell), why) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void render_reasons(struct shr_buf *text, const struct table *table, bool markdown)
{
    bool any = false;
    for (size_t i = 0; i < table->rows.n; i++) {
        const struct row *row = &table->rows.v[i];
        for (size_t k = 0; k < table->columns.n; k++) {
            const struct column *column = &table->columns.v[k];
            const struct store_metric *cell = cell_find(row, column->name);
            if (!cell_needs_reason(row, cell) || is_repeated(table, i, k, cell_why(row, cell))) {
                continue;
            }
            shr_buf_puts(text, any ? "" : markdown ? "\nNot measured:\n\n" : "\nNot measured:\n");
            any = true;
            shr_buf_printf(text, "- %s: %s\n", column->info->title, cell_why(row, cell));
        }
    }
}

static int render_grid(const struct table *table, bool markdown, struct shr_buf *text,
                       struct shr_err *err)
{
    const size_t n_columns = LEAD_COLUMNS + table->columns.n;
    size_t *widths = shr_mem_new(n_columns, sizeof *widths);
    if (widths == NULL) {
        return srv_nomem(err);
    }
    for (size_t r = 0; r <= table->rows.n; r++) {
        for (size_t c = 0; c < n_columns; c++) {
            char cell[CELL_SIZE];
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

/* ── The call ───────────────────────────────────────────────────────────────────────────────── */

int srv_compare(struct srv *srv, const struct srv_compare_query *query,
                enum srv_table_format format, struct shr_buf *ret_text, struct shr_err *err)
{
    const bool for_people = format == SRV_TABLE_MARKDOWN || format == SRV_TABLE_TEXT;
    struct table table = {0};
    int code = SHR_OK;
    if (query->ids == NULL || query->ids[0] == '\0') {
        code = shr_err_set(err, SHR_ERR_INVALID, "ids: is missing");
    }
    if (code == SHR_OK) {
        code = add_sources(srv, &table, query->ids, err);
    }
    if (code == SHR_OK) {
        code = add_rows(&table, query->baseline, err);
    }
    if (code == SHR_OK) {
        code = add_columns(&table, query->metrics, for_people, err);
    }
    if (code == SHR_OK && format == SRV_TABLE_JSON) {
        code = render_json(&table, ret_text, err);
    } else if (code == SHR_OK && format == SRV_TABLE_CSV) {
        render_csv(&table, ret_text);
    } else if (code == SHR_OK) {
        code = render_grid(&table, format == SRV_TABLE_MARKDOWN, ret_text, err);
    }
    table_finish(&table);
    return code != SHR_OK ? code : shr_buf_failed(ret_text) ? srv_nomem(err) : SHR_OK;
}
