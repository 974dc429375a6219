/* VNNI: the integer matrix product, panel by panel. The arithmetic is described in vnni_i8.h. */
#include "base/mem.h"
#include "kernels/vnni_i8.h"

size_t VNNI(gemm_i8_size)(size_t k, size_t n)
{
    size_t blocks = (n + LANES - 1) / LANES;
    size_t bytes = sizeof(struct vnni_packed) + blocks * LANES * 2 * sizeof(int32_t) +
                   blocks * ((k + 3) / 4) * VECTOR;
    return (bytes + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
}

void VNNI(i8_pack)(size_t k, size_t k_real, size_t n, const int8_t *b, size_t ldb, bool trans,
                   const int32_t *zero, void *packed)
{
    struct vnni_packed *p = packed;
    *p = (struct vnni_packed){.quads = (k + 3) / 4, .blocks = (n + LANES - 1) / LANES};
    memset(p + 1, 0, VNNI(gemm_i8_size)(k, n) - sizeof *p);
    int32_t *sums = (int32_t *)(p + 1), *zeros = sums + p->blocks * LANES;
    int8_t *panels = (int8_t *)(zeros + p->blocks * LANES);
    for (size_t j = 0; j < n; j++) {
        size_t block = j / LANES, first = block / PANEL * PANEL;
        size_t step = vnni_min(p->blocks - first, PANEL) * VECTOR;
        int8_t *to = panels + first * p->quads * VECTOR + (block - first) * VECTOR + j % LANES * 4;
        uint32_t sum = 0;
        for (size_t i = 0; i < k; i++) {
            int8_t v = trans ? b[j * ldb + i] : b[i * ldb + j];
            to[i / 4 * step + i % 4] = v;
            sum += (uint32_t)v;
        }
        zeros[j] = zero != NULL ? zero[j] : 0;
        sums[j] = (int32_t)(sum - (uint32_t)k_real * (uint32_t)zeros[j]);
        p->has_zero = p->has_zero || zeros[j] != 0;
    }
}

void VNNI(gemm_i8_pack)(size_t k, size_t n, const int8_t *b, size_t ldb, bool trans,
                        const int32_t *zero, void *packed)
{
    VNNI(i8_pack)(k, k, n, b, ldb, trans, zero, packed);
}

static int32_t sum_of(const uint8_t *a, size_t k)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < k; i++) {
        sum += a[i];
    }
    return (int32_t)sum;
}

/* ── One row ────────────────────────────────────────────────────────────────────────────────── */

/* B is read once and does not stay in the first cache: it is fetched ahead, across the ends of
 * panels, since they follow each other. Several chains of sums hide the latency. */
SHR_INLINE void row_sums(const size_t width, const uint8_t *a, size_t quads, const int8_t *b,
                         vec_t *acc)
{
    vec_t c[CHAINS][PANEL];
    const uint8_t *end = a + quads * 4;
    SHR_UNROLL
    for (size_t i = 0; i < CHAINS; i++) {
        SHR_UNROLL
        for (size_t j = 0; j < width; j++) {
            c[i][j] = v_zero();
        }
    }
    for (; a < end; a += CHAINS * 4, b += CHAINS * width * VECTOR) {
        SHR_UNROLL
        for (size_t i = 0; i < CHAINS; i++) {
            vec_t x = vnni_quad(a + i * 4);
            SHR_UNROLL
            for (size_t j = 0; j < width; j++) {
                const int8_t *v = b + (i * width + j) * VECTOR;
                _mm_prefetch((const char *)v + AHEAD, _MM_HINT_T0);
                c[i][j] = v_dot(c[i][j], x, v_load(v));
            }
        }
    }
    SHR_UNROLL
    for (size_t j = 0; j < width; j++) {
        vec_t sum = c[0][j];
        SHR_UNROLL
        for (size_t i = 1; i < CHAINS; i++) {
            sum = v_add(sum, c[i][j]);
        }
        acc[j] = sum;
    }
}

