/* Raising the opset of a model: a form of quantization may need a newer one than the model has.
 *
 * Between ai.onnx 7 and 13 some operators changed their meaning or moved attributes into inputs;
 * each such change is a row of the table in raise_opset.c (onnx/docs/Changelog.md). Thread: one. */
#ifndef SHR_PASSES_RAISE_OPSET_H
#define SHR_PASSES_RAISE_OPSET_H

#include "passes/edit.h"

enum { SHR_RAISED_OPSET = 13 };

/* Brings a model below ai.onnx 13 there, in place; one that is there already stays as it is. The
 * nodes' rows and the values' types are those of the new opset afterwards. UNSUPPORTED, and the
 * model as it was, when a node has no form there that means the same: the message names it. */
int shr_raise_opset(struct shr_model *model, struct shr_report *report,
                    struct shr_err *err) SHR_MUSTCHECK;

#endif
