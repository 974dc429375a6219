/* Gradients of convolutions over 1 or 2 axes, float32, for backward rules: ConvGradInput,
 * ConvGradWeight, and ChannelSum for the bias.
 *
 * All of them compute in NHWC. The gradient of the input at stride 1 is a convolution of dy with
 * the filters turned about; at other strides each image is a product, dy (pixels, oc) times W
 * (oc, taps * c), whose columns are added where they came from. The gradient of the weights is
 * dy^T (oc, pixels) times the columns of x (pixels, taps * c), over parts of the pixels: how many
 * depends on the shape alone, and they are added in order, so that no bit depends on the threads.
 */
#include <string.h>

#include "ops/families.h"
#include "ops/train_image.h"

enum { CHUNK = 64 << 10 }; /* floats of columns at a time, about */

struct conv_grad {
    struct shr_conv_shape s; /* of the forward convolution */
    struct shr_image x, dy;  /* x: or its gradient */
    int64_t cg, og, taps;    /* channels of a group, both sides */
    int64_t (*tap)[2];       /* (taps): where it is from the first one */
    bool depthwise;
    struct shr_conv_f32 *conv; /* NULL = by columns */
    void (*conv_free)(struct shr_conv_f32 *conv);
    size_t conv_at, w_at; /* in scratch: the kernel's own, and turned or ordered filters */
    size_t worker_at, worker_bytes, rows_at, packed_at,
        packed_bytes; /* the last three: a worker's */
    int64_t chunk;    /* pixels */
    int64_t tap_step; /* taps of a block of columns */
    int64_t parts;    /* of the pixels */
    size_t sums_at;   /* (parts, oc, taps, cg), of depthwise (parts, taps, oc) */
};

static int conv_init(struct shr_op_setup *c, const struct shr_tensor *x, const struct shr_tensor *w,
                     const struct shr_tensor *dy, struct conv_grad **ret, struct shr_err *err)
{
    struct conv_grad *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = *ret = s;
    int code = shr_op_setup_f32(c, err);
    if (code == SHR_OK && (x->rank < 3 || x->rank > 4 || w->rank != x->rank)) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "works over 1 or 2 axes");
    }
    if (code == SHR_OK) {
        code = shr_image_init(c, x, &s->x, err);
    }
    if (code == SHR_OK) {
        code = shr_image_init(c, dy, &s->dy, err);
    }
    struct shr_window win;
    if (code == SHR_OK) {
        code = shr_window_init(&win, c->node, &s->x.nchw, &w->dim[2], err);
    }
    if (code != SHR_OK) {
        return code;
    }
    const int64_t groups = shr_node_int(c->node, "group", 1);
    s->s = shr_window_conv(&win, s->x.n, s->x.c, w->dim[0], groups);
    if (groups < 1 || s->x.c != w->dim[1] * groups || w->dim[0] % groups != 0 ||
        s->dy.n != s->x.n || s->dy.c != w->dim[0] || s->dy.size != s->s.oh * s->s.ow) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the operands do not fit each other");
    }
    s->cg = s->s.c / groups;
    s->og = s->s.oc / groups;
    s->taps = s->s.kh * s->s.kw;
    s->depthwise = s->cg == 1 && s->og == 1 && groups > 1;
    s->tap = shr_arena_new(c->arena, (size_t)s->taps + 1, sizeof *s->tap);
    if (s->tap == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (int64_t t = 0; t < s->taps; t++) {
        s->tap[t][0] = t / s->s.kw * s->s.dil_h;
        s->tap[t][1] = t % s->s.kw * s->s.dil_w;
    }
    return SHR_OK;
}

static bool is_empty(const struct conv_grad *s)
{
    return s->s.n == 0 || s->s.c == 0 || s->s.oc == 0 || s->x.size == 0 || s->dy.size == 0;
}

static void *room(const struct shr_op_call *c, size_t at)
{
    return (char *)c->scratch + at;
}

struct spot { /* the first tap of an output pixel */
    int64_t image, top, left;
};

static struct spot spot_of(const struct shr_conv_shape *s, int64_t pixel) /* of all images */
{
    const int64_t row = pixel / s->ow;
    return (struct spot){row / s->oh, row % s->oh * s->stride_h - s->pad_t,
                         pixel % s->ow * s->stride_w - s->pad_l};
}

/* The pixel of x under tap t, or -1 in the padding. */
static inline int64_t pixel_at(const struct conv_grad *s, const struct spot *p, int64_t t)
{
    const int64_t h = p->top + s->tap[t][0], w = p->left + s->tap[t][1];
    return h >= 0 && h < s->s.h && w >= 0 && w < s->s.w ? (p->image * s->s.h + h) * s->s.w + w : -1;
}

