/* A vector of floats by AVX2 and FMA: eight lanes. See vf.h. */
#ifndef SHR_KERNELS_VF_AVX2_H
#define SHR_KERNELS_VF_AVX2_H

#include <immintrin.h>
#include <stddef.h>

#include "base/attr.h"

#define VF_NAME(name) shr__##name##_avx2

typedef __m256 vf; /* floats */

enum {
    VF = 8,        /* lanes */
    VF_ROWS_1 = 8, /* rows of a tile of one, two and three vectors: the sums fill the registers */
    VF_ROWS_2 = 6,
    VF_ROWS_3 = 4,
    VF_CHAINS = 8, /* sums in flight that hide the latency of a multiply-add */
};

SHR_INLINE vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

SHR_INLINE void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}

/* The first n < VF lanes; the others are 0. */
SHR_INLINE vf vf_load_some(const float *p, size_t n)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane));
}

/* In pieces, since masked stores are slow on some machines. */
SHR_INLINE void vf_store_some(float *p, vf v, size_t n)
{
    __m128 x = _mm256_castps256_ps128(v);
    if ((n & 4) != 0) {
        _mm_storeu_ps(p, x);
        x = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if ((n & 2) != 0) {
        _mm_storel_pi((__m64 *)p, x);
        x = _mm_movehl_ps(x, x);
        p += 2;
    }
    if ((n & 1) != 0) {
        _mm_store_ss(p, x);
    }
}

SHR_INLINE void vf_fetch(const float *p) /* to the second cache */
{
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

SHR_INLINE vf vf_zero(void)
{
    return _mm256_setzero_ps();
}

SHR_INLINE vf vf_set1(float x)
{
    return _mm256_set1_ps(x);
}

SHR_INLINE vf vf_broadcast(const float *p)
{
    return _mm256_broadcast_ss(p);
}

SHR_INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

SHR_INLINE vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

SHR_INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

SHR_INLINE vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

SHR_INLINE vf vf_fma(vf a, vf b, vf c) /* a * b + c */
{
    return _mm256_fmadd_ps(a, b, c);
}

SHR_INLINE vf vf_fnma(vf a, vf b, vf c) /* c - a * b */
{
    return _mm256_fnmadd_ps(a, b, c);
}

SHR_INLINE vf vf_min(vf a, vf b) /* b where either is NaN */
{
    return _mm256_min_ps(a, b);
}

SHR_INLINE vf vf_max(vf a, vf b) /* b where either is NaN */
{
    return _mm256_max_ps(a, b);
}

SHR_INLINE vf vf_max_nan(vf a, vf b) /* NaN where either is */
{
    return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}

SHR_INLINE vf vf_abs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

SHR_INLINE vf vf_sign_of(vf magnitude, vf sign) /* magnitude >= 0, with the sign of the other */
{
    return _mm256_or_ps(magnitude, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}

SHR_INLINE vf vf_sqrt(vf a)
{
    return _mm256_sqrt_ps(a);
}

SHR_INLINE vf vf_round(vf a) /* to nearest, ties to even */
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

SHR_INLINE vf vf_less(vf a, vf b, vf then, vf otherwise) /* a < b ? then : otherwise */
{
    return _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

SHR_INLINE vf vf_same(vf a, vf b, vf then, vf otherwise) /* a == b, or both are NaN */
{
    const __m256 nan =
        _mm256_and_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q), _mm256_cmp_ps(b, b, _CMP_UNORD_Q));
    return _mm256_blendv_ps(otherwise, then, _mm256_or_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), nan));
}

SHR_INLINE vf vf_pow2(vf n) /* 2^n of an integer in [-126, 127] */
{
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}

SHR_INLINE float vf_sum(vf v)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

SHR_INLINE float vf_largest(vf v)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

#endif
