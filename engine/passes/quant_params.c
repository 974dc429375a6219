/* Scales, zero points and quantized weights; see quant_params.h. */
#include "passes/quant_params.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { PAIR_LIMIT = 128, TOP_CERTAIN = 64 }; /* 255 x 128 <= 32767, and 64 + 64 <= 128 */

struct shr_quant_grid shr_quant_grid_of(enum shr_dtype dtype, bool symmetric, bool reduced)
{
    if (dtype == SHR_DTYPE_U8) {
        return (struct shr_quant_grid){dtype, 0, reduced ? 127 : 255, false};
    }
    if (reduced) {
        return (struct shr_quant_grid){dtype, -64, 64, symmetric};
    }
    return (struct shr_quant_grid){dtype, symmetric ? -127 : -128, 127, symmetric};
}

static struct shr_quant_params params_of(const struct shr_quant_grid *grid, double min, double max,
                                         int top)
{
    min = fmin(min, 0);
    max = fmax(max, 0);
    double scale = grid->symmetric ? fmax(-min, max) / top : (max - min) / (grid->max - grid->min);
    if (scale < FLT_MIN) {
        return (struct shr_quant_params){1, 0};
    }
    double zero = grid->symmetric ? 0 : rint(grid->min - min / scale);
    return (struct shr_quant_params){(float)scale, (int32_t)zero};
}

struct shr_quant_params shr_quant_params_of(const struct shr_quant_grid *grid, double min,
                                            double max)
{
    return params_of(grid, min, max, grid->max);
}

int shr_quantize(const struct shr_quant_grid *grid, struct shr_quant_params params, float x)
{
    float q = rintf(x / params.scale) + (float)params.zero;
    return q < (float)grid->min ? grid->min : q > (float)grid->max ? grid->max : (int)q;
}

/* ── Weights ────────────────────────────────────────────────────────────────────────────────── */

/* Where the elements of one channel are: k = ((a * n_b) + b) -> offset a * step_a + b * step_b. */
struct columns {
    int64_t channels, k; /* k: elements of a channel */
    int64_t n_b, step_a, step_b, step_channel;
};

static struct columns columns_of(const struct shr_tensor *w, int axis, enum shr_pair_order pairs)
{
    int64_t inner = 1;
    for (int d = axis + 1; d < w->rank; d++) {
        inner *= w->dim[d];
    }
    struct columns c = {.channels = w->dim[axis], .step_channel = inner};
    c.k = c.channels > 0 ? shr_tensor_count(w) / c.channels : 0;
    if (pairs == SHR_PAIRS_CONV && axis == 0 && w->rank > 2) { /* (M, C, area): area, then C */
        int64_t area = inner / w->dim[1];
        c.n_b = w->dim[1];
        c.step_a = 1;
        c.step_b = area;
    } else {
        c.n_b = inner > 0 ? inner : 1;
        c.step_a = c.channels * inner;
        c.step_b = 1;
    }
    return c;
}

static int64_t offset_of(const struct columns *c, int64_t channel, int64_t k)
{
    return channel * c->step_channel + k / c->n_b * c->step_a + k % c->n_b * c->step_b;
}

static void gather(const struct columns *c, const float *w, int64_t channel, float *ret)
{
    for (int64_t k = 0; k < c->k; k++) {
        ret[k] = w[offset_of(c, channel, k)];
    }
}

/* Can a pair saturate when the weights are divided by scale and rounded? */
static bool saturates(const float *w, int64_t n, float scale, enum shr_pair_order pairs)
{
    int64_t step = pairs == SHR_PAIRS_MATRIX ? 2 : 1;
    for (int64_t k = 0; k + 1 < n; k += step) {
        float a = rintf(w[k] / scale), b = rintf(w[k + 1] / scale);
        if (a * b > 0 && fabsf(a + b) > (float)PAIR_LIMIT) {
            return true;
        }
    }
    return false;
}

static int certified_top(const float *w, int64_t n, double absmax, int top,
                         enum shr_pair_order pairs)
{
    while (top > TOP_CERTAIN && saturates(w, n, (float)(absmax / top), pairs)) {
        top--;
    }
    return top;
}

struct job {
    const struct shr_tensor *w;
    const struct shr_quant_how *how;
    const struct shr_quant_grid *grid; /* &how->grid */
    struct columns columns;
    float *buffer; /* (k) of one channel */
    struct shr_quant_weight out;
    double signal, noise;
};

