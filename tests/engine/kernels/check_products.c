/* Checks of the integer products and convolutions. */
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "checkkernels.h"
#include "core/team.h"

static const enum shr_gemm_i8_out outs[] = {SHR_GEMM_I32, SHR_GEMM_F32, SHR_GEMM_U8, SHR_GEMM_S8};

static size_t out_size(enum shr_gemm_i8_out out)
{
    return out == SHR_GEMM_I32 || out == SHR_GEMM_F32 ? 4 : 1;
}

/* ── Integer product ────────────────────────────────────────────────────────────────────────── */

/* Requantization that spreads the sums over the output's range, and beyond it at times */
static float *scales(size_t n, size_t k)
{
    return floats(n, 0.0f, 0.03f / sqrtf((float)k));
}

static enum shr_act act_of(enum shr_gemm_i8_out out)
{
    bool bytes = out == SHR_GEMM_U8 || out == SHR_GEMM_S8;
    static const enum shr_act acts[] = {SHR_ACT_NONE, SHR_ACT_RELU, SHR_ACT_CLIP};
    return acts[rnd_below(bytes ? 3 : 2)];
}

static bool one_gemm_i8(const struct table *t, size_t m, size_t n, size_t k, enum fill f,
                        struct shr_team *team)
{
    bool trans = rnd() % 2, good = true, guarded = true;
    size_t lda = k + rnd_below(3), ldb = (trans ? k : n) + rnd_below(3), ldc = n + rnd_below(3);
    uint8_t *a = bytes_u8((m - 1) * lda + k, f);
    int8_t *b = bytes_s8(((trans ? n : k) - 1) * ldb + (trans ? k : n), f);
    int32_t *zero = rnd() % 2 ? ints(n, -128, 127) : NULL;
    int32_t *bias = rnd() % 2 ? ints(n, -100000, 100000) : NULL;
    float *scale = scales(n, k), *bias_f32 = rnd() % 2 ? floats(n, -1, 1) : NULL;
    void *packed = need(t->k->gemm_i8_size(k, n)), *plain = need(t->ref->gemm_i8_size(k, n));
    t->k->gemm_i8_pack(k, n, b, ldb, trans, zero, packed);
    t->ref->gemm_i8_pack(k, n, b, ldb, trans, zero, plain);
    for (size_t i = 0; i < SHR_COUNT_OF(outs) && good; i++) {
        size_t bytes = ((m - 1) * ldc + n) * out_size(outs[i]);
        struct out got = out_new(bytes), want = out_new(bytes);
        struct shr_gemm_i8 g = {.m = m,
                                .n = n,
                                .k = k,
                                .a = a,
                                .lda = lda,
                                .bias = bias,
                                .a_zero = rnd() % 2 ? (int32_t)rnd_below(256) : 0,
                                .out = outs[i],
                                .scale = scale,
                                .bias_f32 = bias_f32,
                                .ldc = ldc,
                                .c_zero = (int32_t)rnd_below(256) - (i == 3 ? 128 : 0),
                                .act = act_of(outs[i]),
                                .c_min = (int32_t)rnd_below(100) - (i == 3 ? 128 : 0),
                                .c_max = 150 - (i == 3 ? 128 : 0)};
        g.b = packed;
        g.c = got.p;
        g.team = team;
        t->k->gemm_i8(&g);
        g.b = plain;
        g.c = want.p;
        t->ref->gemm_i8(&g);
        guarded = out_whole(&got);
        good = out_same(&got, &want);
        out_free(&got);
        out_free(&want);
    }
    free(a);
    free(b);
    free(zero);
    free(bias);
    free(scale);
    free(bias_f32);
    free(packed);
    free(plain);
    return good ? true
                : wrong("m %zu n %zu k %zu trans %d fill %d guards %s", m, n, k, trans, (int)f,
                        guarded ? "whole" : "broken");
}

bool check_gemm_i8(const struct table *t)
{
    const size_t rows[] = {1, 2, 3, 4, 5, 6, 7, 13};
    for (size_t m = 0; m < SHR_COUNT_OF(rows); m++) {
        for (size_t i = 0; sizes[i] != 0; i++) {
            for (size_t j = 0; sizes[j] != 0; j++) {
                bool large = sizes[i] * sizes[j] > 20000 && rnd() % 16 != 0;
                for (int f = 0; f < FILL_COUNT && !large; f++) {
                    if (!one_gemm_i8(t, rows[m], sizes[i], sizes[j], (enum fill)f, NULL)) {
                        return false;
                    }
                }
            }
        }
    }
    return one_gemm_i8(t, 1, 33, 5000, FILL_WORST, NULL) &&
           one_gemm_i8(t, 7, 67, 5000, FILL_WORST, NULL);
}

/* ── Convolutions ───────────────────────────────────────────────────────────────────────────── */

static int64_t outputs(int64_t size, int64_t pads, int64_t kernel, int64_t stride, int64_t dil)
{
    return (size + pads - (kernel - 1) * dil - 1) / stride + 1;
}

