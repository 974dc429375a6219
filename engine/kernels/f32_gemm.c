/* The float product: packing, tiles, and the entry of the table. See f32_tile.h. */
#include <string.h>

#include "core/team.h"
#include "kernels/f32_tile.h"

/* ── Packing ────────────────────────────────────────────────────────────────────────────────── */

size_t VF_NAME(gemm_f32_size)(size_t k, size_t n)
{
    return f32_padded(n) * k * sizeof(float);
}

/* Rows of b to the rows of a panel of cols columns, width floats apart */
static void pack_rows(size_t k, size_t cols, size_t width, const float *b, size_t ldb, float *to)
{
    for (size_t i = 0; i < k; i++, b += ldb, to += width) {
        size_t j = 0;
        for (; j + VF <= cols; j += VF) {
            vf_store(to + j, vf_load(b + j));
        }
        if (j < cols) {
            vf_store(to + j, vf_load_some(b + j, cols - j));
        }
    }
}

/* The same from b (cols, k): eight rows at a time keep their cache lines while k advances. */
static void pack_columns(size_t k, size_t cols, size_t width, const float *b, size_t ldb, float *to)
{
    size_t done = 0;
    for (; done + 8 <= cols; done += 8) {
        const float *from = b + done * ldb;
        for (size_t i = 0; i < k; i++) {
            SHR_UNROLL
            for (size_t j = 0; j < 8; j++) {
                to[i * width + done + j] = from[j * ldb + i];
            }
        }
    }
    for (size_t j = done; j < width; j++) {
        for (size_t i = 0; i < k; i++) {
            to[i * width + j] = j < cols ? b[j * ldb + i] : 0;
        }
    }
}

void VF_NAME(f32_pack)(size_t k, size_t n, const float *b, size_t ldb, bool trans, float *packed)
{
    size_t panels = f32_panels(n);
    for (size_t p = 0; p < panels; p++) {
        size_t from = p * F32_PANEL, cols = p + 1 < panels ? F32_PANEL : n - from;
        size_t width = f32_padded(cols);
        float *to = packed + from * k;
        if (trans) {
            pack_columns(k, cols, width, b + from * ldb, ldb, to);
        } else {
            pack_rows(k, cols, width, b + from, ldb, to);
        }
    }
}

void VF_NAME(gemm_f32_pack)(size_t k, size_t n, const float *b, size_t ldb, bool trans,
                            void *packed)
{
    VF_NAME(f32_pack)(k, n, b, ldb, trans, packed);
}

/* ── Tiles ──────────────────────────────────────────────────────────────────────────────────── */

enum { MOST_ROWS = 12 }; /* of any tile */

struct tile {
    const float *const *a;
    const struct f32_piece *pieces;
    size_t n_pieces, shift;
    const float *b, *bias, *residual; /* the last two may be NULL */
    float *c;
    size_t ldc;
    bool load;    /* sums begin with C */
    size_t ahead; /* floats from a row of the panel to that of the next, which is fetched */
    float lo, hi;
};

/* c (rows, vectors) = clip(begin + a x b). Chains: how many partial sums a result has, for tiles
 * that are too small to hide the latency. Every count is known where this is inlined. */
SHR_INLINE void tile_run(const size_t rows, const size_t vectors, const size_t chains,
                         const struct tile *t)
{
    vf c[MOST_ROWS * 3]; /* (chains, rows, vectors), most of it never there */
    const float *b = t->b;
    const size_t sums = rows * vectors;
    SHR_UNROLL
    for (size_t i = 0; i < chains * sums; i++) {
        c[i] = vf_zero();
    }
    if (t->bias != NULL) {
        SHR_UNROLL
        for (size_t i = 0; i < sums; i++) {
            c[i] = vf_load(t->bias + i % vectors * VF);
        }
    }
    if (t->load) {
        SHR_UNROLL
        for (size_t i = 0; i < sums; i++) {
            c[i] = vf_load(t->c + i / vectors * t->ldc + i % vectors * VF);
        }
    }
    if (t->residual != NULL) {
        SHR_UNROLL
        for (size_t i = 0; i < sums; i++) {
            c[i] = vf_add(c[i], vf_load(t->residual + i / vectors * t->ldc + i % vectors * VF));
        }
    }
    for (size_t p = 0; p < t->n_pieces; p++) {
        const float *a[MOST_ROWS];
        size_t at = t->shift + t->pieces[p].at, len = t->pieces[p].len, k = 0;
        SHR_UNROLL
        for (size_t i = 0; i < rows; i++) {
            a[i] = t->a[i] + at;
        }
        for (; k + chains <= len; k += chains) {
            SHR_UNROLL
            for (size_t j = 0; j < chains; j++, b += vectors * VF) {
                vf w[3];
                if (chains == 1) {
                    vf_fetch(b + t->ahead);
                }
                SHR_UNROLL
                for (size_t v = 0; v < vectors; v++) {
                    w[v] = vf_load(b + v * VF);
                }
                SHR_UNROLL
                for (size_t i = 0; i < rows; i++) {
                    vf x = vf_broadcast(a[i] + k + j);
                    SHR_UNROLL
                    for (size_t v = 0; v < vectors; v++) {
                        vf *sum = &c[j * sums + i * vectors + v];
                        *sum = vf_fma(x, w[v], *sum);
                    }
                }
            }
        }
        for (; chains > 1 && k < len; k++, b += vectors * VF) {
            SHR_UNROLL
            for (size_t i = 0; i < sums; i++) {
                c[i] =
                    vf_fma(vf_broadcast(a[i / vectors] + k), vf_load(b + i % vectors * VF), c[i]);
            }
        }
    }
    SHR_UNROLL
    for (size_t i = 0; i < sums; i++) {
        SHR_UNROLL
        for (size_t j = 1; j < chains; j++) {
            c[i] = vf_add(c[i], c[j * sums + i]);
        }
        c[i] = vf_min(vf_set1(t->hi), vf_max(vf_set1(t->lo), c[i]));
        vf_store(t->c + i / vectors * t->ldc + i % vectors * VF, c[i]);
    }
}

