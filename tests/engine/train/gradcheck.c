/* See gradcheck.h. */
#include "gradcheck.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { OUTPUTS = 4 };
static const char *const WEIGHT = "weight of an output";

struct checked {
    size_t n_outputs, n_params;
    const char *outputs[OUTPUTS], *params[GRADCHECK_PARAMS];
    struct shr_tensor weight[OUTPUTS]; /* of the outputs' elements in the loss */
    const char *weight_name[OUTPUTS];
    float *value[GRADCHECK_PARAMS], *gradient[GRADCHECK_PARAMS];
    int64_t count[GRADCHECK_PARAMS];
};

static void must(int rc, const struct shr_err *err)
{
    if (rc != 0) {
        fail_msg("%s: %s", shr_err_name(rc), err->msg);
    }
}

/* sum(y * r): the gradient of y is r. */
static struct shr_value *weighted_sum(struct shr_grad *g, void *user)
{
    struct checked *k = user;
    struct shr_value *total = NULL;
    for (size_t i = 0; i < k->n_outputs; i++) {
        struct shr_graph *graph = &g->model->graph;
        struct shr_value *y = shr_graph_find(graph, k->outputs[i]), *r;
        must(shr_graph_fresh_value(graph, WEIGHT, &r, g->err), g->err);
        r->type = y->type;
        must(shr_graph_add_input(graph, r, g->err), g->err); /* no constant: nothing is folded */
        k->weight_name[i] = r->name;
        struct shr_value *sum = SHR_GRAD_ONNX(g, "ReduceSum", SHR_GRAD_ONNX(g, "Mul", y, r));
        shr_grad_int(g, "keepdims", 0);
        total = total == NULL ? sum : SHR_GRAD_ONNX(g, "Add", total, sum);
        shr_grad_add(g, y, r);
    }
    return total;
}

static double loss_of(const struct checked *k, struct shr_plan *plan)
{
    double loss = 0;
    build_run(plan);
    for (size_t i = 0; i < k->n_outputs; i++) {
        const struct shr_tensor *y = shr_plan_value(plan, k->outputs[i]);
        assert_non_null(y);
        for (int64_t j = 0; j < shr_tensor_count(y); j++) {
            loss += shr_tensor_get(y, j) * shr_tensor_get(&k->weight[i], j);
        }
    }
    return loss;
}

/* The tensors of the model: who is a parameter, and weights for the outputs. */
static void look(struct checked *k, struct shr_model *m, struct shr_rng *rng)
{
    struct shr_err err = {0};
    struct shr_graph *g = &m->graph;
    shr_model_resolve(m);
    must(shr_model_infer(m, NULL, &err), &err);
    for (size_t i = 0; i < g->n_outputs; i++) {
        const struct shr_type *t = &g->outputs[i]->type;
        assert_true(i < OUTPUTS);
        k->outputs[k->n_outputs] = g->outputs[i]->name;
        must(shr_tensor_new(SHR_DTYPE_F32, t->rank, t->dim, &k->weight[k->n_outputs], &err), &err);
        build_fill(&k->weight[k->n_outputs++], 0.5, 1.5, rng);
    }
    SHR_EACH_VALUE (v, g) {
        if (shr_value_is_constant(v) && v->name[0] == 'p' && v->constant.dtype == SHR_DTYPE_F32) {
            const size_t n = k->n_params++, bytes = shr_tensor_bytes(&v->constant);
            assert_true(n < GRADCHECK_PARAMS);
            k->params[n] = v->name;
            k->count[n] = shr_tensor_count(&v->constant);
            k->value[n] = shr_mem_aligned(bytes + SHR_MEM_ALIGN);
            k->gradient[n] = shr_mem_aligned(bytes + SHR_MEM_ALIGN);
            memcpy(k->value[n], v->constant.data, bytes);
        }
    }
    assert_true(k->n_params > 0);
}

