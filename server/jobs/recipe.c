/* Recipes: JSON to parameters and back, see recipe.h. */
#include "jobs/recipe.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "errors.h"
#include "jsonx.h"

const char *const job_data_names[JOB_DATA_COUNT] = {"train", "calibrate", "evaluate"};

/* ── Passes ─────────────────────────────────────────────────────────────────────────────────── */

enum { DIGITS = 24 }; /* of an integer as text */

/* An element of a list: a text, or an integer as one (widths of layers). NULL = neither. */
static const char *list_text(const json_t *value, char digits[DIGITS])
{
    if (json_is_integer(value)) {
        snprintf(digits, DIGITS, "%lld", (long long)json_integer_value(value));
        return digits;
    }
    return json_string_value(value);
}

static int set_list(struct shr_args *args, const char *name, json_t *list, struct shr_err *err)
{
    const size_t n = json_array_size(list);
    const char **texts = shr_mem_new(n + 1, sizeof *texts);
    char(*digits)[DIGITS] = shr_mem_new(n + 1, sizeof *digits);
    int code = texts == NULL || digits == NULL ? srv_nomem(err) : SHR_OK;
    for (size_t i = 0; i < n && code == SHR_OK; i++) {
        texts[i] = list_text(json_array_get(list, i), digits[i]);
        if (texts[i] == NULL) {
            code = shr_err_set(err, SHR_ERR_INVALID, "%s[%zu]: must be a text", name, i);
        }
    }
    if (code == SHR_OK) {
        code = shr_args_set_list(args, name, texts, n, err);
    }
    shr_mem_free(texts);
    shr_mem_free(digits);
    return code;
}

static int set_value(struct shr_args *args, const char *name, json_t *value, struct shr_err *err)
{
    switch (json_typeof(value)) {
    case JSON_TRUE:
    case JSON_FALSE:
        return shr_args_set_bool(args, name, json_is_true(value), err);
    case JSON_INTEGER:
        return shr_args_set_int(args, name, json_integer_value(value), err);
    case JSON_REAL:
        return shr_args_set_float(args, name, json_real_value(value), err);
    case JSON_STRING:
        return shr_args_set_text(args, name, json_string_value(value), err);
    case JSON_ARRAY:
        return set_list(args, name, value, err);
    case JSON_OBJECT:
    case JSON_NULL:
        break;
    }
    return shr_err_set(err, SHR_ERR_INVALID, "%s: must not be %s", name,
                       json_is_null(value) ? "null" : "an object");
}

/* Has the pass parameters that stand in an object of this name: nodes.include in "nodes"? */
static bool is_group(const struct shr_pass *pass, const char *name)
{
    const size_t n = strlen(name);
    for (size_t i = 0; i < pass->n_params; i++) {
        if (strncmp(pass->params[i].name, name, n) == 0 && pass->params[i].name[n] == '.') {
            return true;
        }
    }
    return false;
}

static int set_group(struct shr_args *args, const char *name, json_t *group, struct shr_err *err)
{
    if (!json_is_object(group)) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: must be an object", name);
    }
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach (group, key, value) {
        char path[128];
        snprintf(path, sizeof path, "%s.%.60s", name, key);
        const int code = set_value(args, path, value, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

/* One entry of the pipeline; messages begin with the parameter. */
static int parse_pass(json_t *entry, struct shr_args *ret, struct shr_err *err)
{
    const char *name = json_string_value(json_object_get(entry, "pass"));
    if (name == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "pass: must be the name of a pass");
    }
    const struct shr_pass *pass = shr_pass_find(name);
    if (pass == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "pass: there is no pass \"%.64s\"", name);
    }
    struct shr_args args = {0};
    int code = shr_args_init(&args, pass, err);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach ((json_t *)entry, key, value) {
        if (code == SHR_OK && strcmp(key, "pass") != 0) {
            code = is_group(pass, key) ? set_group(&args, key, value, err)
                                       : set_value(&args, key, value, err);
        }
    }
    if (code != SHR_OK) {
        shr_args_finish(&args);
        return code;
    }
    *ret = args;
    return SHR_OK;
}

static int parse_pipeline(struct srv_json_at at, struct job_recipe *recipe, struct shr_err *err)
{
    json_t *pipeline = NULL;
    int code = srv_json_array(at, "pipeline", JOB_MAX_PASSES, &pipeline, err);
    if (code != SHR_OK) {
        return code;
    }
    if (json_array_size(pipeline) == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "pipeline: must have at least one pass");
    }
    for (size_t i = 0; i < json_array_size(pipeline); i++) {
        json_t *entry = json_array_get(pipeline, i);
        if (!json_is_object(entry)) {
            return shr_err_set(err, SHR_ERR_INVALID, "pipeline[%zu]: must be an object", i);
        }
        code = parse_pass(entry, &recipe->passes[i], err);
        if (code != SHR_OK) {
            shr_err_prefix(err, "pipeline[%zu].", i);
            return code;
        }
        recipe->n_passes++;
    }
    return SHR_OK;
}

