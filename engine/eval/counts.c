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

/* ── Weights in blocks (MatMulNBits, GatherBlockQuantized) ──────────────────────────────────── */

struct blocks { /* outer x n x inner elements, a zero point for each block along n */
    const struct shr_tensor *q, *zero; /* zero may be NULL */
    int bits;
    int64_t outer, n, inner, size;
    int64_t stride, last;           /* stored elements of an outer one, and of a packed row */
    int64_t zero_stride, zero_last; /* the same of the zero points */
};

/* Element i; rows of `last` elements are packed, each row from a new byte on. */
static double packed_at(const struct shr_tensor *t, int bits, int64_t i, int64_t last)
{
    if (t->dtype != SHR_DTYPE_U8 || bits == 8) {
        return shr_tensor_get(t, i);
    }
    const int64_t parts = 8 / bits, row = (last + parts - 1) / parts;
    const uint8_t byte = ((const uint8_t *)t->data)[i / last * row + i % last / parts];
    return byte >> (i % last % parts * bits) & ((1 << bits) - 1);
}

static int64_t count_blocks(const struct blocks *b)
{
    const double same = b->q->dtype == SHR_DTYPE_U8 ? 1 << (b->bits - 1) : 0;
    int64_t nonzero = 0;
    for (int64_t out = 0; out < b->outer; out++) {
        for (int64_t i = 0; i < b->n * b->inner; i++) {
            const int64_t block = i / b->inner / b->size * b->inner + i % b->inner;
            nonzero += packed_at(b->q, b->bits, out * b->stride + i, b->last) !=
                       (b->zero == NULL ? same
                                        : packed_at(b->zero, b->bits, out * b->zero_stride + block,
                                                    b->zero_last));
        }
    }
    return nonzero;
}

static const struct shr_tensor *constant_in(const struct shr_node *node, size_t slot)
{
    const struct shr_value *v = shr_node_in(node, slot);
    return shr_value_is_constant(v) ? &v->constant : NULL;
}

/* The node that reads a constant as weights in blocks, or NULL. */
static const struct shr_node *reader_of_blocks(const struct shr_value *v)
{
    SHR_EACH_USE (use, v) {
        const char *op = use->node->op_type;
        if ((use->slot == 1 && strcmp(op, "MatMulNBits") == 0) ||
            (use->slot == 0 && strcmp(op, "GatherBlockQuantized") == 0)) {
            return use->node;
        }
    }
    return NULL;
}

/* Are there as many bytes as the rows need? */
static bool holds(const struct shr_tensor *t, int bits, int64_t rows, int64_t stride, int64_t last)
{
    const int64_t parts = t->dtype == SHR_DTYPE_U8 ? 8 / bits : 1;
    const int64_t row = (last + parts - 1) / parts;
    int64_t count = 0;
    return last > 0 && stride % last == 0 &&
           shr_dims_count(3, (int64_t[]){rows, stride / last, row}, &count) &&
           count == shr_tensor_count(t);
}

static bool product_blocks(const struct shr_node *node, struct blocks *b)
{
    b->outer = shr_node_int(node, "N", 0);
    b->n = shr_node_int(node, "K", 0);
    b->size = shr_node_int(node, "block_size", 0);
    if (b->outer < 1 || b->n < 1 || b->n > INT32_MAX || b->size < 1 || b->size > INT32_MAX) {
        return false;
    }
    b->zero_stride = b->zero_last = (b->n + b->size - 1) / b->size;
    b->stride = b->last = b->zero_stride * b->size; /* rows are filled up to whole blocks */
    return true;
}

static bool gather_blocks(const struct shr_node *node, struct blocks *b)
{
    const int parts = b->q->dtype == SHR_DTYPE_U8 ? 8 / b->bits : 1, rank = b->q->rank;
    const int64_t asked = shr_node_int(node, "quantize_axis", 1);
    const int64_t axis = asked < 0 ? asked + rank : asked;
    b->size = shr_node_int(node, "block_size", 128);
    if (axis < 0 || axis >= rank || b->size < 1 || b->size > INT32_MAX) {
        return false;
    }
    b->outer = 1;
    for (int d = 0; d < rank; d++) {
        b->last = b->q->dim[d] * (d == rank - 1 ? parts : 1);
        b->outer *= d < axis ? b->last : 1;
        b->n = d == axis ? b->last : b->n;
        b->inner *= d > axis ? b->last : 1;
    }
    const int64_t per_row = b->n / b->size + (b->n % b->size != 0);
    b->stride = b->n * b->inner;
    b->zero_stride = per_row * b->inner;
    b->zero_last = axis == rank - 1 ? per_row : b->last;
    return true;
}

/* False when the attributes and the tensors do not fit; no runtime would take the node. */
static bool blocks_of(const struct shr_tensor *q, const struct shr_node *node, struct blocks *ret)
{
    struct blocks b = {.q = q,
                       .zero = constant_in(node, 3),
                       .bits = (int)shr_node_int(node, "bits", 4),
                       .inner = 1};
    const bool product = strcmp(node->op_type, "MatMulNBits") == 0;
    if ((b.bits != 2 && b.bits != 4 && b.bits != 8) ||
        !(product ? product_blocks(node, &b) : gather_blocks(node, &b)) ||
        !holds(q, b.bits, b.outer, b.stride, b.last) ||
        (b.zero != NULL && !holds(b.zero, b.bits, b.outer, b.zero_stride, b.zero_last))) {
        return false;
    }
    *ret = b;
    return true;
}

void shr__count_parameters(const struct shr_model *model, struct shr__counts *ret)
{
    *ret = (struct shr__counts){0};
    SHR_EACH_VALUE (v, &model->graph) {
        if (!shr_value_is_parameter(v)) {
            continue;
        }
        const struct shr_node *reader = reader_of_blocks(v);
        struct blocks b;
        if (reader != NULL && blocks_of(&v->constant, reader, &b)) {
            ret->parameters += b.outer * b.n * b.inner;
            ret->nonzero += count_blocks(&b);
            continue;
        }
        int axis = 0;
        const struct shr_tensor *zero =
            shr_dtype_is_float(v->constant.dtype) ? NULL : zero_points(v, &axis);
        ret->parameters += shr_tensor_count(&v->constant);
        ret->nonzero += count_nonzero(&v->constant, zero, axis);
    }
}

int64_t shr_model_parameters(const struct shr_model *model)
{
    struct shr__counts counts;
    shr__count_parameters(model, &counts);
    return counts.parameters;
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
