/* Reductions: ReduceSum Mean Max Min Prod L1 L2 SumSquare LogSum LogSumExp, ArgMax, ArgMin.
 *
 * The axes are an attribute until opset 17 (ReduceSum: 12) and an input afterwards. The input is
 * read in order; each element goes to the output that its other axes name. Rows along a reduced
 * axis are gathered in a wide accumulator first: double for floats, 64 bits for integers. */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

/* ── Shapes ─────────────────────────────────────────────────────────────────────────────────── */

/* Which axes go: none given means all of them, unless noop_with_empty_axes. */
static int axes_mask(const struct shr_node *node, const struct shr_int_list *axes, int rank,
                     unsigned *ret, struct shr_err *err)
{
    if (axes->n == 0) {
        bool noop = shr_node_int(node, "noop_with_empty_axes", 0) != 0;
        *ret = noop ? 0 : (1u << rank) - 1;
        return SHR_OK;
    }
    return shr_op_axes_mask(node, axes, rank, ret, err);
}

static void reduced_shape(const struct shr_type *x, unsigned mask, bool keep, struct shr_type *y)
{
    y->rank = 0;
    for (int i = 0; i < x->rank; i++) {
        if ((mask >> i & 1u) == 0) {
            shr_type_copy_dim(y, y->rank++, x, i);
        } else if (keep) {
            shr_type_set_dim(y, y->rank++, 1, NULL);
        }
    }
}

static int reduce_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    bool keep = shr_node_int(c->node, "keepdims", 1) != 0;
    struct shr_int_list axes;
    unsigned mask;
    y->dtype = x->dtype;
    int code = shr_op_list_infer(c, "axes", 1, &axes, err);
    if (code != SHR_OK || x->rank < 0) {
        return code;
    }
    if (axes.given && !axes.known) {
        y->rank = keep ? x->rank : -1;
        for (int i = 0; i < y->rank; i++) {
            shr_type_set_dim(y, i, -1, NULL);
        }
        return SHR_OK;
    }
    code = axes_mask(c->node, &axes, x->rank, &mask, err);
    if (code == SHR_OK) {
        reduced_shape(x, mask, keep, y);
    }
    return code;
}

/* ── Row loops ──────────────────────────────────────────────────────────────────────────────── */

/* One row of x: all n into *y (step 0), or each into its own y[i * step]. */
typedef void (*row_fn)(int64_t n, const void *x, void *y, int64_t step);

#define ROW_FN(op, tag, T, ACC, EXPR)                                                              \
    static void op##_##tag(int64_t n, const void *px, void *py, int64_t step)                      \
    {                                                                                              \
        const T *x = px;                                                                           \
        T *y = py;                                                                                 \
        if (step == 0) {                                                                           \
            ACC acc = (ACC)y[0];                                                                   \
            for (int64_t i = 0; i < n; i++) {                                                      \
                const ACC v = (ACC)x[i];                                                           \
                acc = (ACC)EXPR(acc, v);                                                           \
            }                                                                                      \
            y[0] = (T)acc;                                                                         \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const ACC v = (ACC)x[i], acc = (ACC)y[i * step];                                       \
            y[i * step] = (T)(ACC)EXPR(acc, v);                                                    \
        }                                                                                          \
    }

