/* passes/quantize_dynamic and quantize_static: which nodes they write, and what is in them. */
#include "tiny_nets.h"

#include <math.h>

static size_t count_ops(const struct shr_model *m, const char *op)
{
    size_t n = 0;
    SHR_EACH_NODE (node, &m->graph) {
        n += strcmp(node->op_type, op) == 0;
    }
    return n;
}

static struct shr_node *find_op(const struct shr_model *m, const char *op)
{
    SHR_EACH_NODE (node, &m->graph) {
        if (strcmp(node->op_type, op) == 0) {
            return node;
        }
    }
    fail_msg("there is no %s", op);
    return NULL;
}

/* ── Dynamic ────────────────────────────────────────────────────────────────────────────────── */

static void quantize_dynamic_writes_the_form_that_runtimes_fuse(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp(), *r = tiny_run(m, "quantize_dynamic", "", NULL, NULL);
    static const char *const expected[] = {
        "DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add", "Relu",
        "DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add"};
    size_t i = 0;
    SHR_EACH_NODE (node, &r->graph) {
        assert_true(i < SHR_COUNT_OF(expected));
        assert_string_equal(node->op_type, expected[i++]);
    }
    assert_int_equal(i, SHR_COUNT_OF(expected));
    assert_non_null(shr_graph_find(&r->graph, "x_quantized"));
    assert_non_null(shr_graph_find(&r->graph, "x_scale"));
    assert_non_null(shr_graph_find(&r->graph, "x_zero_point"));
    assert_string_equal(find_op(r, "MatMulInteger")->name, "fc1_quant");
    assert_string_equal(r->graph.outputs[0]->name, "y");
    assert_null(shr_graph_find(&r->graph, "w"));

    const struct shr_tensor *q = tiny_tensor(r, "w_quantized"); /* (K 4, N 3): transposed */
    assert_int_equal(q->dtype, SHR_DTYPE_I8);
    assert_int_equal(q->dim[0], 4);
    assert_int_equal(q->dim[1], 3);
    const struct shr_tensor *s = tiny_tensor(r, "w_scale");
    for (int k = 0; k < 4; k++) {
        for (int n = 0; n < 3; n++) {
            double scale = shr_tensor_get(s, n);
            assert_true(fabs(shr_tensor_get(q, k * 3 + n) * scale - tiny_ramp[n * 4 + k]) <=
                        scale / 2);
        }
    }
    shr_model_free(r);
    shr_model_free(m);
}

static void quantize_dynamic_shares_inputs_and_tied_weights(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *w = tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, tiny_ramp);
    struct shr_node *a = tiny_node(m, "MatMul", "a", (struct shr_value *[]){x, w}, 2, "p");
    struct shr_node *b = tiny_node(m, "MatMul", "b", (struct shr_value *[]){x, w}, 2, "q");
    tiny_output(m,
                tiny_node(m, "Sub", "sub", (struct shr_value *[]){a->out[0], b->out[0]}, 2, "y"));
    struct shr_model *r = tiny_run(m, "quantize_dynamic", "", NULL, NULL);
    assert_int_equal(count_ops(r, "DynamicQuantizeLinear"), 1);
    assert_int_equal(count_ops(r, "MatMulInteger"), 2);
    size_t constants = 0;
    SHR_EACH_VALUE (v, &r->graph) {
        constants += shr_value_is_constant(v);
    }
    assert_int_equal(constants, 2);
    shr_model_free(r);
    shr_model_free(m);
}

static void quantize_dynamic_folds_alpha_beta_and_transposes(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *in[3] = {
        tiny_input(m, "x", 2, (int64_t[]){4, -1}),
        tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 2}, tiny_ramp),
        tiny_constant(m, "b", SHR_DTYPE_F32, 1, (int64_t[]){2}, (double[]){8, -2})};
    struct shr_node *n = tiny_node(m, "Gemm", "fc", in, 3, "y");
    assert_int_equal(shr_node_set_int(&m->graph, n, "transA", 1, NULL), 0);
    assert_int_equal(shr_node_set_float(&m->graph, n, "alpha", -2, NULL), 0);
    assert_int_equal(shr_node_set_float(&m->graph, n, "beta", 0.25f, NULL), 0);
    tiny_output(m, n);
    struct shr_model *r =
        tiny_run(m, "quantize_dynamic", "per_channel=false weight_type=uint8", NULL, NULL);
    tiny_expect(r, "b_1", (double[]){2, -0.5});
    assert_string_equal(r->graph.first_node->op_type, "Transpose");
    const struct shr_tensor *q = tiny_tensor(r, "w_quantized");
    double scale = shr_tensor_get(tiny_tensor(r, "w_scale"), 0);
    double zero = shr_tensor_get(tiny_tensor(r, "w_zero_point"), 0);
    assert_int_equal(q->dtype, SHR_DTYPE_U8);
    for (int i = 0; i < 8; i++) {
        assert_true(fabs((shr_tensor_get(q, i) - zero) * scale - -2 * tiny_ramp[i]) <= scale);
    }
    shr_model_free(r);
    shr_model_free(m);
}

