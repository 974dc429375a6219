/* The vector of floats that the f32_*.c files are written in.
 *
 * Those files are compiled once for each instruction set, in its library, which says by a macro
 * (SHR_VF_...) which vector it has. A vector is described by its lanes (VF), how many rows a tile
 * of one, two or three vectors has (VF_ROWS_1 …), the operations vf_*, and VF_NAME, the name of a
 * table's entry. */
#ifndef SHR_KERNELS_VF_H
#define SHR_KERNELS_VF_H

#if defined(SHR_LANES_EMULATED) /* tests only */
#include "vf_emulated.h"
#elif defined(SHR_VF_AVX512)
#include "kernels/vf_avx512.h"
#else
#include "kernels/vf_avx2.h"
#endif

#endif
