/* float8 and float4: tables of their formats and the conversions to and from float32.
 *
 * DESIGN. In all of them codes without the sign are in the order of their values, and values of one
 * exponent are a power of two apart; so encoding is one rounding to that grid, and a carry out of
 * the fraction moves to the next exponent by itself. Pure functions. */
#include <math.h>

#include "core/tensor.h"

struct format {
    int fraction; /* bits */
    int least;    /* exponent of subnormal and of the smallest normal values */
    uint8_t sign; /* its bit */
    uint8_t last; /* code of the largest finite value */
    uint8_t over; /* code of what lies above and does not saturate, without its sign */
    uint8_t nan;
    bool one_zero; /* the code of -0 is NaN */
};

/* NULL: float8e8m0, or no small float. */
static const struct format *format_of(enum shr_dtype dtype)
{
    static const struct format e4m3fn = {3, -6, 0x80, 0x7e, 0x7f, 0x7f, false},
                               e4m3fnuz = {3, -7, 0x80, 0x7f, 0x80, 0x80, true},
                               e5m2 = {2, -14, 0x80, 0x7b, 0x7c, 0x7e, false},
                               e5m2fnuz = {2, -15, 0x80, 0x7f, 0x80, 0x80, true},
                               e2m1 = {1, 0, 0x08, 0x07, 0x07, 0x08, false};
    switch (dtype) {
    case SHR_DTYPE_F8E4M3FN:
        return &e4m3fn;
    case SHR_DTYPE_F8E4M3FNUZ:
        return &e4m3fnuz;
    case SHR_DTYPE_F8E5M2:
        return &e5m2;
    case SHR_DTYPE_F8E5M2FNUZ:
        return &e5m2fnuz;
    case SHR_DTYPE_F4E2M1:
        return &e2m1;
    default:
        return NULL;
    }
}

bool shr_dtype_is_small_float(enum shr_dtype dtype)
{
    return dtype == SHR_DTYPE_F8E8M0 || format_of(dtype) != NULL;
}

/* float8e8m0 is an exponent alone: 2^(code - 127), 255 is NaN. */
enum { E8M0_BIAS = 127, E8M0_NAN = 255 };

static float e8m0_to_f32(uint8_t code)
{
    return code == E8M0_NAN ? NAN : ldexpf(1, code - E8M0_BIAS);
}

static uint8_t f32_to_e8m0(float f)
{
    const float half_up = 1.5f;
    int exponent;
    if (!isfinite(f)) {
        return E8M0_NAN;
    }
    float fraction = 2 * frexpf(fabsf(f), &exponent); /* in [1, 2), or 0 */
    int code = f == 0 ? 0 : exponent - 1 + E8M0_BIAS + (fraction >= half_up);
    return (uint8_t)(code < 0 ? 0 : code >= E8M0_NAN ? E8M0_NAN - 1 : code);
}

float shr_small_to_f32(enum shr_dtype dtype, uint8_t code)
{
    const struct format *t = format_of(dtype);
    if (t == NULL) {
        return e8m0_to_f32(code);
    }
    const bool negative = (code & t->sign) != 0;
    const int magnitude = code & (t->sign - 1), steps = 1 << t->fraction;
    if (magnitude > t->last || (t->one_zero && code == t->nan)) {
        const bool infinite = !t->one_zero && magnitude == t->over && t->over != t->nan;
        return !infinite ? NAN : negative ? -INFINITY : INFINITY;
    }
    const int exponent = magnitude / steps, fraction = magnitude % steps;
    const float value =
        exponent == 0 ? ldexpf((float)fraction, t->least - t->fraction)
                      : ldexpf((float)(steps + fraction), exponent - 1 + t->least - t->fraction);
    return negative ? -value : value;
}

uint8_t shr_f32_to_small(enum shr_dtype dtype, float f, bool saturate)
{
    const struct format *t = format_of(dtype);
    if (t == NULL) {
        return f32_to_e8m0(f);
    }
    if (isnan(f)) {
        return t->nan;
    }
    const uint8_t sign = signbit(f) ? t->sign : 0;
    const float largest = shr_small_to_f32(dtype, t->last);
    int exponent, code = t->last + 1;
    if (fabsf(f) < 2 * largest) {
        (void)frexpf(fabsf(f), &exponent);
        exponent = f == 0 || exponent - 1 < t->least ? t->least : exponent - 1;
        const float grid = ldexpf(1, exponent - t->fraction);
        code = ((exponent - t->least) << t->fraction) + (int)rintf(fabsf(f) / grid);
    }
    if (code > t->last) {
        return (uint8_t)(sign | (saturate ? t->last : t->over));
    }
    return code == 0 && t->one_zero ? 0 : (uint8_t)(sign | code);
}
