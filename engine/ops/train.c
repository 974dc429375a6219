/* Rows of the domain "shrinkd.train" that backward rules emit: slopes of activations, sums over
 * what was broadcast, and blocks of tensors. float32. They stand in training graphs alone; no
 * model that is saved has them. */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

/* ── Slopes: dx = dy f'(v), v = y or x of the activation ────────────────────────────────────── */

enum { BLOCK = 16384 }; /* elements of a task */

typedef void (*slope_fn)(size_t n, const float *dy, const float *v, const float p[2], float *dx);

#define SLOPE(op, EXPR)                                                                            \
    static void op##_slope(size_t n, const float *dy, const float *px, const float p[2],           \
                           float *dx)                                                              \
    {                                                                                              \
        const float a = p[0], b = p[1];                                                            \
        (void)a;                                                                                   \
        (void)b;                                                                                   \
        for (size_t i = 0; i < n; i++) {                                                           \
            const float x = px[i], y = x, d = dy[i];                                               \
            (void)y;                                                                               \
            dx[i] = (EXPR);                                                                        \
        }                                                                                          \
    }

static float normal_cdf(float x)
{
    return 0.5f * (1.0f + erff(x * 0.70710678f));
}

static float normal_pdf(float x)
{
    return 0.39894228f * expf(-0.5f * x * x);
}

SLOPE(relu, y > 0.0f ? d : 0.0f)
SLOPE(sigmoid, d *y *(1.0f - y))
SLOPE(tanh, d *(1.0f - y * y))
SLOPE(leaky_relu, x < 0.0f ? a * d : d)
SLOPE(elu, x < 0.0f ? d * a * expf(x) : d)
SLOPE(erf, d * 1.12837917f * expf(-x * x))
SLOPE(gelu, d *(normal_cdf(x) + x * normal_pdf(x)))
SLOPE(hard_sigmoid, a *x + b > 0.0f && a * x + b < 1.0f ? a * d : 0.0f)
SLOPE(hard_swish, x <= -3.0f ? 0.0f : x >= 3.0f ? d : d * (x / 3.0f + 0.5f))
SLOPE(softplus, d / (1.0f + expf(-x)))

struct slope {
    slope_fn fn;
    const float *dy, *v;
    float p[2], *dx;
    size_t n;
};

static void slope_block(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct slope *s = arg;
    const size_t at = task * BLOCK, n = s->n - at < BLOCK ? s->n - at : BLOCK;
    s->fn(n, s->dy + at, s->v + at, s->p, s->dx + at);
}

static int run_slope(const struct shr_op_call *c, slope_fn fn, float a, float b)
{
    struct slope s = {fn, c->in[0]->data, c->in[1]->data, {a, b}, c->out[0]->data};
    s.n = (size_t)shr_tensor_count(c->out[0]);
    shr_team_run(c->team, (s.n + BLOCK - 1) / BLOCK, slope_block, &s);
    return SHR_OK;
}

#define SLOPE_FORWARD(op, NAME_A, DEFAULT_A, NAME_B, DEFAULT_B)                                    \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        (void)err;                                                                                 \
        return run_slope(c, op##_slope, shr_node_float(c->node, NAME_A, DEFAULT_A),                \
                         shr_node_float(c->node, NAME_B, DEFAULT_B));                              \
    }

SLOPE_FORWARD(relu, "", 0.0f, "", 0.0f)
SLOPE_FORWARD(sigmoid, "", 0.0f, "", 0.0f)
SLOPE_FORWARD(tanh, "", 0.0f, "", 0.0f)
SLOPE_FORWARD(leaky_relu, "alpha", 0.01f, "", 0.0f)
SLOPE_FORWARD(elu, "alpha", 1.0f, "", 0.0f)
SLOPE_FORWARD(erf, "", 0.0f, "", 0.0f)
SLOPE_FORWARD(gelu, "", 0.0f, "", 0.0f)
SLOPE_FORWARD(hard_sigmoid, "alpha", 0.2f, "beta", 0.5f)
SLOPE_FORWARD(hard_swish, "", 0.0f, "", 0.0f)
SLOPE_FORWARD(softplus, "", 0.0f, "", 0.0f)

