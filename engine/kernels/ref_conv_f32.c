/* Reference kernels: float convolution and pools of NHWC images, portable C.
 *
 * Weights are kept as (group, kh, kw, c of the group, oc of the group), so that the innermost loop
 * runs over output channels, which compilers turn into vectors; a depthwise convolution, whose
 * groups have one channel, keeps (kh, kw, oc) and runs over groups instead. A block of sums stays
 * in a small array. Products are added in the order (kh, kw, c). */
#include <string.h>

#include "base/mem.h"
#include "kernels/internal.h"

enum { BLOCK = 32 }; /* sums at a time */

struct conv {
    struct shr_conv_f32 base;
    struct shr_conv_f32_spec spec; /* without w and bias */
    bool depthwise;                /* c == oc == groups */
    float *w, *bias;               /* see above; (oc) */
};

/* What an output pixel sees: its image, and the taps that are inside. */
struct window {
    const float *x;
    int64_t top, left, kh[2], kw[2];
};

static struct window window_of(const struct shr_conv_shape *s, const float *x, int64_t pixel)
{
    struct window v = {.x = x + pixel / (s->oh * s->ow) * s->h * s->w * s->c,
                       .top = pixel / s->ow % s->oh * s->stride_h - s->pad_t,
                       .left = pixel % s->ow * s->stride_w - s->pad_l};
    shr__taps_inside(v.top, s->dil_h, s->kh, s->h, &v.kh[0], &v.kh[1]);
    shr__taps_inside(v.left, s->dil_w, s->kw, s->w, &v.kw[0], &v.kw[1]);
    return v;
}

static const float *tap_at(const struct shr_conv_shape *s, const struct window *v, int64_t kh,
                           int64_t kw)
{
    return v->x + ((v->top + kh * s->dil_h) * s->w + v->left + kw * s->dil_w) * s->c;
}

/* sum (n) += the n output channels from oc on, all of one group */
static void sum_dense(const struct conv *conv, const struct window *v, int64_t oc, int64_t n,
                      float *sum)
{
    const struct shr_conv_shape *s = &conv->spec.shape;
    int64_t cg = s->c / s->groups, og = s->oc / s->groups, g = oc / og;
    for (int64_t kh = v->kh[0]; kh < v->kh[1]; kh++) {
        for (int64_t kw = v->kw[0]; kw < v->kw[1]; kw++) {
            const float *x = tap_at(s, v, kh, kw) + g * cg;
            const float *w = conv->w + ((g * s->kh + kh) * s->kw + kw) * cg * og + oc % og;
            for (int64_t c = 0; c < cg; c++, w += og) {
                for (int64_t i = 0; i < n; i++) {
                    sum[i] += x[c] * w[i];
                }
            }
        }
    }
}

static void sum_depthwise(const struct conv *conv, const struct window *v, int64_t oc, int64_t n,
                          float *sum)
{
    const struct shr_conv_shape *s = &conv->spec.shape;
    for (int64_t kh = v->kh[0]; kh < v->kh[1]; kh++) {
        for (int64_t kw = v->kw[0]; kw < v->kw[1]; kw++) {
            const float *x = tap_at(s, v, kh, kw) + oc;
            const float *w = conv->w + (kh * s->kw + kw) * s->oc + oc;
            for (int64_t i = 0; i < n; i++) {
                sum[i] += x[i] * w[i];
            }
        }
    }
}

static void conv_run(const struct shr_conv_f32 *base, const float *x, const float *residual,
                     float *y, void *scratch, struct shr_team *team)
{
    const struct conv *conv = (const struct conv *)base;
    const struct shr_conv_shape *s = &conv->spec.shape;
    int64_t span = conv->depthwise ? s->oc : s->oc / s->groups;
    (void)scratch;
    (void)team;
    for (int64_t pixel = 0; pixel < s->n * s->oh * s->ow; pixel++) {
        struct window v = window_of(s, x, pixel);
        for (int64_t oc = 0, n; oc < s->oc; oc += n) {
            float sum[BLOCK];
            n = span - oc % span < BLOCK ? span - oc % span : BLOCK;
            memcpy(sum, conv->bias + oc, (size_t)n * sizeof *sum);
            (conv->depthwise ? sum_depthwise : sum_dense)(conv, &v, oc, n, sum);
            for (int64_t i = 0, at = pixel * s->oc + oc; i < n; i++, at++) {
                float value = residual != NULL ? sum[i] + residual[at] : sum[i];
                y[at] = shr__act(value, conv->spec.act, conv->spec.act_lo, conv->spec.act_hi);
            }
        }
    }
}

static void conv_free(struct shr_conv_f32 *base)
{
    struct conv *conv = (struct conv *)base;
    shr_mem_free(conv->w);
    shr_mem_free(conv->bias);
    shr_mem_free(conv);
}

static void conv_load(struct shr_conv_f32 *base, const float *w, const float *bias)
{
    struct conv *conv = (struct conv *)base;
    const struct shr_conv_shape *s = &conv->spec.shape;
    int64_t cg = s->c / s->groups, taps = s->kh * s->kw;
    int64_t og = conv->depthwise ? s->oc : s->oc / s->groups;
    for (int64_t oc = 0; oc < s->oc; oc++) {
        for (int64_t c = 0; c < cg; c++) {
            for (int64_t t = 0; t < taps && w != NULL; t++) {
                conv->w[((oc / og * taps + t) * cg + c) * og + oc % og] = *w++;
            }
        }
        conv->bias[oc] = bias == NULL ? 0 : bias[oc];
    }
}

