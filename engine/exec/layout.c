/* The layout pass; see layout.h.
 *
 * DESIGN. The nodes are walked once, in order. A node that works on another form takes its operands
 * in that form and gives its results in it, and converters behind it make what the graph had. So
 * the converter that made a value tells how the value lies: who wants that form reads in front of
 * the converter, and converters that nobody reads are dropped at the end. A form that nobody made
 * yet is made once in front of its first reader and shared. What is left merges into the
 * QuantizeLinear in front of it and the DequantizeLinear behind it. */
#include "exec/layout.h"

#include <string.h>

static bool is_image(const struct shr_type *type)
{
    return type->rank >= 3;
}

int shr__nhwc_axis(int rank, int d)
{
    return d == 0 ? 0 : d == 1 ? rank - 1 : d - 1;
}

static struct shr_type nhwc_type(const struct shr_type *nchw)
{
    struct shr_type type = *nchw;
    for (int d = 0; d < nchw->rank; d++) {
        type.dim[shr__nhwc_axis(nchw->rank, d)] = nchw->dim[d];
    }
    return type;
}

void shr__layout_become(struct shr_node *node, const struct shr_op *row)
{
    node->op = row;
    node->op_type = row->name;
    node->domain = row->domain;
}

/* ── Forms of a value ───────────────────────────────────────────────────────────────────────── */

/* From the graph's form to the one inside: int8, uint8, NHWC. Each step back is a converter. */
static struct shr_value *behind(const struct shr_value *v, const struct shr_op *converter)
{
    return shr__fuse_is(v->producer, converter) ? shr_node_in(v->producer, 0) : NULL;
}

bool shr__lies_as_bytes(const struct shr_value *v)
{
    return v != NULL && v->type.dtype == SHR_DTYPE_I8 && behind(v, &shr__fused_flip) != NULL;
}

bool shr__lies_as_image(const struct shr_value *v)
{
    const struct shr_value *bytes = v == NULL ? NULL : behind(v, &shr__fused_flip);
    return v != NULL && behind(bytes == NULL ? v : bytes, &shr__fused_from_nhwc) != NULL;
}

/* A converter of the value that was made already: they are the last uses. */
static struct shr_value *twin(const struct shr_value *v, const struct shr_op *converter,
                              const struct shr_type *type)
{
    for (const struct shr_edge *use = v->last_use; use != NULL; use = use->prev) {
        if (use->node->op == converter && shr_type_equal(&shr_node_out(use->node, 0)->type, type)) {
            return shr_node_out(use->node, 0);
        }
    }
    return NULL;
}

static int convert(struct shr_graph *g, struct shr_node *before, const struct shr_op *converter,
                   const struct shr_type *type, struct shr_value **v, struct shr_err *err)
{
    struct shr_value *out = twin(*v, converter, type);
    struct shr_node *node;
    int rc = SHR_OK;
    if (out == NULL) {
        rc = shr__fuse_value(g, (*v)->name, type, &out, err);
        if (rc == 0) {
            rc = shr__fuse_add(g, before, converter, v, 1, out, &node, err);
        }
    }
    if (rc == 0) {
        *v = out;
    }
    return rc;
}

/* A value broadcast to a larger rank: ones in front. */
static int widen(struct shr_graph *g, struct shr_node *before, int rank, struct shr_value **v,
                 struct shr_err *err)
{
    struct shr_type type = (*v)->type;
    int more = rank - type.rank;
    type.rank = rank;
    for (int d = rank; d-- > 0;) {
        type.dim[d] = d < more ? 1 : (*v)->type.dim[d - more];
    }
    return convert(g, before, &shr__fused_view, &type, v, err);
}

