/* AVX2: convolution of uint8 NHWC activations, one channel a group (depthwise).
 *
 * DESIGN. The image is copied once, padded and widened to int16. Two taps of 16 channels are
 * interleaved, so that vpmaddwd multiplies and adds both, exactly. A step takes a few neighbouring
 * output pixels, which share the loads of the weights; what is left of a row is done by a step that
 * overlaps the one before. Interleaving leaves channels 0-3, 8-11 in one vector of sums and 4-7,
 * 12-15 in the other: vpackssdw restores their order, so bias and scale are brought into that of
 * the sums once a row instead. A team shares the rows. */
#include "base/mem.h"
#include "kernels/avx2_conv_i8.h"

enum {
    PIXELS = 4,    /* of a step: their sums, two weights and four temporaries are 14 registers */
    PAIRS_3X3 = 5, /* pairs of taps of the usual kernels */
    PAIRS_5X5 = 13,
    DW_WORTH = 1 << 18 /* products that pay for a team: about 10 us */
};

/* Weights minus their zero points, in the order that unpacking two taps leaves. A packed matrix
 * without rows holds their sums for i8_columns_init. */
bool shr__depthwise_pack_avx2(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec)
{
    const struct shr_conv_shape *s = &conv->s;
    size_t taps = (size_t)(s->kh * s->kw), pairs = (taps + 1) / 2;
    conv->tap_pairs = pairs;
    conv->tap_at = shr_mem_new(pairs * 2, sizeof *conv->tap_at);
    conv->dw = shr_mem_new((size_t)conv->cp * pairs * 2, sizeof *conv->dw);
    conv->packed = shr_mem_aligned(shr__gemm_i8_size_avx2(0, (size_t)s->c));
    if (conv->dw == NULL || conv->packed == NULL || conv->tap_at == NULL) {
        return false;
    }
    shr__i8_pack(0, 0, (size_t)s->c, NULL, 0, true, NULL, conv->packed);
    int32_t *sums = (int32_t *)(conv->packed + sizeof(struct i8_packed));
    for (size_t i = 0; i < pairs * 2; i++) { /* an odd last tap is paired with weights of 0 */
        int64_t t = (int64_t)(i < taps ? i : taps - 1);
        conv->tap_at[i] = (t / s->kw * s->dil_h * conv->wp + t % s->kw * s->dil_w) * conv->cp;
    }
    for (size_t c = 0; c < (size_t)s->c; c++) {
        size_t lane = c % DW_CHANNELS, half = lane / 4 % 2, in_half = lane / 8 * 4 + lane % 4;
        int32_t zero = spec->w_zero != NULL ? spec->w_zero[c] : 0;
        for (size_t t = 0; t < taps; t++) {
            size_t pair = c / DW_CHANNELS * pairs + t / 2;
            int32_t w = spec->w[c * taps + t] - zero;
            conv->dw[((pair * 2 + half) * 8 + in_half) * 2 + t % 2] = (int16_t)w;
            sums[c] += w;
        }
    }
    return true;
}

/* ── The padded copy ────────────────────────────────────────────────────────────────────────── */

/* An image that is being convolved. */
struct image {
    const struct shr_conv_i8 *conv;
    const struct shr_gemm_i8 *g;
    const uint8_t *x; /* (h, w, c) */
    int16_t *padded;  /* (hp, wp, cp) */
    size_t first;     /* element of the first result */
    size_t parts;     /* of the rows */
};

static void fill(int16_t *to, int64_t n, int32_t value)
{
    for (int64_t i = 0; i < n; i++) {
        to[i] = (int16_t)value;
    }
}

static void widen_16(int16_t *to, __m128i from)
{
    _mm256_storeu_si256((__m256i *)to, _mm256_cvtepu8_epi16(from));
}

