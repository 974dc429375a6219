/* Recurrent layers: LSTM (opset 7 on), float32.
 *
 * DESIGN. The input's part of the gates does not depend on the state, so it is one matrix product
 * for a block of time steps: G = X * W' + Wb + Rb (steps * n, 4h). Each step then adds H * R' and
 * applies the gates, which lie in a row as ONNX orders them: i, o, f, c. W and R are packed once
 * when they are constant. The blocks keep G in the cache whatever the length of the sequence.
 *     i, o, f = sigmoid(G + H R' + P * C),  C = f * C + i * tanh(Gc),  H = o * tanh(C)
 * The output gate's peephole sees the new C. clip bounds the sums that go into the gates. Rows
 * whose sequence is over keep their state and give zeros. Only the default activations can be run.
 */
#include "ops/util.h"

#include <string.h>
#include <strings.h>

#include "ops/families.h"

enum { X, W, R, B, LENGTHS, H0, C0, P }; /* input slots */
enum { Y, Y_H, Y_C };                    /* output slots */
enum { BLOCK_ROWS = 256 };               /* of G: steps * n, at least one step */

/* ── Shapes ─────────────────────────────────────────────────────────────────────────────────── */

static int directions(const struct shr_node *node, int64_t *ret, bool *ret_first_reverse,
                      struct shr_err *err)
{
    const char *text = shr_node_text(node, "direction", "forward");
    bool both = strcmp(text, "bidirectional") == 0, reverse = strcmp(text, "reverse") == 0;
    if (!both && !reverse && strcmp(text, "forward") != 0) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "direction is '%.40s'", text);
    }
    *ret = both ? 2 : 1;
    *ret_first_reverse = reverse;
    return SHR_OK;
}

/* INVALID unless the input is unknown or has these dims (-1 = any). */
static int want_dims(const struct shr_infer *c, size_t slot, int rank, const int64_t *dim,
                     struct shr_err *err)
{
    if (!shr_op_has_in(c, slot) || c->in[slot].rank < 0) {
        return SHR_OK;
    }
    bool fits = c->in[slot].rank == rank;
    for (int i = 0; i < rank && fits; i++) {
        fits = c->in[slot].dim[i] < 0 || dim[i] < 0 || c->in[slot].dim[i] == dim[i];
    }
    char have[96], want[96];
    return fits ? SHR_OK
                : shr_op_fail(c->node, err, SHR_ERR_INVALID, "input '%s' is %s, not %s",
                              shr_op_in_name(c->node, slot),
                              shr_dims_text(c->in[slot].rank, c->in[slot].dim, have, sizeof have),
                              shr_dims_text(rank, dim, want, sizeof want));
}

