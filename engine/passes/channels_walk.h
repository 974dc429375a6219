/* The walk that finds groups of channels, for the rules of operators (channels_rules.c). A rule
 * gives the output of its node a map, or makes what the node reads stay. Thread: one. */
#ifndef SHR_PASSES_CHANNELS_WALK_H
#define SHR_PASSES_CHANNELS_WALK_H

#include "passes/channels.h"

struct shr_channel_walk {
    struct shr_channels *c;
    const struct shr_arg *nodes; /* the filter */
};

typedef int (*shr_channel_rule_fn)(struct shr_channel_walk *w, struct shr_node *node,
                                   struct shr_err *err);

shr_channel_rule_fn shr_channel_rule_find(const struct shr_node *node); /* NULL = no rule */

int shr_channels_no_memory(struct shr_err *err);

/* Maps live as long as the groups. NULL: there is none, or out of memory for a new one. */
struct shr_channel_map *shr_channels_map(const struct shr_channel_walk *w,
                                         const struct shr_value *v);
struct shr_channel_map *shr_channels_new_map(struct shr_channel_walk *w, int64_t n, int axis,
                                             int rank);
int shr_channels_set_map(struct shr_channel_walk *w, const struct shr_node *node,
                         struct shr_channel_map *map, struct shr_err *err) SHR_MUSTCHECK;

int shr_channels_add_use(struct shr_channel_walk *w, enum shr_channel_role role,
                         struct shr_node *node, size_t slot, int axis,
                         const struct shr_channel_map *map, struct shr_err *err) SHR_MUSTCHECK;

/* A new layer; why NULL = it may be cut. Its channels fill the map. */
int shr_channels_add_layer(struct shr_channel_walk *w, const struct shr_node *node, const char *why,
                           int32_t *ret, struct shr_err *err) SHR_MUSTCHECK;
int shr_channels_make(struct shr_channel_walk *w, int32_t layer, struct shr_channel_map *map,
                      struct shr_err *err) SHR_MUSTCHECK;

void shr_channels_unite(struct shr_channels *c, int32_t a, int32_t b); /* channels become one */

/* The channels that a node reads must stay: in a slot, from a slot on; and its own, if a layer. */
int shr_channels_refuse_input(struct shr_channel_walk *w, const struct shr_node *node, size_t slot,
                              const char *why, struct shr_err *err) SHR_MUSTCHECK;
int shr_channels_refuse_inputs(struct shr_channel_walk *w, const struct shr_node *node, size_t slot,
                               const char *why, struct shr_err *err) SHR_MUSTCHECK;
int shr_channels_refuse_layer(struct shr_channel_walk *w, const struct shr_node *node,
                              const char *why, struct shr_err *err) SHR_MUSTCHECK;

#endif
