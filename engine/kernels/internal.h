/* What the kernel files share: the arithmetic of a single result, as the specification has it, and
 * the entries by name for the tables in select.c. Included by engine/kernels only. Thread: any. */
#ifndef SHR_KERNELS_INTERNAL_H
#define SHR_KERNELS_INTERNAL_H

#include <math.h>

#include "kernels/kernels.h"

/* saturate(rint(v) + zero) to [lo, hi]; clamping first gives the same and cannot overflow. The
 * comparisons send NaN to lo, as maxps and minps do. */
static inline int32_t shr__saturate(float v, int32_t zero, int32_t lo, int32_t hi)
{
    float below = (float)(lo - zero), above = (float)(hi - zero);
    v = v > below ? v : below;
    v = v < above ? v : above;
    return (int32_t)rintf(v) + zero;
}

static inline float shr__clip(float v, float lo, float hi) /* NaN stays */
{
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
}

static inline float shr__act(float v, enum shr_act act, float lo, float hi)
{
    switch (act) {
    case SHR_ACT_RELU:
        return v < 0 ? 0 : v;
    case SHR_ACT_CLIP:
        return shr__clip(v, lo, hi);
    case SHR_ACT_LEAKY:
        return v < 0 ? lo * v : v;
    case SHR_ACT_HARDSIGMOID:
        return shr__clip(lo * v + hi, 0, 1);
    case SHR_ACT_HARDSWISH:
        return v * shr__clip(v / 6 + 0.5f, 0, 1);
    case SHR_ACT_SIGMOID:
        return 1 / (1 + expf(-v));
    case SHR_ACT_SILU:
        return v / (1 + expf(-v));
    case SHR_ACT_TANH:
        return tanhf(v);
    case SHR_ACT_GELU:
        return 0.5f * v * (1 + erff(v * 0.70710678f));
    default:
        return v;
    }
}

/* The bounds of results that are bytes. */
static inline void shr__bounds_i8(const struct shr_gemm_i8 *g, int32_t *lo, int32_t *hi)
{
    bool is_signed = g->out == SHR_GEMM_S8;
    *lo = is_signed ? INT8_MIN : 0;
    *hi = is_signed ? INT8_MAX : UINT8_MAX;
    if (g->act == SHR_ACT_RELU) {
        *lo = g->c_zero;
    } else if (g->act == SHR_ACT_CLIP) {
        *lo = g->c_min > *lo ? g->c_min : *lo;
        *hi = g->c_max < *hi ? g->c_max : *hi;
    }
}

/* Writes the result of an exact sum as element i of g->c; n is its column. */
static inline void shr__store_i8(const struct shr_gemm_i8 *g, size_t i, size_t n, int32_t acc)
{
    int32_t lo, hi;
    shr__bounds_i8(g, &lo, &hi);
    switch (g->out) {
    case SHR_GEMM_I32:
        ((int32_t *)g->c)[i] = acc;
        break;
    case SHR_GEMM_F32: {
        float v = (float)acc * g->scale[n];
        if (g->bias_f32 != NULL) {
            v += g->bias_f32[n];
        }
        ((float *)g->c)[i] = g->act == SHR_ACT_RELU && v < 0 ? 0 : v;
        break;
    }
    case SHR_GEMM_U8:
        ((uint8_t *)g->c)[i] = (uint8_t)shr__saturate((float)acc * g->scale[n], g->c_zero, lo, hi);
        break;
    case SHR_GEMM_S8:
        ((int8_t *)g->c)[i] = (int8_t)shr__saturate((float)acc * g->scale[n], g->c_zero, lo, hi);
        break;
    }
}

static inline size_t shr__out_size(enum shr_gemm_i8_out out)
{
    return out == SHR_GEMM_I32 || out == SHR_GEMM_F32 ? 4 : 1;
}

/* The taps [*from, *to) of an output position along an axis of size that are not in the padding;
 * the first one stands at first. */
static inline void shr__taps_inside(int64_t first, int64_t dil, int64_t k, int64_t size,
                                    int64_t *from, int64_t *to)
{
    *from = first < 0 ? (-first + dil - 1) / dil : 0;
    *from = *from < k ? *from : k;
    *to = first < size ? (size - first + dil - 1) / dil : 0;
    *to = *to < k ? *to : k;
    *to = *to > *from ? *to : *from;
}

/* 1 / the number of taps of a mean whose window begins at (top, left) */
static inline float shr__pool_scale(const struct shr_conv_shape *s, bool count_pad, int64_t top,
                                    int64_t left)
{
    int64_t h[2], w[2], pad_t = count_pad ? s->pad_t : 0, pad_l = count_pad ? s->pad_l : 0;
    int64_t pad_b = count_pad ? s->pad_b : 0, pad_r = count_pad ? s->pad_r : 0;
    shr__taps_inside(top + pad_t, s->dil_h, s->kh, s->h + pad_t + pad_b, &h[0], &h[1]);
    shr__taps_inside(left + pad_l, s->dil_w, s->kw, s->w + pad_l + pad_r, &w[0], &w[1]);
    int64_t n = (h[1] - h[0]) * (w[1] - w[0]);
    return n > 0 ? 1.0f / (float)n : 0;
}

