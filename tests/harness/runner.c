/* runner: the executor as a flat library for ctypes, so that a test or a benchmark can have our
 * engine and ONNX Runtime in one process.
 *
 *     runner_load → runner_plan (as often as wished) → runner_tensor, runner_run → runner_free
 *
 * Functions that can fail return 0 or a code of base/err.def and write the reason to `message`,
 * which has room for RUNNER_MESSAGE bytes. Used by tests/harness/engine.py. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "exec/plan.h"

enum { RUNNER_MESSAGE = 512 };

struct runner {
    struct shr_model *model;
    struct shr_plan *plan;
};

struct runner_type { /* of an input; the layout is known to engine.py */
    int32_t dtype, rank;
    int64_t dim[SHR_MAX_RANK];
};

SHR_API struct runner *runner_load(const void *bytes, size_t n, char *message);
SHR_API int runner_plan(struct runner *runner, const struct runner_type *inputs, size_t n_inputs,
                        int threads, unsigned cpu_mask, int no_fuse, int last, char *message);
SHR_API void *runner_tensor(struct runner *runner, int output, size_t i, struct runner_type *ret);
SHR_API size_t runner_count(const struct runner *runner, int outputs);
SHR_API const char *runner_input_name(const struct runner *runner, size_t i);
SHR_API int runner_run(struct runner *runner, char *message);
SHR_API int runner_time(struct runner *runner, int n, int cpu, double *ret_seconds, char *message);
SHR_API size_t runner_print(const struct runner *runner, char *text, size_t size);
SHR_API void runner_free(struct runner *runner);

static int tell(int code, const struct shr_err *err, char *message)
{
    snprintf(message, RUNNER_MESSAGE, "%s: %s", shr_err_name(code), err->msg);
    return code;
}

/* The bytes may be freed afterwards. NULL on failure. */
struct runner *runner_load(const void *bytes, size_t n, char *message)
{
    struct shr_err err = {0};
    struct runner *runner = shr_mem_new(1, sizeof *runner);
    if (runner == NULL) {
        snprintf(message, RUNNER_MESSAGE, "out of memory");
        return NULL;
    }
    int rc = shr_model_load(bytes, n, NULL, &runner->model, &err);
    if (rc != 0) {
        tell(rc, &err, message);
        runner_free(runner);
        return NULL;
    }
    return runner;
}

/* Replaces the plan by one for inputs of these types, in the model's order. The last plan takes the
 * model, which keeps the peak of memory low. */
int runner_plan(struct runner *runner, const struct runner_type *inputs, size_t n_inputs,
                int threads, unsigned cpu_mask, int no_fuse, int last, char *message)
{
    enum { MAX_INPUTS = 64 };
    struct shr_type types[MAX_INPUTS] = {{0}};
    struct shr_err err = {0};
    if (n_inputs > MAX_INPUTS) {
        snprintf(message, RUNNER_MESSAGE, "more than %d inputs", MAX_INPUTS);
        return SHR_ERR_LIMIT;
    }
    for (size_t i = 0; i < n_inputs; i++) {
        types[i].dtype = (enum shr_dtype)inputs[i].dtype;
        types[i].rank = inputs[i].rank;
        memcpy(types[i].dim, inputs[i].dim, sizeof types[i].dim);
    }
    shr_plan_free(runner->plan);
    runner->plan = NULL;
    struct shr_plan_opts opts = {
        .inputs = types, .threads = threads, .cpu_mask = cpu_mask, .no_fuse = no_fuse != 0};
    int rc;
    if (last) {
        rc = shr_plan_new_take(runner->model, &opts, &runner->plan, &err);
        runner->model = NULL;
    } else {
        rc = shr_plan_new(runner->model, &opts, &runner->plan, &err);
    }
    return rc == 0 ? 0 : tell(rc, &err, message);
}

/* The data of a tensor of the plan, and its type; outputs may change theirs with a run. */
void *runner_tensor(struct runner *runner, int output, size_t i, struct runner_type *ret)
{
    const struct shr_tensor *t =
        output ? shr_plan_output(runner->plan, i) : shr_plan_input(runner->plan, i);
    ret->dtype = (int32_t)t->dtype;
    ret->rank = t->rank;
    memcpy(ret->dim, t->dim, sizeof ret->dim);
    return t->data;
}

size_t runner_count(const struct runner *runner, int outputs)
{
    return outputs ? shr_plan_output_count(runner->plan) : shr_plan_input_count(runner->plan);
}

const char *runner_input_name(const struct runner *runner, size_t i)
{
    return shr_plan_input_name(runner->plan, i);
}

int runner_run(struct runner *runner, char *message)
{
    struct shr_err err = {0};
    int rc = shr_plan_run(runner->plan, &(struct shr_ctx){0}, &err);
    return rc == 0 ? 0 : tell(rc, &err, message);
}

/* The seconds that n runs take, or those that this thread works in them. */
int runner_time(struct runner *runner, int n, int cpu, double *ret_seconds, char *message)
{
    clockid_t clock = cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    struct timespec a, b;
    clock_gettime(clock, &a);
    for (int i = 0; i < n; i++) {
        int rc = runner_run(runner, message);
        if (rc != 0) {
            return rc;
        }
    }
    clock_gettime(clock, &b);
    *ret_seconds = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    return 0;
}

/* The steps of the plan as text, cut to what fits; returns the whole length. */
size_t runner_print(const struct runner *runner, char *text, size_t size)
{
    struct shr_buf buf = {0};
    struct shr_err err = {0};
    size_t n = 0;
    if (shr_plan_print(runner->plan, &buf, &err) == 0) {
        n = (size_t)snprintf(text, size, "%.*s", (int)buf.len, (const char *)buf.data);
    }
    shr_buf_finish(&buf);
    return n;
}

void runner_free(struct runner *runner)
{
    if (runner != NULL) {
        shr_plan_free(runner->plan);
        shr_model_free(runner->model);
        shr_mem_free(runner);
    }
}
