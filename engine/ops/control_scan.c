/* Scan: a body that is run for every slice of its inputs, from state to state.
 *
 *     inputs   states …, sequences …
 *     body     (states …, slices …, captures …) → (states …, slices …)
 *     outputs  states …, and the slices of every step in one tensor
 *
 * From opset 9 on; states keep their shapes, and the number of steps is a dim of the sequences. */
#include <inttypes.h>
#include <string.h>

#include "ops/control.h"

struct sequence { /* how slices lie in a tensor */
    bool backward;
    size_t outer, inner; /* inner: bytes of one piece of a slice */
};

struct state {
    struct shr_body *body;
    size_t n_states, n_in, n_out; /* sequences that go in and come out */
    int64_t steps;
    struct sequence *sequence; /* [n_in + n_out] */
    bool moves;                /* an output of the body is an input of it */
};

static size_t count_in(const struct shr_node *node)
{
    const int64_t n = shr_node_int(node, "num_scan_inputs", 0);
    const size_t own = shr_control_own(node);
    return n < 1 || (uint64_t)n > own ? 0 : (size_t)n;
}

static size_t count_states(const struct shr_node *node)
{
    return shr_control_own(node) - count_in(node);
}

static int64_t of_list(const struct shr_node *node, const char *attr, size_t i)
{
    size_t n = 0;
    const int64_t *v = shr_node_ints(node, attr, &n);
    return v == NULL || i >= n ? 0 : v[i];
}

static int in_axis(const struct shr_node *node, size_t i, int rank, int *ret, struct shr_err *err)
{
    return shr_op_axis(node, "scan_input_axes", of_list(node, "scan_input_axes", i), rank, ret,
                       err);
}

static int out_axis(const struct shr_node *node, size_t i, int rank, int *ret, struct shr_err *err)
{
    return shr_op_axis(node, "scan_output_axes", of_list(node, "scan_output_axes", i), rank, ret,
                       err);
}

/* ── Types ──────────────────────────────────────────────────────────────────────────────────── */

static int check(const struct shr_infer *c, struct shr_err *err)
{
    const struct shr_node *node = c->node;
    const size_t own = shr_control_own(node);
    if (count_in(node) == 0 || node->n_out < count_states(node)) {
        return shr_op_fail(node, err, SHR_ERR_INVALID,
                           "wants num_scan_inputs sequences, and an output for every state");
    }
    for (size_t i = 0; i < own; i++) {
        if (shr_node_in(node, i) == NULL) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "input %zu is missing", i);
        }
    }
    return shr_control_counts(node, "body", own, node->n_out, err);
}

static void remove_dim(struct shr_type *t, int axis)
{
    t->rank--;
    for (int d = axis; d < t->rank; d++) {
        shr_type_copy_dim(t, d, t, d + 1);
    }
}

/* The type of a slice of sequence i; tells how many there are. */
static int slice_type(const struct shr_infer *c, size_t i, struct shr_type *ret, int64_t *steps,
                      struct shr_err *err)
{
    *ret = c->in[count_states(c->node) + i];
    if (ret->rank < 0) {
        return SHR_OK;
    }
    int axis;
    int rc = in_axis(c->node, i, ret->rank, &axis, err);
    if (rc != 0) {
        return rc;
    }
    if (ret->dim[axis] >= 0 && *steps >= 0 && *steps != ret->dim[axis]) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "its sequences have %" PRId64 " and %" PRId64 " steps", *steps,
                           ret->dim[axis]);
    }
    *steps = ret->dim[axis] >= 0 ? ret->dim[axis] : *steps;
    remove_dim(ret, axis);
    return SHR_OK;
}

