/* Operators that order, count and choose by value: TopK, CumSum, CumProd, and those whose result
 * is as long as the data says: NonZero, Compress, Unique. The latter can be planned only where the
 * data is known beforehand: inference counts, and the plan folds the node away. */
#include "ops/util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/families.h"

/* ── TopK ───────────────────────────────────────────────────────────────────────────────────── */

/* k: an attribute until opset 9, an input from 10 on; -1 = not known. */
static int read_k(const struct shr_infer *c, int64_t *ret, struct shr_err *err)
{
    struct shr_int_list k = {0};
    *ret = shr_node_int(c->node, "k", -1);
    int code = shr_op_list_infer(c, NULL, 1, &k, err);
    if (code == SHR_OK && k.known) {
        *ret = k.n == 1 ? k.v[0] : -1;
        if (*ret < 0) {
            code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "k is no count");
        }
    }
    return code;
}

static int top_k_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_type y = c->in[0];
    int64_t k = -1;
    int code = read_k(c, &k, err);
    if (code == SHR_OK && y.rank >= 0) {
        int axis = 0;
        code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", -1), y.rank, &axis, err);
        if (code == SHR_OK && y.dim[axis] >= 0 && k > y.dim[axis]) {
            code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "k is %lld, but the axis has %lld",
                               (long long)k, (long long)y.dim[axis]);
        }
        shr_type_set_dim(&y, axis, k, NULL);
    }
    if (code == SHR_OK) {
        c->out[0] = y;
        c->out[1] = y;
        c->out[1].dtype = SHR_DTYPE_I64;
    }
    return code;
}

struct candidate {
    double value; /* as it orders: negated when the largest come first */
    int64_t whole;
    int64_t index;
};

/* 64-bit integers do not fit a double: of those that tie, `whole` decides. */
static int by_value(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;
    if (a->value != b->value) { /* NaN, which is unordered, was replaced */
        return a->value < b->value ? -1 : 1;
    }
    if (a->whole != b->whole) {
        return a->whole < b->whole ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

static int top_k_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int axis = 0;
    size_t bytes = 0;
    int code = shr_op_want(c, 0, SHR_NUMBERS | SHR_FLOATS, err);
    if (code == SHR_OK) {
        code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", -1), c->in[0]->rank,
                           &axis, err);
    }
    if (code == SHR_OK &&
        !shr_size_mul((size_t)c->in[0]->dim[axis], sizeof(struct candidate), &bytes)) {
        code = shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the axis is too long");
    }
    c->scratch = bytes;
    return code;
}

static void fill_candidates(const struct shr_tensor *x, int64_t first, int64_t step, int64_t n,
                            bool largest, struct candidate *list)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t at = first + i * step;
        double v = shr_tensor_get(x, at);
        int64_t whole = x->dtype == SHR_DTYPE_I64 || x->dtype == SHR_DTYPE_U64
                            ? ((const int64_t *)x->data)[at]
                            : 0;
        v = isnan(v) ? (double)INFINITY : v; /* larger than all */
        list[i] = (struct candidate){largest ? -v : v, largest ? ~whole : whole, i};
    }
}

static int top_k_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0]; /* (outer, n, inner) */
    const bool largest = shr_node_int(c->node, "largest", 1) != 0;
    struct candidate *list = c->scratch;
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", -1), x->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    const int64_t outer = shr_dims_product(x->dim, 0, axis), n = x->dim[axis];
    const int64_t inner = shr_dims_product(x->dim, axis + 1, x->rank), k = c->out[0]->dim[axis];
    const size_t size = shr_dtype_size(x->dtype);
    for (int64_t i = 0; i < outer * inner; i++) {
        const int64_t from = i / inner * n * inner + i % inner;
        const int64_t to = i / inner * k * inner + i % inner;
        fill_candidates(x, from, inner, n, largest, list);
        qsort(list, (size_t)n, sizeof *list, by_value);
        for (int64_t j = 0; j < k; j++) {
            memcpy((char *)c->out[0]->data + (size_t)(to + j * inner) * size,
                   (const char *)x->data + (size_t)(from + list[j].index * inner) * size, size);
            if (c->out[1] != NULL) {
                ((int64_t *)c->out[1]->data)[to + j * inner] = list[j].index;
            }
        }
    }
    return SHR_OK;
}

/* ── CumSum, CumProd ────────────────────────────────────────────────────────────────────────── */

