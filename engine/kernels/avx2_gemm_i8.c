/* AVX2: the integer matrix product. The arithmetic is described in avx2_i8.h.
 *
 * Buffers on the stack hold a stretch of A in the form that the inner loops want; a longer k is
 * done stretch by stretch, with the sums of a group of blocks kept beside. */
#include "base/mem.h"
#include "kernels/avx2_i8.h"

enum {
    STRETCH = 1024, /* k in a buffer; a multiple of 32 */
    GROUP = 8,      /* blocks whose sums are kept while A is widened again */
    FLUSH = 8       /* quads whose nibble sums fit into int16 */
};

static size_t quads_of(size_t k)
{
    return (k + 3) / 4;
}

size_t shr__gemm_i8_size_avx2(size_t k, size_t n)
{
    size_t blocks = (n + I8_COLS - 1) / I8_COLS;
    size_t bytes = sizeof(struct i8_packed) + blocks * I8_COLS * 2 * sizeof(int32_t) +
                   blocks * quads_of(k) * I8_VECTOR;
    return (bytes + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
}

void shr__i8_pack(size_t k, size_t k_real, size_t n, const int8_t *b, size_t ldb, bool trans,
                  const int32_t *zero, void *packed)
{
    struct i8_packed *head = packed;
    *head = (struct i8_packed){.quads = quads_of(k), .blocks = (n + I8_COLS - 1) / I8_COLS};
    int32_t *sums = (int32_t *)(head + 1), *zeros = sums + head->blocks * I8_COLS;
    int8_t *data = (int8_t *)(zeros + head->blocks * I8_COLS);
    memset(sums, 0, shr__gemm_i8_size_avx2(k, n) - sizeof *head);
    for (size_t j = 0; j < n; j++) {
        size_t step;
        const int8_t *block = i8_block(head, j / I8_COLS, &step);
        int8_t *to = data + (block - data) + j % I8_COLS * 4;
        uint32_t sum = 0;
        for (size_t i = 0; i < k; i++) {
            int8_t v = trans ? b[j * ldb + i] : b[i * ldb + j];
            to[i / 4 * step + i % 4] = v;
            sum += (uint32_t)v;
        }
        zeros[j] = zero != NULL ? zero[j] : 0;
        sums[j] = (int32_t)(sum - (uint32_t)k_real * (uint32_t)zeros[j]);
        head->has_zero = head->has_zero || zeros[j] != 0;
    }
}

void shr__gemm_i8_pack_avx2(size_t k, size_t n, const int8_t *b, size_t ldb, bool trans,
                            const int32_t *zero, void *packed)
{
    shr__i8_pack(k, k, n, b, ldb, trans, zero, packed);
}

static int32_t sum_of(const uint8_t *a, size_t k)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < k; i++) {
        sum += a[i];
    }
    return (int32_t)sum;
}

/* ── One row ────────────────────────────────────────────────────────────────────────────────── */

/* The nibbles of k values of A, zeros up to a whole vector. */
static void split(const uint8_t *a, size_t k, uint8_t *hi, uint8_t *lo)
{
    const __m256i low = _mm256_set1_epi8(15);
    uint8_t tail[I8_VECTOR] = {0};
    for (size_t i = 0; i < k; i += I8_VECTOR) {
        if (k - i < I8_VECTOR) {
            memcpy(tail, a + i, k - i);
        }
        const uint8_t *from = k - i < I8_VECTOR ? tail : a + i;
        __m256i v = _mm256_loadu_si256((const __m256i *)from);
        __m256i h = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
        _mm256_storeu_si256((__m256i *)(hi + i), h);
        _mm256_storeu_si256((__m256i *)(lo + i), _mm256_and_si256(v, low));
    }
}

SHR_INLINE __m256i quad_of(const uint8_t *a, size_t q)
{
    int32_t quad;
    memcpy(&quad, a + q * 4, sizeof quad);
    return _mm256_set1_epi32(quad);
}

/* At most FLUSH quads of a panel into int32 sums. */
SHR_INLINE void panel_flush(const size_t width, const uint8_t *hi, const uint8_t *lo,
                            const int8_t *b, size_t quads, __m256i *acc)
{
    __m256i h[I8_PANEL], l[I8_PANEL];
    SHR_UNROLL
    for (size_t j = 0; j < width; j++) {
        h[j] = l[j] = _mm256_setzero_si256();
    }
    for (size_t q = 0; q < quads; q++, b += width * I8_VECTOR) {
        __m256i ah = quad_of(hi, q), al = quad_of(lo, q);
        SHR_UNROLL
        for (size_t j = 0; j < width; j++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(b + j * I8_VECTOR));
            h[j] = _mm256_add_epi16(h[j], _mm256_maddubs_epi16(ah, v));
            l[j] = _mm256_add_epi16(l[j], _mm256_maddubs_epi16(al, v));
        }
    }
    SHR_UNROLL
    for (size_t j = 0; j < width; j++) {
        acc[j] = _mm256_add_epi32(acc[j], _mm256_madd_epi16(h[j], _mm256_set1_epi16(16)));
        acc[j] = _mm256_add_epi32(acc[j], _mm256_madd_epi16(l[j], _mm256_set1_epi16(1)));
    }
}

