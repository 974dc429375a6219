/* Channels, parts and maps; see channels_walk.h. */
#include <stdio.h>
#include <string.h>

#include "passes/channels_walk.h"

/* ── Channels ───────────────────────────────────────────────────────────────────────────────── */

int32_t shr_channel_root(struct shr_channels *c, int32_t i)
{
    struct shr_channel *v = c->list.v;
    while (v[i].same != i) {
        i = v[i].same = v[v[i].same].same;
    }
    return i;
}

/* "its channels reach Softmax 'attn': it is over them", made once for each call of refuse. */
static const char *reason(struct shr_channel_walk *w, const char *why)
{
    char label[128];
    const char *text =
        w->node == NULL
            ? shr_arena_printf(&w->c->arena, "its channels reach %s", why)
            : shr_arena_printf(&w->c->arena, "its channels reach %s '%s': %s", w->node->op_type,
                               shr_node_label(w->node, label, sizeof label), why);
    w->failed = w->failed || text == NULL;
    return text;
}

void shr_channels_unite(struct shr_channel_walk *w, int32_t a, int32_t b)
{
    struct shr_channel *v = w->c->list.v;
    if (a < 0 || b < 0) {
        a = a < 0 ? b : a;
        if (a >= 0) {
            struct shr_channel *one = &v[shr_channel_root(w->c, a)];
            one->why = one->why != NULL ? one->why : reason(w, "other channels there must stay");
        }
        return;
    }
    a = shr_channel_root(w->c, a);
    b = shr_channel_root(w->c, b);
    if (a == b) {
        return;
    }
    int32_t low = a < b ? a : b, high = a < b ? b : a;
    v[high].same = low;
    v[low].why = v[low].why != NULL ? v[low].why : v[high].why;
}

void shr_channels_refuse(struct shr_channel_walk *w, const struct shr_channel_part *p,
                         const char *why)
{
    const char *text = NULL;
    for (int64_t i = 0; p != NULL && i < p->n && !w->failed; i++) {
        if (p->channel[i] < 0) {
            continue;
        }
        struct shr_channel *one = &w->c->list.v[shr_channel_root(w->c, p->channel[i])];
        if (one->why == NULL) {
            text = text != NULL ? text : reason(w, why);
            one->why = text;
        }
    }
}

void shr_channels_refuse_input(struct shr_channel_walk *w, struct shr_node *node, size_t slot,
                               const char *why)
{
    const struct shr_value *v = shr_node_in(node, slot);
    struct shr_channel_map *map = shr_channels_map(w->c, v);
    if (map == NULL && shr_value_is_constant(v) && v->n_uses > 1) {
        map = shr_map_in(w, node, slot); /* others that read it know */
    }
    for (int i = 0; map != NULL && i < map->n_parts; i++) {
        shr_channels_refuse(w, map->part[i], why);
    }
}

void shr_channels_refuse_inputs(struct shr_channel_walk *w, struct shr_node *node, size_t slot,
                                const char *why)
{
    for (; slot < node->n_in; slot++) {
        shr_channels_refuse_input(w, node, slot, why);
    }
}

/* ── Parts ──────────────────────────────────────────────────────────────────────────────────── */

struct shr_channel_part *shr_part_new(struct shr_channel_walk *w, int n_axes, const int *axis,
                                      const int64_t *dim)
{
    struct shr_channel_part *p = w->failed ? NULL : shr_arena_new(&w->c->arena, 1, sizeof *p);
    int64_t n = 0;
    if (p == NULL || !shr_dims_count(n_axes, dim, &n)) {
        w->failed = true;
        return NULL;
    }
    p->channel = shr_arena_new(&w->c->arena, (size_t)n + 1, sizeof *p->channel);
    if (p->channel == NULL) {
        w->failed = true;
        return NULL;
    }
    p->n_axes = n_axes;
    p->n = n;
    for (int i = 0; i < n_axes; i++) {
        p->axis[i] = axis[i];
        p->dim[i] = dim[i];
    }
    return p;
}

struct shr_channel_part *shr_part_fresh(struct shr_channel_walk *w, int axis, int64_t n)
{
    struct shr_channel_part *p = shr_part_new(w, 1, &axis, &n);
    for (int64_t i = 0; p != NULL && i < n; i++) {
        struct shr_channel *channel = SHR_VEC_ADD(&w->c->list);
        if (channel == NULL || w->c->list.n > INT32_MAX) {
            w->failed = true;
            return NULL;
        }
        p->channel[i] = (int32_t)(w->c->list.n - 1);
        *channel = (struct shr_channel){.same = p->channel[i], .unit = -1};
    }
    return p;
}

int shr_part_find(const struct shr_channel_part *p, int axis)
{
    for (int i = 0; p != NULL && i < p->n_axes; i++) {
        if (p->axis[i] == axis) {
            return i;
        }
    }
    return -1;
}

/* Elements between neighbours along the k-th axis. */
static int64_t stride_of(const struct shr_channel_part *p, int k)
{
    int64_t stride = 1;
    for (int i = k + 1; i < p->n_axes; i++) {
        stride *= p->dim[i];
    }
    return stride;
}

