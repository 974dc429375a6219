/* api/http over a real socket, with the service in memory: bodies, early answers, ranges, long
 * polls, streams, the reaper, the stop. A thread ticks, as the loop does in the daemon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "api/clock.h"
#include "api/http.h"
#include "fake_service.h"

struct fixture {
    struct srv *srv;
    struct api *api;
    pthread_t ticker;
    atomic_bool is_over;
};

static void nap(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static void *tick(void *user)
{
    struct fixture *fixture = user;
    while (!atomic_load(&fixture->is_over)) {
        api_tick(fixture->api);
        nap(50);
    }
    return NULL;
}

static void start(struct fixture *fixture)
{
    struct shr_err err = {0};
    if (api_start(fixture->srv, -1, &fixture->api, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    atomic_store(&fixture->is_over, false);
    assert_int_equal(pthread_create(&fixture->ticker, NULL, tick, fixture), 0);
}

static void stop(struct fixture *fixture)
{
    atomic_store(&fixture->is_over, true);
    pthread_join(fixture->ticker, NULL);
    api_stop(fixture->api, 5);
    fixture->api = NULL;
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->srv = fake_new();
    start(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->api != NULL) {
        stop(fixture);
    }
    assert_int_equal(fake_uploads_open(fixture->srv), 0);
    fake_free(fixture->srv);
    free(fixture);
    return 0;
}

/* ── A client ───────────────────────────────────────────────────────────────────────────────── */

struct answer {
    int status; /* 0 = the connection was closed without one */
    char text[65536];
    size_t n;
    char *body;
};

static int dial(struct fixture *fixture)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)api_port(fixture->api)),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const void *)&address, sizeof address), 0);
    return fd;
}

static void put_n(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
        if (sent <= 0) {
            return; /* closed early; the answer tells */
        }
        text += sent;
        n -= (size_t)sent;
    }
}

static void put(int fd, const char *text)
{
    put_n(fd, text, strlen(text));
}

/* More bytes within ms; false at the end of the connection or of the time. */
static bool more(int fd, struct answer *answer, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, ms) <= 0) {
        return false;
    }
    ssize_t got = recv(fd, answer->text + answer->n, sizeof answer->text - 1 - answer->n, 0);
    if (got <= 0) {
        return false;
    }
    answer->n += (size_t)got;
    answer->text[answer->n] = 0;
    return true;
}

