/* Float fusing: products take up what follows them, and what graphs spell out becomes one step. */
#include "build.h"

#include <math.h>
#include <string.h>

struct net {
    struct shr_model *m;
    struct shr_rng rng;
    struct shr_value *x;
};

static struct net net_begin(const int64_t *dims)
{
    struct net net = {.m = build_model()};
    shr_rng_init(&net.rng, 21);
    net.x = build_input(net.m, "x", SHR_DTYPE_F32, dims);
    return net;
}

static void net_expect(struct net *net, struct shr_value *y, const char *steps)
{
    build_output(net->m, y);
    build_expect_equal(net->m, steps, 2e-5, 1, &net->rng);
}

static struct shr_value *conv(struct net *net, struct shr_value *x, const char *name, int64_t from,
                              int64_t to, int64_t groups)
{
    struct shr_value *w = build_random(net->m, "w", SHR_DTYPE_F32, DIMS(to, from / groups, 3, 3),
                                       -0.5, 0.5, &net->rng);
    struct shr_value *b = build_random(net->m, "b", SHR_DTYPE_F32, DIMS(to), -0.5, 0.5, &net->rng);
    struct shr_value *y = build_node(net->m, "Conv", name, x, w, b, NULL);
    build_ints(net->m, "pads", (const int64_t[]){1, 1, 1, 1}, 4);
    build_int(net->m, "group", groups);
    return y;
}

static struct shr_value *batchnorm(struct net *net, struct shr_value *x, const char *name,
                                   int64_t n)
{
    struct shr_value *gamma =
        build_random(net->m, "gamma", SHR_DTYPE_F32, DIMS(n), 0.5, 1.5, &net->rng);
    struct shr_value *beta =
        build_random(net->m, "beta", SHR_DTYPE_F32, DIMS(n), -0.5, 0.5, &net->rng);
    struct shr_value *mean =
        build_random(net->m, "mean", SHR_DTYPE_F32, DIMS(n), -0.5, 0.5, &net->rng);
    struct shr_value *var =
        build_random(net->m, "var", SHR_DTYPE_F32, DIMS(n), 0.5, 1.5, &net->rng);
    return build_node(net->m, "BatchNormalization", name, x, gamma, beta, mean, var, NULL);
}

/* Two blocks of a residual network, with a branch that is computed later than the sum's other
 * side. */
static struct shr_value *residual_block(struct net *net)
{
    struct shr_value *a = batchnorm(net, conv(net, net->x, "c1", 4, 6, 1), "n1", 6);
    a = conv(net, build_node(net->m, "Relu", "r1", a, NULL), "c2", 6, 6, 2);
    struct shr_value *b = conv(net, net->x, "c3", 4, 6, 1);
    struct shr_value *y = build_node(net->m, "Add", "sum", batchnorm(net, a, "n2", 6), b, NULL);
    y = build_node(net->m, "Relu", "r2", y, NULL);
    return build_node(net->m, "Add", "sum2", y, conv(net, y, "c4", 6, 6, 6), NULL);
}

static void a_residual_block_is_its_convolutions(void **state)
{
    (void)state;
    struct net net = net_begin(DIMS(-1, 4, 7, 6));
    struct shr_value *y = residual_block(&net);
    net_expect(&net, y, "ToNhwc Conv Conv Conv Conv FromNhwc");
}

/* The same node whatever of it is known: a bias that comes late, weights that do, both. */
static void weights_may_come_with_every_run(void **state)
{
    (void)state;
    for (int late = 1; late < 4; late++) {
        struct net net = net_begin(DIMS(-1, 16, 7, 6));
        struct shr_value *w[2], *bias[2];
        for (int i = 0; i < 2; i++) { /* by Winograd, and depthwise */
            const int64_t *dims = i == 0 ? DIMS(16, 16, 3, 3) : DIMS(16, 1, 3, 3);
            w[i] = (late & 1) != 0 ? build_input(net.m, i == 0 ? "w0" : "w1", SHR_DTYPE_F32, dims)
                                   : build_random(net.m, "w", SHR_DTYPE_F32, dims, -1, 1, &net.rng);
            bias[i] = (late & 2) != 0
                          ? build_input(net.m, i == 0 ? "b0" : "b1", SHR_DTYPE_F32, DIMS(16))
                          : build_random(net.m, "b", SHR_DTYPE_F32, DIMS(16), -1, 1, &net.rng);
        }
        struct shr_value *y = build_node(net.m, "Conv", "y1", net.x, w[0], bias[0], NULL);
        y = build_node(net.m, "Relu", "y2", y, NULL);
        y = build_node(net.m, "Conv", "y3", y, w[1], bias[1], NULL);
        build_int(net.m, "group", 16);
        build_output(net.m, y);
        build_expect_equal(net.m, "ToNhwc Conv Conv FromNhwc", 2e-3, 1, &net.rng);
    }
}

