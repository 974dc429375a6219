/* Fused elementwise steps of float32: activations, and a scale and shift a channel; see fuse.h.
 * Work is split into blocks that stay in the cache. */
#include <math.h>
#include <string.h>

#include "exec/fused.h"

enum { BLOCK = 2048 }; /* elements of a task */

static float clip(float v, float lo, float hi)
{
    v = v < lo ? lo : v; /* a NaN stays */
    return v > hi ? hi : v;
}

/* At most BLOCK elements; y may be x. */
static void act_block(const struct shr_kernels *kernels, struct shr__act act, size_t n,
                      const float *x, float *y)
{
    float gate[BLOCK];
    switch (act.kind) {
    case SHR_ACT_RELU:
        kernels->relu_f32(n, x, y);
        break;
    case SHR_ACT_SIGMOID:
        kernels->sigmoid_f32(n, x, y);
        break;
    case SHR_ACT_TANH:
        kernels->tanh_f32(n, x, y);
        break;
    case SHR_ACT_SILU:
        kernels->sigmoid_f32(n, x, gate);
        kernels->mul_f32(n, x, gate, y);
        break;
    case SHR_ACT_CLIP:
        for (size_t i = 0; i < n; i++) {
            y[i] = clip(x[i], act.lo, act.hi);
        }
        break;
    case SHR_ACT_LEAKY:
        for (size_t i = 0; i < n; i++) {
            y[i] = x[i] < 0 ? act.lo * x[i] : x[i];
        }
        break;
    case SHR_ACT_HARDSIGMOID:
        for (size_t i = 0; i < n; i++) {
            y[i] = clip(act.lo * x[i] + act.hi, 0, 1);
        }
        break;
    case SHR_ACT_HARDSWISH:
        for (size_t i = 0; i < n; i++) {
            y[i] = x[i] * clip(x[i] / 6 + 0.5f, 0, 1);
        }
        break;
    case SHR_ACT_GELU:
        for (size_t i = 0; i < n; i++) {
            y[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678f));
        }
        break;
    default:
        memmove(y, x, n * sizeof *y);
    }
}

struct elements {
    const struct shr_kernels *kernels;
    struct shr__act act;
    const float *x, *scale, *shift; /* scale and shift (c) */
    float *y;
    size_t n, c, inner; /* inner: elements of a channel that lie together */
};

static void act_task(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct elements *e = arg;
    const size_t at = task * BLOCK, n = e->n - at < BLOCK ? e->n - at : BLOCK;
    act_block(e->kernels, e->act, n, e->x + at, e->y + at);
}

static int act_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct elements *e = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *e, &e, err);
    if (rc != 0) {
        return rc;
    }
    const struct shr_tensor *x = c->in[0];
    bool nhwc = shr_node_int(c->node, "nhwc", 0) != 0;
    *e = (struct elements){.kernels = c->kernels,
                           .act = shr__fuse_act_of(c->node),
                           .n = (size_t)shr_tensor_count(x),
                           .inner = 1};
    if (c->n_in > 1) {
        e->scale = c->in[1]->data;
        e->shift = c->in[2]->data;
        e->c = (size_t)shr_tensor_count(c->in[1]);
        for (int d = 2; d < x->rank && !nhwc; d++) {
            e->inner *= (size_t)x->dim[d];
        }
    }
    c->state = e;
    return SHR_OK;
}

static int act_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct elements e = *(const struct elements *)c->state;
    e.x = c->in[0]->data;
    e.y = c->out[0]->data;
    shr_team_run(c->team, (e.n + BLOCK - 1) / BLOCK, act_task, &e);
    return SHR_OK;
}

const struct shr_op shr__fused_activation = {SHR__FUSED_ROW("Activation"), .setup = act_setup,
                                             .forward = act_forward, .in_place = 1};

/* ── Scale and shift ────────────────────────────────────────────────────────────────────────── */

/* A stretch of n elements of pixels that lie as NHWC; `first` is the channel of the first. */
static void affine_pixels(const struct elements *e, size_t first, size_t n, const float *x,
                          float *y)
{
    for (size_t done = 0; done < n; first = 0) {
        const size_t row = e->c - first < n - done ? e->c - first : n - done;
        const float *scale = e->scale + first, *shift = e->shift + first;
        for (size_t i = 0; i < row; i++) {
            y[done + i] = x[done + i] * scale[i] + shift[i];
        }
        done += row;
    }
}

/* The same of planes, NCHW. */
static void affine_planes(const struct elements *e, size_t at, size_t n, const float *x, float *y)
{
    for (size_t done = 0; done < n;) {
        const size_t left = e->inner - (at + done) % e->inner;
        const size_t row = left < n - done ? left : n - done, c = (at + done) / e->inner % e->c;
        for (size_t i = 0; i < row; i++) {
            y[done + i] = x[done + i] * e->scale[c] + e->shift[c];
        }
        done += row;
    }
}

static void affine_task(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct elements *e = arg;
    const size_t at = task * BLOCK, n = e->n - at < BLOCK ? e->n - at : BLOCK;
    if (e->inner == 1) {
        affine_pixels(e, at % e->c, n, e->x + at, e->y + at);
    } else {
        affine_planes(e, at, n, e->x + at, e->y + at);
    }
    if (e->act.kind != SHR_ACT_NONE) {
        act_block(e->kernels, e->act, n, e->y + at, e->y + at);
    }
}

static int affine_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct elements e = *(const struct elements *)c->state;
    e.x = c->in[0]->data;
    e.y = c->out[0]->data;
    shr_team_run(c->team, (e.n + BLOCK - 1) / BLOCK, affine_task, &e);
    return SHR_OK;
}

const struct shr_op shr__fused_affine = {SHR__FUSED_ROW("ScaleShift"), .setup = act_setup,
                                         .forward = affine_forward, .in_place = 1};
