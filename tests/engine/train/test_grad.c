/* Every backward rule of arithmetic, moves and products against finite differences, and what the
 * builder of training graphs refuses. */
#include <string.h>

#include "gradcheck.h"

#define P(name, ...) build_random(m, name, SHR_DTYPE_F32, DIMS(__VA_ARGS__), -1.0, 1.0, rng)

struct fixture {
    struct shr_rng rng;
};

static struct shr_rng *begin(void **state)
{
    struct shr_rng *rng = &((struct fixture *)*state)->rng;
    shr_rng_init(rng, 5);
    return rng;
}

/* ── One operand ────────────────────────────────────────────────────────────────────────────── */

struct unary {
    const char *op;
    double low, high; /* of x, away from kinks */
};

static void functions_of_one_operand(void **state)
{
    static const struct unary OPS[] = {
        {"Neg", -2, 2},          {"Abs", 0.2, 2},       {"Abs", -2, -0.2},   {"Erf", -2, 2},
        {"Exp", -1, 1},          {"Log", 0.5, 2},       {"Sqrt", 0.5, 2},    {"Reciprocal", 0.5, 2},
        {"Relu", 0.2, 2},        {"Relu", -2, -0.2},    {"Sigmoid", -3, 3},  {"Tanh", -2, 2},
        {"LeakyRelu", -2, -0.2}, {"LeakyRelu", 0.2, 2}, {"Elu", -2, -0.2},   {"Elu", 0.2, 2},
        {"HardSigmoid", -2, 2},  {"HardSigmoid", 3, 4}, {"Softplus", -3, 3}, {"Softmax", -2, 2},
        {"LogSoftmax", -2, 2},   {"Identity", -1, 1},
    };
    struct shr_rng *rng = begin(state);
    for (size_t i = 0; i < sizeof OPS / sizeof *OPS; i++) {
        struct shr_model *m = build_model();
        struct shr_value *p =
            build_random(m, "p", SHR_DTYPE_F32, DIMS(3, 5), OPS[i].low, OPS[i].high, rng);
        build_output(m, build_node(m, OPS[i].op, "y", p, NULL));
        gradcheck_usual(m);
    }
}

static void activations_of_later_opsets(void **state)
{
    static const char *const OPS[] = {"Gelu", "HardSwish"};
    struct shr_rng *rng = begin(state);
    struct shr_err err;
    for (size_t i = 0; i < 2; i++) {
        struct shr_model *m = build_model();
        assert_int_equal(shr_model_import(m, "", 20, &err), 0);
        struct shr_value *p = build_random(m, "p", SHR_DTYPE_F32, DIMS(24), -2.9, 2.9, rng);
        build_output(m, build_node(m, OPS[i], "y", p, NULL));
        gradcheck_usual(m);
    }
}

static void a_clip_lets_through_what_it_leaves(void **state)
{
    struct shr_rng *rng = begin(state);
    static const double RANGES[][2] = {{-0.4, 0.4}, {0.6, 1}, {-1, -0.6}};
    for (size_t i = 0; i < 3; i++) {
        struct shr_model *m = build_model();
        struct shr_value *p =
            build_random(m, "p", SHR_DTYPE_F32, DIMS(7), RANGES[i][0], RANGES[i][1], rng);
        struct shr_value *low = build_scalar(m, "low", SHR_DTYPE_F32, -0.5);
        struct shr_value *high = build_scalar(m, "high", SHR_DTYPE_F32, 0.5);
        build_output(m, build_node(m, "Clip", "y", p, low, high, NULL));
        gradcheck_usual(m);
    }
}

static void a_softmax_along_any_axis(void **state)
{
    struct shr_rng *rng = begin(state);
    for (int64_t axis = 0; axis < 3; axis++) {
        for (int log_form = 0; log_form < 2; log_form++) {
            struct shr_model *m = build_model();
            struct shr_value *p = P("p", 2, 3, 4);
            build_output(m, build_node(m, log_form ? "LogSoftmax" : "Softmax", "y", p, NULL));
            build_int(m, "axis", axis);
            gradcheck_usual(m);
        }
    }
}

