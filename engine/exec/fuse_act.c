/* Activations: which operator is which enum shr_act, and those that graphs spell out in several
 * nodes (SiLU, HardSwish, GELU by Erf), which become one. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "exec/fuse.h"

/* Is v the constant c, of one element? */
static bool is_constant(const struct shr_value *v, double c)
{
    return shr_value_is_constant(v) && shr__fuse_is_f32(v) && shr_tensor_count(&v->constant) == 1 &&
           fabs(shr_tensor_get(&v->constant, 0) - c) <= 1e-6 * fabs(c);
}

static bool read_clip(const struct shr_node *node, struct shr__act *ret)
{
    float *const bounds[] = {&ret->lo, &ret->hi};
    ret->kind = SHR_ACT_CLIP;
    ret->lo = shr_node_float(node, "min", -FLT_MAX);
    ret->hi = shr_node_float(node, "max", FLT_MAX);
    for (size_t i = 0; i < 2; i++) {
        const struct shr_value *v = shr_node_in(node, i + 1);
        if (v != NULL && (!shr_value_is_constant(v) || shr_tensor_count(&v->constant) != 1)) {
            return false;
        }
        if (v != NULL) {
            *bounds[i] = (float)shr_tensor_get(&v->constant, 0);
        }
    }
    return true;
}

bool shr__fuse_read_act(const struct shr_node *node, struct shr__act *ret)
{
    static const struct {
        const char *name;
        enum shr_act kind;
        float lo, hi; /* when the attributes alpha and beta are not given */
    } PLAIN[] = {
        {"Relu", SHR_ACT_RELU, 0, 0},
        {"LeakyRelu", SHR_ACT_LEAKY, 0.01f, 0},
        {"HardSigmoid", SHR_ACT_HARDSIGMOID, 0.2f, 0.5f},
        {"HardSwish", SHR_ACT_HARDSWISH, 0, 0},
        {"Sigmoid", SHR_ACT_SIGMOID, 0, 0},
        {"Tanh", SHR_ACT_TANH, 0, 0},
    };
    struct shr__act act = {SHR_ACT_NONE, 0, 0};
    if (node == NULL || !shr__fuse_is_f32(shr_node_in(node, 0))) {
        return false;
    }
    if (node->op == &shr__fused_activation) {
        *ret = shr__fuse_act_of(node);
        return true;
    }
    for (size_t i = 0; i < SHR_COUNT_OF(PLAIN); i++) {
        if (shr_node_is(node, PLAIN[i].name)) {
            act.kind = PLAIN[i].kind;
            act.lo = shr_node_float(node, "alpha", PLAIN[i].lo);
            act.hi = shr_node_float(node, "beta", PLAIN[i].hi);
        }
    }
    if (shr_node_is(node, "Gelu") &&
        strcmp(shr_node_text(node, "approximate", "none"), "none") == 0) {
        act.kind = SHR_ACT_GELU;
    } else if (shr_node_is(node, "Swish") && shr_node_float(node, "alpha", 1) == 1) {
        act.kind = SHR_ACT_SILU;
    } else if (shr_node_is(node, "Clip") && !read_clip(node, &act)) {
        return false;
    }
    if (act.kind == SHR_ACT_NONE) {
        return false;
    }
    *ret = act;
    return true;
}

struct shr__act shr__fuse_act_of(const struct shr_node *node)
{
    return (struct shr__act){(enum shr_act)shr_node_int(node, "act", SHR_ACT_NONE),
                             shr_node_float(node, "act_lo", 0), shr_node_float(node, "act_hi", 0)};
}

int shr__fuse_set_act(struct shr_graph *g, struct shr_node *node, struct shr__act act,
                      struct shr_err *err)
{
    int rc = shr_node_set_int(g, node, "act", (int64_t)act.kind, err);
    if (rc == 0 && act.lo != 0) {
        rc = shr_node_set_float(g, node, "act_lo", act.lo, err);
    }
    return rc != 0 || act.hi == 0 ? rc : shr_node_set_float(g, node, "act_hi", act.hi, err);
}

/* ── Spelled out ────────────────────────────────────────────────────────────────────────────── */

/* The operand of a binary node beside v. */
static struct shr_value *other(const struct shr_node *node, const struct shr_value *v)
{
    return shr_node_in(node, 0) == v ? shr_node_in(node, 1) : shr_node_in(node, 0);
}

/* The node that made operand i of another, of the type and read by that one alone; else NULL. */
static struct shr_node *maker(const struct shr_node *node, size_t i, const char *op_type)
{
    const struct shr_value *v = shr_node_in(node, i);
    return v != NULL && shr_node_is(v->producer, op_type) && shr_value_single_use(v) == node
               ? v->producer
               : NULL;
}

