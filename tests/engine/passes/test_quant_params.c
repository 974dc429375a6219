/* passes/quant_params: scales and zero points by the rules of ONNX Runtime's quantizer, whose
 * numbers the expected values are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/attr.h"
#include "passes/quant_params.h"

static void grids_are_those_of_the_quantizer(void **state)
{
    (void)state;
    static const struct {
        enum shr_dtype dtype;
        bool symmetric, reduced;
        int min, max;
    } cases[] = {{SHR_DTYPE_I8, true, false, -127, 127},
                 {SHR_DTYPE_I8, false, false, -128, 127},
                 {SHR_DTYPE_I8, true, true, -64, 64},
                 {SHR_DTYPE_U8, false, false, 0, 255},
                 {SHR_DTYPE_U8, false, true, 0, 127}};
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_quant_grid g =
            shr_quant_grid_of(cases[i].dtype, cases[i].symmetric, cases[i].reduced);
        assert_int_equal(g.min, cases[i].min);
        assert_int_equal(g.max, cases[i].max);
    }
}

/* onnxruntime.quantization.quant_utils.compute_scale_zp(rmin, rmax, dtype, qmin, qmax, symmetric)
 */
static void scale_and_zero_point_are_those_of_the_quantizer(void **state)
{
    (void)state;
    static const struct {
        enum shr_dtype dtype;
        bool symmetric;
        double min, max;
        float scale;
        int zero;
    } cases[] = {
        {SHR_DTYPE_U8, false, -1.5, 2.5, 0.015686275f, 96},
        {SHR_DTYPE_U8, false, 0.5, 3, 0.011764706f, 0},
        {SHR_DTYPE_U8, false, -3, -1, 0.011764706f, 255},
        {SHR_DTYPE_I8, false, -1.5, 2.5, 0.015686275f, -32},
        {SHR_DTYPE_I8, true, -1.5, 2.5, 0.019685039f, 0},
        {SHR_DTYPE_U8, false, 0, 0, 1, 0},
        {SHR_DTYPE_I8, true, 0, 1e-38, 1, 0}, /* ours: no scale below FLT_MIN */
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_quant_grid g = shr_quant_grid_of(cases[i].dtype, cases[i].symmetric, false);
        struct shr_quant_params p = shr_quant_params_of(&g, cases[i].min, cases[i].max);
        assert_true(p.scale == cases[i].scale);
        assert_int_equal(p.zero, cases[i].zero);
    }
}

static void quantize_rounds_half_to_even_and_saturates(void **state)
{
    (void)state;
    struct shr_quant_grid g = shr_quant_grid_of(SHR_DTYPE_U8, false, false);
    struct shr_quant_params p = {0.5f, 10};
    static const float x[] = {0, 0.25f, 0.75f, 1.25f, -0.25f, 1000, -1000};
    static const int q[] = {10, 10, 12, 12, 10, 255, 0};
    for (size_t i = 0; i < SHR_COUNT_OF(x); i++) {
        assert_int_equal(shr_quantize(&g, p, x[i]), q[i]);
    }
}

static struct shr_tensor matrix(int64_t k, int64_t n, const float *values)
{
    struct shr_tensor t = {0};
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 2, (int64_t[]){k, n}, &t, NULL), 0);
    memcpy(t.data, values, (size_t)(k * n) * sizeof *values);
    return t;
}

static void weights_have_a_scale_for_each_channel(void **state)
{
    (void)state;
    struct shr_tensor w = matrix(2, 3, (const float[]){1.27f, -10, 0, -0.01f, 5, 0});
    struct shr_quant_weight q = {0};
    struct shr_quant_how how = {shr_quant_grid_of(SHR_DTYPE_I8, true, false), 1, true,
                                SHR_PAIRS_NONE, NULL};
    assert_int_equal(shr_quantize_weight(&w, "w", &how, &q, NULL), 0);
    assert_memory_equal(q.q.data, ((int8_t[]){127, -127, 0, -1, 64, 0}), 6);
    assert_true(((float *)q.scale.data)[1] == (float)(10.0 / 127));
    assert_true(((float *)q.scale.data)[2] == 1); /* of zeros */
    shr_quant_weight_finish(&q);

    how.per_channel = false;
    assert_int_equal(shr_quantize_weight(&w, "w", &how, &q, NULL), 0);
    assert_memory_equal(q.q.data, ((int8_t[]){16, -127, 0, 0, 64, 0}), 6);
    assert_int_equal(q.scale.rank, 0);
    shr_quant_weight_finish(&q);

    how.per_channel = true;
    how.least_scale = (const double[]){1, 0, 0};
    assert_int_equal(shr_quantize_weight(&w, "w", &how, &q, NULL), 0);
    assert_memory_equal(q.q.data, ((int8_t[]){1, -127, 0, 0, 64, 0}), 6);
    shr_quant_weight_finish(&q);
    shr_tensor_finish(&w);
}

/* Whatever uint8 the input is, no sum of two neighbouring products leaves int16; and with one step
 * more in a channel some would. */
