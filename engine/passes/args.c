/* The arguments of a pass: values checked against the pass's parameter table.
 *
 * Every value, default or given, goes through one store_ function per type, so that bounds and
 * choices are checked in one place. Setters are strict about types, as JSON is; shr_args_parse
 * takes text and finds the type in the table. A failed set leaves the old value. Thread: one. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "passes/pass.h"

static const char *const type_names[SHR_PARAM_TYPE_COUNT] = {
    [SHR_PARAM_BOOL] = "true or false",
    [SHR_PARAM_INT] = "an integer",
    [SHR_PARAM_FLOAT] = "a number",
    [SHR_PARAM_ENUM] = "a text",
    [SHR_PARAM_AMOUNT] = "a fraction (0.5) or a count (100)",
    [SHR_PARAM_BYTES] = "a size (1048576 or \"1MiB\")",
    [SHR_PARAM_LIST] = "a list of texts",
    [SHR_PARAM_MODEL] = "the name or id of a model",
};

static int fail_unknown(const struct shr_pass *pass, const char *name, struct shr_err *err)
{
    char known[SHR_ERR_MESSAGE_SIZE] = "";
    size_t used = 0;
    for (size_t i = 0; i < pass->n_params && used < sizeof known; i++) {
        int n = snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                         pass->params[i].name);
        used += (size_t)n;
    }
    return shr_err_set(err, SHR_ERR_INVALID, "%s: unknown parameter; %s has %s", name, pass->name,
                       known[0] != 0 ? known : "none");
}

static int fail_type(const struct shr_param *p, const char *given, struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_INVALID, "%s: must be %s, not %s", p->name, type_names[p->type],
                       given);
}

static int find(struct shr_args *args, const char *name, const struct shr_param **ret_param,
                struct shr_arg **ret_arg, struct shr_err *err)
{
    for (size_t i = 0; i < args->pass->n_params; i++) {
        if (strcmp(args->pass->params[i].name, name) == 0) {
            *ret_param = &args->pass->params[i];
            *ret_arg = &args->v[i];
            return SHR_OK;
        }
    }
    return fail_unknown(args->pass, name, err);
}

static bool within(const struct shr_param *p, double value)
{
    bool bounded = p->min != 0 || p->max != 0;
    return !bounded || (value >= p->min && value <= p->max);
}

static int store_int(const struct shr_param *p, struct shr_arg *arg, int64_t value,
                     struct shr_err *err)
{
    if (p->type == SHR_PARAM_INT && !within(p, (double)value)) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: %" PRId64 " is not in [%.15g, %.15g]",
                           p->name, value, p->min, p->max);
    }
    if (p->type != SHR_PARAM_INT && value < 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: %" PRId64 " is negative", p->name, value);
    }
    arg->i = value;
    arg->is_count = p->type == SHR_PARAM_AMOUNT;
    return SHR_OK;
}

static int store_float(const struct shr_param *p, struct shr_arg *arg, double value,
                       struct shr_err *err)
{
    bool amount = p->type == SHR_PARAM_AMOUNT;
    if (amount ? !(value >= 0 && value <= 1) : !isfinite(value) || !within(p, value)) {
        double min = amount ? 0 : p->min, max = amount ? 1 : p->max;
        if (min == 0 && max == 0) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: %.15g is not finite", p->name, value);
        }
        return shr_err_set(err, SHR_ERR_INVALID, "%s: %.15g is not in [%.15g, %.15g]", p->name,
                           value, min, max);
    }
    arg->f = value;
    arg->is_count = false;
    return SHR_OK;
}

static int store_choice(const struct shr_param *p, struct shr_arg *arg, const char *text,
                        struct shr_err *err)
{
    char known[SHR_ERR_MESSAGE_SIZE] = "";
    size_t used = 0;
    for (int64_t i = 0; p->choices[i] != NULL; i++) {
        if (strcmp(p->choices[i], text) == 0) {
            arg->i = i;
            return SHR_OK;
        }
        if (used < sizeof known) {
            int n = snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                             p->choices[i]);
            used += (size_t)n;
        }
    }
    return shr_err_set(err, SHR_ERR_INVALID, "%s: \"%.64s\" is not one of %s", p->name, text,
                       known);
}

/* "1048576", "64KiB", "2GiB", "500MB" */
static int store_bytes(const struct shr_param *p, struct shr_arg *arg, const char *text,
                       struct shr_err *err)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"", 1},          {"B", 1},    {"KiB", 1024}, {"MiB", 1048576},
                 {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6},   {"GB", 1e9}};

    char *end = NULL;
    double number = strtod(text, &end);
    bool digit = text[0] >= '0' && text[0] <= '9'; /* neither sign, space, inf nor nan */
    for (size_t i = 0; digit && i < SHR_COUNT_OF(units); i++) {
        if (strcmp(end, units[i].unit) == 0 && number * units[i].factor < 9e18) {
            arg->i = (int64_t)(number * units[i].factor);
            return SHR_OK;
        }
    }
    return shr_err_set(err, SHR_ERR_INVALID, "%s: \"%.64s\" is not %s", p->name, text,
                       type_names[SHR_PARAM_BYTES]);
}

