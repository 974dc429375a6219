/* Steps of training; see trainer.h. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "core/rng.h"

enum { ALIGN = SHR_MEM_ALIGN / sizeof(float) };

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for training");
}

static size_t count_inputs(const struct shr_model *model)
{
    size_t n = 0;
    for (size_t i = 0; i < model->graph.n_inputs; i++) {
        n += !shr_value_is_constant(model->graph.inputs[i]);
    }
    return n;
}

/* ── Training graphs ────────────────────────────────────────────────────────────────────────── */

static int build_graph(struct shr_trainer *t, const char *const *names, size_t n, int64_t rows,
                       bool trains, struct shr_loss *loss, struct shr_autograd *ret,
                       struct shr_err *err)
{
    struct shr_type *types = shr_mem_new(count_inputs(t->model) + 1, sizeof *types);
    if (types == NULL) {
        return no_memory(err);
    }
    const struct shr_autograd_opts opts = {
        .inputs = types,
        .params = names,
        .n_params = n,
        .training = trains,
        .forward_only = !trains,
        .loss = shr_loss_emit,
        .user = loss,
    };
    *loss = t->opts.loss;
    int rc = t->opts.types(t->opts.user, rows, types, err);
    rc = rc == SHR_OK ? shr_autograd_init(ret, t->model, &opts, err) : rc;
    shr_mem_free(types);
    return rc;
}

/* ── Parameters ─────────────────────────────────────────────────────────────────────────────── */

/* What sizes of images come from. */
static bool sizes_images(const struct shr_value *v)
{
    SHR_EACH_USE (use, v) {
        if (use->slot > 0 &&
            (shr_node_is(use->node, "Resize") || shr_node_is(use->node, "Upsample"))) {
            return true;
        }
    }
    return false;
}

/* Scalars are numbers of the formula: exponents, square roots of sizes. */
static bool may_train(const struct shr_value *v)
{
    return shr_value_is_constant(v) && v->constant.dtype == SHR_DTYPE_F32 && !v->captured &&
           v->constant.rank > 0 && shr_tensor_count(&v->constant) > 0 &&
           shr_value_is_parameter(v) && !sizes_images(v);
}

static void place(struct shr_trainer *t, struct shr_trainer_param *p, const struct shr_value *v)
{
    *p = (struct shr_trainer_param){.name = v->name, .type = v->type, .at = t->n_all};
    p->n = (size_t)shr_tensor_count(&v->constant);
    t->n_all += (p->n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Logarithms: decay would pull the scales themselves towards 1. */
static bool is_scale(const struct shr_value *v)
{
    SHR_EACH_USE (use, v) {
        if (use->slot == 1 && strcmp(use->node->op_type, "FakeQuantize") == 0) {
            return true;
        }
    }
    return false;
}

/* Parameters are those that a first training graph has gradients for; states are its own. */
static int find_params(struct shr_trainer *t, const char **names, size_t n, struct shr_err *err)
{
    struct shr_autograd a = {0};
    struct shr_loss loss;
    const struct shr_graph *g = &t->model->graph;
    int rc = build_graph(t, names, n, 1, true, &loss, &a, err);
    if (rc != SHR_OK) {
        return rc;
    }
    t->params = shr_arena_new(&t->arena, n + 1, sizeof *t->params);
    t->states = shr_arena_new(&t->arena, a.n_states + 1, sizeof *t->states);
    if (t->params == NULL || t->states == NULL) {
        rc = no_memory(err);
        goto out;
    }
    for (int scales = 0; scales < 2; scales++) {
        for (size_t i = 0; i < n; i++) {
            const struct shr_value *v = shr_graph_find(g, names[i]);
            if (a.gradients[i] != NULL && is_scale(v) == (scales == 1)) {
                place(t, &t->params[t->n_params++], v);
            }
        }
        t->n_decay = scales == 0 ? t->n_all : t->n_decay;
    }
    t->n_weights = t->n_all;
    for (size_t i = 0; i < a.n_states; i++) {
        const struct shr_value *v = shr_graph_find(g, a.states[i].name);
        if (v == NULL || !shr_value_is_constant(v) || v->constant.dtype != SHR_DTYPE_F32) {
            rc = shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s is no float32 initializer",
                             a.states[i].name);
            goto out;
        }
        place(t, &t->states[t->n_states++], v);
    }
    rc = t->n_params > 0 ? SHR_OK
                         : shr_err_set(err, SHR_ERR_INVALID,
                                       "the loss depends on no float32 weight of the model");
out:
    shr_autograd_finish(&a);
    return rc;
}

static int choose_params(struct shr_trainer *t, struct shr_err *err)
{
    size_t n = 0;
    const char **names = shr_mem_new(t->model->graph.n_values + 1, sizeof *names);
    if (names == NULL) {
        return no_memory(err);
    }
    SHR_EACH_VALUE (v, &t->model->graph) {
        if (may_train(v)) {
            names[n++] = v->name;
        }
    }
    int rc = find_params(t, names, n, err);
    shr_mem_free(names);
    return rc;
}

static void load(const struct shr_trainer *t, const struct shr_trainer_param *params, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct shr_value *v = shr_graph_find(&t->model->graph, params[i].name);
        memcpy(t->weights + params[i].at, v->constant.data, params[i].n * sizeof(float));
    }
}

