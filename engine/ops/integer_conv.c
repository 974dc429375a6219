/* Integer convolutions: ConvInteger and QLinearConv, of 1, 2 or 3 spatial axes; the arithmetic is
 * in integer.h.
 *
 * With constant parameters over 1 or 2 axes the kernels' convolution is prepared once; it works on
 * NHWC images, so each one is transposed in front of it and behind it. Anything else is im2col and
 * a product: Y (pixels, filters) = columns (pixels, taps) x W' (taps, filters) of each image and
 * group. */
#include <string.h>

#include "ops/families.h"
#include "ops/integer.h"
#include "ops/window.h"

static const struct shr_integer_slots conv_integer = {.a = 0,
                                                      .a_zero = 2,
                                                      .b = 1,
                                                      .b_zero = 3,
                                                      .a_scale = SHR_NO_SLOT,
                                                      .b_scale = SHR_NO_SLOT,
                                                      .bias = SHR_NO_SLOT,
                                                      .y_scale = SHR_NO_SLOT,
                                                      .y_zero = SHR_NO_SLOT};
static const struct shr_integer_slots qlinear_conv = {.a = 0,
                                                      .a_scale = 1,
                                                      .a_zero = 2,
                                                      .b = 3,
                                                      .b_scale = 4,
                                                      .b_zero = 5,
                                                      .y_scale = 6,
                                                      .y_zero = 7,
                                                      .bias = 8};

struct conv {
    const struct shr_integer_slots *slots;
    struct shr_window win;
    bool flip_x, flip_w;
    int64_t groups, channels, filters; /* the last two of a group */
    int64_t taps, pixels, size;        /* of a filter, of an output and of an input channel */
    struct shr_conv_i8 *kernel;        /* NULL = im2col */
    void (*kernel_free)(struct shr_conv_i8 *conv);
    /* scratch: input and output the other way round, room for the kernel or the packed weight, */
    size_t at_x, at_y, at_work;
    size_t at_w, at_zero, at_bias, at_scale; /* weight flipped, its zero points, bias, scale (oc) */
};

static struct shr_conv_shape shape_of(const struct conv *s)
{
    return shr_window_conv(&s->win, 1, s->groups * s->channels, s->groups * s->filters, s->groups);
}

/* Are all inputs but x known? The zero point of x is given while running in any case. */
static bool is_constant(const struct shr_op_setup *c, const struct shr_integer_slots *s)
{
    for (size_t i = 0; i < c->n_in; i++) {
        if (i != (size_t)s->a && i != (size_t)s->a_zero && c->in[i] != NULL &&
            c->in[i]->data == NULL) {
            return false;
        }
    }
    return true;
}

static int make_kernel(struct shr_op_setup *c, struct conv *s, size_t *ret_scratch,
                       struct shr_err *err)
{
    struct shr_integer_inputs in = shr_integer_inputs_of(c->in, c->n_in, s->slots);
    const struct shr_tensor *w = c->in[s->slots->b];
    size_t oc = (size_t)(s->groups * s->filters), n_w = (size_t)shr_tensor_count(w);
    uint8_t *flipped = shr_mem_new(n_w, 1);
    int32_t *zeros = shr_mem_new(oc, sizeof *zeros), *bias = shr_mem_new(oc, sizeof *bias);
    float *scale = shr_mem_new(oc, sizeof *scale);
    if (flipped != NULL && zeros != NULL && bias != NULL && scale != NULL) {
        shr_integer_zeros(in.b_zero, s->flip_w, oc, zeros);
        shr_integer_columns(&in, 1, oc, bias, scale);
        if (s->flip_w) {
            c->kernels->flip_u8(n_w, w->data, flipped);
        }
        struct shr_conv_i8_spec spec = {.shape = shape_of(s),
                                        .w = s->flip_w ? (const int8_t *)flipped : w->data,
                                        .w_zero = zeros,
                                        .bias = bias,
                                        .out = shr_integer_out(c->out[0]->dtype),
                                        .scale = scale,
                                        .y_zero = shr_integer_zero(in.y_zero, 0)};
        s->kernel = c->kernels->conv_i8_new(&spec, ret_scratch);
        s->kernel_free = c->kernels->conv_i8_free;
    }
    shr_mem_free(flipped);
    shr_mem_free(zeros);
    shr_mem_free(bias);
    shr_mem_free(scale);
    if (s->kernel == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->kernel = c->kernels->conv_i8_form(s->kernel);
    return SHR_OK;
}

static int plan_columns(struct shr_op_setup *c, struct conv *s, struct shr_err *err)
{
    size_t bytes, oc = (size_t)(s->groups * s->filters);
    if (!shr_size_mul((size_t)s->taps, (size_t)s->pixels, &bytes)) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the columns are too large");
    }
    s->at_x = shr_integer_place(&c->scratch, bytes);
    s->at_y = shr_integer_place(&c->scratch, (size_t)(s->pixels * s->filters) *
                                                 shr_dtype_size(c->out[0]->dtype));
    s->at_work = shr_integer_place(&c->scratch,
                                   c->kernels->gemm_i8_size((size_t)s->taps, (size_t)s->filters));
    s->at_w = shr_integer_place(&c->scratch, (size_t)(s->filters * s->taps));
    s->at_zero = shr_integer_place(&c->scratch, oc * sizeof(int32_t));
    s->at_bias = shr_integer_place(&c->scratch, oc * sizeof(int32_t));
    s->at_scale = shr_integer_place(&c->scratch, oc * sizeof(float));
    return SHR_OK;
}

