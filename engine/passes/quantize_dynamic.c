/* quantize_dynamic: int8 weights now, inputs quantized when the model runs.
 *
 * MatMul and Gemm with constant weights become
 *     DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul by both scales [-> Add of the bias]
 * the form, and the names, of ONNX Runtime's tool, so that its fusions find it; LSTM becomes
 * com.microsoft's DynamicQuantizeLSTM (dynamic_lstm.c); Gather, GRU and RNN store their weights as
 * integers (dynamic_stored.c). An input that several nodes read is quantized once, and so are tied
 * weights (dynamic_weight.c). Thread: one. */
#include <stdio.h>

#include "passes/dynamic.h"
#include "passes/linear.h"
#include "passes/raise_opset.h"

enum { ARG_WEIGHT_TYPE, ARG_PER_CHANNEL, ARG_REDUCE_RANGE, ARG_OPS, SHR_ARGS_NODES };
enum { OPSET_NEEDED = 11, OPSET_OF_AXES = 13 }; /* DynamicQuantizeLinear; DequantizeLinear's */

static const char *const weight_types[] = {"int8", "uint8", NULL};
enum { REDUCE_AUTO, REDUCE_TRUE, REDUCE_FALSE };
static const char *const reduce_choices[] = {"auto", "true", "false", NULL};

static const struct shr_param params[] = {
    {"weight_type", SHR_PARAM_ENUM, "int8", 0, 0, weight_types,
     "int8 is symmetric about 0, uint8 has a zero point"},
    {"per_channel", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "A scale for each output, not for a tensor"},
    {"reduce_range", SHR_PARAM_ENUM, "auto", 0, 0, reduce_choices,
     "7-bit weights, for CPUs whose 16-bit sums of two products saturate; auto: only as far as a "
     "channel needs it"},
    {"op_types", SHR_PARAM_LIST, "MatMul,Gemm,LSTM,GRU,RNN,Gather", 0, 0, NULL,
     "Operators to quantize"},
    SHR_PARAMS_NODES,
};

static struct shr_value *fresh(struct shr_dynamic *d, const char *stem, const char *suffix,
                               struct shr_err *err)
{
    char name[512];
    snprintf(name, sizeof name, "%.480s%s", stem, suffix);
    struct shr_value *v = NULL;
    return shr_graph_fresh_value(d->g, name, &v, err) == SHR_OK ? v : NULL;
}

/* ── Inputs ─────────────────────────────────────────────────────────────────────────────────── */

