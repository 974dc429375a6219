/* Graphs inside of nodes in the place of their nodes, where a plan knows enough.
 *
 * An If whose condition is known becomes its branch, so that fusing sees one graph. A Loop of few
 * known iterations becomes that many copies of its body when the shapes inside depend on the
 * iteration or change with the states; other Loops keep one body. Shapes decide many conditions and
 * conditions many shapes, so binding, folding and this go on in turn until nothing is left. */
#include <string.h>

#include "exec/step.h"

enum { MOST_UNROLLED = 4096 /* nodes that a Loop may become */ };

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a subgraph");
}

/* ── A copy of a body ───────────────────────────────────────────────────────────────────────── */

struct copying {
    struct shr_graph *g;
    struct shr_node *before;
    const struct shr_graph *body;
    struct shr_map values; /* of g, by the name in the body */
};

/* inputs: what stands for those of the body. */
static int map_values(struct copying *x, struct shr_value *const *inputs, struct shr_err *err)
{
    int rc = SHR_OK;
    for (size_t i = 0; rc == 0 && i < x->body->n_inputs; i++) {
        rc = shr_map_put(&x->values, x->body->inputs[i]->name, inputs[i], err);
    }
    for (const struct shr_value *v = x->body->first_value; rc == 0 && v != NULL; v = v->next) {
        struct shr_value *to;
        if (v->is_input) {
            continue;
        }
        if (shr_value_is_constant(v)) {
            rc = shr_graph_add_constant(x->g, v->name, shr_tensor_ref(&v->constant), &to, err);
        } else {
            rc = shr_graph_fresh_value(x->g, v->name, &to, err);
        }
        rc = rc == 0 ? shr_map_put(&x->values, v->name, to, err) : rc;
    }
    return rc;
}

static struct shr_value *mapped(const struct copying *x, const struct shr_value *v)
{
    return v == NULL ? NULL : shr_map_get(&x->values, v->name);
}

static int copy_node(struct copying *x, const struct shr_node *from, struct shr_err *err)
{
    struct shr_arena scratch = {0};
    struct shr_value **in = shr_arena_new(&scratch, from->n_in + 1, sizeof *in);
    struct shr_value **out = shr_arena_new(&scratch, from->n_out + 1, sizeof *out);
    int rc = SHR_OK;
    if (in == NULL || out == NULL) {
        rc = no_memory(err);
        goto out;
    }
    for (size_t i = 0; i < from->n_in; i++) {
        in[i] = mapped(x, from->in[i].value);
    }
    for (size_t i = 0; i < from->n_out; i++) {
        out[i] = mapped(x, from->out[i]);
    }
    struct shr_node *node;
    rc = shr_graph_add_node(x->g, x->before, from->domain, from->op_type, from->name, in,
                            from->n_in, out, from->n_out, &node, err);
    if (rc == 0) {
        node->op = from->op;
        node->n_taken = from->n_taken;
        rc = shr_node_copy_attrs(x->g, from, node, err);
    }
out:
    shr_arena_finish(&scratch);
    return rc;
}

/* Copies the body in front of `before`; ret_outputs are its outputs there. */
static int copy_body(struct shr_graph *g, struct shr_node *before, const struct shr_graph *body,
                     struct shr_value *const *inputs, struct shr_value **ret_outputs,
                     struct shr_err *err)
{
    struct copying x = {.g = g, .before = before, .body = body};
    int rc = map_values(&x, inputs, err);
    for (const struct shr_node *n = body->first_node; rc == 0 && n != NULL; n = n->next) {
        if (!(shr_node_is(n, "Constant") && n->n_out == 1 && shr_value_is_constant(n->out[0]))) {
            rc = copy_node(&x, n, err);
        }
    }
    for (size_t i = 0; rc == 0 && i < body->n_outputs; i++) {
        ret_outputs[i] = mapped(&x, body->outputs[i]);
    }
    shr_map_finish(&x.values);
    return rc;
}

/* The node goes; its outputs are what the values hold. */
static int replace(struct shr_graph *g, struct shr_node *node, struct shr_value *const *values,
                   struct shr_err *err)
{
    struct shr_node *before = node->next;
    struct shr_value *out[SHR_OP_MAX_OUT];
    const size_t n = node->n_out;
    memcpy(out, node->out, n * sizeof(struct shr_value *));
    shr_graph_remove_node(g, node); /* with its bodies */
    int rc = SHR_OK;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct shr_node *copy;
        if (out[i] != NULL) {
            rc = shr_graph_add_node(g, before, "", "Identity", "", &values[i], 1, &out[i], 1, &copy,
                                    err);
        }
    }
    return rc;
}

static struct shr_value *capture(const struct shr_node *node, size_t i)
{
    return shr_node_in(node, node->n_in - node->n_taken + i);
}

