/* Progress of a running job, see progress.h. */
#include "jobs/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "jsonx.h"
#include "units.h"

int job_progress_init(struct job_progress *progress)
{
    return uv_mutex_init(&progress->lock);
}

void job_progress_finish(struct job_progress *progress)
{
    uv_mutex_destroy(&progress->lock);
}

void job_progress_begin(struct job_progress *progress, int n_steps)
{
    uv_mutex_lock(&progress->lock);
    progress->view.n_steps = n_steps;
    progress->view.eta_s = -1;
    progress->n_units = 1 + 2 * (unsigned)n_steps;
    progress->unit = 0;
    progress->started_ms = srv_clock_ms();
    uv_mutex_unlock(&progress->lock);
}

void job_progress_unit(struct job_progress *progress, int step, const char *pass)
{
    uv_mutex_lock(&progress->lock);
    struct job_progress_view *view = &progress->view;
    if (view->pass[0] != '\0') { /* not the first */
        progress->unit++;
    }
    progress->unit_base = progress->unit_part = 0;
    view->step = step;
    view->stage[0] = '\0';
    view->n_figures = 0;
    snprintf(view->pass, sizeof view->pass, "%s", pass);
    uv_mutex_unlock(&progress->lock);
}

/* At most four events a second, and fewer the longer a job runs: an hour is some 1,800 rows. */
static uint64_t event_gap_ms(uint64_t elapsed_ms)
{
    const uint64_t gap = elapsed_ms / 200;
    return gap < 250 ? 250 : gap > 2000 ? 2000 : gap;
}

bool job_progress_set(struct job_progress *progress, const char *stage, uint64_t done,
                      uint64_t total)
{
    uv_mutex_lock(&progress->lock);
    struct job_progress_view *view = &progress->view;
    const bool is_new = strncmp(view->stage, stage, sizeof view->stage - 1) != 0;
    if (is_new) {
        snprintf(view->stage, sizeof view->stage, "%s", stage);
        progress->unit_base += progress->unit_part;
        progress->unit_part = 0;
    }
    const double fraction = total > 0 && done <= total ? (double)done / (double)total : 0;
    const double part = (1.0 - progress->unit_base) * 0.5 * fraction;
    if (part > progress->unit_part) {
        progress->unit_part = part;
    }
    view->done = done;
    view->total = total;
    view->percent = 100.0 * (progress->unit + progress->unit_base + progress->unit_part) /
                    (double)progress->n_units;

    const uint64_t now = srv_clock_ms();
    const double elapsed_s = (double)(now - progress->started_ms) / 1000.0;
    view->eta_s = view->percent >= 2.0 ? elapsed_s * (100.0 - view->percent) / view->percent : -1;
    const bool tell = is_new || now - progress->told_ms >= event_gap_ms(now - progress->started_ms);
    if (tell) {
        progress->told_ms = now;
    }
    uv_mutex_unlock(&progress->lock);
    return tell;
}

void job_progress_figure(struct job_progress *progress, const char *series, double value)
{
    uv_mutex_lock(&progress->lock);
    struct job_progress_view *view = &progress->view;
    size_t i = 0;
    while (i < view->n_figures && strcmp(view->figures[i].series, series) != 0) {
        i++;
    }
    if (i < JOB_PROGRESS_FIGURES) {
        view->n_figures = i == view->n_figures ? i + 1 : view->n_figures;
        snprintf(view->figures[i].series, sizeof view->figures[i].series, "%s", series);
        view->figures[i].value = value;
    }
    uv_mutex_unlock(&progress->lock);
}

void job_progress_get(struct job_progress *progress, struct job_progress_view *ret)
{
    uv_mutex_lock(&progress->lock);
    *ret = progress->view;
    uv_mutex_unlock(&progress->lock);
}

json_t *job_progress_json(const struct job_progress_view *view)
{
    json_t *json = json_object();
    bool ok = srv_json_put(json, "stage", json_string(view->stage));
    ok = ok && srv_json_put(json, "step", json_integer(view->step));
    ok = ok && srv_json_put(json, "steps", json_integer(view->n_steps));
    ok = ok && srv_json_put(json, "pass", json_string(view->pass));
    ok = ok && srv_json_put(json, "done", json_integer((json_int_t)view->done));
    ok = ok && srv_json_put(json, "total", json_integer((json_int_t)view->total));
    ok = ok && srv_json_put(json, "percent", json_real((int)(view->percent * 10.0) / 10.0));
    ok = ok && srv_json_put(json, "eta_s",
                            view->eta_s < 0 ? json_null() : json_integer((json_int_t)view->eta_s));
    json_t *figures = ok && view->n_figures > 0 ? json_object() : NULL;
    for (size_t i = 0; ok && i < view->n_figures; i++) {
        const double value = view->figures[i].value;
        ok = srv_json_put(figures, view->figures[i].series,
                          isfinite(value) ? json_real(value) : json_null());
    }
    if (figures != NULL) {
        ok = srv_json_put(json, "figures", figures) && ok;
    }
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}
