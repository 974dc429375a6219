/* The comparison table: what the steps of chosen jobs measured, beside their originals.
 *
 * A row for each original, once for the same bytes, and one for each step. Columns, titles and
 * units are those of the engine's metric table, in its order; a latency has a column for each batch
 * size. How it is written: compare_data.c and compare_text.c. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "errors.h"
#include "jobs/asserts.h"
#include "srv.h"

enum { MAX_JOBS = 100 };

static void table_finish(struct srv_table *table)
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

static int add_source(struct srv *srv, struct srv_table *table, const char *id, struct shr_err *err)
{
    for (size_t i = 0; i < table->sources.n; i++) {
        if (strcmp(table->sources.v[i].job.id, id) == 0) {
            return SHR_OK; /* named twice, shown once */
        }
    }
    struct srv_table_source *source = SHR_VEC_ADD(&table->sources);
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

static int add_sources(struct srv *srv, struct srv_table *table, const char *ids,
                       struct shr_err *err)
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

static bool has_original(const struct srv_table *table, const char *sha256)
{
    for (size_t i = 0; i < table->rows.n; i++) {
        const struct store_step *step = table->rows.v[i].step;
        if (step->seq == 0 && strcmp(step->sha256, sha256) == 0) {
            return true;
        }
    }
    return false;
}

static int add_row(struct srv_table *table, const struct srv_table_source *source,
                   const struct store_step *step, struct shr_err *err)
{
    if (step->seq == 0 && has_original(table, step->sha256)) {
        return SHR_OK;
    }
    struct srv_table_row *row = SHR_VEC_ADD(&table->rows);
    if (row == NULL) {
        return srv_nomem(err);
    }
    *row = (struct srv_table_row){source, step};
    return SHR_OK;
}

/* The baseline's original first, then each job's original and steps. */
static int add_rows(struct srv_table *table, const char *baseline, struct shr_err *err)
{
    const struct srv_table_source *first = table->sources.v;
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
        const struct srv_table_source *source = &table->sources.v[i];
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
static bool is_listed(const char *list, const struct srv_table_column *column)
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

static int add_column(struct srv_table *table, const char *name, const char *wanted,
                      bool for_people, struct shr_err *err)
{
    struct srv_table_column column = {.name = name, .info = job_metric_find(name)};
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
    struct srv_table_column *added = shown ? SHR_VEC_ADD(&table->columns) : NULL;
    if (added != NULL) {
        *added = column;
    }
    return shown && added == NULL ? srv_nomem(err) : SHR_OK;
}

static int by_rank(const void *a, const void *b)
{
    const struct srv_table_column *x = a;
    const struct srv_table_column *y = b;
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return x->batch < y->batch ? -1 : x->batch > y->batch;
}

static int add_columns(struct srv_table *table, const char *wanted, bool for_people,
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

/* ── Cells ──────────────────────────────────────────────────────────────────────────────────── */

const struct store_metric *srv_table_cell(const struct srv_table_row *row, const char *name)
{
    for (size_t i = 0; i < row->step->n_metrics; i++) {
        if (strcmp(row->step->metrics[i].name, name) == 0) {
            return &row->step->metrics[i];
        }
    }
    return NULL;
}

bool srv_cell_has(const struct store_metric *cell)
{
    return cell != NULL && cell->measured && isfinite(cell->value);
}

const char *srv_cell_why(const struct srv_table_row *row, const struct store_metric *cell)
{
    if (cell != NULL) {
        return cell->measured ? "the figure is not finite" : cell->why;
    }
    return row->step->seq == 0 ? "the original is what others are compared with"
                               : "the job did not ask for it";
}

bool srv_cell_needs_reason(const struct srv_table_row *row, const struct store_metric *cell)
{
    return !srv_cell_has(cell) && (cell != NULL || row->step->seq > 0);
}
void srv_table_title(const struct srv_table_column *column, char *text, size_t size)
{
    if (column->batch > 0) {
        snprintf(text, size, "%s b%" PRId64, column->info->title, column->batch);
    } else {
        snprintf(text, size, "%s", column->info->title);
    }
}

/* ── The call ───────────────────────────────────────────────────────────────────────────────── */

int srv_compare(struct srv *srv, const struct srv_compare_query *query,
                enum srv_table_format format, struct shr_buf *ret_text, struct shr_err *err)
{
    const bool for_people = format == SRV_TABLE_MARKDOWN || format == SRV_TABLE_TEXT;
    struct srv_table table = {0};
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
        code = srv_table_json(&table, ret_text, err);
    } else if (code == SHR_OK && format == SRV_TABLE_CSV) {
        srv_table_csv(&table, ret_text);
    } else if (code == SHR_OK) {
        code = srv_table_grid(&table, format == SRV_TABLE_MARKDOWN, ret_text, err);
    }
    table_finish(&table);
    return code != SHR_OK ? code : shr_buf_failed(ret_text) ? srv_nomem(err) : SHR_OK;
}
