/* What static quantization quantizes: which nodes, and which values between them.
 *
 *   - A weighted node (Conv, Gemm, MatMul with constant weights) always, unless filtered
 *     or kept in float for accuracy.
 *   - A node of arithmetic (Add, Concat, pooling by average) when one of its inputs comes from a
 *     quantized node and its output is not the model's.
 *   - A value that a quantized node reads, or that Conv or arithmetic writes. Between such a node
 *     and the Relu or Clip that alone reads it the value stays as it is: the activation's output
 *     is quantized instead, and kernels do both at once.
 *   - Behind MaxPool, Reshape and the like the range of their input is kept, which loses nothing.
 *     What only a Concat reads has the range of its output (static_ranges.h).
 *   - Never: the model's outputs. */
#ifndef SHR_PASSES_STATIC_SELECT_H
#define SHR_PASSES_STATIC_SELECT_H

#include "base/vec.h"
#include "passes/pass.h"

enum shr_static_fixed {
    SHR_STATIC_SEEN,  /* its range is read from what calibration saw */
    SHR_STATIC_GIVEN, /* by the user */
    SHR_STATIC_SOFTMAX,
};

struct shr_static_value {
    struct shr_value *v;
    size_t range_of;  /* index of the value whose range and scale it has, often its own */
    int channel_axis; /* when a weighted node reads it, else -1 */
    enum shr_static_fixed fixed;
    double min, max; /* the range, when it is fixed */
};

struct shr_static {
    SHR_VEC(struct shr_static_value) values; /* in the order of the graph */
    SHR_VEC(struct shr_node *) weighted;
};

/* in_float: [n_nodes], by position, the weighted nodes that stay in float; NULL = none. */
int shr_static_select(struct shr_model *model, const struct shr_arg *nodes, const bool *in_float,
                      struct shr_report *report, struct shr_static *ret,
                      struct shr_err *err) SHR_MUSTCHECK;
void shr_static_finish(struct shr_static *s);

/* The entry of a value, or NULL when it stays in float. */
const struct shr_static_value *shr_static_find(const struct shr_static *s,
                                               const struct shr_value *v);

#endif