/* ONNX Runtime refuses two nodes of one name. */
static void names_of_added_nodes_are_not_taken(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){4, -1});
    struct shr_value *v = tiny_constant(m, "v", SHR_DTYPE_F32, 2, (int64_t[]){4, 2}, tiny_ramp);
    struct shr_value *w = tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 2}, tiny_ramp);
    for (int i = 0; i < 2; i++) { /* both transpose the same input */
        struct shr_node *n =
            tiny_node(m, "Gemm", i == 0 ? "x_transposed" : "x_QuantizeLinear",
                      (struct shr_value *[]){x, i == 0 ? v : w}, 2, i == 0 ? "y" : "z");
        assert_int_equal(shr_node_set_int(&m->graph, n, "transA", 1, NULL), 0);
        tiny_output(m, n);
    }
    struct shr_model *once =
        tiny_run(m, "quantize_dynamic", "nodes.include=*_transposed", NULL, NULL);
    struct shr_model *twice = tiny_run(once, "quantize_dynamic", "", NULL, NULL);
    assert_non_null(twice);
    SHR_EACH_NODE (a, &twice->graph) {
        SHR_EACH_NODE (b, &twice->graph) {
            assert_true(a == b || strcmp(a->name, b->name) != 0);
        }
    }
    shr_model_free(twice);
    shr_model_free(once);
    shr_model_free(m);
}

static void quantize_dynamic_raises_an_old_opset(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(9);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *w = tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, tiny_ramp);
    struct shr_node *n = tiny_node(m, "MatMul", "fc", (struct shr_value *[]){x, w}, 2, "p");
    n = tiny_node(m, "Clip", "bound", n->out, 1, "y");
    assert_int_equal(shr_node_set_float(&m->graph, n, "max", 6, NULL), 0);
    tiny_output(m, n);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "quantize_dynamic", "", &report, NULL);
    assert_int_equal(shr_model_opset(r, ""), 13);
    assert_int_equal(count_ops(r, "MatMulInteger"), 1);
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "", "opset 9 became 13, 1 nodes changed for it"));
    n = r->graph.last_node;
    assert_string_equal(n->op_type, "Clip");
    assert_null(shr_node_attr(n, "max"));
    assert_null(shr_node_in(n, 1));
    assert_true(shr_tensor_get(&shr_node_in(n, 2)->constant, 0) == 6);
    assert_int_equal(shr_model_opset(m, ""), 9); /* the model itself stays as it is */
    assert_non_null(shr_node_attr(m->graph.last_node, "max"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);
}

