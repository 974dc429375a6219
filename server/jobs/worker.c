/* The worker, see worker.h.
 *
 * A job is its inputs (load), the original's figures as step 0, and for each pass: run it, save the
 * result, store the bytes, measure them as saved against the original, store the step. The bytes
 * are stored before the row that names them. All that a job holds hangs on struct run and is freed
 * in one place. The errors of a pass become the problem of the job, with step and pass. */
#include "jobs/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "engine/shrink.h"
#include "errors.h"
#include "items.h"
#include "jobs/curves.h"
#include "jobs/events.h"
#include "jobs/queue.h"
#include "jobs/recipe.h"
#include "jsonx.h"
#include "log.h"
#include "srv.h"
#include "units.h"
#include "views.h"

struct run {
    struct job_task *task;
    struct srv *srv;
    struct job_recipe recipe;
    struct shr_ctx ctx;
    json_t *stored;                           /* the recipe as stored, with "ids" */
    struct shr_dataset *data[JOB_DATA_COUNT]; /* the same dataset is loaded once */
    struct shr_model *model;                  /* the present one: the original, then each result */
    struct shr_model *original;               /* kept for passes that train; or NULL */
    struct store_item source;
    void *source_bytes;
    size_t n_source, n_model; /* bytes of the files of the original and of the present model */
    struct shr_ledger ledger; /* of the present pass */
    struct shr_eval *eval;
    struct job_curves curves; /* of the present pass */
    void *resume;             /* its checkpoint, or NULL */
    bool plan;                /* nothing is run on data, and nothing stored */
    int step;                 /* for the problem of a failed job; -1 before the first */
    const char *pass;
};

/* ── Progress ───────────────────────────────────────────────────────────────────────────────── */

static void on_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    struct run *run = user;
    struct job_task *task = run->task;
    if (!job_progress_set(&task->progress, stage, done, total)) {
        return;
    }
    struct job_progress_view view;
    job_progress_get(&task->progress, &view);
    json_t *json = job_progress_json(&view);
    char *data = srv_json_dump(json);
    json_decref(json);
    struct shr_err err = {0};
    if (data == NULL || job_event_add(run->srv, task->job.id, "progress", data, &err) != SHR_OK) {
        /* the job goes on: its progress is no result */
        srv_log(SRV_LOG_DEBUG, task->job.id, "progress was not stored: %s", err.msg);
    }
    shr_mem_free(data);
}

static void on_figure(void *user, const char *series, uint64_t at, double value)
{
    struct run *run = user;
    job_progress_figure(&run->task->progress, series, value);
    if (!job_curves_add(&run->curves, series, at, value)) {
        srv_log(SRV_LOG_DEBUG, run->task->job.id, "a point of %s was not kept", series);
    }
}

/* ── Checkpoints ────────────────────────────────────────────────────────────────────────────── */

static int on_checkpoint(void *user, const void *bytes, size_t n, struct shr_err *err)
{
    struct run *run = user;
    const struct store_job *job = &run->task->job;
    int code =
        store_checkpoint_put(run->srv->store, job->id, job->attempt, run->step, bytes, n, err);
    if (code != SHR_OK) {
        srv_log(SRV_LOG_WARNING, job->id, "step %d: no checkpoint: %s", run->step, err->msg);
    } else {
        srv_log(SRV_LOG_DEBUG, job->id, "step %d: checkpoint of %zu bytes", run->step, n);
    }
    return code;
}

/* What an attempt that a crash ended left of this step. */
static int find_checkpoint(struct run *run, struct shr_err *err)
{
    int code = store_checkpoint_get(run->srv->store, run->task->job.id, run->step, &run->resume,
                                    &run->ctx.n_resume, err);
    run->ctx.resume = run->resume;
    if (run->resume != NULL) {
        srv_log(SRV_LOG_INFO, run->task->job.id, "step %d: has a checkpoint of %zu bytes",
                run->step, run->ctx.n_resume);
    }
    return code;
}

static void drop_checkpoint(struct run *run)
{
    shr_mem_free(run->resume);
    run->resume = NULL;
    run->ctx.resume = NULL;
    run->ctx.n_resume = 0;
}

static void begin_unit(struct run *run, int step, const char *pass)
{
    run->step = step;
    run->pass = pass;
    job_progress_unit(&run->task->progress, step, pass);
}

/* ── Inputs ─────────────────────────────────────────────────────────────────────────────────── */

