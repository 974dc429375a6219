/* Arithmetic of two or more broadcast operands: Add Sub Mul Div Min Max Sum Mean Pow Mod PRelu.
 *
 * A macro writes the row loop for each type; integers wrap around as unsigned ones do. Dividing an
 * integer by zero is an error. Operands of the same shape in float32 go to the kernels. */
#include "ops/util.h"

#include <math.h>

#include "ops/families.h"
#include "ops/grad.h"

/* One row: y[i] = a[i * sa] op b[i * sb]. */
typedef void (*row_fn)(int64_t n, const void *a, int64_t sa, const void *b, int64_t sb, void *y);

/* Each common pair of steps has a loop of its own that the compiler can vectorize. */
#define ROW_FN(op, tag, T, EXPR)                                                                   \
    static void op##_##tag(int64_t n, const void *pa, int64_t sa, const void *pb, int64_t sb,      \
                           void *py)                                                               \
    {                                                                                              \
        const T *a = pa, *b = pb;                                                                  \
        T *y = py;                                                                                 \
        if (sa == 1 && sb == 1) {                                                                  \
            for (int64_t i = 0; i < n; i++) {                                                      \
                y[i] = EXPR(T, a[i], b[i]);                                                        \
            }                                                                                      \
        } else if (sa == 1 && sb == 0) {                                                           \
            const T z = b[0];                                                                      \
            for (int64_t i = 0; i < n; i++) {                                                      \
                y[i] = EXPR(T, a[i], z);                                                           \
            }                                                                                      \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++) {                                                      \
                y[i] = EXPR(T, a[i * sa], b[i * sb]);                                              \
            }                                                                                      \
        }                                                                                          \
    }

#define ROW_FNS(op, INT_EXPR, FLOAT_EXPR)                                                          \
    ROW_FN(op, f32, float, FLOAT_EXPR)                                                             \
    ROW_FN(op, f64, double, FLOAT_EXPR)                                                            \
    ROW_FN(op, i8, int8_t, INT_EXPR)                                                               \
    ROW_FN(op, i16, int16_t, INT_EXPR)                                                             \
    ROW_FN(op, i32, int32_t, INT_EXPR)                                                             \
    ROW_FN(op, i64, int64_t, INT_EXPR)                                                             \
    ROW_FN(op, u8, uint8_t, INT_EXPR)                                                              \
    ROW_FN(op, u16, uint16_t, INT_EXPR)                                                            \
    ROW_FN(op, u32, uint32_t, INT_EXPR)                                                            \
    ROW_FN(op, u64, uint64_t, INT_EXPR)                                                            \
    static const row_fn op##_rows[SHR_DTYPE_COUNT] = {                                             \
        [SHR_DTYPE_F32] = op##_f32, [SHR_DTYPE_F64] = op##_f64, [SHR_DTYPE_I8] = op##_i8,          \
        [SHR_DTYPE_I16] = op##_i16, [SHR_DTYPE_I32] = op##_i32, [SHR_DTYPE_I64] = op##_i64,        \
        [SHR_DTYPE_U8] = op##_u8,   [SHR_DTYPE_U16] = op##_u16, [SHR_DTYPE_U32] = op##_u32,        \
        [SHR_DTYPE_U64] = op##_u64,                                                                \
    };

#define ADD_INT(T, x, z) ((T)((uint64_t)(x) + (uint64_t)(z)))
#define SUB_INT(T, x, z) ((T)((uint64_t)(x) - (uint64_t)(z)))
#define MUL_INT(T, x, z) ((T)((uint64_t)(x) * (uint64_t)(z)))
/* The smallest number divided by -1 wraps around to itself. */
#define DIV_INT(T, x, z) ((z) == (T)-1 && (T)-1 < (T)1 ? SUB_INT(T, 0, x) : (T)((x) / (z)))
#define MIN_INT(T, x, z) ((x) < (z) ? (x) : (z))
#define MAX_INT(T, x, z) ((x) > (z) ? (x) : (z))
#define ADD_FLOAT(T, x, z) ((x) + (z))
#define SUB_FLOAT(T, x, z) ((x) - (z))
#define MUL_FLOAT(T, x, z) ((x) * (z))
#define DIV_FLOAT(T, x, z) ((x) / (z))
/* A NaN on either side is the result. */
#define MIN_FLOAT(T, x, z) ((x) < (z) || (x) != (x) ? (x) : (z))
#define MAX_FLOAT(T, x, z) ((x) > (z) || (x) != (x) ? (x) : (z))