static void quantize_dynamic_says_what_stays_in_float_and_why(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    struct shr_value *w = tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 4}, tiny_ramp);
    struct shr_node *n = tiny_node(m, "MatMul", "fc", (struct shr_value *[]){x, w}, 2, "p");
    n = tiny_node(m, "MatMul", "attend", (struct shr_value *[]){n->out[0], x}, 2, "y");
    tiny_output(m, n);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(m, "quantize_dynamic", "nodes.exclude=f?", &report, NULL);
    assert_int_equal(count_ops(r, "MatMul"), 2);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "fc", "its name is in nodes.exclude"));
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "attend", "its weights are not constant"));
    assert_true(tiny_note(&report, SHR_NOTE_WARNING, "", "nothing was quantized"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(m);

    m = tiny_model(9);
    x = tiny_input(m, "x", 2, (int64_t[]){-1, 4});
    tiny_output(m, tiny_node(m, "Imaginary", "r", &x, 1, "y"));
    struct shr_err err = {0};
    assert_null(tiny_run(m, "quantize_dynamic", "", NULL, &err));
    assert_int_equal(err.code, SHR_ERR_UNSUPPORTED);
    assert_string_equal(err.msg,
                        "quantize_dynamic: opset 9 cannot become 13: Imaginary r: the operator is "
                        "not known, nor what it means in a newer opset");
    shr_model_free(m);
}

/* The weights are finite, what the integers would stand for is not. */
static void products_whose_alpha_overflows_stay_in_float(void **state)
{
    (void)state;
    static const char *const passes[] = {"quantize_dynamic", "quantize_weights"};
    static const float alphas[] = {1e38f, -1e38f, INFINITY, NAN, 1e37f};
    for (size_t i = 0; i < SHR_COUNT_OF(passes) * SHR_COUNT_OF(alphas); i++) {
        struct shr_model *m = tiny_model(13);
        struct shr_value *in[2] = {tiny_input(m, "x", 2, (int64_t[]){-1, 32}),
                                   tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){32, 1},
                                                 (double[32]){[3] = -20, [7] = 1})};
        struct shr_node *n = tiny_node(m, "Gemm", "fc", in, 2, "y");
        const float alpha = alphas[i % SHR_COUNT_OF(alphas)];
        const bool sound = alpha == 1e37f;
        assert_int_equal(shr_node_set_float(&m->graph, n, "alpha", alpha, NULL), 0);
        tiny_output(m, n);
        struct shr_report report = {0};
        struct shr_model *r = tiny_run(m, passes[i / SHR_COUNT_OF(alphas)], "", &report, NULL);
        assert_non_null(r);
        assert_int_equal(count_ops(r, "Gemm"), sound ? 0 : 1);
        assert_true(sound != tiny_note(&report, SHR_NOTE_SKIPPED, "fc",
                                       "Gemm: one of its weights is not finite when multiplied by "
                                       "alpha"));
        shr_report_finish(&report);
        shr_model_free(r);
        shr_model_free(m);
    }
}

/* W and R of the tiny LSTM stand transposed in the integers. */
static void expect_recurrent(const struct shr_model *r, const char *stem, const double *real,
                             int64_t k, bool per_channel)
{
    char name[32];
    snprintf(name, sizeof name, "%s_quantized", stem);
    const struct shr_tensor *q = tiny_tensor(r, name);
    snprintf(name, sizeof name, "%s_scale", stem);
    const struct shr_tensor *scale = tiny_tensor(r, name);
    snprintf(name, sizeof name, "%s_zero_point", stem);
    const struct shr_tensor *zero = tiny_tensor(r, name);
    assert_int_equal(q->rank, 3);
    assert_int_equal(q->dim[0], 2);
    assert_int_equal(q->dim[1], k);
    assert_int_equal(q->dim[2], 4);
    assert_int_equal(scale->rank, per_channel ? 2 : 1);
    assert_int_equal(scale->dim[0], 2);
    assert_true(shr_tensor_same_shape(scale, zero));
    assert_int_equal(zero->dtype, q->dtype);
    for (int64_t d = 0; d < 2; d++) {
        for (int64_t g = 0; g < 4; g++) {
            int64_t at = per_channel ? d * 4 + g : d;
            double s = shr_tensor_get(scale, at), z = shr_tensor_get(zero, at);
            for (int64_t i = 0; i < k; i++) {
                double x = s * (shr_tensor_get(q, (d * k + i) * 4 + g) - z);
                assert_true(fabs(x - real[(d * 4 + g) * k + i]) <= s * 0.51);
            }
        }
    }
}

static void quantize_dynamic_writes_the_lstm_of_onnx_runtime(void **state)
{
    (void)state;
    static const struct {
        const char *arguments;
        bool per_channel;
    } cases[] = {
        {"", true},
        {"per_channel=false", false},
        {"weight_type=uint8", false}, /* the zero points of columns may not differ */
    };
    struct shr_model *m = tiny_lstm();
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_report report = {0};
        struct shr_model *r = tiny_run(m, "quantize_dynamic", cases[i].arguments, &report, NULL);
        assert_int_equal(r->graph.n_nodes, 1);
        const struct shr_node *n = find_op(r, "DynamicQuantizeLSTM");
        assert_string_equal(n->domain, "com.microsoft");
        assert_string_equal(n->name, "cell_quant");
        assert_non_null(n->op);
        assert_int_equal(shr_model_opset(r, "com.microsoft"), 1);
        assert_int_equal(n->n_in, 12);
        assert_string_equal(n->in[3].value->name, "b");
        assert_string_equal(n->out[0]->name, "y");
        assert_string_equal(shr_node_text(n, "direction", ""), "bidirectional");
        assert_int_equal(shr_node_int(n, "hidden_size", 0), 1);
        expect_recurrent(r, "w", tiny_ramp, 2, cases[i].per_channel);
        expect_recurrent(r, "r", tiny_ramp + 5, 1, cases[i].per_channel);
        assert_true(tiny_note(&report, SHR_NOTE_DONE, "r",
                              cases[i].per_channel ? "per channel" : "per tensor"));
        shr_report_finish(&report);
        shr_model_free(r);
    }
    shr_model_free(m);
}

