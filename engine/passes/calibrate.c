/* Calibration; see calibrate.h. */
#include "passes/calibrate.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/rng.h"
#include "data/dataset.h"
#include "exec/plan.h"
#include "passes/edit.h"

int shr_calibration_init(struct shr_calibration *ret, size_t n, struct shr_err *err)
{
    struct shr_calibration c = {
        .n = n, .v = shr_mem_new(n + 1, sizeof *c.v), .batch = SHR_CALIBRATION_BATCH};
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

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
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
    qsort(order, (size_t)samples, sizeof *order, ascending);
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

/* A run: which samples of the dataset the first rows are of. */
struct batch {
    const int64_t *samples; /* (count) */
    int64_t count, rows;    /* rows behind count only fill up; none are there but in a model whose
                             * inputs say how many rows they have */
};

static bool is_by_row(const struct shr_tensor *t, const struct batch *b)
{
    return t->rank > 0 && t->dim[0] == b->rows;
}

static int not_finite(const struct shr_observer *o, const struct shr_tensor *t, size_t n,
                      const struct batch *b, struct shr_err *err)
{
    const float *x = t->data;
    size_t at = 0;
    for (; at < n && isfinite(x[at]); at++) {
    }
    if (is_by_row(t, b)) {
        size_t row = at / ((size_t)shr_tensor_count(t) / (size_t)b->rows);
        return shr_err_set(err, SHR_ERR_INVALID, "value '%s' is not finite for sample %lld",
                           o->name, (long long)b->samples[row]);
    }
    return shr_err_set(err, SHR_ERR_INVALID,
                       "value '%s' is not finite for one of samples %lld to %lld", o->name,
                       (long long)b->samples[0], (long long)b->samples[b->count - 1]);
}

/* In pieces that stay in a cache from the search for the limit to the counting. */
static int count(struct shr_observer *o, const struct shr_tensor *t, size_t n,
                 const struct batch *b, const struct shr_ctx *ctx, struct shr_err *err)
{
    enum { PIECE = 1 << 16 };
    const float *x = t->data;
    for (size_t at = 0; at < n; at += PIECE) {
        int code = shr_ctx_poll(ctx, err);
        if (code != SHR_OK) {
            return code;
        }
        if (!shr_histogram_add(&o->histogram, x + at, n - at < PIECE ? n - at : PIECE)) {
            return not_finite(o, t, n, b, err);
        }
    }
    return SHR_OK;
}

static int observe(struct shr_observer *o, const struct shr_tensor *t, const struct batch *b,
                   const struct shr_ctx *ctx, struct shr_err *err)
{
    if (o->see != NULL) {
        return o->see(o->user, t, b->count, b->rows, err);
    }
    size_t n = (size_t)shr_tensor_count(t);
    if (b->count < b->rows && is_by_row(t, b)) {
        n = n / (size_t)b->rows * (size_t)b->count;
    }
    int code = count(o, t, n, b, ctx, err);
    if (code == SHR_OK) {
        code = make_sums(o, t, err);
    }
    if (code == SHR_OK && o->sum != NULL) {
        add_sums(o, t, n);
    }
    return code;
}

static int observe_all(struct shr_calibration *c, const struct shr_plan *plan,
                       const struct batch *b, const struct shr_ctx *ctx, struct shr_err *err)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct shr_tensor *t = shr_plan_value(plan, c->v[i].name);
        if (t == NULL || t->dtype != SHR_DTYPE_F32) {
            return shr_err_set(err, SHR_ERR_INTERNAL, "value '%s' was not kept as float32",
                               c->v[i].name);
        }
        int code = shr_ctx_poll(ctx, err);
        if (code == SHR_OK) {
            code = observe(&c->v[i], t, b, ctx, err);
        }
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
    size_t max_memory;
    struct shr_plan *plan;
    struct shr_feed *feed;
    struct shr_tensor **inputs;
    size_t n_inputs;
    int64_t batch;
    bool is_open; /* a plan may have another batch */
    int64_t most_rows;
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

/* Cancelling waits for the node that runs: rows so few that none takes long. */
static int bound_rows(struct runner *r, struct shr_err *err)
{
    static const int64_t most = 1 << 30; /* multiplications: 0.1 s of one core or less */
    struct shr_model *clone = NULL;
    struct shr_type *types = NULL;
    int64_t heaviest = 1;
    int code = shr_model_clone(r->model, &clone, err);
    if (code == SHR_OK) {
        code = shr_feed_types(r->feed, 1, &types, err);
    }
    if (code == SHR_OK) {
        code = shr_model_infer(clone, types, err);
    }
    if (code == SHR_OK) {
        SHR_EACH_NODE (node, &clone->graph) {
            int64_t macs = shr_edit_macs(node);
            heaviest = macs > heaviest ? macs : heaviest;
        }
        r->most_rows = most / heaviest < r->c->batch ? most / heaviest : r->c->batch;
        r->most_rows = r->most_rows < 1 ? 1 : r->most_rows;
    }
    shr_mem_free(types);
    shr_model_free(clone);
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

/* A plan instead of the last one, of so many rows, or as many as fit into the memory. */
static int make_plan(struct runner *r, int64_t rows, struct shr_err *err)
{
    size_t observers = r->c->n * sizeof *r->c->v;
    if (r->max_memory != 0 && observers >= r->max_memory) {
        return shr_err_set(err, SHR_ERR_LIMIT,
                           "max_memory: %zu bytes are too few; the histograms take %zu",
                           r->max_memory, observers);
    }
    struct shr_plan_opts opts = {
        .batch = shr_feed_batch(r->feed, rows),
        .no_fuse = true,
        .keep = r->keep,
        .n_keep = r->c->n,
        .cpu_mask = r->ctx != NULL ? r->ctx->cpu_mask : 0,
        .threads = r->ctx != NULL ? r->ctx->threads : 0,
        .max_arena = r->max_memory != 0 ? r->max_memory - observers : 0,
    };
    shr_mem_free(r->inputs);
    shr_plan_free(r->plan);
    r->inputs = NULL;
    r->plan = NULL;
    r->is_open = opts.batch == rows;
    int code = plan_for_batch(r, &opts, err);
    while (code == SHR_ERR_LIMIT && opts.batch > 1 && r->is_open) {
        r->most_rows = opts.batch /= 2;
        code = plan_for_batch(r, &opts, err);
    }
    r->batch = opts.batch;
    return code == SHR_OK ? bind_inputs(r, err) : code;
}

static double input_at(const struct shr_tensor *t, int64_t at)
{
    return t->dtype == SHR_DTYPE_F32 ? (double)((const float *)t->data)[at] : shr_tensor_get(t, at);
}

/* What is not finite at the beginning may be hidden behind the first Relu. */
static int check_inputs(const struct runner *r, const struct batch *b, struct shr_err *err)
{
    for (size_t i = 0; i < r->n_inputs; i++) {
        const struct shr_tensor *t = r->inputs[i];
        if (!shr_dtype_is_float(t->dtype) || t->rank == 0) {
            continue;
        }
        int64_t each = shr_tensor_count(t) / (shr_feed_is_whole(r->feed, i) ? 1 : t->dim[0]);
        for (int64_t at = 0; at < b->count * each; at++) {
            if (!isfinite(input_at(t, at))) {
                return shr_err_set(
                    err, SHR_ERR_INVALID, "data.calibrate: input '%s' is not finite in sample %lld",
                    shr_plan_input_name(r->plan, i), (long long)b->samples[at / each]);
            }
        }
    }
    return SHR_OK;
}

static int run_batch(struct runner *r, const struct batch *b, struct shr_err *err)
{
    int code = shr_feed_fill_list(r->feed, b->samples, b->count, r->inputs, r->n_inputs, err);
    if (code == SHR_OK) {
        code = check_inputs(r, b, err);
    }
    if (code == SHR_OK) {
        code = shr_plan_run(r->plan, r->ctx, err);
    }
    return code == SHR_OK ? observe_all(r->c, r->plan, b, r->ctx, err) : code;
}

/* How many of the rest run next. Kernels round the sums of fewer than four rows in another way, so
 * there are at least four where that can be. */
static int64_t next_rows(const struct runner *r, int64_t rest)
{
    enum { LEAST = 4 };
    int64_t next = rest < r->most_rows ? rest : r->most_rows, left = rest - next;
    return left > 0 && left < LEAST && rest >= 2 * LEAST ? rest - LEAST : next;
}

/* The rest behind the last whole batch has a plan of its own, so that every row is of a sample: not
 * every value tells which part of it is of which row. */
static int run_batches(struct runner *r, const int64_t *order, int64_t samples, struct shr_err *err)
{
    for (int64_t at = 0; at < samples;) {
        int64_t rest = samples - at, wanted = next_rows(r, rest);
        int code = shr_ctx_poll(r->ctx, err);
        if (code == SHR_OK && (r->plan == NULL || (wanted != r->batch && r->is_open))) {
            code = make_plan(r, wanted, err);
        }
        struct batch b = {order + at, rest < r->batch ? rest : r->batch, r->batch};
        if (code == SHR_OK) {
            code = run_batch(r, &b, err);
        }
        if (code != SHR_OK) {
            return code;
        }
        at += b.count;
        shr_ctx_tell(r->ctx, "calibrate", (uint64_t)at, (uint64_t)samples);
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
    struct runner r = {.c = c, .ctx = ctx, .model = model, .max_memory = max_memory};
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
        code = bound_rows(&r, err);
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
