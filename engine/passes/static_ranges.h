/* Ranges of quantized values that are not read from what calibration saw: those the user gives,
 * and those that follow from the graph. Thread: one. */
#ifndef SHR_PASSES_STATIC_RANGES_H
#define SHR_PASSES_STATIC_RANGES_H

#include "passes/static_select.h"

/* Whose rules are followed where they differ. */
enum shr_static_compat { SHR_STATIC_OWN, SHR_STATIC_ORT, SHR_STATIC_PYTORCH };

/* Sets the fixed ranges of chosen values, and shares those of what Concat joins. given: texts
 * NAME=MIN:MAX. INVALID names the text or the tensor when a text is no range, or when the tensor is
 * not one with a range of its own. before: the model as the user knows it, to tell an unknown name
 * from one that is not quantized. */
int shr_static_ranges(struct shr_static *s, const struct shr_graph *g, const struct shr_arg *given,
                      const struct shr_model *before, enum shr_static_compat compat,
                      struct shr_err *err) SHR_MUSTCHECK;

#endif
