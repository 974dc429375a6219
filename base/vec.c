/* The growth behind SHR_VEC_ADD; see vec.h. */
#include "vec.h"

#include <string.h>

void *shr_vec_grow(void *v, size_t *n, size_t *cap, size_t size, bool *ret_failed)
{
    *ret_failed = false;
    if (*n == *cap) {
        size_t larger = *cap == 0 ? 8 : *cap + *cap / 2;
        void *grown = shr_mem_resize(v, larger, size);
        if (grown == NULL) {
            *ret_failed = true;
            return v;
        }
        v = grown;
        *cap = larger;
    }
    memset((unsigned char *)v + *n * size, 0, size);
    *n += 1;
    return v;
}