/* ── The gradient of the input ──────────────────────────────────────────────────────────────── */

/* The convolution of dy that gives dx; false: it has none with these pads and strides. */
static bool turned_about(const struct shr_conv_shape *s, struct shr_conv_shape *ret)
{
    const int64_t h = (s->kh - 1) * s->dil_h, w = (s->kw - 1) * s->dil_w;
    *ret = (struct shr_conv_shape){.n = s->n,
                                   .c = s->oc,
                                   .h = s->oh,
                                   .w = s->ow,
                                   .oc = s->c,
                                   .kh = s->kh,
                                   .kw = s->kw,
                                   .oh = s->h,
                                   .ow = s->w,
                                   .stride_h = 1,
                                   .stride_w = 1,
                                   .pad_t = h - s->pad_t,
                                   .pad_l = w - s->pad_l,
                                   .pad_b = h - s->pad_b,
                                   .pad_r = w - s->pad_r,
                                   .dil_h = s->dil_h,
                                   .dil_w = s->dil_w,
                                   .groups = s->groups};
    return s->stride_h == 1 && s->stride_w == 1 && ret->pad_t >= 0 && ret->pad_l >= 0 &&
           ret->pad_b >= 0 && ret->pad_r >= 0;
}

/* Scratch of a worker that makes columns of a chunk of pixels of one group. */
static int columns_setup(struct shr_op_setup *c, struct conv_grad *s, int64_t k, int64_t n,
                         size_t more, struct shr_err *err)
{
    const size_t align = SHR_MEM_ALIGN - 1;
    size_t columns = (size_t)(s->chunk * n) * sizeof(float), all = 0;
    s->rows_at = (columns + align) & ~align;
    s->packed_at = (s->rows_at + more + align) & ~align;
    s->packed_bytes = c->kernels->gemm_f32_size((size_t)k, (size_t)n);
    s->worker_bytes = (s->packed_at + s->packed_bytes + align) & ~align;
    return shr_size_mul(s->worker_bytes, c->threads, &all)
               ? shr_image_room(c, (int64_t)all, 1, &s->worker_at, err)
               : shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the columns are too large");
}

static int input_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct conv_grad *s = NULL;
    int code = conv_init(c, c->out[0], c->in[1], c->in[0], &s, err);
    if (code != SHR_OK || is_empty(s)) {
        return code;
    }
    code = shr_image_room(c, shr_tensor_count(c->in[1]), sizeof(float), &s->w_at, err);
    struct shr_conv_f32_spec spec = {.threads = (int)c->threads, .winograd = true};
    if (code != SHR_OK) {
        return code;
    }
    if (turned_about(&s->s, &spec.shape)) {
        size_t scratch;
        s->conv = c->kernels->conv_f32_new(&spec, &scratch);
        s->conv_free = c->kernels->conv_f32_free;
        return s->conv == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory")
                               : shr_image_room(c, (int64_t)scratch, 1, &s->conv_at, err);
    }
    if (s->depthwise) {
        return SHR_OK;
    }
    const int64_t n = s->taps * s->cg, pixels = s->s.oh * s->s.ow;
    s->chunk = n >= CHUNK / 16 ? 16 : CHUNK / n;
    s->chunk = s->chunk > pixels ? pixels : s->chunk;
    code = columns_setup(c, s, s->og, n, 0, err);
    s->packed_bytes = (s->packed_bytes + SHR_MEM_ALIGN - 1) & ~(size_t)(SHR_MEM_ALIGN - 1);
    return code != SHR_OK ? code
                          : shr_image_room(c, (int64_t)s->packed_bytes * s->s.groups, 1,
                                           &s->sums_at, err); /* packed filters of all groups */
}

/* w (oc, cg, taps) to (c, og, taps), the taps from the last to the first */
static void turn_filters(const struct conv_grad *s, const float *w, float *to)
{
    for (int64_t o = 0; o < s->s.oc; o++) {
        for (int64_t i = 0; i < s->cg; i++) {
            float *t = to + ((o / s->og * s->cg + i) * s->og + o % s->og) * s->taps;
            for (int64_t k = 0; k < s->taps; k++) {
                t[s->taps - 1 - k] = *w++;
            }
        }
    }
}

/* w (oc, cg, taps) to (oc, taps, cg); of a depthwise convolution to (taps, c) */
static void order_filters(const struct conv_grad *s, const float *w, float *to)
{
    for (int64_t i = 0; i < s->s.oc * s->cg * s->taps; i++) {
        const int64_t o = i / (s->cg * s->taps), ch = i / s->taps % s->cg, k = i % s->taps;
        to[s->depthwise ? k * s->s.c + o : (o * s->taps + k) * s->cg + ch] = w[i];
    }
}