/* The part at index 0 of its k-th axis, that axis gone. */
static struct shr_channel_part *drop(struct shr_channel_walk *w, const struct shr_channel_part *p,
                                     int k)
{
    int axis[SHR_MAX_RANK];
    int64_t dim[SHR_MAX_RANK];
    for (int i = 0; i < p->n_axes - 1; i++) {
        axis[i] = p->axis[i + (i >= k)];
        dim[i] = p->dim[i + (i >= k)];
    }
    struct shr_channel_part *r = shr_part_new(w, p->n_axes - 1, axis, dim);
    int64_t inner = stride_of(p, k);
    for (int64_t i = 0; r != NULL && i < r->n; i++) {
        r->channel[i] = p->channel[i / inner * inner * p->dim[k] + i % inner];
    }
    return r;
}

struct shr_channel_part *shr_part_keep(struct shr_channel_walk *w, struct shr_channel_part *p,
                                       int axis, const char *why)
{
    int k = shr_part_find(p, axis);
    if (k < 0 || w->failed) {
        return p;
    }
    if (p->n_axes == 1) {
        shr_channels_refuse(w, p, why);
        return NULL;
    }
    int64_t inner = stride_of(p, k);
    for (int64_t i = 0; i < p->n; i++) {
        int64_t first = i - i / inner % p->dim[k] * inner;
        shr_channels_unite(w, p->channel[first], p->channel[i]);
    }
    return drop(w, p, k);
}

struct shr_channel_part *shr_part_select(struct shr_channel_walk *w, struct shr_channel_part *p,
                                         int axis, const int64_t *index, int64_t start,
                                         int64_t step, int64_t n)
{
    int k = shr_part_find(p, axis);
    if (k < 0 || w->failed) {
        return p;
    }
    int64_t dim[SHR_MAX_RANK], inner = stride_of(p, k);
    memcpy(dim, p->dim, sizeof dim);
    dim[k] = n;
    struct shr_channel_part *r = shr_part_new(w, p->n_axes, p->axis, dim);
    for (int64_t i = 0; r != NULL && i < r->n; i++) {
        int64_t at = i / inner % n, outer = i / inner / n;
        int64_t from = index != NULL ? index[at] : start + at * step;
        from += from < 0 ? p->dim[k] : 0;
        r->channel[i] = from < 0 || from >= p->dim[k]
                            ? -1
                            : p->channel[(outer * p->dim[k] + from) * inner + i % inner];
    }
    return r;
}

struct shr_channel_part *shr_part_rename(struct shr_channel_walk *w, struct shr_channel_part *p,
                                         const int *to)
{
    if (p == NULL || w->failed) {
        return NULL;
    }
    int order[SHR_MAX_RANK], axis[SHR_MAX_RANK]; /* order[i]: which old axis comes i-th */
    int64_t dim[SHR_MAX_RANK], stride[SHR_MAX_RANK];
    bool same = true;
    for (int i = 0; i < p->n_axes; i++) {
        int j = i;
        for (; j > 0 && to[order[j - 1]] > to[i]; j--) {
            order[j] = order[j - 1];
        }
        order[j] = i;
    }
    for (int i = 0; i < p->n_axes; i++) {
        axis[i] = to[order[i]];
        dim[i] = p->dim[order[i]];
        stride[i] = stride_of(p, order[i]);
        same = same && order[i] == i;
    }
    if (same) { /* the list itself can be shared */
        struct shr_channel_part *r = shr_arena_new(&w->c->arena, 1, sizeof *r);
        if (r == NULL) {
            w->failed = true;
            return NULL;
        }
        *r = *p;
        memcpy(r->axis, axis, sizeof axis);
        return r;
    }
    struct shr_channel_part *r = shr_part_new(w, p->n_axes, axis, dim);
    for (int64_t i = 0; r != NULL && i < r->n; i++) {
        int64_t rest = i, at = 0;
        for (int d = r->n_axes - 1; d >= 0; d--) {
            at += rest % dim[d] * stride[d];
            rest /= dim[d];
        }
        r->channel[i] = p->channel[at];
    }
    return r;
}

/* Are the channels the same at all indices of the k-th axis? */
static bool is_flat(struct shr_channel_walk *w, const struct shr_channel_part *p, int k)
{
    int64_t inner = stride_of(p, k);
    for (int64_t i = 0; i < p->n; i++) {
        int32_t a = p->channel[i], b = p->channel[i - i / inner % p->dim[k] * inner];
        if (a != b && (a < 0 || b < 0 || shr_channel_root(w->c, a) != shr_channel_root(w->c, b))) {
            return false;
        }
    }
    return true;
}

struct shr_channel_part *shr_part_shrink(struct shr_channel_walk *w, struct shr_channel_part *p)
{
    for (int k = p == NULL || w->failed ? -1 : p->n_axes - 1; k >= 0 && p != NULL; k--) {
        if (p->dim[k] == 1 || (p->n_axes > 1 && is_flat(w, p, k))) {
            if (p->n_axes == 1) {
                shr_channels_refuse(w, p, "it is the only one there");
                return NULL;
            }
            p = drop(w, p, k);
        }
    }
    return w->failed ? NULL : p;
}

