/* SmoothQuant; see equalize.h.
 *
 * DESIGN: G. Xiao et al., "SmoothQuant" (2022). Behind a LayerNormalization some channels are far
 * larger than others, and one scale for all of them leaves the small ones few levels. Channel j is
 * divided by s_j = max|x_j|^alpha / max|w_j|^(1 - alpha) where the normalization scales it anyway,
 * and the rows j of all weights that read it are multiplied: the products stay what they were. The
 * normalization is one node, or its last two as exporters of old opsets write it: Mul by a constant
 * vector, then Add of one. */
#include "passes/equalize.h"

#include <math.h>

#include "base/mem.h"
#include "base/vec.h"
#include "passes/calibrate.h"
#include "passes/rescale.h"

struct smooth {
    struct shr_node *scaler, *shifter; /* whose constants are divided; one node, or Mul and Add */
    size_t scale_slot, shift_slot;
    struct shr_value *x; /* what is smoothed */
    int64_t channels;
    double *most;   /* (channels) max|x| that was seen */
    double *factor; /* (channels) s */
    double *scratch;
    SHR_VEC(struct shr_node *) readers;
};

struct list {
    SHR_VEC(struct smooth) v;
};

static void smooth_finish(struct smooth *s)
{
    shr_mem_free(s->most);
    shr_mem_free(s->factor);
    shr_mem_free(s->scratch);
    SHR_VEC_FINISH(&s->readers);
}

/* ── Finding ────────────────────────────────────────────────────────────────────────────────── */

static int64_t last_dim(const struct shr_value *v)
{
    return v->type.rank > 0 ? v->type.dim[v->type.rank - 1] : -1;
}

/* A constant float32 vector of n elements, spread along the last axis. */
static bool is_vector(const struct shr_value *v, int64_t n)
{
    return shr_value_is_constant(v) && v->constant.dtype == SHR_DTYPE_F32 && v->constant.rank > 0 &&
           v->constant.dim[v->constant.rank - 1] == n && shr_tensor_count(&v->constant) == n;
}

/* The slot of a node of two inputs that has such a vector; 2 = none. */
static size_t vector_slot(const struct shr_node *node, int64_t n)
{
    return is_vector(shr_node_in(node, 1), n) ? 1 : is_vector(shr_node_in(node, 0), n) ? 0 : 2;
}

/* Is what the node writes a normalized value? Sets the two nodes and their slots. */
static bool find_scale(struct shr_node *node, struct smooth *s)
{
    struct shr_value *x = shr_node_out(node, 0);
    const int64_t n = x != NULL ? last_dim(x) : -1;
    if (n < 1) {
        return false;
    }
    s->x = x;
    s->channels = n;
    if (shr_node_is(node, "LayerNormalization")) {
        s->scaler = s->shifter = node;
        s->scale_slot = 1;
        s->shift_slot = 2;
        return is_vector(shr_node_in(node, 1), n) &&
               (shr_node_in(node, 2) == NULL || is_vector(shr_node_in(node, 2), n));
    }
    s->shift_slot = shr_node_is(node, "Add") ? vector_slot(node, n) : 2;
    if (s->shift_slot == 2) {
        return false;
    }
    struct shr_value *product = shr_node_in(node, 1 - s->shift_slot);
    s->shifter = node;
    s->scaler = product->producer;
    s->scale_slot = shr_node_is(s->scaler, "Mul") ? vector_slot(s->scaler, n) : 2;
    return s->scale_slot != 2 && shr_edit_reader(product) == node && !product->is_output &&
           !product->captured;
}

/* NULL = the input of the node can be multiplied through its weights, else why not. */
static const char *reader_obstacle(const struct smooth *s, const struct shr_edge *use)
{
    const struct shr_node *node = use->node;
    if (use->slot != 0 || (!shr_node_is(node, "MatMul") && !shr_node_is(node, "Gemm"))) {
        return "not only products with weights read it";
    }
    if (shr_rescale_obstacle(node) != NULL ||
        shr_rescale_channels(node, SHR_SIDE_IN) != s->channels) {
        return "weights behind it cannot be scaled";
    }
    return NULL;
}

static bool keeps_last_axis(const struct shr_node *node)
{
    size_t n = 0;
    const int64_t *perm = shr_node_ints(node, "perm", &n);
    return shr_node_is(node, "Transpose") && n > 0 && perm[n - 1] == (int64_t)n - 1;
}

/* Gathers the weighted nodes that read v, also through Transposes that keep the last axis.
 * *ret_why is set when others read it. */
static int gather_readers(struct smooth *s, const struct shr_value *v, const char **ret_why,
                          struct shr_err *err)
{
    if (v->is_output || v->captured) {
        *ret_why = "the model or a subgraph reads it, too";
        return SHR_OK;
    }
    SHR_EACH_USE (use, v) {
        if (keeps_last_axis(use->node)) {
            int code = gather_readers(s, shr_node_out(use->node, 0), ret_why, err);
            if (code != SHR_OK || *ret_why != NULL) {
                return code;
            }
            continue;
        }
        *ret_why = reader_obstacle(s, use);
        if (*ret_why != NULL) {
            return SHR_OK;
        }
        struct shr_node **added = SHR_VEC_ADD(&s->readers);
        if (added == NULL) {
            return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for smoothing");
        }
        *added = use->node;
    }
    return SHR_OK;
}

