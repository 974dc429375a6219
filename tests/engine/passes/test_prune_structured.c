/* passes/prune_structured: which channels go, what goes with them, and what must stay. */
#include "tiny_nets.h"

#include <math.h>

static struct shr_value *gemm(struct shr_model *m, struct shr_value *x, const char *name,
                              int64_t out, int64_t in, const double *w, const double *b)
{
    char text[2][32];
    snprintf(text[0], 32, "%s.w", name);
    snprintf(text[1], 32, "%s.b", name);
    struct shr_value *v[3] = {x,
                              tiny_constant(m, text[0], SHR_DTYPE_F32, 2, (int64_t[]){out, in}, w),
                              tiny_constant(m, text[1], SHR_DTYPE_F32, 1, &out, b)};
    struct shr_node *n = tiny_node(m, "Gemm", name, v, 3, name);
    assert_int_equal(shr_node_set_int(&m->graph, n, "transB", 1, NULL), 0);
    return n->out[0];
}

static struct shr_value *conv(struct shr_model *m, struct shr_value *x, const char *name,
                              int64_t out, int64_t in, const double *w)
{
    char text[32];
    snprintf(text, sizeof text, "%s.w", name);
    struct shr_value *v[2] = {
        x, tiny_constant(m, text, SHR_DTYPE_F32, 4, (int64_t[]){out, in, 1, 1}, w)};
    return tiny_node(m, "Conv", name, v, 2, name)->out[0];
}

static struct shr_value *apply(struct shr_model *m, const char *op, struct shr_value *a,
                               struct shr_value *b, const char *name)
{
    return tiny_node(m, op, name, (struct shr_value *[]){a, b}, b == NULL ? 1 : 2, name)->out[0];
}

static void expect_dims(const struct shr_model *m, const char *name, int rank, const int64_t *dim)
{
    const struct shr_value *v = shr_graph_find(&m->graph, name);
    assert_non_null(v);
    assert_int_equal(v->type.rank, rank);
    for (int d = 0; d < rank; d++) {
        assert_int_equal(v->type.dim[d], dim[d]);
    }
}

static const double ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
static const double bias4[4] = {10, 20, 30, 40};
/* Rows of norms 1: 7 5 6 6, 2: 5 5 6 3.46, inf: 4 5 6 2 */
static const double rows[12] = {4, 3, 0, 0, -5, 0, 6, 0, 0, 2, -2, 2};
static const double second[8] = {1, 2, 3, 4, 5, 6, 7, 8};

/* x (batch, 3) -> Gemm a (4) -> Relu -> Gemm b (2) -> y */
static struct shr_model *chain(void)
{
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 3});
    x = gemm(m, x, "a", 4, 3, rows, bias4);
    x = apply(m, "Relu", x, NULL, "r");
    tiny_output(m, gemm(m, x, "b", 2, 4, second, bias4)->producer);
    return m;
}

static void channels_go_from_layer_bias_and_reader(void **state)
{
    (void)state;
    struct shr_model *m = chain();
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "prune_structured", "amount=1", &report, NULL);
    assert_non_null(r);
    tiny_expect(r, "a.w", (double[]){4, 3, 0, 0, -5, 0, 6, 0, 0});
    tiny_expect(r, "a.b", (double[]){10, 20, 30});
    tiny_expect(r, "b.w", (double[]){1, 2, 3, 5, 6, 7});
    tiny_expect(r, "b.b", (double[]){10, 20});
    expect_dims(r, "r", 2, (int64_t[]){-1, 3});
    expect_dims(r, "b", 2, (int64_t[]){-1, 2});
    tiny_expect(m, "a.w", rows);
    assert_true(
        tiny_note(&report, SHR_NOTE_DONE, "a", "removed 1 of 4 channels by norm 2: a; with b"));
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "b",
                          "its channels reach 'b': an output of the model"));
    assert_int_equal(report.first->n_figures, 4);
    assert_string_equal(report.first->figures[2].name, "parameters_removed");
    assert_true(report.first->figures[2].value == 3 + 1 + 2);
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

