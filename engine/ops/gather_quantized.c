/* com.microsoft's GatherBlockQuantized: Gather of integers of 4 or 8 bits that have a scale and a
 * zero point for each block along quantize_axis, as float32: (q - zero) * scale.
 *
 * uint8 data of 4 bits holds two elements a byte along the last axis, the first in the low bits,
 * and so do its zero points. Elements of int4 and uint4 have a byte each in memory. */
#include "ops/families.h"
#include "ops/util.h"

enum { DATA, INDICES, SCALES, ZEROS };

struct gather {
    int axis, quantize_axis, parts; /* elements of a byte of data */
    int64_t block;
    int64_t dim[SHR_MAX_RANK]; /* of the data, in elements */
};

static int parts_of(const struct shr_node *node, enum shr_dtype dtype)
{
    return dtype == SHR_DTYPE_U8 ? (int)(8 / shr_node_int(node, "bits", 4)) : 1;
}

static int gather_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[DATA], *i = &c->in[INDICES];
    const int64_t bits = shr_node_int(c->node, "bits", 4);
    struct shr_type *y = &c->out[0];
    int axis = 0;
    y->dtype = c->in[SCALES].dtype;
    if (bits != 4 && bits != 8) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "%lld bits are not supported",
                           (long long)bits);
    }
    if (x->rank < 0 || i->rank < 0) {
        return SHR_OK;
    }
    int code = shr_op_axis(c->node, "gather_axis", shr_node_int(c->node, "gather_axis", 0), x->rank,
                           &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    if (x->rank + i->rank - 1 > SHR_MAX_RANK) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "the output has too many dims");
    }
    y->rank = x->rank + i->rank - 1;
    for (int d = 0; d < y->rank; d++) {
        if (d >= axis && d < axis + i->rank) {
            shr_type_copy_dim(y, d, i, d - axis);
            continue;
        }
        int from = d < axis ? d : d - i->rank + 1;
        shr_type_copy_dim(y, d, x, from);
        int parts = from == x->rank - 1 ? parts_of(c->node, x->dtype) : 1;
        if (x->dim[from] >= 0 && parts > 1) {
            if (x->dim[from] > INT64_MAX / parts) {
                return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the output is too large");
            }
            shr_type_set_dim(y, d, x->dim[from] * parts, NULL);
        }
    }
    return SHR_OK;
}

/* Scales and zero points have the data's shape, with blocks along quantize_axis. */
static int check_blocks(const struct shr_op_setup *c, const struct gather *s, struct shr_err *err)
{
    const struct shr_tensor *x = c->in[DATA], *scales = c->in[SCALES];
    const struct shr_tensor *zeros = c->n_in > ZEROS ? c->in[ZEROS] : NULL;
    bool fits = scales->rank == x->rank;
    int64_t packed = 1;
    for (int d = 0; d < x->rank && fits; d++) {
        int64_t n = s->dim[d];
        n = d == s->quantize_axis ? n / s->block + (n % s->block != 0) : n;
        fits = scales->dim[d] == n;
        packed *= d == x->rank - 1 ? n / s->parts + (n % s->parts != 0) : n;
    }
    if (!fits) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "scales '%s' do not fit the data",
                           shr_op_in_name(c->node, SCALES));
    }
    if (zeros != NULL && (zeros->dtype != x->dtype || shr_tensor_count(zeros) != packed)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "zero points '%s' do not fit the data",
                           shr_op_in_name(c->node, ZEROS));
    }
    return SHR_OK;
}

