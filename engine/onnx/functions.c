/* Functions of a model: nodes that call one become copies of its nodes, before anything else is
 * read.
 *
 * A call's inputs and outputs stand for those of the function, other names get a prefix that no
 * other call has, and attributes that refer to the function's take the value of the call, or the
 * function's default. A model that calls none of its functions is left alone. Functions may call
 * others, not themselves; what they become is bounded as the nodes of a file are. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "core/map.h"
#include "onnx/onnx.h"

enum { DEEPEST_CALL = 16, TAG_DEFAULTS = 11 /* FunctionProto.attribute_proto */ };

struct inlining {
    struct shr_reader *r;
    Onnx__ModelProto *model;
    size_t calls, nodes;
    struct shr_err *err;
};

struct call {
    const Onnx__FunctionProto *function;
    const Onnx__NodeProto *node;
    size_t number;
    struct shr_map names; /* of the function to those of the caller */
    struct shr_arena arena;
};

struct nodes { /* of the message's allocator */
    Onnx__NodeProto **v;
    size_t n, cap;
};

static int no_memory(struct inlining *x)
{
    return shr_onnx_no_memory(x->err);
}

static const char *text(const char *s)
{
    return s == NULL ? "" : s;
}

static const Onnx__FunctionProto *find(const struct inlining *x, const Onnx__NodeProto *node)
{
    for (size_t i = 0; i < x->model->n_functions; i++) {
        const Onnx__FunctionProto *f = x->model->functions[i];
        if (strcmp(text(f->name), text(node->op_type)) == 0 &&
            strcmp(shr_read_domain(f->domain), shr_read_domain(node->domain)) == 0) {
            return f;
        }
    }
    return NULL;
}

/* ── Memory of messages ─────────────────────────────────────────────────────────────────────── */

static void *take(struct inlining *x, size_t n, size_t size)
{
    ProtobufCAllocator *a = x->r->allocator;
    size_t bytes;
    if (!shr_size_mul(n == 0 ? 1 : n, size, &bytes)) {
        return NULL;
    }
    void *p = a->alloc(a->allocator_data, bytes);
    if (p != NULL) {
        memset(p, 0, bytes);
    }
    return p;
}

static void give(struct inlining *x, void *p)
{
    x->r->allocator->free(x->r->allocator->allocator_data, p);
}

static bool set_text(struct inlining *x, char **to, const char *from)
{
    char *copy = take(x, strlen(from) + 1, 1);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, from, strlen(from) + 1);
    if (*to != (const char *)protobuf_c_empty_string) {
        give(x, *to);
    }
    *to = copy;
    return true;
}

static bool add_node(struct inlining *x, struct nodes *list, Onnx__NodeProto *node)
{
    if (list->n == list->cap) {
        const size_t cap = list->cap == 0 ? 8 : list->cap * 2;
        Onnx__NodeProto **v = take(x, cap, sizeof *v);
        if (v == NULL) {
            return false;
        }
        if (list->n > 0) {
            memcpy(v, list->v, list->n * sizeof *v);
        }
        give(x, list->v);
        list->v = v;
        list->cap = cap;
    }
    list->v[list->n++] = node;
    return true;
}

static void *copy_message(struct inlining *x, const ProtobufCMessage *from)
{
    const size_t n = protobuf_c_message_get_packed_size(from);
    uint8_t *bytes = take(x, n, 1);
    if (bytes == NULL) {
        return NULL;
    }
    protobuf_c_message_pack(from, bytes);
    void *copy = protobuf_c_message_unpack(from->descriptor, x->r->allocator, n, bytes);
    give(x, bytes);
    return copy;
}

/* ── Names ──────────────────────────────────────────────────────────────────────────────────── */

/* What a name of the function is called outside; NULL: out of memory. */
static const char *outside(struct inlining *x, struct call *c, const char *name)
{
    if (name[0] == 0) {
        return name;
    }
    const char *known = shr_map_get(&c->names, name);
    if (known != NULL) {
        return known;
    }
    const char *fresh =
        shr_arena_printf(&c->arena, "%s#%zu/%s", text(c->function->name), c->number, name);
    return fresh == NULL || shr_map_put(&c->names, name, (void *)(uintptr_t)fresh, x->err) != SHR_OK
               ? NULL
               : fresh;
}

