/* npy: the array files of NumPy (numpy.lib.format), versions 1 to 3.
 *
 * The header is a Python dict literal; only the three keys that the format defines are understood,
 * in any order, and nothing is evaluated. Thread: any. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "data/files.h"

enum { MAX_HEADER = 1 << 16 };

/* ── Elements ───────────────────────────────────────────────────────────────────────────────── */

int shr_array_new(const struct shr_source *src, enum shr_dtype dtype, int rank, const int64_t *dim,
                  uint64_t *budget, struct shr_tensor *ret, struct shr_err *err)
{
    char shape[160];
    int64_t count;
    size_t bytes;
    shr_dims_text(rank, dim, shape, sizeof shape);
    if (!shr_dims_count(rank, dim, &count) ||
        !shr_size_mul((size_t)count, shr_dtype_size(dtype), &bytes)) {
        return shr_err_set(err, SHR_ERR_LIMIT, "%s: shape %s overflows", src->name, shape);
    }
    if (!shr_source_may_hold(src, bytes)) {
        if (src->coding == SHR_CODING_PLAIN) {
            return shr_err_set(err, SHR_ERR_PARSE,
                               "%s: shape %s needs %zu bytes from byte %zu on, %zu are there",
                               src->name, shape, bytes, src->at, src->n_in - src->at);
        }
        return shr_err_set(
            err, SHR_ERR_PARSE,
            "%s: shape %s needs %zu bytes, more than the %zu compressed ones can hold", src->name,
            shape, bytes, src->n_in);
    }
    if (bytes > *budget) {
        return shr_err_set(err, SHR_ERR_LIMIT,
                           "%s: shape %s needs %zu bytes, %" PRIu64 " are left of the limit",
                           src->name, shape, bytes, *budget);
    }
    int code = shr_tensor_new(dtype, rank, dim, ret, err);
    if (code != 0) {
        return shr_err_prefix(err, "%s: ", src->name);
    }
    *budget -= bytes;
    return 0;
}

static void swap_elements(unsigned char *bytes, size_t n, size_t size)
{
    for (size_t at = 0; at < n; at += size) {
        for (size_t i = 0; i < size / 2; i++) {
            unsigned char b = bytes[at + i];
            bytes[at + i] = bytes[at + size - 1 - i];
            bytes[at + size - 1 - i] = b;
        }
    }
}

int shr_array_read(struct shr_source *src, bool big_endian, struct shr_tensor *tensor,
                   struct shr_err *err)
{
    size_t bytes = shr_tensor_bytes(tensor);
    int code = shr_source_read(src, tensor->data, bytes, err);
    size_t size = shr_dtype_size(tensor->dtype);
    if (code == 0 && big_endian && size > 1) {
        swap_elements(tensor->data, bytes, size);
    }
    if (code == 0 && tensor->dtype == SHR_DTYPE_BOOL) {
        unsigned char *b = tensor->data;
        for (size_t i = 0; i < bytes; i++) {
            b[i] = b[i] != 0;
        }
    }
    return code;
}

/* ── The header ─────────────────────────────────────────────────────────────────────────────── */

struct header {
    const char *name; /* of the source */
    const char *text; /* ends with a 0 byte */
    size_t at, base;  /* base: where the text begins in the file */
    char descr[16];
    bool big_endian, fortran;
    enum shr_dtype dtype;
    int rank;
    int64_t dim[SHR_MAX_RANK];
};

static int malformed(const struct header *h, const char *expected, struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_PARSE, "%s: malformed npy header at byte %zu: expected %s",
                       h->name, h->base + h->at, expected);
}

static void skip_blanks(struct header *h)
{
    h->at += strspn(h->text + h->at, " \t\r\n");
}

/* Takes the character if it is next. */
static bool take(struct header *h, char c)
{
    skip_blanks(h);
    if (h->text[h->at] != c) {
        return false;
    }
    h->at++;
    return true;
}

