/* Constant folding: what does not depend on an input is computed once, when the plan is made,
 * unless it is too large; then it is computed in the arena, which has a limit of its own.
 *
 * A node is folded when all its inputs are constant, or when inference alone says what its outputs
 * hold (Shape, and arithmetic on shapes). The results become constants of the plan's clone. */
#include <string.h>

#include "exec/step.h"

enum {
    FREE_BYTES = 1 << 28, /* that results may take in any model */
    GROWTH = 8            /* and so many times its constants: int8 to float32, and once more */
};

/* Everything one node needs to run outside of a plan. */
struct fold {
    const struct shr_tensor **in;
    struct shr_tensor *out, **out_ptr;
    struct shr_arena memory;
    void *scratch;
    void *state;
};

static bool all_constant(const struct shr_node *node)
{
    for (size_t i = 0; i < node->n_in; i++) {
        if (node->in[i].value != NULL && !shr_value_is_constant(node->in[i].value)) {
            return false;
        }
    }
    return true;
}

static bool has_known_outputs(const struct shr_node *node)
{
    for (size_t i = 0; i < node->n_out; i++) {
        const struct shr_value *v = node->out[i];
        int64_t count;
        if (v != NULL && (v->type.rank < 0 || shr_dtype_size(v->type.dtype) == 0 ||
                          !shr_dims_count(v->type.rank, v->type.dim, &count))) {
            return false;
        }
    }
    return true;
}

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory while constants are folded");
}

static int fold_begin(struct fold *f, const struct shr_node *node, struct shr_err *err)
{
    f->in = shr_arena_new(&f->memory, node->n_in + 1, sizeof *f->in);
    f->out = shr_arena_new(&f->memory, node->n_out + 1, sizeof *f->out);
    f->out_ptr = shr_arena_new(&f->memory, node->n_out + 1, sizeof *f->out_ptr);
    if (f->in == NULL || f->out == NULL || f->out_ptr == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < node->n_in; i++) {
        f->in[i] = node->in[i].value == NULL ? NULL : &node->in[i].value->constant;
    }
    return SHR_OK;
}

static int make_outputs(struct fold *f, const struct shr_node *node, struct shr_err *err)
{
    for (size_t i = 0; i < node->n_out; i++) {
        const struct shr_value *v = node->out[i];
        if (v == NULL) {
            continue;
        }
        int rc = shr_tensor_new(v->type.dtype, v->type.rank, v->type.dim, &f->out[i], err);
        if (rc != 0) {
            return rc;
        }
        f->out_ptr[i] = &f->out[i];
    }
    return SHR_OK;
}

static int compute(struct fold *f, struct shr_plan *plan, const struct shr_node *node,
                   struct shr_err *err)
{
    int64_t opset = shr_model_opset(plan->model, node->domain);
    struct shr_op_setup setup = {
        .node = node,
        .opset = opset,
        .kernels = plan->kernels,
        .arena = &f->memory,
        .n_in = node->n_in,
        .n_out = node->n_out,
        .in = f->in,
        .out = (const struct shr_tensor *const *)f->out_ptr,
        .threads = 1,
        .body_new = shr__body_new,
        .body_user = plan,
    };
    int rc = node->op->setup == NULL ? SHR_OK : node->op->setup(&setup, err);
    f->state = setup.state;
    if (rc == 0 && setup.scratch > 0) {
        f->scratch = shr_mem_aligned(setup.scratch);
        rc = f->scratch == NULL ? no_memory(err) : SHR_OK;
    }
    if (rc != 0) {
        return rc;
    }
    struct shr_op_call call = {
        .node = node,
        .opset = opset,
        .kernels = plan->kernels,
        .n_in = node->n_in,
        .n_out = node->n_out,
        .in = f->in,
        .out = f->out_ptr,
        .state = f->state,
        .scratch = f->scratch,
    };
    return node->op->forward(&call, err);
}

static void fold_finish(struct fold *f, const struct shr_node *node, size_t n_out)
{
    if (node->op->finish != NULL && f->state != NULL) {
        node->op->finish(f->state);
    }
    for (size_t i = 0; f->out != NULL && i < n_out; i++) {
        shr_tensor_finish(&f->out[i]);
    }
    shr_mem_free(f->scratch);
    shr_arena_finish(&f->memory);
}

/* The outputs become constants; the node goes. */
static void adopt(struct shr_graph *g, struct shr_node *node, struct shr_tensor *out)
{
    struct shr_value *values[SHR_OP_MAX_OUT] = {0};
    size_t n = node->n_out;
    memcpy(values, node->out, n * sizeof(struct shr_value *));
    shr_graph_remove_node(g, node);
    for (size_t i = 0; i < n; i++) {
        if (values[i] != NULL) {
            shr_value_set_constant(values[i], out[i]);
            out[i] = (struct shr_tensor){0};
        }
    }
}

