/* Router; see router.h. */
#include "router.h"

#include <string.h>

#include "problem.h"

enum { DEPTH_MAX = 8 }; /* deeper than any route */

struct path {
    const char *v[DEPTH_MAX]; /* decoded segments */
    size_t n;                 /* DEPTH_MAX + 1 when there are more */
};

static int path_split(struct shr_arena *arena, const char *text, struct path *ret,
                      struct shr_err *err)
{
    ret->n = 0;
    while (*text == '/' && ret->n <= DEPTH_MAX) {
        size_t n = strcspn(++text, "/");
        if (ret->n < DEPTH_MAX) {
            int rc = api_percent_decode(arena, text, n, false, "path", &ret->v[ret->n], err);
            if (rc != 0) {
                return rc;
            }
        }
        ret->n++;
        text += n;
    }
    return 0;
}

static bool path_matches(const struct path *path, const char *pattern, const char **ret_segments)
{
    size_t used = 0, i = 0;
    for (; *pattern == '/' && i < path->n; i++) {
        size_t n = strcspn(++pattern, "/");
        if (*pattern == '{' && path->v[i][0] != 0) {
            ret_segments[used++] = path->v[i];
        } else if (strlen(path->v[i]) != n || memcmp(path->v[i], pattern, n) != 0) {
            return false;
        }
        pattern += n;
    }
    return *pattern == 0 && i == path->n;
}

int api_router_find(const struct api_route *routes, size_t n, struct shr_arena *arena,
                    const char *method, const char *text, struct api_match *ret,
                    struct shr_err *err)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    struct api_match match = {0};
    struct path path;
    int rc = path_split(arena, text, &path, err);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; path.n <= DEPTH_MAX && i < n; i++) {
        if (!path_matches(&path, routes[i].path, match.segments)) {
            continue;
        }
        if (strcmp(routes[i].method, wanted) == 0) {
            match.route = &routes[i];
            *ret = match;
            return 0;
        }
        match.allow = shr_arena_printf(arena, "%s%s%s%s", match.allow == NULL ? "" : match.allow,
                                       match.allow == NULL ? "" : ", ", routes[i].method,
                                       strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "");
        if (match.allow == NULL) {
            return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
        }
    }
    if (match.allow == NULL) {
        return shr_err_set(err, SHR_ERR_NOT_FOUND, "there is no such path");
    }
    ret->allow = match.allow;
    return shr_err_set(err, API_ERR_METHOD, "this path takes %s", match.allow);
}
