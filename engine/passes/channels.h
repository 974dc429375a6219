/* Dependency groups: which channels of a network stand or fall together.
 *
 * Every index of every axis of a weight begins as a channel of its own. One walk takes channels
 * along: each value gets a map that says which channel stands at each index of its axes, by
 * explicit lists, so that Concat, Split, Flatten or a shuffle need no cases of their own; and
 * where an operator wants two axes to be of one size, their channels become one (union-find). What
 * is one in the end is a unit: it goes everywhere or nowhere. A unit can go if a layer makes it
 * and nothing that it reaches wants it to stay. Layers that share units are a group.
 *
 * An axis that was split (heads, a shuffle) leaves a part of several axes, of which one is cut in
 * the end: the one that leaves the most units, so whole heads.
 *
 * Constants that are cut on the same index everywhere, and node settings that hold sizes, follow
 * from the maps (channels_cut.c, channels_fix.c). Thread: one. */
#ifndef SHR_PASSES_CHANNELS_H
#define SHR_PASSES_CHANNELS_H

#include "base/vec.h"
#include "passes/pass.h"

struct shr_channel_part { /* axes of a value whose channels are one list */
    int n_axes, axis[SHR_MAX_RANK];
    int64_t dim[SHR_MAX_RANK]; /* of these axes */
    int64_t n;                 /* their product */
    int32_t *channel;          /* (n), row-major: indices of shr_channels.list; -1 = stays */
    int cut;                   /* which of its axes is cut; set at the end of the walk */
};

struct shr_channel_map { /* of a value; axes in no part stay as they are */
    int rank;
    int64_t dim[SHR_MAX_RANK]; /* -1 = not known */
    int n_parts;
    struct shr_channel_part *part[SHR_MAX_RANK];
    bool plain;  /* a constant that a mask leaves alone: a divisor, a scale */
    bool weight; /* made of constants alone */
};

enum shr_channel_role {
    SHR_CHANNEL_OUT,   /* weights: the axis of what a layer makes */
    SHR_CHANNEL_IN,    /* weights: the axis of what it reads */
    SHR_CHANNEL_GAMMA, /* BatchNormalization's scale */
};

struct shr_channel_use { /* an axis of weights, for measures of importance */
    enum shr_channel_role role;
    struct shr_node *node;
    size_t slot;
    int axis; /* of the input in slot */
    const struct shr_channel_part *part;
    size_t group; /* of OUT: set at the end; SIZE_MAX = nothing of it can go */
};

struct shr_channel {
    int32_t same;    /* towards the lowest channel that is one with this; itself = it is that */
    int32_t unit;    /* of such: its index among the units of all groups; -1 = it stays */
    const char *why; /* of such: it must stay; NULL = nothing found against it */
};

struct shr_channel_group {
    struct shr_node *node; /* the first layer */
    int64_t first, n;      /* its units have index first to first + n - 1 */
    int64_t numbered;      /* while units are numbered */
    int64_t stay;          /* channels of its layers that must stay, units counted once */
    const char *why;       /* of one of those */
    int64_t elements;      /* set by shr_channels_cut: of constants, removed or zeroed */
};

struct shr_channels { /* all zero = empty and valid */
    struct shr_arena arena;
    struct shr_map maps; /* name of a value → struct shr_channel_map */
    SHR_VEC(struct shr_channel) list;
    SHR_VEC(struct shr_channel_part *) parts; /* of all values */
    SHR_VEC(struct shr_channel_use) uses;
    SHR_VEC(struct shr_channel_group) groups; /* in the order of their first layers */
    int64_t n;                                /* units of all groups */
    struct shr_map known[2];    /* name of a value → struct shr_tensor: numbers that follow from
                                   sizes, in each probe */
    struct shr_model *probe[2]; /* the model with sizes for its open dimensions, two ways */
    int sizes;                  /* which */
};

/* nodes: as for shr_nodes_excluded; what a layer that is excluded makes must stay. refused: names
 * of values and why their channels must stay, from a cut that failed; NULL = none. */
int shr_channels_find(struct shr_channels *ret, struct shr_model *model,
                      const struct shr_arg *nodes, const struct shr_map *refused,
                      struct shr_err *err) SHR_MUSTCHECK;
