/* com.microsoft's QLinearAdd: C = saturate(rint((As (A - Az) + Bs (B - Bz)) / Cs) + Cz), and
 * QLinearMul: C = saturate(rint((A - Az) (B - Bz) (As Bs / Cs)) + Cz).
 *
 * Both work on uint8 of one shape: operands are broadcast, and int8 flipped (q ^ 0x80, zero points
 * moved by 128), into scratch first. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/integer.h"

enum { A, A_SCALE, A_ZERO, B, B_SCALE, B_ZERO, C_SCALE, C_ZERO };

static int binary_infer(struct shr_infer *c, struct shr_err *err)
{
    static const size_t required[] = {A, A_SCALE, B, B_SCALE, C_SCALE};
    int code = SHR_OK;
    for (size_t i = 0; i < SHR_COUNT_OF(required) && code == SHR_OK; i++) {
        code = shr_integer_require(c, required[i], err);
    }
    if (code != SHR_OK) {
        return code;
    }
    struct shr_type t = c->in[A];
    code = shr_op_same_dtype(c, A, B, err);
    if (code == SHR_OK) {
        code = shr_type_broadcast(c->node, &t, &c->in[B], err);
    }
    c->out[0] = t;
    return code;
}

static int binary_setup(struct shr_op_setup *c, struct shr_err *err)
{
    static const struct {
        int slot;
        unsigned types;
    } wanted[] = {
        {A_SCALE, SHR_BIT(F32)},
        {B_SCALE, SHR_BIT(F32)},
        {C_SCALE, SHR_BIT(F32)},
        {A_ZERO, 0},
        {B_ZERO, 0},
        {C_ZERO, 0},
    };
    const unsigned bytes = SHR_BIT(U8) | SHR_BIT(I8);
    int code = shr_op_want(c, A, bytes, err);
    for (size_t i = 0; i < SHR_COUNT_OF(wanted) && code == SHR_OK; i++) {
        unsigned types = wanted[i].types != 0 ? wanted[i].types : bytes;
        code = shr_op_want(c, (size_t)wanted[i].slot, types, err);
        if (code == SHR_OK) {
            code = shr_integer_check_count(c, wanted[i].slot, 1, err);
        }
    }
    size_t n = (size_t)shr_tensor_count(c->out[0]);
    shr_integer_place(&c->scratch, n);
    shr_integer_place(&c->scratch, n);
    return code;
}

/* An operand as the kernel wants it: as it is, or broadcast and flipped into room. */
static const uint8_t *load(const struct shr_op_call *c, const struct shr_tensor *x, bool flip,
                           uint8_t *room)
{
    const struct shr_tensor *y = c->out[0];
    size_t n = (size_t)shr_tensor_count(y);
    const uint8_t *bytes = x->data;
    if (shr_tensor_count(x) != (int64_t)n) {
        int64_t stride[SHR_MAX_RANK];
        shr_broadcast_strides(x, y->rank, stride);
        shr_copy_strided(1, y->rank, y->dim, stride, bytes, room);
        bytes = room;
    }
    if (flip) {
        c->kernels->flip_u8(n, bytes, room);
        bytes = room;
    }
    return bytes;
}

/* A call of the kernel for addition; QLinearMul uses its fields alike. */
static struct shr_add_u8 load_both(const struct shr_op_call *c, bool flip)
{
    size_t n = (size_t)shr_tensor_count(c->out[0]), room = 0;
    int32_t moved = flip ? 128 : 0;
    uint8_t *scratch = c->scratch;
    shr_integer_place(&room, n);
    return (struct shr_add_u8){
        .n = n,
        .a = load(c, c->in[A], flip, scratch),
        .b = load(c, c->in[B], flip, scratch + room),
        .a_scale = *(const float *)c->in[A_SCALE]->data,
        .b_scale = *(const float *)c->in[B_SCALE]->data,
        .y_scale = *(const float *)c->in[C_SCALE]->data,
        .a_zero = shr_integer_zero(c->in[A_ZERO], 0) + moved,
        .b_zero = shr_integer_zero(c->in[B_ZERO], 0) + moved,
        .y_zero = shr_integer_zero(shr_integer_in(c->in, c->n_in, C_ZERO), 0) + moved,
        .y = c->out[0]->data,
    };
}

static void finish(const struct shr_op_call *c, const struct shr_add_u8 *p, bool flip)
{
    if (flip) {
        c->kernels->flip_u8(p->n, p->y, p->y);
    }
}

static int add_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    bool flip = c->out[0]->dtype == SHR_DTYPE_I8;
    struct shr_add_u8 p = load_both(c, flip);
    c->kernels->add_u8(&p);
    finish(c, &p, flip);
    return SHR_OK;
}

static int mul_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    bool flip = c->out[0]->dtype == SHR_DTYPE_I8;
    struct shr_add_u8 p = load_both(c, flip);
    const float scale = p.a_scale * p.b_scale / p.y_scale;
    for (size_t i = 0; i < p.n; i++) {
        float v = rintf((float)((p.a[i] - p.a_zero) * (p.b[i] - p.b_zero)) * scale);
        v = v > (float)-p.y_zero ? v : (float)-p.y_zero; /* also of a NaN */
        v = v < (float)(UINT8_MAX - p.y_zero) ? v : (float)(UINT8_MAX - p.y_zero);
        p.y[i] = (uint8_t)((int32_t)v + p.y_zero);
    }
    finish(c, &p, flip);
    return SHR_OK;
}

#define BINARY(name_, forward_)                                                                    \
    {                                                                                              \
        .domain = "com.microsoft", .name = name_, .since = 1, SHR_SLOTS(2, 8, 1, 1),               \
        .infer = binary_infer, .setup = binary_setup, .forward = forward_, SHR_NO_WEIGHT           \
    }

static const struct shr_op rows[] = {
    BINARY("QLinearAdd", add_forward),
    BINARY("QLinearMul", mul_forward),
};
const struct shr_op_family shr_ops_integer_binary = {rows, SHR_COUNT_OF(rows)};
