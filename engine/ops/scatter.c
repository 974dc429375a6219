/* Operators that read or write at places which a tensor of indices names: GatherElements, GatherND,
 * ScatterElements (until opset 10: Scatter), ScatterND, TensorScatter.
 *
 * Elements move as bytes; only a reduction reads them. An index outside of its axis is an error
 * that is found while running. */
#include "ops/util.h"

#include <string.h>

#include "ops/families.h"

static const unsigned INDEX_TYPES = SHR_BIT(I32) | SHR_BIT(I64);

/* The index at place i, counted from the end when negative; INVALID when it is not in [-n, n). */
static int index_at(const struct shr_op_call *c, const struct shr_tensor *t, int64_t i, int64_t n,
                    int64_t *ret, struct shr_err *err)
{
    int64_t at = shr_op_int_at(t, i);
    if (at < -n || at >= n) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "index %lld is not in [%lld, %lld]",
                           (long long)at, (long long)-n, (long long)n - 1);
    }
    *ret = at < 0 ? at + n : at;
    return SHR_OK;
}

static int axis_of(const struct shr_node *node, int rank, int *ret, struct shr_err *err)
{
    return shr_op_axis(node, "axis", shr_node_int(node, "axis", 0), rank, ret, err);
}

/* ── Reductions of what is written ──────────────────────────────────────────────────────────── */

enum reduction { REDUCE_NONE, REDUCE_ADD, REDUCE_MUL, REDUCE_MAX, REDUCE_MIN };

static int read_reduction(const struct shr_node *node, enum reduction *ret, struct shr_err *err)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    const char *text = shr_node_text(node, "reduction", "none");
    for (size_t i = 0; i < SHR_COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum reduction)i;
            return SHR_OK;
        }
    }
    return shr_op_fail(node, err, SHR_ERR_INVALID, "reduction is '%.40s'", text);
}

static int64_t reduce_int(enum reduction r, int64_t a, int64_t b)
{
    switch (r) {
    case REDUCE_ADD:
        return (int64_t)((uint64_t)a + (uint64_t)b);
    case REDUCE_MUL:
        return (int64_t)((uint64_t)a * (uint64_t)b);
    case REDUCE_MAX:
        return a > b ? a : b;
    default:
        return a < b ? a : b;
    }
}

static double reduce_real(enum reduction r, double a, double b)
{
    switch (r) {
    case REDUCE_ADD:
        return a + b;
    case REDUCE_MUL:
        return a * b;
    case REDUCE_MAX:
        return a > b || a != a ? a : b;
    default:
        return a < b || a != a ? a : b;
    }
}

/* y[to] = y[to] reduced with x[from]. */
static void write_one(enum reduction r, const struct shr_tensor *x, int64_t from,
                      struct shr_tensor *y, int64_t to)
{
    size_t size = shr_dtype_size(y->dtype);
    if (r == REDUCE_NONE) {
        memcpy((char *)y->data + (size_t)to * size, (const char *)x->data + (size_t)from * size,
               size);
    } else if (y->dtype == SHR_DTYPE_I64) {
        int64_t *at = (int64_t *)y->data + to;
        *at = reduce_int(r, *at, ((const int64_t *)x->data)[from]);
    } else {
        shr_tensor_set(y, to, reduce_real(r, shr_tensor_get(y, to), shr_tensor_get(x, from)));
    }
}

static int scatter_setup(struct shr_op_setup *c, struct shr_err *err)
{
    enum reduction r = REDUCE_NONE;
    int code = read_reduction(c->node, &r, err);
    if (code == SHR_OK) {
        code = shr_op_want(c, 0, SHR_FIXED_SIZE, err);
    }
    return code == SHR_OK ? shr_op_want(c, 1, INDEX_TYPES, err) : code;
}

/* ── GatherElements, ScatterElements: one index for each element ───────────────────────────── */

