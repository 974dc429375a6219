/* The walk that finds groups of channels, for the rules of operators (channels_rules.c): a rule
 * gives the outputs of its node maps. A walk can only fail for want of memory, which sticks in
 * `failed`, so that rules need not pass errors on; pointers are NULL then. Thread: one. */
#ifndef SHR_PASSES_CHANNELS_WALK_H
#define SHR_PASSES_CHANNELS_WALK_H

#include "passes/channels.h"

struct shr_channel_walk {
    struct shr_channels *c;
    const struct shr_arg *nodes; /* the filter */
    bool failed;
    struct shr_node *node; /* where the walk is */
};

struct shr_channel_cut { /* for what is done to a node when its sizes change */
    struct shr_channels *c;
    struct shr_model *model;
    const unsigned char *gone; /* by unit */
};

struct shr_channel_rule;
typedef void (*shr_channel_visit_fn)(struct shr_channel_walk *w, struct shr_node *node,
                                     const struct shr_channel_rule *rule);
typedef int (*shr_channel_fix_fn)(struct shr_channel_cut *cut, struct shr_node *node,
                                  struct shr_err *err);

struct shr_channel_rule { /* of an operator */
    const char *domain, *op_type;
    const char *spec;           /* how axes meet (channels_join.c); NULL: visit says it */
    shr_channel_visit_fn visit; /* NULL: the spec alone */
    shr_channel_fix_fn fix;     /* NULL: nothing but constants and types changes */
    unsigned plain;             /* bit i: a constant in slot i is left alone by masks */
    int weight, zero;           /* slots of weights whose letters O and I are roles, and their zero
                                   points; 0 = none */
};

const struct shr_channel_rule *shr_channel_rule_find(const struct shr_node *node); /* or NULL */

/* Joins the inputs as a spec says and sets the map of output 0. */
void shr_channels_join(struct shr_channel_walk *w, struct shr_node *node, const char *spec,
                       const struct shr_channel_rule *rule);

/* ── Channels ── */
int32_t shr_channel_root(struct shr_channels *c, int32_t channel);
void shr_channels_unite(struct shr_channel_walk *w, int32_t a, int32_t b); /* -1 = one that stays */
void shr_channels_refuse(struct shr_channel_walk *w, const struct shr_channel_part *part,
                         const char *why);
/* All channels of an input, or of all from a slot on. */
void shr_channels_refuse_input(struct shr_channel_walk *w, struct shr_node *node, size_t slot,
                               const char *why);
void shr_channels_refuse_inputs(struct shr_channel_walk *w, struct shr_node *node, size_t slot,
                                const char *why);

/* ── Parts: values of one algebra; they are not changed once made ── */
struct shr_channel_part *shr_part_new(struct shr_channel_walk *w, int n_axes, const int *axis,
                                      const int64_t *dim); /* entries not set */
/* Fresh channels along one axis. */
struct shr_channel_part *shr_part_fresh(struct shr_channel_walk *w, int axis, int64_t n);
int shr_part_find(const struct shr_channel_part *p, int axis); /* which of its axes; -1 = none */
/* The axis is not to be cut: the part without it, all along it one; NULL when it has no other. */
struct shr_channel_part *shr_part_keep(struct shr_channel_walk *w, struct shr_channel_part *p,
                                       int axis, const char *why);
/* n entries along an axis from these on; index NULL: start, start + step, … */
struct shr_channel_part *shr_part_select(struct shr_channel_walk *w, struct shr_channel_part *p,
                                         int axis, const int64_t *index, int64_t start,
                                         int64_t step, int64_t n);
/* The same entries with axes named anew and in their order; to[i] is the new name of axis i. */
struct shr_channel_part *shr_part_rename(struct shr_channel_walk *w, struct shr_channel_part *p,
                                         const int *to);
/* Without axes along which nothing varies; NULL when nothing is left. */
struct shr_channel_part *shr_part_shrink(struct shr_channel_walk *w, struct shr_channel_part *p);

/* ── Maps ── */
/* Of an input; a float or quantized constant gets fresh channels. NULL = no input or no rank. */
struct shr_channel_map *shr_map_in(struct shr_channel_walk *w, const struct shr_node *node,
                                   size_t slot);
/* A new map of an output, without parts. */
struct shr_channel_map *shr_map_out(struct shr_channel_walk *w, const struct shr_node *node,
                                    size_t slot);
void shr_map_add(struct shr_channel_walk *w, struct shr_channel_map *map,
                 struct shr_channel_part *part); /* part may be NULL */
void shr_channels_add_use(struct shr_channel_walk *w, enum shr_channel_role role,
                          struct shr_node *node, size_t slot, int axis);

/* Integers that an input is known to hold, constant or by sizes; NULL = not known. */
const struct shr_tensor *shr_channels_known(const struct shr_channels *c,
                                            const struct shr_value *v);
const struct shr_type *shr_channels_type(const struct shr_channels *c, int probe,
                                         const struct shr_value *v);

/* Sets probe, known and sizes: clones with the sizes of a set in their types. */
int shr_channels_probe(const struct shr_model *model, int set, struct shr_channels *ret,
                       struct shr_err *err) SHR_MUSTCHECK;

/* ── Fixes: how many channels stay along an axis of a map, and below an index of it ── */
int64_t shr_channels_kept(const struct shr_channel_cut *cut, const struct shr_channel_map *map,
                          int axis, int64_t end);
bool shr_channels_is_gone(const struct shr_channel_cut *cut, int32_t entry);

/* ── Rules that are not specs (channels_move.c) ── */
#define SHR_VISIT(name)                                                                            \
    void shr_visit_##name(struct shr_channel_walk *w, struct shr_node *node,                       \
                          const struct shr_channel_rule *rule)
SHR_VISIT(batchnorm);
SHR_VISIT(whole_axis);
SHR_VISIT(first);
SHR_VISIT(lrn);
SHR_VISIT(softmax);
SHR_VISIT(resize);
SHR_VISIT(reduce);
SHR_VISIT(reshape);
SHR_VISIT(transpose);
SHR_VISIT(concat);
SHR_VISIT(split);
SHR_VISIT(slice);
SHR_VISIT(gather);
SHR_VISIT(expand);
SHR_VISIT(pad);
SHR_VISIT(tile);
SHR_VISIT(depth_to_space);
SHR_VISIT(space_to_depth);
SHR_VISIT(fill);
SHR_VISIT(shape);

/* ── What changes in nodes (channels_fix.c) ── */
int shr_fix_shape(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err);
int shr_fix_fill(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err);
int shr_fix_sizes(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err);
int shr_fix_split(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err);
int shr_fix_slice(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err);
int shr_fix_gather(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err);
int shr_fix_groups(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err);
int shr_fix_hidden(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err);

#endif
