/* Models in QOperator form are opened: QLinearConv, QLinearMatMul, QGemm, QLinearAdd and the like
 * become the float operator between DequantizeLinear and QuantizeLinear that they stand for, where
 * it is known that those fuse into integer steps again. So there is one set of integer steps. */
#include "exec/fuse_quant.h"

/* ── What may be opened ─────────────────────────────────────────────────────────────────────── */

static bool is_microsoft(const struct shr_node *node, const char *op_type)
{
    return node->op != NULL && node->op == shr_op_find("com.microsoft", op_type, 1);
}

static bool is_one(const struct shr_value *v) /* a known scale or zero point of a tensor */
{
    return shr_value_is_constant(v) && shr_tensor_count(&v->constant) == 1 &&
           (shr__quant_is_byte(v) || shr__fuse_is_f32(v));
}

static bool is_one_or_omitted(const struct shr_value *v)
{
    return v == NULL || is_one(v);
}

/* Slots at, at + 1, at + 2: bytes that are not known, a scale and a zero point. */
static bool is_activation(const struct shr_node *node, size_t at)
{
    const struct shr_value *x = shr_node_in(node, at);
    return shr__quant_is_byte(x) && !shr_value_is_constant(x) &&
           is_one(shr_node_in(node, at + 1)) && is_one_or_omitted(shr_node_in(node, at + 2));
}

/* Slots at, at + 1: the scale and zero point of an output of the type of x. */
static bool is_result(const struct shr_node *node, size_t at, const struct shr_value *x)
{
    const struct shr_value *y = shr_node_out(node, 0);
    return y != NULL && y->type.dtype == x->type.dtype && is_one(shr_node_in(node, at)) &&
           is_one_or_omitted(shr_node_in(node, at + 1));
}

/* Slots at …: known bytes, scales and zero points for all or one of n channels along the axis. */
static bool is_weight(const struct shr_node *node, size_t at, int axis)
{
    const struct shr_value *w = shr_node_in(node, at), *scale = shr_node_in(node, at + 1);
    const struct shr_value *zero = shr_node_in(node, at + 2);
    if (!shr_value_is_constant(w) || !shr__quant_is_byte(w) || axis >= w->constant.rank ||
        !shr_value_is_constant(scale) || !shr__fuse_is_f32(scale) || scale->constant.rank > 1 ||
        (zero != NULL && !shr_value_is_constant(zero))) {
        return false;
    }
    int64_t n = shr_tensor_count(&scale->constant);
    return (n == 1 || n == w->constant.dim[axis]) &&
           (zero == NULL || shr_tensor_count(&zero->constant) == n);
}

/* ── Opening ────────────────────────────────────────────────────────────────────────────────── */

struct opening {
    struct shr_graph *g;
    struct shr_node *node; /* everything new stands in front of it */
};

static struct shr_type float_type(const struct shr_value *v)
{
    struct shr_type type = v->type;
    if (shr_value_is_constant(v)) {
        type.rank = v->constant.rank;
        for (int d = 0; d < type.rank; d++) {
            type.dim[d] = v->constant.dim[d];
        }
    }
    type.dtype = SHR_DTYPE_F32;
    return type;
}

/* DequantizeLinear of q. */
static int dequantize(const struct opening *o, struct shr_value *q, struct shr_value *scale,
                      struct shr_value *zero, int axis, struct shr_value **ret, struct shr_err *err)
{
    const struct shr_type type = float_type(q);
    struct shr_value *in[] = {q, scale, zero};
    struct shr_node *node;
    int rc = shr__fuse_value(o->g, q->name, &type, ret, err);
    if (rc == 0) {
        rc = shr__fuse_add(o->g, o->node, shr_op_find("", "DequantizeLinear", 13), in,
                           zero == NULL ? 2 : 3, *ret, &node, err);
    }
    return rc != 0 ? rc : shr_node_set_int(o->g, node, "axis", axis, err);
}

static int dequantize_slots(const struct opening *o, size_t at, int axis, struct shr_value **ret,
                            struct shr_err *err)
{
    return dequantize(o, shr_node_in(o->node, at), shr_node_in(o->node, at + 1),
                      shr_node_in(o->node, at + 2), axis, ret, err);
}