static void pools_work_on_nhwc(void **state)
{
    (void)state;
    struct net net = net_begin(DIMS(-1, 3, 9, 11));
    struct shr_value *y = conv(&net, net.x, "c", 3, 70, 1);
    y = build_node(net.m, "MaxPool", "max", y, NULL);
    build_ints(net.m, "kernel_shape", (const int64_t[]){3, 2}, 2);
    build_ints(net.m, "strides", (const int64_t[]){1, 2}, 2);
    build_ints(net.m, "pads", (const int64_t[]){1, 0, 1, 1}, 4);
    y = build_node(net.m, "AveragePool", "average", y, NULL);
    build_ints(net.m, "kernel_shape", (const int64_t[]){2, 2}, 2);
    build_ints(net.m, "strides", (const int64_t[]){2, 1}, 2);
    build_ints(net.m, "pads", (const int64_t[]){1, 1, 0, 0}, 4);
    build_int(net.m, "ceil_mode", 1);
    struct shr_value *z = build_node(net.m, "ReduceMean", "mean", y, NULL);
    build_ints(net.m, "axes", (const int64_t[]){-1, 2}, 2);
    build_int(net.m, "keepdims", 0);
    build_output(net.m, z);
    y = build_node(net.m, "GlobalAveragePool", "all", y, NULL);
    y = build_node(net.m, "Flatten", "flat", y, NULL);
    net_expect(&net, y, "ToNhwc Conv MaxPool AveragePool MeanOfPixels MeanOfPixels");
}

static struct shr_value *scalar(struct net *net, double v)
{
    return build_scalar(net->m, "scalar", SHR_DTYPE_F32, v);
}

/* 1 + erf(x / sqrt(2)), by a division or a product */
static struct shr_value *erf_and_one(struct net *net, struct shr_value *x, bool divide)
{
    struct shr_value *y =
        divide ? build_node(net->m, "Div", "scaled", x, scalar(net, sqrt(2)), NULL)
               : build_node(net->m, "Mul", "scaled", scalar(net, sqrt(0.5)), x, NULL);
    y = build_node(net->m, "Erf", "erf", y, NULL);
    return build_node(net->m, "Add", "one", y, scalar(net, 1), NULL);
}

static void gelu_is_recognized_however_it_is_spelled(void **state)
{
    (void)state;
    for (int form = 0; form < 3; form++) {
        struct net net = net_begin(DIMS(-1, 19));
        struct shr_value *w =
            build_random(net.m, "w", SHR_DTYPE_F32, DIMS(19, 13), -1, 1, &net.rng);
        struct shr_value *x = build_node(net.m, "MatMul", "product", net.x, w, NULL);
        struct shr_value *e = erf_and_one(&net, x, form != 1), *y;
        if (form == 0) {
            y = build_node(net.m, "Mul", "gated", x, e, NULL);
            y = build_node(net.m, "Mul", "y", y, scalar(&net, 0.5), NULL);
        } else if (form == 1) {
            y = build_node(net.m, "Mul", "half", e, scalar(&net, 0.5), NULL);
            y = build_node(net.m, "Mul", "y", x, y, NULL);
        } else {
            y = build_node(net.m, "Mul", "half", x, scalar(&net, 0.5), NULL);
            y = build_node(net.m, "Mul", "y", y, e, NULL);
        }
        net_expect(&net, y, "Linear");
    }
}

static void activations_go_into_products(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "LeakyRelu"};
    for (size_t i = 0; i < SHR_COUNT_OF(NAMES) + 2; i++) {
        struct net net = net_begin(DIMS(-1, 2, 5, 5));
        net.m->opsets->version = 14;
        struct shr_value *x = conv(&net, net.x, "c", 2, 5, 1), *y;
        if (i < SHR_COUNT_OF(NAMES)) {
            y = build_node(net.m, NAMES[i], "y", x, NULL);
        } else if (i == SHR_COUNT_OF(NAMES)) {
            y = build_node(net.m, "Clip", "y", x, scalar(&net, 0), scalar(&net, 6), NULL);
        } else {
            y = build_node(net.m, "Mul", "y", build_node(net.m, "Sigmoid", "gate", x, NULL), x,
                           NULL);
        }
        net_expect(&net, y, "ToNhwc Conv FromNhwc");
    }
}

