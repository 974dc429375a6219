/* Functions of float arrays, and of rows: softmax and layer normalization.
 *
 * The last values of an array go through a whole vector as well, so that a result does not depend
 * on where in the array its value stands. */
#include "kernels/f32_tile.h"
#include "kernels/vf_math.h"

/* y = the expression of a vector v */
#define MAP(n, x, y, EXPR)                                                                         \
    {                                                                                              \
        size_t at = 0;                                                                             \
        for (; at + VF <= (n); at += VF) {                                                         \
            vf v = vf_load((x) + at);                                                              \
            vf_store((y) + at, EXPR);                                                              \
        }                                                                                          \
        if (at < (n)) {                                                                            \
            vf v = vf_load_some((x) + at, (n)-at);                                                 \
            vf_store_some((y) + at, EXPR, (n)-at);                                                 \
        }                                                                                          \
    }

void VF_NAME(exp_f32)(size_t n, const float *x, float *y)
{
    MAP(n, x, y, vf_exp(v))
}

void VF_NAME(erf_f32)(size_t n, const float *x, float *y)
{
    MAP(n, x, y, vf_erf(v))
}

void VF_NAME(sigmoid_f32)(size_t n, const float *x, float *y)
{
    MAP(n, x, y, vf_sigmoid(v))
}

void VF_NAME(tanh_f32)(size_t n, const float *x, float *y)
{
    MAP(n, x, y, vf_tanh(v))
}

/* A loop an activation, so that each knows what it does. */
#define ACT(name)                                                                                  \
    case name: {                                                                                   \
        MAP(n, x, y, vf_act(v, name, lo, hi))                                                      \
        break;                                                                                     \
    }

void VF_NAME(act_f32)(size_t n, const float *x, enum shr_act act, float lo, float hi, float *y)
{
    switch (act) {
        ACT(SHR_ACT_RELU)
        ACT(SHR_ACT_CLIP)
        ACT(SHR_ACT_LEAKY)
        ACT(SHR_ACT_HARDSIGMOID)
        ACT(SHR_ACT_HARDSWISH)
        ACT(SHR_ACT_SIGMOID)
        ACT(SHR_ACT_SILU)
        ACT(SHR_ACT_TANH)
        ACT(SHR_ACT_GELU)
    default: {
        MAP(n, x, y, v)
        break;
    }
    }
}

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

