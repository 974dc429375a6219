/* LSTM and GRU in training, float32, with the default activations and without lengths, peepholes
 * and clip: LSTMTrain, LSTMGrad, GRUTrain, GRUGrad. A GRU resets after its product.
 *
 *     …Train (X, W, R, B, H0, C0) -> Y, Y_h, Y_c, gates, kept; the last two are (directions, seq,
 * n, gates * h) and (directions, seq, n, h): cells of an LSTM, of a GRU H R' of the new state …Grad
 * (dY, dY_h, dY_c, X, W, R, B, H0, C0, Y, gates, kept) -> dX, dW, dR, dB, dH0, dC0 C0, Y_c and
 * their gradients are of an LSTM only. With input_gradient = 0 nobody reads dX, which is left as it
 * is.
 *
 * DESIGN. What does not depend on the state is one product over all steps: X W' in front, and
 * behind the way back dX = dG W and, at once, [X, H]' dG, which is dW and dR transposed. The steps
 * between are of rows that know nothing of each other: a task takes some rows of the batch through
 * all steps of a direction, with R packed once for all of them. */
#include <string.h>

#include "ops/families.h"
#include "ops/train_image.h"

enum { X, W, R, B, H0, C0, TRAIN_IN };
enum { Y, Y_H, Y_C, GATES, KEPT, TRAIN_OUT };
enum { DY, DY_H, DY_C, FORWARD, G_Y = FORWARD + TRAIN_IN, G_GATES, G_KEPT, GRAD_IN };
enum { DX, DW, DR, DB, DH0, DC0, GRAD_OUT };
enum { LEAST_ROWS = 8 }; /* of a task */

struct rnn {
    int64_t seq, n, in, h, directions, columns; /* columns: of all gates */
    bool lstm, first_reverse, input_gradient;
    int64_t chunks; /* of the rows of a batch */
    size_t r_size, w_size, zero_at, w_at, r_at, bias_at, first;
    /* of the way back */
    size_t dg_at, ds_at, state_at, left_at, before_at, right_at, result_at, dc_at;
};

static const struct shr_tensor *given(const struct shr_op_call *c, size_t slot)
{
    return shr_op_given(c->n_in, c->in, slot);
}

static const float *data_of(const struct shr_op_call *c, size_t slot)
{
    const struct shr_tensor *t = given(c, slot);
    return t == NULL ? NULL : t->data;
}

static float *out_of(const struct shr_op_call *c, size_t slot)
{
    return slot < c->n_out && c->out[slot] != NULL ? c->out[slot]->data : NULL;
}

static float *room(const struct shr_op_call *c, size_t at)
{
    return (float *)(void *)((char *)c->scratch + at);
}

/* ── Setup ──────────────────────────────────────────────────────────────────────────────────── */

static size_t packed_size(const struct shr_op_setup *c, int64_t k, int64_t n)
{
    const size_t size = c->kernels->gemm_f32_size((size_t)k, (size_t)n);
    return (size + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
}

/* first: the slot of X. */
static int rnn_init(struct shr_op_setup *c, size_t first, bool lstm, struct rnn **ret,
                    struct shr_err *err)
{
    struct rnn *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = *ret = s;
    const struct shr_tensor *x = c->in[first + X], *w = c->in[first + W], *r = c->in[first + R];
    if (x->rank != 3 || w->rank != 3 || r->rank != 3 || r->dim[0] != w->dim[0] ||
        w->dim[2] != x->dim[2] || r->dim[1] != w->dim[1] ||
        r->dim[1] != (lstm ? 4 : 3) * r->dim[2]) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the operands do not fit each other");
    }
    *s = (struct rnn){.seq = x->dim[0],
                      .n = x->dim[1],
                      .in = x->dim[2],
                      .h = r->dim[2],
                      .directions = w->dim[0],
                      .columns = w->dim[1],
                      .lstm = lstm,
                      .first_reverse = shr_node_int(c->node, "reverse", 0) != 0,
                      .input_gradient = shr_node_int(c->node, "input_gradient", 1) != 0,
                      .first = first};
    s->chunks = s->n / LEAST_ROWS < (int64_t)c->threads ? s->n / LEAST_ROWS : (int64_t)c->threads;
    s->chunks = s->chunks < 1 ? 1 : s->chunks;
    int code = shr_op_setup_f32(c, err);
    return code == SHR_OK ? shr_image_room(c, s->n * s->h, sizeof(float), &s->zero_at, err) : code;
}

