/* How near a model comes to its original on samples: the noise in its first output, and the share
 * of classes that it gets right. Models run as they would be served, with fused integer kernels.
 * Thread: one. */
#ifndef SHR_PASSES_QUANT_JUDGE_H
#define SHR_PASSES_QUANT_JUDGE_H

#include "passes/pass.h"

struct shr_judge { /* all zero = empty */
    const struct shr_dataset *data;
    const struct shr_ctx *ctx;
    int64_t n, *rows; /* samples, drawn by the job's seed; any first ones of them are a draw too */
    int64_t width;    /* of the first output, for a sample */
    int64_t classes;  /* along its last axis; less than 2: it has none */
    float *original;  /* (n, width) */
    int32_t *wanted;  /* (n, width / classes) the labels, or what the original says */
    bool labels;
};

struct shr_verdict {
    double sqnr_db; /* 10 log10(sum y^2 / sum (y - y')^2); INFINITY when equal, -INFINITY of no
                       number */
    double score;   /* the share of wanted classes; 0 without classes */
};

/* As many of the wished samples as there are, and as 64 MiB of outputs allow. */
int shr_judge_init(struct shr_judge *ret, const struct shr_pass_call *call, int64_t samples,
                   struct shr_err *err) SHR_MUSTCHECK;
void shr_judge_finish(struct shr_judge *judge);

/* model NULL: the original. samples: at most so many of the judge's. */
int shr_judge_model(const struct shr_judge *judge, const struct shr_model *model, int64_t samples,
                    struct shr_verdict *ret, struct shr_err *err) SHR_MUSTCHECK;

/* "accuracy", or without labels "agreement": what a score is. Static text. */
const char *shr_judge_score_name(const struct shr_judge *judge);

#endif
