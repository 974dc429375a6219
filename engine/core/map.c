/* Map from strings to pointers; see map.h.
 *
 * DESIGN. Open addressing with linear probing, at most three quarters full; removal shifts the
 * entries behind the hole back, so there are no tombstones. The hash is FNV-1a started from the
 * address of the table, so that a file cannot choose names that collide. */
#include "core/map.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

struct shr_map_slot {
    const char *key; /* NULL = free */
    void *value;
    uint64_t hash;
};

static uint64_t hash_of(const struct shr_map_slot *slots, const char *key)
{
    uint64_t h = 0xcbf29ce484222325u ^ (uint64_t)(uintptr_t)slots;
    for (; *key != 0; key++) {
        h = (h ^ (unsigned char)*key) * 0x100000001b3u;
    }
    return h ^ h >> 32;
}

/* Where the key is, or the free slot where it would go. There is always a free slot. */
static size_t slot_of(const struct shr_map *map, const char *key, uint64_t hash)
{
    size_t i = (size_t)hash & (map->cap - 1);
    while (map->slots[i].key != NULL &&
           (map->slots[i].hash != hash || strcmp(map->slots[i].key, key) != 0)) {
        i = (i + 1) & (map->cap - 1);
    }
    return i;
}

static bool grow(struct shr_map *map)
{
    struct shr_map bigger = {.n = map->n, .cap = map->cap == 0 ? 16 : map->cap * 2};
    bigger.slots = shr_mem_new(bigger.cap, sizeof *bigger.slots);
    if (bigger.slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < map->cap; i++) {
        struct shr_map_slot slot = map->slots[i];
        if (slot.key != NULL) {
            slot.hash = hash_of(bigger.slots, slot.key);
            bigger.slots[slot_of(&bigger, slot.key, slot.hash)] = slot;
        }
    }
    shr_mem_free(map->slots);
    *map = bigger;
    return true;
}

void *shr_map_get(const struct shr_map *map, const char *key)
{
    if (map->n == 0) {
        return NULL;
    }
    return map->slots[slot_of(map, key, hash_of(map->slots, key))].value;
}

int shr_map_put(struct shr_map *map, const char *key, void *value, struct shr_err *err)
{
    if (map->cap > 0) {
        struct shr_map_slot *old = &map->slots[slot_of(map, key, hash_of(map->slots, key))];
        if (old->key != NULL) {
            old->key = key;
            old->value = value;
            return SHR_OK;
        }
    }
    if (map->n + 1 > map->cap - map->cap / 4 && !grow(map)) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %zu names", map->n + 1);
    }
    uint64_t hash = hash_of(map->slots, key);
    map->slots[slot_of(map, key, hash)] = (struct shr_map_slot){key, value, hash};
    map->n++;
    return SHR_OK;
}

void *shr_map_remove(struct shr_map *map, const char *key)
{
    if (map->n == 0) {
        return NULL;
    }
    const size_t mask = map->cap - 1;
    size_t hole = slot_of(map, key, hash_of(map->slots, key));
    if (map->slots[hole].key == NULL) {
        return NULL;
    }
    void *value = map->slots[hole].value;
    for (size_t i = (hole + 1) & mask; map->slots[i].key != NULL; i = (i + 1) & mask) {
        /* An entry may move into the hole unless its home lies behind it. */
        size_t home = (size_t)map->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole] = (struct shr_map_slot){0};
    map->n--;
    return value;
}

void shr_map_finish(struct shr_map *map)
{
    shr_mem_free(map->slots);
    *map = (struct shr_map){0};
}
