/* quantize_aware: int8 weights and activations that were trained for it.
 *
 * It begins with what quantize_static makes of the optimized model. In a copy for training, each
 * pair of QuantizeLinear and DequantizeLinear becomes a FakeQuantize with a learned scale, weights
 * are those of the optimized model and biases float again; ranges that quantize_static shared stay
 * shared. What was learned is written back into the first model: integers, scales, and biases in
 * the product of both. Zero points stay. Thread: one. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/vec.h"
#include "ops/grad.h"
#include "passes/edit.h"
#include "passes/training.h"

enum {
    ARG_ALPHA,
    ARG_TEMPERATURE,
    ARG_CALIBRATION,
    ARG_SAMPLES,
    ARG_REDUCE_RANGE,
    ARG_KEEP_ZEROS,
    SHR_ARGS_TRAINING,
    SHR_ARGS_NODES,
};

static const char *const calibrations[] = {"minmax", "percentile", "entropy", "mse", NULL};

static const struct shr_param params[] = {
    {"alpha", SHR_PARAM_FLOAT, "0.7", 0, 1, NULL,
     "Weight of what the float model says, against the labels; 1 needs no labels"},
    {"temperature", SHR_PARAM_FLOAT, "2", 0.01, 1000, NULL, "Of what the float model says"},
    {"calibration", SHR_PARAM_ENUM, "entropy", 0, 0, calibrations,
     "How the first ranges are found, as in quantize_static"},
    {"samples", SHR_PARAM_INT, "512", 1, 1e9, NULL,
     "Samples of data.calibrate for the first ranges"},
    {"reduce_range", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Weights of 7 bits, whose products saturate on no CPU"},
    {"keep_zeros", SHR_PARAM_BOOL, "true", 0, 0, NULL, "Weights that are zero stay zero"},
    SHR_PARAMS_TRAINING("3", "0.0002"),
    SHR_PARAMS_NODES,
};

enum kind { ACTIVATION, WEIGHT, BIAS };

struct link { /* a DequantizeLinear of the quantized model, and what it became for training */
    enum kind kind;
    struct shr_node *dq;
    const char *data, *log_scale; /* initializers of the copy; NULL where there is none */
};

struct aware {
    struct shr_pass_call *call;
    const struct shr_arg *args;
    struct shr_model *real; /* optimized, in float: what quantized was made of */
    struct shr_model *quantized, *copy, *trained;
    SHR_VEC(struct link) links;
};

/* ── The start ──────────────────────────────────────────────────────────────────────────────── */

static int set_filter(struct shr_args *to, const struct aware *a, struct shr_err *err)
{
    static const char *const names[] = {"nodes.include", "nodes.exclude", "nodes.op_types"};
    int code = SHR_OK;
    for (size_t i = 0; i < SHR_COUNT_OF(names) && code == SHR_OK; i++) {
        const struct shr_arg *list = &a->args[ARG_NODES + i];
        code = shr_args_set_list(to, names[i], list->texts, list->n_texts, err);
    }
    return code;
}

static int optimize(struct aware *a, struct shr_err *err)
{
    struct shr_args args = {0};
    struct shr_pass_call call = *a->call;
    int code = shr_args_init(&args, &shr_pass_optimize, err);
    call.args = &args;
    if (code == SHR_OK) {
        code = shr_pass_run(&shr_pass_optimize, &call, err);
    }
    if (code == SHR_OK) {
        a->real = call.ret_model;
    }
    shr_args_finish(&args);
    return code;
}

static int start(struct aware *a, struct shr_err *err)
{
    struct shr_args args = {0};
    struct shr_pass_call call = *a->call;
    int code = optimize(a, err);
    call.model = a->real;
    if (code == SHR_OK) {
        code = shr_args_init(&args, &shr_pass_quantize_static, err);
    }
    if (code == SHR_OK) {
        code = shr_args_set_bool(&args, "pre_optimize", false, err);
    }
    if (code == SHR_OK) {
        code =
            shr_args_set_text(&args, "calibration", calibrations[a->args[ARG_CALIBRATION].i], err);
    }
    if (code == SHR_OK) {
        code = shr_args_set_int(&args, "samples", a->args[ARG_SAMPLES].i, err);
    }
    if (code == SHR_OK) {
        code = shr_args_set_text(&args, "reduce_range",
                                 a->args[ARG_REDUCE_RANGE].b ? "true" : "false", err);
    }
    if (code == SHR_OK) {
        code = set_filter(&args, a, err);
    }
    call.args = &args;
    if (code == SHR_OK) {
        code = shr_pass_run(&shr_pass_quantize_static, &call, err);
    }
    if (code == SHR_OK) {
        a->quantized = call.ret_model;
    }
    shr_args_finish(&args);
    return code;
}

