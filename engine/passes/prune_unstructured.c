/* prune_unstructured: single weights become zero; shapes stay.
 *
 * As torch.nn.utils.prune: an amount is of the weights that are not zero yet, so that pruning twice
 * by half leaves a quarter; a fraction is rounded half to even. Where torch leaves the order of
 * equal magnitudes open, the lowest position goes first. A pruned weight of a quantized tensor
 * becomes its zero point. Biases are left alone unless asked for. Thread: one. */
#include <math.h>

#include "core/rng.h"
#include "passes/prune_targets.h"
#include "passes/select.h"

enum {
    ARG_CRITERION,
    ARG_AMOUNT,
    ARG_SCOPE,
    ARG_PATTERN,
    ARG_BLOCK,
    ARG_BIASES,
    ARG_STORE,
    SHR_ARGS_NODES,
};

/* l2 of a single weight orders as l1 does, so both are |w|. */
enum { CRITERION_L1, CRITERION_L2, CRITERION_RANDOM };
static const char *const criteria[] = {"l1", "l2", "random", NULL};
enum { SCOPE_LAYER, SCOPE_GLOBAL };
static const char *const scopes[] = {"layer", "global", NULL};
static const char *const stores[] = {"dense", "sparse", "sparse_int64", NULL}; /* enum shr_store */
static const char *const patterns[] = {"none", "1:2", "1:4", "2:4", "4:8", NULL};
static const struct {
    int64_t n, m; /* at most n of m may stay */
} pattern_sizes[] = {{0, 0}, {1, 2}, {1, 4}, {2, 4}, {4, 8}};

static const struct shr_param params[] = {
    {"criterion", SHR_PARAM_ENUM, "l1", 0, 0, criteria,
     "Which weights go first: the smallest (l1, l2) or any (random, by the job's seed)"},
    {"amount", SHR_PARAM_AMOUNT, "0.5", 0, 0, NULL,
     "How much of the weights that are not zero yet: a fraction or a count; not used by patterns"},
    {"scope", SHR_PARAM_ENUM, "layer", 0, 0, scopes,
     "Take the amount from each tensor, or from all of them together"},
    {"pattern", SHR_PARAM_ENUM, "none", 0, 0, patterns,
     "n:m leaves at most n weights in every m along the input of a layer"},
    {"block", SHR_PARAM_INT, "1", 1, 256, NULL,
     "Weights go in blocks of so many neighbouring outputs of one input, by their mean; amount "
     "counts "
     "blocks. This engine runs matrices faster that have few blocks of 8 left (16 with AVX-512)"},
    {"biases", SHR_PARAM_BOOL, "false", 0, 0, NULL, "Prune biases too"},
    {"store", SHR_PARAM_ENUM, "dense", 0, 0, stores,
     "How the file holds pruned tensors: sparse where that is smaller, which is so from a sparsity "
     "of 50 % on for float32 (ONNX Runtime reads it; ONNX's checker wants sparse_int64, 67 %)"},
    SHR_PARAMS_NODES,
};

struct prune {
    const struct shr_arg *args;
    struct shr_prune_targets targets;
    struct shr_rng rng;
    double *keys;         /* the smallest go first; what is zero already has INFINITY */
    unsigned char *marks; /* 1 = goes */
    struct shr_report *report;
};

static int64_t count_of(const struct shr_prune_target *t)
{
    return shr_tensor_count(&t->value->constant);
}

/* Fills keys of one target and counts the weights that are not zero. */
static int rank(struct prune *p, const struct shr_prune_target *t, double *keys,
                int64_t *ret_nonzero, struct shr_err *err)
{
    int64_t n = count_of(t), nonzero = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = shr_prune_target_real(t, i);
        if (!isfinite(x)) {
            return shr_err_set(err, SHR_ERR_INVALID, "tensor '%s': element %lld is not finite",
                               t->value->name, (long long)i);
        }
        bool random = p->args[ARG_CRITERION].i == CRITERION_RANDOM;
        keys[i] = x == 0 ? INFINITY : random ? shr_rng_uniform(&p->rng) : fabs(x);
        nonzero += x != 0;
    }
    *ret_nonzero = nonzero;
    return SHR_OK;
}

/* Puts the zero point where marks say so and tells what became of the tensor. */
static int apply(struct prune *p, const struct shr_prune_target *t, const unsigned char *marks,
                 int64_t nonzero, struct shr_err *err)
{
    struct shr_tensor w = shr_tensor_ref(&t->value->constant);
    int code = shr_tensor_own(&w, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&w);
        return code;
    }
    int64_t n = count_of(t), pruned = 0;
    for (int64_t i = 0; i < n; i++) {
        if (marks[i] != 0 && shr_prune_target_real(t, i) != 0) {
            shr_tensor_set(&w, i, shr_prune_target_zero(t, i));
            pruned++;
        }
    }
    shr_value_set_constant(t->value, w);
    t->value->store = (enum shr_store)p->args[ARG_STORE].i;

    struct shr_note *note = shr_report_note(
        p->report, SHR_NOTE_DONE, t->value->name, "pruned %lld of %lld weights by %s%s",
        (long long)pruned, (long long)nonzero, criteria[p->args[ARG_CRITERION].i],
        t->scale != NULL ? "; they are the zero point now" : "");
    shr_note_figure(note, "elements", (double)n);
    shr_note_figure(note, "pruned", (double)pruned);
    shr_note_figure(note, "nonzero", (double)(nonzero - pruned));
    shr_note_figure(note, "sparsity", n > 0 ? 1 - (double)(nonzero - pruned) / (double)n : 0);
    return SHR_OK;
}

