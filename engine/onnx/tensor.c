/* TensorProto: elements from raw_data or from one of the typed fields, and back to raw_data. */
#include <string.h>

#include "base/mem.h"
#include "onnx/onnx.h"

enum { EXTERNAL_LOCATION = 128 }; /* characters of a file name in a message */

int shr_opaque_tensor(enum shr_dtype dtype, size_t rank, const int64_t *dims, const char *what,
                      struct shr_tensor *ret, struct shr_err *err)
{
    if (rank > SHR_MAX_RANK) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "%s has %zu dimensions, at most %d can be read", what, rank,
                           SHR_MAX_RANK);
    }
    int code = shr_tensor_new(dtype, (int)rank, dims, ret, err);
    return code == SHR_OK ? SHR_OK : shr_err_prefix(err, "%s: ", what);
}

static int refuse_external(const Onnx__TensorProto *from, const char *what, struct shr_err *err)
{
    const char *file = "?";
    for (size_t i = 0; i < from->n_external_data; i++) {
        const Onnx__StringStringEntryProto *entry = from->external_data[i];
        if (entry->key != NULL && entry->value != NULL && strcmp(entry->key, "location") == 0) {
            file = entry->value;
        }
    }
    return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                       "%s keeps its data in another file ('%.*s'): save the model with all data "
                       "inside",
                       what, EXTERNAL_LOCATION, file);
}

/* What may be wrong before any element is looked at; gives the number of elements. */
static int check_head(struct shr_reader *r, const Onnx__TensorProto *from, const char *what,
                      int64_t *ret_count, struct shr_err *err)
{
    char text[160];
    if (from->n_external_data > 0 ||
        from->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        return refuse_external(from, what, err);
    }
    if (from->segment != NULL) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s is a segment of a tensor", what);
    }
    if (from->data_type == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s has no data_type", what);
    }
    if (from->n_dims > SHR_MAX_RANK) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "%s has %zu dimensions, at most %d can be read", what, from->n_dims,
                           SHR_MAX_RANK);
    }
    const int rank = (int)from->n_dims;
    for (int i = 0; i < rank; i++) {
        if (from->dims[i] < 0) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s has the dimension %lld", what,
                               (long long)from->dims[i]);
        }
    }
    if (!shr_dims_count(rank, from->dims, ret_count) || *ret_count > r->limits.max_elements) {
        return shr_err_set(err, SHR_ERR_LIMIT, "%s of shape %s has more than %lld elements", what,
                           shr_dims_text(rank, from->dims, text, sizeof text),
                           (long long)r->limits.max_elements);
    }
    return SHR_OK;
}

static int wrong_length(const Onnx__TensorProto *from, const char *what, size_t have, size_t want,
                        const char *unit, struct shr_err *err)
{
    char text[160];
    return shr_err_set(err, SHR_ERR_INVALID, "%s has %zu %s of data, %s %s needs %zu", what, have,
                       unit, shr_dtype_name((enum shr_dtype)from->data_type),
                       shr_dims_text((int)from->n_dims, from->dims, text, sizeof text), want);
}

/* ── Typed fields ───────────────────────────────────────────────────────────────────────────── */

/* How many elements the typed field of this dtype holds. */
static size_t typed_count(const Onnx__TensorProto *from, enum shr_dtype dtype)
{
    switch (dtype) {
    case SHR_DTYPE_F32:
        return from->n_float_data;
    case SHR_DTYPE_F64:
        return from->n_double_data;
    case SHR_DTYPE_I64:
        return from->n_int64_data;
    case SHR_DTYPE_U32:
    case SHR_DTYPE_U64:
        return from->n_uint64_data;
    default:
        return from->n_int32_data;
    }
}

static int out_of_range(const char *what, size_t i, enum shr_dtype dtype, long long value,
                        struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_INVALID, "%s: element %zu is %lld, which no %s can be", what, i,
                       value, shr_dtype_name(dtype));
}

