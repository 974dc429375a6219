/* Ids and hashes. */
#include "fixture.h"

static void hash_of(const void *bytes, size_t n, char hex[STORE_SHA256_HEX])
{
    struct store_sha256 h;
    store_sha256_init(&h);
    store_sha256_add(&h, bytes, n);
    store_sha256_hex(&h, hex);
}

static void sha256_of_the_standards_examples(void **state)
{
    (void)state;
    static const struct {
        const char *text, *hex;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrl"
         "mnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        char hex[STORE_SHA256_HEX];
        hash_of(cases[i].text, strlen(cases[i].text), hex);
        assert_string_equal(hex, cases[i].hex);
    }
}

static void sha256_of_a_million_a(void **state)
{
    (void)state;
    enum { N = 1000000 };
    char *text = malloc(N);
    char hex[STORE_SHA256_HEX];
    memset(text, 'a', N);
    hash_of(text, N, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(text);
}

static void sha256_does_not_depend_on_how_bytes_arrive(void **state)
{
    (void)state;
    unsigned char bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * 7);
    }
    for (size_t n = 0; n <= sizeof bytes; n++) { /* each length around the block borders */
        char whole[STORE_SHA256_HEX];
        char parts[STORE_SHA256_HEX];
        struct store_sha256 h;
        hash_of(bytes, n, whole);
        store_sha256_init(&h);
        for (size_t at = 0; at < n;) {
            size_t step = at % 67 + 1 < n - at ? at % 67 + 1 : n - at;
            store_sha256_add(&h, bytes + at, step);
            at += step;
        }
        store_sha256_hex(&h, parts);
        assert_string_equal(parts, whole);
    }
}

static void ids_are_a_prefix_and_a_ulid(void **state)
{
    (void)state;
    char id[STORE_ID_SIZE];
    store_id_new("job", id);
    assert_int_equal(strlen(id), 30);
    assert_true(store_id_is("job", id));
    assert_false(store_id_is("mdl", id));
    assert_false(store_id_is("job", "job_01ARZ3NDEKTSV4RRFFQ69G5FA"));
    assert_false(store_id_is("job", "job_01ARZ3NDEKTSV4RRFFQ69G5FAVX"));
    assert_false(store_id_is("job", "job_01ARZ3NDEKTSV4RRFFQ69G5FAI")); /* I is not in the set */
    assert_false(store_id_is("job", "job_81ARZ3NDEKTSV4RRFFQ69G5FAV")); /* over 128 bits */
    assert_true(store_id_is("job", "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"));
}

static void ids_sort_by_time_and_differ(void **state)
{
    (void)state;
    char ids[50][STORE_ID_SIZE];
    for (size_t i = 0; i < SHR_COUNT_OF(ids); i++) {
        store_id_new("job", ids[i]);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(ids[i], ids[k]);
            /* 10 characters of milliseconds behind the prefix */
            assert_true(strncmp(ids[k], ids[i], 14) <= 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_of_the_standards_examples),
        cmocka_unit_test(sha256_of_a_million_a),
        cmocka_unit_test(sha256_does_not_depend_on_how_bytes_arrive),
        cmocka_unit_test(ids_are_a_prefix_and_a_ulid),
        cmocka_unit_test(ids_sort_by_time_and_differ),
    };
    return cmocka_run_group_tests_name("storage/ids", tests, NULL, NULL);
}
