/* QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
 *
 * y = saturate(rint(x / scale) + zero) with rint to nearest even, x = (q - zero) * scale, in
 * float32. Scale and zero point belong to the tensor or to each index along the axis; blocked
 * scales (opset 21) are refused. 8 bits go through the kernels, 16 and 32 bits are computed here.
 */
#include <math.h>

#include "ops/families.h"
#include "ops/integer.h"

enum { X, SCALE, ZERO };

/* How often a scale changes: x is (outer, count, inner), one scale for each index of count. */
struct quant {
    int64_t outer, count, inner;
};

static int check_scale(const struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[X], *scale = &c->in[SCALE];
    if (x->rank < 0 || scale->rank != 1 || scale->dim[0] == 1 || scale->dim[0] < 0) {
        return SHR_OK;
    }
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 1), x->rank, &axis, err);
    if (code == SHR_OK && x->dim[axis] >= 0 && x->dim[axis] != scale->dim[0]) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "scale '%s' has %lld values, but dim %d of the input is %lld",
                           shr_op_in_name(c->node, SCALE), (long long)scale->dim[0], axis,
                           (long long)x->dim[axis]);
    }
    return code;
}

static int quantize_infer(struct shr_infer *c, struct shr_err *err)
{
    shr_type_copy_shape(&c->out[0], &c->in[X]);
    int64_t wanted = shr_node_int(c->node, "output_dtype", 0);
    c->out[0].dtype = SHR_DTYPE_U8;
    if (shr_op_has_in(c, ZERO)) {
        c->out[0].dtype = c->in[ZERO].dtype;
    } else if (wanted > 0 && wanted < SHR_DTYPE_COUNT) {
        c->out[0].dtype = (enum shr_dtype)wanted;
    }
    return check_scale(c, err);
}

static int dequantize_infer(struct shr_infer *c, struct shr_err *err)
{
    shr_type_copy_shape(&c->out[0], &c->in[X]);
    c->out[0].dtype = c->in[SCALE].dtype;
    int code = shr_op_has_in(c, ZERO) ? shr_op_same_dtype(c, X, ZERO, err) : SHR_OK;
    return code == SHR_OK ? check_scale(c, err) : code;
}

/* Sorts the scale into struct quant. */
static int plan_scale(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[X], *scale = c->in[SCALE];
    const struct shr_tensor *zero = c->n_in > ZERO ? c->in[ZERO] : NULL;
    struct quant *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    *s = (struct quant){1, 1, shr_tensor_count(x)};
    int64_t count = shr_tensor_count(scale);
    if (shr_node_int(c->node, "block_size", 0) != 0 || (count != 1 && scale->rank > 1)) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "blocked scales are not supported");
    }
    if (zero != NULL && shr_tensor_count(zero) != count) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "%lld scales, but %lld zero points",
                           (long long)count, (long long)shr_tensor_count(zero));
    }
    if (count != 1) {
        int axis = 0;
        int64_t given = shr_node_int(c->node, "axis", 1);
        int code = shr_op_axis(c->node, "axis", given, x->rank, &axis, err);
        if (code != SHR_OK) {
            return code;
        }
        *s = (struct quant){shr_dims_product(x->dim, 0, axis), x->dim[axis],
                            shr_dims_product(x->dim, axis + 1, x->rank)};
    }
    return SHR_OK;
}

static int quantize_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const unsigned types = SHR_BIT(U8) | SHR_BIT(I8) | SHR_BIT(U16) | SHR_BIT(I16);
    int code = shr_op_want(c, X, SHR_BIT(F32), err);
    if (code == SHR_OK) {
        code = shr_op_want(c, SCALE, SHR_BIT(F32), err);
    }
    if (code == SHR_OK && (types >> c->out[0]->dtype & 1u) == 0) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "cannot quantize to %s",
                           shr_dtype_name(c->out[0]->dtype));
    }
    return code == SHR_OK ? plan_scale(c, err) : code;
}

static int dequantize_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const unsigned types = SHR_BIT(U8) | SHR_BIT(I8) | SHR_BIT(U16) | SHR_BIT(I16) | SHR_BIT(I32);
    int code = shr_op_want(c, X, types, err);
    if (code == SHR_OK) {
        code = shr_op_want(c, SCALE, SHR_BIT(F32), err);
    }
    return code == SHR_OK ? plan_scale(c, err) : code;
}

