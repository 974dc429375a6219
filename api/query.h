/* What a client writes in a request line and in header values, parsed without trust.
 *
 * Percent-decoding, query parameters, byte ranges, entity tags and Accept: pure functions on
 * strings, and the fuzzer's target. Decoded text never holds control bytes. Thread: any. */
#ifndef API_QUERY_H
#define API_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum { API_QUERY_MAX = 16 };

struct api_query { /* names are unique */
    size_t n;
    struct {
        const char *name, *value;
    } v[API_QUERY_MAX];
};

/* Decodes n bytes of %XX (and + as a blank, in a query). INVALID: a broken escape, or one that
 * hides a control byte. `what` names the culprit. */
int api_percent_decode(struct shr_arena *arena, const char *text, size_t n, bool is_query,
                       const char *what, const char **ret, struct shr_err *err) SHR_MUSTCHECK;

/* "a=1&b=x%20y". INVALID: a parameter twice, without a name, or too many. */
int api_query_parse(struct shr_arena *arena, const char *text, struct api_query *ret,
                    struct shr_err *err) SHR_MUSTCHECK;
const char *api_query_find(const struct api_query *query, const char *name); /* NULL when absent */

/* Whole decimal numbers; INVALID names `what` and the bounds. */
int api_int_parse(const char *text, const char *what, int64_t min, int64_t max, int64_t *ret,
                  struct shr_err *err) SHR_MUSTCHECK;
/* "30", "30s", "500ms", "1m" in milliseconds. */
int api_duration_parse(const char *text, const char *what, uint64_t *ret_ms,
                       struct shr_err *err) SHR_MUSTCHECK;

enum api_range { API_RANGE_NONE, API_RANGE_ONE, API_RANGE_UNSATISFIABLE };

/* A Range header on `size` bytes. Other units, broken syntax and several ranges are NONE: the
 * whole is sent, as RFC 9110 (14.2) allows. */
enum api_range api_range_parse(const char *text, uint64_t size, uint64_t *ret_first,
                               uint64_t *ret_n);

/* Does a list of entity tags (If-None-Match) hold etag, compared weakly, or "*"? */
bool api_etag_listed(const char *list, const char *etag);

/* The index of the media type that an Accept header likes best (the first of equals), -1 when it
 * takes none of them; NULL or empty accepts all. */
int api_accept_pick(const char *accept, const char *const *types, size_t n);

#endif