/* dx = x equals y, so was not clipped, ? dy : 0 */
static int clip_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const float *dy = c->in[0]->data, *x = c->in[1]->data, *y = c->in[2]->data;
    float *dx = c->out[0]->data;
    for (int64_t i = 0; i < shr_tensor_count(c->out[0]); i++) {
        dx[i] = x[i] == y[i] ? dy[i] : 0.0f;
    }
    return SHR_OK;
}

static int alike_infer(struct shr_infer *c, struct shr_err *err)
{
    for (size_t i = 1; i < c->n_in; i++) {
        if (c->in[i].rank != c->in[0].rank ||
            memcmp(c->in[i].dim, c->in[0].dim,
                   (size_t)(c->in[0].rank < 0 ? 0 : c->in[0].rank) * sizeof *c->in[0].dim) != 0) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the inputs differ in shape");
        }
    }
    return shr_infer_same(c, err);
}

/* ── Softmax ────────────────────────────────────────────────────────────────────────────────── */

/* dx = y (dy - sum(dy y)), or of the logarithm dy - exp(y) sum(dy); a row is n elements, step
 * apart. */
static void softmax_row(const float *dy, const float *y, int64_t n, int64_t step, bool log_form,
                        float *dx)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)dy[i * step] * (log_form ? 1.0 : (double)y[i * step]);
    }
    const float s = (float)sum;
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = i * step;
        dx[at] = log_form ? dy[at] - expf(y[at]) * s : y[at] * (dy[at] - s);
    }
}

static int run_softmax(const struct shr_op_call *c, bool log_form, struct shr_err *err)
{
    const struct shr_tensor *y = c->in[1];
    int axis = 0;
    int code = y->rank == 0 ? SHR_OK
                            : shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", -1),
                                          y->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    const int end = y->rank == 0 || shr_node_int(c->node, "to_end", 0) != 0 ? y->rank : axis + 1;
    const int64_t n = shr_dims_product(y->dim, axis, end);
    const int64_t inner = shr_dims_product(y->dim, end, y->rank);
    const int64_t rows = shr_dims_product(y->dim, 0, axis) * inner;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = i / inner * n * inner + i % inner;
        softmax_row((const float *)c->in[0]->data + at, (const float *)y->data + at, n, inner,
                    log_form, (float *)c->out[0]->data + at);
    }
    return SHR_OK;
}

static int softmax_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return run_softmax(c, false, err);
}

static int log_softmax_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return run_softmax(c, true, err);
}

/* ── Shapes given by the attribute dims ─────────────────────────────────────────────────────── */

static int read_list(const struct shr_node *node, const char *name, int64_t fallback, int rank,
                     int64_t *ret, struct shr_err *err)
{
    size_t n = 0;
    const int64_t *v = shr_node_ints(node, name, &n);
    if (v != NULL && n != (size_t)rank) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%s has %zu elements, not %d", name, n,
                           rank);
    }
    for (int i = 0; i < rank; i++) {
        ret[i] = v == NULL ? fallback : v[i];
    }
    return SHR_OK;
}

/* Does `small` broadcast to `large`? */
static bool broadcasts(const struct shr_tensor *small, const struct shr_tensor *large)
{
    if (small->rank > large->rank) {
        return false;
    }
    for (int i = 0; i < small->rank; i++) {
        int64_t a = small->dim[i], b = large->dim[i + large->rank - small->rank];
        if (a != b && a != 1) {
            return false;
        }
    }
    return true;
}

static int sum_to_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return broadcasts(c->out[0], c->in[0])
               ? shr_op_setup_f32(c, err)
               : shr_op_fail(c->node, err, SHR_ERR_INVALID, "dims does not broadcast to the input");
}

/* The sum of x over what the output was broadcast along. */
static int sum_to_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    const struct shr_tensor *as_operand[] = {c->out[0]};
    const float *from = x->data;
    float *y = c->out[0]->data;
    if (shr_tensor_count(c->out[0]) > 0) {
        memset(y, 0, shr_tensor_bytes(c->out[0]));
    }
    struct shr_walk w;
    shr_walk_broadcast(&w, x->rank, x->dim, 1, as_operand);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        if (w.step[0] == 1) {
            float *row = y + w.at[0];
            c->kernels->add_f32((size_t)w.inner, row, from + w.out, row);
        } else {
            double sum = 0.0;
            for (int64_t i = 0; i < w.inner; i++) {
                sum += (double)from[w.out + i];
            }
            y[w.at[0]] += (float)sum;
        }
    }
    return SHR_OK;
}