/* ── The copy for training ──────────────────────────────────────────────────────────────────── */

/* The logarithms of scales, at least a vector of one: scalars are not trained. */
static int add_log_scale(struct shr_graph *g, const struct shr_value *scale, struct shr_value **ret,
                         struct shr_err *err)
{
    struct shr_tensor t = {0};
    const int64_t n = shr_tensor_count(&scale->constant);
    int code = shr_tensor_new(SHR_DTYPE_F32, 1, &n, &t, err);
    for (int64_t i = 0; i < n && code == SHR_OK; i++) {
        shr_tensor_set(&t, i, log(shr_tensor_get(&scale->constant, i)));
    }
    return code == SHR_OK ? shr_edit_add_constant(g, scale->name, "_log", &t, ret, err) : code;
}

/* What the node that reads the weight behind dq read before it was quantized; NULL = not known. */
static const float *find_real(const struct aware *a, const struct shr_node *dq)
{
    SHR_EACH_USE (use, shr_node_out(dq, 0)) {
        const struct shr_value *y =
            shr_graph_find(&a->real->graph, shr_node_out(use->node, 0)->name);
        const struct shr_node *node = y == NULL ? NULL : y->producer;
        const struct shr_value *w =
            shr_node_is(node, use->node->op_type) ? shr_node_in(node, use->slot) : NULL;
        if (w != NULL && shr_value_is_constant(w) && w->constant.dtype == SHR_DTYPE_F32 &&
            shr_tensor_count(&w->constant) == shr_tensor_count(&shr_node_in(dq, 0)->constant)) {
            return w->constant.data;
        }
    }
    return NULL;
}

/* What a constant DequantizeLinear gives, and what rounding took from it. */
static int add_real(const struct aware *a, const struct shr_node *dq, struct shr_value **ret,
                    struct shr_err *err)
{
    struct shr_graph *g = &a->copy->graph;
    const float *real = find_real(a, dq);
    const struct shr_tensor *q = &shr_node_in(dq, 0)->constant;
    const struct shr_tensor *scale = &shr_node_in(dq, 1)->constant;
    const int64_t axis = shr_node_int(dq, "axis", 1), scales = shr_tensor_count(scale);
    int64_t inner = 1;
    for (int d = (int)axis + 1; d < q->rank; d++) {
        inner *= q->dim[d];
    }
    struct shr_tensor t = {0};
    int code = shr_tensor_new(SHR_DTYPE_F32, q->rank, q->dim, &t, err);
    for (int64_t i = 0, n = shr_tensor_count(q); i < n && code == SHR_OK; i++) {
        const int64_t channel = scales > 1 ? i / inner % scales : 0;
        const double integer = shr_tensor_get(q, i), step = shr_tensor_get(scale, channel);
        const bool rounded = real != NULL && rint((double)real[i] / step) == integer;
        shr_tensor_set(&t, i, rounded ? (double)real[i] : integer * step);
    }
    return code == SHR_OK
               ? shr_edit_add_constant(g, shr_node_in(dq, 0)->name, "_real", &t, ret, err)
               : code;
}

