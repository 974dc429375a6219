/* TypeProto and ValueInfoProto: the declared types of values. */
#include <string.h>

#include "onnx/onnx.h"

static int read_dim(struct shr_reader *r, const Onnx__TensorShapeProto__Dimension *from,
                    struct shr_type *type, int i, struct shr_err *err)
{
    type->dim[i] = -1;
    if (from->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE &&
        from->dim_value >= 0) {
        type->dim[i] = from->dim_value;
    }
    if (from->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM &&
        from->dim_param[0] != 0) {
        const char *name;
        int code = shr_read_name(r, from->dim_param, "the name of a dimension", &name, err);
        if (code != SHR_OK) {
            return code;
        }
        type->sym[i] = shr_arena_strdup(r->kept, name); /* of shr_extra too, so shared */
        if (type->sym[i] == NULL) {
            return shr_onnx_no_memory(err);
        }
    }
    return SHR_OK;
}

/* Types outside the IR (sequences, more than SHR_MAX_RANK dims, …) are unknown to the engine. */
int shr_read_type(struct shr_reader *r, const Onnx__TypeProto *from, struct shr_type *ret,
                  struct shr_err *err)
{
    struct shr_type type = {.rank = -1};
    if (from == NULL || from->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
        *ret = type;
        return SHR_OK;
    }
    const Onnx__TypeProto__Tensor *tensor = from->tensor_type;
    const enum shr_dtype dtype = (enum shr_dtype)tensor->elem_type;
    if (shr_dtype_size(dtype) > 0 || dtype == SHR_DTYPE_STRING) {
        type.dtype = dtype;
    }
    const Onnx__TensorShapeProto *shape = tensor->shape;
    if (shape != NULL && shape->n_dim <= SHR_MAX_RANK) {
        type.rank = (int)shape->n_dim;
        for (int i = 0; i < type.rank; i++) {
            int code = read_dim(r, shape->dim[i], &type, i, err);
            if (code != SHR_OK) {
                return code;
            }
        }
    }
    *ret = type;
    return SHR_OK;
}

int shr_read_value_info(struct shr_reader *r, const Onnx__ValueInfoProto *from, struct shr_value *v,
                        struct shr_err *err)
{
    struct shr_type type;
    int code = shr_read_type(r, from->type, &type, err);
    code = code == SHR_OK ? shr_extra_get(r, &v->extra, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    struct shr_extra *extra = v->extra;
    extra->declared = type;
    if (from->type != NULL) {
        code = shr_keep_bytes(r, &from->type->base, &extra->declared_bytes, err);
    }
    code = code == SHR_OK
               ? shr_keep_text(r, &extra->fields, SHR_TAG_VALUE_DOC, from->doc_string, err)
               : code;
    code = code == SHR_OK ? shr_keep_unknown(r, &extra->fields, &from->base, err) : code;
    v->was_declared = true;
    if (!shr_value_is_constant(v)) {
        v->type = type;
    }
    return code;
}

static Onnx__TypeProto *write_type(struct shr_arena *arena, const struct shr_type *type)
{
    Onnx__TypeProto *to = shr_arena_new(arena, 1, sizeof *to);
    Onnx__TypeProto__Tensor *tensor = shr_arena_new(arena, 1, sizeof *tensor);
    Onnx__TensorShapeProto *shape = shr_arena_new(arena, 1, sizeof *shape);
    if (to == NULL || tensor == NULL || shape == NULL) {
        return NULL;
    }
    onnx__type_proto__init(to);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    to->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    to->tensor_type = tensor;
    tensor->has_elem_type = true;
    tensor->elem_type = (int32_t)type->dtype;
    if (type->rank < 0) {
        return to;
    }
    tensor->shape = shape;
    shape->n_dim = (size_t)type->rank;
    shape->dim = shr_arena_new(arena, shape->n_dim, sizeof *shape->dim);
    for (int i = 0; shape->dim != NULL && i < type->rank; i++) {
        Onnx__TensorShapeProto__Dimension *dim = shr_arena_new(arena, 1, sizeof *dim);
        if (dim == NULL) {
            return NULL;
        }
        onnx__tensor_shape_proto__dimension__init(dim);
        if (type->dim[i] >= 0) {
            dim->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            dim->dim_value = type->dim[i];
        } else if (type->sym[i] != NULL) {
            dim->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            dim->dim_param = shr_writable(type->sym[i]);
        }
        shape->dim[i] = dim;
    }
    return shape->dim == NULL ? NULL : to;
}

Onnx__ValueInfoProto *shr_write_value_info(struct shr_arena *arena, const struct shr_value *v)
{
    Onnx__ValueInfoProto *to = shr_arena_new(arena, 1, sizeof *to);
    if (to == NULL) {
        return NULL;
    }
    onnx__value_info_proto__init(to);
    to->name = shr_writable(v->name);
    struct shr_fields fields = {0};
    const struct shr_extra *extra = v->extra;
    /* What is kept as bytes has not changed, though the IR cannot tell its type. */
    const bool opaque = extra != NULL && extra->opaque_tag != 0 &&
                        shr_dtype_size(v->constant.dtype) == 0 && shr_value_is_constant(v);
    if (extra != NULL && extra->declared_bytes.s != NULL &&
        (opaque || shr_type_equal(&extra->declared, &v->type))) {
        if (!shr_fields_add(arena, &fields, SHR_TAG_VALUE_TYPE, extra->declared_bytes.s,
                            extra->declared_bytes.n)) {
            return NULL;
        }
    } else if (v->type.dtype != SHR_DTYPE_NONE) {
        to->type = write_type(arena, &v->type);
        if (to->type == NULL) {
            return NULL;
        }
    }
    /* Behind the type, as it is where the type was made anew: the same bytes either way. */
    if (extra != NULL && !shr_fields_join(arena, &fields, &extra->fields)) {
        return NULL;
    }
    shr_write_fields(&to->base, &fields);
    return to;
}
