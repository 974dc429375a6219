/* Resize and its elder Upsample: nearest (any type of fixed size), linear and cubic (float32), all
 * coordinate transformations, antialiasing, regions of interest.
 *
 * DESIGN. The axes are independent. For each one that changes, setup makes a table: every output
 * index has `taps` input indices and weights. Linear and cubic go over the axes one after the
 * other, from buffer to buffer; nearest has one tap and copies. A coordinate between two inputs,
 * base and base + 1, has its ratio in (0, 1], so that one that hits an input exactly looks to the
 * left of it. Antialiasing widens the filter by 1 / scale where the axis shrinks. */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

enum coordinates {
    HALF_PIXEL,
    HALF_PIXEL_SYMMETRIC,
    PYTORCH_HALF_PIXEL,
    ALIGN_CORNERS,
    ASYMMETRIC,
    TF_CROP_AND_RESIZE,
    TF_HALF_PIXEL_FOR_NN,
};
enum rounding { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL, OLD /* ceil where the axis shrinks */ };
enum method { NEAREST, LINEAR, CUBIC };

enum {
    MOST_TAPS = 1 << 24 /* of all outputs along an axis: a tiny scale spreads an antialias filter */
};

struct form { /* the attributes */
    enum coordinates coordinates;
    enum rounding rounding;
    enum method method;
    bool antialias, exclude_outside;
    double cubic_a;
    float extrapolation;
};

struct axis {        /* of the input */
    int64_t in, out; /* -1 = not known */
    double scale, roi_lo, roi_hi;
};

/* ── Attributes ─────────────────────────────────────────────────────────────────────────────── */

static int choose(const struct shr_node *node, const char *name, const char *fallback,
                  const char *const *texts, size_t n, int *ret, struct shr_err *err)
{
    const char *text = shr_node_text(node, name, fallback);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(text, texts[i]) == 0) {
            *ret = (int)i;
            return SHR_OK;
        }
    }
    return shr_op_fail(node, err, SHR_ERR_INVALID, "%s is '%.40s'", name, text);
}

static int read_form(const struct shr_node *node, int64_t opset, struct form *ret,
                     struct shr_err *err)
{
    static const char *const methods[] = {"nearest", "linear", "cubic"};
    static const char *const coordinates[] = {
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",  "align_corners",
        "asymmetric", "tf_crop_and_resize",   "tf_half_pixel_for_nn"};
    static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                            "ceil"};
    const bool old = opset < 11; /* nothing but the mode could be chosen */
    int method = 0, where = ASYMMETRIC, rounding = OLD;
    int code = choose(node, "mode", "nearest", methods, old ? 2 : 3, &method, err);
    if (code == SHR_OK && !old) {
        code = choose(node, "coordinate_transformation_mode", "half_pixel", coordinates,
                      SHR_COUNT_OF(coordinates), &where, err);
    }
    if (code == SHR_OK && !old) {
        code = choose(node, "nearest_mode", "round_prefer_floor", roundings,
                      SHR_COUNT_OF(roundings), &rounding, err);
    }
    *ret = (struct form){
        .coordinates = (enum coordinates)where,
        .rounding = strcmp(node->op_type, "Upsample") == 0 ? FLOOR : (enum rounding)rounding,
        .method = (enum method)method,
        .antialias = shr_node_int(node, "antialias", 0) != 0,
        .exclude_outside = shr_node_int(node, "exclude_outside", 0) != 0,
        .cubic_a = (double)shr_node_float(node, "cubic_coeff_a", -0.75f),
        .extrapolation = shr_node_float(node, "extrapolation_value", 0.0f),
    };
    return code;
}

/* ── Geometry ───────────────────────────────────────────────────────────────────────────────── */

struct lists { /* data of the inputs; NULL = not given or not known */
    const struct shr_tensor *roi, *scales, *sizes;
    bool unknown; /* one is given and not known */
};

