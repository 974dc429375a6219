/* Compiling a model into a plan; see plan.h.
 *
 * DESIGN. The order matters: types are bound before anything is folded (Shape becomes a constant),
 * folding leaves dequantized weights alone until fusing has looked at them, and operators are set
 * up after fusing, when the nodes are final. Memory is laid out last, because setup says how much
 * scratch a step wants. */
#include "exec/plan.h"

#include <inttypes.h>
#include <string.h>

#include "exec/fuse.h"
#include "exec/step.h"

static const size_t DEFAULT_MAX_ARENA = (size_t)4 << 30;

static bool is_true_input(const struct shr_value *v)
{
    return v->is_input && !shr_value_is_constant(v);
}

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory while a plan is made");
}

/* ── The clone ──────────────────────────────────────────────────────────────────────────────── */

static int check_rows(const struct shr_model *model, struct shr_err *err)
{
    SHR_EACH_NODE (node, &model->graph) {
        if (node->op == NULL) {
            char label[128];
            return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                               "operator %s%s%s (opset %" PRId64 ") of node %s does not run here",
                               node->domain, node->domain[0] == '\0' ? "" : ".", node->op_type,
                               shr_model_opset(model, node->domain),
                               shr_node_label(node, label, sizeof label));
        }
    }
    return SHR_OK;
}

/* Kept values are captured, as if bytes of the model read them: fusing goes around them. */
static int mark_kept(struct shr_model *model, const struct shr_plan_opts *opts, struct shr_err *err)
{
    struct shr_graph *g = &model->graph;
    struct shr_value **captures =
        shr_arena_new(g->arena, g->n_captures + opts->n_keep + 1, sizeof *captures);
    if (captures == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < g->n_captures; i++) {
        captures[i] = g->captures[i];
    }
    for (size_t i = 0; i < opts->n_keep; i++) {
        struct shr_value *v = shr_graph_find(g, opts->keep[i]);
        if (v == NULL) {
            return shr_err_set(err, SHR_ERR_NOT_FOUND, "the model has no value %s to keep",
                               opts->keep[i]);
        }
        v->captured = true;
        captures[g->n_captures + i] = v;
    }
    g->captures = captures;
    g->n_captures += opts->n_keep;
    return SHR_OK;
}

/* Inputs whose data is known become initializers. */
static int bind_constants(struct shr_model *model, const struct shr_plan_opts *opts,
                          struct shr_err *err)
{
    for (size_t i = 0; i < opts->n_constants; i++) {
        const struct shr_view *view = &opts->constants[i];
        struct shr_value *v = shr_graph_find(&model->graph, view->name);
        if (v == NULL || !is_true_input(v)) {
            return shr_err_set(err, SHR_ERR_NOT_FOUND, "the model has no input %s", view->name);
        }
        int rc = shr_view_check(view, &v->type, err);
        struct shr_tensor t;
        if (rc == 0) {
            rc = shr_tensor_new(view->dtype, view->rank, view->dim, &t, err);
        }
        if (rc != 0) {
            return rc;
        }
        if (shr_tensor_bytes(&t) > 0) {
            memcpy(t.data, view->data, shr_tensor_bytes(&t));
        }
        shr_value_set_constant(v, t);
    }
    return SHR_OK;
}