/* ── Maps ───────────────────────────────────────────────────────────────────────────────────── */

struct shr_channel_map *shr_channels_map(const struct shr_channels *c, const struct shr_value *v)
{
    return v == NULL ? NULL : shr_map_get(&c->maps, v->name);
}

const struct shr_type *shr_channels_type(const struct shr_channels *c, int probe,
                                         const struct shr_value *v)
{
    const struct shr_value *there = shr_graph_find(&c->probe[probe]->graph, v->name);
    return there == NULL ? &v->type : &there->type;
}

const struct shr_tensor *shr_channels_known(const struct shr_channels *c, const struct shr_value *v)
{
    const struct shr_tensor *t = v == NULL                  ? NULL
                                 : shr_value_is_constant(v) ? &v->constant
                                                            : shr_map_get(&c->known[0], v->name);
    return t != NULL && (t->dtype == SHR_DTYPE_I64 || t->dtype == SHR_DTYPE_I32) ? t : NULL;
}

static struct shr_channel_map *map_new(struct shr_channel_walk *w, const struct shr_value *v)
{
    struct shr_type type = *shr_channels_type(w->c, 0, v);
    if (shr_value_is_constant(v)) {
        type.rank = v->constant.rank;
        memcpy(type.dim, v->constant.dim, sizeof type.dim);
    }
    struct shr_channel_map *map =
        w->failed || type.rank < 0 ? NULL : shr_arena_new(&w->c->arena, 1, sizeof *map);
    if (map == NULL) {
        w->failed = w->failed || type.rank >= 0;
        return NULL;
    }
    map->rank = type.rank;
    memcpy(map->dim, type.dim, sizeof map->dim);
    struct shr_err err;
    w->failed = shr_map_put(&w->c->maps, v->name, map, &err) != SHR_OK;
    return w->failed ? NULL : map;
}

static bool holds_channels(const struct shr_value *v)
{
    enum shr_dtype d = v->constant.dtype;
    return shr_dtype_is_float(d) || d == SHR_DTYPE_I8 || d == SHR_DTYPE_U8 || d == SHR_DTYPE_I32;
}

struct shr_channel_map *shr_map_in(struct shr_channel_walk *w, const struct shr_node *node,
                                   size_t slot)
{
    const struct shr_value *v = shr_node_in(node, slot);
    struct shr_channel_map *map = shr_channels_map(w->c, v);
    if (map != NULL || v == NULL) {
        return map;
    }
    map = map_new(w, v);
    if (map != NULL && shr_value_is_constant(v)) {
        map->weight = true;
        for (int d = 0; d < map->rank && holds_channels(v); d++) {
            if (map->dim[d] > 1) {
                shr_map_add(w, map, shr_part_fresh(w, d, map->dim[d]));
            }
        }
    }
    return map;
}

struct shr_channel_map *shr_map_out(struct shr_channel_walk *w, const struct shr_node *node,
                                    size_t slot)
{
    const struct shr_value *v = shr_node_out(node, slot);
    return v == NULL ? NULL : map_new(w, v);
}

void shr_map_add(struct shr_channel_walk *w, struct shr_channel_map *map,
                 struct shr_channel_part *part)
{
    struct shr_channel_part **one = NULL;
    part = shr_part_shrink(w, part);
    if (map == NULL || part == NULL || w->failed) {
        return;
    }
    one = SHR_VEC_ADD(&w->c->parts);
    if (one == NULL) {
        w->failed = true;
        return;
    }
    map->part[map->n_parts++] = *one = part;
}

void shr_channels_add_use(struct shr_channel_walk *w, enum shr_channel_role role,
                          struct shr_node *node, size_t slot, int axis)
{
    const struct shr_channel_map *map = shr_map_in(w, node, slot);
    const struct shr_channel_part *part = shr_channel_part_of(map, axis);
    if (part == NULL || w->failed) {
        return;
    }
    struct shr_channel_use *use = SHR_VEC_ADD(&w->c->uses);
    if (use == NULL) {
        w->failed = true;
        return;
    }
    *use = (struct shr_channel_use){role, node, slot, axis, part, SIZE_MAX};
    const char *why = role == SHR_CHANNEL_OUT ? shr_nodes_excluded(node, w->nodes) : NULL;
    if (why != NULL) {
        shr_channels_refuse(w, part, why);
    }
}

const struct shr_channel_part *shr_channel_part_of(const struct shr_channel_map *map, int axis)
{
    for (int i = 0; map != NULL && i < map->n_parts; i++) {
        if (shr_part_find(map->part[i], axis) >= 0) {
            return map->part[i];
        }
    }
    return NULL;
}

int32_t shr_channel_at(const struct shr_channel_part *part, int axis, int64_t index)
{
    int k = shr_part_find(part, axis);
    return k < 0 || k != part->cut ? -1 : part->channel[index * stride_of(part, k)];
}
