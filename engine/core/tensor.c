/* Tensors and their counted bytes; see tensor.h. */
#include "core/tensor.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* Stands in front of the bytes, in the same allocation; padded so that they stay aligned. */
struct shr_storage {
    atomic_size_t readers;
};

enum { HEAD = SHR_MEM_ALIGN };
static_assert(sizeof(struct shr_storage) <= HEAD - 16, "the head of a storage fits in front of it");

static struct shr_storage *storage_new(size_t bytes, void **ret_data)
{
    size_t total;
    if (!shr_size_add(bytes == 0 ? 1 : bytes, HEAD, &total)) {
        return NULL;
    }
    struct shr_storage *storage = shr_mem_aligned(total);
    if (storage != NULL) {
        atomic_init(&storage->readers, 1);
        *ret_data = (unsigned char *)storage + HEAD;
    }
    return storage;
}

bool shr_dims_count(int rank, const int64_t *dim, int64_t *ret_count)
{
    int64_t count = 1;
    bool zero = false;
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 0) {
            return false;
        }
        if (dim[i] == 0) {
            zero = true; /* the others must still be sound */
        } else if (count > INT64_MAX / dim[i]) {
            return false;
        } else {
            count *= dim[i];
        }
    }
    *ret_count = zero ? 0 : count;
    return true;
}

int shr_tensor_new(enum shr_dtype dtype, int rank, const int64_t *dim, struct shr_tensor *ret,
                   struct shr_err *err)
{
    char text[160];
    if (rank < 0 || rank > SHR_MAX_RANK) {
        return shr_err_set(err, SHR_ERR_INVALID, "a tensor has 0 to %d dimensions, not %d",
                           SHR_MAX_RANK, rank);
    }
    int64_t count;
    size_t bytes;
    if (!shr_dims_count(rank, dim, &count) ||
        !shr_size_mul((size_t)count, shr_dtype_size(dtype), &bytes)) {
        return shr_err_set(err, SHR_ERR_LIMIT, "%s is no shape that fits into memory",
                           shr_dims_text(rank, dim, text, sizeof text));
    }
    struct shr_tensor t = {.dtype = dtype, .rank = rank};
    for (int i = 0; i < rank; i++) {
        t.dim[i] = dim[i];
    }
    t.storage = storage_new(bytes, &t.data);
    if (t.storage == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %s %s", shr_dtype_name(dtype),
                           shr_dims_text(rank, dim, text, sizeof text));
    }
    memset(t.data, 0, bytes);
    *ret = t;
    return SHR_OK;
}

void *shr_bytes_new(size_t n)
{
    void *data;
    return storage_new(n, &data) == NULL ? NULL : data;
}

void shr_bytes_free(void *bytes)
{
    if (bytes != NULL) {
        shr_mem_free((unsigned char *)bytes - HEAD);
    }
}

struct shr_tensor shr_tensor_adopt(enum shr_dtype dtype, int rank, const int64_t *dim,
                                   void *take_bytes)
{
    struct shr_tensor t = {.dtype = dtype, .rank = rank, .data = take_bytes};
    memcpy(t.dim, dim, (size_t)rank * sizeof *dim);
    t.storage = (struct shr_storage *)(void *)((unsigned char *)take_bytes - HEAD);
    return t;
}

struct shr_tensor shr_tensor_ref(const struct shr_tensor *t)
{
    if (t->storage != NULL) {
        atomic_fetch_add_explicit(&t->storage->readers, 1, memory_order_relaxed);
    }
    return *t;
}

int shr_tensor_own(struct shr_tensor *t, struct shr_err *err)
{
    if (t->data == NULL || (t->storage != NULL && atomic_load(&t->storage->readers) == 1)) {
        return SHR_OK;
    }
    const size_t bytes = shr_tensor_bytes(t);
    void *data;
    struct shr_storage *storage = storage_new(bytes, &data);
    if (storage == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a tensor of %zu bytes", bytes);
    }
    memcpy(data, t->data, bytes);
    struct shr_tensor shared = *t;
    t->data = data;
    t->storage = storage;
    shr_tensor_finish(&shared);
    return SHR_OK;
}

