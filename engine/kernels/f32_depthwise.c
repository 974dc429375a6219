/* Depthwise float convolution of NHWC images: every channel by itself, vectors of channels.
 *
 * A task is a row of outputs. It goes along the row by blocks of pixels and through the channels by
 * two vectors; pixels share the weights and, where the compiler knows the kernel's width and
 * stride, what they see of the image. At the borders, pixels go one by one and leave out the taps
 * in the padding. */
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

/* pixels x vectors results from channel c on, or the some < VF channels of a cut vector. kw, step
 * and right are known where this is inlined with a kernel of its own. */
SHR_INLINE void block(const struct window *t, const size_t c, const size_t pixels,
                      const size_t vectors, const size_t kw, const size_t step, const size_t right,
                      const size_t some)
{
    vf sum[PIXELS * 2];
    SHR_UNROLL
    for (size_t i = 0; i < pixels * vectors; i++) {
        sum[i] = vf_load(t->bias + c + i % vectors * VF);
    }
    for (size_t h = 0; h < t->kh; h++) {
        const float *x = t->x + h * t->line + c, *w = t->w + h * t->w_line + c;
        for (size_t k = 0; k < kw; k++) {
            SHR_UNROLL
            for (size_t v = 0; v < vectors; v++) {
                vf weight = vf_load(w + k * t->w_step + v * VF);
                SHR_UNROLL
                for (size_t i = 0; i < pixels; i++) {
                    const float *from = x + k * step + i * right + v * VF;
                    vf value = some < VF ? vf_load_some(from, some) : vf_load(from);
                    sum[i * vectors + v] = vf_fma(value, weight, sum[i * vectors + v]);
                }
            }
        }
    }
    SHR_UNROLL
    for (size_t i = 0; i < pixels * vectors; i++) {
        const size_t at = i / vectors * t->c + i % vectors * VF + c;
        if (t->residual != NULL) {
            const float *from = t->residual + at;
            sum[i] = vf_add(sum[i], some < VF ? vf_load_some(from, some) : vf_load(from));
        }
        sum[i] = vf_min(vf_set1(t->hi), vf_max(vf_set1(t->lo), sum[i]));
        if (some < VF) {
            vf_store_some(t->y + at, sum[i], some);
        } else {
            vf_store(t->y + at, sum[i]);
        }
    }
}

/* Channels [c, end) of the pixels, as far as there are two vectors of them. */
SHR_INLINE size_t blocks(const struct window *t, size_t c, size_t end, const size_t pixels,
                         const size_t kw, const size_t step, const size_t right)
{
    for (; c + 2 * VF <= end; c += 2 * VF) {
        block(t, c, pixels, 2, kw, step, right, VF);
    }
    return c;
}

static void rest(const struct window *t, size_t c, size_t end, const size_t pixels)
{
    for (size_t i = 0; i < pixels; i++) {
        struct window one = *t;
        one.x += i * t->right;
        one.y += i * t->c;
        one.residual = t->residual != NULL ? t->residual + i * t->c : NULL;
        size_t at = c;
        for (; at + VF <= end; at += VF) {
            block(&one, at, 1, 1, t->kw, t->step, t->right, VF);
        }
        if (at < end) {
            block(&one, at, 1, 1, t->kw, t->step, t->right, end - at);
        }
    }
}

/* The widths and strides of most networks know what they are. */
static void four_pixels(const struct window *t, size_t from, size_t to)
{
    const size_t c = t->c, kw = t->step == c ? t->kw : 0;
    size_t done;
    if (kw == 3 && t->right == c) {
        done = blocks(t, from, to, PIXELS, 3, c, c);
    } else if (kw == 3 && t->right == 2 * c) {
        done = blocks(t, from, to, PIXELS, 3, c, 2 * c);
    } else if (kw == 5 && t->right == c) {
        done = blocks(t, from, to, PIXELS, 5, c, c);
    } else if (kw == 5 && t->right == 2 * c) {
        done = blocks(t, from, to, PIXELS, 5, c, 2 * c);
    } else {
        done = blocks(t, from, to, PIXELS, t->kw, t->step, t->right);
    }
    rest(t, done, to, PIXELS);
}

static void one_pixel(const struct window *t, size_t from, size_t to)
{
    rest(t, blocks(t, from, to, 1, t->kw, t->step, t->right), to, 1);
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

struct shr_conv_f32 *VF_NAME(depthwise_new)(const struct shr_conv_f32_spec *spec,
                                            size_t *ret_scratch)
{
    const size_t c = (size_t)spec->shape.c, taps = (size_t)(spec->shape.kh * spec->shape.kw);
    struct conv *conv = shr_mem_new(1, sizeof *conv);
    if (conv == NULL) {
        return NULL;
    }
    conv->base = (struct shr_conv_f32){.run = conv_run, .free = conv_free};
    conv->s = spec->shape;
    conv->act = f32_act_of(spec);
    f32_bounds(&conv->act, &conv->lo, &conv->hi);
    conv->bias = VF_NAME(copy_bias)(spec);
    conv->w = shr_mem_new(taps * f32_padded(c), sizeof *conv->w);
    if (conv->bias == NULL || conv->w == NULL) {
        conv_free(&conv->base);
        return NULL;
    }
    for (size_t i = 0; i < c * taps; i++) { /* from (c, 1, kh, kw) */
        conv->w[i % taps * f32_padded(c) + i / taps] = spec->w[i];
    }
    *ret_scratch = 0;
    return &conv->base;
}
