/* AVX2: quantization, layout, pooling and elementwise loops. Whole vectors here, what is left over
 * by the reference's own arithmetic. */
#include <string.h>

#include "kernels/avx2_i8.h"

/* ── Quantization ───────────────────────────────────────────────────────────────────────────── */

/* 32 values as bytes that wrap, which the saturation before has made exact for either sign */
SHR_INLINE __m256i quantize_32(const float *x, __m256 scale, int32_t zero, int32_t lo, int32_t hi)
{
    __m256i q[4];
    SHR_UNROLL
    for (int i = 0; i < 4; i++) {
        q[i] = i8_saturate(_mm256_div_ps(_mm256_loadu_ps(x + 8 * i), scale), zero, lo, hi);
    }
    __m256i w0 = _mm256_packs_epi32(q[0], q[1]), w1 = _mm256_packs_epi32(q[2], q[3]);
    __m256i b = lo < 0 ? _mm256_packs_epi16(w0, w1) : _mm256_packus_epi16(w0, w1);
    return _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

void shr__quantize_u8_avx2(size_t n, const float *x, float scale, int32_t zero, uint8_t *q)
{
    size_t i = 0;
    __m256 s = _mm256_set1_ps(scale);
    for (; i + 32 <= n; i += 32) {
        _mm256_storeu_si256((__m256i *)(q + i), quantize_32(x + i, s, zero, 0, UINT8_MAX));
    }
    for (; i < n; i++) {
        q[i] = (uint8_t)shr__saturate(x[i] / scale, zero, 0, UINT8_MAX);
    }
}

void shr__quantize_s8_avx2(size_t n, const float *x, float scale, int32_t zero, int8_t *q)
{
    size_t i = 0;
    __m256 s = _mm256_set1_ps(scale);
    for (; i + 32 <= n; i += 32) {
        _mm256_storeu_si256((__m256i *)(q + i), quantize_32(x + i, s, zero, INT8_MIN, INT8_MAX));
    }
    for (; i < n; i++) {
        q[i] = (int8_t)shr__saturate(x[i] / scale, zero, INT8_MIN, INT8_MAX);
    }
}

SHR_INLINE __m256 dequantize_8(__m256i q, int32_t zero, float scale)
{
    __m256i v = _mm256_sub_epi32(q, _mm256_set1_epi32(zero));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_set1_ps(scale));
}

void shr__dequantize_u8_avx2(size_t n, const uint8_t *q, float scale, int32_t zero, float *x)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(q + i)));
        _mm256_storeu_ps(x + i, dequantize_8(v, zero, scale));
    }
    for (; i < n; i++) {
        x[i] = (float)(q[i] - zero) * scale;
    }
}

void shr__dequantize_s8_avx2(size_t n, const int8_t *q, float scale, int32_t zero, float *x)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(q + i)));
        _mm256_storeu_ps(x + i, dequantize_8(v, zero, scale));
    }
    for (; i < n; i++) {
        x[i] = (float)(q[i] - zero) * scale;
    }
}

void shr__add_u8_avx2(const struct shr_add_u8 *p)
{
    int32_t lo = p->act == SHR_ACT_RELU ? p->y_zero : 0;
    __m256 y_scale = _mm256_set1_ps(p->y_scale);
    size_t i = 0;
    for (; i + 8 <= p->n; i += 8) {
        __m256i a = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p->a + i)));
        __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p->b + i)));
        __m256 sum = _mm256_add_ps(dequantize_8(a, p->a_zero, p->a_scale),
                                   dequantize_8(b, p->b_zero, p->b_scale));
        __m256i q = i8_saturate(_mm256_div_ps(sum, y_scale), p->y_zero, lo, UINT8_MAX);
        i8_store_bytes(p->y + i, q, false, 8);
    }
    struct shr_add_u8 rest = *p;
    rest.n -= i;
    rest.a += i;
    rest.b += i;
    rest.y += i;
    shr__add_u8_ref(&rest);
}

void shr__mul_u8_avx2(const struct shr_mul_u8 *p)
{
    __m256i a_zero = _mm256_set1_epi16((int16_t)p->a_zero);
    __m256i b_zero = _mm256_set1_epi16((int16_t)p->b_zero);
    __m256 scale = _mm256_set1_ps(p->scale);
    size_t i = 0;
    for (; i + 16 <= p->n; i += 16) {
        __m256i a = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(p->a + i)));
        __m256i b = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(p->b + i)));
        a = _mm256_sub_epi16(a, a_zero);
        b = _mm256_sub_epi16(b, b_zero);
        /* the two halves of the products, put together: values 0-3 8-11, 4-7 12-15 */
        __m256i lo = _mm256_mullo_epi16(a, b), hi = _mm256_mulhi_epi16(a, b);
        __m256 v0 = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_unpacklo_epi16(lo, hi)), scale);
        __m256 v1 = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_unpackhi_epi16(lo, hi)), scale);
        __m256i q0 = i8_saturate(v0, p->y_zero, 0, UINT8_MAX);
        __m256i q1 = i8_saturate(v1, p->y_zero, 0, UINT8_MAX);
        __m256i q = _mm256_packs_epi32(q0, q1);
        _mm_storeu_si128((__m128i *)(p->y + i), _mm_packus_epi16(_mm256_castsi256_si128(q),
                                                                 _mm256_extracti128_si256(q, 1)));
    }
    struct shr_mul_u8 rest = *p;
    rest.n -= i;
    rest.a += i;
    rest.b += i;
    rest.y += i;
    shr__mul_u8_ref(&rest);
}