static void certified_weights_cannot_saturate_and_are_as_large_as_that_allows(void **state)
{
    (void)state;
    enum { K = 38, CHANNELS = 40 };
    float values[K * CHANNELS];
    for (int i = 0; i < K * CHANNELS; i++) {
        values[i] = (float)(i * 7919 % 1009 - 504) / 504.0f;
        values[i] = values[i] * values[i] * values[i];
    }
    struct shr_tensor w = matrix(K, CHANNELS, values);
    struct shr_quant_weight q = {0};
    struct shr_quant_how how = {shr_quant_grid_of(SHR_DTYPE_I8, true, false), 1, true,
                                SHR_PAIRS_MATRIX, NULL};
    assert_int_equal(shr_quantize_weight(&w, "w", &how, &q, NULL), 0);
    const int8_t *x = q.q.data;
    int tops = 0, less = 0;
    for (int c = 0; c < CHANNELS; c++) {
        int top = 0;
        double absmax = 0;
        for (int k = 0; k < K; k++) {
            int a = x[k * CHANNELS + c];
            top = a > top ? a : -a > top ? -a : top;
            absmax = fmax(absmax, fabs((double)values[k * CHANNELS + c]));
        }
        bool larger_saturates = top == 127;
        float finer = (float)(absmax / (top + 1));
        for (int k = 0; k < K; k += 2) {
            int a = x[k * CHANNELS + c], b = x[(k + 1) * CHANNELS + c];
            int high = (a > 0 ? a : 0) + (b > 0 ? b : 0), low = (a < 0 ? a : 0) + (b < 0 ? b : 0);
            assert_true(255 * high <= INT16_MAX);
            assert_true(255 * low >= INT16_MIN);
            float fa = rintf(values[k * CHANNELS + c] / finer);
            float fb = rintf(values[(k + 1) * CHANNELS + c] / finer);
            larger_saturates = larger_saturates || (fa * fb > 0 && fabsf(fa + fb) * 255 > 32767);
        }
        assert_true(larger_saturates);
        assert_in_range(top, 64, 127);
        tops += top;
        less += top < 127;
    }
    assert_true(less > 0 && tops > CHANNELS * 64); /* some had to give way, not all to 7 bits */
    assert_int_equal(q.narrowed, less);
    assert_int_equal(q.channels, CHANNELS);
    shr_quant_weight_finish(&q);
    shr_tensor_finish(&w);
}

static void channels_without_weights_need_no_certificate(void **state)
{
    (void)state;
    enum { K = 40 }; /* more than a vector */
    static const float empty[] = {0, 1e-44f};
    for (size_t i = 0; i < SHR_COUNT_OF(empty); i++) {
        float values[K];
        for (int k = 0; k < K; k++) {
            values[k] = empty[i];
        }
        struct shr_tensor w = matrix(K, 1, values);
        struct shr_quant_weight q = {0};
        struct shr_quant_how how = {shr_quant_grid_of(SHR_DTYPE_I8, true, false), 1, true,
                                    SHR_PAIRS_MATRIX, NULL};
        assert_int_equal(shr_quantize_weight(&w, "w", &how, &q, NULL), 0);
        assert_int_equal(q.top_min, 127);
        assert_true(((float *)q.scale.data)[0] == 1);
        assert_memory_equal(q.q.data, ((int8_t[K]){0}), K);
        shr_quant_weight_finish(&q);
        shr_tensor_finish(&w);
    }
}

static void weights_that_are_not_finite_are_an_error(void **state)
{
    (void)state;
    struct shr_tensor w = matrix(1, 2, (const float[]){1, (float)INFINITY});
    struct shr_quant_weight q = {0};
    struct shr_err err = {0};
    struct shr_quant_how how = {shr_quant_grid_of(SHR_DTYPE_I8, true, false), 1, true,
                                SHR_PAIRS_NONE, NULL};
    assert_int_equal(shr_quantize_weight(&w, "w", &how, &q, &err), SHR_ERR_INVALID);
    assert_string_equal(err.msg, "tensor 'w': element 1 is not finite");
    shr_tensor_finish(&w);
}

/* Expected: calculate_qparams of torch.ao.quantization's MinMaxObserver. */
static void the_rule_of_pytorch_is_in_float32_and_never_below_epsilon(void **state)
{
    (void)state;
    static const struct {
        enum shr_dtype dtype;
        bool symmetric, reduced;
        double min, max;
        float scale;
        int32_t zero;
    } cases[] = {
        {SHR_DTYPE_U8, false, true, -1, 2, 3.0f / 127, 42},
        {SHR_DTYPE_U8, false, false, 0.5, 2, 2.0f / 255, 0},
        {SHR_DTYPE_I8, false, true, -1, 2, 3.0f / 127, -22},
        {SHR_DTYPE_I8, true, false, -3, 2, 3.0f / 127.5f, 0},
        {SHR_DTYPE_I8, true, false, 0, 0, FLT_EPSILON, 0},
        {SHR_DTYPE_U8, false, true, -4, 0, 4.0f / 127, 127},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_quant_grid g =
            shr_quant_grid_pytorch(cases[i].dtype, cases[i].symmetric, cases[i].reduced);
        struct shr_quant_params p = shr_quant_params_of(&g, cases[i].min, cases[i].max);
        assert_true(p.scale == cases[i].scale);
        assert_int_equal(p.zero, cases[i].zero);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rule_of_pytorch_is_in_float32_and_never_below_epsilon),
        cmocka_unit_test(grids_are_those_of_the_quantizer),
        cmocka_unit_test(scale_and_zero_point_are_those_of_the_quantizer),
        cmocka_unit_test(quantize_rounds_half_to_even_and_saturates),
        cmocka_unit_test(weights_have_a_scale_for_each_channel),
        cmocka_unit_test(certified_weights_cannot_saturate_and_are_as_large_as_that_allows),
        cmocka_unit_test(channels_without_weights_need_no_certificate),
        cmocka_unit_test(weights_that_are_not_finite_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
