/* Passes: rows of the pass table and the parts they share.
 *
 * A pass returns a new model, whole or not at all: shr_pass_run gives `edit` a clone to change. Its
 * parameters are a table (shrink.h: struct shr_param) with an enum of the same order in the pass's
 * file, so that a value is args->v[AMOUNT]. What it did, and what it left alone and why, goes into
 * the report. */
#ifndef SHR_PASSES_PASS_H
#define SHR_PASSES_PASS_H

#include "graph/graph.h"
#include "ops/op.h"
#include "shrink.h"

extern const struct shr_pass shr_pass_optimize;
extern const struct shr_pass shr_pass_quantize_dynamic;
extern const struct shr_pass shr_pass_quantize_static;
extern const struct shr_pass shr_pass_quantize_aware;
extern const struct shr_pass shr_pass_quantize_weights;
extern const struct shr_pass shr_pass_convert;
extern const struct shr_pass shr_pass_prune_unstructured;
extern const struct shr_pass shr_pass_prune_structured;
extern const struct shr_pass shr_pass_compact;
extern const struct shr_pass shr_pass_distill;
extern const struct shr_pass shr_pass_finetune;

/* The `nodes` filter that every pass with one has: include and exclude are globs on node names
 * (fnmatch), op_types a list; empty include or op_types = all. A dot in a parameter's name makes a
 * group: {"nodes": {"include": ["fc*"]}}. Rows for the end of a parameter table, and the
 * enumerators for an enum of the same order: */
/* clang-format off */
#define SHR_PARAMS_NODES                                                                           \
    {"nodes.include", SHR_PARAM_LIST, "", 0, 0, NULL,                                              \
     "Node names (globs) to work on; empty means all"},                                            \
    {"nodes.exclude", SHR_PARAM_LIST, "", 0, 0, NULL, "Node names (globs) to leave alone"},        \
    {"nodes.op_types", SHR_PARAM_LIST, "", 0, 0, NULL,                                             \
     "Operators to work on; empty means all that the pass knows"}
/* clang-format on */
#define SHR_ARGS_NODES ARG_NODES, ARG_NODES_EXCLUDE, ARG_NODES_OP_TYPES

/* NULL when the node is to be worked on, else the reason it is not (static text). nodes: the first
 * of the three values of SHR_PARAMS_NODES. */
const char *shr_nodes_excluded(const struct shr_node *node, const struct shr_arg *nodes);

/* Is the text an element of a LIST? */
bool shr_arg_lists(const struct shr_arg *list, const char *text);

#endif
