/* The backward rules of convolutions, pools and what else works on images, against finite
 * differences. */
#include <string.h>

#include "gradcheck.h"

#define P(name, ...) build_random(m, name, SHR_DTYPE_F32, DIMS(__VA_ARGS__), -1.0, 1.0, &rng)

/* ── Convolutions ───────────────────────────────────────────────────────────────────────────── */

static void a_convolution_of_input_weight_and_bias(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 3);
    for (int form = 0; form < 3; form++) {
        struct shr_model *m = build_model();
        const int64_t groups = form == 0 ? 1 : form == 1 ? 2 : 4;
        struct shr_value *w =
            build_random(m, "pw", SHR_DTYPE_F32, DIMS(4, 4 / groups, 3, 3), -1.0, 1.0, &rng);
        struct shr_value *x = build_node(m, "Sigmoid", "x", P("px", 2, 4, 5, 6), NULL);
        build_output(m, build_node(m, "Conv", "y", x, w, P("pb", 4), NULL));
        build_int(m, "group", groups);
        if (form == 1) {
            build_ints(m, "strides", (const int64_t[]){2, 1}, 2);
            build_ints(m, "pads", (const int64_t[]){1, 2, 1, 0}, 4);
        } else {
            build_text(m, "auto_pad", "SAME_UPPER");
        }
        gradcheck_usual(m);
    }
}

static void a_convolution_of_one_axis(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 4);
    struct shr_model *m = build_model();
    build_output(m, build_node(m, "Conv", "y", P("px", 2, 3, 9), P("pw", 5, 3, 3), NULL));
    build_ints(m, "strides", (const int64_t[]){2}, 1);
    build_ints(m, "dilations", (const int64_t[]){2}, 1);
    gradcheck_usual(m);
}

static void a_transposed_convolution(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 5);
    for (int form = 0; form < 2; form++) {
        struct shr_model *m = build_model();
        build_output(m, build_node(m, "ConvTranspose", "y", P("px", 2, 4, 3, 3),
                                   P("pw", 4, 3, 3, 2), P("pb", form == 0 ? 3 : 6), NULL));
        build_int(m, "group", form == 0 ? 1 : 2);
        build_ints(m, "strides", (const int64_t[]){2, 2}, 2);
        build_ints(m, "pads", (const int64_t[]){1, 0, 1, 0}, 4);
        build_ints(m, "output_padding", (const int64_t[]){1, 0}, 2);
        gradcheck_usual(m);
    }
}

/* A training step of a small network keeps its images NHWC and its convolutions fused. */
static void networks_of_convolutions(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 6);
    struct shr_model *m = build_model();
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(2, 3, 8, 8));
    struct shr_value *y = build_node(m, "Conv", "y1", x, P("pw1", 8, 3, 3, 3), P("pb1", 8), NULL);
    build_ints(m, "pads", (const int64_t[]){1, 1, 1, 1}, 4);
    y = build_node(m, "Sigmoid", "a1", y, NULL);
    struct shr_value *z = build_node(m, "Conv", "y2", y, P("pw2", 8, 1, 3, 3), NULL);
    build_int(m, "group", 8);
    build_ints(m, "pads", (const int64_t[]){1, 1, 1, 1}, 4);
    z = build_node(m, "Add", "sum", z, y, NULL);
    y = build_node(m, "Concat", "both", z, y, NULL);
    build_int(m, "axis", 1);
    y = build_node(m, "AveragePool", "pool", y, NULL);
    build_ints(m, "kernel_shape", (const int64_t[]){2, 2}, 2);
    build_ints(m, "strides", (const int64_t[]){2, 2}, 2);
    y = build_node(m, "GlobalAveragePool", "mean", y, NULL);
    y = build_node(m, "Flatten", "flat", y, NULL);
    build_output(m, build_node(m, "Gemm", "out", y, P("pw3", 16, 3), P("pb3", 3), NULL));
    gradcheck(m, 5e-2, 2e-3);
}

/* ── Pools ──────────────────────────────────────────────────────────────────────────────────── */

/* Different numbers, further apart than a step. */
static struct shr_value *steps_apart(struct shr_model *m, int64_t n, struct shr_rng *rng)
{
    struct shr_value *p = build_random(m, "px", SHR_DTYPE_F32, DIMS(1, 2, n, n), 0, 1, rng);
    for (int64_t i = 0; i < 2 * n * n; i++) {
        ((float *)p->constant.data)[i] = (float)(i * 37 % (2 * n * n)) / (float)n;
    }
    return p;
}

