/* Measuring a model against its original; see shrink.h.
 *
 * DESIGN. The original is loaded once and its outputs on the dataset are kept; a candidate is
 * reloaded from the bytes it was saved as, so that the file is judged and not what is in memory.
 * Each group of figures (predictions, one batch size of latency) either appears as a whole or
 * carries one reason in each of its metrics. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval/eval.h"
#include "ops/op.h"

enum { PREDICT_BATCH = 64 };

/* ── Predictions ────────────────────────────────────────────────────────────────────────────── */

bool shr__eval_is_fatal(int code)
{
    return code == SHR_ERR_CANCELLED || code == SHR_ERR_NOMEM;
}

static int predict_into(struct shr__predictions *p, struct shr__runner *runner, int64_t samples,
                        struct shr__progress *progress, struct shr_err *err)
{
    size_t n;
    if (!shr_size_mul((size_t)samples, (size_t)runner->width, &n)) {
        return shr_err_set(err, SHR_ERR_LIMIT, "the outputs of the model do not fit in memory");
    }
    p->v = shr_mem_new(n == 0 ? 1 : n, sizeof *p->v);
    if (p->v == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the outputs of the model");
    }
    p->width = runner->width;
    return shr__runner_predict(runner, 0, samples, p->v, shr__progress_samples, progress,
                               progress->ctx, err);
}

static int predict(const struct shr_eval *eval, const struct shr_model *model,
                   struct shr__progress *progress, struct shr__predictions *ret,
                   struct shr_err *err)
{
    *ret = (struct shr__predictions){0};
    struct shr_err why = {0};
    struct shr__runner runner = {0};
    int rc = shr__runner_init(&runner, model, eval->opts.data, PREDICT_BATCH, progress->ctx, &why);
    if (rc == 0) {
        rc = predict_into(ret, &runner, eval->samples, progress, &why);
    }
    shr__runner_finish(&runner);
    if (rc != 0) {
        shr_mem_free(ret->v);
        ret->v = NULL;
        if (shr__eval_is_fatal(rc)) {
            return shr_err_set(err, rc, "%s", why.msg);
        }
        snprintf(ret->why, sizeof ret->why, "%s", why.msg);
    }
    return SHR_OK;
}

static int64_t argmax(const float *row, int64_t width)
{
    int64_t best = 0;
    for (int64_t i = 1; i < width; i++) {
        best = row[i] > row[best] ? i : best;
    }
    return best;
}

/* Is the label among the k largest? Of equal outputs the earlier class ranks first. */
static bool in_top(const float *row, int64_t width, int64_t label, int64_t k)
{
    if (label >= width || !(row[label] == row[label])) {
        return false;
    }
    int64_t above = 0;
    for (int64_t i = 0; i < width; i++) {
        above += row[i] > row[label] || (row[i] == row[label] && i < label);
    }
    return above < k;
}

static const char *accuracy_obstacle(const struct shr_eval *eval, const struct shr__predictions *p)
{
    if (eval->opts.data->labels == NULL) {
        return "the dataset has no labels";
    }
    if (p->v == NULL) {
        return p->why;
    }
    return p->width < eval->opts.data->n_classes ? "the labels name more classes than the model has"
                                                 : NULL;
}

static int measure_accuracy(const struct shr_eval *eval, const struct shr__predictions *p,
                            struct shr_metrics *m, struct shr_err *err)
{
    enum { TOP = 5 };
    const char *why = accuracy_obstacle(eval, p);
    if (why != NULL) {
        int rc = shr__metric_miss(m, why, err, "accuracy");
        return rc != 0 ? rc : shr__metric_miss(m, why, err, "top5_accuracy");
    }
    int64_t right = 0, top = 0;
    for (int64_t i = 0; i < eval->samples; i++) {
        const float *row = p->v + i * p->width;
        int64_t label = eval->opts.data->labels[i];
        right += argmax(row, p->width) == label;
        top += in_top(row, p->width, label, TOP);
    }
    double n = (double)eval->samples;
    int rc = shr__metric_set(m, (double)right / n, err, "accuracy");
    if (rc != 0) {
        return rc;
    }
    return p->width > TOP ? shr__metric_set(m, (double)top / n, err, "top5_accuracy")
                          : shr__metric_miss(m, "the model has no more than five classes", err,
                                             "top5_accuracy");
}