/* n pixels of c channels to pixels of cp, the added ones 0 */
static void widen(int16_t *to, const uint8_t *from, int64_t n, int64_t c, int64_t cp)
{
    int64_t whole = c / DW_CHANNELS * DW_CHANNELS, rest = c - whole;
    for (int64_t i = 0; i < n; i++, to += cp, from += c) {
        for (int64_t j = 0; j < whole; j += DW_CHANNELS) {
            widen_16(to + j, _mm_loadu_si128((const __m128i *)(from + j)));
        }
        if (rest == I8_COLS) {
            widen_16(to + whole, _mm_loadl_epi64((const __m128i *)(from + whole)));
        } else if (rest > 0) {
            __m128i some = _mm_setzero_si128();
            memcpy(&some, from + whole, (size_t)rest);
            widen_16(to + whole, some);
        }
    }
}

static void widen_rows(void *arg, size_t task, size_t worker)
{
    const struct image *m = arg;
    const struct shr_conv_i8 *conv = m->conv;
    const struct shr_conv_shape *s = &conv->s;
    int64_t row = conv->wp * conv->cp, x_zero = m->g->a_zero;
    int64_t left = s->pad_l < conv->wp ? s->pad_l : conv->wp;
    int64_t copied = conv->wp - left < s->w ? conv->wp - left : s->w;
    size_t hp = (size_t)conv->hp, end = hp * (task + 1) / m->parts;
    (void)worker;
    for (size_t h = hp * task / m->parts; h < end; h++) {
        int16_t *to = m->padded + (int64_t)h * row;
        int64_t ih = (int64_t)h - s->pad_t;
        if (ih < 0 || ih >= s->h) {
            fill(to, row, (int32_t)x_zero);
            continue;
        }
        fill(to, left * conv->cp, (int32_t)x_zero);
        widen(to + left * conv->cp, m->x + ih * s->w * s->c, copied, s->c, conv->cp);
        fill(to + (left + copied) * conv->cp, (conv->wp - left - copied) * conv->cp,
             (int32_t)x_zero);
    }
}

/* ── Sums ───────────────────────────────────────────────────────────────────────────────────── */

/* ret_acc (n pixels, 2): 16 channels of pixels that are step apart. x points to the first tap of
 * the first one, w to the channels' pairs of taps. */
SHR_INLINE void sums_of(const struct shr_conv_i8 *conv, const size_t pairs, const size_t n,
                        const int16_t *x, size_t step, const int16_t *w, __m256i (*ret_acc)[2])
{
    __m256i acc[PIXELS][2]; /* whose address nobody takes: registers */
    SHR_UNROLL
    for (size_t j = 0; j < n; j++) {
        acc[j][0] = acc[j][1] = _mm256_setzero_si256();
    }
    for (size_t i = 0; i < pairs; i++) {
        const int16_t *first = x + conv->tap_at[2 * i], *second = x + conv->tap_at[2 * i + 1];
        __m256i w0 = _mm256_loadu_si256((const __m256i *)(w + i * 32));
        __m256i w1 = _mm256_loadu_si256((const __m256i *)(w + i * 32 + 16));
        SHR_UNROLL
        for (size_t j = 0; j < n; j++) {
            __m256i a = _mm256_loadu_si256((const __m256i *)(first + j * step));
            __m256i b = _mm256_loadu_si256((const __m256i *)(second + j * step));
            __m256i lo = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), w0);
            __m256i hi = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), w1);
            acc[j][0] = _mm256_add_epi32(acc[j][0], lo);
            acc[j][1] = _mm256_add_epi32(acc[j][1], hi);
        }
    }
    SHR_UNROLL
    for (size_t j = 0; j < n; j++) {
        ret_acc[j][0] = acc[j][0];
        ret_acc[j][1] = acc[j][1];
    }
}

/* ── Results ────────────────────────────────────────────────────────────────────────────────── */

/* Bias and scale of 16 channels: by blocks of 8, and in the order of the sums. */
struct channels {
    size_t block, blocks, n; /* the first block, how many of them, and the channels that exist */
    struct i8_columns columns[2];
    __m256i add[2];
    __m256 scale[2];
    __m256 lo, hi; /* of results without their zero point */
};

