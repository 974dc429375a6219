/* Sensitivity of layers to quantization; see quant_sensitivity.h.
 *
 * Each layer is quantized alone and ranked by the noise that this makes in the model's output: a
 * ratio of sums says more from few samples than a count of changed classes. DESIGN: the layers with
 * the most noise stay in float, as many as a bisection finds that the goal needs; then each of them
 * is quantized again, the least noisy first, and stays so where the goal is still met. What is left
 * in float is needed, each for itself, whether or not the ranking was right. At most
 * n + log2(n) + 2 models are judged for n layers, and as many more as stay in float after the
 * bisection. */
#include "passes/quant_sensitivity.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"
#include "passes/quant_judge.h"

struct layer {
    size_t index;
    const char *name;
    struct shr_verdict alone;
};

struct candidate { /* layers in float, and what the model then is */
    bool *in_float;
    size_t n_float;
    double lost; /* of the original's score */
    int64_t bytes;
};

struct search {
    const struct shr_pass_call *call;
    const struct shr_quant_goal *goal;
    size_t n;
    struct layer *layers; /* (n) after ranking the most sensitive first */
    shr_quant_try_fn attempt;
    void *user;
    struct shr_judge judge;
    double score, score_alone; /* of the original, on all samples and on those of a layer alone */
    SHR_VEC(struct candidate) tried;
    size_t best;     /* of tried: loses least */
    size_t last_met; /* of tried: the last that met the goal, if any did */
};

static int no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the sensitivity of layers");
}

/* Scores are counts of samples: what is lost is rounded less than by one. */
static bool meets(const struct search *s, const struct candidate *c)
{
    return c->lost <= s->goal->max_accuracy_drop + 1e-9;
}

/* ── Each layer alone ───────────────────────────────────────────────────────────────────────── */

static void tell_layer(const struct search *s, size_t i)
{
    const struct layer *layer = &s->layers[i];
    const char *what = shr_judge_score_name(&s->judge);
    const bool classes = s->judge.classes > 1;
    char text[64] = "";
    if (classes) {
        snprintf(text, sizeof text, ", %s %.4f", what, layer->alone.score);
    }
    struct shr_note *note = shr_report_note(s->call->report, SHR_NOTE_DONE, layer->name,
                                            "quantized alone: SQNR of the output %.1f dB%s",
                                            layer->alone.sqnr_db, text);
    shr_note_figure(note, "layer", (double)(layer->index + 1));
    shr_note_figure(note, "alone_sqnr_db", layer->alone.sqnr_db);
    if (classes) {
        shr_note_figure(note, s->judge.labels ? "alone_accuracy" : "alone_agreement",
                        layer->alone.score);
        shr_note_figure(note, "alone_lost", s->score_alone - layer->alone.score);
    }
}

static int try_layers(struct search *s, struct shr_err *err)
{
    bool *in_float = shr_mem_new(s->n + 1, sizeof *in_float);
    int code = in_float != NULL ? SHR_OK : no_memory(err);
    for (size_t i = 0; i < s->n && code == SHR_OK; i++) {
        struct shr_model *model = NULL;
        memset(in_float, true, s->n);
        in_float[i] = false;
        code = shr_ctx_poll(s->call->ctx, err);
        if (code == SHR_OK) {
            code = s->attempt(s->user, in_float, &model, err);
        }
        if (code == SHR_OK) {
            code =
                shr_judge_model(&s->judge, model, s->goal->samples_alone, &s->layers[i].alone, err);
        }
        if (code == SHR_OK) {
            tell_layer(s, i);
            shr_ctx_tell(s->call->ctx, "sensitivity", i + 1, s->n);
        }
        shr_model_free(model);
    }
    shr_mem_free(in_float);
    return code;
}

