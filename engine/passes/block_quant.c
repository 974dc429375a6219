/* Quantization by blocks; see block_quant.h. A block's range gives a first scale; the search tries
 * narrower ones, which clip the ends and are finer in between, and then fits the scale to the
 * integers that were chosen, by least squares. */
#include "passes/block_quant.h"

#include <math.h>
#include <string.h>

enum { MOST_BLOCK = 256 };        /* elements */
enum { STEPS = 14 };              /* narrower ranges that the search tries */
static const double step = 0.035; /* of the range, each */

struct params {
    float scale;
    int zero;
};

static int to_integer(float x, struct params p, int top)
{
    const float q = rintf(x / p.scale) + (float)p.zero;
    return q < 0 ? 0 : q > (float)top ? top : (int)q;
}

/* The squared error of a block; the integers go to q. */
static double try(const float *w, int64_t n, struct params p, int top, uint8_t *q)
{
    double error = 0;
    for (int64_t i = 0; i < n; i++) {
        const int v = to_integer(w[i], p, top);
        const double e = (double)w[i] - (double)((float)(v - p.zero) * p.scale);
        error += e * e;
        q[i] = (uint8_t)v;
    }
    return error;
}

/* The range of a block, of which only a part is covered; the end that is larger in a symmetric
 * block becomes the integer of which there is one more on its side, hence a negative scale. */
static struct params params_of(const float *w, int64_t n, const struct shr_block_how *how,
                               double part)
{
    const int half = 1 << (how->bits - 1), top = 2 * half - 1;
    double low = 0, high = 0;
    for (int64_t i = 0; i < n; i++) {
        low = (double)w[i] < low ? (double)w[i] : low;
        high = (double)w[i] > high ? (double)w[i] : high;
    }
    low *= part;
    high *= part;
    struct params p = {.zero = half};
    if (how->symmetric) {
        p.scale = (float)((-low > high ? low : high) / -half);
    } else {
        p.scale = (float)((high - low) / top);
    }
    if (!isnormal(p.scale)) {
        return (struct params){1, how->symmetric ? half : 0};
    }
    if (!how->symmetric) {
        const double zero = rint(-low / (double)p.scale);
        p.zero = zero > top ? top : (int)zero;
    }
    return p;
}

/* The scale with the least squared error for these integers; that of p when there is none. */
static struct params fit(const float *w, int64_t n, const uint8_t *q, struct params p)
{
    double top = 0, bottom = 0;
    for (int64_t i = 0; i < n; i++) {
        const double v = (double)(q[i] - p.zero);
        top += v * (double)w[i];
        bottom += v * v;
    }
    const float scale = bottom > 0 ? (float)(top / bottom) : 0;
    return (struct params){isnormal(scale) ? scale : p.scale, p.zero};
}

struct block { /* the best that was found */
    const float *w;
    int64_t n;
    int top; /* the largest integer */
    struct params params;
    double error;
    uint8_t q[MOST_BLOCK];
};

static void consider(struct block *b, struct params p)
{
    uint8_t q[MOST_BLOCK];
    const double error = try(b->w, b->n, p, b->top, q);
    if (error < b->error) {
        b->error = error;
        b->params = p;
        memcpy(b->q, q, (size_t)b->n);
    }
}

static void quantize_block(struct block *b, const struct shr_block_how *how)
{
    b->error = (double)INFINITY;
    consider(b, params_of(b->w, b->n, how, 1));
    for (int i = 1; how->search && i <= STEPS && b->error > 0; i++) {
        consider(b, params_of(b->w, b->n, how, 1 - step * i));
    }
    if (how->search && b->error > 0) {
        consider(b, fit(b->w, b->n, b->q, b->params));
    }
}

static void put(uint8_t *bytes, int64_t i, int bits, unsigned v)
{
    const int64_t each = 8 / bits;
    bytes[i / each] = (uint8_t)(bytes[i / each] | v << (i % each * bits));
}

static int make_room(const struct shr_tensor *w, const struct shr_block_how *how,
                     struct shr_block_weight *ret, struct shr_err *err)
{
    const int64_t rows = w->dim[0], blocks = (w->dim[1] + how->block - 1) / how->block;
    int code = shr_tensor_new(SHR_DTYPE_U8, 3,
                              (int64_t[]){rows, blocks, how->block * how->bits / 8}, &ret->q, err);
    if (code == SHR_OK) {
        code = shr_tensor_new(SHR_DTYPE_F32, 2, (int64_t[]){rows, blocks}, &ret->scale, err);
    }
    if (code == SHR_OK && !how->symmetric) {
        code = shr_tensor_new(SHR_DTYPE_U8, 2, (int64_t[]){rows, (blocks * how->bits + 7) / 8},
                              &ret->zero, err);
    }
    return code;
}

/* Block b of a row, packed, with what it takes to read it. */
static void store(const struct block *found, const struct shr_block_how *how, int64_t row,
                  int64_t b, struct shr_block_weight *ret)
{
    const int64_t blocks = ret->q.dim[1], i = row * blocks + b;
    uint8_t *bytes = (uint8_t *)ret->q.data + i * ret->q.dim[2];
    for (int64_t j = 0; j < how->block; j++) {
        put(bytes, j, how->bits, j < found->n ? found->q[j] : (unsigned)found->params.zero);
    }
    ((float *)ret->scale.data)[i] = found->params.scale;
    if (!how->symmetric) {
        put((uint8_t *)ret->zero.data + row * ret->zero.dim[1], b, how->bits,
            (unsigned)found->params.zero);
    }
}

static int quantize_rows(const struct shr_tensor *w, const struct shr_block_how *how,
                         const struct shr_ctx *ctx, struct shr_block_weight *ret,
                         struct shr_err *err)
{
    const int64_t k = w->dim[1];
    double power = 0, error = 0;
    for (int64_t row = 0; row < w->dim[0]; row++) {
        const float *x = (const float *)w->data + row * k;
        int code = shr_ctx_poll(ctx, err);
        if (code != SHR_OK) {
            return code;
        }
        for (int64_t from = 0; from < k; from += how->block) {
            struct block b = {.w = x + from,
                              .n = k - from < how->block ? k - from : how->block,
                              .top = (1 << how->bits) - 1};
            quantize_block(&b, how);
            store(&b, how, row, from / how->block, ret);
            error += b.error;
        }
        for (int64_t i = 0; i < k; i++) {
            power += (double)x[i] * (double)x[i];
        }
    }
    ret->sqnr_db = error > 0 ? 10 * log10(power / error) : (double)INFINITY;
    return SHR_OK;
}

int shr_block_quantize(const struct shr_tensor *w, const struct shr_block_how *how,
                       const struct shr_ctx *ctx, struct shr_block_weight *ret, struct shr_err *err)
{
    struct shr_block_weight made = {0};
    int code = how->block > MOST_BLOCK
                   ? shr_err_set(err, SHR_ERR_LIMIT, "a block has at most %d weights", MOST_BLOCK)
                   : make_room(w, how, &made, err);
    if (code == SHR_OK) {
        code = quantize_rows(w, how, ctx, &made, err);
    }
    if (code == SHR_OK) {
        *ret = made;
    } else {
        shr_block_weight_finish(&made);
    }
    return code;
}

void shr_block_weight_finish(struct shr_block_weight *weight)
{
    shr_tensor_finish(&weight->q);
    shr_tensor_finish(&weight->scale);
    shr_tensor_finish(&weight->zero);
}