static void each_norm_has_its_own_order_and_of_ties_the_highest_goes(void **state)
{
    (void)state;
    struct shr_model *m = chain();
    const struct {
        const char *arguments;
        double bias[4];
    } cases[] = {
        {"amount=1 norm=1", {10, 30, 40}},   {"amount=1 norm=2", {10, 20, 30}},
        {"amount=1 norm=inf", {10, 20, 30}}, {"amount=2 norm=1", {10, 30}},
        {"amount=2 norm=2", {10, 30}},       {"amount=2 norm=inf", {20, 30}},
        {"amount=0.375 norm=1", {10, 30}}, /* 1.5 is 2, as 0.625 * 4 = 2.5 is */
        {"amount=0.625 norm=1", {10, 30}},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_model *r = tiny_run(m, "prune_structured", cases[i].arguments, NULL, NULL);
        assert_non_null(r);
        tiny_expect(r, "a.b", cases[i].bias);
        shr_model_free(r);
    }
    shr_model_free(m);
}

/* The columns of b are (1, 5), (2, 6), (3, 7), (4, 8). */
static void by_readers_the_columns_count(void **state)
{
    (void)state;
    struct shr_model *m = chain();
    struct shr_model *r = tiny_run(m, "prune_structured", "amount=1 dim=1", NULL, NULL);
    assert_non_null(r);
    tiny_expect(r, "a.b", (double[]){20, 30, 40});
    tiny_expect(r, "b.w", (double[]){2, 3, 4, 6, 7, 8});
    shr_model_free(r);
    shr_model_free(m);
}

static void a_norm_may_be_given_as_a_number(void **state)
{
    (void)state;
    struct shr_args args = {0};
    struct shr_err err = {0};
    assert_int_equal(shr_args_init(&args, shr_pass_find("prune_structured"), &err), 0);
    assert_string_equal(args.pass->params[0].name, "norm");
    assert_int_equal(shr_args_set_int(&args, "norm", 1, &err), 0);
    assert_string_equal(args.pass->params[0].choices[args.v[0].i], "1");
    assert_int_equal(shr_args_set_int(&args, "norm", 3, &err), SHR_ERR_INVALID);
    assert_string_equal(err.msg, "norm: \"3\" is not one of 1, 2, inf, random, n, "
                                 "batchnorm, activations");
    shr_args_finish(&args);
}

static void at_random_the_seed_decides(void **state)
{
    (void)state;
    struct shr_model *m = chain();
    struct shr_model *a = tiny_run(m, "prune_structured", "norm=random amount=2", NULL, NULL);
    struct shr_model *b = tiny_run(m, "prune_structured", "norm=random amount=2", NULL, NULL);
    assert_int_equal(tiny_tensor(a, "a.b")->dim[0], 2);
    assert_memory_equal(tiny_tensor(a, "a.w")->data, tiny_tensor(b, "a.w")->data, 24);
    shr_model_free(a);
    shr_model_free(b);
    shr_model_free(m);
}

