/* Backward rules of pools. */
#include "ops/grad.h"

static const struct shr_type *in_type(struct shr_grad *g)
{
    return &shr_node_in(g->node, 0)->type;
}

static int check_axes(struct shr_grad *g, struct shr_err *err)
{
    return in_type(g)->rank <= 4 ? SHR_OK
                                 : shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                                               "has a gradient over 1 or 2 axes only");
}

/* dx = dy where the maximum was, the first of equals */
SHR_BACKWARD(max_pool)
{
    int rc = check_axes(g, err);
    if (rc == SHR_OK && shr_grad_of(g, 0) != NULL) { /* not through the indices */
        struct shr_value *dx = SHR_GRAD_TRAIN(g, "MaxPoolGrad", shr_grad_of(g, 0),
                                              shr_node_in(g->node, 0), shr_node_out(g->node, 0));
        shr_grad_attrs(g, g->node);
        shr_grad_give(g, 0, dx);
    }
    return rc == SHR_OK ? g->rc : rc;
}

/* dx = dy / count, where it was averaged */
SHR_BACKWARD(average_pool)
{
    int rc = check_axes(g, err);
    if (rc == SHR_OK) {
        struct shr_value *dx = SHR_GRAD_TRAIN(g, "AveragePoolGrad", shr_grad_of(g, 0));
        shr_grad_attrs(g, g->node);
        shr_grad_ints(g, "dims", in_type(g)->dim, (size_t)in_type(g)->rank);
        shr_grad_give(g, 0, dx);
    }
    return rc == SHR_OK ? g->rc : rc;
}

SHR_BACKWARD(global_average_pool)
{
    (void)err;
    const struct shr_type *x = in_type(g);
    int64_t n = 1;
    for (int i = 2; i < x->rank; i++) {
        n *= x->dim[i];
    }
    struct shr_value *dy = shr_grad_scaled(g, shr_grad_of(g, 0), 1.0f / (float)(n > 0 ? n : 1));
    struct shr_value *dx = SHR_GRAD_TRAIN(g, "BroadcastTo", dy);
    shr_grad_ints(g, "dims", x->dim, (size_t)x->rank);
    shr_grad_give(g, 0, dx);
    return g->rc;
}

/* A MaxPool whose kernel is the image. */
SHR_BACKWARD(global_max_pool)
{
    int rc = check_axes(g, err);
    if (rc == SHR_OK) {
        const struct shr_type *x = in_type(g);
        struct shr_value *dx = SHR_GRAD_TRAIN(g, "MaxPoolGrad", shr_grad_of(g, 0),
                                              shr_node_in(g->node, 0), shr_node_out(g->node, 0));
        shr_grad_ints(g, "kernel_shape", x->dim + 2, (size_t)(x->rank - 2));
        shr_grad_give(g, 0, dx);
    }
    return rc == SHR_OK ? g->rc : rc;
}
