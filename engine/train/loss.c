/* Emitting losses; see loss.h. */
#include "train/loss.h"

static int fail(struct shr_grad *g, int rc)
{
    g->rc = g->rc == SHR_OK ? rc : g->rc;
    return g->rc;
}

static struct shr_value *find(struct shr_grad *g, const char *name)
{
    struct shr_value *v = shr_graph_find(&g->model->graph, name);
    if (v == NULL || v->type.dtype != SHR_DTYPE_F32 || v->type.rank < 1) {
        fail(g, shr_err_set(g->err, SHR_ERR_NOT_FOUND,
                            "the model has no float32 value %s to learn from", name));
        return NULL;
    }
    return v;
}

static struct shr_value *add_input(struct shr_grad *g, const char *stem,
                                   const struct shr_type *type)
{
    struct shr_value *v = NULL;
    if (g->rc != SHR_OK ||
        fail(g, shr_graph_fresh_value(&g->model->graph, stem, &v, g->err)) != SHR_OK) {
        return NULL;
    }
    v->type = *type;
    return fail(g, shr_graph_add_input(&g->model->graph, v, g->err)) == SHR_OK ? v : NULL;
}

/* Losses are added up. */
static struct shr_value *plus(struct shr_grad *g, struct shr_value *a, struct shr_value *b)
{
    return a == NULL || b == NULL ? (a == NULL ? b : a) : SHR_GRAD_ONNX(g, "Add", a, b);
}

static struct shr_value *squares(struct shr_grad *g, struct shr_value *x, struct shr_value *y,
                                 float weight)
{
    struct shr_value *out[2];
    shr_grad_emit_many(g, SHR_TRAIN_DOMAIN, "SquaresLoss", SHR_GRAD_VALUES(x, y), out, 2);
    shr_grad_float(g, "weight", weight);
    shr_grad_add(g, x, out[1]);
    return out[0];
}

static struct shr_value *logits_loss(struct shr_grad *g, struct shr_loss *loss, struct shr_value *x,
                                     struct shr_value *labels, struct shr_value *teacher)
{
    struct shr_value *out[3];
    const bool kl = loss->soft == SHR_SOFT_KL;
    shr_grad_emit_many(g, SHR_TRAIN_DOMAIN, loss->binary ? "BinaryLoss" : "SoftmaxLoss",
                       SHR_GRAD_VALUES(x, labels, teacher), out, 3);
    shr_grad_float(g, "soft", kl ? loss->soft_weight : 0.0f);
    shr_grad_float(g, "hard", loss->hard_weight);
    shr_grad_float(g, "temperature", loss->temperature);
    shr_grad_float(g, "smoothing", loss->smoothing);
    shr_grad_add(g, x, out[1]);
    if (g->rc == SHR_OK &&
        fail(g, shr_graph_add_output(&g->model->graph, out[2], g->err)) == SHR_OK) {
        loss->hits = out[2]->name;
    }
    return kl || teacher == NULL ? out[0]
                                 : plus(g, out[0], squares(g, x, teacher, loss->soft_weight));
}

static struct shr_type labels_of(const struct shr_type *logits)
{
    struct shr_type t = {.dtype = SHR_DTYPE_I32, .rank = logits->rank - 1};
    for (int i = 0; i < t.rank; i++) {
        t.dim[i] = logits->dim[i];
    }
    return t;
}

struct shr_value *shr_loss_emit(struct shr_grad *g, void *user)
{
    struct shr_loss *loss = user;
    struct shr_value *x = find(g, loss->logits), *labels = NULL, *teacher = NULL;
    if (g->rc == SHR_OK && loss->hard_weight != 0.0f) {
        const struct shr_type type = labels_of(&x->type);
        labels = add_input(g, "labels", &type);
        loss->labels = labels == NULL ? NULL : labels->name;
    }
    if (g->rc == SHR_OK && loss->soft_weight != 0.0f) {
        teacher = add_input(g, "logits of the teacher", &x->type);
        loss->teacher = teacher == NULL ? NULL : teacher->name;
    }
    struct shr_value *total = g->rc != SHR_OK ? NULL : logits_loss(g, loss, x, labels, teacher);
    for (size_t i = 0; i < loss->n_hints && g->rc == SHR_OK; i++) {
        struct shr_value *of = find(g, loss->hints[i].student);
        struct shr_value *hint = of == NULL ? NULL : add_input(g, "hint", &of->type);
        if (hint != NULL) {
            loss->hints[i].input = hint->name;
            total = plus(g, total, squares(g, of, hint, loss->hints[i].weight));
        }
    }
    return total;
}

const char *shr_loss_logits(const struct shr_model *model)
{
    const struct shr_graph *g = &model->graph;
    const struct shr_value *out = g->n_outputs == 0 ? NULL : g->outputs[0];
    if (out == NULL) {
        return NULL;
    }
    const struct shr_node *node = out->producer;
    const bool squashes = shr_node_is(node, "Softmax") || shr_node_is(node, "Sigmoid") ||
                          shr_node_is(node, "LogSoftmax");
    const struct shr_value *in = squashes ? shr_node_in(node, 0) : NULL;
    return in != NULL ? in->name : out->name;
}
