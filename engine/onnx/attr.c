/* AttributeProto: the kinds that the engine reads, and the others as bytes. */
#include <stdio.h>
#include <string.h>

#include "onnx/onnx.h"

static int attr_error(const struct shr_node *node, const char *name, struct shr_err *err, int code,
                      const char *what)
{
    char label[96];
    return shr_err_set(err, code, "node '%s': attribute '%s' %s",
                       shr_node_label(node, label, sizeof label), name, what);
}

/* The bytes of a text of the file, with a zero behind them. */
static bool copy_text(struct shr_arena *arena, const ProtobufCBinaryData *from, struct shr_text *to)
{
    to->s = shr_arena_strndup(arena, from->len == 0 ? "" : (const char *)from->data, from->len);
    to->n = from->len;
    return to->s != NULL;
}

static int read_lists(struct shr_reader *r, const Onnx__AttributeProto *from, struct shr_attr *attr,
                      struct shr_err *err)
{
    struct shr_arena *arena = r->g->arena;
    bool done = true;
    switch (attr->kind) {
    case SHR_ATTR_FLOATS:
        attr->n = from->n_floats;
        attr->floats = shr_arena_new(arena, attr->n, sizeof *attr->floats);
        done = attr->floats != NULL;
        if (done && attr->n > 0) {
            memcpy(attr->floats, from->floats, attr->n * sizeof *attr->floats);
        }
        break;
    case SHR_ATTR_INTS:
        attr->n = from->n_ints;
        attr->ints = shr_arena_new(arena, attr->n, sizeof *attr->ints);
        done = attr->ints != NULL;
        if (done && attr->n > 0) {
            memcpy(attr->ints, from->ints, attr->n * sizeof *attr->ints);
        }
        break;
    default: /* STRING, STRINGS */
        attr->n = attr->kind == SHR_ATTR_STRING ? 1 : from->n_strings;
        attr->strings = shr_arena_new(arena, attr->n, sizeof *attr->strings);
        done = attr->strings != NULL;
        for (size_t i = 0; done && i < attr->n; i++) {
            done = copy_text(arena, attr->kind == SHR_ATTR_STRING ? &from->s : &from->strings[i],
                             &attr->strings[i]);
        }
        break;
    }
    return done ? SHR_OK : shr_onnx_no_memory(err);
}

static int read_tensor_attr(struct shr_reader *r, const Onnx__AttributeProto *from,
                            const struct shr_node *node, struct shr_attr *attr, struct shr_err *err)
{
    char label[96], what[192];
    if (from->t == NULL) {
        return attr_error(node, attr->name, err, SHR_ERR_INVALID, "has no tensor");
    }
    snprintf(what, sizeof what, "node '%s': attribute '%s'",
             shr_node_label(node, label, sizeof label), attr->name);
    bool opaque;
    struct shr_tensor t;
    int code = shr_read_tensor(r, from->t, what, &t, &opaque, err);
    if (code != SHR_OK) {
        return code;
    }
    if (opaque) {
        shr_tensor_finish(&t);
        attr->kind = SHR_ATTR_OTHER;
        return shr_keep_bytes(r, &from->base, &attr->raw, err);
    }
    attr->tensor = t;
    struct shr_fields *fields = &attr->extra->tensor;
    code = shr_keep_text(r, fields, SHR_TAG_TENSOR_NAME, from->t->name, err);
    code = code == SHR_OK ? shr_keep_text(r, fields, SHR_TAG_TENSOR_DOC, from->t->doc_string, err)
                          : code;
    return code == SHR_OK ? shr_keep_unknown(r, fields, &from->t->base, err) : code;
}

static int read_value(struct shr_reader *r, const Onnx__AttributeProto *from,
                      const struct shr_node *node, struct shr_attr *attr, struct shr_err *err)
{
    switch (attr->kind) {
    case SHR_ATTR_FLOAT:
        attr->f = from->f;
        return SHR_OK;
    case SHR_ATTR_INT:
        attr->i = from->i;
        return SHR_OK;
    case SHR_ATTR_STRING:
    case SHR_ATTR_FLOATS:
    case SHR_ATTR_INTS:
    case SHR_ATTR_STRINGS:
        return read_lists(r, from, attr, err);
    case SHR_ATTR_TENSOR:
        return read_tensor_attr(r, from, node, attr, err);
    case SHR_ATTR_GRAPH:
        if (from->g == NULL) {
            return attr_error(node, attr->name, err, SHR_ERR_INVALID, "has no graph");
        }
        break;
    case SHR_ATTR_OTHER:
        break;
    }
    return shr_keep_bytes(r, &from->base, &attr->raw, err);
}

