/* com.microsoft's functions of 8-bit elements: QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax and
 * QLinearConcat. Each is DequantizeLinear, the float function, QuantizeLinear; of one element there
 * are 256 cases, so all but Softmax go through a table. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/integer.h"

enum { CODES = 256 };

/* Inputs by slot: a tensor of bytes, then scale and zero point, of one value each. */
static int check_quantized(const struct shr_op_setup *c, int x, int scale, int zero,
                           struct shr_err *err)
{
    const unsigned bytes = SHR_BIT(U8) | SHR_BIT(I8);
    int code = x < 0 ? SHR_OK : shr_op_want(c, (size_t)x, bytes, err);
    if (code == SHR_OK) {
        code = shr_op_want(c, (size_t)scale, SHR_BIT(F32), err);
    }
    if (code == SHR_OK) {
        code = shr_op_want(c, (size_t)zero, bytes, err);
    }
    if (code == SHR_OK) {
        code = shr_integer_check_count(c, scale, 1, err);
    }
    return code == SHR_OK ? shr_integer_check_count(c, zero, 1, err) : code;
}

struct grid { /* of a tensor */
    float scale;
    int32_t zero;
};

static struct grid grid_of(const struct shr_op_call *c, int scale, int zero)
{
    return (struct grid){*(const float *)c->in[scale]->data,
                         shr_integer_zero(shr_integer_in(c->in, c->n_in, zero), 0)};
}

static void quantize(const struct shr_op_call *c, size_t n, const float *x, struct grid grid,
                     uint8_t *q)
{
    if (c->out[0]->dtype == SHR_DTYPE_U8) {
        c->kernels->quantize_u8(n, x, grid.scale, grid.zero, q);
    } else {
        c->kernels->quantize_s8(n, x, grid.scale, grid.zero, (int8_t *)q);
    }
}

static void dequantize(const struct shr_op_call *c, size_t n, const uint8_t *q, struct grid grid,
                       float *x)
{
    if (c->out[0]->dtype == SHR_DTYPE_U8) {
        c->kernels->dequantize_u8(n, q, grid.scale, grid.zero, x);
    } else {
        c->kernels->dequantize_s8(n, (const int8_t *)q, grid.scale, grid.zero, x);
    }
}

/* The real value of each byte. */
static void real_values(const struct shr_op_call *c, struct grid grid, float *x)
{
    uint8_t codes[CODES];
    for (int i = 0; i < CODES; i++) {
        codes[i] = (uint8_t)i;
    }
    dequantize(c, CODES, codes, grid, x);
}

static void map_bytes(size_t n, const uint8_t *table, const uint8_t *x, uint8_t *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = table[x[i]];
    }
}

/* ── Functions of one element ───────────────────────────────────────────────────────────────── */

enum { X, X_SCALE, X_ZERO, Y_SCALE, Y_ZERO };

static int unary_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0] = c->in[X];
    return shr_integer_require(c, Y_SCALE, err);
}

static int unary_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = check_quantized(c, X, X_SCALE, X_ZERO, err);
    return code == SHR_OK ? check_quantized(c, SHR_NO_SLOT, Y_SCALE, Y_ZERO, err) : code;
}

static int map_forward(const struct shr_op_call *c, float (*fn)(float x, float alpha), float alpha)
{
    float reals[CODES];
    uint8_t table[CODES];
    real_values(c, grid_of(c, X_SCALE, X_ZERO), reals);
    for (int i = 0; i < CODES; i++) {
        reals[i] = fn(reals[i], alpha);
    }
    quantize(c, CODES, reals, grid_of(c, Y_SCALE, Y_ZERO), table);
    map_bytes((size_t)shr_tensor_count(c->out[0]), table, c->in[X]->data, c->out[0]->data);
    return SHR_OK;
}

static float sigmoid(float x, float alpha)
{
    (void)alpha;
    return 1 / (1 + expf(-x));
}

static float leaky_relu(float x, float alpha)
{
    return x < 0 ? alpha * x : x;
}

static int sigmoid_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    return map_forward(c, sigmoid, 0);
}

static int leaky_relu_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    return map_forward(c, leaky_relu, shr_node_float(c->node, "alpha", 0.01f));
}

/* ── Softmax: along the axis, before opset 13 along all from the axis on ────────────────────── */

struct softmax {
    int64_t outer, n, inner;
};

static int softmax_infer(struct shr_infer *c, struct shr_err *err)
{
    int axis, code = unary_infer(c, err);
    if (code != SHR_OK || c->in[X].rank < 0) {
        return code;
    }
    return shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", -1), c->in[X].rank, &axis,
                       err);
}

static int softmax_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[X];
    int axis = 0, code = unary_setup(c, err);
    if (code == SHR_OK) {
        code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", -1), x->rank, &axis, err);
    }
    struct softmax *s = code == SHR_OK ? shr_arena_new(c->arena, 1, sizeof *s) : NULL;
    if (s == NULL) {
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    bool flat = shr_node_int(c->node, "opset", 13) < 13;
    s->outer = shr_dims_product(x->dim, 0, axis);
    s->n = flat ? shr_dims_product(x->dim, axis, x->rank) : x->dim[axis];
    s->inner = flat ? 1 : shr_dims_product(x->dim, axis + 1, x->rank);
    c->state = s;
    c->scratch = (size_t)s->n * sizeof(float);
    return SHR_OK;
}

/* exp of what a code lies below the largest of its row, by the difference. */
static void exponentials(float scale, float *e)
{
    for (int d = 0; d < CODES; d++) {
        e[d] = expf((float)-d * scale);
    }
}