void shr_channels_finish(struct shr_channels *c);

/* The unit of a channel, an entry of a part; -1 = it stays. */
int64_t shr_channels_unit(struct shr_channels *c, int32_t entry);
struct shr_channel_group *shr_channels_group(struct shr_channels *c, int64_t unit);

/* The channel at an index of an axis of a part; -1 when the axis is not the one that is cut. */
int32_t shr_channel_at(const struct shr_channel_part *part, int axis, int64_t index);
const struct shr_channel_part *shr_channel_part_of(const struct shr_channel_map *map, int axis);
struct shr_channel_map *shr_channels_map(const struct shr_channels *c, const struct shr_value *v);

/* Gives each reader of a shared vector its own, before channels are found; equal ones are one again
 * after the cut (channels_share.c). */
struct shr_channel_copy {
    const char *of; /* a name in the model */
    struct shr_value *value;
};
struct shr_channel_copies { /* all zero = empty and valid */
    SHR_VEC(struct shr_channel_copy) list;
};
int shr_channels_separate(struct shr_channel_copies *copies, struct shr_model *model,
                          struct shr_err *err) SHR_MUSTCHECK;
void shr_channels_unite_copies(struct shr_channel_copies *copies, struct shr_model *model);
void shr_channels_finish_copies(struct shr_channel_copies *copies);

/* The weights of a use: a constant, or the one that its input is moved or dequantized from. Uses
 * of one constant count once: false for the others. */
struct shr_channel_weights {
    const struct shr_channel_part *part;
    const struct shr_tensor *t, *scale,
        *zero; /* scale, zero: NULL, one, or one an index of q_axis */
    const char *name;
    int axis, q_axis; /* of t */
};
bool shr_channels_weights(struct shr_channels *c, const struct shr_channel_use *use,
                          struct shr_channel_weights *ret);
/* Is it an operator that only moves what it reads in input 0? */
bool shr_channels_moves(const struct shr_node *node);
/* Sets scale, zero and q_axis if the node is an integer operator and the slot its weights'. */
void shr_channels_quantized(const struct shr_node *node, size_t slot,
                            struct shr_channel_weights *ret);
/* The element of scale or zero that holds for element i of t. */
double shr_channels_param_at(const struct shr_channel_weights *w, const struct shr_tensor *params,
                             int64_t i);
double shr_channels_weight_at(const struct shr_channel_weights *w, int64_t i);

/* "conv1, conv4; with bn1, conv2": the layers of a group, then what else shrinks with it. Returns
 * how many nodes there are; the text is cut where it is full. */
enum { SHR_CHANNEL_NAMES = 1024 };
size_t shr_channels_names(struct shr_channels *c, const struct shr_channel_group *group,
                          struct shr_model *model, char *text);

/* Removes the units whose gone[unit] is 1 from all constants and sizes, or (remove false) sets what
 * makes and reads them to zero. On failure the model is half cut and good for nothing; so it is
 * when *ret_bad names a value whose size did not become what it should: begin anew with a clone
 * and that value refused. */
int shr_channels_cut(struct shr_channels *c, struct shr_model *model, const unsigned char *gone,
                     bool remove, const char **ret_bad, struct shr_err *err) SHR_MUSTCHECK;

/* All of it on a clone: finds groups, lets choose set gone (by unit; zeroed), cuts, and lets tell
 * report. Where sizes follow from others by arithmetic that cannot be cut along, the values that
 * would be of a wrong size stay and all begins anew, so choose may be called more than once. */
struct shr_channel_job {
    const struct shr_arg *nodes; /* as for shr_channels_find */
    bool remove;                 /* as for shr_channels_cut */
    int (*choose)(void *user, struct shr_channels *c, struct shr_model *model, unsigned char *gone,
                  struct shr_err *err);
    void (*tell)(void *user, struct shr_channels *c, struct shr_model *model,
                 const unsigned char *gone);
    void *user;
};
int shr_channels_run(const struct shr_channel_job *job, const struct shr_model *model,
                     struct shr_model **ret, struct shr_err *err) SHR_MUSTCHECK;

#endif
