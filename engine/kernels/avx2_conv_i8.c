/* AVX2: convolution of uint8 NHWC activations.
 *
 * DESIGN. An image is widened once into a padded int16 copy in the scratch. There the inputs of an
 * output pixel are runs of consecutive values (kw * c of them for each kernel row), and the next
 * pixel's lie stride_w * c further: rows of a matrix that is never built, multiplied by the tile
 * of avx2_i8.h. The weights follow the same order, each run filled up to whole quads with zeros,
 * so what the last quad of a run reads beyond it does not count.
 *
 * One channel a group (depthwise) has no matrix; there pairs of taps of 16 channels are
 * multiplied at once. */
#include "base/mem.h"
#include "kernels/avx2_i8.h"

enum { DW_CHANNELS = 16 };

struct shr_conv_i8 {
    struct shr_conv_shape s;
    struct shr_gemm_i8 g; /* the output of a group, or of all channels when depthwise */
    int32_t *bias;        /* (oc) or NULL */
    float *scale, *bias_f32;
    bool depthwise;
    int64_t hp, wp, cp;    /* of the padded copy (hp, wp, cp) */
    size_t run, quads;     /* values of a run that count, and its length in quads */
    size_t taps_w;         /* runs of a kernel row: 1, or kw when taps are not adjacent */
    size_t packed_size;    /* of one group */
    unsigned char *packed; /* groups * packed_size */
    int16_t *dw;           /* depthwise: (cp / 16, tap pairs, 2, 8 channels x 2 taps) */
    size_t tap_pairs;      /* depthwise, and where the two taps of each pair are: */
    int64_t *tap_at;
};

static int64_t reach(int64_t out, int64_t stride, int64_t kernel, int64_t dil)
{
    return (out - 1) * stride + (kernel - 1) * dil + 1;
}

void shr__conv_i8_free_avx2(struct shr_conv_i8 *conv)
{
    if (conv == NULL) {
        return;
    }
    shr_mem_free(conv->bias);
    shr_mem_free(conv->scale);
    shr_mem_free(conv->bias_f32);
    shr_mem_free(conv->packed);
    shr_mem_free(conv->dw);
    shr_mem_free(conv->tap_at);
    shr_mem_free(conv);
}

/* A copy of n values of 4 bytes; true when there was nothing to copy. */
static bool copy_values(const void *from, size_t n, void *ret)
{
    void *to = NULL;
    if (from != NULL) {
        to = shr_mem_new(n, 4);
        if (to == NULL) {
            return false;
        }
        memcpy(to, from, n * 4);
    }
    memcpy(ret, &to, sizeof to);
    return true;
}

/* Weights (oc, c/groups, kh, kw) of a group as rows (og, k) in the order of the runs. */
static void order_weights(const struct shr_conv_i8 *conv, const int8_t *w, int8_t *to)
{
    const struct shr_conv_shape *s = &conv->s;
    int64_t cg = s->c / s->groups, og = s->oc / s->groups;
    size_t run4 = conv->quads * 4, k = run4 * conv->taps_w * (size_t)s->kh;
    for (int64_t o = 0; o < og; o++) {
        for (int64_t kh = 0; kh < s->kh; kh++) {
            for (int64_t kw = 0; kw < s->kw; kw++) {
                int64_t in_run = conv->taps_w == 1 ? kw * cg : 0;
                size_t run = (size_t)kh * conv->taps_w + (conv->taps_w == 1 ? 0 : (size_t)kw);
                int8_t *at = to + (size_t)o * k + run * run4 + in_run;
                for (int64_t c = 0; c < cg; c++) {
                    at[c] = w[((o * cg + c) * s->kh + kh) * s->kw + kw];
                }
            }
        }
    }
}

