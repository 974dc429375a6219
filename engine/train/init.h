/* Fresh weights, as PyTorch's layers begin with. Thread: one per call. */
#ifndef SHR_TRAIN_INIT_H
#define SHR_TRAIN_INIT_H

#include "core/rng.h"
#include "graph/graph.h"

/* Uniform in ±1/sqrt(fan_in): Kaiming's uniform with a = sqrt(5), and the biases of a layer. */
void shr_init_uniform(float *x, size_t n, int64_t fan_in, struct shr_rng *rng);

/* Gives all weights and biases of Gemm, MatMul, Conv, LSTM and GRU, and the scales and shifts of
 * normalizations, new values; other initializers stay as they are. ret_n: how many are new. The
 * model's rows are resolved. */
int shr_init_model(struct shr_model *model, uint64_t seed, size_t *ret_n,
                   struct shr_err *err) SHR_MUSTCHECK;

/* Exporters write equal initializers once. Parameters of normalizations get their own, since scales
 * and running means of several layers would be one otherwise. */
int shr_untie_norms(struct shr_model *model, struct shr_err *err) SHR_MUSTCHECK;

#endif
