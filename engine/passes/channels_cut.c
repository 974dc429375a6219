/* Removing or zeroing channels; see channels.h.
 *
 * Constants and types follow from the maps, node settings from the fixes of the table. Whether all
 * sizes became what the maps say is proved by inferring types anew. */
#include <string.h>

#include "passes/channels_walk.h"
#include "passes/edit.h"

bool shr_channels_is_gone(const struct shr_channel_cut *cut, int32_t entry)
{
    int64_t unit = shr_channels_unit(cut->c, entry);
    return unit >= 0 && cut->gone[unit] != 0;
}

int64_t shr_channels_kept(const struct shr_channel_cut *cut, const struct shr_channel_map *map,
                          int axis, int64_t end)
{
    const struct shr_channel_part *p = shr_channel_part_of(map, axis);
    int64_t n = end;
    for (int64_t i = 0; p != NULL && p->axis[p->cut] == axis && i < end; i++) {
        n -= shr_channels_is_gone(cut, shr_channel_at(p, axis, i));
    }
    return n;
}

/* The elements that go belong to the groups of their units. */
static void count_elements(const struct shr_channel_cut *cut, const struct shr_tensor *t, int axis,
                           const struct shr_channel_part *p)
{
    int64_t each = shr_tensor_count(t) / t->dim[axis];
    for (int64_t i = 0; i < t->dim[axis]; i++) {
        int32_t entry = shr_channel_at(p, axis, i);
        if (shr_channels_is_gone(cut, entry)) {
            shr_channels_group(cut->c, shr_channels_unit(cut->c, entry))->elements += each;
        }
    }
}

/* A copy of a tensor without the channels that go (n stay), or with `zero` there. */
static int cut_axis(const struct shr_channel_cut *cut, const struct shr_tensor *t, int axis,
                    const struct shr_channel_part *p, int64_t n, struct shr_tensor *ret,
                    struct shr_err *err)
{
    int64_t dim[SHR_MAX_RANK];
    memcpy(dim, t->dim, sizeof dim);
    dim[axis] = n;
    struct shr_tensor copy = {0};
    int code = shr_tensor_new(t->dtype, t->rank, dim, &copy, err);
    if (code != SHR_OK) {
        return code;
    }
    size_t inner = shr_dtype_size(t->dtype), outer = 1;
    for (int d = 0; d < t->rank; d++) {
        outer *= d < axis ? (size_t)t->dim[d] : 1;
        inner *= d > axis ? (size_t)t->dim[d] : 1;
    }
    bool zeroes = n == t->dim[axis];
    const char *from = t->data;
    char *to = copy.data;
    for (size_t i = 0; i < outer; i++) {
        for (int64_t j = 0; j < t->dim[axis]; j++, from += inner) {
            bool gone = shr_channels_is_gone(cut, shr_channel_at(p, axis, j));
            if (!gone) {
                memcpy(to, from, inner);
            }
            to += gone && !zeroes ? 0 : inner;
        }
    }
    *ret = copy;
    return SHR_OK;
}

/* What stands for zero in a constant: of weights behind DequantizeLinear or in an integer operator
 * their zero points. */
static void find_zero(struct shr_value *v, struct shr_channel_weights *ret)
{
    SHR_EACH_USE (edge, v) {
        const struct shr_value *zero = shr_node_in(edge->node, 2);
        ret->t = &v->constant;
        if (shr_node_is(edge->node, "DequantizeLinear") && edge->slot == 0) {
            ret->zero = shr_value_is_constant(zero) ? &zero->constant : NULL;
            ret->q_axis = v->constant.rank == 1 ? 0 : (int)shr_node_int(edge->node, "axis", 1);
        } else {
            shr_channels_quantized(edge->node, edge->slot, ret);
        }
        ret->q_axis += ret->q_axis < 0 ? v->constant.rank : 0;
        if (ret->zero != NULL) {
            return;
        }
    }
}

