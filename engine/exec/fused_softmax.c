/* The fused step of attention's Softmax: softmax(mask(x * scale + bias)) of the last axis; see
 * fuse.h. A task is some rows. */
#include "exec/fused.h"

enum { TASK = 4096 }; /* elements, about */

struct softmax {
    size_t rows, n, a_task;
    int64_t bias[SHR_MAX_RANK], mask[SHR_MAX_RANK]; /* strides over x, of the last dim too */
    float scale, fill;
    bool fills_where;
};

static int softmax_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct softmax *s = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *s, &s, err);
    if (rc != 0) {
        return rc;
    }
    s->n = (size_t)x->dim[x->rank - 1];
    s->rows = s->n == 0 ? 0 : (size_t)shr_tensor_count(x) / s->n;
    s->a_task = s->n == 0 || s->n >= TASK ? 1 : TASK / s->n;
    s->scale = shr_node_float(c->node, "scale", 1);
    s->fill = shr_node_float(c->node, "fill", 0);
    s->fills_where = shr_node_int(c->node, "fills_where", 0) != 0;
    if (c->in[1] != NULL) {
        shr_broadcast_strides(c->in[1], x->rank, s->bias);
    }
    if (c->in[2] != NULL) {
        shr_broadcast_strides(c->in[2], x->rank, s->mask);
    }
    c->state = s;
    return SHR_OK;
}

/* Where a row begins in an operand of these strides. */
static size_t row_at(const struct shr_tensor *x, const int64_t *stride, size_t row)
{
    size_t at = 0;
    for (int d = x->rank - 1; d-- > 0; row /= (size_t)x->dim[d]) {
        at += row % (size_t)x->dim[d] * (size_t)stride[d];
    }
    return at;
}

static void add_bias(size_t n, const float *bias, int64_t step, float *y)
{
    if (step == 1) {
        for (size_t i = 0; i < n; i++) {
            y[i] += bias[i];
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        y[i] += bias[0];
    }
}

static void fill_where(size_t n, const uint8_t *mask, int64_t step, bool where, float fill,
                       float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = (mask[(int64_t)i * step] != 0) == where ? fill : y[i];
    }
}

static void softmax_row(const struct shr_op_call *c, size_t row)
{
    const struct softmax *s = c->state;
    const struct shr_tensor *t = c->in[0];
    const float *x = (const float *)t->data + row * s->n;
    float *y = (float *)c->out[0]->data + row * s->n;
    const int last = t->rank - 1;
    for (size_t i = 0; i < s->n; i++) {
        y[i] = x[i] * s->scale;
    }
    if (c->in[1] != NULL) {
        add_bias(s->n, (const float *)c->in[1]->data + row_at(t, s->bias, row), s->bias[last], y);
    }
    if (c->in[2] != NULL) {
        fill_where(s->n, (const uint8_t *)c->in[2]->data + row_at(t, s->mask, row), s->mask[last],
                   s->fills_where, s->fill, y);
    }
    c->kernels->softmax_f32(s->n, y, y);
}

static void some_rows(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct shr_op_call *c = arg;
    const struct softmax *s = c->state;
    for (size_t i = task * s->a_task; i < (task + 1) * s->a_task && i < s->rows; i++) {
        softmax_row(c, i);
    }
}

static int softmax_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct softmax *s = c->state;
    struct shr_op_call call = *c;
    shr_team_run(c->team, (s->rows + s->a_task - 1) / s->a_task, some_rows, &call);
    return SHR_OK;
}

const struct shr_op shr__fused_softmax = {SHR__FUSED_ROW("MaskedSoftmax"), .setup = softmax_setup,
                                          .forward = softmax_forward, .in_place = 1};