#define ROWS(n)                                                                                    \
    case n:                                                                                        \
        if (n <= most) {                                                                           \
            tile_run(n, vectors, 1, t);                                                            \
        }                                                                                          \
        break;

SHR_INLINE void tile_rows(const size_t vectors, const size_t most, size_t rows,
                          const struct tile *t)
{
    switch (rows) {
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
        ROWS(5)
        ROWS(6)
        ROWS(7)
        ROWS(8)
        ROWS(9)
        ROWS(10)
        ROWS(11)
        ROWS(12)
    }
}

static void tile_1(size_t rows, const struct tile *t)
{
    tile_rows(1, VF_ROWS_1, rows, t);
}

static void tile_2(size_t rows, const struct tile *t)
{
    tile_rows(2, VF_ROWS_2, rows, t);
}

static void tile_3(size_t rows, const struct tile *t)
{
    tile_rows(3, VF_ROWS_3, rows, t);
}

static void tile_few(size_t rows, size_t vectors, const struct tile *t)
{
    switch (rows * 4 + vectors) {
    case 4 + 1:
        tile_run(1, 1, VF_CHAINS, t);
        break;
    case 4 + 2:
        tile_run(1, 2, VF_CHAINS / 2, t);
        break;
    case 4 + 3:
        tile_run(1, 3, VF_CHAINS / 4, t);
        break;
    case 8 + 1:
        tile_run(2, 1, VF_CHAINS / 2, t);
        break;
    case 8 + 2:
        tile_run(2, 2, VF_CHAINS / 4, t);
        break;
    case 8 + 3:
        tile_run(2, 3, 1, t);
        break;
    case 12 + 1:
        tile_run(3, 1, VF_CHAINS / 4, t);
        break;
    case 12 + 2:
        tile_run(3, 2, VF_CHAINS / 4, t);
        break;
    default:
        tile_run(3, 3, 1, t);
        break;
    }
}

/* ── Stretches ──────────────────────────────────────────────────────────────────────────────── */

static const size_t tile_most[] = {0, VF_ROWS_1, VF_ROWS_2, VF_ROWS_3};

static void tile_call(bool few, size_t rows, size_t vectors, const struct tile *t)
{
    if (few) {
        tile_few(rows, vectors, t);
    } else if (vectors == 2) {
        tile_2(rows, t);
    } else if (vectors == 1) {
        tile_1(rows, t);
    } else {
        tile_3(rows, t);
    }
}

/* A panel whose last vector is cut off: its tile of C is worked on in a buffer. */
static void tile_cut(bool few, size_t rows, size_t vectors, size_t cols, const struct tile *t)
{
    float c[MOST_ROWS * F32_LAST], residual[MOST_ROWS * F32_LAST], bias[F32_LAST] = {0};
    struct tile cut = *t;
    const size_t bytes = cols * sizeof(float);
    cut.c = c;
    cut.ldc = F32_LAST;
    for (size_t i = 0; i < rows && t->load; i++) {
        memcpy(c + i * F32_LAST, t->c + i * t->ldc, bytes);
    }
    if (t->residual != NULL) {
        for (size_t i = 0; i < rows; i++) {
            memcpy(residual + i * F32_LAST, t->residual + i * t->ldc, bytes);
        }
        cut.residual = residual;
    }
    if (t->bias != NULL) {
        memcpy(bias, t->bias, bytes);
        cut.bias = bias;
    }
    tile_call(few, rows, vectors, &cut);
    for (size_t i = 0; i < rows; i++) {
        memcpy(t->c + i * t->ldc, c + i * F32_LAST, bytes);
    }
}

