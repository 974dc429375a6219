/* What changes in a node when axes of its values become shorter: operands and attributes that hold
 * sizes or places. Called while constants and types are still as they were. See channels_walk.h. */
#include <string.h>

#include "ops/util.h"
#include "passes/channels_walk.h"
#include "passes/edit.h"

/* ── Lists of sizes ─────────────────────────────────────────────────────────────────────────── */

static int make_ints(const int64_t *from, int64_t n, enum shr_dtype dtype, struct shr_tensor *ret,
                     struct shr_err *err)
{
    int code = shr_tensor_new(dtype, 1, &n, ret, err);
    for (int64_t i = 0; code == SHR_OK && i < n; i++) {
        shr_tensor_set(ret, i, (double)from[i]);
    }
    return code;
}

/* Gives an input that holds integers others, of as many elements, for this node alone. */
static int set_ints(struct shr_channel_cut *cut, struct shr_node *node, size_t slot,
                    const int64_t *values, int64_t n, struct shr_err *err)
{
    struct shr_value *v = shr_node_in(node, slot), *own = NULL;
    struct shr_tensor t = {0};
    enum shr_dtype dtype = shr_value_is_constant(v) ? v->constant.dtype : SHR_DTYPE_I64;
    int code = make_ints(values, n, dtype, &t, err);
    if (code != SHR_OK) {
        return code;
    }
    if (shr_value_is_constant(v)) {
        return shr_edit_constant(&cut->model->graph, node, slot, t, err);
    }
    code = shr_graph_add_constant(&cut->model->graph, v->name, t, &own, err);
    if (code == SHR_OK) {
        shr_node_set_input(node, slot, own);
    }
    return code;
}

/* A list of sizes of y that is put together by Concat: the parts that are the same in both probes
 * and should be others are replaced. size: what each element should be. */
static int set_parts(struct shr_channel_cut *cut, struct shr_node *concat,
                     const struct shr_value *y, const int64_t *size, const bool *change, int64_t n,
                     struct shr_err *err)
{
    const struct shr_type *a = shr_channels_type(cut->c, 0, y),
                          *b = shr_channels_type(cut->c, 1, y);
    int64_t at = 0;
    for (size_t i = 0; i < concat->n_in; i++) {
        const struct shr_tensor *t = shr_channels_known(cut->c, shr_node_in(concat, i));
        int64_t each = t == NULL ? 1 : shr_tensor_count(t);
        bool all = t != NULL && t->rank == 1, any = false;
        for (int64_t k = at; k < at + each && k < n; k++) {
            all =
                all && a->dim[k] == b->dim[k] && (change[k] || shr_op_int_at(t, k - at) == size[k]);
            any = any || (change[k] && t != NULL && shr_op_int_at(t, k - at) != size[k] &&
                          shr_op_int_at(t, k - at) > 0);
        }
        if (all && any && at + each <= n) {
            int code = set_ints(cut, concat, i, size + at, each, err);
            if (code != SHR_OK) {
                return code;
            }
        }
        at += each;
    }
    return SHR_OK;
}

/* The same for a list made in another way: sizes as they are; for Reshape 0 where the size is that
 * of x at this index and -1 for one that is not known; for Expand 1 where x has the size already.
 * False: it cannot be said. */
static bool write_shape(const struct shr_channel_cut *cut, const struct shr_node *node,
                        int64_t *size, const bool *change)
{
    const struct shr_value *x = shr_node_in(node, 0), *y = shr_node_out(node, 0);
    const struct shr_type *a[2], *from[2];
    for (int i = 0; i < 2; i++) {
        a[i] = shr_channels_type(cut->c, i, y);
        from[i] = shr_channels_type(cut->c, i, x);
    }
    bool reshapes = shr_node_is(node, "Reshape");
    int open = 0, ahead = reshapes ? 0 : a[0]->rank - from[0]->rank;
    for (int d = 0; d < a[0]->rank; d++) {
        int k = d - ahead;
        bool copied = !(reshapes && change[d]) && k >= 0 && k < from[0]->rank &&
                      a[0]->dim[d] == from[0]->dim[k] && a[1]->dim[d] == from[1]->dim[k];
        bool fixed = a[0]->dim[d] == a[1]->dim[d];
        if (!reshapes && copied) {
            size[d] = 1;
        } else if (!fixed) {
            size[d] = copied ? 0 : -1;
            open += reshapes ? !copied : 2;
        }
    }
    return open <= 1;
}

