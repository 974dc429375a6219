/* Calibration: what values go through a model when it sees real samples.
 *
 * Samples are drawn without replacement by the seed and run through the model in batches; each
 * observer sees one value of the graph. What observers hold does not grow with the number of
 * samples and does not depend on the batches: every sample is seen once and whole. (Rounding may:
 * of sums for means, and of kernels where memory suffices for fewer than four samples.) Thread:
 * one. */
#ifndef SHR_PASSES_CALIBRATE_H
#define SHR_PASSES_CALIBRATE_H

#include "graph/graph.h"
#include "passes/histogram.h"

struct shr_observer {
    const char *name; /* of a float32 value */
    struct shr_histogram histogram;
    /* Means along an axis, for bias correction; -1 = not wanted. */
    int channel_axis;
    int64_t channels;
    double *sum;     /* (channels); made here */
    uint64_t counts; /* values of each channel */
    /* Sees the value instead, if set. count < batch only in a model of a fixed batch: count rows of
     * a first axis of size batch are real then. */
    int (*see)(void *user, const struct shr_tensor *t, int64_t count, int64_t batch,
               struct shr_err *err);
    void *user;
};

enum { SHR_CALIBRATION_BATCH = 8 }; /* little memory, and as fast as more */

struct shr_calibration {
    size_t n;
    struct shr_observer *v;
    int64_t batch;   /* the most samples of a run, for speed alone */
    int64_t samples; /* that were seen */
    int64_t *rows;   /* (samples) which, of the dataset, in the order in which they were seen */
};

/* n observers, all empty, and their names unset. */
int shr_calibration_init(struct shr_calibration *ret, size_t n, struct shr_err *err) SHR_MUSTCHECK;
void shr_calibration_finish(struct shr_calibration *c);

/* In a plan (ctx) nothing is seen and each value has some range, no sums and no rows.
 * max_memory: bytes for the plan and the observers, 0 = no limit; LIMIT tells what is needed. */
int shr_calibrate(struct shr_calibration *c, const struct shr_model *model,
                  const struct shr_dataset *data, int64_t samples, size_t max_memory,
                  const struct shr_ctx *ctx, struct shr_err *err) SHR_MUSTCHECK;

#endif
