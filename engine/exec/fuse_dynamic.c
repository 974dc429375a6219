/* Dynamic quantization: DynamicQuantizeLinear, MatMulInteger, Cast, Mul by the product of the
 * scales, Add and Relu become one step behind the quantization of the activation. So do what ONNX
 * Runtime writes for them, MatMulIntegerToFloat, and DynamicQuantizeMatMul, which is parted in two
 * so that several of one activation quantize it once. */
#include "exec/fuse.h"

/* The other operand of a binary node. */
static struct shr_value *other_input(const struct shr_node *node, const struct shr_value *v)
{
    return shr_node_in(node, 0) == v ? shr_node_in(node, 1) : shr_node_in(node, 0);
}

/* Is v the product of x_scale and a constant: one scale, or one for each of n columns? */
static bool is_scale(const struct shr_value *v, const struct shr_value *x_scale, int64_t n,
                     struct shr_value **ret_w_scale)
{
    if (v == NULL || !shr_node_is(v->producer, "Mul")) {
        return false;
    }
    const struct shr_node *mul = v->producer;
    if (shr_node_in(mul, 0) != x_scale && shr_node_in(mul, 1) != x_scale) {
        return false;
    }
    struct shr_value *w_scale = other_input(mul, x_scale);
    if (!shr_value_is_constant(w_scale) || !shr__fuse_is_f32(w_scale)) {
        return false;
    }
    *ret_w_scale = w_scale;
    return shr_tensor_count(&w_scale->constant) == 1 || shr__fuse_is_row(w_scale, n);
}

static bool is_byte(enum shr_dtype dtype)
{
    return dtype == SHR_DTYPE_U8 || dtype == SHR_DTYPE_I8;
}

/* Constant 2-D weights with one zero point, or one a column. */
static bool has_plain_weight(const struct shr_node *node)
{
    const struct shr_value *w = shr_node_in(node, 1), *zero = shr_node_in(node, 3);
    if (!shr_value_is_constant(w) || w->constant.rank != 2 || !is_byte(w->constant.dtype)) {
        return false;
    }
    return zero == NULL || (shr_value_is_constant(zero) && zero->constant.rank <= 1 &&
                            (shr_tensor_count(&zero->constant) == 1 ||
                             shr_tensor_count(&zero->constant) == w->constant.dim[1]));
}

static struct shr_node *quantizer_of(const struct shr_node *node)
{
    const struct shr_value *x = shr_node_in(node, 0), *zero = shr_node_in(node, 2);
    if (x == NULL || zero == NULL || x->producer == NULL || x->producer != zero->producer ||
        !shr_node_is(x->producer, "DynamicQuantizeLinear") || x->producer_slot != 0 ||
        zero->producer_slot != 2) {
        return NULL;
    }
    return x->producer;
}

/* *at becomes the fused node, if any. */
static int fuse_product(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    const struct shr_node *quantizer = quantizer_of(node);
    if (!shr_node_is(node, "MatMulInteger") || quantizer == NULL || !has_plain_weight(node)) {
        return SHR_OK;
    }
    struct shr_value *x_scale = shr_node_out(quantizer, 1), *w = shr_node_in(node, 1), *w_scale;
    int64_t n = w->constant.dim[1];
    struct shr_node *cast = shr__fuse_next(node, "Cast");
    struct shr_node *mul = cast == NULL ? NULL : shr__fuse_next(cast, "Mul");
    if (x_scale == NULL || mul == NULL || !shr__fuse_is_f32(shr_node_out(cast, 0)) ||
        !is_scale(other_input(mul, shr_node_out(cast, 0)), x_scale, n, &w_scale)) {
        return SHR_OK;
    }

    struct shr_node *add = shr__fuse_next(mul, "Add");
    struct shr_value *bias = add == NULL ? NULL : other_input(add, shr_node_out(mul, 0));
    if (add != NULL &&
        (!shr__fuse_is_row(bias, n) || bias->constant.rank > shr_node_out(mul, 0)->type.rank)) {
        add = NULL;
        bias = NULL;
    }
    struct shr_node *relu = shr__fuse_next(add == NULL ? mul : add, "Relu");
    struct shr_node *last = relu != NULL ? relu : add != NULL ? add : mul;
    struct shr_value *out = shr_node_out(last, 0);
    struct shr_value *in[SHR__D_SLOTS] = {
        shr_node_in(node, 0), x_scale, shr_node_in(node, 2), w, w_scale, shr_node_in(node, 3), bias,
    };
    struct shr_node *const gone[] = {relu, add, mul, cast};
    for (size_t i = 0; i < SHR_COUNT_OF(gone); i++) {
        if (gone[i] != NULL) {
            shr_graph_remove_node(g, gone[i]);
        }
    }
    struct shr__cut cut = shr__fuse_cut(g, node);
    int rc = shr__fuse_put(g, &cut, &shr__fused_dynamic, in, SHR__D_SLOTS, out, at, err);
    return rc != 0 ? rc : shr_node_set_int(g, *at, "relu", relu != NULL, err);
}

/* ── Operators of com.microsoft ─────────────────────────────────────────────────────────────── */

static bool is_microsoft(const struct shr_node *node, const char *op_type)
{
    return node->op != NULL && node->op == shr_op_find("com.microsoft", op_type, 1);
}