ROW_FNS(add, ADD_INT, ADD_FLOAT)
ROW_FNS(sub, SUB_INT, SUB_FLOAT)
ROW_FNS(mul, MUL_INT, MUL_FLOAT)
ROW_FNS(div, DIV_INT, DIV_FLOAT)
ROW_FNS(min, MIN_INT, MIN_FLOAT)
ROW_FNS(max, MAX_INT, MAX_FLOAT)

static int setup_numbers(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_NUMBERS, err); /* the others have the same type */
}

static int setup_reals(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_BIT(F32) | SHR_BIT(F64), err);
}

typedef void (*kernel_fn)(size_t n, const float *a, const float *b, float *y);

enum { BLOCK = 16384 }; /* elements of a task */

struct pair {         /* y = a op b of operands that are not broadcast */
    kernel_fn kernel; /* or */
    row_fn row;
    const char *a, *b;
    char *y;
    size_t n, size; /* elements, bytes of one */
};

static void pair_block(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct pair *p = arg;
    const size_t first = task * BLOCK, n = p->n - first < BLOCK ? p->n - first : BLOCK;
    const size_t at = first * p->size;
    if (p->kernel != NULL) {
        p->kernel(n, (const float *)(const void *)(p->a + at),
                  (const float *)(const void *)(p->b + at), (float *)(void *)(p->y + at));
    } else {
        p->row((int64_t)n, p->a + at, 1, p->b + at, 1, p->y + at);
    }
}

static void run_pair(const struct shr_op_call *c, const row_fn *rows, kernel_fn kernel,
                     const struct shr_tensor *a, const struct shr_tensor *b, struct shr_tensor *y)
{
    size_t size = shr_dtype_size(y->dtype);
    if (shr_tensor_same_shape(a, b)) {
        struct pair p = {y->dtype == SHR_DTYPE_F32 ? kernel : NULL,
                         rows[y->dtype],
                         a->data,
                         b->data,
                         y->data,
                         (size_t)shr_tensor_count(y),
                         size};
        shr_team_run(c->team, (p.n + BLOCK - 1) / BLOCK, pair_block, &p);
        return;
    }
    const struct shr_tensor *x[] = {a, b};
    struct shr_walk w;
    shr_walk_broadcast(&w, y->rank, y->dim, 2, x);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        rows[y->dtype](w.inner, (const char *)a->data + (size_t)w.at[0] * size, w.step[0],
                       (const char *)b->data + (size_t)w.at[1] * size, w.step[1],
                       (char *)y->data + (size_t)w.out * size);
    }
}

static int add_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    run_pair(c, add_rows, c->kernels->add_f32, c->in[0], c->in[1], c->out[0]);
    return SHR_OK;
}

static int sub_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    run_pair(c, sub_rows, NULL, c->in[0], c->in[1], c->out[0]);
    return SHR_OK;
}

static int mul_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    run_pair(c, mul_rows, c->kernels->mul_f32, c->in[0], c->in[1], c->out[0]);
    return SHR_OK;
}

static int refuse_zero_divisor(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *b = c->in[1];
    const char *bytes = b->data;
    size_t size = shr_dtype_size(b->dtype), n = shr_tensor_bytes(b);
    for (size_t i = 0, zeros = 0; i < n && !shr_dtype_is_float(b->dtype); i++) {
        zeros = bytes[i] == 0 ? zeros + 1 : 0;
        if ((i + 1) % size == 0) {
            if (zeros >= size) {
                return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                                   "element %zu of the integer divisor '%s' is 0", i / size,
                                   shr_op_in_name(c->node, 1));
            }
            zeros = 0;
        }
    }
    return SHR_OK;
}

static int div_forward(const struct shr_op_call *c, struct shr_err *err)
{
    int code = refuse_zero_divisor(c, err);
    if (code == SHR_OK) {
        run_pair(c, div_rows, NULL, c->in[0], c->in[1], c->out[0]);
    }
    return code;
}

/* ── Any number of operands: ((x0 op x1) op x2) … ───────────────────────────────────────────── */

static void run_many(const struct shr_op_call *c, const row_fn *rows, kernel_fn kernel)
{
    struct shr_tensor *y = c->out[0];
    if (c->n_in == 1) {
        shr_copy_same(c->in[0], y);
        return;
    }
    run_pair(c, rows, kernel, c->in[0], c->in[1], y);
    for (size_t i = 2; i < c->n_in; i++) {
        run_pair(c, rows, kernel, y, c->in[i], y);
    }
}