static int add_smooth(struct list *list, struct shr_node *node, struct shr_report *report,
                      struct shr_err *err)
{
    struct smooth s = {0};
    if (!find_scale(node, &s)) {
        return SHR_OK;
    }
    const char *why = NULL;
    int code = gather_readers(&s, s.x, &why, err);
    if (code != SHR_OK || why != NULL || s.readers.n == 0) {
        if (why != NULL && shr_node_is(node, "LayerNormalization")) {
            shr_report_note(report, SHR_NOTE_SKIPPED, s.x->name, "not smoothed: %s", why);
        }
        smooth_finish(&s);
        return code;
    }
    s.most = shr_mem_new((size_t)s.channels, sizeof *s.most);
    s.factor = shr_mem_new((size_t)s.channels, sizeof *s.factor);
    s.scratch = shr_mem_new((size_t)s.channels, sizeof *s.scratch);
    struct smooth *added =
        s.most != NULL && s.factor != NULL && s.scratch != NULL ? SHR_VEC_ADD(&list->v) : NULL;
    if (added == NULL) {
        smooth_finish(&s);
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for smoothing");
    }
    *added = s;
    return SHR_OK;
}

/* ── Measuring ──────────────────────────────────────────────────────────────────────────────── */

static int see(void *user, const struct shr_tensor *t, int64_t count, int64_t batch,
               struct shr_err *err)
{
    struct smooth *s = user;
    int64_t n = shr_tensor_count(t);
    if (t->rank > 0 && t->dim[0] == batch) {
        n = n / batch * count;
    }
    const float *x = t->data;
    for (int64_t row = 0; row < n / s->channels; row++) {
        for (int64_t c = 0; c < s->channels; c++, x++) {
            if (!isfinite(*x)) {
                return shr_err_set(err, SHR_ERR_INVALID,
                                   "value '%s' is not finite for some samples", s->x->name);
            }
            s->most[c] = fmax(s->most[c], fabs((double)*x));
        }
    }
    return SHR_OK;
}

static int measure(struct list *list, const struct shr_model *model,
                   const struct shr_pass_call *call, int64_t samples, size_t max_memory,
                   struct shr_err *err)
{
    struct shr_calibration seen = {0};
    int code = shr_calibration_init(&seen, list->v.n, err);
    for (size_t i = 0; i < list->v.n && code == SHR_OK; i++) {
        seen.v[i].name = list->v.v[i].x->name;
        seen.v[i].see = see;
        seen.v[i].user = &list->v.v[i];
    }
    if (code == SHR_OK) {
        code = shr_calibrate(&seen, model, call->calibrate, samples, max_memory, call->ctx, err);
    }
    shr_calibration_finish(&seen);
    return code;
}

/* ── Moving ─────────────────────────────────────────────────────────────────────────────────── */

/* A channel without values or without weights stays as it is. */
static void find_factors(struct smooth *s, double alpha)
{
    for (size_t i = 0; i < s->readers.n; i++) {
        shr_rescale_ranges(s->readers.v[i], SHR_SIDE_IN, s->scratch);
    }
    for (int64_t c = 0; c < s->channels; c++) {
        const double w = s->scratch[c], x = s->most[c];
        const double f = x > 0 && w > 0 ? pow(x, alpha) / pow(w, 1 - alpha) : 1;
        s->factor[c] = isfinite(f) && f > 1e-5 && f < 1e5 ? f : 1;
    }
}

static int divide(struct shr_graph *g, struct shr_node *node, size_t slot, const double *factor,
                  struct shr_err *err)
{
    if (shr_node_in(node, slot) == NULL) {
        return SHR_OK;
    }
    struct shr_tensor t = shr_tensor_ref(&shr_node_in(node, slot)->constant);
    int code = shr_tensor_own(&t, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&t);
        return code;
    }
    float *x = t.data;
    for (int64_t i = 0; i < shr_tensor_count(&t); i++) {
        x[i] = (float)((double)x[i] / factor[i]);
    }
    return shr_edit_constant(g, node, slot, t, err);
}

static int move(struct shr_graph *g, struct smooth *s, double alpha, struct shr_report *report,
                struct shr_err *err)
{
    find_factors(s, alpha);
    int code = divide(g, s->scaler, s->scale_slot, s->factor, err);
    if (code == SHR_OK) {
        code = divide(g, s->shifter, s->shift_slot, s->factor, err);
    }
    for (size_t i = 0; i < s->readers.n && code == SHR_OK; i++) {
        code = shr_rescale(g, s->readers.v[i], SHR_SIDE_IN, s->factor, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    double least = INFINITY, most = 0;
    for (int64_t c = 0; c < s->channels; c++) {
        least = fmin(least, s->factor[c]);
        most = fmax(most, s->factor[c]);
    }
    struct shr_note *note =
        shr_report_note(report, SHR_NOTE_DONE, s->x->name,
                        "channels smoothed into the weights of %zu nodes", s->readers.n);
    shr_note_figure(note, "divided_by_min", least);
    shr_note_figure(note, "divided_by_max", most);
    return SHR_OK;
}

int shr_smooth(struct shr_model *model, const struct shr_pass_call *call, double alpha,
               int64_t samples, size_t max_memory, struct shr_err *err)
{
    struct list list = {0};
    int code = SHR_OK;
    SHR_EACH_NODE (node, &model->graph) {
        code = code == SHR_OK ? add_smooth(&list, node, call->report, err) : code;
    }
    if (code == SHR_OK && list.v.n == 0) {
        shr_report_note(call->report, SHR_NOTE_WARNING, "",
                        "nothing was smoothed: no normalization of layers is read by products with "
                        "weights alone");
    }
    if (code == SHR_OK && list.v.n > 0) {
        code = measure(&list, model, call, samples, max_memory, err);
    }
    for (size_t i = 0; i < list.v.n && code == SHR_OK; i++) {
        code = move(&model->graph, &list.v.v[i], alpha, call->report, err);
    }
    for (size_t i = 0; i < list.v.n; i++) {
        smooth_finish(&list.v.v[i]);
    }
    SHR_VEC_FINISH(&list.v);
    return code;
}
