/* How the axes of a node's inputs meet; see channels_walk.h.
 *
 * DESIGN: a spec names the axes of every input and of output 0, as an einsum does, e.g. Conv
 * "NIs,Oik,O->NOs". Inputs are parted by commas:
 *   A–Z  one axis: what bears the same letter is of one size (or 1), so its channels become one;
 *   *    all axes not named, counted from the right, as broadcasting has it;
 *   a–z  all axes not named, which are not cut;
 *   -    an input that says nothing of channels.
 * Letters missing on the right side are summed over. A part of several axes that meets one of some
 * of these keeps its first axis for cutting (heads, groups), the others stay whole. */
#include <string.h>

#include "passes/channels_walk.h"

enum { LETTERS = 26, STARS = 32, MAX_IDS = 64, STAYS = -1 };

struct operand {
    int rank, id[SHR_MAX_RANK]; /* by axis */
    int64_t dim[SHR_MAX_RANK];
    int n_parts;
    struct shr_channel_part *part[SHR_MAX_RANK]; /* axes are ids */
};

struct join {
    struct shr_channel_walk *w;
    struct operand *in;
    size_t n;
};

/* The ids of the axes of one side of a comma; false = the rank does not fit. */
static bool read_ids(const char *spec, int rank, int *id)
{
    int n = (int)strcspn(spec, ",-"), named = 0, i = 0;
    for (int k = 0; k < n; k++) {
        named += spec[k] >= 'A' && spec[k] <= 'Z';
    }
    if (named > rank || (named == n && rank != named)) {
        return false;
    }
    for (int k = 0; k < n; k++) {
        if (spec[k] >= 'A' && spec[k] <= 'Z') {
            id[i++] = spec[k] - 'A';
            continue;
        }
        for (int rest = rank - named; rest > 0; rest--) {
            id[i++] = spec[k] == '*' ? STARS + rest : STAYS;
        }
    }
    return true;
}

/* Drops the axis from every part; why says why it stays. */
static void keep(struct join *j, int id, const char *why)
{
    for (size_t i = 0; i < j->n; i++) {
        struct operand *in = &j->in[i];
        for (int k = 0; k < in->n_parts; k++) {
            in->part[k] = shr_part_keep(j->w, in->part[k], id, why);
        }
    }
}

static struct shr_channel_part *part_with(const struct operand *in, int id)
{
    for (int k = 0; k < in->n_parts; k++) {
        if (shr_part_find(in->part[k], id) >= 0) {
            return in->part[k];
        }
    }
    return NULL;
}

/* An axis that one of those that have it in full has no channels for stays. */
static void check_sizes(struct join *j, int id)
{
    bool any = false, all = true;
    int64_t size = 1;
    for (size_t i = 0; i < j->n; i++) {
        for (int d = 0; d < j->in[i].rank; d++) {
            if (j->in[i].id[d] != id || j->in[i].dim[d] == 1) {
                continue;
            }
            bool has = part_with(&j->in[i], id) != NULL;
            any = any || has;
            all = all && has && (size == 1 || size == j->in[i].dim[d]);
            size = j->in[i].dim[d];
        }
    }
    if (any && !all) {
        keep(j, id, "they meet there what stays as it is");
    }
}

static bool same_axes(const struct shr_channel_part *a, const struct shr_channel_part *b)
{
    bool same = a->n_axes == b->n_axes;
    for (int i = 0; i < a->n_axes && same; i++) {
        int k = shr_part_find(b, a->axis[i]);
        same = k >= 0 && b->dim[k] == a->dim[i];
    }
    return same;
}

static bool meet(const struct shr_channel_part *a, const struct shr_channel_part *b)
{
    for (int i = 0; a != NULL && b != NULL && i < a->n_axes; i++) {
        if (shr_part_find(b, a->axis[i]) >= 0) {
            return true;
        }
    }
    return false;
}

/* Makes what meets `p` be of the same axes and one with it; false = p itself had to change. */
static bool settle(struct join *j, struct shr_channel_part *p)
{
    int to[SHR_MAX_RANK];
    for (size_t i = 0; i < j->n && !j->w->failed; i++) {
        for (int k = 0; k < j->in[i].n_parts; k++) {
            struct shr_channel_part *q = j->in[i].part[k];
            if (q == NULL || q == p || !meet(p, q)) {
                continue;
            }
            if (!same_axes(p, q)) {
                const struct shr_channel_part *big = q->n_axes > p->n_axes ? q : p;
                int first = big->axis[0], n = big->n_axes, ids[SHR_MAX_RANK];
                memcpy(ids, big->axis, sizeof ids);
                for (int a = 0; a < n; a++) {
                    if (ids[a] != first) {
                        keep(j, ids[a], "only a part of them meets what is there");
                    }
                }
                return false;
            }
            for (int a = 0; a < q->n_axes; a++) {
                to[a] = shr_part_find(p, q->axis[a]);
            }
            struct shr_channel_part *r = shr_part_rename(j->w, q, to);
            for (int64_t e = 0; r != NULL && e < p->n; e++) {
                shr_channels_unite(j->w, p->channel[e], r->channel[e]);
            }
        }
    }
    return true;
}

