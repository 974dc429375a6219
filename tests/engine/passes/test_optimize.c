/* passes/optimize: fewer operators, the same function, untouched what is shared. */
#include "tiny.h"

#include <math.h>

#include "exec/plan.h"

/* Runs a model of one input of rows x width on a fixed ramp; returns the outputs. */
static void run_model(const struct shr_model *m, int64_t batch, float *out, int64_t n)
{
    struct shr_plan *plan = NULL;
    struct shr_err err = {0};
    if (shr_plan_new(m, &(struct shr_plan_opts){.batch = batch}, &plan, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    struct shr_tensor *in = shr_plan_input(plan, 0);
    for (int64_t i = 0; i < shr_tensor_count(in); i++) {
        shr_tensor_set(in, i, (double)(i * 37 % 19) / 4 - 2);
    }
    assert_int_equal(shr_plan_run(plan, NULL, &err), 0);
    assert_int_equal(shr_tensor_count(shr_plan_output(plan, 0)), n);
    memcpy(out, shr_plan_output(plan, 0)->data, (size_t)n * sizeof *out);
    shr_plan_free(plan);
}

/* Optimizes, compares what both compute, and returns the optimized model. */
static struct shr_model *optimize(const struct shr_model *m, int64_t n, const char *arguments)
{
    float before[256], after[256];
    struct shr_err err = {0};
    struct shr_model *r = tiny_run(m, "optimize", arguments, NULL, &err);
    if (r == NULL) {
        fail_msg("%s", err.msg);
    }
    run_model(m, 2, before, n);
    run_model(r, 2, after, n);
    for (int64_t i = 0; i < n; i++) {
        assert_true(fabsf(before[i] - after[i]) <= 1e-5f * (1 + fabsf(before[i])));
    }
    return r;
}

static size_t count_ops(const struct shr_model *m, const char *op)
{
    size_t n = 0;
    SHR_EACH_NODE (node, &m->graph) {
        n += strcmp(node->op_type, op) == 0;
    }
    return n;
}

static const double ramp[64] = {1, -2, 3, 0.5,  -1, 2, 0.25, -3, 1, 2, -1, 4, 2, -0.5, 1, 1,
                                2, 1,  4, -0.5, 1,  3, 0.75, -1, 2, 1, -2, 3, 1, -1.5, 2, 4};
static const double positive[8] = {1, 2, 0.5, 3, 1.5, 0.25, 4, 1};

static struct shr_node *batchnorm(struct shr_model *m, struct shr_value *x, int64_t channels,
                                  const char *out)
{
    const int64_t *dim = &channels;
    struct shr_value *in[5] = {x, tiny_constant(m, "gamma", SHR_DTYPE_F32, 1, dim, ramp),
                               tiny_constant(m, "beta", SHR_DTYPE_F32, 1, dim, ramp + 3),
                               tiny_constant(m, "mean", SHR_DTYPE_F32, 1, dim, ramp + 5),
                               tiny_constant(m, "var", SHR_DTYPE_F32, 1, dim, positive)};
    return tiny_node(m, "BatchNormalization", "bn", in, 5, out);
}

static void batchnorm_goes_into_conv_that_had_no_bias(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *in[2] = {
        tiny_input(m, "x", 4, (int64_t[]){-1, 2, 4, 4}),
        tiny_constant(m, "w", SHR_DTYPE_F32, 4, (int64_t[]){3, 2, 2, 2}, ramp)};
    struct shr_node *n = tiny_node(m, "Conv", "conv", in, 2, "c");
    tiny_output(m, batchnorm(m, shr_node_out(n, 0), 3, "y"));
    struct shr_model *r = optimize(m, 2 * 3 * 9, "");
    assert_int_equal(r->graph.n_nodes, 1);
    assert_int_equal(r->graph.first_node->n_in, 3);
    assert_string_equal(r->graph.outputs[0]->name, "y");
    assert_null(shr_graph_find(&r->graph, "gamma"));
    tiny_expect(m, "w", ramp);
    shr_model_free(r);
    shr_model_free(m);
}

static void batchnorm_goes_into_gemm_with_beta_and_leaves_shared_weights_alone(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *w = tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, ramp);
    struct shr_value *b = tiny_constant(m, "b", SHR_DTYPE_F32, 2, (int64_t[]){1, 4}, ramp + 7);
    struct shr_node *n = tiny_node(m, "Gemm", "fc", (struct shr_value *[]){x, w, b}, 3, "g");
    assert_int_equal(shr_node_set_float(&m->graph, n, "beta", 0.5f, NULL), 0);
    assert_int_equal(shr_node_set_float(&m->graph, n, "alpha", 2, NULL), 0);
    assert_int_equal(shr_node_set_int(&m->graph, n, "transB", 1, NULL), 0);
    n = batchnorm(m, shr_node_out(n, 0), 4, "h");
    tiny_output(
        m, tiny_node(m, "MatMul", "again", (struct shr_value *[]){shr_node_out(n, 0), w}, 2, "y"));
    struct shr_model *r = optimize(m, 8, "");
    assert_int_equal(count_ops(r, "BatchNormalization"), 0);
    tiny_expect(r, "w", ramp);
    shr_model_free(r);
    shr_model_free(m);
}

static void batchnorm_goes_into_matmul_and_add_without_fusing_them(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *w = tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, ramp);
    struct shr_value *b = tiny_constant(m, "b", SHR_DTYPE_F32, 1, (int64_t[]){4}, ramp + 7);
    struct shr_node *n = tiny_node(m, "MatMul", "mm", (struct shr_value *[]){x, w}, 2, "p");
    n = tiny_node(m, "Add", "add", (struct shr_value *[]){b, shr_node_out(n, 0)}, 2, "s");
    tiny_output(m, batchnorm(m, shr_node_out(n, 0), 4, "y"));
    struct shr_model *r = optimize(m, 8, "fuse=false");
    assert_int_equal(r->graph.n_nodes, 2);
    shr_model_free(r);

    r = optimize(m, 8, "fold_batchnorm=false");
    assert_int_equal(count_ops(r, "Gemm"), 1);
    assert_int_equal(r->graph.n_nodes, 2);
    shr_model_free(r);
    shr_model_free(m);
}

