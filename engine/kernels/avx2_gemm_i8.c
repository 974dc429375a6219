/* AVX2: the integer matrix product. The arithmetic is described in avx2_i8.h. */
#include "kernels/avx2_i8.h"

/* ── The tile ───────────────────────────────────────────────────────────────────────────────── */

struct tile {
    const uint8_t *a[I8_ROWS];
    const uint32_t *at;
    const int8_t *b;
    size_t quads;
};

SHR_INLINE __m256i quad_of(const uint8_t *a)
{
    int32_t quad;
    memcpy(&quad, a, sizeof quad);
    return _mm256_set1_epi32(quad);
}

SHR_INLINE __m256i vector_of(const int8_t *b)
{
    return _mm256_loadu_si256((const __m256i *)b);
}

/* Two quads of a row by two vectors of B, added in int16 and widened times something. */
SHR_INLINE __m256i two_quads(__m256i x0, __m256i x1, __m256i v0, __m256i v1, __m256i times)
{
    __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(x0, v0), _mm256_maddubs_epi16(x1, v1));
    return _mm256_madd_epi16(sum, times);
}

SHR_INLINE __m256i one_quad(__m256i x, __m256i v)
{
    return _mm256_madd_epi16(_mm256_maddubs_epi16(x, v), _mm256_set1_epi16(1));
}

/* c += two quads of the rows, at0 and at1 bytes from their beginnings, by vectors of B. */
SHR_INLINE void step(const size_t rows, const size_t width, const enum i8_mode mode,
                     const uint8_t *const *a, size_t at0, size_t at1, const int8_t *b,
                     __m256i (*c)[I8_ROWS])
{
    SHR_UNROLL
    for (size_t j = 0; j < width; j++, b += I8_VECTOR) {
        __m256i v0 = vector_of(b), v1 = vector_of(b + width * I8_VECTOR);
        SHR_UNROLL
        for (size_t i = 0; i < rows; i++) {
            __m256i x0 = quad_of(a[i] + at0), x1 = quad_of(a[i] + at1);
            if (mode == I8_PAIRS) {
                __m256i sum = two_quads(x0, x1, v0, v1, _mm256_set1_epi16(1));
                c[j][i] = _mm256_add_epi32(c[j][i], sum);
            } else {
                c[j][i] = _mm256_add_epi32(c[j][i], one_quad(x0, v0));
                c[j][i] = _mm256_add_epi32(c[j][i], one_quad(x1, v1));
            }
        }
    }
}

SHR_INLINE void step_nibbles(const size_t rows, const size_t width, const uint8_t *const *a,
                             size_t at0, size_t at1, const int8_t *b, __m256i (*c)[I8_ROWS])
{
    const __m256i low = _mm256_set1_epi8(15);
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        __m256i x0 = quad_of(a[i] + at0), x1 = quad_of(a[i] + at1);
        __m256i h0 = _mm256_and_si256(_mm256_srli_epi16(x0, 4), low);
        __m256i h1 = _mm256_and_si256(_mm256_srli_epi16(x1, 4), low);
        x0 = _mm256_and_si256(x0, low);
        x1 = _mm256_and_si256(x1, low);
        SHR_UNROLL
        for (size_t j = 0; j < width; j++) {
            __m256i v0 = vector_of(b + j * I8_VECTOR);
            __m256i v1 = vector_of(b + (width + j) * I8_VECTOR);
            __m256i high = two_quads(h0, h1, v0, v1, _mm256_set1_epi16(16));
            c[j][i] = _mm256_add_epi32(c[j][i], high);
            c[j][i] = _mm256_add_epi32(c[j][i], two_quads(x0, x1, v0, v1, _mm256_set1_epi16(1)));
        }
    }
}

/* acc (width, rows) = rows of A x a panel of B */
SHR_INLINE void tile(const size_t rows, const size_t width, const enum i8_mode mode,
                     const struct tile *t, __m256i (*acc)[I8_ROWS])
{
    const uint8_t *a[I8_ROWS];
    const int8_t *b = t->b;
    __m256i c[I8_PANEL][I8_ROWS];
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        a[i] = t->a[i];
        SHR_UNROLL
        for (size_t j = 0; j < width; j++) {
            c[j][i] = _mm256_setzero_si256();
        }
    }
    for (size_t q = 0; q < t->quads; q += 2, b += 2 * width * I8_VECTOR) {
        if (mode == I8_NIBBLES) {
            step_nibbles(rows, width, a, t->at[q], t->at[q + 1], b, c);
        } else {
            step(rows, width, mode, a, t->at[q], t->at[q + 1], b, c);
        }
    }
    SHR_UNROLL
    for (size_t j = 0; j < width; j++) {
        SHR_UNROLL
        for (size_t i = 0; i < rows; i++) {
            acc[j][i] = c[j][i];
        }
    }
}

