/* The families of the operator table. */
#ifndef SHR_OPS_FAMILIES_H
#define SHR_OPS_FAMILIES_H

#include "ops/op.h"

#define X(name) extern const struct shr_op_family shr_ops_##name;
#include "ops/families.def"
#undef X

#endif
