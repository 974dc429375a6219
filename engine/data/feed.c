/* Feeds: from the arrays of a dataset to the inputs of a model.
 *
 * A sample is seen as C channels of P elements. In an array it lies planar (C, P) or, for nhwc,
 * interleaved (P, C); in the model's input it is planar. Floating-point inputs get
 * (x * scale - mean[c]) / std[c], computed in double and rounded once; other inputs get the
 * integers as they are, checked for range. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "data/dataset.h"

struct link {
    const struct shr_array *array;
    const struct shr_value *input;
    int64_t channels, plane; /* C and P */
    int64_t step_c, step_p;  /* of the array's elements */
    double scale;
    const double *mean, *std;   /* (channels) or NULL = 0, 1 */
    size_t step_mean, step_std; /* 0 = one value for all channels */
    bool is_copy;               /* the bytes are the same on both sides */
    bool is_whole;              /* a sample is all of the input: no dim of it is the batch */
    float *table;               /* (tables, 256) what bytes become, or NULL */
    size_t step_table;          /* 0 = one table for all channels, else 256 */
    struct shr__image image;    /* when it is one that is augmented; else 0 channels */
    float *plain;               /* (C, H, W) of it, before that */
};

struct shr_feed {
    const struct shr_dataset *data;
    size_t n;
    struct link *links;
    struct shr_augment augment;
    int64_t epoch; /* of it; -1 = none */
};

/* ── Which array feeds which input ──────────────────────────────────────────────────────────── */

static size_t list_inputs(const struct shr_model *model, const struct shr_value **out)
{
    size_t n = 0;
    for (size_t i = 0; i < model->graph.n_inputs; i++) {
        const struct shr_value *v = model->graph.inputs[i];
        if (!shr_value_is_constant(v)) { /* older models list initializers, too */
            out[n++] = v;
        }
    }
    return n;
}

static const struct shr_array *find_array(const struct shr_dataset *data, const char *name)
{
    for (size_t i = 0; i < data->n_arrays; i++) {
        if (strcmp(data->arrays[i].name, name) == 0) {
            return &data->arrays[i];
        }
    }
    return NULL;
}

static int match(struct shr_feed *feed, struct shr_err *err)
{
    const struct shr_dataset *data = feed->data;
    const char *missing = NULL;
    for (size_t i = 0; i < feed->n; i++) {
        feed->links[i].array = find_array(data, feed->links[i].input->name);
        if (feed->links[i].array == NULL && missing == NULL) {
            missing = feed->links[i].input->name;
        }
    }
    if (missing == NULL) {
        return 0;
    }
    if (feed->n != data->n_arrays) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "input %s: no array has its name, and %zu arrays cannot feed %zu inputs"
                           " in order",
                           missing, data->n_arrays, feed->n);
    }
    for (size_t i = 0; i < feed->n; i++) {
        feed->links[i].array = &data->arrays[i];
    }
    return 0;
}

/* ── Shapes and types ───────────────────────────────────────────────────────────────────────── */

static int shape_error(const struct link *link, struct shr_err *err)
{
    char want[96], have[96];
    const struct shr_type *type = &link->input->type;
    const struct shr_tensor *t = &link->array->tensor;
    return shr_err_set(err, SHR_ERR_INVALID, "input %s wants %s, array %s has %s",
                       link->input->name, shr_dims_text(type->rank, type->dim, want, sizeof want),
                       link->array->name, shr_dims_text(t->rank, t->dim, have, sizeof have));
}

/* Dim d (> 0) of the array as the model sees it: nhwc is turned into nchw. */
static int64_t seen_dim(const struct shr_feed *feed, const struct link *link, int d)
{
    const struct shr_tensor *t = &link->array->tensor;
    if (link->is_whole) {
        return t->dim[d + 1];
    }
    if (!feed->data->opts.nhwc || t->rank < 4) {
        return t->dim[d];
    }
    return d == 1 ? t->dim[t->rank - 1] : t->dim[d - 1];
}

/* Is the array (samples, …the input's dims), as for a state of (2, batch, units) or a rate of ()?
 */
