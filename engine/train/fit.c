/* Epochs; see fit.h. */
#include "train/fit.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "train/fit_state.h"
#include "train/init.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for training");
}

/* ── What is trained on ─────────────────────────────────────────────────────────────────────── */

/* Fisher and Yates */
static void shuffle(struct shr_rng *rng, int64_t *order, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)shr_rng_below(rng, (uint64_t)i + 1);
        const int64_t other = order[j];
        order[j] = order[i];
        order[i] = other;
    }
}

/* Samples in a random order, the last of which are held back. */
static int split(struct shr__fit *f, struct shr_err *err)
{
    const int64_t n = f->opts->data->samples;
    f->order = shr_mem_new((size_t)n + 1, sizeof *f->order);
    if (f->order == NULL) {
        return no_memory(err);
    }
    for (int64_t i = 0; i < n; i++) {
        f->order[i] = i;
    }
    f->n_held = (int64_t)((double)n * f->opts->validate);
    f->n_train = n - f->n_held;
    if (f->n_train < 1 || (f->opts->validate > 0 && f->n_held < 1)) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "validate: %g of %lld samples leaves nothing to train or to validate on",
                           f->opts->validate, (long long)n);
    }
    if (f->n_held > 0) {
        shuffle(&f->rng, f->order, n);
    }
    f->result.samples = f->n_train;
    f->result.held_back = f->n_held;
    f->batch = f->opts->batch < f->n_train ? f->opts->batch : f->n_train;
    return SHR_OK;
}

static int check_labels(const struct shr__fit *f, int64_t classes, struct shr_err *err)
{
    const struct shr_dataset *data = f->opts->data;
    for (int64_t i = 0; i < data->samples; i++) {
        if (data->labels[i] < 0 || data->labels[i] >= classes) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "label %d of sample %lld is not in [0, %lld), the classes of the "
                               "model",
                               (int)data->labels[i], (long long)i, (long long)classes);
        }
    }
    return SHR_OK;
}

/* ── Setting up ─────────────────────────────────────────────────────────────────────────────── */

static int types(void *user, int64_t rows, struct shr_type *ret, struct shr_err *err)
{
    const struct shr__fit *f = user;
    size_t n = 0;
    for (size_t i = 0; i < f->model->graph.n_inputs; i++) {
        const struct shr_value *v = f->model->graph.inputs[i];
        if (shr_value_is_constant(v)) {
            continue;
        }
        shr_feed_type(f->feed, n, rows, &ret[n]);
        if (ret[n].rank < 1 || ret[n].dim[0] != rows) {
            return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                               "input %s: its first dimension is fixed, and training needs one for "
                               "any number of samples",
                               v->name);
        }
        n++;
    }
    return SHR_OK;
}

static int make_trainer(struct shr__fit *f, struct shr_err *err)
{
    struct shr_trainer_opts opts = {
        .loss = f->opts->loss,
        .optim = f->opts->optim,
        .types = types,
        .user = f,
        .keep_zeros = f->opts->keep_zeros,
        .seed = f->ctx == NULL ? 0 : f->ctx->seed,
        .threads = f->ctx == NULL ? 0 : f->ctx->threads,
        .cpu_mask = f->ctx == NULL ? 0 : f->ctx->cpu_mask,
        .max_arena = f->ctx == NULL ? 0 : f->ctx->max_memory,
    };
    if (opts.loss.logits == NULL) {
        opts.loss.logits = shr_loss_logits(f->model);
    }
    return shr_trainer_init(&f->trainer, f->model, &opts, err);
}

/* NULL = none */
static const struct shr_augment *augment_of(struct shr__fit *f)
{
    f->augment = f->opts->augment;
    f->augment.seed = f->ctx == NULL ? 0 : f->ctx->seed;
    return shr_augment_any(&f->augment) ? &f->augment : NULL;
}

static int make_feed(struct shr__fit *f, struct shr_err *err)
{
    const struct shr_augment *augment = augment_of(f);
    int rc = shr_feed_new(f->opts->data, f->model, &f->feed, err);
    return rc == SHR_OK && augment != NULL ? shr_feed_augment(f->feed, augment, err) : rc;
}

