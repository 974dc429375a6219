/* idx: the format of MNIST and its kin (yann.lecun.com/exdb/mnist). Thread: any. */
#include <inttypes.h>

#include "data/files.h"

static enum shr_dtype dtype_of(unsigned char code)
{
    switch (code) {
    case 0x08:
        return SHR_DTYPE_U8;
    case 0x09:
        return SHR_DTYPE_I8;
    case 0x0b:
        return SHR_DTYPE_I16;
    case 0x0c:
        return SHR_DTYPE_I32;
    case 0x0d:
        return SHR_DTYPE_F32;
    case 0x0e:
        return SHR_DTYPE_F64;
    default:
        return SHR_DTYPE_NONE;
    }
}

int shr_idx_read(struct shr_source *src, uint64_t *budget, struct shr_tensor *ret,
                 struct shr_err *err)
{
    unsigned char head[4];
    int code = shr_source_read(src, head, sizeof head, err);
    if (code != 0) {
        return code;
    }
    enum shr_dtype dtype = dtype_of(head[2]);
    if (head[0] != 0 || head[1] != 0 || dtype == SHR_DTYPE_NONE) {
        return shr_err_set(err, SHR_ERR_PARSE, "%s: not an idx file (begins %02x %02x %02x %02x)",
                           src->name, head[0], head[1], head[2], head[3]);
    }
    int rank = head[3];
    if (rank < 1 || rank > SHR_MAX_RANK) {
        return shr_err_set(err, SHR_ERR_PARSE, "%s: %d dimensions at byte 3, not 1 to %d",
                           src->name, rank, SHR_MAX_RANK);
    }
    int64_t dim[SHR_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        unsigned char b[4];
        code = shr_source_read(src, b, sizeof b, err);
        if (code != 0) {
            return code;
        }
        dim[i] = (int64_t)b[0] << 24 | (int64_t)b[1] << 16 | (int64_t)b[2] << 8 | b[3];
    }
    struct shr_tensor tensor;
    code = shr_array_new(src, dtype, rank, dim, budget, &tensor, err);
    if (code != 0) {
        return code;
    }
    code = shr_array_read(src, true, &tensor, err);
    if (code != 0) {
        shr_tensor_finish(&tensor);
        return code;
    }
    *ret = tensor;
    return 0;
}
