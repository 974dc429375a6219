/* Units as people write and read them, see units.h. */
#include "units.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const struct {
    const char *name;
    double factor;
} byte_units[] = {
    {"", 1.0},
    {"B", 1.0},
    {"KB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {"K", 1024.0},
    {"M", 1048576.0},
    {"G", 1073741824.0},
    {"KiB", 1024.0},
    {"MiB", 1048576.0},
    {"GiB", 1073741824.0},
    {"TiB", 1099511627776.0},
};

bool srv_bytes_parse(const char *text, uint64_t *ret_bytes)
{
    if (!isdigit((unsigned char)text[0])) {
        return false;
    }
    char *end = NULL;
    const double number = strtod(text, &end);
    while (*end == ' ') {
        end++;
    }
    for (size_t i = 0; i < sizeof byte_units / sizeof byte_units[0]; i++) {
        if (strcasecmp(end, byte_units[i].name) == 0) {
            const double bytes = number * byte_units[i].factor;
            if (!(bytes < 9.0e18)) { /* so that it fits an int64_t, too; false for NaN */
                return false;
            }
            *ret_bytes = (uint64_t)bytes;
            return true;
        }
    }
    return false;
}

const char *srv_bytes_format(double bytes, char *text, size_t size)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 1000.0 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1000.0;
        unit++;
    }
    const int decimals = unit == 0 ? 0 : bytes < 10.0 ? 2 : 1;
    snprintf(text, size, "%.*f %s", decimals, bytes, units[unit]);
    return text;
}

const char *srv_number_format(double value, char *text, size_t size)
{
    if ((value != floor(value) && fabs(value) < 1000.0) || fabs(value) >= 1e15) {
        snprintf(text, size, "%.3g", value);
        return text;
    }
    char digits[32];
    const int n = snprintf(digits, sizeof digits, "%.0f", fabs(value));
    size_t at = 0;
    if (value < 0 && size > 1) {
        text[at++] = '-';
    }
    for (int i = 0; i < n && at + 2 < size; i++) {
        if (i > 0 && (n - i) % 3 == 0) {
            text[at++] = ',';
        }
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

const char *srv_time_format(int64_t time_us, char *text, size_t size)
{
    const time_t seconds = (time_t)(time_us / 1000000);
    struct tm tm;
    char date[24];
    gmtime_r(&seconds, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, size, "%s.%03dZ", date, (int)(time_us / 1000 % 1000));
    return text;
}

int64_t srv_time_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

uint64_t srv_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
