/* Editing of the graph: values, nodes and the edges between them; see graph.h.
 *
 * Every function leaves all links at both ends as the invariants want them, also on failure: memory
 * is taken first, then links are changed. Unlinked objects stay in the arena until its end, but
 * give their tensors back at once. */
#include "graph/graph.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the graph");
}

/* ── Values ─────────────────────────────────────────────────────────────────────────────────── */

struct shr_value *shr_graph_find(const struct shr_graph *g, const char *name)
{
    return shr_map_get(&g->values, name);
}

/* name must live in the arena and be free. */
static int link_value(struct shr_graph *g, const char *name, struct shr_value **ret,
                      struct shr_err *err)
{
    struct shr_value *v = shr_arena_new(g->arena, 1, sizeof *v);
    if (v == NULL) {
        return no_memory(err);
    }
    int code = shr_map_put(&g->values, name, v, err);
    if (code != SHR_OK) {
        return code;
    }
    v->graph = g;
    v->name = name;
    v->type.rank = -1;
    v->prev = g->last_value;
    if (g->last_value == NULL) {
        g->first_value = v;
    } else {
        g->last_value->next = v;
    }
    g->last_value = v;
    g->n_values++;
    *ret = v;
    return SHR_OK;
}

int shr_graph_add_value(struct shr_graph *g, const char *name, struct shr_value **ret,
                        struct shr_err *err)
{
    if (name[0] == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "a value needs a name");
    }
    if (shr_graph_find(g, name) != NULL) {
        return shr_err_set(err, SHR_ERR_CONFLICT, "the name '%s' is taken", name);
    }
    const char *copy = shr_arena_strdup(g->arena, name);
    return copy == NULL ? no_memory(err) : link_value(g, copy, ret, err);
}

static bool numbered_is_free(const struct shr_graph *g, const char *stem, size_t i, char *name,
                             size_t size)
{
    snprintf(name, size, "%s_%zu", stem, i);
    return shr_graph_find(g, name) == NULL;
}

/* Names with a number are mostly taken in a row from 1: doubling and halving finds the end of the
 * row, so that many values of one stem do not take quadratic time. */
int shr_graph_fresh_value(struct shr_graph *g, const char *stem, struct shr_value **ret,
                          struct shr_err *err)
{
    const size_t size = strlen(stem) + 24; /* "_" and the digits of a size_t */
    char *name = shr_arena_new(g->arena, 1, size);
    if (name == NULL) {
        return no_memory(err);
    }
    snprintf(name, size, "%s", stem);
    if (name[0] == 0 || shr_graph_find(g, name) != NULL) {
        size_t taken = 0, end = 1;
        while (!numbered_is_free(g, stem, end, name, size)) {
            taken = end;
            end *= 2;
        }
        while (end - taken > 1) {
            const size_t middle = taken + (end - taken) / 2;
            *(numbered_is_free(g, stem, middle, name, size) ? &end : &taken) = middle;
        }
        snprintf(name, size, "%s_%zu", stem, end);
    }
    return link_value(g, name, ret, err);
}

int shr_graph_add_constant(struct shr_graph *g, const char *stem, struct shr_tensor take_tensor,
                           struct shr_value **ret, struct shr_err *err)
{
    struct shr_value *v;
    int code = shr_graph_fresh_value(g, stem, &v, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&take_tensor);
        return code;
    }
    shr_value_set_constant(v, take_tensor);
    *ret = v;
    return SHR_OK;
}

void shr_value_set_constant(struct shr_value *v, struct shr_tensor take_tensor)
{
    shr_tensor_finish(&v->constant);
    v->constant = take_tensor;
    v->store = SHR_STORE_DENSE;
    v->type = (struct shr_type){.dtype = take_tensor.dtype, .rank = take_tensor.rank};
    memcpy(v->type.dim, take_tensor.dim, sizeof v->type.dim);

    /* A Constant node holds its data in its one attribute, in one of several forms. */
    if (shr_node_is(v->producer, "Constant") && v->producer->attrs != NULL) {
        struct shr_attr *attr = v->producer->attrs;
        shr_tensor_finish(&attr->tensor);
        *attr = (struct shr_attr){.next = attr->next,
                                  .name = "value",
                                  .kind = SHR_ATTR_TENSOR,
                                  .tensor = shr_tensor_ref(&v->constant)};
    }
}

/* Arrays of the arena double when their length reaches a power of two. */
static bool append_value(struct shr_arena *arena, struct shr_value ***list, size_t *n,
                         struct shr_value *v)
{
    if ((*n & (*n - 1)) == 0) {
        struct shr_value **bigger = shr_arena_new(arena, *n == 0 ? 1 : *n * 2, sizeof *bigger);
        if (bigger == NULL) {
            return false;
        }
        for (size_t i = 0; i < *n; i++) {
            bigger[i] = (*list)[i];
        }
        *list = bigger;
    }
    (*list)[(*n)++] = v;
    return true;
}

