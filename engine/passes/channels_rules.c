/* The table of operators: how the channels of inputs become those of outputs; see channels_walk.h.
 * Layers and what works element by element are specs; what moves channels is in channels_move.c. */
#include <string.h>

#include "ops/util.h"
#include "passes/channels_walk.h"

/* ── Products ───────────────────────────────────────────────────────────────────────────────── */

/* The constant may be on either side: "…I,IO" or "OI,I…". */
static void visit_matmul(struct shr_channel_walk *w, struct shr_node *node,
                         const struct shr_channel_rule *rule)
{
    const struct shr_channel_map *a = shr_map_in(w, node, 0),
                                 *b = shr_map_in(w, node, (size_t)rule->weight);
    if (a == NULL || b == NULL || a->rank < 2 || b->rank < 2) {
        shr_channels_refuse_inputs(w, node, 0, "one of its inputs is a vector");
        return;
    }
    shr_channels_join(w, node, rule->spec, rule);
    if (a->weight && !b->weight) {
        shr_channels_add_use(w, SHR_CHANNEL_OUT, node, 0, a->rank - 2);
        shr_channels_add_use(w, SHR_CHANNEL_IN, node, 0, a->rank - 1);
    }
}

static void visit_gemm(struct shr_channel_walk *w, struct shr_node *node,
                       const struct shr_channel_rule *rule)
{
    static const char *const specs[2][2][3] = {
        /* transA, transB, rank of the bias; a row of the bias is for all outputs */
        {{"MI,IO,-->MO", "MI,IO,O->MO", "MI,IO,MO->MO"},
         {"MI,OI,-->MO", "MI,OI,O->MO", "MI,OI,MO->MO"}},
        {{"IM,IO,-->MO", "IM,IO,O->MO", "IM,IO,MO->MO"},
         {"IM,OI,-->MO", "IM,OI,O->MO", "IM,OI,MO->MO"}},
    };
    int ta = shr_node_int(node, "transA", 0) != 0, tb = shr_node_int(node, "transB", 0) != 0;
    const struct shr_channel_map *c = shr_map_in(w, node, 2), *a = shr_map_in(w, node, 0);
    int rank = c == NULL || c->rank > 2 ? 0 : c->rank;
    shr_channels_join(w, node, specs[ta][tb][rank], rule);
    const struct shr_channel_map *b = shr_map_in(w, node, 1);
    if (a != NULL && b != NULL && a->weight && !b->weight && a->rank == 2) {
        shr_channels_add_use(w, SHR_CHANNEL_OUT, node, 0, ta);
        shr_channels_add_use(w, SHR_CHANNEL_IN, node, 0, 1 - ta);
    }
}

/* ── Convolutions in groups ─────────────────────────────────────────────────────────────────── */

/* Whole groups go: all that a group reads and makes is one with the first that it reads. */
static void unite_groups(struct shr_channel_walk *w, const struct shr_channel_part *p,
                         const struct shr_channel_part *first, int64_t groups)
{
    for (int64_t i = 0; p != NULL && i < p->n; i++) {
        int64_t group = i / (p->n / groups);
        shr_channels_unite(w, first->channel[group * (first->n / groups)], p->channel[i]);
    }
}

/* The same channels go in every group: those of equal index are one. */
static void unite_indices(struct shr_channel_walk *w, const struct shr_channel_part *p,
                          int64_t groups)
{
    for (int64_t i = 0; p != NULL && i < p->n; i++) {
        shr_channels_unite(w, p->channel[i % (p->n / groups)], p->channel[i]);
    }
}

/* Each of p is one with that of q; what q has none for stays. */
static void unite_lists(struct shr_channel_walk *w, const struct shr_channel_part *p,
                        const struct shr_channel_part *q)
{
    for (int64_t i = 0; p != NULL && i < p->n; i++) {
        shr_channels_unite(w, p->channel[i], q == NULL || i >= q->n ? -1 : q->channel[i]);
    }
}

/* The channels of an axis, if it is a part of its own; others that it is in must stay. */
static struct shr_channel_part *part_alone(struct shr_channel_walk *w, struct shr_channel_map *map,
                                           int axis)
{
    struct shr_channel_part *found = NULL;
    for (int i = 0; i < map->n_parts; i++) {
        struct shr_channel_part *p = map->part[i];
        if (p->n_axes == 1 && p->axis[0] == axis) {
            found = p;
        } else if (shr_part_find(p, axis) >= 0) {
            shr_channels_refuse(w, p, "they are not alone on their axis");
        }
    }
    return found;
}

