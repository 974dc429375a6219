/* What each row and operator wants of the layout of its operands, and how a node is changed to work
 * on NHWC: axes, shapes of constants, rows of their own; see layout.h. */
#include <string.h>

#include "exec/layout.h"
#include "ops/grad.h"

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

/* A list that is an attribute or a constant input; NULL when neither. */
static const int64_t *list_of(const struct shr_node *node, const char *attr, size_t slot,
                              size_t *ret_n)
{
    const struct shr_value *v = shr_node_in(node, slot);
    if (v == NULL) {
        return shr_node_ints(node, attr, ret_n);
    }
    if (!shr_value_is_constant(v) || v->constant.dtype != SHR_DTYPE_I64) {
        return NULL;
    }
    *ret_n = (size_t)shr_tensor_count(&v->constant);
    return v->constant.data;
}

/* The same list with other values, on the input or the attribute. */
static int set_list(struct shr_graph *g, struct shr_node *node, const char *attr, size_t slot,
                    bool on_input, const int64_t *values, size_t n, struct shr_err *err)
{
    if (!on_input) {
        return shr_node_set_ints(g, node, attr, values, n, err);
    }
    const int64_t dim = (int64_t)n;
    struct shr_tensor t;
    struct shr_value *v;
    int rc = shr_tensor_new(SHR_DTYPE_I64, 1, &dim, &t, err);
    if (rc != 0) {
        return rc;
    }
    memcpy(t.data, values, n * sizeof *values);
    rc = shr_graph_add_constant(g, attr, t, &v, err);
    if (rc == 0 && node->n_in <= slot) {
        rc = shr_node_resize_inputs(g, node, slot + 1, err);
    }
    if (rc == 0) {
        shr_node_set_input(node, slot, v);
    }
    return rc;
}

/* Slice: starts, ends and steps are lists for the axes, which alone change. */
static bool has_known_axes(const struct shr_node *node)
{
    size_t n = 0, n_axes = 0;
    const int64_t *starts = list_of(node, "starts", 1, &n);
    const int64_t *axes = list_of(node, "axes", 3, &n_axes);
    bool given = shr_node_in(node, 3) != NULL || shr_node_attr(node, "axes") != NULL;
    return starts != NULL && n <= SHR_MAX_RANK && (given ? axes != NULL && n_axes == n : true);
}

static int adapt_slice(struct shr_graph *g, struct shr_node *node, bool image, struct shr_err *err)
{
    const int rank = shr_node_in(node, 0)->type.rank;
    size_t n = 0, n_axes = 0;
    const int64_t *axes = list_of(node, "axes", 3, &n_axes);
    int64_t moved[SHR_MAX_RANK];
    (void)list_of(node, "starts", 1, &n);
    for (size_t i = 0; i < n; i++) {
        int64_t axis = axes == NULL ? (int64_t)i : axes[i] < 0 ? axes[i] + rank : axes[i];
        moved[i] = shr__nhwc_axis(rank, (int)axis);
    }
    bool on_input = shr_node_in(node, 1) != NULL;
    return image ? set_list(g, node, "axes", 3, on_input, moved, n, err) : SHR_OK;
}

/* Pad of all dims. */
static bool pads_all(const struct shr_node *node)
{
    size_t n = 0;
    const int64_t *pads = list_of(node, "pads", 1, &n);
    return pads != NULL && shr_node_in(node, 3) == NULL &&
           n == 2 * (size_t)shr_node_in(node, 0)->type.rank;
}

static int adapt_pad(struct shr_graph *g, struct shr_node *node, bool image, struct shr_err *err)
{
    const int rank = shr_node_in(node, 0)->type.rank;
    size_t n = 0;
    const int64_t *pads = list_of(node, "pads", 1, &n);
    int64_t moved[2 * SHR_MAX_RANK];
    for (int d = 0; d < rank; d++) {
        moved[shr__nhwc_axis(rank, d)] = pads[d];
        moved[rank + shr__nhwc_axis(rank, d)] = pads[rank + d];
    }
    bool on_input = shr_node_in(node, 1) != NULL;
    return image ? set_list(g, node, "pads", 1, on_input, moved, n, err) : SHR_OK;
}

static size_t count_of(const struct shr_value *v)
{
    return v == NULL ? 0 : (size_t)shr_tensor_count(&v->constant);
}

/* Resize from opset 11 on, of all dims by constants. */
static bool resizes_all(const struct shr_node *node)
{
    const size_t rank = (size_t)shr_node_in(node, 0)->type.rank;
    for (size_t i = 1; i < node->n_in; i++) {
        const struct shr_value *v = shr_node_in(node, i);
        if (v != NULL && !shr_value_is_constant(v)) {
            return false;
        }
    }
    const size_t scales = count_of(shr_node_in(node, 2)), sizes = count_of(shr_node_in(node, 3));
    return node->n_in > 2 && count_of(shr_node_in(node, 1)) == 0 &&
           (scales == rank ? sizes == 0 : scales == 0 && sizes == rank) &&
           shr_node_attr(node, "axes") == NULL &&
           shr_node_attr(node, "keep_aspect_ratio_policy") == NULL &&
           (scales == 0 || shr__fuse_is_f32(shr_node_in(node, 2)));
}

