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

/* Probabilities: 0 to 1 in 256 steps, of which the last is missing, as QLinearSoftmax and PyTorch
 * have them. ONNX Runtime's quantizer has 1 as well where it writes QDQ. */
static void fix_softmax(struct shr_static *s, enum shr_static_compat compat)
{
    for (size_t i = 0; i < s->values.n; i++) {
        struct shr_static_value *value = &s->values.v[i];
        if (value->range_of == i && value->fixed == SHR_STATIC_SEEN &&
            shr_node_is(value->v->producer, "Softmax")) {
            value->fixed = SHR_STATIC_SOFTMAX;
            value->max = compat == SHR_STATIC_ORT ? 1 : 255.0 / 256;
        }
    }
}

/* All values of one range take another. */
static void move_range(struct shr_static *s, size_t from, size_t to)
{
    for (size_t i = 0; i < s->values.n; i++) {
        size_t *range_of = &s->values.v[i].range_of;
        *range_of = *range_of == from ? to : *range_of;
    }
}

/* Averages have the range of what they are taken of: for both tools if the average moves over an
 * image, for PyTorch also if it is of the whole. */
static void share_averages(struct shr_static *s, enum shr_static_compat compat)
{
    for (size_t i = 0; i < s->values.n && compat != SHR_STATIC_OWN; i++) {
        const struct shr_node *p = s->values.v[i].v->producer;
        bool average = shr_node_is(p, "AveragePool") ||
                       (compat == SHR_STATIC_PYTORCH && shr_node_is(p, "GlobalAveragePool"));
        const struct shr_static_value *x = average ? shr_static_find(s, shr_node_in(p, 0)) : NULL;
        if (x != NULL) {
            move_range(s, i, x->range_of);
        }
    }
}

/* Does nothing else read the values from v back to the one whose range it has? A range that was
 * shared before is that of no value on the way. */
static bool is_alone(const struct shr_value *v, const struct shr_value *source)
{
    while (v != source && v->producer != NULL && shr_value_single_use(v) != NULL) {
        v = shr_node_in(v->producer, 0);
    }
    return v == source && shr_value_single_use(v) != NULL;
}

/* The values from v back to the one whose range it has take the range of `to`, if nothing else
 * reads any of them: they are rounded once, on the grid on which they are joined. PyTorch has one
 * observer for them in any case. */
static void share(struct shr_static *s, const struct shr_value *v, size_t to,
                  enum shr_static_compat compat)
{
    const struct shr_static_value *value = shr_static_find(s, v);
    const size_t source = value != NULL ? value->range_of : to;
    if (s->values.v[source].fixed == SHR_STATIC_SEEN &&
        (compat == SHR_STATIC_PYTORCH || is_alone(v, s->values.v[source].v))) {
        move_range(s, source, to);
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
static void share_joined(struct shr_static *s, const struct shr_graph *g,
                         enum shr_static_compat compat)
{
    if (compat == SHR_STATIC_ORT) { /* each has its own */
        return;
    }
    for (const struct shr_node *node = g->last_node; node != NULL; node = node->prev) {
        const struct shr_static_value *out =
            shr_node_is(node, "Concat") ? shr_static_find(s, shr_node_out(node, 0)) : NULL;
        if (out == NULL) {
            continue;
        }
        bool alike = compat == SHR_STATIC_PYTORCH || are_alike(s, node);
        for (size_t i = 0; i < node->n_in; i++) {
            const struct shr_value *v = shr_node_in(node, i);
            if (alike || activation_of(s, v) == NULL) {
                share(s, v, out->range_of, compat);
            }
        }
    }
}

int shr_static_ranges(struct shr_static *s, const struct shr_graph *g, const struct shr_arg *given,
                      const struct shr_model *before, enum shr_static_compat compat,
                      struct shr_err *err)
{
    int code = SHR_OK;
    share_averages(s, compat);
    for (size_t i = 0; i < given->n_texts && code == SHR_OK; i++) {
        struct given one = {0};
        code = parse(given->texts[i], &one, err);
        if (code == SHR_OK) {
            code = apply(s, &one, before, err);
        }
    }
    if (code == SHR_OK) {
        fix_softmax(s, compat);
        share_joined(s, g, compat);
    }
    return code;
}
