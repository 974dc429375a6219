/* Operands as NHWC; see train_image.h. */
#include "ops/train_image.h"

#include <string.h>

int shr_image_room(struct shr_op_setup *c, int64_t n, size_t size, size_t *ret_at,
                   struct shr_err *err)
{
    size_t bytes, end;
    const size_t at = (c->scratch + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
    if (!shr_size_mul((size_t)n, size, &bytes) || !shr_size_add(at, bytes, &end)) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the scratch is too large");
    }
    *ret_at = at;
    c->scratch = end;
    return SHR_OK;
}

int shr_image_init(struct shr_op_setup *c, const struct shr_tensor *t, struct shr_image *ret,
                   struct shr_err *err)
{
    struct shr_image i = {.turned = shr_node_int(c->node, "nhwc", 0) == 0};
    if (t->dtype != SHR_DTYPE_F32 || t->rank < 2) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "works on float32 images only");
    }
    i.nchw = (struct shr_type){.dtype = t->dtype, .rank = t->rank};
    for (int d = 0; d < t->rank; d++) {
        const int lies = i.turned || d == 0 ? d : d == 1 ? t->rank - 1 : d - 1;
        i.nchw.dim[d] = t->dim[lies];
    }
    i.n = i.nchw.dim[0];
    i.c = i.nchw.dim[1];
    i.size = shr_dims_product(i.nchw.dim, 2, t->rank);
    int code = SHR_OK;
    if (i.turned) {
        code = shr_image_room(c, shr_tensor_count(t), sizeof(float), &i.at, err);
    }
    *ret = i;
    return code;
}

static float *copy_of(const struct shr_op_call *c, const struct shr_image *i)
{
    return (float *)(void *)((char *)c->scratch + i->at);
}

const float *shr_image_in(const struct shr_op_call *c, const struct shr_image *i,
                          const struct shr_tensor *t)
{
    const float *x = t->data;
    if (!i->turned) {
        return x;
    }
    float *to = copy_of(c, i);
    for (int64_t n = 0; n < i->n; n++) {
        const int64_t at = n * i->c * i->size;
        c->kernels->transpose_f32((size_t)i->c, (size_t)i->size, x + at, to + at);
    }
    return to;
}

float *shr_image_out(const struct shr_op_call *c, const struct shr_image *i,
                     const struct shr_tensor *t)
{
    return i->turned ? copy_of(c, i) : t->data;
}

void shr_image_done(const struct shr_op_call *c, const struct shr_image *i, struct shr_tensor *t)
{
    const float *from = copy_of(c, i);
    for (int64_t n = 0; n < i->n && i->turned; n++) {
        const int64_t at = n * i->c * i->size;
        c->kernels->transpose_f32((size_t)i->size, (size_t)i->c, from + at, (float *)t->data + at);
    }
}

/* ── Sums of channels ───────────────────────────────────────────────────────────────────────── */

enum { CHANNELS = 64, ROWS = 64 }; /* of a task, and as many rows in float before double */

struct sums {
    const struct shr_image *i;
    const float *x, *y;
    float *to;
};

static void sum_channels(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct sums *s = arg;
    const int64_t first = (int64_t)task * CHANNELS, rows = s->i->n * s->i->size;
    const int64_t n = s->i->c - first < CHANNELS ? s->i->c - first : CHANNELS;
    double sum[CHANNELS] = {0};
    for (int64_t r = 0; r < rows; r += ROWS) {
        float some[CHANNELS] = {0};
        for (int64_t k = r; k < rows && k < r + ROWS; k++) {
            const float *x = s->x + k * s->i->c + first;
            const float *y = s->y == NULL ? NULL : s->y + k * s->i->c + first;
            for (int64_t j = 0; y == NULL && j < n; j++) {
                some[j] += x[j];
            }
            for (int64_t j = 0; y != NULL && j < n; j++) {
                some[j] += x[j] * y[j];
            }
        }
        for (int64_t j = 0; j < n; j++) {
            sum[j] += (double)some[j];
        }
    }
    for (int64_t j = 0; j < n; j++) {
        s->to[first + j] = (float)sum[j];
    }
}

void shr_image_sums(const struct shr_op_call *c, const struct shr_image *i, const float *x,
                    const float *y, float *to)
{
    struct sums s = {i, x, y, to};
    shr_team_run(c->team, (size_t)((i->c + CHANNELS - 1) / CHANNELS), sum_channels, &s);
}

int shr_infer_dims(struct shr_infer *c, struct shr_err *err)
{
    size_t n = 0;
    int64_t count;
    const int64_t *dim = shr_node_ints(c->node, "dims", &n);
    if (n > SHR_MAX_RANK || !shr_dims_count((int)n, dim, &count)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "dims is not a shape");
    }
    c->out[0].dtype = c->in[0].dtype;
    c->out[0].rank = (int)n;
    for (size_t i = 0; i < n; i++) {
        shr_type_set_dim(&c->out[0], (int)i, dim[i], NULL);
    }
    return SHR_OK;
}
