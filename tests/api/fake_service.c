/* A service in memory; see fake_service.h. Its rules are those of service.h, nothing more: one name
 * is one model with one version, a hash is a number in hex, events are lines of data. */
#include "fake_service.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { MODELS = 8, JOBS = 8, EVENTS = 256 };

struct fake_model {
    char name[64], sha256[65];
    struct shr_buf bytes;
};

struct srv {
    pthread_mutex_t lock;
    struct srv_http_settings settings;
    struct fake_model models[MODELS];
    size_t model_n, job_n, event_n;
    struct {
        char id[32], key[64];
        bool is_final;
    } jobs[JOBS];
    struct {
        char job_id[32], data[64];
    } events[EVENTS];
    unsigned uploads;
    int submit_code;
    pthread_mutex_t listener_lock;
    srv_event_fn listener;
    void *listener_user;
};

struct srv_upload {
    struct srv *srv;
    char name[64], parts[128];
    struct shr_buf bytes;
};

struct srv *fake_new(void)
{
    struct srv *srv = calloc(1, sizeof *srv);
    if (srv == NULL) {
        abort();
    }
    pthread_mutex_init(&srv->lock, NULL);
    pthread_mutex_init(&srv->listener_lock, NULL);
    srv->settings = (struct srv_http_settings){
        .listen = "127.0.0.1:0",
        .token_file = "",
        .host_names = "",
        .max_upload_bytes = 64 << 20,
        .max_json_bytes = 4096,
        .max_connections = 64,
        .max_connections_per_ip = 0,
        .max_waiters = 2,
        .max_streams = 8,
        .header_timeout_s = 1,
        .idle_timeout_s = 5,
        .max_wait_s = 60,
        .min_body_rate = 1024,
        .page_limit = 100,
    };
    return srv;
}

void fake_free(struct srv *srv)
{
    for (size_t i = 0; i < srv->model_n; i++) {
        shr_buf_finish(&srv->models[i].bytes);
    }
    pthread_mutex_destroy(&srv->lock);
    pthread_mutex_destroy(&srv->listener_lock);
    free(srv);
}

struct srv_http_settings *fake_settings(struct srv *srv)
{
    return &srv->settings;
}

const struct srv_http_settings *srv_http_settings(const struct srv *srv)
{
    return &srv->settings;
}

unsigned fake_uploads_open(struct srv *srv)
{
    pthread_mutex_lock(&srv->lock);
    unsigned n = srv->uploads;
    pthread_mutex_unlock(&srv->lock);
    return n;
}

void fake_submit_fails(struct srv *srv, int code)
{
    pthread_mutex_lock(&srv->lock);
    srv->submit_code = code;
    pthread_mutex_unlock(&srv->lock);
}

/* ── Models ─────────────────────────────────────────────────────────────────────────────────── */

int srv_upload_new(struct srv *srv, enum srv_kind kind, const char *name, struct srv_upload **ret,
                   struct shr_err *err)
{
    (void)kind;
    if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != strlen(name) ||
        strlen(name) > 60) {
        return shr_err_set(err, SHR_ERR_INVALID, "name: '%s' is not a name", name);
    }
    struct srv_upload *upload = calloc(1, sizeof *upload);
    if (upload == NULL) {
        abort();
    }
    upload->srv = srv;
    snprintf(upload->name, sizeof upload->name, "%s", name);
    pthread_mutex_lock(&srv->lock);
    srv->uploads++;
    pthread_mutex_unlock(&srv->lock);
    *ret = upload;
    return 0;
}

int srv_upload_part(struct srv_upload *u, const char *part, struct shr_err *err)
{
    (void)err;
    size_t n = strlen(u->parts);
    snprintf(u->parts + n, sizeof u->parts - n, "%s%s", n > 0 ? "," : "", part);
    return 0;
}

int srv_upload_append(struct srv_upload *u, const void *bytes, size_t n, struct shr_err *err)
{
    (void)err;
    shr_buf_append(&u->bytes, bytes, n);
    return 0;
}

int srv_upload_option(struct srv_upload *u, const char *key, const char *value, struct shr_err *err)
{
    (void)u;
    return strcmp(value, "bad") != 0
               ? 0
               : shr_err_set(err, SHR_ERR_INVALID, "%s: '%s' is not a number", key, value);
}

static struct fake_model *model_find(struct srv *srv, const char *name)
{
    for (size_t i = 0; i < srv->model_n; i++) {
        if (strcmp(srv->models[i].name, name) == 0 || strcmp(srv->models[i].sha256, name) == 0) {
            return &srv->models[i];
        }
    }
    return NULL;
}