static int cumulative_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_NUMBERS, err);
    return code == SHR_OK ? shr_op_want(c, 1, SHR_BIT(I32) | SHR_BIT(I64), err) : code;
}

/* Along one line, forwards or backwards; exclusive: each element gets what came before it. */
#define CUMULATIVE_LINE(T, ACC)                                                                    \
    {                                                                                              \
        const T *x = (const T *)t->data + at;                                                      \
        T *y = (T *)c->out[0]->data + at;                                                          \
        ACC acc = product ? 1 : 0;                                                                 \
        for (int64_t j = 0; j < n; j++) {                                                          \
            const int64_t k = (reverse ? n - 1 - j : j) * inner;                                   \
            const ACC v = (ACC)x[k], next = product ? acc * v : acc + v;                           \
            y[k] = (T)(exclusive ? acc : next);                                                    \
            acc = next;                                                                            \
        }                                                                                          \
    }                                                                                              \
    break;

static int cumulate(const struct shr_op_call *c, bool product, struct shr_err *err)
{
    const struct shr_tensor *t = c->in[0]; /* (outer, n, inner) */
    const bool exclusive = shr_node_int(c->node, "exclusive", 0) != 0;
    const bool reverse = shr_node_int(c->node, "reverse", 0) != 0;
    int axis = 0;
    if (shr_tensor_count(c->in[1]) != 1) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the axis is no scalar");
    }
    int code = shr_op_axis(c->node, "axis", shr_op_int_at(c->in[1], 0), t->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    const int64_t outer = shr_dims_product(t->dim, 0, axis), n = t->dim[axis];
    const int64_t inner = shr_dims_product(t->dim, axis + 1, t->rank);
    for (int64_t i = 0; i < outer * inner; i++) {
        const int64_t at = i / inner * n * inner + i % inner;
        switch (t->dtype) {
        case SHR_DTYPE_F32:
            CUMULATIVE_LINE(float, double)
        case SHR_DTYPE_F64:
            CUMULATIVE_LINE(double, double)
        case SHR_DTYPE_I8:
            CUMULATIVE_LINE(int8_t, uint64_t)
        case SHR_DTYPE_U8:
            CUMULATIVE_LINE(uint8_t, uint64_t)
        case SHR_DTYPE_I16:
            CUMULATIVE_LINE(int16_t, uint64_t)
        case SHR_DTYPE_U16:
            CUMULATIVE_LINE(uint16_t, uint64_t)
        case SHR_DTYPE_I32:
            CUMULATIVE_LINE(int32_t, uint64_t)
        case SHR_DTYPE_U32:
            CUMULATIVE_LINE(uint32_t, uint64_t)
        default:
            CUMULATIVE_LINE(uint64_t, uint64_t)
        }
    }
    return SHR_OK;
}

static int cum_sum_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return cumulate(c, false, err);
}

static int cum_prod_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return cumulate(c, true, err);
}

/* ── NonZero: the places, as columns ────────────────────────────────────────────────────────── */

static bool is_zero(const struct shr_tensor *t, int64_t i)
{
    return shr_tensor_get(t, i) == 0.0;
}

static int non_zero_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0].dtype = SHR_DTYPE_I64;
    c->out[0].rank = 2;
    shr_type_set_dim(&c->out[0], 0, c->in[0].rank < 0 ? -1 : c->in[0].rank, NULL);
    shr_type_set_dim(&c->out[0], 1, -1, NULL);
    if (c->in_data[0] != NULL && shr_dtype_size(c->in_data[0]->dtype) > 0) {
        int64_t n = 0;
        for (int64_t i = 0; i < shr_tensor_count(c->in_data[0]); i++) {
            n += !is_zero(c->in_data[0], i);
        }
        shr_type_set_dim(&c->out[0], 1, n, NULL);
    }
    return SHR_OK;
}

static int any_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_FIXED_SIZE, err);
}

static int non_zero_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    int64_t *y = c->out[0]->data, n = c->out[0]->dim[1], found = 0, own[SHR_MAX_RANK];
    shr_dense_strides(x->rank, x->dim, own);
    for (int64_t i = 0; i < shr_tensor_count(x) && found < n; i++) {
        if (is_zero(x, i)) {
            continue;
        }
        for (int d = 0; d < x->rank; d++) {
            y[d * n + found] = i / own[d] % x->dim[d];
        }
        found++;
    }
    return SHR_OK;
}

/* ── Compress: the slices whose condition holds ─────────────────────────────────────────────── */

