/* The graph IR to ModelProto. The message is built in an arena around the model's own strings and
 * weights, nothing of which is copied before the bytes are written. The same model gives the same
 * bytes: everything is written in the order of the lists of the graph. */
#include <string.h>

#include "onnx/onnx.h"

enum {
    IR_WITH_FREE_INITIALIZERS = 4, /* older ones list every initializer among the inputs */
    IR_WITH_SPARSE_TENSORS = 6
};

/* Fields of an object of the model, to be written and perhaps added to. */
static struct shr_fields fields_of(const struct shr_extra *extra)
{
    struct shr_fields fields = {0};
    if (extra != NULL) {
        fields = extra->fields;
        fields.cap = fields.n; /* the kept array is shared: growing must copy it */
    }
    return fields;
}

static char *text_or_null(const char *text)
{
    return text[0] == 0 ? NULL : shr_writable(text);
}

static char *name_of(const struct shr_value *v)
{
    return shr_writable(v == NULL ? "" : v->name);
}

static Onnx__NodeProto *write_node(struct shr_arena *arena, const struct shr_node *node)
{
    Onnx__NodeProto *to = shr_arena_new(arena, 1, sizeof *to);
    char **input = shr_arena_new(arena, node->n_in, sizeof *input);
    char **output = shr_arena_new(arena, node->n_out, sizeof *output);
    if (to == NULL || input == NULL || output == NULL) {
        return NULL;
    }
    onnx__node_proto__init(to);
    to->name = text_or_null(node->name);
    to->op_type = shr_writable(node->op_type);
    to->domain = text_or_null(node->domain);
    to->n_input = node->n_in;
    to->input = input;
    to->n_output = node->n_out;
    to->output = output;
    for (size_t i = 0; i < node->n_in; i++) {
        input[i] = name_of(node->in[i].value);
    }
    for (size_t i = 0; i < node->n_out; i++) {
        output[i] = name_of(node->out[i]);
    }
    struct shr_fields fields = fields_of(node->extra);
    if (!shr_write_attrs(arena, node, to, &fields)) {
        return NULL;
    }
    shr_write_fields(&to->base, &fields);
    return to;
}

static bool write_nodes(struct shr_arena *arena, const struct shr_graph *g, Onnx__GraphProto *to)
{
    to->node = shr_arena_new(arena, g->n_nodes, sizeof *to->node);
    if (to->node == NULL) {
        return false;
    }
    SHR_EACH_NODE (node, g) {
        Onnx__NodeProto *copy = write_node(arena, node);
        if (copy == NULL) {
            return false;
        }
        to->node[to->n_node++] = copy;
    }
    return true;
}

static bool is_initializer(const struct shr_value *v)
{
    return v->producer == NULL && shr_value_is_constant(v);
}

/* Is the initializer written as the bytes that were read? */
static bool is_kept(const struct shr_value *v)
{
    return shr_dtype_size(v->constant.dtype) == 0 || v->store == SHR_STORE_AS_READ;
}

size_t shr_value_stored(const struct shr_value *v)
{
    if (v->producer != NULL) { /* of a Constant: as its attribute has it */
        return shr_tensor_stored(&v->constant);
    }
    return is_kept(v)           ? v->extra->opaque.n
           : shr_sparse_pays(v) ? shr_sparse_stored(v)
                                : shr_tensor_stored(&v->constant);
}

static bool write_initializer(struct shr_arena *arena, const struct shr_value *v,
                              Onnx__GraphProto *to, struct shr_fields *fields)
{
    if (is_kept(v)) {
        const struct shr_text *bytes = &v->extra->opaque;
        return shr_fields_add(arena, fields, v->extra->opaque_tag, bytes->s, bytes->n);
    }
    if (shr_sparse_pays(v)) {
        Onnx__SparseTensorProto *sparse = shr_write_sparse(arena, v);
        to->sparse_initializer[to->n_sparse_initializer++] = sparse;
        return sparse != NULL;
    }
    Onnx__TensorProto *dense = shr_write_tensor(arena, &v->constant, v->name, v->extra);
    to->initializer[to->n_initializer++] = dense;
    return dense != NULL;
}

