/* onnx: what a model keeps on the way through the graph IR. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "files.h"
#include "graph/graph.h"
#include "onnx.pb-c.h"

static struct shr_model *load(const struct shr_buf *bytes)
{
    struct shr_err err = {0};
    struct shr_model *model = NULL;
    if (shr_model_load(bytes->data, bytes->len, NULL, &model, &err) != SHR_OK) {
        fail_msg("%s", err.msg);
    }
    return model;
}

static struct shr_buf save(const struct shr_model *model)
{
    struct shr_err err = {0};
    struct shr_buf bytes = {0};
    if (shr_model_save(model, &bytes, &err) != SHR_OK) {
        fail_msg("%s", err.msg);
    }
    return bytes;
}

static void assert_same_bytes(const struct shr_buf *a, const struct shr_buf *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->data, b->data, a->len);
}

/* PyTorch wrote the examples in the order in which protobuf-c writes too. */
static void example_models_come_out_as_they_went_in(void **state)
{
    (void)state;
    static const char *const names[] = {"mlp.onnx", "cnn.onnx", "lstm.onnx"};
    for (size_t i = 0; i < SHR_COUNT_OF(names); i++) {
        struct shr_buf in = read_file(EXAMPLES, names[i]);
        struct shr_model *model = load(&in);
        struct shr_buf out = save(model);
        assert_same_bytes(&in, &out);
        struct shr_model *copy;
        assert_int_equal(shr_model_clone(model, &copy, NULL), SHR_OK);
        shr_model_free(model);
        struct shr_buf again = save(copy);
        assert_same_bytes(&in, &again);
        shr_model_free(copy);
        shr_buf_finish(&in);
        shr_buf_finish(&out);
        shr_buf_finish(&again);
    }
}

static void mlp_is_described(void **state)
{
    (void)state;
    struct shr_buf in = read_file(EXAMPLES, "mlp.onnx");
    struct shr_model *model = load(&in);
    struct shr_model_info info;
    assert_int_equal(shr_model_describe(model, &info, NULL), SHR_OK);
    assert_int_equal(info.parameters, 266610);
    assert_int_equal(info.opset, 13);
    assert_int_equal(info.n_inputs, 1);
    assert_string_equal(info.inputs[0].type.sym[0], "batch");
    assert_int_equal(info.inputs[0].type.dim[1], 784);
    shr_model_info_finish(&info);
    shr_model_free(model);
    shr_buf_finish(&in);
}

/* The same message in the one order in which protobuf-c writes its fields. */
static struct shr_buf canonical(const struct shr_buf *bytes)
{
    Onnx__ModelProto *message = onnx__model_proto__unpack(NULL, bytes->len, bytes->data);
    assert_non_null(message);
    struct shr_buf out = {0};
    const size_t n = onnx__model_proto__get_packed_size(message);
    void *to = shr_buf_reserve(&out, n);
    assert_non_null(to);
    out.len = onnx__model_proto__pack(message, to);
    onnx__model_proto__free_unpacked(message, NULL);
    return out;
}

static void every_field_of_every_message_survives(void **state)
{
    (void)state;
    struct shr_buf in = read_file(CASES, "everything.onnx");
    struct shr_model *model = load(&in);
    struct shr_buf out = save(model);
    struct shr_buf a = canonical(&in), b = canonical(&out);
    assert_same_bytes(&a, &b);

    /* Through a clone, and through what was written. */
    struct shr_model *copy, *again = load(&out);
    assert_int_equal(shr_model_clone(model, &copy, NULL), SHR_OK);
    shr_model_free(model);
    struct shr_buf out2 = save(copy), out3 = save(again);
    assert_same_bytes(&out, &out2);
    assert_same_bytes(&out, &out3);
    shr_model_free(copy);
    shr_model_free(again);
    struct shr_buf *bufs[] = {&in, &out, &a, &b, &out2, &out3};
    for (size_t i = 0; i < SHR_COUNT_OF(bufs); i++) {
        shr_buf_finish(bufs[i]);
    }
}

static struct shr_model *load_case(const char *name)
{
    struct shr_buf bytes = read_file(CASES, name);
    struct shr_model *model = load(&bytes);
    shr_buf_finish(&bytes);
    return model;
}

