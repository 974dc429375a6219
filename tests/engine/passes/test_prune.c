/* passes/prune_unstructured: which weights go, in floats, in quantized and in tied tensors. */
#include "tiny_nets.h"

#include <math.h>

/* x (batch, 4) -> MatMul w1 (4, 2) -> MatMul w2 (2, 4) -> y */
static const double w1[8] = {4, -1, 2, 1, -3, 0.5, 1, -1};
static const double w2[8] = {10, -20, 30, 40, 50, 60, -70, 80};

static struct shr_model *two_layers(void)
{
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *a = tiny_constant(m, "w1", SHR_DTYPE_F32, 2, (int64_t[]){4, 2}, w1);
    struct shr_value *b = tiny_constant(m, "w2", SHR_DTYPE_F32, 2, (int64_t[]){2, 4}, w2);
    struct shr_node *n = tiny_node(m, "MatMul", "first", (struct shr_value *[]){x, a}, 2, "h");
    n = tiny_node(m, "MatMul", "second", (struct shr_value *[]){shr_node_out(n, 0), b}, 2, "y");
    tiny_output(m, n);
    return m;
}

static void prune_takes_the_smallest_of_each_layer_and_leaves_the_model_alone(void **state)
{
    (void)state;
    struct shr_model *m = two_layers(), *r = tiny_run(m, "prune_unstructured", "", NULL, NULL);
    assert_non_null(r);
    tiny_expect(r, "w1", (double[]){4, 0, 2, 0, -3, 0, 0, -1});
    tiny_expect(r, "w2", (double[]){0, 0, 0, 0, 50, 60, -70, 80});
    tiny_expect(m, "w1", w1);
    tiny_expect(m, "w2", w2);
    shr_model_free(r);
    shr_model_free(m);
}

static void prune_ties_go_lowest_index_first(void **state)
{
    (void)state;
    struct shr_model *m = two_layers();
    struct shr_model *r = tiny_run(m, "prune_unstructured", "amount=2", NULL, NULL);
    tiny_expect(r, "w1", (double[]){4, 0, 2, 1, -3, 0, 1, -1});
    shr_model_free(r);
    shr_model_free(m);
}

static void prune_globally_compares_all_tensors(void **state)
{
    (void)state;
    struct shr_model *m = two_layers();
    struct shr_model *r =
        tiny_run(m, "prune_unstructured", "scope=global amount=9 criterion=l2", NULL, NULL);
    tiny_expect(r, "w1", (double[]){0, 0, 0, 0, 0, 0, 0, 0});
    tiny_expect(r, "w2", (double[]){0, -20, 30, 40, 50, 60, -70, 80});
    shr_model_free(r);
    shr_model_free(m);
}

static void prune_twice_by_half_leaves_a_quarter(void **state)
{
    (void)state;
    struct shr_model *m = two_layers();
    struct shr_model *once = tiny_run(m, "prune_unstructured", "amount=0.5", NULL, NULL);
    struct shr_model *twice = tiny_run(once, "prune_unstructured", "amount=0.5", NULL, NULL);
    tiny_expect(twice, "w1", (double[]){4, 0, 0, 0, -3, 0, 0, 0});
    tiny_expect(twice, "w2", (double[]){0, 0, 0, 0, 0, 0, -70, 80});
    shr_model_free(twice);
    shr_model_free(once);
    shr_model_free(m);
}

static int zeros(const struct shr_tensor *t)
{
    int n = 0;
    for (int64_t i = 0; i < shr_tensor_count(t); i++) {
        n += shr_tensor_get(t, i) == 0;
    }
    return n;
}

static void prune_at_random_takes_the_amount_and_repeats_with_the_seed(void **state)
{
    (void)state;
    struct shr_model *m = two_layers();
    struct shr_model *a = tiny_run(m, "prune_unstructured", "criterion=random", NULL, NULL);
    struct shr_model *b = tiny_run(m, "prune_unstructured", "criterion=random", NULL, NULL);
    assert_int_equal(zeros(tiny_tensor(a, "w1")), 4);
    assert_int_equal(zeros(tiny_tensor(a, "w2")), 4);
    assert_memory_equal(tiny_tensor(a, "w1")->data, tiny_tensor(b, "w1")->data, 8 * sizeof(float));
    assert_memory_not_equal(tiny_tensor(a, "w1")->data, tiny_tensor(m, "w1")->data, 32);
    shr_model_free(a);
    shr_model_free(b);
    shr_model_free(m);
}

