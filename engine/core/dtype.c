/* Element types: sizes, names and the conversions of half precision. Pure functions. */
#include <string.h>

#include "core/tensor.h"

static const struct {
    const char *name;
    unsigned char size; /* bytes of an element in memory */
    unsigned char bits; /* of an element in a file, where elements share bytes; else 0 */
} dtypes[SHR_DTYPE_COUNT] = {
    [SHR_DTYPE_NONE] = {"unknown", 0, 0},
    [SHR_DTYPE_F32] = {"float32", 4, 0},
    [SHR_DTYPE_U8] = {"uint8", 1, 0},
    [SHR_DTYPE_I8] = {"int8", 1, 0},
    [SHR_DTYPE_U16] = {"uint16", 2, 0},
    [SHR_DTYPE_I16] = {"int16", 2, 0},
    [SHR_DTYPE_I32] = {"int32", 4, 0},
    [SHR_DTYPE_I64] = {"int64", 8, 0},
    [SHR_DTYPE_STRING] = {"string", 0, 0},
    [SHR_DTYPE_BOOL] = {"bool", 1, 0},
    [SHR_DTYPE_F16] = {"float16", 2, 0},
    [SHR_DTYPE_F64] = {"float64", 8, 0},
    [SHR_DTYPE_U32] = {"uint32", 4, 0},
    [SHR_DTYPE_U64] = {"uint64", 8, 0},
    [14] = {"complex64", 0, 0},
    [15] = {"complex128", 0, 0},
    [SHR_DTYPE_BF16] = {"bfloat16", 2, 0},
    [SHR_DTYPE_F8E4M3FN] = {"float8e4m3fn", 1, 0},
    [SHR_DTYPE_F8E4M3FNUZ] = {"float8e4m3fnuz", 1, 0},
    [SHR_DTYPE_F8E5M2] = {"float8e5m2", 1, 0},
    [SHR_DTYPE_F8E5M2FNUZ] = {"float8e5m2fnuz", 1, 0},
    [SHR_DTYPE_U4] = {"uint4", 1, 4},
    [SHR_DTYPE_I4] = {"int4", 1, 4},
    [SHR_DTYPE_F4E2M1] = {"float4e2m1", 1, 4},
    [SHR_DTYPE_F8E8M0] = {"float8e8m0", 1, 0},
    [SHR_DTYPE_U2] = {"uint2", 1, 2},
    [SHR_DTYPE_I2] = {"int2", 1, 2},
};

size_t shr_dtype_size(enum shr_dtype dtype)
{
    return (unsigned)dtype < SHR_DTYPE_COUNT ? dtypes[dtype].size : 0;
}

unsigned shr_dtype_packed_bits(enum shr_dtype dtype)
{
    return (unsigned)dtype < SHR_DTYPE_COUNT ? dtypes[dtype].bits : 0;
}

const char *shr_dtype_name(enum shr_dtype dtype)
{
    return (unsigned)dtype < SHR_DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

bool shr_dtype_is_float(enum shr_dtype dtype)
{
    return dtype == SHR_DTYPE_F32 || dtype == SHR_DTYPE_F16 || dtype == SHR_DTYPE_F64 ||
           dtype == SHR_DTYPE_BF16 || shr_dtype_is_small_float(dtype);
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Drops the lowest n bits of x (0 < n < 32), rounding to nearest, ties to even. */
static uint32_t shift_round(uint32_t x, unsigned n)
{
    const uint32_t half = 1u << (n - 1);
    const uint32_t rest = x & ((half << 1) - 1);
    x >>= n;
    return x + (rest > half || (rest == half && (x & 1) != 0));
}

float shr_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = (h >> 10) & 0x1f;
    const uint32_t fraction = h & 0x3ff;
    if (exponent == 0x1f) { /* infinity, NaN */
        return float_of(sign | 0x7f800000 | fraction << 13);
    }
    if (exponent == 0) { /* zero, subnormal: fraction * 2^-24 is exact */
        const float f = (float)fraction * 0x1p-24f;
        return sign != 0 ? -f : f;
    }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t shr_f32_to_f16(float f)
{
    const uint32_t bits = bits_of(f);
    const uint32_t sign = bits >> 16 & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;
    uint32_t h;
    if (magnitude > 0x7f800000) { /* NaN: keep the top of its payload, stay quiet */
        h = 0x7e00 | (magnitude >> 13 & 0x3ff);
    } else if (magnitude >= 0x47800000) { /* 2^16 and up */
        h = 0x7c00;
    } else if (magnitude >= 0x38800000) { /* normal; a carry out of the fraction is right */
        h = shift_round(magnitude - (112u << 23), 13);
    } else if (magnitude >= 0x33000000) { /* subnormal: 2^-25 and up */
        const uint32_t exponent = magnitude >> 23;
        h = shift_round((magnitude & 0x7fffff) | 0x800000, 126 - exponent);
    } else {
        h = 0;
    }
    return (uint16_t)(sign | h);
}

float shr_bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t shr_f32_to_bf16(float f)
{
    const uint32_t bits = bits_of(f);
    if ((bits & 0x7fffffff) > 0x7f800000) { /* rounding could turn a NaN into infinity */
        return (uint16_t)(bits >> 16 | 0x40);
    }
    return (uint16_t)(((bits & 0x80000000) >> 16) | shift_round(bits & 0x7fffffff, 16));
}
