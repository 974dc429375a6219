/* Losses of training, with their gradients in the same step: rows of the domain "shrinkd.train".
 *
 * Logits are (…, classes); every row of them is one prediction. Sums are of doubles, in the order
 * of the rows, so that a loss does not depend on threads. What a logit or target that is NaN makes
 * is NaN. */
#include <math.h>

#include "ops/families.h"
#include "ops/grad.h"
#include "ops/util.h"

enum { IN_LOGITS, IN_LABELS, IN_TEACHER };
enum { OUT_LOSS, OUT_GRADIENT, OUT_HITS };

static int logits_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[IN_LOGITS];
    if (x->rank < 1) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "logits need an axis of classes");
    }
    c->out[OUT_LOSS].dtype = c->out[OUT_HITS].dtype = SHR_DTYPE_F32;
    c->out[OUT_LOSS].rank = c->out[OUT_HITS].rank = 0;
    c->out[OUT_GRADIENT] = *x;
    return SHR_OK;
}

static size_t count_rows(const struct shr_tensor *logits)
{
    return (size_t)shr_dims_product(logits->dim, 0, logits->rank - 1);
}

/* A label a row, and a teacher of the same shape. */
static int logits_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[IN_LOGITS];
    const struct shr_tensor *labels = shr_op_given(c->n_in, c->in, IN_LABELS);
    const struct shr_tensor *teacher = shr_op_given(c->n_in, c->in, IN_TEACHER);
    if (shr_tensor_count(x) == 0) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "there are no logits");
    }
    if (labels != NULL && shr_tensor_count(labels) != (int64_t)count_rows(x)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "%lld labels are not one for each of "
                           "%zu rows of logits",
                           (long long)shr_tensor_count(labels), count_rows(x));
    }
    if (teacher != NULL && !shr_tensor_same_shape(x, teacher)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the teacher's logits differ in shape");
    }
    int code = shr_op_want(c, IN_LOGITS, SHR_BIT(F32), err);
    code = code == SHR_OK ? shr_op_want(c, IN_LABELS, SHR_BIT(I32), err) : code;
    code = code == SHR_OK ? shr_op_want(c, IN_TEACHER, SHR_BIT(F32), err) : code;
    return code != SHR_OK ||
                   shr_size_mul((size_t)x->dim[x->rank - 1], 3 * sizeof(float), &c->scratch)
               ? code
               : shr_op_fail(c->node, err, SHR_ERR_LIMIT, "too many classes");
}

struct loss {
    const struct shr_op_call *c;
    size_t n, classes;
    const float *x, *teacher;   /* (n, classes); teacher NULL = none */
    const int32_t *labels;      /* (n) or NULL */
    float *dx, *scaled, *p, *q; /* the last three (classes) */
    float soft, hard, temperature, smoothing;
    double loss, hits;
};

static struct loss begin(const struct shr_op_call *c)
{
    const struct shr_tensor *x = c->in[IN_LOGITS];
    const struct shr_tensor *labels = shr_op_given(c->n_in, c->in, IN_LABELS);
    const struct shr_tensor *teacher = shr_op_given(c->n_in, c->in, IN_TEACHER);
    struct loss l = {
        .c = c,
        .n = count_rows(x),
        .classes = (size_t)x->dim[x->rank - 1],
        .x = x->data,
        .teacher = teacher == NULL ? NULL : teacher->data,
        .labels = labels == NULL ? NULL : labels->data,
        .dx = c->out[OUT_GRADIENT]->data,
        .scaled = c->scratch,
        .soft = shr_node_float(c->node, "soft", 0.0f),
        .hard = shr_node_float(c->node, "hard", 1.0f),
        .temperature = shr_node_float(c->node, "temperature", 1.0f),
        .smoothing = shr_node_float(c->node, "smoothing", 0.0f),
    };
    l.p = l.scaled + l.classes;
    l.q = l.p + l.classes;
    return l;
}

static void end(const struct loss *l)
{
    *(float *)l->c->out[OUT_LOSS]->data = (float)l->loss;
    if (l->c->out[OUT_HITS] != NULL) {
        *(float *)l->c->out[OUT_HITS]->data = (float)l->hits;
    }
}

