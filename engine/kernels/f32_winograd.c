/* Float 3x3 convolution with stride 1 by Winograd's algorithm.
 *
 * Tiles of tile x tile outputs, 2 or 4, come from (tile + 2)^2 inputs: both sides are transformed,
 * which turns the convolution into one small product for each of the (tile + 2)^2 frequencies,
 * with 2.25 or 4 times fewer multiplications. DESIGN: Lavin and Gray, "Fast Algorithms for
 * Convolutional Neural Networks" (2016), by Toom and Cook's interpolation. F(4x4) interpolates at
 * 0, +-sqrt(1/2), +-sqrt(2) and infinity, which rounds four times less than the usual 0, +-1, +-2:
 * an error of about 1.5e-6 of the output's range, where the direct sum has 0.8e-6. A block is some
 * tiles; a task is a block, or, where blocks are fewer than threads, a part of one of the three
 * steps of a block. Channels are whole vectors. */
#include <string.h>

#include "base/mem.h"
#include "core/team.h"
#include "kernels/f32_conv.h"

enum { MAX_SIDE = 6, MAX_POINTS = MAX_SIDE * MAX_SIDE, MOST_TILES = 192 /* of a block */ };

struct conv {
    struct shr_conv_f32 base;
    struct shr_conv_shape s;
    struct f32_act act;
    size_t tile, side, points;   /* side = tile + 2, points = side^2 */
    size_t across, down, tiles;  /* tiles of an image, and of all images */
    size_t block, blocks;        /* tiles of a block */
    float *u;                    /* (points) packed (c, oc) */
    float *bias;                 /* (oc) */
    size_t m_at, zero_at, bytes; /* of a block's scratch: v, m, c zeros */
    bool shared;                 /* a block is worked on by the whole team */
};

struct run {
    const struct conv *conv;
    const float *x, *residual;
    float *y;
    char *scratch;
    size_t block; /* of the steps that the team shares */
};

struct block {
    size_t first, n; /* tiles */
    float *v;        /* (points, block, c) */
    float *m;        /* (points, block, oc) */
    float *zero;     /* (c) */
};

static struct block block_at(const struct run *run, size_t i, size_t worker)
{
    const struct conv *conv = run->conv;
    char *scratch = run->scratch + worker * conv->bytes;
    return (struct block){
        .first = i * conv->block,
        .n = f32_min(conv->block, conv->tiles - i * conv->block),
        .v = (float *)(void *)scratch,
        .m = (float *)(void *)(scratch + conv->m_at),
        .zero = (float *)(void *)(scratch + conv->zero_at),
    };
}

/* ── Transforms of one line ─────────────────────────────────────────────────────────────────── */

enum { POINTS_4 = 6, POINTS_2 = 4 };
static const float A = 0.70710678f, B = 1.41421356f; /* the points of F(4x4): squares 1/2 and 2 */

/* step apart */
SHR_INLINE void input_line(const size_t side, const vf *d, const size_t step, vf *t)
{
    const vf *d0 = d, *d1 = d + step, *d2 = d + 2 * step, *d3 = d + 3 * step;
    if (side == POINTS_2) {
        t[0] = vf_sub(*d2, *d0);
        t[1] = vf_add(*d2, *d1);
        t[2] = vf_sub(*d2, *d1);
        t[3] = vf_sub(*d3, *d1);
        return;
    }
    const vf d4 = d[4 * step], d5 = d[5 * step], two = vf_set1(2), half = vf_set1(0.5f);
    vf even = vf_fnma(two, *d2, d4), odd = vf_fnma(two, *d1, *d3);
    t[0] = vf_fnma(vf_set1(2.5f), *d2, vf_add(*d0, d4));
    t[1] = vf_fma(vf_set1(A), odd, even);
    t[2] = vf_fnma(vf_set1(A), odd, even);
    even = vf_fnma(half, *d2, d4);
    odd = vf_fnma(half, *d1, *d3);
    t[3] = vf_fma(vf_set1(B), odd, even);
    t[4] = vf_fnma(vf_set1(B), odd, even);
    t[5] = vf_fnma(vf_set1(2.5f), *d3, vf_add(*d1, d5));
}