static bool take_word(struct header *h, const char *word)
{
    skip_blanks(h);
    size_t n = strlen(word);
    if (strncmp(h->text + h->at, word, n) != 0) {
        return false;
    }
    h->at += n;
    return true;
}

static int take_string(struct header *h, char *out, size_t size, struct shr_err *err)
{
    char quote = take(h, '\'') ? '\'' : take(h, '"') ? '"' : 0;
    if (quote == 0) {
        return malformed(h, "a string", err);
    }
    const char *from = h->text + h->at;
    const char *end = strchr(from, quote);
    if (end == NULL || (size_t)(end - from) >= size || memchr(from, '\\', (size_t)(end - from))) {
        return malformed(h, "a short string without escapes", err);
    }
    memcpy(out, from, (size_t)(end - from));
    out[end - from] = 0;
    h->at += (size_t)(end - from) + 1;
    return 0;
}

static int take_dim(struct header *h, int64_t *ret, struct shr_err *err)
{
    skip_blanks(h);
    int64_t value = 0;
    size_t digits = strspn(h->text + h->at, "0123456789");
    if (digits == 0 || digits > 18) {
        return malformed(h, "a dimension", err);
    }
    for (size_t i = 0; i < digits; i++) {
        value = value * 10 + (h->text[h->at + i] - '0');
    }
    h->at += digits;
    *ret = value;
    return 0;
}

static int take_shape(struct header *h, struct shr_err *err)
{
    if (!take(h, '(')) {
        return malformed(h, "a tuple", err);
    }
    h->rank = 0;
    while (!take(h, ')')) {
        if (h->rank == SHR_MAX_RANK) {
            return shr_err_set(err, SHR_ERR_LIMIT, "%s: more than %d dimensions", h->name,
                               SHR_MAX_RANK);
        }
        int code = take_dim(h, &h->dim[h->rank], err);
        if (code != 0) {
            return code;
        }
        h->rank++;
        if (!take(h, ',') && h->text[h->at] != ')') {
            return malformed(h, "',' or ')'", err);
        }
    }
    return 0;
}

struct npy_type {
    const char *descr; /* behind the byte order */
    enum shr_dtype dtype;
};

static const struct npy_type npy_types[] = {
    {"f4", SHR_DTYPE_F32}, {"f8", SHR_DTYPE_F64}, {"f2", SHR_DTYPE_F16}, {"u1", SHR_DTYPE_U8},
    {"i1", SHR_DTYPE_I8},  {"u2", SHR_DTYPE_U16}, {"i2", SHR_DTYPE_I16}, {"u4", SHR_DTYPE_U32},
    {"i4", SHR_DTYPE_I32}, {"u8", SHR_DTYPE_U64}, {"i8", SHR_DTYPE_I64}, {"b1", SHR_DTYPE_BOOL},
};

const char *shr_npy_descr(enum shr_dtype dtype)
{
    for (size_t i = 0; i < SHR_COUNT_OF(npy_types); i++) {
        if (npy_types[i].dtype == dtype) {
            return npy_types[i].descr;
        }
    }
    return NULL;
}

static int take_descr(struct header *h, struct shr_err *err)
{
    skip_blanks(h);
    if (h->text[h->at] == '[') {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s: structured arrays are not supported",
                           h->name);
    }
    int code = take_string(h, h->descr, sizeof h->descr, err);
    if (code != 0) {
        return code;
    }
    char order = h->descr[0];
    for (size_t i = 0; i < SHR_COUNT_OF(npy_types); i++) {
        if (order != 0 && strchr("<>|=", order) != NULL &&
            strcmp(h->descr + 1, npy_types[i].descr) == 0) {
            h->dtype = npy_types[i].dtype;
            h->big_endian = order == '>';
            return 0;
        }
    }
    return shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s: arrays of type '%s' are not supported",
                       h->name, h->descr);
}

