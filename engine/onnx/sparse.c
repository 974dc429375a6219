/* SparseTensorProto: elements that are not zero with their places (COO), read into dense tensors
 * and written from them. A file may be small and its tensors huge, so what all of them take once
 * they are dense is bounded by the file. Source: ONNX IR, SparseTensorProto. */
#include <string.h>

#include "base/mem.h"
#include "onnx/onnx.h"

enum {
    DENSE_FREE = 64 << 20, /* bytes that the sparse initializers of any file may have when dense */
    DENSE_RATIO = 256,     /* beyond that: times the bytes of the file */
    HEAD_BYTES = 48        /* of the messages around the elements, beside the name: about */
};

size_t shr_sparse_room(size_t file)
{
    size_t room;
    return shr_size_mul(file, DENSE_RATIO, &room) && room > DENSE_FREE ? room : DENSE_FREE;
}

/* ── Reading ────────────────────────────────────────────────────────────────────────────────── */

/* The flat place of element i; false when the indices leave the tensor. */
static bool place_of(const struct shr_tensor *indices, const struct shr_tensor *t, int64_t count,
                     int64_t i, int64_t *ret)
{
    if (indices->rank == 1) {
        *ret = (int64_t)shr_tensor_get(indices, i);
        return *ret >= 0 && *ret < count;
    }
    int64_t flat = 0;
    for (int d = 0; d < t->rank; d++) {
        int64_t at = (int64_t)shr_tensor_get(indices, i * t->rank + d);
        if (at < 0 || at >= t->dim[d]) {
            return false;
        }
        flat = flat * t->dim[d] + at;
    }
    *ret = flat;
    return true;
}

static int scatter(const struct shr_tensor *values, const struct shr_tensor *indices,
                   const char *what, struct shr_tensor *t, struct shr_err *err)
{
    const size_t size = shr_dtype_size(t->dtype);
    const int64_t n = shr_tensor_count(values), count = shr_tensor_count(t);
    for (int64_t i = 0, last = -1; i < n; i++) {
        int64_t at;
        if (!place_of(indices, t, count, i, &at)) {
            char dims[96];
            return shr_err_set(err, SHR_ERR_INVALID, "%s: index %lld lies outside of %s", what,
                               (long long)i, shr_dims_text(t->rank, t->dim, dims, sizeof dims));
        }
        if (at <= last) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: index %lld does not ascend", what,
                               (long long)i);
        }
        memcpy((char *)t->data + (size_t)at * size, (const char *)values->data + (size_t)i * size,
               size);
        last = at;
    }
    return SHR_OK;
}

static int check_parts(const struct shr_tensor *values, const struct shr_tensor *indices,
                       size_t rank, const char *what, struct shr_err *err)
{
    const enum shr_dtype dtype = indices->dtype;
    if (dtype != SHR_DTYPE_I64 && dtype != SHR_DTYPE_I32 && dtype != SHR_DTYPE_I16) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "%s: indices are %s, they must be int64, int32 or int16", what,
                           shr_dtype_name(dtype));
    }
    const bool flat = indices->rank == 1, full = indices->rank == 2;
    if (values->rank != 1 || (!flat && !full) || indices->dim[0] != values->dim[0] ||
        (full && (size_t)indices->dim[1] != rank)) {
        char a[96], b[96];
        return shr_err_set(err, SHR_ERR_INVALID,
                           "%s: values %s need as many indices, flat or of %zu coordinates, not %s",
                           what, shr_dims_text(values->rank, values->dim, a, sizeof a), rank,
                           shr_dims_text(indices->rank, indices->dim, b, sizeof b));
    }
    return SHR_OK;
}

/* The zeroed tensor, if there is room for it. */
static int make_dense(struct shr_reader *r, const Onnx__SparseTensorProto *from,
                      enum shr_dtype dtype, const char *what, struct shr_tensor *ret,
                      struct shr_err *err)
{
    struct shr_tensor shape;
    int code = shr_opaque_tensor(SHR_DTYPE_NONE, from->n_dims, from->dims, what, &shape, err);
    if (code != SHR_OK) {
        return code;
    }
    char dims[96];
    size_t bytes;
    const int64_t count = shr_tensor_count(&shape);
    if (count > r->limits.max_elements ||
        !shr_size_mul((size_t)count, shr_dtype_size(dtype), &bytes) || bytes > r->sparse_room) {
        code =
            shr_err_set(err, SHR_ERR_LIMIT,
                        "%s of shape %s would be too large when dense: sparse initializers may "
                        "have %d times the bytes of the file",
                        what, shr_dims_text(shape.rank, shape.dim, dims, sizeof dims), DENSE_RATIO);
    } else {
        code = shr_tensor_new(dtype, shape.rank, shape.dim, ret, err);
        r->sparse_room -= code == SHR_OK ? bytes : 0;
    }
    shr_tensor_finish(&shape);
    return code;
}

