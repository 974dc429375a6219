/* The vectors of the VNNI kernels, 8 lanes wide: AVX2, and AVX-VNNI for one instruction.
 *
 * Compiled without AVX-VNNI, v_dot is made of AVX2: slower, and equal. So the tests run all of
 * these kernels but the instruction itself on machines that lack it. lanes_avx512.h has the same
 * names. */
#ifndef SHR_KERNELS_LANES_AVX2_H
#define SHR_KERNELS_LANES_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"

enum { LANES = 8, PANEL = 2 /* vectors a tile is wide */ };

typedef __m256i vec_t;
typedef __m256 fvec_t;

SHR_INLINE vec_t v_zero(void)
{
    return _mm256_setzero_si256();
}

SHR_INLINE vec_t v_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

SHR_INLINE void v_store(void *p, vec_t v)
{
    _mm256_storeu_si256(p, v);
}

SHR_INLINE vec_t v_set(int32_t x)
{
    return _mm256_set1_epi32(x);
}

SHR_INLINE vec_t v_add(vec_t a, vec_t b)
{
    return _mm256_add_epi32(a, b);
}

SHR_INLINE vec_t v_sub(vec_t a, vec_t b)
{
    return _mm256_sub_epi32(a, b);
}

SHR_INLINE vec_t v_mul(vec_t a, vec_t b)
{
    return _mm256_mullo_epi32(a, b);
}

/* sum + four products of uint8 a and int8 b a lane, exact */
#ifdef __AVXVNNI__
SHR_INLINE vec_t v_dot(vec_t sum, vec_t a, vec_t b)
{
    return _mm256_dpbusd_avx_epi32(sum, a, b);
}
#else
SHR_INLINE vec_t v_dot(vec_t sum, vec_t a, vec_t b)
{
    vec_t a_even = _mm256_and_si256(a, _mm256_set1_epi16(255)), a_odd = _mm256_srli_epi16(a, 8);
    vec_t b_even = _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8), b_odd = _mm256_srai_epi16(b, 8);
    sum = v_add(sum, _mm256_madd_epi16(a_even, b_even));
    return v_add(sum, _mm256_madd_epi16(a_odd, b_odd));
}
#endif

SHR_INLINE fvec_t v_float(vec_t v)
{
    return _mm256_cvtepi32_ps(v);
}

SHR_INLINE vec_t v_round(fvec_t v)
{
    return _mm256_cvtps_epi32(v);
}

SHR_INLINE fvec_t f_set(float x)
{
    return _mm256_set1_ps(x);
}

SHR_INLINE fvec_t f_add(fvec_t a, fvec_t b)
{
    return _mm256_add_ps(a, b);
}

SHR_INLINE fvec_t f_mul(fvec_t a, fvec_t b)
{
    return _mm256_mul_ps(a, b);
}

/* Both give b when a or b is NaN. */
SHR_INLINE fvec_t f_max(fvec_t a, fvec_t b)
{
    return _mm256_max_ps(a, b);
}

SHR_INLINE fvec_t f_min(fvec_t a, fvec_t b)
{
    return _mm256_min_ps(a, b);
}

SHR_INLINE __m256i v_mask(size_t lanes)
{
    int n = lanes < LANES ? (int)lanes : LANES;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

SHR_INLINE vec_t v_load_some(const int32_t *p, size_t lanes)
{
    return _mm256_maskload_epi32(p, v_mask(lanes));
}

SHR_INLINE fvec_t f_load_some(const float *p, size_t lanes)
{
    return _mm256_maskload_ps(p, v_mask(lanes));
}

SHR_INLINE void v_store_some(int32_t *p, vec_t v, size_t lanes)
{
    _mm256_maskstore_epi32(p, v_mask(lanes), v);
}

SHR_INLINE void f_store_some(float *p, fvec_t v, size_t lanes)
{
    _mm256_maskstore_ps(p, v_mask(lanes), v);
}

/* Values that fit into bytes */
SHR_INLINE void v_store_bytes(uint8_t *p, vec_t v, size_t lanes, bool is_signed)
{
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    int64_t text = _mm_cvtsi128_si64(is_signed ? _mm_packs_epi16(w, w) : _mm_packus_epi16(w, w));
    memcpy(p, &text, lanes < LANES ? lanes : LANES);
}

/* Four vectors of bytes to one quad (a, b, c, d) of them a lane; out[j] has the channels 4 j … 4 j
 * + 3 of each 16 channels. */
SHR_INLINE void v_interleave(vec_t a, vec_t b, vec_t c, vec_t d, vec_t *out)
{
    vec_t ab0 = _mm256_unpacklo_epi8(a, b), ab1 = _mm256_unpackhi_epi8(a, b);
    vec_t cd0 = _mm256_unpacklo_epi8(c, d), cd1 = _mm256_unpackhi_epi8(c, d);
    out[0] = _mm256_unpacklo_epi16(ab0, cd0);
    out[1] = _mm256_unpackhi_epi16(ab0, cd0);
    out[2] = _mm256_unpacklo_epi16(ab1, cd1);
    out[3] = _mm256_unpackhi_epi16(ab1, cd1);
}

/* Values that fit into bytes, in the order that v_interleave made, to the first n of them. */
SHR_INLINE void v_store_interleaved(uint8_t *p, const vec_t *v, size_t n, bool is_signed)
{
    vec_t lo = _mm256_packs_epi32(v[0], v[1]), hi = _mm256_packs_epi32(v[2], v[3]);
    vec_t bytes = is_signed ? _mm256_packs_epi16(lo, hi) : _mm256_packus_epi16(lo, hi);
    if (n >= sizeof bytes) {
        v_store(p, bytes);
    } else {
        memcpy(p, &bytes, n);
    }
}

#endif
