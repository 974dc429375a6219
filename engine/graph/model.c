/* The model around the graph: life, opsets, metadata and the summary for people. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "graph/graph.h"

enum { NEW_IR_VERSION = 8 }; /* ONNX 1.12; goes with opset 13 and later */

struct shr_model *shr_model_new(void)
{
    struct shr_model *model = shr_mem_new(1, sizeof *model);
    if (model != NULL) {
        model->graph.arena = &model->arena;
        model->graph.name = "";
        model->ir_version = NEW_IR_VERSION;
        model->producer_name = model->producer_version = model->domain = model->doc = "";
    }
    return model;
}

static void kept_unref(struct shr_kept *kept)
{
    if (kept != NULL && atomic_fetch_sub_explicit(&kept->readers, 1, memory_order_acq_rel) == 1) {
        shr_arena_finish(&kept->arena);
        shr_mem_free(kept);
    }
}

void shr_model_free(struct shr_model *model)
{
    if (model == NULL) {
        return;
    }
    SHR_EACH_VALUE (v, &model->graph) {
        shr_tensor_finish(&v->constant);
    }
    SHR_EACH_NODE (node, &model->graph) {
        for (struct shr_attr *attr = node->attrs; attr != NULL; attr = attr->next) {
            shr_tensor_finish(&attr->tensor);
            shr_model_free(attr->body);
        }
    }
    shr_map_finish(&model->graph.values);
    kept_unref(model->kept);
    shr_arena_finish(&model->arena);
    shr_mem_free(model);
}

static struct shr_opset *find_opset(const struct shr_model *model, const char *domain)
{
    struct shr_opset *opset = model->opsets;
    while (opset != NULL && strcmp(opset->domain, domain) != 0) {
        opset = opset->next;
    }
    return opset;
}

int64_t shr_model_opset(const struct shr_model *model, const char *domain)
{
    const struct shr_opset *opset = find_opset(model, domain);
    return opset == NULL ? 0 : opset->version;
}

int shr_model_import(struct shr_model *model, const char *domain, int64_t version,
                     struct shr_err *err)
{
    struct shr_opset *opset = find_opset(model, domain);
    if (opset == NULL) {
        opset = shr_arena_new(&model->arena, 1, sizeof *opset);
        const char *copy = shr_arena_strdup(&model->arena, domain);
        if (opset == NULL || copy == NULL) {
            return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for an opset import");
        }
        opset->domain = copy;
        struct shr_opset **end = &model->opsets;
        while (*end != NULL) {
            end = &(*end)->next;
        }
        *end = opset;
    }
    if (opset->version < version) {
        opset->version = version;
    }
    return SHR_OK;
}

int shr_model_set_metadata(struct shr_model *model, const char *key, const char *value,
                           struct shr_err *err)
{
    struct shr_metadata **at = &model->metadata;
    while (*at != NULL && strcmp((*at)->key, key) != 0) {
        at = &(*at)->next;
    }
    const char *copy = shr_arena_strdup(&model->arena, value);
    if (copy != NULL && *at != NULL) {
        (*at)->value = copy;
        return SHR_OK;
    }
    struct shr_metadata *entry = shr_arena_new(&model->arena, 1, sizeof *entry);
    const char *key_copy = shr_arena_strdup(&model->arena, key);
    if (copy == NULL || entry == NULL || key_copy == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the metadata '%s'", key);
    }
    entry->key = key_copy;
    entry->value = copy;
    *at = entry;
    return SHR_OK;
}

/* ── Parameters ─────────────────────────────────────────────────────────────────────────────── */

/* The quantized operators, and which of their inputs are data rather than scales and zero points:
 * a property of the formats that ONNX and ONNX Runtime define, needed for operators that have no
 * row in the operator table too. */
