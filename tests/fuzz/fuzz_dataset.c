/* Any bytes as a dataset of each format: an error or a sound dataset, never a crash or a leak.
 *
 *     meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined  (with CC=clang)
 *     build-fuzz/tests/fuzz/fuzz-dataset -max_total_time=120 -max_len=8192 corpus \
 *         tests/engine/data/valid tests/engine/data/invalid
 *
 * What loads is described and fed to a model, so that the sanitizers see every element read. */
#include <stdlib.h>

#include "data/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* A model whose inputs are as many as the arrays and take any sample. */
static struct shr_model *model_for(const struct shr_dataset *data, enum shr_dtype dtype)
{
    struct shr_model *model = shr_model_new();
    for (size_t i = 0; model != NULL && i < data->n_arrays; i++) {
        struct shr_value *v;
        if (shr_graph_fresh_value(&model->graph, "input", &v, NULL) != 0 ||
            shr_graph_add_input(&model->graph, v, NULL) != 0) {
            abort();
        }
        v->type.dtype = dtype;
        v->type.rank = -1;
    }
    return model;
}

/* One sample into the inputs, of the shape that the feed tells. */
static void fill(const struct shr_feed *feed, const struct shr_dataset *data)
{
    struct shr_tensor tensors[16] = {0};
    struct shr_tensor *inputs[16];
    size_t n = data->n_arrays;
    if (n > 16) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct shr_type type;
        shr_feed_type(feed, i, 1, &type);
        if (shr_tensor_new(type.dtype, type.rank, type.dim, &tensors[i], NULL) != 0) {
            abort();
        }
        inputs[i] = &tensors[i];
    }
    struct shr_err err = {0};
    if (shr_feed_fill(feed, data->samples - 1, 1, inputs, n, &err) != 0 && err.msg[0] == 0) {
        abort(); /* an error without a message */
    }
    for (size_t i = 0; i < n; i++) {
        shr_tensor_finish(&tensors[i]);
    }
}

static void use(const struct shr_dataset *data)
{
    static const enum shr_dtype dtypes[] = {SHR_DTYPE_F32, SHR_DTYPE_F16, SHR_DTYPE_I32,
                                            SHR_DTYPE_U64};
    struct shr_dataset_info info;
    if (shr_dataset_describe(data, &info, NULL) == 0) {
        shr_dataset_info_finish(&info);
    }
    for (size_t i = 0; i < SHR_COUNT_OF(dtypes); i++) {
        struct shr_model *model = model_for(data, dtypes[i]);
        struct shr_feed *feed;
        if (shr_feed_new(data, model, &feed, NULL) == 0) {
            fill(feed, data);
            shr_feed_free(feed);
        }
        shr_model_free(model);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const enum shr_dataset_format formats[] = {SHR_DATASET_NPZ, SHR_DATASET_NPY,
                                                      SHR_DATASET_IDX};
    const struct shr_bytes part = {bytes, n};
    for (size_t i = 0; i < SHR_COUNT_OF(formats); i++) {
        const struct shr_dataset_opts opts = {.max_bytes = 1 << 20, .nhwc = n % 2 == 1};
        struct shr_dataset *data;
        struct shr_err err = {0};
        if (shr_dataset_load(formats[i], &part, 1, &opts, &data, &err) == 0) {
            use(data);
            shr_dataset_free(data);
        } else if (err.code == 0 || err.msg[0] == 0) {
            abort(); /* an error without a message */
        }
    }
    return 0;
}
