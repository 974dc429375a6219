/* The names and values of a GraphProto: inputs, initializers, what nodes will compute, outputs and
 * declared types. Every name of the file is checked here. */
#include <stdio.h>
#include <string.h>

#include "onnx/onnx.h"

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
int shr_copy_name(struct shr_reader *r, const char *name, const char *what, const char **ret,
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
const char *shr_read_domain(const char *domain)
{
    return domain == NULL || strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

int shr_read_new_value(struct shr_reader *r, const char *name, const char *what,
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

int shr_read_inputs(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
{
    for (size_t i = 0; i < from->n_input; i++) {
        struct shr_value *v;
        int code = shr_read_new_value(r, from->input[i]->name, "graph input", &v, err);
        code = code == SHR_OK ? shr_read_value_info(r, from->input[i], v, err) : code;
        code = code == SHR_OK ? shr_graph_add_input(r->g, v, err) : code;
        if (code != SHR_OK) {
            return code;
        }
        if (from->input[i]->type == NULL && !r->is_body) {
            return shr_err_set(err, SHR_ERR_INVALID, "graph input '%s' has no type", v->name);
        }
    }
    return SHR_OK;
}

/* Does the data have the type that an input of that name declares, if one does? The element type of
 * an opaque sparse initializer is not read. */
static int check_declared(const struct shr_value *v, bool opaque_sparse, struct shr_err *err)
{
    const struct shr_type *type = &v->type;
    const struct shr_tensor *t = &v->constant;
    bool fits = !v->is_input || opaque_sparse || type->dtype == t->dtype;
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
        return shr_read_new_value(r, name, "initializer", ret, err);
    }
    if (shr_value_is_constant(v)) {
        return shr_err_set(err, SHR_ERR_INVALID, "initializer '%s' is given twice", name);
    }
    *ret = v;
    return SHR_OK;
}

static int give_data(struct shr_value *v, struct shr_tensor take_tensor, bool opaque_sparse,
                     struct shr_err *err)
{
    v->constant = take_tensor; /* the model frees it from here on */
    int code = check_declared(v, opaque_sparse, err);
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

static int read_sparse(struct shr_reader *r, Onnx__SparseTensorProto *from, struct shr_err *err)
{
    struct shr_value *v;
    struct shr_tensor t;
    bool opaque;
    char what[160];
    int code = initializer_value(r, from->values == NULL ? NULL : from->values->name, &v, err);
    code = code == SHR_OK ? shr_extra_get(r, &v->extra, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    snprintf(what, sizeof what, "sparse initializer '%.120s'", v->name);
    v->extra->opaque_tag = SHR_TAG_GRAPH_SPARSE;
    code = shr_keep_bytes(r, &from->base, &v->extra->opaque, err);
    code = code == SHR_OK ? shr_read_sparse(r, from, what, &t, &opaque, err) : code;
    code = code == SHR_OK ? give_data(v, t, opaque, err) : code;
    v->store = SHR_STORE_AS_READ;
    return code;
}

int shr_read_initializers(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
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

int shr_read_outputs(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
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
int shr_read_value_infos(struct shr_reader *r, const Onnx__GraphProto *from, struct shr_err *err)
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