/* Types, then what follows from them, as long as that decides a branch and so more types. */
static int bind_and_decide(struct shr_plan *plan, const struct shr_plan_opts *opts,
                           struct shr_err *err)
{
    for (bool changed = true; changed;) {
        int rc = shr_model_bind(plan->model, opts, err);
        if (rc == 0) {
            rc = shr__plan_widen(plan->model, err);
        }
        if (rc == 0) {
            rc = shr__plan_fold(plan, true, err);
        }
        if (rc == 0) {
            rc = shr__plan_inline(plan->model, &changed, err);
        }
        if (rc == 0 && changed) {
            rc = check_rows(plan->model, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return SHR_OK;
}

static int prepare_model(struct shr_plan *plan, const struct shr_plan_opts *opts,
                         struct shr_err *err)
{
    int rc = mark_kept(plan->model, opts, err);
    if (rc != 0) {
        return rc;
    }
    shr_model_resolve(plan->model);
    rc = shr_model_expand(plan->model, err);
    if (rc == 0) {
        rc = mark_kept(plan->model, opts, err);
    }
    if (rc == 0) {
        shr_graph_drop_unused(&plan->model->graph);
        rc = check_rows(plan->model, err);
    }
    if (rc == 0) {
        rc = bind_constants(plan->model, opts, err);
    }
    if (rc == 0) {
        rc = bind_and_decide(plan, opts, err);
    }
    if (rc == 0 && !opts->no_fuse) {
        rc = shr__fuse(plan->model, err);
    }
    if (rc == 0) {
        rc = shr__plan_fold(plan, false, err);
    }
    return rc;
}

/* ── Slots and steps ────────────────────────────────────────────────────────────────────────── */

static int shape_slot(struct shr__slot *slot, struct shr_err *err)
{
    const struct shr_value *v = slot->value;
    if (shr_value_is_constant(v)) {
        slot->tensor = v->constant;
        slot->tensor.storage = NULL;
        slot->constant = true;
        return SHR_OK;
    }

    bool known = v->type.dtype != SHR_DTYPE_NONE && v->type.rank >= 0;
    for (int d = 0; known && d < v->type.rank; d++) {
        known = v->type.dim[d] >= 0;
    }
    if (!known) {
        const char *maker = v->producer == NULL ? "" : v->producer->op_type;
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "the type of value %s%s%s is not known before the model runs: it "
                           "depends on data, or on a shape that does",
                           v->name, maker[0] == '\0' ? "" : " of ", maker);
    }
    slot->tensor.dtype = v->type.dtype;
    slot->tensor.rank = v->type.rank;
    memcpy(slot->tensor.dim, v->type.dim, sizeof slot->tensor.dim);
    int64_t count;
    if (shr_dtype_size(v->type.dtype) == 0 || !shr_dims_count(v->type.rank, v->type.dim, &count) ||
        !shr_size_mul((size_t)count, shr_dtype_size(v->type.dtype), &slot->bytes)) {
        return shr_err_set(err, SHR_ERR_LIMIT, "value %s: %s of this shape does not fit in memory",
                           v->name, shr_dtype_name(v->type.dtype));
    }
    return SHR_OK;
}

static int add_slot(struct shr_plan *plan, struct shr_value *v, struct shr_err *err)
{
    struct shr__slot *slot = shr_arena_new(&plan->memory, 1, sizeof *slot);
    if (slot == NULL) {
        return no_memory(err);
    }
    slot->value = v;
    slot->root = slot;
    slot->unread = v->n_uses;
    slot->whole = v->is_input || v->is_output || v->captured;
    plan->list[plan->n_slots++] = slot;
    int rc = shape_slot(slot, err);
    return rc != 0 ? rc : shr_map_put(&plan->slots, v->name, slot, err);
}

static struct shr__slot *slot_of(const struct shr_plan *plan, const struct shr_value *v)
{
    return v == NULL ? NULL : shr_map_get(&plan->slots, v->name);
}

static struct shr_tensor *tensor_of(const struct shr_plan *plan, const struct shr_value *v)
{
    struct shr__slot *slot = slot_of(plan, v);
    return slot == NULL ? NULL : &slot->tensor;
}

static int collect(struct shr_plan *plan, struct shr_value *const *values, size_t n, bool inputs,
                   struct shr__slot ***ret_slots, size_t *ret_n, struct shr_err *err)
{
    struct shr__slot **slots = shr_arena_new(&plan->memory, n + 1, sizeof(struct shr__slot *));
    if (slots == NULL) {
        return no_memory(err);
    }
    *ret_n = 0;
    for (size_t i = 0; i < n; i++) {
        if (!inputs || is_true_input(values[i])) {
            slots[(*ret_n)++] = slot_of(plan, values[i]);
        }
    }
    *ret_slots = slots;
    return SHR_OK;
}

static int bind_bytes(struct shr_plan *plan, const struct shr_plan_opts *opts, struct shr_err *err)
{
    for (size_t i = 0; i < opts->n_bytes; i++) {
        struct shr__slot *slot = shr_map_get(&plan->slots, opts->bytes[i].name);
        const struct shr_value *v = slot == NULL ? NULL : slot->value;
        if (v == NULL || slot->constant || !(v->is_input || v->is_output)) {
            return shr_err_set(err, SHR_ERR_NOT_FOUND,
                               "the model has no input or computed output %s to bind",
                               opts->bytes[i].name);
        }
        slot->theirs = opts->bytes[i].data; /* no data until operators are set up: not constant */
    }
    return SHR_OK;
}

static int make_slots(struct shr_plan *plan, const struct shr_plan_opts *opts, struct shr_err *err)
{
    struct shr_graph *g = &plan->model->graph;
    plan->list = shr_arena_new(&plan->memory, g->n_values + 1, sizeof *plan->list);
    if (plan->list == NULL) {
        return no_memory(err);
    }
    SHR_EACH_VALUE (v, g) {
        bool used =
            v->uses != NULL || v->producer != NULL || v->is_input || v->is_output || v->captured;
        int rc = used ? add_slot(plan, v, err) : SHR_OK;
        if (rc != 0) {
            return rc;
        }
    }
    int rc = collect(plan, g->inputs, g->n_inputs, true, &plan->inputs, &plan->n_inputs, err);
    if (rc == 0) {
        rc = collect(plan, g->outputs, g->n_outputs, false, &plan->outputs, &plan->n_outputs, err);
    }
    return rc == 0 ? bind_bytes(plan, opts, err) : rc;
}

static int fill_call(struct shr_plan *plan, const struct shr_node *node, struct shr_op_call *call,
                     struct shr_err *err)
{
    const struct shr_tensor **in = shr_arena_new(&plan->memory, node->n_in + 1, sizeof *in);
    struct shr_tensor **out = shr_arena_new(&plan->memory, node->n_out + 1, sizeof *out);
    if (in == NULL || out == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < node->n_in; i++) {
        in[i] = tensor_of(plan, node->in[i].value);
    }
    for (size_t i = 0; i < node->n_out; i++) {
        out[i] = tensor_of(plan, node->out[i]);
    }
    *call = (struct shr_op_call){
        .node = node,
        .opset = shr_model_opset(plan->model, node->domain),
        .kernels = plan->kernels,
        .n_in = node->n_in,
        .n_out = node->n_out,
        .in = in,
        .out = out,
        .team = plan->team,
    };
    return SHR_OK;
}

static int set_up(struct shr_plan *plan, struct shr__step *step, struct shr_err *err)
{
    if (step->op->setup == NULL) {
        return SHR_OK;
    }
    struct shr_op_setup setup = {
        .node = step->call.node,
        .opset = step->call.opset,
        .kernels = plan->kernels,
        .arena = &plan->memory,
        .n_in = step->call.n_in,
        .n_out = step->call.n_out,
        .in = step->call.in,
        .out = (const struct shr_tensor *const *)step->call.out,
        .threads = shr_team_size(plan->team),
        .body_new = shr__body_new,
        .body_user = plan,
    };
    int rc = step->op->setup(&setup, err);
    step->call.state = setup.state;
    step->scratch = setup.scratch;
    step->kernel = setup.kernel;
    return rc;
}

/* Gives back the constants that all their readers have packed. */
static void release_packed(struct shr_plan *plan, const struct shr__step *step)
{
    const struct shr_node *node = step->call.node;
    for (size_t i = 0; i < node->n_in && step->op->packs >> i != 0; i++) {
        struct shr__slot *slot = slot_of(plan, shr_node_in(node, i));
        if ((step->op->packs >> i & 1) == 0 || slot == NULL || !slot->constant ||
            slot->tensor.data == NULL || --slot->unread > 0 || slot->whole) {
            continue;
        }
        if (step->op->finish != NULL) { /* the packed form is not in the plan's memory */
            plan->weight_bytes += shr_tensor_bytes(&slot->tensor);
        }
        shr_tensor_finish(&slot->value->constant);
        slot->tensor.data = NULL;
    }
}

static int make_steps(struct shr_plan *plan, struct shr_err *err)
{
    struct shr_graph *g = &plan->model->graph;
    plan->steps = shr_arena_new(&plan->memory, g->n_nodes + 1, sizeof *plan->steps);
    if (plan->steps == NULL) {
        return no_memory(err);
    }
    SHR_EACH_NODE (node, g) {
        struct shr__slot *out = slot_of(plan, shr_node_out(node, 0));
        const bool is_view = shr__op_is_view(node->op);
        if (is_view && out->theirs == NULL) {
            out->root = slot_of(plan, shr_node_in(node, 0))->root;
            continue;
        }
        struct shr__step *step = &plan->steps[plan->n_steps];
        step->op = is_view ? &shr__fused_copy : node->op;
        int rc = fill_call(plan, node, &step->call, err);
        if (rc != 0) {
            return rc;
        }
        plan->n_steps++; /* from here on finish is called for it */
        rc = set_up(plan, step, err);
        if (rc != 0) {
            return rc;
        }
        release_packed(plan, step);
    }
    return SHR_OK;
}

static void count_weights(struct shr_plan *plan)
{
    plan->weight_bytes += plan->memory.used;
    for (size_t i = 0; i < plan->n_slots; i++) {
        if (plan->list[i]->constant && plan->list[i]->tensor.data != NULL) {
            plan->weight_bytes += shr_tensor_bytes(&plan->list[i]->tensor);
        }
    }
}

static int compile(struct shr_plan *plan, const struct shr_plan_opts *opts, struct shr_err *err)
{
    plan->kernels = shr_kernels_get(opts->cpu_mask);
    plan->max_arena = opts->max_arena == 0 ? DEFAULT_MAX_ARENA : opts->max_arena;

    plan->no_fuse = opts->no_fuse;
    plan->cpu_mask = opts->cpu_mask;
    plan->team = opts->team;
    plan->owns_team = opts->team == NULL && opts->threads > 1;

    int rc = plan->owns_team ? shr_team_new(opts->threads, &plan->team, err) : SHR_OK;
    if (rc == 0) {
        rc = prepare_model(plan, opts, err);
    }
    if (rc == 0) {
        rc = make_slots(plan, opts, err);
    }
    if (rc == 0) {
        rc = make_steps(plan, err);
    }
    if (rc == 0) {
        rc = shr__plan_place(plan, err);
    }
    if (rc == 0) {
        count_weights(plan);
    }
    return rc;
}

int shr_plan_new_take(struct shr_model *take_model, const struct shr_plan_opts *opts,
                      struct shr_plan **ret, struct shr_err *err)
{
    struct shr_plan *plan = shr_mem_new(1, sizeof *plan);
    if (plan == NULL) {
        shr_model_free(take_model);
        return no_memory(err);
    }
    plan->model = take_model;
    int rc = compile(plan, opts, err);
    if (rc != 0) {
        shr_plan_free(plan);
        return rc;
    }
    *ret = plan;
    return SHR_OK;
}

int shr_plan_new(const struct shr_model *model, const struct shr_plan_opts *opts,
                 struct shr_plan **ret, struct shr_err *err)
{
    struct shr_model *clone;
    int rc = shr_model_clone(model, &clone, err);
    return rc != 0 ? rc : shr_plan_new_take(clone, opts, ret, err);
}

void shr_plan_free(struct shr_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct shr__step *step = &plan->steps[i];
        if (step->op->finish != NULL && step->call.state != NULL) {
            step->op->finish(step->call.state);
        }
    }
    if (plan->owns_team) {
        shr_team_free(plan->team);
    }
    shr_map_finish(&plan->slots);
    shr_model_free(plan->model);
    shr_mem_free(plan->arena);
    shr_arena_finish(&plan->memory);
    shr_mem_free(plan);
}
