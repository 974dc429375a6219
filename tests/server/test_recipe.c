/* Recipes: what a job may say, the exact message for what it may not, and the canonical form. */
#include "base/mem.h"
#include "fixture.h"
#include "jobs/recipe.h"
#include "jsonx.h"

enum { MAX_THREADS = 8 };

static int parse(const char *text, struct job_recipe *ret, struct shr_err *err)
{
    json_t *json = NULL;
    int code = srv_json_parse(text, strlen(text), "body", &json, err);
    if (code == SHR_OK) {
        code = job_recipe_parse(json, MAX_THREADS, ret, err);
    }
    json_decref(json);
    return code;
}

#define PASS(fields) "{\"model\":\"m\",\"pipeline\":[{\"pass\":\"optimize\"}," fields "]}"
#define WITH(fields) "{\"model\":\"m\",\"pipeline\":[{\"pass\":\"optimize\"}]," fields "}"

static void bad_jobs_name_the_field(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[]", "body: must be a JSON object"},
        {"{\"model\":\"m\",\"model\":\"n\"}",
         "body: line 1, column 20: duplicate object key near '\"model\"'"},
        {"{}", "model: is missing"},
        {"{\"model\":1}", "model: must be a text"},
        {"{\"model\":\"m\"}", "pipeline: must have at least one pass"},
        {"{\"model\":\"m\",\"pipeline\":[]}", "pipeline: must have at least one pass"},
        {"{\"model\":\"m\",\"pipeline\":{}}", "pipeline: must be an array"},
        {"{\"model\":\"m\",\"pipeline\":[1]}", "pipeline[0]: must be an object"},
        {"{\"model\":\"m\",\"pipeline\":[{}]}", "pipeline[0].pass: must be the name of a pass"},
        {"{\"model\":\"m\",\"pipeline\":[{\"pass\":\"shrink\"}]}",
         "pipeline[0].pass: there is no pass \"shrink\""},
        {PASS("{\"pass\":\"prune_unstructured\",\"amount\":1.7}"),
         "pipeline[1].amount: 1.7 is not in [0, 1]"},
        {PASS("{\"pass\":\"prune_unstructured\",\"amount\":-1}"),
         "pipeline[1].amount: -1 is negative"},
        {PASS("{\"pass\":\"prune_unstructured\",\"amount\":null}"),
         "pipeline[1].amount: must not be null"},
        {PASS("{\"pass\":\"prune_unstructured\",\"amount\":{}}"),
         "pipeline[1].amount: must not be an object"},
        {PASS("{\"pass\":\"prune_unstructured\",\"amount\":\"half\"}"),
         "pipeline[1].amount: must be a fraction (0.5) or a count (100), not a text"},
        {PASS("{\"pass\":\"prune_unstructured\",\"criterion\":\"l3\"}"),
         "pipeline[1].criterion: \"l3\" is not one of l1, l2, random"},
        {PASS("{\"pass\":\"optimize\",\"fuse\":1}"),
         "pipeline[1].fuse: must be true or false, not an integer"},
        {PASS("{\"pass\":\"quantize_dynamic\",\"nodes\":{\"include\":[\"a\",true]}}"),
         "pipeline[1].nodes.include[1]: must be a text"},
        {PASS("{\"pass\":\"quantize_dynamic\",\"nodes\":{\"include\":{}}}"),
         "pipeline[1].nodes.include: must not be an object"},
        {PASS("{\"pass\":\"quantize_dynamic\",\"nodes\":[]}"),
         "pipeline[1].nodes: must be an object"},
        {PASS("{\"pass\":\"distill\",\"student\":{\"model\":1}}"),
         "pipeline[1].student.model: must be the name or id of a model, not an integer"},
        {WITH("\"pipelin\":[]"), "pipelin: unknown field"},
        {WITH("\"name\":\"Ünfit\""),
         "name: \"Ünfit\" is not a name: 1 to 128 of a-z 0-9 . _ -, beginning with a letter or "
         "digit"},
        {WITH("\"seed\":-1"), "seed: -1 is not in [0, 9223372036854775807]"},
        {WITH("\"seed\":1.5"), "seed: must be an integer"},
        {WITH("\"threads\":9"), "threads: 9 is not in [1, 8]"},
        {WITH("\"max_memory\":\"lots\""),
         "max_memory: must be a number of bytes or a text such as \"2GiB\""},
        {WITH("\"max_memory\":-1"),
         "max_memory: must be a number of bytes or a text such as \"2GiB\""},
        {WITH("\"data\":[]"), "data: must be an object"},
        {WITH("\"data\":{\"test\":\"d\"}"), "data.test: unknown field"},
        {WITH("\"data\":{\"train\":1}"), "data.train: must be a text"},
        {PASS("{\"pass\":\"quantize_static\"}"),
         "data.calibrate: is missing, and pipeline[1] (quantize_static) needs it"},
        {WITH("\"evaluate\":{\"speed\":1}"), "evaluate.speed: unknown field"},
        {WITH("\"evaluate\":{\"metrics\":\"accuracy\"}"), "evaluate.metrics: must be an array"},
        {WITH("\"evaluate\":{\"metrics\":[\"accuracy\",\"beauty\"]}"),
         "evaluate.metrics[1]: there is no metric \"beauty\""},
        {WITH("\"evaluate\":{\"samples\":-5}"),
         "evaluate.samples: -5 is not in [0, 9223372036854775807]"},
        {WITH("\"evaluate\":{\"latency\":3}"), "evaluate.latency: must be an object"},
        {WITH("\"evaluate\":{\"latency\":{\"batch\":[]}}"),
         "evaluate.latency.batch: must not be empty"},
        {WITH("\"evaluate\":{\"latency\":{\"batch\":[1,0]}}"),
         "evaluate.latency.batch[1]: must be an integer in [1, 65536]"},
        {WITH("\"evaluate\":{\"latency\":{\"batch\":[1,2,3,4,5,6,7,8,9]}}"),
         "evaluate.latency.batch: has 9 entries, at most 8 are allowed"},
        {WITH("\"evaluate\":{\"latency\":{\"threads\":0}}"),
         "evaluate.latency.threads: 0 is not in [1, 8]"},
        {WITH("\"evaluate\":{\"latency\":{\"seconds\":0}}"),
         "evaluate.latency.seconds: 0 is not in [0.01, 600]"},
        {WITH("\"assert\":\"size_ratio < 1\""), "assert: must be an array"},
        {WITH("\"assert\":[7]"), "assert[0]: must be a text"},
        {WITH("\"assert\":[\"accuracy\"]"),
         "assert[0]: \"accuracy\" is not \"metric <= number\" (or >=, <, >, ==, !=)"},
        {WITH("\"assert\":[\"accuracy => 1\"]"),
         "assert[0]: \"accuracy => 1\" is not \"metric <= number\" (or >=, <, >, ==, !=)"},
        {WITH("\"assert\":[\"accuracy > much\"]"),
         "assert[0]: \"accuracy > much\": \"much\" is not a number"},
        {WITH("\"assert\":[\"accuracy > 1 %\"]"),
         "assert[0]: \"accuracy > 1 %\": \"1 %\" is not a number"},
        {WITH("\"assert\":[\"accuracy > inf\"]"),
         "assert[0]: \"accuracy > inf\": \"inf\" is not a number"},
        {WITH("\"assert\":[\"size_ratio <= 1\",\"charm_ratio <= 0.3\"]"),
         "assert[1]: unknown metric \"charm_ratio\""},
        {WITH("\"assert\":[\"speedup_bx >= 1\"]"), "assert[0]: unknown metric \"speedup_bx\""},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct job_recipe recipe = {0};
        struct shr_err err = {0};
        assert_int_not_equal(parse(cases[i].text, &recipe, &err), SHR_OK);
        assert_string_equal(err.msg, cases[i].message);
    }
}

