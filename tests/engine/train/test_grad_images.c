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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_convolution_of_input_weight_and_bias),
        cmocka_unit_test(a_convolution_of_one_axis),
        cmocka_unit_test(a_transposed_convolution),
        cmocka_unit_test(networks_of_convolutions),
        cmocka_unit_test(pools_lead_to_what_they_read),
        cmocka_unit_test(pools_of_whole_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
