/* Calibration data for pruning; see prune_data.h.
 *
 * DESIGN: a layer is linear in the channels x that it reads. With the second moments of x and 1
 * over places and samples, a channel that goes is written as a combination of those that stay,
 * x_r ~ A x_k + b, by ridge regression; its weights then go to theirs, W_k += W_r A, and W_r b to
 * the bias. For Gemm and MatMul that is the least-squares fit of the layer's output. (He, Zhang,
 * Sun: Channel Pruning for Accelerating Very Deep Neural Networks, 2017; without the data of the
 * pruned layers before it.) Moments are of the model as it was before the cut. */
#include "passes/prune_data.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "passes/calibrate.h"

enum { MAX_CHANNELS = 2048, MIN_ROWS = 16384, ROWS_A_CHANNEL = 8 };

struct moments { /* of a value that layers read */
    const char *name;
    int axis;
    const struct shr_channel_part *part;
    int64_t n, samples; /* channels; samples that will be seen */
    bool all;           /* the whole matrix, not its diagonal alone */
    double *m;          /* ((n + 1) * (n + 1)) or (n + 1); the last is 1 */
    double *row;        /* (n + 1) */
    struct shr_rng rng;
};

struct reader { /* a layer that reads it */
    struct shr_node *node;
    size_t slot;    /* of its weights */
    int axis;       /* of theirs: channels, each of so many */
    int64_t places; /* when the value was flattened */
    size_t moments;
};

struct data {
    SHR_VEC(struct moments) moments;
    SHR_VEC(struct reader) readers;
};

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the moments of channels");
}

/* ── What is looked at ──────────────────────────────────────────────────────────────────────── */

/* Of a layer that reads units: the value that has them along one axis, before it was flattened. */
const struct shr_value *shr_prune_read(const struct shr_channels *c,
                                       const struct shr_channel_use *use, int *ret_axis,
                                       int64_t *ret_places)
{
    const struct shr_node *node = use->node;
    bool conv = shr_node_is(node, "Conv") && shr_node_int(node, "group", 1) == 1;
    bool gemm = shr_node_is(node, "Gemm") && shr_node_int(node, "transA", 0) == 0;
    if (use->role != SHR_CHANNEL_IN || use->slot != 1 ||
        (!conv && !gemm && !shr_node_is(node, "MatMul"))) {
        return NULL;
    }
    const struct shr_value *v = shr_node_in(node, 0);
    const struct shr_channel_map *map = shr_channels_map(c, v);
    int axis = map == NULL ? -1 : conv ? 1 : map->rank - 1;
    int64_t places = 1;
    const struct shr_node *maker = v->producer;
    if (maker != NULL && axis == 1 && !conv &&
        (shr_node_is(maker, "Flatten") || shr_node_is(maker, "Reshape"))) {
        const struct shr_channel_map *from = shr_channels_map(c, shr_node_in(maker, 0));
        const struct shr_channel_part *p = shr_channel_part_of(from, 1);
        if (p != NULL && from->rank > 2 && map->dim[1] % from->dim[1] == 0) {
            places = map->dim[1] / from->dim[1];
            v = shr_node_in(maker, 0);
            map = from;
        }
    }
    const struct shr_channel_part *p = shr_channel_part_of(map, axis);
    if (p == NULL || p->axis[p->cut] != axis || shr_value_is_constant(v)) {
        return NULL;
    }
    *ret_axis = axis;
    *ret_places = places;
    return v;
}

static int add_reader(struct data *d, const struct shr_channels *c,
                      const struct shr_channel_use *use, bool all, struct shr_err *err)
{
    int axis = 0;
    int64_t places = 1;
    const struct shr_value *v = shr_prune_read(c, use, &axis, &places);
    if (v == NULL || (v->type.dtype != SHR_DTYPE_F32 && v->type.dtype != SHR_DTYPE_NONE)) {
        return SHR_OK;
    }
    const struct shr_channel_map *map = shr_channels_map(c, v);
    size_t i = 0;
    for (; i < d->moments.n && strcmp(d->moments.v[i].name, v->name) != 0; i++) {
    }
    if (map->dim[axis] > MAX_CHANNELS && all) {
        return SHR_OK;
    }
    if (i == d->moments.n) {
        struct moments *m = SHR_VEC_ADD(&d->moments);
        if (m == NULL) {
            return no_memory(err);
        }
        size_t n = (size_t)map->dim[axis] + 1;
        *m = (struct moments){.name = v->name,
                              .axis = axis,
                              .part = shr_channel_part_of(map, axis),
                              .n = map->dim[axis],
                              .all = all,
                              .m = shr_mem_new(all ? n * n : n, sizeof *m->m),
                              .row = shr_mem_new(n, sizeof *m->row)};
        if (m->m == NULL || m->row == NULL) {
            return no_memory(err);
        }
    }
    struct reader *reader = SHR_VEC_ADD(&d->readers);
    if (reader == NULL) {
        return no_memory(err);
    }
    *reader = (struct reader){use->node, use->slot, use->axis, places, i};
    return SHR_OK;
}