/* What the sizes of an output become, and which change. False = none does. */
static bool new_sizes(const struct shr_channel_cut *cut, const struct shr_value *y, int64_t *size,
                      bool *change, int *ret_rank)
{
    const struct shr_channel_map *map = shr_channels_map(cut->c, y);
    bool any = false;
    for (int d = 0; map != NULL && d < map->rank; d++) {
        size[d] = shr_channels_kept(cut, map, d, map->dim[d]);
        change[d] = size[d] != map->dim[d];
        any = any || change[d];
    }
    *ret_rank = map == NULL ? 0 : map->rank;
    return any;
}

/* moves: node is a Reshape or an Expand. */
static int fix_list(struct shr_channel_cut *cut, struct shr_node *node, size_t slot, bool moves,
                    struct shr_err *err)
{
    int64_t size[SHR_MAX_RANK];
    bool change[SHR_MAX_RANK] = {false};
    int rank = 0;
    struct shr_value *list = shr_node_in(node, slot);
    if (list == NULL || !new_sizes(cut, shr_node_out(node, 0), size, change, &rank)) {
        return SHR_OK;
    }
    if (shr_value_is_constant(list) && shr_tensor_count(&list->constant) == rank) {
        for (int d = 0; d < rank; d++) {
            int64_t old = shr_op_int_at(&list->constant, d);
            size[d] = change[d] && old > 1 ? size[d] : old; /* 0, -1 and 1 follow by themselves */
        }
        return set_ints(cut, node, slot, size, rank, err);
    }
    int64_t wanted[SHR_MAX_RANK];
    memcpy(wanted, size, sizeof wanted);
    if (moves && write_shape(cut, node, size, change)) {
        return set_ints(cut, node, slot, size, rank, err);
    }
    return shr_node_is(list->producer, "Concat")
               ? set_parts(cut, list->producer, shr_node_out(node, 0), wanted, change, rank, err)
               : SHR_OK;
}

/* Reshape and Expand: the sizes are input 1. */
int shr_fix_shape(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err)
{
    return fix_list(cut, node, 1, true, err);
}

int shr_fix_fill(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err)
{
    return fix_list(cut, node, 0, false, err);
}

/* Resize: its last input may be sizes. */
int shr_fix_sizes(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err)
{
    return node->n_in > 3 ? fix_list(cut, node, 3, false, err) : SHR_OK;
}

/* ── Places along an axis ───────────────────────────────────────────────────────────────────── */

int shr_fix_split(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err)
{
    const struct shr_channel_map *x = shr_channels_map(cut->c, shr_node_in(node, 0));
    int64_t axis = shr_node_int(node, "axis", 0);
    axis += axis < 0 && x != NULL ? x->rank : 0;
    if (x == NULL || x->n_parts == 0 ||
        shr_channels_kept(cut, x, (int)axis, x->dim[axis]) == x->dim[axis]) {
        return SHR_OK;
    }
    int64_t *sizes = shr_mem_new(node->n_out + 1, sizeof *sizes);
    if (sizes == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < node->n_out; i++) {
        const struct shr_channel_map *y = shr_channels_map(cut->c, shr_node_out(node, i));
        sizes[i] = y == NULL ? 0 : shr_channels_kept(cut, y, (int)axis, y->dim[axis]);
    }
    int code = SHR_OK;
    struct shr_graph *g = &cut->model->graph;
    if (shr_model_opset(cut->model, "") < 13) {
        code = shr_node_set_ints(g, node, "split", sizes, node->n_out, err);
    } else if (shr_node_in(node, 1) != NULL) {
        code = set_ints(cut, node, 1, sizes, (int64_t)node->n_out, err);
    } else {
        struct shr_tensor t = {0};
        struct shr_value *v = NULL;
        char stem[128];
        shr_node_label(node, stem, sizeof stem);
        code = make_ints(sizes, (int64_t)node->n_out, SHR_DTYPE_I64, &t, err);
        code = code != SHR_OK ? code : shr_graph_add_constant(g, stem, t, &v, err);
        code = code != SHR_OK ? code : shr_node_resize_inputs(g, node, 2, err);
        if (code == SHR_OK) {
            shr_node_set_input(node, 1, v);
            shr_node_drop_attr(node, "num_outputs");
        }
    }
    shr_mem_free(sizes);
    return code;
}

