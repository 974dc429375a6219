/* AVX2 integer products: the packed form of B, and how results leave. Shared by the matrix product
 * and the convolutions; included by the AVX2 files only.
 *
 * DESIGN. vpmaddubsw multiplies uint8 by int8, four k of eight columns (a quad) in a vector, but
 * saturates its pair sums at int16, which 2 * 255 * 127 exceeds. Packing makes it exact: where the
 * positive and the negative weights that meet in an int16 sum to at most 128 each, 255 * 128 fits.
 * Weights that exceed this are trimmed, and what was cut off stands in extra quads of the block,
 * each with its offset in a row of A, which are added afterwards. A quad behind the last whole one
 * of a row is an extra one too. Modes of a matrix, the first that has few extra quads:
 *   - pairs: two quads are added in int16 before they are widened;
 *   - singles: every quad is widened;
 *   - nibbles: A is split, a = 16 hi + lo. A pair sum of either is at most 2 * 15 * 128 = 3840.
 *     Twice the products, but for any weights.
 *
 * Blocks are 8 columns, panels up to 3 blocks, whose vectors are interleaved quad by quad. */
#ifndef SHR_KERNELS_AVX2_I8_H
#define SHR_KERNELS_AVX2_I8_H

#include <immintrin.h>
#include <string.h>

#include "core/team.h"
#include "kernels/internal.h"

enum {
    I8_ROWS = 3,       /* of a tile: more would leave too few registers for the products */
    I8_COLS = 8,       /* of a block */
    I8_PANEL = 3,      /* blocks of a panel at most */
    I8_VECTOR = 32,    /* bytes: 8 columns x 4 k */
    I8_WORTH = 1 << 20 /* products that pay for a team: about 10 us */
};

enum i8_mode { I8_PAIRS, I8_SINGLES, I8_NIBBLES };

/* Packed B: this head, int32 sums (n8) of B - zero over k, int32 zeros (n8), uint32 firsts of the
 * blocks' extra quads (blocks + 1), uint32 offsets of the quads and of the extra ones, the vectors
 * of the panels, and those of the extra quads. */
struct i8_packed {
    size_t blocks; /* n8 / 8 */
    size_t quads;  /* whole ones of a row of A */
    size_t room;   /* for extra quads */
    enum i8_mode mode;
    bool has_zero;
    char pad[64 - 3 * sizeof(size_t) - sizeof(enum i8_mode) - sizeof(bool)];
};

SHR_INLINE size_t i8_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

SHR_INLINE const int32_t *i8_sums(const struct i8_packed *p)
{
    return (const int32_t *)(p + 1);
}

SHR_INLINE const int32_t *i8_zeros(const struct i8_packed *p)
{
    return i8_sums(p) + p->blocks * I8_COLS;
}

SHR_INLINE const uint32_t *i8_firsts(const struct i8_packed *p)
{
    return (const uint32_t *)(i8_zeros(p) + p->blocks * I8_COLS);
}

/* Offsets of the quads, of which there is an even number. */
SHR_INLINE const uint32_t *i8_at(const struct i8_packed *p)
{
    return i8_firsts(p) + p->blocks + 1;
}

SHR_INLINE const uint32_t *i8_extra_at(const struct i8_packed *p)
{
    return i8_at(p) + (p->quads + 1) / 2 * 2;
}

SHR_INLINE size_t i8_panels(size_t blocks)
{
    return (blocks + I8_PANEL - 1) / I8_PANEL;
}

/* The blocks of a panel: three, and two of the last ones where one would be left alone. */
SHR_INLINE size_t i8_panel(size_t blocks, size_t panel, size_t *ret_first)
{
    size_t threes = blocks / I8_PANEL;
    threes -= blocks % I8_PANEL == 1 && blocks > 1 ? 1 : 0;
    *ret_first = panel < threes ? panel * I8_PANEL : threes * I8_PANEL + (panel - threes) * 2;
    return panel < threes ? I8_PANEL : i8_min(blocks - *ret_first, 2);
}

