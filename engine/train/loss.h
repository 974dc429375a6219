/* What training makes smaller.
 *
 *     loss = soft_weight · soft + hard_weight · hard + sum of hints
 *
 * soft compares with a teacher's logits: T² · KL(softmax(teacher / T) ‖ softmax(student / T)), a
 * mean over rows (batchmean), or the mean of squares. hard compares with labels: cross-entropy with
 * label smoothing, or binary cross-entropy of logits. A hint is the mean of squares between a value
 * of the student and one of the teacher. What is compared with comes in as true inputs of the
 * training graph, whose names are found here afterwards. */
#ifndef SHR_TRAIN_LOSS_H
#define SHR_TRAIN_LOSS_H

#include "train/autograd.h"

enum shr_loss_soft { SHR_SOFT_KL, SHR_SOFT_SQUARES };
enum { SHR_HINTS_MAX = 8 };

struct shr_hint {
    const char *student; /* a float32 value of the student */
    float weight;
    const char *input; /* set: the value of the teacher */
};

struct shr_loss {
    const char *logits; /* a value of the model: (…, classes) */
    bool binary;        /* each logit is a yes or no of its own */
    float soft_weight, hard_weight;
    enum shr_loss_soft soft;
    float temperature, smoothing;
    size_t n_hints;
    struct shr_hint hints[SHR_HINTS_MAX];
    /* set: NULL where not needed; hits is a scalar, how many of the rows are right */
    const char *labels, *teacher, *hits;
};

/* A shr_loss_fn whose user is a struct shr_loss. */
struct shr_value *shr_loss_emit(struct shr_grad *g, void *loss);

/* The value in front of a Softmax or Sigmoid at the output of the model, or the output itself. */
const char *shr_loss_logits(const struct shr_model *model);

#endif
