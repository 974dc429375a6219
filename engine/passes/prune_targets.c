/* Finding the tensors that can be pruned; see prune_targets.h.
 *
 * A weight is a constant in the weight slot of an operator whose row says so, directly or behind
 * DequantizeLinear; or the weight of an integer operator, whose slots are listed here because only
 * pruning asks where their zero points are. */
#include "passes/prune_targets.h"

#include <string.h>

struct int_op {
    const char *domain, *name;
    size_t weight, scale, zero; /* input slots; 0 = none */
};

static const struct int_op int_ops[] = {
    {"", "MatMulInteger", 1, 0, 3},
    {"", "ConvInteger", 1, 0, 3},
    {"", "QLinearMatMul", 3, 4, 5},
    {"", "QLinearConv", 3, 4, 5},
    {"com.microsoft", "QGemm", 3, 4, 5},
    {"com.microsoft", "DynamicQuantizeMatMul", 1, 2, 3},
    {"com.microsoft", "DynamicQuantizeLSTM", 1, 8, 9},
    {"com.microsoft", "DynamicQuantizeLSTM", 2, 10, 11},
};

/* The first of the node's rows at or behind `at`, NULL at the end. */
static const struct int_op *find_int_op(const struct shr_node *node, const struct int_op *at)
{
    for (; at < int_ops + SHR_COUNT_OF(int_ops); at++) {
        if (strcmp(at->name, node->op_type) == 0 && strcmp(at->domain, node->domain) == 0) {
            return at;
        }
    }
    return NULL;
}

static bool is_recurrent(const struct shr_node *node)
{
    return shr_node_is(node, "LSTM") || shr_node_is(node, "GRU") || shr_node_is(node, "RNN");
}

static bool is_conv(const struct shr_node *node)
{
    return strstr(node->op_type, "Conv") != NULL;
}

/* The axis of a weight that is summed over. */
static int reduce_axis_of(const struct shr_node *node, int rank)
{
    if (is_conv(node)) {
        return shr_node_is(node, "ConvTranspose") ? 0 : 1;
    }
    bool last = is_recurrent(node) || shr_node_int(node, "transB", 0) != 0;
    return last || rank < 2 ? rank - 1 : rank - 2;
}

/* The axis of a weight that per-channel scales run along. */
static int channel_axis_of(const struct shr_node *node, int rank)
{
    return is_conv(node) || shr_node_int(node, "transB", 0) != 0 ? 0 : rank - 1;
}

static const struct shr_tensor *constant_in(const struct shr_node *node, size_t slot)
{
    struct shr_value *v = shr_node_in(node, slot);
    return shr_value_is_constant(v) ? &v->constant : NULL;
}

/* The per-channel scale that is multiplied in behind MatMulInteger: Cast, then Mul with
 * Mul(input scale, weight scale). NULL when it is done in another way. */
static const struct shr_tensor *scale_behind(const struct shr_node *node)
{
    const struct shr_node *cast = shr_value_single_use(shr_node_out(node, 0));
    const struct shr_node *mul =
        shr_node_is(cast, "Cast") ? shr_value_single_use(shr_node_out(cast, 0)) : NULL;
    for (size_t slot = 0; slot < 2 && shr_node_is(mul, "Mul"); slot++) {
        const struct shr_value *other = shr_node_in(mul, slot);
        if (other == NULL || !shr_node_is(other->producer, "Mul")) {
            continue;
        }
        for (size_t i = 0; i < 2; i++) {
            const struct shr_tensor *scale = constant_in(other->producer, i);
            if (scale != NULL) {
                return scale;
            }
        }
    }
    return NULL;
}

static bool fits(const struct shr_tensor *params, const struct shr_tensor *weight, int axis,
                 bool directions)
{
    if (params == NULL || shr_tensor_count(params) == 1) {
        return true;
    }
    if (directions) {
        return weight->rank == 3 && params->dim[0] == weight->dim[0] &&
               (params->rank == 1 || (params->rank == 2 && params->dim[1] == weight->dim[axis]));
    }
    return params->rank == 1 && axis >= 0 && axis < weight->rank &&
           params->dim[0] == weight->dim[axis];
}

static int add(struct shr_prune_targets *targets, struct shr_prune_target t,
               struct shr_report *report, struct shr_err *err)
{
    for (size_t i = 0; i < targets->list.n; i++) {
        if (targets->list.v[i].value == t.value) {
            return SHR_OK; /* tied */
        }
    }
    const struct shr_tensor *w = &t.value->constant;
    if (!fits(t.scale, w, t.axis, t.directions) || !fits(t.zero, w, t.axis, t.directions)) {
        shr_report_note(report, SHR_NOTE_SKIPPED, t.value->name,
                        "its scales are neither per tensor nor per channel");
        return SHR_OK;
    }
    struct shr_prune_target *added = SHR_VEC_ADD(&targets->list);
    if (added == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the list of weights");
    }
    *added = t;
    return SHR_OK;
}

static void skip(struct shr_report *report, const struct shr_node *node, const char *why)
{
    char label[256];
    shr_report_note(report, SHR_NOTE_SKIPPED, shr_node_label(node, label, sizeof label), "%s", why);
}

