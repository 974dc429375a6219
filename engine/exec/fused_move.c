/* Steps at the borders of integer chains: Flip, layouts, Quantize and Dequantize; see fuse.h. */
#include <string.h>

#include "exec/fused.h"

/* An image tensor as batch, channels and pixels. */
struct image {
    size_t n, c, hw;
};

static struct image image_of(const struct shr_tensor *nchw)
{
    struct image image = {1, 1, 1};
    image.n = nchw->rank > 0 ? (size_t)nchw->dim[0] : 1;
    image.c = nchw->rank > 1 ? (size_t)nchw->dim[1] : 1;
    for (int d = 2; d < nchw->rank; d++) {
        image.hw *= (size_t)nchw->dim[d];
    }
    return image;
}

static int flip_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    c->kernels->flip_u8((size_t)shr_tensor_count(c->in[0]), c->in[0]->data, c->out[0]->data);
    return SHR_OK;
}

/* x (rows, cols) to y (cols, rows), of elements of any size. */
static void transpose_any(size_t size, size_t rows, size_t cols, const char *x, char *y)
{
    for (size_t c = 0; c < cols; c++) {
        for (size_t r = 0; r < rows; r++, y += size) {
            memcpy(y, x + (r * cols + c) * size, size);
        }
    }
}

static void transpose(const struct shr_op_call *c, size_t n, size_t rows, size_t cols)
{
    size_t size = shr_dtype_size(c->in[0]->dtype);
    for (size_t i = 0; i < n; i++) {
        const void *x = (const char *)c->in[0]->data + i * rows * cols * size;
        void *y = (char *)c->out[0]->data + i * rows * cols * size;
        if (size == sizeof(float)) {
            c->kernels->transpose_f32(rows, cols, x, y);
        } else if (size == 1) {
            c->kernels->transpose_u8(rows, cols, x, y);
        } else {
            transpose_any(size, rows, cols, x, y);
        }
    }
}

static int to_nhwc_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct image image = image_of(c->in[0]);
    transpose(c, image.n, image.c, image.hw);
    return SHR_OK;
}

static int from_nhwc_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct image image = image_of(c->out[0]);
    transpose(c, image.n, image.hw, image.c);
    return SHR_OK;
}

/* ── Channels of groups in turn ─────────────────────────────────────────────────────────────── */

/* x (groups, n) to y (n, groups) */
static void interleave_f32(size_t groups, size_t n, const uint32_t *x, uint32_t *y)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < groups; k++) {
            y[i * groups + k] = x[k * n + i];
        }
    }
}

static int shuffle_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    const bool nhwc = shr_node_int(c->node, "nhwc", 0) != 0;
    const size_t all = (size_t)shr_tensor_count(x), size = shr_dtype_size(x->dtype);
    const size_t channels = (size_t)x->dim[nhwc ? x->rank - 1 : 1];
    const size_t groups = (size_t)shr_node_int(c->node, "groups", 1), n = channels / groups;
    size_t inner = 1; /* elements of a channel that lie together */
    for (int d = 2; d < x->rank && !nhwc; d++) {
        inner *= (size_t)x->dim[d];
    }
    const size_t block = channels * inner, bytes = inner * size;
    for (size_t at = 0; at < all; at += block) {
        const char *from = (const char *)x->data + at * size;
        char *to = (char *)c->out[0]->data + at * size;
        if (bytes == sizeof(uint32_t)) {
            interleave_f32(groups, n, (const void *)from, (void *)to);
            continue;
        }
        for (size_t i = 0; i < channels; i++) {
            memcpy(to + i * bytes, from + (i % groups * n + i / groups) * bytes, bytes);
        }
    }
    return SHR_OK;
}

const struct shr_op shr__fused_shuffle = {SHR__FUSED_ROW("ShuffleChannels"),
                                          .forward = shuffle_forward};

/* ── Quantize and Dequantize ────────────────────────────────────────────────────────────────── */

struct scaling {
    float scale;
    int32_t zero;
    bool nhwc;
};

static int scaling_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct scaling *s = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *s, &s, err);
    if (rc != 0) {
        return rc;
    }
    s->scale = shr__fused_scale(c->in[1]);
    s->zero = shr__fused_zero(c->in[2], shr_node_int(c->node, "flip", 0) != 0);
    s->nhwc = shr_node_int(c->node, "nhwc", 0) != 0;
    c->state = s;
    return SHR_OK;
}

static int quantize_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct scaling *s = c->state;
    const float *x = c->in[0]->data;
    uint8_t *q = c->out[0]->data;
    if (!s->nhwc) {
        c->kernels->quantize_u8((size_t)shr_tensor_count(c->in[0]), x, s->scale, s->zero, q);
        return SHR_OK;
    }
    struct image image = image_of(c->in[0]);
    for (size_t i = 0; i < image.n; i++) {
        size_t at = i * image.c * image.hw;
        c->kernels->quantize_u8_nhwc(image.c, image.hw, x + at, s->scale, s->zero, q + at);
    }
    return SHR_OK;
}

static int dequantize_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct scaling *s = c->state;
    const uint8_t *q = c->in[0]->data;
    float *x = c->out[0]->data;
    if (!s->nhwc) {
        c->kernels->dequantize_u8((size_t)shr_tensor_count(c->in[0]), q, s->scale, s->zero, x);
        return SHR_OK;
    }
    struct image image = image_of(c->out[0]);
    for (size_t i = 0; i < image.n; i++) {
        size_t at = i * image.c * image.hw;
        c->kernels->dequantize_u8_nchw(image.c, image.hw, q + at, s->scale, s->zero, x + at);
    }
    return SHR_OK;
}

const struct shr_op shr__fused_flip = {SHR__FUSED_ROW("Flip"), .forward = flip_forward,
                                       .in_place = true};
const struct shr_op shr__fused_to_nhwc = {SHR__FUSED_ROW("ToNhwc"), .forward = to_nhwc_forward};
const struct shr_op shr__fused_from_nhwc = {SHR__FUSED_ROW("FromNhwc"),
                                            .forward = from_nhwc_forward};
const struct shr_op shr__fused_quantize = {SHR__FUSED_ROW("Quantize"), .setup = scaling_setup,
                                           .forward = quantize_forward};
const struct shr_op shr__fused_dequantize = {SHR__FUSED_ROW("Dequantize"), .setup = scaling_setup,
                                             .forward = dequantize_forward};
