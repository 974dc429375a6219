/* finetune: the weights learn again, with what pruning left of them.
 *
 * From the labels of data.train, or without them from what the original model of the job says of
 * the same samples (temperature 1). Zero weights stay zero. Thread: one. */
#include "passes/training.h"

enum { ARG_LABELS, ARG_KEEP_ZEROS, SHR_ARGS_TRAINING };

static const struct shr_param params[] = {
    {"labels", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Learn from the labels of data.train; else from what the original model of the job says"},
    {"keep_zeros", SHR_PARAM_BOOL, "true", 0, 0, NULL, "Weights that are zero stay zero"},
    SHR_PARAMS_TRAINING("3", "0.0005"),
};

static int read(const struct shr_pass_call *call, struct shr_fit_opts *o, struct shr_err *err)
{
    const struct shr_arg *a = call->args->v;
    const bool labels = a[ARG_LABELS].b;
    shr_training_opts(o, &a[ARG_EPOCHS], call);
    o->keep_zeros = a[ARG_KEEP_ZEROS].b;
    o->loss.hard_weight = labels ? 1.0f : 0.0f;
    o->loss.soft_weight = labels ? 0.0f : 1.0f;
    o->teacher = labels ? NULL : call->original != NULL ? call->original : call->model;
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
