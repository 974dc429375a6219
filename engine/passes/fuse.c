/* Fusing and tidying: MatMul + Add of a bias become Gemm; Identity and Dropout, which do nothing
 * when a model runs, go; pairs of Reshape, Flatten and Transpose become one or none.
 * Needs inferred types (ranks). */
#include <string.h>

#include "passes/edit.h"

static int tell(struct shr_report *report, const struct shr_node *node, const char *what)
{
    char label[128];
    shr_report_note(report, SHR_NOTE_DONE, shr_node_label(node, label, sizeof label), "%s", what);
    return SHR_OK;
}

static int bypass(struct shr_graph *g, struct shr_node *node, struct shr_report *report,
                  const char *what)
{
    struct shr_value *x = shr_node_in(node, 0);
    if (!shr_edit_can_bypass(shr_node_out(node, 0), x)) {
        return SHR_OK;
    }
    tell(report, node, what);
    shr_edit_bypass(g, node, x);
    return SHR_OK;
}

/* Dropout passes its input on unless it is told to train; its mask must not be read. */
static bool is_idle_dropout(const struct shr_node *node)
{
    struct shr_value *mask = shr_node_out(node, 1), *training = shr_node_in(node, 2);
    if (mask != NULL && (mask->n_uses > 0 || mask->is_output || mask->captured)) {
        return false;
    }
    return training == NULL ||
           (shr_value_is_constant(training) && shr_tensor_count(&training->constant) == 1 &&
            shr_tensor_get(&training->constant, 0) == 0);
}

/* ── MatMul + Add ───────────────────────────────────────────────────────────────────────────── */

static bool is_row(const struct shr_value *v, int64_t n)
{
    if (!shr_value_is_constant(v) || v->constant.rank > 2 || v->constant.rank < 1) {
        return false;
    }
    return shr_tensor_count(&v->constant) == n && v->constant.dim[v->constant.rank - 1] == n;
}

static int fuse_gemm(struct shr_graph *g, struct shr_node *add, struct shr_report *report,
                     struct shr_err *err)
{
    for (size_t slot = 0; slot < 2; slot++) {
        struct shr_value *product = shr_node_in(add, slot), *bias = shr_node_in(add, 1 - slot);
        struct shr_node *matmul = product->producer;
        if (!shr_node_is(matmul, "MatMul") || shr_edit_reader(product) != add) {
            continue;
        }
        struct shr_value *a = shr_node_in(matmul, 0), *b = shr_node_in(matmul, 1);
        if (a->type.rank != 2 || b->type.rank != 2 || a->type.dtype != SHR_DTYPE_F32 ||
            !is_row(bias, b->type.dim[1])) {
            continue;
        }
        struct shr_value *in[3] = {a, b, bias}, *out = shr_node_out(add, 0);
        struct shr_node *next = add->next;
        tell(report, add, "became the bias of the MatMul before it, as Gemm");
        shr_graph_remove_node(g, add);
        shr_graph_remove_node(g, matmul);
        return shr_graph_add_node(g, next, "", "Gemm", matmul->name, in, 3, &out, 1, NULL, err);
    }
    return SHR_OK;
}

/* ── Pairs ──────────────────────────────────────────────────────────────────────────────────── */

static int fuse_transposes(struct shr_graph *g, struct shr_node *node, struct shr_report *report,
                           struct shr_err *err)
{
    struct shr_node *first = shr_node_in(node, 0)->producer;
    size_t n = 0, n_first = 0;
    const int64_t *outer = shr_node_ints(node, "perm", &n);
    const int64_t *inner =
        shr_node_is(first, "Transpose") ? shr_node_ints(first, "perm", &n_first) : NULL;
    if (outer == NULL || inner == NULL || n != n_first || n > SHR_MAX_RANK) {
        return SHR_OK;
    }
    int64_t perm[SHR_MAX_RANK];
    bool identity = true;
    for (size_t i = 0; i < n; i++) {
        if (outer[i] < 0 || outer[i] >= (int64_t)n) { /* of unknown rank, so inference let it be */
            return SHR_OK;
        }
        perm[i] = inner[outer[i]];
        identity = identity && perm[i] == (int64_t)i;
    }
    struct shr_value *x = shr_node_in(first, 0);
    if (identity && shr_edit_can_bypass(shr_node_out(node, 0), x)) {
        tell(report, node, "undid the Transpose before it");
        shr_edit_bypass(g, node, x);
        return SHR_OK;
    }
    shr_node_set_input(node, 0, x);
    tell(report, node, "took the Transpose before it in");
    return shr_node_set_ints(g, node, "perm", perm, n, err);
}

static bool is_reshape(const struct shr_node *node)
{
    return shr_node_is(node, "Reshape") || shr_node_is(node, "Flatten");
}

/* A shape that does not take dimensions from the input. */
static bool has_whole_shape(const struct shr_node *reshape)
{
    struct shr_value *shape = shr_node_in(reshape, 1);
    if (!shr_value_is_constant(shape)) {
        return false;
    }
    for (int64_t i = 0; i < shr_tensor_count(&shape->constant); i++) {
        if (shr_tensor_get(&shape->constant, i) == 0) {
            return false;
        }
    }
    return true;
}

static int fuse_reshapes(struct shr_graph *g, struct shr_node *node, struct shr_report *report)
{
    struct shr_value *x = shr_node_in(node, 0);
    if (shr_node_is(node, "Flatten") && x->type.rank == 2 && shr_node_int(node, "axis", 1) == 1) {
        return bypass(g, node, report, "did nothing: its input is a matrix");
    }
    if (shr_node_is(node, "Reshape") && is_reshape(x->producer) && has_whole_shape(node)) {
        shr_node_set_input(node, 0, shr_node_in(x->producer, 0));
        tell(report, node, "took the reshape before it in");
    }
    return SHR_OK;
}

static int fuse_node(struct shr_graph *g, struct shr_node *node, struct shr_report *report,
                     struct shr_err *err)
{
    if (shr_node_is(node, "Identity")) {
        return bypass(g, node, report, "did nothing and was removed");
    }
    if (shr_node_is(node, "Dropout") && is_idle_dropout(node)) {
        return bypass(g, node, report, "does nothing outside training and was removed");
    }
    if (shr_node_is(node, "Add")) {
        return fuse_gemm(g, node, report, err);
    }
    if (shr_node_is(node, "Transpose")) {
        return fuse_transposes(g, node, report, err);
    }
    return is_reshape(node) ? fuse_reshapes(g, node, report) : SHR_OK;
}

int shr_fuse(struct shr_model *model, struct shr_report *report, struct shr_err *err)
{
    struct shr_graph *g = &model->graph;
    int code = SHR_OK;
    for (struct shr_node *node = g->first_node, *next; node != NULL && code == SHR_OK;
         node = next) {
        next = node->next;
        code = fuse_node(g, node, report, err);
    }
    return code;
}
