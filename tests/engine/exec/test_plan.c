/* Plans of small graphs: binding, folding, memory, running. */
#include "build.h"

#include <stdio.h>
#include <string.h>

static int count_lines(const char *text)
{
    int n = 0;
    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

/* x [N, 2] → MatMul [2, 2] → Add → Relu, by hand. */
static struct shr_model *small_linear(void)
{
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 2));
    struct shr_value *w = build_f32(m, "w", DIMS(2, 2), (const float[]){1, 2, 3, -4});
    struct shr_value *b = build_f32(m, "b", DIMS(2), (const float[]){0.5f, -1});
    struct shr_value *y = build_node(m, "MatMul", "product", x, w, NULL);
    y = build_node(m, "Add", "sum", y, b, NULL);
    build_output(m, build_node(m, "Relu", "y", y, NULL));
    return m;
}

static void runs_a_linear_layer(void **state)
{
    (void)state;
    struct shr_model *m = small_linear();
    for (int no_fuse = 0; no_fuse < 2; no_fuse++) {
        struct shr_plan *plan =
            build_plan(m, &(struct shr_plan_opts){.batch = 2, .no_fuse = no_fuse != 0});
        assert_int_equal(shr_plan_input_count(plan), 1);
        assert_string_equal(shr_plan_input_name(plan, 0), "x");
        memcpy(shr_plan_input(plan, 0)->data, (const float[]){1, 2, -1, -2}, 4 * sizeof(float));
        build_run(plan);
        const struct shr_tensor *y = shr_plan_output(plan, 0);
        const float expected[] = {7.5f, 0, 0, 5};
        assert_int_equal(y->dim[0], 2);
        assert_memory_equal(y->data, expected, sizeof expected);
        struct shr_buf text = build_print(plan);
        assert_int_equal(count_lines(shr_buf_str(&text)), no_fuse ? 3 : 1);
        shr_buf_finish(&text);
        shr_plan_free(plan);
    }
    shr_model_free(m);
}

static void binds_the_batch_wherever_its_symbol_stands(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 3));
    struct shr_value *h = build_input(m, "h", SHR_DTYPE_F32, DIMS(1, -1, 3));
    x->type.sym[0] = h->type.sym[1] = "N";
    build_output(m, build_node(m, "Relu", "y", x, NULL));
    build_output(m, build_node(m, "Relu", "z", h, NULL));
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){.batch = 5});
    assert_int_equal(shr_plan_output(plan, 0)->dim[0], 5);
    assert_int_equal(shr_plan_output(plan, 1)->dim[1], 5);
    shr_plan_free(plan);

    struct shr_err err = {0};
    h->type.sym[1] = "T";
    assert_int_equal(shr_plan_new(m, &(struct shr_plan_opts){.batch = 5}, &plan, &err),
                     SHR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "input h: dimension 1 (T)"));
    shr_model_free(m);
}

static void folds_what_is_constant(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(1, 2));
    struct shr_value *a = build_f32(m, "a", DIMS(2), (const float[]){1, 2});
    struct shr_value *b = build_f32(m, "b", DIMS(2), (const float[]){10, 20});
    struct shr_value *c = build_node(m, "Add", "c", a, b, NULL);
    struct shr_value *d = build_node(m, "Mul", "d", c, c, NULL);
    build_output(m, d);
    build_output(m, build_node(m, "Add", "y", x, d, NULL));
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){.batch = 1});
    struct shr_buf text = build_print(plan);
    assert_int_equal(count_lines(shr_buf_str(&text)), 1);
    shr_buf_finish(&text);
    memcpy(shr_plan_input(plan, 0)->data, (const float[]){1, 1}, 2 * sizeof(float));
    build_run(plan);
    const float constant[] = {121, 484}, sum[] = {122, 485};
    assert_memory_equal(shr_plan_output(plan, 0)->data, constant, sizeof constant);
    assert_memory_equal(shr_plan_output(plan, 1)->data, sum, sizeof sum);
    shr_plan_free(plan);
    shr_model_free(m);
}

/* Shape, and arithmetic on it: known once the batch is bound. */
static void folds_arithmetic_on_shapes(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 2, 3));
    struct shr_value *shape = build_node(m, "Shape", "shape", x, NULL);
    struct shr_value *zeros = build_i64(m, "zeros", (const int64_t[]){0, 0, 1}, 3);
    struct shr_value *to = build_node(m, "Mul", "to", shape, zeros, NULL); /* [0, 0, 3] */
    struct shr_value *y = build_node(m, "Reshape", "same", x, to, NULL);
    build_output(m, build_node(m, "Relu", "y", y, NULL));
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){.batch = 4});
    assert_int_equal(shr_plan_output(plan, 0)->rank, 3);
    assert_int_equal(shr_plan_output(plan, 0)->dim[0], 4);
    struct shr_buf text = build_print(plan);
    assert_int_equal(count_lines(shr_buf_str(&text)), 1); /* the Reshape is a view */
    shr_buf_finish(&text);
    shr_plan_free(plan);
    shr_model_free(m);
}

