/* Times the entries of a table: the fastest of many short rounds (what disturbs a round only makes
 * it slower), as nanoseconds a call and operations a second. */
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "checkkernels.h"

enum { ROUNDS = 60 };
static const double ROUND_SECONDS = 0.0005;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds a call */
static double time_of(void (*run)(void *arg), void *arg)
{
    double best = 0, start = now();
    run(arg);
    double once = now() - start;
    size_t calls = once > ROUND_SECONDS ? 1 : (size_t)(ROUND_SECONDS / (once + 1e-8)) + 1;
    size_t rounds = once > 0.1 ? 2 : ROUNDS;
    for (size_t i = 0; i < rounds; i++) {
        start = now();
        for (size_t j = 0; j < calls; j++) {
            run(arg);
        }
        double took = (now() - start) / (double)calls;
        best = i == 0 || took < best ? took : best;
    }
    return best;
}

static void report(const struct table *t, const char *what, double seconds, double ops)
{
    printf("%-6s %-34s %12.0f ns %9.1f GOP/s\n", t->name, what, seconds * 1e9,
           ops / seconds * 1e-9);
    fflush(stdout);
}

/* ── The reference MLP, 784-300-100-10 ──────────────────────────────────────────────────────── */

enum { LAYERS = 3 };
static const size_t widths[LAYERS + 1] = {784, 300, 100, 10};

struct mlp {
    const struct shr_kernels *k;
    float *x;
    uint8_t *q[LAYERS];
    struct shr_gemm_f32 f32[LAYERS];
    struct shr_gemm_i8 i8[LAYERS];
};

static void run_mlp_f32(void *arg)
{
    struct mlp *p = arg;
    for (int i = 0; i < LAYERS; i++) {
        p->k->gemm_f32(&p->f32[i]);
    }
}

static void run_mlp_i8(void *arg)
{
    struct mlp *p = arg;
    p->k->quantize_u8(p->i8[0].m * widths[0], p->x, 1.0f / 255, 0, p->q[0]);
    for (int i = 0; i < LAYERS; i++) {
        p->k->gemm_i8(&p->i8[i]);
    }
}

static void bench_mlp(const struct table *t, size_t m)
{
    struct mlp p = {.k = t->k, .x = floats(m * widths[0], 0, 1)};
    double ops = 0;
    char what[64];
    const float *from = p.x;
    for (int i = 0; i < LAYERS; i++) {
        p.q[i] = bytes_u8(m * widths[i], FILL_RANDOM);
    }
    for (int i = 0; i < LAYERS; i++) {
        size_t k = widths[i], n = widths[i + 1];
        float *w = floats(k * n, -1, 1), *y = floats(m * n, 0, 1);
        int8_t *wq = bytes_s8(k * n, FILL_BELL);
        void *b = shr_mem_aligned(t->k->gemm_f32_size(k, n));
        void *bq = shr_mem_aligned(t->k->gemm_i8_size(k, n));
        t->k->gemm_f32_pack(k, n, w, n, false, b);
        t->k->gemm_i8_pack(k, n, wq, n, false, NULL, bq);
        p.f32[i] = (struct shr_gemm_f32){.m = m,
                                         .n = n,
                                         .k = k,
                                         .a = from,
                                         .lda = k,
                                         .b = b,
                                         .bias = floats(n, -1, 1),
                                         .c = y,
                                         .ldc = n,
                                         .act = i < 2 ? SHR_ACT_RELU : SHR_ACT_NONE};
        p.i8[i] = (struct shr_gemm_i8){.m = m,
                                       .n = n,
                                       .k = k,
                                       .a = p.q[i],
                                       .lda = k,
                                       .b = bq,
                                       .bias = ints(n, -1000, 1000),
                                       .ldc = n,
                                       .out = i < 2 ? SHR_GEMM_U8 : SHR_GEMM_F32,
                                       .scale = floats(n, 0, 1e-4f),
                                       .c = i < 2 ? (void *)p.q[i + 1] : (void *)y,
                                       .act = i < 2 ? SHR_ACT_RELU : SHR_ACT_NONE};
        ops += 2.0 * (double)(m * n * k);
        from = y;
        free(w);
        free(wq);
    }
    snprintf(what, sizeof what, "mlp f32 batch %zu", m);
    report(t, what, time_of(run_mlp_f32, &p), ops);
    snprintf(what, sizeof what, "mlp int8 batch %zu, with quantize", m);
    report(t, what, time_of(run_mlp_i8, &p), ops);
    for (int i = 0; i < LAYERS; i++) {
        free((void *)(uintptr_t)p.f32[i].bias);
        free(p.f32[i].c);
        shr_mem_free((void *)(uintptr_t)p.f32[i].b);
        free((void *)(uintptr_t)p.i8[i].bias);
        free((void *)(uintptr_t)p.i8[i].scale);
        shr_mem_free((void *)(uintptr_t)p.i8[i].b);
        free(p.q[i]);
    }
    free(p.x);
}

