/* Memory: every allocation of shrinkd goes through here.
 *
 * Sizes are multiplied with overflow checks, running out is an ordinary SHR_ERR_NOMEM for the
 * caller, and a build with -Dchaos=true can make the Nth allocation fail (tests only).
 * Thread: any. */
#ifndef SHR_BASE_MEM_H
#define SHR_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attr.h"

enum { SHR_MEM_ALIGN = 64 }; /* a cache line, and the widest vector */

/* Zeroed memory for n elements of size bytes; NULL when there is none or n*size overflows. */
SHR_API void *shr_mem_new(size_t n, size_t size);

/* Grows or shrinks to n elements; the old block stays valid when NULL is returned. */
SHR_API void *shr_mem_resize(void *old, size_t n, size_t size);

/* bytes of memory aligned to SHR_MEM_ALIGN, not zeroed; free with shr_mem_free. */
SHR_API void *shr_mem_aligned(size_t bytes);

/* A copy of a string (or of its first n bytes, with a 0 behind them); NULL when out of memory. */
SHR_API char *shr_mem_strdup(const char *s);
SHR_API char *shr_mem_strndup(const char *s, size_t n);

SHR_API void shr_mem_free(void *p); /* NULL is fine */

/* *ret = a*b or a+b; false when the result does not fit. */
SHR_API bool shr_size_mul(size_t a, size_t b, size_t *ret);
SHR_API bool shr_size_add(size_t a, size_t b, size_t *ret);

#ifdef SHR_CHAOS
/* Fails the n-th allocation from now (1 = the next) and every later one is fine; 0 = never.
 * One counter for the process: chaos tests run on one thread. */
SHR_API void shr_mem_chaos(uint64_t n);
SHR_API bool shr_mem_chaos_hit(void); /* did the planned failure happen since the last call? */
#endif

#endif