/* Indices may be smaller than the data along every axis but the one. */
static int elements_check(const struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *index = &c->in[1];
    int axis = 0;
    if (x->rank < 0 || index->rank < 0) {
        return SHR_OK;
    }
    int code = axis_of(c->node, x->rank, &axis, err);
    bool fits = x->rank == index->rank;
    for (int i = 0; i < x->rank && fits; i++) {
        fits = i == axis || x->dim[i] < 0 || index->dim[i] < 0 || index->dim[i] <= x->dim[i];
    }
    char a[96], b[96];
    return code != SHR_OK || fits
               ? code
               : shr_op_fail(c->node, err, SHR_ERR_INVALID, "indices %s do not fit data %s",
                             shr_dims_text(index->rank, index->dim, a, sizeof a),
                             shr_dims_text(x->rank, x->dim, b, sizeof b));
}

static int gather_elements_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0] = c->in[1];
    c->out[0].dtype = c->in[0].dtype;
    return elements_check(c, err);
}

static int scatter_elements_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0] = c->in[0];
    int code = shr_op_same_dtype(c, 0, 2, err);
    for (int i = 0; code == SHR_OK && i < c->in[1].rank && c->in[2].rank >= 0; i++) {
        int64_t a = c->in[1].dim[i], b = c->in[2].dim[i];
        if (c->in[1].rank != c->in[2].rank || (a >= 0 && b >= 0 && a != b)) {
            code =
                shr_op_fail(c->node, err, SHR_ERR_INVALID, "indices and updates differ in shape");
        }
    }
    return code == SHR_OK ? elements_check(c, err) : code;
}

/* Calls for each element i of the indices with the place in data that it names. */
typedef void (*element_fn)(enum reduction r, const struct shr_op_call *c, int64_t i, int64_t at);

static int each_element(const struct shr_op_call *c, enum reduction r, element_fn fn,
                        struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0], *index = c->in[1];
    int64_t own[SHR_MAX_RANK], place[SHR_MAX_RANK] = {0}, n = shr_tensor_count(index);
    int axis = 0;
    int code = axis_of(c->node, x->rank, &axis, err);
    shr_dense_strides(x->rank, x->dim, own);
    for (int64_t i = 0; i < n && code == SHR_OK; i++) {
        int64_t at = 0, along = 0;
        for (int d = 0; d < x->rank; d++) {
            at += d == axis ? 0 : place[d] * own[d];
        }
        code = index_at(c, index, i, x->dim[axis], &along, err);
        if (code == SHR_OK) {
            fn(r, c, i, at + along * own[axis]);
        }
        for (int d = x->rank - 1; d >= 0 && ++place[d] == index->dim[d]; d--) {
            place[d] = 0;
        }
    }
    return code;
}

static void gather_one(enum reduction r, const struct shr_op_call *c, int64_t i, int64_t at)
{
    write_one(r, c->in[0], at, c->out[0], i);
}

static void scatter_one(enum reduction r, const struct shr_op_call *c, int64_t i, int64_t at)
{
    write_one(r, c->in[2], i, c->out[0], at);
}

static int gather_elements_forward(const struct shr_op_call *c, struct shr_err *err)
{
    return each_element(c, REDUCE_NONE, gather_one, err);
}

static int scatter_elements_forward(const struct shr_op_call *c, struct shr_err *err)
{
    enum reduction r = REDUCE_NONE;
    int code = read_reduction(c->node, &r, err);
    shr_copy_same(c->in[0], c->out[0]);
    return code == SHR_OK ? each_element(c, r, scatter_one, err) : code;
}

/* ── GatherND, ScatterND: the last dim of the indices is a place ───────────────────────────── */

/* Checks data and indices; *ret_depth is the length of a place, -1 = not known. */
static int nd_check(const struct shr_infer *c, int batch_dims, int64_t *ret_depth,
                    struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *index = &c->in[1];
    *ret_depth = -1;
    if (x->rank < 0 || index->rank < 0) {
        return SHR_OK;
    }
    if (batch_dims < 0 || batch_dims >= x->rank || batch_dims >= index->rank) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "batch_dims is %d for ranks %d and %d",
                           batch_dims, x->rank, index->rank);
    }
    *ret_depth = index->dim[index->rank - 1];
    if (*ret_depth > x->rank - batch_dims || *ret_depth == 0) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "places of %lld indices in %d dims",
                           (long long)*ret_depth, x->rank - batch_dims);
    }
    return SHR_OK;
}

