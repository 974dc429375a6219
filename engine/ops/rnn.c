/* Recurrent layers: LSTM (opset 7 on), float32. W and R are packed once when they are constant, any
 * other while running; all else is in lstm.h. */
#include "ops/families.h"
#include "ops/lstm.h"

enum { W = SHR_LSTM_W, R, B, LENGTHS }; /* input slots */

struct float_lstm {
    struct shr_lstm shared; /* first: what lstm.c sees */
    const char *w, *r;      /* (directions) packed; NULL = not constant: packed in scratch */
    size_t w_size, r_size, at_w, at_r;
};

static int lstm_infer(struct shr_infer *c, struct shr_err *err)
{
    return shr_lstm_infer(c, false, err);
}

/* Packs the transposed matrices (rows, cols) of every direction. */
static int pack_constant(struct shr_op_setup *c, const struct shr_tensor *t, size_t packed_size,
                         const char **ret, struct shr_err *err)
{
    if (t->data == NULL) {
        return SHR_OK;
    }
    size_t rows = (size_t)t->dim[1], cols = (size_t)t->dim[2];
    char *packed = shr_arena_new(c->arena, (size_t)t->dim[0] + 1, packed_size);
    if (packed == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (size_t d = 0; d < (size_t)t->dim[0]; d++) {
        c->kernels->gemm_f32_pack(cols, rows, (const float *)t->data + d * rows * cols, cols, true,
                                  packed + d * packed_size);
    }
    *ret = packed;
    return SHR_OK;
}

static int lstm_setup(struct shr_op_setup *c, struct shr_err *err)
{
    for (size_t i = 0; i < c->n_in; i++) {
        int code = shr_op_want(c, i, i == LENGTHS ? SHR_BIT(I32) : SHR_BIT(F32), err);
        if (code != SHR_OK) {
            return code;
        }
    }
    struct float_lstm *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    int code = shr_lstm_setup(c, false, &s->shared, err);
    if (code != SHR_OK) {
        return code;
    }
    const size_t h = (size_t)s->shared.h;
    s->w_size = c->kernels->gemm_f32_size((size_t)s->shared.in, 4 * h);
    s->r_size = c->kernels->gemm_f32_size(h, 4 * h);
    code = pack_constant(c, c->in[W], s->w_size, &s->w, err);
    if (code == SHR_OK) {
        code = pack_constant(c, c->in[R], s->r_size, &s->r, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    struct shr_lstm_scratch scratch = {0};
    s->at_w = shr_lstm_take(&scratch, s->w == NULL, s->w_size);
    s->at_r = shr_lstm_take(&scratch, s->r == NULL, s->r_size);
    shr_lstm_take_shared(&scratch, &s->shared);
    return shr_lstm_take_end(c, &scratch, err);
}

static const void *packed_of(const struct shr_op_call *c, const struct shr_tensor *t, int64_t d,
                             const char *constant, size_t size, void *scratch)
{
    if (constant != NULL) {
        return constant + (size_t)d * size;
    }
    size_t rows = (size_t)t->dim[1], cols = (size_t)t->dim[2];
    c->kernels->gemm_f32_pack(cols, rows, (const float *)t->data + (size_t)d * rows * cols, cols,
                              true, scratch);
    return scratch;
}

static void begin(struct shr_lstm_pass *p)
{
    const struct float_lstm *s = (const void *)p->s;
    p->w = packed_of(p->c, p->c->in[W], p->d, s->w, s->w_size, shr_lstm_room(p, s->at_w));
    p->r = packed_of(p->c, p->c->in[R], p->d, s->r, s->r_size, shr_lstm_room(p, s->at_r));
}

static void input_gates(const struct shr_lstm_pass *p, int64_t rows, const float *x)
{
    const size_t in = (size_t)p->s->in, gates = 4 * (size_t)p->s->h;
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

static void state_gates(const struct shr_lstm_pass *p, int64_t step)
{
    (void)step;
    const size_t h = (size_t)p->s->h, gates = 4 * h;
    p->c->kernels->gemm_f32(&(struct shr_gemm_f32){.m = (size_t)p->s->n,
                                                   .n = gates,
                                                   .k = h,
                                                   .a = p->h,
                                                   .lda = h,
                                                   .b = p->r,
                                                   .c = p->step,
                                                   .ldc = gates});
}

static int lstm_forward(const struct shr_op_call *c, struct shr_err *err)
{
    static const struct shr_lstm_products products = {begin, input_gates, state_gates};
    return shr_lstm_forward(c, &products, err);
}

static int64_t lstm_macs(const struct shr_node *node, const struct shr_type *in,
                         const struct shr_type *out)
{
    (void)node;
    (void)out;
    return shr_lstm_macs(in, false);
}

static const struct shr_op rows[] = {
    {SHR_ROW("LSTM", 7, 0), SHR_SLOTS(3, 8, 0, 3), .infer = lstm_infer, .setup = lstm_setup,
     .forward = lstm_forward, .quant_role = SHR_QUANT_WEIGHTED, .prune_role = SHR_PRUNE_WEIGHTED,
     .weight_slot = W, .bias_slot = B, .macs = lstm_macs},
};
const struct shr_op_family shr_ops_rnn = {rows, SHR_COUNT_OF(rows)};
