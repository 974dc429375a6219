/* Constant folding: what does not depend on an input is computed once and stored.
 *
 * The nodes to fold are cut out as a model of their own and run by the executor. Not folded: what
 * would make the model larger (Expand of one number), DequantizeLinear, whose small input is the
 * point of it, and float16 arithmetic, which does not run here. */
#include "base/mem.h"
#include "base/vec.h"
#include "exec/plan.h"
#include "passes/edit.h"

enum {
    FREE_BYTES = 1024, /* growth that does not matter */
    GROWTH = 4         /* what all results together may take, in bytes of the constants */
};

struct fold {
    size_t room;           /* bytes left for results */
    struct shr_map values; /* those that will be known, by name */
    SHR_VEC(struct shr_value *) wanted;
};

static bool is_known(const struct fold *f, const struct shr_value *v)
{
    return v == NULL || shr_value_is_constant(v) || shr_map_get(&f->values, v->name) != NULL;
}

/* Bytes of a value with a known type; SIZE_MAX when it is not known. */
static size_t bytes_of(const struct shr_value *v)
{
    int64_t count = 0;
    size_t bytes = 0;
    if (v->type.rank < 0 || !shr_dims_count(v->type.rank, v->type.dim, &count) ||
        shr_dtype_size(v->type.dtype) == 0 ||
        !shr_size_mul((size_t)count, shr_dtype_size(v->type.dtype), &bytes)) {
        return SIZE_MAX;
    }
    return bytes;
}

static bool is_short_float(const struct shr_value *v)
{
    return v != NULL && (v->type.dtype == SHR_DTYPE_F16 || v->type.dtype == SHR_DTYPE_BF16);
}

static bool can_fold(const struct fold *f, const struct shr_node *node)
{
    if (node->op == NULL || node->n_in == 0 || shr_node_is(node, "DequantizeLinear")) {
        return false;
    }
    size_t before = FREE_BYTES, after = 0;
    for (size_t i = 0; i < node->n_in; i++) {
        const struct shr_value *v = shr_node_in(node, i);
        if (!is_known(f, v) || is_short_float(v)) {
            return false;
        }
        before += v != NULL ? bytes_of(v) : 0;
    }
    for (size_t i = 0; i < node->n_out; i++) {
        const struct shr_value *v = shr_node_out(node, i);
        if (v != NULL && (v->is_output || v->captured || bytes_of(v) > before ||
                          bytes_of(v) > f->room - after)) {
            return false;
        }
        after += v != NULL ? bytes_of(v) : 0;
    }
    return true;
}

static bool is_folded(const struct fold *f, const struct shr_node *node)
{
    for (size_t i = 0; i < node->n_out; i++) {
        if (node->out[i] != NULL && shr_map_get(&f->values, node->out[i]->name) != NULL) {
            return true;
        }
    }
    return false;
}

static bool read_by_others(const struct fold *f, struct shr_value *v)
{
    SHR_EACH_USE (use, v) {
        if (!is_folded(f, use->node)) {
            return true;
        }
    }
    return false;
}

static int find(struct fold *f, struct shr_graph *g, struct shr_err *err)
{
    f->room = FREE_BYTES;
    SHR_EACH_VALUE (v, g) {
        f->room += shr_value_is_constant(v) ? GROWTH * shr_tensor_bytes(&v->constant) : 0;
    }
    SHR_EACH_NODE (node, g) {
        bool folds = can_fold(f, node);
        for (size_t i = 0; i < node->n_out && folds; i++) {
            struct shr_value *v = shr_node_out(node, i);
            int code = v != NULL ? shr_map_put(&f->values, v->name, v, err) : SHR_OK;
            if (code != SHR_OK) {
                return code;
            }
            f->room -= v != NULL ? bytes_of(v) : 0;
        }
    }
    SHR_EACH_NODE (node, g) {
        for (size_t i = 0; i < node->n_out; i++) {
            struct shr_value *v = shr_node_out(node, i);
            if (v == NULL || shr_map_get(&f->values, v->name) == NULL || !read_by_others(f, v)) {
                continue;
            }
            struct shr_value **added = SHR_VEC_ADD(&f->wanted);
            if (added == NULL) {
                return shr_err_set(err, SHR_ERR_NOMEM, "out of memory while constants are folded");
            }
            *added = v;
        }
    }
    return SHR_OK;
}

