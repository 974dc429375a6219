/* UTF-8: is it well-formed, and making it so. Names in files and requests are anyone's bytes, and
 * what is cut at a fixed size may end inside a character. Thread: any. */
#ifndef SHR_BASE_UTF8_H
#define SHR_BASE_UTF8_H

#include <stddef.h>

#include "attr.h"

/* How many bytes the character at s has, of n that are there; 0 when it is none, or a zero byte. */
SHR_API size_t shr_utf8_length(const char *s, size_t n);

/* Makes each byte that belongs to no character a question mark. */
SHR_API void shr_utf8_clean(char *text);

#endif