static int32_t zero_at(const struct shr_tensor *zero, int64_t i)
{
    return zero == NULL ? 0 : (int32_t)shr_tensor_get(zero, i);
}

/* To 16 bits; clamping first cannot overflow and sends NaN to lo, as the kernels do. */
static void quantize_16(const float *x, int64_t n, float scale, int32_t zero, struct shr_tensor *y,
                        int64_t at)
{
    bool is_signed = y->dtype == SHR_DTYPE_I16;
    int32_t lo = is_signed ? INT16_MIN : 0, hi = is_signed ? INT16_MAX : UINT16_MAX;
    float below = (float)(lo - zero), above = (float)(hi - zero);
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] / scale;
        v = v > below ? v : below;
        v = v < above ? v : above;
        int32_t q = (int32_t)rintf(v) + zero;
        if (is_signed) {
            ((int16_t *)y->data)[at + i] = (int16_t)q;
        } else {
            ((uint16_t *)y->data)[at + i] = (uint16_t)q;
        }
    }
}

static int quantize_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct quant *s = c->state;
    const struct shr_tensor *zeros = c->n_in > ZERO ? c->in[ZERO] : NULL;
    const float *x = c->in[X]->data, *scales = c->in[SCALE]->data;
    struct shr_tensor *y = c->out[0];
    for (int64_t i = 0; i < s->outer * s->count; i++) {
        float scale = scales[i % s->count];
        int32_t zero = zero_at(zeros, i % s->count);
        int64_t at = i * s->inner;
        if (y->dtype == SHR_DTYPE_U8) {
            c->kernels->quantize_u8((size_t)s->inner, x + at, scale, zero, (uint8_t *)y->data + at);
        } else if (y->dtype == SHR_DTYPE_I8) {
            c->kernels->quantize_s8((size_t)s->inner, x + at, scale, zero, (int8_t *)y->data + at);
        } else {
            quantize_16(x + at, s->inner, scale, zero, y, at);
        }
    }
    return SHR_OK;
}

/* From 16 or 32 bits, where the difference may not fit into 32. */
static void dequantize_wide(const struct shr_tensor *q, int64_t at, int64_t n, float scale,
                            int32_t zero, float *x)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t v = q->dtype == SHR_DTYPE_I32   ? ((const int32_t *)q->data)[at + i]
                    : q->dtype == SHR_DTYPE_I16 ? ((const int16_t *)q->data)[at + i]
                                                : ((const uint16_t *)q->data)[at + i];
        x[at + i] = (float)(v - zero) * scale;
    }
}

static int dequantize_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct quant *s = c->state;
    const struct shr_tensor *q = c->in[X], *zeros = c->n_in > ZERO ? c->in[ZERO] : NULL;
    const float *scales = c->in[SCALE]->data;
    float *x = c->out[0]->data;
    for (int64_t i = 0; i < s->outer * s->count; i++) {
        float scale = scales[i % s->count];
        int32_t zero = zero_at(zeros, i % s->count);
        int64_t at = i * s->inner;
        if (q->dtype == SHR_DTYPE_U8) {
            c->kernels->dequantize_u8((size_t)s->inner, (const uint8_t *)q->data + at, scale, zero,
                                      x + at);
        } else if (q->dtype == SHR_DTYPE_I8) {
            c->kernels->dequantize_s8((size_t)s->inner, (const int8_t *)q->data + at, scale, zero,
                                      x + at);
        } else {
            dequantize_wide(q, at, s->inner, scale, zero, x);
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

static const struct shr_op rows[] = {
    {SHR_ROW("DequantizeLinear", 10, 0), SHR_SLOTS(2, 3, 1, 1), .infer = dequantize_infer,
     .setup = dequantize_setup, .forward = dequantize_forward, SHR_NO_WEIGHT},
    {SHR_ROW("DynamicQuantizeLinear", 11, 0), SHR_SLOTS(1, 1, 3, 3), .infer = dynamic_infer,
     .setup = shr_op_setup_f32, .forward = dynamic_forward, SHR_NO_WEIGHT},
    {SHR_ROW("QuantizeLinear", 10, 0), SHR_SLOTS(2, 3, 1, 1), .infer = quantize_infer,
     .setup = quantize_setup, .forward = quantize_forward, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_quant = {rows, SHR_COUNT_OF(rows)};
