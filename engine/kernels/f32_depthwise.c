/* Depthwise float convolution of NHWC images: every channel by itself, vectors of channels.
 *
 * A task is a row of outputs. It goes along the row by four pixels and through the channels by two
 * vectors; kernels of three and five columns have blocks of their own, in which four pixels share
 * the weights and what they see of the image. Elsewhere, and at the borders, where the taps in the
 * padding are left out, pixels go one by one. */
#include <string.h>

#include "base/mem.h"
#include "core/team.h"
#include "kernels/f32_conv.h"

enum { PIXELS = 4, CHANNELS = 16 * VF }; /* of a block */

struct conv {
    struct shr_conv_f32 base;
    struct shr_conv_shape s;
    struct f32_act act;
    float lo, hi;
    float *w;    /* (kh, kw, c up to whole vectors) */
    float *bias; /* (c up to whole vectors) */
};

struct run {
    const struct conv *conv;
    const float *x, *residual;
    float *y;
};

struct window {                           /* of some pixels */
    const float *x, *w, *bias, *residual; /* x, w: at the first tap inside; residual may be NULL */
    float *y;
    size_t kh, kw;            /* taps inside */
    size_t line, step, right; /* floats of x to the next row, tap, pixel */
    size_t w_line, w_step;    /* floats of w to the next row, tap */
    size_t c;                 /* floats of y to the next pixel */
    float lo, hi;
};

/* The end of a result: residual, clipping, store; of some <= VF channels. */
SHR_INLINE void finish(const struct window *t, size_t at, vf sum, const size_t some)
{
    if (t->residual != NULL) {
        const float *from = t->residual + at;
        sum = vf_add(sum, some < VF ? vf_load_some(from, some) : vf_load(from));
    }
    sum = vf_min(vf_set1(t->hi), vf_max(vf_set1(t->lo), sum));
    if (some < VF) {
        vf_store_some(t->y + at, sum, some);
    } else {
        vf_store(t->y + at, sum);
    }
}

/* Four pixels by two vectors from channel c on; a pixel is apart taps from the next. What pixels
 * see of a row is loaded once, and found from a pointer to every third tap, which leaves registers.
 */
SHR_INLINE void block(const struct window *t, const size_t c, const size_t kw, const size_t apart)
{
    enum { MAX_TAPS = 5, THIRDS = 4 };
    const size_t step = t->step, columns = kw + (PIXELS - 1) * apart;
    vf sum[PIXELS * 2];
    SHR_UNROLL
    for (size_t i = 0; i < PIXELS * 2; i++) {
        sum[i] = vf_load(t->bias + c + i % 2 * VF);
    }
    for (size_t h = 0; h < t->kh; h++) {
        const float *w = t->w + h * t->w_line + c, *x[THIRDS] = {t->x + h * t->line + c};
        SHR_UNROLL
        for (size_t i = 1; i < THIRDS; i++) {
            x[i] = x[i - 1] + 3 * step;
        }
        SHR_UNROLL
        for (size_t v = 0; v < 2; v++) {
            vf weight[MAX_TAPS];
            SHR_UNROLL
            for (size_t k = 0; k < kw; k++) {
                weight[k] = vf_load(w + k * t->w_step + v * VF);
            }
            SHR_UNROLL
            for (size_t j = 0; j < columns; j++) {
                const vf value = vf_load(x[j / 3] + j % 3 * step + v * VF);
                SHR_UNROLL
                for (size_t i = 0; i < PIXELS; i++) {
                    if (j >= i * apart && j - i * apart < kw) {
                        sum[i * 2 + v] = vf_fma(value, weight[j - i * apart], sum[i * 2 + v]);
                    }
                }
            }
        }
    }
    SHR_UNROLL
    for (size_t i = 0; i < PIXELS * 2; i++) {
        finish(t, i / 2 * t->c + i % 2 * VF + c, sum[i], VF);
    }
}

