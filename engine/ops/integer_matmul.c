/* Integer products: MatMulInteger, QLinearMatMul, and com.microsoft's QGemm, MatMulIntegerToFloat
 * and DynamicQuantizeMatMul; the arithmetic is in integer.h. A constant B is packed once, any other
 * while running. A float32 A is quantized first, as DynamicQuantizeLinear does. */
#include "ops/families.h"
#include "ops/integer.h"
#include "ops/product.h"

static const struct shr_integer_slots matmul_integer = {.a = 0,
                                                        .a_zero = 2,
                                                        .b = 1,
                                                        .b_zero = 3,
                                                        .a_scale = SHR_NO_SLOT,
                                                        .b_scale = SHR_NO_SLOT,
                                                        .bias = SHR_NO_SLOT,
                                                        .y_scale = SHR_NO_SLOT,
                                                        .y_zero = SHR_NO_SLOT};
static const struct shr_integer_slots qlinear_matmul = {.a = 0,
                                                        .a_scale = 1,
                                                        .a_zero = 2,
                                                        .b = 3,
                                                        .b_scale = 4,
                                                        .b_zero = 5,
                                                        .bias = SHR_NO_SLOT,
                                                        .y_scale = 6,
                                                        .y_zero = 7};
static const struct shr_integer_slots qgemm = {.a = 0,
                                               .a_scale = 1,
                                               .a_zero = 2,
                                               .b = 3,
                                               .b_scale = 4,
                                               .b_zero = 5,
                                               .bias = 6,
                                               .y_scale = 7,
                                               .y_zero = 8};

static const struct shr_integer_slots to_float = {.a = 0,
                                                  .a_scale = 2,
                                                  .a_zero = 4,
                                                  .b = 1,
                                                  .b_scale = 3,
                                                  .b_zero = 5,
                                                  .bias = SHR_NO_SLOT,
                                                  .y_scale = SHR_NO_SLOT,
                                                  .y_zero = SHR_NO_SLOT};
static const struct shr_integer_slots dynamic = {.a = 0,
                                                 .a_scale = SHR_NO_SLOT,
                                                 .a_zero = SHR_NO_SLOT,
                                                 .b = 1,
                                                 .b_scale = 2,
                                                 .b_zero = 3,
                                                 .bias = SHR_NO_SLOT,
                                                 .y_scale = SHR_NO_SLOT,
                                                 .y_zero = SHR_NO_SLOT};

/* The slot of a float32 bias. */
static int float_bias(const struct shr_integer_slots *s)
{
    return s == &to_float ? 6 : s == &dynamic ? 4 : SHR_NO_SLOT;
}

struct product {
    const struct shr_integer_slots *slots;
    struct shr_product p;
    bool trans_a, trans_b, flip_a, flip_b;
    float alpha;
    const char *packed;      /* (b_matrices) packed matrices; NULL = packed while running */
    size_t packed_size;      /* of one */
    size_t at_quantized;     /* in scratch: A quantized, */
    size_t at_a, at_b;       /* A as the kernel wants it, B likewise, */
    size_t at_packed;        /* B packed, */
    size_t at_zero, at_bias; /* int32 (n), int32 (n), */
    size_t at_scale;         /* float (n) */
};

/* ── Checks and preparation ─────────────────────────────────────────────────────────────────── */

/* Zero points of A: one, one a row of the matrix, or one a row of all when they are one product. */
static int check_rows(const struct shr_op_setup *c, const struct product *s, struct shr_err *err)
{
    const struct shr_tensor *a = c->in[s->slots->a];
    int64_t rows = shr_integer_count(shr_integer_in(c->in, c->n_in, s->slots->a_zero));
    if (rows == 1 || (a->rank > 1 && rows == a->dim[a->rank - 2])) {
        return SHR_OK;
    }
    return shr_integer_check_count(c, s->slots->a_zero, (int64_t)s->p.m, err);
}