/* Sums and products wrap around as unsigned ones do; comparisons keep the type. */
#define ROW_FNS(op, SIGNED_ACC, UNSIGNED_ACC, EXPR)                                                \
    ROW_FN(op, f32, float, double, EXPR)                                                           \
    ROW_FN(op, f64, double, double, EXPR)                                                          \
    ROW_FN(op, i8, int8_t, SIGNED_ACC, EXPR)                                                       \
    ROW_FN(op, i16, int16_t, SIGNED_ACC, EXPR)                                                     \
    ROW_FN(op, i32, int32_t, SIGNED_ACC, EXPR)                                                     \
    ROW_FN(op, i64, int64_t, SIGNED_ACC, EXPR)                                                     \
    ROW_FN(op, u8, uint8_t, UNSIGNED_ACC, EXPR)                                                    \
    ROW_FN(op, u16, uint16_t, UNSIGNED_ACC, EXPR)                                                  \
    ROW_FN(op, u32, uint32_t, UNSIGNED_ACC, EXPR)                                                  \
    ROW_FN(op, u64, uint64_t, UNSIGNED_ACC, EXPR)                                                  \
    static const row_fn op##_rows[SHR_DTYPE_COUNT] = {                                             \
        [SHR_DTYPE_F32] = op##_f32, [SHR_DTYPE_F64] = op##_f64, [SHR_DTYPE_I8] = op##_i8,          \
        [SHR_DTYPE_I16] = op##_i16, [SHR_DTYPE_I32] = op##_i32, [SHR_DTYPE_I64] = op##_i64,        \
        [SHR_DTYPE_U8] = op##_u8,   [SHR_DTYPE_U16] = op##_u16, [SHR_DTYPE_U32] = op##_u32,        \
        [SHR_DTYPE_U64] = op##_u64, [SHR_DTYPE_BOOL] = op##_u8,                                    \
    };

#define SUM(acc, v) ((acc) + (v))
#define PROD(acc, v) ((acc) * (v))
#define SUM_SQUARE(acc, v) ((acc) + (v) * (v))
#define MAX(acc, v) ((v) > (acc) || (v) != (v) ? (v) : (acc))
#define MIN(acc, v) ((v) < (acc) || (v) != (v) ? (v) : (acc))
ROW_FNS(sum, uint64_t, uint64_t, SUM)
ROW_FNS(prod, uint64_t, uint64_t, PROD)
ROW_FNS(sum_square, uint64_t, uint64_t, SUM_SQUARE)
ROW_FNS(max, int64_t, uint64_t, MAX)
ROW_FNS(min, int64_t, uint64_t, MIN)
#define SUM_ABS(acc, v) ((acc) + ((v) < 0 ? -(v) : (v)))
ROW_FN(sum_abs, f32, float, double, SUM_ABS)
ROW_FN(sum_abs, f64, double, double, SUM_ABS)
ROW_FN(sum_abs, i32, int32_t, int64_t, SUM_ABS)
ROW_FN(sum_abs, i64, int64_t, int64_t, SUM_ABS)
static const row_fn sum_abs_rows[SHR_DTYPE_COUNT] = {[SHR_DTYPE_F32] = sum_abs_f32,
                                                     [SHR_DTYPE_F64] = sum_abs_f64,
                                                     [SHR_DTYPE_I32] = sum_abs_i32,
                                                     [SHR_DTYPE_I64] = sum_abs_i64};

/* ── The reduction ──────────────────────────────────────────────────────────────────────────── */

/* Where each dim of the input goes in the output, and how many elements make one result. */
static int output_strides(const struct shr_op_call *c, int64_t *stride, int64_t *ret_each,
                          struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_int_list axes;
    unsigned mask = 0;
    int code = shr_op_list_call(c, "axes", 1, &axes, err);
    if (code == SHR_OK) {
        code = axes_mask(c->node, &axes, x->rank, &mask, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    int64_t step = 1;
    *ret_each = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        bool gone = (mask >> i & 1u) != 0;
        stride[i] = gone ? 0 : step;
        step *= gone ? 1 : x->dim[i];
        *ret_each *= gone ? x->dim[i] : 1;
    }
    return SHR_OK;
}

static int run(const struct shr_op_call *c, const row_fn *rows, double first, int64_t *ret_each,
               struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    int64_t stride[1][SHR_MAX_RANK], each;
    int code = output_strides(c, stride[0], &each, err);
    if (code != SHR_OK) {
        return code;
    }
    if (y->dtype == SHR_DTYPE_BOOL) { /* max and min: or, and */
        first = first > 0.0;
    }
    for (int64_t i = 0; i < shr_tensor_count(y); i++) {
        shr_tensor_set(y, i, first);
    }
    size_t size = shr_dtype_size(x->dtype);
    struct shr_walk w;
    shr_walk_init(&w, x->rank, x->dim, 1, (const int64_t(*)[SHR_MAX_RANK])stride);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        rows[x->dtype](w.inner, (const char *)x->data + (size_t)w.out * size,
                       (char *)y->data + (size_t)w.at[0] * size, w.step[0]);
    }
    *ret_each = each;
    return SHR_OK;
}

