/* Fusing: rewriting the plan's own clone so that fewer, larger steps are left.
 *
 * A fused node is of domain "plan" and carries one of the rows below. Rewrites keep every value
 * that is a graph output or kept, and change results only by the rounding stated with the row.
 *
 * Fused nodes are made in the graph's own form, whatever layout they work on: int8 stays int8,
 * images NCHW. The last rewrite, of layout.h, gives every node the form that its kernel takes. */
#ifndef SHR_EXEC_FUSE_H
#define SHR_EXEC_FUSE_H

#include "ops/op.h"

/* All rewrites; types are known and concrete, and stay so. */
int shr__fuse(struct shr_model *model, struct shr_err *err) SHR_MUSTCHECK;

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

/* float32: act((x · w + bias) * scale + shift + residual). All but x and residual are constant,
 * and w and bias of a convolution without scale; all but x and w may be omitted; bias, scale and
 * shift have one element a channel of the output.
 * Attributes: act, act_lo, act_hi of enum shr_act. */
enum {
    SHR__F_X,
    SHR__F_W,
    SHR__F_BIAS,
    SHR__F_SCALE, /* with shift, of a BatchNormalization */
    SHR__F_SHIFT,
    SHR__F_RESIDUAL, /* like the output; of convolutions */
    SHR__F_SLOTS
};
extern const struct shr_op shr__fused_linear; /* attributes: transB */
extern const struct shr_op shr__fused_conv;   /* NHWC; attributes of Conv */
/* softmax(x * scale + bias) of the last axis, in place of what the mask says: fill where it is true
 * (fills_where) or false. bias float32, mask bool, broadcast to x, or omitted. Attributes: scale,
 * fill, fills_where. */
extern const struct shr_op shr__fused_softmax;
/* float32 pools of NHWC images, attributes of the operators; mean: of all pixels, (n, c) */
extern const struct shr_op shr__fused_maxpool, shr__fused_avgpool, shr__fused_mean;
/* act(x * scale + shift), one element a channel; attributes: nhwc */
extern const struct shr_op shr__fused_affine;
extern const struct shr_op shr__fused_activation; /* act(x) */

/* Integer products, slots as in QLinearConv. y_scale omitted: float32 output. All but x constant.
 * The accumulator is scaled once, by float32(x_scale * w_scale / y_scale), where the operators of
 * the graph round a float sum: results differ by at most one step. */
enum {
    SHR__Q_X,
    SHR__Q_X_SCALE,
    SHR__Q_X_ZERO, /* of x as the graph has it; attribute flip_x tells that x came as q ^ 0x80 */
    SHR__Q_W,
    SHR__Q_W_SCALE,
    SHR__Q_W_ZERO,
    SHR__Q_Y_SCALE,
    SHR__Q_Y_ZERO,     /* likewise, flip_y */
    SHR__Q_BIAS,       /* int32 or float32 */
    SHR__Q_BIAS_SCALE, /* of an int32 bias; omitted: x_scale * w_scale */
    SHR__Q_SLOTS
};
/* attributes: flip_x, flip_y, and act of Relu, or when y is quantized Clip */
extern const struct shr_op shr__fused_qlinear; /* transB */
extern const struct shr_op shr__fused_qconv;   /* NHWC; those of Conv */

/* a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero; attributes: relu, flip (all of them).
 * mul: the scales are one factor, by one step at most from the float product that is rounded. */
extern const struct shr_op shr__fused_qadd, shr__fused_qmul;
extern const struct shr_op shr__fused_qmaxpool; /* uint8 NHWC; attributes of MaxPool */
/* x, x_scale, x_zero, y_scale, y_zero; attribute flip. table: act (attributes) and a new scale,
 * exactly. mean: of all pixels of uint8 NHWC, within a step. */
extern const struct shr_op shr__fused_qtable, shr__fused_qmean;

/* x, x_scale, x_zero (of DynamicQuantizeLinear), w, w_scale, w_zero, bias (float32): exactly
 * Cast(MatMulInteger) * (x_scale * w_scale) + bias. Attribute: relu. */
