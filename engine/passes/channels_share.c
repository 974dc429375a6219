/* Vectors that several nodes share, as exporters make them of equal ones (zeros and ones of fresh
 * normalizations): each reader that computes with one gets its own, since sharing says nothing of
 * their channels. Those that are still equal after the cut are one again. Matrices that are shared
 * are tied weights, and stay so. See channels.h. */
#include <string.h>

#include "passes/channels.h"

static bool is_vector(const struct shr_value *v)
{
    if (!shr_value_is_constant(v) || !shr_dtype_is_float(v->constant.dtype) || v->captured ||
        v->is_output) {
        return false;
    }
    int axes = 0;
    for (int d = 0; d < v->constant.rank; d++) {
        axes += v->constant.dim[d] != 1;
    }
    return axes == 1;
}

static struct shr_value *constant_behind(struct shr_value *v)
{
    while (v != NULL && !shr_value_is_constant(v) && shr_node_is(v->producer, "Identity")) {
        v = shr_node_in(v->producer, 0);
    }
    return v;
}

static int give_own(struct shr_channel_copies *copies, struct shr_graph *g, struct shr_node *node,
                    size_t slot, struct shr_value *shared, struct shr_err *err)
{
    struct shr_channel_copy *copy = SHR_VEC_ADD(&copies->list);
    if (copy == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the copies of vectors");
    }
    struct shr_value *own = NULL;
    int code =
        shr_graph_add_constant(g, shared->name, shr_tensor_ref(&shared->constant), &own, err);
    if (code != SHR_OK) {
        copies->list.n--;
        return code;
    }
    *copy = (struct shr_channel_copy){shared->name, own};
    shr_node_set_input(node, slot, own);
    return SHR_OK;
}

int shr_channels_separate(struct shr_channel_copies *copies, struct shr_model *model,
                          struct shr_err *err)
{
    struct shr_graph *g = &model->graph;
    SHR_EACH_NODE (node, g) {
        for (size_t slot = 0; slot < node->n_in && !shr_channels_moves(node); slot++) {
            struct shr_value *v = shr_node_in(node, slot), *shared = constant_behind(v);
            if (!is_vector(shared) || v->is_output || v->captured ||
                (v == shared && v->n_uses == 1)) {
                continue;
            }
            int code = give_own(copies, g, node, slot, shared, err);
            if (code != SHR_OK) {
                return code;
            }
        }
    }
    if (copies->list.n > 0) {
        shr_graph_drop_unused(g);
    }
    return SHR_OK;
}

static bool equal(const struct shr_tensor *a, const struct shr_tensor *b)
{
    return a->dtype == b->dtype && shr_tensor_same_shape(a, b) &&
           memcmp(a->data, b->data, shr_tensor_bytes(a)) == 0;
}

void shr_channels_unite_copies(struct shr_channel_copies *copies, struct shr_model *model)
{
    for (size_t i = 0; i < copies->list.n; i++) {
        struct shr_channel_copy *a = &copies->list.v[i];
        for (size_t j = 0; j < i && a->value != NULL; j++) {
            struct shr_channel_copy *b = &copies->list.v[j];
            if (b->value == NULL || strcmp(a->of, b->of) != 0 ||
                !equal(&a->value->constant, &b->value->constant)) {
                continue;
            }
            shr_value_replace_uses(a->value, b->value);
            shr_graph_remove_value(&model->graph, a->value);
            a->value = NULL;
        }
    }
}

void shr_channels_finish_copies(struct shr_channel_copies *copies)
{
    SHR_VEC_FINISH(&copies->list);
}
