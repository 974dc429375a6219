/* Parameters, zeros, multiply-accumulates and compressed bytes of small models. */
#include "../exec/build.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "eval/eval.h"

static const int64_t WIDTHS[] = {784, 300, 100, 10};
enum { LAYERS = 3, MLP_PARAMETERS = 266610, MLP_MACS = 784 * 300 + 300 * 100 + 100 * 10 };

static const char *name(const char *stem, int layer)
{
    static char text[4][32];
    static unsigned turn;
    char *t = text[turn++ % 4];
    snprintf(t, sizeof text[0], "%s%d", stem, layer);
    return t;
}

static void expect(const struct shr_model *m, int64_t parameters, int64_t nonzero, int64_t macs)
{
    struct shr__counts counts;
    struct shr_err err = {0};
    int64_t measured;
    shr__count_parameters(m, &counts);
    assert_int_equal(counts.parameters, parameters);
    assert_int_equal(counts.nonzero, nonzero);
    if (shr__count_macs(m, &measured, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(measured, macs);
}

static void a_float_mlp(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 1);
    struct shr_model *m = build_model();
    struct shr_value *y = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 784));
    for (int i = 0; i < LAYERS; i++) {
        const int64_t k = WIDTHS[i], n = WIDTHS[i + 1];
        struct shr_value *w = build_random(m, "w", SHR_DTYPE_F32, DIMS(n, k), 0.1, 1, &rng);
        struct shr_value *b = build_random(m, "b", SHR_DTYPE_F32, DIMS(n), 0.1, 1, &rng);
        memset(w->constant.data, 0, 7 * sizeof(float));
        y = build_node(m, "Gemm", name("fc", i), y, w, b, NULL);
        build_int(m, "transB", 1);
        y = build_node(m, "Relu", name("relu", i), y, NULL);
    }
    build_output(m, y);
    expect(m, MLP_PARAMETERS, MLP_PARAMETERS - 3 * 7, MLP_MACS);
    shr_model_free(m);
}

/* Weights and biases count, scales and zero points do not; zero is the zero point. */
static void a_statically_quantized_mlp(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 2);
    struct shr_model *m = build_model();
    struct shr_value *y = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 784));
    struct shr_value *scale = build_scalar(m, "scale", SHR_DTYPE_F32, 0.01);
    struct shr_value *zero = build_scalar(m, "zero", SHR_DTYPE_U8, 3);
    for (int i = 0; i < LAYERS; i++) {
        const int64_t k = WIDTHS[i], n = WIDTHS[i + 1];
        struct shr_value *w = build_random(m, "w", SHR_DTYPE_I8, DIMS(n, k), 20, 90, &rng);
        struct shr_value *w_scale = build_random(m, "ws", SHR_DTYPE_F32, DIMS(n), 1, 2, &rng);
        struct shr_value *w_zero = build_random(m, "wz", SHR_DTYPE_I8, DIMS(n), 5, 5, &rng);
        struct shr_value *b = build_random(m, "b", SHR_DTYPE_I32, DIMS(n), 1, 99, &rng);
        memset(w->constant.data, 5, 11); /* at the zero point of row 0 */
        y = build_node(m, "QuantizeLinear", name("q", i), y, scale, zero, NULL);
        y = build_node(m, "DequantizeLinear", name("dq", i), y, scale, zero, NULL);
        w = build_node(m, "DequantizeLinear", name("w_real", i), w, w_scale, w_zero, NULL);
        build_int(m, "axis", 0);
        b = build_node(m, "DequantizeLinear", name("b_real", i), b, scale, NULL);
        y = build_node(m, "Gemm", name("fc", i), y, w, b, NULL);
        build_int(m, "transB", 1);
    }
    build_output(m, y);
    expect(m, MLP_PARAMETERS, MLP_PARAMETERS - 3 * 11, MLP_MACS);
    shr_model_free(m);
}

static void a_dynamically_quantized_mlp(void **state)
{
    (void)state;
    struct shr_rng rng;
    struct shr_err err = {0};
    shr_rng_init(&rng, 3);
    struct shr_model *m = build_model();
    struct shr_value *y = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 784));
    for (int i = 0; i < LAYERS; i++) {
        const int64_t k = WIDTHS[i], n = WIDTHS[i + 1];
        struct shr_value *q[3];
        assert_int_equal(shr_graph_add_value(&m->graph, name("q", i), &q[0], &err), 0);
        assert_int_equal(shr_graph_add_value(&m->graph, name("s", i), &q[1], &err), 0);
        assert_int_equal(shr_graph_add_value(&m->graph, name("z", i), &q[2], &err), 0);
        assert_int_equal(shr_graph_add_node(&m->graph, NULL, "", "DynamicQuantizeLinear",
                                            name("dql", i), &y, 1, q, 3, NULL, &err),
                         0);
        struct shr_value *w = build_random(m, "w", SHR_DTYPE_I8, DIMS(k, n), 20, 90, &rng);
        struct shr_value *w_scale = build_random(m, "ws", SHR_DTYPE_F32, DIMS(n), 1, 2, &rng);
        struct shr_value *w_zero = build_random(m, "wz", SHR_DTYPE_I8, DIMS(n), 0, 0, &rng);
        struct shr_value *b = build_random(m, "b", SHR_DTYPE_F32, DIMS(n), 1, 99, &rng);
        struct shr_value *scales = build_node(m, "Mul", name("scales", i), q[1], w_scale, NULL);
        y = build_node(m, "MatMulInteger", name("acc", i), q[0], w, q[2], w_zero, NULL);
        y = build_node(m, "Cast", name("cast", i), y, NULL);
        build_int(m, "to", SHR_DTYPE_F32);
        y = build_node(m, "Mul", name("real", i), y, scales, NULL);
        y = build_node(m, "Add", name("sum", i), y, b, NULL);
    }
    build_output(m, y);
    expect(m, MLP_PARAMETERS, MLP_PARAMETERS, MLP_MACS);
    shr_model_free(m);
}

