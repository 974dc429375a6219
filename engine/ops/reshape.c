/* Operators that change the shape and not the bytes: Reshape Flatten Squeeze Unsqueeze Identity
 * Dropout (of nothing), and those that make shapes: Shape Size Constant. Elements of any type of
 * fixed size. */
#include "ops/util.h"

#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

static int move_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    shr_copy_same(c->in[0], c->out[0]);
    return SHR_OK;
}

/* The number of elements; -1 when it is not known, or too large to count. */
static int64_t count_of(const struct shr_type *t)
{
    int64_t n;
    return t->rank < 0 || !shr_dims_count(t->rank, t->dim, &n) ? -1 : n;
}

/* ── Reshape, Flatten ───────────────────────────────────────────────────────────────────────── */

/* 0 copies the input's dim (unless allowzero), a single -1 takes what is left. */
static int reshape_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    struct shr_int_list shape;
    int code = shr_op_list_infer(c, NULL, 1, &shape, err);
    y->dtype = x->dtype;
    if (code != SHR_OK) {
        return code;
    }
    if (!shape.known) {
        const struct shr_type *s = &c->in[1];
        bool sized = s->rank == 1 && s->dim[0] >= 0 && s->dim[0] <= SHR_MAX_RANK;
        y->rank = sized ? (int)s->dim[0] : -1;
        for (int i = 0; i < y->rank; i++) {
            shr_type_set_dim(y, i, -1, NULL);
        }
        return SHR_OK;
    }
    if (shape.n > SHR_MAX_RANK) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the shape has %zu dims, at most %d",
                           shape.n, SHR_MAX_RANK);
    }
    bool zero_copies = shr_node_int(c->node, "allowzero", 0) == 0;
    int hole = -1;
    y->rank = (int)shape.n;
    for (int i = 0; i < y->rank; i++) {
        if (shape.v[i] == 0 && zero_copies) {
            if (x->rank >= 0 && i >= x->rank) {
                return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                                   "shape[%d] is 0, but the input has %d dims", i, x->rank);
            }
            if (x->rank >= 0) {
                shr_type_copy_dim(y, i, x, i);
            } else {
                shr_type_set_dim(y, i, -1, NULL);
            }
        } else if (shape.v[i] >= 0) {
            shr_type_set_dim(y, i, shape.v[i], NULL);
        } else if (shape.v[i] == -1 && hole < 0) {
            hole = i;
            y->dim[i] = 1; /* until it is known */
        } else {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "shape[%d] is %lld%s", i,
                               (long long)shape.v[i],
                               shape.v[i] == -1 ? ", and so is another dim" : "");
        }
    }
    int64_t have = count_of(x), want = count_of(y);
    if (have >= 0 && want >= 0 &&
        (hole < 0    ? have != want
         : want == 0 ? have != 0
                     : have % want != 0)) {
        char tx[96], ty[96];
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "cannot reshape %s to %s",
                           shr_dims_text(x->rank, x->dim, tx, sizeof tx),
                           shr_dims_text(y->rank, shape.v, ty, sizeof ty));
    }
    if (hole >= 0) {
        bool known = have >= 0 && want >= 0;
        shr_type_set_dim(y, hole, !known ? -1 : want == 0 ? 0 : have / want, NULL);
    }
    return SHR_OK;
}

static int flatten_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    y->dtype = x->dtype;
    y->rank = 2;
    shr_type_set_dim(y, 0, -1, NULL);
    shr_type_set_dim(y, 1, -1, NULL);
    if (x->rank < 0) {
        return SHR_OK;
    }
    int64_t axis = shr_node_int(c->node, "axis", 1);
    if (axis < -x->rank || axis > x->rank) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "axis %lld is not in [%d, %d]",
                           (long long)axis, -x->rank, x->rank);
    }
    int at = (int)(axis < 0 ? axis + x->rank : axis);
    for (int side = 0; side < 2; side++) {
        int from = side == 0 ? 0 : at, to = side == 0 ? at : x->rank;
        int64_t n;
        if (to - from == 1) {
            shr_type_copy_dim(y, side, x, from);
        } else if (shr_dims_count(to - from, x->dim + from, &n)) {
            shr_type_set_dim(y, side, n, NULL);
        }
    }
    return SHR_OK;
}

/* ── Squeeze, Unsqueeze: axes are an attribute until opset 12 and an input from 13 on ───────── */

static int squeeze_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    struct shr_int_list axes;
    unsigned mask = 0;
    int code = shr_op_list_infer(c, "axes", 1, &axes, err);
    y->dtype = x->dtype;
    if (code != SHR_OK || x->rank < 0 || (axes.given && !axes.known)) {
        return code;
    }
    code = shr_op_axes_mask(c->node, &axes, x->rank, &mask, err);
    if (code != SHR_OK) {
        return code;
    }
    for (int i = 0; i < x->rank && !axes.given; i++) {
        if (x->dim[i] < 0) {
            return SHR_OK; /* it may or may not be 1 */
        }
        mask |= x->dim[i] == 1 ? 1u << i : 0;
    }
    y->rank = 0;
    for (int i = 0; i < x->rank; i++) {
        bool out = (mask >> i & 1u) != 0;
        if (out && x->dim[i] >= 0 && x->dim[i] != 1) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "dim %d is %lld and not 1", i,
                               (long long)x->dim[i]);
        }
        if (!out) {
            shr_type_copy_dim(y, y->rank++, x, i);
        }
    }
    return SHR_OK;
}

