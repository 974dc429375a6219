/* See inputs.h. */
#include "inputs.h"

struct input input_model(const char *name)
{
    const char *dir = getenv("SHRINKD_EXAMPLES");
    char path[512];
    assert_non_null(dir);
    snprintf(path, sizeof path, "%s/%s.onnx", dir, name);
    FILE *file = fopen(path, "rbe");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    struct input input = {.n = (size_t)ftell(file)};
    rewind(file);
    input.bytes = malloc(input.n);
    assert_int_equal(fread(input.bytes, 1, input.n, file), input.n);
    fclose(file);
    return input;
}

struct input input_images(uint8_t n, uint8_t height, uint8_t width)
{
    const unsigned char head[] = {0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, height, 0, 0, 0, width};
    const size_t pixels = (size_t)n * height * width;
    struct input input = {malloc(sizeof head + pixels), sizeof head + pixels};
    memcpy(input.bytes, head, sizeof head);
    for (size_t i = 0; i < pixels; i++) {
        input.bytes[sizeof head + i] = (unsigned char)(i * 2654435761u >> 24);
    }
    return input;
}

struct input input_labels(uint8_t n, uint8_t classes)
{
    const unsigned char head[] = {0, 0, 8, 1, 0, 0, 0, n};
    struct input input = {malloc(sizeof head + n), sizeof head + n};
    memcpy(input.bytes, head, sizeof head);
    for (size_t i = 0; i < n; i++) {
        input.bytes[sizeof head + i] = (unsigned char)(i % classes);
    }
    return input;
}

void input_finish(struct input *input)
{
    free(input->bytes);
    *input = (struct input){0};
}

static void finish(struct srv_upload *u, json_t **ret_view, bool *ret_is_new)
{
    json_t *view = NULL;
    assert_ok(srv_upload_finish(u, &view, ret_is_new, err));
    srv_upload_free(u);
    if (ret_view != NULL) {
        *ret_view = view;
    } else {
        json_decref(view);
    }
}

bool put_model(struct fixture *f, const char *name, const struct input *model, json_t **ret_view)
{
    struct srv_upload *u = NULL;
    bool is_new = false;
    assert_ok(srv_upload_new(f->srv, SRV_MODEL, name, &u, err));
    assert_ok(srv_upload_part(u, "model", err));
    assert_ok(srv_upload_append(u, model->bytes, model->n, err));
    finish(u, ret_view, &is_new);
    return is_new;
}

void put_dataset(struct fixture *f, const char *name, const struct input *images,
                 const struct input *labels, json_t **ret_view)
{
    struct srv_upload *u = NULL;
    bool is_new = false;
    assert_ok(srv_upload_new(f->srv, SRV_DATASET, name, &u, err));
    assert_ok(srv_upload_part(u, "images", err));
    assert_ok(srv_upload_append(u, images->bytes, images->n, err));
    if (labels != NULL) {
        assert_ok(srv_upload_part(u, "labels", err));
        assert_ok(srv_upload_append(u, labels->bytes, labels->n, err));
    }
    finish(u, ret_view, &is_new);
}
