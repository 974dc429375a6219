/* Training a model on a dataset: epochs of shuffled batches.
 *
 * The order of samples, what is held back for validation and all random numbers follow from the
 * seed of the context alone; with the same number of threads the weights are the same, bit for bit.
 * With a part held back the best epoch is kept, without one the last. Thread: one per call. */
#ifndef SHR_TRAIN_FIT_H
#define SHR_TRAIN_FIT_H

#include "data/dataset.h"
#include "train/loss.h"
#include "train/optim.h"

struct shr_fit_opts {
    const struct shr_dataset *data;   /* with labels where the loss wants them */
    const struct shr_model *teacher;  /* NULL = none */
    const char *hints[SHR_HINTS_MAX]; /* values of the teacher, one for each hint of the loss */
    struct shr_loss loss;             /* logits NULL = those of the first output */
    struct shr_optim_spec optim;
    int64_t epochs, batch;
    enum shr_schedule_kind schedule;
    double lr, warmup, drop_every, drop; /* as in struct shr_schedule, in epochs */
    double validate;                     /* share of the samples held back */
    struct shr_augment augment;          /* of what is trained on; its seed is the context's */
    int64_t patience;                    /* epochs that may pass without a better one; 0 = all */
    bool keep_zeros;
    size_t max_memory; /* of what the teacher said; 0 = any */
};

struct shr_fit_epoch {
    double loss, accuracy; /* of the batches, while the weights changed; accuracy NaN = no labels */
    double validation_loss, validation_accuracy; /* NaN = nothing was held back */
    double lr;                                   /* of the last step */
    double samples_per_s;
};

struct shr_fit_result { /* all zero = empty */
    size_t n_epochs;
    struct shr_fit_epoch *epochs;
    size_t best; /* the epoch whose weights were kept */
    int64_t steps, samples, held_back;
    int64_t batch, part;  /* samples of a step, and of those computed at once */
    int64_t resumed_step; /* steps that an earlier call had made */
    double seconds;
    bool teacher_kept, stopped_early, resumed;
};

/* INVALID: labels out of range, a teacher whose values do not match, a loss that is not finite,
 * with the step and the tensor. UNSUPPORTED: an operator without a gradient. ret_model is like
 * model, with other weights; in a plan, with the same. */
int shr_fit(const struct shr_model *model, const struct shr_fit_opts *opts,
            const struct shr_ctx *ctx, struct shr_model **ret_model,
            struct shr_fit_result *ret_result, struct shr_err *err) SHR_MUSTCHECK;
void shr_fit_result_finish(struct shr_fit_result *r);

#endif
