/* Fused steps on quantized values: what integer products share, and the elementwise ones. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "exec/fused.h"

int shr__fused_memory(const struct shr_op_setup *c, size_t n, size_t size, void *ret,
                      struct shr_err *err)
{
    size_t bytes;
    unsigned char *p = NULL;
    if (shr_size_mul(n, size, &bytes) && shr_size_add(bytes, SHR_MEM_ALIGN, &bytes)) {
        p = shr_arena_new(c->arena, bytes, 1);
    }
    if (p == NULL) {
        return shr_op_fail(c->node, err, SHR_ERR_NOMEM, "out of memory");
    }
    p += SHR_MEM_ALIGN - (uintptr_t)p % SHR_MEM_ALIGN;
    memcpy(ret, &p, sizeof p);
    return SHR_OK;
}

int32_t shr__fused_zero(const struct shr_tensor *zero, bool flipped)
{
    return (zero == NULL ? 0 : (int32_t)shr_tensor_get(zero, 0)) + (flipped ? 128 : 0);
}

float shr__fused_scale(const struct shr_tensor *scale)
{
    return ((const float *)scale->data)[0];
}

enum shr_act shr__fused_act(const struct shr_node *node)
{
    return shr_node_int(node, "relu", 0) != 0 ? SHR_ACT_RELU : SHR_ACT_NONE;
}

static double nth(const struct shr_tensor *t, int64_t i)
{
    return shr_tensor_get(t, shr_tensor_count(t) == 1 ? 0 : i);
}

/* ── Integer products ───────────────────────────────────────────────────────────────────────── */

int shr__fused_weight(const struct shr_op_setup *c, size_t slot, size_t zero_slot, int64_t n,
                      const int8_t **ret_w, const int32_t **ret_zero, struct shr_err *err)
{
    const struct shr_tensor *w = c->in[slot], *zero = c->in[zero_slot];
    bool shift = w->dtype == SHR_DTYPE_U8;
    size_t count = (size_t)shr_tensor_count(w);
    int8_t *shifted = NULL;
    int32_t *zeros = NULL;
    int rc = shr__fused_memory(c, (size_t)n, sizeof *zeros, &zeros, err);
    if (rc == 0 && shift) {
        rc = shr__fused_memory(c, count, 1, &shifted, err);
    }
    if (rc != 0) {
        return rc;
    }
    *ret_w = w->data;
    if (shift) {
        for (size_t i = 0; i < count; i++) {
            shifted[i] = (int8_t)(((const uint8_t *)w->data)[i] - 128);
        }
        *ret_w = shifted;
    }
    *ret_zero = NULL;
    for (int64_t i = 0; i < n; i++) {
        zeros[i] = (zero == NULL ? 0 : (int32_t)nth(zero, i)) - (shift ? 128 : 0);
        if (zeros[i] != 0) {
            *ret_zero = zeros;
        }
    }
    return SHR_OK;
}

/* An int32 bias with the accumulator's scale is added to it; another one is rounded to its grid, or
 * added in float when the output is float. */
static int prepare_bias(struct shr__qproduct *q, const struct shr_op_setup *c, int64_t n,
                        struct shr_err *err)
{
    const struct shr_tensor *bias = c->in[SHR__Q_BIAS], *bias_scale = c->in[SHR__Q_BIAS_SCALE];
    const double SAME = 1e-6;
    int32_t *integers = NULL;
    float *floats = NULL;
    if (bias == NULL) {
        return SHR_OK;
    }
    int rc = shr__fused_memory(c, (size_t)n, sizeof *integers, &integers, err);
    if (rc == 0) {
        rc = shr__fused_memory(c, (size_t)n, sizeof *floats, &floats, err);
    }
    if (rc != 0) {
        return rc;
    }
    bool exact = bias->dtype == SHR_DTYPE_I32;
    for (int64_t i = 0; i < n; i++) {
        double grid = nth(c->in[SHR__Q_X_SCALE], i) * nth(c->in[SHR__Q_W_SCALE], i);
        double unit = exact && bias_scale != NULL ? nth(bias_scale, i) : exact ? grid : 1;
        bool on_grid = exact && fabs(unit - grid) <= SAME * grid;
        double b = shr_tensor_get(bias, i);
        floats[i] = (float)(b * unit);
        if (on_grid) {
            integers[i] = ((const int32_t *)bias->data)[i];
        } else if (q->out != SHR_GEMM_F32) {
            integers[i] = (int32_t)rint(b * unit / grid);
        }
        if (!on_grid && q->out == SHR_GEMM_F32) {
            q->bias_f32 = floats;
        }
    }
    if (q->bias_f32 == NULL) {
        q->bias = integers;
    }
    return SHR_OK;
}

