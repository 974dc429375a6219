/* QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
 *
 * y = saturate(rint(x / scale) + zero) with rint to nearest even, x = (q - zero) * scale. Scale and
 * zero point belong to the tensor, to each index along the axis, or to each block of block_size
 * indices along it. 8 bits with one scale a row go through the kernels; all other types are
 * computed here, in float32 (divided in the type that the attribute precision names, from opset 23
 * on by default that of the scale). To float8 and float4 nothing is rounded before the cast. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/integer.h"

enum { X, SCALE, ZERO };

#define FLOATS (SHR_BIT(F32) | SHR_BIT(F16) | SHR_BIT(BF16))
#define SCALES (FLOATS | SHR_BIT(F8E8M0))
#define BYTES (SHR_BIT(U8) | SHR_BIT(I8))
#define QUANTIZED                                                                                  \
    (BYTES | SHR_BIT(U16) | SHR_BIT(I16) | SHR_PART_INTS | SHR_FLOAT8 | SHR_BIT(F4E2M1))

/* How often a scale changes: x is (outer, count, inner), with one scale for all (count 1), one for
 * each index of count (block 0), or one for each of `block` indices, outer and inner. */
struct quant {
    int64_t outer, count, inner, block;
    enum shr_dtype divide; /* in which type */
    bool fast;             /* float32 and 8 bits, one scale a row */
    double lowest, highest;
};

static bool is_in(enum shr_dtype dtype, unsigned set)
{
    return (set >> dtype & 1u) != 0;
}

/* ── Types ──────────────────────────────────────────────────────────────────────────────────── */

static int check_dim(const struct shr_infer *c, int scale_dim, int64_t scales, int64_t wanted,
                     const char *unit, struct shr_err *err)
{
    if (scales < 0 || wanted < 0 || scales == wanted) {
        return SHR_OK;
    }
    return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                       "scale '%s' has %lld values along dim %d, but the input has %lld %s there",
                       shr_op_in_name(c->node, SCALE), (long long)scales, scale_dim,
                       (long long)wanted, unit);
}

static int check_blocks(const struct shr_infer *c, int axis, int64_t block, struct shr_err *err)
{
    const struct shr_type *x = &c->in[X], *scale = &c->in[SCALE];
    if (block < 0 || (scale->rank >= 0 && scale->rank != x->rank)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "blocks of %lld want a scale of %d dimensions, not %d", (long long)block,
                           x->rank, scale->rank);
    }
    int code = SHR_OK;
    for (int i = 0; i < scale->rank && code == SHR_OK; i++) {
        int64_t dim = x->dim[i];
        int64_t wanted = i != axis || dim < 0 ? dim : dim / block + (dim % block != 0);
        code = check_dim(c, i, scale->dim[i], i == axis && dim < 0 ? -1 : wanted,
                         i == axis ? "blocks" : "indices", err);
    }
    return code;
}

static int check_scale(const struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[X], *scale = &c->in[SCALE];
    const int64_t block = shr_node_int(c->node, "block_size", 0);
    int axis = 0;
    if (x->rank < 0 || (block == 0 && (scale->rank != 1 || scale->dim[0] == 1))) {
        return SHR_OK;
    }
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 1), x->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    return block != 0 ? check_blocks(c, axis, block, err)
                      : check_dim(c, axis, scale->dim[0], x->dim[axis], "indices", err);
}

static int quantize_infer(struct shr_infer *c, struct shr_err *err)
{
    shr_type_copy_shape(&c->out[0], &c->in[X]);
    int64_t wanted = shr_node_int(c->node, "output_dtype", 0);
    c->out[0].dtype = SHR_DTYPE_U8;
    if (wanted > 0 && wanted < SHR_DTYPE_COUNT) {
        c->out[0].dtype = (enum shr_dtype)wanted;
    }
    if (shr_op_has_in(c, ZERO)) {
        if (wanted > 0 && c->in[ZERO].dtype != SHR_DTYPE_NONE && c->in[ZERO].dtype != wanted) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                               "output_dtype is %lld, but the zero point is %s", (long long)wanted,
                               shr_dtype_name(c->in[ZERO].dtype));
        }
        c->out[0].dtype = c->in[ZERO].dtype;
    }
    return check_scale(c, err);
}

