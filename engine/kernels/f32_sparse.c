/* The float product by a matrix that is mostly zero, in blocks of one row and a vector of columns.
 *
 * Packed: uint32 firsts of the column vectors' blocks (vectors + 1), then for each block the row of
 * B that it is of (uint32), then the blocks, VF floats each. A row of A and a column vector is a
 * sum over its blocks, whose order is that of k, in several chains. DESIGN: the format is block
 * compressed sparse columns with blocks of 1 x VF (as in Elsen et al., "Fast Sparse ConvNets",
 * 2019). A block costs a load more than in the dense product, and rows of A share less, so that it
 * is faster from about two thirds of zero blocks on. */
#include "base/mem.h"
#include "core/team.h"
#include "kernels/f32_tile.h"

enum {
    ROWS = 4,        /* of A at a time, with their sums in registers */
    CHAINS = 4,      /* sums in flight of one row */
    WORTH = 1 << 18, /* products that pay for a team */
    MOST_TASKS = 16,
};

struct layout {
    size_t vectors, blocks;
    uint32_t *firsts, *rows;
    float *values;
};

static size_t aligned(size_t words)
{
    const size_t line = SHR_MEM_ALIGN / sizeof(uint32_t);
    return (words + line - 1) / line * line;
}

static struct layout layout_of(void *packed, size_t n, size_t blocks)
{
    struct layout v = {.vectors = (n + VF - 1) / VF, .blocks = blocks, .firsts = packed};
    v.rows = v.firsts + v.vectors + 1;
    v.values = (float *)(void *)(v.firsts + aligned(v.vectors + 1 + blocks));
    return v;
}

/* Elements (i, j…) of up to VF columns of B, the others 0; false = all are 0. */
static bool block_of(size_t n, const float *b, size_t ldb, bool trans, size_t i, size_t vector,
                     float *ret)
{
    bool any = false;
    for (size_t j = 0; j < VF; j++) {
        size_t col = vector * VF + j;
        ret[j] = col < n ? b[trans ? col * ldb + i : i * ldb + col] : 0;
        any = any || ret[j] != 0;
    }
    return any;
}

size_t VF_NAME(sparse_f32_size)(size_t k, size_t n, const float *b, size_t ldb, bool trans)
{
    size_t vectors = (n + VF - 1) / VF, blocks = 0;
    const size_t most = vectors * k / 3;
    float block[VF];
    for (size_t vector = 0; vector < vectors; vector++) {
        for (size_t i = 0; i < k; i++) {
            blocks += block_of(n, b, ldb, trans, i, vector, block);
        }
        if (blocks > most || blocks > (vector + 1) * k * 2 / 3) { /* dense ones show early */
            return 0;
        }
    }
    return k > UINT32_MAX || blocks > UINT32_MAX
               ? 0
               : aligned(vectors + 1 + blocks) * sizeof(uint32_t) + blocks * VF * sizeof(float);
}

void VF_NAME(sparse_f32_pack)(size_t k, size_t n, const float *b, size_t ldb, bool trans,
                              void *packed)
{
    size_t vectors = (n + VF - 1) / VF, blocks = 0;
    uint32_t *firsts = packed, *rows = firsts + vectors + 1;
    float block[VF];
    for (size_t vector = 0; vector < vectors; vector++) {
        firsts[vector] = (uint32_t)blocks;
        for (size_t i = 0; i < k; i++) {
            if (block_of(n, b, ldb, trans, i, vector, block)) {
                rows[blocks++] = (uint32_t)i;
            }
        }
    }
    firsts[vectors] = (uint32_t)blocks;
    const struct layout v = layout_of(packed, n, blocks);
    for (size_t vector = 0; vector < vectors; vector++) {
        for (size_t e = firsts[vector]; e < firsts[vector + 1]; e++) {
            block_of(n, b, ldb, trans, rows[e], vector, v.values + e * VF);
        }
    }
}

