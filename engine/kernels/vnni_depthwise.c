/* VNNI: depthwise convolution, one channel a group.
 *
 * DESIGN. A step takes VECTOR channels of four pixels, interleaves them to a quad of pixels a
 * channel, and multiplies quads by quads of weights. Where pixels are adjacent (stride and dilation
 * 1), four neighbours of a kernel row also hold the window of the next output pixel when the
 * kernel is narrower than the quads: the same interleaved values times the weights moved by one
 * give that pixel, so that one shuffle serves two results. Otherwise the four pixels of a step
 * are any four taps of the window. Lanes are in the order that the interleaving makes; packing the
 * results to bytes restores the order of channels. */
#include "base/mem.h"
#include "kernels/vnni_conv_i8.h"

enum { MAX_SHIFTS = 2 };

/* The lane of a channel among those of a block, as vector and lane. */
SHR_INLINE size_t lane_of(size_t channel)
{
    return channel / 4 % 4 * LANES + channel / 16 * 4 + channel % 4;
}

/* Sums, zeros, bias, scale and float bias of a block of channels, in the order of lanes. */
enum { SUM, ZERO, BIAS, SCALE, BIAS_F32, ROWS_OF_PARAMS };

SHR_INLINE uint32_t *params_of(const struct shr_conv_i8 *conv, size_t block, size_t row)
{
    return (uint32_t *)conv->packed + (block * ROWS_OF_PARAMS + row) * VECTOR;
}

/* Which pixels the steps take, and which tap (or none, -1) each is for every shift. */
static void plan_steps(struct shr_conv_i8 *conv, int64_t *taps)
{
    const struct shr_conv_shape *s = &conv->s;
    int64_t quads = (s->kw + 3) / 4, n = s->kh * s->kw;
    bool adjacent = conv->shifts > 1;
    for (size_t i = 0; i < conv->steps * 4; i++) {
        int64_t t = (int64_t)i, kh = adjacent ? t / (quads * 4) : t / s->kw;
        int64_t kw = adjacent ? t % (quads * 4) : t % s->kw;
        bool real = adjacent || t < n; /* else beside a window that is full: any pixel */
        conv->at[i] =
            real ? (size_t)((kh * s->dil_h * conv->wp + kw * s->dil_w) * conv->cp) : conv->at[0];
        for (size_t shift = 0; shift < conv->shifts; shift++) {
            int64_t in_row = kw - (int64_t)shift;
            bool taken = real && in_row >= 0 && in_row < s->kw;
            taps[i * MAX_SHIFTS + shift] = taken ? kh * s->kw + in_row : -1;
        }
    }
}

static void pack_weights(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec,
                         const int64_t *taps)
{
    size_t n = (size_t)(conv->s.kh * conv->s.kw), c = (size_t)conv->s.c;
    size_t ones = (size_t)conv->cp * conv->steps * conv->shifts * 4;
    for (size_t i = 0; i < c; i++) {
        for (size_t t = 0; t < conv->steps * 4; t++) {
            for (size_t shift = 0; shift < conv->shifts; shift++) {
                int64_t tap = taps[t * MAX_SHIFTS + shift];
                size_t step = (i / VECTOR * conv->steps + t / 4) * conv->shifts + shift;
                size_t to = (step * VECTOR + lane_of(i % VECTOR)) * 4 + t % 4;
                conv->weights[to] = tap < 0 ? 0 : spec->w[i * n + (size_t)tap];
                if (conv->has_zero) {
                    conv->weights[ones + to] = tap >= 0;
                }
            }
        }
    }
}