static int infer_out(struct shr_infer *c, const struct shr_model *body, int64_t steps, size_t i,
                     struct shr_err *err)
{
    const struct shr_type slice = shr_control_out(body, i);
    struct shr_type *out = &c->out[i];
    int axis;
    out->dtype = slice.dtype;
    if (slice.rank < 0) {
        return SHR_OK;
    }
    if (slice.rank == SHR_MAX_RANK) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "output %zu has more than %d dims", i,
                           SHR_MAX_RANK);
    }
    int rc = out_axis(c->node, i - count_states(c->node), slice.rank + 1, &axis, err);
    if (rc != 0) {
        return rc;
    }
    out->rank = slice.rank + 1;
    for (int d = 0; d < out->rank; d++) {
        if (d == axis) {
            shr_type_set_dim(out, d, steps, NULL);
        } else {
            shr_type_copy_dim(out, d, &slice, d - (d > axis));
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
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the types of a Scan");
    }
    int64_t steps = -1;
    for (size_t i = 0; i < states; i++) {
        types[i] = c->out[i] = c->in[i];
    }
    for (size_t i = states; rc == 0 && i < own; i++) {
        rc = slice_type(c, i - states, &types[i], &steps, err);
    }
    rc = rc == 0 ? shr_control_infer(c, body, types, own, err) : rc;
    shr_mem_free(types);
    for (size_t i = states; rc == 0 && i < c->n_out; i++) {
        rc = infer_out(c, body, steps, i, err);
    }
    return rc;
}

/* ── Preparation ────────────────────────────────────────────────────────────────────────────── */

static struct sequence sequence_of(const struct shr_tensor *t, int axis, bool backward)
{
    struct sequence s = {.backward = backward, .outer = 1, .inner = shr_dtype_size(t->dtype)};
    for (int d = 0; d < t->rank; d++) {
        if (d < axis) {
            s.outer *= (size_t)t->dim[d];
        } else if (d > axis) {
            s.inner *= (size_t)t->dim[d];
        }
    }
    return s;
}

static int set_in(struct shr_op_setup *c, struct state *s, struct shr_tensor *slice, size_t i,
                  struct shr_err *err)
{
    const struct shr_tensor *t = c->in[s->n_states + i];
    int axis;
    int rc = in_axis(c->node, i, t->rank, &axis, err);
    if (rc != 0) {
        return rc;
    }
    s->sequence[i] = sequence_of(t, axis, of_list(c->node, "scan_input_directions", i) != 0);
    s->steps = t->dim[axis];
    *slice = (struct shr_tensor){.dtype = t->dtype, .rank = t->rank - 1};
    for (int d = 0; d < slice->rank; d++) {
        slice->dim[d] = t->dim[d + (d >= axis)];
    }
    return SHR_OK;
}

static int check_out(const struct shr_op_setup *c, const struct state *s, size_t i,
                     struct shr_err *err)
{
    const struct shr_tensor *have = s->body->out[i];
    const struct shr_tensor *want = i < s->n_states ? c->in[i] : c->out[i];
    if (i >= s->n_states) {
        if (want == NULL || (want->dtype == have->dtype && want->rank == have->rank + 1 &&
                             shr_tensor_count(want) == s->steps * shr_tensor_count(have))) {
            return SHR_OK;
        }
    } else if (want->dtype == have->dtype && shr_tensor_same_shape(want, have)) {
        return SHR_OK;
    }
    char a[96], b[96];
    return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED,
                       "output %zu is %s and its body gives %s: states must keep their shapes", i,
                       shr_dims_text(want->rank, want->dim, a, sizeof a),
                       shr_dims_text(have->rank, have->dim, b, sizeof b));
}

static int set_out(struct shr_op_setup *c, struct state *s, size_t i, struct shr_err *err)
{
    const size_t k = i - s->n_states;
    int axis, rc = SHR_OK;
    if (c->out[i] != NULL) {
        rc = out_axis(c->node, k, c->out[i]->rank, &axis, err);
        if (rc == 0) {
            s->sequence[s->n_in + k] =
                sequence_of(c->out[i], axis, of_list(c->node, "scan_output_directions", k) != 0);
        }
    }
    return rc;
}

static size_t prepare_states(struct state *s)
{
    size_t bytes = 0; /* of tensors that are there: no overflow */
    for (size_t i = 0; i < s->n_states; i++) {
        bytes += shr_tensor_bytes(s->body->out[i]);
        for (size_t k = 0; k < s->body->n_in; k++) {
            s->moves |= s->body->in[k] != NULL && s->body->in[k]->data == s->body->out[i]->data;
        }
    }
    return s->moves ? bytes : 0;
}