static void one_channel_stays_and_multiples_are_kept(void **state)
{
    (void)state;
    struct shr_model *m = chain();
    struct shr_model *r = tiny_run(m, "prune_structured", "amount=4", NULL, NULL);
    tiny_expect(r, "a.b", (double[]){30});
    shr_model_free(r);
    r = tiny_run(m, "prune_structured", "amount=3 round_to=2", NULL, NULL);
    tiny_expect(r, "a.b", (double[]){10, 30});
    shr_model_free(r);

    struct shr_report report = {0};
    r = tiny_run(m, "prune_structured", "amount=1 round_to=8", &report, NULL);
    tiny_expect(r, "a.b", bias4);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "a", "takes none of its 4 channels"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

static void without_remove_rows_and_biases_are_zero_and_count_as_gone(void **state)
{
    (void)state;
    struct shr_model *m = chain();
    struct shr_model *r = tiny_run(m, "prune_structured", "amount=0.5 remove=false", NULL, NULL);
    tiny_expect(r, "a.w", (double[]){4, 3, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0});
    tiny_expect(r, "a.b", (double[]){10, 0, 30, 0});
    tiny_expect(r, "b.w", (double[]){1, 0, 3, 0, 5, 0, 7, 0});
    struct shr_model *twice =
        tiny_run(r, "prune_structured", "amount=0.5 remove=false", NULL, NULL);
    tiny_expect(twice, "a.b", (double[]){0, 0, 30, 0});
    shr_model_free(twice);
    shr_model_free(r);
    shr_model_free(m);
}

static void wrong_parameters_are_told(void **state)
{
    (void)state;
    struct shr_model *m = chain();
    struct shr_err err = {0};
    assert_null(tiny_run(m, "prune_structured", "amount=5", NULL, &err));
    assert_int_equal(err.code, SHR_ERR_INVALID);
    assert_string_equal(err.msg,
                        "prune_structured: node 'a': amount: 5 is more than the 4 channels");
    struct shr_tensor *w = &shr_graph_find(&m->graph, "a.w")->constant;
    shr_tensor_set(w, 3, NAN);
    assert_null(tiny_run(m, "prune_structured", "", NULL, &err));
    assert_string_equal(err.msg, "prune_structured: tensor 'a.w': element 3 is not finite");
    shr_model_free(m);
}

/* Norms over their mean: a has 1 and 3 of mean 2, b 10 and 12 of mean 11. */
static void global_compares_layers_of_unlike_size(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 1});
    x = gemm(m, x, "a", 2, 1, (double[]){1, 3}, (double[]){1, 2});
    x = gemm(m, x, "b", 2, 2, (double[]){10, 0, 0, 12}, (double[]){1, 2});
    tiny_output(m, gemm(m, x, "c", 1, 2, ones, ones)->producer);
    struct shr_model *r = tiny_run(m, "prune_structured", "amount=1 scope=global", NULL, NULL);
    tiny_expect(r, "a.b", (double[]){2});
    tiny_expect(r, "b.w", (double[]){0, 12});
    tiny_expect(r, "c.w", (double[]){1, 1});
    shr_model_free(r);
    r = tiny_run(m, "prune_structured", "amount=4 scope=global", NULL, NULL);
    tiny_expect(r, "a.b", (double[]){2});
    tiny_expect(r, "b.b", (double[]){2});
    shr_model_free(r);
    shr_model_free(m);
}

static const int64_t image[4] = {-1, 1, 2, 2};

/* gamma and mean are one tensor, which two inputs share. */
static void batchnorm_shrinks_with_its_conv(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 4, image);
    const int64_t three = 3, *dim = &three;
    struct shr_value *in[5] = {conv(m, x, "a", 3, 1, (double[]){2, 1, 3})};
    in[1] = in[3] = tiny_constant(m, "shared", SHR_DTYPE_F32, 1, dim, bias4);
    in[2] = tiny_constant(m, "beta", SHR_DTYPE_F32, 1, dim, second);
    in[4] = tiny_constant(m, "var", SHR_DTYPE_F32, 1, dim, second + 3);
    struct shr_node *bn = tiny_node(m, "BatchNormalization", "bn", in, 5, "n");
    x = apply(m, "Sigmoid", bn->out[0], NULL, "s");
    tiny_output(m, conv(m, x, "b", 1, 3, second)->producer);

    struct shr_model *r = tiny_run(m, "prune_structured", "amount=1", NULL, NULL);
    assert_non_null(r);
    tiny_expect(r, "a.w", (double[]){2, 3});
    tiny_expect(r, "beta", (double[]){1, 3});
    tiny_expect(r, "var", (double[]){4, 6});
    tiny_expect(r, "b.w", (double[]){1, 3});
    bn = shr_graph_find(&r->graph, "n")->producer;
    tiny_expect(r, shr_node_in(bn, 1)->name, (double[]){10, 30});
    tiny_expect(r, shr_node_in(bn, 3)->name, (double[]){10, 30});
    SHR_EACH_VALUE (v, &r->graph) { /* nothing is left over */
        assert_true(v->n_uses > 0 || v->is_output);
    }
    shr_model_free(r);

    r = tiny_run(m, "prune_structured", "amount=1 remove=false", NULL, NULL);
    bn = shr_graph_find(&r->graph, "n")->producer;
    tiny_expect(r, shr_node_in(bn, 1)->name, (double[]){10, 0, 30});
    tiny_expect(r, "beta", (double[]){1, 0, 3});
    tiny_expect(r, shr_node_in(bn, 4)->name, second + 3);
    shr_model_free(r);
    shr_model_free(m);
}

