/* com.microsoft's QLinearAveragePool and QLinearGlobalAveragePool, channels first or last:
 * y = saturate(rint(x_scale * sum (x - x_zero) / n / y_scale) + y_zero), with an exact sum. */
#include "ops/families.h"
#include "ops/integer.h"
#include "ops/window.h"

enum { X, X_SCALE, X_ZERO, Y_SCALE, Y_ZERO };

static bool channels_last(const struct shr_node *node)
{
    return shr_node_int(node, "channels_last", 0) != 0;
}

/* The type with its channels in front of the spatial dims. */
static struct shr_type channels_first(const struct shr_node *node, const struct shr_type *t)
{
    struct shr_type first = *t;
    if (channels_last(node) && t->rank > 2) {
        shr_type_copy_dim(&first, 1, t, t->rank - 1);
        for (int i = 2; i < t->rank; i++) {
            shr_type_copy_dim(&first, i, t, i - 1);
        }
    }
    return first;
}

static int check_rank(const struct shr_infer *c, struct shr_err *err)
{
    int rank = c->in[X].rank, code = shr_integer_require(c, Y_SCALE, err);
    return code != SHR_OK         ? code
           : rank < 0 || rank > 2 ? SHR_OK
                                  : shr_op_fail(c->node, err, SHR_ERR_INVALID,
                                                "the input has %d dims, not 3 or more", rank);
}

static int average_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[X];
    struct shr_type *y = &c->out[0];
    int code = check_rank(c, err);
    y->dtype = x->dtype;
    if (code != SHR_OK || x->rank < 0) {
        return code;
    }
    struct shr_window win;
    struct shr_type first = channels_first(c->node, x);
    code = shr_window_init(&win, c->node, &first, NULL, err);
    if (code != SHR_OK) {
        return code;
    }
    int at = channels_last(c->node) ? 1 : 2;
    *y = *x;
    for (int i = 0; i < win.n; i++) {
        shr_type_set_dim(y, at + i, win.axis[SHR_WINDOW_AXES - win.n + i].out, NULL);
    }
    return SHR_OK;
}

static int global_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0] = c->in[X];
    int last = channels_last(c->node);
    for (int i = 2 - last; i < c->in[X].rank - last; i++) {
        shr_type_set_dim(&c->out[0], i, 1, NULL);
    }
    return check_rank(c, err);
}

struct pool {
    struct shr_window win;
    int64_t images, channels, pixels_in;
    bool count_pads;
};

static int pool_setup(struct shr_op_setup *c, struct shr_err *err)
{
    static const unsigned bytes = SHR_BIT(U8) | SHR_BIT(I8), one = SHR_BIT(F32);
    const unsigned wanted[] = {bytes, one, bytes, one, bytes};
    int code = SHR_OK;
    for (size_t i = 0; i < SHR_COUNT_OF(wanted) && code == SHR_OK; i++) {
        code = shr_op_want(c, i, wanted[i], err);
        if (code == SHR_OK && i != X) {
            code = shr_integer_check_count(c, (int)i, 1, err);
        }
    }
    struct pool *s = code == SHR_OK ? shr_arena_new(c->arena, 1, sizeof *s) : NULL;
    if (s == NULL) {
        return code != SHR_OK ? code : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    const struct shr_tensor *x = c->in[X];
    int last = channels_last(c->node);
    s->images = x->dim[0];
    s->channels = x->dim[last ? x->rank - 1 : 1];
    s->pixels_in = shr_dims_product(x->dim, 2 - last, x->rank - last);
    s->count_pads = shr_node_int(c->node, "count_include_pad", 0) != 0;
    c->state = s;
    return SHR_OK;
}

static int average_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = pool_setup(c, err);
    if (code != SHR_OK) {
        return code;
    }
    struct pool *s = c->state;
    struct shr_tensor x = *c->in[X];
    if (channels_last(c->node)) {
        x.dim[1] = s->channels;
        for (int i = 2; i < x.rank; i++) {
            x.dim[i] = c->in[X]->dim[i - 1];
        }
    }
    return shr_window_of(&s->win, c->node, &x, NULL, err);
}