static int quantize_input(struct shr_dynamic *d, struct shr_node *before, struct shr_value *x,
                          struct shr_dynamic_input *ret, struct shr_err *err)
{
    for (size_t i = 0; i < d->inputs.n; i++) {
        if (d->inputs.v[i].x == x) {
            *ret = d->inputs.v[i];
            return SHR_OK;
        }
    }
    static const char *const suffixes[3] = {"_quantized", "_scale", "_zero_point"};
    struct shr_dynamic_input in = {.x = x};
    for (size_t i = 0; i < 3; i++) {
        in.q[i] = fresh(d, x->name, suffixes[i], err);
        if (in.q[i] == NULL) {
            return SHR_ERR_NOMEM;
        }
    }
    char name[512];
    snprintf(name, sizeof name, "%.480s_QuantizeLinear", x->name);
    int code = shr_graph_add_node(d->g, before, "", "DynamicQuantizeLinear", name, &x, 1, in.q, 3,
                                  NULL, err);
    struct shr_dynamic_input *added = code == SHR_OK ? SHR_VEC_ADD(&d->inputs) : NULL;
    if (added == NULL) {
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    *ret = *added = in;
    return SHR_OK;
}

/* ── Nodes ──────────────────────────────────────────────────────────────────────────────────── */

static int add(struct shr_dynamic *d, struct shr_node *before, const char *op, const char *stem,
               const char *suffix, struct shr_value *const *in, size_t n_in,
               struct shr_node **ret_node, struct shr_value **ret, struct shr_err *err)
{
    char name[512];
    snprintf(name, sizeof name, "%.480s%s", stem, suffix);
    return shr_edit_insert(d->g, before, op, name, in, n_in, name, ret_node, ret, err);
}

/* Writes the nodes up to the product of accumulator and scales; the last gives a new value. */
static int write_product(struct shr_dynamic *d, struct shr_node *node,
                         const struct shr_dynamic_input *x, const struct shr_dynamic_weight *w,
                         struct shr_value **ret, struct shr_err *err)
{
    const char *stem = node->name[0] != 0 ? node->name : shr_node_out(node, 0)->name;
    struct shr_value *acc = NULL, *real = NULL, *scale = NULL;
    struct shr_node *cast = NULL;
    struct shr_value *in[4] = {x->q[0], w->q, x->q[2], w->zero};
    int code =
        add(d, node, "MatMulInteger", stem, "_quant", in, w->zero != NULL ? 4 : 3, NULL, &acc, err);
    if (code == SHR_OK) {
        code = add(d, node, "Cast", stem, "_quant_cast", &acc, 1, &cast, &real, err);
    }
    if (code == SHR_OK) {
        code = shr_node_set_int(d->g, cast, "to", SHR_DTYPE_F32, err);
    }
    if (code == SHR_OK) {
        code = add(d, node, "Mul", stem, "_quant_scales_mul",
                   (struct shr_value *[]){x->q[1], w->scale}, 2, NULL, &scale, err);
    }
    if (code == SHR_OK) {
        code = add(d, node, "Mul", stem, "_quant_output_scale_mul",
                   (struct shr_value *[]){real, scale}, 2, NULL, ret, err);
    }
    return code;
}

static int quantize_product(struct shr_dynamic *d, struct shr_node *node, struct shr_err *err)
{
    struct shr_dynamic_input input = {0};
    struct shr_dynamic_weight weight = {0};
    struct shr_value *x = NULL, *bias = NULL, *product = NULL;
    int code = shr_linear_input(d->g, node, &x, err);
    if (code == SHR_OK) {
        code = quantize_input(d, node, x, &input, err);
    }
    if (code == SHR_OK) {
        code = shr_dynamic_matrix(d, shr_node_in(node, 1), shr_node_int(node, "transB", 0) != 0,
                                  shr_node_float(node, "alpha", 1), &weight, err);
    }
    if (code == SHR_OK) {
        code = shr_linear_bias(d->g, node, &bias, err);
    }
    if (code == SHR_OK) {
        code = write_product(d, node, &input, &weight, &product, err);
    }
    if (code == SHR_OK && bias != NULL) {
        code = add(d, node, "Add", product->name, "_bias", (struct shr_value *[]){product, bias}, 2,
                   NULL, &product, err);
    }
    return code == SHR_OK ? shr_edit_replace(d->g, node, product, err) : code;
}

/* ── The whole ──────────────────────────────────────────────────────────────────────────────── */

struct form {
    const char *op_type;
    const char *(*obstacle)(
        const struct shr_node *node); /* NULL = it has this form, else why not */
    int (*quantize)(struct shr_dynamic *d, struct shr_node *node, struct shr_err *err);
    size_t weights[2]; /* where they are */
    bool stored;       /* smaller only when nobody reads them in float */
};

static const struct form forms[] = {
    {"MatMul", shr_linear_obstacle, quantize_product, {1, 1}, false},
    {"Gemm", shr_linear_obstacle, quantize_product, {1, 1}, false},
    {"LSTM", shr_dynamic_lstm_obstacle, shr_dynamic_lstm, {1, 2}, false},
    {"GRU", shr_dynamic_gru_obstacle, shr_dynamic_gru, {1, 2}, true},
    {"RNN", shr_dynamic_gru_obstacle, shr_dynamic_gru, {1, 2}, true},
    {"Gather", shr_dynamic_gather_obstacle, shr_dynamic_gather, {0, 0}, true},
};

static const struct form *form_of(const struct shr_node *node)
{
    for (size_t i = 0; i < SHR_COUNT_OF(forms); i++) {
        if (shr_node_is(node, forms[i].op_type)) {
            return &forms[i];
        }
    }
    return NULL;
}

static const char *obstacle(const struct shr_node *node, const struct shr_arg *args)
{
    const struct form *form = form_of(node);
    const char *why = shr_nodes_excluded(node, &args[ARG_NODES]);
    if (why == NULL) {
        why = form == NULL ? "it has no dynamically quantized form here; it stays in float"
                           : form->obstacle(node);
    }
    return why != NULL                                    ? why
           : shr_arg_lists(&args[ARG_OPS], node->op_type) ? NULL
                                                          : "its operator is not in op_types";
}

/* Does anybody read it who needs it in float? */
static bool stays(const struct shr_value *w, const struct shr_arg *args)
{
    SHR_EACH_USE (use, w) {
        const struct form *form = form_of(use->node);
        const bool weight =
            form != NULL && (use->slot == form->weights[0] || use->slot == form->weights[1]);
        if (!weight || obstacle(use->node, args) != NULL) {
            return true;
        }
    }
    return w->is_output || w->captured;
}

/* As obstacle, and the weights would not be there twice. */
static const char *whole_obstacle(const struct shr_node *node, const struct shr_arg *args)
{
    const char *why = obstacle(node, args);
    const struct form *form = form_of(node);
    for (size_t i = 0; i < 2 && why == NULL && form->stored; i++) {
        why = stays(shr_node_in(node, form->weights[i]), args) ? "its weights stay in float too"
                                                               : NULL;
    }
    return why;
}

/* Not every Gather has a table: most are of shapes. */
static bool is_candidate(const struct shr_node *node, const struct shr_arg *args)
{
    if (shr_node_is(node, "Gather")) {
        const struct shr_value *table = shr_node_in(node, 0);
        return shr_value_is_constant(table) && table->constant.dtype == SHR_DTYPE_F32;
    }
    return (node->op != NULL && node->op->quant_role == SHR_QUANT_WEIGHTED) ||
           shr_arg_lists(&args[ARG_OPS], node->op_type);
}

static int quantize_all(struct shr_dynamic *d, const struct shr_arg *args,
                        const struct shr_ctx *ctx, struct shr_err *err)
{
    size_t total = d->g->n_nodes, done = 0;
    for (struct shr_node *node = d->g->first_node, *next; node != NULL; node = next, done++) {
        next = node->next;
        if (!is_candidate(node, args)) {
            continue;
        }
        const char *why = whole_obstacle(node, args);
        if (why != NULL) {
            char label[128];
            shr_report_note(d->report, SHR_NOTE_SKIPPED, shr_node_label(node, label, sizeof label),
                            "%s: %s", node->op_type, why);
            continue;
        }
        int code = shr_ctx_poll(ctx, err);
        if (code == SHR_OK) {
            code = form_of(node)->quantize(d, node, err);
        }
        if (code != SHR_OK) {
            return code;
        }
        shr_ctx_tell(ctx, "quantize", done, total);
    }
    return SHR_OK;
}

/* Does a node get weights with an axis of scales? */
static bool wants_axes(const struct shr_dynamic *d, const struct shr_arg *args)
{
    SHR_EACH_NODE (node, d->g) {
        const struct form *form = form_of(node);
        if (form != NULL && form->stored && d->how.per_channel &&
            whole_obstacle(node, args) == NULL) {
            return true;
        }
    }
    return false;
}

/* Where DequantizeLinear cannot get an axis, there is one scale for a tensor. */
static int raise_opset(struct shr_dynamic *d, const struct shr_arg *args, struct shr_err *err)
{
    const bool needed = shr_model_opset(d->model, "") < OPSET_NEEDED;
    if (needed || (shr_model_opset(d->model, "") < OPSET_OF_AXES && wants_axes(d, args))) {
        struct shr_err own = {0};
        int code = shr_raise_opset(d->model, d->report, &own);
        if (code != SHR_OK && (needed || code != SHR_ERR_UNSUPPORTED)) {
            return shr_err_set(err, code, "%s", own.msg);
        }
        if (code != SHR_OK) {
            shr_report_note(d->report, SHR_NOTE_WARNING, "",
                            "%s; weights that are only stored get a scale for each tensor",
                            own.msg);
        }
    }
    d->axes = shr_model_opset(d->model, "") >= OPSET_OF_AXES;
    return SHR_OK;
}

static int edit(struct shr_pass_call *call, struct shr_model *model, struct shr_err *err)
{
    const struct shr_arg *args = call->args->v;
    struct shr_dynamic d = {
        .model = model,
        .g = &model->graph,
        .how = {.int8 = args[ARG_WEIGHT_TYPE].i == 0,
                .ctx = call->ctx,
                .per_channel = args[ARG_PER_CHANNEL].b,
                .reduce = args[ARG_REDUCE_RANGE].i == REDUCE_TRUE,
                .certify = args[ARG_REDUCE_RANGE].i == REDUCE_AUTO},
        .report = call->report,
    };
    int code = raise_opset(&d, args, err);
    if (code == SHR_OK) {
        code = quantize_all(&d, args, call->ctx, err);
    }
    if (code == SHR_OK && d.weights.n == 0) {
        shr_report_note(d.report, SHR_NOTE_WARNING, "", "nothing was quantized");
    }
    if (code == SHR_OK) {
        shr_graph_drop_unused(d.g);
    }
    SHR_VEC_FINISH(&d.inputs);
    SHR_VEC_FINISH(&d.weights);
    return code;
}

const struct shr_pass shr_pass_quantize_dynamic = {
    .name = "quantize_dynamic",
    .help = "int8 weights; inputs are quantized when the model runs, so it needs no data",
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .edit = edit,
};
