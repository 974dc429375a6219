/* Tensors: typed, shaped bytes that many may read.
 *
 * The bytes are reference-counted, so that the clone of a graph shares the weights; whoever wants
 * to write takes a copy of its own first (shr_tensor_own). Row-major, little-endian, no strides.
 * Thread: any for reading and counting; one for writing. */
#ifndef SHR_CORE_TENSOR_H
#define SHR_CORE_TENSOR_H

#include "shrink.h"

struct shr_storage; /* counted bytes */

struct shr_tensor {
    enum shr_dtype dtype;
    int rank;
    int64_t dim[SHR_MAX_RANK];
    void *data;                  /* aligned to SHR_MEM_ALIGN when owned */
    struct shr_storage *storage; /* NULL = the bytes are borrowed from someone who lives longer */
};

/* Bytes of an element in memory; 0 for STRING and NONE. Elements of 2 and 4 bits have a byte each
 * (sign-extended), so that all that moves elements moves them too; files hold them packed. */
size_t shr_dtype_size(enum shr_dtype dtype);
/* 2 or 4 for the types whose elements share a byte in files, the first in the lowest bits; else 0.
 */
unsigned shr_dtype_packed_bits(enum shr_dtype dtype);
bool shr_dtype_is_float(enum shr_dtype dtype);
bool shr_dtype_is_small_float(enum shr_dtype dtype); /* float8 and float4 */

/* Product of dims; false on overflow or a negative dim. Rank 0 has one element. */
bool shr_dims_count(int rank, const int64_t *dim, int64_t *ret_count) SHR_MUSTCHECK;

/* A zeroed tensor with storage of its own. */
int shr_tensor_new(enum shr_dtype dtype, int rank, const int64_t *dim, struct shr_tensor *ret,
                   struct shr_err *err) SHR_MUSTCHECK;

/* Bytes that a tensor can adopt, not zeroed; NULL = out of memory. The 16 bytes in front of them
 * are the maker's until then. Free them, when none does, with shr_bytes_free. */
void *shr_bytes_new(size_t n);
void shr_bytes_free(void *bytes); /* NULL is fine */
/* A tensor of such bytes, which are consumed: as many as it has. */
struct shr_tensor shr_tensor_adopt(enum shr_dtype dtype, int rank, const int64_t *dim,
                                   void *take_bytes);

/* A second reader of the same bytes (counted); a view when the bytes are borrowed. */
struct shr_tensor shr_tensor_ref(const struct shr_tensor *t);

/* Makes the bytes this tensor's alone, copying when others read them or they are borrowed. */
int shr_tensor_own(struct shr_tensor *t, struct shr_err *err) SHR_MUSTCHECK;

/* The tensor as others see it, valid as long as its bytes. */
struct shr_view shr_tensor_view(const struct shr_tensor *t, const char *name);

void shr_tensor_finish(struct shr_tensor *t); /* gives the reference back; zeroes *t */

int64_t shr_tensor_count(const struct shr_tensor *t); /* elements */
size_t shr_tensor_bytes(const struct shr_tensor *t);
bool shr_tensor_same_shape(const struct shr_tensor *a, const struct shr_tensor *b);

/* Element i (flat index) of any numeric type as a double, and back (rounded to nearest even and
 * saturated for integers, float8 and float4). For clarity outside hot loops. */
double shr_tensor_get(const struct shr_tensor *t, int64_t i);
void shr_tensor_set(struct shr_tensor *t, int64_t i, double value);

/* Half precision, round to nearest even. */
float shr_f16_to_f32(uint16_t h);
uint16_t shr_f32_to_f16(float f);
float shr_bf16_to_f32(uint16_t h);
uint16_t shr_f32_to_bf16(float f);

/* float8 and float4, round to nearest even (float8e8m0: ties up, sign dropped). Saturating, what
 * lies above the largest value becomes that; else NaN, or infinity where the type has it. float4
 * has neither and always saturates, NaN becomes -0. */
float shr_small_to_f32(enum shr_dtype dtype, uint8_t code);
uint8_t shr_f32_to_small(enum shr_dtype dtype, float f, bool saturate);

/* "[1, 28, 28]" into text; returns text. */
const char *shr_dims_text(int rank, const int64_t *dim, char *text, size_t size);

#endif