static int compress_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    const bool flat = shr_node_attr(c->node, "axis") == NULL;
    int axis = 0;
    c->out[0] = *x;
    if (x->rank < 0) {
        return SHR_OK;
    }
    int code =
        flat ? SHR_OK
             : shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), x->rank, &axis, err);
    int64_t n = -1, length = flat ? -1 : x->dim[axis];
    if (flat && !shr_dims_count(x->rank, x->dim, &length)) {
        length = -1;
    }
    const struct shr_tensor *condition = c->in_data[1];
    if (code == SHR_OK && condition != NULL && length >= 0) {
        n = 0;
        for (int64_t i = 0; i < shr_tensor_count(condition) && i < length; i++) {
            n += !is_zero(condition, i);
        }
    }
    c->out[0].rank = flat ? 1 : x->rank;
    shr_type_set_dim(&c->out[0], axis, n, NULL);
    return code;
}

static int compress_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_FIXED_SIZE, err);
    if (code == SHR_OK && c->in[1]->data == NULL) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "the condition is not constant");
    }
    return code == SHR_OK ? shr_op_want(c, 1, SHR_BIT(BOOL), err) : code;
}

static int compress_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0], *condition = c->in[1]; /* x (outer, n, inner) */
    const bool flat = shr_node_attr(c->node, "axis") == NULL;
    int axis = 0;
    int code =
        flat ? SHR_OK
             : shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), x->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    const int64_t outer = flat ? 1 : shr_dims_product(x->dim, 0, axis);
    const int64_t n = flat ? shr_tensor_count(x) : x->dim[axis];
    const int64_t inner = flat ? 1 : shr_dims_product(x->dim, axis + 1, x->rank);
    const size_t row = (size_t)inner * shr_dtype_size(x->dtype);
    char *to = c->out[0]->data;
    for (int64_t i = 0; i < outer * n && row > 0; i++) {
        if (i % n < shr_tensor_count(condition) && !is_zero(condition, i % n)) {
            memcpy(to, (const char *)x->data + (size_t)i * row, row);
            to += row;
        }
    }
    return SHR_OK;
}

/* ── Unique: of elements, or of slices (outer, n, inner) along an axis ──────────────────────── */

struct slices {
    const struct shr_tensor *x;
    int64_t outer, n, inner;
};

static int slices_of(const struct shr_node *node, const struct shr_tensor *x, struct slices *ret,
                     struct shr_err *err)
{
    *ret = (struct slices){x, 1, shr_tensor_count(x), 1};
    if (shr_node_attr(node, "axis") == NULL) {
        return SHR_OK;
    }
    int axis = 0;
    int code = shr_op_axis(node, "axis", shr_node_int(node, "axis", 0), x->rank, &axis, err);
    if (code == SHR_OK) {
        *ret = (struct slices){x, shr_dims_product(x->dim, 0, axis), x->dim[axis],
                               shr_dims_product(x->dim, axis + 1, x->rank)};
    }
    return code;
}

static int compare_slices(const struct slices *s, int64_t a, int64_t b)
{
    for (int64_t i = 0; i < s->outer * s->inner; i++) {
        const int64_t first = i / s->inner * s->n * s->inner + i % s->inner;
        double x = shr_tensor_get(s->x, first + a * s->inner);
        double y = shr_tensor_get(s->x, first + b * s->inner);
        if (x != y) {
            return x < y ? -1 : 1;
        }
    }
    return 0;
}

/* The first slice equal to slice i. */
static int64_t first_like(const struct slices *s, int64_t i)
{
    int64_t j = 0;
    while (j < i && compare_slices(s, j, i) != 0) {
        j++;
    }
    return j;
}

/* Its place among the unique ones: how many first ones are smaller, or came before. */
static int64_t rank_of(const struct slices *s, int64_t i, bool sorted)
{
    int64_t n = 0;
    for (int64_t j = 0; j < s->n; j++) {
        if (first_like(s, j) == j) {
            n += sorted ? compare_slices(s, j, i) < 0 : j < first_like(s, i);
        }
    }
    return n;
}

enum { UNIQUE_MOST = 1024 }; /* slices: it is cubic, and meant for constants */