static void values_that_subgraphs_read_are_captured(void **state)
{
    (void)state;
    struct shr_model *model = load_case("everything.onnx");
    struct shr_graph *g = &model->graph;
    struct shr_node *choose = shr_graph_find(g, "i")->producer;
    assert_int_equal(choose->n_captures, 2);
    assert_ptr_equal(choose->captures[0], shr_graph_find(g, "h"));
    assert_ptr_equal(choose->captures[1], shr_graph_find(g, "flag"));
    assert_true(shr_graph_find(g, "h")->captured);
    assert_true(shr_graph_find(g, "w")->captured); /* by the training_info */
    assert_false(shr_graph_find(g, "c")->captured);
    assert_null(shr_graph_find(g, "one")); /* the subgraph's own */
    shr_model_free(model);
}

static void typed_fields_become_elements(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum shr_dtype dtype;
        double first, second;
    } expected[] = {
        {"float", SHR_DTYPE_F32, 1.5, -2},    {"int32", SHR_DTYPE_I32, -2147483648.0, 7},
        {"int16", SHR_DTYPE_I16, -32768, 7},  {"int8", SHR_DTYPE_I8, -128, 7},
        {"uint16", SHR_DTYPE_U16, 65535, 7},  {"uint8", SHR_DTYPE_U8, 255, 7},
        {"bool", SHR_DTYPE_BOOL, 1, 0},       {"float16", SHR_DTYPE_F16, 1, -2},
        {"bfloat16", SHR_DTYPE_BF16, 1, -2},  {"int64", SHR_DTYPE_I64, -0x1p53, 7},
        {"double", SHR_DTYPE_F64, 0.1, -2},   {"uint32", SHR_DTYPE_U32, 4294967295.0, 7},
        {"uint64", SHR_DTYPE_U64, 0x1p63, 7},
    };
    struct shr_model *model = load_case("typed.onnx");
    struct shr_buf bytes = save(model);
    struct shr_model *again = load(&bytes); /* now from raw_data */
    for (size_t i = 0; i < SHR_COUNT_OF(expected); i++) {
        const struct shr_value *v = shr_graph_find(&model->graph, expected[i].name);
        const struct shr_value *w = shr_graph_find(&again->graph, expected[i].name);
        assert_int_equal(v->constant.dtype, expected[i].dtype);
        assert_true(shr_tensor_get(&v->constant, 0) == expected[i].first);
        assert_true(shr_tensor_get(&v->constant, 1) == expected[i].second);
        assert_int_equal((uintptr_t)v->constant.data % SHR_MEM_ALIGN, 0);
        assert_memory_equal(v->constant.data, w->constant.data, shr_tensor_bytes(&v->constant));
    }
    const struct shr_value *none = shr_graph_find(&again->graph, "none");
    assert_true(shr_value_is_constant(none));
    assert_int_equal(shr_tensor_count(&none->constant), 0);
    shr_model_free(model);
    shr_model_free(again);
    shr_buf_finish(&bytes);
}

static void old_models_list_new_initializers_as_inputs(void **state)
{
    (void)state;
    struct shr_model *model = load_case("ir3.onnx");
    struct shr_graph *g = &model->graph;
    struct shr_model_info info;
    assert_int_equal(shr_model_describe(model, &info, NULL), SHR_OK);
    assert_int_equal(info.n_inputs, 1);
    shr_model_info_finish(&info);
    struct shr_tensor t;
    struct shr_value *v;
    assert_int_equal(shr_tensor_new(SHR_DTYPE_I8, 1, (int64_t[]){3}, &t, NULL), SHR_OK);
    assert_int_equal(shr_graph_add_constant(g, "w", t, &v, NULL), SHR_OK);
    shr_node_set_input(g->first_node, 1, v);

    struct shr_buf bytes = save(model);
    Onnx__ModelProto *message = onnx__model_proto__unpack(NULL, bytes.len, bytes.data);
    assert_int_equal(message->graph->n_input, 3);
    assert_string_equal(message->graph->input[2]->name, "w_1");
    assert_int_equal(message->graph->input[2]->type->tensor_type->elem_type, SHR_DTYPE_I8);
    assert_int_equal(message->graph->input[2]->type->tensor_type->shape->dim[0]->dim_value, 3);
    onnx__model_proto__free_unpacked(message, NULL);

    /* The old weight is an input too, and goes all the same when nothing reads it. */
    assert_int_equal(shr_graph_drop_unused(g), 0);
    assert_null(shr_graph_find(g, "w"));
    assert_int_equal(g->n_inputs, 1);
    shr_model_free(model);
    shr_buf_finish(&bytes);
}

