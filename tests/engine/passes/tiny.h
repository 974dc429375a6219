/* Tiny models for the tests of passes, built node by node. Every step asserts. */
#ifndef TESTS_PASSES_TINY_H
#define TESTS_PASSES_TINY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "passes/pass.h"

static inline struct shr_model *tiny_model(int64_t opset)
{
    struct shr_model *model = shr_model_new();
    assert_non_null(model);
    assert_int_equal(shr_model_import(model, "", opset, NULL), 0);
    model->ir_version = 7;
    return model;
}

/* A float32 input; dim -1 is the batch. */
static inline struct shr_value *tiny_input(struct shr_model *m, const char *name, int rank,
                                           const int64_t *dim)
{
    struct shr_value *v = NULL;
    assert_int_equal(shr_graph_add_value(&m->graph, name, &v, NULL), 0);
    v->type = (struct shr_type){.dtype = SHR_DTYPE_F32, .rank = rank};
    memcpy(v->type.dim, dim, (size_t)rank * sizeof *dim);
    assert_int_equal(shr_graph_add_input(&m->graph, v, NULL), 0);
    return v;
}

static inline struct shr_value *tiny_constant(struct shr_model *m, const char *name,
                                              enum shr_dtype dtype, int rank, const int64_t *dim,
                                              const double *values)
{
    struct shr_tensor t = {0};
    struct shr_value *v = NULL;
    assert_int_equal(shr_tensor_new(dtype, rank, dim, &t, NULL), 0);
    for (int64_t i = 0; i < shr_tensor_count(&t); i++) {
        shr_tensor_set(&t, i, values[i]);
    }
    assert_int_equal(shr_graph_add_constant(&m->graph, name, t, &v, NULL), 0);
    assert_string_equal(v->name, name);
    return v;
}

static inline struct shr_node *tiny_node(struct shr_model *m, const char *op, const char *name,
                                         struct shr_value *const *in, size_t n_in, const char *out)
{
    struct shr_value *v = NULL;
    struct shr_node *node = NULL;
    assert_int_equal(shr_graph_add_value(&m->graph, out, &v, NULL), 0);
    assert_int_equal(
        shr_graph_add_node(&m->graph, NULL, "", op, name, in, n_in, &v, 1, &node, NULL), 0);
    shr_model_resolve(m);
    return node;
}

static inline void tiny_output(struct shr_model *m, struct shr_node *node)
{
    struct shr_value *v = shr_node_out(node, 0);
    v->type.dtype = SHR_DTYPE_F32;
    assert_int_equal(shr_graph_add_output(&m->graph, v, NULL), 0);
    struct shr_err err = {0};
    int code = shr_graph_check(&m->graph, &err);
    if (code != 0) {
        fail_msg("%s", err.msg);
    }
}

/* Runs a pass with arguments "amount=0.5 scope=global" and returns its result (NULL: it failed). */
static inline struct shr_model *tiny_run_data(const struct shr_model *model, const char *pass,
                                              const char *arguments, const struct shr_dataset *data,
                                              struct shr_report *report, struct shr_err *err)
{
    struct shr_args args = {0};
    struct shr_ctx ctx = {.seed = 1};
    char text[512], *rest = NULL;
    assert_non_null(shr_pass_find(pass));
    assert_int_equal(shr_args_init(&args, shr_pass_find(pass), NULL), 0);
    snprintf(text, sizeof text, "%s", arguments);
    for (char *item = strtok_r(text, " ", &rest); item != NULL; item = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(item, '=');
        assert_non_null(value);
        *value++ = 0;
        assert_int_equal(shr_args_parse(&args, item, value, err), 0);
    }
    struct shr_pass_call call = {
        .model = model, .args = &args, .calibrate = data, .ctx = &ctx, .report = report};
    int code = shr_pass_run(args.pass, &call, err);
    shr_args_finish(&args);
    assert_true((code == 0) == (call.ret_model != NULL));
    return call.ret_model;
}

static inline struct shr_model *tiny_run(const struct shr_model *model, const char *pass,
                                         const char *arguments, struct shr_report *report,
                                         struct shr_err *err)
{
    return tiny_run_data(model, pass, arguments, NULL, report, err);
}

/* quantize_static, which must succeed. */
static inline struct shr_model *tiny_run_static(const struct shr_model *m,
                                                const struct shr_dataset *data,
                                                const char *arguments, struct shr_report *report)
{
    struct shr_err err = {0};
    struct shr_model *r = tiny_run_data(m, "quantize_static", arguments, data, report, &err);
    if (r == NULL) {
        fail_msg("%s", err.msg);
    }
    return r;
}

/* The constant of this name. */
static inline const struct shr_tensor *tiny_tensor(const struct shr_model *m, const char *name)
{
    struct shr_value *v = shr_graph_find(&m->graph, name);
    assert_non_null(v);
    assert_true(shr_value_is_constant(v));
    return &v->constant;
}

static inline void tiny_expect(const struct shr_model *m, const char *name, const double *values)
{
    const struct shr_tensor *t = tiny_tensor(m, name);
    for (int64_t i = 0; i < shr_tensor_count(t); i++) {
        if (shr_tensor_get(t, i) != values[i]) {
            fail_msg("%s[%lld] is %g, not %g", name, (long long)i, shr_tensor_get(t, i), values[i]);
        }
    }
}

static inline bool tiny_note(const struct shr_report *report, enum shr_note_kind kind,
                             const char *subject, const char *part)
{
    for (const struct shr_note *n = report->first; n != NULL; n = n->next) {
        if (n->kind == kind && strcmp(n->subject, subject) == 0 && strstr(n->text, part) != NULL) {
            return true;
        }
    }
    return false;
}

#endif
