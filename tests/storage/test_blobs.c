/* Blobs: uploads, reading, keeping once, sweeping. */
#include "fixture.h"

#include "base/mem.h"

static void fill(unsigned char *bytes, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        bytes[i] = (unsigned char)(seed >> 16);
    }
}

static uint64_t blobs_of(struct fixture *f)
{
    struct store_usage usage;
    assert_ok(store_usage(f->store, &usage, err));
    return usage.blobs;
}

static void bytes_of_every_length_come_back(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 1, TEST_CHUNK - 1, TEST_CHUNK, TEST_CHUNK + 1, 5432};
    unsigned char bytes[5432];
    fill(bytes, sizeof bytes, 1);
    for (size_t i = 0; i < SHR_COUNT_OF(sizes); i++) {
        char sha256[STORE_SHA256_HEX];
        void *back;
        size_t n;
        uint64_t size;
        assert_ok(store_blob_put(f->store, bytes, sizes[i], sha256, err));
        assert_ok(store_blob_size(f->store, sha256, &size, err));
        assert_int_equal(size, sizes[i]);
        assert_ok(store_blob_get(f->store, sha256, sizes[i], &back, &n, err));
        assert_int_equal(n, sizes[i]);
        assert_memory_equal(back, bytes, n);
        shr_mem_free(back);
    }
    assert_ok(store_check(f->store, err));
}

static void reads_from_any_offset_cross_chunks_and_stop_at_the_end(void **state)
{
    struct fixture *f = *state;
    unsigned char bytes[3500];
    unsigned char back[3500];
    char sha256[STORE_SHA256_HEX];
    size_t n;
    fill(bytes, sizeof bytes, 2);
    assert_ok(store_blob_put(f->store, bytes, sizeof bytes, sha256, err));
    fixture_reopen(f);
    assert_ok(store_blob_read(f->store, sha256, 900, back, 2200, &n, err));
    assert_int_equal(n, 2200);
    assert_memory_equal(back, bytes + 900, n);
    assert_ok(store_blob_read(f->store, sha256, 3400, back, 1000, &n, err));
    assert_int_equal(n, 100);
    assert_memory_equal(back, bytes + 3400, n);
    assert_ok(store_blob_read(f->store, sha256, 3500, back, 10, &n, err));
    assert_int_equal(n, 0);
    assert_ok(store_blob_read(f->store, sha256, UINT64_MAX, back, 10, &n, err));
    assert_int_equal(n, 0);
}

static void blobs_that_are_absent_or_too_large_are_named(void **state)
{
    struct fixture *f = *state;
    char sha256[STORE_SHA256_HEX];
    char text[160];
    uint64_t size;
    void *bytes;
    size_t n;
    assert_err(store_blob_size(f->store, "beef", &size, err), SHR_ERR_NOT_FOUND,
               "blob sha256:beef does not exist");
    put_text(f, "four", sha256);
    snprintf(text, sizeof text, "blob sha256:%s has 4 bytes, at most 3", sha256);
    assert_err(store_blob_get(f->store, sha256, 3, &bytes, &n, err), SHR_ERR_LIMIT, text);
}

static void an_upload_is_hashed_and_invisible_until_it_is_finished(void **state)
{
    struct fixture *f = *state;
    struct store_upload *upload;
    unsigned char bytes[4321];
    char sha256[STORE_SHA256_HEX], whole[STORE_SHA256_HEX];
    struct store_sha256 h;
    fill(bytes, sizeof bytes, 3);
    assert_ok(store_upload_new(f->store, &upload, err));
    for (size_t at = 0; at < sizeof bytes; at += 300) {
        size_t n = sizeof bytes - at < 300 ? sizeof bytes - at : 300;
        assert_ok(store_upload_append(upload, bytes + at, n, err));
        assert_int_equal(store_upload_bytes(upload), at + n);
    }
    assert_int_equal(blobs_of(f), 0);
    assert_ok(store_upload_finish(upload, sha256, err));
    store_sha256_init(&h);
    store_sha256_add(&h, bytes, sizeof bytes);
    store_sha256_hex(&h, whole);
    assert_string_equal(sha256, whole);
    assert_err(store_upload_append(upload, bytes, 1, err), SHR_ERR_CONFLICT,
               "the upload has ended");
    assert_err(store_upload_finish(upload, sha256, err), SHR_ERR_CONFLICT, "the upload has ended");
    store_upload_free(upload);
    assert_int_equal(blobs_of(f), 1);
    assert_ok(store_check(f->store, err));
}

