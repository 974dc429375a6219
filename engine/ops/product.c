/* Shapes of matrix products over batches; see product.h. */
#include "ops/product.h"

int shr_product_infer(const struct shr_node *node, const struct shr_type *a,
                      const struct shr_type *b, struct shr_type *y, struct shr_err *err)
{
    if (a->rank < 0 || b->rank < 0) {
        return SHR_OK;
    }
    if (a->rank == 0 || b->rank == 0) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "inputs must have at least one dim");
    }
    int64_t ka = a->dim[a->rank - 1], kb = b->dim[b->rank > 1 ? b->rank - 2 : 0];
    if (ka >= 0 && kb >= 0 && ka != kb) {
        char ta[96], tb[96];
        return shr_op_fail(node, err, SHR_ERR_INVALID, "cannot multiply %s by %s",
                           shr_dims_text(a->rank, a->dim, ta, sizeof ta),
                           shr_dims_text(b->rank, b->dim, tb, sizeof tb));
    }
    struct shr_type batch = *a, batch_b = *b;
    batch.rank = a->rank > 2 ? a->rank - 2 : 0;
    batch_b.rank = b->rank > 2 ? b->rank - 2 : 0;
    int code = shr_type_broadcast(node, &batch, &batch_b, err);
    if (code != SHR_OK) {
        return code;
    }
    shr_type_copy_shape(y, &batch);
    if (a->rank > 1) {
        shr_type_copy_dim(y, y->rank++, a, a->rank - 2);
    }
    if (b->rank > 1) {
        shr_type_copy_dim(y, y->rank++, b, b->rank - 1);
    }
    return SHR_OK;
}

/* The dims in front of the matrix as a tensor whose elements are matrices. */
static struct shr_tensor batch_view(const struct shr_tensor *t)
{
    struct shr_tensor v = *t;
    v.rank = t->rank > 2 ? t->rank - 2 : 0;
    return v;
}

void shr_product_init(struct shr_product *s, const struct shr_tensor *a, const struct shr_tensor *b)
{
    s->k = (size_t)a->dim[a->rank - 1];
    s->m = a->rank > 1 ? (size_t)a->dim[a->rank - 2] : 1;
    s->n = b->rank > 1 ? (size_t)b->dim[b->rank - 1] : 1;
    struct shr_tensor va = batch_view(a), vb = batch_view(b);
    s->b_matrices = shr_dims_product(vb.dim, 0, vb.rank);
    if (s->b_matrices == 1 && va.rank >= vb.rank) { /* one product over all rows of A */
        s->m *= (size_t)shr_dims_product(va.dim, 0, va.rank);
        va.rank = vb.rank = 0;
    }
    int rank = va.rank > vb.rank ? va.rank : vb.rank;
    int64_t dim[SHR_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        int64_t da = i < rank - va.rank ? 1 : va.dim[i - (rank - va.rank)];
        int64_t db = i < rank - vb.rank ? 1 : vb.dim[i - (rank - vb.rank)];
        dim[i] = da == 1 ? db : da;
    }
    const struct shr_tensor *x[] = {&va, &vb};
    shr_walk_broadcast(&s->batches, rank, dim, 2, x);
}
