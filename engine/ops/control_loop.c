/* Loop: a body that is run while its condition holds, at most so often, from state to state.
 *
 *     inputs   M (int64, may be omitted), cond (bool, may be omitted), states …
 *     body     (iteration, cond, states …, captures …) → (cond, states …, rows …)
 *     outputs  states …, and each row of every iteration in one tensor
 *
 * States keep their shapes. Rows want the number of iterations known when the plan is made: M is
 * known, and the condition never changes. The condition that the body is given is true whenever it
 * runs, so it is a constant there. */
#include <inttypes.h>
#include <string.h>

#include "ops/control.h"

enum {
    ITERATION,
    CONDITION,
    STATES, /* the first of them, in the node and in the body */
    MOST_ITERATIONS = 1 << 24
};

static const unsigned char is_true = 1;

struct state {
    struct shr_body *body;
    size_t n_states;
    bool moves; /* an output of the body is an input of it: states go through scratch */
};

static size_t count_states(const struct shr_node *node)
{
    const size_t own = shr_control_own(node);
    return own < STATES ? 0 : own - STATES;
}

static bool is_known_true(const struct shr_tensor *t)
{
    return t != NULL && t->data != NULL && shr_tensor_count(t) == 1 && t->dtype == SHR_DTYPE_BOOL &&
           *(const unsigned char *)t->data != 0;
}

/* ── Types ──────────────────────────────────────────────────────────────────────────────────── */

static int check(const struct shr_infer *c, struct shr_err *err)
{
    const struct shr_node *node = c->node;
    const size_t own = shr_control_own(node), states = count_states(node);
    if (own < STATES || node->n_out < states) {
        return shr_op_fail(node, err, SHR_ERR_INVALID,
                           "wants M, a condition, and an output for every state");
    }
    static const enum shr_dtype wanted[] = {SHR_DTYPE_I64, SHR_DTYPE_BOOL};
    for (size_t i = 0; i < STATES; i++) {
        if (c->in[i].dtype != SHR_DTYPE_NONE && c->in[i].dtype != wanted[i]) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "input %zu is %s, not %s", i,
                               shr_dtype_name(c->in[i].dtype), shr_dtype_name(wanted[i]));
        }
    }
    for (size_t i = STATES; i < own; i++) {
        if (shr_node_in(node, i) == NULL) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "input %zu is missing", i);
        }
    }
    return shr_control_counts(node, "body", own, node->n_out + 1, err);
}

/* Does the body's condition stay as it was given, or is it a constant true? */
static bool runs_on(const struct shr_model *body)
{
    const struct shr_value *v = body->graph.outputs[0];
    while (shr_node_is(v->producer, "Identity") && shr_node_in(v->producer, 0) != NULL) {
        v = shr_node_in(v->producer, 0);
    }
    return v == body->graph.inputs[CONDITION] ||
           (shr_value_is_constant(v) && is_known_true(&v->constant));
}

/* How often the body runs; -1 when that depends on data. */
static int64_t iterations(const struct shr_infer *c, const struct shr_model *body)
{
    const struct shr_tensor *most = c->in_data[ITERATION], *cond = c->in_data[CONDITION];
    if (shr_op_has_in(c, CONDITION) && cond != NULL && !is_known_true(cond)) {
        return 0;
    }
    if (most == NULL || most->dtype != SHR_DTYPE_I64 || shr_tensor_count(most) != 1 ||
        (shr_op_has_in(c, CONDITION) && cond == NULL) || !runs_on(body)) {
        return -1;
    }
    const int64_t n = *(const int64_t *)most->data;
    return n < 0 ? 0 : n;
}

static int infer_rows(struct shr_infer *c, const struct shr_model *body, struct shr_err *err)
{
    const size_t states = count_states(c->node);
    const int64_t n = iterations(c, body);
    for (size_t i = states; i < c->n_out; i++) {
        const struct shr_type row = shr_control_out(body, 1 + i);
        c->out[i].dtype = row.dtype;
        if (row.rank < 0) {
            continue;
        }
        if (row.rank == SHR_MAX_RANK) {
            return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "output %zu has more than %d dims", i,
                               SHR_MAX_RANK);
        }
        c->out[i].rank = row.rank + 1;
        shr_type_set_dim(&c->out[i], 0, n, NULL);
        for (int d = 0; d < row.rank; d++) {
            shr_type_copy_dim(&c->out[i], d + 1, &row, d);
        }
    }
    return SHR_OK;
}

