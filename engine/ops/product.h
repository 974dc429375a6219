/* The shapes of numpy's matmul, (…, m, k) x (…, k, n), where rank 1 is a row or a column: shared by
 * the float and the integer products.
 *
 * For files in ops/ only. Thread: any. */
#ifndef SHR_OPS_PRODUCT_H
#define SHR_OPS_PRODUCT_H

#include "ops/util.h"

struct shr_product {
    size_t m, n, k;
    int64_t b_matrices;
    struct shr_walk batches; /* operands A and B, counted in matrices */
};

/* Sets the shape of y, not its dtype; INVALID when a and b do not fit. */
int shr_product_infer(const struct shr_node *node, const struct shr_type *a,
                      const struct shr_type *b, struct shr_type *y,
                      struct shr_err *err) SHR_MUSTCHECK;

/* For tensors that inference has accepted. One B for all of A is one product over all rows. */
void shr_product_init(struct shr_product *s, const struct shr_tensor *a,
                      const struct shr_tensor *b);

#endif
