/* The header guard; see guard.h. */
#include "guard.h"

#include <string.h>
#include <strings.h>

#include "problem.h"

/* RFC 9110, 5.6.2 */
static bool is_token(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= 32 || c >= 127 || strchr("()<>@,;:\\\"/[]?={}", c) != NULL) {
            return false;
        }
    }
    return n > 0;
}

static bool length_parse(const char *text, size_t n, uint64_t *ret)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned digit = (unsigned char)text[i] - (unsigned)'0';
        if (digit > 9 || value > ((uint64_t)INT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *ret = value;
    return n > 0;
}

static const char *header_fault(struct api_guard *guard, const char *name, size_t name_n,
                                const char *value, size_t value_n)
{
    if (!is_token(name, name_n)) {
        return "a header name with a blank or another byte that is not allowed";
    }
    for (size_t i = 0; i < value_n; i++) {
        if (((unsigned char)value[i] < 32 && value[i] != '\t') || value[i] == 127) {
            return "a control byte in a header value";
        }
    }
    if (strcasecmp(name, "Content-Length") == 0) {
        guard->lengths++;
        if (!length_parse(value, value_n, &guard->length)) {
            return "Content-Length is not a number";
        }
        guard->has_body |= guard->length > 0;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        guard->encodings++;
        guard->has_body = true;
        if (value_n != 7 || strncasecmp(value, "chunked", 7) != 0) {
            return "a Transfer-Encoding other than chunked";
        }
    } else if (strcasecmp(name, "Host") == 0) {
        guard->hosts++;
    }
    return NULL;
}

void api_guard_header(struct api_guard *guard, const char *name, size_t name_n, const char *value,
                      size_t value_n)
{
    const char *fault =
        header_fault(guard, name, name_n, value == NULL ? "" : value, value == NULL ? 0 : value_n);
    if (guard->broken == NULL) {
        guard->broken = fault;
    }
}

static bool is_known_method(const char *method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < SHR_COUNT_OF(known); i++) {
        if (strcmp(method, known[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_printable(const char *text)
{
    for (; *text != 0; text++) {
        if ((unsigned char)*text <= 32 || (unsigned char)*text >= 127) {
            return false;
        }
    }
    return true;
}

int api_guard_check(const struct api_guard *guard, const char *method, const char *version,
                    const char *uri, struct shr_err *err)
{
    bool is_11 = strcmp(version, "HTTP/1.1") == 0;
    const char *fault = guard->broken;
    if (!is_11 && strcmp(version, "HTTP/1.0") != 0) {
        fault = "a version other than HTTP/1.1 and HTTP/1.0";
    } else if (!is_known_method(method)) {
        fault = "an unknown method";
    } else if (!is_printable(uri)) {
        fault = "a blank or a byte that is not printable ASCII in the URI";
    } else if (fault == NULL && guard->lengths > 1) {
        fault = "more than one Content-Length";
    } else if (fault == NULL && guard->lengths > 0 && guard->encodings > 0) {
        fault = "Content-Length together with Transfer-Encoding";
    } else if (fault == NULL && guard->encodings > 1) {
        fault = "more than one Transfer-Encoding";
    } else if (fault == NULL && guard->encodings > 0 && !is_11) {
        fault = "Transfer-Encoding in HTTP/1.0";
    } else if (fault == NULL && guard->hosts > 1) {
        fault = "more than one Host";
    } else if (fault == NULL && guard->hosts == 0 && is_11) {
        fault = "no Host";
    }
    return fault == NULL ? 0 : shr_err_set(err, API_ERR_BAD_REQUEST, "request refused: %s", fault);
}
