/* Fuzzer of all that is parsed from a request line and from header values: path and query, numbers,
 * times, ranges, entity tags, Accept, Host, and the header guard.
 *
 * The input is split at 0 bytes; each piece goes through every parser, and what they promise is
 * asserted. libFuzzer: clang -fsanitize=fuzzer,address; seeds are ordinary request lines. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/auth.h"
#include "api/guard.h"
#include "api/query.h"
#include "api/router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void demand(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void is_clean(const char *text)
{
    for (; *text != 0; text++) {
        demand((unsigned char)*text >= 32 && *text != 127);
    }
}

static void request_line(const char *text)
{
    struct shr_arena arena = {0};
    struct api_query query = {0};
    struct api_match match = {0};
    struct shr_err err = {0};
    if (api_query_parse(&arena, text, &query, &err) == 0) {
        for (size_t i = 0; i < query.n; i++) {
            is_clean(query.v[i].name);
            is_clean(query.v[i].value);
            demand(api_query_find(&query, query.v[i].name) == query.v[i].value);
        }
    } else {
        demand(err.msg[0] != 0);
    }
    if (api_router_find(api_routes, api_route_count, &arena, "GET", text, &match, &err) == 0) {
        demand(match.route != NULL);
        for (size_t i = 0; i < API_SEGMENT_MAX && match.segments[i] != NULL; i++) {
            is_clean(match.segments[i]);
        }
    }
    shr_arena_finish(&arena);
}

static void header_value(const char *text, size_t size)
{
    static const char *const types[] = {"application/json", "text/csv"};
    struct shr_err err = {0};
    uint64_t first = 0, count = 0, ms = 0;
    int64_t number = 0;
    if (api_range_parse(text, size, &first, &count) == API_RANGE_ONE) {
        demand(count > 0 && first < size && count <= size - first);
    }
    if (api_int_parse(text, "n", -5, 1000, &number, &err) == 0) {
        demand(number >= -5 && number <= 1000);
    }
    if (api_duration_parse(text, "wait", &ms, &err) == 0) {
        demand(ms <= UINT32_MAX * UINT64_C(60000));
    }
    int pick = api_accept_pick(text, types, 2);
    demand(pick >= -1 && pick < 2);
    api_etag_listed(text, "\"sha256:0\"");
    api_host_is_allowed(text, "a.example");
    api_origin_is_same(text, "localhost");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1);
    struct api_guard guard = {0};
    demand(text != NULL);
    if (n > 0) {
        memcpy(text, data, n);
    }
    text[n] = 0;
    for (size_t at = 0; at <= n;) {
        size_t length = strlen(text + at), colon = strcspn(text + at, ":");
        request_line(text + at);
        header_value(text + at, n);
        if (text[at + colon] == ':') {
            text[at + colon] = 0;
            api_guard_header(&guard, text + at, colon, text + at + colon + 1, length - colon - 1);
        }
        at += length + 1;
    }
    struct shr_err err = {0};
    if (api_guard_check(&guard, "PUT", "HTTP/1.1", "/", &err) == 0) {
        demand(guard.lengths <= 1 && guard.hosts == 1 && guard.lengths + guard.encodings <= 1);
    }
    free(text);
    return 0;
}