/* A known value of 1 or n elements, or omitted when that is allowed. */
static bool is_each(const struct shr_value *v, int64_t n, bool omitted)
{
    return v == NULL
               ? omitted
               : shr_value_is_constant(v) && v->constant.rank <= 1 &&
                     (shr_tensor_count(&v->constant) == 1 || shr_tensor_count(&v->constant) == n);
}

/* Slots of weight, scale, zero point and bias: known, and of the forms that the step takes? */
static bool has_known_weight(const struct shr_node *node, size_t w_at, size_t scale_at,
                             size_t zero_at, size_t bias_at)
{
    const struct shr_value *w = shr_node_in(node, w_at), *bias = shr_node_in(node, bias_at);
    if (!shr_value_is_constant(w) || w->constant.rank != 2 || !is_byte(w->constant.dtype)) {
        return false;
    }
    int64_t n = w->constant.dim[1];
    return is_each(shr_node_in(node, scale_at), n, false) &&
           is_each(shr_node_in(node, zero_at), n, true) &&
           (bias == NULL || shr__fuse_is_row(bias, n));
}

/* The step in place of a node whose activation is quantized as x, x_scale, x_zero. */
static int put_step(struct shr_graph *g, struct shr_node **at, struct shr_value *const *x,
                    struct shr_value *const *w, struct shr_err *err)
{
    struct shr_value *in[SHR__D_SLOTS] = {x[0], x[1], x[2], w[0], w[1], w[2], w[3]};
    struct shr_value *out = shr_node_out(*at, 0);
    struct shr__cut cut = shr__fuse_cut(g, *at);
    return shr__fuse_put(g, &cut, &shr__fused_dynamic, in, SHR__D_SLOTS, out, at, err);
}

static int fuse_to_float(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    const struct shr_node *node = *at;
    struct shr_value *const x[] = {shr_node_in(node, 0), shr_node_in(node, 2),
                                   shr_node_in(node, 4)};
    struct shr_value *const w[] = {shr_node_in(node, 1), shr_node_in(node, 3), shr_node_in(node, 5),
                                   shr_node_in(node, 6)};
    if (x[0]->type.dtype != SHR_DTYPE_U8 || x[2] == NULL || x[1]->type.rank > 1 ||
        x[2]->type.rank > 1 || !has_known_weight(node, 1, 3, 5, 6)) {
        return SHR_OK;
    }
    for (size_t i = 1; i < SHR_COUNT_OF(x); i++) {
        if (x[i]->type.rank == 1 && x[i]->type.dim[0] != 1) {
            return SHR_OK;
        }
    }
    return put_step(g, at, x, w, err);
}

struct quantized { /* an activation, and what DynamicQuantizeLinear made of it */
    const struct shr_value *of;
    struct shr_value *x[3];
};

static int quantize(struct shr_graph *g, struct shr_node *before, struct shr_value *a,
                    struct quantized *last, struct shr_err *err)
{
    static const enum shr_dtype TYPES[] = {SHR_DTYPE_U8, SHR_DTYPE_F32, SHR_DTYPE_U8};
    const struct shr_op *row = shr_op_find("", "DynamicQuantizeLinear", 11);
    struct shr_node *node;
    if (last->of == a) {
        return SHR_OK;
    }
    int rc = SHR_OK;
    for (size_t i = 0; rc == 0 && i < SHR_COUNT_OF(TYPES); i++) {
        struct shr_type type = {.dtype = TYPES[i]};
        if (i == 0) {
            type = a->type;
            type.dtype = TYPES[i];
        }
        rc = shr__fuse_value(g, a->name, &type, &last->x[i], err);
    }
    if (rc == 0) {
        rc = shr_graph_add_node(g, before, row->domain, row->name, "", &a, 1, last->x, 3, &node,
                                err);
    }
    if (rc == 0) {
        node->op = row;
        last->of = a;
    }
    return rc;
}

static int fuse_dynamic_matmul(struct shr_graph *g, struct shr_node **at, struct quantized *last,
                               struct shr_err *err)
{
    struct shr_node *node = *at;
    struct shr_value *const w[] = {shr_node_in(node, 1), shr_node_in(node, 2), shr_node_in(node, 3),
                                   shr_node_in(node, 4)};
    if (!shr__fuse_is_f32(shr_node_in(node, 0)) || shr_value_is_constant(shr_node_in(node, 0)) ||
        !has_known_weight(node, 1, 2, 3, 4)) {
        return SHR_OK;
    }
    int rc = quantize(g, node, shr_node_in(node, 0), last, err);
    return rc != 0 ? rc : put_step(g, at, last->x, w, err);
}

int shr__fuse_dynamic(struct shr_graph *g, struct shr_err *err)
{
    struct quantized last = {0};
    int rc = SHR_OK;
    for (struct shr_node *node = g->first_node; rc == 0 && node != NULL; node = node->next) {
        if (is_microsoft(node, "MatMulIntegerToFloat")) {
            rc = fuse_to_float(g, &node, err);
        } else if (is_microsoft(node, "DynamicQuantizeMatMul")) {
            rc = fuse_dynamic_matmul(g, &node, &last, err);
        } else {
            rc = fuse_product(g, &node, err);
        }
    }
    return rc;
}
