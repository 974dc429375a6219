/* Buffer; see buf.h. */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

void *shr_buf_reserve(struct shr_buf *buf, size_t n)
{
    size_t need;
    if (buf->failed || !shr_size_add(buf->len, n, &need) || !shr_size_add(need, 1, &need)) {
        buf->failed = true;
        return NULL;
    }
    if (need > buf->cap) {
        size_t cap = buf->cap < 64 ? 64 : buf->cap + buf->cap / 2;
        if (cap < need) {
            cap = need;
        }
        unsigned char *data = shr_mem_resize(buf->data, cap, 1);
        if (data == NULL) {
            buf->failed = true;
            return NULL;
        }
        buf->data = data;
        buf->cap = cap;
    }
    return buf->data + buf->len;
}

void shr_buf_append(struct shr_buf *buf, const void *bytes, size_t n)
{
    unsigned char *to = shr_buf_reserve(buf, n);
    if (to != NULL) {
        if (n > 0) {
            memcpy(to, bytes, n);
        }
        buf->len += n;
        buf->data[buf->len] = 0;
    }
}

void shr_buf_puts(struct shr_buf *buf, const char *s)
{
    shr_buf_append(buf, s, strlen(s));
}

void shr_buf_printf(struct shr_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *to = length < 0 ? NULL : shr_buf_reserve(buf, (size_t)length);
    if (to != NULL) {
        vsnprintf(to, (size_t)length + 1, format, again);
        buf->len += (size_t)length;
    }
    va_end(again);
}

bool shr_buf_failed(const struct shr_buf *buf)
{
    return buf->failed;
}

const char *shr_buf_str(const struct shr_buf *buf)
{
    return buf->data == NULL ? "" : (const char *)buf->data;
}

void *shr_buf_take(struct shr_buf *buf, size_t *ret_len)
{
    if (buf->failed || buf->data == NULL) {
        shr_buf_finish(buf);
        *ret_len = 0;
        return NULL;
    }
    void *data = buf->data;
    *ret_len = buf->len;
    *buf = (struct shr_buf){0};
    return data;
}

void shr_buf_finish(struct shr_buf *buf)
{
    shr_mem_free(buf->data);
    *buf = (struct shr_buf){0};
}
