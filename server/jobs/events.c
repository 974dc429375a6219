/* Events of jobs, see events.h. What is stored as data is what happened; the job, the time and the
 * frame of server-sent events are added when an event is rendered. */
#include "jobs/events.h"

#include <inttypes.h>

#include "base/mem.h"
#include "errors.h"
#include "jobs/states.h"
#include "jsonx.h"
#include "srv.h"
#include "units.h"

void srv_listen(struct srv *srv, srv_event_fn fn, void *user)
{
    uv_mutex_lock(&srv->listen_lock);
    srv->listen_fn = fn;
    srv->listen_user = user;
    uv_mutex_unlock(&srv->listen_lock);
}

void job_event_tell(struct srv *srv, const char *job_id, int64_t event_id, bool job_is_final)
{
    uv_mutex_lock(&srv->listen_lock);
    if (srv->listen_fn != NULL) {
        srv->listen_fn(srv->listen_user, job_id, event_id, job_is_final);
    }
    uv_mutex_unlock(&srv->listen_lock);
}

int job_event_add(struct srv *srv, const char *job_id, const char *kind, const char *data,
                  struct shr_err *err)
{
    int64_t id = 0;
    const int code = store_event_add(srv->store, job_id, kind, data, &id, err);
    if (code == SHR_OK) {
        job_event_tell(srv, job_id, id, false);
    }
    return code;
}

static int render_event(const struct store_event *event, struct shr_buf *text, struct shr_err *err)
{
    json_t *data = json_loads(event->data, 0, NULL);
    char time[SRV_TIME_SIZE];
    srv_time_format(event->time_us, time, sizeof time);
    const bool ok = srv_json_put(data, "job", json_string(event->job_id)) &&
                    srv_json_put(data, "time", json_string(time));
    char *line = ok ? srv_json_dump(data) : NULL;
    json_decref(data);
    if (line == NULL) {
        return srv_nomem(err);
    }
    shr_buf_printf(text, "id: %" PRId64 "\nevent: %s\ndata: %s\n\n", event->id, event->kind, line);
    shr_mem_free(line);
    return shr_buf_failed(text) ? srv_nomem(err) : SHR_OK;
}

/* Is the job final? Asked before the events are read: what comes later is then no loss. */
static int job_is_over(struct srv *srv, const char *job_id, bool *ret, struct shr_err *err)
{
    struct store_job job = {0};
    const int code = store_job_get(srv->store, job_id, &job, err);
    if (code != SHR_OK) {
        return code;
    }
    enum job_state state = JOB_QUEUED;
    *ret = job_state_find(job.state, &state) && job_state_is_final(state);
    store_job_finish(&job);
    return SHR_OK;
}

int srv_events_render(struct srv *srv, const char *job_id, int64_t after, size_t limit,
                      struct shr_buf *ret_text, int64_t *ret_last, bool *ret_is_over,
                      struct shr_err *err)
{
    if (after < 0) {
        *ret_is_over = false;
        return store_event_last(srv->store, ret_last, err);
    }
    bool is_over = false;
    int code = job_id != NULL ? job_is_over(srv, job_id, &is_over, err) : SHR_OK;
    if (code != SHR_OK) {
        return code;
    }
    struct store_events events = {0};
    code = store_event_list(srv->store, job_id, after, limit, &events, err);
    for (size_t i = 0; code == SHR_OK && i < events.n; i++) {
        code = render_event(&events.v[i], ret_text, err);
    }
    if (code == SHR_OK) {
        *ret_last = events.n > 0 ? events.v[events.n - 1].id : after;
        *ret_is_over = is_over && events.n < limit;
    }
    store_events_finish(&events);
    return code;
}
