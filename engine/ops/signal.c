/* Signal processing: DFT, STFT, HannWindow, HammingWindow, BlackmanWindow, MelWeightMatrix. Any
 * floating-point type; computed in double.
 *
 * DESIGN. A transform of n points splits into two of n / 2 while n is even (Cooley and Tukey); what
 * is odd then is summed directly. The factors exp(-2 pi i k / n) are in a table that setup makes.
 * Lengths, steps and axes decide shapes: they must be constant. */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"

static const double PI = 3.14159265358979323846;

/* ── Fourier transform ──────────────────────────────────────────────────────────────────────── */

struct point {
    double re, im;
};

struct fourier {
    int64_t n;
    struct point *factor; /* (n) */
};

static int fourier_new(struct shr_op_setup *c, int64_t n, struct fourier *ret, struct shr_err *err)
{
    *ret = (struct fourier){.n = n};
    ret->factor = shr_arena_new(c->arena, (size_t)n + 1, sizeof *ret->factor);
    c->scratch = 2 * (size_t)n * sizeof *ret->factor; /* a line and its transform; n is bounded */
    if (ret->factor == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (int64_t k = 0; k < n; k++) {
        const double angle = -2.0 * PI * (double)k / (double)n;
        ret->factor[k] = (struct point){cos(angle), sin(angle)};
    }
    return SHR_OK;
}

static struct point times(struct point a, struct point b)
{
    return (struct point){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

/* to (n) = transform of from (n points, step apart); n * step is f->n. */
static void transform(const struct fourier *f, int64_t n, int64_t step, const struct point *from,
                      struct point *to)
{
    if (n % 2 != 0) {
        for (int64_t k = 0; k < n; k++) {
            to[k] = (struct point){0.0, 0.0};
            for (int64_t j = 0; j < n; j++) {
                const struct point p = times(from[j * step], f->factor[j * k % n * step]);
                to[k].re += p.re;
                to[k].im += p.im;
            }
        }
        return;
    }
    const int64_t half = n / 2;
    transform(f, half, 2 * step, from, to);
    transform(f, half, 2 * step, from + step, to + half);
    for (int64_t k = 0; k < half; k++) {
        const struct point even = to[k], odd = times(to[k + half], f->factor[k * step]);
        to[k] = (struct point){even.re + odd.re, even.im + odd.im};
        to[k + half] = (struct point){even.re - odd.re, even.im - odd.im};
    }
}

/* ── Inputs that must be known ──────────────────────────────────────────────────────────────── */

/* An integer scalar on an input: fallback when it is not given, -1 when it is not known. */
static int scalar_in(const struct shr_node *node, size_t n_in, const struct shr_tensor *const *in,
                     size_t slot, int64_t fallback, int64_t *ret, struct shr_err *err)
{
    *ret = fallback;
    if (shr_node_in(node, slot) == NULL || slot >= n_in) {
        return SHR_OK;
    }
    const struct shr_tensor *t = in[slot];
    if (t == NULL || t->data == NULL) {
        *ret = INT64_MIN; /* not known */
        return SHR_OK;
    }
    if (shr_tensor_count(t) != 1 || (t->dtype != SHR_DTYPE_I64 && t->dtype != SHR_DTYPE_I32)) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "input '%s' is no integer",
                           shr_op_in_name(node, slot));
    }
    *ret = shr_op_int_at(t, 0);
    return SHR_OK;
}

enum { LONGEST = 1 << 22 }; /* points of a transform */

/* ── DFT ────────────────────────────────────────────────────────────────────────────────────── */

struct dft { /* of an input (outer, length, inner, parts) */
    int axis;
    int64_t points; /* -1 = not known */
    bool inverse, onesided;
    struct fourier f;
};

static int dft_read(const struct shr_node *node, int64_t opset, size_t n_in,
                    const struct shr_tensor *const *in, int rank, const int64_t *dim,
                    struct dft *ret, struct shr_err *err)
{
    int64_t axis = shr_node_int(node, "axis", 1), points = 0;
    *ret = (struct dft){.inverse = shr_node_int(node, "inverse", 0) != 0,
                        .onesided = shr_node_int(node, "onesided", 0) != 0};
    int code = opset < 20 ? SHR_OK : scalar_in(node, n_in, in, 2, -2, &axis, err);
    if (code == SHR_OK && axis == INT64_MIN) {
        return shr_op_fail(node, err, SHR_ERR_UNSUPPORTED, "needs a constant axis");
    }
    if (code == SHR_OK) {
        code = shr_op_axis(node, "axis", axis, rank, &ret->axis, err);
    }
    if (code == SHR_OK && (rank < 2 || ret->axis == rank - 1 || dim[rank - 1] > 2)) {
        code = shr_op_fail(node, err, SHR_ERR_INVALID, "the axis or the last dim is wrong");
    }
    if (code != SHR_OK) {
        return code;
    }
    const int64_t n = dim[ret->axis];
    const int64_t own = n < 0 ? INT64_MIN : ret->inverse && ret->onesided ? 2 * (n - 1) : n;
    code = scalar_in(node, n_in, in, 1, own, &points, err);
    ret->points = points == INT64_MIN ? -1 : points;
    if (code == SHR_OK && points != INT64_MIN && (points < 1 || points > LONGEST)) {
        code = shr_op_fail(node, err, SHR_ERR_INVALID, "dft_length is %lld", (long long)points);
    }
    return code;
}

static int dft_infer(struct shr_infer *c, struct shr_err *err)
{
    struct dft d;
    const struct shr_type *x = &c->in[0];
    c->out[0] = *x;
    if (x->rank < 0) {
        return SHR_OK;
    }
    int code = dft_read(c->node, c->opset, c->n_in, c->in_data, x->rank, x->dim, &d, err);
    if (code != SHR_OK) {
        return code;
    }
    int64_t n = d.points < 0 ? -1 : d.onesided && !d.inverse ? d.points / 2 + 1 : d.points;
    shr_type_set_dim(&c->out[0], d.axis, n, NULL);
    shr_type_set_dim(&c->out[0], x->rank - 1, d.onesided && d.inverse ? 1 : 2, NULL);
    return SHR_OK;
}

static int dft_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct dft *d = shr_arena_new(c->arena, 1, sizeof *d);
    if (d == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = d;
    int code = shr_op_want(c, 0, SHR_FLOATS, err);
    if (code == SHR_OK) {
        code = dft_read(c->node, c->opset, c->n_in, c->in, c->in[0]->rank, c->in[0]->dim, d, err);
    }
    if (code == SHR_OK && d->points < 0) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "needs a constant dft_length");
    }
    return code == SHR_OK ? fourier_new(c, d->points, &d->f, err) : code;
}

