/* Gradients: what the backward rules of the operator table emit nodes with.
 *
 * A rule is called once for a node some output of which the loss depends on. It adds nodes that
 * compute the gradients of the node's inputs from those of its outputs and gives each to its slot.
 * Errors are sticky: after the first one nothing more is emitted, values are NULL, and a rule ends
 * with `return g->rc`. All shapes are known: the model was bound before.
 *
 *     struct shr_value *dy = shr_grad_of(g, 0);
 *     shr_grad_give(g, 0, SHR_GRAD_TRAIN(g, "ReluGrad", dy, shr_node_out(g->node, 0)));
 *     return g->rc;
 *
 * Nodes are of ai.onnx where that suffices, else of SHR_TRAIN_DOMAIN, whose rows never stand in a
 * model that is saved. Thread: the model's. */
#ifndef SHR_OPS_GRAD_H
#define SHR_OPS_GRAD_H

#include "ops/op.h"

#define SHR_TRAIN_DOMAIN "shrinkd.train"

struct shr_grad_state { /* an initializer that a run computes anew: running means */
    struct shr_grad_state *next;
    struct shr_value *value, *update;
};

struct shr_grad {
    struct shr_model *model;     /* the forward nodes; backward nodes are added at the end */
    const struct shr_node *node; /* whose rule runs */
    struct shr_node *before;     /* where nodes are added; NULL = at the end */
    int rc;                      /* 0 or the first error, which err holds */
    struct shr_err *err;
    struct shr_node *last;   /* emitted last, for attributes */
    struct shr_map sums;     /* value name → struct shr_grad__sum */
    struct shr_map wanted;   /* names of values whose gradient is wanted */
    struct shr_arena memory; /* of the sums and states */
    struct shr_grad_state *states;
    struct shr_value *random; /* of shr_grad_random, or NULL */
};

/* The gradient of output i; NULL when the loss does not depend on it. */
struct shr_value *shr_grad_of(struct shr_grad *g, size_t i);
/* Must the rule give a gradient for this input? Giving one that is not wanted does nothing. */
bool shr_grad_wants(const struct shr_grad *g, size_t slot);
/* dx has the shape of the input, and is added to what other readers of the input gave. */
void shr_grad_give(struct shr_grad *g, size_t slot, struct shr_value *dx);
/* dx has the shape `from`, to which the input was broadcast, and is summed over what was. */
void shr_grad_give_sum(struct shr_grad *g, size_t slot, struct shr_value *dx,
                       const struct shr_type *from);

/* A new node and its output. Inputs may be NULL where optional. */
struct shr_value *shr_grad_emit(struct shr_grad *g, const char *domain, const char *op,
                                struct shr_value *const *in, size_t n_in);
/* The same with n_out outputs, written to ret_out (all NULL after an error). */
void shr_grad_emit_many(struct shr_grad *g, const char *domain, const char *op,
                        struct shr_value *const *in, size_t n_in, struct shr_value **ret_out,
                        size_t n_out);
#define SHR_GRAD_VALUES(...)                                                                       \
    (struct shr_value *const[]){__VA_ARGS__},                                                      \
        sizeof((struct shr_value *const[]){__VA_ARGS__}) / sizeof(struct shr_value *)
#define SHR_GRAD_ONNX(g, op, ...) shr_grad_emit(g, "", op, SHR_GRAD_VALUES(__VA_ARGS__))
#define SHR_GRAD_TRAIN(g, op, ...)                                                                 \
    shr_grad_emit(g, SHR_TRAIN_DOMAIN, op, SHR_GRAD_VALUES(__VA_ARGS__))

/* Attributes of the node that was emitted last. */
void shr_grad_int(struct shr_grad *g, const char *name, int64_t value);
void shr_grad_float(struct shr_grad *g, const char *name, float value);
void shr_grad_ints(struct shr_grad *g, const char *name, const int64_t *values, size_t n);
void shr_grad_attrs(struct shr_grad *g, const struct shr_node *from); /* all of another node */