static int unique_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in_data[0];
    const bool flat = shr_node_attr(c->node, "axis") == NULL;
    int64_t n = -1;
    int axis = 0;
    int code = SHR_OK;
    if (x != NULL && shr_dtype_size(x->dtype) > 0) {
        struct slices s;
        code = slices_of(c->node, x, &s, err);
        n = code == SHR_OK && s.n <= UNIQUE_MOST ? 0 : -1;
        for (int64_t i = 0; n >= 0 && i < s.n; i++) {
            n += first_like(&s, i) == i;
        }
    }
    if (code == SHR_OK && !flat && c->in[0].rank >= 0) {
        code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", 0), c->in[0].rank, &axis,
                           err);
    }
    for (size_t i = 0; i < c->n_out; i++) {
        bool inverse = i == 2;
        c->out[i] = (struct shr_type){.dtype = SHR_DTYPE_I64, .rank = 1, .dim = {n}};
        if (inverse) {
            shr_type_set_dim(&c->out[i], 0, -1, NULL);
            if (!flat && c->in[0].rank >= 0) {
                shr_type_copy_dim(&c->out[i], 0, &c->in[0], axis);
            } else if (flat && c->in[0].rank >= 0 &&
                       !shr_dims_count(c->in[0].rank, c->in[0].dim, &c->out[i].dim[0])) {
                c->out[i].dim[0] = -1;
            }
        }
    }
    if (flat) {
        c->out[0].dtype = c->in[0].dtype;
    } else {
        c->out[0] = c->in[0];
        shr_type_set_dim(&c->out[0], axis, n, NULL);
    }
    return code;
}

static int unique_forward(const struct shr_op_call *c, struct shr_err *err)
{
    struct slices s;
    int code = slices_of(c->node, c->in[0], &s, err);
    if (code != SHR_OK) {
        return code;
    }
    const bool sorted = shr_node_int(c->node, "sorted", 1) != 0;
    const size_t row = (size_t)s.inner * shr_dtype_size(s.x->dtype);
    int64_t *out[4] = {0};
    for (size_t i = 1; i < c->n_out; i++) {
        out[i] = c->out[i] == NULL ? NULL : c->out[i]->data;
    }
    const int64_t unique =
        s.outer * s.inner == 0 ? 0 : shr_tensor_count(c->out[0]) / s.outer / s.inner;
    if (out[3] != NULL) {
        memset(out[3], 0, shr_tensor_bytes(c->out[3]));
    }
    for (int64_t i = 0; i < s.n; i++) {
        const int64_t rank = rank_of(&s, i, sorted);
        if (out[2] != NULL) {
            out[2][i] = rank;
        }
        if (out[3] != NULL) {
            out[3][rank]++;
        }
        if (first_like(&s, i) != i) {
            continue;
        }
        if (out[1] != NULL) {
            out[1][rank] = i;
        }
        for (int64_t o = 0; o < s.outer; o++) {
            memcpy((char *)c->out[0]->data + (size_t)(o * unique + rank) * row,
                   (const char *)s.x->data + (size_t)(o * s.n + i) * row, row);
        }
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("Compress", 9, 0), SHR_SLOTS(2, 2, 1, 1), .infer = compress_infer,
     .setup = compress_setup, .forward = compress_forward, SHR_NO_WEIGHT, .halves = true},
    {SHR_ROW("CumProd", 26, 0), SHR_SLOTS(2, 2, 1, 1), .infer = shr_infer_same,
     .setup = cumulative_setup, .forward = cum_prod_forward, SHR_NO_WEIGHT},
    {SHR_ROW("CumSum", 11, 0), SHR_SLOTS(2, 2, 1, 1), .infer = shr_infer_same,
     .setup = cumulative_setup, .forward = cum_sum_forward, SHR_NO_WEIGHT},
    {SHR_ROW("NonZero", 9, 0), SHR_SLOTS(1, 1, 1, 1), .infer = non_zero_infer, .setup = any_setup,
     .forward = non_zero_forward, SHR_NO_WEIGHT, .halves = true},
    {SHR_ROW("TopK", 1, 9), SHR_SLOTS(1, 1, 2, 2), .infer = top_k_infer, .setup = top_k_setup,
     .forward = top_k_forward, SHR_NO_WEIGHT, .halves = true},
    {SHR_ROW("TopK", 10, 0), SHR_SLOTS(2, 2, 2, 2), .infer = top_k_infer, .setup = top_k_setup,
     .forward = top_k_forward, SHR_NO_WEIGHT, .halves = true},
    {SHR_ROW("Unique", 11, 0), SHR_SLOTS(1, 1, 1, 4), .infer = unique_infer, .setup = any_setup,
     .forward = unique_forward, SHR_NO_WEIGHT, .halves = true},
};
const struct shr_op_family shr_ops_order = {rows, SHR_COUNT_OF(rows)};
