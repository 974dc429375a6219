/* Attention (opset 23 on) and RotaryEmbedding, float32.
 *
 * DESIGN. Q, K and V are (batch, heads, length, size), or (batch, length, heads * size): strides
 * tell them apart, nothing is transposed. Every head is two matrix products with the scores
 * between them: S (queries, keys) = scale * Q K', then softcap, bias and softmax row by row, then
 * Y = S V. Heads of queries share a head of K and V (grouped queries), which is packed once. Keys
 * of a cache come in front of the new ones; both are joined where the present output lies, or in
 * scratch. The bias is the mask, and -infinity for keys that causality, the window or the number of
 * valid keys forbid; a row without any key gives zeros. */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"

enum { Q, K, V, MASK, PAST_K, PAST_V, VALID };                    /* inputs */
enum { Y, PRESENT_K, PRESENT_V, SCORES };                         /* outputs */
enum { SCORES_RAW, SCORES_CAPPED, SCORES_BIASED, PROBABILITIES }; /* what output SCORES shows */

/* ── Shapes ─────────────────────────────────────────────────────────────────────────────────── */

struct sizes { /* -1 = not known */
    int64_t batch, heads, length, size;
};

static int read_sizes(const struct shr_node *node, const char *name, const char *attr, int rank,
                      const int64_t *dim, struct sizes *ret, struct shr_err *err)
{
    if (rank == 4) {
        *ret = (struct sizes){dim[0], dim[1], dim[2], dim[3]};
        return SHR_OK;
    }
    const int64_t heads = shr_node_int(node, attr, 0);
    if (rank != 3 || heads < 1 || (dim[2] >= 0 && dim[2] % heads != 0)) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%s does not have %lld heads", name,
                           (long long)heads);
    }
    *ret = (struct sizes){dim[0], heads, dim[1], dim[2] < 0 ? -1 : dim[2] / heads};
    return SHR_OK;
}

static bool same(int64_t a, int64_t b)
{
    return a < 0 || b < 0 || a == b;
}

