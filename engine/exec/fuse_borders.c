/* Borders of integer chains: int8 to uint8 and NCHW to NHWC, and back; see fuse.h.
 *
 * Chains are built step by step, each with its own borders. Afterwards a border behind its inverse
 * goes, equal borders of one value become one, and what is left merges into the QuantizeLinear in
 * front of a chain and the DequantizeLinear behind it. */
#include "exec/fuse.h"

#include <string.h>

static bool is_image(const struct shr_value *v)
{
    return v->type.rank >= 3;
}

static struct shr_type nhwc_type(const struct shr_type *nchw)
{
    struct shr_type type = *nchw;
    int last = nchw->rank - 1;
    for (int d = 1; d < last; d++) {
        type.dim[d] = nchw->dim[d + 1];
    }
    type.dim[last] = nchw->dim[1];
    return type;
}

static int border(struct shr_graph *g, struct shr_node *before, const struct shr_op *row,
                  struct shr_value *v, const struct shr_type *type, struct shr_value **ret,
                  struct shr_err *err)
{
    struct shr_value *out;
    struct shr_node *node;
    int rc = shr__fuse_value(g, v->name, type, &out, err);
    if (rc == 0) {
        rc = shr__fuse_add(g, before, row, &v, 1, out, &node, err);
    }
    if (rc == 0) {
        *ret = out;
    }
    return rc;
}

int shr__fuse_enter(struct shr_graph *g, struct shr_node *before, struct shr_value *v, bool nhwc,
                    struct shr_value **ret, struct shr_err *err)
{
    int rc = SHR_OK;
    if (v->type.dtype == SHR_DTYPE_I8) {
        struct shr_type type = v->type;
        type.dtype = SHR_DTYPE_U8;
        rc = border(g, before, &shr__fused_flip, v, &type, &v, err);
    }
    if (rc == 0 && nhwc && is_image(v)) {
        struct shr_type type = nhwc_type(&v->type);
        rc = border(g, before, &shr__fused_to_nhwc, v, &type, &v, err);
    }
    if (rc == 0) {
        *ret = v;
    }
    return rc;
}

int shr__fuse_inner(struct shr_graph *g, struct shr_value *v, bool nhwc, struct shr_value **ret,
                    struct shr_err *err)
{
    nhwc = nhwc && is_image(v);
    struct shr_type type = nhwc ? nhwc_type(&v->type) : v->type;
    if (!nhwc && v->type.dtype != SHR_DTYPE_I8) {
        *ret = v;
        return SHR_OK;
    }
    type.dtype = v->type.dtype == SHR_DTYPE_I8 ? SHR_DTYPE_U8 : v->type.dtype;
    return shr__fuse_value(g, v->name, &type, ret, err);
}

int shr__fuse_leave(struct shr_graph *g, struct shr_node *before, struct shr_value *inner,
                    struct shr_value *v, bool nhwc, struct shr_err *err)
{
    struct shr_node *node;
    bool flip = v->type.dtype == SHR_DTYPE_I8;
    if (inner == v) {
        return SHR_OK;
    }
    if (!(nhwc && is_image(v))) {
        return shr__fuse_add(g, before, &shr__fused_flip, &inner, 1, v, &node, err);
    }
    if (!flip) {
        return shr__fuse_add(g, before, &shr__fused_from_nhwc, &inner, 1, v, &node, err);
    }
    struct shr_type type = v->type;
    type.dtype = SHR_DTYPE_U8;
    struct shr_value *nchw;
    int rc = border(g, before, &shr__fused_from_nhwc, inner, &type, &nchw, err);
    return rc != 0 ? rc : shr__fuse_add(g, before, &shr__fused_flip, &nchw, 1, v, &node, err);
}

bool shr__fuse_is_nhwc(const struct shr_value *v)
{
    if (shr__fuse_is(v->producer, &shr__fused_flip)) {
        v = shr_node_in(v->producer, 0);
    }
    return shr__fuse_is(v->producer, &shr__fused_from_nhwc);
}

/* ── Tidying ────────────────────────────────────────────────────────────────────────────────── */

static const struct shr_op *inverse_of(const struct shr_op *row)
{
    return row == &shr__fused_flip        ? &shr__fused_flip
           : row == &shr__fused_to_nhwc   ? &shr__fused_from_nhwc
           : row == &shr__fused_from_nhwc ? &shr__fused_to_nhwc
                                          : NULL;
}

/* A border of the same kind on the same value that stands earlier. */
static struct shr_node *earlier_twin(const struct shr_node *node)
{
    SHR_EACH_USE (use, shr_node_in(node, 0)) {
        if (use->node->op == node->op && use->node->index < node->index) {
            return use->node;
        }
    }
    return NULL;
}

/* The Flip that is undone by this one, with nothing but moves of elements between; else NULL. */
static struct shr_node *undone_flip(const struct shr_node *flip)
{
    const struct shr_node *reader = flip;
    const struct shr_value *v = shr_node_in(flip, 0);
    while (shr__fuse_only_moves(v->producer) && shr_value_single_use(v) == reader) {
        reader = v->producer;
        v = shr_node_in(reader, 0);
    }
    return v->type.dtype == SHR_DTYPE_I8 && shr__fuse_is(v->producer, &shr__fused_flip)
               ? v->producer
               : NULL;
}

