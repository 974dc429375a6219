/* Request lines and header values; see query.h. */
#include "query.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int api_percent_decode(struct shr_arena *arena, const char *text, size_t n, bool is_query,
                       const char *what, const char **ret, struct shr_err *err)
{
    char *out = shr_arena_new(arena, n + 1, 1);
    if (out == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "%s: out of memory", what);
    }

    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '%') {
            int high = i + 1 < n ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < n ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return shr_err_set(err, SHR_ERR_INVALID, "%s: a %% without two hex digits", what);
            }
            c = (unsigned char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && is_query) {
            c = ' ';
        }
        if (c < 32 || c == 127) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: control byte 0x%02x", what, c);
        }
        out[used++] = (char)c;
    }
    *ret = out;
    return 0;
}

static int query_add(struct shr_arena *arena, const char *item, size_t n, struct api_query *query,
                     struct shr_err *err)
{
    if (query->n == API_QUERY_MAX) {
        return shr_err_set(err, SHR_ERR_INVALID, "query: more than %d parameters", API_QUERY_MAX);
    }
    const char *equals = memchr(item, '=', n);
    size_t name_n = equals == NULL ? n : (size_t)(equals - item);
    const char *name, *value = "";
    int rc = api_percent_decode(arena, item, name_n, true, "query", &name, err);
    if (rc == 0 && equals != NULL) {
        rc = api_percent_decode(arena, equals + 1, n - name_n - 1, true, name, &value, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (name[0] == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "query: a parameter without a name");
    }
    if (api_query_find(query, name) != NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: given twice", name);
    }
    query->v[query->n].name = name;
    query->v[query->n++].value = value;
    return 0;
}

int api_query_parse(struct shr_arena *arena, const char *text, struct api_query *ret,
                    struct shr_err *err)
{
    struct api_query query = {0};
    while (*text != 0) {
        size_t n = strcspn(text, "&");
        if (n > 0) {
            int rc = query_add(arena, text, n, &query, err);
            if (rc != 0) {
                return rc;
            }
        }
        text += n + (text[n] == '&');
    }
    *ret = query;
    return 0;
}

const char *api_query_find(const struct api_query *query, const char *name)
{
    for (size_t i = 0; i < query->n; i++) {
        if (strcmp(query->v[i].name, name) == 0) {
            return query->v[i].value;
        }
    }
    return NULL;
}

/* Digits into *ret; how many there were, 0 when none or too large. */
static size_t digits_parse(const char *text, uint64_t *ret)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; text[i] >= '0' && text[i] <= '9'; i++) {
        unsigned digit = (unsigned)(text[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return 0;
        }
        value = value * 10 + digit;
    }
    *ret = value;
    return i;
}

int api_int_parse(const char *text, const char *what, int64_t min, int64_t max, int64_t *ret,
                  struct shr_err *err)
{
    bool is_negative = text[0] == '-';
    uint64_t value = 0;
    size_t n = digits_parse(text + is_negative, &value);
    if (n == 0 || text[is_negative + n] != 0 || value > INT64_MAX) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: '%.64s' is not a whole number", what, text);
    }
    int64_t number = is_negative ? -(int64_t)value : (int64_t)value;
    if (number < min || number > max) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: %lld is not in [%lld, %lld]", what,
                           (long long)number, (long long)min, (long long)max);
    }
    *ret = number;
    return 0;
}

int api_duration_parse(const char *text, const char *what, uint64_t *ret_ms, struct shr_err *err)
{
    uint64_t value = 0;
    size_t n = digits_parse(text, &value);
    const char *unit = text + n;
    uint64_t factor = *unit == 0 || strcmp(unit, "s") == 0 ? 1000
                      : strcmp(unit, "ms") == 0            ? 1
                      : strcmp(unit, "m") == 0             ? 60000
                                                           : 0;
    if (n == 0 || factor == 0 || value > UINT32_MAX) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: '%.64s' is not a time such as 30s or 500ms",
                           what, text);
    }
    *ret_ms = value * factor;
    return 0;
}

