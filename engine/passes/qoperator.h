/* QOperator form: a node between DequantizeLinear and QuantizeLinear becomes one integer node.
 * Thread: one. */
#ifndef SHR_PASSES_QOPERATOR_H
#define SHR_PASSES_QOPERATOR_H

#include "passes/pass.h"

/* Rewrites a model in the form of qdq.h. What has no integer node that ONNX Runtime's CPU loads
 * stays between Q and DQ, and the report tells why. */
int shr_qoperator(struct shr_model *model, struct shr_report *report,
                  struct shr_err *err) SHR_MUSTCHECK;

#endif