static void batchnorm_stays_when_others_read_before_it(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *w = tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, ramp);
    struct shr_value *p =
        shr_node_out(tiny_node(m, "MatMul", "mm", (struct shr_value *[]){x, w}, 2, "p"), 0);
    struct shr_node *n = batchnorm(m, p, 4, "n");
    tiny_output(m,
                tiny_node(m, "Add", "add", (struct shr_value *[]){shr_node_out(n, 0), p}, 2, "y"));
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "optimize", "", &report, NULL);
    assert_int_equal(count_ops(r, "BatchNormalization"), 1);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "bn", "no Conv, Gemm or MatMul"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

static void constants_are_computed_once(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *a = tiny_constant(m, "a", SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, ramp);
    struct shr_value *b = tiny_constant(m, "b", SHR_DTYPE_F32, 1, (int64_t[]){4}, ramp);
    struct shr_node *n = tiny_node(m, "Add", "sum", (struct shr_value *[]){a, b}, 2, "ab");
    struct shr_value *ab = shr_node_out(n, 0);
    n = tiny_node(m, "Transpose", "turn", &ab, 1, "w");
    tiny_output(
        m, tiny_node(m, "MatMul", "mm", (struct shr_value *[]){x, shr_node_out(n, 0)}, 2, "y"));
    struct shr_model *r = optimize(m, 8, "");
    assert_int_equal(r->graph.n_nodes, 1);
    assert_true(shr_tensor_get(tiny_tensor(r, "w"), 4) == ramp[1] + ramp[1]);
    assert_null(shr_graph_find(&r->graph, "a"));
    shr_model_free(r);

    r = optimize(m, 8, "drop_unused=false");
    assert_non_null(shr_graph_find(&r->graph, "a"));
    shr_model_free(r);
    r = optimize(m, 8, "fold_constants=false");
    assert_int_equal(r->graph.n_nodes, 3);
    shr_model_free(r);
    shr_model_free(m);
}

static void constants_that_cannot_be_computed_stay(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *v = tiny_constant(m, "a", SHR_DTYPE_F64, 1, (int64_t[]){4}, ramp);
    v = shr_node_out(tiny_node(m, "Softmax", "softmax", &v, 1, "e"), 0);
    struct shr_node *n = tiny_node(m, "Cast", "cast", &v, 1, "c");
    assert_int_equal(shr_node_set_int(&m->graph, n, "to", SHR_DTYPE_F32, NULL), 0);
    tiny_output(m,
                tiny_node(m, "Add", "add", (struct shr_value *[]){x, shr_node_out(n, 0)}, 2, "y"));
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "optimize", "", &report, NULL);
    assert_non_null(r);
    assert_int_equal(count_ops(r, "Softmax"), 1);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "", "of type float64"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

