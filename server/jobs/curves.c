/* Curves of a running pass, see curves.h. */
#include "jobs/curves.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "jsonx.h"

static struct job_curve *find(struct job_curves *curves, const char *series)
{
    for (size_t i = 0; i < curves->n; i++) {
        if (strncmp(curves->v[i]->series, series, JOB_SERIES_MAX - 1) == 0) {
            return curves->v[i];
        }
    }
    struct job_curve *curve = curves->n < JOB_CURVES ? shr_mem_new(1, sizeof *curve) : NULL;
    if (curve != NULL) {
        snprintf(curve->series, sizeof curve->series, "%s", series);
        curve->stride = 1;
        curves->v[curves->n++] = curve;
    }
    return curve;
}

static void thin_out(struct job_curve *curve)
{
    for (size_t i = 0; i < JOB_CURVE_POINTS / 2; i++) {
        curve->points[i] = curve->points[2 * i];
    }
    curve->n = JOB_CURVE_POINTS / 2;
    curve->stride *= 2;
}

bool job_curves_add(struct job_curves *curves, const char *series, uint64_t at, double value)
{
    struct job_curve *curve = find(curves, series);
    if (curve == NULL) {
        return false;
    }
    curve->last = (struct job_point){at, value};
    if (curve->told++ % curve->stride != 0) {
        return true;
    }
    if (curve->n == JOB_CURVE_POINTS) {
        thin_out(curve);
        if ((curve->told - 1) % curve->stride != 0) {
            return true;
        }
    }
    curve->points[curve->n++] = curve->last;
    return true;
}

static bool add_point(json_t *list, const struct job_point *point)
{
    json_t *value = isfinite(point->value) ? json_real(point->value) : json_null();
    json_t *pair = json_pack("[I, o]", (json_int_t)point->at, value);
    return pair != NULL && json_array_append_new(list, pair) == 0;
}

static json_t *curve_json(const struct job_curve *curve)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; i < curve->n && ok; i++) {
        ok = add_point(list, &curve->points[i]);
    }
    if (ok && curve->n > 0 && curve->points[curve->n - 1].at != curve->last.at) {
        ok = add_point(list, &curve->last);
    }
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

json_t *job_curves_json(const struct job_curves *curves)
{
    json_t *json = json_object();
    bool ok = json != NULL;
    for (size_t i = 0; i < curves->n && ok; i++) {
        ok = srv_json_put(json, curves->v[i]->series, curve_json(curves->v[i]));
    }
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

void job_curves_finish(struct job_curves *curves)
{
    for (size_t i = 0; i < curves->n; i++) {
        shr_mem_free(curves->v[i]);
    }
    *curves = (struct job_curves){0};
}
