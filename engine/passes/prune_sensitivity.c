/* Sensitivity of groups; see prune_sensitivity.h.
 *
 * A model is judged by the accuracy that it loses where data.calibrate has labels, else by the
 * share of samples whose class is another than the original's, which bounds what it can lose. Each
 * group is tried alone at each level. A goal is met step by step: the group whose next tenth costs
 * least for what it saves goes first. */
#include "passes/prune_sensitivity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/vec.h"
#include "data/dataset.h"
#include "passes/calibrate.h"
#include "passes/edit.h"

struct classes { /* of all samples, in their order */
    SHR_VEC(int32_t) list;
};

struct trial {   /* of a group at a level */
    double lost; /* share of the samples; of accuracy it may be less than 0 */
    struct shr_prune_size size;
};

struct sensitivity {
    struct shr_pass_call *call;
    int64_t samples;
    size_t n;
    struct classes wanted; /* the labels, or what the original says */
    bool labels;
    double score; /* of the original: the share that it has as wanted */
    struct shr_prune_size whole;
    struct trial *trials; /* (n, SHR_PRUNE_LEVELS) */
    shr_prune_try_fn attempt;
    void *user;
};

/* ── Judging a model ────────────────────────────────────────────────────────────────────────── */

/* The largest along the last axis of each row. */
static int see(void *user, const struct shr_tensor *t, int64_t count, int64_t batch,
               struct shr_err *err)
{
    struct classes *classes = user;
    int64_t n = shr_tensor_count(t), width = t->rank > 0 ? t->dim[t->rank - 1] : 1;
    n = t->rank > 0 && t->dim[0] == batch && batch > 0 ? n / batch * count : n;
    const float *x = t->data;
    for (int64_t row = 0; row + width <= n && width > 0; row += width) {
        int32_t *best = SHR_VEC_ADD(&classes->list);
        if (best == NULL) {
            return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the classes of samples");
        }
        *best = 0;
        for (int64_t i = 1; i < width; i++) {
            *best = x[row + i] > x[row + *best] ? (int32_t)i : *best;
        }
    }
    return SHR_OK;
}

/* *ret_rows: of the dataset, that the classes are of; the caller's. */
static int predict(const struct sensitivity *s, const struct shr_model *model, struct classes *ret,
                   int64_t **ret_rows, struct shr_err *err)
{
    struct shr_calibration c = {0};
    const struct shr_value *out = model->graph.n_outputs > 0 ? model->graph.outputs[0] : NULL;
    if (out == NULL || (out->type.dtype != SHR_DTYPE_F32 && out->type.dtype != SHR_DTYPE_NONE)) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "sensitivity and targets need a first output of float32");
    }
    int code = shr_calibration_init(&c, 1, err);
    if (code == SHR_OK) {
        c.v[0].name = out->name;
        c.v[0].see = see;
        c.v[0].user = ret;
        code = shr_calibrate(&c, model, s->call->calibrate, s->samples, 0, s->call->ctx, err);
    }
    if (code == SHR_OK) {
        *ret_rows = c.rows;
        c.rows = NULL;
    }
    shr_calibration_finish(&c);
    return code;
}

/* The share of samples that have the wanted class. */
static double score(const struct sensitivity *s, const struct classes *classes)
{
    size_t n = s->wanted.list.n < classes->list.n ? s->wanted.list.n : classes->list.n, right = 0;
    for (size_t i = 0; i < n; i++) {
        right += classes->list.v[i] == s->wanted.list.v[i];
    }
    return n > 0 ? (double)right / (double)n : 0;
}

/* Labels count where each sample gives one class. */
static int judge_original(struct sensitivity *s, struct shr_err *err)
{
    struct classes said = {{0}};
    int64_t *rows = NULL;
    const int32_t *labels = s->call->calibrate->labels;
    int code = predict(s, s->call->model, &said, &rows, err);
    int64_t n = s->samples < s->call->calibrate->samples ? s->samples : s->call->calibrate->samples;
    s->labels = labels != NULL && (int64_t)said.list.n == n;
    for (size_t i = 0; i < said.list.n && code == SHR_OK; i++) {
        int32_t *wanted = SHR_VEC_ADD(&s->wanted.list);
        if (wanted == NULL) {
            code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the classes of samples");
        } else {
            *wanted = s->labels ? labels[rows[i]] : said.list.v[i];
        }
    }
    s->score = score(s, &said);
    shr_mem_free(rows);
    SHR_VEC_FINISH(&said.list);
    return code;
}