struct shr_conv_shape check_shape(unsigned i)
{
    static const struct shr_conv_shape known[] = {
        {.n = 1,
         .c = 1,
         .h = 9,
         .w = 9,
         .oc = 8,
         .kh = 3,
         .kw = 3,
         .pad_t = 1,
         .pad_l = 1,
         .pad_b = 1,
         .pad_r = 1,
         .groups = 1},
        {.n = 2,
         .c = 16,
         .h = 8,
         .w = 8,
         .oc = 16,
         .kh = 3,
         .kw = 3,
         .pad_t = 1,
         .pad_l = 1,
         .pad_b = 1,
         .pad_r = 1,
         .groups = 1},
        {.n = 1,
         .c = 24,
         .h = 7,
         .w = 7,
         .oc = 24,
         .kh = 3,
         .kw = 3,
         .pad_t = 1,
         .pad_l = 1,
         .pad_b = 1,
         .pad_r = 1,
         .groups = 24},
        {.n = 2,
         .c = 40,
         .h = 9,
         .w = 15,
         .oc = 40,
         .kh = 5,
         .kw = 5,
         .stride_h = 1,
         .stride_w = 1,
         .pad_t = 2,
         .pad_l = 2,
         .pad_b = 2,
         .pad_r = 2,
         .groups = 40},
        {.n = 2,
         .c = 21,
         .h = 8,
         .w = 11,
         .oc = 21,
         .kh = 3,
         .kw = 3,
         .stride_h = 2,
         .stride_w = 2,
         .pad_t = 0,
         .pad_l = 0,
         .pad_b = 1,
         .pad_r = 1,
         .groups = 21},
        {.n = 2,
         .c = 16,
         .h = 6,
         .w = 3,
         .oc = 16,
         .kh = 3,
         .kw = 3,
         .stride_h = 1,
         .stride_w = 1,
         .pad_t = 1,
         .pad_l = 1,
         .pad_b = 1,
         .pad_r = 1,
         .groups = 16},
        {.n = 2,
         .c = 35,
         .h = 7,
         .w = 9,
         .oc = 35,
         .kh = 4,
         .kw = 4,
         .stride_h = 1,
         .stride_w = 1,
         .pad_t = 1,
         .pad_l = 1,
         .pad_b = 2,
         .pad_r = 2,
         .groups = 35},
        {.n = 1, .c = 33, .h = 5, .w = 6, .oc = 17, .kh = 1, .kw = 1, .groups = 1},
        {.n = 1,
         .c = 3,
         .h = 11,
         .w = 13,
         .oc = 10,
         .kh = 7,
         .kw = 7,
         .stride_h = 2,
         .stride_w = 2,
         .pad_t = 3,
         .pad_l = 3,
         .pad_b = 3,
         .pad_r = 3,
         .groups = 1},
        {.n = 1,
         .c = 5,
         .h = 1,
         .w = 31,
         .oc = 6,
         .kh = 1,
         .kw = 5,
         .pad_l = 2,
         .pad_r = 1,
         .groups = 1},
    };
    struct shr_conv_shape s;
    if (i < SHR_COUNT_OF(known)) {
        s = known[i];
        s.stride_h = s.stride_h > 0 ? s.stride_h : 1;
        s.stride_w = s.stride_w > 0 ? s.stride_w : 1;
        s.dil_h = s.dil_w = 1;
    } else {
        int64_t cg = 1 + rnd_below(9), og = 1 + rnd_below(9);
        s = (struct shr_conv_shape){.n = 1 + rnd_below(2),
                                    .kh = 1 + rnd_below(4),
                                    .kw = 1 + rnd_below(4),
                                    .stride_h = 1 + rnd_below(3),
                                    .stride_w = 1 + rnd_below(3),
                                    .dil_h = 1 + rnd_below(2),
                                    .dil_w = 1 + rnd_below(2),
                                    .groups = 1 + rnd_below(3)};
        s.c = cg * s.groups;
        s.oc = og * s.groups;
        s.pad_t = rnd_below((uint32_t)s.kh);
        s.pad_l = rnd_below((uint32_t)s.kw);
        s.pad_b = rnd_below((uint32_t)s.kh);
        s.pad_r = rnd_below((uint32_t)s.kw);
        s.h = (s.kh - 1) * s.dil_h + 1 + rnd_below(9);
        s.w = (s.kw - 1) * s.dil_w + 1 + rnd_below(20);
    }
    s.oh = outputs(s.h, s.pad_t + s.pad_b, s.kh, s.stride_h, s.dil_h);
    s.ow = outputs(s.w, s.pad_l + s.pad_r, s.kw, s.stride_w, s.dil_w);
    return s;
}

bool wrong_shape(const struct shr_conv_shape *s, const char *what)
{
    return wrong("%s: n %d c %d h %d w %d oc %d k %dx%d stride %dx%d pad %d %d %d %d dil %dx%d "
                 "groups %d",
                 what, (int)s->n, (int)s->c, (int)s->h, (int)s->w, (int)s->oc, (int)s->kh,
                 (int)s->kw, (int)s->stride_h, (int)s->stride_w, (int)s->pad_t, (int)s->pad_l,
                 (int)s->pad_b, (int)s->pad_r, (int)s->dil_h, (int)s->dil_w, (int)s->groups);
}

