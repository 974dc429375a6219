/* com.microsoft's DynamicQuantizeLSTM: an LSTM with int8 or uint8 weights.
 *
 * As ONNX Runtime has it, on one thread: X is quantized once, with one scale for the whole input;
 * H is quantized at each step, with one scale for the rows whose sequence was not over a step
 * ago. Both are uint8, by the rule of DynamicQuantizeLinear. The products are exact in int32, all
 * else is float32 and in recurrent.h. */
#include "ops/families.h"
#include "ops/integer.h"
#include "ops/recurrent.h"

enum { X = SHR_RNN_X, W, R, LENGTHS = SHR_RNN_LENGTHS };
enum { W_SCALE = SHR_RNN_P + 1, W_ZERO, R_SCALE, R_ZERO };

struct matrix { /* W or R of all directions */
    size_t slot, scale, zero;
    size_t k, n;
    const char *packed; /* (directions); NULL = not constant: packed in scratch */
    size_t packed_size, at_packed, at_flipped, at_zeros;
};

struct quant_lstm {
    struct shr_rnn shared; /* first: what recurrent.c sees */
    struct matrix w, r;
    size_t at_q, at_scale; /* in scratch: quantized rows; scales of the columns */
};

/* ── Shapes ─────────────────────────────────────────────────────────────────────────────────── */

/* Scale or zero point: one for each direction, or for each of its columns. */
static int check_params(const struct shr_infer *c, size_t slot, size_t weight, struct shr_err *err)
{
    if (!shr_op_has_in(c, slot)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "the scales and zero points of W and R must be given");
    }
    const struct shr_type *t = &c->in[slot], *w = &c->in[weight];
    if (t->rank < 0 || w->rank != 3) {
        return SHR_OK;
    }
    bool fits = t->rank == 1 || t->rank == 2;
    for (int i = 0; i < t->rank && fits; i++) {
        int64_t want = w->dim[i == 0 ? 0 : 2];
        fits = t->dim[i] < 0 || want < 0 || t->dim[i] == want;
    }
    char have[96];
    return fits ? SHR_OK
                : shr_op_fail(c->node, err, SHR_ERR_INVALID,
                              "input '%s' is %s: neither one value nor one a column for each "
                              "direction",
                              shr_op_in_name(c->node, slot),
                              shr_dims_text(t->rank, t->dim, have, sizeof have));
}

static int infer(struct shr_infer *c, struct shr_err *err)
{
    if (shr_node_int(c->node, "layout", 0) != 0) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "it has no layout");
    }
    int code = shr_rnn_infer(c, &shr_lstm_transposed_form, err);
    for (size_t slot = W_SCALE; slot <= R_ZERO && code == SHR_OK; slot++) {
        code = check_params(c, slot, slot < R_SCALE ? W : R, err);
    }
    return code;
}

/* ── Preparation ────────────────────────────────────────────────────────────────────────────── */

static int check_types(const struct shr_op_setup *c, struct shr_err *err)
{
    for (size_t i = 0; i < c->n_in; i++) {
        bool byte = i == W || i == R || i == W_ZERO || i == R_ZERO;
        int code = shr_op_want(c, i,
                               byte           ? SHR_BIT(I8) | SHR_BIT(U8)
                               : i == LENGTHS ? SHR_BIT(I32)
                                              : SHR_BIT(F32),
                               err);
        if (code != SHR_OK) {
            return code;
        }
    }
    if (c->in[W]->dtype != c->in[W_ZERO]->dtype || c->in[R]->dtype != c->in[R_ZERO]->dtype) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "a zero point is not of the type of its weights");
    }
    return SHR_OK;
}

/* The values of one direction; nothing is owned. */
static struct shr_tensor of_direction(const struct shr_tensor *t, int64_t d)
{
    int64_t n = shr_tensor_count(t) / t->dim[0];
    char *data = t->data;
    return (struct shr_tensor){
        .dtype = t->dtype,
        .rank = 1,
        .dim = {n},
        .data = data + (size_t)(d * n) * shr_dtype_size(t->dtype),
    };
}