/* Marks all but n of every m elements along the axis that is summed over. */
static void mark_pattern(const struct prune *p, const struct shr_prune_target *t)
{
    int64_t keep = pattern_sizes[p->args[ARG_PATTERN].i].n;
    int64_t m = pattern_sizes[p->args[ARG_PATTERN].i].m;
    const struct shr_tensor *w = &t->value->constant;
    int64_t inner = 1, length = w->dim[t->reduce_axis], n = count_of(t);
    for (int d = t->reduce_axis + 1; d < w->rank; d++) {
        inner *= w->dim[d];
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t along = i / inner % length;
        if (along % m != 0) {
            continue; /* i is not the first of a group */
        }
        double keys[8];
        unsigned char marks[8];
        int64_t size = length - along < m ? length - along : m;
        for (int64_t j = 0; j < size; j++) {
            double key = p->keys[i + j * inner];
            keys[j] = isinf(key) ? 0 : key; /* zero already: counts as pruned */
        }
        shr_select_smallest(keys, size, size > keep ? size - keep : 0, marks);
        for (int64_t j = 0; j < size; j++) {
            p->marks[i + j * inner] = marks[j];
        }
    }
}

/* Blocks lie along the axis of outputs, which is next to the one that is summed over. */
struct blocks {
    int64_t length, inner, size; /* of that axis, of what is behind it, and of a block */
    int64_t n;
    double *keys;
    unsigned char *marks;
};

static int blocks_init(struct blocks *b, const struct shr_prune_target *t, int64_t size,
                       struct shr_err *err)
{
    const struct shr_tensor *w = &t->value->constant;
    int axis = t->reduce_axis > 0 ? t->reduce_axis - 1 : t->reduce_axis + 1;
    *b = (struct blocks){.length = w->dim[axis], .inner = 1, .size = size};
    for (int d = axis + 1; d < w->rank; d++) {
        b->inner *= w->dim[d];
    }
    int64_t n = count_of(t);
    b->n = b->length > 0 ? n / b->length * ((b->length + size - 1) / size) : 0;
    b->keys = shr_mem_new((size_t)b->n + 1, sizeof *b->keys);
    b->marks = shr_mem_new((size_t)b->n + 1, 1);
    return b->keys == NULL || b->marks == NULL
               ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for blocks of weights")
               : SHR_OK;
}

/* The mean key of each block, since the last of an axis may be smaller; or its mark to its
 * weights. */
static void blocks_walk(struct prune *p, struct blocks *b, int64_t n, bool mark)
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t along = i / b->inner % b->length;
        if (along % b->size != 0) {
            continue; /* i is not the first of a block */
        }
        int64_t size = b->length - along < b->size ? b->length - along : b->size;
        double sum = 0;
        bool alive = false;
        for (int64_t j = 0; j < size; j++) {
            double key = p->keys[i + j * b->inner];
            alive = alive || !isinf(key);
            sum += isinf(key) ? 0 : key;
            if (mark) {
                p->marks[i + j * b->inner] = b->marks[at];
            }
        }
        b->keys[at] = alive ? sum / (double)size : INFINITY;
        at++;
    }
}

static int mark_blocks(struct prune *p, const struct shr_prune_target *t, struct shr_err *err)
{
    struct blocks b;
    int64_t alive = 0, k = 0, n = count_of(t);
    int code = blocks_init(&b, t, p->args[ARG_BLOCK].i, err);
    if (code == SHR_OK) {
        blocks_walk(p, &b, n, false);
        for (int64_t i = 0; i < b.n; i++) {
            alive += !isinf(b.keys[i]);
        }
        code = shr_amount_of(&p->args[ARG_AMOUNT], alive, "nonzero blocks", &k, err);
    }
    if (code == SHR_OK) {
        shr_select_smallest(b.keys, b.n, k, b.marks);
        blocks_walk(p, &b, n, true);
    }
    shr_mem_free(b.keys);
    shr_mem_free(b.marks);
    return code;
}