/* Random elementwise graphs of diamonds and views; *ret_names gets every value. */
static struct shr_model *random_graph(struct shr_rng *rng, size_t n, const char **names)
{
    static const char *const UNARY[] = {"Relu", "Abs", "Tanh"};
    static const char *const BINARY[] = {"Add", "Mul", "Sub"};
    struct shr_model *m = build_model();
    struct shr_value *made[64];
    made[0] = build_input(m, "x", SHR_DTYPE_F32, DIMS(2, 12));
    struct shr_value *wide = build_i64(m, "wide", (const int64_t[]){2, 12}, 2);
    struct shr_value *tall = build_i64(m, "tall", (const int64_t[]){12, 2}, 2);
    for (size_t i = 1; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%zu", i);
        struct shr_value *a = made[shr_rng_below(rng, i)], *b = made[shr_rng_below(rng, i)];
        switch (shr_rng_below(rng, 4)) {
        case 0:
            made[i] = build_node(m, UNARY[shr_rng_below(rng, 3)], name, a, NULL);
            break;
        case 1: { /* two views, so that every value has one shape */
            char view[24];
            snprintf(view, sizeof view, "%s_tall", name);
            a = build_node(m, "Reshape", view, a, tall, NULL);
            made[i] = build_node(m, "Reshape", name, a, wide, NULL);
            break;
        }
        default:
            made[i] = build_node(m, BINARY[shr_rng_below(rng, 3)], name, a, b, NULL);
        }
        names[i - 1] = made[i]->name;
    }
    build_output(m, made[n - 1]);
    build_output(m, made[n / 2]);
    return m;
}

static void reused_memory_does_not_change_results(void **state)
{
    (void)state;
    enum { N = 40, GRAPHS = 60 };
    struct shr_rng rng;
    shr_rng_init(&rng, 7);
    size_t smaller = 0;
    for (int i = 0; i < GRAPHS; i++) {
        const char *names[N];
        struct shr_model *m = random_graph(&rng, N, names);
        struct shr_plan *shared = build_plan(m, &(struct shr_plan_opts){.batch = 1});
        struct shr_plan *apart =
            build_plan(m, &(struct shr_plan_opts){.no_fuse = true, .keep = names, .n_keep = N - 1});
        build_fill(shr_plan_input(shared, 0), -2, 2, &rng);
        memcpy(shr_plan_input(apart, 0)->data, shr_plan_input(shared, 0)->data,
               shr_tensor_bytes(shr_plan_input(shared, 0)));
        for (int run = 0; run < 2; run++) { /* inputs survive a run */
            build_run(shared);
            build_run(apart);
            for (size_t o = 0; o < 2; o++) {
                assert_memory_equal(shr_plan_output(shared, o)->data,
                                    shr_plan_output(apart, o)->data,
                                    shr_tensor_bytes(shr_plan_output(apart, o)));
            }
        }
        smaller += shr_plan_arena_bytes(shared) * 3 < shr_plan_arena_bytes(apart) * 2;
        shr_plan_free(shared);
        shr_plan_free(apart);
        shr_model_free(m);
    }
    assert_true(smaller > GRAPHS / 2);
}

/* Every way of splitting work gives the same bytes. */
static void results_do_not_depend_on_threads(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 8);
    struct shr_model *m = build_model();
    m->opsets->version = 17;
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(3, 40, 31, 33));
    struct shr_value *w = build_random(m, "w", SHR_DTYPE_F32, DIMS(24, 40, 3, 3), -1, 1, &rng);
    struct shr_value *y = build_node(m, "Conv", "conv", x, w, NULL);
    y = build_node(m, "Sigmoid", "sigmoid", y, NULL);
    build_output(m, y);
    y = build_node(m, "Tanh", "tanh", y, NULL);
    y = build_node(m, "Add", "sum", y, y, NULL);
    y = build_node(m, "MaxPool", "pool", y, NULL);
    build_ints(m, "kernel_shape", (const int64_t[]){3, 3}, 2);
    struct shr_value *z = build_node(m, "Transpose", "turned", y, NULL);
    build_ints(m, "perm", (const int64_t[]){0, 1, 3, 2}, 4);
    z = build_node(m, "MatMul", "product", y, z, NULL);
    z = build_node(m, "Softmax", "softmax", z, NULL);
    struct shr_value *gamma = build_random(m, "gamma", SHR_DTYPE_F32, DIMS(27), 0.5, 1.5, &rng);
    build_output(m, build_node(m, "LayerNormalization", "norm", z, gamma, NULL));
    build_output(m, build_node(m, "GlobalAveragePool", "mean", y, NULL));

    struct shr_plan *one = build_plan(m, &(struct shr_plan_opts){.batch = 1});
    build_fill(shr_plan_input(one, 0), -2, 2, &rng);
    build_run(one);
    for (int threads = 2; threads <= 5; threads++) {
        struct shr_plan *many = build_plan(m, &(struct shr_plan_opts){.threads = threads});
        memcpy(shr_plan_input(many, 0)->data, shr_plan_input(one, 0)->data,
               shr_tensor_bytes(shr_plan_input(one, 0)));
        build_run(many);
        for (size_t o = 0; o < shr_plan_output_count(one); o++) {
            assert_memory_equal(shr_plan_output(many, o)->data, shr_plan_output(one, o)->data,
                                shr_tensor_bytes(shr_plan_output(one, o)));
        }
        shr_plan_free(many);
    }
    shr_plan_free(one);
    shr_model_free(m);
}

