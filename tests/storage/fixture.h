/* A store in a folder of its own, for each test. */
#ifndef TEST_STORAGE_FIXTURE_H
#define TEST_STORAGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

enum { TEST_CHUNK = 1000 };

struct fixture {
    char dir[64];
    struct store *store;
};

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        struct shr_err err_ = {0};                                                                 \
        struct shr_err *err = &err_;                                                               \
        if ((call) != 0) {                                                                         \
            fail_msg("%s: %s", #call, err_.msg);                                                   \
        }                                                                                          \
    } while (0)

/* The call fails with this code and this message. */
#define assert_err(call, expected, text)                                                           \
    do {                                                                                           \
        struct shr_err err_ = {0};                                                                 \
        struct shr_err *err = &err_;                                                               \
        int code_ = (call);                                                                        \
        assert_string_equal(shr_err_name(code_), shr_err_name(expected));                          \
        assert_string_equal(err_.msg, text);                                                       \
        assert_int_equal(err_.code, code_);                                                        \
    } while (0)

static inline void fixture_open(struct fixture *f)
{
    const struct store_opts opts = {.dir = f->dir, .chunk_bytes = TEST_CHUNK};
    assert_ok(store_open(&opts, &f->store, err));
}

static inline void fixture_reopen(struct fixture *f)
{
    store_close(f->store);
    f->store = NULL;
    fixture_open(f);
}

static inline int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%.40s/store-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    fixture_open(f);
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    store_close(f->store);
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    int rc = system(command);
    free(f);
    return rc;
}

#define store_test(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

/* A blob of some text. */
static inline void put_text(struct fixture *f, const char *text, char ret_sha256[STORE_SHA256_HEX])
{
    assert_ok(store_blob_put(f->store, text, strlen(text), ret_sha256, err));
}

/* A version of a model or dataset whose only part holds the text; ret may be NULL. */
static inline void add_item(struct fixture *f, enum store_kind kind, const char *name,
                            const char *text, struct store_item *ret)
{
    char sha256[STORE_SHA256_HEX];
    put_text(f, text, sha256);
    const struct store_item item = {.name = name,
                                    .format = kind == STORE_MODEL ? "onnx" : "npz",
                                    .options = "{}",
                                    .summary = text,
                                    .n_parts = 1,
                                    .parts = {{"model", sha256, strlen(text)}}};
    struct store_item added = {0};
    bool is_new;
    assert_ok(store_item_add(f->store, kind, &item, &added, &is_new, err));
    if (ret != NULL) {
        *ret = added;
    } else {
        store_item_finish(&added);
    }
}

/* Runs SQL on a database file behind the store's back. */
void fixture_sql(const struct fixture *f, const char *file, const char *sql);

#endif
