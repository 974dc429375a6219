/* compact: what masks have set to zero goes out of the model; its function stays.
 *
 * A unit is dead when all weights that make it are zero. What it still emits is one number (its
 * bias through normalization and activation), found by running the model; where that is not zero,
 * it goes into the biases of what reads it. A unit stays when that cannot be done exactly: where a
 * normalization is over it, where a reader pads with zeros beside it, or has no bias to take it.
 * So does a unit that only others' zeros would silence. Thread: one. */
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "exec/plan.h"
#include "passes/channels_walk.h"
#include "passes/prune_data.h"

enum { SHR_ARGS_NODES };

static const struct shr_param params[] = {SHR_PARAMS_NODES};

struct compact {
    struct shr_pass_call *call;
    struct shr_channels *c;
    unsigned char *gone; /* by unit: 1 = dead so far */
    float *emits;        /* by unit, what its readers see; NAN = not seen yet */
    int64_t dead, stay;  /* units that were dead; those of them that stay */
};

/* ── Which are dead ─────────────────────────────────────────────────────────────────────────── */

/* A unit with a weight that is not zero lives. */
static int find_dead(struct compact *k, struct shr_err *err)
{
    struct shr_channels *c = k->c;
    unsigned char *judged = shr_mem_new((size_t)c->n + 1, 1);
    if (judged == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the units");
    }
    memset(k->gone, 1, (size_t)c->n);
    for (size_t i = 0; i < c->uses.n; i++) {
        struct shr_channel_weights w;
        if (c->uses.v[i].role != SHR_CHANNEL_OUT || !shr_channels_weights(c, &c->uses.v[i], &w)) {
            continue;
        }
        int64_t inner = 1, n = shr_tensor_count(w.t);
        for (int d = w.axis + 1; d < w.t->rank; d++) {
            inner *= w.t->dim[d];
        }
        for (int64_t e = 0; e < n; e++) {
            int64_t unit =
                shr_channels_unit(c, shr_channel_at(w.part, w.axis, e / inner % w.t->dim[w.axis]));
            if (unit >= 0) {
                judged[unit] = 1;
                k->gone[unit] = k->gone[unit] != 0 && shr_channels_weight_at(&w, e) == 0;
            }
        }
    }
    for (int64_t i = 0; i < c->n; i++) {
        k->gone[i] = k->gone[i] != 0 && judged[i] != 0;
        k->dead += k->gone[i];
    }
    shr_mem_free(judged);
    return SHR_OK;
}

/* Calls see for each unit that is dead and stands on an axis of a value. */
typedef void (*unit_fn)(struct compact *k, int64_t unit, int axis, int64_t index, void *user);

static void each_dead(struct compact *k, const struct shr_value *v, unit_fn see, void *user)
{
    const struct shr_channel_map *map = shr_channels_map(k->c, v);
    for (int i = 0; map != NULL && i < map->n_parts; i++) {
        const struct shr_channel_part *p = map->part[i];
        int axis = p->axis[p->cut];
        for (int64_t j = 0; j < p->dim[p->cut]; j++) {
            int64_t unit = shr_channels_unit(k->c, shr_channel_at(p, axis, j));
            if (unit >= 0 && k->gone[unit] != 0) {
                see(k, unit, axis, j, user);
            }
        }
    }
}

static void revive(struct compact *k, int64_t unit, int axis, int64_t index, void *user)
{
    (void)axis;
    (void)index;
    (void)user;
    k->gone[unit] = 0;
}

/* Is the unit in what a node makes? */
static bool goes_on(struct compact *k, const struct shr_node *node, int64_t unit)
{
    for (size_t o = 0; o < node->n_out; o++) {
        const struct shr_channel_map *map = shr_channels_map(k->c, shr_node_out(node, o));
        for (int i = 0; map != NULL && i < map->n_parts; i++) {
            const struct shr_channel_part *p = map->part[i];
            for (int64_t j = 0; j < p->n; j++) {
                if (shr_channels_unit(k->c, p->channel[j]) == unit) {
                    return true;
                }
            }
        }
    }
    return false;
}

