/* quantize_static: int8 weights and activations, with ranges measured on real samples.
 *
 * Prepare (optimize, choose what to quantize), calibrate (run samples, one histogram a value),
 * convert (write QuantizeLinear and DequantizeLinear; runtimes turn what is between into integer
 * operators). Thread: one. */
#include <math.h>

#include "base/mem.h"
#include "passes/edit.h"
#include "passes/equalize.h"
#include "passes/qoperator.h"
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
    ARG_MAX_MEMORY,
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
    {"max_memory", SHR_PARAM_BYTES, "0", 0, 0, NULL,
     "For calibration; 0 means the limit of the job"},
    SHR_PARAMS_NODES,
};

struct quantize {
    const struct shr_pass_call *call;
    const struct shr_arg *args;
    struct shr_model *model;
    bool per_channel;
    struct shr_static chosen;
    struct shr_calibration seen;     /* one a chosen value */
    struct shr_quant_params *scales; /* one a chosen value */
    struct shr_qdq qdq;
};

static enum shr_dtype activation_dtype(const struct quantize *q)
{
    return q->args[ARG_ACTIVATION_TYPE].i == 0 ? SHR_DTYPE_U8 : SHR_DTYPE_I8;
}

/* ── Prepare ────────────────────────────────────────────────────────────────────────────────── */

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
        code = shr_static_select(q->model, &q->args[ARG_NODES], report, &q->chosen, err);
    }
    if (code == SHR_OK) {
        code = shr_static_ranges(&q->chosen, &q->model->graph, &q->args[ARG_RANGES], q->call->model,
                                 err);
    }
    if (code == SHR_OK && q->chosen.values.n == 0) {
        shr_report_note(report, SHR_NOTE_WARNING, "", "nothing was quantized");
    }
    return code;
}

/* ── Calibrate ──────────────────────────────────────────────────────────────────────────────── */

static int calibrate(struct quantize *q, struct shr_err *err)
{
    const struct shr_ctx *ctx = q->call->ctx;
    int code = shr_calibration_init(&q->seen, q->chosen.values.n, err);
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

/* A note, with how the range was found, and its figures. */
static void choose_scale(struct quantize *q, size_t i, const struct shr_quant_grid *grid)
{
    const struct shr_static_value *value = &q->chosen.values.v[i];
    const struct shr_histogram *h = &q->seen.v[i].histogram;
    double min = value->min, max = value->max;
    if (value->fixed == SHR_STATIC_SEEN) {
        range_of(q, h, grid, &min, &max);
    }
    q->scales[i] = shr_quant_params_of(grid, min, max);
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
    struct shr_quant_grid grid = shr_quant_grid_of(activation_dtype(q), false, false);
    q->scales = shr_mem_new(q->chosen.values.n + 1, sizeof *q->scales);
    if (q->scales == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for scales");
    }
    for (size_t i = 0; i < q->chosen.values.n; i++) {
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

static int convert_weights(struct quantize *q, struct shr_err *err)
{
    int64_t reduce = q->args[ARG_REDUCE_RANGE].i;
    struct shr_static_weights weights = {
        .qdq = &q->qdq,
        .report = q->call->report,
        .per_channel = q->per_channel,
        .bias_correction = q->args[ARG_BIAS_CORRECTION].b,
        .certify = reduce == REDUCE_AUTO,
        .grid = shr_quant_grid_of(SHR_DTYPE_I8, true, reduce == REDUCE_TRUE),
    };
    int code = SHR_OK;
    for (size_t i = 0; i < q->chosen.weighted.n && code == SHR_OK; i++) {
        struct shr_node *node = q->chosen.weighted.v[i];
        size_t x = (size_t)(shr_static_find(&q->chosen, shr_node_in(node, 0)) - q->chosen.values.v);
        code = shr_ctx_poll(q->call->ctx, err);
        if (code == SHR_OK) {
            code =
                shr_static_weights_convert(&weights, node, q->scales[x].scale, &q->seen.v[x], err);
        }
        shr_ctx_tell(q->call->ctx, "convert", i + 1, q->chosen.weighted.n);
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
    return code;
}

static int edit(struct shr_pass_call *call, struct shr_model *model, struct shr_err *err)
{
    struct quantize q = {.call = call,
                         .args = call->args->v,
                         .model = model,
                         .per_channel = call->args->v[ARG_PER_CHANNEL].b};
    int code = raise(&q, err);
    if (code == SHR_OK) {
        code = prepare(&q, err);
    }
    if (code == SHR_OK && q.chosen.values.n > 0) {
        code = calibrate(&q, err);
        if (code == SHR_OK) {
            code = choose_scales(&q, err);
        }
        if (code == SHR_OK) {
            code = convert(&q, err);
        }
        if (code == SHR_OK && q.args[ARG_FORMAT].i == QOPERATOR) {
            code = shr_qoperator(model, call->report, err);
        }
    }
    shr_qdq_finish(&q.qdq);
    shr_calibration_finish(&q.seen);
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
