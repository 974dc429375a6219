/* What the float convolutions of the vector libraries share. */
#ifndef SHR_KERNELS_F32_CONV_H
#define SHR_KERNELS_F32_CONV_H

#include "kernels/f32_tile.h"

/* The special ones. NULL = out of memory; the caller has made sure that the shape fits. */
struct shr_conv_f32 *VF_NAME(depthwise_new)(const struct shr_conv_f32_spec *spec,
                                            size_t *ret_scratch);
struct shr_conv_f32 *VF_NAME(winograd_new)(const struct shr_conv_f32_spec *spec, int tile,
                                           size_t *ret_scratch);

/* The output tile by which Winograd's algorithm is the fastest, 2 or 4, or 0 if it is not. */
int VF_NAME(winograd_tile)(const struct shr_conv_f32_spec *spec);

/* oc zeros, up to whole vectors, for a bias; NULL = out of memory */
float *VF_NAME(bias_new)(const struct shr_conv_f32_spec *spec);
void VF_NAME(bias_load)(size_t oc, const float *bias, float *to); /* bias NULL = zeros */

SHR_INLINE size_t f32_round(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

SHR_INLINE struct f32_act f32_act_of(const struct shr_conv_f32_spec *spec)
{
    return (struct f32_act){spec->act, spec->act_lo, spec->act_hi};
}

#endif