/* One line of the input, cut or filled with zeros; half a spectrum is completed by symmetry. */
static void load_line(const struct dft *d, const struct shr_tensor *x, int64_t at, int64_t step,
                      struct point *line)
{
    const int64_t parts = x->dim[x->rank - 1], have = x->dim[d->axis], n = d->f.n;
    for (int64_t j = 0; j < n; j++) {
        const bool mirrored = d->onesided && d->inverse && j > n / 2;
        const int64_t from = mirrored ? n - j : j;
        struct point p = {0.0, 0.0};
        if (from < have) {
            p.re = shr_tensor_get(x, (at + from * step) * parts);
            p.im = parts == 2 ? shr_tensor_get(x, (at + from * step) * parts + 1) : 0.0;
        }
        p.im = mirrored != d->inverse ? -p.im : p.im; /* the inverse is that of the conjugate */
        line[j] = p;
    }
}

static void store_line(const struct dft *d, const struct point *line, struct shr_tensor *y,
                       int64_t at, int64_t step)
{
    const int64_t parts = y->dim[y->rank - 1], n = y->dim[d->axis];
    const double scale = d->inverse ? 1.0 / (double)d->f.n : 1.0;
    for (int64_t k = 0; k < n; k++) {
        const struct point p = line[k];
        shr_tensor_set(y, (at + k * step) * parts, p.re * scale);
        if (parts == 2) {
            shr_tensor_set(y, (at + k * step) * parts + 1, (d->inverse ? -p.im : p.im) * scale);
        }
    }
}

