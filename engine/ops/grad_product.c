/* Backward rules of matrix products. */
#include "ops/grad.h"

/* alpha * a' b', transposed where told. */
static struct shr_value *gemm(struct shr_grad *g, struct shr_value *a, bool trans_a,
                              struct shr_value *b, bool trans_b, float alpha)
{
    struct shr_value *y = SHR_GRAD_ONNX(g, "Gemm", a, b);
    if (trans_a) {
        shr_grad_int(g, "transA", 1);
    }
    if (trans_b) {
        shr_grad_int(g, "transB", 1);
    }
    if (alpha != 1.0f) {
        shr_grad_float(g, "alpha", alpha);
    }
    return y;
}

/* Y = alpha A' B' + beta C: dA' = alpha dY B'^T, dB' = alpha A'^T dY, dC = beta dY */
SHR_BACKWARD(gemm)
{
    (void)err;
    const struct shr_node *node = g->node;
    struct shr_value *dy = shr_grad_of(g, 0), *a = shr_node_in(node, 0), *b = shr_node_in(node, 1);
    const bool ta = shr_node_int(node, "transA", 0) != 0, tb = shr_node_int(node, "transB", 0) != 0;
    const float alpha = shr_node_float(node, "alpha", 1.0f);
    if (shr_grad_wants(g, 0)) {
        shr_grad_give(g, 0,
                      ta ? gemm(g, b, tb, dy, true, alpha) : gemm(g, dy, false, b, !tb, alpha));
    }
    if (shr_grad_wants(g, 1)) {
        shr_grad_give(g, 1,
                      tb ? gemm(g, dy, true, a, ta, alpha) : gemm(g, a, !ta, dy, false, alpha));
    }
    if (shr_grad_wants(g, 2)) {
        struct shr_value *scaled = shr_grad_scaled(g, dy, shr_node_float(node, "beta", 1.0f));
        shr_grad_give_sum(g, 2, scaled, &shr_node_out(node, 0)->type);
    }
    return g->rc;
}

/* ── MatMul ─────────────────────────────────────────────────────────────────────────────────── */

static struct shr_type matrix_of(const struct shr_type *t) /* all dims but the last are rows */
{
    struct shr_type m = {.dtype = t->dtype, .rank = 2, .dim = {1, t->dim[t->rank - 1]}};
    for (int i = 0; i < t->rank - 1; i++) {
        m.dim[0] *= t->dim[i];
    }
    return m;
}

static struct shr_value *as_matrix(struct shr_grad *g, struct shr_value *v,
                                   const struct shr_type *type)
{
    if (type->rank == 2) {
        return v;
    }
    const struct shr_type m = matrix_of(type);
    return shr_grad_reshape(g, v, &m);
}

/* One matrix on the right: dA = dY B^T, dB = A^T dY over the rows of all batches. */
static void plain(struct shr_grad *g, struct shr_value *a, struct shr_value *b)
{
    const struct shr_type *y = &shr_node_out(g->node, 0)->type;
    struct shr_value *dy = as_matrix(g, shr_grad_of(g, 0), y);
    if (shr_grad_wants(g, 0)) {
        struct shr_value *da = gemm(g, dy, false, b, true, 1.0f);
        shr_grad_give(g, 0, a->type.rank == 2 ? da : shr_grad_reshape(g, da, &a->type));
    }
    if (shr_grad_wants(g, 1)) {
        shr_grad_give(g, 1, gemm(g, as_matrix(g, a, &a->type), true, dy, false, 1.0f));
    }
}

/* The matrices of a stack, each transposed. */
static struct shr_value *transposed(struct shr_grad *g, struct shr_value *v)
{
    int64_t perm[SHR_MAX_RANK];
    const int rank = v->type.rank;
    for (int i = 0; i < rank; i++) {
        perm[i] = i < rank - 2 ? i : rank - 1 - (i - (rank - 2));
    }
    struct shr_value *t = SHR_GRAD_ONNX(g, "Transpose", v);
    shr_grad_ints(g, "perm", perm, (size_t)rank);
    return t;
}

/* The type of what a product of the stacks of y with the matrices of x gives. */
static struct shr_type stacked(const struct shr_type *y, const struct shr_type *x)
{
    struct shr_type t = *y;
    t.dim[t.rank - 2] = x->dim[x->rank - 2];
    t.dim[t.rank - 1] = x->dim[x->rank - 1];
    return t;
}

/* Stacks of matrices: the same for each, summed over what was broadcast. */
static void batched(struct shr_grad *g, struct shr_value *a, struct shr_value *b)
{
    const struct shr_type *y = &shr_node_out(g->node, 0)->type;
    struct shr_value *dy = shr_grad_of(g, 0);
    const struct shr_type da = stacked(y, &a->type), db = stacked(y, &b->type);
    if (shr_grad_wants(g, 0)) {
        shr_grad_give_sum(g, 0, SHR_GRAD_ONNX(g, "MatMul", dy, transposed(g, b)), &da);
    }
    if (shr_grad_wants(g, 1)) {
        shr_grad_give_sum(g, 1, SHR_GRAD_ONNX(g, "MatMul", transposed(g, a), dy), &db);
    }
}

SHR_BACKWARD(matmul)
{
    struct shr_value *a = shr_node_in(g->node, 0), *b = shr_node_in(g->node, 1);
    if (a->type.rank < 2 || b->type.rank < 2) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                           "has no gradient for a product with a vector");
    }
    if (b->type.rank == 2) {
        plain(g, a, b);
    } else {
        batched(g, a, b);
    }
    return g->rc;
}
