/* onnx: what a model keeps on the way through the graph IR. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "files.h"
#include "graph/graph.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(example_models_come_out_as_they_went_in),
        cmocka_unit_test(mlp_is_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