/* An int32 bias, whose scale is that of x times those of w. */
static int dequantize_bias(const struct opening *o, struct shr_value *bias,
                           const struct shr_value *x_scale, const struct shr_value *w_scale,
                           struct shr_value **ret, struct shr_err *err)
{
    struct shr_tensor scale;
    struct shr_value *v;
    const struct shr_tensor *w = &w_scale->constant;
    int rc = shr_tensor_new(SHR_DTYPE_F32, w->rank, w->dim, &scale, err);
    for (int64_t i = 0; rc == 0 && i < shr_tensor_count(&scale); i++) {
        shr_tensor_set(&scale, i, shr__quant_scalar(x_scale) * shr_tensor_get(w, i));
    }
    if (rc == 0) {
        rc = shr_graph_add_constant(o->g, "bias_scale", scale, &v, err);
    }
    return rc != 0 ? rc : dequantize(o, bias, v, NULL, 0, ret, err);
}

/* The float operator in place of the node, and when scale is given QuantizeLinear behind it. */
static int put_float(const struct opening *o, const char *op_type, struct shr_value *const *in,
                     size_t n_in, struct shr_value *scale, struct shr_value *zero,
                     struct shr_err *err)
{
    struct shr_value *y = shr_node_out(o->node, 0), *real = y;
    const struct shr_op *row = shr_op_find("", op_type, 13);
    const struct shr_type type = float_type(y);
    struct shr_node *node;
    int rc = scale == NULL ? SHR_OK : shr__fuse_value(o->g, y->name, &type, &real, err);
    if (rc != 0) {
        return rc;
    }
    struct shr__cut cut = shr__fuse_cut(o->g, o->node);
    rc = shr__fuse_put(o->g, &cut, row, in, n_in, real, &node, err);
    if (rc == 0 && scale != NULL) {
        struct shr_value *args[] = {real, scale, zero};
        rc = shr__fuse_add(o->g, cut.before, shr_op_find("", "QuantizeLinear", 13), args,
                           zero == NULL ? 2 : 3, y, &node, err);
    }
    return rc;
}

/* x, w and a bias that may be omitted: a product. */
static int open_product(const struct opening *o, const char *op_type, size_t w_at, int w_axis,
                        struct shr_value *bias, struct shr_value *scale, struct shr_value *zero,
                        struct shr_err *err)
{
    struct shr_value *in[3] = {NULL, NULL, NULL};
    int rc = dequantize_slots(o, 0, 0, &in[0], err);
    if (rc == 0) {
        rc = dequantize_slots(o, w_at, w_axis, &in[1], err);
    }
    if (rc == 0 && bias != NULL) {
        rc = dequantize_bias(o, bias, shr_node_in(o->node, 1), shr_node_in(o->node, w_at + 1),
                             &in[2], err);
    }
    return rc != 0 ? rc : put_float(o, op_type, in, bias == NULL ? 2 : 3, scale, zero, err);
}

/* ── Operators ──────────────────────────────────────────────────────────────────────────────── */

/* A known bias, one element a channel of the weight, or none. */
static bool is_bias(const struct shr_value *bias, const struct shr_value *w, int axis)
{
    return bias == NULL || (shr_value_is_constant(bias) && bias->constant.rank == 1 &&
                            bias->constant.dim[0] == w->constant.dim[axis]);
}

static int open_conv(const struct opening *o, struct shr_err *err)
{
    const struct shr_node *node = o->node;
    const struct shr_value *x = shr_node_in(node, 0);
    if (!is_activation(node, 0) || (x->type.rank != 3 && x->type.rank != 4) ||
        !is_weight(node, 3, 0) || !is_result(node, 6, x) ||
        !is_bias(shr_node_in(node, 8), shr_node_in(node, 3), 0)) {
        return SHR_OK;
    }
    return open_product(o, "Conv", 3, 0, shr_node_in(node, 8), shr_node_in(node, 6),
                        shr_node_in(node, 7), err);
}

static int open_matmul(const struct opening *o, struct shr_err *err)
{
    const struct shr_node *node = o->node;
    const struct shr_value *b = shr_node_in(node, 3);
    if (!is_activation(node, 0) || !is_weight(node, 3, 1) || b->constant.rank != 2 ||
        !is_result(node, 6, shr_node_in(node, 0))) {
        return SHR_OK;
    }
    return open_product(o, "MatMul", 3, 1, NULL, shr_node_in(node, 6), shr_node_in(node, 7), err);
}

