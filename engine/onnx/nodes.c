/* The nodes of a GraphProto, and the graph as a whole: names before the nodes that use them. */
#include <stdio.h>
#include <string.h>

#include "onnx/onnx.h"

/* "node 'name'", or by operator and place when it has no name. */
static const char *node_text(const Onnx__NodeProto *from, size_t i, char *text, size_t size)
{
    if (from->name != NULL && from->name[0] != 0) {
        snprintf(text, size, "node '%.96s'", from->name);
    } else {
        snprintf(text, size, "node %zu (%.64s)", i, from->op_type == NULL ? "" : from->op_type);
    }
    return text;
}

static int check_head(struct shr_reader *r, const Onnx__NodeProto *from, size_t i,
                      struct shr_err *err)
{
    char text[128];
    const char *name;
    if (from->op_type == NULL || from->op_type[0] == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s has no op_type",
                           node_text(from, i, text, sizeof text));
    }
    int code = shr_read_name(r, from->name, "the name of a node", &name, err);
    code = code == SHR_OK ? shr_read_name(r, from->op_type, "an op_type", &name, err) : code;
    code = code == SHR_OK ? shr_read_name(r, from->domain, "a domain", &name, err) : code;
    if (code == SHR_OK && shr_model_opset(r->model, shr_read_domain(from->domain)) == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: opset_import has no version of domain '%s'",
                           node_text(from, i, text, sizeof text),
                           from->domain == NULL || from->domain[0] == 0 ? "ai.onnx" : from->domain);
    }
    return code;
}

/* Before any node is made, every name that one computes is there: order does not matter then. */
static int read_node_outputs(struct shr_reader *r, const Onnx__GraphProto *from,
                             struct shr_err *err)
{
    char text[128];
    for (size_t i = 0; i < from->n_node; i++) {
        const Onnx__NodeProto *node = from->node[i];
        int code = check_head(r, node, i, err);
        for (size_t k = 0; code == SHR_OK && k < node->n_output; k++) {
            struct shr_value *v;
            if (node->output[k][0] == 0) {
                continue;
            }
            code = shr_read_new_value(r, node->output[k], "output", &v, err);
            if (code == SHR_ERR_INVALID) {
                shr_err_prefix(err, "%s: ", node_text(node, i, text, sizeof text));
            }
        }
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

static int find_values(struct shr_reader *r, char *const *names, size_t n, const char *what,
                       struct shr_value **ret, struct shr_err *err)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = names[i][0] == 0 ? NULL : shr_graph_find(r->g, names[i]);
        if (ret[i] == NULL && names[i][0] != 0) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "%s: input '%.96s' is no graph input, initializer or node output",
                               what, names[i]);
        }
    }
    return SHR_OK;
}

static int read_node(struct shr_reader *r, const Onnx__NodeProto *from, size_t i,
                     struct shr_err *err)
{
    char text[128];
    struct shr_arena scratch = {0};
    struct shr_value **in = shr_arena_new(&scratch, from->n_input, sizeof *in);
    struct shr_value **out = shr_arena_new(&scratch, from->n_output, sizeof *out);
    if (in == NULL || out == NULL) {
        shr_arena_finish(&scratch);
        return shr_onnx_no_memory(err);
    }
    node_text(from, i, text, sizeof text);
    struct shr_node *node;
    int code = find_values(r, from->input, from->n_input, text, in, err);
    code = code == SHR_OK ? find_values(r, from->output, from->n_output, text, out, err) : code;
    code = code == SHR_OK ? shr_graph_add_node(r->g, NULL, shr_read_domain(from->domain),
                                               from->op_type, from->name == NULL ? "" : from->name,
                                               in, from->n_input, out, from->n_output, &node, err)
                          : code;
    shr_arena_finish(&scratch);
    code = code == SHR_OK ? shr_extra_get(r, &node->extra, err) : code;
    code = code == SHR_OK
               ? shr_keep_text(r, &node->extra->fields, SHR_TAG_NODE_DOC, from->doc_string, err)
               : code;
    code = code == SHR_OK ? shr_keep_unknown(r, &node->extra->fields, &from->base, err) : code;
    code = code == SHR_OK ? shr_read_attrs(r, from, node, err) : code;
    return code == SHR_OK ? shr_read_captures(r, from, node, err) : code;
}