void shr__lut_u8_avx2(size_t n, const uint8_t *x, const uint8_t table[256], uint8_t *y)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(x + i)), r = _mm256_setzero_si256();
        for (int j = 0; j < 16; j++) { /* an index that is not of these 16 gets its high bit set */
            __m128i some = _mm_loadu_si128((const __m128i *)(table + 16 * j));
            __m256i at = _mm256_adds_epu8(v, _mm256_set1_epi8(0x70));
            r = _mm256_or_si256(r, _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(some), at));
            v = _mm256_sub_epi8(v, _mm256_set1_epi8(16));
        }
        _mm256_storeu_si256((__m256i *)(y + i), r);
    }
    shr__lut_u8_ref(n - i, x + i, table, y + i);
}

/* ── Layout ─────────────────────────────────────────────────────────────────────────────────── */

void shr__flip_u8_avx2(size_t n, const uint8_t *x, uint8_t *y)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(x + i));
        _mm256_storeu_si256((__m256i *)(y + i), _mm256_xor_si256(v, _mm256_set1_epi8(-128)));
    }
    shr__flip_u8_ref(n - i, x + i, y + i);
}

/* 8 x 8 bytes, rows ldx and ldy apart */
SHR_INLINE void transpose_8x8(const uint8_t *x, size_t ldx, uint8_t *y, size_t ldy)
{
    __m128i r[8];
    SHR_UNROLL
    for (size_t i = 0; i < 8; i++) {
        r[i] = _mm_loadl_epi64((const __m128i *)(x + i * ldx));
    }
    __m128i a0 = _mm_unpacklo_epi8(r[0], r[1]), a1 = _mm_unpacklo_epi8(r[2], r[3]);
    __m128i a2 = _mm_unpacklo_epi8(r[4], r[5]), a3 = _mm_unpacklo_epi8(r[6], r[7]);
    __m128i b0 = _mm_unpacklo_epi16(a0, a1), b1 = _mm_unpackhi_epi16(a0, a1);
    __m128i b2 = _mm_unpacklo_epi16(a2, a3), b3 = _mm_unpackhi_epi16(a2, a3);
    __m128i c[4] = {_mm_unpacklo_epi32(b0, b2), _mm_unpackhi_epi32(b0, b2),
                    _mm_unpacklo_epi32(b1, b3), _mm_unpackhi_epi32(b1, b3)};
    SHR_UNROLL
    for (size_t i = 0; i < 4; i++) {
        _mm_storel_epi64((__m128i *)(y + 2 * i * ldy), c[i]);
        _mm_storel_epi64((__m128i *)(y + (2 * i + 1) * ldy), _mm_unpackhi_epi64(c[i], c[i]));
    }
}

static void transpose_bytes(size_t rows, size_t cols, const uint8_t *x, size_t ldx, uint8_t *y,
                            size_t ldy)
{
    for (size_t i = 0; i < rows; i += 8) {
        for (size_t j = 0; j < cols; j += 8) {
            if (i + 8 <= rows && j + 8 <= cols) {
                transpose_8x8(x + i * ldx + j, ldx, y + j * ldy + i, ldy);
                continue;
            }
            for (size_t c = j; c < cols && c < j + 8; c++) {
                for (size_t r = i; r < rows && r < i + 8; r++) {
                    y[c * ldy + r] = x[r * ldx + c];
                }
            }
        }
    }
}

void shr__transpose_u8_avx2(size_t rows, size_t cols, const uint8_t *x, uint8_t *y)
{
    if (rows == 1 || cols == 1) {
        memcpy(y, x, rows * cols);
        return;
    }
    transpose_bytes(rows, cols, x, cols, y, rows);
}