static int rename_all(struct inlining *x, struct call *c, char **names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *name = outside(x, c, names[i]);
        if (name == NULL || !set_text(x, &names[i], name)) {
            return no_memory(x);
        }
    }
    return SHR_OK;
}

static int rename_nodes(struct inlining *x, struct call *c, Onnx__NodeProto **nodes, size_t n);

static int rename_infos(struct inlining *x, struct call *c, Onnx__ValueInfoProto **infos, size_t n)
{
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < n; i++) {
        code = rename_all(x, c, &infos[i]->name, 1);
    }
    return code;
}

/* Every name inside of a subgraph, its own as well: that keeps them apart. */
static int rename_graph(struct inlining *x, struct call *c, Onnx__GraphProto *g)
{
    int code = rename_infos(x, c, g->input, g->n_input);
    code = code == SHR_OK ? rename_infos(x, c, g->output, g->n_output) : code;
    code = code == SHR_OK ? rename_infos(x, c, g->value_info, g->n_value_info) : code;
    for (size_t i = 0; code == SHR_OK && i < g->n_initializer; i++) {
        code = rename_all(x, c, &g->initializer[i]->name, 1);
    }
    for (size_t i = 0; code == SHR_OK && i < g->n_sparse_initializer; i++) {
        if (g->sparse_initializer[i]->values != NULL) {
            code = rename_all(x, c, &g->sparse_initializer[i]->values->name, 1);
        }
    }
    return code == SHR_OK ? rename_nodes(x, c, g->node, g->n_node) : code;
}

/* ── Attributes ─────────────────────────────────────────────────────────────────────────────── */

static const Onnx__AttributeProto *given(const struct call *c, const char *name)
{
    for (size_t i = 0; i < c->node->n_attribute; i++) {
        if (strcmp(text(c->node->attribute[i]->name), name) == 0) {
            return c->node->attribute[i];
        }
    }
    return NULL;
}

/* The default of the function, which older forms of onnx.proto keep as an unknown field: a length
 * and an AttributeProto. The caller frees it; NULL when there is none. */
static Onnx__AttributeProto *fallback(struct inlining *x, const struct call *c, const char *name)
{
    const ProtobufCMessage *f = &c->function->base;
    for (unsigned i = 0; i < f->n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *field = &f->unknown_fields[i];
        size_t head = 0;
        if (field->tag != TAG_DEFAULTS ||
            field->wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
            continue;
        }
        while (head < field->len && (field->data[head] & 0x80) != 0) {
            head++;
        }
        head++;
        Onnx__AttributeProto *attr =
            head > field->len ? NULL
                              : onnx__attribute_proto__unpack(x->r->allocator, field->len - head,
                                                              field->data + head);
        if (attr != NULL && strcmp(text(attr->name), name) == 0) {
            return attr;
        }
        onnx__attribute_proto__free_unpacked(attr, x->r->allocator);
    }
    return NULL;
}

/* Takes the value that an attribute refers to; without one the attribute goes. */
static int resolve_attr(struct inlining *x, const struct call *c, Onnx__AttributeProto **attr)
{
    Onnx__AttributeProto *old = *attr;
    if (old->ref_attr_name == NULL || old->ref_attr_name[0] == 0) {
        return SHR_OK;
    }
    const Onnx__AttributeProto *value = given(c, old->ref_attr_name);
    Onnx__AttributeProto *copy =
        value != NULL ? copy_message(x, &value->base) : fallback(x, c, old->ref_attr_name);
    if (value != NULL && copy == NULL) {
        return no_memory(x);
    }
    if (copy != NULL && !set_text(x, &copy->name, text(old->name))) {
        onnx__attribute_proto__free_unpacked(copy, x->r->allocator);
        return no_memory(x);
    }
    onnx__attribute_proto__free_unpacked(old, x->r->allocator);
    *attr = copy;
    return SHR_OK;
}