static void pack_params(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec)
{
    size_t n = (size_t)(conv->s.kh * conv->s.kw);
    const void *from[ROWS_OF_PARAMS] = {
        [BIAS] = conv->bias, [SCALE] = conv->scale, [BIAS_F32] = conv->bias_f32};
    for (size_t i = 0; i < (size_t)conv->s.c; i++) {
        size_t block = i / VECTOR, lane = lane_of(i % VECTOR);
        uint32_t sum = 0, zero = spec->w_zero != NULL ? (uint32_t)spec->w_zero[i] : 0;
        for (size_t t = 0; t < n; t++) {
            sum += (uint32_t)spec->w[i * n + t] - zero;
        }
        params_of(conv, block, SUM)[lane] = sum;
        params_of(conv, block, ZERO)[lane] = zero;
        for (size_t row = BIAS; row < ROWS_OF_PARAMS; row++) {
            if (from[row] != NULL) {
                memcpy(params_of(conv, block, row) + lane, (const uint32_t *)from[row] + i, 4);
            }
        }
    }
}

bool VNNI(depthwise_pack)(struct shr_conv_i8 *conv, const struct shr_conv_i8_spec *spec)
{
    const struct shr_conv_shape *s = &conv->s;
    size_t quads = (size_t)(s->kw + 3) / 4, params = ROWS_OF_PARAMS * sizeof(uint32_t);
    bool shared = s->stride_w == 1 && s->dil_w == 1 && s->kw % 4 != 0;
    conv->shifts = shared ? MAX_SHIFTS : 1;
    conv->steps = shared ? (size_t)s->kh * quads : (size_t)(s->kh * s->kw + 3) / 4;
    for (int64_t i = 0; i < s->c && spec->w_zero != NULL; i++) {
        conv->has_zero = conv->has_zero || spec->w_zero[i] != 0;
    }
    size_t weights = conv->steps * conv->shifts * 4 * (conv->has_zero ? 2 : 1);
    conv->at = shr_mem_new(conv->steps * 4, sizeof *conv->at);
    conv->weights = shr_mem_new((size_t)conv->cp, weights);
    conv->packed = shr_mem_new((size_t)conv->cp, params);
    int64_t *taps = shr_mem_new(conv->steps * 4, MAX_SHIFTS * sizeof *taps);
    bool good = conv->at != NULL && conv->weights != NULL && conv->packed != NULL && taps != NULL;
    if (good) {
        plan_steps(conv, taps);
        pack_weights(conv, spec, taps);
        pack_params(conv, spec);
    }
    shr_mem_free(taps);
    return good;
}

/* acc (shifts, 4): the sums of the pixels from x on. */
SHR_INLINE void step_sums(const struct shr_conv_i8 *conv, const size_t shifts, const uint8_t *x,
                          const int8_t *w, vec_t (*acc)[4])
{
    vec_t c[MAX_SHIFTS][4];
    SHR_UNROLL
    for (size_t i = 0; i < shifts; i++) {
        SHR_UNROLL
        for (size_t j = 0; j < 4; j++) {
            c[i][j] = v_zero();
        }
    }
    for (size_t step = 0; step < conv->steps; step++) {
        const size_t *at = conv->at + step * 4;
        vec_t quads[4];
        v_interleave(v_load(x + at[0]), v_load(x + at[1]), v_load(x + at[2]), v_load(x + at[3]),
                     quads);
        SHR_UNROLL
        for (size_t i = 0; i < shifts; i++) {
            SHR_UNROLL
            for (size_t j = 0; j < 4; j++, w += VECTOR) {
                c[i][j] = v_dot(c[i][j], quads[j], v_load(w));
            }
        }
    }
    SHR_UNROLL
    for (size_t i = 0; i < shifts; i++) {
        SHR_UNROLL
        for (size_t j = 0; j < 4; j++) {
            acc[i][j] = c[i][j];
        }
    }
}

static void pixel_sums(const struct shr_conv_i8 *conv, const uint8_t *x, const int8_t *w,
                       vec_t (*acc)[4])
{
    if (conv->shifts == 1) {
        step_sums(conv, 1, x, w, acc);
    } else {
        step_sums(conv, MAX_SHIFTS, x, w, acc);
    }
}

