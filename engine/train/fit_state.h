/* Inside of fit: its state, and checkpoints of it. For fit.c and resume.c only. */
#ifndef SHR_TRAIN_FIT_STATE_H
#define SHR_TRAIN_FIT_STATE_H

#include "core/rng.h"
#include "train/fit.h"
#include "train/teacher.h"
#include "train/trainer.h"

struct shr__fit_sums { /* over samples */
    double loss, hits;
};

struct shr__fit {
    const struct shr_fit_opts *opts;
    const struct shr_ctx *ctx;
    struct shr_model *model; /* a copy of the caller's, whose weights are trained */
    struct shr_feed *feed;
    struct shr_augment augment;
    struct shr_trainer trainer;
    struct shr_teacher teacher;
    bool has_teacher, has_labels;
    int64_t *order; /* (samples): those to train on, then those held back */
    int64_t n_train, n_held, batch;
    int64_t part; /* samples that are computed at once: of the batch, as many as memory allows */
    struct shr_rng rng;
    struct shr_schedule schedule;
    float *best; /* (n_all) weights, or NULL = none yet */
    double best_score;
    struct shr_fit_result result;
    int64_t at;                /* samples of the present epoch that are done */
    struct shr__fit_sums sums; /* of them */
    double began, saved;       /* when: training, and the last checkpoint */
};

/* resume.c. All that a training needs to go on from here, given to the context. */
int shr__fit_save(const struct shr__fit *f, struct shr_err *err) SHR_MUSTCHECK;
/* Goes on where a checkpoint of the context was made; false when there is none that fits. */
bool shr__fit_resume(struct shr__fit *f);

#endif