/* Marks what goes of a target whose keys are known. */
static int mark_layer(struct prune *p, const struct shr_prune_target *t, int64_t nonzero,
                      struct shr_err *err)
{
    int64_t k = 0;
    if (p->args[ARG_PATTERN].i != 0 && t->reduce_axis >= 0) {
        mark_pattern(p, t);
        return SHR_OK;
    }
    if (p->args[ARG_BLOCK].i > 1 && t->reduce_axis >= 0) {
        return mark_blocks(p, t, err);
    }
    int code = shr_amount_of(&p->args[ARG_AMOUNT], nonzero, "nonzero weights", &k, err);
    if (code == SHR_OK) {
        shr_select_smallest(p->keys, count_of(t), k, p->marks);
    }
    return code;
}

static int prune_layers(struct prune *p, const struct shr_ctx *ctx, struct shr_err *err)
{
    for (size_t i = 0; i < p->targets.list.n; i++) {
        const struct shr_prune_target *t = &p->targets.list.v[i];
        int64_t nonzero = 0;
        int code = shr_ctx_poll(ctx, err);
        if (code == SHR_OK) {
            code = rank(p, t, p->keys, &nonzero, err);
        }
        if (code == SHR_OK) {
            code = mark_layer(p, t, nonzero, err);
            if (code != SHR_OK) {
                shr_err_prefix(err, "tensor '%s': ", t->value->name);
            }
        }
        if (code == SHR_OK) {
            code = apply(p, t, p->marks, nonzero, err);
        }
        if (code != SHR_OK) {
            return code;
        }
        shr_ctx_tell(ctx, "prune", i + 1, p->targets.list.n);
    }
    return SHR_OK;
}

static int prune_globally(struct prune *p, const struct shr_ctx *ctx, struct shr_err *err)
{
    int64_t total = 0, nonzero = 0, k = 0, one = 0;
    for (size_t i = 0; i < p->targets.list.n; i++) {
        int code = shr_ctx_poll(ctx, err);
        if (code == SHR_OK) {
            code = rank(p, &p->targets.list.v[i], p->keys + total, &one, err);
        }
        if (code != SHR_OK) {
            return code;
        }
        total += count_of(&p->targets.list.v[i]);
        nonzero += one;
    }
    int code = shr_amount_of(&p->args[ARG_AMOUNT], nonzero, "nonzero weights", &k, err);
    if (code != SHR_OK) {
        return code;
    }
    shr_select_smallest(p->keys, total, k, p->marks);

    int64_t at = 0;
    for (size_t i = 0; i < p->targets.list.n; i++) {
        const struct shr_prune_target *t = &p->targets.list.v[i];
        one = 0;
        for (int64_t j = 0; j < count_of(t); j++) {
            one += !isinf(p->keys[at + j]);
        }
        code = apply(p, t, p->marks + at, one, err);
        if (code != SHR_OK) {
            return code;
        }
        at += count_of(t);
    }
    return SHR_OK;
}

/* Room for the keys of all targets (global) or of the largest (layer). */
static int make_room(struct prune *p, bool global, struct shr_err *err)
{
    int64_t room = 0;
    for (size_t i = 0; i < p->targets.list.n; i++) {
        int64_t n = count_of(&p->targets.list.v[i]);
        room = global ? room + n : n > room ? n : room;
    }
    p->keys = shr_mem_new((size_t)room + 1, sizeof *p->keys);
    p->marks = shr_mem_new((size_t)room + 1, 1);
    if (p->keys == NULL || p->marks == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the magnitudes of %lld weights",
                           (long long)room);
    }
    return SHR_OK;
}

static int edit(struct shr_pass_call *call, struct shr_model *model, struct shr_err *err)
{
    struct prune p = {.args = call->args->v, .report = call->report};
    bool global = p.args[ARG_SCOPE].i == SCOPE_GLOBAL;
    bool pattern = p.args[ARG_PATTERN].i != 0, blocks = p.args[ARG_BLOCK].i > 1;
    if (global && (pattern || blocks)) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "%s: it is a rule for each layer and does not go with scope global",
                           pattern ? "pattern" : "block");
    }
    if (pattern && blocks) {
        return shr_err_set(err, SHR_ERR_INVALID, "block: it does not go with a pattern");
    }
    shr_rng_init(&p.rng, call->ctx != NULL ? call->ctx->seed : 0);

    int code = shr_prune_targets_find(model, &p.args[ARG_NODES], p.args[ARG_BIASES].b, p.report,
                                      &p.targets, err);
    if (code == SHR_OK && p.targets.list.n == 0) {
        shr_report_note(p.report, SHR_NOTE_WARNING, "", "no prunable weights were found");
    }
    if (code == SHR_OK) {
        code = make_room(&p, global, err);
    }
    if (code == SHR_OK) {
        code = global ? prune_globally(&p, call->ctx, err) : prune_layers(&p, call->ctx, err);
    }
    shr_mem_free(p.keys);
    shr_mem_free(p.marks);
    shr_prune_targets_finish(&p.targets);
    return code;
}

const struct shr_pass shr_pass_prune_unstructured = {
    .name = "prune_unstructured",
    .help = "Sets single weights to zero, the least important first",
    .params = params,
    .n_params = SHR_COUNT_OF(params),
    .edit = edit,
};
