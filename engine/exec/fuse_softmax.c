/* Attention's Softmax takes up the scale and the mask in front of it: a product with or division by
 * a constant, then an Add of a bias or a Where with a constant. */
#include <math.h>

#include "exec/fuse.h"

struct masked {
    struct shr_value *x, *bias, *mask; /* bias and mask may be NULL */
    float scale, fill;
    bool fills_where; /* the mask tells where the fill stands, else where x does */
};

static bool is_scalar(const struct shr_value *v)
{
    return shr_value_is_constant(v) && shr__fuse_is_f32(v) && shr_tensor_count(&v->constant) == 1;
}

static bool is_like(const struct shr_value *a, const struct shr_value *b)
{
    return a != NULL && shr_type_equal(&a->type, &b->type);
}

/* The node of the type that made v for `reader` alone; else NULL. */
static struct shr_node *maker(const struct shr_value *v, const struct shr_node *reader,
                              const char *op_type)
{
    return shr_node_is(v->producer, op_type) && shr_value_single_use(v) == reader ? v->producer
                                                                                  : NULL;
}

/* *reader becomes the node whose x is left. */
static void take_mask(struct masked *m, struct shr_node **reader)
{
    struct shr_node *where = maker(m->x, *reader, "Where"), *add = maker(m->x, *reader, "Add");
    for (size_t i = 1; where != NULL && i <= 2; i++) {
        struct shr_value *x = shr_node_in(where, i);
        const struct shr_value *fill = shr_node_in(where, 3 - i);
        if (is_like(x, m->x) && is_scalar(fill) &&
            shr_node_in(where, 0)->type.rank <= x->type.rank) {
            m->mask = shr_node_in(where, 0);
            m->fill = (float)shr_tensor_get(&fill->constant, 0);
            m->fills_where = i == 2;
            m->x = x;
            *reader = where;
            return;
        }
    }
    for (size_t i = 0; add != NULL && i < 2; i++) {
        struct shr_value *x = shr_node_in(add, i), *bias = shr_node_in(add, 1 - i);
        if (is_like(x, m->x) && bias != x && shr__fuse_is_f32(bias)) {
            m->bias = bias;
            m->x = x;
            *reader = add;
            return;
        }
    }
}

static void take_scale(struct masked *m, const struct shr_node *reader)
{
    struct shr_node *div = maker(m->x, reader, "Div"), *mul = maker(m->x, reader, "Mul");
    if (div != NULL && is_scalar(shr_node_in(div, 1)) && is_like(shr_node_in(div, 0), m->x)) {
        m->scale = (float)(1 / shr_tensor_get(&shr_node_in(div, 1)->constant, 0));
        m->x = shr_node_in(div, 0);
    }
    for (size_t i = 0; mul != NULL && i < 2; i++) {
        if (is_scalar(shr_node_in(mul, i)) && is_like(shr_node_in(mul, 1 - i), m->x)) {
            m->scale = (float)shr_tensor_get(&shr_node_in(mul, i)->constant, 0);
            m->x = shr_node_in(mul, 1 - i);
            return;
        }
    }
}

static int put(struct shr_graph *g, struct shr_node **at, const struct masked *m,
               struct shr_err *err)
{
    struct shr_value *in[] = {m->x, m->bias, m->mask}, *out = shr_node_out(*at, 0);
    struct shr__cut cut = shr__fuse_cut(g, *at);
    cut.attrs = NULL;
    int rc = shr__fuse_put(g, &cut, &shr__fused_softmax, in, SHR_COUNT_OF(in), out, at, err);
    if (rc == 0) {
        rc = shr_node_set_float(g, *at, "scale", m->scale, err);
    }
    if (rc == 0) {
        rc = shr_node_set_float(g, *at, "fill", m->fill, err);
    }
    return rc != 0 ? rc : shr_node_set_int(g, *at, "fills_where", m->fills_where, err);
}

/* Of the last axis, told so that the opset does not matter. */
static bool is_of_last_axis(const struct shr_node *node)
{
    const struct shr_value *x = shr_node_in(node, 0);
    int64_t axis = shr_node_int(node, "axis", INT64_MIN);
    return shr_node_is(node, "Softmax") && shr__fuse_is_f32(x) && x->type.rank >= 1 &&
           (axis == -1 || axis == x->type.rank - 1);
}

int shr__fuse_softmax(struct shr_graph *g, struct shr_err *err)
{
    for (struct shr_node *node = g->first_node; node != NULL; node = node->next) {
        if (!is_of_last_axis(node)) {
            continue;
        }
        struct masked m = {.x = shr_node_in(node, 0), .scale = 1};
        struct shr_node *reader = node;
        take_mask(&m, &reader);
        take_scale(&m, reader);
        int rc =
            m.x == shr_node_in(node, 0) || !isfinite(m.scale) ? SHR_OK : put(g, &node, &m, err);
        if (rc != 0) {
            return rc;
        }
    }
    shr_graph_drop_unused(g);
    return SHR_OK;
}
