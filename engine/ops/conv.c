/* Convolution of 1, 2 or 3 spatial axes, with groups, dilations and auto_pad; float32.
 *
 * A constant weight over 1 or 2 axes is prepared once and run by the kernels. Any other is im2col
 * and a matrix product: of each image and group, Y (oc/groups, pixels) = W (oc/groups, taps) times
 * the columns (taps, pixels). */
#include "ops/window.h"

#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

static int check_channels(const struct shr_infer *c, size_t x, size_t w, size_t bias,
                          int64_t groups, struct shr_err *err)
{
    int64_t in = c->in[x].dim[1], per_group = c->in[w].dim[1], out = c->in[w].dim[0];
    if (groups < 1 || groups > INT32_MAX || per_group > INT32_MAX) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "group is %lld", (long long)groups);
    }
    if (in >= 0 && per_group >= 0 && in != per_group * groups) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "the input has %lld channels, the weight wants %lld in %lld groups",
                           (long long)in, (long long)(per_group * groups), (long long)groups);
    }
    if (out >= 0 && out % groups != 0) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "%lld output channels are no multiple of %lld groups", (long long)out,
                           (long long)groups);
    }
    if (shr_op_has_in(c, bias) && c->in[bias].rank >= 0 &&
        (c->in[bias].rank != 1 ||
         (out >= 0 && c->in[bias].dim[0] >= 0 && c->in[bias].dim[0] != out))) {
        char t[96];
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the bias is %s, not [%lld]",
                           shr_dims_text(c->in[bias].rank, c->in[bias].dim, t, sizeof t),
                           (long long)out);
    }
    return SHR_OK;
}

int shr_conv_infer(struct shr_infer *c, size_t x_slot, size_t w_slot, size_t bias_slot,
                   struct shr_err *err)
{
    const struct shr_type *x = &c->in[x_slot], *w = &c->in[w_slot];
    struct shr_type *y = &c->out[0];
    if (x->rank < 0 || w->rank < 0) {
        return SHR_OK;
    }
    if (x->rank != w->rank) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "the input has %d dims, the weight has %d", x->rank, w->rank);
    }
    struct shr_window win;
    int code = shr_window_init(&win, c->node, x, w->dim + 2, err);
    if (code == SHR_OK) {
        code = check_channels(c, x_slot, w_slot, bias_slot, shr_node_int(c->node, "group", 1), err);
    }
    if (code != SHR_OK) {
        return code;
    }
    y->rank = x->rank;
    shr_type_copy_dim(y, 0, x, 0);
    shr_type_copy_dim(y, 1, w, 0);
    for (int i = 0; i < win.n; i++) {
        shr_type_set_dim(y, 2 + i, win.axis[SHR_WINDOW_AXES - win.n + i].out, NULL);
    }
    return SHR_OK;
}

static int conv_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0].dtype = c->in[0].dtype;
    int code = shr_op_same_dtype(c, 0, 1, err);
    return code != SHR_OK ? code : shr_conv_infer(c, 0, 1, 2, err);
}

struct conv {
    struct shr_window win;
    int64_t groups, channels, filters; /* the last two of a group */
    int64_t taps, pixels;
    struct shr_conv_f32 *kernel; /* NULL = im2col */
    void (*kernel_free)(struct shr_conv_f32 *conv);
    size_t image_size, result_size; /* bytes of x and y as NHWC in scratch, before the kernel's */
    size_t columns_size; /* bytes of the columns in scratch, in front of the packed ones */
};