SHR_INLINE void tile_rows(size_t rows, const size_t width, const enum i8_mode mode,
                          const struct tile *t, __m256i (*acc)[I8_ROWS])
{
    switch (rows) {
    case 1:
        tile(1, width, mode, t, acc);
        break;
    case 2:
        tile(2, width, mode, t, acc);
        break;
    default:
        tile(I8_ROWS, width, mode, t, acc);
        break;
    }
}

SHR_INLINE void tile_panel(size_t rows, size_t width, const enum i8_mode mode, const struct tile *t,
                           __m256i (*acc)[I8_ROWS])
{
    switch (width) {
    case 1:
        tile_rows(rows, 1, mode, t, acc);
        break;
    case 2:
        tile_rows(rows, 2, mode, t, acc);
        break;
    default:
        tile_rows(rows, I8_PANEL, mode, t, acc);
        break;
    }
}

/* The extra quads of a block, of which those of the tail come last and are read from tails. */
SHR_INLINE void add_extras_to(const size_t rows, const struct i8_packed *p, size_t block,
                              const struct tile *t, uint8_t (*tails)[4], __m256i *acc)
{
    size_t e = i8_firsts(p)[block], end = i8_firsts(p)[block + 1];
    const uint32_t *at = i8_extra_at(p);
    const int8_t *b = (const int8_t *)(at + p->room) + p->blocks * t->quads * I8_VECTOR;
    __m256i c[I8_ROWS];
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        c[i] = acc[i];
    }
    for (; e < end && (tails == NULL || at[e] != p->quads * 4); e++) {
        __m256i v = vector_of(b + e * I8_VECTOR);
        SHR_UNROLL
        for (size_t i = 0; i < rows; i++) {
            c[i] = _mm256_add_epi32(c[i], one_quad(quad_of(t->a[i] + at[e]), v));
        }
    }
    for (; e < end; e++) {
        __m256i v = vector_of(b + e * I8_VECTOR);
        SHR_UNROLL
        for (size_t i = 0; i < rows; i++) {
            c[i] = _mm256_add_epi32(c[i], one_quad(quad_of(tails[i]), v));
        }
    }
    SHR_UNROLL
    for (size_t i = 0; i < rows; i++) {
        acc[i] = c[i];
    }
}

static void add_extras(const struct i8_packed *p, size_t block, const struct tile *t,
                       uint8_t (*tails)[4], size_t rows, __m256i *acc)
{
    switch (rows) {
    case 1:
        add_extras_to(1, p, block, t, tails, acc);
        break;
    case 2:
        add_extras_to(2, p, block, t, tails, acc);
        break;
    default:
        add_extras_to(I8_ROWS, p, block, t, tails, acc);
        break;
    }
}

/* ── Rows of a panel ────────────────────────────────────────────────────────────────────────── */

static int32_t row_sum(const struct i8_rows *r, const uint8_t *a)
{
    __m256i sums = _mm256_setzero_si256(); /* int64, which wrap to the same int32 */
    uint32_t sum = 0;
    for (size_t i = 0; i < r->n_runs; i++) {
        const uint8_t *run = a + r->runs[i];
        size_t j = 0;
        for (; j + I8_VECTOR <= r->run; j += I8_VECTOR) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(run + j));
            sums = _mm256_add_epi64(sums, _mm256_sad_epu8(v, _mm256_setzero_si256()));
        }
        for (; j < r->run; j++) {
            sum += run[j];
        }
    }
    uint64_t part[4];
    _mm256_storeu_si256((__m256i *)part, sums);
    return (int32_t)(sum + (uint32_t)(part[0] + part[1] + part[2] + part[3]));
}

/* How a row of a panel becomes bytes. Packing saturates, so that only the upper bound must be kept
 * before it: what is below stays below, and NaN becomes the smallest integer. */
struct bytes_out {
    __m256 above;  /* upper bound less zero point */
    __m256i zero;  /* point, in int16 */
    __m128i below; /* lower bound, in bytes */
    bool is_signed;
    size_t cols; /* of the panel that exist */
};

