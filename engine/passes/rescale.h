/* Scaling the channels that a weighted node reads or writes, for passes that move a factor from
 * one node to another: Conv of any groups, Gemm and MatMul with a constant matrix. Thread: one. */
#ifndef SHR_PASSES_RESCALE_H
#define SHR_PASSES_RESCALE_H

#include "passes/edit.h"

enum shr_side { SHR_SIDE_IN, SHR_SIDE_OUT };

/* NULL = the node's channels can be scaled, else why not (static text). Its weights must be its
 * own, constant and finite float32, its bias a constant vector. */
const char *shr_rescale_obstacle(const struct shr_node *node);

/* How many channels there are on a side. */
int64_t shr_rescale_channels(const struct shr_node *node, enum shr_side side);

/* Raises most[c] to the largest |weight| of each channel. */
void shr_rescale_ranges(const struct shr_node *node, enum shr_side side, double *most);

/* Multiplies the weights of each channel by a factor; on the side of outputs the bias, too. */
int shr_rescale(struct shr_graph *g, struct shr_node *node, enum shr_side side,
                const double *factor, struct shr_err *err) SHR_MUSTCHECK;

#endif