static int store_list(struct shr_args *args, struct shr_arg *arg, const char *const *texts,
                      size_t n, struct shr_err *err)
{
    const char **copy = shr_arena_new(&args->arena, n > 0 ? n : 1, sizeof *copy);
    if (copy == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for parameters");
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = shr_arena_strdup(&args->arena, texts[i]);
        if (copy[i] == NULL) {
            return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for parameters");
        }
    }
    arg->texts = copy;
    arg->n_texts = n;
    return SHR_OK;
}

static int store_model(struct shr_args *args, struct shr_arg *arg, const char *text,
                       struct shr_err *err)
{
    return store_list(args, arg, &text, *text != 0 ? 1 : 0, err);
}

/* Elements are separated by commas. */
static int parse_list(struct shr_args *args, struct shr_arg *arg, const char *text,
                      struct shr_err *err)
{
    char *copy = shr_arena_strdup(&args->arena, text);
    const char **texts = shr_arena_new(&args->arena, strlen(text) + 1, sizeof *texts);
    if (copy == NULL || texts == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for parameters");
    }
    size_t n = 0;
    char *rest = NULL;
    for (char *item = strtok_r(copy, ",", &rest); item != NULL; item = strtok_r(NULL, ",", &rest)) {
        texts[n++] = item;
    }
    return store_list(args, arg, texts, n, err);
}

int shr_args_set_bool(struct shr_args *args, const char *name, bool value, struct shr_err *err)
{
    const struct shr_param *p = NULL;
    struct shr_arg *arg = NULL;
    int code = find(args, name, &p, &arg, err);
    if (code != SHR_OK) {
        return code;
    }
    if (p->type == SHR_PARAM_ENUM) { /* auto | true | false */
        return store_choice(p, arg, value ? "true" : "false", err);
    }
    if (p->type != SHR_PARAM_BOOL) {
        return fail_type(p, value ? "true" : "false", err);
    }
    arg->b = value;
    return SHR_OK;
}

/* A number is the choice of that name, of parameters that have numbers among their choices. */
static int store_number_choice(const struct shr_param *p, struct shr_arg *arg, int64_t value,
                               struct shr_err *err)
{
    bool numbers = false;
    for (size_t i = 0; p->choices[i] != NULL; i++) {
        numbers = numbers || p->choices[i][strspn(p->choices[i], "0123456789")] == 0;
    }
    if (!numbers) {
        return fail_type(p, "an integer", err);
    }
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    return store_choice(p, arg, text, err);
}

static int store_number_list(struct shr_args *args, struct shr_arg *arg, int64_t value,
                             struct shr_err *err)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    return store_list(args, arg, (const char *const[]){text}, 1, err);
}

int shr_args_set_int(struct shr_args *args, const char *name, int64_t value, struct shr_err *err)
{
    const struct shr_param *p = NULL;
    struct shr_arg *arg = NULL;
    int code = find(args, name, &p, &arg, err);
    if (code != SHR_OK) {
        return code;
    }
    switch (p->type) {
    case SHR_PARAM_INT:
    case SHR_PARAM_AMOUNT:
    case SHR_PARAM_BYTES:
        return store_int(p, arg, value, err);
    case SHR_PARAM_FLOAT:
        return store_float(p, arg, (double)value, err);
    case SHR_PARAM_ENUM: /* 1 | 2 | inf */
        return store_number_choice(p, arg, value, err);
    case SHR_PARAM_LIST: /* of one: student.mlp=128 */
        return store_number_list(args, arg, value, err);
    default:
        return fail_type(p, "an integer", err);
    }
}

int shr_args_set_float(struct shr_args *args, const char *name, double value, struct shr_err *err)
{
    const struct shr_param *p = NULL;
    struct shr_arg *arg = NULL;
    int code = find(args, name, &p, &arg, err);
    if (code != SHR_OK) {
        return code;
    }
    if (p->type != SHR_PARAM_FLOAT && p->type != SHR_PARAM_AMOUNT) {
        return fail_type(p, "a real number", err);
    }
    return store_float(p, arg, value, err);
}

