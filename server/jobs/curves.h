/* Curves: the figures that a running pass tells, such as the loss of each step, thinned out.
 *
 * A curve keeps at most JOB_CURVE_POINTS of the points that it is told, evenly: when it is full,
 * every second one goes and half as many are taken from then on. Its last point is always there.
 * Thread: the worker's. */
#ifndef SRV_JOBS_CURVES_H
#define SRV_JOBS_CURVES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JOB_CURVE_POINTS = 512, JOB_CURVES = 16, JOB_SERIES_MAX = 32 };

struct job_point {
    uint64_t at;
    double value;
};

struct job_curve {
    char series[JOB_SERIES_MAX];
    uint64_t told, stride; /* points so far; every stride-th is kept */
    size_t n;
    struct job_point points[JOB_CURVE_POINTS];
    struct job_point last;
};

struct job_curves { /* all zero = none */
    size_t n;
    struct job_curve *v[JOB_CURVES];
};

/* False when out of memory or of room for series; the point is lost then. */
bool job_curves_add(struct job_curves *curves, const char *series, uint64_t at, double value);
/* {"loss": [[at, value], …], …}; a value that is not finite is null. NULL = out of memory. */
json_t *job_curves_json(const struct job_curves *curves);
void job_curves_finish(struct job_curves *curves); /* leaves none */

#endif
