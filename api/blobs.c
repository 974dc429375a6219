/* Content answers and the routes that are nothing else; see blobs.h.
 *
 * Bytes go from the store to the socket block by block: no file, no copy of the whole, and no
 * statement held open between two blocks. The entity tag is the SHA-256, so it is strong. */
#include "blobs.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "handlers.h"
#include "problem.h"

struct content {
    char sha256[65];
    uint64_t first;
};

static long content_read(struct api_request *req, uint64_t offset, char *ret_bytes, size_t n)
{
    const struct content *content = req->state;
    struct shr_err err = {0};
    size_t got = 0;
    int rc =
        srv_blob_read(req->srv, content->sha256, content->first + offset, ret_bytes, n, &got, &err);
    if (rc != 0 || got == 0) {
        srv_log_request(req->id, 'e', "content of sha256:%s at %llu: %s", content->sha256,
                        (unsigned long long)(content->first + offset),
                        rc != 0 ? err.msg : "ends too early");
        return API_READ_ERROR;
    }
    return (long)got;
}

/* attachment; filename="…" with only harmless characters in the name */
static int disposition_add(struct api_request *req, const char *filename, struct shr_err *err)
{
    char name[sizeof((struct srv_blob *)NULL)->filename], value[sizeof name + 32];
    snprintf(name, sizeof name, "%s", filename[0] != 0 ? filename : "content");
    for (char *c = name; *c != 0; c++) {
        bool is_plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                        (*c >= '0' && *c <= '9') || strchr("._-", *c) != NULL;
        *c = is_plain ? *c : '_';
    }
    snprintf(value, sizeof value, "attachment; filename=\"%s\"", name);
    return api_reply_header(req, "Content-Disposition", value, err);
}

static int range_unsatisfiable(struct api_request *req, uint64_t size, struct shr_err *err)
{
    char value[48];
    snprintf(value, sizeof value, "bytes */%llu", (unsigned long long)size);
    int rc = api_reply_header(req, "Content-Range", value, err);
    return rc != 0 ? rc
                   : shr_err_set(err, API_ERR_RANGE, "Range: outside of the %llu bytes there are",
                                 (unsigned long long)size);
}

static int content_reply(struct api_request *req, int status, const struct srv_blob *blob,
                         uint64_t first, uint64_t n, struct shr_err *err)
{
    static const char type[] = "application/octet-stream";
    struct content *content = shr_arena_new(&req->arena, 1, sizeof *content);
    if (content == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    memcpy(content->sha256, blob->sha256, sizeof content->sha256);
    content->first = first;
    req->state = content; /* the arena's: nothing to free */
    int rc = disposition_add(req, blob->filename, err);
    if (rc == 0 && status == 206) {
        char value[80];
        snprintf(value, sizeof value, "bytes %llu-%llu/%llu", (unsigned long long)first,
                 (unsigned long long)(first + n - 1), (unsigned long long)blob->bytes);
        rc = api_reply_header(req, "Content-Range", value, err);
    }
    if (rc != 0) {
        return rc;
    }
    return n == 0 ? api_reply_static(req, status, type, "", 0, err)
                  : api_reply_read(req, status, type, n, content_read, err);
}

int api_blob_reply(struct api_request *req, const struct srv_blob *blob, struct shr_err *err)
{
    char etag[80];
    snprintf(etag, sizeof etag, "\"sha256:%s\"", blob->sha256);
    int rc = api_reply_header(req, "ETag", etag, err);
    if (rc == 0) {
        rc = api_reply_header(req, "Accept-Ranges", "bytes", err);
    }
    if (rc == 0) { /* a name may get other bytes, so each use asks again */
        rc = api_reply_header(req, "Cache-Control", "private, no-cache", err);
    }
    if (rc != 0) {
        return rc;
    }

    const char *none_match = api_request_header(req, "If-None-Match");
    if (none_match != NULL && api_etag_listed(none_match, etag)) {
        return api_reply_empty(req, 304);
    }
    const char *if_range = api_request_header(req, "If-Range");
    const char *range =
        if_range == NULL || strcmp(if_range, etag) == 0 ? api_request_header(req, "Range") : NULL;
    uint64_t first = 0, n = blob->bytes;
    switch (api_range_parse(range, blob->bytes, &first, &n)) {
    case API_RANGE_ONE:
        return content_reply(req, 206, blob, first, n, err);
    case API_RANGE_UNSATISFIABLE:
        return range_unsatisfiable(req, blob->bytes, err);
    default:
        return content_reply(req, 200, blob, 0, blob->bytes, err);
    }
}

int api_artifact_content(struct api_request *req, struct shr_err *err)
{
    int64_t step = -1; /* the last */
    struct srv_blob blob;
    int rc = req->segments[1] == NULL
                 ? 0
                 : api_int_parse(req->segments[1], "step", 0, INT64_MAX, &step, err);
    if (rc == 0) {
        rc = srv_artifact_blob(req->srv, req->segments[0], step, &blob, err);
    }
    return rc != 0 ? rc : api_blob_reply(req, &blob, err);
}

int api_blob_get(struct api_request *req, struct shr_err *err)
{
    const char *digest = req->segments[0];
    struct srv_blob blob;
    if (strncmp(digest, "sha256:", 7) != 0 || strlen(digest) != 7 + 64 ||
        strspn(digest + 7, "0123456789abcdef") != 64) {
        return shr_err_set(err, SHR_ERR_INVALID, "digest: '%.80s' is not sha256: and 64 hex digits",
                           digest);
    }
    int rc = srv_hash_blob(req->srv, digest + 7, &blob, err);
    return rc != 0 ? rc : api_blob_reply(req, &blob, err);
}