enum {
    SHR__D_X,
    SHR__D_X_SCALE,
    SHR__D_X_ZERO,
    SHR__D_W,
    SHR__D_W_SCALE,
    SHR__D_W_ZERO,
    SHR__D_BIAS,
    SHR__D_SLOTS
};
extern const struct shr_op shr__fused_dynamic;

/* (N, groups * n, …) as (N, n * groups, …): channels of the groups in turn; attributes: groups,
 * nhwc */
extern const struct shr_op shr__fused_shuffle;
extern const struct shr_op shr__fused_flip;      /* q ^ 0x80 */
extern const struct shr_op shr__fused_to_nhwc;   /* uint8 or float32 */
extern const struct shr_op shr__fused_from_nhwc; /* uint8 or float32 */
/* x, scale, zero (as the graph has it, attribute flip); attribute nhwc: the uint8 side is NHWC */
extern const struct shr_op shr__fused_quantize;   /* float32 to uint8 */
extern const struct shr_op shr__fused_dequantize; /* uint8 to float32 */
extern const struct shr_op shr__fused_view;       /* output = input under another shape; no step */
extern const struct shr_op shr__fused_copy; /* the same, where the output has bytes of its own */

/* ── Parts of fuse_*.c ──────────────────────────────────────────────────────────────────────── */

int shr__fuse_qoperator(struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK;
int shr__fuse_qdq(struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK;
int shr__fuse_dynamic(struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK;
int shr__fuse_float(struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK;
int shr__fuse_acts(struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK;  /* fuse_act.c */
int shr__fuse_norms(struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK; /* fuse_norm.c */
int shr__fuse_shuffles(struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK;
int shr__fuse_softmax(struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK;
int shr__fuse_layout(struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK; /* layout.c */

/* Editing (fuse.c). A node of a row in front of `before`, writing to out. */
int shr__fuse_add(struct shr_graph *g, struct shr_node *before, const struct shr_op *row,
                  struct shr_value *const *in, size_t n_in, struct shr_value *out,
                  struct shr_node **ret, struct shr_err *err) SHR_MUSTCHECK;

/* A node that was taken out: where it stood and what it was like. */
struct shr__cut {
    struct shr_node *before; /* what stood behind it; NULL = it was the last */
    struct shr_attr *attrs;
    const char *name;
};
struct shr__cut shr__fuse_cut(struct shr_graph *g, struct shr_node *node);
/* A node in its place, with its attributes and name. */
int shr__fuse_put(struct shr_graph *g, const struct shr__cut *cut, const struct shr_op *row,
                  struct shr_value *const *in, size_t n_in, struct shr_value *out,
                  struct shr_node **ret, struct shr_err *err) SHR_MUSTCHECK;
/* A new value of the type. */
int shr__fuse_value(struct shr_graph *g, const char *stem, const struct shr_type *type,
                    struct shr_value **ret, struct shr_err *err) SHR_MUSTCHECK;

/* Activations (fuse_act.c). The one that a node computes of its first input; false: none. */
struct shr__act {
    enum shr_act kind;
    float lo, hi; /* as the kind says */
};
bool shr__fuse_read_act(const struct shr_node *node, struct shr__act *ret);
/* Of and to the attributes of a fused node. */
struct shr__act shr__fuse_act_of(const struct shr_node *node);
int shr__fuse_set_act(struct shr_graph *g, struct shr_node *node, struct shr__act act,
                      struct shr_err *err) SHR_MUSTCHECK;

/* Where axis d of an NCHW value of the rank lies in NHWC (layout.c). */
int shr__nhwc_axis(int rank, int d);

/* Questions about values and nodes. */
bool shr__fuse_is(const struct shr_node *node, const struct shr_op *row);
/* The consumer of a node's only output when it has but that one and is of the type; else NULL. */
struct shr_node *shr__fuse_next(const struct shr_node *node, const char *op_type);
/* Does it copy elements without looking at them, one input to one output? */
bool shr__fuse_only_moves(const struct shr_node *node);
bool shr__fuse_is_f32(const struct shr_value *v);
/* A constant float32 vector of n elements: shape [n], [1, n], … */
bool shr__fuse_is_row(const struct shr_value *v, int64_t n);

#endif
