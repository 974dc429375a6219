/* Backward rules of convolutions. */
#include "ops/grad.h"
#include "ops/window.h"

/* A gradient of a convolution with the attributes of the node, of the shape told. */
static struct shr_value *part(struct shr_grad *g, const char *op, struct shr_value *dy,
                              struct shr_value *other, const struct shr_type *shape)
{
    struct shr_value *v = SHR_GRAD_TRAIN(g, op, dy, other);
    shr_grad_attrs(g, g->node);
    shr_grad_ints(g, "dims", shape->dim, (size_t)shape->rank);
    return v;
}

static int check_axes(struct shr_grad *g, struct shr_err *err)
{
    return shr_node_in(g->node, 0)->type.rank <= 4
               ? SHR_OK
               : shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                             "has a gradient over 1 or 2 axes only");
}

/* dx = dy * W turned about, dW = x correlated with dy, db = the sum of dy of each channel */
SHR_BACKWARD(conv)
{
    struct shr_value *dy = shr_grad_of(g, 0), *x = shr_node_in(g->node, 0);
    struct shr_value *w = shr_node_in(g->node, 1);
    int rc = check_axes(g, err);
    if (rc == SHR_OK && shr_grad_wants(g, 2)) {
        shr_grad_give(g, 2, SHR_GRAD_TRAIN(g, "ChannelSum", dy));
    }
    if (rc == SHR_OK && shr_grad_wants(g, 1)) {
        shr_grad_give(g, 1, part(g, "ConvGradWeight", dy, x, &w->type));
    }
    if (rc == SHR_OK && shr_grad_wants(g, 0)) {
        shr_grad_give(g, 0, part(g, "ConvGradInput", dy, w, &x->type));
    }
    return rc == SHR_OK ? g->rc : rc;
}

/* ── ConvTranspose ──────────────────────────────────────────────────────────────────────────── */

static void set_window(struct shr_grad *g, const struct shr_window *win)
{
    int64_t strides[SHR_WINDOW_AXES], dilations[SHR_WINDOW_AXES], pads[2 * SHR_WINDOW_AXES];
    for (int i = 0; i < win->n; i++) {
        const struct shr_window_axis *a = &win->axis[SHR_WINDOW_AXES - win->n + i];
        strides[i] = a->stride;
        dilations[i] = a->dilation;
        pads[i] = a->pad_lo;
        pads[win->n + i] = a->pad_hi;
    }
    shr_grad_ints(g, "strides", strides, (size_t)win->n);
    shr_grad_ints(g, "dilations", dilations, (size_t)win->n);
    shr_grad_ints(g, "pads", pads, 2 * (size_t)win->n);
    shr_grad_int(g, "group", shr_node_int(g->node, "group", 1));
}

/* y is the input's gradient of a convolution from y to x: dx = dy * W, dW = that of its weights */
SHR_BACKWARD(conv_transpose)
{
    struct shr_value *dy = shr_grad_of(g, 0), *x = shr_node_in(g->node, 0);
    struct shr_value *w = shr_node_in(g->node, 1);
    struct shr_window win;
    int rc = check_axes(g, err);
    if (rc == SHR_OK) {
        rc = shr_window_transposed(&win, g->node, &x->type, &w->type.dim[2], err);
    }
    if (rc != SHR_OK) {
        return rc;
    }
    if (shr_grad_wants(g, 2)) {
        shr_grad_give(g, 2, SHR_GRAD_TRAIN(g, "ChannelSum", dy));
    }
    if (shr_grad_wants(g, 1)) {
        struct shr_value *dw = SHR_GRAD_TRAIN(g, "ConvGradWeight", x, dy);
        shr_grad_ints(g, "dims", w->type.dim, (size_t)w->type.rank);
        set_window(g, &win);
        shr_grad_give(g, 1, dw);
    }
    if (shr_grad_wants(g, 0)) {
        struct shr_value *dx = SHR_GRAD_ONNX(g, "Conv", dy, w);
        set_window(g, &win);
        shr_grad_give(g, 0, dx);
    }
    return g->rc;
}
