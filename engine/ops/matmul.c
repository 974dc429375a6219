/* Matrix products: MatMul and Gemm.
 *
 * A constant B is packed once in setup; any other B is packed into scratch while running. MatMul
 * with a plain matrix on the right is one product over all batches of A. Gemm is
 * Y = alpha * A' * B' + beta * C; alpha = 1 with a row vector C is the kernel's own bias, every
 * other case is an epilogue over Y. float32 only. */
#include "ops/product.h"

#include <string.h>

#include "ops/families.h"
#include "ops/grad.h"

/* ── MatMul ─────────────────────────────────────────────────────────────────────────────────── */

static int matmul_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *a = &c->in[0], *b = &c->in[1];
    int code = shr_op_same_dtype(c, 0, 1, err);
    if (code != SHR_OK) {
        return code;
    }
    c->out[0].dtype = a->dtype != SHR_DTYPE_NONE ? a->dtype : b->dtype;
    return shr_product_infer(c->node, a, b, &c->out[0], err);
}

struct matmul {
    struct shr_product p;
    const char *packed; /* (b_matrices) packed matrices; NULL = B is not constant */
    size_t packed_size; /* of one, and of a worker's scratch; a multiple of SHR_MEM_ALIGN */
    size_t n;           /* products */
    size_t (*at)[2];    /* (n) the matrices of A and B of each */
};

/* The matrices of every product. */
static int list_products(struct shr_op_setup *c, struct matmul *s, struct shr_err *err)
{
    struct shr_walk w = s->p.batches;
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        s->n += (size_t)w.inner;
    }
    s->at = shr_arena_new(c->arena, s->n + 1, sizeof *s->at);
    if (s->at == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    w = s->p.batches;
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        for (int64_t i = 0; i < w.inner; i++) {
            s->at[w.out + i][0] = (size_t)(w.at[0] + i * w.step[0]);
            s->at[w.out + i][1] = (size_t)(w.at[1] + i * w.step[1]);
        }
    }
    return SHR_OK;
}

static int matmul_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_setup_f32(c, err);
    if (code != SHR_OK) {
        return code;
    }
    struct matmul *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    shr_product_init(&s->p, c->in[0], c->in[1]);
    code = list_products(c, s, err);
    if (code != SHR_OK) {
        return code;
    }
    s->packed_size = c->kernels->gemm_f32_size(s->p.k, s->p.n);
    s->packed_size += (SHR_MEM_ALIGN - s->packed_size % SHR_MEM_ALIGN) % SHR_MEM_ALIGN;
    c->state = s;
    if (c->in[1]->data == NULL) {
        bool fits = shr_size_mul(s->packed_size, c->threads, &c->scratch);
        return fits ? SHR_OK : shr_err_set(err, SHR_ERR_LIMIT, "B does not fit in memory");
    }
    char *packed = shr_arena_new(c->arena, (size_t)s->p.b_matrices + 1, s->packed_size);
    if (packed == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    const float *b = c->in[1]->data; /* (…, k, n) */
    for (int64_t i = 0; i < s->p.b_matrices; i++) {
        c->kernels->gemm_f32_pack(s->p.k, s->p.n, b + (size_t)i * s->p.k * s->p.n, s->p.n, false,
                                  packed + (size_t)i * s->packed_size);
    }
    s->packed = packed;
    return SHR_OK;
}

static void one_product(const struct shr_op_call *c, size_t i, size_t worker, struct shr_team *team)
{
    const struct matmul *s = c->state;
    const size_t k = s->p.k, n = s->p.n, ia = s->at[i][0], ib = s->at[i][1];
    const float *a = c->in[0]->data, *b = c->in[1]->data; /* (…, m, k), (…, k, n) */
    const char *packed;
    if (s->packed != NULL) {
        packed = s->packed + ib * s->packed_size;
    } else {
        char *scratch = (char *)c->scratch + worker * s->packed_size;
        c->kernels->gemm_f32_pack(k, n, b + ib * k * n, n, false, scratch);
        packed = scratch;
    }
    const struct shr_gemm_f32 g = {
        .m = s->p.m,
        .n = n,
        .k = k,
        .a = a + ia * s->p.m * k,
        .lda = k,
        .b = packed,
        .c = (float *)c->out[0]->data + i * s->p.m * n, /* (…, m, n) */
        .ldc = n,
    };
    c->kernels->gemm_f32_team(&g, team);
}

static void product_task(void *arg, size_t task, size_t worker)
{
    one_product(arg, task, worker, NULL);
}

