/* How far an evaluation is: samples first, then ticks for each batch size of the latency. */
#include "eval/eval.h"

struct shr__progress shr__progress_begin(const struct shr_eval *eval, const struct shr_ctx *ctx)
{
    uint64_t latency = eval->opts.latency ? eval->opts.n_latency_batch * SHR__LATENCY_TICKS : 0;
    return (struct shr__progress){.ctx = ctx, .total = (uint64_t)eval->samples + latency};
}

void shr__progress_samples(void *progress, int64_t samples)
{
    struct shr__progress *p = progress;
    p->done += (uint64_t)samples;
    shr_ctx_tell(p->ctx, "evaluate", p->done, p->total);
}

void shr__progress_share(void *progress, double share)
{
    struct shr__progress *p = progress;
    uint64_t done = p->base + (uint64_t)(share * SHR__LATENCY_TICKS);
    if (done > p->done) {
        p->done = done;
        shr_ctx_tell(p->ctx, "evaluate", p->done, p->total);
    }
}

void shr__progress_jump(struct shr__progress *p, uint64_t done)
{
    p->base = p->done = done;
    shr_ctx_tell(p->ctx, "evaluate", p->done, p->total);
}
