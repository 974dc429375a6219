/* The operator table and type inference: rules, messages, and errors found while running. */
#include "../exec/build.h"

#include <string.h>

#include "ops/op.h"

static struct shr_type f32_type(int rank, const int64_t *dim)
{
    struct shr_type t = {.dtype = SHR_DTYPE_F32, .rank = rank};
    memcpy(t.dim, dim, (size_t)rank * sizeof *dim);
    return t;
}

static void assert_type(const struct shr_value *v, enum shr_dtype dtype, const int64_t *dims)
{
    char got[96], want[96];
    assert_int_equal(v->type.dtype, dtype);
    assert_string_equal(shr_dims_text(v->type.rank, v->type.dim, got, sizeof got),
                        shr_dims_text((int)dims[0], dims + 1, want, sizeof want));
}

static void infer(struct shr_model *m)
{
    struct shr_err err = {0};
    shr_model_resolve(m);
    if (shr_model_infer(m, NULL, &err) != SHR_OK) {
        fail_msg("%s", err.msg);
    }
}

static void assert_refused(struct shr_model *m, int code, const char *message)
{
    struct shr_err err = {0};
    shr_model_resolve(m);
    assert_int_equal(shr_model_infer(m, NULL, &err), code);
    assert_string_equal(err.msg, message);
    shr_model_free(m);
}

/* ── The table ──────────────────────────────────────────────────────────────────────────────── */

static void rows_are_complete_and_do_not_overlap(void **state)
{
    (void)state;
    for (size_t i = 0; i < shr_op_count(); i++) {
        struct shr_op_info a = shr_op_at(i);
        const struct shr_op *row = shr_op_find(a.domain, a.name, a.since);
        assert_non_null(row);
        assert_true(row->since == a.since && row->until == a.until);
        assert_non_null(row->infer);
        assert_non_null(row->forward);
        assert_true(row->until == 0 || row->until >= row->since);
        if (row->quant_role == SHR_QUANT_WEIGHTED || row->prune_role == SHR_PRUNE_WEIGHTED) {
            assert_true(row->weight_slot >= 0);
        }
        for (size_t j = i + 1; j < shr_op_count(); j++) {
            struct shr_op_info b = shr_op_at(j);
            if (strcmp(a.name, b.name) == 0 && strcmp(a.domain, b.domain) == 0) {
                assert_true((a.until != 0 && a.until < b.since) ||
                            (b.until != 0 && b.until < a.since));
            }
        }
    }
    assert_null(shr_op_at(shr_op_count()).name);
}

static void find_chooses_the_row_of_the_opset(void **state)
{
    (void)state;
    assert_int_equal(shr_op_find("", "Clip", 10)->in_max, 1);
    assert_int_equal(shr_op_find("", "Clip", 11)->in_max, 3);
    assert_int_equal(shr_op_find("ai.onnx", "Squeeze", 12)->in_max, 1);
    assert_int_equal(shr_op_find("", "Squeeze", 25)->in_max, 2);
    assert_null(shr_op_find("", "LayerNormalization", 16));
    assert_null(shr_op_find("", "NoSuchOperator", 13));
    assert_null(shr_op_find("com.example", "Relu", 13));
}

/* ── Inference ──────────────────────────────────────────────────────────────────────────────── */

static void symbols_go_through_products_and_broadcasts(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 8));
    x->type.sym[0] = "N";
    struct shr_value *w = build_f32(m, "w", DIMS(8, 3), (float[24]){0});
    struct shr_value *b = build_f32(m, "b", DIMS(3), (float[3]){0});
    struct shr_value *y = build_node(m, "MatMul", "y", x, w, NULL);
    struct shr_value *z = build_node(m, "Add", "z", y, b, NULL);
    struct shr_value *s = build_node(m, "Add", "s", z, y, NULL);
    infer(m);
    assert_type(s, SHR_DTYPE_F32, DIMS(-1, 3));
    assert_string_equal(z->type.sym[0], "N");
    assert_string_equal(s->type.sym[0], "N");
    shr_model_free(m);
}