static void expect_float_lstm(struct shr_model *take_m, const char *why)
{
    struct shr_report report = {0};
    struct shr_model *r = tiny_run(take_m, "quantize_dynamic", "", &report, NULL);
    assert_int_equal(count_ops(r, "LSTM"), 1);
    assert_int_equal(shr_model_opset(r, "com.microsoft"), 0);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "cell", why));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_model_free(take_m);
}

static void quantize_dynamic_leaves_an_lstm_that_has_no_quantized_form(void **state)
{
    (void)state;
    struct shr_model *m = tiny_lstm();
    assert_int_equal(shr_node_set_float(&m->graph, m->graph.first_node, "clip", 3, NULL), 0);
    expect_float_lstm(m, "its sums are clipped");

    m = tiny_lstm();
    assert_int_equal(shr_node_set_int(&m->graph, m->graph.first_node, "layout", 1, NULL), 0);
    expect_float_lstm(m, "its quantized form has no layout 1");

    m = tiny_lstm();
    struct shr_tensor whole = {0};
    assert_int_equal(shr_tensor_new(SHR_DTYPE_I32, 3, (int64_t[]){2, 4, 1}, &whole, NULL), 0);
    shr_value_set_constant(m->graph.first_node->in[2].value, whole);
    expect_float_lstm(m, "its weights are not float32");

    m = tiny_lstm();
    shr_node_set_input(m->graph.first_node, 1, m->graph.inputs[0]);
    expect_float_lstm(m, "its weights are not constant");
}

/* ── Static ─────────────────────────────────────────────────────────────────────────────────── */

