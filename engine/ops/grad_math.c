/* Backward rules of arithmetic and of functions of one operand. dy is the gradient of the output;
 * the comment of each rule is its formula. */
#include "ops/grad.h"

#include <stdio.h>
#include <string.h>

static struct shr_value *in(struct shr_grad *g, size_t slot)
{
    return shr_node_in(g->node, slot);
}

static struct shr_value *out(struct shr_grad *g)
{
    return shr_node_out(g->node, 0);
}

static const struct shr_type *shape(struct shr_grad *g)
{
    return &shr_node_out(g->node, 0)->type;
}

/* da = dy, db = dy */
SHR_BACKWARD(add)
{
    (void)err;
    for (size_t i = 0; i < g->node->n_in; i++) {
        shr_grad_give_sum(g, i, shr_grad_of(g, 0), shape(g));
    }
    return g->rc;
}

SHR_BACKWARD(sum)
{
    return shr_backward_add(g, err);
}

/* da = dy, db = -dy */
SHR_BACKWARD(sub)
{
    (void)err;
    shr_grad_give_sum(g, 0, shr_grad_of(g, 0), shape(g));
    if (shr_grad_wants(g, 1)) {
        struct shr_value *sum = shr_grad_sum_to(g, shr_grad_of(g, 0), shape(g), &in(g, 1)->type);
        shr_grad_give(g, 1, SHR_GRAD_ONNX(g, "Neg", sum));
    }
    return g->rc;
}

/* da = dy b, db = dy a */
SHR_BACKWARD(mul)
{
    (void)err;
    for (size_t i = 0; i < 2; i++) {
        if (shr_grad_wants(g, i)) {
            shr_grad_give_sum(g, i, SHR_GRAD_ONNX(g, "Mul", shr_grad_of(g, 0), in(g, 1 - i)),
                              shape(g));
        }
    }
    return g->rc;
}

/* da = dy / b, db = -(dy / b) y */
SHR_BACKWARD(div)
{
    (void)err;
    struct shr_value *q = SHR_GRAD_ONNX(g, "Div", shr_grad_of(g, 0), in(g, 1));
    shr_grad_give_sum(g, 0, q, shape(g));
    if (shr_grad_wants(g, 1)) {
        struct shr_value *db = SHR_GRAD_ONNX(g, "Mul", q, out(g));
        shr_grad_give_sum(g, 1, SHR_GRAD_ONNX(g, "Neg", db), shape(g));
    }
    return g->rc;
}

/* da = dy b a^(b-1), db = dy y log(a) */
SHR_BACKWARD(pow)
{
    (void)err;
    struct shr_value *dy = shr_grad_of(g, 0);
    if (shr_grad_wants(g, 0)) {
        struct shr_value *less = SHR_GRAD_ONNX(g, "Sub", in(g, 1), shr_grad_scalar(g, 1.0f));
        struct shr_value *slope =
            SHR_GRAD_ONNX(g, "Mul", in(g, 1), SHR_GRAD_ONNX(g, "Pow", in(g, 0), less));
        shr_grad_give_sum(g, 0, SHR_GRAD_ONNX(g, "Mul", dy, slope), shape(g));
    }
    if (shr_grad_wants(g, 1)) {
        struct shr_value *slope =
            SHR_GRAD_ONNX(g, "Mul", out(g), SHR_GRAD_ONNX(g, "Log", in(g, 0)));
        shr_grad_give_sum(g, 1, SHR_GRAD_ONNX(g, "Mul", dy, slope), shape(g));
    }
    return g->rc;
}

/* da = c ? dy : 0, db = c ? 0 : dy */
SHR_BACKWARD(where)
{
    (void)err;
    struct shr_value *dy = shr_grad_of(g, 0), *zero = shr_grad_scalar(g, 0.0f);
    if (shr_grad_wants(g, 1)) {
        shr_grad_give_sum(g, 1, SHR_GRAD_ONNX(g, "Where", in(g, 0), dy, zero), shape(g));
    }
    if (shr_grad_wants(g, 2)) {
        shr_grad_give_sum(g, 2, SHR_GRAD_ONNX(g, "Where", in(g, 0), zero, dy), shape(g));
    }
    return g->rc;
}

