/* api: router, the routes table, the problem table, tokens, Host and Origin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/auth.h"
#include "api/problem.h"
#include "api/router.h"

static int find(struct shr_arena *arena, const char *method, const char *path,
                struct api_match *match, struct shr_err *err)
{
    *match = (struct api_match){0};
    return api_router_find(api_routes, api_route_count, arena, method, path, match, err);
}

static void paths_lead_to_their_route_and_decode_segments(void **state)
{
    struct shr_arena arena = {0};
    struct api_match match;
    struct shr_err err = {0};
    (void)state;
    assert_int_equal(find(&arena, "GET", "/v1/jobs/job_1/artifacts/2/content", &match, &err), 0);
    assert_string_equal(match.route->path, "/v1/jobs/{id}/artifacts/{step}/content");
    assert_string_equal(match.segments[0], "job_1");
    assert_string_equal(match.segments[1], "2");
    assert_int_equal(find(&arena, "GET", "/v1/blobs/sha256%3aab", &match, &err), 0);
    assert_string_equal(match.segments[0], "sha256:ab");
    assert_int_equal(find(&arena, "HEAD", "/", &match, &err), 0);
    assert_string_equal(match.route->method, "GET");
    /* an encoded slash stays inside its segment */
    assert_int_equal(find(&arena, "GET", "/ui/..%2f..%2fetc", &match, &err), 0);
    assert_string_equal(match.segments[0], "../../etc");
    shr_arena_finish(&arena);
}

static void unknown_paths_and_methods_are_told_apart(void **state)
{
    static const char *const unknown[] = {"/v1/",
                                          "/v2",
                                          "/v1/models/",
                                          "/v1/models//content",
                                          "//",
                                          "/v1/jobs/a/b",
                                          "/v1/models/a/b/c/d/e/f/g/h/i/j",
                                          ""};
    struct shr_arena arena = {0};
    struct api_match match;
    struct shr_err err = {0};
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(unknown); i++) {
        assert_int_equal(find(&arena, "GET", unknown[i], &match, &err), SHR_ERR_NOT_FOUND);
    }
    assert_int_equal(find(&arena, "POST", "/v1/models/a", &match, &err), API_ERR_METHOD);
    assert_string_equal(match.allow, "PUT, GET, HEAD, DELETE");
    assert_int_equal(find(&arena, "GET", "/v1/%zz", &match, &err), SHR_ERR_INVALID);
    assert_int_equal(find(&arena, "GET", "/v1/models/a%00b", &match, &err), SHR_ERR_INVALID);
    shr_arena_finish(&arena);
}

static void every_route_is_found_by_its_own_path(void **state)
{
    struct shr_arena arena = {0};
    struct shr_err err = {0};
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct api_route *route = &api_routes[i];
        struct api_match match;
        assert_int_equal(find(&arena, route->method, route->path, &match, &err), 0);
        assert_ptr_equal(match.route, route);
        assert_non_null(route->handle);
        assert_non_null(route->summary);
        assert_true((route->body == API_BODY_STREAM) == (route->chunk != NULL));
        assert_true((route->body == API_BODY_NONE) == (route->consumes == NULL));
        assert_true((route->status == 204) == (route->produces == NULL));
    }
    shr_arena_finish(&arena);
}

static void every_error_code_has_its_own_problem(void **state)
{
    static const int codes[] = {
#define X(name, value, word, text) value,
#include "base/err.def"
#undef X
        API_ERR_BAD_REQUEST,    API_ERR_UNAUTHORIZED, API_ERR_METHOD,
        API_ERR_NOT_ACCEPTABLE, API_ERR_MEDIA_TYPE,   API_ERR_RANGE,
        API_ERR_MISDIRECTED,    API_ERR_KEY_REUSED,   API_ERR_UNAVAILABLE,
    };
    (void)state;
    assert_int_equal(SHR_COUNT_OF(codes), api_problem_count);
    for (size_t i = 0; i < SHR_COUNT_OF(codes); i++) {
        const struct api_problem *problem = api_problem_find(codes[i]);
        assert_int_equal(problem->code, codes[i]);
        assert_in_range(problem->status, 400, 599);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(api_problem_name(problem),
                                    api_problem_name(api_problem_find(codes[k])));
        }
    }
    assert_int_equal(api_problem_find(-9999)->status, 500);
}

