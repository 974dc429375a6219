/* Writing QuantizeLinear and DequantizeLinear around values and before weights, in the form of
 * opset 13. Scales and zero points of equal content are one initializer; int32 biases have no zero
 * point, which means 0. Thread: one. */
#ifndef SHR_PASSES_QDQ_H
#define SHR_PASSES_QDQ_H

#include "base/vec.h"
#include "passes/pass.h"
#include "passes/quant_params.h"

enum { SHR_QDQ_OPSET = 10 }; /* has QuantizeLinear; 13 has it per axis */

struct shr_qdq {
    struct shr_graph *g;
    SHR_VEC(struct shr_value *) shared; /* constants written so far */
};

void shr_qdq_finish(struct shr_qdq *q);

/* All that reads v (but the model's outputs) reads it through a pair of Q and DQ. */
int shr_qdq_activation(struct shr_qdq *q, struct shr_value *v, enum shr_dtype dtype,
                       struct shr_quant_params params, struct shr_err *err) SHR_MUSTCHECK;

/* An input of a node is read from integers through DQ; axis -1 = one scale. The name of the
 * integers begins with stem. ret_value, the output of the DQ, may be NULL. */
int shr_qdq_constant(struct shr_qdq *q, struct shr_node *node, size_t slot, const char *stem,
                     struct shr_tensor take_q, struct shr_tensor take_scale, int axis,
                     struct shr_value **ret_value, struct shr_err *err) SHR_MUSTCHECK;

#endif