struct input_run {
    const struct shr_op_call *c;
    const struct conv_grad *s;
    const float *dy, *w; /* ordered; packed when not depthwise */
    float *dx;
};

static void add_columns(const struct input_run *r, int64_t from, int64_t n, int64_t group,
                        const float *columns)
{
    const struct conv_grad *s = r->s;
    for (int64_t p = 0; p < n; p++) {
        const struct spot spot = spot_of(&s->s, from + p);
        for (int64_t t = 0; t < s->taps; t++, columns += s->cg) {
            const int64_t at = pixel_at(s, &spot, t);
            if (at >= 0) {
                float *to = r->dx + at * s->s.c + group * s->cg;
                r->c->kernels->add_f32((size_t)s->cg, to, columns, to);
            }
        }
    }
}

static void input_image(void *arg, size_t image, size_t worker)
{
    const struct input_run *r = arg;
    const struct conv_grad *s = r->s;
    const int64_t pixels = s->s.oh * s->s.ow, first = (int64_t)image * pixels;
    char *own = (char *)r->c->scratch + s->worker_at + worker * s->worker_bytes;
    const size_t image_bytes = (size_t)(s->s.h * s->s.w * s->s.c) * sizeof(float);
    memset((char *)r->dx + image * image_bytes, 0, image_bytes);
    for (int64_t p = first; p < first + pixels && s->depthwise; p++) {
        const struct spot spot = spot_of(&s->s, p);
        for (int64_t t = 0; t < s->taps; t++) {
            const int64_t at = pixel_at(s, &spot, t);
            if (at >= 0) {
                r->c->kernels->madd_f32((size_t)s->s.c, r->dy + p * s->s.c, r->w + t * s->s.c,
                                        r->dx + at * s->s.c);
            }
        }
    }
    for (int64_t p = first, n; p < first + pixels && !s->depthwise; p += n) {
        n = first + pixels - p < s->chunk ? first + pixels - p : s->chunk;
        for (int64_t g = 0; g < s->s.groups; g++) {
            const size_t k = (size_t)s->og, columns = (size_t)(s->taps * s->cg);
            r->c->kernels->gemm_f32(
                &(struct shr_gemm_f32){.m = (size_t)n,
                                       .n = columns,
                                       .k = k,
                                       .a = r->dy + p * s->s.oc + g * s->og,
                                       .lda = (size_t)s->s.oc,
                                       .b = (const char *)r->w + (size_t)g * s->packed_bytes,
                                       .c = (float *)(void *)own,
                                       .ldc = columns});
            add_columns(r, p, n, g, (float *)(void *)own);
        }
    }
}

static void input_columns(const struct shr_op_call *c, const struct conv_grad *s, const float *dy,
                          float *dx)
{
    float *w = room(c, s->w_at);
    order_filters(s, c->in[1]->data, w);
    char *packed = room(c, s->sums_at);
    const size_t columns = (size_t)(s->taps * s->cg);
    for (int64_t g = 0; g < s->s.groups && !s->depthwise; g++) {
        c->kernels->gemm_f32_pack((size_t)s->og, columns, w + (size_t)(g * s->og) * columns,
                                  columns, false, packed + (size_t)g * s->packed_bytes);
    }
    struct input_run r = {c, s, dy, s->depthwise ? w : (float *)(void *)packed, dx};
    shr_team_run(c->team, (size_t)s->s.n, input_image, &r);
}

static int input_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct conv_grad *s = c->state;
    struct shr_tensor *out = c->out[0];
    if (is_empty(s)) {
        memset(out->data, 0, shr_tensor_bytes(out));
        return SHR_OK;
    }
    const float *dy = shr_image_in(c, &s->dy, c->in[0]);
    float *dx = shr_image_out(c, &s->x, out);
    if (s->conv != NULL) {
        float *w = room(c, s->w_at);
        turn_filters(s, c->in[1]->data, w);
        c->kernels->conv_f32_load(s->conv, w, NULL);
        c->kernels->conv_f32_run(s->conv, dy, NULL, dx, room(c, s->conv_at), c->team);
    } else {
        input_columns(c, s, dy, dx);
    }
    shr_image_done(c, &s->x, out);
    return SHR_OK;
}

static void conv_finish(void *state)
{
    struct conv_grad *s = state;
    if (s->conv != NULL) {
        s->conv_free(s->conv);
    }
}

/* ── The gradient of the weights ────────────────────────────────────────────────────────────── */