/* Room for float arrays and packed matrices, one after the other. */
static int take(struct shr_op_setup *c, int64_t n, size_t size, size_t *ret_at, int code,
                struct shr_err *err)
{
    return code == SHR_OK ? shr_image_room(c, n, size, ret_at, err) : code;
}

/* ── A direction ────────────────────────────────────────────────────────────────────────────── */

struct pass { /* of one direction */
    const struct shr_op_call *c;
    const struct rnn *s;
    int64_t d;
    bool reverse;
    float *gates, *kept;  /* (seq, n, columns), (seq, n, h) */
    const float *y;       /* (seq, directions, n, h), at the direction */
    const float *h0, *c0; /* (n, h) */
    const char *r;        /* packed */
    const float *state_bias;
    /* of the way back */
    float *dg, *ds, *state; /* (seq, n, columns) twice, the same of an LSTM; (n, h) */
    float *dc;              /* (n, h) */
};

static struct pass pass_of(const struct shr_op_call *c, int64_t d, float *gates, float *kept,
                           const float *y)
{
    const struct rnn *s = c->state;
    const int64_t rows = s->seq * s->n, n_state = s->n * s->h;
    const float *h0 = data_of(c, s->first + H0), *c0 = data_of(c, s->first + C0);
    const float *zero = room(c, s->zero_at);
    return (struct pass){.c = c,
                         .s = s,
                         .d = d,
                         .reverse = d == 1 || s->first_reverse,
                         .gates = gates + d * rows * s->columns,
                         .kept = kept + d * rows * s->h,
                         .y = y + d * n_state,
                         .h0 = h0 == NULL ? zero : h0 + d * n_state,
                         .c0 = c0 == NULL ? zero : c0 + d * n_state};
}

static int64_t time_of(const struct pass *p, int64_t step)
{
    return p->reverse ? p->s->seq - 1 - step : step;
}

/* The hidden state in front of a step, (n, h). */
static const float *state_before(const struct pass *p, int64_t step)
{
    const struct rnn *s = p->s;
    return step == 0 ? p->h0 : p->y + time_of(p, step - 1) * s->directions * s->n * s->h;
}

static const float *cell_before(const struct pass *p, int64_t step)
{
    return step == 0 ? p->c0 : p->kept + time_of(p, step - 1) * p->s->n * p->s->h;
}

/* ── Forward ────────────────────────────────────────────────────────────────────────────────── */

static int train_setup(struct shr_op_setup *c, bool lstm, struct shr_err *err)
{
    struct rnn *s = NULL;
    int code = rnn_init(c, 0, lstm, &s, err);
    if (code != SHR_OK) {
        return code;
    }
    s->w_size = packed_size(c, s->in, s->columns);
    s->r_size = packed_size(c, s->h, lstm ? s->columns : 2 * s->h);
    const size_t r_all = s->r_size + (lstm ? 0 : packed_size(c, s->h, s->h));
    code = take(c, (int64_t)s->w_size, 1, &s->w_at, code, err);
    code = take(c, (int64_t)r_all, 1, &s->r_at, code, err);
    return take(c, s->columns, sizeof(float), &s->bias_at, code, err);
}

/* sums += state times R', of the rows of a task; of a GRU the new state's part stays apart */
static void add_state(const struct pass *p, const float *state, int64_t rows, float *sums,
                      float *apart)
{
    const struct rnn *s = p->s;
    const size_t h = (size_t)s->h, columns = (size_t)s->columns;
    struct shr_gemm_f32 g = {.m = (size_t)rows,
                             .n = s->lstm ? columns : 2 * h,
                             .k = h,
                             .a = state,
                             .lda = h,
                             .b = p->r,
                             .c = sums,
                             .ldc = columns,
                             .add = true};
    p->c->kernels->gemm_f32(&g);
    if (!s->lstm) {
        g.n = h;
        g.b = p->r + s->r_size;
        g.bias = p->state_bias;
        g.c = apart;
        g.ldc = h;
        g.add = false;
        p->c->kernels->gemm_f32(&g);
    }
}

