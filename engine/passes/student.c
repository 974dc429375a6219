/* Making students; see student.h. */
#include "passes/student.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "train/init.h"

enum { OPSET = 17, IR_VERSION = 8 };

/* ── Perceptrons ────────────────────────────────────────────────────────────────────────────── */

struct mlp {
    struct shr_model *model;
    struct shr_value *last; /* (N, width) */
    int64_t width;
    struct shr_rng rng;
    size_t layers;
};

static int add_node(struct mlp *m, const char *op, const char *name, const char *out,
                    struct shr_value *const *in, size_t n_in, struct shr_node **ret,
                    struct shr_err *err)
{
    struct shr_value *v;
    int rc = shr_graph_fresh_value(&m->model->graph, out, &v, err);
    if (rc == SHR_OK) {
        rc = shr_graph_add_node(&m->model->graph, NULL, "", op, name, in, n_in, &v, 1, ret, err);
    }
    if (rc == SHR_OK) {
        m->last = v;
    }
    return rc;
}

static int add_weight(struct mlp *m, const char *name, int rank, const int64_t *dim,
                      struct shr_value **ret, struct shr_err *err)
{
    struct shr_tensor t;
    int rc = shr_tensor_new(SHR_DTYPE_F32, rank, dim, &t, err);
    if (rc != SHR_OK) {
        return rc;
    }
    shr_init_uniform(t.data, (size_t)shr_tensor_count(&t), m->width, &m->rng);
    return shr_graph_add_constant(&m->model->graph, name, t, ret, err);
}

static char *layer_name(struct mlp *m, const char *what)
{
    char *name = shr_arena_new(m->model->graph.arena, 1, 48);
    if (name != NULL) {
        snprintf(name, 48, "fc%zu%s", m->layers, what);
    }
    return name;
}

/* y = x W^T + b, W (width, width of x) */
static int add_layer(struct mlp *m, int64_t width, bool relu, struct shr_err *err)
{
    m->layers++;
    char *node = layer_name(m, ""), *weight = layer_name(m, ".weight"),
         *bias = layer_name(m, ".bias"), *out = layer_name(m, ".out"),
         *act = layer_name(m, ".relu");
    if (node == NULL || weight == NULL || bias == NULL || out == NULL || act == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a student");
    }
    struct shr_value *in[3] = {m->last};
    struct shr_node *gemm = NULL, *unused;
    int rc = add_weight(m, weight, 2, (const int64_t[]){width, m->width}, &in[1], err);
    rc = rc == SHR_OK ? add_weight(m, bias, 1, &width, &in[2], err) : rc;
    rc = rc == SHR_OK ? add_node(m, "Gemm", node, out, in, 3, &gemm, err) : rc;
    rc = rc == SHR_OK ? shr_node_set_int(&m->model->graph, gemm, "transB", 1, err) : rc;
    m->width = width;
    return rc == SHR_OK && relu ? add_node(m, "Relu", act, act, &m->last, 1, &unused, err) : rc;
}

/* The teacher's one input, whose samples become rows of features. */
static int add_input(struct mlp *m, const struct shr_model *teacher, const struct shr_dataset *data,
                     struct shr_err *err)
{
    const struct shr_value *in = NULL;
    for (size_t i = 0; i < teacher->graph.n_inputs; i++) {
        const struct shr_value *v = teacher->graph.inputs[i];
        if (shr_value_is_constant(v)) {
            continue;
        }
        if (in != NULL || v->type.dtype != SHR_DTYPE_F32) {
            return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                               "student.mlp: needs a teacher with one input, of float32");
        }
        in = v;
    }
    struct shr_feed *feed = NULL;
    int rc = shr_feed_new(data, teacher, &feed, err);
    if (rc != SHR_OK) {
        return rc;
    }
    struct shr_type type;
    struct shr_value *v;
    shr_feed_type(feed, 0, 1, &type);
    shr_feed_free(feed);
    rc = shr_graph_add_value(&m->model->graph, in->name, &v, err);
    rc = rc == SHR_OK ? shr_graph_add_input(&m->model->graph, v, err) : rc;
    if (rc != SHR_OK) {
        return rc;
    }
    int64_t count;
    v->type = type;
    v->type.dim[0] = -1;
    v->type.sym[0] = "N";
    v->was_declared = true;
    if (!shr_dims_count(type.rank - 1, type.dim + 1, &count) || count < 1) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "student.mlp: input %s has no features",
                           in->name);
    }
    m->last = v;
    m->width = count;
    struct shr_node *unused;
    return type.rank == 2 ? SHR_OK : add_node(m, "Flatten", "flatten", "flat", &v, 1, &unused, err);
}

/* The last value takes the name of the teacher's output, behind the same Softmax if there is one.
 */