static size_t aligned_size(const struct shr_tensor *t)
{
    size_t bytes = (size_t)shr_tensor_count(t) * sizeof(float);
    return (bytes + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
}

/* The kernel takes and gives NHWC: plans that fuse keep images so, a single node turns them. */
static int use_kernel(struct shr_op_setup *c, struct conv *s, struct shr_err *err)
{
    const struct shr_conv_f32_spec spec = {
        .shape = shr_window_conv(&s->win, c->in[0]->dim[0], c->in[0]->dim[1], c->in[1]->dim[0],
                                 s->groups),
        .w = c->in[1]->data,
        .bias = c->n_in > 2 && c->in[2] != NULL ? c->in[2]->data : NULL,
        .threads = (int)c->threads,
    };
    s->kernel = c->kernels->conv_f32_new(&spec, &c->scratch);
    s->kernel_free = c->kernels->conv_f32_free;
    if (s->kernel == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->kernel = c->kernels->conv_f32_form(s->kernel);
    s->image_size = aligned_size(c->in[0]);
    s->result_size = aligned_size(c->out[0]);
    c->scratch += s->image_size + s->result_size;
    return SHR_OK;
}

static void run_kernel(const struct shr_op_call *c, const struct conv *s)
{
    const struct shr_tensor *x = c->in[0], *y = c->out[0]; /* (n, c, h, w) */
    char *scratch = c->scratch;
    float *image = (float *)(void *)scratch, *result = (float *)(void *)(scratch + s->image_size);
    const size_t channels = (size_t)x->dim[1], filters = (size_t)y->dim[1];
    const size_t size = (size_t)shr_dims_product(x->dim, 2, x->rank);
    const size_t pixels = (size_t)s->pixels;
    for (int64_t i = 0; i < x->dim[0]; i++) {
        const size_t at = (size_t)i * channels * size;
        c->kernels->transpose_f32(channels, size, (const float *)x->data + at, image + at);
    }
    c->kernels->conv_f32_run(s->kernel, image, NULL, result,
                             scratch + s->image_size + s->result_size, c->team);
    for (int64_t i = 0; i < x->dim[0]; i++) {
        const size_t at = (size_t)i * filters * pixels;
        c->kernels->transpose_f32(pixels, filters, result + at, (float *)y->data + at);
    }
}

static int conv_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_setup_f32(c, err);
    if (code != SHR_OK) {
        return code;
    }
    struct conv *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    const struct shr_tensor *w = c->in[1];
    code = shr_window_of(&s->win, c->node, c->in[0], w->dim + 2, err);
    if (code != SHR_OK) {
        return code;
    }
    c->state = s;
    s->groups = shr_node_int(c->node, "group", 1);
    s->channels = w->dim[1];
    s->filters = w->dim[0] / s->groups;
    s->taps = shr_dims_product(w->dim, 1, w->rank);
    s->pixels = s->win.axis[0].out * s->win.axis[1].out * s->win.axis[2].out;
    bool constant = w->data != NULL && (c->n_in < 3 || c->in[2] == NULL || c->in[2]->data != NULL);
    bool empty = shr_tensor_count(c->in[0]) == 0 || shr_tensor_count(w) == 0;
    if (constant && s->win.n <= 2 && !empty) {
        return use_kernel(c, s, err);
    }
    size_t count, bytes;
    if (!shr_size_mul((size_t)s->taps, (size_t)s->pixels, &count) ||
        !shr_size_mul(count, sizeof(float), &bytes)) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the columns are too large");
    }
    s->columns_size = (bytes + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
    c->scratch = s->columns_size + c->kernels->gemm_f32_size((size_t)s->taps, (size_t)s->pixels);
    return SHR_OK;
}

/* One tap of one channel: x (d, h, w) to row (od, oh, ow), zero where it lies in the padding. */
static void columns_row(const struct shr_window *win, const int64_t *tap, const float *x,
                        float *row)
{
    const struct shr_window_axis *d = &win->axis[0], *h = &win->axis[1], *w = &win->axis[2];
    int64_t from, to;
    shr_window_inside(w, tap[2], &from, &to);
    memset(row, 0, (size_t)(d->out * h->out * w->out) * sizeof *row);
    for (int64_t i = 0; i < d->out * h->out; i++) {
        int64_t id = shr_window_at(d, i / h->out, tap[0]);
        int64_t ih = shr_window_at(h, i % h->out, tap[1]);
        if (id < 0 || id >= d->in || ih < 0 || ih >= h->in) {
            continue;
        }
        const float *line = x + (id * h->in + ih) * w->in;
        for (int64_t o = from; o < to; o++) {
            row[i * w->out + o] = line[shr_window_at(w, o, tap[2])];
        }
    }
}

static void columns(const struct conv *s, const float *x, float *col)
{
    const struct shr_window_axis *a = s->win.axis;
    int64_t size = a[0].in * a[1].in * a[2].in;
    int64_t kernel = a[0].kernel * a[1].kernel * a[2].kernel;
    for (int64_t t = 0; t < s->taps; t++) {
        int64_t k = t % kernel;
        int64_t tap[] = {k / (a[1].kernel * a[2].kernel), k / a[2].kernel % a[1].kernel,
                         k % a[2].kernel};
        columns_row(&s->win, tap, x + t / kernel * size, col + t * s->pixels);
    }
}

static int conv_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct conv *s = c->state;
    const float *x = c->in[0]->data; /* (n, groups * channels, d, h, w) */
    const float *w = c->in[1]->data; /* (groups * filters, channels, kd, kh, kw) */
    float *y = c->out[0]->data;      /* (n, groups * filters, od, oh, ow) */
    if (s->kernel != NULL) {
        run_kernel(c, s);
        return SHR_OK;
    }
    const float *bias = c->n_in > 2 && c->in[2] != NULL ? c->in[2]->data : NULL;
    int64_t size = s->win.axis[0].in * s->win.axis[1].in * s->win.axis[2].in;
    float *col = c->scratch;
    void *packed = (char *)c->scratch + s->columns_size;
    for (int64_t i = 0; i < c->in[0]->dim[0] * s->groups; i++) {
        int64_t g = i % s->groups;
        float *yg = y + i * s->filters * s->pixels;
        columns(s, x + i * s->channels * size, col);
        c->kernels->gemm_f32_pack((size_t)s->taps, (size_t)s->pixels, col, (size_t)s->pixels, false,
                                  packed);
        c->kernels->gemm_f32(&(struct shr_gemm_f32){.m = (size_t)s->filters,
                                                    .n = (size_t)s->pixels,
                                                    .k = (size_t)s->taps,
                                                    .a = w + g * s->filters * s->taps,
                                                    .lda = (size_t)s->taps,
                                                    .b = packed,
                                                    .c = yg,
                                                    .ldc = (size_t)s->pixels});
        for (int64_t j = 0; bias != NULL && j < s->filters * s->pixels; j++) {
            yg[j] += bias[g * s->filters + j / s->pixels];
        }
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

static int64_t conv_macs(const struct shr_node *node, const struct shr_type *in,
                         const struct shr_type *out)
{
    (void)node;
    return shr_op_macs(out, in[1].rank - 1, in[1].dim + 1);
}

static const struct shr_op rows[] = {
    {SHR_ROW("Conv", 1, 0), SHR_SLOTS(2, 3, 1, 1), .infer = conv_infer, .setup = conv_setup,
     .forward = conv_forward, .finish = conv_finish, .quant_role = SHR_QUANT_WEIGHTED,
     .prune_role = SHR_PRUNE_WEIGHTED, .weight_slot = 1, .bias_slot = 2, .macs = conv_macs,
     .backward = shr_backward_conv},
};
const struct shr_op_family shr_ops_conv = {rows, SHR_COUNT_OF(rows)};