static void bytes_init(struct bytes_out *o, const struct shr_gemm_i8 *g, size_t first, size_t width)
{
    int32_t lo, hi;
    shr__bounds_i8(g, &lo, &hi);
    o->above = _mm256_set1_ps((float)(hi - g->c_zero));
    o->zero = _mm256_set1_epi16((int16_t)g->c_zero);
    o->below = _mm_set1_epi8((char)(lo < hi ? lo : hi));
    o->is_signed = g->out == SHR_GEMM_S8;
    o->cols = i8_min(g->n - first * I8_COLS, width * I8_COLS);
}

SHR_INLINE __m256i rounded(const struct bytes_out *o, const struct i8_columns *v, __m256i acc)
{
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(acc, v->add)), v->scale);
    return _mm256_cvtps_epi32(_mm256_min_ps(o->above, y));
}

SHR_INLINE __m128i at_least(const struct bytes_out *o, __m128i bytes)
{
    return o->is_signed ? _mm_max_epi8(bytes, o->below) : _mm_max_epu8(bytes, o->below);
}

/* Row i of acc, which has sums in the blocks that do not exist, too. */
SHR_INLINE void store_bytes(const struct bytes_out *o, const struct i8_columns *v,
                            __m256i (*acc)[I8_ROWS], size_t i, uint8_t *c)
{
    uint8_t some[I8_PANEL * I8_COLS], *to = o->cols == I8_PANEL * I8_COLS ? c : some;
    __m256i q0 = rounded(o, &v[0], acc[0][i]), q1 = rounded(o, &v[1], acc[1][i]);
    __m256i q2 = rounded(o, &v[2], acc[2][i]);
    __m256i w01 = _mm256_adds_epi16(_mm256_packs_epi32(q0, q1), o->zero);
    __m256i w2 = _mm256_adds_epi16(_mm256_packs_epi32(q2, q2), o->zero);
    __m256i b = o->is_signed ? _mm256_packs_epi16(w01, w2) : _mm256_packus_epi16(w01, w2);
    __m128i low = _mm256_castsi256_si128(b), high = _mm256_extracti128_si256(b, 1);
    _mm_storeu_si128((__m128i *)to, at_least(o, _mm_unpacklo_epi32(low, high)));
    _mm_storel_epi64((__m128i *)(to + 16), at_least(o, _mm_unpackhi_epi32(low, high)));
    if (o->cols == 16) {
        _mm_storeu_si128((__m128i *)c, _mm_loadu_si128((const __m128i *)some));
    } else if (to == some) {
        memcpy(c, some, o->cols);
    }
}

/* Less the zero points of B. */
static void less_zeros(const struct i8_packed *p, size_t block, size_t rows, const int32_t *sums,
                       __m256i *acc)
{
    __m256i zero = _mm256_loadu_si256((const __m256i *)(i8_zeros(p) + block * I8_COLS));
    for (size_t i = 0; i < rows; i++) {
        acc[i] = _mm256_sub_epi32(acc[i], _mm256_mullo_epi32(_mm256_set1_epi32(sums[i]), zero));
    }
}

/* A panel of B, and the rows of A that are multiplied by it. */
struct panel {
    const struct shr_gemm_i8 *g;
    const struct i8_rows *r;
    size_t first, width, line, in_line; /* the first block; where the next row is */
    bool bytes, extra;                  /* bytes come out; some block has extra quads */
    struct i8_columns columns[I8_PANEL];
    struct bytes_out out;
};

static void panel_init(struct panel *v, size_t panel, size_t from)
{
    const struct i8_packed *p = v->g->b;
    v->width = i8_panel(p->blocks, panel, &v->first);
    v->line = from / v->r->width;
    v->in_line = from % v->r->width;
    v->bytes = v->g->out == SHR_GEMM_U8 || v->g->out == SHR_GEMM_S8;
    v->extra = i8_firsts(p)[v->first] != i8_firsts(p)[v->first + v->width];
    for (size_t j = 0; j < I8_PANEL; j++) { /* those that do not exist are as good as the first */
        i8_columns_init(&v->columns[j], v->g, p, v->first + (j < v->width ? j : 0));
    }
    bytes_init(&v->out, v->g, v->first, v->width);
}

SHR_INLINE void next_rows(struct panel *v, size_t rows, const uint8_t **a)
{
    const struct i8_rows *r = v->r;
    for (size_t i = 0; i < rows; i++) {
        a[i] = r->a + v->line * r->line + v->in_line * r->step;
        v->in_line++;
        if (v->in_line == r->width) {
            v->in_line = 0;
            v->line++;
        }
    }
}

