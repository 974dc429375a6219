/* Who may ask: bearer tokens, the Host allow-list and the Origin check.
 *
 * Tokens come from a file, one a line, '#' starts a comment. Without tokens only loopback and Unix
 * sockets are served, and there a web page could still reach us by DNS rebinding or a form, hence
 * Host and Origin. Immutable after init. Thread: any. */
#ifndef API_AUTH_H
#define API_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"

enum { API_TOKEN_MIN = 16, API_TOKEN_MAX = 512, API_TOKENS_MAX = 64 };

struct api_auth {
    struct shr_arena arena;
    const char *tokens[API_TOKENS_MAX];
    size_t n;
};

/* path "" or NULL = no tokens. INVALID: a token that is too short or no token at all; DENIED:
 * a file that everyone can read. */
int api_auth_init(struct api_auth *auth, const char *path, struct shr_err *err) SHR_MUSTCHECK;
void api_auth_finish(struct api_auth *auth);

/* header: the value of Authorization, or NULL. True when there are no tokens. */
bool api_auth_accepts(const struct api_auth *auth, const char *header);

/* Is the Host header's name loopback's or one of `names` (with blanks or commas between)? */
bool api_host_is_allowed(const char *host, const char *names);
/* Is the Origin the same place as the Host? Absent is yes: not a browser's cross-site request. */
bool api_origin_is_same(const char *origin, const char *host);

#endif