static void forward_rows(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct pass *p = arg;
    const struct rnn *s = p->s;
    const struct shr_kernels *k = p->c->kernels;
    const int64_t from = s->n * (int64_t)task / s->chunks;
    const int64_t to = s->n * ((int64_t)task + 1) / s->chunks, h = s->h;
    float *y_all = (float *)p->c->out[Y]->data + p->d * s->n * h;
    for (int64_t step = 0; step < s->seq; step++) {
        const int64_t t = time_of(p, step);
        float *gates = p->gates + t * s->n * s->columns, *kept = p->kept + t * s->n * h;
        float *y = y_all + t * s->directions * s->n * h;
        const float *state = state_before(p, step), *cell = cell_before(p, step);
        add_state(p, state + from * h, to - from, gates + from * s->columns, kept + from * h);
        for (int64_t i = from; i < to; i++) {
            if (s->lstm) {
                k->lstm_cell_f32((size_t)h, gates + i * s->columns, cell + i * h, kept + i * h,
                                 y + i * h);
            } else {
                k->gru_cell_f32((size_t)h, gates + i * s->columns, kept + i * h, state + i * h,
                                y + i * h);
            }
        }
    }
}

/* Packs W and R of a direction, and adds up the biases that are added together. */
static void forward_pack(struct pass *p)
{
    const struct rnn *s = p->s;
    const struct shr_kernels *k = p->c->kernels;
    const size_t h = (size_t)s->h, in = (size_t)s->in, columns = (size_t)s->columns;
    const size_t first = s->lstm ? columns : 2 * h;
    const float *w = (const float *)p->c->in[W]->data + (size_t)p->d * columns * in;
    const float *r = (const float *)p->c->in[R]->data + (size_t)p->d * columns * h;
    const float *b = data_of(p->c, B);
    float *bias = room(p->c, s->bias_at);
    char *packed = (char *)p->c->scratch + s->r_at;
    k->gemm_f32_pack(in, columns, w, in, true, room(p->c, s->w_at));
    k->gemm_f32_pack(h, first, r, h, true, packed);
    if (!s->lstm) {
        k->gemm_f32_pack(h, h, r + first * h, h, true, packed + s->r_size);
    }
    b = b == NULL ? NULL : b + (size_t)p->d * 2 * columns;
    for (size_t i = 0; i < columns; i++) {
        bias[i] = b == NULL ? 0.0f : i < first ? b[i] + b[columns + i] : b[i];
    }
    p->r = packed;
    p->state_bias = b == NULL || s->lstm ? NULL : b + columns + first;
}

static void store_last(const struct pass *p, size_t slot, const float *from)
{
    float *to = out_of(p->c, slot);
    const size_t n = (size_t)(p->s->n * p->s->h);
    if (to != NULL) {
        memcpy(to + (size_t)p->d * n, from, n * sizeof *to);
    }
}

static int train_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct rnn *s = c->state;
    const size_t columns = (size_t)s->columns;
    memset(room(c, s->zero_at), 0, (size_t)(s->n * s->h) * sizeof(float));
    for (int64_t d = 0; d < s->directions; d++) {
        struct pass p = pass_of(c, d, c->out[GATES]->data, c->out[KEPT]->data, c->out[Y]->data);
        forward_pack(&p);
        c->kernels->gemm_f32_team(&(struct shr_gemm_f32){.m = (size_t)(s->seq * s->n),
                                                         .n = columns,
                                                         .k = (size_t)s->in,
                                                         .a = c->in[X]->data,
                                                         .lda = (size_t)s->in,
                                                         .b = room(c, s->w_at),
                                                         .bias = room(c, s->bias_at),
                                                         .c = p.gates,
                                                         .ldc = columns},
                                  c->team);
        shr_team_run(c->team, (size_t)s->chunks, forward_rows, &p);
        store_last(&p, Y_H, state_before(&p, s->seq));
        store_last(&p, Y_C, cell_before(&p, s->seq));
    }
    return SHR_OK;
}

