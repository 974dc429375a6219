/* Asserts of a job, see asserts.h. */
#include "jobs/asserts.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/shrink.h"
#include "jsonx.h"
#include "storage/store.h"

static const char *const op_names[JOB_ASSERT_OP_COUNT] = {"<=", ">=", "<", ">", "==", "!="};

static bool holds(enum job_assert_op op, double value, double number)
{
    switch (op) {
    case JOB_ASSERT_LE:
        return value <= number;
    case JOB_ASSERT_GE:
        return value >= number;
    case JOB_ASSERT_LT:
        return value < number;
    case JOB_ASSERT_GT:
        return value > number;
    case JOB_ASSERT_EQ:
        return value == number;
    case JOB_ASSERT_NE:
        return value != number;
    case JOB_ASSERT_OP_COUNT:
        break;
    }
    return false;
}

/* Is rest the batch behind a stem: "_b64"? */
static bool is_batch(const char *rest)
{
    if (strncmp(rest, "_b", 2) != 0 || rest[2] == '\0') {
        return false;
    }
    return rest[2 + strspn(rest + 2, "0123456789")] == '\0';
}

const struct shr_metric_info *job_metric_find(const char *name)
{
    for (size_t i = 0; i < shr_metric_count(); i++) {
        const struct shr_metric_info *info = shr_metric_at(i);
        const size_t n = strlen(info->name);
        if (strncmp(info->name, name, n) == 0 && (name[n] == '\0' || is_batch(name + n))) {
            return info;
        }
    }
    return NULL;
}

/* "size" means "size_bytes": a ratio or a drop need not name the unit. */
static const char *metric_resolve(const char *name, struct shr_arena *arena)
{
    if (job_metric_find(name) != NULL) {
        return name;
    }
    const char *bytes = shr_arena_printf(arena, "%s_bytes", name);
    return bytes != NULL && job_metric_find(bytes) != NULL ? bytes : NULL;
}

static bool ends_with(const char *text, size_t n, const char *end)
{
    const size_t m = strlen(end);
    return n > m && memcmp(text + n - m, end, m) == 0;
}

/* A metric of the table comes first, so that one whose own name ends in _ratio is found. */
static int parse_name(const char *text, size_t n, struct shr_arena *arena, struct job_assert *ret,
                      struct shr_err *err)
{
    static const struct {
        const char *end;
        enum job_assert_of of;
    } derived[] = {
        {"", JOB_ASSERT_VALUE}, {"_drop", JOB_ASSERT_DROP}, {"_ratio", JOB_ASSERT_RATIO}};

    for (size_t i = 0; i < sizeof derived / sizeof derived[0]; i++) {
        if (!ends_with(text, n, derived[i].end)) {
            continue;
        }
        const char *stem = shr_arena_strndup(arena, text, n - strlen(derived[i].end));
        if (stem == NULL) {
            return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
        }
        ret->metric = metric_resolve(stem, arena);
        ret->of = derived[i].of;
        if (ret->metric != NULL) {
            return SHR_OK;
        }
    }
    return shr_err_set(err, SHR_ERR_INVALID, "unknown metric \"%.*s\"", (int)n, text);
}

static bool parse_op(const char **at, enum job_assert_op *ret)
{
    for (int i = 0; i < JOB_ASSERT_OP_COUNT; i++) { /* the longer ones come first */
        const size_t n = strlen(op_names[i]);
        if (strncmp(*at, op_names[i], n) == 0) {
            *ret = (enum job_assert_op)i;
            *at += n;
            return true;
        }
    }
    return false;
}

int job_assert_parse(const char *text, struct shr_arena *arena, struct job_assert *ret,
                     struct shr_err *err)
{
    struct job_assert parsed = {.text = shr_arena_strdup(arena, text)};
    if (parsed.text == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    const char *name = text + strspn(text, " ");
    size_t n = 0;
    while (isalnum((unsigned char)name[n]) || name[n] == '_') {
        n++;
    }
    const char *at = name + n + strspn(name + n, " ");
    if (n == 0 || !parse_op(&at, &parsed.op)) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "\"%.80s\" is not \"metric <= number\" (or >=, <, >, ==, !=)", text);
    }
    char *end = NULL;
    at += strspn(at, " ");
    parsed.number = strtod(at, &end);
    if (end == at || end[strspn(end, " ")] != '\0' || !isfinite(parsed.number)) {
        return shr_err_set(err, SHR_ERR_INVALID, "\"%.80s\": \"%.40s\" is not a number", text, at);
    }
    const int code = parse_name(name, n, arena, &parsed, err);
    if (code == SHR_OK) {
        *ret = parsed;
    }
    return code;
}

static const struct store_metric *metric_of(const struct store_step *step, const char *name)
{
    for (size_t i = 0; i < step->n_metrics; i++) {
        if (strcmp(step->metrics[i].name, name) == 0) {
            return &step->metrics[i];
        }
    }
    return NULL;
}

static bool metric_value(const struct store_step *step, const char *name, double *ret, char *why,
                         size_t size)
{
    const struct store_metric *metric = metric_of(step, name);
    if (metric == NULL || !metric->measured) {
        snprintf(why, size, "%s was not measured%s%s", name,
                 metric != NULL && metric->why != NULL ? ": " : "",
                 metric != NULL && metric->why != NULL ? metric->why : "");
        return false;
    }
    *ret = metric->value;
    return true;
}

/* The left side of an assert; false with the reason when there is no such number. */
static bool assert_value(const struct job_assert *assert, const struct store_steps *steps,
                         double *ret, char *why, size_t size)
{
    double last = 0;
    double original = 0;
    if (steps->n == 0) {
        snprintf(why, size, "the job has no steps");
        return false;
    }
    if (!metric_value(&steps->v[steps->n - 1], assert->metric, &last, why, size)) {
        return false;
    }
    if (assert->of == JOB_ASSERT_VALUE) {
        *ret = last;
        return true;
    }
    if (!metric_value(&steps->v[0], assert->metric, &original, why, size)) {
        return false;
    }
    if (assert->of == JOB_ASSERT_RATIO && original == 0) {
        snprintf(why, size, "%s of the original is 0", assert->metric);
        return false;
    }
    *ret = assert->of == JOB_ASSERT_DROP ? original - last : last / original;
    return true;
}

json_t *job_asserts_check(const struct job_assert *asserts, size_t n,
                          const struct store_steps *steps, bool *ret_pass)
{
    json_t *list = json_array();
    bool all = true;
    for (size_t i = 0; i < n; i++) {
        char why[224] = "";
        double value = 0;
        const bool known = assert_value(&asserts[i], steps, &value, why, sizeof why);
        const bool passed = known && holds(asserts[i].op, value, asserts[i].number);
        json_t *row = json_object();
        bool ok = srv_json_put(row, "assert", json_string(asserts[i].text)) &&
                  srv_json_put(row, "holds", json_boolean(passed)) &&
                  srv_json_put(row, "value", known ? json_real(value) : json_null());
        ok = ok && (known || srv_json_put(row, "why", json_string(why)));
        all = all && passed;
        if (!ok || json_array_append_new(list, json_incref(row)) != 0) {
            json_decref(row);
            json_decref(list);
            return NULL;
        }
        json_decref(row);
    }
    *ret_pass = all;
    return list;
}