static bool given(const struct shr_tensor *t)
{
    return t != NULL && t->data != NULL && shr_tensor_count(t) > 0;
}

static int count_is(const struct shr_node *node, const char *what, const struct shr_tensor *t,
                    int64_t want, struct shr_err *err)
{
    int64_t n = shr_tensor_count(t);
    return n == want ? SHR_OK
                     : shr_op_fail(node, err, SHR_ERR_INVALID, "%lld %s, not %lld", (long long)n,
                                   what, (long long)want);
}

/* The axes that the lists are about, in their order. */
static int read_axes(const struct shr_node *node, int rank, int *axes, int *ret_n,
                     struct shr_err *err)
{
    size_t n = 0;
    const int64_t *v = shr_node_ints(node, "axes", &n);
    *ret_n = v == NULL ? rank : (int)n;
    if (n > (size_t)rank) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%zu axes for %d dims", n, rank);
    }
    int code = SHR_OK;
    for (int i = 0; i < *ret_n && code == SHR_OK; i++) {
        axes[i] = i;
        code = v == NULL ? SHR_OK : shr_op_axis(node, "axis", v[i], rank, &axes[i], err);
    }
    return code;
}

static int scale_axis(const struct shr_node *node, struct axis *a, float scale, bool crop,
                      struct shr_err *err)
{
    if (!(scale > 0.0f) || scale > 1e9f) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "a scale is %g", (double)scale);
    }
    a->scale = (double)scale;
    const float part = crop ? (float)(a->roi_hi - a->roi_lo) : 1.0f;
    const float n = floorf((float)a->in * part * scale);
    if (!(n >= 0.0f && n < 9e15f)) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "an axis would have %g elements", (double)n);
    }
    a->out = (int64_t)n;
    return SHR_OK;
}

/* Sizes keep their ratio: all axes take the smallest or the largest of their scales. */
static int size_axes(const struct shr_node *node, const int *axes, int n,
                     const struct shr_tensor *sizes, struct axis *axis, struct shr_err *err)
{
    static const char *const policies[] = {"stretch", "not_larger", "not_smaller"};
    int policy = 0;
    int code = choose(node, "keep_aspect_ratio_policy", "stretch", policies, 3, &policy, err);
    double common = policy == 1 ? (double)INFINITY : 0.0;
    for (int i = 0; i < n && code == SHR_OK; i++) {
        struct axis *a = &axis[axes[i]];
        a->out = shr_op_int_at(sizes, i);
        if (a->out < 0 || (a->out > 0 && a->in == 0)) {
            code = shr_op_fail(node, err, SHR_ERR_INVALID, "size %d is %lld", i, (long long)a->out);
        }
        a->scale = a->in == 0 ? 1.0 : (double)a->out / (double)a->in;
        common = policy == 1 ? fmin(common, a->scale) : fmax(common, a->scale);
    }
    for (int i = 0; i < n && code == SHR_OK && policy != 0; i++) {
        struct axis *a = &axis[axes[i]];
        a->scale = common;
        a->out = (int64_t)floor(common * (double)a->in + 0.5);
    }
    return code;
}

/* All axes, from what is known; axis[].in is set. */
static int geometry(const struct shr_node *node, int rank, const struct lists *l,
                    const struct form *f, struct axis *axis, struct shr_err *err)
{
    const bool crop = f->coordinates == TF_CROP_AND_RESIZE;
    int axes[SHR_MAX_RANK], n = 0;
    int code = read_axes(node, rank, axes, &n, err);
    for (int i = 0; i < rank; i++) {
        axis[i].out = axis[i].in;
        axis[i].scale = axis[i].roi_hi = 1.0;
        axis[i].roi_lo = 0.0;
    }
    if (code == SHR_OK && crop && l->roi != NULL) {
        code = count_is(node, "ends of a region", l->roi, 2 * n, err);
        for (int i = 0; i < n && code == SHR_OK; i++) {
            axis[axes[i]].roi_lo = shr_tensor_get(l->roi, i);
            axis[axes[i]].roi_hi = shr_tensor_get(l->roi, n + i);
        }
    }
    if (code != SHR_OK || (l->scales == NULL && l->sizes == NULL)) {
        return code;
    }
    if (l->sizes != NULL) {
        code = count_is(node, "sizes", l->sizes, n, err);
        return code == SHR_OK ? size_axes(node, axes, n, l->sizes, axis, err) : code;
    }
    code = count_is(node, "scales", l->scales, n, err);
    for (int i = 0; i < n && code == SHR_OK; i++) {
        float scale = (float)shr_tensor_get(l->scales, i);
        code = scale_axis(node, &axis[axes[i]], scale, crop, err);
    }
    return code;
}