/* a and b are added: norms of both together are sqrt(2), sqrt(1 + 9), sqrt(4 + 1). */
static void residual_layers_lose_the_same_channels(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 4, image);
    struct shr_value *a = conv(m, x, "a", 3, 1, (double[]){1, 1, 2});
    struct shr_value *b = conv(m, x, "b", 3, 1, (double[]){1, 3, 1});
    x = apply(m, "Add", a, b, "sum");
    x = apply(m, "GlobalAveragePool", x, NULL, "pool");
    tiny_output(m, conv(m, x, "c", 1, 3, second)->producer);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "prune_structured", "amount=1", &report, NULL);
    assert_non_null(r);
    tiny_expect(r, "a.w", (double[]){1, 2});
    tiny_expect(r, "b.w", (double[]){3, 1});
    tiny_expect(r, "c.w", (double[]){2, 3});
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "a", "by norm 2: a, b; with c"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

/* Two layers side by side, also added to one that is as wide as both. */
static void concat_keeps_the_channels_of_each_branch(void **state)
{
    (void)state;
    for (int added = 0; added < 2; added++) {
        struct shr_model *m = tiny_model(13);
        struct shr_value *x = tiny_input(m, "x", 4, image);
        struct shr_value *a = conv(m, x, "a", 2, 1, (double[]){2, 1});
        struct shr_value *b = conv(m, x, "b", 2, 1, (double[]){3, 4});
        struct shr_value *y = apply(m, "Concat", a, b, "cat");
        assert_int_equal(shr_node_set_int(&m->graph, y->producer, "axis", -3, NULL), 0);
        if (added == 1) {
            y = apply(m, "Add", y, conv(m, x, "d", 4, 1, (double[]){0, 9, 0, 9}), "sum");
        }
        tiny_output(m, conv(m, y, "c", 1, 4, second)->producer);
        struct shr_model *r =
            tiny_run(m, "prune_structured", added ? "amount=3" : "amount=1", NULL, NULL);
        assert_non_null(r);
        if (added == 0) { /* each loses its smaller one */
            tiny_expect(r, "a.w", (double[]){2});
            tiny_expect(r, "b.w", (double[]){4});
            tiny_expect(r, "c.w", (double[]){1, 4});
            expect_dims(r, "cat", 4, (int64_t[]){-1, 2, 2, 2});
        } else { /* one group of norms 2, 9.1, 3, 9.8; a keeps its best though 1 should stay */
            tiny_expect(r, "a.w", (double[]){1});
            tiny_expect(r, "b.w", (double[]){4});
            tiny_expect(r, "d.w", (double[]){9, 9});
            tiny_expect(r, "c.w", (double[]){2, 4});
        }
        shr_model_free(r);
        shr_model_free(m);
    }
}

/* Each channel is 2 columns of the Gemm behind; Reshape to a fixed width is written anew. */
static void flattened_channels_take_their_columns_along(void **state)
{
    (void)state;
    for (int64_t width = 0; width >= -2; width--) {
        struct shr_model *m = tiny_model(13);
        struct shr_value *x = tiny_input(m, "x", 4, (int64_t[]){-1, 1, 1, 2});
        x = conv(m, x, "a", 2, 1, (double[]){1, 2});
        if (width == 0) {
            x = apply(m, "Flatten", x, NULL, "f");
        } else {
            double shape[2] = {width == -1 ? 0 : -1, width == -1 ? -1 : 4};
            x = apply(m, "Reshape", x,
                      tiny_constant(m, "shape", SHR_DTYPE_I64, 1, (int64_t[]){2}, shape), "f");
        }
        tiny_output(m, gemm(m, x, "b", 2, 4, second, ones)->producer);
        struct shr_model *r = tiny_run(m, "prune_structured", "amount=1", NULL, NULL);
        assert_non_null(r);
        tiny_expect(r, "b.w", (double[]){3, 4, 7, 8});
        expect_dims(r, "f", 2, (int64_t[]){-1, 2});
        if (width == -2) {
            tiny_expect(r, "shape", (double[]){-1, 2});
        }
        shr_model_free(r);
        shr_model_free(m);
    }
}

