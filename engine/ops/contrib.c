/* Float operators of com.microsoft, which ONNX Runtime's optimizers write: FusedMatMul, Gelu,
 * BiasGelu, FastGelu, QuickGelu, SkipLayerNormalization. float32 only. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/product.h"

/* ── FusedMatMul: alpha * A' x B', the last two dims exchanged where trans ──────────────────── */

struct fused {
    struct shr_product p;
    bool trans_a, trans_b;
    float alpha;
    size_t at_packed; /* in scratch: A the other way round, then B packed */
};

/* Rank 1 is a row (A) or a column (B) either way. */
static bool is_turned(const struct shr_node *node, const char *attr, int rank)
{
    return rank > 1 && shr_node_int(node, attr, 0) != 0;
}

static struct shr_type turned_type(const struct shr_type *t, bool turned)
{
    struct shr_type type = *t;
    if (turned) {
        shr_type_copy_dim(&type, t->rank - 2, t, t->rank - 1);
        shr_type_copy_dim(&type, t->rank - 1, t, t->rank - 2);
    }
    return type;
}

static int fused_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_type a = turned_type(&c->in[0], is_turned(c->node, "transA", c->in[0].rank));
    struct shr_type b = turned_type(&c->in[1], is_turned(c->node, "transB", c->in[1].rank));
    int code = shr_op_same_dtype(c, 0, 1, err);
    c->out[0].dtype = a.dtype;
    return code == SHR_OK ? shr_product_infer(c->node, &a, &b, &c->out[0], err) : code;
}

static struct shr_tensor turned_shape(const struct shr_tensor *t, bool turned)
{
    struct shr_tensor shape = *t;
    if (turned) {
        shape.dim[t->rank - 2] = t->dim[t->rank - 1];
        shape.dim[t->rank - 1] = t->dim[t->rank - 2];
    }
    return shape;
}

static int fused_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_setup_f32(c, err);
    struct fused *s = code == SHR_OK ? shr_arena_new(c->arena, 1, sizeof *s) : NULL;
    if (s == NULL) {
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    if (shr_node_int(c->node, "transBatchA", 0) != 0 ||
        shr_node_int(c->node, "transBatchB", 0) != 0) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED,
                           "transBatchA and transBatchB are not supported");
    }
    s->trans_a = is_turned(c->node, "transA", c->in[0]->rank);
    s->trans_b = is_turned(c->node, "transB", c->in[1]->rank);
    s->alpha = shr_node_float(c->node, "alpha", 1);
    struct shr_tensor a = turned_shape(c->in[0], s->trans_a);
    struct shr_tensor b = turned_shape(c->in[1], s->trans_b);
    shr_product_init(&s->p, &a, &b);
    if (s->trans_a && s->p.m != (size_t)a.dim[a.rank - 2]) { /* its rows do not follow each other */
        s->p.m = (size_t)a.dim[a.rank - 2];
        int64_t stride[2][SHR_MAX_RANK] = {{0}};
        int64_t matrices = shr_dims_product(a.dim, 0, a.rank - 2);
        stride[0][0] = 1;
        shr_walk_init(&s->p.batches, 1, &matrices, 2, (const int64_t(*)[SHR_MAX_RANK])stride);
    }
    s->at_packed = s->trans_a ? s->p.m * s->p.k * sizeof(float) : 0;
    s->at_packed = (s->at_packed + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
    c->scratch = s->at_packed + c->kernels->gemm_f32_size(s->p.k, s->p.n);
    c->state = s;
    return SHR_OK;
}

static void multiply(const struct shr_op_call *c, const float *a, const float *b, float *y)
{
    const struct fused *s = c->state;
    const size_t m = s->p.m, n = s->p.n, k = s->p.k;
    void *packed = (char *)c->scratch + s->at_packed;
    c->kernels->gemm_f32_pack(k, n, b, s->trans_b ? k : n, s->trans_b, packed);
    if (s->trans_a) {
        c->kernels->transpose_f32(k, m, a, c->scratch);
        a = c->scratch;
    }
    c->kernels->gemm_f32(&(struct shr_gemm_f32){
        .m = m, .n = n, .k = k, .a = a, .lda = k, .b = packed, .c = y, .ldc = n});
    for (size_t i = 0; i < m * n && s->alpha != 1; i++) {
        y[i] *= s->alpha;
    }
}

