/* Float fusing: a product takes up what follows it: its bias, the scale of a BatchNormalization
 * where its weights are constant, the Add of another branch, an activation. */
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

/* A product and what it takes up. */
struct product {
    const struct shr_op *row;
    struct shr_value *in[SHR__F_SLOTS];
    int64_t channels;
    bool live; /* weights that come with every run: nothing is multiplied into them */
    struct shr_node *taken[4]; /* in order */
    size_t n_taken;
    struct shr_node *last; /* the product, or the last one taken */
    struct shr__act act;
};

static void take(struct product *p, struct shr_node *node)
{
    p->taken[p->n_taken++] = node;
    p->last = node;
}

static bool read_linear(struct shr_node *node, struct product *p)
{
    const struct shr_value *w = shr_node_in(node, 1), *bias = shr_node_in(node, 2);
    bool gemm = shr_node_is(node, "Gemm");
    bool fits = gemm ? is_plain_gemm(node) : shr_node_is(node, "MatMul");
    if (!fits || !has_constant_weight(node) || w->constant.rank != 2 ||
        shr_node_in(node, 0)->type.rank < 1) {
        return false;
    }
    p->row = &shr__fused_linear;
    p->channels = w->constant.dim[gemm && shr_node_int(node, "transB", 0) != 0 ? 0 : 1];
    return bias == NULL || shr__fuse_is_row(bias, p->channels);
}

static bool is_empty(const struct shr_value *v)
{
    int64_t n = 0;
    return !shr_dims_count(v->type.rank, v->type.dim, &n) || n == 0;
}

static bool read_conv(struct shr_node *node, struct product *p)
{
    const struct shr_value *x = shr_node_in(node, 0), *bias = shr_node_in(node, 2);
    const struct shr_value *w = shr_node_in(node, 1);
    if (!shr_node_is(node, "Conv") || x->type.rank < 3 || x->type.rank > 4 ||
        !shr__fuse_is_f32(x) || !shr__fuse_is_f32(w) || is_empty(x) || is_empty(w)) {
        return false;
    }
    p->row = &shr__fused_conv;
    p->channels = w->type.dim[0];
    p->live = !shr_value_is_constant(w) || (bias != NULL && !shr_value_is_constant(bias));
    return true;
}

/* Of MatMul: the Add of a constant row. */
static void take_bias(struct product *p)
{
    struct shr_node *add = p->in[SHR__F_BIAS] == NULL && p->row == &shr__fused_linear
                               ? shr__fuse_next(p->last, "Add")
                               : NULL;
    const struct shr_value *y = shr_node_out(p->last, 0);
    for (size_t i = 0; add != NULL && i < 2; i++) {
        struct shr_value *v = shr_node_in(add, i);
        if (v != y && shr__fuse_is_row(v, p->channels) && v->constant.rank <= y->type.rank) {
            p->in[SHR__F_BIAS] = v;
            take(p, add);
            return;
        }
    }
}

static void take_scale(struct product *p)
{
    struct shr_value *y = shr_node_out(p->last, 0);
    struct shr_node *scale = shr_value_single_use(y);
    if (!p->live && shr__fuse_is(scale, &shr__fused_affine) &&
        (p->row == &shr__fused_conv || y->type.rank == 2)) {
        p->in[SHR__F_SCALE] = shr_node_in(scale, 1);
        p->in[SHR__F_SHIFT] = shr_node_in(scale, 2);
        take(p, scale);
    }
}

/* Of Conv: the Add of something else of the same shape. */
static void take_residual(struct product *p)
{
    struct shr_node *add = p->row == &shr__fused_conv ? shr__fuse_next(p->last, "Add") : NULL;
    const struct shr_value *y = shr_node_out(p->last, 0);
    if (add == NULL) {
        return;
    }
    struct shr_value *other = shr_node_in(add, shr_node_in(add, 0) == y ? 1 : 0);
    if (other != y && !shr_value_is_constant(other) && shr_type_equal(&other->type, &y->type)) {
        p->in[SHR__F_RESIDUAL] = other;
        take(p, add);
    }
}

static void take_act(struct product *p)
{
    struct shr_node *next = shr_value_single_use(shr_node_out(p->last, 0));
    if (next != NULL && shr_node_in(next, 0) == shr_node_out(p->last, 0) &&
        shr__fuse_read_act(next, &p->act)) {
        take(p, next);
    }
}

/* The fused node stands where the last one stood: all that it reads is known there. */
static int put_product(struct shr_graph *g, struct shr_node *node, const struct product *p,
                       struct shr_err *err)
{
    struct shr_value *out = shr_node_out(p->last, 0);
    struct shr__cut cut = {.before = p->last->next, .attrs = node->attrs, .name = node->name};
    for (size_t i = p->n_taken; i-- > 0;) {
        shr_graph_remove_node(g, p->taken[i]);
    }
    shr_graph_remove_node(g, node);
    struct shr_node *fused;
    int rc = shr__fuse_put(g, &cut, p->row, p->in, SHR__F_SLOTS, out, &fused, err);
    return rc != 0 ? rc : shr__fuse_set_act(g, fused, p->act, err);
}

static int fuse_product(struct shr_graph *g, struct shr_node *node, struct shr_err *err)
{
    struct product p = {.last = node};
    if (!read_conv(node, &p) && !read_linear(node, &p)) {
        return SHR_OK;
    }
    for (size_t i = SHR__F_X; i <= SHR__F_BIAS; i++) {
        p.in[i] = shr_node_in(node, i);
    }
    take_bias(&p);
    take_scale(&p);
    take_residual(&p);
    take_act(&p);
    return put_product(g, node, &p, err);
}

/* A scale that stands alone takes up an activation. */
static int fuse_scale(struct shr_graph *g, struct shr_node *node, struct shr_err *err)
{
    struct product p = {.row = &shr__fused_affine, .last = node};
    if (shr__fuse_act_of(node).kind == SHR_ACT_NONE) {
        take_act(&p);
    }
    if (p.n_taken == 0) {
        return SHR_OK;
    }
    struct shr_value *in[3] = {shr_node_in(node, 0), shr_node_in(node, 1), shr_node_in(node, 2)};
    struct shr_value *out = shr_node_out(p.last, 0);
    shr_graph_remove_node(g, p.last);
    struct shr__cut cut = shr__fuse_cut(g, node);
    int rc = shr__fuse_put(g, &cut, p.row, in, 3, out, &node, err);
    return rc != 0 ? rc : shr__fuse_set_act(g, node, p.act, err);
}

int shr__fuse_float(struct shr_graph *g, struct shr_err *err)
{
    int rc = shr__fuse_acts(g, err);
    if (rc == 0) {
        rc = shr__fuse_norms(g, err);
    }
    if (rc == 0) {
        rc = shr__fuse_softmax(g, err);
    }
    for (struct shr_node *node = g->first_node; rc == 0 && node != NULL;) {
        struct shr_node *before = node->prev; /* fusing takes away nodes behind it alone */
        rc = shr__fuse_is(node, &shr__fused_affine) ? fuse_scale(g, node, err)
                                                    : fuse_product(g, node, err);
        struct shr_node *now = before == NULL ? g->first_node : before->next;
        node = now == node ? node->next : now;
    }
    return rc;
}
