/* Kernels: the hot loops, as a table of function pointers.
 *
 * The ref files are portable C, fill every entry, and are the specification. x86 files replace
 * entries, chosen at run time by flags and mask. Integer entries are equal to the reference bit
 * for bit; float entries may differ by reordering of sums (bounds in tests/engine/kernels).
 * Kernels do not check or fail: callers hand valid arguments. Only the _new entries allocate.
 * What one table packed or made, only the same table may use. Pointers need no alignment unless
 * told. Thread: any; a prepared convolution belongs to one thread at a time.
 *
 * Integer activations are uint8 everywhere: an int8 tensor travels as q ^ 0x80 with its zero point
 * + 128 (flip_u8), which is exact for products, sums, order and saturation alike. */
#ifndef SHR_KERNELS_KERNELS_H
#define SHR_KERNELS_KERNELS_H

#include "shrink.h"

struct shr_team;

/* What a product does to its results. A NaN stays a NaN. Integer
 * products know NONE and RELU, and CLIP of bytes. */
enum shr_act {
    SHR_ACT_NONE,
    SHR_ACT_RELU,
    SHR_ACT_CLIP,        /* to [act_lo, act_hi] */
    SHR_ACT_LEAKY,       /* x < 0 ? act_lo * x : x */
    SHR_ACT_HARDSIGMOID, /* act_lo * x + act_hi, clipped to [0, 1] */
    SHR_ACT_HARDSWISH,   /* x * clip(x / 6 + 1/2, 0, 1) */
    SHR_ACT_SIGMOID,
    SHR_ACT_SILU, /* x * sigmoid(x) */
    SHR_ACT_TANH,
    SHR_ACT_GELU, /* x / 2 * (1 + erf(x / sqrt(2))) */
    SHR_ACT_COUNT,
};

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
    float act_lo, act_hi;
    bool add; /* the sums begin with what C holds, not with the bias */
};

enum shr_gemm_i8_out { SHR_GEMM_I32, SHR_GEMM_F32, SHR_GEMM_U8, SHR_GEMM_S8 };

/* acc[m][n] = bias[n] + sum_k (A[m][k] - a_zero) * (B[k][n] - b_zero[n]), exact in int32.
 *   I32: C = acc
 *   F32: C = act((float)acc * scale[n] + bias_f32[n])
 *   U8, S8: C = saturate(rint((float)acc * scale[n]) + c_zero), then act
 * rint rounds to nearest even; NaN becomes the smallest value. scale is one multiplication in
 * float32, as written. int32 sums wrap. */
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
    enum shr_act act;      /* RELU: results below real 0 become real 0; CLIP: U8, S8 only */
    int32_t c_min, c_max;  /* CLIP: the bounds, integers of the output type */
    void *c;               /* (m, n) of the output type, row stride ldc */
    size_t ldc;
    struct shr_team *team; /* or NULL */
};

struct shr_conv_shape { /* 2-D; 1-D has h = kh = oh = 1; of a pool oc = c and groups is not read */
    int64_t n, c, h, w, oc, kh, kw, oh, ow;
    int64_t stride_h, stride_w, pad_t, pad_l, pad_b, pad_r, dil_h, dil_w, groups;
};

/* Convolution of float NHWC images: y = act(conv(x) + bias + residual). */
struct shr_conv_f32_spec {
    struct shr_conv_shape shape; /* any groups, strides, dilations and paddings */
    const float *w;              /* (oc, c/groups, kh, kw); NULL = conv_f32_load gives them */
    const float *bias;           /* (oc) or NULL */
    enum shr_act act;
    float act_lo, act_hi;
    int threads;   /* of the largest team that will run it, at least 1 */
    bool winograd; /* sums may be formed by Winograd's algorithm, which rounds more */
};

struct shr_conv_f32; /* a prepared convolution; holds copies of all that the spec points to */

/* Convolution of uint8 NHWC activations: sums, requantization and outputs as in shr_gemm_i8, with
 * oc for n; padded positions count as x_zero. */
struct shr_conv_i8_spec {
    struct shr_conv_shape shape;
    const int8_t *w;       /* (oc, c/groups, kh, kw) */
    const int32_t *w_zero; /* (oc) or NULL = 0 */
    const int32_t *bias;   /* (oc) or NULL */
    enum shr_gemm_i8_out out;
    const float *scale;    /* (oc); not for I32 */
    const float *bias_f32; /* (oc) or NULL; F32 only */
    int32_t y_zero;        /* U8, S8 */
    enum shr_act act;
    int32_t y_min, y_max; /* CLIP */
};

struct shr_conv_i8; /* a prepared one; holds copies of all that the spec points to */

/* y = saturate(rint((a_scale * (a - a_zero) + b_scale * (b - b_zero)) / y_scale) + y_zero), each
 * float32 operation rounded as written; at least y_zero when act is RELU. y may be a or b. */