SHR_INLINE void output_line(const size_t side, const vf *m, const size_t step, vf *y)
{
    const vf m0 = m[0], m1 = m[step], m2 = m[2 * step], m3 = m[3 * step];
    if (side == POINTS_2) {
        y[0] = vf_add(m0, vf_add(m1, m2));
        y[1] = vf_add(m3, vf_sub(m1, m2));
        return;
    }
    const vf m4 = m[4 * step], m5 = m[5 * step];
    const vf even_a = vf_add(m1, m2), odd_a = vf_mul(vf_set1(A), vf_sub(m1, m2));
    const vf even_b = vf_add(m3, m4), odd_b = vf_mul(vf_set1(B), vf_sub(m3, m4));
    y[0] = vf_add(m0, vf_add(even_a, even_b));
    y[1] = vf_add(odd_a, odd_b);
    y[2] = vf_fma(vf_set1(0.5f), even_a, vf_add(even_b, even_b));
    y[3] = vf_fma(vf_set1(0.5f), odd_a, vf_add(m5, vf_add(odd_b, odd_b)));
}

/* ── The three steps ────────────────────────────────────────────────────────────────────────── */

/* Where a tile is. */
struct place {
    size_t image, top, left; /* of its outputs */
};

static struct place place_of(const struct conv *conv, size_t tile)
{
    const size_t per = conv->across * conv->down, in = tile % per;
    return (struct place){tile / per, in / conv->across * conv->tile,
                          in % conv->across * conv->tile};
}

/* at (side, side) = from (side, side) pointers, transformed, for all channels. */
SHR_INLINE void transform_input(const size_t side, const float *const *from, size_t c, float *to,
                                size_t next)
{
    for (size_t i = 0; i < c; i += VF) {
        vf d[MAX_SIDE], t[MAX_POINTS], line[MAX_SIDE];
        for (size_t col = 0; col < side; col++) {
            SHR_UNROLL
            for (size_t row = 0; row < side; row++) {
                d[row] = vf_load(from[row * side + col] + i);
            }
            input_line(side, d, 1, line);
            SHR_UNROLL
            for (size_t row = 0; row < side; row++) {
                t[row * side + col] = line[row];
            }
        }
        for (size_t row = 0; row < side; row++) {
            input_line(side, t + row * side, 1, line);
            SHR_UNROLL
            for (size_t col = 0; col < side; col++) {
                vf_store(to + (row * side + col) * next + i, line[col]);
            }
        }
    }
}

static void input_tile(const struct run *run, const struct block *b, size_t i)
{
    const struct conv *conv = run->conv;
    const struct shr_conv_shape *s = &conv->s;
    const struct place p = place_of(conv, b->first + i);
    const size_t c = (size_t)s->c, side = conv->side;
    const float *image = run->x + p.image * (size_t)(s->h * s->w) * c, *from[MAX_POINTS];
    for (size_t j = 0; j < conv->points; j++) {
        const int64_t ih = (int64_t)(p.top + j / side) - s->pad_t;
        const int64_t iw = (int64_t)(p.left + j % side) - s->pad_l;
        const bool inside = ih >= 0 && ih < s->h && iw >= 0 && iw < s->w;
        from[j] = inside ? image + (ih * s->w + iw) * s->c : b->zero;
    }
    if (side == POINTS_4) {
        transform_input(POINTS_4, from, c, b->v + i * c, conv->block * c);
    } else {
        transform_input(POINTS_2, from, c, b->v + i * c, conv->block * c);
    }
}

static void product(const struct conv *conv, const struct block *b, size_t point)
{
    const size_t c = (size_t)conv->s.c, oc = (size_t)conv->s.oc;
    const float *rows[MOST_TILES], *v = b->v + point * conv->block * c;
    for (size_t i = 0; i < b->n; i++) {
        rows[i] = v + i * c;
    }
    struct f32_stretch s = {
        .rows = rows,
        .m = b->n,
        .n_pieces = 1,
        .b = conv->u + point * c * oc,
        .n = oc,
        .k = c,
        .panel_to = f32_panels(oc),
        .c = b->m + point * conv->block * oc,
        .ldc = oc,
        .few = conv->tiles <= F32_FEW,
    };
    while (s.k0 < c) {
        struct f32_piece piece = {s.k0, f32_min(c - s.k0, F32_STRETCH)};
        s.pieces = &piece;
        s.first = s.k0 == 0;
        s.last = s.k0 + piece.len == c;
        VF_NAME(f32_stretch)(&s);
        s.k0 += piece.len;
    }
}