/* The same for one pixel by some vectors, and taps of any number. */
SHR_INLINE void one(const struct window *t, const size_t c, const size_t vectors, const size_t some)
{
    vf sum[4];
    SHR_UNROLL
    for (size_t v = 0; v < vectors; v++) {
        sum[v] = vf_load(t->bias + c + v * VF);
    }
    for (size_t h = 0; h < t->kh; h++) {
        const float *x = t->x + h * t->line + c, *w = t->w + h * t->w_line + c;
        for (size_t k = 0; k < t->kw; k++, x += t->step, w += t->w_step) {
            SHR_UNROLL
            for (size_t v = 0; v < vectors; v++) {
                const vf value = some < VF ? vf_load_some(x, some) : vf_load(x + v * VF);
                sum[v] = vf_fma(value, vf_load(w + v * VF), sum[v]);
            }
        }
    }
    SHR_UNROLL
    for (size_t v = 0; v < vectors; v++) {
        finish(t, c + v * VF, sum[v], some);
    }
}

static void one_pixel(const struct window *t, size_t from, size_t to)
{
    const struct window own = *t; /* a copy that no store can change */
    size_t c = from;
    for (; c + 4 * VF <= to; c += 4 * VF) {
        one(&own, c, 4, VF);
    }
    for (; c + VF <= to; c += VF) {
        one(&own, c, 1, VF);
    }
    if (c < to) {
        one(&own, c, 1, to - c);
    }
}

/* Pairs of vectors by a block that knows its kernel. */
SHR_INLINE size_t blocks(const struct window *t, size_t c, size_t to, const size_t kw,
                         const size_t apart)
{
    const struct window own = *t;
    for (; c + 2 * VF <= to; c += 2 * VF) {
        block(&own, c, kw, apart);
    }
    return c;
}

static void four_pixels(const struct window *t, size_t from, size_t to)
{
    const size_t apart = t->right == t->step ? 1 : t->right == 2 * t->step ? 2 : 0;
    switch (apart > 0 ? t->kw * 4 + apart : 0) {
    case 3 * 4 + 1:
        from = blocks(t, from, to, 3, 1);
        break;
    case 3 * 4 + 2:
        from = blocks(t, from, to, 3, 2);
        break;
    case 5 * 4 + 1:
        from = blocks(t, from, to, 5, 1);
        break;
    case 5 * 4 + 2:
        from = blocks(t, from, to, 5, 2);
        break;
    default:
        break;
    }
    struct window pixel = *t;
    for (size_t i = 0; i < PIXELS && from < to; i++) {
        one_pixel(&pixel, from, to);
        pixel.x += t->right;
        pixel.y += t->c;
        pixel.residual = t->residual != NULL ? pixel.residual + t->c : NULL;
    }
}

/* Channels [from, to) of a row of outputs; x is the row of the first tap inside, which is kh. */
static void channels(const struct run *run, const float *x, int64_t kh, size_t y, size_t from,
                     size_t to, struct window *t)
{
    const struct shr_conv_shape *s = &run->conv->s;
    int64_t first, end;
    for (int64_t ow = 0, pixels; ow < s->ow; ow += pixels) {
        const int64_t left = ow * s->stride_w - s->pad_l;
        const int64_t last = left + (PIXELS - 1) * s->stride_w + (s->kw - 1) * s->dil_w;
        pixels = ow + PIXELS <= s->ow && left >= 0 && last < s->w ? PIXELS : 1;
        shr__taps_inside(left, s->dil_w, s->kw, s->w, &first, &end);
        t->kw = (size_t)(end - first);
        t->x = t->kw > 0 ? x + (left + first * s->dil_w) * s->c : x;
        t->w = run->conv->w + (size_t)(kh * s->kw + first) * t->w_step;
        t->y = run->y + y + (size_t)ow * t->c;
        t->residual = run->residual != NULL ? run->residual + y + (size_t)ow * t->c : NULL;
        (pixels == 1 ? one_pixel : four_pixels)(t, from, to);
    }
}

