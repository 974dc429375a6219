/* ConvTranspose of 1, 2 or 3 spatial axes, with groups, dilations, output_padding and output_shape;
 * float32.
 *
 * DESIGN. It is the adjoint of a convolution from Y to X, whose window it uses: input pixel p
 * reaches output pixel at(p, k) with tap k. Of each image and group the columns
 * (filters * taps, pixels) = W' X are one matrix product, and each row of them is added to Y where
 * its tap leads. W' is transposed once when it is constant. Pixels go in blocks, so that the
 * columns stay in the cache. */
#include "ops/window.h"

#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

enum { BLOCK_FLOATS = 1 << 18 }; /* of columns */

struct transposed {
    struct shr_window win;             /* of the convolution back: in = of Y, out = of X */
    int64_t groups, channels, filters; /* the last two of a group */
    int64_t taps, pixels, area;        /* taps of a filter; pixels of X, of Y */
    int64_t block;                     /* pixels at a time */
    const float *w;                    /* (groups, filters * taps, channels); NULL = in scratch */
    size_t at_w, at_packed;
};

/* ── Shapes ─────────────────────────────────────────────────────────────────────────────────── */

static int check_channels(const struct shr_infer *c, int64_t groups, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *w = &c->in[1];
    if (groups < 1 || groups > INT32_MAX || w->dim[1] > INT32_MAX) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "group is %lld", (long long)groups);
    }
    const int64_t in = x->dim[1], rows = w->dim[0], out = w->dim[1] < 0 ? -1 : w->dim[1] * groups;
    if ((in >= 0 && rows >= 0 && in != rows) || (rows >= 0 && rows % groups != 0)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "the input has %lld channels, the weight %lld in %lld groups",
                           (long long)in, (long long)rows, (long long)groups);
    }
    const struct shr_type *bias = c->n_in > 2 ? &c->in[2] : NULL;
    if (bias != NULL && bias->rank >= 0 &&
        (bias->rank != 1 || (bias->dim[0] >= 0 && out >= 0 && bias->dim[0] != out))) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the bias is not [%lld]", (long long)out);
    }
    return SHR_OK;
}

