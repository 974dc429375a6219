/* Arena; see arena.h. */
#include "arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

enum { FIRST_BLOCK = 4096, LARGEST_BLOCK = 1 << 20 };

struct shr_arena_block {
    struct shr_arena_block *next;
    size_t size, used; /* of data */
    alignas(max_align_t) unsigned char data[];
};

static struct shr_arena_block *block_add(struct shr_arena *arena, size_t bytes)
{
    size_t size = arena->top == NULL ? FIRST_BLOCK : arena->top->size * 2;
    if (size > LARGEST_BLOCK) {
        size = LARGEST_BLOCK;
    }
    if (size < bytes) {
        size = bytes;
    }
    size_t total;
    if (!shr_size_add(sizeof(struct shr_arena_block), size, &total)) {
        return NULL;
    }
    struct shr_arena_block *block = shr_mem_new(total, 1);
    if (block == NULL) {
        return NULL;
    }
    block->size = size;
    block->next = arena->top;
    arena->top = block;
    return block;
}

void *shr_arena_new(struct shr_arena *arena, size_t n, size_t size)
{
    size_t bytes, padded;
    const size_t align = alignof(max_align_t);
    if (!shr_size_mul(n, size, &bytes) || !shr_size_add(bytes, align - 1, &padded)) {
        return NULL;
    }
    padded -= padded % align;
    struct shr_arena_block *block = arena->top;
    if (block == NULL || block->size - block->used < padded) {
        block = block_add(arena, padded);
        if (block == NULL) {
            return NULL;
        }
    }
    void *p = block->data + block->used;
    block->used += padded;
    arena->used += padded;
    return p;
}

char *shr_arena_strndup(struct shr_arena *arena, const char *s, size_t n)
{
    size_t bytes;
    if (!shr_size_add(n, 1, &bytes)) {
        return NULL;
    }
    char *copy = shr_arena_new(arena, bytes, 1);
    if (copy != NULL) {
        memcpy(copy, s, n);
    }
    return copy;
}

char *shr_arena_strdup(struct shr_arena *arena, const char *s)
{
    return shr_arena_strndup(arena, s, strlen(s));
}

char *shr_arena_printf(struct shr_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : shr_arena_new(arena, (size_t)length + 1, 1);
    if (text != NULL) {
        vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    return text;
}

void shr_arena_finish(struct shr_arena *arena)
{
    struct shr_arena_block *block = arena->top;
    while (block != NULL) {
        struct shr_arena_block *next = block->next;
        shr_mem_free(block);
        block = next;
    }
    arena->top = NULL;
    arena->used = 0;
}
