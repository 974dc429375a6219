/* Finding dependency groups; see channels.h.
 *
 * DESIGN: one walk in topological order with union-find over single channels, so that nothing is
 * assumed about how values are put together: a residual Add of a Concat with a layer makes each
 * channel of the layer one with the right channel of the right branch. An operator is one rule
 * that gives its output a map; what has no rule makes the channels that it reads stay. */
#include <stdio.h>

#include "passes/channels_walk.h"

int shr_channels_no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the groups of channels");
}

/* ── Channels and layers ────────────────────────────────────────────────────────────────────── */

static int32_t find_channel(struct shr_channels *c, int32_t i)
{
    struct shr_channel *v = c->list.v;
    while (v[i].same != i) {
        i = v[i].same = v[v[i].same].same;
    }
    return i;
}

static int32_t find_layer(const struct shr_channels *c, int32_t i)
{
    while (c->layers.v[i].same != i) {
        i = c->layers.v[i].same;
    }
    return i;
}

void shr_channels_unite(struct shr_channels *c, int32_t a, int32_t b)
{
    int32_t la = find_layer(c, c->list.v[a].layer), lb = find_layer(c, c->list.v[b].layer);
    a = find_channel(c, a);
    b = find_channel(c, b);
    c->list.v[a > b ? a : b].same = a < b ? a : b;
    int32_t low = la < lb ? la : lb, high = la < lb ? lb : la;
    c->layers.v[high].same = low;
    if (c->layers.v[low].why == NULL) {
        c->layers.v[low].why = c->layers.v[high].why;
    }
}

int shr_channels_add_layer(struct shr_channel_walk *w, const struct shr_node *node, const char *why,
                           int32_t *ret, struct shr_err *err)
{
    struct shr_channel_layer *layer = SHR_VEC_ADD(&w->c->layers);
    if (layer == NULL) {
        return shr_channels_no_memory(err);
    }
    int32_t i = (int32_t)(w->c->layers.n - 1);
    *layer = (struct shr_channel_layer){.node = node, .same = i, .why = why};
    if (ret != NULL) {
        *ret = i;
    }
    return SHR_OK;
}

/* The channels of a map must stay: what is the node or value that wants it. */
static int refuse(struct shr_channel_walk *w, const struct shr_channel_map *map, const char *what,
                  const char *why, struct shr_err *err)
{
    const char *text = NULL;
    for (int64_t i = 0; map != NULL && i < map->n; i++) {
        if (map->channel[i] < 0) {
            continue;
        }
        int32_t layer = find_layer(w->c, w->c->list.v[map->channel[i]].layer);
        if (w->c->layers.v[layer].why != NULL) {
            continue;
        }
        if (text == NULL) {
            text = shr_arena_printf(&w->c->arena, "its channels reach %s: %s", what, why);
        }
        if (text == NULL) {
            return shr_channels_no_memory(err);
        }
        w->c->layers.v[layer].why = text;
    }
    return SHR_OK;
}

/* ── Maps and uses ──────────────────────────────────────────────────────────────────────────── */

struct shr_channel_map *shr_channels_map(const struct shr_channel_walk *w,
                                         const struct shr_value *v)
{
    return v == NULL ? NULL : shr_map_get(&w->c->maps, v->name);
}

int shr_channels_set_map(struct shr_channel_walk *w, const struct shr_node *node,
                         struct shr_channel_map *map, struct shr_err *err)
{
    const struct shr_value *out = shr_node_out(node, 0);
    return map == NULL || out == NULL ? SHR_OK : shr_map_put(&w->c->maps, out->name, map, err);
}

struct shr_channel_map *shr_channels_new_map(struct shr_channel_walk *w, int64_t n, int axis,
                                             int rank)
{
    struct shr_channel_map *map = shr_arena_new(&w->c->arena, 1, sizeof *map);
    int32_t *channel = shr_arena_new(&w->c->arena, (size_t)n + 1, sizeof *channel);
    if (map == NULL || channel == NULL) {
        return NULL;
    }
    *map = (struct shr_channel_map){channel, n, axis, rank};
    return map;
}

int shr_channels_add_use(struct shr_channel_walk *w, enum shr_channel_role role,
                         struct shr_node *node, size_t slot, int axis,
                         const struct shr_channel_map *map, struct shr_err *err)
{
    struct shr_channel_use *use = SHR_VEC_ADD(&w->c->uses);
    if (use == NULL) {
        return shr_channels_no_memory(err);
    }
    *use = (struct shr_channel_use){role, node, slot, axis, map};
    return SHR_OK;
}

int shr_channels_refuse_input(struct shr_channel_walk *w, const struct shr_node *node, size_t slot,
                              const char *why, struct shr_err *err)
{
    const struct shr_channel_map *map = shr_channels_map(w, shr_node_in(node, slot));
    char label[128], what[256];
    snprintf(what, sizeof what, "%s '%s'", node->op_type,
             shr_node_label(node, label, sizeof label));
    return refuse(w, map, what, why, err);
}

