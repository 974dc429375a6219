/* Emitting gradients; see grad.h. */
#include "ops/grad.h"

#include <stdio.h>
#include <string.h>

/* What the readers of a value gave: added up as it comes, so that at most one value is alive. */
struct shr_grad__sum {
    struct shr_value *total;
};

static void fail(struct shr_grad *g, int rc)
{
    g->rc = g->rc == SHR_OK ? rc : g->rc;
}

static void fail_memory(struct shr_grad *g)
{
    fail(g, shr_err_set(g->err, SHR_ERR_NOMEM, "out of memory while gradients are built"));
}

/* ── Emitting ───────────────────────────────────────────────────────────────────────────────── */

void shr_grad_emit_many(struct shr_grad *g, const char *domain, const char *op,
                        struct shr_value *const *in, size_t n_in, struct shr_value **ret_out,
                        size_t n_out)
{
    struct shr_graph *graph = &g->model->graph;
    const char *of = g->node == NULL || g->node->n_out == 0 || g->node->out[0] == NULL
                         ? "loss"
                         : g->node->out[0]->name;
    struct shr_value *out[SHR_OP_MAX_OUT] = {0};
    char stem[160];
    size_t room = sizeof stem - strlen(op) - 3;
    (void)snprintf(stem, sizeof stem, "%s of %.*s", op, (int)(room > 96 ? 96 : room), of);
    for (size_t i = 0; i < n_out && g->rc == SHR_OK; i++) {
        fail(g, shr_graph_fresh_value(graph, stem, &out[i], g->err));
    }
    if (g->rc == SHR_OK) {
        fail(g, shr_graph_add_node(graph, g->before, domain, op, "", in, n_in, out, n_out, &g->last,
                                   g->err));
    }
    for (size_t i = 0; i < n_out; i++) {
        ret_out[i] = g->rc == SHR_OK ? out[i] : NULL;
    }
}

struct shr_value *shr_grad_emit(struct shr_grad *g, const char *domain, const char *op,
                                struct shr_value *const *in, size_t n_in)
{
    struct shr_value *out;
    shr_grad_emit_many(g, domain, op, in, n_in, &out, 1);
    return out;
}

void shr_grad_int(struct shr_grad *g, const char *name, int64_t value)
{
    if (g->rc == SHR_OK) {
        fail(g, shr_node_set_int(&g->model->graph, g->last, name, value, g->err));
    }
}

void shr_grad_float(struct shr_grad *g, const char *name, float value)
{
    if (g->rc == SHR_OK) {
        fail(g, shr_node_set_float(&g->model->graph, g->last, name, value, g->err));
    }
}

void shr_grad_ints(struct shr_grad *g, const char *name, const int64_t *values, size_t n)
{
    if (g->rc == SHR_OK) {
        fail(g, shr_node_set_ints(&g->model->graph, g->last, name, values, n, g->err));
    }
}

void shr_grad_attrs(struct shr_grad *g, const struct shr_node *from)
{
    if (g->rc == SHR_OK) {
        fail(g, shr_node_copy_attrs(&g->model->graph, from, g->last, g->err));
    }
}

static struct shr_value *add_constant(struct shr_grad *g, const char *stem, struct shr_tensor take)
{
    struct shr_value *v = NULL;
    fail(g, shr_graph_add_constant(&g->model->graph, stem, take, &v, g->err));
    return g->rc == SHR_OK ? v : NULL;
}

struct shr_value *shr_grad_scalar(struct shr_grad *g, float value)
{
    struct shr_tensor t;
    if (g->rc != SHR_OK) {
        return NULL;
    }
    int rc = shr_tensor_new(SHR_DTYPE_F32, 0, NULL, &t, g->err);
    if (rc != SHR_OK) {
        fail(g, rc);
        return NULL;
    }
    *(float *)t.data = value;
    return add_constant(g, "factor", t);
}

struct shr_value *shr_grad_scaled(struct shr_grad *g, struct shr_value *v, float factor)
{
    return factor == 1.0f ? v : SHR_GRAD_ONNX(g, "Mul", v, shr_grad_scalar(g, factor));
}

struct shr_value *shr_grad_reshape(struct shr_grad *g, struct shr_value *v,
                                   const struct shr_type *shape)
{
    struct shr_tensor t;
    const int64_t n = shape->rank;
    if (g->rc != SHR_OK) {
        return NULL;
    }
    int rc = shr_tensor_new(SHR_DTYPE_I64, 1, &n, &t, g->err);
    if (rc != SHR_OK) {
        fail(g, rc);
        return NULL;
    }
    if (n > 0) {
        memcpy(t.data, shape->dim, (size_t)n * sizeof *shape->dim);
    }
    return SHR_GRAD_ONNX(g, "Reshape", v, add_constant(g, "shape", t));
}