static int make_teacher(struct shr__fit *f, struct shr_err *err)
{
    const char *names[SHR_TEACHER_VALUES] = {shr_loss_logits(f->opts->teacher)};
    for (size_t i = 0; i < f->opts->loss.n_hints; i++) {
        names[1 + i] = f->opts->hints[i];
    }
    if (names[0] == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "the teacher has no output");
    }
    int rc = shr_teacher_init(&f->teacher, f->opts->teacher, f->opts->data, names,
                              1 + f->opts->loss.n_hints, f->part, f->opts->max_memory,
                              augment_of(f), f->ctx, err);
    f->has_teacher = rc == SHR_OK;
    f->result.teacher_kept = f->has_teacher && f->teacher.kept[0] != NULL;
    return rc;
}

/* The student's values have the shape of the teacher's. */
static int check_teacher(const struct shr__fit *f, const struct shr_lane *lane, struct shr_err *err)
{
    for (size_t i = 0; i < f->teacher.n_values; i++) {
        const struct shr_tensor *t = i == 0 ? lane->teacher : lane->hints[i - 1];
        const size_t width = t == NULL ? 0 : (size_t)(shr_tensor_count(t) / lane->rows);
        if (t != NULL && width != f->teacher.width[i]) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "%s of the student has %zu elements a sample, of the teacher %zu",
                               i == 0 ? "the output" : f->opts->loss.hints[i - 1].student, width,
                               f->teacher.width[i]);
        }
    }
    return SHR_OK;
}

static int check_lane(const struct shr__fit *f, const struct shr_lane *lane, struct shr_err *err)
{
    int rc = f->has_teacher ? check_teacher(f, lane, err) : SHR_OK;
    if (rc != SHR_OK || !f->has_labels) {
        return rc;
    }
    if (shr_tensor_count(lane->labels) != lane->rows) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "the model gives %lld predictions a sample, and there is one label",
                           (long long)(shr_tensor_count(lane->labels) / lane->rows));
    }
    const struct shr_value *logits = shr_graph_find(&f->model->graph, f->trainer.opts.loss.logits);
    const struct shr_type *type = &logits->type;
    const int64_t classes = type->rank > 0 ? type->dim[type->rank - 1] : -1;
    return classes < 0 ? SHR_OK /* open: the loss looks */
                       : check_labels(f, classes == 1 ? 2 : classes, err);
}

static void set_schedule(struct shr__fit *f)
{
    const struct shr_fit_opts *o = f->opts;
    const int64_t steps = (f->n_train + f->batch - 1) / f->batch; /* of an epoch */
    f->schedule = (struct shr_schedule){
        .kind = o->schedule,
        .lr = o->lr,
        .warmup = (int64_t)(o->warmup * (double)steps),
        .steps = steps * o->epochs,
        .drop_every = (int64_t)(o->drop_every * (double)steps),
        .drop = o->drop,
    };
}

/* Batches that do not fit into the memory are computed in halves, quarters, … */
static int find_part(struct shr__fit *f, struct shr_lane **ret, struct shr_err *err)
{
    int rc = SHR_ERR_LIMIT;
    for (f->part = f->batch; rc == SHR_ERR_LIMIT; f->part = (f->part + 1) / 2) {
        rc = shr_trainer_lane(&f->trainer, f->part, true, ret, err);
        if (rc != SHR_ERR_LIMIT) {
            break;
        }
        if (f->trainer.n_states > 0) {
            shr_err_prefix(
                err, "batch_size %lld, which running means need whole: ", (long long)f->batch);
            return rc;
        }
        if (f->part == 1) {
            shr_err_prefix(err, "training with one sample at a time: ");
            return rc;
        }
    }
    f->result.batch = f->batch;
    f->result.part = f->part;
    return rc;
}