int srv_upload_finish(struct srv_upload *u, json_t **ret, bool *ret_is_new, struct shr_err *err)
{
    struct srv *srv = u->srv;
    if (u->bytes.len == 0) {
        return shr_err_set(err, SHR_ERR_PARSE, "model: empty");
    }
    pthread_mutex_lock(&srv->lock);
    struct fake_model *model = model_find(srv, u->name);
    *ret_is_new = model == NULL;
    if (model == NULL) {
        model = &srv->models[srv->model_n];
        snprintf(model->name, sizeof model->name, "%s", u->name);
        snprintf(model->sha256, sizeof model->sha256, "%064zx", ++srv->model_n);
    }
    shr_buf_finish(&model->bytes);
    model->bytes = u->bytes;
    u->bytes = (struct shr_buf){0};
    *ret = json_pack("{s:s, s:i, s:s, s:I, s:s}", "name", model->name, "version", 1, "sha256",
                     model->sha256, "bytes", (json_int_t)model->bytes.len, "parts", u->parts);
    pthread_mutex_unlock(&srv->lock);
    return 0;
}

void srv_upload_free(struct srv_upload *u)
{
    if (u == NULL) {
        return;
    }
    pthread_mutex_lock(&u->srv->lock);
    u->srv->uploads--;
    pthread_mutex_unlock(&u->srv->lock);
    shr_buf_finish(&u->bytes);
    free(u);
}

static int blob_find(struct srv *srv, const char *name, struct srv_blob *ret, struct shr_err *err)
{
    pthread_mutex_lock(&srv->lock);
    const struct fake_model *model = model_find(srv, name);
    int rc = 0;
    if (model == NULL) {
        rc = shr_err_set(err, SHR_ERR_NOT_FOUND, "there is no '%s'", name);
    } else {
        memcpy(ret->sha256, model->sha256, sizeof ret->sha256);
        ret->bytes = model->bytes.len;
        snprintf(ret->filename, sizeof ret->filename, "%s.onnx", model->name);
    }
    pthread_mutex_unlock(&srv->lock);
    return rc;
}

int srv_item_get(struct srv *srv, enum srv_kind kind, const char *name, int64_t version,
                 json_t **ret, struct shr_err *err)
{
    struct srv_blob blob;
    (void)kind;
    int rc = version > 1 ? shr_err_set(err, SHR_ERR_NOT_FOUND, "there is no version %lld",
                                       (long long)version)
                         : blob_find(srv, name, &blob, err);
    if (rc == 0) {
        *ret = json_pack("{s:s, s:i}", "name", name, "version", 1);
    }
    return rc;
}

int srv_item_list(struct srv *srv, enum srv_kind kind, const char *cursor, size_t limit,
                  json_t **ret, struct shr_err *err)
{
    (void)srv;
    (void)kind;
    (void)err;
    *ret =
        json_pack("{s:[], s:s?, s:I}", "items", "next_cursor", cursor, "limit", (json_int_t)limit);
    return 0;
}

int srv_item_delete(struct srv *srv, enum srv_kind kind, const char *name, int64_t version,
                    struct shr_err *err)
{
    struct srv_blob blob;
    (void)kind;
    (void)version;
    return blob_find(srv, name, &blob, err);
}

int srv_model_blob(struct srv *srv, const char *name, int64_t version, struct srv_blob *ret,
                   struct shr_err *err)
{
    (void)version;
    return blob_find(srv, name, ret, err);
}

int srv_artifact_blob(struct srv *srv, const char *job_id, int64_t step, struct srv_blob *ret,
                      struct shr_err *err)
{
    (void)step;
    return blob_find(srv, job_id, ret, err);
}

int srv_hash_blob(struct srv *srv, const char *sha256, struct srv_blob *ret, struct shr_err *err)
{
    return blob_find(srv, sha256, ret, err);
}

int srv_blob_read(struct srv *srv, const char *sha256, uint64_t offset, void *ret_bytes, size_t n,
                  size_t *ret_n, struct shr_err *err)
{
    pthread_mutex_lock(&srv->lock);
    const struct fake_model *model = model_find(srv, sha256);
    int rc = 0;
    if (model == NULL || offset > model->bytes.len) {
        rc = shr_err_set(err, SHR_ERR_NOT_FOUND, "there is no such blob");
    } else {
        size_t left = model->bytes.len - offset;
        *ret_n = n < left ? n : left;
        memcpy(ret_bytes, model->bytes.data + offset, *ret_n);
    }
    pthread_mutex_unlock(&srv->lock);
    return rc;
}

/* ── Jobs and events ────────────────────────────────────────────────────────────────────────── */

