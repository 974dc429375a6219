/* Reading datasets: what NumPy writes, what MNIST ships, and what is broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"

struct file {
    unsigned char *bytes; /* exactly n, so that a sanitizer sees a read behind the end */
    size_t n;
};

static struct file read_file(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *in = fopen(path, "rb");
    if (in == NULL) {
        fail_msg("cannot open %s", path);
    }
    struct file file = {0};
    assert_int_equal(fseek(in, 0, SEEK_END), 0);
    file.n = (size_t)ftell(in);
    rewind(in);
    file.bytes = malloc(file.n == 0 ? 1 : file.n);
    assert_int_equal(fread(file.bytes, 1, file.n, in), file.n);
    fclose(in);
    return file;
}

static enum shr_dataset_format format_of(const char *name)
{
    return strstr(name, ".npz") != NULL   ? SHR_DATASET_NPZ
           : strstr(name, ".npy") != NULL ? SHR_DATASET_NPY
                                          : SHR_DATASET_IDX;
}

static int load(const char *folder, const char *name, const struct shr_dataset_opts *opts,
                struct shr_dataset **ret, struct shr_err *err)
{
    struct file file = read_file(folder, name);
    const struct shr_bytes part = {file.bytes, file.n};
    int code = shr_dataset_load(format_of(name), &part, 1, opts, ret, err);
    free(file.bytes); /* the dataset must not need it any more */
    return code;
}

static struct shr_dataset *load_valid(const char *name)
{
    struct shr_dataset *data;
    struct shr_err err = {0};
    if (load(FIXTURES "/valid", name, NULL, &data, &err) != 0) {
        fail_msg("%s: %s", name, err.msg);
    }
    return data;
}

static void every_type_of_npy_and_idx_reads_back(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        enum shr_dtype dtype;
    } cases[] = {
        {"f2.npy", SHR_DTYPE_F16},
        {"f4.npy", SHR_DTYPE_F32},
        {"f8.npy", SHR_DTYPE_F64},
        {"u1.npy", SHR_DTYPE_U8},
        {"i1.npy", SHR_DTYPE_I8},
        {"u2.npy", SHR_DTYPE_U16},
        {"i2.npy", SHR_DTYPE_I16},
        {"u4.npy", SHR_DTYPE_U32},
        {"i4.npy", SHR_DTYPE_I32},
        {"u8.npy", SHR_DTYPE_U64},
        {"i8.npy", SHR_DTYPE_I64},
        {"b1.npy", SHR_DTYPE_BOOL},
        {"version2.npy", SHR_DTYPE_F32},
        {"version3.npy", SHR_DTYPE_F32},
        {"u1.idx", SHR_DTYPE_U8},
        {"i1.idx", SHR_DTYPE_I8},
        {"i2.idx", SHR_DTYPE_I16},
        {"i4.idx", SHR_DTYPE_I32},
        {"f4.idx", SHR_DTYPE_F32},
        {"f8.idx", SHR_DTYPE_F64},
        {"big_endian.npy", SHR_DTYPE_I32},
        {"members.idx.gz", SHR_DTYPE_U8},
        {"keys_in_another_order.npy", SHR_DTYPE_F32},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_dataset *data = load_valid(cases[i].file);
        const struct shr_tensor *t = &data->arrays[0].tensor;
        assert_string_equal(data->arrays[0].name,
                            format_of(cases[i].file) == SHR_DATASET_IDX ? "images" : "data");
        assert_int_equal(data->n_arrays, 1);
        assert_int_equal(data->samples, 3);
        assert_int_equal(t->dtype, cases[i].dtype);
        assert_int_equal(t->rank, 2);
        assert_int_equal(t->dim[1], 2);
        for (int64_t k = 0; k < 6; k++) {
            double wanted = cases[i].dtype == SHR_DTYPE_BOOL ? (double)(k % 2) : (double)k;
            assert_true(shr_tensor_get(t, k) == wanted);
        }
        shr_dataset_free(data);
    }
}

static void every_kind_of_npz_reads_back_with_its_labels(void **state)
{
    (void)state;
    static const char *const files[] = {"stored.npz", "deflated.npz", "zip64.npz", "commented.npz",
                                        "y.npz"};
    for (size_t i = 0; i < SHR_COUNT_OF(files); i++) {
        struct shr_dataset *data = load_valid(files[i]);
        const struct shr_tensor *t = &data->arrays[0].tensor;
        assert_int_equal(data->n_arrays, 1);
        assert_string_equal(data->arrays[0].name, i == 4 ? "a/b:0" : "images");
        assert_int_equal(t->rank, 4);
        for (int64_t k = 0; k < 36; k++) {
            assert_true(shr_tensor_get(t, k) == (double)k);
        }
        assert_int_equal(data->labels[0], 2);
        assert_int_equal(data->labels[1], 0);
        assert_int_equal(data->labels[2], 1);
        struct shr_dataset_info info;
        assert_int_equal(shr_dataset_describe(data, &info, NULL), 0);
        assert_int_equal(info.samples, 3);
        assert_true(info.has_labels);
        assert_int_equal(info.n_classes, 3);
        assert_int_equal(info.histogram[2], 1);
        assert_int_equal(info.arrays[0].dim[3], 3);
        shr_dataset_info_finish(&info);
        shr_dataset_free(data);
    }
}

struct broken {
    const char *file;
    int code;
    const char *message;
};

static const struct broken broken[] = {
#include "invalid.inc"
};