static int unsqueeze_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    struct shr_int_list axes;
    unsigned mask = 0;
    int code = shr_op_list_infer(c, "axes", 1, &axes, err);
    y->dtype = x->dtype;
    if (code == SHR_OK && !axes.given) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "axes are missing");
    }
    if (code != SHR_OK || x->rank < 0 || !axes.known) {
        return code;
    }
    int rank = x->rank + (int)axes.n;
    if (rank > SHR_MAX_RANK) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the result has %d dims, at most %d", rank,
                           SHR_MAX_RANK);
    }
    code = shr_op_axes_mask(c->node, &axes, rank, &mask, err);
    if (code != SHR_OK) {
        return code;
    }
    y->rank = rank;
    for (int i = 0, from = 0; i < rank; i++) {
        if ((mask >> i & 1u) != 0) {
            shr_type_set_dim(y, i, 1, NULL);
        } else {
            shr_type_copy_dim(y, i, x, from++);
        }
    }
    return SHR_OK;
}

/* ── Dropout that drops nothing: the input; the mask is all true ────────────────────────────── */

static int dropout_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0] = c->in[0];
    if (c->n_out > 1) {
        c->out[1] = c->in[0];
        c->out[1].dtype = c->opset < 10 ? c->in[0].dtype : SHR_DTYPE_BOOL;
    }
    return SHR_OK;
}

static int dropout_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *ratio = c->n_in > 1 ? c->in[1] : NULL;
    const struct shr_tensor *training = c->n_in > 2 ? c->in[2] : NULL;
    bool off = training == NULL || (training->data != NULL && shr_tensor_get(training, 0) == 0.0);
    bool none = ratio != NULL && ratio->data != NULL && shr_tensor_get(ratio, 0) == 0.0;
    if (!off && !none) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED,
                           "training_mode must be false or ratio 0, known in advance");
    }
    return shr_op_setup_move(c, err);
}

static int dropout_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    shr_copy_same(c->in[0], c->out[0]);
    struct shr_tensor *mask = c->n_out > 1 ? c->out[1] : NULL;
    for (int64_t i = 0; mask != NULL && i < shr_tensor_count(mask); i++) {
        shr_tensor_set(mask, i, 1.0);
    }
    return SHR_OK;
}

/* ── Shape, Size, Constant ──────────────────────────────────────────────────────────────────── */

/* The part [start, end) of the dims that Shape-15 tells; all of them before. */
static void shape_part(const struct shr_node *node, int rank, int *ret_start, int *ret_end)
{
    int64_t part[2] = {shr_node_int(node, "start", 0), shr_node_int(node, "end", rank)};
    for (int i = 0; i < 2; i++) {
        part[i] = part[i] < 0 ? part[i] + rank : part[i];
        part[i] = part[i] < 0 ? 0 : part[i] > rank ? rank : part[i];
    }
    *ret_start = (int)part[0];
    *ret_end = part[1] < part[0] ? (int)part[0] : (int)part[1];
}

static int shape_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    c->out[0].dtype = SHR_DTYPE_I64;
    c->out[0].rank = 1;
    shr_type_set_dim(&c->out[0], 0, -1, NULL);
    if (x->rank < 0) {
        return SHR_OK;
    }
    int start, end;
    shape_part(c->node, x->rank, &start, &end);
    shr_type_set_dim(&c->out[0], 0, end - start, NULL);
    for (int i = start; i < end; i++) {
        if (x->dim[i] < 0) {
            return SHR_OK;
        }
    }
    struct shr_tensor t;
    int code = shr_tensor_new(SHR_DTYPE_I64, 1, c->out[0].dim, &t, err);
    if (code == SHR_OK) {
        memcpy(t.data, x->dim + start, (size_t)(end - start) * sizeof *x->dim);
        c->out_data[0] = t;
    }
    return code;
}

static int shape_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    int start, end;
    shape_part(c->node, c->in[0]->rank, &start, &end);
    memcpy(c->out[0]->data, c->in[0]->dim + start, (size_t)(end - start) * sizeof(int64_t));
    return SHR_OK;
}

static int size_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0] = (struct shr_type){.dtype = SHR_DTYPE_I64};
    int64_t n = count_of(&c->in[0]);
    if (n < 0) {
        return SHR_OK;
    }
    int code = shr_tensor_new(SHR_DTYPE_I64, 0, NULL, &c->out_data[0], err);
    if (code == SHR_OK) {
        *(int64_t *)c->out_data[0].data = n;
    }
    return code;
}

static int size_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    *(int64_t *)c->out[0]->data = shr_tensor_count(c->in[0]);
    return SHR_OK;
}