static double sqnr_db(const float *reference, const float *v, int64_t n)
{
    double signal = 0, noise = 0;
    for (int64_t i = 0; i < n; i++) {
        double difference = (double)reference[i] - v[i];
        signal += (double)reference[i] * reference[i];
        noise += difference * difference;
    }
    return 10 * log10(signal / noise);
}

static int measure_likeness(const struct shr_eval *eval, const struct shr__predictions *p,
                            struct shr_metrics *m, struct shr_err *err)
{
    const struct shr__predictions *o = &eval->predictions;
    char why[2 * SHR_ERR_MESSAGE_SIZE] = "";
    if (o->v == NULL) {
        snprintf(why, sizeof why, "the original: %s", o->why);
    } else if (p->v == NULL) {
        snprintf(why, sizeof why, "%s", p->why);
    } else if (p->width != o->width) {
        snprintf(why, sizeof why, "the outputs have %" PRId64 " elements a sample, not %" PRId64,
                 p->width, o->width);
    }
    if (why[0] != '\0') {
        int rc = shr__metric_miss(m, why, err, "agreement");
        return rc != 0 ? rc : shr__metric_miss(m, why, err, "sqnr_db");
    }

    int64_t same = 0;
    for (int64_t i = 0; i < eval->samples; i++) {
        same += argmax(p->v + i * p->width, p->width) == argmax(o->v + i * o->width, o->width);
    }
    int rc = shr__metric_set(m, (double)same / (double)eval->samples, err, "agreement");
    if (rc != 0) {
        return rc;
    }
    double db = sqnr_db(o->v, p->v, eval->samples * o->width);
    return isfinite(db)
               ? shr__metric_set(m, db, err, "sqnr_db")
               : shr__metric_miss(m, "the ratio is not finite (equal outputs have no noise)", err,
                                  "sqnr_db");
}

/* ── Sizes and counts ───────────────────────────────────────────────────────────────────────── */

static int measure_parameters(const struct shr_model *model, struct shr_metrics *m,
                              struct shr_err *err)
{
    struct shr__counts counts;
    shr__count_parameters(model, &counts);
    int rc = shr__metric_set(m, (double)counts.parameters, err, "parameters");
    if (rc == 0) {
        rc = shr__metric_set(m, (double)counts.nonzero, err, "nonzero_parameters");
    }
    if (rc != 0) {
        return rc;
    }
    if (counts.parameters == 0) {
        return shr__metric_miss(m, "the model has no parameters", err, "sparsity");
    }
    return shr__metric_set(m, 1 - (double)counts.nonzero / (double)counts.parameters, err,
                           "sparsity");
}

/* What needs shapes but no run: a clone with batch 1, and a plan of it. */
static int measure_work(const struct shr_model *model, const struct shr_ctx *ctx,
                        struct shr_metrics *m, struct shr_err *err)
{
    struct shr_err why = {0};
    int64_t macs = 0;
    int rc = shr__count_macs(model, &macs, &why);
    if (rc != 0 && shr__eval_is_fatal(rc)) {
        return shr_err_set(err, rc, "%s", why.msg);
    }
    rc = rc == 0 ? shr__metric_set(m, (double)macs, err, "macs")
                 : shr__metric_miss(m, why.msg, err, "macs");
    if (rc != 0) {
        return rc;
    }

    struct shr__runner runner = {0};
    rc = shr__runner_init(&runner, model, NULL, 1, ctx, &why);
    if (rc != 0 && shr__eval_is_fatal(rc)) {
        return shr_err_set(err, rc, "%s", why.msg);
    }
    rc = rc == 0 ? shr__metric_set(m,
                                   (double)shr_plan_arena_bytes(runner.plan) +
                                       (double)shr_plan_weight_bytes(runner.plan),
                                   err, "peak_memory_bytes")
                 : shr__metric_miss(m, why.msg, err, "peak_memory_bytes");
    shr__runner_finish(&runner);
    return rc;
}

static int measure_sizes(const struct shr_eval *eval, size_t bytes, size_t gzip_bytes,
                         struct shr_metrics *m, struct shr_err *err)
{
    int rc = shr__metric_set(m, (double)bytes, err, "size_bytes");
    if (rc == 0) {
        rc = shr__metric_set(m, (double)gzip_bytes, err, "gzip_bytes");
    }
    if (rc == 0) {
        rc = shr__metric_set(m, (double)eval->bytes / (double)bytes, err, "compression");
    }
    return rc;
}

/* ── The whole ──────────────────────────────────────────────────────────────────────────────── */

