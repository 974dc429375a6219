/* Inside of evaluation: figures, statistics, predictions and timing.
 *
 * Every figure is measured on a model as it was loaded from its bytes. What cannot be measured
 * becomes a metric with a reason; only cancellation, memory and broken bytes are errors. */
#ifndef SHR_EVAL_EVAL_H
#define SHR_EVAL_EVAL_H

#include "base/vec.h"
#include "core/rng.h"
#include "data/dataset.h"
#include "exec/plan.h"

/* ── metrics.c ──────────────────────────────────────────────────────────────────────────────── */

int shr__metric_set(struct shr_metrics *m, double value, struct shr_err *err, const char *name, ...)
    SHR_PRINTF(4, 5);
/* Not measured, because of why. */
int shr__metric_miss(struct shr_metrics *m, const char *why, struct shr_err *err, const char *name,
                     ...) SHR_PRINTF(4, 5);

/* ── counts.c ───────────────────────────────────────────────────────────────────────────────── */

struct shr__counts {
    int64_t parameters; /* elements of weights and biases as trained */
    int64_t nonzero;    /* of them, not zero; quantized: not the zero point */
};

void shr__count_parameters(const struct shr_model *model, struct shr__counts *ret);

/* Multiply-accumulates of one sample; UNSUPPORTED names what is not known. */
int shr__count_macs(const struct shr_model *model, int64_t *ret_macs,
                    struct shr_err *err) SHR_MUSTCHECK;

/* Bytes after gzip at level 6, as a download would be. */
int shr__gzip_bytes(const void *bytes, size_t n, size_t *ret, struct shr_err *err) SHR_MUSTCHECK;

/* ── stats.c ────────────────────────────────────────────────────────────────────────────────── */

/* Reorder v. n >= 1. Quantiles interpolate linearly between neighbours (type 7). */
double shr__median(double *v, size_t n);
double shr__quantile(double *v, size_t n, double q);

/* 95 % percentile bootstrap interval of the median of v (n >= 1); scratch holds n. */
void shr__bootstrap_median(const double *v, size_t n, double *scratch, struct shr_rng *rng,
                           double *ret_low, double *ret_high);

/* ── predict.c ──────────────────────────────────────────────────────────────────────────────── */

struct shr__runner { /* a plan and what feeds it; all zero = empty */
    struct shr_plan *plan;
    struct shr_feed *feed;
    struct shr_tensor **inputs;
    size_t n_inputs;
    int64_t batch; /* rows of a run: as asked, or as the model fixes them */
    int64_t width; /* elements of a row of the first output */
};

typedef void (*shr__tick_fn)(void *user, int64_t samples);

int shr__runner_init(struct shr__runner *ret, const struct shr_model *model,
                     const struct shr_dataset *data, int64_t batch, const struct shr_ctx *ctx,
                     struct shr_err *err) SHR_MUSTCHECK;
/* Writes (count, width) floats: the first output of samples first … first+count-1. */
int shr__runner_predict(struct shr__runner *runner, int64_t first, int64_t count, float *out,
                        shr__tick_fn tick, void *user, const struct shr_ctx *ctx,
                        struct shr_err *err) SHR_MUSTCHECK;
void shr__runner_finish(struct shr__runner *runner);

/* ── bench.c ────────────────────────────────────────────────────────────────────────────────── */

struct shr__timing {
    double median_ms, p95_ms;
};

struct shr__bench {
    struct shr__timing original, candidate;
    double speedup, low, high; /* original / candidate, median of pairs and its 95 % interval */
    size_t n;                  /* timings of each */
};

typedef void (*shr__share_fn)(void *user, double share); /* 0 … 1 of the time is over */

/* Times plans in turn: original, candidate, original, … candidate may be NULL. Inputs are filled
 * by the caller. */
int shr__bench_run(struct shr_plan *original, struct shr_plan *candidate, double seconds,
                   shr__share_fn told, void *user, const struct shr_ctx *ctx,
                   struct shr__bench *ret, struct shr_err *err) SHR_MUSTCHECK;

/* ── progress.c ─────────────────────────────────────────────────────────────────────────────── */

enum { SHR__LATENCY_TICKS = 100 }; /* of progress for each batch size */

struct shr__progress {
    const struct shr_ctx *ctx;
    uint64_t done, base, total;
};

struct shr__progress shr__progress_begin(const struct shr_eval *eval, const struct shr_ctx *ctx);
void shr__progress_samples(void *progress, int64_t samples); /* so many more are done */
void shr__progress_share(void *progress, double share);      /* of the present batch size */
/* The next group begins at this point, however far the last one came. */
void shr__progress_jump(struct shr__progress *progress, uint64_t done);

/* ── evaluate.c, latency.c ──────────────────────────────────────────────────────────────────── */

struct shr__predictions {
    float *v; /* (samples, width) or NULL */
    int64_t width;
    char why[SHR_ERR_MESSAGE_SIZE]; /* why v is NULL */
};

struct shr_eval {
    struct shr_eval_opts opts;
    struct shr_model *original;
    size_t bytes, gzip_bytes;
    int64_t samples; /* to look at; 0 without data */
    struct shr__predictions predictions;
};

/* Errors that end an evaluation; all others are the reason why something was not measured. */
bool shr__eval_is_fatal(int code);

/* candidate NULL: the original itself. */
int shr__measure_latency(const struct shr_eval *eval, const struct shr_model *candidate,
                         struct shr__progress *progress, struct shr_metrics *m,
                         struct shr_err *err) SHR_MUSTCHECK;

#endif
