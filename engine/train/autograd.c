/* Building training graphs; see autograd.h. */
#include "train/autograd.h"

#include <string.h>

#include "base/mem.h"

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory while a training graph is built");
}

/* ── Inputs ─────────────────────────────────────────────────────────────────────────────────── */

/* What was known becomes an input of the same name and type. */
static int make_input(struct shr_model *model, struct shr_value *v, struct shr_err *err)
{
    if (v->producer != NULL) { /* a Constant, which leaves an initializer */
        shr_graph_remove_node(&model->graph, v->producer);
    }
    shr_tensor_finish(&v->constant);
    return v->is_input ? SHR_OK : shr_graph_add_input(&model->graph, v, err);
}

static int free_params(struct shr_grad *g, const struct shr_autograd_opts *opts,
                       struct shr_err *err)
{
    int rc = SHR_OK;
    for (size_t i = 0; i < opts->n_params && rc == SHR_OK; i++) {
        struct shr_value *v = shr_graph_find(&g->model->graph, opts->params[i]);
        if (v == NULL || !shr_value_is_constant(v) || v->constant.dtype != SHR_DTYPE_F32) {
            return shr_err_set(err, SHR_ERR_NOT_FOUND, "the model has no float32 initializer %s",
                               opts->params[i]);
        }
        if (v->captured) {
            return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                               "initializer %s is read inside of a node and cannot be trained",
                               opts->params[i]);
        }
        rc = make_input(g->model, v, err);
        if (rc == SHR_OK) {
            rc = shr_map_put(&g->wanted, v->name, v, err);
        }
    }
    return rc;
}

static int free_states(struct shr_grad *g, struct shr_err *err)
{
    int rc = SHR_OK;
    for (struct shr_grad_state *s = g->states; s != NULL && rc == SHR_OK; s = s->next) {
        rc = shr_value_is_constant(s->value) ? make_input(g->model, s->value, err) : SHR_OK;
    }
    return rc;
}

/* ── Forward ────────────────────────────────────────────────────────────────────────────────── */

/* Nodes in their training form. */
static int take_training_forms(struct shr_grad *g, struct shr_err *err)
{
    struct shr_node *next;
    for (struct shr_node *node = g->model->graph.first_node; node != NULL; node = next) {
        next = node->next;
        if (node->op == NULL || node->op->training == NULL) {
            continue;
        }
        g->node = node;
        g->before = node;
        int rc = node->op->training(g, err);
        if (rc != SHR_OK) {
            return rc;
        }
        shr_graph_remove_node(&g->model->graph, node);
    }
    g->node = NULL;
    g->before = NULL;
    shr_model_resolve(g->model);
    return SHR_OK;
}

/* Values that depend on what is trained. */
static int find_wanted(struct shr_grad *g, struct shr_err *err)
{
    SHR_EACH_NODE (node, &g->model->graph) {
        bool depends = false;
        for (size_t i = 0; i < node->n_in && !depends; i++) {
            const struct shr_value *v = node->in[i].value;
            depends = v != NULL && shr_map_get(&g->wanted, v->name) != NULL;
        }
        for (size_t i = 0; i < node->n_out && depends; i++) {
            struct shr_value *v = node->out[i];
            int rc = v == NULL || v->type.dtype != SHR_DTYPE_F32
                         ? SHR_OK
                         : shr_map_put(&g->wanted, v->name, v, err);
            if (rc != SHR_OK) {
                return rc;
            }
        }
    }
    return SHR_OK;
}

/* ── Backward ───────────────────────────────────────────────────────────────────────────────── */

static bool reaches_loss(struct shr_grad *g)
{
    for (size_t i = 0; i < g->node->n_out; i++) {
        if (shr_grad_of(g, i) != NULL) {
            return true;
        }
    }
    return false;
}

static bool wants_any(const struct shr_grad *g)
{
    for (size_t i = 0; i < g->node->n_in; i++) {
        if (shr_grad_wants(g, i)) {
            return true;
        }
    }
    return false;
}

static int walk_back(struct shr_grad *g, const struct shr_node *from, struct shr_err *err)
{
    for (const struct shr_node *node = from; node != NULL; node = node->prev) {
        g->node = node;
        if (!reaches_loss(g) || !wants_any(g)) {
            continue;
        }
        int rc =
            node->op != NULL && node->op->backward != NULL
                ? node->op->backward(g, err)
                : shr_op_fail(node, err, SHR_ERR_UNSUPPORTED,
                              "the operator has no gradient: what lies in front cannot be trained");
        if (rc != SHR_OK) {
            return rc;
        }
    }
    g->node = NULL;
    return SHR_OK;
}