static size_t job_find(struct srv *srv, const char *id)
{
    size_t i = 0;
    while (i < srv->job_n && strcmp(srv->jobs[i].id, id) != 0) {
        i++;
    }
    return i;
}

static json_t *job_json(struct srv *srv, size_t i)
{
    return json_pack("{s:s, s:s}", "id", srv->jobs[i].id, "state",
                     srv->jobs[i].is_final ? "succeeded" : "queued");
}

int srv_job_submit(struct srv *srv, const char *body, size_t n, const char *idempotency_key,
                   json_t **ret, bool *ret_is_replay, struct shr_err *err)
{
    json_error_t fault;
    json_t *json = json_loadb(body, n, 0, &fault);
    if (json == NULL) {
        return shr_err_set(err, SHR_ERR_PARSE, "body: line %d: %s", fault.line, fault.text);
    }
    json_decref(json);
    pthread_mutex_lock(&srv->lock);
    int rc = 0;
    size_t i = 0;
    while (i < srv->job_n &&
           (idempotency_key == NULL || strcmp(srv->jobs[i].key, idempotency_key) != 0)) {
        i++;
    }
    if (srv->submit_code != 0) {
        rc = shr_err_set(err, srv->submit_code, "submit: as the test wants");
    } else {
        *ret_is_replay = i < srv->job_n;
        if (i == srv->job_n) {
            snprintf(srv->jobs[i].id, sizeof srv->jobs[i].id, "job_%zu", ++srv->job_n);
            snprintf(srv->jobs[i].key, sizeof srv->jobs[i].key, "%s",
                     idempotency_key == NULL ? "" : idempotency_key);
        }
        *ret = job_json(srv, i);
    }
    pthread_mutex_unlock(&srv->lock);
    return rc;
}

/* Every plan is over at once. */
struct srv_plan {
    json_t *answer;
};

int srv_plan_new(struct srv *srv, const char *body, size_t n, struct srv_plan **ret,
                 struct shr_err *err)
{
    (void)srv;
    struct srv_plan *plan = calloc(1, sizeof *plan);
    json_t *json = json_loadb(body, n, 0, NULL);
    if (plan == NULL || json == NULL) {
        free(plan);
        json_decref(json);
        return shr_err_set(err, SHR_ERR_PARSE, "body: no JSON");
    }
    json_decref(json);
    plan->answer = json_pack("{s:s, s:[]}", "model", "m", "steps");
    *ret = plan;
    return 0;
}

const char *srv_plan_id(const struct srv_plan *plan)
{
    (void)plan;
    return "plan_1";
}

int srv_plan_get(struct srv_plan *plan, json_t **ret, bool *ret_is_over, struct shr_err *err)
{
    (void)err;
    *ret = json_incref(plan->answer);
    *ret_is_over = true;
    return 0;
}

void srv_plan_free(struct srv_plan *plan)
{
    if (plan != NULL) {
        json_decref(plan->answer);
        free(plan);
    }
}

int srv_job_get(struct srv *srv, const char *id, json_t **ret, bool *ret_is_final,
                struct shr_err *err)
{
    pthread_mutex_lock(&srv->lock);
    size_t i = job_find(srv, id);
    int rc = 0;
    if (i == srv->job_n) {
        rc = shr_err_set(err, SHR_ERR_NOT_FOUND, "there is no job '%s'", id);
    } else {
        *ret = job_json(srv, i);
        *ret_is_final = srv->jobs[i].is_final;
    }
    pthread_mutex_unlock(&srv->lock);
    return rc;
}

static int job_answer(struct srv *srv, const char *id, json_t **ret, struct shr_err *err)
{
    bool is_final;
    return srv_job_get(srv, id, ret, &is_final, err);
}

int srv_job_list(struct srv *srv, const struct srv_job_query *query, json_t **ret,
                 struct shr_err *err)
{
    (void)srv;
    (void)err;
    *ret = json_pack("{s:[], s:s?, s:s?}", "items", "state", query->state, "next_cursor",
                     query->cursor);
    return 0;
}

int srv_job_cancel(struct srv *srv, const char *id, json_t **ret, struct shr_err *err)
{
    return job_answer(srv, id, ret, err);
}

int srv_job_retry(struct srv *srv, const char *id, json_t **ret, struct shr_err *err)
{
    return job_answer(srv, id, ret, err);
}

int srv_job_delete(struct srv *srv, const char *id, struct shr_err *err)
{
    json_t *job = NULL;
    bool is_final = false;
    int rc = srv_job_get(srv, id, &job, &is_final, err);
    json_decref(job);
    return rc != 0 || is_final ? rc : shr_err_set(err, SHR_ERR_CONFLICT, "%s has not ended", id);
}

