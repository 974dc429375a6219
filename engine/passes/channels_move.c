/* The rules of operators that move channels or look at whole axes; see channels_walk.h. */
#include <string.h>

#include "ops/util.h"
#include "passes/channels_walk.h"

static const char *const stays = "it does not treat them one by one";

static int axis_of(int64_t axis, int rank)
{
    axis += axis < 0 ? rank : 0;
    return axis >= 0 && axis < rank ? (int)axis : -1;
}

/* The output has the channels of an input, but for axes that are kept (bits). */
static struct shr_channel_map *pass(struct shr_channel_walk *w, struct shr_node *node,
                                    unsigned kept, const char *why)
{
    struct shr_channel_map *x = shr_map_in(w, node, 0), *out = shr_map_out(w, node, 0);
    for (int i = 0; x != NULL && out != NULL && i < x->n_parts; i++) {
        struct shr_channel_part *p = x->part[i];
        for (int d = 0; d < x->rank; d++) {
            p = (kept >> d & 1) != 0 ? shr_part_keep(w, p, d, why) : p;
        }
        shr_map_add(w, out, p);
    }
    if (x != NULL && out != NULL) {
        out->weight = x->weight;
    }
    return out;
}

/* Axes that may not be cut because the output is longer or shorter there, or not known. */
static unsigned changed(const struct shr_channel_map *x, const struct shr_type *out)
{
    unsigned bits = 0;
    for (int d = 0; x != NULL && d < x->rank; d++) {
        bits |= (unsigned)(out->rank != x->rank || out->dim[d] != x->dim[d]) << d;
    }
    return bits;
}

static const struct shr_type *out_type(const struct shr_channel_walk *w,
                                       const struct shr_node *node)
{
    return shr_channels_type(w->c, 0, shr_node_out(node, 0));
}

/* ── Whole axes ─────────────────────────────────────────────────────────────────────────────── */

SHR_VISIT(batchnorm)
{
    if (shr_node_int(node, "training_mode", 0) != 0 || shr_node_int(node, "spatial", 1) != 1) {
        shr_channels_refuse_inputs(w, node, 0, "it is not a normalization by constants a channel");
        return;
    }
    shr_channels_join(w, node, rule->spec, rule);
    shr_channels_add_use(w, SHR_CHANNEL_GAMMA, node, 1, 0);
}

SHR_VISIT(softmax)
{
    (void)rule;
    struct shr_channel_map *x = shr_map_in(w, node, 0);
    bool old = node->op != NULL && node->op->until > 0 && node->op->until < 13;
    int axis = x == NULL ? 0 : axis_of(shr_node_int(node, "axis", old ? 1 : -1), x->rank);
    unsigned kept = axis < 0 ? ~0u : old ? ~0u << axis : 1u << axis; /* it flattened what follows */
    pass(w, node, kept, "it is over them");
}

SHR_VISIT(whole_axis)
{
    (void)rule;
    struct shr_channel_map *x = shr_map_in(w, node, 0);
    const struct shr_tensor *axis = shr_channels_known(w->c, shr_node_in(node, 1));
    int64_t a = axis != NULL ? shr_op_int_at(axis, 0) : shr_node_int(node, "axis", -1);
    int d = x == NULL ? -1 : axis_of(a, x->rank);
    bool unknown = d < 0 || (axis == NULL && shr_node_in(node, 1) != NULL);
    pass(w, node, unknown ? ~0u : 1u << d, "it is over them");
}

/* Channels are axis 1, unless an attribute says that they are the last. */
SHR_VISIT(first)
{
    if (shr_node_int(node, "channels_last", 0) != 0) {
        shr_channels_refuse_inputs(w, node, 0, "its channels are the last axis");
        return;
    }
    shr_channels_join(w, node, rule->spec, rule);
}

SHR_VISIT(lrn)
{
    (void)rule;
    pass(w, node, ~1u, "it is over their neighbours");
}

/* x -> mean -> x - mean, or the mean of squares on its way to a root: of a normalization, which is
 * then over what stays. */
