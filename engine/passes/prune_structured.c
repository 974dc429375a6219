/* prune_structured: whole neurons and channels go, through the dependency group that they are in.
 *
 * A channel counts by the norm of its weights in all layers of its group that make it (not of
 * those that read it), as torch.nn.utils.prune.ln_structured does with dim 0 for one layer. The
 * amount is rounded half to even. Of equal norms the highest index goes first, so that low ones
 * survive. Scope global compares norms divided by the mean of their group, since layers with many
 * inputs have larger ones. At least one channel of every layer stays. What follows from a removed
 * channel behind its layer (a constant from its bias, sigmoid(0)) goes with it. With remove false
 * shapes stay, and the amount is of the channels that are not zero yet. Thread: one. */
#include <math.h>
#include <stdio.h>

#include "core/rng.h"
#include "passes/channels.h"
#include "passes/select.h"

enum {
    ARG_NORM,
    ARG_AMOUNT,
    ARG_SCOPE,
    ARG_DIM,
    ARG_ROUND_TO,
    ARG_REMOVE,
    SHR_ARGS_NODES,
};

enum { NORM_1, NORM_2, NORM_INF, NORM_RANDOM };
static const char *const norms[] = {"1", "2", "inf", "random", NULL};
enum { SCOPE_LAYER, SCOPE_GLOBAL };
static const char *const scopes[] = {"layer", "global", NULL};

static const struct shr_param params[] = {
    {"norm", SHR_PARAM_ENUM, "2", 0, 0, norms,
     "Which channels go first: those of the smallest norm, or any (random, by the job's seed)"},
    {"amount", SHR_PARAM_AMOUNT, "0.3", 0, 0, NULL,
     "How many channels go: a fraction or a count; at least one stays in every layer"},
    {"scope", SHR_PARAM_ENUM, "layer", 0, 0, scopes,
     "Take the amount from each group of layers, or from all together by norm over mean norm"},
    {"dim", SHR_PARAM_INT, "0", 0, 7, NULL, "The axis of the weights: only 0, their outputs"},
    {"round_to", SHR_PARAM_INT, "1", 1, 4096, NULL,
     "Keep a multiple of so many channels; never removes more than the amount"},
    {"remove", SHR_PARAM_BOOL, "true", 0, 0, NULL,
     "Take channels out of the model; false sets their weights to zero and keeps the shapes"},
    SHR_PARAMS_NODES,
};

struct prune {
    const struct shr_arg *args;
    struct shr_channels channels;
    /* By index of channel: */
    double *keys;         /* the smallest go first; what is zero already may have INFINITY */
    unsigned char *marks; /* 1 = goes */
    struct shr_report *report;
};

static struct shr_channel_group *group_of(struct prune *p, const struct shr_channel_map *map)
{
    return shr_channels_group(&p->channels, map->channel[0]);
}

/* Adds the weights of a layer to the sums of powers (or the maxima) of its channels. */
static int add_norms(struct prune *p, const struct shr_channel_use *use, struct shr_err *err)
{
    const struct shr_value *v = shr_node_in(use->node, use->slot);
    const struct shr_tensor *t = &v->constant;
    int64_t norm = p->args[ARG_NORM].i, inner = 1, n = shr_tensor_count(t);
    for (int d = use->axis + 1; d < t->rank; d++) {
        inner *= t->dim[d];
    }
    for (int64_t i = 0; i < n; i++) {
        double x = fabs(shr_tensor_get(t, i));
        if (!isfinite(x)) {
            return shr_err_set(err, SHR_ERR_INVALID, "tensor '%s': element %lld is not finite",
                               v->name, (long long)i);
        }
        int32_t entry = use->map->channel[i / inner % use->map->n];
        double *sum = &p->keys[shr_channels_index(&p->channels, entry)];
        *sum = norm == NORM_INF ? fmax(*sum, x) : *sum + (norm == NORM_2 ? x * x : x);
    }
    return SHR_OK;
}

/* Sums become keys. Channels of groups that stay are left out by INFINITY. */
static void finish_keys(struct prune *p, const struct shr_channel_group *group, struct shr_rng *rng)
{
    double *keys = p->keys + group->first, total = 0;
    int64_t norm = p->args[ARG_NORM].i;
    for (int64_t i = 0; i < group->n; i++) {
        keys[i] = norm == NORM_2 ? sqrt(keys[i]) : keys[i];
        total += keys[i];
    }
    bool by_mean = p->args[ARG_SCOPE].i == SCOPE_GLOBAL && total > 0;
    for (int64_t i = 0; i < group->n; i++) {
        bool zeroed = keys[i] == 0 && !p->args[ARG_REMOVE].b;
        double key = by_mean ? keys[i] * (double)group->n / total : keys[i];
        key = norm == NORM_RANDOM ? shr_rng_uniform(rng) : key;
        keys[i] = zeroed || group->layer->why != NULL ? INFINITY : key;
    }
}

