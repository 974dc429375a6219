/* What the rows of the operator table share: checks with good messages, and walks over broadcast
 * or strided operands.
 *
 * For files in ops/ only. Nothing here allocates. Thread: any. */
#ifndef SHR_OPS_UTIL_H
#define SHR_OPS_UTIL_H

#include "base/mem.h"
#include "ops/op.h"

/* Fields of a row that most rows have alike: SHR_ROW("Relu", 7, 0), SHR_SLOTS(1, 1, 1, 1), … */
#define SHR_ROW(name_, since_, until_) .domain = "", .name = name_, .since = since_, .until = until_
#define SHR_SLOTS(in_min_, in_max_, out_min_, out_max_)                                            \
    .in_min = in_min_, .in_max = in_max_, .out_min = out_min_, .out_max = out_max_
#define SHR_NO_WEIGHT .weight_slot = -1, .bias_slot = -1

/* ── Checks ─────────────────────────────────────────────────────────────────────────────────── */

/* Sets of types. */
#define SHR_BIT(dtype) (1u << SHR_DTYPE_##dtype)
#define SHR_SIGNED_INTS (SHR_BIT(I8) | SHR_BIT(I16) | SHR_BIT(I32) | SHR_BIT(I64))
#define SHR_INTS (SHR_SIGNED_INTS | SHR_BIT(U8) | SHR_BIT(U16) | SHR_BIT(U32) | SHR_BIT(U64))
#define SHR_NUMBERS (SHR_INTS | SHR_BIT(F32) | SHR_BIT(F64))
#define SHR_FLOATS (SHR_BIT(F32) | SHR_BIT(F64) | SHR_BIT(F16) | SHR_BIT(BF16))
#define SHR_PART_INTS (SHR_BIT(I4) | SHR_BIT(U4) | SHR_BIT(I2) | SHR_BIT(U2))
#define SHR_FLOAT8 (SHR_BIT(F8E4M3FN) | SHR_BIT(F8E4M3FNUZ) | SHR_BIT(F8E5M2) | SHR_BIT(F8E5M2FNUZ))
#define SHR_SMALL_FLOATS (SHR_FLOAT8 | SHR_BIT(F4E2M1) | SHR_BIT(F8E8M0))
#define SHR_FIXED_SIZE /* no strings */                                                            \
    (SHR_NUMBERS | SHR_BIT(BOOL) | SHR_BIT(F16) | SHR_BIT(BF16) | SHR_PART_INTS | SHR_SMALL_FLOATS)

/* UNSUPPORTED when the input is given and its type is not in the set. */
int shr_op_want(const struct shr_op_setup *c, size_t slot, unsigned dtypes,
                struct shr_err *err) SHR_MUSTCHECK;
/* A setup for rows that compute in float32 alone: every input must be float32. */
int shr_op_setup_f32(struct shr_op_setup *c, struct shr_err *err) SHR_MUSTCHECK;
/* A setup for rows that move elements of any fixed size: input 0 must not hold strings. */
int shr_op_setup_move(struct shr_op_setup *c, struct shr_err *err) SHR_MUSTCHECK;

/* The name of an input or output for messages; "" when omitted. */
const char *shr_op_in_name(const struct shr_node *node, size_t slot);

/* INVALID when both types are known and differ. */
int shr_op_same_dtype(const struct shr_infer *c, size_t a, size_t b,
                      struct shr_err *err) SHR_MUSTCHECK;

bool shr_op_has_in(const struct shr_infer *c, size_t slot); /* given, not omitted */

/* An axis in [-rank, rank) as one in [0, rank); INVALID names the attribute. */
int shr_op_axis(const struct shr_node *node, const char *what, int64_t axis, int rank, int *ret,
                struct shr_err *err) SHR_MUSTCHECK;

/* The elements of an int32 or int64 tensor; at most max of them, else INVALID. */
int shr_op_ints(const struct shr_node *node, const char *what, const struct shr_tensor *t,
                int64_t *values, size_t max, size_t *ret_n, struct shr_err *err) SHR_MUSTCHECK;

/* Element i of an int32 or int64 tensor. */
static inline int64_t shr_op_int_at(const struct shr_tensor *t, int64_t i)
{
    return t->dtype == SHR_DTYPE_I64 ? ((const int64_t *)t->data)[i]
                                     : ((const int32_t *)t->data)[i];
}

/* The tensor of an input slot; NULL when it is omitted. */
static inline const struct shr_tensor *shr_op_given(size_t n_in, const struct shr_tensor *const *in,
                                                    size_t slot)
{
    return slot < n_in ? in[slot] : NULL;
}

