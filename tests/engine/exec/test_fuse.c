/* Fused plans compute what the nodes compute one by one, for every pattern. */
#include "build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* ── Quantized building blocks ──────────────────────────────────────────────────────────────── */

struct scale { /* of an activation */
    double scale;
    int zero;
    enum shr_dtype dtype;
};

static int serial; /* of names; tests run on one thread */

static const char *fresh(const char *stem)
{
    static char name[32];
    snprintf(name, sizeof name, "%s_%d", stem, ++serial);
    return name;
}

static struct shr_value *qdq_node(struct shr_model *m, const char *op, struct shr_value *x,
                                  const struct scale *s)
{
    struct shr_value *scale = build_scalar(m, "scale", SHR_DTYPE_F32, s->scale);
    struct shr_value *zero = build_scalar(m, "zero", s->dtype, s->zero);
    return build_node(m, op, fresh(op), x, scale, zero, NULL);
}

static struct shr_value *quantize(struct shr_model *m, struct shr_value *x, const struct scale *s)
{
    return qdq_node(m, "QuantizeLinear", x, s);
}

static struct shr_value *dequantize(struct shr_model *m, struct shr_value *q, const struct scale *s)
{
    return qdq_node(m, "DequantizeLinear", q, s);
}

static struct shr_value *qdq(struct shr_model *m, struct shr_value *x, const struct scale *s)
{
    return dequantize(m, quantize(m, x, s), s);
}

struct weight { /* how a weight is quantized */
    enum shr_dtype dtype;
    bool per_channel;
    int64_t axis;
};

static struct shr_value *weight(struct shr_model *m, const int64_t *dims, const struct weight *w,
                                struct shr_rng *rng)
{
    const int64_t n = w->per_channel ? dims[1 + w->axis] : 1;
    const bool is_signed = w->dtype == SHR_DTYPE_I8;
    struct shr_value *q =
        build_random(m, "w", w->dtype, dims, is_signed ? -127 : 0, is_signed ? 127 : 255, rng);
    struct shr_value *scale, *zero;
    if (w->per_channel) {
        scale = build_random(m, "w_scale", SHR_DTYPE_F32, DIMS(n), 0.001, 0.004, rng);
        zero = build_random(m, "w_zero", w->dtype, DIMS(n), is_signed ? 0 : 120,
                            is_signed ? 0 : 130, rng);
    } else {
        scale = build_scalar(m, "w_scale", SHR_DTYPE_F32, 0.002);
        zero = build_scalar(m, "w_zero", w->dtype, is_signed ? 3 : 128);
    }
    struct shr_value *out =
        build_node(m, "DequantizeLinear", fresh("w_real"), q, scale, zero, NULL);
    build_int(m, "axis", w->axis);
    return out;
}

/* ── Comparing ──────────────────────────────────────────────────────────────────────────────── */

static bool mentions(const struct shr_plan *plan, const char *step)
{
    char call[64];
    snprintf(call, sizeof call, " = %s(", step);
    struct shr_buf text = build_print(plan);
    bool found = strstr(shr_buf_str(&text), call) != NULL;
    shr_buf_finish(&text);
    return found;
}

static const struct scale X_U8 = {2.0 / 255, 128, SHR_DTYPE_U8};
static const struct scale X_S8 = {2.0 / 255, -1, SHR_DTYPE_I8};

/* ── Float ──────────────────────────────────────────────────────────────────────────────────── */

static void gemm_takes_relu(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 1);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 19));
    struct shr_value *w = build_random(m, "w", SHR_DTYPE_F32, DIMS(13, 19), -1, 1, &rng);
    struct shr_value *b = build_random(m, "b", SHR_DTYPE_F32, DIMS(13), -1, 1, &rng);
    struct shr_value *y = build_node(m, "Gemm", "product", x, w, b, NULL);
    build_int(m, "transB", 1);
    build_output(m, build_node(m, "Relu", "y", y, NULL));
    build_expect_equal(m, "Linear", 1e-5, 1, &rng);
}