/* n codes, `step` apart; sign: 0x80 for int8, which orders them as uint8. */
static void softmax_row(const uint8_t *x, int64_t n, int64_t step, uint8_t sign, const float *e,
                        float *row)
{
    uint8_t largest = 0;
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        const uint8_t code = x[k * step] ^ sign;
        largest = code > largest ? code : largest;
    }
    for (int64_t k = 0; k < n; k++) {
        row[k] = e[largest - (x[k * step] ^ sign)];
        sum += (double)row[k];
    }
    for (int64_t k = 0; k < n; k++) {
        row[k] = (float)((double)row[k] / sum);
    }
}

static int softmax_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct softmax *s = c->state;
    const struct grid to = grid_of(c, Y_SCALE, Y_ZERO);
    const uint8_t sign = c->in[X]->dtype == SHR_DTYPE_I8 ? 0x80 : 0;
    float e[CODES], *row = c->scratch;
    exponentials(grid_of(c, X_SCALE, X_ZERO).scale, e);
    for (int64_t i = 0; i < s->outer * s->inner; i++) {
        int64_t first = i / s->inner * s->n * s->inner + i % s->inner;
        uint8_t *y = (uint8_t *)c->out[0]->data + first;
        softmax_row((const uint8_t *)c->in[X]->data + first, s->n, s->inner, sign, e, row);
        for (int64_t k = 0; k < s->n && s->inner > 1; k++) {
            quantize(c, 1, &row[k], to, &y[k * s->inner]);
        }
        if (s->inner == 1) {
            quantize(c, (size_t)s->n, row, to, y);
        }
    }
    return SHR_OK;
}

/* ── Concat: y_scale, y_zero, then a tensor, its scale and its zero point for each input ────── */

enum { FIRST = 2, EACH = 3 };

static int concat_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_type *y = &c->out[0];
    int axis = 0;
    if ((c->n_in - FIRST) % EACH != 0) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "%zu inputs are not 2 and some triples",
                           c->n_in);
    }
    *y = c->in[FIRST];
    y->dtype = c->in[1].dtype;
    int code = y->rank < 0 ? SHR_OK
                           : shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), y->rank,
                                         &axis, err);
    for (size_t i = FIRST + EACH; code == SHR_OK && i < c->n_in; i += EACH) {
        const struct shr_type *x = &c->in[i];
        if (y->rank < 0 || x->rank < 0) {
            y->rank = -1;
            continue;
        }
        for (int d = 0; d < y->rank && code == SHR_OK; d++) {
            if (d == axis && x->rank == y->rank) {
                bool both = y->dim[d] >= 0 && x->dim[d] >= 0 && y->dim[d] <= INT64_MAX - x->dim[d];
                shr_type_set_dim(y, d, both ? y->dim[d] + x->dim[d] : -1, NULL);
            } else if (x->rank != y->rank ||
                       (x->dim[d] >= 0 && y->dim[d] >= 0 && x->dim[d] != y->dim[d])) {
                code = shr_op_fail(c->node, err, SHR_ERR_INVALID,
                                   "input '%s' does not fit the others along axis %d",
                                   shr_op_in_name(c->node, i), axis);
            }
        }
    }
    return code;
}

static int concat_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = check_quantized(c, SHR_NO_SLOT, 0, 1, err);
    for (size_t i = FIRST; code == SHR_OK && i < c->n_in; i += EACH) {
        code = check_quantized(c, (int)i, (int)i + 1, (int)i + 2, err);
        if (code == SHR_OK && c->in[i]->dtype != c->out[0]->dtype) {
            code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "int8 and uint8 are mixed");
        }
    }
    return code;
}

static int concat_forward(const struct shr_op_call *c, struct shr_err *err)
{
    struct shr_tensor *y = c->out[0];
    const struct grid to = grid_of(c, 0, 1);
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), y->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    const int64_t outer = shr_dims_product(y->dim, 0, axis);
    const size_t row = (size_t)shr_dims_product(y->dim, axis, y->rank);
    uint8_t *to_y = y->data;
    for (size_t i = FIRST; i < c->n_in; i += EACH) {
        const struct grid from = grid_of(c, (int)i + 1, (int)i + 2);
        const uint8_t *x = c->in[i]->data;
        const size_t n = (size_t)shr_dims_product(c->in[i]->dim, axis, y->rank);
        float reals[CODES];
        uint8_t table[CODES];
        real_values(c, from, reals);
        quantize(c, CODES, reals, to, table);
        for (int64_t k = 0; k < outer; k++) {
            if (from.scale == to.scale && from.zero == to.zero) {
                memcpy(to_y + (size_t)k * row, x + (size_t)k * n, n);
            } else {
                map_bytes(n, table, x + (size_t)k * n, to_y + (size_t)k * row);
            }
        }
        to_y += n;
    }
    return SHR_OK;
}

#define MAP(name_, in_min_, in_max_, infer_, setup_, forward_)                                     \
    {                                                                                              \
        .domain = "com.microsoft", .name = name_, .since = 1, SHR_SLOTS(in_min_, in_max_, 1, 1),   \
        .infer = infer_, .setup = setup_, .forward = forward_, SHR_NO_WEIGHT                       \
    }

static const struct shr_op rows[] = {
    MAP("QLinearConcat", 5, -1, concat_infer, concat_setup, concat_forward),
    MAP("QLinearLeakyRelu", 2, 5, unary_infer, unary_setup, leaky_relu_forward),
    MAP("QLinearSigmoid", 2, 5, unary_infer, unary_setup, sigmoid_forward),
    MAP("QLinearSoftmax", 2, 5, softmax_infer, softmax_setup, softmax_forward),
};
const struct shr_op_family shr_ops_integer_map = {rows, SHR_COUNT_OF(rows)};