static void quantize_static_writes_pairs_around_products_and_none_on_the_output(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_model *r = tiny_run_static(m, data, "calibration=minmax", NULL);
    assert_int_equal(count_ops(r, "QuantizeLinear"), 2);   /* x, and h behind the Relu */
    assert_int_equal(count_ops(r, "DequantizeLinear"), 6); /* and two weights, two biases */
    assert_string_equal(r->graph.outputs[0]->producer->op_type, "Gemm");
    assert_string_equal(shr_graph_find(&r->graph, "g")->uses->node->op_type, "Relu");
    assert_non_null(shr_graph_find(&r->graph, "x_q"));
    assert_non_null(shr_graph_find(&r->graph, "h_q"));
    /* The samples are from -2 to 2. */
    double scale = shr_tensor_get(tiny_tensor(r, "x_s"), 0);
    assert_true(scale == (double)(float)(4.0 / 255));
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void quantize_static_keeps_bias_int32_on_the_scale_of_the_sum(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_model *r =
        tiny_run_static(m, data, "calibration=minmax bias_correction=false", NULL);
    const struct shr_tensor *b = tiny_tensor(r, "b_q"), *bs = tiny_tensor(r, "b_s");
    assert_int_equal(b->dtype, SHR_DTYPE_I32);
    double x_scale = shr_tensor_get(tiny_tensor(r, "x_s"), 0);
    static const double bias[3] = {1, -1, 0.5};
    for (int64_t i = 0; i < 3; i++) {
        double unit = x_scale * shr_tensor_get(tiny_tensor(r, "w_s"), i);
        assert_true(fabs(shr_tensor_get(bs, i) - unit) <= 1e-7 * unit);
        assert_true(shr_tensor_get(b, i) == rint(bias[i] / shr_tensor_get(bs, i)));
    }
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

/* With corrected biases the mean over the calibration samples of x W' + b' is that of x W + b. */
static void bias_correction_restores_the_mean(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_model *r = tiny_run_static(m, data, "calibration=minmax reduce_range=true", NULL);
    double mean[4] = {0};
    for (int i = 0; i < 64; i++) {
        mean[i % 4] += ((i * 37 % 17) / 4.0 - 2) / 16;
    }
    static const double bias[3] = {1, -1, 0.5};
    for (int64_t n = 0; n < 3; n++) {
        double scale = shr_tensor_get(tiny_tensor(r, "w_s"), n);
        double unit = shr_tensor_get(tiny_tensor(r, "b_s"), n);
        double real = bias[n], quantized = unit * shr_tensor_get(tiny_tensor(r, "b_q"), n);
        double uncorrected = bias[n];
        for (int64_t k = 0; k < 4; k++) {
            double w = scale * shr_tensor_get(tiny_tensor(r, "w_q"), n * 4 + k);
            real += mean[k] * tiny_ramp[n * 4 + k];
            quantized += mean[k] * w;
            uncorrected += mean[k] * w;
        }
        assert_true(fabs(real - quantized) <= unit);
        assert_true(fabs(real - uncorrected) > unit || n != 0); /* there is something to correct */
    }
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void quantize_static_shares_ranges_and_joins_activations(void **state)
{
    (void)state;
    struct shr_model *m = tiny_cnn();
    struct shr_dataset *data = tiny_samples(1, 6);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run_static(m, data, "calibration=minmax", &report);
    assert_int_equal(count_ops(r, "BatchNormalization"), 0);
    /* x, r behind the Relu, p with r's scale, d, s behind the Add's Relu; not c, a or y */
    assert_int_equal(count_ops(r, "QuantizeLinear"), 5);
    assert_null(shr_graph_find(&r->graph, "a_q"));
    assert_null(shr_graph_find(&r->graph, "y_q"));
    struct shr_node *rq = shr_graph_find(&r->graph, "r_q")->producer;
    struct shr_node *pq = shr_graph_find(&r->graph, "p_q")->producer;
    assert_ptr_equal(shr_node_in(rq, 1), shr_node_in(pq, 1));
    assert_ptr_equal(shr_node_in(rq, 2), shr_node_in(pq, 2));
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "p", "quantized as its source r"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void quantize_static_raises_scales_that_a_bias_would_overflow(void **state)
{
    (void)state;
    struct shr_model *m = tiny_model(13);
    struct shr_value *in[3] = {
        tiny_input(m, "x", 2, (int64_t[]){-1, 2}),
        tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){2, 2}, (double[]){1e-12, 1, 0, -1}),
        tiny_constant(m, "b", SHR_DTYPE_F32, 1, (int64_t[]){2}, (double[]){5, 5})};
    struct shr_node *n = tiny_node(m, "Gemm", "fc", in, 3, "y");
    tiny_output(m, n);
    struct shr_dataset *data = tiny_samples(2, 1);
    struct shr_model *r = tiny_run_static(m, data, "", NULL);
    for (int64_t i = 0; i < 2; i++) {
        double b =
            shr_tensor_get(tiny_tensor(r, "b_q"), i) * shr_tensor_get(tiny_tensor(r, "b_s"), i);
        assert_true(fabs(b - 5) < 0.02);
    }
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void quantize_static_leaves_what_the_filter_excludes(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run_static(m, data, "nodes.exclude=fc2", &report);
    tiny_expect(r, "w2", tiny_ramp + 9);
    assert_null(shr_graph_find(&r->graph, "h_q"));
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "fc2", "its name is in nodes.exclude"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void the_audit_of_products_is_told_for_each_layer(void **state)
{
    (void)state;
    static const struct {
        const char *arguments;
        double w[8]; /* (4, 2): products of rows 0 and 1, and of 2 and 3, are added in 16 bits */
        const char *told;
        double narrowed, largest;
    } cases[] = {
        {"", {1, 1, 1, 0, 0, 0, 0, 1}, "1 of 2 channels narrowed, at most to 64 of 127", 1, 64},
        {"per_channel=false", {1, 1, 1, 0, 0, 0, 0, 1}, "2 of 2 channels narrowed", 2, 64},
        {"", {1, 1, 0, -1, 1, 0, 0, 1}, "8 bits in all 2 channels: no pair", 0, 127},
        {"reduce_range=true", {1, 1, 1, 0, 0, 0, 0, 1}, "7 bits", 0, 64},
        {"reduce_range=false", {1, 1, 1, 0, 0, 0, 0, 1}, "8 bits; CPUs without VNNI", 0, 127},
    };
    struct shr_dataset *data = tiny_samples(4, 1);
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_model *m = tiny_model(13);
        struct shr_value *in[2] = {
            tiny_input(m, "x", 2, (int64_t[]){-1, 4}),
            tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){4, 2}, cases[i].w)};
        tiny_output(m, tiny_node(m, "MatMul", "fc", in, 2, "y"));
        struct shr_report report = {0};
        shr_model_free(tiny_run_static(m, data, cases[i].arguments, &report));
        const struct shr_note *note = report.first;
        while (note != NULL && strcmp(note->subject, "w") != 0) {
            note = note->next;
        }
        assert_non_null(note);
        assert_non_null(strstr(note->text, cases[i].told));
        assert_string_equal(note->figures[3].name, "largest");
        assert_true(note->figures[3].value == cases[i].largest);
        assert_string_equal(note->figures[5].name, "channels_narrowed");
        assert_true(note->figures[5].value == cases[i].narrowed);
        shr_report_finish(&report);
        shr_model_free(m);
    }
    shr_dataset_free(data);
}

static void quantize_static_gives_the_same_bytes_for_the_same_seed(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_model *a = tiny_run_static(m, data, "samples=5", NULL);
    struct shr_model *b = tiny_run_static(m, data, "samples=5", NULL);
    SHR_EACH_VALUE (v, &a->graph) {
        if (shr_value_is_constant(v)) {
            const struct shr_tensor *t = tiny_tensor(b, v->name);
            assert_memory_equal(t->data, v->constant.data, shr_tensor_bytes(t));
        }
    }
    shr_model_free(a);
    shr_model_free(b);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void expect_params(const struct shr_model *m, const char *quantized, double scale,
                          double zero)
{
    const struct shr_node *q = shr_graph_find(&m->graph, quantized)->producer;
    assert_true(shr_tensor_get(&shr_node_in(q, 1)->constant, 0) == scale);
    assert_true(shr_tensor_get(&shr_node_in(q, 2)->constant, 0) == zero);
}

static void quantize_static_takes_given_ranges(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run_static(m, data, "ranges=h=0:6,x=-3:3", &report);
    expect_params(r, "h_q", (double)(float)(6.0 / 255), 0);
    expect_params(r, "x_q", (double)(float)(6.0 / 255), 128); /* rint(127.5) */
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "h", "uint8, range as given"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void given_ranges_that_cannot_be_are_errors(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"x", "\"x\" is not NAME=MIN:MAX"},
        {"=0:1", "\"=0:1\" is not NAME=MIN:MAX"},
        {"x=0", "\"x=0\" is not NAME=MIN:MAX"},
        {"x=:1", "\"x=:1\" is not NAME=MIN:MAX"},
        {"x=0:", "\"x=0:\" is not NAME=MIN:MAX"},
        {"x=0:1e", "\"x=0:1e\" is not NAME=MIN:MAX"},
        {"x=0:inf", "\"x=0:inf\" is not NAME=MIN:MAX"},
        {"x=nan:1", "\"x=nan:1\" is not NAME=MIN:MAX"},
        {"x=2:1", "of tensor 'x' the minimum 2 is not less than the maximum 1"},
        {"x=0:1,x=0:2", "tensor 'x' has two"},
        {"z=0:1", "the model has no tensor 'z'"},
        {"g=0:1", "tensor 'g' is not quantized as an activation"}, /* joined with its Relu */
        {"w=0:1", "tensor 'w' is not quantized as an activation"},
        {"y=0:1", "tensor 'y' is not quantized as an activation"},
    };
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        char arguments[64], expected[128];
        struct shr_err err = {0};
        snprintf(arguments, sizeof arguments, "ranges=%s", cases[i][0]);
        snprintf(expected, sizeof expected, "quantize_static: ranges: %s", cases[i][1]);
        assert_null(tiny_run_data(m, "quantize_static", arguments, data, NULL, &err));
        assert_int_equal(err.code, SHR_ERR_INVALID);
        assert_string_equal(err.msg, expected);
    }
    shr_dataset_free(data);
    shr_model_free(m);
    m = tiny_cnn();
    data = tiny_samples(1, 6);
    struct shr_err err = {0};
    assert_null(tiny_run_data(m, "quantize_static", "ranges=p=0:1", data, NULL, &err));
    assert_string_equal(err.msg, "quantize_static: ranges: tensor 'p' has the range of its source "
                                 "'r'; give that");
    shr_dataset_free(data);
    shr_model_free(m);
}

