/* Normalizations: BatchNormalization becomes a scale and a shift a channel, which the product in
 * front of it takes up (fuse_float.c); LayerNormalization that a graph spells out becomes one. */
#include <math.h>

#include "exec/fuse.h"

/* ── BatchNormalization ─────────────────────────────────────────────────────────────────────── */

static bool has_plain_statistics(const struct shr_node *node)
{
    const struct shr_value *x = shr_node_in(node, 0);
    bool plain = shr__fuse_is_f32(x) && x->type.rank >= 2 &&
                 shr_node_int(node, "training_mode", 0) == 0 &&
                 shr_node_int(node, "spatial", 1) == 1;
    for (size_t i = 1; plain && i < node->n_out; i++) {
        plain = node->out[i] == NULL;
    }
    for (size_t i = 1; plain && i < 5; i++) {
        const struct shr_value *v = shr_node_in(node, i);
        plain = shr__fuse_is_row(v, x->type.dim[1]) && v->constant.rank == 1;
    }
    return plain;
}

/* scale = gamma / sqrt(var + epsilon), shift = beta - mean * scale, each (channels) */
static int make_scale(struct shr_graph *g, const struct shr_node *node,
                      struct shr_value *ret_constants[2], struct shr_err *err)
{
    const float *in[4];
    for (size_t i = 0; i < 4; i++) {
        in[i] = shr_node_in(node, i + 1)->constant.data;
    }
    double epsilon = (double)shr_node_float(node, "epsilon", 1e-5f);
    struct shr_tensor t[2] = {0};
    int rc = SHR_OK;
    for (size_t i = 0; rc == 0 && i < 2; i++) {
        rc = shr_tensor_new(SHR_DTYPE_F32, 1, shr_node_in(node, 1)->constant.dim, &t[i], err);
    }
    if (rc != 0) {
        shr_tensor_finish(&t[0]);
        return rc;
    }
    for (int64_t c = 0; c < t[0].dim[0]; c++) {
        double scale = (double)in[0][c] / sqrt((double)in[3][c] + epsilon);
        ((float *)t[0].data)[c] = (float)scale;
        ((float *)t[1].data)[c] = (float)((double)in[1][c] - (double)in[2][c] * scale);
    }
    rc = shr_graph_add_constant(g, "scale", t[0], &ret_constants[0], err);
    if (rc != 0) {
        shr_tensor_finish(&t[1]);
        return rc;
    }
    return shr_graph_add_constant(g, "shift", t[1], &ret_constants[1], err);
}

static int fuse_batchnorm(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    if (!shr_node_is(node, "BatchNormalization") || !has_plain_statistics(node)) {
        return SHR_OK;
    }
    struct shr_value *in[3] = {shr_node_in(node, 0)}, *out = shr_node_out(node, 0);
    int rc = make_scale(g, node, &in[1], err);
    if (rc != 0) {
        return rc;
    }
    struct shr__cut cut = shr__fuse_cut(g, node);
    return shr__fuse_put(g, &cut, &shr__fused_affine, in, 3, out, at, err);
}

/* ── LayerNormalization ─────────────────────────────────────────────────────────────────────── */

/* Does the node reduce the last dim alone and keep it? */
static bool is_mean_of(const struct shr_value *v, const struct shr_value *x)
{
    const struct shr_node *node = v == NULL ? NULL : v->producer;
    if (!shr_node_is(node, "ReduceMean") || (x != NULL && shr_node_in(node, 0) != x) ||
        shr_node_int(node, "keepdims", 1) != 1) {
        return false;
    }
    const struct shr_value *list = shr_node_in(node, 1);
    size_t n = 0;
    const int64_t *axes = shr_node_ints(node, "axes", &n);
    if (list != NULL) {
        bool known = shr_value_is_constant(list) && list->constant.dtype == SHR_DTYPE_I64;
        axes = known ? list->constant.data : NULL;
        n = known ? (size_t)shr_tensor_count(&list->constant) : 0;
    }
    return axes != NULL && n == 1 &&
           (axes[0] == -1 || axes[0] == shr_node_in(node, 0)->type.rank - 1);
}

