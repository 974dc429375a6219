/* AVX2: convolution of uint8 NHWC activations.
 *
 * DESIGN. The inputs of an output pixel are runs of consecutive values: one a kernel row when taps
 * are adjacent, else one a tap. The runs have the same offsets from every pixel's first value, so
 * that the pixels of an image are the rows of a matrix that is never built (indirect convolution;
 * Dukhan, 2019), multiplied by the tile of the matrix product. Weights follow the same order, each
 * run filled up to whole quads with zeros: what a quad reads beyond its run does not count. Images
 * with padding, or whose last quad would read beyond the end, are copied once.
 *
 * One channel a group (depthwise) has no matrix: avx2_depthwise_i8.c. */
#include "kernels/avx2_conv_i8.h"
#include "base/mem.h"

static int64_t reach(int64_t out, int64_t stride, int64_t kernel, int64_t dil)
{
    return (out - 1) * stride + (kernel - 1) * dil + 1;
}

/* That of the first group. */
const char *shr__conv_i8_form_avx2(const struct shr_conv_i8 *conv)
{
    return conv->depthwise ? "depthwise" : shr__gemm_i8_form_avx2(conv->packed);
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
    for (size_t o = 0; o < (size_t)(s->oc / s->groups); o++, w += cg * taps) {
        for (size_t t = 0; t < taps; t++) {
            int8_t *run = to + t / taps_in * run4 + t % taps_in * cg;
            for (size_t c = 0; c < cg; c++) {
                run[c] = w[c * taps + t];
            }
        }
        to += conv->n_runs * run4;
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
              (conv->depthwise ? shr__depthwise_pack_avx2(conv, spec) : pack_groups(conv, spec));
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
            shr__depthwise_run_avx2(conv, &g, x, scratch, m.first, team);
        } else {
            run_groups(&m, team);
        }
    }
}
