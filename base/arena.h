/* Arena: many small allocations with one owner and one end.
 *
 * One arena for a graph, a plan, a report, an HTTP request. Memory comes zeroed from blocks that
 * double in size and is all given back by shr_arena_finish. Thread: one at a time. */
#ifndef SHR_BASE_ARENA_H
#define SHR_BASE_ARENA_H

#include <stddef.h>

#include "attr.h"

struct shr_arena_block;

struct shr_arena { /* all zero = empty and valid */
    struct shr_arena_block *top;
    size_t used; /* bytes handed out */
};

/* Zeroed, aligned for any type; NULL when out of memory or n*size overflows. */
SHR_API void *shr_arena_new(struct shr_arena *arena, size_t n, size_t size);

SHR_API char *shr_arena_strdup(struct shr_arena *arena, const char *s);
SHR_API char *shr_arena_strndup(struct shr_arena *arena, const char *s, size_t n);
SHR_API char *shr_arena_printf(struct shr_arena *arena, const char *format, ...) SHR_PRINTF(2, 3);

/* Frees everything; the arena is empty and usable again. */
SHR_API void shr_arena_finish(struct shr_arena *arena);

#endif
