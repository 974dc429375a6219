/* Operators that make or repeat elements: ConstantOfShape, Expand, Tile, Range, Pad. Elements of
 * any type of fixed size, except Range (numbers). */
#include "ops/util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

/* ── ConstantOfShape ────────────────────────────────────────────────────────────────────────── */

/* Output dims from the shape in input `slot`; its length is the rank when the data is unknown. */
static int dims_from_input(struct shr_infer *c, size_t slot, struct shr_type *y, bool *ret_known,
                           struct shr_err *err)
{
    struct shr_int_list shape;
    int code = shr_op_list_infer(c, NULL, slot, &shape, err);
    *ret_known = shape.known;
    if (code != SHR_OK) {
        return code;
    }
    const struct shr_type *s = &c->in[slot];
    int64_t rank = shape.known ? (int64_t)shape.n : s->rank == 1 ? s->dim[0] : -1;
    if (rank > SHR_MAX_RANK) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the shape has %lld dims, at most %d",
                           (long long)rank, SHR_MAX_RANK);
    }
    y->rank = rank < 0 ? -1 : (int)rank;
    for (int i = 0; i < y->rank; i++) {
        if (shape.known && shape.v[i] < 0) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "shape[%d] is %lld", i,
                               (long long)shape.v[i]);
        }
        shr_type_set_dim(y, i, shape.known ? shape.v[i] : -1, NULL);
    }
    return SHR_OK;
}

static int constant_of_shape_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_attr *value = shr_node_attr(c->node, "value");
    bool known;
    c->out[0].dtype = value == NULL ? SHR_DTYPE_F32 : value->tensor.dtype;
    if (value != NULL &&
        (value->kind != SHR_ATTR_TENSOR || shr_tensor_count(&value->tensor) != 1)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "value must be a tensor of one element");
    }
    return dims_from_input(c, 0, &c->out[0], &known, err);
}

static int constant_of_shape_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_attr *value = shr_node_attr(c->node, "value");
    struct shr_tensor *y = c->out[0];
    if (value == NULL) {
        memset(y->data, 0, shr_tensor_bytes(y));
        return SHR_OK;
    }
    int64_t zero[SHR_MAX_RANK] = {0};
    shr_copy_strided(shr_dtype_size(y->dtype), y->rank, y->dim, zero, value->tensor.data, y->data);
    return SHR_OK;
}

static int constant_of_shape_setup(struct shr_op_setup *c, struct shr_err *err)
{
    if (shr_dtype_size(c->out[0]->dtype) == 0) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "cannot make elements of type %s",
                           shr_dtype_name(c->out[0]->dtype));
    }
    return SHR_OK;
}

/* ── Expand, Tile ───────────────────────────────────────────────────────────────────────────── */

static int expand_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_type shape, y = c->in[0];
    bool known;
    shr_type_unknown(&shape);
    int code = dims_from_input(c, 1, &shape, &known, err);
    if (code == SHR_OK && !known) { /* the input's dims may grow where they are 1 */
        for (int i = 0; i < y.rank; i++) {
            y.dim[i] = y.dim[i] == 1 ? -1 : y.dim[i];
        }
    }
    if (code == SHR_OK) {
        code = shr_type_broadcast(c->node, &y, &shape, err);
    }
    if (code == SHR_OK) {
        c->out[0] = y;
    }
    return code;
}

static int expand_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct shr_tensor *y = c->out[0];
    int64_t stride[SHR_MAX_RANK];
    shr_broadcast_strides(c->in[0], y->rank, stride);
    shr_copy_strided(shr_dtype_size(y->dtype), y->rank, y->dim, stride, c->in[0]->data, y->data);
    return SHR_OK;
}

