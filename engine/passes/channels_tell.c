/* What measures and reports ask about groups; see channels.h. */
#include <stdio.h>
#include <string.h>

#include "passes/channels_walk.h"

/* Operators through which weights come, in input 0. */
bool shr_channels_moves(const struct shr_node *node)
{
    static const char *const ops[] = {"Transpose", "Slice",    "Split",   "Gather",   "Reshape",
                                      "Cast",      "Identity", "Squeeze", "Unsqueeze"};
    for (size_t i = 0; i < SHR_COUNT_OF(ops); i++) {
        if (shr_node_is(node, ops[i])) {
            return true;
        }
    }
    return false;
}

static const struct shr_value *find_weights(const struct shr_value *v,
                                            struct shr_channel_weights *w)
{
    while (v != NULL && !shr_value_is_constant(v) && v->producer != NULL) {
        const struct shr_node *node = v->producer;
        if (shr_node_is(node, "DequantizeLinear") && w->scale == NULL) {
            const struct shr_value *scale = shr_node_in(node, 1), *zero = shr_node_in(node, 2);
            if (!shr_value_is_constant(scale) || (zero != NULL && !shr_value_is_constant(zero))) {
                return NULL;
            }
            w->scale = &scale->constant;
            w->zero = zero == NULL ? NULL : &zero->constant;
            w->q_axis = (int)shr_node_int(node, "axis", 1);
        } else if (!shr_channels_moves(node)) {
            return NULL;
        }
        v = shr_node_in(node, 0);
    }
    return shr_value_is_constant(v) ? v : NULL;
}

/* Scales and zero points of the weights of an integer operator. */
void shr_channels_quantized(const struct shr_node *node, size_t slot,
                            struct shr_channel_weights *ret)
{
    const struct shr_channel_rule *rule = shr_channel_rule_find(node);
    if (rule == NULL || rule->zero == 0 || (size_t)rule->weight != slot) {
        return;
    }
    const struct shr_value *scale = shr_node_in(node, (size_t)rule->zero - 1),
                           *zero = shr_node_in(node, (size_t)rule->zero);
    bool rows = strstr(node->op_type, "Conv") != NULL || shr_node_int(node, "transB", 0) != 0;
    ret->q_axis = rows ? 0 : -1;
    ret->zero = shr_value_is_constant(zero) ? &zero->constant : NULL;
    if (shr_value_is_constant(scale) && shr_dtype_is_float(scale->constant.dtype)) {
        ret->scale = &scale->constant;
    }
}

/* The axis of a constant that has channels of a part; -1 = none. */
static int axis_with(struct shr_channels *c, const struct shr_channel_map *map,
                     const struct shr_channel_part *part)
{
    for (int64_t k = 0; k < part->n; k++) {
        int64_t unit = shr_channels_unit(c, part->channel[k]);
        for (int i = 0; unit >= 0 && i < map->n_parts; i++) {
            for (int64_t j = 0; j < map->part[i]->n; j++) {
                if (shr_channels_unit(c, map->part[i]->channel[j]) == unit) {
                    return map->part[i]->axis[0];
                }
            }
        }
        if (unit >= 0) {
            return -1;
        }
    }
    return -1;
}

bool shr_channels_weights(struct shr_channels *c, const struct shr_channel_use *use,
                          struct shr_channel_weights *ret)
{
    struct shr_channel_weights w = {.part = use->part, .axis = use->axis};
    const struct shr_value *direct = shr_node_in(use->node, use->slot),
                           *v = find_weights(direct, &w);
    const struct shr_channel_map *map = shr_channels_map(c, v);
    if (v == NULL || map == NULL) {
        return false;
    }
    w.t = &v->constant;
    w.name = v->name;
    if (w.scale == NULL && w.zero == NULL) {
        shr_channels_quantized(use->node, use->slot, &w);
    }
    w.q_axis += w.q_axis < 0 ? w.t->rank : 0;
    if (v != direct) {
        w.axis = axis_with(c, map, use->part);
        w.part = shr_channel_part_of(map, w.axis);
    }
    if (w.part == NULL) {
        return false;
    }
    for (const struct shr_channel_use *other = c->uses.v; v != direct && other < use; other++) {
        struct shr_channel_weights none = {0};
        if (other->role == use->role &&
            find_weights(shr_node_in(other->node, other->slot), &none) == v &&
            axis_with(c, map, other->part) == w.axis) {
            return false; /* counted there */
        }
    }
    *ret = w;
    return true;
}

