/* Float convolution of NHWC images as a product whose rows are the image itself.
 *
 * What an output pixel sees is, for each kernel row, kw * c floats that follow each other (without
 * dilation and groups), at offsets that are the same for all pixels: pieces, for f32_tile.h. An
 * image with padding is first copied, some rows at a time, into scratch that has the padding around
 * it. A task is a chunk of output pixels, whose part of the image stays in the second cache, or,
 * where weights are more than that, a chunk by a part of the output channels. */
#include <string.h>

#include "base/mem.h"
#include "core/team.h"
#include "kernels/f32_conv.h"

enum {
    CHUNK_FLOATS = 64 << 10, /* of the image in a chunk, about */
    CHUNK_PIXELS = 1024,     /* at most */
    CHUNK_LEAST = 48,        /* pixels worth a task of their own */
    WEIGHTS_LARGE = 96 << 10 /* floats: more than this is not streamed by every thread */
};

struct conv {
    struct shr_conv_f32 base;
    struct shr_conv_shape s;
    struct f32_act act;
    float *w;    /* packed, a group after the other */
    float *bias; /* (oc) */
    size_t k, og;
    struct f32_piece *pieces; /* (n_pieces), none longer than a stretch */
    size_t n_pieces;
    bool pad;                    /* through scratch */
    size_t line;                 /* floats from an image row to the next, there or in x */
    size_t chunk, chunks, parts; /* pixels of a chunk; tasks = chunks x parts */
    size_t buffer, worker_bytes; /* of scratch: where the rows are, and of one worker */
};

struct run {
    const struct conv *conv;
    const float *x, *residual;
    float *y;
    char *scratch;
};

static size_t pixels_of(const struct conv *conv)
{
    return (size_t)(conv->s.oh * conv->s.ow);
}

/* Input rows of an image, padding included, that a run of output rows needs. */
static size_t rows_needed(const struct shr_conv_shape *s, size_t rows)
{
    return (rows - 1) * (size_t)s->stride_h + (size_t)((s->kh - 1) * s->dil_h) + 1;
}

/* Copies the image rows from top on, which may lie outside, with padding around them. */
static void copy_padded(const struct conv *conv, const float *image, int64_t top, size_t rows,
                        float *to)
{
    const struct shr_conv_shape *s = &conv->s;
    const size_t left = f32_min((size_t)(s->pad_l * s->c), conv->line);
    const size_t some = f32_min((size_t)(s->w * s->c), conv->line - left);
    for (size_t i = 0; i < rows; i++, to += conv->line) {
        int64_t row = top + (int64_t)i;
        if (row < 0 || row >= s->h) {
            memset(to, 0, conv->line * sizeof *to);
            continue;
        }
        memset(to, 0, left * sizeof *to);
        memcpy(to + left, image + row * s->w * s->c, some * sizeof *to);
        memset(to + left + some, 0, (conv->line - left - some) * sizeof *to);
    }
}

/* Points to what each pixel of a chunk sees. */
static void find_rows(const struct run *run, size_t from, size_t n, float *buffer,
                      const float **rows)
{
    const struct conv *conv = run->conv;
    const struct shr_conv_shape *s = &conv->s;
    const size_t ow = (size_t)s->ow, oh = (size_t)s->oh, size = (size_t)(s->h * s->w * s->c);
    const size_t down = (size_t)s->stride_h * conv->line, right = (size_t)(s->stride_w * s->c);
    size_t first = from / ow, image = first / oh, row = first % oh, col = from % ow;
    const float *base = run->x + image * size;
    if (conv->pad) { /* a chunk lies in one image */
        size_t last = (from + n - 1) / ow % oh;
        copy_padded(conv, base, (int64_t)row * s->stride_h - s->pad_t,
                    rows_needed(s, last - row + 1), buffer);
        base = buffer - row * down;
    }
    for (size_t i = 0; i < n; i++) {
        rows[i] = base + row * down + col * right;
        if (++col == ow) {
            col = 0;
            if (++row == oh) {
                row = 0;
                base += size;
            }
        }
    }
}

static void conv_stretches(const struct conv *conv, struct f32_stretch *s)
{
    for (size_t from = 0, to; from < conv->n_pieces; from = to) {
        size_t len = conv->pieces[from].len;
        for (to = from + 1; to < conv->n_pieces && len + conv->pieces[to].len <= F32_STRETCH;
             to++) {
            len += conv->pieces[to].len;
        }
        s->pieces = conv->pieces + from;
        s->n_pieces = to - from;
        s->first = from == 0;
        s->last = to == conv->n_pieces;
        VF_NAME(f32_stretch)(s);
        s->k0 += len;
    }
}

