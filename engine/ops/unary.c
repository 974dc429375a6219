/* Functions of one operand, element by element, without parameters: Neg Abs Sign Sqrt Exp Log Erf
 * Floor Ceil Round Reciprocal and the trigonometric ones. Neg, Abs and Sign take every number, the
 * others float32 and float64. */
#include "ops/util.h"

#include <tgmath.h>

#include "ops/families.h"
#include "ops/grad.h"

/* A forward whose body is an expression of x, whose functions are those of its type (tgmath.h). */
#define REAL_LOOP(T, EXPR)                                                                         \
    for (int64_t i = 0; i < n; i++) {                                                              \
        const T x = ((const T *)c->in[0]->data)[i];                                                \
        ((T *)c->out[0]->data)[i] = (EXPR);                                                        \
    }
#define FORWARD_REAL(op, EXPR)                                                                     \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        (void)err;                                                                                 \
        const int64_t n = shr_tensor_count(c->in[0]);                                              \
        if (c->in[0]->dtype == SHR_DTYPE_F64) {                                                    \
            REAL_LOOP(double, EXPR)                                                                \
        } else {                                                                                   \
            REAL_LOOP(float, EXPR)                                                                 \
        }                                                                                          \
        return SHR_OK;                                                                             \
    }

FORWARD_REAL(sqrt, sqrt(x))
FORWARD_REAL(exp, exp(x))
FORWARD_REAL(log, log(x))
FORWARD_REAL(erf, erf(x))
FORWARD_REAL(floor, floor(x))
FORWARD_REAL(ceil, ceil(x))
FORWARD_REAL(round, rint(x)) /* to nearest even */
FORWARD_REAL(reciprocal, 1 / x)
FORWARD_REAL(sin, sin(x))
FORWARD_REAL(cos, cos(x))
FORWARD_REAL(tan, tan(x))
FORWARD_REAL(asin, asin(x))
FORWARD_REAL(acos, acos(x))
FORWARD_REAL(atan, atan(x))
FORWARD_REAL(sinh, sinh(x))
FORWARD_REAL(cosh, cosh(x))
FORWARD_REAL(asinh, asinh(x))
FORWARD_REAL(acosh, acosh(x))
FORWARD_REAL(atanh, atanh(x))

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

static int real_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_BIT(F32) | SHR_BIT(F64), err);
}

static int signed_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_SIGNED_INTS | SHR_BIT(F32) | SHR_BIT(F64), err);
}

#define UNARY(name, since, setup_, fn, back)                                                       \
    {                                                                                              \
        SHR_ROW(name, since, 0), SHR_SLOTS(1, 1, 1, 1),                                            \
            .infer = shr_infer_same, .setup = setup_, .forward = fn, SHR_NO_WEIGHT,                \
            .prune_role = SHR_PRUNE_PASS, .in_place = true, .backward = back                       \
    }

static const struct shr_op rows[] = {
    UNARY("Abs", 6, numbers_setup, abs_forward, shr_backward_abs),
    UNARY("Acos", 7, real_setup, acos_forward, NULL),
    UNARY("Acosh", 9, real_setup, acosh_forward, NULL),
    UNARY("Asin", 7, real_setup, asin_forward, NULL),
    UNARY("Asinh", 9, real_setup, asinh_forward, NULL),
    UNARY("Atan", 7, real_setup, atan_forward, NULL),
    UNARY("Atanh", 9, real_setup, atanh_forward, NULL),
    UNARY("Ceil", 6, real_setup, ceil_forward, NULL),
    UNARY("Cos", 7, real_setup, cos_forward, NULL),
    UNARY("Cosh", 9, real_setup, cosh_forward, NULL),
    UNARY("Erf", 9, real_setup, erf_forward, shr_backward_erf),
    UNARY("Exp", 6, real_setup, exp_forward, shr_backward_exp),
    UNARY("Floor", 6, real_setup, floor_forward, NULL),
    UNARY("Log", 6, real_setup, log_forward, shr_backward_log),
    UNARY("Neg", 6, signed_setup, neg_forward, shr_backward_neg),
    UNARY("Reciprocal", 6, real_setup, reciprocal_forward, shr_backward_reciprocal),
    UNARY("Round", 11, real_setup, round_forward, NULL),
    UNARY("Sign", 9, numbers_setup, sign_forward, NULL),
    UNARY("Sin", 7, real_setup, sin_forward, NULL),
    UNARY("Sinh", 9, real_setup, sinh_forward, NULL),
    UNARY("Sqrt", 6, real_setup, sqrt_forward, shr_backward_sqrt),
    UNARY("Tan", 7, real_setup, tan_forward, NULL),
};
const struct shr_op_family shr_ops_unary = {rows, SHR_COUNT_OF(rows)};
