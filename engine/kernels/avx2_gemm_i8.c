/* AVX2: the integer matrix product. The arithmetic is described in avx2_i8.h. */
#include "base/mem.h"
#include "kernels/avx2_i8.h"

enum { LIMIT = 128 /* of the weights of one sign that meet in an int16 */ };

static size_t even(size_t n)
{
    return (n + 1) / 2 * 2;
}

/* Words between the head and the vectors. */
static size_t words_of(size_t blocks, size_t quads, size_t room)
{
    return blocks * I8_COLS * 2 + blocks + 1 + even(quads) + room;
}

/* Extra quads: half of all, and two of a tail; and more, so that the vectors begin a cache line:
 * a stream of vectors that cross lines takes twice the time. */
static size_t room_of(size_t blocks, size_t quads)
{
    size_t room = blocks * (quads / 2 + 2), line = SHR_MEM_ALIGN / sizeof(int32_t);
    return room + (line - words_of(blocks, quads, room) % line) % line;
}

size_t shr__gemm_i8_size_avx2(size_t k, size_t n)
{
    size_t blocks = (n + I8_COLS - 1) / I8_COLS, quads = k / 4, room = room_of(blocks, quads);
    size_t bytes = sizeof(struct i8_packed) + words_of(blocks, quads, room) * sizeof(int32_t) +
                   (blocks * even(quads) + room) * I8_VECTOR;
    return (bytes + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
}

/* ── Packing ────────────────────────────────────────────────────────────────────────────────── */

struct packing {
    struct i8_packed *p;
    uint32_t *firsts, *at, *extra_at; /* what i8_firsts and the like give, to be written */
    int8_t *vectors, *extras;
    size_t k, n, ldb;
    size_t most; /* extra quads of a mode, beyond which the next is faster */
    const int8_t *b;
    bool trans;
};

/* Quad q of a block of B, zeros where there is nothing. */
static __m256i gather(const struct packing *s, size_t q, size_t block)
{
    size_t k = q * 4, n = block * I8_COLS;
    int8_t quad[I8_VECTOR] = {0};
    bool whole = k + 4 <= s->k && n + I8_COLS <= s->n;
    if (whole && s->trans) {
        for (size_t j = 0; j < I8_COLS; j++) {
            memcpy(quad + j * 4, s->b + (n + j) * s->ldb + k, 4);
        }
    } else if (whole) {
        const int8_t *b = s->b + k * s->ldb + n;
        __m128i x0 = _mm_loadl_epi64((const __m128i *)b);
        __m128i x1 = _mm_loadl_epi64((const __m128i *)(b + s->ldb));
        __m128i x2 = _mm_loadl_epi64((const __m128i *)(b + 2 * s->ldb));
        __m128i x3 = _mm_loadl_epi64((const __m128i *)(b + 3 * s->ldb));
        __m128i x01 = _mm_unpacklo_epi8(x0, x1), x23 = _mm_unpacklo_epi8(x2, x3);
        return _mm256_set_m128i(_mm_unpackhi_epi16(x01, x23), _mm_unpacklo_epi16(x01, x23));
    } else {
        for (size_t j = 0; j < i8_min(s->n - n, I8_COLS); j++) {
            for (size_t i = 0; k < s->k && i < i8_min(s->k - k, 4); i++) {
                quad[j * 4 + i] =
                    s->trans ? s->b[(n + j) * s->ldb + k + i] : s->b[(k + i) * s->ldb + n + j];
            }
        }
    }
    return _mm256_loadu_si256((const __m256i *)quad);
}

/* The weights of one sign that meet in an int16, of two quads. */
SHR_INLINE __m256i above_of(__m256i v0, __m256i v1)
{
    const __m256i none = _mm256_setzero_si256(), one = _mm256_set1_epi8(1);
    return _mm256_add_epi16(_mm256_maddubs_epi16(one, _mm256_max_epi8(v0, none)),
                            _mm256_maddubs_epi16(one, _mm256_max_epi8(v1, none)));
}

SHR_INLINE __m256i below_of(__m256i v0, __m256i v1)
{
    const __m256i none = _mm256_setzero_si256(), one = _mm256_set1_epi8(1);
    return _mm256_add_epi16(_mm256_maddubs_epi16(one, _mm256_min_epi8(v0, none)),
                            _mm256_maddubs_epi16(one, _mm256_min_epi8(v1, none)));
}

/* True when the products of two quads may be added in int16. */
static bool fits(__m256i v0, __m256i v1)
{
    __m256i over = _mm256_or_si256(_mm256_cmpgt_epi16(above_of(v0, v1), _mm256_set1_epi16(LIMIT)),
                                   _mm256_cmpgt_epi16(_mm256_set1_epi16(-LIMIT), below_of(v0, v1)));
    return _mm256_testz_si256(over, over);
}

/* Moves from w to rest, which is 0, what is more than LIMIT; from the first quad as long as it has
 * something. */
static void trim(size_t quads, int8_t (*w)[I8_VECTOR], int8_t (*rest)[I8_VECTOR])
{
    for (size_t i = 0; i < I8_VECTOR * 2; i++) {
        size_t first = i / 4 * 2;
        int sign = i % 2 == 0 ? 1 : -1, over = -LIMIT;
        if (i % 4 >= 2) {
            continue;
        }
        for (size_t j = 0; j < quads * 2; j++) {
            int v = sign * w[j / 2][first + j % 2];
            over += v > 0 ? v : 0;
        }
        for (size_t j = 0; j < quads * 2 && over > 0; j++) {
            int v = sign * w[j / 2][first + j % 2], less = v < over ? v : over;
            if (v > 0) {
                w[j / 2][first + j % 2] -= (int8_t)(sign * less);
                rest[j / 2][first + j % 2] = (int8_t)(sign * less);
                over -= less;
            }
        }
    }
}

/* Appends what quad q has besides to the extra quads of a block; false = there is no room. */
static bool add_extra(struct packing *s, size_t q, size_t block, const int8_t *w)
{
    static const int8_t none[I8_VECTOR];
    int8_t part[1][I8_VECTOR], rest[1][I8_VECTOR];
    memcpy(rest, w, sizeof rest);
    while (memcmp(rest, none, sizeof none) != 0) {
        size_t i = s->firsts[block + 1];
        if (i == s->most) {
            return false;
        }
        memcpy(part, rest, sizeof part);
        memset(rest, 0, sizeof rest);
        trim(1, part, rest);
        memcpy(s->extras + i * I8_VECTOR, part, sizeof part);
        s->extra_at[i] = (uint32_t)(q * 4);
        s->firsts[block + 1]++;
    }
    return true;
}

/* Brings quads q and the next to what the mode allows; false = there is no room. */
static bool trim_pair(struct packing *s, size_t q, size_t block, __m256i *v)
{
    const __m256i none = _mm256_setzero_si256();
    enum i8_mode mode = s->p->mode;
    int8_t w[2][I8_VECTOR], rest[2][I8_VECTOR] = {{0}};
    if (mode == I8_NIBBLES || (mode == I8_PAIRS && fits(v[0], v[1])) ||
        (mode == I8_SINGLES && fits(v[0], none) && fits(v[1], none))) {
        return true;
    }
    memcpy(w, v, sizeof w);
    if (mode == I8_PAIRS) {
        trim(2, w, rest);
    } else {
        trim(1, w, rest);
        trim(1, w + 1, rest + 1);
    }
    memcpy(v, w, sizeof w);
    return add_extra(s, q, block, rest[0]) && add_extra(s, q + 1, block, rest[1]);
}

/* The sums of a quad's columns. */
static __m256i sums_of(__m256i v)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), v);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* A block of a panel, whose vectors are step bytes apart; sums are those of its columns. */
static bool pack_block(struct packing *s, size_t block, int8_t *to, size_t step, int32_t *sums)
{
    const struct i8_packed *p = s->p;
    __m256i sum = _mm256_setzero_si256();
    s->firsts[block + 1] = s->firsts[block];
    for (size_t q = 0; q < p->quads; q += 2, to += 2 * step) {
        __m256i v[2] = {gather(s, q, block), _mm256_setzero_si256()};
        v[1] = q + 1 < p->quads ? gather(s, q + 1, block) : v[1];
        sum = _mm256_add_epi32(sum, _mm256_add_epi32(sums_of(v[0]), sums_of(v[1])));
        if (!trim_pair(s, q, block, v)) {
            return false;
        }
        _mm256_storeu_si256((__m256i *)to, v[0]);
        _mm256_storeu_si256((__m256i *)(to + step), v[1]);
    }
    if (s->k % 4 != 0) {
        int8_t tail[I8_VECTOR];
        __m256i v = gather(s, p->quads, block);
        _mm256_storeu_si256((__m256i *)tail, v);
        sum = _mm256_add_epi32(sum, sums_of(v));
        if (!add_extra(s, p->quads, block, tail)) {
            return false;
        }
    }
    _mm256_storeu_si256((__m256i *)(sums + block * I8_COLS), sum);
    return true;
}

