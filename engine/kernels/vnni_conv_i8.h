/* A prepared VNNI convolution: shared by the dense and the depthwise file, by nothing else. */
#ifndef SHR_KERNELS_VNNI_CONV_I8_H
#define SHR_KERNELS_VNNI_CONV_I8_H

#include "kernels/vnni_i8.h"

struct shr_conv_i8 {
    struct shr_conv_shape s;
    struct shr_gemm_i8 g; /* the output of a group, or of all channels when depthwise */
    uint32_t *columns;    /* holds the next three, (oc) each or NULL */
    const int32_t *bias;
    const float *scale, *bias_f32;
    bool depthwise, in_place; /* in_place: x is read where it lies */
    int64_t hp, wp, cp;       /* of what is read, (hp, wp, cp): the padded copy or x */
    size_t *at;               /* segments, or the taps of depthwise steps: offsets from a pixel */
    size_t segments;
    size_t run, quads;     /* values of a segment that count, and its quads */
    unsigned char *packed; /* groups * packed_size */
    size_t packed_size;    /* of one group */
    /* depthwise */
    size_t shifts, steps; /* pixels at once, and quads of taps that they take */
    bool has_zero;        /* then weights are followed by ones of the same shape */
    int8_t *weights;      /* (cp / VECTOR, steps, shifts, 4, LANES, 4 taps) */
};

/* False = out of memory. */
bool VNNI(depthwise_pack)(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec);
/* A row of output pixels; first is the element of the image's first result. */
void VNNI(depthwise_row)(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g,
                         const uint8_t *x, size_t first, size_t oh);

#endif
