/* convert: weights stored as floats of 16 bits, computed with as float32.
 *
 * A weight becomes a constant of 16 bits and a Cast to float32 that all its readers share: half the
 * bytes, and a form that every runtime loads, where many have no kernels for float16 arithmetic. A
 * weight that 16 bits cannot hold stays as it is and the report says why. Thread: one. */
#include <math.h>
#include <stdio.h>

#include "passes/raise_opset.h"

enum { ARG_TYPE, ARG_MIN_ELEMENTS };

static const char *const type_choices[] = {"float16", "bfloat16", NULL};

static const struct shr_param params[] = {
    {"type", SHR_PARAM_ENUM, "float16", 0, 0, type_choices,
     "float16 is closer, bfloat16 holds the range of float32 (and needs ai.onnx 13)"},
    {"min_elements", SHR_PARAM_INT, "256", 1, 1e9, NULL,
     "Smaller constants stay float32: they are sizes and factors, and a Cast costs bytes too"},
};

/* Below this the values lie where the type has few bits left; else float16 has about 70 dB and
 * bfloat16 about 55. */
static const double least_db = 40;

struct convert {
    struct shr_graph *g;
    struct shr_node *first; /* of the model as it came: Casts go before it */
    enum shr_dtype type;
    const char *type_name;
    struct shr_report *report;
    size_t done;
};

/* NULL = the weight may be stored in another type, else why not. */
static const char *obstacle(const struct shr_value *w)
{
    return w->is_output  ? "it is an output of the graph"
           : w->is_input ? "it is an input that callers may replace"
           : w->captured ? "a subgraph reads it"
                         : NULL;
}

/* t in the type of 16 bits. *ret_why is NULL, or why it does not fit; then *ret is not set. */
static int shorten(const struct convert *c, const struct shr_tensor *t, double *ret_sqnr_db,
                   const char **ret_why, struct shr_tensor *ret, struct shr_err *err)
{
    struct shr_tensor made = {0};
    int code = shr_tensor_new(c->type, t->rank, t->dim, &made, err);
    if (code != SHR_OK) {
        return code;
    }
    const bool half = c->type == SHR_DTYPE_F16;
    const float *x = t->data;
    uint16_t *y = made.data;
    double power = 0, error = 0;
    const char *why = NULL;
    for (int64_t i = 0, n = shr_tensor_count(t); i < n && why == NULL; i++) {
        y[i] = half ? shr_f32_to_f16(x[i]) : shr_f32_to_bf16(x[i]);
        const double back = (double)(half ? shr_f16_to_f32(y[i]) : shr_bf16_to_f32(y[i]));
        why = !isfinite(x[i]) ? "one of its values is not finite"
              : isinf(back)   ? "one of its values is too large for the type"
                              : NULL;
        power += (double)x[i] * (double)x[i];
        error += (back - (double)x[i]) * (back - (double)x[i]);
    }
    const double db = error > 0 ? 10 * log10(power / error) : (double)INFINITY;
    if (why == NULL && db < least_db) {
        why = "its values are too small for the type";
    }
    *ret_why = why;
    if (why != NULL) {
        shr_tensor_finish(&made);
        return SHR_OK;
    }
    *ret_sqnr_db = db;
    *ret = made;
    return SHR_OK;
}

/* All that reads w reads the Cast of the stored tensor. */
static int store(struct convert *c, struct shr_value *w, struct shr_tensor take,
                 struct shr_err *err)
{
    char name[512];
    snprintf(name, sizeof name, "%.480s_%s", w->name, c->type_name);
    struct shr_value *stored = NULL, *y = NULL;
    struct shr_node *cast = NULL;
    int code = shr_graph_add_constant(c->g, name, take, &stored, err);
    if (code == SHR_OK) {
        code = shr_edit_insert(c->g, c->first, "Cast", stored->name, &stored, 1, w->name, &cast, &y,
                               err);
    }
    if (code == SHR_OK) {
        code = shr_node_set_int(c->g, cast, "to", SHR_DTYPE_F32, err);
    }
    if (code == SHR_OK) {
        y->type = w->type;
        shr_value_replace_uses(w, y);
        c->done++;
    }
    return code;
}

static int convert(struct convert *c, struct shr_value *w, struct shr_err *err)
{
    struct shr_tensor t = {0};
    double sqnr_db = 0;
    const char *why = obstacle(w);
    int code = why == NULL ? shorten(c, &w->constant, &sqnr_db, &why, &t, err) : SHR_OK;
    if (code != SHR_OK) {
        return code;
    }
    if (why != NULL) {
        shr_report_note(c->report, SHR_NOTE_SKIPPED, w->name, "stays float32: %s", why);
        return SHR_OK;
    }
    struct shr_note *note =
        shr_report_note(c->report, SHR_NOTE_DONE, w->name, "stored as %s", c->type_name);
    shr_note_figure(note, "sqnr_db", sqnr_db);
    return store(c, w, t, err);
}

static int convert_all(struct convert *c, const struct shr_arg *args, const struct shr_ctx *ctx,
                       struct shr_err *err)
{
    const size_t total = c->g->n_values;
    struct shr_value *w = c->g->first_value;
    for (size_t i = 0; i < total; i++, w = w->next) { /* not those that are added meanwhile */
        if (!shr_value_is_parameter(w) || w->constant.dtype != SHR_DTYPE_F32 ||
            shr_tensor_count(&w->constant) < args[ARG_MIN_ELEMENTS].i) {
            continue;
        }
        int code = shr_ctx_poll(ctx, err);
        if (code == SHR_OK) {
            code = convert(c, w, err);
        }
        if (code != SHR_OK) {
            return code;
        }
        shr_ctx_tell(ctx, "convert", i, total);
    }
    return SHR_OK;
}

static int edit(struct shr_pass_call *call, struct shr_model *model, struct shr_err *err)
{
    const struct shr_arg *args = call->args->v;
    const bool half = args[ARG_TYPE].i == 0;
    struct convert c = {
        .g = &model->graph,
        .type = half ? SHR_DTYPE_F16 : SHR_DTYPE_BF16,
        .type_name = type_choices[args[ARG_TYPE].i],
        .report = call->report,
    };
    int code = half ? SHR_OK : shr_raise_opset(model, c.report, err);
    if (code == SHR_OK) {
        c.first = c.g->first_node;
        code = convert_all(&c, args, call->ctx, err);
    }
    if (code == SHR_OK && c.done == 0) {
        shr_report_note(c.report, SHR_NOTE_WARNING, "", "nothing was converted");
    }
    if (code == SHR_OK) {
        shr_graph_drop_unused(c.g);
    }
    return code;
}

const struct shr_pass shr_pass_convert = {
    .name = "convert",
    .help = "Weights stored as 16-bit floats, computed with as float32; it needs no data",
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .edit = edit,
};
