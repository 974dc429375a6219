/* trainer: steps of training as a flat library for ctypes, so that a test or a benchmark can have
 * our engine and PyTorch in one process.
 *
 *     trainer_new → trainer_rows → trainer_input … , trainer_run, trainer_update → trainer_free
 *
 * Functions that can fail return 0 or a code of base/err.def and write the reason to `message`,
 * which has room for TRAINER_MESSAGE bytes. Used by tests/harness/training.py. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "train/init.h"
#include "train/trainer.h"

enum { TRAINER_MESSAGE = 512 };

struct trainer {
    struct shr_model *model;
    struct shr_trainer t;
    struct shr_lane *lane;
};

struct trainer_opts { /* the layout is known to training.py */
    int32_t binary, squares, optimizer, nesterov, threads;
    float soft, hard, temperature, smoothing;
    float momentum, beta1, beta2, epsilon, weight_decay, clip_norm;
};

SHR_API struct trainer *trainer_new(const void *bytes, size_t n, const struct trainer_opts *opts,
                                    char *message);
SHR_API int trainer_rows(struct trainer *trainer, int64_t rows, char *message);
SHR_API void *trainer_input(struct trainer *trainer, const char *which);
SHR_API int trainer_run(struct trainer *trainer, float *ret_loss, float *ret_hits, char *message);
SHR_API void trainer_update(struct trainer *trainer, double lr);
SHR_API float *trainer_weight(struct trainer *trainer, const char *name, int gradient,
                              size_t *ret_n);
SHR_API void trainer_free(struct trainer *trainer);

static int tell(int code, const struct shr_err *err, char *message)
{
    snprintf(message, TRAINER_MESSAGE, "%s: %s", shr_err_name(code), err->msg);
    return code;
}

/* The first dim of every input is the rows. */
static int types(void *user, int64_t rows, struct shr_type *ret, struct shr_err *err)
{
    (void)err;
    const struct shr_graph *g = &((const struct shr_model *)user)->graph;
    for (size_t i = 0; i < g->n_inputs; i++) {
        if (!shr_value_is_constant(g->inputs[i])) {
            *ret = g->inputs[i]->type;
            ret->dim[0] = rows;
            ret++;
        }
    }
    return SHR_OK;
}

struct trainer *trainer_new(const void *bytes, size_t n, const struct trainer_opts *o,
                            char *message)
{
    struct shr_err err = {0};
    struct trainer *trainer = shr_mem_new(1, sizeof *trainer);
    if (trainer == NULL) {
        snprintf(message, TRAINER_MESSAGE, "out of memory");
        return NULL;
    }
    int rc = shr_model_load(bytes, n, NULL, &trainer->model, &err);
    rc = rc == SHR_OK ? shr_untie_norms(trainer->model, &err) : rc;
    if (rc == SHR_OK) {
        const struct shr_trainer_opts opts = {
            .loss = {.logits = shr_loss_logits(trainer->model),
                     .binary = o->binary != 0,
                     .soft = o->squares != 0 ? SHR_SOFT_SQUARES : SHR_SOFT_KL,
                     .soft_weight = o->soft,
                     .hard_weight = o->hard,
                     .temperature = o->temperature,
                     .smoothing = o->smoothing},
            .optim = {.kind = (enum shr_optim_kind)o->optimizer,
                      .momentum = o->momentum,
                      .nesterov = o->nesterov != 0,
                      .beta1 = o->beta1,
                      .beta2 = o->beta2,
                      .epsilon = o->epsilon,
                      .weight_decay = o->weight_decay,
                      .clip_norm = o->clip_norm},
            .types = types,
            .user = trainer->model,
            .threads = o->threads,
        };
        rc = shr_trainer_init(&trainer->t, trainer->model, &opts, &err);
    }
    if (rc != SHR_OK) {
        tell(rc, &err, message);
        trainer_free(trainer);
        return NULL;
    }
    return trainer;
}

int trainer_rows(struct trainer *trainer, int64_t rows, char *message)
{
    struct shr_err err = {0};
    int rc = shr_trainer_lane(&trainer->t, rows, true, &trainer->lane, &err);
    return rc == SHR_OK ? rc : tell(rc, &err, message);
}

/* "0" … is an input of the model, "labels" or "teacher" of the loss. */
void *trainer_input(struct trainer *trainer, const char *which)
{
    struct shr_lane *lane = trainer->lane;
    struct shr_tensor *t = strcmp(which, "labels") == 0    ? lane->labels
                           : strcmp(which, "teacher") == 0 ? lane->teacher
                                                           : lane->inputs[which[0] - '0'];
    return t == NULL ? NULL : t->data;
}

int trainer_run(struct trainer *trainer, float *ret_loss, float *ret_hits, char *message)
{
    struct shr_err err = {0};
    int rc = shr_trainer_run(&trainer->t, trainer->lane, NULL, &err);
    if (rc != SHR_OK) {
        return tell(rc, &err, message);
    }
    *ret_loss = *(const float *)trainer->lane->loss->data;
    *ret_hits = *(const float *)trainer->lane->hits->data;
    return SHR_OK;
}

void trainer_update(struct trainer *trainer, double lr)
{
    shr_trainer_update(&trainer->t, trainer->lane, lr);
}

/* A parameter or its gradient, which the next run or update changes; NULL = not trained. */
float *trainer_weight(struct trainer *trainer, const char *name, int gradient, size_t *ret_n)
{
    const struct shr_trainer *t = &trainer->t;
    for (size_t i = 0; i < t->n_params; i++) {
        if (strcmp(t->params[i].name, name) == 0) {
            *ret_n = t->params[i].n;
            return (gradient != 0 ? t->gradients : t->weights) + t->params[i].at;
        }
    }
    for (size_t i = 0; i < t->n_states && gradient == 0; i++) {
        if (strcmp(t->states[i].name, name) == 0) {
            *ret_n = t->states[i].n;
            return t->weights + t->states[i].at;
        }
    }
    return NULL;
}

void trainer_free(struct trainer *trainer)
{
    shr_trainer_finish(&trainer->t);
    shr_model_free(trainer->model);
    shr_mem_free(trainer);
}
