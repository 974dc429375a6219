/* Any model that loads is inferred, planned and run, or refused with a reason: fused and node by
 * node, with numbers that were made to be awkward.
 *
 *     meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined  (with CC=clang)
 *     build-fuzz/tests/fuzz/fuzz-run -max_total_time=1800 -max_len=4096 -timeout=20 \
 *         -malloc_limit_mb=256 corpus tests/fuzz/run tests/engine/onnx/cases */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"
#include "core/rng.h"
#include "exec/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum {
    OPEN_DIM = 3,         /* for what the model leaves open */
    MOST_MACS = 1 << 24,  /* more take too long here */
    MOST_ARENA = 4 << 20, /* bytes of values */
    MOST_OPEN = 64,
};

/* ── Inputs ─────────────────────────────────────────────────────────────────────────────────── */

struct open_dims {
    struct shr_dim v[MOST_OPEN];
    char names[MOST_OPEN][80];
    size_t n;
};

static void find_open(const struct shr_model *model, struct open_dims *open)
{
    for (size_t i = 0; i < model->graph.n_inputs; i++) {
        const struct shr_value *v = model->graph.inputs[i];
        for (int d = 0; d < v->type.rank && open->n < MOST_OPEN; d++) {
            if (v->type.dim[d] < 0 && !shr_value_is_constant(v)) {
                snprintf(open->names[open->n], sizeof open->names[0], "%.64s:%d", v->name, d);
                open->v[open->n] = (struct shr_dim){open->names[open->n], OPEN_DIM};
                open->n++;
            }
        }
    }
}

static double awkward(struct shr_rng *rng, bool real)
{
    static const double reals[] = {0, -0.0, 1, -1, 0.5, 1e-40, 1e30, -1e30, 3e38, INFINITY, NAN};
    static const double wholes[] = {0, 1, -1, 2, 3, 127, -128, 255, 32767, 2147483647, -9e18};
    const size_t i = shr_rng_below(rng, 2 * SHR_COUNT_OF(reals));
    if (i < SHR_COUNT_OF(reals)) {
        return real ? reals[i] : wholes[i];
    }
    return real ? shr_rng_normal(rng) : (double)shr_rng_below(rng, 4);
}

static void fill(struct shr_plan *plan, uint64_t seed)
{
    struct shr_rng rng;
    shr_rng_init(&rng, seed);
    for (size_t i = 0; i < shr_plan_input_count(plan); i++) {
        struct shr_tensor *t = shr_plan_input(plan, i);
        const int64_t count = shr_tensor_count(t);
        for (int64_t k = 0; k < count; k++) {
            if (t->dtype == SHR_DTYPE_BOOL) {
                ((uint8_t *)t->data)[k] = shr_rng_below(&rng, 2) != 0;
            } else {
                shr_tensor_set(t, k, awkward(&rng, shr_dtype_is_float(t->dtype)));
            }
        }
    }
}

/* ── Work ───────────────────────────────────────────────────────────────────────────────────── */

/* Would it run soon? Types that cannot be known are no reason to wait. */
static bool is_small(const struct shr_model *model, const struct shr_plan_opts *opts)
{
    struct shr_err err;
    struct shr_model *clone;
    if (shr_model_clone(model, &clone, &err) != SHR_OK) {
        abort();
    }
    shr_model_resolve(clone);
    bool small = shr_model_bind(clone, opts, &err) == SHR_OK;
    int64_t total = 0;
    SHR_EACH_NODE (node, &clone->graph) {
        struct shr_type in[16] = {{0}}, out[SHR_OP_MAX_OUT] = {{0}};
        if (!small || node->op == NULL || node->op->macs == NULL || node->n_in > 16 ||
            node->n_out > SHR_OP_MAX_OUT) {
            continue;
        }
        for (size_t i = 0; i < node->n_in; i++) {
            in[i] = node->in[i].value == NULL ? (struct shr_type){0} : node->in[i].value->type;
        }
        for (size_t i = 0; i < node->n_out; i++) {
            out[i] = node->out[i] == NULL ? (struct shr_type){0} : node->out[i]->type;
        }
        const int64_t macs = node->op->macs(node, in, out);
        small = macs >= 0 && macs <= MOST_MACS - total;
        total += small ? macs : 0;
    }
    shr_model_free(clone);
    return small;
}

static void run(const struct shr_model *model, const struct shr_plan_opts *opts, uint64_t seed)
{
    struct shr_err err = {0};
    struct shr_plan *plan = NULL;
    if (shr_plan_new(model, opts, &plan, &err) != SHR_OK) {
        if (err.msg[0] == 0 || err.code == SHR_ERR_INTERNAL) {
            fprintf(stderr, "refused as '%s'\n", err.msg);
            abort();
        }
        return;
    }
    for (int round = 0; round < 2; round++) {
        fill(plan, seed);
        if (shr_plan_run(plan, NULL, &err) != SHR_OK && err.msg[0] == 0) {
            abort();
        }
    }
    shr_plan_free(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct shr_limits limits = {.max_nodes = 200, .max_elements = 1 << 16};
    struct shr_err err = {0};
    struct shr_model *model;
    if (shr_model_load(bytes, n, &limits, &model, &err) != SHR_OK) {
        return 0;
    }
    struct open_dims open = {.n = 0};
    find_open(model, &open);
    struct shr_plan_opts opts = {.dims = open.v, .n_dims = open.n, .max_arena = MOST_ARENA};
    uint64_t seed = n;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 31 + bytes[i];
    }
    if (is_small(model, &opts)) {
        run(model, &opts, seed);
        opts.no_fuse = true;
        opts.cpu_mask = ~0u;
        run(model, &opts, seed);
    }
    shr_model_free(model);
    return 0;
}
