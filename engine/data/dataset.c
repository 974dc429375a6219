/* Datasets: reading the parts, finding the labels, checking that it all is one dataset. */
#include "data/dataset.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "data/files.h"

static const uint64_t default_max_bytes = (uint64_t)4 << 30;
enum { MAX_HISTOGRAM = 65536 };

/* Names of the array of labels, the most telling first. */
static const char *const label_names[] = {"labels", "label", "y"};

/* ── Arrays ─────────────────────────────────────────────────────────────────────────────────── */

struct loader {
    struct shr_dataset *data;
    size_t cap;
    const char *labels; /* the name of their array, once it is taken */
    int64_t n_labels;
};

/* Takes the tensor, also on failure. */
static int add_array(void *user, const char *name, struct shr_tensor take_tensor,
                     struct shr_err *err)
{
    struct loader *loader = user;
    struct shr_dataset *data = loader->data;
    int code = 0;
    for (size_t i = 0; i < data->n_arrays; i++) {
        if (strcmp(data->arrays[i].name, name) == 0) {
            code = shr_err_set(err, SHR_ERR_PARSE, "%s: there are two arrays of this name", name);
        }
    }
    if (code == 0 && take_tensor.rank == 0) {
        code =
            shr_err_set(err, SHR_ERR_INVALID, "%s: is a single number, not one row a sample", name);
    }
    if (code == 0 && data->n_arrays == loader->cap) {
        size_t cap = loader->cap == 0 ? 4 : loader->cap * 2;
        struct shr_array *arrays = shr_mem_resize(data->arrays, cap, sizeof *arrays);
        if (arrays != NULL) {
            data->arrays = arrays;
            loader->cap = cap;
        }
    }
    const char *copy = shr_arena_strdup(&data->arena, name);
    if (code == 0 && (data->n_arrays == loader->cap || copy == NULL)) {
        code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    if (code != 0) {
        shr_tensor_finish(&take_tensor);
        return code;
    }
    data->arrays[data->n_arrays++] = (struct shr_array){.name = copy, .tensor = take_tensor};
    return 0;
}

typedef int (*read_fn)(struct shr_source *src, uint64_t *budget, struct shr_tensor *ret,
                       struct shr_err *err);

static int read_part(struct loader *loader, const char *name, const struct shr_bytes *part,
                     enum shr_coding coding, read_fn read, uint64_t *budget, struct shr_err *err)
{
    struct shr_source src;
    struct shr_tensor tensor = {0};
    int code = shr_source_open(&src, name, coding, part->data, part->n, err);
    if (code != 0) {
        return code;
    }
    code = read(&src, budget, &tensor, err);
    if (code == 0) {
        code = shr_source_expect_end(&src, err);
    }
    shr_source_close(&src);
    if (code != 0) {
        shr_tensor_finish(&tensor);
        return code;
    }
    return add_array(loader, name, tensor, err);
}

static int read_parts(struct loader *loader, enum shr_dataset_format format,
                      const struct shr_bytes *parts, size_t n_parts, uint64_t *budget,
                      struct shr_err *err)
{
    static const char *const idx_names[] = {"images", "labels"};
    size_t most = format == SHR_DATASET_IDX ? 2 : 1;
    if (n_parts < 1 || n_parts > most) {
        return shr_err_set(err, SHR_ERR_INVALID, "%zu files, not 1%s", n_parts,
                           most == 2 ? " or 2" : "");
    }
    switch (format) {
    case SHR_DATASET_NPZ:
        return shr_npz_read("npz", parts[0].data, parts[0].n, budget, add_array, loader, err);
    case SHR_DATASET_NPY:
        return read_part(loader, "data", &parts[0], SHR_CODING_PLAIN, shr_npy_read, budget, err);
    case SHR_DATASET_IDX:
        break;
    }
    int code = 0;
    for (size_t i = 0; code == 0 && i < n_parts; i++) {
        code = read_part(loader, idx_names[i], &parts[i],
                         shr_source_guess(parts[i].data, parts[i].n), shr_idx_read, budget, err);
    }
    return code;
}

/* ── Labels ─────────────────────────────────────────────────────────────────────────────────── */

static bool is_integer(enum shr_dtype dtype)
{
    return !shr_dtype_is_float(dtype) && dtype != SHR_DTYPE_BOOL && dtype != SHR_DTYPE_STRING;
}

/* Label i as it stands; what is above every int64 counts as the largest. */
static int64_t label_at(const struct shr_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case SHR_DTYPE_I64:
        return ((const int64_t *)t->data)[i];
    case SHR_DTYPE_U64: {
        uint64_t v = ((const uint64_t *)t->data)[i];
        return v > INT64_MAX ? INT64_MAX : (int64_t)v;
    }
    default: /* all others are exact in a double */
        return (int64_t)shr_tensor_get(t, i);
    }
}

