/* Groups of DequantizeLinear, an elementwise operator, Concat or a pool, and QuantizeLinear become
 * one integer step. A function of one element, and a change of scale, is a table of 256. */
#include "exec/fuse_quant.h"

static bool is_signed(const struct shr_value *v)
{
    return v->type.dtype == SHR_DTYPE_I8;
}

/* The step in place of the node. Its activations are all of one type. */
static int put_step(struct shr_graph *g, struct shr_node **at, const struct shr_op *row,
                    struct shr_value *const *in, size_t n_in, struct shr_value *out,
                    struct shr_err *err)
{
    struct shr__cut cut = shr__fuse_cut(g, *at);
    int rc = shr__fuse_put(g, &cut, row, in, n_in, out, at, err);
    return rc != 0 ? rc : shr_node_set_int(g, *at, "flip", is_signed(out), err);
}

/* Takes a quantizer out; its output is free for another. */
static struct shr_value *take_output(struct shr_graph *g, struct shr_node *quantizer)
{
    struct shr_value *out = shr_node_out(quantizer, 0);
    shr_graph_remove_node(g, quantizer);
    return out;
}

/* ── Two operands of one shape ──────────────────────────────────────────────────────────────── */

static int fuse_binary(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at, *relu = NULL, *quantize;
    bool add = shr_node_is(node, "Add");
    struct shr__quant a, b, y;
    if (!(add || shr_node_is(node, "Mul")) || !shr__quant_is_activation(shr_node_in(node, 0), &a) ||
        !shr__quant_is_activation(shr_node_in(node, 1), &b) ||
        !shr_type_equal(&a.q->type, &b.q->type)) {
        return SHR_OK;
    }
    relu = add ? shr__fuse_next(node, "Relu") : NULL;
    quantize = shr__quant_next(relu == NULL ? node : relu, a.q->type.dtype, &y);
    if (quantize == NULL) {
        return SHR_OK;
    }
    struct shr_value *out = take_output(g, quantize);
    if (relu != NULL) {
        shr_graph_remove_node(g, relu);
    }
    struct shr_value *in[] = {a.q, a.scale, a.zero, b.q, b.scale, b.zero, y.scale, y.zero};
    int rc =
        put_step(g, at, add ? &shr__fused_qadd : &shr__fused_qmul, in, SHR_COUNT_OF(in), out, err);
    return rc != 0 ? rc : shr_node_set_int(g, *at, "relu", relu != NULL, err);
}

/* ── One operand ────────────────────────────────────────────────────────────────────────────── */

/* Q(f(DQ(q))), with any scales. */
static int fuse_table(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    struct shr__quant x, y;
    struct shr__act act;
    if (!shr__fuse_read_act(node, &act) || !shr__quant_is_activation(shr_node_in(node, 0), &x)) {
        return SHR_OK;
    }
    struct shr_node *quantize = shr__quant_next(node, x.q->type.dtype, &y);
    if (quantize == NULL) {
        return SHR_OK;
    }
    struct shr_value *in[] = {x.q, x.scale, x.zero, y.scale, y.zero};
    int rc =
        put_step(g, at, &shr__fused_qtable, in, SHR_COUNT_OF(in), take_output(g, quantize), err);
    return rc != 0 ? rc : shr__fuse_set_act(g, *at, act, err);
}

/* Q(DQ(q)) with other parameters. */
static int fuse_rescale(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    struct shr__quant x, y;
    if (!shr__quant_is_quantizer(node, &y) || !shr__quant_is_activation(y.q, &x) ||
        x.q->type.dtype != shr_node_out(node, 0)->type.dtype) {
        return SHR_OK;
    }
    struct shr_value *in[] = {x.q, x.scale, x.zero, y.scale, y.zero};
    return put_step(g, at, &shr__fused_qtable, in, SHR_COUNT_OF(in), shr_node_out(node, 0), err);
}

static int fuse_mean(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    struct shr__quant x, y;
    if (!shr_node_is(node, "GlobalAveragePool") ||
        !shr__quant_is_activation(shr_node_in(node, 0), &x) || x.q->type.rank < 3) {
        return SHR_OK;
    }
    struct shr_node *quantize = shr__quant_next(node, x.q->type.dtype, &y);
    if (quantize == NULL) {
        return SHR_OK;
    }
    struct shr_value *in[] = {x.q, x.scale, x.zero, y.scale, y.zero};
    return put_step(g, at, &shr__fused_qmean, in, SHR_COUNT_OF(in), take_output(g, quantize), err);
}

/* ── Concat ─────────────────────────────────────────────────────────────────────────────────── */

static bool all_activations(const struct shr_node *node, enum shr_dtype dtype)
{
    struct shr__quant x;
    for (size_t i = 0; i < node->n_in; i++) {
        if (!shr__quant_is_activation(shr_node_in(node, i), &x) || x.q->type.dtype != dtype) {
            return false;
        }
    }
    return node->n_in > 0;
}

/* q, or in front of the node a table that gives it the parameters of y. */
static int rescale(struct shr_graph *g, struct shr_node *before, const struct shr__quant *x,
                   const struct shr__quant *y, struct shr_value **ret, struct shr_err *err)
{
    struct shr_value *in[] = {x->q, x->scale, x->zero, y->scale, y->zero};
    struct shr_node *node;
    if (shr__quant_same(x, y)) {
        *ret = x->q;
        return SHR_OK;
    }
    int rc = shr__fuse_value(g, x->q->name, &x->q->type, ret, err);
    if (rc == 0) {
        rc = shr__fuse_add(g, before, &shr__fused_qtable, in, SHR_COUNT_OF(in), *ret, &node, err);
    }
    return rc != 0 ? rc : shr_node_set_int(g, node, "flip", is_signed(x->q), err);
}

/* Q(Concat(DQ(q), …)) moves integers, after those of another scale were given that of the result.
 */
static int fuse_concat(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at, *quantize = NULL;
    struct shr__quant x, y;
    if (shr_node_is(node, "Concat") && shr__quant_is_activation(shr_node_in(node, 0), &x)) {
        quantize = shr__quant_next(node, x.q->type.dtype, &y);
    }
    if (quantize == NULL || !all_activations(node, x.q->type.dtype)) {
        return SHR_OK;
    }
    int rc = SHR_OK;
    for (size_t i = 0; rc == 0 && i < node->n_in; i++) {
        struct shr_value *q = NULL;
        shr__quant_is_activation(shr_node_in(node, i), &x);
        rc = rescale(g, node, &x, &y, &q, err);
        if (rc == 0) {
            shr_node_set_input(node, i, q);
        }
    }
    if (rc != 0) {
        return rc;
    }
    struct shr_value *out = take_output(g, quantize);
    struct shr_value **in = shr_arena_new(g->arena, node->n_in + 1, sizeof *in);
    if (in == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    const struct shr_op *row = node->op;
    const size_t n_in = node->n_in;
    for (size_t i = 0; i < n_in; i++) {
        in[i] = shr_node_in(node, i);
    }
    struct shr__cut cut = shr__fuse_cut(g, node);
    return shr__fuse_put(g, &cut, row, in, n_in, out, at, err);
}

int shr__fuse_qmap(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    int (*const rules[])(struct shr_graph *, struct shr_node **, struct shr_err *) = {
        fuse_binary, fuse_table, fuse_rescale, fuse_mean, fuse_concat,
    };
    int rc = SHR_OK;
    for (size_t i = 0; i < SHR_COUNT_OF(rules) && rc == 0; i++) {
        rc = rules[i](g, at, err);
    }
    return rc;
}
