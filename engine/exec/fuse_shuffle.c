/* The channel shuffle of ShuffleNet, spelled by Reshape, Transpose and Reshape, becomes one step
 * that works on any layout. */
#include <string.h>

#include "exec/fuse.h"

/* The node that made the first operand, of the type and read by this one alone; else NULL. */
static struct shr_node *maker(const struct shr_node *node, const char *op_type)
{
    const struct shr_value *v = shr_node_in(node, 0);
    return v != NULL && shr_node_is(v->producer, op_type) && shr_value_single_use(v) == node
               ? v->producer
               : NULL;
}

/* Is wide x with its channels split, (N, groups, n, …)? */
static bool splits_channels(const struct shr_type *x, const struct shr_type *wide)
{
    bool fits = x->rank >= 3 && x->rank + 1 == wide->rank && x->rank <= SHR_MAX_RANK - 1 &&
                x->dim[0] == wide->dim[0] && wide->dim[1] > 0 &&
                x->dim[1] == wide->dim[1] * wide->dim[2];
    for (int d = 2; fits && d < x->rank; d++) {
        fits = x->dim[d] == wide->dim[d + 1];
    }
    return fits;
}

static bool swaps_groups(const struct shr_node *transpose, int rank)
{
    size_t n = 0;
    const int64_t *perm = shr_node_ints(transpose, "perm", &n);
    bool fits = perm != NULL && n == (size_t)rank;
    for (int d = 0; fits && d < rank; d++) {
        fits = perm[d] == (d == 1 ? 2 : d == 2 ? 1 : d);
    }
    return fits;
}

int shr__fuse_shuffles(struct shr_graph *g, struct shr_err *err)
{
    for (struct shr_node *node = g->first_node; node != NULL; node = node->next) {
        struct shr_node *transpose = shr_node_is(node, "Reshape") ? maker(node, "Transpose") : NULL;
        struct shr_node *split = transpose == NULL ? NULL : maker(transpose, "Reshape");
        if (split == NULL) {
            continue;
        }
        struct shr_value *x = shr_node_in(split, 0), *out = shr_node_out(node, 0);
        const struct shr_type *wide = &shr_node_out(split, 0)->type;
        if (!shr_type_equal(&x->type, &out->type) || !splits_channels(&x->type, wide) ||
            !swaps_groups(transpose, wide->rank) || shr_dtype_size(x->type.dtype) == 0) {
            continue;
        }
        int64_t groups = wide->dim[1];
        struct shr__cut cut = shr__fuse_cut(g, node);
        cut.attrs = NULL;
        int rc = shr__fuse_put(g, &cut, &shr__fused_shuffle, &x, 1, out, &node, err);
        if (rc == 0) {
            rc = shr_node_set_int(g, node, "groups", groups, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    shr_graph_drop_unused(g);
    return SHR_OK;
}
