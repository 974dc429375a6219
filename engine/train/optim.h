/* Optimizers and schedules, with the arithmetic of PyTorch's.
 *
 * Parameters are one flat array, and so are their gradients: a step is one loop over both, in
 * place. Thread: one at a time. */
#ifndef SHR_TRAIN_OPTIM_H
#define SHR_TRAIN_OPTIM_H

#include "core/team.h"

enum shr_optim_kind { SHR_OPTIM_SGD, SHR_OPTIM_ADAM, SHR_OPTIM_ADAMW };

struct shr_optim_spec {
    enum shr_optim_kind kind;
    float momentum; /* SGD */
    bool nesterov;
    float beta1, beta2, epsilon; /* Adam, AdamW */
    float weight_decay;
    float clip_norm; /* of all gradients together; 0 = as they are */
};

struct shr_optim { /* all zero = none */
    struct shr_optim_spec spec;
    size_t n, n_decay;     /* of the first n_decay, weights decay */
    float *first, *second; /* (n) momentum or the first moment; the second moment; or NULL */
    int64_t steps;         /* done */
};

int shr_optim_init(struct shr_optim *ret, const struct shr_optim_spec *spec, size_t n,
                   size_t n_decay, struct shr_err *err) SHR_MUSTCHECK;
void shr_optim_finish(struct shr_optim *o);

/* One step of w (n) by gradients g (n), which are clipped in place. */
void shr_optim_step(struct shr_optim *o, double lr, float *w, float *g, struct shr_team *team);

enum shr_schedule_kind { SHR_SCHEDULE_CONSTANT, SHR_SCHEDULE_STEP, SHR_SCHEDULE_COSINE };

struct shr_schedule {
    enum shr_schedule_kind kind;
    double lr;          /* the highest */
    int64_t warmup;     /* steps over which it rises from 0 */
    int64_t steps;      /* in all */
    int64_t drop_every; /* STEP: steps until lr is multiplied by drop */
    double drop;
};

/* The learning rate of a step, from 0: linear in the warm-up; then constant, lr drop^(i/every), or
 * half a cosine from lr to 0. */
double shr_schedule_at(const struct shr_schedule *s, int64_t step);

#endif
