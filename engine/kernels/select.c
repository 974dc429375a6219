/* The kernel tables, and which of them a machine gets.
 *
 * A table is complete and constant: reading one shows at once which entries an instruction set
 * replaces. A new instruction set is a static_library of its own with its entries, a table here,
 * and a place in the list, strongest first. Thread: any. */
#include "kernels/entries.h"

/* Lists, which the formatter does not see in macros. */
/* clang-format off */
static const struct shr_kernels ref_table = {
    .cpu = 0,
    F32_ENTRIES(ref)
    I8_ENTRIES(ref)
    LOOP_ENTRIES(ref)
};

#ifdef SHR_KERNELS_X86
static const struct shr_kernels avx2_table = {
    .cpu = SHR_CPU_AVX2,
    F32_ENTRIES(avx2)
    I8_ENTRIES(avx2)
    LOOP_ENTRIES(avx2)
};

static const struct shr_kernels avxvnni_table = {
    .cpu = SHR_CPU_AVX2 | SHR_CPU_AVXVNNI,
    F32_ENTRIES(avx2)
    I8_ENTRIES(avxvnni)
    LOOP_ENTRIES(avx2)
};

static const struct shr_kernels avx512_table = {
    .cpu = SHR_CPU_AVX2 | SHR_CPU_AVX512,
    F32_ENTRIES(avx512)
    I8_ENTRIES(avx2)
    LOOP_ENTRIES(avx2)
};

static const struct shr_kernels avx512vnni_table = {
    .cpu = SHR_CPU_AVX2 | SHR_CPU_AVX512 | SHR_CPU_AVX512VNNI,
    F32_ENTRIES(avx512)
    I8_ENTRIES(avx512vnni)
    LOOP_ENTRIES(avx2)
};
#endif
/* clang-format on */

/* Strongest first; the last needs nothing. */
static const struct shr_kernels *const tables[] = {
#ifdef SHR_KERNELS_X86
    &avx512vnni_table, &avx512_table, &avxvnni_table, &avx2_table,
#endif
    &ref_table,
};

const struct shr_kernels *shr_kernels_get(unsigned cpu_mask)
{
    unsigned allowed = shr_cpu_flags() & ~cpu_mask;
    size_t i = 0;
    while ((tables[i]->cpu & ~allowed) != 0) {
        i++;
    }
    return tables[i];
}