static void an_unknown_parameter_is_named_with_its_path(void **state)
{
    (void)state;
    struct job_recipe recipe = {0};
    struct shr_err err = {0};
    assert_int_equal(parse(PASS("{\"pass\":\"optimize\",\"colour\":1}"), &recipe, &err),
                     SHR_ERR_INVALID);
    static const char begin[] = "pipeline[1].colour: unknown parameter";
    assert_memory_equal(err.msg, begin, sizeof begin - 1);
}

static void defaults_are_filled_in(void **state)
{
    (void)state;
    struct job_recipe recipe = {0};
    assert_ok(
        parse("{\"model\":\"m\",\"pipeline\":[{\"pass\":\"prune_unstructured\"}]}", &recipe, err));
    assert_string_equal(recipe.model, "m");
    assert_string_equal(recipe.name, "");
    assert_int_equal(recipe.n_passes, 1);
    assert_int_equal(recipe.threads, 1);
    assert_int_equal(recipe.latency_threads, 1);
    assert_int_equal(recipe.seed, 0);
    assert_true(recipe.latency);
    assert_int_equal(recipe.n_batch, 2);
    assert_int_equal(recipe.batch[0], 1);
    assert_int_equal(recipe.batch[1], 64);
    assert_null(recipe.data[JOB_DATA_EVALUATE]);

    json_t *json = job_recipe_json(&recipe);
    const json_t *pass = json_array_get(json_object_get(json, "pipeline"), 0);
    assert_string_equal(json_string_value(json_object_get(pass, "criterion")), "l1");
    assert_true(json_real_value(json_object_get(pass, "amount")) == 0.5);
    assert_int_equal(json_object_size(json_object_get(pass, "nodes")), 3);
    json_decref(json);
    job_recipe_finish(&recipe);
}