static int conv_setup(struct shr_op_setup *c, const struct shr_integer_slots *slots,
                      struct shr_err *err)
{
    int code = shr_integer_check_types(c, slots, err);
    struct conv *s = code == SHR_OK ? shr_arena_new(c->arena, 1, sizeof *s) : NULL;
    if (s == NULL) {
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    const struct shr_tensor *x = c->in[slots->a], *w = c->in[slots->b];
    c->state = s;
    s->slots = slots;
    s->flip_x = x->dtype == SHR_DTYPE_I8;
    s->flip_w = w->dtype == SHR_DTYPE_U8;
    code = shr_window_of(&s->win, c->node, x, w->dim + 2, err);
    if (code == SHR_OK) {
        code = shr_integer_check_columns(c, slots, w->dim[0], err);
    }
    if (code == SHR_OK) {
        code = shr_integer_check_count(c, slots->a_zero, 1, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    const struct shr_window_axis *axis = s->win.axis;
    s->groups = shr_node_int(c->node, "group", 1);
    s->channels = w->dim[1];
    s->filters = w->dim[0] / s->groups;
    s->taps = shr_dims_product(w->dim, 1, w->rank);
    s->pixels = axis[0].out * axis[1].out * axis[2].out;
    s->size = axis[0].in * axis[1].in * axis[2].in;
    bool empty = shr_tensor_count(x) == 0 || shr_tensor_count(w) == 0;
    if (empty || s->win.n > 2 || !is_constant(c, slots)) {
        return plan_columns(c, s, err);
    }
    size_t work = 0, y_size = shr_dtype_size(c->out[0]->dtype);
    code = make_kernel(c, s, &work, err);
    s->at_x = shr_integer_place(&c->scratch, (size_t)(s->groups * s->channels * s->size));
    s->at_y = shr_integer_place(&c->scratch, (size_t)(s->groups * s->filters * s->pixels) * y_size);
    s->at_work = shr_integer_place(&c->scratch, work);
    return code;
}

/* y (rows, cols) to to (cols, rows) of elements of the output's type */
static void turn(const struct shr_op_call *c, int64_t rows, int64_t cols, const void *y, void *to)
{
    size_t size = shr_dtype_size(c->out[0]->dtype);
    if (size == 1) {
        c->kernels->transpose_u8((size_t)rows, (size_t)cols, y, to);
        return;
    }
    int64_t dim[] = {cols, rows}, stride[] = {1, cols};
    shr_copy_strided(size, 2, dim, stride, y, to);
}

static void run_kernel(const struct shr_op_call *c, const struct conv *s, int32_t x_zero)
{
    int64_t in = s->groups * s->channels, out = s->groups * s->filters;
    size_t y_size = shr_dtype_size(c->out[0]->dtype), n_x = (size_t)(in * s->size);
    uint8_t *x = (uint8_t *)c->scratch + s->at_x; /* (h, w, in) */
    char *y = (char *)c->scratch + s->at_y;       /* (oh, ow, out) */
    for (int64_t i = 0; i < c->in[s->slots->a]->dim[0]; i++) {
        const uint8_t *image = (const uint8_t *)c->in[s->slots->a]->data + (size_t)i * n_x;
        c->kernels->transpose_u8((size_t)in, (size_t)s->size, image, x);
        if (s->flip_x) {
            c->kernels->flip_u8(n_x, x, x);
        }
        c->kernels->conv_i8_run(s->kernel, x, x_zero, y, (char *)c->scratch + s->at_work, c->team);
        turn(c, s->pixels, out, y,
             (char *)c->out[0]->data + (size_t)(i * out * s->pixels) * y_size);
    }
}

/* One tap of all pixels: column `at` of columns (pixels, taps); pad where it lies in the padding.
 */
static void columns_tap(const struct conv *s, const int64_t *tap, const uint8_t *x, uint8_t pad,
                        uint8_t *columns, int64_t at)
{
    const struct shr_window_axis *d = &s->win.axis[0], *h = &s->win.axis[1], *w = &s->win.axis[2];
    int64_t from, to;
    shr_window_inside(w, tap[2], &from, &to);
    for (int64_t i = 0; i < d->out * h->out; i++) {
        int64_t id = shr_window_at(d, i / h->out, tap[0]);
        int64_t ih = shr_window_at(h, i % h->out, tap[1]);
        bool inside = id >= 0 && id < d->in && ih >= 0 && ih < h->in;
        const uint8_t *line = inside ? x + (id * h->in + ih) * w->in : NULL;
        for (int64_t o = 0; o < w->out; o++) {
            columns[(i * w->out + o) * s->taps + at] =
                inside && o >= from && o < to ? line[shr_window_at(w, o, tap[2])] : pad;
        }
    }
}

/* x (channels, d, h, w) of a group to columns (pixels, taps) */
static void make_columns(const struct conv *s, const uint8_t *x, uint8_t pad, uint8_t *columns)
{
    const struct shr_window_axis *a = s->win.axis;
    int64_t kernel = a[0].kernel * a[1].kernel * a[2].kernel;
    for (int64_t t = 0; t < s->taps; t++) {
        int64_t k = t % kernel;
        int64_t tap[] = {k / (a[1].kernel * a[2].kernel), k / a[2].kernel % a[1].kernel,
                         k % a[2].kernel};
        columns_tap(s, tap, x + t / kernel * s->size, pad, columns, t);
    }
}

/* Packs the weight (filters, taps) of a group. */
static void pack_group(const struct shr_op_call *c, const struct conv *s, int64_t group)
{
    char *scratch = c->scratch;
    size_t n_w = (size_t)(s->filters * s->taps);
    const uint8_t *w = (const uint8_t *)c->in[s->slots->b]->data + (size_t)group * n_w;
    const int32_t *zeros = (const void *)(scratch + s->at_zero);
    if (s->flip_w) {
        c->kernels->flip_u8(n_w, w, (uint8_t *)scratch + s->at_w);
        w = (uint8_t *)scratch + s->at_w;
    }
    c->kernels->gemm_i8_pack((size_t)s->taps, (size_t)s->filters, (const int8_t *)w,
                             (size_t)s->taps, true, zeros + group * s->filters,
                             scratch + s->at_work);
}

static void run_columns(const struct shr_op_call *c, const struct conv *s, int32_t x_zero)
{
    struct shr_integer_inputs in = shr_integer_inputs_of(c->in, c->n_in, s->slots);
    char *scratch = c->scratch;
    uint8_t *columns = (uint8_t *)scratch + s->at_x;
    int32_t *zeros = (void *)(scratch + s->at_zero), *bias = (void *)(scratch + s->at_bias);
    float *scale = (void *)(scratch + s->at_scale);
    size_t oc = (size_t)(s->groups * s->filters), y_size = shr_dtype_size(c->out[0]->dtype);
    shr_integer_zeros(in.b_zero, s->flip_w, oc, zeros);
    shr_integer_columns(&in, 1, oc, bias, scale);
    uint8_t pad = (uint8_t)(s->flip_x ? x_zero ^ 0x80 : x_zero);
    for (int64_t i = 0; i < c->in[s->slots->a]->dim[0] * s->groups; i++) {
        int64_t group = i % s->groups;
        const uint8_t *x = c->in[s->slots->a]->data;
        make_columns(s, x + i * s->channels * s->size, pad, columns);
        if (s->flip_x) {
            c->kernels->flip_u8((size_t)(s->pixels * s->taps), columns, columns);
        }
        pack_group(c, s, group);
        c->kernels->gemm_i8(&(struct shr_gemm_i8){.m = (size_t)s->pixels,
                                                  .n = (size_t)s->filters,
                                                  .k = (size_t)s->taps,
                                                  .a = columns,
                                                  .lda = (size_t)s->taps,
                                                  .a_zero = x_zero,
                                                  .b = scratch + s->at_work,
                                                  .bias = bias + group * s->filters,
                                                  .out = shr_integer_out(c->out[0]->dtype),
                                                  .scale = scale + group * s->filters,
                                                  .c_zero = shr_integer_zero(in.y_zero, 0),
                                                  .c = scratch + s->at_y,
                                                  .ldc = (size_t)s->filters});
        turn(c, s->pixels, s->filters, scratch + s->at_y,
             (char *)c->out[0]->data + (size_t)(i * s->filters * s->pixels) * y_size);
    }
}

static int conv_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct conv *s = c->state;
    const struct shr_tensor *zero = shr_integer_in(c->in, c->n_in, s->slots->a_zero);
    int32_t x_zero = shr_integer_zero(zero, 0) + (s->flip_x ? 128 : 0);
    if (s->kernel != NULL) {
        run_kernel(c, s, x_zero);
    } else {
        run_columns(c, s, x_zero);
    }
    return SHR_OK;
}

static void conv_finish(void *state)
{
    struct conv *s = state;
    if (s != NULL && s->kernel != NULL) {
        s->kernel_free(s->kernel);
    }
}

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

static int conv_integer_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0].dtype = SHR_DTYPE_I32;
    return shr_conv_infer(c, 0, 1, SIZE_MAX, err);
}

