/* The 16 lanes of vf_avx512.h as two vectors of AVX2, so that tests run the float kernels at this
 * width on machines without AVX-512. See vf.h. */
#ifndef VF_EMULATED_H
#define VF_EMULATED_H

#include <immintrin.h>
#include <string.h>

#include "kernels/internal.h"

#define VF_NAME(name) shr__##name##_emulated

SHR__F32_ENTRIES(emulated)

typedef struct {
    __m256 lo, hi;
} vf;

enum { VF = 16, VF_ROWS_1 = 12, VF_ROWS_2 = 12, VF_ROWS_3 = 8, VF_CHAINS = 8 };

#define ONE(name, op)                                                                              \
    SHR_INLINE vf name(vf a)                                                                       \
    {                                                                                              \
        return (vf){op(a.lo), op(a.hi)};                                                           \
    }
#define TWO(name, op)                                                                              \
    SHR_INLINE vf name(vf a, vf b)                                                                 \
    {                                                                                              \
        return (vf){op(a.lo, b.lo), op(a.hi, b.hi)};                                               \
    }
#define THREE(name, op)                                                                            \
    SHR_INLINE vf name(vf a, vf b, vf c)                                                           \
    {                                                                                              \
        return (vf){op(a.lo, b.lo, c.lo), op(a.hi, b.hi, c.hi)};                                   \
    }

SHR_INLINE __m256 max_nan(__m256 a, __m256 b)
{
    return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}

SHR_INLINE __m256 magnitude_of(__m256 a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

SHR_INLINE __m256 sign_of(__m256 magnitude, __m256 sign)
{
    return _mm256_or_ps(magnitude, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}

SHR_INLINE __m256 rounded(__m256 a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

SHR_INLINE __m256 pow2(__m256 n)
{
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}

SHR_INLINE __m256 less(__m256 a, __m256 b, __m256 then, __m256 otherwise)
{
    return _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

SHR_INLINE __m256 same(__m256 a, __m256 b, __m256 then, __m256 otherwise)
{
    __m256 nan =
        _mm256_and_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q), _mm256_cmp_ps(b, b, _CMP_UNORD_Q));
    return _mm256_blendv_ps(otherwise, then, _mm256_or_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), nan));
}

TWO(vf_add, _mm256_add_ps)
TWO(vf_sub, _mm256_sub_ps)
TWO(vf_mul, _mm256_mul_ps)
TWO(vf_div, _mm256_div_ps)
TWO(vf_min, _mm256_min_ps)
TWO(vf_max, _mm256_max_ps)
TWO(vf_max_nan, max_nan)
TWO(vf_sign_of, sign_of)
THREE(vf_fma, _mm256_fmadd_ps)
THREE(vf_fnma, _mm256_fnmadd_ps)
ONE(vf_abs, magnitude_of)
ONE(vf_sqrt, _mm256_sqrt_ps)
ONE(vf_round, rounded)
ONE(vf_pow2, pow2)

SHR_INLINE vf vf_less(vf a, vf b, vf then, vf otherwise)
{
    return (vf){less(a.lo, b.lo, then.lo, otherwise.lo), less(a.hi, b.hi, then.hi, otherwise.hi)};
}

SHR_INLINE vf vf_same(vf a, vf b, vf then, vf otherwise)
{
    return (vf){same(a.lo, b.lo, then.lo, otherwise.lo), same(a.hi, b.hi, then.hi, otherwise.hi)};
}

SHR_INLINE vf vf_set1(float x)
{
    return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

SHR_INLINE void vf_fetch(const float *p) /* to the second cache */
{
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

SHR_INLINE vf vf_zero(void)
{
    return vf_set1(0);
}

SHR_INLINE vf vf_broadcast(const float *p)
{
    return vf_set1(*p);
}

SHR_INLINE vf vf_load(const float *p)
{
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

SHR_INLINE void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}

SHR_INLINE vf vf_load_some(const float *p, size_t n)
{
    vf v = vf_zero();
    memcpy(&v, p, n * sizeof *p);
    return v;
}

SHR_INLINE void vf_store_some(float *p, vf v, size_t n)
{
    memcpy(p, &v, n * sizeof *p);
}

SHR_INLINE float vf_sum(vf v)
{
    float all[VF], sum = 0;
    vf_store(all, v);
    for (size_t i = 0; i < VF; i++) {
        sum += all[i];
    }
    return sum;
}

SHR_INLINE float vf_largest(vf v)
{
    float all[VF];
    vf_store(all, v);
    for (size_t i = 1; i < VF; i++) {
        all[0] = all[i] > all[0] ? all[i] : all[0];
    }
    return all[0];
}

#endif
