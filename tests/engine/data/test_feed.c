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

/* ── Augmentation ───────────────────────────────────────────────────────────────────────────── */

enum { IMAGES = 64, HIGH = 3, WIDE = 4, PIXELS = HIGH * WIDE };

struct images { /* of bytes; a pixel without light is -1 */
    struct shr_dataset *data;
    struct shr_model *model;
    struct shr_feed *feed;
    float plain[IMAGES][PIXELS], seen[IMAGES][PIXELS];
};

static void read_images(struct images *m, int64_t epoch, float to[IMAGES][PIXELS])
{
    struct shr_tensor t;
    struct shr_tensor *inputs[] = {&t};
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 4, (int64_t[]){IMAGES, 1, HIGH, WIDE}, &t, NULL),
                     0);
    shr_feed_set_epoch(m->feed, epoch);
    assert_int_equal(shr_feed_fill(m->feed, 0, IMAGES, inputs, 1, NULL), 0);
    memcpy(to, t.data, sizeof m->plain);
    shr_tensor_finish(&t);
}

/* As they are, and as they are in epoch 0. */
static void make_images(struct images *m, const struct shr_augment *augment)
{
    unsigned char pixels[IMAGES][PIXELS];
    struct shr_err err = {0};
    const double mean = 1;
    for (int i = 0; i < IMAGES; i++) {
        for (int p = 0; p < PIXELS; p++) {
            pixels[i][p] = (unsigned char)((i * PIXELS + p) * 7 % 251 + 1);
        }
    }
    m->data = dataset("|u1", "(64, 3, 4)", pixels, sizeof pixels,
                      &(struct shr_dataset_opts){.scale = 1, .mean = &mean, .n_mean = 1});
    m->model = model(SHR_DTYPE_F32, 4, (int64_t[]){-1, 1, HIGH, WIDE}, NULL);
    assert_int_equal(shr_feed_new(m->data, m->model, &m->feed, &err), 0);
    if (shr_feed_augment(m->feed, augment, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    read_images(m, -1, m->plain);
    read_images(m, 0, m->seen);
    for (int i = 0; i < IMAGES; i++) {
        for (int p = 0; p < PIXELS; p++) {
            assert_true(m->plain[i][p] == (float)pixels[i][p] - 1);
        }
    }
}

static void free_images(struct images *m)
{
    shr_feed_free(m->feed);
    shr_model_free(m->model);
    shr_dataset_free(m->data);
}

/* Is the image this one, moved by so much? */
static bool is_moved(const float *seen, const float *plain, int dy, int dx)
{
    bool same = true;
    for (int y = 0; y < HIGH; y++) {
        for (int x = 0; x < WIDE; x++) {
            const int from_y = y - dy, from_x = x - dx;
            const bool inside = from_y >= 0 && from_x >= 0 && from_y < HIGH && from_x < WIDE;
            same = same && seen[y * WIDE + x] == (inside ? plain[from_y * WIDE + from_x] : -1.0f);
        }
    }
    return same;
}

static void a_shifted_image_has_empty_pixels_at_its_edge(void **state)
{
    (void)state;
    struct images m;
    int found[3][3] = {{0}}, kinds = 0;
    make_images(&m, &(struct shr_augment){.shift = 1, .seed = 5});
    for (int i = 0; i < IMAGES; i++) {
        int matches = 0;
        for (int k = 0; k < 9; k++) {
            const bool is = is_moved(m.seen[i], m.plain[i], k / 3 - 1, k % 3 - 1);
            kinds += is && found[k / 3][k % 3]++ == 0;
            matches += is;
        }
        assert_int_equal(matches, 1);
    }
    assert_int_equal(kinds, 9);
    free_images(&m);
}

static void half_of_the_images_are_mirrored(void **state)
{
    (void)state;
    struct images m;
    int mirrored = 0;
    make_images(&m, &(struct shr_augment){.flip = true});
    for (int i = 0; i < IMAGES; i++) {
        const bool flipped = m.seen[i][0] != m.plain[i][0];
        for (int p = 0; p < PIXELS; p++) {
            const int from = flipped ? p / WIDE * WIDE + WIDE - 1 - p % WIDE : p;
            assert_true(m.seen[i][p] == m.plain[i][from]);
        }
        mirrored += flipped;
    }
    assert_in_range(mirrored, 20, 44);
    free_images(&m);
}

static void a_cropped_image_is_enlarged(void **state)
{
    (void)state;
    struct images m;
    int changed = 0;
    make_images(&m, &(struct shr_augment){.crop = 0.5});
    for (int i = 0; i < IMAGES; i++) {
        float least = m.plain[i][0], most = least;
        for (int p = 0; p < PIXELS; p++) {
            least = m.plain[i][p] < least ? m.plain[i][p] : least;
            most = m.plain[i][p] > most ? m.plain[i][p] : most;
        }
        for (int p = 0; p < PIXELS; p++) { /* nothing comes in from outside */
            assert_true(m.seen[i][p] >= least - 1e-4f && m.seen[i][p] <= most + 1e-4f);
        }
        changed += memcmp(m.seen[i], m.plain[i], sizeof m.plain[i]) != 0;
    }
    assert_int_equal(changed, IMAGES);
    free_images(&m);
}

static void an_augmented_image_depends_on_seed_epoch_and_sample_alone(void **state)
{
    (void)state;
    const struct shr_augment augment = {.shift = 2, .flip = true, .crop = 0.3, .seed = 9};
    struct shr_augment other = augment;
    struct images m, n;
    static float again[IMAGES][PIXELS];
    struct shr_tensor t;
    struct shr_tensor *inputs[] = {&t};
    other.seed++;
    make_images(&m, &augment);
    make_images(&n, &other);
    assert_memory_not_equal(m.seen, n.seen, sizeof m.seen);
    read_images(&m, 1, again);
    assert_memory_not_equal(m.seen, again, sizeof again);
    read_images(&m, 0, again);
    assert_memory_equal(m.seen, again, sizeof again);
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 4, (int64_t[]){2, 1, HIGH, WIDE}, &t, NULL), 0);
    assert_int_equal(shr_feed_fill_list(m.feed, (int64_t[]){40, 3}, 2, inputs, 1, NULL), 0);
    assert_memory_equal(t.data, m.seen[40], sizeof m.seen[40]);
    assert_memory_equal((float *)t.data + PIXELS, m.seen[3], sizeof m.seen[3]);
    shr_tensor_finish(&t);
    free_images(&m);
    free_images(&n);
}

