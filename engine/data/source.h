/* Where an array's bytes come from: memory, or memory through zlib.
 *
 * Reads are exact: too few bytes is an error that names the source and the byte. Compressed bytes
 * are never expanded beyond what is asked for. Thread: one at a time. */
#ifndef SHR_DATA_SOURCE_H
#define SHR_DATA_SOURCE_H

#define ZLIB_CONST /* input that zlib promises not to change */
#include <zlib.h>

#include "shrink.h"

enum shr_coding {
    SHR_CODING_PLAIN,
    SHR_CODING_DEFLATE, /* raw, as in zip */
    SHR_CODING_GZIP,    /* one or more members */
};

struct shr_source {   /* all zero = closed */
    const char *name; /* borrowed, for messages */
    enum shr_coding coding;
    const unsigned char *in; /* borrowed */
    size_t n_in;
    size_t at;    /* bytes of in that are used up */
    uint64_t out; /* bytes that were read */
    uint32_t crc; /* CRC-32 of them */
    z_stream z;
    bool z_ended; /* the compressed stream told its end */
};

/* The bytes must outlive the source. */
int shr_source_open(struct shr_source *src, const char *name, enum shr_coding coding,
                    const void *bytes, size_t n, struct shr_err *err) SHR_MUSTCHECK;
/* gzip when the bytes begin like it, else plain. */
enum shr_coding shr_source_guess(const void *bytes, size_t n);
int shr_source_read(struct shr_source *src, void *out, size_t n, struct shr_err *err) SHR_MUSTCHECK;
/* Could there be n more bytes? Tells an absurd length before memory is taken for it. */
bool shr_source_may_hold(const struct shr_source *src, uint64_t n);
/* Nothing may be left; also reads the checksum behind compressed bytes. */
int shr_source_expect_end(struct shr_source *src, struct shr_err *err) SHR_MUSTCHECK;
void shr_source_close(struct shr_source *src);

#endif