/* Packs the matrix of a direction. flipped (k, n) and zeros (n) are room to work in. */
static void pack(const struct shr_kernels *kernels, const struct matrix *m,
                 const struct shr_tensor *const *in, int64_t d, uint8_t *flipped, int32_t *zeros,
                 void *packed)
{
    struct shr_tensor t = of_direction(in[m->slot], d), zero = of_direction(in[m->zero], d);
    bool flip = t.dtype == SHR_DTYPE_U8;
    const uint8_t *bytes = t.data;
    if (flip) {
        kernels->flip_u8(m->k * m->n, bytes, flipped);
        bytes = flipped;
    }
    shr_integer_zeros(&zero, flip, m->n, zeros);
    kernels->gemm_i8_pack(m->k, m->n, (const int8_t *)bytes, m->n, false, zeros, packed);
}

static int prepare(struct shr_op_setup *c, struct matrix *m, struct shr_err *err)
{
    const struct shr_tensor *t = c->in[m->slot];
    m->k = (size_t)t->dim[1];
    m->n = (size_t)t->dim[2];
    m->packed_size = c->kernels->gemm_i8_size(m->k, m->n);
    if (t->data == NULL || c->in[m->zero]->data == NULL) {
        return SHR_OK;
    }
    char *packed = shr_arena_new(c->arena, (size_t)t->dim[0] + 1, m->packed_size);
    int32_t *zeros = shr_mem_new(m->n, sizeof *zeros);
    uint8_t *flipped = shr_mem_new(m->k * m->n + 1, 1);
    bool failed = packed == NULL || zeros == NULL || flipped == NULL;
    for (int64_t d = 0; d < t->dim[0] && !failed; d++) {
        pack(c->kernels, m, c->in, d, flipped, zeros, packed + (size_t)d * m->packed_size);
    }
    shr_mem_free(zeros);
    shr_mem_free(flipped);
    if (failed) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    m->packed = packed;
    c->kernel = c->kernels->gemm_i8_form(packed);
    return SHR_OK;
}

static void take_matrix(struct shr_rnn_scratch *scratch, struct matrix *m)
{
    if (m->packed == NULL) {
        m->at_packed = shr_rnn_take(scratch, 1, m->packed_size);
        m->at_flipped = shr_rnn_take(scratch, (int64_t)m->k, m->n);
        m->at_zeros = shr_rnn_take(scratch, (int64_t)m->n, sizeof(int32_t));
    }
}

