/* Order of the nodes: numbering, topological sorting, removal of what nothing needs. */
#include "base/mem.h"
#include "graph/graph.h"

void shr_graph_number(struct shr_graph *g)
{
    size_t i = 0;
    SHR_EACH_NODE (node, g) {
        node->index = i++;
    }
}

/* Value number i that the node needs: its inputs, then what its subgraphs read. */
static size_t need_count(const struct shr_node *node)
{
    return node->n_in + node->n_captures;
}

static struct shr_value *need(const struct shr_node *node, size_t i)
{
    return i < node->n_in ? node->in[i].value : node->captures[i - node->n_in];
}

static struct shr_node *need_producer(const struct shr_node *node, size_t i)
{
    const struct shr_value *v = need(node, i);
    return v == NULL ? NULL : v->producer;
}

static bool is_sorted(const struct shr_graph *g)
{
    SHR_EACH_NODE (node, g) {
        for (size_t i = 0; i < need_count(node); i++) {
            const struct shr_node *producer = need_producer(node, i);
            if (producer != NULL && producer->index >= node->index) {
                return false;
            }
        }
    }
    return true;
}

enum state { NEW = 0, OPEN, DONE };

struct visit { /* a node whose needs are being placed before it */
    struct shr_node *node;
    size_t need; /* the next to look at */
};

static int cycle_error(const struct visit *stack, const struct shr_node *start, struct shr_err *err)
{
    while (stack->node != start) {
        stack++;
    }
    char text[128];
    return shr_err_set(err, SHR_ERR_INVALID,
                       "the graph has a cycle: node '%s' needs '%s', which needs the node's output",
                       shr_node_label(start, text, sizeof text),
                       need(start, stack->need - 1)->name);
}

/* Depth first from root, without recursion: every node goes to order behind what it needs. */
static int place(struct shr_node *root, unsigned char *state, struct visit *stack,
                 struct shr_node **order, size_t *n_order, struct shr_err *err)
{
    size_t depth = 0;
    stack[depth++] = (struct visit){root, 0};
    state[root->index] = OPEN;
    while (depth > 0) {
        struct visit *top = &stack[depth - 1];
        if (top->need == need_count(top->node)) {
            state[top->node->index] = DONE;
            order[(*n_order)++] = top->node;
            depth--;
            continue;
        }
        struct shr_node *producer = need_producer(top->node, top->need++);
        if (producer == NULL || state[producer->index] == DONE) {
            continue;
        }
        if (state[producer->index] == OPEN) {
            return cycle_error(stack, producer, err);
        }
        state[producer->index] = OPEN;
        stack[depth++] = (struct visit){producer, 0};
    }
    return SHR_OK;
}

static void relink(struct shr_graph *g, struct shr_node **order, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        order[i]->prev = i == 0 ? NULL : order[i - 1];
        order[i]->next = i + 1 == n ? NULL : order[i + 1];
    }
    g->first_node = order[0];
    g->last_node = order[n - 1];
    shr_graph_number(g);
}

int shr_graph_sort(struct shr_graph *g, struct shr_err *err)
{
    shr_graph_number(g);
    if (is_sorted(g)) {
        return SHR_OK;
    }
    int code = SHR_OK;
    size_t n_order = 0;
    unsigned char *state = shr_mem_new(g->n_nodes, 1);
    struct visit *stack = shr_mem_new(g->n_nodes, sizeof *stack);
    struct shr_node **order = shr_mem_new(g->n_nodes, sizeof *order);
    if (state == NULL || stack == NULL || order == NULL) {
        code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %zu nodes", g->n_nodes);
        goto out;
    }
    SHR_EACH_NODE (node, g) {
        if (state[node->index] == NEW) {
            code = place(node, state, stack, order, &n_order, err);
            if (code != SHR_OK) {
                goto out;
            }
        }
    }
    relink(g, order, n_order);
out:
    shr_mem_free(order);
    shr_mem_free(stack);
    shr_mem_free(state);
    return code;
}

/* ── Removal of what nothing needs ──────────────────────────────────────────────────────────── */

static bool node_is_needed(const struct shr_node *node)
{
    for (size_t i = 0; i < node->n_out; i++) {
        const struct shr_value *v = node->out[i];
        if (v != NULL && (v->n_uses > 0 || v->is_output || v->captured)) {
            return true;
        }
    }
    return false;
}

/* An initializer that the file lists among the inputs may go; a true input may not. */
static bool value_is_needed(const struct shr_value *v)
{
    return v->producer != NULL || v->n_uses > 0 || v->is_output || v->captured ||
           (v->is_input && !shr_value_is_constant(v));
}

static void mark_captures(struct shr_value *const *captures, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        captures[i]->captured = true;
    }
}

/* From the last node to the first, so that what fed only unused nodes is unused when its turn
 * comes; the captured marks are made anew from the nodes that stay. */
static size_t drop_nodes(struct shr_graph *g)
{
    size_t dropped = 0;
    SHR_EACH_VALUE (v, g) {
        v->captured = false;
    }
    mark_captures(g->captures, g->n_captures);
    for (struct shr_node *node = g->last_node, *prev; node != NULL; node = prev) {
        prev = node->prev;
        if (node_is_needed(node)) {
            mark_captures(node->captures, node->n_captures);
        } else {
            shr_graph_remove_node(g, node);
            dropped++;
        }
    }
    return dropped;
}

size_t shr_graph_drop_unused(struct shr_graph *g)
{
    const size_t dropped = drop_nodes(g);
    size_t n_inputs = 0;
    for (size_t i = 0; i < g->n_inputs; i++) {
        struct shr_value *v = g->inputs[i];
        v->is_input = value_is_needed(v);
        if (v->is_input) {
            g->inputs[n_inputs++] = v;
        }
    }
    g->n_inputs = n_inputs;
    for (struct shr_value *v = g->first_value, *next; v != NULL; v = next) {
        next = v->next;
        if (!value_is_needed(v)) {
            shr_graph_remove_value(g, v);
        }
    }
    return dropped;
}
