/* Models and datasets: uploads, views, blobs.
 *
 * An upload streams into the store chunk by chunk. On finish its bytes are read back, parsed and
 * described by the engine before they are committed: what does not parse leaves nothing behind. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "errors.h"
#include "items.h"
#include "jsonx.h"
#include "views.h"

enum { MAX_CHANNELS = 4096 };

struct srv_upload {
    struct srv *srv;
    enum srv_kind kind;
    struct shr_arena arena;
    const char *name;
    size_t n_parts;
    struct {
        const char *name;
        struct store_upload *upload;
    } parts[STORE_MAX_PARTS];
    uint64_t bytes; /* of all parts */
    json_t *options;
};

static enum store_kind store_kind_of(enum srv_kind kind)
{
    return kind == SRV_MODEL ? STORE_MODEL : STORE_DATASET;
}

/* ── Upload ─────────────────────────────────────────────────────────────────────────────────── */

int srv_upload_new(struct srv *srv, enum srv_kind kind, const char *name, struct srv_upload **ret,
                   struct shr_err *err)
{
    const int code = srv_name_check("name", name, err);
    if (code != SHR_OK) {
        return code;
    }
    struct srv_upload *u = shr_mem_new(1, sizeof *u);
    if (u == NULL) {
        return srv_nomem(err);
    }
    u->srv = srv;
    u->kind = kind;
    u->name = shr_arena_strdup(&u->arena, name);
    u->options = json_object();
    if (u->name == NULL || u->options == NULL) {
        srv_upload_free(u);
        return srv_nomem(err);
    }
    *ret = u;
    return SHR_OK;
}

int srv_upload_part(struct srv_upload *u, const char *part, struct shr_err *err)
{
    static const char *const model_parts[] = {"model", NULL};
    static const char *const dataset_parts[] = {"npz", "npy", "images", "labels", NULL};
    const char *const *known = u->kind == SRV_MODEL ? model_parts : dataset_parts;
    while (*known != NULL && strcmp(*known, part) != 0) {
        known++;
    }
    if (*known == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "part \"%.64s\": a %s has none of this name", part,
                           u->kind == SRV_MODEL ? "model" : "dataset");
    }
    for (size_t i = 0; i < u->n_parts; i++) {
        if (strcmp(u->parts[i].name, part) == 0) {
            return shr_err_set(err, SHR_ERR_INVALID, "part \"%s\": comes twice", part);
        }
    }
    const int code = store_upload_new(u->srv->store, &u->parts[u->n_parts].upload, err);
    if (code == SHR_OK) {
        u->parts[u->n_parts++].name = *known;
    }
    return code;
}

int srv_upload_append(struct srv_upload *u, const void *bytes, size_t n, struct shr_err *err)
{
    if (u->n_parts == 0) {
        return shr_err_set(err, SHR_ERR_INTERNAL, "upload: bytes before the first part");
    }
    const uint64_t max = u->srv->settings.http.max_upload_bytes;
    if (n > max - u->bytes) {
        return shr_err_set(err, SHR_ERR_LIMIT,
                           "the body is larger than %" PRIu64 " bytes (max_upload_bytes)", max);
    }
    const int code = store_upload_append(u->parts[u->n_parts - 1].upload, bytes, n, err);
    if (code == SHR_OK) {
        u->bytes += n;
    }
    return code;
}

void srv_upload_free(struct srv_upload *u)
{
    if (u == NULL) {
        return;
    }
    for (size_t i = 0; i < u->n_parts; i++) {
        store_upload_free(u->parts[i].upload);
    }
    json_decref(u->options);
    shr_arena_finish(&u->arena);
    shr_mem_free(u);
}

/* ── Options of a dataset ───────────────────────────────────────────────────────────────────── */

