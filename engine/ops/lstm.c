/* LSTM (opset 7 on), float32, and the float32 products of all recurrent layers.
 *
 * The gates lie in a row as ONNX orders them: i, o, f, c.
 *     i, o, f = sigmoid(G + H R' + P * C),  C = f * C + i * tanh(Gc),  H = o * tanh(C)
 * The output gate's peephole sees the new C. */
#include "ops/families.h"
#include "ops/grad.h"
#include "ops/recurrent.h"

enum { W = SHR_RNN_W, R, B, LENGTHS }; /* input slots */

const struct shr_rnn_form shr_lstm_form = {
    .gates = 4,
    .has_cell = true,
    .n_acts = 3,
    .acts = {SHR_RNN_SIGMOID, SHR_RNN_TANH, SHR_RNN_TANH},
};
const struct shr_rnn_form shr_lstm_transposed_form = {
    .gates = 4,
    .transposed = true,
    .has_cell = true,
    .n_acts = 3,
    .acts = {SHR_RNN_SIGMOID, SHR_RNN_TANH, SHR_RNN_TANH},
};

/* ── Products ───────────────────────────────────────────────────────────────────────────────── */

/* Packs rows [from, to) of the matrix (rows, cols) of a direction, transposed. */
static void pack(const struct shr_kernels *k, const struct shr_tensor *t, int64_t d, int64_t from,
                 int64_t to, void *packed)
{
    const size_t rows = (size_t)t->dim[1], cols = (size_t)t->dim[2];
    const float *at = (const float *)t->data + ((size_t)d * rows + (size_t)from) * cols;
    k->gemm_f32_pack(cols, (size_t)(to - from), at, cols, true, packed);
}

