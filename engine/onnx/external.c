/* External data: tensors whose bytes are in other files, put back into their messages before
 * anything else is read, so that the rest of the reader, and the bytes of subgraphs, know nothing
 * of files. Which file a name means is the caller's matter; here names must stay below the model's
 * folder, and what is taken from a file must be in it. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/onnx.h"

enum { SHOWN = 128 /* characters of a name in a message */ };

struct embedding {
    struct shr_reader *r;
    uint64_t left; /* bytes that may still be taken */
    struct shr_err *err;
};

static const char *entry_of(const Onnx__TensorProto *t, const char *key)
{
    for (size_t i = 0; i < t->n_external_data; i++) {
        const Onnx__StringStringEntryProto *entry = t->external_data[i];
        if (entry->key != NULL && strcmp(entry->key, key) == 0) {
            return entry->value == NULL ? "" : entry->value;
        }
    }
    return NULL;
}

static const char *name_of(const Onnx__TensorProto *t)
{
    return t->name == NULL ? "" : t->name;
}

/* A relative path of plain parts: no "..", no root, no drive, nothing that is empty. */
static bool stays_below(const char *location)
{
    if (location[0] == 0 || strchr(location, '\\') != NULL || strchr(location, ':') != NULL) {
        return false;
    }
    for (const char *at = location;; at++) {
        const size_t n = strcspn(at, "/");
        if (n == 0 || (n == 2 && memcmp(at, "..", 2) == 0)) {
            return false;
        }
        at += n;
        if (*at == 0) {
            return true;
        }
    }
}

static int read_size(struct embedding *e, const Onnx__TensorProto *t, const char *key,
                     uint64_t fallback, uint64_t *ret)
{
    const char *text = entry_of(t, key);
    if (text == NULL) {
        *ret = fallback;
        return SHR_OK;
    }
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != 0 || errno != 0) {
        return shr_err_set(e->err, SHR_ERR_INVALID, "tensor '%.*s': its external %s is '%.32s'",
                           SHOWN, name_of(t), key, text);
    }
    *ret = value;
    return SHR_OK;
}

/* The part of the file that holds the tensor. */
static int find_bytes(struct embedding *e, const Onnx__TensorProto *t, struct shr_bytes *ret)
{
    const char *location = entry_of(t, "location");
    struct shr_bytes file;
    uint64_t offset, length;
    if (location == NULL || !stays_below(location)) {
        return shr_err_set(e->err, SHR_ERR_INVALID,
                           "tensor '%.*s': its external data in '%.*s' is not below the model's "
                           "folder",
                           SHOWN, name_of(t), SHOWN, location == NULL ? "" : location);
    }
    int code = e->r->files->open(e->r->files->user, location, &file, e->err);
    if (code != SHR_OK) {
        return shr_err_prefix(e->err, "tensor '%.*s': ", SHOWN, name_of(t));
    }
    code = read_size(e, t, "offset", 0, &offset);
    code = code == SHR_OK
               ? read_size(e, t, "length", offset <= file.n ? file.n - offset : 0, &length)
               : code;
    if (code != SHR_OK) {
        return code;
    }
    if (offset > file.n || length > file.n - offset) {
        return shr_err_set(e->err, SHR_ERR_INVALID,
                           "tensor '%.*s': '%.*s' has %zu bytes, not %" PRIu64 " from byte %" PRIu64
                           " on",
                           SHOWN, name_of(t), SHOWN, location, file.n, length, offset);
    }
    if (length > e->left) {
        return shr_err_set(e->err, SHR_ERR_LIMIT,
                           "with its external data the model has more than %zu bytes, as many as "
                           "one ONNX file can hold: larger models are not optimized here",
                           e->r->limits.max_bytes);
    }
    e->left -= length;
    *ret = (struct shr_bytes){(const unsigned char *)file.data + offset, (size_t)length};
    return SHR_OK;
}

static int embed(struct embedding *e, Onnx__TensorProto *t)
{
    struct shr_bytes bytes = {0};
    if (t == NULL || (t->n_external_data == 0 &&
                      t->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)) {
        return SHR_OK;
    }
    if (t->has_raw_data) {
        return shr_err_set(e->err, SHR_ERR_INVALID, "tensor '%.*s' has its data twice", SHOWN,
                           name_of(t));
    }
    int code = find_bytes(e, t, &bytes);
    if (code != SHR_OK) {
        return code;
    }
    ProtobufCAllocator *a = e->r->allocator;
    t->raw_data.data = a->alloc(a->allocator_data, bytes.n == 0 ? 1 : bytes.n);
    if (t->raw_data.data == NULL) {
        return shr_onnx_no_memory(e->err);
    }
    if (bytes.n > 0) {
        memcpy(t->raw_data.data, bytes.data, bytes.n);
    }
    t->raw_data.len = bytes.n;
    t->has_raw_data = true;
    t->has_data_location = false;
    t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT;
    for (size_t i = 0; i < t->n_external_data; i++) {
        onnx__string_string_entry_proto__free_unpacked(t->external_data[i], a);
    }
    t->n_external_data = 0;
    return SHR_OK;
}

static int embed_nodes(struct embedding *e, Onnx__NodeProto **nodes, size_t n);

static int embed_graph(struct embedding *e, Onnx__GraphProto *g)
{
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < g->n_initializer; i++) {
        code = embed(e, g->initializer[i]);
    }
    for (size_t i = 0; code == SHR_OK && i < g->n_sparse_initializer; i++) {
        code = embed(e, g->sparse_initializer[i]->values);
        code = code == SHR_OK ? embed(e, g->sparse_initializer[i]->indices) : code;
    }
    return code == SHR_OK ? embed_nodes(e, g->node, g->n_node) : code;
}

static int embed_attr(struct embedding *e, const Onnx__AttributeProto *attr)
{
    int code = embed(e, attr->t);
    for (size_t i = 0; code == SHR_OK && i < attr->n_tensors; i++) {
        code = embed(e, attr->tensors[i]);
    }
    code = code == SHR_OK && attr->g != NULL ? embed_graph(e, attr->g) : code;
    for (size_t i = 0; code == SHR_OK && i < attr->n_graphs; i++) {
        code = embed_graph(e, attr->graphs[i]);
    }
    return code;
}

/* Recursion is as deep as subgraphs nest, which the scan has bounded. */
static int embed_nodes(struct embedding *e, Onnx__NodeProto **nodes, size_t n)
{
    int code = SHR_OK;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; code == SHR_OK && k < nodes[i]->n_attribute; k++) {
            code = embed_attr(e, nodes[i]->attribute[k]);
        }
    }
    return code;
}

int shr_embed_external(struct shr_reader *r, Onnx__ModelProto *model, size_t size,
                       struct shr_err *err)
{
    if (r->files == NULL) {
        return SHR_OK; /* tensors that need a file are refused when they are read */
    }
    struct embedding e = {.r = r, .left = r->limits.max_bytes - size, .err = err};
    int code = model->graph == NULL ? SHR_OK : embed_graph(&e, model->graph);
    for (size_t i = 0; code == SHR_OK && i < model->n_functions; i++) {
        code = embed_nodes(&e, model->functions[i]->node, model->functions[i]->n_node);
    }
    return code;
}