/* x, or a weight, goes through FakeQuantize instead of the pair that ends with dq. */
static int fake(struct shr_graph *g, struct shr_node *dq, struct shr_value *x,
                struct shr_value *log_scale, int64_t lo, int64_t hi, struct shr_err *err)
{
    struct shr_value *y = NULL;
    struct shr_node *node = NULL;
    int code = shr_graph_fresh_value(g, shr_node_out(dq, 0)->name, &y, err);
    if (code == SHR_OK) {
        code = shr_graph_add_node(g, dq, SHR_TRAIN_DOMAIN, "FakeQuantize", "",
                                  (struct shr_value *[]){x, log_scale}, 2, &y, 1, &node, err);
    }
    if (code == SHR_OK) {
        code = shr_node_set_int(g, node, "lo", lo, err);
    }
    if (code == SHR_OK) {
        code = shr_node_set_int(g, node, "hi", hi, err);
    }
    if (code == SHR_OK && shr_tensor_count(&log_scale->constant) > 1) {
        code = shr_node_set_int(g, node, "axis", shr_node_int(dq, "axis", 1), err);
    }
    if (code == SHR_OK) {
        shr_value_replace_uses(shr_node_out(dq, 0), y);
    }
    return code;
}

/* Activations of one scale initializer share what is learned. */
static int fake_activation(struct aware *a, struct shr_node *dq, struct link *link,
                           struct shr_err *err)
{
    struct shr_graph *g = &a->copy->graph;
    const struct shr_value *scale = shr_node_in(dq, 1), *zero = shr_node_in(dq, 2);
    struct shr_value *log_scale = NULL;
    const bool is_signed = zero->constant.dtype == SHR_DTYPE_I8;
    const int64_t z = (int64_t)shr_tensor_get(&zero->constant, 0);
    for (size_t i = 0; i + 1 < a->links.n && log_scale == NULL; i++) {
        const struct link *other = &a->links.v[i];
        if (other->kind == ACTIVATION &&
            strcmp(shr_node_in(other->dq, 1)->name, scale->name) == 0) {
            log_scale = shr_graph_find(g, other->log_scale);
        }
    }
    int code = log_scale == NULL ? add_log_scale(g, scale, &log_scale, err) : SHR_OK;
    if (code == SHR_OK) {
        link->log_scale = log_scale->name;
        code = fake(g, dq, shr_node_in(shr_node_in(dq, 0)->producer, 0), log_scale,
                    (is_signed ? -128 : 0) - z, (is_signed ? 127 : 255) - z, err);
    }
    return code;
}

static int fake_constant(struct aware *a, struct shr_node *dq, struct link *link,
                         struct shr_err *err)
{
    struct shr_graph *g = &a->copy->graph;
    struct shr_value *real = NULL, *log_scale = NULL;
    const int64_t most = a->args[ARG_REDUCE_RANGE].b ? 64 : 127;
    int code = add_real(a, dq, &real, err);
    if (code != SHR_OK) {
        return code;
    }
    link->data = real->name;
    if (link->kind == BIAS) {
        shr_value_replace_uses(shr_node_out(dq, 0), real);
        return SHR_OK;
    }
    code = add_log_scale(g, shr_node_in(dq, 1), &log_scale, err);
    if (code == SHR_OK) {
        link->log_scale = log_scale->name;
        code = fake(g, dq, real, log_scale, -most, most, err);
    }
    return code;
}

static int fake_node(struct aware *a, struct shr_node *dq, struct shr_node *in_copy,
                     struct shr_err *err)
{
    const struct shr_value *x = shr_node_in(dq, 0);
    struct link *link = SHR_VEC_ADD(&a->links);
    if (link == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for quantized values");
    }
    *link = (struct link){.kind = !shr_value_is_constant(x)            ? ACTIVATION
                                  : x->constant.dtype == SHR_DTYPE_I32 ? BIAS
                                                                       : WEIGHT,
                          .dq = dq};
    return link->kind == ACTIVATION ? fake_activation(a, in_copy, link, err)
                                    : fake_constant(a, in_copy, link, err);
}

/* Nodes of a clone stand in the same order. */
static int make_copy(struct aware *a, struct shr_err *err)
{
    int code = shr_model_clone(a->quantized, &a->copy, err);
    if (code == SHR_OK) {
        code = shr_model_import(a->copy, SHR_TRAIN_DOMAIN, 1, err);
    }
    struct shr_node *in_copy = code == SHR_OK ? a->copy->graph.first_node : NULL;
    for (struct shr_node *node = a->quantized->graph.first_node; node != NULL && code == SHR_OK;
         node = node->next) {
        struct shr_node *next = in_copy->next;
        if (shr_node_is(node, "DequantizeLinear")) {
            code = fake_node(a, node, in_copy, err);
        }
        in_copy = next;
    }
    if (code == SHR_OK) {
        shr_graph_drop_unused(&a->copy->graph);
        shr_model_resolve(a->copy);
    }
    return code;
}

