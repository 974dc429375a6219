/* Well-formed UTF-8 as table 3-7 of the Unicode standard has it; see utf8.h. */
#include "utf8.h"

#include <string.h>

size_t shr_utf8_length(const char *s, size_t n)
{
    const unsigned char *at = (const unsigned char *)s;
    const unsigned char c = n > 0 ? at[0] : 0;
    if (c < 0x80) {
        return c != 0;
    }
    const size_t length = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (c < 0xc2 || c > 0xf4 || n < length) {
        return 0;
    }
    const unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < low || at[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return length;
}

void shr_utf8_clean(char *text)
{
    size_t n = strlen(text);
    while (n > 0) {
        size_t length = shr_utf8_length(text, n);
        if (length == 0) {
            *text = '?';
            length = 1;
        }
        text += length;
        n -= length;
    }
}
