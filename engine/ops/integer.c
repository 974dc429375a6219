/* Checks and preparation that the integer operators share; see integer.h. */
#include "ops/integer.h"

#include <math.h>

int shr_integer_check_count(const struct shr_op_setup *c, int slot, int64_t wanted,
                            struct shr_err *err)
{
    const struct shr_tensor *t = shr_integer_in(c->in, c->n_in, slot);
    if (t == NULL || shr_tensor_count(t) == 1 || shr_tensor_count(t) == wanted) {
        return SHR_OK;
    }
    return shr_op_fail(
        c->node, err, SHR_ERR_UNSUPPORTED, "input '%s' has %lld values, 1 or %lld are supported",
        shr_op_in_name(c->node, (size_t)slot), (long long)shr_tensor_count(t), (long long)wanted);
}

int shr_integer_check_types(const struct shr_op_setup *c, const struct shr_integer_slots *s,
                            struct shr_err *err)
{
    const unsigned bytes = SHR_BIT(U8) | SHR_BIT(I8);
    const unsigned halves = s->y_scale == SHR_NO_SLOT ? 0 : SHR_BIT(F16) | SHR_BIT(BF16);
    const unsigned scales = SHR_BIT(F32) | halves;
    const struct {
        int slot;
        unsigned types;
    } wanted[] = {
        {s->a, s->a_scale == SHR_NO_SLOT && s->b_scale != SHR_NO_SLOT ? SHR_BIT(F32) : bytes},
        {s->a_zero, bytes},
        {s->b, bytes},
        {s->b_zero, bytes},
        {s->y_zero, bytes},
        {s->bias, SHR_BIT(I32)},
        {s->a_scale, scales},
        {s->b_scale, scales},
        {s->y_scale, scales},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(wanted); i++) {
        if (wanted[i].slot < 0) {
            continue;
        }
        int code = shr_op_want(c, (size_t)wanted[i].slot, wanted[i].types, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

int shr_integer_check_columns(const struct shr_op_setup *c, const struct shr_integer_slots *s,
                              int64_t columns, struct shr_err *err)
{
    const int one[] = {s->a_scale, s->y_scale, s->y_zero};
    const int each[] = {s->b_scale, s->b_zero, s->bias};
    int code = SHR_OK;
    for (size_t i = 0; i < SHR_COUNT_OF(one) && code == SHR_OK; i++) {
        code = shr_integer_check_count(c, one[i], 1, err);
        if (code == SHR_OK) {
            code = shr_integer_check_count(c, each[i], columns, err);
        }
    }
    return code;
}

int shr_integer_require(const struct shr_infer *c, size_t slot, struct shr_err *err)
{
    return shr_op_has_in(c, slot)
               ? SHR_OK
               : shr_op_fail(c->node, err, SHR_ERR_INVALID, "input %zu is missing", slot);
}

struct shr_integer_inputs shr_integer_inputs_of(const struct shr_tensor *const *in, size_t n_in,
                                                const struct shr_integer_slots *s)
{
    return (struct shr_integer_inputs){
        .a_zero = shr_integer_in(in, n_in, s->a_zero),
        .a_scale = shr_integer_in(in, n_in, s->a_scale),
        .b_scale = shr_integer_in(in, n_in, s->b_scale),
        .b_zero = shr_integer_in(in, n_in, s->b_zero),
        .y_scale = shr_integer_in(in, n_in, s->y_scale),
        .y_zero = shr_integer_in(in, n_in, s->y_zero),
        .bias = shr_integer_in(in, n_in, s->bias),
    };
}

/* Element i of a scale of one or more values; 1 when the operator has none. */
static float scale_at(const struct shr_tensor *scale, int64_t i)
{
    return scale == NULL ? 1.0f : (float)shr_tensor_get(scale, i % shr_tensor_count(scale));
}

void shr_integer_columns(const struct shr_integer_inputs *in, float alpha, size_t columns,
                         int32_t *bias, float *scale)
{
    int64_t n_bias = shr_integer_count(in->bias);
    for (int64_t j = 0; j < (int64_t)columns; j++) {
        float product = alpha * scale_at(in->a_scale, 0) * scale_at(in->b_scale, j);
        scale[j] = in->y_scale == NULL ? product : product / scale_at(in->y_scale, 0);
        bias[j] = in->bias == NULL ? 0 : ((const int32_t *)in->bias->data)[j % n_bias];
    }
}

void shr_integer_zeros(const struct shr_tensor *zero, bool flip, size_t columns, int32_t *zeros)
{
    for (size_t j = 0; j < columns; j++) {
        zeros[j] = shr_integer_zero(zero, (int64_t)j) - (flip ? 128 : 0);
    }
}

void shr_integer_dynamic(float min, float max, float *ret_scale, int32_t *ret_zero)
{
    min = min < 0 ? min : 0;
    max = max > 0 ? max : 0;
    float scale = max == min ? 1.0f : (max - min) / 255.0f;
    float zero = 0 - min / scale;
    zero = zero > 0 ? zero : 0; /* NaN of an infinite range becomes 0 */
    *ret_scale = scale;
    *ret_zero = (int32_t)rintf(zero < 255 ? zero : 255);
}
