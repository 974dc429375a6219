/* Operators that read images between their pixels: GridSample, AffineGrid (which makes its grids)
 * and RoiAlign, float32.
 *
 * GridSample works on any number of spatial axes n: an output is a sum over taps^n pixels, of one
 * (nearest), two (linear) or four (cubic) along each axis. Grids name the last axis first. */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"

enum { MAX_SPACE = 3, MAX_TAPS = 4 };

/* ── GridSample ─────────────────────────────────────────────────────────────────────────────── */

enum padding { PAD_ZEROS, PAD_BORDER, PAD_REFLECTION };

struct sampling {
    int taps; /* 1, 2 or 4 */
    enum padding padding;
    bool align;
};

static int read_sampling(const struct shr_node *node, struct sampling *ret, struct shr_err *err)
{
    const char *mode = shr_node_text(node, "mode", "linear");
    const char *padding = shr_node_text(node, "padding_mode", "zeros");
    const bool linear = strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0;
    const bool cubic = strcmp(mode, "cubic") == 0 || strcmp(mode, "bicubic") == 0;
    const bool border = strcmp(padding, "border") == 0;
    const bool reflection = strcmp(padding, "reflection") == 0;
    if (!linear && !cubic && strcmp(mode, "nearest") != 0) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "mode is '%.40s'", mode);
    }
    if (!border && !reflection && strcmp(padding, "zeros") != 0) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "padding_mode is '%.40s'", padding);
    }
    *ret = (struct sampling){.taps = cubic    ? 4
                                     : linear ? 2
                                              : 1,
                             .padding = border       ? PAD_BORDER
                                        : reflection ? PAD_REFLECTION
                                                     : PAD_ZEROS,
                             .align = shr_node_int(node, "align_corners", 0) != 0};
    return SHR_OK;
}

static int grid_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *grid = &c->in[1];
    struct sampling s;
    c->out[0].dtype = x->dtype;
    int code = read_sampling(c->node, &s, err);
    if (code != SHR_OK || x->rank < 0 || grid->rank < 0) {
        return code;
    }
    const int n = x->rank - 2;
    if (n < 1 || n > MAX_SPACE || grid->rank != x->rank ||
        (grid->dim[n + 1] >= 0 && grid->dim[n + 1] != n) ||
        (x->dim[0] >= 0 && grid->dim[0] >= 0 && x->dim[0] != grid->dim[0])) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the grid does not fit the input");
    }
    c->out[0].rank = x->rank;
    shr_type_copy_dim(&c->out[0], 0, x, 0);
    shr_type_copy_dim(&c->out[0], 1, x, 1);
    for (int i = 0; i < n; i++) {
        shr_type_copy_dim(&c->out[0], 2 + i, grid, 1 + i);
    }
    return SHR_OK;
}

static double reflect(double x, double low, double high)
{
    const double range = high - low;
    if (range <= 0.0) {
        return low;
    }
    const double away = x < low ? low - x : x > high ? x - high : 0.0;
    const double times = floor(away / range), rest = away - times * range;
    const bool even = fmod(times, 2.0) == 0.0;
    return x < low    ? (even ? low + rest : high - rest)
           : x > high ? (even ? high - rest : low + rest)
                      : x;
}

static double clamp(double x, double low, double high) /* NaN: low */
{
    return !(x > low) ? low : x > high ? high : x;
}

/* Cubic convolution with a = -0.75, of the four pixels around a place r behind the second. */
static void cubic_weights(double r, double *w)
{
    const double a = -0.75, s = 1.0 - r;
    w[0] = ((a * (r + 1.0) - 5.0 * a) * (r + 1.0) + 8.0 * a) * (r + 1.0) - 4.0 * a;
    w[1] = ((a + 2.0) * r - (a + 3.0)) * r * r + 1.0;
    w[2] = ((a + 2.0) * s - (a + 3.0)) * s * s + 1.0;
    w[3] = ((a * (s + 1.0) - 5.0 * a) * (s + 1.0) + 8.0 * a) * (s + 1.0) - 4.0 * a;
}

struct taps {             /* along one axis */
    int64_t at[MAX_TAPS]; /* -1 = a zero */
    double weight[MAX_TAPS];
};

