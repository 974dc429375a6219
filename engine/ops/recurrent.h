/* What the recurrent layers share, LSTM (lstm.c), GRU and RNN (gru.c) and LSTM of quantized
 * weights (quant_lstm.c): shapes, states, activations and the order of the steps. They differ in
 * their cells, and in how X * W' and H * R' are computed.
 *
 * For files in ops/ only. Nothing here allocates. Thread: any. */
#ifndef SHR_OPS_RECURRENT_H
#define SHR_OPS_RECURRENT_H

#include "ops/util.h"

enum { /* input slots that they have in common; C0 and P of an LSTM only */
       SHR_RNN_X,
       SHR_RNN_W,
       SHR_RNN_R,
       SHR_RNN_B,
       SHR_RNN_LENGTHS,
       SHR_RNN_H0,
       SHR_RNN_C0,
       SHR_RNN_P,
};

enum shr_rnn_act_kind { /* as ONNX names them */
                        SHR_RNN_AFFINE,
                        SHR_RNN_ELU,
                        SHR_RNN_HARD_SIGMOID,
                        SHR_RNN_LEAKY_RELU,
                        SHR_RNN_RELU,
                        SHR_RNN_SCALED_TANH,
                        SHR_RNN_SIGMOID,
                        SHR_RNN_SOFTPLUS,
                        SHR_RNN_SOFTSIGN,
                        SHR_RNN_TANH,
                        SHR_RNN_THRESHOLDED_RELU,
                        SHR_RNN_ACT_COUNT
};

struct shr_rnn_act {
    enum shr_rnn_act_kind kind;
    float alpha, beta;
};

enum { SHR_RNN_MAX_ACTS = 3 };

struct shr_rnn_form { /* what tells the operators apart */
    int gates;        /* W is (directions, gates * h, in), R (directions, gates * h, h) */
    bool transposed;  /* instead W is (directions, in, gates * h), R (directions, h, gates * h) */
    bool has_cell;    /* there are C0, P and Y_c */
    int n_acts;       /* of a direction */
    enum shr_rnn_act_kind acts[SHR_RNN_MAX_ACTS]; /* the defaults */
};

int shr_rnn_infer(struct shr_infer *c, const struct shr_rnn_form *form,
                  struct shr_err *err) SHR_MUSTCHECK;

int64_t shr_rnn_macs(const struct shr_type *in, const struct shr_rnn_form *form);

struct shr_rnn { /* the begin of what setup makes as the node's state */
    int64_t seq, n, in, h, directions;
    int64_t gates;                                /* gates * h of the form: columns */
    bool first_reverse, batch_first;              /* layout 1 */
    bool coupled;                                 /* LSTM: f = 1 - i (input_forget) */
    bool reset_after;                             /* GRU: linear_before_reset */
    float clip;                                   /* of the gates' sums; 0 = none */
    struct shr_rnn_act acts[2][SHR_RNN_MAX_ACTS]; /* of each direction */
    int64_t block;                                /* steps of G at a time */
    struct {                                      /* offsets in scratch, bytes */
        size_t x, bias, g, step, h, c, row;
    } at;
};

/* Fills *ret from shapes and attributes; UNSUPPORTED names an activation that is not known. */
int shr_rnn_setup(const struct shr_op_setup *c, const struct shr_rnn_form *form,
                  struct shr_rnn *ret, struct shr_err *err) SHR_MUSTCHECK;

/* Scratch is laid out by taking: n elements of a size. What does not fit a size_t is told by
 * take_end, which sets c->scratch. */
struct shr_rnn_scratch {
    size_t total;
    bool too_large;
};
size_t shr_rnn_take(struct shr_rnn_scratch *scratch, int64_t n, size_t size);
void shr_rnn_take_shared(struct shr_rnn_scratch *scratch, struct shr_rnn *s);
int shr_rnn_take_end(struct shr_op_setup *c, const struct shr_rnn_scratch *scratch,
                     struct shr_err *err) SHR_MUSTCHECK;

struct shr_rnn_pass { /* one direction of one call */
    const struct shr_rnn *s;
    const struct shr_op_call *c;
    int64_t d;
    bool reverse;
    const void *w, *r;     /* packed; set by begin of the cell */
    float x_scale;         /* set there too, of quantized weights only */
    int32_t x_zero;        /* likewise */
    const float *peephole; /* (3h): i, o, f; or NULL */
    float *bias;         /* (gates): of W and R, added up; of a GRU with reset_after the last h are
                            of W alone */
    const float *r_bias; /* (gates): of R; or NULL */
    float *g;            /* (block * n, gates) */
    float *step;         /* (n, gates) */
    float *h, *cell;     /* (n, h); of a GRU cell is room for r * H */
    float *row;          /* (h) */
};

struct shr_rnn_cell {
    void (*begin)(struct shr_rnn_pass *p);
    /* p->g = x W' + p->bias, x (rows, in) */
    void (*input)(const struct shr_rnn_pass *p, int64_t rows, const float *x);
    /* One step: from g (n, gates) and p->h come the new p->h and p->cell of the rows whose sequence
     * is not over. */
    void (*step)(const struct shr_rnn_pass *p, int64_t step, float *g);
};

int shr_rnn_forward(const struct shr_op_call *c, const struct shr_rnn_cell *cell,
                    struct shr_err *err) SHR_MUSTCHECK;

int64_t shr_rnn_length(const struct shr_rnn_pass *p, int64_t row); /* steps of a row */

void shr_rnn_clip(const struct shr_rnn *s, int64_t n, float *v); /* to [-clip, clip], if wanted */

/* v = activation i of the pass's direction */
void shr_rnn_activate(const struct shr_rnn_pass *p, int i, int64_t n, const float *x, float *y);

/* The step of an LSTM behind its product: p->step is H R'. In lstm.c. */
void shr_lstm_step(const struct shr_rnn_pass *p, int64_t step, float *g);
extern const struct shr_rnn_form shr_lstm_form, shr_lstm_transposed_form;

/* Products in float32 (lstm.c): W as one packed matrix and R as one or two, of its first rows and
 * of the rest, packed once when they are constant and while running otherwise. */
struct shr_rnn_float {
    struct shr_rnn shared; /* first: what recurrent.c sees */
    const char *w, *r;     /* (directions) packed; NULL = not constant: packed in scratch */
    int64_t r_split;       /* rows of R in its first matrix */
    size_t w_size, r_first, r_size, at_w, at_r;
};
int shr_rnn_float_setup(struct shr_op_setup *c, const struct shr_rnn_form *form, int split,
                        struct shr_err *err) SHR_MUSTCHECK; /* split: gates of the first matrix */
void shr_rnn_float_begin(struct shr_rnn_pass *p);
void shr_rnn_float_input(const struct shr_rnn_pass *p, int64_t rows, const float *x);
/* y (n, columns of the part), row stride p->s->gates, = x (n, h) times a part of R', + bias */
void shr_rnn_float_state(const struct shr_rnn_pass *p, int part, const float *x, const float *bias,
                         float *y);

/* Room in the scratch of a call. */
static inline void *shr_rnn_room(const struct shr_rnn_pass *p, size_t at)
{
    return (char *)p->c->scratch + at;
}

#endif
