/* The recipe: a job as the client describes it, checked, with all defaults filled in.
 *
 * The pass table of the engine is the only truth about passes and parameters; errors carry the full
 * path of the field ("pipeline[1].amount: 1.7 is not in [0, 1]"). The canonical text of a recipe
 * parses to the same recipe: it is what the store keeps, what the artifacts carry, and what repeats
 * a job. Thread: any. */
#ifndef SRV_JOBS_RECIPE_H
#define SRV_JOBS_RECIPE_H

#include <jansson.h>

#include "base/arena.h"
#include "engine/shrink.h"
#include "jobs/asserts.h"

enum { JOB_PATH = 96 }; /* bytes of "pipeline[1].student.model" */
enum { JOB_MAX_PASSES = 32, JOB_MAX_BATCHES = 8, JOB_MAX_ASSERTS = 64, JOB_MAX_METRICS = 64 };

enum job_data { JOB_DATA_TRAIN, JOB_DATA_CALIBRATE, JOB_DATA_EVALUATE, JOB_DATA_COUNT };

struct job_recipe { /* all zero = empty */
    struct shr_arena arena;
    const char *name, *model;
    size_t n_passes;
    struct shr_args passes[JOB_MAX_PASSES];
    const char *data[JOB_DATA_COUNT]; /* names or ids, NULL = none */
    size_t n_metrics;                 /* 0 = all that can be measured */
    const char *metrics[JOB_MAX_METRICS];
    bool latency;
    int64_t batch[JOB_MAX_BATCHES];
    size_t n_batch;
    int64_t latency_threads;
    double latency_seconds;
    int64_t samples; /* 0 = all */
    size_t n_asserts;
    struct job_assert asserts[JOB_MAX_ASSERTS];
    int64_t seed, threads;
    uint64_t max_memory; /* 0 = the daemon's limit */
};

extern const char *const job_data_names[JOB_DATA_COUNT]; /* "train", "calibrate", "evaluate" */

int job_recipe_parse(json_t *job, int64_t max_threads, struct job_recipe *ret,
                     struct shr_err *err) SHR_MUSTCHECK;
void job_recipe_finish(struct job_recipe *recipe);

/* Does pass i name a model? Then its name, and the path of the field. */
bool job_recipe_model(const struct job_recipe *recipe, size_t i, const char **ret_name,
                      char ret_path[JOB_PATH]);

/* The canonical form: every field and every parameter; NULL when out of memory. */
json_t *job_recipe_json(const struct job_recipe *recipe);

/* Its pipeline alone, of the first n passes. */
json_t *job_recipe_pipeline_json(const struct job_recipe *recipe, size_t n);

#endif