static int infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_model *body = shr_control_body(c->node, "body");
    int rc = check(c, err);
    if (rc != 0 || body == NULL) {
        return rc;
    }
    const size_t own = shr_control_own(c->node), states = count_states(c->node);
    struct shr_type *types = shr_mem_new(own, sizeof *types);
    if (types == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the types of a Loop");
    }
    types[ITERATION] = (struct shr_type){.dtype = SHR_DTYPE_I64, .rank = 0};
    types[CONDITION] = (struct shr_type){.dtype = SHR_DTYPE_BOOL, .rank = 0};
    for (size_t i = 0; i < states; i++) {
        types[STATES + i] = c->in[STATES + i];
        c->out[i] = c->in[STATES + i];
    }
    rc = shr_control_infer(c, body, types, own, err);
    shr_mem_free(types);
    return rc != 0 ? rc : infer_rows(c, body, err);
}

/* ── Preparation ────────────────────────────────────────────────────────────────────────────── */

static int check_state(const struct shr_op_setup *c, const struct shr_body *body, size_t i,
                       struct shr_err *err)
{
    const struct shr_tensor *before = c->in[STATES + i], *after = body->out[1 + i];
    if (before->dtype == after->dtype && shr_tensor_same_shape(before, after)) {
        return SHR_OK;
    }
    char a[96], b[96];
    return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED,
                       "state %s is %s %s and becomes %s %s: states must keep their shapes",
                       shr_op_in_name(c->node, STATES + i), shr_dtype_name(before->dtype),
                       shr_dims_text(before->rank, before->dim, a, sizeof a),
                       shr_dtype_name(after->dtype),
                       shr_dims_text(after->rank, after->dim, b, sizeof b));
}

static int check_body(const struct shr_op_setup *c, const struct shr_body *body, size_t states,
                      struct shr_err *err)
{
    if (body->out[0]->dtype != SHR_DTYPE_BOOL || shr_tensor_count(body->out[0]) != 1) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the body's condition is not one bool");
    }
    int rc = SHR_OK;
    for (size_t i = 0; rc == 0 && i < states; i++) {
        rc = check_state(c, body, i, err);
    }
    for (size_t i = states; rc == 0 && i < c->n_out; i++) {
        const struct shr_tensor *all = c->out[i], *row = body->out[1 + i];
        if (all != NULL &&
            (all->rank != row->rank + 1 || all->dtype != row->dtype ||
             memcmp(all->dim + 1, row->dim, (size_t)row->rank * sizeof row->dim[0]) != 0)) {
            rc = shr_op_fail(c->node, err, SHR_ERR_INVALID, "output %zu has another type", i);
        }
    }
    return rc;
}

static bool moves(const struct shr_body *body)
{
    for (size_t o = 0; o < body->n_out; o++) {
        for (size_t i = 0; i < body->n_in; i++) {
            if (body->in[i] != NULL && body->out[o]->data == body->in[i]->data) {
                return true;
            }
        }
    }
    return false;
}

static size_t state_bytes(const struct shr_body *body, size_t states)
{
    size_t sum = 0; /* of tensors that are there: no overflow */
    for (size_t i = 0; i < states; i++) {
        sum += shr_tensor_bytes(body->out[1 + i]);
    }
    return sum;
}

static int setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct state *s = shr_arena_new(c->arena, 1, sizeof *s);
    const size_t own = shr_control_own(c->node);
    struct shr_tensor *in = shr_arena_new(c->arena, own, sizeof *in);
    if (s == NULL || in == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a Loop");
    }
    c->state = s;
    s->n_states = count_states(c->node);
    in[ITERATION] = (struct shr_tensor){.dtype = SHR_DTYPE_I64};
    in[CONDITION] =
        (struct shr_tensor){.dtype = SHR_DTYPE_BOOL, .data = (void *)(uintptr_t)&is_true};
    for (size_t i = STATES; i < own; i++) {
        in[i] = *c->in[i];
        in[i].data = NULL; /* it changes */
        in[i].storage = NULL;
    }
    int rc = shr_control_new(c, "body", in, own, &s->body, err);
    rc = rc == 0 ? check_body(c, s->body, s->n_states, err) : rc;
    if (rc == 0) {
        s->moves = moves(s->body);
        c->scratch = s->moves ? state_bytes(s->body, s->n_states) : 0;
    }
    return rc;
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

