/* Reference kernels: products and elementwise loops as portable C, written to be read.
 *
 * This file and ref_conv.c are the specification: every faster entry is tested against them.
 * Integer sums run in uint32_t, so that they wrap instead of being undefined. */
#include "base/mem.h"
#include "kernels/internal.h"

/* ── Products ───────────────────────────────────────────────────────────────────────────────── */

size_t shr__gemm_f32_size_ref(size_t k, size_t n)
{
    return k * n * sizeof(float);
}

void shr__gemm_f32_pack_ref(size_t k, size_t n, const float *b, size_t ldb, bool trans,
                            void *packed)
{
    float *to = packed; /* (k, n) */
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j < n; j++) {
            to[i * n + j] = trans ? b[j * ldb + i] : b[i * ldb + j];
        }
    }
}

void shr__gemm_f32_ref(const struct shr_gemm_f32 *g)
{
    const float *b = g->b;
    for (size_t m = 0; m < g->m; m++) {
        const float *a = g->a + m * g->lda;
        float *c = g->c + m * g->ldc;
        for (size_t n = 0; n < g->n; n++) {
            c[n] = g->add ? c[n] : g->bias != NULL ? g->bias[n] : 0;
        }
        for (size_t k = 0; k < g->k; k++) {
            for (size_t n = 0; n < g->n; n++) {
                c[n] += a[k] * b[k * g->n + n];
            }
        }
        for (size_t n = 0; n < g->n; n++) {
            c[n] = shr__act(c[n], g->act, g->act_lo, g->act_hi);
        }
    }
}

void shr__gemm_f32_team_ref(const struct shr_gemm_f32 *g, struct shr_team *team)
{
    (void)team;
    shr__gemm_f32_ref(g);
}

/* Nothing is left out; it pays, so to speak, from two thirds of zeros on. */
size_t shr__sparse_f32_size_ref(size_t k, size_t n, const float *b, size_t ldb, bool trans)
{
    size_t nonzero = 0;
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j < n; j++) {
            nonzero += b[trans ? j * ldb + i : i * ldb + j] != 0;
        }
    }
    return nonzero > k * n / 3 ? 0 : shr__gemm_f32_size_ref(k, n);
}

void shr__sparse_f32_pack_ref(size_t k, size_t n, const float *b, size_t ldb, bool trans,
                              void *packed)
{
    shr__gemm_f32_pack_ref(k, n, b, ldb, trans, packed);
}

void shr__sparse_f32_ref(const struct shr_gemm_f32 *g, struct shr_team *team)
{
    (void)team;
    shr__gemm_f32_ref(g);
}

/* Packed: zero points int32 (n), then B int8 (n, k). */
size_t shr__gemm_i8_size_ref(size_t k, size_t n)
{
    return (n * sizeof(int32_t) + k * n + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
}

void shr__gemm_i8_pack_ref(size_t k, size_t n, const int8_t *b, size_t ldb, bool trans,
                           const int32_t *zero, void *packed)
{
    int32_t *zeros = packed;
    int8_t *to = (int8_t *)(zeros + n);
    for (size_t j = 0; j < n; j++) {
        zeros[j] = zero != NULL ? zero[j] : 0;
        for (size_t i = 0; i < k; i++) {
            to[j * k + i] = trans ? b[j * ldb + i] : b[i * ldb + j];
        }
    }
}

const char *shr__gemm_i8_form_ref(const void *packed)
{
    (void)packed;
    return "reference";
}

void shr__gemm_i8_ref(const struct shr_gemm_i8 *g)
{
    const int32_t *zeros = g->b;
    const int8_t *b = (const int8_t *)(zeros + g->n);
    for (size_t m = 0; m < g->m; m++) {
        const uint8_t *a = g->a + m * g->lda;
        for (size_t n = 0; n < g->n; n++) {
            uint32_t acc = g->bias != NULL ? (uint32_t)g->bias[n] : 0;
            for (size_t k = 0; k < g->k; k++) {
                acc += (uint32_t)((a[k] - g->a_zero) * (b[n * g->k + k] - zeros[n]));
            }
            shr__store_i8(g, m * g->ldc + n, n, (int32_t)acc);
        }
    }
}

/* ── Quantization ───────────────────────────────────────────────────────────────────────────── */

void shr__quantize_u8_ref(size_t n, const float *x, float scale, int32_t zero, uint8_t *q)
{
    for (size_t i = 0; i < n; i++) {
        q[i] = (uint8_t)shr__saturate(x[i] / scale, zero, 0, UINT8_MAX);
    }
}

void shr__quantize_s8_ref(size_t n, const float *x, float scale, int32_t zero, int8_t *q)
{
    for (size_t i = 0; i < n; i++) {
        q[i] = (int8_t)shr__saturate(x[i] / scale, zero, INT8_MIN, INT8_MAX);
    }
}

void shr__dequantize_u8_ref(size_t n, const uint8_t *q, float scale, int32_t zero, float *x)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(q[i] - zero) * scale;
    }
}

void shr__dequantize_s8_ref(size_t n, const int8_t *q, float scale, int32_t zero, float *x)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(q[i] - zero) * scale;
    }
}

void shr__quantize_u8_nhwc_ref(size_t c, size_t hw, const float *x, float scale, int32_t zero,
                               uint8_t *q)
{
    for (size_t i = 0; i < c; i++) {
        for (size_t j = 0; j < hw; j++) {
            q[j * c + i] = (uint8_t)shr__saturate(x[i * hw + j] / scale, zero, 0, UINT8_MAX);
        }
    }
}

