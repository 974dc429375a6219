/* api/query: percent-decoding, query parameters, numbers, ranges, entity tags, Accept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/query.h"

static void query_is_decoded_and_found_by_name(void **state)
{
    (void)state;
    struct shr_arena arena = {0};
    struct api_query query = {0};
    struct shr_err err = {0};
    assert_int_equal(api_query_parse(&arena, "ids=a%2Cb&x+y=1+2&empty=&flag&&", &query, &err), 0);
    assert_int_equal(query.n, 4);
    assert_string_equal(api_query_find(&query, "ids"), "a,b");
    assert_string_equal(api_query_find(&query, "x y"), "1 2");
    assert_string_equal(api_query_find(&query, "empty"), "");
    assert_string_equal(api_query_find(&query, "flag"), "");
    assert_null(api_query_find(&query, "id"));
    shr_arena_finish(&arena);
}

static void query_errors_name_the_parameter(void **state)
{
    static const struct {
        const char *text, *msg;
    } cases[] = {
        {"a=1&a=2", "a: given twice"},
        {"=1", "query: a parameter without a name"},
        {"a=%4", "a: a % without two hex digits"},
        {"a=%zz", "a: a % without two hex digits"},
        {"a=x%00y", "a: control byte 0x00"},
        {"a=x%0d%0ay", "a: control byte 0x0d"},
        {"%0a=1", "query: control byte 0x0a"},
        {"a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q", "query: more than 16 parameters"},
    };
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_arena arena = {0};
        struct api_query query = {0};
        struct shr_err err = {0};
        assert_int_equal(api_query_parse(&arena, cases[i].text, &query, &err), SHR_ERR_INVALID);
        assert_string_equal(err.msg, cases[i].msg);
        assert_int_equal(query.n, 0);
        shr_arena_finish(&arena);
    }
}

static void integers_are_whole_and_within_bounds(void **state)
{
    (void)state;
    struct shr_err err = {0};
    int64_t value = -1;
    assert_int_equal(api_int_parse("42", "limit", 1, 100, &value, &err), 0);
    assert_int_equal(value, 42);
    assert_int_equal(api_int_parse("-3", "n", -5, 100, &value, &err), 0);
    assert_int_equal(value, -3);
    assert_int_equal(api_int_parse("101", "limit", 1, 100, &value, &err), SHR_ERR_INVALID);
    assert_string_equal(err.msg, "limit: 101 is not in [1, 100]");
    static const char *const broken[] = {"",    "-",   "1x", " 1",
                                         "0x5", "1.5", "+1", "99999999999999999999999"};
    for (size_t i = 0; i < SHR_COUNT_OF(broken); i++) {
        assert_int_equal(api_int_parse(broken[i], "limit", 0, 100, &value, &err), SHR_ERR_INVALID);
        assert_non_null(strstr(err.msg, "is not a whole number"));
    }
    assert_int_equal(value, -3);
}

static void durations_have_units(void **state)
{
    (void)state;
    struct shr_err err = {0};
    uint64_t ms = 0;
    assert_int_equal(api_duration_parse("30s", "wait", &ms, &err), 0);
    assert_int_equal(ms, 30000);
    assert_int_equal(api_duration_parse("30", "wait", &ms, &err), 0);
    assert_int_equal(ms, 30000);
    assert_int_equal(api_duration_parse("250ms", "wait", &ms, &err), 0);
    assert_int_equal(ms, 250);
    assert_int_equal(api_duration_parse("2m", "wait", &ms, &err), 0);
    assert_int_equal(ms, 120000);
    static const char *const broken[] = {"", "s", "-1s", "1h", "1.5s", "30 s", "99999999999999"};
    for (size_t i = 0; i < SHR_COUNT_OF(broken); i++) {
        assert_int_equal(api_duration_parse(broken[i], "wait", &ms, &err), SHR_ERR_INVALID);
    }
}

static void ranges_follow_rfc_9110(void **state)
{
    static const struct {
        const char *text;
        uint64_t size;
        enum api_range kind;
        uint64_t first, n;
    } cases[] = {
        {"bytes=0-9", 100, API_RANGE_ONE, 0, 10},
        {"bytes=90-", 100, API_RANGE_ONE, 90, 10},
        {"bytes=-10", 100, API_RANGE_ONE, 90, 10},
        {"bytes=-1000", 100, API_RANGE_ONE, 0, 100},
        {"bytes=0-0", 1, API_RANGE_ONE, 0, 1},
        {"bytes=50-1000", 100, API_RANGE_ONE, 50, 50},
        {"Bytes=1-1", 100, API_RANGE_ONE, 1, 1},
        {"bytes=100-", 100, API_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=100-200", 100, API_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 100, API_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-", 0, API_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-5", 0, API_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=9-0", 100, API_RANGE_NONE, 0, 0},
        {"bytes=-", 100, API_RANGE_NONE, 0, 0},
        {"bytes=", 100, API_RANGE_NONE, 0, 0},
        {"bytes=0-9,20-29", 100, API_RANGE_NONE, 0, 0},
        {"bytes=0-9x", 100, API_RANGE_NONE, 0, 0},
        {"bytes=a-b", 100, API_RANGE_NONE, 0, 0},
        {"items=0-9", 100, API_RANGE_NONE, 0, 0},
        {"bytes=99999999999999999999-", 100, API_RANGE_NONE, 0, 0},
        {NULL, 100, API_RANGE_NONE, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        uint64_t first = 0, n = 0;
        assert_int_equal(api_range_parse(cases[i].text, cases[i].size, &first, &n), cases[i].kind);
        assert_int_equal(first, cases[i].first);
        assert_int_equal(n, cases[i].n);
    }
}

static void entity_tags_are_found_in_lists(void **state)
{
    (void)state;
    assert_true(api_etag_listed("\"a\"", "\"a\""));
    assert_true(api_etag_listed("\"x,y\", W/\"a\" , \"b\"", "\"a\""));
    assert_true(api_etag_listed("*", "\"a\""));
    assert_false(api_etag_listed("\"aa\", a, \"b,\"a", "\"a\""));
    assert_false(api_etag_listed("", "\"a\""));
}

static void accept_picks_the_best_type_that_is_offered(void **state)
{
    static const char *const types[] = {"application/json", "text/csv", "text/markdown"};
    static const struct {
        const char *accept;
        int pick;
    } cases[] = {
        {NULL, 0},
        {"", 0},
        {"*/*", 0},
        {"text/csv", 1},
        {"text/*", 1},
        {"TEXT/Markdown", 2},
        {"text/html, text/markdown;q=0.9, */*;q=0.1", 2},
        {"application/json;q=0.1, text/csv;q=0.2", 1},
        {"application/json;q=0, */*", 1},
        {"text/*;q=0.9, text/csv;q=0.1", 2},
        {"text/html", -1},
        {"application/json;q=0", -1},
    };
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        assert_int_equal(api_accept_pick(cases[i].accept, types, 3), cases[i].pick);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(query_is_decoded_and_found_by_name),
        cmocka_unit_test(query_errors_name_the_parameter),
        cmocka_unit_test(integers_are_whole_and_within_bounds),
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(ranges_follow_rfc_9110),
        cmocka_unit_test(entity_tags_are_found_in_lists),
        cmocka_unit_test(accept_picks_the_best_type_that_is_offered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
