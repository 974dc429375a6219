/* The training form of Dropout, and its gradient. */
#include "ops/grad.h"

SHR_BACKWARD(random_mask)
{
    (void)err;
    struct shr_value *dx =
        SHR_GRAD_TRAIN(g, "RandomMask", shr_grad_of(g, 0), shr_node_in(g->node, 1));
    shr_grad_attrs(g, g->node);
    shr_grad_give(g, 0, dx);
    return g->rc;
}

int shr_training_dropout(struct shr_grad *g, struct shr_err *err)
{
    const struct shr_value *ratio = shr_node_in(g->node, 1);
    double share = (double)shr_node_float(g->node, "ratio", 0.5f);
    if (ratio != NULL && !shr_value_is_constant(ratio)) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                           "is trained with a constant ratio only");
    }
    share = ratio == NULL ? share : shr_tensor_get(&ratio->constant, 0);
    if (!(share >= 0 && share < 1)) {
        return shr_op_fail(g->node, err, SHR_ERR_INVALID, "ratio is %g, not in [0, 1)", share);
    }
    if (g->node->n_out > 1 && g->node->out[1] != NULL && g->node->out[1]->uses != NULL) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED, "is trained without its mask only");
    }
    struct shr_value *y =
        SHR_GRAD_TRAIN(g, "RandomMask", shr_node_in(g->node, 0), shr_grad_random(g));
    shr_grad_float(g, "ratio", (float)share);
    shr_grad_int(g, "salt", (int64_t)g->model->graph.n_values); /* another for each node */
    shr_grad_replace(g, 0, y);
    return g->rc;
}