static int add_output(struct mlp *m, const struct shr_value *out, struct shr_err *err)
{
    const struct shr_node *last = out->producer;
    struct shr_node *node;
    int rc = shr_node_is(last, "Softmax") || shr_node_is(last, "Sigmoid")
                 ? add_node(m, last->op_type, last->op_type, "squashed", &m->last, 1, &node, err)
                 : SHR_OK;
    if (rc != SHR_OK) {
        return rc;
    }
    struct shr_value *named;
    rc = shr_graph_add_value(&m->model->graph, out->name, &named, err);
    if (rc == SHR_OK) {
        node = m->last->producer;
        const struct shr_node was = *node;
        struct shr_value *in[3] = {shr_node_in(node, 0), shr_node_in(node, 1),
                                   shr_node_in(node, 2)};
        struct shr_value *before = m->last;
        shr_graph_remove_node(&m->model->graph, node);
        shr_graph_remove_value(&m->model->graph, before);
        rc = shr_graph_add_node(&m->model->graph, NULL, "", was.op_type, was.name, in, was.n_in,
                                &named, 1, &node, err);
        node->attrs = was.attrs;
    }
    if (rc == SHR_OK) {
        named->type = (struct shr_type){.dtype = SHR_DTYPE_F32, .rank = 2, .dim = {-1, m->width}};
        named->type.sym[0] = "N";
        named->was_declared = true;
        rc = shr_graph_add_output(&m->model->graph, named, err);
    }
    return rc;
}

int shr_student_mlp(const struct shr_model *teacher, const struct shr_dataset *data,
                    const int64_t *widths, size_t n_widths, uint64_t seed, struct shr_model **ret,
                    struct shr_err *err)
{
    const struct shr_graph *g = &teacher->graph;
    const struct shr_value *out = g->n_outputs == 0 ? NULL : g->outputs[0];
    const struct shr_type *type = out == NULL ? NULL : &out->type;
    if (type == NULL || type->rank != 2 || type->dim[1] < 1) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "student.mlp: needs a teacher whose output is one row of classes a "
                           "sample");
    }
    struct mlp m = {.model = shr_model_new()};
    if (m.model == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a student");
    }
    m.model->ir_version = IR_VERSION;
    shr_rng_init(&m.rng, seed);
    int rc = shr_model_import(m.model, "", OPSET, err);
    rc = rc == SHR_OK ? add_input(&m, teacher, data, err) : rc;
    for (size_t i = 0; i < n_widths && rc == SHR_OK; i++) {
        rc = add_layer(&m, widths[i], true, err);
    }
    rc = rc == SHR_OK ? add_layer(&m, type->dim[1], false, err) : rc;
    rc = rc == SHR_OK ? add_output(&m, out, err) : rc;
    if (rc != SHR_OK) {
        shr_model_free(m.model);
        return rc;
    }
    shr_model_resolve(m.model);
    *ret = m.model;
    return SHR_OK;
}

/* ── The teacher, narrower ──────────────────────────────────────────────────────────────────── */

int shr_student_shrink(const struct shr_pass_call *call, double share, struct shr_model **ret,
                       struct shr_err *err)
{
    struct shr_args args;
    int rc = shr_args_init(&args, &shr_pass_prune_structured, err);
    if (rc != SHR_OK) {
        return rc;
    }
    struct shr_pass_call prune = *call;
    prune.args = &args;
    rc = shr_args_set_float(&args, "amount", 1 - share, err);
    rc = rc == SHR_OK ? shr_pass_run(&shr_pass_prune_structured, &prune, err) : rc;
    shr_args_finish(&args);
    if (rc == SHR_OK) {
        *ret = prune.ret_model;
    }
    return rc;
}

/* ── Models that are there ──────────────────────────────────────────────────────────────────── */

/* Open dimensions may be anything. */
static bool agree(const struct shr_type *a, const struct shr_type *b)
{
    bool same = a->dtype == b->dtype && (a->rank < 0 || b->rank < 0 || a->rank == b->rank);
    for (int i = 0; same && a->rank == b->rank && i < a->rank; i++) {
        same = a->dim[i] < 0 || b->dim[i] < 0 || a->dim[i] == b->dim[i];
    }
    return same;
}

int shr_student_check(const struct shr_model *teacher, const struct shr_model *student,
                      struct shr_err *err)
{
    const struct shr_graph *a = &teacher->graph, *b = &student->graph;
    if (a->n_outputs == 0 || b->n_outputs == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s has no output",
                           a->n_outputs == 0 ? "the teacher" : "the student");
    }
    const struct shr_value *said = a->outputs[0], *says = b->outputs[0];
    if (!agree(&said->type, &says->type)) {
        char have[96], want[96];
        return shr_err_set(err, SHR_ERR_INVALID,
                           "its output %s is %s of %s, and the teacher's %s is %s of %s",
                           says->name, shr_dtype_name(says->type.dtype),
                           shr_dims_text(says->type.rank, says->type.dim, have, sizeof have),
                           said->name, shr_dtype_name(said->type.dtype),
                           shr_dims_text(said->type.rank, said->type.dim, want, sizeof want));
    }
    return SHR_OK;
}
