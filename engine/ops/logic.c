/* Comparisons and choices: Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Not Where.
 * Results of comparisons are bool, a byte of 0 or 1. */
#include "ops/util.h"

#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

static int compare_infer(struct shr_infer *c, struct shr_err *err)
{
    int code = shr_infer_broadcast(c, err);
    c->out[0].dtype = SHR_DTYPE_BOOL;
    return code;
}

typedef void (*row_fn)(int64_t n, const void *a, int64_t sa, const void *b, int64_t sb, uint8_t *y);

#define ROW_FN(op, tag, T, SIGN)                                                                   \
    static void op##_##tag(int64_t n, const void *pa, int64_t sa, const void *pb, int64_t sb,      \
                           uint8_t *y)                                                             \
    {                                                                                              \
        const T *a = pa, *b = pb;                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                          \
            y[i] = a[i * sa] SIGN b[i * sb];                                                       \
        }                                                                                          \
    }
#define ROW_FNS(op, SIGN)                                                                          \
    ROW_FN(op, f32, float, SIGN)                                                                   \
    ROW_FN(op, f64, double, SIGN)                                                                  \
    ROW_FN(op, i8, int8_t, SIGN)                                                                   \
    ROW_FN(op, i16, int16_t, SIGN)                                                                 \
    ROW_FN(op, i32, int32_t, SIGN)                                                                 \
    ROW_FN(op, i64, int64_t, SIGN)                                                                 \
    ROW_FN(op, u8, uint8_t, SIGN)                                                                  \
    ROW_FN(op, u16, uint16_t, SIGN)                                                                \
    ROW_FN(op, u32, uint32_t, SIGN)                                                                \
    ROW_FN(op, u64, uint64_t, SIGN)                                                                \
    static const row_fn op##_rows[SHR_DTYPE_COUNT] = {                                             \
        [SHR_DTYPE_F32] = op##_f32, [SHR_DTYPE_F64] = op##_f64, [SHR_DTYPE_I8] = op##_i8,          \
        [SHR_DTYPE_I16] = op##_i16, [SHR_DTYPE_I32] = op##_i32, [SHR_DTYPE_I64] = op##_i64,        \
        [SHR_DTYPE_U8] = op##_u8,   [SHR_DTYPE_U16] = op##_u16, [SHR_DTYPE_U32] = op##_u32,        \
        [SHR_DTYPE_U64] = op##_u64, [SHR_DTYPE_BOOL] = op##_u8,                                    \
    };
ROW_FNS(equal, ==)
ROW_FNS(less, <)
ROW_FNS(less_equal, <=)
ROW_FN(and, u8, uint8_t, &)
ROW_FN(or, u8, uint8_t, |)
ROW_FN(xor, u8, uint8_t, ^)
static const row_fn and_rows[SHR_DTYPE_COUNT] = {[SHR_DTYPE_BOOL] = and_u8};
static const row_fn or_rows[SHR_DTYPE_COUNT] = {[SHR_DTYPE_BOOL] = or_u8};
static const row_fn xor_rows[SHR_DTYPE_COUNT] = {[SHR_DTYPE_BOOL] = xor_u8};

static int compare_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_NUMBERS | SHR_BIT(BOOL), err);
}

static int bool_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_BIT(BOOL), err);
}

static int run(const row_fn *rows, const struct shr_tensor *a, const struct shr_tensor *b,
               struct shr_tensor *y)
{
    const struct shr_tensor *x[] = {a, b};
    size_t size = shr_dtype_size(a->dtype);
    struct shr_walk w;
    shr_walk_broadcast(&w, y->rank, y->dim, 2, x);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        rows[a->dtype](w.inner, (const char *)a->data + (size_t)w.at[0] * size, w.step[0],
                       (const char *)b->data + (size_t)w.at[1] * size, w.step[1],
                       (uint8_t *)y->data + w.out);
    }
    return SHR_OK;
}

#define FORWARD(op, rows, A, B)                                                                    \
    static int op##_forward(const struct shr_op_call *c, struct shr_err *err)                      \
    {                                                                                              \
        (void)err;                                                                                 \
        return run(rows, c->in[A], c->in[B], c->out[0]);                                           \
    }
