/* Which tensors of a graph hold prunable weights, as floats or quantized. Thread: one. */
#ifndef SHR_PASSES_PRUNE_TARGETS_H
#define SHR_PASSES_PRUNE_TARGETS_H

#include "base/vec.h"
#include "passes/pass.h"

struct shr_prune_target {
    struct shr_value *value;     /* the initializer */
    const struct shr_node *node; /* the first that uses it */
    int reduce_axis;             /* the axis that a dot product runs over; -1 = none (a bias) */
    /* Of quantized weights; NULL = scale 1, zero 0. One element, or one per index of axis. */
    const struct shr_tensor *scale, *zero;
    int axis;
    bool directions; /* of an LSTM: one for each index of axis 0, or for each of that and axis */
};

struct shr_prune_targets {
    SHR_VEC(struct shr_prune_target) list; /* each tensor once, in the order of first use */
};

/* What is left alone goes into the report with the reason. nodes: as for shr_nodes_excluded. */
int shr_prune_targets_find(struct shr_model *model, const struct shr_arg *nodes, bool biases,
                           struct shr_report *report, struct shr_prune_targets *ret,
                           struct shr_err *err) SHR_MUSTCHECK;
void shr_prune_targets_finish(struct shr_prune_targets *targets);

/* The real number that element i stands for, and the stored number that stands for 0 there. */
double shr_prune_target_real(const struct shr_prune_target *t, int64_t i);
double shr_prune_target_zero(const struct shr_prune_target *t, int64_t i);

#endif
