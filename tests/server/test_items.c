/* Uploads of models and datasets: what is refused and leaves nothing, what is stored and shown. */
#include "base/mem.h"
#include "fixture.h"
#include "inputs.h"

static uint64_t blobs_of(struct fixture *f)
{
    struct store_usage usage = {0};
    assert_ok(store_usage(f->srv->store, &usage, err));
    return usage.blobs;
}

static void names_are_checked_before_any_byte(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"", "A", "-a", ".a", "a/b", "a b", "ä", "a\n"};
    for (size_t i = 0; i < SHR_COUNT_OF(bad); i++) {
        struct srv_upload *u = NULL;
        struct shr_err failure = {0};
        assert_int_equal(srv_upload_new(f->srv, SRV_MODEL, bad[i], &u, &failure), SHR_ERR_INVALID);
        assert_null(u);
    }
}

static void what_is_no_model_is_refused_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct input mlp = input_model("mlp");
    unsigned char text[] = "not a model at all";
    const struct input cases[] = {{text, 0}, {text, 18}, {mlp.bytes, mlp.n / 2}, {mlp.bytes, 3}};
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct srv_upload *u = NULL;
        json_t *view = NULL;
        bool is_new = false;
        struct shr_err failure = {0};
        assert_ok(srv_upload_new(f->srv, SRV_MODEL, "bad", &u, err));
        assert_ok(srv_upload_part(u, "model", err));
        assert_ok(srv_upload_append(u, cases[i].bytes, cases[i].n, err));
        const int code = srv_upload_finish(u, &view, &is_new, &failure);
        assert_true(code == SHR_ERR_PARSE || code == SHR_ERR_INVALID);
        assert_true(failure.msg[0] != '\0');
        srv_upload_free(u);
        assert_int_equal(srv_item_get(f->srv, SRV_MODEL, "bad", 0, &view, &failure),
                         SHR_ERR_NOT_FOUND);
        assert_int_equal(blobs_of(f), 0);
    }
    input_finish(&mlp);
}

static void a_model_is_described_and_versioned_by_its_bytes(void **state)
{
    struct fixture *f = *state;
    struct input mlp = input_model("mlp");
    struct input cnn = input_model("cnn");
    json_t *view = NULL;
    assert_true(put_model(f, "net", &mlp, &view));
    assert_string_equal(json_string_value(json_object_get(view, "name")), "net");
    assert_int_equal(json_integer_value(json_object_get(view, "version")), 1);
    assert_int_equal(json_integer_value(json_object_get(view, "bytes")), mlp.n);
    assert_int_equal(json_integer_value(json_object_get(view, "parameters")), 266610);
    assert_int_equal(json_array_size(json_object_get(view, "unrunnable_ops")), 0);
    assert_int_equal(json_array_size(json_object_get(view, "inputs")), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(view, "ops"), "Relu")), 2);
    json_decref(view);
    assert_false(put_model(f, "net", &mlp, &view)); /* the same bytes */
    assert_int_equal(json_integer_value(json_object_get(view, "version")), 1);
    json_decref(view);
    assert_true(put_model(f, "net", &cnn, &view));
    assert_int_equal(json_integer_value(json_object_get(view, "version")), 2);
    json_decref(view);

    struct srv_blob blob = {0};
    unsigned char *back = malloc(mlp.n);
    size_t n = 0;
    assert_ok(srv_model_blob(f->srv, "net", 1, &blob, err));
    assert_string_equal(blob.filename, "net-v1.onnx");
    assert_int_equal(blob.bytes, mlp.n);
    assert_ok(srv_blob_read(f->srv, blob.sha256, 0, back, mlp.n, &n, err));
    assert_int_equal(n, mlp.n);
    assert_memory_equal(back, mlp.bytes, n);
    free(back);
    input_finish(&mlp);
    input_finish(&cnn);
}

static void an_upload_over_the_limit_is_cut(void **state)
{
    struct fixture *f = *state;
    struct srv_upload *u = NULL;
    char bytes[100] = {0};
    f->srv->settings.http.max_upload_bytes = 150;
    assert_ok(srv_upload_new(f->srv, SRV_MODEL, "big", &u, err));
    assert_ok(srv_upload_part(u, "model", err));
    assert_ok(srv_upload_append(u, bytes, sizeof bytes, err));
    assert_err(srv_upload_append(u, bytes, sizeof bytes, err), SHR_ERR_LIMIT,
               "the body is larger than 150 bytes (max_upload_bytes)");
    srv_upload_free(u);
    assert_int_equal(blobs_of(f), 0);
}

