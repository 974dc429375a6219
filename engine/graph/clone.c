/* Clones: every object of the model anew, the bytes of the weights shared. What the file brought
 * and the engine does not interpret (shr_extra, raw attributes) is immutable and shared too. */
#include <string.h>

#include "graph/graph.h"

struct cloning {
    struct shr_arena *arena; /* of the clone */
    struct shr_graph *to;
    bool failed; /* out of memory, told once at the end */
};

static void *copy_bytes(struct cloning *c, const void *bytes, size_t n, size_t size)
{
    if (bytes == NULL) {
        return NULL;
    }
    void *copy = shr_arena_new(c->arena, n, size);
    if (copy == NULL) {
        c->failed = true;
    } else {
        memcpy(copy, bytes, n * size);
    }
    return copy;
}

static const char *copy_text(struct cloning *c, const char *text)
{
    return text == NULL ? NULL : copy_bytes(c, text, strlen(text) + 1, 1);
}

static struct shr_value *same_value(struct cloning *c, const struct shr_value *v)
{
    return v == NULL ? NULL : shr_graph_find(c->to, v->name);
}

static struct shr_value **same_values(struct cloning *c, struct shr_value *const *values, size_t n)
{
    struct shr_value **list = shr_arena_new(c->arena, n, sizeof *list);
    if (list == NULL) {
        c->failed = true;
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        list[i] = same_value(c, values[i]);
    }
    return list;
}

static int clone_value(struct cloning *c, const struct shr_value *from, struct shr_err *err)
{
    struct shr_value *v;
    int code = shr_graph_add_value(c->to, from->name, &v, err);
    if (code != SHR_OK) {
        return code;
    }
    v->type = from->type;
    for (int d = 0; d < v->type.rank; d++) {
        v->type.sym[d] = copy_text(c, v->type.sym[d]);
    }
    v->store = from->store;
    v->captured = from->captured;
    v->was_declared = from->was_declared;
    v->extra = from->extra;
    return SHR_OK;
}

static struct shr_attr *clone_attr(struct cloning *c, const struct shr_attr *from)
{
    struct shr_attr *attr = copy_bytes(c, from, 1, sizeof *from);
    if (attr == NULL) {
        return NULL;
    }
    attr->next = NULL;
    attr->name = copy_text(c, from->name);
    attr->floats = copy_bytes(c, from->floats, from->n, sizeof *from->floats);
    attr->ints = copy_bytes(c, from->ints, from->n, sizeof *from->ints);
    attr->strings = copy_bytes(c, from->strings, from->n, sizeof *from->strings);
    for (size_t i = 0; attr->strings != NULL && i < from->n; i++) {
        attr->strings[i].s = copy_bytes(c, from->strings[i].s, from->strings[i].n + 1, 1);
    }
    attr->tensor = shr_tensor_ref(&from->tensor);
    attr->body = NULL;
    c->failed |= from->body != NULL && shr_model_clone(from->body, &attr->body, NULL) != SHR_OK;
    return attr;
}

static void clone_attrs(struct cloning *c, const struct shr_node *from, struct shr_node *to)
{
    struct shr_attr **end = &to->attrs;
    for (const struct shr_attr *attr = from->attrs; attr != NULL; attr = attr->next) {
        *end = clone_attr(c, attr);
        if (*end == NULL) {
            break;
        }
        end = &(*end)->next;
    }
}

int shr_node_copy_attrs(struct shr_graph *g, const struct shr_node *from, struct shr_node *to,
                        struct shr_err *err)
{
    struct cloning c = {.arena = g->arena, .to = g};
    clone_attrs(&c, from, to);
    for (struct shr_attr *attr = to->attrs; attr != NULL; attr = attr->next) {
        attr->raw = (struct shr_text){0}; /* those of another model */
        attr->extra = NULL;
    }
    return c.failed ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for attributes") : SHR_OK;
}

