/* Optimizers; see optim.h. */
#include "train/optim.h"

#include <math.h>

#include "base/mem.h"

enum { BLOCK = 16384 }; /* elements of a task */

int shr_optim_init(struct shr_optim *ret, const struct shr_optim_spec *spec, size_t n,
                   size_t n_decay, struct shr_err *err)
{
    struct shr_optim o = {.spec = *spec, .n = n, .n_decay = n_decay};
    const bool adam = spec->kind != SHR_OPTIM_SGD;
    const bool first = adam || spec->momentum != 0.0f;
    o.first = first ? shr_mem_new(n + 1, sizeof *o.first) : NULL;
    o.second = adam ? shr_mem_new(n + 1, sizeof *o.second) : NULL;
    if ((first && o.first == NULL) || (adam && o.second == NULL)) {
        shr_optim_finish(&o);
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the optimizer's %zu moments", n);
    }
    *ret = o;
    return SHR_OK;
}

void shr_optim_finish(struct shr_optim *o)
{
    shr_mem_free(o->first);
    shr_mem_free(o->second);
    *o = (struct shr_optim){0};
}

/* ── Loops ──────────────────────────────────────────────────────────────────────────────────── */

struct step {
    const struct shr_optim *o;
    float *w;
    const float *g;
    float decay;  /* of these weights */
    float lr;     /* SGD, AdamW's decay */
    float size;   /* Adam: lr / (1 - beta1^t) */
    float second; /* Adam: 1 / sqrt(1 - beta2^t) */
};

static void plain_loop(const struct step *s, size_t from, size_t to)
{
    float *restrict w = s->w;
    const float *restrict g = s->g;
    const float decay = s->decay, lr = s->lr;
    for (size_t i = from; i < to; i++) {
        w[i] -= lr * (g[i] + decay * w[i]);
    }
}

/* d = g + decay w; m = momentum m + d, from 0; w -= lr m, or lr (d + momentum m) */
static void momentum_loop(const struct step *s, size_t from, size_t to)
{
    float *restrict w = s->w, *restrict m = s->o->first;
    const float *restrict g = s->g;
    const float decay = s->decay, lr = s->lr, momentum = s->o->spec.momentum;
    if (s->o->spec.nesterov) {
        for (size_t i = from; i < to; i++) {
            const float d = g[i] + decay * w[i];
            m[i] = momentum * m[i] + d;
            w[i] -= lr * (d + momentum * m[i]);
        }
    } else {
        for (size_t i = from; i < to; i++) {
            m[i] = momentum * m[i] + (g[i] + decay * w[i]);
            w[i] -= lr * m[i];
        }
    }
}

/* m += (1 - b1) (g - m); v = b2 v + (1 - b2) g^2; w -= size m / (sqrt(v) second + epsilon) */
static void adam_loop(const struct step *s, size_t from, size_t to)
{
    float *restrict w = s->w, *restrict m = s->o->first, *restrict v = s->o->second;
    const float *restrict g = s->g;
    const struct shr_optim_spec *spec = &s->o->spec;
    const bool apart = spec->kind == SHR_OPTIM_ADAMW;
    const float decay = apart ? 0.0f : s->decay;
    const float keep = apart ? 1.0f - s->lr * s->decay : 1.0f;
    const float b1 = 1.0f - spec->beta1, b2 = spec->beta2, c2 = 1.0f - spec->beta2;
    const float epsilon = spec->epsilon, size = s->size, second = s->second;
    for (size_t i = from; i < to; i++) {
        const float old = w[i] * keep, d = g[i] + decay * w[i];
        m[i] += b1 * (d - m[i]);
        v[i] = b2 * v[i] + c2 * (d * d);
        w[i] = old - size * m[i] / (sqrtf(v[i]) * second + epsilon);
    }
}

static void loop(const struct step *s, size_t from, size_t to)
{
    if (s->o->spec.kind != SHR_OPTIM_SGD) {
        adam_loop(s, from, to);
    } else if (s->o->first != NULL) {
        momentum_loop(s, from, to);
    } else {
        plain_loop(s, from, to);
    }
}

static void block(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct step *s = arg;
    struct step rest = *s;
    rest.decay = 0.0f;
    const size_t from = task * BLOCK, n = s->o->n, end = s->o->n_decay;
    const size_t to = n - from < BLOCK ? n : from + BLOCK;
    const size_t middle = end < from ? from : end > to ? to : end;
    loop(s, from, middle);
    loop(&rest, middle, to);
}

/* ── Steps ──────────────────────────────────────────────────────────────────────────────────── */

/* g becomes as long as the limit when it is longer, as clip_grad_norm_ does. */
static void clip(float *g, size_t n, float most)
{
    double sum = 0;
    for (size_t from = 0; from < n; from += BLOCK) { /* short sums first: they round less */
        float part[8] = {0};
        const size_t to = n - from < BLOCK ? n : from + BLOCK;
        for (size_t i = from; i < to; i++) {
            part[i % 8] += g[i] * g[i];
        }
        for (size_t i = 0; i < 8; i++) {
            sum += (double)part[i];
        }
    }
    const float factor = most / ((float)sqrt(sum) + 1e-6f);
    for (size_t i = 0; factor < 1.0f && i < n; i++) {
        g[i] *= factor;
    }
}

void shr_optim_step(struct shr_optim *o, double lr, float *w, float *g, struct shr_team *team)
{
    if (o->spec.clip_norm > 0.0f) {
        clip(g, o->n, o->spec.clip_norm);
    }
    o->steps++;
    struct step s = {.o = o, .w = w, .g = g, .decay = o->spec.weight_decay, .lr = (float)lr};
    if (o->spec.kind != SHR_OPTIM_SGD) {
        const double t = (double)o->steps;
        s.size = (float)(lr / (1 - pow((double)o->spec.beta1, t)));
        s.second = (float)(1 / sqrt(1 - pow((double)o->spec.beta2, t)));
    }
    shr_team_run(team, (o->n + BLOCK - 1) / BLOCK, block, &s);
}

/* ── Schedules ──────────────────────────────────────────────────────────────────────────────── */

double shr_schedule_at(const struct shr_schedule *s, int64_t step)
{
    if (step < s->warmup) {
        return s->lr * (double)(step + 1) / (double)s->warmup;
    }
    if (s->kind == SHR_SCHEDULE_STEP && s->drop_every > 0) {
        return s->lr * pow(s->drop, (double)(step / s->drop_every));
    }
    if (s->kind == SHR_SCHEDULE_COSINE && s->steps > s->warmup) {
        const double pi = 3.14159265358979323846;
        const double done = (double)(step - s->warmup) / (double)(s->steps - s->warmup);
        return s->lr * 0.5 * (1 + cos(pi * (done < 1 ? done : 1)));
    }
    return s->lr;
}
