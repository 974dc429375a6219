/* Building small models for tests: one call a node, asserting on every error. */
#ifndef SHR_TESTS_EXEC_BUILD_H
#define SHR_TESTS_EXEC_BUILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/rng.h"
#include "exec/plan.h"

struct shr_model *build_model(void); /* opset 13 */

/* dims: {rank, d0, d1, …}; -1 = unknown */
struct shr_value *build_input(struct shr_model *m, const char *name, enum shr_dtype dtype,
                              const int64_t *dims);
void build_output(struct shr_model *m, struct shr_value *v);

struct shr_value *build_f32(struct shr_model *m, const char *name, const int64_t *dims,
                            const float *data);
/* Uniform in [low, high), rounded for integers. */
struct shr_value *build_random(struct shr_model *m, const char *name, enum shr_dtype dtype,
                               const int64_t *dims, double low, double high, struct shr_rng *rng);
struct shr_value *build_scalar(struct shr_model *m, const char *name, enum shr_dtype dtype,
                               double value);
struct shr_value *build_i64(struct shr_model *m, const char *name, const int64_t *values, size_t n);

/* A node with one output of the given name; inputs end with NULL. */
struct shr_value *build_node(struct shr_model *m, const char *op, const char *out, ...);
struct shr_node *build_last(struct shr_model *m); /* the node added last, for attributes */
void build_ints(struct shr_model *m, const char *attr, const int64_t *values, size_t n);
void build_text(struct shr_model *m, const char *attr, const char *value);
void build_int(struct shr_model *m, const char *attr, int64_t value);

struct shr_plan *build_plan(const struct shr_model *m, const struct shr_plan_opts *opts);
void build_run(struct shr_plan *plan);
void build_fill(struct shr_tensor *t, double low, double high, struct shr_rng *rng);
/* Text of a plan; shr_buf_finish it. */
struct shr_buf build_print(const struct shr_plan *plan);

/* Runs the model fused and node by node on the same random inputs; takes it. steps: what the fused
 * plan must consist of, in order, one word each. Outputs may differ by `step`, a share `rare` of
 * them. */
void build_expect_equal(struct shr_model *take_m, const char *steps, double step, double rare,
                        struct shr_rng *rng);

#ifdef SHR_CHAOS
/* Whatever allocation fails, making a plan ends with an error and leaks nothing; takes the model.
 */
void build_chaos(struct shr_model *take_m);
#endif

#define DIMS(...)                                                                                  \
    (const int64_t[])                                                                              \
    {                                                                                              \
        sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t), __VA_ARGS__                      \
    }

#endif
