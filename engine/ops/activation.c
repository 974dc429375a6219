/* Activations, float32 and float64 element by element: Relu LeakyRelu Elu Selu Celu Sigmoid
 * HardSigmoid HardSwish Tanh Softplus Softsign ThresholdedRelu Gelu Swish Mish Shrink SwiGLU, and
 * Clip of every number. */
#include "ops/util.h"

#include <float.h>
#include <string.h>
#include <tgmath.h>

#include "ops/families.h"
#include "ops/grad.h"

/* Two parameters by name, and an expression of x and them; `real` is the type,
 * and functions are those of it (tgmath.h). */
#define REAL_LOOP(T, EXPR)                                                                         \
    {                                                                                              \
        typedef T real;                                                                            \
        const T a = (T)alpha, b = (T)beta;                                                         \
        (void)sizeof(real);                                                                        \
        (void)a;                                                                                   \
        (void)b;                                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const T x = ((const T *)c->in[0]->data)[i];                                            \
            ((T *)c->out[0]->data)[i] = (EXPR);                                                    \
        }                                                                                          \
    }
#define FORWARD(op, NAME_A, DEFAULT_A, NAME_B, DEFAULT_B, EXPR)                                    \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        (void)err;                                                                                 \
        const float alpha = shr_node_float(c->node, NAME_A, DEFAULT_A);                            \
        const float beta = shr_node_float(c->node, NAME_B, DEFAULT_B);                             \
        const int64_t n = shr_tensor_count(c->in[0]);                                              \
        if (c->in[0]->dtype == SHR_DTYPE_F64) {                                                    \
            REAL_LOOP(double, EXPR)                                                                \
        } else {                                                                                   \
            REAL_LOOP(float, EXPR)                                                                 \
        }                                                                                          \
        return SHR_OK;                                                                             \
    }

#define SOFTPLUS(x) (x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)))
#define CLAMP01(x) (fmax((real)0, fmin((real)1, x)))

FORWARD(relu_real, "", 0.0f, "", 0.0f, x < 0 ? 0 : x)
FORWARD(sigmoid_real, "", 0.0f, "", 0.0f, 1 / (1 + exp(-x)))
FORWARD(tanh_real, "", 0.0f, "", 0.0f, tanh(x))
FORWARD(leaky_relu_real, "alpha", 0.01f, "", 0.0f, x < 0 ? a * x : x)
FORWARD(elu, "alpha", 1.0f, "", 0.0f, x < 0 ? a * expm1(x) : x)
FORWARD(selu, "alpha", 1.67326319f, "gamma", 1.05070102f, b *(x > 0 ? x : a * expm1(x)))
FORWARD(celu, "alpha", 1.0f, "", 0.0f, x < 0 ? a * expm1(x / a) : x)
FORWARD(hard_sigmoid_real, "alpha", 0.2f, "beta", 0.5f, CLAMP01(a *x + b))
FORWARD(hard_swish_real, "", 0.0f, "", 0.0f, x *CLAMP01(x / 6 + (real)0.5))
FORWARD(shrink, "bias", 0.0f, "lambd", 0.5f, x<-b ? x + a : x> b ? x - a : 0)
FORWARD(softplus, "", 0.0f, "", 0.0f, SOFTPLUS(x))
FORWARD(softsign, "", 0.0f, "", 0.0f, x / (1 + fabs(x)))
FORWARD(thresholded_relu, "alpha", 1.0f, "", 0.0f, x > a ? x : 0)
FORWARD(swish, "alpha", 1.0f, "", 0.0f, x / (1 + exp(-a * x)))
FORWARD(mish, "", 0.0f, "", 0.0f, x *tanh(SOFTPLUS(x)))
FORWARD(gelu_erf_real, "", 0.0f, "", 0.0f, x *(1 + erf(x * (real)0.70710678118654752)) / 2)
FORWARD(gelu_tanh, "", 0.0f, "", 0.0f,
        x *(1 + tanh((real)0.79788456080286536 * (x + (real)0.044715 * x * x * x))) / 2)

/* Those that kernels know, in float32. */
#define KERNEL(op, ACT, NAME_LO, DEFAULT_LO, NAME_HI, DEFAULT_HI)                                  \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        if (c->in[0]->dtype != SHR_DTYPE_F32) {                                                    \
            return op##_real_forward(c, err);                                                      \
        }                                                                                          \
        shr_op_act(c, ACT, shr_node_float(c->node, NAME_LO, DEFAULT_LO),                           \
                   shr_node_float(c->node, NAME_HI, DEFAULT_HI));                                  \
        return SHR_OK;                                                                             \
    }

