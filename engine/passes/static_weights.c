/* Quantizing weights and biases; see static_weights.h.
 *
 * A bias is int32 on the scale of the accumulator, x's scale times the weight's. Where that is too
 * small for a bias (a channel of almost zero weights), the weight's scale is raised.
 * DESIGN: bias correction is that of M. Nagel et al., "Data-Free Quantization Through Weight
 * Equalization and Bias Correction" (2019), with measured means: rounding moves the mean of an
 * output by the sum of (W_quantized - W) E[x], which the bias takes back. */
#include "passes/static_weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "passes/edit.h"

struct shr_tied {
    const struct shr_value *w;
    int axis;
    struct shr_value *real; /* the output of its DQ */
    struct shr_quant_weight q;
};

struct layer {
    struct shr_node *node;
    struct shr_tensor w; /* float32; Gemm's alpha multiplied in */
    struct shr_tensor b; /* float32 (n); Gemm's beta multiplied in */
    bool has_bias;
    int axis;
    int64_t n;
    double x_scale;
    double *least; /* (n) scales that the bias needs */
};

static bool has_slot_for_bias(const struct shr_node *node)
{
    return !shr_node_is(node, "MatMul");
}

static int scaled_weight(struct layer *l, struct shr_err *err)
{
    double alpha = (double)shr_node_float(l->node, "alpha", 1);
    l->w = shr_tensor_ref(&shr_node_in(l->node, 1)->constant);
    if (alpha == 1 || !shr_node_is(l->node, "Gemm")) {
        return SHR_OK;
    }
    int code = shr_tensor_own(&l->w, err);
    for (int64_t i = 0; code == SHR_OK && i < shr_tensor_count(&l->w); i++) {
        shr_tensor_set(&l->w, i, shr_tensor_get(&l->w, i) * alpha);
    }
    return code;
}

static int read_layer(struct layer *l, float x_scale, double bias_limit, struct shr_err *err)
{
    bool gemm = shr_node_is(l->node, "Gemm");
    l->axis =
        shr_node_is(l->node, "Conv") || (gemm && shr_node_int(l->node, "transB", 0) != 0) ? 0 : 1;
    int code = scaled_weight(l, err);
    if (code != SHR_OK) {
        return code;
    }
    l->n = l->w.dim[l->axis];
    const struct shr_value *bias = shr_node_in(l->node, 2);
    double beta = gemm ? (double)shr_node_float(l->node, "beta", 1) : 1;
    code =
        shr_edit_bias(bias != NULL ? &bias->constant : NULL, l->n, beta, &l->has_bias, &l->b, err);
    if (code != SHR_OK) {
        return code;
    }
    l->has_bias = bias != NULL;
    l->x_scale = (double)x_scale;
    l->least = shr_mem_new((size_t)l->n + 1, sizeof *l->least);
    if (l->least == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a bias");
    }
    for (int64_t c = 0; c < l->n; c++) {
        l->least[c] = fabs(shr_tensor_get(&l->b, c)) / (l->x_scale * bias_limit);
    }
    return SHR_OK;
}

static double scale_of(const struct shr_quant_weight *q, int64_t channel)
{
    return shr_tensor_get(&q->scale, shr_tensor_count(&q->scale) == 1 ? 0 : channel);
}

/* ── Weights ────────────────────────────────────────────────────────────────────────────────── */

/* What the audit of products found, or what was asked for instead of it. */
static void tell_range(const struct shr_static_weights *s, const struct shr_quant_weight *q,
                       char *text, size_t size)
{
    if (!s->certify) {
        snprintf(text, size, "%s",
                 s->grid.max < 127 ? "7 bits"
                 : s->grid.pytorch ? "8 bits, as PyTorch has them"
                                   : "8 bits; CPUs without VNNI may saturate");
    } else if (q->narrowed == 0) {
        snprintf(text, size, "8 bits in all %lld channels: no pair of products can exceed 16 bits",
                 (long long)q->channels);
    } else {
        snprintf(text, size,
                 "%lld of %lld channels narrowed, at most to %d of %d, since two of their products "
                 "could exceed 16 bits on CPUs without VNNI",
                 (long long)q->narrowed, (long long)q->channels, q->top_min, s->grid.max);
    }
}