#define FORWARD(op, FIRST)                                                                         \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        int64_t each;                                                                              \
        return run(c, op##_rows, FIRST, &each, err);                                               \
    }
FORWARD(sum, 0.0)
FORWARD(prod, 1.0)
FORWARD(sum_square, 0.0)
FORWARD(sum_abs, 0.0)
FORWARD(max, -INFINITY) /* integers saturate to their smallest */
FORWARD(min, INFINITY)

static int mean_forward(const struct shr_op_call *c, struct shr_err *err)
{
    int64_t each = 1;
    int code = run(c, sum_rows, 0.0, &each, err);
    struct shr_tensor *y = c->out[0];
    for (int64_t i = 0; code == SHR_OK && i < shr_tensor_count(y); i++) {
        double mean = shr_tensor_get(y, i) / (double)each;
        shr_tensor_set(y, i, shr_dtype_is_float(y->dtype) ? mean : trunc(mean));
    }
    return code;
}

/* A reduction and a function of each result. */
#define FORWARD_THEN(op, base, FN)                                                                 \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        int code = base##_forward(c, err);                                                         \
        struct shr_tensor *y = c->out[0];                                                          \
        for (int64_t i = 0; code == SHR_OK && i < shr_tensor_count(y); i++) {                      \
            double v = FN(shr_tensor_get(y, i));                                                   \
            shr_tensor_set(y, i, shr_dtype_is_float(y->dtype) ? v : trunc(v));                     \
        }                                                                                          \
        return code;                                                                               \
    }
FORWARD_THEN(l2, sum_square, sqrt)
FORWARD_THEN(log_sum, sum, log)

/* log(sum(exp(x))): exp(x - largest) is what is added up, in scratch. */
static int log_sum_exp_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    double *sum = c->scratch;
    int64_t stride[1][SHR_MAX_RANK], each;
    int code = run(c, max_rows, -INFINITY, &each, err);
    if (code == SHR_OK) {
        code = output_strides(c, stride[0], &each, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    memset(sum, 0, (size_t)shr_tensor_count(y) * sizeof *sum);
    struct shr_walk w;
    shr_walk_init(&w, x->rank, x->dim, 1, (const int64_t(*)[SHR_MAX_RANK])stride);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        for (int64_t i = 0; i < w.inner; i++) {
            const int64_t to = w.at[0] + i * w.step[0];
            const double largest = shr_tensor_get(y, to);
            const double shift = isinf(largest) ? 0.0 : largest;
            sum[to] += exp(shr_tensor_get(x, w.out + i) - shift);
        }
    }
    for (int64_t i = 0; i < shr_tensor_count(y); i++) {
        const double largest = shr_tensor_get(y, i), shift = isinf(largest) ? 0.0 : largest;
        shr_tensor_set(y, i, log(sum[i]) + shift);
    }
    return SHR_OK;
}

static int log_sum_exp_setup(struct shr_op_setup *c, struct shr_err *err)
{
    if (!shr_size_mul((size_t)shr_tensor_count(c->out[0]), sizeof(double), &c->scratch)) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the sums do not fit in memory");
    }
    return shr_op_want(c, 0, SHR_BIT(F32) | SHR_BIT(F64), err);
}

static int numbers_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_NUMBERS, err);
}

static int ordered_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_NUMBERS | SHR_BIT(BOOL), err);
}

static int wide_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_BIT(F32) | SHR_BIT(F64) | SHR_BIT(I32) | SHR_BIT(I64), err);
}

/* ── ArgMax, ArgMin ─────────────────────────────────────────────────────────────────────────── */

static int arg_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    c->out[0].dtype = SHR_DTYPE_I64;
    if (x->rank < 0) {
        return SHR_OK;
    }
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), x->rank, &axis, err);
    if (code == SHR_OK && x->dim[axis] == 0) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "axis %d is empty", axis);
    }
    if (code == SHR_OK) {
        bool keep = shr_node_int(c->node, "keepdims", 1) != 0;
        reduced_shape(x, 1u << axis, keep, &c->out[0]);
    }
    return code;
}

