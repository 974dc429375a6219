/* Weights as integers of 4 or 8 bits with a scale and a zero point for every block of a row, in the
 * form of com.microsoft's MatMulNBits and GatherBlockQuantized: w = (q - zero) * scale, two
 * integers of 4 bits a byte, the first in the low bits. Thread: any. */
#ifndef SHR_PASSES_BLOCK_QUANT_H
#define SHR_PASSES_BLOCK_QUANT_H

#include "core/tensor.h"
#include "shrink.h"

struct shr_block_how {
    int bits;       /* 4 or 8 */
    int64_t block;  /* elements; a power of 2, at least 16 */
    bool symmetric; /* the zero point is 2^(bits - 1) for all, and not stored */
    bool search;    /* for the scale with the least squared error, else that of the range */
};

struct shr_block_weight {
    struct shr_tensor q; /* uint8 (rows, blocks, block * bits / 8); a short block ends in zeros */
    struct shr_tensor scale; /* float32 (rows, blocks) */
    struct shr_tensor zero;  /* uint8 (rows, bytes of blocks * bits); no data when symmetric */
    double sqnr_db;          /* 10 log10(sum w^2 / sum (w - dequantized)^2); INFINITY when exact */
};

/* Of float32 (rows, K), all finite. ctx is asked now and then whether to go on. */
int shr_block_quantize(const struct shr_tensor *w, const struct shr_block_how *how,
                       const struct shr_ctx *ctx, struct shr_block_weight *ret,
                       struct shr_err *err) SHR_MUSTCHECK;
void shr_block_weight_finish(struct shr_block_weight *weight);

#endif