static void keeps_values_that_are_asked_for(void **state)
{
    (void)state;
    struct shr_model *m = small_linear();
    const char *keep[] = {"sum"};
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){.keep = keep, .n_keep = 1});
    memcpy(shr_plan_input(plan, 0)->data, (const float[]){-1, -2}, 2 * sizeof(float));
    build_run(plan);
    const float sum[] = {-6.5f, 5}, y[] = {0, 5};
    assert_memory_equal(shr_plan_value(plan, "sum")->data, sum, sizeof sum);
    assert_memory_equal(shr_plan_output(plan, 0)->data, y, sizeof y);
    assert_null(shr_plan_value(plan, "product"));
    shr_plan_free(plan);

    struct shr_err err = {0};
    keep[0] = "nobody";
    assert_int_equal(
        shr_plan_new(m, &(struct shr_plan_opts){.keep = keep, .n_keep = 1}, &plan, &err),
        SHR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "nobody"));
    shr_model_free(m);
}

static void names_the_node_that_does_not_run(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(1, 2));
    build_node(m, "Unheard", "unused", x, NULL); /* needed by nobody: no obstacle */
    build_output(m, build_node(m, "Imaginary", "y", x, NULL));
    struct shr_plan *plan = NULL;
    struct shr_err err = {0};
    assert_int_equal(shr_plan_new(m, &(struct shr_plan_opts){.batch = 1}, &plan, &err),
                     SHR_ERR_UNSUPPORTED);
    assert_string_equal(err.msg, "operator Imaginary (opset 13) of node y does not run here");
    assert_null(plan);
    shr_model_free(m);
}

static void stops_when_cancelled(void **state)
{
    (void)state;
    struct shr_model *m = small_linear();
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){.batch = 1});
    atomic_bool cancel = true;
    struct shr_err err = {0};
    assert_int_equal(shr_plan_run(plan, &(struct shr_ctx){.cancel = &cancel}, &err),
                     SHR_ERR_CANCELLED);
    atomic_store(&cancel, false);
    assert_int_equal(shr_plan_run(plan, &(struct shr_ctx){.cancel = &cancel}, &err), SHR_OK);
    shr_plan_free(plan);
    shr_model_free(m);
}

static void refuses_more_memory_than_allowed(void **state)
{
    (void)state;
    struct shr_model *m = small_linear();
    struct shr_plan *plan = NULL;
    struct shr_err err = {0};
    assert_int_equal(
        shr_plan_new(m, &(struct shr_plan_opts){.batch = 1000, .max_arena = 1000}, &plan, &err),
        SHR_ERR_LIMIT);
    assert_int_equal(shr_plan_new(m, &(struct shr_plan_opts){.batch = INT64_MAX / 4}, &plan, &err),
                     SHR_ERR_LIMIT);
    assert_null(plan);
    shr_model_free(m);
}

static void the_model_is_not_changed(void **state)
{
    (void)state;
    struct shr_model *m = small_linear();
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){.batch = 1});
    assert_int_equal(m->graph.n_nodes, 3);
    assert_int_equal(shr_graph_find(&m->graph, "x")->type.dim[0], -1);
    struct shr_err err = {0};
    assert_int_equal(shr_graph_check(&m->graph, &err), SHR_OK);
    shr_plan_free(plan);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_a_linear_layer),
        cmocka_unit_test(binds_the_batch_wherever_its_symbol_stands),
        cmocka_unit_test(folds_what_is_constant),
        cmocka_unit_test(folds_arithmetic_on_shapes),
        cmocka_unit_test(reused_memory_does_not_change_results),
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(keeps_values_that_are_asked_for),
        cmocka_unit_test(names_the_node_that_does_not_run),
        cmocka_unit_test(stops_when_cancelled),
        cmocka_unit_test(refuses_more_memory_than_allowed),
        cmocka_unit_test(the_model_is_not_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