static void nodes_out_of_order_are_sorted(void **state)
{
    (void)state;
    struct shr_model *model = load_case("unsorted.onnx");
    assert_string_equal(model->graph.first_node->name, "product");
    shr_model_free(model);
}

static void what_was_sorted_is_saved_alike_again(void **state)
{
    (void)state;
    struct shr_model *model = load_case("unsorted_declared.onnx"), *again;
    struct shr_buf first = save(model), second;
    assert_int_equal(shr_model_load(first.data, first.len, NULL, &again, NULL), SHR_OK);
    second = save(again);
    assert_same_bytes(&first, &second);
    shr_buf_finish(&first);
    shr_buf_finish(&second);
    shr_model_free(again);
    shr_model_free(model);
}

static void constant_nodes_are_known_data(void **state)
{
    (void)state;
    struct shr_model *model = load_case("constants.onnx");
    const struct shr_graph *g = &model->graph;
    static const struct {
        enum shr_dtype dtype;
        int rank;
        double last;
    } expected[] = {{SHR_DTYPE_F32, 0, 1.5},
                    {SHR_DTYPE_I64, 1, 4},
                    {SHR_DTYPE_I64, 0, 9},
                    {SHR_DTYPE_F32, 1, 2.5}};
    for (size_t i = 0; i < SHR_COUNT_OF(expected); i++) {
        const struct shr_value *v = shr_graph_find(g, (char[]){'c', (char)('0' + i), 0});
        assert_int_equal(v->constant.dtype, expected[i].dtype);
        assert_int_equal(v->type.rank, expected[i].rank);
        assert_true(shr_tensor_get(&v->constant, shr_tensor_count(&v->constant) - 1) ==
                    expected[i].last);
        assert_non_null(v->producer);
    }
    assert_false(shr_value_is_constant(shr_graph_find(g, "c4")));
    shr_model_free(model);
}

/* A declared type is written as it came while it holds, and anew when the value has another. */
static void changed_types_are_written_anew(void **state)
{
    (void)state;
    struct shr_model *model = load_case("everything.onnx");
    struct shr_value *x = shr_graph_find(&model->graph, "x");
    assert_string_equal(x->type.sym[0], "N");
    x->type.dim[1] = 3;
    struct shr_buf bytes = save(model);
    Onnx__ModelProto *message = onnx__model_proto__unpack(NULL, bytes.len, bytes.data);
    const Onnx__TypeProto *type = message->graph->input[0]->type;
    assert_null(type->denotation);
    assert_string_equal(type->tensor_type->shape->dim[0]->dim_param, "N");
    assert_int_equal(type->tensor_type->shape->dim[1]->dim_value, 3);
    assert_string_equal(message->graph->value_info[0]->doc_string, "in between");
    onnx__model_proto__free_unpacked(message, NULL);
    shr_model_free(model);
    shr_buf_finish(&bytes);
}

static void data_of_an_unknown_type_comes_out_as_it_went_in(void **state)
{
    (void)state;
    struct shr_buf in = read_file(CASES, "opaque.onnx");
    struct shr_model *model = load(&in);
    const struct shr_value *w = shr_graph_find(&model->graph, "w");
    assert_true(shr_value_is_constant(w));
    assert_int_equal(w->constant.dtype, SHR_DTYPE_NONE);
    assert_int_equal(shr_tensor_bytes(&w->constant), 0);
    struct shr_buf out = save(model);
    struct shr_buf a = canonical(&in), b = canonical(&out);
    assert_same_bytes(&a, &b);
    shr_model_free(model);
    shr_buf_finish(&in);
    shr_buf_finish(&out);
    shr_buf_finish(&a);
    shr_buf_finish(&b);
}

