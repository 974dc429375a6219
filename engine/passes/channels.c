/* Finding dependency groups; see channels.h. */
#include "passes/channels.h"

#include <stdio.h>
#include <string.h>

#include "passes/channels_walk.h"

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the groups of channels");
}

/* ── Sizes for open dimensions ──────────────────────────────────────────────────────────────── */

enum { PRIMES = 8 };

/* Sizes that are told apart in the shapes that follow from them, for batches and tokens, then for
 * images; a model that takes none of these is looked at with sizes as they are declared. */
static const int64_t sizes[][2][PRIMES] = {
    {{3, 11, 13, 17, 19, 23, 29, 31}, {5, 7, 10, 14, 22, 26, 34, 38}},
    {{1, 64, 96, 160, 64, 96, 160, 64}, {2, 96, 128, 192, 96, 128, 192, 96}},
    {{1, 224, 256, 288, 224, 256, 288, 224}, {2, 256, 288, 320, 256, 288, 320, 256}},
};

static int64_t size_of(const struct shr_type *types, size_t n, int axis, const int64_t *from)
{
    const char *sym = types[n].sym[axis];
    size_t seen = 0;
    for (size_t i = 0; i <= n; i++) {
        for (int d = 0; d < types[i].rank; d++) {
            if (i == n && d == axis) {
                return from[seen % PRIMES];
            }
            const char *other = types[i].sym[d];
            if (sym != NULL && other != NULL && strcmp(sym, other) == 0) {
                return from[seen % PRIMES];
            }
            seen += types[i].dim[d] < 0;
        }
    }
    return from[0];
}

struct keeper {
    struct shr_channels *c;
    int which; /* probe */
};

static int keep_known(void *user, const struct shr_value *v, const struct shr_tensor *data,
                      struct shr_err *err)
{
    const struct keeper *keeper = user;
    size_t n = shr_tensor_bytes(data);
    struct shr_tensor *copy = shr_arena_new(&keeper->c->arena, 1, sizeof *copy);
    void *bytes = shr_arena_new(&keeper->c->arena, n + 1, 1);
    if (copy == NULL || bytes == NULL) {
        return no_memory(err);
    }
    *copy = *data;
    copy->storage = NULL;
    copy->data = memcpy(bytes, data->data, n);
    return shr_map_put(&keeper->c->known[keeper->which], v->name, copy, err);
}

/* A clone with types for sizes[set][which]; set < 0: as declared. */
static int probe(const struct shr_model *model, int set, int which, shr_known_fn tell, void *user,
                 struct shr_model **ret, struct shr_err *err)
{
    struct shr_model *clone = NULL;
    int code = shr_model_clone(model, &clone, err);
    if (code != SHR_OK) {
        return code;
    }
    size_t n = 0;
    struct shr_type *types =
        shr_mem_new(model->graph.n_inputs + 1, sizeof *types); /* of the true inputs */
    for (size_t i = 0; i < model->graph.n_inputs && types != NULL; i++) {
        if (!shr_value_is_constant(model->graph.inputs[i])) {
            types[n++] = model->graph.inputs[i]->type;
        }
    }
    for (size_t i = n; i-- > 0 && set >= 0;) {
        for (int d = types[i].rank - 1; d >= 0; d--) {
            if (types[i].dim[d] < 0) {
                types[i].dim[d] = size_of(types, i, d, sizes[set][which]);
            }
        }
    }
    code = types == NULL ? no_memory(err) : SHR_OK;
    if (code == SHR_OK) {
        code = shr_model_infer_known(clone, set < 0 ? NULL : types, tell, user, err);
    }
    shr_mem_free(types);
    if (code != SHR_OK) {
        shr_model_free(clone);
        return code;
    }
    *ret = clone;
    return SHR_OK;
}

int shr_channels_probe(const struct shr_model *model, int set, struct shr_channels *ret,
                       struct shr_err *err)
{
    struct shr_model *two[2] = {NULL, NULL};
    for (int which = 0; which < 2; which++) {
        struct keeper keeper = {ret, which};
        int code = probe(model, set, which, keep_known, &keeper, &two[which], err);
        if (code != SHR_OK) {
            shr_model_free(two[0]);
            shr_map_finish(&ret->known[0]);
            shr_map_finish(&ret->known[1]);
            return code;
        }
    }
    ret->probe[0] = two[0];
    ret->probe[1] = two[1];
    ret->sizes = set;
    return SHR_OK;
}