/* The scratch: k * n and the like cannot overflow, they are sizes of tensors that exist. */
static void plan_scratch(struct shr_op_setup *c, struct product *s)
{
    size_t m = s->p.m, n = s->p.n, k = s->p.k;
    if (s->slots == &dynamic) {
        s->at_quantized = shr_integer_place(&c->scratch, (size_t)shr_tensor_count(c->in[0]));
    }
    s->at_a = shr_integer_place(&c->scratch, s->flip_a || s->trans_a ? m * k : 0);
    s->at_b = shr_integer_place(&c->scratch, s->flip_b ? k * n : 0);
    s->at_packed = shr_integer_place(&c->scratch, s->packed == NULL ? s->packed_size : 0);
    s->at_zero = shr_integer_place(&c->scratch, n * sizeof(int32_t));
    s->at_bias = shr_integer_place(&c->scratch, n * sizeof(int32_t));
    s->at_scale = shr_integer_place(&c->scratch, n * sizeof(float));
}

/* Packs matrix i of B. flipped (k, n) and zeros (n) are room to work in. */
static void pack_b(const struct shr_kernels *kernels, const struct product *s,
                   const struct shr_tensor *b, const struct shr_tensor *zero, int64_t i,
                   uint8_t *flipped, int32_t *zeros, void *packed)
{
    size_t size = s->p.k * s->p.n;
    const uint8_t *bytes = (const uint8_t *)b->data + (size_t)i * size;
    if (s->flip_b) {
        kernels->flip_u8(size, bytes, flipped);
        bytes = flipped;
    }
    shr_integer_zeros(zero, s->flip_b, s->p.n, zeros);
    kernels->gemm_i8_pack(s->p.k, s->p.n, (const int8_t *)bytes, s->trans_b ? s->p.k : s->p.n,
                          s->trans_b, zeros, packed);
}

static int pack_constant(struct shr_op_setup *c, struct product *s, struct shr_err *err)
{
    const struct shr_tensor *b = c->in[s->slots->b];
    const struct shr_tensor *zero = shr_integer_in(c->in, c->n_in, s->slots->b_zero);
    if (b->data == NULL || (zero != NULL && zero->data == NULL)) {
        return SHR_OK;
    }
    char *packed = shr_arena_new(c->arena, (size_t)s->p.b_matrices + 1, s->packed_size);
    int32_t *zeros = shr_mem_new(s->p.n + 1, sizeof *zeros);
    uint8_t *flipped = shr_mem_new(s->p.k * s->p.n + 1, 1);
    bool failed = packed == NULL || zeros == NULL || flipped == NULL;
    for (int64_t i = 0; i < s->p.b_matrices && !failed; i++) {
        pack_b(c->kernels, s, b, zero, i, flipped, zeros, packed + (size_t)i * s->packed_size);
    }
    shr_mem_free(zeros);
    shr_mem_free(flipped);
    if (failed) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    s->packed = packed;
    c->kernel = c->kernels->gemm_i8_form(packed);
    return SHR_OK;
}

static int check_float_bias(const struct shr_op_setup *c, const struct product *s,
                            struct shr_err *err)
{
    const int slot = float_bias(s->slots);
    const struct shr_tensor *bias = shr_integer_in(c->in, c->n_in, slot);
    if (bias == NULL ||
        (bias->dtype == SHR_DTYPE_F32 && shr_tensor_count(bias) == (int64_t)s->p.n)) {
        return SHR_OK;
    }
    return shr_op_fail(c->node, err, SHR_ERR_INVALID, "bias '%s' is not float32 [%zu]",
                       shr_op_in_name(c->node, (size_t)slot), s->p.n);
}

