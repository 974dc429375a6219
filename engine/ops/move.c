/* Operators that choose and order elements: Transpose Concat Split Slice Gather. Elements of any
 * type of fixed size. */
#include "ops/util.h"

#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

/* ── Transpose ──────────────────────────────────────────────────────────────────────────────── */

/* The permutation, reversed dims unless given. */
static int read_perm(const struct shr_node *node, int rank, int *perm, struct shr_err *err)
{
    size_t n;
    const int64_t *p = shr_node_ints(node, "perm", &n);
    for (int i = 0; i < rank; i++) {
        perm[i] = rank - 1 - i;
    }
    if (p == NULL) {
        return SHR_OK;
    }
    unsigned seen = 0;
    for (size_t i = 0; i < n && n == (size_t)rank; i++) {
        perm[i] = p[i] >= 0 && p[i] < rank ? (int)p[i] : 0;
        seen |= p[i] >= 0 && p[i] < rank ? 1u << p[i] : 0;
    }
    if (n != (size_t)rank || seen != (1u << rank) - 1) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "perm is no permutation of %d dims", rank);
    }
    return SHR_OK;
}

static int transpose_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    int perm[SHR_MAX_RANK];
    c->out[0].dtype = x->dtype;
    if (x->rank < 0) {
        return SHR_OK;
    }
    int code = read_perm(c->node, x->rank, perm, err);
    if (code == SHR_OK) {
        c->out[0].rank = x->rank;
        for (int i = 0; i < x->rank; i++) {
            shr_type_copy_dim(&c->out[0], i, x, perm[i]);
        }
    }
    return code;
}

static int transpose_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    int perm[SHR_MAX_RANK];
    int64_t own[SHR_MAX_RANK], stride[SHR_MAX_RANK];
    int code = read_perm(c->node, x->rank, perm, err);
    if (code != SHR_OK) {
        return code;
    }
    shr_dense_strides(x->rank, x->dim, own);
    for (int i = 0; i < x->rank; i++) {
        stride[i] = own[perm[i]];
    }
    shr_copy_strided(shr_dtype_size(x->dtype), y->rank, y->dim, stride, x->data, y->data);
    return SHR_OK;
}

/* ── Concat, Split: both see their tensors as (outer, axis, inner) ──────────────────────────── */

static int concat_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_type y = c->in[0];
    int axis = 0;
    bool known = y.rank >= 0;
    if (known) {
        int code =
            shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 1), y.rank, &axis, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    for (size_t i = 1; i < c->n_in; i++) {
        const struct shr_type *x = &c->in[i];
        int code = shr_op_same_dtype(c, 0, i, err);
        if (code != SHR_OK) {
            return code;
        }
        known = known && x->rank >= 0;
        if (!known) {
            continue;
        }
        bool fits = x->rank == y.rank;
        for (int d = 0; d < y.rank && fits; d++) {
            if (d == axis) {
                bool both = y.dim[d] >= 0 && x->dim[d] >= 0 && y.dim[d] <= INT64_MAX - x->dim[d];
                shr_type_set_dim(&y, d, both ? y.dim[d] + x->dim[d] : -1, NULL);
            } else if (y.dim[d] < 0) {
                shr_type_copy_dim(&y, d, x, d);
            } else {
                fits = x->dim[d] < 0 || x->dim[d] == y.dim[d];
            }
        }
        if (!fits) {
            char a[96], b[96];
            return shr_op_fail(
                c->node, err, SHR_ERR_INVALID, "input '%s' %s does not fit %s along axis %d",
                shr_op_in_name(c->node, i), shr_dims_text(x->rank, x->dim, a, sizeof a),
                shr_dims_text(y.rank, y.dim, b, sizeof b), axis);
        }
    }
    c->out[0].dtype = y.dtype;
    if (known) {
        shr_type_copy_shape(&c->out[0], &y);
    }
    return SHR_OK;
}

/* Copies n bytes a row between the strided whole and the dense part. */
static void copy_part(char *to, size_t to_row, const char *from, size_t from_row, size_t n,
                      int64_t rows)
{
    for (int64_t i = 0; i < rows && n > 0; i++, to += to_row, from += from_row) {
        memcpy(to, from, n);
    }
}

