/* The clock of the HTTP layer, below the requests, the reaper and the waiters that go by it.
 * Thread: any. */
#ifndef API_CLOCK_H
#define API_CLOCK_H

#include <stdint.h>

uint64_t api_now_ms(void); /* monotonic */

#endif
