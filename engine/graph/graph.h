/* The graph IR: nodes, the named values between them, and the model around it.
 *
 * A value is a name: graph input, initializer or node output. Every use of a value is an edge that
 * both ends know, so "who consumes this" needs no search. Invariants, proved by shr_graph_check:
 *   - names of values are unique and not empty; each has at most one producer;
 *   - nodes stand in topological order; edges agree at both ends;
 *   - a graph output names a value that exists.
 * All objects live in the model's arena; weights are counted tensors (core/tensor.h). A graph is
 * mutable while a pass builds it and immutable afterwards. Thread: one while it is built. */
#ifndef SHR_GRAPH_GRAPH_H
#define SHR_GRAPH_GRAPH_H

#include "core/map.h"
#include "core/tensor.h"
#include "shrink.h"

struct shr_op; /* ops/op.h */
struct shr_node;
struct shr_extra; /* what only the ONNX reader and writer know: doc strings, unknown fields */

struct shr_edge {            /* one input slot of a node */
    struct shr_value *value; /* NULL = omitted optional input */
    struct shr_node *node;
    size_t slot;
    struct shr_edge *next, *prev; /* among the uses of value */
};

enum shr_store { /* how a file holds an initializer */
                 SHR_STORE_DENSE,
                 SHR_STORE_SPARSE, /* as a sparse initializer where that is smaller, with indices as
                                      small as ONNX Runtime reads: int16, int32 */
                 SHR_STORE_SPARSE_INT64, /* likewise, with the indices that ONNX defines */
                 SHR_STORE_AS_READ,      /* as the bytes that extra keeps */
};

struct shr_value {
    struct shr_graph *graph;
    const char *name;
    struct shr_type type;       /* as declared or inferred; may be unknown */
    struct shr_tensor constant; /* known data (initializer, Constant); data NULL = not constant */
    enum shr_store store;       /* of constant; new data begins as dense */
    struct shr_node *producer;  /* NULL for inputs and initializers */
    size_t producer_slot;
    struct shr_edge *uses, *last_use; /* first and last edge */
    size_t n_uses;                    /* edges; graph outputs and captures are not counted */
    bool is_input, is_output;
    bool captured;     /* read by a subgraph kept as bytes: must stay, under this name */
    bool was_declared; /* in value_info, or typed as input or output */
    struct shr_value *next, *prev; /* all values of the graph */
    struct shr_extra *extra;
};

enum shr_attr_kind { /* values of ONNX AttributeProto.AttributeType */
                     SHR_ATTR_FLOAT = 1,
                     SHR_ATTR_INT = 2,
                     SHR_ATTR_STRING = 3,
                     SHR_ATTR_TENSOR = 4,
                     SHR_ATTR_GRAPH = 5, /* kept as bytes */
                     SHR_ATTR_FLOATS = 6,
                     SHR_ATTR_INTS = 7,
                     SHR_ATTR_STRINGS = 8,
                     SHR_ATTR_OTHER = 9, /* any other kind, kept as bytes */
};

struct shr_text { /* may hold zero bytes; has one behind it */
    const char *s;
    size_t n;
};

struct shr_attr {
    struct shr_attr *next;
    const char *name;
    enum shr_attr_kind kind;
    float f;
    int64_t i;
    size_t n; /* elements of the lists */
    float *floats;
    int64_t *ints;
    struct shr_text *strings; /* STRING: one */
    struct shr_tensor tensor;
    struct shr_text raw; /* the AttributeProto of GRAPH and OTHER */
    /* GRAPH: as a model of its own, whose inputs are those of the subgraph and then one for each
     * captured value of the node; NULL until shr_model_expand. */
    struct shr_model *body;
    struct shr_extra *extra;
};

struct shr_node {
    struct shr_node *next, *prev; /* topological order */
    const char *name;             /* as in the file; may be "" */
    const char *op_type, *domain; /* domain "" = ai.onnx */
    const struct shr_op *op;      /* row for the model's opset; NULL = not known to the engine */
    size_t n_in, n_out;
    struct shr_edge *in;
    struct shr_value **out; /* NULL = omitted output */
    struct shr_attr *attrs;
    struct shr_value **captures; /* values of the graph that its subgraphs read */
    size_t n_captures;
    size_t n_taken; /* after shr_model_expand: of the inputs the last, which were captures */
    size_t index;   /* position; valid after shr_graph_number */
    struct shr_extra *extra;
};

