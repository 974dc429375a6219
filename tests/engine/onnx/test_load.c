/* onnx/load: every broken file is refused with a message that names the place. The files are made
 * by make_cases.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

#include "files.h"
#include "shrink.h"

static const struct {
    const char *file;
    int code;
    const char *message;
} cases[] = {
    /* The encoding */
    {"empty", SHR_ERR_PARSE, "not a valid ONNX file: it is empty"},
    {"text", SHR_ERR_PARSE,
     "not a valid ONNX file: field 15 at byte 0 has the unknown wire type 3"},
    {"png", SHR_ERR_PARSE, "not a valid ONNX file: no field begins at byte 10"},
    {"truncated", SHR_ERR_PARSE,
     "not a valid ONNX file: graph at byte 2 needs 125 bytes, 101 are left"},
    {"cut_weight", SHR_ERR_PARSE,
     "not a valid ONNX file: graph at byte 2 needs 125 bytes, 73 are left"},
    {"no_graph", SHR_ERR_PARSE, "not a valid ONNX file: it has no graph"},
    {"twice", SHR_ERR_PARSE, "not a valid ONNX file: graph at byte 135 is given a second time"},
    {"zero_tag", SHR_ERR_PARSE, "not a valid ONNX file: no field begins at byte 135"},
    {"long_varint", SHR_ERR_PARSE,
     "not a valid ONNX file: ir_version at byte 0 is no whole number"},
    {"wrong_wire", SHR_ERR_PARSE,
     "not a valid ONNX file: graph.node[0].op_type at byte 6 has wire type 0 instead of 2"},
    {"latin1", SHR_ERR_PARSE, "not a valid ONNX file: producer_name at byte 2 is no UTF-8 text"},
    {"zero_in_name", SHR_ERR_PARSE, "not a valid ONNX file: graph.name at byte 4 is no UTF-8 text"},
    {"group", SHR_ERR_PARSE,
     "not a valid ONNX file: ir_version at byte 0 has the unknown wire type 3"},
    {"odd_floats", SHR_ERR_PARSE,
     "not a valid ONNX file: graph.initializer[0].float_data at byte 6 does not end with a whole "
     "number"},
    {"cut_packed", SHR_ERR_PARSE,
     "not a valid ONNX file: graph.initializer[0].int64_data at byte 6 does not end with a whole "
     "number"},
    {"nested_17", SHR_ERR_LIMIT,
     "subgraphs nest deeper than 16 levels: graph.node[0].attribute[0].g.node[0].attribute[0].g."
     "node[0].attribute[0].g.node[0].attribute[0].g.node[0].attribute[0].g.node[0"},
    {"nested_types", SHR_ERR_LIMIT,
     "messages nest deeper than 64 levels: graph.input[0].type.sequence_type.elem_type."
     "sequence_type.elem_type.sequence_type.elem_type.sequence_type.elem_type.sequence_ty"},

    /* Versions */
    {"no_ir", SHR_ERR_INVALID, "ir_version is missing"},
    {"ir2", SHR_ERR_UNSUPPORTED,
     "IR version 2 is not between 3 and 13: save the model with a newer onnx"},
    {"ir99", SHR_ERR_UNSUPPORTED,
     "IR version 99 is not between 3 and 13: save the model with a lower ir_version"},
    {"no_opset", SHR_ERR_INVALID, "opset_import is missing"},
    {"opset6", SHR_ERR_UNSUPPORTED,
     "opset 6 of ai.onnx is older than 7: convert the model with onnx.version_converter"},
    {"opset0", SHR_ERR_INVALID, "opset_import: version 0 of domain 'ai.onnx'"},
    {"two_opsets", SHR_ERR_INVALID, "opset_import: versions 13 and 12 of 'ai.onnx'"},
    {"domain_of_the_engine", SHR_ERR_INVALID,
     "opset_import: domain 'shrinkd.train' is the engine's own, no model's"},
    {"no_domain", SHR_ERR_INVALID,
     "node 'rectify': opset_import has no version of domain 'my.domain'"},

    /* Names */
    {"unknown_input", SHR_ERR_INVALID,
     "node 'r': input 'nowhere' is no graph input, initializer or node output"},
    {"nameless_node", SHR_ERR_INVALID,
     "node 0 (Relu): input 'nowhere' is no graph input, initializer or node output"},
    {"output_missing", SHR_ERR_INVALID, "graph output 'nothing' is computed by nothing"},
    {"output_twice", SHR_ERR_INVALID, "graph output 'y' is given twice"},
    {"input_twice", SHR_ERR_INVALID, "graph input 'x': the name is taken"},
    {"input_nameless", SHR_ERR_INVALID, "graph input has no name"},
    {"input_untyped", SHR_ERR_INVALID, "graph input 'x' has no type"},
    {"initializer_twice", SHR_ERR_INVALID, "initializer 'w' is given twice"},
    {"computed_twice", SHR_ERR_INVALID, "node 'b': output 'y': the name is taken"},
    {"computes_input", SHR_ERR_INVALID, "node 'a': output 'x': the name is taken"},
    {"cycle", SHR_ERR_INVALID,
     "the graph has a cycle: node 'first' needs 'b', which needs the node's output"},
    {"no_op_type", SHR_ERR_INVALID, "node 'product' has no op_type"},
    {"long_name", SHR_ERR_LIMIT,
     "the name of a node has more than 4096 bytes: 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…'"},
    {"lost_capture", SHR_ERR_INVALID,
     "node 'if': its subgraph reads 'lost', which nothing defines"},

    /* Attributes */
    {"attr_twice", SHR_ERR_INVALID, "node 's': attribute 'axis' is given twice"},
    {"attr_no_type", SHR_ERR_INVALID, "node 's': attribute 'axis' has no type"},
    {"attr_ref", SHR_ERR_INVALID,
     "node 's': attribute 'axis' refers to one of a function, outside of a function"},
    {"attr_no_tensor", SHR_ERR_INVALID, "node 's': attribute 't' has no tensor"},
    {"attr_no_graph", SHR_ERR_INVALID, "node 's': attribute 'g' has no graph"},
    {"attr_short_tensor", SHR_ERR_INVALID,
     "node 's': attribute 't' has 1 elements of data, float32 [3] needs 3"},

    /* Tensors */
    {"sparse_without_indices", SHR_ERR_INVALID, "sparse initializer 's' has no indices"},
    {"sparse_outside", SHR_ERR_INVALID, "sparse initializer 's': index 1 lies outside of [2, 3]"},
    {"sparse_negative", SHR_ERR_INVALID, "sparse initializer 's': index 1 lies outside of [2, 3]"},
    {"sparse_twice", SHR_ERR_INVALID, "sparse initializer 's': index 1 does not ascend"},
    {"sparse_backwards", SHR_ERR_INVALID, "sparse initializer 's': index 1 does not ascend"},
    {"sparse_short", SHR_ERR_INVALID,
     "sparse initializer 's': values [2] need as many indices, flat or of 2 coordinates, not [1]"},
    {"sparse_coordinates", SHR_ERR_INVALID,
     "sparse initializer 's': values [2] need as many indices, flat or of 2 coordinates, not "
     "[2, 3]"},
    {"sparse_float_indices", SHR_ERR_UNSUPPORTED,
     "sparse initializer 's': indices are float32, they must be int64, int32 or int16"},
    {"sparse_bomb", SHR_ERR_LIMIT,
     "sparse initializer 's' of shape [16777216, 2] would be too large when dense: sparse "
     "initializers may have 256 times the bytes of the file"},
    {"sparse_bombs", SHR_ERR_LIMIT,
     "sparse initializer 's2' of shape [4194304, 2] would be too large when dense: sparse "
     "initializers may have 256 times the bytes of the file"},
    {"short_raw", SHR_ERR_INVALID, "initializer 'w' has 12 bytes of data, float32 [2, 2] needs 16"},
    {"short_typed", SHR_ERR_INVALID,
     "initializer 'w' has 3 elements of data, float32 [2, 2] needs 4"},
    {"no_data", SHR_ERR_INVALID, "initializer 'w' has 0 elements of data, float32 [2, 2] needs 4"},
    {"data_twice", SHR_ERR_INVALID, "initializer 'w' has its data twice, raw and typed"},
    {"wrong_field", SHR_ERR_INVALID, "initializer 'w' of type float32 has data of another type"},
    {"no_dtype", SHR_ERR_INVALID, "initializer 'w' has no data_type"},
    {"negative_dim", SHR_ERR_INVALID, "initializer 'w' has the dimension -2"},
    {"huge_dims", SHR_ERR_LIMIT,
     "initializer 'w' of shape [1099511627776, 1099511627776] has more than 2147483648 elements"},
    {"many_elements", SHR_ERR_LIMIT,
     "initializer 'w' of shape [1048576, 4096] has more than 2147483648 elements"},
    {"rank9", SHR_ERR_UNSUPPORTED, "initializer 'w' has 9 dimensions, at most 8 can be read"},
    {"int8_300", SHR_ERR_INVALID, "initializer 'w': element 1 is 300, which no int8 can be"},
    {"segment", SHR_ERR_UNSUPPORTED, "initializer 'w' is a segment of a tensor"},
    {"external", SHR_ERR_UNSUPPORTED,
     "initializer 'w' keeps its data in another file ('weights.bin'): save the model with all "
     "data inside"},
    {"short_strings", SHR_ERR_INVALID,
     "initializer 'w' has 1 elements of data, string [3] needs 3"},
    {"declared_other", SHR_ERR_INVALID,
     "initializer 'w' is float32 [2, 2] but declared as float32 [2, 3]"},
    {"declared_known", SHR_ERR_INVALID,
     "initializer 'w' is unknown [2, 2] but declared as float32 [2, 2]"},
    {"declared_int", SHR_ERR_INVALID,
     "initializer 'w' is float32 [2, 2] but declared as int32 [2, 2]"},
};

