/* Checks of the float functions, rows, channels and pools, against double. */
#include <float.h>
#include <math.h>

#include "checkkernels.h"
#include "core/team.h"

static const double UNIT_BOUND = 4 * FLT_EPSILON; /* a few units in the last place */

/* ── Functions of a number ──────────────────────────────────────────────────────────────────── */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double silu(double x)
{
    return x == -INFINITY ? 0 : x / (1 + exp(-x));
}

static double gelu(double x)
{
    return 0.5 * x * erfc(-x * sqrt(0.5));
}

static double hardswish(double x)
{
    return x * fmin(1, fmax(0, x / 6 + 0.5));
}

/* y within UNIT_BOUND of f(x), relative to it; of GELU, which ends in a difference, to x */
static bool check_curve(const struct shr_kernels *k, enum shr_act act,
                        void (*run)(size_t n, const float *x, float *y), double (*f)(double))
{
    const float reach[] = {1e-30f, 0.01f, 0.3f, 1, 5, 20, 87};
    for (size_t i = 0; sizes[i] != 0; i++) {
        for (size_t j = 0; j < SHR_COUNT_OF(reach); j++) {
            size_t n = sizes[i], at = 0;
            float *x = floats(n, -reach[j], reach[j]);
            struct out out = out_new(n * 4);
            float *y = (float *)out.p;
            if (run != NULL) {
                run(n, x, y);
            } else {
                k->act_f32(n, x, act, 0, 0, y);
            }
            bool good = out_whole(&out);
            for (; at < n && good; at++) {
                double want = f(x[at]), size = fabs(want);
                size = act == SHR_ACT_GELU || act == SHR_ACT_HARDSWISH ? fabs((double)x[at]) : size;
                good = fabs((double)y[at] - want) <= UNIT_BOUND * size + FLT_MIN;
            }
            double last = at > 0 ? x[at - 1] : 0, got = at > 0 ? y[at - 1] : 0;
            free(x);
            out_free(&out);
            if (!good) {
                return wrong("act %d n %zu: f(%.9g) = %.9g, not %.9g", (int)act, n, last, got,
                             f(last));
            }
        }
    }
    return true;
}

bool check_curves(const struct table *t)
{
    const struct shr_kernels *k = t->k;
    return check_curve(k, SHR_ACT_NONE, k->exp_f32, exp) &&
           check_curve(k, SHR_ACT_NONE, k->erf_f32, erf) &&
           check_curve(k, SHR_ACT_SIGMOID, NULL, sigmoid) &&
           check_curve(k, SHR_ACT_SILU, NULL, silu) && check_curve(k, SHR_ACT_TANH, NULL, tanh) &&
           check_curve(k, SHR_ACT_GELU, NULL, gelu) &&
           check_curve(k, SHR_ACT_HARDSWISH, NULL, hardswish);
}

/* At the ends of the range and beyond; NaN stays. */
bool check_curve_ends(const struct table *t)
{
    const float x[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 0};
    enum { N = SHR_COUNT_OF(x) };
    float e[N], r[N], s[N];
    t->k->exp_f32(N, x, e);
    t->k->erf_f32(N, x, r);
    t->k->act_f32(N, x, SHR_ACT_CLIP, -1, 2, s);
    bool good = isnan(e[0]) && isnan(r[0]) && isnan(s[0]);
    good = good && e[1] == INFINITY && e[2] == 0 && e[3] == INFINITY && e[4] == 0 && e[5] == 1;
    good = good && r[1] == 1 && r[2] == -1 && r[3] == 1 && r[4] == -1 && r[5] == 0;
    good = good && s[1] == 2 && s[2] == -1 && s[5] == 0;
    return good ? true : wrong("%g %g %g %g %g %g", e[1], e[2], r[1], r[2], s[1], s[2]);
}

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