/* The output of a Constant node is known data. */
static int read_constant(struct shr_node *node, struct shr_err *err)
{
    const struct shr_attr *attr = node->attrs;
    struct shr_value *v = shr_node_out(node, 0);
    if (!shr_node_is(node, "Constant") || v == NULL || attr == NULL || attr->next != NULL) {
        return SHR_OK;
    }
    struct shr_tensor t = {0};
    int code = SHR_OK;
    const int64_t n = (int64_t)attr->n;
    switch (attr->kind) {
    case SHR_ATTR_TENSOR:
        t = shr_tensor_ref(&attr->tensor);
        break;
    case SHR_ATTR_FLOAT:
        code = shr_tensor_new(SHR_DTYPE_F32, 0, NULL, &t, err);
        if (code == SHR_OK) {
            *(float *)t.data = attr->f;
        }
        break;
    case SHR_ATTR_INT:
        code = shr_tensor_new(SHR_DTYPE_I64, 0, NULL, &t, err);
        if (code == SHR_OK) {
            *(int64_t *)t.data = attr->i;
        }
        break;
    case SHR_ATTR_FLOATS:
        code = shr_tensor_new(SHR_DTYPE_F32, 1, &n, &t, err);
        if (code == SHR_OK && n > 0) {
            memcpy(t.data, attr->floats, shr_tensor_bytes(&t));
        }
        break;
    case SHR_ATTR_INTS:
        code = shr_tensor_new(SHR_DTYPE_I64, 1, &n, &t, err);
        if (code == SHR_OK && n > 0) {
            memcpy(t.data, attr->ints, shr_tensor_bytes(&t));
        }
        break;
    default: /* strings and sparse tensors: no data for the engine */
        return SHR_OK;
    }
    if (code == SHR_OK) {
        v->constant = t;
        v->type = (struct shr_type){.dtype = t.dtype, .rank = t.rank};
        memcpy(v->type.dim, t.dim, sizeof v->type.dim);
    }
    return code;
}

static int read_nodes(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
{
    for (size_t i = 0; i < from->n_node; i++) {
        int code = read_node(r, from->node[i], i, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    SHR_EACH_NODE (node, r->g) {
        int code = read_constant(node, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

/* ── Graph and model ────────────────────────────────────────────────────────────────────────── */

static int read_graph_extra(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
{
    int code = shr_extra_get(r, &r->g->extra, err);
    if (code != SHR_OK) {
        return code;
    }
    struct shr_fields *fields = &r->g->extra->fields;
    code = shr_keep_text(r, fields, SHR_TAG_GRAPH_DOC, from->doc_string, err);
    for (size_t i = 0; code == SHR_OK && i < from->n_quantization_annotation; i++) {
        code = shr_keep_message(r, fields, SHR_TAG_GRAPH_ANNOTATION,
                                &from->quantization_annotation[i]->base, err);
    }
    return code == SHR_OK ? shr_keep_unknown(r, fields, &from->base, err) : code;
}

int shr_read_graph_inputs(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
{
    int code = shr_copy_name(r, from->name, "the name of the graph", &r->g->name, err);
    code = code == SHR_OK ? read_graph_extra(r, from, err) : code;
    return code == SHR_OK ? shr_read_inputs(r, from, err) : code;
}

int shr_read_graph_rest(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
{
    int code = shr_read_initializers(r, from, err);
    code = code == SHR_OK ? read_node_outputs(r, from, err) : code;
    code = code == SHR_OK ? shr_read_outputs(r, from, err) : code;
    code = code == SHR_OK ? shr_read_value_infos(r, from, err) : code;
    code = code == SHR_OK ? read_nodes(r, from, err) : code;
    code = code == SHR_OK ? shr_graph_sort(r->g, err) : code;
    return code == SHR_OK ? shr_graph_check(r->g, err) : code;
}