static void conv_takes_relu(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 2);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 3, 9, 8));
    struct shr_value *w = build_random(m, "w", SHR_DTYPE_F32, DIMS(5, 3, 3, 2), -1, 1, &rng);
    struct shr_value *b = build_random(m, "b", SHR_DTYPE_F32, DIMS(5), -1, 1, &rng);
    struct shr_value *y = build_node(m, "Conv", "conv", x, w, b, NULL);
    build_ints(m, "pads", (const int64_t[]){1, 0, 2, 1}, 4);
    build_ints(m, "strides", (const int64_t[]){2, 1}, 2);
    build_output(m, build_node(m, "Relu", "y", y, NULL));
    build_expect_equal(m, "ToNhwc Conv FromNhwc", 1e-5, 1, &rng);
}

static void a_kept_value_is_not_fused_away(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 3);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 4));
    struct shr_value *w = build_random(m, "w", SHR_DTYPE_F32, DIMS(4, 4), -1, 1, &rng);
    struct shr_value *y = build_node(m, "MatMul", "product", x, w, NULL);
    build_output(m, build_node(m, "Relu", "y", y, NULL));
    const char *keep[] = {"product"};
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){.keep = keep, .n_keep = 1});
    assert_true(mentions(plan, "Relu"));
    assert_non_null(shr_plan_value(plan, "product"));
    shr_plan_free(plan);
    shr_model_free(m);
}

/* ── Static int8 ────────────────────────────────────────────────────────────────────────────── */

struct linear {
    const char *op; /* Gemm or MatMul */
    struct scale x;
    struct weight w;
    int bias; /* 0 none, 1 int32, 2 float */
    bool relu, quantized;
    const char *steps;
};

static struct shr_value *linear_bias(struct shr_model *m, int kind, const struct linear *t,
                                     int64_t n, struct shr_rng *rng)
{
    if (kind == 2) {
        return build_random(m, "b", SHR_DTYPE_F32, DIMS(n), -1, 1, rng);
    }
    struct shr_value *q = build_random(m, "b", SHR_DTYPE_I32, DIMS(n), -2000, 2000, rng);
    struct shr_value *scale =
        build_scalar(m, "b_scale", SHR_DTYPE_F32, (float)t->x.scale * (float)0.002);
    return build_node(m, "DequantizeLinear", fresh("b_real"), q, scale, NULL);
}

static void one_linear(const struct linear *t, struct shr_rng *rng)
{
    enum { K = 37, N = 21 };
    bool gemm = strcmp(t->op, "Gemm") == 0;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, K));
    struct shr_value *w = weight(m, t->w.axis == 0 ? DIMS(N, K) : DIMS(K, N), &t->w, rng);
    struct shr_value *b = t->bias == 0 ? NULL : linear_bias(m, t->bias, t, N, rng);
    struct shr_value *y = qdq(m, x, &t->x);
    y = build_node(m, t->op, "product", y, w, gemm ? b : NULL, NULL);
    if (gemm && t->w.axis == 0) {
        build_int(m, "transB", 1);
    }
    if (b != NULL && !gemm) {
        y = build_node(m, "Add", "sum", y, b, NULL);
    }
    if (t->relu) {
        y = build_node(m, "Relu", "relu", y, NULL);
    }
    if (t->quantized) {
        struct scale s = {0.02, t->x.dtype == SHR_DTYPE_U8 ? 90 : -20, t->x.dtype};
        y = quantize(m, y, &s);
    }
    build_output(m, y);
    build_expect_equal(m, t->steps, t->quantized ? 1 : 2e-5, t->quantized ? 0.02 : 1, rng);
}