/* ── Entries: shr__<entry>_<table> ──────────────────────────────────────────────────────────── */

/* The float entries that every table has, or the f32 files compiled for an instruction set. */
#define SHR__F32_ENTRIES(isa)                                                                      \
    size_t shr__gemm_f32_size_##isa(size_t k, size_t n);                                           \
    void shr__gemm_f32_pack_##isa(size_t k, size_t n, const float *b, size_t ldb, bool trans,      \
                                  void *packed);                                                   \
    void shr__gemm_f32_##isa(const struct shr_gemm_f32 *g);                                        \
    void shr__gemm_f32_team_##isa(const struct shr_gemm_f32 *g, struct shr_team *team);            \
    size_t shr__sparse_f32_size_##isa(size_t k, size_t n, const float *b, size_t ldb, bool trans); \
    void shr__sparse_f32_pack_##isa(size_t k, size_t n, const float *b, size_t ldb, bool trans,    \
                                    void *packed);                                                 \
    void shr__sparse_f32_##isa(const struct shr_gemm_f32 *g, struct shr_team *team);               \
    struct shr_conv_f32 *shr__conv_f32_new_##isa(const struct shr_conv_f32_spec *spec,             \
                                                 size_t *ret_scratch);                             \
    void shr__sigmoid_f32_##isa(size_t n, const float *x, float *y);                               \
    void shr__tanh_f32_##isa(size_t n, const float *x, float *y);                                  \
    void shr__exp_f32_##isa(size_t n, const float *x, float *y);                                   \
    void shr__erf_f32_##isa(size_t n, const float *x, float *y);                                   \
    void shr__act_f32_##isa(size_t n, const float *x, enum shr_act act, float lo, float hi,        \
                            float *y);                                                             \
    void shr__softmax_f32_##isa(size_t n, const float *x, float *y);                               \
    void shr__layernorm_f32_##isa(const struct shr_layernorm *p, const float *x, float *y);        \
    void shr__layernorm_grad_f32_##isa(size_t n, const float *dy, const float *scale,              \
                                       const float *xhat, float inverse, float *dx);               \
    void shr__lstm_cell_f32_##isa(size_t h, float *gates, const float *before, float *cell,        \
                                  float *y);                                                       \
    void shr__lstm_cell_grad_f32_##isa(size_t h, const float *gates, const float *before,          \
                                       const float *cell, const float *dh, float *dc,              \
                                       float *dgates);                                             \
    void shr__gru_cell_f32_##isa(size_t h, float *gates, const float *state, const float *before,  \
                                 float *y);                                                        \
    void shr__gru_cell_grad_f32_##isa(size_t h, const float *gates, const float *state,            \
                                      const float *before, float *dh, float *dgates,               \
                                      float *dstate);                                              \
    void shr__scale_f32_##isa(const struct shr_scale_f32 *p, const float *x, float *y);            \
    void shr__maxpool_f32_##isa(const struct shr_conv_shape *s, const float *x, float *y,          \
                                struct shr_team *team);                                            \
    void shr__avgpool_f32_##isa(const struct shr_conv_shape *s, bool count_pad, const float *x,    \
                                float *y, struct shr_team *team);                                  \
    void shr__maxpool_grad_f32_##isa(const struct shr_conv_shape *s, const float *x,               \
                                     const float *y, const float *dy, float *dx,                   \
                                     struct shr_team *team);                                       \
    void shr__avgpool_grad_f32_##isa(const struct shr_conv_shape *s, bool count_pad,               \
                                     const float *dy, float *dx, struct shr_team *team);
SHR__F32_ENTRIES(ref)
SHR__F32_ENTRIES(avx2)
SHR__F32_ENTRIES(avx512)

/* The integer products that every table has. */
#define SHR__I8_ENTRIES(isa)                                                                       \
    size_t shr__gemm_i8_size_##isa(size_t k, size_t n);                                            \
    void shr__gemm_i8_pack_##isa(size_t k, size_t n, const int8_t *b, size_t ldb, bool trans,      \
                                 const int32_t *zero, void *packed);                               \
    void shr__gemm_i8_##isa(const struct shr_gemm_i8 *g);                                          \
    struct shr_conv_i8 *shr__conv_i8_new_##isa(const struct shr_conv_i8_spec *spec,                \
                                               size_t *ret_scratch);                               \
    void shr__conv_i8_run_##isa(const struct shr_conv_i8 *conv, const uint8_t *x, int32_t x_zero,  \
                                void *y, void *scratch, struct shr_team *team);                    \
    void shr__conv_i8_free_##isa(struct shr_conv_i8 *conv);                                        \
    const char *shr__gemm_i8_form_##isa(const void *packed);                                       \
    const char *shr__conv_i8_form_##isa(const struct shr_conv_i8 *conv);
