/* Counting without running: parameters, zeros, multiply-accumulates, compressed bytes.
 *
 * A quantized model has the parameters that the model was trained with (shr_value_is_parameter):
 * of a quantized tensor, an element is zero when it is its zero point. */
#define ZLIB_CONST
#include <string.h>
#include <zlib.h>

#include "eval/eval.h"
#include "ops/op.h"

enum { AXIS_ATTRIBUTE = -2 };

/* Where the zero points of a quantized constant are. */
static const struct zero_slot {
    const char *op_type;
    size_t slot, zero;
    int axis; /* that several zero points go along; from the end when negative */
} ZERO_SLOTS[] = {
    {"DequantizeLinear", 0, 2, AXIS_ATTRIBUTE},
    {"MatMulInteger", 0, 2, -1},
    {"MatMulInteger", 1, 3, -1},
    {"ConvInteger", 1, 3, 0},
    {"QLinearConv", 3, 5, 0},
    {"QLinearMatMul", 0, 2, -1},
    {"QLinearMatMul", 3, 5, -1},
    {"QLinearAdd", 0, 2, -1},
    {"QLinearAdd", 3, 5, -1},
    {"QLinearMul", 0, 2, -1},
    {"QLinearMul", 3, 5, -1},
    {"QGemm", 3, 5, -1},
    {"DynamicQuantizeMatMul", 1, 3, -1},
    {"MatMulIntegerToFloat", 1, 5, -1},
    {"DynamicQuantizeLSTM", 1, 9, -1},
    {"DynamicQuantizeLSTM", 2, 11, -1},
};

static const struct zero_slot *zero_slot(const struct shr_edge *use)
{
    for (size_t i = 0; i < SHR_COUNT_OF(ZERO_SLOTS); i++) {
        const struct zero_slot *z = &ZERO_SLOTS[i];
        if (z->slot == use->slot && strcmp(z->op_type, use->node->op_type) == 0) {
            return z;
        }
    }
    return NULL;
}

/* The zero points of a quantized constant, or NULL. *ret_axis: the axis that several go along. */
static const struct shr_tensor *zero_points(const struct shr_value *v, int *ret_axis)
{
    int rank = v->constant.rank;
    SHR_EACH_USE (use, v) {
        const struct zero_slot *z = zero_slot(use);
        const struct shr_value *zero = z == NULL ? NULL : shr_node_in(use->node, z->zero);
        if (shr_value_is_constant(zero)) {
            int64_t axis = z->axis == AXIS_ATTRIBUTE ? shr_node_int(use->node, "axis", 1) : z->axis;
            axis += axis < 0 ? rank : 0;
            *ret_axis = axis >= 0 && axis < rank ? (int)axis : 0;
            return &zero->constant;
        }
    }
    return NULL;
}

static int64_t count_nonzero(const struct shr_tensor *t, const struct shr_tensor *zero, int axis)
{
    int64_t count = shr_tensor_count(t), n_zero = zero == NULL ? 0 : shr_tensor_count(zero);
    int64_t inner = 1, nonzero = 0;
    for (int d = axis + 1; d < t->rank; d++) {
        inner *= t->dim[d];
    }
    bool along_axis = n_zero > 1 && t->rank > 0 && n_zero == t->dim[axis];
    double same = n_zero > 0 ? shr_tensor_get(zero, 0) : 0;
    for (int64_t i = 0; i < count; i++) {
        double z = along_axis ? shr_tensor_get(zero, i / inner % n_zero) : same;
        nonzero += shr_tensor_get(t, i) != z;
    }
    return nonzero;
}

void shr__count_parameters(const struct shr_model *model, struct shr__counts *ret)
{
    *ret = (struct shr__counts){0};
    SHR_EACH_VALUE (v, &model->graph) {
        if (!shr_value_is_parameter(v)) {
            continue;
        }
        int axis = 0;
        const struct shr_tensor *zero =
            shr_dtype_is_float(v->constant.dtype) ? NULL : zero_points(v, &axis);
        ret->parameters += shr_tensor_count(&v->constant);
        ret->nonzero += count_nonzero(&v->constant, zero, axis);
    }
}

/* ── Multiply-accumulates ───────────────────────────────────────────────────────────────────── */