static int set_up(struct shr__fit *f, struct shr_err *err)
{
    const struct shr_fit_opts *o = f->opts;
    shr_rng_init(&f->rng, f->ctx == NULL ? 0 : f->ctx->seed);
    f->has_labels = o->loss.hard_weight != 0.0f;
    if (f->has_labels && o->data->labels == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID, "the dataset has no labels to learn from");
    }
    int rc = split(f, err);
    rc = rc == SHR_OK ? make_feed(f, err) : rc;
    rc = rc == SHR_OK ? make_trainer(f, err) : rc;
    struct shr_lane *lane;
    rc = rc == SHR_OK ? find_part(f, &lane, err) : rc;
    if (rc == SHR_OK && o->teacher != NULL) {
        rc = make_teacher(f, err);
    }
    if (rc == SHR_OK) {
        rc = check_lane(f, lane, err);
    }
    if (rc == SHR_OK) {
        f->result.epochs = shr_mem_new((size_t)o->epochs, sizeof *f->result.epochs);
        rc = f->result.epochs == NULL ? no_memory(err) : SHR_OK;
    }
    if (rc == SHR_OK) {
        set_schedule(f);
    }
    return rc;
}

/* ── Batches ────────────────────────────────────────────────────────────────────────────────── */

static int fill(struct shr__fit *f, struct shr_lane *lane, const int64_t *samples,
                struct shr_err *err)
{
    const int64_t epoch = lane->trains ? (int64_t)f->result.n_epochs : -1;
    shr_feed_set_epoch(f->feed, epoch);
    int rc = shr_feed_fill_list(f->feed, samples, lane->rows, lane->inputs, lane->n_inputs, err);
    if (rc == SHR_OK && f->has_teacher) {
        struct shr_tensor *to[SHR_TEACHER_VALUES] = {lane->teacher};
        memcpy(&to[1], lane->hints, sizeof lane->hints);
        shr_feed_set_epoch(f->teacher.feed, epoch);
        rc = shr_teacher_fill(&f->teacher, samples, lane->rows, to, f->ctx, err);
    }
    for (int64_t i = 0; i < lane->rows && lane->labels != NULL; i++) {
        ((int32_t *)lane->labels->data)[i] = f->opts->data->labels[samples[i]];
    }
    return rc;
}

static int fail_nan(const struct shr__fit *f, double loss, size_t epoch, struct shr_err *err)
{
    bool gradient = false;
    const char *name = shr_trainer_find_nan(&f->trainer, &gradient);
    return shr_err_set(err, SHR_ERR_INVALID,
                       "training stopped in step %lld, of epoch %zu: the loss is %g; the first "
                       "tensor that is not finite is %s%s",
                       (long long)f->result.steps + 1, epoch + 1, loss,
                       name == NULL ? "the output"
                       : gradient   ? "the gradient of "
                                    : "",
                       name == NULL ? "" : name);
}

static int run_part(struct shr__fit *f, struct shr_lane *lane, const int64_t *samples,
                    struct shr__fit_sums *sums, struct shr_err *err)
{
    int rc = fill(f, lane, samples, err);
    rc = rc == SHR_OK ? shr_trainer_run(&f->trainer, lane, f->ctx, err) : rc;
    if (rc != SHR_OK) {
        return rc;
    }
    const double loss = (double)*(const float *)lane->loss->data;
    if (!isfinite(loss)) {
        return fail_nan(f, loss, f->result.n_epochs, err);
    }
    sums->loss += loss * (double)lane->rows;
    sums->hits += (double)*(const float *)lane->hits->data;
    return SHR_OK;
}

static int run_batch(struct shr__fit *f, const int64_t *samples, int64_t n, bool trains,
                     struct shr__fit_sums *sums, struct shr_err *err)
{
    struct shr_lane *lane = NULL;
    for (int64_t at = 0; at < n; at += lane->rows) {
        const int64_t count = n - at < f->part ? n - at : f->part;
        int rc = shr_trainer_lane(&f->trainer, count, trains, &lane, err);
        rc = rc == SHR_OK ? run_part(f, lane, samples + at, sums, err) : rc;
        if (rc == SHR_OK && trains && count < n) {
            rc = shr_trainer_add_part(&f->trainer, (float)count / (float)n, at + count == n, err);
        }
        if (rc != SHR_OK) {
            return rc;
        }
    }
    if (trains) {
        struct shr_fit_epoch *e = &f->result.epochs[f->result.n_epochs];
        e->lr = shr_schedule_at(&f->schedule, f->result.steps++);
        shr_trainer_update(&f->trainer, lane, e->lr);
    }
    return SHR_OK;
}

