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

enum { ROWS = 64, LEAST = 1024, MOST = 8 }; /* in float before double; of a part; parts */

int shr_image_sums_init(struct shr_op_setup *c, const struct shr_image *i,
                        struct shr_image_sums *ret, struct shr_err *err)
{
    const int64_t parts = i->n * i->size / LEAST;
    ret->parts = parts < 1 ? 1 : parts > MOST ? MOST : parts;
    return shr_image_room(c, ret->parts * i->c, sizeof(double) + 2 * sizeof(float), &ret->at, err);
}

struct part_sums {
    const struct shr_op_call *c;
    const struct shr_image *i;
    const struct shr_image_sums *s;
    const float *x, *y, *center;
};

static double *totals_of(const struct part_sums *r, int64_t part)
{
    char *at = (char *)r->c->scratch + r->s->at;
    return (double *)(void *)at + part * r->i->c;
}

/* some (c) += one row; buffer (c) */
static void add_row(const struct part_sums *r, int64_t row, float *some, float *buffer)
{
    const struct shr_kernels *k = r->c->kernels;
    const size_t c = (size_t)r->i->c;
    const float *x = r->x + row * r->i->c;
    if (r->center != NULL) { /* it is minus the mean */
        k->add_f32(c, x, r->center, buffer);
        k->madd_f32(c, buffer, r->y == NULL ? buffer : r->y + row * r->i->c, some);
    } else if (r->y != NULL) {
        k->madd_f32(c, x, r->y + row * r->i->c, some);
    } else {
        k->add_f32(c, some, x, some);
    }
}

static void sum_part(void *arg, size_t part, size_t worker)
{
    (void)worker;
    const struct part_sums *r = arg;
    const int64_t rows = r->i->n * r->i->size, parts = r->s->parts, c = r->i->c;
    const int64_t from = rows * (int64_t)part / parts, to = rows * ((int64_t)part + 1) / parts;
    double *sum = totals_of(r, (int64_t)part);
    float *some = (float *)(void *)totals_of(r, parts) + (int64_t)part * 2 * c, *buffer = some + c;
    for (int64_t j = 0; j < c; j++) {
        sum[j] = 0;
    }
    for (int64_t row = from; row < to; row += ROWS) {
        memset(some, 0, (size_t)c * sizeof *some);
        for (int64_t k = row; k < to && k < row + ROWS; k++) {
            add_row(r, k, some, buffer);
        }
        for (int64_t j = 0; j < c; j++) {
            sum[j] += (double)some[j];
        }
    }
}

void shr_image_sums(const struct shr_op_call *c, const struct shr_image *i,
                    const struct shr_image_sums *s, const float *x, const float *y,
                    const float *center, double *sums)
{
    struct part_sums r = {c, i, s, x, y, center};
    shr_team_run(c->team, (size_t)s->parts, sum_part, &r);
    memcpy(sums, totals_of(&r, 0), (size_t)i->c * sizeof *sums);
    for (int64_t part = 1; part < s->parts; part++) {
        const double *more = totals_of(&r, part);
        for (int64_t j = 0; j < i->c; j++) {
            sums[j] += more[j];
        }
    }
}
