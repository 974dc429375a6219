/* The rules of operators: what each does to the channels that it reads; see channels.h. */
#include <string.h>

#include "ops/util.h"
#include "passes/channels_walk.h"

static const struct shr_tensor *float_in(const struct shr_node *node, size_t slot)
{
    const struct shr_value *v = shr_node_in(node, slot);
    return shr_value_is_constant(v) && shr_dtype_is_float(v->constant.dtype) ? &v->constant : NULL;
}

/* A constant that meets the values of a map by broadcasting shrinks with it, unless it is the same
 * for all channels. *ret_ok: false = it does not fit. */
static int add_broadcast(struct shr_channel_walk *w, enum shr_channel_role role,
                         struct shr_node *node, size_t slot, const struct shr_channel_map *map,
                         bool *ret_ok, struct shr_err *err)
{
    const struct shr_tensor *t = float_in(node, slot);
    *ret_ok = t != NULL && t->rank <= map->rank;
    if (!*ret_ok) {
        return SHR_OK;
    }
    int axis = map->axis - (map->rank - t->rank);
    if (axis < 0 || (t->dim[axis] == 1 && map->n != 1)) {
        return SHR_OK;
    }
    *ret_ok = t->dim[axis] == map->n;
    return *ret_ok ? shr_channels_add_use(w, role, node, slot, axis, map, err) : SHR_OK;
}

/* The bias in slot 2: of Conv a vector, of Gemm what meets its output by broadcasting. */
static int add_bias(struct shr_channel_walk *w, struct shr_node *node,
                    const struct shr_channel_map *map, bool *ret_ok, struct shr_err *err)
{
    if (!shr_node_is(node, "Conv")) {
        return add_broadcast(w, SHR_CHANNEL_BIAS, node, 2, map, ret_ok, err);
    }
    const struct shr_tensor *t = float_in(node, 2);
    *ret_ok = t != NULL && t->rank == 1 && t->dim[0] == map->n;
    return *ret_ok ? shr_channels_add_use(w, SHR_CHANNEL_BIAS, node, 2, 0, map, err) : SHR_OK;
}

/* ── Layers ─────────────────────────────────────────────────────────────────────────────────── */

struct linear {
    size_t x, w;            /* slots */
    int w_out, w_in;        /* axes of the weights */
    int x_axis, x_rank;     /* that is summed over */
    int out_axis, out_rank; /* of the output */
    bool has_bias;          /* slot 2 */
};

/* NULL when the weights in a slot can be cut, else why not. */
static const char *weight_problem(const struct shr_node *node, size_t slot, int min_rank,
                                  int max_rank)
{
    const struct shr_tensor *t = float_in(node, slot);
    if (t == NULL) {
        return "its weights are not constant floating point";
    }
    if (t->rank < min_rank || t->rank > max_rank) {
        return "its weights have a rank that is not supported";
    }
    if (shr_value_single_use(shr_node_in(node, slot)) != node) {
        return "its weights are tied: they are used in more than one place";
    }
    return NULL;
}

static int add_linear(struct shr_channel_walk *w, struct shr_node *node, const struct linear *l,
                      struct shr_err *err)
{
    const struct shr_tensor *t = float_in(node, l->w);
    const struct shr_channel_map *x = shr_channels_map(w, shr_node_in(node, l->x));
    bool fits =
        x == NULL || (x->axis == l->x_axis && x->rank == l->x_rank && x->n == t->dim[l->w_in]);
    if (!fits) {
        return shr_channels_refuse_layer(w, node, "it does not sum over the channels", err);
    }
    int32_t layer = 0;
    int code = shr_channels_add_layer(w, node, shr_nodes_excluded(node, w->nodes), &layer, err);
    struct shr_channel_map *out =
        shr_channels_new_map(w, t->dim[l->w_out], l->out_axis, l->out_rank);
    if (code == SHR_OK && out == NULL) {
        code = shr_channels_no_memory(err);
    }
    if (code == SHR_OK) {
        code = shr_channels_make(w, layer, out, err);
    }
    if (code == SHR_OK && x != NULL) {
        code = shr_channels_add_use(w, SHR_CHANNEL_IN, node, l->w, l->w_in, x, err);
    }
    if (code == SHR_OK) {
        code = shr_channels_add_use(w, SHR_CHANNEL_OUT, node, l->w, l->w_out, out, err);
    }
    if (code == SHR_OK && l->has_bias) {
        bool ok = false;
        code = add_bias(w, node, out, &ok, err);
        if (code == SHR_OK && !ok) {
            w->c->layers.v[layer].why = "its bias is not constant and of a shape that is supported";
            code = shr_channels_refuse_input(w, node, 2, "it is the bias there", err);
        }
    }
    return code == SHR_OK ? shr_channels_set_map(w, node, out, err) : code;
}