int shr_graph_add_input(struct shr_graph *g, struct shr_value *v, struct shr_err *err)
{
    if (v->is_input || v->producer != NULL) {
        return shr_err_set(err, SHR_ERR_CONFLICT, "'%s' cannot become a graph input: it is %s",
                           v->name, v->is_input ? "one already" : "computed by a node");
    }
    if (!append_value(g->arena, &g->inputs, &g->n_inputs, v)) {
        return no_memory(err);
    }
    v->is_input = v->was_declared = true;
    return SHR_OK;
}

int shr_graph_add_output(struct shr_graph *g, struct shr_value *v, struct shr_err *err)
{
    if (v->is_output) {
        return shr_err_set(err, SHR_ERR_CONFLICT, "'%s' is a graph output already", v->name);
    }
    if (!append_value(g->arena, &g->outputs, &g->n_outputs, v)) {
        return no_memory(err);
    }
    v->is_output = v->was_declared = true;
    return SHR_OK;
}

void shr_graph_remove_value(struct shr_graph *g, struct shr_value *v)
{
    const bool free_to_go = v->producer == NULL && v->uses == NULL && !v->is_input &&
                            !v->is_output && !v->captured && shr_graph_find(g, v->name) == v;
    assert(free_to_go);
    if (!free_to_go) {
        return;
    }
    shr_map_remove(&g->values, v->name);
    shr_tensor_finish(&v->constant);
    *(v->prev == NULL ? &g->first_value : &v->prev->next) = v->next;
    *(v->next == NULL ? &g->last_value : &v->next->prev) = v->prev;
    g->n_values--;
}

bool shr_value_is_constant(const struct shr_value *v)
{
    return v != NULL && v->constant.data != NULL;
}

struct shr_node *shr_value_single_use(const struct shr_value *v)
{
    return v->n_uses == 1 && !v->is_output && !v->captured ? v->uses->node : NULL;
}

/* ── Edges ──────────────────────────────────────────────────────────────────────────────────── */

static void unlink_edge(struct shr_edge *edge)
{
    struct shr_value *v = edge->value;
    if (v == NULL) {
        return;
    }
    *(edge->prev == NULL ? &v->uses : &edge->prev->next) = edge->next;
    *(edge->next == NULL ? &v->last_use : &edge->next->prev) = edge->prev;
    v->n_uses--;
    edge->value = NULL;
    edge->next = edge->prev = NULL;
}

static void link_edge(struct shr_edge *edge, struct shr_value *v)
{
    edge->value = v;
    if (v == NULL) {
        return;
    }
    edge->prev = v->last_use;
    *(v->last_use == NULL ? &v->uses : &v->last_use->next) = edge;
    v->last_use = edge;
    v->n_uses++;
}

void shr_node_set_input(struct shr_node *node, size_t slot, struct shr_value *value)
{
    assert(slot < node->n_in);
    unlink_edge(&node->in[slot]);
    link_edge(&node->in[slot], value);
}

/* n edges of a node, not linked yet. */
static struct shr_edge *edges_new(struct shr_arena *arena, struct shr_node *node, size_t n)
{
    struct shr_edge *edges = shr_arena_new(arena, n, sizeof *edges);
    for (size_t i = 0; edges != NULL && i < n; i++) {
        edges[i].node = node;
        edges[i].slot = i;
    }
    return edges;
}

int shr_node_resize_inputs(struct shr_graph *g, struct shr_node *node, size_t n_in,
                           struct shr_err *err)
{
    struct shr_edge *edges = edges_new(g->arena, node, n_in);
    if (edges == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < node->n_in; i++) {
        struct shr_value *v = node->in[i].value;
        unlink_edge(&node->in[i]);
        if (i < n_in) {
            link_edge(&edges[i], v);
        }
    }
    node->in = edges;
    node->n_in = n_in;
    return SHR_OK;
}

/* `to` becomes the graph output that `from` was, under its name. */
static void take_output(struct shr_graph *g, struct shr_value *from, struct shr_value *to)
{
    for (size_t i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i] == from) {
            g->outputs[i] = to;
        }
    }
    const char *name = to->name;
    struct shr_extra *extra = to->extra;
    to->name = from->name;
    to->extra = from->extra;
    from->name = name;
    from->extra = extra;
    /* Both keys are in the map, so nothing is allocated and nothing can fail. */
    int code = shr_map_put(&g->values, to->name, to, NULL);
    code |= shr_map_put(&g->values, from->name, from, NULL);
    assert(code == SHR_OK);
    (void)code;
    if (to->type.dtype == SHR_DTYPE_NONE || to->type.rank < 0) {
        to->type = from->type;
    }
    const bool was_declared = to->was_declared;
    to->was_declared = from->was_declared;
    from->was_declared = was_declared;
    to->is_output = true;
    from->is_output = false;
}

