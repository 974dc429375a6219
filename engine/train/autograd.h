/* Training graphs: forward and backward in one model.
 *
 * From a model, the names of initializers to train and a loss comes a model of fixed shapes whose
 * true inputs are those of the model, what the loss added, and the parameters, and whose outputs
 * are the loss, the gradients and new states. The executor runs it like any other; whoever trains
 * gives parameters and gradients memory of their own (shr_plan_opts.bytes).
 *
 * DESIGN. Reverse-mode differentiation over the graph: the nodes are walked backwards, and each
 * through which the loss depends on a parameter asks its row for nodes that compute the gradients
 * of its inputs. Thread: one at a time. */
#ifndef SHR_TRAIN_AUTOGRAD_H
#define SHR_TRAIN_AUTOGRAD_H

#include "ops/grad.h"

/* Emits the loss, a scalar, and returns it; gives the gradients of the values that it is computed
 * from with shr_grad_add. */
typedef struct shr_value *(*shr_loss_fn)(struct shr_grad *g, void *user);

struct shr_autograd_opts {
    const struct shr_type *inputs; /* exact, one a true input, in order */
    const char *const *params;     /* float32 initializers */
    size_t n_params;
    bool training;     /* nodes take their training form, where they have one: BatchNormalization */
    bool forward_only; /* the loss alone, to look how good the parameters are */
    shr_loss_fn loss;
    void *user;
};

struct shr_autograd_state {
    const char *name, *update; /* an input, and the output that it becomes after a step */
};

struct shr_autograd {        /* all zero = empty; names are the model's */
    struct shr_model *model; /* the training graph */
    const char *loss;
    const char *random; /* the input of shr_grad_random; NULL = nothing is random */
    size_t n_params;
    const char **gradients; /* (n_params) NULL = the loss does not depend on it */
    size_t n_states;
    struct shr_autograd_state *states;
};

/* UNSUPPORTED names the first operator that has no gradient, and its node. */
int shr_autograd_init(struct shr_autograd *ret, const struct shr_model *model,
                      const struct shr_autograd_opts *opts, struct shr_err *err) SHR_MUSTCHECK;
void shr_autograd_finish(struct shr_autograd *a);

#endif