static int fused_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct fused *s = c->state;
    struct shr_walk w = s->p.batches;
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        for (int64_t i = 0; i < w.inner; i++) {
            size_t ia = (size_t)(w.at[0] + i * w.step[0]), ib = (size_t)(w.at[1] + i * w.step[1]);
            multiply(c, (const float *)c->in[0]->data + ia * s->p.m * s->p.k,
                     (const float *)c->in[1]->data + ib * s->p.k * s->p.n,
                     (float *)c->out[0]->data + (size_t)(w.out + i) * s->p.m * s->p.n);
        }
    }
    return SHR_OK;
}

static int64_t fused_macs(const struct shr_node *node, const struct shr_type *in,
                          const struct shr_type *out)
{
    int last = in[0].rank - 1;
    return shr_op_macs(out, 1, &in[0].dim[is_turned(node, "transA", in[0].rank) ? last - 1 : last]);
}

/* ── Gelu and its approximations, with a bias for the last dim ──────────────────────────────── */

static float gelu(float x, float alpha)
{
    (void)alpha;
    return 0.5f * x * (1 + erff(x * (float)M_SQRT1_2));
}

static float fast_gelu(float x, float alpha)
{
    (void)alpha;
    const float b = 0.7978845608f, c = 0.035677408136f; /* sqrt(2 / pi), 0.044715 * b */
    return 0.5f * x * (1 + tanhf(x * (c * x * x + b)));
}

static float quick_gelu(float x, float alpha)
{
    return x / (1 + expf(-alpha * x));
}

static int gelu_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *bias = c->n_in > 1 ? &c->in[1] : NULL;
    c->out[0] = *x;
    if (bias == NULL || bias->rank < 0 || x->rank < 0) {
        return SHR_OK;
    }
    bool fits =
        bias->rank == 1 && x->rank > 0 &&
        (bias->dim[0] < 0 || x->dim[x->rank - 1] < 0 || bias->dim[0] == x->dim[x->rank - 1]);
    return fits ? SHR_OK
                : shr_op_fail(c->node, err, SHR_ERR_INVALID,
                              "bias '%s' is no row of the input's last dim",
                              shr_op_in_name(c->node, 1));
}

static int map(const struct shr_op_call *c, float (*fn)(float x, float alpha))
{
    const float *x = c->in[0]->data;
    const float *bias = c->n_in > 1 && c->in[1] != NULL ? c->in[1]->data : NULL;
    const int64_t columns = bias == NULL ? 1 : shr_tensor_count(c->in[1]);
    const float alpha = shr_node_float(c->node, "alpha", 1.702f);
    float *y = c->out[0]->data;
    for (int64_t i = 0; i < shr_tensor_count(c->out[0]); i++) {
        y[i] = fn(bias == NULL ? x[i] : x[i] + bias[i % columns], alpha);
    }
    return SHR_OK;
}

static int gelu_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    return map(c, gelu);
}

static int fast_gelu_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    return map(c, fast_gelu);
}

static int quick_gelu_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    return map(c, quick_gelu);
}

/* ── SkipLayerNormalization: of the sum of input, skip and bias, over the last dim ──────────── */

enum { INPUT, SKIP, GAMMA, BETA, BIAS };
enum { OUTPUT, MEAN, INVERSE, SUM };

static int skip_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[INPUT];
    struct shr_type y = *x;
    c->out[OUTPUT] = *x;
    if (x->rank < 0) {
        return SHR_OK;
    }
    if (x->rank < 2) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the input has %d dims", x->rank);
    }
    int code = shr_type_broadcast(c->node, &y, &c->in[SKIP], err);
    if (code == SHR_OK && y.rank > x->rank) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "skip has more dims than the input");
    }
    for (size_t i = GAMMA; code == SHR_OK && i < c->n_in; i++) {
        const struct shr_type *row = &c->in[i];
        if (shr_op_has_in(c, i) && row->rank >= 0 &&
            (row->rank != 1 || (row->dim[0] >= 0 && x->dim[x->rank - 1] >= 0 &&
                                row->dim[0] != x->dim[x->rank - 1]))) {
            code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "input '%s' is no row of the input",
                               shr_op_in_name(c->node, i));
        }
    }
    for (size_t i = MEAN; i < c->n_out; i++) {
        c->out[i] = *x;
        if (i != SUM) {
            c->out[i].dtype = SHR_DTYPE_F32;
            shr_type_set_dim(&c->out[i], x->rank - 1, 1, NULL);
        }
    }
    return code;
}

