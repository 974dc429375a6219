/* Fused pools of NHWC images: the windows of float32, the largest of uint8, the mean of all pixels.
 * The inner loops run over channels. Work is split by output rows, or by channels. */
#include <math.h>

#include "exec/fused.h"

static int qmaxpool_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_window win;
    struct shr_conv_shape *s = NULL;
    int rc = shr__fused_window(c, NULL, &win, err);
    if (rc == 0) {
        rc = shr__fused_memory(c, 1, sizeof *s, &s, err);
    }
    if (rc == 0) {
        int64_t channels = x->dim[x->rank - 1];
        *s = shr_window_conv(&win, x->dim[0], channels, channels, 1);
        c->state = s;
    }
    return rc;
}

static int qmaxpool_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    c->kernels->maxpool_u8(c->state, c->in[0]->data, c->out[0]->data);
    return SHR_OK;
}

const struct shr_op shr__fused_qmaxpool = {SHR__FUSED_ROW("QMaxPool"), .setup = qmaxpool_setup,
                                           .forward = qmaxpool_forward};

/* ── float32 ────────────────────────────────────────────────────────────────────────────────── */

struct pool {
    struct shr_window_axis h, w;
    size_t n, c;
    bool average, count_pads;
};

static int setup(struct shr_op_setup *c, bool average, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_window win;
    struct pool *p = NULL;
    int rc = shr__fused_window(c, NULL, &win, err);
    if (rc == 0) {
        rc = shr__fused_memory(c, 1, sizeof *p, &p, err);
    }
    if (rc == 0) {
        *p = (struct pool){.h = win.axis[1],
                           .w = win.axis[2],
                           .n = (size_t)x->dim[0],
                           .c = (size_t)x->dim[x->rank - 1],
                           .average = average,
                           .count_pads = shr_node_int(c->node, "count_include_pad", 0) != 0};
        c->state = p;
    }
    return rc;
}

static int max_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return setup(c, false, err);
}

static int average_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return setup(c, true, err);
}

/* The taps of output o inside [low, high) of the axis: from *ret_from, *ret_n of them. */
static void taps_of(const struct shr_window_axis *a, int64_t o, int64_t low, int64_t high,
                    int64_t *ret_from, int64_t *ret_n)
{
    *ret_from = *ret_n = 0;
    for (int64_t k = 0; k < a->kernel; k++) {
        int64_t i = shr_window_at(a, o, k);
        if (i >= low && i < high) {
            *ret_from = *ret_n == 0 ? k : *ret_from;
            ++*ret_n;
        }
    }
}

static int64_t taps_counted(const struct pool *p, const struct shr_window_axis *a, int64_t o)
{
    int64_t from, n;
    taps_of(a, o, p->count_pads ? -a->pad_lo : 0, p->count_pads ? a->in + a->pad_hi : a->in, &from,
            &n);
    return n;
}

static void largest(size_t n, const float *x, float *restrict y)
{
    for (size_t i = 0; i < n; i++) { /* a NaN is the largest */
        y[i] = x[i] > y[i] || x[i] != x[i] ? x[i] : y[i];
    }
}

static void add(size_t n, const float *x, float *restrict y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

static void fill(size_t n, float v, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = v;
    }
}

struct work {
    const struct pool *p;
    const float *x; /* (n, h, w, c) */
    float *y;       /* (n, oh, ow, c) */
};

/* One row of outputs. */
static void pool_row(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct work *work = arg;
    const struct pool *p = work->p;
    const int64_t oh = (int64_t)task % p->h.out;
    const float *image = work->x + task / (size_t)p->h.out * (size_t)(p->h.in * p->w.in) * p->c;
    float *y = work->y + task * (size_t)p->w.out * p->c;
    int64_t kh, n_kh, kw, n_kw;
    taps_of(&p->h, oh, 0, p->h.in, &kh, &n_kh);
    for (int64_t ow = 0; ow < p->w.out; ow++, y += p->c) {
        taps_of(&p->w, ow, 0, p->w.in, &kw, &n_kw);
        fill(p->c, p->average ? 0 : -INFINITY, y);
        for (int64_t i = 0; i < n_kh * n_kw; i++) {
            int64_t row = shr_window_at(&p->h, oh, kh + i / n_kw);
            int64_t col = shr_window_at(&p->w, ow, kw + i % n_kw);
            const float *x = image + (size_t)(row * p->w.in + col) * p->c;
            (p->average ? add : largest)(p->c, x, y);
        }
        int64_t count = p->average ? taps_counted(p, &p->h, oh) * taps_counted(p, &p->w, ow) : 1;
        for (size_t i = 0; p->average && i < p->c; i++) {
            y[i] = count == 0 ? 0 : y[i] / (float)count;
        }
    }
}

static int pool_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct pool *p = c->state;
    struct work work = {p, c->in[0]->data, c->out[0]->data};
    shr_team_run(c->team, p->n * (size_t)p->h.out, pool_row, &work);
    return SHR_OK;
}

const struct shr_op shr__fused_maxpool = {SHR__FUSED_ROW("MaxPool"), .setup = max_setup,
                                          .forward = pool_forward};
const struct shr_op shr__fused_avgpool = {SHR__FUSED_ROW("AveragePool"), .setup = average_setup,
                                          .forward = pool_forward};

/* ── The mean of all pixels ─────────────────────────────────────────────────────────────────── */

enum {
    CHANNELS = 64, /* of a task */
    PIXELS = 32    /* summed apart, so that the error grows slowly */
};

struct mean {
    const float *x; /* (n, pixels, c) */
    float *y;       /* (n, c) */
    size_t n, pixels, c;
};

static void mean_channels(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct mean *m = arg;
    const size_t blocks = (m->c + CHANNELS - 1) / CHANNELS, first = task % blocks * CHANNELS;
    const size_t n = m->c - first < CHANNELS ? m->c - first : CHANNELS;
    const float *x = m->x + task / blocks * m->pixels * m->c + first;
    float sum[CHANNELS] = {0}, *y = m->y + task / blocks * m->c + first;
    for (size_t i = 0; i < m->pixels; i += PIXELS) {
        float part[CHANNELS] = {0};
        for (size_t k = i; k < m->pixels && k < i + PIXELS; k++) {
            add(n, x + k * m->c, part);
        }
        add(n, part, sum);
    }
    for (size_t i = 0; i < n; i++) {
        y[i] = m->pixels == 0 ? 0 : sum[i] / (float)m->pixels;
    }
}

static int mean_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    struct mean m = {.x = x->data, .y = c->out[0]->data, .n = (size_t)x->dim[0], .pixels = 1};
    m.c = (size_t)x->dim[x->rank - 1];
    for (int d = 1; d + 1 < x->rank; d++) {
        m.pixels *= (size_t)x->dim[d];
    }
    shr_team_run(c->team, m.n * ((m.c + CHANNELS - 1) / CHANNELS), mean_channels, &m);
    return SHR_OK;
}

const struct shr_op shr__fused_mean = {SHR__FUSED_ROW("MeanOfPixels"), .forward = mean_forward};