/* x (N, 2, 3) is flattened by Shape, Gather, Unsqueeze, Concat, Reshape, as exporters write it. */
static struct shr_model *flatten_by_arithmetic(struct shr_value **ret)
{
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 2, 3));
    struct shr_value *zero = build_scalar(m, "zero", SHR_DTYPE_I64, 0.0);
    struct shr_value *axes = build_i64(m, "axes", (int64_t[]){0}, 1);
    struct shr_value *rest = build_i64(m, "rest", (int64_t[]){-1}, 1);
    struct shr_value *shape = build_node(m, "Shape", "shape", x, NULL);
    struct shr_value *n = build_node(m, "Gather", "n", shape, zero, NULL);
    struct shr_value *n1 = build_node(m, "Unsqueeze", "n1", n, axes, NULL);
    struct shr_value *to = build_node(m, "Concat", "to", n1, rest, NULL);
    build_int(m, "axis", 0);
    *ret = build_node(m, "Reshape", "y", x, to, NULL);
    return m;
}

static void shapes_made_by_arithmetic_are_known_for_given_types(void **state)
{
    (void)state;
    struct shr_value *y;
    struct shr_model *m = flatten_by_arithmetic(&y);
    infer(m);
    assert_type(y, SHR_DTYPE_F32, DIMS(-1, -1));
    for (int64_t n = 4; n <= 5; n++) { /* nothing of the first types may stay */
        struct shr_type in = f32_type(3, (int64_t[]){n, 2, 3});
        struct shr_err err = {0};
        assert_int_equal(shr_model_infer(m, &in, &err), SHR_OK);
        assert_type(y, SHR_DTYPE_F32, DIMS(n, 6));
        assert_false(shr_value_is_constant(shr_graph_find(&m->graph, "to")));
    }
    shr_model_free(m);
}

static void what_shapes_decide_becomes_constant(void **state)
{
    (void)state;
    struct shr_value *y;
    struct shr_err err = {0};
    struct shr_model *m = flatten_by_arithmetic(&y);
    struct shr_type in = f32_type(3, (int64_t[]){4, 2, 3});
    shr_model_resolve(m);
    assert_int_equal(shr_model_infer(m, &in, &err), SHR_OK);
    assert_int_equal(shr_model_settle(m, &err), SHR_OK);
    const struct shr_value *to = shr_graph_find(&m->graph, "to");
    assert_true(shr_value_is_constant(to) && shr_tensor_get(&to->constant, 0) == 4);
    assert_int_equal(m->graph.n_nodes, 1); /* the Reshape */
    assert_type(y, SHR_DTYPE_F32, DIMS(4, 6));
    shr_model_free(m);
}

static void unknown_operators_leave_their_outputs_unknown(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(2, 3));
    struct shr_value *u = build_node(m, "NoSuchOperator", "u", x, NULL);
    struct shr_value *y = build_node(m, "Relu", "y", u, NULL);
    infer(m);
    assert_int_equal(u->type.rank, -1);
    assert_int_equal(y->type.rank, -1);
    shr_model_free(m);
}

static void declared_types_fill_what_stays_open(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 3));
    struct shr_value *u = build_node(m, "NoSuchOperator", "u", x, NULL);
    u->type = f32_type(2, (int64_t[]){4, 5});
    u->was_declared = true;
    struct shr_value *y = build_node(m, "Relu", "y", u, NULL);
    infer(m);
    assert_type(y, SHR_DTYPE_F32, DIMS(4, 5));
    shr_model_free(m);
}

static void windows_count_their_outputs(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 3, 28, 27));
    struct shr_value *w = build_f32(m, "w", DIMS(4, 3, 3, 3), (float[108]){0});
    struct shr_value *y = build_node(m, "Conv", "y", x, w, NULL);
    build_ints(m, "pads", (int64_t[]){1, 0, 1, 0}, 4);
    build_ints(m, "strides", (int64_t[]){1, 2}, 2);
    struct shr_value *p = build_node(m, "MaxPool", "p", y, NULL);
    build_ints(m, "kernel_shape", (int64_t[]){2, 2}, 2);
    build_ints(m, "strides", (int64_t[]){2, 2}, 2);
    build_int(m, "ceil_mode", 1);
    infer(m);
    assert_type(y, SHR_DTYPE_F32, DIMS(-1, 4, 28, 13));
    assert_type(p, SHR_DTYPE_F32, DIMS(-1, 4, 14, 7));
    shr_model_free(m);
}