static int conv_integer_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return conv_setup(c, &conv_integer, err);
}

static int64_t conv_integer_macs(const struct shr_node *node, const struct shr_type *in,
                                 const struct shr_type *out)
{
    (void)node;
    return shr_op_macs(out, in[1].rank - 1, in[1].dim + 1);
}

static int qlinear_conv_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0].dtype = c->in[7].dtype;
    return shr_conv_infer(c, 0, 3, 8, err);
}

static int qlinear_conv_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return conv_setup(c, &qlinear_conv, err);
}

static int64_t qlinear_conv_macs(const struct shr_node *node, const struct shr_type *in,
                                 const struct shr_type *out)
{
    (void)node;
    return shr_op_macs(out, in[3].rank - 1, in[3].dim + 1);
}

static const struct shr_op rows[] = {
    {SHR_ROW("ConvInteger", 10, 0), SHR_SLOTS(2, 4, 1, 1), .infer = conv_integer_infer,
     .setup = conv_integer_setup, .forward = conv_forward, .finish = conv_finish,
     .prune_role = SHR_PRUNE_WEIGHTED, .weight_slot = 1, .bias_slot = -1,
     .macs = conv_integer_macs},
    {SHR_ROW("QLinearConv", 10, 0), SHR_SLOTS(8, 9, 1, 1), .infer = qlinear_conv_infer,
     .setup = qlinear_conv_setup, .forward = conv_forward, .finish = conv_finish,
     .prune_role = SHR_PRUNE_WEIGHTED, .weight_slot = 3, .bias_slot = 8, .macs = qlinear_conv_macs},
};
const struct shr_op_family shr_ops_integer_conv = {rows, SHR_COUNT_OF(rows)};
