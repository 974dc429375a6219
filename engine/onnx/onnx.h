/* What the reader and the writer of ONNX share. Only this folder sees protobuf.
 *
 * What the engine interprets becomes the graph IR; all else that a message holds (doc strings,
 * functions, training_info, quantization annotations, fields of a newer ONNX) is kept as encoded
 * fields and written back behind the known ones. Thread: one at a time. */
#ifndef SHR_ONNX_ONNX_H
#define SHR_ONNX_ONNX_H

#include "graph/graph.h"
#include "onnx.pb-c.h"

struct shr_fields { /* encoded fields of one message, as protobuf-c writes unknown ones */
    unsigned n, cap;
    ProtobufCMessageUnknownField *v;
};

struct shr_extra {            /* immutable; lives in the model's kept arena */
    struct shr_fields fields; /* of the message of the object itself; of a value: ValueInfoProto */
    struct shr_fields tensor; /* of the TensorProto of an initializer or attribute */
    /* A declared type and how it was encoded: written again while the value still has it, so that
     * denotations, unknown fields and types outside the IR survive. */
    struct shr_type declared;
    struct shr_text declared_bytes;
    /* An initializer that is written as it was read while its value stores AS_READ (sparse ones),
     * or always, since the engine does not read its elements (strings, types of a newer ONNX): the
     * field of GraphProto it was in, and its bytes. 0 = none. */
    uint32_t opaque_tag;
    struct shr_text opaque;
};

/* Field numbers of onnx.proto that are kept or written as encoded fields. */
enum shr_onnx_tag {
    SHR_TAG_MODEL_TRAINING_INFO = 20,
    SHR_TAG_MODEL_FUNCTIONS = 25,
    SHR_TAG_GRAPH_INITIALIZER = 5,
    SHR_TAG_GRAPH_DOC = 10,
    SHR_TAG_GRAPH_VALUE_INFO = 13,
    SHR_TAG_GRAPH_ANNOTATION = 14,
    SHR_TAG_GRAPH_SPARSE = 15,
    SHR_TAG_NODE_ATTRIBUTE = 5,
    SHR_TAG_NODE_DOC = 6,
    SHR_TAG_VALUE_TYPE = 2,
    SHR_TAG_VALUE_DOC = 3,
    SHR_TAG_TENSOR_NAME = 8,
    SHR_TAG_TENSOR_DOC = 12,
    SHR_TAG_ATTR_DOC = 13,
    SHR_TAG_OPSET_DOMAIN = 1,
};

struct shr_reader {
    struct shr_limits limits; /* without zeros */
    struct shr_model *model;
    struct shr_graph *g;
    struct shr_arena *kept; /* of the model */
    ProtobufCAllocator *allocator;
    const struct shr_files *files; /* for external data, or NULL */
    size_t sparse_room;            /* bytes that sparse initializers may still take when dense */
    bool is_body;                  /* the graph is a subgraph: types of inputs may be missing */
};

/* load.c: what readers are made of. The allocator tells in *ret_failed when memory ran out. */
ProtobufCAllocator shr_read_allocator(bool *ret_failed);
/* Bytes of that allocator for shr_tensor_adopt, taken out of the message; NULL: copy them. */
void *shr_read_adopt(ProtobufCBinaryData *raw);
struct shr_limits shr_read_limits(const struct shr_limits *limits); /* NULL and zeros: defaults */
struct shr_model *shr_read_new_model(void);                         /* NULL: out of memory */

/* scan.c: the shape of the encoding, before anything is allocated for it. */
int shr_onnx_scan(const void *bytes, size_t n, const struct shr_limits *limits,
                  struct shr_err *err) SHR_MUSTCHECK;

/* extra.c. Texts that are NULL and messages that are NULL are skipped. */
int shr_keep_unknown(struct shr_reader *r, struct shr_fields *fields, const ProtobufCMessage *from,
                     struct shr_err *err) SHR_MUSTCHECK;
int shr_keep_text(struct shr_reader *r, struct shr_fields *fields, enum shr_onnx_tag tag,
                  const char *text, struct shr_err *err) SHR_MUSTCHECK;
int shr_keep_message(struct shr_reader *r, struct shr_fields *fields, enum shr_onnx_tag tag,
                     const ProtobufCMessage *message, struct shr_err *err) SHR_MUSTCHECK;
int shr_keep_bytes(struct shr_reader *r, const ProtobufCMessage *message, struct shr_text *ret,
                   struct shr_err *err) SHR_MUSTCHECK; /* the message, encoded */
/* *extra, made if it is NULL. */
int shr_extra_get(struct shr_reader *r, struct shr_extra **extra,
                  struct shr_err *err) SHR_MUSTCHECK;
bool shr_fields_add(struct shr_arena *arena, struct shr_fields *fields, enum shr_onnx_tag tag,
                    const void *bytes, size_t n); /* false: out of memory */
bool shr_fields_join(struct shr_arena *arena, struct shr_fields *fields,
                     const struct shr_fields *more); /* false: out of memory */
int shr_onnx_no_memory(struct shr_err *err);

/* type.c */
int shr_read_type(struct shr_reader *r, const Onnx__TypeProto *from, struct shr_type *ret,
                  struct shr_err *err) SHR_MUSTCHECK;
/* Type, doc string and unknown fields of a declared value. */
int shr_read_value_info(struct shr_reader *r, const Onnx__ValueInfoProto *from, struct shr_value *v,
                        struct shr_err *err) SHR_MUSTCHECK;
