/* GRU and RNN (opset 7 on), float32; see recurrent.h.
 *
 * The gates of a GRU lie in a row as ONNX orders them: z, r, h.
 *     z, r = f(G + H R')
 *     H~   = g(Gh + (r * H) Rh')              or, when linear_before_reset,
 *            g(Gh + r * (H Rh' + Rbh))
 *     H    = (1 - z) * H~ + z * H
 * R is packed as two matrices, of z and r and of h. RNN is H = f(G + H R'). */
#include "ops/families.h"
#include "ops/grad.h"
#include "ops/recurrent.h"

enum { W = SHR_RNN_W, R, B }; /* input slots */

static const struct shr_rnn_form gru_form = {
    .gates = 3,
    .n_acts = 2,
    .acts = {SHR_RNN_SIGMOID, SHR_RNN_TANH},
};
static const struct shr_rnn_form rnn_form = {.gates = 1, .n_acts = 1, .acts = {SHR_RNN_TANH}};

/* ── GRU ────────────────────────────────────────────────────────────────────────────────────── */

/* z and r of a row: g (2h) = f(g + step); then what the second product reads: r * H. */
static void gates_row(const struct shr_rnn_pass *p, float *g, const float *step, const float *h,
                      float *reset)
{
    const size_t n = (size_t)p->s->h;
    p->c->kernels->add_f32(2 * n, g, step, g);
    shr_rnn_clip(p->s, 2 * p->s->h, g);
    shr_rnn_activate(p, 0, 2 * p->s->h, g, g);
    p->c->kernels->mul_f32(n, g + n, h, reset);
}

/* g (3h) with z and r done, candidate (h) the second product. */
static void update_row(const struct shr_rnn_pass *p, float *g, const float *candidate, float *h)
{
    const int64_t n = p->s->h;
    const float *z = g, *r = g + n;
    float *c = g + 2 * n;
    for (int64_t j = 0; j < n; j++) {
        c[j] += p->s->reset_after ? r[j] * candidate[j] : candidate[j];
    }
    shr_rnn_clip(p->s, n, c);
    shr_rnn_activate(p, 1, n, c, c);
    for (int64_t j = 0; j < n; j++) {
        h[j] = (1.0f - z[j]) * c[j] + z[j] * h[j];
    }
}

static void gru_step(const struct shr_rnn_pass *p, int64_t step, float *g)
{
    const struct shr_rnn *s = p->s;
    const int64_t h = s->h, gates = s->gates;
    float *candidate = p->step + 2 * h; /* of each row, behind z and r */
    const float *bias = s->reset_after && p->r_bias != NULL ? p->r_bias + 2 * h : NULL;
    shr_rnn_float_state(p, 0, p->h, NULL, p->step);
    for (int64_t i = 0; i < s->n; i++) {
        gates_row(p, g + i * gates, p->step + i * gates, p->h + i * h, p->cell + i * h);
    }
    shr_rnn_float_state(p, 1, s->reset_after ? p->h : p->cell, bias, candidate);
    for (int64_t i = 0; i < s->n; i++) {
        if (step < shr_rnn_length(p, i)) {
            update_row(p, g + i * gates, candidate + i * gates, p->h + i * h);
        }
    }
}

static int gru_infer(struct shr_infer *c, struct shr_err *err)
{
    return shr_rnn_infer(c, &gru_form, err);
}

static int gru_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_rnn_float_setup(c, &gru_form, 2, err);
}

static int gru_forward(const struct shr_op_call *c, struct shr_err *err)
{
    static const struct shr_rnn_cell cell = {shr_rnn_float_begin, shr_rnn_float_input, gru_step};
    return shr_rnn_forward(c, &cell, err);
}

static int64_t gru_macs(const struct shr_node *node, const struct shr_type *in,
                        const struct shr_type *out)
{
    (void)node;
    (void)out;
    return shr_rnn_macs(in, &gru_form);
}

/* ── RNN ────────────────────────────────────────────────────────────────────────────────────── */

static void rnn_step(const struct shr_rnn_pass *p, int64_t step, float *g)
{
    const struct shr_rnn *s = p->s;
    shr_rnn_float_state(p, 0, p->h, NULL, p->step);
    p->c->kernels->add_f32((size_t)(s->n * s->gates), g, p->step, g);
    for (int64_t i = 0; i < s->n; i++) {
        if (step < shr_rnn_length(p, i)) {
            shr_rnn_clip(s, s->h, g + i * s->h);
            shr_rnn_activate(p, 0, s->h, g + i * s->h, p->h + i * s->h);
        }
    }
}

static int rnn_infer(struct shr_infer *c, struct shr_err *err)
{
    return shr_rnn_infer(c, &rnn_form, err);
}

static int rnn_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_rnn_float_setup(c, &rnn_form, 1, err);
}

static int rnn_forward(const struct shr_op_call *c, struct shr_err *err)
{
    static const struct shr_rnn_cell cell = {shr_rnn_float_begin, shr_rnn_float_input, rnn_step};
    return shr_rnn_forward(c, &cell, err);
}

static int64_t rnn_macs(const struct shr_node *node, const struct shr_type *in,
                        const struct shr_type *out)
{
    (void)node;
    (void)out;
    return shr_rnn_macs(in, &rnn_form);
}

#define RECURRENT(name, prefix)                                                                    \
    SHR_ROW(name, 7, 0), SHR_SLOTS(3, 6, 0, 2),                                                    \
        .infer = prefix##_infer, .setup = prefix##_setup, .forward = prefix##_forward,             \
        .macs = prefix##_macs, .prune_role = SHR_PRUNE_WEIGHTED, .weight_slot = W, .bias_slot = B

static const struct shr_op rows[] = {{RECURRENT("GRU", gru), .training = shr_training_gru},
                                     {RECURRENT("RNN", rnn)}};
const struct shr_op_family shr_ops_gru = {rows, SHR_COUNT_OF(rows)};
