/* Fixed and shared ranges; see static_ranges.h. */
#include "passes/static_ranges.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ── Given by the user ──────────────────────────────────────────────────────────────────────── */

struct given {
    const char *text;
    int name_length; /* the name is the beginning of the text */
    double min, max;
};

/* The name may hold "=": the last one counts. */
static int parse(const char *text, struct given *ret, struct shr_err *err)
{
    const char *equals = strrchr(text, '=');
    char *colon = NULL, *end = NULL;
    if (equals != NULL && equals > text) {
        ret->min = strtod(equals + 1, &colon);
        ret->max = colon > equals + 1 && *colon == ':' ? strtod(colon + 1, &end) : 0;
    }
    if (end == NULL || end == colon + 1 || *end != 0 || !isfinite(ret->min) ||
        !isfinite(ret->max)) {
        return shr_err_set(err, SHR_ERR_INVALID, "ranges: \"%.100s\" is not NAME=MIN:MAX", text);
    }
    ret->text = text;
    ret->name_length = (int)(equals - text);
    if (!(ret->min < ret->max)) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "ranges: of tensor '%.*s' the minimum %g is not "
                           "less than the maximum %g",
                           ret->name_length, text, ret->min, ret->max);
    }
    return SHR_OK;
}

static bool is_named(const struct shr_value *v, const struct given *given)
{
    size_t n = (size_t)given->name_length;
    return strncmp(v->name, given->text, n) == 0 && v->name[n] == 0;
}

static int fail_unknown(const struct given *given, const struct shr_model *before,
                        struct shr_err *err)
{
    SHR_EACH_VALUE (v, &before->graph) {
        if (is_named(v, given)) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "ranges: tensor '%s' is not quantized as an activation", v->name);
        }
    }
    return shr_err_set(err, SHR_ERR_INVALID, "ranges: the model has no tensor '%.*s'",
                       given->name_length, given->text);
}

static int apply(struct shr_static *s, const struct given *given, const struct shr_model *before,
                 struct shr_err *err)
{
    struct shr_static_value *value = NULL;
    for (size_t i = 0; i < s->values.n && value == NULL; i++) {
        value = is_named(s->values.v[i].v, given) ? &s->values.v[i] : NULL;
    }
    if (value == NULL) {
        return fail_unknown(given, before, err);
    }
    const struct shr_static_value *source = &s->values.v[value->range_of];
    if (source != value) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "ranges: tensor '%s' has the range of its source '%s'; give that",
                           value->v->name, source->v->name);
    }
    if (value->fixed == SHR_STATIC_GIVEN) {
        return shr_err_set(err, SHR_ERR_INVALID, "ranges: tensor '%s' has two", value->v->name);
    }
    value->fixed = SHR_STATIC_GIVEN;
    value->min = given->min;
    value->max = given->max;
    return SHR_OK;
}

/* ── Of the graph ───────────────────────────────────────────────────────────────────────────── */

/* Probabilities: 0 to 1 in 256 steps, of which the last is missing, as ONNX Runtime has it. */
static void fix_softmax(struct shr_static *s)
{
    for (size_t i = 0; i < s->values.n; i++) {
        struct shr_static_value *value = &s->values.v[i];
        if (value->range_of == i && value->fixed == SHR_STATIC_SEEN &&
            shr_node_is(value->v->producer, "Softmax")) {
            value->fixed = SHR_STATIC_SOFTMAX;
            value->max = 255.0 / 256;
        }
    }
}

/* The values from v back to the one whose range it has take the range of `to`, if nothing else
 * reads any of them: they are rounded once, on the grid on which they are joined. */
static void share(struct shr_static *s, const struct shr_value *v, size_t to)
{
    const struct shr_static_value *last = shr_static_find(s, v);
    if (last == NULL || s->values.v[last->range_of].fixed != SHR_STATIC_SEEN) {
        return;
    }
    const size_t source = last->range_of;
    const struct shr_value *at = v;
    for (; at != s->values.v[source].v; at = shr_node_in(at->producer, 0)) {
        if (shr_value_single_use(at) == NULL) {
            return;
        }
    }
    if (shr_value_single_use(at) == NULL) {
        return;
    }
    for (size_t i = source; i < s->values.n; i++) { /* they alone have its range */
        size_t *range_of = &s->values.v[i].range_of;
        *range_of = *range_of == source ? to : *range_of;
    }
}

/* The Relu or Clip behind which a value has its range, or NULL. */
static const struct shr_node *activation_of(const struct shr_static *s, const struct shr_value *v)
{
    const struct shr_static_value *value = shr_static_find(s, v);
    const struct shr_node *p = value != NULL ? s->values.v[value->range_of].v->producer : NULL;
    return shr_node_is(p, "Relu") || shr_node_is(p, "Clip") ? p : NULL;
}

/* Are all inputs behind the same activation? Otherwise the range of one that is must stay what
 * makes the activation superfluous, so that it is part of the node before it. */
static bool are_alike(const struct shr_static *s, const struct shr_node *concat)
{
    const struct shr_node *first = activation_of(s, shr_node_in(concat, 0));
    for (size_t i = 1; i < concat->n_in; i++) {
        const struct shr_node *other = activation_of(s, shr_node_in(concat, i));
        if (first == NULL || other == NULL ? first != other
                                           : strcmp(first->op_type, other->op_type) != 0) {
            return false;
        }
    }
    return true;
}

/* From the last Concat to the first, so that what one of them joins goes on into the next. */
static void share_joined(struct shr_static *s, const struct shr_graph *g)
{
    for (const struct shr_node *node = g->last_node; node != NULL; node = node->prev) {
        const struct shr_static_value *out =
            shr_node_is(node, "Concat") ? shr_static_find(s, shr_node_out(node, 0)) : NULL;
        if (out == NULL) {
            continue;
        }
        bool alike = are_alike(s, node);
        for (size_t i = 0; i < node->n_in; i++) {
            const struct shr_value *v = shr_node_in(node, i);
            if (alike || activation_of(s, v) == NULL) {
                share(s, v, out->range_of);
            }
        }
    }
}

int shr_static_ranges(struct shr_static *s, const struct shr_graph *g, const struct shr_arg *given,
                      const struct shr_model *before, struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t i = 0; i < given->n_texts && code == SHR_OK; i++) {
        struct given one = {0};
        code = parse(given->texts[i], &one, err);
        if (code == SHR_OK) {
            code = apply(s, &one, before, err);
        }
    }
    if (code == SHR_OK) {
        fix_softmax(s);
        share_joined(s, g);
    }
    return code;
}