/* ── Backward ───────────────────────────────────────────────────────────────────────────────── */

static int grad_setup(struct shr_op_setup *c, bool lstm, struct shr_err *err)
{
    struct rnn *s = NULL;
    int code = rnn_init(c, FORWARD, lstm, &s, err);
    if (code != SHR_OK) {
        return code;
    }
    const int64_t rows = s->seq * s->n;
    s->r_size = packed_size(c, s->columns, s->h);
    s->w_size = packed_size(c, s->columns, s->in);
    code = take(c, (int64_t)s->r_size, 1, &s->r_at, code, err);
    code = take(c, (int64_t)s->w_size, 1, &s->w_at, code, err);
    code = take(c, rows * s->columns, sizeof(float), &s->dg_at, code, err);
    s->ds_at = s->dg_at;
    if (!lstm) {
        code = take(c, rows * s->columns, sizeof(float), &s->ds_at, code, err);
    }
    code = take(c, s->n * s->h, sizeof(float), &s->state_at, code, err);
    code = take(c, s->n * s->h, sizeof(float), &s->dc_at, code, err);
    code = take(c, rows * (s->in > s->h ? s->in : s->h), sizeof(float), &s->left_at, code, err);
    code = take(c, rows * s->h, sizeof(float), &s->before_at, code, err);
    code = take(c, (int64_t)packed_size(c, rows, s->columns), 1, &s->right_at, code, err);
    return take(c, (s->in > s->h ? s->in : s->h) * s->columns, sizeof(float), &s->result_at, code,
                err);
}

static void grad_rows(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct pass *p = arg;
    const struct rnn *s = p->s;
    const struct shr_kernels *k = p->c->kernels;
    const int64_t from = s->n * (int64_t)task / s->chunks, h = s->h, columns = s->columns;
    const int64_t to = s->n * ((int64_t)task + 1) / s->chunks;
    const float *dy_all = data_of(p->c, DY);
    for (int64_t step = s->seq; step-- > 0;) {
        const int64_t t = time_of(p, step);
        const float *gates = p->gates + t * s->n * columns, *kept = p->kept + t * s->n * h;
        const float *state = state_before(p, step), *cell = cell_before(p, step);
        const float *dy = dy_all + (t * s->directions + p->d) * s->n * h;
        float *dg = p->dg + t * s->n * columns, *ds = p->ds + t * s->n * columns;
        for (int64_t i = from; i < to; i++) {
            float *dh = p->state + i * h;
            if (dy_all != NULL) {
                k->add_f32((size_t)h, dh, dy + i * h, dh);
            }
            if (s->lstm) {
                k->lstm_cell_grad_f32((size_t)h, gates + i * columns, cell + i * h, kept + i * h,
                                      dh, p->dc + i * h, dg + i * columns);
            } else {
                k->gru_cell_grad_f32((size_t)h, gates + i * columns, kept + i * h, state + i * h,
                                     dh, dg + i * columns, ds + i * columns);
            }
        }
        k->gemm_f32(&(struct shr_gemm_f32){.m = (size_t)(to - from),
                                           .n = (size_t)h,
                                           .k = (size_t)columns,
                                           .a = ds + from * columns,
                                           .lda = (size_t)columns,
                                           .b = p->r,
                                           .c = p->state + from * h,
                                           .ldc = (size_t)h,
                                           .add = !s->lstm});
    }
}

/* The gradients of the states behind the last step, or zeros. */
static void load_last(const struct pass *p, size_t slot, float *to)
{
    const size_t n = (size_t)(p->s->n * p->s->h);
    const float *from = data_of(p->c, slot);
    if (from == NULL) {
        memset(to, 0, n * sizeof *to);
    } else {
        memcpy(to, from + (size_t)p->d * n, n * sizeof *to);
    }
}

/* left (width, rows) = what is (rows, width) */
static void turn(const struct pass *p, size_t rows, size_t width, const float *from, float *to)
{
    p->c->kernels->transpose_f32(rows, width, from, to);
}

/* to (columns, width) = (rows, width) of left, transposed, times g (rows, columns), all of it
 * transposed; left lies as (width, rows) already. */