Onnx__ValueInfoProto *shr_write_value_info(struct shr_arena *arena,
                                           const struct shr_value *v); /* NULL: out of memory */

/* tensor.c. Messages begin with what, e.g. "initializer 'w'". The raw bytes of from become the
 * tensor's, or are given back to the allocator as soon as they are copied. Elements of a type the
 * engine does not read: the tensor has dtype STRING or NONE, no element bytes, and *ret_opaque is
 * set. */
int shr_read_tensor(struct shr_reader *r, Onnx__TensorProto *from, const char *what,
                    struct shr_tensor *ret, bool *ret_opaque, struct shr_err *err) SHR_MUSTCHECK;
/* A tensor of the given dims that stands for data kept as bytes. */
int shr_opaque_tensor(enum shr_dtype dtype, size_t rank, const int64_t *dims, const char *what,
                      struct shr_tensor *ret, struct shr_err *err) SHR_MUSTCHECK;
Onnx__TensorProto *shr_write_tensor(struct shr_arena *arena, const struct shr_tensor *t,
                                    const char *name, const struct shr_extra *extra);

/* Bytes of its elements in a file, which packs those of 2 and 4 bits. */
size_t shr_tensor_stored(const struct shr_tensor *t);
/* save.c: bytes of a constant's elements, and of their indices where it is sparse; of the whole
 * message where it is written as it was read. */
size_t shr_value_stored(const struct shr_value *v);

/* sparse.c. What sparse initializers may take when dense, in a file of so many bytes. */
size_t shr_sparse_room(size_t file);
/* As shr_read_tensor; the tensor is dense. from has values. */
int shr_read_sparse(struct shr_reader *r, Onnx__SparseTensorProto *from, const char *what,
                    struct shr_tensor *ret, bool *ret_opaque, struct shr_err *err) SHR_MUSTCHECK;
bool shr_sparse_pays(const struct shr_value *v);     /* it may be sparse, and is smaller then */
size_t shr_sparse_stored(const struct shr_value *v); /* bytes of values and indices, when sparse */
Onnx__SparseTensorProto *shr_write_sparse(struct shr_arena *arena, const struct shr_value *v);

/* attr.c */
int shr_read_attrs(struct shr_reader *r, const Onnx__NodeProto *from, struct shr_node *node,
                   struct shr_err *err) SHR_MUSTCHECK;
bool shr_write_attrs(struct shr_arena *arena, const struct shr_node *node, Onnx__NodeProto *to,
                     struct shr_fields *fields); /* raw attributes go to fields */

/* external.c: makes external data internal. size: bytes of the file that was decoded. */
int shr_embed_external(struct shr_reader *r, Onnx__ModelProto *model, size_t size,
                       struct shr_err *err) SHR_MUSTCHECK;
/* functions.c: replaces the nodes that call functions of the model. */
int shr_inline_functions(struct shr_reader *r, Onnx__ModelProto *model,
                         struct shr_err *err) SHR_MUSTCHECK;

/* capture.c: names that subgraphs read from the graph around them. */
int shr_read_captures(struct shr_reader *r, const Onnx__NodeProto *from, struct shr_node *node,
                      struct shr_err *err) SHR_MUSTCHECK;
int shr_read_training_captures(struct shr_reader *r, const Onnx__ModelProto *from,
                               struct shr_err *err) SHR_MUSTCHECK;

/* The values of the graph that this subgraph of one of its nodes reads. The list is of the heap. */
int shr_read_outer(struct shr_reader *r, const Onnx__GraphProto *from, const struct shr_node *node,
                   struct shr_value ***ret, size_t *ret_n, struct shr_err *err) SHR_MUSTCHECK;

/* values.c. The name itself when it may be used: not over the limit; NULL becomes "". */
int shr_read_name(struct shr_reader *r, const char *name, const char *what, const char **ret,
                  struct shr_err *err) SHR_MUSTCHECK;
int shr_copy_name(struct shr_reader *r, const char *name, const char *what, const char **ret,
                  struct shr_err *err) SHR_MUSTCHECK; /* as above, in the arena */
const char *shr_read_domain(const char *domain);      /* "" and "ai.onnx" are the same: "" */
int shr_read_new_value(struct shr_reader *r, const char *name, const char *what,
                       struct shr_value **ret, struct shr_err *err) SHR_MUSTCHECK;
int shr_read_inputs(struct shr_reader *r, const Onnx__GraphProto *from,
                    struct shr_err *err) SHR_MUSTCHECK;
int shr_read_initializers(struct shr_reader *r, const Onnx__GraphProto *from,
                          struct shr_err *err) SHR_MUSTCHECK;
int shr_read_outputs(struct shr_reader *r, const Onnx__GraphProto *from,
                     struct shr_err *err) SHR_MUSTCHECK;
int shr_read_value_infos(struct shr_reader *r, const Onnx__GraphProto *from,
                         struct shr_err *err) SHR_MUSTCHECK;

/* nodes.c: a graph in two steps, for values that are known beside its inputs come in between. */
int shr_read_graph_inputs(struct shr_reader *r, const Onnx__GraphProto *from,
                          struct shr_err *err) SHR_MUSTCHECK;
int shr_read_graph_rest(struct shr_reader *r, const Onnx__GraphProto *from,
                        struct shr_err *err) SHR_MUSTCHECK;

/* protobuf-c declares what it only reads as writable. */
void *shr_writable(const void *p);
void shr_write_fields(ProtobufCMessage *to, const struct shr_fields *fields);

#endif