/* ── Convolutions ───────────────────────────────────────────────────────────────────────────── */

struct conv {
    const struct shr_kernels *k;
    struct shr_conv_f32 *f32;
    struct shr_conv_i8 *i8;
    float *x, *y;
    uint8_t *q, *r;
    void *scratch, *scratch_i8;
};

static void run_conv_f32(void *arg)
{
    struct conv *c = arg;
    c->k->conv_f32_run(c->f32, c->x, NULL, c->y, c->scratch, NULL);
}

static void run_conv_i8(void *arg)
{
    struct conv *c = arg;
    c->k->conv_i8_run(c->i8, c->q, 3, c->r, c->scratch_i8, NULL);
}

static void bench_conv(const struct table *t, int64_t hw, int64_t c, int64_t oc, int64_t kernel,
                       int64_t groups)
{
    int64_t pad = kernel / 2;
    struct shr_conv_shape s = {.n = 1,
                               .c = c,
                               .h = hw,
                               .w = hw,
                               .oc = oc,
                               .kh = kernel,
                               .kw = kernel,
                               .oh = hw,
                               .ow = hw,
                               .stride_h = 1,
                               .stride_w = 1,
                               .pad_t = pad,
                               .pad_l = pad,
                               .pad_b = pad,
                               .pad_r = pad,
                               .dil_h = 1,
                               .dil_w = 1,
                               .groups = groups};
    size_t n_w = (size_t)(oc * c / groups * kernel * kernel), n_x = (size_t)(c * hw * hw);
    size_t n_y = (size_t)(oc * hw * hw), scratch, scratch_i8;
    float *w = floats(n_w, -1, 1), *scale = floats((size_t)oc, 0, 1e-4f);
    int8_t *wq = bytes_s8(n_w, FILL_BELL);
    struct shr_conv_i8_spec spec = {.shape = s, .w = wq, .out = SHR_GEMM_U8, .scale = scale};
    struct conv b = {.k = t->k,
                     .x = floats(n_x, 0, 1),
                     .y = floats(n_y, 0, 1),
                     .q = bytes_u8(n_x, FILL_RANDOM),
                     .r = bytes_u8(n_y, FILL_RANDOM)};
    char what[64];
    double ops = 2.0 * (double)n_w * (double)(hw * hw);
    b.f32 = t->k->conv_f32_new(
        &(struct shr_conv_f32_spec){.shape = s, .w = w, .threads = 1, .winograd = true}, &scratch);
    b.i8 = t->k->conv_i8_new(&spec, &scratch_i8);
    b.scratch = shr_mem_aligned(scratch + 1);
    b.scratch_i8 = shr_mem_aligned(scratch_i8 + 1);
    static const char *const types[] = {"f32", "i8"};
    for (int i = 0; i < 2; i++) {
        snprintf(what, sizeof what, "conv %s %dx%dx%d->%d %dx%d g%d", types[i], (int)hw, (int)hw,
                 (int)c, (int)oc, (int)kernel, (int)kernel, (int)groups);
        report(t, what, time_of(i == 0 ? run_conv_f32 : run_conv_i8, &b), ops);
    }
    t->k->conv_f32_free(b.f32);
    t->k->conv_i8_free(b.i8);
    shr_mem_free(b.scratch);
    shr_mem_free(b.scratch_i8);
    free(w);
    free(scale);
    free(wq);
    free(b.x);
    free(b.y);
    free(b.q);
    free(b.r);
}

/* ── Loops over 28 x 28 x 32 values ─────────────────────────────────────────────────────────── */

enum { CHANNELS = 32, PIXELS = 784, VALUES = CHANNELS * PIXELS };

struct loops {
    const struct shr_kernels *k;
    float *x, *y, *z;
    uint8_t *q, *r;
};

static void run_quantize(void *arg)
{
    struct loops *p = arg;
    p->k->quantize_u8(VALUES, p->x, 0.01f, 3, p->q);
}

static void run_dequantize(void *arg)
{
    struct loops *p = arg;
    p->k->dequantize_u8(VALUES, p->q, 0.01f, 3, p->y);
}