/* ── Two operands ───────────────────────────────────────────────────────────────────────────── */

static void arithmetic_sums_over_what_was_broadcast(void **state)
{
    static const char *const OPS[] = {"Add", "Sub", "Mul", "Div", "Pow", "Sum"};
    struct shr_rng *rng = begin(state);
    for (size_t i = 0; i < 6; i++) {
        for (int shape = 0; shape < 4; shape++) {
            struct shr_model *m = build_model();
            const int64_t *const a[] = {DIMS(2, 3, 4), DIMS(4), DIMS(2, 1, 4), DIMS(3, 1)};
            const int64_t *const b[] = {DIMS(2, 3, 4), DIMS(2, 3, 4), DIMS(3, 1), DIMS(1)};
            struct shr_value *x = build_random(m, "pa", SHR_DTYPE_F32, a[shape], 0.5, 1.5, rng);
            struct shr_value *y = build_random(m, "pb", SHR_DTYPE_F32, b[shape], 0.5, 1.5, rng);
            build_output(m, build_node(m, OPS[i], "y", x, y, NULL));
            gradcheck_usual(m);
        }
    }
}

static void a_choice_leads_to_what_was_chosen(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    struct shr_value *c = build_random(m, "c", SHR_DTYPE_BOOL, DIMS(3, 4), 0, 2, rng);
    build_output(m, build_node(m, "Where", "y", c, P("pa", 4), P("pb", 3, 1), NULL));
    gradcheck_usual(m);
}

static void a_value_that_many_read_gets_the_sum(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    struct shr_value *p = P("p", 6), *q = build_node(m, "Tanh", "q", p, NULL);
    struct shr_value *r = build_node(m, "Mul", "r", q, q, NULL);
    build_output(m, build_node(m, "Add", "y", build_node(m, "Mul", "s", r, p, NULL), q, NULL));
    build_output(m, q);
    gradcheck_usual(m);
}

static void one_gradient_of_two_parameters(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    build_output(m, build_node(m, "Add", "y", P("pa", 6), P("pb", 6), NULL));
    gradcheck_usual(m);
}

/* ── Products ───────────────────────────────────────────────────────────────────────────────── */

static void matrices_transposed_or_not(void **state)
{
    struct shr_rng *rng = begin(state);
    for (int t = 0; t < 4; t++) {
        const bool ta = t % 2, tb = t / 2;
        struct shr_model *m = build_model();
        struct shr_value *a =
            build_random(m, "pa", SHR_DTYPE_F32, ta ? DIMS(4, 3) : DIMS(3, 4), -1, 1, rng);
        struct shr_value *b =
            build_random(m, "pb", SHR_DTYPE_F32, tb ? DIMS(5, 4) : DIMS(4, 5), -1, 1, rng);
        struct shr_value *c = build_random(m, "pc", SHR_DTYPE_F32,
                                           t == 0   ? DIMS(5)
                                           : t == 1 ? DIMS(3, 1)
                                           : t == 2 ? DIMS(1)
                                                    : DIMS(3, 5),
                                           -1, 1, rng);
        struct shr_err err;
        build_output(m, build_node(m, "Gemm", "y", a, b, c, NULL));
        build_int(m, "transA", ta);
        build_int(m, "transB", tb);
        if (t > 0) {
            struct shr_node *node = build_last(m);
            assert_int_equal(shr_node_set_float(&m->graph, node, "alpha", 0.5f, &err), 0);
            assert_int_equal(shr_node_set_float(&m->graph, node, "beta", 2.0f, &err), 0);
        }
        gradcheck_usual(m);
    }
}