/* What the spec calls "O" has a number for each channel that is made. */
static void unite_vectors(struct shr_channel_walk *w, struct shr_node *node, const char *spec,
                          struct shr_channel_part *made)
{
    for (size_t slot = 0; slot < node->n_in; slot++) {
        struct shr_channel_map *map = shr_map_in(w, node, slot);
        if (map != NULL && (strncmp(spec, "O,", 2) == 0 || strncmp(spec, "O-", 2) == 0)) {
            unite_lists(w, part_alone(w, map, 0), made);
        }
        const char *comma = strpbrk(spec, ",>");
        spec = comma[0] == ',' ? comma + 1 : spec;
    }
}

struct grouped {
    struct shr_channel_part *in, *rows, *columns, *made;
    int64_t groups;
    bool whole, transposed;
};

static void unite_grouped(struct shr_channel_walk *w, const struct grouped *g)
{
    if (g->whole) {
        unite_groups(w, g->in, g->in, g->groups);
        unite_groups(w, g->made, g->in, g->groups);
        unite_groups(w, g->transposed ? g->rows : NULL, g->in, g->groups);
        shr_channels_refuse(w, g->columns, "only whole groups go");
        return;
    }
    unite_indices(w, g->in, g->groups);
    unite_indices(w, g->made, g->groups);
    if (g->transposed) {
        unite_lists(w, g->rows, g->in);
    }
    unite_lists(w, g->columns, g->transposed ? g->made : g->in);
}

/* Weights are (O, I / groups, …) or, transposed, (I, O / groups, …). Few wide groups lose the same
 * channels each, many narrow ones go whole. */
static void visit_conv(struct shr_channel_walk *w, struct shr_node *node,
                       const struct shr_channel_rule *rule)
{
    struct grouped g = {.groups = shr_node_int(node, "group", 1),
                        .transposed = shr_node_is(node, "ConvTranspose")};
    size_t slot = (size_t)rule->weight;
    struct shr_channel_map *x = shr_map_in(w, node, 0), *t = shr_map_in(w, node, slot);
    if (g.groups == 1) {
        shr_channels_join(w, node, rule->spec, rule);
        return;
    }
    bool known = x != NULL && t != NULL && x->rank >= 3 && t->rank == x->rank && g.groups > 0 &&
                 x->dim[1] > 0 && x->dim[1] % g.groups == 0 && t->dim[0] % g.groups == 0;
    if (!known) {
        shr_channels_refuse_inputs(w, node, 0, "its groups are not of a known width");
        return;
    }
    for (int d = 2; d < x->rank; d++) {
        shr_channels_refuse(w, part_alone(w, x, d), "it does not treat them one by one");
        shr_channels_refuse(w, part_alone(w, t, d), "it does not treat them one by one");
    }
    g.in = part_alone(w, x, 1);
    g.rows = part_alone(w, t, 0);
    g.columns = part_alone(w, t, 1);
    g.made = g.transposed ? shr_part_fresh(w, 1, g.groups * t->dim[1]) : g.rows;
    int64_t width = x->dim[1] / g.groups;
    g.whole = g.groups >= width && g.in != NULL;
    if (w->failed) {
        return;
    }
    unite_grouped(w, &g);
    unite_vectors(w, node, rule->spec, g.made);
    if (t->weight && !g.whole) {
        shr_channels_add_use(w, SHR_CHANNEL_OUT, node, slot, g.transposed);
        shr_channels_add_use(w, SHR_CHANNEL_IN, node, slot, !g.transposed);
    } else if (t->weight && width > 1) {
        shr_channels_add_use(w, SHR_CHANNEL_OUT, node, slot, 0);
    }
    int to = 1;
    struct shr_channel_part *out = g.made == NULL ? NULL : shr_part_rename(w, g.made, &to);
    shr_map_add(w, shr_map_out(w, node, 0), out);
}

/* ── Recurrence ─────────────────────────────────────────────────────────────────────────────── */

/* All gates and both directions of a hidden unit are one. axis: of the gates, or of the unit. */
static void unite_hidden(struct shr_channel_walk *w, struct shr_node *node, size_t slot, int axis,
                         const struct shr_channel_part *unit)
{
    struct shr_channel_map *map = shr_map_in(w, node, slot);
    struct shr_channel_part *p = map == NULL ? NULL : part_alone(w, map, axis);
    for (int64_t i = 0; p != NULL && i < p->n; i++) {
        shr_channels_unite(w, unit == NULL ? -1 : unit->channel[i % unit->n], p->channel[i]);
    }
    if (map != NULL && p == NULL && unit != NULL && map->dim[axis] != 1) {
        shr_channels_refuse(w, unit, "a state that it begins with stays as it is");
    }
}

