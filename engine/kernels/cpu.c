/* What this machine can run. A feature counts only when the processor has it (cpuid) and the
 * operating system saves its registers (xgetbv). Thread: any. */
#include <stdio.h>

#include "base/attr.h"
#include "shrink.h"

#ifdef SHR_KERNELS_X86
#include <cpuid.h>
#include <immintrin.h>

/* Register state that the system saves, as bits of XCR0. */
enum { XCR0_YMM = 0x06, XCR0_ZMM = 0xe6 };

static unsigned detect(void)
{
    unsigned a, b, c, d, max = __get_cpuid_max(0, NULL), flags = 0;
    if (max < 7) {
        return 0;
    }
    __cpuid(1, a, b, c, d);
    if ((c & bit_OSXSAVE) == 0) {
        return 0;
    }
    unsigned long long saved = _xgetbv(0);
    bool fma = (c & bit_FMA) != 0 && (c & bit_F16C) != 0;
    __cpuid_count(7, 0, a, b, c, d);
    unsigned sub_leaves = a;
    if ((saved & XCR0_YMM) != XCR0_YMM || (b & bit_AVX2) == 0 || !fma) {
        return 0;
    }
    flags |= SHR_CPU_AVX2;
    unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((saved & XCR0_ZMM) == XCR0_ZMM && (b & avx512) == avx512) {
        flags |= SHR_CPU_AVX512;
        flags |= (c & bit_AVX512VNNI) != 0 ? SHR_CPU_AVX512VNNI : 0;
    }
    if (sub_leaves >= 1) {
        __cpuid_count(7, 1, a, b, c, d);
        flags |= (a & bit_AVXVNNI) != 0 ? SHR_CPU_AVXVNNI : 0;
    }
    return flags;
}
#else
static unsigned detect(void)
{
    return 0;
}
#endif

unsigned shr_cpu_flags(void)
{
    return detect();
}

const char *shr_cpu_name(unsigned flags, char *text, size_t size)
{
    static const struct {
        unsigned flag;
        const char *name;
    } names[] = {
        {SHR_CPU_AVX2, "avx2"},
        {SHR_CPU_AVXVNNI, "avxvnni"},
        {SHR_CPU_AVX512, "avx512"},
        {SHR_CPU_AVX512VNNI, "avx512vnni"},
    };
    size_t used = 0;
    if (size == 0) {
        return text;
    }
    text[0] = '\0';
    for (size_t i = 0; i < SHR_COUNT_OF(names); i++) {
        if ((flags & names[i].flag) != 0 && used < size) {
            int n = snprintf(text + used, size - used, "%s%s", used > 0 ? " " : "", names[i].name);
            used += n > 0 ? (size_t)n : 0;
        }
    }
    if (used == 0) {
        snprintf(text, size, "none");
    }
    return text;
}
