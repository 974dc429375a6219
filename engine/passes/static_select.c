/* Choosing what to quantize; see static_select.h. */
#include "passes/static_select.h"

#include <string.h>

#include "base/mem.h"
#include "passes/edit.h"

struct select {
    struct shr_graph *g;
    const struct shr_arg *nodes;
    const bool *in_float; /* [n_nodes] or NULL */
    struct shr_report *report;
    bool *quantized;       /* [n_nodes] */
    struct shr_map chosen; /* values by name */
    struct shr_static out;
};

static bool is_role(const struct shr_node *node, enum shr_quant_role role)
{
    return node != NULL && node->op != NULL && node->op->quant_role == role;
}

static bool is_quantized(const struct select *s, const struct shr_node *node)
{
    return node != NULL && s->quantized[node->index];
}

static bool is_chosen(const struct select *s, const struct shr_value *v)
{
    return v != NULL && shr_map_get(&s->chosen, v->name) != NULL;
}

static bool is_float_activation(const struct shr_value *v)
{
    return v != NULL && !shr_value_is_constant(v) && v->type.dtype == SHR_DTYPE_F32;
}

static void skip(struct select *s, const struct shr_node *node, const char *why)
{
    char label[128];
    shr_report_note(s->report, SHR_NOTE_SKIPPED, shr_node_label(node, label, sizeof label),
                    "%s stays in float: %s", node->op_type, why);
}

/* ── Nodes ──────────────────────────────────────────────────────────────────────────────────── */

static const char *weighted_obstacle(const struct shr_node *node)
{
    const struct shr_value *w = shr_node_in(node, 1), *bias = shr_node_in(node, 2);
    bool conv = shr_node_is(node, "Conv"), gemm = shr_node_is(node, "Gemm");
    if (!conv && !gemm && !shr_node_is(node, "MatMul")) {
        return "it has no static form here";
    }
    if (!shr_value_is_constant(w) || w->constant.dtype != SHR_DTYPE_F32 ||
        shr_tensor_count(&w->constant) == 0) {
        return "its weights are not constant float32";
    }
    if (conv ? w->constant.rank < 3 : w->constant.rank != 2) {
        return "its weights are not of the rank it needs";
    }
    if (!is_float_activation(shr_node_in(node, 0)) || shr_node_int(node, "transA", 0) != 0) {
        return "its input is constant, transposed or not float32";
    }
    if (!shr_edit_all_finite(&w->constant)) {
        return "one of its weights is not finite";
    }
    if (bias == NULL) {
        return NULL;
    }
    int64_t n = w->constant.dim[conv || shr_node_int(node, "transB", 0) != 0 ? 0 : 1];
    if (!shr_value_is_constant(bias) || bias->constant.dtype != SHR_DTYPE_F32 ||
        (shr_tensor_count(&bias->constant) != n && shr_tensor_count(&bias->constant) != 1)) {
        return "its bias is not a constant vector";
    }
    if (!shr_edit_all_finite(&bias->constant)) {
        return "its bias is not finite";
    }
    return NULL;
}

/* Does the value come from a quantized node, if need be through others that pass it on? */
static bool comes_from_quantized(const struct select *s, const struct shr_value *v)
{
    const struct shr_node *p = v != NULL ? v->producer : NULL;
    while (is_role(p, SHR_QUANT_PASS)) {
        const struct shr_value *x = shr_node_in(p, 0);
        p = x != NULL ? x->producer : NULL;
    }
    return is_quantized(s, p);
}

static const char *arith_obstacle(const struct select *s, const struct shr_node *node)
{
    bool any = false;
    for (size_t i = 0; i < node->n_in; i++) {
        if (!is_float_activation(shr_node_in(node, i))) {
            return "an operand is constant or not float32";
        }
        any = any || comes_from_quantized(s, shr_node_in(node, i));
    }
    if (!any) {
        return "none of its inputs is quantized";
    }
    const struct shr_value *out = shr_node_out(node, 0);
    return node->n_out != 1 || out->is_output || out->captured ? "its output is the model's" : NULL;
}

static int choose_nodes(struct select *s, struct shr_err *err)
{
    SHR_EACH_NODE (node, s->g) {
        bool weighted = is_role(node, SHR_QUANT_WEIGHTED), arith = is_role(node, SHR_QUANT_ARITH);
        if (!weighted && !arith) {
            continue;
        }
        const char *why = shr_nodes_excluded(node, s->nodes);
        if (why == NULL && weighted && s->in_float != NULL && s->in_float[node->index]) {
            why = "max_accuracy_drop is not met otherwise";
        }
        if (why == NULL) {
            why = weighted ? weighted_obstacle(node) : arith_obstacle(s, node);
        }
        if (why != NULL) {
            skip(s, node, why);
            continue;
        }
        s->quantized[node->index] = true;
        struct shr_node **added = weighted ? SHR_VEC_ADD(&s->out.weighted) : NULL;
        if (weighted && added == NULL) {
            return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the list of nodes");
        }
        if (weighted) {
            *added = node;
        }
    }
    return SHR_OK;
}

/* ── Values ─────────────────────────────────────────────────────────────────────────────────── */