static int dequantize_infer(struct shr_infer *c, struct shr_err *err)
{
    int64_t wanted = shr_node_int(c->node, "output_dtype", 0);
    shr_type_copy_shape(&c->out[0], &c->in[X]);
    c->out[0].dtype = c->in[SCALE].dtype;
    if (wanted > 0 && wanted < SHR_DTYPE_COUNT) {
        c->out[0].dtype = (enum shr_dtype)wanted;
    }
    int code = shr_op_has_in(c, ZERO) ? shr_op_same_dtype(c, X, ZERO, err) : SHR_OK;
    return code == SHR_OK ? check_scale(c, err) : code;
}

/* ── Preparation ────────────────────────────────────────────────────────────────────────────── */

/* Sorts the scale into struct quant. */
static int plan_scale(struct shr_op_setup *c, struct quant **ret, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[X], *scale = c->in[SCALE];
    const struct shr_tensor *zero = c->n_in > ZERO ? c->in[ZERO] : NULL;
    struct quant *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    *s = (struct quant){1, 1, shr_tensor_count(x), .block = shr_node_int(c->node, "block_size", 0)};
    int64_t count = shr_tensor_count(scale);
    if (zero != NULL && shr_tensor_count(zero) != count) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "%lld scales, but %lld zero points",
                           (long long)count, (long long)shr_tensor_count(zero));
    }
    if (s->block != 0 || count != 1) {
        int axis = 0;
        int64_t given = shr_node_int(c->node, "axis", 1);
        int code = shr_op_axis(c->node, "axis", given, x->rank, &axis, err);
        if (code != SHR_OK) {
            return code;
        }
        s->outer = shr_dims_product(x->dim, 0, axis);
        s->count = x->dim[axis];
        s->inner = shr_dims_product(x->dim, axis + 1, x->rank);
        int64_t block = s->block == 0 ? 1 : s->block,
                blocks = s->count / block + (s->count % block != 0);
        int64_t wanted = s->block == 0 ? s->count : s->outer * blocks * s->inner;
        if (count != wanted) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "%lld scales where %lld are wanted",
                               (long long)count, (long long)wanted);
        }
    }
    *ret = s;
    return SHR_OK;
}

static int quantize_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const enum shr_dtype to = c->out[0]->dtype;
    struct quant *s = NULL;
    int code = shr_op_want(c, X, FLOATS | SHR_BIT(I32), err);
    if (code == SHR_OK) {
        code = shr_op_want(c, SCALE, SCALES | SHR_BIT(I32), err);
    }
    if (code == SHR_OK && !is_in(to, QUANTIZED)) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "cannot quantize to %s",
                           shr_dtype_name(to));
    }
    code = code == SHR_OK ? plan_scale(c, &s, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    bool by_scale = c->opset >= 23 && is_in(c->in[SCALE]->dtype, FLOATS);
    int64_t precision =
        shr_node_int(c->node, "precision", by_scale ? c->in[SCALE]->dtype : SHR_DTYPE_F32);
    s->divide = precision == SHR_DTYPE_F16    ? SHR_DTYPE_F16
                : precision == SHR_DTYPE_BF16 ? SHR_DTYPE_BF16
                                              : SHR_DTYPE_F32;
    s->fast = c->in[X]->dtype == SHR_DTYPE_F32 && c->in[SCALE]->dtype == SHR_DTYPE_F32 &&
              s->divide == SHR_DTYPE_F32 && s->block == 0 && is_in(to, BYTES);
    double bound = 0;
    struct shr_tensor one = {.dtype = to, .data = &bound};
    shr_tensor_set(&one, 0, -INFINITY);
    s->lowest = shr_tensor_get(&one, 0);
    shr_tensor_set(&one, 0, INFINITY);
    s->highest = shr_tensor_get(&one, 0);
    return SHR_OK;
}

