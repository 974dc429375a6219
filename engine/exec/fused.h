/* What the rows of fused steps share. For fused_*.c only. */
#ifndef SHR_EXEC_FUSED_H
#define SHR_EXEC_FUSED_H

#include "base/mem.h"
#include "exec/fuse.h"
#include "ops/window.h"

#define SHR__FUSED_ROW(name_) .domain = "plan", .name = name_, .weight_slot = -1, .bias_slot = -1

/* Zeroed memory of the plan, aligned to SHR_MEM_ALIGN. */
int shr__fused_memory(const struct shr_op_setup *c, size_t n, size_t size, void *ret,
                      struct shr_err *err) SHR_MUSTCHECK;

/* The window of a node whose image lies as NHWC; kernel as in shr_window_init. */
int shr__fused_window(const struct shr_op_setup *c, const int64_t *kernel, struct shr_window *ret,
                      struct shr_err *err) SHR_MUSTCHECK;

/* The weights of a float product of n channels with its scale in them, channel i / inner % n, NULL
 * when there is none (shr_mem_free them), and its bias and shift as one, the plan's or NULL. */
int shr__fused_rescale(const struct shr_op_setup *c, int64_t n, int64_t inner, float **ret_w,
                       const float **ret_bias, struct shr_err *err) SHR_MUSTCHECK;

/* An integer product of n channels, ready for a kernel. Arrays live as long as the plan. */
struct shr__qproduct {
    int32_t x_zero, y_zero;
    const int8_t *w;       /* as int8, laid out as the graph has it */
    const int32_t *w_zero; /* (n) or NULL = 0 */
    const int32_t *bias;   /* (n) or NULL, in units of the accumulator */
    const float *bias_f32; /* (n) or NULL, of a float32 output */
    const float *scale;    /* (n) */
    enum shr_gemm_i8_out out;
    enum shr_act act;     /* NONE, RELU, or of bytes CLIP */
    int32_t y_min, y_max; /* CLIP */
};

int shr__qproduct_init(struct shr__qproduct *ret, const struct shr_op_setup *c, int64_t n,
                       struct shr_err *err) SHR_MUSTCHECK;

/* Constant 8-bit weights of n channels as int8, with their zero points (NULL = all 0): uint8 ones
 * are shifted together with theirs. */
int shr__fused_weight(const struct shr_op_setup *c, size_t slot, size_t zero_slot, int64_t n,
                      const int8_t **ret_w, const int32_t **ret_zero,
                      struct shr_err *err) SHR_MUSTCHECK;

/* A constant zero point that was given or not; flipped: of the value as q ^ 0x80. */
int32_t shr__fused_zero(const struct shr_tensor *zero, bool flipped);
float shr__fused_scale(const struct shr_tensor *scale);
enum shr_act shr__fused_act(const struct shr_node *node); /* of the attribute relu */

#endif