static bool is_stack_of_inputs(const struct link *link)
{
    const struct shr_type *type = &link->input->type;
    const struct shr_tensor *t = &link->array->tensor;
    bool is_stack = t->rank == type->rank + 1;
    for (int d = 0; d < type->rank && is_stack; d++) {
        is_stack = type->dim[d] < 0 || type->dim[d] == t->dim[d + 1];
    }
    return is_stack;
}

static int check_shape(const struct shr_feed *feed, struct link *link, struct shr_err *err)
{
    const struct shr_type *type = &link->input->type;
    const struct shr_tensor *t = &link->array->tensor;
    if (type->rank < 0) {
        return 0; /* the model does not say */
    }
    if (type->rank == 0) {
        link->is_whole = is_stack_of_inputs(link);
        return link->is_whole ? 0 : shape_error(link, err);
    }
    int64_t known = 1;
    bool is_open = false;
    bool fits_as_is = type->rank == t->rank;
    for (int d = 1; d < type->rank; d++) {
        if (type->dim[d] < 0) {
            is_open = true;
            continue;
        }
        fits_as_is = fits_as_is && type->dim[d] == seen_dim(feed, link, d);
        if (type->dim[d] != 0 && known > INT64_MAX / type->dim[d]) {
            return shape_error(link, err);
        }
        known *= type->dim[d];
    }
    if (is_open ? !fits_as_is : known != link->channels * link->plane) {
        link->is_whole = is_stack_of_inputs(link);
        return link->is_whole ? 0 : shape_error(link, err);
    }
    return 0;
}

static int check_types(struct link *link, struct shr_err *err)
{
    enum shr_dtype to = link->input->type.dtype;
    enum shr_dtype from = link->array->tensor.dtype;
    if (to == SHR_DTYPE_STRING || to == SHR_DTYPE_NONE ||
        (shr_dtype_is_float(from) && !shr_dtype_is_float(to))) {
        return shr_err_set(err, SHR_ERR_INVALID, "input %s is %s, array %s is %s",
                           link->input->name, shr_dtype_name(to), link->array->name,
                           shr_dtype_name(from));
    }
    return 0;
}

/* A list has one value, or one for each channel. */
static int check_list(const struct link *link, const char *what, size_t n, struct shr_err *err)
{
    if (n > 1 && (int64_t)n != link->channels) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "%s: %zu values, but array %s has %" PRId64 " channels", what, n,
                           link->array->name, link->channels);
    }
    return 0;
}

static void set_layout(const struct shr_feed *feed, struct link *link)
{
    const struct shr_tensor *t = &link->array->tensor;
    int64_t elements = shr_tensor_count(t) / t->dim[0];
    bool interleaved = feed->data->opts.nhwc && t->rank >= 4;
    /* Without a dim for channels (grey images, rows of features) the sample is one channel, unless
     * a value for each feature was given. */
    int64_t channels = interleaved ? t->dim[t->rank - 1] : t->rank >= 4 ? t->dim[1] : 1;
    size_t listed = feed->data->opts.n_mean > feed->data->opts.n_std ? feed->data->opts.n_mean
                                                                     : feed->data->opts.n_std;
    if (t->rank >= 2 && t->rank < 4 && listed > 1) {
        channels = t->dim[1];
    }
    link->channels = channels;
    link->plane = elements / channels;
    link->step_c = interleaved ? 1 : link->plane;
    link->step_p = interleaved ? channels : 1;
}

static float normalized(const struct link *k, double x, size_t channel)
{
    double mean = k->mean != NULL ? k->mean[channel * k->step_mean] : 0;
    double std = k->std != NULL ? k->std[channel * k->step_std] : 1;
    return (float)((x * k->scale - mean) / std);
}

/* Bytes have 256 values: their arithmetic is done once. */
static int make_table(struct link *link, struct shr_err *err)
{
    const size_t n = link->step_mean + link->step_std == 0 ? 1 : (size_t)link->channels;
    link->table = shr_mem_new(n * 256, sizeof *link->table);
    if (link->table == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the values of bytes");
    }
    link->step_table = n == 1 ? 0 : 256;
    for (size_t i = 0; i < n * 256; i++) {
        link->table[i] = normalized(link, (double)(i % 256), i / 256);
    }
    return 0;
}