/* "0.5" or "0.49,0.48,0.45" as a list of numbers. */
static int parse_numbers(const char *key, const char *value, json_t **ret, struct shr_err *err)
{
    json_t *list = json_array();
    const char *at = value;
    for (size_t n = 0; list != NULL; n++) {
        char *end = NULL;
        const double number = strtod(at, &end);
        if (end == at || !isfinite(number) || (*end != ',' && *end != '\0') || n == MAX_CHANNELS) {
            json_decref(list);
            return shr_err_set(err, SHR_ERR_INVALID,
                               "%s: \"%.64s\" is not a number or a list of them", key, value);
        }
        if (json_array_append_new(list, json_real(number)) != 0) {
            json_decref(list);
            return srv_nomem(err);
        }
        if (*end == '\0') {
            *ret = list;
            return SHR_OK;
        }
        at = end + 1;
    }
    return srv_nomem(err);
}

static int check_option(const char *key, const json_t *numbers, struct shr_err *err)
{
    if (strcmp(key, "scale") == 0 && json_array_size(numbers) != 1) {
        return shr_err_set(err, SHR_ERR_INVALID, "scale: must be one number");
    }
    for (size_t i = 0; strcmp(key, "mean") != 0 && i < json_array_size(numbers); i++) {
        if (!(json_real_value(json_array_get(numbers, i)) > 0)) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: must be positive", key);
        }
    }
    return SHR_OK;
}

int srv_upload_option(struct srv_upload *u, const char *key, const char *value, struct shr_err *err)
{
    if (u->kind == SRV_MODEL) {
        return shr_err_set(err, SHR_ERR_INVALID, "%.64s: a model has no options", key);
    }
    if (strcmp(key, "layout") == 0) {
        if (strcmp(value, "nchw") != 0 && strcmp(value, "nhwc") != 0) {
            return shr_err_set(err, SHR_ERR_INVALID, "layout: \"%.64s\" is not nchw or nhwc",
                               value);
        }
        return srv_json_put(u->options, key, json_string(value)) ? SHR_OK : srv_nomem(err);
    }
    if (strcmp(key, "scale") != 0 && strcmp(key, "mean") != 0 && strcmp(key, "std") != 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%.64s: unknown option", key);
    }
    json_t *numbers = NULL;
    int code = parse_numbers(key, value, &numbers, err);
    if (code != SHR_OK) {
        return code;
    }
    code = check_option(key, numbers, err);
    if (code != SHR_OK) {
        json_decref(numbers);
        return code;
    }
    if (strcmp(key, "scale") == 0) {
        json_t *one = json_incref(json_array_get(numbers, 0));
        json_decref(numbers);
        numbers = one;
    }
    return srv_json_put(u->options, key, numbers) ? SHR_OK : srv_nomem(err);
}

static int option_numbers(const json_t *options, const char *key, struct shr_arena *arena,
                          const double **ret, size_t *ret_n, struct shr_err *err)
{
    const json_t *list = json_object_get(options, key);
    const size_t n = json_array_size(list);
    if (n == 0) {
        return SHR_OK;
    }
    double *numbers = shr_arena_new(arena, n, sizeof *numbers);
    if (numbers == NULL) {
        return srv_nomem(err);
    }
    for (size_t i = 0; i < n; i++) {
        numbers[i] = json_number_value(json_array_get(list, i));
    }
    *ret = numbers;
    *ret_n = n;
    return SHR_OK;
}

static int options_read(const json_t *options, uint64_t max_bytes, struct shr_arena *arena,
                        struct shr_dataset_opts *ret, struct shr_err *err)
{
    const char *layout = json_string_value(json_object_get(options, "layout"));
    *ret = (struct shr_dataset_opts){
        .scale = json_number_value(json_object_get(options, "scale")),
        .nhwc = layout != NULL && strcmp(layout, "nhwc") == 0,
        .max_bytes = (size_t)max_bytes,
    };
    const int code = option_numbers(options, "mean", arena, &ret->mean, &ret->n_mean, err);
    return code != SHR_OK ? code
                          : option_numbers(options, "std", arena, &ret->std, &ret->n_std, err);
}

/* ── Reading what came ──────────────────────────────────────────────────────────────────────── */

static int describe_model(const struct shr_bytes *part, json_t **ret, struct shr_err *err)
{
    struct shr_model *model = NULL;
    struct shr_model_info info = {0};
    int code = shr_model_load(part->data, part->n, NULL, &model, err);
    if (code == SHR_OK) {
        code = shr_model_describe(model, &info, err);
    }
    if (code == SHR_OK) {
        *ret = srv_model_summary(&info);
        code = *ret != NULL ? SHR_OK : srv_nomem(err);
    }
    shr_model_info_finish(&info);
    shr_model_free(model);
    return code;
}

