/* Views, see views.h. The rule for building: json is NULL or whole; srv_json_put frees what it
 * cannot put, so a failed view frees its root and nothing else. */
#include "views.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "jobs/recipe.h"
#include "jobs/states.h"
#include "jsonx.h"
#include "units.h"

static json_t *whole(json_t *json, bool ok)
{
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static bool put_text(json_t *json, const char *name, const char *text)
{
    return srv_json_put(json, name, json_string(text));
}

static bool put_int(json_t *json, const char *name, int64_t value)
{
    return srv_json_put(json, name, json_integer((json_int_t)value));
}

/* null until it has happened */
static bool put_time(json_t *json, const char *name, int64_t time_us)
{
    char text[SRV_TIME_SIZE];
    return srv_json_put(json, name,
                        time_us == 0 ? json_null()
                                     : json_string(srv_time_format(time_us, text, sizeof text)));
}

/* A member that is null when its text is empty. */
static bool put_optional(json_t *json, const char *name, const char *text)
{
    return srv_json_put(json, name, text[0] == '\0' ? json_null() : json_string(text));
}

static bool add(json_t *list, json_t *take_value)
{
    if (list == NULL) {
        json_decref(take_value);
        return false;
    }
    return json_array_append_new(list, take_value) == 0; /* fails on NULL, and frees */
}

/* ── Models and datasets ────────────────────────────────────────────────────────────────────── */

/* Dims as numbers, symbols as texts, unknown ones as null; null for an unknown rank. */
static json_t *shape_json(int rank, const int64_t *dim, const char *const *sym)
{
    if (rank < 0) {
        return json_null();
    }
    json_t *shape = json_array();
    for (int i = 0; i < rank; i++) {
        json_t *one = dim[i] >= 0                     ? json_integer((json_int_t)dim[i])
                      : sym != NULL && sym[i] != NULL ? json_string(sym[i])
                                                      : json_null();
        if (!add(shape, one)) {
            json_decref(shape);
            return NULL;
        }
    }
    return shape;
}

static json_t *values_json(const struct shr_model_value *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct shr_type *type = &values[i].type;
        json_t *json = json_object();
        const bool ok = put_text(json, "name", values[i].name) &&
                        put_text(json, "dtype", shr_dtype_name(type->dtype)) &&
                        srv_json_put(json, "shape", shape_json(type->rank, type->dim, type->sym));
        if (!add(list, whole(json, ok))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *srv_model_summary(const struct shr_model_info *info)
{
    json_t *ops = json_object();
    json_t *unrunnable = json_array();
    bool ok = true;
    for (size_t i = 0; ok && i < info->n_ops; i++) {
        const struct shr_model_op *op = &info->ops[i];
        ok = put_int(ops, op->name, (int64_t)op->count) &&
             (op->runnable || add(unrunnable, json_string(op->name)));
    }
    json_t *json = json_object();
    ok = srv_json_put(json, "inputs", values_json(info->inputs, info->n_inputs)) && ok;
    ok = srv_json_put(json, "outputs", values_json(info->outputs, info->n_outputs)) && ok;
    ok = put_int(json, "ir_version", info->ir_version) && ok;
    ok = put_int(json, "opset", info->opset) && ok;
    ok = put_text(json, "producer", info->producer != NULL ? info->producer : "") && ok;
    ok = put_int(json, "nodes", (int64_t)info->n_nodes) && ok;
    ok = put_int(json, "parameters", info->parameters) && ok;
    ok = srv_json_put(json, "ops", ops) && ok;
    ok = srv_json_put(json, "unrunnable_ops", unrunnable) && ok;
    return whole(json, ok);
}

static json_t *arrays_json(const struct shr_dataset_info *info)
{
    json_t *list = json_array();
    for (size_t i = 0; i < info->n_arrays; i++) {
        const struct shr_array_info *array = &info->arrays[i];
        json_t *json = json_object();
        const bool ok = put_text(json, "name", array->name) &&
                        put_text(json, "dtype", shr_dtype_name(array->dtype)) &&
                        srv_json_put(json, "shape", shape_json(array->rank, array->dim, NULL));
        if (!add(list, whole(json, ok))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *histogram_json(const struct shr_dataset_info *info)
{
    if (!info->has_labels || info->histogram == NULL) {
        return json_null();
    }
    json_t *list = json_array();
    for (int64_t i = 0; i < info->n_classes; i++) {
        if (!add(list, json_integer((json_int_t)info->histogram[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *srv_dataset_summary(const struct shr_dataset_info *info)
{
    json_t *json = json_object();
    const bool ok = put_int(json, "samples", info->samples) &&
                    srv_json_put(json, "arrays", arrays_json(info)) &&
                    srv_json_put(json, "has_labels", json_boolean(info->has_labels)) &&
                    srv_json_put(json, "classes",
                                 info->has_labels ? json_integer(info->n_classes) : json_null()) &&
                    srv_json_put(json, "label_histogram", histogram_json(info));
    return whole(json, ok);
}

static json_t *parts_json(const struct store_item *item)
{
    json_t *list = json_array();
    for (size_t i = 0; i < item->n_parts; i++) {
        json_t *json = json_object();
        const bool ok = put_text(json, "name", item->parts[i].name) &&
                        put_int(json, "bytes", (int64_t)item->parts[i].bytes) &&
                        put_text(json, "sha256", item->parts[i].sha256);
        if (!add(list, whole(json, ok))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* A model is one part, told as the model's own bytes; a dataset lists its parts. */
static bool put_parts(json_t *json, enum srv_kind kind, const struct store_item *item)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < item->n_parts; i++) {
        bytes += item->parts[i].bytes;
    }
    return put_int(json, "bytes", (int64_t)bytes) &&
           (kind == SRV_MODEL ? put_text(json, "sha256", item->parts[0].sha256)
                              : srv_json_put(json, "parts", parts_json(item)));
}

json_t *srv_item_json(enum srv_kind kind, const struct store_item *item)
{
    json_t *json = json_object();
    json_t *summary = json_loads(item->summary, 0, NULL);
    bool ok = put_text(json, "id", item->id) && put_text(json, "name", item->name) &&
              put_int(json, "version", item->version) && put_text(json, "format", item->format) &&
              put_parts(json, kind, item) && put_time(json, "created", item->created_us) &&
              summary != NULL && json_object_update(json, summary) == 0;
    if (kind == SRV_DATASET) {
        ok = ok && srv_json_put(json, "options", json_loads(item->options, 0, NULL));
    }
    json_decref(summary);
    return whole(json, ok);
}

/* ── Metrics and steps ──────────────────────────────────────────────────────────────────────── */

json_t *srv_figure_json(const struct shr_metric_info *info, double value)
{
    const bool counts = info != NULL && (info->unit[0] == '\0' || strcmp(info->unit, "B") == 0);
    if (!isfinite(value)) {
        return json_null();
    }
    return counts && value == floor(value) && fabs(value) < 9e15 ? json_integer((json_int_t)value)
                                                                 : json_real(value);
}

json_t *srv_metrics_json(const struct store_step *step)
{
    json_t *json = json_object();
    bool ok = json != NULL;
    for (size_t i = 0; ok && i < step->n_metrics; i++) {
        const struct store_metric *metric = &step->metrics[i];
        ok = srv_json_put(json, metric->name,
                          metric->measured
                              ? srv_figure_json(job_metric_find(metric->name), metric->value)
                              : json_null());
    }
    return whole(json, ok);
}

json_t *srv_unmeasured_json(const struct store_step *step)
{
    json_t *json = json_object();
    bool ok = json != NULL;
    for (size_t i = 0; ok && i < step->n_metrics; i++) {
        const struct store_metric *metric = &step->metrics[i];
        if (!metric->measured) {
            ok = put_text(json, metric->name, metric->why);
        } else if (!isfinite(metric->value)) {
            ok = put_text(json, metric->name, "the figure is not finite");
        }
    }
    return whole(json, ok);
}

static json_t *step_json(const struct store_step *step)
{
    json_t *json = json_object();
    const bool ok = put_int(json, "step", step->seq) && put_text(json, "pass", step->pass) &&
                    put_int(json, "bytes", (int64_t)step->bytes) &&
                    put_text(json, "sha256", step->sha256) &&
                    srv_json_put(json, "metrics", srv_metrics_json(step)) &&
                    srv_json_put(json, "unmeasured", srv_unmeasured_json(step));
    return whole(json, ok);
}

static json_t *steps_json(const struct store_steps *steps, bool with_reports)
{
    json_t *list = json_array();
    for (size_t i = 0; i < steps->n; i++) {
        json_t *json = step_json(&steps->v[i]);
        if (with_reports) {
            json_t *report = json_loads(steps->v[i].report, 0, NULL);
            const bool ok = json != NULL && json_object_update(json, report) == 0;
            json_decref(report);
            json = whole(json, ok);
        }
        if (!add(list, json)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* ── Jobs ───────────────────────────────────────────────────────────────────────────────────── */

static json_t *progress_json(struct srv *srv, const struct store_job *job)
{
    struct job_progress_view view;
    if (strcmp(job->state, job_state_name(JOB_RUNNING)) != 0) {
        return json_null();
    }
    return job_queue_progress(srv, job->id, &view) ? job_progress_json(&view) : json_null();
}

/* Asserts are judged from what is stored, here as in the worker: one truth. */
static json_t *asserts_json(struct srv *srv, const struct store_job *job, json_t *recipe,
                            const struct store_steps *steps)
{
    struct job_recipe parsed = {0};
    struct shr_err err = {0};
    bool pass = false;
    if (job->verdict[0] == '\0' ||
        job_recipe_parse(recipe, (int64_t)srv->settings.max_threads, &parsed, &err) != SHR_OK) {
        json_t *texts = json_object_get(recipe, "assert");
        json_t *list = json_array();
        for (size_t i = 0; i < json_array_size(texts); i++) {
            if (!add(list, json_pack("{s:O, s:n, s:n}", "assert", json_array_get(texts, i), "holds",
                                     "value"))) {
                json_decref(list);
                return NULL;
            }
        }
        return list;
    }
    json_t *rows = job_asserts_check(parsed.asserts, parsed.n_asserts, steps, &pass);
    job_recipe_finish(&parsed);
    return rows;
}

static bool put_links(json_t *json, const struct store_job *job)
{
    static const struct {
        const char *name, *before, *after;
    } links[] = {
        {"self", "/v1/jobs/", ""},           {"events", "/v1/jobs/", "/events"},
        {"report", "/v1/jobs/", "/report"},  {"artifacts", "/v1/jobs/", "/artifacts"},
        {"compare", "/v1/compare?ids=", ""},
    };
    json_t *object = json_object();
    bool ok = object != NULL;
    for (size_t i = 0; ok && i < sizeof links / sizeof links[0]; i++) {
        ok = srv_json_put(object, links[i].name,
                          json_sprintf("%s%s%s", links[i].before, job->id, links[i].after));
    }
    return srv_json_put(json, "links", whole(object, ok));
}

/* What lists and the full view have in common. */
static bool put_head(json_t *json, struct srv *srv, const struct store_job *job)
{
    return put_text(json, "id", job->id) && put_text(json, "name", job->name) &&
           put_text(json, "state", job->state) && put_text(json, "model", job->model_name) &&
           put_optional(json, "verdict", job->verdict) && put_int(json, "attempt", job->attempt) &&
           srv_json_put(json, "cancel_requested", json_boolean(job->cancel_requested)) &&
           put_time(json, "created", job->created_us) &&
           put_time(json, "started", job->started_us) &&
           put_time(json, "finished", job->finished_us) &&
           srv_json_put(json, "progress", progress_json(srv, job)) &&
           srv_json_put(json, "error",
                        job->error[0] != '\0' ? json_loads(job->error, 0, NULL) : json_null());
}

static json_t *passes_json(const json_t *recipe)
{
    json_t *list = json_array();
    json_t *pipeline = json_object_get(recipe, "pipeline");
    for (size_t i = 0; i < json_array_size(pipeline); i++) {
        json_t *pass = json_object_get(json_array_get(pipeline, i), "pass");
        if (!add(list, json_pack("{s:O}", "pass", pass))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *srv_job_line(struct srv *srv, const struct store_job *job)
{
    json_t *stored = json_loads(job->recipe, 0, NULL);
    json_t *json = json_object();
    const bool ok = stored != NULL && put_head(json, srv, job) &&
                    srv_json_put(json, "pipeline", passes_json(json_object_get(stored, "job")));
    json_decref(stored);
    return whole(json, ok);
}

/* The recipe's own fields stand beside those of the job, whose name and model stay; its asserts
 * are told with their outcome instead. */
static bool put_recipe(json_t *json, const json_t *stored)
{
    const bool ok = json_object_update_missing(json, json_object_get(stored, "job")) == 0 &&
                    json_object_set(json, "ids", json_object_get(stored, "ids")) == 0;
    json_object_del(json, "assert");
    return ok;
}

json_t *srv_job_json(struct srv *srv, const struct store_job *job, const struct store_steps *steps)
{
    json_t *stored = json_loads(job->recipe, 0, NULL);
    json_t *json = json_object();
    const bool ok = stored != NULL && put_head(json, srv, job) && put_recipe(json, stored) &&
                    srv_json_put(json, "asserts",
                                 asserts_json(srv, job, json_object_get(stored, "job"), steps)) &&
                    srv_json_put(json, "steps", steps_json(steps, false)) && put_links(json, job);
    json_decref(stored);
    return whole(json, ok);
}

static json_t *warnings_json(const json_t *steps)
{
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        const json_t *notes = json_object_get(step, "notes");
        for (size_t k = 0; k < json_array_size(notes); k++) {
            json_t *note = json_array_get(notes, k);
            const char *kind = json_string_value(json_object_get(note, "kind"));
            if (kind != NULL && strcmp(kind, "warning") == 0 &&
                !add(list, json_pack("{s:O, s:O, s:O, s:O}", "step", json_object_get(step, "step"),
                                     "pass", json_object_get(step, "pass"), "subject",
                                     json_object_get(note, "subject"), "text",
                                     json_object_get(note, "text")))) {
                json_decref(list);
                return NULL;
            }
        }
    }
    return list;
}

json_t *srv_report_json(struct srv *srv, const struct store_job *job,
                        const struct store_steps *steps)
{
    json_t *json = srv_job_json(srv, job, steps);
    json_t *full = steps_json(steps, true);
    const bool ok = json != NULL && srv_json_put(json, "warnings", warnings_json(full)) &&
                    srv_json_put(json, "steps", json_incref(full));
    json_decref(full);
    return whole(json, ok);
}

/* ── What is stored as text ─────────────────────────────────────────────────────────────────── */

static json_t *note_json(const struct shr_note *note)
{
    static const char *const kinds[SHR_NOTE_KIND_COUNT] = {"done", "skipped", "warning"};
    json_t *figures = json_object();
    bool ok = figures != NULL;
    for (size_t i = 0; ok && i < note->n_figures; i++) {
        const double value = note->figures[i].value;
        ok = srv_json_put(figures, note->figures[i].name,
                          isfinite(value) ? json_real(value) : json_null());
    }
    json_t *json = json_object();
    ok = srv_json_put(json, "figures", figures) && ok;
    ok = ok && put_text(json, "kind", kinds[note->kind]) &&
         put_text(json, "subject", note->subject) && put_text(json, "text", note->text);
    return whole(json, ok);
}

static json_t *side_json(const struct shr_ledger_side *side)
{
    json_t *json = json_object();
    const bool ok =
        put_int(json, "file", side->file) && put_int(json, "parameters", side->parameters) &&
        put_int(json, "quantization", side->quantization) &&
        put_int(json, "constants", side->constants) && put_int(json, "graph", side->graph) &&
        put_int(json, "tensors", (int64_t)side->tensors) &&
        put_int(json, "shared", (int64_t)side->shared) &&
        put_int(json, "shared_saved", side->shared_saved);
    return whole(json, ok);
}

static json_t *row_json(const struct shr_ledger_row *row)
{
    json_t *json = json_object();
    const bool ok =
        put_text(json, "name", row->name) &&
        put_optional(json, "was", row->was == SHR_DTYPE_NONE ? "" : shr_dtype_name(row->was)) &&
        put_optional(json, "is", row->is == SHR_DTYPE_NONE ? "" : shr_dtype_name(row->is)) &&
        put_int(json, "before", row->before) && put_int(json, "after", row->after) &&
        put_int(json, "quantization", row->quantization) &&
        put_int(json, "readers", (int64_t)row->readers);
    return whole(json, ok);
}

json_t *srv_ledger_json(const struct shr_ledger *ledger)
{
    json_t *rows = json_array();
    bool ok = rows != NULL;
    for (size_t i = 0; ok && i < ledger->n; i++) {
        ok = add(rows, row_json(&ledger->rows[i]));
    }
    json_t *json = json_object();
    ok = srv_json_put(json, "tensors", rows) && ok;
    ok = ok && srv_json_put(json, "before", side_json(&ledger->before)) &&
         srv_json_put(json, "after", side_json(&ledger->after));
    return whole(json, ok);
}

static json_t *plan_warnings(const struct shr_report *report)
{
    json_t *list = json_array();
    for (const struct shr_note *note = report->first; note != NULL; note = note->next) {
        if (note->kind == SHR_NOTE_WARNING &&
            !add(list, json_pack("{s:s, s:s}", "subject", note->subject, "text", note->text))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *srv_plan_step_json(const struct srv_plan_step *step)
{
    json_t *json = json_object();
    const bool ok =
        put_int(json, "step", step->step) && put_text(json, "pass", step->pass) &&
        put_int(json, "bytes", (int64_t)step->bytes) &&
        srv_json_put(json, "size_ratio", json_real((double)step->bytes / (double)step->original)) &&
        put_int(json, "parameters", step->parameters) &&
        srv_json_put(json, "warnings", plan_warnings(step->report)) &&
        (step->ledger == NULL || srv_json_put(json, "ledger", srv_ledger_json(step->ledger)));
    return whole(json, ok);
}

char *srv_report_dump(const struct shr_report *report, const struct job_curves *curves,
                      const struct shr_ledger *ledger)
{
    json_t *notes = json_array();
    bool ok = true;
    for (const struct shr_note *note = report->first; ok && note != NULL; note = note->next) {
        ok = add(notes, note_json(note));
    }
    json_t *json = json_object();
    ok = srv_json_put(json, "notes", notes) && ok;
    if (curves->n > 0) {
        ok = ok && srv_json_put(json, "curves", job_curves_json(curves));
    }
    ok = ok && srv_json_put(json, "ledger", srv_ledger_json(ledger));
    char *text = ok ? srv_json_dump(json) : NULL;
    json_decref(json);
    return text;
}

char *srv_problem_dump(const struct shr_err *err, int step, const char *pass)
{
    json_t *json = json_object();
    bool ok = put_text(json, "code", shr_err_name(err->code)) &&
              put_text(json, "title", shr_err_text(err->code)) &&
              put_text(json, "detail", err->msg[0] != '\0' ? err->msg : shr_err_text(err->code));
    if (step >= 0) {
        ok = ok && put_int(json, "step", step) && put_text(json, "pass", pass);
    }
    char *text = ok ? srv_json_dump(json) : NULL;
    json_decref(json);
    return text;
}