static int read_all(const struct shr_node *node, const struct shr_type *in, struct sizes *q,
                    struct sizes *k, struct sizes *v, struct shr_err *err)
{
    int code = read_sizes(node, "Q", "q_num_heads", in[Q].rank, in[Q].dim, q, err);
    if (code == SHR_OK) {
        code = read_sizes(node, "K", "kv_num_heads", in[K].rank, in[K].dim, k, err);
    }
    if (code == SHR_OK) {
        code = read_sizes(node, "V", "kv_num_heads", in[V].rank, in[V].dim, v, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    bool fits = in[Q].rank == in[K].rank && in[Q].rank == in[V].rank && same(q->size, k->size) &&
                same(k->length, v->length) && same(k->heads, v->heads) &&
                same(q->batch, k->batch) && same(q->batch, v->batch);
    fits = fits && (q->heads < 0 || k->heads < 0 || (k->heads > 0 && q->heads % k->heads == 0));
    return fits ? SHR_OK : shr_op_fail(node, err, SHR_ERR_INVALID, "Q, K and V do not fit");
}

static int64_t sum_of(int64_t a, int64_t b)
{
    return a < 0 || b < 0 || a > INT64_MAX - b ? -1 : a + b;
}

static void set_four(struct shr_type *t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    t->rank = 4;
    shr_type_set_dim(t, 0, a, NULL);
    shr_type_set_dim(t, 1, b, NULL);
    shr_type_set_dim(t, 2, c, NULL);
    shr_type_set_dim(t, 3, d, NULL);
}

static int check_past(const struct shr_infer *c, size_t slot, const struct sizes *x,
                      struct shr_err *err)
{
    const struct shr_type *t = &c->in[slot];
    if (!shr_op_has_in(c, slot) || t->rank < 0) {
        return SHR_OK;
    }
    bool fits = t->rank == 4 && same(t->dim[0], x->batch) && same(t->dim[1], x->heads) &&
                same(t->dim[3], x->size);
    return fits ? SHR_OK
                : shr_op_fail(c->node, err, SHR_ERR_INVALID, "input '%s' does not fit K and V",
                              shr_op_in_name(c->node, slot));
}

static int check_mask(const struct shr_infer *c, const struct sizes *q, int64_t total,
                      struct shr_err *err)
{
    const struct shr_type *m = &c->in[MASK];
    if (!shr_op_has_in(c, MASK) || m->rank < 0) {
        return SHR_OK;
    }
    const int64_t want[] = {q->batch, q->heads, q->length, total};
    bool fits = m->rank >= 1 && m->rank <= 4;
    for (int i = 0; i < m->rank && fits; i++) {
        const int64_t n = m->dim[i], w = want[4 - m->rank + i];
        fits = n == 1 || same(n, w) || (i == m->rank - 1 && n < w);
    }
    return fits ? SHR_OK
                : shr_op_fail(c->node, err, SHR_ERR_INVALID, "the mask does not fit the scores");
}

static int attention_infer(struct shr_infer *c, struct shr_err *err)
{
    struct sizes q = {0}, k = {0}, v = {0};
    for (size_t i = 0; i < c->n_out; i++) {
        c->out[i].dtype = i == PRESENT_V ? c->in[V].dtype : c->in[Q].dtype;
    }
    if (c->in[Q].rank < 0 || c->in[K].rank < 0 || c->in[V].rank < 0) {
        return SHR_OK;
    }
    if (shr_op_has_in(c, PAST_K) != shr_op_has_in(c, PAST_V)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "past_key and past_value go together");
    }
    int code = read_all(c->node, c->in, &q, &k, &v, err);
    if (code != SHR_OK) {
        return code;
    }
    const bool past = shr_op_has_in(c, PAST_K);
    const int64_t before = !past ? 0 : c->in[PAST_K].rank == 4 ? c->in[PAST_K].dim[2] : -1;
    const int64_t total = sum_of(before, k.length);
    code = check_past(c, PAST_K, &k, err);
    if (code == SHR_OK) {
        code = check_past(c, PAST_V, &v, err);
    }
    if (code == SHR_OK) {
        code = check_mask(c, &q, total, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    set_four(&c->out[Y], q.batch, q.heads, q.length, v.size);
    if (c->in[Q].rank == 3) {
        c->out[Y].rank = 3;
        shr_type_set_dim(&c->out[Y], 1, q.length, NULL);
        shr_type_set_dim(&c->out[Y], 2,
                         v.size < 0 || v.size > INT64_MAX / q.heads ? -1 : v.size * q.heads, NULL);
    }
    if (c->n_out > PRESENT_K) {
        set_four(&c->out[PRESENT_K], k.batch, k.heads, total, k.size);
    }
    if (c->n_out > PRESENT_V) {
        set_four(&c->out[PRESENT_V], v.batch, v.heads, total, v.size);
    }
    if (c->n_out > SCORES) {
        set_four(&c->out[SCORES], q.batch, q.heads, q.length, total);
    }
    return SHR_OK;
}

/* ── Setup ──────────────────────────────────────────────────────────────────────────────────── */

struct attention {
    struct sizes q, k, v;
    int64_t before, total; /* keys of the cache, and all */
    float scale, softcap;
    bool causal, rank3;
    int64_t left, right; /* window; -1 = none */
    int64_t shown;
    struct { /* offsets in scratch */
        size_t k, v, packed_k, packed_v, scores, bias;
    } at;
};

static struct shr_type type_of(const struct shr_tensor *t)
{
    struct shr_type type = {.dtype = t->dtype, .rank = t->rank};
    memcpy(type.dim, t->dim, sizeof type.dim);
    return type;
}

/* Takes n * size bytes of the scratch; false when they do not fit. */
static bool take(size_t *total, int64_t n, int64_t m, size_t *ret_at)
{
    size_t count, bytes;
    *ret_at = *total;
    return shr_size_mul((size_t)n, (size_t)m, &count) &&
           shr_size_mul(count, sizeof(float), &bytes) &&
           shr_size_add(bytes, SHR_MEM_ALIGN - 1, &bytes) &&
           shr_size_add(*total, bytes / SHR_MEM_ALIGN * SHR_MEM_ALIGN, total);
}

static int take_scratch(struct shr_op_setup *c, struct attention *s, struct shr_err *err)
{
    const struct shr_kernels *k = c->kernels;
    const bool join = s->before > 0 || shr_op_given(c->n_in, c->in, PAST_K) != NULL;
    size_t total = 0;
    bool fits = take(&total, join ? s->total : 0, s->k.size, &s->at.k) &&
                take(&total, join ? s->total : 0, s->v.size, &s->at.v) &&
                take(&total, s->q.length, s->total, &s->at.scores) &&
                take(&total, 1, s->total, &s->at.bias);
    size_t packed_k = k->gemm_f32_size((size_t)s->k.size, (size_t)s->total);
    size_t packed_v = k->gemm_f32_size((size_t)s->total, (size_t)s->v.size);
    fits = fits && take(&total, 1, (int64_t)(packed_k / sizeof(float) + 1), &s->at.packed_k) &&
           take(&total, 1, (int64_t)(packed_v / sizeof(float) + 1), &s->at.packed_v);
    c->scratch = total;
    return fits ? SHR_OK
                : shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the scores do not fit in memory");
}

static int want_types(const struct shr_op_setup *c, struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t i = 0; i < c->n_in && code == SHR_OK; i++) {
        code = shr_op_want(c, i,
                           i == MASK    ? SHR_BIT(F32) | SHR_BIT(BOOL)
                           : i == VALID ? SHR_BIT(I64)
                                        : SHR_BIT(F32),
                           err);
    }
    return code;
}

static int attention_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct attention *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    const struct shr_type in[] = {type_of(c->in[Q]), type_of(c->in[K]), type_of(c->in[V])};
    const struct shr_tensor *past = shr_op_given(c->n_in, c->in, PAST_K);
    int code = want_types(c, err);
    if (code == SHR_OK) {
        code = read_all(c->node, in, &s->q, &s->k, &s->v, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    s->rank3 = c->in[Q]->rank == 3;
    s->before = past == NULL ? 0 : past->dim[2];
    s->total = s->before + s->k.length;
    s->scale = shr_node_float(c->node, "scale", 1.0f / sqrtf((float)s->q.size));
    s->softcap = shr_node_float(c->node, "softcap", 0.0f);
    s->causal = shr_node_int(c->node, "is_causal", 0) != 0;
    s->left = shr_node_int(c->node, "left_window_size", -1);
    s->right = shr_node_int(c->node, "right_window_size", -1);
    s->shown = shr_node_int(c->node, "qk_matmul_output_mode", SCORES_RAW);
    return take_scratch(c, s, err);
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

struct matrix { /* a head: rows of size, some step apart */
    const float *data;
    int64_t step;
};

static struct matrix head_of(const struct attention *s, const struct shr_tensor *t,
                             const struct sizes *x, int64_t b, int64_t h)
{
    const float *data = t->data;
    return s->rank3 ? (struct matrix){data + (b * x->length * x->heads + h) * x->size,
                                      x->heads * x->size}
                    : (struct matrix){data + (b * x->heads + h) * x->length * x->size, x->size};
}

static void copy_rows(const struct matrix *from, int64_t rows, int64_t size, float *to)
{
    for (int64_t i = 0; i < rows; i++) {
        memcpy(to + i * size, from->data + i * from->step, (size_t)size * sizeof *to);
    }
}

/* The keys or values of a head, those of the cache in front: in the present output if there is
 * one, where they are if there is no cache, else in scratch. */
static struct matrix join(const struct shr_op_call *c, bool values, int64_t b, int64_t h)
{
    const struct attention *s = c->state;
    const struct sizes *x = values ? &s->v : &s->k;
    const struct shr_tensor *past = shr_op_given(c->n_in, c->in, values ? PAST_V : PAST_K);
    const size_t slot = values ? PRESENT_V : PRESENT_K;
    struct shr_tensor *present = slot < c->n_out ? c->out[slot] : NULL;
    const struct matrix fresh = head_of(s, c->in[values ? V : K], x, b, h);
    if (past == NULL && present == NULL) {
        return fresh;
    }
    float *to = (void *)((char *)c->scratch + (values ? s->at.v : s->at.k));
    if (present != NULL) {
        to = (float *)present->data + (b * x->heads + h) * s->total * x->size;
    }
    if (past != NULL && s->before > 0 && x->size > 0) {
        memcpy(to, (const float *)past->data + (b * x->heads + h) * s->before * x->size,
               (size_t)(s->before * x->size) * sizeof *to);
    }
    copy_rows(&fresh, s->k.length, x->size, to + s->before * x->size);
    return (struct matrix){to, x->size};
}

/* What the mask adds to a score. */
static float mask_at(const struct shr_tensor *m, const int64_t *place, int64_t key)
{
    const int64_t length = m->dim[m->rank - 1];
    if (key >= length && length != 1) {
        return -INFINITY;
    }
    int64_t at = 0;
    for (int i = 0; i < m->rank; i++) {
        const int64_t p = i == m->rank - 1 ? key : place[3 - m->rank + 1 + i];
        at = at * m->dim[i] + (m->dim[i] == 1 ? 0 : p);
    }
    if (m->dtype == SHR_DTYPE_BOOL) {
        return ((const uint8_t *)m->data)[at] != 0 ? 0.0f : -INFINITY;
    }
    return ((const float *)m->data)[at];
}

/* Fills the bias of a query; false when it may see no key. */
static bool fill_bias(const struct shr_op_call *c, int64_t b, int64_t h, int64_t i, float *bias)
{
    const struct attention *s = c->state;
    const struct shr_tensor *mask = shr_op_given(c->n_in, c->in, MASK);
    const struct shr_tensor *valid = shr_op_given(c->n_in, c->in, VALID);
    const int64_t keys = valid == NULL ? s->total : ((const int64_t *)valid->data)[b];
    const int64_t offset = valid != NULL && s->before == 0 ? keys - s->q.length : s->before;
    const int64_t at = i + offset, place[] = {b, h, i};
    bool any = false;
    for (int64_t j = 0; j < s->total; j++) {
        bool hidden = j >= keys || (s->causal && j > at) || (s->left >= 0 && j < at - s->left) ||
                      (s->right >= 0 && j > at + s->right);
        bias[j] = hidden ? -INFINITY : mask == NULL ? 0.0f : mask_at(mask, place, j);
        any = any || bias[j] != -INFINITY;
    }
    return any;
}

static void show(const struct shr_op_call *c, int64_t mode, int64_t b, int64_t h, int64_t i,
                 const float *row)
{
    const struct attention *s = c->state;
    struct shr_tensor *t = c->n_out > SCORES ? c->out[SCORES] : NULL;
    if (t != NULL && s->shown == mode) {
        memcpy((float *)t->data + ((b * s->q.heads + h) * s->q.length + i) * s->total, row,
               (size_t)s->total * sizeof *row);
    }
}

/* One row of products becomes probabilities. */
static void weigh_row(const struct shr_op_call *c, int64_t b, int64_t h, int64_t i, float *row)
{
    const struct attention *s = c->state;
    float *bias = (void *)((char *)c->scratch + s->at.bias);
    for (int64_t j = 0; j < s->total; j++) {
        row[j] *= s->scale;
    }
    show(c, SCORES_RAW, b, h, i, row);
    for (int64_t j = 0; j < s->total && s->softcap > 0.0f; j++) {
        row[j] = s->softcap * tanhf(row[j] / s->softcap);
    }
    show(c, SCORES_CAPPED, b, h, i, row);
    const bool any = fill_bias(c, b, h, i, bias);
    float largest = -INFINITY, sum = 0.0f;
    for (int64_t j = 0; j < s->total; j++) {
        row[j] += bias[j];
        largest = row[j] > largest ? row[j] : largest;
    }
    show(c, SCORES_BIASED, b, h, i, row);
    for (int64_t j = 0; j < s->total; j++) {
        row[j] = any ? expf(row[j] - largest) : 0.0f;
        sum += row[j];
    }
    for (int64_t j = 0; j < s->total && any; j++) {
        row[j] /= sum;
    }
    show(c, PROBABILITIES, b, h, i, row);
}

static void run_head(const struct shr_op_call *c, int64_t b, int64_t h)
{
    const struct attention *s = c->state;
    float *scores = (void *)((char *)c->scratch + s->at.scores);
    const struct matrix q = head_of(s, c->in[Q], &s->q, b, h);
    const size_t rows = (size_t)s->q.length, keys = (size_t)s->total;
    c->kernels->gemm_f32(&(struct shr_gemm_f32){.m = rows,
                                                .n = keys,
                                                .k = (size_t)s->q.size,
                                                .a = q.data,
                                                .lda = (size_t)q.step,
                                                .b = (char *)c->scratch + s->at.packed_k,
                                                .c = scores,
                                                .ldc = keys});
    for (int64_t i = 0; i < s->q.length; i++) {
        weigh_row(c, b, h, i, scores + i * s->total);
    }
    const struct sizes y = {s->q.batch, s->q.heads, s->q.length, s->v.size};
    const struct matrix out = head_of(s, c->out[Y], &y, b, h);
    float *to = (float *)c->out[Y]->data + (out.data - (const float *)c->out[Y]->data);
    c->kernels->gemm_f32(&(struct shr_gemm_f32){.m = rows,
                                                .n = (size_t)s->v.size,
                                                .k = keys,
                                                .a = scores,
                                                .lda = keys,
                                                .b = (char *)c->scratch + s->at.packed_v,
                                                .c = to,
                                                .ldc = (size_t)out.step});
}

static int attention_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct attention *s = c->state;
    const int64_t share = s->k.heads == 0 ? 0 : s->q.heads / s->k.heads;
    for (int64_t i = 0; i < s->k.batch * s->k.heads; i++) {
        const int64_t b = i / s->k.heads, h = i % s->k.heads;
        const struct matrix keys = join(c, false, b, h), values = join(c, true, b, h);
        c->kernels->gemm_f32_pack((size_t)s->k.size, (size_t)s->total, keys.data, (size_t)keys.step,
                                  true, (char *)c->scratch + s->at.packed_k);
        c->kernels->gemm_f32_pack((size_t)s->total, (size_t)s->v.size, values.data,
                                  (size_t)values.step, false, (char *)c->scratch + s->at.packed_v);
        for (int64_t j = 0; j < share; j++) {
            run_head(c, b, h * share + j);
        }
    }
    return SHR_OK;
}

static int64_t attention_macs(const struct shr_node *node, const struct shr_type *in,
                              const struct shr_type *out)
{
    struct sizes q = {0}, k = {0}, v = {0};
    struct shr_err err;
    if (read_all(node, in, &q, &k, &v, &err) != SHR_OK || q.size > INT32_MAX ||
        v.size > INT32_MAX) {
        return -1;
    }
    (void)out;
    const struct shr_type scores = {.rank = 4, .dim = {q.batch, q.heads, q.length, k.length}};
    const int64_t each = q.size + v.size;
    return shr_op_macs(&scores, 1, &each);
}

/* ── RotaryEmbedding: pairs of elements turn by an angle of their position ──────────────────── */

static int rotary_infer(struct shr_infer *c, struct shr_err *err)
{
    struct sizes x = {0};
    c->out[0] = c->in[0];
    if (c->in[0].rank < 0) {
        return SHR_OK;
    }
    int code = read_sizes(c->node, "X", "num_heads", c->in[0].rank, c->in[0].dim, &x, err);
    const int64_t turned = shr_node_int(c->node, "rotary_embedding_dim", 0);
    if (code == SHR_OK && (turned < 0 || turned % 2 != 0 || (x.size >= 0 && turned > x.size) ||
                           (turned == 0 && x.size % 2 > 0))) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "rotary_embedding_dim is %lld",
                           (long long)turned);
    }
    return code;
}

static int rotary_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct sizes x = {0};
    int code = SHR_OK;
    for (size_t i = 0; i < c->n_in && code == SHR_OK; i++) {
        code = shr_op_want(c, i, i == 3 ? SHR_BIT(I64) | SHR_BIT(I32) : SHR_BIT(F32), err);
    }
    if (code == SHR_OK) {
        code = read_sizes(c->node, "X", "num_heads", c->in[0]->rank, c->in[0]->dim, &x, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    const struct shr_tensor *ids = shr_op_given(c->n_in, c->in, 3);
    const int64_t turned = shr_node_int(c->node, "rotary_embedding_dim", 0);
    const int64_t half = (turned == 0 ? x.size : turned) / 2;
    for (size_t i = 1; i < 3; i++) {
        const struct shr_tensor *t = c->in[i];
        bool fits = t->rank == (ids != NULL ? 2 : 3) && t->dim[t->rank - 1] == half;
        fits = fits && (ids != NULL || (t->dim[0] == x.batch && t->dim[1] == x.length));
        if (!fits || !shr_tensor_same_shape(c->in[1], c->in[2])) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "input '%s' does not fit X",
                               shr_op_in_name(c->node, i));
        }
    }
    bool fits = ids == NULL || shr_tensor_count(ids) == x.batch * x.length;
    return fits ? SHR_OK : shr_op_fail(c->node, err, SHR_ERR_INVALID, "the positions do not fit X");
}

