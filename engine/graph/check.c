/* Proof of the invariants of the graph (see graph.h). A failure here is a bug of the pass that made
 * the graph, so the codes are INTERNAL and the messages say which link or rule is broken. */
#include <string.h>

#include "graph/graph.h"

static int broken_value(const struct shr_value *v, const char *what, struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_INTERNAL, "value '%s' %s", v->name, what);
}

static int broken_node(const struct shr_node *node, const char *what, struct shr_err *err)
{
    char text[128];
    return shr_err_set(err, SHR_ERR_INTERNAL, "node '%s' %s",
                       shr_node_label(node, text, sizeof text), what);
}

static int check_constant(const struct shr_value *v, struct shr_err *err)
{
    if (!shr_value_is_constant(v)) {
        return SHR_OK;
    }
    const struct shr_tensor *t = &v->constant;
    if (v->type.dtype != t->dtype || v->type.rank != t->rank ||
        memcmp(v->type.dim, t->dim, (size_t)t->rank * sizeof t->dim[0]) != 0) {
        return broken_value(v, "has another type than its data", err);
    }
    return SHR_OK;
}

/* Each edge in the list of a value is the slot of a node that names this value. */
static int check_uses(const struct shr_value *v, struct shr_err *err)
{
    size_t n = 0;
    const struct shr_edge *prev = NULL;
    SHR_EACH_USE (use, v) {
        if (n == v->n_uses || use->prev != prev || use->value != v ||
            use->slot >= use->node->n_in || &use->node->in[use->slot] != use) {
            return broken_value(v, "has a broken list of uses", err);
        }
        prev = use;
        n++;
    }
    if (n != v->n_uses || v->last_use != prev) {
        return broken_value(v, "counts its uses wrong", err);
    }
    return SHR_OK;
}

static int check_values(const struct shr_graph *g, size_t *ret_uses, size_t *ret_produced,
                        struct shr_err *err)
{
    size_t n = 0;
    const struct shr_value *prev = NULL;
    SHR_EACH_VALUE (v, g) {
        if (v->name == NULL || v->name[0] == 0) {
            return shr_err_set(err, SHR_ERR_INTERNAL, "a value has no name");
        }
        if (n == g->n_values || v->prev != prev || v->graph != g) {
            return broken_value(v, "is linked wrong", err);
        }
        if (shr_graph_find(g, v->name) != v) {
            return broken_value(v, "is not the one that its name finds", err);
        }
        if (v->producer == NULL) {
            if (v->n_uses + v->is_output + v->captured > 0 && !v->is_input &&
                !shr_value_is_constant(v)) {
                return broken_value(v, "is read but nothing computes it", err);
            }
        } else if (v->is_input) {
            return broken_value(v, "is both an input and computed", err);
        }
        int code = check_uses(v, err);
        code = code == SHR_OK ? check_constant(v, err) : code;
        if (code != SHR_OK) {
            return code;
        }
        *ret_uses += v->n_uses;
        *ret_produced += v->producer != NULL;
        prev = v;
        n++;
    }
    if (n != g->n_values || g->last_value != prev || g->values.n != n) {
        return shr_err_set(err, SHR_ERR_INTERNAL, "the graph counts its values wrong");
    }
    return SHR_OK;
}

static int check_links(const struct shr_graph *g, const struct shr_node *node, size_t *uses,
                       size_t *produced, struct shr_err *err)
{
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_edge *edge = &node->in[i];
        if (edge->node != node || edge->slot != i) {
            return broken_node(node, "has an input slot that belongs to another", err);
        }
        if (edge->value != NULL && shr_graph_find(g, edge->value->name) != edge->value) {
            return broken_node(node, "reads a value that is not in the graph", err);
        }
        *uses += edge->value != NULL;
    }
    for (size_t i = 0; i < node->n_out; i++) {
        const struct shr_value *v = node->out[i];
        if (v == NULL) {
            continue;
        }
        if (v->producer != node || v->producer_slot != i) {
            return broken_node(node, "is not the producer that its output names", err);
        }
        if (shr_graph_find(g, v->name) != v) {
            return broken_node(node, "computes a value that is not in the graph", err);
        }
        (*produced)++;
    }
    for (size_t i = 0; i < node->n_captures; i++) {
        const struct shr_value *v = node->captures[i];
        if (!v->captured || shr_graph_find(g, v->name) != v) {
            return broken_node(node, "captures a value that is not marked or not there", err);
        }
    }
    return SHR_OK;
}