static void fill_zeros(const struct shr_channel_cut *cut, struct shr_value *v, struct shr_tensor *t,
                       int axis, const struct shr_channel_part *p)
{
    struct shr_channel_weights w = {0};
    find_zero(v, &w);
    int64_t inner = 1, n = shr_tensor_count(t);
    for (int d = axis + 1; d < t->rank; d++) {
        inner *= t->dim[d];
    }
    for (int64_t i = 0; i < n && w.zero != NULL; i++) {
        if (shr_channels_is_gone(cut, shr_channel_at(p, axis, i / inner % t->dim[axis]))) {
            shr_tensor_set(t, i, shr_channels_param_at(&w, w.zero, i));
        }
    }
}

static int cut_constant(const struct shr_channel_cut *cut, struct shr_value *v,
                        const struct shr_channel_map *map, bool remove, struct shr_err *err)
{
    for (int d = 0; d < map->rank; d++) {
        const struct shr_channel_part *p = shr_channel_part_of(map, d);
        int64_t n = map->dim[d], stay = shr_channels_kept(cut, map, d, n);
        if (stay == n || (!remove && map->plain)) {
            continue;
        }
        struct shr_tensor copy = {0};
        count_elements(cut, &v->constant, d, p);
        int code = cut_axis(cut, &v->constant, d, p, remove ? stay : n, &copy, err);
        if (code != SHR_OK) {
            return code;
        }
        if (!remove && !shr_dtype_is_float(copy.dtype)) {
            fill_zeros(cut, v, &copy, d, p);
        }
        shr_value_set_constant(v, copy);
    }
    return SHR_OK;
}