static void what_is_no_image_is_not_augmented(void **state)
{
    (void)state;
    const float rows[] = {1, 2, 3, 4, 5, 6};
    const struct {
        const char *shape, *message;
    } cases[] = {{"(3, 2)", "augment: no array is of images, (N, H, W) or (N, C, H, W), for a "
                            "float32 input"},
                 {"(3, 1, 2)", "augment.shift: 1 is too much for images of 1 x 2 pixels"}};
    for (int i = 0; i < 2; i++) {
        struct shr_dataset *data = dataset("<f4", cases[i].shape, rows, sizeof rows, NULL);
        struct shr_model *m = model(SHR_DTYPE_F32, 2, (int64_t[]){-1, 2}, NULL);
        struct shr_feed *feed;
        struct shr_err err = {0};
        assert_int_equal(shr_feed_new(data, m, &feed, &err), 0);
        assert_int_equal(shr_feed_augment(feed, &(struct shr_augment){.shift = 1}, &err),
                         SHR_ERR_INVALID);
        assert_string_equal(err.msg, cases[i].message);
        shr_feed_free(feed);
        shr_model_free(m);
        shr_dataset_free(data);
    }
}

static void a_state_whose_first_dim_is_no_batch_is_fed_whole(void **state)
{
    (void)state;
    const float states[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct shr_dataset *data = dataset("<f4", "(3, 2, 1, 2)", states, sizeof states, NULL);
    struct shr_model *m = model(SHR_DTYPE_F32, 3, (int64_t[]){2, -1, 2}, NULL);
    struct shr_feed *feed;
    struct shr_type type;
    struct shr_err err = {0};
    assert_int_equal(shr_feed_new(data, m, &feed, &err), 0);
    assert_true(shr_feed_is_whole(feed, 0));
    assert_int_equal(shr_feed_batch(feed, 32), 1);
    shr_feed_type(feed, 0, 1, &type);
    const int64_t wanted[] = {2, 1, 2};
    assert_int_equal(type.rank, 3);
    assert_memory_equal(type.dim, wanted, sizeof wanted);
    struct shr_tensor t;
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 3, wanted, &t, NULL), 0);
    struct shr_tensor *inputs[] = {&t};
    assert_int_equal(shr_feed_fill_list(feed, (int64_t[]){2}, 1, inputs, 1, &err), 0);
    assert_memory_equal(t.data, states + 8, 16);
    assert_int_equal(shr_feed_fill(feed, 0, 2, inputs, 1, &err), SHR_ERR_INVALID);
    shr_tensor_finish(&t);
    shr_feed_free(feed);
    shr_model_free(m);
    shr_dataset_free(data);
}