static int load_weights(struct shr_trainer *t, struct shr_err *err)
{
    const size_t all = t->n_all * sizeof(float), some = t->n_weights * sizeof(float);
    t->weights = shr_mem_aligned(all + SHR_MEM_ALIGN);
    t->gradients = shr_mem_aligned(some + SHR_MEM_ALIGN);
    t->zero = t->opts.keep_zeros ? shr_mem_new(t->n_weights + 1, 1) : NULL;
    if (t->weights == NULL || t->gradients == NULL || (t->opts.keep_zeros && t->zero == NULL)) {
        return no_memory(err);
    }
    memset(t->weights, 0, all); /* what fills the parts up stays zero */
    memset(t->gradients, 0, some);
    load(t, t->params, t->n_params);
    load(t, t->states, t->n_states);
    for (size_t i = 0; i < t->n_weights && t->zero != NULL; i++) {
        t->zero[i] = t->weights[i] == 0.0f;
    }
    return shr_optim_init(&t->optim, &t->opts.optim, t->n_weights, t->n_decay, err);
}

int shr_trainer_init(struct shr_trainer *ret, const struct shr_model *model,
                     const struct shr_trainer_opts *opts, struct shr_err *err)
{
    struct shr_trainer t = {.model = model, .opts = *opts};
    int rc = opts->threads > 1 ? shr_team_new(opts->threads, &t.team, err) : SHR_OK;
    if (rc == SHR_OK) {
        rc = choose_params(&t, err);
    }
    if (rc == SHR_OK) {
        rc = load_weights(&t, err);
    }
    if (rc != SHR_OK) {
        shr_trainer_finish(&t);
        return rc;
    }
    *ret = t;
    return SHR_OK;
}

static void lane_free(struct shr_lane *lane)
{
    shr_plan_free(lane->plan);
    shr_arena_finish(&lane->arena);
    shr_mem_free(lane);
}

void shr_trainer_finish(struct shr_trainer *t)
{
    while (t->lanes != NULL) {
        struct shr_lane *lane = t->lanes;
        t->lanes = lane->next;
        lane_free(lane);
    }
    shr_optim_finish(&t->optim);
    shr_mem_free(t->weights);
    shr_mem_free(t->gradients);
    shr_mem_free(t->sum);
    shr_mem_free(t->zero);
    shr_team_free(t->team);
    shr_arena_finish(&t->arena);
    *t = (struct shr_trainer){0};
}

/* ── Lanes ──────────────────────────────────────────────────────────────────────────────────── */

/* Where the parameters, gradients and states of a plan lie. */
static size_t list_bytes(const struct shr_trainer *t, const struct shr_autograd *a,
                         struct shr_plan_bytes *bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_params; i++) {
        bytes[n++] = (struct shr_plan_bytes){t->params[i].name, t->weights + t->params[i].at};
        if (a->gradients[i] != NULL) {
            bytes[n++] = (struct shr_plan_bytes){a->gradients[i], t->gradients + t->params[i].at};
        }
    }
    for (size_t i = 0; i < t->n_states; i++) {
        bytes[n++] = (struct shr_plan_bytes){t->states[i].name, t->weights + t->states[i].at};
    }
    return n;
}