/* ── Data and evaluation ────────────────────────────────────────────────────────────────────── */

static int parse_data(struct srv_json_at top, struct job_recipe *recipe, struct shr_err *err)
{
    static const char *const fields[] = {"train", "calibrate", "evaluate", NULL};
    json_t *data = NULL;
    int code = srv_json_object(top, "data", &data, err);
    if (code != SHR_OK || data == NULL) {
        return code;
    }
    const struct srv_json_at at = {data, "data."};
    code = srv_json_only(at, fields, err);
    for (int i = 0; code == SHR_OK && i < JOB_DATA_COUNT; i++) {
        code = srv_json_text(at, fields[i], &recipe->arena, &recipe->data[i], err);
    }
    return code;
}

/* Data that a pass cannot do without is asked for before the job is accepted. */
static int check_needs(const struct job_recipe *recipe, struct shr_err *err)
{
    static const struct {
        unsigned need;
        enum job_data data;
    } needs[] = {{SHR_NEEDS_TRAIN, JOB_DATA_TRAIN}, {SHR_NEEDS_CALIBRATE, JOB_DATA_CALIBRATE}};

    for (size_t i = 0; i < recipe->n_passes; i++) {
        const struct shr_pass *pass = recipe->passes[i].pass;
        for (size_t k = 0; k < SHR_COUNT_OF(needs); k++) {
            if ((pass->needs & needs[k].need) != 0 && recipe->data[needs[k].data] == NULL) {
                return shr_err_set(err, SHR_ERR_INVALID,
                                   "data.%s: is missing, and pipeline[%zu] (%s) needs it",
                                   job_data_names[needs[k].data], i, pass->name);
            }
        }
    }
    return SHR_OK;
}

static int parse_metrics(struct srv_json_at at, struct job_recipe *recipe, struct shr_err *err)
{
    json_t *list = NULL;
    const int code = srv_json_array(at, "metrics", JOB_MAX_METRICS, &list, err);
    if (code != SHR_OK) {
        return code;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "evaluate.metrics[%zu]: must be a text", i);
        }
        const struct shr_metric_info *info = job_metric_find(name);
        if (info == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "evaluate.metrics[%zu]: there is no metric \"%.64s\"", i, name);
        }
        recipe->metrics[recipe->n_metrics++] = info->name;
    }
    return SHR_OK;
}

static int parse_batches(struct srv_json_at at, struct job_recipe *recipe, struct shr_err *err)
{
    json_t *list = NULL;
    const int code = srv_json_array(at, "batch", JOB_MAX_BATCHES, &list, err);
    if (code != SHR_OK || list == NULL) {
        return code;
    }
    if (json_array_size(list) == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%sbatch: must not be empty", at.path);
    }
    recipe->n_batch = json_array_size(list);
    for (size_t i = 0; i < recipe->n_batch; i++) {
        json_t *value = json_array_get(list, i);
        recipe->batch[i] = json_integer_value(value); /* 0 for other types */
        if (recipe->batch[i] < 1 || recipe->batch[i] > 65536) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "%sbatch[%zu]: must be an integer in [1, 65536]", at.path, i);
        }
    }
    return SHR_OK;
}

static int parse_latency(struct srv_json_at evaluate, int64_t max_threads,
                         struct job_recipe *recipe, struct shr_err *err)
{
    static const char *const fields[] = {"batch", "threads", "seconds", NULL};
    json_t *value = json_object_get(evaluate.object, "latency");
    if (json_is_boolean(value)) {
        recipe->latency = json_is_true(value);
        return SHR_OK;
    }
    int code = srv_json_object(evaluate, "latency", &value, err);
    if (code != SHR_OK || value == NULL) {
        return code;
    }
    const struct srv_json_at at = {value, "evaluate.latency."};
    code = srv_json_only(at, fields, err);
    if (code == SHR_OK) {
        code = parse_batches(at, recipe, err);
    }
    if (code == SHR_OK) {
        code = srv_json_int(at, "threads", 1, max_threads, &recipe->latency_threads, err);
    }
    if (code == SHR_OK) {
        code = srv_json_number(at, "seconds", 0.01, 600, &recipe->latency_seconds, err);
    }
    return code;
}

