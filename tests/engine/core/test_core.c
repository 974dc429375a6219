/* core: tensors and their counted bytes, element types, maps, random numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "core/map.h"
#include "core/rng.h"
#include "core/tensor.h"

static void dims_count_refuses_overflow_and_negative_dims(void **state)
{
    (void)state;
    int64_t n;
    assert_true(shr_dims_count(0, NULL, &n));
    assert_int_equal(n, 1);
    assert_true(shr_dims_count(3, (int64_t[]){2, 3, 4}, &n));
    assert_int_equal(n, 24);
    assert_true(shr_dims_count(2, (int64_t[]){0, 7}, &n));
    assert_int_equal(n, 0);
    assert_false(shr_dims_count(2, (int64_t[]){2, -1}, &n));
    assert_false(shr_dims_count(2, (int64_t[]){INT64_C(1) << 40, INT64_C(1) << 40}, &n));
    assert_false(shr_dims_count(3, (int64_t[]){0, INT64_C(1) << 40, INT64_C(1) << 40}, &n));
}

static void tensor_new_names_a_shape_that_does_not_fit(void **state)
{
    (void)state;
    struct shr_err err = {0};
    struct shr_tensor t;
    assert_int_equal(
        shr_tensor_new(SHR_DTYPE_F64, 2, (int64_t[]){INT64_C(1) << 31, INT64_C(1) << 31}, &t, &err),
        SHR_ERR_LIMIT);
    assert_string_equal(err.msg, "[2147483648, 2147483648] is no shape that fits into memory");
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 9, NULL, &t, &err), SHR_ERR_INVALID);
    assert_string_equal(err.msg, "a tensor has 0 to 8 dimensions, not 9");
}

static void tensor_bytes_are_shared_until_owned(void **state)
{
    (void)state;
    struct shr_tensor a;
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 1, (int64_t[]){3}, &a, NULL), SHR_OK);
    assert_int_equal((uintptr_t)a.data % SHR_MEM_ALIGN, 0);
    assert_true(shr_tensor_get(&a, 2) == 0);
    shr_tensor_set(&a, 2, 5);
    struct shr_tensor b = shr_tensor_ref(&a);
    assert_ptr_equal(a.data, b.data);
    assert_int_equal(shr_tensor_own(&b, NULL), SHR_OK);
    assert_ptr_not_equal(a.data, b.data);
    shr_tensor_set(&b, 2, 7);
    assert_true(shr_tensor_get(&a, 2) == 5);
    const void *alone = b.data;
    assert_int_equal(shr_tensor_own(&b, NULL), SHR_OK);
    assert_ptr_equal(b.data, alone);
    shr_tensor_finish(&a);
    assert_true(shr_tensor_get(&b, 2) == 7);
    shr_tensor_finish(&b);
    assert_null(b.data);
    shr_tensor_finish(&b);
}

static void tensor_own_copies_borrowed_bytes(void **state)
{
    (void)state;
    int8_t bytes[2] = {1, -2};
    struct shr_tensor t = {.dtype = SHR_DTYPE_I8, .rank = 1, .dim = {2}, .data = bytes};
    assert_int_equal(shr_tensor_own(&t, NULL), SHR_OK);
    bytes[1] = 9;
    assert_true(shr_tensor_get(&t, 1) == -2);
    shr_tensor_finish(&t);
}

static void tensor_set_rounds_to_even_and_saturates(void **state)
{
    (void)state;
    static const struct {
        enum shr_dtype dtype;
        double in, out;
    } cases[] = {
        {SHR_DTYPE_I8, 2.5, 2},
        {SHR_DTYPE_I8, 3.5, 4},
        {SHR_DTYPE_I8, -1e9, -128},
        {SHR_DTYPE_I8, NAN, 0},
        {SHR_DTYPE_U8, 300, 255},
        {SHR_DTYPE_U8, -3, 0},
        {SHR_DTYPE_I16, 40000, 32767},
        {SHR_DTYPE_U16, 70000, 65535},
        {SHR_DTYPE_I32, 1e10, 2147483647},
        {SHR_DTYPE_U32, 1e10, 4294967295},
        {SHR_DTYPE_I64, 1e30, 0x1p63},
        {SHR_DTYPE_I64, -1e30, -0x1p63},
        {SHR_DTYPE_U64, 1e30, 0x1p64},
        {SHR_DTYPE_BOOL, 0.5, 1},
        {SHR_DTYPE_F16, 65504, 65504},
        {SHR_DTYPE_BF16, 1.0 / 3, 0x1.56p-2},
        {SHR_DTYPE_F64, 0.1, 0.1},
        {SHR_DTYPE_F32, 0.1, 0.1f},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_tensor t;
        assert_int_equal(shr_tensor_new(cases[i].dtype, 0, NULL, &t, NULL), SHR_OK);
        shr_tensor_set(&t, 0, cases[i].in);
        if (shr_tensor_get(&t, 0) != cases[i].out) {
            fail_msg("%s: %g became %g, not %g", shr_dtype_name(cases[i].dtype), cases[i].in,
                     shr_tensor_get(&t, 0), cases[i].out);
        }
        shr_tensor_finish(&t);
    }
}

static void half_precision_survives_the_way_through_float(void **state)
{
    (void)state;
    for (uint32_t h = 0; h <= 0xffff; h++) {
        const float f = shr_f16_to_f32((uint16_t)h);
        const bool nan = (h & 0x7c00) == 0x7c00 && (h & 0x3ff) != 0;
        assert_int_equal(isnan(f) != 0, nan);
        assert_int_equal(shr_f32_to_f16(f), nan ? (h | 0x200) : h);
        const float b = shr_bf16_to_f32((uint16_t)h);
        assert_int_equal(shr_f32_to_bf16(b), isnan(b) ? (h | 0x40) : h);
    }
}

/* Expected values: numpy.float16(x).view(uint16); those of bfloat16 by hand. */
static void half_precision_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(shr_f32_to_f16(1.0f), 0x3c00);
    assert_int_equal(shr_f32_to_f16(1.0f + 0x1p-11f), 0x3c00);
    assert_int_equal(shr_f32_to_f16(1.0f + 0x3p-11f), 0x3c02);
    assert_int_equal(shr_f32_to_f16(65519.0f), 0x7bff);
    assert_int_equal(shr_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(shr_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(shr_f32_to_f16(-0x1p-24f), 0x8001);
    assert_int_equal(shr_f32_to_f16(0x1p-25f), 0x0000);
    assert_int_equal(shr_f32_to_f16(0x1.8p-25f), 0x0001);
    assert_int_equal(shr_f32_to_f16(0x1.ff8p-15f), 0x03ff);
    assert_int_equal(shr_f32_to_f16(0x1.fffp-15f), 0x0400);
    assert_int_equal(shr_f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);
    assert_int_equal(shr_f32_to_bf16(1.0f + 0x3p-8f), 0x3f82);
    assert_int_equal(shr_f32_to_bf16(3.4e38f), 0x7f80);
}

/* Values of ml_dtypes. */
static void small_floats_round_saturate_and_know_their_nan(void **state)
{
    (void)state;
    static const float x[] = {NAN, INFINITY, -INFINITY, 500,  464,   465,
                              448, 0,        -0.0f,     0.3f, 1e-3f, -2.5f};
    static const struct {
        enum shr_dtype dtype;
        uint8_t wrapping[SHR_COUNT_OF(x)], saturating[SHR_COUNT_OF(x)];
    } want[] = {
        {SHR_DTYPE_F8E4M3FN,
         {127, 127, 255, 127, 126, 127, 126, 0, 128, 42, 1, 194},
         {127, 126, 254, 126, 126, 126, 126, 0, 128, 42, 1, 194}},
        {SHR_DTYPE_F8E4M3FNUZ,
         {128, 128, 128, 128, 128, 128, 128, 0, 0, 50, 1, 202},
         {128, 127, 255, 127, 127, 127, 127, 0, 0, 50, 1, 202}},
        {SHR_DTYPE_F8E5M2,
         {126, 124, 252, 96, 95, 95, 95, 0, 128, 53, 20, 193},
         {126, 123, 251, 96, 95, 95, 95, 0, 128, 53, 20, 193}},
        {SHR_DTYPE_F8E5M2FNUZ,
         {128, 128, 128, 100, 99, 99, 99, 0, 0, 57, 24, 197},
         {128, 127, 255, 100, 99, 99, 99, 0, 0, 57, 24, 197}},
        {SHR_DTYPE_F4E2M1,
         {8, 7, 15, 7, 7, 7, 7, 0, 8, 1, 0, 12},
         {8, 7, 15, 7, 7, 7, 7, 0, 8, 1, 0, 12}},

    };
    for (size_t i = 0; i < SHR_COUNT_OF(want); i++) {
        for (size_t k = 0; k < SHR_COUNT_OF(x); k++) {
            assert_int_equal(shr_f32_to_small(want[i].dtype, x[k], false), want[i].wrapping[k]);
            assert_int_equal(shr_f32_to_small(want[i].dtype, x[k], true), want[i].saturating[k]);
        }
    }
}

static void small_floats_survive_the_way_through_float(void **state)
{
    (void)state;
    for (int dtype = SHR_DTYPE_F8E4M3FN; dtype <= SHR_DTYPE_F8E8M0; dtype++) {
        for (int code = 0;
             shr_dtype_is_small_float(dtype) && code < (dtype == SHR_DTYPE_F4E2M1 ? 16 : 256);
             code++) {
            float f = shr_small_to_f32(dtype, (uint8_t)code);
            assert_true(isnan(f) || shr_f32_to_small(dtype, f, false) == code);
        }
    }
}

static void dims_text_writes_unknown_dims_as_question_marks(void **state)
{
    (void)state;
    char text[32], small[6];
    assert_string_equal(shr_dims_text(3, (int64_t[]){1, -1, 28}, text, sizeof text), "[1, ?, 28]");
    assert_string_equal(shr_dims_text(0, NULL, text, sizeof text), "[]");
    assert_string_equal(shr_dims_text(3, (int64_t[]){100, 200, 300}, small, sizeof small), "[100,");
}

static void map_finds_what_was_put_and_not_removed(void **state)
{
    (void)state;
    enum { N = 5000 };
    static char keys[N][12];
    struct shr_map map = {0};
    assert_null(shr_map_get(&map, "a"));
    assert_null(shr_map_remove(&map, "a"));
    for (size_t i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "k%zu", i);
        assert_int_equal(shr_map_put(&map, keys[i], keys[i], NULL), SHR_OK);
    }
    for (size_t i = 0; i < N; i += 3) {
        assert_ptr_equal(shr_map_remove(&map, keys[i]), keys[i]);
        assert_null(shr_map_remove(&map, keys[i]));
    }
    for (size_t i = 0; i < N; i++) {
        assert_ptr_equal(shr_map_get(&map, keys[i]), i % 3 == 0 ? NULL : keys[i]);
    }
    assert_int_equal(map.n, N - (N + 2) / 3);
    int other = 0;
    assert_int_equal(shr_map_put(&map, keys[1], &other, NULL), SHR_OK);
    assert_ptr_equal(shr_map_get(&map, keys[1]), &other);
    assert_int_equal(map.n, N - (N + 2) / 3);
    shr_map_finish(&map);
}

