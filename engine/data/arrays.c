/* Arrays in files as they are: what an npz or npy holds, and writing an npz. Nothing here knows
 * samples or labels; that is dataset.c. Thread: any. */
#include <string.h>

#include "base/mem.h"
#include "base/vec.h"
#include "data/files.h"

static const uint64_t default_max_bytes = (uint64_t)4 << 30;

struct named {
    const char *name;
    struct shr_tensor tensor;
};

struct shr_arrays {
    struct shr_arena arena; /* owns the names */
    SHR_VEC(struct named) list;
};

/* ── Reading ────────────────────────────────────────────────────────────────────────────────── */

/* Takes the tensor, also on failure. */
static int add(void *user, const char *name, struct shr_tensor take_tensor, struct shr_err *err)
{
    struct shr_arrays *arrays = user;
    for (size_t i = 0; i < arrays->list.n; i++) {
        if (strcmp(arrays->list.v[i].name, name) == 0) {
            shr_tensor_finish(&take_tensor);
            return shr_err_set(err, SHR_ERR_PARSE, "%s: there are two arrays of this name", name);
        }
    }
    const char *copy = shr_arena_strdup(&arrays->arena, name);
    struct named *slot = copy == NULL ? NULL : SHR_VEC_ADD(&arrays->list);
    if (slot == NULL) {
        shr_tensor_finish(&take_tensor);
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the array %s", name);
    }
    *slot = (struct named){copy, take_tensor};
    return SHR_OK;
}

static int load_npy(struct shr_arrays *arrays, const char *name, const struct shr_bytes *file,
                    uint64_t *budget, struct shr_err *err)
{
    struct shr_source src;
    struct shr_tensor tensor;
    int code = shr_source_open(&src, name, SHR_CODING_PLAIN, file->data, file->n, err);
    if (code != SHR_OK) {
        return code;
    }
    code = shr_npy_read(&src, budget, &tensor, err);
    if (code == SHR_OK) {
        code = add(arrays, name, tensor, err);
    }
    if (code == SHR_OK) {
        code = shr_source_expect_end(&src, err);
    }
    shr_source_close(&src);
    return code;
}

int shr_arrays_load(enum shr_dataset_format format, const char *name, const struct shr_bytes *file,
                    size_t max_bytes, struct shr_arrays **ret_arrays, struct shr_err *err)
{
    uint64_t budget = max_bytes == 0 ? default_max_bytes : max_bytes;
    struct shr_arrays *arrays = shr_mem_new(1, sizeof *arrays);
    if (arrays == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %s", name);
    }
    int code = SHR_OK;
    switch (format) {
    case SHR_DATASET_NPZ:
        code = shr_npz_read(name, file->data, file->n, &budget, add, arrays, err);
        break;
    case SHR_DATASET_NPY:
        code = load_npy(arrays, name, file, &budget, err);
        break;
    default:
        code = shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s: arrays come as npz or npy", name);
        break;
    }
    if (code != SHR_OK) {
        shr_arrays_free(arrays);
        return code;
    }
    *ret_arrays = arrays;
    return SHR_OK;
}

size_t shr_arrays_count(const struct shr_arrays *arrays)
{
    return arrays->list.n;
}

struct shr_view shr_arrays_at(const struct shr_arrays *arrays, size_t i)
{
    return shr_tensor_view(&arrays->list.v[i].tensor, arrays->list.v[i].name);
}

void shr_arrays_free(struct shr_arrays *arrays)
{
    if (arrays == NULL) {
        return;
    }
    for (size_t i = 0; i < arrays->list.n; i++) {
        shr_tensor_finish(&arrays->list.v[i].tensor);
    }
    SHR_VEC_FINISH(&arrays->list);
    shr_arena_finish(&arrays->arena);
    shr_mem_free(arrays);
}

/* ── Writing ────────────────────────────────────────────────────────────────────────────────── */

enum {
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    NPY_ALIGN = 64,
    MAX_MEMBERS = 0xffff,
    VERSION = 20,      /* of the zip format, that a reader needs */
    JANUARY_1ST = 33,  /* 1980-01-01: the same arrays give the same bytes */
    UTF8_NAMES = 0x800 /* flag */
};
static const uint64_t max_zip = 0xffffffff; /* without zip64 */

struct member {
    size_t name_bytes, size, offset;
    uint32_t crc;
};

static void put_le(struct shr_buf *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        const unsigned char byte = (unsigned char)(value >> (8 * i));
        shr_buf_append(to, &byte, 1);
    }
}

