/* Subgraphs are kept as bytes, but they read values of the graph around them by name. Those values
 * must stay, under their names, and be computed before the node that holds the subgraph. */
#include <stdio.h>

#include "base/vec.h"
#include "onnx/onnx.h"

struct scope { /* the names that one subgraph defines */
    const struct scope *up;
    struct shr_map names;
};

struct captures {
    struct shr_reader *r;
    const char *reader; /* for messages: "node 'if'" */
    bool may_miss;      /* names that are not in the main graph are no error */
    struct shr_map found;
    SHR_VEC(struct shr_value *) values;
};

static int define(struct scope *scope, const char *name, struct shr_err *err)
{
    return name == NULL || name[0] == 0 ? SHR_OK : shr_map_put(&scope->names, name, scope, err);
}

static int define_all(struct scope *scope, const Onnx__GraphProto *g, struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < g->n_input; i++) {
        code = define(scope, g->input[i]->name, err);
    }
    for (size_t i = 0; code == SHR_OK && i < g->n_initializer; i++) {
        code = define(scope, g->initializer[i]->name, err);
    }
    for (size_t i = 0; code == SHR_OK && i < g->n_sparse_initializer; i++) {
        const Onnx__TensorProto *values = g->sparse_initializer[i]->values;
        code = define(scope, values == NULL ? NULL : values->name, err);
    }
    for (size_t i = 0; i < g->n_node; i++) {
        for (size_t k = 0; code == SHR_OK && k < g->node[i]->n_output; k++) {
            code = define(scope, g->node[i]->output[k], err);
        }
    }
    return code;
}

static int capture(struct captures *c, const char *name, struct shr_err *err)
{
    struct shr_value *v = shr_graph_find(c->r->g, name);
    if (v == NULL && c->may_miss) {
        return SHR_OK;
    }
    if (v == NULL) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "%s: its subgraph reads '%s', which nothing defines", c->reader, name);
    }
    if (shr_map_get(&c->found, name) != NULL) {
        return SHR_OK;
    }
    int code = shr_map_put(&c->found, v->name, v, err);
    if (code != SHR_OK) {
        return code;
    }
    struct shr_value **slot = SHR_VEC_ADD(&c->values);
    if (slot == NULL) {
        return shr_onnx_no_memory(err);
    }
    *slot = v;
    return SHR_OK;
}

static int read_outer(struct captures *c, const struct scope *scope, const char *name,
                      struct shr_err *err)
{
    if (name == NULL || name[0] == 0) {
        return SHR_OK;
    }
    for (; scope != NULL; scope = scope->up) {
        if (shr_map_get(&scope->names, name) != NULL) {
            return SHR_OK;
        }
    }
    return capture(c, name, err);
}

static int walk_node(struct captures *c, const struct scope *scope, const Onnx__NodeProto *node,
                     struct shr_err *err);

/* Recursion is as deep as subgraphs nest, which the scan has bounded. */
static int walk_graph(struct captures *c, const struct scope *up, const Onnx__GraphProto *g,
                      struct shr_err *err)
{
    struct scope scope = {.up = up};
    int code = define_all(&scope, g, err);
    for (size_t i = 0; code == SHR_OK && i < g->n_node; i++) {
        for (size_t k = 0; code == SHR_OK && k < g->node[i]->n_input; k++) {
            code = read_outer(c, &scope, g->node[i]->input[k], err);
        }
        code = code == SHR_OK ? walk_node(c, &scope, g->node[i], err) : code;
    }
    for (size_t i = 0; code == SHR_OK && i < g->n_output; i++) {
        code = read_outer(c, &scope, g->output[i]->name, err);
    }
    shr_map_finish(&scope.names);
    return code;
}

static int walk_node(struct captures *c, const struct scope *scope, const Onnx__NodeProto *node,
                     struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < node->n_attribute; i++) {
        const Onnx__AttributeProto *attr = node->attribute[i];
        if (attr->g != NULL) {
            code = walk_graph(c, scope, attr->g, err);
        }
        for (size_t k = 0; code == SHR_OK && k < attr->n_graphs; k++) {
            code = walk_graph(c, scope, attr->graphs[k], err);
        }
    }
    return code;
}

/* Marks what was found and moves it into the arena; frees the rest. */
static int finish(struct captures *c, int code, struct shr_value ***ret, size_t *ret_n,
                  struct shr_err *err)
{
    if (code == SHR_OK && c->values.n > 0) {
        *ret = shr_arena_new(c->r->g->arena, c->values.n, sizeof **ret);
        if (*ret == NULL) {
            code = shr_onnx_no_memory(err);
        }
        for (size_t i = 0; code == SHR_OK && i < c->values.n; i++) {
            c->values.v[i]->captured = true;
            (*ret)[i] = c->values.v[i];
            *ret_n = i + 1;
        }
    }
    shr_map_finish(&c->found);
    SHR_VEC_FINISH(&c->values);
    return code;
}

int shr_read_captures(struct shr_reader *r, const Onnx__NodeProto *from, struct shr_node *node,
                      struct shr_err *err)
{
    char label[96], reader[128];
    snprintf(reader, sizeof reader, "node '%s'", shr_node_label(node, label, sizeof label));
    struct captures c = {.r = r, .reader = reader};
    int code = walk_node(&c, NULL, from, err);
    return finish(&c, code, &node->captures, &node->n_captures, err);
}

int shr_read_outer(struct shr_reader *r, const Onnx__GraphProto *from, const struct shr_node *node,
                   struct shr_value ***ret, size_t *ret_n, struct shr_err *err)
{
    char label[96], reader[128];
    snprintf(reader, sizeof reader, "node '%s'", shr_node_label(node, label, sizeof label));
    struct captures c = {.r = r, .reader = reader};
    int code = walk_graph(&c, NULL, from, err);
    shr_map_finish(&c.found);
    if (code != SHR_OK) {
        SHR_VEC_FINISH(&c.values);
        return code;
    }
    *ret = c.values.v;
    *ret_n = c.values.n;
    return SHR_OK;
}

static int bindings(struct captures *c, Onnx__StringStringEntryProto *const *entries, size_t n,
                    struct shr_err *err)
{
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < n; i++) {
        code = read_outer(c, NULL, entries[i]->key, err);
    }
    return code;
}

/* The algorithm of a training_info reads and updates initializers of the main graph. */
int shr_read_training_captures(struct shr_reader *r, const Onnx__ModelProto *from,
                               struct shr_err *err)
{
    struct captures c = {.r = r, .reader = "training_info", .may_miss = true};
    int code = SHR_OK;
    for (size_t i = 0; code == SHR_OK && i < from->n_training_info; i++) {
        const Onnx__TrainingInfoProto *info = from->training_info[i];
        code = info->algorithm == NULL ? SHR_OK : walk_graph(&c, NULL, info->algorithm, err);
        code = code == SHR_OK
                   ? bindings(&c, info->initialization_binding, info->n_initialization_binding, err)
                   : code;
        code =
            code == SHR_OK ? bindings(&c, info->update_binding, info->n_update_binding, err) : code;
    }
    return finish(&c, code, &r->g->captures, &r->g->n_captures, err);
}
