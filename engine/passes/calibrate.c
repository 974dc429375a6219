/* Calibration; see calibrate.h. */
#include "passes/calibrate.h"

#include "base/mem.h"
#include "core/rng.h"
#include "data/dataset.h"
#include "exec/plan.h"

enum {
    BATCH = 8
}; /* all values of a batch are held: more of them cost memory and win little time */

int shr_calibration_init(struct shr_calibration *ret, size_t n, struct shr_err *err)
{
    struct shr_calibration c = {.n = n, .v = shr_mem_new(n + 1, sizeof *c.v)};
    if (c.v == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %zu histograms", n);
    }
    for (size_t i = 0; i < n; i++) {
        c.v[i].channel_axis = -1;
    }
    *ret = c;
    return SHR_OK;
}

void shr_calibration_finish(struct shr_calibration *c)
{
    for (size_t i = 0; i < c->n; i++) {
        shr_mem_free(c->v[i].sum);
    }
    shr_mem_free(c->v);
    shr_mem_free(c->rows);
    *c = (struct shr_calibration){0};
}

/* The first `samples` of a random order of all (Fisher and Yates), in ascending order: reading
 * forward is kinder to memory, and what is counted does not depend on the order. */
static int draw(int64_t total, int64_t samples, uint64_t seed, int64_t **ret, struct shr_err *err)
{
    int64_t *order = shr_mem_new((size_t)total, sizeof *order);
    if (order == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a choice of %lld samples",
                           (long long)total);
    }
    for (int64_t i = 0; i < total; i++) {
        order[i] = i;
    }
    struct shr_rng rng;
    shr_rng_init(&rng, seed);
    for (int64_t i = 0; i < samples; i++) {
        int64_t j = i + (int64_t)shr_rng_below(&rng, (uint64_t)(total - i));
        int64_t chosen = order[j];
        order[j] = order[i];
        order[i] = chosen;
    }
    *ret = order;
    return SHR_OK;
}

/* ── Observing ──────────────────────────────────────────────────────────────────────────────── */

static int make_sums(struct shr_observer *o, const struct shr_tensor *t, struct shr_err *err)
{
    int axis = o->channel_axis;
    if (axis < 0 || axis >= t->rank || o->sum != NULL) {
        return SHR_OK;
    }
    o->channels = t->dim[axis];
    o->sum = shr_mem_new((size_t)o->channels + 1, sizeof *o->sum);
    return o->sum != NULL ? SHR_OK : shr_err_set(err, SHR_ERR_NOMEM, "out of memory for means");
}

static void add_sums(struct shr_observer *o, const struct shr_tensor *t, size_t n)
{
    int64_t inner = 1;
    for (int d = o->channel_axis + 1; d < t->rank; d++) {
        inner *= t->dim[d];
    }
    const float *x = t->data;
    size_t runs = inner > 0 ? n / (size_t)inner : 0;
    for (size_t run = 0; run < runs; run++) {
        double sum = 0;
        for (int64_t i = 0; i < inner; i++) {
            sum += (double)*x++;
        }
        o->sum[(int64_t)run % o->channels] += sum;
    }
    o->counts += o->channels > 0 ? n / (size_t)o->channels : 0;
}

/* Rows behind `count` only fill the batch up; a value without a row a sample is seen whole. */
static int observe(struct shr_observer *o, const struct shr_tensor *t, int64_t count, int64_t batch,
                   struct shr_err *err)
{
    if (o->see != NULL) {
        return o->see(o->user, t, count, batch, err);
    }
    size_t n = (size_t)shr_tensor_count(t);
    if (t->rank > 0 && t->dim[0] == batch) {
        n = n / (size_t)batch * (size_t)count;
    }
    if (!shr_histogram_add(&o->histogram, t->data, n)) {
        return shr_err_set(err, SHR_ERR_INVALID, "value '%s' is not finite for some samples",
                           o->name);
    }
    int code = make_sums(o, t, err);
    if (code == SHR_OK && o->sum != NULL) {
        add_sums(o, t, n);
    }
    return code;
}