static int set_arithmetic(const struct shr_feed *feed, struct link *link, struct shr_err *err)
{
    const struct shr_dataset_opts *o = &feed->data->opts;
    enum shr_dtype from = link->array->tensor.dtype;
    bool is_float = shr_dtype_is_float(link->input->type.dtype);
    bool is_plain = link->step_p == 1;
    if (is_float) {
        int code = check_list(link, "mean", o->n_mean, err);
        if (code == 0) {
            code = check_list(link, "std", o->n_std, err);
        }
        if (code != 0) {
            return code;
        }
        link->scale = o->scale != 0 ? o->scale : from == SHR_DTYPE_U8 ? 1.0 / 255 : 1;
        link->mean = o->n_mean != 0 ? o->mean : NULL;
        link->std = o->n_std != 0 ? o->std : NULL;
        link->step_mean = o->n_mean > 1;
        link->step_std = o->n_std > 1;
        is_plain = is_plain && link->scale == 1 && link->mean == NULL && link->std == NULL;
    }
    link->is_copy = is_plain && from == link->input->type.dtype;
    return from == SHR_DTYPE_U8 && link->input->type.dtype == SHR_DTYPE_F32 ? make_table(link, err)
                                                                            : 0;
}

static int set_link(const struct shr_feed *feed, struct link *link, struct shr_err *err)
{
    int code = check_types(link, err);
    if (code != 0) {
        return code;
    }
    set_layout(feed, link);
    code = check_shape(feed, link, err);
    return code == 0 ? set_arithmetic(feed, link, err) : code;
}

int shr_feed_new(const struct shr_dataset *data, const struct shr_model *model,
                 struct shr_feed **ret, struct shr_err *err)
{
    size_t most = model->graph.n_inputs;
    struct shr_feed *feed = shr_mem_new(1, sizeof *feed);
    const struct shr_value **inputs = shr_mem_new(most, sizeof(struct shr_value *));
    int code = 0;
    if (feed != NULL) {
        feed->links = shr_mem_new(most, sizeof *feed->links);
    }
    if (feed == NULL || inputs == NULL || feed->links == NULL) {
        code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
        goto out;
    }
    feed->data = data;
    feed->epoch = -1;
    feed->n = list_inputs(model, inputs);
    for (size_t i = 0; i < feed->n; i++) {
        feed->links[i].input = inputs[i];
    }
    code = match(feed, err);
    for (size_t i = 0; code == 0 && i < feed->n; i++) {
        code = set_link(feed, &feed->links[i], err);
    }
out:
    shr_mem_free(inputs);
    if (code != 0) {
        shr_feed_free(feed);
        return code;
    }
    *ret = feed;
    return 0;
}

void shr_feed_free(struct shr_feed *feed)
{
    if (feed != NULL) {
        for (size_t i = 0; feed->links != NULL && i < feed->n; i++) {
            shr_mem_free(feed->links[i].table);
            shr_mem_free(feed->links[i].image.empty);
            shr_mem_free(feed->links[i].plain);
        }
        shr_mem_free(feed->links);
        shr_mem_free(feed);
    }
}

bool shr_feed_is_whole(const struct shr_feed *feed, size_t input)
{
    return feed->links[input].is_whole;
}

int64_t shr_feed_batch(const struct shr_feed *feed, int64_t batch)
{
    int64_t fixed = -1;
    for (size_t i = 0; i < feed->n; i++) {
        const struct shr_type *type = &feed->links[i].input->type;
        if (feed->links[i].is_whole) {
            return 1;
        }
        fixed = type->rank > 0 && type->dim[0] > 0 ? type->dim[0] : fixed;
    }
    return fixed > 0 ? fixed : batch;
}

