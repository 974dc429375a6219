/* See build.h. */
#include "build.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

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
    if (data != NULL) {
        memcpy(t.data, data, shr_tensor_bytes(&t));
    }
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

void build_text(struct shr_model *m, const char *attr, const char *value)
{
    struct shr_err err = {0};
    check(shr_node_set_text(&m->graph, build_last(m), attr, value, &err), &err);
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

/* ── Comparing ──────────────────────────────────────────────────────────────────────────────── */

static double largest_difference(struct shr_plan *a, struct shr_plan *b, double *ret_share)
{
    double largest = 0;
    int64_t different = 0, all = 0;
    assert_int_equal(shr_plan_output_count(a), shr_plan_output_count(b));
    for (size_t o = 0; o < shr_plan_output_count(a); o++) {
        const struct shr_tensor *x = shr_plan_output(a, o), *y = shr_plan_output(b, o);
        assert_int_equal(x->dtype, y->dtype);
        assert_true(shr_tensor_same_shape(x, y));
        for (int64_t i = 0; i < shr_tensor_count(x); i++) {
            double d = fabs(shr_tensor_get(x, i) - shr_tensor_get(y, i));
            largest = d > largest ? d : largest;
            different += d != 0;
            all++;
        }
    }
    *ret_share = (double)different / (double)all;
    return largest;
}

void build_expect_equal(struct shr_model *m, const char *steps, double step, double rare,
                        struct shr_rng *rng)
{
    struct shr_plan *fused = build_plan(m, &(struct shr_plan_opts){.batch = 3});
    struct shr_plan *plain = build_plan(m, &(struct shr_plan_opts){.batch = 3, .no_fuse = true});
    struct shr_buf text = build_print(fused), words = {0};
    const char *line = shr_buf_str(&text);
    while ((line = strstr(line, " = ")) != NULL) {
        line += strlen(" = ");
        shr_buf_printf(&words, "%s%.*s", words.len == 0 ? "" : " ", (int)strcspn(line, "("), line);
    }
    assert_string_equal(shr_buf_str(&words), steps);
    shr_buf_finish(&text);
    shr_buf_finish(&words);

    for (size_t i = 0; i < shr_plan_input_count(fused); i++) {
        struct shr_tensor *x = shr_plan_input(fused, i);
        build_fill(x, -1, 1, rng);
        memcpy(shr_plan_input(plain, i)->data, x->data, shr_tensor_bytes(x));
    }
    build_run(fused);
    build_run(plain);
    double share, difference = largest_difference(fused, plain, &share);
    if (difference > step || (difference > 0 && share > rare)) {
        fail_msg("%s: outputs differ by %g, %g of them", steps, difference, share);
    }
    shr_plan_free(fused);
    shr_plan_free(plain);
    shr_model_free(m);
}

#ifdef SHR_CHAOS
void build_chaos(struct shr_model *m)
{
    int rc = SHR_ERR_NOMEM;
    for (uint64_t n = 1; rc != SHR_OK; n++) {
        struct shr_plan *plan = NULL;
        struct shr_err err = {0};
        shr_mem_chaos(n);
        rc = shr_plan_new(m, &(struct shr_plan_opts){.batch = 2}, &plan, &err);
        bool failed = shr_mem_chaos_hit();
        shr_mem_chaos(0);
        assert_true(failed ? rc == SHR_ERR_NOMEM && plan == NULL : rc == SHR_OK);
        shr_plan_free(plan);
    }
    shr_model_free(m);
}
#endif