static int gather_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const unsigned data = SHR_BIT(U8) | SHR_BIT(I4) | SHR_BIT(U4);
    const unsigned wanted[] = {data, SHR_BIT(I32) | SHR_BIT(I64), SHR_BIT(F32), data};
    const struct shr_tensor *x = c->in[DATA];
    int code = SHR_OK;
    for (size_t i = 0; i < c->n_in && code == SHR_OK; i++) {
        code = shr_op_want(c, i, wanted[i], err);
    }
    struct gather *s = code == SHR_OK ? shr_arena_new(c->arena, 1, sizeof *s) : NULL;
    if (s == NULL) {
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    s->block = shr_node_int(c->node, "block_size", 128);
    s->parts = parts_of(c->node, x->dtype);
    if (s->block < 1) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "block_size is %lld",
                           (long long)s->block);
    }
    for (int d = 0; d < x->rank; d++) {
        s->dim[d] = x->dim[d] * (d == x->rank - 1 ? s->parts : 1);
    }
    code = shr_op_axis(c->node, "gather_axis", shr_node_int(c->node, "gather_axis", 0), x->rank,
                       &s->axis, err);
    if (code == SHR_OK) {
        code = shr_op_axis(c->node, "quantize_axis", shr_node_int(c->node, "quantize_axis", 1),
                           x->rank, &s->quantize_axis, err);
    }
    return code == SHR_OK ? check_blocks(c, s, err) : code;
}

/* Element i of data or zero points whose rows of `last` elements are packed. */
static double element(const struct gather *s, const struct shr_tensor *t, int64_t i, int64_t last)
{
    if (s->parts == 1) {
        return shr_tensor_get(t, i);
    }
    const int64_t row = last / s->parts + (last % s->parts != 0), bits = 8 / s->parts;
    const uint8_t byte = ((const uint8_t *)t->data)[i / last * row + i % last / s->parts];
    return byte >> (i % last % s->parts * bits) & ((1 << bits) - 1);
}

static double value_at(const struct shr_op_call *c, int64_t i)
{
    const struct gather *s = c->state;
    const struct shr_tensor *zeros = c->n_in > ZEROS ? c->in[ZEROS] : NULL;
    const int rank = c->in[DATA]->rank, q = s->quantize_axis;
    const int64_t inner = shr_dims_product(s->dim, q + 1, rank), n = s->dim[q];
    const int64_t blocks = c->in[SCALES]->dim[q];
    const int64_t k = (i / inner / n * blocks + i / inner % n / s->block) * inner + i % inner;
    const int64_t last = c->in[SCALES]->dim[rank - 1];
    double zero = zeros != NULL                        ? element(s, zeros, k, last)
                  : c->in[DATA]->dtype == SHR_DTYPE_U8 ? (s->parts == 1 ? 128 : 8)
                                                       : 0;
    return (element(s, c->in[DATA], i, s->dim[rank - 1]) - zero) * shr_tensor_get(c->in[SCALES], k);
}

static int gather_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct gather *s = c->state;
    const int rank = c->in[DATA]->rank;
    const int64_t outer = shr_dims_product(s->dim, 0, s->axis), n = s->dim[s->axis];
    const int64_t inner = shr_dims_product(s->dim, s->axis + 1, rank);
    const int64_t picks = shr_tensor_count(c->in[INDICES]);
    float *y = c->out[0]->data;
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t p = 0; p < picks; p++) {
            int64_t index = (int64_t)shr_tensor_get(c->in[INDICES], p);
            index += index < 0 ? n : 0;
            if (index < 0 || index >= n) {
                return shr_op_fail(
                    c->node, err, SHR_ERR_INVALID, "index %lld is not in [-%lld, %lld)",
                    (long long)shr_tensor_get(c->in[INDICES], p), (long long)n, (long long)n);
            }
            for (int64_t i = 0; i < inner; i++) {
                *y++ = (float)value_at(c, (o * n + index) * inner + i);
            }
        }
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {.domain = "com.microsoft",
     .name = "GatherBlockQuantized",
     .since = 1,
     SHR_SLOTS(3, 4, 1, 1),
     .infer = gather_infer,
     .setup = gather_setup,
     .forward = gather_forward,
     SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_gather_quantized = {rows, SHR_COUNT_OF(rows)};