static bool pack_groups(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec)
{
    const struct shr_conv_shape *s = &conv->s;
    int64_t cg = s->c / s->groups, og = s->oc / s->groups;
    bool adjacent = s->groups == 1 && s->dil_w == 1;
    conv->taps_w = adjacent ? 1 : (size_t)s->kw;
    conv->run = (size_t)(adjacent ? s->kw * cg : cg);
    conv->quads = (conv->run + 3) / 4;
    size_t k = conv->quads * 4 * conv->taps_w * (size_t)s->kh;
    size_t k_real = (size_t)(cg * s->kh * s->kw);
    conv->packed_size = shr__gemm_i8_size_avx2(k, (size_t)og);
    conv->packed = shr_mem_aligned((size_t)s->groups * conv->packed_size);
    int8_t *rows = shr_mem_new((size_t)og, k);
    if (conv->packed == NULL || rows == NULL) {
        shr_mem_free(rows);
        return false;
    }
    for (int64_t i = 0; i < s->groups; i++) {
        const int32_t *zero = spec->w_zero != NULL ? spec->w_zero + i * og : NULL;
        order_weights(conv, spec->w + (size_t)(i * og) * k_real, rows);
        shr__i8_pack(k, k_real, (size_t)og, rows, k, true, zero,
                     conv->packed + (size_t)i * conv->packed_size);
    }
    shr_mem_free(rows);
    return true;
}

/* Depthwise weights minus their zero points, in the order that unpacking two taps leaves. A
 * packed matrix without rows holds their sums for i8_finish. */
static bool pack_depthwise(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec)
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

/* Where every pixel is an output of its own, an image is one long row: whole tiles all the way. */
static struct shr_conv_shape flat_shape(const struct shr_conv_shape *s)
{
    struct shr_conv_shape flat = *s;
    if (s->kh == 1 && s->kw == 1 && s->oh == s->h && s->ow == s->w && s->stride_h == 1 &&
        s->stride_w == 1 && s->pad_t == 0 && s->pad_l == 0) {
        flat.w = flat.ow = s->h * s->w;
        flat.h = flat.oh = 1;
    }
    return flat;
}

struct shr_conv_i8 *shr__conv_i8_new_avx2(const struct shr_conv_i8_spec *spec, size_t *ret_scratch)
{
    struct shr_conv_i8 *conv = shr_mem_new(1, sizeof *conv);
    if (conv == NULL) {
        return NULL;
    }
    conv->s = flat_shape(&spec->shape);
    const struct shr_conv_shape *s = &conv->s;
    conv->depthwise = s->groups == s->c && s->oc == s->c && s->c > 1;
    conv->hp = reach(s->oh, s->stride_h, s->kh, s->dil_h);
    conv->wp = reach(s->ow, s->stride_w, s->kw, s->dil_w);
    conv->cp = conv->depthwise ? (s->c + DW_CHANNELS - 1) / DW_CHANNELS * DW_CHANNELS : s->c;
    bool ok = copy_values(spec->bias, (size_t)s->oc, &conv->bias) &&
              copy_values(spec->scale, (size_t)s->oc, &conv->scale) &&
              copy_values(spec->bias_f32, (size_t)s->oc, &conv->bias_f32) &&
              (conv->depthwise ? pack_depthwise(conv, spec) : pack_groups(conv, spec));
    if (!ok) {
        shr__conv_i8_free_avx2(conv);
        return NULL;
    }
    conv->g = (struct shr_gemm_i8){.n = (size_t)(conv->depthwise ? s->oc : s->oc / s->groups),
                                   .ldc = (size_t)s->oc,
                                   .out = spec->out,
                                   .c_zero = spec->y_zero,
                                   .act = spec->act,
                                   .c_min = spec->y_min,
                                   .c_max = spec->y_max};
    /* the last quad of the last run may read three values more */
    *ret_scratch = ((size_t)(conv->hp * conv->wp * conv->cp) + 4) * sizeof(int16_t);
    return conv;
}

static void fill(int16_t *to, int64_t n, int32_t value)
{
    for (int64_t i = 0; i < n; i++) {
        to[i] = (int16_t)value;
    }
}

static void widen(int16_t *to, const uint8_t *from, int64_t n, int64_t c, int64_t cp)
{
    if (c == cp) {
        for (int64_t i = 0; i < n * c; i++) {
            to[i] = from[i];
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < c; j++) {
            to[i * cp + j] = from[i * c + j];
        }
        fill(to + i * cp + c, cp - c, 0);
    }
}