/* The stored recipe: {"job": the canonical recipe, "ids": {"train": "dst_…", …}}. */
static int load_recipe(struct run *run, const char *ids[JOB_DATA_COUNT], struct shr_err *err)
{
    const char *text = run->task->job.recipe;
    int code = srv_json_parse(text, strlen(text), "stored recipe", &run->stored, err);
    if (code != SHR_OK) {
        return code;
    }
    code = job_recipe_parse(json_object_get(run->stored, "job"),
                            (int64_t)run->srv->settings.max_threads, &run->recipe, err);
    const json_t *json_ids = json_object_get(run->stored, "ids");
    for (int i = 0; i < JOB_DATA_COUNT; i++) {
        ids[i] = json_string_value(json_object_get(json_ids, job_data_names[i]));
    }
    return code;
}

static uint64_t least_limit(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static int get_model(struct srv *srv, const char *id, struct store_item *ret, void **ret_bytes,
                     size_t *ret_n, struct shr_err *err)
{
    const int code = store_item_get(srv->store, STORE_MODEL, id, 0, ret, err);
    return code != SHR_OK
               ? code
               : store_blob_get(srv->store, ret->parts[0].sha256, SIZE_MAX, ret_bytes, ret_n, err);
}

static int load_model(struct run *run, struct shr_err *err)
{
    struct srv *srv = run->srv;
    int code = get_model(srv, run->task->job.model_id, &run->source, &run->source_bytes,
                         &run->n_source, err);
    if (code == SHR_OK) {
        run->n_model = run->n_source;
        code = shr_model_load(run->source_bytes, run->n_source, NULL, &run->model, err);
    }
    for (size_t i = 0; code == SHR_OK && i < run->recipe.n_passes; i++) {
        if ((run->recipe.passes[i].pass->needs & SHR_NEEDS_TRAIN) != 0) {
            run->original = run->model;
        }
    }
    return code;
}

static int load_datasets(struct run *run, const char *const ids[JOB_DATA_COUNT],
                         struct shr_err *err)
{
    for (int i = 0; i < JOB_DATA_COUNT; i++) {
        for (int k = 0; ids[i] != NULL && k < i && run->data[i] == NULL; k++) {
            if (ids[k] != NULL && strcmp(ids[i], ids[k]) == 0) {
                run->data[i] = run->data[k];
            }
        }
        if (ids[i] == NULL || run->data[i] != NULL) {
            continue;
        }
        int code = srv_dataset_load(run->srv, ids[i], &run->data[i], err);
        if (code == SHR_OK) {
            code = shr_dataset_check(run->data[i], run->model, err);
        }
        if (code != SHR_OK) {
            shr_err_prefix(err, "data.%s: ", job_data_names[i]);
            return code;
        }
    }
    return SHR_OK;
}

static void free_datasets(struct run *run)
{
    for (int i = 0; i < JOB_DATA_COUNT; i++) {
        bool is_first = true;
        for (int k = 0; k < i; k++) {
            is_first = is_first && run->data[k] != run->data[i];
        }
        if (is_first) {
            shr_dataset_free(run->data[i]);
        }
    }
}

static int load_inputs(struct run *run, struct shr_err *err)
{
    const char *ids[JOB_DATA_COUNT];
    int code = load_recipe(run, ids, err);
    if (code == SHR_OK) {
        run->ctx = (struct shr_ctx){
            .seed = (uint64_t)run->recipe.seed,
            .threads = (int)run->recipe.threads,
            .max_memory = (size_t)least_limit(run->recipe.max_memory, run->task->max_memory),
            .cancel = &run->task->cancel,
            .progress = run->plan ? NULL : on_progress,
            .figure = run->plan ? NULL : on_figure,
            .checkpoint = run->plan ? NULL : on_checkpoint,
            .checkpoint_seconds = run->srv->settings.checkpoint_s,
            .plan = run->plan,
            .user = run,
        };
        job_progress_begin(&run->task->progress, (int)run->recipe.n_passes);
        begin_unit(run, 0, "original");
        shr_ctx_tell(&run->ctx, "load", 0, 0);
        code = load_model(run, err);
    }
    if (code == SHR_OK) {
        code = load_datasets(run, ids, err);
    }
    return code;
}

/* ── Steps ──────────────────────────────────────────────────────────────────────────────────── */

/* Figures that need a dataset are kept when `evaluate.metrics` asks for them, all others always. */
static bool is_wanted(const struct job_recipe *recipe, const char *name)
{
    const struct shr_metric_info *info = job_metric_find(name);
    if (recipe->n_metrics == 0 || info == NULL || !info->of_data) {
        return true;
    }
    for (size_t i = 0; i < recipe->n_metrics; i++) {
        if (strcmp(recipe->metrics[i], info->name) == 0) {
            return true;
        }
    }
    return false;
}

static bool wants_data(const struct job_recipe *recipe)
{
    bool wanted = recipe->n_metrics == 0;
    for (size_t i = 0; i < recipe->n_metrics; i++) {
        wanted = wanted || job_metric_find(recipe->metrics[i])->of_data;
    }
    return wanted;
}

static void tell_step(struct run *run, const struct store_step *step)
{
    char data[512];
    snprintf(data, sizeof data,
             "{\"step\":%" PRId64 ",\"pass\":\"%s\",\"bytes\":%" PRIu64 ",\"sha256\":\"%s\"}",
             step->seq, step->pass, step->bytes, step->sha256);
    struct shr_err err = {0};
    if (job_event_add(run->srv, run->task->job.id, "step", data, &err) != SHR_OK) {
        srv_log(SRV_LOG_WARNING, run->task->job.id, "event of step %" PRId64 ": %s", step->seq,
                err.msg);
    }
}

static int store_step(struct run *run, const char *sha256, size_t n, const char *report,
                      const struct shr_metrics *metrics, struct shr_err *err)
{
    struct store_metric *rows = shr_mem_new(metrics->n + 1, sizeof *rows);
    if (rows == NULL) {
        return srv_nomem(err);
    }
    size_t n_rows = 0;
    for (size_t i = 0; i < metrics->n; i++) {
        const struct shr_metric *metric = &metrics->v[i];
        if (is_wanted(&run->recipe, metric->name)) {
            rows[n_rows++] =
                (struct store_metric){metric->name, metric->measured, metric->value, metric->why};
        }
    }
    const struct store_step step = {
        .seq = run->step,
        .pass = run->pass,
        .sha256 = sha256,
        .bytes = n,
        .report = report,
        .n_metrics = n_rows,
        .metrics = rows,
    };
    const int code =
        store_step_add(run->srv->store, run->task->job.id, run->task->job.attempt, &step, err);
    shr_mem_free(rows);
    if (code == SHR_OK) {
        tell_step(run, &step);
    }
    return code;
}

static struct shr_ctx eval_ctx(const struct run *run)
{
    struct shr_ctx ctx = run->ctx;
    if (run->recipe.latency) {
        ctx.threads = (int)run->recipe.latency_threads;
    }
    return ctx;
}

static int do_original(struct run *run, struct shr_err *err)
{
    const struct shr_ctx ctx = eval_ctx(run);
    const struct shr_eval_opts opts = {
        .data = wants_data(&run->recipe) ? run->data[JOB_DATA_EVALUATE] : NULL,
        .max_samples = run->recipe.samples,
        .latency = run->recipe.latency,
        .latency_batch = run->recipe.batch,
        .n_latency_batch = run->recipe.n_batch,
        .latency_seconds = run->recipe.latency_seconds,
    };
    struct shr_metrics metrics = {0};
    int code = shr_eval_new(run->source_bytes, run->n_source, &opts, &ctx, &run->eval, err);
    if (code == SHR_OK) {
        code = shr_eval_original(run->eval, &ctx, &metrics, err);
    }
    if (code == SHR_OK) {
        code = store_step(run, run->source.parts[0].sha256, run->n_source, "{\"notes\":[]}",
                          &metrics, err);
    }
    shr_metrics_finish(&metrics);
    return code;
}

/* What made the artifact goes into it: version, recipe so far, hash of the original. */
static int stamp(struct run *run, size_t n_passes, struct shr_model *model, struct shr_err *err)
{
    json_t *pipeline = job_recipe_pipeline_json(&run->recipe, n_passes);
    json_t *json =
        json_pack("{s:o, s:I}", "pipeline", pipeline, "seed", (json_int_t)run->recipe.seed);
    char *text = srv_json_dump(json);
    json_decref(json);
    int code = text != NULL ? SHR_OK : srv_nomem(err);
    if (code == SHR_OK) {
        code = shr_model_set_metadata(model, "shrinkd.recipe", text, err);
    }
    if (code == SHR_OK) {
        code = shr_model_set_metadata(model, "shrinkd.source_sha256", run->source.parts[0].sha256,
                                      err);
    }
    if (code == SHR_OK) {
        code = shr_model_set_metadata(model, "shrinkd.version", SHR_VERSION, err);
    }
    shr_mem_free(text);
    return code;
}

/* The model that pass i names, if it names one. */
static int load_other(struct run *run, size_t i, struct shr_model **ret, struct shr_err *err)
{
    const char *name = NULL;
    char path[JOB_PATH];
    struct store_item item = {0};
    void *bytes = NULL;
    size_t n = 0;
    if (!job_recipe_model(&run->recipe, i, &name, path)) {
        return SHR_OK;
    }
    const char *id = json_string_value(json_object_get(json_object_get(run->stored, "ids"), path));
    int code = get_model(run->srv, id != NULL ? id : name, &item, &bytes, &n, err);
    code = code == SHR_OK ? shr_model_load(bytes, n, NULL, ret, err) : code;
    if (code != SHR_OK) {
        shr_err_prefix(err, "%s: ", path);
    }
    shr_mem_free(bytes);
    store_item_finish(&item);
    return code;
}

/* The result of a pass takes the place of the present model, and the ledger compares both. */
static int succeed(struct run *run, struct shr_model *take_model, struct shr_err *err)
{
    size_t bytes = 0;
    int code = shr_model_size(take_model, &bytes, err);
    shr_ledger_finish(&run->ledger);
    if (code == SHR_OK) {
        code = shr_ledger_make(run->model, run->n_model, take_model, bytes, &run->ledger, err);
    }
    if (code != SHR_OK) {
        shr_model_free(take_model);
        return code;
    }
    if (run->model != run->original) {
        shr_model_free(run->model);
    }
    run->model = take_model;
    run->n_model = bytes;
    return SHR_OK;
}

/* Runs pass i on the present model and makes its result the present one. */
static int run_pass(struct run *run, size_t i, struct shr_report *report, struct shr_err *err)
{
    struct shr_model *other = NULL;
    int code = load_other(run, i, &other, err);
    if (code != SHR_OK) {
        return code;
    }
    struct shr_pass_call call = {
        .model = run->model,
        .original = run->original,
        .other = other,
        .args = &run->recipe.passes[i],
        .calibrate = run->data[JOB_DATA_CALIBRATE],
        .train = run->data[JOB_DATA_TRAIN],
        .ctx = &run->ctx,
        .report = report,
    };
    code = shr_pass_run(run->recipe.passes[i].pass, &call, err);
    shr_model_free(other);
    if (code != SHR_OK) {
        return code;
    }
    code = stamp(run, i + 1, call.ret_model, err);
    if (code != SHR_OK) {
        shr_model_free(call.ret_model);
        return code;
    }
    return succeed(run, call.ret_model, err);
}

/* Stores and measures the present model. */
static int keep_step(struct run *run, const struct shr_report *report, struct shr_err *err)
{
    const struct shr_ctx ctx = eval_ctx(run);
    struct shr_buf bytes = {0};
    struct shr_metrics metrics = {0};
    char sha256[STORE_SHA256_HEX];
    char *text = NULL;

    int code = shr_model_save(run->model, &bytes, err);
    if (code == SHR_OK) {
        code = store_blob_put(run->srv->store, bytes.data, bytes.len, sha256, err);
    }
    if (code == SHR_OK) {
        code = shr_eval_measure(run->eval, bytes.data, bytes.len, &ctx, &metrics, err);
    }
    if (code == SHR_OK) {
        text = srv_report_dump(report, &run->curves, &run->ledger);
        code =
            text != NULL ? store_step(run, sha256, bytes.len, text, &metrics, err) : srv_nomem(err);
    }
    shr_mem_free(text);
    shr_metrics_finish(&metrics);
    shr_buf_finish(&bytes);
    return code;
}

static int do_pass(struct run *run, size_t i, struct shr_err *err)
{
    struct shr_report report = {0};
    const char *pass = run->recipe.passes[i].pass->name;
    begin_unit(run, (int)i + 1, pass);
    shr_ctx_tell(&run->ctx, pass, 0, 0);
    job_curves_finish(&run->curves);
    int code = find_checkpoint(run, err);
    if (code == SHR_OK) {
        code = run_pass(run, i, &report, err);
    }
    drop_checkpoint(run);
    if (code == SHR_OK) {
        begin_unit(run, (int)i + 1, pass);
        shr_ctx_tell(&run->ctx, "evaluate", 0, 0);
        code = keep_step(run, &report, err);
    }
    shr_report_finish(&report);
    return code;
}

/* ── Outcome ────────────────────────────────────────────────────────────────────────────────── */

static int judge(struct run *run, struct shr_err *err)
{
    if (run->recipe.n_asserts == 0) {
        return SHR_OK;
    }
    struct store_steps steps = {0};
    int code = store_step_list(run->srv->store, run->task->job.id, &steps, err);
    if (code != SHR_OK) {
        return code;
    }
    bool pass = false;
    json_t *rows = job_asserts_check(run->recipe.asserts, run->recipe.n_asserts, &steps, &pass);
    code = rows != NULL ? SHR_OK : srv_nomem(err);
    json_decref(rows);
    store_steps_finish(&steps);
    run->task->verdict = pass ? "pass" : "fail";
    return code;
}

static void fail(struct run *run, const struct shr_err *err)
{
    struct job_task *task = run->task;
    task->outcome = JOB_FAILED;
    task->verdict = "";
    task->error = srv_problem_dump(err, run->step, run->pass);
    srv_log(SRV_LOG_WARNING, task->job.id, "step %d%s%s: %s", run->step,
            run->pass != NULL ? ", " : "", run->pass != NULL ? run->pass : "", err->msg);
}

static void conclude(struct run *run, int code, struct shr_err *err)
{
    struct job_task *task = run->task;
    if (code == SHR_OK) {
        task->outcome = JOB_SUCCEEDED;
        return;
    }
    if (code != SHR_ERR_CANCELLED) {
        fail(run, err);
        return;
    }
    switch ((enum job_stop)atomic_load(&task->stop)) {
    case JOB_STOP_USER:
        task->outcome = JOB_CANCELLED;
        break;
    case JOB_STOP_SHUTDOWN:
        task->outcome = JOB_QUEUED;
        break;
    case JOB_STOP_TIME:
    case JOB_STOP_NONE:
        shr_err_set(err, SHR_ERR_TIMEOUT, "the job ran longer than job_max_seconds (%u)",
                    task->max_seconds);
        fail(run, err);
        break;
    }
}

static int run_job(struct run *run, struct shr_err *err)
{
    int code = shr_ctx_poll(&(struct shr_ctx){.cancel = &run->task->cancel}, err);
    if (code == SHR_OK) {
        code = load_inputs(run, err);
    }
    if (code == SHR_OK) {
        code = do_original(run, err);
    }
    for (size_t i = 0; code == SHR_OK && i < run->recipe.n_passes; i++) {
        code = do_pass(run, i, err);
    }
    return code == SHR_OK ? judge(run, err) : code;
}

static void finish(struct run *run)
{
    job_curves_finish(&run->curves);
    shr_ledger_finish(&run->ledger);
    shr_eval_free(run->eval);
    if (run->model != run->original) {
        shr_model_free(run->model);
    }
    shr_model_free(run->original);
    free_datasets(run);
    shr_mem_free(run->source_bytes);
    store_item_finish(&run->source);
    job_recipe_finish(&run->recipe);
    json_decref(run->stored);
}

void job_worker_run(struct job_task *task)
{
    struct run run = {.task = task, .srv = task->srv, .step = -1};
    struct shr_err err = {0};
    const int code = run_job(&run, &err);
    conclude(&run, code, &err);
    finish(&run);
}

/* ── Plans ──────────────────────────────────────────────────────────────────────────────────── */

static int plan_step(struct run *run, const struct shr_report *report, json_t *steps,
                     struct shr_err *err)
{
    const struct srv_plan_step step = {
        .step = run->step,
        .pass = run->pass,
        .bytes = run->n_model,
        .original = run->n_source,
        .parameters = shr_model_parameters(run->model),
        .ledger = run->step > 0 ? &run->ledger : NULL,
        .report = report,
    };
    return json_array_append_new(steps, srv_plan_step_json(&step)) == 0 ? SHR_OK : srv_nomem(err);
}

static int plan_pass(struct run *run, size_t i, json_t *steps, struct shr_err *err)
{
    struct shr_report report = {0};
    begin_unit(run, (int)i + 1, run->recipe.passes[i].pass->name);
    int code = run_pass(run, i, &report, err);
    if (code == SHR_OK) {
        code = plan_step(run, &report, steps, err);
    } else {
        shr_err_prefix(err, "pipeline[%zu]: ", i);
    }
    shr_report_finish(&report);
    return code;
}

int job_worker_plan(struct job_task *task, json_t **ret, struct shr_err *err)
{
    struct run run = {.task = task, .srv = task->srv, .step = -1, .plan = true};
    const struct shr_report none = {0};
    json_t *steps = json_array();
    int code = steps != NULL ? load_inputs(&run, err) : srv_nomem(err);
    if (code == SHR_OK) {
        code = plan_step(&run, &none, steps, err);
    }
    for (size_t i = 0; code == SHR_OK && i < run.recipe.n_passes; i++) {
        code = plan_pass(&run, i, steps, err);
    }
    if (code == SHR_OK) {
        *ret = json_pack("{s:s, s:O}", "model", run.source.name, "steps", steps);
        code = *ret != NULL ? SHR_OK : srv_nomem(err);
    }
    json_decref(steps);
    finish(&run);
    return code;
}