/* done holds the outputs of the nodes before this one. */
static int check_order(struct shr_map *done, const struct shr_node *node, struct shr_err *err)
{
    for (size_t i = 0; i < node->n_in + node->n_captures; i++) {
        const struct shr_value *v =
            i < node->n_in ? node->in[i].value : node->captures[i - node->n_in];
        if (v != NULL && v->producer != NULL && shr_map_get(done, v->name) == NULL) {
            return broken_node(node, "stands before a node whose output it needs", err);
        }
    }
    for (size_t i = 0; i < node->n_out; i++) {
        if (node->out[i] != NULL) {
            int code = shr_map_put(done, node->out[i]->name, node->out[i], err);
            if (code != SHR_OK) {
                return code;
            }
        }
    }
    return SHR_OK;
}

static int check_nodes(const struct shr_graph *g, size_t *ret_uses, size_t *ret_produced,
                       struct shr_err *err)
{
    int code = SHR_OK;
    struct shr_map done = {0};
    size_t n = 0;
    const struct shr_node *prev = NULL;
    SHR_EACH_NODE (node, g) {
        if (n == g->n_nodes || node->prev != prev) {
            code = broken_node(node, "is linked wrong", err);
            goto out;
        }
        code = check_links(g, node, ret_uses, ret_produced, err);
        code = code == SHR_OK ? check_order(&done, node, err) : code;
        if (code != SHR_OK) {
            goto out;
        }
        prev = node;
        n++;
    }
    if (n != g->n_nodes || g->last_node != prev) {
        code = shr_err_set(err, SHR_ERR_INTERNAL, "the graph counts its nodes wrong");
    }
out:
    shr_map_finish(&done);
    return code;
}

static int check_interface(const struct shr_graph *g, struct shr_err *err)
{
    size_t n_inputs = 0, n_outputs = 0;
    SHR_EACH_VALUE (v, g) {
        n_inputs += v->is_input;
        n_outputs += v->is_output;
    }
    if (n_inputs != g->n_inputs || n_outputs != g->n_outputs) {
        return shr_err_set(err, SHR_ERR_INTERNAL,
                           "%zu values are inputs and %zu outputs, the graph lists %zu and %zu",
                           n_inputs, n_outputs, g->n_inputs, g->n_outputs);
    }
    for (size_t i = 0; i < g->n_inputs; i++) {
        if (!g->inputs[i]->is_input || shr_graph_find(g, g->inputs[i]->name) != g->inputs[i]) {
            return broken_value(g->inputs[i], "is listed as input but is none", err);
        }
    }
    for (size_t i = 0; i < g->n_outputs; i++) {
        if (!g->outputs[i]->is_output || shr_graph_find(g, g->outputs[i]->name) != g->outputs[i]) {
            return broken_value(g->outputs[i], "is listed as output but is none", err);
        }
    }
    return SHR_OK;
}

int shr_graph_check(const struct shr_graph *g, struct shr_err *err)
{
    size_t uses = 0, slots = 0, produced = 0, outputs = 0;
    int code = check_values(g, &uses, &produced, err);
    code = code == SHR_OK ? check_nodes(g, &slots, &outputs, err) : code;
    code = code == SHR_OK ? check_interface(g, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    if (uses != slots || produced != outputs) {
        return shr_err_set(err, SHR_ERR_INTERNAL, "edges disagree at their ends");
    }
    return SHR_OK;
}