static void weights_product(const struct pass *p, const float *left, size_t width, float *to)
{
    const struct rnn *s = p->s;
    const size_t rows = (size_t)(s->seq * s->n), columns = (size_t)s->columns;
    float *result = room(p->c, s->result_at);
    p->c->kernels->gemm_f32_team(&(struct shr_gemm_f32){.m = width,
                                                        .n = columns,
                                                        .k = rows,
                                                        .a = left,
                                                        .lda = rows,
                                                        .b = room(p->c, s->right_at),
                                                        .c = result,
                                                        .ldc = columns},
                                 p->c->team);
    turn(p, width, columns, result, to);
}

static void grad_weights(const struct pass *p)
{
    const struct rnn *s = p->s;
    const struct shr_kernels *k = p->c->kernels;
    const size_t in = (size_t)s->in, h = (size_t)s->h, columns = (size_t)s->columns;
    const size_t n = (size_t)s->n, rows = (size_t)s->seq * n, d = (size_t)p->d;
    float *left = room(p->c, s->left_at), *right = room(p->c, s->right_at);
    float *before = room(p->c, s->before_at);
    turn(p, rows, in, p->c->in[FORWARD + X]->data, left);
    k->gemm_f32_pack(rows, columns, p->dg, columns, false, right);
    weights_product(p, left, in, (float *)p->c->out[DW]->data + d * columns * in);
    for (int64_t step = 0; step < s->seq; step++) { /* the states in front of the steps */
        memcpy(before + (size_t)time_of(p, step) * n * h, state_before(p, step),
               n * h * sizeof *before);
    }
    turn(p, rows, h, before, left);
    if (!s->lstm) {
        k->gemm_f32_pack(rows, columns, p->ds, columns, false, right);
    }
    weights_product(p, left, h, (float *)p->c->out[DR]->data + d * columns * h);
}

/* The sums over all rows, in order. */
static void sum_rows(const struct pass *p, const float *g, float *to)
{
    const size_t columns = (size_t)p->s->columns;
    memset(to, 0, columns * sizeof *to);
    for (int64_t i = 0; i < p->s->seq * p->s->n; i++) {
        p->c->kernels->add_f32(columns, to, g + (size_t)i * columns, to);
    }
}

static void grad_input(const struct pass *p)
{
    const struct rnn *s = p->s;
    const struct shr_kernels *k = p->c->kernels;
    const size_t in = (size_t)s->in, columns = (size_t)s->columns;
    const float *w = (const float *)p->c->in[FORWARD + W]->data + (size_t)p->d * columns * in;
    k->gemm_f32_pack(columns, in, w, in, false, room(p->c, s->w_at));
    k->gemm_f32_team(&(struct shr_gemm_f32){.m = (size_t)(s->seq * s->n),
                                            .n = in,
                                            .k = columns,
                                            .a = p->dg,
                                            .lda = columns,
                                            .b = room(p->c, s->w_at),
                                            .c = p->c->out[DX]->data,
                                            .ldc = in,
                                            .add = p->d > 0},
                     p->c->team);
}

static void grad_direction(struct pass *p)
{
    const struct rnn *s = p->s;
    const size_t h = (size_t)s->h, columns = (size_t)s->columns, n = (size_t)s->n * h;
    const float *r = (const float *)p->c->in[FORWARD + R]->data + (size_t)p->d * columns * h;
    float *dh0 = out_of(p->c, DH0), *dc0 = out_of(p->c, DC0);
    p->r = (char *)p->c->scratch + s->r_at;
    p->dg = room(p->c, s->dg_at);
    p->ds = room(p->c, s->ds_at);
    p->state = room(p->c, s->state_at);
    p->dc = room(p->c, s->dc_at);
    p->c->kernels->gemm_f32_pack(columns, h, r, h, false, room(p->c, s->r_at));
    load_last(p, DY_H, p->state);
    load_last(p, DY_C, p->dc);
    shr_team_run(p->c->team, (size_t)s->chunks, grad_rows, p);
    float *db = (float *)p->c->out[DB]->data + (size_t)p->d * 2 * columns;
    sum_rows(p, p->dg, db);
    if (s->lstm) {
        memcpy(db + columns, db, columns * sizeof *db);
    } else {
        sum_rows(p, p->ds, db + columns);
    }
    if (s->input_gradient) {
        grad_input(p);
    }
    grad_weights(p);
    if (dh0 != NULL) {
        memcpy(dh0 + (size_t)p->d * n, p->state, n * sizeof *dh0);
    }
    if (dc0 != NULL) {
        memcpy(dc0 + (size_t)p->d * n, p->dc, n * sizeof *dc0);
    }
}