struct shr_add_u8 {
    size_t n;
    const uint8_t *a, *b;
    float a_scale, b_scale, y_scale;
    int32_t a_zero, b_zero, y_zero;
    enum shr_act act;
    uint8_t *y;
};

/* y = saturate(rint((float)((a - a_zero) * (b - b_zero)) * scale) + y_zero). y may be a or b. */
struct shr_mul_u8 {
    size_t n;
    const uint8_t *a, *b;
    int32_t a_zero, b_zero, y_zero;
    float scale;
    uint8_t *y;
};

/* y[i] = (x[i] - mean) / sqrt(variance + epsilon) * scale[i] + bias[i] of one row */
struct shr_layernorm {
    size_t n;
    const float *scale, *bias; /* (n); bias may be NULL */
    float epsilon;
    float *ret_mean, *ret_inverse; /* where asked for: mean and 1 / sqrt(variance + epsilon) */
};

struct shr_scale_f32 {
    size_t rows, c;            /* pixels and channels */
    const float *scale, *bias; /* (c) */
    enum shr_act act;
    float act_lo, act_hi;
};

struct shr_kernels {
    unsigned cpu; /* enum shr_cpu bits in use */

    size_t (*gemm_f32_size)(size_t k, size_t n); /* bytes of packed B */
    /* b (k, n) row stride ldb, or (n, k) when trans */
    void (*gemm_f32_pack)(size_t k, size_t n, const float *b, size_t ldb, bool trans, void *packed);
    void (*gemm_f32)(const struct shr_gemm_f32 *g);
    void (*gemm_f32_team)(const struct shr_gemm_f32 *g, struct shr_team *team); /* team or NULL */

    /* The same where most of B is zero, in blocks of neighbouring columns: bytes of packed B, or 0
     * when too few are for it to be faster. Zeros are left out, whatever they are multiplied by. */
    size_t (*sparse_f32_size)(size_t k, size_t n, const float *b, size_t ldb, bool trans);
    void (*sparse_f32_pack)(size_t k, size_t n, const float *b, size_t ldb, bool trans,
                            void *packed);
    void (*sparse_f32)(const struct shr_gemm_f32 *g, struct shr_team *team); /* without add */

    /* A multiple of SHR_MEM_ALIGN, so that packed matrices can follow each other; packed is
     * aligned for int32. */
    size_t (*gemm_i8_size)(size_t k, size_t n);
    /* b int8 (k, n) row stride ldb, or (n, k) when trans; zero: (n) or NULL = 0 */
    void (*gemm_i8_pack)(size_t k, size_t n, const int8_t *b, size_t ldb, bool trans,
                         const int32_t *zero, void *packed);
    void (*gemm_i8)(const struct shr_gemm_i8 *g);
    const char *(*gemm_i8_form)(const void *packed); /* how it multiplies, for people; static */

    /* Float convolution NHWC. NULL = out of memory. scratch bytes, aligned to SHR_MEM_ALIGN, are
     * given to run. x (n, h, w, c); residual like y, or NULL; y (n, oh, ow, oc), which may be the
     * residual. team: NULL, or at most the threads of the spec. */
    struct shr_conv_f32 *(*conv_f32_new)(const struct shr_conv_f32_spec *spec, size_t *ret_scratch);
    /* Other weights, as in the spec; w NULL = those that it has, bias NULL = zeros. */
    void (*conv_f32_load)(struct shr_conv_f32 *conv, const float *w, const float *bias);
    void (*conv_f32_run)(const struct shr_conv_f32 *conv, const float *x, const float *residual,
                         float *y, void *scratch, struct shr_team *team);
    void (*conv_f32_free)(struct shr_conv_f32 *conv);
    const char *(*conv_f32_form)(const struct shr_conv_f32 *conv); /* as gemm_i8_form */

    /* NULL = out of memory. x (n, h, w, c), y (n, oh, ow, oc); x_zero in 0..255. */
    struct shr_conv_i8 *(*conv_i8_new)(const struct shr_conv_i8_spec *spec, size_t *ret_scratch);
    void (*conv_i8_run)(const struct shr_conv_i8 *conv, const uint8_t *x, int32_t x_zero, void *y,
                        void *scratch, struct shr_team *team);
    void (*conv_i8_free)(struct shr_conv_i8 *conv);
    const char *(*conv_i8_form)(const struct shr_conv_i8 *conv); /* as gemm_i8_form */

    /* NHWC; padding does not count, a window of padding alone gives 0 */
    void (*maxpool_u8)(const struct shr_conv_shape *s, const uint8_t *x, uint8_t *y);
    void (*add_u8)(const struct shr_add_u8 *p);
    void (*mul_u8)(const struct shr_mul_u8 *p);
    /* The mean of each channel, x (hw, c), y (c):
     * y = saturate(rint((float)sum(x - x_zero) * scale) + y_zero), scale holding 1 / hw */
    void (*mean_u8)(size_t hw, size_t c, const uint8_t *x, int32_t x_zero, float scale,
                    int32_t y_zero, uint8_t *y);
    void (*lut_u8)(size_t n, const uint8_t *x, const uint8_t table[256],
                   uint8_t *y);                              /* y may be x */
    void (*flip_u8)(size_t n, const uint8_t *x, uint8_t *y); /* y = x ^ 0x80; y may be x */