static int clone_node(struct cloning *c, const struct shr_node *from, struct shr_err *err)
{
    struct shr_value **in = shr_arena_new(c->arena, from->n_in, sizeof *in);
    struct shr_value **out = same_values(c, from->out, from->n_out);
    if (in == NULL || out == NULL) {
        c->failed = true;
        return SHR_OK;
    }
    for (size_t i = 0; i < from->n_in; i++) {
        in[i] = same_value(c, from->in[i].value);
    }
    struct shr_node *node;
    int code = shr_graph_add_node(c->to, NULL, from->domain, from->op_type, from->name, in,
                                  from->n_in, out, from->n_out, &node, err);
    if (code != SHR_OK) {
        return code;
    }
    clone_attrs(c, from, node);
    node->op = from->op;
    node->n_taken = from->n_taken;
    node->index = from->index;
    node->extra = from->extra;
    node->captures = same_values(c, from->captures, from->n_captures);
    node->n_captures = node->captures == NULL ? 0 : from->n_captures;
    return SHR_OK;
}

static int clone_graph(struct cloning *c, const struct shr_graph *from, struct shr_err *err)
{
    struct shr_graph *to = c->to;
    to->name = copy_text(c, from->name);
    to->extra = from->extra;
    SHR_EACH_VALUE (v, from) {
        int code = clone_value(c, v, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    SHR_EACH_NODE (node, from) {
        int code = clone_node(c, node, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    /* After the nodes: a value with data cannot become the output of one. */
    SHR_EACH_VALUE (v, from) {
        same_value(c, v)->constant = shr_tensor_ref(&v->constant);
    }
    for (size_t i = 0; i < from->n_inputs; i++) {
        struct shr_value *v = same_value(c, from->inputs[i]);
        const bool was_declared = v->was_declared;
        int code = shr_graph_add_input(to, v, err);
        if (code != SHR_OK) {
            return code;
        }
        v->was_declared = was_declared;
    }
    for (size_t i = 0; i < from->n_outputs; i++) {
        struct shr_value *v = same_value(c, from->outputs[i]);
        const bool was_declared = v->was_declared;
        int code = shr_graph_add_output(to, v, err);
        if (code != SHR_OK) {
            return code;
        }
        v->was_declared = was_declared;
    }
    to->captures = same_values(c, from->captures, from->n_captures);
    to->n_captures = to->captures == NULL ? 0 : from->n_captures;
    return SHR_OK;
}

static void clone_lists(struct cloning *c, struct shr_model *to, const struct shr_model *from)
{
    struct shr_opset **opset_end = &to->opsets;
    for (const struct shr_opset *opset = from->opsets; opset != NULL; opset = opset->next) {
        struct shr_opset *copy = copy_bytes(c, opset, 1, sizeof *opset);
        if (copy == NULL) {
            return;
        }
        copy->next = NULL;
        copy->domain = copy_text(c, opset->domain);
        *opset_end = copy;
        opset_end = &copy->next;
    }
    struct shr_metadata **entry_end = &to->metadata;
    for (const struct shr_metadata *entry = from->metadata; entry != NULL; entry = entry->next) {
        struct shr_metadata *copy = copy_bytes(c, entry, 1, sizeof *entry);
        if (copy == NULL) {
            return;
        }
        copy->next = NULL;
        copy->key = copy_text(c, entry->key);
        copy->value = copy_text(c, entry->value);
        *entry_end = copy;
        entry_end = &copy->next;
    }
}

int shr_model_clone(const struct shr_model *model, struct shr_model **ret, struct shr_err *err)
{
    struct shr_model *to = shr_model_new();
    if (to == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a copy of the model");
    }
    struct cloning c = {&to->arena, &to->graph, false};
    if (model->kept != NULL) {
        atomic_fetch_add_explicit(&model->kept->readers, 1, memory_order_relaxed);
        to->kept = model->kept;
    }
    to->ir_version = model->ir_version;
    to->model_version = model->model_version;
    to->producer_name = copy_text(&c, model->producer_name);
    to->producer_version = copy_text(&c, model->producer_version);
    to->domain = copy_text(&c, model->domain);
    to->doc = copy_text(&c, model->doc);
    to->extra = model->extra;
    clone_lists(&c, to, model);
    int code = clone_graph(&c, &model->graph, err);
    if (code == SHR_OK && c.failed) {
        code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a copy of the model");
    }
    if (code != SHR_OK) {
        shr_model_free(to);
        return code;
    }
    *ret = to;
    return SHR_OK;
}
