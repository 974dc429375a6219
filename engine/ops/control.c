/* The bodies of control flow; see control.h. */
#include "ops/control.h"

#include <string.h>

struct shr_model *shr_control_body(const struct shr_node *node, const char *attr)
{
    const struct shr_attr *a = shr_node_attr(node, attr);
    return a == NULL || a->kind != SHR_ATTR_GRAPH ? NULL : a->body;
}

size_t shr_control_own(const struct shr_node *node)
{
    return node->n_in - node->n_taken;
}

int shr_control_counts(const struct shr_node *node, const char *attr, size_t n_own, size_t n_out,
                       struct shr_err *err)
{
    const struct shr_model *body = shr_control_body(node, attr);
    const struct shr_attr *a = shr_node_attr(node, attr);
    if (a == NULL || a->kind != SHR_ATTR_GRAPH) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "attribute %s is missing", attr);
    }
    if (body == NULL) {
        return SHR_OK;
    }
    const size_t in = body->graph.n_inputs - node->n_taken;
    if (in != n_own || body->graph.n_outputs != n_out) {
        return shr_op_fail(node, err, SHR_ERR_INVALID,
                           "%s has %zu inputs and %zu outputs instead of %zu and %zu", attr, in,
                           body->graph.n_outputs, n_own, n_out);
    }
    return SHR_OK;
}

/* Captured values that are known stay known inside. */
static void give_data(const struct shr_infer *c, struct shr_model *body, size_t n_own)
{
    const size_t own = shr_control_own(c->node);
    for (size_t i = n_own; i < body->graph.n_inputs; i++) {
        struct shr_value *v = body->graph.inputs[i];
        const struct shr_tensor *data = c->in_data[own + i - n_own];
        if (data != NULL && v->uses != NULL && !shr_value_is_constant(v)) {
            shr_value_set_constant(v, shr_tensor_ref(data));
        }
    }
}

int shr_control_infer(const struct shr_infer *c, struct shr_model *body, const struct shr_type *own,
                      size_t n_own, struct shr_err *err)
{
    const size_t first_taken = shr_control_own(c->node);
    struct shr_type *types = shr_mem_new(body->graph.n_inputs + 1, sizeof *types);
    if (types == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the types of a subgraph");
    }
    give_data(c, body, n_own);
    size_t n = 0;
    for (size_t i = 0; i < body->graph.n_inputs; i++) {
        if (!shr_value_is_constant(body->graph.inputs[i])) {
            types[n++] = i < n_own ? own[i] : c->in[first_taken + i - n_own];
        }
    }
    int rc = shr_model_infer(body, types, err);
    shr_mem_free(types);
    if (rc != 0) {
        char label[96];
        shr_err_prefix(err, "inside of %s: ", shr_node_label(c->node, label, sizeof label));
    }
    return rc;
}

struct shr_type shr_control_out(const struct shr_model *body, size_t i)
{
    const struct shr_value *v = body->graph.outputs[i];
    if (!shr_value_is_constant(v)) {
        return v->type;
    }
    struct shr_type type = {.dtype = v->constant.dtype, .rank = v->constant.rank};
    memcpy(type.dim, v->constant.dim, sizeof type.dim);
    return type;
}

int shr_control_new(struct shr_op_setup *c, const char *attr, const struct shr_tensor *own,
                    size_t n_own, struct shr_body **ret, struct shr_err *err)
{
    const struct shr_model *body = shr_control_body(c->node, attr);
    if (c->body_new == NULL || body == NULL) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "runs in plans only");
    }
    const struct shr_tensor **in = shr_mem_new(body->graph.n_inputs + 1, sizeof *in);
    if (in == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a subgraph");
    }
    const size_t first_taken = shr_control_own(c->node);
    for (size_t i = 0; i < body->graph.n_inputs; i++) {
        in[i] = i < n_own ? &own[i] : c->in[first_taken + i - n_own];
    }
    int rc = c->body_new(c->body_user, body, in, ret, err);
    shr_mem_free(in);
    if (rc != 0) {
        char label[96];
        shr_err_prefix(err, "%s of %s: ", attr, shr_node_label(c->node, label, sizeof label));
    }
    return rc;
}

void shr_control_free(struct shr_body *body)
{
    if (body != NULL) {
        body->free(body);
    }
}

void shr_control_copy(struct shr_tensor *to, const struct shr_tensor *from)
{
    if (to != NULL && to->data != from->data && shr_tensor_bytes(to) > 0) {
        memcpy(to->data, from->data, shr_tensor_bytes(to));
    }
}

void shr_control_fill(const struct shr_op_call *c, const struct shr_body *body, size_t n_own)
{
    const size_t own = shr_control_own(c->node);
    for (size_t i = n_own; i < body->n_in; i++) {
        if (body->in[i] != NULL) {
            shr_control_copy(body->in[i], c->in[own + i - n_own]);
        }
    }
}