/* int32_data holds all the small types; half precision as the 16 bits of its encoding. */
static int read_int32_data(const Onnx__TensorProto *from, struct shr_tensor *t, const char *what,
                           struct shr_err *err)
{
    static const struct {
        int32_t low, high;
    } bounds[SHR_DTYPE_COUNT] = {
        [SHR_DTYPE_BOOL] = {0, 1},
        [SHR_DTYPE_U8] = {0, UINT8_MAX},
        [SHR_DTYPE_I8] = {INT8_MIN, INT8_MAX},
        [SHR_DTYPE_U16] = {0, UINT16_MAX},
        [SHR_DTYPE_I16] = {INT16_MIN, INT16_MAX},
        [SHR_DTYPE_F16] = {INT16_MIN, UINT16_MAX},
        [SHR_DTYPE_BF16] = {INT16_MIN, UINT16_MAX},
        [SHR_DTYPE_I32] = {INT32_MIN, INT32_MAX},
        [SHR_DTYPE_F8E4M3FN] = {0, UINT8_MAX},
        [SHR_DTYPE_F8E4M3FNUZ] = {0, UINT8_MAX},
        [SHR_DTYPE_F8E5M2] = {0, UINT8_MAX},
        [SHR_DTYPE_F8E5M2FNUZ] = {0, UINT8_MAX},
        [SHR_DTYPE_F8E8M0] = {0, UINT8_MAX},
        /* a byte of several elements */
        [SHR_DTYPE_U4] = {INT8_MIN, UINT8_MAX},
        [SHR_DTYPE_I4] = {INT8_MIN, UINT8_MAX},
        [SHR_DTYPE_F4E2M1] = {INT8_MIN, UINT8_MAX},
        [SHR_DTYPE_U2] = {INT8_MIN, UINT8_MAX},
        [SHR_DTYPE_I2] = {INT8_MIN, UINT8_MAX},
    };
    for (size_t i = 0; i < from->n_int32_data; i++) {
        const int32_t value = from->int32_data[i];
        if (value < bounds[t->dtype].low || value > bounds[t->dtype].high) {
            return out_of_range(what, i, t->dtype, value, err);
        }
        switch (shr_dtype_size(t->dtype)) {
        case 1:
            ((uint8_t *)t->data)[i] = (uint8_t)value;
            break;
        case 2:
            ((uint16_t *)t->data)[i] = (uint16_t)value;
            break;
        default:
            ((int32_t *)t->data)[i] = value;
            break;
        }
    }
    return SHR_OK;
}

static int read_typed(const Onnx__TensorProto *from, struct shr_tensor *t, const char *what,
                      struct shr_err *err)
{
    const size_t n = shr_tensor_bytes(t);
    if (n == 0) {
        return SHR_OK;
    }
    switch (t->dtype) {
    case SHR_DTYPE_F32:
        memcpy(t->data, from->float_data, n);
        return SHR_OK;
    case SHR_DTYPE_F64:
        memcpy(t->data, from->double_data, n);
        return SHR_OK;
    case SHR_DTYPE_I64:
        memcpy(t->data, from->int64_data, n);
        return SHR_OK;
    case SHR_DTYPE_U64:
        memcpy(t->data, from->uint64_data, n);
        return SHR_OK;
    case SHR_DTYPE_U32:
        for (size_t i = 0; i < from->n_uint64_data; i++) {
            if (from->uint64_data[i] > UINT32_MAX) {
                return out_of_range(what, i, t->dtype, (long long)from->uint64_data[i], err);
            }
            ((uint32_t *)t->data)[i] = (uint32_t)from->uint64_data[i];
        }
        return SHR_OK;
    default:
        return read_int32_data(from, t, what, err);
    }
}

/* ── Elements that share bytes ──────────────────────────────────────────────────────────────── */

/* Bytes in a file; false when they cannot be counted. */
static bool stored_bytes(enum shr_dtype dtype, size_t count, size_t *ret)
{
    const unsigned bits = shr_dtype_packed_bits(dtype);
    if (bits == 0) {
        return shr_size_mul(count, shr_dtype_size(dtype), ret);
    }
    const size_t each = 8 / bits;
    *ret = count / each + (count % each != 0);
    return true;
}

size_t shr_tensor_stored(const struct shr_tensor *t)
{
    size_t bytes = 0;
    /* a tensor in memory has fewer bytes in a file */
    (void)stored_bytes(t->dtype, (size_t)shr_tensor_count(t), &bytes);
    return bytes;
}

/* The first bytes of t become its elements. From the end: no element stands before its byte. */
static void unpack(struct shr_tensor *t)
{
    const unsigned bits = shr_dtype_packed_bits(t->dtype), each = 8 / bits;
    const unsigned sign =
        t->dtype == SHR_DTYPE_I4 || t->dtype == SHR_DTYPE_I2 ? 1u << (bits - 1) : 0;
    uint8_t *bytes = t->data;
    for (size_t i = shr_tensor_bytes(t); i-- > 0;) {
        const unsigned code = bytes[i / each] >> (i % each * bits) & ((1u << bits) - 1);
        bytes[i] = (uint8_t)((code ^ sign) - sign);
    }
}

