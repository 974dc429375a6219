/* What the LSTMs share, float32 (rnn.c) and of quantized weights (quant_lstm.c): shapes, states,
 * the order of the steps and the gates. They differ in how X * W' and H * R' are computed.
 *
 * For files in ops/ only. Nothing here allocates. Thread: any. */
#ifndef SHR_OPS_LSTM_H
#define SHR_OPS_LSTM_H

#include "ops/util.h"

enum { /* input slots that they have in common */
       SHR_LSTM_X,
       SHR_LSTM_W,
       SHR_LSTM_R,
       SHR_LSTM_B,
       SHR_LSTM_LENGTHS,
       SHR_LSTM_H0,
       SHR_LSTM_C0,
       SHR_LSTM_P,
};

/* transposed: W is (directions, in, 4h) and R (directions, h, 4h), else (directions, 4h, in) and
 * (directions, 4h, h). */
int shr_lstm_infer(struct shr_infer *c, bool transposed, struct shr_err *err) SHR_MUSTCHECK;

int64_t shr_lstm_macs(const struct shr_type *in, bool transposed);

struct shr_lstm { /* the begin of what setup makes as the node's state */
    int64_t seq, n, in, h, directions;
    bool first_reverse, batch_first, coupled; /* coupled: f = 1 - i (input_forget) */
    float clip;                               /* of the gates' sums; 0 = none */
    int64_t block;                            /* steps of G at a time */
    struct {                                  /* offsets in scratch, bytes */
        size_t x, bias, g, step, h, c, tanh;
    } at;
};

/* Fills *ret from shapes and attributes; UNSUPPORTED when its activations cannot be run. */
int shr_lstm_setup(const struct shr_op_setup *c, bool transposed, struct shr_lstm *ret,
                   struct shr_err *err) SHR_MUSTCHECK;

/* Scratch is laid out by taking: n elements of a size. What does not fit a size_t is told by
 * take_end, which sets c->scratch. */
struct shr_lstm_scratch {
    size_t total;
    bool too_large;
};
size_t shr_lstm_take(struct shr_lstm_scratch *scratch, int64_t n, size_t size);
void shr_lstm_take_shared(struct shr_lstm_scratch *scratch, struct shr_lstm *s);
int shr_lstm_take_end(struct shr_op_setup *c, const struct shr_lstm_scratch *scratch,
                      struct shr_err *err) SHR_MUSTCHECK;

struct shr_lstm_pass { /* one direction of one call */
    const struct shr_lstm *s;
    const struct shr_op_call *c;
    int64_t d;
    bool reverse;
    const void *w, *r;     /* packed; set by begin of the products */
    float x_scale;         /* set there too, of quantized weights only */
    int32_t x_zero;        /* likewise */
    const float *peephole; /* (3h): i, o, f; or NULL */
    float *bias;           /* (4h) */
    float *g;              /* (block * n, 4h) */
    float *step;           /* (n, 4h) */
    float *h, *cell;       /* (n, h) */
    float *tanh;           /* (h) */
};

struct shr_lstm_products {
    void (*begin)(struct shr_lstm_pass *p);
    /* p->g = x W' + p->bias, x (rows, in) */
    void (*input)(const struct shr_lstm_pass *p, int64_t rows, const float *x);
    /* p->step = p->h R', for a step of the sequence */
    void (*state)(const struct shr_lstm_pass *p, int64_t step);
};

int shr_lstm_forward(const struct shr_op_call *c, const struct shr_lstm_products *products,
                     struct shr_err *err) SHR_MUSTCHECK;

int64_t shr_lstm_length(const struct shr_lstm_pass *p, int64_t row); /* steps of a row */

/* Room in the scratch of a call. */
static inline void *shr_lstm_room(const struct shr_lstm_pass *p, size_t at)
{
    return (char *)p->c->scratch + at;
}

#endif