static int min_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    run_many(c, min_rows, NULL);
    return SHR_OK;
}

static int max_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    run_many(c, max_rows, NULL);
    return SHR_OK;
}

static int sum_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    run_many(c, add_rows, c->kernels->add_f32);
    return SHR_OK;
}

static int mean_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    run_many(c, add_rows, c->kernels->add_f32);
    struct shr_tensor *y = c->out[0];
    for (int64_t i = 0; i < shr_tensor_count(y); i++) {
        if (y->dtype == SHR_DTYPE_F64) {
            ((double *)y->data)[i] /= (double)c->n_in;
        } else {
            ((float *)y->data)[i] /= (float)c->n_in;
        }
    }
    return SHR_OK;
}

/* ── Pow, Mod, PRelu ────────────────────────────────────────────────────────────────────────── */

/* The exponent may have a type of its own; the result has the base's. */
static int pow_infer(struct shr_infer *c, struct shr_err *err)
{
    return shr_broadcast_types(c, 0, 1, &c->out[0], err);
}

static int pow_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_want(c, 0, SHR_NUMBERS, err);
    return code == SHR_OK ? shr_op_want(c, 1, SHR_NUMBERS, err) : code;
}

static void pow_row_f32(int64_t n, const void *pa, int64_t sa, const void *pb, int64_t sb, void *py)
{
    const float *a = pa, *b = pb;
    float *y = py;
    bool square = sb == 0 && b[0] == 2.0f, root = sb == 0 && b[0] == 0.5f;
    for (int64_t i = 0; i < n; i++) {
        float x = a[i * sa];
        y[i] = square ? x * x : root ? sqrtf(x) : powf(x, b[i * sb]);
    }
}

static int pow_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    static const row_fn rows[SHR_DTYPE_COUNT] = {[SHR_DTYPE_F32] = pow_row_f32};
    const struct shr_tensor *a = c->in[0], *b = c->in[1];
    struct shr_tensor *y = c->out[0];
    if (a->dtype == SHR_DTYPE_F32 && b->dtype == SHR_DTYPE_F32) {
        run_pair(c, rows, NULL, a, b, y);
        return SHR_OK;
    }
    struct shr_walk w;
    shr_walk_broadcast(&w, y->rank, y->dim, 2, c->in);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        for (int64_t i = 0; i < w.inner; i++) {
            double base = shr_tensor_get(a, w.at[0] + i * w.step[0]);
            shr_tensor_set(y, w.out + i, pow(base, shr_tensor_get(b, w.at[1] + i * w.step[1])));
        }
    }
    return SHR_OK;
}

/* fmod 1: the sign of the dividend, as C. fmod 0: that of the divisor, as Python. */
#define REM_INT(T, x, z) ((z) == (T)-1 && (T)-1 < (T)1 ? (T)0 : (T)((x) % (z)))
#define REM_FLOAT(T, x, z) ((T)fmod(x, z))
ROW_FNS(rem, REM_INT, REM_FLOAT)

static int64_t floor_mod(int64_t x, int64_t z)
{
    int64_t r = REM_INT(int64_t, x, z);
    return r != 0 && (r < 0) != (z < 0) ? r + z : r;
}

static double floor_mod_float(double x, double z)
{
    double r = fmod(x, z);
    if (r == 0.0) {
        return copysign(0.0, z);
    }
    return (r < 0.0) != (z < 0.0) ? r + z : r; /* also a NaN */
}

#define MOD_FLOAT(T, x, z) ((T)floor_mod_float(x, z))
#define MOD_INT(T, x, z) ((T)floor_mod(x, z))
ROW_FN(mod, f32, float, MOD_FLOAT)
ROW_FN(mod, f64, double, MOD_FLOAT)
ROW_FN(mod, i8, int8_t, MOD_INT)
ROW_FN(mod, i16, int16_t, MOD_INT)
ROW_FN(mod, i32, int32_t, MOD_INT)
ROW_FN(mod, i64, int64_t, MOD_INT)
static const row_fn mod_rows[SHR_DTYPE_COUNT] = {
    [SHR_DTYPE_F32] = mod_f32, [SHR_DTYPE_F64] = mod_f64, [SHR_DTYPE_I8] = mod_i8,
    [SHR_DTYPE_I16] = mod_i16, [SHR_DTYPE_I32] = mod_i32, [SHR_DTYPE_I64] = mod_i64,
    [SHR_DTYPE_U8] = rem_u8,   [SHR_DTYPE_U16] = rem_u16, [SHR_DTYPE_U32] = rem_u32,
    [SHR_DTYPE_U64] = rem_u64,
};

