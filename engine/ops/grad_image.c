/* Backward rules of what else works on images: Pad, PRelu, Resize. */
#include "ops/grad.h"

#include <string.h>

static struct shr_value *in(struct shr_grad *g, size_t slot)
{
    return shr_node_in(g->node, slot);
}

static struct shr_value *constant_i64(struct shr_grad *g, const char *stem, const int64_t *v,
                                      int64_t n)
{
    struct shr_tensor t;
    struct shr_value *ret = NULL;
    if (g->rc == SHR_OK) {
        g->rc = shr_tensor_new(SHR_DTYPE_I64, 1, &n, &t, g->err);
        if (g->rc == SHR_OK) {
            memcpy(t.data, v, (size_t)n * sizeof *v);
            g->rc = shr_graph_add_constant(&g->model->graph, stem, t, &ret, g->err);
        }
    }
    return g->rc == SHR_OK ? ret : NULL;
}

/* ── Pad ────────────────────────────────────────────────────────────────────────────────────── */

/* How much stands in front of and behind each axis; negative: is cut off. */
static int read_pads(struct shr_grad *g, int64_t front[SHR_MAX_RANK], struct shr_err *err)
{
    const struct shr_value *pads = in(g, 1), *axes = in(g, 3);
    const int rank = in(g, 0)->type.rank;
    size_t n = 0;
    const int64_t *attr = shr_node_ints(g->node, "pads", &n);
    if ((pads != NULL && !shr_value_is_constant(pads)) ||
        (axes != NULL && !shr_value_is_constant(axes))) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                           "has a gradient with constant pads and axes only");
    }
    n = pads != NULL ? (size_t)shr_tensor_count(&pads->constant) : n;
    memset(front, 0, SHR_MAX_RANK * sizeof *front);
    for (size_t i = 0; i < n; i++) {
        const size_t half = n / 2;
        const int64_t v =
            pads != NULL ? (int64_t)shr_tensor_get(&pads->constant, (int64_t)i) : attr[i];
        int64_t axis = axes != NULL ? (int64_t)shr_tensor_get(&axes->constant, (int64_t)(i % half))
                                    : (int64_t)(i % half);
        axis += axis < 0 ? rank : 0;
        if (v < 0) {
            return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                               "has a gradient without negative pads only");
        }
        front[axis] = i < half ? v : front[axis];
    }
    return SHR_OK;
}

/* dx = what stands between the pads */
SHR_BACKWARD(pad)
{
    int64_t front[SHR_MAX_RANK];
    const struct shr_type *x = &in(g, 0)->type;
    int rc = read_pads(g, front, err);
    if (rc == SHR_OK && strcmp(shr_node_text(g->node, "mode", "constant"), "constant") != 0) {
        rc = shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED, "has a gradient in mode constant only");
    }
    if (rc == SHR_OK) {
        struct shr_value *dx = SHR_GRAD_TRAIN(g, "Part", shr_grad_of(g, 0));
        shr_grad_ints(g, "dims", x->dim, (size_t)x->rank);
        shr_grad_ints(g, "starts", front, (size_t)x->rank);
        shr_grad_give(g, 0, dx);
        rc = g->rc;
    }
    return rc;
}

/* ── PRelu ──────────────────────────────────────────────────────────────────────────────────── */

/* dx = x < 0 ? slope dy : dy, dslope = x < 0 ? x dy : 0 */
SHR_BACKWARD(prelu)
{
    (void)err;
    const struct shr_type *shape = &shr_node_out(g->node, 0)->type;
    struct shr_value *dy = shr_grad_of(g, 0), *zero = shr_grad_scalar(g, 0.0f);
    struct shr_value *below = SHR_GRAD_ONNX(g, "Less", in(g, 0), zero);
    if (shr_grad_wants(g, 0)) {
        struct shr_value *scaled = SHR_GRAD_ONNX(g, "Mul", dy, in(g, 1));
        shr_grad_give_sum(g, 0, SHR_GRAD_ONNX(g, "Where", below, scaled, dy), shape);
    }
    if (shr_grad_wants(g, 1)) {
        struct shr_value *scaled = SHR_GRAD_ONNX(g, "Mul", dy, in(g, 0));
        shr_grad_give_sum(g, 1, SHR_GRAD_ONNX(g, "Where", below, scaled, zero), shape);
    }
    return g->rc;
}

