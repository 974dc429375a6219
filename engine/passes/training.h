/* What the passes that train share: their parameters, and what they report. */
#ifndef SHR_PASSES_TRAINING_H
#define SHR_PASSES_TRAINING_H

#include "passes/pass.h"
#include "train/fit.h"

extern const char *const shr_training_optimizers[], *const shr_training_schedules[],
                                                        *const shr_training_losses[];

/* Rows of a parameter table, and the enumerators for an enum of the same order. */
/* clang-format off */
#define SHR_PARAMS_TRAINING(epochs_, rate_)                                                        \
    {"epochs", SHR_PARAM_INT, epochs_, 1, 1e6, NULL, "How often every sample is seen"},            \
    {"batch_size", SHR_PARAM_INT, "128", 1, 1e6, NULL, "Samples of a step"},                       \
    {"optimizer", SHR_PARAM_ENUM, "adam", 0, 0, shr_training_optimizers,                           \
     "How gradients change weights, with the arithmetic of PyTorch's"},                            \
    {"learning_rate", SHR_PARAM_FLOAT, rate_, 0, 1e3, NULL, "The highest that the schedule reaches"}, \
    {"momentum", SHR_PARAM_FLOAT, "0.9", 0, 1, NULL, "Of sgd"},                                    \
    {"nesterov", SHR_PARAM_BOOL, "false", 0, 0, NULL, "Nesterov's momentum, of sgd"},              \
    {"schedule", SHR_PARAM_ENUM, "cosine", 0, 0, shr_training_schedules,                           \
     "The learning rate over time: constant, half a cosine down to 0, or lower in steps"},         \
    {"warmup", SHR_PARAM_FLOAT, "0", 0, 1e6, NULL, "Epochs in which the learning rate rises from 0"}, \
    {"step_every", SHR_PARAM_FLOAT, "10", 0, 1e6, NULL, "Epochs between steps of schedule step"},  \
    {"step_factor", SHR_PARAM_FLOAT, "0.1", 0, 1, NULL, "What such a step multiplies the rate by"}, \
    {"weight_decay", SHR_PARAM_FLOAT, "0", 0, 1e3, NULL, "Pull of all weights towards 0"},         \
    {"clip_norm", SHR_PARAM_FLOAT, "0", 0, 1e9, NULL,                                              \
     "Longest gradient, over all weights; 0 means any"},                                           \
    {"loss", SHR_PARAM_ENUM, "cross_entropy", 0, 0, shr_training_losses,                           \
     "With labels: of classes that exclude each other, or a yes or no of each"},                   \
    {"label_smoothing", SHR_PARAM_FLOAT, "0", 0, 0.999, NULL,                                      \
     "Share of a label that is spread over all classes"},                                          \
    {"validate", SHR_PARAM_FLOAT, "0.1", 0, 0.9, NULL,                                             \
     "Share of the samples held back; the weights of the best epoch on them are kept"},            \
    {"patience", SHR_PARAM_INT, "0", 0, 1e6, NULL,                                                 \
     "Epochs without a better one after which training stops; 0 means never"},                     \
    {"augment.shift", SHR_PARAM_INT, "0", 0, 1e4, NULL,                                            \
     "Images are moved by up to so many pixels, newly in every epoch"},                            \
    {"augment.flip", SHR_PARAM_BOOL, "false", 0, 0, NULL, "Half of the images are mirrored"},      \
    {"augment.crop", SHR_PARAM_FLOAT, "0", 0, 0.9, NULL,                                           \
     "Up to this share of both sides is cut away, and what remains enlarged"},                     \
    {"max_memory", SHR_PARAM_BYTES, "0", 0, 0, NULL,                                               \
     "For what the teacher said of every sample; 0 means the limit of the job"}
/* clang-format on */
#define SHR_ARGS_TRAINING                                                                          \
    ARG_EPOCHS, ARG_BATCH_SIZE, ARG_OPTIMIZER, ARG_LEARNING_RATE, ARG_MOMENTUM, ARG_NESTEROV,      \
        ARG_SCHEDULE, ARG_WARMUP, ARG_STEP_EVERY, ARG_STEP_FACTOR, ARG_WEIGHT_DECAY,               \
        ARG_CLIP_NORM, ARG_LOSS, ARG_LABEL_SMOOTHING, ARG_VALIDATE, ARG_PATIENCE, ARG_SHIFT,       \
        ARG_FLIP, ARG_CROP, ARG_MAX_MEMORY

/* first: the value of epochs; the others follow. */
void shr_training_opts(struct shr_fit_opts *ret, const struct shr_arg *first,
                       const struct shr_pass_call *call);

/* Notes of the epochs and of the whole. */
void shr_training_report(struct shr_report *report, const struct shr_fit_opts *opts,
                         const struct shr_fit_result *result);

#endif