static void write_average(const struct shr_op_call *c, int64_t sum, int64_t n, int64_t at)
{
    float x_scale = *(const float *)c->in[X_SCALE]->data;
    float y_scale = *(const float *)c->in[Y_SCALE]->data;
    int32_t y_zero = shr_integer_zero(shr_integer_in(c->in, c->n_in, Y_ZERO), 0);
    float mean = n == 0 ? 0.0f : (float)sum * x_scale / (float)n;
    if (c->out[0]->dtype == SHR_DTYPE_U8) {
        c->kernels->quantize_u8(1, &mean, y_scale, y_zero, (uint8_t *)c->out[0]->data + at);
    } else {
        c->kernels->quantize_s8(1, &mean, y_scale, y_zero, (int8_t *)c->out[0]->data + at);
    }
}

static int64_t element(const struct shr_tensor *t, int64_t i)
{
    return t->dtype == SHR_DTYPE_U8 ? ((const uint8_t *)t->data)[i] : ((const int8_t *)t->data)[i];
}

/* The taps of one output that lie inside the input, and how many count. x: its first element. */
static int64_t sum_taps(const struct shr_op_call *c, const int64_t *o, int64_t x, int64_t step,
                        int64_t zero, int64_t *ret_n)
{
    const struct pool *s = c->state;
    const struct shr_window_axis *a = s->win.axis;
    int64_t sum = 0, inside = 0, counted = 0;
    for (int64_t k = 0; k < a[0].kernel * a[1].kernel * a[2].kernel; k++) {
        const int64_t tap[] = {k / a[2].kernel / a[1].kernel, k / a[2].kernel % a[1].kernel,
                               k % a[2].kernel};
        int64_t at = 0;
        bool in = true, padded = true;
        for (int d = 0; d < SHR_WINDOW_AXES; d++) {
            int64_t i = shr_window_at(&a[d], o[d], tap[d]);
            in = in && i >= 0 && i < a[d].in;
            padded = padded && i < a[d].in + a[d].pad_hi;
            at = at * a[d].in + i;
        }
        counted += padded;
        if (in) {
            sum += element(c->in[X], x + at * step) - zero;
            inside++;
        }
    }
    *ret_n = s->count_pads ? counted : inside;
    return sum;
}

static int average_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct pool *s = c->state;
    const struct shr_window_axis *a = s->win.axis;
    const int64_t pixels = a[0].out * a[1].out * a[2].out;
    const int64_t step = channels_last(c->node) ? s->channels : 1;
    int64_t zero = shr_integer_zero(shr_integer_in(c->in, c->n_in, X_ZERO), 0);
    for (int64_t i = 0; i < s->images * s->channels; i++) {
        int64_t image = i / s->channels, channel = i % s->channels;
        int64_t x = step == 1 ? i * s->pixels_in : image * s->pixels_in * s->channels + channel;
        int64_t y = step == 1 ? i * pixels : image * pixels * s->channels + channel;
        for (int64_t p = 0; p < pixels; p++) {
            const int64_t o[] = {p / a[2].out / a[1].out, p / a[2].out % a[1].out, p % a[2].out};
            int64_t n;
            int64_t sum = sum_taps(c, o, x, step, zero, &n);
            write_average(c, sum, n, y + p * step);
        }
    }
    return SHR_OK;
}

static int global_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct pool *s = c->state;
    const int64_t step = channels_last(c->node) ? s->channels : 1;
    int64_t zero = shr_integer_zero(shr_integer_in(c->in, c->n_in, X_ZERO), 0);
    for (int64_t i = 0; i < s->images * s->channels; i++) {
        int64_t x = step == 1 ? i * s->pixels_in
                              : i / s->channels * s->pixels_in * s->channels + i % s->channels;
        int64_t sum = -zero * s->pixels_in;
        for (int64_t p = 0; p < s->pixels_in; p++) {
            sum += element(c->in[X], x + p * step);
        }
        write_average(c, sum, s->pixels_in, i);
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {.domain = "com.microsoft",
     .name = "QLinearAveragePool",
     .since = 1,
     SHR_SLOTS(2, 5, 1, 1),
     .infer = average_infer,
     .setup = average_setup,
     .forward = average_forward,
     SHR_NO_WEIGHT},
    {.domain = "com.microsoft",
     .name = "QLinearGlobalAveragePool",
     .since = 1,
     SHR_SLOTS(2, 5, 1, 1),
     .infer = global_infer,
     .setup = pool_setup,
     .forward = global_forward,
     SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_integer_pool = {rows, SHR_COUNT_OF(rows)};