/* X (T, N, I), W (D, gates * H, I), R (D, gates * H, H), B (D, 2 * gates * H), lengths, h (D, N,
 * H), c, P (D, 3 * H) -> Y (T, D, N, H), Y_h (D, N, H), Y_c. */
static void visit_recurrent(struct shr_channel_walk *w, struct shr_node *node,
                            const struct shr_channel_rule *rule)
{
    (void)rule;
    struct shr_channel_map *x = shr_map_in(w, node, 0), *wt = shr_map_in(w, node, 1),
                           *r = shr_map_in(w, node, 2);
    if (x == NULL || wt == NULL || r == NULL || x->rank != 3 || wt->rank != 3 || r->rank != 3 ||
        shr_node_int(node, "layout", 0) != 0) {
        shr_channels_refuse_inputs(w, node, 0, "its layout is not (time, batch, features)");
        return;
    }
    static const char *const stays = "it does not treat them one by one";
    struct shr_channel_part *in = part_alone(w, x, 2), *columns = part_alone(w, wt, 2),
                            *unit = part_alone(w, r, 2);
    for (size_t i = 0; i < node->n_in; i++) {
        struct shr_channel_map *map = shr_map_in(w, node, i);
        for (int d = 0; map != NULL && d < map->rank && (i == 0 || i == 4 || d == 0 || i > 4);
             d++) {
            bool follows = d == map->rank - 1 && i != 4;
            if (!follows) {
                shr_channels_refuse(w, part_alone(w, map, d), stays);
            }
        }
    }
    for (int64_t i = 0; in != NULL && i < in->n; i++) {
        shr_channels_unite(w, in->channel[i], columns == NULL ? -1 : columns->channel[i]);
    }
    if (in == NULL) {
        shr_channels_refuse(w, columns, "its input stays as it is");
    }
    unite_hidden(w, node, 1, 1, unit);
    unite_hidden(w, node, 2, 1, unit);
    unite_hidden(w, node, 3, 1, unit);
    unite_hidden(w, node, 5, 2, unit);
    unite_hidden(w, node, 6, 2, unit);
    unite_hidden(w, node, 7, 1, unit);
    if (wt->weight && r->weight) {
        shr_channels_add_use(w, SHR_CHANNEL_OUT, node, 1, 1);
        shr_channels_add_use(w, SHR_CHANNEL_OUT, node, 2, 1);
        shr_channels_add_use(w, SHR_CHANNEL_IN, node, 1, 2);
        shr_channels_add_use(w, SHR_CHANNEL_IN, node, 2, 2);
    }
    for (size_t i = 0; i < node->n_out && i < 3; i++) {
        int to = i == 0 ? 3 : 2;
        if (shr_node_out(node, i) != NULL && unit != NULL) {
            shr_map_add(w, shr_map_out(w, node, i), shr_part_rename(w, unit, &to));
        }
    }
}

/* ── Quantized ──────────────────────────────────────────────────────────────────────────────── */

/* QuantizeLinear, DequantizeLinear: scales and zero points are one number, or one a channel. */
static void visit_quantize(struct shr_channel_walk *w, struct shr_node *node,
                           const struct shr_channel_rule *rule)
{
    struct shr_channel_map *x = shr_map_in(w, node, 0), *out = shr_map_out(w, node, 0);
    (void)rule;
    if (x == NULL || out == NULL) {
        shr_channels_refuse_inputs(w, node, 0, "its shape is not known");
        return;
    }
    int64_t axis = x->rank == 1 ? 0 : shr_node_int(node, "axis", 1);
    axis += axis < 0 ? x->rank : 0;
    for (size_t slot = 1; slot < 3; slot++) {
        struct shr_channel_map *map = shr_map_in(w, node, slot);
        if (map == NULL || map->n_parts == 0) {
            continue;
        }
        struct shr_channel_part *p = axis < x->rank ? part_alone(w, x, (int)axis) : NULL;
        if (map->rank > 1) {
            shr_channels_refuse_inputs(w, node, 0, "its scales are of blocks");
        } else {
            unite_lists(w, map->part[0], p);
        }
    }
    for (int i = 0; i < x->n_parts; i++) {
        shr_map_add(w, out, x->part[i]);
    }
    out->weight = x->weight;
}

