/* Normalizations without parameters to learn: LpNormalization and Hardmax along an axis,
 * MeanVarianceNormalization over axes, LRN across channels. float32; sums in double. */
#include "ops/util.h"

#include <math.h>

#include "ops/families.h"

struct lines { /* the input as (outer, n, inner) */
    int64_t outer, n, inner;
};

static int lines_of(const struct shr_node *node, int64_t fallback, const struct shr_tensor *x,
                    struct lines *ret, struct shr_err *err)
{
    int axis = 0;
    int code = shr_op_axis(node, "axis", shr_node_int(node, "axis", fallback), x->rank, &axis, err);
    if (code == SHR_OK) {
        *ret = (struct lines){shr_dims_product(x->dim, 0, axis), x->dim[axis],
                              shr_dims_product(x->dim, axis + 1, x->rank)};
    }
    return code;
}

/* ── LpNormalization ────────────────────────────────────────────────────────────────────────── */

static int lp_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int64_t p = shr_node_int(c->node, "p", 2);
    if (p != 1 && p != 2) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "p is %lld, not 1 or 2", (long long)p);
    }
    return shr_op_setup_f32(c, err);
}

static int lp_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const bool square = shr_node_int(c->node, "p", 2) == 2;
    struct lines l;
    int code = lines_of(c->node, -1, c->in[0], &l, err);
    if (code != SHR_OK) {
        return code;
    }
    for (int64_t i = 0; i < l.outer * l.inner; i++) {
        const int64_t at = i / l.inner * l.n * l.inner + i % l.inner;
        const float *x = (const float *)c->in[0]->data + at;
        float *y = (float *)c->out[0]->data + at;
        double sum = 0.0;
        for (int64_t j = 0; j < l.n; j++) {
            const double v = (double)x[j * l.inner];
            sum += square ? v * v : fabs(v);
        }
        const double norm = square ? sqrt(sum) : sum;
        for (int64_t j = 0; j < l.n; j++) {
            y[j * l.inner] = norm == 0.0 ? 0.0f : (float)((double)x[j * l.inner] / norm);
        }
    }
    return SHR_OK;
}

/* ── Hardmax: 1 where the first largest is; the axis as in Softmax ──────────────────────────── */

static int hardmax_forward(const struct shr_op_call *c, struct shr_err *err)
{
    struct lines l;
    int code = lines_of(c->node, c->opset < 13 ? 1 : -1, c->in[0], &l, err);
    if (code != SHR_OK) {
        return code;
    }
    if (c->opset < 13) { /* all dims from the axis on are one row */
        l = (struct lines){l.outer, l.n * l.inner, 1};
    }
    for (int64_t i = 0; i < l.outer * l.inner; i++) {
        const int64_t at = i / l.inner * l.n * l.inner + i % l.inner;
        const float *x = (const float *)c->in[0]->data + at;
        float *y = (float *)c->out[0]->data + at;
        int64_t best = 0;
        for (int64_t j = 1; j < l.n; j++) {
            best = x[j * l.inner] > x[best * l.inner] ? j : best;
        }
        for (int64_t j = 0; j < l.n; j++) {
            y[j * l.inner] = j == best ? 1.0f : 0.0f;
        }
    }
    return SHR_OK;
}

/* ── MeanVarianceNormalization: y = (x - mean) / (sqrt(variance) + 1e-9) over the axes ──────── */

static int mvn_axes(const struct shr_node *node, int rank, unsigned *ret, struct shr_err *err)
{
    struct shr_int_list axes = {.given = true, .n = 3, .v = {0, 2, 3}};
    size_t n = 0;
    const int64_t *v = shr_node_ints(node, "axes", &n);
    if (n > SHR_LIST_MAX) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%zu axes", n);
    }
    for (size_t i = 0; v != NULL && i < n; i++) {
        axes.v[i] = v[i];
    }
    axes.n = v != NULL ? n : axes.n;
    return shr_op_axes_mask(node, &axes, rank, ret, err);
}

static int mvn_infer(struct shr_infer *c, struct shr_err *err)
{
    unsigned mask = 0;
    c->out[0] = c->in[0];
    return c->in[0].rank < 0 ? SHR_OK : mvn_axes(c->node, c->in[0].rank, &mask, err);
}