static int dequantize_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct quant *s = NULL;
    int code = shr_op_want(c, X, QUANTIZED | SHR_BIT(I32), err);
    if (code == SHR_OK) {
        code = shr_op_want(c, SCALE, SCALES, err);
    }
    if (code == SHR_OK && !is_in(c->out[0]->dtype, FLOATS)) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "cannot dequantize to %s",
                           shr_dtype_name(c->out[0]->dtype));
    }
    code = code == SHR_OK ? plan_scale(c, &s, err) : code;
    if (code == SHR_OK) {
        s->fast = is_in(c->in[X]->dtype, BYTES) && c->in[SCALE]->dtype == SHR_DTYPE_F32 &&
                  c->out[0]->dtype == SHR_DTYPE_F32 && s->block == 0;
    }
    return code;
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

/* The scale of the first element of row i (outer and count together), and the step to the next. */
static int64_t scale_index(const struct quant *s, int64_t i, int64_t *ret_step)
{
    *ret_step = s->block != 0;
    if (s->block == 0) {
        return i % s->count;
    }
    int64_t blocks = s->count / s->block + (s->count % s->block != 0);
    return (i / s->count * blocks + i % s->count / s->block) * s->inner;
}

static double zero_at(const struct shr_tensor *zero, int64_t i)
{
    return zero == NULL ? 0 : shr_tensor_get(zero, i);
}

static float divide(enum shr_dtype in, float x, float scale)
{
    return in == SHR_DTYPE_F16    ? shr_f16_to_f32(shr_f32_to_f16(x / scale))
           : in == SHR_DTYPE_BF16 ? shr_bf16_to_f32(shr_f32_to_bf16(x / scale))
                                  : x / scale;
}

/* A row of any types. Clamping first cannot overflow and sends NaN to the lowest, as the kernels
 * do. */
static void quantize_row(const struct shr_op_call *c, int64_t row)
{
    const struct quant *s = c->state;
    const struct shr_tensor *zeros = c->n_in > ZERO ? c->in[ZERO] : NULL;
    struct shr_tensor *y = c->out[0];
    const bool to_float = shr_dtype_is_small_float(y->dtype);
    const bool saturate = shr_node_int(c->node, "saturate", 1) != 0;
    int64_t step, k = scale_index(s, row, &step);
    for (int64_t i = row * s->inner; i < (row + 1) * s->inner; i++, k += step) {
        double zero = zero_at(zeros, k);
        float v = divide(s->divide, (float)shr_tensor_get(c->in[X], i),
                         (float)shr_tensor_get(c->in[SCALE], k));
        if (to_float) {
            ((uint8_t *)y->data)[i] = shr_f32_to_small(y->dtype, v + (float)zero, saturate);
            continue;
        }
        v = v > (float)(s->lowest - zero) ? v : (float)(s->lowest - zero);
        v = v < (float)(s->highest - zero) ? v : (float)(s->highest - zero);
        shr_tensor_set(y, i, rintf(v) + zero);
    }
}

static int quantize_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct quant *s = c->state;
    const struct shr_tensor *zeros = c->n_in > ZERO ? c->in[ZERO] : NULL;
    for (int64_t i = 0; i < s->outer * s->count; i++) {
        if (!s->fast) {
            quantize_row(c, i);
            continue;
        }
        float scale = ((const float *)c->in[SCALE]->data)[i % s->count];
        const float *x = (const float *)c->in[X]->data + i * s->inner;
        int32_t zero = (int32_t)zero_at(zeros, i % s->count);
        size_t n = (size_t)s->inner;
        if (c->out[0]->dtype == SHR_DTYPE_U8) {
            c->kernels->quantize_u8(n, x, scale, zero, (uint8_t *)c->out[0]->data + i * s->inner);
        } else {
            c->kernels->quantize_s8(n, x, scale, zero, (int8_t *)c->out[0]->data + i * s->inner);
        }
    }
    return SHR_OK;
}

