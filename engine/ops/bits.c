/* Operators on the bits of integers: BitShift, BitwiseAnd Or Xor Not; and questions about the bits
 * of floats: IsNaN, IsInf.
 *
 * Only BitShift needs to know the sign of a type: to the right it fills with the sign bit. */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"

static int integers_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_INTS, err);
}

/* ── Two operands ───────────────────────────────────────────────────────────────────────────── */

#define PAIR_ROWS(T, EXPR)                                                                         \
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {                         \
        const T *a = (const T *)c->in[0]->data + w.at[0];                                          \
        const T *b = (const T *)c->in[1]->data + w.at[1];                                          \
        T *y = (T *)c->out[0]->data + w.out;                                                       \
        for (int64_t i = 0; i < w.inner; i++) {                                                    \
            y[i] = EXPR(T, a[i * w.step[0]], b[i * w.step[1]]);                                    \
        }                                                                                          \
    }
#define PAIR_LOOP(T, EXPR)                                                                         \
    PAIR_ROWS(T, EXPR)                                                                             \
    break;

#define AND(T, x, z) ((T)((x) & (z)))
#define OR(T, x, z) ((T)((x) | (z)))
#define XOR(T, x, z) ((T)((x) ^ (z)))

#define PAIR_FORWARD(name, EXPR)                                                                   \
    static int name##_forward(const struct shr_op_call *c, struct shr_err *err)                    \
    {                                                                                              \
        (void)err;                                                                                 \
        struct shr_walk w;                                                                         \
        shr_walk_broadcast(&w, c->out[0]->rank, c->out[0]->dim, 2, c->in);                         \
        switch (shr_dtype_size(c->out[0]->dtype)) {                                                \
        case 1:                                                                                    \
            PAIR_LOOP(uint8_t, EXPR)                                                               \
        case 2:                                                                                    \
            PAIR_LOOP(uint16_t, EXPR)                                                              \
        case 4:                                                                                    \
            PAIR_LOOP(uint32_t, EXPR)                                                              \
        default:                                                                                   \
            PAIR_LOOP(uint64_t, EXPR)                                                              \
        }                                                                                          \
        return SHR_OK;                                                                             \
    }
PAIR_FORWARD(and, AND)
PAIR_FORWARD(or, OR)
PAIR_FORWARD(xor, XOR)

static int shift_infer(struct shr_infer *c, struct shr_err *err)
{
    const char *direction = shr_node_text(c->node, "direction", "");
    if (strcmp(direction, "LEFT") != 0 && strcmp(direction, "RIGHT") != 0) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "direction is '%.40s'", direction);
    }
    return shr_infer_broadcast(c, err);
}

/* Shifting by less than none, or by all bits and more, leaves only the sign. */
#define BITS(T) (8 * sizeof(T))
#define LEFT(T, x, z) ((uint64_t)(z) < BITS(T) ? (T)((uint64_t)(x) << (z)) : (T)0)
#define RIGHT(T, x, z)                                                                             \
    ((uint64_t)(z) < BITS(T) ? (T)((x) >> (z)) : (T)-1 < (T)1 ? (T)((x) >> (BITS(T) - 1)) : (T)0)
#define SHIFT_LOOP(T)                                                                              \
    if (left) {                                                                                    \
        PAIR_ROWS(T, LEFT)                                                                         \
    } else {                                                                                       \
        PAIR_ROWS(T, RIGHT)                                                                        \
    }                                                                                              \
    break;

static int shift_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const bool left = strcmp(shr_node_text(c->node, "direction", ""), "LEFT") == 0;
    struct shr_walk w;
    shr_walk_broadcast(&w, c->out[0]->rank, c->out[0]->dim, 2, c->in);
    switch (c->out[0]->dtype) {
    case SHR_DTYPE_I8:
        SHIFT_LOOP(int8_t)
    case SHR_DTYPE_I16:
        SHIFT_LOOP(int16_t)
    case SHR_DTYPE_I32:
        SHIFT_LOOP(int32_t)
    case SHR_DTYPE_I64:
        SHIFT_LOOP(int64_t)
    case SHR_DTYPE_U8:
        SHIFT_LOOP(uint8_t)
    case SHR_DTYPE_U16:
        SHIFT_LOOP(uint16_t)
    case SHR_DTYPE_U32:
        SHIFT_LOOP(uint32_t)
    default:
        SHIFT_LOOP(uint64_t)
    }
    return SHR_OK;
}

static int not_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const unsigned char *x = c->in[0]->data;
    unsigned char *y = c->out[0]->data;
    for (size_t i = 0; i < shr_tensor_bytes(c->in[0]); i++) {
        y[i] = (unsigned char)~x[i];
    }
    return SHR_OK;
}

/* ── IsNaN, IsInf ───────────────────────────────────────────────────────────────────────────── */

static int question_infer(struct shr_infer *c, struct shr_err *err)
{
    (void)err;
    c->out[0] = c->in[0];
    c->out[0].dtype = SHR_DTYPE_BOOL;
    return SHR_OK;
}

static int question_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_FLOATS, err);
}

static int is_nan_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    uint8_t *y = c->out[0]->data;
    for (int64_t i = 0; i < shr_tensor_count(c->in[0]); i++) {
        const double x = shr_tensor_get(c->in[0], i);
        y[i] = x != x;
    }
    return SHR_OK;
}

static int is_inf_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    bool above = shr_node_int(c->node, "detect_positive", 1) != 0;
    bool below = shr_node_int(c->node, "detect_negative", 1) != 0;
    uint8_t *y = c->out[0]->data;
    for (int64_t i = 0; i < shr_tensor_count(c->in[0]); i++) {
        double x = shr_tensor_get(c->in[0], i);
        y[i] = isinf(x) && (x > 0.0 ? above : below) ? 1 : 0;
    }
    return SHR_OK;
}

#define BITWISE(name, since, slots, infer_, setup_, fn)                                            \
    {                                                                                              \
        SHR_ROW(name, since, 0), SHR_SLOTS(slots, slots, 1, 1), .infer = infer_, .setup = setup_,  \
                                                                .forward = fn, SHR_NO_WEIGHT       \
    }

static const struct shr_op rows[] = {
    BITWISE("BitShift", 11, 2, shift_infer, integers_setup, shift_forward),
    BITWISE("BitwiseAnd", 18, 2, shr_infer_broadcast, integers_setup, and_forward),
    BITWISE("BitwiseNot", 18, 1, shr_infer_same, integers_setup, not_forward),
    BITWISE("BitwiseOr", 18, 2, shr_infer_broadcast, integers_setup, or_forward),
    BITWISE("BitwiseXor", 18, 2, shr_infer_broadcast, integers_setup, xor_forward),
    {SHR_ROW("IsInf", 10, 0), SHR_SLOTS(1, 1, 1, 1), .infer = question_infer,
     .setup = question_setup, .forward = is_inf_forward, SHR_NO_WEIGHT, .halves = true},
    {SHR_ROW("IsNaN", 9, 0), SHR_SLOTS(1, 1, 1, 1), .infer = question_infer,
     .setup = question_setup, .forward = is_nan_forward, SHR_NO_WEIGHT, .halves = true},
};
const struct shr_op_family shr_ops_bits = {rows, SHR_COUNT_OF(rows)};
