/* The `nodes` filter: which nodes a pass may work on. Thread: any. */
#include <fnmatch.h>
#include <string.h>

#include "passes/pass.h"

static bool matches_any(const struct shr_arg *globs, const char *name)
{
    for (size_t i = 0; i < globs->n_texts; i++) {
        if (fnmatch(globs->texts[i], name, 0) == 0) {
            return true;
        }
    }
    return false;
}

bool shr_arg_lists(const struct shr_arg *list, const char *text)
{
    for (size_t i = 0; i < list->n_texts; i++) {
        if (strcmp(list->texts[i], text) == 0) {
            return true;
        }
    }
    return false;
}

const char *shr_nodes_excluded(const struct shr_node *node, const struct shr_arg *nodes)
{
    const struct shr_arg *include = &nodes[0], *exclude = &nodes[1], *op_types = &nodes[2];
    if (op_types->n_texts > 0 && !shr_arg_lists(op_types, node->op_type)) {
        return "its operator is not in nodes.op_types";
    }
    if (include->n_texts > 0 && !matches_any(include, node->name)) {
        return "its name is not in nodes.include";
    }
    if (matches_any(exclude, node->name)) {
        return "its name is in nodes.exclude";
    }
    return NULL;
}
