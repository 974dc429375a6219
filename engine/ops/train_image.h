/* What the rows of gradients of images share: operands as NHWC, whichever way they lie.
 *
 * A node of the graph has NCHW operands; the layout pass gives it the attribute nhwc and operands
 * that lie so. The rows compute in NHWC: where operands do not lie so they are turned in scratch.
 * For files in ops/ only. Thread: any. */
#ifndef SHR_OPS_TRAIN_IMAGE_H
#define SHR_OPS_TRAIN_IMAGE_H

#include "ops/grad.h"
#include "ops/window.h"

/* An operand (n, c, spatial…) in either form. */
struct shr_image {
    bool turned;        /* it is NCHW */
    size_t at;          /* of its copy in scratch */
    int64_t n, c, size; /* pixels of an image */
    struct shr_type nchw;
};

/* Reads the form of a tensor, and takes room for a copy at the end of c->scratch. */
int shr_image_init(struct shr_op_setup *c, const struct shr_tensor *t, struct shr_image *ret,
                   struct shr_err *err) SHR_MUSTCHECK;
/* More room in scratch, aligned; LIMIT when it does not fit. */
int shr_image_room(struct shr_op_setup *c, int64_t n, size_t size, size_t *ret_at,
                   struct shr_err *err) SHR_MUSTCHECK;

/* An input as NHWC; where an output as NHWC is to be written; and the output once it is. */
const float *shr_image_in(const struct shr_op_call *c, const struct shr_image *i,
                          const struct shr_tensor *t);
float *shr_image_out(const struct shr_op_call *c, const struct shr_image *i,
                     const struct shr_tensor *t);
void shr_image_done(const struct shr_op_call *c, const struct shr_image *i, struct shr_tensor *t);

/* Sums of the channels of NHWC images, in an order that depends on the shape alone. */
struct shr_image_sums {
    size_t at; /* in scratch */
    int64_t parts;
};
int shr_image_sums_init(struct shr_op_setup *c, const struct shr_image *i,
                        struct shr_image_sums *ret, struct shr_err *err) SHR_MUSTCHECK;
/* sums (c) = of x, of x * y, of (x + center) * y, or without y of (x + center)^2, center (c). */
void shr_image_sums(const struct shr_op_call *c, const struct shr_image *i,
                    const struct shr_image_sums *s, const float *x, const float *y,
                    const float *center, double *sums);

#endif
