/* GET /v1/passes: the pass table. Thread: http. */
#include "handlers.h"

int api_passes_get(struct api_request *req, struct shr_err *err)
{
    return api_reply_json(req, 200, srv_passes(), err);
}