static int tile_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    struct shr_int_list repeats;
    int code = shr_op_list_infer(c, NULL, 1, &repeats, err);
    *y = *x;
    if (code != SHR_OK || x->rank < 0) {
        return code;
    }
    if (repeats.known && repeats.n != (size_t)x->rank) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "%zu repeats for %d dims", repeats.n,
                           x->rank);
    }
    for (int i = 0; i < x->rank; i++) {
        if (!repeats.known || (x->dim[i] < 0 && repeats.v[i] != 1)) {
            shr_type_set_dim(y, i, -1, NULL);
        } else if (repeats.v[i] < 0 || (x->dim[i] > 0 && repeats.v[i] > INT64_MAX / x->dim[i])) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "repeats[%d] is %lld", i,
                               (long long)repeats.v[i]);
        } else if (x->dim[i] >= 0) {
            shr_type_set_dim(y, i, x->dim[i] * repeats.v[i], NULL);
        }
    }
    return SHR_OK;
}

/* A row of the input at a time: index counts output positions, its remainder by the dim the input.
 */
static int tile_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    size_t size = shr_dtype_size(y->dtype);
    int64_t own[SHR_MAX_RANK], index[SHR_MAX_RANK] = {0};
    shr_dense_strides(x->rank, x->dim, own);
    int64_t n = shr_tensor_count(y), row = x->rank == 0 ? 1 : x->dim[x->rank - 1];
    for (int64_t out = 0; out < n; out += row) { /* a row of the input at a time */
        int64_t at = 0;
        for (int i = 0; i < x->rank - 1; i++) {
            at += index[i] % x->dim[i] * own[i];
        }
        memcpy((char *)y->data + (size_t)out * size, (const char *)x->data + (size_t)at * size,
               (size_t)row * size);
        for (int i = x->rank - 1; i >= 0; i--) {
            index[i] += i == x->rank - 1 ? row : 1;
            if (index[i] < y->dim[i]) {
                break;
            }
            index[i] = 0;
        }
    }
    return SHR_OK;
}

/* ── Range ──────────────────────────────────────────────────────────────────────────────────── */

static int range_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0].dtype = c->in[0].dtype;
    c->out[0].rank = 1;
    shr_type_set_dim(&c->out[0], 0, -1, NULL);
    for (size_t i = 0; i < 3; i++) {
        int code = shr_op_same_dtype(c, 0, i, err);
        if (code != SHR_OK || c->in_data[i] == NULL) {
            return code;
        }
        if (shr_tensor_count(c->in_data[i]) != 1) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "input '%s' is not a scalar",
                               shr_op_in_name(c->node, i));
        }
    }
    double start = shr_tensor_get(c->in_data[0], 0), limit = shr_tensor_get(c->in_data[1], 0);
    double n = ceil((limit - start) / shr_tensor_get(c->in_data[2], 0));
    if (!(n < 9e15)) { /* also a delta of 0 */
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "has %g elements", n);
    }
    shr_type_set_dim(&c->out[0], 0, n > 0.0 ? (int64_t)n : 0, NULL);
    return SHR_OK;
}

static int range_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_NUMBERS | SHR_FLOATS, err);
}

static int range_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    double start = shr_tensor_get(c->in[0], 0), delta = shr_tensor_get(c->in[2], 0);
    for (int64_t i = 0; i < shr_tensor_count(c->out[0]); i++) {
        shr_tensor_set(c->out[0], i, start + (double)i * delta);
    }
    return SHR_OK;
}

/* ── Pad ────────────────────────────────────────────────────────────────────────────────────── */

/* Pads by dim, from an attribute until opset 10, on inputs from 11 on, for some axes from 18 on. */
static int pads_by_dim(const struct shr_node *node, const struct shr_int_list *pads,
                       const struct shr_int_list *axes, int rank, int64_t *low, int64_t *high,
                       struct shr_err *err)
{
    size_t n = axes->given ? axes->n : (size_t)rank;
    unsigned mask;
    int code = shr_op_axes_mask(node, axes, rank, &mask, err);
    if (code != SHR_OK) {
        return code;
    }
    if (pads->n != 2 * n) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%zu pads for %zu axes", pads->n, n);
    }
    for (int i = 0; i < rank; i++) {
        low[i] = high[i] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t at = axes->given ? axes->v[i] : (int64_t)i;
        at += at < 0 ? rank : 0;
        low[at] = pads->v[i];
        high[at] = pads->v[i + n];
        if (low[at] > INT32_MAX || low[at] < -INT32_MAX || high[at] > INT32_MAX ||
            high[at] < -INT32_MAX) {
            return shr_op_fail(node, err, SHR_ERR_LIMIT, "pads of axis %lld are too large",
                               (long long)at);
        }
    }
    return SHR_OK;
}