static void conv_row(void *arg, size_t row, size_t worker)
{
    const struct run *run = arg;
    const struct conv *conv = run->conv;
    const struct shr_conv_shape *s = &conv->s;
    const size_t c = (size_t)s->c, y = row * (size_t)s->ow * c;
    const int64_t top = (int64_t)row % s->oh * s->stride_h - s->pad_t;
    int64_t first, end;
    shr__taps_inside(top, s->dil_h, s->kh, s->h, &first, &end);
    struct window t = {.bias = conv->bias,
                       .kh = (size_t)(end - first),
                       .line = (size_t)(s->dil_h * s->w * s->c),
                       .step = (size_t)s->dil_w * c,
                       .right = (size_t)s->stride_w * c,
                       .w_line = (size_t)s->kw * f32_padded(c),
                       .w_step = f32_padded(c),
                       .c = c,
                       .lo = conv->lo,
                       .hi = conv->hi};
    const float *x = run->x + (int64_t)row / s->oh * s->h * s->w * s->c;
    x += t.kh > 0 ? (top + first * s->dil_h) * s->w * s->c : 0;
    (void)worker;
    for (size_t i = 0; i < c; i += CHANNELS) {
        channels(run, x, first, y, i, f32_min(c, i + CHANNELS), &t);
    }
    if (conv->act.act > SHR_ACT_CLIP) {
        VF_NAME(act_f32)
        ((size_t)s->ow * c, run->y + y, conv->act.act, conv->act.lo, conv->act.hi, run->y + y);
    }
}

static void conv_run(const struct shr_conv_f32 *base, const float *x, const float *residual,
                     float *y, void *scratch, struct shr_team *team)
{
    const struct conv *conv = (const struct conv *)base;
    struct run run = {conv, x, residual, y};
    (void)scratch;
    shr_team_run(team, (size_t)(conv->s.n * conv->s.oh), conv_row, &run);
}

static void conv_free(struct shr_conv_f32 *base)
{
    struct conv *conv = (struct conv *)base;
    shr_mem_free(conv->w);
    shr_mem_free(conv->bias);
    shr_mem_free(conv);
}

/* from (c, 1, kh, kw) */
static void conv_load(struct shr_conv_f32 *base, const float *w, const float *bias)
{
    struct conv *conv = (struct conv *)base;
    const size_t c = (size_t)conv->s.c, taps = (size_t)(conv->s.kh * conv->s.kw);
    VF_NAME(bias_load)(c, bias, conv->bias);
    if (w == NULL) {
        return;
    }
    for (size_t i = 0; i < c * taps; i++) {
        conv->w[i % taps * f32_padded(c) + i / taps] = w[i];
    }
}

struct shr_conv_f32 *VF_NAME(depthwise_new)(const struct shr_conv_f32_spec *spec,
                                            size_t *ret_scratch)
{
    const size_t c = (size_t)spec->shape.c, taps = (size_t)(spec->shape.kh * spec->shape.kw);
    struct conv *conv = shr_mem_new(1, sizeof *conv);
    if (conv == NULL) {
        return NULL;
    }
    conv->base = (struct shr_conv_f32){
        .run = conv_run, .load = conv_load, .free = conv_free, .form = "depthwise"};
    conv->s = spec->shape;
    conv->act = f32_act_of(spec);
    f32_bounds(&conv->act, &conv->lo, &conv->hi);
    conv->bias = VF_NAME(bias_new)(spec);
    conv->w = shr_mem_new(taps * f32_padded(c), sizeof *conv->w);
    if (conv->bias == NULL || conv->w == NULL) {
        conv_free(&conv->base);
        return NULL;
    }
    if (spec->w != NULL) {
        conv_load(&conv->base, spec->w, spec->bias);
    }
    *ret_scratch = 0;
    return &conv->base;
}