/* Widens a range, which begins as floats, by the finite w. */
static void range_of(const float *w, int64_t n, double *min, double *max)
{
    float low = (float)*min, high = (float)*max;
    for (int64_t i = 0; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    *min = (double)low;
    *max = (double)high;
}

static void quantize_channel(struct job *job, int64_t channel, struct shr_quant_params params)
{
    for (int64_t k = 0; k < job->columns.k; k++) {
        float x = job->buffer[k];
        int q = shr_quantize(job->grid, params, x);
        int64_t at = offset_of(&job->columns, channel, k);
        if (job->grid->dtype == SHR_DTYPE_U8) {
            ((uint8_t *)job->out.q.data)[at] = (uint8_t)q;
        } else {
            ((int8_t *)job->out.q.data)[at] = (int8_t)q;
        }
        double error = (double)x - (double)params.scale * (q - params.zero);
        job->signal += (double)x * (double)x;
        job->noise += error * error;
    }
}

static void set_params(struct job *job, int64_t i, struct shr_quant_params params)
{
    struct shr_quant_weight *out = &job->out;
    shr_tensor_set(&out->scale, i, (double)params.scale);
    shr_tensor_set(&out->zero, i, params.zero);
    out->scale_min = fmin(out->scale_min, (double)params.scale);
    out->scale_max = fmax(out->scale_max, (double)params.scale);
}

/* Only for symmetric grids: the zero point stays. */
static void raise_scale(const struct job *job, int64_t channel, struct shr_quant_params *params)
{
    const double *least = job->how->least_scale;
    if (least != NULL && least[channel] > (double)params->scale) {
        params->scale = (float)least[channel];
    }
}

static void quantize_per_channel(struct job *job)
{
    for (int64_t c = 0; c < job->columns.channels; c++) {
        double min = 0, max = 0;
        gather(&job->columns, job->w->data, c, job->buffer);
        range_of(job->buffer, job->columns.k, &min, &max);
        int top = job->grid->max;
        if (job->how->pairs != SHR_PAIRS_NONE) {
            top = certified_top(job->buffer, job->columns.k, fmax(-min, max), top, job->how->pairs);
        }
        struct shr_quant_params params = params_of(job->grid, min, max, top);
        raise_scale(job, c, &params);
        job->out.top_min = top < job->out.top_min ? top : job->out.top_min;
        set_params(job, c, params);
        quantize_channel(job, c, params);
    }
}

static void quantize_whole(struct job *job)
{
    double min = 0, max = 0;
    range_of(job->w->data, shr_tensor_count(job->w), &min, &max);
    int top = job->grid->max;
    for (int64_t c = 0; c < job->columns.channels && job->how->pairs != SHR_PAIRS_NONE; c++) {
        gather(&job->columns, job->w->data, c, job->buffer);
        top = certified_top(job->buffer, job->columns.k, fmax(-min, max), top, job->how->pairs);
    }
    struct shr_quant_params params = params_of(job->grid, min, max, top);
    for (int64_t c = 0; c < job->columns.channels; c++) {
        raise_scale(job, c, &params);
    }
    job->out.top_min = top;
    set_params(job, 0, params);
    for (int64_t c = 0; c < job->columns.channels; c++) {
        gather(&job->columns, job->w->data, c, job->buffer);
        quantize_channel(job, c, params);
    }
}

static int check_finite(const struct shr_tensor *w, const char *name, struct shr_err *err)
{
    const float *x = w->data;
    for (int64_t i = 0, n = shr_tensor_count(w); i < n; i++) {
        if (!isfinite(x[i])) {
            return shr_err_set(err, SHR_ERR_INVALID, "tensor '%s': element %lld is not finite",
                               name, (long long)i);
        }
    }
    return SHR_OK;
}

int shr_quantize_weight(const struct shr_tensor *w, const char *name,
                        const struct shr_quant_how *how, struct shr_quant_weight *ret,
                        struct shr_err *err)
{
    struct job job = {.w = w, .how = how, .grid = &how->grid};
    job.columns = columns_of(w, how->axis, how->pairs);
    job.out.scale_min = INFINITY;
    job.out.top_min = how->grid.max;

    int rank = how->per_channel ? 1 : 0;
    int code = check_finite(w, name, err);
    if (code == SHR_OK) {
        code = shr_tensor_new(how->grid.dtype, w->rank, w->dim, &job.out.q, err);
    }
    if (code == SHR_OK) {
        code = shr_tensor_new(SHR_DTYPE_F32, rank, &job.columns.channels, &job.out.scale, err);
    }
    if (code == SHR_OK) {
        code = shr_tensor_new(how->grid.dtype, rank, &job.columns.channels, &job.out.zero, err);
    }
    job.buffer = shr_mem_new((size_t)job.columns.k + 1, sizeof *job.buffer);
    if (code == SHR_OK && job.buffer == NULL) {
        code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for tensor '%s'", name);
    }
    if (code != SHR_OK) {
        goto out;
    }
    if (how->per_channel) {
        quantize_per_channel(&job);
    } else {
        quantize_whole(&job);
    }
    job.out.sqnr_db = job.noise > 0 ? 10 * log10(job.signal / job.noise) : INFINITY;
    *ret = job.out;
    job.out = (struct shr_quant_weight){0};
out:
    shr_quant_weight_finish(&job.out);
    shr_mem_free(job.buffer);
    return code;
}

void shr_quant_weight_finish(struct shr_quant_weight *weight)
{
    shr_tensor_finish(&weight->q);
    shr_tensor_finish(&weight->scale);
    shr_tensor_finish(&weight->zero);
}
