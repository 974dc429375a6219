/* Quantize/dequantize pairs become integer steps.
 *
 * DESIGN. First the pairs are moved next to the products: DequantizeLinear commutes with operators
 * that only move elements or pick the largest, in both directions, exactly; QuantizeLinear takes up
 * a Relu whose zero it saturates to. Then every product with a dequantized activation and
 * dequantized constant weights becomes one integer step, with the QuantizeLinear behind it when
 * there is one. DequantizeLinear nodes that nobody reads any more are dropped afterwards. */
#include <math.h>
#include <string.h>

#include "exec/fuse_quant.h"

static bool is_max_pool(const struct shr_node *node)
{
    const struct shr_value *in = shr_node_in(node, 0);
    return shr_node_is(node, "MaxPool") && shr_node_out(node, 1) == NULL && in != NULL &&
           (in->type.rank == 3 || in->type.rank == 4) &&
           shr_node_int(node, "storage_order", 0) == 0;
}

/* ── Moving quantization ────────────────────────────────────────────────────────────────────── */

/* A node on 8-bit integers instead: q in, out out. */
static int move_to_integers(struct shr_graph *g, struct shr_node *node, struct shr_value *q,
                            struct shr_value *out, struct shr_err *err)
{
    bool pool = is_max_pool(node);
    const struct shr_op *row = pool ? &shr__fused_qmaxpool : node->op;
    struct shr_value *in[] = {q, shr_node_in(node, 1)};
    size_t n_in = pool || node->n_in < 2 ? 1 : 2;
    struct shr__cut cut = shr__fuse_cut(g, node);
    struct shr_node *moved;
    return shr__fuse_put(g, &cut, row, in, n_in, out, &moved, err);
}

/* op(DQ(q)) becomes DQ(op(q)). *at becomes the new DequantizeLinear. */
static int push_down(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at, *before = node->next;
    struct shr__quant p;
    if (!(shr__fuse_only_moves(node) || is_max_pool(node)) ||
        !shr__quant_is_activation(shr_node_in(node, 0), &p)) {
        return SHR_OK;
    }
    const struct shr_op *row = shr_node_in(node, 0)->producer->op;
    struct shr_value *out = shr_node_out(node, 0), *moved;
    struct shr_type type = out->type;
    type.dtype = p.q->type.dtype;
    int rc = shr__fuse_value(g, out->name, &type, &moved, err);
    if (rc == 0) {
        rc = move_to_integers(g, node, p.q, moved, err);
    }
    struct shr_value *in[] = {moved, p.scale, p.zero};
    return rc != 0 ? rc : shr__fuse_add(g, before, row, in, p.zero == NULL ? 2 : 3, out, at, err);
}

/* Q(op(x)) becomes op(Q(x)). *at becomes the new QuantizeLinear. */
static int pull_up(struct shr_graph *g, struct shr_node **at, bool *ret_moved, struct shr_err *err)
{
    struct shr_node *quantize = *at, *node;
    struct shr__quant p;
    *ret_moved = false;
    if (!shr__quant_is_quantizer(quantize, &p) || (node = p.q->producer) == NULL ||
        shr_value_single_use(p.q) != quantize ||
        !(shr__fuse_only_moves(node) || is_max_pool(node))) {
        return SHR_OK;
    }
    const struct shr_op *row = quantize->op;
    struct shr_value *x = shr_node_in(node, 0), *y = shr_node_out(quantize, 0), *q;
    struct shr_type type = x->type;
    type.dtype = y->type.dtype;
    int rc = shr__fuse_value(g, y->name, &type, &q, err);
    if (rc != 0) {
        return rc;
    }
    shr_graph_remove_node(g, quantize);
    struct shr_value *in[] = {x, p.scale, p.zero};
    rc = shr__fuse_add(g, node, row, in, p.zero == NULL ? 2 : 3, q, at, err);
    *ret_moved = true;
    return rc != 0 ? rc : move_to_integers(g, node, q, y, err);
}

/* Q(DQ(q)) with the same parameters is q, and Q(Relu(x)) is Q(x) when real 0 is the smallest
 * integer; Clip likewise when its bounds lie outside of what the integers can tell. */
static void simplify_quantizer(struct shr_graph *g, struct shr_node *node)
{
    struct shr__quant to, from;
    struct shr__act act;
    if (!shr__quant_is_quantizer(node, &to)) {
        return;
    }
    struct shr_value *out = shr_node_out(node, 0);
    while (shr__fuse_read_act(to.q->producer, &act) &&
           shr__quant_implies(&to, out->type.dtype, &act)) {
        to.q = shr_node_in(to.q->producer, 0);
        shr_node_set_input(node, 0, to.q);
    }
    if (shr__quant_is_activation(to.q, &from) && shr__quant_same(&to, &from) &&
        from.q->type.dtype == out->type.dtype && !out->is_output && !out->captured) {
        shr_value_replace_uses(out, from.q);
        shr_graph_remove_node(g, node);
    }
}

