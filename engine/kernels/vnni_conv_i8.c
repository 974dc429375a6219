/* VNNI: convolution of uint8 NHWC activations.
 *
 * DESIGN. The inputs of an output pixel are a few segments of consecutive values: one a kernel row
 * when taps are adjacent, else one a tap. The segments have the same offsets from every pixel's
 * first value, so that a pixel is a pointer, and the pixels of an image are the rows of a matrix
 * that is never built (indirect convolution; Dukhan, 2019). Weights follow the same order, every
 * segment filled up to whole quads with zeros: what a quad reads beyond its segment does not
 * count. Images with padding, or whose last quad would read beyond the end, are copied once.
 *
 * One channel a group (depthwise) has no matrix: vnni_depthwise.c. */
#include "kernels/vnni_conv_i8.h"

#include "base/mem.h"

static int64_t reach(int64_t out, int64_t stride, int64_t kernel, int64_t dil)
{
    return (out - 1) * stride + (kernel - 1) * dil + 1;
}

const char *VNNI(conv_i8_form)(const struct shr_conv_i8 *conv)
{
    return conv->depthwise ? "depthwise" : VNNI(gemm_i8_form)(conv->packed);
}

void VNNI(conv_i8_free)(struct shr_conv_i8 *conv)
{
    if (conv == NULL) {
        return;
    }
    shr_mem_free(conv->packed);
    shr_mem_free(conv->columns);
    shr_mem_free(conv->at);
    shr_mem_free(conv->weights);
    shr_mem_free(conv);
}

/* Copies of bias, scale and float bias; false = out of memory. */
static bool copy_columns(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec)
{
    const void *from[] = {spec->bias, spec->scale, spec->bias_f32};
    size_t n = (size_t)conv->s.oc;
    conv->columns = shr_mem_new(n, sizeof *conv->columns * SHR_COUNT_OF(from));
    if (conv->columns == NULL) {
        return false;
    }
    for (size_t i = 0; i < SHR_COUNT_OF(from); i++) {
        if (from[i] != NULL) {
            memcpy(conv->columns + i * n, from[i], n * sizeof *conv->columns);
        }
    }
    conv->bias = spec->bias != NULL ? (const int32_t *)conv->columns : NULL;
    conv->scale = spec->scale != NULL ? (const float *)(conv->columns + n) : NULL;
    conv->bias_f32 = spec->bias_f32 != NULL ? (const float *)(conv->columns + 2 * n) : NULL;
    return true;
}

/* Weights (og, cg, kh, kw) of a group as rows (og, k) in the order of the segments. */
static void order_weights(const struct shr_conv_i8 *conv, const int8_t *w, int8_t *to)
{
    const struct shr_conv_shape *s = &conv->s;
    size_t cg = (size_t)(s->c / s->groups), taps = (size_t)(s->kh * s->kw);
    size_t quads4 = conv->quads * 4, taps_in = taps / conv->segments;
    for (size_t o = 0; o < (size_t)(s->oc / s->groups); o++, to += conv->segments * quads4) {
        for (size_t c = 0; c < cg; c++) {
            for (size_t t = 0; t < taps; t++) {
                to[t / taps_in * quads4 + t % taps_in * cg + c] = w[(o * cg + c) * taps + t];
            }
        }
    }
}

static bool pack_groups(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec)
{
    const struct shr_conv_shape *s = &conv->s;
    size_t cg = (size_t)(s->c / s->groups), og = (size_t)(s->oc / s->groups);
    size_t taps = (size_t)(s->kh * s->kw);
    bool adjacent = s->groups == 1 && s->dil_w == 1;
    conv->segments = adjacent ? (size_t)s->kh : taps;
    conv->run = adjacent ? (size_t)s->kw * cg : cg;
    conv->quads = (conv->run + 3) / 4;
    size_t k = conv->quads * 4 * conv->segments;
    conv->packed_size = VNNI(gemm_i8_size)(k, og);
    conv->packed = shr_mem_aligned((size_t)s->groups * conv->packed_size);
    conv->at = shr_mem_new(conv->segments, sizeof *conv->at);
    int8_t *rows = shr_mem_new(og, k);
    if (conv->packed == NULL || rows == NULL || conv->at == NULL) {
        shr_mem_free(rows);
        return false;
    }
    for (size_t i = 0; i < conv->segments; i++) {
        int64_t kh = (int64_t)i / (adjacent ? 1 : s->kw), kw = adjacent ? 0 : (int64_t)i % s->kw;
        conv->at[i] = (size_t)((kh * s->dil_h * conv->wp + kw * s->dil_w) * conv->cp);
    }
    for (size_t i = 0; i < (size_t)s->groups; i++) {
        const int32_t *zero = spec->w_zero != NULL ? spec->w_zero + i * og : NULL;
        order_weights(conv, spec->w + i * og * cg * taps, rows);
        VNNI(i8_pack)
        (k, cg * taps, og, rows, k, true, zero, conv->packed + i * conv->packed_size);
    }
    shr_mem_free(rows);
    return true;
}