void shr_feed_type(const struct shr_feed *feed, size_t input, int64_t batch, struct shr_type *ret)
{
    const struct link *link = &feed->links[input];
    struct shr_type type = link->input->type;
    if (type.rank < 0) {
        type.rank = link->array->tensor.rank;
        for (int d = 0; d < type.rank; d++) {
            type.dim[d] = -1;
        }
    }
    for (int d = 0; d < type.rank; d++) {
        type.sym[d] = NULL;
        if (type.dim[d] < 0) { /* ranks agree then, as check_shape made sure */
            type.dim[d] = d == 0 && !link->is_whole ? batch : seen_dim(feed, link, d);
        }
    }
    *ret = type;
}

int shr_feed_types(const struct shr_feed *feed, int64_t batch, struct shr_type **ret,
                   struct shr_err *err)
{
    struct shr_type *types = shr_mem_new(feed->n + 1, sizeof *types);
    if (types == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the types of inputs");
    }
    for (size_t i = 0; i < feed->n; i++) {
        shr_feed_type(feed, i, batch, &types[i]);
    }
    *ret = types;
    return SHR_OK;
}

/* ── Augmentation ───────────────────────────────────────────────────────────────────────────── */

/* What the array is, or what the model takes rows of features for. */
static bool find_image(const struct shr_feed *feed, struct link *k)
{
    const struct shr_tensor *t = &k->array->tensor;
    const struct shr_type *type = &k->input->type;
    const bool own = t->rank == 3 || t->rank == 4;
    const int rank = own ? t->rank : type->rank;
    if (type->dtype != SHR_DTYPE_F32 || (rank != 3 && rank != 4)) {
        return false;
    }
    int64_t dim[4] = {1, 1, 1, 1}, all = 1;
    for (int d = 1; d < rank; d++) {
        dim[4 - rank + d] = own ? seen_dim(feed, k, d) : type->dim[d];
        all *= dim[4 - rank + d] > 0 ? dim[4 - rank + d] : 1;
    }
    k->image = (struct shr__image){.channels = dim[1], .height = dim[2], .width = dim[3]};
    return all == k->channels * k->plane && dim[1] > 0 && dim[2] > 0 && dim[3] > 0;
}

static int make_image(struct link *k, const struct shr_augment *augment, struct shr_err *err)
{
    struct shr__image *m = &k->image;
    if (augment->shift >= m->height || augment->shift >= m->width) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "augment.shift: %" PRId64 " is too much for images of %" PRId64
                           " x %" PRId64 " pixels",
                           augment->shift, m->height, m->width);
    }
    m->empty = shr_mem_new((size_t)m->channels, sizeof *m->empty);
    k->plain = shr_mem_new((size_t)(k->channels * k->plane), sizeof *k->plain);
    if (m->empty == NULL || k->plain == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the augmentation of images");
    }
    for (int64_t c = 0; c < m->channels; c++) {
        m->empty[c] = k->is_copy ? 0 : normalized(k, 0, m->channels == k->channels ? (size_t)c : 0);
    }
    return SHR_OK;
}

