/* What the passes that train share; see training.h. */
#include "passes/training.h"

#include <math.h>
#include <stdio.h>

const char *const shr_training_optimizers[] = {"sgd", "adam", "adamw", NULL};
const char *const shr_training_schedules[] = {"constant", "step", "cosine", NULL};
enum { CROSS_ENTROPY, BINARY };
const char *const shr_training_losses[] = {"cross_entropy", "binary", NULL};

enum { SHR_ARGS_TRAINING };
enum { EPOCHS = 100 }; /* that have a note of their own, at most */

void shr_training_opts(struct shr_fit_opts *o, const struct shr_arg *a,
                       const struct shr_pass_call *call)
{
    o->data = call->train;
    o->epochs = a[ARG_EPOCHS].i;
    o->batch = a[ARG_BATCH_SIZE].i;
    o->optim = (struct shr_optim_spec){
        .kind = (enum shr_optim_kind)a[ARG_OPTIMIZER].i,
        .momentum = (float)a[ARG_MOMENTUM].f,
        .nesterov = a[ARG_NESTEROV].b,
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .epsilon = 1e-8f,
        .weight_decay = (float)a[ARG_WEIGHT_DECAY].f,
        .clip_norm = (float)a[ARG_CLIP_NORM].f,
    };
    o->schedule = (enum shr_schedule_kind)a[ARG_SCHEDULE].i;
    o->lr = a[ARG_LEARNING_RATE].f;
    o->warmup = a[ARG_WARMUP].f;
    o->drop_every = a[ARG_STEP_EVERY].f;
    o->drop = a[ARG_STEP_FACTOR].f;
    o->validate = a[ARG_VALIDATE].f;
    o->patience = a[ARG_PATIENCE].i;
    o->augment = (struct shr_augment){
        .shift = a[ARG_SHIFT].i,
        .flip = a[ARG_FLIP].b,
        .crop = a[ARG_CROP].f,
    };
    o->max_memory = (size_t)a[ARG_MAX_MEMORY].i;
    if (o->max_memory == 0 && call->ctx != NULL) {
        o->max_memory = call->ctx->max_memory;
    }
    o->loss.binary = a[ARG_LOSS].i == BINARY;
    o->loss.smoothing = (float)a[ARG_LABEL_SMOOTHING].f;
    o->loss.temperature = 1.0f;
}

static void report_epoch(struct shr_report *report, const struct shr_fit_epoch *e, size_t i)
{
    char subject[32];
    snprintf(subject, sizeof subject, "epoch %zu", i + 1);
    struct shr_note *note =
        shr_report_note(report, SHR_NOTE_DONE, subject, "loss %.4g%s", e->loss,
                        isnan(e->validation_loss) ? "" : ", and of what was held back");
    shr_note_figure(note, "loss", e->loss);
    if (!isnan(e->accuracy)) {
        shr_note_figure(note, "accuracy", e->accuracy);
    }
    if (!isnan(e->validation_loss)) {
        shr_note_figure(note, "validation_loss", e->validation_loss);
    }
    if (!isnan(e->validation_accuracy)) {
        shr_note_figure(note, "validation_accuracy", e->validation_accuracy);
    }
    shr_note_figure(note, "learning_rate", e->lr);
    shr_note_figure(note, "samples_per_s", e->samples_per_s);
}

void shr_training_report(struct shr_report *report, const struct shr_fit_opts *o,
                         const struct shr_fit_result *r)
{
    const size_t every = r->n_epochs / EPOCHS + 1; /* the curves of all are the context's */
    for (size_t i = 0; i < r->n_epochs; i += every) {
        report_epoch(report, &r->epochs[i], i);
    }
    struct shr_note *note =
        shr_report_note(report, SHR_NOTE_DONE, "",
                        "trained for %zu of %lld epochs on %lld samples; kept epoch %zu%s",
                        r->n_epochs, (long long)o->epochs, (long long)r->samples, r->best + 1,
                        r->held_back > 0 ? ", the best on the samples held back" : "");
    shr_note_figure(note, "steps", (double)r->steps);
    shr_note_figure(note, "held_back", (double)r->held_back);
    shr_note_figure(note, "seconds", r->seconds);
    if (r->part < r->batch) {
        note = shr_report_note(report, SHR_NOTE_WARNING, "",
                               "steps of %lld samples were computed in parts of %lld, since more "
                               "did not fit into the memory",
                               (long long)r->batch, (long long)r->part);
        shr_note_figure(note, "samples_at_once", (double)r->part);
    }
    if (r->resumed) {
        note = shr_report_note(report, SHR_NOTE_DONE, "",
                               "training went on from a checkpoint, after step %lld",
                               (long long)r->resumed_step);
        shr_note_figure(note, "resumed_step", (double)r->resumed_step);
    }
    if (o->teacher != NULL && shr_augment_any(&o->augment)) {
        shr_report_note(report, SHR_NOTE_DONE, "", "the teacher saw the same augmented images");
    } else if (o->teacher != NULL && !r->teacher_kept) {
        shr_report_note(report, SHR_NOTE_WARNING, "",
                        "what the teacher says did not fit into the memory and was computed for "
                        "every batch");
    }
}