static void products_become_integer_steps(void **state)
{
    (void)state;
    const struct weight S8 = {SHR_DTYPE_I8, false, 1}, S8_CHANNEL = {SHR_DTYPE_I8, true, 1},
                        U8 = {SHR_DTYPE_U8, false, 1}, U8_CHANNEL = {SHR_DTYPE_U8, true, 1},
                        S8_TRANS = {SHR_DTYPE_I8, true, 0};
    const struct linear tests[] = {
        {"MatMul", X_U8, S8, 0, false, true, "QuantizeLinear QLinear"},
        {"MatMul", X_U8, S8_CHANNEL, 2, true, true, "QuantizeLinear QLinear"},
        {"MatMul", X_U8, U8, 1, true, false, "QuantizeLinear QLinear"},
        {"MatMul", X_U8, U8_CHANNEL, 2, false, false, "QuantizeLinear QLinear"},
        {"Gemm", X_U8, S8_TRANS, 2, true, true, "QuantizeLinear QLinear"},
        {"Gemm", X_U8, S8, 1, false, true, "QuantizeLinear QLinear"},
        {"Gemm", X_S8, S8, 1, true, true, "Quantize QLinear Flip"},
        {"Gemm", X_S8, U8_CHANNEL, 0, true, false, "Quantize QLinear"},
    };
    struct shr_rng rng;
    shr_rng_init(&rng, 4);
    for (size_t i = 0; i < SHR_COUNT_OF(tests); i++) {
        one_linear(&tests[i], &rng);
    }
}

/* x → Q → [DQ Conv Relu Q] → DQ MaxPool Q → [DQ Conv Q] ┬ DQ ─ Add Relu Q → DQ Flatten Gemm → y */
static struct shr_model *small_cnn(const struct scale *x_scale, struct shr_rng *rng)
{
    const struct weight w = {SHR_DTYPE_I8, true, 0};
    const bool u8 = x_scale->dtype == SHR_DTYPE_U8;
    const struct scale relu = {0.02, u8 ? 0 : -128, x_scale->dtype},
                       any = {0.03, u8 ? 100 : 7, x_scale->dtype};
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 2, 10, 9));
    struct shr_value *y = qdq(m, x, x_scale);
    y = build_node(m, "Conv", "conv1", y, weight(m, DIMS(6, 2, 3, 3), &w, rng),
                   build_random(m, "b", SHR_DTYPE_F32, DIMS(6), -0.1, 0.1, rng), NULL);
    build_ints(m, "pads", (const int64_t[]){1, 1, 1, 1}, 4);
    y = qdq(m, build_node(m, "Relu", "relu1", y, NULL), &relu);
    y = build_node(m, "MaxPool", "pool", y, NULL);
    build_ints(m, "kernel_shape", (const int64_t[]){2, 3}, 2);
    build_ints(m, "strides", (const int64_t[]){2, 2}, 2);
    build_ints(m, "pads", (const int64_t[]){0, 1, 0, 1}, 4);
    struct shr_value *skip = qdq(m, y, &relu);
    y = build_node(m, "Conv", "conv2", skip, weight(m, DIMS(6, 3, 3, 3), &w, rng), NULL);
    build_ints(m, "pads", (const int64_t[]){1, 1, 1, 1}, 4);
    build_int(m, "group", 2);
    y = qdq(m, y, &any);
    y = build_node(m, "Add", "sum", y, skip, NULL);
    y = qdq(m, build_node(m, "Relu", "relu2", y, NULL), &any);
    y = build_node(m, "Flatten", "flat", y, NULL);
    const struct weight fc = {SHR_DTYPE_I8, true, 0};
    y = build_node(m, "Gemm", "y", y, weight(m, DIMS(7, 6 * 5 * 5), &fc, rng), NULL);
    build_int(m, "transB", 1);
    build_output(m, y);
    return m;
}

static void a_cnn_stays_in_nhwc_integers(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 5);
    /* One step of the last activation times the largest weight is what a rounding may cost. */
    build_expect_equal(small_cnn(&X_U8, &rng),
                       "Quantize QConv QMaxPool QConv QAdd FromNhwc QLinear", 0.1, 1, &rng);
    build_expect_equal(small_cnn(&X_S8, &rng),
                       "Quantize QConv QMaxPool QConv QAdd FromNhwc QLinear", 0.1, 1, &rng);
}

