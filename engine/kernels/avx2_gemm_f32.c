/* AVX2 and FMA: the float matrix product.
 *
 * B is packed in panels of 16 columns, row after row; a tile of 6 x 16 sums stays in registers.
 * A long k is done in stretches that leave their part of a panel in the first cache, with C
 * holding the sums between them. One row streams each panel once, in four chains of sums that
 * hide the latency of the multiply-add. */
#include <immintrin.h>
#include <string.h>

#include "kernels/internal.h"

enum { COLS = 16, ROWS = 6, STRETCH = 384, CHAINS = 4 };

static size_t panels_of(size_t n)
{
    return (n + COLS - 1) / COLS;
}

size_t shr__gemm_f32_size_avx2(size_t k, size_t n)
{
    return panels_of(n) * COLS * k * sizeof(float);
}

void shr__gemm_f32_pack_avx2(size_t k, size_t n, const float *b, size_t ldb, bool trans,
                             void *packed)
{
    float *to = packed;
    memset(to, 0, shr__gemm_f32_size_avx2(k, n));
    for (size_t j = 0; j < n; j++) {
        float *column = to + j / COLS * COLS * k + j % COLS;
        for (size_t i = 0; i < k; i++) {
            column[i * COLS] = trans ? b[j * ldb + i] : b[i * ldb + j];
        }
    }
}

/* Columns of a panel that exist: full vectors are told apart from masked ones once a tile. */
struct columns {
    __m256i mask[2];
};

static struct columns columns_of(size_t cols)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    int some = cols < COLS ? (int)cols : COLS;
    return (struct columns){{_mm256_cmpgt_epi32(_mm256_set1_epi32(some), lane),
                             _mm256_cmpgt_epi32(_mm256_set1_epi32(some - 8), lane)}};
}

struct tile {
    const float *a, *b, *bias; /* bias NULL = 0 */
    float *c;
    size_t lda, ldc, k;
    struct columns columns;
    bool first, last; /* stretch of k */
    enum shr_act act;
    float act_lo, act_hi;
};

/* The bias, or the sums of the stretches before. */
SHR_INLINE __m256 tile_begin(const struct tile *t, const float *c, int half)
{
    const float *from = t->first ? t->bias : c;
    return from == NULL ? _mm256_setzero_ps()
                        : _mm256_maskload_ps(from + half * 8, t->columns.mask[half]);
}

SHR_INLINE void tile_end(const struct tile *t, float *c, int half, __m256 v)
{
    if (t->last && t->act == SHR_ACT_RELU) {
        v = _mm256_max_ps(_mm256_setzero_ps(), v);
    } else if (t->last && t->act != SHR_ACT_NONE) {
        float some[8];
        _mm256_storeu_ps(some, v);
        for (int i = 0; i < 8; i++) {
            some[i] = shr__act(some[i], t->act, t->act_lo, t->act_hi);
        }
        v = _mm256_loadu_ps(some);
    }
    _mm256_maskstore_ps(c + half * 8, t->columns.mask[half], v);
}

/* sums (rows, 2 vectors) += a x b. On its own, because only a loop that knows every count keeps
 * its sums in registers. */
SHR_INLINE void tile_sums(const size_t rows, const float *a, size_t lda, const float *b, size_t k,
                          __m256 (*sums)[2])
{
    __m256 c[ROWS][2];
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        c[i][0] = c[i][1] = _mm256_setzero_ps();
    }
    for (; k > 0; k--, a++, b += COLS) {
        __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
        SHR_UNROLL
        for (size_t i = 0; i < rows; i++) {
            __m256 x = _mm256_broadcast_ss(a + i * lda);
            c[i][0] = _mm256_fmadd_ps(x, b0, c[i][0]);
            c[i][1] = _mm256_fmadd_ps(x, b1, c[i][1]);
        }
    }
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        sums[i][0] = _mm256_add_ps(sums[i][0], c[i][0]);
        sums[i][1] = _mm256_add_ps(sums[i][1], c[i][1]);
    }
}