void shr__dequantize_u8_nchw_ref(size_t c, size_t hw, const uint8_t *q, float scale, int32_t zero,
                                 float *x)
{
    for (size_t i = 0; i < c; i++) {
        for (size_t j = 0; j < hw; j++) {
            x[i * hw + j] = (float)(q[j * c + i] - zero) * scale;
        }
    }
}

void shr__add_u8_ref(const struct shr_add_u8 *p)
{
    int32_t lo = p->act == SHR_ACT_RELU ? p->y_zero : 0;
    for (size_t i = 0; i < p->n; i++) {
        float a = (float)(p->a[i] - p->a_zero) * p->a_scale;
        float b = (float)(p->b[i] - p->b_zero) * p->b_scale;
        p->y[i] = (uint8_t)shr__saturate((a + b) / p->y_scale, p->y_zero, lo, UINT8_MAX);
    }
}

void shr__mul_u8_ref(const struct shr_mul_u8 *p)
{
    for (size_t i = 0; i < p->n; i++) {
        float v = (float)((p->a[i] - p->a_zero) * (p->b[i] - p->b_zero)) * p->scale;
        p->y[i] = (uint8_t)shr__saturate(v, p->y_zero, 0, UINT8_MAX);
    }
}

void shr__mean_u8_ref(size_t hw, size_t c, const uint8_t *x, int32_t x_zero, float scale,
                      int32_t y_zero, uint8_t *y)
{
    for (size_t j = 0; j < c; j++) {
        uint32_t sum = 0;
        for (size_t i = 0; i < hw; i++) {
            sum += (uint32_t)(x[i * c + j] - x_zero);
        }
        y[j] = (uint8_t)shr__saturate((float)(int32_t)sum * scale, y_zero, 0, UINT8_MAX);
    }
}

void shr__lut_u8_ref(size_t n, const uint8_t *x, const uint8_t table[256], uint8_t *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = table[x[i]];
    }
}

/* ── Layout ─────────────────────────────────────────────────────────────────────────────────── */

void shr__flip_u8_ref(size_t n, const uint8_t *x, uint8_t *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] ^ 0x80;
    }
}

void shr__transpose_u8_ref(size_t rows, size_t cols, const uint8_t *x, uint8_t *y)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) {
            y[j * rows + i] = x[i * cols + j];
        }
    }
}

void shr__transpose_f32_ref(size_t rows, size_t cols, const float *x, float *y)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) {
            y[j * rows + i] = x[i * cols + j];
        }
    }
}

/* ── Elementwise float ──────────────────────────────────────────────────────────────────────── */

void shr__minmax_f32_ref(size_t n, const float *x, float *ret_min, float *ret_max)
{
    float lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *ret_min = lo;
    *ret_max = hi;
}

void shr__relu_f32_ref(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = shr__act(x[i], SHR_ACT_RELU, 0, 0);
    }
}

void shr__add_f32_ref(size_t n, const float *a, const float *b, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = a[i] + b[i];
    }
}

void shr__madd_f32_ref(size_t n, const float *a, const float *b, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] += a[i] * b[i];
    }
}

void shr__mul_f32_ref(size_t n, const float *a, const float *b, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = a[i] * b[i];
    }
}

void shr__sigmoid_f32_ref(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = 1 / (1 + expf(-x[i]));
    }
}

void shr__tanh_f32_ref(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = tanhf(x[i]);
    }
}

void shr__exp_f32_ref(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = expf(x[i]);
    }
}

void shr__erf_f32_ref(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = erff(x[i]);
    }
}

void shr__act_f32_ref(size_t n, const float *x, enum shr_act act, float lo, float hi, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = shr__act(x[i], act, lo, hi);
    }
}

/* ── Rows and channels of float ─────────────────────────────────────────────────────────────── */

void shr__softmax_f32_ref(size_t n, const float *x, float *y)
{
    float largest = -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    for (size_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - largest);
        sum += (double)y[i];
    }
    for (size_t i = 0; i < n; i++) {
        y[i] *= (float)(1 / sum);
    }
}

void shr__layernorm_f32_ref(const struct shr_layernorm *p, const float *x, float *y)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < p->n; i++) {
        mean += (double)x[i] / (double)p->n;
    }
    for (size_t i = 0; i < p->n; i++) {
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    }
    double inverse = 1 / sqrt(squares / (double)p->n + (double)p->epsilon);
    for (size_t i = 0; i < p->n; i++) {
        float bias = p->bias != NULL ? p->bias[i] : 0;
        y[i] = (float)(((double)x[i] - mean) * inverse) * p->scale[i] + bias;
    }
    if (p->ret_mean != NULL) {
        *p->ret_mean = (float)mean;
    }
    if (p->ret_inverse != NULL) {
        *p->ret_inverse = (float)inverse;
    }
}

void shr__layernorm_grad_f32_ref(size_t n, const float *dy, const float *scale, const float *xhat,
                                 float inverse, float *dx)
{
    double sum = 0, product = 0;
    for (size_t i = 0; i < n; i++) {
        const double g = (double)dy[i] * (scale == NULL ? 1.0 : (double)scale[i]);
        sum += g;
        product += g * (double)xhat[i];
    }
    const float mean = (float)(sum / (double)n), slope = (float)(product / (double)n);
    for (size_t i = 0; i < n; i++) {
        const float g = scale == NULL ? dy[i] : dy[i] * scale[i];
        dx[i] = inverse * (g - mean - xhat[i] * slope);
    }
}

void shr__scale_f32_ref(const struct shr_scale_f32 *p, const float *x, float *y)
{
    for (size_t i = 0; i < p->rows * p->c; i++) {
        float v = x[i] * p->scale[i % p->c] + p->bias[i % p->c];
        y[i] = shr__act(v, p->act, p->act_lo, p->act_hi);
    }
}