static bool write_initializers(struct shr_arena *arena, const struct shr_graph *g,
                               Onnx__GraphProto *to, struct shr_fields *fields)
{
    to->initializer = shr_arena_new(arena, g->n_values, sizeof *to->initializer);
    to->sparse_initializer = shr_arena_new(arena, g->n_values, sizeof *to->sparse_initializer);
    bool done = to->initializer != NULL && to->sparse_initializer != NULL;
    for (const struct shr_value *v = g->first_value; done && v != NULL; v = v->next) {
        done = !is_initializer(v) || write_initializer(arena, v, to, fields);
    }
    return done;
}

/* An array with room for all values, of which n are written; NULL when out of memory. */
static bool write_info(struct shr_arena *arena, const struct shr_value *v,
                       Onnx__ValueInfoProto **list, size_t *n)
{
    list[*n] = shr_write_value_info(arena, v);
    return list[(*n)++] != NULL;
}

static bool write_interface(struct shr_arena *arena, const struct shr_graph *g, int64_t ir_version,
                            Onnx__GraphProto *to)
{
    to->input = shr_arena_new(arena, g->n_values, sizeof *to->input);
    to->output = shr_arena_new(arena, g->n_outputs, sizeof *to->output);
    to->value_info = shr_arena_new(arena, g->n_values, sizeof *to->value_info);
    if (to->input == NULL || to->output == NULL || to->value_info == NULL) {
        return false;
    }
    bool done = true;
    for (size_t i = 0; done && i < g->n_inputs; i++) {
        done = write_info(arena, g->inputs[i], to->input, &to->n_input);
    }
    for (size_t i = 0; done && i < g->n_outputs; i++) {
        done = write_info(arena, g->outputs[i], to->output, &to->n_output);
    }
    for (const struct shr_value *v = g->first_value; done && v != NULL; v = v->next) {
        if (v->is_input || v->producer != NULL) {
            continue;
        }
        if (ir_version < IR_WITH_FREE_INITIALIZERS && is_initializer(v) &&
            v->type.dtype != SHR_DTYPE_NONE) {
            done = write_info(arena, v, to->input, &to->n_input);
        } else if (v->was_declared && !v->is_output) {
            done = write_info(arena, v, to->value_info, &to->n_value_info);
        }
    }
    SHR_EACH_NODE (node, g) { /* in their order, which is the same after loading again */
        for (size_t i = 0; done && i < node->n_out; i++) {
            const struct shr_value *v = node->out[i];
            if (v != NULL && v->was_declared && !v->is_output) {
                done = write_info(arena, v, to->value_info, &to->n_value_info);
            }
        }
    }
    return done;
}

static Onnx__GraphProto *write_graph(struct shr_arena *arena, const struct shr_model *model)
{
    const struct shr_graph *g = &model->graph;
    Onnx__GraphProto *to = shr_arena_new(arena, 1, sizeof *to);
    struct shr_fields fields = fields_of(g->extra);
    if (to == NULL) {
        return NULL;
    }
    onnx__graph_proto__init(to);
    to->name = shr_writable(g->name[0] == 0 ? "main" : g->name); /* ONNX wants one */
    if (!write_nodes(arena, g, to) || !write_initializers(arena, g, to, &fields) ||
        !write_interface(arena, g, model->ir_version, to)) {
        return NULL;
    }
    shr_write_fields(&to->base, &fields);
    return to;
}