/* A depthwise Conv: each channel of the input becomes m of the output, by filters of its own. */
static int add_filters(struct shr_channel_walk *w, struct shr_node *node, struct shr_channel_map *x,
                       struct shr_err *err)
{
    const struct shr_tensor *t = float_in(node, 1);
    struct shr_channel_map *out = shr_channels_new_map(w, t->dim[0], 1, t->rank);
    if (out == NULL) {
        return shr_channels_no_memory(err);
    }
    int64_t m = out->n / x->n;
    for (int64_t i = 0; i < out->n; i++) {
        out->channel[i] = x->channel[i / m];
    }
    bool ok = true;
    int code = shr_channels_add_use(w, SHR_CHANNEL_FILTER, node, 1, 0, out, err);
    if (code == SHR_OK) {
        code = shr_channels_add_use(w, SHR_CHANNEL_NUMBER, node, 0, 0, x, err);
    }
    if (code == SHR_OK && shr_node_in(node, 2) != NULL) {
        code = add_bias(w, node, out, &ok, err);
    }
    const char *why = ok ? shr_nodes_excluded(node, w->nodes) : "its bias is not a constant vector";
    if (code == SHR_OK && why != NULL) {
        code = shr_channels_refuse_input(w, node, 0, why, err);
    }
    return code == SHR_OK ? shr_channels_set_map(w, node, out, err) : code;
}

static int visit_conv(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    const char *why = weight_problem(node, 1, 3, SHR_MAX_RANK);
    if (why != NULL) {
        return shr_channels_refuse_layer(w, node, why, err);
    }
    const struct shr_tensor *t = float_in(node, 1);
    struct shr_channel_map *x = shr_channels_map(w, shr_node_in(node, 0));
    int64_t groups = shr_node_int(node, "group", 1);
    if (groups == 1) {
        struct linear l = {.x = 0,
                           .w = 1,
                           .w_out = 0,
                           .w_in = 1,
                           .x_axis = 1,
                           .x_rank = t->rank,
                           .out_axis = 1,
                           .out_rank = t->rank,
                           .has_bias = shr_node_in(node, 2) != NULL};
        return add_linear(w, node, &l, err);
    }
    bool depthwise = x != NULL && t->dim[1] == 1 && x->axis == 1 && x->rank == t->rank &&
                     groups == x->n && t->dim[0] % groups == 0;
    return depthwise ? add_filters(w, node, x, err)
                     : shr_channels_refuse_layer(w, node, "it is a grouped convolution", err);
}

static int visit_gemm(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    int trans_a = shr_node_int(node, "transA", 0) != 0,
        trans_b = shr_node_int(node, "transB", 0) != 0;
    bool swapped = float_in(node, 0) != NULL; /* the weights are A: channels are rows */
    struct linear l = {.x = 0,
                       .w = 1,
                       .w_out = 1 - trans_b,
                       .w_in = trans_b,
                       .x_axis = 1 - trans_a,
                       .x_rank = 2,
                       .out_axis = 1,
                       .out_rank = 2,
                       .has_bias = shr_node_in(node, 2) != NULL};
    if (swapped) {
        l = (struct linear){.x = 1,
                            .w = 0,
                            .w_out = trans_a,
                            .w_in = 1 - trans_a,
                            .x_axis = trans_b,
                            .x_rank = 2,
                            .out_axis = 0,
                            .out_rank = 2,
                            .has_bias = l.has_bias};
    }
    const char *why = weight_problem(node, l.w, 2, 2);
    return why != NULL ? shr_channels_refuse_layer(w, node, why, err)
                       : add_linear(w, node, &l, err);
}