static void a_scalar_is_fed_from_a_list_of_them(void **state)
{
    (void)state;
    const int64_t rates[] = {8000, 16000};
    struct shr_dataset *data = dataset("<i8", "(2,)", rates, sizeof rates, NULL);
    struct shr_tensor t = feed_some(data, SHR_DTYPE_I64, 0, NULL, 1, 1);
    assert_int_equal(*(const int64_t *)t.data, 16000);
    shr_tensor_finish(&t);
    shr_dataset_free(data);
}

static void a_fixed_first_dim_says_how_many_samples_a_run_takes(void **state)
{
    (void)state;
    const float rows[12] = {0};
    struct shr_dataset *data = dataset("<f4", "(3, 4)", rows, sizeof rows, NULL);
    const int64_t first[] = {-1, 1};
    for (int i = 0; i < 2; i++) {
        struct shr_model *m = model(SHR_DTYPE_F32, 2, (int64_t[]){first[i], 4}, NULL);
        struct shr_feed *feed;
        assert_int_equal(shr_feed_new(data, m, &feed, NULL), 0);
        assert_int_equal(shr_feed_batch(feed, 3), i == 0 ? 3 : 1);
        assert_false(shr_feed_is_whole(feed, 0));
        shr_feed_free(feed);
        shr_model_free(m);
    }
    shr_dataset_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shifted_image_has_empty_pixels_at_its_edge),
        cmocka_unit_test(half_of_the_images_are_mirrored),
        cmocka_unit_test(a_cropped_image_is_enlarged),
        cmocka_unit_test(an_augmented_image_depends_on_seed_epoch_and_sample_alone),
        cmocka_unit_test(what_is_no_image_is_not_augmented),
        cmocka_unit_test(bytes_become_pixels_over_255_as_float_division_gives_them),
        cmocka_unit_test(floats_pass_unchanged_and_a_short_batch_repeats_its_last_row),
        cmocka_unit_test(listed_samples_come_in_the_order_of_the_list),
        cmocka_unit_test(nhwc_is_turned_and_normalized_by_channel),
        cmocka_unit_test(one_mean_for_all_and_a_scale_apply_to_grey_images),
        cmocka_unit_test(integer_inputs_get_integers_unscaled_or_an_error),
        cmocka_unit_test(what_does_not_fit_is_told),
        cmocka_unit_test(open_dims_of_a_model_take_those_of_the_array),
        cmocka_unit_test(a_state_whose_first_dim_is_no_batch_is_fed_whole),
        cmocka_unit_test(a_scalar_is_fed_from_a_list_of_them),
        cmocka_unit_test(a_fixed_first_dim_says_how_many_samples_a_run_takes),
    };
    return cmocka_run_group_tests_name("engine/data/feed", tests, NULL, NULL);
}
