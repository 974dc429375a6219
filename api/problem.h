/* Problems (RFC 9457): the only map from error codes to HTTP.
 *
 * Codes of base/err.def come from the layers below; the API_ERR_ codes are HTTP's own and exist in
 * api/ only. Thread: any for the table, http for the reply. */
#ifndef API_PROBLEM_H
#define API_PROBLEM_H

#include <stddef.h>

#include "base/err.h"

struct api_request;

enum api_code {
    API_ERR_BAD_REQUEST = -101,
    API_ERR_UNAUTHORIZED = -102,
    API_ERR_METHOD = -103,
    API_ERR_NOT_ACCEPTABLE = -104,
    API_ERR_MEDIA_TYPE = -105,
    API_ERR_RANGE = -106,
    API_ERR_MISDIRECTED = -107,
    API_ERR_KEY_REUSED = -108,
    API_ERR_UNAVAILABLE = -109,
};

struct api_problem {
    int code, status;
    const char *name; /* NULL: the word of base/err.def, which jobs have as well */
    const char *title;
    int retry_after_s; /* 0 = no Retry-After */
};

extern const struct api_problem api_problems[];
extern const size_t api_problem_count;

const struct api_problem *api_problem_find(int code); /* the row of INTERNAL when unknown */
const char *api_problem_name(const struct api_problem *problem);

/* Makes err the reply of the request, in place of any other; headers that were added stay. */
void api_problem_reply(struct api_request *req, const struct shr_err *err);

#endif