static const struct {
    const char *name;
    enum shr_dataset_format format;
} formats[] = {
    {"npz", SHR_DATASET_NPZ},
    {"npy", SHR_DATASET_NPY},
    {"idx", SHR_DATASET_IDX},
};

static int load_dataset(const char *format, const struct shr_bytes *parts, size_t n_parts,
                        const json_t *options, uint64_t max_bytes, struct shr_dataset **ret,
                        struct shr_err *err)
{
    struct shr_arena arena = {0};
    struct shr_dataset_opts opts;
    int code = options_read(options, max_bytes, &arena, &opts, err);
    for (size_t i = 0; code == SHR_OK && i < SHR_COUNT_OF(formats); i++) {
        if (strcmp(formats[i].name, format) == 0) {
            code = shr_dataset_load(formats[i].format, parts, n_parts, &opts, ret, err);
        }
    }
    shr_arena_finish(&arena);
    return code;
}

static int describe_dataset(const struct srv_upload *u, const char *format,
                            const struct shr_bytes *parts, json_t **ret, struct shr_err *err)
{
    struct shr_dataset *dataset = NULL;
    struct shr_dataset_info info = {0};
    int code = load_dataset(format, parts, u->n_parts, u->options,
                            u->srv->settings.max_dataset_bytes, &dataset, err);
    if (code == SHR_OK) {
        code = shr_dataset_describe(dataset, &info, err);
    }
    if (code == SHR_OK) {
        *ret = srv_dataset_summary(&info);
        code = *ret != NULL ? SHR_OK : srv_nomem(err);
    }
    shr_dataset_info_finish(&info);
    shr_dataset_free(dataset);
    return code;
}

/* Which parts came decides the format; images stand before labels from here on. */
static int format_of(struct srv_upload *u, const char **ret, struct shr_err *err)
{
    if (u->n_parts == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "the body is empty");
    }
    if (u->kind == SRV_MODEL) {
        *ret = "onnx";
        return SHR_OK;
    }
    if (u->n_parts == 2 && strcmp(u->parts[0].name, "labels") == 0 &&
        strcmp(u->parts[1].name, "images") == 0) {
        struct store_upload *labels = u->parts[0].upload;
        u->parts[0].upload = u->parts[1].upload;
        u->parts[0].name = "images";
        u->parts[1].upload = labels;
        u->parts[1].name = "labels";
    }
    if (strcmp(u->parts[0].name, "images") == 0 &&
        (u->n_parts == 1 || (u->n_parts == 2 && strcmp(u->parts[1].name, "labels") == 0))) {
        *ret = "idx";
        return SHR_OK;
    }
    if (u->n_parts == 1 && strcmp(u->parts[0].name, "labels") != 0) {
        *ret = u->parts[0].name; /* npz, npy */
        return SHR_OK;
    }
    return shr_err_set(err, SHR_ERR_INVALID,
                       "parts: a dataset is one npz or npy, or images with or without labels");
}

static int read_back(struct srv_upload *u, struct shr_bytes parts[STORE_MAX_PARTS],
                     struct shr_err *err)
{
    for (size_t i = 0; i < u->n_parts; i++) {
        void *bytes = NULL;
        const int code = store_upload_get(u->parts[i].upload, &bytes, &parts[i].n, err);
        if (code != SHR_OK) {
            return code;
        }
        parts[i].data = bytes;
    }
    return SHR_OK;
}

static int describe(struct srv_upload *u, const char *format, json_t **ret, struct shr_err *err)
{
    struct shr_bytes parts[STORE_MAX_PARTS] = {0};
    int code = read_back(u, parts, err);
    if (code == SHR_OK) {
        code = u->kind == SRV_MODEL ? describe_model(&parts[0], ret, err)
                                    : describe_dataset(u, format, parts, ret, err);
    }
    for (size_t i = 0; i < u->n_parts; i++) {
        shr_mem_free((void *)(uintptr_t)parts[i].data);
    }
    return code;
}

