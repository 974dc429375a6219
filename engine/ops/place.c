/* Operators whose elements go to places that counting tells, without looking at them: Trilu,
 * EyeLike, OneHot, ReverseSequence, DepthToSpace, SpaceToDepth, CenterCropPad, BitCast. Elements of
 * any type of fixed size. */
#include "ops/util.h"

#include <string.h>

#include "ops/families.h"

static void copy_one(const void *x, int64_t from, void *y, int64_t to, size_t size)
{
    memcpy((char *)y + (size_t)to * size, (const char *)x + (size_t)from * size, size);
}

/* ── Trilu ──────────────────────────────────────────────────────────────────────────────────── */

static int trilu_infer(struct shr_infer *c, struct shr_err *err)
{
    if (c->in[0].rank >= 0 && c->in[0].rank < 2) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the input is no matrix");
    }
    return shr_infer_same(c, err);
}

static int trilu_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0]; /* (…, n, m) */
    const bool upper = shr_node_int(c->node, "upper", 1) != 0;
    const size_t size = shr_dtype_size(x->dtype);
    int64_t k = 0, n = x->dim[x->rank - 2], m = x->dim[x->rank - 1];
    if (c->n_in > 1 && c->in[1] != NULL) {
        if (shr_tensor_count(c->in[1]) != 1) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "k is no scalar");
        }
        k = shr_op_int_at(c->in[1], 0);
        k = k < -n ? -n : k > m ? m : k;
    }
    shr_copy_same(x, c->out[0]);
    for (int64_t i = 0; m > 0 && i < shr_tensor_count(x) / m; i++) {
        int64_t edge = i % n + k; /* the diagonal of this row */
        edge = upper ? edge : edge + 1;
        edge = edge < 0 ? 0 : edge > m ? m : edge;
        int64_t from = upper ? 0 : edge, to = upper ? edge : m;
        memset((char *)c->out[0]->data + (size_t)(i * m + from) * size, 0,
               (size_t)(to - from) * size);
    }
    return SHR_OK;
}

static int trilu_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_FIXED_SIZE, err);
    return code == SHR_OK ? shr_op_want(c, 1, SHR_BIT(I64) | SHR_BIT(I32), err) : code;
}

/* ── EyeLike ────────────────────────────────────────────────────────────────────────────────── */

static int eye_infer(struct shr_infer *c, struct shr_err *err)
{
    if (c->in[0].rank >= 0 && c->in[0].rank != 2) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the input is no matrix");
    }
    int64_t dtype = shr_node_int(c->node, "dtype", c->in[0].dtype);
    if (dtype < 0 || dtype >= SHR_DTYPE_COUNT) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "dtype is %lld", (long long)dtype);
    }
    c->out[0] = c->in[0];
    c->out[0].dtype = (enum shr_dtype)dtype;
    return SHR_OK;
}

static int eye_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return ((SHR_NUMBERS | SHR_FLOATS | SHR_BIT(BOOL)) >> c->out[0]->dtype & 1u) != 0
               ? SHR_OK
               : shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "cannot make elements of type %s",
                             shr_dtype_name(c->out[0]->dtype));
}

static int eye_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct shr_tensor *y = c->out[0];
    int64_t k = shr_node_int(c->node, "k", 0), n = y->dim[0], m = y->dim[1];
    k = k < -n ? -n : k > m ? m : k;
    memset(y->data, 0, shr_tensor_bytes(y));
    for (int64_t i = 0; i < n; i++) {
        if (i + k >= 0 && i + k < m) {
            shr_tensor_set(y, i * m + i + k, 1.0);
        }
    }
    return SHR_OK;
}

/* ── OneHot ─────────────────────────────────────────────────────────────────────────────────── */

static int one_hot_axis(const struct shr_node *node, int rank, int *ret, struct shr_err *err)
{
    return shr_op_axis(node, "axis", shr_node_int(node, "axis", -1), rank + 1, ret, err);
}

static int one_hot_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    int axis = 0;
    int64_t depth = -1;
    y->dtype = c->in[2].dtype;
    if (x->rank < 0) {
        return SHR_OK;
    }
    if (x->rank == SHR_MAX_RANK) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the result has too many dims");
    }
    int code = one_hot_axis(c->node, x->rank, &axis, err);
    if (code == SHR_OK && c->in_data[1] != NULL) {
        double d = shr_tensor_count(c->in_data[1]) == 1 ? shr_tensor_get(c->in_data[1], 0) : -1.0;
        if (!(d >= 0.0 && d < 9e15)) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "depth is no count");
        }
        depth = (int64_t)d;
    }
    y->rank = 0;
    for (int i = 0; i <= x->rank && code == SHR_OK; i++) {
        if (i == axis) {
            shr_type_set_dim(y, y->rank++, depth, NULL);
        }
        if (i < x->rank) {
            shr_type_copy_dim(y, y->rank++, x, i);
        }
    }
    return code;
}

