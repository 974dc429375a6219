/* The reference kernels against values worked out by hand, and the choice of a table. What the
 * faster tables do is compared with the reference by checkkernels.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "kernels/kernels.h"

static const struct shr_kernels *ref(void)
{
    return shr_kernels_get(~0u);
}

static void mask_takes_instruction_sets_away(void **state)
{
    (void)state;
    assert_int_equal(ref()->cpu, 0);
    const struct shr_kernels *best = shr_kernels_get(0);
    assert_int_equal(best->cpu & ~shr_cpu_flags(), 0);
    assert_int_equal(shr_kernels_get(best->cpu)->cpu & best->cpu, 0);
}

static void cpu_flags_have_names(void **state)
{
    char text[64];
    (void)state;
    assert_string_equal(shr_cpu_name(0, text, sizeof text), "none");
    assert_string_equal(shr_cpu_name(SHR_CPU_AVX2 | SHR_CPU_AVX512VNNI, text, sizeof text),
                        "avx2 avx512vnni");
    assert_string_equal(shr_cpu_name(SHR_CPU_AVX2 | SHR_CPU_AVX512, text, 7), "avx2 a");
}

static void quantize_rounds_ties_to_even_and_saturates(void **state)
{
    const float x[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 400, -400, INFINITY, -INFINITY, NAN};
    const uint8_t want_u8[] = {10, 12, 12, 10, 8, 255, 0, 255, 0, 0};
    const int8_t want_s8[] = {10, 12, 12, 10, 8, 127, -128, 127, -128, -128};
    uint8_t u8[10];
    int8_t s8[10];
    (void)state;
    ref()->quantize_u8(10, x, 1, 10, u8);
    ref()->quantize_s8(10, x, 1, 10, s8);
    assert_memory_equal(u8, want_u8, 10);
    assert_memory_equal(s8, want_s8, 10);
}

static void integer_product_subtracts_both_zero_points(void **state)
{
    /* (A - 2) (B - z) with A = [1 2; 255 0], B = [1 -128; 3 127], z = [1, -1] */
    const uint8_t a[] = {1, 2, 255, 0};
    const int8_t b[] = {1, -128, 3, 127};
    const int32_t zero[] = {1, -1}, bias[] = {7, 0};
    const int32_t want[] = {-1 * 0 + 0 * 2 + 7, -1 * -127 + 0 * 128, 253 * 0 - 2 * 2 + 7,
                            253 * -127 - 2 * 128};
    int32_t c[4];
    (void)state;
    void *packed = malloc(ref()->gemm_i8_size(2, 2));
    assert_non_null(packed);
    ref()->gemm_i8_pack(2, 2, b, 2, false, zero, packed);
    struct shr_gemm_i8 g = {.m = 2,
                            .n = 2,
                            .k = 2,
                            .a = a,
                            .lda = 2,
                            .a_zero = 2,
                            .b = packed,
                            .bias = bias,
                            .out = SHR_GEMM_I32,
                            .c = c,
                            .ldc = 2};
    ref()->gemm_i8(&g);
    assert_memory_equal(c, want, sizeof want);

    const float scale[] = {0.5f, 0.001f};
    uint8_t u8[4];
    g.out = SHR_GEMM_U8;
    g.scale = scale;
    g.c_zero = 3;
    g.c = u8;
    g.act = SHR_ACT_RELU;
    ref()->gemm_i8(&g); /* 3.5 -> 4, 0.127 -> 0, 1.5 -> 2, negative -> 0; each + 3 */
    assert_memory_equal(u8, ((uint8_t[]){7, 3, 5, 3}), 4);
    free(packed);
}

static void integer_convolution_pads_with_the_zero_point(void **state)
{
    /* 1x3x1 image, two taps (1, 10) over 4 outputs with one column of padding at each side */
    const struct shr_conv_i8_spec spec = {.shape = {.n = 1,
                                                    .c = 1,
                                                    .h = 1,
                                                    .w = 3,
                                                    .oc = 1,
                                                    .kh = 1,
                                                    .kw = 2,
                                                    .oh = 1,
                                                    .ow = 4,
                                                    .stride_h = 1,
                                                    .stride_w = 1,
                                                    .pad_l = 1,
                                                    .pad_r = 1,
                                                    .dil_h = 1,
                                                    .dil_w = 1,
                                                    .groups = 1},
                                          .w = (int8_t[]){1, 10},
                                          .out = SHR_GEMM_I32};
    size_t scratch;
    int32_t y[4];
    (void)state;
    struct shr_conv_i8 *conv = ref()->conv_i8_new(&spec, &scratch);
    assert_non_null(conv);
    ref()->conv_i8_run(conv, (uint8_t[]){6, 7, 8}, 5, y, NULL, NULL);
    assert_memory_equal(y, ((int32_t[]){10, 21, 32, 3}), sizeof y);
    ref()->conv_i8_free(conv);
}