/* ── Messages ───────────────────────────────────────────────────────────────────────────────── */

static void errors_of_inference_name_node_and_shapes(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 8));
    build_node(m, "MatMul", "fc", x, build_f32(m, "w", DIMS(7, 1), (float[7]){0}), NULL);
    assert_refused(m, SHR_ERR_INVALID, "MatMul 'fc': cannot multiply [?, 8] by [7, 1]");

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(4, 3));
    build_node(m, "Add", "sum", x, build_f32(m, "b", DIMS(2), (float[2]){0}), NULL);
    assert_refused(m, SHR_ERR_INVALID, "Add 'sum': shapes [4, 3] and [2] do not broadcast");

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(4, 3));
    build_node(m, "Reshape", "r", x, build_i64(m, "to", (int64_t[]){5, -1}, 2), NULL);
    assert_refused(m, SHR_ERR_INVALID, "Reshape 'r': cannot reshape [4, 3] to [5, ?]");

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(4, 3));
    build_node(m, "Mul", "scale", x, build_i64(m, "k", (int64_t[]){2}, 1), NULL);
    assert_refused(m, SHR_ERR_INVALID, "Mul 'scale': input 'x' is float32, but input 'k' is int64");

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(1, 3, 8, 8));
    build_node(m, "Conv", "c", x, build_f32(m, "w", DIMS(2, 4, 1, 1), (float[8]){0}), NULL);
    assert_refused(m, SHR_ERR_INVALID,
                   "Conv 'c': the input has 3 channels, the weight wants 4 in 1 groups");

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(4, 3));
    build_node(m, "Softmax", "s", x, NULL);
    build_int(m, "axis", 2);
    assert_refused(m, SHR_ERR_INVALID, "Softmax 's': axis 2 is not in [-2, 1]");
}

/* 2 directions, 3 inputs, 4 units; slot `without` is omitted. */
static struct shr_model *quant_lstm(const int64_t *w_dims, const int64_t *zero_dims, size_t without)
{
    struct shr_model *m = build_model();
    struct shr_rng rng;
    shr_rng_init(&rng, 1);
    struct shr_value *in[12] = {
        build_input(m, "x", SHR_DTYPE_F32, DIMS(5, -1, 3)),
        build_random(m, "w", SHR_DTYPE_I8, w_dims, -9, 9, &rng),
        build_random(m, "r", SHR_DTYPE_I8, DIMS(2, 4, 16), -9, 9, &rng),
        [8] = build_random(m, "ws", SHR_DTYPE_F32, DIMS(2, 16), 1, 2, &rng),
        [9] = build_random(m, "wz", SHR_DTYPE_I8, zero_dims, 0, 1, &rng),
        [10] = build_random(m, "rs", SHR_DTYPE_F32, DIMS(2), 1, 2, &rng),
        [11] = build_random(m, "rz", SHR_DTYPE_I8, DIMS(2), 0, 1, &rng),
    };
    struct shr_value *y = NULL;
    struct shr_node *n = NULL;
    in[without] = NULL;
    assert_int_equal(shr_model_import(m, "com.microsoft", 1, NULL), 0);
    assert_int_equal(shr_graph_add_value(&m->graph, "y", &y, NULL), 0);
    assert_int_equal(shr_graph_add_node(&m->graph, NULL, "com.microsoft", "DynamicQuantizeLSTM",
                                        "cell", in, 12, &y, 1, &n, NULL),
                     0);
    assert_int_equal(shr_node_set_text(&m->graph, n, "direction", "bidirectional", NULL), 0);
    return m;
}

