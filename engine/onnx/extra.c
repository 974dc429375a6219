/* Fields that are kept as they were encoded; see onnx.h. */
#include <string.h>

#include "onnx/onnx.h"

int shr_onnx_no_memory(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the model");
}

void *shr_writable(const void *p)
{
    void *q;
    memcpy(&q, &p, sizeof q);
    return q;
}

void shr_write_fields(ProtobufCMessage *to, const struct shr_fields *fields)
{
    to->n_unknown_fields = fields->n;
    to->unknown_fields = fields->v;
}

/* Room for one more; NULL when out of memory. The old array stays in the arena. */
static ProtobufCMessageUnknownField *grow(struct shr_arena *arena, struct shr_fields *fields)
{
    if (fields->n == fields->cap) {
        const unsigned cap = fields->cap == 0 ? 2 : fields->cap * 2;
        ProtobufCMessageUnknownField *v = shr_arena_new(arena, cap, sizeof *v);
        if (v == NULL) {
            return NULL;
        }
        for (unsigned i = 0; i < fields->n; i++) {
            v[i] = fields->v[i];
        }
        fields->v = v;
        fields->cap = cap;
    }
    return &fields->v[fields->n++];
}

/* The length of n as a varint, and the varint itself into out (at most 10 bytes). */
static size_t put_varint(size_t n, unsigned char *out)
{
    size_t used = 0;
    for (; n >= 0x80; n >>= 7) {
        out[used++] = (unsigned char)(n | 0x80);
    }
    out[used++] = (unsigned char)n;
    return used;
}

/* A field of wire type 2 begins with its length. */
static unsigned char *prefixed(struct shr_arena *arena, struct shr_fields *fields, uint32_t tag,
                               size_t n)
{
    unsigned char head[10];
    const size_t n_head = put_varint(n, head);
    unsigned char *data = shr_arena_new(arena, n + n_head, 1);
    ProtobufCMessageUnknownField *field = data == NULL ? NULL : grow(arena, fields);
    if (field == NULL) {
        return NULL;
    }
    memcpy(data, head, n_head);
    *field =
        (ProtobufCMessageUnknownField){tag, PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, n + n_head, data};
    return data + n_head;
}

bool shr_fields_add(struct shr_arena *arena, struct shr_fields *fields, enum shr_onnx_tag tag,
                    const void *bytes, size_t n)
{
    unsigned char *to = prefixed(arena, fields, tag, n);
    if (to != NULL && n > 0) {
        memcpy(to, bytes, n);
    }
    return to != NULL;
}

bool shr_fields_join(struct shr_arena *arena, struct shr_fields *fields,
                     const struct shr_fields *more)
{
    for (unsigned i = 0; i < more->n; i++) {
        ProtobufCMessageUnknownField *field = grow(arena, fields);
        if (field == NULL) {
            return false;
        }
        *field = more->v[i];
    }
    return true;
}

int shr_keep_unknown(struct shr_reader *r, struct shr_fields *fields, const ProtobufCMessage *from,
                     struct shr_err *err)
{
    for (unsigned i = 0; i < from->n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *unknown = &from->unknown_fields[i];
        void *data = shr_arena_new(r->kept, unknown->len, 1);
        ProtobufCMessageUnknownField *field = data == NULL ? NULL : grow(r->kept, fields);
        if (field == NULL) {
            return shr_onnx_no_memory(err);
        }
        memcpy(data, unknown->data, unknown->len);
        *field = *unknown;
        field->data = data;
    }
    return SHR_OK;
}

int shr_keep_text(struct shr_reader *r, struct shr_fields *fields, enum shr_onnx_tag tag,
                  const char *text, struct shr_err *err)
{
    if (text != NULL && !shr_fields_add(r->kept, fields, tag, text, strlen(text))) {
        return shr_onnx_no_memory(err);
    }
    return SHR_OK;
}

int shr_keep_message(struct shr_reader *r, struct shr_fields *fields, enum shr_onnx_tag tag,
                     const ProtobufCMessage *message, struct shr_err *err)
{
    if (message == NULL) {
        return SHR_OK;
    }
    unsigned char *to = prefixed(r->kept, fields, tag, protobuf_c_message_get_packed_size(message));
    if (to == NULL) {
        return shr_onnx_no_memory(err);
    }
    protobuf_c_message_pack(message, to);
    return SHR_OK;
}

int shr_keep_bytes(struct shr_reader *r, const ProtobufCMessage *message, struct shr_text *ret,
                   struct shr_err *err)
{
    const size_t n = protobuf_c_message_get_packed_size(message);
    unsigned char *to = shr_arena_new(r->kept, n + 1, 1);
    if (to == NULL) {
        return shr_onnx_no_memory(err);
    }
    protobuf_c_message_pack(message, to);
    *ret = (struct shr_text){(const char *)to, n};
    return SHR_OK;
}

int shr_extra_get(struct shr_reader *r, struct shr_extra **extra, struct shr_err *err)
{
    if (*extra == NULL) {
        *extra = shr_arena_new(r->kept, 1, sizeof **extra);
    }
    return *extra == NULL ? shr_onnx_no_memory(err) : SHR_OK;
}