static int concat_forward(const struct shr_op_call *c, struct shr_err *err)
{
    struct shr_tensor *y = c->out[0];
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 1), y->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    size_t size = shr_dtype_size(y->dtype);
    size_t row = (size_t)shr_dims_product(y->dim, axis, y->rank) * size;
    char *to = y->data;
    for (size_t i = 0; i < c->n_in; i++) {
        size_t n = (size_t)shr_dims_product(c->in[i]->dim, axis, y->rank) * size;
        copy_part(to, row, c->in[i]->data, n, n, shr_dims_product(y->dim, 0, axis));
        to += n;
    }
    return SHR_OK;
}

/* The size of each part: given, or equal parts; from opset 18 on the last may be smaller. */
static int split_sizes(const struct shr_infer *c, const struct shr_int_list *split, int64_t n,
                       size_t part, int64_t *ret, struct shr_err *err)
{
    int64_t parts = (int64_t)c->n_out;
    if (split->given) {
        *ret = split->v[part];
        return SHR_OK;
    }
    int64_t each = (n + parts - 1) / parts;
    if (c->opset < 18 && n % parts != 0) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "%lld cannot be split into %lld parts",
                           (long long)n, (long long)parts);
    }
    int64_t left = n - (int64_t)part * each;
    *ret = left < 0 ? 0 : left < each ? left : each;
    return SHR_OK;
}

static int split_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_int_list split;
    int axis = 0;
    int code = shr_op_list_infer(c, "split", 1, &split, err);
    for (size_t i = 0; i < c->n_out; i++) {
        c->out[i].dtype = x->dtype;
    }
    if (code != SHR_OK || x->rank < 0) {
        return code;
    }
    code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), x->rank, &axis, err);
    if (code == SHR_OK && split.known && split.n != c->n_out) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "%zu sizes for %zu outputs", split.n,
                           c->n_out);
    }
    int64_t n = x->dim[axis], sum = 0;
    bool known = split.given ? split.known : n >= 0;
    for (size_t i = 0; code == SHR_OK && i < c->n_out; i++) {
        int64_t size = -1;
        if (known) {
            code = split_sizes(c, &split, n, i, &size, err);
        }
        if (code == SHR_OK && known && (size < 0 || size > INT64_MAX - sum)) {
            code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "split[%zu] is %lld", i,
                               (long long)size);
        }
        sum += code == SHR_OK && known ? size : 0;
        shr_type_copy_shape(&c->out[i], x);
        shr_type_set_dim(&c->out[i], axis, size, NULL);
    }
    if (code == SHR_OK && known && n >= 0 && sum != n) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "the parts are %lld together, not %lld",
                           (long long)sum, (long long)n);
    }
    return code;
}

static int split_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), x->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    size_t size = shr_dtype_size(x->dtype);
    size_t row = (size_t)shr_dims_product(x->dim, axis, x->rank) * size;
    const char *from = x->data;
    for (size_t i = 0; i < c->n_out; i++) {
        size_t n = (size_t)shr_dims_product(c->out[i]->dim, axis, x->rank) * size;
        copy_part(c->out[i]->data, n, from, row, n, shr_dims_product(x->dim, 0, axis));
        from += n;
    }
    return SHR_OK;
}

/* ── Slice: lists are attributes until opset 9, inputs from 10 on ───────────────────────────── */

struct slice_lists {
    struct shr_int_list starts, ends, axes, steps;
};

struct slice_axis {
    int64_t start, step, n;
};

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* One axis of dim elements, as numpy cuts it. */
static struct slice_axis cut(int64_t dim, int64_t start, int64_t end, int64_t step)
{
    start += start < 0 ? dim : 0;
    end += end < 0 ? dim : 0;
    step = clamp(step, -INT32_MAX, INT32_MAX);
    struct slice_axis a = {.step = step};
    if (step > 0) {
        a.start = clamp(start, 0, dim);
        end = clamp(end, 0, dim);
        a.n = end > a.start ? (end - a.start - 1) / step + 1 : 0;
    } else {
        a.start = clamp(start, -1, dim - 1);
        end = clamp(end, -1, dim - 1);
        a.n = a.start > end ? (a.start - end - 1) / -step + 1 : 0;
    }
    return a;
}