double shr_channels_param_at(const struct shr_channel_weights *w, const struct shr_tensor *t,
                             int64_t i)
{
    if (shr_tensor_count(t) == 1 || t->rank != 1) {
        return shr_tensor_get(t, 0);
    }
    int64_t inner = 1;
    for (int d = w->q_axis + 1; d < w->t->rank; d++) {
        inner *= w->t->dim[d];
    }
    return shr_tensor_get(t, i / inner % w->t->dim[w->q_axis]);
}

double shr_channels_weight_at(const struct shr_channel_weights *w, int64_t i)
{
    if (w->t->dtype == SHR_DTYPE_F32) {
        return ((const float *)w->t->data)[i];
    }
    double x = shr_tensor_get(w->t, i);
    x -= w->zero == NULL ? 0 : shr_channels_param_at(w, w->zero, i);
    return w->scale == NULL ? x : x * shr_channels_param_at(w, w->scale, i);
}

static bool has_unit(struct shr_channels *c, const struct shr_channel_part *p,
                     const struct shr_channel_group *group)
{
    for (int64_t i = 0; p != NULL && i < p->dim[p->cut]; i++) {
        int64_t unit = shr_channels_unit(c, shr_channel_at(p, p->axis[p->cut], i));
        if (unit >= group->first && unit < group->first + group->n) {
            return true;
        }
    }
    return false;
}

static bool is_layer_of(const struct shr_channels *c, const struct shr_channel_group *group,
                        const struct shr_node *node)
{
    for (size_t i = 0; i < c->uses.n; i++) {
        const struct shr_channel_use *use = &c->uses.v[i];
        if (use->role == SHR_CHANNEL_OUT && use->node == node &&
            &c->groups.v[use->group] == group) {
            return true;
        }
    }
    return false;
}

/* Does a constant of the node shrink with the group? */
static bool shrinks(struct shr_channels *c, const struct shr_channel_group *group,
                    const struct shr_node *node)
{
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_value *v = shr_node_in(node, i);
        const struct shr_channel_map *map =
            shr_value_is_constant(v) ? shr_channels_map(c, v) : NULL;
        for (int k = 0; map != NULL && k < map->n_parts; k++) {
            if (has_unit(c, map->part[k], group)) {
                return true;
            }
        }
    }
    return false;
}

size_t shr_channels_names(struct shr_channels *c, const struct shr_channel_group *group,
                          struct shr_model *model, char *text)
{
    size_t n = 0, used = 0;
    for (int others = 0; others < 2; others++) {
        size_t before = n;
        SHR_EACH_NODE (node, &model->graph) {
            if (is_layer_of(c, group, node) == (others == 1) ||
                (others == 1 && !shrinks(c, group, node))) {
                continue;
            }
            char label[128];
            shr_node_label(node, label, sizeof label);
            const char *between = n > before ? ", " : n > 0 ? "; with " : "";
            if (used < SHR_CHANNEL_NAMES) {
                used +=
                    (size_t)snprintf(text + used, SHR_CHANNEL_NAMES - used, "%s%s", between, label);
            }
            n++;
        }
    }
    return n;
}

static void print_group(struct shr_channels *c, struct shr_model *model,
                        const struct shr_channel_group *group, struct shr_buf *to)
{
    char label[128], names[SHR_CHANNEL_NAMES] = "";
    if (group->n == 0) {
        shr_buf_printf(to, "stays: %s: %s\n", shr_node_label(group->node, label, sizeof label),
                       group->why);
        return;
    }
    shr_channels_names(c, group, model, names);
    shr_buf_printf(to, "%lld channels: %s\n", (long long)group->n, names);
    if (group->stay > 0) {
        shr_buf_printf(to, "    %lld more stay: %s\n", (long long)group->stay, group->why);
    }
}

int shr_model_print_groups(const struct shr_model *model, struct shr_buf *ret_text,
                           struct shr_err *err)
{
    static const struct shr_arg all[3] = {{.type = SHR_PARAM_LIST}};
    struct shr_model *clone = NULL;
    struct shr_channels c = {0};
    struct shr_channel_copies copies = {{0}};
    int code = shr_model_clone(model, &clone, err);
    if (code == SHR_OK) {
        code = shr_channels_separate(&copies, clone, err);
    }
    if (code == SHR_OK) {
        code = shr_model_infer(clone, NULL, err);
    }
    if (code == SHR_OK) {
        code = shr_channels_find(&c, clone, all, NULL, err);
    }
    for (size_t i = 0; i < c.groups.n && code == SHR_OK; i++) {
        print_group(&c, clone, &c.groups.v[i], ret_text);
    }
    if (code == SHR_OK && shr_buf_failed(ret_text)) {
        code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the text of the groups");
    }
    shr_channels_finish(&c);
    shr_channels_finish_copies(&copies);
    shr_model_free(clone);
    return code;
}