static int observe_all(struct shr_calibration *c, const struct shr_plan *plan, int64_t count,
                       int64_t batch, struct shr_err *err)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct shr_tensor *t = shr_plan_value(plan, c->v[i].name);
        if (t == NULL || t->dtype != SHR_DTYPE_F32) {
            return shr_err_set(err, SHR_ERR_INTERNAL, "value '%s' was not kept as float32",
                               c->v[i].name);
        }
        int code = observe(&c->v[i], t, count, batch, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

struct runner {
    struct shr_calibration *c;
    const struct shr_ctx *ctx;
    const struct shr_model *model;
    const char **keep;
    struct shr_plan *plan;
    struct shr_feed *feed;
    struct shr_tensor **inputs;
    size_t n_inputs;
    int64_t batch;
};

/* The arrays know the dims that the model leaves open. */
static int plan_for_batch(struct runner *r, struct shr_plan_opts *opts, struct shr_err *err)
{
    struct shr_type *types = NULL;
    int code = shr_feed_types(r->feed, opts->batch, &types, err);
    if (code == SHR_OK) {
        opts->inputs = types;
        code = shr_plan_new(r->model, opts, &r->plan, err);
    }
    shr_mem_free(types);
    opts->inputs = NULL;
    return code;
}

/* A plan with as large a batch as fits into the memory. */
static int make_plan(struct runner *r, int64_t samples, size_t max_memory, struct shr_err *err)
{
    size_t observers = r->c->n * sizeof *r->c->v;
    if (max_memory != 0 && observers >= max_memory) {
        return shr_err_set(err, SHR_ERR_LIMIT,
                           "max_memory: %zu bytes are too few; the histograms take %zu", max_memory,
                           observers);
    }
    struct shr_plan_opts opts = {
        .batch = shr_feed_batch(r->feed, samples < BATCH ? samples : BATCH),
        .no_fuse = true,
        .keep = r->keep,
        .n_keep = r->c->n,
        .cpu_mask = r->ctx != NULL ? r->ctx->cpu_mask : 0,
        .threads = r->ctx != NULL ? r->ctx->threads : 0,
        .max_arena = max_memory != 0 ? max_memory - observers : 0,
    };
    int code = plan_for_batch(r, &opts, err);
    while (code == SHR_ERR_LIMIT && opts.batch > 1) {
        opts.batch /= 2;
        code = plan_for_batch(r, &opts, err);
    }
    r->batch = opts.batch;
    return code;
}

static int bind_inputs(struct runner *r, struct shr_err *err)
{
    r->n_inputs = shr_plan_input_count(r->plan);
    r->inputs = shr_mem_new(r->n_inputs + 1, sizeof(struct shr_tensor *));
    if (r->inputs == NULL || r->n_inputs == 0) {
        return r->n_inputs == 0
                   ? shr_err_set(err, SHR_ERR_INVALID, "the model has no input to calibrate with")
                   : shr_err_set(err, SHR_ERR_NOMEM, "out of memory for calibration");
    }
    for (size_t i = 0; i < r->n_inputs; i++) {
        r->inputs[i] = shr_plan_input(r->plan, i);
    }
    return SHR_OK;
}

static int run_batches(struct runner *r, const int64_t *order, int64_t samples, struct shr_err *err)
{
    for (int64_t at = 0; at < samples; at += r->batch) {
        int64_t count = samples - at < r->batch ? samples - at : r->batch;
        int code = shr_ctx_poll(r->ctx, err);
        if (code == SHR_OK) {
            code = shr_feed_fill_list(r->feed, order + at, count, r->inputs, r->n_inputs, err);
        }
        if (code == SHR_OK) {
            code = shr_plan_run(r->plan, r->ctx, err);
        }
        if (code == SHR_OK) {
            code = observe_all(r->c, r->plan, count, r->batch, err);
        }
        if (code != SHR_OK) {
            return code;
        }
        shr_ctx_tell(r->ctx, "calibrate", (uint64_t)(at + count), (uint64_t)samples);
    }
    return SHR_OK;
}

/* In a plan: some range for each value, since all take as many bytes. */
static int make_up(struct shr_calibration *c, struct shr_err *err)
{
    static const float ends[] = {-1, 1};
    for (size_t i = 0; i < c->n; i++) {
        if (!shr_histogram_add(&c->v[i].histogram, ends, SHR_COUNT_OF(ends))) {
            return shr_err_set(err, SHR_ERR_INTERNAL, "the made up range is not finite");
        }
    }
    return SHR_OK;
}

int shr_calibrate(struct shr_calibration *c, const struct shr_model *model,
                  const struct shr_dataset *data, int64_t samples, size_t max_memory,
                  const struct shr_ctx *ctx, struct shr_err *err)
{
    if (ctx != NULL && ctx->plan) {
        return make_up(c, err);
    }
    struct runner r = {.c = c, .ctx = ctx, .model = model};
    int64_t *order = NULL;
    samples = samples < data->samples ? samples : data->samples;
    r.keep = shr_mem_new(c->n + 1, sizeof *r.keep);
    if (r.keep == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for calibration");
    }
    for (size_t i = 0; i < c->n; i++) {
        r.keep[i] = c->v[i].name;
    }
    int code = draw(data->samples, samples, ctx != NULL ? ctx->seed : 0, &order, err);
    if (code == SHR_OK) {
        code = shr_feed_new(data, model, &r.feed, err);
        if (code != SHR_OK) {
            shr_err_prefix(err, "data.calibrate: ");
        }
    }
    if (code == SHR_OK) {
        code = make_plan(&r, samples, max_memory, err);
    }
    if (code == SHR_OK) {
        code = bind_inputs(&r, err);
    }
    if (code == SHR_OK) {
        code = run_batches(&r, order, samples, err);
    }
    if (code == SHR_OK) {
        c->samples = samples;
        c->rows = order;
        order = NULL;
    }
    shr_mem_free(r.inputs);
    shr_mem_free(r.keep);
    shr_mem_free(order);
    shr_plan_free(r.plan);
    shr_feed_free(r.feed);
    return code;
}