static void a_batchnorm_without_a_product_is_a_scale(void **state)
{
    (void)state;
    struct net net = net_begin(DIMS(-1, 5, 4, 3));
    struct shr_value *y = batchnorm(&net, net.x, "n1", 5);
    y = build_node(net.m, "Relu", "r", y, NULL);
    y = conv(&net, y, "c", 5, 5, 1);
    build_output(net.m, y);
    y = batchnorm(&net, y, "n2", 5);
    net_expect(&net, y, "ScaleShift ToNhwc Conv FromNhwc ScaleShift FromNhwc");
}

static void layernorm_is_recognized_where_it_is_spelled_out(void **state)
{
    (void)state;
    struct net net = net_begin(DIMS(-1, 3, 16));
    struct shr_value *gamma =
        build_random(net.m, "gamma", SHR_DTYPE_F32, DIMS(16), 0.5, 1.5, &net.rng);
    struct shr_value *beta = build_random(net.m, "beta", SHR_DTYPE_F32, DIMS(16), -1, 1, &net.rng);
    struct shr_value *mean = build_node(net.m, "ReduceMean", "mean", net.x, NULL);
    build_ints(net.m, "axes", (const int64_t[]){-1}, 1);
    struct shr_value *d = build_node(net.m, "Sub", "d", net.x, mean, NULL);
    struct shr_value *v = build_node(net.m, "Pow", "square", d, scalar(&net, 2), NULL);
    v = build_node(net.m, "ReduceMean", "variance", v, NULL);
    build_ints(net.m, "axes", (const int64_t[]){-1}, 1);
    v = build_node(net.m, "Add", "more", v, scalar(&net, 1e-5), NULL);
    v = build_node(net.m, "Div", "normal", d, build_node(net.m, "Sqrt", "std", v, NULL), NULL);
    v = build_node(net.m, "Mul", "scaled", v, gamma, NULL);
    net_expect(&net, build_node(net.m, "Add", "y", v, beta, NULL), "LayerNormalization");
}

static void softmax_takes_scale_and_mask(void **state)
{
    (void)state;
    for (int form = 0; form < 4; form++) {
        struct net net = net_begin(DIMS(-1, 4, 5, 7));
        struct shr_value *y;
        if (form % 2 == 0) {
            y = build_node(net.m, "Div", "scaled", net.x, scalar(&net, 1.7), NULL);
        } else {
            y = build_node(net.m, "Mul", "scaled", scalar(&net, 0.6), net.x, NULL);
        }
        if (form < 2) {
            struct shr_value *mask = build_input(net.m, "mask", SHR_DTYPE_BOOL, DIMS(5, 7));
            struct shr_value *low = scalar(&net, -INFINITY);
            y = form == 0 ? build_node(net.m, "Where", "masked", mask, low, y, NULL)
                          : build_node(net.m, "Where", "masked", mask, y, scalar(&net, -9), NULL);
        } else {
            struct shr_value *bias = build_input(net.m, "bias", SHR_DTYPE_F32,
                                                 form == 2 ? DIMS(-1, 1, 1, 7) : DIMS(4, 5, 1));
            y = build_node(net.m, "Add", "masked", bias, y, NULL);
        }
        y = build_node(net.m, "Softmax", "y", y, NULL);
        build_int(net.m, "axis", form % 2 == 0 ? -1 : 3);
        net_expect(&net, y, "MaskedSoftmax");
    }
}

#ifdef SHR_CHAOS
static void any_allocation_may_fail(void **state)
{
    (void)state;
    struct net net = net_begin(DIMS(-1, 4, 7, 6));
    build_output(net.m, residual_block(&net));
    struct shr_value *y = batchnorm(&net, net.x, "n3", 4);
    y = build_node(net.m, "Sigmoid", "gate", y, NULL);
    build_output(net.m,
                 build_node(net.m, "Softmax", "y",
                            build_node(net.m, "Mul", "scaled", y, scalar(&net, 2), NULL), NULL));
    build_int(net.m, "axis", -1);
    build_chaos(net.m);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_residual_block_is_its_convolutions),
        cmocka_unit_test(weights_may_come_with_every_run),
        cmocka_unit_test(pools_work_on_nhwc),
        cmocka_unit_test(gelu_is_recognized_however_it_is_spelled),
        cmocka_unit_test(activations_go_into_products),
        cmocka_unit_test(a_batchnorm_without_a_product_is_a_scale),
        cmocka_unit_test(softmax_takes_scale_and_mask),
        cmocka_unit_test(layernorm_is_recognized_where_it_is_spelled_out),
#ifdef SHR_CHAOS
        cmocka_unit_test(any_allocation_may_fail),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