static bool settle_all(struct join *j)
{
    for (size_t i = 0; i < j->n && !j->w->failed; i++) {
        for (int k = 0; k < j->in[i].n_parts; k++) {
            if (j->in[i].part[k] != NULL && !settle(j, j->in[i].part[k])) {
                return false;
            }
        }
    }
    return true;
}

/* Gives the output what is left, each list of axes once. */
static void emit(struct join *j, struct shr_channel_map *out, const int *id)
{
    bool done[MAX_IDS + 1] = {false};
    for (size_t i = 0; i < j->n; i++) {
        for (int k = 0; k < j->in[i].n_parts; k++) {
            struct shr_channel_part *p = j->in[i].part[k];
            int to[SHR_MAX_RANK];
            for (int a = 0; p != NULL && a < p->n_axes; a++) {
                int d = 0;
                for (; d < out->rank && id[d] != p->axis[a]; d++) {
                }
                if (d == out->rank) { /* summed over */
                    p = p->n_axes == 1 ? NULL : shr_part_keep(j->w, p, p->axis[a], "");
                    a = -1;
                    continue;
                }
                to[a] = d;
            }
            if (p == NULL || done[p->axis[0]]) {
                continue;
            }
            for (int a = 0; a < p->n_axes; a++) {
                done[p->axis[a]] = true;
            }
            shr_map_add(j->w, out, shr_part_rename(j->w, p, to));
        }
    }
}

static bool read_operand(struct shr_channel_walk *w, struct shr_node *node, size_t slot,
                         const char *spec, struct operand *ret)
{
    const struct shr_channel_map *map = shr_map_in(w, node, slot);
    if (map == NULL) {
        return shr_node_in(node, slot) == NULL;
    }
    ret->rank = map->rank;
    memcpy(ret->dim, map->dim, sizeof ret->dim);
    bool scalar = map->rank == 0 || (map->rank == 1 && map->dim[0] == 1);
    if (scalar && spec[0] != '*' && strcspn(spec, ",-") != (size_t)map->rank) {
        ret->rank = 0; /* one number for all */
        return true;
    }
    if (!read_ids(spec, map->rank, ret->id)) {
        return false;
    }
    for (int i = 0; i < map->n_parts; i++) {
        struct shr_channel_part *p = map->part[i];
        int to[SHR_MAX_RANK];
        for (int a = 0; p != NULL && a < p->n_axes; a++) {
            if (ret->id[p->axis[a]] == STAYS) {
                p = shr_part_keep(w, p, p->axis[a], "it does not treat them one by one");
                a = -1;
                continue;
            }
            to[a] = ret->id[p->axis[a]];
        }
        /* not by shr_part_rename, which would sort: the order of axes tells the first of heads */
        struct shr_channel_part *r = p == NULL ? NULL : shr_arena_new(&w->c->arena, 1, sizeof *r);
        if (r != NULL) {
            *r = *p;
            memcpy(r->axis, to, sizeof to);
            ret->part[ret->n_parts++] = r;
        }
        w->failed = w->failed || (p != NULL && r == NULL);
    }
    return true;
}

static void add_roles(struct shr_channel_walk *w, struct shr_node *node, size_t slot,
                      const struct operand *in)
{
    const struct shr_channel_map *map = shr_map_in(w, node, slot);
    for (int d = 0; d < in->rank && map != NULL && map->weight; d++) {
        if (in->id[d] == 'O' - 'A') {
            shr_channels_add_use(w, SHR_CHANNEL_OUT, node, slot, d);
        } else if (in->id[d] == 'I' - 'A') {
            shr_channels_add_use(w, SHR_CHANNEL_IN, node, slot, d);
        }
    }
}

void shr_channels_join(struct shr_channel_walk *w, struct shr_node *node, const char *spec,
                       const struct shr_channel_rule *rule)
{
    const char *out_spec = strstr(spec, "->") + 2, *one = spec;
    struct join j = {w, shr_arena_new(&w->c->arena, node->n_in + 1, sizeof *j.in), node->n_in};
    w->failed = w->failed || j.in == NULL;
    bool weights = true;
    for (size_t slot = 0; slot < node->n_in && !w->failed; slot++) {
        if (one[0] == '-' && one[1] != '>') {
            shr_channels_refuse_input(w, node, slot, "they are a parameter there");
        } else if (!read_operand(w, node, slot, one, &j.in[slot])) {
            shr_channels_refuse_inputs(w, node, 0, "its inputs are of a rank that does not fit");
            return;
        }
        const struct shr_channel_map *map = shr_map_in(w, node, slot);
        weights = weights && (map == NULL || map->weight);
        if (rule->weight > 0 && slot == (size_t)rule->weight) {
            add_roles(w, node, slot, &j.in[slot]);
        }
        const char *comma = strpbrk(one, ",>");
        one = comma[0] == ',' ? comma + 1 : one; /* the last stands for all that follow */
    }
    for (int id = 0; id < MAX_IDS && !w->failed; id++) {
        check_sizes(&j, id);
    }
    while (!w->failed && !settle_all(&j)) {
    }
    int id[SHR_MAX_RANK];
    struct shr_channel_map *out = w->failed ? NULL : shr_map_out(w, node, 0);
    if (out == NULL || !read_ids(out_spec, out->rank, id)) {
        shr_channels_refuse_inputs(w, node, 0, "its output is of a rank that does not fit");
        return;
    }
    emit(&j, out, id);
    out->weight = weights;
}