SHR_INLINE void transpose_8x8_f32(const float *x, size_t ldx, float *y, size_t ldy)
{
    __m256 r[8], a[8], b[8];
    SHR_UNROLL
    for (size_t i = 0; i < 8; i++) {
        r[i] = _mm256_loadu_ps(x + i * ldx);
    }
    SHR_UNROLL
    for (size_t i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    SHR_UNROLL
    for (size_t i = 0; i < 2; i++) { /* b[4 i + j]: columns j and j + 4 of rows 4 i to 4 i + 3 */
        const __m256 *p = a + 4 * i;
        b[4 * i] = _mm256_shuffle_ps(p[0], p[2], 0x44);
        b[4 * i + 1] = _mm256_shuffle_ps(p[0], p[2], 0xee);
        b[4 * i + 2] = _mm256_shuffle_ps(p[1], p[3], 0x44);
        b[4 * i + 3] = _mm256_shuffle_ps(p[1], p[3], 0xee);
    }
    SHR_UNROLL
    for (size_t i = 0; i < 4; i++) {
        _mm256_storeu_ps(y + i * ldy, _mm256_permute2f128_ps(b[i], b[4 + i], 0x20));
        _mm256_storeu_ps(y + (i + 4) * ldy, _mm256_permute2f128_ps(b[i], b[4 + i], 0x31));
    }
}

void shr__transpose_f32_avx2(size_t rows, size_t cols, const float *x, float *y)
{
    if (rows == 1 || cols == 1) {
        memcpy(y, x, rows * cols * sizeof *x);
        return;
    }
    for (size_t i = 0; i < rows; i += 8) {
        for (size_t j = 0; j < cols; j += 8) {
            if (i + 8 <= rows && j + 8 <= cols) {
                transpose_8x8_f32(x + i * cols + j, cols, y + j * rows + i, rows);
                continue;
            }
            for (size_t c = j; c < cols && c < j + 8; c++) {
                for (size_t r = i; r < rows && r < i + 8; r++) {
                    y[c * rows + r] = x[r * cols + c];
                }
            }
        }
    }
}

enum { TILE_CHANNELS = 32, TILE_PIXELS = 128 }; /* of the buffers between the two layouts */

void shr__quantize_u8_nhwc_avx2(size_t c, size_t hw, const float *x, float scale, int32_t zero,
                                uint8_t *q)
{
    uint8_t tile[TILE_CHANNELS * TILE_PIXELS];
    if (c == 1) {
        shr__quantize_u8_avx2(hw, x, scale, zero, q);
        return;
    }
    for (size_t i = 0; i < c; i += TILE_CHANNELS) {
        size_t rows = i8_min(c - i, TILE_CHANNELS);
        for (size_t j = 0; j < hw; j += TILE_PIXELS) {
            size_t cols = i8_min(hw - j, TILE_PIXELS);
            for (size_t r = 0; r < rows; r++) {
                shr__quantize_u8_avx2(cols, x + (i + r) * hw + j, scale, zero,
                                      tile + r * TILE_PIXELS);
            }
            transpose_bytes(rows, cols, tile, TILE_PIXELS, q + j * c + i, c);
        }
    }
}

void shr__dequantize_u8_nchw_avx2(size_t c, size_t hw, const uint8_t *q, float scale, int32_t zero,
                                  float *x)
{
    uint8_t tile[TILE_CHANNELS * TILE_PIXELS];
    if (c == 1) {
        shr__dequantize_u8_avx2(hw, q, scale, zero, x);
        return;
    }
    for (size_t i = 0; i < c; i += TILE_CHANNELS) {
        size_t rows = i8_min(c - i, TILE_CHANNELS);
        for (size_t j = 0; j < hw; j += TILE_PIXELS) {
            size_t cols = i8_min(hw - j, TILE_PIXELS);
            transpose_bytes(cols, rows, q + j * c + i, c, tile, TILE_PIXELS);
            for (size_t r = 0; r < rows; r++) {
                shr__dequantize_u8_avx2(cols, tile + r * TILE_PIXELS, scale, zero,
                                        x + (i + r) * hw + j);
            }
        }
    }
}

/* ── Pooling ────────────────────────────────────────────────────────────────────────────────── */

static void max_bytes(size_t n, const uint8_t *x, uint8_t *y)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(x + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(y + i));
        _mm256_storeu_si256((__m256i *)(y + i), _mm256_max_epu8(a, b));
    }
    for (; i + 8 <= n; i += 8) {
        __m128i a = _mm_loadl_epi64((const __m128i *)(x + i));
        __m128i b = _mm_loadl_epi64((const __m128i *)(y + i));
        _mm_storel_epi64((__m128i *)(y + i), _mm_max_epu8(a, b));
    }
    for (; i < n; i++) {
        y[i] = x[i] > y[i] ? x[i] : y[i];
    }
}