/* x (h, w, c) to the padded copy (hp, wp, cp) */
static void pad_image(const struct shr_conv_i8 *conv, const uint8_t *x, int32_t x_zero,
                      int16_t *padded)
{
    const struct shr_conv_shape *s = &conv->s;
    int64_t row = conv->wp * conv->cp;
    int64_t left = s->pad_l < conv->wp ? s->pad_l : conv->wp;
    int64_t copied = conv->wp - left < s->w ? conv->wp - left : s->w;
    for (int64_t h = 0; h < conv->hp; h++) {
        int16_t *to = padded + h * row;
        int64_t ih = h - s->pad_t;
        if (ih < 0 || ih >= s->h) {
            fill(to, row, x_zero);
            continue;
        }
        fill(to, left * conv->cp, x_zero);
        widen(to + left * conv->cp, x + ih * s->w * s->c, copied, s->c, conv->cp);
        fill(to + (left + copied) * conv->cp, (conv->wp - left - copied) * conv->cp, x_zero);
    }
    fill(padded + conv->hp * row, 4, 0);
}

static int32_t window_sum(const struct shr_conv_i8 *conv, const int16_t *a)
{
    const struct shr_conv_shape *s = &conv->s;
    uint32_t sum = 0;
    for (int64_t kh = 0; kh < s->kh; kh++) {
        for (size_t kw = 0; kw < conv->taps_w; kw++) {
            const int16_t *run =
                a + kh * s->dil_h * conv->wp * s->c + (int64_t)kw * s->dil_w * s->c;
            for (size_t i = 0; i < conv->run; i++) {
                sum += (uint32_t)run[i];
            }
        }
    }
    return (int32_t)sum;
}

/* A block of output channels of one output row. a points to the window of its first pixel, at is
 * the element of that pixel's first channel. */
static void output_row(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g, size_t block,
                       const int16_t *a, size_t at)
{
    const struct shr_conv_shape *s = &conv->s;
    const struct i8_packed *p = g->b;
    size_t lda = (size_t)(s->stride_w * s->c), ow = (size_t)s->ow, step;
    int64_t row = s->dil_h * conv->wp * s->c;
    struct i8_columns columns = i8_columns_of(g, p, block);
    const int8_t *first = i8_block(p, block, &step);
    /* adjacent taps: a run a kernel row; else a run a tap, kernel row by kernel row */
    bool adjacent = conv->taps_w == 1;
    struct i8_runs runs = {.segments = adjacent ? (size_t)s->kh : conv->taps_w,
                           .quads = conv->quads,
                           .stride = (size_t)(adjacent ? row : s->dil_w * s->c)};
    int64_t steps = adjacent ? 1 : s->kh;
    for (size_t i = 0; i < ow; i += I8_ROWS, a += I8_ROWS * lda) {
        size_t rows = i8_min(ow - i, I8_ROWS);
        const int8_t *b = first;
        int32_t sums[I8_ROWS] = {0};
        __m256i acc[I8_ROWS];
        for (size_t k = 0; k < I8_ROWS; k++) {
            acc[k] = _mm256_setzero_si256();
        }
        for (size_t k = 0; k < rows && p->has_zero; k++) {
            sums[k] = window_sum(conv, a + k * lda);
        }
        for (int64_t kh = 0; kh < steps; kh++) {
            i8_tile(rows, a + kh * row, lda, &runs, b, step, acc);
            b += runs.segments * runs.quads * step;
        }
        i8_finish(g, p, block, &columns, at + i * g->ldc + block * I8_COLS, rows, acc, sums);
    }
}

static void run_groups(const struct shr_conv_i8 *conv, struct shr_gemm_i8 *g, const int16_t *padded,
                       int64_t image)
{
    const struct shr_conv_shape *s = &conv->s;
    int64_t og = s->oc / s->groups, cg = s->c / s->groups;
    for (int64_t i = 0; i < s->groups; i++) {
        const struct i8_packed *p =
            (const struct i8_packed *)(conv->packed + (size_t)i * conv->packed_size);
        g->b = p;
        g->bias = conv->bias != NULL ? conv->bias + i * og : NULL;
        g->scale = conv->scale != NULL ? conv->scale + i * og : NULL;
        g->bias_f32 = conv->bias_f32 != NULL ? conv->bias_f32 + i * og : NULL;
        for (int64_t oh = 0; oh < s->oh; oh++) {
            size_t at = (size_t)((image * s->oh + oh) * s->ow * s->oc + i * og);
            const int16_t *a = padded + i * cg + oh * s->stride_h * conv->wp * s->c;
            for (size_t block = 0; block < p->blocks; block++) {
                output_row(conv, g, block, a, at);
            }
        }
    }
}

