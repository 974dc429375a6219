/* Fused steps around matrix products: float, static int8 and dynamic int8; see fuse.h. */
#include "exec/fused.h"

/* Rows of x and the two sides of the weight. */
struct shape {
    size_t m, n, k;
    bool trans;
};

static struct shape shape_of(const struct shr_op_setup *c, size_t w_slot)
{
    const struct shr_tensor *x = c->in[0], *w = c->in[w_slot];
    struct shape s = {.trans = shr_node_int(c->node, "transB", 0) != 0};
    s.n = (size_t)w->dim[s.trans ? 0 : 1];
    s.k = (size_t)w->dim[s.trans ? 1 : 0];
    s.m = 1;
    for (int d = 0; d + 1 < x->rank; d++) {
        s.m *= (size_t)x->dim[d];
    }
    return s;
}

static size_t row_stride(const struct shape *s)
{
    return s->trans ? s->k : s->n;
}

/* ── float32 ────────────────────────────────────────────────────────────────────────────────── */

struct linear {
    struct shr_gemm_f32 g;
    bool sparse;
};

/* B in the form that is faster. */
static int pack_f32(struct shr_op_setup *c, const struct shape *s, const float *w,
                    struct linear *linear, struct shr_err *err)
{
    const struct shr_kernels *k = c->kernels;
    void *packed = NULL;
    size_t bytes = k->sparse_f32_size(s->k, s->n, w, row_stride(s), s->trans);
    linear->sparse = bytes > 0;
    bytes = linear->sparse ? bytes : k->gemm_f32_size(s->k, s->n);
    int rc = shr__fused_memory(c, bytes, 1, &packed, err);
    if (rc == 0 && linear->sparse) {
        k->sparse_f32_pack(s->k, s->n, w, row_stride(s), s->trans, packed);
        c->kernel = "sparse";
    } else if (rc == 0) {
        k->gemm_f32_pack(s->k, s->n, w, row_stride(s), s->trans, packed);
        c->kernel = "dense";
    }
    linear->g.b = packed;
    return rc;
}

static int linear_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct shape s = shape_of(c, SHR__F_W);
    struct shr__act act = shr__fuse_act_of(c->node);
    struct linear *linear = NULL;
    const float *bias;
    float *scaled = NULL;
    int rc = shr__fused_memory(c, 1, sizeof *linear, &linear, err);
    if (rc == 0) {
        rc = shr__fused_rescale(c, (int64_t)s.n, s.trans ? (int64_t)s.k : 1, &scaled, &bias, err);
    }
    if (rc != 0) {
        return rc;
    }
    linear->g = (struct shr_gemm_f32){
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .lda = s.k,
        .bias = bias,
        .ldc = s.n,
        .act = act.kind,
        .act_lo = act.lo,
        .act_hi = act.hi,
    };
    rc = pack_f32(c, &s, scaled != NULL ? scaled : c->in[SHR__F_W]->data, linear, err);
    shr_mem_free(scaled);
    c->state = linear;
    return rc;
}

static int linear_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct linear *linear = c->state;
    struct shr_gemm_f32 g = linear->g;
    g.a = c->in[0]->data;  /* (m, k) */
    g.c = c->out[0]->data; /* (m, n) */
    if (linear->sparse) {
        c->kernels->sparse_f32(&g, c->team);
    } else {
        c->kernels->gemm_f32_team(&g, c->team);
    }
    return SHR_OK;
}

const struct shr_op shr__fused_linear = {
    SHR__FUSED_ROW("Linear"), .setup = linear_setup, .forward = linear_forward,
    .packs = 1u << SHR__F_W | 1u << SHR__F_SCALE | 1u << SHR__F_SHIFT};

/* ── Static int8 ────────────────────────────────────────────────────────────────────────────── */

static int pack(struct shr_op_setup *c, const struct shape *s, const struct shr__qproduct *q,
                void **ret, struct shr_err *err)
{
    int rc = shr__fused_memory(c, c->kernels->gemm_i8_size(s->k, s->n), 1, ret, err);
    if (rc == 0) {
        c->kernels->gemm_i8_pack(s->k, s->n, q->w, row_stride(s), s->trans, q->w_zero, *ret);
        c->kernel = c->kernels->gemm_i8_form(*ret);
    }
    return rc;
}

