/* Teachers; see teacher.h. */
#include "train/teacher.h"

#include <string.h>

#include "base/mem.h"

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the teacher");
}

/* The values must have a row a sample. */
static int find_values(struct shr_teacher *t, const char *const *names, struct shr_err *err)
{
    for (size_t i = 0; i < t->n_values; i++) {
        const struct shr_tensor *v = shr_plan_value(t->plan, names[i]);
        const int64_t count = v == NULL ? 0 : shr_tensor_count(v);
        if (v == NULL || v->dtype != SHR_DTYPE_F32 || v->rank < 1 || v->dim[0] != t->rows) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "value %s of the teacher is not float32 with one row a sample",
                               names[i]);
        }
        t->values[i] = v;
        t->width[i] = (size_t)(count / t->rows);
    }
    return SHR_OK;
}

static int make_plan(struct shr_teacher *t, const char *const *names, const struct shr_ctx *ctx,
                     struct shr_err *err)
{
    struct shr_type *types = NULL;
    int rc = shr_feed_types(t->feed, t->rows, &types, err);
    const struct shr_plan_opts opts = {
        .inputs = types,
        .keep = names,
        .n_keep = t->n_values,
        .cpu_mask = ctx == NULL ? 0 : ctx->cpu_mask,
        .threads = ctx == NULL ? 0 : ctx->threads,
        .max_arena = ctx == NULL ? 0 : ctx->max_memory,
    };
    rc = rc == SHR_OK ? shr_plan_new(t->model, &opts, &t->plan, err) : rc;
    shr_mem_free(types);
    if (rc != SHR_OK) {
        return rc;
    }
    t->n_inputs = shr_plan_input_count(t->plan);
    t->inputs = shr_mem_new(t->n_inputs + 1, sizeof(struct shr_tensor *));
    if (t->inputs == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < t->n_inputs; i++) {
        t->inputs[i] = shr_plan_input(t->plan, i);
    }
    return SHR_OK;
}

/* All values of all samples, when they fit. */
static int keep(struct shr_teacher *t, size_t max_memory, const struct shr_ctx *ctx,
                struct shr_err *err)
{
    const size_t samples = (size_t)t->data->samples;
    size_t bytes[SHR_TEACHER_VALUES], all = 0;
    for (size_t i = 0; i < t->n_values; i++) {
        if (!shr_size_mul(samples, t->width[i] * sizeof(float), &bytes[i]) ||
            !shr_size_add(all, bytes[i], &all)) {
            return SHR_OK;
        }
    }
    if (max_memory != 0 && all > max_memory) {
        return SHR_OK;
    }
    for (size_t i = 0; i < t->n_values; i++) {
        t->kept[i] = shr_mem_aligned(bytes[i] + SHR_MEM_ALIGN);
        if (t->kept[i] == NULL) {
            return no_memory(err);
        }
    }
    for (int64_t at = 0; at < t->data->samples; at += t->rows) {
        const int64_t n = t->data->samples - at < t->rows ? t->data->samples - at : t->rows;
        int rc = shr_feed_fill(t->feed, at, n, t->inputs, t->n_inputs, err);
        rc = rc == SHR_OK ? shr_plan_run(t->plan, ctx, err) : rc;
        if (rc != SHR_OK) {
            return rc;
        }
        for (size_t i = 0; i < t->n_values; i++) {
            memcpy(t->kept[i] + (size_t)at * t->width[i], t->values[i]->data,
                   (size_t)n * t->width[i] * sizeof(float));
        }
        shr_ctx_tell(ctx, "ask the teacher", (uint64_t)(at + n), (uint64_t)t->data->samples);
    }
    return SHR_OK;
}

int shr_teacher_init(struct shr_teacher *ret, const struct shr_model *model,
                     const struct shr_dataset *data, const char *const *names, size_t n,
                     int64_t rows, size_t max_memory, const struct shr_augment *augment,
                     const struct shr_ctx *ctx, struct shr_err *err)
{
    struct shr_teacher t = {.model = model, .data = data, .n_values = n, .rows = rows};
    int rc = shr_feed_new(data, model, &t.feed, err);
    if (rc == SHR_OK) {
        rc = make_plan(&t, names, ctx, err);
    }
    if (rc == SHR_OK) {
        rc = find_values(&t, names, err);
    }
    if (rc == SHR_OK && augment != NULL) {
        rc = shr_feed_augment(t.feed, augment, err);
    } else if (rc == SHR_OK) {
        rc = keep(&t, max_memory, ctx, err);
    }
    if (rc != SHR_OK) {
        shr_teacher_finish(&t);
        return rc;
    }
    if (t.kept[0] != NULL) { /* it was asked all that there is to ask */
        shr_plan_free(t.plan);
        t.plan = NULL;
    }
    *ret = t;
    return SHR_OK;
}

int shr_teacher_fill(struct shr_teacher *t, const int64_t *samples, int64_t n,
                     struct shr_tensor *const *to, const struct shr_ctx *ctx, struct shr_err *err)
{
    if (t->plan != NULL) {
        int rc = shr_feed_fill_list(t->feed, samples, n, t->inputs, t->n_inputs, err);
        rc = rc == SHR_OK ? shr_plan_run(t->plan, ctx, err) : rc;
        if (rc != SHR_OK) {
            return rc;
        }
    }
    for (size_t i = 0; i < t->n_values; i++) {
        const size_t bytes = t->width[i] * sizeof(float);
        for (int64_t row = 0; row < n && to[i] != NULL; row++) {
            const int64_t at = t->plan != NULL ? row : samples[row];
            const float *from = t->plan != NULL ? t->values[i]->data : t->kept[i];
            memcpy((char *)to[i]->data + (size_t)row * bytes, from + (size_t)at * t->width[i],
                   bytes);
        }
    }
    return SHR_OK;
}

void shr_teacher_finish(struct shr_teacher *t)
{
    for (size_t i = 0; i < t->n_values; i++) {
        shr_mem_free(t->kept[i]);
    }
    shr_plan_free(t->plan);
    shr_feed_free(t->feed);
    shr_mem_free(t->inputs);
    *t = (struct shr_teacher){0};
}