/* What a place in [-1, 1] of an axis of n pixels reads. */
static void read_axis(const struct sampling *s, double place, int64_t n, struct taps *ret)
{
    const double length = (double)n, low = s->align ? 0.0 : -0.5;
    const double high = s->align ? length - 1.0 : length - 0.5;
    double x =
        s->align ? (place + 1.0) / 2.0 * (length - 1.0) : ((place + 1.0) * length - 1.0) / 2.0;
    x = s->taps == 1 ? rint(x) : x;
    x = isfinite(x) ? x : -2.0 * length;            /* far outside */
    if (s->padding == PAD_BORDER && s->taps != 4) { /* cubic bounds its pixels, as PyTorch does */
        x = x < low || x > high ? clamp(x, 0.0, length - 1.0) : x;
    } else if (s->padding == PAD_REFLECTION) {
        x = reflect(x, low, high);
    }
    const double base = floor(x), r = x - base;
    const double linear[] = {1.0 - r, r}, one[] = {1.0};
    double cubic[MAX_TAPS];
    cubic_weights(r, cubic);
    const double *w = s->taps == 4 ? cubic : s->taps == 2 ? linear : one;
    for (int k = 0; k < s->taps; k++) {
        double at = base + (double)(s->taps == 4 ? k - 1 : k);
        if (s->padding == PAD_REFLECTION) {
            at = clamp(trunc(reflect(at, low, high)), 0.0, length - 1.0);
        } else if (s->padding == PAD_BORDER) {
            at = clamp(at, 0.0, length - 1.0);
        }
        ret->at[k] = at >= 0.0 && at < length ? (int64_t)at : -1;
        ret->weight[k] = w[k];
    }
}

/* The sum over all combinations of taps, of one channel. */
static double sum_taps(const struct taps *t, int taps, int n, const int64_t *stride, const float *x)
{
    int combinations = 1;
    for (int i = 0; i < n; i++) {
        combinations *= taps;
    }
    double sum = 0.0;
    for (int k = 0; k < combinations; k++) {
        double weight = 1.0;
        int64_t at = 0;
        for (int i = 0, rest = k; i < n && at >= 0; i++, rest /= taps) {
            const int tap = rest % taps;
            weight *= t[i].weight[tap];
            at = t[i].at[tap] < 0 ? -1 : at + t[i].at[tap] * stride[i];
        }
        sum += at < 0 ? 0.0 : weight * (double)x[at];
    }
    return sum;
}

static int grid_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0]; /* (n, c, spatial…) */
    const struct shr_tensor *y = c->out[0];
    const float *grid = c->in[1]->data; /* (n, spatial…, axes) */
    const int n = x->rank - 2;
    const int64_t pixels = shr_dims_product(y->dim, 2, y->rank);
    const int64_t plane = shr_dims_product(x->dim, 2, x->rank), channels = x->dim[1];
    int64_t stride[SHR_MAX_RANK];
    struct sampling s;
    int code = read_sampling(c->node, &s, err);
    shr_dense_strides(x->rank, x->dim, stride);
    for (int64_t i = 0; i < x->dim[0] * pixels && code == SHR_OK; i++) {
        const int64_t image = i / pixels, pixel = i % pixels;
        struct taps t[MAX_SPACE];
        for (int a = 0; a < n; a++) {
            read_axis(&s, (double)grid[i * n + n - 1 - a], x->dim[2 + a], &t[a]);
        }
        for (int64_t ch = 0; ch < channels; ch++) {
            const float *from = (const float *)x->data + (image * channels + ch) * plane;
            ((float *)y->data)[(image * channels + ch) * pixels + pixel] =
                (float)(plane == 0 ? 0.0 : sum_taps(t, s.taps, n, stride + 2, from));
        }
    }
    return code;
}

/* ── AffineGrid ─────────────────────────────────────────────────────────────────────────────── */

static int affine_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_int_list size;
    struct shr_type *y = &c->out[0];
    y->dtype = c->in[0].dtype;
    int code = shr_op_list_infer(c, NULL, 1, &size, err);
    if (code != SHR_OK || !size.known) {
        return code;
    }
    const int n = (int)size.n - 2;
    const struct shr_type *theta = &c->in[0];
    bool fits = n == 2 || n == 3;
    for (size_t i = 0; i < size.n && fits; i++) {
        fits = size.v[i] >= 0;
    }
    fits = fits && (theta->rank < 0 ||
                    (theta->rank == 3 && (theta->dim[0] < 0 || theta->dim[0] == size.v[0]) &&
                     (theta->dim[1] < 0 || theta->dim[1] == n) &&
                     (theta->dim[2] < 0 || theta->dim[2] == n + 1)));
    if (!fits) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "theta and size do not fit");
    }
    y->rank = n + 2;
    shr_type_set_dim(y, 0, size.v[0], NULL);
    for (int i = 0; i < n; i++) {
        shr_type_set_dim(y, 1 + i, size.v[2 + i], NULL);
    }
    shr_type_set_dim(y, 1 + n, n, NULL);
    return SHR_OK;
}

static int affine_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_BIT(F32), err);
}

