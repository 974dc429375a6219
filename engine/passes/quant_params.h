/* Scales and zero points, by the rules of ONNX Runtime's quantizer, and weights put on them.
 * Thread: any. */
#ifndef SHR_PASSES_QUANT_PARAMS_H
#define SHR_PASSES_QUANT_PARAMS_H

#include "core/tensor.h"

struct shr_quant_grid {   /* the integers that may be used */
    enum shr_dtype dtype; /* U8 or I8 */
    int min, max;
    bool symmetric; /* real 0 is the integer 0 */
    bool pytorch;   /* scales by the rule of PyTorch's observers, in float32 */
};

struct shr_quant_params {
    float scale;
    int32_t zero;
};

/* int8 [-128, 127], symmetric [-127, 127], uint8 [0, 255]; reduced, to 7 bits, [-64, 64] and
 * [0, 127]. uint8 is never symmetric. */
struct shr_quant_grid shr_quant_grid_of(enum shr_dtype dtype, bool symmetric, bool reduced);

/* Those of PyTorch: as above, but symmetric and reduced int8 have no lost integer: [-128, 127] and
 * [-64, 63]. */
struct shr_quant_grid shr_quant_grid_pytorch(enum shr_dtype dtype, bool symmetric, bool reduced);

/* The range is widened to hold 0; scale 1 when it is (almost) empty. Computed in double. */
struct shr_quant_params shr_quant_params_of(const struct shr_quant_grid *grid, double min,
                                            double max);

/* saturate(rint(x / scale) + zero) in float32, as QuantizeLinear does. */
int shr_quantize(const struct shr_quant_grid *grid, struct shr_quant_params params, float x);

struct shr_quant_weight {
    struct shr_tensor q;     /* as the weight's shape; I8 or U8 */
    struct shr_tensor scale; /* f32, () or (channels) */
    struct shr_tensor zero;  /* as q's type and scale's shape */
    double scale_min, scale_max;
    double sqnr_db; /* 10 log10(sum w^2 / sum (w - dequantized)^2); INFINITY when exact */
    int top_min;    /* the least of what |w| max became in a channel: grid.max, or certified less */
    int64_t channels, narrowed; /* those that got less than grid.max; all when they share a scale */
};

/* CPUs without VNNI add the products uint8 x int8 of two neighbours along K in 16 bits, where
 * 2 x 255 x 127 saturates. A channel is certified when none of its pairs can, whatever the input:
 * |w0| + |w1| <= 128 where both have one sign. Its largest weight then gets the greatest integer
 * that allows that: 64 to 127, instead of 64 for all. Needs a symmetric int8 grid. */
enum shr_pair_order {
    SHR_PAIRS_NONE,   /* no certificate: the whole grid */
    SHR_PAIRS_MATRIX, /* K is every axis but the channels'; pairs (0, 1), (2, 3), … */
    SHR_PAIRS_CONV,   /* (M, C, kh, kw), K in the order kh, kw, C; any two neighbours */
};

struct shr_quant_how {
    struct shr_quant_grid grid;
    int axis;         /* the one of the outputs (channels) */
    bool per_channel; /* a scale for each of them, else one for all */
    enum shr_pair_order pairs;
    const double *least_scale; /* (channels) no scale is less, NULL = as small as weights want */
    const struct shr_ctx *ctx; /* polled between channels; NULL = it cannot be cancelled */
};

/* Quantizes f32 weights. name is told in errors: INVALID when a weight is not finite. */
int shr_quantize_weight(const struct shr_tensor *w, const char *name,
                        const struct shr_quant_how *how, struct shr_quant_weight *ret,
                        struct shr_err *err) SHR_MUSTCHECK;
void shr_quant_weight_finish(struct shr_quant_weight *weight);

#endif
