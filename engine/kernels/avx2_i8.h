/* AVX2 integer products: the packed form of B, the tile that multiplies it, and how results leave.
 * Shared by the matrix product and the convolution; included by the AVX2 files only.
 *
 * DESIGN. vpmaddubsw multiplies uint8 by int8 but saturates its pair sums at int16, which
 * 2 * 255 * -128 exceeds. Two exact ways around that are used:
 *   - one row (memory-bound): A is split into nibbles, a = 16 hi + lo. A pair sum of either is at
 *     most 2 * 15 * 128 = 3840, so eight of them fit into int16 before they are widened: B is
 *     read once as bytes at about one vector a cycle.
 *   - several rows (compute-bound): A and B are widened to int16 and vpmaddwd sums pairs in int32.
 * Both read the same packed B: blocks of 8 columns, in them quads of 4 consecutive k, a vector of
 * 32 bytes (column, k) each; the blocks of a panel of up to 4 are interleaved quad by quad, so
 * that one row streams B front to back. */
#ifndef SHR_KERNELS_AVX2_I8_H
#define SHR_KERNELS_AVX2_I8_H

#include <immintrin.h>
#include <string.h>

#include "kernels/internal.h"

enum {
    I8_ROWS = 4,   /* of a tile: more would leave too few registers for the products */
    I8_COLS = 8,   /* of a block */
    I8_PANEL = 4,  /* blocks interleaved */
    I8_VECTOR = 32 /* bytes: 8 columns x 4 k */
};

/* Packed B: this head, then int32 sums (n8) of B - zero over k, int32 zeros (n8), panels. */
struct i8_packed {
    size_t quads;  /* of each column */
    size_t blocks; /* n8 / 8 */
    bool has_zero;
    char pad[64 - 2 * sizeof(size_t) - sizeof(bool)];
};

/* Where a tile finds its part of A as int16: quads of `segments` runs, `stride` elements apart. */
struct i8_runs {
    size_t segments, quads, stride;
};

SHR_INLINE const int32_t *i8_sums(const struct i8_packed *p)
{
    return (const int32_t *)(p + 1);
}

SHR_INLINE const int32_t *i8_zeros(const struct i8_packed *p)
{
    return i8_sums(p) + p->blocks * I8_COLS;
}

SHR_INLINE size_t i8_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The first vector of a block; ret_step is the way from quad to quad in bytes. */
SHR_INLINE const int8_t *i8_block(const struct i8_packed *p, size_t block, size_t *ret_step)
{
    const int8_t *data = (const int8_t *)(i8_zeros(p) + p->blocks * I8_COLS);
    size_t first = block / I8_PANEL * I8_PANEL, width = i8_min(p->blocks - first, I8_PANEL);
    *ret_step = width * I8_VECTOR;
    return data + first * p->quads * I8_VECTOR + (block - first) * I8_VECTOR;
}

/* k counts the stored rows of B, k_real those that exist: the others are zero and must not count
 * in the sums of B - zero. */
void shr__i8_pack(size_t k, size_t k_real, size_t n, const int8_t *b, size_t ldb, bool trans,
                  const int32_t *zero, void *packed);

/* acc[i] += rows of A x a block of B. a: rows lda elements apart; b: quads step bytes apart. */
SHR_INLINE void i8_tile_rows(const size_t rows, const int16_t *a, size_t lda,
                             const struct i8_runs *runs, const int8_t *b, size_t step, __m256i *acc)
{
    __m256i c[I8_ROWS][2];
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        c[i][0] = c[i][1] = _mm256_setzero_si256();
    }
    for (size_t s = 0; s < runs->segments; s++) {
        const int16_t *run = a + s * runs->stride;
        for (size_t q = 0; q < runs->quads; q++, b += step) {
            __m256i b0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)b));
            __m256i b1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + 16)));
            SHR_UNROLL
            for (size_t i = 0; i < rows; i++) {
                int64_t quad;
                memcpy(&quad, run + i * lda + q * 4, sizeof quad);
                __m256i x = _mm256_set1_epi64x(quad);
                c[i][0] = _mm256_add_epi32(c[i][0], _mm256_madd_epi16(x, b0));
                c[i][1] = _mm256_add_epi32(c[i][1], _mm256_madd_epi16(x, b1));
            }
        }
    }
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) { /* pairs (0 0 1 1 | 2 2 3 3), (4 4 5 5 | 6 6 7 7) */
        __m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(c[i][0], c[i][1]), 0xd8);
        acc[i] = _mm256_add_epi32(acc[i], sum);
    }
}

SHR_INLINE void i8_tile(size_t rows, const int16_t *a, size_t lda, const struct i8_runs *runs,
                        const int8_t *b, size_t step, __m256i *acc)
{
    switch (rows) {
    case 1:
        i8_tile_rows(1, a, lda, runs, b, step, acc);
        break;
    case 2:
        i8_tile_rows(2, a, lda, runs, b, step, acc);
        break;
    case 3:
        i8_tile_rows(3, a, lda, runs, b, step, acc);
        break;
    default:
        i8_tile_rows(I8_ROWS, a, lda, runs, b, step, acc);
        break;
    }
}

/* ── How results leave ──────────────────────────────────────────────────────────────────────── */