static void finish(struct data *d)
{
    for (size_t i = 0; i < d->moments.n; i++) {
        shr_mem_free(d->moments.v[i].m);
        shr_mem_free(d->moments.v[i].row);
    }
    SHR_VEC_FINISH(&d->moments);
    SHR_VEC_FINISH(&d->readers);
}

/* ── Looking ────────────────────────────────────────────────────────────────────────────────── */

static void add_row(struct moments *m)
{
    int64_t n = m->n + 1;
    m->row[m->n] = 1;
    for (int64_t i = 0; i < n; i++) {
        double x = m->row[i];
        if (!m->all) {
            m->m[i] += x * x;
            continue;
        }
        double *to = m->m + i * n;
        for (int64_t j = 0; j <= i && x != 0; j++) {
            to[j] += x * m->row[j];
        }
    }
}

/* Takes one of every so many places, at random, so that there are enough rows for the fit and not
 * many more. */
static int see(void *user, const struct shr_tensor *t, int64_t count, int64_t batch,
               struct shr_err *err)
{
    struct moments *m = user;
    int64_t inner = 1, outer = 1;
    for (int d = 0; d < t->rank; d++) {
        outer *= d < m->axis ? t->dim[d] : 1;
        inner *= d > m->axis ? t->dim[d] : 1;
    }
    outer = t->dim[0] == batch && batch > 0 ? outer / batch * count : outer;
    int64_t wanted = m->n * ROWS_A_CHANNEL > MIN_ROWS ? m->n * ROWS_A_CHANNEL : MIN_ROWS;
    int64_t rows = outer * inner, step = rows * (m->samples / (count > 0 ? count : 1)) / wanted;
    step = step < 1 ? 1 : step;
    const float *x = t->data;
    for (int64_t first = 0; first + step <= rows; first += step) {
        int64_t r = first + (step > 1 ? (int64_t)(shr_rng_next(&m->rng) % (uint64_t)step) : 0);
        const float *at = x + r / inner * m->n * inner + r % inner;
        for (int64_t i = 0; i < m->n; i++) {
            m->row[i] = (double)at[i * inner];
            if (!isfinite(m->row[i])) {
                return shr_err_set(err, SHR_ERR_INVALID,
                                   "value '%s' is not finite for some samples", m->name);
            }
        }
        add_row(m);
    }
    return SHR_OK;
}

static int look(struct data *d, struct shr_model *model, struct shr_pass_call *call,
                int64_t samples, struct shr_err *err)
{
    struct shr_calibration calibration = {0};
    int code = shr_calibration_init(&calibration, d->moments.n, err);
    for (size_t i = 0; i < d->moments.n && code == SHR_OK; i++) {
        d->moments.v[i].samples = samples;
        shr_rng_init(&d->moments.v[i].rng, call->ctx != NULL ? call->ctx->seed : 0);
        calibration.v[i].name = d->moments.v[i].name;
        calibration.v[i].channel_axis = -1;
        calibration.v[i].see = see;
        calibration.v[i].user = &d->moments.v[i];
    }
    if (code == SHR_OK) {
        code = shr_calibrate(&calibration, model, call->calibrate, samples, 0, call->ctx, err);
    }
    shr_calibration_finish(&calibration);
    return code;
}

static int gather(struct data *d, struct shr_channels *c, struct shr_model *model,
                  struct shr_pass_call *call, int64_t samples, const unsigned char *gone,
                  struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t i = 0; i < c->uses.n && code == SHR_OK; i++) {
        const struct shr_channel_part *p = c->uses.v[i].part;
        bool wanted = gone == NULL;
        for (int64_t k = 0; k < p->n && !wanted; k++) {
            int64_t unit = shr_channels_unit(c, p->channel[k]);
            wanted = unit >= 0 && gone[unit] != 0;
        }
        code = wanted ? add_reader(d, c, &c->uses.v[i], gone != NULL, err) : SHR_OK;
    }
    return code == SHR_OK && d->moments.n > 0 ? look(d, model, call, samples, err) : code;
}

