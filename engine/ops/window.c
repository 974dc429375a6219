/* Window geometry; see window.h. */
#include "ops/window.h"

#include <string.h>

enum { LARGEST = 1 << 30 }; /* of a kernel, stride, dilation or pad: products fit in 64 bits */

static int read_list(const struct shr_node *node, const char *name, int n, int64_t least,
                     int64_t fallback, int64_t *values, struct shr_err *err)
{
    size_t have = 0;
    const int64_t *v = shr_node_ints(node, name, &have);
    for (int i = 0; i < n; i++) {
        values[i] = fallback;
    }
    if (v == NULL || have == 0) {
        return SHR_OK;
    }
    if (have != (size_t)n) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "%s has %zu values, the input needs %d",
                           name, have, n);
    }
    for (int i = 0; i < n; i++) {
        if (v[i] < least || v[i] > LARGEST) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "%s[%d] is %lld, not in [%lld, %d]",
                               name, i, (long long)v[i], (long long)least, LARGEST);
        }
        values[i] = v[i];
    }
    return SHR_OK;
}

static int64_t extent(const struct shr_window_axis *a)
{
    return (a->kernel - 1) * a->dilation + 1;
}

/* SAME: as many outputs as strides fit; the odd pad goes to the end (UPPER) or the start (LOWER).*/
static void pad_same(struct shr_window_axis *a, bool lower)
{
    a->out = (a->in + a->stride - 1) / a->stride;
    int64_t total = (a->out - 1) * a->stride + extent(a) - a->in;
    total = total < 0 ? 0 : total;
    a->pad_lo = lower ? total - total / 2 : total / 2;
    a->pad_hi = total - a->pad_lo;
}

static int count_outputs(const struct shr_node *node, struct shr_window_axis *a,
                         const char *auto_pad, bool ceil_mode, struct shr_err *err)
{
    a->out = -1;
    if (a->in < 0 || a->kernel < 0) {
        return SHR_OK;
    }
    if (strncmp(auto_pad, "SAME_", 5) == 0) {
        pad_same(a, strcmp(auto_pad, "SAME_LOWER") == 0);
        return SHR_OK;
    }
    int64_t room = a->in + a->pad_lo + a->pad_hi - extent(a);
    if (room < 0) {
        return shr_op_fail(node, err, SHR_ERR_INVALID,
                           "a kernel of %lld does not fit an input of %lld with pads %lld and %lld",
                           (long long)extent(a), (long long)a->in, (long long)a->pad_lo,
                           (long long)a->pad_hi);
    }
    a->out = (room + (ceil_mode ? a->stride - 1 : 0)) / a->stride + 1;
    if (ceil_mode && (a->out - 1) * a->stride >= a->in + a->pad_lo) {
        a->out--; /* the last window would begin behind the input */
    }
    return SHR_OK;
}

static int read_kernel(struct shr_window *w, const struct shr_node *node, const int64_t *given,
                       struct shr_err *err)
{
    int64_t kernel[SHR_WINDOW_AXES];
    int code = read_list(node, "kernel_shape", w->n, 1, -1, kernel, err);
    for (int i = 0; code == SHR_OK && i < w->n; i++) {
        int64_t k = given == NULL ? kernel[i] : given[i];
        if (given == NULL && k < 0) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "kernel_shape is missing");
        }
        if (given != NULL && kernel[i] >= 0 && k >= 0 && kernel[i] != k) {
            return shr_op_fail(node, err, SHR_ERR_INVALID,
                               "kernel_shape[%d] is %lld, but the weight has %lld", i,
                               (long long)kernel[i], (long long)k);
        }
        if (k == 0 || k > LARGEST) {
            return shr_op_fail(node, err, SHR_ERR_INVALID, "kernel dim %d is %lld", i,
                               (long long)k);
        }
        w->axis[SHR_WINDOW_AXES - w->n + i].kernel = k < 0 ? kernel[i] : k;
    }
    return code;
}

/* Everything but the outputs. */
static int read_window(struct shr_window *w, const struct shr_node *node, const struct shr_type *x,
                       const int64_t *kernel, const char **ret_auto_pad, struct shr_err *err)
{
    if (x->rank < 3 || x->rank > 2 + SHR_WINDOW_AXES) {
        return shr_op_fail(node, err, x->rank < 3 ? SHR_ERR_INVALID : SHR_ERR_UNSUPPORTED,
                           "the input has %d dims, 3 to %d are supported", x->rank,
                           2 + SHR_WINDOW_AXES);
    }
    const char *auto_pad = shr_node_text(node, "auto_pad", "NOTSET");
    bool by_pads = strcmp(auto_pad, "NOTSET") == 0;
    if (!by_pads && strcmp(auto_pad, "VALID") != 0 && strcmp(auto_pad, "SAME_UPPER") != 0 &&
        strcmp(auto_pad, "SAME_LOWER") != 0) {
        return shr_op_fail(node, err, SHR_ERR_INVALID, "auto_pad is '%.40s'", auto_pad);
    }
    *ret_auto_pad = auto_pad;
    *w = (struct shr_window){.n = x->rank - 2};
    int64_t strides[SHR_WINDOW_AXES], dilations[SHR_WINDOW_AXES], pads[2 * SHR_WINDOW_AXES] = {0};
    int code = read_list(node, "strides", w->n, 1, 1, strides, err);
    if (code == SHR_OK) {
        code = read_list(node, "dilations", w->n, 1, 1, dilations, err);
    }
    if (code == SHR_OK && by_pads) {
        code = read_list(node, "pads", 2 * w->n, 0, 0, pads, err);
    }
    if (code == SHR_OK) {
        code = read_kernel(w, node, kernel, err);
    }
    int first = SHR_WINDOW_AXES - w->n;
    for (int i = 0; i < first; i++) {
        w->axis[i] = (struct shr_window_axis){1, 1, 1, 1, 1, 0, 0};
    }
    for (int i = 0; code == SHR_OK && i < w->n; i++) {
        struct shr_window_axis *a = &w->axis[first + i];
        a->in = x->dim[2 + i];
        if (a->in > INT64_MAX / 2) { /* so that pads and strides can be added */
            return shr_op_fail(node, err, SHR_ERR_LIMIT, "input dim %d is %lld", 2 + i,
                               (long long)a->in);
        }
        a->stride = strides[i];
        a->dilation = dilations[i];
        a->pad_lo = pads[i];
        a->pad_hi = pads[w->n + i];
    }
    return code;
}

