/* Binding the shapes of a model: what stands for each open dim of its inputs; see plan.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "exec/plan.h"

struct binding {
    const struct shr_graph *g;
    const struct shr_plan_opts *opts;
    bool *used; /* [n_dims] */
};

static bool is_true_input(const struct shr_value *v)
{
    return v->is_input && !shr_value_is_constant(v);
}

/* The type given for the true input of this number, or NULL. */
static const struct shr_type *given_type(const struct binding *b, size_t n)
{
    const struct shr_type *types = b->opts->inputs;
    return types == NULL || types[n].dtype == SHR_DTYPE_NONE ? NULL : &types[n];
}

/* Among the dims of the caller, by symbol or as "input:axis"; -1 when it is not there. */
static int64_t named_dim(const struct binding *b, const struct shr_value *input, int axis)
{
    const char *sym = input->type.sym[axis];
    for (size_t i = 0; i < b->opts->n_dims; i++) {
        const struct shr_dim *dim = &b->opts->dims[i];
        const size_t n = strlen(input->name);
        char place[16];
        snprintf(place, sizeof place, ":%d", axis);
        if ((sym != NULL && strcmp(dim->name, sym) == 0) ||
            (strncmp(dim->name, input->name, n) == 0 && strcmp(dim->name + n, place) == 0)) {
            b->used[i] = true;
            return dim->value;
        }
    }
    return -1;
}

/* What an input with a given type has for the symbol; -1 when there is none. */
static int64_t dim_elsewhere(const struct binding *b, const char *sym)
{
    size_t n = 0;
    for (size_t i = 0; sym != NULL && i < b->g->n_inputs; i++) {
        const struct shr_value *v = b->g->inputs[i];
        if (!is_true_input(v)) {
            continue;
        }
        const struct shr_type *given = given_type(b, n++);
        for (int d = 0; given != NULL && d < given->rank && given->rank == v->type.rank; d++) {
            if (v->type.dim[d] < 0 && v->type.sym[d] != NULL && strcmp(v->type.sym[d], sym) == 0) {
                return given->dim[d];
            }
        }
    }
    return -1;
}

/* A symbol that names the batch of one input names it everywhere. */
static bool is_batch(const struct shr_graph *g, const struct shr_type *type, int axis)
{
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

static int bind_dim(const struct binding *b, const struct shr_value *input, int axis, int64_t *ret,
                    struct shr_err *err)
{
    const char *sym = input->type.sym[axis];
    int64_t dim = named_dim(b, input, axis);
    if (dim < 0) {
        dim = dim_elsewhere(b, sym);
    }
    if (dim < 0 && is_batch(b->g, &input->type, axis)) {
        dim = b->opts->batch == 0 ? 1 : b->opts->batch;
    }
    if (dim >= 0) {
        *ret = dim;
        return SHR_OK;
    }
    return sym != NULL ? shr_err_set(err, SHR_ERR_UNSUPPORTED,
                                     "input %s: dimension %d (%s) is open and needs a value",
                                     input->name, axis, sym)
                       : shr_err_set(err, SHR_ERR_UNSUPPORTED,
                                     "input %s: dimension %d is open and needs a value (its name "
                                     "is %s:%d)",
                                     input->name, axis, input->name, axis);
}

static int bind_input(const struct binding *b, const struct shr_value *input,
                      const struct shr_type *given, struct shr_type *ret, struct shr_err *err)
{
    struct shr_type type = given != NULL ? *given : input->type;
    if (type.dtype == SHR_DTYPE_NONE || type.rank < 0) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "input %s: its type or rank is not declared",
                           input->name);
    }
    for (int d = 0; d < type.rank; d++) {
        if (type.dim[d] < 0) {
            int rc = bind_dim(b, input, d, &type.dim[d], err);
            if (rc != 0) {
                return rc;
            }
        }
        type.sym[d] = NULL;
    }
    *ret = type;
    return SHR_OK;
}

static int check_dims(const struct binding *b, struct shr_err *err)
{
    if (b->opts->batch < 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "batch: %" PRId64 " is negative", b->opts->batch);
    }
    for (size_t i = 0; i < b->opts->n_dims; i++) {
        if (b->opts->dims[i].value < 0) {
            return shr_err_set(err, SHR_ERR_INVALID, "dimension %s: %" PRId64 " is negative",
                               b->opts->dims[i].name, b->opts->dims[i].value);
        }
    }
    return SHR_OK;
}

static int check_used(const struct binding *b, struct shr_err *err)
{
    for (size_t i = 0; i < b->opts->n_dims; i++) {
        if (!b->used[i]) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "dimension %s: no input has an open dimension of this name",
                               b->opts->dims[i].name);
        }
    }
    return SHR_OK;
}

int shr_model_bind(struct shr_model *model, const struct shr_plan_opts *opts, struct shr_err *err)
{
    const struct shr_graph *g = &model->graph;
    struct binding b = {.g = g, .opts = opts};
    int rc = check_dims(&b, err);
    if (rc != 0) {
        return rc;
    }
    struct shr_type *types = shr_mem_new(g->n_inputs + 1, sizeof *types);
    b.used = shr_mem_new(opts->n_dims + 1, sizeof *b.used);
    if (types == NULL || b.used == NULL) {
        rc = shr_err_set(err, SHR_ERR_NOMEM, "out of memory while shapes are bound");
        goto out;
    }
    size_t n = 0;
    for (size_t i = 0; rc == 0 && i < g->n_inputs; i++) {
        if (is_true_input(g->inputs[i])) {
            rc = bind_input(&b, g->inputs[i], given_type(&b, n), &types[n], err);
            n++;
        }
    }
    if (rc == 0) {
        rc = check_used(&b, err);
    }
    if (rc == 0) {
        rc = shr_model_infer(model, types, err);
    }
out:
    shr_mem_free(types);
    shr_mem_free(b.used);
    return rc;
}
