/* /v1/datasets: upload and summaries.
 *
 * A raw body is an .npz or .npy file, told by its first bytes; a multipart body has the fields
 * `images` and `labels`, idx or idx.gz. Options of reading are query parameters. Thread: http. */
#include <string.h>

#include "base/mem.h"
#include "handlers.h"
#include "items.h"

enum { MAGIC_SIZE = 6 };

int api_dataset_begin(struct api_request *req, struct shr_err *err)
{
    int rc = api_item_begin(req, SRV_DATASET, err);
    for (size_t i = 0; rc == 0 && i < req->query.n; i++) {
        rc = srv_upload_option(req->state, req->query.v[i].name, req->query.v[i].value, err);
    }
    return rc;
}

static int raw_part_begin(struct api_request *req, struct shr_err *err)
{
    const unsigned char *magic = req->body.data;
    if (memcmp(magic, "PK\3\4", 4) == 0 || memcmp(magic, "PK\5\6", 4) == 0) {
        return srv_upload_part(req->state, "npz", err);
    }
    if (memcmp(magic, "\x93NUMPY", MAGIC_SIZE) == 0) {
        return srv_upload_part(req->state, "npy", err);
    }
    return shr_err_set(
        err, SHR_ERR_PARSE,
        "body: neither .npz nor .npy (byte 0 is 0x%02x); idx files come as multipart "
        "fields images and labels",
        magic[0]);
}

/* The first bytes are held back in req->body until they tell what the file is. */
static int raw_append(struct api_request *req, const unsigned char *bytes, size_t n,
                      struct shr_err *err)
{
    if (req->body.len < MAGIC_SIZE) {
        size_t wanted = MAGIC_SIZE - req->body.len, taken = n < wanted ? n : wanted;
        shr_buf_append(&req->body, bytes, taken);
        if (shr_buf_failed(&req->body)) {
            return shr_err_set(err, SHR_ERR_NOMEM, "body: out of memory");
        }
        if (req->body.len < MAGIC_SIZE) {
            return 0;
        }
        bytes += taken;
        n -= taken;
        int rc = raw_part_begin(req, err);
        if (rc == 0) {
            rc = srv_upload_append(req->state, req->body.data, MAGIC_SIZE, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return n == 0 ? 0 : srv_upload_append(req->state, bytes, n, err);
}

int api_dataset_chunk(struct api_request *req, const struct api_chunk *chunk, struct shr_err *err)
{
    if (chunk->part == NULL) {
        return raw_append(req, chunk->bytes, chunk->n, err);
    }
    int rc = 0;
    if (chunk->is_first) {
        if (strcmp(chunk->part, "images") != 0 && strcmp(chunk->part, "labels") != 0) {
            return shr_err_set(err, SHR_ERR_INVALID, "%s: the fields are images and labels",
                               chunk->part);
        }
        rc = srv_upload_part(req->state, chunk->part, err);
    }
    return rc != 0 ? rc : srv_upload_append(req->state, chunk->bytes, chunk->n, err);
}

int api_dataset_put(struct api_request *req, struct shr_err *err)
{
    if (req->body_bytes < MAGIC_SIZE) {
        return shr_err_set(err, SHR_ERR_PARSE, "body: %llu bytes are not a dataset",
                           (unsigned long long)req->body_bytes);
    }
    return api_item_put(req, err);
}

int api_dataset_list(struct api_request *req, struct shr_err *err)
{
    return api_item_list(req, SRV_DATASET, err);
}

int api_dataset_get(struct api_request *req, struct shr_err *err)
{
    return api_item_get(req, SRV_DATASET, err);
}

int api_dataset_delete(struct api_request *req, struct shr_err *err)
{
    return api_item_delete(req, SRV_DATASET, err);
}