static int probe_any(struct shr_channels *c, const struct shr_model *model, struct shr_err *err)
{
    for (int set = 0; set < (int)SHR_COUNT_OF(sizes); set++) {
        int code = shr_channels_probe(model, set, c, err);
        if (code == SHR_OK || code == SHR_ERR_NOMEM) {
            return code;
        }
    }
    return shr_channels_probe(model, -1, c, err);
}

/* ── The walk ───────────────────────────────────────────────────────────────────────────────── */

static bool is_used(const struct shr_value *v)
{
    return v != NULL && (v->n_uses > 0 || v->is_output || v->captured);
}

static void visit(struct shr_channel_walk *w, struct shr_node *node)
{
    const struct shr_channel_rule *rule = shr_channel_rule_find(node);
    w->node = node;
    if (rule == NULL) {
        shr_channels_refuse_inputs(w, node, 0, "an operator whose channels cannot be cut");
        return;
    }
    for (size_t i = 0; i < node->n_in && i < 32; i++) {
        struct shr_channel_map *map = (rule->plain >> i & 1) != 0 ? shr_map_in(w, node, i) : NULL;
        if (map != NULL && map->weight) {
            map->plain = true;
        }
    }
    if (rule->visit != NULL) {
        rule->visit(w, node, rule);
    } else {
        shr_channels_join(w, node, rule->spec, rule);
    }
    for (size_t i = 1; i < node->n_out; i++) {
        if (is_used(node->out[i]) && shr_channels_map(w->c, node->out[i]) == NULL) {
            shr_channels_refuse_inputs(w, node, 0, "an output of it is used that is not followed");
        }
    }
    w->node = NULL;
}

/* Values that others than nodes read stay as they are. */
static void refuse_ends(struct shr_channel_walk *w, const struct shr_graph *g,
                        const struct shr_map *refused)
{
    SHR_EACH_VALUE (v, g) {
        struct shr_channel_map *map = shr_channels_map(w->c, v);
        const char *why = refused == NULL ? NULL : shr_map_get(refused, v->name);
        bool end = v->is_output || v->captured || why != NULL;
        for (int i = 0; map != NULL && end && i < map->n_parts && !w->failed; i++) {
            char text[256];
            snprintf(text, sizeof text, "'%s': %s", v->name,
                     v->is_output  ? "an output of the model"
                     : v->captured ? "read by a subgraph"
                                   : why);
            shr_channels_refuse(w, map->part[i], text);
        }
    }
}

/* ── Which axis is cut ──────────────────────────────────────────────────────────────────────── */

/* How many units there are along the k-th axis. stamp: by root, the last count that met it. */
static int64_t units_along(struct shr_channel_walk *w, const struct shr_channel_part *p, int k,
                           int32_t *stamp, int32_t now)
{
    int64_t inner = 1, units = 0;
    for (int i = k + 1; i < p->n_axes; i++) {
        inner *= p->dim[i];
    }
    for (int64_t i = 0; i < p->dim[k]; i++) {
        int32_t entry = p->channel[i * inner];
        int32_t *seen = entry < 0 ? NULL : &stamp[shr_channel_root(w->c, entry)];
        units += seen != NULL && *seen != now;
        if (seen != NULL) {
            *seen = now;
        }
    }
    return units;
}

/* Chooses the axis that leaves the most units, and makes one what is cut together along it. */
static void settle(struct shr_channel_walk *w, struct shr_channel_part *p, int32_t *stamp,
                   int32_t *now)
{
    int64_t best = -1, inner = 1;
    for (int k = 0; k < p->n_axes; k++) {
        int64_t units = units_along(w, p, k, stamp, ++*now);
        if (units > best) {
            best = units;
            p->cut = k;
        }
    }
    for (int i = p->cut + 1; i < p->n_axes; i++) {
        inner *= p->dim[i];
    }
    int64_t size = inner * p->dim[p->cut];
    for (int64_t i = 0; i < p->n; i++) {
        shr_channels_unite(w, p->channel[i % size / inner * inner], p->channel[i]);
    }
}

static void settle_all(struct shr_channel_walk *w)
{
    int32_t *stamp = shr_mem_new(w->c->list.n + 1, sizeof *stamp), now = 0;
    w->failed = w->failed || stamp == NULL;
    for (size_t i = 0; i < w->c->parts.n && !w->failed; i++) {
        if (w->c->parts.v[i]->n_axes > 1) {
            settle(w, w->c->parts.v[i], stamp, &now);
        }
    }
    shr_mem_free(stamp);
}

/* ── Units and groups ───────────────────────────────────────────────────────────────────────── */

static bool is_maker(const struct shr_channel_use *use)
{
    return use->role == SHR_CHANNEL_OUT;
}

