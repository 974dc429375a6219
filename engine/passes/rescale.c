/* Scaling channels; see rescale.h. */
#include "passes/rescale.h"

#include <math.h>

/* The weights are `rows` times (per_row, area). An output channel is a row, and an input channel
 * one of the per_row of the row's group; for a matrix (K, N) the other way round. */
struct layout {
    int64_t rows, per_row, area;
    int64_t rows_of_group; /* rows that read the same inputs */
    bool rows_are_inputs;
};

static struct layout layout_of(const struct shr_node *node)
{
    const struct shr_tensor *w = &shr_node_in(node, 1)->constant;
    struct layout l = {.rows = w->dim[0], .per_row = w->dim[1], .area = 1};
    for (int d = 2; d < w->rank; d++) {
        l.area *= w->dim[d];
    }
    l.rows_of_group = l.rows;
    if (shr_node_is(node, "Conv")) {
        l.rows_of_group = l.rows / shr_node_int(node, "group", 1);
    } else {
        l.rows_are_inputs = shr_node_int(node, "transB", 0) == 0;
    }
    return l;
}

/* The channel of the weights [row][i], area of them. */
static int64_t channel_of(const struct layout *l, enum shr_side side, int64_t row, int64_t i)
{
    if (l->rows_are_inputs) {
        return side == SHR_SIDE_IN ? row : i;
    }
    return side == SHR_SIDE_OUT ? row : row / l->rows_of_group * l->per_row + i;
}

const char *shr_rescale_obstacle(const struct shr_node *node)
{
    bool conv = shr_node_is(node, "Conv");
    const struct shr_value *w = shr_node_in(node, 1), *bias = shr_node_in(node, 2);
    if (!conv && !shr_node_is(node, "Gemm") && !shr_node_is(node, "MatMul")) {
        return "it is no Conv, Gemm or MatMul";
    }
    if (!shr_value_is_constant(w) || w->constant.dtype != SHR_DTYPE_F32 ||
        shr_tensor_count(&w->constant) == 0 || !shr_edit_all_finite(&w->constant)) {
        return "its weights are not constant and finite float32";
    }
    if (shr_value_single_use(w) != node) {
        return "its weights are shared";
    }
    int64_t group = conv ? shr_node_int(node, "group", 1) : 1;
    if ((conv ? w->constant.rank < 3 : w->constant.rank != 2) || group < 1 ||
        w->constant.dim[0] % group != 0 || shr_node_int(node, "transA", 0) != 0) {
        return "it is not of the usual form";
    }
    const int64_t n = shr_rescale_channels(node, SHR_SIDE_OUT);
    if (bias != NULL && (!shr_value_is_constant(bias) || bias->constant.dtype != SHR_DTYPE_F32 ||
                         bias->constant.rank > 2 ||
                         (shr_tensor_count(&bias->constant) != 1 &&
                          (shr_tensor_count(&bias->constant) != n ||
                           bias->constant.dim[bias->constant.rank - 1] != n)))) {
        return "its bias is not a constant vector";
    }
    return NULL;
}

int64_t shr_rescale_channels(const struct shr_node *node, enum shr_side side)
{
    const struct layout l = layout_of(node);
    if (l.rows_are_inputs) {
        return side == SHR_SIDE_IN ? l.rows : l.per_row;
    }
    return side == SHR_SIDE_OUT ? l.rows : l.rows / l.rows_of_group * l.per_row;
}

void shr_rescale_ranges(const struct shr_node *node, enum shr_side side, double *most)
{
    const struct layout l = layout_of(node);
    const float *w = shr_node_in(node, 1)->constant.data;
    for (int64_t row = 0; row < l.rows; row++) {
        for (int64_t i = 0; i < l.per_row; i++) {
            float top = 0;
            for (int64_t a = 0; a < l.area; a++, w++) {
                top = fabsf(*w) > top ? fabsf(*w) : top;
            }
            double *to = &most[channel_of(&l, side, row, i)];
            *to = (double)top > *to ? (double)top : *to;
        }
    }
}

static int scale_bias(struct shr_graph *g, struct shr_node *node, const double *factor,
                      struct shr_err *err)
{
    const struct shr_value *old = shr_node_in(node, 2);
    if (old == NULL) {
        return SHR_OK;
    }
    struct shr_tensor bias = {0};
    bool fits = false;
    int code = shr_edit_bias(&old->constant, shr_rescale_channels(node, SHR_SIDE_OUT), 1, &fits,
                             &bias, err);
    if (code != SHR_OK || !fits) {
        return code != SHR_OK
                   ? code
                   : shr_err_set(err, SHR_ERR_INTERNAL, "bias '%s' is no vector", old->name);
    }
    float *b = bias.data;
    for (int64_t c = 0; c < bias.dim[0]; c++) {
        b[c] = (float)((double)b[c] * factor[c]);
    }
    return shr_edit_constant(g, node, 2, bias, err);
}

int shr_rescale(struct shr_graph *g, struct shr_node *node, enum shr_side side,
                const double *factor, struct shr_err *err)
{
    const struct layout l = layout_of(node);
    struct shr_tensor w = shr_tensor_ref(&shr_node_in(node, 1)->constant);
    int code = shr_tensor_own(&w, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&w);
        return code;
    }
    float *x = w.data;
    for (int64_t row = 0; row < l.rows; row++) {
        for (int64_t i = 0; i < l.per_row; i++) {
            const double f = factor[channel_of(&l, side, row, i)];
            for (int64_t a = 0; a < l.area; a++, x++) {
                *x = (float)((double)*x * f);
            }
        }
    }
    code = shr_edit_constant(g, node, 1, w, err);
    return code == SHR_OK && side == SHR_SIDE_OUT ? scale_bias(g, node, factor, err) : code;
}