static int dft_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct dft *d = c->state;
    struct point *from = c->scratch, *to = from + d->f.n;
    const struct shr_tensor *x = c->in[0];
    struct shr_tensor *y = c->out[0];
    const int64_t outer = shr_dims_product(x->dim, 0, d->axis);
    const int64_t inner = shr_dims_product(x->dim, d->axis + 1, x->rank - 1);
    for (int64_t i = 0; i < outer * inner; i++) {
        const int64_t o = i / inner, r = i % inner;
        load_line(d, x, o * x->dim[d->axis] * inner + r, inner, from);
        transform(&d->f, d->f.n, 1, from, to);
        store_line(d, to, y, o * y->dim[d->axis] * inner + r, inner);
    }
    return SHR_OK;
}

/* ── STFT: transforms of windowed frames ────────────────────────────────────────────────────── */

struct stft {
    int64_t step, points, frames; /* -1 = not known */
    bool onesided;
    struct fourier f;
};

enum { SIGNAL, STEP, WINDOW, LENGTH }; /* inputs */

static int stft_read(const struct shr_node *node, size_t n_in, const struct shr_tensor *const *in,
                     int64_t length, int64_t window, struct stft *ret, struct shr_err *err)
{
    *ret = (struct stft){.onesided = shr_node_int(node, "onesided", 1) != 0, .frames = -1};
    int code = scalar_in(node, n_in, in, STEP, INT64_MIN, &ret->step, err);
    if (code == SHR_OK) {
        code = scalar_in(node, n_in, in, LENGTH,
                         shr_node_in(node, WINDOW) != NULL ? window : length, &ret->points, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    const bool known = ret->step != INT64_MIN && ret->points != INT64_MIN && ret->points != -1;
    if (known && (ret->step < 1 || ret->points < 1 || ret->points > LONGEST ||
                  (length >= 0 && ret->points > length) ||
                  (shr_node_in(node, WINDOW) != NULL && window >= 0 && window != ret->points))) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "frames of %lld, %lld apart",
                           (long long)ret->points, (long long)ret->step);
    }
    ret->points = known ? ret->points : -1;
    ret->frames = known && length >= 0 ? (length - ret->points) / ret->step + 1 : -1;
    return SHR_OK;
}

static int stft_infer(struct shr_infer *c, struct shr_err *err)
{
    struct stft s;
    const struct shr_type *x = &c->in[SIGNAL], *w = c->n_in > WINDOW ? &c->in[WINDOW] : NULL;
    c->out[0].dtype = x->dtype;
    if (x->rank >= 0 && (x->rank != 3 || x->dim[2] > 2)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the signal is not (batch, length, 1)");
    }
    int code = stft_read(c->node, c->n_in, c->in_data, x->rank == 3 ? x->dim[1] : -1,
                         w != NULL && w->rank == 1 ? w->dim[0] : -1, &s, err);
    if (code != SHR_OK || x->rank < 0) {
        return code;
    }
    c->out[0].rank = 4;
    shr_type_copy_dim(&c->out[0], 0, x, 0);
    shr_type_set_dim(&c->out[0], 1, s.frames, NULL);
    shr_type_set_dim(&c->out[0], 2,
                     s.points < 0 ? -1
                     : s.onesided ? s.points / 2 + 1
                                  : s.points,
                     NULL);
    shr_type_set_dim(&c->out[0], 3, 2, NULL);
    return SHR_OK;
}