SHR__I8_ENTRIES(ref)
SHR__I8_ENTRIES(avx2)
SHR__I8_ENTRIES(avxvnni)
SHR__I8_ENTRIES(avx512vnni)

/* Every float convolution begins with the functions that know the rest of it. */
struct shr_conv_f32 {
    void (*run)(const struct shr_conv_f32 *conv, const float *x, const float *residual, float *y,
                void *scratch, struct shr_team *team);
    void (*load)(struct shr_conv_f32 *conv, const float *w, const float *bias);
    void (*free)(struct shr_conv_f32 *conv);
    const char *form;
};
void shr__conv_f32_run(const struct shr_conv_f32 *conv, const float *x, const float *residual,
                       float *y, void *scratch, struct shr_team *team);
void shr__conv_f32_load(struct shr_conv_f32 *conv, const float *w, const float *bias);
void shr__conv_f32_free(struct shr_conv_f32 *conv);
const char *shr__conv_f32_form(const struct shr_conv_f32 *conv);

void shr__maxpool_u8_ref(const struct shr_conv_shape *s, const uint8_t *x, uint8_t *y);
void shr__add_u8_ref(const struct shr_add_u8 *p);
void shr__mul_u8_ref(const struct shr_mul_u8 *p);
void shr__mean_u8_ref(size_t hw, size_t c, const uint8_t *x, int32_t x_zero, float scale,
                      int32_t y_zero, uint8_t *y);
void shr__lut_u8_ref(size_t n, const uint8_t *x, const uint8_t table[256], uint8_t *y);
void shr__flip_u8_ref(size_t n, const uint8_t *x, uint8_t *y);
void shr__transpose_u8_ref(size_t rows, size_t cols, const uint8_t *x, uint8_t *y);
void shr__transpose_f32_ref(size_t rows, size_t cols, const float *x, float *y);
void shr__quantize_u8_ref(size_t n, const float *x, float scale, int32_t zero, uint8_t *q);
void shr__quantize_s8_ref(size_t n, const float *x, float scale, int32_t zero, int8_t *q);
void shr__dequantize_u8_ref(size_t n, const uint8_t *q, float scale, int32_t zero, float *x);
void shr__dequantize_s8_ref(size_t n, const int8_t *q, float scale, int32_t zero, float *x);
void shr__quantize_u8_nhwc_ref(size_t c, size_t hw, const float *x, float scale, int32_t zero,
                               uint8_t *q);
void shr__dequantize_u8_nchw_ref(size_t c, size_t hw, const uint8_t *q, float scale, int32_t zero,
                                 float *x);
void shr__minmax_f32_ref(size_t n, const float *x, float *ret_min, float *ret_max);
void shr__relu_f32_ref(size_t n, const float *x, float *y);
void shr__add_f32_ref(size_t n, const float *a, const float *b, float *y);
void shr__mul_f32_ref(size_t n, const float *a, const float *b, float *y);
void shr__madd_f32_ref(size_t n, const float *a, const float *b, float *y);

void shr__maxpool_u8_avx2(const struct shr_conv_shape *s, const uint8_t *x, uint8_t *y);
void shr__add_u8_avx2(const struct shr_add_u8 *p);
void shr__mul_u8_avx2(const struct shr_mul_u8 *p);
void shr__mean_u8_avx2(size_t hw, size_t c, const uint8_t *x, int32_t x_zero, float scale,
                       int32_t y_zero, uint8_t *y);
void shr__lut_u8_avx2(size_t n, const uint8_t *x, const uint8_t table[256], uint8_t *y);
void shr__flip_u8_avx2(size_t n, const uint8_t *x, uint8_t *y);
void shr__transpose_u8_avx2(size_t rows, size_t cols, const uint8_t *x, uint8_t *y);
void shr__transpose_f32_avx2(size_t rows, size_t cols, const float *x, float *y);
void shr__quantize_u8_avx2(size_t n, const float *x, float scale, int32_t zero, uint8_t *q);
void shr__quantize_s8_avx2(size_t n, const float *x, float scale, int32_t zero, int8_t *q);
void shr__dequantize_u8_avx2(size_t n, const uint8_t *q, float scale, int32_t zero, float *x);
void shr__dequantize_s8_avx2(size_t n, const int8_t *q, float scale, int32_t zero, float *x);
void shr__quantize_u8_nhwc_avx2(size_t c, size_t hw, const float *x, float scale, int32_t zero,
                                uint8_t *q);
void shr__dequantize_u8_nchw_avx2(size_t c, size_t hw, const uint8_t *q, float scale, int32_t zero,
                                  float *x);
void shr__minmax_f32_avx2(size_t n, const float *x, float *ret_min, float *ret_max);
void shr__relu_f32_avx2(size_t n, const float *x, float *y);
void shr__add_f32_avx2(size_t n, const float *a, const float *b, float *y);
void shr__mul_f32_avx2(size_t n, const float *a, const float *b, float *y);
void shr__madd_f32_avx2(size_t n, const float *a, const float *b, float *y);

#endif