static int make_plan(const struct shr_trainer *t, struct shr_lane *lane, struct shr_autograd *a,
                     struct shr_err *err)
{
    const size_t most = 2 * t->n_params + t->n_states + 1;
    struct shr_plan_bytes *bytes = shr_mem_new(most, sizeof *bytes);
    struct shr_model *model = a->model;
    if (bytes == NULL) {
        return no_memory(err);
    }
    const struct shr_plan_opts opts = {
        .bytes = bytes,
        .n_bytes = list_bytes(t, a, bytes),
        .cpu_mask = t->opts.cpu_mask,
        .team = t->team,
        .max_arena = t->opts.max_arena,
    };
    int rc = shr_plan_new(model, &opts, &lane->plan, err);
    shr_mem_free(bytes);
    return rc;
}

static struct shr_tensor *input_named(struct shr_plan *plan, const char *name)
{
    for (size_t i = 0; name != NULL && i < shr_plan_input_count(plan); i++) {
        if (strcmp(shr_plan_input_name(plan, i), name) == 0) {
            return shr_plan_input(plan, i);
        }
    }
    return NULL;
}

static const struct shr_tensor *output_named(struct shr_plan *plan, const char *name)
{
    for (size_t i = 0; name != NULL && i < shr_plan_output_count(plan); i++) {
        if (strcmp(shr_plan_output_name(plan, i), name) == 0) {
            return shr_plan_output(plan, i);
        }
    }
    return NULL;
}

static int find_tensors(const struct shr_trainer *t, struct shr_lane *lane,
                        const struct shr_autograd *a, const struct shr_loss *loss,
                        struct shr_err *err)
{
    const struct shr_graph *g = &t->model->graph;
    lane->inputs = shr_arena_new(&lane->arena, g->n_inputs + 1, sizeof(struct shr_tensor *));
    lane->updates = shr_arena_new(&lane->arena, t->n_states + 1, sizeof(struct shr_tensor *));
    if (lane->inputs == NULL || lane->updates == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < g->n_inputs; i++) {
        if (!shr_value_is_constant(g->inputs[i])) {
            lane->inputs[lane->n_inputs++] = input_named(lane->plan, g->inputs[i]->name);
        }
    }
    lane->random = input_named(lane->plan, a->random);
    lane->labels = input_named(lane->plan, loss->labels);
    lane->teacher = input_named(lane->plan, loss->teacher);
    for (size_t i = 0; i < loss->n_hints; i++) {
        lane->hints[i] = input_named(lane->plan, loss->hints[i].input);
    }
    lane->loss = output_named(lane->plan, a->loss);
    lane->hits = output_named(lane->plan, loss->hits);
    for (size_t i = 0; i < a->n_states; i++) {
        lane->updates[lane->n_states++] = output_named(lane->plan, a->states[i].update);
    }
    return SHR_OK;
}

/* Without the training form the states are inputs nobody reads the update of. */
static int build_lane(struct shr_trainer *t, struct shr_lane *lane, struct shr_err *err)
{
    struct shr_autograd a = {0};
    struct shr_loss loss;
    size_t n = 0;
    const char **names = shr_mem_new(t->n_params + t->n_states + 1, sizeof *names);
    if (names == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < t->n_params; i++) {
        names[n++] = t->params[i].name;
    }
    for (size_t i = 0; i < t->n_states && !lane->trains; i++) {
        names[n++] = t->states[i].name;
    }
    int rc = build_graph(t, names, n, lane->rows, lane->trains, &loss, &a, err);
    if (rc == SHR_OK) {
        rc = make_plan(t, lane, &a, err);
    }
    if (rc == SHR_OK) {
        rc = find_tensors(t, lane, &a, &loss, err);
    }
    shr_autograd_finish(&a);
    shr_mem_free(names);
    return rc;
}

