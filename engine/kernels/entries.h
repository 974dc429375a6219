/* The entries of a table by groups, as initialisers: for select.c, and for the tables that tests
 * make of kernels that no machine gets. */
#ifndef SHR_KERNELS_ENTRIES_H
#define SHR_KERNELS_ENTRIES_H

#include "kernels/internal.h"

/* The entries of SHR__F32_ENTRIES */
#define F32_ENTRIES(isa)                                                                           \
    .gemm_f32_size = shr__gemm_f32_size_##isa, .gemm_f32_pack = shr__gemm_f32_pack_##isa,          \
    .gemm_f32 = shr__gemm_f32_##isa, .gemm_f32_team = shr__gemm_f32_team_##isa,                    \
    .sparse_f32_size = shr__sparse_f32_size_##isa, .sparse_f32_pack = shr__sparse_f32_pack_##isa,  \
    .sparse_f32 = shr__sparse_f32_##isa, .conv_f32_new = shr__conv_f32_new_##isa,                  \
    .sigmoid_f32 = shr__sigmoid_f32_##isa, .tanh_f32 = shr__tanh_f32_##isa,                        \
    .exp_f32 = shr__exp_f32_##isa, .erf_f32 = shr__erf_f32_##isa, .act_f32 = shr__act_f32_##isa,   \
    .softmax_f32 = shr__softmax_f32_##isa, .layernorm_f32 = shr__layernorm_f32_##isa,              \
    .layernorm_grad_f32 = shr__layernorm_grad_f32_##isa,                                           \
    .lstm_cell_f32 = shr__lstm_cell_f32_##isa,                                                     \
    .lstm_cell_grad_f32 = shr__lstm_cell_grad_f32_##isa, .gru_cell_f32 = shr__gru_cell_f32_##isa,  \
    .gru_cell_grad_f32 = shr__gru_cell_grad_f32_##isa, .scale_f32 = shr__scale_f32_##isa,          \
    .maxpool_f32 = shr__maxpool_f32_##isa, .avgpool_f32 = shr__avgpool_f32_##isa,                  \
    .maxpool_grad_f32 = shr__maxpool_grad_f32_##isa,                                               \
    .avgpool_grad_f32 = shr__avgpool_grad_f32_##isa, .conv_f32_load = shr__conv_f32_load,          \
    .conv_f32_run = shr__conv_f32_run, .conv_f32_free = shr__conv_f32_free,                        \
    .conv_f32_form = shr__conv_f32_form,

/* The entries of SHR__I8_ENTRIES */
#define I8_ENTRIES(isa)                                                                            \
    .gemm_i8_size = shr__gemm_i8_size_##isa, .gemm_i8_pack = shr__gemm_i8_pack_##isa,              \
    .gemm_i8 = shr__gemm_i8_##isa, .conv_i8_new = shr__conv_i8_new_##isa,                          \
    .conv_i8_run = shr__conv_i8_run_##isa, .conv_i8_free = shr__conv_i8_free_##isa,                \
    .gemm_i8_form = shr__gemm_i8_form_##isa, .conv_i8_form = shr__conv_i8_form_##isa,

/* What moves or changes elements, one by one */
#define LOOP_ENTRIES(isa)                                                                          \
    .maxpool_u8 = shr__maxpool_u8_##isa, .add_u8 = shr__add_u8_##isa, .mul_u8 = shr__mul_u8_##isa, \
    .mean_u8 = shr__mean_u8_##isa, .lut_u8 = shr__lut_u8_##isa, .flip_u8 = shr__flip_u8_##isa,     \
    .transpose_u8 = shr__transpose_u8_##isa, .transpose_f32 = shr__transpose_f32_##isa,            \
    .quantize_u8 = shr__quantize_u8_##isa, .quantize_s8 = shr__quantize_s8_##isa,                  \
    .dequantize_u8 = shr__dequantize_u8_##isa, .dequantize_s8 = shr__dequantize_s8_##isa,          \
    .quantize_u8_nhwc = shr__quantize_u8_nhwc_##isa,                                               \
    .dequantize_u8_nchw = shr__dequantize_u8_nchw_##isa, .minmax_f32 = shr__minmax_f32_##isa,      \
    .relu_f32 = shr__relu_f32_##isa, .add_f32 = shr__add_f32_##isa, .mul_f32 = shr__mul_f32_##isa, \
    .madd_f32 = shr__madd_f32_##isa,

#endif
