/* Curves of a running pass: even, bounded, with their last point. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "jobs/curves.h"

static double at(const json_t *list, size_t i)
{
    return (double)json_integer_value(json_array_get(json_array_get(list, i), 0));
}

static void a_long_curve_is_thinned_evenly_and_ends_where_it_ends(void **state)
{
    (void)state;
    const unsigned lengths[] = {1, 2, 511, 512, 513, 1024, 1025, 4690, 100000};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        struct job_curves curves = {0};
        for (unsigned i = 0; i < lengths[k]; i++) {
            assert_true(job_curves_add(&curves, "loss", i, 0.5 * i));
        }
        json_t *json = job_curves_json(&curves);
        const json_t *list = json_object_get(json, "loss");
        const size_t n = json_array_size(list);
        assert_in_range(n, lengths[k] < 256 ? lengths[k] : 256, JOB_CURVE_POINTS + 1);
        assert_true(at(list, 0) == 0 && at(list, n - 1) == lengths[k] - 1);
        for (size_t i = 2; i + 1 < n; i++) {
            assert_true(at(list, i) - at(list, i - 1) == at(list, 1));
        }
        const json_t *pair = json_array_get(list, n - 1);
        assert_true(json_real_value(json_array_get(pair, 1)) == 0.5 * (lengths[k] - 1));
        json_decref(json);
        job_curves_finish(&curves);
    }
}

static void series_stay_apart_and_there_are_only_so_many(void **state)
{
    (void)state;
    struct job_curves curves = {0};
    for (int i = 0; i < JOB_CURVES; i++) {
        char name[JOB_SERIES_MAX];
        snprintf(name, sizeof name, "series %d", i);
        assert_true(job_curves_add(&curves, name, 7, i == 3 ? (double)NAN : i));
    }
    assert_false(job_curves_add(&curves, "one more", 7, 1));
    json_t *json = job_curves_json(&curves);
    assert_int_equal(json_object_size(json), JOB_CURVES);
    const json_t *point = json_array_get(json_object_get(json, "series 3"), 0);
    assert_true(json_is_null(json_array_get(point, 1)));
    point = json_array_get(json_object_get(json, "series 5"), 0);
    assert_true(json_real_value(json_array_get(point, 1)) == 5);
    json_decref(json);
    job_curves_finish(&curves);
    assert_int_equal(curves.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_curve_is_thinned_evenly_and_ends_where_it_ends),
        cmocka_unit_test(series_stay_apart_and_there_are_only_so_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
