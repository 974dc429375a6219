/* What a student learns from: values of another model for every sample of a dataset.
 *
 * They are computed once and kept when they fit into the memory that there is, else computed again
 * for each batch. Thread: one at a time. */
#ifndef SHR_TRAIN_TEACHER_H
#define SHR_TRAIN_TEACHER_H

#include "data/dataset.h"
#include "exec/plan.h"
#include "train/loss.h"

enum { SHR_TEACHER_VALUES = 1 + SHR_HINTS_MAX }; /* logits, then hints */

struct shr_teacher {
    const struct shr_model *model;
    const struct shr_dataset *data;
    struct shr_feed *feed;
    struct shr_plan *plan;
    struct shr_tensor **inputs;
    size_t n_inputs, n_values;
    int64_t rows; /* of the plan */
    const struct shr_tensor *values[SHR_TEACHER_VALUES];
    size_t width[SHR_TEACHER_VALUES]; /* elements a sample */
    float *kept[SHR_TEACHER_VALUES];  /* (samples, width), or NULL */
};

/* names: values of the model. What is kept takes at most max_memory bytes; 0 = any number. With
 * augment, which may be NULL, nothing is: its feed is to be told the epoch before each fill. */
int shr_teacher_init(struct shr_teacher *ret, const struct shr_model *model,
                     const struct shr_dataset *data, const char *const *names, size_t n,
                     int64_t rows, size_t max_memory, const struct shr_augment *augment,
                     const struct shr_ctx *ctx, struct shr_err *err) SHR_MUSTCHECK;
/* Writes every value of these samples, at most as many as rows, into to (float32, samples first).
 */
int shr_teacher_fill(struct shr_teacher *t, const int64_t *samples, int64_t n,
                     struct shr_tensor *const *to, const struct shr_ctx *ctx,
                     struct shr_err *err) SHR_MUSTCHECK;
void shr_teacher_finish(struct shr_teacher *t);

#endif
