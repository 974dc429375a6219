/* Fake quantization and its straight-through gradients against their definition in double. */
#include "../exec/build.h"

#include <math.h>

#include "ops/grad.h"

enum { N = 3, C = 5, W = 20000 }; /* more than a task of a channel */

struct form {
    int64_t axis; /* -1 = one scale */
    int64_t lo, hi;
};

static struct shr_model *model_of(const struct form *f)
{
    struct shr_err err = {0};
    struct shr_model *m = build_model();
    assert_int_equal(shr_model_import(m, SHR_TRAIN_DOMAIN, 1, &err), SHR_OK);
    const int64_t scales = f->axis < 0 ? 1 : C;
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(N, C, W));
    struct shr_value *dy = build_input(m, "dy", SHR_DTYPE_F32, DIMS(N, C, W));
    struct shr_value *t = build_input(m, "t", SHR_DTYPE_F32, DIMS(scales));
    struct shr_value *y = NULL, *grad[2];
    struct shr_node *node = NULL;
    assert_int_equal(shr_graph_fresh_value(&m->graph, "y", &y, &err), 0);
    assert_int_equal(shr_graph_fresh_value(&m->graph, "dx", &grad[0], &err), 0);
    assert_int_equal(shr_graph_fresh_value(&m->graph, "dt", &grad[1], &err), 0);
    assert_int_equal(shr_graph_add_node(&m->graph, NULL, SHR_TRAIN_DOMAIN, "FakeQuantize", "",
                                        (struct shr_value *[]){x, t}, 2, &y, 1, &node, &err),
                     0);
    build_int(m, "axis", f->axis);
    build_int(m, "lo", f->lo);
    build_int(m, "hi", f->hi);
    assert_int_equal(shr_graph_add_node(&m->graph, NULL, SHR_TRAIN_DOMAIN, "FakeQuantizeGrad", "",
                                        (struct shr_value *[]){dy, x, t}, 3, grad, 2, &node, &err),
                     0);
    build_int(m, "axis", f->axis);
    build_int(m, "lo", f->lo);
    build_int(m, "hi", f->hi);
    build_output(m, y);
    build_output(m, grad[0]);
    build_output(m, grad[1]);
    shr_model_resolve(m);
    return m;
}

static void check(const struct form *f, struct shr_plan *plan)
{
    const float *x = shr_plan_input(plan, 0)->data, *dy = shr_plan_input(plan, 1)->data;
    const float *t = shr_plan_input(plan, 2)->data, *y = shr_plan_output(plan, 0)->data;
    const float *dx = shr_plan_output(plan, 1)->data, *dt = shr_plan_output(plan, 2)->data;
    double sums[C] = {0}, sizes[C] = {0};
    for (size_t i = 0; i < (size_t)N * C * W; i++) {
        const size_t channel = f->axis < 0 ? 0 : i / W % C;
        const double s = (double)expf(t[channel]), v = (double)(x[i] / (float)s);
        const double q = fmin(fmax(rint(v), (double)f->lo), (double)f->hi);
        const bool inside = v >= (double)f->lo && v <= (double)f->hi;
        const double part = (double)dy[i] * s * (inside ? q - v : q);
        assert_true(fabs((double)y[i] - s * q) <= 1e-6);
        assert_true(dx[i] == (inside ? dy[i] : 0.0f));
        sums[channel] += part;
        sizes[channel] += fabs(part);
    }
    for (size_t channel = 0; channel < (f->axis < 0 ? 1 : C); channel++) {
        assert_true(fabs((double)dt[channel] - sums[channel]) <= 1e-5 * sizes[channel]);
    }
}

static void it_rounds_and_its_gradients_go_straight_through(void **state)
{
    static const struct form forms[] = {
        {-1, 0, 255}, {-1, -128, 127}, {1, -64, 64}, {1, -127, 127}};
    struct shr_rng rng;
    (void)state;
    shr_rng_init(&rng, 1);
    for (size_t i = 0; i < SHR_COUNT_OF(forms); i++) {
        struct shr_model *m = model_of(&forms[i]);
        struct shr_plan *plan = build_plan(m, &(struct shr_plan_opts){.threads = 1 + (int)i % 2});
        build_fill(shr_plan_input(plan, 0), -3.0, 4.0, &rng);
        build_fill(shr_plan_input(plan, 1), -1.0, 1.0, &rng);
        build_fill(shr_plan_input(plan, 2), -4.5, -3.5, &rng);
        build_run(plan);
        check(&forms[i], plan);
        shr_plan_free(plan);
        shr_model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_rounds_and_its_gradients_go_straight_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