struct outputs { /* of a tile: the rows and columns that there are */
    float *y;
    const float *residual, *bias;
    size_t rows, cols, line, c; /* line: floats to the next row */
    float lo, hi;
};

SHR_INLINE void transform_output(const size_t side, const float *m, size_t next,
                                 const struct outputs *o)
{
    const size_t tile = side - 2;
    for (size_t i = 0; i < o->c; i += VF) {
        vf d[MAX_SIDE], t[MAX_POINTS], line[MAX_SIDE - 2];
        const vf bias = vf_load(o->bias + i);
        for (size_t col = 0; col < side; col++) {
            SHR_UNROLL
            for (size_t row = 0; row < side; row++) {
                d[row] = vf_load(m + (row * side + col) * next + i);
            }
            output_line(side, d, 1, line);
            SHR_UNROLL
            for (size_t row = 0; row < tile; row++) {
                t[row * side + col] = line[row];
            }
        }
        for (size_t row = 0; row < o->rows; row++) {
            output_line(side, t + row * side, 1, line);
            for (size_t col = 0; col < tile && col < o->cols; col++) {
                const size_t at = row * o->line + col * o->c + i;
                vf v = vf_add(line[col], bias);
                v = o->residual != NULL ? vf_add(v, vf_load(o->residual + at)) : v;
                vf_store(o->y + at, vf_min(vf_set1(o->hi), vf_max(vf_set1(o->lo), v)));
            }
        }
    }
}