static int slice_check(const struct shr_node *node, const struct slice_lists *l, int rank,
                       struct shr_err *err)
{
    unsigned mask;
    size_t n = l->starts.n;
    int code = shr_op_axes_mask(node, &l->axes, rank, &mask, err);
    if (code != SHR_OK) {
        return code;
    }
    if (l->ends.n != n || (l->axes.given && l->axes.n != n) ||
        (l->steps.given && l->steps.n != n) || n > (size_t)rank) {
        return shr_op_fail(node, err, SHR_ERR_INVALID,
                           "%zu starts, %zu ends, %zu axes and %zu steps for %d dims", n, l->ends.n,
                           l->axes.n, l->steps.n, rank);
    }
    for (size_t i = 0; i < l->steps.n; i++) {
        if (l->steps.v[i] == 0) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "steps[%zu] is 0", i);
        }
    }
    return SHR_OK;
}

/* Where axis number i of the lists is in the input, and what is cut there from dim elements. */
static int slice_at(const struct slice_lists *l, size_t i, int rank)
{
    int64_t axis = l->axes.given ? l->axes.v[i] : (int64_t)i;
    return (int)(axis < 0 ? axis + rank : axis);
}

static struct slice_axis slice_cut(const struct slice_lists *l, size_t i, int64_t dim)
{
    return cut(dim, l->starts.v[i], l->ends.v[i], l->steps.given ? l->steps.v[i] : 1);
}

static int slice_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    struct slice_lists l;
    struct {
        const char *name;
        struct shr_int_list *list;
    } parts[] = {{"starts", &l.starts}, {"ends", &l.ends}, {"axes", &l.axes}, {NULL, &l.steps}};
    bool known = true;
    for (size_t i = 0; i < SHR_COUNT_OF(parts); i++) {
        int code =
            shr_op_list_infer(c, c->opset < 10 ? parts[i].name : NULL, i + 1, parts[i].list, err);
        if (code != SHR_OK) {
            return code;
        }
        known = known && (!parts[i].list->given || parts[i].list->known);
    }
    *y = *x;
    if (x->rank < 0) {
        return SHR_OK;
    }
    for (int i = 0; i < x->rank && !known; i++) {
        shr_type_set_dim(y, i, -1, NULL);
    }
    int code = known ? slice_check(c->node, &l, x->rank, err) : SHR_OK;
    for (size_t i = 0; code == SHR_OK && known && i < l.starts.n; i++) {
        int axis = slice_at(&l, i, x->rank);
        bool whole =
            l.starts.v[i] == 0 && l.ends.v[i] >= INT32_MAX && (!l.steps.given || l.steps.v[i] == 1);
        if (x->dim[axis] >= 0) {
            shr_type_set_dim(y, axis, slice_cut(&l, i, x->dim[axis]).n, NULL);
        } else if (!whole) {
            shr_type_set_dim(y, axis, -1, NULL);
        }
    }
    return code;
}

static int slice_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    struct slice_lists l;
    struct {
        const char *name;
        struct shr_int_list *list;
    } parts[] = {{"starts", &l.starts}, {"ends", &l.ends}, {"axes", &l.axes}, {NULL, &l.steps}};
    for (size_t i = 0; i < SHR_COUNT_OF(parts); i++) {
        int code =
            shr_op_list_call(c, c->opset < 10 ? parts[i].name : NULL, i + 1, parts[i].list, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    int code = slice_check(c->node, &l, x->rank, err);
    if (code != SHR_OK || shr_tensor_count(y) == 0) {
        return code;
    }
    int64_t stride[SHR_MAX_RANK], first = 0;
    size_t size = shr_dtype_size(x->dtype);
    shr_dense_strides(x->rank, x->dim, stride);
    for (size_t i = 0; i < l.starts.n; i++) {
        int axis = slice_at(&l, i, x->rank);
        struct slice_axis a = slice_cut(&l, i, x->dim[axis]);
        first += a.start * stride[axis];
        stride[axis] *= a.step;
    }
    shr_copy_strided(size, y->rank, y->dim, stride, (const char *)x->data + (size_t)first * size,
                     y->data);
    return SHR_OK;
}

/* ── Gather ─────────────────────────────────────────────────────────────────────────────────── */

static int gather_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *index = &c->in[1];
    struct shr_type *y = &c->out[0];
    int axis = 0;
    y->dtype = x->dtype;
    if (x->rank < 0) {
        return SHR_OK;
    }
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), x->rank, &axis, err);
    if (code != SHR_OK || index->rank < 0) {
        return code;
    }
    if (x->rank - 1 + index->rank > SHR_MAX_RANK) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the result has %d dims, at most %d",
                           x->rank - 1 + index->rank, SHR_MAX_RANK);
    }
    y->rank = 0;
    for (int i = 0; i < axis; i++) {
        shr_type_copy_dim(y, y->rank++, x, i);
    }
    for (int i = 0; i < index->rank; i++) {
        shr_type_copy_dim(y, y->rank++, index, i);
    }
    for (int i = axis + 1; i < x->rank; i++) {
        shr_type_copy_dim(y, y->rank++, x, i);
    }
    return SHR_OK;
}

