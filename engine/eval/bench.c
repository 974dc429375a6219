/* Timing two plans against each other; see eval.h.
 *
 * DESIGN. The machine drifts (frequency, neighbours), so the two are timed in turn and compared
 * pair by pair: a drift that is slower than a pair cancels in the ratio. One timing is a loop of
 * runs long enough for the clock (MIN_NS); both are warmed up first. The contenders push each other
 * out of the caches, so a loop begins with a run that is not timed: what is measured is a model in
 * service, with its weights at hand. The interval comes from a bootstrap over pairs with a fixed
 * seed. */
#include <time.h>

#include "base/vec.h"
#include "eval/eval.h"

enum {
    MIN_NS = 100 * 1000, /* of one timing */
    MIN_PAIRS = 15,
    MAX_PAIRS = 20000,
    MAX_LOOP = 1 << 20,
};

struct contender {
    struct shr_plan *plan;
    int64_t loop;       /* runs of one timing */
    SHR_VEC(double) ms; /* of one run */
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int time_runs(struct shr_plan *plan, int64_t loop, const struct shr_ctx *ctx, double *ret_ns,
                     struct shr_err *err)
{
    double begin = now_ns();
    for (int64_t i = 0; i < loop; i++) {
        int rc = shr_plan_run(plan, ctx, err);
        if (rc != 0) {
            return rc;
        }
    }
    *ret_ns = now_ns() - begin;
    return SHR_OK;
}

/* Finds the loop, for at least a few timings and a tenth of the time; that warms up as well. */
static int warm_up(struct contender *c, double seconds, const struct shr_ctx *ctx,
                   struct shr_err *err)
{
    enum { WARM_TIMINGS = 5 };
    double begin = now_ns(), ns;
    c->loop = 1;
    for (int timings = 0; timings < WARM_TIMINGS || now_ns() - begin < seconds * 1e8;) {
        int rc = time_runs(c->plan, c->loop, ctx, &ns, err);
        if (rc != 0) {
            return rc;
        }
        if (ns < MIN_NS && c->loop < MAX_LOOP) {
            c->loop *= 2;
        } else {
            timings++;
        }
        if (now_ns() - begin > seconds * 1e9) {
            break;
        }
    }
    return SHR_OK;
}

static int sample(struct contender *c, const struct shr_ctx *ctx, struct shr_err *err)
{
    double ns;
    int rc = c->loop > 1 ? shr_plan_run(c->plan, ctx, err) : SHR_OK;
    if (rc == 0) {
        rc = time_runs(c->plan, c->loop, ctx, &ns, err);
    }
    if (rc != 0) {
        return rc;
    }
    double *ms = SHR_VEC_ADD(&c->ms);
    if (ms == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for timings");
    }
    *ms = ns / (double)c->loop / 1e6;
    return SHR_OK;
}

static int collect(struct contender *c, size_t n, double seconds, shr__share_fn told, void *user,
                   const struct shr_ctx *ctx, struct shr_err *err)
{
    double budget = seconds * (double)n * 1e9, begin = now_ns();
    for (size_t pairs = 0; pairs < MAX_PAIRS; pairs++) {
        double share = (now_ns() - begin) / budget;
        if (pairs >= MIN_PAIRS && share >= 1) {
            break;
        }
        if (told != NULL) {
            told(user, share < 1 ? share : 1);
        }
        for (size_t i = 0; i < n; i++) {
            int rc = sample(&c[i], ctx, err);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return SHR_OK;
}

static int compare(struct contender *c, struct shr__bench *ret, struct shr_err *err)
{
    size_t n = c[0].ms.n;
    double *ratio = shr_mem_new(n, sizeof *ratio), *scratch = shr_mem_new(n, sizeof *scratch);
    int rc = SHR_OK;
    if (ratio == NULL || scratch == NULL) {
        rc = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for timings");
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        ratio[i] = c[0].ms.v[i] / c[1].ms.v[i];
    }
    struct shr_rng rng;
    shr_rng_init(&rng, 1);
    shr__bootstrap_median(ratio, n, scratch, &rng, &ret->low, &ret->high);
    ret->speedup = shr__median(ratio, n);
out:
    shr_mem_free(ratio);
    shr_mem_free(scratch);
    return rc;
}

static struct shr__timing timing_of(struct contender *c)
{
    return (struct shr__timing){
        .median_ms = shr__median(c->ms.v, c->ms.n),
        .p95_ms = shr__quantile(c->ms.v, c->ms.n, 0.95),
    };
}

int shr__bench_run(struct shr_plan *original, struct shr_plan *candidate, double seconds,
                   shr__share_fn told, void *user, const struct shr_ctx *ctx,
                   struct shr__bench *ret, struct shr_err *err)
{
    struct contender c[2] = {{.plan = original}, {.plan = candidate}};
    size_t n = candidate == NULL ? 1 : 2;
    int rc = SHR_OK;
    *ret = (struct shr__bench){0};
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = warm_up(&c[i], seconds, ctx, err);
    }
    if (rc == 0) {
        rc = collect(c, n, seconds, told, user, ctx, err);
    }
    if (rc == 0 && n == 2) {
        rc = compare(c, ret, err); /* before the medians reorder the timings */
    }
    if (rc == 0) {
        ret->n = c[0].ms.n;
        ret->original = timing_of(&c[0]);
        if (n == 2) {
            ret->candidate = timing_of(&c[1]);
        }
    }
    SHR_VEC_FINISH(&c[0].ms);
    SHR_VEC_FINISH(&c[1].ms);
    return rc;
}