/* How many partial sums there are: enough for a team, few for large weights. */
static int64_t count_parts(const struct conv_grad *s)
{
    enum { MOST = 8, LEAST_PIXELS = 512, FLOATS = 4 << 20 };
    const int64_t pixels = s->s.n * s->dy.size, floats = s->s.oc * s->taps * s->cg;
    int64_t n = pixels / LEAST_PIXELS < MOST ? pixels / LEAST_PIXELS : MOST;
    n = n > FLOATS / floats ? FLOATS / floats : n;
    return n < 1 ? 1 : n;
}

static int weight_setup(struct shr_op_setup *c, struct shr_err *err)
{
    enum { PIXELS = 384 };
    struct conv_grad *s = NULL;
    int code = conv_init(c, c->in[1], c->out[0], c->in[0], &s, err);
    if (code != SHR_OK || is_empty(s)) {
        return code;
    }
    s->parts = count_parts(s);
    code = shr_image_room(c, s->parts * s->s.oc * s->taps * s->cg, sizeof(float), &s->sums_at, err);
    if (code != SHR_OK || s->depthwise) {
        return code;
    }
    s->chunk = PIXELS;
    s->tap_step = CHUNK / (s->chunk * s->cg);
    s->tap_step = s->tap_step < 1 ? 1 : s->tap_step > s->taps ? s->taps : s->tap_step;
    s->tap_step -= s->tap_step > s->s.kw ? s->tap_step % s->s.kw : 0; /* whole rows */
    return columns_setup(c, s, s->chunk, s->tap_step * s->cg,
                         (size_t)(s->s.oc * s->chunk) * sizeof(float), err);
}

struct weight_run {
    const struct shr_op_call *c;
    const struct conv_grad *s;
    const float *x, *dy;
};

static void copy_tap(const struct weight_run *r, int64_t at, int64_t group, float *to)
{
    const struct conv_grad *s = r->s;
    if (at < 0) {
        memset(to, 0, (size_t)s->cg * sizeof *to);
    } else {
        memcpy(to, r->x + at * s->s.c + group * s->cg, (size_t)s->cg * sizeof *to);
    }
}

/* columns (n, taps [t, t + taps) of a group); a row of taps inside of the image lies together */
static void take_columns(const struct weight_run *r, int64_t from, int64_t n, int64_t group,
                         int64_t t, int64_t taps, float *to)
{
    const struct conv_grad *s = r->s;
    const bool together = s->s.groups == 1 && s->s.dil_w == 1 && taps % s->s.kw == 0;
    const int64_t row = together ? s->s.kw * s->cg : 0;
    for (int64_t p = 0; p < n; p++) {
        const struct spot spot = spot_of(&s->s, from + p);
        const bool whole = together && spot.left >= 0 && spot.left + s->s.kw <= s->s.w;
        for (int64_t k = t; k < t + taps;) {
            const int64_t at = pixel_at(s, &spot, k);
            if (whole && at >= 0) {
                const float *x = r->x + at * s->cg;
                for (int64_t i = 0; i < row && row < 16; i++) {
                    to[i] = x[i];
                }
                if (row >= 16) {
                    memcpy(to, x, (size_t)row * sizeof *to);
                }
                to += row;
                k += s->s.kw;
            } else {
                copy_tap(r, at, group, to);
                to += s->cg;
                k++;
            }
        }
    }
}

static void weight_chunk(const struct weight_run *r, int64_t from, int64_t n, bool first, char *own,
                         float *sums)
{
    const struct conv_grad *s = r->s;
    const struct shr_kernels *k = r->c->kernels;
    float *columns = (float *)(void *)own, *rows = (float *)(void *)(own + s->rows_at);
    const int64_t width = s->taps * s->cg;
    k->transpose_f32((size_t)n, (size_t)s->s.oc, r->dy + from * s->s.oc, rows);
    for (int64_t g = 0; g < s->s.groups; g++) {
        for (int64_t t = 0; t < s->taps; t += s->tap_step) {
            const int64_t taps = s->taps - t < s->tap_step ? s->taps - t : s->tap_step;
            const size_t cols = (size_t)(taps * s->cg);
            take_columns(r, from, n, g, t, taps, columns);
            k->gemm_f32_pack((size_t)n, cols, columns, cols, false, own + s->packed_at);
            k->gemm_f32(&(struct shr_gemm_f32){.m = (size_t)s->og,
                                               .n = cols,
                                               .k = (size_t)n,
                                               .a = rows + g * s->og * n,
                                               .lda = (size_t)n,
                                               .b = own + s->packed_at,
                                               .c = sums + g * s->og * width + t * s->cg,
                                               .ldc = (size_t)width,
                                               .add = !first});
        }
    }
}