struct shr_value *shr_grad_scalar(struct shr_grad *g, float value);
struct shr_value *shr_grad_scaled(struct shr_grad *g, struct shr_value *v, float factor);
/* v in the shape of a type of as many elements. */
struct shr_value *shr_grad_reshape(struct shr_grad *g, struct shr_value *v,
                                   const struct shr_type *shape);
struct shr_value *shr_grad_sum_to(struct shr_grad *g, struct shr_value *v,
                                  const struct shr_type *from, const struct shr_type *to);

/* In a rule of training forms (struct shr_op: training), which emits in front of the node and then
 * hands its output i on: */
void shr_grad_replace(struct shr_grad *g, size_t i, struct shr_value *by);
/* After every step the initializer of this slot becomes the value, of the same type. */
void shr_grad_update(struct shr_grad *g, size_t slot, struct shr_value *value);

/* An int64 scalar, an input: the seed of random numbers, another for each step. */
struct shr_value *shr_grad_random(struct shr_grad *g);

/* For the driver (train/autograd.c). */
struct shr_value *shr_grad_total(struct shr_grad *g, const struct shr_value *v);
void shr_grad_add(struct shr_grad *g, const struct shr_value *v, struct shr_value *dv);
void shr_grad_finish(struct shr_grad *g);

/* ── The rules (ops/grad_*.c), for the rows ─────────────────────────────────────────────────── */

#define SHR_BACKWARD(name) int shr_backward_##name(struct shr_grad *g, struct shr_err *err)

SHR_BACKWARD(add);
SHR_BACKWARD(sub);
SHR_BACKWARD(mul);
SHR_BACKWARD(div);
SHR_BACKWARD(pow);
SHR_BACKWARD(sum);
SHR_BACKWARD(where);
SHR_BACKWARD(neg);
SHR_BACKWARD(abs);
SHR_BACKWARD(erf);
SHR_BACKWARD(exp);
SHR_BACKWARD(log);
SHR_BACKWARD(sqrt);
SHR_BACKWARD(reciprocal);
SHR_BACKWARD(of_y); /* activations whose gradient follows from dy and y: Relu, Sigmoid, Tanh */
SHR_BACKWARD(of_x); /* … from dy and x: LeakyRelu, Elu, Gelu, HardSigmoid, HardSwish, … */
SHR_BACKWARD(gelu);
SHR_BACKWARD(clip);
SHR_BACKWARD(softmax);
SHR_BACKWARD(gemm);
SHR_BACKWARD(conv);
SHR_BACKWARD(conv_transpose);
SHR_BACKWARD(max_pool);
SHR_BACKWARD(average_pool);
SHR_BACKWARD(global_average_pool);
SHR_BACKWARD(global_max_pool);
SHR_BACKWARD(batch_norm);
SHR_BACKWARD(batch_norm_train);
SHR_BACKWARD(layer_norm);
SHR_BACKWARD(instance_norm);
SHR_BACKWARD(group_norm);
SHR_BACKWARD(random_mask);
SHR_BACKWARD(fake_quantize);
SHR_BACKWARD(rnn_train);
SHR_BACKWARD(pad);
SHR_BACKWARD(prelu);
SHR_BACKWARD(resize);
SHR_BACKWARD(matmul);
SHR_BACKWARD(same); /* the elements as they are, in another shape */
SHR_BACKWARD(cast);
SHR_BACKWARD(transpose);
SHR_BACKWARD(concat);
SHR_BACKWARD(split);
SHR_BACKWARD(slice);
SHR_BACKWARD(gather);
SHR_BACKWARD(expand);
SHR_BACKWARD(reduce_sum);
SHR_BACKWARD(reduce_mean);

/* ── Training forms, for the rows ───────────────────────────────────────────────────────────── */

int shr_training_batch_norm(struct shr_grad *g, struct shr_err *err);
int shr_training_dropout(struct shr_grad *g, struct shr_err *err);
int shr_training_lstm(struct shr_grad *g, struct shr_err *err);
int shr_training_gru(struct shr_grad *g, struct shr_err *err);

#endif
