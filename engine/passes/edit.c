/* Small edits; see edit.h. */
#include "passes/edit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int shr_edit_constant(struct shr_graph *g, struct shr_node *node, size_t slot,
                      struct shr_tensor take_tensor, struct shr_err *err)
{
    struct shr_value *v = shr_node_in(node, slot);
    if (shr_value_single_use(v) == node) {
        shr_value_set_constant(v, take_tensor);
        return SHR_OK;
    }
    struct shr_value *own = NULL;
    int code = shr_graph_add_constant(g, v->name, take_tensor, &own, err);
    if (code == SHR_OK) {
        shr_node_set_input(node, slot, own);
    }
    return code;
}

int shr_edit_add_constant(struct shr_graph *g, const char *stem, const char *suffix,
                          struct shr_tensor *take_tensor, struct shr_value **ret,
                          struct shr_err *err)
{
    char name[512];
    snprintf(name, sizeof name, "%.480s%s", stem, suffix);
    const struct shr_tensor t = *take_tensor;
    *take_tensor = (struct shr_tensor){0};
    return shr_graph_add_constant(g, name, t, ret, err);
}

int shr_edit_bias(const struct shr_tensor *bias, int64_t n, double factor, bool *ret_ok,
                  struct shr_tensor *ret, struct shr_err *err)
{
    int64_t count = bias != NULL ? shr_tensor_count(bias) : 0;
    *ret_ok = bias == NULL || (bias->dtype == SHR_DTYPE_F32 && bias->rank <= 2 &&
                               (count == 1 || (count == n && bias->dim[bias->rank - 1] == n)));
    if (!*ret_ok) {
        return SHR_OK;
    }
    struct shr_tensor copy = {0};
    int code = shr_tensor_new(SHR_DTYPE_F32, 1, &n, &copy, err);
    if (code != SHR_OK) {
        return code;
    }
    for (int64_t i = 0; i < n && bias != NULL; i++) {
        shr_tensor_set(&copy, i, shr_tensor_get(bias, count == 1 ? 0 : i) * factor);
    }
    *ret = copy;
    return SHR_OK;
}

bool shr_edit_can_bypass(const struct shr_value *from, const struct shr_value *to)
{
    return to != NULL && !from->captured &&
           (!from->is_output || (to->producer != NULL && !to->is_output && !to->captured));
}

void shr_edit_bypass(struct shr_graph *g, struct shr_node *node, struct shr_value *value)
{
    shr_value_replace_uses(shr_node_out(node, 0), value);
    shr_graph_remove_node(g, node);
}

int shr_edit_replace(struct shr_graph *g, struct shr_node *node, struct shr_value *value,
                     struct shr_err *err)
{
    struct shr_value *out = shr_node_out(node, 0);
    if (!out->captured) {
        shr_edit_bypass(g, node, value);
        return SHR_OK;
    }
    struct shr_node *next = node->next;
    const char *name = node->name;
    shr_graph_remove_node(g, node);
    return shr_graph_add_node(g, next, "", "Identity", name, &value, 1, &out, 1, NULL, err);
}

int shr_edit_insert(struct shr_graph *g, struct shr_node *before, const char *op_type,
                    const char *name, struct shr_value *const *in, size_t n_in, const char *stem,
                    struct shr_node **ret_node, struct shr_value **ret_value, struct shr_err *err)
{
    struct shr_value *out = NULL;
    int code = shr_graph_fresh_value(g, stem, &out, err);
    if (code == SHR_OK) {
        code = shr_graph_add_node(g, before, "", op_type, name, in, n_in, &out, 1, ret_node, err);
    }
    if (code == SHR_OK) {
        *ret_value = out;
    }
    return code;
}

struct shr_node *shr_edit_reader(const struct shr_value *v)
{
    return v != NULL ? shr_value_single_use(v) : NULL;
}

float shr_edit_largest(const struct shr_tensor *t)
{
    const float *x = t->data;
    uint32_t most = 0; /* without its sign, a float orders as its bits; NaN is above infinity */
    for (int64_t i = 0, n = shr_tensor_count(t); i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= INT32_MAX;
        most = bits > most ? bits : most;
    }
    float largest;
    memcpy(&largest, &most, sizeof largest);
    return largest;
}

bool shr_edit_all_finite(const struct shr_tensor *t)
{
    return isfinite(shr_edit_largest(t));
}

int64_t shr_edit_parameters(const struct shr_model *model)
{
    int64_t n = 0;
    SHR_EACH_VALUE (v, &model->graph) {
        n += shr_value_is_parameter(v) ? shr_tensor_count(&v->constant) : 0;
    }
    return n;
}

int64_t shr_edit_macs(const struct shr_node *node)
{
    struct shr_type in[8];
    if (node->op == NULL || node->op->macs == NULL || node->n_in > SHR_COUNT_OF(in)) {
        return 0;
    }
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_value *v = shr_node_in(node, i);
        in[i] = (struct shr_type){.rank = -1};
        if (shr_value_is_constant(v)) {
            in[i] = (struct shr_type){.dtype = v->constant.dtype, .rank = v->constant.rank};
            memcpy(in[i].dim, v->constant.dim, sizeof in[i].dim);
        } else if (v != NULL) {
            in[i] = v->type;
        }
    }
    int64_t macs = node->op->macs(node, in, &node->out[0]->type);
    return macs > 0 ? macs : 0;
}
