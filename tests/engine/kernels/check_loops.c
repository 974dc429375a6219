/* Checks of quantization, layout and elementwise loops. */
#include <float.h>
#include <math.h>

#include "checkkernels.h"

/* Of sigmoid and tanh against double: a few units in the last place, at least this much */
static const double UNIT_BOUND = 4 * FLT_EPSILON;

/* Values around every rounding and saturation of a scale, and those that are no numbers */
static float *awkward(size_t n, float scale)
{
    static const float special[] = {INFINITY, -INFINITY, NAN, -0.0f, 3e38f, -3e38f, 1e-40f};
    float *x = floats(n, -400 * scale, 400 * scale);
    for (size_t i = 0; i < n; i++) {
        if (rnd() % 4 == 0) {
            x[i] = ((float)rnd_below(600) - 300 + 0.5f) * scale;
        } else if (rnd() % 32 == 0) {
            x[i] = special[rnd_below(SHR_COUNT_OF(special))];
        }
    }
    return x;
}

bool check_quantize(const struct table *t)
{
    const float steps[] = {1, 0.5f, 0.0196078438f, 1e-6f, 37.5f};
    for (size_t i = 0; sizes[i] != 0; i++) {
        size_t n = sizes[i];
        for (size_t j = 0; j < 20; j++) {
            float scale = steps[j % SHR_COUNT_OF(steps)];
            int32_t zero = (int32_t)rnd_below(256);
            float *x = awkward(n, scale);
            struct out got = out_new(n), want = out_new(n);
            t->k->quantize_u8(n, x, scale, zero, got.p);
            t->ref->quantize_u8(n, x, scale, zero, want.p);
            bool good = out_same(&got, &want);
            t->k->quantize_s8(n, x, scale, zero - 128, (int8_t *)got.p);
            t->ref->quantize_s8(n, x, scale, zero - 128, (int8_t *)want.p);
            good = good && out_same(&got, &want);
            free(x);
            out_free(&got);
            out_free(&want);
            if (!good) {
                return wrong("n %zu scale %g zero %d", n, scale, (int)zero);
            }
        }
    }
    return true;
}

bool check_dequantize(const struct table *t)
{
    for (size_t i = 0; sizes[i] != 0; i++) {
        size_t n = sizes[i];
        int32_t zero = (int32_t)rnd_below(256);
        uint8_t *q = bytes_u8(n, FILL_RANDOM);
        struct out got = out_new(n * 4), want = out_new(n * 4);
        t->k->dequantize_u8(n, q, 0.0123f, zero, (float *)got.p);
        t->ref->dequantize_u8(n, q, 0.0123f, zero, (float *)want.p);
        bool good = out_same(&got, &want);
        t->k->dequantize_s8(n, (int8_t *)q, 0.0123f, zero - 128, (float *)got.p);
        t->ref->dequantize_s8(n, (int8_t *)q, 0.0123f, zero - 128, (float *)want.p);
        good = good && out_same(&got, &want);
        free(q);
        out_free(&got);
        out_free(&want);
        if (!good) {
            return wrong("n %zu zero %d", n, (int)zero);
        }
    }
    return true;
}

bool check_nhwc(const struct table *t)
{
    for (size_t i = 0; i < 100; i++) {
        size_t c = 1 + rnd_below(70), hw = 1 + rnd_below(300), n = c * hw;
        int32_t zero = (int32_t)rnd_below(256);
        float *x = awkward(n, 0.1f);
        struct out q = out_new(n), want_q = out_new(n), y = out_new(n * 4), want_y = out_new(n * 4);
        t->k->quantize_u8_nhwc(c, hw, x, 0.1f, zero, q.p);
        t->ref->quantize_u8_nhwc(c, hw, x, 0.1f, zero, want_q.p);
        t->k->dequantize_u8_nchw(c, hw, want_q.p, 0.1f, zero, (float *)y.p);
        t->ref->dequantize_u8_nchw(c, hw, want_q.p, 0.1f, zero, (float *)want_y.p);
        bool good = out_same(&q, &want_q) && out_same(&y, &want_y);
        free(x);
        out_free(&q);
        out_free(&want_q);
        out_free(&y);
        out_free(&want_y);
        if (!good) {
            return wrong("c %zu hw %zu", c, hw);
        }
    }
    return true;
}

