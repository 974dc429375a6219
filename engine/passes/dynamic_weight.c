/* Weights of quantize_dynamic; see dynamic.h. */
#include <string.h>

#include "passes/dynamic.h"
#include "passes/linear.h"

static int quantize_plain(const struct shr_tensor *w, const char *name, bool transposed,
                          float alpha, const struct shr_quant_how *how,
                          struct shr_quant_weight *ret, struct shr_err *err)
{
    struct shr_tensor plain = {0};
    int code = shr_matrix_copy(w, transposed, alpha, &plain, err);
    if (code == SHR_OK) {
        code = shr_quantize_weight(&plain, name, how, ret, err);
    }
    shr_tensor_finish(&plain);
    return code;
}

static struct shr_quant_how how_of(const struct shr_dynamic_how *how)
{
    return (struct shr_quant_how){
        .grid = shr_quant_grid_of(how->int8 ? SHR_DTYPE_I8 : SHR_DTYPE_U8, how->int8, how->reduce),
        .axis = 1,
        .per_channel = how->per_channel,
        .pairs = how->int8 && how->certify ? SHR_PAIRS_MATRIX : SHR_PAIRS_NONE,
        .ctx = how->ctx,
    };
}

static void tell(const struct shr_dynamic *d, const struct shr_value *w,
                 const struct shr_quant_weight *q, bool per_channel, const char *use)
{
    struct shr_note *note = shr_report_note(d->report, SHR_NOTE_DONE, w->name, "%s weights, %s; %s",
                                            d->how.int8 ? "int8" : "uint8",
                                            per_channel ? "per channel" : "per tensor", use);
    shr_note_figure(note, "scale_min", q->scale_min);
    shr_note_figure(note, "scale_max", q->scale_max);
    shr_note_figure(note, "sqnr_db", q->sqnr_db);
    shr_note_figure(note, "largest", q->top_min);
}

static const char quantized_input[] = "the input is quantized when it runs";