int shr_trainer_lane(struct shr_trainer *t, int64_t rows, bool trains, struct shr_lane **ret,
                     struct shr_err *err)
{
    for (struct shr_lane *lane = t->lanes; lane != NULL; lane = lane->next) {
        if (lane->rows == rows && lane->trains == trains) {
            *ret = lane;
            return SHR_OK;
        }
    }
    struct shr_lane *lane = shr_mem_new(1, sizeof *lane);
    if (lane == NULL) {
        return no_memory(err);
    }
    lane->rows = rows;
    lane->trains = trains;
    int rc = build_lane(t, lane, err);
    if (rc != SHR_OK) {
        lane_free(lane);
        return rc;
    }
    lane->next = t->lanes;
    t->lanes = lane;
    *ret = lane;
    return SHR_OK;
}

/* ── Steps ──────────────────────────────────────────────────────────────────────────────────── */

int shr_trainer_run(struct shr_trainer *t, struct shr_lane *lane, const struct shr_ctx *ctx,
                    struct shr_err *err)
{
    if (lane->random != NULL) { /* of the seed and the step alone */
        struct shr_rng rng;
        shr_rng_init(&rng, t->opts.seed + (uint64_t)t->optim.steps + (t->part << 40));
        *(uint64_t *)lane->random->data = shr_rng_next(&rng);
    }
    return shr_plan_run(lane->plan, ctx, err);
}

int shr_trainer_add_part(struct shr_trainer *t, float share, bool is_last, struct shr_err *err)
{
    if (t->sum == NULL) {
        t->sum = shr_mem_aligned(t->n_weights * sizeof *t->sum + SHR_MEM_ALIGN);
    }
    if (t->sum == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < t->n_weights; i++) {
        t->sum[i] = (t->part == 0 ? 0.0f : t->sum[i]) + share * t->gradients[i];
    }
    t->part = is_last ? 0 : t->part + 1;
    if (is_last) {
        memcpy(t->gradients, t->sum, t->n_weights * sizeof *t->sum);
    }
    return SHR_OK;
}

void shr_trainer_update(struct shr_trainer *t, const struct shr_lane *lane, double lr)
{
    for (size_t i = 0; i < t->n_weights && t->zero != NULL; i++) {
        t->gradients[i] = t->zero[i] ? 0.0f : t->gradients[i];
    }
    shr_optim_step(&t->optim, lr, t->weights, t->gradients, t->team);
    for (size_t i = 0; i < lane->n_states; i++) {
        memcpy(t->weights + t->states[i].at, lane->updates[i]->data,
               t->states[i].n * sizeof(float));
    }
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return false;
        }
    }
    return true;
}

const char *shr_trainer_find_nan(const struct shr_trainer *t, bool *ret_is_gradient)
{
    for (size_t i = 0; i < t->n_params; i++) {
        const struct shr_trainer_param *p = &t->params[i];
        const bool value = all_finite(t->weights + p->at, p->n);
        if (!value || !all_finite(t->gradients + p->at, p->n)) {
            *ret_is_gradient = value;
            return p->name;
        }
    }
    return NULL;
}

static int store(const struct shr_trainer_param *params, size_t n, const float *weights,
                 struct shr_model *model, struct shr_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct shr_trainer_param *p = &params[i];
        struct shr_value *v = shr_graph_find(&model->graph, p->name);
        struct shr_tensor tensor;
        int rc = shr_tensor_new(SHR_DTYPE_F32, p->type.rank, p->type.dim, &tensor, err);
        if (rc != SHR_OK) {
            return rc;
        }
        memcpy(tensor.data, weights + p->at, p->n * sizeof(float));
        const enum shr_store before = v->store;
        shr_value_set_constant(v, tensor);
        v->store = before == SHR_STORE_AS_READ ? v->store : before;
    }
    return SHR_OK;
}

int shr_trainer_store(const struct shr_trainer *t, const float *weights, struct shr_model *model,
                      struct shr_err *err)
{
    int rc = store(t->params, t->n_params, weights, model, err);
    return rc == SHR_OK ? store(t->states, t->n_states, weights, model, err) : rc;
}
