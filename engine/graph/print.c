/* Text of types and of the whole graph, one node a line, for people. */
#include <stdio.h>
#include <string.h>

#include "graph/graph.h"

const char *shr_type_text(const struct shr_type *type, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s [%s", shr_dtype_name(type->dtype),
                                   type->rank < 0 ? "…" : "");
    for (int i = 0; i < type->rank && used < size; i++) {
        const char *comma = i == 0 ? "" : ", ";
        if (type->dim[i] >= 0) {
            used += (size_t)snprintf(text + used, size - used, "%s%lld", comma,
                                     (long long)type->dim[i]);
        } else {
            used += (size_t)snprintf(text + used, size - used, "%s%s", comma,
                                     type->sym[i] == NULL ? "?" : type->sym[i]);
        }
    }
    if (used < size) {
        snprintf(text + used, size - used, "]");
    }
    return text;
}

int shr_view_check(const struct shr_view *view, const struct shr_type *type, struct shr_err *err)
{
    bool fits = (type->dtype == SHR_DTYPE_NONE || type->dtype == view->dtype) &&
                (type->rank < 0 || type->rank == view->rank);
    for (int d = 0; fits && d < type->rank; d++) {
        fits = type->dim[d] < 0 || type->dim[d] == view->dim[d];
    }
    int64_t count;
    if (fits &&
        (!shr_dims_count(view->rank, view->dim, &count) || shr_dtype_size(view->dtype) == 0 ||
         view->bytes / shr_dtype_size(view->dtype) != (size_t)count)) {
        return shr_err_set(err, SHR_ERR_INVALID, "input %s: %zu bytes are not those of its shape",
                           view->name, view->bytes);
    }
    if (fits) {
        return SHR_OK;
    }
    char wanted[128], dims[128];
    return shr_err_set(err, SHR_ERR_INVALID, "input %s: the model wants %s, the array is %s %s",
                       view->name, shr_type_text(type, wanted, sizeof wanted),
                       shr_dtype_name(view->dtype),
                       shr_dims_text(view->rank, view->dim, dims, sizeof dims));
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool shr_type_equal(const struct shr_type *a, const struct shr_type *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank) {
        return false;
    }
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i] || !same_text(a->sym[i], b->sym[i])) {
            return false;
        }
    }
    return true;
}

static void print_value(struct shr_buf *buf, const char *role, const struct shr_value *v)
{
    char text[256];
    shr_buf_printf(buf, "  %s %s: %s\n", role, v->name, shr_type_text(&v->type, text, sizeof text));
}

/* Long lists are cut after this many elements. */
enum { SHOWN = 8 };

static void print_tensor(struct shr_buf *buf, const struct shr_tensor *t)
{
    char text[160];
    shr_buf_printf(buf, "%s %s", shr_dtype_name(t->dtype),
                   shr_dims_text(t->rank, t->dim, text, sizeof text));
    if (shr_dtype_size(t->dtype) > 0 && shr_tensor_count(t) == 1) {
        shr_buf_printf(buf, " {%.9g}", shr_tensor_get(t, 0));
    }
}

static void print_attr(struct shr_buf *buf, const struct shr_attr *attr)
{
    shr_buf_printf(buf, "%s=", attr->name);
    switch (attr->kind) {
    case SHR_ATTR_FLOAT:
        shr_buf_printf(buf, "%.9g", (double)attr->f);
        break;
    case SHR_ATTR_INT:
        shr_buf_printf(buf, "%lld", (long long)attr->i);
        break;
    case SHR_ATTR_STRING:
        shr_buf_printf(buf, "\"%s\"", attr->strings[0].s);
        break;
    case SHR_ATTR_TENSOR:
        print_tensor(buf, &attr->tensor);
        break;
    case SHR_ATTR_GRAPH:
        shr_buf_printf(buf, "graph of %zu bytes", attr->raw.n);
        break;
    case SHR_ATTR_OTHER:
        shr_buf_printf(buf, "%zu bytes", attr->raw.n);
        break;
    case SHR_ATTR_FLOATS:
    case SHR_ATTR_INTS:
    case SHR_ATTR_STRINGS:
        shr_buf_puts(buf, "[");
        for (size_t i = 0; i < attr->n && i < SHOWN; i++) {
            shr_buf_puts(buf, i == 0 ? "" : ", ");
            if (attr->kind == SHR_ATTR_FLOATS) {
                shr_buf_printf(buf, "%.9g", (double)attr->floats[i]);
            } else if (attr->kind == SHR_ATTR_INTS) {
                shr_buf_printf(buf, "%lld", (long long)attr->ints[i]);
            } else {
                shr_buf_printf(buf, "\"%s\"", attr->strings[i].s);
            }
        }
        shr_buf_puts(buf, attr->n > SHOWN ? ", …]" : "]");
        break;
    }
}

static void print_node(struct shr_buf *buf, const struct shr_node *node)
{
    char text[256];
    shr_buf_puts(buf, "  ");
    for (size_t i = 0; i < node->n_out; i++) {
        const struct shr_value *v = node->out[i];
        shr_buf_printf(buf, "%s%s", i == 0 ? "" : ", ", v == NULL ? "_" : v->name);
        if (v != NULL && v->type.dtype != SHR_DTYPE_NONE) {
            shr_buf_printf(buf, ": %s", shr_type_text(&v->type, text, sizeof text));
        }
    }
    shr_buf_printf(buf, " = %s%s%s(", node->domain, node->domain[0] == 0 ? "" : ".", node->op_type);
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_value *v = node->in[i].value;
        shr_buf_printf(buf, "%s%s", i == 0 ? "" : ", ", v == NULL ? "_" : v->name);
    }
    shr_buf_puts(buf, ")");
    for (const struct shr_attr *attr = node->attrs; attr != NULL; attr = attr->next) {
        shr_buf_puts(buf, attr == node->attrs ? " {" : ", ");
        print_attr(buf, attr);
    }
    shr_buf_puts(buf, node->attrs == NULL ? "" : "}");
    if (node->name[0] != 0) {
        shr_buf_printf(buf, "  # %s", node->name);
    }
    shr_buf_puts(buf, "\n");
}

int shr_model_print(const struct shr_model *model, struct shr_buf *ret_text, struct shr_err *err)
{
    const struct shr_graph *g = &model->graph;
    shr_buf_printf(ret_text, "graph \"%s\" (IR %lld", g->name, (long long)model->ir_version);
    for (const struct shr_opset *opset = model->opsets; opset != NULL; opset = opset->next) {
        shr_buf_printf(ret_text, ", %s %lld", opset->domain[0] == 0 ? "ai.onnx" : opset->domain,
                       (long long)opset->version);
    }
    shr_buf_puts(ret_text, ")\n");
    for (size_t i = 0; i < g->n_inputs; i++) {
        if (!shr_value_is_constant(g->inputs[i])) {
            print_value(ret_text, "input", g->inputs[i]);
        }
    }
    SHR_EACH_VALUE (v, g) {
        if (v->producer == NULL && shr_value_is_constant(v)) {
            shr_buf_printf(ret_text, "  weight %s: ", v->name);
            print_tensor(ret_text, &v->constant);
            shr_buf_puts(ret_text, "\n");
        }
    }
    SHR_EACH_NODE (node, g) {
        print_node(ret_text, node);
    }
    for (size_t i = 0; i < g->n_outputs; i++) {
        print_value(ret_text, "output", g->outputs[i]);
    }
    if (shr_buf_failed(ret_text)) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the text of the model");
    }
    return SHR_OK;
}
