/* Gradients of convolutions and pools against their definition, summed in double, run node by node
 * and as a plan that keeps images NHWC. */
#include "../exec/build.h"

#include <math.h>
#include <stdlib.h>

#include "ops/grad.h"

struct geometry {
    int64_t n, c, h, w, oc, kh, kw, stride[2], pads[4], dil[2], groups;
};

static const struct geometry SHAPES[] = {
    {2, 3, 7, 6, 4, 3, 3, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1},
    {2, 16, 9, 8, 24, 3, 3, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1}, /* by Winograd */
    {3, 8, 9, 9, 6, 3, 3, {2, 2}, {1, 1, 1, 1}, {1, 1}, 1},
    {2, 4, 10, 7, 6, 3, 2, {3, 2}, {0, 1, 2, 0}, {2, 1}, 2},
    {2, 6, 9, 8, 6, 3, 3, {1, 1}, {1, 1, 1, 1}, {1, 1}, 6},    /* depthwise */
    {2, 10, 9, 8, 10, 5, 3, {2, 2}, {2, 1, 2, 1}, {1, 1}, 10}, /* at a stride */
    {2, 4, 8, 8, 8, 3, 3, {2, 1}, {1, 1, 0, 1}, {1, 2}, 4},    /* two filters a channel */
    {2, 5, 6, 6, 7, 1, 1, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1},
    {2, 5, 7, 6, 7, 1, 1, {2, 2}, {0, 0, 0, 0}, {1, 1}, 1},
    {2, 3, 5, 5, 4, 2, 2, {1, 1}, {2, 2, 2, 2}, {1, 1}, 1},   /* more padding than kernel */
    {9, 4, 16, 16, 5, 3, 3, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1}, /* several partial sums */
};

static struct shr_value *train_node(struct shr_model *m, const char *op, const char *out,
                                    struct shr_value *a, struct shr_value *b)
{
    struct shr_value *y = build_node(m, op, out, a, b, NULL);
    build_last(m)->domain = SHR_TRAIN_DOMAIN;
    return y;
}

static void set_window(struct shr_model *m, const struct geometry *s)
{
    build_ints(m, "strides", s->stride, 2);
    build_ints(m, "pads", s->pads, 4);
    build_ints(m, "dilations", s->dil, 2);
    build_int(m, "group", s->groups);
}

static struct shr_model *gradients_of(const struct geometry *s)
{
    struct shr_err err = {0};
    struct shr_model *m = build_model();
    assert_int_equal(shr_model_import(m, SHR_TRAIN_DOMAIN, 1, &err), SHR_OK);
    const int64_t cg = s->c / s->groups;
    const int64_t oh =
        (s->h + s->pads[0] + s->pads[2] - (s->kh - 1) * s->dil[0] - 1) / s->stride[0];
    const int64_t ow =
        (s->w + s->pads[1] + s->pads[3] - (s->kw - 1) * s->dil[1] - 1) / s->stride[1];
    struct shr_value *x = build_input(m, "x", SHR_DTYPE_F32, DIMS(s->n, s->c, s->h, s->w));
    struct shr_value *w = build_input(m, "w", SHR_DTYPE_F32, DIMS(s->oc, cg, s->kh, s->kw));
    struct shr_value *dy = build_input(m, "dy", SHR_DTYPE_F32, DIMS(s->n, s->oc, oh + 1, ow + 1));
    build_output(m, train_node(m, "ConvGradInput", "dx", dy, w));
    set_window(m, s);
    build_ints(m, "dims", (const int64_t[]){s->n, s->c, s->h, s->w}, 4);
    build_output(m, train_node(m, "ConvGradWeight", "dw", dy, x));
    set_window(m, s);
    build_ints(m, "dims", (const int64_t[]){s->oc, cg, s->kh, s->kw}, 4);
    build_output(m, train_node(m, "ChannelSum", "db", dy, NULL));
    return m;
}

/* dx, dw and db of everything, with the sizes of what was added up. */
struct sums {
    double *value[3], *size[3];
};

static void add(struct sums *to, int k, int64_t i, double term)
{
    to->value[k][i] += term;
    to->size[k][i] += fabs(term);
}