FORWARD(equal, equal_rows, 0, 1)
FORWARD(less, less_rows, 0, 1)
FORWARD(less_equal, less_equal_rows, 0, 1)
FORWARD(greater, less_rows, 1, 0)
FORWARD(greater_equal, less_equal_rows, 1, 0)
FORWARD(and, and_rows, 0, 1)
FORWARD(or, or_rows, 0, 1)
FORWARD(xor, xor_rows, 0, 1)

static int not_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const uint8_t *x = c->in[0]->data;
    uint8_t *y = c->out[0]->data;
    for (int64_t i = 0; i < shr_tensor_count(c->in[0]); i++) {
        y[i] = x[i] == 0;
    }
    return SHR_OK;
}

/* ── Where: elements of any type of fixed size ──────────────────────────────────────────────── */

static int where_infer(struct shr_infer *c, struct shr_err *err)
{
    if (c->in[0].dtype != SHR_DTYPE_NONE && c->in[0].dtype != SHR_DTYPE_BOOL) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the condition is %s, not bool",
                           shr_dtype_name(c->in[0].dtype));
    }
    int code = shr_op_same_dtype(c, 1, 2, err);
    if (code != SHR_OK) {
        return code;
    }
    struct shr_type y = c->in[1];
    y.dtype = y.dtype == SHR_DTYPE_NONE ? c->in[2].dtype : y.dtype;
    code = shr_type_broadcast(c->node, &y, &c->in[2], err);
    if (code == SHR_OK) {
        code = shr_type_broadcast(c->node, &y, &c->in[0], err);
    }
    if (code == SHR_OK) {
        c->out[0] = y;
    }
    return code;
}

static int where_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 1, SHR_FIXED_SIZE, err);
}

#define WHERE_LOOP(T)                                                                              \
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {                         \
        const uint8_t *pick = (const uint8_t *)c->in[0]->data + w.at[0];                           \
        const T *a = (const T *)c->in[1]->data + w.at[1];                                          \
        const T *b = (const T *)c->in[2]->data + w.at[2];                                          \
        T *y = (T *)c->out[0]->data + w.out;                                                       \
        for (int64_t i = 0; i < w.inner; i++) {                                                    \
            y[i] = pick[i * w.step[0]] != 0 ? a[i * w.step[1]] : b[i * w.step[2]];                 \
        }                                                                                          \
    }                                                                                              \
    break;

static int where_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct shr_walk w;
    shr_walk_broadcast(&w, c->out[0]->rank, c->out[0]->dim, 3, c->in);
    switch (shr_dtype_size(c->out[0]->dtype)) {
    case 1:
        WHERE_LOOP(uint8_t)
    case 2:
        WHERE_LOOP(uint16_t)
    case 4:
        WHERE_LOOP(uint32_t)
    default:
        WHERE_LOOP(uint64_t)
    }
    return SHR_OK;
}

#define COMPARE(name, since, setup_, fn)                                                           \
    {                                                                                              \
        SHR_ROW(name, since, 0), SHR_SLOTS(2, 2, 1, 1), .infer = compare_infer, .setup = setup_,   \
                                                        .forward = fn, SHR_NO_WEIGHT               \
    }

static const struct shr_op rows[] = {
    COMPARE("And", 7, bool_setup, and_forward),
    COMPARE("Equal", 7, compare_setup, equal_forward),
    COMPARE("Greater", 7, compare_setup, greater_forward),
    COMPARE("GreaterOrEqual", 12, compare_setup, greater_equal_forward),
    COMPARE("Less", 7, compare_setup, less_forward),
    COMPARE("LessOrEqual", 12, compare_setup, less_equal_forward),
    COMPARE("Or", 7, bool_setup, or_forward),
    COMPARE("Xor", 7, bool_setup, xor_forward),
    {SHR_ROW("Not", 1, 0), SHR_SLOTS(1, 1, 1, 1), .infer = shr_infer_same, .setup = bool_setup,
     .forward = not_forward, SHR_NO_WEIGHT, .in_place = true},
    {SHR_ROW("Where", 9, 0), SHR_SLOTS(3, 3, 1, 1), .infer = where_infer, .setup = where_setup,
     .forward = where_forward, .backward = shr_backward_where, SHR_NO_WEIGHT, .halves = true},
};
const struct shr_op_family shr_ops_logic = {rows, SHR_COUNT_OF(rows)};
