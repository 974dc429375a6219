/* npz: a zip archive of npy files (PKWARE APPNOTE 6.3; the parts that NumPy writes).
 *
 * The central directory is the truth; local headers must agree with it. Stored and deflated
 * members, zip64, no encryption, no splitting. Names are labels of arrays and never paths. Thread:
 * any. */
#include <inttypes.h>
#include <string.h>

#include "data/files.h"

enum {
    END_SIZE = 22,
    LOCATOR64_SIZE = 20,
    END64_SIZE = 56,
    CENTRAL_SIZE = 46,
    LOCAL_SIZE = 30,
    MAX_COMMENT = 0xffff,
    MAX_NAME = 1024,
};

struct zip {
    const char *file; /* for messages */
    const unsigned char *bytes;
    size_t n;
    uint64_t entries, directory, directory_bytes;
};

struct member {
    char label[MAX_NAME + 1]; /* the array's name */
    const unsigned char *name;
    size_t name_bytes;
    unsigned flags, method;
    uint32_t crc;
    uint64_t packed, size, offset;
};

static uint64_t le(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;) {
        v = v << 8 | p[i];
    }
    return v;
}

/* Bytes from offset, or NULL when there are not so many. */
static const unsigned char *at(const struct zip *zip, uint64_t offset, uint64_t n)
{
    return offset <= zip->n && n <= zip->n - offset ? zip->bytes + offset : NULL;
}

static int not_zip(const struct zip *zip, const char *why, uint64_t offset, struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_PARSE, "%s: %s at byte %" PRIu64, zip->file, why, offset);
}

/* ── The end of the archive ─────────────────────────────────────────────────────────────────── */

static int find_end64(struct zip *zip, size_t end, struct shr_err *err)
{
    const unsigned char *locator =
        end >= LOCATOR64_SIZE ? at(zip, end - LOCATOR64_SIZE, LOCATOR64_SIZE) : NULL;
    if (locator == NULL || le(locator, 4) != 0x07064b50) {
        return 0; /* the values were just that large */
    }
    uint64_t offset = le(locator + 8, 8);
    const unsigned char *e = at(zip, offset, END64_SIZE);
    if (e == NULL || le(e, 4) != 0x06064b50) {
        return not_zip(zip, "no zip64 end record", offset, err);
    }
    zip->entries = le(e + 32, 8);
    zip->directory_bytes = le(e + 40, 8);
    zip->directory = le(e + 48, 8);
    return 0;
}

static int find_end(struct zip *zip, struct shr_err *err)
{
    size_t lowest = zip->n > END_SIZE + MAX_COMMENT ? zip->n - END_SIZE - MAX_COMMENT : 0;
    for (size_t i = zip->n >= END_SIZE ? zip->n - END_SIZE + 1 : 0; i-- > lowest;) {
        const unsigned char *e = zip->bytes + i;
        if (le(e, 4) != 0x06054b50 || i + END_SIZE + le(e + 20, 2) != zip->n) {
            continue;
        }
        if (le(e + 4, 2) != le(e + 6, 2) || le(e + 8, 2) != le(e + 10, 2)) {
            return shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s: the archive is split", zip->file);
        }
        zip->entries = le(e + 10, 2);
        zip->directory_bytes = le(e + 12, 4);
        zip->directory = le(e + 16, 4);
        if (zip->entries == 0xffff || zip->directory_bytes == 0xffffffff ||
            zip->directory == 0xffffffff) {
            return find_end64(zip, i, err);
        }
        return 0;
    }
    return shr_err_set(err, SHR_ERR_PARSE, "%s: not a zip archive, or cut short: no end record",
                       zip->file);
}

/* ── Members ────────────────────────────────────────────────────────────────────────────────── */

/* Sizes that do not fit 32 bits stand in the extra field 1, in this order, as far as needed. */
static int read_extra64(const struct zip *zip, const unsigned char *extra, size_t n,
                        struct member *m, struct shr_err *err)
{
    uint64_t *const fields[] = {&m->size, &m->packed, &m->offset};
    size_t i = 0;
    while (i + 4 <= n) {
        size_t length = (size_t)le(extra + i + 2, 2);
        const unsigned char *value = extra + i + 4;
        if (length > n - i - 4) {
            break;
        }
        for (size_t f = 0; le(extra + i, 2) == 1 && f < SHR_COUNT_OF(fields); f++) {
            if (*fields[f] == 0xffffffff && length >= 8) {
                *fields[f] = le(value, 8);
                value += 8;
                length -= 8;
            }
        }
        i += 4 + (size_t)le(extra + i + 2, 2);
    }
    if (i != n) {
        return not_zip(zip, "malformed extra field", (uint64_t)(extra - zip->bytes), err);
    }
    return 0;
}

