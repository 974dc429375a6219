/* Fused pools of NHWC images: the windows of float32, the largest of uint8, the mean of all pixels;
 * see fuse.h. */
#include "exec/fused.h"

static int pool_setup(struct shr_op_setup *c, struct shr_err *err)
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

static int maxpool_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    c->kernels->maxpool_f32(c->state, c->in[0]->data, c->out[0]->data, c->team);
    return SHR_OK;
}

static int avgpool_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    bool count_pad = shr_node_int(c->node, "count_include_pad", 0) != 0;
    c->kernels->avgpool_f32(c->state, count_pad, c->in[0]->data, c->out[0]->data, c->team);
    return SHR_OK;
}

const struct shr_op shr__fused_qmaxpool = {SHR__FUSED_ROW("QMaxPool"), .setup = pool_setup,
                                           .forward = qmaxpool_forward};
const struct shr_op shr__fused_maxpool = {SHR__FUSED_ROW("MaxPool"), .setup = pool_setup,
                                          .forward = maxpool_forward};
const struct shr_op shr__fused_avgpool = {SHR__FUSED_ROW("AveragePool"), .setup = pool_setup,
                                          .forward = avgpool_forward};

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

static void add(size_t n, const float *x, float *restrict y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

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
