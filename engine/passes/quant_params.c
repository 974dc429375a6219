/* Scales, zero points and quantized weights; see quant_params.h. */
#include "passes/quant_params.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "passes/edit.h"

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

struct shr_quant_grid shr_quant_grid_pytorch(enum shr_dtype dtype, bool symmetric, bool reduced)
{
    if (dtype == SHR_DTYPE_U8) {
        return (struct shr_quant_grid){dtype, 0, reduced ? 127 : 255, false, true};
    }
    return (struct shr_quant_grid){dtype, reduced ? -64 : -128, reduced ? 63 : 127, symmetric,
                                   true};
}

/* calculate_qparams of MinMaxObserver and PerChannelMinMaxObserver. */
static struct shr_quant_params pytorch_params_of(const struct shr_quant_grid *grid, float min,
                                                 float max)
{
    const float steps = (float)(grid->max - grid->min);
    min = fminf(min, 0);
    max = fmaxf(max, 0);
    if (grid->symmetric) {
        return (struct shr_quant_params){fmaxf(fmaxf(-min, max) / (steps / 2), FLT_EPSILON), 0};
    }
    const float scale = fmaxf((max - min) / steps, FLT_EPSILON);
    const int32_t zero = grid->min - (int32_t)rintf(min / scale);
    return (struct shr_quant_params){scale, zero < grid->min   ? grid->min
                                            : zero > grid->max ? grid->max
                                                               : zero};
}