/* The header of an npy, padded so that the elements are aligned in the file of the array. */
static int put_npy_header(struct shr_buf *to, const struct shr_view *v, struct shr_err *err)
{
    const char *descr = shr_npy_descr(v->dtype);
    if (descr == NULL) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED, "%s: NumPy has no type %s", v->name,
                           shr_dtype_name(v->dtype));
    }
    struct shr_buf text = {0};
    shr_buf_printf(&text, "{'descr': '%s%s', 'fortran_order': False, 'shape': (",
                   shr_dtype_size(v->dtype) == 1 ? "|" : "<", descr);
    for (int d = 0; d < v->rank; d++) {
        shr_buf_printf(&text, "%lld%s", (long long)v->dim[d],
                       v->rank == 1 ? "," : (d + 1 < v->rank ? ", " : ""));
    }
    shr_buf_puts(&text, "), }");
    enum { MAGIC_SIZE = 10 };
    while ((MAGIC_SIZE + text.len + 1) % NPY_ALIGN != 0 && !shr_buf_failed(&text)) {
        shr_buf_puts(&text, " ");
    }
    shr_buf_puts(&text, "\n");
    shr_buf_append(to, "\x93NUMPY\x01\x00", 8);
    put_le(to, text.len, 2);
    shr_buf_append(to, text.data, text.len);
    const bool failed = shr_buf_failed(&text);
    shr_buf_finish(&text);
    return failed ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %s", v->name) : SHR_OK;
}

/* What the local header and the central directory have in common. */
static void put_common(struct shr_buf *to, const struct member *m)
{
    put_le(to, VERSION, 2);
    put_le(to, UTF8_NAMES, 2);
    put_le(to, 0, 2); /* stored */
    put_le(to, 0, 2);
    put_le(to, JANUARY_1ST, 2);
    put_le(to, m->crc, 4);
    put_le(to, m->size, 4);
    put_le(to, m->size, 4);
    put_le(to, m->name_bytes, 2);
    put_le(to, 0, 2); /* no extra field */
}

static void put_name(struct shr_buf *to, const char *name)
{
    shr_buf_puts(to, name);
    shr_buf_puts(to, ".npy");
}

static uint32_t crc_of(const struct shr_buf *head, const struct shr_view *v)
{
    uLong crc = crc32_z(0, head->data, head->len);
    return (uint32_t)(v->bytes == 0 ? crc : crc32_z(crc, v->data, v->bytes));
}

static int put_member(struct shr_buf *to, const struct shr_view *v, size_t base, struct member *m,
                      struct shr_err *err)
{
    struct shr_buf head = {0};
    int code = put_npy_header(&head, v, err);
    if (code == SHR_OK && shr_buf_failed(&head)) {
        code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory for %s", v->name);
    }
    if (code == SHR_OK && (v->bytes > max_zip || to->len - base > max_zip - v->bytes - head.len)) {
        code = shr_err_set(err, SHR_ERR_LIMIT, "%s: the npz would have more than 4 GiB", v->name);
    }
    if (code == SHR_OK) {
        *m = (struct member){.name_bytes = strlen(v->name) + 4,
                             .size = head.len + v->bytes,
                             .offset = to->len - base,
                             .crc = crc_of(&head, v)};
        put_le(to, 0x04034b50, 4);
        put_common(to, m);
        put_name(to, v->name);
        shr_buf_append(to, head.data, head.len);
        if (v->bytes > 0) {
            shr_buf_append(to, v->data, v->bytes);
        }
    }
    shr_buf_finish(&head);
    return code;
}

static void put_directory(struct shr_buf *to, const struct shr_view *arrays,
                          const struct member *members, size_t n, size_t base)
{
    const size_t begin = to->len - base;
    for (size_t i = 0; i < n; i++) {
        put_le(to, 0x02014b50, 4);
        put_le(to, VERSION, 2);
        put_common(to, &members[i]);
        put_le(to, 0, 2); /* comment */
        put_le(to, 0, 2); /* disk */
        put_le(to, 0, 2);
        put_le(to, 0, 4); /* attributes */
        put_le(to, members[i].offset, 4);
        put_name(to, arrays[i].name);
    }
    const size_t end = to->len - base;
    put_le(to, 0x06054b50, 4);
    put_le(to, 0, 4); /* one disk */
    put_le(to, n, 2);
    put_le(to, n, 2);
    put_le(to, end - begin, 4);
    put_le(to, begin, 4);
    put_le(to, 0, 2); /* comment */
}

int shr_arrays_save(const struct shr_view *arrays, size_t n, struct shr_buf *ret_bytes,
                    struct shr_err *err)
{
    const size_t base = ret_bytes->len;
    if (n > MAX_MEMBERS) {
        return shr_err_set(err, SHR_ERR_LIMIT, "an npz has at most %d arrays, not %zu", MAX_MEMBERS,
                           n);
    }
    struct member *members = shr_mem_new(n + 1, sizeof *members);
    if (members == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for an npz");
    }
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < n; i++) {
        code = put_member(ret_bytes, &arrays[i], base, &members[i], err);
    }
    if (code == SHR_OK) {
        put_directory(ret_bytes, arrays, members, n, base);
        code = shr_buf_failed(ret_bytes)
                   ? shr_err_set(err, SHR_ERR_NOMEM, "out of memory for an npz")
                   : SHR_OK;
    }
    shr_mem_free(members);
    if (code != SHR_OK) {
        ret_bytes->len = base;
    }
    return code;
}
