/* Views: rows of the store and reports of the engine as the JSON that clients see. A returned NULL
 * means out of memory. Thread: any. */
#ifndef SRV_VIEWS_H
#define SRV_VIEWS_H

#include <jansson.h>

#include "engine/shrink.h"
#include "jobs/curves.h"
#include "srv.h"

/* What an upload found out, stored as the item's summary. */
json_t *srv_model_summary(const struct shr_model_info *info);
json_t *srv_dataset_summary(const struct shr_dataset_info *info);

/* An item: identity, parts, times, and its summary. */
json_t *srv_item_json(enum srv_kind kind, const struct store_item *item);

/* A job in full: with steps, progress, asserts; srv_job_line for lists. */
json_t *srv_job_json(struct srv *srv, const struct store_job *job, const struct store_steps *steps);
json_t *srv_job_line(struct srv *srv, const struct store_job *job);
/* The report: a job's steps with what was done to each tensor. */
json_t *srv_report_json(struct srv *srv, const struct store_job *job,
                        const struct store_steps *steps);

/* A figure: sizes and counts as integers, null when it is not finite. */
json_t *srv_figure_json(const struct shr_metric_info *info, double value);
/* {"name": number or null, …} and, for those without a number, {"name": "why", …}. */
json_t *srv_metrics_json(const struct store_step *step);
json_t *srv_unmeasured_json(const struct store_step *step);

json_t *srv_ledger_json(const struct shr_ledger *ledger);

struct srv_plan_step {
    int step;
    const char *pass;
    size_t bytes, original; /* of this step's model and of that of the job */
    int64_t parameters;
    const struct shr_ledger *ledger; /* NULL for the original */
    const struct shr_report *report; /* of which the warnings are told */
};
json_t *srv_plan_step_json(const struct srv_plan_step *step);

/* What a pass did, and why a job failed, as text to store (shr_mem_free). step -1 = before any. */
char *srv_report_dump(const struct shr_report *report, const struct job_curves *curves,
                      const struct shr_ledger *ledger);
char *srv_problem_dump(const struct shr_err *err, int step, const char *pass);

#endif