static int mod_forward(const struct shr_op_call *c, struct shr_err *err)
{
    int code = refuse_zero_divisor(c, err);
    if (code == SHR_OK) {
        bool as_c = shr_node_int(c->node, "fmod", 0) != 0;
        run_pair(c, as_c ? rem_rows : mod_rows, NULL, c->in[0], c->in[1], c->out[0]);
    }
    return code;
}

/* The slope broadcasts to the input, never the other way. */
static int prelu_infer(struct shr_infer *c, struct shr_err *err)
{
    int code = shr_op_same_dtype(c, 0, 1, err);
    if (code == SHR_OK) {
        code = shr_broadcast_types(c, 0, 1, &c->out[0], err);
    }
    if (code == SHR_OK && c->in[0].rank >= 0 && c->out[0].rank > c->in[0].rank) {
        code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "the slope has more dims than the input");
    }
    return code;
}

#define PRELU(T, x, z) ((x) < 0 ? (T)((x) * (z)) : (x))
ROW_FN(prelu, f32, float, PRELU)
ROW_FN(prelu, f64, double, PRELU)
ROW_FN(prelu, i32, int32_t, PRELU)
ROW_FN(prelu, i64, int64_t, PRELU)

static int prelu_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return shr_op_want(c, 0, SHR_BIT(F32) | SHR_BIT(F64) | SHR_BIT(I32) | SHR_BIT(I64), err);
}

static int prelu_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    static const row_fn rows[SHR_DTYPE_COUNT] = {[SHR_DTYPE_F32] = prelu_f32,
                                                 [SHR_DTYPE_F64] = prelu_f64,
                                                 [SHR_DTYPE_I32] = prelu_i32,
                                                 [SHR_DTYPE_I64] = prelu_i64};
    run_pair(c, rows, NULL, c->in[0], c->in[1], c->out[0]);
    return SHR_OK;
}

#define PAIR(name, since, fn)                                                                      \
    SHR_ROW(name, since, 0), SHR_SLOTS(2, 2, 1, 1),                                                \
        .infer = shr_infer_broadcast, .setup = setup_numbers, .forward = fn, SHR_NO_WEIGHT,        \
        .in_place = true
#define MANY(name, since, setup_, fn)                                                              \
    SHR_ROW(name, since, 0), SHR_SLOTS(1, -1, 1, 1), .infer = shr_infer_broadcast,                 \
                                                     .setup = setup_, .forward = fn, SHR_NO_WEIGHT

static const struct shr_op rows[] = {
    {PAIR("Add", 7, add_forward), .backward = shr_backward_add, .quant_role = SHR_QUANT_ARITH,
     .prune_role = SHR_PRUNE_PASS},
    {PAIR("Sub", 7, sub_forward), .backward = shr_backward_sub, .prune_role = SHR_PRUNE_PASS},
    {PAIR("Mul", 7, mul_forward), .backward = shr_backward_mul, .quant_role = SHR_QUANT_ARITH,
     .prune_role = SHR_PRUNE_PASS},
    {PAIR("Div", 7, div_forward), .backward = shr_backward_div, .prune_role = SHR_PRUNE_PASS},
    {MANY("Max", 6, setup_numbers, max_forward)},
    {MANY("Mean", 6, setup_reals, mean_forward)},
    {MANY("Min", 6, setup_numbers, min_forward)},
    {MANY("Sum", 6, setup_numbers, sum_forward), .backward = shr_backward_sum},
    {SHR_ROW("Mod", 10, 0), SHR_SLOTS(2, 2, 1, 1), .infer = shr_infer_broadcast,
     .setup = setup_numbers, .forward = mod_forward, SHR_NO_WEIGHT},
    {SHR_ROW("Pow", 7, 0), SHR_SLOTS(2, 2, 1, 1), .infer = pow_infer, .setup = pow_setup,
     .forward = pow_forward, SHR_NO_WEIGHT, .backward = shr_backward_pow},
    {SHR_ROW("PRelu", 7, 0), SHR_SLOTS(2, 2, 1, 1), .infer = prelu_infer, .setup = prelu_setup,
     .forward = prelu_forward, SHR_NO_WEIGHT, .backward = shr_backward_prelu},
};
const struct shr_op_family shr_ops_binary = {rows, SHR_COUNT_OF(rows)};
