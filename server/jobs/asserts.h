/* Asserts: "accuracy_drop <= 0.01", checked on the last step of a job, so that CI can gate on it.
 *
 * An expression is a name, one of <= >= < > == !=, and a number. The name is a metric of the
 * engine's table (with _b1, _b64 … behind the stem of a latency), or, computed from one,
 * METRIC_drop (original - result) or METRIC_ratio (result / original). A metric that was not
 * measured fails its assert and says why. Thread: any. */
#ifndef SRV_JOBS_ASSERTS_H
#define SRV_JOBS_ASSERTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"

struct store_steps;
struct shr_metric_info;

enum job_assert_of { JOB_ASSERT_VALUE, JOB_ASSERT_DROP, JOB_ASSERT_RATIO };
enum job_assert_op {
    JOB_ASSERT_LE,
    JOB_ASSERT_GE,
    JOB_ASSERT_LT,
    JOB_ASSERT_GT,
    JOB_ASSERT_EQ,
    JOB_ASSERT_NE,
    JOB_ASSERT_OP_COUNT
};

struct job_assert {
    const char *text; /* as it was written */
    const char *metric;
    enum job_assert_of of;
    enum job_assert_op op;
    double number;
};

/* The row of the engine's metric table that name belongs to: itself or its stem; NULL if none. */
const struct shr_metric_info *job_metric_find(const char *name);

/* The messages have no path in front. Texts go into the arena. */
int job_assert_parse(const char *text, struct shr_arena *arena, struct job_assert *ret,
                     struct shr_err *err) SHR_MUSTCHECK;

/* [{"assert": text, "holds": bool, "value": number | null, "why": …}]; *ret_pass: all held. NULL
 * when out of memory. steps: those of the job, the original first. */
json_t *job_asserts_check(const struct job_assert *asserts, size_t n,
                          const struct store_steps *steps, bool *ret_pass);

#endif
