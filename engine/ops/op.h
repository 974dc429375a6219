/* Operators: one row each, found by domain, name and opset.
 *
 * A row says how types flow (infer), what is prepared once for fixed shapes (setup), how values
 * flow (forward), how gradients flow (backward, see grad.h), and what passes may do with the
 * operator (roles). No code outside the table switches on operator names to decide one of these.
 *
 * forward never allocates: what it needs beside inputs and outputs was asked for in setup. */
#ifndef SHR_OPS_OP_H
#define SHR_OPS_OP_H

#include "core/team.h"
#include "graph/graph.h"
#include "kernels/kernels.h"

enum { SHR_OP_MAX_OUT = 8 };

/* Type and shape inference of one node. Inputs and outputs are parallel to the node's slots. */
struct shr_infer {
    const struct shr_node *node;
    int64_t opset;
    size_t n_in, n_out;
    const struct shr_type *in;               /* [n_in]; dtype NONE where omitted */
    const struct shr_tensor *const *in_data; /* [n_in]; NULL where not constant */
    struct shr_type *out;                    /* [n_out]; begin as unknown */
    struct shr_tensor *out_data; /* [n_out]; set for outputs known now (Shape); driver frees */
};

/* A graph inside of a node, ready to run. Its inputs are those of attr->body. */
struct shr_body {
    size_t n_in, n_out;
    struct shr_tensor *const *in; /* fill, run, read out; NULL where the input was constant */
    const struct shr_tensor *const *out;
    int (*run)(struct shr_body *body, struct shr_err *err);
    void (*free)(struct shr_body *body);
};

/* Prepares attr->body for inputs of these shapes; data only where constant. The executor's. */
typedef int (*shr_body_fn)(void *user, const struct shr_model *graph,
                           const struct shr_tensor *const *in, struct shr_body **ret,
                           struct shr_err *err);

/* Preparation of a node for fixed shapes. */
struct shr_op_setup {
    const struct shr_node *node;
    int64_t opset;
    const struct shr_kernels *kernels;
    struct shr_arena *arena; /* lives as long as the plan */
    size_t n_in, n_out;
    const struct shr_tensor *const *in;  /* shapes; data only where constant; NULL = omitted */
    const struct shr_tensor *const *out; /* shapes */
    void *state;                         /* set here, for forward and finish */
    size_t scratch;                      /* bytes wanted while forward runs; set here */
    size_t threads;                      /* of the team that will run it */
    shr_body_fn body_new;                /* NULL = graphs inside of nodes cannot be run here */
    void *body_user;
    const char *kernel; /* set here where there was a choice: its name, for people; static */
};

struct shr_op_call {
    const struct shr_node *node;
    int64_t opset;
    const struct shr_kernels *kernels;
    size_t n_in, n_out;
    const struct shr_tensor *const *in; /* NULL = omitted */
    struct shr_tensor *const *out;      /* shaped, not zeroed; NULL = omitted */
    void *state;                        /* of setup */
    void *scratch;                      /* aligned; contents undefined */
    struct shr_team *team;              /* NULL = this thread alone */
};

enum shr_quant_role {
    SHR_QUANT_NONE,     /* stays in float */
    SHR_QUANT_WEIGHTED, /* activation x constant weight [+ bias]: MatMul, Gemm, Conv, LSTM */
    SHR_QUANT_PASS,     /* output has the input's scale: Relu, MaxPool, Reshape, Flatten, … */
    SHR_QUANT_ARITH,    /* Add, Mul, Concat, AveragePool: inputs and output quantized each */
};

enum shr_prune_role {
    SHR_PRUNE_NONE,
    SHR_PRUNE_WEIGHTED, /* holds prunable weights: MatMul, Gemm, Conv, ConvTranspose, LSTM, … */
    SHR_PRUNE_PASS,     /* channels go through */
};

struct shr_grad; /* ops/grad.h */

struct shr_op {
    const char *domain, *name; /* domain "" = ai.onnx */
    int since, until;          /* opsets that the row covers; until 0 = no end known */
    int (*infer)(struct shr_infer *c, struct shr_err *err);
    int (*setup)(struct shr_op_setup *c, struct shr_err *err); /* NULL = nothing to prepare */
    int (*forward)(const struct shr_op_call *c, struct shr_err *err);
    void (*finish)(void *state); /* what setup made outside the arena; NULL = nothing */
    enum shr_quant_role quant_role;
    enum shr_prune_role prune_role;
    int weight_slot, bias_slot; /* of WEIGHTED rows; -1 = none */
    /* Multiply-accumulates of a node with known shapes, -1 = too many to count; NULL = 0. */
    int64_t (*macs)(const struct shr_node *node, const struct shr_type *in,
                    const struct shr_type *out);
    bool halves;    /* takes float16 and bfloat16 as they are; others compute in float32 for them */
    unsigned packs; /* bit i: forward does not read input i where setup found it constant */
    unsigned in_place; /* bit i: output 0 may overwrite input i of as many bytes (elementwise) */
    /* Slots: the first *_min must be given, *_max = most slots (-1 = any number, 0 with a min of 0
     * = not checked). shr_model_infer checks them, so rows may read what must be there. */
    signed char in_min, in_max, out_min, out_max;
    /* Emits the gradients of the inputs, for training; NULL = the operator has none. */
    int (*backward)(struct shr_grad *g, struct shr_err *err);
    /* Emits what takes the node's place while a model is trained; NULL = the node itself. */
    int (*training)(struct shr_grad *g, struct shr_err *err);
};

/* Rows of one family; the row of an operator whose meaning changed stands once a meaning. */
struct shr_op_family {
    const struct shr_op *rows;
    size_t n;
};

/* The row for a node of an opset; NULL when the engine does not know the operator or the opset. */
const struct shr_op *shr_op_find(const char *domain, const char *name, int64_t opset);

/* Sets node->op of every node from the model's opsets. */
void shr_model_resolve(struct shr_model *model);

/* Infers the types of all values from the declared inputs, or from in_types (one a true input of
 * the graph, in order) where given. Nodes without a row leave their outputs unknown. Small integer
 * results are computed, so that shapes made by arithmetic are known. Errors name the node. */
int shr_model_infer(struct shr_model *model, const struct shr_type *in_types,
                    struct shr_err *err) SHR_MUSTCHECK;

/* The same for declared inputs that will not change: what is known beside the constants becomes
 * constant, and its nodes go. */
int shr_model_settle(struct shr_model *model, struct shr_err *err) SHR_MUSTCHECK;

/* The same, and tells which values beside the constants are known and what they hold; the tensor
 * lives as long as the call of tell. */
typedef int (*shr_known_fn)(void *user, const struct shr_value *v, const struct shr_tensor *data,
                            struct shr_err *err);
int shr_model_infer_known(struct shr_model *model, const struct shr_type *in_types,
                          shr_known_fn tell, void *user, struct shr_err *err) SHR_MUSTCHECK;

/* Helpers for rows (ops/util.c; more of them in ops/util.h) */
int shr_op_fail(const struct shr_node *node, struct shr_err *err, int code, const char *format, ...)
    SHR_PRINTF(4, 5); /* message begins with the op type and the node's label */
int shr_broadcast_types(const struct shr_infer *c, size_t a, size_t b, struct shr_type *ret,
                        struct shr_err *err); /* numpy rules; dtype of a */
void shr_type_copy_shape(struct shr_type *to, const struct shr_type *from);

#endif