static int one_hot_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_NUMBERS | SHR_FLOATS, err);
    if (code == SHR_OK && shr_tensor_count(c->in[2]) != 2) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "values are not two");
    }
    return code == SHR_OK ? shr_op_want(c, 2, SHR_FIXED_SIZE, err) : code;
}

static int one_hot_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0]; /* (outer, depth, inner) */
    int axis = 0;
    int code = one_hot_axis(c->node, x->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    const int64_t depth = y->dim[axis], inner = shr_dims_product(y->dim, axis + 1, y->rank);
    const size_t size = shr_dtype_size(y->dtype);
    for (int64_t i = 0; i < shr_tensor_count(y); i++) {
        copy_one(c->in[2]->data, 0, y->data, i, size);
    }
    for (int64_t i = 0; i < shr_tensor_count(x); i++) {
        double at = shr_tensor_get(x, i);
        at += at < 0.0 ? (double)depth : 0.0;
        if (at >= 0.0 && at < (double)depth) { /* outside: all off */
            copy_one(c->in[2]->data, 1, y->data,
                     (i / inner * depth + (int64_t)at) * inner + i % inner, size);
        }
    }
    return SHR_OK;
}

/* ── ReverseSequence ────────────────────────────────────────────────────────────────────────── */

static int reverse_axes(const struct shr_node *node, int64_t *ret_time, struct shr_err *err)
{
    int64_t time = shr_node_int(node, "time_axis", 0), batch = shr_node_int(node, "batch_axis", 1);
    if (time < 0 || time > 1 || batch < 0 || batch > 1 || time == batch) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "time_axis %lld and batch_axis %lld",
                           (long long)time, (long long)batch);
    }
    *ret_time = time;
    return SHR_OK;
}

static int reverse_infer(struct shr_infer *c, struct shr_err *err)
{
    int64_t time = 0;
    int code = reverse_axes(c->node, &time, err);
    const struct shr_type *x = &c->in[0], *lengths = &c->in[1];
    if (code != SHR_OK || x->rank < 0) {
        return code != SHR_OK ? code : shr_infer_same(c, err);
    }
    int64_t batch = x->rank < 2 ? -1 : x->dim[1 - time];
    if (x->rank < 2 ||
        (lengths->rank >= 0 && (lengths->rank != 1 || (lengths->dim[0] >= 0 && batch >= 0 &&
                                                       lengths->dim[0] != batch)))) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "sequence_lens do not fit the batch");
    }
    return shr_infer_same(c, err);
}

static int reverse_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_FIXED_SIZE, err);
    return code == SHR_OK ? shr_op_want(c, 1, SHR_BIT(I64) | SHR_BIT(I32), err) : code;
}

static int reverse_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    int64_t time = 0;
    int code = reverse_axes(c->node, &time, err);
    if (code != SHR_OK) {
        return code;
    }
    const int64_t steps = x->dim[time];
    const size_t row = (size_t)shr_dims_product(x->dim, 2, x->rank) * shr_dtype_size(x->dtype);
    for (int64_t i = 0; i < x->dim[0] * x->dim[1]; i++) {
        int64_t a = i / x->dim[1], b = i % x->dim[1], t = time == 0 ? a : b;
        int64_t length = shr_op_int_at(c->in[1], time == 0 ? b : a);
        if (length < 0 || length > steps) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "a sequence of %lld in %lld steps",
                               (long long)length, (long long)steps);
        }
        int64_t from = t < length ? length - 1 - t : t;
        if (row > 0) {
            copy_one(x->data, time == 0 ? from * x->dim[1] + b : a * x->dim[1] + from,
                     c->out[0]->data, i, row);
        }
    }
    return SHR_OK;
}

/* ── DepthToSpace, SpaceToDepth: (n, c, h, w) with blocks of b * b pixels ───────────────────── */

static int block_of(const struct shr_infer *c, int64_t *ret, struct shr_err *err)
{
    *ret = shr_node_int(c->node, "blocksize", 0);
    if (*ret < 1 || *ret > INT16_MAX) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "blocksize is %lld", (long long)*ret);
    }
    if (c->in[0].rank >= 0 && c->in[0].rank != 4) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the input has %d dims, not 4",
                           c->in[0].rank);
    }
    return SHR_OK;
}