static int affine_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *y = c->out[0]; /* (batch, spatial…, n) */
    const bool align = shr_node_int(c->node, "align_corners", 0) != 0;
    const int n = y->rank - 2;
    const int64_t pixels = shr_dims_product(y->dim, 1, y->rank - 1);
    for (int64_t i = 0; i < y->dim[0] * pixels; i++) {
        const float *theta = (const float *)c->in[0]->data + i / pixels * n * (n + 1);
        double place[MAX_SPACE]; /* x, y, z */
        int64_t rest = i % pixels;
        for (int a = 0; a < n; a++) {
            const int64_t length = y->dim[n - a], k = rest % length;
            rest /= length;
            const double step = align ? 2.0 / (double)(length - 1) : 2.0 / (double)length;
            place[a] = align ? (length == 1 ? -1.0 : -1.0 + (double)k * step)
                             : -1.0 + ((double)k + 0.5) * step;
        }
        for (int r = 0; r < n; r++) {
            double sum = (double)theta[r * (n + 1) + n];
            for (int a = 0; a < n; a++) {
                sum += (double)theta[r * (n + 1) + a] * place[a];
            }
            ((float *)y->data)[i * n + r] = (float)sum;
        }
    }
    return SHR_OK;
}

/* ── RoiAlign ───────────────────────────────────────────────────────────────────────────────── */

enum { MOST_SAMPLES = 1 << 12 }; /* along a side of a bin */

static int roi_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *rois = &c->in[1];
    const int64_t h = shr_node_int(c->node, "output_height", 1);
    const int64_t w = shr_node_int(c->node, "output_width", 1);
    struct shr_type *y = &c->out[0];
    y->dtype = x->dtype;
    if (x->rank < 0 || rois->rank < 0) {
        return SHR_OK;
    }
    if (x->rank != 4 || rois->rank != 2 || (rois->dim[1] >= 0 && rois->dim[1] != 4) || h < 1 ||
        w < 1 || shr_node_int(c->node, "sampling_ratio", 0) > MOST_SAMPLES) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "regions of [?, 4] in a 4-D input wanted");
    }
    y->rank = 4;
    shr_type_copy_dim(y, 0, rois, 0);
    shr_type_copy_dim(y, 1, x, 1);
    shr_type_set_dim(y, 2, h, NULL);
    shr_type_set_dim(y, 3, w, NULL);
    return SHR_OK;
}

static int roi_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_BIT(F32), err);
    if (code == SHR_OK) {
        code = shr_op_want(c, 1, SHR_BIT(F32), err);
    }
    if (code == SHR_OK) {
        code = shr_op_want(c, 2, SHR_BIT(I64) | SHR_BIT(I32), err);
    }
    if (code == SHR_OK && shr_tensor_count(c->in[2]) != c->in[1]->dim[0]) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "not one image for each region");
    }
    return code;
}

struct bilinear {
    double weight[4];
    int64_t at[4];
};

/* Between four pixels; further than a pixel outside nothing is read. */
static struct bilinear between(double y, double x, int64_t h, int64_t w)
{
    struct bilinear b = {{0.0}, {0}};
    if (!(y >= -1.0 && y <= (double)h && x >= -1.0 && x <= (double)w)) {
        return b;
    }
    y = clamp(y, 0.0, (double)(h - 1));
    x = clamp(x, 0.0, (double)(w - 1));
    const int64_t y0 = (int64_t)y, x0 = (int64_t)x;
    const int64_t y1 = y0 + 1 < h ? y0 + 1 : y0, x1 = x0 + 1 < w ? x0 + 1 : x0;
    const double ly = y - (double)y0, lx = x - (double)x0;
    return (struct bilinear){{(1.0 - ly) * (1.0 - lx), (1.0 - ly) * lx, ly * (1.0 - lx), ly * lx},
                             {y0 * w + x0, y0 * w + x1, y1 * w + x0, y1 * w + x1}};
}

struct region {
    double y, x, bin_h, bin_w; /* of the feature map */
    int64_t rows, cols;        /* samples in a bin */
    bool max;
};

/* In float32, since rounding decides how many samples there are. */
static struct region read_region(const struct shr_op_call *c, const float *roi)
{
    const char *mode = shr_node_text(c->node, "coordinate_transformation_mode", "half_pixel");
    const float scale = shr_node_float(c->node, "spatial_scale", 1.0f);
    const bool shifted = c->opset >= 16 && strcmp(mode, "half_pixel") == 0;
    const float shift = shifted ? 0.5f : 0.0f;
    const float x = roi[0] * scale - shift, y = roi[1] * scale - shift;
    float w = roi[2] * scale - shift - x, h = roi[3] * scale - shift - y;
    if (!shifted) { /* at least a pixel */
        w = w < 1.0f ? 1.0f : w;
        h = h < 1.0f ? 1.0f : h;
    }
    const float bin_h = h / (float)c->out[0]->dim[2], bin_w = w / (float)c->out[0]->dim[3];
    const int64_t ratio = shr_node_int(c->node, "sampling_ratio", 0);
    return (struct region){
        .y = (double)y,
        .x = (double)x,
        .bin_h = (double)bin_h,
        .bin_w = (double)bin_w,
        .rows = ratio > 0 ? ratio : (int64_t)clamp(ceil((double)bin_h), 0.0, MOST_SAMPLES),
        .cols = ratio > 0 ? ratio : (int64_t)clamp(ceil((double)bin_w), 0.0, MOST_SAMPLES),
        .max = strcmp(shr_node_text(c->node, "mode", "avg"), "max") == 0,
    };
}

