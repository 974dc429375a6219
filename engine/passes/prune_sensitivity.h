/* How much a model changes when a group loses a share of its channels, and amounts that follow
 * from it. Thread: one. */
#ifndef SHR_PASSES_PRUNE_SENSITIVITY_H
#define SHR_PASSES_PRUNE_SENSITIVITY_H

#include "passes/pass.h"

enum { SHR_PRUNE_LEVELS = 10 }; /* 0 %, 10 %, … 90 % */

struct shr_prune_size { /* of a model; macs for one sample */
    int64_t parameters, macs, bytes;
};

struct shr_prune_goal { /* 0 = not asked for */
    double size_ratio, macs_ratio, max_accuracy_drop;
};

/* Makes the model with levels[g] tenths of the channels of each group g gone. */
typedef int (*shr_prune_try_fn)(void *user, const unsigned char *levels, struct shr_model **ret,
                                struct shr_err *err);

/* Tells the report what each of n groups costs (names: theirs; NULL = nothing of it can go), and
 * sets levels so that the goal is met, by the cheapest steps first; INVALID when it cannot be. */
int shr_prune_choose(struct shr_pass_call *call, const char *const *names, size_t n,
                     int64_t samples, const struct shr_prune_goal *goal, shr_prune_try_fn attempt,
                     void *user, unsigned char *ret_levels, struct shr_err *err) SHR_MUSTCHECK;

#endif