static void depthwise_filters_go_with_their_channels(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 4, image);
    x = conv(m, x, "a", 2, 1, (double[]){1, 2});
    x = conv(m, x, "d", 4, 1, second);
    struct shr_node *d = x->producer;
    assert_int_equal(shr_node_set_int(&m->graph, d, "group", 2, NULL), 0);
    tiny_output(m, conv(m, x, "b", 1, 4, second)->producer);
    struct shr_model *r = tiny_run(m, "prune_structured", "amount=1", NULL, NULL);
    assert_non_null(r);
    tiny_expect(r, "a.w", (double[]){2});
    tiny_expect(r, "d.w", (double[]){3, 4});
    tiny_expect(r, "b.w", (double[]){3, 4});
    d = shr_graph_find(&r->graph, "d")->producer;
    assert_int_equal(shr_node_int(d, "group", 0), 1);
    shr_model_free(r);
    shr_model_free(m);
}

/* MatMul [+ Add] on (batch, time, 2) cuts columns; the vectors meet by broadcasting. */
static void matmul_loses_columns_and_its_added_bias(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 3, (int64_t[]){-1, 5, 2});
    x = apply(
        m, "MatMul", x,
        tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){2, 3}, (double[]){5, 1, 6, 7, 2, 8}),
        "a");
    x = apply(m, "Add", x, tiny_constant(m, "bias", SHR_DTYPE_F32, 2, (int64_t[]){1, 3}, bias4),
              "b");
    x = apply(m, "Mul", x, tiny_constant(m, "half", SHR_DTYPE_F32, 0, NULL, ones), "h");
    struct shr_value *w = tiny_constant(m, "v", SHR_DTYPE_F32, 2, (int64_t[]){3, 2}, second);
    tiny_output(m, apply(m, "MatMul", x, w, "y")->producer);
    struct shr_model *r = tiny_run(m, "prune_structured", "amount=1", NULL, NULL);
    assert_non_null(r);
    tiny_expect(r, "w", (double[]){5, 6, 7, 8});
    tiny_expect(r, "bias", (double[]){10, 30});
    tiny_expect(r, "v", (double[]){1, 2, 5, 6});
    expect_dims(r, "h", 3, (int64_t[]){-1, 5, 2});
    shr_model_free(r);
    shr_model_free(m);
}

/* What is between conv a (2 channels) and conv b, and why a must stay. */
static void what_cannot_be_cut_is_refused_with_node_and_reason(void **state)
{
    (void)state;
    enum { SOFTMAX, INPUT, UNKNOWN, OUTPUT, CAPTURED, EXCLUDED, COUNT };
    static const char *const why[COUNT] = {
        "its channels reach Softmax 'op': it is over them",
        "its channels reach Add 'op': they meet there what stays as it is",
        "its channels reach Det 'op': an operator whose channels cannot be cut",
        "its channels reach 'a': an output of the model",
        "its channels reach 'a': read by a subgraph",
        "its name is in nodes.exclude",
    };
    for (int i = 0; i < COUNT; i++) {
        struct shr_model *m = tiny_model(13);
        struct shr_value *x = tiny_input(m, "x", 4, (int64_t[]){-1, 2, 2, 2});
        struct shr_value *a = conv(m, x, "a", 4, 2, second), *y = a;
        if (i == SOFTMAX) {
            y = apply(m, "Softmax", a, NULL, "op");
            assert_int_equal(shr_node_set_int(&m->graph, y->producer, "axis", 1, NULL), 0);
        } else if (i == INPUT) {
            y = apply(m, "Add", a, tiny_input(m, "z", 4, (int64_t[]){-1, 4, 2, 2}), "op");
        } else if (i == UNKNOWN) {
            apply(m, "Det", a, NULL, "op");
        } else if (i == OUTPUT) {
            tiny_output(m, a->producer);
        } else if (i == CAPTURED) {
            a->captured = true;
        }
        y = conv(m, y, "b", 2, 4, second);
        tiny_output(m, conv(m, y, "c", 2, 2, second)->producer);
        struct shr_report report = {0};
        struct shr_model *r =
            tiny_run(m, "prune_structured", i == EXCLUDED ? "amount=1 nodes.exclude=a" : "amount=1",
                     &report, NULL);
        assert_non_null(r);
        if (!tiny_note(&report, SHR_NOTE_SKIPPED, "a", why[i])) {
            fail_msg("%s: %s", why[i], report.first->text);
        }
        tiny_expect(r, "a.w", second);
        assert_int_equal(tiny_tensor(r, "b.w")->dim[0], 1); /* the rest goes on */
        assert_int_equal(tiny_tensor(r, "b.w")->dim[1], 4);
        shr_report_finish(&report);
        shr_model_free(r);
        shr_model_free(m);
    }
}