bool check_softmax_f32(const struct table *t)
{
    for (size_t i = 0; sizes[i] != 0; i++) {
        size_t n = sizes[i];
        float *x = floats(n, -30, 10);
        struct out out = out_new(n * 4);
        float *y = (float *)out.p;
        double largest = -INFINITY, sum = 0;
        bool good = true;
        t->k->softmax_f32(n, x, y);
        for (size_t j = 0; j < n; j++) {
            largest = fmax(largest, x[j]);
        }
        for (size_t j = 0; j < n; j++) {
            sum += exp(x[j] - largest);
        }
        for (size_t j = 0; j < n && good; j++) {
            double want = exp(x[j] - largest) / sum;
            /* the difference is rounded before exp sees it */
            good = fabs(y[j] - want) <= want * (UNIT_BOUND + 40 * FLT_EPSILON);
        }
        t->k->softmax_f32(n, x, x);
        good = good && out_whole(&out) && memcmp(x, y, n * 4) == 0;
        free(x);
        out_free(&out);
        if (!good) {
            return wrong("n %zu", n);
        }
    }
    return true;
}

static bool one_layernorm(const struct table *t, size_t n, float offset)
{
    float *x = floats(n, offset - 1, offset + 1), *scale = floats(n, -2, 2);
    float *bias = rnd() % 2 ? floats(n, -1, 1) : NULL, mean, inverse;
    struct out out = out_new(n * 4);
    double m = 0, squares = 0;
    t->k->layernorm_f32(&(struct shr_layernorm){n, scale, bias, 1e-5f, &mean, &inverse}, x,
                        (float *)out.p);
    for (size_t j = 0; j < n; j++) {
        m += x[j] / (double)n;
    }
    for (size_t j = 0; j < n; j++) {
        squares += (x[j] - m) * (x[j] - m);
    }
    double inv = 1 / sqrt(squares / (double)n + 1e-5);
    /* what the rounding of the mean does to a difference */
    double bound = 16 * UNIT_BOUND + FLT_EPSILON * fabs(offset) * inv;
    bool good = fabs(mean - m) <= 2 * FLT_EPSILON * (1 + fabs(m)) &&
                fabs(inverse - inv) <= bound * inv * (1 + fabs(offset) * inv) && out_whole(&out);
    for (size_t j = 0; j < n && good; j++) {
        double want = (x[j] - m) * inv * scale[j] + (bias != NULL ? bias[j] : 0);
        good = fabs(((float *)out.p)[j] - want) <= bound * (2 + fabs(want));
    }
    free(x);
    free(scale);
    free(bias);
    out_free(&out);
    return good ? true : wrong("n %zu offset %g", n, (double)offset);
}

bool check_layernorm_f32(const struct table *t)
{
    for (size_t i = 1; sizes[i] != 0; i++) {
        if (!one_layernorm(t, sizes[i], 0) || !one_layernorm(t, sizes[i], 100)) {
            return false;
        }
    }
    return true;
}

static bool one_layernorm_grad(const struct table *t, size_t n)
{
    float *dy = floats(n, -1, 1), *scale = rnd() % 2 ? floats(n, -2, 2) : NULL;
    float *hat = floats(n, -1, 1);
    struct out dx = out_new(n * 4);
    double sum = 0, product = 0;
    t->k->layernorm_grad_f32(n, dy, scale, hat, 0.75f, (float *)dx.p);
    for (size_t i = 0; i < n; i++) {
        const double g = (double)dy[i] * (scale == NULL ? 1 : scale[i]);
        sum += g;
        product += g * hat[i];
    }
    bool good = out_whole(&dx);
    for (size_t i = 0; i < n && good; i++) {
        const double g = (double)dy[i] * (scale == NULL ? 1 : scale[i]);
        const double want = 0.75 * (g - sum / (double)n - hat[i] * product / (double)n);
        good = fabs(((float *)dx.p)[i] - want) <= 16 * UNIT_BOUND;
    }
    free(dy);
    free(scale);
    free(hat);
    out_free(&dx);
    return good ? true : wrong("n %zu", n);
}

bool check_layernorm_grad_f32(const struct table *t)
{
    for (size_t i = 1; sizes[i] != 0; i++) {
        if (!one_layernorm_grad(t, sizes[i])) {
            return false;
        }
    }
    return true;
}

