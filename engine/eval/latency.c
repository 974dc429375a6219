/* The latency figures of a model, alone or in turn with its original; see shrink.h and bench.c. */
#include <inttypes.h>
#include <string.h>

#include "eval/eval.h"

/* Inputs for timing without a dataset: positive floats, and integers that index anything. */
static void fill_synthetic(struct shr__runner *r)
{
    struct shr_rng rng;
    shr_rng_init(&rng, 1);
    for (size_t i = 0; i < r->n_inputs; i++) {
        struct shr_tensor *t = r->inputs[i];
        int64_t n = shr_tensor_count(t);
        memset(t->data, 0, shr_tensor_bytes(t));
        for (int64_t k = 0; shr_dtype_is_float(t->dtype) && k < n; k++) {
            shr_tensor_set(t, k, shr_rng_uniform(&rng));
        }
    }
}

static int ready(struct shr__runner *ret, const struct shr_eval *eval,
                 const struct shr_model *model, int64_t batch, const struct shr_ctx *ctx,
                 struct shr_err *err)
{
    struct shr__runner r = {0};
    int rc = shr__runner_init(&r, model, eval->opts.data, batch, ctx, err);
    if (rc == 0 && r.batch != batch) {
        rc = shr_err_set(err, SHR_ERR_UNSUPPORTED, "the model has a fixed batch of %" PRId64,
                         r.batch);
    }
    if (rc == 0 && r.feed != NULL) {
        int64_t rows = batch < eval->opts.data->samples ? batch : eval->opts.data->samples;
        rc = shr_feed_fill(r.feed, 0, rows, r.inputs, r.n_inputs, err);
    } else if (rc == 0) {
        fill_synthetic(&r);
    }
    if (rc != 0) {
        shr__runner_finish(&r);
        return rc;
    }
    *ret = r;
    return SHR_OK;
}

/* Every name of a group for a batch size, not measured because of why. */
static int miss(struct shr_metrics *m, const char *const *stems, size_t n, int64_t batch,
                const char *why, struct shr_err *err)
{
    int rc = SHR_OK;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = shr__metric_miss(m, why, err, "%s_b%" PRId64, stems[i], batch);
    }
    return rc;
}

static int miss_latency(struct shr_metrics *m, int64_t batch, const char *why, struct shr_err *err)
{
    static const char *const STEMS[] = {"latency_ms", "latency_p95_ms", "throughput"};
    return miss(m, STEMS, SHR_COUNT_OF(STEMS), batch, why, err);
}

static int miss_speedup(struct shr_metrics *m, int64_t batch, const char *why, struct shr_err *err)
{
    static const char *const STEMS[] = {"speedup", "speedup_low", "speedup_high"};
    return miss(m, STEMS, SHR_COUNT_OF(STEMS), batch, why, err);
}

static int set_latency(struct shr_metrics *m, int64_t batch, const struct shr__timing *t,
                       struct shr_err *err)
{
    int rc = shr__metric_set(m, t->median_ms, err, "latency_ms_b%" PRId64, batch);
    if (rc == 0) {
        rc = shr__metric_set(m, t->p95_ms, err, "latency_p95_ms_b%" PRId64, batch);
    }
    if (rc == 0) {
        rc = shr__metric_set(m, (double)batch * 1e3 / t->median_ms, err, "throughput_b%" PRId64,
                             batch);
    }
    return rc;
}

static int set_speedup(struct shr_metrics *m, int64_t batch, const struct shr__bench *b,
                       struct shr_err *err)
{
    int rc = shr__metric_set(m, b->speedup, err, "speedup_b%" PRId64, batch);
    if (rc == 0) {
        rc = shr__metric_set(m, b->low, err, "speedup_low_b%" PRId64, batch);
    }
    if (rc == 0) {
        rc = shr__metric_set(m, b->high, err, "speedup_high_b%" PRId64, batch);
    }
    return rc;
}

static int time_plans(const struct shr_eval *eval, struct shr_plan *first, struct shr_plan *second,
                      struct shr__progress *progress, struct shr__bench *ret, struct shr_err *err)
{
    double seconds = eval->opts.latency_seconds > 0 ? eval->opts.latency_seconds : 1;
    return shr__bench_run(first, second, seconds, shr__progress_share, progress, progress->ctx, ret,
                          err);
}

static int measure_original(const struct shr_eval *eval, int64_t batch,
                            struct shr__progress *progress, struct shr_metrics *m,
                            struct shr_err *err)
{
    struct shr__runner runner = {0};
    struct shr__bench bench;
    struct shr_err why = {0};
    int rc = ready(&runner, eval, eval->original, batch, progress->ctx, &why);
    if (rc == 0) {
        rc = time_plans(eval, runner.plan, NULL, progress, &bench, &why);
    }
    shr__runner_finish(&runner);
    if (shr__eval_is_fatal(rc)) {
        return shr_err_set(err, rc, "%s", why.msg);
    }
    return rc == 0 ? set_latency(m, batch, &bench.original, err)
                   : miss_latency(m, batch, why.msg, err);
}

/* A candidate whose original does not run is timed alone. */
static int measure_candidate(const struct shr_eval *eval, const struct shr_model *model,
                             int64_t batch, struct shr__progress *progress, struct shr_metrics *m,
                             struct shr_err *err)
{
    struct shr__runner original = {0}, own = {0};
    struct shr__bench bench;
    struct shr_err why = {0}, why_alone = {0};
    int rc = ready(&own, eval, model, batch, progress->ctx, &why), rc_original = 0;
    if (rc == 0) {
        rc_original = ready(&original, eval, eval->original, batch, progress->ctx, &why_alone);
    }
    bool pair = rc == 0 && rc_original == 0;
    if (shr__eval_is_fatal(rc_original)) {
        rc = shr_err_set(&why, rc_original, "%s", why_alone.msg);
    } else if (rc == 0) {
        rc = time_plans(eval, pair ? original.plan : own.plan, pair ? own.plan : NULL, progress,
                        &bench, &why);
    }
    shr__runner_finish(&original);
    shr__runner_finish(&own);
    if (shr__eval_is_fatal(rc)) {
        return shr_err_set(err, rc, "%s", why.msg);
    }

    int code = rc == 0 ? set_latency(m, batch, pair ? &bench.candidate : &bench.original, err)
                       : miss_latency(m, batch, why.msg, err);
    if (code == 0) {
        code = rc == 0 && pair ? set_speedup(m, batch, &bench, err)
                               : miss_speedup(m, batch, rc != 0 ? why.msg : why_alone.msg, err);
    }
    return code;
}

int shr__measure_latency(const struct shr_eval *eval, const struct shr_model *candidate,
                         struct shr__progress *progress, struct shr_metrics *m, struct shr_err *err)
{
    for (size_t i = 0; eval->opts.latency && i < eval->opts.n_latency_batch; i++) {
        shr__progress_jump(progress, (uint64_t)eval->samples + i * SHR__LATENCY_TICKS);
        int64_t batch = eval->opts.latency_batch[i];
        int rc = candidate == NULL ? measure_original(eval, batch, progress, m, err)
                                   : measure_candidate(eval, candidate, batch, progress, m, err);
        if (rc != 0) {
            return rc;
        }
    }
    shr__progress_jump(progress, progress->total);
    return SHR_OK;
}