/* Conv → Relu → MaxPool → Flatten → Q: the quantization moves up to the product. */
static void quantization_moves_up_to_the_product(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 6);
    const struct weight w = {SHR_DTYPE_I8, true, 0};
    const struct scale s = {0.02, 10, SHR_DTYPE_U8};
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 3, 8, 8));
    struct shr_value *y = qdq(m, x, &X_U8);
    y = build_node(m, "Conv", "conv", y, weight(m, DIMS(4, 3, 3, 3), &w, &rng), NULL);
    y = build_node(m, "Relu", "relu", y, NULL);
    y = build_node(m, "MaxPool", "pool", y, NULL);
    build_ints(m, "kernel_shape", (const int64_t[]){2, 2}, 2);
    build_ints(m, "strides", (const int64_t[]){2, 2}, 2);
    y = build_node(m, "Flatten", "flat", y, NULL);
    build_output(m, quantize(m, y, &s));
    build_expect_equal(m, "Quantize QConv QMaxPool FromNhwc", 1, 0.02, &rng);
}

static void relu_between_scales_is_a_table(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 7);
    const struct scale to_u8 = {0.004, 9, SHR_DTYPE_U8}, to_s8 = {0.004, -100, SHR_DTYPE_I8};
    for (int s8 = 0; s8 < 2; s8++) {
        struct shr_model *m = build_model();
        struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 50));
        struct shr_value *y = build_node(m, "Relu", "relu", qdq(m, x, s8 ? &X_S8 : &X_U8), NULL);
        build_output(m, quantize(m, y, s8 ? &to_s8 : &to_u8));
        build_expect_equal(m, s8 ? "Quantize QTable Flip" : "QuantizeLinear QTable", 0, 0, &rng);
    }
}

static void a_function_between_scales_is_a_table(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid"};
    struct shr_rng rng;
    shr_rng_init(&rng, 17);
    const struct scale to_u8 = {0.008, 128, SHR_DTYPE_U8}, to_s8 = {0.008, 0, SHR_DTYPE_I8};
    for (size_t i = 0; i < 2 * SHR_COUNT_OF(NAMES); i++) {
        bool s8 = i % 2 != 0;
        struct shr_model *m = build_model();
        struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 50));
        struct shr_value *y = build_node(m, NAMES[i / 2], "f", qdq(m, x, s8 ? &X_S8 : &X_U8), NULL);
        build_output(m, quantize(m, y, s8 ? &to_s8 : &to_u8));
        build_expect_equal(m, s8 ? "Quantize QTable Flip" : "QuantizeLinear QTable", 1, 0.02, &rng);
    }
}

static void mul_of_integers_is_one_step(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 18);
    const struct scale b = {0.013, 101, SHR_DTYPE_U8}, y = {0.01, 90, SHR_DTYPE_U8};
    struct shr_model *m = build_model();
    struct shr_value *x1 = build_input(m, "x1", SHR_DTYPE_F32, DIMS(-1, 50));
    struct shr_value *x2 = build_input(m, "x2", SHR_DTYPE_F32, DIMS(-1, 50));
    struct shr_value *product = build_node(m, "Mul", "m", qdq(m, x1, &X_U8), qdq(m, x2, &b), NULL);
    build_output(m, quantize(m, product, &y));
    build_expect_equal(m, "QuantizeLinear QuantizeLinear QMul", 1, 0.02, &rng);
}

static void concat_moves_integers_of_one_scale(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 19);
    const struct scale b = {0.013, 101, SHR_DTYPE_U8};
    struct shr_model *m = build_model();
    struct shr_value *x1 = build_input(m, "x1", SHR_DTYPE_F32, DIMS(-1, 50));
    struct shr_value *x2 = build_input(m, "x2", SHR_DTYPE_F32, DIMS(-1, 30));
    struct shr_value *both = build_node(m, "Concat", "c", qdq(m, x1, &X_U8), qdq(m, x2, &b), NULL);
    build_int(m, "axis", 1);
    build_output(m, quantize(m, both, &b));
    build_expect_equal(m, "QuantizeLinear QuantizeLinear QTable Concat", 0, 0, &rng);
}