static const struct {
    const char *domain, *op_type;
    unsigned data_slots; /* bits */
} quantized_ops[] = {
    {"", "QuantizeLinear", 1u << 0},
    {"", "DequantizeLinear", 1u << 0},
    {"", "DynamicQuantizeLinear", 1u << 0},
    {"", "MatMulInteger", 1u << 0 | 1u << 1},
    {"", "ConvInteger", 1u << 0 | 1u << 1},
    {"", "QLinearMatMul", 1u << 0 | 1u << 3},
    {"", "QLinearConv", 1u << 0 | 1u << 3 | 1u << 8},
    {"com.microsoft", "QGemm", 1u << 0 | 1u << 3 | 1u << 6},
    {"com.microsoft", "DynamicQuantizeLSTM", 1u << 0 | 1u << 1 | 1u << 2 | 1u << 3},
    {"com.microsoft", "DynamicQuantizeMatMul", 1u << 0 | 1u << 1 | 1u << 4},
    {"com.microsoft", "MatMulIntegerToFloat", 1u << 0 | 1u << 1 | 1u << 6},
    {"com.microsoft", "GatherBlockQuantized", 1u << 0},
    {"com.microsoft", "MatMulNBits", 1u << 0 | 1u << 1 | 1u << 5},
    {"com.microsoft", "QuantizeLinear", 1u << 0},
    {"com.microsoft", "DequantizeLinear", 1u << 0},
    {"com.microsoft", "QLinearAdd", 1u << 0 | 1u << 3},
    {"com.microsoft", "QLinearMul", 1u << 0 | 1u << 3},
    {"com.microsoft", "QLinearAveragePool", 1u << 0},
    {"com.microsoft", "QLinearGlobalAveragePool", 1u << 0},
    {"com.microsoft", "QLinearSigmoid", 1u << 0},
    {"com.microsoft", "QLinearLeakyRelu", 1u << 0},
    {"com.microsoft", "QLinearSoftmax", 1u << 0},
    {"com.microsoft", "QLinearConcat", 0x24924924u}, /* every third from 2 on */
};

/* The product of the scales of a dynamically quantized activation and its weight. */
static bool multiplies_scale(const struct shr_node *node)
{
    for (size_t i = 0; shr_node_is(node, "Mul") && i < node->n_in; i++) {
        const struct shr_value *v = node->in[i].value;
        if (v != NULL && v->producer_slot == 1 &&
            shr_node_is(v->producer, "DynamicQuantizeLinear")) {
            return true;
        }
    }
    return false;
}

enum use_role { USE_PARAMETER, USE_QUANTIZATION, USE_OTHER };

static enum use_role role_of(const struct shr_edge *use, enum shr_dtype dtype)
{
    if (multiplies_scale(use->node)) {
        return USE_QUANTIZATION;
    }
    for (size_t i = 0; i < SHR_COUNT_OF(quantized_ops); i++) {
        if (strcmp(use->node->op_type, quantized_ops[i].op_type) == 0 &&
            strcmp(use->node->domain, quantized_ops[i].domain) == 0) {
            const bool data = use->slot < 32 && (quantized_ops[i].data_slots >> use->slot & 1) != 0;
            return data ? USE_PARAMETER : USE_QUANTIZATION;
        }
    }
    if (shr_node_is(use->node, "Gather") && use->slot == 0 &&
        (dtype == SHR_DTYPE_I8 || dtype == SHR_DTYPE_U8)) {
        return USE_PARAMETER; /* rows of a quantized table */
    }
    /* the integers of other operators are shapes and indices */
    return shr_dtype_is_float(dtype) ? USE_PARAMETER : USE_OTHER;
}

static bool has_use(const struct shr_value *v, enum use_role role)
{
    SHR_EACH_USE (use, v) {
        if (role_of(use, v->constant.dtype) == role) {
            return true;
        }
    }
    return false;
}

bool shr_value_is_parameter(const struct shr_value *v)
{
    return shr_value_is_constant(v) && has_use(v, USE_PARAMETER);
}

bool shr_value_is_quantization(const struct shr_value *v)
{
    return shr_value_is_constant(v) && !has_use(v, USE_PARAMETER) && has_use(v, USE_QUANTIZATION);
}

/* ── Summary ────────────────────────────────────────────────────────────────────────────────── */

