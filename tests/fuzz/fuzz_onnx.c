/* Any bytes are refused or become a model, and a model that was read can be cloned, pruned of what
 * it does not need, written, and read again to the same bytes.
 *
 *     meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined  (with CC=clang)
 *     build-fuzz/tests/fuzz/fuzz-onnx -max_total_time=180 -max_len=4096 corpus \
 *         tests/engine/onnx/cases */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void must(int code, const struct shr_err *err, const char *what)
{
    if (code != SHR_OK) {
        fprintf(stderr, "%s: %s\n", what, err->msg);
        abort();
    }
}

static struct shr_buf save(const struct shr_model *model)
{
    struct shr_err err = {0};
    struct shr_buf out = {0};
    must(shr_model_save(model, &out, &err), &err, "save");
    return out;
}

static void use(const struct shr_model *model)
{
    struct shr_err err = {0};
    struct shr_buf text = {0};
    struct shr_model_info info;
    struct shr_model *copy;
    must(shr_model_print(model, &text, &err), &err, "print");
    must(shr_model_describe(model, &info, &err), &err, "describe");
    must(shr_model_clone(model, &copy, &err), &err, "clone");
    must(shr_graph_check(&copy->graph, &err), &err, "check of the clone");
    shr_graph_drop_unused(&copy->graph);
    must(shr_graph_check(&copy->graph, &err), &err, "check without the unused");
    struct shr_buf out = save(copy);
    shr_buf_finish(&out);
    shr_buf_finish(&text);
    shr_model_info_finish(&info);
    shr_model_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct shr_limits limits = {.max_nodes = 1000, .max_elements = 1 << 20};
    struct shr_err err = {0};
    struct shr_model *model, *again;
    if (shr_model_load(bytes, n, &limits, &model, &err) != SHR_OK) {
        return 0;
    }
    use(model);
    struct shr_buf first = save(model);
    shr_model_free(model);
    must(shr_model_load(first.data, first.len, NULL, &again, &err), &err, "load of what was saved");
    struct shr_buf second = save(again);
    shr_model_free(again);
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0) {
        fprintf(stderr, "saved again, the bytes differ\n");
        abort();
    }
    shr_buf_finish(&first);
    shr_buf_finish(&second);
    return 0;
}