/* The Relu or Clip that is computed together with the node that writes the value. */
static const struct shr_node *joined_activation(const struct select *s, const struct shr_value *v)
{
    const struct shr_node *reader = is_quantized(s, v->producer) ? shr_edit_reader(v) : NULL;
    return shr_node_is(reader, "Relu") || shr_node_is(reader, "Clip") ? reader : NULL;
}

/* Is the integer form of the node that writes it one with an integer output? MatMul and Gemm can
 * give floats. */
static bool written_as_integer(const struct select *s, const struct shr_value *v)
{
    const struct shr_node *p = v->producer;
    if (p != NULL && (shr_node_is(p, "Relu") || shr_node_is(p, "Clip")) &&
        joined_activation(s, shr_node_in(p, 0)) == p) {
        p = shr_node_in(p, 0)->producer;
    }
    return is_quantized(s, p) && (is_role(p, SHR_QUANT_ARITH) || shr_node_is(p, "Conv"));
}

static bool should_choose(const struct select *s, const struct shr_value *v)
{
    bool passed_on = false;
    SHR_EACH_USE (use, v) {
        const struct shr_node *node = use->node;
        if (is_quantized(s, node) && (use->slot == 0 || is_role(node, SHR_QUANT_ARITH))) {
            return true;
        }
        passed_on = passed_on || (is_role(node, SHR_QUANT_PASS) && use->slot == 0 &&
                                  is_chosen(s, shr_node_out(node, 0)));
    }
    if (v->is_output || v->captured || joined_activation(s, v) != NULL) {
        return false;
    }
    return written_as_integer(s, v) || (passed_on && comes_from_quantized(s, v));
}

static int choose_value(struct select *s, struct shr_value *v, struct shr_err *err)
{
    bool yes = is_float_activation(v) && should_choose(s, v);
    return yes ? shr_map_put(&s->chosen, v->name, v, err) : SHR_OK;
}

/* From the last node to the first: whether a value is chosen depends on its readers. */
static int choose_values(struct select *s, struct shr_err *err)
{
    for (struct shr_node *node = s->g->last_node; node != NULL; node = node->prev) {
        for (size_t i = 0; i < node->n_out; i++) {
            int code = node->out[i] != NULL ? choose_value(s, node->out[i], err) : SHR_OK;
            if (code != SHR_OK) {
                return code;
            }
        }
    }
    for (size_t i = 0; i < s->g->n_inputs; i++) {
        int code = choose_value(s, s->g->inputs[i], err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

/* The channels' axis for the weighted node that reads the value, or -1. */
static int channel_axis_of(const struct select *s, const struct shr_value *v)
{
    SHR_EACH_USE (use, v) {
        if (use->slot == 0 && is_quantized(s, use->node) &&
            is_role(use->node, SHR_QUANT_WEIGHTED)) {
            return shr_node_is(use->node, "Conv") ? 1 : v->type.rank - 1;
        }
    }
    return -1;
}

static int list_value(struct select *s, struct shr_value *v, struct shr_err *err)
{
    if (!is_chosen(s, v)) {
        return SHR_OK;
    }
    struct shr_static_value *added = SHR_VEC_ADD(&s->out.values);
    if (added == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the list of values");
    }
    *added = (struct shr_static_value){
        .v = v, .range_of = s->out.values.n - 1, .channel_axis = channel_axis_of(s, v)};
    if (is_role(v->producer, SHR_QUANT_PASS)) {
        const struct shr_static_value *x = shr_static_find(&s->out, shr_node_in(v->producer, 0));
        added->range_of = x != NULL ? x->range_of : added->range_of;
    }
    return SHR_OK;
}

static int list_values(struct select *s, struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t i = 0; i < s->g->n_inputs && code == SHR_OK; i++) {
        code = list_value(s, s->g->inputs[i], err);
    }
    SHR_EACH_NODE (node, s->g) {
        for (size_t i = 0; i < node->n_out && code == SHR_OK; i++) {
            code = list_value(s, node->out[i], err);
        }
    }
    return code;
}

const struct shr_static_value *shr_static_find(const struct shr_static *s,
                                               const struct shr_value *v)
{
    for (size_t i = 0; i < s->values.n; i++) {
        if (s->values.v[i].v == v) {
            return &s->values.v[i];
        }
    }
    return NULL;
}

int shr_static_select(struct shr_model *model, const struct shr_arg *nodes, const bool *in_float,
                      struct shr_report *report, struct shr_static *ret, struct shr_err *err)
{
    struct select s = {.g = &model->graph, .nodes = nodes, .in_float = in_float, .report = report};
    shr_graph_number(s.g);
    s.quantized = shr_mem_new(s.g->n_nodes + 1, sizeof *s.quantized);
    int code = s.quantized == NULL
                   ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the choice of nodes")
                   : choose_nodes(&s, err);
    if (code == SHR_OK) {
        code = choose_values(&s, err);
    }
    if (code == SHR_OK) {
        code = list_values(&s, err);
    }
    if (code == SHR_OK) {
        *ret = s.out;
    } else {
        shr_static_finish(&s.out);
    }
    shr_mem_free(s.quantized);
    shr_map_finish(&s.chosen);
    return code;
}

void shr_static_finish(struct shr_static *s)
{
    SHR_VEC_FINISH(&s->values);
    SHR_VEC_FINISH(&s->weighted);
}