/* The value of a Constant node as a tensor of its own. */
static int constant_tensor(const struct shr_node *node, struct shr_tensor *ret, struct shr_err *err)
{
    const struct shr_attr *a = shr_node_attr(node, "value");
    if (a != NULL && a->kind == SHR_ATTR_TENSOR) {
        *ret = shr_tensor_ref(&a->tensor);
        return SHR_OK;
    }
    static const struct {
        const char *name;
        enum shr_attr_kind kind;
        enum shr_dtype dtype;
    } forms[] = {
        {"value_float", SHR_ATTR_FLOAT, SHR_DTYPE_F32},
        {"value_floats", SHR_ATTR_FLOATS, SHR_DTYPE_F32},
        {"value_int", SHR_ATTR_INT, SHR_DTYPE_I64},
        {"value_ints", SHR_ATTR_INTS, SHR_DTYPE_I64},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(forms); i++) {
        a = shr_node_attr(node, forms[i].name);
        if (a == NULL || a->kind != forms[i].kind) {
            continue;
        }
        bool scalar = a->kind == SHR_ATTR_FLOAT || a->kind == SHR_ATTR_INT;
        int64_t n = scalar ? 1 : (int64_t)a->n;
        const void *from = a->kind == SHR_ATTR_FLOAT  ? (const void *)&a->f
                           : a->kind == SHR_ATTR_INT  ? (const void *)&a->i
                           : a->kind == SHR_ATTR_INTS ? (const void *)a->ints
                                                      : (const void *)a->floats;
        int code = shr_tensor_new(forms[i].dtype, scalar ? 0 : 1, &n, ret, err);
        if (code == SHR_OK && n > 0) {
            memcpy(ret->data, from, shr_tensor_bytes(ret));
        }
        return code;
    }
    return shr_op_fail(node, err, SHR_ERR_UNSUPPORTED, "has no numeric value");
}

static int constant_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_tensor t;
    int code = constant_tensor(c->node, &t, err);
    if (code == SHR_ERR_UNSUPPORTED) {
        return SHR_OK; /* strings and sparse tensors: the type stays as declared */
    }
    if (code == SHR_OK) {
        c->out[0] = (struct shr_type){.dtype = t.dtype, .rank = t.rank};
        memcpy(c->out[0].dim, t.dim, sizeof t.dim);
        c->out_data[0] = t;
    }
    return code;
}

static int constant_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct shr_tensor *t = shr_arena_new(c->arena, 1, sizeof *t);
    if (t == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    int code = constant_tensor(c->node, t, err);
    c->state = code == SHR_OK ? t : NULL;
    return code;
}

static int constant_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    shr_copy_same(c->state, c->out[0]);
    return SHR_OK;
}

static void constant_finish(void *state)
{
    if (state != NULL) {
        shr_tensor_finish(state);
    }
}

#define MOVE(name, since, until, in_min, in_max, infer_)                                           \
    SHR_ROW(name, since, until), SHR_SLOTS(in_min, in_max, 1, 1),                                  \
        .infer = infer_, .setup = shr_op_setup_move, .forward = move_forward, SHR_NO_WEIGHT,       \
        .quant_role = SHR_QUANT_PASS, .prune_role = SHR_PRUNE_PASS, .in_place = true,              \
        .halves = true, .backward = shr_backward_same

static const struct shr_op rows[] = {
    {MOVE("Flatten", 1, 0, 1, 1, flatten_infer)},
    {MOVE("Identity", 1, 0, 1, 1, shr_infer_same)},
    {MOVE("Reshape", 5, 0, 2, 2, reshape_infer)},
    {MOVE("Squeeze", 1, 12, 1, 1, squeeze_infer)},
    {MOVE("Squeeze", 13, 0, 1, 2, squeeze_infer)},
    {MOVE("Unsqueeze", 1, 12, 1, 1, unsqueeze_infer)},
    {MOVE("Unsqueeze", 13, 0, 2, 2, unsqueeze_infer)},
    {SHR_ROW("Dropout", 7, 0), SHR_SLOTS(1, 3, 1, 2), .infer = dropout_infer,
     .setup = dropout_setup, .forward = dropout_forward, SHR_NO_WEIGHT,
     .quant_role = SHR_QUANT_PASS, .prune_role = SHR_PRUNE_PASS, .in_place = true, .halves = true,
     .backward = shr_backward_same, .training = shr_training_dropout},
    {SHR_ROW("Shape", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = shape_infer, .forward = shape_forward,
     SHR_NO_WEIGHT, .halves = true},
    {SHR_ROW("Size", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = size_infer, .forward = size_forward,
     SHR_NO_WEIGHT, .halves = true},
    {SHR_ROW("Constant", 1, 0), SHR_SLOTS(0, 0, 1, 1), .infer = constant_infer,
     .setup = constant_setup, .forward = constant_forward, .finish = constant_finish, SHR_NO_WEIGHT,
     .halves = true},
};
const struct shr_op_family shr_ops_reshape = {rows, SHR_COUNT_OF(rows)};
