/* Reference kernels: convolution and pooling as portable C, one output at a time. */
#include <string.h>

#include "base/mem.h"
#include "kernels/internal.h"

/* The index of the input row or column under tap k of output o; negative or >= size in padding. */
static int64_t tap(int64_t o, int64_t stride, int64_t pad, int64_t k, int64_t dil)
{
    return o * stride - pad + k * dil;
}

static bool inside(int64_t i, int64_t size)
{
    return i >= 0 && i < size;
}

/* ── Integer, NHWC ──────────────────────────────────────────────────────────────────────────── */

struct shr_conv_i8 {
    struct shr_conv_shape s;
    struct shr_gemm_i8 g; /* the output: bias, scale, zero point; the pointers are ours */
    int32_t *w_zero;      /* (oc) */
    int8_t *w;            /* (oc, c/groups, kh, kw) */
};

static void *copy(const void *from, size_t bytes)
{
    void *to = shr_mem_new(bytes, 1);
    if (to != NULL && from != NULL) {
        memcpy(to, from, bytes);
    }
    return to;
}

struct shr_conv_i8 *shr__conv_i8_new_ref(const struct shr_conv_i8_spec *spec, size_t *ret_scratch)
{
    const struct shr_conv_shape *s = &spec->shape;
    size_t oc = (size_t)s->oc;
    struct shr_conv_i8 *conv = shr_mem_new(1, sizeof *conv);
    if (conv == NULL) {
        return NULL;
    }
    conv->s = *s;
    conv->g.out = spec->out;
    conv->g.c_zero = spec->y_zero;
    conv->g.act = spec->act;
    conv->g.c_min = spec->y_min;
    conv->g.c_max = spec->y_max;
    conv->w = copy(spec->w, oc * (size_t)(s->c / s->groups * s->kh * s->kw));
    conv->w_zero = copy(spec->w_zero, oc * sizeof(int32_t));
    conv->g.bias = copy(spec->bias, oc * sizeof(int32_t));
    conv->g.scale = copy(spec->scale, oc * sizeof(float));
    bool failed =
        conv->w == NULL || conv->w_zero == NULL || conv->g.bias == NULL || conv->g.scale == NULL;
    if (spec->bias_f32 != NULL) {
        conv->g.bias_f32 = copy(spec->bias_f32, oc * sizeof(float));
        failed = failed || conv->g.bias_f32 == NULL;
    }
    if (failed) {
        shr__conv_i8_free_ref(conv);
        return NULL;
    }
    *ret_scratch = 0;
    return conv;
}

const char *shr__conv_i8_form_ref(const struct shr_conv_i8 *conv)
{
    (void)conv;
    return "reference";
}

void shr__conv_i8_free_ref(struct shr_conv_i8 *conv)
{
    if (conv == NULL) {
        return;
    }
    shr_mem_free((void *)(uintptr_t)conv->g.bias);
    shr_mem_free((void *)(uintptr_t)conv->g.scale);
    shr_mem_free((void *)(uintptr_t)conv->g.bias_f32);
    shr_mem_free(conv->w_zero);
    shr_mem_free(conv->w);
    shr_mem_free(conv);
}

/* x (h, w, c) */
static int32_t conv_i8_at(const struct shr_conv_i8 *conv, const uint8_t *x, int32_t x_zero,
                          int64_t oc, int64_t oh, int64_t ow)
{
    const struct shr_conv_shape *s = &conv->s;
    int64_t cg = s->c / s->groups, c0 = oc / (s->oc / s->groups) * cg;
    const int8_t *w = conv->w + oc * cg * s->kh * s->kw;
    uint32_t acc = (uint32_t)conv->g.bias[oc];
    for (int64_t kh = 0; kh < s->kh; kh++) {
        int64_t ih = tap(oh, s->stride_h, s->pad_t, kh, s->dil_h);
        for (int64_t kw = 0; kw < s->kw && inside(ih, s->h); kw++) {
            int64_t iw = tap(ow, s->stride_w, s->pad_l, kw, s->dil_w);
            for (int64_t c = 0; c < cg && inside(iw, s->w); c++) {
                int32_t a = x[(ih * s->w + iw) * s->c + c0 + c] - x_zero;
                acc += (uint32_t)(a * (w[(c * s->kh + kh) * s->kw + kw] - conv->w_zero[oc]));
            }
        }
    }
    return (int32_t)acc;
}

void shr__conv_i8_run_ref(const struct shr_conv_i8 *conv, const uint8_t *x, int32_t x_zero, void *y,
                          void *scratch, struct shr_team *team)
{
    const struct shr_conv_shape *s = &conv->s;
    struct shr_gemm_i8 g = conv->g;
    int64_t pixels = s->oh * s->ow;
    (void)scratch;
    (void)team;
    g.c = y;
    for (int64_t i = 0; i < s->n * pixels; i++) {
        const uint8_t *image = x + i / pixels * s->h * s->w * s->c;
        int64_t oh = i % pixels / s->ow, ow = i % s->ow;
        for (int64_t oc = 0; oc < s->oc; oc++) {
            int32_t acc = conv_i8_at(conv, image, x_zero, oc, oh, ow);
            shr__store_i8(&g, (size_t)(i * s->oc + oc), (size_t)oc, acc);
        }
    }
}

void shr__maxpool_u8_ref(const struct shr_conv_shape *s, const uint8_t *x, uint8_t *y)
{
    int64_t pixels = s->oh * s->ow;
    for (int64_t i = 0; i < s->n * pixels; i++) {
        const uint8_t *image = x + i / pixels * s->h * s->w * s->c;
        int64_t oh = i % pixels / s->ow, ow = i % s->ow;
        memset(y + i * s->c, 0, (size_t)s->c);
        for (int64_t kh = 0; kh < s->kh; kh++) {
            int64_t ih = tap(oh, s->stride_h, s->pad_t, kh, s->dil_h);
            for (int64_t kw = 0; kw < s->kw && inside(ih, s->h); kw++) {
                int64_t iw = tap(ow, s->stride_w, s->pad_l, kw, s->dil_w);
                for (int64_t c = 0; c < s->c && inside(iw, s->w); c++) {
                    uint8_t v = image[(ih * s->w + iw) * s->c + c];
                    y[i * s->c + c] = v > y[i * s->c + c] ? v : y[i * s->c + c];
                }
            }
        }
    }
}