/* A model without inputs whose outputs are the wanted values. */
static int cut_out(const struct fold *f, const struct shr_model *model, struct shr_model **ret,
                   struct shr_err *err)
{
    struct shr_model *part = NULL;
    int code = shr_model_clone(model, &part, err);
    if (code != SHR_OK) {
        return code;
    }
    struct shr_graph *g = &part->graph;
    SHR_EACH_VALUE (v, g) {
        v->is_input = v->is_output = v->captured = false;
    }
    g->n_inputs = g->n_outputs = 0;
    for (size_t i = 0; i < f->wanted.n && code == SHR_OK; i++) {
        code = shr_graph_add_output(g, shr_graph_find(g, f->wanted.v[i]->name), err);
    }
    if (code != SHR_OK) {
        shr_model_free(part);
        return code;
    }
    shr_graph_drop_unused(g);
    *ret = part;
    return SHR_OK;
}

static int adopt(struct fold *f, struct shr_graph *g, const struct shr_plan *plan,
                 struct shr_report *report, struct shr_err *err)
{
    for (size_t i = 0; i < f->wanted.n; i++) {
        struct shr_value *v = f->wanted.v[i];
        struct shr_tensor copy = shr_tensor_ref(shr_plan_output(plan, i));
        int code = shr_tensor_own(&copy, err); /* the plan's bytes end with the plan */
        if (code != SHR_OK) {
            shr_tensor_finish(&copy);
            return code;
        }
        if (v->producer != NULL) {
            shr_graph_remove_node(g, v->producer);
        }
        shr_value_set_constant(v, copy);
        struct shr_note *note =
            shr_report_note(report, SHR_NOTE_DONE, v->name, "computed once and stored");
        shr_note_figure(note, "bytes", (double)shr_tensor_bytes(&v->constant));
    }
    return SHR_OK;
}

/* Computes the wanted values. What cannot be computed (an index out of range, a type that does not
 * run here) is no reason to refuse the model: the nodes stay. */
static int compute(const struct fold *f, const struct shr_model *model, struct shr_report *report,
                   struct shr_model **ret_part, struct shr_plan **ret_plan, struct shr_err *err)
{
    struct shr_plan *plan = NULL;
    struct shr_err why = {0};
    int code = cut_out(f, model, ret_part, err);
    if (code != SHR_OK) {
        return code;
    }
    code = shr_plan_new(*ret_part, &(struct shr_plan_opts){.no_fuse = true}, &plan, &why);
    if (code == SHR_OK) {
        code = shr_plan_run(plan, NULL, &why);
    }
    if (code == SHR_OK) {
        *ret_plan = plan;
        return SHR_OK;
    }
    shr_plan_free(plan);
    if (code == SHR_ERR_UNSUPPORTED || code == SHR_ERR_INVALID || code == SHR_ERR_LIMIT) {
        shr_report_note(report, SHR_NOTE_SKIPPED, "", "constants were not computed: %s", why.msg);
        return SHR_OK;
    }
    return shr_err_set(err, code, "%s", why.msg);
}

int shr_fold_constants(struct shr_model *model, struct shr_report *report, struct shr_err *err)
{
    struct fold f = {0};
    struct shr_model *part = NULL;
    struct shr_plan *plan = NULL;
    int code = find(&f, &model->graph, err);
    if (code != SHR_OK || f.wanted.n == 0) {
        goto out;
    }
    code = compute(&f, model, report, &part, &plan, err);
    if (code == SHR_OK && plan != NULL) {
        code = adopt(&f, &model->graph, plan, report, err);
    }
out:
    shr_plan_free(plan);
    shr_model_free(part);
    SHR_VEC_FINISH(&f.wanted);
    shr_map_finish(&f.values);
    return code;
}