static bool normalizes(const struct shr_node *node)
{
    const struct shr_value *x = shr_node_in(node, 0), *mean = shr_node_out(node, 0);
    const struct shr_node *maker = x->producer;
    bool squares = shr_node_is(maker, "Pow") ||
                   (shr_node_is(maker, "Mul") && shr_node_in(maker, 0) == shr_node_in(maker, 1));
    bool all = mean->n_uses > 0 && !mean->is_output && !mean->captured;
    SHR_EACH_USE (edge, mean) {
        const struct shr_node *reader = edge->node;
        bool centre = shr_node_is(reader, "Sub") && shr_node_in(reader, 0) == x;
        bool root = squares && (shr_node_is(reader, "Add") || shr_node_is(reader, "Sqrt"));
        all = all && (centre || root);
    }
    return shr_node_is(node, "ReduceMean") && all;
}

SHR_VISIT(reduce)
{
    (void)rule;
    struct shr_channel_map *x = shr_map_in(w, node, 0), *out = shr_map_out(w, node, 0);
    if (x == NULL || out == NULL) {
        shr_channels_refuse_inputs(w, node, 0, "the rank of its input is not known");
        return;
    }
    size_t n = 0;
    const int64_t *axes = shr_node_ints(node, "axes", &n);
    const struct shr_tensor *t = shr_channels_known(w->c, shr_node_in(node, 1));
    unsigned reduced = 0;
    for (size_t i = 0; axes != NULL && i < n; i++) {
        reduced |= 1u << (axes[i] + (axes[i] < 0 ? x->rank : 0));
    }
    for (int64_t i = 0; t != NULL && i < shr_tensor_count(t); i++) {
        int64_t a = shr_op_int_at(t, i);
        reduced |= 1u << (a + (a < 0 ? x->rank : 0));
    }
    bool unknown = shr_node_in(node, 1) != NULL && t == NULL;
    bool none = reduced == 0 && shr_node_int(node, "noop_with_empty_axes", 0) != 0;
    reduced = unknown || (reduced == 0 && !none) ? ~0u : reduced;
    bool keeps = shr_node_int(node, "keepdims", 1) != 0, norm = normalizes(node);
    for (int i = 0; i < x->n_parts; i++) {
        struct shr_channel_part *p = x->part[i];
        int to[SHR_MAX_RANK];
        for (int d = 0; d < x->rank; d++) {
            if ((reduced >> d & 1) != 0) {
                bool all = p != NULL && p->n_axes == 1 && p->axis[0] == d && norm;
                p = all ? NULL : shr_part_keep(w, p, d, "it is over them");
            }
        }
        for (int a = 0; p != NULL && a < p->n_axes; a++) {
            to[a] = p->axis[a];
            for (int d = 0; !keeps && d < p->axis[a]; d++) {
                to[a] -= (int)(reduced >> d & 1);
            }
        }
        shr_map_add(w, out, p == NULL ? NULL : shr_part_rename(w, p, to));
    }
}

SHR_VISIT(resize)
{
    (void)rule;
    const struct shr_channel_map *x = shr_map_in(w, node, 0);
    unsigned kept = changed(x, out_type(w, node));
    kept |= node->n_in > 1 && x != NULL && x->rank > 2 ? ~3u : 0; /* of places, only these scale */
    pass(w, node, kept, stays);
}

SHR_VISIT(shape)
{
    (void)rule;
    shr_map_out(w, node, 0); /* sizes are followed by inference */
}

/* ── Moves ──────────────────────────────────────────────────────────────────────────────────── */

/* The axes [i, i_end) of one shape hold the elements of [j, j_end) of another. */
struct block {
    int i, i_end, j, j_end;
};

/* The next block behind b; false when the shapes do not match. Axes of size 1 stand alone. */
static bool next_block(const struct shr_channel_map *x, const struct shr_channel_map *y,
                       struct block *b)
{
    b->i = b->i_end;
    b->j = b->j_end;
    if (b->i < x->rank && x->dim[b->i] == 1) {
        b->i_end++;
        return true;
    }
    if (b->j < y->rank && y->dim[b->j] == 1) {
        b->j_end++;
        return true;
    }
    int64_t p = 1, q = 1;
    do {
        if (p <= q && b->i_end < x->rank) {
            p *= x->dim[b->i_end++];
        } else if (p > q && b->j_end < y->rank) {
            q *= y->dim[b->j_end++];
        } else {
            return false;
        }
    } while (p != q && p > 0 && q > 0);
    return p > 0 && q > 0;
}