struct shr_conv_i8 *VNNI(conv_i8_new)(const struct shr_conv_i8_spec *spec, size_t *ret_scratch)
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
    conv->cp = conv->depthwise ? (s->c + VECTOR - 1) / VECTOR * VECTOR : s->c;
    conv->g = (struct shr_gemm_i8){.n = (size_t)(conv->depthwise ? s->oc : s->oc / s->groups),
                                   .ldc = (size_t)s->oc,
                                   .out = spec->out,
                                   .c_zero = spec->y_zero,
                                   .act = spec->act,
                                   .c_min = spec->y_min,
                                   .c_max = spec->y_max};
    if (!copy_columns(conv, spec) ||
        !(conv->depthwise ? VNNI(depthwise_pack)(conv, spec) : pack_groups(conv, spec))) {
        VNNI(conv_i8_free)(conv);
        return NULL;
    }
    conv->in_place = !conv->depthwise && s->pad_t == 0 && s->pad_l == 0 && conv->hp <= s->h &&
                     conv->wp <= s->w && conv->run % 4 == 0;
    if (conv->in_place && conv->wp != s->w) { /* segments count from the rows of x itself */
        for (size_t i = 0; i < conv->segments; i++) {
            size_t row = (size_t)(conv->wp * conv->cp);
            conv->at[i] = conv->at[i] / row * (size_t)(s->w * s->c) + conv->at[i] % row;
        }
        conv->wp = s->w;
    }
    /* a depthwise row may read four pixels more, a quad three values */
    *ret_scratch = conv->in_place ? 0 : (size_t)((conv->hp * conv->wp + 4) * conv->cp) + 4;
    return conv;
}

/* An image that is being convolved. */
struct image {
    const struct shr_conv_i8 *conv;
    const struct shr_gemm_i8 *g;
    const uint8_t *x; /* (h, w, c) */
    uint8_t *padded;  /* (hp, wp, cp), or NULL: x is read in place */
    size_t first;     /* element of the first result */
    size_t parts;     /* of the work, or of a panel's tiles */
};

/* Rows of x to the padded copy. */
static void pad_rows(void *arg, size_t task, size_t worker)
{
    const struct image *m = arg;
    const struct shr_conv_i8 *conv = m->conv;
    const struct shr_conv_shape *s = &conv->s;
    size_t c = (size_t)s->c, cp = (size_t)conv->cp, row = (size_t)conv->wp * cp;
    size_t left = vnni_min((size_t)s->pad_l, (size_t)conv->wp);
    size_t copied = vnni_min((size_t)conv->wp - left, (size_t)s->w);
    size_t hp = (size_t)conv->hp, end = hp * (task + 1) / m->parts;
    (void)worker;
    for (size_t h = hp * task / m->parts; h < end; h++) {
        uint8_t *to = m->padded + h * row;
        int64_t ih = (int64_t)h - s->pad_t;
        memset(to, m->g->a_zero, row);
        if (ih < 0 || ih >= s->h) {
            continue;
        }
        const uint8_t *from = m->x + (size_t)(ih * s->w) * c;
        if (c == cp) {
            memcpy(to + left * cp, from, copied * c);
        } else {
            for (size_t i = 0; i < copied; i++) {
                memcpy(to + (left + i) * cp, from + i * c, c);
            }
        }
    }
}

static int32_t window_sum(const struct shr_conv_i8 *conv, const uint8_t *a)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < conv->segments; i++) {
        for (size_t j = 0; j < conv->run; j++) {
            sum += a[conv->at[i] + j];
        }
    }
    return (int32_t)sum;
}

/* Pixels of a panel of the output channels of a group. x points to the group's first channel, first
 * is the element of the image's first pixel and the panel's first channel. */
