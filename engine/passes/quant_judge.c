/* Judging quantized models; see quant_judge.h. */
#include "passes/quant_judge.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "core/rng.h"
#include "eval/eval.h"

enum { BATCH = 32 };
static const int64_t most_outputs = (int64_t)16 << 20; /* floats of the original that are kept */

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the outputs of samples");
}

/* The first n of a random order of all (Fisher and Yates). */
static int draw(struct shr_judge *j, struct shr_err *err)
{
    const int64_t total = j->data->samples;
    struct shr_rng rng;
    shr_rng_init(&rng, j->ctx != NULL ? j->ctx->seed : 0);
    j->rows = shr_mem_new((size_t)total + 1, sizeof *j->rows);
    for (int64_t i = 0; i < total && j->rows != NULL; i++) {
        j->rows[i] = i;
    }
    for (int64_t i = 0; i < j->n && j->rows != NULL; i++) {
        const int64_t k = i + (int64_t)shr_rng_below(&rng, (uint64_t)(total - i));
        const int64_t chosen = j->rows[k];
        j->rows[k] = j->rows[i];
        j->rows[i] = chosen;
    }
    return j->rows != NULL ? SHR_OK : no_memory(err);
}

/* With as large a batch as the job's memory allows. */
static int start(const struct shr_judge *j, const struct shr_model *model, int64_t samples,
                 struct shr__runner *ret, struct shr_err *err)
{
    int64_t batch = samples < BATCH ? samples : BATCH;
    int code = shr__runner_init(ret, model, j->data, batch, j->ctx, err);
    for (; code == SHR_ERR_LIMIT && batch > 1; batch /= 2) {
        code = shr__runner_init(ret, model, j->data, batch / 2, j->ctx, err);
    }
    return code;
}

/* Called with the first output of samples first … first + count - 1 of the judge. */
typedef void (*see_fn)(void *user, int64_t first, int64_t count, const float *y);

static int run(const struct shr_judge *j, struct shr__runner *r, int64_t samples, see_fn see,
               void *user, struct shr_err *err)
{
    const struct shr_tensor *out = shr_plan_output(r->plan, 0);
    for (int64_t at = 0; at < samples; at += r->batch) {
        const int64_t count = samples - at < r->batch ? samples - at : r->batch;
        int code = shr_ctx_poll(j->ctx, err);
        if (code == SHR_OK) {
            code = shr_feed_fill_list(r->feed, j->rows + at, count, r->inputs, r->n_inputs, err);
        }
        if (code == SHR_OK) {
            code = shr_plan_run(r->plan, j->ctx, err);
        }
        if (code != SHR_OK) {
            return code;
        }
        see(user, at, count, out->data);
    }
    return SHR_OK;
}

/* ── The original ───────────────────────────────────────────────────────────────────────────── */

static int32_t largest(const float *y, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        best = y[i] > y[best] ? i : best;
    }
    return (int32_t)best;
}

static void keep(void *user, int64_t first, int64_t count, const float *y)
{
    struct shr_judge *j = user;
    memcpy(j->original + first * j->width, y, (size_t)(count * j->width) * sizeof *y);
    const int64_t each = j->classes > 1 ? j->width / j->classes : 0;
    for (int64_t i = 0; i < count * each; i++) {
        j->wanted[first * each + i] = j->labels ? j->data->labels[j->rows[first + i]]
                                                : largest(y + i * j->classes, j->classes);
    }
}

/* Labels count where each sample gives one class. */
static int look_at_output(struct shr_judge *j, const struct shr__runner *r, struct shr_err *err)
{
    const struct shr_tensor *out = shr_plan_output(r->plan, 0);
    if (out->dtype != SHR_DTYPE_F32) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "the first output is of %s, not float32",
                           shr_dtype_name(out->dtype));
    }
    j->width = r->width;
    j->classes = out->rank > 1 ? out->dim[out->rank - 1] : 1;
    j->labels = j->data->labels != NULL && j->classes > 1 && j->width == j->classes;
    if (j->width == 0 || j->n == 0) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "the first output is empty");
    }
    const int64_t room = most_outputs / j->width;
    j->n = j->n < room ? j->n : room > 0 ? room : 1;
    j->original = shr_mem_new((size_t)(j->n * j->width), sizeof *j->original);
    j->wanted = shr_mem_new((size_t)(j->n * j->width), sizeof *j->wanted);
    return j->original != NULL && j->wanted != NULL ? SHR_OK : no_memory(err);
}

int shr_judge_init(struct shr_judge *ret, const struct shr_pass_call *call, int64_t samples,
                   struct shr_err *err)
{
    struct shr_judge j = {.data = call->calibrate, .ctx = call->ctx};
    struct shr__runner runner = {0};
    j.n = samples < j.data->samples ? samples : j.data->samples;
    int code = draw(&j, err);
    if (code == SHR_OK) {
        code = start(&j, call->model, j.n, &runner, err);
    }
    if (code == SHR_OK) {
        code = look_at_output(&j, &runner, err);
    }
    if (code == SHR_OK) {
        code = run(&j, &runner, j.n, keep, &j, err);
    }
    shr__runner_finish(&runner);
    if (code != SHR_OK) {
        shr_judge_finish(&j);
        return code;
    }
    *ret = j;
    return SHR_OK;
}

void shr_judge_finish(struct shr_judge *judge)
{
    shr_mem_free(judge->rows);
    shr_mem_free(judge->original);
    shr_mem_free(judge->wanted);
    *judge = (struct shr_judge){0};
}

/* ── Others ─────────────────────────────────────────────────────────────────────────────────── */

struct sums {
    const struct shr_judge *judge;
    double signal, noise;
    int64_t right, classes;
};

static void compare(void *user, int64_t first, int64_t count, const float *y)
{
    struct sums *s = user;
    const struct shr_judge *j = s->judge;
    const float *original = j->original + first * j->width;
    for (int64_t i = 0; i < count * j->width; i++) {
        const double x = (double)original[i], error = x - (double)y[i];
        s->signal += x * x;
        s->noise += error * error;
    }
    const int64_t each = j->classes > 1 ? j->width / j->classes : 0;
    for (int64_t i = 0; i < count * each; i++) {
        s->right += largest(y + i * j->classes, j->classes) == j->wanted[first * each + i];
    }
    s->classes += count * each;
}

int shr_judge_model(const struct shr_judge *j, const struct shr_model *model, int64_t samples,
                    struct shr_verdict *ret, struct shr_err *err)
{
    struct sums sums = {.judge = j};
    struct shr__runner runner = {0};
    const int64_t n = samples < j->n ? samples : j->n;
    int code = SHR_OK;
    if (model == NULL) {
        compare(&sums, 0, n, j->original);
    } else {
        code = start(j, model, n, &runner, err);
        if (code == SHR_OK && runner.width != j->width) {
            code = shr_err_set(err, SHR_ERR_INTERNAL, "quantization changed the shape of outputs");
        }
        if (code == SHR_OK) {
            code = run(j, &runner, n, compare, &sums, err);
        }
        shr__runner_finish(&runner);
    }
    if (code == SHR_OK) {
        ret->sqnr_db = sums.noise == 0        ? INFINITY
                       : isfinite(sums.noise) ? 10 * log10(sums.signal / sums.noise)
                                              : -INFINITY;
        ret->score = sums.classes > 0 ? (double)sums.right / (double)sums.classes : 0;
    }
    return code;
}

const char *shr_judge_score_name(const struct shr_judge *judge)
{
    return judge->labels ? "accuracy" : "agreement";
}
