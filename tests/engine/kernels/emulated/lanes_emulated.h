/* The 16 lanes of lanes_avx512.h as two vectors of AVX2: the same results, on machines without
 * AVX-512. What the VNNI kernels do at this width, other than the instructions, is so run by tests.
 */
#ifndef LANES_EMULATED_H
#define LANES_EMULATED_H

#include <immintrin.h>
#include <string.h>

#include "base/attr.h"

enum { LANES = 16, PANEL = 4, HALF = 8 };

typedef struct {
    __m256i lo, hi;
} vec_t;
typedef struct {
    __m256 lo, hi;
} fvec_t;

#define BOTH(name, type, op)                                                                       \
    SHR_INLINE type name(type a, type b)                                                           \
    {                                                                                              \
        return (type){op(a.lo, b.lo), op(a.hi, b.hi)};                                             \
    }
BOTH(v_add, vec_t, _mm256_add_epi32)
BOTH(v_sub, vec_t, _mm256_sub_epi32)
BOTH(v_mul, vec_t, _mm256_mullo_epi32)
BOTH(f_add, fvec_t, _mm256_add_ps)
BOTH(f_mul, fvec_t, _mm256_mul_ps)
BOTH(f_max, fvec_t, _mm256_max_ps)
BOTH(f_min, fvec_t, _mm256_min_ps)
BOTH(bytes_lo, vec_t, _mm256_unpacklo_epi8)
BOTH(bytes_hi, vec_t, _mm256_unpackhi_epi8)
BOTH(words_lo, vec_t, _mm256_unpacklo_epi16)
BOTH(words_hi, vec_t, _mm256_unpackhi_epi16)
BOTH(pack_words, vec_t, _mm256_packs_epi32)
BOTH(pack_signed, vec_t, _mm256_packs_epi16)
BOTH(pack_unsigned, vec_t, _mm256_packus_epi16)

SHR_INLINE vec_t v_set(int32_t x)
{
    return (vec_t){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

SHR_INLINE fvec_t f_set(float x)
{
    return (fvec_t){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

SHR_INLINE vec_t v_zero(void)
{
    return v_set(0);
}

SHR_INLINE vec_t v_load(const void *p)
{
    vec_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

SHR_INLINE void v_store(void *p, vec_t v)
{
    memcpy(p, &v, sizeof v);
}

SHR_INLINE __m256i dot(__m256i sum, __m256i a, __m256i b)
{
    __m256i even = _mm256_and_si256(a, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(a, 8);
    __m256i b_even = _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, b_even));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(odd, _mm256_srai_epi16(b, 8)));
}

SHR_INLINE vec_t v_dot(vec_t sum, vec_t a, vec_t b)
{
    return (vec_t){dot(sum.lo, a.lo, b.lo), dot(sum.hi, a.hi, b.hi)};
}

SHR_INLINE fvec_t v_float(vec_t v)
{
    return (fvec_t){_mm256_cvtepi32_ps(v.lo), _mm256_cvtepi32_ps(v.hi)};
}

SHR_INLINE vec_t v_round(fvec_t v)
{
    return (vec_t){_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi)};
}

SHR_INLINE size_t at_most(size_t n, size_t most)
{
    return n < most ? n : most;
}

SHR_INLINE vec_t v_load_some(const int32_t *p, size_t lanes)
{
    vec_t v = v_zero();
    memcpy(&v, p, at_most(lanes, LANES) * sizeof *p);
    return v;
}

SHR_INLINE fvec_t f_load_some(const float *p, size_t lanes)
{
    fvec_t v = f_set(0);
    memcpy(&v, p, at_most(lanes, LANES) * sizeof *p);
    return v;
}

SHR_INLINE void v_store_some(int32_t *p, vec_t v, size_t lanes)
{
    memcpy(p, &v, at_most(lanes, LANES) * sizeof *p);
}

SHR_INLINE void f_store_some(float *p, fvec_t v, size_t lanes)
{
    memcpy(p, &v, at_most(lanes, LANES) * sizeof *p);
}

SHR_INLINE void v_store_bytes(uint8_t *p, vec_t v, size_t lanes, bool is_signed)
{
    uint32_t all[LANES];
    (void)is_signed;
    v_store(all, v);
    for (size_t i = 0; i < at_most(lanes, LANES); i++) {
        p[i] = (uint8_t)all[i];
    }
}

SHR_INLINE void v_interleave(vec_t a, vec_t b, vec_t c, vec_t d, vec_t *out)
{
    vec_t ab0 = bytes_lo(a, b), ab1 = bytes_hi(a, b), cd0 = bytes_lo(c, d), cd1 = bytes_hi(c, d);
    out[0] = words_lo(ab0, cd0);
    out[1] = words_hi(ab0, cd0);
    out[2] = words_lo(ab1, cd1);
    out[3] = words_hi(ab1, cd1);
}

SHR_INLINE void v_store_interleaved(uint8_t *p, const vec_t *v, size_t n, bool is_signed)
{
    vec_t lo = pack_words(v[0], v[1]), hi = pack_words(v[2], v[3]);
    vec_t bytes = is_signed ? pack_signed(lo, hi) : pack_unsigned(lo, hi);
    memcpy(p, &bytes, at_most(n, sizeof bytes));
}

#endif
