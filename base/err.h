/* Errors: a code from err.def and a message that names the culprit.
 *
 * A fallible function returns 0 or a negative code and takes a struct shr_err last. The struct is
 * the caller's, of fixed size, and nothing here allocates, so an error can always be told.
 * Thread: any; a struct shr_err belongs to one thread at a time. */
#ifndef SHR_BASE_ERR_H
#define SHR_BASE_ERR_H

#include <stdarg.h>

#include "attr.h"

enum shr_code {
    SHR_OK = 0,
#define X(name, value, word, text) SHR_ERR_##name = (value),
#include "err.def"
#undef X
};

enum { SHR_ERR_MESSAGE_SIZE = 256 };

struct shr_err {
    int code;                       /* 0 or an enum shr_code */
    char msg[SHR_ERR_MESSAGE_SIZE]; /* a sentence without a full stop, UTF-8; long ones are cut */
};

/* Sets code and message and returns the code, for `return shr_err_set(err, …)`. err may be NULL. */
SHR_API int shr_err_set(struct shr_err *err, int code, const char *format, ...) SHR_PRINTF(3, 4);

/* Puts context in front of the message that is there ("pipeline[1]: …") and returns the code. */
SHR_API int shr_err_prefix(struct shr_err *err, const char *format, ...) SHR_PRINTF(2, 3);

/* "malformed" and "malformed input" of a code; "ok" and "no error" for 0; never NULL. The first is
 * what clients get as the code of a problem. */
SHR_API const char *shr_err_name(int code);
SHR_API const char *shr_err_text(int code);

#endif