static int skip_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_setup_f32(c, err);
    const struct shr_tensor *x = c->in[INPUT];
    for (int i = 1; code == SHR_OK && i <= c->in[SKIP]->rank; i++) {
        int64_t dim = c->in[SKIP]->dim[c->in[SKIP]->rank - i];
        if (dim != 1 && dim != x->dim[x->rank - i]) {
            code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "skip is larger than the input");
        }
    }
    return code;
}

static const float *data_of(const struct shr_op_call *c, size_t slot)
{
    return slot < c->n_in && c->in[slot] != NULL ? c->in[slot]->data : NULL;
}

static float *output_of(const struct shr_op_call *c, size_t slot)
{
    return slot < c->n_out && c->out[slot] != NULL ? c->out[slot]->data : NULL;
}

static void add_skip(const struct shr_op_call *c)
{
    const struct shr_tensor *x[] = {c->in[INPUT], c->in[SKIP]};
    const float *a = x[0]->data, *b = x[1]->data;
    float *y = c->out[OUTPUT]->data;
    struct shr_walk w;
    shr_walk_broadcast(&w, x[0]->rank, x[0]->dim, 2, x);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        for (int64_t i = 0; i < w.inner; i++) {
            y[w.out + i] = a[w.at[0] + i * w.step[0]] + b[w.at[1] + i * w.step[1]];
        }
    }
}

/* The row y, which holds the sum, in place. */
static void normalize(const struct shr_op_call *c, float *y, int64_t n, int64_t row)
{
    const float *gamma = data_of(c, GAMMA), *beta = data_of(c, BETA);
    float *means = output_of(c, MEAN), *inverses = output_of(c, INVERSE);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += y[i];
    }
    const double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        squares += (y[i] - mean) * (y[i] - mean);
    }
    const double inverse =
        1 / sqrt(squares / (double)n + (double)shr_node_float(c->node, "epsilon", 1e-12f));
    for (int64_t i = 0; i < n; i++) {
        y[i] = (float)((y[i] - mean) * inverse) * gamma[i] + (beta == NULL ? 0 : beta[i]);
    }
    if (means != NULL) {
        means[row] = (float)mean;
    }
    if (inverses != NULL) {
        inverses[row] = (float)inverse;
    }
}

static int skip_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[INPUT];
    const int64_t n = x->dim[x->rank - 1], rows = n == 0 ? 0 : shr_tensor_count(x) / n;
    const float *bias = data_of(c, BIAS);
    float *y = c->out[OUTPUT]->data, *sums = output_of(c, SUM);
    add_skip(c);
    for (int64_t row = 0; row < rows; row++, y += n) {
        for (int64_t i = 0; i < n && bias != NULL; i++) {
            y[i] += bias[i];
        }
        if (sums != NULL) {
            memcpy(sums + row * n, y, (size_t)n * sizeof *y);
        }
        normalize(c, y, n, row);
    }
    return SHR_OK;
}

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

#define GELU(name_, in_min_, in_max_, forward_)                                                    \
    {                                                                                              \
        .domain = "com.microsoft", .name = name_, .since = 1, SHR_SLOTS(in_min_, in_max_, 1, 1),   \
        .infer = gelu_infer, .setup = shr_op_setup_f32, .forward = forward_, SHR_NO_WEIGHT,        \
        .in_place = true                                                                           \
    }

static const struct shr_op rows[] = {
    GELU("BiasGelu", 2, 2, gelu_forward),
    GELU("FastGelu", 1, 2, fast_gelu_forward),
    {.domain = "com.microsoft",
     .name = "FusedMatMul",
     .since = 1,
     SHR_SLOTS(2, 2, 1, 1),
     .infer = fused_infer,
     .setup = fused_setup,
     .forward = fused_forward,
     SHR_NO_WEIGHT,
     .macs = fused_macs},
    GELU("Gelu", 1, 1, gelu_forward),
    GELU("QuickGelu", 1, 1, quick_gelu_forward),
    {.domain = "com.microsoft",
     .name = "SkipLayerNormalization",
     .since = 1,
     SHR_SLOTS(3, 5, 1, 4),
     .infer = skip_infer,
     .setup = skip_setup,
     .forward = skip_forward,
     SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_contrib = {rows, SHR_COUNT_OF(rows)};
