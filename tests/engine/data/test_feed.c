/* Feeds: which array goes where, layout, scaling, types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "data/dataset.h"

/* An npy file in memory: header and elements. */
static struct shr_dataset *dataset(const char *descr, const char *shape, const void *elements,
                                   size_t n, const struct shr_dataset_opts *opts)
{
    struct shr_buf file = {0};
    char header[128];
    int length = snprintf(header, sizeof header,
                          "{'descr': '%s', 'fortran_order': False, 'shape': %s}", descr, shape);
    shr_buf_append(&file, "\x93NUMPY\1\0", 8);
    shr_buf_append(&file, (unsigned char[]){(unsigned char)length, 0}, 2);
    shr_buf_append(&file, header, (size_t)length);
    shr_buf_append(&file, elements, n);
    const struct shr_bytes part = {file.data, file.len};
    struct shr_dataset *data;
    struct shr_err err = {0};
    if (shr_dataset_load(SHR_DATASET_NPY, &part, 1, opts, &data, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    shr_buf_finish(&file);
    return data;
}

/* A model that has just inputs: x of this type, and the others named as told. */
static struct shr_model *model(enum shr_dtype dtype, int rank, const int64_t *dim, const char *more)
{
    struct shr_model *m = shr_model_new();
    const char *const names[] = {"x", more};
    for (int i = 0; i < 2 && names[i] != NULL; i++) {
        struct shr_value *v;
        assert_int_equal(shr_graph_add_value(&m->graph, names[i], &v, NULL), 0);
        v->type.dtype = dtype;
        v->type.rank = rank;
        for (int d = 0; d < rank; d++) {
            v->type.dim[d] = dim[d];
        }
        assert_int_equal(shr_graph_add_input(&m->graph, v, NULL), 0);
    }
    return m;
}

/* Feeds count samples from first into a tensor of these dims; end it with shr_tensor_finish. */
static struct shr_tensor feed_some(const struct shr_dataset *data, enum shr_dtype dtype, int rank,
                                   const int64_t *dim, int64_t first, int64_t count)
{
    struct shr_model *m = model(dtype, rank, dim, NULL);
    struct shr_feed *feed;
    struct shr_tensor t;
    struct shr_err err = {0};
    if (shr_feed_new(data, m, &feed, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(shr_tensor_new(dtype, rank, dim, &t, NULL), 0);
    struct shr_tensor *inputs[] = {&t};
    if (shr_feed_fill(feed, first, count, inputs, 1, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    shr_feed_free(feed);
    shr_model_free(m);
    return t;
}

static void assert_misfit(const struct shr_dataset *data, enum shr_dtype dtype, int rank,
                          const int64_t *dim, const char *more, const char *message)
{
    struct shr_model *m = model(dtype, rank, dim, more);
    struct shr_err err = {0};
    assert_int_equal(shr_dataset_check(data, m, &err), SHR_ERR_INVALID);
    assert_string_equal(err.msg, message);
    shr_model_free(m);
}

static void bytes_become_pixels_over_255_as_float_division_gives_them(void **state)
{
    (void)state;
    unsigned char pixels[256];
    for (int i = 0; i < 256; i++) {
        pixels[i] = (unsigned char)i;
    }
    struct shr_dataset *data = dataset("|u1", "(1, 256)", pixels, sizeof pixels, NULL);
    struct shr_tensor t = feed_some(data, SHR_DTYPE_F32, 2, (int64_t[]){1, 256}, 0, 1);
    for (int i = 0; i < 256; i++) {
        assert_true(((float *)t.data)[i] == (float)i / 255.0f);
    }
    shr_tensor_finish(&t);
    shr_dataset_free(data);
}

static void floats_pass_unchanged_and_a_short_batch_repeats_its_last_row(void **state)
{
    (void)state;
    const float rows[] = {0.1f, -2, 3e30f, 4, 5, 6};
    struct shr_dataset *data = dataset("<f4", "(3, 2)", rows, sizeof rows, NULL);
    struct shr_tensor t = feed_some(data, SHR_DTYPE_F32, 4, (int64_t[]){4, 1, 1, 2}, 1, 2);
    const float wanted[] = {3e30f, 4, 5, 6, 5, 6, 5, 6};
    assert_memory_equal(t.data, wanted, sizeof wanted);
    shr_tensor_finish(&t);
    shr_dataset_free(data);
}

static void listed_samples_come_in_the_order_of_the_list(void **state)
{
    (void)state;
    const float rows[] = {10, 20, 30};
    struct shr_dataset *data = dataset("<f4", "(3, 1)", rows, sizeof rows, NULL);
    struct shr_model *m = model(SHR_DTYPE_F32, 2, (int64_t[]){-1, 1}, NULL);
    struct shr_feed *feed;
    struct shr_tensor t;
    struct shr_err err = {0};
    assert_int_equal(shr_feed_new(data, m, &feed, &err), 0);
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 2, (int64_t[]){3, 1}, &t, NULL), 0);
    struct shr_tensor *inputs[] = {&t};
    assert_int_equal(shr_feed_fill_list(feed, (int64_t[]){2, 0, 2}, 3, inputs, 1, &err), 0);
    const float wanted[] = {30, 10, 30};
    assert_memory_equal(t.data, wanted, sizeof wanted);
    assert_int_equal(shr_feed_fill_list(feed, (int64_t[]){3}, 1, inputs, 1, &err), SHR_ERR_INVALID);
    assert_string_equal(err.msg, "sample 3 is not in [0, 3)");
    assert_int_equal(shr_feed_fill(feed, 0, 4, inputs, 1, &err), SHR_ERR_INVALID);
    assert_string_equal(err.msg, "input x: a float32 tensor of [3, 1] cannot take 4 samples of 1 "
                                 "elements");
    shr_tensor_finish(&t);
    shr_feed_free(feed);
    shr_model_free(m);
    shr_dataset_free(data);
}

static void nhwc_is_turned_and_normalized_by_channel(void **state)
{
    (void)state;
    /* (1, 1, 2, 3): two pixels of three channels */
    const unsigned char pixels[] = {0, 51, 102, 153, 204, 255};
    const double mean[] = {0.5, 0.25, 0}, std[] = {0.5, 0.25, 2};
    const struct shr_dataset_opts opts = {
        .nhwc = true, .mean = mean, .std = std, .n_mean = 3, .n_std = 3};
    struct shr_dataset *data = dataset("|u1", "(1, 1, 2, 3)", pixels, sizeof pixels, &opts);
    struct shr_tensor t = feed_some(data, SHR_DTYPE_F32, 4, (int64_t[]){1, 3, 1, 2}, 0, 1);
    const double wanted[] = {(0 - 0.5) / 0.5,     (0.6 - 0.5) / 0.5, (0.2 - 0.25) / 0.25,
                             (0.8 - 0.25) / 0.25, 0.4 / 2,           1.0 / 2};
    for (int i = 0; i < 6; i++) {
        assert_true(((float *)t.data)[i] - wanted[i] < 1e-6);
        assert_true(((float *)t.data)[i] - wanted[i] > -1e-6);
    }
    shr_tensor_finish(&t);
    shr_dataset_free(data);
}

static void one_mean_for_all_and_a_scale_apply_to_grey_images(void **state)
{
    (void)state;
    const int16_t values[] = {-100, 300};
    const double mean = 1, std = 2;
    const struct shr_dataset_opts opts = {
        .scale = 0.01, .mean = &mean, .std = &std, .n_mean = 1, .n_std = 1};
    struct shr_dataset *data = dataset("<i2", "(1, 1, 2)", values, sizeof values, &opts);
    struct shr_tensor t = feed_some(data, SHR_DTYPE_F32, 2, (int64_t[]){1, 2}, 0, 1);
    assert_true(((float *)t.data)[0] == -1);
    assert_true(((float *)t.data)[1] == 1);
    shr_tensor_finish(&t);
    t = feed_some(data, SHR_DTYPE_F64, 2, (int64_t[]){1, 2}, 0, 1);
    assert_true(((double *)t.data)[0] == -1);
    shr_tensor_finish(&t);
    t = feed_some(data, SHR_DTYPE_F16, 2, (int64_t[]){1, 2}, 0, 1);
    assert_int_equal(((uint16_t *)t.data)[1], 0x3c00);
    shr_tensor_finish(&t);
    shr_dataset_free(data);
}

static void integer_inputs_get_integers_unscaled_or_an_error(void **state)
{
    (void)state;
    const int64_t tokens[] = {7, INT64_C(5000000000), -1, 3};
    const double mean = 5;
    const struct shr_dataset_opts opts = {.scale = 2, .mean = &mean, .n_mean = 1};
    struct shr_dataset *data = dataset("<i8", "(2, 2)", tokens, sizeof tokens, &opts);
    struct shr_tensor t = feed_some(data, SHR_DTYPE_I64, 2, (int64_t[]){2, 2}, 0, 2);
    assert_memory_equal(t.data, tokens, sizeof tokens);
    shr_tensor_finish(&t);
    t = feed_some(data, SHR_DTYPE_I32, 2, (int64_t[]){1, 2}, 1, 1);
    assert_int_equal(((int32_t *)t.data)[0], -1);
    assert_int_equal(((int32_t *)t.data)[1], 3);
    shr_tensor_finish(&t);
    struct shr_model *m = model(SHR_DTYPE_I32, 2, (int64_t[]){1, 2}, NULL);
    struct shr_feed *feed;
    struct shr_err err = {0};
    assert_int_equal(shr_feed_new(data, m, &feed, &err), 0);
    assert_int_equal(shr_tensor_new(SHR_DTYPE_I32, 2, (int64_t[]){1, 2}, &t, NULL), 0);
    assert_int_equal(shr_feed_fill(feed, 0, 1, (struct shr_tensor *[]){&t}, 1, &err),
                     SHR_ERR_INVALID);
    assert_string_equal(err.msg, "array data: the value of element 1 does not fit input x (int32)");
    shr_tensor_finish(&t);
    shr_feed_free(feed);
    shr_model_free(m);
    shr_dataset_free(data);
}

static void what_does_not_fit_is_told(void **state)
{
    (void)state;
    const float rows[12] = {0};
    struct shr_dataset *data = dataset("<f4", "(2, 6)", rows, 48, NULL);
    assert_misfit(data, SHR_DTYPE_F32, 2, (int64_t[]){-1, 7}, NULL,
                  "input x wants [?, 7], array data has [2, 6]");
    assert_misfit(data, SHR_DTYPE_F32, 0, NULL, NULL, "input x wants [], array data has [2, 6]");
    assert_misfit(data, SHR_DTYPE_F32, 3, (int64_t[]){-1, -1, 6}, NULL,
                  "input x wants [?, ?, 6], array data has [2, 6]");
    assert_misfit(data, SHR_DTYPE_I64, 2, (int64_t[]){-1, 6}, NULL,
                  "input x is int64, array data is float32");
    assert_misfit(data, SHR_DTYPE_F32, 2, (int64_t[]){-1, 6}, "mask",
                  "input x: no array has its name, and 1 arrays cannot feed 2 inputs in order");
    shr_dataset_free(data);
    const double mean[] = {1, 2};
    const struct shr_dataset_opts opts = {.mean = mean, .n_mean = 2};
    data = dataset("<f4", "(1, 3, 2, 2)", rows, 48, &opts);
    assert_misfit(data, SHR_DTYPE_F32, 4, (int64_t[]){-1, 3, 2, 2}, NULL,
                  "mean: 2 values, but array data has 3 channels");
    shr_dataset_free(data);
}

static void open_dims_of_a_model_take_those_of_the_array(void **state)
{
    (void)state;
    const unsigned char pixels[24] = {0};
    const struct shr_dataset_opts opts = {.nhwc = true};
    struct shr_dataset *data = dataset("|u1", "(2, 2, 2, 3)", pixels, sizeof pixels, &opts);
    struct shr_model *m = model(SHR_DTYPE_F32, 4, (int64_t[]){-1, 3, -1, -1}, NULL);
    struct shr_feed *feed;
    struct shr_type type;
    struct shr_err err = {0};
    assert_int_equal(shr_feed_new(data, m, &feed, &err), 0);
    shr_feed_type(feed, 0, 64, &type);
    const int64_t wanted[] = {64, 3, 2, 2};
    assert_int_equal(type.rank, 4);
    assert_memory_equal(type.dim, wanted, sizeof wanted);
    shr_feed_free(feed);
    shr_model_free(m);
    shr_dataset_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_become_pixels_over_255_as_float_division_gives_them),
        cmocka_unit_test(floats_pass_unchanged_and_a_short_batch_repeats_its_last_row),
        cmocka_unit_test(listed_samples_come_in_the_order_of_the_list),
        cmocka_unit_test(nhwc_is_turned_and_normalized_by_channel),
        cmocka_unit_test(one_mean_for_all_and_a_scale_apply_to_grey_images),
        cmocka_unit_test(integer_inputs_get_integers_unscaled_or_an_error),
        cmocka_unit_test(what_does_not_fit_is_told),
        cmocka_unit_test(open_dims_of_a_model_take_those_of_the_array),
    };
    return cmocka_run_group_tests_name("engine/data/feed", tests, NULL, NULL);
}