static int check_inputs(const struct shr_infer *c, int64_t d, int64_t h, bool batch_first,
                        struct shr_err *err)
{
    const struct shr_type *x = &c->in[X];
    int64_t n = x->rank == 3 ? x->dim[batch_first ? 0 : 1] : -1, in = x->rank == 3 ? x->dim[2] : -1;
    const struct {
        size_t slot;
        int rank;
        int64_t dim[3];
    } rules[] = {
        {X, 3, {-1, -1, -1}},
        {W, 3, {d, 4 * h, in}},
        {R, 3, {d, 4 * h, h}},
        {B, 2, {d, 8 * h}},
        {LENGTHS, 1, {n}},
        {H0, 3, {batch_first ? n : d, batch_first ? d : n, h}},
        {C0, 3, {batch_first ? n : d, batch_first ? d : n, h}},
        {P, 2, {d, 3 * h}},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(rules); i++) {
        int code = want_dims(c, rules[i].slot, rules[i].rank, rules[i].dim, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

static int lstm_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[X];
    int64_t d = 0, h = shr_node_int(c->node, "hidden_size", 0);
    bool reverse, batch_first = shr_node_int(c->node, "layout", 0) != 0;
    int code = directions(c->node, &d, &reverse, err);
    if (code == SHR_OK && h == 0 && c->in[R].rank == 3) {
        h = c->in[R].dim[2];
    }
    if (code == SHR_OK && (h <= 0 || h > INT32_MAX / 8)) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "hidden_size is %lld", (long long)h);
    }
    if (code == SHR_OK) {
        code = check_inputs(c, d, h, batch_first, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    struct shr_type seq = {.dim = {-1}}, n = {.dim = {-1}}; /* dims of X, unknown otherwise */
    if (x->rank == 3) {
        shr_type_copy_dim(&seq, 0, x, batch_first ? 1 : 0);
        shr_type_copy_dim(&n, 0, x, batch_first ? 0 : 1);
    }
    for (size_t i = 0; i < c->n_out; i++) {
        struct shr_type *y = &c->out[i];
        y->dtype = x->dtype;
        y->rank = 0;
        if (batch_first) {
            shr_type_copy_dim(y, y->rank++, &n, 0);
        }
        if (i == Y) {
            shr_type_copy_dim(y, y->rank++, &seq, 0);
        }
        shr_type_set_dim(y, y->rank++, d, NULL);
        if (!batch_first) {
            shr_type_copy_dim(y, y->rank++, &n, 0);
        }
        shr_type_set_dim(y, y->rank++, h, NULL);
    }
    return SHR_OK;
}

/* ── Setup ──────────────────────────────────────────────────────────────────────────────────── */

struct lstm {
    int64_t seq, n, in, h, directions;
    bool first_reverse, batch_first, coupled; /* coupled: f = 1 - i (input_forget) */
    float clip;                               /* of the gates' sums; 0 = none */
    const char *w, *r; /* (directions) packed; NULL = not constant: packed in scratch */
    size_t w_size, r_size;
    int64_t block; /* steps of G at a time */
    struct {       /* offsets in scratch, bytes */
        size_t w, r, x, bias, g, step, h, c, tanh;
    } at;
};

static int check_activations(const struct shr_node *node, int64_t d, struct shr_err *err)
{
    static const char *const defaults[] = {"sigmoid", "tanh", "tanh"};
    const struct shr_attr *a = shr_node_attr(node, "activations");
    for (size_t i = 0; a != NULL && i < a->n; i++) {
        if (a->n != 3 * (size_t)d || strcasecmp(a->strings[i].s, defaults[i % 3]) != 0) {
            return shr_op_fail(node, err, SHR_ERR_UNSUPPORTED,
                               "only the activations Sigmoid, Tanh, Tanh can be run");
        }
    }
    return SHR_OK;
}

/* Takes bytes of scratch; the sum is checked once, at the end. */
static size_t take(size_t *total, int64_t n, int64_t size, bool *ret_ok)
{
    size_t at = *total, bytes, end;
    if (!shr_size_mul((size_t)n, (size_t)size, &bytes) ||
        !shr_size_add(bytes, SHR_MEM_ALIGN - 1, &bytes) ||
        !shr_size_add(at, bytes / SHR_MEM_ALIGN * SHR_MEM_ALIGN, &end)) {
        *ret_ok = false;
        return 0;
    }
    *total = end;
    return at;
}

static int lay_out_scratch(struct shr_op_setup *c, struct lstm *s, struct shr_err *err)
{
    const int64_t size = sizeof(float), gates = 4 * s->h;
    int64_t rows = s->block * s->n;
    bool ok = true;
    c->scratch = 0;
    s->at.w = take(&c->scratch, s->w == NULL, (int64_t)s->w_size, &ok);
    s->at.r = take(&c->scratch, s->r == NULL, (int64_t)s->r_size, &ok);
    s->at.x = take(&c->scratch, s->batch_first ? rows * s->in : 0, size, &ok);
    s->at.bias = take(&c->scratch, gates, size, &ok);
    s->at.g = take(&c->scratch, rows * gates, size, &ok);
    s->at.step = take(&c->scratch, s->n * gates, size, &ok);
    s->at.h = take(&c->scratch, s->n * s->h, size, &ok);
    s->at.c = take(&c->scratch, s->n * s->h, size, &ok);
    s->at.tanh = take(&c->scratch, s->h, size, &ok);
    return ok ? SHR_OK : shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the state is too large");
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
    struct lstm *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    int code = directions(c->node, &s->directions, &s->first_reverse, err);
    if (code == SHR_OK) {
        code = check_activations(c->node, s->directions, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    s->batch_first = shr_node_int(c->node, "layout", 0) != 0;
    s->coupled = shr_node_int(c->node, "input_forget", 0) != 0;
    s->clip = shr_node_float(c->node, "clip", 0.0f);
    s->seq = c->in[X]->dim[s->batch_first ? 1 : 0];
    s->n = c->in[X]->dim[s->batch_first ? 0 : 1];
    s->in = c->in[X]->dim[2];
    s->h = c->in[R]->dim[2];
    s->block = s->n >= BLOCK_ROWS || s->n == 0 ? 1 : BLOCK_ROWS / s->n;
    s->block = s->block > s->seq ? s->seq : s->block;
    s->w_size = c->kernels->gemm_f32_size((size_t)s->in, (size_t)(4 * s->h));
    s->r_size = c->kernels->gemm_f32_size((size_t)s->h, (size_t)(4 * s->h));
    c->state = s;
    code = pack_constant(c, c->in[W], s->w_size, &s->w, err);
    if (code == SHR_OK) {
        code = pack_constant(c, c->in[R], s->r_size, &s->r, err);
    }
    return code == SHR_OK ? lay_out_scratch(c, s, err) : code;
}

/* ── Forward ────────────────────────────────────────────────────────────────────────────────── */

struct pass { /* one direction of one call */
    const struct lstm *s;
    const struct shr_op_call *c;
    int64_t d;
    bool reverse;
    const void *w, *r;     /* packed */
    const float *peephole; /* (3h): i, o, f; or NULL */
    float *bias, *g, *step, *h, *cell, *tanh;
};

static const struct shr_tensor *given(const struct shr_op_call *c, size_t slot)
{
    return slot < c->n_in ? c->in[slot] : NULL;
}

static struct shr_tensor *wanted(const struct shr_op_call *c, size_t slot)
{
    return slot < c->n_out ? c->out[slot] : NULL;
}

/* Offset of row n of this direction in a state (directions, n, h), or (n, directions, h). */
static int64_t state_at(const struct pass *p, int64_t row)
{
    const struct lstm *s = p->s;
    return (s->batch_first ? row * s->directions + p->d : p->d * s->n + row) * s->h;
}

static void load_state(const struct pass *p, size_t slot, float *state)
{
    const struct shr_tensor *t = given(p->c, slot);
    for (int64_t i = 0; i < p->s->n; i++) {
        size_t bytes = (size_t)p->s->h * sizeof *state;
        if (t == NULL) {
            memset(state + i * p->s->h, 0, bytes);
        } else {
            memcpy(state + i * p->s->h, (const float *)t->data + state_at(p, i), bytes);
        }
    }
}

/* An empty sequence leaves zeros, whatever state it began with, as ONNX Runtime has it. */
static void store_state(const struct pass *p, size_t slot, const float *state)
{
    const struct shr_tensor *lengths = given(p->c, LENGTHS);
    struct shr_tensor *t = wanted(p->c, slot);
    for (int64_t i = 0; t != NULL && i < p->s->n; i++) {
        size_t bytes = (size_t)p->s->h * sizeof *state;
        float *to = (float *)t->data + state_at(p, i);
        if (lengths != NULL && ((const int32_t *)lengths->data)[i] == 0) {
            memset(to, 0, bytes);
        } else {
            memcpy(to, state + i * p->s->h, bytes);
        }
    }
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

static void begin(struct pass *p)
{
    const struct lstm *s = p->s;
    char *scratch = p->c->scratch;
    p->w = packed_of(p->c, p->c->in[W], p->d, s->w, s->w_size, scratch + s->at.w);
    p->r = packed_of(p->c, p->c->in[R], p->d, s->r, s->r_size, scratch + s->at.r);
    p->bias = (float *)(void *)(scratch + s->at.bias);
    p->g = (float *)(void *)(scratch + s->at.g);
    p->step = (float *)(void *)(scratch + s->at.step);
    p->h = (float *)(void *)(scratch + s->at.h);
    p->cell = (float *)(void *)(scratch + s->at.c);
    p->tanh = (float *)(void *)(scratch + s->at.tanh);
    const struct shr_tensor *b = given(p->c, B), *peephole = given(p->c, P);
    const float *both = b == NULL ? NULL : (const float *)b->data + p->d * 8 * s->h;
    for (int64_t i = 0; i < 4 * s->h; i++) {
        p->bias[i] = both == NULL ? 0.0f : both[i] + both[4 * s->h + i];
    }
    p->peephole = peephole == NULL ? NULL : (const float *)peephole->data + p->d * 3 * s->h;
    load_state(p, H0, p->h);
    load_state(p, C0, p->cell);
}

/* G = X W' + bias for steps [from, from + steps), (steps * n, 4h). */
static void input_gates(const struct pass *p, int64_t from, int64_t steps)
{
    const struct lstm *s = p->s;
    const float *x = p->c->in[X]->data; /* (seq, n, in), or (n, seq, in) */
    const float *a = x + from * s->n * s->in;
    if (s->batch_first) {
        float *rows = (float *)(void *)((char *)p->c->scratch + s->at.x);
        for (int64_t i = 0; i < steps * s->n; i++) {
            memcpy(rows + i * s->in, x + (i % s->n * s->seq + from + i / s->n) * s->in,
                   (size_t)s->in * sizeof *x);
        }
        a = rows;
    }
    p->c->kernels->gemm_f32(&(struct shr_gemm_f32){(size_t)(steps * s->n), (size_t)(4 * s->h),
                                                   (size_t)s->in, a, (size_t)s->in, p->w, p->bias,
                                                   p->g, (size_t)(4 * s->h), SHR_ACT_NONE});
}

static void add_product(int64_t n, const float *a, const float *b, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] += a[i] * b[i];
    }
}

static void clip(const struct lstm *s, int64_t n, float *v)
{
    for (int64_t i = 0; i < n && s->clip > 0.0f; i++) {
        v[i] = v[i] < -s->clip ? -s->clip : v[i] > s->clip ? s->clip : v[i];
    }
}

/* One row of the batch: gates (4h) become the new cell and hidden state. */
static void update_row(const struct pass *p, float *gates, float *cell, float *hidden)
{
    const struct shr_kernels *k = p->c->kernels;
    const int64_t h = p->s->h;
    const size_t n = (size_t)h;
    float *i = gates, *o = gates + h, *f = gates + 2 * h, *g = gates + 3 * h;
    if (p->peephole != NULL) {
        add_product(h, p->peephole, cell, i);
        add_product(h, p->peephole + 2 * h, cell, f);
    }
    clip(p->s, h, i);
    clip(p->s, 2 * h, f); /* and g behind it */
    if (p->peephole == NULL) {
        clip(p->s, h, o);
        k->sigmoid_f32(3 * n, i, i);
    } else {
        k->sigmoid_f32(n, i, i);
        k->sigmoid_f32(n, f, f);
    }
    k->tanh_f32(n, g, g);
    for (int64_t j = 0; j < h; j++) {
        float keep = p->s->coupled ? 1.0f - i[j] : f[j];
        cell[j] = keep * cell[j] + i[j] * g[j];
    }
    if (p->peephole != NULL) {
        add_product(h, p->peephole + h, cell, o);
        clip(p->s, h, o);
        k->sigmoid_f32(n, o, o);
    }
    k->tanh_f32(n, cell, p->tanh);
    k->mul_f32(n, o, p->tanh, hidden);
}

/* Step t of the sequence, whose input gates are g (n, 4h). */
static void run_step(const struct pass *p, int64_t t, float *g)
{
    const struct lstm *s = p->s;
    const int64_t gates = 4 * s->h;
    const struct shr_tensor *lengths = given(p->c, LENGTHS);
    struct shr_tensor *y = wanted(p->c, Y); /* (seq, d, n, h), or (n, seq, d, h) */
    p->c->kernels->gemm_f32(&(struct shr_gemm_f32){(size_t)s->n, (size_t)gates, (size_t)s->h, p->h,
                                                   (size_t)s->h, p->r, NULL, p->step, (size_t)gates,
                                                   SHR_ACT_NONE});
    p->c->kernels->add_f32((size_t)(s->n * gates), g, p->step, g);
    for (int64_t i = 0; i < s->n; i++) {
        bool over = lengths != NULL && t >= ((const int32_t *)lengths->data)[i];
        if (!over) {
            update_row(p, g + i * gates, p->cell + i * s->h, p->h + i * s->h);
        }
        if (y == NULL) {
            continue;
        }
        int64_t at = s->batch_first ? (i * s->seq + t) * s->directions + p->d
                                    : (t * s->directions + p->d) * s->n + i;
        float *row = (float *)y->data + at * s->h;
        if (over) {
            memset(row, 0, (size_t)s->h * sizeof *row);
        } else {
            memcpy(row, p->h + i * s->h, (size_t)s->h * sizeof *row);
        }
    }
}

static int check_lengths(const struct shr_op_call *c, int64_t seq, struct shr_err *err)
{
    const struct shr_tensor *t = given(c, LENGTHS);
    for (int64_t i = 0; t != NULL && i < shr_tensor_count(t); i++) {
        int32_t n = ((const int32_t *)t->data)[i];
        if (n < 0 || n > seq) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                               "sequence_lens[%lld] is %d, not in [0, %lld]", (long long)i, n,
                               (long long)seq);
        }
    }
    return SHR_OK;
}

static int lstm_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct lstm *s = c->state;
    int code = check_lengths(c, s->seq, err);
    for (int64_t d = 0; code == SHR_OK && d < s->directions; d++) {
        struct pass p = {.s = s, .c = c, .d = d, .reverse = d == 1 || s->first_reverse};
        begin(&p);
        for (int64_t done = 0; done < s->seq; done += s->block) {
            int64_t steps = s->seq - done < s->block ? s->seq - done : s->block;
            int64_t from = p.reverse ? s->seq - done - steps : done;
            input_gates(&p, from, steps);
            for (int64_t i = 0; i < steps; i++) {
                int64_t j = p.reverse ? steps - 1 - i : i;
                run_step(&p, from + j, p.g + j * s->n * 4 * s->h);
            }
        }
        store_state(&p, Y_H, p.h);
        store_state(&p, Y_C, p.cell);
    }
    return code;
}

static int64_t lstm_macs(const struct shr_node *node, const struct shr_type *in,
                         const struct shr_type *out)
{
    (void)node;
    (void)out;
    const int64_t *x = in[X].dim, *r = in[R].dim;
    const struct shr_type gates = {.rank = 4, .dim = {x[0], x[1], r[0], r[1]}};
    int64_t each = x[2] <= INT64_MAX - r[2] ? x[2] + r[2] : -1;
    return shr_op_macs(&gates, 1, &each);
}

static const struct shr_op rows[] = {
    {SHR_ROW("LSTM", 7, 0), SHR_SLOTS(3, 8, 0, 3), .infer = lstm_infer, .setup = lstm_setup,
     .forward = lstm_forward, .quant_role = SHR_QUANT_WEIGHTED, .prune_role = SHR_PRUNE_WEIGHTED,
     .weight_slot = W, .bias_slot = B, .macs = lstm_macs},
};
const struct shr_op_family shr_ops_rnn = {rows, SHR_COUNT_OF(rows)};
