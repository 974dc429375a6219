/* The kernels of AVX-512, AVX-512 VNNI and AVX-VNNI with their instructions made of AVX2:
 * everything but the instructions themselves is checked on a machine that has none of them. */
#include "checkkernels.h"
#include "kernels/entries.h"

SHR__F32_ENTRIES(emulated)
SHR__I8_ENTRIES(emulated)
SHR__I8_ENTRIES(emulated_ymm)

/* clang-format off */
static const struct shr_kernels avx512vnni_table = {
    .cpu = SHR_CPU_AVX2,
    F32_ENTRIES(emulated)
    I8_ENTRIES(emulated)
    LOOP_ENTRIES(avx2)
};

static const struct shr_kernels avxvnni_table = {
    .cpu = SHR_CPU_AVX2,
    F32_ENTRIES(avx2)
    I8_ENTRIES(emulated_ymm)
    LOOP_ENTRIES(avx2)
};
/* clang-format on */

const struct emulated emulated[] = {
    {&avx512vnni_table, "emulated avx512vnni"},
    {&avxvnni_table, "emulated avxvnni"},
    {NULL, NULL},
};
