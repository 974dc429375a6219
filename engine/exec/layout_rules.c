/* What each row and operator wants of the layout of its operands, and how a node is changed to work
 * on NHWC: axes, shapes of constants, rows of their own; see layout.h. */
#include <string.h>

#include "exec/layout.h"

enum { ALL = 0xff };

bool shr__layout_scale_is_plain(const struct shr_node *node)
{
    const struct shr_value *scale = shr_node_in(node, 1), *zero = shr_node_in(node, 2);
    const struct shr_value *real =
        shr_node_is(node, "QuantizeLinear") ? shr_node_in(node, 0) : shr_node_out(node, 0);
    const struct shr_value *q =
        shr_node_is(node, "QuantizeLinear") ? shr_node_out(node, 0) : shr_node_in(node, 0);
    return shr_value_is_constant(scale) && shr__fuse_is_f32(scale) &&
           shr_tensor_count(&scale->constant) == 1 && shr__fuse_is_f32(real) &&
           (q->type.dtype == SHR_DTYPE_U8 || q->type.dtype == SHR_DTYPE_I8) &&
           (zero == NULL ||
            (shr_value_is_constant(zero) && shr_tensor_count(&zero->constant) == 1));
}

/* ── Changes ────────────────────────────────────────────────────────────────────────────────── */

/* Concat, Split: the attribute axis. */
static int adapt_axis(struct shr_graph *g, struct shr_node *node, bool image, struct shr_err *err)
{
    int rank = shr_node_in(node, 0)->type.rank;
    int64_t axis = shr_node_int(node, "axis", 0);
    axis += axis < 0 ? rank : 0;
    return image ? shr_node_set_int(g, node, "axis", shr__nhwc_axis(rank, (int)axis), err) : SHR_OK;
}

static int adapt_quantize(struct shr_graph *g, struct shr_node *node, bool image,
                          struct shr_err *err)
{
    (void)image;
    bool flip = shr_node_out(node, 0)->type.dtype == SHR_DTYPE_I8;
    shr__layout_become(node, &shr__fused_quantize);
    return shr_node_set_int(g, node, "flip", flip, err);
}

static int adapt_dequantize(struct shr_graph *g, struct shr_node *node, bool image,
                            struct shr_err *err)
{
    (void)image;
    bool flip = shr_node_in(node, 0)->type.dtype == SHR_DTYPE_I8;
    shr__layout_become(node, &shr__fused_dequantize);
    return shr_node_set_int(g, node, "flip", flip, err);
}

/* ── The table ──────────────────────────────────────────────────────────────────────────────── */

static const struct shr__layout_rule FUSED[] = {
    {&shr__fused_qlinear, .bytes = SHR__ALWAYS, .slots = 1},
    {&shr__fused_qconv, .image = SHR__ALWAYS, .bytes = SHR__ALWAYS, .slots = 1},
    {&shr__fused_qmaxpool, .image = SHR__ALWAYS, .bytes = SHR__ALWAYS, .slots = 1},
    {&shr__fused_qadd, .image = SHR__FOLLOWS, .bytes = SHR__ALWAYS, .slots = 1 | 1 << 3},
    {&shr__fused_qrelu, .image = SHR__FOLLOWS, .bytes = SHR__ALWAYS, .slots = 1},
};

#define UNARY(name_)                                                                               \
    {                                                                                              \
        .name = name_, .image = SHR__FOLLOWS, .slots = 1                                           \
    }
#define BROADCAST(name_)                                                                           \
    {                                                                                              \
        .name = name_, .image = SHR__FOLLOWS, .slots = ALL                                         \
    }
#define MOVES(name_)                                                                               \
    {                                                                                              \
        .name = name_, .bytes = SHR__FOLLOWS, .slots = 1                                           \
    }

static const struct shr__layout_rule OPERATORS[] = {
    MOVES("Flatten"),
    MOVES("Reshape"),
    MOVES("Squeeze"),
    MOVES("Transpose"),
    MOVES("Unsqueeze"),
    {.name = "Identity", .image = SHR__FOLLOWS, .bytes = SHR__FOLLOWS, .slots = 1},
    {.name = "Concat",
     .image = SHR__FOLLOWS,
     .bytes = SHR__FOLLOWS,
     .slots = ~0u,
     .adapt = adapt_axis},
    {.name = "Split",
     .image = SHR__FOLLOWS,
     .bytes = SHR__FOLLOWS,
     .slots = 1,
     .adapt = adapt_axis},
    {.name = "QuantizeLinear",
     .image = SHR__FOLLOWS,
     .bytes = SHR__FOLLOWS,
     .slots = 1,
     .fits = shr__layout_scale_is_plain,
     .adapt = adapt_quantize},
    {.name = "DequantizeLinear",
     .image = SHR__FOLLOWS,
     .bytes = SHR__FOLLOWS,
     .slots = 1,
     .fits = shr__layout_scale_is_plain,
     .adapt = adapt_dequantize},
    BROADCAST("Add"),
    BROADCAST("Div"),
    BROADCAST("Max"),
    BROADCAST("Min"),
    BROADCAST("Mul"),
    BROADCAST("Pow"),
    BROADCAST("PRelu"),
    BROADCAST("Sub"),
    BROADCAST("Sum"),
    UNARY("Abs"),
    UNARY("Ceil"),
    UNARY("Celu"),
    UNARY("Clip"),
    UNARY("Cos"),
    UNARY("Elu"),
    UNARY("Erf"),
    UNARY("Exp"),
    UNARY("Floor"),
    UNARY("Gelu"),
    UNARY("HardSigmoid"),
    UNARY("HardSwish"),
    UNARY("LeakyRelu"),
    UNARY("Log"),
    UNARY("Mish"),
    UNARY("Neg"),
    UNARY("Reciprocal"),
    UNARY("Relu"),
    UNARY("Round"),
    UNARY("Selu"),
    UNARY("Sigmoid"),
    UNARY("Sin"),
    UNARY("Softplus"),
    UNARY("Softsign"),
    UNARY("Sqrt"),
    UNARY("Swish"),
    UNARY("Tanh"),
};

const struct shr__layout_rule *shr__layout_rule(const struct shr_node *node)
{
    for (size_t i = 0; i < SHR_COUNT_OF(FUSED); i++) {
        if (node->op == FUSED[i].row) {
            return &FUSED[i];
        }
    }
    for (size_t i = 0; i < SHR_COUNT_OF(OPERATORS); i++) {
        if (shr_node_is(node, OPERATORS[i].name)) {
            return &OPERATORS[i];
        }
    }
    return NULL;
}