static size_t find_use(struct shr_channels *c, size_t i)
{
    while (c->uses.v[i].group != i) {
        i = c->uses.v[i].group;
    }
    return i;
}

/* Layers that share a unit that may go get the same group: the first of them. owner: by root. */
static void join_layers(struct shr_channels *c, size_t *owner)
{
    for (size_t i = 0; i < c->uses.n; i++) {
        struct shr_channel_use *use = &c->uses.v[i];
        use->group = i;
        for (int64_t j = 0; is_maker(use) && j < use->part->n; j++) {
            int32_t root =
                use->part->channel[j] < 0 ? -1 : shr_channel_root(c, use->part->channel[j]);
            if (root < 0) {
                continue;
            }
            if (owner[root] == SIZE_MAX) {
                owner[root] = i;
                continue;
            }
            size_t a = find_use(c, owner[root]), b = find_use(c, i);
            c->uses.v[a > b ? a : b].group = a < b ? a : b;
        }
    }
}

/* Gives groups their places, and units theirs within. at: by use, the group's index. */
static int number(struct shr_channels *c, size_t *owner, size_t *at, struct shr_err *err)
{
    for (size_t i = 0; i < c->uses.n; i++) {
        if (!is_maker(&c->uses.v[i])) {
            continue;
        }
        size_t first = find_use(c, i);
        if (first == i) {
            struct shr_channel_group *group = SHR_VEC_ADD(&c->groups);
            if (group == NULL) {
                return no_memory(err);
            }
            at[i] = c->groups.n - 1;
            group->node = c->uses.v[i].node;
        }
        at[i] = at[first];
    }
    for (int turn = 0; turn < 2; turn++) { /* count, then number */
        for (size_t i = 0; i < c->list.n; i++) {
            struct shr_channel *one = &c->list.v[i];
            if (one->same != (int32_t)i || owner[i] == SIZE_MAX) {
                continue;
            }
            struct shr_channel_group *group = &c->groups.v[at[owner[i]]];
            if (one->why != NULL) {
                group->stay += turn == 0;
                group->why = group->why != NULL ? group->why : one->why;
            } else if (turn == 0) {
                group->n++;
            } else {
                one->unit = (int32_t)(group->first + group->numbered++);
            }
        }
        for (size_t i = 0; i < c->groups.n && turn == 0; i++) {
            c->groups.v[i].first = c->n;
            c->n += c->groups.v[i].n;
        }
    }
    for (size_t i = 0; i < c->uses.n; i++) {
        c->uses.v[i].group = is_maker(&c->uses.v[i]) ? at[i] : SIZE_MAX;
    }
    return SHR_OK;
}

static int group(struct shr_channels *c, struct shr_err *err)
{
    size_t *owner = shr_mem_new(c->list.n + 1, sizeof *owner);
    size_t *at = shr_mem_new(c->uses.n + 1, sizeof *at);
    int code = owner == NULL || at == NULL ? no_memory(err) : SHR_OK;
    if (code == SHR_OK) {
        memset(owner, 0xff, (c->list.n + 1) * sizeof *owner);
        join_layers(c, owner);
        code = number(c, owner, at, err);
    }
    shr_mem_free(owner);
    shr_mem_free(at);
    return code;
}

int shr_channels_find(struct shr_channels *ret, struct shr_model *model,
                      const struct shr_arg *nodes, const struct shr_map *refused,
                      struct shr_err *err)
{
    struct shr_channels c = {0};
    struct shr_channel_walk w = {.c = &c, .nodes = nodes};
    int code = probe_any(&c, model, err);
    if (code == SHR_OK) {
        SHR_EACH_NODE (node, &model->graph) {
            if (!w.failed) {
                visit(&w, node);
            }
        }
        refuse_ends(&w, &model->graph, refused);
        settle_all(&w);
        code = w.failed ? no_memory(err) : group(&c, err);
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
    shr_map_finish(&c->known[0]);
    shr_map_finish(&c->known[1]);
    SHR_VEC_FINISH(&c->list);
    SHR_VEC_FINISH(&c->parts);
    SHR_VEC_FINISH(&c->groups);
    SHR_VEC_FINISH(&c->uses);
    shr_model_free(c->probe[0]);
    shr_model_free(c->probe[1]);
    shr_arena_finish(&c->arena);
}

int64_t shr_channels_unit(struct shr_channels *c, int32_t entry)
{
    return entry < 0 ? -1 : c->list.v[shr_channel_root(c, entry)].unit;
}

struct shr_channel_group *shr_channels_group(struct shr_channels *c, int64_t unit)
{
    size_t low = 0, high = c->groups.n;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (c->groups.v[middle].first <= unit) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &c->groups.v[low];
}