static int matmul_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct matmul *s = c->state;
    if (s->n == 1) {
        one_product(c, 0, 0, c->team);
    } else {
        struct shr_op_call call = *c;
        shr_team_run(c->team, s->n, product_task, &call);
    }
    return SHR_OK;
}

static int64_t matmul_macs(const struct shr_node *node, const struct shr_type *in,
                           const struct shr_type *out)
{
    (void)node;
    return shr_op_macs(out, 1, &in[0].dim[in[0].rank - 1]);
}

/* ── Gemm ───────────────────────────────────────────────────────────────────────────────────── */

static int gemm_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *a = &c->in[0], *b = &c->in[1];
    int code = shr_op_same_dtype(c, 0, 1, err);
    if (code != SHR_OK) {
        return code;
    }
    c->out[0].dtype = a->dtype != SHR_DTYPE_NONE ? a->dtype : b->dtype;
    if (a->rank < 0 || b->rank < 0) {
        return SHR_OK;
    }
    char ta[96], tb[96];
    if (a->rank != 2 || b->rank != 2) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "inputs %s and %s must be matrices",
                           shr_dims_text(a->rank, a->dim, ta, sizeof ta),
                           shr_dims_text(b->rank, b->dim, tb, sizeof tb));
    }
    int trans_a = shr_node_int(c->node, "transA", 0) != 0;
    int trans_b = shr_node_int(c->node, "transB", 0) != 0;
    int64_t ka = a->dim[1 - trans_a], kb = b->dim[trans_b];
    if (ka >= 0 && kb >= 0 && ka != kb) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "cannot multiply %s by %s (transA %d, transB %d)",
                           shr_dims_text(a->rank, a->dim, ta, sizeof ta),
                           shr_dims_text(b->rank, b->dim, tb, sizeof tb), trans_a, trans_b);
    }
    c->out[0].rank = 2;
    shr_type_copy_dim(&c->out[0], 0, a, trans_a);
    shr_type_copy_dim(&c->out[0], 1, b, 1 - trans_b);
    if (!shr_op_has_in(c, 2) || c->in[2].rank < 0) {
        return SHR_OK;
    }
    struct shr_type y = c->out[0];
    code = shr_type_broadcast(c->node, &y, &c->in[2], err);
    for (int i = 0; code == SHR_OK && i < 2; i++) {
        if (y.rank != 2 || (c->out[0].dim[i] >= 0 && y.dim[i] != c->out[0].dim[i])) {
            code = shr_op_fail(c->node, err, SHR_ERR_INVALID, "C %s does not broadcast to %s",
                               shr_dims_text(c->in[2].rank, c->in[2].dim, ta, sizeof ta),
                               shr_dims_text(2, c->out[0].dim, tb, sizeof tb));
        }
    }
    return code;
}

struct gemm {
    size_t m, n, k;
    bool trans_a, trans_b;
    float alpha, beta;
    const void *packed;       /* NULL = B is not constant: packed in scratch */
    const float *bias;        /* (n) constant row, times beta; NULL = none */
    bool bias_is_input;       /* C is a row with beta 1 that is not constant */
    bool epilogue;            /* alpha and C are applied to the product */
    size_t packed_size, a_at; /* A transposed is in scratch behind B */
};

/* Sorts C into the kernel's bias or the epilogue. */
static int gemm_plan_c(struct shr_op_setup *c, struct gemm *s, struct shr_err *err)
{
    const struct shr_tensor *bias = c->n_in > 2 ? c->in[2] : NULL;
    if (bias == NULL || s->beta == 0.0f) {
        s->epilogue = s->alpha != 1.0f;
        return SHR_OK;
    }
    bool row = shr_tensor_count(bias) == (int64_t)s->n && bias->rank > 0 &&
               bias->dim[bias->rank - 1] == (int64_t)s->n;
    if (s->alpha != 1.0f || !row || (bias->data == NULL && s->beta != 1.0f)) {
        s->epilogue = true;
        return SHR_OK;
    }
    if (bias->data == NULL) {
        s->bias_is_input = true;
        return SHR_OK;
    }
    float *scaled = shr_arena_new(c->arena, s->n + 1, sizeof *scaled);
    if (scaled == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < s->n; i++) {
        scaled[i] = s->beta * ((const float *)bias->data)[i];
    }
    s->bias = scaled;
    return SHR_OK;
}

