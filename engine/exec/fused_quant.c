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
        .act = shr__fuse_act_of(c->node).kind,
    };
    float *scale = NULL;
    int rc = shr__fused_memory(c, (size_t)n, sizeof *scale, &scale, err);
    if (rc != 0) {
        return rc;
    }
    for (int64_t i = 0; i < n; i++) {
        /* in float32 as QLinearConv of ONNX Runtime does, whose integers are then the same */
        float s = (float)nth(c->in[SHR__Q_X_SCALE], i) * (float)nth(c->in[SHR__Q_W_SCALE], i);
        scale[i] = y_scale == NULL ? s : s / (float)nth(y_scale, i);
    }
    q.scale = scale;
    if (q.act == SHR_ACT_CLIP) {
        struct shr__act act = shr__fuse_act_of(c->node);
        float y = shr__fused_scale(y_scale);
        uint8_t bounds[2];
        c->kernels->quantize_u8(1, &act.lo, y, q.y_zero, &bounds[0]);
        c->kernels->quantize_u8(1, &act.hi, y, q.y_zero, &bounds[1]);
        q.y_min = bounds[0];
        q.y_max = bounds[1];
        q.act = q.y_min == 0 && q.y_max == UINT8_MAX ? SHR_ACT_NONE : SHR_ACT_CLIP;
    }
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
                                       .forward = qadd_forward, .in_place = 1 | 1 << 3};

/* ── Mul ────────────────────────────────────────────────────────────────────────────────────── */

static int qmul_setup(struct shr_op_setup *c, struct shr_err *err)
{
    bool flip = shr_node_int(c->node, "flip", 0) != 0;
    struct shr_mul_u8 *mul = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *mul, &mul, err);
    if (rc != 0) {
        return rc;
    }
    *mul = (struct shr_mul_u8){
        .n = (size_t)shr_tensor_count(c->out[0]),
        .a_zero = shr__fused_zero(c->in[2], flip),
        .b_zero = shr__fused_zero(c->in[5], flip),
        .y_zero = shr__fused_zero(c->in[7], flip),
        .scale = (float)((double)shr__fused_scale(c->in[1]) * (double)shr__fused_scale(c->in[4]) /
                         (double)shr__fused_scale(c->in[6])),
    };
    c->state = mul;
    return SHR_OK;
}

static int qmul_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct shr_mul_u8 mul = *(const struct shr_mul_u8 *)c->state;
    mul.a = c->in[0]->data;
    mul.b = c->in[3]->data;
    mul.y = c->out[0]->data;
    c->kernels->mul_u8(&mul);
    return SHR_OK;
}

const struct shr_op shr__fused_qmul = {SHR__FUSED_ROW("QMul"), .setup = qmul_setup,
                                       .forward = qmul_forward, .in_place = 1 | 1 << 3};

/* ── Tables ─────────────────────────────────────────────────────────────────────────────────── */

/* Holds, for each of the 256 inputs, what DequantizeLinear, the activation and QuantizeLinear make
 * of it. */
static int qtable_setup(struct shr_op_setup *c, struct shr_err *err)
{
    bool flip = shr_node_int(c->node, "flip", 0) != 0;
    float x_scale = shr__fused_scale(c->in[1]), y_scale = shr__fused_scale(c->in[3]);
    int32_t x_zero = shr__fused_zero(c->in[2], flip), y_zero = shr__fused_zero(c->in[4], flip);
    struct shr__act act = shr__fuse_act_of(c->node);
    float real[UINT8_MAX + 1];
    uint8_t *table = NULL;
    int rc = shr__fused_memory(c, SHR_COUNT_OF(real), 1, &table, err);
    if (rc != 0) {
        return rc;
    }
    for (int32_t i = 0; i <= UINT8_MAX; i++) {
        real[i] = (float)(i - x_zero) * x_scale;
    }
    c->kernels->act_f32(SHR_COUNT_OF(real), real, act.kind, act.lo, act.hi, real);
    c->kernels->quantize_u8(SHR_COUNT_OF(real), real, y_scale, y_zero, table);
    c->state = table;
    return SHR_OK;
}

static int qtable_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    c->kernels->lut_u8((size_t)shr_tensor_count(c->out[0]), c->in[0]->data, c->state,
                       c->out[0]->data);
    return SHR_OK;
}

const struct shr_op shr__fused_qtable = {SHR__FUSED_ROW("QTable"), .setup = qtable_setup,
                                         .forward = qtable_forward, .in_place = 1};

/* ── Means ──────────────────────────────────────────────────────────────────────────────────── */

struct mean {
    int32_t x_zero, y_zero;
    float scale;
    size_t pixels, channels;
};

/* x (n, pixels…, channels) */
static int qmean_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    bool flip = shr_node_int(c->node, "flip", 0) != 0;
    struct mean *mean = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *mean, &mean, err);
    if (rc != 0) {
        return rc;
    }
    mean->pixels = (size_t)shr_dims_product(x->dim, 1, x->rank - 1);
    mean->channels = (size_t)x->dim[x->rank - 1];
    mean->x_zero = shr__fused_zero(c->in[2], flip);
    mean->y_zero = shr__fused_zero(c->in[4], flip);
    mean->scale = (float)((double)shr__fused_scale(c->in[1]) / (double)shr__fused_scale(c->in[3]) /
                          (double)(mean->pixels == 0 ? 1 : mean->pixels));
    c->state = mean;
    return SHR_OK;
}

static int qmean_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct mean *mean = c->state;
    const uint8_t *x = c->in[0]->data;
    uint8_t *y = c->out[0]->data;
    for (int64_t i = 0; i < c->in[0]->dim[0]; i++) {
        c->kernels->mean_u8(mean->pixels, mean->channels, x, mean->x_zero, mean->scale,
                            mean->y_zero, y);
        x += mean->pixels * mean->channels;
        y += mean->channels;
    }
    return SHR_OK;
}

const struct shr_op shr__fused_qmean = {SHR__FUSED_ROW("QMean"), .setup = qmean_setup,
                                        .forward = qmean_forward};