int shr_channels_refuse_inputs(struct shr_channel_walk *w, const struct shr_node *node, size_t slot,
                               const char *why, struct shr_err *err)
{
    int code = SHR_OK;
    for (; slot < node->n_in && code == SHR_OK; slot++) {
        code = shr_channels_refuse_input(w, node, slot, why, err);
    }
    return code;
}

int shr_channels_refuse_layer(struct shr_channel_walk *w, const struct shr_node *node,
                              const char *why, struct shr_err *err)
{
    int code = shr_channels_add_layer(w, node, why, NULL, err);
    return code != SHR_OK ? code : shr_channels_refuse_inputs(w, node, 0, why, err);
}

int shr_channels_make(struct shr_channel_walk *w, int32_t layer, struct shr_channel_map *map,
                      struct shr_err *err)
{
    for (int64_t i = 0; i < map->n; i++) {
        struct shr_channel *channel = SHR_VEC_ADD(&w->c->list);
        if (channel == NULL || w->c->list.n > INT32_MAX) {
            return shr_channels_no_memory(err);
        }
        map->channel[i] = (int32_t)(w->c->list.n - 1);
        *channel = (struct shr_channel){.same = map->channel[i], .layer = layer};
    }
    return SHR_OK;
}

/* ── The walk ───────────────────────────────────────────────────────────────────────────────── */

static int visit(struct shr_channel_walk *w, struct shr_node *node, struct shr_err *err)
{
    shr_channel_rule_fn rule = shr_channel_rule_find(node);
    if (rule == NULL) {
        bool layer = node->op != NULL && node->op->prune_role == SHR_PRUNE_WEIGHTED;
        const char *why = "an operator whose channels cannot be cut";
        return layer ? shr_channels_refuse_layer(w, node, why, err)
                     : shr_channels_refuse_inputs(w, node, 0, why, err);
    }
    for (size_t i = 1; i < node->n_out; i++) {
        const struct shr_value *v = node->out[i];
        if (v != NULL && (v->n_uses > 0 || v->is_output || v->captured)) {
            return shr_channels_refuse_inputs(w, node, 0, "its second output is used", err);
        }
    }
    return rule(w, node, err);
}

/* Values that others than nodes read stay as they are. */
static int refuse_ends(struct shr_channel_walk *w, const struct shr_graph *g, struct shr_err *err)
{
    SHR_EACH_VALUE (v, g) {
        struct shr_channel_map *map = shr_channels_map(w, v);
        if (map == NULL || (!v->is_output && !v->captured)) {
            continue;
        }
        char what[256];
        snprintf(what, sizeof what, "'%s'", v->name);
        int code = refuse(w, map, what,
                          v->is_output ? "an output of the model" : "read by a subgraph", err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

/* Numbers groups, and the channels of each in a row. */
static int number(struct shr_channels *c, struct shr_err *err)
{
    for (size_t i = 0; i < c->layers.n; i++) {
        struct shr_channel_layer *layer = &c->layers.v[i];
        if (layer->same != (int32_t)i) {
            layer->group = c->layers.v[find_layer(c, (int32_t)i)].group;
            continue;
        }
        struct shr_channel_group *group = SHR_VEC_ADD(&c->groups);
        if (group == NULL) {
            return shr_channels_no_memory(err);
        }
        layer->group = c->groups.n - 1;
        group->layer = layer;
    }
    for (size_t i = 0; i < c->list.n; i++) {
        struct shr_channel *channel = &c->list.v[i];
        if (channel->same == (int32_t)i) {
            channel->index = (int32_t)c->groups.v[c->layers.v[channel->layer].group].n++;
        }
    }
    for (size_t i = 0; i < c->groups.n; i++) {
        c->groups.v[i].first = c->n;
        c->n += c->groups.v[i].n;
    }
    return SHR_OK;
}

int shr_channels_find(struct shr_channels *ret, struct shr_model *model,
                      const struct shr_arg *nodes, struct shr_err *err)
{
    struct shr_channels c = {0};
    struct shr_channel_walk w = {&c, nodes};
    int code = SHR_OK;
    for (struct shr_node *node = model->graph.first_node; node != NULL && code == SHR_OK;
         node = node->next) {
        code = visit(&w, node, err);
    }
    if (code == SHR_OK) {
        code = refuse_ends(&w, &model->graph, err);
    }
    if (code == SHR_OK) {
        code = number(&c, err);
    }
    if (code != SHR_OK) {
        shr_channels_finish(&c);
        return code;
    }
    *ret = c;
    return SHR_OK;
}

void shr_channels_finish(struct shr_channels *c)
{
    shr_map_finish(&c->maps);
    SHR_VEC_FINISH(&c->list);
    SHR_VEC_FINISH(&c->layers);
    SHR_VEC_FINISH(&c->groups);
    SHR_VEC_FINISH(&c->uses);
    shr_arena_finish(&c->arena);
}

struct shr_channel_group *shr_channels_group(struct shr_channels *c, int32_t entry)
{
    return &c->groups.v[c->layers.v[c->list.v[entry].layer].group];
}

int64_t shr_channels_index(struct shr_channels *c, int32_t entry)
{
    return shr_channels_group(c, entry)->first + c->list.v[find_channel(c, entry)].index;
}
