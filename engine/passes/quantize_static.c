/* quantize_static: int8 weights and activations, with ranges measured on real samples.
 *
 * Prepare (optimize, choose what to quantize), calibrate (run samples, one histogram a value),
 * convert (write QuantizeLinear and DequantizeLinear; runtimes turn what is between into integer
 * operators). Thread: one. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "passes/edit.h"
#include "passes/equalize.h"
#include "passes/qoperator.h"
#include "passes/quant_sensitivity.h"
#include "passes/raise_opset.h"
#include "passes/static_ranges.h"
#include "passes/static_select.h"
#include "passes/static_weights.h"

enum {
    ARG_CALIBRATION,
    ARG_PERCENTILE,
    ARG_SAMPLES,
    ARG_FORMAT,
    ARG_ACTIVATION_TYPE,
    ARG_WEIGHT_TYPE,
    ARG_PER_CHANNEL,
    ARG_REDUCE_RANGE,
    ARG_BIAS_CORRECTION,
    ARG_EQUALIZE,
    ARG_SMOOTH_QUANT,
    ARG_PRE_OPTIMIZE,
    ARG_RANGES,
    ARG_COMPAT,
    ARG_MAX_MEMORY,
    ARG_SENSITIVITY,
    ARG_SENSITIVITY_SAMPLES,
    ARG_MAX_ACCURACY_DROP,
    SHR_ARGS_NODES,
};

enum { MINMAX, PERCENTILE, ENTROPY, MSE };
static const char *const calibrations[] = {"minmax", "percentile", "entropy", "mse", NULL};
enum { QDQ, QOPERATOR };
static const char *const formats[] = {"qdq", "qoperator", NULL};
static const char *const activation_types[] = {"uint8", "int8", NULL};
static const char *const weight_types[] = {"int8", NULL};
enum { REDUCE_AUTO, REDUCE_TRUE, REDUCE_FALSE };
static const char *const reduce_choices[] = {"auto", "true", "false", NULL};

static const char *const compats[] = {"none", "ort", "pytorch", NULL};

static const struct shr_param params[] = {
    {"calibration", SHR_PARAM_ENUM, "entropy", 0, 0, calibrations,
     "How a range is read from the values that were seen"},
    {"percentile", SHR_PARAM_FLOAT, "99.99", 50, 100, NULL,
     "Of the values, for calibration percentile: the rest is cut, half of it on each side"},
    {"samples", SHR_PARAM_INT, "512", 1, 1e9, NULL,
     "How many samples to see, drawn by the job's seed; all when there are fewer"},
    {"format", SHR_PARAM_ENUM, "qdq", 0, 0, formats, "How quantization is written"},
    {"activation_type", SHR_PARAM_ENUM, "uint8", 0, 0, activation_types,
     "Of the values between nodes; with a zero point"},
    {"weight_type", SHR_PARAM_ENUM, "int8", 0, 0, weight_types, "Of weights; symmetric about 0"},
    {"per_channel", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "A weight scale for each output, not for a tensor"},
    {"reduce_range", SHR_PARAM_ENUM, "auto", 0, 0, reduce_choices,
     "7-bit weights, for CPUs whose 16-bit sums of two products saturate; auto: only as far as a "
     "channel needs it"},
    {"bias_correction", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Take back through the bias how rounded weights move the mean of an output"},
    {"equalize", SHR_PARAM_BOOL, "false", 0, 0, NULL,
     "Give the channels between two layers the same range on both sides first"},
    {"smooth_quant", SHR_PARAM_FLOAT, "0", 0, 1, NULL,
     "How much of the size of channels behind a LayerNormalization goes into the weights that read "
     "them; 0 means nothing, 0.5 half"},
    {"pre_optimize", SHR_PARAM_BOOL, "true", 0, 0, NULL, "Run optimize first"},
    {"ranges", SHR_PARAM_LIST, "", 0, 0, NULL,
     "Ranges that are not to be measured, each NAME=MIN:MAX with the name of a tensor"},
    {"compat", SHR_PARAM_ENUM, "none", 0, 0, compats,
     "Scales and zero points exactly as ONNX Runtime's quantizer (QDQ) or PyTorch's observers "
     "choose "
     "them (with reduce_range, as for fbgemm, unless that is false), for calibration minmax"},
    {"max_memory", SHR_PARAM_BYTES, "0", 0, 0, NULL,
     "For calibration; 0 means the limit of the job"},
    {"sensitivity", SHR_PARAM_BOOL, "false", 0, 0, NULL,
     "Tell for each layer with weights what quantizing it alone costs: noise and accuracy"},
    {"sensitivity_samples", SHR_PARAM_INT, "128", 1, 1e9, NULL,
     "How many of the samples a layer alone is judged on"},
    {"max_accuracy_drop", SHR_PARAM_FLOAT, "0", 0, 1, NULL,
     "Leave the fewest layers in float with which at most this much accuracy is lost on "
     "data.calibrate; without labels, this share of classes changes; 0: quantize all"},
    SHR_PARAMS_NODES,
};

struct range {
    bool known;
    double min, max;
};

struct quantize {
    const struct shr_pass_call *call;
    const struct shr_arg *args;
    struct shr_model *model;
    bool per_channel;
    struct shr_static chosen;
    struct shr_calibration seen;     /* one a chosen value */
    struct range *ranges;            /* one a chosen value, read once: entropy takes its time */
    struct shr_quant_params *scales; /* one a chosen value */
    struct shr_qdq qdq;
};

