/* Fusing: the order of the rewrites, and how they edit the graph; see fuse.h. */
#include "exec/fused.h"

#include <string.h>

#include "exec/step.h"

int shr__fuse_value(struct shr_graph *g, const char *stem, const struct shr_type *type,
                    struct shr_value **ret, struct shr_err *err)
{
    struct shr_value *v;
    int rc = shr_graph_fresh_value(g, stem, &v, err);
    if (rc == 0) {
        v->type = *type;
        *ret = v;
    }
    return rc;
}

int shr__fuse_add(struct shr_graph *g, struct shr_node *before, const struct shr_op *row,
                  struct shr_value *const *in, size_t n_in, struct shr_value *out,
                  struct shr_node **ret, struct shr_err *err)
{
    struct shr_node *node;
    int rc =
        shr_graph_add_node(g, before, row->domain, row->name, "", in, n_in, &out, 1, &node, err);
    if (rc == 0) {
        node->op = row;
        *ret = node;
    }
    return rc;
}

struct shr__cut shr__fuse_cut(struct shr_graph *g, struct shr_node *node)
{
    struct shr__cut cut = {node->next, node->attrs, node->name};
    shr_graph_remove_node(g, node);
    return cut;
}

int shr__fuse_put(struct shr_graph *g, const struct shr__cut *cut, const struct shr_op *row,
                  struct shr_value *const *in, size_t n_in, struct shr_value *out,
                  struct shr_node **ret, struct shr_err *err)
{
    int rc = shr__fuse_add(g, cut->before, row, in, n_in, out, ret, err);
    if (rc == 0) {
        (*ret)->attrs = cut->attrs;
        (*ret)->name = cut->name;
    }
    return rc;
}

bool shr__fuse_is(const struct shr_node *node, const struct shr_op *row)
{
    return node != NULL && node->op == row;
}

struct shr_node *shr__fuse_next(const struct shr_node *node, const char *op_type)
{
    const struct shr_value *out = shr_node_out(node, 0);
    struct shr_node *next = out == NULL ? NULL : shr_value_single_use(out);
    return shr_node_is(next, op_type) ? next : NULL;
}

bool shr__fuse_is_f32(const struct shr_value *v)
{
    return v != NULL && v->type.dtype == SHR_DTYPE_F32;
}

bool shr__fuse_is_row(const struct shr_value *v, int64_t n)
{
    if (!shr_value_is_constant(v) || v->constant.dtype != SHR_DTYPE_F32) {
        return false;
    }
    const struct shr_tensor *t = &v->constant;
    return t->rank > 0 && t->dim[t->rank - 1] == n && shr_tensor_count(t) == n;
}

bool shr__fuse_only_moves(const struct shr_node *node)
{
    static const char *const NAMES[] = {"Reshape",   "Flatten",   "Squeeze",
                                        "Unsqueeze", "Transpose", "Identity"};
    for (size_t i = 0; i < SHR_COUNT_OF(NAMES); i++) {
        if (shr_node_is(node, NAMES[i])) {
            return node->n_out == 1 && shr_node_out(node, 0) != NULL;
        }
    }
    return false;
}

/* ── Views ──────────────────────────────────────────────────────────────────────────────────── */

static int copy_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    memcpy(c->out[0]->data, c->in[0]->data, shr_tensor_bytes(c->in[0]));
    return SHR_OK;
}

/* The forward of a view runs where constants are folded. */
const struct shr_op shr__fused_view = {SHR__FUSED_ROW("View"), .forward = copy_forward};
const struct shr_op shr__fused_copy = {SHR__FUSED_ROW("Copy"), .forward = copy_forward};

bool shr__op_is_view(const struct shr_op *op)
{
    return op == &shr__fused_view;
}

/* A transposition with one channel or one pixel. */
static bool moves_nothing(const struct shr_node *node)
{
    bool to = node->op == &shr__fused_to_nhwc;
    if (!to && node->op != &shr__fused_from_nhwc) {
        return false;
    }
    const struct shr_type *nchw = &(to ? shr_node_in(node, 0) : shr_node_out(node, 0))->type;
    int64_t pixels = 1;
    for (int d = 2; d < nchw->rank; d++) {
        pixels *= nchw->dim[d];
    }
    return pixels == 1 || nchw->dim[1] == 1;
}

/* Operators whose output is the bytes of their first input. */
static bool only_reshapes(const struct shr_node *node)
{
    static const char *const NAMES[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"};
    for (size_t i = 0; i < SHR_COUNT_OF(NAMES); i++) {
        if (shr_node_is(node, NAMES[i])) {
            return true;
        }
    }
    return node->op == &shr__fused_copy || moves_nothing(node);
}

/* Inputs, outputs and kept values have bytes of their own: the caller may write into an input while
 * it reads an output. */
static bool has_own_bytes(const struct shr_value *v)
{
    while (v->producer != NULL && shr__op_is_view(v->producer->op)) {
        v = shr_node_in(v->producer, 0);
    }
    return v->is_input || v->is_output || v->captured || shr_value_is_constant(v);
}

static void make_views(struct shr_graph *g)
{
    SHR_EACH_NODE (node, g) {
        const struct shr_value *in = shr_node_in(node, 0), *out = shr_node_out(node, 0);
        if (!only_reshapes(node) || node->n_out != 1 || out == NULL || in == NULL) {
            continue;
        }
        bool out_is_told = out->is_output || out->captured;
        if (!(out_is_told && has_own_bytes(in))) { /* in this order: chains of views are long */
            node->op = &shr__fused_view;
        }
    }
}

int shr__fuse(struct shr_model *model, struct shr_err *err)
{
    struct shr_graph *g = &model->graph;
    int rc = shr__fuse_qoperator(g, err);
    if (rc == 0) {
        rc = shr__fuse_qdq(g, err);
    }
    if (rc == 0) {
        rc = shr__fuse_dynamic(g, err);
    }
    if (rc == 0) {
        rc = shr__fuse_shuffles(g, err);
    }
    if (rc == 0) {
        rc = shr__fuse_float(g, err);
    }
    if (rc == 0) {
        shr_graph_drop_unused(g);
        rc = shr__fuse_layout(g, err);
    }
    if (rc == 0) {
        shr_graph_drop_unused(g);
        make_views(g);
    }
    return rc;
}
