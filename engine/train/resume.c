/* Checkpoints of a training: everything that the steps to come depend on, in the machine's own byte
 * order, read back by the same program. What does not fit in every respect is ignored. */
#include <string.h>

#include "base/mem.h"
#include "train/fit_state.h"

static const char MAGIC[8] = "shrfit1";

struct head { /* what must be equal, then where the training is */
    char magic[8];
    uint64_t seed, samples, n_train, batch, n_all, n_weights, epochs;
    uint64_t has_first, has_second;
    uint64_t has_best, best, n_epochs;
    int64_t at, steps, optim_steps;
    double best_score;
    struct shr__fit_sums sums;
    struct shr_rng rng;
};

static struct head head_of(const struct shr__fit *f)
{
    struct head h;
    memset(&h, 0, sizeof h); /* bytes between members, too: they are saved */
    memcpy(h.magic, MAGIC, sizeof h.magic);
    h.seed = f->ctx == NULL ? 0 : f->ctx->seed;
    h.samples = (uint64_t)f->opts->data->samples;
    h.n_train = (uint64_t)f->n_train;
    h.batch = (uint64_t)f->batch;
    h.n_all = f->trainer.n_all;
    h.n_weights = f->trainer.n_weights;
    h.epochs = (uint64_t)f->opts->epochs;
    h.has_first = f->trainer.optim.first != NULL;
    h.has_second = f->trainer.optim.second != NULL;
    h.has_best = f->best != NULL;
    h.best = f->result.best;
    h.n_epochs = f->result.n_epochs;
    h.at = f->at;
    h.steps = f->result.steps;
    h.optim_steps = f->trainer.optim.steps;
    h.best_score = f->best_score;
    h.sums = f->sums;
    h.rng = f->rng;
    return h;
}

struct part {
    void *data;
    size_t n;
};

/* The arrays behind the head, in order. */
enum { PARTS = 6 };
static void list_parts(const struct shr__fit *f, bool best, struct part part[PARTS])
{
    const size_t all = f->trainer.n_all * sizeof(float),
                 some = f->trainer.n_weights * sizeof(float);
    const struct shr_optim *o = &f->trainer.optim;
    part[0] = (struct part){f->trainer.weights, all};
    part[1] = (struct part){o->first, o->first != NULL ? some : 0};
    part[2] = (struct part){o->second, o->second != NULL ? some : 0};
    part[3] = (struct part){f->order, (size_t)f->opts->data->samples * sizeof *f->order};
    part[4] = (struct part){f->result.epochs, (size_t)f->opts->epochs * sizeof *f->result.epochs};
    part[5] = (struct part){f->best, best ? all : 0};
}

int shr__fit_save(const struct shr__fit *f, struct shr_err *err)
{
    if (f->ctx == NULL || f->ctx->checkpoint == NULL) {
        return SHR_OK;
    }
    const struct head h = head_of(f);
    struct part part[PARTS];
    struct shr_buf bytes = {0};
    list_parts(f, f->best != NULL, part);
    shr_buf_append(&bytes, &h, sizeof h);
    for (size_t i = 0; i < PARTS; i++) {
        shr_buf_append(&bytes, part[i].data, part[i].n);
    }
    int rc = shr_buf_failed(&bytes)
                 ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a checkpoint")
                 : shr_ctx_checkpoint(f->ctx, bytes.data, bytes.len, err);
    shr_buf_finish(&bytes);
    return rc;
}

static bool fits(const struct shr__fit *f, const struct head *h)
{
    const struct head mine = head_of(f);
    return memcmp(h, &mine, offsetof(struct head, has_best)) == 0 && h->n_epochs < h->epochs &&
           h->at >= 0 && h->at <= f->n_train && h->best <= h->n_epochs && h->steps >= 0;
}

static size_t bytes_of(const struct part part[PARTS])
{
    size_t n = sizeof(struct head);
    for (size_t i = 0; i < PARTS; i++) {
        n += part[i].n;
    }
    return n;
}

/* An order is a permutation of the samples, or batches would read elsewhere. */
static bool is_order(const int64_t *order, int64_t n)
{
    unsigned char *seen = shr_mem_new((size_t)n + 1, 1);
    bool good = seen != NULL;
    for (int64_t i = 0; good && i < n; i++) {
        good = order[i] >= 0 && order[i] < n && seen[order[i]] == 0;
        if (good) {
            seen[order[i]] = 1;
        }
    }
    shr_mem_free(seen);
    return good;
}

bool shr__fit_resume(struct shr__fit *f)
{
    struct head h;
    struct part part[PARTS];
    if (f->ctx == NULL || f->ctx->resume == NULL || f->ctx->n_resume < sizeof h) {
        return false;
    }
    memcpy(&h, f->ctx->resume, sizeof h);
    if (!fits(f, &h)) {
        return false;
    }
    list_parts(f, h.has_best != 0, part);
    const unsigned char *from = (const unsigned char *)f->ctx->resume + sizeof h;
    const size_t before = part[0].n + part[1].n + part[2].n;
    if (bytes_of(part) != f->ctx->n_resume) {
        return false;
    }
    int64_t *order = shr_mem_new((size_t)f->opts->data->samples, sizeof *order);
    float *best = h.has_best != 0 ? shr_mem_aligned(part[5].n + SHR_MEM_ALIGN) : NULL;
    bool good = order != NULL && (h.has_best == 0 || best != NULL);
    if (good) {
        memcpy(order, from + before, part[3].n);
        good = is_order(order, f->opts->data->samples);
    }
    if (!good) {
        shr_mem_free(order);
        shr_mem_free(best);
        return false;
    }
    shr_mem_free(f->order);
    f->order = order;
    f->best = best;
    list_parts(f, best != NULL, part);
    for (size_t i = 0; i < PARTS; i++) {
        if (part[i].n > 0) {
            memcpy(part[i].data, from, part[i].n);
        }
        from += part[i].n;
    }
    f->at = h.at;
    f->rng = h.rng;
    f->sums = h.sums;
    f->best_score = h.best_score;
    f->result.best = h.best;
    f->result.n_epochs = h.n_epochs;
    f->result.steps = h.steps;
    f->trainer.optim.steps = h.optim_steps;
    return true;
}