/* ── What they emit ─────────────────────────────────────────────────────────────────────────── */

struct look {
    const struct shr_node *node;
    const struct shr_tensor *seen;
    bool may_emit; /* the node is a reader whose bias can take it */
};

static bool normalizes(const struct shr_node *node)
{
    return strstr(node->op_type, "Normalization") != NULL &&
           !shr_node_is(node, "BatchNormalization") && !shr_node_is(node, "InstanceNormalization");
}

/* A unit at its end: what it emits must be one number, and zero unless the reader can take it. */
static void see_end(struct compact *k, int64_t unit, int axis, int64_t index, void *user)
{
    const struct look *look = user;
    if (goes_on(k, look->node, unit) && !normalizes(look->node)) {
        return;
    }
    const struct shr_tensor *t = look->seen;
    if (t == NULL || t->dtype != SHR_DTYPE_F32 || normalizes(look->node)) {
        k->gone[unit] = 0;
        return;
    }
    int64_t inner = 1, n = shr_tensor_count(t);
    for (int d = axis + 1; d < t->rank; d++) {
        inner *= t->dim[d];
    }
    const float *x = t->data;
    for (int64_t i = 0; i < n; i++) {
        if (i / inner % t->dim[axis] != index) {
            continue;
        }
        k->emits[unit] = isnan(k->emits[unit]) ? x[i] : k->emits[unit];
        if (fabsf(x[i] - k->emits[unit]) > 1e-6F * fabsf(x[i]) || !isfinite(x[i]) ||
            (x[i] != 0 && !look->may_emit)) {
            k->gone[unit] = 0;
        }
    }
}

static bool pads(const struct shr_node *node)
{
    size_t n = 0;
    const int64_t *p = shr_node_ints(node, "pads", &n);
    bool any = strncmp(shr_node_text(node, "auto_pad", "NOTSET"), "SAME", 4) == 0;
    for (size_t i = 0; p != NULL && i < n; i++) {
        any = any || p[i] != 0;
    }
    return any;
}

static int64_t outputs_of(const struct shr_node *node)
{
    const struct shr_tensor *w = &shr_node_in(node, 1)->constant;
    bool rows = shr_node_is(node, "Conv") || shr_node_int(node, "transB", 0) != 0;
    return w->dim[rows ? 0 : w->rank - 1];
}

/* The use by which a node reads through weights, if it can take a constant; else NULL. */
static const struct shr_channel_use *taker(struct compact *k, const struct shr_node *node)
{
    for (size_t i = 0; i < k->c->uses.n; i++) {
        const struct shr_channel_use *use = &k->c->uses.v[i];
        int axis;
        int64_t places;
        const struct shr_value *w = shr_node_in(node, 1);
        if (use->node == node && shr_prune_read(k->c, use, &axis, &places) != NULL &&
            shr_value_is_constant(w) && w->constant.dtype == SHR_DTYPE_F32 && !pads(node) &&
            shr_prune_bias_of(use->node, outputs_of(node)).node != NULL) {
            return use;
        }
    }
    return NULL;
}

static int fill_inputs(struct shr_plan *plan, uint64_t seed)
{
    struct shr_rng rng;
    shr_rng_init(&rng, seed);
    for (size_t i = 0; i < shr_plan_input_count(plan); i++) {
        struct shr_tensor *t = shr_plan_input(plan, i);
        for (int64_t e = 0; e < shr_tensor_count(t); e++) {
            shr_tensor_set(t, e, shr_dtype_is_float(t->dtype) ? shr_rng_normal(&rng) : 1);
        }
    }
    return SHR_OK;
}

