/* Median, quantiles and the bootstrap against known values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-12 * (1 + fabs(b)))) {
        fail_msg("%.17g is not %.17g", a, b);
    }
}

/* Values of numpy.quantile (linear). */
static void quantiles_interpolate(void **state)
{
    (void)state;
    const double v[] = {5, 1, 4, 2, 8, 3, 7};
    const double expected[][2] = {{0, 1}, {0.1, 1.6}, {0.5, 4}, {0.95, 7.7}, {1, 8}};
    for (size_t i = 0; i < SHR_COUNT_OF(expected); i++) {
        double copy[SHR_COUNT_OF(v)];
        memcpy(copy, v, sizeof v);
        assert_near(shr__quantile(copy, SHR_COUNT_OF(v), expected[i][0]), expected[i][1]);
    }
    double one[] = {3}, two[] = {4, 1}, same[] = {2, 2, 2, 2};
    assert_near(shr__median(one, 1), 3);
    assert_near(shr__median(two, 2), 2.5);
    assert_near(shr__median(same, 4), 2);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void medians_agree_with_sorting(void **state)
{
    (void)state;
    enum { MAX = 60, ROUNDS = 2000 };
    struct shr_rng rng;
    shr_rng_init(&rng, 3);
    for (int r = 0; r < ROUNDS; r++) {
        double v[MAX], sorted[MAX];
        size_t n = 1 + shr_rng_below(&rng, MAX);
        for (size_t i = 0; i < n; i++) {
            v[i] = (double)shr_rng_below(&rng, 1 + shr_rng_below(&rng, 50)); /* many ties */
        }
        memcpy(sorted, v, n * sizeof *v);
        qsort(sorted, n, sizeof *sorted, ascending);
        assert_near(shr__median(v, n), (sorted[(n - 1) / 2] + sorted[n / 2]) / 2);
    }
}

/* The interval of a normal sample's median: 1.96 * 1.2533 * sigma / sqrt(n) to each side. */
static void the_bootstrap_covers_as_it_should(void **state)
{
    (void)state;
    enum { N = 400, ROUNDS = 60 };
    struct shr_rng rng;
    shr_rng_init(&rng, 4);
    double v[N], scratch[N], width = 0;
    int covered = 0;
    for (int r = 0; r < ROUNDS; r++) {
        double low, high;
        for (size_t i = 0; i < N; i++) {
            v[i] = 10 + shr_rng_normal(&rng);
        }
        shr__bootstrap_median(v, N, scratch, &rng, &low, &high);
        assert_true(low < high);
        covered += low <= 10 && 10 <= high;
        width += high - low;
    }
    assert_true(covered >= ROUNDS * 85 / 100);
    double expected = 2 * 1.96 * 1.2533 / sqrt(N);
    assert_true(fabs(width / ROUNDS - expected) < 0.2 * expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_interpolate),
        cmocka_unit_test(medians_agree_with_sorting),
        cmocka_unit_test(the_bootstrap_covers_as_it_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
