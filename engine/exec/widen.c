/* Half precision: rows compute in float32 unless they say that they take float16 and bfloat16 as
 * they are (moves, casts, questions). Around any other node that has such a type, casts are put in:
 * its inputs become float32, its results are rounded back, as other runtimes do. Casts of constants
 * are folded afterwards. float64 is never narrowed: rows take it, or say that they do not.
 *
 * Runs on the plan's clone, whose types are inferred. Thread: as the plan. */
#include "exec/step.h"

static bool is_half(const struct shr_value *v)
{
    return v != NULL && (v->type.dtype == SHR_DTYPE_F16 || v->type.dtype == SHR_DTYPE_BF16);
}

/* A Cast in front of `before`, from one value to another, whose types are set. */
static int add_cast(struct shr_model *model, struct shr_node *before, struct shr_value *from,
                    struct shr_value *to, struct shr_err *err)
{
    struct shr_node *cast;
    int rc =
        shr_graph_add_node(&model->graph, before, "", "Cast", "", &from, 1, &to, 1, &cast, err);
    if (rc == SHR_OK) {
        rc = shr_node_set_int(&model->graph, cast, "to", to->type.dtype, err);
    }
    if (rc == SHR_OK) {
        cast->op = shr_op_find("", "Cast", shr_model_opset(model, ""));
    }
    return rc;
}

static int wide_value(struct shr_model *model, const struct shr_value *like, struct shr_value **ret,
                      struct shr_err *err)
{
    int rc = shr_graph_fresh_value(&model->graph, like->name, ret, err);
    if (rc == SHR_OK) {
        (*ret)->type = like->type;
        (*ret)->type.dtype = SHR_DTYPE_F32;
    }
    return rc;
}

static int widen_input(struct shr_model *model, struct shr_node *node, size_t slot,
                       struct shr_err *err)
{
    struct shr_value *v = node->in[slot].value, *wide;
    int rc = wide_value(model, v, &wide, err);
    if (rc == SHR_OK) {
        rc = add_cast(model, node, v, wide, err);
    }
    if (rc == SHR_OK) {
        shr_node_set_input(node, slot, wide);
    }
    return rc;
}

static int narrow_output(struct shr_model *model, struct shr_node *node, size_t slot,
                         struct shr_err *err)
{
    struct shr_value *v = node->out[slot], *wide;
    int rc = wide_value(model, v, &wide, err);
    if (rc != SHR_OK) {
        return rc;
    }
    v->producer = NULL;
    node->out[slot] = wide;
    wide->producer = node;
    wide->producer_slot = slot;
    return add_cast(model, node->next, wide, v, err);
}

static int widen_node(struct shr_model *model, struct shr_node *node, struct shr_err *err)
{
    int rc = SHR_OK;
    for (size_t i = 0; i < node->n_in && rc == SHR_OK; i++) {
        rc = is_half(node->in[i].value) ? widen_input(model, node, i, err) : SHR_OK;
    }
    for (size_t i = 0; i < node->n_out && rc == SHR_OK; i++) {
        rc = is_half(node->out[i]) ? narrow_output(model, node, i, err) : SHR_OK;
    }
    return rc;
}

int shr__plan_widen(struct shr_model *model, struct shr_err *err)
{
    for (struct shr_node *node = model->graph.first_node, *next; node != NULL; node = next) {
        next = node->next;
        int rc = node->op == NULL || node->op->halves ? SHR_OK : widen_node(model, node, err);
        if (rc != SHR_OK) {
            return rc;
        }
    }
    return SHR_OK;
}
