/* The way back of pools and of columns: MaxUnpool puts values where their maxima were, Col2Im adds
 * the columns of im2col up to an image. float32. */
#include "ops/util.h"

#include <string.h>

#include "ops/families.h"

enum { MAX_SPACE = 3, LARGEST = 1 << 30 };

/* n values of a list attribute, all `fallback` where it is missing. */
static int read_list(const struct shr_node *node, const char *name, int n, int64_t least,
                     int64_t fallback, int64_t *ret, struct shr_err *err)
{
    size_t have = 0;
    const int64_t *v = shr_node_ints(node, name, &have);
    if (v != NULL && have != (size_t)n) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%s has %zu values, not %d", name, have, n);
    }
    for (int i = 0; i < n; i++) {
        ret[i] = v == NULL ? fallback : v[i];
        if (ret[i] < least || ret[i] > LARGEST) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "%s[%d] is %lld", name, i,
                               (long long)ret[i]);
        }
    }
    return SHR_OK;
}

/* ── MaxUnpool ──────────────────────────────────────────────────────────────────────────────── */

/* The dims of what was pooled, which the indices count in; -1 = not known. */
static int pooled_dims(const struct shr_node *node, int rank, const int64_t *dim, int64_t *ret,
                       struct shr_err *err)
{
    const int n = rank - 2;
    int64_t kernel[MAX_SPACE], stride[MAX_SPACE], pad[2 * MAX_SPACE];
    if (n < 1 || n > MAX_SPACE) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "the input has %d dims", rank);
    }
    int code = read_list(node, "kernel_shape", n, 1, 0, kernel, err);
    if (code == SHR_OK) {
        code = read_list(node, "strides", n, 1, 1, stride, err);
    }
    if (code == SHR_OK) {
        code = read_list(node, "pads", 2 * n, 0, 0, pad, err);
    }
    ret[0] = dim[0];
    ret[1] = dim[1];
    for (int i = 0; i < n && code == SHR_OK; i++) {
        const int64_t have = dim[2 + i];
        if (have > LARGEST) {
            return shr_op_fail(node, err, SHR_ERR_LIMIT, "input dim %d is %lld", 2 + i,
                               (long long)have);
        }
        ret[2 + i] = have < 0 ? -1 : (have - 1) * stride[i] - pad[i] - pad[n + i] + kernel[i];
        if (have >= 0 && ret[2 + i] < 0) {
            code = shr_op_fail(node, err, SHR_ERR_INVALID, "pads cut away more than dim %d", 2 + i);
        }
    }
    return code;
}

static int unpool_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_int_list shape;
    int64_t dim[SHR_MAX_RANK];
    c->out[0].dtype = x->dtype;
    int code = shr_op_list_infer(c, NULL, 2, &shape, err);
    if (code != SHR_OK || x->rank < 0) {
        return code;
    }
    code = pooled_dims(c->node, x->rank, x->dim, dim, err);
    if (code == SHR_OK && shape.known && shape.n != (size_t)x->rank) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "output_shape has %zu dims", shape.n);
    }
    c->out[0].rank = code == SHR_OK ? x->rank : -1;
    for (int i = 0; i < x->rank && code == SHR_OK; i++) {
        if (shape.known && shape.v[i] < dim[i]) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "output_shape[%d] is %lld", i,
                               (long long)shape.v[i]);
        }
        shr_type_set_dim(&c->out[0], i, shape.given ? (shape.known ? shape.v[i] : -1) : dim[i],
                         NULL);
    }
    return code;
}

static int unpool_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_BIT(F32), err);
    if (code == SHR_OK && !shr_tensor_same_shape(c->in[0], c->in[1])) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "input and indices differ in shape");
    }
    return code == SHR_OK ? shr_op_want(c, 1, SHR_BIT(I64), err) : code;
}

static int unpool_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    int64_t dim[SHR_MAX_RANK], own[SHR_MAX_RANK], places = 0;
    int code = pooled_dims(c->node, x->rank, x->dim, dim, err);
    if (code == SHR_OK && !shr_dims_count(x->rank, dim, &places)) {
        code = shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the image is too large");
    }
    if (code != SHR_OK) {
        return code;
    }
    shr_dense_strides(y->rank, y->dim, own);
    memset(y->data, 0, shr_tensor_bytes(y));
    for (int64_t i = 0; i < shr_tensor_count(x); i++) {
        int64_t rest = ((const int64_t *)c->in[1]->data)[i], at = 0;
        if (rest < 0 || rest >= places) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "index %lld is not in [0, %lld]",
                               (long long)rest, (long long)places - 1);
        }
        for (int d = x->rank - 1; d >= 0; d--) {
            at += rest % dim[d] * own[d];
            rest /= dim[d];
        }
        ((float *)y->data)[at] = ((const float *)x->data)[i];
    }
    return SHR_OK;
}

/* ── Col2Im: (n, c * block, places) to (n, c, image) ────────────────────────────────────────── */

