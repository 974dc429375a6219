/* The weights and biases of statically quantized nodes. Thread: one. */
#ifndef SHR_PASSES_STATIC_WEIGHTS_H
#define SHR_PASSES_STATIC_WEIGHTS_H

#include "passes/calibrate.h"
#include "passes/qdq.h"

struct shr_tied; /* weights that were quantized, for others that share them */

struct shr_static_weights {
    struct shr_qdq *qdq;
    struct shr_report *report;
    const struct shr_ctx *ctx; /* polled while weights are quantized, or NULL */
    bool per_channel, bias_correction;
    bool certify;      /* no pair of products may saturate 16 bits */
    double bias_limit; /* what a bias may be in units of the sum, at most INT32_MAX */
    struct shr_quant_grid grid;
    SHR_VEC(struct shr_tied) done;
};

/* Puts DQ before the constant weights and bias of Conv, Gemm or MatMul whose input has this scale.
 * seen: what calibration saw of the input, for bias correction. */
int shr_static_weights_convert(struct shr_static_weights *s, struct shr_node *node, float x_scale,
                               const struct shr_observer *seen, struct shr_err *err) SHR_MUSTCHECK;
void shr_static_weights_finish(struct shr_static_weights *s);

#endif