static struct lists lists_of(int64_t opset, size_t n_in, const struct shr_tensor *const *in)
{
    struct lists l = {0};
    const size_t scales = opset < 11 ? 1 : 2;
    l.scales = scales < n_in && given(in[scales]) ? in[scales] : NULL;
    if (opset >= 11) {
        l.roi = n_in > 1 && given(in[1]) ? in[1] : NULL;
        l.sizes = n_in > 3 && given(in[3]) ? in[3] : NULL;
    }
    return l;
}

/* Upsample's scales were an attribute until opset 8. */
static void attribute_scales(const struct shr_node *node, struct lists *l, struct shr_tensor *room)
{
    const struct shr_attr *a = shr_node_attr(node, "scales");
    if (l->scales == NULL && a != NULL && a->kind == SHR_ATTR_FLOATS) {
        *room = (struct shr_tensor){
            .dtype = SHR_DTYPE_F32, .rank = 1, .dim = {(int64_t)a->n}, .data = a->floats};
        l->scales = room;
    }
}

static int resize_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct axis axis[SHR_MAX_RANK];
    struct form f;
    struct shr_tensor room;
    struct lists l = lists_of(c->opset, c->n_in, c->in_data);
    attribute_scales(c->node, &l, &room);
    c->out[0] = *x;
    int code = read_form(c->node, c->opset, &f, err);
    if (code != SHR_OK || x->rank < 0) {
        return code;
    }
    for (int i = 0; i < x->rank; i++) {
        axis[i].in = x->dim[i] < 0 ? 1 : x->dim[i];
    }
    code = geometry(c->node, x->rank, &l, &f, axis, err);
    const bool known = l.scales != NULL || l.sizes != NULL;
    for (int i = 0; i < x->rank && code == SHR_OK; i++) {
        bool kept = known && x->dim[i] < 0 && axis[i].scale == 1.0 && l.sizes == NULL;
        bool told = known && (x->dim[i] >= 0 || l.sizes != NULL);
        if (!kept) {
            shr_type_set_dim(&c->out[0], i, told ? axis[i].out : -1, NULL);
        }
    }
    return code;
}

/* ── Tables ─────────────────────────────────────────────────────────────────────────────────── */

struct table { /* of one axis */
    int axis;
    int64_t in, out, taps;
    int64_t *index; /* (out, taps) */
    float *weight;  /* (out, taps); NULL for nearest */
    bool *outside;  /* (out) extrapolated; NULL = none */
};

struct resize {
    struct form form;
    int n;
    struct table table[SHR_MAX_RANK];
    size_t half; /* bytes of one of the two buffers in scratch */
};