static void the_range_of_a_softmax_is_known(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_node *relu = m->graph.first_node->next;
    struct shr_value *g = shr_node_in(relu, 0), *h = shr_node_out(relu, 0);
    shr_graph_remove_node(&m->graph, relu);
    assert_int_equal(shr_graph_add_node(&m->graph, m->graph.last_node, "", "Softmax", "soft", &g, 1,
                                        &h, 1, NULL, NULL),
                     0);
    shr_model_resolve(m);
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_report report = {0};
    struct shr_model *r = tiny_run_static(m, data, "", &report);
    expect_params(r, "h_q", 1.0 / 256, 0);
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "h", "uint8, range of Softmax"));
    shr_report_finish(&report);
    shr_model_free(r);
    r = tiny_run_static(m, data, "activation_type=int8", NULL);
    expect_params(r, "h_q", 1.0 / 256, -128);
    shr_model_free(r);
    r = tiny_run_static(m, data, "calibration=minmax compat=ort", NULL);
    expect_params(r, "h_q", (double)(1.0f / 255), 0);
    shr_model_free(r);
    r = tiny_run_static(m, data, "calibration=minmax compat=pytorch", NULL);
    expect_params(r, "h_q", 1.0 / 256, 0);
    shr_model_free(r);
    r = tiny_run_static(m, data, "ranges=h=0:0.5", NULL);
    expect_params(r, "h_q", (double)(float)(0.5 / 255), 0);
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

