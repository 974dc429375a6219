/* Normalizations, float32: BatchNormalization (inference), InstanceNormalization,
 * LayerNormalization, RMSNormalization, GroupNormalization. Statistics are summed in double. */
#include "ops/util.h"

#include <math.h>

#include "ops/families.h"
#include "ops/grad.h"

/* ── BatchNormalization: y = x * a[c] + b[c] ────────────────────────────────────────────────── */

/* Parameters are vectors over the channels. */
static int channels_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    int64_t channels = x->rank >= 2 ? x->dim[1] : -1;
    for (size_t i = 1; i < c->n_in; i++) {
        const struct shr_type *p = &c->in[i];
        if (p->rank >= 0 &&
            (p->rank != 1 || (p->dim[0] >= 0 && channels >= 0 && p->dim[0] != channels))) {
            char t[96];
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "input '%s' is %s, not [%lld]",
                               shr_op_in_name(c->node, i),
                               shr_dims_text(p->rank, p->dim, t, sizeof t), (long long)channels);
        }
    }
    if (x->rank >= 0 && x->rank < 2) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the input has no channels");
    }
    c->out[0] = *x;
    return SHR_OK;
}

static int batch_setup(struct shr_op_setup *c, struct shr_err *err)
{
    size_t outputs = 0;
    for (size_t i = 0; i < c->n_out; i++) {
        outputs += c->out[i] != NULL;
    }
    if (shr_node_int(c->node, "training_mode", 0) != 0 || outputs > 1) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "training mode cannot be run");
    }
    if (c->opset < 9 && shr_node_int(c->node, "spatial", 1) == 0) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "spatial = 0 cannot be run");
    }
    return shr_op_setup_f32(c, err);
}

static int batch_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *t = c->in[0]; /* (n, c, spatial…) */
    const float *x = t->data, *scale = c->in[1]->data, *shift = c->in[2]->data;
    const float *mean = c->in[3]->data, *variance = c->in[4]->data;
    const float epsilon = shr_node_float(c->node, "epsilon", 1e-5f);
    float *y = c->out[0]->data;
    int64_t size = shr_dims_product(t->dim, 2, t->rank);
    for (int64_t i = 0; i < t->dim[0] * t->dim[1]; i++, x += size, y += size) {
        int64_t ch = i % t->dim[1];
        const float a = scale[ch] / sqrtf(variance[ch] + epsilon), b = shift[ch] - mean[ch] * a;
        for (int64_t j = 0; j < size; j++) {
            y[j] = x[j] * a + b;
        }
    }
    return SHR_OK;
}

/* ── Statistics of a row ────────────────────────────────────────────────────────────────────── */

static void row_statistics(const float *x, int64_t n, float epsilon, double *ret_mean,
                           double *ret_inverse)
{
    double sum = 0.0, squares = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i];
    }
    double mean = n == 0 ? 0.0 : sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - mean;
        squares += d * d;
    }
    *ret_mean = mean;
    *ret_inverse = 1.0 / sqrt((n == 0 ? 0.0 : squares / (double)n) + (double)epsilon);
}

static int instance_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *t = c->in[0]; /* (n, c, spatial…) */
    const float *x = t->data, *scale = c->in[1]->data, *shift = c->in[2]->data;
    const float epsilon = shr_node_float(c->node, "epsilon", 1e-5f);
    float *y = c->out[0]->data;
    int64_t size = shr_dims_product(t->dim, 2, t->rank);
    for (int64_t i = 0; i < t->dim[0] * t->dim[1]; i++, x += size, y += size) {
        double mean, inverse;
        row_statistics(x, size, epsilon, &mean, &inverse);
        for (int64_t j = 0; j < size; j++) {
            y[j] = (float)(((double)x[j] - mean) * inverse) * scale[i % t->dim[1]] +
                   shift[i % t->dim[1]];
        }
    }
    return SHR_OK;
}

/* ── LayerNormalization: over the dims from axis on; scale and bias broadcast to the input ──── */

static int layer_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    c->out[0] = *x;
    if (x->rank < 0) {
        return SHR_OK;
    }
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", -1), x->rank, &axis, err);
    for (size_t i = 1; code == SHR_OK && i < c->n_in; i++) {
        struct shr_type y = *x;
        code = shr_type_broadcast(c->node, &y, &c->in[i], err);
        if (code == SHR_OK && y.rank > x->rank) {
            code =
                shr_op_fail(c->node, err, SHR_ERR_INVALID,
                            "input '%s' has more dims than the input", shr_op_in_name(c->node, i));
        }
    }
    for (size_t i = 1; code == SHR_OK && i < c->n_out; i++) { /* Mean, InvStdDev */
        c->out[i] = *x;
        c->out[i].dtype = SHR_DTYPE_F32;
        for (int d = axis; d < x->rank; d++) {
            shr_type_set_dim(&c->out[i], d, 1, NULL);
        }
    }
    return code;
}