int shr__qproduct_init(struct shr__qproduct *ret, const struct shr_op_setup *c, int64_t n,
                       struct shr_err *err)
{
    const struct shr_tensor *y_scale = c->in[SHR__Q_Y_SCALE];
    struct shr__qproduct q = {
        .x_zero = shr__fused_zero(c->in[SHR__Q_X_ZERO], shr_node_int(c->node, "flip_x", 0) != 0),
        .y_zero = shr__fused_zero(c->in[SHR__Q_Y_ZERO], shr_node_int(c->node, "flip_y", 0) != 0),
        .out = y_scale == NULL ? SHR_GEMM_F32 : SHR_GEMM_U8,
        .act = shr__fused_act(c->node),
    };
    float *scale = NULL;
    int rc = shr__fused_memory(c, (size_t)n, sizeof *scale, &scale, err);
    if (rc != 0) {
        return rc;
    }
    for (int64_t i = 0; i < n; i++) {
        double s = nth(c->in[SHR__Q_X_SCALE], i) * nth(c->in[SHR__Q_W_SCALE], i);
        scale[i] = (float)(y_scale == NULL ? s : s / nth(y_scale, i));
    }
    q.scale = scale;
    rc = shr__fused_weight(c, SHR__Q_W, SHR__Q_W_ZERO, n, &q.w, &q.w_zero, err);
    if (rc == 0) {
        rc = prepare_bias(&q, c, n, err);
    }
    if (rc == 0) {
        *ret = q;
    }
    return rc;
}

/* ── Add ────────────────────────────────────────────────────────────────────────────────────── */

static int qadd_setup(struct shr_op_setup *c, struct shr_err *err)
{
    bool flip = shr_node_int(c->node, "flip", 0) != 0;
    struct shr_add_u8 *add = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *add, &add, err);
    if (rc != 0) {
        return rc;
    }
    *add = (struct shr_add_u8){
        .n = (size_t)shr_tensor_count(c->out[0]),
        .a_scale = shr__fused_scale(c->in[1]),
        .a_zero = shr__fused_zero(c->in[2], flip),
        .b_scale = shr__fused_scale(c->in[4]),
        .b_zero = shr__fused_zero(c->in[5], flip),
        .y_scale = shr__fused_scale(c->in[6]),
        .y_zero = shr__fused_zero(c->in[7], flip),
        .act = shr__fused_act(c->node),
    };
    c->state = add;
    return SHR_OK;
}

static int qadd_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct shr_add_u8 add = *(const struct shr_add_u8 *)c->state;
    add.a = c->in[0]->data;
    add.b = c->in[3]->data;
    add.y = c->out[0]->data;
    c->kernels->add_u8(&add);
    return SHR_OK;
}

const struct shr_op shr__fused_qadd = {SHR__FUSED_ROW("QAdd"), .setup = qadd_setup,
                                       .forward = qadd_forward, .in_place = true};

/* ── Relu ───────────────────────────────────────────────────────────────────────────────────── */

/* The table holds, for each of the 256 inputs, what DequantizeLinear, Relu and QuantizeLinear
 * make of it. */
static int qrelu_setup(struct shr_op_setup *c, struct shr_err *err)
{
    bool flip = shr_node_int(c->node, "flip", 0) != 0;
    float x_scale = shr__fused_scale(c->in[1]), y_scale = shr__fused_scale(c->in[3]);
    int32_t x_zero = shr__fused_zero(c->in[2], flip), y_zero = shr__fused_zero(c->in[4], flip);
    uint8_t *table = NULL;
    int rc = shr__fused_memory(c, UINT8_MAX + 1, 1, &table, err);
    if (rc != 0) {
        return rc;
    }
    for (int32_t i = 0; i <= UINT8_MAX; i++) {
        float real = (float)(i - x_zero) * x_scale;
        c->kernels->relu_f32(1, &real, &real);
        c->kernels->quantize_u8(1, &real, y_scale, y_zero, &table[i]);
    }
    c->state = table;
    return SHR_OK;
}

static int qrelu_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    c->kernels->lut_u8((size_t)shr_tensor_count(c->out[0]), c->in[0]->data, c->state,
                       c->out[0]->data);
    return SHR_OK;
}

const struct shr_op shr__fused_qrelu = {SHR__FUSED_ROW("QRelu"), .setup = qrelu_setup,
                                        .forward = qrelu_forward, .in_place = true};