/* The states after an iteration become those before the next. */
static void carry(const struct shr_op_call *c, const struct state *s)
{
    const struct shr_body *body = s->body;
    unsigned char *at = c->scratch;
    for (size_t i = 0; s->moves && i < s->n_states; i++) {
        const size_t bytes = shr_tensor_bytes(body->out[1 + i]);
        if (bytes > 0) {
            memcpy(at, body->out[1 + i]->data, bytes);
        }
        at += bytes;
    }
    at = c->scratch;
    for (size_t i = 0; i < s->n_states; i++) {
        const size_t bytes = shr_tensor_bytes(body->out[1 + i]);
        if (bytes > 0) {
            memcpy(body->in[STATES + i]->data, s->moves ? at : body->out[1 + i]->data, bytes);
        }
        at += s->moves ? bytes : 0;
    }
}

static bool keep_rows(const struct shr_op_call *c, const struct state *s, int64_t iteration)
{
    for (size_t i = s->n_states; i < c->n_out; i++) {
        if (c->out[i] != NULL && iteration >= c->out[i]->dim[0]) {
            return false;
        }
        const struct shr_tensor *row = s->body->out[1 + i];
        const size_t bytes = shr_tensor_bytes(row);
        if (c->out[i] != NULL && bytes > 0) {
            memcpy((unsigned char *)c->out[i]->data + (size_t)iteration * bytes, row->data, bytes);
        }
    }
    return true;
}

/* Are there exactly so many rows as the plan has room for? */
static bool rows_are(const struct shr_op_call *c, const struct state *s, int64_t iterations)
{
    for (size_t i = s->n_states; i < c->n_out; i++) {
        if (c->out[i] != NULL && c->out[i]->dim[0] != iterations) {
            return false;
        }
    }
    return true;
}

static bool is_given(const struct shr_op_call *c, size_t slot)
{
    return c->in[slot] != NULL;
}

static int forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct state *s = c->state;
    struct shr_body *body = s->body;
    for (size_t i = 0; i < STATES; i++) {
        if (is_given(c, i) && shr_tensor_count(c->in[i]) != 1) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "input %zu is not one element", i);
        }
    }
    const int64_t most =
        is_given(c, ITERATION) ? *(const int64_t *)c->in[ITERATION]->data : INT64_MAX;
    bool more = !is_given(c, CONDITION) || *(const unsigned char *)c->in[CONDITION]->data != 0;
    for (size_t i = 0; i < s->n_states; i++) {
        shr_control_copy(body->in[STATES + i], c->in[STATES + i]);
    }
    shr_control_fill(c, body, STATES + s->n_states);
    int64_t n = 0;
    for (bool room = true; n < most && more; n++) {
        if (n == MOST_ITERATIONS) {
            return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "did not end after %d iterations",
                               MOST_ITERATIONS);
        }
        *(int64_t *)body->in[ITERATION]->data = n;
        int rc = body->run(body, err);
        if (rc != 0) {
            return rc;
        }
        more = *(const unsigned char *)body->out[0]->data != 0;
        room = room && keep_rows(c, s, n);
        carry(c, s);
    }
    if (!rows_are(c, s, n)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "ran %" PRId64 " times, not as often as its outputs have rows", n);
    }
    for (size_t i = 0; i < s->n_states; i++) {
        shr_control_copy(c->out[i], body->in[STATES + i]);
    }
    return SHR_OK;
}

static void finish(void *state)
{
    struct state *s = state;
    if (s != NULL) {
        shr_control_free(s->body);
    }
}

static const struct shr_op rows[] = {
    {SHR_ROW("Loop", 1, 0), .infer = infer, .halves = true, .setup = setup, .forward = forward,
     .finish = finish, SHR_NO_WEIGHT},
};

const struct shr_op_family shr_ops_control_loop = {rows, SHR_COUNT_OF(rows)};