int shr_prune_measure(struct shr_channels *c, struct shr_model *model, struct shr_pass_call *call,
                      int64_t samples, double *keys, struct shr_err *err)
{
    struct data d = {{0}, {0}};
    int code = gather(&d, c, model, call, samples, NULL, err);
    for (size_t i = 0; i < d.moments.n && code == SHR_OK; i++) {
        const struct moments *m = &d.moments.v[i];
        for (int64_t k = 0; k < m->n; k++) {
            int64_t unit = shr_channels_unit(c, shr_channel_at(m->part, m->axis, k));
            if (unit >= 0) {
                keys[unit] += m->m[k] / fmax(m->m[m->n], 1);
            }
        }
    }
    finish(&d);
    return code;
}

/* ── Refitting ──────────────────────────────────────────────────────────────────────────────── */

/* Of a moments matrix: which channels stay, the constant last, and the factor of their matrix. */
struct fit {
    int64_t *stay, *go;
    int64_t n_stay, n_go; /* with the constant, if it is used */
    double *l;            /* (n_stay, n_stay): Cholesky's factor */
    double *a;            /* (n_go, n_stay): what those that go are made of */
};

static double moment(const struct moments *m, int64_t i, int64_t j)
{
    return m->m[(i > j ? i : j) * (m->n + 1) + (i > j ? j : i)];
}

/* A in place: (n, n) symmetric positive. False = it is not. */
static bool cholesky(double *l, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double sum = l[i * n + j];
            for (int64_t k = 0; k < j; k++) {
                sum -= l[i * n + k] * l[j * n + k];
            }
            if (i == j && !(sum > 0)) {
                return false;
            }
            l[i * n + j] = i == j ? sqrt(sum) : sum / l[j * n + j];
        }
    }
    return true;
}

static void solve(const double *l, int64_t n, double *x)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < i; k++) {
            x[i] -= l[i * n + k] * x[k];
        }
        x[i] /= l[i * n + i];
    }
    for (int64_t i = n - 1; i >= 0; i--) {
        for (int64_t k = i + 1; k < n; k++) {
            x[i] -= l[k * n + i] * x[k];
        }
        x[i] /= l[i * n + i];
    }
}

static void fit_finish(struct fit *f)
{
    shr_mem_free(f->stay);
    shr_mem_free(f->go);
    shr_mem_free(f->l);
    shr_mem_free(f->a);
}

static int fit(struct shr_channels *c, const struct moments *m, const unsigned char *gone,
               bool constant, struct fit *ret, struct shr_err *err)
{
    struct fit f = {.stay = shr_mem_new((size_t)m->n + 1, sizeof *f.stay),
                    .go = shr_mem_new((size_t)m->n + 1, sizeof *f.go)};
    if (f.stay == NULL || f.go == NULL) {
        fit_finish(&f);
        return no_memory(err);
    }
    double ridge = 0;
    for (int64_t i = 0; i < m->n; i++) {
        int64_t unit = shr_channels_unit(c, shr_channel_at(m->part, m->axis, i));
        bool goes = unit >= 0 && gone[unit] != 0;
        *(goes ? &f.go[f.n_go++] : &f.stay[f.n_stay++]) = i;
        ridge += moment(m, i, i) / (double)m->n;
    }
    if (constant) {
        f.stay[f.n_stay++] = m->n;
    }
    int64_t n = f.n_stay;
    f.l = shr_mem_new((size_t)(n * n) + 1, sizeof *f.l);
    f.a = shr_mem_new((size_t)(f.n_go * n) + 1, sizeof *f.a);
    if (f.l == NULL || f.a == NULL) {
        fit_finish(&f);
        return no_memory(err);
    }
    ridge = ridge * 1e-4 + 1e-12;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            f.l[i * n + j] = moment(m, f.stay[i], f.stay[j]) + (i == j ? ridge : 0);
        }
    }
    bool ok = cholesky(f.l, n);
    for (int64_t r = 0; r < f.n_go && ok; r++) {
        for (int64_t k = 0; k < n; k++) {
            f.a[r * n + k] = moment(m, f.go[r], f.stay[k]);
        }
        solve(f.l, n, f.a + r * n);
    }
    f.n_go = ok ? f.n_go : 0; /* not to be fitted: the weights stay as they are */
    *ret = f;
    return SHR_OK;
}

static bool is_vector(const struct shr_value *v, int64_t n)
{
    return shr_value_is_constant(v) && v->n_uses == 1 && v->constant.dtype == SHR_DTYPE_F32 &&
           v->constant.rank == 1 && v->constant.dim[0] == n;
}

