/* A model in training: its parameters in one array, and steps over batches.
 *
 * The trainer copies the parameters of a model into one flat array and makes, for every number of
 * rows that is asked for, a plan whose parameters and gradients are parts of flat arrays: those of
 * the training form with its gradients, and those of the model as it is, for a look at how good it
 * is. A step runs such a plan and lets the optimizer change the array. Thread: one at a time. */
#ifndef SHR_TRAIN_TRAINER_H
#define SHR_TRAIN_TRAINER_H

#include "exec/plan.h"
#include "train/loss.h"
#include "train/optim.h"

struct shr_trainer_opts {
    struct shr_loss loss;
    struct shr_optim_spec optim;
    /* The exact types of the model's true inputs for a number of rows. */
    int (*types)(void *user, int64_t rows, struct shr_type *ret, struct shr_err *err);
    void *user;
    bool keep_zeros; /* weights that are zero stay zero */
    uint64_t seed;
    int threads;
    unsigned cpu_mask;
    size_t max_arena;
};

struct shr_trainer_param { /* a part of the flat arrays */
    const char *name;
    struct shr_type type;
    size_t at, n;
};

/* A plan of the training graph, and where what belongs to it lies. */
struct shr_lane {
    struct shr_lane *next;
    int64_t rows;
    bool trains; /* has gradients, and nodes in their training form */
    struct shr_plan *plan;
    size_t n_inputs; /* of the model, in its order */
    struct shr_tensor **inputs;
    struct shr_tensor *random;                                  /* NULL = nothing is random */
    struct shr_tensor *labels, *teacher, *hints[SHR_HINTS_MAX]; /* NULL where there is none */
    const struct shr_tensor *loss, *hits;
    size_t n_states;
    const struct shr_tensor **updates; /* (n_states), of the trainer's states */
    struct shr_arena arena;            /* of the arrays */
};

struct shr_trainer {
    const struct shr_model *model; /* the caller's; its weights are where training began */
    struct shr_trainer_opts opts;
    struct shr_team *team;
    struct shr_arena arena;
    size_t n_params, n_states;
    struct shr_trainer_param *params, *states; /* states follow the parameters: running means */
    size_t n_weights, n_all;                   /* floats of the parameters, with the states */
    size_t n_decay;                            /* of the parameters, those that are no scales */
    float *weights, *gradients;                /* (n_all), (n_weights) */
    float *sum;                                /* (n_weights) of parts of a batch, or NULL */
    uint64_t part;                             /* of the batch: random numbers differ */
    unsigned char *zero;                       /* (n_weights) with keep_zeros, or NULL */
    struct shr_optim optim;
    struct shr_lane *lanes;
};

/* INVALID: nothing can be trained; UNSUPPORTED: an operator without a gradient, by name. */
int shr_trainer_init(struct shr_trainer *ret, const struct shr_model *model,
                     const struct shr_trainer_opts *opts, struct shr_err *err) SHR_MUSTCHECK;
void shr_trainer_finish(struct shr_trainer *t);

/* The lane for so many rows; the trainer's. Fill inputs, labels and teacher, then run. */
int shr_trainer_lane(struct shr_trainer *t, int64_t rows, bool trains, struct shr_lane **ret,
                     struct shr_err *err) SHR_MUSTCHECK;
/* The loss, hits and gradients of what the lane holds. */
int shr_trainer_run(struct shr_trainer *t, struct shr_lane *lane, const struct shr_ctx *ctx,
                    struct shr_err *err) SHR_MUSTCHECK;
/* Behind a run of a part of a batch, whose samples are so large a share of it: in front of the
 * update the gradients are those of the batch. What looks at a whole batch (running means) is not
 * trained in parts. */
int shr_trainer_add_part(struct shr_trainer *t, float share, bool is_last,
                         struct shr_err *err) SHR_MUSTCHECK;
/* Changes the parameters by the gradients of the last run of this lane. */
void shr_trainer_update(struct shr_trainer *t, const struct shr_lane *lane, double lr);

/* The first parameter whose gradient or value is not finite, for messages; NULL = all are. */
const char *shr_trainer_find_nan(const struct shr_trainer *t, bool *ret_is_gradient);

/* Writes weights (n_all), laid out as those of the trainer, into a model with the same values. */
int shr_trainer_store(const struct shr_trainer *t, const float *weights, struct shr_model *model,
                      struct shr_err *err) SHR_MUSTCHECK;

#endif