/* The axes of a block of the input, as entries over all of them in a row. */
static struct shr_channel_part *over_block(struct shr_channel_walk *w,
                                           const struct shr_channel_map *x,
                                           const struct shr_channel_part *p, const struct block *b,
                                           int n_axes, const int *axis, const int64_t *dim)
{
    struct shr_channel_part *r = shr_part_new(w, n_axes, axis, dim);
    for (int64_t e = 0; r != NULL && e < r->n; e++) {
        int64_t rest = e, at = 0, stride[SHR_MAX_RANK] = {0}, s = 1;
        for (int k = p->n_axes - 1; k >= 0; k--) {
            stride[p->axis[k]] = s;
            s *= p->dim[k];
        }
        for (int d = b->i_end - 1; d >= b->i; d--) {
            at += rest % x->dim[d] * stride[d];
            rest /= x->dim[d];
        }
        r->channel[e] = p->channel[at];
    }
    return r;
}

enum { MAX_ENTRIES = 1 << 24, MAX_BLOCKS = 2 * SHR_MAX_RANK };

static bool overlaps(const struct shr_channel_map *map, const struct shr_channel_part *p)
{
    for (int k = 0; p != NULL && k < p->n_axes; k++) {
        if (shr_channel_part_of(map, p->axis[k]) != NULL) {
            return true;
        }
    }
    return false;
}

/* The part behind the blocks that hold its axes; NULL = it cannot be said. */
static struct shr_channel_part *reshape_part(struct shr_channel_walk *w,
                                             const struct shr_channel_map *x,
                                             const struct shr_channel_map *out,
                                             const struct shr_channel_part *p,
                                             const struct block *blocks, int n_blocks)
{
    struct block cover = {.i = x->rank};
    int covered = 0, n = 0, axis[SHR_MAX_RANK];
    int64_t dim[SHR_MAX_RANK], count = 1;
    for (int i = 0; i < n_blocks; i++) {
        const struct block *b = &blocks[i];
        int has = 0;
        for (int k = 0; k < p->n_axes; k++) {
            has += p->axis[k] >= b->i && p->axis[k] < b->i_end;
        }
        if (has > 0) {
            cover = covered == 0 ? *b : (struct block){cover.i, b->i_end, cover.j, b->j_end};
            covered += has;
        }
    }
    for (int d = cover.j; d < cover.j_end; d++) {
        if (out->dim[d] != 1) {
            axis[n] = d;
            dim[n++] = out->dim[d];
            count = count > MAX_ENTRIES ? count : count * out->dim[d];
        }
    }
    bool known = covered == p->n_axes && n > 0 && count > 0 && count <= MAX_ENTRIES;
    return known ? shr_part_shrink(w, over_block(w, x, p, &cover, n, axis, dim)) : NULL;
}

/* Reshape, Flatten, Squeeze, Unsqueeze: the elements stay in their order. Where parts come to lie
 * on one axis, the one with the most channels goes on. */
SHR_VISIT(reshape)
{
    (void)rule;
    struct shr_channel_map *x = shr_map_in(w, node, 0), *out = shr_map_out(w, node, 0);
    struct block blocks[MAX_BLOCKS] = {{0}}, b = {0};
    int n_blocks = 0;
    if (x == NULL || out == NULL) {
        shr_channels_refuse_inputs(w, node, 0, "its shapes are not known");
        return;
    }
    out->weight = x->weight;
    while (n_blocks < MAX_BLOCKS && (b.i_end < x->rank || b.j_end < out->rank) &&
           next_block(x, out, &b)) {
        blocks[n_blocks++] = b;
    }
    bool done[SHR_MAX_RANK] = {false};
    for (int turn = 0; turn < x->n_parts; turn++) {
        int best = -1;
        for (int i = 0; i < x->n_parts; i++) {
            bool more = !done[i] && (best < 0 || x->part[i]->n > x->part[best]->n);
            best = more ? i : best;
        }
        done[best] = true;
        struct shr_channel_part *p = reshape_part(w, x, out, x->part[best], blocks, n_blocks);
        if (p == NULL || overlaps(out, p)) {
            shr_channels_refuse(w, x->part[best], "it mixes their axis with others");
        } else {
            shr_map_add(w, out, p);
        }
    }
}