static bool chooses_layers(const struct quantize *q)
{
    return q->args[ARG_SENSITIVITY].b || q->args[ARG_MAX_ACCURACY_DROP].f > 0;
}

static enum shr_dtype activation_dtype(const struct quantize *q)
{
    return q->args[ARG_ACTIVATION_TYPE].i == 0 ? SHR_DTYPE_U8 : SHR_DTYPE_I8;
}

/* ── Prepare ────────────────────────────────────────────────────────────────────────────────── */

static int check(const struct shr_pass_call *call, struct shr_err *err)
{
    const struct shr_arg *args = call->args->v;
    if (args[ARG_COMPAT].i != SHR_STATIC_OWN && args[ARG_CALIBRATION].i != MINMAX) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "compat: %s is reproduced with calibration minmax only, since its "
                           "histograms depend on the batches",
                           compats[args[ARG_COMPAT].i]);
    }
    return SHR_OK;
}

/* Scales per channel need opset 13. A model that cannot get there has scales per tensor. */
static int raise(struct quantize *q, struct shr_err *err)
{
    const int64_t opset = shr_model_opset(q->model, "");
    struct shr_err why = {0};
    int code = shr_raise_opset(q->model, q->call->report, &why);
    if (code == SHR_ERR_UNSUPPORTED && opset >= SHR_QDQ_OPSET) {
        shr_report_note(q->call->report, SHR_NOTE_WARNING, "", "scales are per tensor, since %s",
                        why.msg);
        q->per_channel = false;
        return SHR_OK;
    }
    if (code != SHR_OK) {
        *err = why;
    }
    return code;
}

static size_t memory_for_samples(const struct quantize *q)
{
    const struct shr_ctx *ctx = q->call->ctx;
    size_t limit = (size_t)q->args[ARG_MAX_MEMORY].i;
    return limit == 0 && ctx != NULL ? ctx->max_memory : limit;
}

/* What moves factors between nodes and leaves the function of the model as it is. */
static int balance(struct quantize *q, struct shr_err *err)
{
    int code = SHR_OK;
    if (q->args[ARG_EQUALIZE].b) {
        code = shr_equalize(q->model, q->call->report, err);
    }
    if (code == SHR_OK && q->args[ARG_SMOOTH_QUANT].f > 0) {
        code = shr_smooth(q->model, q->call, q->args[ARG_SMOOTH_QUANT].f, q->args[ARG_SAMPLES].i,
                          memory_for_samples(q), err);
    }
    return code;
}

static int prepare(struct quantize *q, struct shr_err *err)
{
    struct shr_report *report = q->call->report;
    int code = shr_model_infer(q->model, NULL, err);
    if (code == SHR_OK && q->args[ARG_PRE_OPTIMIZE].b) {
        code = shr_fold_constants(q->model, report, err);
        if (code == SHR_OK) {
            code = shr_fuse(q->model, report, err);
        }
        if (code == SHR_OK) {
            code = shr_fold_batchnorm(q->model, report, err);
        }
        shr_graph_drop_unused(&q->model->graph);
    }
    if (code == SHR_OK) {
        shr_model_resolve(q->model);
        code = shr_model_infer(q->model, NULL, err);
    }
    if (code == SHR_OK) {
        code = balance(q, err);
    }
    if (code == SHR_OK) {
        code = shr_static_select(q->model, &q->args[ARG_NODES], NULL,
                                 chooses_layers(q) ? NULL : report, &q->chosen, err);
    }
    if (code == SHR_OK) {
        code = shr_static_ranges(&q->chosen, &q->model->graph, &q->args[ARG_RANGES], q->call->model,
                                 (enum shr_static_compat)q->args[ARG_COMPAT].i, err);
    }
    if (code == SHR_OK && q->chosen.values.n == 0) {
        shr_report_note(report, SHR_NOTE_WARNING, "", "nothing was quantized");
    }
    return code;
}