/* A plan of the model as it is, which keeps what nodes read where dead units may end. */
static int make_plan(struct compact *k, struct shr_model *model, struct shr_plan **ret,
                     struct shr_err *err)
{
    const char **keep = shr_mem_new(model->graph.n_values + 1, sizeof *keep);
    struct shr_type *types = shr_mem_new(model->graph.n_inputs + 1, sizeof *types);
    int code = keep == NULL || types == NULL
                   ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the plan")
                   : SHR_OK;
    size_t n = 0, inputs = 0;
    SHR_EACH_VALUE (v, &model->graph) {
        const struct shr_channel_map *map = shr_channels_map(k->c, v);
        if (code == SHR_OK && map != NULL && map->n_parts > 0 && v->producer != NULL &&
            !shr_value_is_constant(v)) {
            keep[n++] = v->name;
        }
    }
    for (size_t i = 0; i < model->graph.n_inputs && code == SHR_OK; i++) {
        if (!shr_value_is_constant(model->graph.inputs[i])) {
            types[inputs++] = *shr_channels_type(k->c, 0, model->graph.inputs[i]);
        }
    }
    const struct shr_plan_opts opts = {
        .inputs = types,
        .no_fuse = true,
        .keep = keep,
        .n_keep = n,
        .cpu_mask = k->call->ctx != NULL ? k->call->ctx->cpu_mask : 0,
        .threads = k->call->ctx != NULL ? k->call->ctx->threads : 0,
    };
    code = code == SHR_OK ? shr_plan_new(model, &opts, ret, err) : code;
    shr_mem_free(keep);
    shr_mem_free(types);
    return code;
}

/* Two runs with other inputs: what is one number in both, at all places, is no function of them. */
static int look_at_ends(struct compact *k, struct shr_model *model, struct shr_err *err)
{
    struct shr_plan *plan = NULL;
    int code = make_plan(k, model, &plan, err);
    for (uint64_t run = 0; run < 2 && code == SHR_OK; run++) {
        fill_inputs(plan, run + 1);
        code = shr_plan_run(plan, k->call->ctx, err);
        SHR_EACH_NODE (node, &model->graph) {
            bool may_emit = code == SHR_OK && taker(k, node) != NULL;
            for (size_t i = 0; i < node->n_in && code == SHR_OK; i++) {
                const struct shr_value *v = shr_node_in(node, i);
                if (v == NULL || shr_value_is_constant(v)) {
                    continue;
                }
                struct look look = {node, shr_plan_value(plan, v->name), may_emit && i == 0};
                each_dead(k, v, see_end, &look);
            }
        }
    }
    shr_plan_free(plan);
    return code;
}

/* A mean over units that is no channel of its output is of a normalization. */
static void revive_means(struct compact *k, struct shr_model *model)
{
    SHR_EACH_NODE (node, &model->graph) {
        if (shr_node_is(node, "ReduceMean")) {
            const struct shr_channel_map *out = shr_channels_map(k->c, shr_node_out(node, 0));
            if (out != NULL && out->n_parts == 0) {
                each_dead(k, shr_node_in(node, 0), revive, NULL);
            }
        }
    }
}

/* ── Into the readers ───────────────────────────────────────────────────────────────────────── */

static int fold_into(struct compact *k, const struct shr_channel_use *use, struct shr_err *err)
{
    int axis = 0;
    int64_t places = 1;
    const struct shr_value *v = shr_prune_read(k->c, use, &axis, &places);
    const struct shr_channel_part *p = shr_channel_part_of(shr_channels_map(k->c, v), axis);
    const struct shr_tensor *w = &shr_node_in(use->node, 1)->constant;
    int64_t outputs = outputs_of(use->node), inner = 1, n = shr_tensor_count(w);
    struct shr_prune_bias b = shr_prune_bias_of(use->node, outputs);
    for (int d = use->axis + 1; d < w->rank; d++) {
        inner *= w->dim[d];
    }
    struct shr_tensor *bias = &shr_node_in(b.node, b.slot)->constant;
    int code = shr_tensor_own(bias, err);
    for (int64_t e = 0; e < n && code == SHR_OK; e++) {
        int64_t channel = e / inner % w->dim[use->axis] / places;
        int64_t unit = shr_channels_unit(k->c, shr_channel_at(p, axis, channel));
        if (unit >= 0 && k->gone[unit] != 0 && k->emits[unit] != 0 && !isnan(k->emits[unit])) {
            int64_t o = use->axis > 0 ? e / (n / outputs) : e % inner;
            ((float *)bias->data)[o] += b.sign * ((const float *)w->data)[e] * k->emits[unit];
        }
    }
    return code;
}

