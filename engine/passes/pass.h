/* Passes: rows of the pass table and the parts they share.
 *
 * A pass works on a clone of its model and returns it whole or not at all. Its parameters are a
 * table (shrink.h: struct shr_param) with an enum of the same order in the pass's file, so that a
 * value is args->v[AMOUNT]. What it did, and what it left alone and why, goes into the report. */
#ifndef SHR_PASSES_PASS_H
#define SHR_PASSES_PASS_H

#include "graph/graph.h"
#include "ops/op.h"
#include "shrink.h"

extern const struct shr_pass shr_pass_optimize;
extern const struct shr_pass shr_pass_quantize_dynamic;
extern const struct shr_pass shr_pass_quantize_static;
extern const struct shr_pass shr_pass_prune_unstructured;

/* The `nodes` filter that every pass with one has: include and exclude are globs on node names
 * (fnmatch), op_types a list; empty include or op_types = all. Rows for a parameter table: */
#define SHR_PARAMS_NODES                                                                           \
    {"include", SHR_PARAM_LIST, "", 0, 0, NULL, "Node names (globs) to work on; empty means all"}, \
    {                                                                                              \
        "exclude", SHR_PARAM_LIST, "", 0, 0, NULL, "Node names (globs) to leave alone"             \
    }

/* NULL when the node is to be worked on, else the reason it is not (static text). */
const char *shr_nodes_excluded(const struct shr_node *node, const struct shr_arg *include,
                               const struct shr_arg *exclude, const struct shr_arg *op_types);

#endif
