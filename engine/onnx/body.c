/* Subgraphs for running: from the bytes of an attribute to a model of its own.
 *
 * A subgraph reads values of the graph around it by name. Here they become inputs: of the body, in
 * the order of the node's captures, behind its own inputs; and of the node, behind its own. A body
 * has an input for every capture of the node, so that all bodies of a node are called alike; one
 * that it does not read has a name that no file has. The node's captures are gone then. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "onnx/onnx.h"
#include "ops/op.h"

struct expansion {
    struct shr_model *model; /* around the node */
    struct shr_node *node;
    struct shr_reader outer, inner;
};

static int import_opsets(const struct shr_model *from, struct shr_model *to, struct shr_err *err)
{
    int code = SHR_OK;
    to->ir_version = from->ir_version;
    for (const struct shr_opset *o = from->opsets; code == SHR_OK && o != NULL; o = o->next) {
        code = shr_model_import(to, o->domain, o->version, err);
    }
    return code;
}

static bool is_among(struct shr_value *const *values, size_t n, const struct shr_value *v)
{
    for (size_t i = 0; i < n; i++) {
        if (values[i] == v) {
            return true;
        }
    }
    return false;
}

/* The inputs of the body that stand for the captures of the node. */
static int add_captures(struct expansion *x, const Onnx__GraphProto *from, struct shr_err *err)
{
    struct shr_value **read = NULL;
    size_t n = 0;
    int code = shr_read_outer(&x->outer, from, x->node, &read, &n, err);
    for (size_t i = 0; code == SHR_OK && i < x->node->n_captures; i++) {
        const struct shr_value *capture = x->node->captures[i];
        struct shr_value *v;
        if (is_among(read, n, capture)) {
            code = shr_read_new_value(&x->inner, capture->name, "captured value", &v, err);
        } else {
            code = shr_graph_fresh_value(x->inner.g, "not read", &v, err);
        }
        code = code == SHR_OK ? shr_graph_add_input(x->inner.g, v, err) : code;
    }
    shr_mem_free(read);
    return code;
}

static int read_body(struct expansion *x, const Onnx__GraphProto *from, struct shr_err *err)
{
    int code = import_opsets(x->model, x->inner.model, err);
    code = code == SHR_OK ? shr_read_graph_inputs(&x->inner, from, err) : code;
    code = code == SHR_OK ? add_captures(x, from, err) : code;
    code = code == SHR_OK ? shr_read_graph_rest(&x->inner, from, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    for (size_t i = 0; i < x->inner.g->n_inputs; i++) {
        if (shr_value_is_constant(x->inner.g->inputs[i])) {
            return shr_err_set(err, SHR_ERR_UNSUPPORTED, "input '%s' has a default",
                               x->inner.g->inputs[i]->name);
        }
    }
    shr_model_resolve(x->inner.model);
    return shr_model_expand(x->inner.model, err);
}

static int expand_attr(struct shr_model *model, struct shr_node *node, struct shr_attr *attr,
                       struct shr_err *err)
{
    bool failed = false;
    ProtobufCAllocator allocator = shr_read_allocator(&failed);
    Onnx__AttributeProto *decoded =
        onnx__attribute_proto__unpack(&allocator, attr->raw.n, (const unsigned char *)attr->raw.s);
    struct shr_model *body = decoded == NULL ? NULL : shr_read_new_model();
    if (body == NULL || decoded->g == NULL) { /* the bytes are ours: they decode */
        shr_model_free(body);
        onnx__attribute_proto__free_unpacked(decoded, &allocator);
        return shr_onnx_no_memory(err);
    }
    struct expansion x = {.model = model, .node = node};
    x.outer = (struct shr_reader){.limits = shr_read_limits(NULL),
                                  .model = model,
                                  .g = &model->graph,
                                  .allocator = &allocator};
    x.inner = (struct shr_reader){.limits = x.outer.limits,
                                  .model = body,
                                  .g = &body->graph,
                                  .kept = &body->kept->arena,
                                  .allocator = &allocator,
                                  .is_body = true};
    int code = read_body(&x, decoded->g, err);
    onnx__attribute_proto__free_unpacked(decoded, &allocator);
    if (code != SHR_OK) {
        char label[96];
        shr_model_free(body);
        return shr_err_prefix(err, "node '%s', %s: ", shr_node_label(node, label, sizeof label),
                              attr->name);
    }
    attr->body = body;
    return SHR_OK;
}

static int take_captures(struct shr_graph *g, struct shr_node *node, struct shr_err *err)
{
    const size_t own = node->n_in;
    int code = shr_node_resize_inputs(g, node, own + node->n_captures, err);
    for (size_t i = 0; code == SHR_OK && i < node->n_captures; i++) {
        shr_node_set_input(node, own + i, node->captures[i]);
    }
    if (code == SHR_OK) {
        node->n_taken = node->n_captures;
        node->n_captures = 0;
    }
    return code;
}

/* A value is captured as long as a node or the model says so. */
static void mark_captured(struct shr_graph *g)
{
    SHR_EACH_VALUE (v, g) {
        v->captured = false;
    }
    for (size_t i = 0; i < g->n_captures; i++) {
        g->captures[i]->captured = true;
    }
    SHR_EACH_NODE (node, g) {
        for (size_t i = 0; i < node->n_captures; i++) {
            node->captures[i]->captured = true;
        }
    }
}

int shr_model_expand(struct shr_model *model, struct shr_err *err)
{
    bool any = false;
    SHR_EACH_NODE (node, &model->graph) {
        int code = SHR_OK;
        bool has_body = false;
        for (struct shr_attr *attr = node->attrs;
             node->op != NULL && attr != NULL && code == SHR_OK; attr = attr->next) {
            if (attr->kind == SHR_ATTR_GRAPH && attr->body == NULL) {
                code = expand_attr(model, node, attr, err);
                has_body = true;
            }
        }
        if (code == SHR_OK && has_body) {
            code = take_captures(&model->graph, node, err);
            any = true;
        }
        if (code != SHR_OK) {
            return code;
        }
    }
    if (any) {
        mark_captured(&model->graph);
    }
    return SHR_OK;
}