/* Conv, Clip with bounds inside of what the integers can tell, mean of the pixels. */
static void clips_and_means_stay_integers(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 20);
    const struct weight w = {SHR_DTYPE_I8, true, 0};
    const struct scale s[] = {{0.02, 100, SHR_DTYPE_U8}, {0.02, -10, SHR_DTYPE_I8}};
    for (int s8 = 0; s8 < 2; s8++) {
        struct shr_model *m = build_model();
        struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 3, 8, 8));
        struct shr_value *y = qdq(m, x, s8 ? &X_S8 : &X_U8);
        y = build_node(m, "Conv", "conv", y, weight(m, DIMS(4, 3, 3, 3), &w, &rng), NULL);
        y = build_node(m, "Clip", "clip", y, build_scalar(m, "low", SHR_DTYPE_F32, -0.3),
                       build_scalar(m, "high", SHR_DTYPE_F32, 0.5), NULL);
        y = qdq(m, y, &s[s8]);
        y = build_node(m, "GlobalAveragePool", "mean", y, NULL);
        build_output(m, dequantize(m, quantize(m, y, &s[s8]), &s[s8]));
        build_expect_equal(m, "Quantize QConv QMean Dequantize", 0.02 * 1.001, 0.1, &rng);
    }
}

/* Relu6 whose bounds are those of the integers leaves no trace, also far from the product. */
static void a_clip_that_the_integers_imply_vanishes(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 21);
    const struct scale six = {6.0 / 255, 0, SHR_DTYPE_U8};
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 20));
    struct shr_value *y = build_node(m, "Clip", "clip", x, build_scalar(m, "low", SHR_DTYPE_F32, 0),
                                     build_scalar(m, "high", SHR_DTYPE_F32, 6), NULL);
    build_output(m, quantize(m, y, &six));
    build_expect_equal(m, "QuantizeLinear", 0, 0, &rng);
}

static void qoperators_are_the_same_steps(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 22);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_U8, DIMS(-1, 3, 8, 8));
    struct shr_value *scale = build_scalar(m, "s", SHR_DTYPE_F32, 0.03);
    struct shr_value *zero = build_scalar(m, "z", SHR_DTYPE_U8, 120);
    struct shr_value *w_zero = build_random(m, "wz", SHR_DTYPE_I8, DIMS(4), 0, 0, &rng);
    struct shr_value *y =
        build_node(m, "QLinearConv", "conv", x, scale, zero,
                   build_random(m, "w", SHR_DTYPE_I8, DIMS(4, 3, 3, 3), -60, 60, &rng),
                   build_random(m, "ws", SHR_DTYPE_F32, DIMS(4), 0.001, 0.01, &rng), w_zero, scale,
                   zero, build_random(m, "b", SHR_DTYPE_I32, DIMS(4), -500, 500, &rng), NULL);
    y = build_node(m, "MaxPool", "pool", y, NULL);
    build_ints(m, "kernel_shape", (const int64_t[]){2, 2}, 2);
    y = build_node(m, "Flatten", "flat", y, NULL);
    y = build_node(m, "QLinearMatMul", "y", y, scale, zero,
                   build_random(m, "v", SHR_DTYPE_I8, DIMS(100, 9), -60, 60, &rng),
                   build_random(m, "vs", SHR_DTYPE_F32, DIMS(9), 0.001, 0.01, &rng),
                   build_random(m, "vz", SHR_DTYPE_I8, DIMS(9), 0, 0, &rng), scale, zero, NULL);
    build_output(m, y);
    build_expect_equal(m, "ToNhwc QConv QMaxPool FromNhwc QLinear", 0, 0, &rng);
}

/* ── Dynamic int8 ───────────────────────────────────────────────────────────────────────────── */