static int convert_labels(struct shr_dataset *data, const struct shr_array *array,
                          struct shr_err *err)
{
    const struct shr_tensor *t = &array->tensor;
    int64_t n = shr_tensor_count(t);
    if (!is_integer(t->dtype)) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s: must be integers, not %s", array->name,
                           shr_dtype_name(t->dtype));
    }
    if (n != t->dim[0]) {
        char shape[160];
        return shr_err_set(err, SHR_ERR_INVALID, "%s: shape %s is not one label a sample",
                           array->name, shr_dims_text(t->rank, t->dim, shape, sizeof shape));
    }
    data->labels = shr_mem_new((size_t)n, sizeof *data->labels);
    if (data->labels == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t label = label_at(t, i);
        if (label < 0 || label >= INT32_MAX) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s[%" PRId64 "]: is not in [0, %d]",
                               array->name, i, INT32_MAX - 1);
        }
        data->labels[i] = (int32_t)label;
        data->n_classes = label >= data->n_classes ? label + 1 : data->n_classes;
    }
    return 0;
}

/* Moves the array of labels, if there is one, out of the arrays. */
static int take_labels(struct loader *loader, struct shr_err *err)
{
    struct shr_dataset *data = loader->data;
    for (size_t k = 0; k < SHR_COUNT_OF(label_names); k++) {
        for (size_t i = 0; i < data->n_arrays; i++) {
            if (strcmp(data->arrays[i].name, label_names[k]) != 0) {
                continue;
            }
            int code = convert_labels(data, &data->arrays[i], err);
            if (code == 0) {
                loader->labels = data->arrays[i].name;
                loader->n_labels = data->arrays[i].tensor.dim[0];
                shr_tensor_finish(&data->arrays[i].tensor);
                memmove(&data->arrays[i], &data->arrays[i + 1],
                        (data->n_arrays - i - 1) * sizeof *data->arrays);
                data->n_arrays--;
            }
            return code;
        }
    }
    return 0;
}

/* ── The whole ──────────────────────────────────────────────────────────────────────────────── */

static int check_numbers(const char *name, const double *values, size_t n, bool is_divisor,
                         struct shr_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]) || (is_divisor && values[i] <= 0)) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: %g is not a %s", name, values[i],
                               is_divisor ? "positive number" : "number");
        }
    }
    return 0;
}

static double *copy_numbers(struct shr_arena *arena, const double *values, size_t n)
{
    double *copy = shr_arena_new(arena, n == 0 ? 1 : n, sizeof *copy);
    if (copy != NULL && n != 0) {
        memcpy(copy, values, n * sizeof *copy);
    }
    return copy;
}

static int set_opts(struct shr_dataset *data, const struct shr_dataset_opts *opts,
                    struct shr_err *err)
{
    static const struct shr_dataset_opts defaults;
    data->opts = opts != NULL ? *opts : defaults;
    struct shr_dataset_opts *o = &data->opts;
    if (o->mean == NULL) {
        o->n_mean = 0;
    }
    if (o->std == NULL) {
        o->n_std = 0;
    }
    int code = check_numbers("scale", &o->scale, 1, false, err);
    if (code == 0) {
        code = check_numbers("mean", o->mean, o->n_mean, false, err);
    }
    if (code == 0) {
        code = check_numbers("std", o->std, o->n_std, true, err);
    }
    if (code != 0) {
        return code;
    }
    o->mean = copy_numbers(&data->arena, o->mean, o->n_mean);
    o->std = copy_numbers(&data->arena, o->std, o->n_std);
    return o->mean != NULL && o->std != NULL ? 0 : shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
}