static int rank(struct prune *p, uint64_t seed, struct shr_err *err)
{
    struct shr_channels *c = &p->channels;
    struct shr_rng rng;
    shr_rng_init(&rng, seed);
    for (size_t i = 0; i < c->uses.n; i++) {
        const struct shr_channel_use *use = &c->uses.v[i];
        if (use->role == SHR_CHANNEL_OUT && use->map->n > 0 &&
            group_of(p, use->map)->layer->why == NULL) {
            int code = add_norms(p, use, err);
            if (code != SHR_OK) {
                return code;
            }
        }
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

/* A layer whose channels are only a part of its group's may have lost all: the best comes back. */
static void keep_one(struct prune *p, const struct shr_channel_use *use)
{
    int64_t best = -1;
    for (int64_t i = 0; i < use->map->n; i++) {
        int64_t at = shr_channels_index(&p->channels, use->map->channel[i]);
        if (p->marks[at] == 0) {
            return;
        }
        best = best < 0 || p->keys[at] > p->keys[best] ? at : best;
    }
    if (best >= 0) {
        p->marks[best] = 0;
    }
}

static int mark(struct prune *p, const struct shr_ctx *ctx, struct shr_err *err)
{
    struct shr_channels *c = &p->channels;
    const struct shr_arg *amount = &p->args[ARG_AMOUNT];
    bool global = p->args[ARG_SCOPE].i == SCOPE_GLOBAL;
    int64_t k = 0;
    if (global) {
        int code = shr_amount_of(amount, count_alive(p->keys, c->n), "channels", &k, err);
        if (code != SHR_OK) {
            return code;
        }
        mark_smallest(p, 0, c->n, k);
    }
    for (size_t i = 0; i < c->groups.n; i++) {
        const struct shr_channel_group *group = &c->groups.v[i];
        int64_t alive = count_alive(p->keys + group->first, group->n);
        int code = shr_ctx_poll(ctx, err);
        if (code == SHR_OK && !global && group->layer->why == NULL) {
            code = shr_amount_of(amount, alive, "channels", &k, err);
            if (code != SHR_OK) {
                char label[128];
                shr_err_prefix(
                    err, "node '%s': ", shr_node_label(group->layer->node, label, sizeof label));
            }
        }
        if (code != SHR_OK) {
            return code;
        }
        int64_t wanted = k;
        for (int64_t j = 0; global && j < group->n; j++) {
            wanted = (j == 0 ? 0 : wanted) + p->marks[group->first + j];
        }
        mark_group(p, group, alive > 0 ? wanted : 0);
        shr_ctx_tell(ctx, "prune", i + 1, c->groups.n);
    }
    for (size_t i = 0; i < c->uses.n; i++) {
        if (c->uses.v[i].role == SHR_CHANNEL_OUT) {
            keep_one(p, &c->uses.v[i]);
        }
    }
    return SHR_OK;
}

/* ── The report ─────────────────────────────────────────────────────────────────────────────── */

enum { NAMES_SIZE = 1024 };

static bool touches(struct prune *p, const struct shr_channel_use *use,
                    const struct shr_channel_group *group)
{
    for (int64_t i = 0; i < use->map->n; i++) {
        int32_t entry = use->map->channel[i];
        if (entry >= 0 && shr_channels_group(&p->channels, entry) == group) {
            return true;
        }
    }
    return false;
}

static bool has_layer(const struct shr_channels *c, const struct shr_channel_group *group,
                      const struct shr_node *node)
{
    for (size_t i = 0; i < c->layers.n; i++) {
        if (c->layers.v[i].node == node && &c->groups.v[c->layers.v[i].group] == group) {
            return true;
        }
    }
    return false;
}

/* "conv1, conv4; with bn1, conv2": the layers of a group, then what else shrinks with it. Returns
 * how many nodes there are; the text is cut where it is full. */
static size_t name_nodes(struct prune *p, const struct shr_channel_group *group, char *text)
{
    const struct shr_channels *c = &p->channels;
    size_t n = 0, used = 0;
    for (int others = 0; others < 2; others++) {
        const struct shr_node *last = NULL;
        size_t before = n;
        for (size_t i = 0; i < c->uses.n; i++) {
            const struct shr_channel_use *use = &c->uses.v[i];
            if (use->node == last || !touches(p, use, group) ||
                has_layer(c, group, use->node) == (others == 1)) {
                continue;
            }
            last = use->node;
            char label[128];
            shr_node_label(last, label, sizeof label);
            const char *between = n > before ? ", " : n > 0 ? "; with " : "";
            if (used < NAMES_SIZE) {
                used += (size_t)snprintf(text + used, NAMES_SIZE - used, "%s%s", between, label);
            }
            n++;
        }
    }
    return n;
}

static void tell_group(struct prune *p, const struct shr_channel_group *group)
{
    char label[128], names[NAMES_SIZE] = "";
    int64_t gone = 0, n = group->n;
    for (int64_t i = 0; i < n; i++) {
        gone += p->marks[group->first + i];
    }
    shr_node_label(group->layer->node, label, sizeof label);
    if (group->layer->why != NULL) {
        shr_report_note(p->report, SHR_NOTE_SKIPPED, label, "%s", group->layer->why);
        return;
    }
    if (gone == 0) {
        shr_report_note(p->report, SHR_NOTE_SKIPPED, label,
                        "the amount takes none of its %lld channels", (long long)n);
        return;
    }
    bool remove = p->args[ARG_REMOVE].b;
    size_t nodes = name_nodes(p, group, names);
    struct shr_note *note = shr_report_note(
        p->report, SHR_NOTE_DONE, label, "%s %lld of %lld channels by %s%s: %s",
        remove ? "removed" : "zeroed", (long long)gone, (long long)n,
        p->args[ARG_NORM].i == NORM_RANDOM ? "" : "norm ", norms[p->args[ARG_NORM].i], names);
    shr_note_figure(note, "channels_before", (double)n);
    shr_note_figure(note, "channels_after", (double)(n - gone));
    shr_note_figure(note, remove ? "parameters_removed" : "parameters_zeroed",
                    (double)group->elements);
    shr_note_figure(note, "nodes", (double)nodes);
}

static void tell(struct prune *p)
{
    bool any = false;
    for (size_t i = 0; i < p->channels.groups.n; i++) {
        any = any || p->channels.groups.v[i].layer->why == NULL;
        tell_group(p, &p->channels.groups.v[i]);
    }
    if (!any) {
        shr_report_note(p->report, SHR_NOTE_WARNING, "", "no channels that can go were found");
    }
}

/* ── The pass ───────────────────────────────────────────────────────────────────────────────── */

static int prune(struct prune *p, struct shr_model *model, const struct shr_ctx *ctx,
                 struct shr_err *err)
{
    int code = shr_model_infer(model, NULL, err);
    if (code == SHR_OK) {
        code = shr_channels_find(&p->channels, model, &p->args[ARG_NODES], err);
    }
    if (code != SHR_OK) {
        return code;
    }
    p->keys = shr_mem_new((size_t)p->channels.n + 1, sizeof *p->keys);
    p->marks = shr_mem_new((size_t)p->channels.n + 1, 1);
    if (p->keys == NULL || p->marks == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the norms of channels");
    }
    code = rank(p, ctx != NULL ? ctx->seed : 0, err);
    if (code == SHR_OK) {
        code = mark(p, ctx, err);
    }
    if (code == SHR_OK) {
        code = shr_channels_cut(&p->channels, model, p->marks, p->args[ARG_REMOVE].b, err);
    }
    if (code == SHR_OK) {
        tell(p);
    }
    return code;
}

static int run(struct shr_pass_call *call, struct shr_err *err)
{
    struct prune p = {.args = call->args->v, .report = call->report};
    if (p.args[ARG_DIM].i != 0) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "dim: only 0, the outputs of a layer, is supported, not %lld",
                           (long long)p.args[ARG_DIM].i);
    }
    struct shr_model *model = NULL;
    int code = shr_model_clone(call->model, &model, err);
    if (code == SHR_OK) {
        code = prune(&p, model, call->ctx, err);
    }
    if (code == SHR_OK) {
        call->ret_model = model;
    } else {
        shr_model_free(model);
    }
    shr_mem_free(p.keys);
    shr_mem_free(p.marks);
    shr_channels_finish(&p.channels);
    return code;
}

const struct shr_pass shr_pass_prune_structured = {
    .name = "prune_structured",
    .help = "Removes whole neurons and channels, with all that depends on them",
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .run = run,
};