static struct channels channels_of(const struct shr_gemm_i8 *g, size_t block)
{
    const struct i8_packed *p = g->b;
    struct channels v = {.block = block,
                         .blocks = i8_min(p->blocks - block, 2),
                         .n = i8_min(g->n - block * I8_COLS, DW_CHANNELS)};
    for (size_t j = 0; j < v.blocks; j++) {
        i8_columns_init(&v.columns[j], g, p, block + j);
    }
    const struct i8_columns *c = v.columns;
    v.add[0] = _mm256_permute2x128_si256(c[0].add, c[1].add, 0x20);
    v.add[1] = _mm256_permute2x128_si256(c[0].add, c[1].add, 0x31);
    v.scale[0] = _mm256_permute2f128_ps(c[0].scale, c[1].scale, 0x20);
    v.scale[1] = _mm256_permute2f128_ps(c[0].scale, c[1].scale, 0x31);
    int32_t lo, hi;
    shr__bounds_i8(g, &lo, &hi);
    v.lo = _mm256_set1_ps((float)(lo - g->c_zero));
    v.hi = _mm256_set1_ps((float)(hi - g->c_zero));
    return v;
}

/* shr__saturate of the results of n pixels; all are made before one is stored, since a store of
 * bytes may change whatever v points to. */
SHR_INLINE void finish_bytes(const struct shr_gemm_i8 *g, const struct channels *v, const size_t n,
                             size_t at, const __m256i (*acc)[2])
{
    __m256i zero = _mm256_set1_epi16((int16_t)g->c_zero);
    bool is_signed = g->out == SHR_GEMM_S8;
    __m128i bytes[PIXELS];
    SHR_UNROLL
    for (size_t i = 0; i < n; i++) {
        __m256i q[2];
        SHR_UNROLL
        for (size_t j = 0; j < 2; j++) {
            __m256 y = _mm256_cvtepi32_ps(_mm256_add_epi32(acc[i][j], v->add[j]));
            y = _mm256_max_ps(_mm256_mul_ps(y, v->scale[j]), v->lo);
            q[j] = _mm256_cvtps_epi32(_mm256_min_ps(y, v->hi));
        }
        __m256i words = _mm256_add_epi16(_mm256_packs_epi32(q[0], q[1]), zero);
        __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
        bytes[i] = is_signed ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
    }
    uint8_t *c = (uint8_t *)g->c + at;
    size_t step = g->ldc, cols = v->n;
    SHR_UNROLL
    for (size_t i = 0; i < n; i++, c += step) {
        if (cols == DW_CHANNELS) {
            _mm_storeu_si128((__m128i *)c, bytes[i]);
        } else if (cols == I8_COLS) {
            _mm_storel_epi64((__m128i *)c, bytes[i]);
        } else {
            memcpy(c, &bytes[i], cols);
        }
    }
}

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

/* 16 channels of a row of output pixels, as bytes; x points to the first one's first tap, and its
 * first channel is element at of g->c. */
SHR_INLINE void row_bytes(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g,
                          const struct channels *v, const size_t pairs, const int16_t *x, size_t at)
{
    size_t ow = (size_t)conv->s.ow, step = (size_t)(conv->s.stride_w * conv->cp);
    const int16_t *w = conv->dw + v->block * I8_COLS * pairs * 2;
    if (ow < PIXELS) {
        for (size_t i = 0; i < ow; i++) {
            __m256i acc[1][2];
            sums_of(conv, pairs, 1, x + i * step, step, w, acc);
            finish_bytes(g, v, 1, at + i * g->ldc, (const __m256i(*)[2])acc);
        }
        return;
    }
    for (size_t i = 0; i < ow; i += PIXELS) {
        size_t from = i8_min(i, ow - PIXELS);
        __m256i acc[PIXELS][2];
        sums_of(conv, pairs, PIXELS, x + from * step, step, w, acc);
        finish_bytes(g, v, PIXELS, at + from * g->ldc, (const __m256i(*)[2])acc);
    }
}

