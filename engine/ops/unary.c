/* Functions of one operand, element by element, without parameters: Neg Abs Sign Sqrt Exp Log Erf
 * Floor Ceil Round Reciprocal and the trigonometric ones. Neg, Abs and Sign take every number, the
 * others float32. */
#include "ops/util.h"

#include <math.h>

#include "ops/families.h"

/* A forward over float32 whose body is an expression of x. */
#define FORWARD_F32(op, EXPR)                                                                      \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        (void)err;                                                                                 \
        const float *in = c->in[0]->data;                                                          \
        float *y = c->out[0]->data;                                                                \
        int64_t n = shr_tensor_count(c->in[0]);                                                    \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const float x = in[i];                                                                 \
            y[i] = (EXPR);                                                                         \
        }                                                                                          \
        return SHR_OK;                                                                             \
    }

FORWARD_F32(sqrt, sqrtf(x))
FORWARD_F32(exp, expf(x))
FORWARD_F32(log, logf(x))
FORWARD_F32(erf, erff(x))
FORWARD_F32(floor, floorf(x))
FORWARD_F32(ceil, ceilf(x))
FORWARD_F32(round, rintf(x)) /* to nearest even */
FORWARD_F32(reciprocal, 1.0f / x)
FORWARD_F32(sin, sinf(x))
FORWARD_F32(cos, cosf(x))
FORWARD_F32(tan, tanf(x))
FORWARD_F32(asin, asinf(x))
FORWARD_F32(acos, acosf(x))
FORWARD_F32(atan, atanf(x))
FORWARD_F32(sinh, sinhf(x))
FORWARD_F32(cosh, coshf(x))
FORWARD_F32(asinh, asinhf(x))
FORWARD_F32(acosh, acoshf(x))
FORWARD_F32(atanh, atanhf(x))

/* ── Numbers with a sign; of an unsigned type only Abs and Sign have a meaning ─────────────── */

#define FORWARD_SIGNED(op, LOOP)                                                                   \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        (void)err;                                                                                 \
        const void *x = c->in[0]->data;                                                            \
        void *y = c->out[0]->data;                                                                 \
        int64_t n = shr_tensor_count(c->in[0]);                                                    \
        switch (c->in[0]->dtype) {                                                                 \
        case SHR_DTYPE_F32:                                                                        \
            LOOP(float, -v)                                                                        \
        case SHR_DTYPE_F64:                                                                        \
            LOOP(double, -v)                                                                       \
        case SHR_DTYPE_I8:                                                                         \
            LOOP(int8_t, (int8_t)(0u - (uint64_t)v))                                               \
        case SHR_DTYPE_I16:                                                                        \
            LOOP(int16_t, (int16_t)(0u - (uint64_t)v))                                             \
        case SHR_DTYPE_I32:                                                                        \
            LOOP(int32_t, (int32_t)(0u - (uint64_t)v))                                             \
        default:                                                                                   \
            LOOP(int64_t, (int64_t)(0u - (uint64_t)v))                                             \
        }                                                                                          \
    }

/* minus is -v, which wraps around for integers */
#define LOOP(T, EXPR)                                                                              \
    for (int64_t i = 0; i < n; i++) {                                                              \
        const T v = ((const T *)x)[i];                                                             \
        ((T *)y)[i] = (EXPR);                                                                      \
    }                                                                                              \
    return SHR_OK;
#define NEG_LOOP(T, minus) LOOP(T, minus)
#define ABS_LOOP(T, minus) LOOP(T, v < 0 ? minus : v == 0 ? (T)0 : v)
#define SIGN_LOOP(T, minus) LOOP(T, (T)((v > 0) - (v < 0)))
FORWARD_SIGNED(neg, NEG_LOOP)
FORWARD_SIGNED(abs_signed, ABS_LOOP)
FORWARD_SIGNED(sign_signed, SIGN_LOOP)

static bool is_unsigned(enum shr_dtype dtype)
{
    return ((SHR_INTS & ~SHR_SIGNED_INTS) >> dtype & 1u) != 0;
}

static int abs_forward(const struct shr_op_call *c, struct shr_err *err)
{
    if (!is_unsigned(c->in[0]->dtype)) {
        return abs_signed_forward(c, err);
    }
    shr_copy_same(c->in[0], c->out[0]);
    return SHR_OK;
}

static int sign_forward(const struct shr_op_call *c, struct shr_err *err)
{
    if (!is_unsigned(c->in[0]->dtype)) {
        return sign_signed_forward(c, err);
    }
    for (int64_t i = 0; i < shr_tensor_count(c->in[0]); i++) {
        shr_tensor_set(c->out[0], i, shr_tensor_get(c->in[0], i) > 0.0);
    }
    return SHR_OK;
}

static int numbers_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_NUMBERS, err);
}

static int signed_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_SIGNED_INTS | SHR_BIT(F32) | SHR_BIT(F64), err);
}

#define UNARY(name, since, setup_, fn)                                                             \
    {                                                                                              \
        SHR_ROW(name, since, 0), SHR_SLOTS(1, 1, 1, 1),                                            \
            .infer = shr_infer_same, .setup = setup_, .forward = fn, SHR_NO_WEIGHT,                \
            .prune_role = SHR_PRUNE_PASS, .in_place = true                                         \
    }

static const struct shr_op rows[] = {
    UNARY("Abs", 6, numbers_setup, abs_forward),
    UNARY("Acos", 7, shr_op_setup_f32, acos_forward),
    UNARY("Acosh", 9, shr_op_setup_f32, acosh_forward),
    UNARY("Asin", 7, shr_op_setup_f32, asin_forward),
    UNARY("Asinh", 9, shr_op_setup_f32, asinh_forward),
    UNARY("Atan", 7, shr_op_setup_f32, atan_forward),
    UNARY("Atanh", 9, shr_op_setup_f32, atanh_forward),
    UNARY("Ceil", 6, shr_op_setup_f32, ceil_forward),
    UNARY("Cos", 7, shr_op_setup_f32, cos_forward),
    UNARY("Cosh", 9, shr_op_setup_f32, cosh_forward),
    UNARY("Erf", 9, shr_op_setup_f32, erf_forward),
    UNARY("Exp", 6, shr_op_setup_f32, exp_forward),
    UNARY("Floor", 6, shr_op_setup_f32, floor_forward),
    UNARY("Log", 6, shr_op_setup_f32, log_forward),
    UNARY("Neg", 6, signed_setup, neg_forward),
    UNARY("Reciprocal", 6, shr_op_setup_f32, reciprocal_forward),
    UNARY("Round", 11, shr_op_setup_f32, round_forward),
    UNARY("Sign", 9, numbers_setup, sign_forward),
    UNARY("Sin", 7, shr_op_setup_f32, sin_forward),
    UNARY("Sinh", 9, shr_op_setup_f32, sinh_forward),
    UNARY("Sqrt", 6, shr_op_setup_f32, sqrt_forward),
    UNARY("Tan", 7, shr_op_setup_f32, tan_forward),
};
const struct shr_op_family shr_ops_unary = {rows, SHR_COUNT_OF(rows)};