/* ── Storing it ─────────────────────────────────────────────────────────────────────────────── */

/* The parts first, then the row that names them. */
static int commit(struct srv_upload *u, const char *format, const char *summary,
                  const char *options, struct store_item *ret, bool *ret_is_new,
                  struct shr_err *err)
{
    char hashes[STORE_MAX_PARTS][STORE_SHA256_HEX];
    struct store_item item = {
        .name = u->name,
        .format = format,
        .summary = summary,
        .options = options,
        .n_parts = u->n_parts,
    };
    for (size_t i = 0; i < u->n_parts; i++) {
        const int code = store_upload_finish(u->parts[i].upload, hashes[i], err);
        if (code != SHR_OK) {
            return code;
        }
        item.parts[i] = (struct store_part){u->parts[i].name, hashes[i],
                                            store_upload_bytes(u->parts[i].upload)};
    }
    return store_item_add(u->srv->store, store_kind_of(u->kind), &item, ret, ret_is_new, err);
}

int srv_upload_finish(struct srv_upload *u, json_t **ret, bool *ret_is_new, struct shr_err *err)
{
    const char *format = NULL;
    json_t *summary = NULL;
    char *summary_text = NULL;
    char *options_text = NULL;
    struct store_item item = {0};

    int code = format_of(u, &format, err);
    if (code == SHR_OK) {
        code = describe(u, format, &summary, err);
    }
    if (code == SHR_OK) {
        summary_text = srv_json_dump(summary);
        options_text = srv_json_dump(u->options);
        code = summary_text != NULL && options_text != NULL ? SHR_OK : srv_nomem(err);
    }
    if (code == SHR_OK) {
        code = commit(u, format, summary_text, options_text, &item, ret_is_new, err);
    }
    if (code == SHR_OK) {
        *ret = srv_item_json(u->kind, &item);
        code = *ret != NULL ? SHR_OK : srv_nomem(err);
    }
    store_item_finish(&item);
    shr_mem_free(summary_text);
    shr_mem_free(options_text);
    json_decref(summary);
    return code;
}

/* ── Views ──────────────────────────────────────────────────────────────────────────────────── */

int srv_item_get(struct srv *srv, enum srv_kind kind, const char *name, int64_t version,
                 json_t **ret, struct shr_err *err)
{
    struct store_item item = {0};
    int code = store_item_get(srv->store, store_kind_of(kind), name, version, &item, err);
    if (code != SHR_OK) {
        return code;
    }
    *ret = srv_item_json(kind, &item);
    store_item_finish(&item);
    return *ret != NULL ? SHR_OK : srv_nomem(err);
}

int srv_item_list(struct srv *srv, enum srv_kind kind, const char *cursor, size_t limit,
                  json_t **ret, struct shr_err *err)
{
    struct store_page page = {0};
    const int code = store_item_list(srv->store, store_kind_of(kind), cursor, limit, &page, err);
    if (code != SHR_OK) {
        return code;
    }
    json_t *items = json_array();
    bool ok = items != NULL;
    for (size_t i = 0; ok && i < page.n; i++) {
        ok = json_array_append_new(items, srv_item_json(kind, &page.v[i])) == 0;
    }
    json_t *json = json_object();
    ok = srv_json_put(json, "items", items) && ok;
    ok = ok && srv_json_put(json, "next_cursor",
                            page.next[0] != '\0' ? json_string(page.next) : json_null());
    store_page_finish(&page);
    if (!ok) {
        json_decref(json);
        return srv_nomem(err);
    }
    *ret = json;
    return SHR_OK;
}

int srv_item_delete(struct srv *srv, enum srv_kind kind, const char *name, int64_t version,
                    struct shr_err *err)
{
    return store_item_delete(srv->store, store_kind_of(kind), name, version, err);
}