/* Reads the entry at *offset of the central directory and moves *offset behind it. */
static int read_entry(const struct zip *zip, uint64_t *offset, struct member *ret,
                      struct shr_err *err)
{
    const unsigned char *c = at(zip, *offset, CENTRAL_SIZE);
    if (c == NULL || le(c, 4) != 0x02014b50) {
        return not_zip(zip, "no directory entry", *offset, err);
    }
    size_t name = (size_t)le(c + 28, 2);
    size_t extra = (size_t)le(c + 30, 2);
    size_t all = CENTRAL_SIZE + name + extra + (size_t)le(c + 32, 2);
    if (at(zip, *offset, all) == NULL) {
        return not_zip(zip, "cut directory entry", *offset, err);
    }
    struct member m = {.name = c + CENTRAL_SIZE,
                       .name_bytes = name,
                       .flags = (unsigned)le(c + 8, 2),
                       .method = (unsigned)le(c + 10, 2),
                       .crc = (uint32_t)le(c + 16, 4),
                       .packed = le(c + 20, 4),
                       .size = le(c + 24, 4),
                       .offset = le(c + 42, 4)};
    if (name < 5 || name > MAX_NAME || memcmp(m.name + name - 4, ".npy", 4) != 0 ||
        memchr(m.name, 0, name) != NULL) {
        return shr_err_set(err, SHR_ERR_PARSE,
                           "%s: member '%.*s' is not named like an array (x.npy)", zip->file,
                           name > 64 ? 64 : (int)name, (const char *)m.name);
    }
    memcpy(m.label, m.name, name - 4);
    int code = read_extra64(zip, m.name + name, extra, &m, err);
    if (code == 0) {
        *offset += all;
        *ret = m;
    }
    return code;
}

/* The packed bytes of a member, behind its local header, which must agree with the directory. */
static int find_bytes(const struct zip *zip, const struct member *m, const unsigned char **ret,
                      struct shr_err *err)
{
    if ((m->flags & 1u) != 0) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s: is encrypted", m->label);
    }
    if (m->method != 0 && m->method != 8) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s: compression method %u is not supported",
                           m->label, m->method);
    }
    const unsigned char *l = at(zip, m->offset, LOCAL_SIZE);
    if (l == NULL || le(l, 4) != 0x04034b50) {
        return not_zip(zip, "no member", m->offset, err);
    }
    uint64_t start = m->offset + LOCAL_SIZE + le(l + 26, 2) + le(l + 28, 2);
    const unsigned char *name = at(zip, m->offset + LOCAL_SIZE, m->name_bytes);
    if (le(l + 26, 2) != m->name_bytes || name == NULL ||
        memcmp(name, m->name, m->name_bytes) != 0 || le(l + 8, 2) != m->method) {
        return not_zip(zip, "a member that differs from its directory entry", m->offset, err);
    }
    const unsigned char *bytes = at(zip, start, m->packed);
    if (bytes == NULL) {
        return not_zip(zip, "a member that is cut", m->offset, err);
    }
    *ret = bytes;
    return 0;
}

static int read_member(const struct zip *zip, const struct member *m, uint64_t *budget,
                       struct shr_tensor *ret, struct shr_err *err)
{
    const unsigned char *bytes = NULL;
    struct shr_source src;
    struct shr_tensor tensor = {0};
    int code = find_bytes(zip, m, &bytes, err);
    if (code != 0) {
        return code;
    }
    code = shr_source_open(&src, m->label, m->method == 8 ? SHR_CODING_DEFLATE : SHR_CODING_PLAIN,
                           bytes, (size_t)m->packed, err);
    if (code != 0) {
        return code;
    }
    code = shr_npy_read(&src, budget, &tensor, err);
    if (code == 0) {
        code = shr_source_expect_end(&src, err);
    }
    if (code == 0 && (src.out != m->size || src.crc != m->crc)) {
        code = shr_err_set(err, SHR_ERR_PARSE, "%s: the checksum does not match: %08x, not %08x",
                           m->label, (unsigned)src.crc, (unsigned)m->crc);
    }
    shr_source_close(&src);
    if (code != 0) {
        shr_tensor_finish(&tensor);
        return code;
    }
    *ret = tensor;
    return 0;
}

int shr_npz_read(const char *file, const void *bytes, size_t n, uint64_t *budget, shr_npz_fn fn,
                 void *user, struct shr_err *err)
{
    struct zip zip = {.file = file, .bytes = bytes, .n = n};
    int code = find_end(&zip, err);
    if (code == 0 && zip.entries > SHR_NPZ_MAX_ARRAYS) {
        code = shr_err_set(err, SHR_ERR_LIMIT, "%s: %" PRIu64 " arrays, at most %d", file,
                           zip.entries, SHR_NPZ_MAX_ARRAYS);
    }
    uint64_t offset = zip.directory;
    for (uint64_t i = 0; code == 0 && i < zip.entries; i++) {
        struct member m;
        struct shr_tensor tensor;
        code = read_entry(&zip, &offset, &m, err);
        if (code == 0) {
            code = read_member(&zip, &m, budget, &tensor, err);
        }
        if (code == 0) {
            code = fn(user, m.label, tensor, err);
        }
    }
    if (code == 0 && offset - zip.directory != zip.directory_bytes) {
        code = not_zip(&zip, "a directory of another length", zip.directory, err);
    }
    return code;
}
