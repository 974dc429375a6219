/* Backward rules and training forms of normalizations. */
#include "ops/grad.h"

static struct shr_value *in(struct shr_grad *g, size_t slot)
{
    return shr_node_in(g->node, slot);
}

static void give_three(struct shr_grad *g, struct shr_value *const *out)
{
    for (size_t i = 0; i < 3; i++) { /* of the input, scale and bias */
        shr_grad_give(g, i, out[i]);
    }
}

/* ── Batches ────────────────────────────────────────────────────────────────────────────────── */

static void batch(struct shr_grad *g, struct shr_value *mean, struct shr_value *deviation,
                  bool frozen)
{
    struct shr_value *out[3];
    shr_grad_emit_many(g, SHR_TRAIN_DOMAIN, "BatchNormGrad",
                       SHR_GRAD_VALUES(shr_grad_of(g, 0), in(g, 0), in(g, 1), mean, deviation), out,
                       3);
    shr_grad_float(g, "epsilon", shr_node_float(g->node, "epsilon", 1e-5f));
    if (frozen) {
        shr_grad_int(g, "frozen", 1);
    }
    give_three(g, out);
}

/* Statistics that do not change: y = x a + b of each channel */
SHR_BACKWARD(batch_norm)
{
    (void)err;
    batch(g, in(g, 3), in(g, 4), true);
    return g->rc;
}

SHR_BACKWARD(batch_norm_train)
{
    (void)err;
    batch(g, shr_node_out(g->node, 1), shr_node_out(g->node, 2), false);
    return g->rc;
}

int shr_training_batch_norm(struct shr_grad *g, struct shr_err *err)
{
    (void)err;
    struct shr_value *out[5];
    shr_grad_emit_many(g, SHR_TRAIN_DOMAIN, "BatchNormTrain",
                       SHR_GRAD_VALUES(in(g, 0), in(g, 1), in(g, 2), in(g, 3), in(g, 4)), out, 5);
    shr_grad_float(g, "epsilon", shr_node_float(g->node, "epsilon", 1e-5f));
    shr_grad_float(g, "momentum", shr_node_float(g->node, "momentum", 0.9f));
    shr_grad_replace(g, 0, out[0]);
    shr_grad_update(g, 3, out[3]);
    shr_grad_update(g, 4, out[4]);
    return g->rc;
}

/* ── Samples ────────────────────────────────────────────────────────────────────────────────── */

/* Rows of elements; channels: of a row, with a scale each, which begin again after period rows. */
static void samples(struct shr_grad *g, int64_t rows, int64_t period, int64_t channels)
{
    struct shr_value *out[3];
    shr_grad_emit_many(g, SHR_TRAIN_DOMAIN, "NormGrad",
                       SHR_GRAD_VALUES(shr_grad_of(g, 0), in(g, 0), in(g, 1)), out, 3);
    shr_grad_int(g, "rows", rows);
    shr_grad_int(g, "period", period);
    shr_grad_int(g, "channels", channels);
    shr_grad_float(g, "epsilon", shr_node_float(g->node, "epsilon", 1e-5f));
    give_three(g, out);
}

static int64_t product(const struct shr_type *t, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++) {
        n *= t->dim[i];
    }
    return n;
}

/* The scale must have an element for each of the row. */
SHR_BACKWARD(layer_norm)
{
    const struct shr_type *x = &in(g, 0)->type, *scale = &in(g, 1)->type;
    const int64_t given = shr_node_int(g->node, "axis", -1);
    const int axis = (int)(given < 0 ? given + x->rank : given);
    const int64_t n = product(x, axis, x->rank);
    const struct shr_type *bias = in(g, 2) == NULL ? scale : &in(g, 2)->type;
    if (product(scale, 0, scale->rank) != n || product(bias, 0, bias->rank) != n) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                           "has a gradient where scale and bias have the shape of a row only");
    }
    if (shr_grad_of(g, 0) != NULL) {
        samples(g, product(x, 0, axis), 1, n);
    }
    return g->rc;
}

SHR_BACKWARD(instance_norm)
{
    (void)err;
    const struct shr_type *x = &in(g, 0)->type;
    samples(g, x->dim[0] * x->dim[1], x->dim[1], 1);
    return g->rc;
}

SHR_BACKWARD(group_norm)
{
    const struct shr_type *x = &in(g, 0)->type;
    const int64_t groups = shr_node_int(g->node, "num_groups", 1);
    if (in(g, 1)->type.dim[0] != x->dim[1]) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                           "has a gradient with a scale for each channel only");
    }
    samples(g, x->dim[0] * groups, groups, x->dim[1] / groups);
    return g->rc;
}