/* The form that is stored parses to itself, with every kind of parameter set. */
static void the_canonical_form_is_a_fixed_point(void **state)
{
    (void)state;
    static const char *const jobs[] = {
        "{\"model\":\"m\",\"pipeline\":[{\"pass\":\"optimize\"}]}",
        "{\"model\":\"m\",\"name\":\"nightly\",\"seed\":7,\"threads\":2,\"max_memory\":\"2GiB\","
        "\"pipeline\":[{\"pass\":\"optimize\",\"fuse\":false},"
        "{\"pass\":\"prune_unstructured\",\"criterion\":\"random\",\"amount\":100,"
        "\"nodes\":{\"include\":[\"fc*\"],\"exclude\":[]}},"
        "{\"pass\":\"prune_unstructured\",\"amount\":0.7},{\"pass\":\"quantize_dynamic\"},"
        "{\"pass\":\"quantize_static\",\"calibration\":\"percentile\",\"percentile\":99.9}],"
        "\"data\":{\"calibrate\":\"c\",\"evaluate\":\"e\"},"
        "\"evaluate\":{\"metrics\":[\"accuracy\"],\"samples\":100,"
        "\"latency\":{\"batch\":[1],\"threads\":1,\"seconds\":0.2}},"
        "\"assert\":[\"accuracy_drop <= 0.01\",\"speedup_b1>=1.5\"]}",
        WITH("\"evaluate\":{\"latency\":false}"),
    };
    for (size_t i = 0; i < SHR_COUNT_OF(jobs); i++) {
        struct job_recipe recipe = {0};
        struct job_recipe again = {0};
        assert_ok(parse(jobs[i], &recipe, err));
        json_t *json = job_recipe_json(&recipe);
        char *first = srv_json_dump(json);
        json_decref(json);
        assert_ok(parse(first, &again, err));
        json = job_recipe_json(&again);
        char *second = srv_json_dump(json);
        json_decref(json);
        assert_string_equal(first, second);
        assert_null(strstr(first, "0.69999"));
        shr_mem_free(first);
        shr_mem_free(second);
        job_recipe_finish(&recipe);
        job_recipe_finish(&again);
    }
}

/* ── Asserts ────────────────────────────────────────────────────────────────────────────────── */