void shr_value_replace_uses(struct shr_value *from, struct shr_value *to)
{
    if (from == to) {
        return;
    }
    while (from->uses != NULL) {
        struct shr_edge *edge = from->uses;
        unlink_edge(edge);
        link_edge(edge, to);
    }
    if (from->is_output && !from->is_input && !from->captured && to->producer != NULL &&
        !to->is_output && !to->captured) {
        take_output(from->graph, from, to);
    }
}

/* ── Nodes ──────────────────────────────────────────────────────────────────────────────────── */

static int outputs_are_free(struct shr_value *const *out, size_t n_out, struct shr_err *err)
{
    for (size_t i = 0; i < n_out; i++) {
        if (out[i] == NULL) {
            continue;
        }
        const bool computed = out[i]->producer != NULL;
        if (computed || out[i]->is_input || shr_value_is_constant(out[i])) {
            return shr_err_set(err, SHR_ERR_CONFLICT,
                               "'%s' cannot become a node's output: it is %s", out[i]->name,
                               computed           ? "one already"
                               : out[i]->is_input ? "a graph input"
                                                  : "an initializer");
        }
        for (size_t j = 0; j < i; j++) {
            if (out[j] == out[i]) {
                return shr_err_set(err, SHR_ERR_CONFLICT, "'%s' is an output twice", out[i]->name);
            }
        }
    }
    return SHR_OK;
}

static void link_node(struct shr_graph *g, struct shr_node *node, struct shr_node *before)
{
    node->next = before;
    node->prev = before == NULL ? g->last_node : before->prev;
    *(node->prev == NULL ? &g->first_node : &node->prev->next) = node;
    *(before == NULL ? &g->last_node : &before->prev) = node;
    g->n_nodes++;
}

int shr_graph_add_node(struct shr_graph *g, struct shr_node *before, const char *domain,
                       const char *op_type, const char *name, struct shr_value *const *in,
                       size_t n_in, struct shr_value *const *out, size_t n_out,
                       struct shr_node **ret, struct shr_err *err)
{
    int code = outputs_are_free(out, n_out, err);
    if (code != SHR_OK) {
        return code;
    }
    struct shr_node *node = shr_arena_new(g->arena, 1, sizeof *node);
    if (node == NULL) {
        return no_memory(err);
    }
    node->domain = shr_arena_strdup(g->arena, domain);
    node->op_type = shr_arena_strdup(g->arena, op_type);
    node->name = shr_arena_strdup(g->arena, name);
    node->in = edges_new(g->arena, node, n_in);
    node->out = shr_arena_new(g->arena, n_out, sizeof *node->out);
    if (node->domain == NULL || node->op_type == NULL || node->name == NULL || node->in == NULL ||
        node->out == NULL) {
        return no_memory(err);
    }
    node->n_in = n_in;
    node->n_out = n_out;
    for (size_t i = 0; i < n_in; i++) {
        link_edge(&node->in[i], in[i]);
    }
    for (size_t i = 0; i < n_out; i++) {
        node->out[i] = out[i];
        if (out[i] != NULL) {
            out[i]->producer = node;
            out[i]->producer_slot = i;
        }
    }
    link_node(g, node, before);
    if (ret != NULL) {
        *ret = node;
    }
    return SHR_OK;
}

void shr_graph_remove_node(struct shr_graph *g, struct shr_node *node)
{
    for (size_t i = 0; i < node->n_in; i++) {
        unlink_edge(&node->in[i]);
    }
    for (size_t i = 0; i < node->n_out; i++) {
        if (node->out[i] != NULL) {
            node->out[i]->producer = NULL;
            node->out[i]->producer_slot = 0;
        }
    }
    for (struct shr_attr *attr = node->attrs; attr != NULL; attr = attr->next) {
        shr_tensor_finish(&attr->tensor);
        shr_model_free(attr->body);
    }
    *(node->prev == NULL ? &g->first_node : &node->prev->next) = node->next;
    *(node->next == NULL ? &g->last_node : &node->next->prev) = node->prev;
    node->next = node->prev = NULL;
    g->n_nodes--;
}

struct shr_value *shr_node_in(const struct shr_node *node, size_t slot)
{
    return slot < node->n_in ? node->in[slot].value : NULL;
}

struct shr_value *shr_node_out(const struct shr_node *node, size_t slot)
{
    return slot < node->n_out ? node->out[slot] : NULL;
}

bool shr_node_is(const struct shr_node *node, const char *op_type)
{
    return node != NULL && node->domain[0] == 0 && strcmp(node->op_type, op_type) == 0;
}

const char *shr_node_label(const struct shr_node *node, char *text, size_t size)
{
    if (node->name[0] != 0) {
        snprintf(text, size, "%s", node->name);
        return text;
    }
    const struct shr_value *out = NULL;
    for (size_t i = 0; out == NULL && i < node->n_out; i++) {
        out = node->out[i];
    }
    snprintf(text, size, "%s(%s)", node->op_type, out == NULL ? "" : out->name);
    return text;
}