/* ── Outputs ────────────────────────────────────────────────────────────────────────────────── */

/* A value can be one output only, and an output is no input: others are copies. */
static int add_output(struct shr_grad *g, struct shr_value *v, const char **ret,
                      struct shr_err *err)
{
    if (v->is_output || v->producer == NULL) {
        v = SHR_GRAD_ONNX(g, "Identity", v);
    }
    int rc = g->rc != SHR_OK ? g->rc : shr_graph_add_output(&g->model->graph, v, err);
    if (rc == SHR_OK) {
        *ret = v->name;
    }
    return rc;
}

static int add_states(struct shr_autograd *a, struct shr_grad *g, struct shr_err *err)
{
    size_t n = 0;
    for (struct shr_grad_state *s = g->states; s != NULL; s = s->next) {
        n++;
    }
    a->states = shr_arena_new(g->model->graph.arena, n + 1, sizeof *a->states);
    if (a->states == NULL) {
        return no_memory(err);
    }
    int rc = SHR_OK;
    for (struct shr_grad_state *s = g->states; s != NULL && rc == SHR_OK; s = s->next) {
        a->states[a->n_states].name = s->value->name;
        rc = add_output(g, s->update, &a->states[a->n_states++].update, err);
    }
    return rc;
}

/* What the model gave is of no use here. */
static void drop_outputs(struct shr_graph *graph)
{
    for (size_t i = 0; i < graph->n_outputs; i++) {
        graph->outputs[i]->is_output = false;
    }
    graph->n_outputs = 0;
}

static int add_outputs(struct shr_autograd *a, struct shr_grad *g, struct shr_value *loss,
                       const struct shr_autograd_opts *opts, struct shr_err *err)
{
    struct shr_graph *graph = &g->model->graph;
    a->gradients = shr_arena_new(graph->arena, opts->n_params + 1, sizeof *a->gradients);
    if (a->gradients == NULL) {
        return no_memory(err);
    }
    a->n_params = opts->n_params;
    a->random = g->random == NULL ? NULL : g->random->name;
    int rc = add_output(g, loss, &a->loss, err);
    for (size_t i = 0; i < opts->n_params && rc == SHR_OK; i++) {
        struct shr_value *total =
            opts->forward_only ? NULL : shr_grad_total(g, shr_graph_find(graph, opts->params[i]));
        rc = total == NULL ? SHR_OK : add_output(g, total, &a->gradients[i], err);
    }
    return rc != SHR_OK ? rc : add_states(a, g, err);
}

/* ── The whole ──────────────────────────────────────────────────────────────────────────────── */

static int build(struct shr_autograd *a, struct shr_grad *g, const struct shr_autograd_opts *opts,
                 struct shr_err *err)
{
    int rc = shr_model_import(g->model, SHR_TRAIN_DOMAIN, 1, err);
    if (rc == SHR_OK) {
        rc = shr_model_infer(g->model, opts->inputs, err);
    }
    if (rc == SHR_OK && opts->training) {
        rc = take_training_forms(g, err);
    }
    if (rc == SHR_OK) {
        rc = free_params(g, opts, err);
    }
    if (rc == SHR_OK) {
        rc = free_states(g, err);
    }
    if (rc == SHR_OK) { /* starts of slices and pads that shapes decide */
        rc = shr_model_settle(g->model, err);
    }
    if (rc == SHR_OK) {
        rc = find_wanted(g, err);
    }
    if (rc != SHR_OK) {
        return rc;
    }
    const struct shr_node *last = g->model->graph.last_node;
    drop_outputs(&g->model->graph);
    struct shr_value *loss = opts->loss(g, opts->user);
    rc = g->rc;
    if (rc == SHR_OK && !opts->forward_only) {
        rc = walk_back(g, last, err);
    }
    return rc != SHR_OK ? rc : add_outputs(a, g, loss, opts, err);
}

int shr_autograd_init(struct shr_autograd *ret, const struct shr_model *model,
                      const struct shr_autograd_opts *opts, struct shr_err *err)
{
    struct shr_autograd a = {0};
    int rc = shr_model_clone(model, &a.model, err);
    if (rc != SHR_OK) {
        return rc;
    }
    struct shr_grad g = {.model = a.model, .err = err};
    shr_model_resolve(a.model);
    rc = build(&a, &g, opts, err);
    shr_grad_finish(&g);
    if (rc != SHR_OK) {
        shr_autograd_finish(&a);
        return rc;
    }
    *ret = a;
    return SHR_OK;
}

void shr_autograd_finish(struct shr_autograd *a)
{
    shr_model_free(a->model);
    *a = (struct shr_autograd){0};
}