struct shr_view shr_tensor_view(const struct shr_tensor *t, const char *name)
{
    struct shr_view view = {.name = name,
                            .dtype = t->dtype,
                            .rank = t->rank,
                            .data = t->data,
                            .bytes = shr_tensor_bytes(t)};
    memcpy(view.dim, t->dim, sizeof view.dim);
    return view;
}

void shr_tensor_finish(struct shr_tensor *t)
{
    if (t == NULL) {
        return;
    }
    if (t->storage != NULL &&
        atomic_fetch_sub_explicit(&t->storage->readers, 1, memory_order_acq_rel) == 1) {
        shr_mem_free(t->storage);
    }
    *t = (struct shr_tensor){0};
}

int64_t shr_tensor_count(const struct shr_tensor *t)
{
    int64_t count = 0;
    bool fits = shr_dims_count(t->rank, t->dim, &count);
    assert(fits);
    (void)fits;
    return count;
}

size_t shr_tensor_bytes(const struct shr_tensor *t)
{
    return (size_t)shr_tensor_count(t) * shr_dtype_size(t->dtype);
}

bool shr_tensor_same_shape(const struct shr_tensor *a, const struct shr_tensor *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

double shr_tensor_get(const struct shr_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case SHR_DTYPE_F32:
        return ((const float *)t->data)[i];
    case SHR_DTYPE_F64:
        return ((const double *)t->data)[i];
    case SHR_DTYPE_F16:
        return shr_f16_to_f32(((const uint16_t *)t->data)[i]);
    case SHR_DTYPE_BF16:
        return shr_bf16_to_f32(((const uint16_t *)t->data)[i]);
    case SHR_DTYPE_BOOL:
        return ((const uint8_t *)t->data)[i] != 0;
    case SHR_DTYPE_U8:
        return ((const uint8_t *)t->data)[i];
    case SHR_DTYPE_I8:
        return ((const int8_t *)t->data)[i];
    case SHR_DTYPE_U16:
        return ((const uint16_t *)t->data)[i];
    case SHR_DTYPE_I16:
        return ((const int16_t *)t->data)[i];
    case SHR_DTYPE_U32:
        return ((const uint32_t *)t->data)[i];
    case SHR_DTYPE_I32:
        return ((const int32_t *)t->data)[i];
    case SHR_DTYPE_U64:
        return (double)((const uint64_t *)t->data)[i];
    case SHR_DTYPE_I64:
        return (double)((const int64_t *)t->data)[i];
    case SHR_DTYPE_U4:
    case SHR_DTYPE_U2:
        return ((const uint8_t *)t->data)[i];
    case SHR_DTYPE_I4:
    case SHR_DTYPE_I2:
        return ((const int8_t *)t->data)[i];
    case SHR_DTYPE_F8E4M3FN:
    case SHR_DTYPE_F8E4M3FNUZ:
    case SHR_DTYPE_F8E5M2:
    case SHR_DTYPE_F8E5M2FNUZ:
    case SHR_DTYPE_F4E2M1:
    case SHR_DTYPE_F8E8M0:
        return shr_small_to_f32(t->dtype, ((const uint8_t *)t->data)[i]);
    case SHR_DTYPE_NONE:
    case SHR_DTYPE_STRING:
    case SHR_DTYPE_COUNT:
        break;
    }
    return 0;
}

/* Rounded to nearest even and kept in [low, high]; NaN becomes 0. */
static double to_integer(double value, double low, double high)
{
    if (isnan(value)) {
        return 0;
    }
    value = nearbyint(value);
    return value < low ? low : value > high ? high : value;
}

/* 2^63 and 2^64 are doubles, the largest integers below them are not: saturate by hand. */
static int64_t to_i64(double value)
{
    value = to_integer(value, -0x1p63, 0x1p63);
    return value >= 0x1p63 ? INT64_MAX : (int64_t)value;
}