static int read_attr(struct shr_reader *r, const Onnx__AttributeProto *from, struct shr_node *node,
                     struct shr_err *err)
{
    const char *name;
    int code = shr_read_name(r, from->name, "the name of an attribute", &name, err);
    if (code != SHR_OK) {
        return code;
    }
    if (shr_node_attr(node, name) != NULL) {
        return attr_error(node, name, err, SHR_ERR_INVALID, "is given twice");
    }
    if (from->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED) {
        return attr_error(node, name, err, SHR_ERR_INVALID, "has no type");
    }
    if (from->ref_attr_name != NULL && from->ref_attr_name[0] != 0) {
        return attr_error(node, name, err, SHR_ERR_INVALID,
                          "refers to one of a function, outside of a function");
    }
    const bool known = from->type > 0 && from->type < (int)SHR_ATTR_OTHER;
    struct shr_attr *attr;
    code = shr_node_put_attr(r->g, node, name,
                             known ? (enum shr_attr_kind)from->type : SHR_ATTR_OTHER, &attr, err);
    code = code == SHR_OK ? shr_extra_get(r, &attr->extra, err) : code;
    code = code == SHR_OK
               ? shr_keep_text(r, &attr->extra->fields, SHR_TAG_ATTR_DOC, from->doc_string, err)
               : code;
    code = code == SHR_OK ? shr_keep_unknown(r, &attr->extra->fields, &from->base, err) : code;
    return code == SHR_OK ? read_value(r, from, node, attr, err) : code;
}

int shr_read_attrs(struct shr_reader *r, const Onnx__NodeProto *from, struct shr_node *node,
                   struct shr_err *err)
{
    for (size_t i = 0; i < from->n_attribute; i++) {
        int code = read_attr(r, from->attribute[i], node, err);
        if (code != SHR_OK) {
            return code;
        }
    }
    return SHR_OK;
}

static bool write_strings(struct shr_arena *arena, const struct shr_attr *attr,
                          Onnx__AttributeProto *to)
{
    ProtobufCBinaryData *strings = shr_arena_new(arena, attr->n, sizeof *strings);
    if (strings == NULL) {
        return false;
    }
    for (size_t i = 0; i < attr->n; i++) {
        strings[i].len = attr->strings[i].n;
        strings[i].data = shr_writable(attr->strings[i].s);
    }
    if (attr->kind == SHR_ATTR_STRING) {
        to->has_s = true;
        to->s = strings[0];
    } else {
        to->n_strings = attr->n;
        to->strings = strings;
    }
    return true;
}

static bool write_value(struct shr_arena *arena, const struct shr_attr *attr,
                        Onnx__AttributeProto *to)
{
    switch (attr->kind) {
    case SHR_ATTR_FLOAT:
        to->has_f = true;
        to->f = attr->f;
        return true;
    case SHR_ATTR_INT:
        to->has_i = true;
        to->i = attr->i;
        return true;
    case SHR_ATTR_FLOATS:
        to->n_floats = attr->n;
        to->floats = attr->floats;
        return true;
    case SHR_ATTR_INTS:
        to->n_ints = attr->n;
        to->ints = attr->ints;
        return true;
    case SHR_ATTR_TENSOR:
        to->t = shr_write_tensor(arena, &attr->tensor, NULL, attr->extra);
        return to->t != NULL;
    case SHR_ATTR_STRING:
    case SHR_ATTR_STRINGS:
        return write_strings(arena, attr, to);
    case SHR_ATTR_GRAPH:
    case SHR_ATTR_OTHER:
        break;
    }
    return false;
}

bool shr_write_attrs(struct shr_arena *arena, const struct shr_node *node, Onnx__NodeProto *to,
                     struct shr_fields *fields)
{
    size_t n = 0;
    for (const struct shr_attr *attr = node->attrs; attr != NULL; attr = attr->next) {
        n++;
    }
    to->attribute = shr_arena_new(arena, n, sizeof *to->attribute);
    if (to->attribute == NULL) {
        return false;
    }
    for (const struct shr_attr *attr = node->attrs; attr != NULL; attr = attr->next) {
        if (attr->kind == SHR_ATTR_GRAPH || attr->kind == SHR_ATTR_OTHER) {
            if (!shr_fields_add(arena, fields, SHR_TAG_NODE_ATTRIBUTE, attr->raw.s, attr->raw.n)) {
                return false;
            }
            continue;
        }
        Onnx__AttributeProto *copy = shr_arena_new(arena, 1, sizeof *copy);
        if (copy == NULL) {
            return false;
        }
        onnx__attribute_proto__init(copy);
        copy->name = shr_writable(attr->name);
        copy->has_type = true;
        copy->type = (Onnx__AttributeProto__AttributeType)attr->kind;
        if (attr->extra != NULL) {
            shr_write_fields(&copy->base, &attr->extra->fields);
        }
        if (!write_value(arena, attr, copy)) {
            return false;
        }
        to->attribute[to->n_attribute++] = copy;
    }
    return true;
}
