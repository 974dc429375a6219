/* Fused steps with windows: float and int8 convolution, int8 max pooling; see fuse.h. */
#include <string.h>

#include "exec/fused.h"

/* ── Windows ────────────────────────────────────────────────────────────────────────────────── */

static int64_t nth(const int64_t *v, size_t n, size_t i, int64_t fallback)
{
    return v != NULL && i < n ? v[i] : fallback;
}

/* Padding in front of one axis, from auto_pad or pads. */
static int64_t pad_front(const struct shr_node *node, size_t axis, int64_t in, int64_t out,
                         int64_t extent, int64_t stride)
{
    size_t n;
    const char *mode = shr_node_text(node, "auto_pad", "NOTSET");
    if (strcmp(mode, "VALID") == 0) {
        return 0;
    }
    if (strncmp(mode, "SAME", 4) == 0) {
        int64_t all = (out - 1) * stride + extent - in;
        all = all < 0 ? 0 : all;
        return strcmp(mode, "SAME_LOWER") == 0 ? all - all / 2 : all / 2;
    }
    const int64_t *pads = shr_node_ints(node, "pads", &n);
    return nth(pads, n, axis, 0);
}

/* What an axis needs behind its end for the last window; kernels only compare with bounds. */
static int64_t pad_back(int64_t in, int64_t out, int64_t extent, int64_t stride, int64_t front)
{
    int64_t all = (out - 1) * stride + extent - in - front;
    return all < 0 ? 0 : all;
}

/* Stride, dilation and padding of one spatial axis. */
static void read_axis(const struct shr_node *node, size_t axis, int64_t in, int64_t out, int64_t k,
                      int64_t *stride, int64_t *dilation, int64_t *front, int64_t *back)
{
    size_t n;
    const int64_t *strides = shr_node_ints(node, "strides", &n);
    *stride = nth(strides, n, axis, 1);
    const int64_t *dilations = shr_node_ints(node, "dilations", &n);
    *dilation = nth(dilations, n, axis, 1);
    int64_t extent = (k - 1) * *dilation + 1;
    *front = pad_front(node, axis, in, out, extent, *stride);
    *back = pad_back(in, out, extent, *stride, *front);
}

/* Dims of an image whatever its layout: spatial axes begin at 1 (NHWC) or 2 (NCHW). */
static struct shr_conv_shape read_shape(const struct shr_node *node, const struct shr_tensor *x,
                                        const struct shr_tensor *y, const int64_t *kernel,
                                        bool nhwc)
{
    bool flat = x->rank == 3; /* one spatial axis, which is w */
    int first = nhwc ? 1 : 2, last = first + (flat ? 0 : 1), channel = nhwc ? x->rank - 1 : 1;
    struct shr_conv_shape s = {
        .n = x->dim[0],
        .c = x->dim[channel],
        .h = flat ? 1 : x->dim[first],
        .w = x->dim[last],
        .oc = y->dim[channel],
        .kh = flat ? 1 : kernel[0],
        .kw = kernel[flat ? 0 : 1],
        .oh = flat ? 1 : y->dim[first],
        .ow = y->dim[last],
        .stride_h = 1,
        .dil_h = 1,
        .groups = shr_node_int(node, "group", 1),
    };
    if (!flat) {
        read_axis(node, 0, s.h, s.oh, s.kh, &s.stride_h, &s.dil_h, &s.pad_t, &s.pad_b);
    }
    read_axis(node, flat ? 0 : 1, s.w, s.ow, s.kw, &s.stride_w, &s.dil_w, &s.pad_l, &s.pad_r);
    return s;
}

/* ── float32 ────────────────────────────────────────────────────────────────────────────────── */

struct conv {
    const struct shr_kernels *kernels;
    struct shr_conv_f32 *f32;
    struct shr_conv_i8 *i8;
    int32_t x_zero;
};

static int conv_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *w = c->in[1];
    struct shr_conv_shape s = read_shape(c->node, c->in[0], c->out[0], &w->dim[2], false);
    struct conv *conv = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *conv, &conv, err);
    if (rc != 0) {
        return rc;
    }
    conv->kernels = c->kernels;
    conv->f32 = c->kernels->conv_f32_new(&s, w->data, c->in[2] == NULL ? NULL : c->in[2]->data,
                                         shr__fused_act(c->node), (int)c->threads, &c->scratch);
    c->state = conv;
    return conv->f32 == NULL ? shr_op_fail(c->node, err, SHR_ERR_NOMEM, "out of memory") : SHR_OK;
}

static int conv_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct conv *conv = c->state;
    c->kernels->conv_f32_run(conv->f32, c->in[0]->data, c->out[0]->data, c->scratch);
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

const struct shr_op shr__fused_conv = {SHR__FUSED_ROW("ConvRelu"), .setup = conv_setup,
                                       .forward = conv_forward, .finish = conv_finish};

/* ── int8 ───────────────────────────────────────────────────────────────────────────────────── */

static int qconv_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *w = c->in[SHR__Q_W];
    struct shr__qproduct q;
    struct conv *conv = NULL;
    int rc = shr__qproduct_init(&q, c, w->dim[0], err);
    if (rc == 0) {
        rc = shr__fused_memory(c, 1, sizeof *conv, &conv, err);
    }
    if (rc != 0) {
        return rc;
    }
    struct shr_conv_i8_spec spec = {
        .shape = read_shape(c->node, c->in[0], c->out[0], &w->dim[2], true),
        .w = q.w,
        .w_zero = q.w_zero,
        .bias = q.bias,
        .out = q.out,
        .scale = q.scale,
        .bias_f32 = q.bias_f32,
        .y_zero = q.y_zero,
        .act = q.act,
    };
    conv->kernels = c->kernels;
    conv->x_zero = q.x_zero;
    conv->i8 = c->kernels->conv_i8_new(&spec, &c->scratch);
    c->state = conv;
    return conv->i8 == NULL ? shr_op_fail(c->node, err, SHR_ERR_NOMEM, "out of memory") : SHR_OK;
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
                                        .forward = qconv_forward, .finish = conv_finish};

static int qmaxpool_setup(struct shr_op_setup *c, struct shr_err *err)
{
    size_t n;
    const int64_t *kernel = shr_node_ints(c->node, "kernel_shape", &n);
    struct shr_conv_shape *s = NULL;
    if (kernel == NULL || (int)n != c->in[0]->rank - 2) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "kernel_shape does not fit the input");
    }
    int rc = shr__fused_memory(c, 1, sizeof *s, &s, err);
    if (rc == 0) {
        *s = read_shape(c->node, c->in[0], c->out[0], kernel, true);
        c->state = s;
    }
    return rc;
}

static int qmaxpool_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    c->kernels->maxpool_u8(c->state, c->in[0]->data, c->out[0]->data);
    return SHR_OK;
}

const struct shr_op shr__fused_qmaxpool = {SHR__FUSED_ROW("QMaxPool"), .setup = qmaxpool_setup,
                                           .forward = qmaxpool_forward};