/* Dim i times a factor, or divided by it when that is negative. */
static int scale_dim(const struct shr_infer *c, int i, int64_t factor, struct shr_err *err)
{
    int64_t n = c->in[0].dim[i];
    if (n < 0) {
        return shr_type_set_dim(&c->out[0], i, -1, NULL), SHR_OK;
    }
    if (factor > 0 ? n > INT64_MAX / factor : n % -factor != 0) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "dim %d, %lld, does not fit the block", i,
                           (long long)n);
    }
    shr_type_set_dim(&c->out[0], i, factor > 0 ? n * factor : n / -factor, NULL);
    return SHR_OK;
}

static int space_infer(struct shr_infer *c, bool to_space, struct shr_err *err)
{
    int64_t b = 0;
    int code = block_of(c, &b, err);
    c->out[0] = c->in[0];
    if (code == SHR_OK && c->in[0].rank == 4) {
        code = scale_dim(c, 1, to_space ? -b * b : b * b, err);
        for (int i = 2; i < 4 && code == SHR_OK; i++) {
            code = scale_dim(c, i, to_space ? b : -b, err);
        }
    }
    return code;
}

static int depth_to_space_infer(struct shr_infer *c, struct shr_err *err)
{
    return space_infer(c, true, err);
}

static int space_to_depth_infer(struct shr_infer *c, struct shr_err *err)
{
    return space_infer(c, false, err);
}

/* The small image is (n, c, h, w) in `depth` = b * b * c channels; the large one y[n, c, hb, wb].
 * A channel of the small one is (b, b, c), or (c, b, b) in mode CRD. */
static int depth_to_space_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    const bool crd = strcmp(shr_node_text(c->node, "mode", "DCR"), "CRD") == 0;
    const int64_t b = shr_node_int(c->node, "blocksize", 1), plane = x->dim[2] * x->dim[3];
    const int64_t channel = crd ? b * b * plane : plane, pixel = crd ? plane : y->dim[1] * plane;
    const int64_t dim[] = {y->dim[0], y->dim[1], x->dim[2], b, x->dim[3], b};
    const int64_t stride[] = {x->dim[1] * plane, channel, x->dim[3], b * pixel, 1, pixel};
    shr_copy_strided(shr_dtype_size(x->dtype), 6, dim, stride, x->data, y->data);
    return SHR_OK;
}

static int space_to_depth_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    const int64_t b = shr_node_int(c->node, "blocksize", 1), w = x->dim[3], plane = x->dim[2] * w;
    const int64_t row = b * w;
    const int64_t dcr[] = {y->dim[0], b, b, x->dim[1], y->dim[2], y->dim[3]};
    const int64_t dcr_stride[] = {x->dim[1] * plane, w, 1, plane, row, b};
    const int64_t crd[] = {y->dim[0], x->dim[1], b, b, y->dim[2], y->dim[3]};
    const int64_t crd_stride[] = {x->dim[1] * plane, plane, w, 1, row, b};
    const bool channels_first = strcmp(shr_node_text(c->node, "mode", "DCR"), "CRD") == 0;
    const int64_t *dim = channels_first ? crd : dcr;
    const int64_t *stride = channels_first ? crd_stride : dcr_stride;
    shr_copy_strided(shr_dtype_size(x->dtype), 6, dim, stride, x->data, y->data);
    return SHR_OK;
}

/* ── CenterCropPad: the middle of every dim, zeros around ───────────────────────────────────── */

/* The wanted size of each dim; -1 = not known. */
static int crop_dims(const struct shr_node *node, const struct shr_int_list *shape, int rank,
                     const int64_t *dim, int64_t *ret, struct shr_err *err)
{
    struct shr_int_list axes = {0};
    size_t n = 0;
    const int64_t *v = shr_node_ints(node, "axes", &n);
    if (n > SHR_LIST_MAX) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%zu axes", n);
    }
    axes.n = v == NULL ? (size_t)rank : n;
    for (size_t i = 0; i < axes.n; i++) {
        axes.v[i] = v == NULL ? (int64_t)i : v[i];
    }
    unsigned mask;
    int code = shr_op_axes_mask(node, &axes, rank, &mask, err);
    if (code == SHR_OK && shape->known && shape->n != axes.n) {
        code = shr_op_fail(node, err, SHR_ERR_INVALID, "%zu sizes for %zu axes", shape->n, axes.n);
    }
    memcpy(ret, dim, (size_t)rank * sizeof *ret);
    for (size_t i = 0; i < axes.n && code == SHR_OK; i++) {
        int64_t at = axes.v[i] < 0 ? axes.v[i] + rank : axes.v[i];
        ret[at] = shape->known ? shape->v[i] : -1;
        if (shape->known && shape->v[i] < 0) {
            code = shr_op_fail(node, err, SHR_ERR_INVALID, "size %zu is negative", i);
        }
    }
    return code;
}

