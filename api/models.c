/* /v1/models: upload, summaries, content. The body of PUT is the ONNX file as it is. Thread: http.
 */
#include "blobs.h"
#include "handlers.h"
#include "items.h"

int api_model_begin(struct api_request *req, struct shr_err *err)
{
    int rc = api_item_begin(req, SRV_MODEL, err);
    return rc != 0 ? rc : srv_upload_part(req->state, "model", err);
}

int api_model_chunk(struct api_request *req, const struct api_chunk *chunk, struct shr_err *err)
{
    return srv_upload_append(req->state, chunk->bytes, chunk->n, err);
}

int api_model_put(struct api_request *req, struct shr_err *err)
{
    return api_item_put(req, err);
}

int api_model_list(struct api_request *req, struct shr_err *err)
{
    return api_item_list(req, SRV_MODEL, err);
}

int api_model_get(struct api_request *req, struct shr_err *err)
{
    return api_item_get(req, SRV_MODEL, err);
}

int api_model_delete(struct api_request *req, struct shr_err *err)
{
    return api_item_delete(req, SRV_MODEL, err);
}

int api_model_content(struct api_request *req, struct shr_err *err)
{
    int64_t version;
    struct srv_blob blob;
    int rc = api_item_version(req, &version, err);
    if (rc == 0) {
        rc = srv_model_blob(req->srv, req->segments[0], version, &blob, err);
    }
    return rc != 0 ? rc : api_blob_reply(req, &blob, err);
}