static int visit_matmul(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    const char *why = weight_problem(node, 1, 2, 2);
    const struct shr_value *x = shr_node_in(node, 0);
    if (why == NULL && x->type.rank < 2) {
        why = "the rank of its input is not known or less than 2";
    }
    if (why != NULL) {
        return shr_channels_refuse_layer(w, node, why, err);
    }
    int last = x->type.rank - 1;
    struct linear l = {.x = 0,
                       .w = 1,
                       .w_out = 1,
                       .w_in = 0,
                       .x_axis = last,
                       .x_rank = last + 1,
                       .out_axis = last,
                       .out_rank = last + 1};
    return add_linear(w, node, &l, err);
}

/* ── What channels go through ───────────────────────────────────────────────────────────────── */

static int visit_same(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    int code = shr_channels_refuse_inputs(w, node, 1, "they are a parameter there", err);
    return code == SHR_OK
               ? shr_channels_set_map(w, node, shr_channels_map(w, shr_node_in(node, 0)), err)
               : code;
}

static int visit_pool(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    const struct shr_channel_map *map = shr_channels_map(w, shr_node_in(node, 0));
    if (map != NULL && map->axis != 1) {
        return shr_channels_refuse_input(w, node, 0, "they are not on axis 1", err);
    }
    return visit_same(w, node, err);
}

static int visit_batchnorm(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    static const enum shr_channel_role roles[] = {SHR_CHANNEL_GAMMA, SHR_CHANNEL_BIAS,
                                                  SHR_CHANNEL_VECTOR, SHR_CHANNEL_VECTOR};
    struct shr_channel_map *map = shr_channels_map(w, shr_node_in(node, 0));
    if (map == NULL) {
        return shr_channels_refuse_inputs(w, node, 1, "they are a parameter there", err);
    }
    bool plain = map->axis == 1 && shr_node_int(node, "training_mode", 0) == 0 &&
                 shr_node_int(node, "spatial", 1) == 1;
    for (size_t slot = 1; slot <= 4; slot++) {
        const struct shr_tensor *t = float_in(node, slot);
        plain = plain && t != NULL && t->rank == 1 && t->dim[0] == map->n;
    }
    if (!plain) {
        return shr_channels_refuse_inputs(w, node, 0,
                                          "it is not a normalization by constants a channel", err);
    }
    int code = SHR_OK;
    for (size_t slot = 1; slot <= 4 && code == SHR_OK; slot++) {
        code = shr_channels_add_use(w, roles[slot - 1], node, slot, 0, map, err);
    }
    return code == SHR_OK ? shr_channels_set_map(w, node, map, err) : code;
}

/* Two values of equal channels: those of the same index become one. */
static int join(struct shr_channel_walk *w, struct shr_node *node, struct shr_channel_map *a,
                struct shr_channel_map *b, struct shr_err *err)
{
    if (a->axis != b->axis || a->rank != b->rank || a->n != b->n) {
        return shr_channels_refuse_inputs(w, node, 0, "its inputs are not of equal shape", err);
    }
    bool stays = false;
    for (int64_t i = 0; i < a->n; i++) {
        if (a->channel[i] >= 0 && b->channel[i] >= 0) {
            shr_channels_unite(w->c, a->channel[i], b->channel[i]);
        } else {
            stays = stays || a->channel[i] >= 0 || b->channel[i] >= 0;
        }
    }
    int code = SHR_OK;
    if (stays) {
        code = shr_channels_refuse_inputs(w, node, 0, "its other input has channels that must stay",
                                          err);
    }
    return code == SHR_OK ? shr_channels_set_map(w, node, a, err) : code;
}

