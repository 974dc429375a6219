/* The service as a whole: its life, tables, figures and readiness. Models and datasets are in
 * service_items.c, jobs in service_jobs.c, tables of results in compare.c. */
#include "service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/shrink.h"
#include "errors.h"
#include "jobs/recover.h"
#include "jobs/states.h"
#include "jsonx.h"
#include "log.h"
#include "srv.h"
#include "units.h"

/* ── Life ───────────────────────────────────────────────────────────────────────────────────── */

int srv_new(struct srv_settings *take_settings, struct srv **ret, struct shr_err *err)
{
    struct srv *srv = shr_mem_new(1, sizeof *srv);
    if (srv == NULL) {
        srv_settings_finish(take_settings);
        return srv_nomem(err);
    }
    srv->settings = *take_settings;
    *take_settings = (struct srv_settings){0};
    srv->started_ms = srv_clock_ms();

    int code = uv_mutex_init(&srv->listen_lock) == 0 ? SHR_OK : srv_nomem(err);
    if (code != SHR_OK) {
        goto no_lock;
    }
    code = job_queue_init(&srv->queue, err);
    if (code != SHR_OK) {
        goto no_queue;
    }
    code = srv_plans_init(&srv->plans, err);
    if (code != SHR_OK) {
        goto no_plans;
    }
    const struct store_opts opts = {.dir = srv->settings.state_dir};
    code = store_open(&opts, &srv->store, err);
    if (code != SHR_OK) {
        goto no_store;
    }
    code = job_recover(srv, err);
    if (code != SHR_OK) {
        goto no_recovery;
    }
    *ret = srv;
    return SHR_OK;

no_recovery:
    store_close(srv->store);
no_store:
    srv_plans_finish(&srv->plans);
no_plans:
    job_queue_finish(&srv->queue);
no_queue:
    uv_mutex_destroy(&srv->listen_lock);
no_lock:
    srv_settings_finish(&srv->settings);
    shr_mem_free(srv);
    return code;
}

void srv_free(struct srv *srv)
{
    if (srv == NULL) {
        return;
    }
    srv_plans_finish(&srv->plans);
    store_close(srv->store);
    job_queue_finish(&srv->queue);
    uv_mutex_destroy(&srv->listen_lock);
    srv_settings_finish(&srv->settings);
    shr_mem_free(srv);
}

const struct srv_http_settings *srv_http_settings(const struct srv *srv)
{
    return &srv->settings.http;
}

void srv_log_request(const char *request_id, char level, const char *format, ...)
{
    const enum srv_log_level as = level == 'e'   ? SRV_LOG_ERROR
                                  : level == 'w' ? SRV_LOG_WARNING
                                  : level == 'd' ? SRV_LOG_DEBUG
                                                 : SRV_LOG_INFO;
    va_list args;
    va_start(args, format);
    srv_log_v(as, request_id, format, args);
    va_end(args);
}

/* ── The pass table ─────────────────────────────────────────────────────────────────────────── */

static const char *const param_types[SHR_PARAM_TYPE_COUNT] = {
    [SHR_PARAM_BOOL] = "boolean", [SHR_PARAM_INT] = "integer",   [SHR_PARAM_FLOAT] = "number",
    [SHR_PARAM_ENUM] = "enum",    [SHR_PARAM_AMOUNT] = "amount", [SHR_PARAM_BYTES] = "bytes",
    [SHR_PARAM_LIST] = "list",    [SHR_PARAM_MODEL] = "model",
};

/* The default in the parameter's own JSON type. */
static json_t *fallback_json(const struct shr_param *param)
{
    const char *text = param->fallback;
    if (param->type == SHR_PARAM_BOOL) {
        return json_boolean(strcmp(text, "true") == 0);
    }
    if (param->type == SHR_PARAM_INT || param->type == SHR_PARAM_FLOAT ||
        param->type == SHR_PARAM_AMOUNT) {
        return json_loads(text, JSON_DECODE_ANY, NULL);
    }
    if (param->type != SHR_PARAM_LIST) {
        return json_string(text);
    }
    json_t *list = json_array();
    while (*text != '\0') {
        const size_t n = strcspn(text, ",");
        if (json_array_append_new(list, json_stringn(text, n)) != 0) {
            json_decref(list);
            return NULL;
        }
        text += n + (text[n] == ',');
    }
    return list;
}