int shr_feed_augment(struct shr_feed *feed, const struct shr_augment *augment, struct shr_err *err)
{
    bool found = false;
    for (size_t i = 0; i < feed->n; i++) {
        struct link *k = &feed->links[i];
        if (!find_image(feed, k)) {
            k->image = (struct shr__image){0};
            continue;
        }
        found = true;
        int code = make_image(k, augment, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    feed->augment = *augment;
    return found ? SHR_OK
                 : shr_err_set(err, SHR_ERR_INVALID,
                               "augment: no array is of images, (N, H, W) or (N, C, H, W), for a "
                               "float32 input");
}

void shr_feed_set_epoch(struct shr_feed *feed, int64_t epoch)
{
    feed->epoch = epoch;
}

/* ── Filling ────────────────────────────────────────────────────────────────────────────────── */

/* One sample of an array, converted to float32: out is (C, P), in is element 0 of the sample. */
#define TO_F32(type, load)                                                                         \
    do {                                                                                           \
        const type *in = (const type *)t->data + base;                                             \
        for (int64_t c = 0; c < k->channels; c++) {                                                \
            for (int64_t p = 0; p < k->plane; p++) {                                               \
                double x = (double)load(in[c * k->step_c + p * k->step_p]);                        \
                *out++ = normalized(k, x, (size_t)c);                                              \
            }                                                                                      \
        }                                                                                          \
    } while (0)
#define AS_IS(x) (x)

static void bytes_to_f32(const struct link *k, int64_t base, float *out)
{
    const uint8_t *in = (const uint8_t *)k->array->tensor.data + base;
    for (int64_t c = 0; c < k->channels; c++) {
        const float *table = k->table + (size_t)c * k->step_table;
        const uint8_t *from = in + c * k->step_c;
        for (int64_t p = 0; p < k->plane; p++) {
            *out++ = table[from[p * k->step_p]];
        }
    }
}

static void sample_to_f32(const struct link *k, int64_t base, float *out)
{
    const struct shr_tensor *t = &k->array->tensor;
    switch (t->dtype) {
    case SHR_DTYPE_U8:
        bytes_to_f32(k, base, out);
        break;
    case SHR_DTYPE_BOOL:
        TO_F32(uint8_t, AS_IS);
        break;
    case SHR_DTYPE_I8:
        TO_F32(int8_t, AS_IS);
        break;
    case SHR_DTYPE_U16:
        TO_F32(uint16_t, AS_IS);
        break;
    case SHR_DTYPE_I16:
        TO_F32(int16_t, AS_IS);
        break;
    case SHR_DTYPE_U32:
        TO_F32(uint32_t, AS_IS);
        break;
    case SHR_DTYPE_I32:
        TO_F32(int32_t, AS_IS);
        break;
    case SHR_DTYPE_U64:
        TO_F32(uint64_t, AS_IS);
        break;
    case SHR_DTYPE_I64:
        TO_F32(int64_t, AS_IS);
        break;
    case SHR_DTYPE_F16:
        TO_F32(uint16_t, shr_f16_to_f32);
        break;
    case SHR_DTYPE_F32:
        TO_F32(float, AS_IS);
        break;
    default:
        TO_F32(double, AS_IS);
        break;
    }
}

/* Any numeric type into any floating-point type but float32, element by element. */
static void sample_to_float(const struct link *k, int64_t base, struct shr_tensor *out, int64_t at)
{
    for (int64_t c = 0; c < k->channels; c++) {
        double mean = k->mean != NULL ? k->mean[(size_t)c * k->step_mean] : 0;
        double std = k->std != NULL ? k->std[(size_t)c * k->step_std] : 1;
        for (int64_t p = 0; p < k->plane; p++) {
            double x = shr_tensor_get(&k->array->tensor, base + c * k->step_c + p * k->step_p);
            shr_tensor_set(out, at++, (x * k->scale - mean) / std);
        }
    }
}

/* An integer as it is; *fits is false when it is above INT64_MAX. */
static int64_t integer_at(const struct shr_tensor *t, int64_t i, bool *fits)
{
    switch (t->dtype) {
    case SHR_DTYPE_I64:
        return ((const int64_t *)t->data)[i];
    case SHR_DTYPE_U64: {
        uint64_t v = ((const uint64_t *)t->data)[i];
        *fits = v <= INT64_MAX;
        return (int64_t)(v & INT64_MAX);
    }
    default: /* exact in a double */
        return (int64_t)shr_tensor_get(t, i);
    }
}

/* Writes an integer as another type; false when it is out of range. */
static bool put_integer(struct shr_tensor *t, int64_t i, int64_t v)
{
    switch (t->dtype) {
    case SHR_DTYPE_I64:
        ((int64_t *)t->data)[i] = v;
        return true;
    case SHR_DTYPE_U64:
        ((uint64_t *)t->data)[i] = (uint64_t)v;
        return v >= 0;
    default:
        shr_tensor_set(t, i, (double)v); /* saturates */
        return (int64_t)shr_tensor_get(t, i) == v;
    }
}

static int sample_to_integer(const struct link *k, int64_t base, struct shr_tensor *out, int64_t at,
                             struct shr_err *err)
{
    for (int64_t c = 0; c < k->channels; c++) {
        for (int64_t p = 0; p < k->plane; p++) {
            int64_t i = base + c * k->step_c + p * k->step_p;
            bool fits = true;
            int64_t v = integer_at(&k->array->tensor, i, &fits);
            if (!put_integer(out, at++, v) || !fits) {
                return shr_err_set(err, SHR_ERR_INVALID,
                                   "array %s: the value of element %" PRId64
                                   " does not fit input %s (%s)",
                                   k->array->name, i, k->input->name, shr_dtype_name(out->dtype));
            }
        }
    }
    return 0;
}

static void fill_image(const struct shr_feed *feed, const struct link *k, int64_t sample,
                       float *out)
{
    const int64_t elements = k->channels * k->plane, from = sample * elements;
    const float *plain = k->plain;
    if (k->is_copy) {
        plain = (const float *)k->array->tensor.data + from;
    } else {
        sample_to_f32(k, from, k->plain);
    }
    shr__augment(&feed->augment, feed->epoch, sample, &k->image, plain, out);
}

static int fill_row(const struct shr_feed *feed, const struct link *k, int64_t sample,
                    struct shr_tensor *out, int64_t row, struct shr_err *err)
{
    int64_t elements = k->channels * k->plane;
    int64_t from = sample * elements;
    int64_t to = row * elements;
    if (feed->epoch >= 0 && k->image.channels > 0) {
        fill_image(feed, k, sample, (float *)out->data + to);
        return 0;
    }
    if (k->is_copy) {
        size_t size = shr_dtype_size(out->dtype);
        memcpy((char *)out->data + (size_t)to * size,
               (const char *)k->array->tensor.data + (size_t)from * size, (size_t)elements * size);
        return 0;
    }
    if (out->dtype == SHR_DTYPE_F32) {
        sample_to_f32(k, from, (float *)out->data + to);
        return 0;
    }
    if (shr_dtype_is_float(out->dtype)) {
        sample_to_float(k, from, out, to);
        return 0;
    }
    return sample_to_integer(k, from, out, to, err);
}

static int fill_input(const struct shr_feed *feed, const struct link *k, const int64_t *samples,
                      int64_t first, int64_t count, struct shr_tensor *out, struct shr_err *err)
{
    int64_t elements = k->channels * k->plane;
    int64_t rows = k->is_whole ? 1 : out->rank > 0 ? out->dim[0] : 0;
    if (out->dtype != k->input->type.dtype || count < 1 || count > rows ||
        shr_tensor_count(out) != rows * elements) {
        char shape[96];
        return shr_err_set(
            err, SHR_ERR_INVALID,
            "input %s: a %s tensor of %s cannot take %" PRId64 " samples of %" PRId64 " elements",
            k->input->name, shr_dtype_name(out->dtype),
            shr_dims_text(out->rank, out->dim, shape, sizeof shape), count, elements);
    }
    for (int64_t row = 0; row < rows; row++) {
        int64_t nth = row < count ? row : count - 1;
        int64_t sample = samples != NULL ? samples[nth] : first + nth;
        if (sample < 0 || sample >= feed->data->samples) {
            return shr_err_set(err, SHR_ERR_INVALID,
                               "sample %" PRId64 " is not in [0, %" PRId64 ")", sample,
                               feed->data->samples);
        }
        int code = fill_row(feed, k, sample, out, row, err);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

static int fill(const struct shr_feed *feed, const int64_t *samples, int64_t first, int64_t count,
                struct shr_tensor *const *inputs, size_t n_inputs, struct shr_err *err)
{
    if (n_inputs != feed->n) {
        return shr_err_set(err, SHR_ERR_INVALID, "%zu tensors for %zu inputs", n_inputs, feed->n);
    }
    for (size_t i = 0; i < n_inputs; i++) {
        int code = fill_input(feed, &feed->links[i], samples, first, count, inputs[i], err);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

int shr_feed_fill(const struct shr_feed *feed, int64_t first, int64_t count,
                  struct shr_tensor *const *inputs, size_t n_inputs, struct shr_err *err)
{
    return fill(feed, NULL, first, count, inputs, n_inputs, err);
}

int shr_feed_fill_list(const struct shr_feed *feed, const int64_t *samples, int64_t count,
                       struct shr_tensor *const *inputs, size_t n_inputs, struct shr_err *err)
{
    return fill(feed, samples, 0, count, inputs, n_inputs, err);
}