static int broadcast_to_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return broadcasts(c->in[0], c->out[0])
               ? shr_op_setup_f32(c, err)
               : shr_op_fail(c->node, err, SHR_ERR_INVALID, "the input does not broadcast to dims");
}

static int broadcast_to_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *y = c->out[0];
    int64_t stride[SHR_MAX_RANK];
    shr_broadcast_strides(c->in[0], y->rank, stride);
    shr_copy_strided(sizeof(float), y->rank, y->dim, stride, c->in[0]->data, y->data);
    return SHR_OK;
}

/* ── Blocks ─────────────────────────────────────────────────────────────────────────────────── */

struct block {
    int64_t start[SHR_MAX_RANK], step[SHR_MAX_RANK];
};

/* The small tensor is every step-th element of the large one from start on. */
static int block_setup(struct shr_op_setup *c, const struct shr_tensor *small,
                       const struct shr_tensor *large, struct shr_err *err)
{
    struct block *b = shr_arena_new(c->arena, 1, sizeof *b);
    if (b == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    if (small->rank != large->rank) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "dims has another rank than the input");
    }
    int code = read_list(c->node, "starts", 0, large->rank, b->start, err);
    if (code == SHR_OK) {
        code = read_list(c->node, "steps", 1, large->rank, b->step, err);
    }
    for (int i = 0; i < large->rank && code == SHR_OK; i++) {
        const int64_t n = small->dim[i], first = b->start[i], most = large->dim[i] - 1;
        const int64_t step = b->step[i];
        bool fits = n == 0 || (first >= 0 && first <= most && step != 0);
        if (fits && n > 1) { /* how many steps there is room for */
            fits = step > 0 ? (most - first) / step >= n - 1
                            : step != INT64_MIN && first / -step >= n - 1;
        }
        if (!fits) {
            code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "the block leaves axis %d", i);
        }
    }
    c->state = b;
    return code == SHR_OK ? shr_op_setup_f32(c, err) : code;
}

static int part_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return block_setup(c, c->out[0], c->in[0], err);
}

static int put_part_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return block_setup(c, c->in[0], c->out[0], err);
}

static int64_t block_strides(const struct block *b, const struct shr_tensor *large,
                             int64_t stride[SHR_MAX_RANK])
{
    int64_t first = 0;
    shr_dense_strides(large->rank, large->dim, stride);
    for (int i = 0; i < large->rank; i++) {
        first += b->start[i] * stride[i];
        stride[i] *= b->step[i];
    }
    return first;
}

static int part_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *y = c->out[0];
    int64_t stride[SHR_MAX_RANK];
    if (shr_tensor_count(y) > 0) {
        const int64_t first = block_strides(c->state, c->in[0], stride);
        shr_copy_strided(sizeof(float), y->rank, y->dim, stride,
                         (const float *)c->in[0]->data + first, y->data);
    }
    return SHR_OK;
}

static int put_part_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0], *y = c->out[0];
    const float *from = x->data;
    int64_t stride[1][SHR_MAX_RANK];
    if (shr_tensor_count(y) > 0) {
        memset(y->data, 0, shr_tensor_bytes(y));
    }
    if (shr_tensor_count(x) == 0) {
        return SHR_OK;
    }
    float *to = (float *)y->data + block_strides(c->state, y, stride[0]);
    struct shr_walk w;
    shr_walk_init(&w, x->rank, x->dim, 1, (const int64_t(*)[SHR_MAX_RANK])stride);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        for (int64_t i = 0; i < w.inner; i++) {
            to[w.at[0] + i * w.step[0]] = from[w.out + i];
        }
    }
    return SHR_OK;
}

/* ── Gather ─────────────────────────────────────────────────────────────────────────────────── */