void VF_NAME(softmax_f32)(size_t n, const float *x, float *y)
{
    vf most = vf_set1(-INFINITY), sum = vf_zero();
    float largest = -INFINITY, total;
    size_t i = 0;
    for (; i + VF <= n; i += VF) {
        most = vf_max(vf_load(x + i), most); /* the last operand stays where x is NaN */
    }
    for (; i < n; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    largest = vf_largest(most) > largest ? vf_largest(most) : largest;
    for (i = 0; i + VF <= n; i += VF) {
        vf e = vf_exp(vf_sub(vf_load(x + i), vf_set1(largest)));
        vf_store(y + i, e);
        sum = vf_add(sum, e);
    }
    total = vf_sum(sum);
    if (i < n) {
        vf_store_some(y + i, vf_exp(vf_sub(vf_load_some(x + i, n - i), vf_set1(largest))), n - i);
        for (; i < n; i++) {
            total += y[i];
        }
    }
    vf inverse = vf_set1(1 / total);
    MAP(n, y, y, vf_mul(v, inverse))
}

/* The sum of x - mean, or of its square, over a row in four chains */
SHR_INLINE float row_sum(size_t n, const float *x, float mean, bool square)
{
    vf sum[4], m = vf_set1(mean);
    float rest = 0;
    size_t i = 0;
    sum[0] = sum[1] = sum[2] = sum[3] = vf_zero();
    for (; i + 4 * VF <= n; i += 4 * VF) {
        SHR_UNROLL
        for (size_t j = 0; j < 4; j++) {
            vf d = vf_sub(vf_load(x + i + j * VF), m);
            sum[j] = square ? vf_fma(d, d, sum[j]) : vf_add(d, sum[j]);
        }
    }
    for (; i < n; i++) {
        rest += square ? (x[i] - mean) * (x[i] - mean) : x[i] - mean;
    }
    return rest + vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

void VF_NAME(layernorm_f32)(const struct shr_layernorm *p, const float *x, float *y)
{
    const float n = (float)p->n;
    float mean = row_sum(p->n, x, 0, false) / n;
    mean += row_sum(p->n, x, mean, false) / n; /* what rounding lost */
    const float inverse = 1 / sqrtf(row_sum(p->n, x, mean, true) / n + p->epsilon);
    const vf m = vf_set1(mean), s = vf_set1(inverse);
    size_t i = 0;
    for (; i < p->n; i += VF) {
        const size_t some = f32_min(p->n - i, VF);
        vf v, scale, bias = vf_zero();
        if (some == VF) {
            v = vf_load(x + i);
            scale = vf_load(p->scale + i);
            bias = p->bias != NULL ? vf_load(p->bias + i) : bias;
            v = vf_fma(vf_mul(vf_sub(v, m), s), scale, bias);
            vf_store(y + i, v);
        } else {
            v = vf_load_some(x + i, some);
            scale = vf_load_some(p->scale + i, some);
            bias = p->bias != NULL ? vf_load_some(p->bias + i, some) : bias;
            v = vf_fma(vf_mul(vf_sub(v, m), s), scale, bias);
            vf_store_some(y + i, v, some);
        }
    }
    if (p->ret_mean != NULL) {
        *p->ret_mean = mean;
    }
    if (p->ret_inverse != NULL) {
        *p->ret_inverse = inverse;
    }
}

/* ── Channels of NHWC images ────────────────────────────────────────────────────────────────── */

void VF_NAME(scale_f32)(const struct shr_scale_f32 *p, const float *x, float *y)
{
    for (size_t r = 0; r < p->rows; r++, x += p->c, y += p->c) {
        size_t i = 0;
        for (; i + VF <= p->c; i += VF) {
            vf v = vf_fma(vf_load(x + i), vf_load(p->scale + i), vf_load(p->bias + i));
            vf_store(y + i, vf_act(v, p->act, p->act_lo, p->act_hi));
        }
        if (i < p->c) {
            const size_t some = p->c - i;
            vf v = vf_fma(vf_load_some(x + i, some), vf_load_some(p->scale + i, some),
                          vf_load_some(p->bias + i, some));
            vf_store_some(y + i, vf_act(v, p->act, p->act_lo, p->act_hi), some);
        }
    }
}

SHR_INLINE vf scaled(const float *dy, const float *scale, size_t i, size_t some)
{
    const vf g = some == VF ? vf_load(dy + i) : vf_load_some(dy + i, some);
    if (scale == NULL) {
        return g;
    }
    return vf_mul(g, some == VF ? vf_load(scale + i) : vf_load_some(scale + i, some));
}

void VF_NAME(layernorm_grad_f32)(size_t n, const float *dy, const float *scale, const float *xhat,
                                 float inverse, float *dx)
{
    const size_t whole = n / VF * VF;
    vf sum = vf_zero(), product = vf_zero();
    for (size_t i = 0; i < whole; i += VF) {
        const vf g = scaled(dy, scale, i, VF);
        sum = vf_add(sum, g);
        product = vf_fma(g, vf_load(xhat + i), product);
    }
    if (whole < n) {
        const vf g = scaled(dy, scale, whole, n - whole);
        sum = vf_add(sum, g);
        product = vf_fma(g, vf_load_some(xhat + whole, n - whole), product);
    }
    const vf mean = vf_set1(vf_sum(sum) / (float)n), slope = vf_set1(vf_sum(product) / (float)n);
    for (size_t i = 0; i < n; i += VF) {
        const size_t some = i < whole ? VF : n - whole;
        const vf hat = some == VF ? vf_load(xhat + i) : vf_load_some(xhat + i, some);
        const vf g = vf_fnma(hat, slope, vf_sub(scaled(dy, scale, i, some), mean));
        if (some == VF) {
            vf_store(dx + i, vf_mul(vf_set1(inverse), g));
        } else {
            vf_store_some(dx + i, vf_mul(vf_set1(inverse), g), some);
        }
    }
}
