/* Weights that quantize_dynamic only stores as integers, with DequantizeLinear where they are used;
 * the arithmetic stays in float. For operators that no runtime computes with integers:
 *   - Gather: of a table of integers, and the picked rows become real, with a scale for each column
 *     (few columns of an embedding are far larger than the rest);
 *   - GRU and RNN: W and R (directions, gates, inputs) with a scale for each gate, alike in both
 *     directions, since DequantizeLinear has one axis.
 * A table that a product reads too is quantized as the product needs it (dynamic_weight.c).
 * Thread: one. */
#include <stdio.h>

#include "passes/dynamic.h"

enum { TABLE = 0, W = 1, R = 2, NODE_BYTES = 256 };

/* NULL = v can be stored as integers in less space, else why not. */
static const char *weight_obstacle(const struct shr_value *v, int rank)
{
    if (!shr_value_is_constant(v)) {
        return "its weights are not constant";
    }
    const struct shr_tensor *t = &v->constant;
    if (t->dtype != SHR_DTYPE_F32 || t->rank != rank) {
        return rank == 2 ? "its table is not a float32 matrix"
                         : "its weights are not float32 of (directions, gates, inputs)";
    }
    if (3 * shr_tensor_count(t) < 4 * t->dim[1] + NODE_BYTES) {
        return "it would not be smaller";
    }
    return shr_edit_all_finite(t) ? NULL : "one of its weights is not finite";
}

const char *shr_dynamic_gather_obstacle(const struct shr_node *node)
{
    const char *why = weight_obstacle(shr_node_in(node, TABLE), 2);
    return why != NULL ? why : shr_node_int(node, "axis", 0) != 0 ? "it does not pick rows" : NULL;
}

const char *shr_dynamic_gru_obstacle(const struct shr_node *node)
{
    const char *why = weight_obstacle(shr_node_in(node, W), 3);
    return why != NULL ? why : weight_obstacle(shr_node_in(node, R), 3);
}

static int dequantize(struct shr_dynamic *d, struct shr_node *before, struct shr_value *q,
                      const struct shr_dynamic_weight *w, int64_t axis, struct shr_value **ret,
                      struct shr_err *err)
{
    struct shr_node *node = NULL;
    struct shr_value *in[3] = {q, w->scale, w->zero};
    char name[512];
    snprintf(name, sizeof name, "%.480s_DequantizeLinear", q->name);
    int code = shr_edit_insert(d->g, before, "DequantizeLinear", name, in, w->zero != NULL ? 3 : 2,
                               name, &node, ret, err);
    return code == SHR_OK && w->scale->constant.rank != 0
               ? shr_node_set_int(d->g, node, "axis", axis, err)
               : code;
}

/* The table as integers (rows, columns). */
static int table_of(struct shr_dynamic *d, struct shr_node *node, struct shr_dynamic_weight *w,
                    struct shr_value **ret, struct shr_err *err)
{
    const struct shr_value *v = shr_node_in(node, TABLE);
    int code = SHR_OK;
    if (!shr_dynamic_find(d, v, w)) {
        const struct shr_node *product = shr_dynamic_product_of(v);
        const bool transposed = product != NULL && shr_node_int(product, "transB", 0) != 0;
        code = product == NULL ? shr_dynamic_stored(d, v, w, err)
                               : shr_dynamic_matrix(d, v, transposed, 1, w, err);
    }
    *ret = w->q;
    return code == SHR_OK && w->transposed ? shr_edit_insert(d->g, node, "Transpose", w->q->name,
                                                             &w->q, 1, w->q->name, NULL, ret, err)
                                           : code;
}

int shr_dynamic_gather(struct shr_dynamic *d, struct shr_node *node, struct shr_err *err)
{
    struct shr_dynamic_weight w = {0};
    struct shr_value *table = NULL, *rows = NULL, *real = NULL;
    char name[512];
    snprintf(name, sizeof name, "%.480s_quant",
             node->name[0] != 0 ? node->name : shr_node_out(node, 0)->name);
    int code = table_of(d, node, &w, &table, err);
    if (code == SHR_OK) {
        code = shr_edit_insert(d->g, node, "Gather", name,
                               (struct shr_value *[]){table, shr_node_in(node, 1)}, 2, name, NULL,
                               &rows, err);
    }
    if (code == SHR_OK) {
        code = dequantize(d, node, rows, &w, -1, &real, err);
    }
    return code == SHR_OK ? shr_edit_replace(d->g, node, real, err) : code;
}

int shr_dynamic_gru(struct shr_dynamic *d, struct shr_node *node, struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t slot = W; slot <= R && code == SHR_OK; slot++) {
        struct shr_dynamic_weight w = {0};
        struct shr_value *real = NULL;
        code = shr_dynamic_stored(d, shr_node_in(node, slot), &w, err);
        if (code == SHR_OK) {
            code = dequantize(d, node, w.q, &w, 1, &real, err);
        }
        if (code == SHR_OK) {
            shr_node_set_input(node, slot, real);
        }
    }
    return code;
}