static int gather_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *dy = c->in[0], *index = c->in[1], *dx = c->out[0];
    int axis = 0;
    int code = shr_op_want(c, 0, SHR_BIT(F32), err);
    if (code == SHR_OK) {
        code = shr_op_want(c, 1, SHR_BIT(I32) | SHR_BIT(I64), err);
    }
    if (code == SHR_OK) {
        code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), dx->rank, &axis, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    bool fits = dy->rank == dx->rank - 1 + index->rank;
    for (int i = 0; i < dy->rank && fits; i++) {
        const int64_t n = i < axis                 ? dx->dim[i]
                          : i < axis + index->rank ? index->dim[i - axis]
                                                   : dx->dim[i - index->rank + 1];
        fits = dy->dim[i] == n;
    }
    return fits ? SHR_OK
                : shr_op_fail(c->node, err, SHR_ERR_INVALID, "the gradient does not fit dims");
}

/* dx (outer, n, inner) += dy (outer, indices, inner) */
static int gather_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *index = c->in[1], *dx = c->out[0];
    const int64_t given = shr_node_int(c->node, "axis", 0);
    const int axis = (int)(given < 0 ? given + dx->rank : given);
    const int64_t outer = shr_dims_product(dx->dim, 0, axis), n = dx->dim[axis];
    const int64_t inner = shr_dims_product(dx->dim, axis + 1, dx->rank);
    const int64_t count = shr_tensor_count(index);
    const float *dy = c->in[0]->data;
    if (shr_tensor_count(dx) > 0) {
        memset(dx->data, 0, shr_tensor_bytes(dx));
    }
    for (int64_t i = 0; i < outer * count; i++) {
        int64_t at = shr_op_int_at(index, i % count);
        at = at < 0 ? at + n : at;
        if (at < 0 || at >= n) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                               "index %lld is not in an axis of %lld", (long long)at, (long long)n);
        }
        float *to = (float *)dx->data + (i / count * n + at) * inner;
        c->kernels->add_f32((size_t)inner, to, dy + i * inner, to);
    }
    return SHR_OK;
}

#define TRAIN(name_, in_, infer_, setup_, fn)                                                      \
    .domain = SHR_TRAIN_DOMAIN, .name = name_, .since = 1, SHR_SLOTS(in_, in_, 1, 1),              \
    .infer = infer_, .setup = setup_, .forward = fn, SHR_NO_WEIGHT
#define SLOPE_ROW(name_, fn)                                                                       \
    {                                                                                              \
        TRAIN(name_, 2, alike_infer, shr_op_setup_f32, fn), .in_place = 1 << 0 | 1 << 1            \
    }

static const struct shr_op rows[] = {
    SLOPE_ROW("ReluGrad", relu_forward),
    SLOPE_ROW("SigmoidGrad", sigmoid_forward),
    SLOPE_ROW("TanhGrad", tanh_forward),
    SLOPE_ROW("LeakyReluGrad", leaky_relu_forward),
    SLOPE_ROW("EluGrad", elu_forward),
    SLOPE_ROW("ErfGrad", erf_forward),
    SLOPE_ROW("GeluGrad", gelu_forward),
    SLOPE_ROW("HardSigmoidGrad", hard_sigmoid_forward),
    SLOPE_ROW("HardSwishGrad", hard_swish_forward),
    SLOPE_ROW("SoftplusGrad", softplus_forward),
    {TRAIN("ClipGrad", 3, alike_infer, shr_op_setup_f32, clip_forward), .in_place = 1 << 0},
    {TRAIN("SoftmaxGrad", 2, alike_infer, shr_op_setup_f32, softmax_forward)},
    {TRAIN("LogSoftmaxGrad", 2, alike_infer, shr_op_setup_f32, log_softmax_forward)},
    {TRAIN("SumTo", 1, shr_infer_dims, sum_to_setup, sum_to_forward)},
    {TRAIN("BroadcastTo", 1, shr_infer_dims, broadcast_to_setup, broadcast_to_forward)},
    {TRAIN("Part", 1, shr_infer_dims, part_setup, part_forward)},
    {TRAIN("PutPart", 1, shr_infer_dims, put_part_setup, put_part_forward)},
    {TRAIN("GatherGrad", 2, shr_infer_dims, gather_setup, gather_forward)},
};
const struct shr_op_family shr_ops_train = {rows, SHR_COUNT_OF(rows)};