/* w1 is (K 4, N 2): groups run down the columns 4 2 -3 1 and -1 1 .5 -1. w2 has K = 2 only. */
static void prune_pattern_leaves_n_of_m_along_the_input(void **state)
{
    (void)state;
    struct shr_model *m = two_layers();
    struct shr_model *r = tiny_run(m, "prune_unstructured", "pattern=2:4", NULL, NULL);
    tiny_expect(r, "w1", (double[]){4, 0, 0, 1, -3, 0, 0, -1});
    tiny_expect(r, "w2", w2);
    shr_model_free(r);

    struct shr_err err = {0};
    assert_null(tiny_run(m, "prune_unstructured", "pattern=2:4 scope=global", NULL, &err));
    assert_int_equal(err.code, SHR_ERR_INVALID);
    assert_string_equal(err.msg, "prune_unstructured: pattern: it is a rule for each layer and "
                                 "does not go with scope global");
    shr_model_free(m);
}

/* Blocks of w1 (K 4, N 2) are its rows, of sums 5, 3, 3.5 and 2; of w2 (K 2, N 4) half rows. */
static void prune_in_blocks_takes_neighbouring_outputs(void **state)
{
    (void)state;
    struct shr_model *m = two_layers();
    struct shr_model *r = tiny_run(m, "prune_unstructured", "block=2 amount=0.5", NULL, NULL);
    tiny_expect(r, "w1", (double[]){4, -1, 0, 0, -3, 0.5, 0, 0});
    for (int64_t i = 0; i < 8; i += 2) {
        double a = shr_tensor_get(tiny_tensor(r, "w2"), i);
        assert_true((a == 0) == (shr_tensor_get(tiny_tensor(r, "w2"), i + 1) == 0));
    }
    assert_int_equal(zeros(tiny_tensor(r, "w2")), 4);
    struct shr_model *again = tiny_run(r, "prune_unstructured", "block=2 amount=1", NULL, NULL);
    assert_int_equal(zeros(tiny_tensor(again, "w1")), 6);
    struct shr_err err = {0};
    assert_null(tiny_run(m, "prune_unstructured", "block=2 pattern=2:4", NULL, &err));
    assert_string_equal(err.msg, "prune_unstructured: block: it does not go with a pattern");
    shr_model_free(again);
    shr_model_free(r);
    shr_model_free(m);
}

/* Scales 1 and 100 a column: the integers 1, 2 of the second column are 100 and 200, but the 90
 * of the first is only 90. Zero points 5 and -7. */
static void prune_of_a_quantized_tensor_writes_the_zero_point(void **state)
{
    (void)state;
    const double q[6] = {95, -5, 4, -9, 105, -7};
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 3});
    struct shr_value *in[3] = {
        tiny_constant(m, "q", SHR_DTYPE_I8, 2, (int64_t[]){3, 2}, q),
        tiny_constant(m, "s", SHR_DTYPE_F32, 1, (int64_t[]){2}, (double[]){1, 100}),
        tiny_constant(m, "z", SHR_DTYPE_I8, 1, (int64_t[]){2}, (double[]){5, -7})};
    struct shr_node *dq = tiny_node(m, "DequantizeLinear", "", in, 3, "w");
    struct shr_node *n =
        tiny_node(m, "MatMul", "", (struct shr_value *[]){x, shr_node_out(dq, 0)}, 2, "y");
    tiny_output(m, n);

    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "prune_unstructured", "amount=2", &report, NULL);
    assert_non_null(r);
    tiny_expect(r, "q", (double[]){5, -5, 5, -9, 105, -7}); /* 4 (1) and 95 (90) went */
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "q", "pruned 2 of 5 weights"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

static void prune_works_on_what_dynamic_quantization_made(void **state)
{
    (void)state;
    struct shr_model *m = two_layers();
    struct shr_model *q = tiny_run(m, "quantize_dynamic", "reduce_range=false", NULL, NULL);
    assert_non_null(q);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(q, "prune_unstructured", "amount=4", &report, NULL);
    assert_non_null(r);
    /* Columns (4 2 -3 1) and (-1 1 .5 -1) have absmax 127; the smallest real values go. */
    tiny_expect(r, "w1_quantized", (double[]){127, 0, 64, 0, -95, 0, 32, 0}); /* 32 is 1.008 */
    assert_false(tiny_note(&report, SHR_NOTE_WARNING, "w1_quantized", ""));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(q);
    shr_model_free(m);
}

