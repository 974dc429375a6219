/* Writing QOperator form; see qoperator.h.
 *
 *   Conv, MatMul, Gemm               QLinearConv, QLinearMatMul, com.microsoft's QGemm, which alone
 *                                    may give floats
 *   Add, Mul, Concat, average pools  the QLinear of that name of com.microsoft
 *   MaxPool, Reshape and the like    themselves, on integers, where the scale stays
 *
 * A Relu or Clip in front of Q goes where Q's range says as much: what it would cut is saturated.
 */
#include "passes/qoperator.h"

#include <math.h>
#include <string.h>

#include "passes/edit.h"
#include "passes/quant_params.h"

enum { MOST_INPUTS = 9, MAX_POOL_OPSET = 12 /* takes bytes from here on */ };

static const char microsoft[] = "com.microsoft";

struct rewrite {
    struct shr_model *model;
    struct shr_graph *g;
    struct shr_node *node;
    size_t done;
};

/* ── Q and DQ that integer nodes can stand for ──────────────────────────────────────────────── */

static bool is_byte(enum shr_dtype dtype)
{
    return dtype == SHR_DTYPE_U8 || dtype == SHR_DTYPE_I8;
}

static struct shr_value *input_of(const struct shr_node *node, size_t slot)
{
    return node != NULL ? shr_node_in(node, slot) : NULL;
}

static enum shr_dtype type_of(const struct shr_node *node) /* of the integers of Q or DQ */
{
    return shr_node_in(node, 2)->constant.dtype;
}

/* A float32 scale and a zero point of bytes, both known, n of them or one. */
static bool has_params(const struct shr_node *node, int64_t n)
{
    const struct shr_value *scale = input_of(node, 1), *zero = input_of(node, 2);
    return shr_value_is_constant(scale) && scale->constant.dtype == SHR_DTYPE_F32 &&
           shr_value_is_constant(zero) && is_byte(zero->constant.dtype) &&
           shr_tensor_same_shape(&scale->constant, &zero->constant) && scale->constant.rank <= 1 &&
           (shr_tensor_count(&scale->constant) == 1 || shr_tensor_count(&scale->constant) == n);
}

static const struct shr_node *dequantizer(const struct shr_value *v)
{
    return v != NULL && shr_node_is(v->producer, "DequantizeLinear") ? v->producer : NULL;
}

/* The DQ that gives an activation, or NULL. */
static const struct shr_node *activation_of(const struct shr_value *v)
{
    const struct shr_node *dq = dequantizer(v);
    return has_params(dq, 1) && !shr_value_is_constant(shr_node_in(dq, 0)) ? dq : NULL;
}

/* The DQ that gives a constant weight whose channels are along the axis, or NULL. */
static const struct shr_node *weight_of(const struct shr_value *v, int axis)
{
    const struct shr_node *dq = dequantizer(v);
    const struct shr_value *w = input_of(dq, 0);
    if (!shr_value_is_constant(w) || w->constant.rank <= axis ||
        !has_params(dq, w->constant.dim[axis])) {
        return NULL;
    }
    bool one = shr_tensor_count(&shr_node_in(dq, 1)->constant) == 1;
    return one || shr_node_int(dq, "axis", 1) == axis ? dq : NULL;
}

/* The DQ that gives a bias of int32 on the scale of the sum, or NULL. */
static const struct shr_node *bias_of(const struct shr_value *v, const struct shr_node *x,
                                      const struct shr_node *w)
{
    const struct shr_node *dq = dequantizer(v);
    const struct shr_value *b = input_of(dq, 0), *scale = input_of(dq, 1);
    const struct shr_tensor *w_scale = &shr_node_in(w, 1)->constant;
    if (!shr_value_is_constant(b) || b->constant.dtype != SHR_DTYPE_I32 ||
        !shr_value_is_constant(scale) || shr_node_in(dq, 2) != NULL ||
        shr_tensor_count(&scale->constant) != shr_tensor_count(w_scale)) {
        return NULL;
    }
    double x_scale = shr_tensor_get(&shr_node_in(x, 1)->constant, 0);
    for (int64_t i = 0; i < shr_tensor_count(w_scale); i++) {
        double sum = x_scale * shr_tensor_get(w_scale, i);
        if (shr_tensor_get(&scale->constant, i) != (double)(float)sum) {
            return NULL;
        }
    }
    return dq;
}

/* ── The Q behind a node ────────────────────────────────────────────────────────────────────── */

struct result {
    struct shr_node *activation; /* the Relu or Clip between the node and Q, or NULL */
    struct shr_node *q;
};

