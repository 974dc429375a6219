/* prune_structured: whole neurons and channels go, through the dependency group that they are in.
 *
 * A channel counts by the norm of its weights in all layers of its group that make it (dim 0), or
 * in all that read it (dim 1), as torch.nn.utils.prune.ln_structured does for one layer. The
 * amount is rounded half to even. Of equal norms the highest index goes first, so that low ones
 * survive. Scope global compares norms divided by the mean of their group, since layers with many
 * inputs have larger ones. At least one channel of every layer stays. What follows from a removed
 * channel behind its layer (a constant from its bias, sigmoid(0)) goes with it. With remove false
 * shapes stay, and the amount is of the channels that are not zero yet. Thread: one. */
#include <math.h>
#include <stdio.h>

#include "core/rng.h"
#include "passes/channels.h"
#include "passes/prune_data.h"
#include "passes/prune_sensitivity.h"
#include "passes/select.h"

enum {
    ARG_NORM,
    ARG_AMOUNT,
    ARG_SCOPE,
    ARG_DIM,
    ARG_ROUND_TO,
    ARG_REMOVE,
    ARG_POWER,
    ARG_REFIT,
    ARG_SAMPLES,
    ARG_SENSITIVITY,
    ARG_SIZE_RATIO,
    ARG_MACS_RATIO,
    ARG_MAX_DROP,
    SHR_ARGS_NODES,
};

enum { NORM_1, NORM_2, NORM_INF, NORM_RANDOM, NORM_N, NORM_BATCHNORM, NORM_ACTIVATIONS };
static const char *const norms[] = {"1", "2",         "inf",         "random",
                                    "n", "batchnorm", "activations", NULL};
enum { SCOPE_LAYER, SCOPE_GLOBAL };
static const char *const scopes[] = {"layer", "global", NULL};