static int check_label(const struct loss *l, size_t row, size_t classes, struct shr_err *err)
{
    const int32_t label = l->labels[row];
    return label >= 0 && (size_t)label < classes
               ? SHR_OK
               : shr_op_fail(l->c->node, err, SHR_ERR_INVALID,
                             "label %d is not in [0, %zu), the classes of the model", (int)label,
                             classes);
}

/* ── Classes that exclude each other ────────────────────────────────────────────────────────── */

static size_t largest(const float *x, size_t n)
{
    size_t at = 0;
    for (size_t i = 1; i < n; i++) {
        at = x[i] > x[at] ? i : at;
    }
    return at;
}

/* p = softmax(x / temperature); returns log(sum(exp(x / temperature))), which is what the scaled
 * largest logit is above the logarithm of its probability. */
static double log_softmax(const struct loss *l, const float *x, float temperature, float *p)
{
    const float *from = x;
    if (temperature != 1.0f) {
        for (size_t i = 0; i < l->classes; i++) {
            l->scaled[i] = x[i] / temperature;
        }
        from = l->scaled;
    }
    l->c->kernels->softmax_f32(l->classes, from, p);
    const size_t top = largest(from, l->classes);
    return (double)from[top] - log((double)p[top]);
}

/* T^2 KL(q || p) / n of q = softmax(teacher / T), p = softmax(x / T); d/dx = T (p - q) / n */
static void soft_row(struct loss *l, const float *x, const float *teacher, float *dx)
{
    const double t = (double)l->temperature;
    const double of_teacher = log_softmax(l, teacher, l->temperature, l->q);
    const double of_x = log_softmax(l, x, l->temperature, l->p);
    const float factor = l->soft * l->temperature / (float)l->n;
    double sum = 0;
    for (size_t i = 0; i < l->classes; i++) {
        sum += (double)l->q[i] * ((double)teacher[i] - (double)x[i]);
        dx[i] += factor * (l->p[i] - l->q[i]);
    }
    l->loss += (double)l->soft * t * t * (sum / t - of_teacher + of_x) / (double)l->n;
}

/* Cross-entropy with q = (1 - s) [i = label] + s / classes: log(sum(exp(x))) - sum(q x) */
static void hard_row(struct loss *l, const float *x, size_t label, float *dx)
{
    const double lse = log_softmax(l, x, 1.0f, l->p);
    const float factor = l->hard / (float)l->n, even = l->smoothing / (float)l->classes;
    double sum = 0;
    for (size_t i = 0; i < l->classes; i++) {
        const float q = even + (i == label ? 1.0f - l->smoothing : 0.0f);
        sum += (double)q * (double)x[i];
        dx[i] += factor * (l->p[i] - q);
    }
    l->loss += (double)l->hard * (lse - sum) / (double)l->n;
}

static int softmax_forward(const struct shr_op_call *c, struct shr_err *err)
{
    struct loss l = begin(c);
    for (size_t row = 0; row < l.n; row++) {
        const size_t at = row * l.classes;
        float *dx = l.dx + at;
        for (size_t i = 0; i < l.classes; i++) {
            dx[i] = 0.0f;
        }
        if (l.teacher != NULL && l.soft != 0.0f) {
            soft_row(&l, l.x + at, l.teacher + at, dx);
        }
        if (l.labels != NULL) {
            int code = check_label(&l, row, l.classes, err);
            if (code != SHR_OK) {
                return code;
            }
            if (l.hard != 0.0f) {
                hard_row(&l, l.x + at, (size_t)l.labels[row], dx);
            }
        }
        const size_t guess = largest(l.x + at, l.classes);
        l.hits += l.labels != NULL    ? guess == (size_t)l.labels[row]
                  : l.teacher != NULL ? guess == largest(l.teacher + at, l.classes)
                                      : 0;
    }
    end(&l);
    return SHR_OK;
}

/* ── Yes or no, a logit each ────────────────────────────────────────────────────────────────── */

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* Cross-entropy of sigmoid(x) with a probability: max(x, 0) - x y + log(1 + exp(-|x|)) */
static double binary_loss(double x, double y)
{
    return (x > 0 ? x : 0) - x * y + log1p(exp(-fabs(x)));
}

