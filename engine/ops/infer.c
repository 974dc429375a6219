/* The driver of type and shape inference: shr_model_infer.
 *
 * One walk in topological order. Types go into the values of the model; data that is known beside
 * the constants (a Shape of known dims, and small arithmetic on it, found by running the row's own
 * forward with the reference kernels) lives only as long as the walk, since it may hold for these
 * input types alone. Declared types fill what inference leaves open, and a declared element type
 * that inference contradicts is an error. */
#include "ops/util.h"

#include <string.h>

enum { FOLD_MAX_ELEMENTS = 1024 }; /* of a value that takes part in shape arithmetic */

struct known { /* data found on the way */
    struct known *next;
    struct shr_tensor tensor;
};

struct walk {
    struct shr_model *model;
    bool given;             /* input types were given: declared dims may not hold */
    struct shr_map known;   /* value name → struct known */
    struct shr_arena arena; /* owns the struct known */
    struct known *first;
    shr_known_fn tell; /* NULL = nobody wants to know */
    void *user;
};

static const struct shr_tensor *data_of(const struct walk *w, const struct shr_value *v)
{
    if (v == NULL) {
        return NULL;
    }
    if (shr_value_is_constant(v)) {
        return &v->constant;
    }
    const struct known *k = shr_map_get(&w->known, v->name);
    return k == NULL ? NULL : &k->tensor;
}

static struct shr_type type_of(const struct shr_tensor *t)
{
    struct shr_type type = {.dtype = t->dtype, .rank = t->rank};
    memcpy(type.dim, t->dim, sizeof type.dim);
    return type;
}

/* Takes the tensor, also on failure. */
static int remember(struct walk *w, const struct shr_value *v, struct shr_tensor take_tensor,
                    struct shr_err *err)
{
    struct known *k = shr_arena_new(&w->arena, 1, sizeof *k);
    if (k == NULL) {
        shr_tensor_finish(&take_tensor);
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    k->tensor = take_tensor;
    k->next = w->first;
    w->first = k;
    if (w->tell != NULL) {
        int code = w->tell(w->user, v, &k->tensor, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return shr_map_put(&w->known, v->name, k, err);
}

/* ── One node ───────────────────────────────────────────────────────────────────────────────── */

static int check_slots(const struct shr_node *node, struct shr_err *err)
{
    const struct shr_op *op = node->op;
    if (op->in_min == 0 && op->in_max == 0 && op->out_max == 0) {
        return SHR_OK;
    }
    size_t in = op->in_max < 0 ? node->n_in : 0, out = op->out_max < 0 ? node->n_out : 0;
    in = in < (size_t)op->in_min ? (size_t)op->in_min : in; /* every slot of a variadic operator */
    out = out < (size_t)op->out_min ? (size_t)op->out_min : out;
    for (size_t i = 0; i < in; i++) {
        if (shr_node_in(node, i) == NULL) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "input %zu is missing", i);
        }
    }
    if (op->in_max >= 0 && node->n_in > (size_t)op->in_max) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "has %zu inputs, at most %d are allowed",
                           node->n_in, op->in_max);
    }
    for (size_t i = 0; i < out; i++) {
        if (shr_node_out(node, i) == NULL) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "output %zu is missing", i);
        }
    }
    if (op->out_max >= 0 && node->n_out > (size_t)op->out_max) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "has %zu outputs, at most %d are allowed",
                           node->n_out, op->out_max);
    }
    return SHR_OK;
}

/* Is every input known and small, and every output of a known small shape? */
static bool worth_folding(const struct shr_infer *c)
{
    if (c->node->op->forward == NULL) {
        return false;
    }
    for (size_t i = 0; i < c->n_in; i++) {
        const struct shr_tensor *t = c->in_data[i];
        if (c->node->in[i].value != NULL &&
            (t == NULL || shr_tensor_count(t) > FOLD_MAX_ELEMENTS)) {
            return false;
        }
    }
    for (size_t i = 0; i < c->n_out; i++) {
        int64_t n;
        if (c->node->out[i] == NULL) {
            continue;
        }
        if (c->out_data[i].data != NULL || c->out[i].rank < 0 ||
            shr_dtype_size(c->out[i].dtype) == 0 ||
            !shr_dims_count(c->out[i].rank, c->out[i].dim, &n) || n > FOLD_MAX_ELEMENTS) {
            return false;
        }
    }
    return true;
}