static int gemm_setup(struct shr_op_setup *c, struct shr_err *err)
{
    int code = shr_op_setup_f32(c, err);
    if (code != SHR_OK) {
        return code;
    }
    struct gemm *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    s->trans_a = shr_node_int(c->node, "transA", 0) != 0;
    s->trans_b = shr_node_int(c->node, "transB", 0) != 0;
    s->alpha = shr_node_float(c->node, "alpha", 1.0f);
    s->beta = shr_node_float(c->node, "beta", 1.0f);
    s->m = (size_t)c->in[0]->dim[s->trans_a];
    s->k = (size_t)c->in[0]->dim[1 - s->trans_a];
    s->n = (size_t)c->in[1]->dim[1 - s->trans_b];
    s->packed_size = c->kernels->gemm_f32_size(s->k, s->n);
    c->state = s;
    if (c->in[1]->data != NULL) {
        void *packed = shr_arena_new(c->arena, s->packed_size + 1, 1);
        if (packed == NULL) {
            return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
        }
        c->kernels->gemm_f32_pack(s->k, s->n, c->in[1]->data, s->trans_b ? s->k : s->n, s->trans_b,
                                  packed);
        s->packed = packed;
    } else {
        s->a_at = (s->packed_size + SHR_MEM_ALIGN - 1) / SHR_MEM_ALIGN * SHR_MEM_ALIGN;
    }
    c->scratch = s->a_at + (s->trans_a ? s->m * s->k * sizeof(float) : 0);
    return gemm_plan_c(c, s, err);
}

/* y = alpha * y + beta * C, C broadcast to (m, n). */
static void gemm_epilogue(const struct gemm *s, const struct shr_tensor *bias, struct shr_tensor *y)
{
    float *out = y->data; /* (m, n) */
    if (bias == NULL || s->beta == 0.0f) {
        for (size_t i = 0; i < s->m * s->n; i++) {
            out[i] *= s->alpha;
        }
        return;
    }
    const float *x = bias->data;
    struct shr_walk w;
    shr_walk_broadcast(&w, 2, y->dim, 1, &bias);
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        for (int64_t i = 0; i < w.inner; i++) {
            float *p = &out[w.out + i];
            *p = s->alpha * *p + s->beta * x[w.at[0] + i * w.step[0]];
        }
    }
}

static int gemm_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct gemm *s = c->state;
    const struct shr_tensor *bias = c->n_in > 2 ? c->in[2] : NULL;
    const float *a = c->in[0]->data; /* (m, k), or (k, m) when transA */
    const void *packed = s->packed;
    if (packed == NULL) {
        c->kernels->gemm_f32_pack(s->k, s->n, c->in[1]->data, s->trans_b ? s->k : s->n, s->trans_b,
                                  c->scratch);
        packed = c->scratch;
    }
    if (s->trans_a) {
        float *t = (float *)(void *)((char *)c->scratch + s->a_at);
        int64_t dim[] = {(int64_t)s->m, (int64_t)s->k}, stride[] = {1, (int64_t)s->m};
        shr_copy_strided(sizeof *t, 2, dim, stride, a, t);
        a = t;
    }
    c->kernels->gemm_f32_team(
        &(struct shr_gemm_f32){.m = s->m,
                               .n = s->n,
                               .k = s->k,
                               .a = a,
                               .lda = s->k,
                               .b = packed,
                               .bias = s->bias_is_input ? bias->data : s->bias,
                               .c = c->out[0]->data,
                               .ldc = s->n},
        c->team);
    if (s->epilogue) {
        gemm_epilogue(s, bias, c->out[0]);
    }
    return SHR_OK;
}

static int64_t gemm_macs(const struct shr_node *node, const struct shr_type *in,
                         const struct shr_type *out)
{
    return shr_op_macs(out, 1, &in[0].dim[shr_node_int(node, "transA", 0) != 0 ? 0 : 1]);
}

static const struct shr_op rows[] = {
    {SHR_ROW("Gemm", 7, 0), SHR_SLOTS(2, 3, 1, 1), .infer = gemm_infer, .setup = gemm_setup,
     .forward = gemm_forward, .backward = shr_backward_gemm, .quant_role = SHR_QUANT_WEIGHTED,
     .prune_role = SHR_PRUNE_WEIGHTED, .weight_slot = 1, .bias_slot = 2, .macs = gemm_macs,
     .packs = 1 << 1},
    {SHR_ROW("MatMul", 1, 0), SHR_SLOTS(2, 2, 1, 1), .infer = matmul_infer, .setup = matmul_setup,
     .forward = matmul_forward, .backward = shr_backward_matmul, .quant_role = SHR_QUANT_WEIGHTED,
     .prune_role = SHR_PRUNE_WEIGHTED, .weight_slot = 1, .bias_slot = -1, .macs = matmul_macs,
     .packs = 1 << 1},
};
const struct shr_op_family shr_ops_matmul = {rows, SHR_COUNT_OF(rows)};