static int measure_model(const struct shr_eval *eval, const struct shr_model *model, size_t bytes,
                         size_t gzip_bytes, const struct shr_ctx *ctx, struct shr_metrics *m,
                         struct shr_err *err)
{
    int rc = measure_sizes(eval, bytes, gzip_bytes, m, err);
    if (rc == 0) {
        rc = measure_parameters(model, m, err);
    }
    if (rc == 0) {
        rc = measure_work(model, ctx, m, err);
    }
    return rc;
}

static int load(const void *bytes, size_t n, struct shr_model **ret, struct shr_err *err)
{
    int rc = shr_model_load(bytes, n, NULL, ret, err);
    if (rc == 0) {
        shr_model_resolve(*ret);
    }
    return rc;
}

int shr_eval_new(const void *bytes, size_t n, const struct shr_eval_opts *opts,
                 const struct shr_ctx *ctx, struct shr_eval **ret_eval, struct shr_err *err)
{
    struct shr_eval *eval = shr_mem_new(1, sizeof *eval);
    if (eval == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for an evaluation");
    }
    eval->opts = *opts;
    eval->bytes = n;
    if (opts->data != NULL) {
        int64_t all = opts->data->samples;
        eval->samples = opts->max_samples > 0 && opts->max_samples < all ? opts->max_samples : all;
    }
    int rc = load(bytes, n, &eval->original, err);
    if (rc == 0) {
        rc = shr__gzip_bytes(bytes, n, &eval->gzip_bytes, err);
    }
    if (rc == 0 && opts->data != NULL) {
        struct shr__progress progress = {.ctx = ctx, .total = (uint64_t)eval->samples};
        rc = predict(eval, eval->original, &progress, &eval->predictions, err);
    }
    if (rc != 0) {
        shr_eval_free(eval);
        return rc;
    }
    *ret_eval = eval;
    return SHR_OK;
}

int shr_eval_original(struct shr_eval *eval, const struct shr_ctx *ctx,
                      struct shr_metrics *ret_metrics, struct shr_err *err)
{
    struct shr_metrics m = {0};
    struct shr__progress progress = shr__progress_begin(eval, ctx);
    int rc = measure_model(eval, eval->original, eval->bytes, eval->gzip_bytes, ctx, &m, err);
    if (rc == 0 && eval->opts.data != NULL) {
        rc = measure_accuracy(eval, &eval->predictions, &m, err);
    }
    if (rc == 0) {
        rc = shr__measure_latency(eval, NULL, &progress, &m, err);
    }
    if (rc != 0) {
        shr_metrics_finish(&m);
        return rc;
    }
    *ret_metrics = m;
    return SHR_OK;
}

static int measure_outputs(const struct shr_eval *eval, const struct shr_model *model,
                           struct shr__progress *progress, struct shr_metrics *m,
                           struct shr_err *err)
{
    struct shr__predictions predictions;
    int rc = predict(eval, model, progress, &predictions, err);
    if (rc == 0) {
        rc = measure_accuracy(eval, &predictions, m, err);
    }
    if (rc == 0) {
        rc = measure_likeness(eval, &predictions, m, err);
    }
    shr_mem_free(predictions.v);
    return rc;
}

int shr_eval_measure(struct shr_eval *eval, const void *bytes, size_t n, const struct shr_ctx *ctx,
                     struct shr_metrics *ret_metrics, struct shr_err *err)
{
    struct shr_model *model = NULL;
    struct shr_metrics m = {0};
    struct shr__progress progress = shr__progress_begin(eval, ctx);
    size_t gzip_bytes = 0;
    int rc = load(bytes, n, &model, err);
    if (rc == 0) {
        rc = shr__gzip_bytes(bytes, n, &gzip_bytes, err);
    }
    if (rc == 0) {
        rc = measure_model(eval, model, n, gzip_bytes, ctx, &m, err);
    }
    if (rc == 0 && eval->opts.data != NULL) {
        rc = measure_outputs(eval, model, &progress, &m, err);
    }
    if (rc == 0) {
        rc = shr__measure_latency(eval, model, &progress, &m, err);
    }
    shr_model_free(model);
    if (rc != 0) {
        shr_metrics_finish(&m);
        return rc;
    }
    *ret_metrics = m;
    return SHR_OK;
}

void shr_eval_free(struct shr_eval *eval)
{
    if (eval == NULL) {
        return;
    }
    shr_model_free(eval->original);
    shr_mem_free(eval->predictions.v);
    shr_mem_free(eval);
}
