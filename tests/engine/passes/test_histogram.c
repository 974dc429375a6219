/* passes/histogram: counts that do not depend on batches, and ranges as numpy finds them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/attr.h"
#include "passes/histogram.h"

enum { N = 10007 };

static const struct expected {
    const char *name;
    double ranges[3][2]; /* entropy, percentile 99.9, mse: min and max */
} expected[] = {
#include "expected_ranges.h"
};

static float samples[N];
static struct shr_histogram h, h2;

/* As in make_expected_ranges.py. */
static float uniform(int64_t i, int64_t factor)
{
    return (float)(i * factor % N - 5003) / 5003.0f;
}

static void make_samples(const char *name)
{
    for (int64_t i = 0; i < N; i++) {
        float u = uniform(i, 7919), cube = u * u * u;
        float bell = ((u + uniform(i, 3571)) + uniform(i, 613)) + uniform(i, 29);
        if (strcmp(name, "positive") == 0) {
            samples[i] = (cube > 0 ? cube : 0) * 7.0f;
        } else if (strcmp(name, "tails") == 0) {
            samples[i] = cube * cube * cube * 20.0f;
        } else if (strcmp(name, "relu") == 0) {
            samples[i] = bell * cube > 0 ? bell * cube : 0;
        } else {
            samples[i] = i == 17 && strcmp(name, "outlier") == 0 ? 50.0f : bell;
        }
    }
}

static void count(struct shr_histogram *to, size_t batch)
{
    memset(to, 0, sizeof *to);
    for (size_t at = 0; at < N; at += batch) {
        assert_true(shr_histogram_add(to, samples + at, N - at < batch ? N - at : batch));
    }
}

static double width(void)
{
    return ldexp(1, h.exponent) / SHR_HISTOGRAM_BINS;
}

static void histogram_does_not_depend_on_the_split_into_batches(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(expected); i++) {
        make_samples(expected[i].name);
        count(&h, N);
        static const size_t batches[] = {1, 7, 64, 5000};
        for (size_t b = 0; b < SHR_COUNT_OF(batches); b++) {
            count(&h2, batches[b]);
            assert_memory_equal(&h, &h2, sizeof h);
        }
    }
}

static void histogram_does_not_depend_on_the_order(void **state)
{
    (void)state;
    make_samples("tails");
    count(&h, 100);
    for (size_t i = 0; i < N / 2; i++) {
        float x = samples[i];
        samples[i] = samples[N - 1 - i];
        samples[N - 1 - i] = x;
    }
    count(&h2, 100);
    assert_memory_equal(&h, &h2, sizeof h);
}

static void histogram_counts_each_value_in_the_bin_that_holds_it(void **state)
{
    (void)state;
    make_samples("tails");
    count(&h, 128);
    uint64_t counts[2 * SHR_HISTOGRAM_BINS] = {0}, zeros = 0;
    for (size_t i = 0; i < N; i++) {
        counts[(int)floor((double)samples[i] / width()) + SHR_HISTOGRAM_BINS]++;
        zeros += samples[i] == 0;
    }
    assert_memory_equal(h.count, counts, sizeof counts);
    assert_int_equal(h.n, N);
    assert_int_equal(h.zeros, zeros);
    assert_int_equal(h.exponent, 5); /* the largest is 20 */
}

static void entropy_threshold_is_that_of_numpy(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(expected); i++) {
        double min = 0, max = 0;
        make_samples(expected[i].name);
        count(&h, 64);
        shr_histogram_entropy(&h, &min, &max);
        assert_true(fabs(min - expected[i].ranges[0][0]) < 1e-12);
        assert_true(fabs(max - expected[i].ranges[0][1]) < 1e-12);
    }
}

/* As of a Sigmoid: with all but a few values cut off, what is left looks like what was. */
static void entropy_does_not_cut_off_nearly_everything(void **state)
{
    (void)state;
    for (int64_t i = 0; i < N; i++) {
        samples[i] = 0.5f + 0.4f * uniform(i, 7919) * uniform(i, 7919) * uniform(i, 7919);
    }
    count(&h, N);
    double min, max;
    int64_t cut = 0;
    shr_histogram_entropy(&h, &min, &max);
    for (int64_t i = 0; i < N; i++) {
        cut += (double)samples[i] > max;
    }
    assert_true(min == 0 || min == (double)h.min);
    assert_true(cut <= N / 10);
}