/* A MaxPool of bytes works on them as they lie. */
static int take_max_pool(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    if (!is_max_pool(node) || !shr__quant_is_byte(shr_node_in(node, 0))) {
        return SHR_OK;
    }
    struct shr_value *x = shr_node_in(node, 0), *y = shr_node_out(node, 0);
    struct shr__cut cut = shr__fuse_cut(g, node);
    return shr__fuse_put(g, &cut, &shr__fused_qmaxpool, &x, 1, y, at, err);
}

static int move_all(struct shr_graph *g, struct shr_err *err)
{
    for (struct shr_node *node = g->first_node; node != NULL; node = node->next) {
        int rc = take_max_pool(g, &node, err);
        if (rc == 0) {
            rc = push_down(g, &node, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    for (struct shr_node *node = g->last_node; node != NULL;) {
        bool moved;
        int rc = pull_up(g, &node, &moved, err);
        if (rc != 0) {
            return rc;
        }
        node = moved ? node : node->prev;
    }
    for (struct shr_node *node = g->first_node, *next; node != NULL; node = next) {
        next = node->next;
        simplify_quantizer(g, node);
    }
    shr_graph_drop_unused(g);
    return SHR_OK;
}

/* ── Products ───────────────────────────────────────────────────────────────────────────────── */

struct product {
    struct shr__quant x, w, y;
    struct shr_value *bias, *bias_scale;
    int64_t channels;
    bool conv;
    struct shr_node *add, *clip, *quantize; /* behind the product; NULL = none */
    struct shr__act act;                    /* of clip: Relu, or Clip when it is quantized */
};

static bool weight_axis_fits(const struct shr_node *node, const struct shr__quant *w,
                             int64_t *ret_n)
{
    const struct shr_tensor *t = &w->q->constant;
    int64_t axis = 0;
    if (!shr_node_is(node, "Conv")) {
        axis = shr_node_is(node, "Gemm") && shr_node_int(node, "transB", 0) != 0 ? 0 : 1;
        if (t->rank != 2) {
            return false;
        }
    }
    *ret_n = t->dim[axis];
    return w->n == 1 || (w->axis == axis && w->n == *ret_n);
}

/* Is v a bias for n channels: float32, or int32 behind DequantizeLinear? */
static bool read_bias(struct shr_value *v, int64_t n, struct product *p)
{
    struct shr__quant b;
    if (shr__quant_is_dequantized(v, &b) && shr_value_is_constant(b.q) &&
        b.q->constant.dtype == SHR_DTYPE_I32 && shr_tensor_count(&b.q->constant) == n &&
        (b.n == 1 || b.n == n) && shr__quant_scalar(b.zero) == 0) {
        p->bias = b.q;
        p->bias_scale = b.scale;
        return true;
    }
    if (shr__fuse_is_row(v, n)) {
        p->bias = v;
        return true;
    }
    return false;
}

static bool is_supported_product(const struct shr_node *node)
{
    const struct shr_value *x = shr_node_in(node, 0);
    if (shr_node_is(node, "Gemm")) {
        return shr_node_float(node, "alpha", 1) == 1 && shr_node_float(node, "beta", 1) == 1 &&
               shr_node_int(node, "transA", 0) == 0;
    }
    return (shr_node_is(node, "MatMul") && x->type.rank >= 1) ||
           (shr_node_is(node, "Conv") && (x->type.rank == 3 || x->type.rank == 4));
}

static bool read_product(const struct shr_node *node, struct product *p)
{
    *p = (struct product){.conv = shr_node_is(node, "Conv")};
    if (!(p->conv || shr_node_is(node, "MatMul") || shr_node_is(node, "Gemm")) ||
        !shr__quant_is_activation(shr_node_in(node, 0), &p->x) || !is_supported_product(node) ||
        !shr__quant_is_dequantized(shr_node_in(node, 1), &p->w) || !shr_value_is_constant(p->w.q) ||
        !shr__quant_is_byte(p->w.q) || !weight_axis_fits(node, &p->w, &p->channels)) {
        return false;
    }
    struct shr_value *bias = shr_node_in(node, 2);
    return bias == NULL || read_bias(bias, p->channels, p);
}

/* The node that alone reads the output of another; NULL = there is none. */
static struct shr_node *behind(const struct shr_node *node)
{
    const struct shr_value *out = shr_node_out(node, 0);
    return out == NULL ? NULL : shr_value_single_use(out);
}

static void read_clip(const struct shr_node *last, struct product *p)
{
    struct shr_node *next = behind(last);
    if (shr__fuse_read_act(next, &p->act) &&
        (p->act.kind == SHR_ACT_RELU || p->act.kind == SHR_ACT_CLIP)) {
        p->clip = next;
    } else {
        p->act = (struct shr__act){SHR_ACT_NONE, 0, 0};
    }
}

/* What follows: the Add of MatMul's bias, a Relu or Clip, a QuantizeLinear. */
static void read_followers(const struct shr_node *node, struct product *p)
{
    const struct shr_node *last = node;
    struct shr_node *add = shr_node_is(node, "MatMul") ? shr__fuse_next(node, "Add") : NULL;
    for (size_t i = 0; add != NULL && p->add == NULL && i < 2; i++) {
        struct shr_value *other = shr_node_in(add, i);
        if (other != NULL && other != shr_node_out(node, 0) &&
            other->type.rank <= shr_node_out(node, 0)->type.rank &&
            read_bias(other, p->channels, p)) {
            p->add = add;
            last = add;
        }
    }
    read_clip(last, p);
    p->quantize = behind(p->clip == NULL ? last : p->clip);
    if (!shr__quant_is_quantizer(p->quantize, &p->y)) {
        p->quantize = NULL;
    }
    if (p->quantize == NULL && p->act.kind == SHR_ACT_CLIP) {
        p->clip = NULL;
        p->act.kind = SHR_ACT_NONE;
    }
}

/* A bias that is not on the accumulator's grid is rounded to it when the output is quantized; the
 * grid must be finer than the output's, and the bias fit. */
static bool bias_fits(const struct product *p)
{
    const double FINE = 1.0 / 16, MAX_BIAS = 1 << 30, SAME = 1e-6;
    const bool exact = p->bias != NULL && p->bias->constant.dtype == SHR_DTYPE_I32;
    if (p->bias == NULL || p->quantize == NULL) {
        return true;
    }
    for (int64_t i = 0; i < p->channels; i++) {
        double grid =
            shr__quant_scalar(p->x.scale) * shr_tensor_get(&p->w.scale->constant, i % p->w.n);
        double unit = !exact ? 1
                      : p->bias_scale == NULL
                          ? grid
                          : shr_tensor_get(&p->bias_scale->constant,
                                           i % shr_tensor_count(&p->bias_scale->constant));
        double b = shr_tensor_get(&p->bias->constant, i) * unit;
        if (exact && fabs(unit - grid) <= SAME * grid) {
            continue;
        }
        if (!(fabs(b / grid) < MAX_BIAS) || !(grid < FINE * shr__quant_scalar(p->y.scale))) {
            return false;
        }
    }
    return true;
}

static int64_t is_signed(const struct shr_value *v)
{
    return v->type.dtype == SHR_DTYPE_I8;
}

static int set_flags(struct shr_graph *g, struct shr_node *node, const struct product *p,
                     int64_t flip_y, struct shr_err *err)
{
    int rc = shr__fuse_set_act(g, node, p->act, err);
    if (rc == 0) {
        rc = shr_node_set_int(g, node, "flip_x", is_signed(p->x.q), err);
    }
    if (rc == 0) {
        rc = shr_node_set_int(g, node, "flip_y", flip_y, err);
    }
    return rc;
}

/* The fused step in place of the node; y is what it makes. */
static int put_product(struct shr_graph *g, struct shr_node **at, const struct product *p,
                       struct shr_value *y, struct shr_err *err)
{
    bool quantized = p->quantize != NULL;
    struct shr_value *in[SHR__Q_SLOTS] = {
        [SHR__Q_X] = p->x.q,
        [SHR__Q_X_SCALE] = p->x.scale,
        [SHR__Q_X_ZERO] = p->x.zero,
        [SHR__Q_W] = p->w.q,
        [SHR__Q_W_SCALE] = p->w.scale,
        [SHR__Q_W_ZERO] = p->w.zero,
        [SHR__Q_Y_SCALE] = quantized ? p->y.scale : NULL,
        [SHR__Q_Y_ZERO] = quantized ? p->y.zero : NULL,
        [SHR__Q_BIAS] = p->bias,
        [SHR__Q_BIAS_SCALE] = p->bias_scale,
    };
    const struct shr_op *row = p->conv ? &shr__fused_qconv : &shr__fused_qlinear;
    struct shr__cut cut = shr__fuse_cut(g, *at);
    int rc = shr__fuse_put(g, &cut, row, in, SHR__Q_SLOTS, y, at, err);
    return rc != 0 ? rc : set_flags(g, *at, p, quantized && is_signed(y), err);
}

/* *at becomes the fused node, if any. */
static int fuse_product(struct shr_graph *g, struct shr_node **at, struct shr_err *err)
{
    struct shr_node *node = *at;
    struct product p;
    if (!read_product(node, &p)) {
        return SHR_OK;
    }
    read_followers(node, &p);
    if (!bias_fits(&p)) {
        p.quantize = NULL;
        p.clip = p.act.kind == SHR_ACT_CLIP ? NULL : p.clip;
        p.act.kind = p.clip == NULL ? SHR_ACT_NONE : p.act.kind;
    }

    struct shr_node *const chain[] = {p.add, p.clip, p.quantize};
    struct shr_value *y = shr_node_out(node, 0);
    for (size_t i = 0; i < SHR_COUNT_OF(chain); i++) {
        if (chain[i] != NULL) {
            y = shr_node_out(chain[i], 0);
            shr_graph_remove_node(g, chain[i]);
        }
    }
    return put_product(g, at, &p, y, err);
}

int shr__fuse_qdq(struct shr_graph *g, struct shr_err *err)
{
    int rc = move_all(g, err);
    for (struct shr_node *node = g->first_node; rc == 0 && node != NULL; node = node->next) {
        rc = fuse_product(g, &node, err);
        if (rc == 0) {
            rc = shr__fuse_qmap(g, &node, err);
        }
    }
    return rc;
}