static void define(const struct geometry *s, const struct shr_tensor *dy, const float *x,
                   const float *w, struct sums *to)
{
    const int64_t oh = dy->dim[2], ow = dy->dim[3], cg = s->c / s->groups, og = s->oc / s->groups;
    for (int64_t i = 0; i < shr_tensor_count(dy); i++) {
        const int64_t n = i / (s->oc * oh * ow), o = i / (oh * ow) % s->oc;
        const double d = (double)((const float *)dy->data)[i];
        add(to, 2, o, d);
        for (int64_t t = 0; t < cg * s->kh * s->kw; t++) {
            const int64_t h =
                i / ow % oh * s->stride[0] - s->pads[0] + t / s->kw % s->kh * s->dil[0];
            const int64_t l = i % ow * s->stride[1] - s->pads[1] + t % s->kw * s->dil[1];
            const int64_t c = o / og * cg + t / (s->kh * s->kw);
            const int64_t at = ((n * s->c + c) * s->h + h) * s->w + l;
            if (h >= 0 && h < s->h && l >= 0 && l < s->w) {
                add(to, 0, at, d * (double)w[o * cg * s->kh * s->kw + t]);
                add(to, 1, o * cg * s->kh * s->kw + t, d * (double)x[at]);
            }
        }
    }
}

static void expect(const struct geometry *s, bool no_fuse, int threads)
{
    struct shr_rng rng;
    shr_rng_init(&rng, 5);
    struct shr_model *m = gradients_of(s);
    struct shr_plan *plan =
        build_plan(m, &(struct shr_plan_opts){.no_fuse = no_fuse, .threads = threads});
    for (size_t i = 0; i < 3; i++) {
        build_fill(shr_plan_input(plan, i), -1, 1, &rng);
    }
    build_run(plan);
    struct sums want;
    for (size_t k = 0; k < 3; k++) {
        const size_t n = (size_t)shr_tensor_count(shr_plan_output(plan, k));
        want.value[k] = calloc(n, sizeof(double));
        want.size[k] = calloc(n, sizeof(double));
    }
    define(s, shr_plan_input(plan, 2), shr_plan_input(plan, 0)->data, shr_plan_input(plan, 1)->data,
           &want);
    for (size_t k = 0; k < 3; k++) {
        const struct shr_tensor *got = shr_plan_output(plan, k);
        for (int64_t i = 0; i < shr_tensor_count(got); i++) {
            const double off = fabs((double)((const float *)got->data)[i] - want.value[k][i]);
            if (!(off <= 1e-5 + 2e-6 * want.size[k][i])) {
                fail_msg("shape %d output %zu [%lld]: %g, not %g", (int)(s - SHAPES), k,
                         (long long)i, (double)((const float *)got->data)[i], want.value[k][i]);
            }
        }
        free(want.value[k]);
        free(want.size[k]);
    }
    shr_plan_free(plan);
    shr_model_free(m);
}

static void gradients_of_convolutions_are_those_of_the_definition(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(SHAPES); i++) {
        expect(&SHAPES[i], true, 1);
        expect(&SHAPES[i], false, 2);
    }
}

/* The same bits whatever the team. */
static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    const struct geometry *s = &SHAPES[SHR_COUNT_OF(SHAPES) - 1];
    struct shr_model *m = gradients_of(s);
    struct shr_plan *plans[2];
    for (int k = 0; k < 2; k++) {
        struct shr_rng rng;
        shr_rng_init(&rng, 5);
        plans[k] = build_plan(m, &(struct shr_plan_opts){.threads = k + 1});
        for (size_t i = 0; i < 3; i++) {
            build_fill(shr_plan_input(plans[k], i), -1, 1, &rng);
        }
        build_run(plans[k]);
    }
    for (size_t i = 0; i < 3; i++) {
        const struct shr_tensor *a = shr_plan_output(plans[0], i),
                                *b = shr_plan_output(plans[1], i);
        assert_memory_equal(a->data, b->data, shr_tensor_bytes(a));
    }
    shr_plan_free(plans[0]);
    shr_plan_free(plans[1]);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_convolutions_are_those_of_the_definition),
        cmocka_unit_test(threads_do_not_change_a_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