int srv_dataset_load(struct srv *srv, const char *name_or_id, struct shr_dataset **ret,
                     struct shr_err *err)
{
    struct store_item item = {0};
    struct shr_bytes parts[STORE_MAX_PARTS] = {0};
    json_t *options = NULL;
    int code = store_item_get(srv->store, STORE_DATASET, name_or_id, 0, &item, err);
    for (size_t i = 0; code == SHR_OK && i < item.n_parts; i++) {
        void *bytes = NULL;
        code = store_blob_get(srv->store, item.parts[i].sha256, SIZE_MAX, &bytes, &parts[i].n, err);
        parts[i].data = bytes;
    }
    if (code == SHR_OK) {
        code = srv_json_parse(item.options, strlen(item.options), "stored options", &options, err);
    }
    if (code == SHR_OK) {
        code = load_dataset(item.format, parts, item.n_parts, options,
                            srv->settings.max_dataset_bytes, ret, err);
    }
    json_decref(options);
    for (size_t i = 0; i < STORE_MAX_PARTS; i++) {
        shr_mem_free((void *)(uintptr_t)parts[i].data);
    }
    store_item_finish(&item);
    return code;
}

/* ── Blobs ──────────────────────────────────────────────────────────────────────────────────── */

int srv_model_blob(struct srv *srv, const char *name, int64_t version, struct srv_blob *ret,
                   struct shr_err *err)
{
    struct store_item item = {0};
    const int code = store_item_get(srv->store, STORE_MODEL, name, version, &item, err);
    if (code != SHR_OK) {
        return code;
    }
    struct srv_blob blob = {.bytes = item.parts[0].bytes};
    snprintf(blob.sha256, sizeof blob.sha256, "%s", item.parts[0].sha256);
    snprintf(blob.filename, sizeof blob.filename, "%.128s-v%" PRId64 ".onnx", item.name,
             item.version);
    *ret = blob;
    store_item_finish(&item);
    return SHR_OK;
}

static const struct store_step *step_find(const struct store_steps *steps, int64_t seq)
{
    if (seq < 0) {
        return steps->n > 0 ? &steps->v[steps->n - 1] : NULL;
    }
    for (size_t i = 0; i < steps->n; i++) {
        if (steps->v[i].seq == seq) {
            return &steps->v[i];
        }
    }
    return NULL;
}

int srv_artifact_blob(struct srv *srv, const char *job_id, int64_t step, struct srv_blob *ret,
                      struct shr_err *err)
{
    struct store_job job = {0};
    struct store_steps steps = {0};
    int code = store_job_get(srv->store, job_id, &job, err);
    if (code == SHR_OK) {
        code = store_step_list(srv->store, job_id, &steps, err);
    }
    const struct store_step *found = code == SHR_OK ? step_find(&steps, step) : NULL;
    if (found != NULL) {
        struct srv_blob blob = {.bytes = found->bytes};
        snprintf(blob.sha256, sizeof blob.sha256, "%s", found->sha256);
        snprintf(blob.filename, sizeof blob.filename, "%.96s-%" PRId64 "-%.64s.onnx",
                 job.model_name, found->seq, found->pass);
        *ret = blob;
    } else if (code == SHR_OK) {
        code = shr_err_set(err, SHR_ERR_NOT_FOUND, "job %s has no step %" PRId64, job_id, step);
    }
    store_steps_finish(&steps);
    store_job_finish(&job);
    return code;
}

int srv_hash_blob(struct srv *srv, const char *sha256, struct srv_blob *ret, struct shr_err *err)
{
    if (strlen(sha256) != 64 || strspn(sha256, "0123456789abcdef") != 64) {
        return shr_err_set(err, SHR_ERR_INVALID, "\"%.80s\" is not a SHA-256 in lower-case hex",
                           sha256);
    }
    struct srv_blob blob = {0};
    const int code = store_blob_size(srv->store, sha256, &blob.bytes, err);
    if (code != SHR_OK) {
        return code;
    }
    snprintf(blob.sha256, sizeof blob.sha256, "%s", sha256);
    snprintf(blob.filename, sizeof blob.filename, "%s", sha256);
    *ret = blob;
    return SHR_OK;
}

int srv_blob_read(struct srv *srv, const char *sha256, uint64_t offset, void *ret_bytes, size_t n,
                  size_t *ret_n, struct shr_err *err)
{
    return store_blob_read(srv->store, sha256, offset, ret_bytes, n, ret_n, err);
}
