/* Named items with versions; see items.h. */
#include "items.h"

#include "context.h"

enum { PAGE_DEFAULT = 50 };

static void upload_free(void *upload)
{
    srv_upload_free(upload);
}

int api_item_begin(struct api_request *req, enum srv_kind kind, struct shr_err *err)
{
    struct srv_upload *upload = NULL;
    int rc = srv_upload_new(req->srv, kind, req->segments[0], &upload, err);
    if (rc == 0) {
        req->state = upload;
        req->state_free = upload_free;
    }
    return rc;
}

int api_item_put(struct api_request *req, struct shr_err *err)
{
    json_t *summary = NULL;
    bool is_new = false;
    int rc = srv_upload_finish(req->state, &summary, &is_new, err);
    return rc != 0 ? rc : api_reply_json(req, is_new ? 201 : 200, summary, err);
}

int api_page_limit(const struct api_request *req, size_t *ret, struct shr_err *err)
{
    int64_t most = req->api->settings->page_limit,
            limit = most < PAGE_DEFAULT ? most : PAGE_DEFAULT;
    const char *text = api_query_find(&req->query, "limit");
    int rc = text == NULL ? 0 : api_int_parse(text, "limit", 1, most, &limit, err);
    if (rc == 0) {
        *ret = (size_t)limit;
    }
    return rc;
}

int api_item_list(struct api_request *req, enum srv_kind kind, struct shr_err *err)
{
    size_t limit;
    json_t *list = NULL;
    int rc = api_page_limit(req, &limit, err);
    if (rc == 0) {
        rc =
            srv_item_list(req->srv, kind, api_query_find(&req->query, "cursor"), limit, &list, err);
    }
    return rc != 0 ? rc : api_reply_json(req, 200, list, err);
}

int api_item_version(const struct api_request *req, int64_t *ret, struct shr_err *err)
{
    *ret = 0;
    return req->segments[1] == NULL
               ? 0
               : api_int_parse(req->segments[1], "version", 1, INT64_MAX, ret, err);
}

int api_item_get(struct api_request *req, enum srv_kind kind, struct shr_err *err)
{
    int64_t version;
    json_t *summary = NULL;
    int rc = api_item_version(req, &version, err);
    if (rc == 0) {
        rc = srv_item_get(req->srv, kind, req->segments[0], version, &summary, err);
    }
    return rc != 0 ? rc : api_reply_json(req, 200, summary, err);
}

int api_item_delete(struct api_request *req, enum srv_kind kind, struct shr_err *err)
{
    int64_t version;
    int rc = api_item_version(req, &version, err);
    if (rc == 0) {
        rc = srv_item_delete(req->srv, kind, req->segments[0], version, err);
    }
    return rc != 0 ? rc : api_reply_empty(req, 204);
}
