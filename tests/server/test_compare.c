/* The comparison table from stored steps: rows, columns, units, reasons, in each format. */
#include "fixture.h"
#include "jobs/states.h"

static const struct store_metric original[] = {
    {"size_bytes", true, 1067304, ""},
    {"compression", true, 1, ""},
    {"sparsity", true, 0, ""},
    {"accuracy", true, 0.8853, ""},
    {"latency_ms_b1", true, 0.01523, ""},
    {"speedup_b1", true, 1, ""},
    {"throughput_b1", true, 65659.88, ""},
};
static const struct store_metric small[] = {
    {"size_bytes", true, 272104, ""},     {"compression", true, 3.9224, ""},
    {"sparsity", true, 0.5, ""},          {"accuracy", false, 0, "operator Foo does not run"},
    {"latency_ms_b1", true, 0.00512, ""}, {"latency_ms_b64", true, 0.2, ""},
    {"speedup_b1", true, 2.974, ""},      {"speedup_low_b1", true, 2.9, ""},
    {"speedup_high_b1", true, 3.05, ""},
};
static const struct store_metric smaller[] = {
    {"size_bytes", true, 999, ""},
    {"speedup_b1", true, 1.01, ""},
    {"speedup_low_b1", true, 0.97, ""},
    {"speedup_high_b1", true, 1.05, ""},
};

static void put_step(struct fixture *f, const char *id, int64_t seq, const char *pass,
                     const char *bytes, const struct store_metric *metrics, size_t n)
{
    struct store_metric copy[16];
    char sha256[STORE_SHA256_HEX];
    memcpy(copy, metrics, n * sizeof *copy);
    assert_ok(store_blob_put(f->srv->store, bytes, strlen(bytes), sha256, err));
    const struct store_step step = {seq, pass, sha256, strlen(bytes), "{\"notes\":[]}", n, copy};
    assert_ok(store_step_add(f->srv->store, id, 1, &step, err));
}

/* A job that ran one or two passes on a model whose bytes are its name. */
static void put_job(struct fixture *f, const char *model, const char *name, size_t passes,
                    char *ret_id)
{
    struct store_job job = {0};
    fixture_job(f, model, name, ret_id);
    assert_ok(job_state_claim(f->srv, &job, err));
    store_job_finish(&job);
    put_step(f, ret_id, 0, "original", model, original, SHR_COUNT_OF(original));
    put_step(f, ret_id, 1, "quantize_static", "q", small, SHR_COUNT_OF(small));
    if (passes > 1) {
        put_step(f, ret_id, 2, "prune_unstructured", "p", smaller, SHR_COUNT_OF(smaller));
    }
    assert_ok(job_state_move(f->srv, ret_id,
                             &(struct job_move){JOB_RUNNING, JOB_SUCCEEDED, 1, "", ""}, err));
}

static char *compare(struct fixture *f, const char *ids, const char *metrics,
                     enum srv_table_format format)
{
    struct shr_buf text = {0};
    const struct srv_compare_query query = {ids, NULL, metrics};
    assert_ok(srv_compare(f->srv, &query, format, &text, err));
    size_t n = 0;
    return shr_buf_take(&text, &n);
}

static void markdown_has_human_units_intervals_and_reasons(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    fixture_model(f, "mlp", "mlp");
    put_job(f, "mlp", "nightly", 2, id);
    /* clang-format off */
    static const char expected[] =
        "| Model | Job     | Step                  |     Size | Accuracy |                      Speed-up b1 |\n"
        "|-------|---------|-----------------------|---------:|---------:|---------------------------------:|\n"
        "| mlp   |         | original              |  1.07 MB |  88.53 % |                            1.00x |\n"
        "| mlp   | nightly | 1. quantize_static    | 272.1 KB |        – |                2.97x (2.90–3.05) |\n"
        "| mlp   | nightly | 2. prune_unstructured |    999 B |        – | 1.01x (0.97–1.05: no difference) |\n"
        "\nNot measured:\n\n"
        "- Accuracy: operator Foo does not run\n"
        "- Accuracy: the job did not ask for it\n";
    /* clang-format on */
    char *text = compare(f, id, "size_bytes,accuracy,speedup_b1", SRV_TABLE_MARKDOWN);
    assert_string_equal(text, expected);
    free(text);
}

static void one_original_stands_for_all_jobs_on_it(void **state)
{
    struct fixture *f = *state;
    char a[STORE_ID_SIZE];
    char b[STORE_ID_SIZE];
    char ids[3 * STORE_ID_SIZE];
    fixture_model(f, "mlp", "mlp");
    fixture_model(f, "cnn", "cnn");
    put_job(f, "mlp", "first", 1, a);
    put_job(f, "mlp", "", 1, b);
    snprintf(ids, sizeof ids, "%s,%s,%s", a, b, a);
    char *text = compare(f, ids, "size_bytes,throughput_b1", SRV_TABLE_CSV);
    char expected[512];
    snprintf(expected, sizeof expected,
             "model,job,job_name,step,pass,size_bytes,throughput_b1\r\n"
             "mlp,%s,first,0,original,1067304,65659.88\r\n"
             "mlp,%s,first,1,quantize_static,272104,\r\n"
             "mlp,%s,,1,quantize_static,272104,\r\n",
             a, a, b);
    assert_string_equal(text, expected);
    free(text);
}