static void run_panel(const struct shr_conv_i8 *conv, const struct vnni_panel *p, const uint8_t *x,
                      size_t first, size_t pixel, size_t end)
{
    const struct shr_conv_shape *s = &conv->s;
    size_t ow = (size_t)s->ow, oh = pixel / ow, in_row = pixel % ow;
    size_t step = (size_t)(s->stride_w * conv->cp);
    size_t row = (size_t)(s->stride_h * conv->wp * conv->cp);
    struct vnni_rows r = {.at = conv->at, .segments = conv->segments, .quads = conv->quads};
    for (; pixel < end; pixel += ROWS) {
        size_t rows = vnni_min(end - pixel, ROWS), at[ROWS];
        int32_t sums[ROWS] = {0};
        for (size_t k = 0; k < rows; k++) {
            r.a[k] = x + oh * row + in_row * step;
            at[k] = first + (pixel + k) * p->g->ldc;
            sums[k] = p->has_zero ? window_sum(conv, r.a[k]) : 0;
            in_row++;
            if (in_row == ow) {
                in_row = 0;
                oh++;
            }
        }
        vnni_run(p, rows, &r, at, sums);
    }
}

/* A panel, or some tiles of it; panels are counted through all groups. */
static void run_task(void *arg, size_t task, size_t worker)
{
    const struct image *m = arg;
    const struct shr_conv_i8 *conv = m->conv;
    size_t og = m->g->n, cg = (size_t)(conv->s.c / conv->s.groups), panel = task / m->parts;
    size_t panels = (og + LANES * PANEL - 1) / (LANES * PANEL), group = panel / panels;
    size_t block = panel % panels * PANEL, part = task % m->parts;
    size_t pixels = (size_t)(conv->s.oh * conv->s.ow), tiles = (pixels + ROWS - 1) / ROWS;
    struct shr_gemm_i8 g = *m->g;
    (void)worker;
    g.b = conv->packed + group * conv->packed_size;
    g.bias = conv->bias != NULL ? conv->bias + group * og : NULL;
    g.scale = conv->scale != NULL ? conv->scale + group * og : NULL;
    g.bias_f32 = conv->bias_f32 != NULL ? conv->bias_f32 + group * og : NULL;
    struct vnni_panel p = vnni_panel_of(&g, block);
    run_panel(conv, &p, (m->padded != NULL ? m->padded : m->x) + group * cg,
              m->first + group * og + block * LANES, tiles * part / m->parts * ROWS,
              vnni_min(tiles * (part + 1) / m->parts * ROWS, pixels));
}

static void depthwise_task(void *arg, size_t task, size_t worker)
{
    const struct image *m = arg;
    (void)worker;
    VNNI(depthwise_row)(m->conv, m->g, m->padded, m->first, task);
}

void VNNI(conv_i8_run)(const struct shr_conv_i8 *conv, const uint8_t *x, int32_t x_zero, void *y,
                       void *scratch, struct shr_team *team)
{
    const struct shr_conv_shape *s = &conv->s;
    struct shr_gemm_i8 g = conv->g;
    g.a_zero = x_zero;
    g.bias_f32 = conv->bias_f32;
    g.c = y;
    size_t pixels = (size_t)(s->oh * s->ow), tiles = (pixels + ROWS - 1) / ROWS;
    size_t panels = (g.n + LANES * PANEL - 1) / (LANES * PANEL) * (size_t)s->groups;
    team = pixels * (size_t)(s->oc * (s->c / s->groups) * s->kh * s->kw) < WORTH ? NULL : team;
    for (int64_t i = 0; i < s->n; i++, x += s->h * s->w * s->c) {
        struct image m = {.conv = conv,
                          .g = &g,
                          .x = x,
                          .padded = conv->in_place ? NULL : scratch,
                          .first = (size_t)i * pixels * (size_t)s->oc};
        if (!conv->in_place) {
            m.parts = vnni_parts(team, 1, (size_t)conv->hp);
            memset(m.padded + conv->hp * conv->wp * conv->cp, 0, 4 * (size_t)conv->cp + 4);
            shr_team_run(team, m.parts, pad_rows, &m);
        }
        if (conv->depthwise) {
            shr_team_run(team, (size_t)s->oh, depthwise_task, &m);
        } else {
            m.parts = vnni_parts(team, panels, tiles);
            shr_team_run(team, panels * m.parts, run_task, &m);
        }
    }
}
