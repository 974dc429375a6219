/* A walk over the encoding of a model before protobuf-c decodes it.
 *
 * protobuf-c says only "no" to a broken file. This walk follows the message descriptors, so it can
 * name the field and the byte; and it bounds what decoding would cost: the depth of recursion, the
 * nodes, and the memory of many tiny parts. Nothing is allocated. After it, decoding fails for want
 * of memory only. Singular submessages given twice, which protobuf would merge, are refused: no
 * writer makes them and merging takes quadratic time. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "onnx/onnx.h"

enum {
    MAX_FIELDS = 32,          /* of one message type of onnx.proto */
    LEVELS_OF_A_SUBGRAPH = 3, /* graph, node, attribute */
    OTHER_LEVELS = 16,        /* types nest too */
    BYTES_PER_NODE = 1024,    /* of decoded structure, for the limit on all parts */
    COST_OF_A_PART = 64,      /* a pointer, a small block of the allocator */
};

struct scan {
    const unsigned char *bytes;
    struct shr_limits limits;
    size_t nodes;
    size_t cost; /* bytes of memory for the parts seen */
    struct shr_err *err;
};

struct level { /* a message that is being walked */
    const struct level *up;
    const ProtobufCMessageDescriptor *type;
    const ProtobufCFieldDescriptor *field; /* where it stands in the message above; NULL = top */
    unsigned index;
    int depth, subgraphs;
    unsigned seen[MAX_FIELDS]; /* how often, by field */
};

struct field { /* one field on the wire */
    const struct level *level;
    const ProtobufCFieldDescriptor *known; /* NULL = of a newer ONNX */
    uint32_t tag;
    unsigned wire, index;
    size_t at;         /* where the field begins */
    size_t start, end; /* of what is in it */
};

static unsigned wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return PROTOBUF_C_WIRE_TYPE_32BIT;
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return PROTOBUF_C_WIRE_TYPE_64BIT;
    default:
        return PROTOBUF_C_WIRE_TYPE_VARINT;
    }
}

static size_t path_of_level(const struct level *level, char *text, size_t size)
{
    if (level->up == NULL) {
        text[0] = 0;
        return 0;
    }
    size_t used = path_of_level(level->up, text, size);
    if (used < size) {
        used += (size_t)snprintf(text + used, size - used, "%s%s", used == 0 ? "" : ".",
                                 level->field->name);
    }
    if (used < size && level->field->label == PROTOBUF_C_LABEL_REPEATED) {
        used += (size_t)snprintf(text + used, size - used, "[%u]", level->index);
    }
    return used < size ? used : size;
}

static const char *path_of(const struct field *f, char *text, size_t size)
{
    size_t used = path_of_level(f->level, text, size);
    const char *dot = used == 0 ? "" : ".";
    if (used < size && f->known == NULL) {
        snprintf(text + used, size - used, "%sfield %u", dot, f->tag);
    } else if (used < size && f->known->label == PROTOBUF_C_LABEL_REPEATED &&
               wire_of(f->known->type) == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
        snprintf(text + used, size - used, "%s%s[%u]", dot, f->known->name, f->index);
    } else if (used < size) {
        snprintf(text + used, size - used, "%s%s", dot, f->known->name);
    }
    return text;
}

static int malformed(struct scan *s, const struct field *f, const char *what)
{
    char path[128];
    return shr_err_set(s->err, SHR_ERR_PARSE, "not a valid ONNX file: %s at byte %zu %s",
                       path_of(f, path, sizeof path), f->at, what);
}

static bool read_varint(const struct scan *s, size_t *at, size_t end, uint64_t *ret)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && *at < end; shift += 7) {
        const unsigned char byte = s->bytes[(*at)++];
        value |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if ((byte & 0x80) == 0) {
            *ret = value;
            return true;
        }
    }
    return false;
}

/* Finds where the contents of a field end. */
static int scan_extent(struct scan *s, struct field *f, size_t end)
{
    char path[128];
    uint64_t value;
    size_t need = 0;
    switch (f->wire) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        f->end = f->start;
        if (!read_varint(s, &f->end, end, &value)) {
            return malformed(s, f, "is no whole number");
        }
        return SHR_OK;
    case PROTOBUF_C_WIRE_TYPE_64BIT:
        need = 8;
        break;
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        need = 4;
        break;
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
        if (!read_varint(s, &f->start, end, &value)) {
            return malformed(s, f, "has no whole length");
        }
        need = value > SIZE_MAX ? SIZE_MAX : (size_t)value;
        break;
    default:
        return shr_err_set(s->err, SHR_ERR_PARSE,
                           "not a valid ONNX file: %s at byte %zu has the unknown wire type %u",
                           path_of(f, path, sizeof path), f->at, f->wire);
    }
    if (need > end - f->start) {
        return shr_err_set(s->err, SHR_ERR_PARSE,
                           "not a valid ONNX file: %s at byte %zu needs %zu bytes, %zu are left",
                           path_of(f, path, sizeof path), f->at, need, end - f->start);
    }
    f->end = f->start + need;
    return SHR_OK;
}

/* UTF-8 without zero bytes, so that it is a C string too. */
static bool is_text(const unsigned char *s, size_t n)
{
    size_t length = 1;
    for (size_t i = 0; i < n && length > 0; i += length) {
        length = shr_utf8_length((const char *)s + i, n - i);
    }
    return length > 0;
}