SHR_INLINE void panel_row(const size_t width, const uint8_t *hi, const uint8_t *lo, const int8_t *b,
                          size_t quads, __m256i *ret_acc)
{
    __m256i acc[I8_PANEL];
    SHR_UNROLL
    for (size_t j = 0; j < width; j++) {
        acc[j] = ret_acc[j];
    }
    for (size_t q = 0; q < quads; q += FLUSH, b += FLUSH * width * I8_VECTOR) {
        panel_flush(width, hi + q * 4, lo + q * 4, b, i8_min(quads - q, FLUSH), acc);
    }
    SHR_UNROLL
    for (size_t j = 0; j < width; j++) {
        ret_acc[j] = acc[j];
    }
}

static void one_row(const struct shr_gemm_i8 *g)
{
    const struct i8_packed *p = g->b;
    uint8_t hi[STRETCH], lo[STRETCH];
    int32_t row_sum = p->has_zero ? sum_of(g->a, g->k) : 0;
    for (size_t block = 0; block < p->blocks; block += I8_PANEL) {
        size_t step, width = i8_min(p->blocks - block, I8_PANEL);
        const int8_t *b = i8_block(p, block, &step);
        __m256i acc[I8_PANEL];
        for (size_t j = 0; j < I8_PANEL; j++) {
            acc[j] = _mm256_setzero_si256();
        }
        for (size_t k = 0; k < g->k; k += STRETCH) {
            size_t some = i8_min(g->k - k, STRETCH), quads = quads_of(some);
            if (block == 0 || g->k > STRETCH) {
                split(g->a + k, some, hi, lo);
            }
            switch (width) {
            case 1:
                panel_row(1, hi, lo, b, quads, acc);
                break;
            case 2:
                panel_row(2, hi, lo, b, quads, acc);
                break;
            case 3:
                panel_row(3, hi, lo, b, quads, acc);
                break;
            default:
                panel_row(4, hi, lo, b, quads, acc);
                break;
            }
            b += quads * step;
        }
        for (size_t j = 0; j < width; j++) {
            struct i8_columns v = i8_columns_of(g, p, block + j);
            i8_finish(g, p, block + j, &v, (block + j) * I8_COLS, 1, &acc[j], &row_sum);
        }
    }
}

/* ── Several rows ───────────────────────────────────────────────────────────────────────────── */

/* k values of each row as int16, zeros up to a whole quad; the buffer's rows are STRETCH apart. */
static void widen(const uint8_t *a, size_t lda, size_t rows, size_t k, int16_t *to)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < k; j++) {
            to[i * STRETCH + j] = a[i * lda + j];
        }
        for (size_t j = k; j < quads_of(k) * 4; j++) {
            to[i * STRETCH + j] = 0;
        }
    }
}

static void some_rows(const struct shr_gemm_i8 *g, size_t m, size_t rows, int16_t *buffer)
{
    const struct i8_packed *p = g->b;
    const uint8_t *a = g->a + m * g->lda;
    int32_t row_sums[I8_ROWS] = {0};
    for (size_t i = 0; i < rows && p->has_zero; i++) {
        row_sums[i] = sum_of(a + i * g->lda, g->k);
    }
    for (size_t first = 0; first < p->blocks; first += GROUP) {
        size_t blocks = i8_min(p->blocks - first, GROUP);
        __m256i acc[GROUP][I8_ROWS];
        for (size_t i = 0; i < GROUP * I8_ROWS; i++) {
            acc[i / I8_ROWS][i % I8_ROWS] = _mm256_setzero_si256();
        }
        for (size_t k = 0; k < g->k; k += STRETCH) {
            size_t some = i8_min(g->k - k, STRETCH);
            struct i8_runs runs = {.segments = 1, .quads = quads_of(some)};
            if (first == 0 || g->k > STRETCH) {
                widen(a + k, g->lda, rows, some, buffer);
            }
            for (size_t j = 0; j < blocks; j++) {
                size_t step;
                const int8_t *b = i8_block(p, first + j, &step) + k / 4 * step;
                i8_tile(rows, buffer, STRETCH, &runs, b, step, acc[j]);
            }
        }
        for (size_t j = 0; j < blocks; j++) {
            size_t at = m * g->ldc + (first + j) * I8_COLS;
            struct i8_columns v = i8_columns_of(g, p, first + j);
            i8_finish(g, p, first + j, &v, at, rows, acc[j], row_sums);
        }
    }
}

void shr__gemm_i8_avx2(const struct shr_gemm_i8 *g)
{
    int16_t buffer[I8_ROWS * STRETCH];
    if (g->m == 1) {
        one_row(g);
        return;
    }
    for (size_t m = 0; m < g->m; m += I8_ROWS) {
        some_rows(g, m, i8_min(g->m - m, I8_ROWS), buffer);
    }
}