static void tell_weight(const struct shr_static_weights *s, const struct layer *l,
                        const struct shr_quant_weight *q)
{
    const char *name = shr_node_in(l->node, 1)->name;
    char range[192];
    tell_range(s, q, range, sizeof range);
    struct shr_note *note = shr_report_note(s->report, SHR_NOTE_DONE, name, "int8 weights, %s, %s",
                                            s->per_channel ? "per channel" : "per tensor", range);
    shr_note_figure(note, "scale_min", q->scale_min);
    shr_note_figure(note, "scale_max", q->scale_max);
    shr_note_figure(note, "sqnr_db", q->sqnr_db);
    shr_note_figure(note, "largest", q->top_min);
    shr_note_figure(note, "channels", (double)q->channels);
    shr_note_figure(note, "channels_narrowed", (double)q->narrowed);
}

/* Weights that were quantized for another node and whose scales are large enough here too. */
static const struct shr_tied *find_tied(const struct shr_static_weights *s, const struct layer *l,
                                        const struct shr_value *w)
{
    for (size_t i = 0; i < s->done.n; i++) {
        const struct shr_tied *t = &s->done.v[i];
        bool same = t->w == w && t->axis == l->axis && shr_node_float(l->node, "alpha", 1) == 1;
        for (int64_t c = 0; c < l->n && same; c++) {
            same = scale_of(&t->q, c) >= l->least[c] * (s->bias_limit / INT32_MAX);
        }
        if (same) {
            return t;
        }
    }
    return NULL;
}

