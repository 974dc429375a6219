/* Sessions: one model, its inputs by name, run as often as wanted; see shrink.h. A thin layer over
 * the executor for users of the library. Thread: one at a time. */
#include <string.h>

#include "base/mem.h"
#include "core/rng.h"
#include "exec/plan.h"

struct shr_session {
    struct shr_plan *plan;
};

static bool is_true_input(const struct shr_value *v)
{
    return v->is_input && !shr_value_is_constant(v);
}

static const struct shr_view *find_view(const struct shr_view *views, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(views[i].name, name) == 0) {
            return &views[i];
        }
    }
    return NULL;
}

static int check_names(const struct shr_model *model, const struct shr_session_opts *opts,
                       struct shr_err *err)
{
    for (size_t i = 0; i < opts->n_inputs; i++) {
        const struct shr_view *view = &opts->inputs[i];
        const struct shr_value *v = shr_graph_find(&model->graph, view->name);
        if (v == NULL || !is_true_input(v)) {
            return shr_err_set(err, SHR_ERR_NOT_FOUND, "the model has no input %s", view->name);
        }
        if (find_view(opts->constants, opts->n_constants, view->name) != NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "input %s: is given twice", view->name);
        }
        int rc = shr_view_check(view, &v->type, err);
        if (rc != 0) {
            return rc;
        }
    }
    return SHR_OK;
}

/* The types of the inputs that are given, in the order of the plan. */
static struct shr_type *given_types(const struct shr_model *model,
                                    const struct shr_session_opts *opts)
{
    struct shr_type *types = shr_mem_new(model->graph.n_inputs + 1, sizeof *types);
    size_t n = 0;
    for (size_t i = 0; types != NULL && i < model->graph.n_inputs; i++) {
        const struct shr_value *v = model->graph.inputs[i];
        if (!is_true_input(v) || find_view(opts->constants, opts->n_constants, v->name) != NULL) {
            continue;
        }
        const struct shr_view *view = find_view(opts->inputs, opts->n_inputs, v->name);
        if (view != NULL) {
            types[n] = (struct shr_type){.dtype = view->dtype, .rank = view->rank};
            memcpy(types[n].dim, view->dim, sizeof view->dim);
        }
        n++;
    }
    return types;
}

static void fill_random(struct shr_tensor *t, struct shr_rng *rng)
{
    const int64_t n = shr_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        shr_tensor_set(t, i,
                       shr_dtype_is_float(t->dtype) ? shr_rng_uniform(rng)
                                                    : (double)shr_rng_below(rng, 2));
    }
}

static void fill(struct shr_plan *plan, const struct shr_session_opts *opts,
                 const struct shr_ctx *ctx)
{
    struct shr_rng rng;
    shr_rng_init(&rng, ctx == NULL ? 0 : ctx->seed);
    for (size_t i = 0; i < shr_plan_input_count(plan); i++) {
        struct shr_tensor *t = shr_plan_input(plan, i);
        const struct shr_view *view =
            find_view(opts->inputs, opts->n_inputs, shr_plan_input_name(plan, i));
        if (view == NULL) {
            fill_random(t, &rng);
        } else if (view->bytes > 0) {
            memcpy(t->data, view->data, view->bytes);
        }
    }
}

int shr_session_new(const struct shr_model *model, const struct shr_session_opts *opts,
                    const struct shr_ctx *ctx, struct shr_session **ret_session,
                    struct shr_err *err)
{
    struct shr_model *clone;
    int rc = shr_model_clone(model, &clone, err);
    return rc != 0 ? rc : shr_session_new_take(clone, opts, ctx, ret_session, err);
}

int shr_session_new_take(struct shr_model *take_model, const struct shr_session_opts *opts,
                         const struct shr_ctx *ctx, struct shr_session **ret_session,
                         struct shr_err *err)
{
    int rc = check_names(take_model, opts, err);
    if (rc != 0) {
        shr_model_free(take_model);
        return rc;
    }
    struct shr_type *types = given_types(take_model, opts);
    struct shr_session *session = shr_mem_new(1, sizeof *session);
    if (types == NULL || session == NULL) {
        rc = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a session");
        goto out;
    }
    const struct shr_plan_opts plan_opts = {
        .batch = opts->batch,
        .dims = opts->dims,
        .n_dims = opts->n_dims,
        .inputs = types,
        .constants = opts->constants,
        .n_constants = opts->n_constants,
        .no_fuse = opts->no_fuse,
        .cpu_mask = ctx == NULL ? 0 : ctx->cpu_mask,
        .threads = ctx == NULL ? 0 : ctx->threads,
        .max_arena = ctx == NULL ? 0 : ctx->max_memory,
    };
    rc = shr_plan_new_take(take_model, &plan_opts, &session->plan, err);
    take_model = NULL;
    if (rc == 0) {
        fill(session->plan, opts, ctx);
        *ret_session = session;
        session = NULL;
    }
out:
    shr_model_free(take_model);
    shr_session_free(session);
    shr_mem_free(types);
    return rc;
}

void shr_session_free(struct shr_session *session)
{
    if (session != NULL) {
        shr_plan_free(session->plan);
        shr_mem_free(session);
    }
}

size_t shr_session_input_count(const struct shr_session *session)
{
    return shr_plan_input_count(session->plan);
}

size_t shr_session_output_count(const struct shr_session *session)
{
    return shr_plan_output_count(session->plan);
}

struct shr_view shr_session_input(const struct shr_session *session, size_t i)
{
    return shr_tensor_view(shr_plan_input(session->plan, i), shr_plan_input_name(session->plan, i));
}

struct shr_view shr_session_output(const struct shr_session *session, size_t i)
{
    return shr_tensor_view(shr_plan_output(session->plan, i),
                           shr_plan_output_name(session->plan, i));
}

int shr_session_run(struct shr_session *session, const struct shr_ctx *ctx, struct shr_err *err)
{
    return shr_plan_run(session->plan, ctx, err);
}

size_t shr_session_step_count(const struct shr_session *session)
{
    return shr_plan_step_count(session->plan);
}

struct shr_step_info shr_session_step(const struct shr_session *session, size_t i)
{
    return shr_plan_step(session->plan, i);
}

int shr_session_run_timed(struct shr_session *session, const struct shr_ctx *ctx, uint64_t *ret_ns,
                          struct shr_err *err)
{
    return shr_plan_run_timed(session->plan, ctx, ret_ns, err);
}

size_t shr_session_value_bytes(const struct shr_session *session)
{
    return shr_plan_arena_bytes(session->plan);
}

size_t shr_session_weight_bytes(const struct shr_session *session)
{
    return shr_plan_weight_bytes(session->plan);
}