static int setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct state *s = shr_arena_new(c->arena, 1, sizeof *s);
    const size_t own = shr_control_own(c->node);
    struct shr_tensor *in = shr_arena_new(c->arena, own, sizeof *in);
    if (s == NULL || in == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a Scan");
    }
    c->state = s;
    s->n_states = count_states(c->node);
    s->n_in = count_in(c->node);
    s->n_out = c->n_out - s->n_states;
    s->sequence = shr_arena_new(c->arena, s->n_in + s->n_out + 1, sizeof *s->sequence);
    if (s->sequence == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a Scan");
    }
    int rc = SHR_OK;
    for (size_t i = 0; i < s->n_states; i++) {
        in[i] = *c->in[i];
        in[i].data = NULL; /* it changes */
        in[i].storage = NULL;
    }
    for (size_t i = 0; rc == 0 && i < s->n_in; i++) {
        rc = set_in(c, s, &in[s->n_states + i], i, err);
    }
    rc = rc == 0 ? shr_control_new(c, "body", in, own, &s->body, err) : rc;
    for (size_t i = 0; rc == 0 && i < c->n_out; i++) {
        rc = check_out(c, s, i, err);
        if (rc == 0 && i >= s->n_states) {
            rc = set_out(c, s, i, err);
        }
    }
    if (rc == 0) {
        c->scratch = prepare_states(s);
    }
    return rc;
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

/* Copies slice `at` between a sequence (outer, steps, inner) and a slice (outer, inner). */
static void copy_slice(const struct sequence *q, int64_t steps, int64_t at, unsigned char *sequence,
                       unsigned char *slice, bool out)
{
    const size_t place = (size_t)(q->backward ? steps - 1 - at : at);
    for (size_t o = 0; o < q->outer && q->inner > 0; o++) {
        unsigned char *piece = sequence + (o * (size_t)steps + place) * q->inner;
        memcpy(out ? piece : slice + o * q->inner, out ? slice + o * q->inner : piece, q->inner);
    }
}

static void carry(const struct shr_op_call *c, const struct state *s)
{
    const struct shr_body *body = s->body;
    unsigned char *at = c->scratch;
    for (size_t i = 0; s->moves && i < s->n_states; i++) {
        const size_t bytes = shr_tensor_bytes(body->out[i]);
        if (bytes > 0) {
            memcpy(at, body->out[i]->data, bytes);
        }
        at += bytes;
    }
    at = c->scratch;
    for (size_t i = 0; i < s->n_states; i++) {
        const size_t bytes = shr_tensor_bytes(body->out[i]);
        if (bytes > 0) {
            memcpy(body->in[i]->data, s->moves ? at : body->out[i]->data, bytes);
        }
        at += s->moves ? bytes : 0;
    }
}

static int forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct state *s = c->state;
    struct shr_body *body = s->body;
    for (size_t i = 0; i < s->n_states; i++) {
        shr_control_copy(body->in[i], c->in[i]);
    }
    shr_control_fill(c, body, s->n_states + s->n_in);
    for (int64_t at = 0; at < s->steps; at++) {
        for (size_t i = 0; i < s->n_in; i++) {
            copy_slice(&s->sequence[i], s->steps, at, c->in[s->n_states + i]->data,
                       body->in[s->n_states + i]->data, false);
        }
        int rc = body->run(body, err);
        if (rc != 0) {
            return rc;
        }
        for (size_t k = 0; k < s->n_out; k++) {
            if (c->out[s->n_states + k] != NULL) {
                copy_slice(&s->sequence[s->n_in + k], s->steps, at, c->out[s->n_states + k]->data,
                           body->out[s->n_states + k]->data, true);
            }
        }
        carry(c, s);
    }
    for (size_t i = 0; i < s->n_states; i++) {
        shr_control_copy(c->out[i], body->in[i]);
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
    {SHR_ROW("Scan", 9, 0), .infer = infer, .halves = true, .setup = setup, .forward = forward,
     .finish = finish, SHR_NO_WEIGHT},
};

const struct shr_op_family shr_ops_control_scan = {rows, SHR_COUNT_OF(rows)};
