/* Kernels: the hot loops, as a table of function pointers.
 *
 * ref.c is portable C, fills every entry, and is the specification. x86 files replace entries,
 * weakest instruction set first, chosen at run time by flags and mask. Integer entries are equal
 * to the reference bit for bit; float entries may differ by reordering of sums (bounds in
 * tests/engine/kernels). Kernels do not allocate, check or fail: callers hand valid arguments.
 * Pointers need no alignment unless told. Thread: any. */
#ifndef SHR_KERNELS_KERNELS_H
#define SHR_KERNELS_KERNELS_H

#include "shrink.h"

enum shr_act { SHR_ACT_NONE, SHR_ACT_RELU };

/* C[m][n] = act(sum_k A[m][k] * B[k][n] + bias[n]) */
struct shr_gemm_f32 {
    size_t m, n, k;
    const float *a; /* (m, k) row stride lda */
    size_t lda;
    const void *b;     /* packed by gemm_f32_pack */
    const float *bias; /* (n) or NULL */
    float *c;          /* (m, n) row stride ldc */
    size_t ldc;
    enum shr_act act;
};

enum shr_gemm_i8_out { SHR_GEMM_I32, SHR_GEMM_F32, SHR_GEMM_U8, SHR_GEMM_S8 };

/* acc[m][n] = bias[n] + sum_k (A[m][k] - a_zero) * (B[k][n] - b_zero[n]), exact in int32.
 *   I32: C = acc
 *   F32: C = act((float)acc * scale[n] + bias_f32[n])
 *   U8, S8: C = saturate(rint((float)acc * scale[n]) + c_zero), at least c_min when act is RELU
 * rint rounds to nearest even. scale is one multiplication in float32, as written. */
struct shr_gemm_i8 {
    size_t m, n, k;
    const uint8_t *a; /* (m, k) row stride lda; int8 A is given as A ^ 0x80 with a_zero + 128 */
    size_t lda;
    int32_t a_zero;
    const void *b;       /* packed by gemm_i8_pack: int8 B with its zero points and column sums */
    const int32_t *bias; /* (n) or NULL */
    enum shr_gemm_i8_out out;
    const float *scale;    /* (n); not for I32 */
    const float *bias_f32; /* (n) or NULL; F32 only */
    int32_t c_zero;        /* U8, S8 */
    enum shr_act act;      /* RELU: results below real 0 become real 0 */
    void *c;               /* (m, n) of the output type, row stride ldc */
    size_t ldc;
};

struct shr_conv_shape { /* 2-D; 1-D has h = kh = 1 */
    int64_t n, c, h, w, oc, kh, kw, oh, ow;
    int64_t stride_h, stride_w, pad_t, pad_l, pad_b, pad_r, dil_h, dil_w, groups;
};

struct shr_conv_f32; /* a prepared convolution: packed weights, JIT code */

struct shr_kernels {
    unsigned cpu; /* enum shr_cpu bits in use */

    size_t (*gemm_f32_size)(size_t k, size_t n); /* bytes of packed B */
    /* b (k, n) row stride ldb, or (n, k) when trans */
    void (*gemm_f32_pack)(size_t k, size_t n, const float *b, size_t ldb, bool trans, void *packed);
    void (*gemm_f32)(const struct shr_gemm_f32 *g);

    size_t (*gemm_i8_size)(size_t k, size_t n);
    /* b int8 (k, n) row stride ldb, or (n, k) when trans; zero: (n) or NULL = 0 */
    void (*gemm_i8_pack)(size_t k, size_t n, const int8_t *b, size_t ldb, bool trans,
                         const int32_t *zero, void *packed);
    void (*gemm_i8)(const struct shr_gemm_i8 *g);

    /* Float convolution NCHW. w (oc, c/groups, kh, kw), bias (oc) or NULL. new may return NULL for
     * shapes it does not want: the caller then uses the next weaker table (conv of ref never
     * refuses). scratch bytes are given to run. */
    struct shr_conv_f32 *(*conv_f32_new)(const struct shr_conv_shape *s, const float *w,
                                         const float *bias, enum shr_act act, int threads,
                                         size_t *ret_scratch);
    void (*conv_f32_run)(const struct shr_conv_f32 *conv, const float *x, float *y, void *scratch);
    void (*conv_f32_free)(struct shr_conv_f32 *conv);

    /* x (n) to q: saturate(rint(x / scale) + zero), nearest even (ONNX QuantizeLinear-10) */
    void (*quantize_u8)(size_t n, const float *x, float scale, int32_t zero, uint8_t *q);
    void (*quantize_s8)(size_t n, const float *x, float scale, int32_t zero, int8_t *q);
    void (*dequantize_u8)(size_t n, const uint8_t *q, float scale, int32_t zero, float *x);
    void (*dequantize_s8)(size_t n, const int8_t *q, float scale, int32_t zero, float *x);

    void (*minmax_f32)(size_t n, const float *x, float *ret_min, float *ret_max); /* n >= 1 */

    void (*relu_f32)(size_t n, const float *x, float *y);
    void (*add_f32)(size_t n, const float *a, const float *b, float *y);
    void (*mul_f32)(size_t n, const float *a, const float *b, float *y);
    void (*sigmoid_f32)(size_t n, const float *x, float *y);
    void (*tanh_f32)(size_t n, const float *x, float *y);
};

/* The best table for the machine without the masked bits; static, valid for ever. */
const struct shr_kernels *shr_kernels_get(unsigned cpu_mask);

#endif