static struct store_metric original_metrics[] = {
    {"size_bytes", true, 1000, ""},
    {"accuracy", true, 0.90, ""},
    {"sparsity", true, 0, ""},
    {"agreement", false, 0, "it is the original"},
};
static struct store_metric result_metrics[] = {
    {"size_bytes", true, 250, ""},
    {"accuracy", true, 0.89, ""},
    {"speedup_b1", true, 2.5, ""},
    {"sparsity", true, 0.5, ""},
    {"latency_ms_b1", false, 0, "an operator does not run"},
};
static struct store_step two_steps[] = {
    {0, "original", "", 1000, "", 4, original_metrics},
    {1, "p", "", 250, "", 5, result_metrics},
};
static const struct store_steps steps = {.n = 2, .v = two_steps};

static void asserts_are_judged_on_the_last_step(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool holds;
        double value;
        const char *why; /* NULL = there is a value */
    } cases[] = {
        {"accuracy >= 0.89", true, 0.89, NULL},
        {"accuracy > 0.89", false, 0.89, NULL},
        {"accuracy_drop <= 0.02", true, 0.01, NULL},
        {"accuracy_drop <= 0.005", false, 0.01, NULL},
        {"size_ratio <= 0.25", true, 0.25, NULL},
        {"size_bytes_ratio < 0.25", false, 0.25, NULL},
        {"size_drop == 750", true, 750, NULL},
        {"  speedup_b1>=1.5  ", true, 2.5, NULL},
        {"speedup_b1 != 2.5", false, 2.5, NULL},
        {"sparsity_ratio > 0", false, 0, "sparsity of the original is 0"},
        {"latency_ms_b1 < 5", false, 0, "latency_ms_b1 was not measured: an operator does not run"},
        {"speedup_b64 > 1", false, 0, "speedup_b64 was not measured"},
        {"agreement > 0", false, 0, "agreement was not measured"},
        {"speedup_b1_drop > 0", false, 0, "speedup_b1 was not measured"},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_arena arena = {0};
        struct job_assert assert = {0};
        bool pass = false;
        assert_ok(job_assert_parse(cases[i].text, &arena, &assert, err));
        json_t *rows = job_asserts_check(&assert, 1, &steps, &pass);
        const json_t *row = json_array_get(rows, 0);
        assert_int_equal(pass, cases[i].holds);
        assert_int_equal(json_is_true(json_object_get(row, "holds")), cases[i].holds);
        assert_string_equal(json_string_value(json_object_get(row, "assert")), cases[i].text);
        if (cases[i].why != NULL) {
            assert_true(json_is_null(json_object_get(row, "value")));
            assert_string_equal(json_string_value(json_object_get(row, "why")), cases[i].why);
        } else {
            assert_float_equal(json_number_value(json_object_get(row, "value")), cases[i].value,
                               1e-9);
        }
        json_decref(rows);
        shr_arena_finish(&arena);
    }
}

static void one_failing_assert_fails_all(void **state)
{
    (void)state;
    struct shr_arena arena = {0};
    struct job_assert asserts[3] = {0};
    bool pass = true;
    assert_ok(job_assert_parse("accuracy > 0", &arena, &asserts[0], err));
    assert_ok(job_assert_parse("accuracy > 1", &arena, &asserts[1], err));
    assert_ok(job_assert_parse("size_ratio < 1", &arena, &asserts[2], err));
    json_decref(job_asserts_check(asserts, 3, &steps, &pass));
    assert_false(pass);
    asserts[1] = asserts[2];
    json_decref(job_asserts_check(asserts, 3, &steps, &pass));
    assert_true(pass);
    shr_arena_finish(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_jobs_name_the_field),
        cmocka_unit_test(an_unknown_parameter_is_named_with_its_path),
        cmocka_unit_test(defaults_are_filled_in),
        cmocka_unit_test(the_canonical_form_is_a_fixed_point),
        cmocka_unit_test(asserts_are_judged_on_the_last_step),
        cmocka_unit_test(one_failing_assert_fails_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
