/* Cast and CastLike between all types of fixed size.
 *
 * Float to integer goes towards zero and saturates; integer to integer, and anything to an integer
 * of 2 or 4 bits, wraps around; anything to bool asks whether it is not 0. Float to float8 rounds
 * to nearest even and saturates unless the node says otherwise; float8e8m0 has modes of its own. */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

static int cast_infer(struct shr_infer *c, struct shr_err *err)
{
    int64_t to = shr_node_int(c->node, "to", 0);
    if (to <= 0) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "attribute to is missing or %lld",
                           (long long)to);
    }
    c->out[0] = c->in[0];
    c->out[0].dtype = to < SHR_DTYPE_COUNT ? (enum shr_dtype)to : SHR_DTYPE_NONE;
    return SHR_OK;
}

static int cast_like_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0] = c->in[0];
    c->out[0].dtype = c->in[1].dtype;
    return SHR_OK;
}

static int cast_setup(struct shr_op_setup *c, struct shr_err *err)
{
    if ((SHR_FIXED_SIZE >> c->out[0]->dtype & 1u) == 0) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "cannot cast to %s",
                           shr_dtype_name(c->out[0]->dtype));
    }
    return shr_op_want(c, 0, SHR_FIXED_SIZE, err);
}

static bool is_integer(enum shr_dtype dtype)
{
    return ((SHR_INTS | SHR_BIT(BOOL)) >> dtype & 1u) != 0;
}

static int64_t int_at(const struct shr_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case SHR_DTYPE_I8:
        return ((const int8_t *)t->data)[i];
    case SHR_DTYPE_I16:
        return ((const int16_t *)t->data)[i];
    case SHR_DTYPE_U16:
        return ((const uint16_t *)t->data)[i];
    case SHR_DTYPE_I32:
        return ((const int32_t *)t->data)[i];
    case SHR_DTYPE_U32:
        return ((const uint32_t *)t->data)[i];
    case SHR_DTYPE_I64:
    case SHR_DTYPE_U64:
        return ((const int64_t *)t->data)[i];
    default: /* uint8, bool */
        return ((const uint8_t *)t->data)[i];
    }
}

static void int_put(struct shr_tensor *t, int64_t i, int64_t v)
{
    switch (t->dtype) {
    case SHR_DTYPE_BOOL:
        ((uint8_t *)t->data)[i] = v != 0;
        break;
    case SHR_DTYPE_I8:
    case SHR_DTYPE_U8:
        ((uint8_t *)t->data)[i] = (uint8_t)v;
        break;
    case SHR_DTYPE_I16:
    case SHR_DTYPE_U16:
        ((uint16_t *)t->data)[i] = (uint16_t)v;
        break;
    case SHR_DTYPE_I32:
    case SHR_DTYPE_U32:
        ((uint32_t *)t->data)[i] = (uint32_t)v;
        break;
    default:
        ((int64_t *)t->data)[i] = v;
        break;
    }
}

static void i32_to_f32(int64_t n, const int32_t *x, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = (float)x[i];
    }
}

/* 2 or 4 bits of an integer, sign-extended where the type has a sign. */
static uint8_t part_of(enum shr_dtype dtype, int64_t v)
{
    const unsigned bits = shr_dtype_packed_bits(dtype);
    const unsigned code = (unsigned)v & ((1u << bits) - 1);
    const unsigned sign = (SHR_BIT(I4) | SHR_BIT(I2)) >> dtype & 1u ? 1u << (bits - 1) : 0;
    return (uint8_t)((code ^ sign) - sign);
}

/* The power of two above or below f, as the attribute round_mode says; "nearest" is rounded later.
 */
static float power_of_two(float f, const char *mode, bool saturate)
{
    const float largest = 0x1p127f;
    int exponent;
    if (!isfinite(f) || f == 0 || strcmp(mode, "nearest") == 0) {
        return f;
    }
    const bool exact = frexpf(fabsf(f), &exponent) == 0.5f;
    const float power = ldexpf(1, strcmp(mode, "down") == 0 || exact ? exponent - 1 : exponent);
    return saturate && power > largest ? largest : power;
}

static void cast_to_small_float(const struct shr_op_call *c)
{
    const bool saturate = shr_node_int(c->node, "saturate", 1) != 0;
    const char *mode = shr_node_text(c->node, "round_mode", "up");
    struct shr_tensor *y = c->out[0];
    for (int64_t i = 0; i < shr_tensor_count(y); i++) {
        float f = (float)shr_tensor_get(c->in[0], i);
        f = y->dtype == SHR_DTYPE_F8E8M0 ? power_of_two(f, mode, saturate) : f;
        ((uint8_t *)y->data)[i] = shr_f32_to_small(y->dtype, f, saturate);
    }
}

static int cast_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    int64_t n = shr_tensor_count(x);
    if (x->dtype == y->dtype) {
        shr_copy_same(x, y);
    } else if (x->dtype == SHR_DTYPE_I32 && y->dtype == SHR_DTYPE_F32) {
        i32_to_f32(n, x->data, y->data);
    } else if (is_integer(x->dtype) && is_integer(y->dtype)) {
        for (int64_t i = 0; i < n; i++) {
            int_put(y, i, int_at(x, i));
        }
    } else if (shr_dtype_is_small_float(y->dtype)) {
        cast_to_small_float(c);
    } else if (shr_dtype_packed_bits(y->dtype) != 0) {
        for (int64_t i = 0; i < n; i++) {
            double v = shr_tensor_get(x, i);
            ((uint8_t *)y->data)[i] = part_of(y->dtype, fabs(v) < 0x1p62 ? (int64_t)v : 0);
        }
    } else if (y->dtype == SHR_DTYPE_BOOL) {
        for (int64_t i = 0; i < n; i++) {
            ((uint8_t *)y->data)[i] = shr_tensor_get(x, i) != 0.0;
        }
    } else {
        bool whole = !shr_dtype_is_float(y->dtype);
        for (int64_t i = 0; i < n; i++) {
            double v = shr_tensor_get(x, i);
            shr_tensor_set(y, i, whole ? trunc(v) : v);
        }
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("Cast", 6, 0), SHR_SLOTS(1, 1, 1, 1), .backward = shr_backward_cast,
     .infer = cast_infer, .setup = cast_setup, .forward = cast_forward, SHR_NO_WEIGHT,
     .halves = true},
    {SHR_ROW("CastLike", 15, 0), SHR_SLOTS(2, 2, 1, 1), .infer = cast_like_infer,
     .setup = cast_setup, .forward = cast_forward, SHR_NO_WEIGHT, .halves = true},
};
const struct shr_op_family shr_ops_cast = {rows, SHR_COUNT_OF(rows)};