static int convert_weight(struct shr_static_weights *s, const struct layer *l,
                          const struct shr_tied **ret, struct shr_err *err)
{
    struct shr_value *w = shr_node_in(l->node, 1);
    const struct shr_tied *tied = find_tied(s, l, w);
    if (tied != NULL) {
        shr_node_set_input(l->node, 1, tied->real);
        *ret = tied;
        return SHR_OK;
    }
    struct shr_quant_how how = {
        .grid = s->grid,
        .axis = l->axis,
        .per_channel = s->per_channel,
        .pairs = !s->certify                    ? SHR_PAIRS_NONE
                 : shr_node_is(l->node, "Conv") ? SHR_PAIRS_CONV
                                                : SHR_PAIRS_MATRIX,
        .least_scale = l->least,
        .ctx = s->ctx,
    };
    struct shr_tied new = {.w = w, .axis = l->axis};
    int code = shr_quantize_weight(&l->w, w->name, &how, &new.q, err);
    if (code != SHR_OK) {
        return code;
    }
    tell_weight(s, l, &new.q);
    code = shr_qdq_constant(s->qdq, l->node, 1, w->name, shr_tensor_ref(&new.q.q),
                            shr_tensor_ref(&new.q.scale), s->per_channel ? l->axis : -1, &new.real,
                            err);
    struct shr_tied *added = code == SHR_OK ? SHR_VEC_ADD(&s->done) : NULL;
    if (added == NULL) {
        shr_quant_weight_finish(&new.q);
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    *added = new;
    *ret = added;
    return SHR_OK;
}

/* ── Biases ─────────────────────────────────────────────────────────────────────────────────── */

/* ret_shift[c] = sum over k of (W_quantized - W)[c, k] E[x of k]. False when means are missing. */
static bool mean_shift(const struct layer *l, const struct shr_quant_weight *q,
                       const struct shr_observer *seen, double *ret_shift)
{
    const struct shr_tensor *w = &l->w;
    bool conv = shr_node_is(l->node, "Conv");
    int64_t groups = conv ? shr_node_int(l->node, "group", 1) : 1;
    int64_t per_group = w->dim[conv ? 1 : 1 - l->axis], area = 1;
    for (int d = 2; d < w->rank; d++) {
        area *= w->dim[d];
    }
    if (seen->sum == NULL || seen->counts == 0 || groups < 1 ||
        seen->channels != per_group * groups) {
        return false;
    }
    const double count = (double)seen->counts;
    const float *real = w->data;
    const int8_t *quantized = q->q.data;
    memset(ret_shift, 0, (size_t)l->n * sizeof *ret_shift);
    if (l->axis == 1) { /* (K, N), read in its order */
        for (int64_t k = 0; k < per_group; k++) {
            for (int64_t c = 0; c < l->n; c++) {
                double error = scale_of(q, c) * *quantized++ - (double)*real++;
                ret_shift[c] += error * (seen->sum[k] / count);
            }
        }
        return true;
    }
    for (int64_t c = 0; c < l->n; c++) {
        int64_t first = conv ? c / (l->n / groups) * per_group : 0; /* input channel of k = 0 */
        double scale = scale_of(q, c);
        for (int64_t k = 0; k < per_group; k++) {
            double error = 0;
            for (int64_t a = 0; a < area; a++) {
                error += scale * *quantized++ - (double)*real++;
            }
            ret_shift[c] += error * (seen->sum[first + k] / count);
        }
    }
    return true;
}

static double correct_bias(struct layer *l, const struct shr_quant_weight *q,
                           const struct shr_observer *seen, double *room)
{
    double most = 0;
    float *b = l->b.data;
    if (!mean_shift(l, q, seen, room)) {
        return 0;
    }
    for (int64_t c = 0; c < l->n; c++) {
        b[c] = (float)((double)b[c] - room[c]);
        most = fmax(most, fabs(room[c]));
    }
    return most;
}

static int convert_bias(struct shr_static_weights *s, struct layer *l,
                        const struct shr_quant_weight *q, const char *name, struct shr_err *err)
{
    struct shr_tensor ints = {0}, scale = {0};
    int code = shr_tensor_new(SHR_DTYPE_I32, 1, &l->n, &ints, err);
    if (code == SHR_OK) {
        code = shr_tensor_new(SHR_DTYPE_F32, q->scale.rank, q->scale.dim, &scale, err);
    }
    if (code != SHR_OK) {
        shr_tensor_finish(&ints);
        return code;
    }
    for (int64_t i = 0; i < shr_tensor_count(&scale); i++) {
        shr_tensor_set(&scale, i, l->x_scale * shr_tensor_get(&q->scale, i));
    }
    for (int64_t c = 0; c < l->n; c++) {
        double unit = shr_tensor_get(&scale, shr_tensor_count(&scale) == 1 ? 0 : c);
        shr_tensor_set(&ints, c, shr_tensor_get(&l->b, c) / unit);
    }
    if (l->node->n_in < 3) {
        code = shr_node_resize_inputs(s->qdq->g, l->node, 3, err);
        if (code != SHR_OK) {
            shr_tensor_finish(&ints);
            shr_tensor_finish(&scale);
            return code;
        }
    }
    return shr_qdq_constant(s->qdq, l->node, 2, name, ints, scale, q->scale.rank == 1 ? 0 : -1,
                            NULL, err);
}

static int convert(struct shr_static_weights *s, struct layer *l, const struct shr_observer *seen,
                   struct shr_err *err)
{
    char label[128];
    const struct shr_value *old = shr_node_in(l->node, 2);
    const char *name = old != NULL ? old->name : shr_node_label(l->node, label, sizeof label);
    const struct shr_tied *tied = NULL;
    int code = convert_weight(s, l, &tied, err);
    if (code != SHR_OK) {
        return code;
    }
    if (has_slot_for_bias(l->node) && (l->has_bias || s->bias_correction)) {
        double most = s->bias_correction ? correct_bias(l, &tied->q, seen, l->least) : 0;
        code = convert_bias(s, l, &tied->q, name, err);
        struct shr_note *note =
            shr_report_note(s->report, SHR_NOTE_DONE, name, "int32 bias%s",
                            s->bias_correction ? ", corrected for the rounding of weights" : "");
        shr_note_figure(note, "corrected_by", most);
    }
    if (code == SHR_OK && shr_node_attr(l->node, "alpha") != NULL) {
        code = shr_node_set_float(s->qdq->g, l->node, "alpha", 1, err);
    }
    if (code == SHR_OK && shr_node_attr(l->node, "beta") != NULL) {
        code = shr_node_set_float(s->qdq->g, l->node, "beta", 1, err);
    }
    return code;
}

int shr_static_weights_convert(struct shr_static_weights *s, struct shr_node *node, float x_scale,
                               const struct shr_observer *seen, struct shr_err *err)
{
    struct layer l = {.node = node};
    int code = read_layer(&l, x_scale, s->bias_limit, err);
    if (code == SHR_OK) {
        code = convert(s, &l, seen, err);
    }
    shr_tensor_finish(&l.w);
    shr_tensor_finish(&l.b);
    shr_mem_free(l.least);
    return code;
}

void shr_static_weights_finish(struct shr_static_weights *s)
{
    for (size_t i = 0; i < s->done.n; i++) {
        shr_quant_weight_finish(&s->done.v[i].q);
    }
    SHR_VEC_FINISH(&s->done);
}
