/* finetune: the weights learn again, with what pruning left of them.
 *
 * From the labels of data.train, from what the original model of the job says of the same samples,
 * or from both. Zero weights stay zero. Thread: one. */
#include "passes/training.h"

enum { ARG_LABELS, ARG_ALPHA, ARG_TEMPERATURE, ARG_KEEP_ZEROS, SHR_ARGS_TRAINING };

static const struct shr_param params[] = {
    {"labels", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Learn from the labels of data.train; else from what the original model of the job says"},
    {"alpha", SHR_PARAM_FLOAT, "0", 0, 1, NULL,
     "With labels: weight of what the original says, which the labels make up to 1"},
    {"temperature", SHR_PARAM_FLOAT, "1", 0.01, 1000, NULL,
     "Divides the logits of both before they are compared"},
    {"keep_zeros", SHR_PARAM_BOOL, "true", 0, 0, NULL, "Weights that are zero stay zero"},
    SHR_PARAMS_TRAINING("3", "0.0005"),
};

static int read(const struct shr_pass_call *call, struct shr_fit_opts *o, struct shr_err *err)
{
    const struct shr_arg *a = call->args->v;
    const bool labels = a[ARG_LABELS].b;
    shr_training_opts(o, &a[ARG_EPOCHS], call);
    o->keep_zeros = a[ARG_KEEP_ZEROS].b;
    const float alpha = labels ? (float)a[ARG_ALPHA].f : 1.0f;
    const struct shr_model *original = call->original != NULL ? call->original : call->model;
    o->loss.hard_weight = 1 - alpha;
    o->loss.soft_weight = alpha;
    o->loss.temperature = (float)a[ARG_TEMPERATURE].f;
    o->teacher = alpha > 0 ? original : NULL;
    return !labels || call->train->labels != NULL
               ? SHR_OK
               : shr_err_set(err, SHR_ERR_INVALID,
                             "labels: data.train has none; with labels false the model learns from "
                             "what the original says");
}

static int run(struct shr_pass_call *call, struct shr_err *err)
{
    struct shr_fit_opts opts = {0};
    struct shr_fit_result result = {0};
    int rc = read(call, &opts, err);
    rc = rc == SHR_OK ? shr_fit(call->model, &opts, call->ctx, &call->ret_model, &result, err) : rc;
    if (rc == SHR_OK) {
        shr_training_report(call->report, &opts, &result);
    }
    shr_fit_result_finish(&result);
    return rc;
}

const struct shr_pass shr_pass_finetune = {
    .name = "finetune",
    .help = "Trains the model further, to win back what pruning cost",
    .needs = SHR_NEEDS_TRAIN | SHR_NEEDS_RUN,
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .run = run,
};
