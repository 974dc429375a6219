/* The vectors of the VNNI kernels, 16 lanes wide: AVX-512 F, BW, DQ, VL and VNNI.
 *
 * lanes_avx2.h has the same names for 8 lanes. Where only some lanes count, the others are neither
 * read nor written in memory, and 0 in registers. */
#ifndef SHR_KERNELS_LANES_AVX512_H
#define SHR_KERNELS_LANES_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"

enum { LANES = 16, PANEL = 4 /* vectors a tile is wide */ };

typedef __m512i vec_t;
typedef __m512 fvec_t;

SHR_INLINE vec_t v_zero(void)
{
    return _mm512_setzero_si512();
}

SHR_INLINE vec_t v_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

SHR_INLINE void v_store(void *p, vec_t v)
{
    _mm512_storeu_si512(p, v);
}

SHR_INLINE vec_t v_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}

SHR_INLINE vec_t v_add(vec_t a, vec_t b)
{
    return _mm512_add_epi32(a, b);
}

SHR_INLINE vec_t v_sub(vec_t a, vec_t b)
{
    return _mm512_sub_epi32(a, b);
}

SHR_INLINE vec_t v_mul(vec_t a, vec_t b)
{
    return _mm512_mullo_epi32(a, b);
}

/* sum + four products of uint8 a and int8 b a lane, exact */
SHR_INLINE vec_t v_dot(vec_t sum, vec_t a, vec_t b)
{
    return _mm512_dpbusd_epi32(sum, a, b);
}

SHR_INLINE fvec_t v_float(vec_t v)
{
    return _mm512_cvtepi32_ps(v);
}

SHR_INLINE vec_t v_round(fvec_t v)
{
    return _mm512_cvtps_epi32(v);
}

SHR_INLINE fvec_t f_set(float x)
{
    return _mm512_set1_ps(x);
}

SHR_INLINE fvec_t f_add(fvec_t a, fvec_t b)
{
    return _mm512_add_ps(a, b);
}

SHR_INLINE fvec_t f_mul(fvec_t a, fvec_t b)
{
    return _mm512_mul_ps(a, b);
}

/* Both give b when a or b is NaN. */
SHR_INLINE fvec_t f_max(fvec_t a, fvec_t b)
{
    return _mm512_max_ps(a, b);
}

SHR_INLINE fvec_t f_min(fvec_t a, fvec_t b)
{
    return _mm512_min_ps(a, b);
}

SHR_INLINE __mmask16 v_mask(size_t lanes)
{
    return (__mmask16)(lanes < LANES ? (1u << lanes) - 1 : 0xffffu);
}

SHR_INLINE vec_t v_load_some(const int32_t *p, size_t lanes)
{
    return _mm512_maskz_loadu_epi32(v_mask(lanes), p);
}

SHR_INLINE fvec_t f_load_some(const float *p, size_t lanes)
{
    return _mm512_maskz_loadu_ps(v_mask(lanes), p);
}

SHR_INLINE void v_store_some(int32_t *p, vec_t v, size_t lanes)
{
    _mm512_mask_storeu_epi32(p, v_mask(lanes), v);
}

SHR_INLINE void f_store_some(float *p, fvec_t v, size_t lanes)
{
    _mm512_mask_storeu_ps(p, v_mask(lanes), v);
}

/* The low byte of every lane */
SHR_INLINE void v_store_bytes(uint8_t *p, vec_t v, size_t lanes, bool is_signed)
{
    (void)is_signed;
    _mm_mask_storeu_epi8(p, v_mask(lanes), _mm512_cvtepi32_epi8(v));
}

/* Four vectors of bytes to one quad (a, b, c, d) of them a lane; out[j] has the channels 4 j … 4 j
 * + 3 of each 16 channels. */
SHR_INLINE void v_interleave(vec_t a, vec_t b, vec_t c, vec_t d, vec_t *out)
{
    vec_t ab0 = _mm512_unpacklo_epi8(a, b), ab1 = _mm512_unpackhi_epi8(a, b);
    vec_t cd0 = _mm512_unpacklo_epi8(c, d), cd1 = _mm512_unpackhi_epi8(c, d);
    out[0] = _mm512_unpacklo_epi16(ab0, cd0);
    out[1] = _mm512_unpackhi_epi16(ab0, cd0);
    out[2] = _mm512_unpacklo_epi16(ab1, cd1);
    out[3] = _mm512_unpackhi_epi16(ab1, cd1);
}

/* Values that fit into bytes, in the order that v_interleave made, to the first n of them. */
SHR_INLINE void v_store_interleaved(uint8_t *p, const vec_t *v, size_t n, bool is_signed)
{
    vec_t lo = _mm512_packs_epi32(v[0], v[1]), hi = _mm512_packs_epi32(v[2], v[3]);
    vec_t bytes = is_signed ? _mm512_packs_epi16(lo, hi) : _mm512_packus_epi16(lo, hi);
    __mmask64 mask = n < 64 ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0;
    _mm512_mask_storeu_epi8(p, mask, bytes);
}

#endif