static void pools_lead_to_what_they_read(void **state)
{
    static const char *const OPS[] = {"MaxPool", "AveragePool", "AveragePool"};
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 7);
    for (int i = 0; i < 3; i++) {
        struct shr_model *m = build_model();
        build_output(m, build_node(m, OPS[i], "y", steps_apart(m, 6, &rng), NULL));
        build_ints(m, "kernel_shape", (const int64_t[]){3, 2}, 2);
        build_ints(m, "strides", (const int64_t[]){2, 1}, 2);
        build_ints(m, "pads", (const int64_t[]){1, 1, 0, 0}, 4);
        build_int(m, "ceil_mode", 1);
        if (i == 2) {
            build_int(m, "count_include_pad", 1);
        }
        gradcheck_usual(m);
    }
}

static void pools_of_whole_images(void **state)
{
    static const char *const OPS[] = {"GlobalMaxPool", "GlobalAveragePool"};
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 8);
    for (int i = 0; i < 2; i++) {
        struct shr_model *m = build_model();
        build_output(m, build_node(m, OPS[i], "y", steps_apart(m, 4, &rng), NULL));
        gradcheck_usual(m);
    }
}

/* ── Normalizations ─────────────────────────────────────────────────────────────────────────── */

static struct shr_value *batch_norm(struct shr_model *m, struct shr_value *x, int64_t n,
                                    struct shr_rng *rng)
{
    struct shr_value *mean = build_random(m, "mean", SHR_DTYPE_F32, DIMS(n), -0.5, 0.5, rng);
    struct shr_value *var = build_random(m, "variance", SHR_DTYPE_F32, DIMS(n), 0.5, 1.5, rng);
    struct shr_value *scale = build_random(m, "ps", SHR_DTYPE_F32, DIMS(n), 0.5, 1.5, rng);
    struct shr_value *bias = build_random(m, "pb", SHR_DTYPE_F32, DIMS(n), -1, 1, rng);
    return build_node(m, "BatchNormalization", "y", x, scale, bias, mean, var, NULL);
}

/* With statistics of the batch, and frozen; of images between convolutions, and of rows. */
static void batch_normalizations(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 9);
    for (int form = 0; form < 4; form++) {
        struct shr_model *m = build_model();
        struct shr_value *x;
        if (form < 2) {
            x = build_node(m, "Conv", "x", P("px", 2, 3, 4, 4), P("pw", 10, 3, 3, 3), NULL);
            x = batch_norm(m, x, 10, &rng);
            x = build_node(m, "Sigmoid", "a", x, NULL);
            x = build_node(m, "Conv", "z", x, P("pv", 2, 10, 1, 1), NULL);
        } else {
            x = build_node(m, "Tanh", "a", batch_norm(m, P("px", 9, 5), 5, &rng), NULL);
        }
        build_output(m, x);
        (form % 2 == 0 ? gradcheck_training : gradcheck_usual)(m);
    }
}

static void normalizations_of_samples(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 10);
    for (int form = 0; form < 4; form++) {
        struct shr_err err;
        struct shr_model *m = build_model();
        assert_int_equal(shr_model_import(m, "", 21, &err), 0);
        struct shr_value *x = form < 2 ? P("px", 40, 3, 5) : P("px", 2, 6, 3, 2), *y;
        const int64_t n = form == 0 ? 5 : form == 1 ? 3 : 6;
        struct shr_value *s = form == 1 ? P("ps", 3, 5) : P("ps", n);
        struct shr_value *b = form == 1 ? P("pb", 3, 5) : P("pb", n);
        if (form < 2) {
            y = build_node(m, "LayerNormalization", "y", x, s, b, NULL);
            build_int(m, "axis", form == 0 ? -1 : 1);
        } else if (form == 2) {
            y = build_node(m, "InstanceNormalization", "y", x, s, b, NULL);
        } else {
            y = build_node(m, "GroupNormalization", "y", x, s, b, NULL);
            build_int(m, "num_groups", 2);
        }
        build_output(m, build_node(m, "Tanh", "a", y, NULL));
        gradcheck(m, 1e-2, 4e-3);
    }
}

/* The mask is that of forward and of backward, and another mask for each node. */
static void dropout_by_one_mask(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 11);
    struct shr_model *m = build_model();
    struct shr_value *ratio = build_scalar(m, "ratio", SHR_DTYPE_F32, 0.3);
    struct shr_value *x = build_node(m, "Dropout", "d1", P("px", 7, 9), ratio, NULL);
    x = build_node(m, "Tanh", "a", x, NULL);
    build_output(m, build_node(m, "Dropout", "d2", x, ratio, NULL));
    gradcheck_training(m);
}

