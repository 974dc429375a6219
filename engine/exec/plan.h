/* The executor: a graph compiled for fixed input shapes, run many times.
 *
 * A plan infers concrete shapes, folds constants, fuses (bias, activation, quantize/dequantize
 * around integer products), prepares every operator (packed weights), and lays all intermediate
 * values out in one arena by lifetime. Running it allocates nothing. The model must outlive its
 * plans. Thread: one at a time; several plans of a model may run on several threads. */
#ifndef SHR_EXEC_PLAN_H
#define SHR_EXEC_PLAN_H

#include "ops/op.h"

/* Infers all types of a model with `batch` for the unknown first dim of every true input, and for
 * its symbol elsewhere. UNSUPPORTED names an input with another dim that is not known. */
int shr_model_bind(struct shr_model *model, int64_t batch, struct shr_err *err) SHR_MUSTCHECK;

struct shr_plan;

struct shr_plan_opts { /* all zero = the model as declared, batch 1, fused */
    int64_t batch;     /* value for an unknown or symbolic first dim of every input; 0 = 1 */
    const struct shr_type *inputs; /* exact types of the true inputs, in order, instead of batch */
    bool no_fuse;                  /* node by node: for calibration and tests */
    const char *const *keep;       /* names of values to keep for shr_plan_value */
    size_t n_keep;
    unsigned cpu_mask;
    int threads;
    size_t max_arena; /* bytes; 0 = 4 GiB; LIMIT when it would take more */
};

/* UNSUPPORTED names the first node that has no row. */
int shr_plan_new(const struct shr_model *model, const struct shr_plan_opts *opts,
                 struct shr_plan **ret, struct shr_err *err) SHR_MUSTCHECK;
void shr_plan_free(struct shr_plan *plan);

/* True inputs (not initializers) and outputs, in the model's order. Tensors belong to the plan:
 * fill the data of the inputs, run, read the outputs; valid until the next run. */
size_t shr_plan_input_count(const struct shr_plan *plan);
size_t shr_plan_output_count(const struct shr_plan *plan);
struct shr_tensor *shr_plan_input(struct shr_plan *plan, size_t i);
const char *shr_plan_input_name(const struct shr_plan *plan, size_t i);
const struct shr_tensor *shr_plan_output(const struct shr_plan *plan, size_t i);
/* A kept value after a run; NULL when it was not asked for. */
const struct shr_tensor *shr_plan_value(const struct shr_plan *plan, const char *name);

/* Runs once. cancel is polled between nodes. */
int shr_plan_run(struct shr_plan *plan, const struct shr_ctx *ctx,
                 struct shr_err *err) SHR_MUSTCHECK;

size_t shr_plan_arena_bytes(const struct shr_plan *plan); /* of intermediate values and scratch */
/* What a run reads beside the arena: constants and what operators prepared from them. */
size_t shr_plan_weight_bytes(const struct shr_plan *plan);

/* One line a step: the fused operator, its inputs and outputs; for tests and people. */
int shr_plan_print(const struct shr_plan *plan, struct shr_buf *ret_text,
                   struct shr_err *err) SHR_MUSTCHECK;

#endif
