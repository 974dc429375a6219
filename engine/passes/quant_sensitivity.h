/* What quantizing each layer costs, and which layers stay in float so that little is lost.
 * Thread: one. */
#ifndef SHR_PASSES_QUANT_SENSITIVITY_H
#define SHR_PASSES_QUANT_SENSITIVITY_H

#include "passes/pass.h"

struct shr_quant_goal {
    int64_t samples;          /* that a choice of layers is judged on */
    int64_t samples_alone;    /* of them, that a layer alone is judged on */
    double max_accuracy_drop; /* 0 = not asked for */
    bool sensitivity;         /* tell of each layer, also when no choice needs it */
};

/* Makes the model in which the layers of in_float [n] stay in float and all others are quantized.
 */
typedef int (*shr_quant_try_fn)(void *user, const bool *in_float, struct shr_model **ret,
                                struct shr_err *err);

/* Judges against call->model, on call->calibrate, and tells call->report what each of n layers
 * (names: theirs) costs alone and what every choice that was tried gives. in_float becomes the
 * choice: the fewest layers found that meet the goal, or the choice that loses least. */
int shr_quant_choose(const struct shr_pass_call *call, const char *const *names, size_t n,
                     const struct shr_quant_goal *goal, shr_quant_try_fn attempt, void *user,
                     bool *in_float, struct shr_err *err) SHR_MUSTCHECK;

#endif
