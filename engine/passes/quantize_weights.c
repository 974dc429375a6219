/* quantize_weights: weights of 4 or 8 bits with a scale for each block, computed with as float.
 *
 * MatMul and Gemm with a constant matrix become com.microsoft's MatMulNBits, Gather of a constant
 * matrix its GatherBlockQuantized. Both read a matrix by rows, so that one that a Gemm shares with
 * a Gather, as tied embeddings do, is quantized and stored once. Thread: one. */
#include <stdio.h>

#include "base/vec.h"
#include "passes/block_quant.h"
#include "passes/linear.h"

enum { ARG_BITS, ARG_BLOCK, ARG_SYMMETRIC, ARG_SEARCH, ARG_OPS, SHR_ARGS_NODES };

static const char *const bits_choices[] = {"4", "8", NULL};
static const char *const block_choices[] = {"16", "32", "64", "128", "256", NULL};

static const struct shr_param params[] = {
    {"bits", SHR_PARAM_ENUM, "4", 0, 0, bits_choices, "Of a weight"},
    {"block_size", SHR_PARAM_ENUM, "32", 0, 0, block_choices,
     "Weights that share a scale; fewer are more accurate and larger"},
    {"symmetric", SHR_PARAM_BOOL, "false", 0, 0, NULL, "No zero points: smaller, less accurate"},
    {"search", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Look for the scale with the least squared error; else the range's"},
    {"op_types", SHR_PARAM_LIST, "MatMul,Gemm,Gather", 0, 0, NULL, "Operators to quantize"},
    SHR_PARAMS_NODES,
};

struct matrix { /* a quantized constant, (rows, K) */
    const struct shr_value *w;
    bool transposed; /* its columns are the rows */
    float alpha;
    struct shr_value *blocks, *flat; /* (rows, blocks, bytes), (rows, bytes); NULL until needed */
    struct shr_value *scale, *zero;  /* zero NULL = symmetric */
};

struct weights {
    struct shr_model *model;
    struct shr_graph *g; /* the model's */
    struct shr_block_how how;
    const struct shr_ctx *ctx;
    struct shr_report *report;
    SHR_VEC(struct matrix) done;
};

/* ── What can be quantized ──────────────────────────────────────────────────────────────────── */

static const char *gather_obstacle(const struct weights *p, const struct shr_node *node)
{
    const struct shr_value *w = shr_node_in(node, 0);
    if (!shr_value_is_constant(w)) {
        return "its table is not constant";
    }
    const struct shr_tensor *t = &w->constant;
    if (t->dtype != SHR_DTYPE_F32 || t->rank != 2 || shr_tensor_count(t) == 0) {
        return "its table is not a float32 matrix";
    }
    if (shr_node_int(node, "axis", 0) != 0) {
        return "it does not pick rows";
    }
    return t->dim[1] % p->how.block != 0 ? "its rows are not whole blocks" : NULL;
}

/* Is the quantized form smaller? A short row is filled up to a block. */
static bool pays(const struct weights *p, int64_t rows, int64_t k)
{
    const int64_t blocks = (k + p->how.block - 1) / p->how.block;
    const int64_t zeros = p->how.symmetric ? 0 : (blocks * p->how.bits + 7) / 8;
    return blocks * (p->how.block * p->how.bits / 8 + 4) + zeros < 4 * k && rows > 0;
}

/* NULL = can be quantized, else why not. */
static const char *obstacle(const struct weights *p, const struct shr_node *node)
{
    const bool gather = shr_node_is(node, "Gather");
    if (!gather && !shr_node_is(node, "MatMul") && !shr_node_is(node, "Gemm")) {
        return "it has no form with weights in blocks";
    }
    const char *why = gather ? gather_obstacle(p, node) : shr_linear_obstacle(node);
    if (why != NULL) {
        return why;
    }
    const struct shr_tensor *w = &shr_node_in(node, gather ? 0 : 1)->constant;
    const bool by_rows = gather || shr_node_int(node, "transB", 0) != 0;
    if (!pays(p, w->dim[by_rows ? 0 : 1], w->dim[by_rows ? 1 : 0])) {
        return "it would not be smaller";
    }
    return gather && !shr_edit_all_finite(w) ? "one of its weights is not finite" : NULL;
}

/* ── Matrices ───────────────────────────────────────────────────────────────────────────────── */

static void tell(const struct weights *p, const struct shr_value *w,
                 const struct shr_block_weight *q)
{
    struct shr_note *note = shr_report_note(p->report, SHR_NOTE_DONE, w->name,
                                            "%d bits, a scale for every %lld weights", p->how.bits,
                                            (long long)p->how.block);
    shr_note_figure(note, "sqnr_db", q->sqnr_db);
}

static int quantize(struct weights *p, struct matrix *m, bool flat, struct shr_err *err)
{
    struct shr_tensor rows = {0};
    struct shr_block_weight q = {0};
    int code = shr_matrix_copy(&m->w->constant, m->transposed, m->alpha, &rows, err);
    if (code == SHR_OK) {
        code = shr_block_quantize(&rows, &p->how, p->ctx, &q, err);
    }
    shr_tensor_finish(&rows);
    if (code == SHR_OK) {
        tell(p, m->w, &q);
        if (flat) {
            q.q.rank = 2;
            q.q.dim[1] *= q.q.dim[2];
        }
        code = shr_edit_add_constant(p->g, m->w->name, "_blocks", &q.q,
                                     flat ? &m->flat : &m->blocks, err);
    }
    if (code == SHR_OK) {
        code = shr_edit_add_constant(p->g, m->w->name, "_scales", &q.scale, &m->scale, err);
    }
    if (code == SHR_OK && !p->how.symmetric) {
        code = shr_edit_add_constant(p->g, m->w->name, "_zero_points", &q.zero, &m->zero, err);
    }
    shr_block_weight_finish(&q);
    return code;
}

static struct matrix *find(const struct weights *p, const struct matrix *m)
{
    for (size_t i = 0; i < p->done.n; i++) {
        struct matrix *known = &p->done.v[i];
        if (known->w == m->w && known->transposed == m->transposed && known->alpha == m->alpha) {
            return known;
        }
    }
    return NULL;
}

/* The same bytes in the other shape; runtimes fold it when they load the model. */
static int reshape(struct weights *p, struct shr_node *before, struct matrix *m, bool flat,
                   struct shr_err *err)
{
    const struct shr_tensor *scale = &m->scale->constant;
    const int64_t bytes = p->how.block * p->how.bits / 8;
    int64_t dim[3] = {scale->dim[0], scale->dim[1], bytes};
    if (flat) {
        dim[1] *= bytes;
    }
    struct shr_tensor t = {0};
    struct shr_value *shape = NULL, *from = flat ? m->blocks : m->flat;
    int code = shr_tensor_new(SHR_DTYPE_I64, 1, (int64_t[]){flat ? 2 : 3}, &t, err);
    for (int64_t i = 0; code == SHR_OK && i < t.dim[0]; i++) {
        ((int64_t *)t.data)[i] = dim[i];
    }
    if (code == SHR_OK) {
        code = shr_edit_add_constant(p->g, m->w->name, "_shape", &t, &shape, err);
    }
    return code == SHR_OK ? shr_edit_insert(p->g, before, "Reshape", from->name,
                                            (struct shr_value *[]){from, shape}, 2, from->name,
                                            NULL, flat ? &m->flat : &m->blocks, err)
                          : code;
}

/* The matrix in the shape that the node takes. */
static int matrix_for(struct weights *p, struct shr_node *node, struct matrix wanted, bool flat,
                      struct matrix *ret, struct shr_err *err)
{
    struct matrix *m = find(p, &wanted);
    int code = SHR_OK;
    if (m == NULL) {
        code = quantize(p, &wanted, flat, err);
        m = code == SHR_OK ? SHR_VEC_ADD(&p->done) : NULL;
        if (m == NULL) {
            return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
        }
        *m = wanted;
    } else if ((flat ? m->flat : m->blocks) == NULL) {
        code = reshape(p, node, m, flat, err);
    }
    *ret = *m;
    return code;
}

/* ── Nodes ──────────────────────────────────────────────────────────────────────────────────── */

struct attr {
    const char *name;
    int64_t value;
};

/* A node of com.microsoft that takes the place of another's result. */
static int insert(struct weights *p, struct shr_node *node, const char *op,
                  struct shr_value *const *in, size_t n_in, const struct attr *attrs, size_t n,
                  struct shr_value **ret, struct shr_err *err)
{
    const char *stem = node->name[0] != 0 ? node->name : shr_node_out(node, 0)->name;
    struct shr_node *added = NULL;
    char name[512];
    snprintf(name, sizeof name, "%.480s_blocks", stem);
    int code = shr_model_import(p->model, "com.microsoft", 1, err);
    if (code == SHR_OK) {
        code = shr_graph_fresh_value(p->g, name, ret, err);
    }
    if (code == SHR_OK) {
        code = shr_graph_add_node(p->g, node, "com.microsoft", op, name, in, n_in, ret, 1, &added,
                                  err);
    }
    for (size_t i = 0; i < n && code == SHR_OK; i++) {
        code = shr_node_set_int(p->g, added, attrs[i].name, attrs[i].value, err);
    }
    return code;
}

static bool is_row(const struct shr_value *bias, int64_t n)
{
    return shr_value_is_constant(bias) && bias->constant.dtype == SHR_DTYPE_F32 &&
           bias->constant.rank == 1 && bias->constant.dim[0] == n;
}

static int quantize_product(struct weights *p, struct shr_node *node, struct shr_err *err)
{
    const bool by_rows = shr_node_int(node, "transB", 0) != 0;
    const struct shr_value *w = shr_node_in(node, 1);
    const int64_t n = w->constant.dim[by_rows ? 0 : 1], k = w->constant.dim[by_rows ? 1 : 0];
    struct matrix m = {.w = w, .transposed = !by_rows, .alpha = shr_node_float(node, "alpha", 1)};
    struct shr_value *x = NULL, *bias = NULL, *y = NULL;
    int code = shr_linear_input(p->g, node, &x, err);
    if (code == SHR_OK) {
        code = shr_linear_bias(p->g, node, &bias, err);
    }
    if (code == SHR_OK) {
        code = matrix_for(p, node, m, false, &m, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    const bool inside = bias != NULL && is_row(bias, n);
    struct shr_value *in[6] = {x, m.blocks, m.scale, m.zero, NULL, inside ? bias : NULL};
    const size_t n_in = inside ? 6 : m.zero != NULL ? 4 : 3;
    const struct attr attrs[] = {
        {"K", k}, {"N", n}, {"bits", p->how.bits}, {"block_size", p->how.block}};
    code = insert(p, node, "MatMulNBits", in, n_in, attrs, SHR_COUNT_OF(attrs), &y, err);
    if (code == SHR_OK && bias != NULL && !inside) {
        code = shr_edit_insert(p->g, node, "Add", y->name, (struct shr_value *[]){y, bias}, 2,
                               y->name, NULL, &y, err);
    }
    return code == SHR_OK ? shr_edit_replace(p->g, node, y, err) : code;
}

static int quantize_gather(struct weights *p, struct shr_node *node, struct shr_err *err)
{
    struct matrix m = {.w = shr_node_in(node, 0), .alpha = 1};
    struct shr_value *y = NULL;
    int code = matrix_for(p, node, m, true, &m, err);
    if (code != SHR_OK) {
        return code;
    }
    struct shr_value *in[4] = {m.flat, shr_node_in(node, 1), m.scale, m.zero};
    const struct attr attrs[] = {{"bits", p->how.bits},
                                 {"block_size", p->how.block},
                                 {"gather_axis", 0},
                                 {"quantize_axis", 1}};
    code = insert(p, node, "GatherBlockQuantized", in, m.zero != NULL ? 4 : 3, attrs,
                  SHR_COUNT_OF(attrs), &y, err);
    return code == SHR_OK ? shr_edit_replace(p->g, node, y, err) : code;
}

static bool holds_weights(const struct shr_node *node)
{
    const bool gather = shr_node_is(node, "Gather");
    const struct shr_value *table = gather ? shr_node_in(node, 0) : NULL;
    return gather ? shr_value_is_constant(table) && table->constant.dtype == SHR_DTYPE_F32
                  : node->op != NULL && node->op->quant_role == SHR_QUANT_WEIGHTED;
}

static int quantize_all(struct weights *p, const struct shr_arg *args, struct shr_err *err)
{
    size_t total = p->g->n_nodes, at = 0;
    for (struct shr_node *node = p->g->first_node, *next; node != NULL; node = next, at++) {
        next = node->next;
        if (!holds_weights(node)) {
            continue;
        }
        const char *why = shr_nodes_excluded(node, &args[ARG_NODES]);
        if (why == NULL && !shr_arg_lists(&args[ARG_OPS], node->op_type)) {
            why = "its operator is not in op_types";
        }
        why = why != NULL ? why : obstacle(p, node);
        if (why != NULL) {
            char label[128];
            shr_report_note(p->report, SHR_NOTE_SKIPPED, shr_node_label(node, label, sizeof label),
                            "%s: %s", node->op_type, why);
            continue;
        }
        int code = shr_node_is(node, "Gather") ? quantize_gather(p, node, err)
                                               : quantize_product(p, node, err);
        if (code != SHR_OK) {
            return code;
        }
        shr_ctx_tell(p->ctx, "quantize", at, total);
    }
    return SHR_OK;
}

static int edit(struct shr_pass_call *call, struct shr_model *model, struct shr_err *err)
{
    const struct shr_arg *args = call->args->v;
    struct weights p = {
        .model = model,
        .g = &model->graph,
        .how = {.bits = args[ARG_BITS].i == 0 ? 4 : 8,
                .block = INT64_C(16) << args[ARG_BLOCK].i,
                .symmetric = args[ARG_SYMMETRIC].b,
                .search = args[ARG_SEARCH].b},
        .ctx = call->ctx,
        .report = call->report,
    };
    int code = quantize_all(&p, args, err);
    if (code == SHR_OK && p.done.n == 0) {
        shr_report_note(p.report, SHR_NOTE_WARNING, "", "nothing was quantized");
    }
    if (code == SHR_OK) {
        shr_graph_drop_unused(p.g);
    }
    SHR_VEC_FINISH(&p.done);
    return code;
}

const struct shr_pass shr_pass_quantize_weights = {
    .name = "quantize_weights",
    .help = "Weights of 4 or 8 bits in blocks, computed with as float; it needs no data",
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .edit = edit,
};