/* Extra quads, zero points and results of rows from row `from`. */
SHR_INLINE void finish_rows(const struct panel *v, const struct tile *t, size_t from, size_t rows,
                            __m256i (*acc)[I8_ROWS])
{
    const struct shr_gemm_i8 *g = v->g;
    const struct i8_packed *p = g->b;
    const struct i8_rows *r = v->r;
    uint8_t tails[I8_ROWS][4] = {{0}};
    int32_t sums[I8_ROWS] = {0};
    for (size_t i = 0; i < rows && (r->tail != 0 || p->has_zero); i++) {
        memcpy(tails[i], t->a[i] + r->run - r->tail, r->tail);
        sums[i] = p->has_zero ? row_sum(r, t->a[i]) : 0;
    }
    for (size_t j = 0; j < v->width && v->extra; j++) {
        add_extras(p, v->first + j, t, r->tail != 0 ? tails : NULL, rows, acc[j]);
    }
    for (size_t j = 0; j < v->width && !v->bytes; j++) {
        size_t at = from * g->ldc + (v->first + j) * I8_COLS;
        i8_finish(g, p, v->first + j, &v->columns[j], at, rows, acc[j], sums);
    }
    for (size_t j = 0; j < v->width && v->bytes && p->has_zero; j++) {
        less_zeros(p, v->first + j, rows, sums, acc[j]);
    }
    for (size_t i = 0; i < rows && v->bytes; i++) {
        uint8_t *c = (uint8_t *)g->c + (from + i) * g->ldc + v->first * I8_COLS;
        store_bytes(&v->out, v->columns, acc, i, c);
    }
}

void shr__i8_multiply(const struct shr_gemm_i8 *g, const struct i8_rows *r, size_t panel,
                      size_t from, size_t to)
{
    const struct i8_packed *p = g->b;
    struct tile t = {.at = i8_at(p), .quads = (p->quads + 1) / 2 * 2};
    struct panel v;
    __m256i acc[I8_PANEL][I8_ROWS];
    SHR_UNROLL
    for (size_t i = 0; i < I8_PANEL * I8_ROWS; i++) {
        acc[i / I8_ROWS][i % I8_ROWS] = _mm256_setzero_si256();
    }
    v.g = g;
    v.r = r;
    panel_init(&v, panel, from);
    t.b = (const int8_t *)(i8_extra_at(p) + p->room) + v.first * t.quads * I8_VECTOR;
    for (size_t rows; from < to; from += rows) {
        rows = to - from == I8_ROWS + 1 ? 2 : i8_min(to - from, I8_ROWS);
        next_rows(&v, rows, t.a);
        switch (p->mode) {
        case I8_PAIRS:
            tile_panel(rows, v.width, I8_PAIRS, &t, acc);
            break;
        case I8_SINGLES:
            tile_panel(rows, v.width, I8_SINGLES, &t, acc);
            break;
        case I8_NIBBLES:
            tile_panel(rows, v.width, I8_NIBBLES, &t, acc);
            break;
        }
        finish_rows(&v, &t, from, rows, acc);
    }
}

/* ── The matrix product ─────────────────────────────────────────────────────────────────────── */

struct split {
    const struct shr_gemm_i8 *g;
    struct i8_rows rows;
    size_t parts;
};

static void some_rows(void *arg, size_t task, size_t worker)
{
    const struct split *s = arg;
    size_t panel = task / s->parts, part = task % s->parts, m = s->g->m;
    (void)worker;
    shr__i8_multiply(s->g, &s->rows, panel, m * part / s->parts, m * (part + 1) / s->parts);
}

const char *shr__gemm_i8_form_avx2(const void *packed)
{
    static const char *const name[] = {"int16 pairs", "int16 singles", "nibbles"};
    return name[((const struct i8_packed *)packed)->mode];
}

void shr__gemm_i8_avx2(const struct shr_gemm_i8 *g)
{
    static const uint32_t begin = 0;
    size_t panels = i8_panels(((const struct i8_packed *)g->b)->blocks);
    struct shr_team *team = g->m * g->n * g->k < I8_WORTH ? NULL : g->team;
    struct split s = {.g = g, .parts = i8_parts(team, panels, g->m)};
    s.rows = (struct i8_rows){.a = g->a,
                              .width = SIZE_MAX,
                              .step = g->lda,
                              .runs = &begin,
                              .n_runs = 1,
                              .run = g->k,
                              .tail = g->k % 4};
    shr_team_run(team, panels * s.parts, some_rows, &s);
}
