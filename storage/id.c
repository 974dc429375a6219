/* Ids: a prefix and a ULID, so that ids sort by the time they were made.
 *
 * ULID (github.com/ulid/spec): 48 bits of milliseconds since 1970 and 80 random bits, written as 26
 * characters of Crockford's base32, most significant first. Thread: any. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "inner.h"

enum { ULID_CHARS = 26, ULID_BYTES = 16 };

static const char crockford[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

int64_t store__now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void store_id_new(const char *prefix, char ret_id[STORE_ID_SIZE])
{
    unsigned char bytes[ULID_BYTES];
    uint64_t ms = (uint64_t)(store__now_us() / 1000);
    for (int i = 0; i < 6; i++) {
        bytes[i] = (unsigned char)(ms >> (40 - 8 * i));
    }
    /* So few bytes come whole or not yet: the kernel interrupts only larger requests. */
    while (getrandom(bytes + 6, ULID_BYTES - 6, 0) != ULID_BYTES - 6) {
    }
    char text[ULID_CHARS + 1] = {0};
    for (int i = 0; i < ULID_CHARS; i++) {
        /* 26 characters hold 130 bits: the number stands at their low end, 2 bits down. */
        unsigned value = 0;
        for (int bit = 0; bit < 5; bit++) {
            int at = i * 5 + bit - 2;
            unsigned one = at < 0 ? 0 : (bytes[at / 8] >> (7 - at % 8)) & 1u;
            value = value << 1 | one;
        }
        text[i] = crockford[value];
    }
    snprintf(ret_id, STORE_ID_SIZE, "%.4s_%s", prefix, text);
}

bool store_id_is(const char *prefix, const char *id)
{
    size_t n = strlen(prefix);
    if (strncmp(id, prefix, n) != 0 || id[n] != '_' || strlen(id) != n + 1 + ULID_CHARS) {
        return false;
    }
    const char *ulid = id + n + 1;
    return ulid[0] <= '7' && strspn(ulid, crockford) == ULID_CHARS;
}
