/* Det: determinants of square matrices (…, n, n), float32 and float64, by elimination with the
 * largest pivot of each column, in double. */
#include "ops/util.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"

static int det_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *x = &c->in[0];
    c->out[0] = *x;
    if (x->rank < 0) {
        return SHR_OK;
    }
    const int64_t rows = x->rank < 2 ? 0 : x->dim[x->rank - 2];
    const int64_t cols = x->rank < 2 ? 0 : x->dim[x->rank - 1];
    if (x->rank < 2 || (rows >= 0 && cols >= 0 && rows != cols)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "the input has no square matrices");
    }
    c->out[0].rank = x->rank - 2;
    return SHR_OK;
}

static int det_setup(struct shr_op_setup *c, struct shr_err *err)
{
    const size_t n = (size_t)c->in[0]->dim[c->in[0]->rank - 1];
    size_t count;
    if (!shr_size_mul(n, n, &count) || !shr_size_mul(count, sizeof(double), &c->scratch)) {
        return shr_op_fail(c->node, err, SHR_ERR_LIMIT, "the matrices are too large");
    }
    return shr_op_want(c, 0, SHR_BIT(F32) | SHR_BIT(F64), err);
}

static void swap_rows(double *a, int64_t n, int64_t i, int64_t j)
{
    for (int64_t k = 0; k < n; k++) {
        const double t = a[i * n + k];
        a[i * n + k] = a[j * n + k];
        a[j * n + k] = t;
    }
}

/* a (n, n) is used up. */
static double determinant(double *a, int64_t n)
{
    double det = 1.0;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++) {
            best = fabs(a[i * n + k]) > fabs(a[best * n + k]) ? i : best;
        }
        if (best != k) {
            swap_rows(a, n, best, k);
            det = -det;
        }
        const double pivot = a[k * n + k];
        det *= pivot;
        for (int64_t i = k + 1; i < n && pivot != 0.0; i++) {
            const double by = a[i * n + k] / pivot;
            for (int64_t j = k; j < n; j++) {
                a[i * n + j] -= by * a[k * n + j];
            }
        }
    }
    return det;
}

static int det_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct shr_tensor *x = c->in[0];
    const int64_t n = x->dim[x->rank - 1];
    double *a = c->scratch;
    for (int64_t i = 0; i < shr_tensor_count(c->out[0]); i++) {
        for (int64_t j = 0; j < n * n; j++) {
            a[j] = shr_tensor_get(x, i * n * n + j);
        }
        shr_tensor_set(c->out[0], i, determinant(a, n));
    }
    return SHR_OK;
}

static const struct shr_op rows[] = {
    {SHR_ROW("Det", 11, 0), SHR_SLOTS(1, 1, 1, 1), .infer = det_infer, .setup = det_setup,
     .forward = det_forward, SHR_NO_WEIGHT},
};
const struct shr_op_family shr_ops_det = {rows, SHR_COUNT_OF(rows)};
