/* Units as people write and read them: byte counts, UTC times, numbers.
 *
 * Pure functions over the caller's memory. Thread: any. */
#ifndef SRV_UNITS_H
#define SRV_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SRV_TIME_SIZE = 32, SRV_NUMBER_SIZE = 48 };

/* "1048576", "512KiB", "2 GiB", "1.5MB": binary and decimal units, B alone, no sign. */
bool srv_bytes_parse(const char *text, uint64_t *ret_bytes);

/* "272.1 KB", "1.07 MB": decimal units, three or four digits. */
const char *srv_bytes_format(double bytes, char *text, size_t size);

/* "266,610" of a whole number or one from 1000 on, else three significant digits. */
const char *srv_number_format(double value, char *text, size_t size);

/* RFC 3339, UTC, milliseconds: "2026-03-01T12:00:00.000Z". */
const char *srv_time_format(int64_t time_us, char *text, size_t size);

int64_t srv_time_now_us(void); /* since 1970, UTC: for records */
uint64_t srv_clock_ms(void);   /* monotonic: for durations */

#endif
