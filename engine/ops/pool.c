/* Pools: MaxPool (float32 and 8 bit), AveragePool, LpPool, and all three over whole images
 * (float32).
 *
 * A tap at a time over a whole output row: the row of outputs whose tap lies inside the input is
 * known beforehand, so that the inner loop has no conditions. */
#include "ops/window.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

static int pool_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    struct shr_type *y = &c->out[0];
    y->dtype = x->dtype;
    if (x->rank >= 0) {
        struct shr_window win;
        int code = shr_window_init(&win, c->node, x, NULL, err);
        if (code != SHR_OK) {
            return code;
        }
        y->rank = x->rank;
        shr_type_copy_dim(y, 0, x, 0);
        shr_type_copy_dim(y, 1, x, 1);
        for (int i = 0; i < win.n; i++) {
            shr_type_set_dim(y, 2 + i, win.axis[SHR_WINDOW_AXES - win.n + i].out, NULL);
        }
    }
    if (c->n_out > 1) {
        c->out[1] = *y;
        c->out[1].dtype = SHR_DTYPE_I64;
    }
    return SHR_OK;
}

struct pool {
    struct shr_window win;
    bool count_pads, column_major;
};

static int pool_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct pool *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    int code = shr_window_of(&s->win, c->node, c->in[0], NULL, err);
    s->count_pads = shr_node_int(c->node, "count_include_pad", 0) != 0;
    s->column_major = shr_node_int(c->node, "storage_order", 0) != 0;
    c->state = s;
    return code;
}

static int max_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_BIT(F32) | SHR_BIT(I8) | SHR_BIT(U8), err);
    return code == SHR_OK ? pool_setup(c, err) : code;
}

static int average_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_setup_f32(c, err);
    return code == SHR_OK ? pool_setup(c, err) : code;
}

/* ── Taps ───────────────────────────────────────────────────────────────────────────────────── */

struct line {         /* the taps over one output row that lie inside the input */
    int64_t x;        /* offset of the input row */
    int64_t kw;       /* tap in the row */
    int64_t from, to; /* outputs of the row */
};

struct taps { /* of output row (od, oh) */
    const struct shr_window *win;
    int64_t od, oh, k;
};

static bool next_line(struct taps *t, struct line *ret)
{
    const struct shr_window_axis *d = &t->win->axis[0], *h = &t->win->axis[1],
                                 *w = &t->win->axis[2];
    while (t->k < d->kernel * h->kernel * w->kernel) {
        int64_t k = t->k++, kw = k % w->kernel;
        int64_t id = shr_window_at(d, t->od, k / w->kernel / h->kernel);
        int64_t ih = shr_window_at(h, t->oh, k / w->kernel % h->kernel);
        shr_window_inside(w, kw, &ret->from, &ret->to);
        if (id >= 0 && id < d->in && ih >= 0 && ih < h->in && ret->from < ret->to) {
            ret->kw = kw;
            ret->x = (id * h->in + ih) * w->in;
            return true;
        }
    }
    return false;
}