static void one_row(void *arg, size_t task, size_t worker)
{
    const struct shr_gemm_i8 *g = arg;
    const struct vnni_packed *p = g->b;
    size_t quads = g->k / 4 / CHAINS * CHAINS, block = task * PANEL;
    size_t width = vnni_min(p->blocks - block, PANEL);
    const int8_t *b = vnni_panel(p, block);
    uint8_t rest[CHAINS * 4] = {0}; /* what the chains leave */
    int32_t sum = p->has_zero ? sum_of(g->a, g->k) : 0;
    vec_t acc[PANEL];
    (void)worker;
    memcpy(rest, g->a + quads * 4, g->k - quads * 4);
    switch (width) {
    case 1:
        row_sums(1, g->a, quads, b, acc);
        break;
    case 2:
        row_sums(2, g->a, quads, b, acc);
        break;
    case 3:
        row_sums(PANEL < 3 ? PANEL : 3, g->a, quads, b, acc);
        break;
    default:
        row_sums(PANEL, g->a, quads, b, acc);
        break;
    }
    for (size_t j = 0; j < width; j++) {
        struct vnni_columns v = vnni_columns_of(g, p, block + j);
        for (size_t q = quads; q < p->quads; q++) {
            vec_t x = vnni_quad(rest + (q - quads) * 4);
            acc[j] = v_dot(acc[j], x, v_load(b + (q * width + j) * VECTOR));
        }
        vnni_finish(g, &v, (block + j) * LANES, acc[j], sum);
    }
}

/* ── Several rows ───────────────────────────────────────────────────────────────────────────── */

/* One tile; at holds 0 for the only segment. */
static void some_rows(const struct vnni_panel *p, size_t block, size_t m, const size_t *at)
{
    const struct shr_gemm_i8 *g = p->g;
    size_t rows = vnni_min(g->m - m, ROWS), rest = g->k % 4, to[ROWS];
    struct vnni_rows r = {.at = at, .segments = 1, .quads = g->k / 4};
    uint8_t tails[ROWS][4] = {{0}};
    int32_t sums[ROWS] = {0};
    for (size_t i = 0; i < rows; i++) {
        r.a[i] = g->a + (m + i) * g->lda;
        to[i] = (m + i) * g->ldc + block * LANES;
        memcpy(tails[i], r.a[i] + g->k - rest, rest);
        sums[i] = p->has_zero ? sum_of(r.a[i], g->k) : 0;
    }
    r.tails = rest != 0 ? (const uint8_t(*)[4])tails : NULL;
    vnni_run(p, rows, &r, to, sums);
}

struct split {
    const struct shr_gemm_i8 *g;
    size_t tiles, parts;
};

static void some_tiles(void *arg, size_t task, size_t worker)
{
    const struct split *s = arg;
    const size_t at = 0, block = task / s->parts * PANEL, part = task % s->parts;
    struct vnni_panel panel = vnni_panel_of(s->g, block);
    (void)worker;
    for (size_t i = s->tiles * part / s->parts; i < s->tiles * (part + 1) / s->parts; i++) {
        some_rows(&panel, block, i * ROWS, &at);
    }
}

const char *VNNI(gemm_i8_form)(const void *packed)
{
    (void)packed;
    return "vpdpbusd";
}

void VNNI(gemm_i8)(const struct shr_gemm_i8 *g)
{
    const struct vnni_packed *p = g->b;
    size_t panels = (p->blocks + PANEL - 1) / PANEL;
    struct shr_team *team = g->m * g->n * g->k < WORTH ? NULL : g->team;
    if (g->m == 1) {
        struct shr_gemm_i8 copy = *g;
        shr_team_run(team, panels, one_row, &copy);
        return;
    }
    struct split s = {.g = g, .tiles = (g->m + ROWS - 1) / ROWS};
    s.parts = vnni_parts(team, panels, s.tiles);
    shr_team_run(team, panels * s.parts, some_tiles, &s);
}
