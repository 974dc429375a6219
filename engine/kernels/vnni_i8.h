/* VNNI integer products: the packed form of B, the tile that multiplies it, and how results leave.
 *
 * These sources are compiled once an instruction set (meson.build): SHR_VNNI is the ending of the
 * entries' names, and the width comes with the flags. Nothing else differs.
 *
 * DESIGN. vpdpbusd adds four products of uint8 by int8 to an int32 without saturating, so that a
 * sum is exact without further care. B is packed in vectors of quads, 4 consecutive k of LANES
 * columns; up to PANEL such vectors that stand side by side are interleaved quad by quad, so that
 * one row as well as a tile of ROWS rows streams a panel front to back. A is read as it lies: a
 * row is a pointer, and a quad of it is broadcast from memory. */
#ifndef SHR_KERNELS_VNNI_I8_H
#define SHR_KERNELS_VNNI_I8_H

#include "core/team.h"
#include "kernels/internal.h"
#if defined(SHR_LANES_EMULATED)
#include "lanes_emulated.h"
#elif defined(__AVX512VNNI__)
#include "kernels/lanes_avx512.h"
#else
#include "kernels/lanes_avx2.h"
#endif

#define VNNI_JOIN(name, ending) shr__##name##_##ending
#define VNNI_NAME(name, ending) VNNI_JOIN(name, ending)
#define VNNI(name) VNNI_NAME(name, SHR_VNNI)
#define VNNI_ENTRIES(isa) SHR__I8_ENTRIES(isa)

VNNI_ENTRIES(SHR_VNNI)

enum {
    ROWS = 6,
    VECTOR = LANES * 4, /* bytes */
    CHAINS = 8 / PANEL, /* of sums, in the product of one row: they hide the latency */
    AHEAD = 2048,       /* bytes between a prefetch and its use; for the one row */
    WORTH = 1 << 20     /* products that pay for a team: about 3 us */
};

/* Packed B: this head, then int32 sums of B - zero over k, int32 zeros, panels. */
struct vnni_packed {
    size_t quads;  /* of each column */
    size_t blocks; /* vectors of columns */
    bool has_zero;
    char pad[64 - 2 * sizeof(size_t) - sizeof(bool)];
};

SHR_INLINE size_t vnni_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

SHR_INLINE const int32_t *vnni_sums(const struct vnni_packed *p)
{
    return (const int32_t *)(p + 1);
}

SHR_INLINE const int32_t *vnni_zeros(const struct vnni_packed *p)
{
    return vnni_sums(p) + p->blocks * LANES;
}

/* The panel that begins with a block. */
SHR_INLINE const int8_t *vnni_panel(const struct vnni_packed *p, size_t block)
{
    return (const int8_t *)(vnni_zeros(p) + p->blocks * LANES) + block * p->quads * VECTOR;
}

/* k counts the stored rows of B, k_real those that exist: the others are zero and must not count
 * in the sums of B - zero. */
void VNNI(i8_pack)(size_t k, size_t k_real, size_t n, const int8_t *b, size_t ldb, bool trans,
                   const int32_t *zero, void *packed);

/* ── The tile ───────────────────────────────────────────────────────────────────────────────── */

/* Where the rows of a tile lie: row i has its quads at a[i] + at[s], for every segment s, and one
 * more quad at tails[i] when tails is given. */
struct vnni_rows {
    const uint8_t *a[ROWS];
    const size_t *at;
    size_t segments, quads; /* of a segment */
    const uint8_t (*tails)[4];
};

SHR_INLINE vec_t vnni_quad(const uint8_t *a)
{
    int32_t quad;
    memcpy(&quad, a, sizeof quad);
    return v_set(quad);
}

