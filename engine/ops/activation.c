/* Activations, float32 element by element: Relu LeakyRelu Elu Selu Celu Sigmoid HardSigmoid
 * HardSwish Tanh Softplus Softsign ThresholdedRelu Gelu Swish Mish, and Clip of every number. */
#include "ops/util.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "ops/families.h"

/* Those that kernels know. */
#define KERNEL(op, ACT, NAME_LO, DEFAULT_LO, NAME_HI, DEFAULT_HI)                                  \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        (void)err;                                                                                 \
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

/* Two parameters by name, and an expression of x and them. */
#define FORWARD(op, NAME_A, DEFAULT_A, NAME_B, DEFAULT_B, EXPR)                                    \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        (void)err;                                                                                 \
        const float a = shr_node_float(c->node, NAME_A, DEFAULT_A);                                \
        const float b = shr_node_float(c->node, NAME_B, DEFAULT_B);                                \
        const float *in = c->in[0]->data;                                                          \
        float *y = c->out[0]->data;                                                                \
        int64_t n = shr_tensor_count(c->in[0]);                                                    \
        (void)a;                                                                                   \
        (void)b;                                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const float x = in[i];                                                                 \
            y[i] = (EXPR);                                                                         \
        }                                                                                          \
        return SHR_OK;                                                                             \
    }

static float softplus(float x)
{
    return x > 0.0f ? x + log1pf(expf(-x)) : log1pf(expf(x));
}

FORWARD(elu, "alpha", 1.0f, "", 0.0f, x < 0.0f ? a * expm1f(x) : x)
FORWARD(selu, "alpha", 1.67326319f, "gamma", 1.05070102f, b *(x > 0.0f ? x : a * expm1f(x)))
FORWARD(celu, "alpha", 1.0f, "", 0.0f, x < 0.0f ? a * expm1f(x / a) : x)
FORWARD(softplus, "", 0.0f, "", 0.0f, softplus(x))
FORWARD(softsign, "", 0.0f, "", 0.0f, x / (1.0f + fabsf(x)))
FORWARD(thresholded_relu, "alpha", 1.0f, "", 0.0f, x > a ? x : 0.0f)
FORWARD(swish, "alpha", 1.0f, "", 0.0f, x / (1.0f + expf(-a * x)))
FORWARD(mish, "", 0.0f, "", 0.0f, x *tanhf(softplus(x)))
FORWARD(gelu_tanh, "", 0.0f, "", 0.0f,
        0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x))))

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

#define ACTIVATION(name, since, fn)                                                                \
    SHR_ROW(name, since, 0), SHR_SLOTS(1, 1, 1, 1),                                                \
        .infer = shr_infer_same, .setup = shr_op_setup_f32, .forward = fn, SHR_NO_WEIGHT,          \
        .prune_role = SHR_PRUNE_PASS, .in_place = true

static const struct shr_op rows[] = {
    {ACTIVATION("Celu", 12, celu_forward)},
    {ACTIVATION("Elu", 6, elu_forward)},
    {ACTIVATION("Gelu", 20, gelu_forward)},
    {ACTIVATION("HardSigmoid", 6, hard_sigmoid_forward)},
    {ACTIVATION("HardSwish", 14, hard_swish_forward)},
    {ACTIVATION("LeakyRelu", 6, leaky_relu_forward)},
    {ACTIVATION("Mish", 18, mish_forward)},
    {ACTIVATION("Relu", 6, relu_forward), .quant_role = SHR_QUANT_PASS},
    {ACTIVATION("Selu", 6, selu_forward)},
    {ACTIVATION("Sigmoid", 6, sigmoid_forward)},
    {ACTIVATION("Softplus", 1, softplus_forward)},
    {ACTIVATION("Softsign", 1, softsign_forward)},
    {ACTIVATION("Swish", 24, swish_forward)},
    {ACTIVATION("Tanh", 6, tanh_forward)},
    {ACTIVATION("ThresholdedRelu", 10, thresholded_relu_forward)},
    {SHR_ROW("Clip", 6, 10), SHR_SLOTS(1, 1, 1, 1), .infer = clip_infer, .setup = shr_op_setup_f32,
     .forward = clip_forward, SHR_NO_WEIGHT, .quant_role = SHR_QUANT_PASS,
     .prune_role = SHR_PRUNE_PASS, .in_place = true},
    {SHR_ROW("Clip", 11, 0), SHR_SLOTS(1, 3, 1, 1), .infer = clip_infer, .setup = clip_setup,
     .forward = clip_forward, SHR_NO_WEIGHT, .quant_role = SHR_QUANT_PASS,
     .prune_role = SHR_PRUNE_PASS, .in_place = true},
};
const struct shr_op_family shr_ops_activation = {rows, SHR_COUNT_OF(rows)};