/* ── Training ───────────────────────────────────────────────────────────────────────────────── */

static int train(struct aware *a, struct shr_err *err)
{
    struct shr_fit_opts o = {0};
    struct shr_fit_result result = {0};
    const double alpha = a->args[ARG_ALPHA].f;
    shr_training_opts(&o, &a->args[ARG_EPOCHS], a->call);
    o.teacher = a->call->original != NULL ? a->call->original : a->call->model;
    o.loss.temperature = (float)a->args[ARG_TEMPERATURE].f;
    o.loss.soft_weight = (float)alpha;
    o.loss.hard_weight = (float)(1 - alpha);
    o.keep_zeros = a->args[ARG_KEEP_ZEROS].b;
    if (alpha < 1 && a->call->train->labels == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "alpha: %g needs labels, and data.train has none; without labels it "
                           "must be 1",
                           alpha);
    }
    int code = shr_fit(a->copy, &o, a->call->ctx, &a->trained, &result, err);
    if (code == SHR_OK) {
        shr_training_report(a->call->report, &o, &result);
    }
    shr_fit_result_finish(&result);
    return code;
}

/* ── Back into the quantized model ──────────────────────────────────────────────────────────── */

static const struct shr_tensor *learned(const struct aware *a, const char *name)
{
    return &shr_graph_find(&a->trained->graph, name)->constant;
}

/* Scales in the shape of those that a node has. */
static int new_scales(const struct aware *a, const struct link *link, struct shr_tensor *ret,
                      struct shr_err *err)
{
    const struct shr_tensor *old = &shr_node_in(link->dq, 1)->constant;
    const float *logs = learned(a, link->log_scale)->data;
    struct shr_tensor t = {0};
    int code = shr_tensor_new(SHR_DTYPE_F32, old->rank, old->dim, &t, err);
    for (int64_t i = 0, n = shr_tensor_count(old); i < n && code == SHR_OK; i++) {
        ((float *)t.data)[i] = expf(logs[i]);
    }
    if (code == SHR_OK) {
        *ret = t;
    }
    return code;
}

/* Both nodes of a pair read a new initializer; pairs that shared one share again. */
static int write_activation(struct aware *a, size_t at, struct shr_err *err)
{
    const struct link *link = &a->links.v[at];
    struct shr_node *q = shr_node_in(link->dq, 0)->producer;
    struct shr_value *scale = NULL;
    struct shr_tensor t = {0};
    for (size_t i = 0; i < at && scale == NULL; i++) {
        const struct link *other = &a->links.v[i];
        if (other->kind == ACTIVATION && other->log_scale == link->log_scale) {
            scale = shr_node_in(other->dq, 1);
        }
    }
    int code = scale == NULL ? new_scales(a, link, &t, err) : SHR_OK;
    if (code == SHR_OK && scale == NULL) {
        code = shr_edit_add_constant(&a->quantized->graph, shr_node_in(link->dq, 1)->name, "_t", &t,
                                     &scale, err);
    }
    if (code == SHR_OK) {
        shr_node_set_input(q, 1, scale);
        shr_node_set_input(link->dq, 1, scale);
    }
    return code;
}

static void round_to(const struct shr_tensor *real, const struct shr_tensor *scale, int64_t axis,
                     double most, struct shr_tensor *q)
{
    const float *x = real->data, *s = scale->data;
    const int64_t scales = shr_tensor_count(scale);
    int64_t inner = 1;
    for (int d = (int)axis + 1; d < q->rank; d++) {
        inner *= q->dim[d];
    }
    for (int64_t i = 0, n = shr_tensor_count(q); i < n; i++) {
        double v = (double)rintf(x[i] / s[scales > 1 ? i / inner % scales : 0]);
        shr_tensor_set(q, i, fmax(-most, fmin(v, most)));
    }
}

