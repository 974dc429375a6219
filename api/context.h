/* struct api: all that the HTTP side keeps between requests.
 *
 * Made by api_start, immutable after it except for the parts with a lock or atomics of their own.
 * Thread: any. */
#ifndef API_CONTEXT_H
#define API_CONTEXT_H

#include <stdatomic.h>

#include "auth.h"
#include "http.h"
#include "listen.h"
#include "reaper.h"
#include "waiters.h"

struct api {
    struct srv *srv;
    const struct srv_http_settings *settings;
    void *daemon; /* the HTTP library's */
    struct api_listener listener;
    struct api_auth auth;
    struct api_waiters waiters;
    struct api_reaper reaper;
    atomic_bool is_stopping;
    /* answers by route (the last row: no route) and hundred of the status; 0 = cut */
    _Atomic uint64_t (*answers)[6];
};

#endif
