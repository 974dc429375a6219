/* Error codes and messages; see err.h. */
#include "err.h"

#include <stdio.h>
#include <string.h>

#include "utf8.h"

int shr_err_set(struct shr_err *err, int code, const char *format, ...)
{
    if (err != NULL) {
        va_list args;
        err->code = code;
        va_start(args, format);
        vsnprintf(err->msg, sizeof err->msg, format, args);
        va_end(args);
        shr_utf8_clean(err->msg);
    }
    return code;
}

int shr_err_prefix(struct shr_err *err, const char *format, ...)
{
    if (err == NULL) {
        return SHR_ERR_INTERNAL;
    }

    char old[SHR_ERR_MESSAGE_SIZE];
    memcpy(old, err->msg, sizeof old);
    va_list args;
    va_start(args, format);
    int used = vsnprintf(err->msg, sizeof err->msg, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof err->msg) {
        snprintf(err->msg + used, sizeof err->msg - (size_t)used, "%s", old);
    }
    shr_utf8_clean(err->msg);
    return err->code;
}

const char *shr_err_name(int code)
{
    switch (code) {
    case SHR_OK:
        return "ok";
#define X(name, value, word, text)                                                                 \
    case value:                                                                                    \
        return word;
#include "err.def"
#undef X
    default:
        return "unknown";
    }
}

const char *shr_err_text(int code)
{
    switch (code) {
    case SHR_OK:
        return "no error";
#define X(name, value, word, text)                                                                 \
    case value:                                                                                    \
        return text;
#include "err.def"
#undef X
    default:
        return "unknown error";
    }
}