static void run_quantize_nhwc(void *arg)
{
    struct loops *p = arg;
    p->k->quantize_u8_nhwc(CHANNELS, PIXELS, p->x, 0.01f, 3, p->q);
}

static void run_dequantize_nchw(void *arg)
{
    struct loops *p = arg;
    p->k->dequantize_u8_nchw(CHANNELS, PIXELS, p->q, 0.01f, 3, p->y);
}

static void run_maxpool(void *arg)
{
    struct loops *p = arg;
    const struct shr_conv_shape s = {.n = 1,
                                     .c = CHANNELS,
                                     .h = 28,
                                     .w = 28,
                                     .oc = CHANNELS,
                                     .kh = 2,
                                     .kw = 2,
                                     .oh = 14,
                                     .ow = 14,
                                     .stride_h = 2,
                                     .stride_w = 2,
                                     .dil_h = 1,
                                     .dil_w = 1,
                                     .groups = 1};
    p->k->maxpool_u8(&s, p->q, p->r);
}

static void run_add_u8(void *arg)
{
    struct loops *p = arg;
    p->k->add_u8(&(struct shr_add_u8){.n = VALUES,
                                      .a = p->q,
                                      .b = p->r,
                                      .a_scale = 0.01f,
                                      .b_scale = 0.02f,
                                      .y_scale = 0.025f,
                                      .y_zero = 3,
                                      .y = p->r});
}

static void run_transpose_u8(void *arg)
{
    struct loops *p = arg;
    p->k->transpose_u8(CHANNELS, PIXELS, p->q, p->r);
}

static void run_transpose_f32(void *arg)
{
    struct loops *p = arg;
    p->k->transpose_f32(CHANNELS, PIXELS, p->x, p->y);
}

static void run_minmax(void *arg)
{
    struct loops *p = arg;
    float lo, hi;
    p->k->minmax_f32(VALUES, p->x, &lo, &hi);
}

static void run_relu(void *arg)
{
    struct loops *p = arg;
    p->k->relu_f32(VALUES, p->x, p->y);
}

static void run_add(void *arg)
{
    struct loops *p = arg;
    p->k->add_f32(VALUES, p->x, p->y, p->z);
}

static void run_mul(void *arg)
{
    struct loops *p = arg;
    p->k->mul_f32(VALUES, p->x, p->y, p->z);
}

static void run_sigmoid(void *arg)
{
    struct loops *p = arg;
    p->k->sigmoid_f32(VALUES, p->x, p->z);
}

static void run_tanh(void *arg)
{
    struct loops *p = arg;
    p->k->tanh_f32(VALUES, p->x, p->z);
}

static void bench_loops(const struct table *t)
{
    static const struct {
        const char *name;
        void (*run)(void *arg);
    } list[] = {
        {"quantize_u8", run_quantize},
        {"dequantize_u8", run_dequantize},
        {"quantize_u8_nhwc", run_quantize_nhwc},
        {"dequantize_u8_nchw", run_dequantize_nchw},
        {"maxpool_u8 2x2", run_maxpool},
        {"add_u8", run_add_u8},
        {"transpose_u8", run_transpose_u8},
        {"transpose_f32", run_transpose_f32},
        {"minmax_f32", run_minmax},
        {"relu_f32", run_relu},
        {"add_f32", run_add},
        {"mul_f32", run_mul},
        {"sigmoid_f32", run_sigmoid},
        {"tanh_f32", run_tanh},
    };
    struct loops p = {.k = t->k,
                      .x = floats(VALUES, -2, 2),
                      .y = floats(VALUES, -2, 2),
                      .z = floats(VALUES, -2, 2),
                      .q = bytes_u8(VALUES, FILL_RANDOM),
                      .r = bytes_u8(VALUES, FILL_RANDOM)};
    for (size_t i = 0; i < SHR_COUNT_OF(list); i++) {
        report(t, list[i].name, time_of(list[i].run, &p), VALUES);
    }
    free(p.x);
    free(p.y);
    free(p.z);
    free(p.q);
    free(p.r);
}

void bench(const struct table *t)
{
    bench_mlp(t, 1);
    bench_mlp(t, 64);
    bench_conv(t, 28, 1, 16, 3, 1);
    bench_conv(t, 28, 32, 32, 3, 1);
    bench_conv(t, 14, 64, 64, 3, 1);
    bench_conv(t, 14, 64, 128, 1, 1);
    bench_conv(t, 14, 64, 64, 3, 64);
    bench_conv(t, 14, 64, 64, 5, 64);
    bench_loops(t);
}
