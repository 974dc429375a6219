/* Quantization as fusing reads it: which nodes quantize and dequantize, and with what. For fuse_*.c
 * only. */
#ifndef SHR_EXEC_FUSE_QUANT_H
#define SHR_EXEC_FUSE_QUANT_H

#include "exec/fuse.h"

struct shr__quant {                     /* what a QuantizeLinear or DequantizeLinear reads */
    struct shr_value *q, *scale, *zero; /* zero NULL = 0 */
    int64_t axis, n;                    /* n scales along axis; 1 = for the tensor */
};

bool shr__quant_is_byte(const struct shr_value *v); /* uint8 or int8; v may be NULL: false */
/* Made by a DequantizeLinear to float32 with constant scales. */
bool shr__quant_is_dequantized(const struct shr_value *v, struct shr__quant *ret);
/* A dequantized 8-bit activation with one scale. */
bool shr__quant_is_activation(const struct shr_value *v, struct shr__quant *ret);
/* A QuantizeLinear of float32 to 8 bits with one scale; ret->q is what it quantizes. */
bool shr__quant_is_quantizer(const struct shr_node *node, struct shr__quant *ret);
/* The quantizer that alone reads the node's output, to bytes of the type; else NULL. */
struct shr_node *shr__quant_next(const struct shr_node *node, enum shr_dtype dtype,
                                 struct shr__quant *ret);

double shr__quant_scalar(const struct shr_value *v); /* of a constant of one element; NULL = 0 */
bool shr__quant_same(const struct shr__quant *a, const struct shr__quant *b); /* one scale each */
/* Does act leave every value that the quantization can tell from others as it is? */
bool shr__quant_implies(const struct shr__quant *q, enum shr_dtype dtype,
                        const struct shr__act *act);

/* fuse_qmap.c: groups of elementwise operators, Concat and pools. */
int shr__fuse_qmap(struct shr_graph *g, struct shr_node **at, struct shr_err *err) SHR_MUSTCHECK;

#endif