static void conv_task(void *arg, size_t task, size_t worker)
{
    const struct run *run = arg;
    const struct conv *conv = run->conv;
    const size_t part = task % conv->parts, panels = f32_panels(conv->og);
    const size_t oc = (size_t)conv->s.oc, image = pixels_of(conv), all = (size_t)conv->s.n * image;
    const size_t of_image = (image + conv->chunk - 1) / conv->chunk, chunk = task / conv->parts;
    const size_t from =
        conv->pad ? chunk / of_image * image + chunk % of_image * conv->chunk : chunk * conv->chunk;
    const size_t end = conv->pad ? (chunk / of_image + 1) * image : all;
    char *scratch = run->scratch + worker * conv->worker_bytes;
    const float **rows = (const float **)(void *)scratch;
    struct f32_stretch s = {
        .rows = rows,
        .m = f32_min(conv->chunk, end - from),
        .n = conv->og,
        .k = conv->k,
        .panel_from = panels * part / conv->parts,
        .panel_to = panels * (part + 1) / conv->parts,
        .ldc = oc,
        .few = all <= F32_FEW,
        .act = conv->act,
    };
    find_rows(run, from, s.m, (float *)(void *)(scratch + conv->buffer), rows);
    for (size_t g = 0; g < (size_t)conv->s.groups; g++) {
        s.b = conv->w + g * conv->k * f32_padded(conv->og);
        s.k0 = 0;
        s.shift = g * (size_t)(conv->s.c / conv->s.groups);
        s.bias = conv->bias + g * conv->og;
        s.c = run->y + from * oc + g * conv->og;
        s.residual = run->residual != NULL ? run->residual + from * oc + g * conv->og : NULL;
        conv_stretches(conv, &s);
    }
}

static void conv_run(const struct shr_conv_f32 *base, const float *x, const float *residual,
                     float *y, void *scratch, struct shr_team *team)
{
    const struct conv *conv = (const struct conv *)base;
    struct run run = {conv, x, residual, y, scratch};
    shr_team_run(team, conv->chunks * conv->parts, conv_task, &run);
}

static void conv_free(struct shr_conv_f32 *base)
{
    struct conv *conv = (struct conv *)base;
    shr_mem_free(conv->w);
    shr_mem_free(conv->bias);
    shr_mem_free(conv->pieces);
    shr_mem_free(conv);
}

/* ── Preparation ────────────────────────────────────────────────────────────────────────────── */

float *VF_NAME(bias_new)(const struct shr_conv_f32_spec *spec)
{
    return shr_mem_new(f32_padded((size_t)spec->shape.oc), sizeof(float));
}

void VF_NAME(bias_load)(size_t oc, const float *bias, float *to)
{
    if (bias == NULL) {
        memset(to, 0, oc * sizeof *to);
    } else {
        memcpy(to, bias, oc * sizeof *to);
    }
}

/* Can the product read x itself? */
static bool needs_padding(const struct shr_conv_shape *s)
{
    return s->pad_t != 0 || s->pad_l != 0 || (int64_t)rows_needed(s, (size_t)s->oh) > s->h ||
           (s->ow - 1) * s->stride_w + (s->kw - 1) * s->dil_w + 1 > s->w;
}

static void add_piece(struct conv *conv, size_t at, size_t len)
{
    struct f32_piece *last = conv->n_pieces > 0 ? &conv->pieces[conv->n_pieces - 1] : NULL;
    if (last != NULL && last->at + last->len == at && last->len + len <= F32_STRETCH) {
        last->len += len;
        return;
    }
    for (size_t done = 0; done < len; done += F32_STRETCH) {
        conv->pieces[conv->n_pieces++] =
            (struct f32_piece){at + done, f32_min(len - done, F32_STRETCH)};
    }
}

static bool make_pieces(struct conv *conv)
{
    const struct shr_conv_shape *s = &conv->s;
    const size_t cg = (size_t)(s->c / s->groups), taps = (size_t)(s->kh * s->kw);
    conv->pieces = shr_mem_new(taps * (cg / F32_STRETCH + 1), sizeof *conv->pieces);
    for (size_t t = 0; t < taps && conv->pieces != NULL; t++) {
        size_t kh = t / (size_t)s->kw, kw = t % (size_t)s->kw;
        add_piece(conv, kh * (size_t)s->dil_h * conv->line + kw * (size_t)(s->dil_w * s->c), cg);
    }
    return conv->pieces != NULL;
}

/* Room for packed weights, with zeros where vectors are not whole. */
static bool make_room(struct conv *conv)
{
    const size_t size = conv->k * f32_padded(conv->og);
    const size_t bytes = (size_t)conv->s.groups * size * sizeof *conv->w;
    conv->w = shr_mem_aligned(bytes + 1);
    if (conv->w != NULL && conv->og % VF != 0) {
        memset(conv->w, 0, bytes);
    }
    return conv->w != NULL;
}