static bool same_shape(const struct shr_type *a, const struct shr_type *b)
{
    return a->rank == b->rank &&
           (a->rank == 0 || memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) == 0);
}

struct shr_value *shr_grad_sum_to(struct shr_grad *g, struct shr_value *v,
                                  const struct shr_type *from, const struct shr_type *to)
{
    if (same_shape(from, to)) {
        return v;
    }
    struct shr_value *sum = SHR_GRAD_TRAIN(g, "SumTo", v);
    shr_grad_ints(g, "dims", to->dim, (size_t)to->rank);
    return sum;
}

/* ── Sums ───────────────────────────────────────────────────────────────────────────────────── */

void shr_grad_add(struct shr_grad *g, const struct shr_value *v, struct shr_value *dv)
{
    if (g->rc != SHR_OK) {
        return;
    }
    struct shr_grad__sum *sum = shr_map_get(&g->sums, v->name);
    if (sum != NULL) {
        sum->total = SHR_GRAD_ONNX(g, "Add", sum->total, dv);
        return;
    }
    sum = shr_arena_new(&g->memory, 1, sizeof *sum);
    if (sum == NULL) {
        fail_memory(g);
        return;
    }
    sum->total = dv;
    fail(g, shr_map_put(&g->sums, v->name, sum, g->err));
}

struct shr_value *shr_grad_total(struct shr_grad *g, const struct shr_value *v)
{
    const struct shr_grad__sum *sum = v == NULL ? NULL : shr_map_get(&g->sums, v->name);
    return sum == NULL ? NULL : sum->total;
}

struct shr_value *shr_grad_of(struct shr_grad *g, size_t i)
{
    return shr_grad_total(g, shr_node_out(g->node, i));
}

bool shr_grad_wants(const struct shr_grad *g, size_t slot)
{
    const struct shr_value *v = slot < g->node->n_in ? g->node->in[slot].value : NULL;
    return v != NULL && shr_map_get(&g->wanted, v->name) != NULL;
}

void shr_grad_give(struct shr_grad *g, size_t slot, struct shr_value *dx)
{
    if (g->rc == SHR_OK && shr_grad_wants(g, slot)) {
        shr_grad_add(g, shr_node_in(g->node, slot), dx);
    }
}

void shr_grad_give_sum(struct shr_grad *g, size_t slot, struct shr_value *dx,
                       const struct shr_type *from)
{
    if (g->rc == SHR_OK && shr_grad_wants(g, slot)) {
        shr_grad_give(g, slot, shr_grad_sum_to(g, dx, from, &shr_node_in(g->node, slot)->type));
    }
}

/* ── Training forms ─────────────────────────────────────────────────────────────────────────── */

void shr_grad_replace(struct shr_grad *g, size_t i, struct shr_value *by)
{
    struct shr_value *out = shr_node_out(g->node, i);
    if (g->rc == SHR_OK && out != NULL) {
        by->type = out->type;
        shr_value_replace_uses(out, by);
    }
}

void shr_grad_update(struct shr_grad *g, size_t slot, struct shr_value *value)
{
    if (g->rc != SHR_OK) {
        return;
    }
    struct shr_grad_state *state = shr_arena_new(&g->memory, 1, sizeof *state);
    if (state == NULL) {
        fail_memory(g);
        return;
    }
    *state = (struct shr_grad_state){g->states, shr_node_in(g->node, slot), value};
    g->states = state;
}

struct shr_value *shr_grad_random(struct shr_grad *g)
{
    if (g->rc == SHR_OK && g->random == NULL) {
        fail(g, shr_graph_fresh_value(&g->model->graph, "random", &g->random, g->err));
    }
    if (g->rc == SHR_OK && !g->random->is_input) {
        g->random->type = (struct shr_type){.dtype = SHR_DTYPE_I64};
        fail(g, shr_graph_add_input(&g->model->graph, g->random, g->err));
    }
    return g->rc == SHR_OK ? g->random : NULL;
}

void shr_grad_finish(struct shr_grad *g)
{
    shr_map_finish(&g->sums);
    shr_map_finish(&g->wanted);
    shr_arena_finish(&g->memory);
}