void VF_NAME(f32_stretch)(const struct f32_stretch *s)
{
    const size_t panels = f32_panels(s->n);
    const bool curve = s->last && s->act.act > SHR_ACT_CLIP;
    struct tile t = {.pieces = s->pieces,
                     .n_pieces = s->n_pieces,
                     .shift = s->shift,
                     .ldc = s->ldc,
                     .load = !s->first};
    f32_bounds(s->last ? &s->act : &(struct f32_act){SHR_ACT_NONE, 0, 0}, &t.lo, &t.hi);
    for (size_t p = s->panel_from; p < s->panel_to; p++) {
        const size_t from = p * F32_PANEL, cols = p + 1 < panels ? F32_PANEL : s->n - from;
        const size_t vectors = (cols + VF - 1) / VF, most = tile_most[vectors];
        const size_t tiles = (s->m + most - 1) / most;
        /* of panels that are read once, the machine fetches the next as well, and sooner */
        t.ahead = tiles > 1 ? s->k * vectors * VF : 0;
        t.b = s->b + from * s->k + s->k0 * vectors * VF;
        t.bias = s->first && s->bias != NULL ? s->bias + from : NULL;
        for (size_t i = 0, m = 0; i < tiles; i++) { /* as even as can be */
            const size_t rows = s->m / tiles + (i < s->m % tiles);
            t.a = s->rows + m;
            t.c = s->c + m * s->ldc + from;
            t.residual = s->first && s->residual != NULL ? s->residual + m * s->ldc + from : NULL;
            if (cols % VF != 0) {
                tile_cut(s->few, rows, vectors, cols, &t);
            } else {
                tile_call(s->few, rows, vectors, &t);
            }
            for (size_t r = 0; r < rows && curve; r++) {
                float *row = t.c + r * s->ldc;
                VF_NAME(act_f32)(cols, row, s->act.act, s->act.lo, s->act.hi, row);
            }
            m += rows;
        }
    }
}

/* ── Product ────────────────────────────────────────────────────────────────────────────────── */

enum {
    BLOCK_ROWS = 192,      /* of A at most at a time */
    BLOCK_SIZE = 48 << 10, /* floats of A that stay in the second cache */
};

/* Rows [from, to) by the panels of s. */
static void gemm_rows(const struct shr_gemm_f32 *g, size_t from, size_t to, struct f32_stretch *s)
{
    const float *rows[BLOCK_ROWS];
    /* a short product reads each panel once, so that nothing is gained by stretches */
    const size_t longest = g->m <= MOST_ROWS ? g->k : F32_STRETCH;
    const size_t width = f32_min(g->k, longest) + 1;
    const size_t block =
        f32_min(BLOCK_ROWS, BLOCK_SIZE / width / MOST_ROWS * MOST_ROWS + MOST_ROWS);
    s->rows = rows;
    s->few = g->m <= F32_FEW;
    for (size_t m = from; m < to; m += s->m) {
        struct f32_piece piece;
        s->m = g->m <= F32_FEW ? to - from : f32_min(to - m, block);
        s->c = g->c + m * g->ldc;
        for (size_t i = 0; i < s->m; i++) {
            rows[i] = g->a + (m + i) * g->lda;
        }
        s->k0 = 0;
        do { /* once at least: k = 0 gives the bias */
            piece = (struct f32_piece){s->k0, f32_min(g->k - s->k0, longest)};
            s->pieces = &piece;
            s->n_pieces = 1;
            s->first = s->k0 == 0 && !g->add;
            s->last = s->k0 + piece.len == g->k;
            VF_NAME(f32_stretch)(s);
            s->k0 += piece.len;
        } while (s->k0 < g->k);
    }
}

struct gemm_parts {
    const struct shr_gemm_f32 *g;
    size_t n;     /* parts */
    bool by_rows; /* or by panels */
};

static void gemm_part(void *arg, size_t i, size_t worker)
{
    const struct gemm_parts *p = arg;
    const struct shr_gemm_f32 *g = p->g;
    const size_t whole = p->by_rows ? g->m : f32_panels(g->n);
    const size_t from = whole * i / p->n, to = whole * (i + 1) / p->n;
    struct f32_stretch s = {
        .b = g->b,
        .n = g->n,
        .k = g->k,
        .panel_from = p->by_rows ? 0 : from,
        .panel_to = p->by_rows ? f32_panels(g->n) : to,
        .bias = g->bias,
        .ldc = g->ldc,
        .act = {g->act, g->act_lo, g->act_hi},
    };
    (void)worker;
    gemm_rows(g, p->by_rows ? from : 0, p->by_rows ? to : g->m, &s);
}

void VF_NAME(gemm_f32)(const struct shr_gemm_f32 *g)
{
    if (g->m == 0 || g->n == 0) {
        return;
    }
    struct gemm_parts p = {g, 1, true};
    gemm_part(&p, 0, 0);
}

/* Shares the longer of rows and columns, when there is work for all. */
void VF_NAME(gemm_f32_team)(const struct shr_gemm_f32 *g, struct shr_team *team)
{
    enum { WORTH = 200000 }; /* multiply-adds that pay for waking a thread */
    size_t most = g->m * g->n / WORTH * g->k + g->m * g->n % WORTH * g->k / WORTH;
    struct gemm_parts p = {g, f32_min(shr_team_size(team), most), g->m >= g->n};
    p.n = f32_min(p.n, p.by_rows ? g->m / MOST_ROWS : f32_panels(g->n));
    p.by_rows = p.by_rows || p.n <= 1;
    if (p.n <= 1) {
        VF_NAME(gemm_f32)(g);
        return;
    }
    shr_team_run(team, p.n, gemm_part, &p);
}
