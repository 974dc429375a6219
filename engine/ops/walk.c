/* Walks over strided operands (util.h): merging of dims, odometer, strided copies.
 *
 * Invariant: the output is dense, so its offset grows by a row from each row to the next. */
#include "ops/util.h"

#include <string.h>

void shr_dense_strides(int rank, const int64_t *dim, int64_t *ret)
{
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
        ret[i] = step;
        step *= dim[i];
    }
}

void shr_broadcast_strides(const struct shr_tensor *x, int rank, int64_t *ret)
{
    int64_t own[SHR_MAX_RANK];
    shr_dense_strides(x->rank, x->dim, own);
    int skip = rank - x->rank;
    for (int i = 0; i < rank; i++) {
        ret[i] = i < skip || x->dim[i - skip] == 1 ? 0 : own[i - skip];
    }
}

/* May dim i be merged into the kept dim j before it: every operand steps evenly over both? */
static bool mergeable(const struct shr_walk *w, int j, int64_t n,
                      const int64_t (*stride)[SHR_MAX_RANK], int i)
{
    for (int k = 0; k < w->n; k++) {
        if (w->stride[k][j] != stride[k][i] * n) {
            return false;
        }
    }
    return true;
}

void shr_walk_init(struct shr_walk *w, int rank, const int64_t *dim, int n,
                   const int64_t (*stride)[SHR_MAX_RANK])
{
    *w = (struct shr_walk){.n = n};
    int kept = 0;
    for (int i = 0; i < rank; i++) {
        if (dim[i] == 1) {
            continue;
        }
        bool merge = kept > 0 && mergeable(w, kept - 1, dim[i], stride, i);
        int j = merge ? kept - 1 : kept++;
        w->dim[j] = merge ? w->dim[j] * dim[i] : dim[i];
        for (int k = 0; k < n; k++) {
            w->stride[k][j] = stride[k][i];
        }
    }
    w->inner = 1;
    if (kept > 0) { /* the last dim is the row */
        kept--;
        w->inner = w->dim[kept];
        for (int k = 0; k < n; k++) {
            w->step[k] = w->stride[k][kept];
        }
    }
    w->rank = kept;
}

void shr_walk_broadcast(struct shr_walk *w, int rank, const int64_t *dim, int n,
                        const struct shr_tensor *const *x)
{
    int64_t stride[SHR_WALK_MAX][SHR_MAX_RANK];
    for (int k = 0; k < n; k++) {
        shr_broadcast_strides(x[k], rank, stride[k]);
    }
    shr_walk_init(w, rank, dim, n, (const int64_t(*)[SHR_MAX_RANK])stride);
}

bool shr_walk_begin(struct shr_walk *w)
{
    memset(w->index, 0, sizeof w->index);
    memset(w->at, 0, sizeof w->at);
    w->out = 0;
    return w->inner > 0 && shr_dims_product(w->dim, 0, w->rank) > 0;
}

bool shr_walk_next(struct shr_walk *w)
{
    w->out += w->inner;
    for (int i = w->rank - 1; i >= 0; i--) {
        for (int k = 0; k < w->n; k++) {
            w->at[k] += w->stride[k][i];
        }
        if (++w->index[i] < w->dim[i]) {
            return true;
        }
        for (int k = 0; k < w->n; k++) {
            w->at[k] -= w->stride[k][i] * w->dim[i];
        }
        w->index[i] = 0;
    }
    return false;
}

#define COPY_ROW(type)                                                                             \
    do {                                                                                           \
        const type *from = (const type *)x + at;                                                   \
        type *to = (type *)y + out;                                                                \
        for (int64_t i = 0; i < n; i++) {                                                          \
            to[i] = from[i * step];                                                                \
        }                                                                                          \
    } while (0)

static void copy_row(size_t size, int64_t n, const void *x, int64_t at, int64_t step, void *y,
                     int64_t out)
{
    if (step == 1) {
        memcpy((char *)y + (size_t)out * size, (const char *)x + at * (int64_t)size,
               (size_t)n * size);
    } else if (size == 1) {
        COPY_ROW(uint8_t);
    } else if (size == 2) {
        COPY_ROW(uint16_t);
    } else if (size == 4) {
        COPY_ROW(uint32_t);
    } else {
        COPY_ROW(uint64_t);
    }
}

void shr_copy_strided(size_t size, int rank, const int64_t *dim, const int64_t *stride,
                      const void *x, void *y)
{
    int64_t one[1][SHR_MAX_RANK];
    memcpy(one[0], stride, (size_t)rank * sizeof *stride);
    struct shr_walk w;
    shr_walk_init(&w, rank, dim, 1, (const int64_t(*)[SHR_MAX_RANK])one);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        copy_row(size, w.inner, x, w.at[0], w.step[0], y, w.out);
    }
}

void shr_copy_same(const struct shr_tensor *x, struct shr_tensor *y)
{
    if (x->data != y->data && shr_tensor_bytes(x) > 0) {
        memmove(y->data, x->data, shr_tensor_bytes(x));
    }
}