static void elements_that_share_bytes_are_packed_in_files(void **state)
{
    (void)state;
    static const struct {
        enum shr_dtype dtype;
        int8_t elements[5];
        size_t n_packed;
        uint8_t packed[3]; /* the first element in the lowest bits */
    } cases[] = {
        {SHR_DTYPE_I4, {-8, 7, -1, 0, 3}, 3, {0x78, 0x0f, 0x03}},
        {SHR_DTYPE_U4, {15, 0, 1, 9, 3}, 3, {0x0f, 0x91, 0x03}},
        {SHR_DTYPE_I2, {-2, 1, -1, 0, 1}, 2, {0x36, 0x01}},
        {SHR_DTYPE_U2, {3, 0, 1, 2, 3}, 2, {0x93, 0x03}},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_model *model = shr_model_new();
        struct shr_tensor t;
        struct shr_value *w;
        assert_int_equal(shr_tensor_new(cases[i].dtype, 1, (int64_t[]){5}, &t, NULL), SHR_OK);
        memcpy(t.data, cases[i].elements, 5);
        assert_int_equal(shr_model_import(model, "", 25, NULL), SHR_OK);
        assert_int_equal(shr_graph_add_constant(&model->graph, "w", t, &w, NULL), SHR_OK);
        assert_int_equal(shr_graph_add_output(&model->graph, w, NULL), SHR_OK);
        struct shr_buf bytes = save(model);
        shr_model_free(model);
        Onnx__ModelProto *message =
            onnx__model_proto__unpack(NULL, bytes.len, (const uint8_t *)bytes.data);
        assert_int_equal(message->graph->initializer[0]->raw_data.len, cases[i].n_packed);
        assert_memory_equal(message->graph->initializer[0]->raw_data.data, cases[i].packed,
                            cases[i].n_packed);
        onnx__model_proto__free_unpacked(message, NULL);
        model = load(&bytes);
        w = shr_graph_find(&model->graph, "w");
        assert_int_equal(w->constant.dtype, cases[i].dtype);
        assert_memory_equal(w->constant.data, cases[i].elements, 5);
        shr_model_free(model);
        shr_buf_finish(&bytes);
    }
}

static void metadata_that_was_set_is_saved(void **state)
{
    (void)state;
    struct shr_model *model = load_case("everything.onnx");
    assert_int_equal(shr_model_set_metadata(model, "author", "somebody", NULL), SHR_OK);
    assert_int_equal(shr_model_set_metadata(model, "recipe", "{}", NULL), SHR_OK);
    struct shr_buf bytes = save(model);
    shr_model_free(model);
    model = load(&bytes);
    const struct shr_metadata *entry = model->metadata;
    assert_string_equal(entry->value, "somebody");
    assert_string_equal(entry->next->next->key, "recipe");
    assert_null(entry->next->next->next);
    shr_model_free(model);
    shr_buf_finish(&bytes);
}

static void assert_same_message(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    uint8_t first[256], second[256];
    size_t n = protobuf_c_message_get_packed_size(a);
    assert_int_equal(n, protobuf_c_message_get_packed_size(b));
    assert_true(n <= sizeof first);
    protobuf_c_message_pack(a, first);
    protobuf_c_message_pack(b, second);
    assert_memory_equal(first, second, n);
}

static void sparse_initializers_are_dense_data_and_come_out_as_they_went_in(void **state)
{
    (void)state;
    static const char *const names[] = {"sparse_flat.onnx", "sparse_pairs.onnx",
                                        "sparse_int16.onnx"};
    static const float dense[] = {0, 1.5F, 0, 0, 0, -2};
    for (size_t i = 0; i < SHR_COUNT_OF(names); i++) {
        struct shr_buf in = read_file(CASES, names[i]);
        struct shr_model *model = load(&in);
        const struct shr_value *v = shr_graph_find(&model->graph, "s");
        assert_int_equal(v->type.rank, 2);
        assert_int_equal(shr_tensor_bytes(&v->constant), sizeof dense);
        assert_memory_equal(v->constant.data, dense, sizeof dense);
        struct shr_model *copy;
        assert_int_equal(shr_model_clone(model, &copy, NULL), SHR_OK);
        struct shr_buf out = save(copy);
        Onnx__ModelProto *was = onnx__model_proto__unpack(NULL, in.len, (const uint8_t *)in.data);
        Onnx__ModelProto *is = onnx__model_proto__unpack(NULL, out.len, (const uint8_t *)out.data);
        assert_same_message(&was->graph->sparse_initializer[0]->base,
                            &is->graph->sparse_initializer[0]->base);
        onnx__model_proto__free_unpacked(was, NULL);
        onnx__model_proto__free_unpacked(is, NULL);
        shr_buf_finish(&in);
        shr_buf_finish(&out);
        shr_model_free(copy);
        shr_model_free(model);
    }
}