static int cut_constants(const struct shr_channel_cut *cut, bool remove, struct shr_err *err)
{
    SHR_EACH_VALUE (v, &cut->model->graph) {
        const struct shr_channel_map *map = shr_channels_map(cut->c, v);
        int code = map != NULL && shr_value_is_constant(v) ? cut_constant(cut, v, map, remove, err)
                                                           : SHR_OK;
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

static void cut_types(const struct shr_channel_cut *cut)
{
    SHR_EACH_VALUE (v, &cut->model->graph) {
        const struct shr_channel_map *map = shr_channels_map(cut->c, v);
        const struct shr_type *other = map == NULL ? NULL : shr_channels_type(cut->c, 1, v);
        for (int d = 0; map != NULL && v->type.rank == map->rank && d < map->rank; d++) {
            int64_t n = shr_channels_kept(cut, map, d, map->dim[d]);
            if (n < map->dim[d]) { /* of an axis that follows the batch, no size is known */
                v->type.dim[d] = other->dim[d] == map->dim[d] ? n : -1;
                v->type.sym[d] = NULL;
            }
        }
    }
}

/* The first value whose size is not what its map says, in the first probe or, for sizes that are
 * the same in both, in the second; NULL = all are right. */
static const char *find_bad(const struct shr_channel_cut *cut, struct shr_model *const probe[2])
{
    SHR_EACH_VALUE (v, &cut->model->graph) {
        const struct shr_channel_map *map = shr_channels_map(cut->c, v);
        if (map == NULL || map->n_parts == 0 || shr_value_is_constant(v)) {
            continue;
        }
        const struct shr_type *old = shr_channels_type(cut->c, 1, v);
        for (int which = 0; which < 2; which++) {
            const struct shr_value *there = shr_graph_find(&probe[which]->graph, v->name);
            for (int d = 0; there != NULL && d < map->rank; d++) {
                bool known = map->dim[d] >= 0 && (which == 0 || old->dim[d] == map->dim[d]);
                if (known && (there->type.rank != map->rank ||
                              there->type.dim[d] != shr_channels_kept(cut, map, d, map->dim[d]))) {
                    return v->name;
                }
            }
        }
    }
    return NULL;
}

/* What a node reads that made it fail: the first of its inputs that was cut. */
static const char *blame(const struct shr_channel_cut *cut, const char *message)
{
    const char *worst = NULL;
    SHR_EACH_NODE (node, &cut->model->graph) {
        char label[128];
        shr_node_label(node, label, sizeof label);
        if (strstr(message, label) == NULL) {
            continue;
        }
        for (size_t i = 0; i < node->n_in; i++) {
            const struct shr_channel_map *map = shr_channels_map(cut->c, shr_node_in(node, i));
            for (int d = 0; map != NULL && d < map->rank; d++) {
                if (shr_channels_kept(cut, map, d, map->dim[d]) < map->dim[d]) {
                    worst = shr_node_in(node, i)->name;
                }
            }
        }
    }
    return worst;
}

static bool same_bytes(const struct shr_tensor *a, const struct shr_tensor *b)
{
    return a != NULL && b != NULL && a->dtype == b->dtype && shr_tensor_same_shape(a, b) &&
           memcmp(a->data, b->data, shr_tensor_bytes(a)) == 0;
}

/* Numbers that were computed from sizes, such as the scale of attention, keep the values that they
 * had with all channels. */
static int keep_numbers(const struct shr_channel_cut *cut, const struct shr_channels *after,
                        struct shr_err *err)
{
    struct shr_graph *g = &cut->model->graph;
    SHR_EACH_VALUE (v, g) {
        const struct shr_tensor *old = shr_map_get(&cut->c->known[0], v->name),
                                *now = shr_map_get(&after->known[0], v->name);
        const struct shr_channel_map *map = shr_channels_map(cut->c, v);
        if (old == NULL || now == NULL || !shr_dtype_is_float(old->dtype) || v->is_output ||
            v->captured || (map != NULL && map->weight) || !shr_tensor_same_shape(old, now) ||
            same_bytes(old, now) || !same_bytes(old, shr_map_get(&cut->c->known[1], v->name))) {
            continue;
        }
        struct shr_tensor t = {0};
        struct shr_value *own = NULL;
        int code = shr_tensor_new(old->dtype, old->rank, old->dim, &t, err);
        if (code != SHR_OK) {
            return code;
        }
        memcpy(t.data, old->data, shr_tensor_bytes(old));
        code = shr_graph_add_constant(g, v->name, t, &own, err);
        if (code != SHR_OK) {
            return code;
        }
        shr_value_replace_uses(v, own);
    }
    shr_graph_drop_unused(g);
    return SHR_OK;
}

static int verify(const struct shr_channel_cut *cut, const char **ret_bad, struct shr_err *err)
{
    struct shr_channels after = {0};
    int code = shr_channels_probe(cut->model, cut->c->sizes, &after, err);
    if (code != SHR_OK) {
        *ret_bad = code == SHR_ERR_NOMEM ? NULL : blame(cut, err->msg);
        return *ret_bad != NULL ? SHR_OK : code;
    }
    *ret_bad = find_bad(cut, after.probe);
    code = *ret_bad == NULL ? keep_numbers(cut, &after, err) : SHR_OK;
    shr_channels_finish(&after);
    return code;
}

static int fix_nodes(struct shr_channel_cut *cut, struct shr_err *err)
{
    int code = SHR_OK;
    for (struct shr_node *node = cut->model->graph.first_node; node != NULL && code == SHR_OK;
         node = node->next) {
        const struct shr_channel_rule *rule = shr_channel_rule_find(node);
        if (rule != NULL && rule->fix != NULL) {
            code = rule->fix(cut, node, err);
        }
    }
    return code;
}

int shr_channels_cut(struct shr_channels *c, struct shr_model *model, const unsigned char *gone,
                     bool remove, const char **ret_bad, struct shr_err *err)
{
    struct shr_channel_cut cut = {c, model, gone};
    *ret_bad = NULL;
    int code = remove ? fix_nodes(&cut, err) : SHR_OK; /* first, while sizes are as they were */
    if (code == SHR_OK) {
        code = cut_constants(&cut, remove, err);
    }
    if (code != SHR_OK || !remove) {
        return code;
    }
    shr_graph_drop_unused(&model->graph);
    cut_types(&cut); /* before, since declared types fill what inference leaves open */
    code = verify(&cut, ret_bad, err);
    if (code == SHR_OK && *ret_bad == NULL) {
        code = shr_model_infer(model, NULL, err);
    }
    if (code == SHR_OK && *ret_bad == NULL) {
        cut_types(&cut); /* and after, where inference does not know what the maps do */
    }
    return code;
}