/* k counts the stored rows of B, k_real those that exist: the others are zero and must not count
 * in the sums of B - zero. Quad i stands at 4 i of a row of A, or at at[i] after shr__i8_place. */
void shr__i8_pack(size_t k, size_t k_real, size_t n, const int8_t *b, size_t ldb, bool trans,
                  const int32_t *zero, void *packed);
void shr__i8_place(void *packed, const uint32_t *at);

/* The rows of A: row i begins at a + i / width * line + i % width * step. Its values are `run`
 * bytes at each of runs, the last `tail` of them fill no quad. */
struct i8_rows {
    const uint8_t *a;
    size_t width, line, step;
    const uint32_t *runs;
    size_t n_runs, run, tail;
};

/* Rows [from, to) of a panel of g->b: the products, and their results into g->c. */
void shr__i8_multiply(const struct shr_gemm_i8 *g, const struct i8_rows *r, size_t panel,
                      size_t from, size_t to);

/* Into how many parts the rows of a panel are split, so that a team has enough tasks. */
SHR_INLINE size_t i8_parts(const struct shr_team *team, size_t panels, size_t rows)
{
    size_t wanted = shr_team_size(team) > 1 ? 2 * shr_team_size(team) : 1;
    return wanted <= panels ? 1 : i8_min((wanted + panels - 1) / panels, rows);
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

/* The first cols of eight int32 or float. Whole ones are stored plainly: masked stores are slow. */
SHR_INLINE void i8_store_words(void *c, __m256i v, __m256i mask, size_t cols)
{
    if (cols >= I8_COLS) {
        _mm256_storeu_si256(c, v);
    } else {
        _mm256_maskstore_epi32(c, mask, v);
    }
}

/* What i8_finish needs of the columns of a block. */
struct i8_columns {
    __m256i mask, add; /* columns that exist; bias - a_zero * sum of B */
    __m256 scale, bias_f32;
    size_t cols;
};

/* Member by member: a copy of the whole would wait for the narrow ones to be stored. */
SHR_INLINE void i8_columns_init(struct i8_columns *v, const struct shr_gemm_i8 *g,
                                const struct i8_packed *p, size_t block)
{
    size_t n0 = block * I8_COLS;
    __m256i sums = _mm256_loadu_si256((const __m256i *)(i8_sums(p) + n0));
    __m256i mask = i8_tail_mask(g->n - n0);
    __m256i add = _mm256_mullo_epi32(sums, _mm256_set1_epi32(-g->a_zero));
    __m256 scale = _mm256_setzero_ps(), bias_f32 = _mm256_setzero_ps();
    if (g->bias != NULL) {
        add = _mm256_add_epi32(add, _mm256_maskload_epi32(g->bias + n0, mask));
    }
    if (g->out != SHR_GEMM_I32) {
        scale = _mm256_maskload_ps(g->scale + n0, mask);
    }
    if (g->out == SHR_GEMM_F32 && g->bias_f32 != NULL) {
        bias_f32 = _mm256_maskload_ps(g->bias_f32 + n0, mask);
    }
    v->cols = g->n - n0;
    v->mask = mask;
    v->add = add;
    v->scale = scale;
    v->bias_f32 = bias_f32;
}

SHR_INLINE void i8_finish_f32(const struct shr_gemm_i8 *g, const struct i8_columns *v, size_t first,
                              size_t rows, const __m256i *acc)
{
    for (size_t i = 0; i < rows; i++) {
        __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(acc[i], v->add)), v->scale);
        y = g->bias_f32 != NULL ? _mm256_add_ps(y, v->bias_f32) : y;
        y = g->act == SHR_ACT_RELU ? _mm256_max_ps(_mm256_setzero_ps(), y) : y;
        i8_store_words((float *)g->c + first + i * g->ldc, _mm256_castps_si256(y), v->mask,
                       v->cols);
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
            i8_store_words((int32_t *)g->c + first + i * g->ldc, _mm256_add_epi32(acc[i], v->add),
                           v->mask, v->cols);
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
