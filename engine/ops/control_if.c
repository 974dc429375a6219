/* If: one of two bodies without inputs of their own.
 *
 * A condition that is known when the plan is made leaves no If behind (exec/inline.c). Here it is
 * not known: both branches are prepared, and must give outputs of the same shapes. A branch that
 * does not fit the shapes of this plan fails when it is taken. */
#include <string.h>

#include "ops/control.h"

static const char *const branches[] = {"else_branch", "then_branch"};

struct state {
    struct shr_body *body[2]; /* by the condition; NULL = see why */
    struct shr_err why[2];
};

static bool truth(const struct shr_tensor *t)
{
    return *(const unsigned char *)t->data != 0;
}

static int check(const struct shr_infer *c, struct shr_err *err)
{
    const struct shr_node *node = c->node;
    if (shr_control_own(node) != 1 || shr_node_in(node, 0) == NULL) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "wants one input, the condition");
    }
    const enum shr_dtype dtype = c->in[0].dtype;
    if (dtype != SHR_DTYPE_BOOL && dtype != SHR_DTYPE_NONE) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "the condition is %s, not bool",
                           shr_dtype_name(dtype));
    }
    if (c->in_data[0] != NULL && shr_tensor_count(c->in_data[0]) != 1) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "the condition has %lld elements, not one",
                           (long long)shr_tensor_count(c->in_data[0]));
    }
    int rc = SHR_OK;
    for (int i = 0; rc == 0 && i < 2; i++) {
        rc = shr_control_counts(node, branches[i], 0, node->n_out, err);
    }
    return rc;
}

/* What both branches agree on. */
static int merge(const struct shr_node *node, size_t i, struct shr_type *to,
                 const struct shr_type *other, struct shr_err *err)
{
    if (to->dtype != SHR_DTYPE_NONE && other->dtype != SHR_DTYPE_NONE &&
        to->dtype != other->dtype) {
        return shr_op_fail(node, err, SHR_ERR_INVALID,
                           "output %zu is %s in one branch and %s in "
                           "the other",
                           i, shr_dtype_name(to->dtype), shr_dtype_name(other->dtype));
    }
    if (to->dtype == SHR_DTYPE_NONE || to->rank != other->rank) {
        to->dtype = other->dtype == SHR_DTYPE_NONE ? to->dtype : other->dtype;
        to->rank = -1;
        return SHR_OK;
    }
    for (int d = 0; d < to->rank; d++) {
        if (to->dim[d] != other->dim[d]) {
            shr_type_set_dim(to, d, -1, NULL);
        }
    }
    return SHR_OK;
}

static int infer(struct shr_infer *c, struct shr_err *err)
{
    int rc = check(c, err);
    if (rc != 0 || shr_control_body(c->node, branches[0]) == NULL) {
        return rc;
    }
    bool any = false;
    for (int k = 1; k >= 0; k--) {
        if (c->in_data[0] != NULL && truth(c->in_data[0]) != (k == 1)) {
            continue;
        }
        struct shr_model *body = shr_control_body(c->node, branches[k]);
        struct shr_err why = {0};
        int failed = shr_control_infer(c, body, NULL, 0, &why);
        if (failed != 0) {
            rc = shr_err_set(err, failed, "%s", why.msg);
            continue;
        }
        for (size_t i = 0; i < c->n_out; i++) {
            const struct shr_type type = shr_control_out(body, i);
            if (!any) {
                c->out[i] = type;
            } else if ((rc = merge(c->node, i, &c->out[i], &type, err)) != 0) {
                return rc;
            }
        }
        any = true;
    }
    return any ? SHR_OK : rc;
}

static bool fits(const struct shr_op_setup *c, const struct shr_body *body)
{
    for (size_t i = 0; i < c->n_out; i++) {
        const struct shr_tensor *out = c->out[i];
        if (out != NULL &&
            (out->dtype != body->out[i]->dtype || !shr_tensor_same_shape(out, body->out[i]))) {
            return false;
        }
    }
    return true;
}

static int setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct state *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for an If");
    }
    c->state = s;
    for (int k = 0; k < 2; k++) {
        int rc = shr_control_new(c, branches[k], NULL, 0, &s->body[k], &s->why[k]);
        if (rc == 0 && !fits(c, s->body[k])) {
            rc =
                shr_op_fail(c->node, &s->why[k], SHR_ERR_UNSUPPORTED,
                            "%s gives outputs of other shapes than those of the plan", branches[k]);
            shr_control_free(s->body[k]);
            s->body[k] = NULL;
        }
        if (rc == SHR_ERR_NOMEM || rc == SHR_ERR_LIMIT || rc == SHR_ERR_CANCELLED) {
            return shr_err_set(err, rc, "%s", s->why[k].msg);
        }
    }
    return s->body[0] == NULL && s->body[1] == NULL
               ? shr_err_set(err, s->why[1].code, "%s", s->why[1].msg)
               : SHR_OK;
}

static int forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct state *s = c->state;
    if (shr_tensor_count(c->in[0]) != 1) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the condition is not one element");
    }
    const int k = truth(c->in[0]);
    struct shr_body *body = s->body[k];
    if (body == NULL) {
        return shr_err_set(err, s->why[k].code, "%s", s->why[k].msg);
    }
    shr_control_fill(c, body, 0);
    int rc = body->run(body, err);
    for (size_t i = 0; rc == 0 && i < c->n_out; i++) {
        shr_control_copy(c->out[i], body->out[i]);
    }
    return rc;
}

static void finish(void *state)
{
    struct state *s = state;
    for (int k = 0; s != NULL && k < 2; k++) {
        shr_control_free(s->body[k]);
    }
}

static const struct shr_op rows[] = {
    {SHR_ROW("If", 1, 0), .infer = infer, .halves = true, .setup = setup, .forward = forward,
     .finish = finish, SHR_NO_WEIGHT},
};

const struct shr_op_family shr_ops_control_if = {rows, SHR_COUNT_OF(rows)};
