/* Einsum: sums of products over labelled dims.
 *
 * DESIGN. Every label of the equation is a loop, those of the output outside and the others, which
 * are summed over, inside. An operand has a stride for each label: 0 where it does not have it, the
 * sum of two where it has it twice (a diagonal). Dims of an ellipsis are labels of their own,
 * aligned from the right. Dims of 1 broadcast. */
#include "ops/util.h"

#include <ctype.h>
#include <string.h>

#include "ops/families.h"

enum { MAX_OPERANDS = 8, MAX_LABELS = 24, LETTERS = 128 };

struct term { /* of the equation: labels in order */
    int n;
    int label[2 * SHR_MAX_RANK];
};

struct equation {
    int n_labels, n_ellipsis; /* of all labels the first n_ellipsis are the ellipsis' dims */
    signed char of_letter[LETTERS];
    struct term term[MAX_OPERANDS + 1]; /* the last one used is the output */
    int64_t dim[MAX_LABELS];            /* -1 = not known */
};

/* ── Parsing ────────────────────────────────────────────────────────────────────────────────── */

static int bad(const struct shr_node *node, struct shr_err *err, const char *why)
{
    return shr_op_fail(node, err, SHR_ERR_INVALID, "equation '%.80s' %s",
                       shr_node_text(node, "equation", ""), why);
}

static int label_of(struct equation *e, char letter)
{
    if (e->of_letter[(unsigned char)letter] < 0) {
        if (e->n_labels == MAX_LABELS) {
            return -1;
        }
        e->dim[e->n_labels] = -1;
        e->of_letter[(unsigned char)letter] = (signed char)e->n_labels++;
    }
    return e->of_letter[(unsigned char)letter];
}

/* Letters in a term, without blanks; *ret_ellipsis tells whether it has one. */
static int count_letters(const char *from, const char *to, bool *ret_ellipsis)
{
    int n = 0;
    *ret_ellipsis = false;
    for (const char *p = from; p < to; p++) {
        n += isalpha((unsigned char)*p) != 0;
        *ret_ellipsis = *ret_ellipsis || *p == '.';
    }
    return n;
}

/* A term of rank dims (-1 = as many as it has letters, and the whole ellipsis). */
static int parse_term(const struct shr_node *node, struct equation *e, const char *from,
                      const char *to, int rank, struct term *ret, struct shr_err *err)
{
    bool ellipsis;
    const int letters = count_letters(from, to, &ellipsis);
    const int dots = rank < 0 ? e->n_ellipsis : rank - letters;
    if (dots < 0 || (!ellipsis && rank >= 0 && dots != 0) || letters + dots > SHR_MAX_RANK) {
        return bad(node, err, "does not fit the rank of an input");
    }
    ret->n = 0;
    for (const char *p = from; p < to; p++) {
        if (*p == ' ') {
            continue;
        }
        if (p + 3 <= to && strncmp(p, "...", 3) == 0) {
            for (int i = 0; i < dots && ret->n < SHR_MAX_RANK; i++) {
                ret->label[ret->n++] = e->n_ellipsis - dots + i;
            }
            p += 2;
            continue;
        }
        int label = isalpha((unsigned char)*p) ? label_of(e, *p) : -1;
        if (label < 0 || ret->n == SHR_MAX_RANK) {
            return bad(node, err, "is not understood");
        }
        ret->label[ret->n++] = label;
    }
    return SHR_OK;
}

/* The dims of an ellipsis: the most that an input has. */
static int count_ellipsis(const struct shr_node *node, const char *text, const char *end,
                          const struct shr_type *in, size_t n_in, int *ret, struct shr_err *err)
{
    *ret = 0;
    size_t i = 0;
    for (const char *from = text; from <= end; i++) {
        const char *to = memchr(from, ',', (size_t)(end - from));
        to = to == NULL ? end : to;
        bool ellipsis;
        const int letters = count_letters(from, to, &ellipsis);
        if (i < n_in && ellipsis && in[i].rank - letters > *ret) {
            *ret = in[i].rank - letters;
        }
        from = to + 1;
    }
    return i == n_in ? SHR_OK : bad(node, err, "has not one term for each input");
}

