/* The checks of every kernel table against the reference, and their timing (--bench).
 *
 * Inputs are allocated to the byte, so that the sanitizers see a read beyond them; outputs stand
 * between guard bytes. */
#ifndef CHECKKERNELS_H
#define CHECKKERNELS_H

#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

enum fill {
    FILL_RANDOM, /* all values */
    FILL_WORST,  /* those that make sums overflow: 255, and -128 or 127 */
    FILL_EDGE,   /* 255, and pairs of weights around the largest whose products fit into int16 */
    FILL_SMALL,  /* weights of which four products of 255 and one sign just fit */
    FILL_BELL,   /* weights as training leaves them: the largest are some times the usual ones */
    FILL_COUNT
};

struct table {
    const struct shr_kernels *k, *ref;
    char name[64];
};

/* Tables of kernels for machines that are not here, made of AVX2; ends with NULL. */
struct emulated {
    const struct shr_kernels *k;
    const char *name;
};
extern const struct emulated emulated[];

uint32_t rnd(void);                          /* a fixed sequence */
uint32_t rnd_below(uint32_t n);              /* n > 0 */
void *need(size_t n);                        /* memory or abort */
uint8_t *bytes_u8(size_t n, enum fill f);    /* to be freed */
int8_t *bytes_s8(size_t n, enum fill f);     /* likewise */
float *floats(size_t n, float lo, float hi); /* likewise */
int32_t *ints(size_t n, int32_t lo, int32_t hi);

/* An output of n bytes between guards. */
struct out {
    uint8_t *base, *p;
    size_t n;
};
struct out out_new(size_t n);
bool out_same(const struct out *a, const struct out *b); /* contents equal, guards whole */
bool out_whole(const struct out *a);                     /* guards whole */
void out_free(struct out *a);

/* Says what went wrong, once a check, and returns false. */
bool wrong(const char *format, ...) SHR_PRINTF(1, 2);

/* The i-th shape: such as networks have, in small, then random ones of every kind. */
struct shr_conv_shape check_shape(unsigned i);
bool wrong_shape(const struct shr_conv_shape *s, const char *what); /* as wrong */

extern const size_t sizes[]; /* odd ones, ends with 0 */

bool check_gemm_f32(const struct table *t);
bool check_gemm_f32_team(const struct table *t);
bool check_sparse_f32(const struct table *t);
bool check_gemm_i8(const struct table *t);
bool check_conv_f32(const struct table *t);
bool check_winograd(const struct table *t);
bool check_conv_i8(const struct table *t);
bool check_i8_team(const struct table *t);
bool check_maxpool_u8(const struct table *t);
bool check_add_u8(const struct table *t);
bool check_mul_u8(const struct table *t);
bool check_mean_u8(const struct table *t);
bool check_lut_u8(const struct table *t);
bool check_flip_u8(const struct table *t);
bool check_transpose(const struct table *t);
bool check_quantize(const struct table *t);
bool check_dequantize(const struct table *t);
bool check_nhwc(const struct table *t);
bool check_minmax_f32(const struct table *t);
bool check_elementwise_f32(const struct table *t);
bool check_sigmoid_f32(const struct table *t);
bool check_tanh_f32(const struct table *t);
bool check_curves(const struct table *t);
bool check_curve_ends(const struct table *t);
bool check_softmax_f32(const struct table *t);
bool check_layernorm_f32(const struct table *t);
bool check_layernorm_grad_f32(const struct table *t);
bool check_scale_f32(const struct table *t);
bool check_pool_f32(const struct table *t);
bool check_pool_grad_f32(const struct table *t);
bool check_maxpool_nan(const struct table *t);

void bench(const struct table *t);

#endif