static bool is_square_of(const struct shr_value *v, const struct shr_value *d)
{
    const struct shr_node *node = v->producer;
    if (shr_node_is(node, "Mul")) {
        return shr_node_in(node, 0) == d && shr_node_in(node, 1) == d;
    }
    const struct shr_value *two = shr_node_in(node, 1);
    return shr_node_is(node, "Pow") && shr_node_in(node, 0) == d && shr_value_is_constant(two) &&
           shr_tensor_count(&two->constant) == 1 && shr_tensor_get(&two->constant, 0) == 2;
}

/* d / sqrt(mean(d d) + epsilon) with d = x - mean(x) */
static bool is_normalized(const struct shr_node *div, struct shr_value **ret_x, float *ret_epsilon)
{
    const struct shr_value *d = shr_node_in(div, 0), *std = shr_node_in(div, 1);
    if (!shr_node_is(d->producer, "Sub") || !shr_node_is(std->producer, "Sqrt")) {
        return false;
    }
    struct shr_value *x = shr_node_in(d->producer, 0);
    const struct shr_node *add = shr_node_in(std->producer, 0)->producer;
    if (!shr__fuse_is_f32(x) || !is_mean_of(shr_node_in(d->producer, 1), x) ||
        !shr_node_is(add, "Add")) {
        return false;
    }
    for (size_t i = 0; i < 2; i++) {
        const struct shr_value *mean = shr_node_in(add, i), *epsilon = shr_node_in(add, 1 - i);
        if (is_mean_of(mean, NULL) && is_square_of(shr_node_in(mean->producer, 0), d) &&
            shr_value_is_constant(epsilon) && shr_tensor_count(&epsilon->constant) == 1) {
            *ret_x = x;
            *ret_epsilon = (float)shr_tensor_get(&epsilon->constant, 0);
            return true;
        }
    }
    return false;
}

/* What follows a node when it is this operator with a constant row as the other operand. */
static struct shr_node *next_with_row(const struct shr_node *node, const char *op_type, int64_t n,
                                      struct shr_value **ret_row)
{
    struct shr_node *next = shr__fuse_next(node, op_type);
    for (size_t i = 0; next != NULL && i < 2; i++) {
        struct shr_value *row = shr_node_in(next, i);
        if (row != shr_node_out(node, 0) && shr__fuse_is_row(row, n) && row->constant.rank == 1) {
            *ret_row = row;
            return next;
        }
    }
    return NULL;
}

/* *at becomes the fused node, or stays. */
static int fuse_layernorm(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    struct shr_value *in[3];
    float epsilon;
    if (!shr_node_is(node, "Div") || !is_normalized(node, &in[0], &epsilon)) {
        return SHR_OK;
    }
    int64_t n = in[0]->type.dim[in[0]->type.rank - 1];
    struct shr_node *mul = next_with_row(node, "Mul", n, &in[1]);
    struct shr_node *add = mul == NULL ? NULL : next_with_row(mul, "Add", n, &in[2]);
    if (add == NULL) {
        return SHR_OK;
    }
    const struct shr_op *row = shr_op_find("", "LayerNormalization", 17);
    struct shr_value *out = shr_node_out(add, 0);
    shr_graph_remove_node(g, add);
    shr_graph_remove_node(g, mul);
    struct shr__cut cut = shr__fuse_cut(g, node);
    int rc = shr__fuse_put(g, &cut, row, in, 3, out, at, err);
    if (rc == 0) {
        rc = shr_node_set_int(g, *at, "axis", -1, err);
    }
    return rc != 0 ? rc : shr_node_set_float(g, *at, "epsilon", epsilon, err);
}

int shr__fuse_norms(struct shr_graph *g, struct shr_err *err)
{
    for (struct shr_node *node = g->first_node; node != NULL; node = node->next) {
        int rc = fuse_batchnorm(g, &node, err);
        if (rc == 0) {
            rc = fuse_layernorm(g, &node, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    shr_graph_drop_unused(g);
    return SHR_OK;
}