/* ── Resize ─────────────────────────────────────────────────────────────────────────────────── */

/* The numbers 0, 1, … as one image of the spatial dims of x. */
static struct shr_value *numbered(struct shr_grad *g, const struct shr_type *x)
{
    struct shr_tensor t;
    struct shr_value *ret = NULL;
    int64_t dim[SHR_MAX_RANK];
    memcpy(dim, x->dim, sizeof dim);
    dim[0] = dim[1] = 1;
    if (g->rc == SHR_OK) {
        g->rc = shr_tensor_new(SHR_DTYPE_F32, x->rank, dim, &t, g->err);
        for (int64_t i = 0; g->rc == SHR_OK && i < shr_tensor_count(&t); i++) {
            ((float *)t.data)[i] = (float)i;
        }
        if (g->rc == SHR_OK) {
            g->rc = shr_graph_add_constant(&g->model->graph, "pixels", t, &ret, g->err);
        }
    }
    return g->rc == SHR_OK ? ret : NULL;
}

/* Which pixel of x each of y is: the operator applied to their numbers. */
static struct shr_value *sources(struct shr_grad *g)
{
    const struct shr_type *x = &in(g, 0)->type, *y = &shr_node_out(g->node, 0)->type;
    struct shr_value *operands[4] = {numbered(g, x), in(g, 1), in(g, 2), NULL};
    int64_t sizes[SHR_MAX_RANK];
    memcpy(sizes, y->dim, sizeof sizes);
    sizes[0] = sizes[1] = 1;
    if (in(g, 3) != NULL) {
        operands[3] = constant_i64(g, "sizes", sizes, y->rank);
    }
    const size_t n = g->node->n_in < 4 ? g->node->n_in : 4;
    struct shr_value *at = shr_grad_emit(g, "", g->node->op_type, operands, n);
    shr_grad_attrs(g, g->node);
    at = SHR_GRAD_ONNX(g, "Cast", at);
    shr_grad_int(g, "to", 7); /* int64 */
    const int64_t all = -1;
    return SHR_GRAD_ONNX(g, "Reshape", at, constant_i64(g, "shape", &all, 1));
}

/* nearest: dx = dy added up where it came from */
SHR_BACKWARD(resize)
{
    enum { EXACT = 1 << 24 }; /* numbers that float32 holds */
    const struct shr_type *x = &in(g, 0)->type, *y = &shr_node_out(g->node, 0)->type;
    int64_t size = 1, y_size = 1;
    for (int i = 2; i < x->rank; i++) {
        size *= x->dim[i];
        y_size *= y->dim[i];
    }
    if (strcmp(shr_node_text(g->node, "mode", "nearest"), "nearest") != 0 || x->rank < 3 ||
        size >= EXACT || x->dim[0] != y->dim[0] || x->dim[1] != y->dim[1] ||
        shr_node_attr(g->node, "axes") != NULL) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                           "has a gradient for the nearest pixels of images only");
    }
    const struct shr_type flat = {
        .dtype = x->dtype, .rank = 3, .dim = {x->dim[0], x->dim[1], y_size}};
    const int64_t dims[] = {x->dim[0], x->dim[1], size};
    struct shr_value *dy = shr_grad_reshape(g, shr_grad_of(g, 0), &flat);
    struct shr_value *dx = SHR_GRAD_TRAIN(g, "GatherGrad", dy, sources(g));
    shr_grad_ints(g, "dims", dims, 3);
    shr_grad_int(g, "axis", 2);
    shr_grad_give(g, 0, shr_grad_reshape(g, dx, x));
    return g->rc;
}
