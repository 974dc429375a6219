/* Backward rules of what moves or adds up elements. */
#include "ops/grad.h"

#include <string.h>

static const struct shr_type *in_type(struct shr_grad *g)
{
    return &shr_node_in(g->node, 0)->type;
}

static bool is_shape_of(const struct shr_type *a, const struct shr_type *b)
{
    return a->rank == b->rank &&
           (a->rank == 0 || memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) == 0);
}

SHR_BACKWARD(same)
{
    (void)err;
    struct shr_value *dy = shr_grad_of(g, 0);
    bool same = is_shape_of(in_type(g), &shr_node_out(g->node, 0)->type);
    shr_grad_give(g, 0, same ? dy : shr_grad_reshape(g, dy, in_type(g)));
    return g->rc;
}

SHR_BACKWARD(cast)
{
    if (in_type(g)->dtype != SHR_DTYPE_F32 ||
        shr_node_out(g->node, 0)->type.dtype != SHR_DTYPE_F32) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                           "has a gradient from float32 to float32 only");
    }
    return shr_backward_same(g, err);
}

SHR_BACKWARD(transpose)
{
    (void)err;
    size_t n;
    const int rank = in_type(g)->rank;
    const int64_t *perm = shr_node_ints(g->node, "perm", &n);
    int64_t back[SHR_MAX_RANK] = {0};
    for (int i = 0; i < rank; i++) {
        back[perm == NULL ? rank - 1 - i : perm[i]] = i; /* inference has checked perm */
    }
    struct shr_value *dx = SHR_GRAD_ONNX(g, "Transpose", shr_grad_of(g, 0));
    shr_grad_ints(g, "perm", back, (size_t)rank);
    shr_grad_give(g, 0, dx);
    return g->rc;
}

static int axis_of(const struct shr_grad *g, int rank, int64_t fallback)
{
    const int64_t axis = shr_node_int(g->node, "axis", fallback);
    return (int)(axis < 0 ? axis + rank : axis);
}

/* A block of v, and a block of zeros around v: the inverse of taking every step-th element. */
static struct shr_value *block(struct shr_grad *g, const char *op, struct shr_value *v,
                               const struct shr_type *type, const int64_t *start,
                               const int64_t *step)
{
    struct shr_value *part = SHR_GRAD_TRAIN(g, op, v);
    shr_grad_ints(g, "dims", type->dim, (size_t)type->rank);
    shr_grad_ints(g, "starts", start, (size_t)type->rank);
    if (step != NULL) {
        shr_grad_ints(g, "steps", step, (size_t)type->rank);
    }
    return part;
}

/* dx_i = its part of dy */
SHR_BACKWARD(concat)
{
    (void)err;
    const int axis = axis_of(g, in_type(g)->rank, 1);
    int64_t start[SHR_MAX_RANK] = {0};
    for (size_t i = 0; i < g->node->n_in; i++) {
        const struct shr_type *type = &shr_node_in(g->node, i)->type;
        if (shr_grad_wants(g, i)) {
            shr_grad_give(g, i, block(g, "Part", shr_grad_of(g, 0), type, start, NULL));
        }
        start[axis] += type->dim[axis];
    }
    return g->rc;
}

/* dx = dy_0 … dy_n in a row; zeros for outputs that the loss does not depend on */
SHR_BACKWARD(split)
{
    (void)err;
    const struct shr_type *x = in_type(g);
    const int axis = axis_of(g, x->rank, 0);
    int64_t start[SHR_MAX_RANK] = {0}, step[SHR_MAX_RANK];
    for (int i = 0; i < SHR_MAX_RANK; i++) {
        step[i] = 1;
    }
    for (size_t i = 0; i < g->node->n_out; i++) {
        const struct shr_value *out = shr_node_out(g->node, i);
        if (shr_grad_of(g, i) != NULL) {
            shr_grad_give(g, 0, block(g, "PutPart", shr_grad_of(g, i), x, start, step));
        }
        start[axis] += out == NULL ? 0 : out->type.dim[axis];
    }
    return g->rc;
}

