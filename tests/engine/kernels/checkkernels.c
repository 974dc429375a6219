/* Runs the checks of every table that this machine offers, or times them with --bench; those of one
 * with --table NAME, or one check of it with --table NAME CHECK; --tables lists them. */
#include "checkkernels.h"

#include <stdarg.h>
#include <stdio.h>

enum { GUARD = 64, GUARD_BYTE = 0xa5, MAX_TABLES = 8 };

const size_t sizes[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 64, 100, 300, 784, 1025, 0};

uint32_t rnd(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15u; /* xorshift64* (Marsaglia; Vigna) */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545f4914f6cdd1du) >> 32);
}

uint32_t rnd_below(uint32_t n)
{
    return (uint32_t)((uint64_t)rnd() * n >> 32);
}

void *need(size_t n)
{
    void *p = malloc(n);
    if (p == NULL && n > 0) {
        abort();
    }
    return p;
}

uint8_t *bytes_u8(size_t n, enum fill f)
{
    uint8_t *p = need(n);
    for (size_t i = 0; i < n; i++) {
        bool worst = f == FILL_WORST || (f != FILL_RANDOM && rnd() % 8 != 0);
        p[i] = worst ? 255 : (uint8_t)rnd();
    }
    return p;
}

/* The worst case has one sign all over, so that sums do not cancel; both signs come in turn. */
int8_t *bytes_s8(size_t n, enum fill f)
{
    int8_t *p = need(n);
    int8_t extreme = rnd() % 2 ? 127 : -128;
    int32_t edge = 0;
    for (size_t i = 0; i < n; i++) {
        switch (f) {
        case FILL_WORST:
            p[i] = extreme;
            break;
        case FILL_EDGE: /* two that follow each other sum to 127 … 129, or -127 … -129 */
            edge = i % 2 == 0 ? (int32_t)rnd_below(128) : 127 + (int32_t)rnd_below(3) - edge;
            edge = edge > 127 ? 127 : edge;
            p[i] = (int8_t)(extreme < 0 ? -edge : edge);
            break;
        case FILL_SMALL:
            p[i] = (int8_t)(rnd() % 2 ? 32 : 31 + (int32_t)rnd_below(3));
            p[i] = extreme < 0 ? (int8_t)-p[i] : p[i];
            break;
        case FILL_BELL: {
            uint32_t sum = rnd_below(256) + rnd_below(256) + rnd_below(256) + rnd_below(256);
            p[i] = (int8_t)(((int32_t)sum - 510) / 6);
            break;
        }
        default:
            p[i] = (int8_t)(rnd() & 255);
            break;
        }
    }
    return p;
}

float *floats(size_t n, float lo, float hi)
{
    float *p = need(n * sizeof *p);
    for (size_t i = 0; i < n; i++) {
        p[i] = lo + (hi - lo) * ((float)rnd() / 4294967296.0f);
    }
    return p;
}

int32_t *ints(size_t n, int32_t lo, int32_t hi)
{
    int32_t *p = need(n * sizeof *p);
    for (size_t i = 0; i < n; i++) {
        p[i] = lo + (int32_t)rnd_below((uint32_t)(hi - lo + 1));
    }
    return p;
}

struct out out_new(size_t n)
{
    struct out o = {.base = need(n + 2 * GUARD), .n = n};
    o.p = o.base + GUARD;
    memset(o.base, GUARD_BYTE, n + 2 * GUARD);
    return o;
}

bool out_whole(const struct out *a)
{
    for (size_t i = 0; i < GUARD; i++) {
        if (a->base[i] != GUARD_BYTE || a->p[a->n + i] != GUARD_BYTE) {
            return false;
        }
    }
    return true;
}

bool out_same(const struct out *a, const struct out *b)
{
    return a->n == b->n && memcmp(a->p, b->p, a->n) == 0 && out_whole(a) && out_whole(b);
}

void out_free(struct out *a)
{
    free(a->base);
}

bool wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("# ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    return false;
}