enum api_range api_range_parse(const char *text, uint64_t size, uint64_t *ret_first,
                               uint64_t *ret_n)
{
    if (text == NULL || strncasecmp(text, "bytes=", 6) != 0) {
        return API_RANGE_NONE;
    }
    text += 6;
    uint64_t first = 0, last = UINT64_MAX;
    size_t n = digits_parse(text, &first);
    if (text[n] != '-') {
        return API_RANGE_NONE;
    }
    const char *end = text + n + 1;
    size_t last_n = digits_parse(end, &last);
    if (end[last_n] != 0 || (n == 0 && last_n == 0) || (n > 0 && last_n > 0 && last < first)) {
        return API_RANGE_NONE;
    }

    if (n == 0) { /* the last bytes */
        if (last == 0 || size == 0) {
            return API_RANGE_UNSATISFIABLE;
        }
        first = last < size ? size - last : 0;
        last = size - 1;
    } else if (last_n == 0) {
        last = UINT64_MAX;
    }
    if (first >= size) {
        return API_RANGE_UNSATISFIABLE;
    }
    *ret_first = first;
    *ret_n = (last < size - 1 ? last : size - 1) - first + 1;
    return API_RANGE_ONE;
}

/* The next item of a comma-separated list without the blanks around it; NULL at the end. Commas
 * in quotes do not separate. */
static const char *list_next(const char **cursor, size_t *ret_n)
{
    const char *start = *cursor + strspn(*cursor, ", \t");
    if (*start == 0) {
        return NULL;
    }
    const char *end = start;
    for (bool is_quoted = false; *end != 0 && (is_quoted || *end != ','); end++) {
        is_quoted ^= *end == '"';
    }
    *cursor = end;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    *ret_n = (size_t)(end - start);
    return start;
}

bool api_etag_listed(const char *list, const char *etag)
{
    const char *item;
    size_t n, etag_n = strlen(etag);
    while ((item = list_next(&list, &n)) != NULL) {
        if (n == 1 && *item == '*') {
            return true;
        }
        if (n > 2 && strncmp(item, "W/", 2) == 0) {
            item += 2;
            n -= 2;
        }
        if (n == etag_n && memcmp(item, etag, n) == 0) {
            return true;
        }
    }
    return false;
}

/* How much an Accept item of n bytes wants `type`, in thousandths; -1 when it is about others. */
static int accept_weight(const char *item, size_t n, const char *type)
{
    size_t range_n = 0;
    while (range_n < n && strchr("; \t", item[range_n]) == NULL) {
        range_n++;
    }
    size_t major_n = strcspn(type, "/") + 1;
    bool is_exact = range_n == strlen(type) && strncasecmp(item, type, range_n) == 0;
    bool is_major =
        range_n == major_n + 1 && strncasecmp(item, type, major_n) == 0 && item[major_n] == '*';
    bool is_any = range_n == 3 && memcmp(item, "*/*", 3) == 0;
    if (!is_exact && !is_major && !is_any) {
        return -1;
    }

    int weight = 1000;
    for (size_t i = range_n; i + 2 < n; i++) {
        if ((item[i] == ';' || item[i] == ' ') && (item[i + 1] == 'q' || item[i + 1] == 'Q') &&
            item[i + 2] == '=') {
            weight = 0;
            int unit = 1000;
            for (size_t k = i + 3; k < n && unit > 0; k++) {
                if (item[k] >= '0' && item[k] <= '9') {
                    weight += (item[k] - '0') * unit;
                    unit /= 10;
                }
            }
        }
    }
    return weight > 1000 ? 1000 : weight;
}

int api_accept_pick(const char *accept, const char *const *types, size_t n)
{
    if (accept == NULL || accept[strspn(accept, ", \t")] == 0) {
        return 0;
    }
    int best = -1, best_weight = 0;
    for (size_t i = 0; i < n; i++) {
        int weight = 0;
        size_t item_n, specific_n = 0;
        const char *item, *cursor = accept;
        while ((item = list_next(&cursor, &item_n)) != NULL) {
            /* an exact type beats its wildcard; ranges have no other order */
            size_t specific = item[0] == '*' ? 1 : memchr(item, '*', item_n) != NULL ? 2 : 3;
            int w = accept_weight(item, item_n, types[i]);
            if (w >= 0 && specific > specific_n) {
                weight = w;
                specific_n = specific;
            }
        }
        if (weight > best_weight) {
            best = (int)i;
            best_weight = weight;
        }
    }
    return best;
}
