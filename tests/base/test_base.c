/* base: errors, memory, arena, buffer, vector. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/vec.h"

static void err_prefix_puts_context_in_front(void **state)
{
    (void)state;
    struct shr_err err = {0};
    assert_int_equal(shr_err_set(&err, SHR_ERR_INVALID, "amount: %g is not in [0, 1]", 1.7),
                     SHR_ERR_INVALID);
    assert_int_equal(shr_err_prefix(&err, "pipeline[%d].", 1), SHR_ERR_INVALID);
    assert_string_equal(err.msg, "pipeline[1].amount: 1.7 is not in [0, 1]");
}

static void err_cuts_messages_that_are_too_long(void **state)
{
    (void)state;
    char text[1000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    struct shr_err err = {0};
    shr_err_set(&err, SHR_ERR_PARSE, "%s", text);
    assert_int_equal(strlen(err.msg), SHR_ERR_MESSAGE_SIZE - 1);
    shr_err_prefix(&err, "%s", text);
    assert_int_equal(strlen(err.msg), SHR_ERR_MESSAGE_SIZE - 1);
}

static void err_messages_are_utf8_whatever_they_quote(void **state)
{
    (void)state;
    struct shr_err err = {0};
    shr_err_set(&err, SHR_ERR_PARSE, "node %.2s\xff\xed\xa0\x80: %s", "\xe2\x82\xac", "µ€🙂");
    assert_string_equal(err.msg, "node ??????: µ€🙂");
    char text[SHR_ERR_MESSAGE_SIZE + 8] = "";
    for (size_t i = 0; i + 2 < sizeof text; i += 2) {
        memcpy(text + i, "µ", 3);
    }
    shr_err_set(&err, SHR_ERR_PARSE, "%s", text); /* cut inside a character */
    assert_string_equal(err.msg + SHR_ERR_MESSAGE_SIZE - 4, "µ?");
    shr_err_prefix(&err, "€%s", text);
    assert_string_equal(err.msg + SHR_ERR_MESSAGE_SIZE - 3, "µ");
}

static void err_names_and_texts_exist_for_every_code(void **state)
{
    (void)state;
    for (int code = 0; code >= SHR_ERR_INTERNAL; code--) {
        assert_string_not_equal(shr_err_name(code), "unknown");
        assert_string_not_equal(shr_err_text(code), "unknown error");
    }
    assert_string_equal(shr_err_name(-999), "unknown");
}

static void size_arithmetic_tells_of_overflow(void **state)
{
    (void)state;
    size_t r = 0;
    assert_true(shr_size_mul(6, 7, &r));
    assert_int_equal(r, 42);
    assert_false(shr_size_mul(SIZE_MAX / 2, 3, &r));
    assert_false(shr_size_add(SIZE_MAX, 1, &r));
    assert_null(shr_mem_resize(NULL, SIZE_MAX / 2, 3));
}

static void arena_memory_is_zeroed_aligned_and_large_blocks_fit(void **state)
{
    (void)state;
    struct shr_arena arena = {0};
    for (size_t n = 1; n < 100000; n = n * 3 + 1) {
        unsigned char *p = shr_arena_new(&arena, n, 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(p[i], 0);
        }
        memset(p, 0xff, n);
    }
    assert_string_equal(shr_arena_printf(&arena, "%s-%d", "a", 7), "a-7");
    assert_null(shr_arena_new(&arena, SIZE_MAX / 2, 3));
    shr_arena_finish(&arena);
    assert_int_equal(arena.used, 0);
    shr_arena_finish(&arena);
}

static void buffer_grows_and_keeps_a_zero_behind(void **state)
{
    (void)state;
    struct shr_buf buf = {0};
    assert_string_equal(shr_buf_str(&buf), "");
    for (int i = 0; i < 1000; i++) {
        shr_buf_printf(&buf, "%03d,", i);
    }
    assert_int_equal(buf.len, 4000);
    assert_int_equal(strlen(shr_buf_str(&buf)), 4000);
    assert_null(shr_buf_reserve(&buf, SIZE_MAX));
    assert_true(shr_buf_failed(&buf));
    size_t n = 1;
    assert_null(shr_buf_take(&buf, &n));
    assert_int_equal(n, 0);
}

static void vector_adds_zeroed_elements(void **state)
{
    (void)state;
    SHR_VEC(double) list = {0};
    for (int i = 0; i < 1000; i++) {
        double *d = SHR_VEC_ADD(&list);
        assert_non_null(d);
        assert_true(*d == 0.0);
        *d = i;
    }
    assert_int_equal(list.n, 1000);
    assert_true(list.v[999] == 999.0);
    SHR_VEC_FINISH(&list);
    assert_int_equal(list.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_prefix_puts_context_in_front),
        cmocka_unit_test(err_cuts_messages_that_are_too_long),
        cmocka_unit_test(err_messages_are_utf8_whatever_they_quote),
        cmocka_unit_test(err_names_and_texts_exist_for_every_code),
        cmocka_unit_test(size_arithmetic_tells_of_overflow),
        cmocka_unit_test(arena_memory_is_zeroed_aligned_and_large_blocks_fit),
        cmocka_unit_test(buffer_grows_and_keeps_a_zero_behind),
        cmocka_unit_test(vector_adds_zeroed_elements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