static int crop_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_int_list shape;
    int64_t dim[SHR_MAX_RANK];
    const int rank = c->in[0].rank;
    c->out[0] = c->in[0];
    int code = shr_op_list_infer(c, NULL, 1, &shape, err);
    if (code == SHR_OK && rank >= 0) {
        code = crop_dims(c->node, &shape, rank, c->in[0].dim, dim, err);
    }
    for (int i = 0; i < rank && code == SHR_OK; i++) {
        if (dim[i] != c->in[0].dim[i] || dim[i] >= 0) {
            shr_type_set_dim(&c->out[0], i, dim[i], NULL);
        }
    }
    return code;
}

static int crop_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    int64_t x_stride[SHR_MAX_RANK], y_stride[SHR_MAX_RANK], n[SHR_MAX_RANK] = {1};
    const size_t size = shr_dtype_size(x->dtype);
    const int last = x->rank > 0 ? x->rank - 1 : 0;
    int64_t rows = 1, x_from = 0, y_from = 0;
    shr_dense_strides(x->rank, x->dim, x_stride);
    shr_dense_strides(y->rank, y->dim, y_stride);
    for (int i = 0; i < x->rank; i++) { /* the part that both have */
        const int64_t more = y->dim[i] - x->dim[i];
        n[i] = more >= 0 ? x->dim[i] : y->dim[i];
        y_from += more >= 0 ? more / 2 * y_stride[i] : 0;
        x_from += more < 0 ? -more / 2 * x_stride[i] : 0;
        rows *= i < last ? n[i] : 1;
    }
    memset(y->data, 0, shr_tensor_bytes(y));
    for (int64_t row = 0; row < rows && n[last] > 0; row++) {
        int64_t from = x_from, to = y_from, rest = row;
        for (int i = last - 1; i >= 0; rest /= n[i--]) {
            from += rest % n[i] * x_stride[i];
            to += rest % n[i] * y_stride[i];
        }
        memcpy((char *)y->data + (size_t)to * size, (const char *)x->data + (size_t)from * size,
               (size_t)n[last] * size);
    }
    return SHR_OK;
}

/* ── BitCast ────────────────────────────────────────────────────────────────────────────────── */

static int bit_cast_infer(struct shr_infer *c, struct shr_err *err)
{
    int64_t to = shr_node_int(c->node, "to", 0);
    c->out[0] = c->in[0];
    c->out[0].dtype = to > 0 && to < SHR_DTYPE_COUNT ? (enum shr_dtype)to : SHR_DTYPE_NONE;
    if (to <= 0 || (c->in[0].dtype != SHR_DTYPE_NONE && c->out[0].dtype != SHR_DTYPE_NONE &&
                    shr_dtype_size(c->in[0].dtype) != shr_dtype_size(c->out[0].dtype))) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "to is %lld", (long long)to);
    }
    return SHR_OK;
}

static int bit_cast_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    shr_copy_same(c->in[0], c->out[0]);
    return SHR_OK;
}

#define PLACE(name, since, in_min, in_max, infer_, setup_, fn)                                     \
    {                                                                                              \
        SHR_ROW(name, since, 0), SHR_SLOTS(in_min, in_max, 1, 1),                                  \
            .infer = infer_, .setup = setup_, .forward = fn, SHR_NO_WEIGHT, .halves = true         \
    }

static const struct shr_op rows[] = {
    PLACE("BitCast", 26, 1, 1, bit_cast_infer, shr_op_setup_move, bit_cast_forward),
    PLACE("CenterCropPad", 18, 2, 2, crop_infer, shr_op_setup_move, crop_forward),
    PLACE("DepthToSpace", 1, 1, 1, depth_to_space_infer, shr_op_setup_move, depth_to_space_forward),
    PLACE("EyeLike", 9, 1, 1, eye_infer, eye_setup, eye_forward),
    PLACE("OneHot", 9, 3, 3, one_hot_infer, one_hot_setup, one_hot_forward),
    PLACE("ReverseSequence", 10, 2, 2, reverse_infer, reverse_setup, reverse_forward),
    PLACE("SpaceToDepth", 1, 1, 1, space_to_depth_infer, shr_op_setup_move, space_to_depth_forward),
    PLACE("Trilu", 14, 1, 2, trilu_infer, trilu_setup, trilu_forward),
};
const struct shr_op_family shr_ops_place = {rows, SHR_COUNT_OF(rows)};
