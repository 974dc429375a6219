/* Training forms of LSTM and GRU, and their backward rule. */
#include "ops/grad.h"

#include <string.h>

#include "ops/recurrent.h"

static struct shr_value *in(struct shr_grad *g, size_t slot)
{
    return shr_node_in(g->node, slot);
}

static int refuse(struct shr_grad *g, const char *what, struct shr_err *err)
{
    return shr_op_fail(g->node, err, SHR_ERR_UNSUPPORTED, "is not trained with %s", what);
}

/* Are all lengths those of the sequence? */
static bool all_whole(const struct shr_value *lengths, int64_t seq)
{
    bool whole = lengths == NULL || shr_value_is_constant(lengths);
    for (int64_t i = 0; whole && lengths != NULL && i < shr_tensor_count(&lengths->constant); i++) {
        whole = (int64_t)shr_tensor_get(&lengths->constant, i) == seq;
    }
    return whole;
}

static bool has_default_activations(const struct shr_node *node, bool lstm)
{
    static const char *const DEFAULTS[] = {"Sigmoid", "Tanh", "Tanh"};
    const struct shr_attr *names = shr_node_attr(node, "activations");
    const size_t each = lstm ? 3 : 2;
    bool same = true;
    for (size_t i = 0; names != NULL && names->kind == SHR_ATTR_STRINGS && i < names->n; i++) {
        same = same && strcmp(names->strings[i].s, DEFAULTS[i % each]) == 0;
    }
    return same;
}

static int check(struct shr_grad *g, bool lstm, struct shr_err *err)
{
    const struct shr_node *node = g->node;
    if (shr_node_int(node, "layout", 0) != 0) {
        return refuse(g, "layout 1", err);
    }
    if (!has_default_activations(node, lstm)) {
        return refuse(g, "other activations than the default", err);
    }
    if (shr_node_float(node, "clip", 0.0f) > 0.0f) {
        return refuse(g, "clip", err);
    }
    if (lstm && (shr_node_int(node, "input_forget", 0) != 0 || in(g, SHR_RNN_P) != NULL)) {
        return refuse(g, "coupled gates or peepholes", err);
    }
    if (!lstm && shr_node_int(node, "linear_before_reset", 0) == 0) {
        return refuse(g, "linear_before_reset = 0", err);
    }
    if (!all_whole(in(g, SHR_RNN_LENGTHS), in(g, SHR_RNN_X)->type.dim[0])) {
        return refuse(g, "sequences of different lengths", err);
    }
    return SHR_OK;
}

static int form(struct shr_grad *g, bool lstm, struct shr_err *err)
{
    int rc = check(g, lstm, err);
    if (rc != SHR_OK) {
        return rc;
    }
    struct shr_value *out[5];
    struct shr_value *const operands[] = {in(g, SHR_RNN_X),  in(g, SHR_RNN_W),
                                          in(g, SHR_RNN_R),  in(g, SHR_RNN_B),
                                          in(g, SHR_RNN_H0), lstm ? in(g, SHR_RNN_C0) : NULL};
    shr_grad_emit_many(g, SHR_TRAIN_DOMAIN, lstm ? "LSTMTrain" : "GRUTrain", operands, 6, out, 5);
    if (strcmp(shr_node_text(g->node, "direction", "forward"), "reverse") == 0) {
        shr_grad_int(g, "reverse", 1);
    }
    for (size_t i = 0; i < (lstm ? 3 : 2); i++) {
        shr_grad_replace(g, i, out[i]);
    }
    return g->rc;
}

int shr_training_lstm(struct shr_grad *g, struct shr_err *err)
{
    return form(g, true, err);
}

int shr_training_gru(struct shr_grad *g, struct shr_err *err)
{
    return form(g, false, err);
}

/* LSTMTrain, GRUTrain */
SHR_BACKWARD(rnn_train)
{
    (void)err;
    const struct shr_node *node = g->node;
    struct shr_value *out[6];
    struct shr_value *const operands[] = {shr_grad_of(g, 0),
                                          shr_grad_of(g, 1),
                                          shr_grad_of(g, 2),
                                          in(g, 0),
                                          in(g, 1),
                                          in(g, 2),
                                          in(g, 3),
                                          in(g, 4),
                                          in(g, 5),
                                          shr_node_out(node, 0),
                                          shr_node_out(node, 3),
                                          shr_node_out(node, 4)};
    shr_grad_emit_many(g, SHR_TRAIN_DOMAIN,
                       strcmp(node->op_type, "LSTMTrain") == 0 ? "LSTMGrad" : "GRUGrad", operands,
                       12, out, 6);
    shr_grad_attrs(g, node);
    shr_grad_int(g, "input_gradient", shr_grad_wants(g, 0));
    for (size_t i = 0; i < 6; i++) {
        shr_grad_give(g, i, out[i]);
    }
    return g->rc;
}
