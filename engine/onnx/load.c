/* ModelProto to the graph IR.
 *
 * Three steps: the scan proves the encoding sound and bounded, protobuf-c decodes it through our
 * allocator, and this file copies what the engine needs, names before the nodes that use them.
 * Every name of the file is checked here, so that the graph that comes out satisfies
 * shr_graph_check. Whatever goes wrong, nothing is left behind. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "onnx/onnx.h"
#include "ops/op.h"

enum { OLDEST_IR = 3, NEWEST_IR = 13, OLDEST_OPSET = 7 };

int shr_read_name(struct shr_reader *r, const char *name, const char *what, const char **ret,
                  struct shr_err *err)
{
    if (name == NULL) {
        name = "";
    }
    if (strlen(name) > r->limits.max_name) {
        return shr_err_set(err, SHR_ERR_LIMIT, "%s has more than %zu bytes: '%.32s…'", what,
                           r->limits.max_name, name);
    }
    *ret = name;
    return SHR_OK;
}

/* A name that lives in the arena. */
static int copy_name(struct shr_reader *r, const char *name, const char *what, const char **ret,
                     struct shr_err *err)
{
    int code = shr_read_name(r, name, what, &name, err);
    if (code != SHR_OK) {
        return code;
    }
    const char *copy = shr_arena_strdup(r->g->arena, name);
    if (copy == NULL) {
        return shr_onnx_no_memory(err);
    }
    *ret = copy;
    return SHR_OK;
}

