/* Removing or zeroing channels; see channels.h. */
#include <string.h>

#include "passes/channels.h"
#include "passes/edit.h"

struct cut {
    struct shr_channels *c;
    struct shr_graph *g;
    const unsigned char *gone;
    bool remove;
};

static bool is_gone(const struct cut *cut, int32_t entry)
{
    return entry >= 0 && cut->gone[shr_channels_index(cut->c, entry)] != 0;
}

static int64_t kept(const struct cut *cut, const struct shr_channel_map *map)
{
    int64_t n = 0;
    for (int64_t i = 0; i < map->n; i++) {
        n += !is_gone(cut, map->channel[i]);
    }
    return n;
}

/* A copy of a tensor without (remove) or with zeros at the channels that go. */
static int cut_tensor(const struct cut *cut, const struct shr_tensor *t, int axis,
                      const struct shr_channel_map *map, struct shr_tensor *ret,
                      struct shr_err *err)
{
    struct shr_tensor shape = *t, copy = {0};
    shape.dim[axis] = cut->remove ? kept(cut, map) : map->n;
    int code = shr_tensor_new(t->dtype, t->rank, shape.dim, &copy, err);
    if (code != SHR_OK) {
        return code;
    }
    size_t inner = shr_dtype_size(t->dtype), outer = 1;
    for (int d = 0; d < t->rank; d++) {
        size_t dim = (size_t)t->dim[d];
        outer *= d < axis ? dim : 1;
        inner *= d > axis ? dim : 1;
    }
    const char *from = t->data;
    char *to = copy.data;
    for (size_t i = 0; i < outer; i++) {
        for (int64_t j = 0; j < map->n; j++, from += inner) {
            bool gone = is_gone(cut, map->channel[j]);
            if (!gone) {
                memcpy(to, from, inner);
            }
            to += gone && cut->remove ? 0 : inner;
        }
    }
    *ret = copy;
    return SHR_OK;
}

/* The elements that an edit takes away belong to the groups of the channels that go. */
static void count_elements(const struct cut *cut, const struct shr_tensor *t, int axis,
                           const struct shr_channel_map *map)
{
    int64_t each = shr_tensor_count(t) / t->dim[axis];
    for (int64_t i = 0; i < map->n; i++) {
        if (is_gone(cut, map->channel[i])) {
            shr_channels_group(cut->c, map->channel[i])->elements += each;
        }
    }
}

static int cut_constant(const struct cut *cut, const struct shr_channel_use *use,
                        struct shr_err *err)
{
    struct shr_value *v = shr_node_in(use->node, use->slot);
    struct shr_tensor copy = {0};
    int code = cut_tensor(cut, &v->constant, use->axis, use->map, &copy, err);
    if (code != SHR_OK) {
        return code;
    }
    count_elements(cut, &v->constant, use->axis, use->map);
    code = shr_edit_constant(cut->g, use->node, use->slot, copy, err);
    if (code == SHR_OK && v->uses == NULL && v->producer == NULL && !v->is_input && !v->is_output &&
        !v->captured) {
        shr_graph_remove_value(cut->g, v); /* the last that shared it has its own now */
    }
    return code;
}

/* Reshape to [.., n]: n is of the channels that stay. */
static int cut_shape(const struct cut *cut, const struct shr_channel_use *use, struct shr_err *err)
{
    struct shr_tensor shape = shr_tensor_ref(&shr_node_in(use->node, use->slot)->constant);
    int code = shr_tensor_own(&shape, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&shape);
        return code;
    }
    shr_tensor_set(&shape, 1, (double)kept(cut, use->map));
    return shr_edit_constant(cut->g, use->node, use->slot, shape, err);
}

static int cut_use(const struct cut *cut, const struct shr_channel_use *use, struct shr_err *err)
{
    switch (use->role) {
    case SHR_CHANNEL_OUT:
    case SHR_CHANNEL_FILTER:
    case SHR_CHANNEL_BIAS:
    case SHR_CHANNEL_GAMMA:
        return cut_constant(cut, use, err);
    case SHR_CHANNEL_IN:
    case SHR_CHANNEL_VECTOR:
        return cut->remove ? cut_constant(cut, use, err) : SHR_OK;
    case SHR_CHANNEL_NUMBER:
        return cut->remove ? shr_node_set_int(cut->g, use->node, "group", kept(cut, use->map), err)
                           : SHR_OK;
    case SHR_CHANNEL_SHAPE:
        return cut->remove ? cut_shape(cut, use, err) : SHR_OK;
    }
    return SHR_OK;
}

static void cut_types(const struct cut *cut)
{
    SHR_EACH_VALUE (v, cut->g) {
        const struct shr_channel_map *map = shr_map_get(&cut->c->maps, v->name);
        if (map == NULL || v->type.rank != map->rank) {
            continue;
        }
        int64_t n = kept(cut, map);
        if (n < map->n) {
            v->type.dim[map->axis] = n;
            v->type.sym[map->axis] = NULL;
        }
    }
}

int shr_channels_cut(struct shr_channels *c, struct shr_model *model, const unsigned char *gone,
                     bool remove, struct shr_err *err)
{
    const struct cut cut = {c, &model->graph, gone, remove};
    for (size_t i = 0; i < c->uses.n; i++) {
        const struct shr_channel_use *use = &c->uses.v[i];
        int code = kept(&cut, use->map) < use->map->n ? cut_use(&cut, use, err) : SHR_OK;
        if (code != SHR_OK) {
            return code;
        }
    }
    if (!remove) {
        return SHR_OK;
    }
    cut_types(&cut); /* before, since declared types fill what inference leaves open; */
    int code = shr_model_infer(model, NULL, err);
    if (code == SHR_OK) {
        cut_types(&cut); /* and after, where inference does not know what the maps do */
    }
    return code;
}
