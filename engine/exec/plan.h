/* The executor: a graph compiled for fixed input shapes, run many times.
 *
 * A plan infers concrete shapes, folds constants, fuses (bias, activation, quantize/dequantize
 * around integer products), prepares every operator (packed weights), and lays all intermediate
 * values out in one arena by lifetime. Running it allocates nothing. The model must outlive its
 * plans. Thread: one at a time; several plans of a model may run on several threads. */
#ifndef SHR_EXEC_PLAN_H
#define SHR_EXEC_PLAN_H

#include "ops/op.h"

struct shr_plan;

/* The bytes of an input or output that are someone else's, aligned to SHR_MEM_ALIGN, who lives
 * longer: runs read and write them in place. */
struct shr_plan_bytes {
    const char *name;
    void *data;
};

struct shr_plan_opts { /* all zero = the model as declared, batch 1, fused */
    /* What stands for the dims of the true inputs that the model leaves open; shr_model_bind. */
    int64_t batch; /* 0 = 1 */
    const struct shr_dim *dims;
    size_t n_dims;
    const struct shr_type *inputs; /* one a true input, in order, or NULL; dtype NONE = not given */
    const struct shr_view *constants; /* inputs whose data is known now, by name: no inputs then */
    size_t n_constants;
    const struct shr_plan_bytes *bytes;
    size_t n_bytes;
    bool no_fuse;            /* node by node: for calibration and tests */
    const char *const *keep; /* names of values to keep for shr_plan_value */
    size_t n_keep;
    unsigned cpu_mask;
    int threads;
    struct shr_team *team; /* instead of threads: someone else's, who lives longer */
    size_t max_arena;      /* bytes; 0 = 4 GiB; LIMIT when it would take more */
};

/* Infers all types of a model. The first of these that knows an open dim of an input decides: the
 * type given for the input; its symbol, or "input:axis", among dims; the symbol in a given type;
 * batch, for an open first dim and for its symbol elsewhere. Another open dim has no default:
 * UNSUPPORTED names it. INVALID names what contradicts the model. */
int shr_model_bind(struct shr_model *model, const struct shr_plan_opts *opts,
                   struct shr_err *err) SHR_MUSTCHECK;

/* UNSUPPORTED names the first node that has no row. */
int shr_plan_new(const struct shr_model *model, const struct shr_plan_opts *opts,
                 struct shr_plan **ret, struct shr_err *err) SHR_MUSTCHECK;
/* The same of a model that the caller gives away, also on failure: weights that operators packed
 * are freed on the way, which keeps the peak of memory low. */
int shr_plan_new_take(struct shr_model *take_model, const struct shr_plan_opts *opts,
                      struct shr_plan **ret, struct shr_err *err) SHR_MUSTCHECK;
void shr_plan_free(struct shr_plan *plan);

/* True inputs (not initializers) and outputs, in the model's order. Tensors belong to the plan:
 * fill the data of the inputs, run, read the outputs; valid until the next run. */
size_t shr_plan_input_count(const struct shr_plan *plan);
size_t shr_plan_output_count(const struct shr_plan *plan);
struct shr_tensor *shr_plan_input(struct shr_plan *plan, size_t i);
const char *shr_plan_input_name(const struct shr_plan *plan, size_t i);
const char *shr_plan_output_name(const struct shr_plan *plan, size_t i);
const struct shr_tensor *shr_plan_output(const struct shr_plan *plan, size_t i);
/* A kept value after a run; NULL when it was not asked for. */
const struct shr_tensor *shr_plan_value(const struct shr_plan *plan, const char *name);

/* Runs once. cancel is polled between nodes. */
int shr_plan_run(struct shr_plan *plan, const struct shr_ctx *ctx,
                 struct shr_err *err) SHR_MUSTCHECK;

size_t shr_plan_arena_bytes(const struct shr_plan *plan); /* of intermediate values and scratch */
/* What a run reads beside the arena: constants and what operators prepared from them. */
size_t shr_plan_weight_bytes(const struct shr_plan *plan);

/* The steps of a run, in order, for people. */
size_t shr_plan_step_count(const struct shr_plan *plan);
struct shr_step_info shr_plan_step(const struct shr_plan *plan, size_t i);
/* Runs once and writes the nanoseconds of each step. */
int shr_plan_run_timed(struct shr_plan *plan, const struct shr_ctx *ctx, uint64_t *ret_ns,
                       struct shr_err *err) SHR_MUSTCHECK;

/* One line a step: the fused operator, its inputs and outputs; for tests and people. */
int shr_plan_print(const struct shr_plan *plan, struct shr_buf *ret_text,
                   struct shr_err *err) SHR_MUSTCHECK;

#endif