/* Numbers one behind the other in one field. */
static int scan_packed(struct scan *s, const struct field *f)
{
    const unsigned wire = wire_of(f->known->type);
    if (wire == PROTOBUF_C_WIRE_TYPE_VARINT) {
        size_t at = f->start;
        uint64_t value;
        while (at < f->end) {
            if (!read_varint(s, &at, f->end, &value)) {
                return malformed(s, f, "does not end with a whole number");
            }
        }
        return SHR_OK;
    }
    const size_t size = wire == PROTOBUF_C_WIRE_TYPE_32BIT ? 4 : 8;
    return (f->end - f->start) % size == 0 ? SHR_OK
                                           : malformed(s, f, "does not end with a whole number");
}

static int scan_message(struct scan *s, struct level *level, size_t at, size_t end);

static int scan_nested(struct scan *s, const struct field *f)
{
    char path[128];
    const struct level *up = f->level;
    struct level level = {.up = up,
                          .type = f->known->descriptor,
                          .field = f->known,
                          .index = f->index,
                          .depth = up->depth + 1,
                          .subgraphs = up->subgraphs};
    if (f->known->label != PROTOBUF_C_LABEL_REPEATED && f->index > 0) {
        return malformed(s, f, "is given a second time");
    }
    level.subgraphs += up->type == &onnx__attribute_proto__descriptor &&
                       level.type == &onnx__graph_proto__descriptor;
    const int max_depth = s->limits.max_nesting * LEVELS_OF_A_SUBGRAPH + OTHER_LEVELS;
    const bool subgraphs = level.subgraphs > s->limits.max_nesting;
    if (subgraphs || level.depth > max_depth) {
        return shr_err_set(s->err, SHR_ERR_LIMIT, "%s nest deeper than %d levels: %s",
                           subgraphs ? "subgraphs" : "messages",
                           subgraphs ? s->limits.max_nesting : max_depth,
                           path_of(f, path, sizeof path));
    }
    if (level.type == &onnx__node_proto__descriptor && ++s->nodes > s->limits.max_nodes) {
        return shr_err_set(s->err, SHR_ERR_LIMIT, "the model has more than %zu nodes",
                           s->limits.max_nodes);
    }
    s->cost += level.type->sizeof_message;
    return scan_message(s, &level, f->start, f->end);
}

static int scan_known(struct scan *s, const struct field *f)
{
    char path[128];
    const unsigned wire = wire_of(f->known->type);
    const bool packed = f->known->label == PROTOBUF_C_LABEL_REPEATED &&
                        wire != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED &&
                        f->wire == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    if (packed) {
        return scan_packed(s, f);
    }
    if (f->wire != wire) {
        return shr_err_set(s->err, SHR_ERR_PARSE,
                           "not a valid ONNX file: %s at byte %zu has wire type %u instead of %u",
                           path_of(f, path, sizeof path), f->at, f->wire, wire);
    }
    if (f->known->type == PROTOBUF_C_TYPE_STRING &&
        !is_text(s->bytes + f->start, f->end - f->start)) {
        return malformed(s, f, "is no UTF-8 text");
    }
    return f->known->type == PROTOBUF_C_TYPE_MESSAGE ? scan_nested(s, f) : SHR_OK;
}

/* One field; at moves behind it. */
static int scan_field(struct scan *s, struct level *level, size_t *at, size_t end)
{
    uint64_t key;
    struct field f = {.level = level, .at = *at};
    if (!read_varint(s, at, end, &key) || key >> 3 == 0 || key > UINT32_MAX) {
        return shr_err_set(s->err, SHR_ERR_PARSE,
                           "not a valid ONNX file: no field begins at byte %zu", f.at);
    }
    f.tag = (uint32_t)(key >> 3);
    f.wire = (unsigned)(key & 7);
    f.start = *at;
    f.known = protobuf_c_message_descriptor_get_field(level->type, f.tag);
    if (f.known != NULL) {
        f.index = level->seen[f.known - level->type->fields]++;
    }
    int code = scan_extent(s, &f, end);
    if (code != SHR_OK) {
        return code;
    }
    const bool is_part = f.known == NULL || f.wire == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    s->cost += is_part ? COST_OF_A_PART : 0;
    if (s->cost / BYTES_PER_NODE > s->limits.max_nodes) {
        return shr_err_set(s->err, SHR_ERR_LIMIT, "the model has too many parts: more than %zu MiB",
                           s->limits.max_nodes / 1024 * BYTES_PER_NODE / 1024);
    }
    *at = f.end;
    return f.known == NULL ? SHR_OK : scan_known(s, &f);
}

static int scan_message(struct scan *s, struct level *level, size_t at, size_t end)
{
    assert(level->type->n_fields <= MAX_FIELDS);
    while (at < end) {
        int code = scan_field(s, level, &at, end);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

int shr_onnx_scan(const void *bytes, size_t n, const struct shr_limits *limits, struct shr_err *err)
{
    if (n == 0) {
        return shr_err_set(err, SHR_ERR_PARSE, "not a valid ONNX file: it is empty");
    }
    if (n > limits->max_bytes) {
        return shr_err_set(err, SHR_ERR_LIMIT, "the model has %zu bytes, the limit is %zu%s", n,
                           limits->max_bytes,
                           n > INT32_MAX ? ": an ONNX file cannot hold more, so larger models are "
                                           "not optimized here; take a part of it, or float16"
                                         : "");
    }
    struct scan s = {.bytes = bytes, .limits = *limits, .err = err};
    struct level top = {.type = &onnx__model_proto__descriptor};
    return scan_message(&s, &top, 0, n);
}