struct span {
    int64_t from, end;
};

/* The samples of a bin's side that may lie within a pixel of [0, size], out of n, a step apart. */
static struct span near(double start, double step, int64_t n, int64_t size)
{
    if (!isfinite(start) || isnan(step)) {
        return (struct span){0, 0};
    }
    if (step <= 0.0) {
        return (struct span){0, n};
    }
    const double from = floor((-1.0 - start) / step) - 1.0;
    const double end = ceil(((double)size - start) / step) + 1.0;
    return (struct span){(int64_t)clamp(from, 0.0, (double)n), (int64_t)clamp(end, 0.0, (double)n)};
}

/* The average or the maximum of the samples in a bin; of a maximum the weighted pixels count. What
 * lies outside counts as 0, and is not visited: a region may be far larger than the image. */
static float run_bin(const struct region *r, int64_t ph, int64_t pw, const float *x, int64_t h,
                     int64_t w)
{
    const int64_t n = r->rows * r->cols;
    if (n == 0) {
        return 0.0f;
    }
    const double step_y = r->bin_h / (double)r->rows, step_x = r->bin_w / (double)r->cols;
    const double y0 = r->y + (double)ph * r->bin_h + 0.5 * step_y;
    const double x0 = r->x + (double)pw * r->bin_w + 0.5 * step_x;
    const struct span down = near(y0, step_y, r->rows, h), right = near(x0, step_x, r->cols, w);
    const bool all = down.end - down.from == r->rows && right.end - right.from == r->cols;
    double sum = 0.0, most = all ? -(double)INFINITY : 0.0;
    for (int64_t i = down.from; i < down.end; i++) {
        for (int64_t j = right.from; j < right.end; j++) {
            const struct bilinear b =
                between(y0 + (double)i * step_y, x0 + (double)j * step_x, h, w);
            for (int k = 0; k < 4; k++) {
                const double v = b.weight[k] * (double)x[b.at[k]];
                sum += v;
                most = v > most ? v : most;
            }
        }
    }
    return (float)(r->max ? most : sum / (double)n);
}

/* Samples within the image: as many as asked for, else about one for each pixel. */
static int64_t roi_macs(const struct shr_node *node, const struct shr_type *in,
                        const struct shr_type *out)
{
    const int64_t ratio = shr_node_int(node, "sampling_ratio", 0);
    const int64_t sides[2] = {ratio > 0 ? ratio : in[0].dim[2], ratio > 0 ? ratio : in[0].dim[3]};
    return shr_op_macs(out, 2, sides);
}

static int roi_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    const struct shr_tensor *y = c->out[0]; /* (regions, c, h, w) */
    const int64_t bins = y->dim[2] * y->dim[3], plane = x->dim[2] * x->dim[3];
    for (int64_t i = 0; i < y->dim[0]; i++) {
        const struct region r = read_region(c, (const float *)c->in[1]->data + 4 * i);
        const int64_t image = shr_op_int_at(c->in[2], i);
        if (image < 0 || image >= x->dim[0] || plane == 0) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "image %lld of %lld",
                               (long long)image, (long long)x->dim[0]);
        }
        for (int64_t j = 0; j < y->dim[1] * bins; j++) {
            const float *from = (const float *)x->data + (image * x->dim[1] + j / bins) * plane;
            ((float *)y->data)[i * y->dim[1] * bins + j] =
                run_bin(&r, j % bins / y->dim[3], j % y->dim[3], from, x->dim[2], x->dim[3]);
        }
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("AffineGrid", 20, 0), SHR_SLOTS(2, 2, 1, 1), .infer = affine_infer,
     .setup = affine_setup, .forward = affine_forward, SHR_NO_WEIGHT},
    {SHR_ROW("GridSample", 16, 0), SHR_SLOTS(2, 2, 1, 1), .infer = grid_infer,
     .setup = shr_op_setup_f32, .forward = grid_forward, SHR_NO_WEIGHT},
    {SHR_ROW("RoiAlign", 10, 0), SHR_SLOTS(3, 3, 1, 1), .infer = roi_infer, .setup = roi_setup,
     .forward = roi_forward, .macs = roi_macs, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_sample = {rows, SHR_COUNT_OF(rows)};