/* Every axis keeps one channel. */
static void keep_one(struct compact *k)
{
    for (size_t i = 0; i < k->c->parts.n; i++) {
        const struct shr_channel_part *p = k->c->parts.v[i];
        int64_t unit = -1;
        bool all = true;
        for (int64_t j = 0; j < p->dim[p->cut] && all; j++) {
            unit = shr_channels_unit(k->c, shr_channel_at(p, p->axis[p->cut], j));
            all = unit >= 0 && k->gone[unit] != 0;
        }
        if (all && unit >= 0) {
            k->gone[unit] = 0;
        }
    }
}

/* ── The pass ───────────────────────────────────────────────────────────────────────────────── */

static int choose(void *user, struct shr_channels *c, struct shr_model *model, unsigned char *gone,
                  struct shr_err *err)
{
    struct compact *k = user;
    k->c = c;
    k->gone = gone;
    k->dead = 0;
    k->emits = shr_mem_new((size_t)c->n + 1, sizeof *k->emits);
    if (k->emits == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for what units emit");
    }
    for (int64_t i = 0; i < c->n; i++) {
        k->emits[i] = NAN;
    }
    int code = find_dead(k, err);
    if (code == SHR_OK && k->dead > 0) {
        revive_means(k, model);
        code = look_at_ends(k, model, err);
    }
    keep_one(k);
    for (size_t i = 0; i < c->uses.n && code == SHR_OK && k->dead > 0; i++) {
        const struct shr_channel_use *use = &c->uses.v[i];
        code = use->role == SHR_CHANNEL_IN && taker(k, use->node) == use ? fold_into(k, use, err)
                                                                         : SHR_OK;
    }
    k->stay = k->dead;
    for (int64_t i = 0; i < c->n; i++) {
        k->stay -= gone[i];
    }
    shr_mem_free(k->emits);
    return code;
}

static void tell(void *user, struct shr_channels *c, struct shr_model *model,
                 const unsigned char *gone)
{
    struct compact *k = user;
    struct shr_report *report = k->call->report;
    for (size_t i = 0; i < c->groups.n; i++) {
        const struct shr_channel_group *group = &c->groups.v[i];
        char label[128], names[SHR_CHANNEL_NAMES] = "";
        int64_t n = 0;
        for (int64_t j = 0; j < group->n; j++) {
            n += gone[group->first + j];
        }
        if (n == 0) {
            continue;
        }
        shr_channels_names(c, group, model, names);
        struct shr_note *note =
            shr_report_note(report, SHR_NOTE_DONE, shr_node_label(group->node, label, sizeof label),
                            "removed %lld of %lld channels that were zero: %s", (long long)n,
                            (long long)group->n, names);
        shr_note_figure(note, "channels_before", (double)group->n);
        shr_note_figure(note, "channels_after", (double)(group->n - n));
        shr_note_figure(note, "parameters_removed", (double)group->elements);
    }
    if (k->stay > 0) {
        shr_report_note(report, SHR_NOTE_SKIPPED, "",
                        "%lld channels of zero weights stay: what they emit cannot go into a bias, "
                        "or a normalization is over them",
                        (long long)k->stay);
    } else if (k->dead == 0) {
        shr_report_note(report, SHR_NOTE_WARNING, "", "no channels of zero weights were found");
    }
}

static int run(struct shr_pass_call *call, struct shr_err *err)
{
    struct compact k = {.call = call};
    const struct shr_channel_job job = {&call->args->v[ARG_NODES], true, choose, tell, &k};
    return shr_channels_run(&job, call->model, &call->ret_model, err);
}

const struct shr_pass shr_pass_compact = {
    .name = "compact",
    .help = "Removes channels that are zero already, from a mask; the function stays",
    .needs = SHR_NEEDS_RUN,
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .run = run,
};