SHR_VISIT(transpose)
{
    (void)rule;
    struct shr_channel_map *x = shr_map_in(w, node, 0), *out = shr_map_out(w, node, 0);
    if (x == NULL || out == NULL) {
        shr_channels_refuse_inputs(w, node, 0, "its shape is not known");
        return;
    }
    size_t n = 0;
    const int64_t *perm = shr_node_ints(node, "perm", &n);
    int where[SHR_MAX_RANK]; /* of an axis of the input, in the output */
    for (int d = 0; d < x->rank; d++) {
        int from =
            perm != NULL && n == (size_t)x->rank ? axis_of(perm[d], x->rank) : x->rank - 1 - d;
        where[from < 0 ? 0 : from] = d;
    }
    out->weight = x->weight;
    for (int i = 0; i < x->n_parts; i++) {
        int to[SHR_MAX_RANK];
        for (int k = 0; k < x->part[i]->n_axes; k++) {
            to[k] = where[x->part[i]->axis[k]];
        }
        shr_map_add(w, out, shr_part_rename(w, x->part[i], to));
    }
}

/* All inputs as if they had the same axes in one part: those of `like`, entries repeated along
 * axes that a part lacks; NULL parts are channels that stay. */
static struct shr_channel_part *spread(struct shr_channel_walk *w, const struct shr_channel_map *x,
                                       const struct shr_channel_part *like)
{
    int64_t dim[SHR_MAX_RANK];
    for (int k = 0; k < like->n_axes; k++) {
        dim[k] = x->dim[like->axis[k]];
    }
    const struct shr_channel_part *p = NULL;
    for (int k = 0; k < like->n_axes && p == NULL; k++) {
        p = shr_channel_part_of(x, like->axis[k]);
    }
    struct shr_channel_part *r = shr_part_new(w, like->n_axes, like->axis, dim);
    for (int64_t e = 0; r != NULL && e < r->n; e++) {
        int64_t rest = e, index[SHR_MAX_RANK] = {0}, at = 0;
        for (int k = like->n_axes - 1; k >= 0; k--) {
            index[like->axis[k]] = rest % dim[k];
            rest /= dim[k];
        }
        for (int k = 0; p != NULL && k < p->n_axes; k++) {
            at = at * p->dim[k] + index[p->axis[k]];
        }
        r->channel[e] = p == NULL ? -1 : p->channel[at];
    }
    return r;
}

/* The slots of what is put together: all, or every third behind the output's scale and zero. */
static void concat_slots(const struct shr_node *node, size_t *ret_first, size_t *ret_step)
{
    bool quantized = strcmp(node->op_type, "QLinearConcat") == 0;
    *ret_first = quantized ? 2 : 0;
    *ret_step = quantized ? 3 : 1;
}

/* One part of a Concat, of these axes: side by side along the axis, one with each other across. */
static void concat_part(struct shr_channel_walk *w, struct shr_node *node, int axis,
                        struct shr_channel_map *out, const struct shr_channel_part *like)
{
    int64_t dim[SHR_MAX_RANK], at = 0, inner = 1;
    int k = shr_part_find(like, axis);
    for (int i = 0; i < like->n_axes; i++) {
        dim[i] = out->dim[like->axis[i]];
        inner *= i > k ? dim[i] : 1;
    }
    struct shr_channel_part *r = shr_part_new(w, like->n_axes, like->axis, dim);
    size_t from, step;
    concat_slots(node, &from, &step);
    for (size_t s = from; r != NULL && s < node->n_in && !w->failed; s += step) {
        struct shr_channel_map *x = shr_map_in(w, node, s);
        struct shr_channel_part *p = x == NULL ? NULL : spread(w, x, like);
        int64_t width = k < 0 || x == NULL ? 1 : x->dim[axis];
        for (int64_t e = 0; p != NULL && e < p->n; e++) {
            if (k < 0) { /* across: all inputs have them */
                if (s > from) {
                    shr_channels_unite(w, r->channel[e], p->channel[e]);
                } else {
                    r->channel[e] = p->channel[e];
                }
                continue;
            }
            int64_t outer = e / inner / width, along = e / inner % width;
            r->channel[(outer * dim[k] + at + along) * inner + e % inner] = p->channel[e];
        }
        at += width;
    }
    shr_map_add(w, out, r);
}