static void a_quantized_lstm_has_transposed_weights_and_all_its_scales(void **state)
{
    (void)state;
    enum { NONE = 3 };
    struct shr_model *m = quant_lstm(DIMS(2, 3, 16), DIMS(2, 16), NONE);
    infer(m);
    assert_type(shr_graph_find(&m->graph, "y"), SHR_DTYPE_F32, DIMS(5, 2, -1, 4));
    shr_model_free(m);
    assert_refused(quant_lstm(DIMS(2, 16, 3), DIMS(2), NONE), SHR_ERR_INVALID,
                   "DynamicQuantizeLSTM 'cell': input 'w' is [2, 16, 3], not [2, 3, 16]");
    assert_refused(quant_lstm(DIMS(2, 3, 16), DIMS(16), NONE), SHR_ERR_INVALID,
                   "DynamicQuantizeLSTM 'cell': input 'wz' is [16]: neither one value nor one a "
                   "column for each direction");
    assert_refused(quant_lstm(DIMS(2, 3, 16), DIMS(2), 10), SHR_ERR_INVALID,
                   "DynamicQuantizeLSTM 'cell': the scales and zero points of W and R must be "
                   "given");
}

static void wrong_numbers_of_inputs_are_refused(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(2));
    build_node(m, "Add", "a", x, NULL);
    assert_refused(m, SHR_ERR_INVALID, "Add 'a': input 1 is missing");

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(2));
    build_node(m, "Relu", "r", x, x, NULL);
    assert_refused(m, SHR_ERR_INVALID, "Relu 'r': has 2 inputs, at most 1 are allowed");
}

static void a_contradicted_declaration_is_refused(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(2));
    struct shr_value *y = build_node(m, "Relu", "r", x, NULL);
    y->type.dtype = SHR_DTYPE_I64;
    y->was_declared = true;
    assert_refused(m, SHR_ERR_INVALID, "Relu 'r': output 'r' is float32, but declared as int64");
}

static void hostile_numbers_do_not_overflow(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(1, 1, 8, 8));
    build_node(m, "MaxPool", "p", x, NULL);
    build_ints(m, "kernel_shape", (int64_t[]){INT64_MAX, 2}, 2);
    assert_refused(m, SHR_ERR_INVALID,
                   "MaxPool 'p': kernel_shape[0] is 9223372036854775807, not in [1, 1073741824]");

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(4));
    build_node(m, "Tile", "t", x, build_i64(m, "n", (int64_t[]){INT64_MAX / 2}, 1), NULL);
    assert_refused(m, SHR_ERR_INVALID, "Tile 't': repeats[0] is 4611686018427387903");

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(INT64_MAX, INT64_MAX));
    struct shr_value *y = build_node(m, "Flatten", "f", x, NULL);
    build_int(m, "axis", 2);
    infer(m);
    assert_type(y, SHR_DTYPE_F32, DIMS(-1, 1));
    shr_model_free(m);

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(1, 1, INT64_MAX, 8));
    build_node(m, "MaxPool", "p", x, NULL);
    build_ints(m, "kernel_shape", (int64_t[]){2, 2}, 2);
    assert_refused(m, SHR_ERR_LIMIT, "MaxPool 'p': input dim 2 is 9223372036854775807");

    m = build_model();
    x = build_input(m, "x", SHR_DTYPE_F32, DIMS(8));
    build_node(m, "Split", "s", x, build_i64(m, "n", (int64_t[]){INT64_MAX, INT64_MAX}, 2), NULL);
    assert_refused(m, SHR_ERR_INVALID, "Split 's': 2 sizes for 1 outputs");
}

static void multiplications_that_cannot_be_counted_are_told(void **state)
{
    (void)state;
    const struct shr_type huge = f32_type(2, (int64_t[]){INT64_MAX, INT64_MAX});
    const struct shr_type cube = f32_type(3, (int64_t[]){INT64_MAX, INT64_MAX, INT64_MAX});
    const struct shr_type in[8] = {cube, cube, cube, cube, cube, cube, cube, cube};
    const char *const ops[] = {"Conv",        "MatMul",      "Gemm",         "LSTM",
                               "ConvInteger", "QLinearConv", "MatMulInteger"};
    struct shr_model *m = build_model();
    build_node(m, "Relu", "r", build_input(m, "x", SHR_DTYPE_F32, DIMS(1)), NULL);
    for (size_t i = 0; i < SHR_COUNT_OF(ops); i++) {
        const struct shr_op *row = shr_op_find("", ops[i], 13);
        assert_non_null(row);
        assert_int_equal(row->macs(build_last(m), in, &huge), -1);
    }
    shr_model_free(m);
}