/* The bias of the layer, that of an Add behind it, or the mean that a normalization takes away. */
struct shr_prune_bias shr_prune_bias_of(struct shr_node *node, int64_t n)
{
    bool plain = shr_node_float(node, "alpha", 1) == 1 && shr_node_float(node, "beta", 1) == 1;
    struct shr_node *next = shr_value_single_use(shr_node_out(node, 0));
    if (is_vector(shr_node_in(node, 2), n)) {
        return (struct shr_prune_bias){plain ? node : NULL, 2, 1};
    }
    if (shr_node_in(node, 2) == NULL && shr_node_is(next, "BatchNormalization") &&
        is_vector(shr_node_in(next, 3), n)) {
        return (struct shr_prune_bias){next, 3, -1};
    }
    for (size_t slot = 0; slot < 2 && shr_node_is(next, "Add"); slot++) {
        if (is_vector(shr_node_in(next, slot), n) && !shr_node_is(node, "Conv")) {
            return (struct shr_prune_bias){next, slot, 1};
        }
    }
    return (struct shr_prune_bias){NULL, 0, 0};
}

/* Elements of weights: (outer, channel, place, inner); an output is one of outer or of inner. */
struct layout {
    int64_t outer, channels, places, inner;
    bool out_first;
};

static void move_weights(const struct fit *f, const struct layout *at, int64_t constant, float *w,
                         float *bias, float sign)
{
    int64_t each = at->places * at->inner, n = f->n_stay;
    for (int64_t o = 0; o < at->outer; o++) {
        float *block = w + o * at->channels * each;
        for (int64_t r = 0; r < f->n_go; r++) {
            const float *from = block + f->go[r] * each;
            for (int64_t k = 0; k < n; k++) {
                double a = f->a[r * n + k];
                if (f->stay[k] == constant) {
                    for (int64_t i = 0; i < each && bias != NULL; i++) {
                        bias[at->out_first ? o : i % at->inner] +=
                            sign * (float)(a * (double)from[i]);
                    }
                    continue;
                }
                float *to = block + f->stay[k] * each;
                for (int64_t i = 0; i < each; i++) {
                    to[i] += (float)(a * (double)from[i]);
                }
            }
        }
    }
}

/* Makes the bytes of a constant its own, so that they can be written. */
static int own(struct shr_node *node, size_t slot, struct shr_err *err)
{
    return shr_tensor_own(&shr_node_in(node, slot)->constant, err);
}

static int refit(struct data *d, struct shr_channels *c, const struct reader *r,
                 const unsigned char *gone, struct shr_report *report, struct shr_err *err)
{
    const struct moments *m = &d->moments.v[r->moments];
    struct shr_value *w = shr_node_in(r->node, r->slot);
    char label[128];
    shr_node_label(r->node, label, sizeof label);
    if (!shr_value_is_constant(w) || w->constant.dtype != SHR_DTYPE_F32 ||
        shr_value_single_use(w) != r->node) {
        shr_report_note(report, SHR_NOTE_SKIPPED, label,
                        "not refitted: its weights are no float32 of its own");
        return SHR_OK;
    }
    const struct shr_tensor *t = &w->constant;
    struct layout at = {1, m->n, r->places, 1, r->axis > 0};
    for (int a = 0; a < t->rank; a++) {
        at.outer *= a < r->axis ? t->dim[a] : 1;
        at.inner *= a > r->axis ? t->dim[a] : 1;
    }
    struct shr_prune_bias b = shr_prune_bias_of(r->node, at.out_first ? at.outer : at.inner);
    struct fit f = {0};
    int code = fit(c, m, gone, b.node != NULL, &f, err);
    if (code != SHR_OK) {
        return code;
    }
    code = own(r->node, r->slot, err);
    if (code == SHR_OK && b.node != NULL) {
        code = own(b.node, b.slot, err);
    }
    if (code == SHR_OK) {
        float *bias = b.node == NULL ? NULL : shr_node_in(b.node, b.slot)->constant.data;
        move_weights(&f, &at, m->n, shr_node_in(r->node, r->slot)->constant.data, bias, b.sign);
        struct shr_note *note =
            shr_report_note(report, SHR_NOTE_DONE, label, "refitted to %lld of %lld inputs",
                            (long long)(f.n_stay - (b.node != NULL)), (long long)m->n);
        shr_note_figure(note, "rows", moment(m, m->n, m->n));
    }
    fit_finish(&f);
    return code;
}

int shr_prune_refit(struct shr_channels *c, struct shr_model *model, struct shr_pass_call *call,
                    int64_t samples, const unsigned char *gone, struct shr_err *err)
{
    struct data d = {{0}, {0}};
    int code = gather(&d, c, model, call, samples, gone, err);
    for (size_t i = 0; i < d.readers.n && code == SHR_OK; i++) {
        code = refit(&d, c, &d.readers.v[i], gone, call->report, err);
    }
    finish(&d);
    return code;
}