struct shr_conv_f32 *shr__conv_f32_new_ref(const struct shr_conv_f32_spec *spec,
                                           size_t *ret_scratch)
{
    const struct shr_conv_shape *s = &spec->shape;
    size_t n_w = (size_t)(s->oc * (s->c / s->groups) * s->kh * s->kw);
    struct conv *conv = shr_mem_new(1, sizeof *conv);
    if (conv == NULL) {
        return NULL;
    }
    conv->base = (struct shr_conv_f32){
        .run = conv_run, .load = conv_load, .free = conv_free, .form = "reference"};
    conv->spec = *spec;
    conv->depthwise = s->groups == s->c && s->groups == s->oc;
    conv->w = shr_mem_new(n_w, sizeof *conv->w);
    conv->bias = shr_mem_new((size_t)s->oc, sizeof *conv->bias);
    if (conv->w == NULL || conv->bias == NULL) {
        conv_free(&conv->base);
        return NULL;
    }
    if (spec->w != NULL) {
        conv_load(&conv->base, spec->w, spec->bias);
    }
    conv->spec.w = conv->spec.bias = NULL;
    *ret_scratch = 0;
    return &conv->base;
}

void shr__conv_f32_run(const struct shr_conv_f32 *conv, const float *x, const float *residual,
                       float *y, void *scratch, struct shr_team *team)
{
    conv->run(conv, x, residual, y, scratch, team);
}

void shr__conv_f32_load(struct shr_conv_f32 *conv, const float *w, const float *bias)
{
    conv->load(conv, w, bias);
}

const char *shr__conv_f32_form(const struct shr_conv_f32 *conv)
{
    return conv->form;
}

void shr__conv_f32_free(struct shr_conv_f32 *conv)
{
    if (conv != NULL) {
        conv->free(conv);
    }
}

/* ── Pools ──────────────────────────────────────────────────────────────────────────────────── */

void shr__maxpool_f32_ref(const struct shr_conv_shape *s, const float *x, float *y,
                          struct shr_team *team)
{
    (void)team;
    for (int64_t pixel = 0; pixel < s->n * s->oh * s->ow; pixel++, y += s->c) {
        struct window v = window_of(s, x, pixel);
        for (int64_t c = 0; c < s->c; c++) {
            y[c] = -INFINITY;
        }
        for (int64_t kh = v.kh[0]; kh < v.kh[1]; kh++) {
            for (int64_t kw = v.kw[0]; kw < v.kw[1]; kw++) {
                const float *from = tap_at(s, &v, kh, kw);
                for (int64_t c = 0; c < s->c; c++) {
                    y[c] = from[c] > y[c] || from[c] != from[c] ? from[c] : y[c];
                }
            }
        }
    }
}

void shr__avgpool_f32_ref(const struct shr_conv_shape *s, bool count_pad, const float *x, float *y,
                          struct shr_team *team)
{
    (void)team;
    for (int64_t pixel = 0; pixel < s->n * s->oh * s->ow; pixel++, y += s->c) {
        struct window v = window_of(s, x, pixel);
        float scale = shr__pool_scale(s, count_pad, v.top, v.left);
        for (int64_t c = 0; c < s->c; c++) {
            y[c] = 0;
        }
        for (int64_t kh = v.kh[0]; kh < v.kh[1]; kh++) {
            for (int64_t kw = v.kw[0]; kw < v.kw[1]; kw++) {
                const float *from = tap_at(s, &v, kh, kw);
                for (int64_t c = 0; c < s->c; c++) {
                    y[c] += from[c];
                }
            }
        }
        for (int64_t c = 0; c < s->c; c++) {
            y[c] *= scale;
        }
    }
}

/* ── Gradients of pools ─────────────────────────────────────────────────────────────────────── */

void shr__maxpool_grad_f32_ref(const struct shr_conv_shape *s, const float *x, const float *y,
                               const float *dy, float *dx, struct shr_team *team)
{
    (void)team;
    memset(dx, 0, (size_t)(s->n * s->h * s->w * s->c) * sizeof *dx);
    for (int64_t pixel = 0; pixel < s->n * s->oh * s->ow; pixel++, y += s->c, dy += s->c) {
        struct window v = window_of(s, x, pixel);
        for (int64_t c = 0; c < s->c; c++) {
            bool found = false;
            for (int64_t t = 0; t < s->kh * s->kw && !found; t++) {
                int64_t kh = t / s->kw, kw = t % s->kw;
                if (kh >= v.kh[0] && kh < v.kh[1] && kw >= v.kw[0] && kw < v.kw[1]) {
                    const float *at = tap_at(s, &v, kh, kw) + c;
                    found = *at == y[c] || (*at != *at && y[c] != y[c]);
                    dx[at - x] += found ? dy[c] : 0;
                }
            }
        }
    }
}

void shr__avgpool_grad_f32_ref(const struct shr_conv_shape *s, bool count_pad, const float *dy,
                               float *dx, struct shr_team *team)
{
    (void)team;
    memset(dx, 0, (size_t)(s->n * s->h * s->w * s->c) * sizeof *dx);
    for (int64_t pixel = 0; pixel < s->n * s->oh * s->ow; pixel++, dy += s->c) {
        struct window v = window_of(s, dx, pixel);
        float scale = shr__pool_scale(s, count_pad, v.top, v.left);
        for (int64_t kh = v.kh[0]; kh < v.kh[1]; kh++) {
            for (int64_t kw = v.kw[0]; kw < v.kw[1]; kw++) {
                float *to = dx + (tap_at(s, &v, kh, kw) - dx);
                for (int64_t c = 0; c < s->c; c++) {
                    const float part = dy[c] * scale;
                    to[c] += part;
                }
            }
        }
    }
}
