/* Every allocation fails once while a pass runs: NOMEM, no leak, and the model as it was. Reports
 * are left out: a note that finds no memory is lost without harm. */
#include "tiny_nets.h"

#include "base/mem.h"

static void fail_all(struct shr_model *m, const char *pass, const char *name, const char *value,
                     const struct shr_dataset *data)
{
    /* The reference kernels: others make way for them when memory is short. */
    const struct shr_ctx ctx = {.cpu_mask = ~0u};
    bool hit;
    uint64_t nth = 0;
    do {
        struct shr_err err = {0};
        struct shr_args args = {0};
        struct shr_pass_call call = {.model = m, .args = &args, .calibrate = data, .ctx = &ctx};
        shr_mem_chaos(++nth);
        int code = shr_args_init(&args, shr_pass_find(pass), &err);
        if (code == 0 && name != NULL) {
            code = shr_args_parse(&args, name, value, &err);
        }
        if (code == 0) {
            code = shr_pass_run(args.pass, &call, &err);
        }
        hit = shr_mem_chaos_hit();
        shr_mem_chaos(0);
        if (code != (hit ? SHR_ERR_NOMEM : 0)) {
            fail_msg("%s: allocation %d: %s: %s", pass, (int)nth, shr_err_name(code), err.msg);
        }
        shr_model_free(call.ret_model);
        shr_args_finish(&args);
    } while (hit);
    assert_true(nth > 5);
    assert_int_equal(shr_graph_check(&m->graph, NULL), 0);
}

static void every_failed_allocation_is_told(void **state)
{
    (void)state;
    struct shr_model *nets[2] = {tiny_mlp(), tiny_cnn()};
    for (int i = 0; i < 2; i++) {
        struct shr_dataset *data = i == 0 ? tiny_samples(4, 1) : tiny_samples(1, 6);
        fail_all(nets[i], "optimize", NULL, NULL, NULL);
        fail_all(nets[i], "quantize_dynamic", NULL, NULL, NULL);
        fail_all(nets[i], "quantize_static", NULL, NULL, data);
        fail_all(nets[i], "quantize_static", "format", "qoperator", data);
        fail_all(nets[i], "quantize_static", "sensitivity", "true", data);
        fail_all(nets[i], "quantize_static", "max_accuracy_drop", "1e-4", data);
        fail_all(nets[i], "quantize_weights", NULL, NULL, NULL);
        fail_all(nets[i], "convert", "min_elements", "1", NULL);
        fail_all(nets[i], "prune_unstructured", NULL, NULL, NULL);
        fail_all(nets[i], "prune_unstructured", "scope", "global", NULL);
        fail_all(nets[i], "prune_structured", NULL, NULL, NULL);
        fail_all(nets[i], "prune_structured", "scope", "global", NULL);
        fail_all(nets[i], "compact", NULL, NULL, NULL);
        shr_dataset_free(data);
        shr_model_free(nets[i]);
    }
    struct shr_model *lstm = tiny_lstm();
    fail_all(lstm, "quantize_dynamic", NULL, NULL, NULL);
    shr_model_free(lstm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failed_allocation_is_told)};
    return cmocka_run_group_tests_name("engine/passes/chaos", tests, NULL, NULL);
}