static int gather_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_setup_move(c, err);
    return code == SHR_OK ? shr_op_want(c, 1, SHR_BIT(I32) | SHR_BIT(I64), err) : code;
}

static int gather_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0], *index = c->in[1]; /* x (outer, n, inner) */
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), x->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    int64_t n = x->dim[axis], outer = shr_dims_product(x->dim, 0, axis);
    int64_t count = shr_tensor_count(index);
    size_t row = (size_t)shr_dims_product(x->dim, axis + 1, x->rank) * shr_dtype_size(x->dtype);
    char *to = c->out[0]->data;
    for (int64_t i = 0; i < outer * count; i++, to += row) {
        int64_t at = index->dtype == SHR_DTYPE_I64 ? ((const int64_t *)index->data)[i % count]
                                                   : ((const int32_t *)index->data)[i % count];
        if (at < -n || at >= n) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "index %lld is not in [%lld, %lld]",
                               (long long)at, (long long)-n, (long long)n - 1);
        }
        at += at < 0 ? n : 0;
        if (row > 0) {
            memcpy(to, (const char *)x->data + (size_t)(i / count * n + at) * row, row);
        }
    }
    return SHR_OK;
}

#define MOVE(name, since, until, in_min, in_max, out_max, infer_, fn)                              \
    SHR_ROW(name, since, until), SHR_SLOTS(in_min, in_max, 1, out_max),                            \
        .infer = infer_, .setup = shr_op_setup_move, .forward = fn, SHR_NO_WEIGHT, .halves = true

static const struct shr_op rows[] = {
    {MOVE("Concat", 4, 0, 1, -1, 1, concat_infer, concat_forward), .backward = shr_backward_concat,
     .quant_role = SHR_QUANT_ARITH, .prune_role = SHR_PRUNE_PASS},
    {SHR_ROW("Gather", 1, 0), SHR_SLOTS(2, 2, 1, 1), .infer = gather_infer, .setup = gather_setup,
     .forward = gather_forward, .backward = shr_backward_gather, SHR_NO_WEIGHT, .halves = true},
    {MOVE("Slice", 1, 9, 1, 1, 1, slice_infer, slice_forward), .backward = shr_backward_slice,
     .quant_role = SHR_QUANT_PASS},
    {MOVE("Slice", 10, 0, 3, 5, 1, slice_infer, slice_forward), .backward = shr_backward_slice,
     .quant_role = SHR_QUANT_PASS},
    {MOVE("Split", 2, 12, 1, 1, -1, split_infer, split_forward), .backward = shr_backward_split,
     .quant_role = SHR_QUANT_PASS},
    {MOVE("Split", 13, 0, 1, 2, -1, split_infer, split_forward), .backward = shr_backward_split,
     .quant_role = SHR_QUANT_PASS},
    {MOVE("Transpose", 1, 0, 1, 1, 1, transpose_infer, transpose_forward),
     .backward = shr_backward_transpose, .quant_role = SHR_QUANT_PASS,
     .prune_role = SHR_PRUNE_PASS},
};
const struct shr_op_family shr_ops_move = {rows, SHR_COUNT_OF(rows)};