static int64_t count_macs(const struct shr_model *model)
{
    int64_t total = 0;
    SHR_EACH_NODE (node, &model->graph) {
        total += shr_edit_macs(node);
    }
    return total;
}

static int measure(const struct sensitivity *s, const struct shr_model *model,
                   struct shr_prune_size *ret, struct shr_err *err)
{
    struct shr_model *clone = NULL;
    struct shr_feed *feed = NULL;
    struct shr_type *types = NULL;
    struct shr_buf bytes = {0};
    *ret = (struct shr_prune_size){0};
    int code = shr_model_clone(model, &clone, err);
    if (code == SHR_OK) {
        code = shr_feed_new(s->call->calibrate, clone, &feed, err);
    }
    if (code == SHR_OK) {
        code = shr_feed_types(feed, 1, &types, err);
    }
    if (code == SHR_OK) {
        code = shr_model_infer(clone, types, err);
    }
    if (code == SHR_OK) {
        ret->macs = count_macs(clone);
        code = shr_model_save(model, &bytes, err);
        ret->bytes = (int64_t)bytes.len;
    }
    ret->parameters = shr_edit_parameters(model);
    shr_buf_finish(&bytes);
    shr_mem_free(types);
    shr_feed_free(feed);
    shr_model_free(clone);
    return code;
}

static int judge(const struct sensitivity *s, const unsigned char *levels, struct trial *ret,
                 struct shr_err *err)
{
    struct shr_model *model = NULL;
    struct classes classes = {{0}};
    int64_t *rows = NULL;
    int code = s->attempt(s->user, levels, &model, err);
    if (code == SHR_OK) {
        code = predict(s, model, &classes, &rows, err);
    }
    if (code == SHR_OK) {
        code = measure(s, model, &ret->size, err);
    }
    ret->lost = s->score - score(s, &classes);
    shr_mem_free(rows);
    SHR_VEC_FINISH(&classes.list);
    shr_model_free(model);
    return code;
}

/* ── Each group alone ───────────────────────────────────────────────────────────────────────── */

static void tell_group(const struct sensitivity *s, const char *name, const struct trial *t)
{
    static const char *const agreement[] = {"agreement_10", "agreement_20", "agreement_30",
                                            "agreement_40", "agreement_50", "agreement_60",
                                            "agreement_70", "agreement_80"};
    static const char *const accuracy[] = {"accuracy_10", "accuracy_20", "accuracy_30",
                                           "accuracy_40", "accuracy_50", "accuracy_60",
                                           "accuracy_70", "accuracy_80"};
    const char *const *figures = s->labels ? accuracy : agreement;
    char text[256];
    size_t used = 0;
    for (int level = 1; level < SHR_PRUNE_LEVELS; level++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%.3f at %d %%",
                                 level > 1 ? ", " : "", s->score - t[level].lost, level * 10);
    }
    struct shr_note *note =
        shr_report_note(s->call->report, SHR_NOTE_DONE, name, "%s: %s",
                        s->labels ? "accuracy" : "agreement with the original", text);
    for (int level = 1; level <= (int)SHR_COUNT_OF(accuracy); level++) {
        shr_note_figure(note, figures[level - 1], s->score - t[level].lost);
    }
}

static int try_groups(struct sensitivity *s, const char *const *names, unsigned char *levels,
                      struct shr_err *err)
{
    for (size_t g = 0; g < s->n; g++) {
        struct trial *t = s->trials + g * SHR_PRUNE_LEVELS;
        t[0].size = s->whole;
        for (int level = 1; level < SHR_PRUNE_LEVELS && names[g] != NULL; level++) {
            int code = shr_ctx_poll(s->call->ctx, err);
            levels[g] = (unsigned char)level;
            code = code == SHR_OK ? judge(s, levels, &t[level], err) : code;
            if (code != SHR_OK) {
                return code;
            }
        }
        levels[g] = 0;
        if (names[g] != NULL) {
            tell_group(s, names[g], t);
        }
        shr_ctx_tell(s->call->ctx, "sensitivity", g + 1, s->n);
    }
    return SHR_OK;
}

/* ── A goal ─────────────────────────────────────────────────────────────────────────────────── */

