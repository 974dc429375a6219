/* Progress of a running job: from the engine's stages to one percentage that only grows.
 *
 * A job is a row of equal units: the original's evaluation, then for each pass the pass and its
 * evaluation. A unit may have several stages; each new stage takes half of what its unit has left,
 * so the percentage never falls. Thread: the worker writes, any thread reads through the lock. */
#ifndef SRV_JOBS_PROGRESS_H
#define SRV_JOBS_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum { JOB_PROGRESS_FIGURES = 8 };

struct job_figure { /* the latest of a series that the running pass tells */
    char series[32];
    double value;
};

struct job_progress_view {
    char stage[64], pass[64];
    int step, n_steps;
    uint64_t done, total;
    double percent;   /* 0 to 100 of the whole job */
    double eta_s;     /* -1 = cannot be told yet */
    size_t n_figures; /* of the present unit */
    struct job_figure figures[JOB_PROGRESS_FIGURES];
};

struct job_progress {
    uv_mutex_t lock;
    struct job_progress_view view;
    unsigned unit, n_units;
    double unit_base, unit_part; /* of the present unit: done by former stages, and by this one */
    uint64_t started_ms, told_ms;
};

int job_progress_init(struct job_progress *progress);
void job_progress_finish(struct job_progress *progress);

/* The job has n_steps passes. */
void job_progress_begin(struct job_progress *progress, int n_steps);
/* The next unit begins: part of step `step`, "original" or a pass. */
void job_progress_unit(struct job_progress *progress, int step, const char *pass);
/* A stage moves on. True when listeners should be told: the stage is new or some time went by. */
bool job_progress_set(struct job_progress *progress, const char *stage, uint64_t done,
                      uint64_t total);

/* Shown with the next progress; more series than there is room for are left out. */
void job_progress_figure(struct job_progress *progress, const char *series, double value);

void job_progress_get(struct job_progress *progress, struct job_progress_view *ret);
json_t *job_progress_json(const struct job_progress_view *view); /* NULL = out of memory */

#endif
