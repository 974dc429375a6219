/* Histograms of values that arrive in batches, and the ranges that calibration reads from them.
 *
 * Bins have a power of two as width, from -limit to limit; when a value does not fit, the limit
 * doubles and neighbouring bins merge. So the counts depend on the values only, not on their order
 * or on how they were split into batches, and memory does not grow. Thread: one at a time. */
#ifndef SHR_PASSES_HISTOGRAM_H
#define SHR_PASSES_HISTOGRAM_H

#include "shrink.h"

enum {
    SHR_HISTOGRAM_BINS = 2048,  /* on each side of 0 */
    SHR_HISTOGRAM_LEVELS = 128, /* of 8 bits on each side of 0, for shr_histogram_entropy */
};

struct shr_histogram { /* all zero = empty and valid */
    uint64_t count[2 * SHR_HISTOGRAM_BINS];
    int exponent; /* limit = 2^exponent, above every |value|; of no meaning while max_abs is 0 */
    uint64_t n, zeros; /* values, and those that are exactly 0 */
    double min, max;   /* of all values; 0, 0 when there are none */
};

/* Counts n values. False (and nothing counted) when one of them is not finite. */
bool shr_histogram_add(struct shr_histogram *h, const float *x, size_t n) SHR_MUSTCHECK;

/* The range that holds percentile % of the values: (100 - percentile) / 2 % are cut on each side,
 * to the edge of a bin and within [min, max]. */
void shr_histogram_percentile(const struct shr_histogram *h, double percentile, double *ret_min,
                              double *ret_max);

/* The threshold of |x| that loses least information (Kullback-Leibler) when what is below is put
 * on the levels that 8 bits have for it, applied to [min, max]. Exact zeros are not looked at: they
 * stay exact on any grid, and the many behind a Relu would drown the rest. */
void shr_histogram_entropy(const struct shr_histogram *h, double *ret_min, double *ret_max);

/* The range [a min, a max], 0 < a <= 1, of the least mean squared error on `levels` steps. */
void shr_histogram_mse(const struct shr_histogram *h, int levels, double *ret_min, double *ret_max);

/* Does the range cost more squared error than [min, max], on `levels` steps? The entropy of few or
 * spiky values may choose such a one: it sees shapes, not distances. */
bool shr_histogram_cuts_too_much(const struct shr_histogram *h, int levels, double min, double max);

#endif