static int resolve_attrs(struct inlining *x, struct call *c, Onnx__NodeProto *node)
{
    size_t kept = 0;
    int code = SHR_OK;
    for (size_t i = 0; i < node->n_attribute; i++) {
        Onnx__AttributeProto *attr = node->attribute[i];
        const bool refers = attr->ref_attr_name != NULL && attr->ref_attr_name[0] != 0;
        code = code == SHR_OK ? resolve_attr(x, c, &attr) : code;
        if (code == SHR_OK && attr != NULL && !refers && attr->g != NULL) {
            code = rename_graph(x, c, attr->g);
        }
        for (size_t k = 0; code == SHR_OK && attr != NULL && !refers && k < attr->n_graphs; k++) {
            code = rename_graph(x, c, attr->graphs[k]);
        }
        if (attr != NULL) {
            node->attribute[kept++] = attr;
        }
    }
    node->n_attribute = kept;
    return code;
}

static int rename_nodes(struct inlining *x, struct call *c, Onnx__NodeProto **nodes, size_t n)
{
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < n; i++) {
        code = rename_all(x, c, nodes[i]->input, nodes[i]->n_input);
        code = code == SHR_OK ? rename_all(x, c, nodes[i]->output, nodes[i]->n_output) : code;
        code = code == SHR_OK ? resolve_attrs(x, c, nodes[i]) : code;
    }
    return code;
}

/* ── Calls ──────────────────────────────────────────────────────────────────────────────────── */

static int bind_names(struct inlining *x, struct call *c)
{
    const Onnx__FunctionProto *f = c->function;
    const Onnx__NodeProto *node = c->node;
    int code = SHR_OK;
    if (node->n_input > f->n_input || node->n_output > f->n_output) {
        return shr_err_set(x->err, SHR_ERR_INVALID,
                           "node '%.64s': function %.64s has %zu inputs and %zu outputs, not %zu "
                           "and %zu",
                           text(node->name), text(f->name), f->n_input, f->n_output, node->n_input,
                           node->n_output);
    }
    for (size_t i = 0; code == SHR_OK && i < f->n_input; i++) {
        const char *name = i < node->n_input ? node->input[i] : "";
        code = shr_map_put(&c->names, f->input[i], (void *)(uintptr_t)name, x->err);
    }
    for (size_t i = 0; code == SHR_OK && i < node->n_output; i++) {
        if (node->output[i][0] != 0) {
            code = shr_map_put(&c->names, f->output[i], node->output[i], x->err);
        }
    }
    return code;
}

/* The operators of a function are those of its own opsets; the model must have the same. */
static int check_opsets(struct inlining *x, const Onnx__FunctionProto *f)
{
    for (size_t i = 0; i < f->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *want = f->opset_import[i];
        const char *domain = shr_read_domain(want->domain);
        bool found = false;
        for (size_t k = 0; k < x->model->n_opset_import; k++) {
            const Onnx__OperatorSetIdProto *have = x->model->opset_import[k];
            if (strcmp(shr_read_domain(have->domain), domain) != 0) {
                continue;
            }
            if (have->version != want->version) {
                return shr_err_set(x->err, SHR_ERR_UNSUPPORTED,
                                   "function %.64s is of opset %lld, the model of %lld",
                                   text(f->name), (long long)want->version,
                                   (long long)have->version);
            }
            found = true;
        }
        if (found) {
            continue;
        }
        Onnx__OperatorSetIdProto **list =
            take(x, x->model->n_opset_import + 1, sizeof(Onnx__OperatorSetIdProto *));
        Onnx__OperatorSetIdProto *copy = list == NULL ? NULL : copy_message(x, &want->base);
        if (copy == NULL) {
            give(x, list);
            return no_memory(x);
        }
        if (x->model->n_opset_import > 0) {
            memcpy(list, x->model->opset_import,
                   x->model->n_opset_import * sizeof(Onnx__OperatorSetIdProto *));
        }
        give(x, x->model->opset_import);
        x->model->opset_import = list;
        list[x->model->n_opset_import++] = copy;
    }
    return SHR_OK;
}

static int put_nodes(struct inlining *x, Onnx__NodeProto *const *from, size_t n,
                     struct call *caller, struct nodes *to, int depth);

