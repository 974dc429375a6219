/* passes/calibrate: what is seen of a model, whatever batches its samples come in. */
#include "tiny_nets.h"

#include <math.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "data/dataset.h"
#include "passes/calibrate.h"

enum { SAMPLES = 13 }; /* of 16: no batch but 1 and 13 divides it */

/* Every float32 value that a node makes, and the inputs. */
static struct shr_calibration observers(const struct shr_model *m, int64_t batch)
{
    struct shr_calibration c = {0};
    size_t n = 0;
    assert_int_equal(shr_calibration_init(&c, m->graph.n_values, NULL), 0);
    SHR_EACH_VALUE (v, &m->graph) {
        if (!shr_value_is_constant(v)) {
            c.v[n].name = v->name;
            c.v[n++].channel_axis = v->type.dim[1] > 0 ? 1 : -1;
        }
    }
    c.n = n;
    c.batch = batch;
    return c;
}

static int calibrate(struct shr_calibration *c, const struct shr_model *m,
                     const struct shr_dataset *data, size_t max_memory, struct shr_err *err)
{
    const struct shr_ctx ctx = {.seed = 3};
    return shr_calibrate(c, m, data, SAMPLES, max_memory, &ctx, err);
}

static void expect_alike(const struct shr_calibration *a, const struct shr_calibration *b)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct shr_observer *x = &a->v[i], *y = &b->v[i];
        assert_memory_equal(&x->histogram, &y->histogram, sizeof x->histogram);
        assert_int_equal(x->counts, y->counts);
        for (int64_t k = 0; x->sum != NULL && k < x->channels; k++) {
            assert_true(fabs(x->sum[k] - y->sum[k]) <= 1e-12 * (double)x->histogram.n);
        }
    }
    assert_int_equal(a->samples, b->samples);
    assert_memory_equal(a->rows, b->rows, (size_t)a->samples * sizeof *a->rows);
}

/* x (batch, 4) -> Reshape (-1, 2) -> MatMul -> Transpose -> Reshape (-1, 4) -> y: a first axis with
 * two rows a sample, and one without any. */
static struct shr_model *mixed_net(void)
{
    struct shr_model *m = tiny_model(13);
    struct shr_value *in[2] = {
        tiny_input(m, "x", 2, (int64_t[]){-1, 4}),
        tiny_constant(m, "two", SHR_DTYPE_I64, 1, (int64_t[]){2}, (double[]){-1, 2})};
    in[0] = tiny_node(m, "Reshape", "pairs", in, 2, "p")->out[0];
    in[1] = tiny_constant(m, "w", SHR_DTYPE_F32, 2, (int64_t[]){2, 3}, tiny_ramp);
    in[0] = tiny_node(m, "MatMul", "fc", in, 2, "f")->out[0];
    in[0] = tiny_node(m, "Transpose", "turn", in, 1, "t")->out[0];
    in[1] = tiny_constant(m, "wide", SHR_DTYPE_I64, 1, (int64_t[]){2}, (double[]){6, -1});
    tiny_output(m, tiny_node(m, "Reshape", "flat", in, 2, "y"));
    return m;
}

static void no_batch_changes_what_is_seen(void **state)
{
    (void)state;
    struct shr_model *nets[] = {tiny_mlp(), tiny_cnn(), mixed_net()};
    for (size_t i = 0; i < SHR_COUNT_OF(nets); i++) {
        struct shr_dataset *data = i == 1 ? tiny_samples(1, 6) : tiny_samples(4, 1);
        assert_int_equal(shr_model_infer(nets[i], NULL, NULL), 0);
        struct shr_calibration whole = observers(nets[i], SAMPLES);
        assert_int_equal(calibrate(&whole, nets[i], data, 0, NULL), 0);
        for (int64_t batch = 1; batch < SAMPLES; batch++) {
            struct shr_calibration c = observers(nets[i], batch);
            assert_int_equal(calibrate(&c, nets[i], data, 0, NULL), 0);
            expect_alike(&whole, &c);
            shr_calibration_finish(&c);
        }
        shr_calibration_finish(&whole);
        shr_dataset_free(data);
        shr_model_free(nets[i]);
    }
}

static void no_limit_of_memory_changes_what_is_seen(void **state)
{
    (void)state;
    struct shr_model *m = mixed_net();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_calibration whole = observers(m, SAMPLES);
    assert_int_equal(calibrate(&whole, m, data, 0, NULL), 0);
    const size_t least = whole.n * sizeof *whole.v;
    int refused = 0, done = 0;
    for (size_t more = 0; more < 4096; more += 128) {
        struct shr_calibration c = observers(m, SAMPLES);
        int code = calibrate(&c, m, data, least + more, NULL);
        assert_true(code == 0 || code == SHR_ERR_LIMIT);
        refused += code != 0;
        done += code == 0;
        if (code == 0) {
            expect_alike(&whole, &c);
        }
        shr_calibration_finish(&c);
    }
    assert_true(refused > 0 && done > refused);
    shr_calibration_finish(&whole);
    shr_dataset_free(data);
    shr_model_free(m);
}