/* What it quantizes with follows from all values and is no matter of channels. */
static void visit_dynamic(struct shr_channel_walk *w, struct shr_node *node,
                          const struct shr_channel_rule *rule)
{
    shr_channels_join(w, node, rule->spec, rule);
    shr_map_out(w, node, 1);
    shr_map_out(w, node, 2);
}

static void visit_qgemm(struct shr_channel_walk *w, struct shr_node *node,
                        const struct shr_channel_rule *rule)
{
    bool ta = shr_node_int(node, "transA", 0) != 0, tb = shr_node_int(node, "transB", 0) != 0;
    static const char *const specs[2][2] = {
        {"MI,-,-,IO,O,O,O,-,-->MO", "MI,-,-,OI,O,O,O,-,-->MO"},
        {"IM,-,-,IO,O,O,O,-,-->MO", "IM,-,-,OI,O,O,O,-,-->MO"},
    };
    shr_channels_join(w, node, specs[ta][tb], rule);
}

/* ── The table ──────────────────────────────────────────────────────────────────────────────── */

#define SAME "*->*"
#define PAIR "*,*->*"

static const struct shr_channel_rule rules[] = {
    /* layers */
    {"", "Conv", "NIs,OIk,O->NOs", visit_conv, shr_fix_groups, .weight = 1},
    {"", "ConvTranspose", "NIs,IOk,O->NOs", visit_conv, shr_fix_groups, .weight = 1},
    {"", "MatMul", "*MI,*IO->*MO", visit_matmul, .weight = 1},
    {"", "Gemm", NULL, visit_gemm, .weight = 1},
    {"", "LSTM", NULL, visit_recurrent, shr_fix_hidden},
    {"", "GRU", NULL, visit_recurrent, shr_fix_hidden},
    {"", "RNN", NULL, visit_recurrent, shr_fix_hidden},
    /* quantized */
    {"", "QuantizeLinear", NULL, visit_quantize, .plain = 6},
    {"", "DequantizeLinear", NULL, visit_quantize, .plain = 6},
    {"", "DynamicQuantizeLinear", SAME, visit_dynamic},
    {"", "ConvInteger", "NIs,OIk,-,O->NOs", visit_conv, shr_fix_groups, 8, .weight = 1, .zero = 3},
    {"", "MatMulInteger", "*MI,*IO,-,O->*MO", visit_matmul, .plain = 8, .weight = 1, .zero = 3},
    {"", "QLinearConv", "NIs,-,-,OIk,O,O,-,-,O->NOs", visit_conv, shr_fix_groups, 48, .weight = 3,
     .zero = 5},
    {"", "QLinearMatMul", "*MI,-,-,*IO,O,O,-,-->*MO", visit_matmul, .plain = 48, .weight = 3,
     .zero = 5},
    {"com.microsoft", "QGemm", NULL, visit_qgemm, .plain = 48, .weight = 3, .zero = 5},
    {"com.microsoft", "DynamicQuantizeMatMul", "*MI,*IO,O,O,O->*MO", visit_matmul, .plain = 12,
     .weight = 1, .zero = 3},
    {"com.microsoft", "QLinearAdd", "*,-,-,*,-,-,-,-->*"},
    {"com.microsoft", "QLinearMul", "*,-,-,*,-,-,-,-->*"},
    {"com.microsoft", "QLinearSigmoid", "*,-,-,-,-->*"},
    {"com.microsoft", "QLinearLeakyRelu", "*,-,-,-,-->*"},
    {"com.microsoft", "QLinearGlobalAveragePool", "NCs,-,-,-,-->NCs", shr_visit_first},
    {"com.microsoft", "QLinearAveragePool", "NCs,-,-,-,-->NCs", shr_visit_first},
    {"com.microsoft", "QLinearConcat", NULL, shr_visit_concat},
    {"com.microsoft", "QLinearSoftmax", NULL, shr_visit_softmax},
    /* normalization */
    {"", "BatchNormalization", "NC*,C,C,C,C->NC*", shr_visit_batchnorm, .plain = 16},
    {"", "InstanceNormalization", "NCs,C,C->NCs"},
    {"", "LayerNormalization", "*,*,*->*"},
    {"", "RMSNormalization", "*,*->*"},
    {"", "LpNormalization", NULL, shr_visit_whole_axis},
    {"", "LRN", "NCs->NCs", shr_visit_lrn},
    {"", "Softmax", NULL, shr_visit_softmax},
    {"", "LogSoftmax", NULL, shr_visit_softmax},
    {"", "Hardmax", NULL, shr_visit_softmax},
    /* element by element */
    {"", "Add", PAIR},
    {"", "Sub", PAIR},
    {"", "Mul", PAIR},
    {"", "Div", PAIR, .plain = 2},
    {"", "Pow", PAIR, .plain = 3},
    {"", "Mod", PAIR, .plain = 2},
    {"", "PRelu", PAIR, .plain = 2},
    {"", "Max", PAIR},
    {"", "Min", PAIR},
    {"", "Sum", PAIR},
    {"", "Mean", PAIR},
    {"", "And", PAIR},
    {"", "Or", PAIR},
    {"", "Xor", PAIR},
    {"", "Equal", PAIR},
    {"", "Greater", PAIR},
    {"", "GreaterOrEqual", PAIR},
    {"", "Less", PAIR},
    {"", "LessOrEqual", PAIR},
    {"", "Where", "*,*,*->*"},
    {"", "Clip", "*,-,-->*"},
    {"", "Dropout", "*,-,-->*"},
    {"", "Identity", SAME},
    {"", "Cast", SAME},
    {"", "IsNaN", SAME},
    {"", "IsInf", SAME},
    {"com.microsoft", "BiasGelu", PAIR},
    {"com.microsoft", "FastGelu", PAIR},
    {"com.microsoft", "Gelu", SAME},
    {"com.microsoft", "QuickGelu", SAME},
    /* over places */
    {"", "MaxPool", "NCs->NCs"},
    {"", "AveragePool", "NCs->NCs"},
    {"", "LpPool", "NCs->NCs"},
    {"", "GlobalAveragePool", "NCs->NCs"},
    {"", "GlobalMaxPool", "NCs->NCs"},
    {"", "GlobalLpPool", "NCs->NCs"},
    {"", "Resize", NULL, shr_visit_resize, shr_fix_sizes},
    {"", "Upsample", NULL, shr_visit_resize},
    {"", "ReduceMean", NULL, shr_visit_reduce},
    {"", "ReduceSum", NULL, shr_visit_reduce},
    {"", "ReduceMax", NULL, shr_visit_reduce},
    {"", "ReduceMin", NULL, shr_visit_reduce},
    {"", "ReduceL1", NULL, shr_visit_reduce},
    {"", "ReduceL2", NULL, shr_visit_reduce},
    {"", "ReduceSumSquare", NULL, shr_visit_reduce},
    {"", "ReduceProd", NULL, shr_visit_reduce},
    {"", "CumSum", NULL, shr_visit_whole_axis},
    /* moves */
    {"", "Reshape", NULL, shr_visit_reshape, shr_fix_shape},
    {"", "Flatten", NULL, shr_visit_reshape},
    {"", "Squeeze", NULL, shr_visit_reshape},
    {"", "Unsqueeze", NULL, shr_visit_reshape},
    {"", "Transpose", NULL, shr_visit_transpose},
    {"", "Concat", NULL, shr_visit_concat},
    {"", "Split", NULL, shr_visit_split, shr_fix_split},
    {"", "Slice", NULL, shr_visit_slice, shr_fix_slice},
    {"", "Gather", NULL, shr_visit_gather, shr_fix_gather},
    {"", "Expand", NULL, shr_visit_expand, shr_fix_shape},
    {"", "Pad", NULL, shr_visit_pad},
    {"", "Tile", NULL, shr_visit_tile},
    {"", "DepthToSpace", NULL, shr_visit_depth_to_space},
    {"", "SpaceToDepth", NULL, shr_visit_space_to_depth},
    {"", "ConstantOfShape", NULL, shr_visit_fill, shr_fix_fill},
    {"", "Shape", NULL, shr_visit_shape},
    {"", "Size", NULL, shr_visit_shape},
};

const struct shr_channel_rule *shr_channel_rule_find(const struct shr_node *node)
{
    static const struct shr_channel_rule elementwise = {"", "", SAME};
    for (size_t i = 0; i < SHR_COUNT_OF(rules); i++) {
        if (strcmp(rules[i].op_type, node->op_type) == 0 &&
            strcmp(rules[i].domain, node->domain) == 0) {
            return &rules[i];
        }
    }
    bool same = node->op != NULL && node->domain[0] == 0 && node->op->in_place != 0 &&
                node->op->infer == shr_infer_same && node->op->in_max == 1;
    return same ? &elementwise : NULL; /* functions of single elements: their row says it */
}