    /* x (rows, cols) to y (cols, rows): an image from NCHW to NHWC has rows = c, cols = h * w */
    void (*transpose_u8)(size_t rows, size_t cols, const uint8_t *x, uint8_t *y);
    void (*transpose_f32)(size_t rows, size_t cols, const float *x, float *y);

    /* x (n) to q: saturate(rint(x / scale) + zero), nearest even (ONNX QuantizeLinear-10); NaN
     * becomes the smallest value */
    void (*quantize_u8)(size_t n, const float *x, float scale, int32_t zero, uint8_t *q);
    void (*quantize_s8)(size_t n, const float *x, float scale, int32_t zero, int8_t *q);
    void (*dequantize_u8)(size_t n, const uint8_t *q, float scale, int32_t zero, float *x);
    void (*dequantize_s8)(size_t n, const int8_t *q, float scale, int32_t zero, float *x);

    /* The same with a transposition: an image of c channels and hw pixels from float NCHW to uint8
     * NHWC, and back. */
    void (*quantize_u8_nhwc)(size_t c, size_t hw, const float *x, float scale, int32_t zero,
                             uint8_t *q);
    void (*dequantize_u8_nchw)(size_t c, size_t hw, const uint8_t *q, float scale, int32_t zero,
                               float *x);

    /* NaN does not count; nothing but NaN gives +inf and -inf */
    void (*minmax_f32)(size_t n, const float *x, float *ret_min, float *ret_max);

    void (*relu_f32)(size_t n, const float *x, float *y); /* NaN stays NaN, as in every RELU */
    void (*add_f32)(size_t n, const float *a, const float *b, float *y);
    void (*mul_f32)(size_t n, const float *a, const float *b, float *y);
    void (*madd_f32)(size_t n, const float *a, const float *b, float *y); /* y += a * b */
    void (*sigmoid_f32)(size_t n, const float *x, float *y);
    void (*tanh_f32)(size_t n, const float *x, float *y);
    void (*exp_f32)(size_t n, const float *x, float *y);
    void (*erf_f32)(size_t n, const float *x, float *y);
    void (*act_f32)(size_t n, const float *x, enum shr_act act, float lo, float hi, float *y);

    /* One row; y may be x. softmax subtracts the largest element first. */
    void (*softmax_f32)(size_t n, const float *x, float *y);
    void (*layernorm_f32)(const struct shr_layernorm *p, const float *x, float *y);

    /* The gradient of one row's normalization, of mean 0 and variance 1:
     * dx = inverse * (g - mean(g) - xhat * mean(g * xhat)), g = dy * scale; scale may be NULL */
    void (*layernorm_grad_f32)(size_t n, const float *dy, const float *scale, const float *xhat,
                               float inverse, float *dx);

    /* Cells of recurrent layers and their gradients, one row of h; rnn_cell.inc has the formulas.
     * gates (4h) or (3h): the sums that go into the activations, then what came out of them */
    void (*lstm_cell_f32)(size_t h, float *gates, const float *before, float *cell, float *y);
    void (*lstm_cell_grad_f32)(size_t h, const float *gates, const float *before, const float *cell,
                               const float *dh, float *dc, float *dgates);
    void (*gru_cell_f32)(size_t h, float *gates, const float *state, const float *before, float *y);
    void (*gru_cell_grad_f32)(size_t h, const float *gates, const float *state, const float *before,
                              float *dh, float *dgates, float *dstate);

    /* NHWC float: y = act(x * scale[c] + bias[c]); y may be x */
    void (*scale_f32)(const struct shr_scale_f32 *p, const float *x, float *y);
    /* Padding does not count in a maximum, which is -inf of padding alone; a NaN counts when it is
     * met. In a mean the padding of the shape counts as zeros with count_pad, else not at all. */
    void (*maxpool_f32)(const struct shr_conv_shape *s, const float *x, float *y,
                        struct shr_team *team);
    void (*avgpool_f32)(const struct shr_conv_shape *s, bool count_pad, const float *x, float *y,
                        struct shr_team *team);
    /* dx = the gradient of the input: of a maximum y, dy where the first tap that equals it was. */
    void (*maxpool_grad_f32)(const struct shr_conv_shape *s, const float *x, const float *y,
                             const float *dy, float *dx, struct shr_team *team);
    void (*avgpool_grad_f32)(const struct shr_conv_shape *s, bool count_pad, const float *dy,
                             float *dx, struct shr_team *team);
};

/* The best table for the machine without the masked bits; static, valid for ever. */
const struct shr_kernels *shr_kernels_get(unsigned cpu_mask);

#endif