static void samples_are_drawn_once_each_and_seen_in_order(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_calibration c = observers(m, 4);
    assert_int_equal(calibrate(&c, m, data, 0, NULL), 0);
    assert_int_equal(c.samples, SAMPLES);
    for (int64_t i = 1; i < SAMPLES; i++) {
        assert_true(c.rows[i - 1] < c.rows[i]);
    }
    assert_true(c.rows[0] >= 0 && c.rows[SAMPLES - 1] < data->samples);
    shr_calibration_finish(&c);
    shr_dataset_free(data);
    shr_model_free(m);
}

/* Rows that only fill up a batch that the model has fixed are not seen. */
static void a_fixed_batch_is_filled_up_unseen(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp(), *fixed = tiny_mlp();
    fixed->graph.inputs[0]->type.dim[0] = 5;
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_calibration a = observers(m, SAMPLES), b = observers(fixed, SAMPLES);
    assert_int_equal(calibrate(&a, m, data, 0, NULL), 0);
    assert_int_equal(calibrate(&b, fixed, data, 0, NULL), 0);
    expect_alike(&a, &b);
    shr_calibration_finish(&a);
    shr_calibration_finish(&b);
    shr_dataset_free(data);
    shr_model_free(fixed);
    shr_model_free(m);
}

static void expect_error(const struct shr_model *m, const struct shr_dataset *data,
                         const char *text)
{
    for (int64_t batch = 1; batch <= SAMPLES; batch++) {
        struct shr_err err = {0};
        struct shr_calibration c = observers(m, batch);
        assert_int_equal(calibrate(&c, m, data, 0, &err), SHR_ERR_INVALID);
        assert_null(c.rows);
        assert_non_null(strstr(err.msg, text));
        shr_calibration_finish(&c);
    }
}

static void what_is_not_finite_is_named_with_its_sample(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp(), *mixed = mixed_net();
    struct shr_dataset *data = tiny_samples(4, 1);
    struct shr_calibration c = observers(m, 1);
    assert_int_equal(calibrate(&c, m, data, 0, NULL), 0);
    const int64_t bad = c.rows[7];
    shr_calibration_finish(&c);
    float *x = data->arrays[0].tensor.data;
    char text[128];

    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < SHR_COUNT_OF(wrong); i++) {
        x[bad * 4 + 2] = wrong[i];
        snprintf(text, sizeof text, "data.calibrate: input 'x' is not finite in sample %lld",
                 (long long)bad);
        expect_error(m, data, text);
    }

    for (int i = 0; i < 4; i++) {
        x[bad * 4 + i] = 3e38f; /* finite itself */
    }
    snprintf(text, sizeof text, "value 'g' is not finite for sample %lld", (long long)bad);
    expect_error(m, data, text);
    expect_error(mixed, data, "value 'f' is not finite for ");
    shr_dataset_free(data);
    shr_model_free(mixed);
    shr_model_free(m);
}

struct seer {
    atomic_bool *cancel;
    int seen;
};

static int see_and_cancel(void *user, const struct shr_tensor *t, int64_t count, int64_t batch,
                          struct shr_err *err)
{
    struct seer *s = user;
    (void)t, (void)count, (void)batch, (void)err;
    s->seen++;
    atomic_store(s->cancel, true);
    return SHR_OK;
}

static void a_cancelled_calibration_looks_at_no_other_value(void **state)
{
    (void)state;
    struct shr_model *m = tiny_mlp();
    struct shr_dataset *data = tiny_samples(4, 1);
    atomic_bool cancel = false;
    struct seer seer = {.cancel = &cancel};
    const struct shr_ctx ctx = {.cancel = &cancel};
    struct shr_calibration c = observers(m, 4);
    for (size_t i = 0; i < c.n; i++) {
        c.v[i].see = see_and_cancel;
        c.v[i].user = &seer;
    }
    assert_int_equal(shr_calibrate(&c, m, data, SAMPLES, 0, &ctx, NULL), SHR_ERR_CANCELLED);
    assert_int_equal(seer.seen, 1);
    assert_null(c.rows);
    shr_calibration_finish(&c);
    shr_dataset_free(data);
    shr_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_batch_changes_what_is_seen),
        cmocka_unit_test(no_limit_of_memory_changes_what_is_seen),
        cmocka_unit_test(samples_are_drawn_once_each_and_seen_in_order),
        cmocka_unit_test(a_fixed_batch_is_filled_up_unseen),
        cmocka_unit_test(what_is_not_finite_is_named_with_its_sample),
        cmocka_unit_test(a_cancelled_calibration_looks_at_no_other_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