/* y = y * scale + bias, both broadcast */
static void scale_and_shift(struct shr_tensor *y, const struct shr_tensor *scale,
                            const struct shr_tensor *bias)
{
    const struct shr_tensor *x[] = {scale, bias};
    const float *a = scale->data, *b = bias == NULL ? NULL : bias->data;
    float *out = y->data;
    struct shr_walk w;
    shr_walk_broadcast(&w, y->rank, y->dim, bias == NULL ? 1 : 2, x);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        for (int64_t i = 0; i < w.inner; i++) {
            float shift = b == NULL ? 0.0f : b[w.at[1] + i * w.step[1]];
            out[w.out + i] = out[w.out + i] * a[w.at[0] + i * w.step[0]] + shift;
        }
    }
}

enum { TASK = 4096 }; /* elements, about */

struct layer_rows {
    const struct shr_kernels *kernels;
    struct shr_layernorm p;
    const float *x;
    float *y, *means, *inverses; /* the last two may be NULL */
    size_t rows, a_task;
};

static void some_rows(void *arg, size_t task, size_t worker)
{
    (void)worker;
    const struct layer_rows *r = arg;
    struct shr_layernorm p = r->p;
    for (size_t i = task * r->a_task; i < (task + 1) * r->a_task && i < r->rows; i++) {
        p.ret_mean = r->means == NULL ? NULL : &r->means[i];
        p.ret_inverse = r->inverses == NULL ? NULL : &r->inverses[i];
        r->kernels->layernorm_f32(&p, r->x + i * p.n, r->y + i * p.n);
    }
}

/* Is t one element for each of a row, the dims of x from axis on? */
static bool is_row(const struct shr_tensor *t, const struct shr_tensor *x, int axis)
{
    bool row = shr_tensor_count(t) == shr_dims_product(x->dim, axis, x->rank);
    for (int i = 1; row && i <= x->rank - axis; i++) {
        row = (i <= t->rank ? t->dim[t->rank - i] : 1) == x->dim[x->rank - i];
    }
    return row;
}

static int layer_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *t = c->in[0];
    const float epsilon = shr_node_float(c->node, "epsilon", 1e-5f);
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", -1), t->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    int64_t rows = shr_dims_product(t->dim, 0, axis), n = shr_dims_product(t->dim, axis, t->rank);
    const float *x = t->data;
    float *y = c->out[0]->data;
    float *means = c->n_out > 1 && c->out[1] != NULL ? c->out[1]->data : NULL;
    float *inverses = c->n_out > 2 && c->out[2] != NULL ? c->out[2]->data : NULL;
    const struct shr_tensor *bias = c->n_in > 2 ? c->in[2] : NULL;
    if (n > 0 && is_row(c->in[1], t, axis) && (bias == NULL || is_row(bias, t, axis))) {
        struct layer_rows r = {.kernels = c->kernels,
                               .p = {.n = (size_t)n, .scale = c->in[1]->data, .epsilon = epsilon},
                               .x = x,
                               .y = y,
                               .means = means,
                               .inverses = inverses,
                               .rows = (size_t)rows,
                               .a_task = n >= TASK ? 1 : (size_t)(TASK / n)};
        r.p.bias = bias == NULL ? NULL : bias->data;
        shr_team_run(c->team, (r.rows + r.a_task - 1) / r.a_task, some_rows, &r);
        return SHR_OK;
    }
    for (int64_t i = 0; i < rows; i++) {
        double mean, inverse;
        row_statistics(x + i * n, n, epsilon, &mean, &inverse);
        for (int64_t j = 0; j < n; j++) {
            y[i * n + j] = (float)(((double)x[i * n + j] - mean) * inverse);
        }
        if (means != NULL) {
            means[i] = (float)mean;
        }
        if (inverses != NULL) {
            inverses[i] = (float)inverse;
        }
    }
    scale_and_shift(c->out[0], c->in[1], bias);
    return SHR_OK;
}

/* ── RMSNormalization: as LayerNormalization, without the mean and the bias ─────────────────── */

