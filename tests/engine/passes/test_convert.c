/* passes/convert: which weights are stored in 16 bits, and what stays float32 and why. */
#include "tiny_nets.h"

#include <math.h>

/* y = x w, with w (2, 2) */
static struct shr_model *product(const double *w)
{
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 2});
    struct shr_value *in[] = {x, tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){2, 2}, w)};
    tiny_output(m, tiny_node(m, "MatMul", "product", in, 2, "y"));
    return m;
}

static void expect_float(const double *w, const char *arguments, const char *why)
{
    struct shr_report report = {0};
    struct shr_model *m = product(w), *r = tiny_run(m, "convert", arguments, &report, NULL);
    assert_non_null(r);
    assert_int_equal(tiny_tensor(r, "w")->dtype, SHR_DTYPE_F32);
    assert_int_equal(r->graph.n_nodes, 1);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "w", why));
    assert_true(tiny_note(&report, SHR_NOTE_WARNING, "", "nothing was converted"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

static void weights_are_rounded_to_the_nearest_even_half(void **state)
{
    (void)state;
    /* Steps of float16 are 2^-10 at 1: a tie goes to the even one. */
    struct shr_model *m = product((double[]){1 + 0x1p-11, 1 + 3 * 0x1p-11, -0.5, 65504});
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "convert", "min_elements=1", &report, NULL);
    assert_non_null(r);
    assert_int_equal(tiny_tensor(r, "w_float16")->dtype, SHR_DTYPE_F16);
    tiny_expect(r, "w_float16", (double[]){1, 1 + 0x1p-9, -0.5, 65504});
    assert_null(shr_graph_find(&r->graph, "w"));
    assert_string_equal(r->graph.first_node->op_type, "Cast");
    assert_int_equal(shr_node_int(r->graph.first_node, "to", 0), SHR_DTYPE_F32);
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "w", "stored as float16"));
    assert_int_equal(tiny_tensor(m, "w")->dtype, SHR_DTYPE_F32);
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

static void bfloat16_holds_what_float16_cannot(void **state)
{
    (void)state;
    const double w[] = {1e30, -1e30, 2e30, 1e29};
    expect_float(w, "min_elements=1", "too large");
    struct shr_model *m = product(w);
    struct shr_model *r = tiny_run(m, "convert", "min_elements=1 type=bfloat16", NULL, NULL);
    assert_non_null(r);
    const struct shr_tensor *t = tiny_tensor(r, "w_bfloat16");
    assert_int_equal(t->dtype, SHR_DTYPE_BF16);
    for (int i = 0; i < 4; i++) {
        const double error = shr_tensor_get(t, i) / w[i] - 1;
        assert_true(error < 0x1p-8 && error > -0x1p-8);
    }
    shr_model_free(r);
    shr_model_free(m);
}

static void what_does_not_fit_stays_float32_with_the_reason(void **state)
{
    (void)state;
    expect_float((double[]){1, 2, 65520, 4}, "min_elements=1", "too large");
    expect_float((double[]){1e-8, 2e-8, -1e-8, 3e-8}, "min_elements=1", "too small");
    expect_float((double[]){1, (double)NAN, 2, 3}, "min_elements=1", "not finite");
    expect_float((double[]){1, (double)INFINITY, 2, 3}, "type=bfloat16 min_elements=1",
                 "not finite");
}

static void zeros_are_exact_and_small_constants_stay(void **state)
{
    (void)state;
    struct shr_model *m = product((double[]){0, 0, 0, 0});
    struct shr_model *r = tiny_run(m, "convert", "min_elements=4", NULL, NULL);
    tiny_expect(r, "w_float16", (double[]){0, 0, 0, 0});
    shr_model_free(r);
    r = tiny_run(m, "convert", "min_elements=5", NULL, NULL);
    assert_int_equal(tiny_tensor(r, "w")->dtype, SHR_DTYPE_F32);
    shr_model_free(r);
    shr_model_free(m);
}

static void a_tied_weight_is_stored_once(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *w = tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, tiny_ramp);
    struct shr_value *h = tiny_node(m, "MatMul", "a", (struct shr_value *[]){x, w}, 2, "h")->out[0];
    tiny_output(m, tiny_node(m, "MatMul", "b", (struct shr_value *[]){h, w}, 2, "y"));
    struct shr_model *r = tiny_run(m, "convert", "min_elements=1", NULL, NULL);
    assert_non_null(r);
    assert_int_equal(r->graph.n_nodes, 3);
    assert_int_equal(r->graph.first_node->out[0]->n_uses, 2);
    shr_model_free(r);
    shr_model_free(m);
}

static void weights_that_others_may_see_stay(void **state)
{
    (void)state;
    struct shr_model *m = product(tiny_ramp);
    assert_int_equal(shr_graph_add_input(&m->graph, shr_graph_find(&m->graph, "w"), NULL), 0);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "convert", "min_elements=1", &report, NULL);
    assert_non_null(r);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "w", "callers may replace"));
    assert_int_equal(tiny_tensor(r, "w")->dtype, SHR_DTYPE_F32);
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_rounded_to_the_nearest_even_half),
        cmocka_unit_test(bfloat16_holds_what_float16_cannot),
        cmocka_unit_test(what_does_not_fit_stays_float32_with_the_reason),
        cmocka_unit_test(zeros_are_exact_and_small_constants_stay),
        cmocka_unit_test(a_tied_weight_is_stored_once),
        cmocka_unit_test(weights_that_others_may_see_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