/* Without "->": the ellipsis, then the letters that occur once, in alphabetical order. */
static void implicit_output(struct equation *e, size_t n_in, struct term *out)
{
    int uses[MAX_LABELS] = {0};
    for (size_t i = 0; i < n_in; i++) {
        for (int d = 0; d < e->term[i].n; d++) {
            uses[e->term[i].label[d]]++;
        }
    }
    out->n = 0;
    for (int i = 0; i < e->n_ellipsis; i++) {
        out->label[out->n++] = i;
    }
    for (int letter = 0; letter < LETTERS; letter++) {
        int label = e->of_letter[letter];
        if (label >= 0 && uses[label] == 1 && out->n < SHR_MAX_RANK) {
            out->label[out->n++] = label;
        }
    }
}

static int join_dim(const struct shr_node *node, struct equation *e, int label, int64_t n,
                    struct shr_err *err)
{
    int64_t have = e->dim[label];
    if (have < 0 || have == 1) {
        e->dim[label] = n < 0 && have == 1 ? 1 : n;
    } else if (n >= 0 && n != 1 && n != have) {
        return bad(node, err, "gives a label two sizes");
    }
    return SHR_OK;
}

/* All inputs have a known rank. */
static int parse(const struct shr_node *node, const struct shr_type *in, size_t n_in,
                 struct equation *e, struct shr_err *err)
{
    const char *text = shr_node_text(node, "equation", "");
    const char *arrow = strstr(text, "->"), *end = arrow == NULL ? text + strlen(text) : arrow;
    if (n_in > MAX_OPERANDS) {
        return shr_op_fail(node, err, SHR_ERR_LIMIT, "has %zu inputs, at most %d", n_in,
                           MAX_OPERANDS);
    }
    memset(e, 0, sizeof *e);
    memset(e->of_letter, -1, sizeof e->of_letter);
    int code = count_ellipsis(node, text, end, in, n_in, &e->n_ellipsis, err);
    e->n_labels = e->n_ellipsis;
    for (int i = 0; i < e->n_ellipsis; i++) {
        e->dim[i] = -1;
    }
    const char *from = text;
    for (size_t i = 0; i < n_in && code == SHR_OK; i++) {
        const char *to = memchr(from, ',', (size_t)(end - from));
        to = to == NULL ? end : to;
        code = parse_term(node, e, from, to, in[i].rank, &e->term[i], err);
        for (int d = 0; d < e->term[i].n && code == SHR_OK; d++) {
            code = join_dim(node, e, e->term[i].label[d], in[i].dim[d], err);
        }
        from = to + 1;
    }
    const int labels = e->n_labels;
    if (code == SHR_OK && arrow == NULL) {
        implicit_output(e, n_in, &e->term[n_in]);
    } else if (code == SHR_OK) {
        code = parse_term(node, e, arrow + 2, text + strlen(text), -1, &e->term[n_in], err);
    }
    return code == SHR_OK && e->n_labels != labels ? bad(node, err, "names a new output label")
                                                   : code;
}

static int einsum_infer(struct shr_infer *c, struct shr_err *err)
{
    struct equation e;
    c->out[0].dtype = c->in[0].dtype;
    for (size_t i = 0; i < c->n_in; i++) {
        int code = shr_op_same_dtype(c, 0, i, err);
        if (code != SHR_OK || c->in[i].rank < 0) {
            return code;
        }
    }
    int code = parse(c->node, c->in, c->n_in, &e, err);
    if (code == SHR_OK) {
        const struct term *out = &e.term[c->n_in];
        c->out[0].rank = out->n;
        for (int i = 0; i < out->n; i++) {
            shr_type_set_dim(&c->out[0], i, e.dim[out->label[i]], NULL);
        }
    }
    return code;
}

/* ── Loops ──────────────────────────────────────────────────────────────────────────────────── */

struct einsum {
    int n_out, n_sum;                         /* loops */
    int64_t dim[MAX_LABELS];                  /* of the outer ones, then of the inner ones */
    int64_t stride[MAX_OPERANDS][MAX_LABELS]; /* likewise */
    int64_t outputs, terms;                   /* elements of y, products of each */
};

static int64_t stride_of(const struct term *t, const int64_t *dim, int label)
{
    int64_t step = 1, sum = 0;
    for (int d = t->n - 1; d >= 0; d--) {
        sum += t->label[d] == label && dim[d] != 1 ? step : 0;
        step *= dim[d];
    }
    return sum;
}