enum { SHR_LIST_MAX = 2 * SHR_MAX_RANK }; /* pads are two for each dim */

/* A list of axes, dims or pads: an attribute, or from some opset on an input. */
struct shr_int_list {
    bool given; /* false: neither attribute nor input */
    bool known; /* false: given as an input whose data is not known yet */
    size_t n;
    int64_t v[SHR_LIST_MAX];
};
/* attr NULL = no such attribute; slot (size_t)-1 = no such input. */
int shr_op_list_infer(const struct shr_infer *c, const char *attr, size_t slot,
                      struct shr_int_list *ret, struct shr_err *err) SHR_MUSTCHECK;
int shr_op_list_call(const struct shr_op_call *c, const char *attr, size_t slot,
                     struct shr_int_list *ret, struct shr_err *err) SHR_MUSTCHECK;

/* Bit i set for every axis i of the list (negative counted from the end); INVALID on a repeat. */
int shr_op_axes_mask(const struct shr_node *node, const struct shr_int_list *axes, int rank,
                     unsigned *ret, struct shr_err *err) SHR_MUSTCHECK;

void shr_type_unknown(struct shr_type *t);
/* A dim of a type: n, or symbolic when n < 0. */
void shr_type_set_dim(struct shr_type *t, int i, int64_t n, const char *sym);
void shr_type_copy_dim(struct shr_type *t, int i, const struct shr_type *from, int from_i);
/* Adds `from` to the broadcast shape in `to` (numpy rules). */
int shr_type_broadcast(const struct shr_node *node, struct shr_type *to,
                       const struct shr_type *from, struct shr_err *err) SHR_MUSTCHECK;

/* Infer rules that many rows have. */
int shr_infer_same(struct shr_infer *c, struct shr_err *err); /* output 0 as input 0 */
int shr_infer_dims(struct shr_infer *c, struct shr_err *err); /* attribute dims, dtype of input 0 */
int shr_infer_broadcast(struct shr_infer *c, struct shr_err *err); /* all inputs, one dtype */

/* Product of dims [from, to). */
int64_t shr_dims_product(const int64_t *dim, int from, int to);

/* Elements of the output times the product of n dims, for macs; -1 when it does not fit. */
int64_t shr_op_macs(const struct shr_type *out, int n, const int64_t *dim);

/* y = act(x), float32, of all elements of input 0; in blocks, by the team. */
void shr_op_act(const struct shr_op_call *c, enum shr_act act, float lo, float hi);

/* ── Walks ──────────────────────────────────────────────────────────────────────────────────── */

enum { SHR_WALK_MAX = 3 };

/* Rows of a dense output, with the place of each operand: neighbouring dims are merged where every
 * operand allows it, so that rows are as long as can be. Strides and offsets count elements.
 *
 *     for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w))
 *         row of w.inner elements: out + w.out, x[k] + w.at[k] with step w.step[k] */
struct shr_walk {
    int rank; /* after merging, without the row's dim */
    int n;
    int64_t inner, out;
    int64_t at[SHR_WALK_MAX], step[SHR_WALK_MAX];
    int64_t dim[SHR_MAX_RANK], index[SHR_MAX_RANK], stride[SHR_WALK_MAX][SHR_MAX_RANK];
};

/* Operands with any strides: stride[k][i] belongs to dim[i]. */
void shr_walk_init(struct shr_walk *w, int rank, const int64_t *dim, int n,
                   const int64_t (*stride)[SHR_MAX_RANK]);
/* Dense operands broadcast to the shape. */
void shr_walk_broadcast(struct shr_walk *w, int rank, const int64_t *dim, int n,
                        const struct shr_tensor *const *x);
bool shr_walk_begin(struct shr_walk *w); /* false when there is no element */
bool shr_walk_next(struct shr_walk *w);

/* Strides of a dense tensor, and of one broadcast to a rank (0 where its dim is 1). */
void shr_dense_strides(int rank, const int64_t *dim, int64_t *ret);
void shr_broadcast_strides(const struct shr_tensor *x, int rank, int64_t *ret);

/* y (dense, dim) = elements of x at strides; size = bytes of an element (1, 2, 4 or 8). */
void shr_copy_strided(size_t size, int rank, const int64_t *dim, const int64_t *stride,
                      const void *x, void *y);
/* y = bytes of x; they may be the same memory. */
void shr_copy_same(const struct shr_tensor *x, struct shr_tensor *y);

#endif
