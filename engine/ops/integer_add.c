/* com.microsoft's QLinearAdd: C = saturate(rint((As (A - Az) + Bs (B - Bz)) / Cs) + Cz).
 *
 * The kernel adds uint8 of one shape: operands are broadcast, and int8 flipped (q ^ 0x80, zero
 * points moved by 128), into scratch first. */
#include <string.h>

#include "ops/families.h"
#include "ops/integer.h"

enum { A, A_SCALE, A_ZERO, B, B_SCALE, B_ZERO, C_SCALE, C_ZERO };

static int add_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_type t = c->in[A];
    int code = shr_op_same_dtype(c, A, B, err);
    if (code == SHR_OK) {
        code = shr_type_broadcast(c->node, &t, &c->in[B], err);
    }
    c->out[0] = t;
    return code;
}

static int add_setup(struct shr_op_setup *c, struct shr_err *err)
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

static int add_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct shr_tensor *y = c->out[0];
    size_t n = (size_t)shr_tensor_count(y), room = 0;
    bool flip = y->dtype == SHR_DTYPE_I8;
    int32_t moved = flip ? 128 : 0;
    uint8_t *scratch = c->scratch;
    const uint8_t *a = load(c, c->in[A], flip, scratch);
    shr_integer_place(&room, n);
    const uint8_t *b = load(c, c->in[B], flip, scratch + room);
    c->kernels->add_u8(&(struct shr_add_u8){
        .n = n,
        .a = a,
        .b = b,
        .a_scale = *(const float *)c->in[A_SCALE]->data,
        .b_scale = *(const float *)c->in[B_SCALE]->data,
        .y_scale = *(const float *)c->in[C_SCALE]->data,
        .a_zero = shr_integer_zero(c->in[A_ZERO], 0) + moved,
        .b_zero = shr_integer_zero(c->in[B_ZERO], 0) + moved,
        .y_zero = shr_integer_zero(shr_integer_in(c->in, c->n_in, C_ZERO), 0) + moved,
        .y = y->data,
    });
    if (flip) {
        c->kernels->flip_u8(n, y->data, y->data);
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {.domain = "com.microsoft",
     .name = "QLinearAdd",
     .since = 1,
     SHR_SLOTS(7, 8, 1, 1),
     .infer = add_infer,
     .setup = add_setup,
     .forward = add_forward,
     SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_integer_add = {rows, SHR_COUNT_OF(rows)};
