/* Pools of float NHWC images, vectors of channels at a time. A task is a row of outputs. */
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
