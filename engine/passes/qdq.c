/* Writing Q and DQ; see qdq.h. */
#include "passes/qdq.h"

#include <stdio.h>
#include <string.h>

#include "passes/edit.h"

enum { NAME_SIZE = 512 };

static const char *suffixed(char *text, const char *stem, const char *suffix)
{
    snprintf(text, NAME_SIZE, "%.500s%s", stem, suffix);
    return text;
}

/* A constant of this content: one that was written before, or a new one. */
static int shared_constant(struct shr_qdq *q, const char *stem, struct shr_tensor take_t,
                           struct shr_value **ret, struct shr_err *err)
{
    for (size_t i = 0; i < q->shared.n; i++) {
        const struct shr_tensor *old = &q->shared.v[i]->constant;
        if (old->dtype == take_t.dtype && shr_tensor_same_shape(old, &take_t) &&
            memcmp(old->data, take_t.data, shr_tensor_bytes(old)) == 0) {
            shr_tensor_finish(&take_t);
            *ret = q->shared.v[i];
            return SHR_OK;
        }
    }
    struct shr_value *v = NULL;
    int code = shr_graph_add_constant(q->g, stem, take_t, &v, err);
    struct shr_value **added = code == SHR_OK ? SHR_VEC_ADD(&q->shared) : NULL;
    if (added == NULL) {
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory for scales");
    }
    *ret = *added = v;
    return SHR_OK;
}

static int scalar(struct shr_qdq *q, const char *stem, enum shr_dtype dtype, double value,
                  struct shr_value **ret, struct shr_err *err)
{
    struct shr_tensor t = {0};
    int code = shr_tensor_new(dtype, 0, NULL, &t, err);
    if (code != SHR_OK) {
        return code;
    }
    shr_tensor_set(&t, 0, value);
    return shared_constant(q, stem, t, ret, err);
}

/* All uses of v but the one by node. */
static void redirect(struct shr_value *v, const struct shr_node *node, struct shr_value *to)
{
    for (struct shr_edge *use = v->uses, *next; use != NULL; use = next) {
        next = use->next;
        if (use->node != node) {
            shr_node_set_input(use->node, use->slot, to);
        }
    }
}

int shr_qdq_activation(struct shr_qdq *q, struct shr_value *v, enum shr_dtype dtype,
                       struct shr_quant_params params, struct shr_err *err)
{
    char name[NAME_SIZE];
    struct shr_value *scale = NULL, *zero = NULL, *quantized = NULL, *real = NULL;
    struct shr_node *before = v->producer != NULL ? v->producer->next : q->g->first_node;
    struct shr_node *q_node = NULL;
    int code =
        scalar(q, suffixed(name, v->name, "_s"), SHR_DTYPE_F32, (double)params.scale, &scale, err);
    if (code == SHR_OK) { /* always: it tells the type of Q's output */
        code = scalar(q, dtype == SHR_DTYPE_U8 ? "zu" : "zi", dtype, params.zero, &zero, err);
    }
    if (code == SHR_OK) {
        code = shr_edit_insert(q->g, before, "QuantizeLinear", "",
                               (struct shr_value *[]){v, scale, zero}, 3,
                               suffixed(name, v->name, "_q"), &q_node, &quantized, err);
    }
    if (code == SHR_OK) {
        code = shr_edit_insert(q->g, before, "DequantizeLinear", "",
                               (struct shr_value *[]){quantized, scale, zero}, 3,
                               suffixed(name, v->name, "_d"), NULL, &real, err);
    }
    if (code == SHR_OK) {
        redirect(v, q_node, real);
    }
    return code;
}

int shr_qdq_constant(struct shr_qdq *q, struct shr_node *node, size_t slot, const char *stem,
                     struct shr_tensor take_q, struct shr_tensor take_scale, int axis,
                     struct shr_value **ret_value, struct shr_err *err)
{
    char name[NAME_SIZE];
    struct shr_value *in[3] = {NULL, NULL, NULL}, *real = NULL;
    bool byte = take_q.dtype == SHR_DTYPE_I8;
    struct shr_tensor zero = {0};
    struct shr_node *dq = NULL;
    int code = shr_graph_add_constant(q->g, suffixed(name, stem, "_q"), take_q, &in[0], err);
    if (code != SHR_OK) {
        shr_tensor_finish(&take_scale);
        return code;
    }
    if (byte) { /* Runtimes do not find the integer product where it is left out */
        code = shr_tensor_new(SHR_DTYPE_I8, take_scale.rank, take_scale.dim, &zero, err);
    }
    if (code != SHR_OK) {
        shr_tensor_finish(&take_scale);
        return code;
    }
    code = shared_constant(q, suffixed(name, stem, "_s"), take_scale, &in[1], err);
    if (!byte || code != SHR_OK) {
        shr_tensor_finish(&zero);
    } else {
        code = shared_constant(q, suffixed(name, stem, "_z"), zero, &in[2], err);
    }
    if (code == SHR_OK) {
        code = shr_edit_insert(q->g, node, "DequantizeLinear", "", in, byte ? 3 : 2,
                               suffixed(name, stem, "_d"), &dq, &real, err);
    }
    if (code == SHR_OK && axis >= 0 && axis != 1) { /* 1 is the default */
        code = shr_node_set_int(q->g, dq, "axis", axis, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    shr_node_set_input(node, slot, real);
    if (ret_value != NULL) {
        *ret_value = real;
    }
    return SHR_OK;
}

void shr_qdq_finish(struct shr_qdq *q)
{
    SHR_VEC_FINISH(&q->shared);
}