/* Add, Sub, Mul, Div, PRelu: of two values, or of a value and a constant. */
static int visit_pair(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    struct shr_channel_map *map[2] = {shr_channels_map(w, shr_node_in(node, 0)),
                                      shr_channels_map(w, shr_node_in(node, 1))};
    if (map[0] != NULL && map[1] != NULL) {
        return shr_node_is(node, "PRelu")
                   ? shr_channels_refuse_inputs(w, node, 0, "its slopes vary", err)
                   : join(w, node, map[0], map[1], err);
    }
    size_t slot = map[0] != NULL ? 0 : 1;
    if (map[slot] == NULL) {
        return SHR_OK;
    }
    bool sum = shr_node_is(node, "Add") || shr_node_is(node, "Sub"), ok = false;
    int code = add_broadcast(w, sum ? SHR_CHANNEL_BIAS : SHR_CHANNEL_VECTOR, node, 1 - slot,
                             map[slot], &ok, err);
    if (code == SHR_OK && !ok) {
        return shr_channels_refuse_input(
            w, node, slot, "its other input is neither such channels nor constant", err);
    }
    return code == SHR_OK ? shr_channels_set_map(w, node, map[slot], err) : code;
}

/* How many channels an input of Concat has along the axis; -1 = not known. */
static int64_t width_of(const struct shr_channel_walk *w, const struct shr_value *v, int rank,
                        int axis)
{
    const struct shr_channel_map *map = shr_channels_map(w, v);
    if (map != NULL) {
        return map->axis == axis && map->rank == rank ? map->n : -1;
    }
    return v->type.rank == rank ? v->type.dim[axis] : -1;
}

static int visit_concat(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    int rank = -1;
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_channel_map *map = shr_channels_map(w, shr_node_in(node, i));
        rank = map != NULL ? map->rank : rank;
    }
    if (rank < 0) {
        return SHR_OK;
    }
    int64_t axis = shr_node_int(node, "axis", 1), n = 0;
    axis += axis < 0 ? rank : 0;
    for (size_t i = 0; i < node->n_in; i++) {
        int64_t width =
            axis >= 0 && axis < rank ? width_of(w, shr_node_in(node, i), rank, (int)axis) : -1;
        if (width < 0) {
            return shr_channels_refuse_inputs(w, node, 0, "it is not along the channels alone",
                                              err);
        }
        n += width;
    }
    struct shr_channel_map *out = shr_channels_new_map(w, n, (int)axis, rank);
    if (out == NULL) {
        return shr_channels_no_memory(err);
    }
    n = 0;
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_value *v = shr_node_in(node, i);
        const struct shr_channel_map *map = shr_channels_map(w, v);
        int64_t width = width_of(w, v, rank, (int)axis);
        for (int64_t j = 0; j < width; j++) {
            out->channel[n++] = map != NULL ? map->channel[j] : -1;
        }
    }
    return shr_channels_set_map(w, node, out, err);
}

/* (N, C, ...) to (N, C * ...): each channel takes as many places as it has elements. */
static int flatten(struct shr_channel_walk *w, struct shr_node *node, int64_t *ret_n,
                   struct shr_err *err)
{
    const struct shr_value *x = shr_node_in(node, 0);
    const struct shr_channel_map *map = shr_channels_map(w, x);
    int64_t inner = 1, n = 0;
    bool known = map->axis == 1 && x->type.rank == map->rank &&
                 shr_dims_count(map->rank - 2, x->type.dim + 2, &inner) && inner > 0 &&
                 inner <= INT32_MAX && map->n <= INT32_MAX / inner;
    if (!known) {
        return shr_channels_refuse_input(w, node, 0, "the places of a channel are not known there",
                                         err);
    }
    struct shr_channel_map *out = shr_channels_new_map(w, map->n * inner, 1, 2);
    if (out == NULL) {
        return shr_channels_no_memory(err);
    }
    for (; n < out->n; n++) {
        out->channel[n] = map->channel[n / inner];
    }
    *ret_n = n;
    return shr_channels_set_map(w, node, out, err);
}