/* x -> Conv c1, Conv c2 -> MaxPool p -> Concat (c1, p) j -> Conv -> y; and c1 -> Conv -> y2 when it
 * is read twice */
static struct shr_model *joined(bool twice)
{
    struct shr_model *m = tiny_model(13);
    struct shr_value *in[2] = {
        tiny_input(m, "x", 4, (int64_t[]){-1, 1, 6, 6}),
        tiny_constant(m, "w1", SHR_DTYPE_F32, 4, (int64_t[]){2, 1, 3, 3}, tiny_ramp)};
    struct shr_value *c1 = shr_node_out(tiny_node(m, "Conv", "conv1", in, 2, "c1"), 0);
    in[1] = tiny_constant(m, "w2", SHR_DTYPE_F32, 4, (int64_t[]){2, 1, 2, 2}, tiny_ramp + 9);
    struct shr_node *n = tiny_node(m, "Conv", "conv2", in, 2, "c2");
    n = tiny_node(m, "MaxPool", "pool", n->out, 1, "p");
    assert_int_equal(shr_node_set_ints(&m->graph, n, "kernel_shape", (int64_t[]){2, 2}, 2, NULL),
                     0);
    n = tiny_node(m, "Concat", "join", (struct shr_value *[]){c1, n->out[0]}, 2, "j");
    assert_int_equal(shr_node_set_int(&m->graph, n, "axis", 1, NULL), 0);
    in[0] = n->out[0];
    in[1] = tiny_constant(m, "w3", SHR_DTYPE_F32, 4, (int64_t[]){1, 4, 1, 1}, tiny_ramp + 4);
    tiny_output(m, tiny_node(m, "Conv", "conv3", in, 2, "y"));
    if (twice) {
        in[0] = c1;
        in[1] = tiny_constant(m, "w4", SHR_DTYPE_F32, 4, (int64_t[]){1, 2, 1, 1}, tiny_ramp + 6);
        tiny_output(m, tiny_node(m, "Conv", "conv4", in, 2, "y2"));
    }
    return m;
}

static const struct shr_value *scale_of(const struct shr_model *m, const char *quantized)
{
    return shr_node_in(shr_graph_find(&m->graph, quantized)->producer, 1);
}

static void what_a_concat_joins_has_one_range(void **state)
{
    (void)state;
    struct shr_dataset *data = tiny_samples(1, 6);
    for (int twice = 0; twice < 2; twice++) {
        struct shr_model *m = joined(twice != 0);
        struct shr_report report = {0};
        struct shr_model *r = tiny_run_static(m, data, "calibration=minmax", &report);
        assert_ptr_equal(scale_of(r, "c2_q"), scale_of(r, "j_q"));
        assert_ptr_equal(scale_of(r, "p_q"), scale_of(r, "j_q"));
        assert_true(tiny_note(&report, SHR_NOTE_DONE, "c1", "joined into j") == (twice == 0));
        assert_true(
            tiny_note(&report, SHR_NOTE_DONE, "c2", "quantized as what it is joined into j"));
        shr_report_finish(&report);
        shr_model_free(r);
        r = tiny_run_static(m, data, "calibration=minmax ranges=c2=-1:1", NULL); /* stays its own */
        assert_true(shr_tensor_get(&scale_of(r, "c2_q")->constant, 0) ==
                    (double)(float)(2.0 / 255));
        assert_ptr_equal(scale_of(r, "p_q"), scale_of(r, "c2_q"));
        assert_ptr_not_equal(scale_of(r, "p_q"), scale_of(r, "j_q"));
        shr_model_free(r);
        shr_model_free(m);
    }
    shr_dataset_free(data);
}