static void the_baseline_comes_first_and_each_model_has_its_original(void **state)
{
    struct fixture *f = *state;
    char a[STORE_ID_SIZE];
    char b[STORE_ID_SIZE];
    char ids[2 * STORE_ID_SIZE];
    struct shr_buf text = {0};
    fixture_model(f, "mlp", "mlp");
    fixture_model(f, "cnn", "cnn");
    put_job(f, "mlp", "", 1, a);
    put_job(f, "cnn", "", 1, b);
    snprintf(ids, sizeof ids, "%s,%s", a, b);
    const struct srv_compare_query query = {ids, b, NULL};
    assert_ok(srv_compare(f->srv, &query, SRV_TABLE_JSON, &text, err));
    json_t *json = json_loads(shr_buf_str(&text), 0, NULL);
    const json_t *rows = json_object_get(json, "rows");
    static const struct {
        const char *model, *pass;
    } expected[] = {{"cnn", "original"},
                    {"mlp", "original"},
                    {"mlp", "quantize_static"},
                    {"cnn", "quantize_static"}};
    assert_int_equal(json_array_size(rows), SHR_COUNT_OF(expected));
    for (size_t i = 0; i < SHR_COUNT_OF(expected); i++) {
        const json_t *row = json_array_get(rows, i);
        assert_string_equal(json_string_value(json_object_get(row, "model")), expected[i].model);
        assert_string_equal(json_string_value(json_object_get(row, "pass")), expected[i].pass);
    }
    const json_t *last = json_array_get(rows, 3);
    const json_t *cells = json_object_get(last, "cells");
    assert_true(json_is_null(json_object_get(cells, "accuracy")));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(last, "why"), "accuracy")),
        "operator Foo does not run");
    assert_true(json_real_value(json_object_get(cells, "sparsity")) == 0.5);
    const json_t *column = json_array_get(json_object_get(json, "columns"), 0);
    assert_string_equal(json_string_value(json_object_get(column, "name")), "size_bytes");
    assert_string_equal(json_string_value(json_object_get(column, "unit")), "B");
    json_decref(json);
    shr_buf_finish(&text);
}

static void tables_for_people_have_headlines_and_the_others_everything(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    fixture_model(f, "mlp", "mlp");
    put_job(f, "mlp", "", 1, id);
    char *text = compare(f, id, NULL, SRV_TABLE_TEXT);
    assert_non_null(strstr(text, "Compression"));
    assert_null(strstr(text, "Throughput"));
    assert_null(strstr(text, "Speed-up low"));
    assert_null(strstr(text, "|"));
    free(text);
    text = compare(f, id, NULL, SRV_TABLE_CSV);
    assert_non_null(strstr(text, "throughput_b1"));
    assert_non_null(strstr(text, "speedup_low_b1"));
    free(text);
}

static void bad_queries_name_the_field(void **state)
{
    struct fixture *f = *state;
    char id[STORE_ID_SIZE];
    struct shr_buf out = {0};
    fixture_model(f, "mlp", "mlp");
    put_job(f, "mlp", "", 1, id);
    const struct srv_compare_query none = {NULL, NULL, NULL};
    const struct srv_compare_query empty = {"", NULL, NULL};
    const struct srv_compare_query gap = {",", NULL, NULL};
    const struct srv_compare_query unknown = {"job_00000000000000000000000000", NULL, NULL};
    const struct srv_compare_query baseline = {id, "job_0", NULL};
    const struct srv_compare_query metrics = {id, NULL, "accuracy,beauty"};
    assert_err(srv_compare(f->srv, &none, SRV_TABLE_CSV, &out, err), SHR_ERR_INVALID,
               "ids: is missing");
    assert_err(srv_compare(f->srv, &empty, SRV_TABLE_CSV, &out, err), SHR_ERR_INVALID,
               "ids: is missing");
    assert_err(srv_compare(f->srv, &gap, SRV_TABLE_CSV, &out, err), SHR_ERR_INVALID,
               "ids: \"\" is not the id of a job");
    assert_err(srv_compare(f->srv, &baseline, SRV_TABLE_CSV, &out, err), SHR_ERR_INVALID,
               "baseline: \"job_0\" is not among the ids");
    assert_err(srv_compare(f->srv, &metrics, SRV_TABLE_CSV, &out, err), SHR_ERR_INVALID,
               "metrics: there is no metric \"beauty\"");
    struct shr_err failure = {0};
    assert_int_equal(srv_compare(f->srv, &unknown, SRV_TABLE_CSV, &out, &failure),
                     SHR_ERR_NOT_FOUND);
    shr_buf_finish(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        srv_test(markdown_has_human_units_intervals_and_reasons),
        srv_test(one_original_stands_for_all_jobs_on_it),
        srv_test(the_baseline_comes_first_and_each_model_has_its_original),
        srv_test(tables_for_people_have_headlines_and_the_others_everything),
        srv_test(bad_queries_name_the_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