/* The difference of wide integers may not fit into their type. */
static void dequantize_row(const struct shr_op_call *c, int64_t row)
{
    const struct quant *s = c->state;
    const struct shr_tensor *zeros = c->n_in > ZERO ? c->in[ZERO] : NULL;
    int64_t step, k = scale_index(s, row, &step);
    for (int64_t i = row * s->inner; i < (row + 1) * s->inner; i++, k += step) {
        double q = shr_tensor_get(c->in[X], i) - zero_at(zeros, k);
        float x = (float)q * (float)shr_tensor_get(c->in[SCALE], k);
        shr_tensor_set(c->out[0], i, x);
    }
}

static int dequantize_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct quant *s = c->state;
    const struct shr_tensor *zeros = c->n_in > ZERO ? c->in[ZERO] : NULL;
    for (int64_t i = 0; i < s->outer * s->count; i++) {
        if (!s->fast) {
            dequantize_row(c, i);
            continue;
        }
        float scale = ((const float *)c->in[SCALE]->data)[i % s->count];
        float *x = (float *)c->out[0]->data + i * s->inner;
        const uint8_t *q = (const uint8_t *)c->in[X]->data + i * s->inner;
        int32_t zero = (int32_t)zero_at(zeros, i % s->count);
        if (c->in[X]->dtype == SHR_DTYPE_U8) {
            c->kernels->dequantize_u8((size_t)s->inner, q, scale, zero, x);
        } else {
            c->kernels->dequantize_s8((size_t)s->inner, (const int8_t *)q, scale, zero, x);
        }
    }
    return SHR_OK;
}

/* ── DynamicQuantizeLinear ──────────────────────────────────────────────────────────────────── */

static int dynamic_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    shr_type_copy_shape(&c->out[0], &c->in[X]);
    c->out[0].dtype = c->out[2].dtype = SHR_DTYPE_U8;
    c->out[1].dtype = SHR_DTYPE_F32;
    c->out[1].rank = c->out[2].rank = 0;
    return SHR_OK;
}

static int dynamic_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    float min, max, scale;
    int32_t zero;
    size_t n = (size_t)shr_tensor_count(c->in[X]);
    c->kernels->minmax_f32(n, c->in[X]->data, &min, &max);
    shr_integer_dynamic(min, max, &scale, &zero);
    c->kernels->quantize_u8(n, c->in[X]->data, scale, zero, c->out[0]->data);
    *(float *)c->out[1]->data = scale;
    *(uint8_t *)c->out[2]->data = (uint8_t)zero;
    return SHR_OK;
}

#define QUANTIZE(domain_, since_)                                                                  \
    {                                                                                              \
        .domain = domain_, .name = "QuantizeLinear", .since = since_, SHR_SLOTS(2, 3, 1, 1),       \
        .infer = quantize_infer, .setup = quantize_setup, .forward = quantize_forward,             \
        SHR_NO_WEIGHT                                                                              \
    }
#define DEQUANTIZE(domain_, since_)                                                                \
    {                                                                                              \
        .domain = domain_, .name = "DequantizeLinear", .since = since_, SHR_SLOTS(2, 3, 1, 1),     \
        .infer = dequantize_infer, .setup = dequantize_setup, .forward = dequantize_forward,       \
        SHR_NO_WEIGHT                                                                              \
    }

static const struct shr_op rows[] = {
    DEQUANTIZE("", 10),
    {SHR_ROW("DynamicQuantizeLinear", 11, 0), SHR_SLOTS(1, 1, 3, 3), .infer = dynamic_infer,
     .setup = shr_op_setup_f32, .forward = dynamic_forward, SHR_NO_WEIGHT},
    QUANTIZE("", 10),
    DEQUANTIZE("com.microsoft", 1),
    QUANTIZE("com.microsoft", 1),
};
const struct shr_op_family shr_ops_quant = {rows, SHR_COUNT_OF(rows)};
