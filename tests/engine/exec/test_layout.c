/* Layouts inside of plans: converters stand only where neighbours disagree, and results stay. */
#include "build.h"

#include <stdio.h>

static const double SCALE = 2.0 / 255;

static struct shr_value *quantize(struct shr_model *m, struct shr_value *x, const char *name,
                                  enum shr_dtype dtype)
{
    struct shr_value *scale = build_scalar(m, "scale", SHR_DTYPE_F32, SCALE);
    struct shr_value *zero = build_scalar(m, "zero", dtype, dtype == SHR_DTYPE_U8 ? 128 : -1);
    return build_node(m, "QuantizeLinear", name, x, scale, zero, NULL);
}

static struct shr_value *dequantize(struct shr_model *m, struct shr_value *q, const char *name,
                                    enum shr_dtype dtype)
{
    struct shr_value *scale = build_scalar(m, "scale", SHR_DTYPE_F32, SCALE);
    struct shr_value *zero = build_scalar(m, "zero", dtype, dtype == SHR_DTYPE_U8 ? 128 : -1);
    return build_node(m, "DequantizeLinear", name, q, scale, zero, NULL);
}

/* A convolution of a dequantized value, to 5 channels; the float result lies as NHWC. */
static struct shr_value *conv_of(struct shr_model *m, struct shr_value *x, int64_t channels,
                                 const char *name, struct shr_rng *rng)
{
    char w_name[32];
    snprintf(w_name, sizeof w_name, "%s_w", name);
    struct shr_value *w =
        build_random(m, "w", SHR_DTYPE_I8, DIMS(5, channels, 3, 3), -127, 127, rng);
    w = build_node(m, "DequantizeLinear", w_name, w,
                   build_scalar(m, "w_scale", SHR_DTYPE_F32, 0.002), NULL);
    return build_node(m, "Conv", name, x, w, NULL);
}

static struct shr_value *conv(struct shr_model *m, struct shr_value *x, int64_t channels,
                              const char *name, struct shr_rng *rng)
{
    char q_name[32], x_name[32];
    snprintf(q_name, sizeof q_name, "%s_q", name);
    snprintf(x_name, sizeof x_name, "%s_x", name);
    x = dequantize(m, quantize(m, x, q_name, SHR_DTYPE_I8), x_name, SHR_DTYPE_I8);
    return conv_of(m, x, channels, name, rng);
}

struct net {
    struct shr_model *m;
    struct shr_rng rng;
    struct shr_value *x, *y; /* y float (N, 5, 6, 7) behind a convolution */
};

static struct net net_begin(void)
{
    struct net net = {.m = build_model()};
    shr_rng_init(&net.rng, 11);
    net.x = build_input(net.m, "x", SHR_DTYPE_F32, DIMS(-1, 2, 8, 9));
    net.y = conv(net.m, net.x, 2, "conv", &net.rng);
    return net;
}

static void net_expect(struct net *net, struct shr_value *y, const char *steps)
{
    build_output(net->m, y);
    build_expect_equal(net->m, steps, 1e-5, 1, &net->rng);
}

static void elementwise_steps_stay_in_nhwc(void **state)
{
    (void)state;
    struct net net = net_begin();
    struct shr_value *channel =
        build_random(net.m, "c", SHR_DTYPE_F32, DIMS(5, 1, 1), -1, 1, &net.rng);
    struct shr_value *row = build_random(net.m, "r", SHR_DTYPE_F32, DIMS(7), -1, 1, &net.rng);
    struct shr_value *y = build_node(net.m, "Sigmoid", "s", net.y, NULL);
    y = build_node(net.m, "Mul", "gated", net.y, y, NULL);
    y = build_node(net.m, "Add", "shifted", channel, y, NULL);
    y = build_node(net.m, "Sub", "z", y, row, NULL);
    net_expect(&net, y, "Quantize QConv Activation Add Sub FromNhwc");
}

static void channels_are_split_and_joined_in_nhwc(void **state)
{
    (void)state;
    struct net net = net_begin();
    struct shr_value *y = build_node(net.m, "Concat", "joined", net.y,
                                     build_node(net.m, "Tanh", "t", net.y, NULL), NULL);
    build_int(net.m, "axis", -3);
    y = build_node(net.m, "Concat", "high", y, y, NULL);
    build_int(net.m, "axis", 2);
    net_expect(&net, y, "Quantize QConv Tanh Concat Concat FromNhwc");
}

static void slices_pads_and_shuffles_stay_in_nhwc(void **state)
{
    (void)state;
    struct net net = net_begin();
    struct shr_value *starts = build_i64(net.m, "starts", (const int64_t[]){1, -3}, 2);
    struct shr_value *ends = build_i64(net.m, "ends", (const int64_t[]){5, 9}, 2);
    struct shr_value *axes = build_i64(net.m, "axes", (const int64_t[]){-3, 2}, 2);
    struct shr_value *y = build_node(net.m, "Slice", "part", net.y, starts, ends, axes, NULL);
    struct shr_value *pads = build_i64(net.m, "pads", (const int64_t[]){0, 1, 2, 0, 0, 1, 0, 3}, 8);
    y = build_node(net.m, "Pad", "padded", y, pads, NULL); /* (N, 6, 5, 10) */
    struct shr_value *wide = build_i64(net.m, "wide", (const int64_t[]){0, 2, 3, 5, 10}, 5);
    y = build_node(net.m, "Reshape", "wide_y", y, wide, NULL);
    y = build_node(net.m, "Transpose", "swapped", y, NULL);
    build_ints(net.m, "perm", (const int64_t[]){0, 2, 1, 3, 4}, 5);
    struct shr_value *shape = build_i64(net.m, "shape", (const int64_t[]){0, 6, 5, 10}, 4);
    y = build_node(net.m, "Reshape", "z", y, shape, NULL);
    net_expect(&net, y, "Quantize QConv Slice Pad ShuffleChannels FromNhwc");
}

