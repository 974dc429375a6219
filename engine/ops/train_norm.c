/* Normalizations in training, float32: BatchNormTrain, BatchNormGrad, and NormGrad of those whose
 * statistics are of one sample. Batches are worked on as NHWC.
 *
 *     BatchNormTrain (x, scale, bias, mean, variance) -> y, batch mean, 1 / deviation, new mean,
 * new variance; running = momentum * running + (1 - momentum) * batch, as PyTorch has it: the
 *         running variance takes the batch's divided by one less than its count
 *     BatchNormGrad (dy, x, scale, mean, 1 / deviation) -> dx, dscale, dbias; attribute frozen: the
 *         statistics are constants, and given with the variance
 *     NormGrad (dy, x, scale) -> dx, dscale, dbias; rows of attribute rows, whose elements have the
 *         scale of (row % period) * channels + their channel */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/train_image.h"

/* ── Batches ────────────────────────────────────────────────────────────────────────────────── */

enum { BLOCK = 8 << 10 }; /* floats of rows that a task works on */

struct batch {
    struct shr_image x, y, dx;
    struct shr_image_sums sums;
    double *sum[2];       /* (c) */
    float *a, *b, *shift; /* (c) factors of what the result is made of */
};

static int batch_init(struct shr_op_setup *c, const struct shr_tensor *x, struct batch **ret,
                      struct shr_err *err)
{
    struct batch *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = *ret = s;
    int code = shr_op_setup_f32(c, err);
    if (code == SHR_OK) {
        code = shr_image_init(c, x, &s->x, err);
    }
    if (code == SHR_OK) {
        code = shr_image_sums_init(c, &s->x, &s->sums, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    const size_t n = (size_t)s->x.c + 1;
    float **const factors[] = {&s->a, &s->b, &s->shift};
    bool whole = true;
    for (size_t i = 0; i < 2; i++) {
        s->sum[i] = shr_arena_new(c->arena, n, sizeof(double));
        whole = whole && s->sum[i] != NULL;
    }
    for (size_t i = 0; i < SHR_COUNT_OF(factors); i++) {
        *factors[i] = shr_arena_new(c->arena, n, sizeof(float));
        whole = whole && *factors[i] != NULL;
    }
    return whole ? SHR_OK : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
}

/* y = a * u + b * v + shift, a, b and shift of the channel; v may be NULL */
struct combine {
    const struct shr_kernels *k;
    const float *a, *b, *shift, *u, *v;
    float *y;
    int64_t rows, c, step;
};

static void combine_rows(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct combine *m = arg;
    const int64_t from = (int64_t)task * m->step;
    const int64_t n = m->rows - from < m->step ? m->rows - from : m->step, at = from * m->c;
    m->k->scale_f32(&(struct shr_scale_f32){.rows = (size_t)n,
                                            .c = (size_t)m->c,
                                            .scale = m->a,
                                            .bias = m->shift,
                                            .act = SHR_ACT_NONE},
                    m->u + at, m->y + at);
    for (int64_t r = 0; r < n && m->v != NULL; r++) {
        m->k->madd_f32((size_t)m->c, m->v + at + r * m->c, m->b, m->y + at + r * m->c);
    }
}

static void combine(const struct shr_op_call *c, const struct batch *s, const float *u,
                    const float *v, float *y)
{
    const int64_t step = BLOCK / (s->x.c + 1) + 1, rows = s->x.n * s->x.size;
    struct combine m = {c->kernels, s->a, s->b, s->shift, u, v, y, rows, s->x.c, step};
    shr_team_run(c->team, (size_t)((rows + step - 1) / step), combine_rows, &m);
}

static void batch_infer_channels(struct shr_infer *c, size_t out)
{
    struct shr_type *t = &c->out[out];
    t->dtype = c->in[0].dtype;
    t->rank = 1;
    if (c->in[0].rank > 1) {
        shr_type_copy_dim(t, 0, &c->in[0], 1);
    } else {
        shr_type_set_dim(t, 0, -1, NULL);
    }
}

static int batch_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0] = c->in[0];
    for (size_t i = 1; i < c->n_out; i++) {
        batch_infer_channels(c, i);
    }
    return SHR_OK;
}

static int train_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct batch *s;
    int code = batch_init(c, c->in[0], &s, err);
    return code == SHR_OK ? shr_image_init(c, c->out[0], &s->y, err) : code;
}

