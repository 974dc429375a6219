/* MatMul and Gemm with a constant float32 matrix, as the quantizing passes see them:
 * y = x W + b with W (K, N). What Gemm can say beside that (transposed inputs, alpha, beta) is
 * brought into this form. Thread: one. */
#ifndef SHR_PASSES_LINEAR_H
#define SHR_PASSES_LINEAR_H

#include "passes/edit.h"

/* NULL = the node (a MatMul or Gemm) has this form, else why not. */
const char *shr_linear_obstacle(const struct shr_node *node);

/* x; a Transpose is put before the node where it reads x transposed. */
int shr_linear_input(struct shr_graph *g, struct shr_node *node, struct shr_value **ret,
                     struct shr_err *err) SHR_MUSTCHECK;

/* b, or NULL; a new constant where Gemm multiplies it by beta. */
int shr_linear_bias(struct shr_graph *g, const struct shr_node *node, struct shr_value **ret,
                    struct shr_err *err) SHR_MUSTCHECK;

/* A new matrix: w, or w transposed, times alpha. */
int shr_matrix_copy(const struct shr_tensor *w, bool transpose, float alpha, struct shr_tensor *ret,
                    struct shr_err *err) SHR_MUSTCHECK;

#endif
