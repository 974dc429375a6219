/* BatchNormalization behind Conv, Gemm or MatMul [+ Add] becomes part of their weights and bias:
 *     s = gamma / sqrt(var + epsilon), W' = W s along the outputs, b' = (b - mean) s + beta
 * computed in double. Not folded: training mode, weights that are not constant float32, results
 * that others read before the normalization. */
#include <math.h>
#include <string.h>

#include "passes/edit.h"

struct batchnorm {
    struct shr_node *node;
    int64_t n;            /* channels */
    double *scale, *bias; /* (n): s and beta - mean s */
};

struct linear {                        /* what the normalization is folded into */
    struct shr_node *weighted, *adder; /* adder: where the bias is; NULL = none yet (MatMul) */
    size_t bias_slot;
    int axis; /* of the weight: its outputs */
};

static const struct shr_tensor *f32_in(const struct shr_node *node, size_t slot)
{
    struct shr_value *v = shr_node_in(node, slot);
    return shr_value_is_constant(v) && v->constant.dtype == SHR_DTYPE_F32 ? &v->constant : NULL;
}

/* *ret_why: NULL = fine, else why it cannot be folded. */
static int read_batchnorm(struct batchnorm *bn, struct shr_arena *arena, const char **ret_why,
                          struct shr_err *err)
{
    const struct shr_tensor *in[4];
    *ret_why = NULL;
    for (size_t i = 0; i < 4; i++) {
        in[i] = f32_in(bn->node, i + 1);
        if (in[i] == NULL || in[i]->rank != 1 || in[i]->dim[0] != in[0]->dim[0]) {
            *ret_why = "its parameters are not constant float32 vectors of one length";
            return SHR_OK;
        }
    }
    for (size_t i = 1; i < bn->node->n_out; i++) {
        if (bn->node->out[i] != NULL) {
            *ret_why = "it is in training mode";
            return SHR_OK;
        }
    }
    if (shr_node_int(bn->node, "training_mode", 0) != 0 ||
        shr_node_int(bn->node, "spatial", 1) != 1) {
        *ret_why = "it is in training mode or not per channel";
        return SHR_OK;
    }
    bn->n = in[0]->dim[0];
    bn->scale = shr_arena_new(arena, (size_t)bn->n, sizeof *bn->scale);
    bn->bias = shr_arena_new(arena, (size_t)bn->n, sizeof *bn->bias);
    if (bn->scale == NULL || bn->bias == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory while batchnorms are folded");
    }
    double epsilon = (double)shr_node_float(bn->node, "epsilon", 1e-5f);
    for (int64_t c = 0; c < bn->n; c++) {
        bn->scale[c] = shr_tensor_get(in[0], c) / sqrt(shr_tensor_get(in[3], c) + epsilon);
        bn->bias[c] = shr_tensor_get(in[1], c) - shr_tensor_get(in[2], c) * bn->scale[c];
    }
    return SHR_OK;
}

/* Conv, Gemm, MatMul, or Add of a constant behind MatMul, read by the normalization alone. */
static bool find_linear(const struct shr_node *bn, struct linear *ret)
{
    struct shr_value *x = shr_node_in(bn, 0);
    struct shr_node *node = x->producer;
    if (shr_edit_reader(x) != bn) {
        return false;
    }
    *ret = (struct linear){.weighted = node, .adder = node, .bias_slot = 2};
    if (shr_node_is(node, "Conv")) {
        return true;
    }
    if (shr_node_is(node, "Gemm")) {
        ret->axis = shr_node_int(node, "transB", 0) != 0 ? 0 : 1;
        return true;
    }
    if (shr_node_is(node, "Add")) {
        ret->bias_slot = f32_in(node, 0) != NULL ? 0 : 1;
        struct shr_value *product = shr_node_in(node, 1 - ret->bias_slot);
        ret->weighted = product->producer;
        if (f32_in(node, ret->bias_slot) == NULL || shr_edit_reader(product) != node) {
            return false;
        }
    } else {
        ret->adder = NULL;
    }
    ret->axis = 1;
    return shr_node_is(ret->weighted, "MatMul") && x->type.rank == 2;
}

static int scale_weight(struct shr_graph *g, const struct linear *l, const struct batchnorm *bn,
                        struct shr_err *err)
{
    struct shr_tensor w = shr_tensor_ref(f32_in(l->weighted, 1));
    int code = shr_tensor_own(&w, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&w);
        return code;
    }
    int64_t inner = 1, n = shr_tensor_count(&w);
    for (int d = l->axis + 1; d < w.rank; d++) {
        inner *= w.dim[d];
    }
    float *x = w.data;
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)((double)x[i] * bn->scale[i / inner % bn->n]);
    }
    return shr_edit_constant(g, l->weighted, 1, w, err);
}

