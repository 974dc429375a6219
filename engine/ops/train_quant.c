/* Fake quantization in training: FakeQuantize (x, log_scale) -> y and its gradient.
 *
 *     s = exp(log_scale), q = clamp(rint(x / s), lo, hi), y = s q
 *
 * lo and hi are attributes, the integers less the zero point. log_scale has one element, or one for
 * each index of the attribute axis. The gradient goes straight through rounding: dx = dy inside of
 * the range and 0 outside, and that of log_scale is the sum of dy s (q - x / s) inside and of
 * dy s q outside. DESIGN: learned thresholds in the logarithm, so that a step of Adam is a share of
 * the range (Jain et al., "Trained Quantization Thresholds", 2020), with the gradient of a scale
 * of Esser et al., "Learned Step Size Quantization" (2020). Sums are in parts of fixed size and do
 * not depend on the number of threads. */
#include "ops/util.h"

#include <math.h>

#include "core/team.h"
#include "ops/families.h"
#include "ops/grad.h"

enum { BLOCK = 16384 }; /* elements of a task, at most */

/* x (outer, channels, inner); a task is a block of one channel of one outer. */
struct fake {
    const float *x, *dy, *log_scale;
    float *y, *dx;
    double *sums; /* of the tasks, or NULL */
    size_t channels, inner, blocks;
    float lo, hi;
};

static struct fake fake_of(const struct shr_node *node, const struct shr_tensor *x,
                           const struct shr_tensor *log_scale)
{
    const int64_t axis = shr_node_int(node, "axis", -1);
    struct fake f = {.channels = 1,
                     .inner = (size_t)shr_tensor_count(x),
                     .lo = (float)shr_node_int(node, "lo", -127),
                     .hi = (float)shr_node_int(node, "hi", 127)};
    if (axis >= 0 && shr_tensor_count(log_scale) > 1) {
        f.channels = (size_t)x->dim[axis];
        f.inner = (size_t)shr_dims_product(x->dim, (int)axis + 1, x->rank);
    }
    f.blocks = (f.inner + BLOCK - 1) / BLOCK;
    return f;
}

static size_t tasks_of(const struct fake *f, const struct shr_tensor *x)
{
    const size_t n = (size_t)shr_tensor_count(x);
    return n == 0 ? 0 : n / f->inner * f->blocks;
}

struct part {
    size_t from, n;
    float scale;
};

static struct part part_of(const struct fake *f, size_t task)
{
    const size_t row = task / f->blocks, at = task % f->blocks * BLOCK;
    return (struct part){.from = row * f->inner + at,
                         .n = f->inner - at < BLOCK ? f->inner - at : BLOCK,
                         .scale = expf(f->log_scale[row % f->channels])};
}

/* rint for |v| < 2^22, without a call. */
SHR_INLINE float rounded(float v)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23 */
    return (v + magic) - magic;
}

SHR_INLINE float bounded(float v, float lo, float hi)
{
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
}

static void quantize_part(void *arg, size_t task, size_t worker)
{
    const struct fake *f = arg;
    const struct part p = part_of(f, task);
    const float *x = f->x + p.from;
    float *y = f->y + p.from;
    (void)worker;
    for (size_t i = 0; i < p.n; i++) {
        y[i] = p.scale * rounded(bounded(x[i] / p.scale, f->lo, f->hi));
    }
}

static void grad_part(void *arg, size_t task, size_t worker)
{
    const struct fake *f = arg;
    const struct part p = part_of(f, task);
    const float *x = f->x + p.from, *dy = f->dy + p.from;
    float *dx = f->dx + p.from;
    double sum = 0;
    (void)worker;
    for (size_t i = 0; i < p.n; i++) {
        const float v = x[i] / p.scale, q = rounded(bounded(v, f->lo, f->hi));
        const bool inside = v >= f->lo && v <= f->hi;
        dx[i] = inside ? dy[i] : 0.0f;
        sum += (double)(dy[i] * p.scale * (inside ? q - v : q));
    }
    f->sums[task] = sum;
}

static int fake_setup(struct shr_op_setup *c, struct shr_err *err)
{
    for (size_t i = 0; i < c->n_in; i++) {
        int rc = shr_op_want(c, i, SHR_BIT(F32), err);
        if (rc != SHR_OK) {
            return rc;
        }
    }
    return SHR_OK;
}

static int fake_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct fake f = fake_of(c->node, c->in[0], c->in[1]);
    f.x = c->in[0]->data;
    f.log_scale = c->in[1]->data;
    f.y = c->out[0]->data;
    shr_team_run(c->team, tasks_of(&f, c->in[0]), quantize_part, &f);
    return SHR_OK;
}

static int grad_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct fake f = fake_of(c->node, c->in[1], c->in[2]);
    c->scratch = tasks_of(&f, c->in[1]) * sizeof(double);
    return fake_setup(c, err);
}

static int grad_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct fake f = fake_of(c->node, c->in[1], c->in[2]);
    const size_t tasks = tasks_of(&f, c->in[1]);
    double *sums = c->scratch;
    float *dlog = c->out[1]->data;
    f.dy = c->in[0]->data;
    f.x = c->in[1]->data;
    f.log_scale = c->in[2]->data;
    f.dx = c->out[0]->data;
    f.sums = sums;
    shr_team_run(c->team, tasks, grad_part, &f);
    for (size_t channel = 0; channel < f.channels; channel++) {
        double sum = 0;
        for (size_t row = channel; row * f.blocks < tasks; row += f.channels) {
            for (size_t b = 0; b < f.blocks; b++) {
                sum += sums[row * f.blocks + b];
            }
        }
        dlog[channel] = (float)sum;
    }
    return SHR_OK;
}

static int grad_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0] = c->in[1];
    c->out[1] = c->in[2];
    return SHR_OK;
}

SHR_BACKWARD(fake_quantize)
{
    (void)err;
    struct shr_value *d[2];
    shr_grad_emit_many(
        g, SHR_TRAIN_DOMAIN, "FakeQuantizeGrad",
        SHR_GRAD_VALUES(shr_grad_of(g, 0), shr_node_in(g->node, 0), shr_node_in(g->node, 1)), d, 2);
    shr_grad_attrs(g, g->node);
    shr_grad_give(g, 0, d[0]);
    shr_grad_give(g, 1, d[1]);
    return g->rc;
}

static const struct shr_op rows[] = {
    {.domain = SHR_TRAIN_DOMAIN,
     .name = "FakeQuantize",
     .since = 1,
     SHR_SLOTS(2, 2, 1, 1),
     .infer = shr_infer_same,
     .setup = fake_setup,
     .forward = fake_forward,
     SHR_NO_WEIGHT,
     .backward = shr_backward_fake_quantize},
    {.domain = SHR_TRAIN_DOMAIN,
     .name = "FakeQuantizeGrad",
     .since = 1,
     SHR_SLOTS(3, 3, 2, 2),
     .infer = grad_infer,
     .setup = grad_setup,
     .forward = grad_forward,
     SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_train_quant = {rows, SHR_COUNT_OF(rows)};