/* One outlier of 400,000 may go for finer steps; a far one, or a part of the body, may not. */
static void a_range_that_costs_more_than_it_wins_is_told(void **state)
{
    (void)state;
    enum { BODY = 400000 };
    static float x[BODY];
    memset(&h, 0, sizeof h);
    for (int i = 0; i < BODY; i++) {
        x[i] = (float)i / BODY;
    }
    assert_true(shr_histogram_add(&h, x, BODY));
    assert_true(shr_histogram_add(&h, (const float[]){1.2f}, 1));
    assert_false(shr_histogram_cuts_too_much(&h, 255, 0, 1));
    assert_false(shr_histogram_cuts_too_much(&h, 255, h.min, h.max));
    assert_true(shr_histogram_cuts_too_much(&h, 255, 0, 0.9));
    assert_true(shr_histogram_cuts_too_much(&h, 255, 0, 0.01));
    assert_true(shr_histogram_add(&h, (const float[]){9}, 1));
    assert_true(shr_histogram_cuts_too_much(&h, 255, 0, 1));
    memset(&h, 0, sizeof h);
    assert_false(shr_histogram_cuts_too_much(&h, 255, 0, 0));
}

static void percentile_is_that_of_numpy_within_a_bin(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(expected); i++) {
        double min = 0, max = 0;
        make_samples(expected[i].name);
        count(&h, 64);
        shr_histogram_percentile(&h, 99.9, &min, &max);
        /* Between neighbouring samples numpy interpolates; the tails are sparse. */
        double tolerance = 1.01 * width() + 0.002 * (max - min);
        assert_true(fabs(min - expected[i].ranges[1][0]) < tolerance);
        assert_true(fabs(max - expected[i].ranges[1][1]) < tolerance);
    }
}

static void mse_range_is_that_of_numpy_within_two_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(expected); i++) {
        double min = 0, max = 0;
        make_samples(expected[i].name);
        count(&h, 64);
        shr_histogram_mse(&h, 255, &min, &max);
        assert_true(fabs(min - expected[i].ranges[2][0]) <= 0.021 * -h.min);
        assert_true(fabs(max - expected[i].ranges[2][1]) <= 0.021 * h.max);
    }
}

static void percentile_100_is_the_range_that_was_seen(void **state)
{
    (void)state;
    double min = 0, max = 0;
    make_samples("tails");
    count(&h, 64);
    shr_histogram_percentile(&h, 100, &min, &max);
    assert_true(min == -20.0 && max == 20.0);
}

static void histogram_of_zeros_has_an_empty_range(void **state)
{
    (void)state;
    memset(samples, 0, sizeof samples);
    count(&h, 64);
    double range[2] = {1, 1};
    shr_histogram_entropy(&h, &range[0], &range[1]);
    assert_true(range[0] == 0 && range[1] == 0);
    shr_histogram_percentile(&h, 99, &range[0], &range[1]);
    assert_true(range[0] == 0 && range[1] == 0);
    shr_histogram_mse(&h, 255, &range[0], &range[1]);
    assert_true(range[0] == 0 && range[1] == 0);

    float later[2] = {1e-30f, -1e30f}; /* from the smallest to the largest */
    assert_true(shr_histogram_add(&h, &later[0], 1));
    assert_true(shr_histogram_add(&h, &later[1], 1));
    assert_int_equal(h.n, N + 2);
    assert_int_equal(h.count[SHR_HISTOGRAM_BINS], N + 1);
}

static void histogram_refuses_what_is_not_finite(void **state)
{
    (void)state;
    memset(&h, 0, sizeof h);
    assert_false(shr_histogram_add(&h, (const float[]){1, (float)NAN}, 2));
    assert_false(shr_histogram_add(&h, (const float[]){(float)INFINITY}, 1));
    memset(&h2, 0, sizeof h2);
    assert_memory_equal(&h, &h2, sizeof h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(histogram_does_not_depend_on_the_split_into_batches),
        cmocka_unit_test(histogram_does_not_depend_on_the_order),
        cmocka_unit_test(histogram_counts_each_value_in_the_bin_that_holds_it),
        cmocka_unit_test(entropy_threshold_is_that_of_numpy),
        cmocka_unit_test(entropy_does_not_cut_off_nearly_everything),
        cmocka_unit_test(a_range_that_costs_more_than_it_wins_is_told),
        cmocka_unit_test(percentile_is_that_of_numpy_within_a_bin),
        cmocka_unit_test(mse_range_is_that_of_numpy_within_two_steps),
        cmocka_unit_test(percentile_100_is_the_range_that_was_seen),
        cmocka_unit_test(histogram_of_zeros_has_an_empty_range),
        cmocka_unit_test(histogram_refuses_what_is_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
