/* Every allocation of load, clone, edit and save is made to fail once: the answer is an error or
 * nothing at all, never a crash, a leak or half a model (run under ASan). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "files.h"
#include "graph/graph.h"

static int edit(struct shr_graph *g, struct shr_err *err)
{
    struct shr_tensor t;
    struct shr_value *weight, *out;
    struct shr_node *node;
    int code = shr_tensor_new(SHR_DTYPE_F32, 1, (int64_t[]){3}, &t, err);
    code = code == SHR_OK ? shr_graph_add_constant(g, "w", t, &weight, err) : code;
    code = code == SHR_OK ? shr_graph_fresh_value(g, "made", &out, err) : code;
    code = code == SHR_OK
               ? shr_graph_add_node(g, NULL, "", "Concat", "made", &weight, 1, &out, 1, &node, err)
               : code;
    code = code == SHR_OK ? shr_node_set_int(g, node, "axis", 1, err) : code;
    code = code == SHR_OK ? shr_node_set_text(g, node, "mode", "m", err) : code;
    code = code == SHR_OK ? shr_node_set_ints(g, node, "i", (int64_t[]){1, 2}, 2, err) : code;
    code = code == SHR_OK ? shr_node_resize_inputs(g, node, 3, err) : code;
    code = code == SHR_OK ? shr_graph_add_output(g, out, err) : code;
    return code == SHR_OK ? shr_graph_sort(g, err) : code;
}

static int inspect(const struct shr_model *model, struct shr_err *err)
{
    struct shr_model_info info = {0};
    struct shr_buf text = {0};
    int code = shr_model_describe(model, &info, err);
    code = code == SHR_OK ? shr_model_print(model, &text, err) : code;
    shr_model_info_finish(&info);
    shr_buf_finish(&text);
    return code;
}

/* Ends the chaos; true when the planned failure came. */
static bool chaos_ends(void)
{
    const bool hit = shr_mem_chaos_hit();
    shr_mem_chaos(0);
    return hit;
}

static int load_and_edit(const struct shr_buf *in, bool *ret_hit, struct shr_err *err)
{
    struct shr_model *model = NULL, *copy = NULL;
    int code = shr_model_load(in->data, in->len, NULL, &model, err);
    code = code == SHR_OK ? shr_model_clone(model, &copy, err) : code;
    if (code == SHR_OK) {
        code = edit(&copy->graph, err);
    }
    *ret_hit = chaos_ends();
    if (copy != NULL) { /* a failed edit leaves a sound graph */
        assert_int_equal(shr_graph_check(&copy->graph, NULL), SHR_OK);
    }
    shr_model_free(copy);
    shr_model_free(model);
    return code;
}

static int write_and_inspect(const struct shr_buf *in, bool *ret_hit, struct shr_err *err)
{
    struct shr_model *model = NULL;
    struct shr_buf out = {0};
    int code = shr_model_load(in->data, in->len, NULL, &model, err);
    code = code == SHR_OK ? shr_model_set_metadata(model, "key", "value", err) : code;
    code = code == SHR_OK ? shr_model_import(model, "new.domain", 1, err) : code;
    code = code == SHR_OK ? inspect(model, err) : code;
    code = code == SHR_OK ? shr_graph_check(&model->graph, err) : code;
    code = code == SHR_OK ? shr_model_save(model, &out, err) : code;
    *ret_hit = chaos_ends();
    shr_buf_finish(&out);
    shr_model_free(model);
    return code;
}

static void fail_each(const char *file,
                      int (*run)(const struct shr_buf *in, bool *ret_hit, struct shr_err *err))
{
    struct shr_buf in = read_file(CASES, file);
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct shr_err err = {0};
        shr_mem_chaos(n);
        int code = run(&in, &hit, &err);
        assert_int_equal(code, hit ? SHR_ERR_NOMEM : SHR_OK);
        assert_true(n < 100000);
    }
    shr_buf_finish(&in);
}

static void load_clone_and_edit_survive_every_failure(void **state)
{
    (void)state;
    fail_each("everything.onnx", load_and_edit);
    fail_each("unsorted.onnx", load_and_edit);
    fail_each("typed.onnx", load_and_edit);
    fail_each("constants.onnx", load_and_edit);
}

static void inspection_and_save_survive_every_failure(void **state)
{
    (void)state;
    fail_each("everything.onnx", write_and_inspect);
    fail_each("ir3.onnx", write_and_inspect);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load_clone_and_edit_survive_every_failure),
        cmocka_unit_test(inspection_and_save_survive_every_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