/* The operand of `before` in the form asked for; rank: what an image is broadcast to. */
static int take(struct shr_graph *g, struct shr_node *before, bool bytes, bool image, int rank,
                struct shr_value **v, struct shr_err *err)
{
    int rc = SHR_OK;
    if (bytes && (*v)->type.dtype == SHR_DTYPE_I8) {
        struct shr_value *inner = behind(*v, &shr__fused_flip);
        struct shr_type type = (*v)->type;
        type.dtype = SHR_DTYPE_U8;
        if (inner != NULL) {
            *v = inner;
        } else {
            rc = convert(g, before, &shr__fused_flip, &type, v, err);
        }
    }
    if (rc == 0 && image && (*v)->type.rank > 0) {
        struct shr_value *inner = behind(*v, &shr__fused_from_nhwc);
        if (inner != NULL && inner->type.rank == rank) {
            *v = inner;
            return SHR_OK;
        }
        if ((*v)->type.rank < rank) {
            rc = widen(g, before, rank, v, err);
        }
        struct shr_type type = nhwc_type(&(*v)->type);
        return rc != 0 ? rc : convert(g, before, &shr__fused_to_nhwc, &type, v, err);
    }
    return rc;
}

/* Output `slot` comes in the other form from now on; converters behind the node make the old. */
static int give(struct shr_graph *g, struct shr_node *node, size_t slot, bool bytes, bool image,
                struct shr_err *err)
{
    struct shr_value *v = node->out[slot], *inner, *plain = v;
    bool flip = bytes && v->type.dtype == SHR_DTYPE_I8, nhwc = image && is_image(&v->type);
    if (!flip && !nhwc) {
        return SHR_OK;
    }
    struct shr_type type = v->type, bytes_type = v->type;
    bytes_type.dtype = type.dtype = flip ? SHR_DTYPE_U8 : type.dtype;
    type = nhwc ? nhwc_type(&type) : type;
    int rc = shr__fuse_value(g, v->name, &type, &inner, err);
    if (rc == 0 && flip && nhwc) {
        rc = shr__fuse_value(g, v->name, &bytes_type, &plain, err);
    }
    if (rc != 0) {
        return rc;
    }
    node->out[slot] = inner;
    inner->producer = node;
    inner->producer_slot = slot;
    v->producer = NULL;
    struct shr_node *after = node->next, *added;
    if (nhwc) {
        rc = shr__fuse_add(g, after, &shr__fused_from_nhwc, &inner, 1, plain, &added, err);
        inner = plain;
    }
    return rc != 0 || !flip ? rc
                            : shr__fuse_add(g, after, &shr__fused_flip, &inner, 1, v, &added, err);
}

/* ── Nodes ──────────────────────────────────────────────────────────────────────────────────── */

static bool takes_part(const struct shr__layout_rule *rule, const struct shr_node *node, size_t i)
{
    bool asked = i < 8 * sizeof rule->slots ? (rule->slots >> i & 1) != 0 : rule->slots == ~0u;
    return asked && shr_node_in(node, i) != NULL;
}

static int64_t count_of(const struct shr_value *v)
{
    int64_t n = 0;
    return shr_dims_count(v->type.rank, v->type.dim, &n) ? n : 0;
}

/* Does the largest operand lie as an image, of the output's rank? */
static bool operands_lie_as_image(const struct shr__layout_rule *rule, const struct shr_node *node)
{
    int rank = shr_node_out(node, 0)->type.rank;
    int64_t image = -1, other = 0;
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_value *v = shr_node_in(node, i);
        if (!takes_part(rule, node, i) || shr_value_is_constant(v)) {
            continue;
        }
        int64_t n = count_of(v);
        if (shr__lies_as_image(v) && (v->type.rank == rank || node->n_in == 1)) {
            image = n > image ? n : image;
        } else {
            other = n > other ? n : other;
        }
    }
    return image >= other;
}

static bool operands_lie_as_bytes(const struct shr__layout_rule *rule, const struct shr_node *node)
{
    for (size_t i = 0; i < node->n_in; i++) {
        if (takes_part(rule, node, i) && shr__lies_as_bytes(shr_node_in(node, i))) {
            return true;
        }
    }
    return false;
}