/* Splits the dims into those that stay and those that are normalized over. */
struct split {
    int n[2];
    int64_t dim[2][SHR_MAX_RANK], stride[2][SHR_MAX_RANK], count[2];
};

static int64_t split_at(const struct split *s, int part, int64_t i)
{
    int64_t at = 0;
    for (int d = s->n[part] - 1; d >= 0; d--) {
        at += i % s->dim[part][d] * s->stride[part][d];
        i /= s->dim[part][d];
    }
    return at;
}

static int mvn_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *t = c->in[0];
    const float *x = t->data;
    float *y = c->out[0]->data;
    struct split s = {.count = {1, 1}};
    int64_t own[SHR_MAX_RANK];
    unsigned mask = 0;
    int code = mvn_axes(c->node, t->rank, &mask, err);
    shr_dense_strides(t->rank, t->dim, own);
    for (int i = 0; i < t->rank && code == SHR_OK; i++) {
        const int part = (int)(mask >> i & 1u);
        s.dim[part][s.n[part]] = t->dim[i];
        s.stride[part][s.n[part]++] = own[i];
        s.count[part] *= t->dim[i];
    }
    for (int64_t i = 0; i < s.count[0] && s.count[1] > 0 && code == SHR_OK; i++) {
        const int64_t first = split_at(&s, 0, i);
        double sum = 0.0, squares = 0.0;
        for (int64_t j = 0; j < s.count[1]; j++) {
            sum += (double)x[first + split_at(&s, 1, j)];
        }
        const double mean = sum / (double)s.count[1];
        for (int64_t j = 0; j < s.count[1]; j++) {
            const double d = (double)x[first + split_at(&s, 1, j)] - mean;
            squares += d * d;
        }
        const double scale = 1.0 / (sqrt(squares / (double)s.count[1]) + 1e-9);
        for (int64_t j = 0; j < s.count[1]; j++) {
            const int64_t at = first + split_at(&s, 1, j);
            y[at] = (float)(((double)x[at] - mean) * scale);
        }
    }
    return code;
}

/* ── LRN: y = x / (bias + alpha / size * sum of squares of the near channels)^beta ──────────── */

static int lrn_infer(struct shr_infer *c, struct shr_err *err)
{
    int64_t size = shr_node_int(c->node, "size", 0);
    if (size < 1 || size > INT32_MAX) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "size is %lld", (long long)size);
    }
    if (c->in[0].rank >= 0 && c->in[0].rank < 2) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the input has no channels");
    }
    return shr_infer_same(c, err);
}

static int lrn_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *t = c->in[0]; /* (n, c, spatial…) */
    const float *x = t->data;
    float *y = c->out[0]->data;
    const int64_t size = shr_node_int(c->node, "size", 1), channels = t->dim[1];
    const int64_t plane = shr_dims_product(t->dim, 2, t->rank);
    const double alpha = (double)shr_node_float(c->node, "alpha", 1e-4f) / (double)size;
    const double beta = (double)shr_node_float(c->node, "beta", 0.75f);
    const double bias = (double)shr_node_float(c->node, "bias", 1.0f);
    for (int64_t i = 0; i < t->dim[0] * channels * plane; i++) {
        const int64_t ch = i / plane % channels;
        const int64_t lower = ch - (size - 1) / 2, upper = ch + size / 2; /* ceil((size - 1) / 2) */
        double sum = 0.0;
        for (int64_t j = lower < 0 ? 0 : lower; j <= upper && j < channels; j++) {
            const double v = (double)x[i + (j - ch) * plane];
            sum += v * v;
        }
        y[i] = (float)((double)x[i] / pow(bias + alpha * sum, beta));
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("Hardmax", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = shr_infer_same,
     .setup = shr_op_setup_f32, .forward = hardmax_forward, SHR_NO_WEIGHT},
    {SHR_ROW("LRN", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = lrn_infer, .setup = shr_op_setup_f32,
     .forward = lrn_forward, SHR_NO_WEIGHT},
    {SHR_ROW("LpNormalization", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = shr_infer_same,
     .setup = lp_setup, .forward = lp_forward, SHR_NO_WEIGHT},
    {SHR_ROW("MeanVarianceNormalization", 9, 0), SHR_SLOTS(1, 1, 1, 1), .infer = mvn_infer,
     .setup = shr_op_setup_f32, .forward = mvn_forward, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_norm_axes = {rows, SHR_COUNT_OF(rows)};