static int batch_dims_of(const struct shr_node *node)
{
    int64_t n = shr_node_int(node, "batch_dims", 0);
    return n < 0 || n > SHR_MAX_RANK ? -1 : (int)n;
}

static int gather_nd_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *index = &c->in[1];
    struct shr_type *y = &c->out[0];
    int batch = batch_dims_of(c->node);
    int64_t depth = -1;
    y->dtype = x->dtype;
    int code = nd_check(c, batch, &depth, err);
    if (code != SHR_OK || depth < 0) {
        return code;
    }
    if (index->rank - 1 + x->rank - batch - (int)depth > SHR_MAX_RANK) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the result has more than %d dims",
                           SHR_MAX_RANK);
    }
    y->rank = 0;
    for (int i = 0; i < index->rank - 1; i++) {
        shr_type_copy_dim(y, y->rank++, index, i);
    }
    for (int i = batch + (int)depth; i < x->rank; i++) {
        shr_type_copy_dim(y, y->rank++, x, i);
    }
    return SHR_OK;
}

/* Place number i of the indices in data, from its dim `first` on: an offset in elements. */
static int nd_place(const struct shr_op_call *c, int64_t i, int first, int64_t *ret,
                    struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0], *index = c->in[1];
    int64_t own[SHR_MAX_RANK], depth = index->dim[index->rank - 1];
    shr_dense_strides(x->rank, x->dim, own);
    *ret = 0;
    for (int64_t d = 0; d < depth; d++) {
        int64_t at = 0;
        int code = index_at(c, index, i * depth + d, x->dim[first + d], &at, err);
        if (code != SHR_OK) {
            return code;
        }
        *ret += at * own[first + d];
    }
    return SHR_OK;
}

static int gather_nd_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0], *index = c->in[1];
    const int batch = batch_dims_of(c->node), depth = (int)index->dim[index->rank - 1];
    const size_t size = shr_dtype_size(x->dtype);
    const int64_t row = shr_dims_product(x->dim, batch + depth, x->rank);
    const int64_t each = shr_dims_product(x->dim, batch, x->rank);
    const int64_t places = shr_dims_product(index->dim, batch, index->rank - 1);
    const int64_t n = shr_dims_product(index->dim, 0, index->rank - 1);
    int code = SHR_OK;
    for (int64_t i = 0; i < n && row > 0 && code == SHR_OK; i++) {
        int64_t at = 0;
        code = nd_place(c, i, batch, &at, err);
        if (code == SHR_OK) {
            memcpy((char *)c->out[0]->data + (size_t)(i * row) * size,
                   (const char *)x->data + (size_t)(i / places * each + at) * size,
                   (size_t)row * size);
        }
    }
    return code;
}

static int scatter_nd_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *index = &c->in[1], *updates = &c->in[2];
    int64_t depth = -1;
    c->out[0] = *x;
    int code = shr_op_same_dtype(c, 0, 2, err);
    if (code == SHR_OK) {
        code = nd_check(c, 0, &depth, err);
    }
    if (code != SHR_OK || depth < 0 || updates->rank < 0) {
        return code;
    }
    bool fits = updates->rank == index->rank - 1 + x->rank - (int)depth;
    for (int i = 0; i < updates->rank && fits; i++) {
        bool behind = i >= index->rank - 1;
        int64_t want = behind ? x->dim[i - (index->rank - 1) + depth] : index->dim[i];
        fits = want < 0 || updates->dim[i] < 0 || want == updates->dim[i];
    }
    return fits ? SHR_OK
                : shr_op_fail(c->node, err, SHR_ERR_INVALID,
                              "updates do not have the shape that data and indices want");
}

static int scatter_nd_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0], *index = c->in[1];
    const int64_t n = shr_dims_product(index->dim, 0, index->rank - 1);
    const int64_t row = shr_dims_product(x->dim, (int)index->dim[index->rank - 1], x->rank);
    enum reduction r = REDUCE_NONE;
    int code = read_reduction(c->node, &r, err);
    shr_copy_same(x, c->out[0]);
    for (int64_t i = 0; i < n && code == SHR_OK; i++) {
        int64_t at = 0;
        code = nd_place(c, i, 0, &at, err);
        for (int64_t j = 0; j < row && code == SHR_OK; j++) {
            write_one(r, c->in[2], i * row + j, c->out[0], at + j);
        }
    }
    return code;
}