static int visit_flatten(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    const struct shr_channel_map *map = shr_channels_map(w, shr_node_in(node, 0));
    int64_t axis = shr_node_int(node, "axis", 1), n = 0;
    if (map == NULL) {
        return SHR_OK;
    }
    axis += axis < 0 ? map->rank : 0;
    return axis == 1
               ? flatten(w, node, &n, err)
               : shr_channels_refuse_input(w, node, 0, "it flattens at another axis than 1", err);
}

/* Only to (batch, rest): [0, -1], [batch, -1] and [-1, rest]. */
static int visit_reshape(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    const struct shr_value *x = shr_node_in(node, 0), *shape = shr_node_in(node, 1);
    if (shr_channels_map(w, x) == NULL) {
        return shr_channels_refuse_inputs(w, node, 1, "they are a parameter there", err);
    }
    const char *other = "only reshaping to [batch, -1] is supported";
    if (!shr_value_is_constant(shape) || shape->constant.dtype != SHR_DTYPE_I64 ||
        shape->constant.rank != 1 || shape->constant.dim[0] != 2) {
        return shr_channels_refuse_inputs(w, node, 0, other, err);
    }
    const int64_t *s = shape->constant.data;
    int64_t batch = x->type.rank > 0 ? x->type.dim[0] : -1, n = -1;
    bool keeps = shr_node_int(node, "allowzero", 0) == 0 && s[0] == 0;
    keeps = keeps || s[0] == -1 || (batch > 0 && s[0] == batch);
    if (!keeps || (s[0] == -1 && s[1] <= 0)) {
        return shr_channels_refuse_inputs(w, node, 0, other, err);
    }
    int code = flatten(w, node, &n, err);
    if (code != SHR_OK || n < 0 || s[1] == -1) {
        return code;
    }
    if (s[1] != n) {
        return shr_channels_refuse_inputs(w, node, 0, other, err);
    }
    return shr_channels_add_use(w, SHR_CHANNEL_SHAPE, node, 1, 0,
                                shr_channels_map(w, shr_node_out(node, 0)), err);
}

/* ── The table ───────────────────────────────────────────────────────────────────────────────── */

static const struct rule {
    const char *op_type;
    shr_channel_rule_fn visit;
} rules[] = {
    {"Conv", visit_conv},
    {"Gemm", visit_gemm},
    {"MatMul", visit_matmul},
    {"BatchNormalization", visit_batchnorm},
    {"Add", visit_pair},
    {"Sub", visit_pair},
    {"Mul", visit_pair},
    {"Div", visit_pair},
    {"PRelu", visit_pair},
    {"Concat", visit_concat},
    {"Flatten", visit_flatten},
    {"Reshape", visit_reshape},
    {"MaxPool", visit_pool},
    {"AveragePool", visit_pool},
    {"GlobalAveragePool", visit_pool},
    {"GlobalMaxPool", visit_pool},
    {"Clip", visit_same},
    {"Identity", visit_same},
    {"Dropout", visit_same},
};

/* NULL when there is none. Functions of single elements need no row above: their own says it. */
shr_channel_rule_fn shr_channel_rule_find(const struct shr_node *node)
{
    if (node->op == NULL || node->domain[0] != 0) {
        return NULL;
    }
    for (size_t i = 0; i < SHR_COUNT_OF(rules); i++) {
        if (strcmp(rules[i].op_type, node->op_type) == 0) {
            return rules[i].visit;
        }
    }
    bool elementwise = node->op->prune_role == SHR_PRUNE_PASS && node->op->in_place &&
                       node->op->infer == shr_infer_same && node->op->in_max == 1;
    return elementwise ? visit_same : NULL;
}