static int fold_node(struct shr_plan *plan, struct shr_node *node, struct shr_err *err)
{
    struct fold f = {0};
    size_t n_out = node->n_out;
    const struct shr_node copy = *node; /* for finish, when the node is gone */
    int rc = fold_begin(&f, node, err);
    if (rc == 0) {
        rc = make_outputs(&f, node, err);
    }
    if (rc == 0) {
        rc = compute(&f, plan, node, err);
    }
    if (rc == 0) {
        adopt(&plan->model->graph, node, f.out);
    }
    fold_finish(&f, &copy, n_out);
    return rc;
}

/* Asks inference for the contents of the outputs; all of them or none. */
static int fold_shape(struct shr_plan *plan, struct shr_node *node, bool *ret_folded,
                      struct shr_err *err)
{
    struct shr_arena memory = {0};
    struct shr_type *in = shr_arena_new(&memory, node->n_in + 1, sizeof *in);
    const struct shr_tensor **data = shr_arena_new(&memory, node->n_in + 1, sizeof *data);
    struct shr_type out[SHR_OP_MAX_OUT] = {{0}};
    struct shr_tensor out_data[SHR_OP_MAX_OUT] = {{0}};
    int rc = SHR_OK;
    if (in == NULL || data == NULL) {
        rc = no_memory(err);
        goto out;
    }
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_value *v = node->in[i].value;
        if (v != NULL) {
            in[i] = v->type;
            data[i] = shr_value_is_constant(v) ? &v->constant : NULL;
        }
    }
    for (size_t i = 0; i < node->n_out; i++) {
        out[i].rank = -1;
    }
    struct shr_infer infer = {
        .node = node,
        .opset = shr_model_opset(plan->model, node->domain),
        .n_in = node->n_in,
        .n_out = node->n_out,
        .in = in,
        .in_data = data,
        .out = out,
        .out_data = out_data,
    };
    rc = node->op->infer(&infer, err);
    bool known = rc == 0;
    for (size_t i = 0; known && i < node->n_out; i++) {
        known = node->out[i] == NULL || out_data[i].data != NULL;
    }
    if (known) {
        adopt(&plan->model->graph, node, out_data);
    }
    *ret_folded = known;
    for (size_t i = 0; i < SHR_OP_MAX_OUT; i++) {
        shr_tensor_finish(&out_data[i]);
    }
out:
    shr_arena_finish(&memory);
    return rc;
}

/* Takes the bytes of the outputs from the room that is left; false when they are too many. */
static bool take_room(const struct shr_node *node, size_t *room)
{
    size_t left = *room;
    for (size_t i = 0; i < node->n_out; i++) {
        const struct shr_value *v = node->out[i];
        int64_t count = 0;
        size_t bytes = 0;
        if (v == NULL) {
            continue;
        }
        if (!shr_dims_count(v->type.rank, v->type.dim, &count) ||
            !shr_size_mul((size_t)count, shr_dtype_size(v->type.dtype), &bytes) || bytes > left) {
            return false;
        }
        left -= bytes;
    }
    *room = left;
    return true;
}

static int fold_one(struct shr_plan *plan, struct shr_node *node, bool keep_quantized, size_t *room,
                    struct shr_err *err)
{
    if (node->n_out > SHR_OP_MAX_OUT || node->op == NULL) {
        return SHR_OK;
    }
    bool folded = false;
    if (node->op->infer != NULL) {
        int rc = fold_shape(plan, node, &folded, err);
        if (rc != 0 || folded) {
            return rc;
        }
    }
    if (!all_constant(node) || !has_known_outputs(node) ||
        (keep_quantized && shr_node_is(node, "DequantizeLinear")) || !take_room(node, room)) {
        return SHR_OK;
    }
    return fold_node(plan, node, err);
}

int shr__plan_fold(struct shr_plan *plan, bool keep_quantized, struct shr_err *err)
{
    struct shr_graph *g = &plan->model->graph;
    size_t room = FREE_BYTES;
    SHR_EACH_VALUE (v, g) {
        if (shr_value_is_constant(v)) { /* in memory: no overflow */
            room += GROWTH * shr_tensor_bytes(&v->constant);
        }
    }
    for (struct shr_node *node = g->first_node, *next; node != NULL; node = next) {
        next = node->next;
        int rc = fold_one(plan, node, keep_quantized, &room, err);
        if (rc != 0) {
            return rc;
        }
    }
    shr_graph_drop_unused(g);
    return SHR_OK;
}