/* Sums of rows of A by the blocks [e, end). */
SHR_INLINE void sums_of(const size_t rows, const size_t chains, const float *const *a,
                        const struct layout *v, size_t e, size_t end, vf *sum)
{
    vf c[ROWS * CHAINS];
    SHR_UNROLL
    for (size_t i = 0; i < rows * chains; i++) {
        c[i] = i < rows ? sum[i] : vf_zero();
    }
    for (; e + chains <= end; e += chains) {
        SHR_UNROLL
        for (size_t j = 0; j < chains; j++) {
            const vf w = vf_load(v->values + (e + j) * VF);
            SHR_UNROLL
            for (size_t i = 0; i < rows; i++) {
                c[j * rows + i] = vf_fma(vf_broadcast(a[i] + v->rows[e + j]), w, c[j * rows + i]);
            }
        }
    }
    for (; e < end; e++) {
        SHR_UNROLL
        for (size_t i = 0; i < rows; i++) {
            c[i] = vf_fma(vf_broadcast(a[i] + v->rows[e]), vf_load(v->values + e * VF), c[i]);
        }
    }
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        SHR_UNROLL
        for (size_t j = 1; j < chains; j++) {
            c[i] = vf_add(c[i], c[j * rows + i]);
        }
        sum[i] = c[i];
    }
}

static void some_sums(size_t rows, const float *const *a, const struct layout *v, size_t e,
                      size_t end, vf *sum)
{
    switch (rows) {
    case 1:
        sums_of(1, CHAINS, a, v, e, end, sum);
        break;
    case 2:
        sums_of(2, 2, a, v, e, end, sum);
        break;
    case 3:
        sums_of(3, 2, a, v, e, end, sum);
        break;
    default:
        sums_of(ROWS, 2, a, v, e, end, sum);
        break;
    }
}

struct split {
    const struct shr_gemm_f32 *g;
    struct layout v;
    size_t parts;
    float lo, hi;
};

static void finish(const struct split *s, size_t m, size_t vector, vf sum)
{
    const struct shr_gemm_f32 *g = s->g;
    const size_t cols = f32_min(VF, g->n - vector * VF);
    float *c = g->c + m * g->ldc + vector * VF;
    sum = vf_min(vf_set1(s->hi), vf_max(vf_set1(s->lo), sum));
    if (cols == VF) {
        vf_store(c, sum);
    } else {
        vf_store_some(c, sum, cols);
    }
    if (g->act > SHR_ACT_CLIP) {
        VF_NAME(act_f32)(cols, c, g->act, g->act_lo, g->act_hi, c);
    }
}

/* Some of the column vectors, for all rows: a vector's blocks stay in the first cache. */
static void some_vectors(void *arg, size_t task, size_t worker)
{
    const struct split *s = arg;
    const struct shr_gemm_f32 *g = s->g;
    (void)worker;
    for (size_t vector = s->v.vectors * task / s->parts;
         vector < s->v.vectors * (task + 1) / s->parts; vector++) {
        const size_t cols = f32_min(VF, g->n - vector * VF);
        const vf bias = g->bias != NULL ? vf_load_some(g->bias + vector * VF, cols) : vf_zero();
        for (size_t m = 0; m < g->m; m += ROWS) {
            const size_t rows = f32_min(ROWS, g->m - m);
            const float *a[ROWS];
            vf sum[ROWS];
            for (size_t i = 0; i < rows; i++) {
                a[i] = g->a + (m + i) * g->lda;
                sum[i] = bias;
            }
            some_sums(rows, a, &s->v, s->v.firsts[vector], s->v.firsts[vector + 1], sum);
            for (size_t i = 0; i < rows; i++) {
                finish(s, m + i, vector, sum[i]);
            }
        }
    }
}

void VF_NAME(sparse_f32)(const struct shr_gemm_f32 *g, struct shr_team *team)
{
    uint32_t *firsts = (uint32_t *)(uintptr_t)g->b;
    const size_t vectors = (g->n + VF - 1) / VF, blocks = firsts[vectors];
    const struct f32_act act = {g->act, g->act_lo, g->act_hi};
    struct split s = {.g = g, .v = layout_of(firsts, g->n, blocks), .parts = 1};
    f32_bounds(&act, &s.lo, &s.hi);
    if (shr_team_size(team) > 1 && g->m * blocks * VF >= WORTH) {
        s.parts = f32_min(f32_min(vectors, MOST_TASKS), shr_team_size(team) * 4);
    }
    shr_team_run(s.parts > 1 ? team : NULL, s.parts, some_vectors, &s);
}