static double bound_of(const struct shr_node *node, size_t slot, const char *attr, double fallback)
{
    const struct shr_value *v = shr_node_in(node, slot);
    if (v != NULL) {
        bool known = shr_value_is_constant(v) && shr_tensor_count(&v->constant) == 1;
        return known ? shr_tensor_get(&v->constant, 0) : NAN;
    }
    return shr_node_attr(node, attr) != NULL ? (double)shr_node_float(node, attr, 0) : fallback;
}

/* Does Q alone give the same? It is monotone, so it does when it maps the bounds to its ends. */
static bool is_implied(const struct shr_node *activation, const struct shr_node *q)
{
    const struct shr_tensor *zero = &shr_node_in(q, 2)->constant;
    const struct shr_quant_grid grid = shr_quant_grid_of(zero->dtype, false, false);
    const struct shr_quant_params params = {(float)shr_tensor_get(&shr_node_in(q, 1)->constant, 0),
                                            (int32_t)shr_tensor_get(zero, 0)};
    double min = 0, max = INFINITY;
    if (shr_node_is(activation, "Clip")) {
        min = bound_of(activation, 1, "min", -INFINITY);
        max = bound_of(activation, 2, "max", INFINITY);
    }
    return (min == -INFINITY || shr_quantize(&grid, params, (float)min) == grid.min) &&
           (max == INFINITY || shr_quantize(&grid, params, (float)max) == grid.max);
}

/* NULL and what is behind the node's output, or why there is no integer output. */
static const char *find_result(const struct shr_value *out, const struct shr_node *x,
                               struct result *ret)
{
    struct result r = {0};
    r.q = shr_edit_reader(out);
    if (shr_node_is(r.q, "Relu") || shr_node_is(r.q, "Clip")) {
        r.activation = r.q;
        r.q = shr_edit_reader(shr_node_out(r.activation, 0));
    }
    if (!shr_node_is(r.q, "QuantizeLinear") || !has_params(r.q, 1)) {
        return "its output is used in float";
    }
    if (type_of(r.q) != type_of(x)) {
        return "its output has another type";
    }
    if (r.activation != NULL && !is_implied(r.activation, r.q)) {
        return "its activation bounds it in another way than its range";
    }
    *ret = r;
    return NULL;
}

/* ── The integer node ───────────────────────────────────────────────────────────────────────── */

struct inputs {
    struct shr_value *in[MOST_INPUTS];
    size_t n;
};

static void add_input(struct inputs *i, const struct shr_node *dq)
{
    for (size_t slot = 0; slot < 3; slot++) { /* integers, scale, zero point */
        i->in[i->n++] = shr_node_in(dq, slot);
    }
}

static void add_scale(struct inputs *i, const struct shr_node *q)
{
    i->in[i->n++] = shr_node_in(q, 1);
    i->in[i->n++] = shr_node_in(q, 2);
}

/* The node goes; the new one stands in its place and has the old one's attributes. */
static int put(struct rewrite *r, const char *domain, const char *op_type,
               struct shr_value *const *in, size_t n_in, struct shr_value *const *out, size_t n_out,
               struct shr_err *err)
{
    struct shr_node *old = r->node, *before = old->next;
    shr_graph_remove_node(r->g, old); /* what it consists of stays in the arena */
    int code = shr_graph_add_node(r->g, before, domain, op_type, old->name, in, n_in, out, n_out,
                                  &r->node, err);
    r->done++;
    return code == SHR_OK ? shr_node_copy_attrs(r->g, old, r->node, err) : code;
}

/* With Q, and what is between them, if there is one. */
static int put_integer(struct rewrite *r, const char *domain, const char *op_type,
                       struct shr_value *const *in, size_t n_in, const struct result *result,
                       struct shr_err *err)
{
    struct shr_value *out = shr_node_out(result->q != NULL ? result->q : r->node, 0);
    if (result->q != NULL) {
        shr_graph_remove_node(r->g, result->q);
    }
    if (result->activation != NULL) {
        shr_graph_remove_node(r->g, result->activation);
    }
    return put(r, domain, op_type, in, n_in, &out, 1, err);
}

/* ── Operators ──────────────────────────────────────────────────────────────────────────────── */

/* Each gives why the node stays, or NULL and in *code how rewriting it went. */
typedef const char *(*rewrite_fn)(struct rewrite *r, const char *name, int *code,
                                  struct shr_err *err);

static const char not_quantized[] = "one of its inputs is not quantized as it needs";

