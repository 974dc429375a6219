/* com.microsoft's MatMulNBits: Y = A x B' + bias, where B (N, K) has integers of 2, 4 or 8 bits and
 * a scale and a zero point for each block along K: b = (q - zero) * scale.
 *
 * DESIGN. B is dequantized once, into the packed form of the float product, when all about it is
 * constant; this is the fastest form and takes the memory of the float weight. Otherwise it is done
 * a panel of columns at a time while running. */
#include "core/team.h"
#include "ops/families.h"
#include "ops/product.h"

enum { A, B, SCALES, ZEROS, G_IDX, BIAS };
enum { PANEL = 64 }; /* columns; packed matrices follow each other */

struct nbits {
    int64_t n, k, block, blocks, bits;
    size_t rows, panel_size; /* of A; bytes of a packed panel */
    const char *packed;      /* panels; NULL = packed while running */
    size_t at_packed;
};

static int nbits_infer(struct shr_infer *c, struct shr_err *err)
{
    const struct shr_type *a = &c->in[A];
    int64_t k = shr_node_int(c->node, "K", -1), n = shr_node_int(c->node, "N", -1);
    c->out[0].dtype = a->dtype;
    if (k < 1 || n < 1 || k > INT32_MAX || n > INT32_MAX) {
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "attribute K is %lld and N is %lld",
                           (long long)k, (long long)n);
    }
    if (a->rank < 0) {
        return SHR_OK;
    }
    if (a->rank == 0 || (a->dim[a->rank - 1] >= 0 && a->dim[a->rank - 1] != k)) {
        char text[96];
        return shr_op_fail(c->node, err, SHR_ERR_INVALID, "A is %s, but K is %lld",
                           shr_dims_text(a->rank, a->dim, text, sizeof text), (long long)k);
    }
    shr_type_copy_shape(&c->out[0], a);
    shr_type_set_dim(&c->out[0], a->rank - 1, n, NULL);
    return SHR_OK;
}

static int64_t packed_bytes(int64_t count, int64_t bits)
{
    const int64_t each = 8 / bits;
    return count / each + (count % each != 0);
}

static int check_count(const struct shr_op_setup *c, size_t slot, int64_t wanted,
                       struct shr_err *err)
{
    const struct shr_tensor *t = slot < c->n_in ? c->in[slot] : NULL;
    if (t == NULL || shr_tensor_count(t) == wanted) {
        return SHR_OK;
    }
    return shr_op_fail(c->node, err, SHR_ERR_INVALID, "input '%s' has %lld elements, not %lld",
                       shr_op_in_name(c->node, slot), (long long)shr_tensor_count(t),
                       (long long)wanted);
}

static int read_attributes(const struct shr_op_setup *c, struct nbits *s, struct shr_err *err)
{
    s->n = shr_node_int(c->node, "N", 0);
    s->k = shr_node_int(c->node, "K", 0);
    s->bits = shr_node_int(c->node, "bits", 4);
    s->block = shr_node_int(c->node, "block_size", 0);
    bool power = s->block >= 16 && s->block <= INT32_MAX && (s->block & (s->block - 1)) == 0;
    if ((s->bits != 2 && s->bits != 4 && s->bits != 8) || !power) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED,
                           "blocks of %lld integers of %lld bits are not supported",
                           (long long)s->block, (long long)s->bits);
    }
    if (shr_node_int(c->node, "weight_prepacked", 0) != 0) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED,
                           "prepacked weights are not supported");
    }
    if (c->n_in > G_IDX && c->in[G_IDX] != NULL) {
        return shr_op_fail(c->node, err, SHR_ERR_UNSUPPORTED, "g_idx is not supported");
    }
    s->blocks = s->k / s->block + (s->k % s->block != 0);
    return SHR_OK;
}

static int check_inputs(const struct shr_op_setup *c, const struct nbits *s, struct shr_err *err)
{
    const unsigned wanted[] = {
        SHR_BIT(F32), SHR_BIT(U8), SHR_BIT(F32), SHR_BIT(U8) | SHR_BIT(F32), 0, SHR_BIT(F32)};
    bool float_zeros =
        c->n_in > ZEROS && c->in[ZEROS] != NULL && c->in[ZEROS]->dtype == SHR_DTYPE_F32;
    const int64_t counts[] = {shr_tensor_count(c->in[A]),
                              s->n * s->blocks * packed_bytes(s->block, s->bits),
                              s->n * s->blocks,
                              s->n * (float_zeros ? s->blocks : packed_bytes(s->blocks, s->bits)),
                              0,
                              s->n};
    int code = SHR_OK;
    for (size_t i = 0; i < c->n_in && code == SHR_OK; i++) {
        if (c->in[i] != NULL) {
            code = shr_op_want(c, i, wanted[i], err);
        }
        code = code == SHR_OK ? check_count(c, i, counts[i], err) : code;
    }
    return code;
}

static unsigned part(const uint8_t *bytes, int64_t i, int64_t bits)
{
    const int64_t each = 8 / bits;
    return bytes[i / each] >> (i % each * bits) & ((1u << bits) - 1);
}

static float zero_of(const struct nbits *s, const struct shr_tensor *zeros, int64_t row,
                     int64_t block)
{
    if (zeros == NULL) {
        return (float)(1 << (s->bits - 1));
    }
    return zeros->dtype == SHR_DTYPE_F32
               ? ((const float *)zeros->data)[row * s->blocks + block]
               : (float)part((const uint8_t *)zeros->data + row * packed_bytes(s->blocks, s->bits),
                             block, s->bits);
}