static void images_are_resized_in_nhwc(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++) {
        struct net net = net_begin();
        struct shr_value *none = build_f32(net.m, "none", DIMS(0), NULL), *y;
        if (form == 0) {
            const float scales[] = {1, 1, 2, 1.5f};
            y = build_node(net.m, "Resize", "z", net.y, none,
                           build_f32(net.m, "scales", DIMS(4), scales), NULL);
        } else {
            struct shr_value *sizes = build_i64(net.m, "sizes", (const int64_t[]){3, 5, 4, 9}, 4);
            y = build_node(net.m, "Resize", "z", net.y, none, none, sizes, NULL);
            build_text(net.m, "mode", "linear");
        }
        net_expect(&net, y, "Quantize QConv Resize FromNhwc");
    }
}

static void a_transposition_to_nhwc_moves_nothing(void **state)
{
    (void)state;
    struct net net = net_begin();
    struct shr_value *y = build_node(net.m, "Transpose", "last", net.y, NULL);
    build_ints(net.m, "perm", (const int64_t[]){0, 2, 3, 1}, 4);
    y = build_node(net.m, "Sigmoid", "s", y, NULL);
    y = build_node(net.m, "Transpose", "first", y, NULL);
    build_ints(net.m, "perm", (const int64_t[]){0, 3, 1, 2}, 4);
    y = build_node(net.m, "Add", "z", y, net.y, NULL);
    net_expect(&net, y, "Quantize QConv Sigmoid Add FromNhwc");
}

/* As the patches of a vision transformer. */
static void pixels_become_a_sequence_without_a_step(void **state)
{
    (void)state;
    struct net net = net_begin();
    struct shr_value *shape = build_i64(net.m, "shape", (const int64_t[]){0, 5, -1}, 3);
    struct shr_value *y = build_node(net.m, "Reshape", "flat", net.y, shape, NULL);
    y = build_node(net.m, "Transpose", "z", y, NULL);
    build_ints(net.m, "perm", (const int64_t[]){0, 2, 1}, 3);
    net_expect(&net, y, "Quantize QConv");
}

static void a_value_is_converted_once_for_all_readers(void **state)
{
    (void)state;
    struct net net = net_begin();
    struct shr_value *q = build_input(net.m, "image", SHR_DTYPE_I8, DIMS(-1, 2, 8, 9));
    struct shr_value *x = dequantize(net.m, q, "real", SHR_DTYPE_I8);
    struct shr_value *y = build_node(net.m, "Add", "sum", conv_of(net.m, x, 2, "a", &net.rng),
                                     conv_of(net.m, x, 2, "b", &net.rng), NULL);
    y = build_node(net.m, "Add", "all", y, net.y, NULL);
    net_expect(&net, y, "Quantize QConv Flip ToNhwc QConv QConv Add Add FromNhwc");
}

static void integers_are_joined_as_they_lie(void **state)
{
    (void)state;
    struct net net = net_begin();
    struct shr_value *q = quantize(net.m, net.y, "q", SHR_DTYPE_I8);
    struct shr_value *y = build_node(net.m, "Concat", "joined", q, q, NULL);
    build_int(net.m, "axis", 1);
    y = dequantize(net.m, y, "real", SHR_DTYPE_I8);
    build_output(net.m, y);
    build_expect_equal(net.m, "Quantize QConv Concat Dequantize", 2 * SCALE, 0.02, &net.rng);
}

static void a_single_pixel_needs_no_transposition(void **state)
{
    (void)state;
    struct net net = net_begin();
    struct shr_value *x = build_input(net.m, "gate", SHR_DTYPE_F32, DIMS(-1, 5, 1, 1));
    struct shr_value *y =
        build_node(net.m, "Mul", "z", build_node(net.m, "Relu", "g", x, NULL), net.y, NULL);
    net_expect(&net, y, "Quantize QConv Relu Mul FromNhwc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementwise_steps_stay_in_nhwc),
        cmocka_unit_test(channels_are_split_and_joined_in_nhwc),
        cmocka_unit_test(slices_pads_and_shuffles_stay_in_nhwc),
        cmocka_unit_test(images_are_resized_in_nhwc),
        cmocka_unit_test(a_transposition_to_nhwc_moves_nothing),
        cmocka_unit_test(pixels_become_a_sequence_without_a_step),
        cmocka_unit_test(a_value_is_converted_once_for_all_readers),
        cmocka_unit_test(integers_are_joined_as_they_lie),
        cmocka_unit_test(a_single_pixel_needs_no_transposition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
