/* The geometry that convolutions and pools share: kernel, strides, dilations, pads, auto_pad.
 *
 * For files in ops/ only. Always three spatial axes: those in front that the input does not have
 * are of size 1. Thread: any. */
#ifndef SHR_OPS_WINDOW_H
#define SHR_OPS_WINDOW_H

#include "ops/util.h"

enum { SHR_WINDOW_AXES = 3 };

struct shr_window_axis {
    int64_t in, out; /* -1 = unknown (inference only) */
    int64_t kernel, stride, dilation, pad_lo, pad_hi;
};

struct shr_window {
    int n; /* spatial axes of the input: the last n of axis */
    struct shr_window_axis axis[SHR_WINDOW_AXES];
};

/* From the attributes and the input's type (N, C, spatial…) of known rank. kernel: the dims of the
 * weight behind the first two (-1 = unknown), or NULL to read kernel_shape. */
int shr_window_init(struct shr_window *w, const struct shr_node *node, const struct shr_type *x,
                    const int64_t *kernel, struct shr_err *err) SHR_MUSTCHECK;

/* The same for a transposed convolution with input x: the window of the convolution from its output
 * back to x, so that axis[].in is the output's and axis[].out is x's. */
int shr_window_transposed(struct shr_window *w, const struct shr_node *node,
                          const struct shr_type *x, const int64_t *kernel,
                          struct shr_err *err) SHR_MUSTCHECK;

/* The shape of a convolution's output, not its dtype: x (N, C, spatial…), w (M, C/group, kernel…),
 * bias (M) if it is given. In conv.c. */
int shr_conv_infer(struct shr_infer *c, size_t x_slot, size_t w_slot, size_t bias_slot,
                   struct shr_err *err) SHR_MUSTCHECK;

/* For tensors, whose dims are all known and whose attributes inference has accepted. */
int shr_window_of(struct shr_window *w, const struct shr_node *node, const struct shr_tensor *x,
                  const int64_t *kernel, struct shr_err *err) SHR_MUSTCHECK;

/* The outputs [*ret_from, *ret_to) whose tap k lies inside the input. */
void shr_window_inside(const struct shr_window_axis *a, int64_t k, int64_t *ret_from,
                       int64_t *ret_to);

/* The input index under tap k of output o; in the padding it is negative or >= in. */
static inline int64_t shr_window_at(const struct shr_window_axis *a, int64_t o, int64_t k)
{
    return o * a->stride - a->pad_lo + k * a->dilation;
}

/* The window over 1 or 2 axes as the kernels' convolution of n images takes it. */
struct shr_conv_shape shr_window_conv(const struct shr_window *win, int64_t n, int64_t c,
                                      int64_t oc, int64_t groups);

#endif