static void stacks_of_matrices(void **state)
{
    struct shr_rng *rng = begin(state);
    const int64_t *const A[] = {DIMS(3, 4), DIMS(2, 3, 4), DIMS(2, 3, 4), DIMS(2, 1, 3, 4)};
    const int64_t *const B[] = {DIMS(4, 5), DIMS(4, 5), DIMS(2, 4, 5), DIMS(2, 4, 5)};
    for (int i = 0; i < 4; i++) {
        struct shr_model *m = build_model();
        struct shr_value *a = build_random(m, "pa", SHR_DTYPE_F32, A[i], -1, 1, rng);
        struct shr_value *b = build_random(m, "pb", SHR_DTYPE_F32, B[i], -1, 1, rng);
        build_output(m, build_node(m, "MatMul", "y", a, b, NULL));
        gradcheck_usual(m);
    }
}

/* ── Moves ──────────────────────────────────────────────────────────────────────────────────── */

static void moves_lead_back(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    struct shr_value *t = build_node(m, "Transpose", "t", P("p", 2, 3, 4), NULL);
    build_ints(m, "perm", (const int64_t[]){1, 2, 0}, 3);
    struct shr_value *f = build_node(m, "Flatten", "f", t, NULL);
    struct shr_value *r =
        build_node(m, "Reshape", "r", f, build_i64(m, "s", (const int64_t[]){2, -1, 3}, 3), NULL);
    struct shr_value *e =
        build_node(m, "Expand", "e", r, build_i64(m, "to", (const int64_t[]){2, 2, 1, 1}, 4), NULL);
    build_output(m, build_node(m, "Tanh", "y", e, NULL));
    gradcheck_usual(m);
}

static void joined_and_split(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    struct shr_value *c =
        build_node(m, "Concat", "c", P("pa", 2, 3), P("pb", 2, 1), P("pc", 2, 2), NULL);
    build_int(m, "axis", 1);
    struct shr_value *sizes = build_i64(m, "sizes", (const int64_t[]){2, 3, 1}, 3), *out[3];
    struct shr_value *in[] = {build_node(m, "Tanh", "t", c, NULL), sizes};
    struct shr_err err;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            shr_graph_add_value(&m->graph, (const char *[]){"u", "v", "w"}[i], &out[i], &err), 0);
    }
    assert_int_equal(
        shr_graph_add_node(&m->graph, NULL, "", "Split", "s", in, 2, out, 3, NULL, &err), 0);
    build_int(m, "axis", 1);
    build_output(m, build_node(m, "Tanh", "y", out[1], NULL));
    build_output(m, out[2]);
    gradcheck_usual(m);
}

static void slices_of_any_step(void **state)
{
    struct shr_rng *rng = begin(state);
    static const int64_t START[][2] = {{1, 0}, {-1, 3}, {0, -3}},
                         END[][2] = {{4, 9}, {-9, 0}, {9, -1}};
    static const int64_t STEP[][2] = {{1, 2}, {-2, -1}, {3, 1}};
    for (int i = 0; i < 3; i++) {
        struct shr_model *m = build_model();
        struct shr_value *y = build_node(
            m, "Slice", "y", P("p", 5, 6), build_i64(m, "start", START[i], 2),
            build_i64(m, "end", END[i], 2), build_i64(m, "axes", (const int64_t[]){0, 1}, 2),
            build_i64(m, "step", STEP[i], 2), NULL);
        build_output(m, y);
        gradcheck_usual(m);
    }
}

static void rows_that_were_gathered_twice(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    struct shr_value *index = build_i64(m, "i", (const int64_t[]){2, 0, 2, -1}, 4);
    build_output(m, build_node(m, "Gather", "y", P("p", 3, 4, 2), index, NULL));
    build_int(m, "axis", 1);
    gradcheck_usual(m);
}