void shr__maxpool_u8_avx2(const struct shr_conv_shape *s, const uint8_t *x, uint8_t *y)
{
    size_t c = (size_t)s->c;
    for (int64_t i = 0; i < s->n * s->oh * s->ow; i++, y += c) {
        const uint8_t *image = x + i / (s->oh * s->ow) * s->h * s->w * s->c;
        int64_t top = i / s->ow % s->oh * s->stride_h - s->pad_t;
        int64_t left = i % s->ow * s->stride_w - s->pad_l;
        memset(y, 0, c);
        for (int64_t kh = 0; kh < s->kh; kh++) {
            int64_t ih = top + kh * s->dil_h;
            for (int64_t kw = 0; kw < s->kw && ih >= 0 && ih < s->h; kw++) {
                int64_t iw = left + kw * s->dil_w;
                if (iw >= 0 && iw < s->w) {
                    max_bytes(c, image + (ih * s->w + iw) * s->c, y);
                }
            }
        }
    }
}

/* 16 channels of a mean; x points to their first pixel. */
SHR_INLINE void mean_16(size_t hw, size_t c, const uint8_t *x, const __m256i zero, __m256i *ret)
{
    enum { FLUSH = 128 }; /* pixels whose sums fit into uint16 */
    __m256i lo = zero, hi = zero;
    for (size_t i = 0; i < hw; i += FLUSH) {
        size_t end = i8_min(hw, i + FLUSH);
        __m256i sum = _mm256_setzero_si256();
        for (size_t p = i; p < end; p++) {
            __m128i v = _mm_loadu_si128((const __m128i *)(x + p * c));
            sum = _mm256_add_epi16(sum, _mm256_cvtepu8_epi16(v));
        }
        lo = _mm256_add_epi32(lo, _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sum)));
        hi = _mm256_add_epi32(hi, _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sum, 1)));
    }
    ret[0] = lo;
    ret[1] = hi;
}

void shr__mean_u8_avx2(size_t hw, size_t c, const uint8_t *x, int32_t x_zero, float scale,
                       int32_t y_zero, uint8_t *y)
{
    __m256i zero = _mm256_set1_epi32((int32_t) - ((uint32_t)hw * (uint32_t)x_zero));
    size_t j = 0;
    for (; j + 16 <= c; j += 16) {
        __m256i sums[2];
        mean_16(hw, c, x + j, zero, sums);
        for (size_t i = 0; i < 2; i++) {
            __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[i]), _mm256_set1_ps(scale));
            i8_store_bytes(y + j + 8 * i, i8_saturate(v, y_zero, 0, UINT8_MAX), false, 8);
        }
    }
    for (; j < c; j++) {
        uint32_t sum = (uint32_t)_mm256_cvtsi256_si32(zero);
        for (size_t i = 0; i < hw; i++) {
            sum += x[i * c + j];
        }
        y[j] = (uint8_t)shr__saturate((float)(int32_t)sum * scale, y_zero, 0, UINT8_MAX);
    }
}

/* ── Elementwise float ──────────────────────────────────────────────────────────────────────── */

void shr__minmax_f32_avx2(size_t n, const float *x, float *ret_min, float *ret_max)
{
    __m256 lo[2], hi[2];
    size_t i = 0;
    lo[0] = lo[1] = _mm256_set1_ps(INFINITY);
    hi[0] = hi[1] = _mm256_set1_ps(-INFINITY);
    for (; i + 16 <= n; i += 16) {
        for (int j = 0; j < 2; j++) { /* x first: where it is NaN the other operand stays */
            __m256 v = _mm256_loadu_ps(x + i + 8 * j);
            lo[j] = _mm256_min_ps(v, lo[j]);
            hi[j] = _mm256_max_ps(v, hi[j]);
        }
    }
    float some[16], least, most, unused;
    _mm256_storeu_ps(some, _mm256_min_ps(lo[0], lo[1]));
    _mm256_storeu_ps(some + 8, _mm256_max_ps(hi[0], hi[1]));
    shr__minmax_f32_ref(n - i, x + i, ret_min, ret_max);
    shr__minmax_f32_ref(8, some, &least, &unused);
    shr__minmax_f32_ref(8, some + 8, &unused, &most);
    *ret_min = least < *ret_min ? least : *ret_min;
    *ret_max = most > *ret_max ? most : *ret_max;
}

void shr__relu_f32_avx2(size_t n, const float *x, float *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(y + i, _mm256_max_ps(_mm256_setzero_ps(), _mm256_loadu_ps(x + i)));
    }
    shr__relu_f32_ref(n - i, x + i, y + i);
}

void shr__add_f32_avx2(size_t n, const float *a, const float *b, float *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
    }
    shr__add_f32_ref(n - i, a + i, b + i, y + i);
}

void shr__mul_f32_avx2(size_t n, const float *a, const float *b, float *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
    }
    shr__mul_f32_ref(n - i, a + i, b + i, y + i);
}

void shr__madd_f32_avx2(size_t n, const float *a, const float *b, float *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) { /* rounded twice, as the reference does */
        __m256 product = _mm256_mul_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), product));
    }
    shr__madd_f32_ref(n - i, a + i, b + i, y + i);
}