static bool write_opsets(struct shr_arena *arena, const struct shr_model *model,
                         Onnx__ModelProto *to)
{
    size_t n = 0;
    for (const struct shr_opset *opset = model->opsets; opset != NULL; opset = opset->next) {
        n++;
    }
    to->opset_import = shr_arena_new(arena, n, sizeof *to->opset_import);
    if (to->opset_import == NULL) {
        return false;
    }
    for (const struct shr_opset *opset = model->opsets; opset != NULL; opset = opset->next) {
        Onnx__OperatorSetIdProto *copy = shr_arena_new(arena, 1, sizeof *copy);
        if (copy == NULL) {
            return false;
        }
        onnx__operator_set_id_proto__init(copy);
        copy->domain = text_or_null(opset->domain);
        copy->has_version = true;
        copy->version = opset->version;
        if (opset->extra != NULL) {
            shr_write_fields(&copy->base, &opset->extra->fields);
        }
        to->opset_import[to->n_opset_import++] = copy;
    }
    return true;
}

static bool write_metadata(struct shr_arena *arena, const struct shr_model *model,
                           Onnx__ModelProto *to)
{
    size_t n = 0;
    for (const struct shr_metadata *entry = model->metadata; entry != NULL; entry = entry->next) {
        n++;
    }
    to->metadata_props = shr_arena_new(arena, n, sizeof *to->metadata_props);
    if (to->metadata_props == NULL) {
        return false;
    }
    for (const struct shr_metadata *entry = model->metadata; entry != NULL; entry = entry->next) {
        Onnx__StringStringEntryProto *copy = shr_arena_new(arena, 1, sizeof *copy);
        if (copy == NULL) {
            return false;
        }
        onnx__string_string_entry_proto__init(copy);
        copy->key = shr_writable(entry->key);
        copy->value = shr_writable(entry->value);
        if (entry->extra != NULL) {
            shr_write_fields(&copy->base, &entry->extra->fields);
        }
        to->metadata_props[to->n_metadata_props++] = copy;
    }
    return true;
}

static bool write_model(struct shr_arena *arena, const struct shr_model *model,
                        Onnx__ModelProto *to)
{
    onnx__model_proto__init(to);
    to->has_ir_version = true;
    to->ir_version = model->ir_version;
    to->has_model_version = model->model_version != 0;
    to->model_version = model->model_version;
    to->producer_name = text_or_null(model->producer_name);
    to->producer_version = text_or_null(model->producer_version);
    to->domain = text_or_null(model->domain);
    to->doc_string = text_or_null(model->doc);
    to->graph = write_graph(arena, model);
    if (to->graph != NULL && to->graph->n_sparse_initializer > 0 &&
        to->ir_version < IR_WITH_SPARSE_TENSORS) {
        to->ir_version = IR_WITH_SPARSE_TENSORS;
    }
    if (model->extra != NULL) {
        shr_write_fields(&to->base, &model->extra->fields);
    }
    return to->graph != NULL && write_opsets(arena, model, to) && write_metadata(arena, model, to);
}

int shr_model_size(const struct shr_model *model, size_t *ret_bytes, struct shr_err *err)
{
    struct shr_arena arena = {0};
    Onnx__ModelProto message;
    int code = SHR_OK;
    if (write_model(&arena, model, &message)) {
        *ret_bytes = onnx__model_proto__get_packed_size(&message);
    } else {
        code = shr_onnx_no_memory(err);
    }
    shr_arena_finish(&arena);
    return code;
}

int shr_model_save(const struct shr_model *model, struct shr_buf *ret_bytes, struct shr_err *err)
{
    struct shr_arena arena = {0};
    Onnx__ModelProto message;
    int code = SHR_OK;
    if (!write_model(&arena, model, &message)) {
        code = shr_onnx_no_memory(err);
        goto out;
    }
    const size_t n = onnx__model_proto__get_packed_size(&message);
    if (n > INT32_MAX) {
        code = shr_err_set(err, SHR_ERR_LIMIT,
                           "the model would have %zu bytes, an ONNX file at most %d", n, INT32_MAX);
        goto out;
    }
    void *to = shr_buf_reserve(ret_bytes, n);
    if (to == NULL) {
        code = shr_onnx_no_memory(err);
        goto out;
    }
    ret_bytes->len += onnx__model_proto__pack(&message, to);
out:
    shr_arena_finish(&arena);
    return code;
}
