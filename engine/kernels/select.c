/* The kernel tables, and which of them a machine gets.
 *
 * A table is complete and constant: reading one shows at once which entries an instruction set
 * replaces. A new instruction set is a static_library of its own with its entries, a table here,
 * and a place in the list, strongest first. Thread: any. */
#include "kernels/internal.h"

/* The entries of SHR__F32_ENTRIES */
#define F32_ENTRIES(isa)                                                                           \
    .gemm_f32_size = shr__gemm_f32_size_##isa, .gemm_f32_pack = shr__gemm_f32_pack_##isa,          \
    .gemm_f32 = shr__gemm_f32_##isa, .gemm_f32_team = shr__gemm_f32_team_##isa,                    \
    .conv_nhwc_new = shr__conv_nhwc_new_##isa, .sigmoid_f32 = shr__sigmoid_f32_##isa,              \
    .tanh_f32 = shr__tanh_f32_##isa, .exp_f32 = shr__exp_f32_##isa, .erf_f32 = shr__erf_f32_##isa, \
    .act_f32 = shr__act_f32_##isa, .softmax_f32 = shr__softmax_f32_##isa,                          \
    .layernorm_f32 = shr__layernorm_f32_##isa, .scale_f32 = shr__scale_f32_##isa,                  \
    .maxpool_f32 = shr__maxpool_f32_##isa, .avgpool_f32 = shr__avgpool_f32_##isa,

static const struct shr_kernels ref_table = {
    .cpu = 0,
    F32_ENTRIES(ref).gemm_i8_size = shr__gemm_i8_size_ref,
    .gemm_i8_pack = shr__gemm_i8_pack_ref,
    .gemm_i8 = shr__gemm_i8_ref,
    .conv_f32_new = shr__conv_f32_new_ref,
    .conv_f32_run = shr__conv_f32_run,
    .conv_f32_free = shr__conv_f32_free,
    .conv_nhwc_run = shr__conv_nhwc_run,
    .conv_nhwc_free = shr__conv_f32_free,
    .conv_i8_new = shr__conv_i8_new_ref,
    .conv_i8_run = shr__conv_i8_run_ref,
    .conv_i8_free = shr__conv_i8_free_ref,
    .maxpool_u8 = shr__maxpool_u8_ref,
    .add_u8 = shr__add_u8_ref,
    .mul_u8 = shr__mul_u8_ref,
    .mean_u8 = shr__mean_u8_ref,
    .lut_u8 = shr__lut_u8_ref,
    .flip_u8 = shr__flip_u8_ref,
    .transpose_u8 = shr__transpose_u8_ref,
    .transpose_f32 = shr__transpose_f32_ref,
    .quantize_u8 = shr__quantize_u8_ref,
    .quantize_s8 = shr__quantize_s8_ref,
    .dequantize_u8 = shr__dequantize_u8_ref,
    .dequantize_s8 = shr__dequantize_s8_ref,
    .quantize_u8_nhwc = shr__quantize_u8_nhwc_ref,
    .dequantize_u8_nchw = shr__dequantize_u8_nchw_ref,
    .minmax_f32 = shr__minmax_f32_ref,
    .relu_f32 = shr__relu_f32_ref,
    .add_f32 = shr__add_f32_ref,
    .mul_f32 = shr__mul_f32_ref,
};

#ifdef SHR_KERNELS_X86
static const struct shr_kernels avx2_table = {
    .cpu = SHR_CPU_AVX2,
    F32_ENTRIES(avx2).gemm_i8_size = shr__gemm_i8_size_avx2,
    .gemm_i8_pack = shr__gemm_i8_pack_avx2,
    .gemm_i8 = shr__gemm_i8_avx2,
    .conv_f32_new = shr__conv_f32_new_onednn,
    .conv_f32_run = shr__conv_f32_run,
    .conv_f32_free = shr__conv_f32_free,
    .conv_nhwc_run = shr__conv_nhwc_run,
    .conv_nhwc_free = shr__conv_f32_free,
    .conv_i8_new = shr__conv_i8_new_avx2,
    .conv_i8_run = shr__conv_i8_run_avx2,
    .conv_i8_free = shr__conv_i8_free_avx2,
    .maxpool_u8 = shr__maxpool_u8_avx2,
    .add_u8 = shr__add_u8_avx2,
    .mul_u8 = shr__mul_u8_avx2,
    .mean_u8 = shr__mean_u8_avx2,
    .lut_u8 = shr__lut_u8_avx2,
    .flip_u8 = shr__flip_u8_avx2,
    .transpose_u8 = shr__transpose_u8_avx2,
    .transpose_f32 = shr__transpose_f32_avx2,
    .quantize_u8 = shr__quantize_u8_avx2,
    .quantize_s8 = shr__quantize_s8_avx2,
    .dequantize_u8 = shr__dequantize_u8_avx2,
    .dequantize_s8 = shr__dequantize_s8_avx2,
    .quantize_u8_nhwc = shr__quantize_u8_nhwc_avx2,
    .dequantize_u8_nchw = shr__dequantize_u8_nchw_avx2,
    .minmax_f32 = shr__minmax_f32_avx2,
    .relu_f32 = shr__relu_f32_avx2,
    .add_f32 = shr__add_f32_avx2,
    .mul_f32 = shr__mul_f32_avx2,
};
#endif

/* Strongest first; the last needs nothing. */
static const struct shr_kernels *const tables[] = {
#ifdef SHR_KERNELS_X86
    &avx2_table,
#endif
    &ref_table,
};

const struct shr_kernels *shr_kernels_get(unsigned cpu_mask)
{
    unsigned allowed = shr_cpu_flags() & ~cpu_mask;
    size_t i = 0;
    while ((tables[i]->cpu & ~allowed) != 0) {
        i++;
    }
    return tables[i];
}
