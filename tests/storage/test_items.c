/* Models and datasets. */
#include "fixture.h"

static void a_version_reads_back_by_name_version_and_id(void **state)
{
    struct fixture *f = *state;
    struct store_item first, item;
    add_item(f, STORE_MODEL, "mlp", "one", &first);
    add_item(f, STORE_MODEL, "mlp", "two", NULL);
    assert_true(store_id_is("mdl", first.id));
    assert_ok(store_item_get(f->store, STORE_MODEL, "mlp", 0, &item, err));
    assert_int_equal(item.version, 2);
    assert_string_equal(item.summary, "two");
    store_item_finish(&item);
    assert_ok(store_item_get(f->store, STORE_MODEL, "mlp", 1, &item, err));
    assert_string_equal(item.id, first.id);
    store_item_finish(&item);
    assert_ok(store_item_get(f->store, STORE_MODEL, first.id, 0, &item, err));
    assert_string_equal(item.name, "mlp");
    assert_int_equal(item.version, 1);
    assert_string_equal(item.format, "onnx");
    assert_string_equal(item.options, "{}");
    assert_int_equal(item.n_parts, 1);
    assert_string_equal(item.parts[0].name, "model");
    assert_int_equal(item.parts[0].bytes, 3);
    assert_string_equal(item.parts[0].sha256, first.parts[0].sha256);
    store_item_finish(&item);
    store_item_finish(&first);
}

static void what_is_not_there_is_named(void **state)
{
    struct fixture *f = *state;
    struct store_item item;
    add_item(f, STORE_MODEL, "mlp", "one", NULL);
    assert_err(store_item_get(f->store, STORE_DATASET, "mlp", 0, &item, err), SHR_ERR_NOT_FOUND,
               "dataset mlp does not exist");
    assert_err(store_item_get(f->store, STORE_MODEL, "mlp", 7, &item, err), SHR_ERR_NOT_FOUND,
               "model mlp has no version 7");
    assert_err(
        store_item_get(f->store, STORE_MODEL, "mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV", 0, &item, err),
        SHR_ERR_NOT_FOUND, "model mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV does not exist");
}

static void the_same_bytes_and_options_are_the_same_version(void **state)
{
    struct fixture *f = *state;
    struct store_item first, again;
    bool is_new = true;
    add_item(f, STORE_DATASET, "data", "bytes", &first);
    struct store_item item = first;
    item.arena = (struct shr_arena){0};
    assert_ok(store_item_add(f->store, STORE_DATASET, &item, &again, &is_new, err));
    assert_false(is_new);
    assert_string_equal(again.id, first.id);
    store_item_finish(&again);
    item.options = "{\"scale\": 2}";
    assert_ok(store_item_add(f->store, STORE_DATASET, &item, &again, &is_new, err));
    assert_true(is_new);
    assert_int_equal(again.version, 2);
    store_item_finish(&again);
    store_item_finish(&first);
}

static void a_version_whose_bytes_are_not_stored_is_refused(void **state)
{
    struct fixture *f = *state;
    char sha256[STORE_SHA256_HEX];
    put_text(f, "bytes", sha256);
    struct store_item ret;
    bool is_new;
    struct store_item item = {
        .name = "mlp", .n_parts = 2, .parts = {{"model", sha256, 5}, {"data", "beef", 1}}};
    assert_err(store_item_add(f->store, STORE_MODEL, &item, &ret, &is_new, err), SHR_ERR_NOT_FOUND,
               "blob sha256:beef does not exist");
    assert_err(store_item_get(f->store, STORE_MODEL, "mlp", 0, &ret, err), SHR_ERR_NOT_FOUND,
               "model mlp does not exist");
    item.n_parts = 0;
    assert_err(store_item_add(f->store, STORE_MODEL, &item, &ret, &is_new, err), SHR_ERR_INVALID,
               "model mlp: 0 parts, not 1 to 4");
    item.name = "";
    assert_err(store_item_add(f->store, STORE_MODEL, &item, &ret, &is_new, err), SHR_ERR_INVALID,
               "name: model names have 1 to 128 bytes");
}

static void deleting_one_version_or_all_never_brings_a_number_back(void **state)
{
    struct fixture *f = *state;
    struct store_item item;
    add_item(f, STORE_MODEL, "mlp", "one", NULL);
    add_item(f, STORE_MODEL, "mlp", "two", NULL);
    assert_ok(store_item_delete(f->store, STORE_MODEL, "mlp", 2, err));
    assert_ok(store_item_get(f->store, STORE_MODEL, "mlp", 0, &item, err));
    assert_int_equal(item.version, 1);
    store_item_finish(&item);
    add_item(f, STORE_MODEL, "mlp", "three", &item);
    assert_int_equal(item.version, 3);
    store_item_finish(&item);
    assert_ok(store_item_delete(f->store, STORE_MODEL, "mlp", 0, err));
    assert_err(store_item_delete(f->store, STORE_MODEL, "mlp", 0, err), SHR_ERR_NOT_FOUND,
               "model mlp does not exist");
    add_item(f, STORE_MODEL, "mlp", "one", &item);
    assert_int_equal(item.version, 4);
    store_item_finish(&item);
}