static const struct shr_param params[] = {
    {"norm", SHR_PARAM_ENUM, "2", 0, 0, norms,
     "Which channels go first: those of the smallest norm of weights (n: of any power), of the "
     "smallest scale in batch normalization, of the smallest activations on data.calibrate, or any "
     "(random, by the job's seed)"},
    {"amount", SHR_PARAM_AMOUNT, "0.3", 0, 0, NULL,
     "How many channels go: a fraction or a count; at least one stays in every layer"},
    {"scope", SHR_PARAM_ENUM, "layer", 0, 0, scopes,
     "Take the amount from each group of layers, or from all together by norm over mean norm"},
    {"dim", SHR_PARAM_INT, "0", 0, 1, NULL,
     "Whose weights a channel is judged by, as PyTorch's axes have it: 0 of the layers that make "
     "it, 1 of those that read it"},
    {"round_to", SHR_PARAM_INT, "1", 1, 4096, NULL,
     "Keep a multiple of so many channels, which runs faster: 4 or 8; never removes more than the "
     "amount"},
    {"remove", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Take channels out of the model; false sets their weights to zero and keeps the shapes"},
    {"power", SHR_PARAM_FLOAT, "2", 0.1, 100, NULL, "The power of norm n"},
    {"refit", SHR_PARAM_BOOL, "false", 0, 0, NULL,
     "Fit what reads the channels to those that stay, by ridge regression on data.calibrate; no "
     "labels are needed"},
    {"samples", SHR_PARAM_INT, "256", 1, 1 << 20, NULL,
     "Samples of data.calibrate that are looked at"},
    {"sensitivity", SHR_PARAM_BOOL, "false", 0, 0, NULL,
     "Report how much the model changes when each group alone loses 10 to 90 % of its channels"},
    {"target.size_ratio", SHR_PARAM_FLOAT, "0", 0, 1, NULL,
     "Choose amounts by sensitivity so that the file is at most this share of the original's; 0: "
     "not asked for. Needs data.calibrate"},
    {"target.macs_ratio", SHR_PARAM_FLOAT, "0", 0, 1, NULL, "The same for multiplications"},
    {"target.max_accuracy_drop", SHR_PARAM_FLOAT, "0", 0, 1, NULL,
     "Choose amounts by sensitivity so that at most this much accuracy is lost on data.calibrate; "
     "without labels, so that at most this share of samples changes its class"},
    SHR_PARAMS_NODES,
};

struct prune {
    const struct shr_arg *args;
    struct shr_pass_call *call;
    struct shr_channels *channels;
    /* By index of channel: */
    double *keys;                /* the smallest go first; what is zero already may have INFINITY */
    unsigned char *marks;        /* 1 = goes */
    const unsigned char *levels; /* by group, tenths that go, instead of the amount; NULL = none */
    bool quiet;
    struct shr_report *report;
};

static bool is_plan(const struct prune *p)
{
    return p->call->ctx != NULL && p->call->ctx->plan;
}

/* Adds weights to the sums of powers (or the maxima) of the units along their axis. */
static int add_norms(struct prune *p, const struct shr_channel_use *use, struct shr_err *err)
{
    struct shr_channel_weights w;
    if (!shr_channels_weights(p->channels, use, &w)) {
        return SHR_OK;
    }
    int64_t norm = p->args[ARG_NORM].i, inner = 1, n = shr_tensor_count(w.t);
    for (int d = w.axis + 1; d < w.t->rank; d++) {
        inner *= w.t->dim[d];
    }
    for (int64_t at = 0; at < n; at += inner) {
        int32_t entry = shr_channel_at(w.part, w.axis, at / inner % w.t->dim[w.axis]);
        int64_t unit = shr_channels_unit(p->channels, entry);
        double sum = unit < 0 ? 0 : p->keys[unit];
        for (int64_t i = at; unit >= 0 && i < at + inner; i++) {
            double x = fabs(shr_channels_weight_at(&w, i));
            if (!isfinite(x)) {
                return shr_err_set(err, SHR_ERR_INVALID, "tensor '%s': element %lld is not finite",
                                   w.name, (long long)i);
            }
            sum = norm == NORM_INF ? fmax(sum, x)
                  : norm == NORM_N ? sum + pow(x, p->args[ARG_POWER].f)
                                   : sum + (norm == NORM_2 ? x * x : x);
        }
        if (unit >= 0) {
            p->keys[unit] = sum;
        }
    }
    return SHR_OK;
}

/* Sums become keys. With remove false, what is zero already is left out by INFINITY. */
static void finish_keys(struct prune *p, const struct shr_channel_group *group, struct shr_rng *rng)
{
    double *keys = p->keys + group->first, total = 0;
    int64_t norm = p->args[ARG_NORM].i;
    for (int64_t i = 0; i < group->n; i++) {
        keys[i] = norm == NORM_2   ? sqrt(keys[i])
                  : norm == NORM_N ? pow(keys[i], 1 / p->args[ARG_POWER].f)
                                   : keys[i];
        total += keys[i];
    }
    bool by_mean = p->args[ARG_SCOPE].i == SCOPE_GLOBAL && total > 0;
    for (int64_t i = 0; i < group->n; i++) {
        bool zeroed = keys[i] == 0 && !p->args[ARG_REMOVE].b;
        double key = by_mean ? keys[i] * (double)group->n / total : keys[i];
        key = norm == NORM_RANDOM ? shr_rng_uniform(rng) : key;
        keys[i] = zeroed ? INFINITY : key;
    }
}

static int rank(struct prune *p, struct shr_model *model, uint64_t seed, struct shr_err *err)
{
    struct shr_channels *c = p->channels;
    int64_t norm = p->args[ARG_NORM].i;
    enum shr_channel_role role = norm == NORM_BATCHNORM    ? SHR_CHANNEL_GAMMA
                                 : p->args[ARG_DIM].i == 0 ? SHR_CHANNEL_OUT
                                                           : SHR_CHANNEL_IN;
    struct shr_rng rng;
    shr_rng_init(&rng, seed);
    int code = norm == NORM_ACTIVATIONS
                   ? shr_prune_measure(c, model, p->call, p->args[ARG_SAMPLES].i, p->keys, err)
                   : SHR_OK;
    for (size_t i = 0; i < c->uses.n && code == SHR_OK && norm != NORM_ACTIVATIONS; i++) {
        code = c->uses.v[i].role == role ? add_norms(p, &c->uses.v[i], err) : SHR_OK;
    }
    if (code != SHR_OK) {
        return code;
    }
    for (size_t i = 0; i < c->groups.n; i++) {
        finish_keys(p, &c->groups.v[i], &rng);
    }
    return SHR_OK;
}

static int64_t count_alive(const double *keys, int64_t n)
{
    int64_t alive = 0;
    for (int64_t i = 0; i < n; i++) {
        alive += !isinf(keys[i]);
    }
    return alive;
}

/* Marks the k smallest; of equal ones the highest index first. */
static void mark_smallest(struct prune *p, int64_t first, int64_t n, int64_t k)
{
    double *keys = p->keys + first;
    unsigned char *marks = p->marks + first;
    for (int turn = 0; turn < 2; turn++) {
        for (int64_t i = 0, j = n - 1; i < j; i++, j--) {
            double key = keys[i];
            unsigned char mark = marks[i];
            keys[i] = keys[j];
            marks[i] = marks[j];
            keys[j] = key;
            marks[j] = mark;
        }
        if (turn == 0) {
            shr_select_smallest(keys, n, k, marks);
        }
    }
}

/* Marks so many channels of a group as the wanted k, round_to and the last one allow. */
static void mark_group(struct prune *p, const struct shr_channel_group *group, int64_t k)
{
    int64_t alive = count_alive(p->keys + group->first, group->n);
    int64_t step = p->args[ARG_ROUND_TO].i, stay = alive - k > 1 ? alive - k : 1;
    stay = (stay + step - 1) / step * step;
    mark_smallest(p, group->first, group->n, stay < alive ? alive - stay : 0);
}

/* An axis whose units are only some of its group's may have lost all: the best comes back. */
static void keep_one(struct prune *p, const struct shr_channel_part *part)
{
    int64_t best = -1;
    int axis = part->axis[part->cut];
    for (int64_t i = 0; i < part->dim[part->cut]; i++) {
        int64_t unit = shr_channels_unit(p->channels, shr_channel_at(part, axis, i));
        if (unit < 0 || p->marks[unit] == 0) {
            return;
        }
        best = best < 0 || p->keys[unit] > p->keys[best] ? unit : best;
    }
    if (best >= 0) {
        p->marks[best] = 0;
    }
}

static int mark_layer(struct prune *p, const struct shr_channel_group *group, struct shr_err *err)
{
    int64_t alive = count_alive(p->keys + group->first, group->n), k = 0;
    if (p->levels != NULL) {
        int level = p->levels[group - p->channels->groups.v];
        mark_group(p, group, (int64_t)rint((double)alive * level / 10));
        return SHR_OK;
    }
    int code = shr_amount_of(&p->args[ARG_AMOUNT], alive, "channels", &k, err);
    if (code != SHR_OK) {
        char label[128];
        shr_err_prefix(err, "node '%s': ", shr_node_label(group->node, label, sizeof label));
        return code;
    }
    mark_group(p, group, k);
    return SHR_OK;
}

static int mark(struct prune *p, const struct shr_ctx *ctx, struct shr_err *err)
{
    struct shr_channels *c = p->channels;
    bool global = p->args[ARG_SCOPE].i == SCOPE_GLOBAL && p->levels == NULL;
    int64_t k = 0;
    if (global) {
        int code =
            shr_amount_of(&p->args[ARG_AMOUNT], count_alive(p->keys, c->n), "channels", &k, err);
        if (code != SHR_OK) {
            return code;
        }
        mark_smallest(p, 0, c->n, k);
    }
    for (size_t i = 0; i < c->groups.n; i++) {
        const struct shr_channel_group *group = &c->groups.v[i];
        int64_t wanted = 0;
        for (int64_t j = 0; global && j < group->n; j++) {
            wanted += p->marks[group->first + j];
        }
        int code = shr_ctx_poll(ctx, err);
        if (code == SHR_OK && global) {
            mark_group(p, group, wanted);
        } else if (code == SHR_OK && group->n > 0) {
            code = mark_layer(p, group, err);
        }
        if (code != SHR_OK) {
            return code;
        }
        shr_ctx_tell(ctx, "prune", i + 1, c->groups.n);
    }
    for (size_t i = 0; i < c->parts.n; i++) {
        keep_one(p, c->parts.v[i]);
    }
    return SHR_OK;
}

/* ── The report ─────────────────────────────────────────────────────────────────────────────── */

static void tell_group(struct prune *p, struct shr_model *model,
                       const struct shr_channel_group *group)
{
    char label[128], names[SHR_CHANNEL_NAMES] = "";
    int64_t gone = 0, n = group->n;
    for (int64_t i = 0; i < n; i++) {
        gone += p->marks[group->first + i];
    }
    shr_node_label(group->node, label, sizeof label);
    if (n == 0) {
        shr_report_note(p->report, SHR_NOTE_SKIPPED, label, "%s", group->why);
        return;
    }
    if (gone == 0) {
        shr_report_note(p->report, SHR_NOTE_SKIPPED, label,
                        "the amount takes none of its %lld channels", (long long)n);
        return;
    }
    bool remove = p->args[ARG_REMOVE].b;
    size_t nodes = shr_channels_names(p->channels, group, model, names);
    struct shr_note *note = shr_report_note(
        p->report, SHR_NOTE_DONE, label, "%s %lld of %lld channels by %s%s: %s",
        remove ? "removed" : "zeroed", (long long)gone, (long long)n,
        p->args[ARG_NORM].i <= NORM_INF || p->args[ARG_NORM].i == NORM_N ? "norm " : "",
        norms[p->args[ARG_NORM].i], names);
    shr_note_figure(note, "channels_before", (double)n);
    shr_note_figure(note, "channels_after", (double)(n - gone));
    shr_note_figure(note, remove ? "parameters_removed" : "parameters_zeroed",
                    (double)group->elements);
    shr_note_figure(note, "nodes", (double)nodes);
}

static void tell(void *user, struct shr_channels *c, struct shr_model *model,
                 const unsigned char *gone)
{
    struct prune *p = user;
    (void)c;
    (void)gone;
    bool any = false;
    for (size_t i = 0; i < p->channels->groups.n && !p->quiet; i++) {
        any = any || p->channels->groups.v[i].n > 0;
        tell_group(p, model, &p->channels->groups.v[i]);
    }
    if (!any && !p->quiet) {
        shr_report_note(p->report, SHR_NOTE_WARNING, "", "no channels that can go were found");
    }
}

/* ── The pass ───────────────────────────────────────────────────────────────────────────────── */

static int choose(void *user, struct shr_channels *c, struct shr_model *model, unsigned char *gone,
                  struct shr_err *err)
{
    struct prune *p = user;
    const struct shr_ctx *ctx = p->call->ctx;
    p->channels = c;
    p->marks = gone;
    p->keys = shr_mem_new((size_t)c->n + 1, sizeof *p->keys);
    if (p->keys == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the norms of channels");
    }
    int code = rank(p, model, ctx != NULL ? ctx->seed : 0, err);
    if (code == SHR_OK) {
        code = mark(p, ctx, err);
    }
    if (code == SHR_OK && p->args[ARG_REFIT].b && !p->quiet && !is_plan(p)) {
        code = shr_prune_refit(c, model, p->call, p->args[ARG_SAMPLES].i, gone, err);
    }
    shr_mem_free(p->keys);
    return code;
}

/* ── Sensitivity ────────────────────────────────────────────────────────────────────────────── */

static int attempt(void *user, const unsigned char *levels, struct shr_model **ret,
                   struct shr_err *err)
{
    struct prune p = *(const struct prune *)user;
    p.levels = levels;
    p.quiet = true;
    const struct shr_channel_job job = {&p.args[ARG_NODES], true, choose, tell, &p};
    return shr_channels_run(&job, p.call->model, ret, err);
}

struct names { /* of groups, for a job that chooses nothing */
    struct shr_arena arena;
    const char **v;
    size_t n;
};

static int list_groups(void *user, struct shr_channels *c, struct shr_model *model,
                       unsigned char *gone, struct shr_err *err)
{
    struct names *names = user;
    (void)model;
    (void)gone;
    names->n = c->groups.n;
    names->v = shr_arena_new(&names->arena, c->groups.n + 1, sizeof *names->v);
    for (size_t i = 0; i < c->groups.n && names->v != NULL; i++) {
        char label[128];
        shr_node_label(c->groups.v[i].node, label, sizeof label);
        names->v[i] = c->groups.v[i].n > 1 ? shr_arena_strdup(&names->arena, label) : NULL;
    }
    return names->v == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for names of groups")
                            : SHR_OK;
}

static void tell_nothing(void *user, struct shr_channels *c, struct shr_model *model,
                         const unsigned char *gone)
{
    (void)user;
    (void)c;
    (void)model;
    (void)gone;
}

/* *ret_levels: the caller's; NULL when no target was asked for. */
static int choose_levels(struct prune *p, unsigned char **ret_levels, struct shr_err *err)
{
    struct names names = {0};
    const struct shr_prune_goal goal = {p->args[ARG_SIZE_RATIO].f, p->args[ARG_MACS_RATIO].f,
                                        p->args[ARG_MAX_DROP].f};
    const struct shr_channel_job job = {&p->args[ARG_NODES], false, list_groups, tell_nothing,
                                        &names};
    struct shr_model *same = NULL;
    unsigned char *levels = NULL;
    int code = shr_channels_run(&job, p->call->model, &same, err);
    shr_model_free(same);
    if (code == SHR_OK) {
        levels = shr_mem_new(names.n + 1, 1);
        code = levels == NULL ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for amounts")
                              : shr_prune_choose(p->call, names.v, names.n, p->args[ARG_SAMPLES].i,
                                                 &goal, attempt, p, levels, err);
    }
    shr_arena_finish(&names.arena);
    bool any = goal.size_ratio > 0 || goal.macs_ratio > 0 || goal.max_accuracy_drop > 0;
    if (code != SHR_OK || !any) {
        shr_mem_free(levels);
        levels = NULL;
    }
    *ret_levels = levels;
    return code;
}

static int check_data(const struct prune *p, bool looks, struct shr_err *err)
{
    const char *what = p->args[ARG_REFIT].b                      ? "refit: true"
                       : p->args[ARG_NORM].i == NORM_ACTIVATIONS ? "norm: activations"
                       : looks                                   ? "sensitivity or a target"
                                                                 : NULL;
    return what != NULL && p->call->calibrate == NULL
               ? shr_err_set(err, SHR_ERR_INVALID, "%s needs data.calibrate", what)
               : SHR_OK;
}

/* A plan knows how many channels go where the amount says so, whatever data says of each. */
static int check_plan(const struct prune *p, bool by_target, struct shr_err *err)
{
    const bool by_data =
        p->args[ARG_NORM].i == NORM_ACTIVATIONS && p->args[ARG_SCOPE].i == SCOPE_GLOBAL;
    return by_target || by_data
               ? shr_err_set(err, SHR_ERR_UNSUPPORTED,
                             "%s: what goes is read from data.calibrate, so the size cannot be "
                             "told before",
                             by_target ? "target" : "norm: activations with scope: global")
               : SHR_OK;
}

static int run(struct shr_pass_call *call, struct shr_err *err)
{
    struct prune p = {.args = call->args->v, .call = call, .report = call->report};
    bool by_target =
        p.args[ARG_SIZE_RATIO].f > 0 || p.args[ARG_MACS_RATIO].f > 0 || p.args[ARG_MAX_DROP].f > 0;
    bool looks = p.args[ARG_SENSITIVITY].b || by_target;
    unsigned char *levels = NULL;
    int code = check_data(&p, looks, err);
    if (code == SHR_OK && is_plan(&p)) {
        code = check_plan(&p, by_target, err);
    } else if (code == SHR_OK && looks) {
        code = choose_levels(&p, &levels, err);
    }
    p.levels = levels;
    const struct shr_channel_job job = {&p.args[ARG_NODES], p.args[ARG_REMOVE].b, choose, tell, &p};
    code = code == SHR_OK ? shr_channels_run(&job, call->model, &call->ret_model, err) : code;
    shr_mem_free(levels);
    return code;
}

const struct shr_pass shr_pass_prune_structured = {
    .name = "prune_structured",
    .help = "Removes whole neurons and channels, with all that depends on them",
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .run = run,
};