static uint64_t to_u64(double value)
{
    value = to_integer(value, 0, 0x1p64);
    return value >= 0x1p64 ? UINT64_MAX : (uint64_t)value;
}

void shr_tensor_set(struct shr_tensor *t, int64_t i, double value)
{
    switch (t->dtype) {
    case SHR_DTYPE_F32:
        ((float *)t->data)[i] = (float)value;
        break;
    case SHR_DTYPE_F64:
        ((double *)t->data)[i] = value;
        break;
    case SHR_DTYPE_F16:
        ((uint16_t *)t->data)[i] = shr_f32_to_f16((float)value);
        break;
    case SHR_DTYPE_BF16:
        ((uint16_t *)t->data)[i] = shr_f32_to_bf16((float)value);
        break;
    case SHR_DTYPE_BOOL:
        ((uint8_t *)t->data)[i] = value != 0;
        break;
    case SHR_DTYPE_U8:
        ((uint8_t *)t->data)[i] = (uint8_t)to_integer(value, 0, UINT8_MAX);
        break;
    case SHR_DTYPE_I8:
        ((int8_t *)t->data)[i] = (int8_t)to_integer(value, INT8_MIN, INT8_MAX);
        break;
    case SHR_DTYPE_U16:
        ((uint16_t *)t->data)[i] = (uint16_t)to_integer(value, 0, UINT16_MAX);
        break;
    case SHR_DTYPE_I16:
        ((int16_t *)t->data)[i] = (int16_t)to_integer(value, INT16_MIN, INT16_MAX);
        break;
    case SHR_DTYPE_U32:
        ((uint32_t *)t->data)[i] = (uint32_t)to_integer(value, 0, UINT32_MAX);
        break;
    case SHR_DTYPE_I32:
        ((int32_t *)t->data)[i] = (int32_t)to_integer(value, INT32_MIN, INT32_MAX);
        break;
    case SHR_DTYPE_U64:
        ((uint64_t *)t->data)[i] = to_u64(value);
        break;
    case SHR_DTYPE_I64:
        ((int64_t *)t->data)[i] = to_i64(value);
        break;
    case SHR_DTYPE_U4:
        ((uint8_t *)t->data)[i] = (uint8_t)to_integer(value, 0, 15);
        break;
    case SHR_DTYPE_I4:
        ((int8_t *)t->data)[i] = (int8_t)to_integer(value, -8, 7);
        break;
    case SHR_DTYPE_U2:
        ((uint8_t *)t->data)[i] = (uint8_t)to_integer(value, 0, 3);
        break;
    case SHR_DTYPE_I2:
        ((int8_t *)t->data)[i] = (int8_t)to_integer(value, -2, 1);
        break;
    case SHR_DTYPE_F8E4M3FN:
    case SHR_DTYPE_F8E4M3FNUZ:
    case SHR_DTYPE_F8E5M2:
    case SHR_DTYPE_F8E5M2FNUZ:
    case SHR_DTYPE_F4E2M1:
    case SHR_DTYPE_F8E8M0:
        ((uint8_t *)t->data)[i] = shr_f32_to_small(t->dtype, (float)value, true);
        break;
    case SHR_DTYPE_NONE:
    case SHR_DTYPE_STRING:
    case SHR_DTYPE_COUNT:
        break;
    }
}

const char *shr_dims_text(int rank, const int64_t *dim, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, rank < 0 ? "[…" : "[");
    for (int i = 0; i < rank && used < size; i++) {
        const char *comma = i == 0 ? "" : ", ";
        used += (size_t)(dim[i] < 0 ? snprintf(text + used, size - used, "%s?", comma)
                                    : snprintf(text + used, size - used, "%s%lld", comma,
                                               (long long)dim[i]));
    }
    if (used < size) {
        snprintf(text + used, size - used, "]");
    }
    return text;
}