/* Computed from the published algorithms with arbitrary-precision integers. */
static void rng_is_xoshiro256starstar(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 42);
    assert_true(rng.s[0] == UINT64_C(13679457532755275413));
    assert_true(rng.s[1] == UINT64_C(2949826092126892291));
    assert_true(shr_rng_next(&rng) == UINT64_C(1546998764402558742));
    assert_true(shr_rng_next(&rng) == UINT64_C(6990951692964543102));
}

static void rng_draws_have_the_promised_moments(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct shr_rng rng;
    shr_rng_init(&rng, 1);
    double sum = 0, squares = 0, uniform = 0;
    int64_t dice[6] = {0};
    for (int i = 0; i < N; i++) {
        const double x = shr_rng_normal(&rng);
        sum += x;
        squares += x * x;
        const double u = shr_rng_uniform(&rng);
        assert_true(u >= 0 && u < 1);
        uniform += u;
        dice[shr_rng_below(&rng, 6)]++;
    }
    assert_true(fabs(sum / N) < 0.02);
    assert_true(fabs(squares / N - 1) < 0.03);
    assert_true(fabs(uniform / N - 0.5) < 0.01);
    for (int i = 0; i < 6; i++) {
        assert_in_range(dice[i], N / 6 - 800, N / 6 + 800);
    }
    assert_int_equal(shr_rng_below(&rng, 1), 0);
    assert_int_equal(shr_rng_below(&rng, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dims_count_refuses_overflow_and_negative_dims),
        cmocka_unit_test(tensor_new_names_a_shape_that_does_not_fit),
        cmocka_unit_test(tensor_bytes_are_shared_until_owned),
        cmocka_unit_test(tensor_own_copies_borrowed_bytes),
        cmocka_unit_test(tensor_set_rounds_to_even_and_saturates),
        cmocka_unit_test(half_precision_survives_the_way_through_float),
        cmocka_unit_test(half_precision_rounds_to_nearest_even),
        cmocka_unit_test(small_floats_round_saturate_and_know_their_nan),
        cmocka_unit_test(small_floats_survive_the_way_through_float),
        cmocka_unit_test(dims_text_writes_unknown_dims_as_question_marks),
        cmocka_unit_test(map_finds_what_was_put_and_not_removed),
        cmocka_unit_test(rng_is_xoshiro256starstar),
        cmocka_unit_test(rng_draws_have_the_promised_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