static int stft_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct stft *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    const struct shr_tensor *w = c->n_in > WINDOW ? c->in[WINDOW] : NULL;
    int code = shr_op_want(c, SIGNAL, SHR_FLOATS, err);
    if (code == SHR_OK) {
        code = shr_op_want(c, WINDOW, SHR_FLOATS, err);
    }
    if (code == SHR_OK) {
        code = stft_read(c->node, c->n_in, c->in, c->in[SIGNAL]->dim[1],
                         w != NULL && w->rank == 1 ? w->dim[0] : -1, s, err);
    }
    if (code == SHR_OK && s->points < 0) {
        code = shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "needs constant lengths and steps");
    }
    return code == SHR_OK ? fourier_new(c, s->points, &s->f, err) : code;
}

static int stft_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct stft *s = c->state;
    struct point *from = c->scratch, *to = from + s->points;
    const struct shr_tensor *x = c->in[SIGNAL], *w = c->n_in > WINDOW ? c->in[WINDOW] : NULL;
    struct shr_tensor *y = c->out[0]; /* (batch, frames, bins, 2) */
    const int64_t parts = x->dim[2], bins = y->dim[2];
    for (int64_t i = 0; i < y->dim[0] * y->dim[1]; i++) {
        const int64_t first = i / y->dim[1] * x->dim[1] + i % y->dim[1] * s->step;
        for (int64_t j = 0; j < s->points; j++) {
            const double by = w == NULL ? 1.0 : shr_tensor_get(w, j);
            const int64_t at = (first + j) * parts;
            from[j] = (struct point){by * shr_tensor_get(x, at),
                                     parts == 2 ? by * shr_tensor_get(x, at + 1) : 0.0};
        }
        transform(&s->f, s->points, 1, from, to);
        for (int64_t k = 0; k < bins; k++) {
            shr_tensor_set(y, (i * bins + k) * 2, to[k].re);
            shr_tensor_set(y, (i * bins + k) * 2 + 1, to[k].im);
        }
    }
    return SHR_OK;
}

/* ── Windows: a - b cos(x) + c cos(2 x) ─────────────────────────────────────────────────────── */

static int output_type(struct shr_infer *c, struct shr_err *err)
{
    int64_t to = shr_node_int(c->node, "output_datatype", SHR_DTYPE_F32);
    if (to <= 0 || to >= SHR_DTYPE_COUNT) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "output_datatype is %lld", (long long)to);
    }
    c->out[0].dtype = (enum shr_dtype)to;
    return SHR_OK;
}

static int output_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return ((SHR_NUMBERS | SHR_FLOATS) >> c->out[0]->dtype & 1u) != 0
               ? SHR_OK
               : shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "cannot make elements of type %s",
                             shr_dtype_name(c->out[0]->dtype));
}

static int window_infer(struct shr_infer *c, struct shr_err *err)
{
    int64_t n;
    int code = output_type(c, err);
    if (code == SHR_OK) {
        code = scalar_in(c->node, c->n_in, c->in_data, 0, INT64_MIN, &n, err);
    }
    if (code == SHR_OK) {
        c->out[0].rank = 1;
        shr_type_set_dim(&c->out[0], 0, n, NULL);
    }
    return code == SHR_OK && n < 0 && n != INT64_MIN
               ? shr_op_fail(c->node, err, SHR_ERR_INVALID, "size is %lld", (long long)n)
               : code;
}

static int window(const struct shr_op_call *c, double constant, double once, double twice)
{
    struct shr_tensor *y = c->out[0];
    const int64_t n = y->dim[0];
    const bool periodic = shr_node_int(c->node, "periodic", 1) != 0;
    const double period = (double)(periodic ? n : n - 1);
    for (int64_t i = 0; i < n; i++) {
        const double x = n == 1 && !periodic ? 0.0 : 2.0 * PI * (double)i / period;
        shr_tensor_set(y, i, constant - once * cos(x) + twice * cos(2.0 * x));
    }
    return SHR_OK;
}

static int hann_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    return window(c, 0.5, 0.5, 0.0);
}

static int hamming_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    return window(c, 25.0 / 46.0, 21.0 / 46.0, 0.0);
}

static int blackman_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    return window(c, 0.42, 0.5, 0.08);
}

/* ── MelWeightMatrix: triangles between frequencies that are even on the mel scale ──────────── */