static bool is_complete(struct answer *answer)
{
    char *end = strstr(answer->text, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    answer->body = end + 4;
    answer->status = atoi(answer->text + 9);
    char *length = strstr(answer->text, "Content-Length: ");
    size_t n = length == NULL || length > end ? 0 : strtoul(length + 16, NULL, 10);
    bool is_stream = strstr(answer->text, "Transfer-Encoding: chunked") != NULL;
    return !is_stream && (answer->status == 304 || answer->text + answer->n >= answer->body + n);
}

/* Reads one answer with a length. */
static struct answer *get(int fd)
{
    static struct answer answer;
    memset(&answer, 0, sizeof answer);
    answer.body = answer.text;
    while (!is_complete(&answer) && more(fd, &answer, 5000)) {
    }
    return &answer;
}

static struct answer *ask(struct fixture *fixture, const char *text)
{
    int fd = dial(fixture);
    put(fd, text);
    struct answer *answer = get(fd);
    close(fd);
    return answer;
}

static bool is_closed(int fd, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    char byte;
    return poll(&wait, 1, ms) > 0 && recv(fd, &byte, 1, 0) <= 0;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"
#define BODY(method, path, headers, body)                                                          \
    method " " path " HTTP/1.1\r\nHost: localhost\r\n" headers "\r\n" body

static void assert_problem(const struct answer *answer, int status, const char *code)
{
    json_t *json = json_loads(answer->body, JSON_DISABLE_EOF_CHECK, NULL);
    if (json == NULL) {
        fail_msg("no problem in: %s", answer->text);
    }
    assert_int_equal(answer->status, status);
    assert_int_equal(json_integer_value(json_object_get(json, "status")), status);
    assert_string_equal(json_string_value(json_object_get(json, "code")), code);
    assert_non_null(json_string_value(json_object_get(json, "detail")));
    const char *id = json_string_value(json_object_get(json, "request_id"));
    assert_non_null(id);
    assert_non_null(strstr(answer->text, id)); /* X-Request-Id is the same */
    assert_non_null(strstr(answer->text, "Content-Type: application/problem+json"));
    json_decref(json);
}

static char *job_new(struct fixture *fixture)
{
    struct answer *answer = ask(fixture, BODY("POST", "/v1/jobs", "Content-Length: 2\r\n", "{}"));
    assert_int_equal(answer->status, 202);
    json_t *json = json_loads(answer->body, JSON_DISABLE_EOF_CHECK, NULL);
    char *id = strdup(json_string_value(json_object_get(json, "id")));
    json_decref(json);
    return id;
}

/* ── Plain requests ─────────────────────────────────────────────────────────────────────────── */

static void json_answers_are_compact_and_not_stored(void **state)
{
    struct answer *answer = ask(*state, GET("/livez"));
    assert_int_equal(answer->status, 200);
    assert_string_equal(answer->body, "{\"status\":\"live\"}\n");
    assert_non_null(strstr(answer->text, "Cache-Control: no-store"));
    assert_non_null(strstr(answer->text, "Content-Type: application/json"));
    assert_non_null(strstr(answer->text, "X-Request-Id: req_"));
    assert_non_null(strstr(answer->text, "X-Content-Type-Options: nosniff"));
}

static void every_get_route_answers_and_head_has_the_same_head(void **state)
{
    static const char *const paths[] = {"/",
                                        "/ui/index.html",
                                        "/livez",
                                        "/readyz",
                                        "/metrics",
                                        "/openapi.json",
                                        "/v1",
                                        "/v1/storage",
                                        "/v1/passes",
                                        "/v1/models",
                                        "/v1/datasets",
                                        "/v1/jobs?limit=3&state=x",
                                        "/v1/compare?ids=a"};
    for (size_t i = 0; i < SHR_COUNT_OF(paths); i++) {
        char text[256];
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", paths[i]);
        struct answer *answer = ask(*state, text);
        assert_int_equal(answer->status, 200);
        size_t length = strlen(answer->body);
        assert_true(length > 0);
        if (strcmp(paths[i], "/metrics") == 0) {
            continue; /* grows with each request */
        }
        snprintf(text, sizeof text,
                 "HEAD %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", paths[i]);
        int fd = dial(*state);
        put(fd, text);
        static struct answer head;
        memset(&head, 0, sizeof head);
        while (more(fd, &head, 5000)) {
        }
        close(fd);
        snprintf(text, sizeof text, "Content-Length: %zu\r\n", length);
        assert_non_null(strstr(head.text, text));
        assert_string_equal(head.text + head.n - 4, "\r\n\r\n");
    }
}

static void openapi_describes_each_route_and_each_pass(void **state)
{
    struct answer *answer = ask(*state, GET("/openapi.json"));
    json_t *json = json_loads(answer->body, 0, NULL);
    assert_non_null(json);
    for (size_t i = 0; i < api_route_count; i++) {
        char method[8] = "";
        for (size_t k = 0; api_routes[i].method[k] != 0; k++) {
            method[k] = (char)(api_routes[i].method[k] | 0x20);
        }
        json_t *path = json_object_get(json_object_get(json, "paths"), api_routes[i].path);
        const json_t *operation = json_object_get(path, method);
        assert_non_null(json_object_get(operation, "responses"));
    }
    json_t *schemas = json_object_get(json_object_get(json, "components"), "schemas");
    const json_t *pass =
        json_array_get(json_object_get(json_object_get(schemas, "Step"), "oneOf"), 0);
    json_t *params = json_object_get(pass, "properties");
    const json_t *amount = json_object_get(params, "amount"), *how = json_object_get(params, "how");
    assert_true(json_number_value(json_object_get(amount, "maximum")) == 1);
    assert_int_equal(json_array_size(json_object_get(how, "enum")), 2);
    json_decref(json);
}

static void errors_are_problems_with_the_right_status(void **state)
{
    assert_problem(ask(*state, GET("/nowhere")), 404, "not_found");
    assert_problem(ask(*state, GET("/v1/models/absent")), 404, "not_found");
    assert_problem(ask(*state, GET("/v1/jobs?colour=red")), 400, "invalid");
    assert_problem(ask(*state, GET("/v1/jobs?limit=0")), 400, "invalid");
    assert_problem(ask(*state, GET("/v1/jobs?limit=101")), 400, "invalid");
    assert_problem(ask(*state, GET("/v1/jobs?limit=1&limit=2")), 400, "invalid");
    assert_problem(ask(*state, GET("/v1/models/a/versions/x")), 400, "invalid");
    assert_problem(ask(*state, GET("/v1/blobs/md5:00")), 400, "invalid");
    assert_problem(ask(*state, GET("/ui/../../etc/passwd")), 404, "not_found");
    assert_problem(ask(*state, GET("/v1/compare?ids=a&format=xml")), 400, "invalid");
    assert_problem(ask(*state, BODY("GET", "/v1/compare?ids=a", "Accept: text/html\r\n", "")), 406,
                   "not_acceptable");
    struct answer *answer = ask(*state, BODY("DELETE", "/v1/jobs", "", ""));
    assert_problem(answer, 405, "method_not_allowed");
    assert_non_null(strstr(answer->text, "Allow: POST, GET, HEAD\r\n"));
}

static void a_name_that_is_not_utf8_still_gives_json(void **state)
{
    struct answer *answer = ask(*state, GET("/ui/%ff%fe%c3"));
    assert_problem(answer, 404, "not_found");
    assert_non_null(strstr(answer->body, "no file '?"
                                         "?"
                                         "?'" /* apart: no trigraph */));
}

static void the_host_and_origin_of_other_sites_are_refused(void **state)
{
    assert_problem(ask(*state, "GET /v1 HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 421,
                   "misdirected");
    assert_problem(ask(*state, BODY("POST", "/v1/jobs",
                                    "Origin: http://evil.example\r\nContent-Length: 2\r\n", "{}")),
                   403, "denied");
    assert_int_equal(ask(*state, BODY("POST", "/v1/jobs",
                                      "Origin: http://localhost\r\nContent-Length: 2\r\n", "{}"))
                         ->status,
                     202);
}

static void requests_on_one_connection_follow_each_other(void **state)
{
    int fd = dial(*state);
    for (int i = 0; i < 3; i++) {
        put(fd, GET("/livez"));
        assert_int_equal(get(fd)->status, 200);
    }
    put(fd, GET("/nowhere")); /* an error does not end it */
    assert_int_equal(get(fd)->status, 404);
    put(fd, GET("/livez"));
    assert_int_equal(get(fd)->status, 200);
    close(fd);
}

/* ── Bodies ─────────────────────────────────────────────────────────────────────────────────── */

static void models_go_in_and_come_out_by_range(void **state)
{
    struct answer *answer =
        ask(*state, BODY("PUT", "/v1/models/abc", "Content-Length: 10\r\n", "0123456789"));
    assert_int_equal(answer->status, 201);
    assert_non_null(strstr(answer->body, "\"parts\":\"model\""));
    answer = ask(*state, BODY("PUT", "/v1/models/abc", "Transfer-Encoding: chunked\r\n",
                              "4\r\nabcd\r\n6\r\nefghij\r\n0\r\n\r\n"));
    assert_int_equal(answer->status, 200);

    answer = ask(*state, GET("/v1/models/abc/content"));
    assert_int_equal(answer->status, 200);
    assert_string_equal(answer->body, "abcdefghij");
    assert_non_null(strstr(answer->text, "ETag: \"sha256:"));
    assert_non_null(strstr(answer->text, "filename=\"abc.onnx\""));
    char etag[128];
    snprintf(etag, sizeof etag, "%.73s", strstr(answer->text, "\"sha256:"));

    answer = ask(*state, BODY("GET", "/v1/models/abc/content", "Range: bytes=2-4\r\n", ""));
    assert_int_equal(answer->status, 206);
    assert_string_equal(answer->body, "cde");
    assert_non_null(strstr(answer->text, "Content-Range: bytes 2-4/10\r\n"));
    answer = ask(*state, BODY("GET", "/v1/models/abc/content", "Range: bytes=10-\r\n", ""));
    assert_problem(answer, 416, "range_not_satisfiable");
    assert_non_null(strstr(answer->text, "Content-Range: bytes */10\r\n"));
    answer = ask(*state, BODY("GET", "/v1/models/abc/content",
                              "Range: bytes=2-4\r\nIf-Range: \"sha256:other\"\r\n", ""));
    assert_int_equal(answer->status, 200);

    char text[512];
    snprintf(text, sizeof text,
             "GET /v1/models/abc/content HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: %s\r\n\r\n",
             etag);
    answer = ask(*state, text);
    assert_int_equal(answer->status, 304);
    assert_string_equal(answer->body, "");
}

static void datasets_are_told_by_their_bytes_or_fields(void **state)
{
    struct answer *answer =
        ask(*state, BODY("PUT", "/v1/datasets/d?scale=0.5", "Transfer-Encoding: chunked\r\n",
                         "1\r\nP\r\n7\r\nK\3\4data\r\n0\r\n\r\n"));
    assert_int_equal(answer->status, 201);
    assert_non_null(strstr(answer->body, "\"parts\":\"npz\""));
    assert_non_null(strstr(answer->body, "\"bytes\":8"));
    assert_problem(ask(*state, BODY("PUT", "/v1/datasets/e", "Content-Length: 8\r\n", "garbage!")),
                   400, "malformed");
    assert_problem(ask(*state, BODY("PUT", "/v1/datasets/e", "Content-Length: 3\r\n", "PK\3")), 400,
                   "malformed");
    assert_problem(
        ask(*state, BODY("PUT", "/v1/datasets/e?scale=bad", "Content-Length: 3\r\n", "PK\3")), 400,
        "invalid");

    static const char form[] = "--xx\r\nContent-Disposition: form-data; name=\"images\"; "
                               "filename=\"i\"\r\n\r\nIMAGES\r\n--xx\r\nContent-Disposition: "
                               "form-data; name=\"labels\"\r\n\r\nLAB\r\n--xx--\r\n";
    char text[1024];
    snprintf(
        text, sizeof text,
        "PUT /v1/datasets/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\nContent-Type: "
        "multipart/form-data; boundary=xx\r\n\r\n%s",
        strlen(form), form);
    answer = ask(*state, text);
    assert_int_equal(answer->status, 201);
    assert_non_null(strstr(answer->body, "\"parts\":\"images,labels\""));
    assert_non_null(strstr(answer->body, "\"bytes\":9"));

    size_t cut = strlen(form) - 30; /* in the middle of the last field */
    snprintf(
        text, sizeof text,
        "PUT /v1/datasets/g HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\nContent-Type: "
        "multipart/form-data; boundary=xx\r\n\r\n%.*s",
        cut, (int)cut, form);
    assert_problem(ask(*state, text), 400, "malformed");
    assert_int_equal(ask(*state, GET("/v1/datasets/g"))->status, 404);
}

static void early_errors_come_before_a_large_body(void **state)
{
    int fd = dial(*state);
    put(fd, "PUT /v1/models/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n");
    assert_problem(get(fd), 413, "over_limit");
    assert_true(is_closed(fd, 2000)); /* what follows is not a request */
    close(fd);
    fd = dial(*state);
    put(fd, "PUT /v1/models/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nExpect: 100-continue\r\n\r\n");
    assert_problem(get(fd), 415, "unsupported_media_type");
    assert_true(is_closed(fd, 2000));
    close(fd);
}

static void small_bodies_of_refused_requests_are_read_and_the_connection_lives(void **state)
{
    int fd = dial(*state);
    put(fd, BODY("PUT", "/v1/models/BAD%20NAME", "Content-Length: 31\r\n",
                 "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_problem(get(fd), 400, "invalid");
    put(fd, GET("/livez"));
    assert_int_equal(get(fd)->status, 200);
    close(fd);
}

static void bodies_over_the_limit_are_refused_without_a_length_too(void **state)
{
    char chunk[8192 + 16];
    int n = snprintf(chunk, sizeof chunk, "2000\r\n%08192d\r\n", 0);
    int fd = dial(*state);
    put(fd, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    put_n(fd, chunk, (size_t)n);
    put(fd, "0\r\n\r\n");
    assert_problem(get(fd), 413, "over_limit");
    close(fd);
}

static void bodies_where_none_belongs_are_refused(void **state)
{
    int fd = dial(*state);
    put(fd, BODY("GET", "/livez", "Content-Length: 5\r\n", "hello"));
    assert_problem(get(fd), 400, "bad_request");
    close(fd);
    assert_problem(ask(*state, BODY("POST", "/v1/jobs",
                                    "Content-Type: text/xml\r\nContent-Length: 2\r\n", "{}")),
                   415, "unsupported_media_type");
    assert_problem(ask(*state, BODY("POST", "/v1/jobs",
                                    "Content-Encoding: gzip\r\nContent-Length: 2\r\n", "{}")),
                   415, "unsupported_media_type");
}

static void a_cut_upload_leaves_nothing(void **state)
{
    struct fixture *fixture = *state;
    int fd = dial(fixture);
    put(fd, BODY("PUT", "/v1/models/cut", "Content-Length: 1000\r\n", "half"));
    for (int i = 0; i < 100 && fake_uploads_open(fixture->srv) == 0; i++) {
        nap(10);
    }
    assert_int_equal(fake_uploads_open(fixture->srv), 1);
    close(fd);
    for (int i = 0; i < 200 && fake_uploads_open(fixture->srv) > 0; i++) {
        nap(10);
    }
    assert_int_equal(fake_uploads_open(fixture->srv), 0);
    assert_int_equal(ask(fixture, GET("/v1/models/cut"))->status, 404);
}

static void smuggled_requests_are_refused_and_the_connection_closed(void **state)
{
    static const char *const texts[] = {
        BODY("POST", "/v1/jobs", "Content-Length: 2\r\nContent-Length: 38\r\n",
             "{}GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        BODY("POST", "/v1/jobs", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
             "2\r\n{}\r\n0\r\n\r\n" GET("/livez")),
        BODY("POST", "/v1/jobs", "Content-Length : 2\r\n", "{}" GET("/livez")),
        BODY("POST", "/v1/jobs", "Host: other\r\n", ""),
        "BREW /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    for (size_t i = 0; i < SHR_COUNT_OF(texts); i++) {
        int fd = dial(*state);
        put(fd, texts[i]);
        struct answer *answer = get(fd);
        assert_problem(answer, 400, "bad_request");
        while (more(fd, answer, 2000)) {
        }
        assert_null(strstr(answer->body, "HTTP/1.1 ")); /* no second answer */
        close(fd);
    }
}

/* ── Jobs, waiting, events ──────────────────────────────────────────────────────────────────── */

static void submitting_twice_with_a_key_is_one_job(void **state)
{
    static const char text[] =
        BODY("POST", "/v1/jobs", "Idempotency-Key: k1\r\nContent-Length: 2\r\n", "{}");
    struct fixture *fixture = *state;
    struct answer *answer = ask(fixture, text);
    assert_int_equal(answer->status, 202);
    assert_non_null(strstr(answer->text, "Location: /v1/jobs/job_1\r\n"));
    answer = ask(fixture, text);
    assert_int_equal(answer->status, 200);
    assert_non_null(strstr(answer->text, "Location: /v1/jobs/job_1\r\n"));
    assert_non_null(strstr(answer->text, "Idempotency-Replayed: true\r\n"));

    fake_submit_fails(fixture->srv, SHR_ERR_CONFLICT);
    assert_problem(ask(fixture, text), 422, "idempotency_key_reused");
    fake_submit_fails(fixture->srv, SHR_ERR_BUSY);
    answer = ask(fixture, text);
    assert_problem(answer, 429, "busy");
    assert_non_null(strstr(answer->text, "Retry-After: "));
    fake_submit_fails(fixture->srv, 0);
    assert_problem(ask(fixture, BODY("POST", "/v1/jobs", "Content-Length: 0\r\n", "")), 400,
                   "malformed");
    assert_problem(ask(fixture, BODY("POST", "/v1/jobs", "Content-Length: 1\r\n", "{")), 400,
                   "malformed");
    assert_problem(ask(fixture, BODY("POST", "/v1/jobs",
                                     "Idempotency-Key: a b\r\nContent-Length: 2\r\n", "{}")),
                   400, "invalid");
}

static void a_long_poll_answers_when_the_job_ends(void **state)
{
    struct fixture *fixture = *state;
    char *id = job_new(fixture), text[256];
    snprintf(text, sizeof text, "GET /v1/jobs/%s?wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n", id);
    int fd = dial(fixture);
    put(fd, text);
    assert_false(is_closed(fd, 200));
    fake_event_add(fixture->srv, id, "progress"); /* does not end it */
    assert_false(is_closed(fd, 200));
    uint64_t before = api_now_ms();
    fake_job_end(fixture->srv, id);
    struct answer *answer = get(fd);
    assert_int_equal(answer->status, 200);
    assert_non_null(strstr(answer->body, "succeeded"));
    assert_true(api_now_ms() - before < 2000);
    put(fd, text); /* over already: at once */
    assert_int_equal(get(fd)->status, 200);
    close(fd);
    free(id);
}

static void a_long_poll_ends_by_time_and_there_are_only_so_many(void **state)
{
    struct fixture *fixture = *state;
    char *id = job_new(fixture), text[256];
    snprintf(text, sizeof text, "GET /v1/jobs/%s?wait=300ms HTTP/1.1\r\nHost: localhost\r\n\r\n",
             id);
    struct answer *answer = ask(fixture, text);
    assert_int_equal(answer->status, 200);
    assert_non_null(strstr(answer->body, "queued"));

    snprintf(text, sizeof text, "GET /v1/jobs/%s?wait=20 HTTP/1.1\r\nHost: localhost\r\n\r\n", id);
    struct pollfd fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = (struct pollfd){.fd = dial(fixture), .events = POLLIN};
        put(fds[i].fd, text);
    }
    assert_int_equal(poll(fds, 3, 5000), 1); /* whichever came last */
    for (int i = 0; i < 3; i++) {
        if (fds[i].revents != 0) {
            answer = get(fds[i].fd);
            assert_problem(answer, 503, "unavailable");
            assert_non_null(strstr(answer->text, "Retry-After: "));
        }
    }
    fake_job_end(fixture->srv, id);
    for (int i = 0; i < 3; i++) {
        if (fds[i].revents == 0) {
            assert_int_equal(get(fds[i].fd)->status, 200);
        }
        close(fds[i].fd);
    }
    assert_problem(ask(fixture, GET("/v1/jobs/x?wait=soon")), 400, "invalid");
    free(id);
}

/* Reads a stream until `wanted` is in it. */
static bool stream_has(int fd, struct answer *answer, const char *wanted)
{
    while (strstr(answer->text, wanted) == NULL) {
        if (!more(fd, answer, 3000)) {
            return false;
        }
    }
    return true;
}

static void streams_replay_follow_and_end_with_the_job(void **state)
{
    static struct answer streams[7];
    struct fixture *fixture = *state;
    char *id = job_new(fixture), text[256];
    fake_event_add(fixture->srv, id, "one");
    fake_event_add(fixture->srv, "job_other", "not-mine");
    snprintf(text, sizeof text, "GET /v1/jobs/%s/events HTTP/1.1\r\nHost: localhost\r\n\r\n", id);
    int fds[7];
    memset(streams, 0, sizeof streams);
    for (int i = 0; i < 7; i++) {
        fds[i] = dial(fixture);
        put(fds[i], text);
    }
    for (int i = 0; i < 7; i++) {
        assert_true(stream_has(fds[i], &streams[i], "id: 1\ndata: one\n\n"));
    }
    assert_int_equal(ask(fixture, GET("/livez"))->status, 200);
    fake_event_add(fixture->srv, id, "two");
    for (int i = 0; i < 7; i++) {
        assert_true(stream_has(fds[i], &streams[i], "id: 3\ndata: two\n\n"));
    }
    fake_job_end(fixture->srv, id);
    for (int i = 0; i < 7; i++) {
        assert_true(stream_has(fds[i], &streams[i], "data: end\n\n"));
        assert_true(stream_has(fds[i], &streams[i], "\r\n0\r\n\r\n")); /* the last chunk */
        assert_null(strstr(streams[i].text, "not-mine"));
        assert_non_null(strstr(streams[i].text, "Content-Type: text/event-stream"));
        assert_non_null(strstr(streams[i].text, "X-Accel-Buffering: no"));
        close(fds[i]);
    }

    snprintf(text, sizeof text,
             "GET /v1/jobs/%s/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 1\r\n\r\n", id);
    int fd = dial(fixture);
    memset(&streams[0], 0, sizeof streams[0]);
    put(fd, text);
    assert_true(stream_has(fd, &streams[0], "data: end\n\n"));
    assert_null(strstr(streams[0].text, "data: one"));
    assert_non_null(strstr(streams[0].text, "data: two"));
    close(fd);
    assert_problem(ask(fixture, GET("/v1/jobs/absent/events")), 404, "not_found");
    free(id);
}

static void the_stream_of_all_jobs_begins_now_and_streams_are_limited(void **state)
{
    static struct answer stream;
    struct fixture *fixture = *state;
    int fds[8];
    fake_event_add(fixture->srv, "job_a", "old");
    memset(&stream, 0, sizeof stream);
    for (int i = 0; i < 8; i++) {
        fds[i] = dial(fixture);
        put(fds[i], GET("/v1/events"));
        memset(&stream, 0, sizeof stream);
        assert_true(stream_has(fds[i], &stream, "retry: 2000"));
    }
    assert_problem(ask(fixture, GET("/v1/events")), 503, "unavailable");
    nap(100);
    fake_event_add(fixture->srv, "job_b", "new");
    assert_true(stream_has(fds[7], &stream, "data: new\n\n"));
    assert_null(strstr(stream.text, "data: old"));
    for (int i = 0; i < 8; i++) {
        close(fds[i]);
    }
}

/* ── Slow clients, tokens, the stop ─────────────────────────────────────────────────────────── */

static void a_client_that_dribbles_its_headers_is_closed(void **state)
{
    int fd = dial(*state);
    put(fd, "GET /livez HTTP/1.1\r\nX-A: ");
    uint64_t before = api_now_ms();
    bool is_shut = false;
    for (int i = 0; i < 40 && !is_shut; i++) {
        put(fd, "a");
        is_shut = is_closed(fd, 100);
    }
    assert_true(is_shut);
    assert_in_range(api_now_ms() - before, 800, 3500); /* header_timeout_s is 1 */
    close(fd);
}

static void tokens_guard_all_but_probes_and_the_page(void **state)
{
    struct fixture *fixture = *state;
    char path[] = "/tmp/shrinkd-tokens-XXXXXX";
    int file = mkstemp(path);
    assert_int_equal(write(file, "0123456789abcdef\n", 17), 17);
    close(file);
    stop(fixture);
    fake_settings(fixture->srv)->token_file = path;
    start(fixture);

    struct answer *answer = ask(fixture, GET("/v1"));
    assert_problem(answer, 401, "unauthorized");
    assert_non_null(strstr(answer->text, "WWW-Authenticate: Bearer"));
    assert_int_equal(ask(fixture, GET("/livez"))->status, 200);
    assert_int_equal(ask(fixture, GET("/"))->status, 200);
    assert_int_equal(
        ask(fixture, BODY("GET", "/v1", "Authorization: Bearer 0123456789abcdef\r\n", ""))->status,
        200);
    int fd = dial(fixture); /* before the body */
    put(fd, "PUT /v1/models/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 33554432\r\n\r\n");
    assert_problem(get(fd), 401, "unauthorized");
    close(fd);
    unlink(path);
}

static void without_tokens_only_loopback_and_unix_sockets_are_served(void **state)
{
    struct fixture *fixture = *state;
    struct api *other = NULL;
    struct shr_err err = {0};
    stop(fixture);
    fake_settings(fixture->srv)->listen = "0.0.0.0:0";
    assert_int_equal(api_start(fixture->srv, -1, &other, &err), SHR_ERR_DENIED);
    assert_non_null(strstr(err.msg, "token_file"));
    static const char *const broken[] = {"127.0.0.1", "127.0.0.1:", "nowhere:80", "unix:relative",
                                         "127.0.0.1:99999"};
    for (size_t i = 0; i < SHR_COUNT_OF(broken); i++) {
        fake_settings(fixture->srv)->listen = broken[i];
        assert_int_equal(api_start(fixture->srv, -1, &other, &err), SHR_ERR_INVALID);
    }

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char where[128];
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/shrinkd-test-%d.sock", getpid());
    snprintf(where, sizeof where, "unix:%s", address.sun_path);
    fake_settings(fixture->srv)->listen = where;
    start(fixture);
    assert_int_equal(api_port(fixture->api), 0);
    assert_int_equal(api_start(fixture->srv, -1, &other, &err), SHR_ERR_CONFLICT); /* taken */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const void *)&address, sizeof address), 0);
    put(fd, "GET /livez HTTP/1.1\r\nHost: anything\r\n\r\n");
    assert_int_equal(get(fd)->status, 200);
    close(fd);
    stop(fixture);
    assert_int_not_equal(access(address.sun_path, F_OK), 0);
}

static void the_stop_answers_those_who_wait(void **state)
{
    static struct answer stream;
    struct fixture *fixture = *state;
    char *id = job_new(fixture), text[256];
    snprintf(text, sizeof text, "GET /v1/jobs/%s?wait=50s HTTP/1.1\r\nHost: localhost\r\n\r\n", id);
    int poller = dial(fixture), streamer = dial(fixture), idle = dial(fixture);
    put(poller, text);
    put(streamer, GET("/v1/events"));
    memset(&stream, 0, sizeof stream);
    assert_true(stream_has(streamer, &stream, "retry"));
    nap(100);
    uint64_t before = api_now_ms();
    stop(fixture);
    assert_true(api_now_ms() - before < 3000);
    struct answer *answer = get(poller);
    assert_int_equal(answer->status, 200);
    assert_non_null(strstr(answer->text, "Connection: close"));
    assert_true(stream_has(streamer, &stream, "0\r\n\r\n"));
    assert_true(is_closed(idle, 1000));
    close(poller);
    close(streamer);
    close(idle);
    free(id);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(json_answers_are_compact_and_not_stored),
        TEST(every_get_route_answers_and_head_has_the_same_head),
        TEST(openapi_describes_each_route_and_each_pass),
        TEST(errors_are_problems_with_the_right_status),
        TEST(a_name_that_is_not_utf8_still_gives_json),
        TEST(the_host_and_origin_of_other_sites_are_refused),
        TEST(requests_on_one_connection_follow_each_other),
        TEST(models_go_in_and_come_out_by_range),
        TEST(datasets_are_told_by_their_bytes_or_fields),
        TEST(early_errors_come_before_a_large_body),
        TEST(small_bodies_of_refused_requests_are_read_and_the_connection_lives),
        TEST(bodies_over_the_limit_are_refused_without_a_length_too),
        TEST(bodies_where_none_belongs_are_refused),
        TEST(a_cut_upload_leaves_nothing),
        TEST(smuggled_requests_are_refused_and_the_connection_closed),
        TEST(submitting_twice_with_a_key_is_one_job),
        TEST(a_long_poll_answers_when_the_job_ends),
        TEST(a_long_poll_ends_by_time_and_there_are_only_so_many),
        TEST(streams_replay_follow_and_end_with_the_job),
        TEST(the_stream_of_all_jobs_begins_now_and_streams_are_limited),
        TEST(a_client_that_dribbles_its_headers_is_closed),
        TEST(tokens_guard_all_but_probes_and_the_page),
        TEST(without_tokens_only_loopback_and_unix_sockets_are_served),
        TEST(the_stop_answers_those_who_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