static void pack(const struct shr_tensor *t, uint8_t *to)
{
    const unsigned bits = shr_dtype_packed_bits(t->dtype), each = 8 / bits;
    const uint8_t *from = t->data;
    for (size_t i = 0; i < shr_tensor_bytes(t); i++) {
        const unsigned code = from[i] & ((1u << bits) - 1);
        to[i / each] = (uint8_t)(to[i / each] | code << (i % each * bits));
    }
}

/* ── Both ways ──────────────────────────────────────────────────────────────────────────────── */

static int check_length(const Onnx__TensorProto *from, enum shr_dtype dtype, int64_t count,
                        const char *what, struct shr_err *err)
{
    const size_t typed = from->n_float_data + from->n_int32_data + from->n_int64_data +
                         from->n_double_data + from->n_uint64_data;
    if (from->has_raw_data && typed > 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s has its data twice, raw and typed", what);
    }
    if (typed != typed_count(from, dtype)) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s of type %s has data of another type", what,
                           shr_dtype_name(dtype));
    }
    size_t bytes, want = (size_t)count;
    const bool fits = stored_bytes(dtype, want, &bytes);
    if (!from->has_raw_data) {
        want = shr_dtype_packed_bits(dtype) != 0 ? bytes : want; /* a byte of them in each */
        return typed == want ? SHR_OK : wrong_length(from, what, typed, want, "elements", err);
    }
    if (!fits || from->raw_data.len != bytes) {
        return wrong_length(from, what, from->raw_data.len, fits ? bytes : SIZE_MAX, "bytes", err);
    }
    return SHR_OK;
}

int shr_read_tensor(struct shr_reader *r, Onnx__TensorProto *from, const char *what,
                    struct shr_tensor *ret, bool *ret_opaque, struct shr_err *err)
{
    int64_t count;
    int code = check_head(r, from, what, &count, err);
    if (code != SHR_OK) {
        return code;
    }
    const enum shr_dtype dtype = (enum shr_dtype)from->data_type;
    if (shr_dtype_size(dtype) == 0) {
        const bool text = dtype == SHR_DTYPE_STRING;
        if (text && from->n_string_data != (size_t)count) {
            return wrong_length(from, what, from->n_string_data, (size_t)count, "elements", err);
        }
        *ret_opaque = true;
        return shr_opaque_tensor(text ? dtype : SHR_DTYPE_NONE, from->n_dims, from->dims, what, ret,
                                 err);
    }
    struct shr_tensor t;
    code = check_length(from, dtype, count, what, err);
    void *bytes = code == SHR_OK && from->has_raw_data && shr_dtype_packed_bits(dtype) == 0
                      ? shr_read_adopt(&from->raw_data)
                      : NULL;
    if (bytes != NULL) {
        *ret = shr_tensor_adopt(dtype, (int)from->n_dims, from->dims, bytes);
        *ret_opaque = false;
        return SHR_OK;
    }
    code = code == SHR_OK ? shr_tensor_new(dtype, (int)from->n_dims, from->dims, &t, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    if (!from->has_raw_data) {
        code = read_typed(from, &t, what, err);
        if (code != SHR_OK) {
            shr_tensor_finish(&t);
            return code;
        }
    } else if (from->raw_data.len > 0) {
        memcpy(t.data, from->raw_data.data, from->raw_data.len);
        r->allocator->free(r->allocator->allocator_data, from->raw_data.data);
        from->raw_data = (ProtobufCBinaryData){0};
    }
    if (shr_dtype_packed_bits(dtype) != 0) {
        unpack(&t);
    }
    *ret = t;
    *ret_opaque = false;
    return SHR_OK;
}

Onnx__TensorProto *shr_write_tensor(struct shr_arena *arena, const struct shr_tensor *t,
                                    const char *name, const struct shr_extra *extra)
{
    Onnx__TensorProto *to = shr_arena_new(arena, 1, sizeof *to);
    if (to == NULL) {
        return NULL;
    }
    onnx__tensor_proto__init(to);
    to->n_dims = (size_t)t->rank;
    to->dims = shr_writable(t->dim);
    to->has_data_type = true;
    to->data_type = (int32_t)t->dtype;
    to->name = shr_writable(name);
    to->has_raw_data = true;
    to->raw_data.len = shr_tensor_stored(t);
    to->raw_data.data = t->data;
    if (shr_dtype_packed_bits(t->dtype) != 0 && to->raw_data.len > 0) {
        to->raw_data.data = shr_arena_new(arena, to->raw_data.len, 1);
        if (to->raw_data.data == NULL) {
            return NULL;
        }
        pack(t, to->raw_data.data);
    }
    if (extra != NULL) {
        shr_write_fields(&to->base, &extra->tensor);
    }
    return to;
}