enum { BANDS, DFT_LENGTH, RATE, LOWEST, HIGHEST };

static int mel_infer(struct shr_infer *c, struct shr_err *err)
{
    int64_t bands, length;
    int code = output_type(c, err);
    if (code == SHR_OK) {
        code = scalar_in(c->node, c->n_in, c->in_data, BANDS, INT64_MIN, &bands, err);
    }
    if (code == SHR_OK) {
        code = scalar_in(c->node, c->n_in, c->in_data, DFT_LENGTH, INT64_MIN, &length, err);
    }
    if (code == SHR_OK) {
        c->out[0].rank = 2;
        shr_type_set_dim(&c->out[0], 0, length < 0 ? -1 : length / 2 + 1, NULL);
        shr_type_set_dim(&c->out[0], 1, bands, NULL);
    }
    return code;
}

static double mel_of(double hertz)
{
    return 2595.0 * log10(1.0 + hertz / 700.0);
}

static int64_t bin_of(const struct shr_op_call *c, int64_t i)
{
    const double low = mel_of(shr_tensor_get(c->in[LOWEST], 0));
    const double high = mel_of(shr_tensor_get(c->in[HIGHEST], 0));
    const double mel = low + (double)i * (high - low) / (double)(c->out[0]->dim[1] + 2);
    const double hertz = 700.0 * (pow(10.0, mel / 2595.0) - 1.0);
    const double n = shr_tensor_get(c->in[DFT_LENGTH], 0) + 1.0;
    const double bin = floor(n * hertz / shr_tensor_get(c->in[RATE], 0));
    const double last = (double)c->out[0]->dim[0] - 1.0;
    return bin >= 0.0 && bin <= last ? (int64_t)bin : bin < 0.0 ? 0 : (int64_t)last;
}

static int mel_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct shr_tensor *y = c->out[0];
    const int64_t bands = y->dim[1];
    memset(y->data, 0, shr_tensor_bytes(y));
    for (int64_t i = 0; i < bands && y->dim[0] > 0; i++) {
        const int64_t low = bin_of(c, i), middle = bin_of(c, i + 1), high = bin_of(c, i + 2);
        if (low == middle) {
            shr_tensor_set(y, middle * bands + i, 1.0);
        }
        for (int64_t j = low; j <= middle && low < middle; j++) {
            shr_tensor_set(y, j * bands + i, (double)(j - low) / (double)(middle - low));
        }
        for (int64_t j = middle; j < high; j++) {
            shr_tensor_set(y, j * bands + i, (double)(high - j) / (double)(high - middle));
        }
    }
    return SHR_OK;
}

#define SIGNAL_ROW(name, since, until, in_min, in_max, infer_, setup_, fn)                         \
    {                                                                                              \
        SHR_ROW(name, since, until), SHR_SLOTS(in_min, in_max, 1, 1),                              \
            .infer = infer_, .setup = setup_, .forward = fn, SHR_NO_WEIGHT, .halves = true         \
    }

static const struct shr_op rows[] = {
    SIGNAL_ROW("BlackmanWindow", 17, 0, 1, 1, window_infer, output_setup, blackman_forward),
    SIGNAL_ROW("DFT", 17, 19, 1, 2, dft_infer, dft_setup, dft_forward),
    SIGNAL_ROW("DFT", 20, 0, 1, 3, dft_infer, dft_setup, dft_forward),
    SIGNAL_ROW("HammingWindow", 17, 0, 1, 1, window_infer, output_setup, hamming_forward),
    SIGNAL_ROW("HannWindow", 17, 0, 1, 1, window_infer, output_setup, hann_forward),
    SIGNAL_ROW("MelWeightMatrix", 17, 0, 5, 5, mel_infer, output_setup, mel_forward),
    SIGNAL_ROW("STFT", 17, 0, 2, 4, stft_infer, stft_setup, stft_forward),
};
const struct shr_op_family shr_ops_signal = {rows, SHR_COUNT_OF(rows)};