static int pad_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    struct shr_int_list pads, axes;
    int64_t low[SHR_MAX_RANK], high[SHR_MAX_RANK];
    int code = shr_op_list_infer(c, "pads", 1, &pads, err);
    if (code == SHR_OK) {
        code = shr_op_list_infer(c, NULL, 3, &axes, err);
    }
    if (code == SHR_OK && !pads.given) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "pads are missing");
    }
    *y = *x;
    if (code != SHR_OK || x->rank < 0) {
        return code;
    }
    bool known = pads.known && (!axes.given || axes.known);
    if (known) {
        code = pads_by_dim(c->node, &pads, &axes, x->rank, low, high, err);
    }
    for (int i = 0; code == SHR_OK && i < x->rank; i++) {
        int64_t n = known && x->dim[i] >= 0 ? x->dim[i] + low[i] + high[i] : -1;
        if (known && x->dim[i] >= 0 && n < 0) {
            code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "pads cut away more than dim %d", i);
        } else if (!known || x->dim[i] >= 0 || low[i] + high[i] != 0) {
            shr_type_set_dim(y, i, n, NULL);
        }
    }
    return code;
}

enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP };

static int pad_mode(const struct shr_node *node, enum pad_mode *ret, struct shr_err *err)
{
    static const char *const names[] = {"constant", "reflect", "edge", "wrap"};
    const char *mode = shr_node_text(node, "mode", "constant");
    for (size_t i = 0; i < SHR_COUNT_OF(names); i++) {
        if (strcmp(mode, names[i]) == 0) {
            *ret = (enum pad_mode)i;
            return SHR_OK;
        }
    }
    return shr_op_fail(node, err, SHR_ERR_INVALID, "mode is '%.40s'", mode);
}

/* The input index for index i (relative to the input's first element); -1 = the constant. */
static int64_t pad_source(int64_t i, int64_t n, enum pad_mode mode)
{
    if (i >= 0 && i < n) {
        return i;
    }
    if (mode == PAD_CONSTANT || n == 0) {
        return -1;
    }
    if (mode == PAD_EDGE || n == 1) {
        return i < 0 ? 0 : n - 1;
    }
    int64_t period = mode == PAD_WRAP ? n : 2 * (n - 1);
    int64_t r = (i % period + period) % period;
    return r < n ? r : period - r;
}

static int pad_setup(struct shr_op_setup *c, struct shr_err *err)
{
    enum pad_mode mode = PAD_CONSTANT;
    int code = pad_mode(c->node, &mode, err);
    return code == SHR_OK ? shr_op_setup_move(c, err) : code;
}

/* Bytes of the constant: an attribute (float) until opset 10, an input from 11 on, else 0. */
static void pad_value(const struct shr_op_call *c, struct shr_tensor *value)
{
    if (c->n_in > 2 && c->in[2] != NULL && shr_tensor_count(c->in[2]) == 1) {
        memcpy(value->data, c->in[2]->data, shr_tensor_bytes(value));
    } else {
        shr_tensor_set(value, 0, (double)shr_node_float(c->node, "value", 0.0f));
    }
}

struct pad_row {
    enum pad_mode mode;
    size_t size; /* bytes of an element */
    const void *constant;
    int64_t n, low; /* elements of x in it, elements in front of them */
};

static void pad_ends(const struct pad_row *p, const char *x, char *y, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        int64_t from = x == NULL ? -1 : pad_source(i - p->low, p->n, p->mode);
        const void *source = from < 0 ? p->constant : x + (size_t)from * p->size;
        memcpy(y + (size_t)i * p->size, source, p->size);
    }
}