static void a_dataset_of_idx_parts_is_described_in_either_order(void **state)
{
    struct fixture *f = *state;
    struct input images = input_images(20, 28, 28);
    struct input labels = input_labels(20, 10);
    json_t *view = NULL;
    put_dataset(f, "a", &images, &labels, &view);
    assert_int_equal(json_integer_value(json_object_get(view, "samples")), 20);
    assert_int_equal(json_integer_value(json_object_get(view, "classes")), 10);
    assert_string_equal(json_string_value(json_object_get(view, "format")), "idx");
    assert_int_equal(json_array_size(json_object_get(view, "label_histogram")), 10);
    json_decref(view);

    struct srv_upload *u = NULL;
    bool is_new = false;
    assert_ok(srv_upload_new(f->srv, SRV_DATASET, "a", &u, err));
    assert_ok(srv_upload_part(u, "labels", err));
    assert_ok(srv_upload_append(u, labels.bytes, labels.n, err));
    assert_ok(srv_upload_part(u, "images", err));
    assert_ok(srv_upload_append(u, images.bytes, images.n, err));
    assert_ok(srv_upload_finish(u, &view, &is_new, err));
    assert_false(is_new); /* the same parts in another order */
    json_decref(view);
    srv_upload_free(u);
    input_finish(&images);
    input_finish(&labels);
}

static void bad_parts_and_options_are_named(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *key, *value, *message;
    } options[] = {
        {"scale", "big", "scale: \"big\" is not a number or a list of them"},
        {"scale", "", "scale: \"\" is not a number or a list of them"},
        {"scale", "1,2", "scale: must be one number"},
        {"scale", "0", "scale: must be positive"},
        {"mean", "0.1,", "mean: \"0.1,\" is not a number or a list of them"},
        {"mean", "nan", "mean: \"nan\" is not a number or a list of them"},
        {"std", "1,0", "std: must be positive"},
        {"layout", "nwhc", "layout: \"nwhc\" is not nchw or nhwc"},
        {"colour", "red", "colour: unknown option"},
    };
    struct srv_upload *u = NULL;
    json_t *view = NULL;
    bool is_new = false;
    assert_ok(srv_upload_new(f->srv, SRV_DATASET, "d", &u, err));
    for (size_t i = 0; i < SHR_COUNT_OF(options); i++) {
        assert_err(srv_upload_option(u, options[i].key, options[i].value, err), SHR_ERR_INVALID,
                   options[i].message);
    }
    assert_err(srv_upload_finish(u, &view, &is_new, err), SHR_ERR_INVALID, "the body is empty");
    assert_err(srv_upload_part(u, "model", err), SHR_ERR_INVALID,
               "part \"model\": a dataset has none of this name");
    assert_ok(srv_upload_part(u, "labels", err));
    assert_err(srv_upload_part(u, "labels", err), SHR_ERR_INVALID, "part \"labels\": comes twice");
    assert_err(srv_upload_finish(u, &view, &is_new, err), SHR_ERR_INVALID,
               "parts: a dataset is one npz or npy, or images with or without labels");
    srv_upload_free(u);

    assert_ok(srv_upload_new(f->srv, SRV_MODEL, "m", &u, err));
    assert_err(srv_upload_option(u, "scale", "1", err), SHR_ERR_INVALID,
               "scale: a model has no options");
    srv_upload_free(u);
}

static void options_are_kept_with_the_dataset(void **state)
{
    struct fixture *f = *state;
    struct input images = input_images(4, 2, 2);
    struct srv_upload *u = NULL;
    json_t *view = NULL;
    bool is_new = false;
    assert_ok(srv_upload_new(f->srv, SRV_DATASET, "d", &u, err));
    assert_ok(srv_upload_option(u, "scale", "0.5", err));
    assert_ok(srv_upload_option(u, "mean", "0.25", err));
    assert_ok(srv_upload_part(u, "images", err));
    assert_ok(srv_upload_append(u, images.bytes, images.n, err));
    assert_ok(srv_upload_finish(u, &view, &is_new, err));
    const json_t *options = json_object_get(view, "options");
    assert_true(json_real_value(json_object_get(options, "scale")) == 0.5);
    assert_true(json_real_value(json_array_get(json_object_get(options, "mean"), 0)) == 0.25);
    json_decref(view);
    srv_upload_free(u);
    input_finish(&images);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        srv_test(names_are_checked_before_any_byte),
        srv_test(what_is_no_model_is_refused_and_leaves_nothing),
        srv_test(a_model_is_described_and_versioned_by_its_bytes),
        srv_test(an_upload_over_the_limit_is_cut),
        srv_test(a_dataset_of_idx_parts_is_described_in_either_order),
        srv_test(bad_parts_and_options_are_named),
        srv_test(options_are_kept_with_the_dataset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
