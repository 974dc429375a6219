/* Raising the opset to 13; see raise_opset.h.
 *
 * First every node is asked whether it can follow, so that a refusal leaves the model alone. */
#include "passes/raise_opset.h"

#include <stdio.h>
#include <string.h>

struct raise {
    struct shr_graph *g;
    size_t changed; /* nodes */
};

enum { MOST_INPUTS = 3 };

struct rule { /* what may change: attributes go, some to become inputs; a new name; anything */
    const char *op_type;
    int64_t since; /* the opset whose form differs from those before */
    const char *(*obstacle)(const struct shr_node *node); /* NULL = none, or the result: why not */
    const char *to_inputs[MOST_INPUTS]; /* attributes that are the inputs from the second on */
    const char *drops, *becomes;        /* an attribute, and another operator; NULL = none */
    int (*apply)(struct raise *r, struct shr_node *node, struct shr_err *err);
};

/* ── Attributes that became inputs ──────────────────────────────────────────────────────────── */

static int add_input(struct raise *r, struct shr_node *node, size_t slot, const char *what,
                     struct shr_tensor take, struct shr_err *err)
{
    char label[256], name[320];
    struct shr_value *value = NULL;
    snprintf(name, sizeof name, "%s_%s", shr_node_label(node, label, sizeof label), what);
    int code = shr_graph_add_constant(r->g, name, take, &value, err);
    if (code == SHR_OK && node->n_in <= slot) {
        code = shr_node_resize_inputs(r->g, node, slot + 1, err);
    }
    if (code == SHR_OK) {
        shr_node_set_input(node, slot, value);
    }
    return code;
}

/* Integers become int64 (n), a float a scalar of the type of the node's first input. */
static int tensor_of(const struct shr_node *node, const struct shr_attr *a, struct shr_tensor *ret,
                     struct shr_err *err)
{
    if (a->kind == SHR_ATTR_FLOAT) {
        int code = shr_tensor_new(shr_node_in(node, 0)->type.dtype, 0, NULL, ret, err);
        if (code == SHR_OK) {
            shr_tensor_set(ret, 0, (double)a->f);
        }
        return code;
    }
    const int64_t *ints = a->kind == SHR_ATTR_INT ? &a->i : a->ints;
    const int64_t n = a->kind == SHR_ATTR_INT ? 1 : (int64_t)a->n;
    int code = shr_tensor_new(SHR_DTYPE_I64, 1, &n, ret, err);
    for (int64_t i = 0; code == SHR_OK && i < n; i++) {
        ((int64_t *)ret->data)[i] = ints[i];
    }
    return code;
}

static bool is_typed(const struct shr_node *node)
{
    const struct shr_value *x = shr_node_in(node, 0);
    return x != NULL && shr_dtype_is_float(x->type.dtype);
}

static const char *typed_obstacle(const struct shr_node *node)
{
    return is_typed(node) ? NULL : "the type of its input is not known";
}

/* Nothing when the attribute is absent, or of a kind that it cannot have. */
static int move_attr(struct raise *r, struct shr_node *node, const char *name, size_t slot,
                     struct shr_err *err)
{
    const struct shr_attr *a = shr_node_attr(node, name);
    struct shr_tensor t = {0};
    if (a == NULL ||
        (a->kind == SHR_ATTR_FLOAT ? !is_typed(node)
                                   : a->kind != SHR_ATTR_INTS && a->kind != SHR_ATTR_INT)) {
        return SHR_OK;
    }
    int code = tensor_of(node, a, &t, err);
    if (code == SHR_OK) {
        code = add_input(r, node, slot, name, t, err);
    }
    shr_node_drop_attr(node, name);
    return code;
}

static const char *dropout_obstacle(const struct shr_node *node)
{
    const struct shr_value *mask = shr_node_out(node, 1);
    return mask != NULL && (mask->uses != NULL || mask->is_output || mask->captured)
               ? "its mask had the type of its input"
               : NULL;
}

static const char *batch_norm_obstacle(const struct shr_node *node)
{
    return shr_node_int(node, "spatial", 1) == 0 ? "it has statistics for every place" : NULL;
}

/* ── Resize ─────────────────────────────────────────────────────────────────────────────────── */

static bool is_nearest(const struct shr_node *node)
{
    return strcmp(shr_node_text(node, "mode", "nearest"), "nearest") == 0;
}

/* Where an axis shrinks, the nearest of opset 10 is the one above; else the one below. */
static const char *nearest_of(const struct shr_node *node)
{
    const struct shr_value *scales = shr_node_in(node, 1);
    bool up = false, down = false;
    if (!shr_value_is_constant(scales)) {
        return NULL;
    }
    for (int64_t i = 0; i < shr_tensor_count(&scales->constant); i++) {
        const double scale = shr_tensor_get(&scales->constant, i);
        up = up || scale > 1;
        down = down || scale < 1;
    }
    return up && down ? NULL : down ? "ceil" : "floor";
}