/* 16 channels of one pixel; x points to its first tap, w to the channels' tap pairs. */
static void depthwise_sums(const struct shr_conv_i8 *conv, const int16_t *x, const int16_t *w,
                           __m256i *ret_acc)
{
    __m256i c0 = _mm256_setzero_si256(), c1 = c0;
    for (size_t i = 0; i < conv->tap_pairs; i++, w += 32) {
        const __m256i *first = (const __m256i *)(x + conv->tap_at[2 * i]);
        const __m256i *second = (const __m256i *)(x + conv->tap_at[2 * i + 1]);
        __m256i a = _mm256_loadu_si256(first), b = _mm256_loadu_si256(second);
        __m256i w0 = _mm256_loadu_si256((const __m256i *)w);
        __m256i w1 = _mm256_loadu_si256((const __m256i *)(w + 16));
        c0 = _mm256_add_epi32(c0, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), w0));
        c1 = _mm256_add_epi32(c1, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), w1));
    }
    ret_acc[0] = _mm256_permute2x128_si256(c0, c1, 0x20);
    ret_acc[1] = _mm256_permute2x128_si256(c0, c1, 0x31);
}

/* 16 channels, blocks `block` and the next, of one output row. */
static void depthwise_row(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g, size_t block,
                          const int16_t *x, size_t at)
{
    const struct i8_packed *p = g->b;
    size_t c = block * I8_COLS, blocks = i8_min(p->blocks - block, 2);
    const int16_t *w = conv->dw + c * conv->tap_pairs * 2;
    struct i8_columns columns[2];
    for (size_t j = 0; j < blocks; j++) {
        columns[j] = i8_columns_of(g, p, block + j);
    }
    for (int64_t i = 0; i < conv->s.ow; i++) {
        __m256i acc[2];
        depthwise_sums(conv, x + i * conv->s.stride_w * conv->cp + c, w, acc);
        for (size_t j = 0; j < blocks; j++) {
            i8_finish(g, p, block + j, &columns[j], at + c + j * I8_COLS, 1, &acc[j], NULL);
        }
        at += g->ldc;
    }
}

static void run_depthwise(const struct shr_conv_i8 *conv, struct shr_gemm_i8 *g,
                          const int16_t *padded, int64_t image)
{
    const struct shr_conv_shape *s = &conv->s;
    const struct i8_packed *p = (const struct i8_packed *)conv->packed;
    g->b = p;
    g->bias = conv->bias;
    g->scale = conv->scale;
    g->bias_f32 = conv->bias_f32;
    for (int64_t oh = 0; oh < s->oh; oh++) {
        const int16_t *x = padded + oh * s->stride_h * conv->wp * conv->cp;
        size_t at = (size_t)((image * s->oh + oh) * s->ow * s->c);
        for (size_t block = 0; block < p->blocks; block += 2) {
            depthwise_row(conv, g, block, x, at);
        }
    }
}

void shr__conv_i8_run_avx2(const struct shr_conv_i8 *conv, const uint8_t *x, int32_t x_zero,
                           void *y, void *scratch, struct shr_team *team)
{
    const struct shr_conv_shape *s = &conv->s;
    (void)team;
    struct shr_gemm_i8 g = conv->g;
    g.a_zero = x_zero;
    g.c = y;
    for (int64_t i = 0; i < s->n; i++) {
        pad_image(conv, x + i * s->h * s->w * s->c, x_zero, scratch);
        if (conv->depthwise) {
            run_depthwise(conv, &g, scratch, i);
        } else {
            run_groups(conv, &g, scratch, i);
        }
    }
}
