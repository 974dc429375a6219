/* Graphs inside of nodes: each a plan of its own, on the team of the plan around it. */
#include <string.h>

#include "exec/step.h"

struct plan_body {
    struct shr_body base; /* first: it is what operators see */
    struct shr_plan *parent, *plan;
};

static int run_body(struct shr_body *base, struct shr_err *err)
{
    struct plan_body *body = (struct plan_body *)base;
    return shr_plan_run(body->plan, body->parent->ctx, err);
}

static void free_body(struct shr_body *base)
{
    struct plan_body *body = (struct plan_body *)base;
    shr_plan_free(body->plan);
    shr_mem_free((void *)(uintptr_t)body->base.in);
    shr_mem_free((void *)(uintptr_t)body->base.out);
    shr_mem_free(body);
}

static struct shr_tensor *input_named(struct shr_plan *plan, const char *name)
{
    for (size_t i = 0; i < shr_plan_input_count(plan); i++) {
        if (strcmp(shr_plan_input_name(plan, i), name) == 0) {
            return shr_plan_input(plan, i);
        }
    }
    return NULL;
}

static int list_tensors(struct plan_body *body, const struct shr_graph *g, struct shr_err *err)
{
    struct shr_tensor **in = shr_mem_new(g->n_inputs + 1, sizeof(struct shr_tensor *));
    const struct shr_tensor **out =
        shr_mem_new(g->n_outputs + 1, sizeof(const struct shr_tensor *));
    body->base.in = in;
    body->base.out = out;
    if (in == NULL || out == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a subgraph");
    }
    body->base.n_in = g->n_inputs;
    body->base.n_out = g->n_outputs;
    for (size_t i = 0; i < g->n_inputs; i++) {
        in[i] = input_named(body->plan, g->inputs[i]->name);
    }
    for (size_t i = 0; i < g->n_outputs; i++) {
        out[i] = shr_plan_output(body->plan, i);
    }
    return SHR_OK;
}

/* What the plan of a body is told: types of the inputs that change, data of the others. */
struct told {
    struct shr_type *types;
    struct shr_view *constants;
    size_t n_constants;
};

static int tell(struct told *told, const struct shr_graph *g, const struct shr_tensor *const *in,
                struct shr_err *err)
{
    told->types = shr_mem_new(g->n_inputs + 1, sizeof *told->types);
    told->constants = shr_mem_new(g->n_inputs + 1, sizeof *told->constants);
    if (told->types == NULL || told->constants == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a subgraph");
    }
    size_t n = 0;
    for (size_t i = 0; i < g->n_inputs; i++) {
        if (shr_value_is_constant(g->inputs[i])) {
            continue;
        }
        if (in[i]->data != NULL) {
            told->constants[told->n_constants++] = shr_tensor_view(in[i], g->inputs[i]->name);
            continue;
        }
        struct shr_type *type = &told->types[n++];
        *type = (struct shr_type){.dtype = in[i]->dtype, .rank = in[i]->rank};
        memcpy(type->dim, in[i]->dim, sizeof type->dim);
    }
    return SHR_OK;
}

int shr__body_new(void *user, const struct shr_model *graph, const struct shr_tensor *const *in,
                  struct shr_body **ret, struct shr_err *err)
{
    struct shr_plan *parent = user;
    struct told told = {0};
    struct plan_body *body = shr_mem_new(1, sizeof *body);
    int rc = body == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a subgraph")
                          : tell(&told, &graph->graph, in, err);
    if (rc == 0) {
        body->base.run = run_body;
        body->base.free = free_body;
        body->parent = parent;
        const struct shr_plan_opts opts = {.inputs = told.types,
                                           .constants = told.constants,
                                           .n_constants = told.n_constants,
                                           .no_fuse = parent->no_fuse,
                                           .cpu_mask = parent->cpu_mask,
                                           .team = parent->team,
                                           .max_arena = parent->max_arena};
        rc = shr_plan_new(graph, &opts, &body->plan, err);
    }
    if (rc == 0) {
        rc = list_tensors(body, &graph->graph, err);
    }
    if (rc == 0) {
        *ret = &body->base;
    } else if (body != NULL) {
        free_body(&body->base);
    }
    shr_mem_free(told.types);
    shr_mem_free(told.constants);
    return rc;
}