static void broken_files_are_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.onnx", cases[i].file);
        struct shr_buf bytes = read_file(CASES, name);
        struct shr_err err = {0};
        struct shr_model *model = NULL;
        int code = shr_model_load(bytes.data, bytes.len, NULL, &model, &err);
        if (code != cases[i].code || strcmp(err.msg, cases[i].message) != 0) {
            fail_msg("%s: %s: %s", name, shr_err_name(code), err.msg);
        }
        assert_null(model);
        shr_buf_finish(&bytes);
    }
}

static void assert_limit(const struct shr_limits *limits, const char *file, const char *message)
{
    struct shr_buf bytes = read_file(CASES, file);
    struct shr_err err = {0};
    struct shr_model *model = NULL;
    assert_int_equal(shr_model_load(bytes.data, bytes.len, limits, &model, &err), SHR_ERR_LIMIT);
    assert_string_equal(err.msg, message);
    shr_buf_finish(&bytes);
}

static void limits_are_the_callers(void **state)
{
    (void)state;
    assert_limit(&(struct shr_limits){.max_bytes = 10}, "ir3.onnx",
                 "the model has 157 bytes, the limit is 10");
    assert_limit(&(struct shr_limits){.max_nodes = 1}, "ir3.onnx",
                 "the model has more than 1 nodes");
    assert_limit(&(struct shr_limits){.max_name = 5}, "ir3.onnx",
                 "the name of a node has more than 5 bytes: 'product…'");
    assert_limit(&(struct shr_limits){.max_elements = 3}, "ir3.onnx",
                 "initializer 'w' of shape [2, 2] has more than 3 elements");
    assert_limit(&(struct shr_limits){.max_nesting = 1}, "everything.onnx",
                 "subgraphs nest deeper than 1 levels: "
                 "graph.node[2].attribute[1].g.node[0].attribute[0].g");
}