static int run_row(const struct shr_infer *c, struct shr_tensor *const *out,
                   struct shr_arena *arena, struct shr_err *err)
{
    const struct shr_op *op = c->node->op;
    const struct shr_kernels *kernels = shr_kernels_get(~0u); /* the same on every machine */
    struct shr_op_setup s = {c->node, c->opset, kernels,    arena,
                             c->n_in, c->n_out, c->in_data, (const struct shr_tensor *const *)out,
                             NULL,    0,        1};
    int code = op->setup == NULL ? SHR_OK : op->setup(&s, err);
    void *scratch = NULL;
    if (code == SHR_OK && s.scratch > 0) {
        scratch = shr_mem_aligned(s.scratch);
        code = scratch == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory") : SHR_OK;
    }
    if (code == SHR_OK) {
        struct shr_op_call call = {c->node,    c->opset, kernels, c->n_in, c->n_out,
                                   c->in_data, out,      s.state, scratch, NULL};
        code = op->forward(&call, err);
    }
    shr_mem_free(scratch);
    if (op->finish != NULL) {
        op->finish(s.state);
    }
    return code;
}

/* Computes the outputs from known inputs. A type that the row cannot run leaves them unknown. */
static int fold(const struct shr_infer *c, struct shr_arena *arena, struct shr_err *err)
{
    struct shr_tensor **out = shr_arena_new(arena, c->n_out + 1, sizeof(struct shr_tensor *));
    if (out == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    int code = SHR_OK;
    for (size_t i = 0; i < c->n_out && code == SHR_OK; i++) {
        if (c->node->out[i] != NULL) {
            code = shr_tensor_new(c->out[i].dtype, c->out[i].rank, c->out[i].dim, &c->out_data[i],
                                  err);
            out[i] = &c->out_data[i];
        }
    }
    if (code == SHR_OK) {
        code = run_row(c, out, arena, err);
    }
    if (code == SHR_OK) {
        return SHR_OK;
    }
    for (size_t i = 0; i < c->n_out; i++) {
        shr_tensor_finish(&c->out_data[i]);
    }
    return code == SHR_ERR_UNSUPPORTED ? SHR_OK : code;
}

/* Writes the type of an output; what was declared fills what stayed open. */
static int settle(const struct walk *w, const struct shr_node *node, struct shr_value *v,
                  struct shr_type type, struct shr_err *err)
{
    const struct shr_type *old = &v->type;
    if (v->was_declared && old->dtype != SHR_DTYPE_NONE && type.dtype != SHR_DTYPE_NONE &&
        old->dtype != type.dtype) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "output '%s' is %s, but declared as %s",
                           v->name, shr_dtype_name(type.dtype), shr_dtype_name(old->dtype));
    }
    if (v->was_declared || node->op == NULL) {
        if (type.dtype == SHR_DTYPE_NONE) {
            type.dtype = old->dtype;
        }
        if (!w->given && type.rank < 0) {
            shr_type_copy_shape(&type, old);
        }
        for (int i = 0; !w->given && i < type.rank && old->rank == type.rank; i++) {
            if (type.dim[i] < 0 && (old->dim[i] >= 0 || type.sym[i] == NULL)) {
                shr_type_copy_dim(&type, i, old, i);
            }
        }
    }
    v->type = type;
    return SHR_OK;
}

static int infer_row(struct shr_infer *c, struct shr_arena *arena, struct shr_err *err)
{
    int code = check_slots(c->node, err);
    if (code == SHR_OK) {
        code = c->node->op->infer(c, err);
    }
    if (code == SHR_OK && worth_folding(c)) {
        code = fold(c, arena, err);
    }
    return code;
}