static void an_upload_that_is_dropped_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct store_upload *upload;
    unsigned char bytes[5000];
    struct store_usage usage;
    fill(bytes, sizeof bytes, 4);
    assert_ok(store_upload_new(f->store, &upload, err));
    assert_ok(store_upload_append(upload, bytes, sizeof bytes, err));
    store_upload_free(upload);
    assert_ok(store_usage(f->store, &usage, err));
    assert_int_equal(usage.blobs, 0);
    assert_int_equal(usage.reclaimable_bytes, 0);
    store_upload_free(NULL);
}

static void an_upload_can_be_read_before_it_is_finished(void **state)
{
    struct fixture *f = *state;
    struct store_upload *upload;
    char sha256[STORE_SHA256_HEX];
    unsigned char bytes[10000];
    void *read = NULL;
    size_t n = 0;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * 31 >> 3);
    }

    assert_ok(store_upload_new(f->store, &upload, err));
    assert_ok(store_upload_get(upload, &read, &n, err));
    assert_int_equal(n, 0);
    shr_mem_free(read);
    assert_ok(store_upload_append(upload, bytes, sizeof bytes, err));
    assert_ok(store_upload_get(upload, &read, &n, err));
    assert_int_equal(n, sizeof bytes);
    assert_memory_equal(read, bytes, n);
    shr_mem_free(read);
    assert_ok(store_upload_finish(upload, sha256, err));
    assert_err(store_upload_get(upload, &read, &n, err), SHR_ERR_CONFLICT, "the upload has ended");
    store_upload_free(upload);
}

static void uploads_side_by_side_do_not_mix(void **state)
{
    struct fixture *f = *state;
    enum { N = 3, SIZE = 3333 };
    struct store_upload *uploads[N];
    unsigned char bytes[N][SIZE];
    for (unsigned i = 0; i < N; i++) {
        fill(bytes[i], SIZE, 10 + i);
        assert_ok(store_upload_new(f->store, &uploads[i], err));
    }
    for (size_t at = 0; at < SIZE; at += 101) {
        for (size_t i = 0; i < N; i++) {
            size_t n = SIZE - at < 101 ? SIZE - at : 101;
            assert_ok(store_upload_append(uploads[i], bytes[i] + at, n, err));
        }
    }
    store_upload_free(uploads[1]); /* in the middle of the others */
    for (size_t i = 0; i < N; i += 2) {
        char sha256[STORE_SHA256_HEX];
        void *back;
        size_t n;
        assert_ok(store_upload_finish(uploads[i], sha256, err));
        assert_ok(store_blob_get(f->store, sha256, SIZE, &back, &n, err));
        assert_int_equal(n, SIZE);
        assert_memory_equal(back, bytes[i], SIZE);
        shr_mem_free(back);
        store_upload_free(uploads[i]);
    }
    assert_int_equal(blobs_of(f), 2);
}

static void the_same_bytes_are_kept_once(void **state)
{
    struct fixture *f = *state;
    unsigned char bytes[2500];
    char a[STORE_SHA256_HEX], b[STORE_SHA256_HEX];
    struct store_usage usage;
    fill(bytes, sizeof bytes, 5);
    assert_ok(store_blob_put(f->store, bytes, sizeof bytes, a, err));
    assert_ok(store_blob_put(f->store, bytes, sizeof bytes, b, err));
    assert_string_equal(a, b);
    assert_ok(store_usage(f->store, &usage, err));
    assert_int_equal(usage.blobs, 1);
    assert_int_equal(usage.blob_bytes, 2500);
    assert_ok(store_check(f->store, err));
}

