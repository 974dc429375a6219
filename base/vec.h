/* Growable arrays of any type: `SHR_VEC(struct x) list = {0};`.
 *
 * SHR_VEC_ADD evaluates to a pointer to a new zeroed element at the end, or NULL when out of
 * memory. Elements move when the array grows: keep indices, not pointers. Thread: one at a time. */
#ifndef SHR_BASE_VEC_H
#define SHR_BASE_VEC_H

#include <stddef.h>

#include "attr.h"
#include "mem.h"

#define SHR_VEC(type)                                                                              \
    struct {                                                                                       \
        type *v;                                                                                   \
        size_t n, cap;                                                                             \
        bool failed;                                                                               \
    }

#define SHR_VEC_ADD(vec)                                                                           \
    ((vec)->v = shr_vec_grow((vec)->v, &(vec)->n, &(vec)->cap, sizeof *(vec)->v, &(vec)->failed),  \
     (vec)->failed ? NULL : &(vec)->v[(vec)->n - 1])

#define SHR_VEC_FINISH(vec)                                                                        \
    do {                                                                                           \
        shr_mem_free((vec)->v);                                                                    \
        (vec)->v = NULL;                                                                           \
        (vec)->n = (vec)->cap = 0;                                                                 \
    } while (0)

/* Adds one zeroed element of size bytes and returns where the array is now; when out of memory the
 * array is as it was and *ret_failed is set. For SHR_VEC_ADD only. */
SHR_API void *shr_vec_grow(void *v, size_t *n, size_t *cap, size_t size, bool *ret_failed);

#endif
