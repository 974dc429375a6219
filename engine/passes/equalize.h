/* Making weights easier to quantize without changing what the model does: factors are moved from
 * one node to the next. Both run before quantization, and on nodes that a filter keeps in float,
 * too: they do the same with other weights. Thread: one. */
#ifndef SHR_PASSES_EQUALIZE_H
#define SHR_PASSES_EQUALIZE_H

#include "passes/pass.h"

/* Cross-layer equalization: the channels between two weighted nodes get the same range on both
 * sides. */
int shr_equalize(struct shr_model *model, struct shr_report *report,
                 struct shr_err *err) SHR_MUSTCHECK;

/* SmoothQuant: large channels behind a LayerNormalization become part of the weights of all that
 * read it, by the power alpha of their size in up to `samples` samples. max_memory: for the run, 0
 * = no limit. */
int shr_smooth(struct shr_model *model, const struct shr_pass_call *call, double alpha,
               int64_t samples, size_t max_memory, struct shr_err *err) SHR_MUSTCHECK;

#endif
