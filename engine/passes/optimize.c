/* optimize: the same function with fewer operators. Thread: one. */
#include "passes/edit.h"
#include "passes/raise_opset.h"

enum { ARG_RAISE_OPSET, ARG_FOLD_CONSTANTS, ARG_FOLD_BATCHNORM, ARG_FUSE, ARG_DROP_UNUSED };

static const struct shr_param params[] = {
    {"raise_opset", SHR_PARAM_BOOL, "false", 0, 0, NULL,
     "Bring a model of an older opset to ai.onnx 13"},
    {"fold_constants", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Compute what does not depend on an input once and store it"},
    {"fold_batchnorm", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Make BatchNormalization part of the weights before it"},
    {"fuse", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "MatMul + Add to Gemm; no Identity, Dropout, or pairs that undo each other"},
    {"drop_unused", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Remove nodes and initializers that no output needs, also those left by the others"},
};

static int optimize(struct shr_model *model, const struct shr_arg *args, struct shr_report *report,
                    struct shr_err *err)
{
    int code = args[ARG_RAISE_OPSET].b ? shr_raise_opset(model, report, err) : SHR_OK;
    if (code == SHR_OK) {
        code = shr_model_infer(model, NULL, err);
    }
    if (code == SHR_OK && args[ARG_FOLD_CONSTANTS].b) {
        code = shr_fold_constants(model, report, err);
    }
    if (code == SHR_OK && args[ARG_FUSE].b) {
        code = shr_fuse(model, report, err);
    }
    if (code == SHR_OK && args[ARG_FOLD_BATCHNORM].b) {
        code = shr_fold_batchnorm(model, report, err);
    }
    if (code == SHR_OK && args[ARG_DROP_UNUSED].b) {
        size_t before = model->graph.n_nodes;
        shr_graph_drop_unused(&model->graph);
        if (model->graph.n_nodes < before) {
            shr_report_note(report, SHR_NOTE_DONE, "", "removed %zu nodes that no output needs",
                            before - model->graph.n_nodes);
        }
    }
    return code;
}

static int edit(struct shr_pass_call *call, struct shr_model *model, struct shr_err *err)
{
    return optimize(model, call->args->v, call->report, err);
}

const struct shr_pass shr_pass_optimize = {
    .name = "optimize",
    .help = "Does the same with fewer operators: folds constants and batch normalization, fuses",
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .edit = edit,
};