static bool known(const struct shr_type *type)
{
    for (int d = 0; d < type->rank; d++) {
        if (type->dim[d] < 0) {
            return false;
        }
    }
    return type->rank >= 0;
}

static int node_macs(const struct shr_node *node, int64_t *ret, struct shr_err *err)
{
    enum { MAX_SLOTS = 16 };
    struct shr_type in[MAX_SLOTS] = {{0}};
    char label[128];
    shr_node_label(node, label, sizeof label);
    if (node->op == NULL) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "operator %s of node %s is not known",
                           node->op_type, label);
    }
    *ret = 0;
    for (const struct shr_attr *attr = node->attrs; attr != NULL; attr = attr->next) {
        if (attr->kind == SHR_ATTR_GRAPH) {
            return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                               "how often the graphs inside of %s run is not known", label);
        }
    }
    if (node->op->macs == NULL) {
        return SHR_OK;
    }
    for (size_t i = 0; i < node->n_in && i < MAX_SLOTS; i++) {
        const struct shr_value *v = node->in[i].value;
        if (v != NULL) {
            in[i] = v->type;
            if (!known(&v->type)) {
                return shr_err_set(err, SHR_ERR_UNSUPPORTED, "the shape of %s is not known",
                                   v->name);
            }
        }
    }
    const struct shr_value *out = shr_node_out(node, 0);
    if (out == NULL || !known(&out->type)) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "the output shape of node %s is not known",
                           label);
    }
    *ret = node->op->macs(node, in, &out->type);
    return SHR_OK;
}

static int sum_macs(const struct shr_graph *g, int64_t *ret_macs, struct shr_err *err)
{
    int64_t total = 0;
    SHR_EACH_NODE (node, g) {
        int64_t macs;
        int rc = node_macs(node, &macs, err);
        if (rc != 0) {
            return rc;
        }
        if (macs < 0 || total > INT64_MAX - macs) {
            return shr_err_set(err, SHR_ERR_LIMIT,
                               "the multiply-accumulates do not fit in 63 bits");
        }
        total += macs;
    }
    *ret_macs = total;
    return SHR_OK;
}

int shr__count_macs(const struct shr_model *model, int64_t *ret_macs, struct shr_err *err)
{
    struct shr_model *clone = NULL;
    int rc = shr_model_clone(model, &clone, err);
    if (rc != 0) {
        return rc;
    }
    shr_model_resolve(clone);
    shr_graph_drop_unused(&clone->graph);
    rc = shr_model_bind(clone, &(struct shr_plan_opts){0}, err);
    if (rc == 0) {
        rc = sum_macs(&clone->graph, ret_macs, err);
    }
    shr_model_free(clone);
    return rc;
}

/* ── Compressed bytes ───────────────────────────────────────────────────────────────────────── */

static int deflate_all(z_stream *z, const unsigned char *bytes, size_t n, struct shr_err *err)
{
    enum { CHUNK = 1 << 16 };
    unsigned char sink[CHUNK];
    size_t done = 0;
    int rc;
    do {
        if (z->avail_in == 0 && done < n) {
            size_t more = n - done < ((size_t)1 << 30) ? n - done : (size_t)1 << 30;
            z->next_in = bytes + done;
            z->avail_in = (uInt)more;
            done += more;
        }
        z->next_out = sink;
        z->avail_out = CHUNK;
        rc = deflate(z, done == n ? Z_FINISH : Z_NO_FLUSH);
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) {
            return shr_err_set(err, SHR_ERR_INTERNAL, "gzip failed with code %d", rc);
        }
    } while (rc != Z_STREAM_END);
    return SHR_OK;
}

int shr__gzip_bytes(const void *bytes, size_t n, size_t *ret, struct shr_err *err)
{
    enum { LEVEL = 6, WINDOW_GZIP = 15 + 16, MEMORY = 8 };
    z_stream z = {0};
    if (deflateInit2(&z, LEVEL, Z_DEFLATED, WINDOW_GZIP, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for gzip");
    }
    int rc = deflate_all(&z, bytes, n, err);
    if (rc == 0) {
        *ret = z.total_out;
    }
    deflateEnd(&z);
    return rc;
}