struct shr_graph {
    struct shr_arena *arena; /* the model's */
    const char *name;
    struct shr_node *first_node, *last_node;
    size_t n_nodes;
    struct shr_value *first_value, *last_value;
    size_t n_values;
    struct shr_map values; /* by name */
    size_t n_inputs, n_outputs;
    struct shr_value **inputs, **outputs; /* inputs include initializers that the file lists */
    struct shr_value **captures; /* read by parts of the model kept as bytes (training_info) */
    size_t n_captures;
    struct shr_extra *extra;
};

struct shr_opset {
    struct shr_opset *next;
    const char *domain;
    int64_t version;
    struct shr_extra *extra;
};

struct shr_metadata {
    struct shr_metadata *next;
    const char *key, *value;
    struct shr_extra *extra;
};

struct shr_kept { /* what extras and raw attributes point into; clones share it */
    atomic_size_t readers;
    struct shr_arena arena;
};

struct shr_model {
    struct shr_arena arena; /* owns every object below, not the tensors' bytes */
    struct shr_graph graph;
    int64_t ir_version, model_version;
    struct shr_opset *opsets;
    const char *producer_name, *producer_version, *domain, *doc;
    struct shr_metadata *metadata;
    struct shr_kept *kept; /* NULL = nothing kept */
    struct shr_extra *extra;
};

/* Models (graph/clone.c, graph/model.c) */
struct shr_model *shr_model_new(void); /* empty; NULL when out of memory */
int shr_model_clone(const struct shr_model *model, struct shr_model **ret,
                    struct shr_err *err) SHR_MUSTCHECK;                     /* shares the weights */
int64_t shr_model_opset(const struct shr_model *model, const char *domain); /* 0 = not imported */
int shr_model_import(struct shr_model *model, const char *domain, int64_t version,
                     struct shr_err *err) SHR_MUSTCHECK; /* adds, or raises to at least version */

/* Makes models of the subgraphs of nodes that have a row, and inputs of the values that they
 * capture. For running it only: such a model is never written. (onnx/body.c) */
int shr_model_expand(struct shr_model *model, struct shr_err *err) SHR_MUSTCHECK;

/* Values */
struct shr_value *shr_graph_find(const struct shr_graph *g, const char *name); /* NULL if absent */
int shr_graph_add_value(struct shr_graph *g, const char *name, struct shr_value **ret,
                        struct shr_err *err) SHR_MUSTCHECK; /* CONFLICT when the name is taken */
/* A new value whose name begins with stem; "_1", "_2", … is added while the name is taken. */
int shr_graph_fresh_value(struct shr_graph *g, const char *stem, struct shr_value **ret,
                          struct shr_err *err) SHR_MUSTCHECK;
/* A new initializer; its name as above; takes the tensor, also on failure. */
int shr_graph_add_constant(struct shr_graph *g, const char *stem, struct shr_tensor take_tensor,
                           struct shr_value **ret, struct shr_err *err) SHR_MUSTCHECK;
/* Gives an existing initializer, or the output of a Constant node, new data and type; takes the
 * tensor. */
void shr_value_set_constant(struct shr_value *v, struct shr_tensor take_tensor);
/* Appends a value to the inputs or outputs of the graph. */
int shr_graph_add_input(struct shr_graph *g, struct shr_value *v,
                        struct shr_err *err) SHR_MUSTCHECK;
int shr_graph_add_output(struct shr_graph *g, struct shr_value *v,
                         struct shr_err *err) SHR_MUSTCHECK;
/* Forgets a value that has no producer, uses or role. */
void shr_graph_remove_value(struct shr_graph *g, struct shr_value *v);
bool shr_value_is_constant(const struct shr_value *v); /* v may be NULL: false */
/* An initializer that counts as parameters of the model: floating-point or quantized weights and
 * biases, not the scales and zero points of quantization, not shapes and indices. */
bool shr_value_is_parameter(const struct shr_value *v);
/* A scale or zero point: what quantization needs beside the parameters. */
bool shr_value_is_quantization(const struct shr_value *v);
/* The only consumer, or NULL when there are none, several, or v is a graph output or captured. */
struct shr_node *shr_value_single_use(const struct shr_value *v);

/* Nodes. before NULL = at the end. Inputs may hold NULL; outputs must have no producer yet. The
 * node's op is NULL until the next shr_model_resolve. */
int shr_graph_add_node(struct shr_graph *g, struct shr_node *before, const char *domain,
                       const char *op_type, const char *name, struct shr_value *const *in,
                       size_t n_in, struct shr_value *const *out, size_t n_out,
                       struct shr_node **ret, struct shr_err *err) SHR_MUSTCHECK;
