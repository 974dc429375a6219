/* Attributes of nodes: reading with a fallback, and setting; see graph.h. */
#include <string.h>

#include "graph/graph.h"

const struct shr_attr *shr_node_attr(const struct shr_node *node, const char *name)
{
    for (const struct shr_attr *attr = node->attrs; attr != NULL; attr = attr->next) {
        if (strcmp(attr->name, name) == 0) {
            return attr;
        }
    }
    return NULL;
}

static const struct shr_attr *find_kind(const struct shr_node *node, const char *name,
                                        enum shr_attr_kind kind)
{
    const struct shr_attr *attr = shr_node_attr(node, name);
    return attr != NULL && attr->kind == kind ? attr : NULL;
}

int64_t shr_node_int(const struct shr_node *node, const char *name, int64_t fallback)
{
    const struct shr_attr *attr = find_kind(node, name, SHR_ATTR_INT);
    return attr == NULL ? fallback : attr->i;
}

float shr_node_float(const struct shr_node *node, const char *name, float fallback)
{
    const struct shr_attr *attr = find_kind(node, name, SHR_ATTR_FLOAT);
    return attr == NULL ? fallback : attr->f;
}

const char *shr_node_text(const struct shr_node *node, const char *name, const char *fallback)
{
    const struct shr_attr *attr = find_kind(node, name, SHR_ATTR_STRING);
    return attr == NULL ? fallback : attr->strings[0].s;
}

const int64_t *shr_node_ints(const struct shr_node *node, const char *name, size_t *ret_n)
{
    const struct shr_attr *attr = find_kind(node, name, SHR_ATTR_INTS);
    if (attr == NULL) {
        *ret_n = 0;
        return NULL;
    }
    *ret_n = attr->n;
    return attr->ints;
}

static int no_memory(const char *name, struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for the attribute '%s'", name);
}

int shr_node_put_attr(struct shr_graph *g, struct shr_node *node, const char *name,
                      enum shr_attr_kind kind, struct shr_attr **ret, struct shr_err *err)
{
    struct shr_attr **at = &node->attrs;
    while (*at != NULL && strcmp((*at)->name, name) != 0) {
        at = &(*at)->next;
    }
    struct shr_attr *attr = *at;
    if (attr != NULL) {
        shr_tensor_finish(&attr->tensor);
        shr_model_free(attr->body);
        *attr = (struct shr_attr){.next = attr->next, .name = attr->name, .kind = kind};
    } else {
        attr = shr_arena_new(g->arena, 1, sizeof *attr);
        const char *copy = shr_arena_strdup(g->arena, name);
        if (attr == NULL || copy == NULL) {
            return no_memory(name, err);
        }
        attr->name = copy;
        attr->kind = kind;
        *at = attr;
    }
    *ret = attr;
    return SHR_OK;
}

int shr_node_set_int(struct shr_graph *g, struct shr_node *node, const char *name, int64_t value,
                     struct shr_err *err)
{
    struct shr_attr *attr;
    int code = shr_node_put_attr(g, node, name, SHR_ATTR_INT, &attr, err);
    if (code == SHR_OK) {
        attr->i = value;
    }
    return code;
}

int shr_node_set_float(struct shr_graph *g, struct shr_node *node, const char *name, float value,
                       struct shr_err *err)
{
    struct shr_attr *attr;
    int code = shr_node_put_attr(g, node, name, SHR_ATTR_FLOAT, &attr, err);
    if (code == SHR_OK) {
        attr->f = value;
    }
    return code;
}

int shr_node_set_ints(struct shr_graph *g, struct shr_node *node, const char *name,
                      const int64_t *values, size_t n, struct shr_err *err)
{
    int64_t *copy = shr_arena_new(g->arena, n, sizeof *copy);
    if (copy == NULL) {
        return no_memory(name, err);
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = values[i];
    }
    struct shr_attr *attr;
    int code = shr_node_put_attr(g, node, name, SHR_ATTR_INTS, &attr, err);
    if (code == SHR_OK) {
        attr->ints = copy;
        attr->n = n;
    }
    return code;
}

int shr_node_set_text(struct shr_graph *g, struct shr_node *node, const char *name,
                      const char *value, struct shr_err *err)
{
    struct shr_text *text = shr_arena_new(g->arena, 1, sizeof *text);
    const char *copy = shr_arena_strdup(g->arena, value);
    if (text == NULL || copy == NULL) {
        return no_memory(name, err);
    }
    struct shr_attr *attr;
    int code = shr_node_put_attr(g, node, name, SHR_ATTR_STRING, &attr, err);
    if (code == SHR_OK) {
        *text = (struct shr_text){copy, strlen(copy)};
        attr->strings = text;
        attr->n = 1;
    }
    return code;
}

int shr_node_set_tensor(struct shr_graph *g, struct shr_node *node, const char *name,
                        struct shr_tensor take_tensor, struct shr_err *err)
{
    struct shr_attr *attr;
    int code = shr_node_put_attr(g, node, name, SHR_ATTR_TENSOR, &attr, err);
    if (code != SHR_OK) {
        shr_tensor_finish(&take_tensor);
        return code;
    }
    attr->tensor = take_tensor;
    return SHR_OK;
}

void shr_node_drop_attr(struct shr_node *node, const char *name)
{
    for (struct shr_attr **at = &node->attrs; *at != NULL; at = &(*at)->next) {
        if (strcmp((*at)->name, name) == 0) {
            struct shr_attr *attr = *at;
            *at = attr->next;
            shr_tensor_finish(&attr->tensor);
            return;
        }
    }
}
