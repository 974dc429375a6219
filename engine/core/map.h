/* Map from strings to pointers: the names of a graph. Keys are borrowed and must outlive the map.
 * All zero = empty and valid. Thread: one at a time. */
#ifndef SHR_CORE_MAP_H
#define SHR_CORE_MAP_H

#include <stddef.h>

#include "base/err.h"

struct shr_map_slot;

struct shr_map {
    struct shr_map_slot *slots;
    size_t n, cap;
};

void *shr_map_get(const struct shr_map *map, const char *key); /* NULL if absent */
int shr_map_put(struct shr_map *map, const char *key, void *value,
                struct shr_err *err) SHR_MUSTCHECK;         /* replaces */
void *shr_map_remove(struct shr_map *map, const char *key); /* the value that was there, or NULL */
void shr_map_finish(struct shr_map *map);

#endif