/* Conv, MatMul and Gemm: x, w, then Q for all but Gemm, whose bias comes first. */
static const char *rewrite_product(struct rewrite *r, const char *name, int *code,
                                   struct shr_err *err)
{
    const struct shr_value *bias = shr_node_in(r->node, 2);
    const bool gemm = shr_node_is(r->node, "Gemm");
    const bool rows = shr_node_is(r->node, "Conv") || shr_node_int(r->node, "transB", 0) != 0;
    const struct shr_node *x = activation_of(shr_node_in(r->node, 0));
    const struct shr_node *w = weight_of(shr_node_in(r->node, 1), rows ? 0 : 1);
    const struct shr_node *b = x != NULL && w != NULL ? bias_of(bias, x, w) : NULL;
    if (x == NULL || w == NULL || (bias != NULL && b == NULL) ||
        (gemm && shr_node_float(r->node, "beta", 1) != 1)) {
        return not_quantized;
    }
    struct result result = {0};
    const char *why = find_result(shr_node_out(r->node, 0), x, &result);
    if (why != NULL && !gemm) {
        return why;
    }
    struct inputs i = {0};
    add_input(&i, x);
    add_input(&i, w);
    if (gemm) {
        if (b != NULL || result.q != NULL) {
            i.in[i.n++] = input_of(b, 0);
        }
        shr_node_drop_attr(r->node, "beta"); /* QGemm has none */
    }
    if (result.q != NULL) {
        add_scale(&i, result.q);
    }
    if (!gemm && b != NULL) {
        i.in[i.n++] = shr_node_in(b, 0);
    }
    *code = put_integer(r, gemm ? microsoft : "", name, i.in, i.n, &result, err);
    return NULL;
}

/* Add, Mul and pools: one or two inputs and Q. */
static const char *rewrite_plain(struct rewrite *r, const char *name, int *code,
                                 struct shr_err *err)
{
    struct inputs i = {0};
    const struct shr_node *x = activation_of(shr_node_in(r->node, 0));
    for (size_t slot = 0; slot < r->node->n_in; slot++) {
        const struct shr_node *dq = activation_of(shr_node_in(r->node, slot));
        if (dq == NULL || type_of(dq) != type_of(x)) {
            return not_quantized;
        }
        add_input(&i, dq);
    }
    if (shr_node_attr(r->node, "dilations") != NULL) {
        return "its integer form has no dilations";
    }
    struct result result = {0};
    const char *why = find_result(shr_node_out(r->node, 0), x, &result);
    if (why == NULL) {
        add_scale(&i, result.q);
        *code = put_integer(r, microsoft, name, i.in, i.n, &result, err);
    }
    return why;
}

static const char *rewrite_concat(struct rewrite *r, const char *name, int *code,
                                  struct shr_err *err)
{
    const size_t n = r->node->n_in;
    const struct shr_node *x = activation_of(shr_node_in(r->node, 0));
    for (size_t slot = 0; slot < n; slot++) {
        const struct shr_node *dq = activation_of(shr_node_in(r->node, slot));
        if (dq == NULL || type_of(dq) != type_of(x)) {
            return not_quantized;
        }
    }
    struct result result = {0};
    const char *why = find_result(shr_node_out(r->node, 0), x, &result);
    if (why != NULL) {
        return why;
    }
    struct shr_value **in = shr_arena_new(r->g->arena, 2 + 3 * n, sizeof *in);
    if (in == NULL) {
        *code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the inputs of a Concat");
        return NULL;
    }
    in[0] = shr_node_in(result.q, 1);
    in[1] = shr_node_in(result.q, 2);
    for (size_t slot = 0; slot < n; slot++) {
        const struct shr_node *dq = activation_of(shr_node_in(r->node, slot));
        memcpy(&in[2 + 3 * slot],
               (struct shr_value *[]){shr_node_in(dq, 0), shr_node_in(dq, 1), shr_node_in(dq, 2)},
               3 * sizeof *in);
    }
    *code = put_integer(r, microsoft, name, in, 2 + 3 * n, &result, err);
    return NULL;
}

static bool same_constant(const struct shr_value *a, const struct shr_value *b)
{
    return a == b || (shr_tensor_count(&a->constant) == 1 && shr_tensor_count(&b->constant) == 1 &&
                      a->constant.dtype == b->constant.dtype &&
                      shr_tensor_get(&a->constant, 0) == shr_tensor_get(&b->constant, 0));
}

