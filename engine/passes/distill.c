/* distill: a small student learns from the model of the job, its teacher.
 *
 *     loss = alpha · soft + (1 − alpha) · hard
 *
 * soft is T² · KL(softmax(teacher / T) ‖ softmax(student / T)), a mean over samples, hard is
 * cross-entropy with the labels of data.train (Hinton, Vinyals and Dean, 2015). Thread: one. */
#include <stdlib.h>
#include <string.h>

#include "passes/edit.h"
#include "passes/student.h"
#include "passes/training.h"
#include "train/init.h"

enum {
    ARG_MODEL,
    ARG_MLP,
    ARG_SHRINK,
    ARG_INIT,
    ARG_TEMPERATURE,
    ARG_ALPHA,
    ARG_SOFT_LOSS,
    ARG_HINTS,
    ARG_HINT_WEIGHT,
    SHR_ARGS_TRAINING
};

enum { INIT_FRESH, INIT_KEEP };
static const char *const inits[] = {"fresh", "keep", NULL};
static const char *const soft_losses[] = {"kl", "mse", NULL};

static const struct shr_param params[] = {
    {"student.model", SHR_PARAM_MODEL, "", 0, 0, NULL,
     "The student is this uploaded model, by name or id"},
    {"student.mlp", SHR_PARAM_LIST, "", 0, 0, NULL,
     "The student is a perceptron with hidden layers of these widths"},
    {"student.shrink", SHR_PARAM_FLOAT, "0", 0, 0.999, NULL,
     "The student is the teacher with this share of every width; 0 means another student"},
    {"student.init", SHR_PARAM_ENUM, "fresh", 0, 0, inits,
     "Begin with fresh weights, or keep those of model, or with shrink the teacher's channels of "
     "the "
     "largest norm"},
    {"temperature", SHR_PARAM_FLOAT, "4.0", 0.01, 1000, NULL,
     "Divides the logits of both before they are compared"},
    {"alpha", SHR_PARAM_FLOAT, "0.7", 0, 1, NULL,
     "Weight of the teacher in the loss; the labels weigh the rest, and without them it must be 1"},
    {"soft_loss", SHR_PARAM_ENUM, "kl", 0, 0, soft_losses,
     "How student and teacher are compared: divergence of probabilities, or squares of logits"},
    {"hints", SHR_PARAM_LIST, "", 0, 0, NULL,
     "Pairs student:teacher of names of hidden values that shall become alike"},
    {"hint_weight", SHR_PARAM_FLOAT, "1.0", 0, 1e6, NULL, "Weight of each hint in the loss"},
    SHR_PARAMS_TRAINING("10", "0.001"),
};

/* ── The student ────────────────────────────────────────────────────────────────────────────── */

static int read_widths(const struct shr_arg *list, int64_t *widths, struct shr_err *err)
{
    for (size_t i = 0; i < list->n_texts; i++) {
        char *end = NULL;
        const long long width = strtoll(list->texts[i], &end, 10);
        if (*list->texts[i] == 0 || *end != 0 || width < 1 || width > 1 << 20) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "student.mlp: \"%.40s\" is not a width in [1, %d]", list->texts[i],
                               1 << 20);
        }
        widths[i] = width;
    }
    return SHR_OK;
}

static int make_mlp(const struct shr_pass_call *call, struct shr_model **ret, struct shr_err *err)
{
    enum { MOST = 64 };
    int64_t widths[MOST];
    const struct shr_arg *list = &call->args->v[ARG_MLP];
    if (list->n_texts > MOST) {
        return shr_err_set(err, SHR_ERR_INVALID, "student.mlp: %zu layers are more than %d",
                           list->n_texts, MOST);
    }
    int rc = read_widths(list, widths, err);
    return rc != SHR_OK ? rc
                        : shr_student_mlp(call->model, call->train, widths, list->n_texts,
                                          call->ctx == NULL ? 0 : call->ctx->seed, ret, err);
}

/* An uploaded student must say as much as the teacher does. */
static int take_model(const struct shr_pass_call *call, struct shr_model **ret, struct shr_err *err)
{
    int rc = shr_student_check(call->model, call->other, err);
    rc = rc == SHR_OK ? shr_model_clone(call->other, ret, err) : rc;
    shr_err_prefix(rc == SHR_OK ? NULL : err, "student.model: ");
    return rc;
}

/* With weights that are there, unless they shall be fresh. */
static int make_from_model(const struct shr_pass_call *call, struct shr_model **ret,
                           struct shr_err *err)
{
    struct shr_model *model = NULL;
    int rc = call->other != NULL
                 ? take_model(call, &model, err)
                 : shr_student_shrink(call, call->args->v[ARG_SHRINK].f, &model, err);
    if (rc == SHR_OK && call->args->v[ARG_INIT].i == INIT_FRESH) {
        size_t n = 0;
        rc = shr_init_model(model, call->ctx == NULL ? 0 : call->ctx->seed, &n, err);
        if (rc == SHR_OK) {
            shr_report_note(call->report, SHR_NOTE_DONE, "", "%zu weights and biases begin fresh",
                            n);
        }
    }
    if (rc != SHR_OK) {
        shr_model_free(model);
        return rc;
    }
    *ret = model;
    return SHR_OK;
}

