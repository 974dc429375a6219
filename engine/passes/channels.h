/* Dependency groups: which channels of a network stand or fall together.
 *
 * A layer (Conv, Gemm, MatMul) makes channels; every value behind it has a map that tells which of
 * them stands at each index of one of its axes. Concat puts maps side by side, Flatten repeats
 * entries, a residual Add makes the channels of both sides one. A group is the layers whose
 * channels became one; it is cut at the same channels everywhere or not at all. Groups that reach
 * the model's outputs or an operator not known here have a reason why they must stay.
 *
 * Types must be inferred before. The graph may change only through shr_channels_cut, once.
 * Thread: one. */
#ifndef SHR_PASSES_CHANNELS_H
#define SHR_PASSES_CHANNELS_H

#include "base/vec.h"
#include "passes/pass.h"

struct shr_channel_map { /* of one axis of a value */
    int32_t *channel;    /* (n): indices of shr_channels.list; -1 = one that must stay */
    int64_t n;
    int axis, rank;
};

enum shr_channel_role {
    SHR_CHANNEL_OUT,    /* weights: the axis of a layer's outputs */
    SHR_CHANNEL_IN,     /* weights: the axis of its inputs */
    SHR_CHANNEL_FILTER, /* weights of a depthwise Conv: one filter a channel */
    SHR_CHANNEL_BIAS,   /* added to channels; BatchNormalization's beta */
    SHR_CHANNEL_GAMMA,  /* BatchNormalization's */
    SHR_CHANNEL_VECTOR, /* any other number a channel */
    SHR_CHANNEL_NUMBER, /* Conv's attribute "group" */
    SHR_CHANNEL_SHAPE,  /* of Reshape; its last element */
};

struct shr_channel_use { /* what shrinks with the channels of a map */
    enum shr_channel_role role;
    struct shr_node *node;
    size_t slot; /* a constant of the node */
    int axis;    /* of the constant */
    const struct shr_channel_map *map;
};

struct shr_channel {
    int32_t same;  /* the lowest channel that is known to be one with this; itself = none */
    int32_t layer; /* that made it */
    int32_t index; /* of channels that are themselves: position among those of all groups */
};

struct shr_channel_layer {
    const struct shr_node *node;
    int32_t same; /* as of channels: the first layer of its group */
    size_t group;
    const char *why; /* of the first layer: the group must stay; NULL = it may be cut */
};

struct shr_channel_group {
    const struct shr_channel_layer *layer; /* the first */
    int64_t first, n; /* its channels have index first to first + n - 1, in the layers' order */
    int64_t elements; /* set by shr_channels_cut: of constants, that were removed or zeroed */
};

struct shr_channels { /* all zero = empty and valid */
    struct shr_arena arena;
    struct shr_map maps; /* name of a value -> struct shr_channel_map */
    SHR_VEC(struct shr_channel) list;
    SHR_VEC(struct shr_channel_layer) layers;
    SHR_VEC(struct shr_channel_group) groups; /* in the order of their first layers */
    SHR_VEC(struct shr_channel_use) uses;
    int64_t n; /* channels of all groups, those that are one counted once */
};

/* nodes: as for shr_nodes_excluded; a group with a layer or filter that is excluded must stay. */
int shr_channels_find(struct shr_channels *ret, struct shr_model *model,
                      const struct shr_arg *nodes, struct shr_err *err) SHR_MUSTCHECK;
void shr_channels_finish(struct shr_channels *c);

/* The index of the channel at an entry of a map, and its group; entry >= 0. */
int64_t shr_channels_index(struct shr_channels *c, int32_t entry);
struct shr_channel_group *shr_channels_group(struct shr_channels *c, int32_t entry);

/* Removes the channels whose gone[index] is 1 from all constants and types, or (remove false) sets
 * what makes them to zero: rows of weights, biases, gamma and beta. On failure the model is half
 * cut and good for nothing. */
int shr_channels_cut(struct shr_channels *c, struct shr_model *model, const unsigned char *gone,
                     bool remove, struct shr_err *err) SHR_MUSTCHECK;

#endif