static void float_convolution_groups_channels(void **state)
{
    /* Two channels, each with its own 1x1 filter and bias; RELU keeps the second at 0 */
    const struct shr_conv_shape s = {.n = 1,
                                     .c = 2,
                                     .h = 1,
                                     .w = 2,
                                     .oc = 2,
                                     .kh = 1,
                                     .kw = 1,
                                     .oh = 1,
                                     .ow = 2,
                                     .stride_h = 1,
                                     .stride_w = 1,
                                     .dil_h = 1,
                                     .dil_w = 1,
                                     .groups = 2};
    size_t scratch;
    float y[4];
    (void)state;
    struct shr_conv_f32 *conv =
        ref()->conv_f32_new(&(struct shr_conv_f32_spec){.shape = s,
                                                        .w = (float[]){2, -3},
                                                        .bias = (float[]){1, 1},
                                                        .act = SHR_ACT_RELU,
                                                        .threads = 1},
                            &scratch);
    assert_non_null(conv);
    ref()->conv_f32_run(conv, (float[]){1, 3, 2, 0}, NULL, y, NULL, NULL);
    assert_memory_equal(y, ((float[]){3, 0, 5, 1}), sizeof y);
    ref()->conv_f32_free(conv);
}

static void integer_add_rescales_both_sides(void **state)
{
    const uint8_t a[] = {10, 0, 255}, b[] = {1, 2, 255};
    uint8_t y[3];
    (void)state;
    ref()->add_u8(&(struct shr_add_u8){.n = 3,
                                       .a = a,
                                       .b = b,
                                       .a_scale = 0.5f,
                                       .b_scale = 2,
                                       .y_scale = 1,
                                       .a_zero = 10,
                                       .b_zero = 1,
                                       .y_zero = 4,
                                       .y = y});
    assert_memory_equal(y, ((uint8_t[]){4, 1, 255}), 3); /* 0, -5 + 2, 122.5 + 508 */
}

static void maxpool_ignores_padding(void **state)
{
    const struct shr_conv_shape s = {.n = 1,
                                     .c = 2,
                                     .h = 2,
                                     .w = 2,
                                     .oc = 2,
                                     .kh = 2,
                                     .kw = 2,
                                     .oh = 2,
                                     .ow = 2,
                                     .stride_h = 1,
                                     .stride_w = 1,
                                     .pad_b = 1,
                                     .pad_r = 1,
                                     .dil_h = 1,
                                     .dil_w = 1,
                                     .groups = 1};
    uint8_t y[8];
    (void)state;
    ref()->maxpool_u8(&s, (uint8_t[]){1, 8, 2, 7, 3, 6, 4, 5}, y);
    assert_memory_equal(y, ((uint8_t[]){4, 8, 4, 7, 4, 6, 4, 5}), 8);
}

static void minmax_skips_nan(void **state)
{
    float lo, hi;
    (void)state;
    ref()->minmax_f32(4, (float[]){NAN, 2, -1, NAN}, &lo, &hi);
    assert_true(lo == -1 && hi == 2);
    ref()->minmax_f32(1, (float[]){NAN}, &lo, &hi);
    assert_true(lo == INFINITY && hi == -INFINITY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mask_takes_instruction_sets_away),
        cmocka_unit_test(cpu_flags_have_names),
        cmocka_unit_test(quantize_rounds_ties_to_even_and_saturates),
        cmocka_unit_test(integer_product_subtracts_both_zero_points),
        cmocka_unit_test(integer_convolution_pads_with_the_zero_point),
        cmocka_unit_test(float_convolution_groups_channels),
        cmocka_unit_test(integer_add_rescales_both_sides),
        cmocka_unit_test(maxpool_ignores_padding),
        cmocka_unit_test(minmax_skips_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
