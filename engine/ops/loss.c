/* Losses: NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss, float32. Scores are (n, classes,
 * spatial…), targets (n, spatial…). */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"

enum reduction { REDUCE_MEAN, REDUCE_NONE, REDUCE_SUM };

static int read_reduction(const struct shr_node *node, enum reduction *ret, struct shr_err *err)
{
    static const char *const names[] = {"mean", "none", "sum"};
    const char *text = shr_node_text(node, "reduction", "mean");
    for (size_t i = 0; i < SHR_COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum reduction)i;
            return SHR_OK;
        }
    }
    return shr_op_fail(node, err, SHR_ERR_INVALID, "reduction is '%.40s'", text);
}

/* Targets have the dims of the scores without the classes; weights are one for each class. */
static int check_shapes(const struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *target = &c->in[1];
    bool fits = x->rank < 0 || x->rank >= 2;
    if (x->rank >= 2 && target->rank >= 0) {
        fits = target->rank == x->rank - 1;
        for (int i = 0; i < target->rank && fits; i++) {
            int64_t a = target->dim[i], b = x->dim[i == 0 ? 0 : i + 1];
            fits = a < 0 || b < 0 || a == b;
        }
    }
    if (fits && shr_op_has_in(c, 2) && c->in[2].rank >= 0 && x->rank >= 2) {
        fits = c->in[2].rank == 1 &&
               (c->in[2].dim[0] < 0 || x->dim[1] < 0 || c->in[2].dim[0] == x->dim[1]);
    }
    return fits ? SHR_OK
                : shr_op_fail(c->node, err, SHR_ERR_INVALID,
                              "targets or weights do not fit the scores");
}

static int loss_infer(struct shr_infer *c, struct shr_err *err)
{
    enum reduction r = REDUCE_MEAN;
    int code = read_reduction(c->node, &r, err);
    if (code == SHR_OK) {
        code = check_shapes(c, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    c->out[0].dtype = c->in[0].dtype;
    c->out[0].rank = 0;
    if (r == REDUCE_NONE) {
        shr_type_copy_shape(&c->out[0], &c->in[1]);
    }
    if (c->n_out > 1) { /* the logarithms of the probabilities */
        c->out[1] = c->in[0];
    }
    return SHR_OK;
}

static int loss_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_BIT(F32), err);
    if (code == SHR_OK) {
        code = shr_op_want(c, 1, SHR_BIT(I32) | SHR_BIT(I64), err);
    }
    return code == SHR_OK ? shr_op_want(c, 2, SHR_BIT(F32), err) : code;
}

/* log(sum(exp(x))) over the classes of a sample. */
static double log_sum_exp(const float *x, int64_t classes, int64_t step)
{
    double largest = -(double)INFINITY, sum = 0.0;
    for (int64_t i = 0; i < classes; i++) {
        largest = fmax(largest, (double)x[i * step]);
    }
    for (int64_t i = 0; i < classes; i++) {
        sum += exp((double)x[i * step] - largest);
    }
    return largest + log(sum);
}

/* The logarithms of all probabilities, if they are wanted. */
static void store_logs(const struct shr_op_call *c, int64_t first, int64_t classes, int64_t plane,
                       double shift)
{
    struct shr_tensor *t = c->n_out > 1 ? c->out[1] : NULL;
    const float *x = c->in[0]->data;
    for (int64_t k = 0; t != NULL && k < classes; k++) {
        const int64_t at = first + k * plane;
        ((float *)t->data)[at] = (float)((double)x[at] - shift);
    }
}

static int run(const struct shr_op_call *c, bool softmax, struct shr_err *err)
{
    const struct shr_tensor *t = c->in[0], *target = c->in[1];
    const float *x = t->data, *weights = c->n_in > 2 && c->in[2] != NULL ? c->in[2]->data : NULL;
    float *y = c->out[0]->data;
    const int64_t classes = t->dim[1], plane = shr_dims_product(t->dim, 2, t->rank);
    const int64_t n = t->dim[0] * plane, ignored = shr_node_int(c->node, "ignore_index", -1);
    const bool ignores = shr_node_attr(c->node, "ignore_index") != NULL;
    enum reduction r = REDUCE_MEAN;
    int code = read_reduction(c->node, &r, err);
    double sum = 0.0, total = 0.0;
    for (int64_t i = 0; i < n && code == SHR_OK; i++) {
        const int64_t k = shr_op_int_at(target, i);
        const int64_t first = i / plane * classes * plane + i % plane;
        const double shift = softmax ? log_sum_exp(x + first, classes, plane) : 0.0;
        store_logs(c, first, classes, plane, shift);
        double loss = 0.0, weight = 0.0;
        if (!ignores || k != ignored) {
            if (k < 0 || k >= classes) {
                return shr_op_fail(c->node, err, SHR_ERR_INVALID, "target %lld of %lld classes",
                                   (long long)k, (long long)classes);
            }
            weight = weights == NULL ? 1.0 : (double)weights[k];
            loss = (shift - (double)x[first + k * plane]) * weight;
        }
        sum += loss;
        total += weight;
        if (r == REDUCE_NONE) {
            y[i] = (float)loss;
        }
    }
    if (r != REDUCE_NONE && code == SHR_OK) {
        y[0] = (float)(r == REDUCE_SUM ? sum : sum / total);
    }
    return code;
}

static int likelihood_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return run(c, false, err);
}

static int entropy_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return run(c, true, err);
}

static const struct shr_op rows[] = {
    {SHR_ROW("NegativeLogLikelihoodLoss", 12, 0), SHR_SLOTS(2, 3, 1, 1), .infer = loss_infer,
     .setup = loss_setup, .forward = likelihood_forward, SHR_NO_WEIGHT},
    {SHR_ROW("SoftmaxCrossEntropyLoss", 12, 0), SHR_SLOTS(2, 3, 1, 2), .infer = loss_infer,
     .setup = loss_setup, .forward = entropy_forward, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_loss = {rows, SHR_COUNT_OF(rows)};