static bool pack_blocks(struct packing *s, int32_t *sums)
{
    s->firsts[0] = 0;
    for (size_t panel = 0; panel < i8_panels(s->p->blocks); panel++) {
        size_t first, width = i8_panel(s->p->blocks, panel, &first);
        int8_t *to = s->vectors + first * even(s->p->quads) * I8_VECTOR;
        for (size_t j = 0; j < width; j++) {
            if (!pack_block(s, first + j, to + j * I8_VECTOR, width * I8_VECTOR, sums)) {
                return false;
            }
        }
    }
    return true;
}

void shr__i8_pack(size_t k, size_t k_real, size_t n, const int8_t *b, size_t ldb, bool trans,
                  const int32_t *zero, void *packed)
{
    size_t blocks = (n + I8_COLS - 1) / I8_COLS, quads = k / 4;
    struct i8_packed *p = packed;
    *p = (struct i8_packed){.blocks = blocks, .quads = quads, .room = room_of(blocks, quads)};
    int32_t *sums = (int32_t *)(p + 1), *zeros = sums + blocks * I8_COLS;
    struct packing s = {.p = p, .k = k, .n = n, .ldb = ldb, .b = b, .trans = trans};
    s.firsts = (uint32_t *)(zeros + blocks * I8_COLS);
    s.at = s.firsts + blocks + 1;
    s.extra_at = s.at + even(quads);
    s.vectors = (int8_t *)(s.extra_at + p->room);
    s.extras = s.vectors + blocks * even(quads) * I8_VECTOR;
    for (size_t i = 0; i < even(quads); i++) { /* an odd last one is paired with weights of 0 */
        s.at[i] = (uint32_t)(i8_min(i, quads - 1) * 4);
    }
    s.most = blocks * (quads / 8 + 2);
    while (!pack_blocks(&s, sums)) { /* NIBBLES have extra quads of tails only: there is room */
        p->mode++;
        s.most = p->room;
    }
    memset(zeros, 0, blocks * I8_COLS * sizeof *zeros);
    for (size_t j = 0; j < n && zero != NULL; j++) {
        zeros[j] = zero[j];
        sums[j] = (int32_t)((uint32_t)sums[j] - (uint32_t)k_real * (uint32_t)zero[j]);
        p->has_zero = p->has_zero || zero[j] != 0;
    }
}

void shr__i8_place(void *packed, const uint32_t *at)
{
    const struct i8_packed *p = packed;
    uint32_t *of = (uint32_t *)packed + (i8_at(p) - (const uint32_t *)packed);
    for (size_t i = 0; i < even(p->quads); i++) {
        of[i] = at[of[i] / 4];
    }
    of += even(p->quads);
    for (size_t i = 0; i < i8_firsts(p)[p->blocks]; i++) {
        of[i] = at[of[i] / 4];
    }
}

void shr__gemm_i8_pack_avx2(size_t k, size_t n, const int8_t *b, size_t ldb, bool trans,
                            const int32_t *zero, void *packed)
{
    shr__i8_pack(k, k, n, b, ldb, trans, zero, packed);
}

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
    struct tile t = {.at = i8_at(p), .quads = even(p->quads)};
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