static int qlinear_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct shape s = shape_of(c, SHR__Q_W);
    struct shr__qproduct q;
    struct shr_gemm_i8 *g = NULL;
    void *packed = NULL;
    int rc = shr__qproduct_init(&q, c, (int64_t)s.n, err);
    if (rc == 0) {
        rc = shr__fused_memory(c, 1, sizeof *g, &g, err);
    }
    if (rc == 0) {
        rc = pack(c, &s, &q, &packed, err);
    }
    if (rc != 0) {
        return rc;
    }
    *g = (struct shr_gemm_i8){
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .lda = s.k,
        .a_zero = q.x_zero,
        .b = packed,
        .bias = q.bias,
        .out = q.out,
        .scale = q.scale,
        .bias_f32 = q.bias_f32,
        .c_zero = q.y_zero,
        .act = q.act,
        .c_min = q.y_min,
        .c_max = q.y_max,
        .ldc = s.n,
    };
    c->state = g;
    return SHR_OK;
}

static int qlinear_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    struct shr_gemm_i8 g = *(const struct shr_gemm_i8 *)c->state;
    g.a = c->in[0]->data;  /* (m, k) */
    g.c = c->out[0]->data; /* (m, n) */
    g.team = c->team;
    c->kernels->gemm_i8(&g);
    return SHR_OK;
}

const struct shr_op shr__fused_qlinear = {SHR__FUSED_ROW("QLinear"), .setup = qlinear_setup,
                                          .forward = qlinear_forward, .packs = 1u << SHR__Q_W};

/* ── Dynamic int8 ───────────────────────────────────────────────────────────────────────────── */

struct dynamic {
    struct shr_gemm_i8 g;
    const float *w_scale; /* (n_w_scale) */
    size_t n_w_scale;
};

/* The weights with their zero points, packed; slots as in fuse.h. */
static int dynamic_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct shape s = shape_of(c, SHR__D_W);
    const struct shr_tensor *bias = c->in[SHR__D_BIAS];
    struct dynamic *d = NULL;
    void *packed = NULL;
    const int8_t *w;
    const int32_t *zero;
    int rc = shr__fused_weight(c, SHR__D_W, SHR__D_W_ZERO, (int64_t)s.n, &w, &zero, err);
    if (rc == 0) {
        rc = shr__fused_memory(c, 1, sizeof *d, &d, err);
    }
    if (rc == 0) {
        struct shr__qproduct q = {.w = w, .w_zero = zero};
        rc = pack(c, &s, &q, &packed, err);
    }
    if (rc != 0) {
        return rc;
    }
    d->g = (struct shr_gemm_i8){
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .lda = s.k,
        .b = packed,
        .out = SHR_GEMM_F32,
        .bias_f32 = bias == NULL ? NULL : bias->data,
        .act = shr__fused_act(c->node),
        .ldc = s.n,
    };
    d->w_scale = c->in[SHR__D_W_SCALE]->data;
    d->n_w_scale = (size_t)shr_tensor_count(c->in[SHR__D_W_SCALE]);
    c->state = d;
    c->scratch = s.n * sizeof(float);
    return SHR_OK;
}

static int dynamic_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct dynamic *d = c->state;
    struct shr_gemm_i8 g = d->g;
    float x_scale = ((const float *)c->in[SHR__D_X_SCALE]->data)[0];
    float *scale = c->scratch; /* (n) */
    for (size_t i = 0; i < g.n; i++) {
        scale[i] = x_scale * d->w_scale[d->n_w_scale == 1 ? 0 : i];
    }
    g.a = c->in[SHR__D_X]->data; /* (m, k) */
    g.a_zero = ((const uint8_t *)c->in[SHR__D_X_ZERO]->data)[0];
    g.scale = scale;
    g.c = c->out[0]->data; /* (m, n) */
    g.team = c->team;
    c->kernels->gemm_i8(&g);
    return SHR_OK;
}

const struct shr_op shr__fused_dynamic = {SHR__FUSED_ROW("DynamicLinear"), .setup = dynamic_setup,
                                          .forward = dynamic_forward, .packs = 1u << SHR__D_W};