static void sums_and_means_spread(void **state)
{
    static const char *const OPS[] = {"ReduceSum", "ReduceMean"};
    struct shr_rng *rng = begin(state);
    for (int i = 0; i < 8; i++) {
        const bool mean = i % 2, keep = i / 2 % 2, all = i / 4;
        const int64_t axes[] = {0, -1};
        struct shr_model *m = build_model();
        struct shr_value *p = P("p", 2, 3, 4);
        struct shr_value *y =
            all || mean ? build_node(m, OPS[mean], "y", p, NULL)
                        : build_node(m, OPS[mean], "y", p, build_i64(m, "axes", axes, 2), NULL);
        build_int(m, "keepdims", keep);
        if (mean && !all) {
            build_ints(m, "axes", axes, 2);
        }
        build_output(m, build_node(m, "Tanh", "z", y, NULL));
        gradcheck_usual(m);
    }
}

/* ── A network, and refusals ────────────────────────────────────────────────────────────────── */

static void a_network_of_two_layers(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(6, 5));
    struct shr_value *h = build_node(m, "Gemm", "h", x, P("pw1", 7, 5), P("pb1", 7), NULL);
    build_int(m, "transB", 1);
    struct shr_value *r = build_node(m, "Tanh", "r", h, NULL);
    build_output(m, build_node(m, "LogSoftmax", "y",
                               build_node(m, "Gemm", "l", r, P("pw2", 7, 3), P("pb2", 3), NULL),
                               NULL));
    gradcheck_usual(m);
}

static struct shr_value *no_loss(struct shr_grad *g, void *user)
{
    (void)user;
    struct shr_value *y = shr_graph_find(&g->model->graph, "y");
    shr_grad_add(g, y, y);
    return y;
}

static int refuse(struct shr_model *m, const char *param, struct shr_err *err)
{
    struct shr_autograd a;
    shr_model_resolve(m);
    int rc = shr_autograd_init(
        &a, m, &(struct shr_autograd_opts){.params = &param, .n_params = 1, .loss = no_loss}, err);
    assert_int_not_equal(rc, 0);
    shr_model_free(m);
    return rc;
}

static void an_operator_without_gradient_is_named(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    struct shr_err err = {0};
    build_output(m, build_node(m, "Ceil", "y", P("p", 3), NULL));
    build_last(m)->name = "up";
    assert_int_equal(refuse(m, "p", &err), SHR_ERR_UNSUPPORTED);
    assert_string_equal(err.msg, "Ceil 'up': the operator has no gradient: what lies in front "
                                 "cannot be trained");
}

static void an_operator_behind_no_parameter_needs_no_gradient(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(3));
    build_output(m,
                 build_node(m, "Mul", "y", build_node(m, "Ceil", "c", x, NULL), P("p", 3), NULL));
    gradcheck_usual(m);
}

static void a_parameter_that_is_not_there_is_named(void **state)
{
    struct shr_rng *rng = begin(state);
    struct shr_model *m = build_model();
    struct shr_err err = {0};
    build_output(m, build_node(m, "Tanh", "y", P("p", 3), NULL));
    assert_int_equal(refuse(m, "q", &err), SHR_ERR_NOT_FOUND);
    assert_string_equal(err.msg, "the model has no float32 initializer q");
}

int main(void)
{
    static struct fixture fixture;
#define TEST(name) cmocka_unit_test_prestate(name, &fixture)
    const struct CMUnitTest tests[] = {
        TEST(functions_of_one_operand),
        TEST(activations_of_later_opsets),
        TEST(a_clip_lets_through_what_it_leaves),
        TEST(a_softmax_along_any_axis),
        TEST(arithmetic_sums_over_what_was_broadcast),
        TEST(a_choice_leads_to_what_was_chosen),
        TEST(a_value_that_many_read_gets_the_sum),
        TEST(one_gradient_of_two_parameters),
        TEST(matrices_transposed_or_not),
        TEST(stacks_of_matrices),
        TEST(moves_lead_back),
        TEST(joined_and_split),
        TEST(slices_of_any_step),
        TEST(rows_that_were_gathered_twice),
        TEST(sums_and_means_spread),
        TEST(a_network_of_two_layers),
        TEST(an_operator_without_gradient_is_named),
        TEST(an_operator_behind_no_parameter_needs_no_gradient),
        TEST(a_parameter_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
