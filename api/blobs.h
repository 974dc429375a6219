/* Content answers: stored bytes with entity tag, ranges and a file name. Thread: http. */
#ifndef API_BLOBS_H
#define API_BLOBS_H

#include "http.h"

/* 200, 206, 304 or 416 by the request's Range, If-Range and If-None-Match. */
int api_blob_reply(struct api_request *req, const struct srv_blob *blob,
                   struct shr_err *err) SHR_MUSTCHECK;

#endif