/* What moves or chooses elements does so with integers, if their scale stays. */
static const char *rewrite_same(struct rewrite *r, const char *name, int *code, struct shr_err *err)
{
    struct shr_node *node = r->node;
    const struct shr_node *x = activation_of(shr_node_in(node, 0));
    if (x == NULL) {
        return not_quantized;
    }
    for (size_t i = 0; i < node->n_out; i++) {
        struct result result = {0};
        const char *why =
            node->out[i] != NULL ? find_result(node->out[i], x, &result) : "an output is omitted";
        if (why != NULL || result.activation != NULL) {
            return why != NULL ? why : "an activation follows";
        }
        if (!same_constant(shr_node_in(x, 1), shr_node_in(result.q, 1)) ||
            !same_constant(shr_node_in(x, 2), shr_node_in(result.q, 2))) {
            return "its output has another scale";
        }
    }
    struct shr_value **in = shr_arena_new(r->g->arena, node->n_in, sizeof *in);
    struct shr_value **out = shr_arena_new(r->g->arena, node->n_out, sizeof *out);
    if (in == NULL || out == NULL) {
        *code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the inputs of a node");
        return NULL;
    }
    for (size_t i = 0; i < node->n_in; i++) {
        in[i] = shr_node_in(i == 0 ? x : node, i);
    }
    for (size_t i = 0; i < node->n_out; i++) {
        struct shr_node *q = shr_edit_reader(node->out[i]);
        out[i] = shr_node_out(q, 0);
        shr_graph_remove_node(r->g, q);
    }
    *code = put(r, "", name, in, node->n_in, out, node->n_out, err);
    return NULL;
}

static const char *leave(struct rewrite *r, const char *name, int *code, struct shr_err *err)
{
    (void)r, (void)name, (void)code, (void)err;
    return "ONNX Runtime has no integer form of it";
}

static const struct rule {
    const char *op_type, *name;
    rewrite_fn rewrite;
} rules[] = {
    {"Conv", "QLinearConv", rewrite_product},
    {"MatMul", "QLinearMatMul", rewrite_product},
    {"Gemm", "QGemm", rewrite_product},
    {"Add", "QLinearAdd", rewrite_plain},
    {"Mul", "QLinearMul", rewrite_plain},
    {"AveragePool", "QLinearAveragePool", rewrite_plain},
    {"GlobalAveragePool", "QLinearGlobalAveragePool", rewrite_plain},
    {"Concat", "QLinearConcat", rewrite_concat},
    {"MaxPool", "MaxPool", rewrite_same},
    {"Flatten", "Flatten", rewrite_same},
    {"Identity", "Identity", rewrite_same},
    {"Reshape", "Reshape", rewrite_same},
    {"Slice", "Slice", rewrite_same},
    {"Split", "Split", rewrite_same},
    {"Squeeze", "Squeeze", rewrite_same},
    {"Transpose", "Transpose", rewrite_same},
    {"Unsqueeze", "Unsqueeze", rewrite_same},
};

static const struct rule *find_rule(const struct shr_node *node, int64_t opset)
{
    static const struct rule none = {NULL, NULL, leave};
    for (size_t i = 0; i < SHR_COUNT_OF(rules); i++) {
        if (shr_node_is(node, rules[i].op_type)) {
            bool floats = rules[i].rewrite == rewrite_same && shr_node_is(node, "MaxPool") &&
                          opset < MAX_POOL_OPSET;
            return floats ? &none : &rules[i];
        }
    }
    return &none;
}

/* Only what has a part in quantization: others read a dequantized value because others do. */
static bool is_between(const struct shr_node *node)
{
    bool has_role = node->op != NULL && node->op->quant_role != SHR_QUANT_NONE;
    return has_role && node->n_in > 0 && dequantizer(shr_node_in(node, 0)) != NULL;
}

static int rewrite_node(struct rewrite *r, struct shr_report *report, struct shr_err *err)
{
    char label[128];
    const struct rule *rule = find_rule(r->node, shr_model_opset(r->model, ""));
    int code = SHR_OK;
    const char *why = rule->rewrite(r, rule->name, &code, err);
    if (why != NULL) {
        shr_report_note(report, SHR_NOTE_SKIPPED, shr_node_label(r->node, label, sizeof label),
                        "%s stays in QDQ form: %s", r->node->op_type, why);
    }
    return code;
}

int shr_qoperator(struct shr_model *model, struct shr_report *report, struct shr_err *err)
{
    struct rewrite r = {.model = model, .g = &model->graph};
    int code = shr_model_import(model, microsoft, 1, err);
    for (r.node = r.g->first_node; r.node != NULL && code == SHR_OK; r.node = r.node->next) {
        if (is_between(r.node)) {
            code = rewrite_node(&r, report, err);
        }
    }
    if (code != SHR_OK) {
        return code;
    }
    shr_graph_drop_unused(r.g);
    shr_report_note(report, SHR_NOTE_DONE, "", "%zu nodes in QOperator form", r.done);
    shr_model_resolve(model);
    return shr_model_infer(model, NULL, err);
}