static size_t packed_size(const struct shr_kernels *k, int64_t depth, int64_t rows)
{
    size_t n = rows == 0 ? 0 : k->gemm_f32_size((size_t)depth, (size_t)rows);
    return (n + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
}

static void pack_r(const struct shr_kernels *k, const struct shr_rnn_float *s,
                   const struct shr_tensor *t, int64_t d, char *packed)
{
    pack(k, t, d, 0, s->r_split, packed);
    if (s->r_split < t->dim[1]) {
        pack(k, t, d, s->r_split, t->dim[1], packed + s->r_first);
    }
}

static int pack_constant(struct shr_op_setup *c, struct shr_rnn_float *s, size_t slot,
                         struct shr_err *err)
{
    const struct shr_tensor *t = c->in[slot];
    size_t size = slot == W ? s->w_size : s->r_size;
    if (t->data == NULL) {
        return SHR_OK;
    }
    char *packed = shr_arena_new(c->arena, (size_t)t->dim[0] + 1, size);
    if (packed == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (int64_t d = 0; d < t->dim[0]; d++) {
        char *to = packed + (size_t)d * size;
        if (slot == W) {
            pack(c->kernels, t, d, 0, t->dim[1], to);
        } else {
            pack_r(c->kernels, s, t, d, to);
        }
    }
    *(slot == W ? &s->w : &s->r) = packed;
    return SHR_OK;
}

int shr_rnn_float_setup(struct shr_op_setup *c, const struct shr_rnn_form *form, int split,
                        struct shr_err *err)
{
    for (size_t i = 0; i < c->n_in; i++) {
        int code = shr_op_want(c, i, i == LENGTHS ? SHR_BIT(I32) : SHR_BIT(F32), err);
        if (code != SHR_OK) {
            return code;
        }
    }
    struct shr_rnn_float *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    int code = shr_rnn_setup(c, form, &s->shared, err);
    if (code != SHR_OK) {
        return code;
    }
    const struct shr_rnn *l = &s->shared;
    s->r_split = split * l->h;
    s->w_size = packed_size(c->kernels, l->in, l->gates);
    s->r_first = packed_size(c->kernels, l->h, s->r_split);
    s->r_size = s->r_first + packed_size(c->kernels, l->h, l->gates - s->r_split);
    code = pack_constant(c, s, W, err);
    if (code == SHR_OK) {
        code = pack_constant(c, s, R, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    struct shr_rnn_scratch scratch = {0};
    s->at_w = shr_rnn_take(&scratch, s->w == NULL, s->w_size);
    s->at_r = shr_rnn_take(&scratch, s->r == NULL, s->r_size);
    shr_rnn_take_shared(&scratch, &s->shared);
    return shr_rnn_take_end(c, &scratch, err);
}

void shr_rnn_float_begin(struct shr_rnn_pass *p)
{
    const struct shr_rnn_float *s = (const void *)p->s;
    const struct shr_tensor *w = p->c->in[W];
    if (s->w == NULL) {
        pack(p->c->kernels, w, p->d, 0, w->dim[1], shr_rnn_room(p, s->at_w));
    }
    if (s->r == NULL) {
        pack_r(p->c->kernels, s, p->c->in[R], p->d, shr_rnn_room(p, s->at_r));
    }
    p->w = s->w != NULL ? s->w + (size_t)p->d * s->w_size : shr_rnn_room(p, s->at_w);
    p->r = s->r != NULL ? s->r + (size_t)p->d * s->r_size : shr_rnn_room(p, s->at_r);
}

void shr_rnn_float_input(const struct shr_rnn_pass *p, int64_t rows, const float *x)
{
    const size_t in = (size_t)p->s->in, gates = (size_t)p->s->gates;
    p->c->kernels->gemm_f32(&(struct shr_gemm_f32){.m = (size_t)rows,
                                                   .n = gates,
                                                   .k = in,
                                                   .a = x,
                                                   .lda = in,
                                                   .b = p->w,
                                                   .bias = p->bias,
                                                   .c = p->g,
                                                   .ldc = gates});
}

void shr_rnn_float_state(const struct shr_rnn_pass *p, int part, const float *x, const float *bias,
                         float *y)
{
    const struct shr_rnn_float *s = (const void *)p->s;
    const size_t h = (size_t)p->s->h, gates = (size_t)p->s->gates, first = (size_t)s->r_split;
    const char *packed = p->r;
    p->c->kernels->gemm_f32(&(struct shr_gemm_f32){.m = (size_t)p->s->n,
                                                   .n = part == 0 ? first : gates - first,
                                                   .k = h,
                                                   .a = x,
                                                   .lda = h,
                                                   .b = packed + (part == 0 ? 0 : s->r_first),
                                                   .bias = bias,
                                                   .c = y,
                                                   .ldc = gates});
}

/* ── The cell ───────────────────────────────────────────────────────────────────────────────── */

static void add_product(int64_t n, const float *a, const float *b, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] += a[i] * b[i];
    }
}

/* One row of the batch: gates (4h) become the new cell and hidden state. */
static void update_row(const struct shr_rnn_pass *p, float *gates, float *cell, float *hidden)
{
    const int64_t h = p->s->h;
    float *i = gates, *o = gates + h, *f = gates + 2 * h, *g = gates + 3 * h;
    if (p->peephole != NULL) {
        add_product(h, p->peephole, cell, i);
        add_product(h, p->peephole + 2 * h, cell, f);
    }
    shr_rnn_clip(p->s, h, i);
    shr_rnn_clip(p->s, 2 * h, f); /* and g behind it */
    if (p->peephole == NULL) {
        shr_rnn_clip(p->s, h, o);
        shr_rnn_activate(p, 0, 3 * h, i, i);
    } else {
        shr_rnn_activate(p, 0, h, i, i);
        shr_rnn_activate(p, 0, h, f, f);
    }
    shr_rnn_activate(p, 1, h, g, g);
    for (int64_t j = 0; j < h; j++) {
        float keep = p->s->coupled ? 1.0f - i[j] : f[j];
        cell[j] = keep * cell[j] + i[j] * g[j];
    }
    if (p->peephole != NULL) {
        add_product(h, p->peephole + h, cell, o);
        shr_rnn_clip(p->s, h, o);
        shr_rnn_activate(p, 0, h, o, o);
    }
    shr_rnn_activate(p, 2, h, cell, p->row);
    p->c->kernels->mul_f32((size_t)h, o, p->row, hidden);
}

void shr_lstm_step(const struct shr_rnn_pass *p, int64_t step, float *g)
{
    const struct shr_rnn *s = p->s;
    p->c->kernels->add_f32((size_t)(s->n * s->gates), g, p->step, g);
    for (int64_t i = 0; i < s->n; i++) {
        if (step < shr_rnn_length(p, i)) {
            update_row(p, g + i * s->gates, p->cell + i * s->h, p->h + i * s->h);
        }
    }
}

static void lstm_step(const struct shr_rnn_pass *p, int64_t step, float *g)
{
    shr_rnn_float_state(p, 0, p->h, NULL, p->step);
    shr_lstm_step(p, step, g);
}

/* ── The row ────────────────────────────────────────────────────────────────────────────────── */

static int lstm_infer(struct shr_infer *c, struct shr_err *err)
{
    return shr_rnn_infer(c, &shr_lstm_form, err);
}

static int lstm_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_rnn_float_setup(c, &shr_lstm_form, shr_lstm_form.gates, err);
}

static int lstm_forward(const struct shr_op_call *c, struct shr_err *err)
{
    static const struct shr_rnn_cell cell = {shr_rnn_float_begin, shr_rnn_float_input, lstm_step};
    return shr_rnn_forward(c, &cell, err);
}

static int64_t lstm_macs(const struct shr_node *node, const struct shr_type *in,
                         const struct shr_type *out)
{
    (void)node;
    (void)out;
    return shr_rnn_macs(in, &shr_lstm_form);
}

static const struct shr_op rows[] = {
    {SHR_ROW("LSTM", 7, 0), SHR_SLOTS(3, 8, 0, 3), .infer = lstm_infer, .setup = lstm_setup,
     .forward = lstm_forward, .quant_role = SHR_QUANT_WEIGHTED, .prune_role = SHR_PRUNE_WEIGHTED,
     .weight_slot = W, .bias_slot = B, .macs = lstm_macs, .training = shr_training_lstm},
};
const struct shr_op_family shr_ops_lstm = {rows, SHR_COUNT_OF(rows)};