static void output_tile(const struct run *run, const struct block *b, size_t i)
{
    const struct conv *conv = run->conv;
    const size_t oc = (size_t)conv->s.oc, oh = (size_t)conv->s.oh, ow = (size_t)conv->s.ow;
    const struct place p = place_of(conv, b->first + i);
    const size_t at = ((p.image * oh + p.top) * ow + p.left) * oc;
    struct outputs o = {
        .y = run->y + at,
        .residual = run->residual != NULL ? run->residual + at : NULL,
        .bias = conv->bias,
        .rows = f32_min(conv->tile, oh - p.top),
        .cols = f32_min(conv->tile, ow - p.left),
        .line = ow * oc,
        .c = oc,
    };
    f32_bounds(&conv->act, &o.lo, &o.hi);
    if (conv->side == POINTS_4) {
        transform_output(POINTS_4, b->m + i * oc, conv->block * oc, &o);
    } else {
        transform_output(POINTS_2, b->m + i * oc, conv->block * oc, &o);
    }
    for (size_t r = 0; r < o.rows && conv->act.act > SHR_ACT_CLIP; r++) {
        float *row = o.y + r * o.line;
        VF_NAME(act_f32)(o.cols * oc, row, conv->act.act, conv->act.lo, conv->act.hi, row);
    }
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

static void whole_block(void *arg, size_t i, size_t worker)
{
    const struct run *run = arg;
    const struct conv *conv = run->conv;
    const struct block b = block_at(run, i, worker);
    memset(b.zero, 0, (size_t)conv->s.c * sizeof *b.zero);
    for (size_t t = 0; t < b.n; t++) {
        input_tile(run, &b, t);
    }
    for (size_t p = 0; p < conv->points; p++) {
        product(conv, &b, p);
    }
    for (size_t t = 0; t < b.n; t++) {
        output_tile(run, &b, t);
    }
}

static void input_task(void *arg, size_t i, size_t worker)
{
    const struct run *run = arg;
    const struct block b = block_at(run, run->block, 0);
    (void)worker;
    input_tile(run, &b, i);
}

static void product_task(void *arg, size_t i, size_t worker)
{
    const struct run *run = arg;
    const struct block b = block_at(run, run->block, 0);
    (void)worker;
    product(run->conv, &b, i);
}

static void output_task(void *arg, size_t i, size_t worker)
{
    const struct run *run = arg;
    const struct block b = block_at(run, run->block, 0);
    (void)worker;
    output_tile(run, &b, i);
}

static void conv_run(const struct shr_conv_f32 *base, const float *x, const float *residual,
                     float *y, void *scratch, struct shr_team *team)
{
    const struct conv *conv = (const struct conv *)base;
    struct run run = {conv, x, residual, y, scratch, 0};
    if (!conv->shared || shr_team_size(team) == 1) {
        shr_team_run(conv->shared ? NULL : team, conv->blocks, whole_block, &run);
        return;
    }
    for (; run.block < conv->blocks; run.block++) {
        const struct block b = block_at(&run, run.block, 0);
        memset(b.zero, 0, (size_t)conv->s.c * sizeof *b.zero);
        shr_team_run(team, b.n, input_task, &run);
        shr_team_run(team, conv->points, product_task, &run);
        shr_team_run(team, b.n, output_task, &run);
    }
}

static void conv_free(struct shr_conv_f32 *base)
{
    struct conv *conv = (struct conv *)base;
    shr_mem_free(conv->u);
    shr_mem_free(conv->bias);
    shr_mem_free(conv);
}

/* ── Preparation ────────────────────────────────────────────────────────────────────────────── */

/* A line of filters at the points: p(x) / the product of x - the other points. */
SHR_INLINE void filter_line(const size_t side, const vf *g, const size_t step, vf *t)
{
    const vf g0 = g[0], g1 = g[step], g2 = g[2 * step], half = vf_set1(0.5f);
    if (side == POINTS_2) {
        const vf even = vf_mul(half, vf_add(g0, g2)), odd = vf_mul(half, g1);
        t[0] = vf_sub(vf_zero(), g0);
        t[1] = vf_add(even, odd);
        t[2] = vf_sub(even, odd);
        t[3] = g2;
        return;
    }
    const vf third = vf_set1(-2.0f / 3), sixth = vf_set1(1.0f / 6);
    const vf even_a = vf_mul(third, vf_fma(half, g2, g0)), odd_a = vf_mul(third, g1);
    const vf even_b = vf_mul(sixth, vf_add(g0, vf_add(g2, g2))), odd_b = vf_mul(sixth, g1);
    t[0] = g0;
    t[1] = vf_fma(vf_set1(A), odd_a, even_a);
    t[2] = vf_fnma(vf_set1(A), odd_a, even_a);
    t[3] = vf_fma(vf_set1(B), odd_b, even_b);
    t[4] = vf_fnma(vf_set1(B), odd_b, even_b);
    t[5] = g2;
}

/* A vector of filters (3, 3), whose elements are next apart, to u (side, side), step apart */
SHR_INLINE void transform_filters(const size_t side, const float *w, size_t next, float *u,
                                  size_t step)
{
    float g[9 * VF];
    vf taps[9], t[MAX_SIDE * 3], line[MAX_SIDE];
    for (size_t i = 0; i < VF; i++) {
        for (size_t j = 0; j < 9; j++) {
            g[j * VF + i] = w[i * next + j];
        }
    }
    for (size_t j = 0; j < 9; j++) {
        taps[j] = vf_load(g + j * VF);
    }
    for (size_t j = 0; j < 3; j++) {
        filter_line(side, taps + j, 3, line);
        for (size_t i = 0; i < side; i++) {
            t[i * 3 + j] = line[i];
        }
    }
    for (size_t i = 0; i < side; i++) {
        filter_line(side, t + i * 3, 1, line);
        for (size_t j = 0; j < side; j++) {
            vf_store(u + (i * side + j) * step, line[j]);
        }
    }
}

/* w (oc, c, 3, 3) to u (points) packed (c, oc) */
static void conv_load(struct shr_conv_f32 *base, const float *w, const float *bias)
{
    struct conv *conv = (struct conv *)base;
    const size_t c = (size_t)conv->s.c, oc = (size_t)conv->s.oc, size = c * oc;
    VF_NAME(bias_load)(oc, bias, conv->bias);
    if (w == NULL) {
        return;
    }
    for (size_t j = 0; j < oc; j += VF) {
        for (size_t i = 0; i < c; i++) {
            const float *from = w + (j * c + i) * 9;
            float *to = conv->u + f32_packed_at(c, oc, i, j);
            if (conv->side == POINTS_4) {
                transform_filters(POINTS_4, from, c * 9, to, size);
            } else {
                transform_filters(POINTS_2, from, c * 9, to, size);
            }
        }
    }
}

/* Into how many blocks the tiles go. Blocks that stay in the second cache read the weights again
 * and again; a block of everything moves the transformed images instead. */
static size_t count_blocks(const struct shr_conv_shape *s, size_t points, size_t tiles)
{
    enum { CACHE = 96 << 10, LEAST = 6 }; /* floats, tiles */
    const size_t c = (size_t)s->c, oc = (size_t)s->oc;
    const size_t of_tile = points * (c + oc), weights = points * c * oc;
    const size_t small = CACHE / of_tile < LEAST ? LEAST : CACHE / of_tile;
    const size_t n = (tiles + small - 1) / small, n_large = (tiles + MOST_TILES - 1) / MOST_TILES;
    return weights * n > weights * n_large + 2 * tiles * of_tile ? n_large : n;
}

struct shr_conv_f32 *VF_NAME(winograd_new)(const struct shr_conv_f32_spec *spec, int tile,
                                           size_t *ret_scratch)
{
    const size_t threads = spec->threads > 1 ? (size_t)spec->threads : 1;
    struct conv *conv = shr_mem_new(1, sizeof *conv);
    if (conv == NULL) {
        return NULL;
    }
    conv->base = (struct shr_conv_f32){.run = conv_run,
                                       .load = conv_load,
                                       .free = conv_free,
                                       .form = tile == 2 ? "winograd 2x2" : "winograd 4x4"};
    conv->s = spec->shape;
    conv->act = f32_act_of(spec);
    conv->tile = (size_t)tile;
    conv->side = conv->tile + 2;
    conv->points = conv->side * conv->side;
    conv->across = ((size_t)conv->s.ow + conv->tile - 1) / conv->tile;
    conv->down = ((size_t)conv->s.oh + conv->tile - 1) / conv->tile;
    conv->tiles = (size_t)conv->s.n * conv->across * conv->down;
    conv->bias = VF_NAME(bias_new)(spec);
    conv->u = shr_mem_aligned(conv->points * (size_t)(conv->s.c * conv->s.oc) * sizeof *conv->u);
    if (conv->bias == NULL || conv->u == NULL) {
        conv_free(&conv->base);
        return NULL;
    }
    if (spec->w != NULL) {
        conv_load(&conv->base, spec->w, spec->bias);
    }
    const size_t n = count_blocks(&conv->s, conv->points, conv->tiles);
    conv->shared = n < threads;
    conv->block = (conv->tiles + n - 1) / n;
    conv->blocks = (conv->tiles + conv->block - 1) / conv->block;
    const size_t of_point = conv->points * conv->block * sizeof(float), c = (size_t)conv->s.c;
    conv->m_at = f32_round(of_point * c, SHR_MEM_ALIGN);
    conv->zero_at = f32_round(conv->m_at + of_point * (size_t)conv->s.oc, SHR_MEM_ALIGN);
    conv->bytes = f32_round(conv->zero_at + c * sizeof(float), SHR_MEM_ALIGN);
    *ret_scratch = (conv->shared ? 1 : threads) * conv->bytes;
    return &conv->base;
}

/* Cycles, about: multiply-adds, weights that do not stay in the second cache, transforms. A tile of
 * 1 is the direct sum. */
static double cost_of(const struct shr_conv_shape *s, size_t tile)
{
    enum { CACHED = 256 << 10 };
    const double products = 2 * VF * 0.85, bytes = 0.17, transforms = 1.5 / VF;
    const size_t points = tile == 1 ? 9 : (tile + 2) * (tile + 2);
    const size_t down = ((size_t)s->oh + tile - 1) / tile,
                 across = ((size_t)s->ow + tile - 1) / tile;
    const size_t tiles = (size_t)s->n * down * across,
                 blocks = tile == 1 ? 1 : count_blocks(s, points, tiles);
    const double filters = (double)s->c * (double)s->oc * (double)points, rows = (double)tiles;
    double cost = filters * (rows < 4 ? 4 : rows) / products;
    if (filters * sizeof(float) > CACHED) {
        cost += filters * sizeof(float) * (double)blocks * bytes;
    }
    return tile == 1 ? cost : cost + rows * (double)points * (double)(s->c + s->oc) * transforms;
}

int VF_NAME(winograd_tile)(const struct shr_conv_f32_spec *spec)
{
    const struct shr_conv_shape *s = &spec->shape;
    const bool one = s->stride_h == 1 && s->stride_w == 1 && s->dil_h == 1 && s->dil_w == 1;
    const bool fits = s->kh == 3 && s->kw == 3 && one && s->groups == 1;
    if (!spec->winograd || !fits || s->c % VF != 0 || s->oc % VF != 0) {
        return 0;
    }
    const double direct = cost_of(s, 1), two = cost_of(s, 2), four = cost_of(s, 4);
    const double worth = 0.85; /* of weights more than twice as large */
    return direct <= two && direct <= four ? 0 : two * worth < four ? 2 : 4;
}