/* ── Channels and pools ─────────────────────────────────────────────────────────────────────── */

bool check_scale_f32(const struct table *t)
{
    for (size_t i = 0; sizes[i] != 0; i++) {
        size_t c = sizes[i], n = 3 * c;
        float *x = floats(n, -1, 1), *scale = floats(c, -2, 2), *bias = floats(c, -1, 1);
        struct out out = out_new(n * 4);
        bool good = true;
        t->k->scale_f32(&(struct shr_scale_f32){3, c, scale, bias, SHR_ACT_CLIP, -0.5f, 0.25f}, x,
                        (float *)out.p);
        for (size_t j = 0; j < n && good; j++) {
            double want = (double)x[j] * scale[j % c] + bias[j % c];
            want = want < -0.5 ? -0.5 : want > 0.25 ? 0.25 : want;
            good = fabs(((float *)out.p)[j] - want) <= UNIT_BOUND * 3;
        }
        good = good && out_whole(&out);
        free(x);
        free(scale);
        free(bias);
        out_free(&out);
        if (!good) {
            return wrong("c %zu", c);
        }
    }
    return true;
}

/* Output element i: the maximum, or the mean over the taps that count. */
static double pool_at(const struct shr_conv_shape *s, int mode, const float *x, int64_t i)
{
    int64_t c = i % s->c, ow = i / s->c % s->ow, oh = i / (s->c * s->ow) % s->oh;
    int64_t n = i / (s->c * s->ow * s->oh);
    double largest = -INFINITY, sum = 0, count = 0;
    for (int64_t k = 0; k < s->kh * s->kw; k++) {
        int64_t ih = oh * s->stride_h - s->pad_t + k / s->kw * s->dil_h;
        int64_t iw = ow * s->stride_w - s->pad_l + k % s->kw * s->dil_w;
        bool inside = ih >= 0 && ih < s->h && iw >= 0 && iw < s->w;
        count += inside || (mode == 2 && ih < s->h + s->pad_b && iw < s->w + s->pad_r);
        if (inside) {
            double v = x[((n * s->h + ih) * s->w + iw) * s->c + c];
            sum += v;
            largest = fmax(largest, v);
        }
    }
    return mode == 0 ? largest : count == 0 ? 0 : sum / count;
}

static bool one_pool(const struct table *t, const struct shr_conv_shape *s, int mode,
                     struct shr_team *team)
{
    float *x = floats((size_t)(s->n * s->c * s->h * s->w), -1, 1);
    size_t n = (size_t)(s->n * s->c * s->oh * s->ow);
    struct out out = out_new(n * 4);
    if (mode == 0) {
        t->k->maxpool_f32(s, x, (float *)out.p, team);
    } else {
        t->k->avgpool_f32(s, mode == 2, x, (float *)out.p, team);
    }
    bool good = out_whole(&out);
    for (size_t i = 0; i < n && good; i++) {
        double want = pool_at(s, mode, x, (int64_t)i), got = ((float *)out.p)[i];
        good = got == want || fabs(got - want) <= UNIT_BOUND;
    }
    free(x);
    out_free(&out);
    return good;
}

bool check_pool_f32(const struct table *t)
{
    struct shr_team *team = NULL;
    bool good = shr_team_new(2, &team, NULL) == 0;
    for (unsigned i = 0; i < 200 && good; i++) {
        struct shr_conv_shape s = check_shape(i);
        s.oc = s.c = 1 + rnd_below(i % 20 == 0 ? 700 : 40);
        s.groups = 1;
        for (int mode = 0; mode < 3 && good; mode++) {
            good = one_pool(t, &s, mode, team) || wrong_shape(&s, mode == 0 ? "max" : "mean");
        }
    }
    shr_team_free(team);
    return good;
}