/* The operands of a Slice: starts and ends of the axis that is cut are counted anew. */
int shr_fix_slice(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err)
{
    enum { MAX = SHR_MAX_RANK };
    const struct shr_channel_map *x = shr_channels_map(cut->c, shr_node_in(node, 0)),
                                 *y = shr_channels_map(cut->c, shr_node_out(node, 0));
    const struct shr_tensor *starts = shr_channels_known(cut->c, shr_node_in(node, 1)),
                            *ends = shr_channels_known(cut->c, shr_node_in(node, 2)),
                            *axes = shr_channels_known(cut->c, shr_node_in(node, 3));
    if (x == NULL || y == NULL || starts == NULL || ends == NULL ||
        shr_tensor_count(starts) > MAX) {
        return SHR_OK;
    }
    int64_t n = shr_tensor_count(starts), start[MAX], end[MAX];
    bool any = false;
    for (int64_t i = 0; i < n; i++) {
        int64_t axis = axes != NULL ? shr_op_int_at(axes, i) : i;
        axis += axis < 0 ? x->rank : 0;
        start[i] = shr_op_int_at(starts, i);
        end[i] = shr_op_int_at(ends, i);
        int64_t size = x->dim[axis], out = y->dim[axis];
        if (size < 0 || shr_channels_kept(cut, x, (int)axis, size) == size || size == out) {
            continue;
        }
        start[i] += start[i] < 0 ? size : 0;
        start[i] = start[i] < 0 ? 0 : start[i];
        int64_t first = shr_channels_kept(cut, x, (int)axis, start[i]);
        end[i] = shr_channels_kept(cut, x, (int)axis, start[i] + out);
        start[i] = first;
        any = true;
    }
    if (!any) {
        return SHR_OK;
    }
    int code = set_ints(cut, node, 1, start, n, err);
    return code == SHR_OK ? set_ints(cut, node, 2, end, n, err) : code;
}

/* A list of indices: those of channels that stay, counted anew. */
int shr_fix_gather(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err)
{
    const struct shr_channel_map *x = shr_channels_map(cut->c, shr_node_in(node, 0));
    const struct shr_value *list = shr_node_in(node, 1);
    int64_t axis = shr_node_int(node, "axis", 0);
    axis += axis < 0 && x != NULL ? x->rank : 0;
    if (x == NULL || x->n_parts == 0 || !shr_value_is_constant(list) || list->constant.rank != 1 ||
        shr_channels_kept(cut, x, (int)axis, x->dim[axis]) == x->dim[axis]) {
        return SHR_OK;
    }
    const struct shr_channel_part *p = shr_channel_part_of(x, (int)axis);
    int64_t count = shr_tensor_count(&list->constant), n = 0;
    int64_t *index = shr_mem_new((size_t)count + 1, sizeof *index);
    if (index == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t at = shr_op_int_at(&list->constant, i);
        at += at < 0 ? x->dim[axis] : 0;
        if (!shr_channels_is_gone(cut, shr_channel_at(p, (int)axis, at))) {
            index[n++] = shr_channels_kept(cut, x, (int)axis, at);
        }
    }
    int code = set_ints(cut, node, 1, index, n, err);
    shr_mem_free(index);
    return code;
}

/* ── Attributes ─────────────────────────────────────────────────────────────────────────────── */

/* Conv: where whole groups go there are fewer; where each becomes narrower the weights say it. */
int shr_fix_groups(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err)
{
    int64_t groups = shr_node_int(node, "group", 1);
    const struct shr_channel_map *x = shr_channels_map(cut->c, shr_node_in(node, 0));
    const struct shr_channel_part *p = shr_channel_part_of(x, 1);
    if (groups == 1 || p == NULL) {
        return SHR_OK;
    }
    int64_t width = x->dim[1] / groups, n = 0;
    for (int64_t i = 0; i < groups; i++) {
        int64_t in =
            shr_channels_kept(cut, x, 1, (i + 1) * width) - shr_channels_kept(cut, x, 1, i * width);
        n += in > 0;
    }
    return n == groups ? SHR_OK : shr_node_set_int(&cut->model->graph, node, "group", n, err);
}

int shr_fix_hidden(struct shr_channel_cut *cut, struct shr_node *node, struct shr_err *err)
{
    const struct shr_channel_map *r = shr_channels_map(cut->c, shr_node_in(node, 2));
    int64_t n = r == NULL || r->rank != 3 ? 0 : shr_channels_kept(cut, r, 2, r->dim[2]);
    return r == NULL || r->rank != 3 || n == r->dim[2]
               ? SHR_OK
               : shr_node_set_int(&cut->model->graph, node, "hidden_size", n, err);
}