/* Its outputs stay; that of a Constant becomes an initializer. */
void shr_graph_remove_node(struct shr_graph *g, struct shr_node *node);
void shr_node_set_input(struct shr_node *node, size_t slot,
                        struct shr_value *value); /* slot < n_in */
int shr_node_resize_inputs(struct shr_graph *g, struct shr_node *node, size_t n_in,
                           struct shr_err *err) SHR_MUSTCHECK;
/* All consumers of `from` read `to`. Where `from` is a graph output, `to` takes its place and its
 * name if it can: it is computed by a node, is no output itself, and neither is captured. Else the
 * output stays with `from` (from->is_output tells). */
void shr_value_replace_uses(struct shr_value *from, struct shr_value *to);
struct shr_value *shr_node_in(const struct shr_node *node, size_t slot);  /* NULL when omitted */
struct shr_value *shr_node_out(const struct shr_node *node, size_t slot); /* NULL when omitted */
bool shr_node_is(const struct shr_node *node,
                 const char *op_type); /* of domain ai.onnx; NULL: false */
/* The name, or for a nameless node the op type and first output: for messages. text is returned. */
const char *shr_node_label(const struct shr_node *node, char *text, size_t size);

/* "float32 [N, 784]": dims that are unknown are "?", an unknown rank is "[…]". text is returned. */
const char *shr_type_text(const struct shr_type *type, char *text, size_t size);
/* Can this array be the data of a value declared so? INVALID says what differs. */
int shr_view_check(const struct shr_view *view, const struct shr_type *type,
                   struct shr_err *err) SHR_MUSTCHECK;
bool shr_type_equal(const struct shr_type *a, const struct shr_type *b); /* symbols by name */

/* Attributes (graph/attr.c). Getters return the fallback when absent or of another kind. */
const struct shr_attr *shr_node_attr(const struct shr_node *node, const char *name);
int64_t shr_node_int(const struct shr_node *node, const char *name, int64_t fallback);
float shr_node_float(const struct shr_node *node, const char *name, float fallback);
const char *shr_node_text(const struct shr_node *node, const char *name, const char *fallback);
const int64_t *shr_node_ints(const struct shr_node *node, const char *name,
                             size_t *ret_n); /* NULL */
int shr_node_set_int(struct shr_graph *g, struct shr_node *node, const char *name, int64_t value,
                     struct shr_err *err) SHR_MUSTCHECK;
int shr_node_set_float(struct shr_graph *g, struct shr_node *node, const char *name, float value,
                       struct shr_err *err) SHR_MUSTCHECK;
int shr_node_set_ints(struct shr_graph *g, struct shr_node *node, const char *name,
                      const int64_t *values, size_t n, struct shr_err *err) SHR_MUSTCHECK;
int shr_node_set_text(struct shr_graph *g, struct shr_node *node, const char *name,
                      const char *value, struct shr_err *err) SHR_MUSTCHECK;
int shr_node_set_tensor(struct shr_graph *g, struct shr_node *node, const char *name,
                        struct shr_tensor take_tensor, struct shr_err *err) SHR_MUSTCHECK;
/* Copies all attributes of a node of another graph; without the bytes of GRAPH and OTHER. */
int shr_node_copy_attrs(struct shr_graph *g, const struct shr_node *from, struct shr_node *to,
                        struct shr_err *err) SHR_MUSTCHECK;
/* The attribute of that name, emptied and of the given kind; added at the end when new. */
int shr_node_put_attr(struct shr_graph *g, struct shr_node *node, const char *name,
                      enum shr_attr_kind kind, struct shr_attr **ret,
                      struct shr_err *err) SHR_MUSTCHECK;
void shr_node_drop_attr(struct shr_node *node, const char *name); /* if it has one */

/* The whole */
int shr_graph_sort(struct shr_graph *g,
                   struct shr_err *err) SHR_MUSTCHECK; /* INVALID: a cycle, with a node of it */
int shr_graph_check(const struct shr_graph *g, struct shr_err *err) SHR_MUSTCHECK;
void shr_graph_number(struct shr_graph *g); /* sets node->index */
/* Removes nodes and initializers that no output or capture needs; returns how many nodes. The
 * nodes must be in topological order. */
size_t shr_graph_drop_unused(struct shr_graph *g);

#define SHR_EACH_NODE(node, g)                                                                     \
    for (struct shr_node *node = (g)->first_node; node != NULL; node = node->next)
#define SHR_EACH_VALUE(value, g)                                                                   \
    for (struct shr_value *value = (g)->first_value; value != NULL; value = value->next)
#define SHR_EACH_USE(edge, value)                                                                  \
    for (struct shr_edge *edge = (value)->uses; edge != NULL; edge = edge->next)

#endif
