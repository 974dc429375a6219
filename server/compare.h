/* The comparison table as it is held between the calls that gather it and those that write it.
 *
 * Rows point into sources, columns into the steps' metrics; all live as long as the table. Thread:
 * the loop's. */
#ifndef SRV_COMPARE_H
#define SRV_COMPARE_H

#include "base/buf.h"
#include "base/vec.h"
#include "engine/shrink.h"
#include "storage/store.h"

enum { SRV_CELL_SIZE = 96 };

struct srv_table_source { /* a job with its steps */
    struct store_job job;
    struct store_steps steps;
};

struct srv_table_row {
    const struct srv_table_source *source;
    const struct store_step *step;
};

struct srv_table_column {
    const char *name; /* of the metric, with its batch */
    const struct shr_metric_info *info;
    size_t rank;   /* of info in the metric table */
    int64_t batch; /* 0 = none */
};

struct srv_table { /* all zero = empty */
    SHR_VEC(struct srv_table_source) sources;
    SHR_VEC(struct srv_table_row) rows;
    SHR_VEC(struct srv_table_column) columns;
};

/* What the row's step measured under a name; NULL when nothing is known. */
const struct store_metric *srv_table_cell(const struct srv_table_row *row, const char *name);
bool srv_cell_has(const struct store_metric *cell); /* a finite figure */
/* Why it has none. */
const char *srv_cell_why(const struct srv_table_row *row, const struct store_metric *cell);
/* Figures that an original cannot have need no excuse. */
bool srv_cell_needs_reason(const struct srv_table_row *row, const struct store_metric *cell);

/* A column's heading, with its batch. */
void srv_table_title(const struct srv_table_column *column, char *text, size_t size);

/* The formats; each appends to text. For programs (compare_data.c): */
int srv_table_json(const struct srv_table *table, struct shr_buf *text, struct shr_err *err);
void srv_table_csv(const struct srv_table *table, struct shr_buf *text);
/* For people (compare_text.c): Markdown, or columns for a terminal. */
int srv_table_grid(const struct srv_table *table, bool markdown, struct shr_buf *text,
                   struct shr_err *err);

#endif