/* The rank of what an unknown operator gives is not known, so nobody has checked them. */
static void hostile_permutations_are_not_followed(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *v = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    v = shr_node_out(tiny_node(m, "NoSuchOperator", "odd", &v, 1, "o"), 0);
    struct shr_node *n = tiny_node(m, "Transpose", "t1", &v, 1, "u");
    assert_int_equal(shr_node_set_ints(&m->graph, n, "perm", (int64_t[]){1, 0}, 2, NULL), 0);
    v = shr_node_out(n, 0);
    n = tiny_node(m, "Transpose", "t2", &v, 1, "v");
    const int64_t hostile[2] = {INT64_C(1) << 40, -7};
    assert_int_equal(shr_node_set_ints(&m->graph, n, "perm", hostile, 2, NULL), 0);
    tiny_output(m, n);
    struct shr_model *r = tiny_run(m, "optimize", "", NULL, NULL);
    assert_non_null(r);
    assert_int_equal(count_ops(r, "Transpose"), 2);
    shr_model_free(r);
    shr_model_free(m);
}

static void idle_nodes_and_undone_transposes_go(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *v = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    v = shr_node_out(tiny_node(m, "Identity", "id", &v, 1, "i"), 0);
    v = shr_node_out(tiny_node(m, "Relu", "relu", &v, 1, "r"), 0);
    struct shr_node *n = tiny_node(m, "Transpose", "t1", &v, 1, "u");
    assert_int_equal(shr_node_set_ints(&m->graph, n, "perm", (int64_t[]){1, 0}, 2, NULL), 0);
    v = shr_node_out(n, 0);
    n = tiny_node(m, "Transpose", "t2", &v, 1, "v");
    assert_int_equal(shr_node_set_ints(&m->graph, n, "perm", (int64_t[]){1, 0}, 2, NULL), 0);
    v = shr_node_out(n, 0);
    v = shr_node_out(tiny_node(m, "Flatten", "flat", &v, 1, "f"), 0);
    tiny_output(m, tiny_node(m, "Dropout", "drop", &v, 1, "y"));
    struct shr_model *r = optimize(m, 8, "");
    assert_int_equal(r->graph.n_nodes, 1);
    assert_string_equal(r->graph.first_node->op_type, "Relu");
    assert_string_equal(r->graph.outputs[0]->name, "y");
    shr_model_free(r);
    shr_model_free(m);
}

static void identity_between_input_and_output_stays(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *v = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    tiny_output(m, tiny_node(m, "Identity", "id", &v, 1, "y"));
    struct shr_model *r = optimize(m, 8, "");
    assert_int_equal(r->graph.n_nodes, 1);
    shr_model_free(r);
    shr_model_free(m);
}

static void unknown_operators_do_not_stop_it(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *v = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    v = shr_node_out(tiny_node(m, "Identity", "id", &v, 1, "i"), 0);
    tiny_output(m, tiny_node(m, "NoSuchOperator", "odd", &v, 1, "y"));
    struct shr_model *r = tiny_run(m, "optimize", "", NULL, NULL);
    assert_non_null(r);
    assert_int_equal(r->graph.n_nodes, 1);
    shr_model_free(r);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batchnorm_goes_into_conv_that_had_no_bias),
        cmocka_unit_test(batchnorm_goes_into_gemm_with_beta_and_leaves_shared_weights_alone),
        cmocka_unit_test(batchnorm_goes_into_matmul_and_add_without_fusing_them),
        cmocka_unit_test(batchnorm_stays_when_others_read_before_it),
        cmocka_unit_test(constants_are_computed_once),
        cmocka_unit_test(constants_that_cannot_be_computed_stay),
        cmocka_unit_test(hostile_permutations_are_not_followed),
        cmocka_unit_test(idle_nodes_and_undone_transposes_go),
        cmocka_unit_test(identity_between_input_and_output_stays),
        cmocka_unit_test(unknown_operators_do_not_stop_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
