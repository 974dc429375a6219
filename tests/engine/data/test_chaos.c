/* Every allocation fails once while a dataset is loaded, described and fed: NOMEM, and no leak. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "data/dataset.h"

static int live(enum shr_dataset_format format, const struct shr_bytes *part,
                const struct shr_model *model, struct shr_err *err)
{
    struct shr_dataset *data = NULL;
    struct shr_dataset_info info = {0};
    int code = shr_dataset_load(format, part, 1, NULL, &data, err);
    if (code == 0) {
        code = shr_dataset_describe(data, &info, err);
    }
    if (code == 0) {
        code = shr_dataset_check(data, model, err);
    }
    shr_dataset_info_finish(&info);
    shr_dataset_free(data);
    return code;
}

static void every_failed_allocation_is_told(void **state)
{
    (void)state;
    static const char *const names[] = {"deflated.npz", "stored.npz", "members.idx.gz", "f4.npy"};
    static const enum shr_dataset_format formats[] = {SHR_DATASET_NPZ, SHR_DATASET_NPZ,
                                                      SHR_DATASET_IDX, SHR_DATASET_NPY};
    struct shr_model *model = shr_model_new();
    struct shr_value *v;
    assert_int_equal(shr_graph_add_value(&model->graph, "x", &v, NULL), 0);
    v->type = (struct shr_type){.dtype = SHR_DTYPE_F32, .rank = -1};
    assert_int_equal(shr_graph_add_input(&model->graph, v, NULL), 0);
    for (size_t i = 0; i < SHR_COUNT_OF(names); i++) {
        static unsigned char bytes[4096];
        char path[512];
        snprintf(path, sizeof path, FIXTURES "/valid/%s", names[i]);
        FILE *in = fopen(path, "rb");
        assert_non_null(in);
        const struct shr_bytes part = {bytes, fread(bytes, 1, sizeof bytes, in)};
        fclose(in);
        bool hit;
        uint64_t nth = 0;
        do {
            struct shr_err err = {0};
            shr_mem_chaos(++nth);
            int code = live(formats[i], &part, model, &err);
            hit = shr_mem_chaos_hit();
            shr_mem_chaos(0);
            if (code != (hit ? SHR_ERR_NOMEM : 0)) {
                fail_msg("%s: allocation %d: %s: %s", names[i], (int)nth, shr_err_name(code),
                         err.msg);
            }
        } while (hit);
        assert_true(nth > 5);
    }
    shr_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failed_allocation_is_told)};
    return cmocka_run_group_tests_name("engine/data/chaos", tests, NULL, NULL);
}
