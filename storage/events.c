/* Events: what happened to jobs, in one order over all of them. Thread: any. */
#include <string.h>

#include "base/vec.h"
#include "inner.h"

int store__event_append(struct store *store, int64_t job, const char *kind, const char *data,
                        int64_t *ret_id, struct shr_err *err)
{
    int code = store_db_run(
        &store->main, "INSERT INTO event (job, kind, data, time_us) VALUES (?1, ?2, ?3, ?4)",
        STORE_ARGS(STORE_INT(job), STORE_TEXT(kind), STORE_TEXT(data != NULL ? data : ""),
                   STORE_INT(store__now_us())),
        err);
    if (code == 0) {
        *ret_id = store_db_last_id(&store->main);
    }
    return code;
}

int store_event_add(struct store *store, const char *job_id, const char *kind, const char *data,
                    int64_t *ret_id, struct shr_err *err)
{
    int64_t job = 0;
    int64_t id = 0;
    int code = store_db_begin(&store->main, err);
    if (code != 0) {
        return code;
    }
    code = store__job_find(store, job_id, -1, &job, err);
    if (code == 0) {
        code = store__event_append(store, job, kind, data, &id, err);
    }
    code = store_db_end(&store->main, code, err);
    if (code == 0 && ret_id != NULL) {
        *ret_id = id;
    }
    return code;
}

struct event_list {
    struct shr_arena arena;
    SHR_VEC(struct store_event) rows;
};

static int take_event(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    struct event_list *list = user;
    struct store_event *event = SHR_VEC_ADD(&list->rows);
    if (event == NULL) {
        return store__oom(SHR_ERR_NOMEM, err);
    }
    int code = 0;
    event->id = sqlite3_column_int64(row, 0);
    event->job_id = store_row_text(row, 1, &list->arena, &code);
    event->kind = store_row_text(row, 2, &list->arena, &code);
    event->data = store_row_text(row, 3, &list->arena, &code);
    event->time_us = sqlite3_column_int64(row, 4);
    return store__oom(code, err);
}

#define EVENT_QUERY                                                                                \
    "SELECT event.id, job.id, event.kind, event.data, event.time_us"                               \
    " FROM event JOIN job ON job.seq = event.job WHERE event.id > ?1 "

int store_event_list(struct store *store, const char *job_id, int64_t after, size_t limit,
                     struct store_events *ret, struct shr_err *err)
{
    struct event_list list = {0};
    store_db_lock(&store->reader);
    int code =
        store_db_query(&store->reader,
                       job_id == NULL ? EVENT_QUERY "ORDER BY event.id LIMIT ?2"
                                      : EVENT_QUERY "AND job = (SELECT seq FROM job WHERE id = ?3)"
                                                    " ORDER BY event.id LIMIT ?2",
                       job_id == NULL ? STORE_ARGS(STORE_INT(after), STORE_INT((int64_t)limit))
                                      : STORE_ARGS(STORE_INT(after), STORE_INT((int64_t)limit),
                                                   STORE_TEXT(job_id)),
                       take_event, &list, err);
    store_db_unlock(&store->reader);
    struct store_events events = {.arena = list.arena, .n = list.rows.n, .v = list.rows.v};
    if (code != 0) {
        store_events_finish(&events);
        return code;
    }
    *ret = events;
    return 0;
}

int store_event_last(struct store *store, int64_t *ret, struct shr_err *err)
{
    bool found; /* an aggregate has its row always */
    store_db_lock(&store->reader);
    int code = store_db_int(&store->reader, "SELECT coalesce(max(id), 0) FROM event", STORE_NO_ARGS,
                            ret, &found, err);
    store_db_unlock(&store->reader);
    return code;
}

void store_events_finish(struct store_events *events)
{
    if (events != NULL) {
        shr_mem_free(events->v);
        shr_arena_finish(&events->arena);
        *events = (struct store_events){0};
    }
}