static int add_int_op(struct shr_prune_targets *targets, const struct shr_node *node,
                      const struct int_op *op, struct shr_report *report, struct shr_err *err)
{
    struct shr_value *w = shr_node_in(node, op->weight);
    if (!shr_value_is_constant(w)) {
        skip(report, node, "its weights are not constant");
        return SHR_OK;
    }
    struct shr_prune_target t = {
        .value = w,
        .node = node,
        .reduce_axis = reduce_axis_of(node, w->constant.rank),
        .axis = channel_axis_of(node, w->constant.rank),
        .scale = op->scale > 0 ? constant_in(node, op->scale) : scale_behind(node),
        .zero = constant_in(node, op->zero),
        .directions = strcmp(op->name, "DynamicQuantizeLSTM") == 0,
    };
    if (t.scale == NULL) {
        shr_report_note(report, SHR_NOTE_WARNING, w->name,
                        "its scales were not found; weights are compared as the integers they are");
    }
    return add(targets, t, report, err);
}

/* A float weight or bias in a slot; behind DequantizeLinear, the quantized one. */
static int add_slot(struct shr_prune_targets *targets, const struct shr_node *node, size_t slot,
                    bool bias, struct shr_report *report, struct shr_err *err)
{
    struct shr_value *v = shr_node_in(node, slot);
    if (v == NULL) {
        return SHR_OK;
    }
    struct shr_prune_target t = {.value = v, .node = node};
    if (v->producer != NULL && shr_node_is(v->producer, "DequantizeLinear")) {
        const struct shr_node *dq = v->producer;
        t.value = shr_node_in(dq, 0);
        t.scale = constant_in(dq, 1);
        t.zero = constant_in(dq, 2);
        t.axis = (int)shr_node_int(dq, "axis", 1);
        bool zero_known = shr_node_in(dq, 2) == NULL || t.zero != NULL;
        if (t.scale == NULL || !zero_known || !shr_value_is_constant(t.value)) {
            t.value = NULL;
        }
    }
    if (!shr_value_is_constant(t.value)) {
        skip(report, node, bias ? "its bias is not constant" : "its weights are not constant");
        return SHR_OK;
    }
    const struct shr_tensor *w = &t.value->constant;
    if (t.scale == NULL && !shr_dtype_is_float(w->dtype)) {
        skip(report, node, "its weights are neither floating point nor quantized");
        return SHR_OK;
    }
    t.axis = t.axis < 0 ? t.axis + w->rank : t.axis;
    t.reduce_axis = bias ? -1 : reduce_axis_of(node, w->rank);
    return add(targets, t, report, err);
}

static int add_node(struct shr_prune_targets *targets, const struct shr_node *node, bool biases,
                    struct shr_report *report, struct shr_err *err)
{
    int code = SHR_OK;
    const struct int_op *int_op = find_int_op(node, int_ops);
    if (int_op != NULL) {
        for (; int_op != NULL && code == SHR_OK; int_op = find_int_op(node, int_op + 1)) {
            code = add_int_op(targets, node, int_op, report, err);
        }
        return code;
    }
    code = add_slot(targets, node, (size_t)node->op->weight_slot, false, report, err);
    if (code == SHR_OK && is_recurrent(node)) {
        code = add_slot(targets, node, 2, false, report, err); /* R, the recurrent weights */
    }
    if (code == SHR_OK && biases && node->op->bias_slot >= 0) {
        code = add_slot(targets, node, (size_t)node->op->bias_slot, true, report, err);
    }
    return code;
}

int shr_prune_targets_find(struct shr_model *model, const struct shr_arg *nodes, bool biases,
                           struct shr_report *report, struct shr_prune_targets *ret,
                           struct shr_err *err)
{
    struct shr_prune_targets targets = {0};
    SHR_EACH_NODE (node, &model->graph) {
        bool weighted = node->op != NULL && node->op->prune_role == SHR_PRUNE_WEIGHTED &&
                        node->op->weight_slot >= 0;
        if (!weighted && find_int_op(node, int_ops) == NULL) {
            continue;
        }
        const char *why = shr_nodes_excluded(node, nodes);
        if (why != NULL) {
            skip(report, node, why);
            continue;
        }
        int code = add_node(&targets, node, biases, report, err);
        if (code != SHR_OK) {
            shr_prune_targets_finish(&targets);
            return code;
        }
    }
    *ret = targets;
    return SHR_OK;
}

void shr_prune_targets_finish(struct shr_prune_targets *targets)
{
    SHR_VEC_FINISH(&targets->list);
}

static double param_at(const struct shr_prune_target *t, const struct shr_tensor *params, int64_t i)
{
    if (shr_tensor_count(params) == 1) {
        return shr_tensor_get(params, 0);
    }
    const struct shr_tensor *w = &t->value->constant;
    int64_t inner = 1;
    for (int d = t->axis + 1; d < w->rank; d++) {
        inner *= w->dim[d];
    }
    int64_t channel = i / inner % w->dim[t->axis];
    if (t->directions) {
        int64_t n = shr_tensor_count(params) / w->dim[0];
        return shr_tensor_get(params, i / (w->dim[1] * w->dim[2]) * n + channel % n);
    }
    return shr_tensor_get(params, channel);
}

double shr_prune_target_zero(const struct shr_prune_target *t, int64_t i)
{
    return t->zero == NULL ? 0 : param_at(t, t->zero, i);
}

double shr_prune_target_real(const struct shr_prune_target *t, int64_t i)
{
    double x = shr_tensor_get(&t->value->constant, i) - shr_prune_target_zero(t, i);
    return t->scale == NULL ? x : x * param_at(t, t->scale, i);
}
