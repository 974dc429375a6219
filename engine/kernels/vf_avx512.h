/* A vector of floats by AVX-512 (F, BW, DQ, VL): sixteen lanes. See vf.h. */
#ifndef SHR_KERNELS_VF_AVX512_H
#define SHR_KERNELS_VF_AVX512_H

#include <immintrin.h>
#include <stddef.h>

#include "base/attr.h"

#define VF_NAME(name) shr__##name##_avx512

typedef __m512 vf; /* floats */

enum {
    VF = 16,        /* lanes */
    VF_ROWS_1 = 12, /* rows of a tile of one, two and three vectors, for 32 registers */
    VF_ROWS_2 = 12,
    VF_ROWS_3 = 8,
    VF_CHAINS = 8, /* sums in flight that hide the latency of a multiply-add */
};

SHR_INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

SHR_INLINE void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

SHR_INLINE __mmask16 vf_first(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

/* The first n < VF lanes; the others are 0. */
SHR_INLINE vf vf_load_some(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(vf_first(n), p);
}

SHR_INLINE void vf_store_some(float *p, vf v, size_t n)
{
    _mm512_mask_storeu_ps(p, vf_first(n), v);
}

SHR_INLINE void vf_fetch(const float *p) /* to the second cache */
{
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

SHR_INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}

SHR_INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}

SHR_INLINE vf vf_broadcast(const float *p)
{
    return _mm512_set1_ps(*p);
}

SHR_INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

SHR_INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

SHR_INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

SHR_INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

SHR_INLINE vf vf_fma(vf a, vf b, vf c) /* a * b + c */
{
    return _mm512_fmadd_ps(a, b, c);
}

SHR_INLINE vf vf_fnma(vf a, vf b, vf c) /* c - a * b */
{
    return _mm512_fnmadd_ps(a, b, c);
}

SHR_INLINE vf vf_min(vf a, vf b) /* b where either is NaN */
{
    return _mm512_min_ps(a, b);
}

SHR_INLINE vf vf_max(vf a, vf b) /* b where either is NaN */
{
    return _mm512_max_ps(a, b);
}

SHR_INLINE vf vf_max_nan(vf a, vf b) /* NaN where either is */
{
    __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    return _mm512_mask_blend_ps(nan, _mm512_max_ps(a, b), a);
}

SHR_INLINE vf vf_abs(vf a)
{
    return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a);
}

SHR_INLINE vf vf_sign_of(vf magnitude, vf sign) /* magnitude >= 0, with the sign of the other */
{
    return _mm512_or_ps(magnitude, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign));
}

SHR_INLINE vf vf_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}

SHR_INLINE vf vf_round(vf a) /* to nearest, ties to even */
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

SHR_INLINE vf vf_less(vf a, vf b, vf then, vf otherwise) /* a < b ? then : otherwise */
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), otherwise, then);
}

SHR_INLINE vf vf_same(vf a, vf b, vf then, vf otherwise) /* a == b, or both are NaN */
{
    const __mmask16 nan =
        _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) & _mm512_cmp_ps_mask(b, b, _CMP_UNORD_Q);
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ) | nan, otherwise, then);
}

SHR_INLINE vf vf_pow2(vf n) /* 2^n of an integer in [-126, 127] */
{
    __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
}

SHR_INLINE float vf_sum(vf v)
{
    return _mm512_reduce_add_ps(v);
}

SHR_INLINE float vf_largest(vf v)
{
    return _mm512_reduce_max_ps(v);
}

#endif