/* ── TensorScatter: a cache (batch, …, longest, …) gets new rows along an axis ──────────────── */

static int cache_axis(const struct shr_node *node, int rank, int *ret, struct shr_err *err)
{
    int code = shr_op_axis(node, "axis", shr_node_int(node, "axis", -2), rank, ret, err);
    return code == SHR_OK && *ret == 0
               ? shr_op_fail(node, err, SHR_ERR_INVALID, "axis is the batch")
               : code;
}

static int tensor_scatter_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0], *update = &c->in[1];
    int axis = 0;
    c->out[0] = *x;
    int code = shr_op_same_dtype(c, 0, 1, err);
    if (code != SHR_OK || x->rank < 0) {
        return code;
    }
    code = cache_axis(c->node, x->rank, &axis, err);
    bool fits = update->rank < 0 || update->rank == x->rank;
    for (int i = 0; i < update->rank && fits; i++) {
        int64_t have = update->dim[i], want = x->dim[i];
        fits = have < 0 || want < 0 || (i == axis ? have <= want : have == want);
    }
    return code != SHR_OK || fits
               ? code
               : shr_op_fail(c->node, err, SHR_ERR_INVALID, "the update does not fit the cache");
}

static int tensor_scatter_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0], *update = c->in[1];
    const struct shr_tensor *begin = c->n_in > 2 ? c->in[2] : NULL;
    const bool circular = strcmp(shr_node_text(c->node, "mode", "linear"), "circular") == 0;
    int axis = 0;
    int code = cache_axis(c->node, x->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    shr_copy_same(x, c->out[0]);
    const int64_t longest = x->dim[axis], steps = update->dim[axis];
    const int64_t outer = shr_dims_product(x->dim, 0, axis), batch = x->dim[0];
    const size_t row =
        (size_t)shr_dims_product(x->dim, axis + 1, x->rank) * shr_dtype_size(x->dtype);
    for (int64_t i = 0; i < outer * steps && row > 0; i++) {
        const int64_t o = i / steps;
        int64_t first = begin == NULL ? 0 : shr_op_int_at(begin, o / (outer / batch));
        int64_t at = first + i % steps;
        if (first < 0 || (!circular && at >= longest)) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "writes at %lld of %lld",
                               (long long)at, (long long)longest);
        }
        memcpy((char *)c->out[0]->data + (size_t)(o * longest + at % longest) * row,
               (const char *)update->data + (size_t)i * row, row);
    }
    return SHR_OK;
}

static int gather_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_FIXED_SIZE, err);
    return code == SHR_OK ? shr_op_want(c, 1, INDEX_TYPES, err) : code;
}

static int tensor_scatter_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_FIXED_SIZE, err);
    return code == SHR_OK ? shr_op_want(c, 2, INDEX_TYPES, err) : code;
}

#define INDEXED(name, since, until, in_min, in_max, prefix, setup_)                                \
    {                                                                                              \
        SHR_ROW(name, since, until), SHR_SLOTS(in_min, in_max, 1, 1),                              \
            .infer = prefix##_infer, .setup = setup_, .forward = prefix##_forward, SHR_NO_WEIGHT,  \
            .halves = true                                                                         \
    }

static const struct shr_op rows[] = {
    INDEXED("GatherElements", 11, 0, 2, 2, gather_elements, gather_setup),
    INDEXED("GatherND", 11, 0, 2, 2, gather_nd, gather_setup),
    INDEXED("Scatter", 9, 0, 3, 3, scatter_elements, scatter_setup),
    INDEXED("ScatterElements", 11, 0, 3, 3, scatter_elements, scatter_setup),
    INDEXED("ScatterND", 11, 0, 3, 3, scatter_nd, scatter_setup),
    INDEXED("TensorScatter", 24, 0, 2, 3, tensor_scatter, tensor_scatter_setup),
};
const struct shr_op_family shr_ops_scatter = {rows, SHR_COUNT_OF(rows)};