static int parse_evaluate(struct srv_json_at top, int64_t max_threads, struct job_recipe *recipe,
                          struct shr_err *err)
{
    static const char *const fields[] = {"metrics", "latency", "samples", NULL};
    json_t *evaluate = NULL;
    int code = srv_json_object(top, "evaluate", &evaluate, err);
    if (code != SHR_OK || evaluate == NULL) {
        return code;
    }
    const struct srv_json_at at = {evaluate, "evaluate."};
    code = srv_json_only(at, fields, err);
    if (code == SHR_OK) {
        code = parse_metrics(at, recipe, err);
    }
    if (code == SHR_OK) {
        code = parse_latency(at, max_threads, recipe, err);
    }
    if (code == SHR_OK) {
        code = srv_json_int(at, "samples", 0, INT64_MAX, &recipe->samples, err);
    }
    return code;
}

static int parse_asserts(struct srv_json_at at, struct job_recipe *recipe, struct shr_err *err)
{
    json_t *list = NULL;
    int code = srv_json_array(at, "assert", JOB_MAX_ASSERTS, &list, err);
    for (size_t i = 0; code == SHR_OK && i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        code = text != NULL ? job_assert_parse(text, &recipe->arena, &recipe->asserts[i], err)
                            : shr_err_set(err, SHR_ERR_INVALID, "must be a text");
        if (code != SHR_OK) {
            shr_err_prefix(err, "assert[%zu]: ", i);
            return code;
        }
        recipe->n_asserts++;
    }
    return code;
}

/* ── The whole ──────────────────────────────────────────────────────────────────────────────── */

static int parse_scalars(struct srv_json_at at, int64_t max_threads, struct job_recipe *recipe,
                         struct shr_err *err)
{
    int code = srv_json_text(at, "name", &recipe->arena, &recipe->name, err);
    if (code == SHR_OK && recipe->name[0] != '\0') {
        code = srv_name_check("name", recipe->name, err);
    }
    if (code == SHR_OK) {
        code = srv_json_text(at, "model", &recipe->arena, &recipe->model, err);
    }
    if (code == SHR_OK && recipe->model == NULL) {
        code = shr_err_set(err, SHR_ERR_INVALID, "model: is missing");
    }
    if (code == SHR_OK) {
        code = srv_json_int(at, "seed", 0, INT64_MAX, &recipe->seed, err);
    }
    if (code == SHR_OK) {
        code = srv_json_int(at, "threads", 1, max_threads, &recipe->threads, err);
    }
    if (code == SHR_OK) {
        code = srv_json_bytes(at, "max_memory", &recipe->max_memory, err);
    }
    return code;
}

static int parse_all(struct srv_json_at at, int64_t max_threads, struct job_recipe *recipe,
                     struct shr_err *err)
{
    static const char *const fields[] = {"name",   "model", "pipeline", "data",       "evaluate",
                                         "assert", "seed",  "threads",  "max_memory", NULL};
    int code = srv_json_only(at, fields, err);
    if (code == SHR_OK) {
        code = parse_scalars(at, max_threads, recipe, err);
    }
    if (code == SHR_OK) {
        code = parse_pipeline(at, recipe, err);
    }
    if (code == SHR_OK) {
        code = parse_data(at, recipe, err);
    }
    if (code == SHR_OK) {
        code = check_needs(recipe, err);
    }
    if (code == SHR_OK) {
        recipe->latency_threads = recipe->threads;
        code = parse_evaluate(at, max_threads, recipe, err);
    }
    if (code == SHR_OK) {
        code = parse_asserts(at, recipe, err);
    }
    return code;
}

int job_recipe_parse(json_t *job, int64_t max_threads, struct job_recipe *ret, struct shr_err *err)
{
    struct job_recipe recipe = {
        .name = "",
        .latency = true,
        .batch = {1, 64},
        .n_batch = 2,
        .latency_seconds = 1,
        .threads = 1,
    };
    const int code = parse_all((struct srv_json_at){job, ""}, max_threads, &recipe, err);
    if (code != SHR_OK) {
        job_recipe_finish(&recipe);
        return code;
    }
    *ret = recipe;
    return SHR_OK;
}

void job_recipe_finish(struct job_recipe *recipe)
{
    for (size_t i = 0; i < recipe->n_passes; i++) {
        shr_args_finish(&recipe->passes[i]);
    }
    shr_arena_finish(&recipe->arena);
    *recipe = (struct job_recipe){0};
}

bool job_recipe_model(const struct job_recipe *recipe, size_t i, const char **ret_name,
                      char ret_path[JOB_PATH])
{
    const struct shr_param *param = shr_args_model(&recipe->passes[i], ret_name);
    if (param != NULL) {
        snprintf(ret_path, JOB_PATH, "pipeline[%zu].%s", i, param->name);
    }
    return param != NULL;
}

/* ── Back to JSON ───────────────────────────────────────────────────────────────────────────── */