/* One quad of every row, `at` bytes from its pointer. */
SHR_INLINE void vnni_step(const size_t rows, const size_t width, const uint8_t *const *a, size_t at,
                          const int8_t *b, vec_t (*c)[PANEL])
{
    vec_t v[PANEL];
    SHR_UNROLL
    for (size_t j = 0; j < width; j++) {
        v[j] = v_load(b + j * VECTOR);
    }
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        vec_t x = vnni_quad(a[i] + at);
        SHR_UNROLL
        for (size_t j = 0; j < width; j++) {
            c[i][j] = v_dot(c[i][j], x, v[j]);
        }
    }
}

/* acc (rows, width) = rows of A x a panel of B, without the tails: only a loop that nothing follows
 * keeps its sums in registers. */
SHR_INLINE void vnni_tile(const size_t rows, const size_t width, const struct vnni_rows *r,
                          const int8_t *b, vec_t (*acc)[PANEL])
{
    vec_t c[ROWS][PANEL];
    const uint8_t *a[ROWS];
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        a[i] = r->a[i];
        SHR_UNROLL
        for (size_t j = 0; j < width; j++) {
            c[i][j] = v_zero();
        }
    }
    for (size_t s = 0; s < r->segments; s++) {
        size_t at = r->at[s], end = at + r->quads * 4;
        for (; at < end; at += 4, b += width * VECTOR) {
            vnni_step(rows, width, a, at, b, c);
        }
    }
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        SHR_UNROLL
        for (size_t j = 0; j < width; j++) {
            acc[i][j] = c[i][j];
        }
    }
}

SHR_INLINE void vnni_tile_rows(size_t rows, const size_t width, const struct vnni_rows *r,
                               const int8_t *b, vec_t (*acc)[PANEL])
{
    switch (rows) {
    case 1:
        vnni_tile(1, width, r, b, acc);
        break;
    case 2:
        vnni_tile(2, width, r, b, acc);
        break;
    case 3:
        vnni_tile(3, width, r, b, acc);
        break;
    case 4:
        vnni_tile(4, width, r, b, acc);
        break;
    case 5:
        vnni_tile(5, width, r, b, acc);
        break;
    default:
        vnni_tile(ROWS, width, r, b, acc);
        break;
    }
}

/* ── How results leave ──────────────────────────────────────────────────────────────────────── */

/* What the columns of a vector add and multiply. */
struct vnni_columns {
    vec_t add, zero; /* bias - a_zero * sum of B; of B */
    fvec_t scale, bias_f32;
    float lo, hi; /* bounds of results that are bytes, before c_zero is added */
    size_t cols;  /* that exist */
};

SHR_INLINE void vnni_bounds(const struct shr_gemm_i8 *g, struct vnni_columns *v)
{
    int32_t lo, hi;
    shr__bounds_i8(g, &lo, &hi);
    v->lo = (float)(lo - g->c_zero);
    v->hi = (float)(hi - g->c_zero);
}

SHR_INLINE struct vnni_columns vnni_columns_of(const struct shr_gemm_i8 *g,
                                               const struct vnni_packed *p, size_t block)
{
    size_t n0 = block * LANES, cols = vnni_min(g->n - n0, LANES);
    struct vnni_columns v = {.cols = cols, .zero = v_load(vnni_zeros(p) + n0)};
    v.add = v_mul(v_load(vnni_sums(p) + n0), v_set(-g->a_zero));
    if (g->bias != NULL) {
        v.add = v_add(v.add, v_load_some(g->bias + n0, cols));
    }
    if (g->out != SHR_GEMM_I32) {
        v.scale = f_load_some(g->scale + n0, cols);
    }
    if (g->out == SHR_GEMM_F32 && g->bias_f32 != NULL) {
        v.bias_f32 = f_load_some(g->bias_f32 + n0, cols);
    }
    vnni_bounds(g, &v);
    return v;
}

SHR_INLINE fvec_t vnni_real(const struct shr_gemm_i8 *g, const struct vnni_columns *v, vec_t acc)
{
    fvec_t y = f_mul(v_float(acc), v->scale);
    y = g->bias_f32 != NULL ? f_add(y, v->bias_f32) : y;
    return g->act == SHR_ACT_RELU ? f_max(f_set(0), y) : y;
}