static double entropy(double y)
{
    return y <= 0 || y >= 1 ? 0 : -y * log(y) - (1 - y) * log1p(-y);
}

/* What element i of a row should be: with one logit the label is 0 or 1, else its class. */
static double binary_target(const struct loss *l, size_t row, size_t i)
{
    const int32_t label = l->labels[row];
    return l->classes == 1 ? (double)label : i == (size_t)label ? 1.0 : 0.0;
}

static void binary_element(struct loss *l, size_t row, size_t i)
{
    const size_t at = row * l->classes + i;
    const double x = (double)l->x[at], n = (double)l->n * (double)l->classes;
    const double t = (double)l->temperature, soft = (double)l->soft, hard = (double)l->hard;
    double dx = 0;
    if (l->teacher != NULL && soft != 0) {
        const double y = sigmoid((double)l->teacher[at] / t);
        l->loss += soft * t * t * (binary_loss(x / t, y) - entropy(y)) / n;
        dx += soft * t * (sigmoid(x / t) - y) / n;
    }
    if (l->labels != NULL && hard != 0) {
        const double even = (double)l->smoothing;
        const double y = binary_target(l, row, i) * (1 - even) + even / 2;
        l->loss += hard * binary_loss(x, y) / n;
        dx += hard * (sigmoid(x) - y) / n;
    }
    l->dx[at] = (float)dx;
}

static int binary_forward(const struct shr_op_call *c, struct shr_err *err)
{
    struct loss l = begin(c);
    for (size_t row = 0; row < l.n; row++) {
        if (l.labels != NULL) {
            int code = check_label(&l, row, l.classes == 1 ? 2 : l.classes, err);
            if (code != SHR_OK) {
                return code;
            }
        }
        for (size_t i = 0; i < l.classes; i++) {
            binary_element(&l, row, i);
        }
        const float *x = l.x + row * l.classes;
        const size_t guess = l.classes == 1 ? x[0] > 0 : largest(x, l.classes);
        l.hits += l.labels != NULL && guess == (size_t)l.labels[row];
    }
    end(&l);
    return SHR_OK;
}

/* ── Squares ────────────────────────────────────────────────────────────────────────────────── */

static int squares_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[OUT_LOSS].dtype = SHR_DTYPE_F32;
    c->out[OUT_LOSS].rank = 0;
    c->out[OUT_GRADIENT] = c->in[0];
    return SHR_OK;
}

static int squares_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_tensor_same_shape(c->in[0], c->in[1])
               ? shr_op_setup_f32(c, err)
               : shr_op_fail(c->node, err, SHR_ERR_INVALID, "what is compared differs in shape");
}

/* weight mean((x - y)^2), d/dx = 2 weight (x - y) / n */
static int squares_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const float *x = c->in[0]->data, *y = c->in[1]->data;
    float *dx = c->out[OUT_GRADIENT]->data;
    const size_t n = (size_t)shr_tensor_count(c->in[0]);
    const float weight = shr_node_float(c->node, "weight", 1.0f), factor = 2 * weight / (float)n;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float d = x[i] - y[i];
        sum += (double)d * (double)d;
        dx[i] = factor * d;
    }
    *(float *)c->out[OUT_LOSS]->data = n == 0 ? 0.0f : (float)((double)weight * sum / (double)n);
    return SHR_OK;
}

#define LOSS(name_, in_min, in_max, out_, infer_, setup_, fn)                                      \
    .domain = SHR_TRAIN_DOMAIN, .name = name_, .since = 1, SHR_SLOTS(in_min, in_max, out_, out_),  \
    .infer = infer_, .setup = setup_, .forward = fn, SHR_NO_WEIGHT

static const struct shr_op rows[] = {
    {LOSS("SoftmaxLoss", 1, 3, 3, logits_infer, logits_setup, softmax_forward)},
    {LOSS("BinaryLoss", 1, 3, 3, logits_infer, logits_setup, binary_forward)},
    {LOSS("SquaresLoss", 2, 2, 2, squares_infer, squares_setup, squares_forward)},
};
const struct shr_op_family shr_ops_train_loss = {rows, SHR_COUNT_OF(rows)};