static int infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *w = &c->in[1];
    const int64_t groups = shr_node_int(c->node, "group", 1);
    struct shr_type *y = &c->out[0];
    struct shr_window win;
    y->dtype = x->dtype;
    int code = shr_op_same_dtype(c, 0, 1, err);
    if (code != SHR_OK || x->rank < 0 || w->rank < 0) {
        return code;
    }
    if (x->rank != w->rank) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "the input has %d dims, the weight has %d", x->rank, w->rank);
    }
    code = shr_window_transposed(&win, c->node, x, w->dim + 2, err);
    if (code == SHR_OK) {
        code = check_channels(c, groups, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    y->rank = x->rank;
    shr_type_copy_dim(y, 0, x, 0);
    shr_type_set_dim(y, 1, w->dim[1] < 0 ? -1 : w->dim[1] * groups, NULL);
    for (int i = 0; i < win.n; i++) {
        shr_type_set_dim(y, 2 + i, win.axis[SHR_WINDOW_AXES - win.n + i].in, NULL);
    }
    return SHR_OK;
}

/* ── Setup ──────────────────────────────────────────────────────────────────────────────────── */

/* w (groups * channels, filters, taps…) to (groups, filters * taps, channels) */
static void transpose_weight(const struct transposed *s, const struct shr_kernels *k,
                             const float *w, float *to)
{
    const int64_t rows = s->filters * s->taps, size = s->channels * rows;
    for (int64_t g = 0; g < s->groups; g++) {
        k->transpose_f32((size_t)s->channels, (size_t)rows, w + g * size, to + g * size);
    }
}

static int take_scratch(struct shr_op_setup *c, struct transposed *s, struct shr_err *err)
{
    const size_t weights = (size_t)shr_tensor_count(c->in[1]);
    const int64_t rows = s->filters * s->taps;
    s->block = rows == 0 || rows > BLOCK_FLOATS / 16 ? 16 : BLOCK_FLOATS / rows;
    s->block = s->block > s->pixels ? s->pixels : s->block;
    size_t columns, bytes;
    if (!shr_size_mul((size_t)rows, (size_t)s->block, &columns) ||
        !shr_size_mul(columns + 16, sizeof(float), &bytes)) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the columns are too large");
    }
    s->at_w = (bytes + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
    s->at_packed = s->at_w;
    if (c->in[1]->data == NULL) {
        s->at_packed +=
            (weights * sizeof(float) + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
    }
    c->scratch = s->at_packed + c->kernels->gemm_f32_size((size_t)s->channels, (size_t)s->block);
    return SHR_OK;
}

static int setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct transposed *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    const struct shr_tensor *x = c->in[0], *w = c->in[1];
    struct shr_type type = {.dtype = x->dtype, .rank = x->rank};
    memcpy(type.dim, x->dim, sizeof type.dim);
    int code = shr_op_setup_f32(c, err);
    if (code == SHR_OK) {
        code = shr_window_transposed(&s->win, c->node, &type, w->dim + 2, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    const struct shr_window_axis *a = s->win.axis;
    s->groups = shr_node_int(c->node, "group", 1);
    s->channels = w->dim[0] / s->groups;
    s->filters = w->dim[1];
    s->taps = shr_dims_product(w->dim, 2, w->rank);
    s->pixels = a[0].out * a[1].out * a[2].out;
    s->area = a[0].in * a[1].in * a[2].in;
    if (w->data != NULL) {
        float *to = shr_arena_new(c->arena, (size_t)shr_tensor_count(w) + 1, sizeof *to);
        if (to == NULL) {
            return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
        }
        transpose_weight(s, c->kernels, w->data, to);
        s->w = to;
    }
    return take_scratch(c, s, err);
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

/* Adds a row of columns, of input pixels [from, to) and one tap, to a channel y (d, h, w). */
static void add_row(const struct shr_window *win, const int64_t *tap, int64_t from, int64_t to,
                    const float *column, float *y)
{
    const struct shr_window_axis *d = &win->axis[0], *h = &win->axis[1], *w = &win->axis[2];
    int64_t first, last;
    shr_window_inside(w, tap[2], &first, &last);
    for (int64_t p = from; p < to;) {
        const int64_t row = p / w->out, begin = p % w->out;
        const int64_t n = w->out - begin < to - p ? w->out - begin : to - p;
        const int64_t id = shr_window_at(d, row / h->out, tap[0]);
        const int64_t ih = shr_window_at(h, row % h->out, tap[1]);
        if (id >= 0 && id < d->in && ih >= 0 && ih < h->in) {
            const int64_t lo = first > begin ? first : begin;
            const int64_t hi = last < begin + n ? last : begin + n;
            const float *values = column + (p - from) - begin; /* by place in the row */
            float *line = y + (id * h->in + ih) * w->in + shr_window_at(w, 0, tap[2]);
            for (int64_t o = lo; o < hi; o++) {
                line[o * w->stride] += values[o];
            }
        }
        p += n;
    }
}

/* One group of one image: x (channels, pixels) is added to y (filters, area). */
static void run_group(const struct shr_op_call *c, const float *w, const float *x, float *y)
{
    const struct transposed *s = c->state;
    const struct shr_window_axis *a = s->win.axis;
    float *columns = c->scratch; /* (filters * taps, block) */
    void *packed = (char *)c->scratch + s->at_packed;
    for (int64_t from = 0; from < s->pixels; from += s->block) {
        const int64_t n = s->pixels - from < s->block ? s->pixels - from : s->block;
        c->kernels->gemm_f32_pack((size_t)s->channels, (size_t)n, x + from, (size_t)s->pixels,
                                  false, packed);
        c->kernels->gemm_f32(&(struct shr_gemm_f32){.m = (size_t)(s->filters * s->taps),
                                                    .n = (size_t)n,
                                                    .k = (size_t)s->channels,
                                                    .a = w,
                                                    .lda = (size_t)s->channels,
                                                    .b = packed,
                                                    .c = columns,
                                                    .ldc = (size_t)n});
        for (int64_t i = 0; i < s->filters * s->taps; i++) {
            const int64_t k = i % s->taps;
            const int64_t tap[] = {k / (a[1].kernel * a[2].kernel), k / a[2].kernel % a[1].kernel,
                                   k % a[2].kernel};
            add_row(&s->win, tap, from, from + n, columns + i * n, y + i / s->taps * s->area);
        }
    }
}

static int forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct transposed *s = c->state;
    const struct shr_tensor *bias = c->n_in > 2 ? c->in[2] : NULL;
    const float *x = c->in[0]->data, *w = s->w;
    float *y = c->out[0]->data; /* (n, groups * filters, d, h, w) */
    const int64_t images = c->in[0]->dim[0], channels = s->groups * s->filters;
    if (w == NULL) {
        float *to = (void *)((char *)c->scratch + s->at_w);
        transpose_weight(s, c->kernels, c->in[1]->data, to);
        w = to;
    }
    for (int64_t i = 0; i < images * channels * s->area; i++) {
        y[i] = bias == NULL ? 0.0f : ((const float *)bias->data)[i / s->area % channels];
    }
    for (int64_t i = 0; i < images * s->groups; i++) {
        run_group(c, w + i % s->groups * s->filters * s->taps * s->channels,
                  x + i * s->channels * s->pixels, y + i * s->filters * s->area);
    }
    return SHR_OK;
}

static int64_t macs(const struct shr_node *node, const struct shr_type *in,
                    const struct shr_type *out)
{
    (void)node;
    (void)out;
    return shr_op_macs(&in[0], in[1].rank - 1, in[1].dim + 1);
}

static const struct shr_op rows[] = {
    {SHR_ROW("ConvTranspose", 1, 0), SHR_SLOTS(2, 3, 1, 1), .infer = infer, .setup = setup,
     .forward = forward, .prune_role = SHR_PRUNE_WEIGHTED, .weight_slot = 1, .bias_slot = 2,
     .macs = macs, .backward = shr_backward_conv_transpose},
};
const struct shr_op_family shr_ops_conv_transpose = {rows, SHR_COUNT_OF(rows)};
