/* Recognizing quantization; see fuse_quant.h. */
#include "exec/fuse_quant.h"

#include <math.h>

bool shr__quant_is_byte(const struct shr_value *v)
{
    return v != NULL && (v->type.dtype == SHR_DTYPE_U8 || v->type.dtype == SHR_DTYPE_I8);
}

/* Scale and zero point of a QuantizeLinear or DequantizeLinear that fusing understands. */
static bool read_parameters(const struct shr_node *node, struct shr__quant *ret)
{
    struct shr__quant q = {.q = shr_node_in(node, 0),
                           .scale = shr_node_in(node, 1),
                           .zero = shr_node_in(node, 2),
                           .axis = shr_node_int(node, "axis", 1)};
    if (q.q == NULL || !shr_value_is_constant(q.scale) || !shr__fuse_is_f32(q.scale) ||
        q.scale->constant.rank > 1 || shr_node_int(node, "block_size", 0) != 0) {
        return false;
    }
    q.n = shr_tensor_count(&q.scale->constant);
    if (q.n < 1 || (q.zero != NULL && (!shr_value_is_constant(q.zero) ||
                                       shr_tensor_count(&q.zero->constant) != q.n))) {
        return false;
    }
    q.axis += q.axis < 0 ? q.q->type.rank : 0;
    *ret = q;
    return true;
}

/* Of either domain that has the operator. */
static bool is_operator(const struct shr_node *node, const char *op_type)
{
    const struct shr_op *row = node == NULL ? NULL : node->op;
    return shr_node_is(node, op_type) ||
           (row != NULL && row == shr_op_find("com.microsoft", op_type, 1));
}

bool shr__quant_is_dequantized(const struct shr_value *v, struct shr__quant *ret)
{
    return v != NULL && is_operator(v->producer, "DequantizeLinear") && shr__fuse_is_f32(v) &&
           read_parameters(v->producer, ret);
}

bool shr__quant_is_activation(const struct shr_value *v, struct shr__quant *ret)
{
    return shr__quant_is_dequantized(v, ret) && ret->n == 1 && shr__quant_is_byte(ret->q) &&
           !shr_value_is_constant(ret->q);
}

bool shr__quant_is_quantizer(const struct shr_node *node, struct shr__quant *ret)
{
    return is_operator(node, "QuantizeLinear") && shr__fuse_is_f32(shr_node_in(node, 0)) &&
           shr__quant_is_byte(shr_node_out(node, 0)) && read_parameters(node, ret) && ret->n == 1;
}

struct shr_node *shr__quant_next(const struct shr_node *node, enum shr_dtype dtype,
                                 struct shr__quant *ret)
{
    const struct shr_value *out = shr_node_out(node, 0);
    struct shr_node *next = out == NULL ? NULL : shr_value_single_use(out);
    return next != NULL && shr__quant_is_quantizer(next, ret) &&
                   shr_node_out(next, 0)->type.dtype == dtype
               ? next
               : NULL;
}

double shr__quant_scalar(const struct shr_value *v)
{
    return v == NULL ? 0 : shr_tensor_get(&v->constant, 0);
}

bool shr__quant_same(const struct shr__quant *a, const struct shr__quant *b)
{
    return a->n == 1 && b->n == 1 && shr__quant_scalar(a->scale) == shr__quant_scalar(b->scale) &&
           shr__quant_scalar(a->zero) == shr__quant_scalar(b->zero);
}

bool shr__quant_implies(const struct shr__quant *q, enum shr_dtype dtype,
                        const struct shr__act *act)
{
    const double lowest = dtype == SHR_DTYPE_U8 ? 0 : INT8_MIN;
    const double highest = dtype == SHR_DTYPE_U8 ? UINT8_MAX : INT8_MAX;
    const double scale = shr__quant_scalar(q->scale), zero = shr__quant_scalar(q->zero);
    if (act->kind == SHR_ACT_RELU) {
        return zero == lowest;
    }
    return act->kind == SHR_ACT_CLIP && rint((double)act->lo / scale) + zero <= lowest &&
           rint((double)act->hi / scale) + zero >= highest;
}