/* Two bytes of file each become a decoded message of 200: the scan stops before decoding. */
static void many_empty_parts_are_refused_before_they_take_memory(void **state)
{
    (void)state;
    enum { PARTS = 100000 };
    static unsigned char bytes[7 + 2 * PARTS];
    size_t n = 0;
    bytes[n++] = 0x08; /* ir_version 8 */
    bytes[n++] = 0x08;
    bytes[n++] = 0x3a; /* graph, with its length in three bytes */
    bytes[n++] = (2 * PARTS & 0x7f) | 0x80;
    bytes[n++] = (2 * PARTS >> 7 & 0x7f) | 0x80;
    bytes[n++] = 2 * PARTS >> 14;
    for (size_t i = 0; i < PARTS; i++) {
        bytes[n++] = 0x2a; /* initializer, empty */
        bytes[n++] = 0;
    }
    struct shr_err err = {0};
    struct shr_model *model = NULL;
    const struct shr_limits limits = {.max_nodes = 10240};
    assert_int_equal(shr_model_load(bytes, n, &limits, &model, &err), SHR_ERR_LIMIT);
    assert_string_equal(err.msg, "the model has too many parts: more than 10 MiB");
}

/* Whatever the cut, the answer is an error or a model, never a crash (run under ASan too). */
static void every_cut_of_a_file_is_refused(void **state)
{
    (void)state;
    struct shr_buf bytes = read_file(CASES, "everything.onnx");
    for (size_t n = 0; n < bytes.len; n++) {
        struct shr_err err = {0};
        struct shr_model *model = NULL;
        if (shr_model_load(bytes.data, n, NULL, &model, &err) == SHR_OK) {
            /* Behind the graph only lists follow, which may be shorter. */
            shr_model_free(model);
        } else {
            assert_non_null(strchr(err.msg, ' '));
        }
    }
    shr_buf_finish(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_files_are_refused_by_name),
        cmocka_unit_test(limits_are_the_callers),
        cmocka_unit_test(many_empty_parts_are_refused_before_they_take_memory),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