#define MAX_FN(tag, T, LOWEST)                                                                     \
    /* x (d, h, w) to y (od, oh, ow) */                                                            \
    static void max_##tag(const struct shr_window *win, const T *x, T *y)                          \
    {                                                                                              \
        const struct shr_window_axis *h = &win->axis[1], *w = &win->axis[2];                       \
        for (int64_t i = 0; i < win->axis[0].out * h->out; i++, y += w->out) {                     \
            struct taps taps = {win, i / h->out, i % h->out, 0};                                   \
            struct line line;                                                                      \
            for (int64_t o = 0; o < w->out; o++) {                                                 \
                y[o] = LOWEST;                                                                     \
            }                                                                                      \
            while (next_line(&taps, &line)) {                                                      \
                int64_t at = line.x + shr_window_at(w, 0, line.kw);                                \
                for (int64_t o = line.from; o < line.to; o++) {                                    \
                    T v = x[at + o * w->stride];                                                   \
                    y[o] = v > y[o] || v != v ? v : y[o];                                          \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

MAX_FN(f32, float, -INFINITY)
MAX_FN(i8, int8_t, INT8_MIN)
MAX_FN(u8, uint8_t, 0)

static int64_t volume(const struct shr_window *win, bool out)
{
    int64_t n = 1;
    for (int i = 0; i < SHR_WINDOW_AXES; i++) {
        n *= out ? win->axis[i].out : win->axis[i].in;
    }
    return n;
}

/* Where each maximum came from, as a flat index into the whole input. */
static void max_indices(const struct pool *s, const struct shr_tensor *x, int64_t plane,
                        int64_t *index)
{
    const struct shr_window *win = &s->win;
    const struct shr_window_axis *h = &win->axis[1], *w = &win->axis[2];
    int64_t first = plane * volume(win, false);
    for (int64_t i = 0; i < win->axis[0].out * h->out; i++) {
        for (int64_t o = 0; o < w->out; o++) {
            struct taps taps = {win, i / h->out, i % h->out, 0};
            struct line line;
            int64_t best = -1;
            while (next_line(&taps, &line)) {
                int64_t at = line.x + shr_window_at(w, o, line.kw);
                if (o >= line.from && o < line.to &&
                    (best < 0 || shr_tensor_get(x, first + at) > shr_tensor_get(x, first + best))) {
                    best = at;
                }
            }
            if (s->column_major && best >= 0) { /* of the last two axes */
                int64_t rest = best % (h->in * w->in);
                best += rest % w->in * h->in + rest / w->in - rest;
            }
            index[i * w->out + o] = best < 0 ? -1 : first + best;
        }
    }
}

static int max_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct pool *s = c->state;
    const struct shr_tensor *x = c->in[0]; /* (n, c, d, h, w) */
    int64_t in = volume(&s->win, false), out = volume(&s->win, true);
    for (int64_t i = 0; i < x->dim[0] * x->dim[1]; i++) {
        if (x->dtype == SHR_DTYPE_F32) {
            max_f32(&s->win, (const float *)x->data + i * in, (float *)c->out[0]->data + i * out);
        } else if (x->dtype == SHR_DTYPE_I8) {
            max_i8(&s->win, (const int8_t *)x->data + i * in, (int8_t *)c->out[0]->data + i * out);
        } else {
            max_u8(&s->win, (const uint8_t *)x->data + i * in,
                   (uint8_t *)c->out[0]->data + i * out);
        }
        if (c->n_out > 1 && c->out[1] != NULL) {
            max_indices(s, x, i, (int64_t *)c->out[1]->data + i * out);
        }
    }
    return SHR_OK;
}

/* Taps of output o that count: inside the input, or inside its padding too. */
static int64_t taps_counted(const struct shr_window_axis *a, int64_t o, bool pads)
{
    int64_t low = pads ? -a->pad_lo : 0, high = pads ? a->in + a->pad_hi : a->in, n = 0;
    for (int64_t k = 0; k < a->kernel; k++) {
        int64_t i = shr_window_at(a, o, k);
        n += i >= low && i < high;
    }
    return n;
}

/* x (d, h, w) to y (od, oh, ow) */
static void average_plane(const struct pool *s, const float *x, float *y)
{
    const struct shr_window *win = &s->win;
    const struct shr_window_axis *d = &win->axis[0], *h = &win->axis[1], *w = &win->axis[2];
    for (int64_t i = 0; i < d->out * h->out; i++, y += w->out) {
        struct taps taps = {win, i / h->out, i % h->out, 0};
        struct line line;
        memset(y, 0, (size_t)w->out * sizeof *y);
        while (next_line(&taps, &line)) {
            int64_t at = line.x + shr_window_at(w, 0, line.kw);
            for (int64_t o = line.from; o < line.to; o++) {
                y[o] += x[at + o * w->stride];
            }
        }
        int64_t rows =
            taps_counted(d, i / h->out, s->count_pads) * taps_counted(h, i % h->out, s->count_pads);
        for (int64_t o = 0; o < w->out; o++) {
            int64_t n = rows * taps_counted(w, o, s->count_pads);
            y[o] = n == 0 ? 0.0f : y[o] / (float)n;
        }
    }
}

static int average_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct pool *s = c->state;
    const float *x = c->in[0]->data; /* (n, c, d, h, w) */
    float *y = c->out[0]->data;
    for (int64_t i = 0; i < c->in[0]->dim[0] * c->in[0]->dim[1]; i++) {
        average_plane(s, x + i * volume(&s->win, false), y + i * volume(&s->win, true));
    }
    return SHR_OK;
}

/* ── LpPool: the p-th root of the sum of |x|^p ──────────────────────────────────────────────── */

static double power(double x, int64_t p)
{
    return p == 1 ? fabs(x) : p == 2 ? x * x : pow(fabs(x), (double)p);
}

static double root(double sum, int64_t p)
{
    return p == 1 ? sum : p == 2 ? sqrt(sum) : pow(sum, 1.0 / (double)p);
}

static int lp_infer(struct shr_infer *c, struct shr_err *err)
{
    int64_t p = shr_node_int(c->node, "p", 2);
    return p >= 1 ? pool_infer(c, err)
                  : shr_op_fail(c->node, err, SHR_ERR_INVALID, "p is %lld", (long long)p);
}

/* x (d, h, w) to y (od, oh, ow) */
static void lp_plane(const struct shr_window *win, int64_t p, const float *x, float *y)
{
    const struct shr_window_axis *h = &win->axis[1], *w = &win->axis[2];
    for (int64_t i = 0; i < win->axis[0].out * h->out * w->out; i++) {
        const int64_t row = i / w->out, o = i % w->out;
        struct taps taps = {win, row / h->out, row % h->out, 0};
        struct line line;
        double sum = 0.0;
        while (next_line(&taps, &line)) {
            if (o >= line.from && o < line.to) {
                sum += power((double)x[line.x + shr_window_at(w, o, line.kw)], p);
            }
        }
        y[i] = (float)root(sum, p);
    }
}

static int lp_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct pool *s = c->state;
    const float *x = c->in[0]->data; /* (n, c, d, h, w) */
    float *y = c->out[0]->data;
    const int64_t p = shr_node_int(c->node, "p", 2);
    for (int64_t i = 0; i < c->in[0]->dim[0] * c->in[0]->dim[1]; i++) {
        lp_plane(&s->win, p, x + i * volume(&s->win, false), y + i * volume(&s->win, true));
    }
    return SHR_OK;
}

/* ── Global pools ───────────────────────────────────────────────────────────────────────────── */

static int global_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0] = c->in[0];
    if (c->in[0].rank >= 0 && c->in[0].rank < 3) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the input has %d dims, not 3 or more",
                           c->in[0].rank);
    }
    for (int i = 2; i < c->in[0].rank; i++) {
        shr_type_set_dim(&c->out[0], i, 1, NULL);
    }
    return SHR_OK;
}

