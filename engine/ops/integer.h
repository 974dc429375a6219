/* What the integer operators share: where they have their inputs, and how those are read.
 *
 * All of them are y = saturate(rint(scale * (bias + sum (a - a_zero) (b - b_zero))) + y_zero), or
 * the int32 or float sum itself, with exact sums. The kernels take uint8 A and int8 B: an int8 A
 * and a uint8 B are flipped (q ^ 0x80, zero point moved by 128).
 *
 * For files in ops/ only. Thread: any. */
#ifndef SHR_OPS_INTEGER_H
#define SHR_OPS_INTEGER_H

#include "ops/util.h"

enum { SHR_NO_SLOT = -1 };

struct shr_integer_slots {
    int a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero;
};

/* UNSUPPORTED when an input has a type that the kernels do not take. */
int shr_integer_check_types(const struct shr_op_setup *c, const struct shr_integer_slots *s,
                            struct shr_err *err) SHR_MUSTCHECK;
/* UNSUPPORTED unless the input is omitted or has 1 or `wanted` values. */
int shr_integer_check_count(const struct shr_op_setup *c, int slot, int64_t wanted,
                            struct shr_err *err) SHR_MUSTCHECK;

/* The same for the inputs of one value each (scale of A, scale and zero point of Y) and those of
 * one value a column (scale and zero point of B, bias). */
int shr_integer_check_columns(const struct shr_op_setup *c, const struct shr_integer_slots *s,
                              int64_t columns, struct shr_err *err) SHR_MUSTCHECK;

/* INVALID when an input behind an optional one is missing; for infer. */
int shr_integer_require(const struct shr_infer *c, size_t slot, struct shr_err *err) SHR_MUSTCHECK;

struct shr_integer_inputs {
    const struct shr_tensor *a_zero, *a_scale, *b_scale, *b_zero, *y_scale, *y_zero, *bias;
};
struct shr_integer_inputs shr_integer_inputs_of(const struct shr_tensor *const *in, size_t n_in,
                                                const struct shr_integer_slots *s);
/* Bias and scale of each column. */
void shr_integer_columns(const struct shr_integer_inputs *in, float alpha, size_t columns,
                         int32_t *bias, float *scale);

/* Zero points of B for the kernel, as many as columns. */
void shr_integer_zeros(const struct shr_tensor *zero, bool flip, size_t columns, int32_t *zeros);

/* Scale and zero point of uint8 for values in [min, max], by the rule of DynamicQuantizeLinear. Of
 * nothing but zeros the scale is 1, as ONNX Runtime has it; the specification divides 0 by 0. */
void shr_integer_dynamic(float min, float max, float *ret_scale, int32_t *ret_zero);

/* An input, or NULL when omitted or when the operator has no such slot. */
static inline const struct shr_tensor *shr_integer_in(const struct shr_tensor *const *in,
                                                      size_t n_in, int slot)
{
    return slot >= 0 && (size_t)slot < n_in ? in[slot] : NULL;
}

static inline int64_t shr_integer_count(const struct shr_tensor *t)
{
    return t == NULL ? 1 : shr_tensor_count(t);
}

/* Element i of a zero point of one or more values; 0 when omitted. */
static inline int32_t shr_integer_zero(const struct shr_tensor *zero, int64_t i)
{
    return zero == NULL ? 0 : (int32_t)shr_tensor_get(zero, i % shr_tensor_count(zero));
}

static inline enum shr_gemm_i8_out shr_integer_out(enum shr_dtype dtype)
{
    return dtype == SHR_DTYPE_I32   ? SHR_GEMM_I32
           : dtype == SHR_DTYPE_F32 ? SHR_GEMM_F32
           : dtype == SHR_DTYPE_U8  ? SHR_GEMM_U8
                                    : SHR_GEMM_S8;
}

/* Room for bytes in the scratch, aligned; returns where it begins. */
static inline size_t shr_integer_place(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += (bytes + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
    return at;
}

#endif