static const char *resize_obstacle(const struct shr_node *node)
{
    return is_nearest(node) && nearest_of(node) == NULL
               ? "the nearest element is another where an axis grows than where it shrinks"
               : NULL;
}

/* (x, scales) of opset 10 to (x, roi, scales). */
static int set_resize(struct raise *r, struct shr_node *node, const char *nearest,
                      struct shr_err *err)
{
    struct shr_value *scales = shr_node_in(node, 1);
    int code = shr_node_resize_inputs(r->g, node, 3, err);
    if (code == SHR_OK) {
        shr_node_set_input(node, 1, NULL);
        shr_node_set_input(node, 2, scales);
        code = shr_node_set_text(r->g, node, "coordinate_transformation_mode", "asymmetric", err);
    }
    return code == SHR_OK && is_nearest(node)
               ? shr_node_set_text(r->g, node, "nearest_mode", nearest, err)
               : code;
}

static int raise_resize(struct raise *r, struct shr_node *node, struct shr_err *err)
{
    return set_resize(r, node, nearest_of(node), err);
}

static int raise_upsample(struct raise *r, struct shr_node *node, struct shr_err *err)
{
    const struct shr_attr *scales = shr_node_attr(node, "scales");
    int code = SHR_OK;
    if (scales != NULL && scales->kind == SHR_ATTR_FLOATS) { /* until opset 8 */
        struct shr_tensor t = {0};
        code = shr_tensor_new(SHR_DTYPE_F32, 1, (int64_t[]){(int64_t)scales->n}, &t, err);
        for (size_t i = 0; code == SHR_OK && i < scales->n; i++) {
            ((float *)t.data)[i] = scales->floats[i];
        }
        code = code == SHR_OK ? add_input(r, node, 1, "scales", t, err) : code;
        shr_node_drop_attr(node, "scales");
    }
    node->op_type = "Resize";
    return code == SHR_OK ? set_resize(r, node, "floor", err) : code;
}

static bool is_old_tensorflow(const struct shr_node *node)
{
    return strcmp(shr_node_text(node, "coordinate_transformation_mode", ""),
                  "tf_half_pixel_for_nn") == 0;
}

static const char *resize_mode_obstacle(const struct shr_node *node)
{
    return is_old_tensorflow(node) && strcmp(shr_node_text(node, "nearest_mode", ""), "floor") != 0
               ? "mode tf_half_pixel_for_nn went, and it does not take the floor"
               : NULL;
}

/* floor((i + 1/2) / scale) is what half_pixel rounds up from its half. */
static int raise_resize_mode(struct raise *r, struct shr_node *node, struct shr_err *err)
{
    if (!is_old_tensorflow(node)) {
        return SHR_OK;
    }
    int code = shr_node_set_text(r->g, node, "coordinate_transformation_mode", "half_pixel", err);
    return code == SHR_OK ? shr_node_set_text(r->g, node, "nearest_mode", "round_prefer_ceil", err)
                          : code;
}

/* ── Softmax: over all dims from the axis on, now over that of the axis ─────────────────────── */

static int raise_softmax(struct raise *r, struct shr_node *node, struct shr_err *err)
{
    struct shr_value *x = shr_node_in(node, 0), *flat = NULL, *soft = NULL, *shape = NULL;
    const int64_t axis = shr_node_int(node, "axis", 1);
    const int rank = x->type.rank;
    if (rank >= 1 && (axis == rank - 1 || axis == -1)) {
        return shr_node_set_int(r->g, node, "axis", -1, err);
    }
    struct shr_node *flatten = NULL, *inner = NULL;
    const char *op = node->op_type;
    int code =
        shr_edit_insert(r->g, node, "Flatten", x->name, &x, 1, x->name, &flatten, &flat, err);
    code = code == SHR_OK ? shr_node_set_int(r->g, flatten, "axis", axis, err) : code;
    code = code == SHR_OK ? shr_edit_insert(r->g, node, op, flat->name, &flat, 1, flat->name,
                                            &inner, &soft, err)
                          : code;
    code = code == SHR_OK ? shr_node_set_int(r->g, inner, "axis", -1, err) : code;
    code = code == SHR_OK
               ? shr_edit_insert(r->g, node, "Shape", x->name, &x, 1, x->name, NULL, &shape, err)
               : code;
    code = code == SHR_OK ? shr_node_resize_inputs(r->g, node, 2, err) : code;
    if (code == SHR_OK) {
        shr_node_drop_attr(node, "axis");
        shr_node_set_input(node, 0, soft);
        shr_node_set_input(node, 1, shape);
        node->op_type = "Reshape";
    }
    return code;
}

/* ── All of them ────────────────────────────────────────────────────────────────────────────── */

