/* Memory; see mem.h. */
#include "mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef SHR_CHAOS
#include <stdatomic.h>

static atomic_uint_fast64_t chaos_left;
static atomic_bool chaos_hit;

void shr_mem_chaos(uint64_t n)
{
    atomic_store(&chaos_left, n);
    atomic_store(&chaos_hit, false);
}

bool shr_mem_chaos_hit(void)
{
    return atomic_exchange(&chaos_hit, false);
}

static bool allocation_fails(void)
{
    uint_fast64_t left = atomic_load(&chaos_left);
    if (left == 0) {
        return false;
    }
    atomic_store(&chaos_left, left - 1);
    if (left == 1) {
        atomic_store(&chaos_hit, true);
        return true;
    }
    return false;
}
#else
static bool allocation_fails(void)
{
    return false;
}
#endif

bool shr_size_mul(size_t a, size_t b, size_t *ret)
{
    if (a != 0 && b > SIZE_MAX / a) {
        return false;
    }
    *ret = a * b;
    return true;
}

bool shr_size_add(size_t a, size_t b, size_t *ret)
{
    if (b > SIZE_MAX - a) {
        return false;
    }
    *ret = a + b;
    return true;
}

void *shr_mem_new(size_t n, size_t size)
{
    if (allocation_fails()) {
        return NULL;
    }
    /* calloc(0) may return NULL, which would read as a failure. */
    return calloc(n == 0 ? 1 : n, size == 0 ? 1 : size);
}

void *shr_mem_resize(void *old, size_t n, size_t size)
{
    size_t bytes;
    if (!shr_size_mul(n, size, &bytes) || allocation_fails()) {
        return NULL;
    }
    return realloc(old, bytes == 0 ? 1 : bytes);
}

/* Weights of megabytes are read from end to end: by pages of 4 KiB that costs more in translation
 * than in reading. */
enum { HUGE_PAGE = 2 << 20, LARGE = 2 * HUGE_PAGE };

void *shr_mem_aligned(size_t bytes)
{
    size_t padded;
    if (!shr_size_add(bytes, SHR_MEM_ALIGN - 1, &padded) || allocation_fails()) {
        return NULL;
    }
    padded -= padded % SHR_MEM_ALIGN;
    if (padded < LARGE) {
        return aligned_alloc(SHR_MEM_ALIGN, padded == 0 ? SHR_MEM_ALIGN : padded);
    }
    void *p = NULL;
    if (posix_memalign(&p, HUGE_PAGE, padded) != 0) {
        return NULL;
    }
    (void)madvise(p, padded - padded % HUGE_PAGE, MADV_HUGEPAGE); /* a wish */
    return p;
}

char *shr_mem_strdup(const char *s)
{
    return shr_mem_strndup(s, strlen(s));
}

char *shr_mem_strndup(const char *s, size_t n)
{
    size_t bytes;
    if (!shr_size_add(n, 1, &bytes)) {
        return NULL;
    }
    char *copy = shr_mem_new(bytes, 1);
    if (copy != NULL) {
        memcpy(copy, s, n);
    }
    return copy;
}

void shr_mem_free(void *p)
{
    free(p);
}