/* The first element and the step of a Slice along every axis, as the operator clamps them. */
static int read_slice(struct shr_grad *g, int64_t *start, int64_t *step, struct shr_err *err)
{
    const struct shr_type *x = in_type(g);
    const char *const names[] = {NULL, "starts", NULL, "axes", NULL};
    int64_t list[5][SHR_MAX_RANK];
    size_t n[5] = {0};
    for (size_t k = 1; k < 5; k += k == 1 ? 2 : 1) { /* the ends follow from the output */
        const struct shr_value *v = shr_node_in(g->node, k);
        size_t n_attr = 0;
        const int64_t *attr = names[k] == NULL ? NULL : shr_node_ints(g->node, names[k], &n_attr);
        if (v != NULL && !shr_value_is_constant(v)) {
            return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                               "has a gradient with constant starts, axes and steps only");
        }
        n[k] = v != NULL ? (size_t)shr_tensor_count(&v->constant) : n_attr;
        for (size_t i = 0; i < n[k] && i < SHR_MAX_RANK; i++) {
            list[k][i] = v == NULL ? attr[i] : (int64_t)shr_tensor_get(&v->constant, (int64_t)i);
        }
    }
    for (int i = 0; i < SHR_MAX_RANK; i++) {
        start[i] = 0;
        step[i] = 1;
    }
    for (size_t i = 0; i < n[1] && i < SHR_MAX_RANK; i++) {
        const int64_t axis = i < n[3] ? list[3][i] : (int64_t)i;
        const int at = (int)(axis < 0 ? axis + x->rank : axis);
        const int64_t dim = x->dim[at], first = list[1][i] < 0 ? list[1][i] + dim : list[1][i];
        step[at] = i < n[4] ? list[4][i] : 1;
        const int64_t most = step[at] < 0 ? dim - 1 : dim;
        start[at] = first < 0 ? 0 : first > most ? most : first;
    }
    return SHR_OK;
}

SHR_BACKWARD(slice)
{
    int64_t start[SHR_MAX_RANK], step[SHR_MAX_RANK];
    int rc = read_slice(g, start, step, err);
    if (rc == SHR_OK) {
        shr_grad_give(g, 0, block(g, "PutPart", shr_grad_of(g, 0), in_type(g), start, step));
        rc = g->rc;
    }
    return rc;
}

/* dx = zeros, and dy added where each row was read */
SHR_BACKWARD(gather)
{
    (void)err;
    const struct shr_type *x = in_type(g);
    struct shr_value *dx =
        SHR_GRAD_TRAIN(g, "GatherGrad", shr_grad_of(g, 0), shr_node_in(g->node, 1));
    shr_grad_ints(g, "dims", x->dim, (size_t)x->rank);
    shr_grad_int(g, "axis", axis_of(g, x->rank, 0));
    shr_grad_give(g, 0, dx);
    return g->rc;
}

SHR_BACKWARD(expand)
{
    (void)err;
    shr_grad_give_sum(g, 0, shr_grad_of(g, 0), &shr_node_out(g->node, 0)->type);
    return g->rc;
}

/* dx = dy / count, where it was added up. The dims that went are those whose elements did: with
 * the dims of 1 in their places dy broadcasts to x. */
static int spread(struct shr_grad *g, bool mean, struct shr_err *err)
{
    const struct shr_type *x = in_type(g), *y = &shr_node_out(g->node, 0)->type;
    struct shr_type kept = *x;
    size_t n = 0;
    const int64_t *axes = shr_node_ints(g->node, "axes", &n);
    const struct shr_value *given = shr_node_in(g->node, 1);
    if (given != NULL && !shr_value_is_constant(given)) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                           "has a gradient with constant axes only");
    }
    n = given != NULL ? (size_t)shr_tensor_count(&given->constant) : axes == NULL ? 0 : n;
    const bool nothing = n == 0 && shr_node_int(g->node, "noop_with_empty_axes", 0) != 0;
    for (int i = 0; n == 0 && !nothing && i < x->rank; i++) {
        kept.dim[i] = 1;
    }
    for (size_t i = 0; i < n; i++) {
        const int64_t axis =
            given == NULL ? axes[i] : (int64_t)shr_tensor_get(&given->constant, (int64_t)i);
        kept.dim[axis < 0 ? axis + x->rank : axis] = 1;
    }
    int64_t many = 1, few = 1;
    if (!shr_dims_count(x->rank, x->dim, &many) || !shr_dims_count(kept.rank, kept.dim, &few)) {
        return shr_op_fail(g->node, err, SHR_ERR_INTERNAL, "has no shape");
    }
    struct shr_value *dy = shr_grad_of(g, 0);
    dy = mean ? shr_grad_scaled(g, dy, (float)((double)few / (double)many)) : dy;
    dy = is_shape_of(&kept, y) ? dy : shr_grad_reshape(g, dy, &kept);
    struct shr_value *dx = SHR_GRAD_TRAIN(g, "BroadcastTo", dy);
    shr_grad_ints(g, "dims", x->dim, (size_t)x->rank);
    shr_grad_give(g, 0, dx);
    return g->rc;
}

SHR_BACKWARD(reduce_sum)
{
    return spread(g, false, err);
}

SHR_BACKWARD(reduce_mean)
{
    return spread(g, true, err);
}