static double source(const struct form *f, const struct axis *a, int64_t i)
{
    const double x = (double)i, in = (double)a->in, out = (double)a->out;
    const double width = a->scale * in; /* may be a fraction */
    switch (f->coordinates) {
    case ALIGN_CORNERS:
        return width == 1.0 || a->out == 1 ? 0.0 : x * (in - 1.0) / (width - 1.0);
    case ASYMMETRIC: /* in float32: what should be whole is, and nearest does not slip */
        return (double)((float)x / (float)a->scale);
    case PYTORCH_HALF_PIXEL:
        return a->out == 1 ? 0.0 : (x + 0.5) / a->scale - 0.5;
    case HALF_PIXEL_SYMMETRIC:
        return in / 2.0 * (1.0 - out / width) + (x + 0.5) / a->scale - 0.5;
    case TF_CROP_AND_RESIZE:
        return a->out == 1 ? 0.5 * (a->roi_lo + a->roi_hi) * (in - 1.0)
                           : a->roi_lo * (in - 1.0) +
                                 x * (a->roi_hi - a->roi_lo) * (in - 1.0) / (out - 1.0);
    case TF_HALF_PIXEL_FOR_NN:
        return (x + 0.5) / a->scale;
    default:
        return (x + 0.5) / a->scale - 0.5;
    }
}

static double nearest(const struct form *f, const struct axis *a, double x)
{
    switch (f->rounding) {
    case PREFER_FLOOR:
        return ceil(x - 0.5);
    case PREFER_CEIL:
        return floor(x + 0.5);
    case CEIL:
        return ceil(x);
    case OLD:
        return a->scale < 1.0 ? ceil(x) : floor(x);
    default:
        return floor(x);
    }
}

/* The filter at distance d from its middle. */
static double filter(const struct form *f, double d)
{
    const double x = fabs(d), a = f->cubic_a;
    if (f->method == LINEAR) {
        return x < 1.0 ? 1.0 - x : 0.0;
    }
    if (x <= 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    }
    return x < 2.0 ? ((x - 5.0) * x + 8.0) * x * a - 4.0 * a : 0.0;
}

static int64_t clamp(double x, int64_t n)
{
    return x < 0.0 ? 0 : x > (double)(n - 1) ? n - 1 : (int64_t)x;
}

/* Where the taps begin behind the base, and by what distances are shrunk. */
static int64_t first_tap(const struct form *f, const struct axis *a, double *ret_shrink)
{
    const double support = f->method == CUBIC ? 2.0 : 1.0;
    *ret_shrink = f->antialias && a->scale < 1.0 ? a->scale : 1.0;
    return (int64_t)floor(-support / *ret_shrink) + 1;
}

static void weigh(const struct form *f, const struct axis *a, double x, const struct table *t,
                  int64_t *index, float *weight)
{
    double shrink, sum = 0.0;
    const int64_t first = first_tap(f, a, &shrink);
    const double base = ceil(x) - 1.0, ratio = x - base;
    for (int pass = 0; pass < 2; pass++) { /* the sum, then each part of it */
        for (int64_t k = 0; k < t->taps; k++) {
            const double at = base + (double)(first + k);
            const bool inside = at >= 0.0 && at < (double)a->in;
            double w = filter(f, ((double)(first + k) - ratio) * shrink);
            w = inside || !f->exclude_outside ? w : 0.0;
            sum += pass == 0 ? w : 0.0;
            weight[k] = (float)(sum == 0.0 ? w : w / sum);
            index[k] = clamp(at, a->in);
        }
    }
}

static int make_table(struct shr_op_setup *c, const struct form *f, const struct axis *a,
                      struct table *t, struct shr_err *err)
{
    double shrink;
    t->in = a->in;
    t->out = a->out;
    t->taps = f->method == NEAREST ? 1 : 2 - 2 * first_tap(f, a, &shrink);
    size_t n;
    if (!shr_size_mul((size_t)a->out, (size_t)t->taps, &n) || n > MOST_TAPS) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT,
                           "the filter of an axis has more than %d taps", MOST_TAPS);
    }
    t->index = shr_arena_new(c->arena, n + 1, sizeof *t->index);
    t->weight = f->method == NEAREST ? NULL : shr_arena_new(c->arena, n + 1, sizeof *t->weight);
    bool crop = f->coordinates == TF_CROP_AND_RESIZE;
    t->outside = crop ? shr_arena_new(c->arena, (size_t)a->out + 1, sizeof *t->outside) : NULL;
    if (t->index == NULL || (f->method != NEAREST && t->weight == NULL) ||
        (crop && t->outside == NULL)) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (int64_t i = 0; i < a->out; i++) {
        const double x = source(f, a, i);
        if (crop) {
            t->outside[i] = x < 0.0 || x > (double)(a->in - 1);
        }
        if (f->method == NEAREST) {
            t->index[i] = clamp(nearest(f, a, x), a->in);
        } else {
            weigh(f, a, x, t, t->index + i * t->taps, t->weight + i * t->taps);
        }
    }
    return SHR_OK;
}

