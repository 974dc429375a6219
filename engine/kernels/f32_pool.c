/* Pools of float NHWC images, vectors of channels at a time. A task is a row of outputs. */
#include <string.h>

#include "core/team.h"
#include "kernels/f32_tile.h"

struct pool {
    const struct shr_conv_shape *s;
    bool mean, count_pad;
    const float *x;
    float *y;
};

struct taps {
    int64_t first;      /* of the window: where in x tap (0, 0) is or would be */
    int64_t h[2], w[2]; /* the taps inside */
    float scale;        /* of a mean */
};

/* channels [c, c + some) of a window */
SHR_INLINE vf pool_at(const struct pool *p, const struct taps *t, size_t c, size_t some)
{
    const struct shr_conv_shape *s = p->s;
    vf y = p->mean ? vf_zero() : vf_set1(-INFINITY);
    for (int64_t kh = t->h[0]; kh < t->h[1]; kh++) {
        const float *row = p->x + c;
        for (int64_t kw = t->w[0]; kw < t->w[1]; kw++) {
            const float *from = row + t->first + (kh * s->dil_h * s->w + kw * s->dil_w) * s->c;
            vf x = some == VF ? vf_load(from) : vf_load_some(from, some);
            y = p->mean ? vf_add(y, x) : vf_max_nan(x, y);
        }
    }
    return p->mean ? vf_mul(y, vf_set1(t->scale)) : y;
}

static void pool_row(void *arg, size_t row, size_t worker)
{
    const struct pool *p = arg;
    const struct shr_conv_shape *s = p->s;
    const int64_t image = (int64_t)row / s->oh, oh = (int64_t)row % s->oh;
    const int64_t top = oh * s->stride_h - s->pad_t;
    const size_t c = (size_t)s->c;
    float *y = p->y + (int64_t)row * s->ow * s->c;
    struct taps t;
    (void)worker;
    shr__taps_inside(top, s->dil_h, s->kh, s->h, &t.h[0], &t.h[1]);
    for (int64_t ow = 0; ow < s->ow; ow++, y += c) {
        const int64_t left = ow * s->stride_w - s->pad_l;
        size_t i = 0;
        shr__taps_inside(left, s->dil_w, s->kw, s->w, &t.w[0], &t.w[1]);
        t.first = ((image * s->h + top) * s->w + left) * s->c;
        t.scale = p->mean ? shr__pool_scale(s, p->count_pad, top, left) : 1;
        for (; i + VF <= c; i += VF) {
            vf_store(y + i, pool_at(p, &t, i, VF));
        }
        if (i < c) {
            vf_store_some(y + i, pool_at(p, &t, i, c - i), c - i);
        }
    }
}

static void pool_run(struct pool *p, struct shr_team *team)
{
    enum { WORTH = 50000 }; /* loads that pay for waking a thread */
    const struct shr_conv_shape *s = p->s;
    bool alone = s->n * s->oh * s->ow * s->c < WORTH / (s->kh * s->kw);
    shr_team_run(alone ? NULL : team, (size_t)(s->n * s->oh), pool_row, p);
}

void VF_NAME(maxpool_f32)(const struct shr_conv_shape *s, const float *x, float *y,
                          struct shr_team *team)
{
    struct pool p = {.s = s, .x = x, .y = y};
    pool_run(&p, team);
}

void VF_NAME(avgpool_f32)(const struct shr_conv_shape *s, bool count_pad, const float *x, float *y,
                          struct shr_team *team)
{
    struct pool p = {.s = s, .mean = true, .count_pad = count_pad, .x = x, .y = y};
    pool_run(&p, team);
}

/* ── Gradients ──────────────────────────────────────────────────────────────────────────────── */

struct pool_grad {
    const struct shr_conv_shape *s;
    bool mean, count_pad;
    const float *x, *y, *dy;
    float *dx;
};

SHR_INLINE vf load(const float *p, size_t some)
{
    return some == VF ? vf_load(p) : vf_load_some(p, some);
}