static void add_loop(struct einsum *s, const struct shr_op_setup *c, const struct equation *e,
                     int label)
{
    const int at = s->n_out + s->n_sum;
    s->dim[at] = e->dim[label];
    for (size_t i = 0; i < c->n_in; i++) {
        s->stride[i][at] = stride_of(&e->term[i], c->in[i]->dim, label);
    }
}

static int einsum_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct shr_type in[MAX_OPERANDS];
    struct equation e;
    int code = shr_op_want(c, 0, SHR_NUMBERS, err);
    for (size_t i = 0; i < c->n_in && i < MAX_OPERANDS; i++) {
        in[i] = (struct shr_type){.dtype = c->in[i]->dtype, .rank = c->in[i]->rank};
        memcpy(in[i].dim, c->in[i]->dim, sizeof in[i].dim);
    }
    if (code == SHR_OK) {
        code = parse(c->node, in, c->n_in, &e, err);
    }
    struct einsum *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (code != SHR_OK || s == NULL) {
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    const struct term *out = &e.term[c->n_in];
    for (int i = 0; i < out->n; i++) {
        add_loop(s, c, &e, out->label[i]);
        s->n_out++;
    }
    for (int label = 0; label < e.n_labels; label++) {
        bool summed = true;
        for (int i = 0; i < out->n; i++) {
            summed = summed && out->label[i] != label;
        }
        if (summed) {
            add_loop(s, c, &e, label);
            s->n_sum++;
        }
    }
    if (!shr_dims_count(s->n_out, s->dim, &s->outputs) ||
        !shr_dims_count(s->n_sum, s->dim + s->n_out, &s->terms)) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "has too many products");
    }
    return SHR_OK;
}

/* Places of all operands at a step of some loops. */
static void places(const struct einsum *s, size_t n_in, int first, int n, int64_t i,
                   const int64_t *base, int64_t *ret)
{
    for (size_t k = 0; k < n_in; k++) {
        ret[k] = base == NULL ? 0 : base[k];
    }
    for (int d = first + n - 1; d >= first; d--) {
        const int64_t at = i % s->dim[d];
        i /= s->dim[d];
        for (size_t k = 0; k < n_in; k++) {
            ret[k] += at * s->stride[k][d];
        }
    }
}

/* Products along the innermost summed loop; two float32 operands are the common case. */
static double sum_line(const struct shr_op_call *c, const struct einsum *s, const int64_t *at,
                       int64_t n, int d)
{
    double sum = 0.0;
    if (c->n_in == 2 && c->in[0]->dtype == SHR_DTYPE_F32) {
        const float *a = (const float *)c->in[0]->data + at[0];
        const float *b = (const float *)c->in[1]->data + at[1];
        const int64_t sa = d < 0 ? 0 : s->stride[0][d], sb = d < 0 ? 0 : s->stride[1][d];
        for (int64_t i = 0; i < n; i++) {
            sum += (double)a[i * sa] * (double)b[i * sb];
        }
        return sum;
    }
    for (int64_t i = 0; i < n; i++) {
        double product = 1.0;
        for (size_t k = 0; k < c->n_in; k++) {
            product *= shr_tensor_get(c->in[k], at[k] + (d < 0 ? 0 : i * s->stride[k][d]));
        }
        sum += product;
    }
    return sum;
}

static int einsum_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct einsum *s = c->state;
    const int inner = s->n_sum > 0 ? s->n_out + s->n_sum - 1 : -1;
    const int64_t length = inner < 0 ? 1 : s->dim[inner];
    const int64_t lines = s->terms == 0 ? 0 : s->terms / length;
    for (int64_t i = 0; i < s->outputs; i++) {
        int64_t base[MAX_OPERANDS], at[MAX_OPERANDS];
        double sum = 0.0;
        places(s, c->n_in, 0, s->n_out, i, NULL, base);
        for (int64_t j = 0; j < lines; j++) {
            places(s, c->n_in, s->n_out, inner < 0 ? 0 : s->n_sum - 1, j, base, at);
            sum += sum_line(c, s, at, length, inner);
        }
        shr_tensor_set(c->out[0], i, sum);
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("Einsum", 12, 0), SHR_SLOTS(1, -1, 1, 1), .infer = einsum_infer, .setup = einsum_setup,
     .forward = einsum_forward, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_einsum = {rows, SHR_COUNT_OF(rows)};
