/* LSTM in quantize_dynamic: com.microsoft's DynamicQuantizeLSTM, in the form and with the names of
 * ONNX Runtime's tool. What that operator has no attribute for, or runtimes compute in ways of
 * their own (layout, clip, activations), stays in float. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "passes/dynamic.h"

enum { W = 1, R, SHARED_SLOTS = 8, W_SCALE = SHARED_SLOTS, W_ZERO, R_SCALE, R_ZERO, SLOTS };

static bool has_default_activations(const struct shr_node *node)
{
    static const char *const defaults[] = {"sigmoid", "tanh", "tanh"};
    const struct shr_attr *a = shr_node_attr(node, "activations");
    for (size_t i = 0; a != NULL && i < a->n; i++) {
        if (strcasecmp(a->strings[i].s, defaults[i % 3]) != 0) {
            return false;
        }
    }
    return true;
}

static bool is_weight(const struct shr_value *v)
{
    return v->constant.dtype == SHR_DTYPE_F32 && v->constant.rank == 3 &&
           shr_tensor_count(&v->constant) > 0;
}

const char *shr_dynamic_lstm_obstacle(const struct shr_node *node)
{
    const struct shr_value *w = shr_node_in(node, W), *r = shr_node_in(node, R);
    if (!shr_value_is_constant(w) || !shr_value_is_constant(r)) {
        return "its weights are not constant";
    }
    if (!is_weight(w) || !is_weight(r)) {
        return "its weights are not float32 of (directions, gates, inputs)";
    }
    if (shr_node_int(node, "layout", 0) != 0) {
        return "its quantized form has no layout 1";
    }
    if (shr_node_attr(node, "clip") != NULL) {
        return "its sums are clipped";
    }
    if (!has_default_activations(node)) {
        return "its activations are not Sigmoid, Tanh, Tanh";
    }
    if (!shr_edit_all_finite(&w->constant) || !shr_edit_all_finite(&r->constant)) {
        return "one of its weights is not finite";
    }
    return NULL;
}

static int set_attributes(struct shr_graph *g, struct shr_node *node, const char *direction,
                          int64_t hidden, bool coupled, struct shr_err *err)
{
    int code = shr_node_set_text(g, node, "direction", direction, err);
    if (code == SHR_OK) {
        code = shr_node_set_int(g, node, "hidden_size", hidden, err);
    }
    if (code == SHR_OK && coupled) {
        code = shr_node_set_int(g, node, "input_forget", 1, err);
    }
    return code;
}

/* The node in the place of the LSTM, with its outputs. */
static int replace(struct shr_dynamic *d, struct shr_node *node, struct shr_value *const *in,
                   struct shr_err *err)
{
    const char *stem = node->name[0] != 0 ? node->name : shr_node_in(node, W)->name;
    const char *direction = shr_node_text(node, "direction", "forward");
    bool coupled = shr_node_int(node, "input_forget", 0) != 0;
    int64_t hidden = shr_node_in(node, R)->constant.dim[2];
    struct shr_node *next = node->next, *added = NULL;
    struct shr_value *out[3] = {0};
    size_t n_out = node->n_out < SHR_COUNT_OF(out) ? node->n_out : SHR_COUNT_OF(out);
    for (size_t i = 0; i < n_out; i++) {
        out[i] = node->out[i];
    }
    char name[512];
    snprintf(name, sizeof name, "%.480s_quant", stem);
    shr_graph_remove_node(d->g, node);
    int code = shr_graph_add_node(d->g, next, "com.microsoft", "DynamicQuantizeLSTM", name, in,
                                  SLOTS, out, n_out, &added, err);
    return code == SHR_OK ? set_attributes(d->g, added, direction, hidden, coupled, err) : code;
}

int shr_dynamic_lstm(struct shr_dynamic *d, struct shr_node *node, struct shr_err *err)
{
    struct shr_dynamic_weight w = {0}, r = {0};
    int code = shr_model_import(d->model, "com.microsoft", 1, err);
    if (code == SHR_OK) {
        code = shr_dynamic_recurrent(d, shr_node_in(node, W), &w, err);
    }
    if (code == SHR_OK) {
        code = shr_dynamic_recurrent(d, shr_node_in(node, R), &r, err);
    }
    if (code != SHR_OK) {
        return code;
    }
    struct shr_value *in[SLOTS] = {0};
    for (size_t i = 0; i < SHARED_SLOTS; i++) {
        in[i] = shr_node_in(node, i);
    }
    in[W] = w.q;
    in[R] = r.q;
    in[W_SCALE] = w.scale;
    in[W_ZERO] = w.zero;
    in[R_SCALE] = r.scale;
    in[R_ZERO] = r.zero;
    return replace(d, node, in, err);
}