static int train_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct batch *s = c->state;
    const float *x = shr_image_in(c, &s->x, c->in[0]);
    const float *scale = c->in[1]->data, *bias = c->in[2]->data;
    const float *old_mean = c->in[3]->data, *old_variance = c->in[4]->data;
    float *mean = c->out[1]->data, *inverse = c->out[2]->data;
    float *new_mean = c->out[3]->data, *new_variance = c->out[4]->data;
    const double epsilon = (double)shr_node_float(c->node, "epsilon", 1e-5f);
    const double keep = (double)shr_node_float(c->node, "momentum", 0.9f);
    const double n = (double)(s->x.n * s->x.size), one_less = n > 1 ? n - 1 : 1;
    shr_image_sums(c, &s->x, &s->sums, x, NULL, NULL, s->sum[0]);
    for (int64_t j = 0; j < s->x.c; j++) {
        mean[j] = (float)(s->sum[0][j] / n);
        s->shift[j] = -mean[j];
    }
    shr_image_sums(c, &s->x, &s->sums, x, NULL, s->shift, s->sum[1]);
    for (int64_t j = 0; j < s->x.c; j++) {
        const double squares = s->sum[1][j];
        inverse[j] = (float)(1.0 / sqrt(squares / n + epsilon));
        new_mean[j] = (float)(keep * (double)old_mean[j] + (1 - keep) * (double)mean[j]);
        new_variance[j] = (float)(keep * (double)old_variance[j] + (1 - keep) * squares / one_less);
        s->a[j] = scale[j] * inverse[j];
        s->shift[j] = bias[j] - mean[j] * s->a[j];
    }
    combine(c, s, x, NULL, shr_image_out(c, &s->y, c->out[0]));
    shr_image_done(c, &s->y, c->out[0]);
    return SHR_OK;
}

static int grad_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct batch *s;
    int code = batch_init(c, c->in[1], &s, err);
    if (code == SHR_OK) {
        code = shr_image_init(c, c->in[0], &s->y, err);
    }
    return code == SHR_OK ? shr_image_init(c, c->out[0], &s->dx, err) : code;
}

/* With h = (x - mean) / deviation: dbias = sum dy, dscale = sum dy h,
 * dx = scale / deviation (dy - mean(dy) - h mean(dy h)), of frozen statistics without the means. */
static int grad_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct batch *s = c->state;
    const bool frozen = shr_node_int(c->node, "frozen", 0) != 0;
    const float epsilon = shr_node_float(c->node, "epsilon", 1e-5f);
    const float *dy = shr_image_in(c, &s->y, c->in[0]), *x = shr_image_in(c, &s->x, c->in[1]);
    const float *scale = c->in[2]->data, *mean = c->in[3]->data, *given = c->in[4]->data;
    float *dscale = c->out[1]->data, *dbias = c->out[2]->data;
    const double n = (double)(s->x.n * s->x.size);
    for (int64_t j = 0; j < s->x.c; j++) {
        s->shift[j] = -mean[j];
    }
    shr_image_sums(c, &s->x, &s->sums, dy, NULL, NULL, s->sum[0]);
    shr_image_sums(c, &s->x, &s->sums, x, dy, s->shift, s->sum[1]);
    for (int64_t j = 0; j < s->x.c; j++) {
        const double inverse =
            frozen ? 1.0 / sqrt((double)given[j] + (double)epsilon) : (double)given[j];
        const double sum = s->sum[0][j], product = s->sum[1][j] * inverse;
        const double a = (double)scale[j] * inverse, b = -a * inverse * product / n;
        dbias[j] = (float)sum;
        dscale[j] = (float)product;
        s->a[j] = (float)a;
        s->b[j] = frozen ? 0 : (float)b;
        s->shift[j] = frozen ? 0 : (float)(-a * sum / n - b * (double)mean[j]);
    }
    combine(c, s, dy, frozen ? NULL : x, shr_image_out(c, &s->dx, c->out[0]));
    shr_image_done(c, &s->dx, c->out[0]);
    return SHR_OK;
}

/* ── Samples ────────────────────────────────────────────────────────────────────────────────── */

enum { PARTS = 8, PART_ROWS = 16 }; /* partial sums of dscale and dbias at most; rows worth one */

struct norm {
    int64_t rows, period, channels, size; /* size: elements of a channel in a row */
    int64_t n;                            /* elements of a row */
    int64_t parts, n_scale;
    float *one; /* (n) */
    float epsilon;
    size_t sums_at, worker_at; /* in scratch: (parts, 2, n_scale); (threads, 2, n) */
};

static int norm_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct norm *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    int code = shr_op_setup_f32(c, err);
    const int64_t all = shr_tensor_count(c->in[1]);
    s->rows = shr_node_int(c->node, "rows", 1);
    s->period = shr_node_int(c->node, "period", 1);
    s->channels = shr_node_int(c->node, "channels", 1);
    s->epsilon = shr_node_float(c->node, "epsilon", 1e-5f);
    s->n_scale = shr_tensor_count(c->in[2]);
    if (code == SHR_OK &&
        (s->rows < 1 || s->period < 1 || s->channels < 1 || all % s->rows != 0 ||
         all / s->rows % s->channels != 0 || s->n_scale != s->period * s->channels)) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "the rows do not fit the operands");
    }
    if (code != SHR_OK) {
        return code;
    }
    s->n = all / s->rows;
    s->size = s->n / s->channels;
    s->parts = s->rows / PART_ROWS < 1       ? 1
               : s->rows / PART_ROWS > PARTS ? PARTS
                                             : s->rows / PART_ROWS;
    s->one = shr_arena_new(c->arena, (size_t)s->n + 1, sizeof *s->one);
    if (s->one == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (int64_t i = 0; i < s->n; i++) {
        s->one[i] = 1;
    }
    code = shr_image_room(c, s->parts * 2 * s->n_scale, sizeof(float), &s->sums_at, err);
    return code == SHR_OK ? shr_image_room(c, (int64_t)c->threads * 2 * s->n, sizeof(float),
                                           &s->worker_at, err)
                          : code;
}