static char *token_file(const char *text, mode_t mode)
{
    char *path = strdup("/tmp/shrinkd-tokens-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

static int tokens_read(struct api_auth *auth, const char *text, mode_t mode, struct shr_err *err)
{
    char *path = token_file(text, mode);
    int rc = api_auth_init(auth, path, err);
    unlink(path);
    free(path);
    return rc;
}

static void tokens_are_read_and_compared_whole(void **state)
{
    struct api_auth auth;
    struct shr_err err = {0};
    (void)state;
    assert_int_equal(
        tokens_read(&auth, "# ours\n\n0123456789abcdef\n  fedcba9876543210  \n", 0600, &err), 0);
    assert_int_equal(auth.n, 2);
    assert_true(api_auth_accepts(&auth, "Bearer 0123456789abcdef"));
    assert_true(api_auth_accepts(&auth, "bearer fedcba9876543210"));
    assert_false(api_auth_accepts(&auth, NULL));
    assert_false(api_auth_accepts(&auth, "Bearer "));
    assert_false(api_auth_accepts(&auth, "Bearer 0123456789abcde"));
    assert_false(api_auth_accepts(&auth, "Bearer 0123456789abcdef0123456789abcdef"));
    assert_false(api_auth_accepts(&auth, "Bearer 0123456789abcdeg"));
    assert_false(api_auth_accepts(&auth, "Basic 0123456789abcdef"));
    api_auth_finish(&auth);
    assert_int_equal(api_auth_init(&auth, "", &err), 0);
    assert_true(api_auth_accepts(&auth, NULL));
}

static void bad_token_files_are_refused(void **state)
{
    struct api_auth auth;
    struct shr_err err = {0};
    (void)state;
    assert_int_equal(tokens_read(&auth, "short\n", 0600, &err), SHR_ERR_INVALID);
    assert_non_null(strstr(err.msg, ":1: a token has 16 to 512 characters"));
    assert_int_equal(tokens_read(&auth, "0123456789abcdef x\n", 0600, &err), SHR_ERR_INVALID);
    assert_int_equal(tokens_read(&auth, "# none\n", 0600, &err), SHR_ERR_INVALID);
    assert_non_null(strstr(err.msg, "holds no token"));
    assert_int_equal(tokens_read(&auth, "0123456789abcdef\n", 0644, &err), SHR_ERR_DENIED);
    assert_int_equal(api_auth_init(&auth, "/nonexistent/tokens", &err), SHR_ERR_IO);
}

static void hosts_other_than_loopback_need_to_be_named(void **state)
{
    static const char *const allowed[] = {"localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]",
                                          "[::1]:1",   "a.example",    "b.example:9"};
    static const char *const refused[] = {"",
                                          "evil.example",
                                          "localhost.evil.example",
                                          "127.0.0.2",
                                          "[::1",
                                          "localhost:80x",
                                          "localhost:80:80",
                                          "[::1]x",
                                          "localhost@evil.example"};
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(allowed); i++) {
        assert_true(api_host_is_allowed(allowed[i], "a.example, b.example"));
    }
    for (size_t i = 0; i < SHR_COUNT_OF(refused); i++) {
        assert_false(api_host_is_allowed(refused[i], "a.example, b.example"));
    }
    assert_false(api_host_is_allowed(NULL, ""));
}

static void origins_must_be_the_host(void **state)
{
    (void)state;
    assert_true(api_origin_is_same(NULL, "localhost:1"));
    assert_true(api_origin_is_same("http://localhost:1", "localhost:1"));
    assert_false(api_origin_is_same("http://localhost:2", "localhost:1"));
    assert_false(api_origin_is_same("http://evil.example", "localhost:1"));
    assert_false(api_origin_is_same("null", "localhost:1"));
    assert_false(api_origin_is_same("http://localhost:1", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_lead_to_their_route_and_decode_segments),
        cmocka_unit_test(unknown_paths_and_methods_are_told_apart),
        cmocka_unit_test(every_route_is_found_by_its_own_path),
        cmocka_unit_test(every_error_code_has_its_own_problem),
        cmocka_unit_test(tokens_are_read_and_compared_whole),
        cmocka_unit_test(bad_token_files_are_refused),
        cmocka_unit_test(hosts_other_than_loopback_need_to_be_named),
        cmocka_unit_test(origins_must_be_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