static struct shr_plan *plan_of(const struct checked *k, struct shr_autograd *a)
{
    struct shr_plan_bytes bytes[2 * GRADCHECK_PARAMS + OUTPUTS];
    size_t n = 0;
    for (size_t i = 0; i < k->n_outputs; i++) {
        bytes[n++] = (struct shr_plan_bytes){k->weight_name[i], k->weight[i].data};
    }
    for (size_t i = 0; i < k->n_params; i++) {
        if (a->gradients[i] == NULL) {
            fail_msg("%s has no gradient", k->params[i]);
        }
        bytes[n++] = (struct shr_plan_bytes){k->params[i], k->value[i]};
        bytes[n++] = (struct shr_plan_bytes){a->gradients[i], k->gradient[i]};
    }
    return build_plan(
        a->model, &(struct shr_plan_opts){
                      .bytes = bytes, .n_bytes = n, .keep = k->outputs, .n_keep = k->n_outputs});
}

static void compare(struct checked *k, struct shr_plan *plan, size_t p, double step,
                    double tolerance)
{
    double largest = 1e-3;
    float *found = shr_mem_new((size_t)k->count[p] + 1, sizeof *found);
    build_run(plan);
    memcpy(found, k->gradient[p], (size_t)k->count[p] * sizeof *found);
    for (int64_t i = 0; i < k->count[p]; i++) {
        largest = fmax(largest, fabs((double)found[i]));
    }
    for (int64_t i = 0; i < k->count[p]; i++) {
        float *at = &k->value[p][i];
        const float before = *at, up = before + (float)step, down = before - (float)step;
        *at = up;
        const double above = loss_of(k, plan);
        *at = down;
        const double below = loss_of(k, plan);
        *at = before;
        const double want = (above - below) / ((double)up - (double)down);
        if (!(fabs(want - (double)found[i]) <= tolerance * largest)) {
            fail_msg("gradient %lld of %s is %g, by differences %g", (long long)i, k->params[p],
                     (double)found[i], want);
        }
    }
    shr_mem_free(found);
}

static void run_check(struct shr_model *m, double step, double tolerance, bool training)
{
    struct checked k = {0};
    struct shr_rng rng;
    struct shr_autograd a;
    struct shr_err err = {0};
    struct shr_type inputs[GRADCHECK_PARAMS];
    size_t n_inputs = 0;
    shr_rng_init(&rng, 11);
    look(&k, m, &rng);
    for (size_t i = 0; i < m->graph.n_inputs; i++) {
        if (!shr_value_is_constant(m->graph.inputs[i])) {
            inputs[n_inputs++] = m->graph.inputs[i]->type;
        }
    }
    const struct shr_autograd_opts opts = {
        .inputs = inputs,
        .params = k.params,
        .n_params = k.n_params,
        .training = training,
        .loss = weighted_sum,
        .user = &k,
    };
    must(shr_autograd_init(&a, m, &opts, &err), &err);
    struct shr_plan *plan = plan_of(&k, &a);
    for (size_t i = 0; i < n_inputs; i++) {
        build_fill(shr_plan_input(plan, i), -1, 1, &rng);
    }
    for (size_t p = 0; p < k.n_params; p++) {
        compare(&k, plan, p, step, tolerance);
    }
    shr_plan_free(plan);
    shr_autograd_finish(&a);
    for (size_t i = 0; i < k.n_outputs; i++) {
        shr_tensor_finish(&k.weight[i]);
    }
    for (size_t p = 0; p < k.n_params; p++) {
        shr_mem_free(k.value[p]);
        shr_mem_free(k.gradient[p]);
    }
    shr_model_free(m);
}

void gradcheck(struct shr_model *m, double step, double tolerance)
{
    run_check(m, step, tolerance, false);
}

void gradcheck_usual(struct shr_model *m)
{
    run_check(m, 1e-2, 2e-3, false);
}

void gradcheck_training(struct shr_model *m)
{
    run_check(m, 1e-2, 2e-3, true);
}