static void tile_run(size_t rows, const struct tile *t)
{
    __m256 sums[ROWS][2];
    for (size_t i = 0; i < rows; i++) {
        sums[i][0] = tile_begin(t, t->c + i * t->ldc, 0);
        sums[i][1] = tile_begin(t, t->c + i * t->ldc, 1);
    }
    switch (rows) {
    case 1:
        tile_sums(1, t->a, t->lda, t->b, t->k, sums);
        break;
    case 2:
        tile_sums(2, t->a, t->lda, t->b, t->k, sums);
        break;
    case 3:
        tile_sums(3, t->a, t->lda, t->b, t->k, sums);
        break;
    case 4:
        tile_sums(4, t->a, t->lda, t->b, t->k, sums);
        break;
    case 5:
        tile_sums(5, t->a, t->lda, t->b, t->k, sums);
        break;
    default:
        tile_sums(6, t->a, t->lda, t->b, t->k, sums);
        break;
    }
    for (size_t i = 0; i < rows; i++) {
        tile_end(t, t->c + i * t->ldc, 0, sums[i][0]);
        tile_end(t, t->c + i * t->ldc, 1, sums[i][1]);
    }
}

static void one_row(const struct tile *t)
{
    __m256 c[CHAINS][2];
    const float *b = t->b;
    size_t k = 0;
    SHR_UNROLL
    for (size_t i = 0; i < CHAINS; i++) {
        c[i][0] = c[i][1] = _mm256_setzero_ps();
    }
    for (; k + CHAINS <= t->k; k += CHAINS, b += CHAINS * COLS) {
        SHR_UNROLL
        for (size_t i = 0; i < CHAINS; i++) {
            __m256 x = _mm256_broadcast_ss(t->a + k + i);
            c[i][0] = _mm256_fmadd_ps(x, _mm256_loadu_ps(b + i * COLS), c[i][0]);
            c[i][1] = _mm256_fmadd_ps(x, _mm256_loadu_ps(b + i * COLS + 8), c[i][1]);
        }
    }
    for (; k < t->k; k++, b += COLS) {
        __m256 x = _mm256_broadcast_ss(t->a + k);
        c[0][0] = _mm256_fmadd_ps(x, _mm256_loadu_ps(b), c[0][0]);
        c[0][1] = _mm256_fmadd_ps(x, _mm256_loadu_ps(b + 8), c[0][1]);
    }
    SHR_UNROLL
    for (int half = 0; half < 2; half++) {
        __m256 sum = _mm256_add_ps(_mm256_add_ps(c[0][half], c[1][half]),
                                   _mm256_add_ps(c[2][half], c[3][half]));
        tile_end(t, t->c, half, _mm256_add_ps(sum, tile_begin(t, t->c, half)));
    }
}

void shr__gemm_f32_avx2(const struct shr_gemm_f32 *g)
{
    size_t stretch = g->m == 1 ? g->k : STRETCH;
    size_t k = 0;
    do { /* once at least: k = 0 gives the bias */
        size_t some = g->k - k < stretch ? g->k - k : stretch;
        for (size_t n = 0; n < g->n; n += COLS) {
            struct tile t = {
                .b = (const float *)g->b + n * g->k + k * COLS,
                .bias = g->bias != NULL ? g->bias + n : NULL,
                .lda = g->lda,
                .ldc = g->ldc,
                .k = some,
                .columns = columns_of(g->n - n),
                .first = k == 0,
                .last = k + some == g->k,
                .act = g->act,
                .act_lo = g->act_lo,
                .act_hi = g->act_hi,
            };
            for (size_t m = 0; m < g->m; m += ROWS) {
                size_t rows = g->m - m < ROWS ? g->m - m : ROWS;
                t.a = g->a + m * g->lda + k;
                t.c = g->c + m * g->ldc + n;
                if (g->m == 1) {
                    one_row(&t);
                } else {
                    tile_run(rows, &t);
                }
            }
        }
        k += some;
    } while (k < g->k);
}
