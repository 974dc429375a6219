/* Inside of a plan: steps, and slots for the values between them.
 *
 * The plan owns a clone of the model, so that it may bind shapes, fold constants and fuse nodes
 * there without touching what it was given. A fused node is an ordinary node of that clone whose
 * row is one of fused.h instead of the operator table. Thread: as the plan. */
#ifndef SHR_EXEC_STEP_H
#define SHR_EXEC_STEP_H

#include "base/vec.h"
#include "exec/plan.h"

/* A value while the plan is made, and its tensor for ever. */
struct shr__slot {
    struct shr_value *value;
    struct shr_tensor tensor; /* shaped; data set when the arena is laid out */
    struct shr__slot *root;   /* whose bytes these are: itself, or what it is a view of */
    /* Of roots: the steps (first … last) that need the bytes, and where they lie. */
    size_t first, last;
    size_t bytes, offset;
    bool constant; /* the data is the clone's */
    void *theirs;  /* the caller's bytes of an input or output, or NULL */
    bool whole;    /* never shared: inputs, outputs and kept values */
    bool placed;
    size_t unread; /* of a constant: uses that have not packed it (yet) */
};

struct shr__step {
    struct shr_op_call call;
    const struct shr_op *op;
    size_t scratch; /* bytes */
    const char *kernel;
};

struct shr_plan {
    struct shr_arena memory; /* owns everything below but the clone and the arena */
    struct shr_model *model; /* the plan's own */
    const struct shr_kernels *kernels;
    struct shr_team *team; /* NULL = one thread */
    bool owns_team, no_fuse;
    unsigned cpu_mask;
    const struct shr_ctx *ctx; /* of the present run */
    size_t max_arena;

    struct shr__step *steps;
    size_t n_steps;
    struct shr_map slots; /* struct shr__slot by the name of its value */
    struct shr__slot **list;
    size_t n_slots;
    struct shr__slot **inputs, **outputs;
    size_t n_inputs, n_outputs;

    void *arena;
    size_t arena_bytes, weight_bytes;
};

/* fold.c: replaces nodes whose results are known. Dequantized weights stay as they are when
 * keep_quantized is set, for fusing to find. */
int shr__plan_fold(struct shr_plan *plan, bool keep_quantized, struct shr_err *err) SHR_MUSTCHECK;

/* widen.c: puts casts around nodes that compute in float32 for float16 and bfloat16. */
int shr__plan_widen(struct shr_model *model, struct shr_err *err) SHR_MUSTCHECK;
/* body.c. The shr_body_fn of a plan, which is user. */
int shr__body_new(void *user, const struct shr_model *graph, const struct shr_tensor *const *in,
                  struct shr_body **ret, struct shr_err *err) SHR_MUSTCHECK;
/* inline.c: puts the branches of decided Ifs in their place, and Loops that must be unrolled. */
int shr__plan_inline(struct shr_model *model, bool *ret_changed, struct shr_err *err) SHR_MUSTCHECK;

/* memory.c: gives every slot and scratch its place and allocates the arena. */
int shr__plan_place(struct shr_plan *plan, struct shr_err *err) SHR_MUSTCHECK;

/* Is the output of this node nothing but its first input under another shape? */
bool shr__op_is_view(const struct shr_op *op);

#endif