/* The group whose next level loses least for what it saves; n = all are at their last. */
static size_t cheapest(const struct sensitivity *s, const char *const *names,
                       const unsigned char *levels, const bool *closed, bool by_macs)
{
    size_t best = s->n;
    double least = INFINITY;
    for (size_t g = 0; g < s->n; g++) {
        if (names[g] == NULL || closed[g] || levels[g] + 1 >= SHR_PRUNE_LEVELS) {
            continue;
        }
        const struct trial *t = s->trials + g * SHR_PRUNE_LEVELS, *a = &t[levels[g]],
                           *b = &t[levels[g] + 1];
        double saved = by_macs ? (double)(a->size.macs - b->size.macs)
                               : (double)(a->size.bytes - b->size.bytes);
        double cost = (fmax(b->lost, 0) + 1e-3) / fmax(saved, 1);
        if (cost < least) {
            least = cost;
            best = g;
        }
    }
    return best;
}

static bool reached(const struct sensitivity *s, const struct shr_prune_goal *goal,
                    const struct trial *now)
{
    return (goal->size_ratio == 0 ||
            (double)now->size.bytes <= goal->size_ratio * (double)s->whole.bytes) &&
           (goal->macs_ratio == 0 ||
            (double)now->size.macs <= goal->macs_ratio * (double)s->whole.macs);
}

/* With a bound on what may be lost, a step beyond it is taken back and its group left alone. */
static int meet(struct sensitivity *s, const char *const *names, const struct shr_prune_goal *goal,
                unsigned char *levels, bool *closed, struct shr_err *err)
{
    bool sized = goal->size_ratio > 0 || goal->macs_ratio > 0;
    struct trial now = {0, s->whole};
    while (!sized || !reached(s, goal, &now)) {
        size_t g = cheapest(s, names, levels, closed, goal->macs_ratio > 0);
        if (g == s->n) {
            break;
        }
        struct trial next;
        levels[g]++;
        int code = shr_ctx_poll(s->call->ctx, err);
        code = code == SHR_OK ? judge(s, levels, &next, err) : code;
        if (code != SHR_OK) {
            return code;
        }
        if (goal->max_accuracy_drop > 0 && next.lost > goal->max_accuracy_drop) {
            levels[g]--;
            closed[g] = true;
            continue;
        }
        now = next;
    }
    if (sized && !reached(s, goal, &now)) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "target: it cannot be reached; the least is a size_ratio of %.3f and a "
                           "macs_ratio of %.3f",
                           (double)now.size.bytes / (double)s->whole.bytes,
                           (double)now.size.macs / fmax((double)s->whole.macs, 1));
    }
    struct shr_note *note = shr_report_note(
        s->call->report, SHR_NOTE_DONE, "", "amounts were chosen for the target; %s %.3f",
        s->labels ? "accuracy on data.calibrate" : "agreement with the original",
        s->score - now.lost);
    shr_note_figure(note, s->labels ? "accuracy" : "agreement", s->score - now.lost);
    shr_note_figure(note, "size_ratio", (double)now.size.bytes / (double)s->whole.bytes);
    shr_note_figure(note, "macs_ratio", (double)now.size.macs / fmax((double)s->whole.macs, 1));
    return SHR_OK;
}

int shr_prune_choose(struct shr_pass_call *call, const char *const *names, size_t n,
                     int64_t samples, const struct shr_prune_goal *goal, shr_prune_try_fn attempt,
                     void *user, unsigned char *ret_levels, struct shr_err *err)
{
    struct sensitivity s = {.call = call,
                            .samples = samples,
                            .n = n,
                            .trials = shr_mem_new(n * SHR_PRUNE_LEVELS + 1, sizeof *s.trials),
                            .attempt = attempt,
                            .user = user};
    unsigned char *levels = shr_mem_new(n + 1, 1);
    bool *closed = shr_mem_new(n + 1, sizeof *closed);
    int code = s.trials == NULL || levels == NULL || closed == NULL
                   ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the sensitivity of groups")
                   : judge_original(&s, err);
    if (code == SHR_OK) {
        code = measure(&s, call->model, &s.whole, err);
    }
    if (code == SHR_OK) {
        code = try_groups(&s, names, levels, err);
    }
    bool any = goal->size_ratio > 0 || goal->macs_ratio > 0 || goal->max_accuracy_drop > 0;
    if (code == SHR_OK && any) {
        code = meet(&s, names, goal, levels, closed, err);
    }
    if (code == SHR_OK) {
        memcpy(ret_levels, levels, n);
    }
    SHR_VEC_FINISH(&s.wanted.list);
    shr_mem_free(s.trials);
    shr_mem_free(levels);
    shr_mem_free(closed);
    return code;
}