/* n elements of y from a row of x; x NULL = the constant alone */
static void pad_line(const struct pad_row *p, const char *x, char *y, int64_t n)
{
    int64_t begin = p->low < 0 ? 0 : p->low < n ? p->low : n, end = p->low + p->n;
    end = x == NULL || end < begin ? begin : end < n ? end : n;
    pad_ends(p, x, y, 0, begin);
    if (end > begin) {
        memcpy(y + (size_t)begin * p->size, x + (size_t)(begin - p->low) * p->size,
               (size_t)(end - begin) * p->size);
    }
    pad_ends(p, x, y, end, n);
}

static int pad_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    struct shr_int_list pads, axes;
    enum pad_mode mode = PAD_CONSTANT;
    int64_t low[SHR_MAX_RANK] = {0}, high[SHR_MAX_RANK], own[SHR_MAX_RANK];
    int code = pad_mode(c->node, &mode, err);
    if (code == SHR_OK) {
        code = shr_op_list_call(c, "pads", 1, &pads, err);
    }
    if (code == SHR_OK) {
        code = shr_op_list_call(c, NULL, 3, &axes, err);
    }
    if (code == SHR_OK) {
        code = pads_by_dim(c->node, &pads, &axes, x->rank, low, high, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    uint64_t bits = 0; /* of the constant */
    struct shr_tensor value = {.dtype = y->dtype, .data = &bits};
    pad_value(c, &value);
    shr_dense_strides(x->rank, x->dim, own);
    int last = x->rank - 1;
    int64_t n = last < 0 ? 1 : y->dim[last];
    struct pad_row row = {mode, shr_dtype_size(y->dtype), &bits, last < 0 ? 1 : x->dim[last],
                          last < 0 ? 0 : low[last]};
    int64_t index[SHR_MAX_RANK] = {0}, count = shr_tensor_count(y);
    for (int64_t out = 0; out < count; out += n) {
        int64_t at = 0;
        for (int i = 0; i < last && at >= 0; i++) {
            int64_t from = pad_source(index[i] - low[i], x->dim[i], mode);
            at = from < 0 ? -1 : at + from * own[i];
        }
        pad_line(&row, at < 0 ? NULL : (const char *)x->data + (size_t)at * row.size,
                 (char *)y->data + (size_t)out * row.size, n);
        for (int i = last - 1; i >= 0 && ++index[i] == y->dim[i]; i--) {
            index[i] = 0;
        }
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("ConstantOfShape", 9, 0), SHR_SLOTS(1, 1, 1, 1), .infer = constant_of_shape_infer,
     .setup = constant_of_shape_setup, .forward = constant_of_shape_forward, SHR_NO_WEIGHT,
     .halves = true},
    {SHR_ROW("Expand", 8, 0), SHR_SLOTS(2, 2, 1, 1), .infer = expand_infer,
     .setup = shr_op_setup_move, .forward = expand_forward, .backward = shr_backward_expand,
     SHR_NO_WEIGHT, .halves = true},
    {SHR_ROW("Pad", 2, 10), SHR_SLOTS(1, 1, 1, 1), .infer = pad_infer, .setup = pad_setup,
     .forward = pad_forward, .prune_role = SHR_PRUNE_PASS, SHR_NO_WEIGHT, .halves = true,
     .backward = shr_backward_pad},
    {SHR_ROW("Pad", 11, 0), SHR_SLOTS(2, 4, 1, 1), .infer = pad_infer, .setup = pad_setup,
     .forward = pad_forward, .prune_role = SHR_PRUNE_PASS, SHR_NO_WEIGHT, .halves = true,
     .backward = shr_backward_pad},
    {SHR_ROW("Range", 11, 0), SHR_SLOTS(3, 3, 1, 1), .infer = range_infer, .setup = range_setup,
     .forward = range_forward, SHR_NO_WEIGHT, .halves = true},
    {SHR_ROW("Tile", 6, 0), SHR_SLOTS(2, 2, 1, 1), .infer = tile_infer, .setup = shr_op_setup_move,
     .forward = tile_forward, SHR_NO_WEIGHT, .halves = true},
};
const struct shr_op_family shr_ops_fill = {rows, SHR_COUNT_OF(rows)};
