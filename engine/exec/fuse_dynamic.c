/* Dynamic quantization: DynamicQuantizeLinear, MatMulInteger, Cast, Mul by the product of the
 * scales, Add and Relu become one step behind the quantization of the activation. */
#include "exec/fuse.h"

/* The other operand of a binary node. */
static struct shr_value *other_input(const struct shr_node *node, const struct shr_value *v)
{
    return shr_node_in(node, 0) == v ? shr_node_in(node, 1) : shr_node_in(node, 0);
}

/* Is v the product of x_scale and a constant: one scale, or one for each of n columns? */
static bool is_scale(const struct shr_value *v, const struct shr_value *x_scale, int64_t n,
                     struct shr_value **ret_w_scale)
{
    if (v == NULL || !shr_node_is(v->producer, "Mul")) {
        return false;
    }
    const struct shr_node *mul = v->producer;
    if (shr_node_in(mul, 0) != x_scale && shr_node_in(mul, 1) != x_scale) {
        return false;
    }
    struct shr_value *w_scale = other_input(mul, x_scale);
    if (!shr_value_is_constant(w_scale) || !shr__fuse_is_f32(w_scale)) {
        return false;
    }
    *ret_w_scale = w_scale;
    return shr_tensor_count(&w_scale->constant) == 1 || shr__fuse_is_row(w_scale, n);
}

static bool is_byte(enum shr_dtype dtype)
{
    return dtype == SHR_DTYPE_U8 || dtype == SHR_DTYPE_I8;
}

/* Constant 2-D weights with one zero point, or one a column. */
static bool has_plain_weight(const struct shr_node *node)
{
    const struct shr_value *w = shr_node_in(node, 1), *zero = shr_node_in(node, 3);
    if (!shr_value_is_constant(w) || w->constant.rank != 2 || !is_byte(w->constant.dtype)) {
        return false;
    }
    return zero == NULL || (shr_value_is_constant(zero) && zero->constant.rank <= 1 &&
                            (shr_tensor_count(&zero->constant) == 1 ||
                             shr_tensor_count(&zero->constant) == w->constant.dim[1]));
}

static struct shr_node *quantizer_of(const struct shr_node *node)
{
    const struct shr_value *x = shr_node_in(node, 0), *zero = shr_node_in(node, 2);
    if (x == NULL || zero == NULL || x->producer == NULL || x->producer != zero->producer ||
        !shr_node_is(x->producer, "DynamicQuantizeLinear") || x->producer_slot != 0 ||
        zero->producer_slot != 2) {
        return NULL;
    }
    return x->producer;
}

/* *at becomes the fused node, if any. */
static int fuse_product(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    const struct shr_node *quantizer = quantizer_of(node);
    if (!shr_node_is(node, "MatMulInteger") || quantizer == NULL || !has_plain_weight(node)) {
        return SHR_OK;
    }
    struct shr_value *x_scale = shr_node_out(quantizer, 1), *w = shr_node_in(node, 1), *w_scale;
    int64_t n = w->constant.dim[1];
    struct shr_node *cast = shr__fuse_next(node, "Cast");
    struct shr_node *mul = cast == NULL ? NULL : shr__fuse_next(cast, "Mul");
    if (x_scale == NULL || mul == NULL || !shr__fuse_is_f32(shr_node_out(cast, 0)) ||
        !is_scale(other_input(mul, shr_node_out(cast, 0)), x_scale, n, &w_scale)) {
        return SHR_OK;
    }

    struct shr_node *add = shr__fuse_next(mul, "Add");
    struct shr_value *bias = add == NULL ? NULL : other_input(add, shr_node_out(mul, 0));
    if (add != NULL &&
        (!shr__fuse_is_row(bias, n) || bias->constant.rank > shr_node_out(mul, 0)->type.rank)) {
        add = NULL;
        bias = NULL;
    }
    struct shr_node *relu = shr__fuse_next(add == NULL ? mul : add, "Relu");
    struct shr_node *last = relu != NULL ? relu : add != NULL ? add : mul;
    struct shr_value *out = shr_node_out(last, 0);
    struct shr_value *in[SHR__D_SLOTS] = {
        shr_node_in(node, 0), x_scale, shr_node_in(node, 2), w, w_scale, shr_node_in(node, 3), bias,
    };
    struct shr_node *const gone[] = {relu, add, mul, cast};
    for (size_t i = 0; i < SHR_COUNT_OF(gone); i++) {
        if (gone[i] != NULL) {
            shr_graph_remove_node(g, gone[i]);
        }
    }
    struct shr__cut cut = shr__fuse_cut(g, node);
    int rc = shr__fuse_put(g, &cut, &shr__fused_dynamic, in, SHR__D_SLOTS, out, at, err);
    return rc != 0 ? rc : shr_node_set_int(g, *at, "relu", relu != NULL, err);
}

int shr__fuse_dynamic(struct shr_graph *g, struct shr_err *err)
{
    for (struct shr_node *node = g->first_node; node != NULL; node = node->next) {
        int rc = fuse_product(g, &node, err);
        if (rc != 0) {
            return rc;
        }
    }
    return SHR_OK;
}