int shr_window_init(struct shr_window *w, const struct shr_node *node, const struct shr_type *x,
                    const int64_t *kernel, struct shr_err *err)
{
    const char *auto_pad;
    const bool ceil_mode = shr_node_int(node, "ceil_mode", 0) != 0;
    int code = read_window(w, node, x, kernel, &auto_pad, err);
    for (int i = SHR_WINDOW_AXES - w->n; code == SHR_OK && i < SHR_WINDOW_AXES; i++) {
        code = count_outputs(node, &w->axis[i], auto_pad, ceil_mode, err);
    }
    return code;
}

/* ── The way back ───────────────────────────────────────────────────────────────────────────── */

/* Swaps input and output: the larger side from the smaller one. An output that is told takes its
 * pads from what is left, with the odd one at the start unless the end is asked for. */
static int grow(const struct shr_node *node, struct shr_window_axis *a, const char *auto_pad,
                int64_t told, int64_t more, struct shr_err *err)
{
    const bool same = strncmp(auto_pad, "SAME_", 5) == 0;
    a->out = a->in;
    a->in = told;
    if (a->out < 0 || a->kernel < 0) {
        return SHR_OK;
    }
    if (a->out > LARGEST) { /* so that the product below fits */
        return shr_op_fail(node, err, SHR_ERR_LIMIT, "an input dim is %lld", (long long)a->out);
    }
    const int64_t full = a->stride * (a->out - 1) + more + extent(a);
    a->in = told >= 0 ? told : same ? a->out * a->stride : full - a->pad_lo - a->pad_hi;
    if (told >= 0 || same) {
        const int64_t pads = full > a->in ? full - a->in : 0;
        a->pad_lo = strcmp(auto_pad, "SAME_UPPER") == 0 ? pads / 2 : pads - pads / 2;
        a->pad_hi = pads - a->pad_lo;
    }
    return a->in >= 0 ? SHR_OK
                      : shr_op_fail(node, err, SHR_ERR_INVALID, "the pads take away all outputs");
}

int shr_window_transposed(struct shr_window *w, const struct shr_node *node,
                          const struct shr_type *x, const int64_t *kernel, struct shr_err *err)
{
    const char *auto_pad;
    int64_t told[SHR_WINDOW_AXES], more[SHR_WINDOW_AXES];
    int code = read_window(w, node, x, kernel, &auto_pad, err);
    if (code == SHR_OK) {
        code = read_list(node, "output_shape", w->n, 0, -1, told, err);
    }
    if (code == SHR_OK) {
        code = read_list(node, "output_padding", w->n, 0, 0, more, err);
    }
    for (int i = 0; code == SHR_OK && i < w->n; i++) {
        code = grow(node, &w->axis[SHR_WINDOW_AXES - w->n + i], auto_pad, told[i], more[i], err);
    }
    return code;
}

int shr_window_of(struct shr_window *w, const struct shr_node *node, const struct shr_tensor *x,
                  const int64_t *kernel, struct shr_err *err)
{
    struct shr_type t = {.dtype = x->dtype, .rank = x->rank};
    memcpy(t.dim, x->dim, sizeof t.dim);
    return shr_window_init(w, node, &t, kernel, err);
}

void shr_window_inside(const struct shr_window_axis *a, int64_t k, int64_t *ret_from,
                       int64_t *ret_to)
{
    int64_t shift = k * a->dilation - a->pad_lo; /* input index under output 0 */
    int64_t from = shift >= 0 ? 0 : (-shift + a->stride - 1) / a->stride;
    int64_t to = a->in - shift <= 0 ? 0 : (a->in - shift + a->stride - 1) / a->stride;
    to = to > a->out ? a->out : to;
    *ret_to = to;
    *ret_from = from > to ? to : from;
}

struct shr_conv_shape shr_window_conv(const struct shr_window *win, int64_t n, int64_t c,
                                      int64_t oc, int64_t groups)
{
    const struct shr_window_axis *h = &win->axis[1], *w = &win->axis[2];
    return (struct shr_conv_shape){.n = n,
                                   .c = c,
                                   .h = h->in,
                                   .w = w->in,
                                   .oc = oc,
                                   .kh = h->kernel,
                                   .kw = w->kernel,
                                   .oh = h->out,
                                   .ow = w->out,
                                   .stride_h = h->stride,
                                   .stride_w = w->stride,
                                   .pad_t = h->pad_lo,
                                   .pad_l = w->pad_lo,
                                   .pad_b = h->pad_hi,
                                   .pad_r = w->pad_hi,
                                   .dil_h = h->dilation,
                                   .dil_w = w->dilation,
                                   .groups = groups};
}