static int take_entry(struct header *h, unsigned *seen, struct shr_err *err)
{
    char key[16];
    int code = take_string(h, key, sizeof key, err);
    if (code != 0) {
        return code;
    }
    if (!take(h, ':')) {
        return malformed(h, "':'", err);
    }
    if (strcmp(key, "descr") == 0) {
        *seen |= 1u;
        return take_descr(h, err);
    }
    if (strcmp(key, "shape") == 0) {
        *seen |= 2u;
        return take_shape(h, err);
    }
    if (strcmp(key, "fortran_order") == 0) {
        *seen |= 4u;
        h->fortran = take_word(h, "True");
        return h->fortran || take_word(h, "False") ? 0 : malformed(h, "True or False", err);
    }
    return malformed(h, "one of descr, fortran_order, shape", err);
}

static int parse_header(struct header *h, struct shr_err *err)
{
    unsigned seen = 0;
    if (!take(h, '{')) {
        return malformed(h, "'{'", err);
    }
    while (!take(h, '}')) {
        int code = take_entry(h, &seen, err);
        if (code != 0) {
            return code;
        }
        if (!take(h, ',') && h->text[h->at] != '}') {
            return malformed(h, "',' or '}'", err);
        }
    }
    skip_blanks(h);
    if (h->text[h->at] != 0) {
        return malformed(h, "the end", err);
    }
    if (seen != 7u) {
        return malformed(h, "descr, fortran_order and shape", err);
    }
    if (h->fortran && h->rank > 1) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "%s: is in Fortran order; save it with numpy.ascontiguousarray",
                           h->name);
    }
    return 0;
}

static int read_header_text(struct shr_source *src, struct shr_arena *arena, struct header *h,
                            struct shr_err *err)
{
    unsigned char head[8];
    unsigned char length[4] = {0};
    int code = shr_source_read(src, head, sizeof head, err);
    if (code != 0) {
        return code;
    }
    if (memcmp(head, "\x93NUMPY", 6) != 0) {
        return shr_err_set(err, SHR_ERR_PARSE, "%s: not an npy file", src->name);
    }
    if (head[6] < 1 || head[6] > 3) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s: npy version %d.%d is not supported",
                           src->name, head[6], head[7]);
    }
    code = shr_source_read(src, length, head[6] == 1 ? 2 : 4, err);
    if (code != 0) {
        return code;
    }
    size_t n =
        (size_t)length[3] << 24 | (size_t)length[2] << 16 | (size_t)length[1] << 8 | length[0];
    if (n > MAX_HEADER) {
        return shr_err_set(err, SHR_ERR_LIMIT, "%s: npy header of %zu bytes, at most %d", src->name,
                           n, MAX_HEADER);
    }
    char *text = shr_arena_new(arena, n + 1, 1);
    if (text == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "%s: out of memory", src->name);
    }
    *h = (struct header){.name = src->name, .text = text, .base = (size_t)src->out};
    code = shr_source_read(src, text, n, err);
    if (code == 0 && memchr(text, 0, n) != NULL) {
        h->at = strlen(text);
        code = malformed(h, "text", err);
    }
    return code;
}

int shr_npy_read(struct shr_source *src, uint64_t *budget, struct shr_tensor *ret,
                 struct shr_err *err)
{
    struct shr_arena arena = {0};
    struct header h = {0};
    struct shr_tensor tensor = {0};
    int code = read_header_text(src, &arena, &h, err);
    if (code == 0) {
        code = parse_header(&h, err);
    }
    if (code == 0) {
        code = shr_array_new(src, h.dtype, h.rank, h.dim, budget, &tensor, err);
    }
    if (code == 0) {
        code = shr_array_read(src, h.big_endian, &tensor, err);
        if (code == 0) {
            *ret = tensor;
        } else {
            shr_tensor_finish(&tensor);
        }
    }
    shr_arena_finish(&arena);
    return code;
}