int srv_job_report(struct srv *srv, const char *id, json_t **ret, struct shr_err *err)
{
    return job_answer(srv, id, ret, err);
}

int srv_job_artifacts(struct srv *srv, const char *id, json_t **ret, struct shr_err *err)
{
    return job_answer(srv, id, ret, err);
}

static void event_add(struct srv *srv, const char *job_id, const char *data, bool is_final)
{
    pthread_mutex_lock(&srv->lock);
    size_t i = srv->event_n++;
    snprintf(srv->events[i].job_id, sizeof srv->events[i].job_id, "%s", job_id);
    snprintf(srv->events[i].data, sizeof srv->events[i].data, "%s", data);
    size_t job = job_find(srv, job_id);
    if (is_final && job < srv->job_n) {
        srv->jobs[job].is_final = true;
    }
    pthread_mutex_unlock(&srv->lock);

    pthread_mutex_lock(&srv->listener_lock);
    if (srv->listener != NULL) {
        srv->listener(srv->listener_user, job_id, (int64_t)i + 1, is_final);
    }
    pthread_mutex_unlock(&srv->listener_lock);
}

void fake_event_add(struct srv *srv, const char *job_id, const char *data)
{
    event_add(srv, job_id, data, false);
}

void fake_job_end(struct srv *srv, const char *id)
{
    event_add(srv, id, "end", true);
}

int srv_events_render(struct srv *srv, const char *job_id, int64_t after, size_t limit,
                      struct shr_buf *ret_text, int64_t *ret_last, bool *ret_is_over,
                      struct shr_err *err)
{
    (void)err;
    pthread_mutex_lock(&srv->lock);
    size_t n = 0, i = after < 0 ? srv->event_n : (size_t)after;
    *ret_last = (int64_t)i;
    for (; i < srv->event_n && n < limit; i++) {
        if (job_id == NULL || strcmp(srv->events[i].job_id, job_id) == 0) {
            shr_buf_printf(ret_text, "id: %zu\ndata: %s\n\n", i + 1, srv->events[i].data);
            *ret_last = (int64_t)i + 1;
            n++;
        }
    }
    size_t job = job_id == NULL ? srv->job_n : job_find(srv, job_id);
    *ret_is_over = job < srv->job_n && srv->jobs[job].is_final && i == srv->event_n;
    pthread_mutex_unlock(&srv->lock);
    return 0;
}

void srv_listen(struct srv *srv, srv_event_fn fn, void *user)
{
    pthread_mutex_lock(&srv->listener_lock);
    srv->listener = fn;
    srv->listener_user = user;
    pthread_mutex_unlock(&srv->listener_lock);
}

/* ── Tables and the rest ────────────────────────────────────────────────────────────────────── */

int srv_compare(struct srv *srv, const struct srv_compare_query *query,
                enum srv_table_format format, struct shr_buf *ret_text, struct shr_err *err)
{
    static const char *const texts[] = {"{}", "a,b\n", "| a |\n", "a\n"};
    (void)srv;
    if (query->ids[0] == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "ids: empty");
    }
    shr_buf_puts(ret_text, texts[format]);
    return 0;
}

json_t *srv_passes(void)
{
    return json_loads(
        "{\"items\":[{\"name\":\"p\",\"help\":\"h\",\"parameters\":["
        "{\"name\":\"amount\",\"type\":\"amount\",\"default\":0.5,\"min\":0.0,\"max\":1.0},"
        "{\"name\":\"how\",\"type\":\"enum\",\"default\":\"a\",\"choices\":[\"a\",\"b\"]}]}]}",
        0, NULL);
}

json_t *srv_about(const struct srv *srv)
{
    (void)srv;
    return json_pack("{s:s}", "version", "0");
}

int srv_usage(struct srv *srv, json_t **ret, struct shr_err *err)
{
    (void)srv;
    (void)err;
    *ret = json_object();
    return 0;
}

int srv_metrics_text(struct srv *srv, struct shr_buf *ret_text, struct shr_err *err)
{
    (void)srv;
    (void)err;
    shr_buf_puts(ret_text, "shrinkd_fake 1\n");
    return 0;
}

int srv_ready(struct srv *srv, struct shr_err *err)
{
    (void)srv;
    (void)err;
    return 0;
}

void srv_log_request(const char *request_id, char level, const char *format, ...)
{
    if (getenv("FAKE_LOG") != NULL) {
        va_list args;
        va_start(args, format);
        fprintf(stderr, "%c %s ", level, request_id);
        vfprintf(stderr, format, args);
        fputc('\n', stderr);
        va_end(args);
    }
}