static int product_setup(struct shr_op_setup *c, const struct shr_integer_slots *slots,
                         struct shr_err *err)
{
    int code = shr_integer_check_types(c, slots, err);
    if (code != SHR_OK) {
        return code;
    }
    if ((slots == &dynamic) != (c->in[slots->a]->dtype == SHR_DTYPE_F32)) {
        return shr_op_fail(
            c->node, err, SHR_ERR_UNSUPPORTED, "cannot run with input '%s' of type %s",
            shr_op_in_name(c->node, (size_t)slots->a), shr_dtype_name(c->in[slots->a]->dtype));
    }
    struct product *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    s->slots = slots;
    struct shr_tensor a = *c->in[slots->a], b = *c->in[slots->b];
    s->alpha = 1;
    if (slots == &qgemm) {
        s->alpha = shr_node_float(c->node, "alpha", 1.0f);
        s->trans_a = shr_node_int(c->node, "transA", 0) != 0;
        s->trans_b = shr_node_int(c->node, "transB", 0) != 0;
        a.dim[0] = c->in[slots->a]->dim[s->trans_a];
        a.dim[1] = c->in[slots->a]->dim[1 - s->trans_a];
        b.dim[0] = c->in[slots->b]->dim[s->trans_b];
        b.dim[1] = c->in[slots->b]->dim[1 - s->trans_b];
    }
    shr_product_init(&s->p, &a, &b);
    s->flip_a = a.dtype == SHR_DTYPE_I8;
    s->flip_b = b.dtype == SHR_DTYPE_U8;
    s->packed_size = c->kernels->gemm_i8_size(s->p.k, s->p.n);
    code = shr_integer_check_columns(c, slots, (int64_t)s->p.n, err);
    if (code == SHR_OK) {
        code = check_float_bias(c, s, err);
    }
    if (code == SHR_OK) {
        code = check_rows(c, s, err);
    }
    if (code == SHR_OK) {
        code = pack_constant(c, s, err);
    }
    if (code == SHR_OK) {
        plan_scratch(c, s);
    }
    return code;
}

/* ── Running ────────────────────────────────────────────────────────────────────────────────── */

/* A: its bytes, and how they are quantized. */
struct operand {
    const uint8_t *bytes;
    const struct shr_tensor *scale, *zero; /* NULL = 1, 0 */
    struct shr_tensor own_scale, own_zero; /* of a float32 A */
    float scale_value;
    uint8_t zero_value;
};

static void quantize_a(const struct shr_op_call *c, const struct product *s, struct operand *a)
{
    const struct shr_tensor *x = c->in[s->slots->a];
    uint8_t *bytes = (uint8_t *)c->scratch + s->at_quantized;
    size_t n = (size_t)shr_tensor_count(x);
    float min, max;
    int32_t zero;
    c->kernels->minmax_f32(n, x->data, &min, &max);
    shr_integer_dynamic(min, max, &a->scale_value, &zero);
    c->kernels->quantize_u8(n, x->data, a->scale_value, zero, bytes);
    a->zero_value = (uint8_t)zero;
    a->own_scale = (struct shr_tensor){.dtype = SHR_DTYPE_F32, .data = &a->scale_value};
    a->own_zero = (struct shr_tensor){.dtype = SHR_DTYPE_U8, .data = &a->zero_value};
    a->bytes = bytes;
    a->scale = &a->own_scale;
    a->zero = &a->own_zero;
}

/* Everything of the kernel's call that does not depend on the batch. */
static struct shr_gemm_i8 product_call(const struct shr_op_call *c, const struct product *s,
                                       const struct operand *a)
{
    struct shr_integer_inputs in = shr_integer_inputs_of(c->in, c->n_in, s->slots);
    const struct shr_tensor *bias_f32 = shr_integer_in(c->in, c->n_in, float_bias(s->slots));
    in.a_scale = a->scale;
    int32_t *bias = (void *)((char *)c->scratch + s->at_bias);
    float *scale = (void *)((char *)c->scratch + s->at_scale);
    shr_integer_columns(&in, s->alpha, s->p.n, bias, scale);
    struct shr_gemm_i8 g = {.m = s->p.m,
                            .n = s->p.n,
                            .k = s->p.k,
                            .lda = s->p.k,
                            .ldc = s->p.n,
                            .bias = bias,
                            .bias_f32 = bias_f32 == NULL ? NULL : bias_f32->data,
                            .scale = scale,
                            .out = shr_integer_out(c->out[0]->dtype),
                            .c_zero = shr_integer_zero(in.y_zero, 0)};
    return g;
}

