/* What calibration data says about channels: how large they are, and how far those that go can be
 * told from those that stay. Thread: one. */
#ifndef SHR_PASSES_PRUNE_DATA_H
#define SHR_PASSES_PRUNE_DATA_H

#include "passes/channels.h"

/* Adds to keys, by unit, the mean square of each unit where layers read it. */
int shr_prune_measure(struct shr_channels *c, struct shr_model *model, struct shr_pass_call *call,
                      int64_t samples, double *keys, struct shr_err *err) SHR_MUSTCHECK;

/* Before the cut: each layer that reads units that go (gone, by unit) reads instead, from those
 * that stay, what a ridge regression over the data makes of them. Weights and biases change. */
int shr_prune_refit(struct shr_channels *c, struct shr_model *model, struct shr_pass_call *call,
                    int64_t samples, const unsigned char *gone, struct shr_err *err) SHR_MUSTCHECK;

/* Where a constant can be added to what a layer makes, n numbers: its bias, that of an Add behind
 * it, or the mean that a normalization takes away (sign -1). */
struct shr_prune_bias {
    struct shr_node *node; /* NULL = nowhere */
    size_t slot;
    float sign;
};
struct shr_prune_bias shr_prune_bias_of(struct shr_node *node, int64_t n);

/* Of a use that reads, in Conv, Gemm or MatMul: the value with its channels along one axis, before
 * it was flattened into so many places a channel; else NULL. */
const struct shr_value *shr_prune_read(const struct shr_channels *c,
                                       const struct shr_channel_use *use, int *ret_axis,
                                       int64_t *ret_places);

#endif