/* MatMulNBits of 3 rows of 20, in blocks of 16: two integers a byte, rows filled up; and a table of
 * 2 x 32 without zero points. A weight is zero when it is its block's zero point. */
static void weights_in_blocks(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 3);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 20));
    struct shr_value *q = build_random(m, "q", SHR_DTYPE_U8, DIMS(3, 2, 8), 0, 0, &rng);
    struct shr_value *scale = build_random(m, "s", SHR_DTYPE_F32, DIMS(3, 2), 1, 2, &rng);
    struct shr_value *zero = build_random(m, "z", SHR_DTYPE_U8, DIMS(3, 1), 0, 0, &rng);
    uint8_t *bytes = q->constant.data, *zeros = zero->constant.data;
    memset(bytes, 0x77, 48);
    bytes[0] = 0x57;  /* row 0, block 0: one of 16 is not 7 */
    bytes[25] = 0x33; /* row 1, block 1: 3, 3 and 7, 7 */
    zeros[0] = 0x77;
    zeros[1] = 0x37;
    zeros[2] = 0x70; /* row 2, block 0 is 0: none of 16 is */
    struct shr_value *y = build_node(m, "MatMulNBits", "y", x, q, scale, zero, NULL);
    m->graph.last_node->domain = "com.microsoft";
    build_int(m, "K", 20);
    build_int(m, "N", 3);
    build_int(m, "bits", 4);
    build_int(m, "block_size", 16);
    struct shr_value *ids = build_input(m, "ids", SHR_DTYPE_I64, DIMS(-1));
    struct shr_value *table = build_random(m, "t", SHR_DTYPE_U8, DIMS(2, 16), 0, 0, &rng);
    struct shr_value *steps = build_random(m, "ts", SHR_DTYPE_F32, DIMS(2, 1), 1, 2, &rng);
    memset(table->constant.data, 0x88, 32);
    ((uint8_t *)table->constant.data)[31] = 0x18;
    struct shr_value *g = build_node(m, "GatherBlockQuantized", "g", table, ids, steps, NULL);
    m->graph.last_node->domain = "com.microsoft";
    build_int(m, "block_size", 32);
    build_output(m, y);
    build_output(m, g);
    struct shr__counts counts;
    shr__count_parameters(m, &counts);
    assert_int_equal(counts.parameters, 3 * 20 + 2 * 32);
    assert_int_equal(counts.nonzero, 1 + 2 + 16 + 1);

    build_int(m, "block_size", 0); /* what does not fit is counted as it is stored */
    shr__count_parameters(m, &counts);
    assert_int_equal(counts.parameters, 3 * 20 + 32);
    shr_model_free(m);
}

static void unknown_operators_have_no_macs(void **state)
{
    (void)state;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 4));
    build_output(m, build_node(m, "Imaginary", "y", x, NULL));
    struct shr_err err = {0};
    int64_t macs;
    assert_int_equal(shr__count_macs(m, &macs, &err), SHR_ERR_UNSUPPORTED);
    assert_string_equal(err.msg, "operator Imaginary of node y is not known");
    shr_model_free(m);
}

/* The size of what zlib's own one-call compressor makes, with gzip's 18 bytes for zlib's 6. */
static void gzip_bytes_are_those_of_level_6(void **state)
{
    (void)state;
    enum { N = 300000 };
    unsigned char *bytes = shr_mem_new(N, 1), *out = shr_mem_new(compressBound(N), 1);
    struct shr_rng rng;
    shr_rng_init(&rng, 9);
    for (size_t i = 0; i < N; i++) {
        bytes[i] = (unsigned char)shr_rng_below(&rng, 1 + i % 7);
    }
    uLongf n = compressBound(N);
    assert_int_equal(compress2(out, &n, bytes, N, 6), Z_OK);
    size_t measured;
    struct shr_err err = {0};
    assert_int_equal(shr__gzip_bytes(bytes, N, &measured, &err), 0);
    assert_int_equal(measured, n + 18 - 6);
    assert_int_equal(shr__gzip_bytes(bytes, 0, &measured, &err), 0);
    assert_int_equal(measured, 20);
    shr_mem_free(bytes);
    shr_mem_free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_float_mlp),
        cmocka_unit_test(a_statically_quantized_mlp),
        cmocka_unit_test(a_dynamically_quantized_mlp),
        cmocka_unit_test(weights_in_blocks),
        cmocka_unit_test(unknown_operators_have_no_macs),
        cmocka_unit_test(gzip_bytes_are_those_of_level_6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