/* Results of four bytes each, to the channels that exist. */
static void store_wide(uint32_t *y, const vec_t *v, size_t n)
{
    uint32_t lanes[VECTOR];
    for (size_t j = 0; j < 4; j++) {
        v_store(lanes + j * LANES, v[j]);
    }
    for (size_t i = 0; i < n; i++) {
        y[i] = lanes[lane_of(i)];
    }
}

SHR_INLINE void finish(const struct shr_gemm_i8 *g, const struct vnni_columns *columns, size_t at,
                       const vec_t *acc)
{
    size_t n = columns->cols;
    vec_t v[4];
    SHR_UNROLL
    for (size_t j = 0; j < 4; j++) {
        v[j] = v_add(acc[j], columns[j].add);
        if (g->out == SHR_GEMM_F32) {
            fvec_t real = vnni_real(g, &columns[j], v[j]);
            memcpy(&v[j], &real, sizeof real);
        } else if (g->out != SHR_GEMM_I32) {
            v[j] = vnni_integer(g, &columns[j], v[j]);
        }
    }
    if (g->out == SHR_GEMM_F32 || g->out == SHR_GEMM_I32) {
        store_wide((uint32_t *)g->c + at, v, n);
    } else {
        v_store_interleaved((uint8_t *)g->c + at, v, n, g->out == SHR_GEMM_S8);
    }
}

/* The columns of a block's four vectors; cols is of all four together. */
static void columns_of(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g, size_t block,
                       struct vnni_columns *columns)
{
    for (size_t j = 0; j < 4; j++) {
        size_t at = j * LANES;
        vec_t less = v_mul(v_load(params_of(conv, block, SUM) + at), v_set(g->a_zero));
        columns[j] = (struct vnni_columns){
            .add = v_sub(v_load(params_of(conv, block, BIAS) + at), less),
            .zero = v_load(params_of(conv, block, ZERO) + at),
            .scale = f_load_some((const float *)params_of(conv, block, SCALE) + at, LANES),
            .bias_f32 = f_load_some((const float *)params_of(conv, block, BIAS_F32) + at, LANES),
            .cols = vnni_min((size_t)conv->s.c - block * VECTOR, VECTOR)};
        vnni_bounds(g, &columns[j]);
    }
}

/* Output pixels of one row and a block of channels; x points to the first one's first tap. */
static void run_row(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g,
                    const struct vnni_columns *columns, const int8_t *w, const uint8_t *x,
                    size_t at)
{
    size_t ow = (size_t)conv->s.ow, step = (size_t)(conv->s.stride_w * conv->cp);
    size_t ones = (size_t)conv->cp * conv->steps * conv->shifts * 4;
    for (size_t i = 0; i < ow; i += conv->shifts, x += conv->shifts * step) {
        vec_t acc[MAX_SHIFTS][4], sums[MAX_SHIFTS][4];
        pixel_sums(conv, x, w, acc);
        if (conv->has_zero) {
            pixel_sums(conv, x, w + ones, sums);
        }
        for (size_t shift = 0; shift < conv->shifts && i + shift < ow; shift++, at += g->ldc) {
            for (size_t j = 0; j < 4 && conv->has_zero; j++) {
                vec_t less = v_mul(sums[shift][j], columns[j].zero);
                acc[shift][j] = v_sub(acc[shift][j], less);
            }
            finish(g, columns, at, acc[shift]);
        }
    }
}

void VNNI(depthwise_row)(const struct shr_conv_i8 *conv, const struct shr_gemm_i8 *g,
                         const uint8_t *x, size_t first, size_t oh)
{
    const struct shr_conv_shape *s = &conv->s;
    size_t row = (size_t)(s->stride_h * conv->wp * conv->cp), blocks = (size_t)conv->cp / VECTOR;
    for (size_t block = 0; block < blocks; block++) {
        struct vnni_columns columns[4];
        columns_of(conv, g, block, columns);
        run_row(conv, g, columns, conv->weights + block * conv->steps * conv->shifts * VECTOR * 4,
                x + oh * row + block * VECTOR,
                first + oh * (size_t)(s->ow * s->oc) + block * VECTOR);
    }
}