static int adapt_resize(struct shr_graph *g, struct shr_node *node, bool image, struct shr_err *err)
{
    const int rank = shr_node_in(node, 0)->type.rank;
    const size_t slot = count_of(shr_node_in(node, 2)) != 0 ? 2 : 3;
    if (!image) {
        return SHR_OK;
    }
    const struct shr_tensor *from = &shr_node_in(node, slot)->constant;
    const size_t size = shr_dtype_size(from->dtype);
    struct shr_tensor t;
    struct shr_value *v;
    int rc = shr_tensor_new(from->dtype, from->rank, from->dim, &t, err);
    if (rc != 0) {
        return rc;
    }
    for (int d = 0; d < rank; d++) {
        memcpy((char *)t.data + (size_t)shr__nhwc_axis(rank, d) * size,
               (const char *)from->data + (size_t)d * size, size);
    }
    rc = shr_graph_add_constant(g, "resize", t, &v, err);
    if (rc == 0) {
        shr_node_set_input(node, slot, v);
    }
    return rc;
}

/* Conv and pools of one or two axes, float32. */
static bool is_plain_pool(const struct shr_node *node)
{
    const struct shr_value *x = shr_node_in(node, 0);
    return shr__fuse_is_f32(x) && (x->type.rank == 3 || x->type.rank == 4) && node->n_out == 1;
}

static int adapt_maxpool(struct shr_graph *g, struct shr_node *node, bool image,
                         struct shr_err *err)
{
    (void)g;
    (void)image;
    (void)err;
    shr__layout_become(node, &shr__fused_maxpool);
    return SHR_OK;
}

static int adapt_avgpool(struct shr_graph *g, struct shr_node *node, bool image,
                         struct shr_err *err)
{
    (void)g;
    (void)image;
    (void)err;
    shr__layout_become(node, &shr__fused_avgpool);
    return SHR_OK;
}

/* ReduceMean of all pixels, GlobalAveragePool. */
static bool is_mean_of_pixels(const struct shr_node *node)
{
    const int rank = shr_node_in(node, 0)->type.rank;
    size_t n = 0;
    const int64_t *axes = list_of(node, "axes", 1, &n);
    unsigned seen = 0;
    if (!shr__fuse_is_f32(shr_node_in(node, 0)) || rank < 3) {
        return false;
    }
    for (size_t i = 0; axes != NULL && i < n; i++) {
        seen |= 1u << (axes[i] < 0 ? axes[i] + rank : axes[i]);
    }
    return shr_node_is(node, "GlobalAveragePool") || seen == (1u << rank) - 4;
}

static int adapt_mean(struct shr_graph *g, struct shr_node *node, bool image, struct shr_err *err)
{
    (void)image;
    shr__layout_become(node, &shr__fused_mean);
    return shr_node_resize_inputs(g, node, 1, err);
}

/* Rows that read the attribute nhwc. */
static int adapt_flag(struct shr_graph *g, struct shr_node *node, bool image, struct shr_err *err)
{
    return image ? shr_node_set_int(g, node, "nhwc", 1, err) : SHR_OK;
}

/* An attribute that is a list with an element a dim. */
static int turn_list(struct shr_graph *g, struct shr_node *node, const char *name,
                     struct shr_err *err)
{
    size_t n = 0;
    const int64_t *v = shr_node_ints(node, name, &n);
    int64_t moved[SHR_MAX_RANK];
    for (size_t d = 0; v != NULL && d < n; d++) {
        moved[shr__nhwc_axis((int)n, (int)d)] = v[d];
    }
    return v == NULL ? SHR_OK : shr_node_set_ints(g, node, name, moved, n, err);
}

/* One value a channel, for all its pixels. */
static bool spreads_pixels(const struct shr_node *node)
{
    const struct shr_type *x = &shr_node_in(node, 0)->type, *y = &shr_node_out(node, 0)->type;
    bool one = x->rank == y->rank && x->rank >= 3;
    for (int d = 2; d < x->rank; d++) {
        one = one && x->dim[d] == 1;
    }
    return one;
}