static struct shr_quant_params params_of(const struct shr_quant_grid *grid, double min, double max,
                                         int top)
{
    if (grid->pytorch) {
        return pytorch_params_of(grid, (float)min, (float)max);
    }
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

static void gather(const struct columns *c, const float *w, int64_t channel, float *ret)
{
    for (int64_t a = 0; a < c->k / c->n_b; a++, ret += c->n_b) {
        const float *from = w + channel * c->step_channel + a * c->step_a;
        if (c->step_b == 1) {
            memcpy(ret, from, (size_t)c->n_b * sizeof *ret);
            continue;
        }
        for (int64_t b = 0; b < c->n_b; b++) {
            ret[b] = from[b * c->step_b];
        }
    }
}

static void scatter(const struct columns *c, const int8_t *q, int64_t channel, int8_t *ret)
{
    for (int64_t a = 0; a < c->k / c->n_b; a++, q += c->n_b) {
        int8_t *to = ret + channel * c->step_channel + a * c->step_a;
        if (c->step_b == 1) {
            memcpy(to, q, (size_t)c->n_b);
            continue;
        }
        for (int64_t b = 0; b < c->n_b; b++) {
            to[b * c->step_b] = q[b];
        }
    }
}

static bool pair_saturates(int a, int b)
{
    return (a ^ b) >= 0 && (a + b > PAIR_LIMIT || a + b < -PAIR_LIMIT);
}

/* The first pair that saturates when the weights are divided by scale and rounded; n = none. */
static int64_t first_to_saturate(const struct shr_kernels *kernels, const float *w, int64_t n,
                                 float scale, int64_t step)
{
    enum { SOME = 512 };
    int8_t q[SOME + 1];
    for (int64_t from = 0; from + 1 < n; from += SOME) { /* and the first of the next ones */
        const int64_t count = n - from < SOME + 1 ? n - from : SOME + 1;
        kernels->quantize_s8((size_t)count, w + from, scale, 0, q);
        bool any = false;
        for (int64_t k = 0; k + 1 < count; k += step) {
            any = any || pair_saturates(q[k], q[k + 1]);
        }
        for (int64_t k = 0; k + 1 < count && any; k += step) {
            if (pair_saturates(q[k], q[k + 1])) {
                return from + k;
            }
        }
    }
    return n;
}

/* The pair that was found last is tried first: all are looked at a few times only. */
static int certified_top(const struct shr_kernels *kernels, const float *w, int64_t n,
                         double absmax, int top, enum shr_pair_order pairs)
{
    const int64_t step = pairs == SHR_PAIRS_MATRIX ? 2 : 1;
    int64_t found = n;
    if (absmax / top < FLT_MIN) { /* params_of takes the scale 1: all become 0 */
        return top;
    }
    for (; top > TOP_CERTAIN; top--) {
        const float scale = (float)(absmax / top);
        if (found < n &&
            pair_saturates((int)rintf(w[found] / scale), (int)rintf(w[found + 1] / scale))) {
            continue;
        }
        found = first_to_saturate(kernels, w, n, scale, step);
        if (found == n) {
            break;
        }
    }
    return top;
}

struct job {
    const struct shr_tensor *w;
    const struct shr_quant_how *how;
    const struct shr_quant_grid *grid; /* &how->grid */
    const struct shr_kernels *kernels;
    struct columns columns;
    float *buffer; /* (k) of one channel */
    int8_t *bytes; /* (k) what becomes of them */
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

/* The squares of n weights and of what their integers miss, in sums of four, whose order is fixed.
 */
static void add_squares(struct job *job, int64_t n, struct shr_quant_params params, bool is_signed)
{
    const double scale = (double)params.scale;
    double signal[4] = {0}, noise[4] = {0};
    for (int64_t k = 0; k < n; k += 4) {
        for (int64_t j = 0; j < 4 && k + j < n; j++) {
            const int8_t byte = job->bytes[k + j];
            const double q = (is_signed ? byte : (uint8_t)byte) - params.zero;
            const double x = (double)job->buffer[k + j], error = x - scale * q;
            signal[j] += x * x;
            noise[j] += error * error;
        }
    }
    job->signal += signal[0] + signal[1] + (signal[2] + signal[3]);
    job->noise += noise[0] + noise[1] + (noise[2] + noise[3]);
}

static void quantize_channel(struct job *job, int64_t channel, struct shr_quant_params params)
{
    const struct shr_quant_grid *grid = job->grid;
    const struct shr_kernels *kernels = job->kernels;
    const int64_t n = job->columns.k;
    const bool is_signed = grid->dtype != SHR_DTYPE_U8;
    if (is_signed) {
        kernels->quantize_s8((size_t)n, job->buffer, params.scale, params.zero, job->bytes);
        for (int64_t k = 0; k < n; k++) {
            const int8_t q = job->bytes[k];
            job->bytes[k] = (int8_t)(q < grid->min ? grid->min : q > grid->max ? grid->max : q);
        }
    } else {
        uint8_t *bytes = (uint8_t *)job->bytes;
        kernels->quantize_u8((size_t)n, job->buffer, params.scale, params.zero, bytes);
        for (int64_t k = 0; k < n; k++) {
            bytes[k] = (uint8_t)(bytes[k] > grid->max ? grid->max : bytes[k]);
        }
    }
    add_squares(job, n, params, is_signed);
    scatter(&job->columns, job->bytes, channel, job->out.q.data);
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

static int quantize_per_channel(struct job *job, struct shr_err *err)
{
    for (int64_t c = 0; c < job->columns.channels; c++) {
        int code = shr_ctx_poll(job->how->ctx, err);
        if (code != SHR_OK) {
            return code;
        }
        double min = 0, max = 0;
        gather(&job->columns, job->w->data, c, job->buffer);
        range_of(job->buffer, job->columns.k, &min, &max);
        int top = job->grid->max;
        if (job->how->pairs != SHR_PAIRS_NONE) {
            top = certified_top(job->kernels, job->buffer, job->columns.k, fmax(-min, max), top,
                                job->how->pairs);
        }
        struct shr_quant_params params = params_of(job->grid, min, max, top);
        raise_scale(job, c, &params);
        job->out.top_min = top < job->out.top_min ? top : job->out.top_min;
        job->out.narrowed += top < job->grid->max;
        set_params(job, c, params);
        quantize_channel(job, c, params);
    }
    return SHR_OK;
}

static int quantize_whole(struct job *job, struct shr_err *err)
{
    double min = 0, max = 0;
    range_of(job->w->data, shr_tensor_count(job->w), &min, &max);
    int top = job->grid->max;
    for (int64_t c = 0; c < job->columns.channels && job->how->pairs != SHR_PAIRS_NONE; c++) {
        int code = shr_ctx_poll(job->how->ctx, err);
        if (code != SHR_OK) {
            return code;
        }
        gather(&job->columns, job->w->data, c, job->buffer);
        top = certified_top(job->kernels, job->buffer, job->columns.k, fmax(-min, max), top,
                            job->how->pairs);
    }
    struct shr_quant_params params = params_of(job->grid, min, max, top);
    for (int64_t c = 0; c < job->columns.channels; c++) {
        raise_scale(job, c, &params);
    }
    job->out.top_min = top;
    job->out.narrowed = top < job->grid->max ? job->columns.channels : 0;
    set_params(job, 0, params);
    for (int64_t c = 0; c < job->columns.channels; c++) {
        int code = shr_ctx_poll(job->how->ctx, err);
        if (code != SHR_OK) {
            return code;
        }
        gather(&job->columns, job->w->data, c, job->buffer);
        quantize_channel(job, c, params);
    }
    return SHR_OK;
}

static int check_finite(const struct shr_tensor *w, const char *name, struct shr_err *err)
{
    const float *x = w->data;
    if (shr_edit_all_finite(w)) {
        return SHR_OK;
    }
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
    struct job job = {.w = w, .how = how, .grid = &how->grid, .kernels = shr_kernels_get(0)};
    job.columns = columns_of(w, how->axis, how->pairs);
    job.out.scale_min = INFINITY;
    job.out.top_min = how->grid.max;
    job.out.channels = job.columns.channels;

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
    job.bytes = shr_mem_new((size_t)job.columns.k + 1, 1);
    if (code == SHR_OK && (job.buffer == NULL || job.bytes == NULL)) {
        code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for tensor '%s'", name);
    }
    if (code != SHR_OK) {
        goto out;
    }
    code = how->per_channel ? quantize_per_channel(&job, err) : quantize_whole(&job, err);
    if (code != SHR_OK) {
        goto out;
    }
    job.out.sqnr_db = job.noise > 0 ? 10 * log10(job.signal / job.noise) : INFINITY;
    *ret = job.out;
    job.out = (struct shr_quant_weight){0};
out:
    shr_quant_weight_finish(&job.out);
    shr_mem_free(job.buffer);
    shr_mem_free(job.bytes);
    return code;
}

void shr_quant_weight_finish(struct shr_quant_weight *weight)
{
    shr_tensor_finish(&weight->q);
    shr_tensor_finish(&weight->scale);
    shr_tensor_finish(&weight->zero);
}