SHR_INLINE __m256i i8_tail_mask(size_t cols)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)i8_min(cols, I8_COLS)), lane);
}

/* shr__saturate of eight results, which fit into bytes afterwards */
SHR_INLINE __m256i i8_saturate(__m256 v, int32_t zero, int32_t lo, int32_t hi)
{
    v = _mm256_max_ps(v, _mm256_set1_ps((float)(lo - zero)));
    v = _mm256_min_ps(v, _mm256_set1_ps((float)(hi - zero)));
    return _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(zero));
}

/* The low eight bytes of 8 int32 that fit into bytes, of which the first cols are stored. */
SHR_INLINE void i8_store_bytes(uint8_t *c, __m256i q, bool is_signed, size_t cols)
{
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    __m128i bytes = is_signed ? _mm_packs_epi16(w, w) : _mm_packus_epi16(w, w);
    if (cols >= I8_COLS) {
        _mm_storel_epi64((__m128i *)c, bytes);
    } else {
        int64_t text = _mm_cvtsi128_si64(bytes);
        memcpy(c, &text, cols);
    }
}

/* What i8_finish needs of the columns of a block. */
struct i8_columns {
    __m256i mask, add; /* columns that exist; bias - a_zero * sum of B */
    __m256 scale, bias_f32;
    size_t cols;
};

SHR_INLINE struct i8_columns i8_columns_of(const struct shr_gemm_i8 *g, const struct i8_packed *p,
                                           size_t block)
{
    size_t n0 = block * I8_COLS;
    struct i8_columns v = {.cols = g->n - n0};
    __m256i sums = _mm256_loadu_si256((const __m256i *)(i8_sums(p) + n0));
    v.mask = i8_tail_mask(v.cols);
    v.add = _mm256_mullo_epi32(sums, _mm256_set1_epi32(-g->a_zero));
    if (g->bias != NULL) {
        v.add = _mm256_add_epi32(v.add, _mm256_maskload_epi32(g->bias + n0, v.mask));
    }
    if (g->out != SHR_GEMM_I32) {
        v.scale = _mm256_maskload_ps(g->scale + n0, v.mask);
    }
    if (g->out == SHR_GEMM_F32 && g->bias_f32 != NULL) {
        v.bias_f32 = _mm256_maskload_ps(g->bias_f32 + n0, v.mask);
    }
    return v;
}

SHR_INLINE void i8_finish_f32(const struct shr_gemm_i8 *g, const struct i8_columns *v, size_t first,
                              size_t rows, const __m256i *acc)
{
    for (size_t i = 0; i < rows; i++) {
        __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(acc[i], v->add)), v->scale);
        y = g->bias_f32 != NULL ? _mm256_add_ps(y, v->bias_f32) : y;
        y = g->act == SHR_ACT_RELU ? _mm256_max_ps(_mm256_setzero_ps(), y) : y;
        _mm256_maskstore_ps((float *)g->c + first + i * g->ldc, v->mask, y);
    }
}

SHR_INLINE void i8_finish_bytes(const struct shr_gemm_i8 *g, const struct i8_columns *v,
                                size_t first, size_t rows, const __m256i *acc, const bool is_signed,
                                const bool whole)
{
    int32_t lo, hi;
    shr__bounds_i8(g, &lo, &hi);
    uint8_t *c = (uint8_t *)g->c + first;
    for (size_t i = 0; i < rows; i++, c += g->ldc) {
        __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(acc[i], v->add)), v->scale);
        i8_store_bytes(c, i8_saturate(y, g->c_zero, lo, hi), is_signed, whole ? I8_COLS : v->cols);
    }
}

/* Bias, zero points, requantization and store of rows of a block, whose columns are v. first is the
 * element of g->c for row 0 and column 0 of the block; row_sums of A are read when B has zero
 * points. */
SHR_INLINE void i8_finish(const struct shr_gemm_i8 *g, const struct i8_packed *p, size_t block,
                          const struct i8_columns *v, size_t first, size_t rows, __m256i *acc,
                          const int32_t *row_sums)
{
    if (p->has_zero) {
        __m256i zero = _mm256_loadu_si256((const __m256i *)(i8_zeros(p) + block * I8_COLS));
        for (size_t i = 0; i < rows; i++) {
            __m256i less = _mm256_mullo_epi32(_mm256_set1_epi32(row_sums[i]), zero);
            acc[i] = _mm256_sub_epi32(acc[i], less);
        }
    }
    if (g->out == SHR_GEMM_I32) {
        for (size_t i = 0; i < rows; i++) {
            _mm256_maskstore_epi32((int32_t *)g->c + first + i * g->ldc, v->mask,
                                   _mm256_add_epi32(acc[i], v->add));
        }
    } else if (g->out == SHR_GEMM_F32) {
        i8_finish_f32(g, v, first, rows, acc);
    } else if (g->out == SHR_GEMM_S8) {
        i8_finish_bytes(g, v, first, rows, acc, true, false);
    } else if (v->cols >= I8_COLS) {
        i8_finish_bytes(g, v, first, rows, acc, false, true);
    } else {
        i8_finish_bytes(g, v, first, rows, acc, false, false);
    }
}

#endif
