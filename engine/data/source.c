/* Plain and compressed bytes behind one read call; see source.h. */
#include "data/source.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_EXPANSION = 1032 }; /* of deflate: 258 bytes for 2 bits, and no stream does better */

static voidpf z_new(voidpf opaque, uInt n, uInt size)
{
    (void)opaque;
    return shr_mem_new(n, size);
}

static void z_free(voidpf opaque, voidpf p)
{
    (void)opaque;
    shr_mem_free(p);
}

enum shr_coding shr_source_guess(const void *bytes, size_t n)
{
    const unsigned char *b = bytes;
    return n >= 2 && b[0] == 0x1f && b[1] == 0x8b ? SHR_CODING_GZIP : SHR_CODING_PLAIN;
}

int shr_source_open(struct shr_source *src, const char *name, enum shr_coding coding,
                    const void *bytes, size_t n, struct shr_err *err)
{
    *src = (struct shr_source){.name = name, .coding = coding, .in = bytes, .n_in = n};
    if (coding == SHR_CODING_PLAIN) {
        return 0;
    }
    src->z.zalloc = z_new;
    src->z.zfree = z_free;
    int window = coding == SHR_CODING_GZIP ? 15 + 16 : -15;
    if (inflateInit2(&src->z, window) != Z_OK) {
        *src = (struct shr_source){0};
        return shr_err_set(err, SHR_ERR_NOMEM, "%s: out of memory", name);
    }
    return 0;
}

void shr_source_close(struct shr_source *src)
{
    if (src->coding != SHR_CODING_PLAIN) {
        inflateEnd(&src->z);
    }
    *src = (struct shr_source){0};
}

bool shr_source_may_hold(const struct shr_source *src, uint64_t n)
{
    uint64_t left = src->n_in - src->at;
    /* What zlib holds back of an earlier input is less than its window. */
    return src->coding == SHR_CODING_PLAIN ? n <= left : n <= left * MAX_EXPANSION + (1u << 15);
}

static int truncated(const struct shr_source *src, size_t missing, struct shr_err *err)
{
    const char *what = src->coding == SHR_CODING_PLAIN     ? ""
                       : src->coding == SHR_CODING_DEFLATE ? " of the deflate stream"
                                                           : " of the gzip stream";
    return shr_err_set(err, SHR_ERR_PARSE, "%s: ends at byte %zu%s and needs %zu more", src->name,
                       src->n_in, what, missing);
}

static int damaged(const struct shr_source *src, struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_PARSE, "%s: damaged at byte %zu of the %s stream: %s",
                       src->name, src->at, src->coding == SHR_CODING_GZIP ? "gzip" : "deflate",
                       src->z.msg != NULL ? src->z.msg : "not valid");
}

/* One call of inflate: up to n bytes into out, and *ret_n says how many. */
static int inflate_some(struct shr_source *src, void *out, size_t n, size_t *ret_n,
                        struct shr_err *err)
{
    enum { PIECE = 1 << 30 }; /* zlib counts in unsigned int */
    size_t n_in = src->n_in - src->at;
    src->z.next_in = src->in + src->at;
    src->z.avail_in = (uInt)(n_in < PIECE ? n_in : PIECE);
    src->z.next_out = out;
    src->z.avail_out = (uInt)(n < PIECE ? n : PIECE);
    uInt in_before = src->z.avail_in;
    uInt out_before = src->z.avail_out;
    int rc = inflate(&src->z, Z_NO_FLUSH);
    src->at += in_before - src->z.avail_in;
    *ret_n = out_before - src->z.avail_out;
    if (rc == Z_STREAM_END) {
        src->z_ended = true;
        return 0;
    }
    if (rc == Z_MEM_ERROR) {
        return shr_err_set(err, SHR_ERR_NOMEM, "%s: out of memory", src->name);
    }
    if (rc == Z_BUF_ERROR || rc == Z_OK) { /* BUF_ERROR: no progress, so the input is at its end */
        return rc == Z_BUF_ERROR && src->at == src->n_in ? truncated(src, n - *ret_n, err) : 0;
    }
    return damaged(src, err);
}

/* Behind a gzip member another may follow. */
static int next_member(struct shr_source *src, struct shr_err *err)
{
    if (src->coding != SHR_CODING_GZIP ||
        shr_source_guess(src->in + src->at, src->n_in - src->at) != SHR_CODING_GZIP) {
        return 0;
    }
    if (inflateReset(&src->z) != Z_OK) {
        return damaged(src, err);
    }
    src->z_ended = false;
    return 0;
}

static int read_compressed(struct shr_source *src, unsigned char *out, size_t n,
                           struct shr_err *err)
{
    while (n > 0) {
        size_t got = 0;
        int code = src->z_ended ? next_member(src, err) : 0;
        if (code == 0 && src->z_ended) {
            code = truncated(src, n, err);
        }
        if (code == 0) {
            code = inflate_some(src, out, n, &got, err);
        }
        if (code != 0) {
            return code;
        }
        out += got;
        n -= got;
    }
    return 0;
}

int shr_source_read(struct shr_source *src, void *out, size_t n, struct shr_err *err)
{
    int code = 0;
    if (src->coding != SHR_CODING_PLAIN) {
        code = read_compressed(src, out, n, err);
    } else if (n > src->n_in - src->at) {
        code = truncated(src, n - (src->n_in - src->at), err);
    } else {
        memcpy(out, src->in + src->at, n);
        src->at += n;
    }
    if (code == 0) {
        src->out += n;
        src->crc = (uint32_t)crc32_z(src->crc, out, n);
    }
    return code;
}

int shr_source_expect_end(struct shr_source *src, struct shr_err *err)
{
    unsigned char extra;
    size_t got = 0;
    while (src->coding != SHR_CODING_PLAIN && got == 0) {
        int code = src->z_ended ? next_member(src, err) : 0;
        if (code != 0) {
            return code;
        }
        if (src->z_ended) {
            break;
        }
        code = inflate_some(src, &extra, 1, &got, err);
        if (code != 0) {
            return code;
        }
    }
    if (got != 0) {
        return shr_err_set(err, SHR_ERR_PARSE,
                           "%s: has more than the %" PRIu64 " bytes that its header tells of",
                           src->name, src->out);
    }
    if (src->at != src->n_in) {
        return shr_err_set(err, SHR_ERR_PARSE, "%s: %zu bytes too many at byte %zu", src->name,
                           src->n_in - src->at, src->at);
    }
    return 0;
}