static void what_is_broken_is_told_exactly(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHR_COUNT_OF(broken); i++) {
        struct shr_dataset *data = NULL;
        struct shr_err err = {0};
        int code = load(FIXTURES "/invalid", broken[i].file, NULL, &data, &err);
        if (strcmp(err.msg, broken[i].message) != 0 || code != broken[i].code) {
            fail_msg("%s: %s: %s", broken[i].file, shr_err_name(code), err.msg);
        }
        assert_null(data);
    }
}

static void every_cut_of_a_file_is_an_error(void **state)
{
    (void)state;
    static const char *const files[] = {"deflated.npz", "zip64.npz", "f4.npy", "members.idx.gz",
                                        "i2.idx"};
    for (size_t i = 0; i < SHR_COUNT_OF(files); i++) {
        struct file file = read_file(FIXTURES "/valid", files[i]);
        for (size_t n = 0; n < file.n; n++) {
            struct shr_dataset *data = NULL;
            struct shr_err err = {0};
            unsigned char *cut = malloc(n == 0 ? 1 : n);
            memcpy(cut, file.bytes, n);
            const struct shr_bytes part = {cut, n};
            assert_int_not_equal(shr_dataset_load(format_of(files[i]), &part, 1, NULL, &data, &err),
                                 0);
            assert_int_not_equal(strlen(err.msg), 0);
            free(cut);
        }
        free(file.bytes);
    }
}

static void options_and_limits_are_checked(void **state)
{
    (void)state;
    static const double bad_std[] = {1, 0};
    static const double nan_mean[] = {0.0 / 0.0};
    static const struct {
        const char *file;
        struct shr_dataset_opts opts;
        int code;
        const char *message;
    } cases[] = {
        {"stored.npz",
         {.max_bytes = 40},
         SHR_ERR_LIMIT,
         "labels: shape [3] needs 24 bytes, 4 are left of the limit"},
        {"stored.npz", {.scale = 1 / 0.0}, SHR_ERR_INVALID, "scale: inf is not a number"},
        {"stored.npz", {.mean = nan_mean, .n_mean = 1}, SHR_ERR_INVALID, NULL},
        {"stored.npz",
         {.std = bad_std, .n_std = 2},
         SHR_ERR_INVALID,
         "std: 0 is not a positive number"},
        {"f4.npy",
         {.nhwc = true},
         SHR_ERR_INVALID,
         "layout: nhwc wants an array of four dimensions, data has 2"},
    };
    for (size_t i = 0; i < SHR_COUNT_OF(cases); i++) {
        struct shr_dataset *data = NULL;
        struct shr_err err = {0};
        assert_int_equal(load(FIXTURES "/valid", cases[i].file, &cases[i].opts, &data, &err),
                         cases[i].code);
        if (cases[i].message != NULL) {
            assert_string_equal(err.msg, cases[i].message);
        }
    }
}

static void the_number_of_parts_is_checked(void **state)
{
    (void)state;
    const struct shr_bytes parts[3] = {{"", 0}, {"", 0}, {"", 0}};
    struct shr_dataset *data;
    struct shr_err err;
    assert_int_equal(shr_dataset_load(SHR_DATASET_NPZ, parts, 2, NULL, &data, &err),
                     SHR_ERR_INVALID);
    assert_string_equal(err.msg, "2 files, not 1");
    assert_int_equal(shr_dataset_load(SHR_DATASET_IDX, parts, 3, NULL, &data, &err),
                     SHR_ERR_INVALID);
    assert_string_equal(err.msg, "3 files, not 1 or 2");
}

/* The reference dataset as Debian ships it; figures by NumPy. */
static void fashion_mnist_reads_whole(void **state)
{
    (void)state;
    const char *folder = "/usr/share/datasets/fashion-mnist";
    FILE *probe = fopen("/usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz", "rb");
    if (probe == NULL) {
        skip(); /* dataset-fashion-mnist is not installed */
    }
    fclose(probe);
    struct file images = read_file(folder, "t10k-images-idx3-ubyte.gz");
    struct file labels = read_file(folder, "t10k-labels-idx1-ubyte.gz");
    const struct shr_bytes parts[] = {{images.bytes, images.n}, {labels.bytes, labels.n}};
    struct shr_dataset *data;
    struct shr_err err = {0};
    if (shr_dataset_load(SHR_DATASET_IDX, parts, 2, NULL, &data, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    free(images.bytes);
    free(labels.bytes);
    struct shr_dataset_info info;
    assert_int_equal(shr_dataset_describe(data, &info, &err), 0);
    assert_int_equal(info.samples, 10000);
    assert_int_equal(info.arrays[0].rank, 3);
    assert_int_equal(info.arrays[0].dim[2], 28);
    assert_int_equal(info.n_classes, 10);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(info.histogram[i], 1000);
    }
    const unsigned char *pixels = data->arrays[0].tensor.data;
    int64_t sum = 0;
    for (size_t i = 0; i < shr_tensor_bytes(&data->arrays[0].tensor); i++) {
        sum += pixels[i];
    }
    assert_int_equal(sum, 573469082);
    shr_dataset_info_finish(&info);
    shr_dataset_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_of_npy_and_idx_reads_back),
        cmocka_unit_test(every_kind_of_npz_reads_back_with_its_labels),
        cmocka_unit_test(what_is_broken_is_told_exactly),
        cmocka_unit_test(every_cut_of_a_file_is_an_error),
        cmocka_unit_test(options_and_limits_are_checked),
        cmocka_unit_test(the_number_of_parts_is_checked),
        cmocka_unit_test(fashion_mnist_reads_whole),
    };
    return cmocka_run_group_tests_name("engine/data/files", tests, NULL, NULL);
}