static int store(struct shr_dynamic *d, struct shr_dynamic_weight *w, struct shr_quant_weight *q,
                 bool with_zero, struct shr_err *err)
{
    const char *name = w->w->name;
    int code = shr_edit_add_constant(d->g, name, "_quantized", &q->q, &w->q, err);
    if (code == SHR_OK) {
        code = shr_edit_add_constant(d->g, name, "_scale", &q->scale, &w->scale, err);
    }
    if (code == SHR_OK && with_zero) {
        code = shr_edit_add_constant(d->g, name, "_zero_point", &q->zero, &w->zero, err);
    }
    struct shr_dynamic_weight *added = code == SHR_OK ? SHR_VEC_ADD(&d->weights) : NULL;
    if (added == NULL) {
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    *added = *w;
    return SHR_OK;
}

static bool find(const struct shr_dynamic *d, struct shr_dynamic_weight *w)
{
    for (size_t i = 0; i < d->weights.n; i++) {
        const struct shr_dynamic_weight *known = &d->weights.v[i];
        if (known->w == w->w && known->transposed == w->transposed && known->alpha == w->alpha) {
            *w = *known;
            return true;
        }
    }
    return false;
}

const struct shr_node *shr_dynamic_product_of(const struct shr_value *v)
{
    SHR_EACH_USE (use, v) {
        const bool product = shr_node_is(use->node, "MatMul") || shr_node_is(use->node, "Gemm");
        if (product && use->slot == 1 && shr_node_float(use->node, "alpha", 1) == 1) {
            return use->node;
        }
    }
    return NULL;
}

bool shr_dynamic_find(const struct shr_dynamic *d, const struct shr_value *v,
                      struct shr_dynamic_weight *ret)
{
    struct shr_dynamic_weight w = {.w = v, .alpha = 1};
    bool found = find(d, &w);
    if (!found) {
        w.transposed = true;
        found = find(d, &w);
    }
    *ret = w;
    return found;
}

static bool is_table(const struct shr_value *v)
{
    SHR_EACH_USE (use, v) {
        if (shr_node_is(use->node, "Gather") && use->slot == 0) {
            return true;
        }
    }
    return false;
}

int shr_dynamic_stored(struct shr_dynamic *d, const struct shr_value *v,
                       struct shr_dynamic_weight *ret, struct shr_err *err)
{
    struct shr_dynamic_weight w = {.w = v, .alpha = 1};
    struct shr_quant_how how = {
        .grid = shr_quant_grid_of(d->how.int8 ? SHR_DTYPE_I8 : SHR_DTYPE_U8, d->how.int8, false),
        .axis = 1,
        .per_channel = d->how.per_channel && d->axes,
    };
    struct shr_quant_weight q = {0};
    int code = SHR_OK;
    if (!find(d, &w)) {
        code = shr_quantize_weight(&v->constant, v->name, &how, &q, err);
        if (code == SHR_OK) {
            tell(d, v, &q, how.per_channel, "stored so, and computed with in float");
            code = store(d, &w, &q, !d->how.int8, err);
        }
    }
    if (code == SHR_OK) {
        *ret = w;
    }
    shr_quant_weight_finish(&q);
    return code;
}

int shr_dynamic_matrix(struct shr_dynamic *d, const struct shr_value *v, bool transposed,
                       float alpha, struct shr_dynamic_weight *ret, struct shr_err *err)
{
    struct shr_dynamic_weight w = {.w = v, .transposed = transposed, .alpha = alpha};
    struct shr_quant_how how = how_of(&d->how);
    struct shr_quant_weight q = {0};
    int code = SHR_OK;
    /* a table's rows are these columns, and picked ones have no axis that tells them apart */
    how.per_channel = how.per_channel && !(is_table(v) && (transposed || !d->axes));
    if (!find(d, &w)) {
        code = quantize_plain(&v->constant, v->name, transposed, alpha, &how, &q, err);
        if (code == SHR_OK) {
            tell(d, v, &q, how.per_channel, quantized_input);
            code = store(d, &w, &q, !d->how.int8, err);
        }
    }
    if (code == SHR_OK) {
        *ret = w;
    }
    shr_quant_weight_finish(&q);
    return code;
}

/* ── Recurrent weights ──────────────────────────────────────────────────────────────────────── */

/* (K, directions * gates) to (directions, K, gates), bytes. */
static int split_directions(struct shr_tensor *q, int64_t directions, struct shr_err *err)
{
    int64_t k = q->dim[0], gates = q->dim[1] / directions;
    struct shr_tensor split = {0};
    int code = shr_tensor_new(q->dtype, 3, (int64_t[]){directions, k, gates}, &split, err);
    if (code != SHR_OK) {
        return code;
    }
    for (int64_t i = 0; i < directions * k; i++) {
        int64_t from = (i % k * directions + i / k) * gates;
        memcpy((char *)split.data + i * gates, (const char *)q->data + from, (size_t)gates);
    }
    shr_tensor_finish(q);
    *q = split;
    return SHR_OK;
}

/* One of all for each direction: () to (directions); of columns: to (directions, gates). */
static int split_params(struct shr_tensor *params, int64_t directions, struct shr_err *err)
{
    int64_t n = shr_tensor_count(params);
    struct shr_tensor split = {0};
    int code = shr_tensor_new(params->dtype, params->rank + 1,
                              (int64_t[]){directions, n / directions}, &split, err);
    if (code != SHR_OK) {
        return code;
    }
    for (int64_t i = 0; i < shr_tensor_count(&split); i++) {
        shr_tensor_set(&split, i, shr_tensor_get(params, i % n));
    }
    shr_tensor_finish(params);
    *params = split;
    return SHR_OK;
}

int shr_dynamic_recurrent(struct shr_dynamic *d, const struct shr_value *v,
                          struct shr_dynamic_weight *ret, struct shr_err *err)
{
    struct shr_dynamic_weight w = {.w = v, .transposed = true, .alpha = 1};
    if (find(d, &w)) {
        *ret = w;
        return SHR_OK;
    }
    int64_t directions = v->constant.dim[0];
    struct shr_tensor rows = v->constant; /* a view: (directions * gates, K) */
    rows.rank = 2;
    rows.dim[0] = directions * v->constant.dim[1];
    rows.dim[1] = v->constant.dim[2];

    struct shr_quant_how how = how_of(&d->how);
    how.per_channel = how.per_channel && d->how.int8; /* the zero points of columns must be alike */
    struct shr_quant_weight q = {0};
    int code = quantize_plain(&rows, v->name, true, 1, &how, &q, err);
    if (code == SHR_OK) {
        code = split_directions(&q.q, directions, err);
    }
    if (code == SHR_OK) {
        code = split_params(&q.scale, directions, err);
    }
    if (code == SHR_OK) {
        code = split_params(&q.zero, directions, err);
    }
    if (code == SHR_OK) {
        tell(d, v, &q, how.per_channel, quantized_input);
        code = store(d, &w, &q, true, err);
    }
    if (code == SHR_OK) {
        *ret = w;
    }
    shr_quant_weight_finish(&q);
    return code;
}
