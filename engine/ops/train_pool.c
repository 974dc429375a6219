/* Gradients of pools over 1 or 2 axes, float32, for backward rules: MaxPoolGrad (dy, x, y) and
 * AveragePoolGrad (dy), both with the attributes of the pool. They compute in NHWC. */
#include <string.h>

#include "ops/families.h"
#include "ops/train_image.h"

struct pool_grad {
    struct shr_conv_shape s;
    struct shr_image x, dx, y, dy;
};

static int pool_init(struct shr_op_setup *c, struct pool_grad **ret, struct shr_err *err)
{
    struct pool_grad *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = *ret = s;
    int code = shr_op_setup_f32(c, err);
    if (code == SHR_OK && (c->out[0]->rank < 3 || c->out[0]->rank > 4)) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "works over 1 or 2 axes");
    }
    if (code == SHR_OK) {
        code = shr_image_init(c, c->out[0], &s->dx, err);
    }
    if (code == SHR_OK) {
        code = shr_image_init(c, c->in[0], &s->dy, err);
    }
    struct shr_window win;
    if (code == SHR_OK) {
        code = shr_window_init(&win, c->node, &s->dx.nchw, NULL, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    s->s = shr_window_conv(&win, s->dx.n, s->dx.c, s->dx.c, 1);
    return s->dy.n == s->dx.n && s->dy.c == s->dx.c && s->dy.size == s->s.oh * s->s.ow
               ? SHR_OK
               : shr_op_fail(c->node, err, SHR_ERR_INVALID, "the operands do not fit each other");
}

static int max_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct pool_grad *s = NULL;
    int code = pool_init(c, &s, err);
    if (code == SHR_OK) {
        code = shr_image_init(c, c->in[1], &s->x, err);
    }
    if (code == SHR_OK) {
        code = shr_image_init(c, c->in[2], &s->y, err);
    }
    return code;
}

static int max_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct pool_grad *s = c->state;
    float *dx = shr_image_out(c, &s->dx, c->out[0]);
    c->kernels->maxpool_grad_f32(&s->s, shr_image_in(c, &s->x, c->in[1]),
                                 shr_image_in(c, &s->y, c->in[2]),
                                 shr_image_in(c, &s->dy, c->in[0]), dx, c->team);
    shr_image_done(c, &s->dx, c->out[0]);
    return SHR_OK;
}

static int max_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0] = c->in[1];
    return SHR_OK;
}

static int average_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct pool_grad *s = NULL;
    return pool_init(c, &s, err);
}

static int average_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct pool_grad *s = c->state;
    float *dx = shr_image_out(c, &s->dx, c->out[0]);
    c->kernels->avgpool_grad_f32(&s->s, shr_node_int(c->node, "count_include_pad", 0) != 0,
                                 shr_image_in(c, &s->dy, c->in[0]), dx, c->team);
    shr_image_done(c, &s->dx, c->out[0]);
    return SHR_OK;
}

#define TRAIN(name_, in_)                                                                          \
    .domain = SHR_TRAIN_DOMAIN, .name = name_, .since = 1, SHR_SLOTS(in_, in_, 1, 1), SHR_NO_WEIGHT

static const struct shr_op rows[] = {
    {TRAIN("AveragePoolGrad", 1), .infer = shr_infer_dims, .setup = average_setup,
     .forward = average_forward},
    {TRAIN("MaxPoolGrad", 3), .infer = max_infer, .setup = max_setup, .forward = max_forward},
};
const struct shr_op_family shr_ops_train_pool = {rows, SHR_COUNT_OF(rows)};
