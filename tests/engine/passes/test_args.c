/* passes/args, table, select: parameters, their exact errors, amounts, the k smallest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "passes/pass.h"
#include "passes/select.h"

static const char *const kinds[] = {"red", "green", NULL};

enum { FLAG, COUNT, RATIO, KIND, AMOUNT, MEMORY, NAMES };

static const struct shr_param params[] = {
    {"flag", SHR_PARAM_BOOL, "true", 0, 0, NULL, "A flag"},
    {"count", SHR_PARAM_INT, "512", 1, 1000, NULL, "A count"},
    {"ratio", SHR_PARAM_FLOAT, "99.99", 50, 100, NULL, "A ratio"},
    {"kind", SHR_PARAM_ENUM, "green", 0, 0, kinds, "A kind"},
    {"amount", SHR_PARAM_AMOUNT, "0.5", 0, 0, NULL, "An amount"},
    {"memory", SHR_PARAM_BYTES, "0", 0, 0, NULL, "A size"},
    {"nodes.names", SHR_PARAM_LIST, "MatMul,Gemm", 0, 0, NULL, "Names"},
};

static const struct shr_pass pass = {
    .name = "sample", .params = params, .n_params = SHR_COUNT_OF(params)};

static int setup(void **state)
{
    static struct shr_args args;
    *state = &args;
    return shr_args_init(&args, &pass, NULL);
}

static int teardown(void **state)
{
    shr_args_finish(*state);
    return 0;
}

static void defaults_are_parsed_from_the_table(void **state)
{
    const struct shr_args *args = *state;
    assert_true(args->v[FLAG].b);
    assert_int_equal(args->v[COUNT].i, 512);
    assert_true(args->v[RATIO].f == 99.99);
    assert_int_equal(args->v[KIND].i, 1);
    assert_true(args->v[AMOUNT].f == 0.5);
    assert_false(args->v[AMOUNT].is_count);
    assert_int_equal(args->v[NAMES].n_texts, 2);
    assert_string_equal(args->v[NAMES].texts[1], "Gemm");
}

static void setters_store_values_of_their_type(void **state)
{
    struct shr_args *args = *state;
    const char *names[] = {"a", "b*", "c"};
    assert_int_equal(shr_args_set_bool(args, "flag", false, NULL), 0);
    assert_int_equal(shr_args_set_int(args, "count", 7, NULL), 0);
    assert_int_equal(shr_args_set_int(args, "ratio", 60, NULL), 0);
    assert_int_equal(shr_args_set_text(args, "kind", "red", NULL), 0);
    assert_int_equal(shr_args_set_int(args, "amount", 3, NULL), 0);
    assert_int_equal(shr_args_set_text(args, "memory", "2GiB", NULL), 0);
    assert_int_equal(shr_args_set_list(args, "nodes.names", names, 3, NULL), 0);
    assert_false(args->v[FLAG].b);
    assert_int_equal(args->v[COUNT].i, 7);
    assert_true(args->v[RATIO].f == 60.0);
    assert_int_equal(args->v[KIND].i, 0);
    assert_true(args->v[AMOUNT].is_count);
    assert_int_equal(args->v[AMOUNT].i, 3);
    assert_true(args->v[MEMORY].i == INT64_C(2147483648));
    assert_true(shr_arg_lists(&args->v[NAMES], "b*"));
    assert_false(shr_arg_lists(&args->v[NAMES], "b"));

    assert_int_equal(shr_args_set_text(args, "nodes.names", "fc*,conv1", NULL), 0);
    assert_int_equal(args->v[NAMES].n_texts, 2);
    assert_string_equal(args->v[NAMES].texts[1], "conv1");
    assert_int_equal(shr_args_set_int(args, "nodes.names", -128, NULL), 0);
    assert_int_equal(args->v[NAMES].n_texts, 1);
    assert_string_equal(args->v[NAMES].texts[0], "-128");

    assert_int_equal(shr_args_set_float(args, "amount", 1.0, NULL), 0);
    assert_false(args->v[AMOUNT].is_count);
    assert_int_equal(shr_args_parse(args, "amount", "1", NULL), 0);
    assert_true(args->v[AMOUNT].is_count);
    assert_int_equal(shr_args_set_text(args, "memory", "1.5KiB", NULL), 0);
    assert_int_equal(args->v[MEMORY].i, 1536);
}

#define ASSERT_FAILS(call, text)                                                                   \
    do {                                                                                           \
        struct shr_err err = {0};                                                                  \
        assert_int_equal(call, SHR_ERR_INVALID);                                                   \
        assert_string_equal(err.msg, text);                                                        \
    } while (0)

static void errors_name_the_field_and_what_it_may_be(void **state)
{
    struct shr_args *args = *state;
    ASSERT_FAILS(shr_args_set_float(args, "amount", 1.7, &err), "amount: 1.7 is not in [0, 1]");
    ASSERT_FAILS(shr_args_set_float(args, "amount", NAN, &err), "amount: nan is not in [0, 1]");
    ASSERT_FAILS(shr_args_set_int(args, "amount", -3, &err), "amount: -3 is negative");
    ASSERT_FAILS(shr_args_set_int(args, "count", 0, &err), "count: 0 is not in [1, 1000]");
    ASSERT_FAILS(shr_args_set_float(args, "ratio", 101.5, &err),
                 "ratio: 101.5 is not in [50, 100]");
    ASSERT_FAILS(shr_args_set_text(args, "kind", "blue", &err),
                 "kind: \"blue\" is not one of red, green");
    ASSERT_FAILS(shr_args_set_float(args, "count", 1.5, &err),
                 "count: must be an integer, not a real number");
    ASSERT_FAILS(shr_args_set_text(args, "flag", "true", &err),
                 "flag: must be true or false, not a text");
    ASSERT_FAILS(shr_args_set_bool(args, "amount", true, &err),
                 "amount: must be a fraction (0.5) or a count (100), not true");
    ASSERT_FAILS(shr_args_set_text(args, "memory", "2 GiB", &err),
                 "memory: \"2 GiB\" is not a size (1048576 or \"1MiB\")");
    ASSERT_FAILS(shr_args_set_text(args, "memory", "-1", &err),
                 "memory: \"-1\" is not a size (1048576 or \"1MiB\")");
    ASSERT_FAILS(shr_args_set_int(args, "kind", 1, &err), "kind: must be a text, not an integer");
    ASSERT_FAILS(shr_args_set_list(args, "kind", NULL, 0, &err),
                 "kind: must be a text, not a list");
    ASSERT_FAILS(shr_args_parse(args, "flag", "yes", &err), "flag: \"yes\" is not true or false");
    ASSERT_FAILS(shr_args_parse(args, "count", "12x", &err), "count: \"12x\" is not an integer");
    ASSERT_FAILS(shr_args_set_int(args, "cuont", 1, &err),
                 "cuont: unknown parameter; sample has flag, count, ratio, kind, amount, memory, "
                 "nodes.names");
}

static void failed_set_leaves_the_old_value(void **state)
{
    struct shr_args *args = *state;
    assert_int_not_equal(shr_args_set_float(args, "amount", 2, NULL), 0);
    assert_int_not_equal(shr_args_parse(args, "flag", "no", NULL), 0);
    assert_true(args->v[AMOUNT].f == 0.5);
    assert_true(args->v[FLAG].b);
}

static void every_pass_of_the_table_has_valid_defaults_and_help(void **state)
{
    (void)state;
    assert_true(shr_pass_count() > 0);
    assert_null(shr_pass_at(shr_pass_count()));
    assert_null(shr_pass_find("nothing"));
    for (size_t i = 0; i < shr_pass_count(); i++) {
        const struct shr_pass *p = shr_pass_at(i);
        struct shr_args args;
        struct shr_err err = {0};
        assert_ptr_equal(shr_pass_find(p->name), p);
        assert_int_equal(shr_args_init(&args, p, &err), 0);
        for (size_t j = 0; j < p->n_params; j++) {
            assert_true(strlen(p->params[j].help) > 3);
            assert_true((p->params[j].choices != NULL) == (p->params[j].type == SHR_PARAM_ENUM));
        }
        shr_args_finish(&args);
    }
}

/* Expected values are Python's round(amount * n). */
static void amount_rounds_half_to_even(void **state)
{
    (void)state;
    static const struct {
        double amount;
        int64_t n, expected;
    } cases[] = {{0.5, 1, 0}, {0.5, 3, 2},    {0.5, 5, 2}, {0.5, 7, 4},  {0.3, 10, 3},
                 {0.0, 9, 0}, {0.5, 133, 66}, {1.0, 9, 9}, {0.25, 2, 0}, {0.25, 6, 2}};
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_arg amount = {.type = SHR_PARAM_AMOUNT, .f = cases[i].amount};
        int64_t k = -1;
        assert_int_equal(shr_amount_of(&amount, cases[i].n, "weights", &k, NULL), 0);
        assert_int_equal(k, cases[i].expected);
    }
}