int shr_args_set_text(struct shr_args *args, const char *name, const char *value,
                      struct shr_err *err)
{
    const struct shr_param *p = NULL;
    struct shr_arg *arg = NULL;
    int code = find(args, name, &p, &arg, err);
    if (code != SHR_OK) {
        return code;
    }
    switch (p->type) {
    case SHR_PARAM_ENUM:
        return store_choice(p, arg, value, err);
    case SHR_PARAM_BYTES:
        return store_bytes(p, arg, value, err);
    case SHR_PARAM_LIST:
        return parse_list(args, arg, value, err);
    case SHR_PARAM_MODEL:
        return store_model(args, arg, value, err);
    default:
        return fail_type(p, "a text", err);
    }
}

int shr_args_set_list(struct shr_args *args, const char *name, const char *const *texts, size_t n,
                      struct shr_err *err)
{
    const struct shr_param *p = NULL;
    struct shr_arg *arg = NULL;
    int code = find(args, name, &p, &arg, err);
    if (code != SHR_OK) {
        return code;
    }
    if (p->type != SHR_PARAM_LIST) {
        return fail_type(p, "a list", err);
    }
    return store_list(args, arg, texts, n, err);
}

static int parse_bool(const struct shr_param *p, struct shr_arg *arg, const char *text,
                      struct shr_err *err)
{
    bool value = strcmp(text, "true") == 0;
    if (!value && strcmp(text, "false") != 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: \"%.64s\" is not %s", p->name, text,
                           type_names[p->type]);
    }
    arg->b = value;
    return SHR_OK;
}

static int parse_number(const struct shr_param *p, struct shr_arg *arg, const char *text,
                        struct shr_err *err)
{
    char *end = NULL;
    errno = 0;
    long long i = strtoll(text, &end, 10);
    bool integer = *text != 0 && *end == 0 && errno == 0;
    if (integer && p->type != SHR_PARAM_FLOAT) {
        return store_int(p, arg, i, err);
    }
    double f = strtod(text, &end);
    if (*text == 0 || *end != 0 || p->type == SHR_PARAM_INT) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: \"%.64s\" is not %s", p->name, text,
                           type_names[p->type]);
    }
    return store_float(p, arg, f, err);
}

int shr_args_parse(struct shr_args *args, const char *name, const char *text, struct shr_err *err)
{
    const struct shr_param *p = NULL;
    struct shr_arg *arg = NULL;
    int code = find(args, name, &p, &arg, err);
    if (code != SHR_OK) {
        return code;
    }
    switch (p->type) {
    case SHR_PARAM_BOOL:
        return parse_bool(p, arg, text, err);
    case SHR_PARAM_INT:
    case SHR_PARAM_FLOAT:
    case SHR_PARAM_AMOUNT:
        return parse_number(p, arg, text, err);
    case SHR_PARAM_ENUM:
        return store_choice(p, arg, text, err);
    case SHR_PARAM_BYTES:
        return store_bytes(p, arg, text, err);
    case SHR_PARAM_LIST:
        return parse_list(args, arg, text, err);
    case SHR_PARAM_MODEL:
        return store_model(args, arg, text, err);
    case SHR_PARAM_TYPE_COUNT:
        break;
    }
    return shr_err_set(err, SHR_ERR_INTERNAL, "%s: bad type in the table of %s", p->name,
                       args->pass->name);
}

const struct shr_param *shr_args_model(const struct shr_args *args, const char **ret_name)
{
    for (size_t i = 0; i < args->pass->n_params; i++) {
        if (args->v[i].type == SHR_PARAM_MODEL && args->v[i].n_texts > 0) {
            *ret_name = args->v[i].texts[0];
            return &args->pass->params[i];
        }
    }
    return NULL;
}

int shr_args_init(struct shr_args *ret_args, const struct shr_pass *pass, struct shr_err *err)
{
    struct shr_args args = {.pass = pass};
    args.v = shr_arena_new(&args.arena, pass->n_params + 1, sizeof *args.v);
    if (args.v == NULL) {
        shr_arena_finish(&args.arena);
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for parameters");
    }
    for (size_t i = 0; i < pass->n_params; i++) {
        args.v[i].type = pass->params[i].type;
        int code = shr_args_parse(&args, pass->params[i].name, pass->params[i].fallback, err);
        if (code != SHR_OK) {
            shr_arena_finish(&args.arena);
            return code;
        }
    }
    *ret_args = args;
    return SHR_OK;
}

void shr_args_finish(struct shr_args *args)
{
    if (args != NULL) {
        shr_arena_finish(&args->arena);
        *args = (struct shr_args){0};
    }
}