/* bias (n) becomes bias * s + (beta - mean s) / factor, factor being Gemm's beta. */
static void shift_bias(struct shr_tensor *bias, const struct batchnorm *bn, double factor)
{
    float *b = bias->data;
    for (int64_t c = 0; c < bn->n; c++) {
        b[c] = (float)((double)b[c] * bn->scale[c] + bn->bias[c] / factor);
    }
}

/* The bias goes where it was, or into a new slot, or into an Add in the place of the batchnorm. */
static int put_bias(struct shr_graph *g, const struct linear *l, const struct batchnorm *bn,
                    struct shr_tensor take_bias, struct shr_err *err)
{
    int code = SHR_OK;
    if (l->adder != NULL && shr_node_in(l->adder, l->bias_slot) != NULL) {
        code = shr_edit_constant(g, l->adder, l->bias_slot, take_bias, err);
        if (code == SHR_OK) {
            shr_edit_bypass(g, bn->node, shr_node_in(bn->node, 0));
        }
        return code;
    }
    struct shr_value *b = NULL;
    code = shr_graph_add_constant(g, shr_node_in(bn->node, 2)->name, take_bias, &b, err);
    if (code == SHR_OK && l->adder != NULL) {
        code = shr_node_resize_inputs(g, l->adder, 3, err);
        if (code == SHR_OK) {
            shr_node_set_input(l->adder, 2, b);
            shr_edit_bypass(g, bn->node, shr_node_in(bn->node, 0));
        }
    } else if (code == SHR_OK) {
        struct shr_node *next = bn->node->next;
        struct shr_value *in[2] = {shr_node_in(bn->node, 0), b}, *out = shr_node_out(bn->node, 0);
        const char *name = bn->node->name;
        shr_graph_remove_node(g, bn->node);
        code = shr_graph_add_node(g, next, "", "Add", name, in, 2, &out, 1, NULL, err);
    }
    return code;
}

static int fold_one(struct shr_graph *g, struct batchnorm *bn, struct shr_arena *arena,
                    struct shr_report *report, struct shr_err *err)
{
    char label[128], into[128];
    shr_node_label(bn->node, label, sizeof label);
    struct linear l = {0};
    const char *why = NULL;
    int code = read_batchnorm(bn, arena, &why, err);
    if (code != SHR_OK) {
        return code;
    }
    if (why == NULL && !find_linear(bn->node, &l)) {
        why = "no Conv, Gemm or MatMul that it could go into is before it";
    }
    if (why == NULL && shr_node_out(bn->node, 0)->captured) {
        why = "a subgraph reads its result";
    }
    const struct shr_tensor *w = why == NULL ? f32_in(l.weighted, 1) : NULL;
    if (why == NULL && (w == NULL || w->rank <= l.axis || w->dim[l.axis] != bn->n)) {
        why = "the weights before it are not constant float32 of its channels";
    }
    double beta = why == NULL && shr_node_is(l.weighted, "Gemm")
                      ? (double)shr_node_float(l.weighted, "beta", 1)
                      : 1;
    struct shr_value *old = l.adder != NULL ? shr_node_in(l.adder, l.bias_slot) : NULL;
    struct shr_tensor bias = {0};
    bool fits = why == NULL && beta != 0 && (old == NULL || shr_value_is_constant(old));
    if (fits) {
        code = shr_edit_bias(old != NULL ? &old->constant : NULL, bn->n, 1, &fits, &bias, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    if (!fits) {
        shr_report_note(report, SHR_NOTE_SKIPPED, label, "%s",
                        why != NULL ? why : "the bias before it is not a constant vector");
        return SHR_OK;
    }
    shr_node_label(l.weighted, into, sizeof into);
    code = scale_weight(g, &l, bn, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&bias);
        return code;
    }
    shift_bias(&bias, bn, beta);
    code = put_bias(g, &l, bn, bias, err);
    if (code == SHR_OK) {
        shr_report_note(report, SHR_NOTE_DONE, label, "folded into %s", into);
    }
    return code;
}

int shr_fold_batchnorm(struct shr_model *model, struct shr_report *report, struct shr_err *err)
{
    struct shr_graph *g = &model->graph;
    struct shr_arena arena = {0};
    int code = SHR_OK;
    for (struct shr_node *node = g->first_node, *next; node != NULL && code == SHR_OK;
         node = next) {
        next = node->next;
        if (shr_node_is(node, "BatchNormalization")) {
            struct batchnorm bn = {.node = node};
            code = fold_one(g, &bn, &arena, report, err);
        }
    }
    shr_arena_finish(&arena);
    return code;
}