static int check_arrays(const struct loader *loader, struct shr_err *err)
{
    struct shr_dataset *data = loader->data;
    bool has_channels = false;
    if (data->n_arrays == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "the dataset has no arrays%s",
                           data->labels != NULL ? " beside the labels" : "");
    }
    data->samples = data->arrays[0].tensor.dim[0];
    for (size_t i = 0; i < data->n_arrays; i++) {
        const struct shr_array *a = &data->arrays[i];
        has_channels = has_channels || a->tensor.rank >= 4;
        if (a->tensor.dim[0] != data->samples) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s has %" PRId64 " samples, %s has %" PRId64,
                               a->name, a->tensor.dim[0], data->arrays[0].name, data->samples);
        }
        if (shr_tensor_count(&a->tensor) == 0) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: has no elements", a->name);
        }
    }
    if (loader->labels != NULL && loader->n_labels != data->samples) {
        return shr_err_set(err, SHR_ERR_INVALID, "%" PRId64 " %s for %" PRId64 " samples of %s",
                           loader->n_labels, loader->labels, data->samples, data->arrays[0].name);
    }
    if (data->opts.nhwc && !has_channels) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "layout: nhwc wants an array of four dimensions, %s has %d",
                           data->arrays[0].name, data->arrays[0].tensor.rank);
    }
    return 0;
}

static int load(struct shr_dataset *data, enum shr_dataset_format format,
                const struct shr_bytes *parts, size_t n_parts, const struct shr_dataset_opts *opts,
                struct shr_err *err)
{
    struct loader loader = {.data = data};
    int code = set_opts(data, opts, err);
    if (code != 0) {
        return code;
    }
    uint64_t budget = data->opts.max_bytes != 0 ? data->opts.max_bytes : default_max_bytes;
    code = read_parts(&loader, format, parts, n_parts, &budget, err);
    if (code != 0) {
        return code;
    }
    code = take_labels(&loader, err);
    return code == 0 ? check_arrays(&loader, err) : code;
}

int shr_dataset_load(enum shr_dataset_format format, const struct shr_bytes *parts, size_t n_parts,
                     const struct shr_dataset_opts *opts, struct shr_dataset **ret_dataset,
                     struct shr_err *err)
{
    struct shr_dataset *data = shr_mem_new(1, sizeof *data);
    if (data == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    int code = load(data, format, parts, n_parts, opts, err);
    if (code != 0) {
        shr_dataset_free(data);
        return code;
    }
    *ret_dataset = data;
    return 0;
}

void shr_dataset_free(struct shr_dataset *dataset)
{
    if (dataset == NULL) {
        return;
    }
    for (size_t i = 0; i < dataset->n_arrays; i++) {
        shr_tensor_finish(&dataset->arrays[i].tensor);
    }
    shr_mem_free(dataset->arrays);
    shr_mem_free(dataset->labels);
    shr_arena_finish(&dataset->arena);
    shr_mem_free(dataset);
}

/* ── Describing ─────────────────────────────────────────────────────────────────────────────── */

static int describe(const struct shr_dataset *data, struct shr_dataset_info *info)
{
    info->samples = data->samples;
    info->n_arrays = data->n_arrays;
    info->has_labels = data->labels != NULL;
    info->n_classes = data->n_classes;
    info->arrays = shr_arena_new(&info->arena, data->n_arrays, sizeof *info->arrays);
    if (info->arrays == NULL) {
        return SHR_ERR_NOMEM;
    }
    for (size_t i = 0; i < data->n_arrays; i++) {
        const struct shr_tensor *t = &data->arrays[i].tensor;
        struct shr_array_info *a = &info->arrays[i];
        a->name = shr_arena_strdup(&info->arena, data->arrays[i].name);
        a->dtype = t->dtype;
        a->rank = t->rank;
        memcpy(a->dim, t->dim, sizeof a->dim);
        if (a->name == NULL) {
            return SHR_ERR_NOMEM;
        }
    }
    if (!info->has_labels || data->n_classes > MAX_HISTOGRAM) {
        return 0;
    }
    info->histogram = shr_arena_new(&info->arena, (size_t)data->n_classes, sizeof *info->histogram);
    if (info->histogram == NULL) {
        return SHR_ERR_NOMEM;
    }
    for (int64_t i = 0; i < data->samples; i++) {
        info->histogram[data->labels[i]]++;
    }
    return 0;
}

int shr_dataset_describe(const struct shr_dataset *dataset, struct shr_dataset_info *ret_info,
                         struct shr_err *err)
{
    struct shr_dataset_info info = {0};
    if (describe(dataset, &info) != 0) {
        shr_dataset_info_finish(&info);
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    *ret_info = info;
    return 0;
}

void shr_dataset_info_finish(struct shr_dataset_info *info)
{
    shr_arena_finish(&info->arena);
    *info = (struct shr_dataset_info){0};
}

int shr_dataset_check(const struct shr_dataset *dataset, const struct shr_model *model,
                      struct shr_err *err)
{
    struct shr_feed *feed;
    int code = shr_feed_new(dataset, model, &feed, err);
    if (code == 0) {
        shr_feed_free(feed);
    }
    return code;
}
