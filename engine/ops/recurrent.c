/* Recurrent layers without their cells; see recurrent.h.
 *
 * DESIGN. The input's part of the gates does not depend on the state, so it is one matrix product
 * for a block of steps: G = X * W' + bias (steps * n, gates). Each step then adds H * R' and
 * applies the gates. The blocks keep G in the cache whatever the length of the sequence. clip
 * bounds the sums that go into activations. Rows whose sequence is over keep their state and give
 * zeros. Step s of a row is its time s, or backwards the s-th from its own end. */
#include "ops/recurrent.h"

#include <math.h>
#include <string.h>
#include <strings.h>

enum { X = SHR_RNN_X, W, R, B, LENGTHS, H0, C0, P }; /* input slots */
enum { Y, Y_H, Y_C };                                /* output slots */
enum { BLOCK_ROWS = 256 };                           /* of G: steps * n, at least one step */

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

static int check_inputs(const struct shr_infer *c, const struct shr_rnn_form *form, int64_t d,
                        int64_t h, bool batch_first, struct shr_err *err)
{
    const bool transposed = form->transposed;
    const struct shr_type *x = &c->in[X];
    int64_t n = x->rank == 3 ? x->dim[batch_first ? 0 : 1] : -1, in = x->rank == 3 ? x->dim[2] : -1;
    const int64_t gates = form->gates * h;
    const struct {
        size_t slot;
        int rank;
        int64_t dim[3];
    } rules[] = {
        {X, 3, {-1, -1, -1}},
        {W, 3, {d, transposed ? in : gates, transposed ? gates : in}},
        {R, 3, {d, transposed ? h : gates, transposed ? gates : h}},
        {B, 2, {d, 2 * gates}},
        {LENGTHS, 1, {n}},
        {H0, 3, {batch_first ? n : d, batch_first ? d : n, h}},
        {C0, 3, {batch_first ? n : d, batch_first ? d : n, h}},
        {P, 2, {d, 3 * h}},
    };
    size_t n_rules = SHR_COUNT_OF(rules) - (form->has_cell ? 0 : 2);
    for (size_t i = 0; i < n_rules; i++) {
        int code = want_dims(c, rules[i].slot, rules[i].rank, rules[i].dim, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

int shr_rnn_infer(struct shr_infer *c, const struct shr_rnn_form *form, struct shr_err *err)
{
    const struct shr_type *x = &c->in[X];
    int64_t d = 0, h = shr_node_int(c->node, "hidden_size", 0);
    bool reverse, batch_first = shr_node_int(c->node, "layout", 0) != 0;
    int code = directions(c->node, &d, &reverse, err);
    if (code == SHR_OK && h == 0 && c->in[R].rank == 3) {
        h = c->in[R].dim[form->transposed ? 1 : 2];
    }
    if (code == SHR_OK && (h <= 0 || h > INT32_MAX / 8)) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "hidden_size is %lld", (long long)h);
    }
    if (code == SHR_OK) {
        code = check_inputs(c, form, d, h, batch_first, err);
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

int64_t shr_rnn_macs(const struct shr_type *in, const struct shr_rnn_form *form)
{
    const bool transposed = form->transposed;
    const int64_t *x = in[X].dim, *r = in[R].dim;
    const struct shr_type gates = {.rank = 4, .dim = {x[0], x[1], r[0], r[transposed ? 2 : 1]}};
    int64_t h = r[transposed ? 1 : 2], each = x[2] <= INT64_MAX - h ? x[2] + h : -1;
    return shr_op_macs(&gates, 1, &each);
}

/* ── Setup ──────────────────────────────────────────────────────────────────────────────────── */

static const struct {
    const char *name;
    bool has_alpha, has_beta;
    float alpha, beta; /* the defaults */
} act_table[SHR_RNN_ACT_COUNT] = {
    [SHR_RNN_AFFINE] = {"Affine", true, true, 1.0f, 0.0f},
    [SHR_RNN_ELU] = {"Elu", true, false, 1.0f, 0.0f},
    [SHR_RNN_HARD_SIGMOID] = {"HardSigmoid", true, true, 0.2f, 0.5f},
    [SHR_RNN_LEAKY_RELU] = {"LeakyRelu", true, false, 0.01f, 0.0f},
    [SHR_RNN_RELU] = {"Relu", false, false, 0.0f, 0.0f},
    [SHR_RNN_SCALED_TANH] = {"ScaledTanh", true, true, 1.0f, 1.0f},
    [SHR_RNN_SIGMOID] = {"Sigmoid", false, false, 0.0f, 0.0f},
    [SHR_RNN_SOFTPLUS] = {"Softplus", false, false, 0.0f, 0.0f},
    [SHR_RNN_SOFTSIGN] = {"Softsign", false, false, 0.0f, 0.0f},
    [SHR_RNN_TANH] = {"Tanh", false, false, 0.0f, 0.0f},
    [SHR_RNN_THRESHOLDED_RELU] = {"ThresholdedRelu", true, false, 1.0f, 0.0f},
};

static int find_act(const struct shr_node *node, const char *name, enum shr_rnn_act_kind *ret,
                    struct shr_err *err)
{
    for (int i = 0; i < SHR_RNN_ACT_COUNT; i++) {
        if (strcasecmp(name, act_table[i].name) == 0) {
            *ret = (enum shr_rnn_act_kind)i;
            return SHR_OK;
        }
    }
    return shr_op_fail(node, err, SHR_ERR_UNSUPPORTED, "activation '%.40s' is not known", name);
}

static float take_parameter(const struct shr_attr *values, bool has, float fallback, size_t *at)
{
    return has && values != NULL && *at < values->n ? values->floats[(*at)++] : fallback;
}

/* The names of all directions in a row; each takes the next alpha and beta if it has one. */
static int read_activations(const struct shr_node *node, const struct shr_rnn_form *form,
                            struct shr_rnn *s, struct shr_err *err)
{
    const struct shr_attr *names = shr_node_attr(node, "activations");
    const struct shr_attr *alpha = shr_node_attr(node, "activation_alpha");
    const struct shr_attr *beta = shr_node_attr(node, "activation_beta");
    const size_t want = (size_t)(form->n_acts * s->directions);
    if (names != NULL && (names->kind != SHR_ATTR_STRINGS || names->n != want)) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%zu activations, not %zu", names->n, want);
    }
    size_t at_alpha = 0, at_beta = 0;
    for (size_t i = 0; i < want; i++) {
        struct shr_rnn_act *a = &s->acts[i / (size_t)form->n_acts][i % (size_t)form->n_acts];
        a->kind = form->acts[i % (size_t)form->n_acts];
        int code = names == NULL ? SHR_OK : find_act(node, names->strings[i].s, &a->kind, err);
        if (code != SHR_OK) {
            return code;
        }
        a->alpha = take_parameter(alpha, act_table[a->kind].has_alpha, act_table[a->kind].alpha,
                                  &at_alpha);
        a->beta =
            take_parameter(beta, act_table[a->kind].has_beta, act_table[a->kind].beta, &at_beta);
    }
    return SHR_OK;
}

int shr_rnn_setup(const struct shr_op_setup *c, const struct shr_rnn_form *form,
                  struct shr_rnn *ret, struct shr_err *err)
{
    struct shr_rnn s = {0};
    int code = directions(c->node, &s.directions, &s.first_reverse, err);
    if (code == SHR_OK) {
        code = read_activations(c->node, form, &s, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    s.batch_first = shr_node_int(c->node, "layout", 0) != 0;
    s.coupled = shr_node_int(c->node, "input_forget", 0) != 0;
    s.reset_after = shr_node_int(c->node, "linear_before_reset", 0) != 0;
    s.clip = shr_node_float(c->node, "clip", 0.0f);
    s.seq = c->in[X]->dim[s.batch_first ? 1 : 0];
    s.n = c->in[X]->dim[s.batch_first ? 0 : 1];
    s.in = c->in[X]->dim[2];
    s.h = c->in[R]->dim[form->transposed ? 1 : 2];
    s.gates = form->gates * s.h;
    s.block = s.n >= BLOCK_ROWS || s.n == 0 ? 1 : BLOCK_ROWS / s.n;
    s.block = s.block > s.seq ? s.seq : s.block;
    *ret = s;
    return SHR_OK;
}

size_t shr_rnn_take(struct shr_rnn_scratch *scratch, int64_t n, size_t size)
{
    size_t at = scratch->total, bytes, end;
    if (!shr_size_mul((size_t)n, size, &bytes) || !shr_size_add(bytes, SHR_MEM_ALIGN - 1, &bytes) ||
        !shr_size_add(at, bytes / SHR_MEM_ALIGN * SHR_MEM_ALIGN, &end)) {
        scratch->too_large = true;
        return 0;
    }
    scratch->total = end;
    return at;
}

void shr_rnn_take_shared(struct shr_rnn_scratch *scratch, struct shr_rnn *s)
{
    const size_t size = sizeof(float);
    const int64_t gates = s->gates, rows = s->block * s->n;
    bool gathers = s->batch_first || s->first_reverse || s->directions == 2;
    s->at.x = shr_rnn_take(scratch, gathers ? rows * s->in : 0, size);
    s->at.bias = shr_rnn_take(scratch, gates, size);
    s->at.g = shr_rnn_take(scratch, rows * gates, size);
    s->at.step = shr_rnn_take(scratch, s->n * gates, size);
    s->at.h = shr_rnn_take(scratch, s->n * s->h, size);
    s->at.c = shr_rnn_take(scratch, s->n * s->h, size);
    s->at.row = shr_rnn_take(scratch, s->h, size);
}

int shr_rnn_take_end(struct shr_op_setup *c, const struct shr_rnn_scratch *scratch,
                     struct shr_err *err)
{
    if (scratch->too_large) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the state is too large");
    }
    c->scratch = scratch->total;
    return SHR_OK;
}

/* ── Forward ────────────────────────────────────────────────────────────────────────────────── */

static const struct shr_tensor *given(const struct shr_op_call *c, size_t slot)
{
    return slot < c->n_in ? c->in[slot] : NULL;
}

static struct shr_tensor *wanted(const struct shr_op_call *c, size_t slot)
{
    return slot < c->n_out ? c->out[slot] : NULL;
}

/* Offset of row n of this direction in a state (directions, n, h), or (n, directions, h). */
static int64_t state_at(const struct shr_rnn_pass *p, int64_t row)
{
    const struct shr_rnn *s = p->s;
    return (s->batch_first ? row * s->directions + p->d : p->d * s->n + row) * s->h;
}

static void load_state(const struct shr_rnn_pass *p, size_t slot, float *state)
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
static void store_state(const struct shr_rnn_pass *p, size_t slot, const float *state)
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

static void begin(struct shr_rnn_pass *p)
{
    const struct shr_rnn *s = p->s;
    p->bias = shr_rnn_room(p, s->at.bias);
    p->g = shr_rnn_room(p, s->at.g);
    p->step = shr_rnn_room(p, s->at.step);
    p->h = shr_rnn_room(p, s->at.h);
    p->cell = shr_rnn_room(p, s->at.c);
    p->row = shr_rnn_room(p, s->at.row);
    const struct shr_tensor *b = given(p->c, B), *peephole = given(p->c, P);
    const float *w_bias = b == NULL ? NULL : (const float *)b->data + p->d * 2 * s->gates;
    const int64_t apart = s->reset_after ? s->gates - s->h : s->gates; /* of W alone from here */
    p->r_bias = b == NULL ? NULL : w_bias + s->gates;
    for (int64_t i = 0; i < s->gates; i++) {
        p->bias[i] = b == NULL ? 0.0f : i < apart ? w_bias[i] + p->r_bias[i] : w_bias[i];
    }
    p->peephole = peephole == NULL ? NULL : (const float *)peephole->data + p->d * 3 * s->h;
    load_state(p, H0, p->h);
    load_state(p, C0, p->cell);
}

int64_t shr_rnn_length(const struct shr_rnn_pass *p, int64_t row)
{
    const struct shr_tensor *lengths = given(p->c, LENGTHS);
    return lengths == NULL ? p->s->seq : ((const int32_t *)lengths->data)[row];
}

/* When step of a row is: backwards from the end of its own sequence. */
static int64_t time_of(const struct shr_rnn_pass *p, int64_t step, int64_t row)
{
    int64_t length = shr_rnn_length(p, row);
    return p->reverse && step < length ? length - 1 - step : step;
}

/* The rows of X for steps [from, from + steps), (steps * n, in). */
static const float *input_rows(const struct shr_rnn_pass *p, int64_t from, int64_t steps)
{
    const struct shr_rnn *s = p->s;
    const float *x = p->c->in[X]->data; /* (seq, n, in), or (n, seq, in) */
    if (!s->batch_first && !p->reverse) {
        return x + from * s->n * s->in;
    }
    float *rows = shr_rnn_room(p, s->at.x);
    for (int64_t i = 0; i < steps * s->n; i++) {
        int64_t row = i % s->n, t = time_of(p, from + i / s->n, row);
        memcpy(rows + i * s->in, x + (s->batch_first ? row * s->seq + t : t * s->n + row) * s->in,
               (size_t)s->in * sizeof *x);
    }
    return rows;
}

void shr_rnn_clip(const struct shr_rnn *s, int64_t n, float *v)
{
    for (int64_t i = 0; i < n && s->clip > 0.0f; i++) {
        v[i] = v[i] < -s->clip ? -s->clip : v[i] > s->clip ? s->clip : v[i];
    }
}

/* Those without a kernel. */
static float activate(struct shr_rnn_act a, float x)
{
    switch (a.kind) {
    case SHR_RNN_AFFINE:
        return a.alpha * x + a.beta;
    case SHR_RNN_ELU:
        return x >= 0.0f ? x : a.alpha * expm1f(x);
    case SHR_RNN_HARD_SIGMOID:
        return fmaxf(0.0f, fminf(1.0f, a.alpha * x + a.beta));
    case SHR_RNN_LEAKY_RELU:
        return x >= 0.0f ? x : a.alpha * x;
    case SHR_RNN_SCALED_TANH:
        return a.alpha * tanhf(a.beta * x);
    case SHR_RNN_SOFTPLUS:
        return x > 0.0f ? x + log1pf(expf(-x)) : log1pf(expf(x));
    case SHR_RNN_SOFTSIGN:
        return x / (1.0f + fabsf(x));
    default: /* ThresholdedRelu */
        return x >= a.alpha ? x : 0.0f;
    }
}

void shr_rnn_activate(const struct shr_rnn_pass *p, int i, int64_t n, const float *x, float *y)
{
    const struct shr_rnn_act a = p->s->acts[p->d][i];
    const struct shr_kernels *k = p->c->kernels;
    if (a.kind == SHR_RNN_SIGMOID) {
        k->sigmoid_f32((size_t)n, x, y);
    } else if (a.kind == SHR_RNN_TANH) {
        k->tanh_f32((size_t)n, x, y);
    } else if (a.kind == SHR_RNN_RELU) {
        k->relu_f32((size_t)n, x, y);
    } else {
        for (int64_t j = 0; j < n; j++) {
            y[j] = activate(a, x[j]);
        }
    }
}

/* Writes the states behind a step to Y; rows whose sequence is over give zeros. */
static void store_step(const struct shr_rnn_pass *p, int64_t step)
{
    const struct shr_rnn *s = p->s;
    struct shr_tensor *y = wanted(p->c, Y); /* (seq, d, n, h), or (n, seq, d, h) */
    for (int64_t i = 0; y != NULL && i < s->n; i++) {
        int64_t t = time_of(p, step, i);
        int64_t at = s->batch_first ? (i * s->seq + t) * s->directions + p->d
                                    : (t * s->directions + p->d) * s->n + i;
        float *row = (float *)y->data + at * s->h;
        if (step >= shr_rnn_length(p, i)) {
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

int shr_rnn_forward(const struct shr_op_call *c, const struct shr_rnn_cell *cell,
                    struct shr_err *err)
{
    const struct shr_rnn *s = c->state;
    int code = check_lengths(c, s->seq, err);
    for (int64_t d = 0; code == SHR_OK && d < s->directions; d++) {
        struct shr_rnn_pass p = {.s = s, .c = c, .d = d, .reverse = d == 1 || s->first_reverse};
        begin(&p);
        cell->begin(&p);
        for (int64_t from = 0; from < s->seq; from += s->block) {
            int64_t steps = s->seq - from < s->block ? s->seq - from : s->block;
            cell->input(&p, steps * s->n, input_rows(&p, from, steps));
            for (int64_t i = 0; i < steps; i++) {
                cell->step(&p, from + i, p.g + i * s->n * s->gates);
                store_step(&p, from + i);
            }
        }
        store_state(&p, Y_H, p.h);
        store_state(&p, Y_C, p.cell);
    }
    return code;
}