SHR_VISIT(concat)
{
    (void)rule;
    struct shr_channel_map *out = shr_map_out(w, node, 0);
    int axis = out == NULL ? -1 : axis_of(shr_node_int(node, "axis", 1), out->rank);
    bool known = axis >= 0, weights = true;
    size_t from, step;
    concat_slots(node, &from, &step);
    for (size_t i = from; i < node->n_in; i += step) {
        struct shr_channel_map *x = shr_map_in(w, node, i);
        known = known && x != NULL && x->rank == out->rank && x->dim[axis] >= 0;
        weights = weights && x != NULL && x->weight;
    }
    if (!known) {
        shr_channels_refuse_inputs(w, node, 0, "its shapes are not known");
        return;
    }
    out->weight = weights;
    /* Axes that are one part in any input are one part of the output. */
    unsigned done = 0;
    for (int d = 0; d < out->rank && !w->failed; d++) {
        const struct shr_channel_part *like = NULL;
        for (size_t i = from; i < node->n_in; i += step) {
            const struct shr_channel_part *p = shr_channel_part_of(shr_map_in(w, node, i), d);
            like = p != NULL && (like == NULL || p->n_axes > like->n_axes) ? p : like;
        }
        if (like == NULL || (done >> d & 1) != 0) {
            continue;
        }
        for (int k = 0; k < like->n_axes; k++) {
            done |= 1u << like->axis[k];
        }
        concat_part(w, node, axis, out, like);
    }
}

/* The output holds indices start, start + step, … of an axis; NULL index: else these. */
static void select_axis(struct shr_channel_walk *w, const struct shr_node *node, size_t slot,
                        int axis, const int64_t *index, int64_t start, int64_t step)
{
    struct shr_channel_map *x = shr_map_in(w, node, 0), *out = shr_map_out(w, node, slot);
    for (int i = 0; out != NULL && i < x->n_parts; i++) {
        struct shr_channel_part *p = x->part[i];
        shr_map_add(w, out, shr_part_select(w, p, axis, index, start, step, out->dim[axis]));
    }
    if (out != NULL) {
        out->weight = x->weight;
    }
}

SHR_VISIT(split)
{
    (void)rule;
    const struct shr_channel_map *x = shr_map_in(w, node, 0);
    int axis = x == NULL ? -1 : axis_of(shr_node_int(node, "axis", 0), x->rank);
    int64_t start = 0;
    for (size_t i = 0; axis >= 0 && i < node->n_out; i++) {
        const struct shr_value *v = shr_node_out(node, i);
        const struct shr_type *type = v == NULL ? NULL : shr_channels_type(w->c, 0, v);
        if (type == NULL || type->rank != x->rank || type->dim[axis] < 0) {
            axis = -1;
            break;
        }
        select_axis(w, node, i, axis, NULL, start, 1);
        start += type->dim[axis];
    }
    if (axis < 0) {
        shr_channels_refuse_inputs(w, node, 0, "the sizes of its outputs are not known");
    }
}