struct norm_run {
    const struct shr_op_call *c;
    const struct norm *s;
    float *sums;
};

/* Rows whose channels have many elements: g = dy * scale, and the sums of each channel. */
static void norm_channels(const struct norm *s, const float *dy, const float *hat,
                          const float *scale, float *dscale, float *dbias, float *g)
{
    for (int64_t ch = 0; ch < s->channels; ch++) {
        double sum = 0, product = 0;
        for (int64_t i = ch * s->size; i < (ch + 1) * s->size; i++) {
            sum += (double)dy[i];
            product += (double)dy[i] * (double)hat[i];
            g[i] = dy[i] * scale[ch];
        }
        dbias[ch] += (float)sum;
        dscale[ch] += (float)product;
    }
}

static void norm_part(void *arg, size_t part, size_t worker)
{
    const struct norm_run *r = arg;
    const struct norm *s = r->s;
    const struct shr_kernels *k = r->c->kernels;
    const int64_t from = s->rows * (int64_t)part / s->parts;
    const int64_t to = s->rows * ((int64_t)part + 1) / s->parts;
    float *dscale = r->sums + (int64_t)part * 2 * s->n_scale, *dbias = dscale + s->n_scale;
    float *hat =
        (float *)(void *)((char *)r->c->scratch + s->worker_at) + (int64_t)worker * 2 * s->n;
    float *g = hat + s->n;
    memset(dscale, 0, (size_t)(2 * s->n_scale) * sizeof *dscale);
    for (int64_t row = from; row < to; row++) {
        const float *dy = (const float *)r->c->in[0]->data + row * s->n;
        const int64_t at = row % s->period * s->channels;
        const float *scale = (const float *)r->c->in[2]->data + at;
        float *dx = (float *)r->c->out[0]->data + row * s->n, mean, inverse;
        k->layernorm_f32(
            &(struct shr_layernorm){(size_t)s->n, s->one, NULL, s->epsilon, &mean, &inverse},
            (const float *)r->c->in[1]->data + row * s->n, hat);
        if (s->size == 1) {
            k->madd_f32((size_t)s->n, dy, hat, dscale + at);
            k->add_f32((size_t)s->n, dbias + at, dy, dbias + at);
            k->layernorm_grad_f32((size_t)s->n, dy, scale, hat, inverse, dx);
        } else {
            norm_channels(s, dy, hat, scale, dscale + at, dbias + at, g);
            k->layernorm_grad_f32((size_t)s->n, g, NULL, hat, inverse, dx);
        }
    }
}

static int norm_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct norm *s = c->state;
    float *sums = (float *)(void *)((char *)c->scratch + s->sums_at);
    struct norm_run r = {c, s, sums};
    shr_team_run(c->team, (size_t)s->parts, norm_part, &r);
    for (int64_t part = 1; part < s->parts; part++) {
        c->kernels->add_f32((size_t)(2 * s->n_scale), sums, sums + part * 2 * s->n_scale, sums);
    }
    memcpy(c->out[1]->data, sums, (size_t)s->n_scale * sizeof *sums);
    memcpy(c->out[2]->data, sums + s->n_scale, (size_t)s->n_scale * sizeof *sums);
    return SHR_OK;
}

static int grad_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0] = c->in[1];
    c->out[1] = c->in[2];
    c->out[2] = c->in[2];
    return SHR_OK;
}

#define TRAIN(name_, in_, out_)                                                                    \
    .domain = SHR_TRAIN_DOMAIN, .name = name_, .since = 1, SHR_SLOTS(in_, in_, out_, out_),        \
    SHR_NO_WEIGHT

static const struct shr_op rows[] = {
    {TRAIN("BatchNormGrad", 5, 3), .infer = grad_infer, .setup = grad_setup,
     .forward = grad_forward},
    {TRAIN("BatchNormTrain", 5, 5), .infer = batch_infer, .setup = train_setup,
     .forward = train_forward, .backward = shr_backward_batch_norm_train},
    {TRAIN("NormGrad", 3, 3), .infer = grad_infer, .setup = norm_setup, .forward = norm_forward},
};
const struct shr_op_family shr_ops_train_norm = {rows, SHR_COUNT_OF(rows)};