static void what_an_open_job_uses_cannot_be_deleted(void **state)
{
    struct fixture *f = *state;
    struct store_item model, data, other;
    add_item(f, STORE_MODEL, "mlp", "m", &model);
    add_item(f, STORE_DATASET, "train", "t", &data);
    add_item(f, STORE_DATASET, "test", "u", &other);
    char datasets[80];
    snprintf(datasets, sizeof datasets, "%s %s", data.id, other.id);
    const struct store_job job = {.state = "queued", .model_id = model.id, .datasets = datasets};
    struct store_job added;
    assert_ok(store_job_add(f->store, &job, 10, "", &added, err));
    char text[128];
    snprintf(text, sizeof text, "model mlp: version 1 is used by %s", added.id);
    assert_err(store_item_delete(f->store, STORE_MODEL, "mlp", 0, err), SHR_ERR_CONFLICT, text);
    snprintf(text, sizeof text, "dataset test: version 1 is used by %s", added.id);
    assert_err(store_item_delete(f->store, STORE_DATASET, "test", 1, err), SHR_ERR_CONFLICT, text);
    add_item(f, STORE_MODEL, "mlp", "m2", NULL); /* another version is free to go */
    assert_ok(store_item_delete(f->store, STORE_MODEL, "mlp", 2, err));
    const struct store_move move = {
        .from = "queued", .to = "cancelled", .attempt = -1, .is_final = true};
    assert_ok(store_job_move(f->store, added.id, &move, NULL, err));
    assert_ok(store_item_delete(f->store, STORE_MODEL, "mlp", 0, err));
    assert_ok(store_item_delete(f->store, STORE_DATASET, "test", 0, err));
    store_job_finish(&added);
    store_item_finish(&model);
    store_item_finish(&data);
    store_item_finish(&other);
}

static void an_id_names_one_version(void **state)
{
    struct fixture *f = *state;
    struct store_item item, same;
    char text[128];
    add_item(f, STORE_MODEL, "mlp", "one", &item);
    add_item(f, STORE_MODEL, "mlp", "two", NULL);
    assert_ok(store_item_get(f->store, STORE_MODEL, item.id, 1, &same, err));
    assert_string_equal(same.name, "mlp");
    store_item_finish(&same);
    snprintf(text, sizeof text, "model %s has no version 2", item.id);
    assert_err(store_item_get(f->store, STORE_MODEL, item.id, 2, &same, err), SHR_ERR_NOT_FOUND,
               text);
    assert_err(store_item_delete(f->store, STORE_MODEL, item.id, 2, err), SHR_ERR_NOT_FOUND, text);
    assert_ok(store_item_delete(f->store, STORE_MODEL, item.id, 0, err));
    assert_err(store_item_get(f->store, STORE_MODEL, "mlp", 1, &same, err), SHR_ERR_NOT_FOUND,
               "model mlp has no version 1");
    assert_ok(store_item_get(f->store, STORE_MODEL, "mlp", 2, &same, err));
    store_item_finish(&same);
    store_item_finish(&item);
}

static void lists_hold_the_newest_of_each_name_in_pages(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"d", "b", "a", "c", "e"};
    for (size_t i = 0; i < SHR_COUNT_OF(names); i++) {
        add_item(f, STORE_MODEL, names[i], "one", NULL);
    }
    add_item(f, STORE_MODEL, "c", "two", NULL);
    add_item(f, STORE_DATASET, "bb", "data", NULL);
    struct store_page page;
    assert_ok(store_item_list(f->store, STORE_MODEL, NULL, 3, &page, err));
    assert_int_equal(page.n, 3);
    assert_string_equal(page.v[0].name, "a");
    assert_string_equal(page.v[2].name, "c");
    assert_int_equal(page.v[2].version, 2);
    assert_int_equal(page.v[2].n_parts, 1);
    assert_string_equal(page.next, "c");
    store_page_finish(&page);
    assert_ok(store_item_list(f->store, STORE_MODEL, "c", 2, &page, err));
    assert_int_equal(page.n, 2);
    assert_string_equal(page.v[1].name, "e");
    assert_string_equal(page.next, ""); /* nothing behind a page that is just full */
    store_page_finish(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        store_test(a_version_reads_back_by_name_version_and_id),
        store_test(what_is_not_there_is_named),
        store_test(the_same_bytes_and_options_are_the_same_version),
        store_test(a_version_whose_bytes_are_not_stored_is_refused),
        store_test(deleting_one_version_or_all_never_brings_a_number_back),
        store_test(what_an_open_job_uses_cannot_be_deleted),
        store_test(an_id_names_one_version),
        store_test(lists_hold_the_newest_of_each_name_in_pages),
    };
    return cmocka_run_group_tests_name("storage/items", tests, NULL, NULL);
}