/* Whatever goes wrong with a checkpoint, the training itself can go on. */
static void save_sometimes(struct shr__fit *f)
{
    const double every = f->ctx == NULL ? 0 : f->ctx->checkpoint_seconds;
    if (now() - f->saved >= (every > 0 ? every : 60)) {
        struct shr_err ignored;
        (void)!shr__fit_save(f, &ignored);
        f->saved = now();
    }
}

static void tell_place(const struct shr__fit *f)
{
    const uint64_t before = (uint64_t)f->result.n_epochs * (uint64_t)f->n_train;
    shr_ctx_tell(f->ctx, "train", before + (uint64_t)f->at,
                 (uint64_t)f->opts->epochs * (uint64_t)f->n_train);
}

static void tell_step(const struct shr__fit *f, double loss)
{
    const uint64_t step = (uint64_t)f->result.steps;
    tell_place(f);
    shr_ctx_figure(f->ctx, "loss", step, loss);
    shr_ctx_figure(f->ctx, "learning_rate", step, f->result.epochs[f->result.n_epochs].lr);
}

/* The rest of the epoch that is begun. */
static int run_steps(struct shr__fit *f, struct shr_err *err)
{
    while (f->at < f->n_train) {
        const int64_t left = f->n_train - f->at, count = left < f->batch ? left : f->batch;
        const double before = f->sums.loss;
        int rc = run_batch(f, f->order + f->at, count, true, &f->sums, err);
        if (rc != SHR_OK) {
            return rc;
        }
        f->at += count;
        tell_step(f, (f->sums.loss - before) / (double)count);
        save_sometimes(f);
    }
    return SHR_OK;
}

/* ── Epochs ─────────────────────────────────────────────────────────────────────────────────── */

/* Keeps the weights when the epoch was better than all before. */
static int judge(struct shr__fit *f, const struct shr_fit_epoch *e, size_t epoch,
                 struct shr_err *err)
{
    const double score = f->has_labels ? e->validation_accuracy : -e->validation_loss;
    if (f->best != NULL && !(score > f->best_score)) {
        return SHR_OK;
    }
    const size_t bytes = f->trainer.n_all * sizeof *f->best;
    f->best = f->best != NULL ? f->best : shr_mem_aligned(bytes + SHR_MEM_ALIGN);
    if (f->best == NULL) {
        return no_memory(err);
    }
    memcpy(f->best, f->trainer.weights, bytes);
    f->best_score = score;
    f->result.best = epoch;
    return SHR_OK;
}

static int validate(struct shr__fit *f, struct shr_fit_epoch *e, size_t epoch, struct shr_err *err)
{
    struct shr__fit_sums sums = {0};
    for (int64_t at = 0; at < f->n_held; at += f->batch) {
        const int64_t count = f->n_held - at < f->batch ? f->n_held - at : f->batch;
        int rc = run_batch(f, f->order + f->n_train + at, count, false, &sums, err);
        if (rc != SHR_OK) {
            return rc;
        }
    }
    e->validation_loss = sums.loss / (double)f->n_held;
    e->validation_accuracy = f->has_labels ? sums.hits / (double)f->n_held : NAN;
    return judge(f, e, epoch, err);
}

static void tell_epoch(const struct shr__fit *f, const struct shr_fit_epoch *e)
{
    const uint64_t step = (uint64_t)f->result.steps;
    shr_ctx_figure(f->ctx, "samples_per_second", step, e->samples_per_s);
    if (!isnan(e->accuracy)) {
        shr_ctx_figure(f->ctx, "accuracy", step, e->accuracy);
    }
    if (!isnan(e->validation_loss)) {
        shr_ctx_figure(f->ctx, "validation_loss", step, e->validation_loss);
    }
    if (!isnan(e->validation_accuracy)) {
        shr_ctx_figure(f->ctx, "validation_accuracy", step, e->validation_accuracy);
    }
}