/* n elements of which every step-th is not zero, written with the given indices */
static Onnx__GraphProto *sparse_graph(int64_t n, int64_t step, enum shr_store store,
                                      Onnx__ModelProto **ret_message)
{
    struct shr_model *model = load_case("sparse_flat.onnx");
    struct shr_value *v = shr_graph_find(&model->graph, "s");
    struct shr_tensor t;
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 1, &n, &t, NULL), SHR_OK);
    for (int64_t i = 0; i < n; i += step) {
        shr_tensor_set(&t, i, -1 - (double)i);
    }
    shr_value_set_constant(v, t);
    v->store = store;
    struct shr_buf bytes = save(model);
    struct shr_model *again = load(&bytes);
    const struct shr_tensor *read = &shr_graph_find(&again->graph, "s")->constant;
    assert_int_equal(shr_tensor_bytes(read), (size_t)n * sizeof(float));
    assert_memory_equal(read->data, v->constant.data, (size_t)n * sizeof(float));
    *ret_message = onnx__model_proto__unpack(NULL, bytes.len, (const uint8_t *)bytes.data);
    shr_buf_finish(&bytes);
    shr_model_free(again);
    shr_model_free(model);
    return (*ret_message)->graph;
}

static void data_is_written_sparse_where_that_is_smaller(void **state)
{
    (void)state;
    static const struct {
        int64_t n, step;
        enum shr_store store;
        int32_t index_type; /* 0: dense */
    } expected[] = {
        {300, 2, SHR_STORE_SPARSE, SHR_DTYPE_I16},
        {300, 1, SHR_STORE_SPARSE, 0},
        {300, 4, SHR_STORE_DENSE, 0},
        {40000, 2, SHR_STORE_SPARSE, 0}, /* int32 beside float32: as large */
        {40000, 3, SHR_STORE_SPARSE, SHR_DTYPE_I32},
        {300, 3, SHR_STORE_SPARSE_INT64, 0},
        {300, 4, SHR_STORE_SPARSE_INT64, SHR_DTYPE_I64},
        {300, 1000, SHR_STORE_SPARSE, SHR_DTYPE_I16},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(expected); i++) {
        Onnx__ModelProto *message;
        const Onnx__GraphProto *g =
            sparse_graph(expected[i].n, expected[i].step, expected[i].store, &message);
        assert_int_equal(g->n_sparse_initializer, expected[i].index_type != 0);
        if (expected[i].index_type != 0) {
            assert_int_equal(g->sparse_initializer[0]->indices->data_type, expected[i].index_type);
        }
        onnx__model_proto__free_unpacked(message, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(example_models_come_out_as_they_went_in),
        cmocka_unit_test(mlp_is_described),
        cmocka_unit_test(every_field_of_every_message_survives),
        cmocka_unit_test(values_that_subgraphs_read_are_captured),
        cmocka_unit_test(typed_fields_become_elements),
        cmocka_unit_test(old_models_list_new_initializers_as_inputs),
        cmocka_unit_test(nodes_out_of_order_are_sorted),
        cmocka_unit_test(what_was_sorted_is_saved_alike_again),
        cmocka_unit_test(constant_nodes_are_known_data),
        cmocka_unit_test(changed_types_are_written_anew),
        cmocka_unit_test(data_of_an_unknown_type_comes_out_as_it_went_in),
        cmocka_unit_test(elements_that_share_bytes_are_packed_in_files),
        cmocka_unit_test(metadata_that_was_set_is_saved),
        cmocka_unit_test(sparse_initializers_are_dense_data_and_come_out_as_they_went_in),
        cmocka_unit_test(data_is_written_sparse_where_that_is_smaller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