int shr_read_sparse(struct shr_reader *r, Onnx__SparseTensorProto *from, const char *what,
                    struct shr_tensor *ret, bool *ret_opaque, struct shr_err *err)
{
    struct shr_tensor values = {0}, indices = {0}, t = {0};
    bool text = false, other = false;
    if (from->indices == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s has no indices", what);
    }
    int code = shr_read_tensor(r, from->values, what, &values, &text, err);
    if (code == SHR_OK && (text || shr_dtype_packed_bits(values.dtype) != 0)) {
        shr_tensor_finish(&values);
        *ret_opaque = true;
        return shr_opaque_tensor(SHR_DTYPE_NONE, from->n_dims, from->dims, what, ret, err);
    }
    code = code == SHR_OK ? shr_read_tensor(r, from->indices, what, &indices, &other, err) : code;
    code = code == SHR_OK ? check_parts(&values, &indices, from->n_dims, what, err) : code;
    code = code == SHR_OK ? make_dense(r, from, values.dtype, what, &t, err) : code;
    code = code == SHR_OK ? scatter(&values, &indices, what, &t, err) : code;
    if (code == SHR_OK) {
        *ret = t;
        *ret_opaque = false;
    } else {
        shr_tensor_finish(&t);
    }
    shr_tensor_finish(&values);
    shr_tensor_finish(&indices);
    return code;
}

/* ── Writing ────────────────────────────────────────────────────────────────────────────────── */

static bool is_zero(const void *element, size_t size)
{
    static const char zeros[16];
    return memcmp(element, zeros, size) == 0;
}

static int64_t count_nonzero(const struct shr_tensor *t)
{
    const size_t size = shr_dtype_size(t->dtype), bytes = shr_tensor_bytes(t);
    int64_t n = 0;
    for (size_t at = 0; at < bytes; at += size) {
        n += !is_zero((const char *)t->data + at, size);
    }
    return n;
}

/* ONNX Runtime reads smaller indices than ONNX defines, and they halve the file. */
static enum shr_dtype index_type(const struct shr_value *v)
{
    const int64_t count = shr_tensor_count(&v->constant);
    if (v->store == SHR_STORE_SPARSE_INT64 || count > INT32_MAX) {
        return SHR_DTYPE_I64;
    }
    return count > INT16_MAX ? SHR_DTYPE_I32 : SHR_DTYPE_I16;
}

size_t shr_sparse_stored(const struct shr_value *v)
{
    const size_t each = shr_dtype_size(v->constant.dtype) + shr_dtype_size(index_type(v));
    return (size_t)count_nonzero(&v->constant) * each;
}

bool shr_sparse_pays(const struct shr_value *v)
{
    if (v->store == SHR_STORE_DENSE || shr_dtype_size(v->constant.dtype) == 0 ||
        shr_dtype_packed_bits(v->constant.dtype) != 0) {
        return false;
    }
    return shr_sparse_stored(v) + HEAD_BYTES < shr_tensor_bytes(&v->constant);
}

static Onnx__TensorProto *vector(struct shr_arena *arena, enum shr_dtype dtype, int64_t n,
                                 const char *name, const struct shr_extra *extra)
{
    struct shr_tensor t = {.dtype = dtype, .rank = 1, .dim = {n}};
    struct shr_tensor *kept =
        shr_arena_new(arena, 1, sizeof *kept); /* the message points to dims */
    void *data = shr_arena_new(arena, (size_t)n + 1, shr_dtype_size(dtype));
    if (kept == NULL || data == NULL) {
        return NULL;
    }
    *kept = t;
    kept->data = data;
    return shr_write_tensor(arena, kept, name, extra);
}

Onnx__SparseTensorProto *shr_write_sparse(struct shr_arena *arena, const struct shr_value *v)
{
    const struct shr_tensor *t = &v->constant;
    const enum shr_dtype type = index_type(v);
    const size_t size = shr_dtype_size(t->dtype);
    const int64_t count = shr_tensor_count(t), n = count_nonzero(t);
    Onnx__SparseTensorProto *to = shr_arena_new(arena, 1, sizeof *to);
    Onnx__TensorProto *values = vector(arena, t->dtype, n, v->name, v->extra);
    Onnx__TensorProto *indices = vector(arena, type, n, "", NULL);
    if (to == NULL || values == NULL || indices == NULL) {
        return NULL;
    }
    onnx__sparse_tensor_proto__init(to);
    struct shr_tensor places = {
        .dtype = type, .rank = 1, .dim = {n}, .data = indices->raw_data.data};
    for (int64_t i = 0, at = 0; i < count; i++) {
        const char *element = (const char *)t->data + (size_t)i * size;
        if (!is_zero(element, size)) {
            memcpy(values->raw_data.data + (size_t)at * size, element, size);
            shr_tensor_set(&places, at++, (double)i);
        }
    }
    to->values = values;
    to->indices = indices;
    to->n_dims = (size_t)t->rank;
    to->dims = shr_writable(t->dim);
    return to;
}