static int adapt_block(struct shr_graph *g, struct shr_node *node, bool image, struct shr_err *err)
{
    static const char *const LISTS[] = {"dims", "starts", "steps"};
    int rc = SHR_OK;
    for (size_t i = 0; i < SHR_COUNT_OF(LISTS) && image && rc == SHR_OK; i++) {
        rc = turn_list(g, node, LISTS[i], err);
    }
    return rc;
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
    {&shr__fused_conv, .image = SHR__ALWAYS, .slots = 1 | 1 << SHR__F_RESIDUAL},
    {&shr__fused_activation, .image = SHR__FOLLOWS, .slots = 1},
    {&shr__fused_affine, .image = SHR__FOLLOWS, .slots = 1, .adapt = adapt_flag},
    {&shr__fused_shuffle, .image = SHR__FOLLOWS, .bytes = SHR__FOLLOWS, .slots = 1,
     .adapt = adapt_flag},
    {&shr__fused_qlinear, .bytes = SHR__ALWAYS, .slots = 1},
    {&shr__fused_qconv, .image = SHR__ALWAYS, .bytes = SHR__ALWAYS, .slots = 1},
    {&shr__fused_qmaxpool, .image = SHR__ALWAYS, .bytes = SHR__ALWAYS, .slots = 1},
    {&shr__fused_qadd, .image = SHR__FOLLOWS, .bytes = SHR__ALWAYS, .slots = 1 | 1 << 3},
    {&shr__fused_qmul, .image = SHR__FOLLOWS, .bytes = SHR__ALWAYS, .slots = 1 | 1 << 3},
    {&shr__fused_qtable, .image = SHR__FOLLOWS, .bytes = SHR__ALWAYS, .slots = 1},
    {&shr__fused_qmean, .image = SHR__ALWAYS, .bytes = SHR__ALWAYS, .slots = 1},
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
    {.name = "Slice",
     .image = SHR__FOLLOWS,
     .bytes = SHR__FOLLOWS,
     .slots = 1,
     .fits = has_known_axes,
     .adapt = adapt_slice},
    {.name = "Pad", .image = SHR__FOLLOWS, .slots = 1, .fits = pads_all, .adapt = adapt_pad},
    {.name = "Resize",
     .image = SHR__FOLLOWS,
     .slots = 1,
     .fits = resizes_all,
     .adapt = adapt_resize},
    {.name = "MaxPool",
     .image = SHR__FOLLOWS,
     .slots = 1,
     .fits = is_plain_pool,
     .adapt = adapt_maxpool},
    {.name = "AveragePool",
     .image = SHR__FOLLOWS,
     .slots = 1,
     .fits = is_plain_pool,
     .adapt = adapt_avgpool},
    {.name = "GlobalAveragePool",
     .image = SHR__FOLLOWS,
     .slots = 1,
     .fits = is_mean_of_pixels,
     .adapt = adapt_mean},
    {.name = "ReduceMean",
     .image = SHR__FOLLOWS,
     .slots = 1,
     .fits = is_mean_of_pixels,
     .adapt = adapt_mean},
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

/* Of SHR_TRAIN_DOMAIN. */
static const struct shr__layout_rule TRAINING[] = {
    {.name = "ConvGradInput", .image = SHR__ALWAYS, .slots = 1, .adapt = adapt_flag},
    {.name = "ConvGradWeight",
     .image = SHR__ALWAYS,
     .slots = 1 | 1 << 1,
     .keeps_out = true,
     .adapt = adapt_flag},
    {.name = "AveragePoolGrad", .image = SHR__ALWAYS, .slots = 1, .adapt = adapt_flag},
    {.name = "MaxPoolGrad", .image = SHR__FOLLOWS, .slots = ALL, .adapt = adapt_flag},
    {.name = "BatchNormGrad", .image = SHR__FOLLOWS, .slots = 1 | 1 << 1, .adapt = adapt_flag},
    {.name = "BatchNormTrain", .image = SHR__FOLLOWS, .slots = 1, .adapt = adapt_flag},
    {.name = "ChannelSum", .image = SHR__FOLLOWS, .slots = 1, .adapt = adapt_flag},
    {.name = "BroadcastTo",
     .image = SHR__ALWAYS,
     .slots = 1,
     .fits = spreads_pixels,
     .adapt = adapt_block},
    {.name = "Part", .image = SHR__FOLLOWS, .slots = 1, .adapt = adapt_block},
    {.name = "PutPart", .image = SHR__FOLLOWS, .slots = 1, .adapt = adapt_block},
    BROADCAST("ClipGrad"),
    BROADCAST("EluGrad"),
    BROADCAST("ErfGrad"),
    BROADCAST("GeluGrad"),
    BROADCAST("HardSigmoidGrad"),
    BROADCAST("HardSwishGrad"),
    BROADCAST("LeakyReluGrad"),
    BROADCAST("ReluGrad"),
    BROADCAST("SigmoidGrad"),
    BROADCAST("SoftplusGrad"),
    BROADCAST("TanhGrad"),
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
    for (size_t i = 0; i < SHR_COUNT_OF(TRAINING); i++) {
        if (strcmp(node->domain, SHR_TRAIN_DOMAIN) == 0 &&
            strcmp(node->op_type, TRAINING[i].name) == 0) {
            return &TRAINING[i];
        }
    }
    return NULL;
}