/* x * sigmoid(x), x * hardsigmoid(x) */
static bool is_gated(const struct shr_node *mul, struct shr_value **ret_x, enum shr_act *ret_act)
{
    for (size_t i = 0; i < 2; i++) {
        struct shr_value *x = shr_node_in(mul, 1 - i);
        const struct shr_node *gate = maker(mul, i, "Sigmoid");
        if (gate != NULL && shr_node_in(gate, 0) == x) {
            *ret_x = x;
            *ret_act = SHR_ACT_SILU;
            return true;
        }
        gate = maker(mul, i, "HardSigmoid");
        if (gate != NULL && shr_node_in(gate, 0) == x &&
            fabsf(shr_node_float(gate, "alpha", 0.2f) - 1.0f / 6) < 1e-6f &&
            shr_node_float(gate, "beta", 0.5f) == 0.5f) {
            *ret_x = x;
            *ret_act = SHR_ACT_HARDSWISH;
            return true;
        }
    }
    return false;
}

/* Is it erf(x / sqrt(2)) + 1 for some x? */
static bool is_erf_and_one(const struct shr_node *add, struct shr_value **ret_x)
{
    for (size_t i = 0; i < 2; i++) {
        const struct shr_node *erf = maker(add, i, "Erf");
        const struct shr_node *scale = erf == NULL ? NULL : maker(erf, 0, "Div");
        if (scale != NULL && is_constant(shr_node_in(add, 1 - i), 1) &&
            is_constant(shr_node_in(scale, 1), 1.4142135623730951)) {
            *ret_x = shr_node_in(scale, 0);
            return true;
        }
        scale = erf == NULL ? NULL : maker(erf, 0, "Mul");
        for (size_t k = 0; scale != NULL && k < 2; k++) {
            if (is_constant(shr_node_in(add, 1 - i), 1) &&
                is_constant(shr_node_in(scale, k), 0.7071067811865476)) {
                *ret_x = shr_node_in(scale, 1 - k);
                return true;
            }
        }
    }
    return false;
}

static bool is_half_of(const struct shr_value *v, const struct shr_value *x)
{
    return v != NULL && shr_node_is(v->producer, "Mul") &&
           ((shr_node_in(v->producer, 0) == x && is_constant(shr_node_in(v->producer, 1), 0.5)) ||
            (shr_node_in(v->producer, 1) == x && is_constant(shr_node_in(v->producer, 0), 0.5)));
}

/* The product of x, 1/2 and erf(x / sqrt(2)) + 1, in any order. */
static bool is_gelu(const struct shr_node *mul, struct shr_value **ret_x)
{
    for (size_t i = 0; i < 2; i++) {
        const struct shr_value *last = shr_node_in(mul, 1 - i);
        const struct shr_node *add = maker(mul, i, "Add"), *inner = maker(mul, i, "Mul");
        if (add != NULL && is_erf_and_one(add, ret_x) && is_half_of(last, *ret_x)) {
            return true;
        }
        for (size_t k = 0; inner != NULL && k < 2; k++) {
            add = maker(inner, k, "Add");
            if (add == NULL || !is_erf_and_one(add, ret_x)) {
                continue;
            }
            const struct shr_value *first = other(inner, shr_node_out(add, 0));
            if ((first == *ret_x && is_constant(last, 0.5)) ||
                (last == *ret_x && is_constant(first, 0.5))) {
                return true;
            }
        }
    }
    return false;
}

int shr__fuse_acts(struct shr_graph *g, struct shr_err *err)
{
    for (struct shr_node *node = g->first_node; node != NULL; node = node->next) {
        struct shr__act act = {SHR_ACT_GELU, 0, 0};
        struct shr_value *x;
        if (!shr_node_is(node, "Mul") || !shr__fuse_is_f32(shr_node_in(node, 0)) ||
            !(is_gated(node, &x, &act.kind) || is_gelu(node, &x)) ||
            !shr_type_equal(&x->type, &shr_node_out(node, 0)->type)) {
            continue;
        }
        struct shr_value *out = shr_node_out(node, 0);
        struct shr__cut cut = shr__fuse_cut(g, node);
        int rc = shr__fuse_put(g, &cut, &shr__fused_activation, &x, 1, out, &node, err);
        if (rc == 0) {
            rc = shr__fuse_set_act(g, node, act, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    shr_graph_drop_unused(g);
    return SHR_OK;
}