static int rms_forward(const struct shr_op_call *c, struct shr_err *err)
{
    const struct shr_tensor *t = c->in[0];
    const double epsilon = (double)shr_node_float(c->node, "epsilon", 1e-5f);
    int axis = 0;
    int code = shr_op_axis(c->node, "axis", shr_node_int(c->node, "axis", -1), t->rank, &axis, err);
    if (code != SHR_OK) {
        return code;
    }
    int64_t rows = shr_dims_product(t->dim, 0, axis), n = shr_dims_product(t->dim, axis, t->rank);
    const float *x = t->data;
    float *y = c->out[0]->data;
    for (int64_t i = 0; i < rows; i++, x += n, y += n) {
        double squares = 0.0;
        for (int64_t j = 0; j < n; j++) {
            squares += (double)x[j] * (double)x[j];
        }
        const float inverse = (float)(1.0 / sqrt((n == 0 ? 0.0 : squares / (double)n) + epsilon));
        for (int64_t j = 0; j < n; j++) {
            y[j] = x[j] * inverse;
        }
    }
    scale_and_shift(c->out[0], c->in[1], NULL);
    return SHR_OK;
}

/* ── GroupNormalization: over the channels of a group; scale and bias of each channel, until
 *    opset 20 of each group ─────────────────────────────────────────────────────────────────── */

static int group_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    const int64_t groups = shr_node_int(c->node, "num_groups", 0);
    const int64_t channels = x->rank >= 2 ? x->dim[1] : -1;
    c->out[0] = *x;
    if (groups < 1 || (channels >= 0 && channels % groups != 0) || x->rank == 0 || x->rank == 1) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "%lld channels in %lld groups",
                           (long long)channels, (long long)groups);
    }
    const int64_t want = c->opset < 21 ? groups : channels;
    for (size_t i = 1; i < c->n_in; i++) {
        const struct shr_type *p = &c->in[i];
        if (p->rank >= 0 && (p->rank != 1 || (p->dim[0] >= 0 && want >= 0 && p->dim[0] != want))) {
            return shr_op_fail(c->node, err, SHR_ERR_INVALID, "input '%s' is not [%lld]",
                               shr_op_in_name(c->node, i), (long long)want);
        }
    }
    return SHR_OK;
}

static int group_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *t = c->in[0]; /* (n, c, spatial…) */
    const float *x = t->data, *scale = c->in[1]->data, *shift = c->in[2]->data;
    const float epsilon = shr_node_float(c->node, "epsilon", 1e-5f);
    float *y = c->out[0]->data;
    const int64_t groups = shr_node_int(c->node, "num_groups", 1), each = t->dim[1] / groups;
    const int64_t plane = shr_dims_product(t->dim, 2, t->rank), size = each * plane;
    for (int64_t i = 0; i < t->dim[0] * groups && size > 0; i++, x += size, y += size) {
        double mean, inverse;
        row_statistics(x, size, epsilon, &mean, &inverse);
        for (int64_t j = 0; j < size; j++) {
            const int64_t g = i % groups, p = c->opset < 21 ? g : g * each + j / plane;
            y[j] = (float)(((double)x[j] - mean) * inverse) * scale[p] + shift[p];
        }
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("BatchNormalization", 7, 0), SHR_SLOTS(5, 5, 1, 5), .infer = channels_infer,
     .setup = batch_setup, .forward = batch_forward, .prune_role = SHR_PRUNE_PASS, SHR_NO_WEIGHT,
     .in_place = true, .backward = shr_backward_batch_norm, .training = shr_training_batch_norm},
    {SHR_ROW("GroupNormalization", 18, 0), SHR_SLOTS(3, 3, 1, 1), .infer = group_infer,
     .setup = shr_op_setup_f32, .forward = group_forward, SHR_NO_WEIGHT,
     .backward = shr_backward_group_norm},
    {SHR_ROW("InstanceNormalization", 6, 0), SHR_SLOTS(3, 3, 1, 1), .infer = channels_infer,
     .setup = shr_op_setup_f32, .forward = instance_forward, .prune_role = SHR_PRUNE_PASS,
     SHR_NO_WEIGHT, .backward = shr_backward_instance_norm},
    {SHR_ROW("LayerNormalization", 17, 0), SHR_SLOTS(2, 3, 1, 3), .infer = layer_infer,
     .setup = shr_op_setup_f32, .forward = layer_forward, SHR_NO_WEIGHT,
     .backward = shr_backward_layer_norm},
    {SHR_ROW("RMSNormalization", 23, 0), SHR_SLOTS(2, 2, 1, 1), .infer = layer_infer,
     .setup = shr_op_setup_f32, .forward = rms_forward, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_norm = {rows, SHR_COUNT_OF(rows)};
