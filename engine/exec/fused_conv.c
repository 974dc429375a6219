/* Fused convolutions, float and int8, of NHWC images; see fuse.h. */
#include <string.h>

#include "exec/fused.h"

struct conv {
    const struct shr_kernels *kernels;
    struct shr_conv_f32 *f32;
    bool live_w, live_bias; /* they come with every run; the other does not change */
    const float *bias;
    struct shr_conv_i8 *i8;
    int32_t x_zero;
};

/* What the kernels take of a Conv node whose images are NHWC. */
static int read_shape(const struct shr_op_setup *c, size_t w_slot, struct shr_conv_shape *ret,
                      struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0], *y = c->out[0], *w = c->in[w_slot];
    struct shr_window win;
    int rc = shr__fused_window(c, &w->dim[2], &win, err);
    if (rc == 0) {
        *ret = shr_window_conv(&win, x->dim[0], x->dim[x->rank - 1], y->dim[y->rank - 1],
                               shr_node_int(c->node, "group", 1));
    }
    return rc;
}

/* The plan gives constants back that setup has seen. */
static int keep_bias(const struct shr_op_setup *c, const float *bias, int64_t n, const float **ret,
                     struct shr_err *err)
{
    float *copy = NULL;
    int rc = shr__fused_memory(c, (size_t)n, sizeof *copy, &copy, err);
    if (rc == 0) {
        memcpy(copy, bias, (size_t)n * sizeof *copy);
        *ret = copy;
    }
    return rc;
}

static int conv_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *w = c->in[SHR__F_W];
    struct shr__act act = shr__fuse_act_of(c->node);
    struct shr_conv_f32_spec spec = {.act = act.kind,
                                     .act_lo = act.lo,
                                     .act_hi = act.hi,
                                     .threads = (int)c->threads,
                                     .winograd = true};
    struct conv *conv = NULL;
    float *scaled = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *conv, &conv, err);
    if (rc == 0) {
        rc = read_shape(c, SHR__F_W, &spec.shape, err);
    }
    if (rc == 0) {
        rc = shr__fused_rescale(c, w->dim[0], shr_tensor_count(w) / w->dim[0], &scaled, &spec.bias,
                                err);
    }
    if (rc != 0) {
        return rc;
    }
    conv->live_w = w->data == NULL;
    conv->live_bias = c->in[SHR__F_BIAS] != NULL && c->in[SHR__F_BIAS]->data == NULL;
    spec.w = scaled != NULL ? scaled : w->data;
    if (conv->live_w && spec.bias != NULL) {
        rc = keep_bias(c, spec.bias, w->dim[0], &conv->bias, err);
    }
    if (rc != 0) {
        return rc;
    }
    conv->kernels = c->kernels;
    conv->f32 = c->kernels->conv_f32_new(&spec, &c->scratch);
    shr_mem_free(scaled);
    c->state = conv;
    if (conv->f32 == NULL) {
        return shr_op_fail(c->node, err, SHR_ERR_NOMEM, "out of memory");
    }
    c->kernel = c->kernels->conv_f32_form(conv->f32);
    return SHR_OK;
}

static int conv_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct conv *conv = c->state;
    const struct shr_tensor *residual = c->in[SHR__F_RESIDUAL];
    if (conv->live_w || conv->live_bias) {
        c->kernels->conv_f32_load(conv->f32, conv->live_w ? c->in[SHR__F_W]->data : NULL,
                                  conv->live_bias ? c->in[SHR__F_BIAS]->data : conv->bias);
    }
    c->kernels->conv_f32_run(conv->f32, c->in[0]->data, residual == NULL ? NULL : residual->data,
                             c->out[0]->data, c->scratch, c->team);
    return SHR_OK;
}

static void conv_finish(void *state)
{
    struct conv *conv = state;
    if (conv->f32 != NULL) {
        conv->kernels->conv_f32_free(conv->f32);
    }
    if (conv->i8 != NULL) {
        conv->kernels->conv_i8_free(conv->i8);
    }
}

const struct shr_op shr__fused_conv = {SHR__FUSED_ROW("Conv"),
                                       .setup = conv_setup,
                                       .forward = conv_forward,
                                       .finish = conv_finish,
                                       .packs = 1u << SHR__F_W | 1u << SHR__F_BIAS |
                                                1u << SHR__F_SCALE | 1u << SHR__F_SHIFT,
                                       .in_place = 1u << SHR__F_RESIDUAL};

/* ── int8 ───────────────────────────────────────────────────────────────────────────────────── */

static int qconv_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct shr__qproduct q;
    struct shr_conv_i8_spec spec = {0};
    struct conv *conv = NULL;
    int rc = shr__qproduct_init(&q, c, c->in[SHR__Q_W]->dim[0], err);
    if (rc == 0) {
        rc = shr__fused_memory(c, 1, sizeof *conv, &conv, err);
    }
    if (rc == 0) {
        rc = read_shape(c, SHR__Q_W, &spec.shape, err);
    }
    if (rc != 0) {
        return rc;
    }
    spec.w = q.w;
    spec.w_zero = q.w_zero;
    spec.bias = q.bias;
    spec.out = q.out;
    spec.scale = q.scale;
    spec.bias_f32 = q.bias_f32;
    spec.y_zero = q.y_zero;
    spec.act = q.act;
    spec.y_min = q.y_min;
    spec.y_max = q.y_max;
    conv->kernels = c->kernels;
    conv->x_zero = q.x_zero;
    conv->i8 = c->kernels->conv_i8_new(&spec, &c->scratch);
    c->state = conv;
    if (conv->i8 == NULL) {
        return shr_op_fail(c->node, err, SHR_ERR_NOMEM, "out of memory");
    }
    c->kernel = c->kernels->conv_i8_form(conv->i8);
    return SHR_OK;
}

static int qconv_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct conv *conv = c->state;
    c->kernels->conv_i8_run(conv->i8, c->in[0]->data, conv->x_zero, c->out[0]->data, c->scratch,
                            c->team);
    return SHR_OK;
}

const struct shr_op shr__fused_qconv = {SHR__FUSED_ROW("QConv"), .setup = qconv_setup,
                                        .forward = qconv_forward, .finish = conv_finish,
                                        .packs = ~1u};
