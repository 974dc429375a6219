/* Router: from method and path to a row of the routes table.
 *
 * A path matches segment by segment; {name} takes any segment that is not empty, decoded. HEAD
 * finds the row of GET. Thread: any. */
#ifndef API_ROUTER_H
#define API_ROUTER_H

#include "base/arena.h"
#include "http.h"

struct api_match {
    const struct api_route *route;
    const char *segments[API_SEGMENT_MAX];
    const char *allow; /* on API_ERR_METHOD: the methods that the path has */
};

/* NOT_FOUND: no such path. API_ERR_METHOD: not with this method. INVALID: a broken escape. */
int api_router_find(const struct api_route *routes, size_t n, struct shr_arena *arena,
                    const char *method, const char *path, struct api_match *ret,
                    struct shr_err *err) SHR_MUSTCHECK;

#endif