static void one_dynamic(enum shr_dtype dtype, bool per_channel, bool bias, bool relu,
                        struct shr_rng *rng)
{
    enum { K = 41, N = 18 };
    const bool u8 = dtype == SHR_DTYPE_U8;
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, K));
    struct shr_value *q[3];
    static const char *const NAMES[] = {"x_q", "x_scale", "x_zero"};
    struct shr_err err = {0};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(shr_graph_add_value(&m->graph, NAMES[i], &q[i], &err), 0);
    }
    assert_int_equal(shr_graph_add_node(&m->graph, NULL, "", "DynamicQuantizeLinear", "dql", &x, 1,
                                        q, 3, NULL, &err),
                     0);
    struct shr_value *w =
        build_random(m, "w", dtype, DIMS(K, N), u8 ? 0 : -127, u8 ? 255 : 127, rng);
    struct shr_value *zero =
        per_channel ? build_random(m, "w_zero", dtype, DIMS(N), u8 ? 100 : -9, u8 ? 150 : 9, rng)
                    : build_scalar(m, "w_zero", dtype, u8 ? 128 : 0);
    struct shr_value *scale =
        per_channel ? build_random(m, "w_scale", SHR_DTYPE_F32, DIMS(N), 0.001, 0.01, rng)
                    : build_scalar(m, "w_scale", SHR_DTYPE_F32, 0.004);
    struct shr_value *y = build_node(m, "MatMulInteger", "acc", q[0], w, q[2], zero, NULL);
    struct shr_value *scales = build_node(m, "Mul", "scales", q[1], scale, NULL);
    y = build_node(m, "Cast", "cast", y, NULL);
    build_int(m, "to", SHR_DTYPE_F32);
    y = build_node(m, "Mul", "real", y, scales, NULL);
    if (bias) {
        y = build_node(m, "Add", "sum", y, build_random(m, "b", SHR_DTYPE_F32, DIMS(N), -1, 1, rng),
                       NULL);
    }
    y = relu ? build_node(m, "Relu", "y", y, NULL) : y;
    build_output(m, y);
    build_expect_equal(m, "DynamicQuantizeLinear DynamicLinear", 0, 0, rng);
}

/* As for the query, key and value of an attention. */
static void dynamic_products_share_their_quantization(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 23);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(-1, 40));
    struct shr_err err = {0};
    assert_int_equal(shr_model_import(m, "com.microsoft", 1, &err), 0);
    for (int i = 0; i < 2; i++) {
        struct shr_value *y,
            *in[] = {
                x,
                build_random(m, fresh("w"), SHR_DTYPE_I8, DIMS(40, 18), -60, 60, &rng),
                build_random(m, fresh("scale"), SHR_DTYPE_F32, DIMS(18), 0.001, 0.01, &rng),
                NULL,
                build_random(m, fresh("bias"), SHR_DTYPE_F32, DIMS(18), -1, 1, &rng),
            };
        assert_int_equal(shr_graph_add_value(&m->graph, fresh("y"), &y, &err), 0);
        assert_int_equal(shr_graph_add_node(&m->graph, NULL, "com.microsoft",
                                            "DynamicQuantizeMatMul", "", in, 5, &y, 1, NULL, &err),
                         0);
        build_output(m, y);
    }
    build_expect_equal(m, "DynamicQuantizeLinear DynamicLinear DynamicLinear", 1e-5, 1, &rng);
}

static void dynamic_products_are_one_step(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 8);
    for (int i = 0; i < 16; i++) {
        one_dynamic(i & 1 ? SHR_DTYPE_U8 : SHR_DTYPE_I8, (i & 2) != 0, (i & 4) != 0, (i & 8) != 0,
                    &rng);
    }
}

#ifdef SHR_CHAOS
static void any_allocation_may_fail(void **state)
{
    (void)state;
    struct shr_rng rng;
    shr_rng_init(&rng, 9);
    build_chaos(small_cnn(&X_S8, &rng));
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_takes_relu),
        cmocka_unit_test(conv_takes_relu),
        cmocka_unit_test(a_kept_value_is_not_fused_away),
        cmocka_unit_test(products_become_integer_steps),
        cmocka_unit_test(a_cnn_stays_in_nhwc_integers),
        cmocka_unit_test(quantization_moves_up_to_the_product),
        cmocka_unit_test(relu_between_scales_is_a_table),
        cmocka_unit_test(a_function_between_scales_is_a_table),
        cmocka_unit_test(mul_of_integers_is_one_step),
        cmocka_unit_test(concat_moves_integers_of_one_scale),
        cmocka_unit_test(clips_and_means_stay_integers),
        cmocka_unit_test(a_clip_that_the_integers_imply_vanishes),
        cmocka_unit_test(qoperators_are_the_same_steps),
        cmocka_unit_test(dynamic_products_are_one_step),
        cmocka_unit_test(dynamic_products_share_their_quantization),
#ifdef SHR_CHAOS
        cmocka_unit_test(any_allocation_may_fail),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