/* Begins an epoch, or goes on with one that a checkpoint was made in. */
static int run_epoch(struct shr__fit *f, struct shr_err *err)
{
    const size_t epoch = f->result.n_epochs;
    struct shr_fit_epoch *e = &f->result.epochs[epoch];
    const double began = now(), n = (double)f->n_train;
    const int64_t from = f->at;
    if (f->at == 0) {
        shuffle(&f->rng, f->order, f->n_train);
        f->sums = (struct shr__fit_sums){0};
    }
    int rc = run_steps(f, err);
    if (rc != SHR_OK) {
        return rc;
    }
    f->at = 0;
    e->samples_per_s = (double)(f->n_train - from) / (now() - began);
    e->loss = f->sums.loss / n;
    e->accuracy = f->has_labels ? f->sums.hits / n : NAN;
    e->validation_loss = e->validation_accuracy = NAN;
    if (f->n_held > 0) {
        rc = validate(f, e, epoch, err);
    } else {
        f->result.best = epoch;
    }
    f->result.n_epochs++;
    tell_epoch(f, e);
    return rc;
}

static int run_epochs(struct shr__fit *f, struct shr_err *err)
{
    while (f->result.n_epochs < (size_t)f->opts->epochs) {
        int rc = run_epoch(f, err);
        if (rc != SHR_OK) {
            return rc;
        }
        const size_t waited = f->result.n_epochs - 1 - f->result.best;
        if (f->opts->patience > 0 && waited >= (size_t)f->opts->patience) {
            f->result.stopped_early = f->result.n_epochs < (size_t)f->opts->epochs;
            break;
        }
    }
    return SHR_OK;
}

static int give(struct shr__fit *f, struct shr_model **ret, struct shr_err *err)
{
    const float *weights = f->best != NULL ? f->best : f->trainer.weights;
    int rc = shr_trainer_store(&f->trainer, weights, f->model, err);
    if (rc == SHR_OK) {
        *ret = f->model;
        f->model = NULL;
    }
    return rc;
}

int shr_fit(const struct shr_model *model, const struct shr_fit_opts *opts,
            const struct shr_ctx *ctx, struct shr_model **ret_model,
            struct shr_fit_result *ret_result, struct shr_err *err)
{
    struct shr__fit f = {.opts = opts, .ctx = ctx, .began = now(), .saved = now()};
    int rc = shr_model_clone(model, &f.model, err);
    rc = rc == SHR_OK ? shr_untie_norms(f.model, err) : rc;
    if (rc == SHR_OK && ctx != NULL && ctx->plan) {
        *ret_model = f.model;
        *ret_result = (struct shr_fit_result){.teacher_kept = true};
        return SHR_OK;
    }
    rc = rc == SHR_OK ? set_up(&f, err) : rc;
    rc = rc == SHR_OK ? shr_ctx_poll(ctx, err) : rc; /* the teacher may have taken long */
    if (rc == SHR_OK) {
        f.result.resumed = shr__fit_resume(&f);
        f.result.resumed_step = f.result.steps;
        tell_place(&f);
        rc = run_epochs(&f, err);
    }
    rc = rc == SHR_OK ? give(&f, ret_model, err) : rc;
    f.result.seconds = now() - f.began;
    if (rc == SHR_OK) {
        *ret_result = f.result;
    } else {
        shr_fit_result_finish(&f.result);
    }
    if (f.has_teacher) {
        shr_teacher_finish(&f.teacher);
    }
    shr_trainer_finish(&f.trainer);
    shr_feed_free(f.feed);
    shr_model_free(f.model);
    shr_mem_free(f.order);
    shr_mem_free(f.best);
    return rc;
}

void shr_fit_result_finish(struct shr_fit_result *r)
{
    shr_mem_free(r->epochs);
    *r = (struct shr_fit_result){0};
}
