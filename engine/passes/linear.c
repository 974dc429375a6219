/* Products with a constant matrix; see linear.h. */
#include "passes/linear.h"

#include <math.h>
#include <stdio.h>

const char *shr_linear_obstacle(const struct shr_node *node)
{
    const struct shr_value *w = shr_node_in(node, 1), *bias = shr_node_in(node, 2);
    if (!shr_value_is_constant(w)) {
        return "its weights are not constant";
    }
    if (w->constant.dtype != SHR_DTYPE_F32 || w->constant.rank != 2 ||
        shr_tensor_count(&w->constant) == 0) {
        return "its weights are not a float32 matrix";
    }
    float beta = shr_node_float(node, "beta", 1);
    if (bias != NULL && beta != 1 &&
        (!shr_value_is_constant(bias) || bias->constant.dtype != SHR_DTYPE_F32)) {
        return "its bias is multiplied by beta and not constant";
    }
    const float largest = shr_edit_largest(&w->constant);
    if (!isfinite(largest)) {
        return "one of its weights is not finite";
    }
    return isfinite(shr_node_float(node, "alpha", 1) * largest)
               ? NULL
               : "one of its weights is not finite when multiplied by alpha";
}

int shr_linear_input(struct shr_graph *g, struct shr_node *node, struct shr_value **ret,
                     struct shr_err *err)
{
    struct shr_value *x = shr_node_in(node, 0);
    if (shr_node_int(node, "transA", 0) == 0) {
        *ret = x;
        return SHR_OK;
    }
    struct shr_node *transpose = NULL;
    char name[512];
    snprintf(name, sizeof name, "%.480s_transposed", x->name);
    int code = shr_edit_insert(g, node, "Transpose", name, &x, 1, name, &transpose, ret, err);
    return code != SHR_OK
               ? code
               : shr_node_set_ints(g, transpose, "perm", (const int64_t[]){1, 0}, 2, err);
}

int shr_linear_bias(struct shr_graph *g, const struct shr_node *node, struct shr_value **ret,
                    struct shr_err *err)
{
    struct shr_value *bias = shr_node_in(node, 2);
    float beta = shr_node_float(node, "beta", 1);
    *ret = beta != 0 ? bias : NULL;
    if (bias == NULL || beta == 1 || beta == 0) {
        return SHR_OK;
    }
    struct shr_tensor t = shr_tensor_ref(&bias->constant);
    int code = shr_tensor_own(&t, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&t);
        return code;
    }
    for (int64_t i = 0; i < shr_tensor_count(&t); i++) {
        shr_tensor_set(&t, i, shr_tensor_get(&t, i) * (double)beta);
    }
    return shr_graph_add_constant(g, bias->name, t, ret, err);
}

int shr_matrix_copy(const struct shr_tensor *w, bool transpose, float alpha, struct shr_tensor *ret,
                    struct shr_err *err)
{
    const int64_t rows = w->dim[transpose ? 1 : 0], columns = w->dim[transpose ? 0 : 1];
    struct shr_tensor copy = {0};
    int code = shr_tensor_new(SHR_DTYPE_F32, 2, (int64_t[]){rows, columns}, &copy, err);
    if (code != SHR_OK) {
        return code;
    }
    const float *from = w->data;
    float *to = copy.data;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            to[i * columns + j] = alpha * from[transpose ? j * rows + i : i * columns + j];
        }
    }
    *ret = copy;
    return SHR_OK;
}