SHR_VISIT(slice)
{
    (void)rule;
    struct shr_channel_map *x = shr_map_in(w, node, 0);
    const struct shr_type *type = out_type(w, node);
    unsigned kept = changed(x, type);
    const struct shr_tensor *starts = shr_channels_known(w->c, shr_node_in(node, 1)),
                            *axes = shr_channels_known(w->c, shr_node_in(node, 3)),
                            *steps = shr_channels_known(w->c, shr_node_in(node, 4));
    bool axes_known = shr_node_in(node, 3) == NULL || axes != NULL;
    int64_t n = starts != NULL && axes_known ? shr_tensor_count(starts) : 0;
    int along = -1;
    int64_t start = 0;
    for (int64_t i = 0; x != NULL && i < n; i++) {
        int d = axis_of(axes != NULL ? shr_op_int_at(axes, i) : i, x->rank);
        bool by_one =
            shr_node_in(node, 4) == NULL || (steps != NULL && shr_op_int_at(steps, i) == 1);
        if (d >= 0 && by_one && (kept >> d & 1) != 0 && along < 0 && type->dim[d] > 0 &&
            x->dim[d] > 0) { /* the one axis that can be cut all the same */
            start = shr_op_int_at(starts, i);
            start += start < 0 ? x->dim[d] : 0;
            along = shr_channel_part_of(x, d) != NULL ? d : -1;
        }
    }
    if (along < 0) {
        pass(w, node, kept, "it takes some of them");
        return;
    }
    kept &= ~(1u << along);
    struct shr_channel_map *out = shr_map_out(w, node, 0);
    for (int i = 0; out != NULL && i < x->n_parts; i++) {
        struct shr_channel_part *p = x->part[i];
        for (int d = 0; d < x->rank; d++) {
            p = (kept >> d & 1) != 0 ? shr_part_keep(w, p, d, "it takes some of them") : p;
        }
        shr_map_add(w, out,
                    p == NULL ? NULL
                              : shr_part_select(w, p, along, NULL, start < 0 ? 0 : start, 1,
                                                out->dim[along]));
    }
    if (out != NULL) {
        out->weight = x->weight;
    }
}

SHR_VISIT(gather)
{
    (void)rule;
    struct shr_channel_map *x = shr_map_in(w, node, 0), *out = shr_map_out(w, node, 0);
    const struct shr_value *which = shr_node_in(node, 1);
    int axis = x == NULL ? -1 : axis_of(shr_node_int(node, "axis", 0), x->rank);
    if (axis < 0 || out == NULL || which == NULL) {
        shr_channels_refuse_inputs(w, node, 0, "its shapes are not known");
        return;
    }
    shr_channels_refuse_input(w, node, 1, "they are a parameter there");
    const struct shr_tensor *t = shr_channels_known(w->c, which);
    int rank = out->rank - x->rank + 1; /* of the indices */
    bool list = t != NULL && rank == 1 && shr_value_is_constant(which);
    for (int i = 0; i < x->n_parts; i++) {
        struct shr_channel_part *p = x->part[i];
        int to[SHR_MAX_RANK];
        bool here = shr_part_find(p, axis) >= 0;
        if (here && list && p->n_axes == 1) {
            int64_t *index = shr_arena_new(&w->c->arena, (size_t)out->dim[axis] + 1, sizeof *index);
            w->failed = w->failed || index == NULL;
            for (int64_t k = 0; index != NULL && k < out->dim[axis]; k++) {
                index[k] = shr_op_int_at(t, k);
            }
            shr_map_add(w, out, shr_part_select(w, p, axis, index, 0, 1, out->dim[axis]));
            continue;
        }
        /* one index of a split axis leaves the others; more than one cannot be told apart here */
        if (here && t != NULL && rank == 0 && p->n_axes > 1) {
            int64_t index = shr_op_int_at(t, 0);
            shr_part_keep(w, p, axis, "");
            p = shr_part_select(w, p, axis, &index, 0, 1, 1);
            p = p == NULL ? NULL : shr_part_keep(w, p, axis, "");
        } else if (here) {
            p = shr_part_keep(w, p, axis, "it looks them up");
        }
        for (int k = 0; p != NULL && k < p->n_axes; k++) {
            to[k] = p->axis[k] + (p->axis[k] > axis ? rank - 1 : 0);
        }
        shr_map_add(w, out, p == NULL ? NULL : shr_part_rename(w, p, to));
    }
    for (int d = 0; x->weight && d < x->rank; d++) { /* an embedding */
        if (d != axis && shr_value_is_constant(shr_node_in(node, 0))) {
            shr_channels_add_use(w, SHR_CHANNEL_OUT, node, 0, d);
        }
    }
}