bool check_mul_u8(const struct table *t)
{
    for (size_t i = 0; sizes[i] != 0; i++) {
        for (int j = 0; j < 20; j++) {
            size_t n = sizes[i];
            uint8_t *a = bytes_u8(n, FILL_EDGE), *b = bytes_u8(n, FILL_EDGE);
            struct out got = out_new(n), want = out_new(n);
            struct shr_mul_u8 p = {.n = n,
                                   .a = a,
                                   .b = b,
                                   .a_zero = (int32_t)rnd_below(256),
                                   .b_zero = j % 3 ? (int32_t)rnd_below(256) : 255 * (j % 2),
                                   .y_zero = (int32_t)rnd_below(256),
                                   .scale = j % 2 ? 0.5f : 0.0037f};
            p.y = want.p;
            t->ref->mul_u8(&p);
            memcpy(got.p, a, n); /* in place */
            p.a = p.y = got.p;
            t->k->mul_u8(&p);
            bool good = out_same(&got, &want);
            free(a);
            free(b);
            out_free(&got);
            out_free(&want);
            if (!good) {
                return wrong("n %zu", n);
            }
        }
    }
    return true;
}

bool check_mean_u8(const struct table *t)
{
    static const size_t pixels[] = {1, 4, 49, 127, 128, 129, 784, 1000};
    for (size_t i = 0; i < SHR_COUNT_OF(pixels); i++) {
        for (size_t j = 0; sizes[j] != 0; j++) {
            size_t hw = pixels[i], c = sizes[j];
            uint8_t *x = bytes_u8(hw * c, j % 2 ? FILL_RANDOM : FILL_EDGE);
            struct out got = out_new(c), want = out_new(c);
            int32_t x_zero = (int32_t)rnd_below(256), y_zero = (int32_t)rnd_below(256);
            float scale = (rnd() % 2 ? 1.0f : 1.37f) / (float)hw;
            t->k->mean_u8(hw, c, x, x_zero, scale, y_zero, got.p);
            t->ref->mean_u8(hw, c, x, x_zero, scale, y_zero, want.p);
            bool good = out_same(&got, &want);
            free(x);
            out_free(&got);
            out_free(&want);
            if (!good) {
                return wrong("hw %zu c %zu", hw, c);
            }
        }
    }
    return true;
}

bool check_lut_u8(const struct table *t)
{
    uint8_t *table = bytes_u8(256, FILL_RANDOM);
    bool good = true;
    for (size_t i = 0; sizes[i] != 0 && good; i++) {
        struct out got = out_new(sizes[i]), want = out_new(sizes[i]);
        uint8_t *x = bytes_u8(sizes[i], FILL_RANDOM);
        memcpy(got.p, x, sizes[i]); /* in place */
        t->k->lut_u8(sizes[i], got.p, table, got.p);
        t->ref->lut_u8(sizes[i], x, table, want.p);
        good = out_same(&got, &want);
        free(x);
        out_free(&got);
        out_free(&want);
    }
    free(table);
    return good ? true : wrong("lut_u8");
}

bool check_add_u8(const struct table *t)
{
    for (size_t i = 0; sizes[i] != 0; i++) {
        for (int j = 0; j < 20; j++) {
            size_t n = sizes[i];
            uint8_t *a = bytes_u8(n, FILL_RANDOM), *b = bytes_u8(n, FILL_RANDOM);
            struct out got = out_new(n), want = out_new(n);
            /* scales that are powers of two at times, so that ties occur */
            struct shr_add_u8 p = {.n = n,
                                   .a = a,
                                   .b = b,
                                   .a_scale = j % 2 ? 0.5f : 0.013f,
                                   .b_scale = j % 3 ? 0.25f : 0.021f,
                                   .y_scale = j % 2 ? 1.0f : 0.017f,
                                   .a_zero = (int32_t)rnd_below(256),
                                   .b_zero = (int32_t)rnd_below(256),
                                   .y_zero = (int32_t)rnd_below(256),
                                   .act = rnd() % 2 ? SHR_ACT_RELU : SHR_ACT_NONE};
            p.y = want.p;
            t->ref->add_u8(&p);
            memcpy(got.p, a, n); /* in place */
            p.a = p.y = got.p;
            t->k->add_u8(&p);
            bool good = out_same(&got, &want);
            free(a);
            free(b);
            out_free(&got);
            out_free(&want);
            if (!good) {
                return wrong("n %zu", n);
            }
        }
    }
    return true;
}

