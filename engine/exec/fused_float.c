/* What fused float steps share: windows of NHWC images, and weights with a scale a channel. */
#include <string.h>

#include "exec/fused.h"

int shr__fused_window(const struct shr_op_setup *c, const int64_t *kernel, struct shr_window *ret,
                      struct shr_err *err)
{
    const struct shr_tensor *x = c->in[0];
    struct shr_type nchw = {.dtype = x->dtype, .rank = x->rank};
    for (int d = 0; d < x->rank; d++) {
        nchw.dim[d] = x->dim[shr__nhwc_axis(x->rank, d)];
    }
    return shr_window_init(ret, c->node, &nchw, kernel, err);
}

static const float *data_of(const struct shr_op_setup *c, size_t slot)
{
    return c->in[slot] == NULL ? NULL : c->in[slot]->data;
}

int shr__fused_rescale(const struct shr_op_setup *c, int64_t n, int64_t inner, float **ret_w,
                       const float **ret_bias, struct shr_err *err)
{
    const float *bias = data_of(c, SHR__F_BIAS), *scale = data_of(c, SHR__F_SCALE);
    const float *shift = data_of(c, SHR__F_SHIFT), *w = data_of(c, SHR__F_W);
    float *shifted = NULL;
    if (scale == NULL) {
        *ret_w = NULL;
        *ret_bias = bias;
        return SHR_OK;
    }
    int rc = shr__fused_memory(c, (size_t)n, sizeof *shifted, &shifted, err);
    if (rc != 0) {
        return rc;
    }
    int64_t count = shr_tensor_count(c->in[SHR__F_W]);
    float *scaled = shr_mem_new((size_t)count, sizeof *scaled);
    if (scaled == NULL) {
        return shr_op_fail(c->node, err, SHR_ERR_NOMEM, "out of memory");
    }
    for (int64_t i = 0; i < count; i++) {
        scaled[i] = w[i] * scale[i / inner % n];
    }
    for (int64_t i = 0; i < n; i++) {
        shifted[i] = (bias == NULL ? 0 : bias[i]) * scale[i] + shift[i];
    }
    *ret_w = scaled;
    *ret_bias = shifted;
    return SHR_OK;
}
