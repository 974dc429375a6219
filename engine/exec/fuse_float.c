/* Float fusing: a product with constant weights takes up the bias and the Relu behind it. */
#include "exec/fuse.h"

static bool is_plain_gemm(const struct shr_node *node)
{
    return shr_node_is(node, "Gemm") && shr_node_float(node, "alpha", 1) == 1 &&
           shr_node_float(node, "beta", 1) == 1 && shr_node_int(node, "transA", 0) == 0;
}

static bool has_constant_weight(const struct shr_node *node)
{
    const struct shr_value *w = shr_node_in(node, 1);
    return shr_value_is_constant(w) && shr__fuse_is_f32(w) &&
           shr__fuse_is_f32(shr_node_in(node, 0));
}

/* Of MatMul: the Add behind it and its constant row, if there is one. */
static struct shr_node *bias_add(const struct shr_node *node, int64_t n,
                                 struct shr_value **ret_bias)
{
    struct shr_node *add = shr__fuse_next(node, "Add");
    for (size_t i = 0; add != NULL && i < 2; i++) {
        struct shr_value *other = shr_node_in(add, i);
        if (other != shr_node_out(node, 0) && shr__fuse_is_row(other, n) &&
            other->constant.rank <= shr_node_out(node, 0)->type.rank) {
            *ret_bias = other;
            return add;
        }
    }
    return NULL;
}

/* *at becomes the fused node, if any. */
static int fuse_linear(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    struct shr_value *w = shr_node_in(node, 1), *bias = shr_node_in(node, 2);
    bool gemm = shr_node_is(node, "Gemm");
    bool fits = gemm ? is_plain_gemm(node) : shr_node_is(node, "MatMul");
    if (!fits || !has_constant_weight(node) || w->constant.rank != 2 ||
        shr_node_in(node, 0)->type.rank < 1) {
        return SHR_OK;
    }
    int64_t n = w->constant.dim[gemm && shr_node_int(node, "transB", 0) != 0 ? 0 : 1];
    if (bias != NULL && !shr__fuse_is_row(bias, n)) {
        return SHR_OK;
    }

    struct shr_node *add = bias == NULL ? bias_add(node, n, &bias) : NULL;
    struct shr_node *last = add == NULL ? node : add;
    struct shr_node *relu = shr__fuse_next(last, "Relu");
    struct shr_value *out = shr_node_out(relu == NULL ? last : relu, 0);
    if (relu != NULL) {
        shr_graph_remove_node(g, relu);
    }
    if (add != NULL) {
        shr_graph_remove_node(g, add);
    }
    struct shr_value *in[] = {shr_node_in(node, 0), w, bias};
    struct shr__cut cut = shr__fuse_cut(g, node);
    int rc = shr__fuse_put(g, &cut, &shr__fused_linear, in, 3, out, at, err);
    return rc != 0 ? rc : shr_node_set_int(g, *at, "relu", relu != NULL, err);
}

static int fuse_conv(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    const struct shr_value *bias = shr_node_in(node, 2);
    struct shr_node *relu = shr__fuse_next(node, "Relu");
    if (!shr_node_is(node, "Conv") || relu == NULL || !has_constant_weight(node) ||
        (bias != NULL && !shr_value_is_constant(bias)) || shr_node_in(node, 0)->type.rank < 3 ||
        shr_node_in(node, 0)->type.rank > 4) {
        return SHR_OK;
    }
    struct shr_value *in[] = {shr_node_in(node, 0), shr_node_in(node, 1), shr_node_in(node, 2)};
    struct shr_value *out = shr_node_out(relu, 0);
    shr_graph_remove_node(g, relu);
    struct shr__cut cut = shr__fuse_cut(g, node);
    int rc = shr__fuse_put(g, &cut, &shr__fused_conv, in, 3, out, at, err);
    return rc != 0 ? rc : shr_node_set_int(g, *at, "relu", 1, err);
}

int shr__fuse_float(struct shr_graph *g, struct shr_err *err)
{
    for (struct shr_node *node = g->first_node; node != NULL; node = node->next) {
        int rc = shr_node_is(node, "Conv") ? fuse_conv(g, &node, err) : fuse_linear(g, &node, err);
        if (rc != 0) {
            return rc;
        }
    }
    return SHR_OK;
}
