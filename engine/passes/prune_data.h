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

#endif