KERNEL(relu, SHR_ACT_RELU, "", 0.0f, "", 0.0f)
KERNEL(sigmoid, SHR_ACT_SIGMOID, "", 0.0f, "", 0.0f)
KERNEL(tanh, SHR_ACT_TANH, "", 0.0f, "", 0.0f)
KERNEL(leaky_relu, SHR_ACT_LEAKY, "alpha", 0.01f, "", 0.0f)
KERNEL(hard_sigmoid, SHR_ACT_HARDSIGMOID, "alpha", 0.2f, "beta", 0.5f)
KERNEL(hard_swish, SHR_ACT_HARDSWISH, "", 0.0f, "", 0.0f)
KERNEL(gelu_erf, SHR_ACT_GELU, "", 0.0f, "", 0.0f)

static int gelu_forward(const struct shr_op_call *c, struct shr_err *err)
{
    bool tanh_form = strcmp(shr_node_text(c->node, "approximate", "none"), "tanh") == 0;
    return tanh_form ? gelu_tanh_forward(c, err) : gelu_erf_forward(c, err);
}

/* ── Clip ───────────────────────────────────────────────────────────────────────────────────── */

/* Bounds are attributes until opset 10 and scalar inputs, of any number type, from 11 on. */
static int clip_infer(struct shr_infer *c, struct shr_err *err)
{
    for (size_t i = 1; i < c->n_in; i++) {
        if (shr_op_has_in(c, i) && c->in[i].rank > 1) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "bound '%s' is not a scalar",
                               shr_op_in_name(c->node, i));
        }
        int code = shr_op_same_dtype(c, 0, i, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    c->out[0] = c->in[0];
    return SHR_OK;
}

static int clip_setup(struct shr_op_setup *c, struct shr_err *err)
{
    for (size_t i = 1; i < c->n_in; i++) {
        if (c->in[i] != NULL && shr_tensor_count(c->in[i]) != 1) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "bound '%s' is not a scalar",
                               shr_op_in_name(c->node, i));
        }
    }
    return shr_op_want(c, 0, SHR_NUMBERS, err);
}

static const struct shr_tensor *bound(const struct shr_op_call *c, size_t slot)
{
    return slot < c->n_in ? c->in[slot] : NULL;
}

/* 64-bit integers do not fit a double: they are compared as they are. */
#define CLIP_WIDE(T)                                                                               \
    for (int64_t i = 0; i < n; i++) {                                                              \
        T v = ((const T *)x->data)[i];                                                             \
        v = low != NULL && v < *(const T *)low->data ? *(const T *)low->data : v;                  \
        ((T *)y->data)[i] =                                                                        \
            high != NULL && v > *(const T *)high->data ? *(const T *)high->data : v;               \
    }

static int clip_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0], *low = bound(c, 1), *high = bound(c, 2);
    struct shr_tensor *y = c->out[0];
    int64_t n = shr_tensor_count(x);
    if (x->dtype == SHR_DTYPE_F32) {
        float least = shr_node_float(c->node, "min", -FLT_MAX);
        float most = shr_node_float(c->node, "max", FLT_MAX);
        shr_op_act(c, SHR_ACT_CLIP, low != NULL ? *(const float *)low->data : least,
                   high != NULL ? *(const float *)high->data : most);
    } else if (x->dtype == SHR_DTYPE_I64) {
        CLIP_WIDE(int64_t)
    } else if (x->dtype == SHR_DTYPE_U64) {
        CLIP_WIDE(uint64_t)
    } else {
        for (int64_t i = 0; i < n; i++) {
            double v = shr_tensor_get(x, i);
            v = low != NULL && v < shr_tensor_get(low, 0) ? shr_tensor_get(low, 0) : v;
            v = high != NULL && v > shr_tensor_get(high, 0) ? shr_tensor_get(high, 0) : v;
            shr_tensor_set(y, i, v);
        }
    }
    return SHR_OK;
}

static int real_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_BIT(F32) | SHR_BIT(F64), err);
    return code == SHR_OK ? shr_op_want(c, 1, SHR_BIT(F32) | SHR_BIT(F64), err) : code;
}

