/* How values lie in memory inside of a plan.
 *
 * Fused nodes are made in the graph's own form: int8 is int8, images are NCHW. One pass afterwards
 * (layout.c) lets operators work on what suits them: 8-bit integers as uint8 (int8 travels as
 * q ^ 0x80, its zero point + 128) and images as NHWC. What a node wants is a rule, found by its row
 * or operator (layout_rules.c). Flip, ToNhwc and FromNhwc stand where neighbours disagree. */
#ifndef SHR_EXEC_LAYOUT_H
#define SHR_EXEC_LAYOUT_H

#include "exec/fuse.h"

enum shr__wish {
    SHR__NEVER,   /* as the graph has it */
    SHR__FOLLOWS, /* as the operands already lie, where they do */
    SHR__ALWAYS
};

struct shr__layout_rule {
    const struct shr_op *row; /* of a fused node; or */
    const char *name;         /* an operator of ONNX */
    enum shr__wish image;     /* NHWC */
    enum shr__wish bytes;     /* int8 as uint8 */
    unsigned slots;           /* bit i: operand i takes part; others stay as they are */
    bool keeps_out;           /* the outputs stay as the graph has them */
    bool (*fits)(const struct shr_node *node); /* can it work on another form? NULL = yes */
    /* Changes the node for the other form, to NHWC when `image`, before its operands change; NULL =
     * it stays as it is. */
    int (*adapt)(struct shr_graph *g, struct shr_node *node, bool image, struct shr_err *err);
};

/* NULL: the node works on what the graph says. */
const struct shr__layout_rule *shr__layout_rule(const struct shr_node *node);

/* Does the value lie as uint8 or NHWC, so that this form of it costs nothing? */
bool shr__lies_as_bytes(const struct shr_value *v);
bool shr__lies_as_image(const struct shr_value *v);

/* A QuantizeLinear or DequantizeLinear with one scale for the tensor, between float32 and bytes. */
bool shr__layout_scale_is_plain(const struct shr_node *node);

/* The node becomes one of the row; attributes and edges stay. */
void shr__layout_become(struct shr_node *node, const struct shr_op *row);

#endif