static int by_noise(const void *a, const void *b)
{
    const struct layer *x = a, *y = b;
    if (x->alone.sqnr_db != y->alone.sqnr_db) {
        return x->alone.sqnr_db < y->alone.sqnr_db ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

/* ── Choices of layers ──────────────────────────────────────────────────────────────────────── */

static void tell_candidate(const struct search *s, const struct candidate *c, double sqnr_db)
{
    const char *what = shr_judge_score_name(&s->judge);
    char names[384] = "";
    size_t used = 0;
    for (size_t i = 0; i < s->n && used < sizeof names; i++) {
        if (c->in_float[s->layers[i].index]) {
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s",
                                     used > 0 ? ", " : ": ", s->layers[i].name);
        }
    }
    if (used >= sizeof names) {
        memcpy(names + sizeof names - 4, "...", 4);
    }
    const double score = s->score - c->lost;
    struct shr_note *note = shr_report_note(s->call->report, SHR_NOTE_DONE, "",
                                            "%s %.4f with %zu of %zu layers in float%s", what,
                                            score, c->n_float, s->n, names);
    shr_note_figure(note, "candidate", (double)s->tried.n);
    shr_note_figure(note, "float_layers", (double)c->n_float);
    shr_note_figure(note, what, score);
    shr_note_figure(note, "accuracy_drop", c->lost);
    shr_note_figure(note, "sqnr_db", sqnr_db);
    shr_note_figure(note, "bytes", (double)c->bytes);
    shr_note_figure(note, "met", meets(s, c));
}

static int measure(const struct search *s, struct candidate *c, struct shr_err *err)
{
    struct shr_model *model = NULL;
    struct shr_verdict verdict = {0};
    struct shr_buf bytes = {0};
    int code = s->attempt(s->user, c->in_float, &model, err);
    if (code == SHR_OK) {
        code = shr_judge_model(&s->judge, model, s->judge.n, &verdict, err);
    }
    if (code == SHR_OK) {
        code = shr_model_save(model, &bytes, err);
    }
    if (code == SHR_OK) {
        c->lost = s->score - verdict.score;
        c->bytes = (int64_t)bytes.len;
        tell_candidate(s, c, verdict.sqnr_db);
    }
    shr_buf_finish(&bytes);
    shr_model_free(model);
    return code;
}

/* Judges a choice and keeps its figures as the last of those tried. */
static int try_choice(struct search *s, const bool *in_float, bool *ret_met, struct shr_err *err)
{
    int code = shr_ctx_poll(s->call->ctx, err);
    if (code != SHR_OK) {
        return code;
    }
    struct candidate *c = SHR_VEC_ADD(&s->tried);
    if (c == NULL || (c->in_float = shr_mem_new(s->n + 1, sizeof *c->in_float)) == NULL) {
        return no_memory(err);
    }
    memcpy(c->in_float, in_float, s->n);
    for (size_t i = 0; i < s->n; i++) {
        c->n_float += in_float[i];
    }
    code = measure(s, c, err);
    if (code == SHR_OK) {
        const struct candidate *best = &s->tried.v[s->best];
        if (c->lost < best->lost || (c->lost == best->lost && c->n_float < best->n_float)) {
            s->best = s->tried.n - 1;
        }
        shr_ctx_tell(s->call->ctx, "max_accuracy_drop", s->tried.n, 0);
        *ret_met = meets(s, c);
        s->last_met = *ret_met ? s->tried.n - 1 : s->last_met;
    }
    return code;
}

/* The first k of the ranking stay in float. */
static void first_layers(const struct search *s, size_t k, bool *in_float)
{
    memset(in_float, false, s->n);
    for (size_t i = 0; i < k; i++) {
        in_float[s->layers[i].index] = true;
    }
}

/* *ret_k: how many of the ranking are needed; n = even n - 1 are too few. None are. */
static int bisect(struct search *s, bool *in_float, size_t *ret_k, struct shr_err *err)
{
    size_t too_few = 0, enough = s->n;
    while (enough - too_few > 1) {
        const size_t k = too_few + (enough - too_few) / 2;
        bool met = false;
        first_layers(s, k, in_float);
        int code = try_choice(s, in_float, &met, err);
        if (code != SHR_OK) {
            return code;
        }
        *(met ? &enough : &too_few) = k;
    }
    *ret_k = enough;
    return SHR_OK;
}

/* Quantizes those of the first k again that need not stay in float. That the last of them is needed
 * is known from the bisection. */
static int give_back(struct search *s, size_t k, bool *in_float, struct shr_err *err)
{
    first_layers(s, k, in_float);
    for (size_t i = k - 1; i-- > 0;) {
        bool met = false;
        in_float[s->layers[i].index] = false;
        int code = try_choice(s, in_float, &met, err);
        if (code != SHR_OK) {
            return code;
        }
        in_float[s->layers[i].index] = !met;
    }
    return SHR_OK;
}

static void tell_met(const struct search *s)
{
    const struct candidate *c = &s->tried.v[s->last_met];
    struct shr_note *note =
        shr_report_note(s->call->report, SHR_NOTE_DONE, "",
                        "max_accuracy_drop %g is met with %zu of %zu layers in float: %.4f lost "
                        "(choices tried: %zu)",
                        s->goal->max_accuracy_drop, c->n_float, s->n, c->lost, s->tried.n);
    shr_note_figure(note, "float_layers", (double)c->n_float);
    shr_note_figure(note, "accuracy_drop", c->lost);
}

static void tell_miss(const struct search *s)
{
    const struct candidate *best = &s->tried.v[s->best];
    struct shr_note *note = shr_report_note(
        s->call->report, SHR_NOTE_WARNING, "",
        "max_accuracy_drop %g is not met by any of %zu choices; the best, %zu of %zu layers in "
        "float, loses %.4f and is the result; a max_accuracy_drop of %.4f would be met, or all "
        "layers in float (no quantization)",
        s->goal->max_accuracy_drop, s->tried.n, best->n_float, s->n, best->lost,
        ceil(best->lost * 1e4) / 1e4);
    shr_note_figure(note, "float_layers", (double)best->n_float);
    shr_note_figure(note, "accuracy_drop", best->lost);
}

/* All layers are quantized is the first choice; when it meets the goal no other is tried. */
static int meet(struct search *s, bool *in_float, bool *ret_met, struct shr_err *err)
{
    size_t k = 0;
    int code = bisect(s, in_float, &k, err);
    *ret_met = code == SHR_OK && k < s->n;
    if (*ret_met) {
        code = give_back(s, k, in_float, err);
    }
    return code;
}

/* ── The choice ─────────────────────────────────────────────────────────────────────────────── */

static int begin(struct search *s, struct shr_err *err)
{
    struct shr_verdict original = {0};
    int code = shr_judge_init(&s->judge, s->call, s->goal->samples, err);
    if (code == SHR_OK) {
        code = shr_judge_model(&s->judge, NULL, s->judge.n, &original, err);
        s->score = original.score;
    }
    if (code == SHR_OK) {
        code = shr_judge_model(&s->judge, NULL, s->goal->samples_alone, &original, err);
        s->score_alone = original.score;
    }
    if (code != SHR_OK) {
        shr_err_prefix(err, "sensitivity: ");
        return code;
    }
    if (s->goal->max_accuracy_drop > 0 && s->judge.classes < 2) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "max_accuracy_drop needs a first output with classes along its last "
                           "axis");
    }
    if (s->judge.labels) {
        shr_report_note(s->call->report, SHR_NOTE_DONE, "",
                        "judged on %lld samples, of which the original gets %.4f right",
                        (long long)s->judge.n, s->score);
    } else {
        shr_report_note(s->call->report, SHR_NOTE_DONE, "",
                        "judged on %lld samples by agreement with the original",
                        (long long)s->judge.n);
    }
    return SHR_OK;
}