/* Row `row` of B (K). */
static void dequantize_row(const struct nbits *s, const struct shr_tensor *const *in, size_t n_in,
                           int64_t row, float *to)
{
    const struct shr_tensor *zeros = n_in > ZEROS ? in[ZEROS] : NULL;
    const int64_t bytes = packed_bytes(s->block, s->bits);
    for (int64_t b = 0; b < s->blocks; b++) {
        const uint8_t *q = (const uint8_t *)in[B]->data + (row * s->blocks + b) * bytes;
        const float scale = ((const float *)in[SCALES]->data)[row * s->blocks + b];
        const float zero = zero_of(s, zeros, row, b);
        int64_t n = s->k - b * s->block < s->block ? s->k - b * s->block : s->block;
        for (int64_t i = 0; i < n; i++) {
            to[b * s->block + i] = ((float)part(q, i, s->bits) - zero) * scale;
        }
    }
}

static int64_t panel_columns(const struct nbits *s, int64_t first)
{
    return s->n - first < PANEL ? s->n - first : PANEL;
}

/* Packs the columns from `first` on; room holds PANEL rows of B. */
static void pack_panel(const struct nbits *s, const struct shr_kernels *kernels,
                       const struct shr_tensor *const *in, size_t n_in, int64_t first, float *room,
                       void *packed)
{
    const int64_t columns = panel_columns(s, first);
    for (int64_t j = 0; j < columns; j++) {
        dequantize_row(s, in, n_in, first + j, room + j * s->k);
    }
    kernels->gemm_f32_pack((size_t)s->k, (size_t)columns, room, (size_t)s->k, true, packed);
}

static int pack_constant(const struct shr_op_setup *c, struct nbits *s, struct shr_err *err)
{
    const int64_t panels = s->n / PANEL + (s->n % PANEL != 0);
    char *packed = shr_arena_new(c->arena, (size_t)panels, s->panel_size);
    float *room = shr_mem_new(PANEL * (size_t)s->k, sizeof *room);
    bool failed = packed == NULL || room == NULL;
    for (int64_t i = 0; i < panels && !failed; i++) {
        pack_panel(s, c->kernels, c->in, c->n_in, i * PANEL, room,
                   packed + (size_t)i * s->panel_size);
    }
    shr_mem_free(room);
    s->packed = packed;
    return failed ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory") : SHR_OK;
}

static int nbits_setup(struct shr_op_setup *c, struct shr_err *err)
{
    struct nbits *s = shr_arena_new(c->arena, 1, sizeof *s);
    if (s == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    c->state = s;
    int code = read_attributes(c, s, err);
    code = code == SHR_OK ? check_inputs(c, s, err) : code;
    if (code != SHR_OK) {
        return code;
    }
    s->rows = (size_t)(shr_tensor_count(c->in[A]) / s->k);
    s->panel_size = c->kernels->gemm_f32_size((size_t)s->k, PANEL);
    bool known = true;
    for (size_t i = B; i < c->n_in && i <= ZEROS; i++) {
        known = known && (c->in[i] == NULL || c->in[i]->data != NULL);
    }
    if (known) {
        return pack_constant(c, s, err);
    }
    s->at_packed = ((size_t)PANEL * (size_t)s->k * sizeof(float) + SHR_MEM_ALIGN - 1) /
                   SHR_MEM_ALIGN * SHR_MEM_ALIGN;
    c->scratch = s->at_packed + s->panel_size;
    return SHR_OK;
}

static void run_panel(const struct shr_op_call *c, int64_t first, const void *packed)
{
    const struct nbits *s = c->state;
    const struct shr_tensor *bias = c->n_in > BIAS ? c->in[BIAS] : NULL;
    c->kernels->gemm_f32(&(struct shr_gemm_f32){
        .m = s->rows,
        .n = (size_t)panel_columns(s, first),
        .k = (size_t)s->k,
        .a = c->in[A]->data,
        .lda = (size_t)s->k,
        .b = packed,
        .bias = bias == NULL ? NULL : (const float *)bias->data + first,
        .c = (float *)c->out[0]->data + first,
        .ldc = (size_t)s->n,
    });
}

static void run_known_panel(void *arg, size_t task, size_t worker)
{
    const struct shr_op_call *c = arg;
    const struct nbits *s = c->state;
    (void)worker;
    run_panel(c, (int64_t)task * PANEL, s->packed + task * s->panel_size);
}

static int nbits_forward(const struct shr_op_call *c, struct shr_err *err)
{
    (void)err;
    const struct nbits *s = c->state;
    if (s->packed != NULL) {
        struct shr_op_call call = *c;
        shr_team_run(c->team, (size_t)(s->n / PANEL + (s->n % PANEL != 0)), run_known_panel, &call);
        return SHR_OK;
    }
    void *packed = (char *)c->scratch + s->at_packed;
    for (int64_t first = 0; first < s->n; first += PANEL) {
        pack_panel(s, c->kernels, c->in, c->n_in, first, c->scratch, packed);
        run_panel(c, first, packed);
    }
    return SHR_OK;
}

static int64_t nbits_macs(const struct shr_node *node, const struct shr_type *in,
                          const struct shr_type *out)
{
    (void)node;
    return shr_op_macs(out, 1, &in[A].dim[in[A].rank - 1]);
}

static const struct shr_op rows[] = {
    {.domain = "com.microsoft",
     .name = "MatMulNBits",
     .since = 1,
     SHR_SLOTS(3, 6, 1, 1),
     .infer = nbits_infer,
     .setup = nbits_setup,
     .forward = nbits_forward,
     SHR_NO_WEIGHT,
     .macs = nbits_macs},
};
const struct shr_op_family shr_ops_matmul_nbits = {rows, SHR_COUNT_OF(rows)};
