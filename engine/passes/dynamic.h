/* What the files of quantize_dynamic share. Thread: one. */
#ifndef SHR_PASSES_DYNAMIC_H
#define SHR_PASSES_DYNAMIC_H

#include "base/vec.h"
#include "passes/edit.h"
#include "passes/quant_params.h"

struct shr_dynamic_how { /* of the arguments */
    bool int8;           /* symmetric, else uint8 with a zero point */
    bool per_channel;
    bool reduce, certify;      /* 7 bits for all weights, or only as far as a channel needs it */
    const struct shr_ctx *ctx; /* polled while weights are quantized, or NULL */
};

struct shr_dynamic_input { /* an input and its dynamic quantization */
    const struct shr_value *x;
    struct shr_value *q[3]; /* quantized, scale, zero point */
};

struct shr_dynamic_weight {
    const struct shr_value *w;
    bool transposed;
    float alpha;
    struct shr_value *q, *scale, *zero; /* zero NULL = 0 */
};

struct shr_dynamic {
    struct shr_model *model;
    struct shr_graph *g; /* the model's */
    struct shr_dynamic_how how;
    bool axes; /* DequantizeLinear has an axis: opset 13 */
    struct shr_report *report;
    SHR_VEC(struct shr_dynamic_input) inputs;
    SHR_VEC(struct shr_dynamic_weight) weights;
};

/* Quantizes a float32 weight once, however many nodes read it, and tells the report. A matrix:
 * (K, N) of it when it is transposed, times alpha. Of an LSTM (directions, 4h, K): to
 * (directions, K, 4h), with scales and zero points of (directions, 4h) or (directions). */
int shr_dynamic_matrix(struct shr_dynamic *d, const struct shr_value *w, bool transposed,
                       float alpha, struct shr_dynamic_weight *ret,
                       struct shr_err *err) SHR_MUSTCHECK;
int shr_dynamic_recurrent(struct shr_dynamic *d, const struct shr_value *w,
                          struct shr_dynamic_weight *ret, struct shr_err *err) SHR_MUSTCHECK;

/* Any float32 weight, of which axis 1 has the scales: no arithmetic with its integers is asked. */
int shr_dynamic_stored(struct shr_dynamic *d, const struct shr_value *w,
                       struct shr_dynamic_weight *ret, struct shr_err *err) SHR_MUSTCHECK;
/* Is the weight quantized already, as it is or transposed? */
bool shr_dynamic_find(const struct shr_dynamic *d, const struct shr_value *w,
                      struct shr_dynamic_weight *ret);
/* The first MatMul or Gemm that reads w as its matrix and as it is (alpha 1), or NULL. */
const struct shr_node *shr_dynamic_product_of(const struct shr_value *w);

/* Gather, and GRU or RNN, with weights that are stored as integers. NULL = it can, else why not. */
const char *shr_dynamic_gather_obstacle(const struct shr_node *node);
int shr_dynamic_gather(struct shr_dynamic *d, struct shr_node *node,
                       struct shr_err *err) SHR_MUSTCHECK;
const char *shr_dynamic_gru_obstacle(const struct shr_node *node);
int shr_dynamic_gru(struct shr_dynamic *d, struct shr_node *node,
                    struct shr_err *err) SHR_MUSTCHECK;

/* LSTM becomes com.microsoft's DynamicQuantizeLSTM. NULL = it can, else why not. */
const char *shr_dynamic_lstm_obstacle(const struct shr_node *node);
int shr_dynamic_lstm(struct shr_dynamic *d, struct shr_node *node,
                     struct shr_err *err) SHR_MUSTCHECK;

#endif