/* shr__saturate */
SHR_INLINE vec_t vnni_integer(const struct shr_gemm_i8 *g, const struct vnni_columns *v, vec_t acc)
{
    fvec_t y = f_mul(v_float(acc), v->scale);
    y = f_min(f_max(y, f_set(v->lo)), f_set(v->hi));
    return v_add(v_round(y), v_set(g->c_zero));
}

/* Writes a vector of sums to element at … of g->c. row_sum is of A and counts when B has zeros. */
SHR_INLINE void vnni_finish(const struct shr_gemm_i8 *g, const struct vnni_columns *v, size_t at,
                            vec_t acc, int32_t row_sum)
{
    acc = v_add(v_sub(acc, v_mul(v->zero, v_set(row_sum))), v->add);
    switch (g->out) {
    case SHR_GEMM_I32:
        v_store_some((int32_t *)g->c + at, acc, v->cols);
        break;
    case SHR_GEMM_F32:
        f_store_some((float *)g->c + at, vnni_real(g, v, acc), v->cols);
        break;
    case SHR_GEMM_U8:
        v_store_bytes((uint8_t *)g->c + at, vnni_integer(g, v, acc), v->cols, false);
        break;
    case SHR_GEMM_S8:
        v_store_bytes((uint8_t *)g->c + at, vnni_integer(g, v, acc), v->cols, true);
        break;
    }
}

/* A panel of B, the columns of its vectors, and where a row of results goes. */
struct vnni_panel {
    const struct shr_gemm_i8 *g;
    const int8_t *b;
    size_t width;
    bool has_zero;
    struct vnni_columns columns[PANEL];
};

SHR_INLINE struct vnni_panel vnni_panel_of(const struct shr_gemm_i8 *g, size_t block)
{
    const struct vnni_packed *p = g->b;
    struct vnni_panel v = {.g = g,
                           .b = vnni_panel(p, block),
                           .width = vnni_min(p->blocks - block, PANEL),
                           .has_zero = p->has_zero};
    for (size_t j = 0; j < v.width; j++) {
        v.columns[j] = vnni_columns_of(g, p, block + j);
    }
    return v;
}

/* A tile of a panel: rows of A to rows of results, of which row i begins at at[i]. sums: of the
 * rows of A. */
SHR_INLINE void vnni_run(const struct vnni_panel *p, size_t rows, const struct vnni_rows *r,
                         const size_t *at, const int32_t *sums)
{
    vec_t acc[ROWS][PANEL];
    switch (p->width) {
    case 1:
        vnni_tile_rows(rows, 1, r, p->b, acc);
        break;
    case 2:
        vnni_tile_rows(rows, 2, r, p->b, acc);
        break;
    case 3:
        vnni_tile_rows(rows, PANEL < 3 ? PANEL : 3, r, p->b, acc);
        break;
    default:
        vnni_tile_rows(rows, PANEL, r, p->b, acc);
        break;
    }
    const int8_t *last = p->b + r->segments * r->quads * p->width * VECTOR;
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < p->width; j++) {
            if (r->tails != NULL) {
                acc[i][j] = v_dot(acc[i][j], vnni_quad(r->tails[i]), v_load(last + j * VECTOR));
            }
            vnni_finish(p->g, &p->columns[j], at[i] + j * LANES, acc[i][j],
                        p->has_zero ? sums[i] : 0);
        }
    }
}

/* ── Teams ──────────────────────────────────────────────────────────────────────────────────── */

/* Into how many parts the tiles of a panel are split, so that a team has enough tasks. */
SHR_INLINE size_t vnni_parts(const struct shr_team *team, size_t panels, size_t tiles)
{
    size_t wanted = shr_team_size(team) > 1 ? 2 * shr_team_size(team) : 1;
    return wanted <= panels ? 1 : vnni_min((wanted + panels - 1) / panels, tiles);
}

#endif