/* Output i of a pool gives its dy to the first largest tap, or to all that are inside. */
static void pool_back(const struct shr_conv_shape *s, int mode, const float *x, int64_t i,
                      double dy, double *dx)
{
    int64_t c = i % s->c, ow = i / s->c % s->ow, oh = i / (s->c * s->ow) % s->oh;
    int64_t n = i / (s->c * s->ow * s->oh), best = -1;
    double count = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t k = 0; k < s->kh * s->kw; k++) {
            int64_t ih = oh * s->stride_h - s->pad_t + k / s->kw * s->dil_h;
            int64_t iw = ow * s->stride_w - s->pad_l + k % s->kw * s->dil_w;
            int64_t at = ((n * s->h + ih) * s->w + iw) * s->c + c;
            bool inside = ih >= 0 && ih < s->h && iw >= 0 && iw < s->w;
            if (pass == 0) {
                count += inside || (mode == 2 && ih < s->h + s->pad_b && iw < s->w + s->pad_r);
                best = inside && (best < 0 || x[at] > x[best]) ? at : best;
            } else if (inside) {
                dx[at] += mode == 0 ? at == best ? dy : 0 : dy / count;
            }
        }
    }
}

static bool one_pool_grad(const struct table *t, const struct shr_conv_shape *s, int mode,
                          struct shr_team *team)
{
    const size_t n_x = (size_t)(s->n * s->c * s->h * s->w);
    const size_t n_y = (size_t)(s->n * s->c * s->oh * s->ow);
    float *x = floats(n_x, -3, 3), *dy = floats(n_y, -1, 1), *y = floats(n_y, 0, 1);
    double *want = calloc(n_x, sizeof *want);
    struct out dx = out_new(n_x * 4);
    for (size_t i = 0; i < n_x; i++) { /* some are equal */
        x[i] = rintf(x[i]);
    }
    for (size_t i = 0; i < n_y; i++) {
        pool_back(s, mode, x, (int64_t)i, (double)dy[i], want);
    }
    if (mode == 0) {
        t->k->maxpool_f32(s, x, y, NULL);
        t->k->maxpool_grad_f32(s, x, y, dy, (float *)dx.p, team);
    } else {
        t->k->avgpool_grad_f32(s, mode == 2, dy, (float *)dx.p, team);
    }
    bool good = out_whole(&dx);
    for (size_t i = 0; i < n_x && good; i++) {
        good = fabs(((float *)dx.p)[i] - want[i]) <= 1e-5;
    }
    free(x);
    free(y);
    free(dy);
    free(want);
    out_free(&dx);
    return good;
}

bool check_pool_grad_f32(const struct table *t)
{
    struct shr_team *team = NULL;
    bool good = shr_team_new(2, &team, NULL) == 0;
    for (unsigned i = 0; i < 100 && good; i++) {
        struct shr_conv_shape s = check_shape(i);
        s.oc = s.c = 1 + rnd_below(40);
        s.groups = 1;
        for (int mode = 0; mode < 3 && good; mode++) {
            good = one_pool_grad(t, &s, mode, team) ||
                   wrong_shape(&s, mode == 0 ? "max grad" : "mean grad");
        }
    }
    shr_team_free(team);
    return good;
}

bool check_maxpool_nan(const struct table *t)
{
    const struct shr_conv_shape s = {.n = 1,
                                     .c = 9,
                                     .h = 1,
                                     .w = 3,
                                     .oc = 9,
                                     .kh = 1,
                                     .kw = 3,
                                     .oh = 1,
                                     .ow = 1,
                                     .stride_h = 1,
                                     .stride_w = 1,
                                     .dil_h = 1,
                                     .dil_w = 1,
                                     .groups = 1};
    for (size_t at = 0; at < 27; at++) {
        float x[27] = {0}, y[9];
        x[at] = NAN;
        t->k->maxpool_f32(&s, x, y, NULL);
        for (size_t i = 0; i < 9; i++) {
            if (isnan(y[i]) != (i == at % 9)) {
                return wrong("a NaN at %zu gives %g at %zu", at, (double)y[i], i);
            }
        }
    }
    return true;
}
