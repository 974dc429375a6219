/* Softmax and LogSoftmax, float32.
 *
 * From opset 13 along one axis (-1 unless told); before, over all dims from axis (1) on as one
 * row. Either way the input is (outer, n, inner). The largest element is subtracted first. */
#include "ops/util.h"

#include <math.h>

#include "ops/families.h"
#include "ops/grad.h"

static int64_t axis_of(const struct shr_node *node, int64_t opset)
{
    return shr_node_int(node, "axis", opset < 13 ? 1 : -1);
}

static int softmax_infer(struct shr_infer *c, struct shr_err *err)
{
    int axis;
    c->out[0] = c->in[0];
    if (c->in[0].rank < 0 || (c->in[0].rank == 0 && c->opset < 13)) {
        return SHR_OK;
    }
    return shr_op_axis(c->node, "axis", axis_of(c->node, c->opset), c->in[0].rank, &axis, err);
}

/* One row: n elements, step apart. */
static void softmax_row(const float *x, int64_t n, int64_t step, bool log_form, float *y)
{
    float largest = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        largest = x[i * step] > largest ? x[i * step] : largest;
    }
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        float d = x[i * step] - largest, e = expf(d);
        y[i * step] = log_form ? d : e;
        sum += (double)e;
    }
    const float log_sum = (float)log(sum), inverse = (float)(1.0 / sum);
    for (int64_t i = 0; i < n; i++) {
        y[i * step] = log_form ? y[i * step] - log_sum : y[i * step] * inverse;
    }
}

enum { TASK = 4096 }; /* elements, about */

struct rows {
    const struct shr_kernels *kernels;
    const float *x; /* (outer, n, inner) */
    float *y;
    int64_t n, inner;
    bool log_form;
    int64_t n_rows, a_task;
};

static void some_rows(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct rows *r = arg;
    int64_t first = (int64_t)task * r->a_task, last = first + r->a_task;
    for (int64_t i = first; i < last && i < r->n_rows; i++) {
        int64_t at = i / r->inner * r->n * r->inner + i % r->inner;
        if (r->inner == 1 && !r->log_form) {
            r->kernels->softmax_f32((size_t)r->n, r->x + at, r->y + at);
        } else {
            softmax_row(r->x + at, r->n, r->inner, r->log_form, r->y + at);
        }
    }
}

static int run(const struct shr_op_call *c, bool log_form, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    int axis = 0;
    if (x->rank > 0) {
        int code = shr_op_axis(c->node, "axis", axis_of(c->node, c->opset), x->rank, &axis, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    int end = c->opset < 13 || x->rank == 0 ? x->rank : axis + 1;
    int64_t n = shr_dims_product(x->dim, axis, end), inner = shr_dims_product(x->dim, end, x->rank);
    int64_t outer = shr_dims_product(x->dim, 0, axis);
    struct rows rows = {c->kernels, x->data, c->out[0]->data, n, inner, log_form};
    rows.n_rows = outer * inner;
    rows.a_task = n >= TASK ? 1 : TASK / (n == 0 ? 1 : n);
    shr_team_run(c->team, (size_t)((rows.n_rows + rows.a_task - 1) / rows.a_task), some_rows,
                 &rows);
    return SHR_OK;
}

static int softmax_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return run(c, false, err);
}

static int log_softmax_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return run(c, true, err);
}

static const struct shr_op rows[] = {
    {SHR_ROW("LogSoftmax", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = softmax_infer,
     .setup = shr_op_setup_f32, .forward = log_softmax_forward, SHR_NO_WEIGHT,
     .backward = shr_backward_softmax, .in_place = true},
    {SHR_ROW("Softmax", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = softmax_infer,
     .setup = shr_op_setup_f32, .forward = softmax_forward, SHR_NO_WEIGHT,
     .backward = shr_backward_softmax, .in_place = true},
};
const struct shr_op_family shr_ops_softmax = {rows, SHR_COUNT_OF(rows)};