/* some <= VF channels of a maximum: to the first tap that equals it */
SHR_INLINE void max_grad_at(const struct pool_grad *p, const struct taps *t, int64_t y, size_t c,
                            const size_t some)
{
    const struct shr_conv_shape *s = p->s;
    const vf max = load(p->y + y + c, some);
    vf rest = load(p->dy + y + c, some);
    for (int64_t kh = t->h[0]; kh < t->h[1]; kh++) {
        for (int64_t kw = t->w[0]; kw < t->w[1]; kw++) {
            const int64_t at =
                t->first + (kh * s->dil_h * s->w + kw * s->dil_w) * s->c + (int64_t)c;
            const vf x = load(p->x + at, some), here = vf_same(x, max, rest, vf_zero());
            const vf sum = vf_add(load(p->dx + at, some), here);
            if (some == VF) {
                vf_store(p->dx + at, sum);
            } else {
                vf_store_some(p->dx + at, sum, some);
            }
            rest = vf_same(x, max, vf_zero(), rest);
        }
    }
}

static void max_grad(const struct pool_grad *p, const struct taps *t, int64_t y)
{
    const size_t c = (size_t)p->s->c;
    size_t i = 0;
    for (; i + VF <= c; i += VF) {
        max_grad_at(p, t, y, i, VF);
    }
    if (i < c) {
        max_grad_at(p, t, y, i, c - i);
    }
}

static void mean_grad(const struct pool_grad *p, const struct taps *t, int64_t y)
{
    const struct shr_conv_shape *s = p->s;
    const float *dy = p->dy + y, scale = t->scale;
    for (int64_t kh = t->h[0]; kh < t->h[1]; kh++) {
        for (int64_t kw = t->w[0]; kw < t->w[1]; kw++) {
            float *dx = p->dx + t->first + (kh * s->dil_h * s->w + kw * s->dil_w) * s->c;
            for (int64_t c = 0; c < s->c; c++) {
                const float part = dy[c] * scale; /* rounded by itself, as the reference does */
                dx[c] += part;
            }
        }
    }
}

/* An image: its windows may overlap. */
static void grad_image(void *arg, size_t image, size_t worker)
{
    const struct pool_grad *p = arg;
    const struct shr_conv_shape *s = p->s;
    const int64_t size = s->h * s->w * s->c, n = (int64_t)image;
    struct taps t;
    (void)worker;
    memset(p->dx + n * size, 0, (size_t)size * sizeof *p->dx);
    for (int64_t pixel = 0; pixel < s->oh * s->ow; pixel++) {
        const int64_t top = pixel / s->ow * s->stride_h - s->pad_t;
        const int64_t left = pixel % s->ow * s->stride_w - s->pad_l;
        const int64_t y = (n * s->oh * s->ow + pixel) * s->c;
        shr__taps_inside(top, s->dil_h, s->kh, s->h, &t.h[0], &t.h[1]);
        shr__taps_inside(left, s->dil_w, s->kw, s->w, &t.w[0], &t.w[1]);
        t.first = ((n * s->h + top) * s->w + left) * s->c;
        if (p->mean) {
            t.scale = shr__pool_scale(s, p->count_pad, top, left);
            mean_grad(p, &t, y);
        } else {
            max_grad(p, &t, y);
        }
    }
}

void VF_NAME(maxpool_grad_f32)(const struct shr_conv_shape *s, const float *x, const float *y,
                               const float *dy, float *dx, struct shr_team *team)
{
    struct pool_grad p = {.s = s, .x = x, .y = y, .dy = dy, .dx = dx};
    shr_team_run(team, (size_t)s->n, grad_image, &p);
}

void VF_NAME(avgpool_grad_f32)(const struct shr_conv_shape *s, bool count_pad, const float *dy,
                               float *dx, struct shr_team *team)
{
    struct pool_grad p = {.s = s, .mean = true, .count_pad = count_pad, .dy = dy, .dx = dx};
    shr_team_run(team, (size_t)s->n, grad_image, &p);
}