static int grad_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct rnn *s = c->state;
    memset(room(c, s->zero_at), 0, (size_t)(s->n * s->h) * sizeof(float));
    for (int64_t d = 0; d < s->directions; d++) {
        struct pass p = pass_of(c, d, c->in[G_GATES]->data, c->in[G_KEPT]->data, c->in[G_Y]->data);
        grad_direction(&p);
    }
    return SHR_OK;
}

/* ── The rows ───────────────────────────────────────────────────────────────────────────────── */

static void set_type(struct shr_type *t, int rank, const int64_t *dim)
{
    t->dtype = SHR_DTYPE_F32;
    t->rank = rank;
    for (int i = 0; i < rank; i++) {
        shr_type_set_dim(t, i, dim[i], NULL);
    }
}

static int train_infer(struct shr_infer *c, struct shr_err *err)
{
    if (c->in[X].rank != 3 || c->in[R].rank != 3) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the operands do not fit each other");
    }
    const int64_t seq = c->in[X].dim[0], n = c->in[X].dim[1], d = c->in[R].dim[0];
    const int64_t columns = c->in[R].dim[1], h = c->in[R].dim[2];
    set_type(&c->out[Y], 4, (const int64_t[]){seq, d, n, h});
    set_type(&c->out[Y_H], 3, (const int64_t[]){d, n, h});
    set_type(&c->out[Y_C], 3, (const int64_t[]){d, n, h});
    set_type(&c->out[GATES], 4, (const int64_t[]){d, seq, n, columns});
    set_type(&c->out[KEPT], 4, (const int64_t[]){d, seq, n, h});
    return SHR_OK;
}

static int grad_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[FORWARD + X], *r = &c->in[FORWARD + R];
    if (x->rank != 3 || r->rank != 3) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the operands do not fit each other");
    }
    c->out[DX] = *x;
    c->out[DW] = c->in[FORWARD + W];
    c->out[DR] = *r;
    set_type(&c->out[DB], 2, (const int64_t[]){r->dim[0], 2 * r->dim[1]});
    set_type(&c->out[DH0], 3, (const int64_t[]){r->dim[0], x->dim[1], r->dim[2]});
    set_type(&c->out[DC0], 3, (const int64_t[]){r->dim[0], x->dim[1], r->dim[2]});
    return SHR_OK;
}

static int lstm_train_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return train_setup(c, true, err);
}

static int gru_train_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return train_setup(c, false, err);
}

static int lstm_grad_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return grad_setup(c, true, err);
}

static int gru_grad_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return grad_setup(c, false, err);
}

#define TRAIN(name_) .domain = SHR_TRAIN_DOMAIN, .name = name_, .since = 1, SHR_NO_WEIGHT
#define FORM(name_, setup_)                                                                        \
    {                                                                                              \
        TRAIN(name_), SHR_SLOTS(3, TRAIN_IN, TRAIN_OUT, TRAIN_OUT),                                \
            .infer = train_infer, .setup = setup_, .forward = train_forward,                       \
            .backward = shr_backward_rnn_train                                                     \
    }
#define GRAD(name_, setup_)                                                                        \
    {                                                                                              \
        TRAIN(name_), SHR_SLOTS(0, GRAD_IN, GRAD_OUT, GRAD_OUT),                                   \
            .infer = grad_infer, .setup = setup_, .forward = grad_forward                          \
    }

static const struct shr_op rows[] = {
    FORM("GRUTrain", gru_train_setup),
    FORM("LSTMTrain", lstm_train_setup),
    GRAD("GRUGrad", gru_grad_setup),
    GRAD("LSTMGrad", lstm_grad_setup),
};
const struct shr_op_family shr_ops_train_rnn = {rows, SHR_COUNT_OF(rows)};