static const struct shr_model *body_of(const struct shr_node *node, const char *attr)
{
    const struct shr_attr *a = shr_node_attr(node, attr);
    return a == NULL ? NULL : a->body;
}

static bool is_bool(const struct shr_value *v, bool truth)
{
    return shr_value_is_constant(v) && v->constant.dtype == SHR_DTYPE_BOOL &&
           shr_tensor_count(&v->constant) == 1 &&
           (*(const unsigned char *)v->constant.data != 0) == truth;
}

/* ── If ─────────────────────────────────────────────────────────────────────────────────────── */

/* The branch of an If that is decided, else NULL. */
static const struct shr_model *decided(const struct shr_node *node)
{
    const struct shr_value *cond = shr_node_in(node, 0);
    if (!shr_node_is(node, "If") || !(is_bool(cond, true) || is_bool(cond, false))) {
        return NULL;
    }
    const struct shr_model *body =
        body_of(node, is_bool(cond, true) ? "then_branch" : "else_branch");
    return body == NULL || body->graph.n_outputs != node->n_out ||
                   body->graph.n_inputs != node->n_taken
               ? NULL
               : body;
}

static int put_branch(struct shr_graph *g, struct shr_node *node, const struct shr_model *branch,
                      struct shr_err *err)
{
    struct shr_arena scratch = {0};
    struct shr_value **in = shr_arena_new(&scratch, node->n_taken + 1, sizeof *in);
    struct shr_value **out = shr_arena_new(&scratch, node->n_out + 1, sizeof *out);
    int rc = in == NULL || out == NULL ? no_memory(err) : SHR_OK;
    for (size_t i = 0; rc == 0 && i < node->n_taken; i++) {
        in[i] = capture(node, i);
    }
    rc = rc == 0 ? copy_body(g, node, &branch->graph, in, out, err) : rc;
    rc = rc == 0 ? replace(g, node, out, err) : rc;
    shr_arena_finish(&scratch);
    return rc;
}

/* ── Loop ───────────────────────────────────────────────────────────────────────────────────── */

enum { ITERATION, CONDITION, STATES };

static bool is_known(const struct shr_type *type)
{
    bool known = type->dtype != SHR_DTYPE_NONE && type->rank >= 0;
    for (int d = 0; known && d < type->rank; d++) {
        known = type->dim[d] >= 0;
    }
    return known;
}

/* Are there values of unknown shape, or states that do not keep theirs? */
static bool changes_shape(const struct shr_graph *body, size_t states)
{
    SHR_EACH_VALUE (v, body) {
        if (v->producer != NULL && !shr_value_is_constant(v) && !is_known(&v->type)) {
            return true;
        }
    }
    for (size_t i = 0; i < states; i++) {
        const struct shr_value *after = body->outputs[1 + i];
        if (!shr_value_is_constant(after) &&
            !shr_type_equal(&after->type, &body->inputs[STATES + i]->type)) {
            return true;
        }
    }
    return false;
}

static bool runs_on(const struct shr_graph *body)
{
    const struct shr_value *v = body->outputs[0];
    while (shr_node_is(v->producer, "Identity") && shr_node_in(v->producer, 0) != NULL) {
        v = shr_node_in(v->producer, 0);
    }
    return v == body->inputs[CONDITION] || is_bool(v, true);
}

/* How often a Loop that must be unrolled runs; 0 when it must not, or cannot be. */
static int64_t unrollable(const struct shr_node *node)
{
    const struct shr_model *body = shr_node_is(node, "Loop") ? body_of(node, "body") : NULL;
    const size_t own = node->n_in - node->n_taken;
    const struct shr_value *most = shr_node_in(node, ITERATION),
                           *cond = shr_node_in(node, CONDITION);
    if (body == NULL || own < STATES || body->graph.n_inputs != node->n_in ||
        node->n_out + 1 != body->graph.n_outputs || node->n_out + STATES < own ||
        !(cond == NULL || is_bool(cond, true)) || !shr_value_is_constant(most) ||
        most->constant.dtype != SHR_DTYPE_I64 || shr_tensor_count(&most->constant) != 1) {
        return 0;
    }
    const int64_t n = *(const int64_t *)most->constant.data;
    const int64_t nodes = (int64_t)body->graph.n_nodes + 1;
    return n > 0 && n <= MOST_UNROLLED / nodes && runs_on(&body->graph) &&
                   changes_shape(&body->graph, own - STATES)
               ? n
               : 0;
}