static void turn(const float *x, int64_t half, bool interleaved, const float *cosine,
                 const float *sine, float *y)
{
    for (int64_t i = 0; i < half; i++) {
        const int64_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + half;
        const float u = x[a], v = x[b];
        y[a] = cosine[i] * u - sine[i] * v;
        y[b] = sine[i] * u + cosine[i] * v;
    }
}

static int rotary_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *t = c->in[0], *ids = shr_op_given(c->n_in, c->in, 3);
    const bool interleaved = shr_node_int(c->node, "interleaved", 0) != 0;
    struct sizes x = {0};
    int code = read_sizes(c->node, "X", "num_heads", t->rank, t->dim, &x, err);
    const int64_t half = c->in[1]->dim[c->in[1]->rank - 1];
    shr_copy_same(t, c->out[0]);
    for (int64_t i = 0; i < x.batch * x.heads * x.length && code == SHR_OK; i++) {
        const int64_t b = i / (x.heads * x.length), rest = i % (x.heads * x.length);
        const int64_t step = t->rank == 3 ? rest / x.heads : rest % x.length;
        int64_t at = b * x.length + step;
        at = ids == NULL ? at : shr_op_int_at(ids, at);
        if (at < 0 || (ids != NULL && at >= c->in[1]->dim[0])) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "position %lld is not in the cache",
                               (long long)at);
        }
        turn((const float *)t->data + i * x.size, half, interleaved,
             (const float *)c->in[1]->data + at * half, (const float *)c->in[2]->data + at * half,
             (float *)c->out[0]->data + i * x.size);
    }
    return code;
}

static const struct shr_op rows[] = {
    {SHR_ROW("Attention", 23, 0), SHR_SLOTS(3, 7, 1, 4), .infer = attention_infer,
     .setup = attention_setup, .forward = attention_forward, .macs = attention_macs, SHR_NO_WEIGHT},
    {SHR_ROW("RotaryEmbedding", 23, 0), SHR_SLOTS(3, 4, 1, 1), .infer = rotary_infer,
     .setup = rotary_setup, .forward = rotary_forward, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_attention = {rows, SHR_COUNT_OF(rows)};