static int global_average_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *t = c->in[0]; /* (n, c, spatial…) */
    int64_t size = shr_dims_product(t->dim, 2, t->rank);
    const float *x = t->data;
    float *y = c->out[0]->data;
    for (int64_t i = 0; i < t->dim[0] * t->dim[1]; i++, x += size) {
        double sum = 0.0;
        for (int64_t j = 0; j < size; j++) {
            sum += (double)x[j];
        }
        y[i] = size == 0 ? 0.0f : (float)(sum / (double)size);
    }
    return SHR_OK;
}

static int global_max_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *t = c->in[0]; /* (n, c, spatial…) */
    int64_t size = shr_dims_product(t->dim, 2, t->rank);
    const float *x = t->data;
    float *y = c->out[0]->data;
    for (int64_t i = 0; i < t->dim[0] * t->dim[1]; i++, x += size) {
        y[i] = -INFINITY;
        for (int64_t j = 0; j < size; j++) {
            y[i] = x[j] > y[i] || x[j] != x[j] ? x[j] : y[i];
        }
    }
    return SHR_OK;
}

static int global_lp_infer(struct shr_infer *c, struct shr_err *err)
{
    int64_t p = shr_node_int(c->node, "p", 2);
    return p >= 1 ? global_infer(c, err)
                  : shr_op_fail(c->node, err, SHR_ERR_INVALID, "p is %lld", (long long)p);
}

static int global_lp_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *t = c->in[0]; /* (n, c, spatial…) */
    const int64_t size = shr_dims_product(t->dim, 2, t->rank), p = shr_node_int(c->node, "p", 2);
    const float *x = t->data;
    float *y = c->out[0]->data;
    for (int64_t i = 0; i < t->dim[0] * t->dim[1]; i++, x += size) {
        double sum = 0.0;
        for (int64_t j = 0; j < size; j++) {
            sum += power((double)x[j], p);
        }
        y[i] = (float)root(sum, p);
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("AveragePool", 7, 0), SHR_SLOTS(1, 1, 1, 1), .infer = pool_infer,
     .setup = average_setup, .forward = average_forward, .backward = shr_backward_average_pool,
     .quant_role = SHR_QUANT_ARITH, .prune_role = SHR_PRUNE_PASS, SHR_NO_WEIGHT},
    {SHR_ROW("GlobalAveragePool", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = global_infer,
     .setup = shr_op_setup_f32, .forward = global_average_forward,
     .backward = shr_backward_global_average_pool, .quant_role = SHR_QUANT_ARITH,
     .prune_role = SHR_PRUNE_PASS, SHR_NO_WEIGHT},
    {SHR_ROW("GlobalLpPool", 2, 0), SHR_SLOTS(1, 1, 1, 1), .infer = global_lp_infer,
     .setup = shr_op_setup_f32, .forward = global_lp_forward, SHR_NO_WEIGHT},
    {SHR_ROW("GlobalMaxPool", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = global_infer,
     .setup = shr_op_setup_f32, .forward = global_max_forward,
     .backward = shr_backward_global_max_pool, .quant_role = SHR_QUANT_PASS,
     .prune_role = SHR_PRUNE_PASS, SHR_NO_WEIGHT},
    {SHR_ROW("LpPool", 2, 0), SHR_SLOTS(1, 1, 1, 1), .infer = lp_infer, .setup = average_setup,
     .forward = lp_forward, SHR_NO_WEIGHT},
    {SHR_ROW("MaxPool", 1, 0), SHR_SLOTS(1, 1, 1, 2), .infer = pool_infer, .setup = max_setup,
     .forward = max_forward, .backward = shr_backward_max_pool, .quant_role = SHR_QUANT_PASS,
     .prune_role = SHR_PRUNE_PASS, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_pool = {rows, SHR_COUNT_OF(rows)};
