/* The header guard: refuses requests that another HTTP parser could read differently.
 *
 * libmicrohttpd 0.9.75 accepts two Content-Length, Content-Length beside Transfer-Encoding, a
 * blank before the colon and more (RFC 9112 demands refusal); behind a proxy each of them lets a
 * client smuggle a request. Fed every header, then asked. Pure. Thread: any. */
#ifndef API_GUARD_H
#define API_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct api_guard { /* all zero = no header yet */
    unsigned lengths, encodings, hosts;
    uint64_t length;    /* the declared one */
    bool has_body;      /* a length above 0 or chunks */
    const char *broken; /* what is wrong with a header; static text */
};

/* value_n counts what came, so that a 0 byte in the value shows. */
void api_guard_header(struct api_guard *guard, const char *name, size_t name_n, const char *value,
                      size_t value_n);
/* API_ERR_BAD_REQUEST with the reason. */
int api_guard_check(const struct api_guard *guard, const char *method, const char *version,
                    const char *uri, struct shr_err *err) SHR_MUSTCHECK;

#endif