/* "" and "ai.onnx" are the same domain. */
static const char *domain_of(const char *domain)
{
    return domain == NULL || strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

/* ── Values ─────────────────────────────────────────────────────────────────────────────────── */

static int new_value(struct shr_reader *r, const char *name, const char *what,
                     struct shr_value **ret, struct shr_err *err)
{
    int code = shr_read_name(r, name, what, &name, err);
    if (code != SHR_OK) {
        return code;
    }
    if (name[0] == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s has no name", what);
    }
    code = shr_graph_add_value(r->g, name, ret, err);
    return code == SHR_ERR_CONFLICT
               ? shr_err_set(err, SHR_ERR_INVALID, "%s '%s': the name is taken", what, name)
               : code;
}

static int read_inputs(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
{
    for (size_t i = 0; i < from->n_input; i++) {
        struct shr_value *v;
        int code = new_value(r, from->input[i]->name, "graph input", &v, err);
        code = code == SHR_OK ? shr_read_value_info(r, from->input[i], v, err) : code;
        code = code == SHR_OK ? shr_graph_add_input(r->g, v, err) : code;
        if (code != SHR_OK) {
            return code;
        }
        if (from->input[i]->type == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "graph input '%s' has no type", v->name);
        }
    }
    return SHR_OK;
}

/* Does the data have the type that an input of that name declares, if one does? The element type of
 * a sparse initializer is not read. */
static int check_declared(const struct shr_value *v, bool sparse, struct shr_err *err)
{
    const struct shr_type *type = &v->type;
    const struct shr_tensor *t = &v->constant;
    bool fits = !v->is_input || sparse || type->dtype == t->dtype;
    fits = fits && (type->rank < 0 || type->rank == t->rank);
    for (int i = 0; fits && i < type->rank; i++) {
        fits = type->dim[i] < 0 || type->dim[i] == t->dim[i];
    }
    if (fits) {
        return SHR_OK;
    }
    char declared[96], dims[96];
    return shr_err_set(err, SHR_ERR_INVALID, "initializer '%s' is %s %s but declared as %s",
                       v->name, shr_dtype_name(t->dtype),
                       shr_dims_text(t->rank, t->dim, dims, sizeof dims),
                       shr_type_text(type, declared, sizeof declared));
}

/* The value that an initializer gives data to: a graph input of that name or a new one. */
static int initializer_value(struct shr_reader *r, const char *name, struct shr_value **ret,
                             struct shr_err *err)
{
    struct shr_value *v = name == NULL ? NULL : shr_graph_find(r->g, name);
    if (v == NULL) {
        return new_value(r, name, "initializer", ret, err);
    }
    if (shr_value_is_constant(v)) {
        return shr_err_set(err, SHR_ERR_INVALID, "initializer '%s' is given twice", name);
    }
    *ret = v;
    return SHR_OK;
}

static int give_data(struct shr_value *v, struct shr_tensor take_tensor, bool sparse,
                     struct shr_err *err)
{
    v->constant = take_tensor; /* the model frees it from here on */
    int code = check_declared(v, sparse, err);
    if (code != SHR_OK) {
        return code;
    }
    v->constant = (struct shr_tensor){0};
    shr_value_set_constant(v, take_tensor);
    return SHR_OK;
}

static int read_initializer(struct shr_reader *r, Onnx__TensorProto *from, struct shr_err *err)
{
    struct shr_value *v;
    char what[160];
    int code = initializer_value(r, from->name, &v, err);
    code = code == SHR_OK ? shr_extra_get(r, &v->extra, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    snprintf(what, sizeof what, "initializer '%.120s'", v->name);
    bool opaque;
    struct shr_tensor t;
    code = shr_read_tensor(r, from, what, &t, &opaque, err);
    code = code == SHR_OK ? give_data(v, t, false, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    struct shr_extra *extra = v->extra;
    if (opaque) {
        extra->opaque_tag = SHR_TAG_GRAPH_INITIALIZER;
        return shr_keep_bytes(r, &from->base, &extra->opaque, err);
    }
    code = shr_keep_text(r, &extra->tensor, SHR_TAG_TENSOR_DOC, from->doc_string, err);
    return code == SHR_OK ? shr_keep_unknown(r, &extra->tensor, &from->base, err) : code;
}

static int read_sparse(struct shr_reader *r, const Onnx__SparseTensorProto *from,
                       struct shr_err *err)
{
    struct shr_value *v;
    struct shr_tensor t;
    char what[160];
    int code = initializer_value(r, from->values == NULL ? NULL : from->values->name, &v, err);
    code = code == SHR_OK ? shr_extra_get(r, &v->extra, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    snprintf(what, sizeof what, "sparse initializer '%.120s'", v->name);
    code = shr_opaque_tensor(SHR_DTYPE_NONE, from->n_dims, from->dims, what, &t, err);
    code = code == SHR_OK ? give_data(v, t, true, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    v->extra->opaque_tag = SHR_TAG_GRAPH_SPARSE;
    return shr_keep_bytes(r, &from->base, &v->extra->opaque, err);
}

static int read_initializers(struct shr_reader *r, const Onnx__GraphProto *from,
                             struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < from->n_initializer; i++) {
        code = read_initializer(r, from->initializer[i], err);
    }
    for (size_t i = 0; code == SHR_OK && i < from->n_sparse_initializer; i++) {
        code = read_sparse(r, from->sparse_initializer[i], err);
    }
    return code;
}

static int read_outputs(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
{
    for (size_t i = 0; i < from->n_output; i++) {
        const char *name = from->output[i]->name == NULL ? "" : from->output[i]->name;
        struct shr_value *v = shr_graph_find(r->g, name);
        if (v == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "graph output '%.128s' is computed by nothing",
                               name);
        }
        if (v->is_output) {
            return shr_err_set(err, SHR_ERR_INVALID, "graph output '%.128s' is given twice", name);
        }
        int code = SHR_OK;
        if (!v->is_input) { /* an input that is an output too is declared already */
            code = shr_read_value_info(r, from->output[i], v, err);
        }
        code = code == SHR_OK ? shr_graph_add_output(r->g, v, err) : code;
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

/* Types of values in between. Entries for inputs, outputs and unknown names are kept as bytes. */
static int read_value_infos(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
{
    for (size_t i = 0; i < from->n_value_info; i++) {
        const Onnx__ValueInfoProto *info = from->value_info[i];
        struct shr_value *v = info->name == NULL ? NULL : shr_graph_find(r->g, info->name);
        int code;
        if (v == NULL || v->was_declared) {
            code = shr_keep_message(r, &r->g->extra->fields, SHR_TAG_GRAPH_VALUE_INFO, &info->base,
                                    err);
        } else {
            code = shr_read_value_info(r, info, v, err);
        }
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

/* ── Nodes ──────────────────────────────────────────────────────────────────────────────────── */

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
    if (code == SHR_OK && shr_model_opset(r->model, domain_of(from->domain)) == 0) {
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
            code = new_value(r, node->output[k], "output", &v, err);
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
    code = code == SHR_OK ? shr_graph_add_node(r->g, NULL, domain_of(from->domain), from->op_type,
                                               from->name == NULL ? "" : from->name, in,
                                               from->n_input, out, from->n_output, &node, err)
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

static int read_graph(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
{
    int code = copy_name(r, from->name, "the name of the graph", &r->g->name, err);
    code = code == SHR_OK ? read_graph_extra(r, from, err) : code;
    code = code == SHR_OK ? read_inputs(r, from, err) : code;
    code = code == SHR_OK ? read_initializers(r, from, err) : code;
    code = code == SHR_OK ? read_node_outputs(r, from, err) : code;
    code = code == SHR_OK ? read_outputs(r, from, err) : code;
    code = code == SHR_OK ? read_value_infos(r, from, err) : code;
    return code == SHR_OK ? read_nodes(r, from, err) : code;
}

static int read_opset(struct shr_reader *r, const Onnx__OperatorSetIdProto *from,
                      struct shr_opset ***end, struct shr_err *err)
{
    const char *domain = "";
    int code = copy_name(r, domain_of(from->domain), "a domain", &domain, err);
    if (code != SHR_OK) {
        return code;
    }
    const char *shown = domain[0] == 0 ? "ai.onnx" : domain;
    const int64_t known = shr_model_opset(r->model, domain);
    if (from->version < 1) {
        return shr_err_set(err, SHR_ERR_INVALID, "opset_import: version %lld of domain '%s'",
                           (long long)from->version, shown);
    }
    if (known != 0 && known != from->version) {
        return shr_err_set(err, SHR_ERR_INVALID, "opset_import: versions %lld and %lld of '%s'",
                           (long long)known, (long long)from->version, shown);
    }
    if (domain[0] == 0 && from->version < OLDEST_OPSET) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "opset %lld of ai.onnx is older than %d: convert the model with "
                           "onnx.version_converter",
                           (long long)from->version, OLDEST_OPSET);
    }
    if (known != 0) {
        return SHR_OK;
    }
    struct shr_opset *opset = shr_arena_new(r->g->arena, 1, sizeof *opset);
    if (opset == NULL) {
        return shr_onnx_no_memory(err);
    }
    opset->domain = domain;
    opset->version = from->version;
    **end = opset;
    *end = &opset->next;
    code = shr_extra_get(r, &opset->extra, err);
    if (code == SHR_OK && domain[0] == 0) { /* the spelling of the default domain */
        code = shr_keep_text(r, &opset->extra->fields, SHR_TAG_OPSET_DOMAIN, from->domain, err);
    }
    return code == SHR_OK ? shr_keep_unknown(r, &opset->extra->fields, &from->base, err) : code;
}

static int read_metadata(struct shr_reader *r, const Onnx__StringStringEntryProto *from,
                         struct shr_metadata ***end, struct shr_err *err)
{
    struct shr_metadata *entry = shr_arena_new(r->g->arena, 1, sizeof *entry);
    if (entry == NULL) {
        return shr_onnx_no_memory(err);
    }
    entry->value = shr_arena_strdup(r->g->arena, from->value == NULL ? "" : from->value);
    int code = entry->value == NULL ? shr_onnx_no_memory(err) : SHR_OK;
    code = code == SHR_OK ? copy_name(r, from->key, "a metadata key", &entry->key, err) : code;
    code = code == SHR_OK ? shr_extra_get(r, &entry->extra, err) : code;
    code = code == SHR_OK ? shr_keep_unknown(r, &entry->extra->fields, &from->base, err) : code;
    if (code == SHR_OK) {
        **end = entry;
        *end = &entry->next;
    }
    return code;
}

static int read_model_extra(struct shr_reader *r, const Onnx__ModelProto *from, struct shr_err *err)
{
    int code = shr_extra_get(r, &r->model->extra, err);
    if (code != SHR_OK) {
        return code;
    }
    struct shr_fields *fields = &r->model->extra->fields;
    for (size_t i = 0; code == SHR_OK && i < from->n_training_info; i++) {
        code = shr_keep_message(r, fields, SHR_TAG_MODEL_TRAINING_INFO,
                                &from->training_info[i]->base, err);
    }
    for (size_t i = 0; code == SHR_OK && i < from->n_functions; i++) {
        code = shr_keep_message(r, fields, SHR_TAG_MODEL_FUNCTIONS, &from->functions[i]->base, err);
    }
    return code == SHR_OK ? shr_keep_unknown(r, fields, &from->base, err) : code;
}

static int check_versions(const Onnx__ModelProto *from, struct shr_err *err)
{
    if (from->graph == NULL) {
        return shr_err_set(err, SHR_ERR_PARSE, "not a valid ONNX file: it has no graph");
    }
    if (!from->has_ir_version) {
        return shr_err_set(err, SHR_ERR_INVALID, "ir_version is missing");
    }
    if (from->ir_version < OLDEST_IR || from->ir_version > NEWEST_IR) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "IR version %lld is not between %d and %d: save the model with %s",
                           (long long)from->ir_version, OLDEST_IR, NEWEST_IR,
                           from->ir_version < OLDEST_IR ? "a newer onnx" : "a lower ir_version");
    }
    if (from->n_opset_import == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "opset_import is missing");
    }
    return SHR_OK;
}

static const char *copy_text(struct shr_reader *r, const char *text)
{
    return shr_arena_strdup(r->g->arena, text == NULL ? "" : text);
}

static int read_model(struct shr_reader *r, const Onnx__ModelProto *from, struct shr_err *err)
{
    struct shr_model *to = r->model;
    struct shr_opset **opsets = &to->opsets;
    struct shr_metadata **metadata = &to->metadata;
    int code = check_versions(from, err);
    if (code != SHR_OK) {
        return code;
    }
    to->ir_version = from->ir_version;
    to->model_version = from->model_version;
    to->producer_name = copy_text(r, from->producer_name);
    to->producer_version = copy_text(r, from->producer_version);
    to->domain = copy_text(r, from->domain);
    to->doc = copy_text(r, from->doc_string);
    if (to->producer_name == NULL || to->producer_version == NULL || to->domain == NULL ||
        to->doc == NULL) {
        return shr_onnx_no_memory(err);
    }
    for (size_t i = 0; code == SHR_OK && i < from->n_opset_import; i++) {
        code = read_opset(r, from->opset_import[i], &opsets, err);
    }
    for (size_t i = 0; code == SHR_OK && i < from->n_metadata_props; i++) {
        code = read_metadata(r, from->metadata_props[i], &metadata, err);
    }
    code = code == SHR_OK ? read_model_extra(r, from, err) : code;
    code = code == SHR_OK ? read_graph(r, from->graph, err) : code;
    return code == SHR_OK ? shr_read_training_captures(r, from, err) : code;
}

/* ── Entry ──────────────────────────────────────────────────────────────────────────────────── */

static void *decode_alloc(void *failed, size_t size)
{
    void *p = shr_mem_new(size, 1);
    if (p == NULL) {
        *(bool *)failed = true;
    }
    return p;
}

static void decode_free(void *failed, void *p)
{
    (void)failed;
    shr_mem_free(p);
}

static struct shr_limits with_defaults(const struct shr_limits *limits)
{
    struct shr_limits all = limits == NULL ? (struct shr_limits){0} : *limits;
    all.max_bytes = all.max_bytes == 0 ? INT32_MAX : all.max_bytes;
    all.max_nodes = all.max_nodes == 0 ? 1000000 : all.max_nodes;
    all.max_name = all.max_name == 0 ? 4096 : all.max_name;
    all.max_elements = all.max_elements == 0 ? INT64_C(1) << 31 : all.max_elements;
    all.max_nesting = all.max_nesting == 0 ? 16 : all.max_nesting;
    return all;
}

static struct shr_model *new_model(void)
{
    struct shr_model *model = shr_model_new();
    struct shr_kept *kept = shr_mem_new(1, sizeof *kept);
    if (model == NULL || kept == NULL) {
        shr_model_free(model);
        shr_mem_free(kept);
        return NULL;
    }
    atomic_init(&kept->readers, 1);
    model->kept = kept;
    return model;
}

int shr_model_load(const void *bytes, size_t n, const struct shr_limits *limits,
                   struct shr_model **ret_model, struct shr_err *err)
{
    bool failed = false;
    ProtobufCAllocator allocator = {decode_alloc, decode_free, &failed};
    struct shr_reader r = {.limits = with_defaults(limits), .allocator = &allocator};
    int code = shr_onnx_scan(bytes, n, &r.limits, err);
    if (code != SHR_OK) {
        return code;
    }
    Onnx__ModelProto *decoded = onnx__model_proto__unpack(&allocator, n, bytes);
    if (decoded == NULL) {
        return failed ? shr_onnx_no_memory(err)
                      : shr_err_set(err, SHR_ERR_PARSE, "not a valid ONNX file");
    }
    r.model = new_model();
    if (r.model == NULL) {
        code = shr_onnx_no_memory(err);
        goto out;
    }
    r.g = &r.model->graph;
    r.kept = &r.model->kept->arena;
    code = read_model(&r, decoded, err);
    code = code == SHR_OK ? shr_graph_sort(r.g, err) : code;
    code = code == SHR_OK ? shr_graph_check(r.g, err) : code;
    if (code == SHR_OK) {
        shr_model_resolve(r.model);
        *ret_model = r.model;
        r.model = NULL;
    }
out:
    shr_model_free(r.model);
    onnx__model_proto__free_unpacked(decoded, &allocator);
    return code;
}