static const struct {
    const char *name;
    bool (*run)(const struct table *t);
} checks[] = {
    {"gemm_f32", check_gemm_f32},
    {"gemm_f32_team", check_gemm_f32_team},
    {"sparse_f32", check_sparse_f32},
    {"gemm_i8", check_gemm_i8},
    {"conv_f32", check_conv_f32},
    {"conv_f32 by Winograd", check_winograd},
    {"conv_i8", check_conv_i8},
    {"i8_team", check_i8_team},
    {"maxpool_u8", check_maxpool_u8},
    {"add_u8", check_add_u8},
    {"mul_u8", check_mul_u8},
    {"mean_u8", check_mean_u8},
    {"lut_u8", check_lut_u8},
    {"flip_u8", check_flip_u8},
    {"transpose_u8 transpose_f32", check_transpose},
    {"quantize_u8 quantize_s8", check_quantize},
    {"dequantize_u8 dequantize_s8", check_dequantize},
    {"quantize_u8_nhwc dequantize_u8_nchw", check_nhwc},
    {"minmax_f32", check_minmax_f32},
    {"relu_f32 add_f32 mul_f32 madd_f32", check_elementwise_f32},
    {"sigmoid_f32", check_sigmoid_f32},
    {"tanh_f32", check_tanh_f32},
    {"exp_f32 erf_f32 act_f32", check_curves},
    {"exp_f32 erf_f32 act_f32 at their ends", check_curve_ends},
    {"softmax_f32", check_softmax_f32},
    {"layernorm_f32", check_layernorm_f32},
    {"layernorm_grad_f32", check_layernorm_grad_f32},
    {"scale_f32", check_scale_f32},
    {"maxpool_f32 avgpool_f32", check_pool_f32},
    {"gradients of maxpool_f32 avgpool_f32", check_pool_grad_f32},
    {"maxpool_f32 of NaN", check_maxpool_nan},
};

#ifndef CHECK_EMULATED
const struct emulated emulated[] = {{NULL, NULL}};
#endif

/* Every table that some mask gives, strongest first; the reference is the last. */
static size_t find_tables(struct table *tables)
{
    unsigned mask = 0;
    size_t n = 0;
    const struct shr_kernels *k, *ref = shr_kernels_get(~0u);
    do {
        k = shr_kernels_get(mask);
        tables[n] = (struct table){.k = k, .ref = ref};
        shr_cpu_name(k->cpu, tables[n].name, sizeof tables[n].name);
        n++;
        unsigned strongest = k->cpu;
        while ((strongest & (strongest - 1)) != 0) {
            strongest &= strongest - 1;
        }
        mask |= strongest;
    } while (k->cpu != 0 && n < MAX_TABLES);
    return n;
}

/* The tables of this machine and the emulated ones, or the one of that name. */
static size_t all_tables(struct table *tables, const char *only)
{
    size_t n = find_tables(tables), kept = 0;
    bool avx2 = (shr_cpu_flags() & SHR_CPU_AVX2) != 0;
    for (size_t i = 0; avx2 && emulated[i].k != NULL; i++, n++) {
        tables[n] = (struct table){.k = emulated[i].k, .ref = shr_kernels_get(~0u)};
        snprintf(tables[n].name, sizeof tables->name, "%s", emulated[i].name);
    }
    for (size_t i = 0; i < n; i++) {
        if (only == NULL || strcmp(only, tables[i].name) == 0) {
            tables[kept++] = tables[i];
        }
    }
    return kept;
}

/* Every check, or the one of that name. */
static int run_checks(const struct table *tables, size_t n_tables, const char *only)
{
    size_t first = 0, end = SHR_COUNT_OF(checks), number = 0, failed = 0;
    if (only != NULL) {
        while (first < end && strcmp(checks[first].name, only) != 0) {
            first++;
        }
        if (first == end) {
            fprintf(stderr, "no such check: %s\n", only);
            return 2;
        }
        end = first + 1;
    }
    printf("1..%zu\n", (end - first) * n_tables);
    for (size_t i = 0; i < n_tables; i++) {
        for (size_t j = first; j < end; j++) {
            bool good = checks[j].run(&tables[i]);
            failed += !good;
            printf("%sok %zu - %s: %s\n", good ? "" : "not ", ++number, tables[i].name,
                   checks[j].name);
        }
    }
    return failed > 0;
}

int main(int argc, char **argv)
{
    struct table tables[MAX_TABLES];
    const char *what = argc > 1 ? argv[1] : "";
    size_t n = all_tables(tables, strcmp(what, "--table") == 0 && argc > 2 ? argv[2] : NULL);
    if (strcmp(what, "--bench") == 0) {
        for (size_t i = 0; i < n; i++) {
            bench(&tables[i]);
        }
    } else if (strcmp(what, "--tables") == 0) {
        for (size_t i = 0; i < n; i++) {
            printf("%s\n", tables[i].name);
        }
    } else if (n == 0) {
        fprintf(stderr, "no such table here: %s\n", argv[2]);
        return 2;
    } else {
        return run_checks(tables, n, argc > 3 ? argv[3] : NULL);
    }
    return 0;
}