/* ── SwiGLU: y = swish(a) * b ───────────────────────────────────────────────────────────────── */

static int swiglu_infer(struct shr_infer *c, struct shr_err *err)
{
    int code = shr_op_same_dtype(c, 0, 1, err);
    struct shr_type y = c->in[0];
    if (code == SHR_OK) {
        code = shr_type_broadcast(c->node, &y, &c->in[1], err);
    }
    if (code == SHR_OK && (y.rank > c->in[0].rank || y.rank > c->in[1].rank)) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "the inputs differ in shape");
    }
    c->out[0] = c->in[0];
    return code;
}

static int swiglu_forward(const struct shr_op_call *c, struct shr_err *err)
{
    int code = swish_forward(c, err);
    struct shr_tensor *y = c->out[0];
    for (int64_t i = 0; i < shr_tensor_count(y) && code == SHR_OK; i++) {
        if (y->dtype == SHR_DTYPE_F64) {
            ((double *)y->data)[i] *= ((const double *)c->in[1]->data)[i];
        } else {
            ((float *)y->data)[i] *= ((const float *)c->in[1]->data)[i];
        }
    }
    return code;
}

static int swiglu_setup(struct shr_op_setup *c, struct shr_err *err)
{
    if (!shr_tensor_same_shape(c->in[0], c->in[1])) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the inputs differ in shape");
    }
    return real_setup(c, err);
}

#define ACTIVATION(name, since, fn)                                                                \
    SHR_ROW(name, since, 0), SHR_SLOTS(1, 1, 1, 1), .infer = shr_infer_same, .setup = real_setup,  \
                                                    .forward = fn, SHR_NO_WEIGHT,                  \
                                                    .prune_role = SHR_PRUNE_PASS, .in_place = true

static const struct shr_op rows[] = {
    {ACTIVATION("Celu", 12, celu_forward)},
    {ACTIVATION("Elu", 6, elu_forward), .backward = shr_backward_of_x},
    {ACTIVATION("Gelu", 20, gelu_forward), .backward = shr_backward_gelu},
    {ACTIVATION("HardSigmoid", 6, hard_sigmoid_forward), .backward = shr_backward_of_x},
    {ACTIVATION("HardSwish", 14, hard_swish_forward), .backward = shr_backward_of_x},
    {ACTIVATION("LeakyRelu", 6, leaky_relu_forward), .backward = shr_backward_of_x},
    {ACTIVATION("Mish", 18, mish_forward)},
    {ACTIVATION("Relu", 6, relu_forward), .backward = shr_backward_of_y,
     .quant_role = SHR_QUANT_PASS},
    {ACTIVATION("Selu", 6, selu_forward)},
    {ACTIVATION("Shrink", 9, shrink_forward)},
    {ACTIVATION("Sigmoid", 6, sigmoid_forward), .backward = shr_backward_of_y},
    {ACTIVATION("Softplus", 1, softplus_forward), .backward = shr_backward_of_x},
    {ACTIVATION("Softsign", 1, softsign_forward)},
    {SHR_ROW("SwiGLU", 28, 0), SHR_SLOTS(2, 2, 1, 1), .infer = swiglu_infer, .setup = swiglu_setup,
     .forward = swiglu_forward, SHR_NO_WEIGHT},
    {ACTIVATION("Swish", 24, swish_forward)},
    {ACTIVATION("Tanh", 6, tanh_forward), .backward = shr_backward_of_y},
    {ACTIVATION("ThresholdedRelu", 10, thresholded_relu_forward)},
    {SHR_ROW("Clip", 6, 10), SHR_SLOTS(1, 1, 1, 1), .infer = clip_infer, .setup = shr_op_setup_f32,
     .forward = clip_forward, SHR_NO_WEIGHT, .backward = shr_backward_clip,
     .quant_role = SHR_QUANT_PASS, .prune_role = SHR_PRUNE_PASS, .in_place = true},
    {SHR_ROW("Clip", 11, 0), SHR_SLOTS(1, 3, 1, 1), .infer = clip_infer, .setup = clip_setup,
     .forward = clip_forward, SHR_NO_WEIGHT, .backward = shr_backward_clip,
     .quant_role = SHR_QUANT_PASS, .prune_role = SHR_PRUNE_PASS, .in_place = true},
};
const struct shr_op_family shr_ops_activation = {rows, SHR_COUNT_OF(rows)};