static int choose(struct search *s, bool *in_float, struct shr_err *err)
{
    const bool asked = s->goal->max_accuracy_drop > 0;
    bool met = !asked;
    int code = SHR_OK;
    memset(in_float, false, s->n);
    if (asked) {
        code = try_choice(s, in_float, &met, err);
    }
    if (code == SHR_OK && (s->goal->sensitivity || !met)) {
        code = try_layers(s, err);
        qsort(s->layers, s->n, sizeof *s->layers, by_noise);
    }
    if (code == SHR_OK && !met) {
        code = meet(s, in_float, &met, err);
    }
    if (code != SHR_OK || !asked) {
        return code;
    }
    if (met) {
        tell_met(s);
    } else {
        memcpy(in_float, s->tried.v[s->best].in_float, s->n);
        tell_miss(s);
    }
    return SHR_OK;
}

int shr_quant_choose(const struct shr_pass_call *call, const char *const *names, size_t n,
                     const struct shr_quant_goal *goal, shr_quant_try_fn attempt, void *user,
                     bool *in_float, struct shr_err *err)
{
    struct search s = {.call = call,
                       .goal = goal,
                       .n = n,
                       .layers = shr_mem_new(n + 1, sizeof *s.layers),
                       .attempt = attempt,
                       .user = user};
    int code = s.layers != NULL ? begin(&s, err) : no_memory(err);
    for (size_t i = 0; i < n && code == SHR_OK; i++) {
        s.layers[i] = (struct layer){.index = i, .name = names[i]};
    }
    if (code == SHR_OK) {
        code = choose(&s, in_float, err);
    }
    for (size_t i = 0; i < s.tried.n; i++) {
        shr_mem_free(s.tried.v[i].in_float);
    }
    SHR_VEC_FINISH(&s.tried);
    shr_judge_finish(&s.judge);
    shr_mem_free(s.layers);
    return code;
}