static bool run_conv_i8(const struct shr_kernels *k, const struct shr_conv_i8_spec *spec,
                        const uint8_t *x, int32_t x_zero, struct shr_team *team, void *y)
{
    size_t scratch = 0;
    struct shr_conv_i8 *conv = k->conv_i8_new(spec, &scratch);
    if (conv == NULL) {
        return false;
    }
    void *space = need(scratch);
    k->conv_i8_run(conv, x, x_zero, y, space, team);
    k->conv_i8_free(conv);
    free(space);
    return true;
}

static bool one_conv_i8(const struct table *t, const struct shr_conv_shape *s, enum fill f,
                        struct shr_team *team)
{
    size_t k = (size_t)(s->c / s->groups * s->kh * s->kw), oc = (size_t)s->oc;
    size_t n_y = (size_t)(s->n * s->oc * s->oh * s->ow);
    int8_t *w = bytes_s8(oc * k, f);
    uint8_t *x = bytes_u8((size_t)(s->n * s->c * s->h * s->w), f);
    int32_t *zero = rnd() % 2 ? ints(oc, -128, 127) : NULL;
    int32_t *bias = rnd() % 2 ? ints(oc, -100000, 100000) : NULL;
    float *scale = scales(oc, k), *bias_f32 = rnd() % 2 ? floats(oc, -1, 1) : NULL;
    bool good = true;
    for (size_t i = 0; i < SHR_COUNT_OF(outs) && good; i++) {
        struct shr_conv_i8_spec spec = {.shape = *s,
                                        .w = w,
                                        .w_zero = zero,
                                        .bias = bias,
                                        .out = outs[i],
                                        .scale = scale,
                                        .bias_f32 = bias_f32,
                                        .y_zero = (int32_t)rnd_below(256) - (i == 3 ? 128 : 0),
                                        .act = act_of(outs[i]),
                                        .y_min = (int32_t)rnd_below(100) - (i == 3 ? 128 : 0),
                                        .y_max = 150 - (i == 3 ? 128 : 0)};
        if (outs[i] == SHR_GEMM_I32) {
            spec.scale = spec.bias_f32 = NULL;
        }
        int32_t x_zero = (int32_t)rnd_below(256);
        struct out got = out_new(n_y * out_size(outs[i])), want = out_new(got.n);
        good = run_conv_i8(t->k, &spec, x, x_zero, team, got.p) &&
               run_conv_i8(t->ref, &spec, x, x_zero, NULL, want.p) && out_same(&got, &want);
        out_free(&got);
        out_free(&want);
    }
    free(w);
    free(x);
    free(zero);
    free(bias);
    free(scale);
    free(bias_f32);
    return good ? true : wrong_shape(s, "conv_i8");
}

bool check_conv_i8(const struct table *t)
{
    for (unsigned i = 0; i < 300; i++) {
        struct shr_conv_shape s = check_shape(i);
        if (i % 5 == 4 && i > 5) { /* depthwise */
            s.groups = s.oc = s.c;
        }
        if (!one_conv_i8(t, &s, (enum fill)(i % FILL_COUNT), NULL)) {
            return false;
        }
    }
    return true;
}

/* Products that are worth a team, in every way of multiplying. */
bool check_i8_team(const struct table *t)
{
    struct shr_team *team = NULL;
    bool good = shr_team_new(2, &team, NULL) == 0;
    for (int f = 0; f < FILL_COUNT && good; f++) {
        struct shr_conv_shape s = check_shape(1);
        s.c = s.oc = 33;
        s.h = s.w = s.oh = s.ow = 11;
        struct shr_conv_shape depthwise = s;
        depthwise.c = depthwise.oc = depthwise.groups = 250;
        good = one_gemm_i8(t, 67, 67, 300, (enum fill)f, team) &&
               one_gemm_i8(t, 1, 300, 3600, (enum fill)f, team) &&
               one_gemm_i8(t, 203, 9, 601, (enum fill)f, team) &&
               one_conv_i8(t, &s, (enum fill)f, team) &&
               one_conv_i8(t, &depthwise, (enum fill)f, team);
    }
    shr_team_free(team);
    return good;
}

bool check_maxpool_u8(const struct table *t)
{
    for (unsigned i = 0; i < 200; i++) {
        struct shr_conv_shape s = check_shape(i);
        s.c = 1 + rnd_below(70);
        s.oc = s.c;
        s.groups = 1;
        uint8_t *x = bytes_u8((size_t)(s.n * s.c * s.h * s.w), FILL_RANDOM);
        struct out got = out_new((size_t)(s.n * s.c * s.oh * s.ow)), want = out_new(got.n);
        t->k->maxpool_u8(&s, x, got.p);
        t->ref->maxpool_u8(&s, x, want.p);
        bool good = out_same(&got, &want);
        free(x);
        out_free(&got);
        out_free(&want);
        if (!good) {
            return wrong_shape(&s, "maxpool_u8");
        }
    }
    return true;
}