/* w (oc, c/groups, kh, kw) to packed (kh, kw, c/groups) x oc of each group */
static void conv_load(struct shr_conv_f32 *base, const float *w, const float *bias)
{
    struct conv *conv = (struct conv *)base;
    const struct shr_conv_shape *s = &conv->s;
    const size_t cg = (size_t)(s->c / s->groups), taps = (size_t)(s->kh * s->kw), k = conv->k;
    const size_t size = k * f32_padded(conv->og);
    VF_NAME(bias_load)((size_t)s->oc, bias, conv->bias);
    if (w == NULL) {
        return;
    }
    for (size_t oc = 0; oc < (size_t)s->oc; oc++) {
        const size_t j = oc % conv->og;
        float *to = conv->w + oc / conv->og * size + f32_packed_at(k, conv->og, 0, j);
        const size_t row = f32_packed_at(k, conv->og, 1, j) - f32_packed_at(k, conv->og, 0, j);
        for (size_t c = 0; c < cg; c++) {
            for (size_t t = 0; t < taps; t++) {
                to[(t * cg + c) * row] = *w++;
            }
        }
    }
}

/* Chunks for the caches, smaller ones when there are threads to share them. */
static void make_chunks(struct conv *conv, size_t threads)
{
    const struct shr_conv_shape *s = &conv->s;
    const size_t image = pixels_of(conv), all = (size_t)s->n * image, ow = (size_t)s->ow;
    const bool large = conv->k * (size_t)s->oc > WEIGHTS_LARGE;
    const size_t panels = f32_panels(conv->og);
    size_t wanted = threads > 1 ? 3 * threads : 1, whole = conv->pad ? image : all, least;
    conv->parts = threads > 1 && s->groups == 1 && large && panels >= 2 * threads ? threads : 1;
    wanted = conv->parts > 1 ? 1 : conv->pad ? (wanted + (size_t)s->n - 1) / (size_t)s->n : wanted;
    if (conv->pad) { /* whole rows */
        size_t rows = 1;
        while (rows < (size_t)s->oh && (rows + 1) * ow <= CHUNK_PIXELS &&
               rows_needed(s, rows + 1) * conv->line <= CHUNK_FLOATS) {
            rows++;
        }
        least = f32_round(CHUNK_LEAST, ow);
        conv->chunk = rows * ow;
    } else {
        least = CHUNK_LEAST;
        conv->chunk = f32_min(CHUNK_PIXELS, CHUNK_FLOATS / ((size_t)s->c) + CHUNK_LEAST);
    }
    size_t chunks = (whole + conv->chunk - 1) / conv->chunk;
    chunks = chunks < wanted ? f32_min(wanted, (whole + least - 1) / least) : chunks;
    conv->chunk = f32_min(conv->chunk, (whole + chunks - 1) / chunks);
    conv->chunk = conv->pad ? f32_min(f32_round(conv->chunk, ow), whole) : conv->chunk;
    conv->chunks = (whole + conv->chunk - 1) / conv->chunk * (conv->pad ? (size_t)s->n : 1);
}

static struct shr_conv_f32 *direct_new(const struct shr_conv_f32_spec *spec, size_t *ret_scratch)
{
    const struct shr_conv_shape *s = &spec->shape;
    const size_t threads = spec->threads > 1 ? (size_t)spec->threads : 1;
    struct conv *conv = shr_mem_new(1, sizeof *conv);
    if (conv == NULL) {
        return NULL;
    }
    conv->base = (struct shr_conv_f32){
        .run = conv_run, .load = conv_load, .free = conv_free, .form = "direct"};
    conv->s = *s;
    conv->act = f32_act_of(spec);
    conv->k = (size_t)(s->c / s->groups * s->kh * s->kw);
    conv->og = (size_t)(s->oc / s->groups);
    conv->pad = needs_padding(s);
    conv->line =
        (size_t)s->c * (conv->pad ? (size_t)((s->ow - 1) * s->stride_w + (s->kw - 1) * s->dil_w + 1)
                                  : (size_t)s->w);
    conv->bias = VF_NAME(bias_new)(spec);
    if (conv->bias == NULL || !make_pieces(conv) || !make_room(conv)) {
        conv_free(&conv->base);
        return NULL;
    }
    if (spec->w != NULL) {
        conv_load(&conv->base, spec->w, spec->bias);
    }
    make_chunks(conv, threads);
    size_t rows = conv->pad ? rows_needed(s, conv->chunk / (size_t)s->ow) : 0;
    conv->buffer = f32_round(conv->chunk * sizeof(float *), SHR_MEM_ALIGN);
    conv->worker_bytes = f32_round(conv->buffer + rows * conv->line * sizeof(float), SHR_MEM_ALIGN);
    *ret_scratch = threads * conv->worker_bytes;
    return &conv->base;
}

struct shr_conv_f32 *VF_NAME(conv_f32_new)(const struct shr_conv_f32_spec *spec,
                                           size_t *ret_scratch)
{
    const struct shr_conv_shape *s = &spec->shape;
    if (s->groups > 1 && s->groups == s->c && s->groups == s->oc) {
        return VF_NAME(depthwise_new)(spec, ret_scratch);
    }
    const int tile = VF_NAME(winograd_tile)(spec);
    return tile > 0 ? VF_NAME(winograd_new)(spec, tile, ret_scratch)
                    : direct_new(spec, ret_scratch);
}