/* Every index of a filled axis is as good as another: fresh channels, as those of a constant. */
static void add_fresh(struct shr_channel_walk *w, struct shr_channel_map *out, unsigned axes)
{
    for (int d = 0; out != NULL && d < out->rank && !w->failed; d++) {
        if ((axes >> d & 1) != 0 && out->dim[d] > 1) {
            shr_map_add(w, out, shr_part_fresh(w, d, out->dim[d]));
        }
    }
}

SHR_VISIT(fill)
{
    (void)rule;
    struct shr_channel_map *out = shr_map_out(w, node, 0);
    const struct shr_attr *value = shr_node_attr(node, "value");
    bool real = value == NULL || shr_dtype_is_float(value->tensor.dtype);
    if (real && out != NULL && out->rank > 1) { /* not a list of sizes */
        add_fresh(w, out, ~0u);
    }
}

SHR_VISIT(expand)
{
    (void)rule;
    struct shr_channel_map *x = shr_map_in(w, node, 0), *out = shr_map_out(w, node, 0);
    if (x == NULL || out == NULL) {
        shr_channels_refuse_inputs(w, node, 0, "its shapes are not known");
        return;
    }
    int ahead = out->rank - x->rank;
    unsigned repeated = 0;
    for (int d = 0; d < out->rank; d++) {
        repeated |= (unsigned)(d < ahead || x->dim[d - ahead] == 1) << d;
    }
    for (int i = 0; i < x->n_parts; i++) {
        int to[SHR_MAX_RANK];
        for (int k = 0; k < x->part[i]->n_axes; k++) {
            to[k] = x->part[i]->axis[k] + ahead;
        }
        shr_map_add(w, out, shr_part_rename(w, x->part[i], to));
    }
    const struct shr_value *v = shr_node_out(node, 0);
    if (shr_dtype_is_float(shr_channels_type(w->c, 0, v)->dtype)) {
        add_fresh(w, out, repeated);
    }
}

SHR_VISIT(pad)
{
    (void)rule;
    const struct shr_channel_map *x = shr_map_in(w, node, 0);
    shr_channels_refuse_inputs(w, node, 1, "they are a parameter there");
    pass(w, node, changed(x, out_type(w, node)), "it adds to them");
}

SHR_VISIT(tile)
{
    (void)rule;
    const struct shr_channel_map *x = shr_map_in(w, node, 0);
    pass(w, node, changed(x, out_type(w, node)), "it repeats them");
}

/* Channels of axis 1 that a block of places is made of, or made into. deep (N, C * b * b, …). */
static void blocks(struct shr_channel_walk *w, struct shr_node *node, bool to_space)
{
    struct shr_channel_map *x = shr_map_in(w, node, 0), *out = shr_map_out(w, node, 0);
    int64_t b = shr_node_int(node, "blocksize", 1);
    if (x == NULL || out == NULL || x->rank != 4) {
        shr_channels_refuse_inputs(w, node, 0, "its shapes are not known");
        return;
    }
    bool columns_first = strcmp(shr_node_text(node, "mode", "DCR"), "CRD") == 0;
    for (int i = 0; i < x->n_parts; i++) {
        struct shr_channel_part *p = x->part[i];
        if (p->n_axes > 1 || p->axis[0] != 1 || out->dim[1] <= 0) {
            shr_channels_refuse(w, p, stays);
            continue;
        }
        int64_t flat = to_space ? out->dim[1] : p->n, each = b * b;
        struct shr_channel_part *r = shr_part_new(w, 1, &(int){1}, &out->dim[1]);
        for (int64_t k = 0; r != NULL && k < r->n; k++) {
            r->channel[k] = p->channel[!to_space ? k % flat : columns_first ? k * each : k];
        }
        for (int64_t k = 0; r != NULL && to_space && k < p->n; k++) {
            shr_channels_unite(w, r->channel[columns_first ? k / each : k % flat], p->channel[k]);
        }
        shr_map_add(w, out, r);
    }
}

SHR_VISIT(depth_to_space)
{
    (void)rule;
    blocks(w, node, true);
}

SHR_VISIT(space_to_depth)
{
    (void)rule;
    blocks(w, node, false);
}