SHR_BACKWARD(neg)
{
    (void)err;
    shr_grad_give(g, 0, SHR_GRAD_ONNX(g, "Neg", shr_grad_of(g, 0)));
    return g->rc;
}

/* dx = dy sign(x) */
SHR_BACKWARD(abs)
{
    (void)err;
    struct shr_value *sign = SHR_GRAD_ONNX(g, "Sign", in(g, 0));
    shr_grad_give(g, 0, SHR_GRAD_ONNX(g, "Mul", shr_grad_of(g, 0), sign));
    return g->rc;
}

/* dx = dy exp(-x^2) 2/sqrt(pi) */
SHR_BACKWARD(erf)
{
    return shr_backward_of_x(g, err);
}

/* dx = dy y */
SHR_BACKWARD(exp)
{
    (void)err;
    shr_grad_give(g, 0, SHR_GRAD_ONNX(g, "Mul", shr_grad_of(g, 0), out(g)));
    return g->rc;
}

/* dx = dy / x */
SHR_BACKWARD(log)
{
    (void)err;
    shr_grad_give(g, 0, SHR_GRAD_ONNX(g, "Div", shr_grad_of(g, 0), in(g, 0)));
    return g->rc;
}

/* dx = dy / (2 y) */
SHR_BACKWARD(sqrt)
{
    (void)err;
    struct shr_value *q = SHR_GRAD_ONNX(g, "Div", shr_grad_of(g, 0), out(g));
    shr_grad_give(g, 0, shr_grad_scaled(g, q, 0.5f));
    return g->rc;
}

/* dx = -dy y^2 */
SHR_BACKWARD(reciprocal)
{
    (void)err;
    struct shr_value *square = SHR_GRAD_ONNX(g, "Mul", out(g), out(g));
    struct shr_value *product = SHR_GRAD_ONNX(g, "Mul", shr_grad_of(g, 0), square);
    shr_grad_give(g, 0, SHR_GRAD_ONNX(g, "Neg", product));
    return g->rc;
}

/* The row of SHR_TRAIN_DOMAIN is named after the operator: "ReluGrad" of Relu. */
static struct shr_value *named_grad(struct shr_grad *g, struct shr_value *of)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%sGrad", g->node->op_type);
    struct shr_value *dx = SHR_GRAD_TRAIN(g, name, shr_grad_of(g, 0), of);
    shr_grad_attrs(g, g->node);
    return dx;
}

SHR_BACKWARD(of_y)
{
    (void)err;
    shr_grad_give(g, 0, named_grad(g, out(g)));
    return g->rc;
}

SHR_BACKWARD(of_x)
{
    (void)err;
    shr_grad_give(g, 0, named_grad(g, in(g, 0)));
    return g->rc;
}

SHR_BACKWARD(gelu)
{
    if (strcmp(shr_node_text(g->node, "approximate", "none"), "none") != 0) {
        return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED,
                           "has a gradient without approximation only");
    }
    return shr_backward_of_x(g, err);
}

/* dx = x within the bounds, where x = y ? dy : 0 */
SHR_BACKWARD(clip)
{
    (void)err;
    shr_grad_give(g, 0, SHR_GRAD_TRAIN(g, "ClipGrad", shr_grad_of(g, 0), in(g, 0), out(g)));
    return g->rc;
}

/* Softmax: dx = y (dy - sum(dy y)); LogSoftmax: dx = dy - exp(y) sum(dy) */
SHR_BACKWARD(softmax)
{
    (void)err;
    const bool rows = shr_model_opset(g->model, "") < 13; /* all dims from axis on are one row */
    struct shr_value *dx = named_grad(g, out(g));
    shr_grad_int(g, "axis", shr_node_int(g->node, "axis", rows ? 1 : -1));
    shr_grad_int(g, "to_end", rows);
    shr_grad_give(g, 0, dx);
    return g->rc;
}
