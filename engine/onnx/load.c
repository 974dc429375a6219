/* ModelProto to the graph IR.
 *
 * Three steps: the scan proves the encoding sound and bounded, protobuf-c decodes it through our
 * allocator, and the readers (values.c, nodes.c, attr.c, tensor.c) copy what the engine needs, so
 * that the graph that comes out satisfies shr_graph_check. Whatever goes wrong, nothing is left
 * behind. */
#include <string.h>

#include "base/mem.h"
#include "onnx/onnx.h"
#include "ops/grad.h"
#include "ops/op.h"

enum { OLDEST_IR = 3, NEWEST_IR = 13, OLDEST_OPSET = 7 };

/* ── The model around the graph ─────────────────────────────────────────────────────────────── */

static int read_opset(struct shr_reader *r, const Onnx__OperatorSetIdProto *from,
                      struct shr_opset ***end, struct shr_err *err)
{
    const char *domain = "";
    int code = shr_copy_name(r, shr_read_domain(from->domain), "a domain", &domain, err);
    if (code != SHR_OK) {
        return code;
    }
    const char *shown = domain[0] == 0 ? "ai.onnx" : domain;
    const int64_t known = shr_model_opset(r->model, domain);
    if (from->version < 1) {
        return shr_err_set(err, SHR_ERR_INVALID, "opset_import: version %lld of domain '%s'",
                           (long long)from->version, shown);
    }
    if (known != 0 && known != from->version) {
        return shr_err_set(err, SHR_ERR_INVALID, "opset_import: versions %lld and %lld of '%s'",
                           (long long)known, (long long)from->version, shown);
    }
    if (strcmp(domain, SHR_TRAIN_DOMAIN) == 0) { /* its rows trust the rules that emit them */
        return shr_err_set(err, SHR_ERR_INVALID,
                           "opset_import: domain '%s' is the engine's own, no model's", domain);
    }
    if (domain[0] == 0 && from->version < OLDEST_OPSET) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "opset %lld of ai.onnx is older than %d: convert the model with "
                           "onnx.version_converter",
                           (long long)from->version, OLDEST_OPSET);
    }
    if (known != 0) {
        return SHR_OK;
    }
    struct shr_opset *opset = shr_arena_new(r->g->arena, 1, sizeof *opset);
    if (opset == NULL) {
        return shr_onnx_no_memory(err);
    }
    opset->domain = domain;
    opset->version = from->version;
    **end = opset;
    *end = &opset->next;
    code = shr_extra_get(r, &opset->extra, err);
    if (code == SHR_OK && domain[0] == 0) { /* the spelling of the default domain */
        code = shr_keep_text(r, &opset->extra->fields, SHR_TAG_OPSET_DOMAIN, from->domain, err);
    }
    return code == SHR_OK ? shr_keep_unknown(r, &opset->extra->fields, &from->base, err) : code;
}

static int read_metadata(struct shr_reader *r, const Onnx__StringStringEntryProto *from,
                         struct shr_metadata ***end, struct shr_err *err)
{
    struct shr_metadata *entry = shr_arena_new(r->g->arena, 1, sizeof *entry);
    if (entry == NULL) {
        return shr_onnx_no_memory(err);
    }
    entry->value = shr_arena_strdup(r->g->arena, from->value == NULL ? "" : from->value);
    int code = entry->value == NULL ? shr_onnx_no_memory(err) : SHR_OK;
    code = code == SHR_OK ? shr_copy_name(r, from->key, "a metadata key", &entry->key, err) : code;
    code = code == SHR_OK ? shr_extra_get(r, &entry->extra, err) : code;
    code = code == SHR_OK ? shr_keep_unknown(r, &entry->extra->fields, &from->base, err) : code;
    if (code == SHR_OK) {
        **end = entry;
        *end = &entry->next;
    }
    return code;
}

static int read_model_extra(struct shr_reader *r, const Onnx__ModelProto *from, struct shr_err *err)
{
    int code = shr_extra_get(r, &r->model->extra, err);
    if (code != SHR_OK) {
        return code;
    }
    struct shr_fields *fields = &r->model->extra->fields;
    for (size_t i = 0; code == SHR_OK && i < from->n_training_info; i++) {
        code = shr_keep_message(r, fields, SHR_TAG_MODEL_TRAINING_INFO,
                                &from->training_info[i]->base, err);
    }
    for (size_t i = 0; code == SHR_OK && i < from->n_functions; i++) {
        code = shr_keep_message(r, fields, SHR_TAG_MODEL_FUNCTIONS, &from->functions[i]->base, err);
    }
    return code == SHR_OK ? shr_keep_unknown(r, fields, &from->base, err) : code;
}

static int check_versions(const Onnx__ModelProto *from, struct shr_err *err)
{
    if (from->graph == NULL) {
        return shr_err_set(err, SHR_ERR_PARSE, "not a valid ONNX file: it has no graph");
    }
    if (!from->has_ir_version) {
        return shr_err_set(err, SHR_ERR_INVALID, "ir_version is missing");
    }
    if (from->ir_version < OLDEST_IR || from->ir_version > NEWEST_IR) {
        return shr_err_set(err, SHR_ERR_UNSUPPORTED,
                           "IR version %lld is not between %d and %d: save the model with %s",
                           (long long)from->ir_version, OLDEST_IR, NEWEST_IR,
                           from->ir_version < OLDEST_IR ? "a newer onnx" : "a lower ir_version");
    }
    if (from->n_opset_import == 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "opset_import is missing");
    }
    return SHR_OK;
}

static const char *copy_text(struct shr_reader *r, const char *text)
{
    return shr_arena_strdup(r->g->arena, text == NULL ? "" : text);
}