static int setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = check_types(c, err);
    if (code != SHR_OK) {
        return code;
    }
    struct quant_lstm *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    s->w = (struct matrix){.slot = W, .scale = W_SCALE, .zero = W_ZERO};
    s->r = (struct matrix){.slot = R, .scale = R_SCALE, .zero = R_ZERO};
    code = shr_rnn_setup(c, &shr_lstm_transposed_form, &s->shared, err);
    if (code == SHR_OK) {
        code = prepare(c, &s->w, err);
    }
    if (code == SHR_OK) {
        code = prepare(c, &s->r, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    const struct shr_rnn *l = &s->shared;
    int64_t x_size = l->block * l->n * l->in, h_size = l->n * l->h;
    struct shr_rnn_scratch scratch = {0};
    take_matrix(&scratch, &s->w);
    take_matrix(&scratch, &s->r);
    s->at_q = shr_rnn_take(&scratch, x_size > h_size ? x_size : h_size, 1);
    s->at_scale = shr_rnn_take(&scratch, 4 * l->h, sizeof(float));
    shr_rnn_take_shared(&scratch, &s->shared);
    return shr_rnn_take_end(c, &scratch, err);
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

static const void *packed_of(const struct shr_rnn_pass *p, const struct matrix *m)
{
    if (m->packed != NULL) {
        return m->packed + (size_t)p->d * m->packed_size;
    }
    void *packed = shr_rnn_room(p, m->at_packed);
    pack(p->c->kernels, m, p->c->in, p->d, shr_rnn_room(p, m->at_flipped),
         shr_rnn_room(p, m->at_zeros), packed);
    return packed;
}

static void begin(struct shr_rnn_pass *p)
{
    const struct quant_lstm *s = (const void *)p->s;
    p->w = packed_of(p, &s->w);
    p->r = packed_of(p, &s->r);
    const struct shr_tensor *x = p->c->in[X];
    float min, max;
    p->c->kernels->minmax_f32((size_t)shr_tensor_count(x), x->data, &min, &max);
    shr_integer_dynamic(min, max, &p->x_scale, &p->x_zero);
}

/* c (rows, n) = a (rows, k), quantized, times the packed b, + bias. */
static void multiply(const struct shr_rnn_pass *p, const struct matrix *m, const void *b,
                     int64_t rows, const float *a, float a_scale, int32_t a_zero, const float *bias,
                     float *c)
{
    const struct quant_lstm *s = (const void *)p->s;
    uint8_t *q = shr_rnn_room(p, s->at_q);
    float *scale = shr_rnn_room(p, s->at_scale);
    struct shr_tensor b_scale = of_direction(p->c->in[m->scale], p->d);
    bool each = b_scale.dim[0] > 1;
    for (size_t j = 0; j < m->n; j++) {
        scale[j] = a_scale * ((const float *)b_scale.data)[each ? j : 0];
    }
    p->c->kernels->quantize_u8((size_t)rows * m->k, a, a_scale, a_zero, q);
    p->c->kernels->gemm_i8(&(struct shr_gemm_i8){.m = (size_t)rows,
                                                 .n = m->n,
                                                 .k = m->k,
                                                 .a = q,
                                                 .lda = m->k,
                                                 .a_zero = a_zero,
                                                 .b = b,
                                                 .out = SHR_GEMM_F32,
                                                 .scale = scale,
                                                 .bias_f32 = bias,
                                                 .c = c,
                                                 .ldc = m->n});
}

static void input_gates(const struct shr_rnn_pass *p, int64_t rows, const float *x)
{
    const struct quant_lstm *s = (const void *)p->s;
    multiply(p, &s->w, p->w, rows, x, p->x_scale, p->x_zero, p->bias, p->g);
}

static void run_step(const struct shr_rnn_pass *p, int64_t step, float *g)
{
    const struct quant_lstm *s = (const void *)p->s;
    float min = 0, max = 0, scale; /* a range always holds 0 */
    int32_t zero;
    for (int64_t i = 0; i < p->s->n; i++) {
        if (step > shr_rnn_length(p, i)) {
            continue;
        }
        float low, high;
        p->c->kernels->minmax_f32((size_t)p->s->h, p->h + i * p->s->h, &low, &high);
        min = low < min ? low : min;
        max = high > max ? high : max;
    }
    shr_integer_dynamic(min, max, &scale, &zero);
    multiply(p, &s->r, p->r, p->s->n, p->h, scale, zero, NULL, p->step);
    shr_lstm_step(p, step, g);
}

static int forward(const struct shr_op_call *c, struct shr_err *err)
{
    static const struct shr_rnn_cell cell = {begin, input_gates, run_step};
    return shr_rnn_forward(c, &cell, err);
}

static int64_t macs(const struct shr_node *node, const struct shr_type *in,
                    const struct shr_type *out)
{
    (void)node;
    (void)out;
    return shr_rnn_macs(in, &shr_lstm_transposed_form);
}

static const struct shr_op rows[] = {
    {.domain = "com.microsoft",
     .name = "DynamicQuantizeLSTM",
     .since = 1,
     SHR_SLOTS(3, 12, 0, 3),
     .infer = infer,
     .setup = setup,
     .forward = forward,
     .prune_role = SHR_PRUNE_WEIGHTED,
     .weight_slot = W,
     .bias_slot = SHR_RNN_B,
     .macs = macs},
};
const struct shr_op_family shr_ops_quant_lstm = {rows, SHR_COUNT_OF(rows)};
