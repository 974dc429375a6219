/* Binding the shapes of a model: what stands for the batch, and what is not known; see plan.h. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "exec/plan.h"

static bool is_true_input(const struct shr_value *v)
{
    return v->is_input && !shr_value_is_constant(v);
}

/* A symbol that names the batch of one input names it everywhere. */
static bool is_batch(const struct shr_graph *g, const struct shr_type *type, int axis)
{
    if (type->dim[axis] >= 0) {
        return false;
    }
    if (axis == 0) {
        return true;
    }
    if (type->sym[axis] == NULL) {
        return false;
    }
    for (size_t i = 0; i < g->n_inputs; i++) {
        const struct shr_type *other = &g->inputs[i]->type;
        if (is_true_input(g->inputs[i]) && other->rank > 0 && other->dim[0] < 0 &&
            other->sym[0] != NULL && strcmp(other->sym[0], type->sym[axis]) == 0) {
            return true;
        }
    }
    return false;
}

static int bind_input(const struct shr_graph *g, const struct shr_value *input, int64_t batch,
                      struct shr_type *ret, struct shr_err *err)
{
    struct shr_type type = input->type;
    if (type.dtype == SHR_DTYPE_NONE || type.rank < 0) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "input %s: its type or rank is not declared",
                           input->name);
    }
    for (int d = 0; d < type.rank; d++) {
        if (is_batch(g, &input->type, d)) {
            type.dim[d] = batch;
        }
        if (type.dim[d] < 0) {
            return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                               "input %s: dimension %d (%s) is not known and is not the batch",
                               input->name, d, type.sym[d] == NULL ? "unnamed" : type.sym[d]);
        }
        type.sym[d] = NULL;
    }
    *ret = type;
    return SHR_OK;
}

int shr_model_bind(struct shr_model *model, int64_t batch, struct shr_err *err)
{
    const struct shr_graph *g = &model->graph;
    if (batch < 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "batch: %" PRId64 " is negative", batch);
    }
    struct shr_type *types = shr_mem_new(g->n_inputs + 1, sizeof *types);
    if (types == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory while shapes are bound");
    }
    size_t n = 0;
    int rc = SHR_OK;
    for (size_t i = 0; rc == 0 && i < g->n_inputs; i++) {
        if (is_true_input(g->inputs[i])) {
            rc = bind_input(g, g->inputs[i], batch == 0 ? 1 : batch, &types[n++], err);
        }
    }
    if (rc == 0) {
        rc = shr_model_infer(model, types, err);
    }
    shr_mem_free(types);
    return rc;
}