bool check_flip_u8(const struct table *t)
{
    for (size_t i = 0; sizes[i] != 0; i++) {
        uint8_t *x = bytes_u8(sizes[i], FILL_RANDOM);
        struct out got = out_new(sizes[i]), want = out_new(sizes[i]);
        t->k->flip_u8(sizes[i], x, got.p);
        t->ref->flip_u8(sizes[i], x, want.p);
        bool good = out_same(&got, &want);
        free(x);
        out_free(&got);
        out_free(&want);
        if (!good) {
            return wrong("n %zu", sizes[i]);
        }
    }
    return true;
}

bool check_transpose(const struct table *t)
{
    for (size_t i = 0; i < 200; i++) {
        size_t rows = 1 + rnd_below(40), cols = 1 + rnd_below(100), n = rows * cols;
        uint8_t *x = bytes_u8(n * 4, FILL_RANDOM);
        struct out got = out_new(n), want = out_new(n), got4 = out_new(n * 4);
        struct out want4 = out_new(n * 4);
        t->k->transpose_u8(rows, cols, x, got.p);
        t->ref->transpose_u8(rows, cols, x, want.p);
        t->k->transpose_f32(rows, cols, (float *)x, (float *)got4.p);
        t->ref->transpose_f32(rows, cols, (float *)x, (float *)want4.p);
        bool good = out_same(&got, &want) && out_same(&got4, &want4);
        free(x);
        out_free(&got);
        out_free(&want);
        out_free(&got4);
        out_free(&want4);
        if (!good) {
            return wrong("rows %zu cols %zu", rows, cols);
        }
    }
    return true;
}

bool check_minmax_f32(const struct table *t)
{
    for (size_t i = 0; sizes[i] != 0; i++) {
        for (int j = 0; j < 10; j++) {
            float *x = awkward(sizes[i], 1), got[2], want[2];
            t->k->minmax_f32(sizes[i], x, &got[0], &got[1]);
            t->ref->minmax_f32(sizes[i], x, &want[0], &want[1]);
            free(x);
            if (got[0] != want[0] || got[1] != want[1]) {
                return wrong("n %zu: %g %g", sizes[i], got[0], got[1]);
            }
        }
    }
    return true;
}

/* One rounding a result: equal bit for bit */
bool check_elementwise_f32(const struct table *t)
{
    for (size_t i = 0; sizes[i] != 0; i++) {
        size_t n = sizes[i];
        float *a = awkward(n, 1), *b = floats(n, -2, 2);
        struct out got = out_new(n * 4), want = out_new(n * 4);
        t->k->relu_f32(n, a, (float *)got.p);
        t->ref->relu_f32(n, a, (float *)want.p);
        bool good = out_same(&got, &want);
        t->k->add_f32(n, a, b, (float *)got.p);
        t->ref->add_f32(n, a, b, (float *)want.p);
        good = good && out_same(&got, &want);
        t->k->mul_f32(n, a, b, (float *)got.p);
        t->ref->mul_f32(n, a, b, (float *)want.p);
        good = good && out_same(&got, &want);
        t->k->madd_f32(n, a, b, (float *)got.p);
        t->ref->madd_f32(n, a, b, (float *)want.p);
        good = good && out_same(&got, &want);
        free(a);
        free(b);
        out_free(&got);
        out_free(&want);
        if (!good) {
            return wrong("n %zu", n);
        }
    }
    return true;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* y within UNIT_BOUND of f(x), relative where f(x) is a normal number */
static bool check_curve(void (*run)(size_t n, const float *x, float *y), double (*f)(double))
{
    const float reach[] = {0.01f, 0.3f, 1, 5, 20, 120, 1e30f};
    for (size_t i = 0; sizes[i] != 0; i++) {
        for (size_t j = 0; j < SHR_COUNT_OF(reach); j++) {
            size_t n = sizes[i];
            float *x = floats(n, -reach[j], reach[j]);
            struct out y = out_new(n * 4);
            run(n, x, (float *)y.p);
            bool good = out_whole(&y);
            size_t k = 0;
            for (; k < n && good; k++) {
                double want = f(x[k]), got = ((float *)y.p)[k];
                good = fabs(got - want) <= UNIT_BOUND * fabs(want) + FLT_MIN;
            }
            double at = k > 0 ? x[k - 1] : 0, got = k > 0 ? ((float *)y.p)[k - 1] : 0;
            free(x);
            out_free(&y);
            if (!good) {
                return wrong("n %zu: f(%.9g) = %.9g, not %.9g", n, at, got, f(at));
            }
        }
    }
    return true;
}

bool check_sigmoid_f32(const struct table *t)
{
    return check_curve(t->k->sigmoid_f32, sigmoid);
}

bool check_tanh_f32(const struct table *t)
{
    return check_curve(t->k->tanh_f32, tanh);
}