static int read_model(struct shr_reader *r, const Onnx__ModelProto *from, struct shr_err *err)
{
    struct shr_model *to = r->model;
    struct shr_opset **opsets = &to->opsets;
    struct shr_metadata **metadata = &to->metadata;
    int code = check_versions(from, err);
    if (code != SHR_OK) {
        return code;
    }
    to->ir_version = from->ir_version;
    to->model_version = from->model_version;
    to->producer_name = copy_text(r, from->producer_name);
    to->producer_version = copy_text(r, from->producer_version);
    to->domain = copy_text(r, from->domain);
    to->doc = copy_text(r, from->doc_string);
    if (to->producer_name == NULL || to->producer_version == NULL || to->domain == NULL ||
        to->doc == NULL) {
        return shr_onnx_no_memory(err);
    }
    for (size_t i = 0; code == SHR_OK && i < from->n_opset_import; i++) {
        code = read_opset(r, from->opset_import[i], &opsets, err);
    }
    for (size_t i = 0; code == SHR_OK && i < from->n_metadata_props; i++) {
        code = read_metadata(r, from->metadata_props[i], &metadata, err);
    }
    code = code == SHR_OK ? read_model_extra(r, from, err) : code;
    code = code == SHR_OK ? shr_read_graph_inputs(r, from->graph, err) : code;
    code = code == SHR_OK ? shr_read_graph_rest(r, from->graph, err) : code;
    return code == SHR_OK ? shr_read_training_captures(r, from, err) : code;
}

/* ── Entry ──────────────────────────────────────────────────────────────────────────────────── */

/* Blocks are marked in front: large ones are bytes that a tensor can adopt. */
enum { MARK = 16, LARGE = 4096 };

static void *decode_alloc(void *failed, size_t size)
{
    const bool large = size >= LARGE;
    unsigned char *p = NULL;
    if (large) {
        p = shr_bytes_new(size);
    } else if ((p = shr_mem_new(size + MARK, 1)) != NULL) {
        p += MARK;
    }
    if (p == NULL) {
        *(bool *)failed = true;
    } else {
        p[-MARK] = large;
    }
    return p;
}

static void decode_free(void *failed, void *block)
{
    unsigned char *p = block;
    (void)failed;
    if (p != NULL && p[-MARK] != 0) {
        shr_bytes_free(p);
    } else if (p != NULL) {
        shr_mem_free(p - MARK);
    }
}

void *shr_read_adopt(ProtobufCBinaryData *raw)
{
    unsigned char *p = raw->data;
    if (raw->len < LARGE || p[-MARK] == 0) {
        return NULL;
    }
    *raw = (ProtobufCBinaryData){0};
    return p;
}

ProtobufCAllocator shr_read_allocator(bool *ret_failed)
{
    return (ProtobufCAllocator){decode_alloc, decode_free, ret_failed};
}

struct shr_limits shr_read_limits(const struct shr_limits *limits)
{
    struct shr_limits all = limits == NULL ? (struct shr_limits){0} : *limits;
    all.max_bytes = all.max_bytes == 0 ? INT32_MAX : all.max_bytes;
    all.max_nodes = all.max_nodes == 0 ? 1000000 : all.max_nodes;
    all.max_name = all.max_name == 0 ? 4096 : all.max_name;
    all.max_elements = all.max_elements == 0 ? INT64_C(1) << 31 : all.max_elements;
    all.max_nesting = all.max_nesting == 0 ? 16 : all.max_nesting;
    return all;
}

struct shr_model *shr_read_new_model(void)
{
    struct shr_model *model = shr_model_new();
    struct shr_kept *kept = shr_mem_new(1, sizeof *kept);
    if (model == NULL || kept == NULL) {
        shr_model_free(model);
        shr_mem_free(kept);
        return NULL;
    }
    atomic_init(&kept->readers, 1);
    model->kept = kept;
    return model;
}

int shr_model_load(const void *bytes, size_t n, const struct shr_limits *limits,
                   struct shr_model **ret_model, struct shr_err *err)
{
    return shr_model_load_files(bytes, n, limits, NULL, ret_model, err);
}

int shr_model_load_files(const void *bytes, size_t n, const struct shr_limits *limits,
                         const struct shr_files *files, struct shr_model **ret_model,
                         struct shr_err *err)
{
    bool failed = false;
    ProtobufCAllocator allocator = shr_read_allocator(&failed);
    struct shr_reader r = {.limits = shr_read_limits(limits),
                           .allocator = &allocator,
                           .files = files,
                           .sparse_room = shr_sparse_room(n)};
    int code = shr_onnx_scan(bytes, n, &r.limits, err);
    if (code != SHR_OK) {
        return code;
    }
    Onnx__ModelProto *decoded = onnx__model_proto__unpack(&allocator, n, bytes);
    if (decoded == NULL) {
        return failed ? shr_onnx_no_memory(err)
                      : shr_err_set(err, SHR_ERR_PARSE, "not a valid ONNX file");
    }
    r.model = shr_read_new_model();
    if (r.model == NULL) {
        code = shr_onnx_no_memory(err);
        goto out;
    }
    r.g = &r.model->graph;
    r.kept = &r.model->kept->arena;
    code = shr_embed_external(&r, decoded, n, err);
    code = code == SHR_OK ? shr_inline_functions(&r, decoded, err) : code;
    code = code == SHR_OK ? read_model(&r, decoded, err) : code;
    if (code == SHR_OK) {
        shr_model_resolve(r.model);
        *ret_model = r.model;
        r.model = NULL;
    }
out:
    shr_model_free(r.model);
    onnx__model_proto__free_unpacked(decoded, &allocator);
    return code;
}