typedef void (*row_fn)(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g,
                       const struct channels *v, const int16_t *x, size_t at);

static void row_3x3(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g,
                    const struct channels *v, const int16_t *x, size_t at)
{
    row_bytes(conv, g, v, PAIRS_3X3, x, at);
}

static void row_5x5(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g,
                    const struct channels *v, const int16_t *x, size_t at)
{
    row_bytes(conv, g, v, PAIRS_5X5, x, at);
}

static void row_any(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g,
                    const struct channels *v, const int16_t *x, size_t at)
{
    row_bytes(conv, g, v, conv->tap_pairs, x, at);
}

/* Results of int32 or float, which leave by blocks. */
static void row_wide(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g,
                     const struct channels *v, const int16_t *x, size_t at)
{
    size_t ow = (size_t)conv->s.ow, step = (size_t)(conv->s.stride_w * conv->cp);
    const int16_t *w = conv->dw + v->block * I8_COLS * conv->tap_pairs * 2;
    for (size_t i = 0; i < ow; i++, x += step, at += g->ldc) {
        __m256i acc[1][2];
        sums_of(conv, conv->tap_pairs, 1, x, step, w, acc);
        __m256i sums[2] = {_mm256_permute2x128_si256(acc[0][0], acc[0][1], 0x20),
                           _mm256_permute2x128_si256(acc[0][0], acc[0][1], 0x31)};
        for (size_t j = 0; j < v->blocks; j++) {
            i8_finish(g, g->b, v->block + j, &v->columns[j], at + j * I8_COLS, 1, &sums[j], NULL);
        }
    }
}

static row_fn row_fn_of(const struct shr_conv_i8 *conv)
{
    if (conv->g.out != SHR_GEMM_U8 && conv->g.out != SHR_GEMM_S8) {
        return row_wide;
    }
    return conv->tap_pairs == PAIRS_3X3   ? row_3x3
           : conv->tap_pairs == PAIRS_5X5 ? row_5x5
                                          : row_any;
}

static void run_rows(void *arg, size_t task, size_t worker)
{
    const struct image *m = arg;
    const struct shr_conv_i8 *conv = m->conv;
    const struct shr_conv_shape *s = &conv->s;
    const struct i8_packed *p = m->g->b;
    row_fn row = row_fn_of(conv);
    size_t line = (size_t)(s->stride_h * conv->wp * conv->cp);
    size_t oh = (size_t)s->oh, from = oh * task / m->parts, to = oh * (task + 1) / m->parts;
    (void)worker;
    for (size_t block = 0; block < p->blocks; block += 2) {
        struct channels v = channels_of(m->g, block);
        for (size_t i = from; i < to; i++) {
            const int16_t *x = m->padded + i * line + block * I8_COLS;
            size_t at = m->first + i * (size_t)(s->ow * s->c) + block * I8_COLS;
            row(conv, m->g, &v, x, at);
        }
    }
}

void shr__depthwise_run_avx2(const struct shr_conv_i8 *conv, struct shr_gemm_i8 *g,
                             const uint8_t *x, int16_t *padded, size_t first, struct shr_team *team)
{
    const struct shr_conv_shape *s = &conv->s;
    struct image m = {.conv = conv, .g = g, .x = x, .padded = padded, .first = first};
    g->b = conv->packed;
    g->bias = conv->bias;
    g->scale = conv->scale;
    g->bias_f32 = conv->bias_f32;
    team = s->oh * s->ow * s->c * s->kh * s->kw < DW_WORTH ? NULL : team;
    m.parts = i8_parts(team, 1, (size_t)conv->hp);
    shr_team_run(team, m.parts, widen_rows, &m);
    m.parts = i8_parts(team, 1, (size_t)s->oh);
    shr_team_run(team, m.parts, run_rows, &m);
}