/* Row 1 of a is zero: Relu(20) of it goes on, times (2, 6), into the bias (10, 20) of b. */
static void compact_removes_a_zero_row_and_folds_what_it_emits(void **state)
{
    (void)state;
    struct shr_model *m = chain();
    struct shr_tensor *w = &shr_graph_find(&m->graph, "a.w")->constant;
    for (int64_t i = 3; i < 6; i++) {
        shr_tensor_set(w, i, 0);
    }
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "compact", "", &report, NULL);
    assert_non_null(r);
    tiny_expect(r, "a.w", (double[]){4, 3, 0, 6, 0, 0, 2, -2, 2});
    tiny_expect(r, "a.b", (double[]){10, 30, 40});
    tiny_expect(r, "b.w", (double[]){1, 3, 4, 5, 7, 8});
    tiny_expect(r, "b.b", (double[]){10 + 2 * 20, 20 + 6 * 20});
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "a", "removed 1 of 4 channels that were zero"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

/* The mean over channels would be another without them. */
static void compact_leaves_what_a_normalization_is_over(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(17);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 3});
    x = gemm(m, x, "a", 4, 3, (double[]){1, 2, 3, 0, 0, 0, 4, 5, 6, 7, 8, 9}, (double[4]){0});
    struct shr_value *in[2] = {
        x, tiny_constant(m, "scale", SHR_DTYPE_F32, 1, (int64_t[]){4}, (double[]){1, 0, 1, 1})};
    x = tiny_node(m, "LayerNormalization", "n", in, 2, "n")->out[0];
    tiny_output(m, gemm(m, x, "b", 2, 4, second, bias4)->producer);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "compact", "", &report, NULL);
    assert_non_null(r);
    assert_int_equal(tiny_tensor(r, "a.w")->dim[0], 4);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "", "1 channels of zero weights stay"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channels_go_from_layer_bias_and_reader),
        cmocka_unit_test(each_norm_has_its_own_order_and_of_ties_the_highest_goes),
        cmocka_unit_test(by_readers_the_columns_count),
        cmocka_unit_test(a_norm_may_be_given_as_a_number),
        cmocka_unit_test(at_random_the_seed_decides),
        cmocka_unit_test(one_channel_stays_and_multiples_are_kept),
        cmocka_unit_test(without_remove_rows_and_biases_are_zero_and_count_as_gone),
        cmocka_unit_test(wrong_parameters_are_told),
        cmocka_unit_test(global_compares_layers_of_unlike_size),
        cmocka_unit_test(batchnorm_shrinks_with_its_conv),
        cmocka_unit_test(residual_layers_lose_the_same_channels),
        cmocka_unit_test(concat_keeps_the_channels_of_each_branch),
        cmocka_unit_test(flattened_channels_take_their_columns_along),
        cmocka_unit_test(depthwise_filters_go_with_their_channels),
        cmocka_unit_test(matmul_loses_columns_and_its_added_bias),
        cmocka_unit_test(compact_removes_a_zero_row_and_folds_what_it_emits),
        cmocka_unit_test(compact_leaves_what_a_normalization_is_over),
        cmocka_unit_test(what_cannot_be_cut_is_refused_with_node_and_reason),
    };
    return cmocka_run_group_tests_name("engine/passes/prune_structured", tests, NULL, NULL);
}