/* For a node they apply from the top. Dropout does nothing outside of training, whatever its ratio;
 * opset 10 deprecated Upsample, which becomes Resize of 11 at once. */
static const struct rule rules[] = {
    {"BatchNormalization", 9, batch_norm_obstacle, .drops = "spatial"},
    {"Slice", 10, .to_inputs = {"starts", "ends", "axes"}},
    {"TopK", 10, .to_inputs = {"k"}},
    {"Dropout", 10, dropout_obstacle},
    {"Clip", 11, typed_obstacle, .to_inputs = {"min", "max"}},
    {"Pad", 11, typed_obstacle, .to_inputs = {"pads", "value"}},
    {"Scatter", 11, .becomes = "ScatterElements"},
    {"Resize", 11, resize_obstacle, .apply = raise_resize},
    {"Upsample", 11, .apply = raise_upsample},
    {"Dropout", 12, .drops = "ratio"},
    {"Resize", 13, resize_mode_obstacle, .apply = raise_resize_mode},
    {"Softmax", 13, .apply = raise_softmax},
    {"LogSoftmax", 13, .apply = raise_softmax},
    {"Hardmax", 13, .apply = raise_softmax},
    {"Squeeze", 13, .to_inputs = {"axes"}},
    {"Unsqueeze", 13, .to_inputs = {"axes"}},
    {"ReduceSum", 13, .to_inputs = {"axes"}},
    {"Split", 13, .to_inputs = {"split"}},
};

static const char *obstacle(const struct shr_node *node, int64_t from)
{
    for (const struct shr_attr *a = node->attrs; a != NULL; a = a->next) {
        if (a->kind == SHR_ATTR_GRAPH) {
            return "the graphs inside of it are of the old opset";
        }
    }
    if (node->domain[0] != 0) {
        return NULL;
    }
    if (node->op == NULL) {
        return "the operator is not known, nor what it means in a newer opset";
    }
    const char *why = NULL;
    for (size_t i = 0; i < SHR_COUNT_OF(rules) && why == NULL; i++) {
        const struct rule *rule = &rules[i];
        if (from < rule->since && rule->obstacle != NULL && shr_node_is(node, rule->op_type)) {
            why = rule->obstacle(node);
        }
    }
    return why;
}

static int apply(struct raise *r, const struct rule *rule, struct shr_node *node,
                 struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t i = 0; i < MOST_INPUTS && rule->to_inputs[i] != NULL && code == SHR_OK; i++) {
        code = move_attr(r, node, rule->to_inputs[i], i + 1, err);
    }
    if (rule->drops != NULL) {
        shr_node_drop_attr(node, rule->drops);
    }
    if (rule->becomes != NULL) {
        node->op_type = rule->becomes;
    }
    return code == SHR_OK && rule->apply != NULL ? rule->apply(r, node, err) : code;
}

static int apply_rules(struct raise *r, struct shr_node *node, int64_t from, struct shr_err *err)
{
    bool changed = false;
    int code = SHR_OK;
    for (size_t i = 0; i < SHR_COUNT_OF(rules) && code == SHR_OK; i++) {
        if (from < rules[i].since && shr_node_is(node, rules[i].op_type)) {
            code = apply(r, &rules[i], node, err);
            changed = true;
        }
    }
    r->changed += changed;
    return code;
}

static int check_all(const struct shr_graph *g, int64_t from, struct shr_err *err)
{
    SHR_EACH_NODE (node, g) {
        const char *why = obstacle(node, from);
        if (why != NULL) {
            char label[128];
            return shr_err_set(err, SHR_ERR_UNSUPPORTED, "opset %lld cannot become %d: %s %s: %s",
                               (long long)from, SHR_RAISED_OPSET, node->op_type,
                               shr_node_label(node, label, sizeof label), why);
        }
    }
    return SHR_OK;
}

int shr_raise_opset(struct shr_model *model, struct shr_report *report, struct shr_err *err)
{
    const int64_t from = shr_model_opset(model, "");
    struct raise r = {.g = &model->graph};
    if (from == 0 || from >= SHR_RAISED_OPSET) {
        return SHR_OK;
    }
    int code = shr_model_infer(model, NULL, err);
    if (code == SHR_OK) {
        code = check_all(r.g, from, err);
    }
    for (struct shr_node *node = r.g->first_node, *next; node != NULL && code == SHR_OK;
         node = next) {
        next = node->next;
        code = apply_rules(&r, node, from, err);
    }
    if (code == SHR_OK) {
        code = shr_model_import(model, "", SHR_RAISED_OPSET, err);
    }
    if (code == SHR_OK) {
        shr_report_note(report, SHR_NOTE_DONE, "", "opset %lld became %d, %zu nodes changed for it",
                        (long long)from, SHR_RAISED_OPSET, r.changed);
        shr_model_resolve(model);
        code = shr_model_infer(model, NULL, err);
    }
    return code;
}