/* Rows of all iterations in one value: Unsqueeze each, then Concat. */
static int join(struct shr_model *model, struct shr_node *before, struct shr_value **rows, size_t n,
                struct shr_value **ret, struct shr_err *err)
{
    struct shr_graph *g = &model->graph;
    static const int64_t axis = 0, one = 1;
    struct shr_node *node;
    struct shr_tensor axes;
    struct shr_value *in[2];
    const bool as_input = shr_model_opset(model, "") >= 13;
    int rc = shr_tensor_new(SHR_DTYPE_I64, 1, &one, &axes, err); /* zeroed */
    rc = rc == 0 ? shr_graph_add_constant(g, "axes", axes, &in[1], err) : rc;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        in[0] = rows[i];
        rc = shr_graph_fresh_value(g, "row", &rows[i], err);
        rc = rc == 0 ? shr_graph_add_node(g, before, "", "Unsqueeze", "", in, as_input ? 2 : 1,
                                          &rows[i], 1, &node, err)
                     : rc;
        if (rc == 0 && !as_input) {
            rc = shr_node_set_ints(g, node, "axes", &axis, 1, err);
        }
    }
    rc = rc == 0 ? shr_graph_fresh_value(g, "rows", ret, err) : rc;
    rc =
        rc == 0 ? shr_graph_add_node(g, before, "", "Concat", "", rows, n, ret, 1, &node, err) : rc;
    return rc == 0 ? shr_node_set_int(g, node, "axis", 0, err) : rc;
}

static int number(struct shr_graph *g, enum shr_dtype dtype, int64_t value, struct shr_value **ret,
                  struct shr_err *err)
{
    struct shr_tensor t;
    int rc = shr_tensor_new(dtype, 0, NULL, &t, err);
    if (rc != 0) {
        return rc;
    }
    shr_tensor_set(&t, 0, (double)value);
    return shr_graph_add_constant(g, "iteration", t, ret, err);
}

struct unrolling {
    struct shr_value **in, **out; /* of one copy of the body */
    struct shr_value **rows;      /* (outputs of the node, iterations) */
    struct shr_value **results;   /* of the node */
};

static int copy_iterations(struct shr_graph *g, struct shr_node *node, const struct shr_graph *body,
                           int64_t n, struct unrolling *u, struct shr_err *err)
{
    const size_t states = node->n_in - node->n_taken - STATES;
    int rc = number(g, SHR_DTYPE_BOOL, 1, &u->in[CONDITION], err);
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        rc = number(g, SHR_DTYPE_I64, i, &u->in[ITERATION], err);
        rc = rc == 0 ? copy_body(g, node, body, u->in, u->out, err) : rc;
        for (size_t k = 0; rc == 0 && k < node->n_out; k++) {
            if (k < states) {
                u->in[STATES + k] = u->results[k] = u->out[1 + k];
            } else {
                u->rows[k * (size_t)n + (size_t)i] = u->out[1 + k];
            }
        }
    }
    return rc;
}

static int unroll(struct shr_model *model, struct shr_node *node, int64_t n, struct shr_err *err)
{
    const struct shr_graph *body = &body_of(node, "body")->graph;
    const size_t states = node->n_in - node->n_taken - STATES;
    struct shr_arena scratch = {0};
    struct unrolling u = {
        .in = shr_arena_new(&scratch, node->n_in + 1, sizeof *u.in),
        .out = shr_arena_new(&scratch, node->n_out + 2, sizeof *u.out),
        .rows = shr_arena_new(&scratch, (node->n_out + 1) * (size_t)n, sizeof *u.rows),
        .results = shr_arena_new(&scratch, node->n_out + 1, sizeof *u.results),
    };
    int rc = SHR_OK;
    if (u.in == NULL || u.out == NULL || u.rows == NULL || u.results == NULL) {
        rc = no_memory(err);
        goto out;
    }
    for (size_t i = STATES; i < node->n_in; i++) {
        u.in[i] = shr_node_in(node, i);
    }
    rc = copy_iterations(&model->graph, node, body, n, &u, err);
    for (size_t k = states; rc == 0 && k < node->n_out; k++) {
        rc = join(model, node, u.rows + k * (size_t)n, (size_t)n, &u.results[k], err);
    }
    rc = rc == 0 ? replace(&model->graph, node, u.results, err) : rc;
out:
    shr_arena_finish(&scratch);
    return rc;
}

int shr__plan_inline(struct shr_model *model, bool *ret_changed, struct shr_err *err)
{
    struct shr_graph *g = &model->graph;
    int rc = SHR_OK;
    *ret_changed = false;
    for (struct shr_node *node = g->first_node, *next; rc == 0 && node != NULL; node = next) {
        next = node->next;
        if (node->n_out > SHR_OP_MAX_OUT) {
            continue;
        }
        const struct shr_model *branch = decided(node);
        const int64_t n = unrollable(node);
        if (branch != NULL) {
            rc = put_branch(g, node, branch, err);
        } else if (n > 0) {
            rc = unroll(model, node, n, err);
        }
        *ret_changed |= branch != NULL || n > 0;
    }
    if (rc == 0 && *ret_changed) {
        shr_model_resolve(model);
        shr_graph_drop_unused(g);
    }
    return rc;
}
