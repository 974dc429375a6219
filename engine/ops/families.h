/* The families of the operator table: one file each, listed once here and once in table.c. */
#ifndef SHR_OPS_FAMILIES_H
#define SHR_OPS_FAMILIES_H

#include "ops/op.h"

extern const struct shr_op_family shr_ops_activation, shr_ops_binary, shr_ops_cast, shr_ops_conv,
    shr_ops_fill, shr_ops_integer_add, shr_ops_integer_conv, shr_ops_integer_matmul, shr_ops_logic,
    shr_ops_matmul, shr_ops_move, shr_ops_norm, shr_ops_pool, shr_ops_quant, shr_ops_quant_lstm,
    shr_ops_reduce, shr_ops_reshape, shr_ops_rnn, shr_ops_softmax, shr_ops_unary;

#endif