static int put_call(struct inlining *x, const Onnx__FunctionProto *f, const Onnx__NodeProto *node,
                    struct nodes *to, int depth)
{
    struct call c = {.function = f, .node = node, .number = ++x->calls};
    if (depth == DEEPEST_CALL) {
        return shr_err_set(x->err, SHR_ERR_LIMIT, "functions call each other deeper than %d: %.64s",
                           DEEPEST_CALL, text(f->name));
    }
    int code = check_opsets(x, f);
    code = code == SHR_OK ? bind_names(x, &c) : code;
    code = code == SHR_OK ? put_nodes(x, f->node, f->n_node, &c, to, depth + 1) : code;
    shr_map_finish(&c.names);
    shr_arena_finish(&c.arena);
    return code;
}

static int inline_graphs(struct inlining *x, Onnx__NodeProto *node, int depth);

/* Copies nodes, renamed by their caller (NULL: they are of a graph, and moved), with calls done. */
static int put_nodes(struct inlining *x, Onnx__NodeProto *const *from, size_t n,
                     struct call *caller, struct nodes *to, int depth)
{
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < n; i++) {
        if (++x->nodes > x->r->limits.max_nodes) {
            return shr_err_set(x->err, SHR_ERR_LIMIT,
                               "with its functions the model has more than %zu nodes",
                               x->r->limits.max_nodes);
        }
        Onnx__NodeProto *node = copy_message(x, &from[i]->base);
        if (node == NULL) {
            return no_memory(x);
        }
        code = caller == NULL ? SHR_OK : rename_nodes(x, caller, &node, 1);
        const Onnx__FunctionProto *f = code == SHR_OK ? find(x, node) : NULL;
        if (f != NULL) {
            code = put_call(x, f, node, to, depth);
        } else if (code == SHR_OK) {
            code = inline_graphs(x, node, depth);
            if (code == SHR_OK && add_node(x, to, node)) {
                continue;
            }
            code = code == SHR_OK ? no_memory(x) : code;
        }
        onnx__node_proto__free_unpacked(node, x->r->allocator);
    }
    return code;
}

static int inline_graph(struct inlining *x, Onnx__GraphProto *g, int depth)
{
    struct nodes made = {0};
    int code = put_nodes(x, g->node, g->n_node, NULL, &made, depth);
    Onnx__NodeProto **old = code == SHR_OK ? g->node : made.v;
    const size_t n = code == SHR_OK ? g->n_node : made.n;
    if (code == SHR_OK) {
        g->node = made.v;
        g->n_node = made.n;
    }
    for (size_t i = 0; i < n; i++) {
        onnx__node_proto__free_unpacked(old[i], x->r->allocator);
    }
    give(x, old);
    return code;
}

static int inline_graphs(struct inlining *x, Onnx__NodeProto *node, int depth)
{
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < node->n_attribute; i++) {
        Onnx__AttributeProto *attr = node->attribute[i];
        code = attr->g != NULL ? inline_graph(x, attr->g, depth) : SHR_OK;
        for (size_t k = 0; code == SHR_OK && k < attr->n_graphs; k++) {
            code = inline_graph(x, attr->graphs[k], depth);
        }
    }
    return code;
}

/* ── Is there a call? ───────────────────────────────────────────────────────────────────────── */

static bool any_call(const struct inlining *x, Onnx__NodeProto *const *nodes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (find(x, nodes[i]) != NULL) {
            return true;
        }
        for (size_t k = 0; k < nodes[i]->n_attribute; k++) {
            const Onnx__AttributeProto *attr = nodes[i]->attribute[k];
            if (attr->g != NULL && any_call(x, attr->g->node, attr->g->n_node)) {
                return true;
            }
            for (size_t m = 0; m < attr->n_graphs; m++) {
                if (any_call(x, attr->graphs[m]->node, attr->graphs[m]->n_node)) {
                    return true;
                }
            }
        }
    }
    return false;
}

int shr_inline_functions(struct shr_reader *r, Onnx__ModelProto *model, struct shr_err *err)
{
    struct inlining x = {.r = r, .model = model, .err = err};
    if (model->n_functions == 0 || model->graph == NULL ||
        !any_call(&x, model->graph->node, model->graph->n_node)) {
        return SHR_OK;
    }
    int code = inline_graph(&x, model->graph, 0);
    for (size_t i = 0; code == SHR_OK && i < model->n_functions; i++) {
        onnx__function_proto__free_unpacked(model->functions[i], r->allocator);
    }
    model->n_functions = code == SHR_OK ? 0 : model->n_functions;
    return code;
}