static void sweeping_takes_only_what_no_row_names_and_is_old_enough(void **state)
{
    struct fixture *f = *state;
    char lost[STORE_SHA256_HEX];
    uint64_t freed = 7;
    uint64_t size;
    struct store_item item;
    struct store_usage usage;
    add_item(f, STORE_MODEL, "mlp", "named by a part", &item);
    put_text(f, "named by nobody", lost);
    assert_ok(store_usage(f->store, &usage, err));
    assert_int_equal(usage.reclaimable_bytes, 15);
    assert_ok(store_sweep(f->store, 3600, &freed, err));
    assert_int_equal(freed, 0);
    assert_ok(store_sweep(f->store, 0, &freed, err));
    assert_int_equal(freed, 15);
    assert_ok(store_blob_size(f->store, item.parts[0].sha256, &size, err));
    struct shr_err ignored;
    assert_int_equal(store_blob_size(f->store, lost, &size, &ignored), SHR_ERR_NOT_FOUND);
    assert_ok(store_item_delete(f->store, STORE_MODEL, "mlp", 0, err));
    assert_ok(store_sweep(f->store, 0, &freed, err));
    assert_int_equal(freed, 15);
    assert_int_equal(blobs_of(f), 0);
    store_item_finish(&item);
}

static void sweeping_leaves_uploads_that_are_under_way(void **state)
{
    struct fixture *f = *state;
    struct store_upload *upload;
    unsigned char bytes[2500];
    char sha256[STORE_SHA256_HEX];
    uint64_t freed;
    fill(bytes, sizeof bytes, 6);
    assert_ok(store_upload_new(f->store, &upload, err));
    assert_ok(store_upload_append(upload, bytes, sizeof bytes, err));
    assert_ok(store_sweep(f->store, 0, &freed, err));
    assert_int_equal(freed, 0);
    assert_ok(store_upload_finish(upload, sha256, err));
    store_upload_free(upload);
    assert_ok(store_check(f->store, err));
}

static void sweeping_gives_the_space_back(void **state)
{
    struct fixture *f = *state;
    enum { N = 4 << 20 };
    unsigned char *bytes = malloc(N);
    char sha256[STORE_SHA256_HEX];
    uint64_t freed;
    struct store_usage before, after;
    fill(bytes, N, 7);
    assert_ok(store_blob_put(f->store, bytes, N, sha256, err));
    assert_ok(store_usage(f->store, &before, err));
    assert_ok(store_sweep(f->store, 0, &freed, err));
    assert_ok(store_usage(f->store, &after, err));
    assert_true(before.database_bytes > N);
    assert_true(after.database_bytes < before.database_bytes - N / 2);
    free(bytes);
}

static void the_check_finds_changed_and_missing_bytes(void **state)
{
    struct fixture *f = *state;
    char text[160];
    struct store_item item;
    add_item(f, STORE_MODEL, "mlp", "good bytes", &item);
    assert_ok(store_check(f->store, err));
    fixture_sql(f, "artifacts.db", "UPDATE chunk SET bytes = CAST('evil bytes' AS BLOB)");
    snprintf(text, sizeof text, "artifacts.db: blob sha256:%s has other bytes",
             item.parts[0].sha256);
    assert_err(store_check(f->store, err), SHR_ERR_CORRUPT, text);
    fixture_sql(f, "artifacts.db", "DELETE FROM chunk");
    assert_err(store_check(f->store, err), SHR_ERR_CORRUPT,
               "artifacts.db: chunk 0 of blob 1 is missing or short");
    fixture_sql(f, "artifacts.db", "DELETE FROM blob");
    snprintf(text, sizeof text, "artifacts.db: blob sha256:%s is named but gone",
             item.parts[0].sha256);
    assert_err(store_check(f->store, err), SHR_ERR_CORRUPT, text);
    store_item_finish(&item);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        store_test(bytes_of_every_length_come_back),
        store_test(reads_from_any_offset_cross_chunks_and_stop_at_the_end),
        store_test(blobs_that_are_absent_or_too_large_are_named),
        store_test(an_upload_is_hashed_and_invisible_until_it_is_finished),
        store_test(an_upload_that_is_dropped_leaves_nothing),
        store_test(an_upload_can_be_read_before_it_is_finished),
        store_test(uploads_side_by_side_do_not_mix),
        store_test(the_same_bytes_are_kept_once),
        store_test(sweeping_takes_only_what_no_row_names_and_is_old_enough),
        store_test(sweeping_leaves_uploads_that_are_under_way),
        store_test(sweeping_gives_the_space_back),
        store_test(the_check_finds_changed_and_missing_bytes),
    };
    return cmocka_run_group_tests_name("storage/blobs", tests, NULL, NULL);
}
