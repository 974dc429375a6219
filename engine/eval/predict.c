/* Running a model over a dataset; see eval.h and shr_model_predict in shrink.h. */
#include <inttypes.h>
#include <string.h>

#include "eval/eval.h"

static int check_batch(struct shr__runner *r, struct shr_err *err)
{
    if (r->n_inputs == 0 || shr_plan_output_count(r->plan) == 0) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "the model has no input or no output");
    }
    for (size_t i = 0; i < r->n_inputs; i++) {
        const struct shr_tensor *in = r->inputs[i];
        if (r->feed != NULL && shr_feed_is_whole(r->feed, i)) {
            continue;
        }
        if (in->rank == 0 || in->dim[0] <= 0 || (r->batch != 0 && in->dim[0] != r->batch)) {
            return shr_err_set(err, SHR_ERR_UNSUPPORTED, "input %s does not have one row a sample",
                               shr_plan_input_name(r->plan, i));
        }
        r->batch = in->dim[0];
    }
    r->batch = r->batch != 0 ? r->batch : 1;
    const struct shr_tensor *out = shr_plan_output(r->plan, 0);
    if (out->rank == 0 || out->dim[0] != r->batch) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "the first output does not have one row a sample");
    }
    r->width = shr_tensor_count(out) / r->batch;
    return SHR_OK;
}

int shr__runner_init(struct shr__runner *ret, const struct shr_model *model,
                     const struct shr_dataset *data, int64_t batch, const struct shr_ctx *ctx,
                     struct shr_err *err)
{
    struct shr__runner r = {0};
    struct shr_plan_opts opts = {
        .batch = batch,
        .cpu_mask = ctx == NULL ? 0 : ctx->cpu_mask,
        .threads = ctx == NULL ? 0 : ctx->threads,
        .max_arena = ctx == NULL ? 0 : ctx->max_memory,
    };
    struct shr_type *types = NULL;
    int rc = SHR_OK;
    if (data != NULL) { /* its arrays know the dims that the model leaves open */
        rc = shr_feed_new(data, model, &r.feed, err);
        rc = rc == 0 ? shr_feed_types(r.feed, shr_feed_batch(r.feed, batch), &types, err) : rc;
        opts.inputs = types;
    }
    rc = rc == 0 ? shr_plan_new(model, &opts, &r.plan, err) : rc;
    if (rc != 0) {
        goto out;
    }
    r.n_inputs = shr_plan_input_count(r.plan);
    r.inputs = shr_mem_new(r.n_inputs + 1, sizeof(struct shr_tensor *));
    if (r.inputs == NULL) {
        rc = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the inputs of a model");
        goto out;
    }
    for (size_t i = 0; i < r.n_inputs; i++) {
        r.inputs[i] = shr_plan_input(r.plan, i);
    }
    rc = check_batch(&r, err);
out:
    shr_mem_free(types);
    if (rc != 0) {
        shr__runner_finish(&r);
        return rc;
    }
    *ret = r;
    return SHR_OK;
}

static void copy_rows(const struct shr__runner *r, int64_t rows, float *out)
{
    const struct shr_tensor *t = shr_plan_output(r->plan, 0);
    int64_t n = rows * r->width;
    if (t->dtype == SHR_DTYPE_F32) {
        memcpy(out, t->data, (size_t)n * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)shr_tensor_get(t, i);
    }
}

int shr__runner_predict(struct shr__runner *r, int64_t first, int64_t count, float *out,
                        shr__tick_fn tick, void *user, const struct shr_ctx *ctx,
                        struct shr_err *err)
{
    for (int64_t done = 0; done < count; done += r->batch) {
        int64_t rows = count - done < r->batch ? count - done : r->batch;
        int rc = shr_feed_fill(r->feed, first + done, rows, r->inputs, r->n_inputs, err);
        if (rc == 0) {
            rc = shr_plan_run(r->plan, ctx, err);
        }
        if (rc != 0) {
            return rc;
        }
        copy_rows(r, rows, out + done * r->width);
        if (tick != NULL) {
            tick(user, rows);
        }
    }
    return SHR_OK;
}

void shr__runner_finish(struct shr__runner *r)
{
    shr_plan_free(r->plan);
    shr_feed_free(r->feed);
    shr_mem_free(r->inputs);
    *r = (struct shr__runner){0};
}

int shr_model_predict(const struct shr_model *model, const struct shr_dataset *data, int64_t first,
                      int64_t count, int64_t batch, const struct shr_ctx *ctx, float **ret_out,
                      int64_t *ret_width, struct shr_err *err)
{
    if (first < 0 || count < 0 || batch < 0 || first > data->samples ||
        count > data->samples - first) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "samples %" PRId64 " to %" PRId64 " are not in a dataset of %" PRId64,
                           first, first + count, data->samples);
    }
    struct shr__runner runner;
    int rc = shr__runner_init(&runner, model, data, batch, ctx, err);
    if (rc != 0) {
        return rc;
    }
    size_t n;
    float *out = shr_size_mul((size_t)count, (size_t)runner.width, &n)
                     ? shr_mem_new(n == 0 ? 1 : n, sizeof *out)
                     : NULL;
    if (out == NULL) {
        rc = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the predictions");
    } else {
        rc = shr__runner_predict(&runner, first, count, out, NULL, NULL, ctx, err);
    }
    if (rc == 0) {
        *ret_out = out;
        *ret_width = runner.width;
    } else {
        shr_mem_free(out);
    }
    shr__runner_finish(&runner);
    return rc;
}
