/* A service over a store in a folder of its own, without HTTP and without a running loop. */
#ifndef TEST_SERVER_FIXTURE_H
#define TEST_SERVER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "srv.h"

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
        assert_string_equal(err_.msg, text);                                                       \
        assert_string_equal(shr_err_name(code_), shr_err_name(expected));                          \
    } while (0)

struct fixture {
    char dir[64];
    struct srv *srv;
};

void fixture_open(struct fixture *f);
void fixture_reopen(struct fixture *f); /* as after a crash: recovery runs */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Stores a model row over some bytes; they need not be a model. */
void fixture_model(struct fixture *f, const char *name, const char *bytes);

/* A queued job on that model; id is the caller's (STORE_ID_SIZE). */
void fixture_job(struct fixture *f, const char *model, const char *name, char *ret_id);

/* Asserts the state of a job. */
void assert_state(struct fixture *f, const char *id, const char *state);

#define srv_test(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