static void large_constants_are_left_to_the_arena_and_its_limit(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *shape = build_i64(m, "shape", (int64_t[]){INT64_C(1) << 40}, 1);
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(1));
    struct shr_value *c = build_node(m, "ConstantOfShape", "c", shape, NULL);
    build_output(m, build_node(m, "Add", "y", c, x, NULL));
    shr_model_resolve(m);
    struct shr_err err = {0};
    struct shr_plan *plan = NULL;
    assert_int_equal(shr_plan_new(m, &(struct shr_plan_opts){0}, &plan, &err), SHR_ERR_LIMIT);
    shr_model_free(m);
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

static void assert_run_fails(struct shr_plan *plan, const char *message)
{
    struct shr_err err = {0};
    assert_int_equal(shr_plan_run(plan, NULL, &err), SHR_ERR_INVALID);
    assert_non_null(strstr(err.msg, message));
}

static void a_type_that_does_not_run_is_named_by_the_plan(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    build_output(m,
                 build_node(m, "Softmax", "e", build_input(m, "x", SHR_DTYPE_F64, DIMS(2)), NULL));
    shr_model_resolve(m);
    struct shr_err err = {0};
    struct shr_plan *plan = NULL;
    assert_int_equal(shr_plan_new(m, &(struct shr_plan_opts){0}, &plan, &err), SHR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "Softmax 'e': cannot run with input 'x' of type float64"));
    shr_model_free(m);
}

static void an_index_out_of_range_is_an_error(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(3));
    struct shr_value *i = build_input(m, "i", SHR_DTYPE_I64, DIMS(1));
    build_output(m, build_node(m, "Gather", "g", x, i, NULL));
    shr_model_resolve(m);
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){0});
    *(int64_t *)shr_plan_input(plan, 1)->data = 3;
    assert_run_fails(plan, "Gather 'g': index 3 is not in [-3, 2]");
    *(int64_t *)shr_plan_input(plan, 1)->data = -3;
    build_run(plan);
    shr_plan_free(plan);
    shr_model_free(m);
}

static void an_integer_divided_by_zero_is_an_error(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_I32, DIMS(2));
    struct shr_value *y = build_input(m, "y", SHR_DTYPE_I32, DIMS(2));
    build_output(m, build_node(m, "Div", "d", x, y, NULL));
    shr_model_resolve(m);
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){0});
    int32_t *a = shr_plan_input(plan, 0)->data, *b = shr_plan_input(plan, 1)->data;
    a[0] = INT32_MIN;
    a[1] = 7;
    b[0] = -1;
    b[1] = 0;
    assert_run_fails(plan, "Div 'd': element 1 of the integer divisor 'y' is 0");
    b[1] = -2;
    build_run(plan);
    const int32_t *out = shr_plan_output(plan, 0)->data;
    assert_int_equal(out[0], INT32_MIN); /* wraps around */
    assert_int_equal(out[1], -3);
    shr_plan_free(plan);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_complete_and_do_not_overlap),
        cmocka_unit_test(find_chooses_the_row_of_the_opset),
        cmocka_unit_test(symbols_go_through_products_and_broadcasts),
        cmocka_unit_test(shapes_made_by_arithmetic_are_known_for_given_types),
        cmocka_unit_test(what_shapes_decide_becomes_constant),
        cmocka_unit_test(unknown_operators_leave_their_outputs_unknown),
        cmocka_unit_test(declared_types_fill_what_stays_open),
        cmocka_unit_test(windows_count_their_outputs),
        cmocka_unit_test(errors_of_inference_name_node_and_shapes),
        cmocka_unit_test(a_quantized_lstm_has_transposed_weights_and_all_its_scales),
        cmocka_unit_test(wrong_numbers_of_inputs_are_refused),
        cmocka_unit_test(a_contradicted_declaration_is_refused),
        cmocka_unit_test(hostile_numbers_do_not_overflow),
        cmocka_unit_test(multiplications_that_cannot_be_counted_are_told),
        cmocka_unit_test(large_constants_are_left_to_the_arena_and_its_limit),
        cmocka_unit_test(a_type_that_does_not_run_is_named_by_the_plan),
        cmocka_unit_test(an_index_out_of_range_is_an_error),
        cmocka_unit_test(an_integer_divided_by_zero_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
