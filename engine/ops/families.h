/* The families of the operator table: one file each, listed once here and once in table.c. */
#ifndef SHR_OPS_FAMILIES_H
#define SHR_OPS_FAMILIES_H

#include "ops/op.h"

extern const struct shr_op_family shr_ops_activation;
extern const struct shr_op_family shr_ops_binary;
extern const struct shr_op_family shr_ops_bits;
extern const struct shr_op_family shr_ops_cast;
extern const struct shr_op_family shr_ops_contrib;
extern const struct shr_op_family shr_ops_conv;
extern const struct shr_op_family shr_ops_fill;
extern const struct shr_op_family shr_ops_gru;
extern const struct shr_op_family shr_ops_integer_binary;
extern const struct shr_op_family shr_ops_integer_conv;
extern const struct shr_op_family shr_ops_integer_map;
extern const struct shr_op_family shr_ops_integer_matmul;
extern const struct shr_op_family shr_ops_integer_pool;
extern const struct shr_op_family shr_ops_logic;
extern const struct shr_op_family shr_ops_lstm;
extern const struct shr_op_family shr_ops_matmul;
extern const struct shr_op_family shr_ops_matmul_nbits;
extern const struct shr_op_family shr_ops_move;
extern const struct shr_op_family shr_ops_norm;
extern const struct shr_op_family shr_ops_pool;
extern const struct shr_op_family shr_ops_quant;
extern const struct shr_op_family shr_ops_quant_lstm;
extern const struct shr_op_family shr_ops_reduce;
extern const struct shr_op_family shr_ops_reshape;
extern const struct shr_op_family shr_ops_softmax;
extern const struct shr_op_family shr_ops_unary;

#endif