/* Two buffers, each as large as the largest result but the last. */
static int take_buffers(struct shr_op_setup *c, struct resize *s, struct shr_err *err)
{
    int64_t dim[SHR_MAX_RANK], n = 0, largest = 0;
    memcpy(dim, c->in[0]->dim, sizeof dim);
    for (int i = 0; i + 1 < s->n; i++) {
        dim[s->table[i].axis] = s->table[i].out;
        if (!shr_dims_count(c->in[0]->rank, dim, &n) || n > INT64_MAX / 16) {
            return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the image between is too large");
        }
        largest = n > largest ? n : largest;
    }
    s->half = ((size_t)largest * sizeof(float) + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
    c->scratch = 2 * s->half;
    return SHR_OK;
}

static int resize_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct axis axis[SHR_MAX_RANK];
    struct resize *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    int code = read_form(c->node, c->opset, &s->form, err);
    if (code == SHR_OK) {
        code = shr_op_want(c, 0, s->form.method == NEAREST ? SHR_FIXED_SIZE : SHR_BIT(F32), err);
    }
    struct shr_tensor room;
    struct lists l = lists_of(c->opset, c->n_in, c->in);
    attribute_scales(c->node, &l, &room);
    const bool crop = s->form.coordinates == TF_CROP_AND_RESIZE;
    if (code == SHR_OK && (l.scales == NULL) == (l.sizes == NULL)) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED,
                           "needs constant scales, or constant sizes");
    }
    if (code == SHR_OK && crop && l.roi == NULL) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "needs a constant region");
    }
    for (int i = 0; i < x->rank; i++) {
        axis[i].in = x->dim[i];
    }
    if (code == SHR_OK) {
        code = geometry(c->node, x->rank, &l, &s->form, axis, err);
    }
    for (int i = 0; i < x->rank && code == SHR_OK && shr_tensor_count(c->out[0]) > 0; i++) {
        bool same = axis[i].scale == 1.0 && axis[i].out == axis[i].in && !crop;
        if (!same) {
            s->table[s->n].axis = i;
            code = make_table(c, &s->form, &axis[i], &s->table[s->n], err);
            s->n++;
        }
    }
    return code == SHR_OK && s->form.method != NEAREST ? take_buffers(c, s, err) : code;
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

/* x (outer, in, inner) to y (outer, out, inner) */
static void filter_axis(const struct table *t, int64_t outer, int64_t inner, const float *x,
                        float *y)
{
    for (int64_t o = 0; o < outer; o++, x += t->in * inner) {
        for (int64_t i = 0; i < t->out; i++, y += inner) {
            const int64_t *index = t->index + i * t->taps;
            const float *weight = t->weight + i * t->taps;
            for (int64_t j = 0; j < inner; j++) {
                y[j] = weight[0] * x[index[0] * inner + j];
            }
            for (int64_t k = 1; k < t->taps; k++) {
                const float *row = x + index[k] * inner;
                for (int64_t j = 0; j < inner; j++) {
                    y[j] += weight[k] * row[j];
                }
            }
        }
    }
}