static json_t *choices_json(const struct shr_param *param)
{
    json_t *list = json_array();
    for (size_t i = 0; param->choices[i] != NULL; i++) {
        if (json_array_append_new(list, json_string(param->choices[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *param_json(const struct shr_param *param)
{
    json_t *json = json_object();
    bool ok = srv_json_put(json, "name", json_string(param->name)) &&
              srv_json_put(json, "type", json_string(param_types[param->type])) &&
              srv_json_put(json, "default", fallback_json(param)) &&
              srv_json_put(json, "help", json_string(param->help));
    if (param->choices != NULL) {
        ok = ok && srv_json_put(json, "choices", choices_json(param));
    }
    if (param->min != 0 || param->max != 0) {
        ok = ok && srv_json_put(json, "min", json_real(param->min)) &&
             srv_json_put(json, "max", json_real(param->max));
    }
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *needs_json(const struct shr_pass *pass)
{
    static const struct {
        unsigned bit;
        const char *name;
    } needs[] = {{SHR_NEEDS_CALIBRATE, "data.calibrate"},
                 {SHR_NEEDS_TRAIN, "data.train"},
                 {SHR_NEEDS_RUN, "runnable"}};
    json_t *list = json_array();
    for (size_t i = 0; i < SHR_COUNT_OF(needs); i++) {
        if ((pass->needs & needs[i].bit) != 0 &&
            json_array_append_new(list, json_string(needs[i].name)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *params_json(const struct shr_pass *pass)
{
    json_t *params = json_array();
    for (size_t i = 0; i < pass->n_params; i++) {
        if (json_array_append_new(params, param_json(&pass->params[i])) != 0) {
            json_decref(params);
            return NULL;
        }
    }
    return params;
}

static json_t *pass_json(const struct shr_pass *pass)
{
    json_t *json = json_object();
    const bool ok = srv_json_put(json, "name", json_string(pass->name)) &&
                    srv_json_put(json, "help", json_string(pass->help)) &&
                    srv_json_put(json, "needs", needs_json(pass)) &&
                    srv_json_put(json, "parameters", params_json(pass));
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

json_t *srv_passes(void)
{
    json_t *items = json_array();
    bool ok = items != NULL;
    for (size_t i = 0; ok && i < shr_pass_count(); i++) {
        ok = json_array_append_new(items, pass_json(shr_pass_at(i))) == 0;
    }
    json_t *json = json_object();
    ok = srv_json_put(json, "items", items) && ok;
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* ── About, figures, readiness ──────────────────────────────────────────────────────────────── */

json_t *srv_about(const struct srv *srv)
{
    const struct srv_settings *s = &srv->settings;
    char cpu[128];
    shr_cpu_name(shr_cpu_flags(), cpu, sizeof cpu);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}}", "name",
        "shrinkd", "version", SHR_VERSION, "api", "v1", "cpu", cpu, "uptime_s",
        (json_int_t)((srv_clock_ms() - srv->started_ms) / 1000), "limits", "max_upload_bytes",
        (json_int_t)s->http.max_upload_bytes, "max_dataset_bytes", (json_int_t)s->max_dataset_bytes,
        "max_json_bytes", (json_int_t)s->http.max_json_bytes, "max_wait_s",
        (json_int_t)s->http.max_wait_s, "page_limit", (json_int_t)s->http.page_limit, "workers",
        (json_int_t)s->workers, "queue_max", (json_int_t)s->queue_max, "max_threads",
        (json_int_t)s->max_threads, "job_max_memory", (json_int_t)s->job_max_memory);
}

int srv_usage(struct srv *srv, json_t **ret, struct shr_err *err)
{
    struct store_usage usage = {0};
    const int code = store_usage(srv->store, &usage, err);
    if (code != SHR_OK) {
        return code;
    }
    json_t *json = json_pack("{s:I, s:I, s:I, s:I, s:I}", "blobs", (json_int_t)usage.blobs,
                             "blob_bytes", (json_int_t)usage.blob_bytes, "reclaimable_bytes",
                             (json_int_t)usage.reclaimable_bytes, "database_bytes",
                             (json_int_t)usage.database_bytes, "free_disk_bytes",
                             (json_int_t)usage.free_disk_bytes);
    if (json == NULL) {
        return srv_nomem(err);
    }
    *ret = json;
    return SHR_OK;
}

static void metric_head(struct shr_buf *text, const char *name, const char *type, const char *help)
{
    shr_buf_printf(text, "# HELP shrinkd_%s %s\n# TYPE shrinkd_%s %s\n", name, help, name, type);
}

static void metric_line(struct shr_buf *text, const char *name, const char *type, const char *help,
                        uint64_t value)
{
    metric_head(text, name, type, help);
    shr_buf_printf(text, "shrinkd_%s %" PRIu64 "\n", name, value);
}

int srv_metrics_text(struct srv *srv, struct shr_buf *ret_text, struct shr_err *err)
{
    struct store_usage usage = {0};
    int code = store_usage(srv->store, &usage, err);
    if (code != SHR_OK) {
        return code;
    }
    metric_head(ret_text, "build_info", "gauge", "The version that runs");
    shr_buf_printf(ret_text, "shrinkd_build_info{version=\"%s\"} 1\n", SHR_VERSION);
    metric_head(ret_text, "jobs", "gauge", "Jobs in the store by state");
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        const char *state = job_state_name((enum job_state)i);
        int64_t n = 0;
        code = store_job_count(srv->store, state, &n, err);
        if (code != SHR_OK) {
            return code;
        }
        shr_buf_printf(ret_text, "shrinkd_jobs{state=\"%s\"} %" PRId64 "\n", state, n);
    }
    metric_line(ret_text, "uptime_seconds", "gauge", "Seconds since the start",
                (srv_clock_ms() - srv->started_ms) / 1000);
    metric_line(ret_text, "store_blobs", "gauge", "Stored blobs", usage.blobs);
    metric_line(ret_text, "store_blob_bytes", "gauge", "Bytes of stored blobs", usage.blob_bytes);
    metric_line(ret_text, "store_reclaimable_bytes", "gauge", "Bytes that nothing refers to",
                usage.reclaimable_bytes);
    metric_line(ret_text, "store_database_bytes", "gauge", "Bytes of the database files",
                usage.database_bytes);
    metric_line(ret_text, "free_disk_bytes", "gauge", "Free bytes of the file system",
                usage.free_disk_bytes);
    return shr_buf_failed(ret_text) ? srv_nomem(err) : SHR_OK;
}

int srv_ready(struct srv *srv, struct shr_err *err)
{
    uv_mutex_lock(&srv->queue.lock);
    const bool stopping = srv->queue.stopping || srv->queue.loop == NULL;
    uv_mutex_unlock(&srv->queue.lock);
    if (stopping) {
        return shr_err_set(err, SHR_ERR_BUSY, "the daemon starts or stops");
    }
    const int code = store_ping(srv->store, err);
    if (code != SHR_OK) {
        shr_err_prefix(err, "store: ");
    }
    return code;
}
