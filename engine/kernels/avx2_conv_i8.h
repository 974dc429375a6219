/* A prepared AVX2 convolution: shared by the dense and the depthwise file, by nothing else. */
#ifndef SHR_KERNELS_AVX2_CONV_I8_H
#define SHR_KERNELS_AVX2_CONV_I8_H

#include "kernels/avx2_i8.h"

struct shr_conv_i8 {
    struct shr_conv_shape s;
    struct shr_gemm_i8 g; /* the output of a group, or of all channels when depthwise */
    int32_t *bias;        /* (oc) or NULL */
    float *scale, *bias_f32;
    bool depthwise, in_place; /* in_place: there is no copy, x is read as it lies */
    int64_t hp, wp, cp;       /* of the padded copy (hp, wp, cp) */
    size_t n_runs, run;       /* of a pixel, and the values of one */
    uint32_t *runs;           /* (n_runs) where they begin */
    size_t packed_size;       /* of one group */
    unsigned char *packed;    /* groups * packed_size */
    /* depthwise */
    int16_t *dw;      /* (cp / 16, tap pairs, 2, 8 channels x 2 taps) */
    size_t tap_pairs; /* and where the two taps of each are, from a pixel's first value: */
    int64_t *tap_at;
};

/* Channels of a vector, whole numbers of which a padded copy has. */
enum { DW_CHANNELS = 16 };

/* False = out of memory. */
bool shr__depthwise_pack_avx2(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec);
/* Image x (h, w, c) by way of padded, int16 (hp, wp, cp); first is the element of its first result
 * in g->c. */
void shr__depthwise_run_avx2(const struct shr_conv_i8 *conv, struct shr_gemm_i8 *g,
                             const uint8_t *x, int16_t *padded, size_t first,
                             struct shr_team *team);

#endif