static void weight_part(void *arg, size_t part, size_t worker)
{
    const struct weight_run *r = arg;
    const struct conv_grad *s = r->s;
    const int64_t all = s->s.n * s->dy.size, floats = s->s.oc * s->taps * s->cg;
    const int64_t from = all * (int64_t)part / s->parts, to = all * ((int64_t)part + 1) / s->parts;
    float *sums = (float *)room(r->c, s->sums_at) + (int64_t)part * floats;
    if (s->depthwise) {
        memset(sums, 0, (size_t)floats * sizeof *sums);
    }
    for (int64_t p = from; p < to && s->depthwise; p++) {
        const struct spot spot = spot_of(&s->s, p);
        for (int64_t t = 0; t < s->taps; t++) {
            const int64_t at = pixel_at(s, &spot, t);
            if (at >= 0) {
                r->c->kernels->madd_f32((size_t)s->s.c, r->dy + p * s->s.c, r->x + at * s->s.c,
                                        sums + t * s->s.c);
            }
        }
    }
    for (int64_t p = from; p < to && !s->depthwise; p += s->chunk) {
        weight_chunk(r, p, to - p < s->chunk ? to - p : s->chunk, p == from,
                     (char *)room(r->c, s->worker_at + worker * s->worker_bytes), sums);
    }
}

static int weight_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct conv_grad *s = c->state;
    float *dw = c->out[0]->data;
    if (is_empty(s)) {
        memset(dw, 0, shr_tensor_bytes(c->out[0]));
        return SHR_OK;
    }
    struct weight_run r = {c, s, shr_image_in(c, &s->x, c->in[1]),
                           shr_image_in(c, &s->dy, c->in[0])};
    shr_team_run(c->team, (size_t)s->parts, weight_part, &r);
    float *sums = room(c, s->sums_at);
    const int64_t floats = s->s.oc * s->taps * s->cg;
    for (int64_t part = 1; part < s->parts; part++) {
        c->kernels->add_f32((size_t)floats, sums, sums + part * floats, sums);
    }
    for (int64_t i = 0; i < floats; i++) { /* to (oc, cg, taps) */
        const int64_t o = i / (s->cg * s->taps), ch = i / s->taps % s->cg, k = i % s->taps;
        dw[i] = sums[s->depthwise ? k * s->s.c + o : (o * s->taps + k) * s->cg + ch];
    }
    return SHR_OK;
}

/* ── The gradient of the bias: the sum of each channel ──────────────────────────────────────── */

static int channels_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0].dtype = c->in[0].dtype;
    c->out[0].rank = 1;
    if (c->in[0].rank > 1) {
        shr_type_copy_dim(&c->out[0], 0, &c->in[0], 1);
    } else {
        shr_type_set_dim(&c->out[0], 0, -1, NULL);
    }
    return SHR_OK;
}

struct channel_sum {
    struct shr_image x;
    struct shr_image_sums sums;
    double *total; /* (c) */
};

static int channels_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct channel_sum *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    int code = shr_image_init(c, c->in[0], &s->x, err);
    if (code == SHR_OK) {
        code = shr_image_sums_init(c, &s->x, &s->sums, err);
    }
    if (code == SHR_OK) {
        s->total = shr_arena_new(c->arena, (size_t)s->x.c + 1, sizeof *s->total);
        code = s->total == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory") : SHR_OK;
    }
    return code;
}

static int channels_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct channel_sum *s = c->state;
    float *y = c->out[0]->data;
    shr_image_sums(c, &s->x, &s->sums, shr_image_in(c, &s->x, c->in[0]), NULL, NULL, s->total);
    for (int64_t j = 0; j < s->x.c; j++) {
        y[j] = (float)s->total[j];
    }
    return SHR_OK;
}

#define TRAIN(name_, in_)                                                                          \
    .domain = SHR_TRAIN_DOMAIN, .name = name_, .since = 1, SHR_SLOTS(in_, in_, 1, 1), SHR_NO_WEIGHT

static const struct shr_op rows[] = {
    {TRAIN("ChannelSum", 1), .infer = channels_infer, .setup = channels_setup,
     .forward = channels_forward},
    {TRAIN("ConvGradInput", 2), .infer = shr_infer_dims, .setup = input_setup,
     .forward = input_forward, .finish = conv_finish},
    {TRAIN("ConvGradWeight", 2), .infer = shr_infer_dims, .setup = weight_setup,
     .forward = weight_forward, .finish = conv_finish},
};
const struct shr_op_family shr_ops_train_conv = {rows, SHR_COUNT_OF(rows)};
