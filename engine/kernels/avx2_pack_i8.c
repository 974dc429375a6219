/* AVX2: how B is packed for the integer products; the modes are described in avx2_i8.h. */
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

struct packing {
    struct i8_packed *p;
    uint32_t *firsts, *at, *extra_at; /* what i8_firsts and the like give, to be written */
    int8_t *vectors, *extras;
    size_t k, n, ldb;
    size_t most; /* extra quads of a block on average, beyond which the next mode is faster */
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

/* The bytes of the lower and of the upper k of each int16, widened. */
static __m256i lower_of(__m256i v)
{
    return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
}

static __m256i upper_of(__m256i v)
{
    return _mm256_srai_epi16(v, 8);
}

static __m256i join(__m256i lower, __m256i upper)
{
    return _mm256_or_si256(_mm256_and_si256(lower, _mm256_set1_epi16(0xff)),
                           _mm256_slli_epi16(upper, 8));
}

/* Moves from w to rest what is more than LIMIT; from the first quad as long as it has something. */
static void trim(size_t quads, __m256i *w, __m256i *rest)
{
    const __m256i none = _mm256_setzero_si256(), limit = _mm256_set1_epi16(LIMIT);
    __m256i v[4], moved[4], second = quads > 1 ? w[1] : none;
    __m256i above = _mm256_sub_epi16(above_of(w[0], second), limit);
    __m256i below = _mm256_sub_epi16(_mm256_sub_epi16(none, below_of(w[0], second)), limit);
    above = _mm256_max_epi16(above, none);
    below = _mm256_max_epi16(below, none);
    for (size_t i = 0; i < quads * 2; i++) {
        v[i] = i % 2 == 0 ? lower_of(w[i / 2]) : upper_of(w[i / 2]);
        __m256i less = _mm256_min_epi16(_mm256_max_epi16(v[i], none), above);
        __m256i more = _mm256_max_epi16(_mm256_sub_epi16(none, v[i]), none);
        more = _mm256_min_epi16(more, below);
        above = _mm256_sub_epi16(above, less);
        below = _mm256_sub_epi16(below, more);
        moved[i] = _mm256_sub_epi16(less, more);
        v[i] = _mm256_sub_epi16(v[i], moved[i]);
    }
    for (size_t i = 0; i < quads; i++) {
        w[i] = join(v[2 * i], v[2 * i + 1]);
        rest[i] = join(moved[2 * i], moved[2 * i + 1]);
    }
}

/* Appends what quad q has besides to the extra quads of a block; false = there is no room. */
static bool add_extra(struct packing *s, size_t q, size_t block, __m256i w)
{
    while (!_mm256_testz_si256(w, w)) {
        __m256i part = w;
        size_t i = s->firsts[block + 1];
        if (i == s->most * i8_min(s->p->blocks, (block + 1) * 2)) { /* many show early */
            return false;
        }
        trim(1, &part, &w);
        _mm256_storeu_si256((__m256i *)(s->extras + i * I8_VECTOR), part);
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
    __m256i rest[2];
    if (mode == I8_NIBBLES || (mode == I8_PAIRS && fits(v[0], v[1])) ||
        (mode == I8_SINGLES && fits(v[0], none) && fits(v[1], none))) {
        return true;
    }
    if (mode == I8_PAIRS) {
        trim(2, v, rest);
    } else {
        trim(1, v, rest);
        trim(1, v + 1, rest + 1);
    }
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
        __m256i v = gather(s, p->quads, block);
        sum = _mm256_add_epi32(sum, sums_of(v));
        if (!add_extra(s, p->quads, block, v)) {
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
    s.most = quads / 8 + 2;
    while (!pack_blocks(&s, sums)) { /* NIBBLES have extra quads of tails only: there is room */
        p->mode++;
        s.most = quads / 2 + 2;
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
