/* api/guard: the table of requests that two parsers could read differently. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/guard.h"
#include "api/problem.h"

struct header {
    const char *name, *value;
    size_t extra; /* bytes behind the value's end that were sent, after a 0 byte */
};

static int check(const struct header *headers, const char *method, const char *version,
                 const char *uri, struct api_guard *guard, struct shr_err *err)
{
    *guard = (struct api_guard){0};
    for (; headers->name != NULL; headers++) {
        api_guard_header(guard, headers->name, strlen(headers->name), headers->value,
                         strlen(headers->value) + headers->extra);
    }
    return api_guard_check(guard, method, version, uri, err);
}

static void sound_requests_pass(void **state)
{
    static const struct header plain[] = {{"Host", "a"}, {"X-A", "b\tc \xc3\xa9"}, {0}};
    static const struct header sized[] = {{"Host", "a"}, {"content-length", "5"}, {0}};
    static const struct header chunked[] = {{"Host", "a"}, {"Transfer-Encoding", "Chunked"}, {0}};
    static const struct header nothing[] = {{0}};
    struct api_guard guard;
    struct shr_err err = {0};
    (void)state;
    assert_int_equal(check(plain, "GET", "HTTP/1.1", "/a?b=c", &guard, &err), 0);
    assert_false(guard.has_body);
    assert_int_equal(check(sized, "PUT", "HTTP/1.1", "/", &guard, &err), 0);
    assert_true(guard.has_body);
    assert_int_equal(guard.length, 5);
    assert_int_equal(check(chunked, "PUT", "HTTP/1.1", "/", &guard, &err), 0);
    assert_true(guard.has_body);
    assert_int_equal(check(nothing, "GET", "HTTP/1.0", "/", &guard, &err), 0);
}

static void ambiguous_headers_are_refused(void **state)
{
    static const struct {
        struct header headers[3];
        const char *reason;
    } cases[] = {
        {{{"Content-Length", "5"}, {"Content-Length", "38"}}, "more than one Content-Length"},
        {{{"Content-Length", "5"}, {"content-length", "5"}}, "more than one Content-Length"},
        {{{"Content-Length", "4"}, {"Transfer-Encoding", "chunked"}},
         "Content-Length together with Transfer-Encoding"},
        {{{"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}},
         "more than one Transfer-Encoding"},
        {{{"Transfer-Encoding", "gzip, chunked"}}, "a Transfer-Encoding other than chunked"},
        {{{"Transfer-Encoding", "xchunked"}}, "a Transfer-Encoding other than chunked"},
        {{{"Transfer-Encoding", ""}}, "a Transfer-Encoding other than chunked"},
        {{{"Content-Length", "+5"}}, "Content-Length is not a number"},
        {{{"Content-Length", "5, 6"}}, "Content-Length is not a number"},
        {{{"Content-Length", ""}}, "Content-Length is not a number"},
        {{{"Content-Length", "99999999999999999999"}}, "Content-Length is not a number"},
        {{{"Content-Length ", "5"}},
         "a header name with a blank or another byte that is not allowed"},
        {{{"", "5"}}, "a header name with a blank or another byte that is not allowed"},
        {{{"X:A", "5"}}, "a header name with a blank or another byte that is not allowed"},
        {{{"X-A", "b\rX-B: c"}}, "a control byte in a header value"},
        {{{"X-A", "b\x7f"}}, "a control byte in a header value"},
        {{{"X-A", "b", 1}}, "a control byte in a header value"},
        {{{"Host", "b"}}, "more than one Host"},
    };
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct header headers[5] = {{"Host", "a"}};
        struct api_guard guard;
        struct shr_err err = {0};
        memcpy(headers + 1, cases[i].headers, sizeof cases[i].headers);
        assert_int_equal(check(headers, "POST", "HTTP/1.1", "/", &guard, &err),
                         API_ERR_BAD_REQUEST);
        assert_string_equal(err.msg + strlen("request refused: "), cases[i].reason);
    }
}

static void bad_request_lines_are_refused(void **state)
{
    static const struct {
        const char *method, *version, *uri, *reason;
    } cases[] = {
        {"TRACE", "HTTP/1.1", "/", "an unknown method"},
        {"get", "HTTP/1.1", "/", "an unknown method"},
        {"", "HTTP/1.1", "/", "an unknown method"},
        {"GET", "HTTP/2.0", "/", "a version other than HTTP/1.1 and HTTP/1.0"},
        {"GET", "HTTP/1.9", "/", "a version other than HTTP/1.1 and HTTP/1.0"},
        {"GET", "", "/", "a version other than HTTP/1.1 and HTTP/1.0"},
        {"GET", "HTTP/1.1", "/a b", "a blank or a byte that is not printable ASCII in the URI"},
        {"GET", "HTTP/1.1", "/\xc3", "a blank or a byte that is not printable ASCII in the URI"},
    };
    static const struct header host[] = {{"Host", "a"}, {0}};
    static const struct header no_host[] = {{"X-A", "a"}, {0}};
    static const struct header chunked[] = {{"Transfer-Encoding", "chunked"}, {0}};
    struct api_guard guard;
    struct shr_err err = {0};
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        assert_int_equal(check(host, cases[i].method, cases[i].version, cases[i].uri, &guard, &err),
                         API_ERR_BAD_REQUEST);
        assert_string_equal(err.msg + strlen("request refused: "), cases[i].reason);
    }
    assert_int_equal(check(no_host, "GET", "HTTP/1.1", "/", &guard, &err), API_ERR_BAD_REQUEST);
    assert_string_equal(err.msg, "request refused: no Host");
    assert_int_equal(check(chunked, "PUT", "HTTP/1.0", "/", &guard, &err), API_ERR_BAD_REQUEST);
    assert_string_equal(err.msg, "request refused: Transfer-Encoding in HTTP/1.0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_requests_pass),
        cmocka_unit_test(ambiguous_headers_are_refused),
        cmocka_unit_test(bad_request_lines_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
