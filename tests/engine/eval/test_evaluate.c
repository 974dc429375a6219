/* Evaluation of saved models: exact figures on small classifiers, reasons for what is missing. */
#include "../exec/build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval/eval.h"

/* ── Models and data ────────────────────────────────────────────────────────────────────────── */

enum { SAMPLES = 5, CLASSES = 3 };

/* Rows whose largest element is 0, 1, 2, 2, 0. */
static const float ROWS[SAMPLES][CLASSES] = {{3, 1, 0}, {0, 5, 1}, {1, 2, 4}, {0, 0, 1}, {2, 1, 0}};

/* x [N, 3] times a matrix. */
static struct shr_buf product(const float *w, const char *op)
{
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, CLASSES));
    struct shr_value *y =
        build_node(m, "MatMul", "product", x, build_f32(m, "w", DIMS(3, 3), w), NULL);
    y = op == NULL ? y : build_node(m, op, "last", y, NULL);
    y->type = (struct shr_type){.dtype = SHR_DTYPE_F32, .rank = 2, .dim = {-1, CLASSES}};
    build_output(m, y);
    struct shr_buf bytes = {0};
    struct shr_err err = {0};
    if (shr_model_save(m, &bytes, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    shr_model_free(m);
    return bytes;
}

static const float SAME[] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
static const float SWAPPED[] = {0, 1, 0, 1, 0, 0, 0, 0, 1}; /* classes 0 and 1 change places */
static const float LARGER[] = {1.1f, 0, 0, 0, 1.1f, 0, 0, 0, 1.1f};

static struct shr_dataset *dataset(const int32_t *labels)
{
    static struct shr_array array;
    static struct shr_dataset data;
    static int32_t copy[SAMPLES];
    array = (struct shr_array){.name = "x"};
    array.tensor.dtype = SHR_DTYPE_F32;
    array.tensor.rank = 2;
    array.tensor.dim[0] = SAMPLES;
    array.tensor.dim[1] = CLASSES;
    static float rows[SAMPLES][CLASSES];
    memcpy(rows, ROWS, sizeof rows);
    array.tensor.data = rows;
    data = (struct shr_dataset){.samples = SAMPLES, .n_arrays = 1, .arrays = &array};
    if (labels != NULL) {
        memcpy(copy, labels, sizeof copy);
        data.labels = copy;
        data.n_classes = CLASSES;
    }
    return &data;
}

static const int32_t LABELS[SAMPLES] = {0, 1, 2, 0, 1}; /* of which the rows say 3 */

static struct shr_eval *eval_new(const struct shr_buf *bytes, const struct shr_eval_opts *opts)
{
    struct shr_eval *eval = NULL;
    struct shr_err err = {0};
    if (shr_eval_new(bytes->data, bytes->len, opts, NULL, &eval, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    return eval;
}

static struct shr_metrics measure(struct shr_eval *eval, const struct shr_buf *bytes,
                                  const struct shr_ctx *ctx)
{
    struct shr_metrics m = {0};
    struct shr_err err = {0};
    int rc = bytes == NULL ? shr_eval_original(eval, ctx, &m, &err)
                           : shr_eval_measure(eval, bytes->data, bytes->len, ctx, &m, &err);
    if (rc != 0) {
        fail_msg("%s", err.msg);
    }
    return m;
}

static double value(const struct shr_metrics *m, const char *name)
{
    const struct shr_metric *metric = shr_metrics_find(m, name);
    if (metric == NULL || !metric->measured) {
        fail_msg("%s: %s", name, metric == NULL ? "is not there" : metric->why);
        return NAN;
    }
    return metric->value;
}

static void assert_why(const struct shr_metrics *m, const char *name, const char *part)
{
    const struct shr_metric *metric = shr_metrics_find(m, name);
    assert_non_null(metric);
    assert_false(metric->measured);
    if (strstr(metric->why, part) == NULL) {
        fail_msg("%s: '%s' does not say '%s'", name, metric->why, part);
    }
}

/* ── Figures ────────────────────────────────────────────────────────────────────────────────── */

static void counts_right_answers(void **state)
{
    (void)state;
    struct shr_buf same = product(SAME, NULL), swapped = product(SWAPPED, NULL);
    struct shr_eval *eval = eval_new(&same, &(struct shr_eval_opts){.data = dataset(LABELS)});
    struct shr_metrics m = measure(eval, NULL, NULL);
    assert_true(value(&m, "accuracy") == 3.0 / SAMPLES);
    assert_why(&m, "top5_accuracy", "no more than five classes");
    assert_null(shr_metrics_find(&m, "agreement"));
    assert_true(value(&m, "size_bytes") == (double)same.len);
    assert_true(value(&m, "compression") == 1);
    assert_true(value(&m, "parameters") == 9);
    assert_true(value(&m, "nonzero_parameters") == 3);
    assert_true(fabs(value(&m, "sparsity") - 6.0 / 9) < 1e-12);
    assert_true(value(&m, "macs") == 9);
    assert_true(value(&m, "peak_memory_bytes") > 0);
    shr_metrics_finish(&m);

    /* Swapped, the rows say 1, 0, 2, 2, 1. */
    m = measure(eval, &swapped, NULL);
    assert_true(value(&m, "accuracy") == 2.0 / SAMPLES);
    assert_true(value(&m, "agreement") == 2.0 / SAMPLES);
    shr_metrics_finish(&m);
    shr_eval_free(eval);
    shr_buf_finish(&same);
    shr_buf_finish(&swapped);
}

static void measures_the_noise(void **state)
{
    (void)state;
    struct shr_buf same = product(SAME, NULL), larger = product(LARGER, NULL);
    struct shr_eval *eval =
        eval_new(&same, &(struct shr_eval_opts){.data = dataset(NULL), .max_samples = 4});
    struct shr_metrics m = measure(eval, &larger, NULL);
    assert_true(fabs(value(&m, "sqnr_db") - 20) < 1e-3); /* a tenth of the amplitude */
    assert_true(value(&m, "agreement") == 1);
    assert_why(&m, "accuracy", "no labels");
    shr_metrics_finish(&m);
    m = measure(eval, &same, NULL);
    assert_why(&m, "sqnr_db", "no noise");
    shr_metrics_finish(&m);
    shr_eval_free(eval);
    shr_buf_finish(&same);
    shr_buf_finish(&larger);
}

static void says_why_something_is_missing(void **state)
{
    (void)state;
    const int64_t batches[] = {1};
    struct shr_eval_opts opts = {.data = dataset(LABELS),
                                 .latency = true,
                                 .latency_batch = batches,
                                 .n_latency_batch = 1,
                                 .latency_seconds = 0.01};
    struct shr_buf same = product(SAME, NULL), strange = product(SAME, "Imaginary");
    struct shr_eval *eval = eval_new(&same, &opts);
    struct shr_metrics m = measure(eval, &strange, NULL);
    static const char *const MISSING[] = {"accuracy",      "agreement",         "sqnr_db",
                                          "latency_ms_b1", "latency_p95_ms_b1", "throughput_b1",
                                          "speedup_b1",    "speedup_low_b1",    "speedup_high_b1",
                                          "macs",          "peak_memory_bytes"};
    for (size_t i = 0; i < SHR_COUNT_OF(MISSING); i++) {
        assert_why(&m, MISSING[i], "operator Imaginary");
    }
    assert_true(value(&m, "parameters") == 9);
    assert_true(value(&m, "compression") < 1);
    shr_metrics_finish(&m);
    shr_eval_free(eval);

    /* The other way round: the candidate alone runs. */
    eval = eval_new(&strange, &opts);
    m = measure(eval, &same, NULL);
    assert_true(value(&m, "accuracy") == 3.0 / SAMPLES);
    assert_why(&m, "agreement", "the original: operator Imaginary");
    assert_true(value(&m, "latency_ms_b1") > 0);
    assert_why(&m, "speedup_b1", "operator Imaginary");
    shr_metrics_finish(&m);
    shr_eval_free(eval);
    shr_buf_finish(&same);
    shr_buf_finish(&strange);
}

static void tell(void *user, const char *stage, uint64_t done, uint64_t total)
{
    uint64_t *last = user;
    assert_string_equal(stage, "evaluate");
    assert_true(done >= *last && done <= total);
    *last = done;
}

static void times_in_turn_with_the_original(void **state)
{
    (void)state;
    const int64_t batches[] = {1, 16};
    struct shr_eval_opts opts = {
        .latency = true, .latency_batch = batches, .n_latency_batch = 2, .latency_seconds = 0.05};
    struct shr_buf same = product(SAME, NULL);
    struct shr_eval *eval = eval_new(&same, &opts);
    uint64_t last = 0;
    struct shr_metrics m = measure(eval, &same, &(struct shr_ctx){.progress = tell, .user = &last});
    assert_int_equal(last, 2 * SHR__LATENCY_TICKS);
    double speedup = value(&m, "speedup_b16");
    assert_true(speedup > 0.5 && speedup < 2); /* the same bytes */
    assert_true(value(&m, "speedup_low_b16") <= speedup);
    assert_true(value(&m, "speedup_high_b16") >= speedup);
    double ms = value(&m, "latency_ms_b16");
    assert_true(ms > 0 && value(&m, "latency_p95_ms_b16") >= ms);
    assert_true(fabs(value(&m, "throughput_b16") - 16e3 / ms) < 1e-6 * 16e3 / ms);
    shr_metrics_finish(&m);
    shr_eval_free(eval);
    shr_buf_finish(&same);
}

static void stops_when_cancelled(void **state)
{
    (void)state;
    struct shr_buf same = product(SAME, NULL);
    struct shr_eval_opts opts = {.data = dataset(LABELS)};
    atomic_bool cancel = true;
    const struct shr_ctx ctx = {.cancel = &cancel};
    struct shr_eval *eval = NULL;
    struct shr_metrics m = {0};
    struct shr_err err = {0};
    assert_int_equal(shr_eval_new(same.data, same.len, &opts, &ctx, &eval, &err),
                     SHR_ERR_CANCELLED);
    assert_null(eval);
    eval = eval_new(&same, &opts);
    assert_int_equal(shr_eval_measure(eval, same.data, same.len, &ctx, &m, &err),
                     SHR_ERR_CANCELLED);
    assert_null(m.v);
    shr_eval_free(eval);
    shr_buf_finish(&same);
}

static void bytes_that_do_not_load_are_an_error(void **state)
{
    (void)state;
    struct shr_buf same = product(SAME, NULL);
    struct shr_eval *eval = eval_new(&same, &(struct shr_eval_opts){0});
    struct shr_metrics m = {0};
    struct shr_err err = {0};
    assert_int_not_equal(shr_eval_measure(eval, same.data, same.len / 2, NULL, &m, &err), 0);
    assert_null(m.v);
    shr_eval_free(eval);
    shr_buf_finish(&same);
}

static void predicts_rows_in_any_batch(void **state)
{
    (void)state;
    struct shr_buf bytes = product(SWAPPED, NULL);
    struct shr_model *m = NULL;
    struct shr_err err = {0};
    assert_int_equal(shr_model_load(bytes.data, bytes.len, NULL, &m, &err), 0);
    for (int64_t batch = 1; batch <= 4; batch++) {
        float *out = NULL;
        int64_t width;
        int rc = shr_model_predict(m, dataset(NULL), 1, 3, batch, NULL, &out, &width, &err);
        assert_int_equal(rc, 0);
        assert_int_equal(width, CLASSES);
        const float expected[] = {5, 0, 1, 2, 1, 4, 0, 0, 1};
        assert_memory_equal(out, expected, sizeof expected);
        shr_mem_free(out);
    }
    float *out = NULL;
    int64_t width;
    assert_int_equal(shr_model_predict(m, dataset(NULL), 3, 3, 1, NULL, &out, &width, &err),
                     SHR_ERR_INVALID);
    shr_model_free(m);
    shr_buf_finish(&bytes);
}

static void every_metric_is_in_the_table(void **state)
{
    (void)state;
    const int64_t batches[] = {8};
    struct shr_eval_opts opts = {.data = dataset(LABELS),
                                 .latency = true,
                                 .latency_batch = batches,
                                 .n_latency_batch = 1,
                                 .latency_seconds = 0.01};
    struct shr_buf same = product(SAME, NULL);
    struct shr_eval *eval = eval_new(&same, &opts);
    struct shr_metrics m = measure(eval, &same, NULL);
    assert_int_equal(m.n, shr_metric_count());
    for (size_t i = 0; i < shr_metric_count(); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_b8", shr_metric_at(i)->name);
        assert_true(shr_metrics_find(&m, shr_metric_at(i)->name) != NULL ||
                    shr_metrics_find(&m, name) != NULL);
    }
    assert_null(shr_metric_at(shr_metric_count()));
    shr_metrics_finish(&m);
    shr_eval_free(eval);
    shr_buf_finish(&same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_right_answers),
        cmocka_unit_test(measures_the_noise),
        cmocka_unit_test(says_why_something_is_missing),
        cmocka_unit_test(times_in_turn_with_the_original),
        cmocka_unit_test(stops_when_cancelled),
        cmocka_unit_test(bytes_that_do_not_load_are_an_error),
        cmocka_unit_test(predicts_rows_in_any_batch),
        cmocka_unit_test(every_metric_is_in_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