static int infer_node(struct walk *w, struct shr_node *node, struct shr_arena *arena,
                      struct shr_err *err)
{
    struct shr_type *in = shr_arena_new(arena, node->n_in + 1, sizeof *in);
    const struct shr_tensor **data =
        shr_arena_new(arena, node->n_in + 1, sizeof(const struct shr_tensor *));
    struct shr_type *out = shr_arena_new(arena, node->n_out + 1, sizeof *out);
    struct shr_tensor *out_data = shr_arena_new(arena, node->n_out + 1, sizeof *out_data);
    if (in == NULL || data == NULL || out == NULL || out_data == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_value *v = shr_node_in(node, i);
        shr_type_unknown(&in[i]);
        data[i] = data_of(w, v);
        if (v != NULL) {
            in[i] = shr_value_is_constant(v) ? type_of(&v->constant) : v->type;
        }
    }
    for (size_t i = 0; i < node->n_out; i++) {
        shr_type_unknown(&out[i]);
    }

    struct shr_infer c = {
        node,    shr_model_opset(w->model, node->domain), node->n_in, node->n_out, in, data, out,
        out_data};
    int code = node->op == NULL || node->op->infer == NULL ? SHR_OK : infer_row(&c, arena, err);
    for (size_t i = 0; i < node->n_out; i++) {
        struct shr_value *v = node->out[i];
        if (code == SHR_OK && v != NULL) {
            code = settle(w, node, v, out[i], err);
        }
        if (code == SHR_OK && v != NULL && out_data[i].data != NULL) {
            code = remember(w, v, out_data[i], err);
        } else {
            shr_tensor_finish(&out_data[i]);
        }
    }
    return code;
}

/* ── The whole ──────────────────────────────────────────────────────────────────────────────── */

static void set_inputs(struct shr_model *model, const struct shr_type *in_types)
{
    for (size_t i = 0; i < model->graph.n_inputs; i++) {
        struct shr_value *v = model->graph.inputs[i];
        if (!shr_value_is_constant(v)) {
            v->type = *in_types++;
        }
    }
}

/* A node all of whose outputs are known gives way to them. */
static void settle_node(const struct walk *w, struct shr_node *node)
{
    struct shr_value *out[SHR_OP_MAX_OUT] = {0};
    const size_t n = node->n_out;
    bool known = n > 0 && n <= SHR_OP_MAX_OUT;
    for (size_t i = 0; i < n && known; i++) {
        out[i] = node->out[i];
        known =
            out[i] != NULL && !out[i]->is_output && shr_map_get(&w->known, out[i]->name) != NULL;
    }
    if (!known) {
        return;
    }
    shr_graph_remove_node(&w->model->graph, node);
    for (size_t i = 0; i < n; i++) {
        struct known *k = shr_map_get(&w->known, out[i]->name);
        shr_value_set_constant(out[i], k->tensor);
        k->tensor = (struct shr_tensor){0};
    }
}

static int infer_all(struct shr_model *model, const struct shr_type *in_types, bool settle_known,
                     shr_known_fn tell, void *user, struct shr_err *err)
{
    struct walk w = {.model = model, .given = in_types != NULL, .tell = tell, .user = user};
    if (in_types != NULL) {
        set_inputs(model, in_types);
    }
    int code = SHR_OK;
    struct shr_arena arena = {0}; /* of one node */
    for (struct shr_node *node = model->graph.first_node; node != NULL && code == SHR_OK;
         node = node->next) {
        code = infer_node(&w, node, &arena, err);
        shr_arena_finish(&arena);
    }
    for (struct shr_node *node = model->graph.first_node, *next;
         node != NULL && code == SHR_OK && settle_known; node = next) {
        next = node->next;
        settle_node(&w, node);
    }
    for (struct known *k = w.first; k != NULL; k = k->next) {
        shr_tensor_finish(&k->tensor);
    }
    shr_map_finish(&w.known);
    shr_arena_finish(&w.arena);
    return code;
}

int shr_model_infer(struct shr_model *model, const struct shr_type *in_types, struct shr_err *err)
{
    return infer_all(model, in_types, false, NULL, NULL, err);
}

int shr_model_infer_known(struct shr_model *model, const struct shr_type *in_types,
                          shr_known_fn tell, void *user, struct shr_err *err)
{
    return infer_all(model, in_types, false, tell, user, err);
}

int shr_model_settle(struct shr_model *model, struct shr_err *err)
{
    return infer_all(model, NULL, true, NULL, NULL, err);
}
