/* See build.h. */
#include "build.h"

#include <string.h>

static void check(int rc, const struct shr_err *err)
{
    if (rc != 0) {
        fail_msg("%s: %s", shr_err_name(rc), err->msg);
    }
}

struct shr_model *build_model(void)
{
    struct shr_err err = {0};
    struct shr_model *m = shr_model_new();
    assert_non_null(m);
    m->ir_version = 8;
    check(shr_model_import(m, "", 13, &err), &err);
    return m;
}

struct shr_value *build_input(struct shr_model *m, const char *name, enum shr_dtype dtype,
                              const int64_t *dims)
{
    struct shr_err err = {0};
    struct shr_value *v;
    check(shr_graph_add_value(&m->graph, name, &v, &err), &err);
    v->type.dtype = dtype;
    v->type.rank = (int)dims[0];
    memcpy(v->type.dim, dims + 1, (size_t)dims[0] * sizeof *dims);
    check(shr_graph_add_input(&m->graph, v, &err), &err);
    return v;
}

void build_output(struct shr_model *m, struct shr_value *v)
{
    struct shr_err err = {0};
    check(shr_graph_add_output(&m->graph, v, &err), &err);
}

static struct shr_value *constant(struct shr_model *m, const char *name, struct shr_tensor t)
{
    struct shr_err err = {0};
    struct shr_value *v;
    check(shr_graph_add_constant(&m->graph, name, t, &v, &err), &err);
    return v;
}

static struct shr_tensor tensor(enum shr_dtype dtype, int rank, const int64_t *dim)
{
    struct shr_err err = {0};
    struct shr_tensor t;
    check(shr_tensor_new(dtype, rank, dim, &t, &err), &err);
    return t;
}

struct shr_value *build_f32(struct shr_model *m, const char *name, const int64_t *dims,
                            const float *data)
{
    struct shr_tensor t = tensor(SHR_DTYPE_F32, (int)dims[0], dims + 1);
    memcpy(t.data, data, shr_tensor_bytes(&t));
    return constant(m, name, t);
}

void build_fill(struct shr_tensor *t, double low, double high, struct shr_rng *rng)
{
    for (int64_t i = 0; i < shr_tensor_count(t); i++) {
        shr_tensor_set(t, i, low + (high - low) * shr_rng_uniform(rng));
    }
}

struct shr_value *build_random(struct shr_model *m, const char *name, enum shr_dtype dtype,
                               const int64_t *dims, double low, double high, struct shr_rng *rng)
{
    struct shr_tensor t = tensor(dtype, (int)dims[0], dims + 1);
    build_fill(&t, low, high, rng);
    return constant(m, name, t);
}

struct shr_value *build_scalar(struct shr_model *m, const char *name, enum shr_dtype dtype,
                               double value)
{
    struct shr_tensor t = tensor(dtype, 0, NULL);
    shr_tensor_set(&t, 0, value);
    return constant(m, name, t);
}

struct shr_value *build_i64(struct shr_model *m, const char *name, const int64_t *values, size_t n)
{
    const int64_t dim = (int64_t)n;
    struct shr_tensor t = tensor(SHR_DTYPE_I64, 1, &dim);
    memcpy(t.data, values, n * sizeof *values);
    return constant(m, name, t);
}

struct shr_value *build_node(struct shr_model *m, const char *op, const char *out, ...)
{
    enum { MAX_IN = 16 };
    struct shr_value *in[MAX_IN], *v;
    struct shr_err err = {0};
    size_t n = 0;
    va_list args;
    va_start(args, out);
    while ((in[n] = va_arg(args, struct shr_value *)) != NULL) {
        n++;
    }
    va_end(args);
    check(shr_graph_add_value(&m->graph, out, &v, &err), &err);
    check(shr_graph_add_node(&m->graph, NULL, "", op, out, in, n, &v, 1, NULL, &err), &err);
    return v;
}

struct shr_node *build_last(struct shr_model *m)
{
    return m->graph.last_node;
}

void build_ints(struct shr_model *m, const char *attr, const int64_t *values, size_t n)
{
    struct shr_err err = {0};
    check(shr_node_set_ints(&m->graph, build_last(m), attr, values, n, &err), &err);
}

void build_int(struct shr_model *m, const char *attr, int64_t value)
{
    struct shr_err err = {0};
    check(shr_node_set_int(&m->graph, build_last(m), attr, value, &err), &err);
}

struct shr_plan *build_plan(const struct shr_model *m, const struct shr_plan_opts *opts)
{
    struct shr_err err = {0};
    struct shr_plan *plan = NULL;
    check(shr_plan_new(m, opts, &plan, &err), &err);
    return plan;
}

void build_run(struct shr_plan *plan)
{
    struct shr_err err = {0};
    check(shr_plan_run(plan, NULL, &err), &err);
}

struct shr_buf build_print(const struct shr_plan *plan)
{
    struct shr_err err = {0};
    struct shr_buf text = {0};
    check(shr_plan_print(plan, &text, &err), &err);
    return text;
}