struct columns {
    int n; /* spatial axes */
    int64_t image[MAX_SPACE], block[MAX_SPACE], stride[MAX_SPACE], dilation[MAX_SPACE];
    int64_t pad[2 * MAX_SPACE], places[MAX_SPACE];
    int64_t taps, count, area; /* of a block; of all places; of an image */
};

static int read_columns(const struct shr_node *node, const struct shr_int_list *image,
                        const struct shr_int_list *block, struct columns *s, struct shr_err *err)
{
    s->n = (int)image->n;
    if (s->n < 1 || s->n > MAX_SPACE || block->n != image->n) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "an image of %zu and a block of %zu axes",
                           image->n, block->n);
    }
    int code = read_list(node, "strides", s->n, 1, 1, s->stride, err);
    if (code == SHR_OK) {
        code = read_list(node, "dilations", s->n, 1, 1, s->dilation, err);
    }
    if (code == SHR_OK) {
        code = read_list(node, "pads", 2 * s->n, 0, 0, s->pad, err);
    }
    for (int i = 0; i < s->n && code == SHR_OK; i++) {
        s->image[i] = image->v[i];
        s->block[i] = block->v[i];
        if (s->image[i] < 1 || s->image[i] > LARGEST || s->block[i] < 1 || s->block[i] > LARGEST) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "image or block dim %d is wrong", i);
        }
        const int64_t room =
            s->image[i] + s->pad[i] + s->pad[s->n + i] - (s->block[i] - 1) * s->dilation[i] - 1;
        if (room < 0) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "the block does not fit the image");
        }
        s->places[i] = room / s->stride[i] + 1;
    }
    if (code == SHR_OK &&
        (!shr_dims_count(s->n, s->block, &s->taps) || !shr_dims_count(s->n, s->places, &s->count) ||
         !shr_dims_count(s->n, s->image, &s->area))) {
        code = shr_op_fail(node, err, SHR_ERR_LIMIT, "the image is too large");
    }
    return code;
}

static int columns_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_int_list image, block;
    struct columns s = {0};
    c->out[0].dtype = x->dtype;
    int code = shr_op_list_infer(c, NULL, 1, &image, err);
    if (code == SHR_OK) {
        code = shr_op_list_infer(c, NULL, 2, &block, err);
    }
    if (code != SHR_OK || !image.known || !block.known || x->rank < 0) {
        return code;
    }
    code = read_columns(c->node, &image, &block, &s, err);
    if (code == SHR_OK && (x->rank != 3 || (x->dim[1] >= 0 && x->dim[1] % s.taps != 0) ||
                           (x->dim[2] >= 0 && x->dim[2] != s.count))) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "the columns do not fit image and block");
    }
    if (code == SHR_OK) {
        c->out[0].rank = 2 + s.n;
        shr_type_copy_dim(&c->out[0], 0, x, 0);
        shr_type_set_dim(&c->out[0], 1, x->dim[1] < 0 ? -1 : x->dim[1] / s.taps, NULL);
        for (int i = 0; i < s.n; i++) {
            shr_type_set_dim(&c->out[0], 2 + i, s.image[i], NULL);
        }
    }
    return code;
}

static int columns_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_BIT(F32), err);
}

/* Where tap k of place p lies in the image; -1 = in the padding. */
static int64_t pixel_of(const struct columns *s, int64_t k, int64_t p)
{
    int64_t at = 0, step = 1;
    for (int i = s->n - 1; i >= 0 && at >= 0; i--) {
        const int64_t x =
            p % s->places[i] * s->stride[i] + k % s->block[i] * s->dilation[i] - s->pad[i];
        at = x < 0 || x >= s->image[i] ? -1 : at + x * step;
        step *= s->image[i];
        p /= s->places[i];
        k /= s->block[i];
    }
    return at;
}

static int columns_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_int_list image, block;
    struct columns s = {0};
    int code = shr_op_list_call(c, NULL, 1, &image, err);
    if (code == SHR_OK) {
        code = shr_op_list_call(c, NULL, 2, &block, err);
    }
    if (code == SHR_OK) {
        code = read_columns(c->node, &image, &block, &s, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    memset(c->out[0]->data, 0, shr_tensor_bytes(c->out[0]));
    for (int64_t i = 0; i < x->dim[0] * x->dim[1]; i++) {
        const float *from = (const float *)x->data + i * s.count;
        float *to = (float *)c->out[0]->data + i / s.taps * s.area;
        for (int64_t p = 0; p < s.count; p++) {
            const int64_t at = pixel_of(&s, i % s.taps, p);
            if (at >= 0) {
                to[at] += from[p];
            }
        }
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("Col2Im", 18, 0), SHR_SLOTS(3, 3, 1, 1), .infer = columns_infer,
     .setup = columns_setup, .forward = columns_forward, SHR_NO_WEIGHT},
    {SHR_ROW("MaxUnpool", 9, 0), SHR_SLOTS(2, 3, 1, 1), .infer = unpool_infer,
     .setup = unpool_setup, .forward = unpool_forward, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_unpool = {rows, SHR_COUNT_OF(rows)};
