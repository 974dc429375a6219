/* AVX2: convolution of uint8 NHWC activations.
 *
 * DESIGN. The inputs of an output pixel are runs of consecutive values: one a kernel row when taps
 * are adjacent, else one a tap. The runs have the same offsets from every pixel's first value, so
 * that the pixels of an image are the rows of a matrix that is never built (indirect convolution;
 * Dukhan, 2019), multiplied by the tile of the matrix product. Weights follow the same order, each
 * run filled up to whole quads with zeros: what a quad reads beyond its run does not count. Images
 * with padding, or whose last quad would read beyond the end, are copied once.
 *
 * One channel a group (depthwise) has no matrix; there pairs of taps of 16 channels of a copy in
 * int16 are multiplied at once. */
#include "base/mem.h"
#include "kernels/avx2_i8.h"

enum { DW_CHANNELS = 16 };

struct shr_conv_i8 {
    struct shr_conv_shape s;
    struct shr_gemm_i8 g; /* the output of a group, or of all channels when depthwise */
    int32_t *bias;        /* (oc) or NULL */
    float *scale, *bias_f32;
    bool depthwise, in_place; /* in_place: there is no copy, x is read as it lies */
    int64_t hp, wp, cp;       /* of the padded copy (hp, wp, cp) */
    size_t n_runs, run;       /* of a pixel, and the values of one */
    uint32_t *runs;           /* (n_runs) where they begin */
    size_t packed_size;       /* of one group */
    unsigned char *packed;    /* groups * packed_size */
    int16_t *dw;              /* depthwise: (cp / 16, tap pairs, 2, 8 channels x 2 taps) */
    size_t tap_pairs;         /* depthwise, and where the two taps of each pair are: */
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
    shr_mem_free(conv->runs);
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

/* Weights (og, cg, kh, kw) of a group as rows (og, k) in the order of the runs. */
static void order_weights(const struct shr_conv_i8 *conv, const int8_t *w, int8_t *to)
{
    const struct shr_conv_shape *s = &conv->s;
    size_t cg = (size_t)(s->c / s->groups), taps = (size_t)(s->kh * s->kw);
    size_t run4 = (conv->run + 3) / 4 * 4, taps_in = taps / conv->n_runs;
    for (size_t o = 0; o < (size_t)(s->oc / s->groups); o++, to += conv->n_runs * run4) {
        for (size_t c = 0; c < cg; c++) {
            for (size_t t = 0; t < taps; t++) {
                to[t / taps_in * run4 + t % taps_in * cg + c] = w[(o * cg + c) * taps + t];
            }
        }
    }
}

static void place_runs(struct shr_conv_i8 *conv, bool adjacent)
{
    const struct shr_conv_shape *s = &conv->s;
    for (size_t i = 0; i < conv->n_runs; i++) {
        int64_t kh = (int64_t)i / (adjacent ? 1 : s->kw), kw = adjacent ? 0 : (int64_t)i % s->kw;
        conv->runs[i] = (uint32_t)((kh * s->dil_h * conv->wp + kw * s->dil_w) * conv->cp);
    }
}

/* Packs the groups by rows and at, which are scratch: the weights of a group, and where quads
 * stand. */
static void pack_each(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec, int8_t *rows,
                      uint32_t *at)
{
    const struct shr_conv_shape *s = &conv->s;
    size_t og = (size_t)(s->oc / s->groups), k_real = (size_t)(s->c / s->groups * s->kh * s->kw);
    size_t quads = (conv->run + 3) / 4, k = quads * conv->n_runs * 4;
    for (size_t i = 0; i < conv->n_runs * quads; i++) {
        at[i] = conv->runs[i / quads] + (uint32_t)(i % quads * 4);
    }
    for (size_t i = 0; i < (size_t)s->groups; i++) {
        const int32_t *zero = spec->w_zero != NULL ? spec->w_zero + i * og : NULL;
        unsigned char *packed = conv->packed + i * conv->packed_size;
        order_weights(conv, spec->w + i * og * k_real, rows);
        shr__i8_pack(k, k_real, og, rows, k, true, zero, packed);
        shr__i8_place(packed, at);
    }
}

static bool pack_groups(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec)
{
    const struct shr_conv_shape *s = &conv->s;
    size_t cg = (size_t)(s->c / s->groups), og = (size_t)(s->oc / s->groups);
    bool adjacent = s->groups == 1 && s->dil_w == 1;
    conv->n_runs = (size_t)(adjacent ? s->kh : s->kh * s->kw);
    conv->run = adjacent ? (size_t)s->kw * cg : cg;
    conv->in_place = s->pad_t == 0 && s->pad_l == 0 && conv->hp <= s->h && conv->wp <= s->w &&
                     conv->run % 4 == 0;
    conv->wp = conv->in_place ? s->w : conv->wp;
    size_t quads = (conv->run + 3) / 4 * conv->n_runs;
    conv->packed_size = shr__gemm_i8_size_avx2(quads * 4, og);
    conv->packed = shr_mem_aligned((size_t)s->groups * conv->packed_size);
    conv->runs = shr_mem_new(conv->n_runs, sizeof *conv->runs);
    int8_t *rows = shr_mem_new(og * quads, 4);
    uint32_t *at = shr_mem_new(quads, sizeof *at);
    bool good = conv->packed != NULL && conv->runs != NULL && rows != NULL && at != NULL;
    if (good) {
        place_runs(conv, adjacent);
        pack_each(conv, spec, rows, at);
    }
    shr_mem_free(rows);
    shr_mem_free(at);
    return good;
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

struct shr_conv_i8 *shr__conv_i8_new_avx2(const struct shr_conv_i8_spec *spec, size_t *ret_scratch)
{
    struct shr_conv_i8 *conv = shr_mem_new(1, sizeof *conv);
    if (conv == NULL) {
        return NULL;
    }
    conv->s = spec->shape;
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
    size_t values = (size_t)(conv->hp * conv->wp * conv->cp);
    /* the last quad of the last run may read three values more */
    *ret_scratch = conv->depthwise ? values * sizeof(int16_t) : conv->in_place ? 0 : values + 4;
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

/* x (h, w, c) to the padded copy in int16 (hp, wp, cp) */
static void widen_image(const struct shr_conv_i8 *conv, const uint8_t *x, int32_t x_zero,
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

/* An image that is being convolved. */
struct image {
    const struct shr_conv_i8 *conv;
    const struct shr_gemm_i8 *g;
    const uint8_t *x; /* (h, w, c) */
    uint8_t *padded;  /* (hp, wp, c), or NULL: x is read in place */
    size_t first;     /* element of the first result */
    size_t parts;     /* of the rows, or of a panel's pixels */
};

/* Rows of x to the padded copy. */
static void pad_rows(void *arg, size_t task, size_t worker)
{
    const struct image *m = arg;
    const struct shr_conv_i8 *conv = m->conv;
    const struct shr_conv_shape *s = &conv->s;
    size_t c = (size_t)s->c, row = (size_t)conv->wp * c;
    size_t left = i8_min((size_t)s->pad_l, (size_t)conv->wp) * c;
    size_t copied = i8_min(row - left, (size_t)s->w * c);
    size_t hp = (size_t)conv->hp, end = hp * (task + 1) / m->parts;
    (void)worker;
    for (size_t h = hp * task / m->parts; h < end; h++) {
        uint8_t *to = m->padded + h * row;
        int64_t ih = (int64_t)h - s->pad_t;
        if (ih < 0 || ih >= s->h) {
            memset(to, m->g->a_zero, row);
            continue;
        }
        memset(to, m->g->a_zero, left);
        memcpy(to + left, m->x + (size_t)(ih * s->w) * c, copied);
        memset(to + left + copied, m->g->a_zero, row - left - copied);
    }
}

/* A panel, or some of its pixels; panels are counted through all groups. */
static void run_task(void *arg, size_t task, size_t worker)
{
    const struct image *m = arg;
    const struct shr_conv_i8 *conv = m->conv;
    const struct shr_conv_shape *s = &conv->s;
    size_t og = m->g->n, panel = task / m->parts, part = task % m->parts;
    size_t panels = i8_panels((og + I8_COLS - 1) / I8_COLS), group = panel / panels;
    size_t pixels = (size_t)(s->oh * s->ow), size = shr__out_size(m->g->out);
    struct shr_gemm_i8 g = *m->g;
    struct i8_rows rows = {.a = (m->padded != NULL ? m->padded : m->x) +
                                group * (size_t)(s->c / s->groups),
                           .width = (size_t)s->ow,
                           .line = (size_t)(s->stride_h * conv->wp * s->c),
                           .step = (size_t)(s->stride_w * s->c),
                           .runs = conv->runs,
                           .n_runs = conv->n_runs,
                           .run = conv->run};
    (void)worker;
    g.b = conv->packed + group * conv->packed_size;
    g.bias = conv->bias != NULL ? conv->bias + group * og : NULL;
    g.scale = conv->scale != NULL ? conv->scale + group * og : NULL;
    g.bias_f32 = conv->bias_f32 != NULL ? conv->bias_f32 + group * og : NULL;
    g.c = (unsigned char *)g.c + (m->first + group * og) * size;
    shr__i8_multiply(&g, &rows, panel % panels, pixels * part / m->parts,
                     pixels * (part + 1) / m->parts);
}

static void run_groups(struct image *m, struct shr_team *team)
{
    const struct shr_conv_i8 *conv = m->conv;
    const struct shr_conv_shape *s = &conv->s;
    size_t pixels = (size_t)(s->oh * s->ow);
    size_t panels = i8_panels((m->g->n + I8_COLS - 1) / I8_COLS) * (size_t)s->groups;
    team = pixels * (size_t)(s->oc * (s->c / s->groups) * s->kh * s->kw) < I8_WORTH ? NULL : team;
    if (m->padded != NULL) {
        m->parts = i8_parts(team, 1, (size_t)conv->hp);
        memset(m->padded + conv->hp * conv->wp * s->c, 0, 4);
        shr_team_run(team, m->parts, pad_rows, m);
    }
    m->parts = i8_parts(team, panels, pixels);
    shr_team_run(team, panels * m->parts, run_task, m);
}

void shr__conv_i8_run_avx2(const struct shr_conv_i8 *conv, const uint8_t *x, int32_t x_zero,
                           void *y, void *scratch, struct shr_team *team)
{
    const struct shr_conv_shape *s = &conv->s;
    struct shr_gemm_i8 g = conv->g;
    g.a_zero = x_zero;
    g.c = y;
    for (int64_t i = 0; i < s->n; i++, x += s->h * s->w * s->c) {
        struct image m = {.conv = conv,
                          .g = &g,
                          .x = x,
                          .padded = conv->in_place ? NULL : scratch,
                          .first = (size_t)(i * s->oh * s->ow * s->oc)};
        if (conv->depthwise) {
            widen_image(conv, x, x_zero, scratch);
            run_depthwise(conv, &g, scratch, i);
        } else {
            run_groups(&m, team);
        }
    }
}
