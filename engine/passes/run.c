/* Running a pass: what it needs is there, its result is a sound graph, its errors carry its name.
 * Thread: one per call. */
#include <stdio.h>
#include <string.h>

#include "core/map.h"
#include "passes/pass.h"

static int check_needs(const struct shr_pass *pass, const struct shr_pass_call *call,
                       struct shr_err *err)
{
    if ((pass->needs & SHR_NEEDS_CALIBRATE) != 0 && call->calibrate == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "needs data.calibrate, a dataset to calibrate on");
    }
    if ((pass->needs & SHR_NEEDS_TRAIN) != 0 && call->train == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "needs data.train, a dataset to train on");
    }
    const char *name = NULL;
    const struct shr_param *param = shr_args_model(call->args, &name);
    if (param != NULL && call->other == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: model %.64s is not at hand", param->name,
                           name);
    }
    if ((pass->needs & SHR_NEEDS_RUN) == 0) {
        return SHR_OK;
    }
    SHR_EACH_NODE (node, &call->model->graph) {
        if (node->op == NULL) {
            char label[128];
            return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                               "has to run the model, and node %s is of operator %s%s%s, which is "
                               "not supported at its opset",
                               shr_node_label(node, label, sizeof label), node->domain,
                               node->domain[0] != 0 ? "." : "", node->op_type);
        }
    }
    return SHR_OK;
}

/* ONNX Runtime refuses two nodes of one name, and what a pass adds may be called like a node that
 * is there, or was added by another run of it: the later one gets a number. */
static int separate_names(struct shr_graph *g, struct shr_err *err)
{
    struct shr_map names = {0};
    int code = SHR_OK;
    size_t number = 0;
    for (struct shr_node *node = g->first_node; node != NULL && code == SHR_OK; node = node->next) {
        const char *stem = node->name;
        const size_t size = strlen(stem) + 24; /* "_" and the digits of a size_t */
        if (stem[0] == 0) {
            continue;
        }
        if (shr_map_get(&names, stem) != NULL) {
            char *name = shr_arena_new(g->arena, 1, size);
            if (name == NULL) {
                code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for names of nodes");
                break;
            }
            do {
                snprintf(name, size, "%s_%zu", stem, ++number);
            } while (shr_map_get(&names, name) != NULL);
            node->name = name;
        }
        code = shr_map_put(&names, node->name, node, err);
    }
    shr_map_finish(&names);
    return code;
}

/* A clone that the pass changes, all of it or nothing. */
static int run_edit(const struct shr_pass *pass, struct shr_pass_call *call, struct shr_err *err)
{
    struct shr_model *model = NULL;
    int code = shr_model_clone(call->model, &model, err);
    if (code == SHR_OK) {
        code = pass->edit(call, model, err);
    }
    if (code == SHR_OK) {
        call->ret_model = model;
    } else {
        shr_model_free(model);
    }
    return code;
}

int shr_pass_run(const struct shr_pass *pass, struct shr_pass_call *call, struct shr_err *err)
{
    call->ret_model = NULL;
    int code = check_needs(pass, call, err);
    if (code == SHR_OK) {
        code = shr_ctx_poll(call->ctx, err);
    }
    if (code == SHR_OK) {
        code = pass->edit != NULL ? run_edit(pass, call, err) : pass->run(call, err);
    }
    if (code == SHR_OK) {
        code = separate_names(&call->ret_model->graph, err);
    }
    if (code == SHR_OK) {
        shr_model_resolve(call->ret_model);
        code = shr_graph_check(&call->ret_model->graph, err);
        if (code != SHR_OK && code != SHR_ERR_NOMEM) { /* an unsound graph is the pass's fault */
            code = SHR_ERR_INTERNAL;
            if (err != NULL) {
                err->code = code;
            }
        }
    }
    if (code != SHR_OK) {
        shr_model_free(call->ret_model);
        call->ret_model = NULL;
        if (code != SHR_ERR_CANCELLED) {
            shr_err_prefix(err, "%s: ", pass->name);
        }
    }
    return code;
}