static void qoperator_form_has_integer_nodes_where_there_are_some(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_model *r = tiny_run_static(m, data, "format=qoperator", NULL);
    assert_int_equal(r->graph.n_nodes, 3); /* Q, and two QGemm, of which one gives floats */
    assert_int_equal(count_ops(r, "QuantizeLinear"), 1);
    struct shr_node *first = find_op(r, "QGemm"), *last = r->graph.last_node;
    assert_string_equal(first->domain, "com.microsoft");
    assert_string_equal(first->name, "fc1");
    assert_int_equal(first->n_in, 9);
    assert_string_equal(shr_node_out(first, 0)->name, "h_q"); /* the Relu is in the range */
    assert_int_equal(last->n_in, 7);
    assert_string_equal(shr_node_out(last, 0)->name, "y");
    assert_int_equal(shr_model_opset(r, "com.microsoft"), 1);
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);

    m = tiny_cnn();
    data = tiny_samples(1, 6);
    struct shr_report report = {0};
    r = tiny_run_static(m, data, "format=qoperator", &report);
    assert_int_equal(count_ops(r, "QLinearConv"), 2);
    assert_int_equal(count_ops(r, "QLinearAdd"), 1);
    assert_int_equal(count_ops(r, "Relu"), 0);
    assert_int_equal(shr_node_in(find_op(r, "MaxPool"), 0)->type.dtype, SHR_DTYPE_U8);
    assert_true(tiny_note(&report, SHR_NOTE_SKIPPED, "conv3",
                          "Conv stays in QDQ form: its output is used in float"));
    assert_true(tiny_note(&report, SHR_NOTE_DONE, "", "4 nodes in QOperator form"));
    shr_report_finish(&report);
    shr_model_free(r);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void quantize_static_errors_name_the_cause(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1), *wrong = tiny_samples(5, 1);
    struct shr_err err = {0};
    assert_null(tiny_run(m, "quantize_static", "", NULL, &err));
    assert_int_equal(err.code, SHR_ERR_INVALID);
    assert_string_equal(err.msg,
                        "quantize_static: needs data.calibrate, a dataset to calibrate on");
    assert_null(tiny_run_data(m, "quantize_static", "compat=pytorch", data, NULL, &err));
    assert_int_equal(err.code, SHR_ERR_UNSUPPORTED);
    assert_string_equal(err.msg, "quantize_static: compat: pytorch is reproduced with calibration "
                                 "minmax only, since its histograms depend on the batches");
    assert_null(tiny_run_data(m, "quantize_static", "max_memory=1KiB", data, NULL, &err));
    assert_int_equal(err.code, SHR_ERR_LIMIT);
    assert_null(tiny_run_data(m, "quantize_static", "", wrong, NULL, &err));
    assert_int_equal(err.code, SHR_ERR_INVALID);
    assert_non_null(strstr(err.msg, "quantize_static: data.calibrate: input x wants "));
    shr_dataset_free(data);
    shr_dataset_free(wrong);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantize_dynamic_writes_the_form_that_runtimes_fuse),
        cmocka_unit_test(quantize_dynamic_shares_inputs_and_tied_weights),
        cmocka_unit_test(quantize_dynamic_folds_alpha_beta_and_transposes),
        cmocka_unit_test(names_of_added_nodes_are_not_taken),
        cmocka_unit_test(quantize_dynamic_raises_an_old_opset),
        cmocka_unit_test(quantize_dynamic_says_what_stays_in_float_and_why),
        cmocka_unit_test(products_whose_alpha_overflows_stay_in_float),
        cmocka_unit_test(quantize_dynamic_writes_the_lstm_of_onnx_runtime),
        cmocka_unit_test(quantize_dynamic_leaves_an_lstm_that_has_no_quantized_form),
        cmocka_unit_test(quantize_static_writes_pairs_around_products_and_none_on_the_output),
        cmocka_unit_test(quantize_static_keeps_bias_int32_on_the_scale_of_the_sum),
        cmocka_unit_test(bias_correction_restores_the_mean),
        cmocka_unit_test(quantize_static_shares_ranges_and_joins_activations),
        cmocka_unit_test(quantize_static_raises_scales_that_a_bias_would_overflow),
        cmocka_unit_test(quantize_static_leaves_what_the_filter_excludes),
        cmocka_unit_test(the_audit_of_products_is_told_for_each_layer),
        cmocka_unit_test(quantize_static_gives_the_same_bytes_for_the_same_seed),
        cmocka_unit_test(quantize_static_takes_given_ranges),
        cmocka_unit_test(given_ranges_that_cannot_be_are_errors),
        cmocka_unit_test(the_range_of_a_softmax_is_known),
        cmocka_unit_test(what_a_concat_joins_has_one_range),
        cmocka_unit_test(qoperator_form_has_integer_nodes_where_there_are_some),
        cmocka_unit_test(quantize_static_errors_name_the_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