static json_t *texts_json(const char *const *texts, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_string(texts[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *param_json(const struct shr_param *param, const struct shr_arg *value)
{
    switch (param->type) {
    case SHR_PARAM_BOOL:
        return json_boolean(value->b);
    case SHR_PARAM_INT:
    case SHR_PARAM_BYTES:
        return json_integer(value->i);
    case SHR_PARAM_FLOAT:
        return json_real(value->f);
    case SHR_PARAM_ENUM:
        return json_string(param->choices[value->i]);
    case SHR_PARAM_AMOUNT:
        return value->is_count ? json_integer(value->i) : json_real(value->f);
    case SHR_PARAM_LIST:
        return texts_json(value->texts, value->n_texts);
    case SHR_PARAM_MODEL:
        return json_string(value->n_texts > 0 ? value->texts[0] : "");
    case SHR_PARAM_TYPE_COUNT:
        break;
    }
    return NULL;
}

/* "nodes.include" goes into the object "nodes", which is made with its first member. */
static bool put_param(json_t *entry, const char *name, json_t *take_value)
{
    const size_t n = strcspn(name, ".");
    if (name[n] == '\0') {
        return srv_json_put(entry, name, take_value);
    }
    json_t *group = json_object_getn(entry, name, n);
    if (group == NULL && json_object_setn_new(entry, name, n, json_object()) == 0) {
        group = json_object_getn(entry, name, n);
    }
    return srv_json_put(group, name + n + 1, take_value);
}

json_t *job_recipe_pipeline_json(const struct job_recipe *recipe, size_t n)
{
    json_t *pipeline = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct shr_args *args = &recipe->passes[i];
        json_t *entry = json_object();
        bool ok = srv_json_put(entry, "pass", json_string(args->pass->name));
        for (size_t k = 0; ok && k < args->pass->n_params; k++) {
            const struct shr_param *param = &args->pass->params[k];
            ok = put_param(entry, param->name, param_json(param, &args->v[k]));
        }
        if (!ok) {
            json_decref(entry);
            entry = NULL;
        }
        if (json_array_append_new(pipeline, entry) != 0) {
            json_decref(pipeline);
            return NULL;
        }
    }
    return pipeline;
}

static json_t *data_json(const struct job_recipe *recipe)
{
    json_t *data = json_object();
    for (int i = 0; i < JOB_DATA_COUNT; i++) {
        if (recipe->data[i] != NULL &&
            !srv_json_put(data, job_data_names[i], json_string(recipe->data[i]))) {
            json_decref(data);
            return NULL;
        }
    }
    return data;
}

static json_t *latency_json(const struct job_recipe *recipe)
{
    if (!recipe->latency) {
        return json_false();
    }
    json_t *batches = json_array();
    for (size_t i = 0; i < recipe->n_batch; i++) {
        if (json_array_append_new(batches, json_integer(recipe->batch[i])) != 0) {
            json_decref(batches);
            return NULL;
        }
    }
    return json_pack("{s:o, s:I, s:f}", "batch", batches, "threads",
                     (json_int_t)recipe->latency_threads, "seconds", recipe->latency_seconds);
}

static json_t *evaluate_json(const struct job_recipe *recipe)
{
    json_t *evaluate = json_object();
    const bool ok =
        (recipe->n_metrics == 0 ||
         srv_json_put(evaluate, "metrics", texts_json(recipe->metrics, recipe->n_metrics))) &&
        srv_json_put(evaluate, "latency", latency_json(recipe)) &&
        srv_json_put(evaluate, "samples", json_integer(recipe->samples));
    if (!ok) {
        json_decref(evaluate);
        return NULL;
    }
    return evaluate;
}

json_t *job_recipe_json(const struct job_recipe *recipe)
{
    const char *asserts[JOB_MAX_ASSERTS];
    for (size_t i = 0; i < recipe->n_asserts; i++) {
        asserts[i] = recipe->asserts[i].text;
    }
    json_t *json = json_object();
    const bool ok =
        srv_json_put(json, "name", json_string(recipe->name)) &&
        srv_json_put(json, "model", json_string(recipe->model)) &&
        srv_json_put(json, "pipeline", job_recipe_pipeline_json(recipe, recipe->n_passes)) &&
        srv_json_put(json, "data", data_json(recipe)) &&
        srv_json_put(json, "evaluate", evaluate_json(recipe)) &&
        srv_json_put(json, "assert", texts_json(asserts, recipe->n_asserts)) &&
        srv_json_put(json, "seed", json_integer(recipe->seed)) &&
        srv_json_put(json, "threads", json_integer(recipe->threads)) &&
        srv_json_put(json, "max_memory", json_integer((json_int_t)recipe->max_memory));
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}