static void masks_leave_the_share_asked_for(void **state)
{
    struct shr_rng rng;
    struct shr_err err;
    (void)state;
    shr_rng_init(&rng, 12);
    struct shr_model *m = build_model();
    assert_int_equal(shr_model_import(m, SHR_TRAIN_DOMAIN, 1, &err), 0);
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(100001));
    struct shr_value *seed = build_input(m, "seed", SHR_DTYPE_I64, DIMS(1));
    for (int i = 0; i < 2; i++) {
        build_output(m, build_node(m, "RandomMask", i == 0 ? "a" : "b", x, seed, NULL));
        build_last(m)->domain = SHR_TRAIN_DOMAIN;
        build_int(m, "salt", i);
        struct shr_err ignored;
        assert_int_equal(shr_node_set_float(&m->graph, build_last(m), "ratio", 0.25f, &ignored), 0);
    }
    struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){.threads = 2});
    build_fill(shr_plan_input(plan, 0), 1, 1, &rng);
    double stay[2] = {0}, both = 0;
    for (int64_t s = 0; s < 2; s++) {
        *(int64_t *)shr_plan_input(plan, 1)->data = s;
        build_run(plan);
        const float *a = shr_plan_output(plan, 0)->data, *b = shr_plan_output(plan, 1)->data;
        for (size_t i = 0; i < 100001; i++) {
            assert_true(a[i] == 0 || a[i] == (float)(1 / 0.75));
            stay[0] += a[i] != 0;
            stay[1] += b[i] != 0;
            both += a[i] != 0 && b[i] != 0;
        }
    }
    assert_true(stay[0] > 149000 && stay[0] < 151000 && stay[1] > 149000 && stay[1] < 151000);
    assert_true(both > 111500 && both < 113500); /* of nodes that know nothing of each other */
    shr_plan_free(plan);
    shr_model_free(m);
}

/* ── Others ─────────────────────────────────────────────────────────────────────────────────── */

static void pads_are_cut_off_again(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 13);
    for (int form = 0; form < 2; form++) {
        struct shr_err err;
        struct shr_model *m = build_model();
        assert_int_equal(shr_model_import(m, "", 18, &err), 0);
        struct shr_value *pads = form == 0
                                     ? build_i64(m, "pads", (const int64_t[]){0, 1, 2, 1, 0, 3}, 6)
                                     : build_i64(m, "pads", (const int64_t[]){1, 2}, 2);
        struct shr_value *axes = form == 0 ? NULL : build_i64(m, "axes", (const int64_t[]){-1}, 1);
        struct shr_value *in[] = {P("px", 2, 3, 4), pads, NULL, axes}, *y;
        struct shr_node *node;
        assert_int_equal(shr_graph_fresh_value(&m->graph, "y", &y, &err), 0);
        assert_int_equal(shr_graph_add_node(&m->graph, NULL, "", "Pad", "", in, form == 0 ? 2 : 4,
                                            &y, 1, &node, &err),
                         0);
        build_output(m, build_node(m, "Tanh", "z", y, NULL));
        gradcheck_usual(m);
    }
}

static void slopes_of_each_channel(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 14);
    struct shr_model *m = build_model();
    struct shr_value *x = build_random(m, "px", SHR_DTYPE_F32, DIMS(2, 3, 4), 0.1, 1, &rng);
    for (int64_t i = 0; i < 24; i += 2) {
        ((float *)x->constant.data)[i] *= -1;
    }
    build_output(m, build_node(m, "PRelu", "y", x, P("ps", 3, 1), NULL));
    gradcheck_usual(m);
}

static void nearest_pixels_are_added_up(void **state)
{
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 15);
    for (int form = 0; form < 2; form++) {
        struct shr_err err;
        struct shr_model *m = build_model();
        struct shr_value *scales = build_f32(m, "scales", DIMS(4), (const float[]){1, 1, 2, 1.5f});
        struct shr_value *sizes = build_i64(m, "sizes", (const int64_t[]){2, 2, 2, 7}, 4);
        struct shr_value *in[] = {P("px", 2, 2, 4, 3), NULL, form == 0 ? scales : NULL,
                                  form == 0 ? NULL : sizes};
        struct shr_value *y;
        struct shr_node *node;
        assert_int_equal(shr_graph_fresh_value(&m->graph, "y", &y, &err), 0);
        assert_int_equal(
            shr_graph_add_node(&m->graph, NULL, "", "Resize", "", in, 4, &y, 1, &node, &err), 0);
        build_text(m, "coordinate_transformation_mode", form == 0 ? "asymmetric" : "half_pixel");
        build_text(m, "nearest_mode", form == 0 ? "floor" : "round_prefer_floor");
        build_output(m, build_node(m, "Tanh", "z", y, NULL));
        gradcheck_usual(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_convolution_of_input_weight_and_bias),
        cmocka_unit_test(a_convolution_of_one_axis),
        cmocka_unit_test(a_transposed_convolution),
        cmocka_unit_test(networks_of_convolutions),
        cmocka_unit_test(pools_lead_to_what_they_read),
        cmocka_unit_test(pools_of_whole_images),
        cmocka_unit_test(batch_normalizations),
        cmocka_unit_test(normalizations_of_samples),
        cmocka_unit_test(dropout_by_one_mask),
        cmocka_unit_test(pads_are_cut_off_again),
        cmocka_unit_test(slopes_of_each_channel),
        cmocka_unit_test(nearest_pixels_are_added_up),
        cmocka_unit_test(masks_leave_the_share_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
