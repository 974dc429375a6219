/* Functions of a vector of floats, within a few units in the last place. Results depend on a lane's
 * value alone. NaN gives NaN.
 *
 * The polynomials of erf are least-squares fits with weights that even out the relative error. */
#ifndef SHR_KERNELS_VF_MATH_H
#define SHR_KERNELS_VF_MATH_H

#include "kernels/internal.h"
#include "kernels/vf.h"

/* Horner's scheme, highest power first */
SHR_INLINE vf vf_poly(vf x, const float *factor, const size_t n)
{
    vf p = vf_set1(factor[0]);
    SHR_UNROLL
    for (size_t i = 1; i < n; i++) {
        p = vf_fma(p, x, vf_set1(factor[i]));
    }
    return p;
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2, e^r by its Taylor series to r^7 (its end is below an ulp);
 * n is applied in two halves, so that results near both ends of the range are right. */
SHR_INLINE vf vf_exp(vf x)
{
    static const float factor[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24,
                                   1.0f / 6,    0.5f,       1.0f,       1.0f};
    x = vf_min(vf_set1(88.8f), vf_max(vf_set1(-104.0f), x));
    vf n = vf_round(vf_mul(x, vf_set1(1.44269504f)));
    /* ln 2 in two parts, the first exact when multiplied by n */
    vf r = vf_fnma(n, vf_set1(0.693359375f), x);
    r = vf_fnma(n, vf_set1(-2.12194440e-4f), r);
    vf half = vf_round(vf_mul(n, vf_set1(0.5f)));
    return vf_mul(vf_mul(vf_poly(r, factor, 8), vf_pow2(half)), vf_pow2(vf_sub(n, half)));
}

SHR_INLINE vf vf_sigmoid(vf x)
{
    vf one = vf_set1(1);
    return vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), x))));
}

/* tanh x = 1 - 2 / (e^2x + 1); below 1/2, where that cancels, the series to x^15. */
SHR_INLINE vf vf_tanh(vf x)
{
    static const float factor[] = {-929569.0f / 638512875.0f,
                                   21844.0f / 6081075,
                                   -1382.0f / 155925,
                                   62.0f / 2835,
                                   -17.0f / 315,
                                   2.0f / 15,
                                   -1.0f / 3,
                                   1.0f};
    vf one = vf_set1(1), two = vf_set1(2), xx = vf_mul(x, x);
    vf large = vf_sub(one, vf_div(two, vf_add(vf_exp(vf_mul(x, two)), one)));
    return vf_less(xx, vf_set1(0.25f), vf_mul(vf_poly(xx, factor, 8), x), large);
}

/* Below 0.9 x + x p(x^2), above 1 - e^(x q(x)). */
SHR_INLINE vf vf_erf(vf x)
{
    static const float small[] = {8.51310251e-05f, -0.000817563909f, 0.00520385895f, -0.0268605091f,
                                  0.112837151f,    -0.376126349f,    0.128379166f};
    static const float large[] = {2.3602463e-06f,   -3.75265845e-05f, 0.000237831031f,
                                  -0.000583499088f, -0.00165684824f,  0.0210716482f,
                                  -0.104029566f,    -0.636156142f,    -1.12845373f};
    vf one = vf_set1(1), xx = vf_mul(x, x), t = vf_abs(x);
    vf near = vf_fma(x, vf_poly(xx, small, 7), x);
    vf at = vf_min(vf_set1(4), t); /* where the result has become 1 */
    vf far = vf_sub(one, vf_exp(vf_mul(at, vf_poly(at, large, 9))));
    return vf_less(t, vf_set1(0.9f), near, vf_sign_of(far, x));
}

SHR_INLINE vf vf_gelu(vf x)
{
    vf half = vf_mul(vf_set1(0.5f), x);
    return vf_fma(half, vf_erf(vf_mul(x, vf_set1(0.70710678f))), half);
}

SHR_INLINE vf vf_clip(vf x, float lo, float hi)
{
    return vf_min(vf_set1(hi), vf_max(vf_set1(lo), x));
}

SHR_INLINE vf vf_act(vf x, enum shr_act act, float lo, float hi)
{
    switch (act) {
    case SHR_ACT_RELU:
        return vf_max(vf_zero(), x);
    case SHR_ACT_CLIP:
        return vf_clip(x, lo, hi);
    case SHR_ACT_LEAKY:
        return vf_less(x, vf_zero(), vf_mul(x, vf_set1(lo)), x);
    case SHR_ACT_HARDSIGMOID:
        return vf_clip(vf_fma(x, vf_set1(lo), vf_set1(hi)), 0, 1);
    case SHR_ACT_HARDSWISH:
        return vf_mul(x, vf_clip(vf_fma(x, vf_set1(1.0f / 6), vf_set1(0.5f)), 0, 1));
    case SHR_ACT_SIGMOID:
        return vf_sigmoid(x);
    case SHR_ACT_SILU:
        return vf_div(x, vf_add(vf_set1(1), vf_exp(vf_sub(vf_zero(), x))));
    case SHR_ACT_TANH:
        return vf_tanh(x);
    case SHR_ACT_GELU:
        return vf_gelu(x);
    default:
        return x;
    }
}

#endif
