/* What models and datasets share: named items with versions, lists by page, uploads. Thread: http.
 */
#ifndef API_ITEMS_H
#define API_ITEMS_H

#include "http.h"

/* Begins the upload of item {name}; req->state is the struct srv_upload. */
int api_item_begin(struct api_request *req, enum srv_kind kind, struct shr_err *err) SHR_MUSTCHECK;
int api_item_put(struct api_request *req, struct shr_err *err) SHR_MUSTCHECK;
int api_item_list(struct api_request *req, enum srv_kind kind, struct shr_err *err) SHR_MUSTCHECK;
/* {name} and perhaps {n}, the version. */
int api_item_get(struct api_request *req, enum srv_kind kind, struct shr_err *err) SHR_MUSTCHECK;
int api_item_delete(struct api_request *req, enum srv_kind kind, struct shr_err *err) SHR_MUSTCHECK;

/* The second segment as a version; 0, the newest, when the path has none. */
int api_item_version(const struct api_request *req, int64_t *ret,
                     struct shr_err *err) SHR_MUSTCHECK;
/* ?limit=, within the settings' page_limit. */
int api_page_limit(const struct api_request *req, size_t *ret, struct shr_err *err) SHR_MUSTCHECK;

#endif