static void prune_works_on_a_quantized_lstm(void **state)
{
    (void)state;
    struct shr_model *m = tiny_lstm();
    struct shr_model *q = tiny_run(m, "quantize_dynamic", "reduce_range=false", NULL, NULL);
    assert_non_null(q);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(q, "prune_unstructured", "amount=2", &report, NULL);
    assert_non_null(r);
    /* The scales are 1/127 of 2, 0.25, -3, 1 and 2, -1, 4, 2: 0.25 and the first 1 go. */
    tiny_expect(r, "r_quantized", (double[]){127, 0, -127, 0, 127, -127, 127, 127});
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "w_quantized", "pruned 2 of 16 weights"));
    assert_false(tiny_note(&report, SHR_NOTE_WARNING, "r_quantized", ""));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(q);
    shr_model_free(m);
}

static void prune_takes_tied_weights_once(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 2});
    struct shr_value *w =
        tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){2, 2}, (double[]){1, 2, 3, 4});
    struct shr_node *n = tiny_node(m, "MatMul", "a", (struct shr_value *[]){x, w}, 2, "h");
    n = tiny_node(m, "MatMul", "b", (struct shr_value *[]){shr_node_out(n, 0), w}, 2, "y");
    tiny_output(m, n);
    struct shr_model *r = tiny_run(m, "prune_unstructured", "", NULL, NULL);
    tiny_expect(r, "w", (double[]){0, 0, 3, 4});
    shr_model_free(r);
    shr_model_free(m);
}

static void prune_leaves_biases_unless_asked(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *in[3] = {
        tiny_input(m, "x", 2, (int64_t[]){-1, 2}),
        tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){2, 2}, (double[]){1, 2, 3, 4}),
        tiny_constant(m, "b", SHR_DTYPE_F32, 1, (int64_t[]){2}, (double[]){7, -6})};
    tiny_output(m, tiny_node(m, "Gemm", "fc", in, 3, "y"));
    struct shr_model *r = tiny_run(m, "prune_unstructured", "", NULL, NULL);
    tiny_expect(r, "b", (double[]){7, -6});
    shr_model_free(r);
    r = tiny_run(m, "prune_unstructured", "biases=true", NULL, NULL);
    tiny_expect(r, "b", (double[]){7, 0});
    shr_model_free(r);
    shr_model_free(m);
}

static void prune_reports_what_the_filter_left_alone(void **state)
{
    (void)state;
    struct shr_model *m = two_layers();
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "prune_unstructured", "nodes.exclude=sec*", &report, NULL);
    tiny_expect(r, "w2", w2);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "second", "its name is in nodes.exclude"));
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "w1", "pruned 4 of 8 weights by l1"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

static void prune_errors_name_the_tensor_and_the_field(void **state)
{
    (void)state;
    struct shr_model *m = two_layers();
    struct shr_err err = {0};
    assert_null(tiny_run(m, "prune_unstructured", "amount=9", NULL, &err));
    assert_int_equal(err.code, SHR_ERR_INVALID);
    assert_string_equal(err.msg, "prune_unstructured: tensor 'w1': amount: 9 is more than the 8 "
                                 "nonzero weights");
    shr_tensor_set(&shr_graph_find(&m->graph, "w2")->constant, 3, (double)NAN);
    assert_null(tiny_run(m, "prune_unstructured", "", NULL, &err));
    assert_string_equal(err.msg, "prune_unstructured: tensor 'w2': element 3 is not finite");
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prune_takes_the_smallest_of_each_layer_and_leaves_the_model_alone),
        cmocka_unit_test(prune_ties_go_lowest_index_first),
        cmocka_unit_test(prune_globally_compares_all_tensors),
        cmocka_unit_test(prune_twice_by_half_leaves_a_quarter),
        cmocka_unit_test(prune_at_random_takes_the_amount_and_repeats_with_the_seed),
        cmocka_unit_test(prune_pattern_leaves_n_of_m_along_the_input),
        cmocka_unit_test(prune_in_blocks_takes_neighbouring_outputs),
        cmocka_unit_test(prune_of_a_quantized_tensor_writes_the_zero_point),
        cmocka_unit_test(prune_works_on_what_dynamic_quantization_made),
        cmocka_unit_test(prune_works_on_a_quantized_lstm),
        cmocka_unit_test(prune_takes_tied_weights_once),
        cmocka_unit_test(prune_leaves_biases_unless_asked),
        cmocka_unit_test(prune_reports_what_the_filter_left_alone),
        cmocka_unit_test(prune_errors_name_the_tensor_and_the_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