static int make_student(const struct shr_pass_call *call, struct shr_model **ret,
                        struct shr_err *err)
{
    const struct shr_arg *a = call->args->v;
    const bool mlp = a[ARG_MLP].n_texts > 0, shrink = a[ARG_SHRINK].f > 0;
    if ((a[ARG_MODEL].n_texts > 0) + mlp + shrink != 1) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "student: one of model, mlp and shrink says what the student is");
    }
    return mlp ? make_mlp(call, ret, err) : make_from_model(call, ret, err);
}

/* ── Learning ───────────────────────────────────────────────────────────────────────────────── */

/* "student:teacher" */
static int read_hints(const struct shr_pass_call *call, struct shr_fit_opts *o,
                      struct shr_arena *arena, struct shr_err *err)
{
    const struct shr_arg *list = &call->args->v[ARG_HINTS];
    if (list->n_texts > SHR_HINTS_MAX) {
        return shr_err_set(err, SHR_ERR_INVALID, "hints: more than %d", (int)SHR_HINTS_MAX);
    }
    for (size_t i = 0; i < list->n_texts; i++) {
        char *text = shr_arena_strdup(arena, list->texts[i]);
        char *colon = text == NULL ? NULL : strchr(text, ':');
        if (colon == NULL) {
            return text == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for hints")
                                : shr_err_set(err, SHR_ERR_INVALID,
                                              "hints: \"%.80s\" is not student:teacher", text);
        }
        *colon = '\0';
        o->hints[i] = colon + 1;
        o->loss.hints[i].student = text;
        o->loss.hints[i].weight = (float)call->args->v[ARG_HINT_WEIGHT].f;
        if (shr_graph_find(&call->model->graph, o->hints[i]) == NULL) {
            return shr_err_set(err, SHR_ERR_INVALID, "hints: the teacher has no value %s",
                               o->hints[i]);
        }
    }
    o->loss.n_hints = list->n_texts;
    return SHR_OK;
}

static int read_loss(const struct shr_pass_call *call, struct shr_fit_opts *o, struct shr_err *err)
{
    const struct shr_arg *a = call->args->v;
    const double alpha = a[ARG_ALPHA].f;
    shr_training_opts(o, &a[ARG_EPOCHS], call);
    o->teacher = call->model;
    o->loss.temperature = (float)a[ARG_TEMPERATURE].f;
    o->loss.soft_weight = (float)alpha;
    o->loss.hard_weight = (float)(1 - alpha);
    o->loss.soft = (enum shr_loss_soft)a[ARG_SOFT_LOSS].i;
    if (alpha < 1 && call->train->labels == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "alpha: %g needs labels, and data.train has none; without labels it "
                           "must be 1",
                           alpha);
    }
    return SHR_OK;
}

static void report(const struct shr_pass_call *call, const struct shr_model *student)
{
    const int64_t before = shr_edit_parameters(call->model);
    const int64_t after = shr_edit_parameters(student);
    struct shr_note *note = shr_report_note(call->report, SHR_NOTE_DONE, "",
                                            "a student of %lld parameters learned from %lld",
                                            (long long)after, (long long)before);
    shr_note_figure(note, "parameters_before", (double)before);
    shr_note_figure(note, "parameters_after", (double)after);
    shr_note_figure(note, "ratio", after > 0 ? (double)before / (double)after : 0);
}

static int run(struct shr_pass_call *call, struct shr_err *err)
{
    struct shr_fit_opts opts = {0};
    struct shr_fit_result result = {0};
    struct shr_model *student = NULL;
    struct shr_arena arena = {0};
    int rc = read_loss(call, &opts, err);
    rc = rc == SHR_OK ? read_hints(call, &opts, &arena, err) : rc;
    rc = rc == SHR_OK ? make_student(call, &student, err) : rc;
    rc = rc == SHR_OK ? shr_fit(student, &opts, call->ctx, &call->ret_model, &result, err) : rc;
    if (rc == SHR_OK) {
        report(call, call->ret_model);
        shr_training_report(call->report, &opts, &result);
    }
    shr_fit_result_finish(&result);
    shr_arena_finish(&arena);
    shr_model_free(student);
    return rc;
}

const struct shr_pass shr_pass_distill = {
    .name = "distill",
    .help = "Trains a small student to do what the model does",
    .needs = SHR_NEEDS_TRAIN | SHR_NEEDS_RUN,
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .run = run,
};