static int apply(struct shr_graph *g, struct shr_node *node, const struct shr__layout_rule *rule,
                 struct shr_err *err)
{
    const int in = shr_node_in(node, 0)->type.rank, out = shr_node_out(node, 0)->type.rank;
    const int rank = in > out ? in : out;
    if (rule->fits != NULL && !rule->fits(node)) {
        return SHR_OK;
    }
    bool image = rank >= 3 && (rule->image == SHR__ALWAYS ||
                               (rule->image == SHR__FOLLOWS && operands_lie_as_image(rule, node)));
    bool bytes = rule->bytes == SHR__ALWAYS ||
                 (rule->bytes == SHR__FOLLOWS && (image || operands_lie_as_bytes(rule, node)));
    int rc = (image || bytes) && rule->adapt != NULL ? rule->adapt(g, node, image, err) : SHR_OK;
    for (size_t i = 0; rc == 0 && i < node->n_in; i++) {
        struct shr_value *v = shr_node_in(node, i);
        if (takes_part(rule, node, i)) {
            rc = take(g, node, bytes, image, rank, &v, err);
            shr_node_set_input(node, i, v);
        }
    }
    for (size_t i = 0; rc == 0 && i < node->n_out && !rule->keeps_out; i++) {
        rc = node->out[i] == NULL ? SHR_OK : give(g, node, i, bytes, image, err);
    }
    return rc;
}

/* ── Transpose and Reshape ──────────────────────────────────────────────────────────────────── */

enum move { MOVE_NONE, MOVE_TO_LAST, MOVE_TO_FIRST };

/* Does a Transpose take the channels to the end, or from there? */
static enum move channels_move(const struct shr_node *node)
{
    size_t n = 0;
    const int64_t *perm = shr_node_ints(node, "perm", &n);
    int rank = (int)n;
    bool last = shr_node_is(node, "Transpose") && rank >= 3, first = last;
    for (int d = 0; d < rank && (last || first); d++) {
        last = last && perm[shr__nhwc_axis(rank, d)] == d;
        first = first && perm[d] == shr__nhwc_axis(rank, d);
    }
    bool lies = last && shr__lies_as_image(shr_node_in(node, 0));
    return last && (lies || !first) ? MOVE_TO_LAST : first ? MOVE_TO_FIRST : MOVE_NONE;
}

/* Reshape and its like between images of the same batch and channels. */
static bool keeps_channels(const struct shr_node *node)
{
    const struct shr_value *x = shr_node_in(node, 0), *y = shr_node_out(node, 0);
    return shr__fuse_only_moves(node) && !shr_node_is(node, "Transpose") && is_image(&x->type) &&
           is_image(&y->type) && x->type.dim[0] == y->type.dim[0] &&
           x->type.dim[1] == y->type.dim[1];
}

static bool is_transposable(const struct shr_value *v)
{
    return v->type.dtype == SHR_DTYPE_F32 || v->type.dtype == SHR_DTYPE_U8 ||
           v->type.dtype == SHR_DTYPE_I8;
}

/* Where the bytes need not move: a Transpose to NHWC of what lies so, one from NHWC whose result
 * then lies so, a Reshape of the pixels alone. *ret_done tells that it was one of them. */
static int rename_layout(struct shr_graph *g, struct shr_node *node, bool *ret_done,
                         struct shr_err *err)
{
    struct shr_value *x = shr_node_in(node, 0);
    *ret_done = false;
    if (!shr__fuse_only_moves(node) || !is_transposable(x)) {
        return SHR_OK;
    }
    enum move move = channels_move(node);
    bool lies = shr__lies_as_image(x), keeps = lies && keeps_channels(node);
    bool from_image = keeps || (lies && move == MOVE_TO_LAST);
    bool to_image = keeps || (!lies && move == MOVE_TO_FIRST);
    *ret_done = from_image || to_image;
    if (!*ret_done) {
        return SHR_OK;
    }
    int rc = take(g, node, true, from_image, x->type.rank, &x, err);
    shr__layout_become(node, &shr__fused_copy);
    shr_node_set_input(node, 0, x);
    if (rc == 0) {
        rc = shr_node_resize_inputs(g, node, 1, err);
    }
    return rc != 0 ? rc : give(g, node, 0, true, to_image, err);
}