static void amount_above_what_there_is_is_an_error(void **state)
{
    (void)state;
    struct shr_arg amount = {.type = SHR_PARAM_AMOUNT, .is_count = true, .i = 11};
    int64_t k = -1;
    ASSERT_FAILS(shr_amount_of(&amount, 10, "weights", &k, &err),
                 "amount: 11 is more than the 10 weights");
    assert_int_equal(k, -1);
}

static void select_takes_the_smallest_and_of_equals_the_first(void **state)
{
    (void)state;
    const double keys[] = {3, 1, 2, 1, INFINITY, 1, 0, -0.0, 1e-310};
    static const unsigned char expected[10][9] = {
        {0, 0, 0, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 1, 0, 0}, {0, 0, 0, 0, 0, 0, 1, 1, 0},
        {0, 0, 0, 0, 0, 0, 1, 1, 1}, {0, 1, 0, 0, 0, 0, 1, 1, 1}, {0, 1, 0, 1, 0, 0, 1, 1, 1},
        {0, 1, 0, 1, 0, 1, 1, 1, 1}, {0, 1, 1, 1, 0, 1, 1, 1, 1}, {1, 1, 1, 1, 0, 1, 1, 1, 1},
        {1, 1, 1, 1, 1, 1, 1, 1, 1}};
    for (int64_t k = 0; k < 10; k++) {
        unsigned char marks[9];
        shr_select_smallest(keys, 9, k, marks);
        assert_memory_equal(marks, expected[k], 9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_are_parsed_from_the_table, setup, teardown),
        cmocka_unit_test_setup_teardown(setters_store_values_of_their_type, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_name_the_field_and_what_it_may_be, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_set_leaves_the_old_value, setup, teardown),
        cmocka_unit_test(every_pass_of_the_table_has_valid_defaults_and_help),
        cmocka_unit_test(amount_rounds_half_to_even),
        cmocka_unit_test(amount_above_what_there_is_is_an_error),
        cmocka_unit_test(select_takes_the_smallest_and_of_equals_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