/* Matrix i of A as the kernel wants it: (m, k) uint8. */
static const uint8_t *load_a(const struct shr_op_call *c, const struct product *s,
                             const uint8_t *bytes, int64_t i)
{
    size_t m = s->p.m, k = s->p.k;
    const uint8_t *a = bytes + (size_t)i * m * k;
    uint8_t *room = (uint8_t *)c->scratch + s->at_a;
    if (s->trans_a) {
        c->kernels->transpose_u8(k, m, a, room);
        a = room;
    }
    if (s->flip_a) {
        c->kernels->flip_u8(m * k, a, room);
        a = room;
    }
    return a;
}

static const void *load_b(const struct shr_op_call *c, const struct product *s, int64_t i)
{
    char *scratch = c->scratch;
    if (s->packed != NULL) {
        return s->packed + (size_t)i * s->packed_size;
    }
    pack_b(c->kernels, s, c->in[s->slots->b], shr_integer_in(c->in, c->n_in, s->slots->b_zero), i,
           (uint8_t *)scratch + s->at_b, (void *)(scratch + s->at_zero), scratch + s->at_packed);
    return scratch + s->at_packed;
}

/* One product, row by row where each row of A has a zero point of its own. */
static void multiply(const struct shr_op_call *c, const struct product *s,
                     const struct shr_tensor *zero, struct shr_gemm_i8 *g)
{
    int32_t moved = s->flip_a ? 128 : 0;
    if (shr_integer_count(zero) == 1) {
        g->a_zero = shr_integer_zero(zero, 0) + moved;
        c->kernels->gemm_i8(g);
        return;
    }
    size_t rows = g->m, size = shr_dtype_size(c->out[0]->dtype);
    g->m = 1;
    for (size_t i = 0; i < rows; i++) {
        g->a_zero = shr_integer_zero(zero, (int64_t)i) + moved;
        c->kernels->gemm_i8(g);
        g->a += g->lda;
        g->c = (char *)g->c + g->ldc * size;
    }
    g->m = rows;
}

static int product_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct product *s = c->state;
    struct operand a = {.bytes = c->in[s->slots->a]->data,
                        .scale = shr_integer_in(c->in, c->n_in, s->slots->a_scale),
                        .zero = shr_integer_in(c->in, c->n_in, s->slots->a_zero)};
    if (s->slots == &dynamic) {
        quantize_a(c, s, &a);
    }
    struct shr_gemm_i8 g = product_call(c, s, &a);
    size_t y_size = s->p.m * s->p.n * shr_dtype_size(c->out[0]->dtype);
    struct shr_walk w = s->p.batches;
    for (bool more = shr_walk_begin(&w); more; more = shr_walk_next(&w)) {
        for (int64_t i = 0; i < w.inner; i++) {
            g.a = load_a(c, s, a.bytes, w.at[0] + i * w.step[0]);
            g.b = load_b(c, s, w.at[1] + i * w.step[1]);
            g.c = (char *)c->out[0]->data + (size_t)(w.out + i) * y_size;
            multiply(c, s, a.zero, &g);
        }
    }
    return SHR_OK;
}

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

static int matmul_integer_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0].dtype = SHR_DTYPE_I32;
    return shr_product_infer(c->node, &c->in[0], &c->in[1], &c->out[0], err);
}

static int matmul_integer_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return product_setup(c, &matmul_integer, err);
}

static int qlinear_matmul_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0].dtype = c->in[7].dtype;
    return shr_product_infer(c->node, &c->in[0], &c->in[3], &c->out[0], err);
}

static int qlinear_matmul_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return product_setup(c, &qlinear_matmul, err);
}

static int float_infer(struct shr_infer *c, struct shr_err *err)
{
    c->out[0].dtype = SHR_DTYPE_F32;
    return shr_product_infer(c->node, &c->in[0], &c->in[1], &c->out[0], err);
}