static int open_gemm(const struct opening *o, struct shr_err *err)
{
    const struct shr_node *node = o->node;
    struct shr_value *scale = shr_node_in(node, 7);
    int axis = shr_node_int(node, "transB", 0) != 0 ? 0 : 1;
    if (!is_activation(node, 0) || !is_weight(node, 3, axis) ||
        shr_node_in(node, 3)->constant.rank != 2 || shr_node_int(node, "transA", 0) != 0 ||
        shr_node_float(node, "alpha", 1) != 1 ||
        !is_bias(shr_node_in(node, 6), shr_node_in(node, 3), axis) ||
        (scale != NULL && !is_result(node, 7, shr_node_in(node, 0)))) {
        return SHR_OK;
    }
    return open_product(o, "Gemm", 3, axis, shr_node_in(node, 6), scale, shr_node_in(node, 8), err);
}

static int open_binary(const struct opening *o, const char *op_type, struct shr_err *err)
{
    const struct shr_node *node = o->node;
    const struct shr_value *a = shr_node_in(node, 0);
    struct shr_value *in[2];
    if (!is_activation(node, 0) || !is_activation(node, 3) || !is_result(node, 6, a) ||
        !shr_type_equal(&a->type, &shr_node_in(node, 3)->type)) {
        return SHR_OK;
    }
    int rc = dequantize_slots(o, 0, 0, &in[0], err);
    if (rc == 0) {
        rc = dequantize_slots(o, 3, 0, &in[1], err);
    }
    return rc != 0 ? rc
                   : put_float(o, op_type, in, 2, shr_node_in(node, 6), shr_node_in(node, 7), err);
}

static int open_unary(const struct opening *o, const char *op_type, struct shr_err *err)
{
    const struct shr_node *node = o->node;
    struct shr_value *x;
    if (!is_activation(node, 0) || !is_result(node, 3, shr_node_in(node, 0)) ||
        shr_node_int(node, "channels_last", 0) != 0) {
        return SHR_OK;
    }
    int rc = dequantize_slots(o, 0, 0, &x, err);
    return rc != 0 ? rc
                   : put_float(o, op_type, &x, 1, shr_node_in(node, 3), shr_node_in(node, 4), err);
}

static int open_concat(const struct opening *o, struct shr_err *err)
{
    enum { FIRST = 2, EACH = 3 };
    const struct shr_node *node = o->node;
    const size_t n = (node->n_in - FIRST) / EACH;
    for (size_t i = 0; i < n; i++) {
        if (!is_activation(node, FIRST + i * EACH) ||
            !is_result(node, 0, shr_node_in(node, FIRST + i * EACH))) {
            return SHR_OK;
        }
    }
    struct shr_value **in = shr_arena_new(o->g->arena, n + 1, sizeof *in);
    int rc = in == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory") : SHR_OK;
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = dequantize_slots(o, FIRST + i * EACH, 0, &in[i], err);
    }
    return rc != 0 ? rc
                   : put_float(o, "Concat", in, n, shr_node_in(node, 0), shr_node_in(node, 1), err);
}

static int open_node(const struct opening *o, struct shr_err *err)
{
    static const struct {
        const char *name, *op_type;
        int (*open)(const struct opening *o, const char *op_type, struct shr_err *err);
    } RULES[] = {
        {"QLinearAdd", "Add", open_binary},
        {"QLinearMul", "Mul", open_binary},
        {"QLinearSigmoid", "Sigmoid", open_unary},
        {"QLinearLeakyRelu", "LeakyRelu", open_unary},
        {"QLinearGlobalAveragePool", "GlobalAveragePool", open_unary},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(RULES); i++) {
        if (is_microsoft(o->node, RULES[i].name)) {
            return RULES[i].open(o, RULES[i].op_type, err);
        }
    }
    return shr_node_is(o->node, "QLinearConv")      ? open_conv(o, err)
           : shr_node_is(o->node, "QLinearMatMul")  ? open_matmul(o, err)
           : is_microsoft(o->node, "QGemm")         ? open_gemm(o, err)
           : is_microsoft(o->node, "QLinearConcat") ? open_concat(o, err)
                                                    : SHR_OK;
}

int shr__fuse_qoperator(struct shr_graph *g, struct shr_err *err)
{
    int rc = SHR_OK;
    for (struct shr_node *node = g->first_node, *next; rc == 0 && node != NULL; node = next) {
        next = node->next;
        rc = open_node(&(struct opening){g, node}, err);
    }
    return rc;
}
