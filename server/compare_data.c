/* The comparison table for programs: JSON and CSV carry all that was measured, as numbers. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "compare.h"
#include "errors.h"
#include "jobs/asserts.h"
#include "jsonx.h"
#include "views.h"

/* ── JSON ───────────────────────────────────────────────────────────────────────────────────── */

static json_t *column_json(const struct srv_table_column *column)
{
    char title[SRV_CELL_SIZE];
    srv_table_title(column, title, sizeof title);
    return json_pack("{s:s, s:s, s:s, s:i, s:s}", "name", column->name, "title", title, "unit",
                     column->info->unit, "better", column->info->better, "help",
                     column->info->help);
}

static json_t *row_json(const struct srv_table *table, const struct srv_table_row *row)
{
    json_t *cells = json_object();
    json_t *why = json_object();
    bool ok = cells != NULL && why != NULL;
    for (size_t i = 0; ok && i < table->columns.n; i++) {
        const char *name = table->columns.v[i].name;
        const struct store_metric *cell = srv_table_cell(row, name);
        const bool has = srv_cell_has(cell);
        ok = srv_json_put(cells, name,
                          has ? srv_figure_json(table->columns.v[i].info, cell->value)
                              : json_null()) &&
             (has || srv_json_put(why, name, json_string(srv_cell_why(row, cell))));
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

int srv_table_json(const struct srv_table *table, struct shr_buf *text, struct shr_err *err)
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

void srv_table_csv(const struct srv_table *table, struct shr_buf *text)
{
    /* no field needs quotes: names and ids have neither commas nor quotes nor line ends */
    shr_buf_puts(text, "model,job,job_name,step,pass");
    for (size_t i = 0; i < table->columns.n; i++) {
        shr_buf_printf(text, ",%s", table->columns.v[i].name);
    }
    shr_buf_puts(text, "\r\n");
    for (size_t i = 0; i < table->rows.n; i++) {
        const struct srv_table_row *row = &table->rows.v[i];
        shr_buf_printf(text, "%s,%s,%s,%" PRId64 ",%s", row->source->job.model_name,
                       row->source->job.id, row->source->job.name, row->step->seq, row->step->pass);
        for (size_t k = 0; k < table->columns.n; k++) {
            const struct store_metric *cell = srv_table_cell(row, table->columns.v[k].name);
            if (srv_cell_has(cell)) {
                shr_buf_printf(text, ",%.12g", cell->value);
            } else {
                shr_buf_puts(text, ",");
            }
        }
        shr_buf_puts(text, "\r\n");
    }
}
