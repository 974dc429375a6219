/* Reading JSON that clients wrote, see jsonx.h. */
#include "jsonx.h"

#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "units.h"

int srv_json_parse(const char *text, size_t n, const char *what, json_t **ret, struct shr_err *err)
{
    json_error_t where;
    json_t *value = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    if (value == NULL && json_error_code(&where) == json_error_out_of_memory) {
        return shr_err_set(err, SHR_ERR_NOMEM, "%s: out of memory", what);
    }
    if (value == NULL) {
        return shr_err_set(err, SHR_ERR_PARSE, "%s: line %d, column %d: %s", what, where.line,
                           where.column, where.text);
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return shr_err_set(err, SHR_ERR_INVALID, "%s: must be a JSON object", what);
    }
    *ret = value;
    return SHR_OK;
}

int srv_json_only(struct srv_json_at at, const char *const *names, struct shr_err *err)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach ((json_t *)at.object, key, value) {
        size_t i = 0;
        while (names[i] != NULL && strcmp(names[i], key) != 0) {
            i++;
        }
        if (names[i] == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s%.100s: unknown field", at.path, key);
        }
    }
    return SHR_OK;
}

static int wrong_type(struct srv_json_at at, const char *name, const char *wanted,
                      struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_INVALID, "%s%s: must be %s", at.path, name, wanted);
}

int srv_json_text(struct srv_json_at at, const char *name, struct shr_arena *arena,
                  const char **ret, struct shr_err *err)
{
    json_t *value = json_object_get(at.object, name);
    if (value == NULL) {
        return SHR_OK;
    }
    if (!json_is_string(value)) {
        return wrong_type(at, name, "a text", err);
    }
    const char *copy = shr_arena_strdup(arena, json_string_value(value));
    if (copy == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "%s%s: out of memory", at.path, name);
    }
    *ret = copy;
    return SHR_OK;
}

int srv_json_int(struct srv_json_at at, const char *name, int64_t min, int64_t max, int64_t *ret,
                 struct shr_err *err)
{
    json_t *value = json_object_get(at.object, name);
    if (value == NULL) {
        return SHR_OK;
    }
    if (!json_is_integer(value)) {
        return wrong_type(at, name, "an integer", err);
    }
    const int64_t number = json_integer_value(value);
    if (number < min || number > max) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "%s%s: %" PRId64 " is not in [%" PRId64 ", %" PRId64 "]", at.path, name,
                           number, min, max);
    }
    *ret = number;
    return SHR_OK;
}

int srv_json_number(struct srv_json_at at, const char *name, double min, double max, double *ret,
                    struct shr_err *err)
{
    json_t *value = json_object_get(at.object, name);
    if (value == NULL) {
        return SHR_OK;
    }
    if (!json_is_number(value)) {
        return wrong_type(at, name, "a number", err);
    }
    const double number = json_number_value(value);
    if (!(number >= min && number <= max)) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s%s: %g is not in [%g, %g]", at.path, name,
                           number, min, max);
    }
    *ret = number;
    return SHR_OK;
}

int srv_json_bytes(struct srv_json_at at, const char *name, uint64_t *ret, struct shr_err *err)
{
    json_t *value = json_object_get(at.object, name);
    if (value == NULL) {
        return SHR_OK;
    }
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret = (uint64_t)json_integer_value(value);
        return SHR_OK;
    }
    if (json_is_string(value) && srv_bytes_parse(json_string_value(value), ret)) {
        return SHR_OK;
    }
    return wrong_type(at, name, "a number of bytes or a text such as \"2GiB\"", err);
}

int srv_json_array(struct srv_json_at at, const char *name, size_t max, json_t **ret,
                   struct shr_err *err)
{
    json_t *value = json_object_get(at.object, name);
    if (value == NULL) {
        return SHR_OK;
    }
    if (!json_is_array(value)) {
        return wrong_type(at, name, "an array", err);
    }
    if (json_array_size(value) > max) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s%s: has %zu entries, at most %zu are allowed",
                           at.path, name, json_array_size(value), max);
    }
    *ret = value;
    return SHR_OK;
}

int srv_json_object(struct srv_json_at at, const char *name, json_t **ret, struct shr_err *err)
{
    json_t *value = json_object_get(at.object, name);
    if (value == NULL) {
        return SHR_OK;
    }
    if (!json_is_object(value)) {
        return wrong_type(at, name, "an object", err);
    }
    *ret = value;
    return SHR_OK;
}

bool srv_json_put(json_t *object, const char *name, json_t *take_value)
{
    if (object == NULL) {
        json_decref(take_value);
        return false;
    }
    return json_object_set_new(object, name, take_value) == 0; /* fails on NULL, and frees */
}

static int dump_append(const char *bytes, size_t n, void *buf)
{
    shr_buf_append(buf, bytes, n);
    return 0;
}

char *srv_json_dump(const json_t *value)
{
    struct shr_buf buf = {0};
    /* 15 digits give a decimal back as it was typed: 0.7, not 0.69999999999999996 */
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15);
    if (value == NULL || json_dump_callback(value, dump_append, &buf, flags) != 0) {
        shr_buf_finish(&buf);
        return NULL;
    }
    return shr_buf_take(&buf, &(size_t){0});
}