static void filter_all(const struct shr_op_call *c, const struct resize *s)
{
    const int rank = c->in[0]->rank;
    int64_t dim[SHR_MAX_RANK];
    const float *x = c->in[0]->data;
    memcpy(dim, c->in[0]->dim, sizeof dim);
    for (int i = 0; i < s->n; i++) {
        const struct table *t = &s->table[i];
        char *buffer = (char *)c->scratch + (i % 2 == 0 ? 0 : s->half);
        float *y = i + 1 == s->n ? c->out[0]->data : (void *)buffer;
        filter_axis(t, shr_dims_product(dim, 0, t->axis), shr_dims_product(dim, t->axis + 1, rank),
                    x, y);
        dim[t->axis] = t->out;
        x = y;
    }
}

/* The table of a dim; NULL = it stays as it is. */
static const struct table *table_of(const struct resize *s, int axis)
{
    for (int i = 0; i < s->n; i++) {
        if (s->table[i].axis == axis) {
            return &s->table[i];
        }
    }
    return NULL;
}

/* Calls for every element of the output with its place in the input, or -1 = extrapolated. */
static void each_output(const struct shr_op_call *c, const struct resize *s,
                        void (*fn)(const struct shr_op_call *c, int64_t to, int64_t from))
{
    const struct shr_tensor *x = c->in[0], *y = c->out[0];
    const struct table *table[SHR_MAX_RANK];
    int64_t own[SHR_MAX_RANK], index[SHR_MAX_RANK] = {0};
    const int64_t n = shr_tensor_count(y);
    shr_dense_strides(x->rank, x->dim, own);
    for (int d = 0; d < x->rank; d++) {
        table[d] = table_of(s, d);
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t from = 0;
        for (int d = 0; d < x->rank && from >= 0; d++) {
            const struct table *t = table[d];
            bool outside = t != NULL && t->outside != NULL && t->outside[index[d]];
            int64_t at = t == NULL ? index[d] : t->index[index[d] * t->taps];
            from = outside ? -1 : from + at * own[d];
        }
        fn(c, i, from);
        for (int d = y->rank - 1; d >= 0 && ++index[d] == y->dim[d]; d--) {
            index[d] = 0;
        }
    }
}

static void extrapolate(const struct shr_op_call *c, int64_t to, int64_t from)
{
    const struct resize *s = c->state;
    if (from < 0) {
        shr_tensor_set(c->out[0], to, (double)s->form.extrapolation);
    }
}

static void copy_nearest(const struct shr_op_call *c, int64_t to, int64_t from)
{
    const size_t size = shr_dtype_size(c->in[0]->dtype);
    if (from >= 0) {
        memcpy((char *)c->out[0]->data + (size_t)to * size,
               (const char *)c->in[0]->data + (size_t)from * size, size);
    } else {
        extrapolate(c, to, from);
    }
}

static int resize_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct resize *s = c->state;
    if (shr_tensor_count(c->out[0]) == 0) {
        return SHR_OK; /* a scale made an axis empty: there are no tables */
    }
    if (s->n == 0) {
        shr_copy_same(c->in[0], c->out[0]);
    } else if (s->form.method == NEAREST) {
        each_output(c, s, copy_nearest);
    } else {
        filter_all(c, s);
        if (s->form.coordinates == TF_CROP_AND_RESIZE) {
            each_output(c, s, extrapolate);
        }
    }
    return SHR_OK;
}

#define RESIZE(name, since, until, in_min, in_max)                                                 \
    {                                                                                              \
        SHR_ROW(name, since, until), SHR_SLOTS(in_min, in_max, 1, 1),                              \
            .infer = resize_infer, .setup = resize_setup, .forward = resize_forward,               \
            .backward = shr_backward_resize, SHR_NO_WEIGHT                                         \
    }

static const struct shr_op rows[] = {
    RESIZE("Resize", 10, 10, 2, 2),
    RESIZE("Resize", 11, 0, 1, 4),
    RESIZE("Upsample", 7, 8, 1, 1),
    RESIZE("Upsample", 9, 9, 2, 2),
};
const struct shr_op_family shr_ops_resize = {rows, SHR_COUNT_OF(rows)};