static int choose(struct shr_graph *g, struct shr_node *node, struct shr_err *err)
{
    if (shr_node_in(node, 0) == NULL || shr_node_out(node, 0) == NULL) {
        return SHR_OK;
    }
    bool done;
    int rc = rename_layout(g, node, &done, err);
    const struct shr__layout_rule *rule = rc == 0 && !done ? shr__layout_rule(node) : NULL;
    return rule == NULL ? rc : apply(g, node, rule, err);
}

/* ── Tidying ────────────────────────────────────────────────────────────────────────────────── */

static int add_flags(struct shr_graph *g, struct shr_node *node, bool flip, bool nhwc,
                     struct shr_err *err)
{
    int rc = shr_node_set_int(g, node, "flip", flip || shr_node_int(node, "flip", 0) != 0, err);
    return rc != 0
               ? rc
               : shr_node_set_int(g, node, "nhwc", nhwc || shr_node_int(node, "nhwc", 0) != 0, err);
}

/* A converter behind `quantizer` is merged into it. *at becomes what is left of both. */
static int merge_into(struct shr_graph *g, struct shr_node **at, struct shr_node *quantizer,
                      const struct shr_op *row, bool flip, bool nhwc, struct shr_err *err)
{
    struct shr_node *node = *at;
    struct shr_value *out = shr_node_out(node, 0);
    struct shr_value *in[] = {shr_node_in(quantizer, 0), shr_node_in(quantizer, 1),
                              shr_node_in(quantizer, 2)};
    struct shr__cut cut = shr__fuse_cut(g, node);
    cut.attrs = quantizer->attrs;
    cut.name = quantizer->name;
    shr_graph_remove_node(g, quantizer);
    int rc = shr__fuse_put(g, &cut, row, in, 3, out, at, err);
    return rc != 0 ? rc : add_flags(g, *at, flip, nhwc, err);
}

/* Flip(Q(x)) and ToNhwc(Q(x)) become one Quantize, FromNhwc(DQ(x)) one Dequantize. */
static int merge_behind(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    bool flip = node->op == &shr__fused_flip, to = node->op == &shr__fused_to_nhwc;
    bool from = node->op == &shr__fused_from_nhwc;
    struct shr_node *source = flip || to || from ? shr_node_in(node, 0)->producer : NULL;
    if (source == NULL || shr_value_single_use(shr_node_in(node, 0)) != node) {
        return SHR_OK;
    }
    if (!from && (shr__fuse_is(source, &shr__fused_quantize) ||
                  (shr_node_is(source, "QuantizeLinear") && shr__layout_scale_is_plain(source)))) {
        return merge_into(g, at, source, &shr__fused_quantize, flip, to, err);
    }
    if (from && shr__fuse_is(source, &shr__fused_dequantize) &&
        shr_node_int(source, "nhwc", 0) == 0) {
        return merge_into(g, at, source, &shr__fused_dequantize, false, true, err);
    }
    return SHR_OK;
}

int shr__fuse_layout(struct shr_graph *g, struct shr_err *err)
{
    int rc = SHR_OK;
    for (struct shr_node *node = g->first_node, *next; rc == 0 && node != NULL; node = next) {
        next = node->next;
        rc = choose(g, node, err);
    }
    shr_graph_drop_unused(g);
    for (struct shr_node *node = g->first_node; rc == 0 && node != NULL; node = node->next) {
        rc = merge_behind(g, &node, err);
    }
    return rc;
}