static int to_float_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return product_setup(c, &to_float, err);
}

static int dynamic_setup(struct shr_op_setup *c, struct shr_err *err)
{
    return product_setup(c, &dynamic, err);
}

/* A matrix as it is multiplied: with its dims exchanged when trans. */
static struct shr_type matrix_type(const struct shr_type *t, bool trans)
{
    struct shr_type m = *t;
    if (trans && t->rank == 2) {
        shr_type_copy_dim(&m, 0, t, 1);
        shr_type_copy_dim(&m, 1, t, 0);
    }
    return m;
}

static int qgemm_infer(struct shr_infer *c, struct shr_err *err)
{
    struct shr_type a = matrix_type(&c->in[0], shr_node_int(c->node, "transA", 0) != 0);
    struct shr_type b = matrix_type(&c->in[3], shr_node_int(c->node, "transB", 0) != 0);
    c->out[0].dtype = shr_op_has_in(c, 8) ? c->in[8].dtype : SHR_DTYPE_F32;
    if ((a.rank >= 0 && a.rank != 2) || (b.rank >= 0 && b.rank != 2)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "A and B must be matrices");
    }
    return shr_product_infer(c->node, &a, &b, &c->out[0], err);
}

static int qgemm_setup(struct shr_op_setup *c, struct shr_err *err)
{
    if ((shr_integer_in(c->in, c->n_in, 7) == NULL) != (c->out[0]->dtype == SHR_DTYPE_F32)) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID,
                           "y_scale and y_zero_point are not given together");
    }
    return product_setup(c, &qgemm, err);
}

static int64_t product_macs(const struct shr_node *node, const struct shr_type *in,
                            const struct shr_type *out)
{
    bool trans = shr_node_int(node, "transA", 0) != 0; /* of QGemm */
    const struct shr_type *a = &in[0];
    return shr_op_macs(out, 1, &a->dim[trans ? 0 : a->rank - 1]);
}

static const struct shr_op rows[] = {
    {SHR_ROW("MatMulInteger", 10, 0), SHR_SLOTS(2, 4, 1, 1), .infer = matmul_integer_infer,
     .setup = matmul_integer_setup, .forward = product_forward, .prune_role = SHR_PRUNE_WEIGHTED,
     .weight_slot = 1, .bias_slot = -1, .macs = product_macs},
    {SHR_ROW("QLinearMatMul", 10, 0), SHR_SLOTS(8, 8, 1, 1), .infer = qlinear_matmul_infer,
     .setup = qlinear_matmul_setup, .forward = product_forward, .prune_role = SHR_PRUNE_WEIGHTED,
     .weight_slot = 3, .bias_slot = -1, .macs = product_macs},
    {.domain = "com.microsoft",
     .name = "DynamicQuantizeMatMul",
     .since = 1,
     SHR_SLOTS(3, 5, 1, 1),
     .infer = float_infer,
     .setup = dynamic_setup,
     .forward = product_forward,
     .prune_role = SHR_PRUNE_WEIGHTED,
     .weight_slot = 1,
     .bias_slot = 4,
     .macs = product_macs},
    {.domain = "com.microsoft",
     .name = "MatMulIntegerToFloat",
     .since = 1,
     SHR_SLOTS(4, 7, 1, 1),
     .infer = float_infer,
     .setup = to_float_setup,
     .forward = product_forward,
     .prune_role = SHR_PRUNE_WEIGHTED,
     .weight_slot = 1,
     .bias_slot = 6,
     .macs = product_macs},
    {.domain = "com.microsoft",
     .name = "QGemm",
     .since = 1,
     SHR_SLOTS(6, 9, 1, 1),
     .infer = qgemm_infer,
     .setup = qgemm_setup,
     .forward = product_forward,
     .prune_role = SHR_PRUNE_WEIGHTED,
     .weight_slot = 3,
     .bias_slot = 6,
     .macs = product_macs},
};
const struct shr_op_family shr_ops_integer_matmul = {rows, SHR_COUNT_OF(rows)};
