/* Buffer: bytes that grow at the end; also the string builder.
 *
 * Growth failures are sticky: appends after one are ignored and shr_buf_failed tells, so that a
 * long text is built without a check for each line. data always has a 0 byte behind it.
 * Thread: one at a time. */
#ifndef SHR_BASE_BUF_H
#define SHR_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "attr.h"

struct shr_buf { /* all zero = empty and valid */
    unsigned char *data;
    size_t len, cap;
    bool failed;
};

SHR_API void shr_buf_append(struct shr_buf *buf, const void *bytes, size_t n);
SHR_API void shr_buf_puts(struct shr_buf *buf, const char *s);
SHR_API void shr_buf_printf(struct shr_buf *buf, const char *format, ...) SHR_PRINTF(2, 3);

/* Makes room for n more bytes and returns where they go (raise len yourself); NULL on failure. */
SHR_API void *shr_buf_reserve(struct shr_buf *buf, size_t n);

SHR_API bool shr_buf_failed(const struct shr_buf *buf);
SHR_API const char *
shr_buf_str(const struct shr_buf *buf); /* "" when empty; valid until a change */

/* The bytes, now the caller's (shr_mem_free); the buffer is empty. NULL when empty or failed. */
SHR_API void *shr_buf_take(struct shr_buf *buf, size_t *ret_len);

SHR_API void shr_buf_finish(struct shr_buf *buf);

#endif