/* New integers and scales of a node; takes the scales. */
static int write_constant(struct aware *a, const struct link *link, struct shr_tensor take_scale,
                          double most, struct shr_err *err)
{
    struct shr_graph *g = &a->quantized->graph;
    const struct shr_tensor *old = &shr_node_in(link->dq, 0)->constant;
    struct shr_tensor q = {0};
    int code = shr_tensor_new(old->dtype, old->rank, old->dim, &q, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&take_scale);
        return code;
    }
    round_to(learned(a, link->data), &take_scale, shr_node_int(link->dq, "axis", 1), most, &q);
    code = shr_edit_constant(g, link->dq, 1, take_scale, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&q);
        return code;
    }
    return shr_edit_constant(g, link->dq, 0, q, err);
}

static const struct shr_tensor *scale_of(const struct shr_node *node, size_t slot)
{
    const struct shr_value *v = shr_node_in(node, slot);
    return v == NULL || !shr_node_is(v->producer, "DequantizeLinear")
               ? NULL
               : &shr_node_in(v->producer, 1)->constant;
}

/* The scale of a bias is that of the products: input times weight. */
static int write_bias(struct aware *a, const struct link *link, struct shr_err *err)
{
    const struct shr_node *node = shr_value_single_use(shr_node_out(link->dq, 0));
    const struct shr_tensor *x = node == NULL ? NULL : scale_of(node, 0);
    const struct shr_tensor *w = node == NULL ? NULL : scale_of(node, 1);
    struct shr_tensor *old = &shr_node_in(link->dq, 1)->constant, t = {0};
    int code = shr_tensor_new(SHR_DTYPE_F32, old->rank, old->dim, &t, err);
    for (int64_t i = 0, n = shr_tensor_count(old); i < n && code == SHR_OK; i++) {
        double scale = shr_tensor_get(old, i);
        if (x != NULL && w != NULL) {
            scale = shr_tensor_get(x, 0) * shr_tensor_get(w, shr_tensor_count(w) > 1 ? i : 0);
        }
        shr_tensor_set(&t, i, scale);
    }
    return code == SHR_OK ? write_constant(a, link, t, (double)INT32_MAX, err) : code;
}

static int write_back(struct aware *a, struct shr_err *err)
{
    int code = SHR_OK;
    const double most = a->args[ARG_REDUCE_RANGE].b ? 64 : 127;
    for (size_t i = 0; i < a->links.n && code == SHR_OK; i++) {
        const struct link *link = &a->links.v[i];
        struct shr_tensor scale = {0};
        if (link->kind == ACTIVATION) {
            code = write_activation(a, i, err);
        } else if (link->kind == WEIGHT) {
            code = new_scales(a, link, &scale, err);
            code = code == SHR_OK ? write_constant(a, link, scale, most, err) : code;
        }
    }
    for (size_t i = 0; i < a->links.n && code == SHR_OK; i++) { /* they need the scales of others */
        code = a->links.v[i].kind == BIAS ? write_bias(a, &a->links.v[i], err) : SHR_OK;
    }
    shr_graph_drop_unused(&a->quantized->graph);
    return code;
}

static int run(struct shr_pass_call *call, struct shr_err *err)
{
    struct aware a = {.call = call, .args = call->args->v};
    int code = start(&a, err);
    if (code == SHR_OK) {
        code = make_copy(&a, err);
    }
    if (code == SHR_OK && a.links.n == 0) {
        code = shr_err_set(err, SHR_ERR_UNSUPPORTED, "nothing of the model can be quantized");
    }
    if (code == SHR_OK) {
        code = train(&a, err);
    }
    if (code == SHR_OK) {
        code = write_back(&a, err);
    }
    if (code == SHR_OK) {
        call->ret_model = a.quantized;
        a.quantized = NULL;
    }
    SHR_VEC_FINISH(&a.links);
    shr_model_free(a.real);
    shr_model_free(a.quantized);
    shr_model_free(a.copy);
    shr_model_free(a.trained);
    return code;
}

const struct shr_pass shr_pass_quantize_aware = {
    .name = "quantize_aware",
    .help = "Trains the model with int8 weights and activations, from what quantize_static makes",
    .needs = SHR_NEEDS_CALIBRATE | SHR_NEEDS_TRAIN | SHR_NEEDS_RUN,
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .run = run,
};