/* ── Calibrate ──────────────────────────────────────────────────────────────────────────────── */

static int make_ranges(struct quantize *q, struct shr_err *err)
{
    q->ranges = shr_mem_new(q->chosen.values.n + 1, sizeof *q->ranges);
    return q->ranges != NULL ? SHR_OK : shr_err_set(err, SHR_ERR_NOMEM, "out of memory for ranges");
}

static int calibrate(struct quantize *q, struct shr_err *err)
{
    const struct shr_ctx *ctx = q->call->ctx;
    int code = shr_calibration_init(&q->seen, q->chosen.values.n, err);
    if (code == SHR_OK) {
        code = make_ranges(q, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    for (size_t i = 0; i < q->seen.n; i++) {
        q->seen.v[i].name = q->chosen.values.v[i].v->name;
        q->seen.v[i].channel_axis = q->chosen.values.v[i].channel_axis;
    }
    return shr_calibrate(&q->seen, q->model, q->call->calibrate, q->args[ARG_SAMPLES].i,
                         memory_for_samples(q), ctx, err);
}

static void range_of(const struct quantize *q, const struct shr_histogram *h,
                     const struct shr_quant_grid *grid, double *min, double *max)
{
    switch (q->args[ARG_CALIBRATION].i) {
    case PERCENTILE:
        shr_histogram_percentile(h, q->args[ARG_PERCENTILE].f, min, max);
        break;
    case ENTROPY:
        shr_histogram_entropy(h, min, max);
        if (shr_histogram_cuts_too_much(h, grid->max - grid->min, *min, *max)) {
            *min = h->min;
            *max = h->max;
        }
        break;
    case MSE:
        shr_histogram_mse(h, grid->max - grid->min, min, max);
        break;
    default:
        *min = h->min;
        *max = h->max;
    }
}

static void range_at(struct quantize *q, size_t i, const struct shr_quant_grid *grid, double *min,
                     double *max)
{
    struct range *range = &q->ranges[i];
    if (!range->known) {
        range_of(q, &q->seen.v[i].histogram, grid, &range->min, &range->max);
        range->known = true;
    }
    *min = range->min;
    *max = range->max;
}

static struct shr_quant_grid activation_grid(const struct quantize *q)
{
    return q->args[ARG_COMPAT].i == SHR_STATIC_PYTORCH
               ? shr_quant_grid_pytorch(activation_dtype(q), false,
                                        q->args[ARG_REDUCE_RANGE].i != REDUCE_FALSE)
               : shr_quant_grid_of(activation_dtype(q), false, false);
}

/* A note, with how the range was found, and its figures. */
static void choose_scale(struct quantize *q, size_t i, const struct shr_quant_grid *grid)
{
    const struct shr_static_value *value = &q->chosen.values.v[i];
    const struct shr_histogram *h = &q->seen.v[i].histogram;
    double min = value->min, max = value->max;
    if (value->fixed == SHR_STATIC_SEEN) {
        range_at(q, i, grid, &min, &max);
    }
    const struct shr_quant_grid whole = shr_quant_grid_of(grid->dtype, false, false);
    q->scales[i] =
        shr_quant_params_of(value->fixed == SHR_STATIC_SOFTMAX ? &whole : grid, min, max);
    struct shr_note *note =
        value->fixed == SHR_STATIC_SEEN
            ? shr_report_note(q->call->report, SHR_NOTE_DONE, value->v->name,
                              "%s, range by %s over %lld samples", shr_dtype_name(grid->dtype),
                              calibrations[q->args[ARG_CALIBRATION].i], (long long)q->seen.samples)
            : shr_report_note(q->call->report, SHR_NOTE_DONE, value->v->name, "%s, range %s",
                              shr_dtype_name(grid->dtype),
                              value->fixed == SHR_STATIC_GIVEN ? "as given" : "of Softmax");
    shr_note_figure(note, "seen_min", h->min);
    shr_note_figure(note, "seen_max", h->max);
    shr_note_figure(note, "min", min);
    shr_note_figure(note, "max", max);
    shr_note_figure(note, "scale", (double)q->scales[i].scale);
    shr_note_figure(note, "zero_point", q->scales[i].zero);
}

static int choose_scales(struct quantize *q, struct shr_err *err)
{
    struct shr_quant_grid grid = activation_grid(q);
    q->scales = shr_mem_new(q->chosen.values.n + 1, sizeof *q->scales);
    if (q->scales == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for scales");
    }
    for (size_t i = 0; i < q->chosen.values.n; i++) {
        int code = shr_ctx_poll(q->call->ctx, err);
        if (code != SHR_OK) {
            return code;
        }
        if (q->chosen.values.v[i].range_of == i) {
            choose_scale(q, i, &grid);
        }
    }
    for (size_t i = 0; i < q->chosen.values.n; i++) {
        const struct shr_static_value *value = &q->chosen.values.v[i];
        if (value->range_of != i) {
            q->scales[i] = q->scales[value->range_of];
            shr_report_note(q->call->report, SHR_NOTE_DONE, value->v->name, "quantized as %s %s",
                            value->range_of < i ? "its source" : "what it is joined into",
                            q->chosen.values.v[value->range_of].v->name);
        }
    }
    return SHR_OK;
}

/* ── Convert ────────────────────────────────────────────────────────────────────────────────── */

/* In the unit of the sum, what a bias may be of a node that reads value x. ONNX Runtime's quantizer
 * raises the scales of weights by it before it gives x the scale of its source. */
static double bias_limit(const struct quantize *q, size_t x)
{
    if (q->args[ARG_COMPAT].i == SHR_STATIC_OWN) {
        return 1 << 30; /* half of what int32 holds: the rest is for corrections */
    }
    const double limit = INT32_MAX / 1.0001;
    const struct shr_quant_grid grid = activation_grid(q);
    const struct shr_histogram *h = &q->seen.v[x].histogram;
    return q->args[ARG_COMPAT].i == SHR_STATIC_ORT && q->chosen.values.v[x].range_of != x
               ? limit * (double)shr_quant_params_of(&grid, h->min, h->max).scale /
                     (double)q->scales[x].scale
               : limit;
}

static int convert_weights(struct quantize *q, struct shr_err *err)
{
    const int64_t reduce = q->args[ARG_REDUCE_RANGE].i;
    const bool compat = q->args[ARG_COMPAT].i != SHR_STATIC_OWN;
    struct shr_static_weights weights = {
        .qdq = &q->qdq,
        .report = q->call->report,
        .ctx = q->call->ctx,
        .per_channel = q->per_channel,
        .bias_correction = !compat && q->args[ARG_BIAS_CORRECTION].b,
        .certify = !compat && reduce == REDUCE_AUTO,
        .grid = q->args[ARG_COMPAT].i == SHR_STATIC_PYTORCH
                    ? shr_quant_grid_pytorch(SHR_DTYPE_I8, true, false)
                    : shr_quant_grid_of(SHR_DTYPE_I8, true, reduce == REDUCE_TRUE),
    };
    int code = SHR_OK;
    for (size_t i = 0; i < q->chosen.weighted.n && code == SHR_OK; i++) {
        struct shr_node *node = q->chosen.weighted.v[i];
        size_t x = (size_t)(shr_static_find(&q->chosen, shr_node_in(node, 0)) - q->chosen.values.v);
        code = shr_ctx_poll(q->call->ctx, err);
        weights.bias_limit = bias_limit(q, x);
        if (code == SHR_OK) {
            code =
                shr_static_weights_convert(&weights, node, q->scales[x].scale, &q->seen.v[x], err);
        }
        if (code == SHR_OK) {
            shr_ctx_tell(q->call->ctx, "convert", i + 1, q->chosen.weighted.n);
        }
    }
    shr_static_weights_finish(&weights);
    return code;
}

static int convert(struct quantize *q, struct shr_err *err)
{
    q->qdq.g = &q->model->graph;
    int code = convert_weights(q, err);
    for (size_t i = 0; i < q->chosen.values.n && code == SHR_OK; i++) {
        code = shr_qdq_activation(&q->qdq, q->chosen.values.v[i].v, activation_dtype(q),
                                  q->scales[i], err);
    }
    SHR_EACH_VALUE (v, &q->model->graph) {
        v->was_declared = v->was_declared && (v->is_input || v->is_output);
    }
    shr_graph_drop_unused(&q->model->graph);
    if (code == SHR_OK && q->args[ARG_FORMAT].i == QOPERATOR) {
        code = shr_qoperator(q->model, q->call->report, err);
    }
    return code;
}

static int calibrate_and_convert(struct quantize *q, struct shr_err *err)
{
    int code = calibrate(q, err);
    if (code == SHR_OK) {
        code = choose_scales(q, err);
    }
    return code == SHR_OK ? convert(q, err) : code;
}

/* ── A choice of layers ─────────────────────────────────────────────────────────────────────── */

/* Position of a value of this name; n = it is not chosen. */
static size_t find_chosen(const struct shr_static *s, const char *name)
{
    size_t i = 0;
    while (i < s->values.n && strcmp(s->values.v[i].v->name, name) != 0) {
        i++;
    }
    return i;
}

/* The ranges that were given for values that are chosen here too, and those of the graph. */
static int take_fixed_ranges(struct quantize *q, const struct quantize *whole, struct shr_err *err)
{
    const struct shr_arg none = {.type = SHR_PARAM_LIST};
    for (size_t i = 0; i < q->chosen.values.n; i++) {
        struct shr_static_value *value = &q->chosen.values.v[i];
        const size_t j = find_chosen(&whole->chosen, value->v->name);
        if (j < whole->chosen.values.n && whole->chosen.values.v[j].fixed == SHR_STATIC_GIVEN) {
            value->fixed = SHR_STATIC_GIVEN;
            value->min = whole->chosen.values.v[j].min;
            value->max = whole->chosen.values.v[j].max;
        }
    }
    return shr_static_ranges(&q->chosen, &q->model->graph, &none, q->model,
                             (enum shr_static_compat)q->args[ARG_COMPAT].i, err);
}

/* What the whole saw of the values that are chosen here too; its sums and rows stay its own. */
static int borrow_ranges(struct quantize *q, const struct quantize *whole, struct shr_err *err)
{
    int code = shr_calibration_init(&q->seen, q->chosen.values.n, err);
    if (code == SHR_OK) {
        code = make_ranges(q, err);
    }
    q->seen.samples = whole->seen.samples;
    for (size_t i = 0; i < q->seen.n && code == SHR_OK; i++) {
        const char *name = q->chosen.values.v[i].v->name;
        const size_t j = find_chosen(&whole->chosen, name);
        if (j == whole->chosen.values.n) {
            code = shr_err_set(err, SHR_ERR_INTERNAL, "value '%s' was not calibrated", name);
        } else {
            q->seen.v[i] = whole->seen.v[j];
            q->ranges[i] = whole->ranges[j];
        }
    }
    return code;
}

/* Quantizes a model like the whole's, but for the layers that stay in float. */
static int convert_choice(const struct quantize *whole, const struct shr_pass_call *call,
                          struct shr_model *model, const bool *in_float, struct shr_err *err)
{
    struct quantize q = {
        .call = call, .args = whole->args, .model = model, .per_channel = whole->per_channel};
    bool *marks = shr_mem_new(whole->model->graph.n_nodes + 1, sizeof *marks);
    int code =
        marks != NULL ? SHR_OK : shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a choice");
    for (size_t i = 0; i < whole->chosen.weighted.n && code == SHR_OK; i++) {
        marks[whole->chosen.weighted.v[i]->index] = in_float[i];
    }
    if (code == SHR_OK) {
        code = shr_static_select(model, &q.args[ARG_NODES], marks, call->report, &q.chosen, err);
    }
    if (code == SHR_OK) {
        code = take_fixed_ranges(&q, whole, err);
    }
    if (code == SHR_OK) {
        code = borrow_ranges(&q, whole, err);
    }
    if (code == SHR_OK) {
        code = choose_scales(&q, err);
    }
    if (code == SHR_OK) {
        code = convert(&q, err);
    }
    shr_qdq_finish(&q.qdq);
    shr_mem_free(q.seen.v);
    shr_mem_free(q.ranges);
    shr_mem_free(q.scales);
    shr_static_finish(&q.chosen);
    shr_mem_free(marks);
    return code;
}

/* Of a trial only errors and cancellation count. */
static int try_choice(void *user, const bool *in_float, struct shr_model **ret, struct shr_err *err)
{
    const struct quantize *whole = user;
    struct shr_pass_call call = *whole->call;
    struct shr_ctx ctx = {0};
    if (call.ctx != NULL) {
        ctx = *call.ctx;
        ctx.progress = NULL;
    }
    call.ctx = &ctx;
    call.report = NULL;
    struct shr_model *model = NULL;
    int code = shr_model_clone(whole->model, &model, err);
    if (code == SHR_OK) {
        code = convert_choice(whole, &call, model, in_float, err);
    }
    if (code != SHR_OK) {
        shr_model_free(model);
        return code;
    }
    shr_model_resolve(model);
    *ret = model;
    return SHR_OK;
}

static int read_ranges(struct quantize *q, struct shr_err *err)
{
    const struct shr_quant_grid grid = activation_grid(q);
    int code = SHR_OK;
    for (size_t i = 0; i < q->chosen.values.n && code == SHR_OK; i++) {
        double min = 0, max = 0;
        range_at(q, i, &grid, &min, &max);
        code = shr_ctx_poll(q->call->ctx, err);
    }
    return code;
}

static int choose_layers(struct quantize *q, bool *in_float, struct shr_err *err)
{
    const size_t n = q->chosen.weighted.n;
    const struct shr_quant_goal goal = {
        .samples = q->args[ARG_SAMPLES].i,
        .samples_alone = q->args[ARG_SENSITIVITY_SAMPLES].i,
        .max_accuracy_drop = q->args[ARG_MAX_ACCURACY_DROP].f,
        .sensitivity = q->args[ARG_SENSITIVITY].b,
    };
    struct shr_arena arena = {0};
    const char **names = shr_arena_new(&arena, n + 1, sizeof *names);
    int code = names != NULL ? SHR_OK : shr_err_set(err, SHR_ERR_NOMEM, "out of memory for names");
    for (size_t i = 0; i < n && code == SHR_OK; i++) {
        char label[128];
        shr_node_label(q->chosen.weighted.v[i], label, sizeof label);
        names[i] = shr_arena_strdup(&arena, label);
        if (names[i] == NULL) {
            code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for names");
        }
    }
    if (code == SHR_OK) {
        code = read_ranges(q, err);
    }
    if (code == SHR_OK) {
        code = shr_quant_choose(q->call, names, n, &goal, try_choice, q, in_float, err);
    }
    shr_arena_finish(&arena);
    return code;
}

static int convert_chosen(struct quantize *q, struct shr_err *err)
{
    bool *in_float = shr_mem_new(q->chosen.weighted.n + 1, sizeof *in_float);
    int code =
        in_float != NULL ? SHR_OK : shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a choice");
    if (code == SHR_OK && q->chosen.values.n > 0) {
        code = calibrate(q, err);
        if (code == SHR_OK) {
            code = choose_layers(q, in_float, err);
        }
    }
    if (code == SHR_OK) {
        code = convert_choice(q, q->call, q->model, in_float, err);
    }
    shr_mem_free(in_float);
    return code;
}

/* ── The pass ───────────────────────────────────────────────────────────────────────────────── */

static int edit(struct shr_pass_call *call, struct shr_model *model, struct shr_err *err)
{
    struct quantize q = {.call = call,
                         .args = call->args->v,
                         .model = model,
                         .per_channel = call->args->v[ARG_PER_CHANNEL].b};
    int code = check(call, err);
    if (code == SHR_OK) {
        code = raise(&q, err);
    }
    if (code == SHR_OK) {
        code = prepare(&q, err);
    }
    if (code == SHR_OK && chooses_layers(&q)) {
        code = convert_chosen(&q, err);
    } else if (code == SHR_OK && q.chosen.values.n > 0) {
        code = calibrate_and_convert(&q, err);
    }
    shr_qdq_finish(&q.qdq);
    shr_calibration_finish(&q.seen);
    shr_mem_free(q.ranges);
    shr_mem_free(q.scales);
    shr_static_finish(&q.chosen);
    return code;
}

const struct shr_pass shr_pass_quantize_static = {
    .name = "quantize_static",
    .help = "int8 weights and activations, with ranges measured on calibration data",
    .needs = SHR_NEEDS_CALIBRATE | SHR_NEEDS_RUN,
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .edit = edit,
};