static bool describe_values(struct shr_arena *arena, struct shr_value *const *values, size_t n,
                            bool skip_constants, struct shr_model_value **ret, size_t *ret_n)
{
    struct shr_model_value *list = shr_arena_new(arena, n, sizeof *list);
    if (list == NULL) {
        return false;
    }
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (skip_constants && shr_value_is_constant(values[i])) {
            continue;
        }
        struct shr_model_value *to = &list[used++];
        to->name = shr_arena_strdup(arena, values[i]->name);
        to->type = values[i]->type;
        if (to->name == NULL) {
            return false;
        }
        for (int d = 0; d < to->type.rank; d++) {
            if (to->type.sym[d] != NULL) {
                to->type.sym[d] = shr_arena_strdup(arena, to->type.sym[d]);
                if (to->type.sym[d] == NULL) {
                    return false;
                }
            }
        }
    }
    *ret = list;
    *ret_n = used;
    return true;
}

static int compare_nodes(const void *a, const void *b)
{
    const struct shr_node *x = *(struct shr_node *const *)a, *y = *(struct shr_node *const *)b;
    int order = strcmp(x->domain, y->domain);
    return order != 0 ? order : strcmp(x->op_type, y->op_type);
}

static int compare_ops(const void *a, const void *b)
{
    return strcmp(((const struct shr_model_op *)a)->name, ((const struct shr_model_op *)b)->name);
}

/* Counts runs of equal operators in a sorted array of the nodes. */
static bool count_ops(struct shr_arena *arena, struct shr_node **nodes, size_t n,
                      struct shr_model_info *info)
{
    struct shr_model_op *op = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct shr_node *node = nodes[i];
        if (i == 0 || compare_nodes(&nodes[i - 1], &nodes[i]) != 0) {
            op = &info->ops[info->n_ops++];
            op->name = shr_arena_printf(arena, "%s%s%s", node->domain,
                                        node->domain[0] == 0 ? "" : ".", node->op_type);
            op->runnable = node->op != NULL;
            if (op->name == NULL) {
                return false;
            }
        }
        op->count++;
        op->runnable = op->runnable && node->op != NULL;
    }
    qsort(info->ops, info->n_ops, sizeof *info->ops, compare_ops);
    return true;
}

static bool describe_ops(const struct shr_graph *g, struct shr_model_info *info)
{
    struct shr_node **nodes = shr_mem_new(g->n_nodes, sizeof *nodes);
    info->ops = shr_arena_new(&info->arena, g->n_nodes, sizeof *info->ops);
    bool done = nodes != NULL && info->ops != NULL;
    if (done) {
        size_t n = 0;
        SHR_EACH_NODE (node, g) {
            nodes[n++] = node;
        }
        qsort(nodes, n, sizeof *nodes, compare_nodes);
        done = count_ops(&info->arena, nodes, n, info);
    }
    shr_mem_free(nodes);
    return done;
}

int shr_model_describe(const struct shr_model *model, struct shr_model_info *ret_info,
                       struct shr_err *err)
{
    const struct shr_graph *g = &model->graph;
    struct shr_model_info info = {
        .ir_version = model->ir_version,
        .opset = shr_model_opset(model, ""),
        .n_nodes = g->n_nodes,
    };
    info.producer = shr_arena_strdup(&info.arena, model->producer_name);
    if (info.producer == NULL ||
        !describe_values(&info.arena, g->inputs, g->n_inputs, true, &info.inputs, &info.n_inputs) ||
        !describe_values(&info.arena, g->outputs, g->n_outputs, false, &info.outputs,
                         &info.n_outputs) ||
        !describe_ops(g, &info)) {
        shr_model_info_finish(&info);
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the description of the model");
    }
    SHR_EACH_VALUE (v, g) {
        info.n_initializers += shr_value_is_constant(v) && v->producer == NULL;
        info.parameters += shr_value_is_parameter(v) ? shr_tensor_count(&v->constant) : 0;
    }
    *ret_info = info;
    return SHR_OK;
}

void shr_model_info_finish(struct shr_model_info *info)
{
    if (info != NULL) {
        shr_arena_finish(&info->arena);
        *info = (struct shr_model_info){0};
    }
}