#define ARG_LOOP(T)                                                                                \
    for (int64_t i = 0; i < outer * inner; i++) {                                                  \
        const T *row = (const T *)x->data + i / inner * n * inner + i % inner;                     \
        int64_t best = 0;                                                                          \
        for (int64_t j = 1; j < n; j++) {                                                          \
            T v = row[j * inner], b = row[best * inner];                                           \
            bool better = largest ? v > b : v < b;                                                 \
            best = better || (last && v == b) ? j : best;                                          \
        }                                                                                          \
        y[i] = best;                                                                               \
    }                                                                                              \
    break;

static int arg_run(const struct shr_op_call *c, bool largest, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0]; /* (outer, n, inner) */
    bool last = shr_node_int(c->node, "select_last_index", 0) != 0;
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), x->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    int64_t outer = shr_dims_product(x->dim, 0, axis), n = x->dim[axis];
    int64_t inner = shr_dims_product(x->dim, axis + 1, x->rank);
    int64_t *y = c->out[0]->data;
    switch (x->dtype) {
    case SHR_DTYPE_F32:
        ARG_LOOP(float)
    case SHR_DTYPE_F64:
        ARG_LOOP(double)
    case SHR_DTYPE_I8:
        ARG_LOOP(int8_t)
    case SHR_DTYPE_U8:
        ARG_LOOP(uint8_t)
    case SHR_DTYPE_I32:
        ARG_LOOP(int32_t)
    default:
        ARG_LOOP(int64_t)
    }
    return SHR_OK;
}

static int arg_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(
        c, 0, SHR_BIT(F32) | SHR_BIT(F64) | SHR_BIT(I8) | SHR_BIT(U8) | SHR_BIT(I32) | SHR_BIT(I64),
        err);
}

static int arg_max_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return arg_run(c, true, err);
}

static int arg_min_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return arg_run(c, false, err);
}

/* Axes as an attribute until the opset before input_since, as an input from then on. */
#define REDUCE(name, input_since, setup_, fn, back)                                                \
    {SHR_ROW(name, 1, input_since - 1),                                                            \
     SHR_SLOTS(1, 1, 1, 1),                                                                        \
     .infer = reduce_infer,                                                                        \
     .setup = setup_,                                                                              \
     .forward = fn,                                                                                \
     .backward = back,                                                                             \
     SHR_NO_WEIGHT},                                                                               \
    {                                                                                              \
        SHR_ROW(name, input_since, 0), SHR_SLOTS(1, 2, 1, 1),                                      \
            .infer = reduce_infer, .setup = setup_, .forward = fn, .backward = back, SHR_NO_WEIGHT \
    }

static const struct shr_op rows[] = {
    REDUCE("ReduceL1", 18, wide_setup, sum_abs_forward, NULL),
    REDUCE("ReduceL2", 18, wide_setup, l2_forward, NULL),
    REDUCE("ReduceLogSum", 18, wide_setup, log_sum_forward, NULL),
    REDUCE("ReduceLogSumExp", 18, log_sum_exp_setup, log_sum_exp_forward, NULL),
    REDUCE("ReduceMax", 18, ordered_setup, max_forward, NULL),
    REDUCE("ReduceMean", 18, numbers_setup, mean_forward, shr_backward_reduce_mean),
    REDUCE("ReduceMin", 18, ordered_setup, min_forward, NULL),
    REDUCE("ReduceProd", 18, numbers_setup, prod_forward, NULL),
    REDUCE("ReduceSum", 13, numbers_setup, sum_forward, shr_backward_reduce_sum),
    REDUCE("ReduceSumSquare", 18, numbers_setup, sum_square_forward, NULL),
    {SHR_ROW("ArgMax", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = arg_infer, .setup = arg_setup,
     .forward = arg_max_forward, SHR_NO_WEIGHT},
    {SHR_ROW("ArgMin", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = arg_infer, .setup = arg_setup,
     .forward = arg_min_forward, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_reduce = {rows, SHR_COUNT_OF(rows)};