/* Flip(move(Flip(x))) becomes move(x). */
static bool cancel_flips(struct shr_graph *g, struct shr_node *flip)
{
    struct shr_node *first = flip->op == &shr__fused_flip ? undone_flip(flip) : NULL;
    struct shr_value *v = shr_node_in(flip, 0), *out = shr_node_out(flip, 0);
    if (first == NULL || v->producer == first || out->is_output || out->captured) {
        return false;
    }
    shr_value_replace_uses(out, v);
    shr_graph_remove_node(g, flip);
    struct shr_node *move = v->producer;
    for (; shr_node_in(move, 0)->producer != first; move = shr_node_in(move, 0)->producer) {
        shr_node_out(move, 0)->type.dtype = SHR_DTYPE_U8;
    }
    shr_node_out(move, 0)->type.dtype = SHR_DTYPE_U8;
    shr_node_set_input(move, 0, shr_node_in(first, 0));
    return true;
}

static void cancel(struct shr_graph *g, struct shr_node *node)
{
    const struct shr_op *inverse = inverse_of(node->op);
    struct shr_value *in = shr_node_in(node, 0), *out = shr_node_out(node, 0);
    if (inverse == NULL || out->is_output || out->captured || cancel_flips(g, node)) {
        return;
    }
    if (shr__fuse_is(in->producer, inverse)) {
        shr_value_replace_uses(out, shr_node_in(in->producer, 0));
    } else if (earlier_twin(node) != NULL) {
        shr_value_replace_uses(out, shr_node_out(earlier_twin(node), 0));
    } else {
        return;
    }
    shr_graph_remove_node(g, node);
}

/* One scale for the whole tensor, known now, in the forms that the rows take. */
static bool has_plain_scale(const struct shr_node *node)
{
    const struct shr_value *scale = shr_node_in(node, 1), *zero = shr_node_in(node, 2);
    return shr_value_is_constant(scale) && shr__fuse_is_f32(scale) &&
           shr_tensor_count(&scale->constant) == 1 &&
           (zero == NULL ||
            (shr_value_is_constant(zero) && shr_tensor_count(&zero->constant) == 1));
}

static int add_flags(struct shr_graph *g, struct shr_node *node, bool flip, bool nhwc,
                     struct shr_err *err)
{
    int rc = shr_node_set_int(g, node, "flip", flip || shr_node_int(node, "flip", 0) != 0, err);
    return rc != 0
               ? rc
               : shr_node_set_int(g, node, "nhwc", nhwc || shr_node_int(node, "nhwc", 0) != 0, err);
}

/* Flip(Q(x)) and ToNhwc(Q(x)) become one Quantize. *at becomes it. */
static int merge_quantize(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    bool flip = node->op == &shr__fused_flip, nhwc = node->op == &shr__fused_to_nhwc;
    struct shr_node *quantize = flip || nhwc ? shr_node_in(node, 0)->producer : NULL;
    if (quantize == NULL || shr_value_single_use(shr_node_in(node, 0)) != node ||
        !(shr__fuse_is(quantize, &shr__fused_quantize) ||
          (shr_node_is(quantize, "QuantizeLinear") && shr__fuse_is_f32(shr_node_in(quantize, 0)) &&
           has_plain_scale(quantize)))) {
        return SHR_OK;
    }
    struct shr_value *out = shr_node_out(node, 0);
    struct shr_value *in[] = {shr_node_in(quantize, 0), shr_node_in(quantize, 1),
                              shr_node_in(quantize, 2)};
    struct shr__cut cut = shr__fuse_cut(g, node);
    cut.attrs = quantize->attrs;
    cut.name = quantize->name;
    shr_graph_remove_node(g, quantize);
    int rc = shr__fuse_put(g, &cut, &shr__fused_quantize, in, 3, out, at, err);
    return rc != 0 ? rc : add_flags(g, *at, flip, nhwc, err);
}

/* DQ(Flip(x)) and DQ(FromNhwc(x)) read x. */
static int merge_dequantize(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    if (!(shr_node_is(node, "DequantizeLinear") && has_plain_scale(node) &&
          shr__fuse_is_f32(shr_node_out(node, 0)))) {
        return SHR_OK;
    }
    struct shr_value *x = shr_node_in(node, 0);
    bool flip = shr__fuse_is(x->producer, &shr__fused_flip) && x->type.dtype == SHR_DTYPE_I8;
    x = flip ? shr_node_in(x->producer, 0) : x;
    bool nhwc = shr__fuse_is(x->producer, &shr__fused_from_nhwc) && x->type.dtype == SHR_DTYPE_U8;
    x = nhwc ? shr_node_in(x->producer, 0) : x;
    if (!flip && !nhwc) {
        return SHR_OK;
    }
    struct shr_value *out = shr_node_out(node, 0);
    struct shr_value *in[] = {x, shr_node_in(node, 1), shr_node_in(node, 2)};
    struct shr__cut cut = shr__fuse_cut(g, node);
    int rc = shr__fuse_put(g, &cut, &shr__fused_dequantize, in, 3, out, at, err);
    return rc != 0 ? rc : add_flags(g, *at, flip, nhwc, err);
}

int shr__fuse_borders(struct shr_graph *g, struct shr_err *err)
{
    shr_graph_number(g);
    for (struct shr_node *node = g->first_node, *next; node != NULL; node = next) {
        next = node->next;
        cancel(g, node);
    }
    shr_graph_drop_unused(g);
    for (struct shr_node *node = g->first_node; node != NULL; node = node->next) {
        int rc = merge_quantize(g, &node, err);
        if (rc == 0) {
            rc = merge_dequantize(g, &node, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return SHR_OK;
}
